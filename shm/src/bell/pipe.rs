//! What wakes one who waits in a reactor and has a name instead of a socket: a pipe that peers find by its address.

use alloc::format;
use alloc::vec::Vec;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};

use super::BellError;
use crate::own_fd::through_path;

/// What tells a pipe of ours from others: see [`require_mark`].
const MARK: OFlags = OFlags::DIRECT.union(OFlags::NONBLOCK);

/// A pipe that becomes readable when somebody rings: for `poll`, `epoll` and async runtimes.
///
/// One per waiting end; peers find it by its [address](Self::address), which an [entry of a
/// roster](super::Attendance::set_event) carries. Nothing is left of it when its process is gone.
///
/// ```
/// use tidewire_shm::bell::EventPipe;
///
/// let pipe = EventPipe::new()?;
/// assert!(!pipe.drain()?);
/// # Ok::<(), tidewire_shm::bell::BellError>(())
/// ```
#[derive(Debug)]
pub struct EventPipe {
    readable: OwnedFd,
    /// Kept so that the pipe never ends.
    _writable: OwnedFd,
    address: EventAddress,
}

/// Where the pipe of a process is found by other processes of the same user and PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventAddress {
    pid: u32,
    fd: u32,
    inode: u64,
}

impl EventAddress {
    /// The address as two words.
    #[must_use]
    pub fn to_words(self) -> [u64; 2] {
        [u64::from(self.pid) | u64::from(self.fd) << 32, self.inode]
    }

    /// The address that two words say; none if both are zero.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each takes its half")]
    pub fn from_words([low, inode]: [u64; 2]) -> Option<Self> {
        (low != 0 || inode != 0).then_some(Self { pid: low as u32, fd: (low >> 32) as u32, inode })
    }

    /// The process that it names.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Opens the pipe for ringing, if it is one that was made for that: an address may lie, and lead to a pipe of a process
    /// that has nothing to do with this, into which a ring would write eight bytes.
    pub(super) fn open(self) -> Result<OwnedFd, BellError> {
        let Self { pid, fd, inode } = self;
        // For nothing but to be known: to open what the peer puts there meanwhile could do anything.
        let there = open(&format!("/proc/{pid}/fd/{fd}"), OFlags::PATH).map_err(on("find a pipe"))?;
        let link = |path: &str| retry_on_intr(|| readlinkat(CWD, path, Vec::new()));
        let link = through_path(there.as_raw_fd(), link).map_err(on("look at a pipe"))?;
        if link.to_bytes() != format!("pipe:[{inode}]").as_bytes() {
            return Err(BellError::NotAnEventfd);
        }
        require_mark(self)?;
        // For reading, too: so it has a reader as long as we have it, and writing raises no signal.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        through_path(there.as_raw_fd(), |path| open(path, flags)).map_err(on("open a pipe"))
    }
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()))
}

/// Whether the descriptor at an address is one of a pipe that was made by [`EventPipe::new`]: in packets. No program makes
/// such by chance, and it is a property of the descriptor there, which those who open it anew cannot change.
fn require_mark(address: EventAddress) -> Result<(), BellError> {
    let EventAddress { pid, fd, inode } = address;
    let path = format!("/proc/{pid}/fdinfo/{fd}");
    let text = std::fs::read_to_string(path)
        .map_err(|error| on("look at a pipe")(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let flags = field("flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok()).unwrap_or(0);
    // Kernels before 5.14 do not say which inode: there a peer can show one pipe of its own and have another one rung.
    let is_this = field("ino:").is_none_or(|found| found.parse() == Ok(inode));
    let marked = MARK.bits();
    if is_this && flags & marked == marked { Ok(()) } else { Err(BellError::NotAnEventfd) }
}

impl EventPipe {
    /// A pipe that nobody rang.
    ///
    /// # Errors
    /// [`BellError::System`] if there are no more descriptors.
    pub fn new() -> Result<Self, BellError> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK | PipeFlags::DIRECT;
        let (readable, writable) = pipe_with(flags).map_err(on("create a pipe"))?;
        let stat = fstat(&writable).map_err(on("inspect a pipe"))?;
        let fd = writable.as_raw_fd().unsigned_abs();
        let address = EventAddress { pid: std::process::id(), fd, inode: stat.st_ino };
        Ok(Self { readable, _writable: writable, address })
    }

    /// Where peers find it.
    #[must_use]
    pub fn address(&self) -> EventAddress {
        self.address
    }

    /// Takes away that it is readable; whether it was.
    ///
    /// # Errors
    /// [`BellError::System`] if the system refuses.
    pub fn drain(&self) -> Result<bool, BellError> {
        let mut rung = false;
        let mut bytes = [0_u8; 512];
        // Bounded: a peer may keep ringing.
        for _ in 0..256 {
            match retry_on_intr(|| read(&self.readable, &mut bytes)) {
                Ok(0) => break,
                Ok(n) => {
                    rung = true;
                    if n < bytes.len() {
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(on("read a pipe")(errno)),
            }
        }
        Ok(rung)
    }
}

impl AsFd for EventPipe {
    /// Readable when somebody rang.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

fn on(operation: &'static str) -> impl FnOnce(Errno) -> BellError {
    move |errno| BellError::System { operation, errno: errno.raw_os_error() }
}

#[cfg(test)]
mod tests {
    use super::{BellError, EventAddress, EventPipe, PipeFlags, fstat, pipe_with};
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn only_pipes_that_were_made_for_it_are_opened() {
        let pipe = EventPipe::new().unwrap();
        let rung = pipe.address().open().unwrap();
        assert_eq!(rustix::io::write(&rung, &[1; 8]).unwrap(), 8);
        assert!(pipe.drain().unwrap());
        assert!(!pipe.drain().unwrap());
        for flags in [PipeFlags::CLOEXEC, PipeFlags::CLOEXEC | PipeFlags::NONBLOCK] {
            let (_readable, writable) = pipe_with(flags).unwrap();
            let inode = fstat(&writable).unwrap().st_ino;
            let fd = writable.as_fd().as_raw_fd().unsigned_abs();
            let other = EventAddress { pid: std::process::id(), fd, inode };
            assert!(matches!(other.open(), Err(BellError::NotAnEventfd)), "{flags:?}");
        }
    }
}
