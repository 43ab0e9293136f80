//! What wakes one who waits in a reactor and has a name instead of a socket: a pipe that peers find by its address.

use alloc::format;
use alloc::vec::Vec;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};

use super::BellError;

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

    /// Opens the pipe for ringing.
    ///
    /// An address that lies can lead to another pipe of the process that it names, if this process may open that: then
    /// eight bytes are written there. Whoever does not trust its peers this far, as with memory that was handed over by
    /// another user, must not open addresses that they wrote.
    pub(super) fn open(self) -> Result<OwnedFd, BellError> {
        let Self { pid, fd, inode } = self;
        let path = format!("/proc/{pid}/fd/{fd}");
        let link = retry_on_intr(|| readlinkat(CWD, &path, Vec::new())).map_err(on("find a pipe"))?;
        if link.to_bytes() != format!("pipe:[{inode}]").as_bytes() {
            return Err(BellError::NotAnEventfd);
        }
        // For reading, too: so it has a reader as long as we have it, and writing raises no signal.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let found = retry_on_intr(|| openat(CWD, &path, flags, Mode::empty())).map_err(on("open a pipe"))?;
        let stat = fstat(&found).map_err(on("inspect a pipe"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo || stat.st_ino != inode {
            return Err(BellError::NotAnEventfd);
        }
        Ok(found)
    }
}

impl EventPipe {
    /// A pipe that nobody rang.
    ///
    /// # Errors
    /// [`BellError::System`] if there are no more descriptors.
    pub fn new() -> Result<Self, BellError> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
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
