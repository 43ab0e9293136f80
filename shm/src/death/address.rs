//! Where a notice can be found by those who are sent no descriptors.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::watch::wrong;
use super::{DeathError, DeathNotice, DeathWatch};
use crate::own_fd::through_path;

/// What the link of a descriptor of a notice says, whoever made it.
const LINK: &str = "/memfd:tidewire-notice (deleted)";

/// Where the notice of a process is found by other processes of the same user and PID namespace: two words, to be
/// written where peers can read them.
///
/// For structures that have a name and no socket. Where a descriptor can be sent, send it: that works across users
/// and namespaces, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeAddress {
    pub(super) pid: u32,
    pub(super) fd: u32,
    pub(super) inode: u64,
}

impl NoticeAddress {
    /// The address as two words: process id, and in the upper half the descriptor's number; inode.
    #[must_use]
    pub fn to_words(self) -> [u64; 2] {
        [u64::from(self.pid) | u64::from(self.fd) << 32, self.inode]
    }

    /// The address that two words say. Any words will do: what is found there is [looked at](DeathWatch::find).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each takes its half")]
    pub fn from_words([low, inode]: [u64; 2]) -> Self {
        Self { pid: low as u32, fd: (low >> 32) as u32, inode }
    }
}

impl fmt::Display for NoticeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptor {} of process {}", self.fd, self.pid)
    }
}

impl DeathNotice {
    /// Where peers that are sent no descriptor find this notice.
    ///
    /// # Errors
    /// [`DeathError::System`] if the system refuses to tell.
    pub fn address(&self) -> Result<NoticeAddress, DeathError> {
        let stat = fstat(self.fd()).map_err(DeathError::on("inspect a death notice"))?;
        let fd = self.fd().as_raw_fd().unsigned_abs();
        Ok(NoticeAddress { pid: std::process::id(), fd, inode: stat.st_ino })
    }
}

impl DeathWatch {
    /// Maps the notice at an address that a peer wrote somewhere.
    ///
    /// Nothing of what the address names is touched before its link was seen to name the memory of a notice, nor opened
    /// before it was seen to be a file with that inode, and nothing is mapped that is not sealed as a notice is: an
    /// address that lies does no harm.
    ///
    /// # Errors
    /// [`DeathError::System`] if there is no such process any more, or none that this one may look into;
    /// [`DeathError::NotANotice`] if something else is found. Either may mean that the peer is dead: ask its lease.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{DeathNotice, DeathWatch, NoticeAddress};
    ///
    /// let words = DeathNotice::own()?.address()?.to_words();
    /// // In a peer:
    /// let watch = DeathWatch::find(NoticeAddress::from_words(words))?;
    /// assert!(!watch.is_dead_hint());
    /// # Ok::<(), tidewire_shm::DeathError>(())
    /// ```
    pub fn find(address: NoticeAddress) -> Result<Self, DeathError> {
        let found = look(address)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        Self::new(through_path(found.as_raw_fd(), |path| open(path, flags)).map_err(on_open())?)
    }
}

/// What the address names, opened for nothing but to be known, if it can be a notice.
pub(super) fn look(address: NoticeAddress) -> Result<OwnedFd, DeathError> {
    let NoticeAddress { pid, fd, inode } = address;
    let path = format!("/proc/{pid}/fd/{fd}");
    let link = retry_on_intr(|| readlinkat(CWD, &path, Vec::new())).map_err(on_open())?;
    if link.to_bytes() != LINK.as_bytes() {
        return Err(wrong("name", LINK.to_string(), link.to_string_lossy().into_owned()));
    }
    let found = open(&path, OFlags::PATH).map_err(on_open())?;
    let stat = fstat(&found).map_err(DeathError::on("inspect a death notice"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_ino != inode {
        return Err(wrong("inode", format!("{inode}"), format!("{}", stat.st_ino)));
    }
    Ok(found)
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    retry_on_intr(|| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()))
}

fn on_open() -> impl FnOnce(Errno) -> DeathError {
    DeathError::on("open the death notice of a peer")
}
