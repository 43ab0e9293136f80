//! Who watches descriptors for the tasks that wait: the one thread of this crate, or the reactor of a runtime.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Poll, Waker};

use crate::reactor::Registration;

/// Whose reactor that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Host {
    /// The thread of this crate: it knows all runtimes, since it only wakes.
    #[default]
    Own,
    #[cfg(feature = "tokio")]
    Tokio,
    #[cfg(feature = "smol")]
    Smol,
}

thread_local! {
    /// That of the future which this thread polls now.
    static CURRENT: Cell<Host> = const { Cell::new(Host::Own) };
}

/// Restores the former one, also when a poll panics.
#[cfg(any(feature = "tokio", feature = "smol"))]
struct Former(Host);

#[cfg(any(feature = "tokio", feature = "smol"))]
impl Drop for Former {
    fn drop(&mut self) {
        let _over = CURRENT.try_with(|current| current.set(self.0));
    }
}

impl Host {
    /// What is polled in there registers its descriptors with this host, if it has to wait.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(crate) fn polling<R>(self, poll: impl FnOnce() -> R) -> R {
        let _former = CURRENT.try_with(|current| Former(current.replace(self)));
        poll()
    }

    /// That of the future which is polled.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(Cell::get).unwrap_or_default()
    }
}

/// A descriptor that wakes a task when it can be read.
#[derive(Debug)]
pub(crate) enum Watched {
    Own(Registration),
    #[cfg(feature = "tokio")]
    Tokio(::tokio::io::unix::AsyncFd<OwnedFd>),
    #[cfg(feature = "smol")]
    Smol(async_io::Async<OwnedFd>),
}

impl Watched {
    /// Registers it with the host of the future that is polled; with our own thread, if that is not there any more.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        match Host::current() {
            Host::Own => Registration::new(fd).map(Self::Own),
            #[cfg(feature = "tokio")]
            Host::Tokio => match registered_with_tokio(fd.try_clone()?) {
                Ok(watched) => Ok(Self::Tokio(watched)),
                Err(_) => Registration::new(fd).map(Self::Own),
            },
            #[cfg(feature = "smol")]
            Host::Smol => async_io::Async::new_nonblocking(fd).map(Self::Smol),
        }
    }

    /// Whether it was registered for a future of this host.
    pub(crate) fn is_of(&self, host: Host) -> bool {
        match self {
            // Also in the place of one that was not there.
            Self::Own(_) => host == Host::Own || !host.is_there(),
            #[cfg(feature = "tokio")]
            Self::Tokio(_) => host == Host::Tokio,
            #[cfg(feature = "smol")]
            Self::Smol(_) => host == Host::Smol,
        }
    }

    /// Pending: the task is woken when it can be read. Ready: it can, or could before it was [drained](Self::drained).
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<io::Result<()>> {
        match self {
            Self::Own(registration) => match registration.arm(waker) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            #[cfg(feature = "tokio")]
            Self::Tokio(fd) => fd.poll_read_ready(&mut std::task::Context::from_waker(waker)).map_ok(drop),
            #[cfg(feature = "smol")]
            Self::Smol(fd) => fd.poll_readable(&mut std::task::Context::from_waker(waker)),
        }
    }

    /// To be said before everything is read from it: what comes from now on is news.
    pub(crate) fn drained(&self) {
        match self {
            // They ask the system each time.
            Self::Own(_) => {}
            #[cfg(feature = "smol")]
            Self::Smol(_) => {}
            #[cfg(feature = "tokio")]
            Self::Tokio(fd) => {
                let nothing: fn(&OwnedFd) -> io::Result<()> = |_| Err(io::ErrorKind::WouldBlock.into());
                let _forgotten = fd.try_io(::tokio::io::Interest::READABLE, nothing);
            }
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(registration) => registration.as_fd(),
            #[cfg(feature = "tokio")]
            Self::Tokio(fd) => fd.get_ref().as_fd(),
            #[cfg(feature = "smol")]
            Self::Smol(fd) => fd.get_ref().as_fd(),
        }
    }
}

impl Host {
    /// Whether its reactor can be found from here.
    fn is_there(self) -> bool {
        match self {
            Self::Own => true,
            #[cfg(feature = "tokio")]
            Self::Tokio => ::tokio::runtime::Handle::try_current().is_ok(),
            #[cfg(feature = "smol")]
            Self::Smol => true,
        }
    }
}

/// With the runtime that polls; an error if there is none.
#[cfg(feature = "tokio")]
fn registered_with_tokio(fd: OwnedFd) -> io::Result<::tokio::io::unix::AsyncFd<OwnedFd>> {
    if !Host::Tokio.is_there() {
        return Err(io::Error::other("expected a runtime of tokio's, found none"));
    }
    #[allow(
        deprecated,
        reason = "what its successor asks for is that the descriptor stays what it is, and an owned one does"
    )]
    ::tokio::io::unix::AsyncFd::with_interest(fd, ::tokio::io::Interest::READABLE)
}
