//! Ends that wait for descriptors: in a [`Select`](crate::Select), in a reactor of the user's, or as futures.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Waker;
use std::time::{Duration, Instant};

use tidewire_shm::bell::{Armed, Attendance, EventPipe, System};
use tidewire_shm::{DeathWatch, NoticeAddress, Untrusted};

use crate::reactor::{Alarm, Registration};

/// How long to wait at the most where the death of a peer makes no descriptor readable.
pub(crate) const UNWATCHED: Duration = Duration::from_millis(10);

/// How long a future waits at the most for a ring that cannot reach it: that of a peer which may not look into this
/// process, or has no descriptors left.
pub(crate) const UNRUNG: Duration = Duration::from_millis(250);

/// What makes an end's wait visible to descriptors; made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pipe: Option<EventPipe>,
    registration: Option<Registration>,
    alarm: Option<Alarm>,
    armed: bool,
}

impl Events {
    /// Announces a wait, and looks again.
    pub(crate) fn arm(
        &mut self,
        own: &mut Attendance<System, Untrusted>,
        ready: impl FnOnce() -> bool,
    ) -> io::Result<Armed> {
        if self.pipe.is_none() {
            let pipe = EventPipe::new().map_err(io::Error::other)?;
            own.set_event(pipe.address());
            self.pipe = Some(pipe);
        }
        let armed = own.arm(ready);
        self.armed = armed == Armed::Armed;
        Ok(armed)
    }

    /// Ends the wait.
    pub(crate) fn disarm(&mut self, own: &mut Attendance<System, Untrusted>) {
        if !self.armed {
            return;
        }
        self.armed = false;
        self.alarm = None;
        own.disarm();
        if let Some(pipe) = &self.pipe {
            // What is left there makes the next wait end at once, once.
            let _drained = pipe.drain();
        }
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// What is readable when somebody rang.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Has the task woken when somebody rings.
    pub(crate) fn register(&mut self, waker: &Waker) -> io::Result<()> {
        if self.registration.is_none() {
            let Some(fd) = self.fd() else { return Err(io::ErrorKind::NotConnected.into()) };
            self.registration = Some(Registration::new(fd.try_clone_to_owned()?)?);
        }
        self.registration.as_ref().map_or(Ok(()), |registration| registration.arm(waker))
    }

    /// Has the task woken at a moment, too.
    pub(crate) fn wake_at(&mut self, at: Instant, waker: &Waker) -> io::Result<()> {
        self.alarm = Some(Alarm::set(at, waker)?);
        Ok(())
    }
}

/// What is readable when a peer's process ends.
#[derive(Debug, Default)]
pub(crate) enum Ending {
    #[default]
    Unasked,
    /// It cannot be had: ask for the lease now and then.
    Unknown,
    Process(OwnedFd),
    Registered(Registration),
}

impl Ending {
    /// Asks for it, once.
    pub(crate) fn find(&mut self, watch: Option<&DeathWatch>, notice: [u64; 2]) {
        if matches!(self, Self::Unasked) {
            let found = watch.and_then(|watch| watch.pidfd(NoticeAddress::from_words(notice)).ok());
            *self = found.map_or(Self::Unknown, Self::Process);
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Process(fd) => Some(fd.as_fd()),
            Self::Registered(registration) => Some(registration.as_fd()),
            Self::Unasked | Self::Unknown => None,
        }
    }

    /// Has the task woken at that end; whether it will be.
    pub(crate) fn register(&mut self, waker: &Waker) -> bool {
        if matches!(self, Self::Process(_))
            && let Self::Process(fd) = std::mem::take(self)
        {
            *self = Registration::new(fd).map_or(Self::Unknown, Self::Registered);
        }
        matches!(self, Self::Registered(registration) if registration.arm(waker).is_ok())
    }
}
