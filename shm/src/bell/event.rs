//! The waiter's end for reactors: an eventfd in place of the futex.

use alloc::vec::Vec;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{CWD, OFlags, fcntl_getfl, fcntl_setfl, readlinkat};
use rustix::io::{Errno, read, retry_on_intr, write};

use super::kernel::Kernel;
use super::sleeper::BellFlag;
use super::wait::Flag;
use super::{BellError, BellMode, Copied, ON_EVENTFD, System};
use crate::own_fd::through_path;
use crate::sync::{AtomicU32, Shared, full_fence};

/// Whether a reactor may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "who is ready must not wait"]
pub enum Armed {
    /// Wait: whatever is published from now on makes the eventfd readable.
    Armed,
    /// Do not: there is something to do already.
    Ready,
}

/// The end of one who waits in a reactor (epoll, or an async runtime) for a [bell](super::Bell): in place of a
/// [`Sleeper`](super::Sleeper), not beside one.
///
/// # Protocol
/// Register the [descriptor](Self::as_fd) for reading, edge-triggered; give every ringer a
/// [duplicate](Self::try_clone_fd). Then, again and again: do what there is to do; [`arm`](Self::arm); if it says
/// [`Armed`](Armed::Armed), wait for the descriptor; [`disarm`](Self::disarm). With edges nothing needs to be read;
/// with levels, [`drain`](Self::drain) after each wait.
///
/// # Not guaranteed
/// A ringer that dies between its publication and its ring wakes nobody; the next ring of any other does. Where there
/// may be no other, wait with a timeout of a [slice](super::DEFAULT_SLICE), or for the peer's death, too.
#[derive(Debug)]
pub struct EventBell {
    flag: BellFlag,
    mode: BellMode,
    fd: OwnedFd,
    copied: Copied,
}

impl EventBell {
    pub(super) fn new(flag: Shared<AtomicU32>, mode: BellMode) -> Result<Self, BellError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = eventfd(0, flags).map_err(on("create an eventfd"))?;
        Ok(Self { flag: BellFlag::new(flag, None, ON_EVENTFD), mode, fd, copied: Copied::here() })
    }

    /// Announces the wait, and looks again.
    pub fn arm(&mut self, ready: impl FnOnce() -> bool) -> Armed {
        self.flag.raise();
        match self.mode {
            // ORD bell.meet: SeqCst <-> `Ringer::ring`; the flag is up before the look.
            BellMode::Fence => full_fence(),
            BellMode::Membarrier => {
                if !System.barrier() {
                    // It was granted when this end was made. Without it nobody can promise a wake: do not wait.
                    full_fence();
                    self.flag.lower();
                    return Armed::Ready;
                }
            }
        }
        if ready() {
            self.flag.lower();
            return Armed::Ready;
        }
        Armed::Armed
    }

    /// Ends the wait: from here on rings are free of system calls again. Look for work after it.
    pub fn disarm(&mut self) {
        self.flag.lower();
    }

    /// Takes away that the eventfd is readable; returns the number of rings that made it so.
    ///
    /// # Errors
    /// [`BellError::System`] if the system refuses.
    pub fn drain(&mut self) -> Result<u64, BellError> {
        let mut count = [0; 8];
        match retry_on_intr(|| read(&self.fd, &mut count)) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(on("read an eventfd")(errno)),
        }
    }

    /// A second descriptor of the eventfd, for a ringer.
    ///
    /// # Errors
    /// [`BellError::System`] if there are no more descriptors.
    pub fn try_clone_fd(&self) -> Result<OwnedFd, BellError> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(on("duplicate an eventfd"))
    }
}

impl AsFd for EventBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for EventBell {
    fn drop(&mut self) {
        // In a fork child the flag is the parent's.
        if !self.copied.is_in_fork_child() {
            self.flag.lower();
        }
    }
}

fn on(operation: &'static str) -> impl FnOnce(Errno) -> BellError {
    move |errno| BellError::System { operation, errno: errno.raw_os_error() }
}

/// Makes an eventfd readable. Full means readable, too.
pub(super) fn signal(eventfd: &OwnedFd) -> bool {
    matches!(retry_on_intr(|| write(eventfd, &1_u64.to_ne_bytes())), Ok(_) | Err(Errno::AGAIN))
}

/// Whether a descriptor is an eventfd; makes it non-blocking.
pub(super) fn verify(fd: &OwnedFd) -> Result<(), BellError> {
    let link = through_path(fd.as_raw_fd(), |path| readlinkat(CWD, path, Vec::new()))
        .map_err(on("inspect an eventfd"))?;
    if link.to_bytes() != b"anon_inode:[eventfd]" {
        return Err(BellError::NotAnEventfd);
    }
    let flags = fcntl_getfl(fd).map_err(on("inspect an eventfd"))?;
    fcntl_setfl(fd, flags | OFlags::NONBLOCK).map_err(on("make an eventfd non-blocking"))
}
