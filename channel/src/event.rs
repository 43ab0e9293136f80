//! Ends that wait for descriptors: in a [`Select`](crate::Select), in a reactor of the user's, or as futures.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tidewire_shm::bell::{Armed, Attendance, EventPipe, System};
use tidewire_shm::{DeathWatch, NoticeAddress, Untrusted};

use crate::host::{Host, Watched};
use crate::reactor::Alarm;

/// How long to wait at the most where the death of a peer makes no descriptor readable.
pub(crate) const UNWATCHED: Duration = Duration::from_millis(10);

/// How long a future waits at the most for a ring that cannot reach it: that of a peer which may not look into this
/// process, or has no descriptors left.
pub(crate) const UNRUNG: Duration = Duration::from_millis(250);

/// What makes an end's wait visible to descriptors; made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pipe: Option<EventPipe>,
    watched: Option<Watched>,
    alarm: Option<Alarm>,
    armed: bool,
    /// Whether a wait was announced since the pipe was drained.
    announced: bool,
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
        self.drain();
        let armed = own.arm(ready);
        self.armed = armed == Armed::Armed;
        self.announced = true;
        Ok(armed)
    }

    /// Ends the wait. What was rung is taken from the pipe before the next one: whoever is woken now has no time for that.
    pub(crate) fn disarm(&mut self, own: &mut Attendance<System, Untrusted>) {
        if !self.armed {
            return;
        }
        self.armed = false;
        own.disarm();
    }

    /// Takes what was rung for waits that are over. What is left makes the next one end at once, once.
    fn drain(&mut self) {
        if !self.announced {
            return;
        }
        self.announced = false;
        if let Some(watched) = &self.watched {
            watched.drained();
        }
        if let Some(pipe) = &self.pipe {
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
        let host = Host::current();
        if self.watched.as_ref().is_none_or(|watched| !watched.is_of(host)) {
            let Some(fd) = self.fd() else { return Err(io::ErrorKind::NotConnected.into()) };
            self.watched = Some(Watched::new(fd.try_clone_to_owned()?)?);
        }
        let Some(watched) = &self.watched else { return Err(io::ErrorKind::NotConnected.into()) };
        // A reactor may first tell what it knows from before.
        for _ in 0..2 {
            match watched.poll(waker) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    // Of a runtime that is no more. The next look registers anew.
                    self.watched = None;
                    return Err(error);
                }
            }
        }
        waker.wake_by_ref();
        Ok(())
    }

    /// Has the task woken at a moment, too, or somewhat earlier: one moment serves several waits.
    pub(crate) fn wake_at(&mut self, at: Instant, waker: &Waker) -> io::Result<()> {
        if self.alarm.as_ref().is_none_or(|alarm| !alarm.keep(at, waker)) {
            self.alarm = Some(Alarm::set(at, waker)?);
        }
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
    Registered(Watched),
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
            Self::Registered(watched) => Some(watched.as_fd()),
            Self::Unasked | Self::Unknown => None,
        }
    }

    /// Has the task woken at that end; whether it will be.
    pub(crate) fn register(&mut self, waker: &Waker) -> bool {
        if matches!(self, Self::Process(_))
            && let Self::Process(fd) = std::mem::take(self)
        {
            *self = Watched::new(fd).map_or(Self::Unknown, Self::Registered);
        }
        // Ended already: it is not gone as long as somebody else holds what it held; that is to be asked for.
        matches!(self, Self::Registered(watched) if watched.poll(waker).is_pending())
    }
}
