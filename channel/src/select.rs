//! Waiting for whichever of several ends has something to do first.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::bytes::BytesReceiver;
use tidewire_shm::bell::DEFAULT_SLICE;

use crate::event::UNWATCHED;
use crate::message::Message;
use crate::typed::Receiver;

/// Looks at all ends before sleeping: about 10 to 20 microseconds for a few.
const LOOKS: u32 = 200;

pub(crate) mod sealed {
    use std::io;
    use std::time::Instant;

    use rustix::event::PollFd;

    /// What a [`Select`](super::Select) does with an end.
    pub trait Sealed {
        /// Whether a call would not wait now. Without system calls, as a rule.
        fn is_ready(&mut self) -> bool;
        /// Announces a wait; true: do not wait.
        fn arm(&mut self) -> io::Result<bool>;
        fn disarm(&mut self);
        /// What becomes readable when there is something to do, after [`arm`](Self::arm); whether that is all that could
        /// happen.
        fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool;
        /// Whether each look is a system call.
        fn asks_the_system(&self) -> bool {
            false
        }
        /// When there is something to do, whatever anybody does.
        fn due(&self) -> Option<Instant> {
            None
        }
    }
}

/// What a [`Select`] can wait for: receivers, subscribers, servers, clients (for an answer to a call that was
/// [kept](crate::Pending::into_id)), [timers](Timer) and [descriptors](Descriptor).
pub trait Endpoint: sealed::Sealed {}

impl<T: Message> sealed::Sealed for Receiver<T> {
    fn is_ready(&mut self) -> bool {
        self.end.is_ready()
    }

    fn arm(&mut self) -> io::Result<bool> {
        self.end.arm()
    }

    fn disarm(&mut self) {
        self.end.disarm();
    }

    fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        self.end.descriptors(to)
    }
}

impl<T: Message> Endpoint for Receiver<T> {}

impl sealed::Sealed for BytesReceiver {
    fn is_ready(&mut self) -> bool {
        self.end.is_ready()
    }

    fn arm(&mut self) -> io::Result<bool> {
        self.end.arm()
    }

    fn disarm(&mut self) {
        self.end.disarm();
    }

    fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        self.end.descriptors(to)
    }
}

impl Endpoint for BytesReceiver {}

/// A moment that a [`Select`] waits for.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    at: Instant,
}

impl Timer {
    /// At a moment. From then on it is ready, until it is [set](Self::set) again.
    #[must_use]
    pub fn at(at: Instant) -> Self {
        Self { at }
    }

    /// That long from now; never, if that is beyond what the clock can say.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        let far = Duration::from_secs(1 << 30);
        let now = Instant::now();
        Self { at: now.checked_add(time).unwrap_or(now + far) }
    }

    /// Another moment.
    pub fn set(&mut self, at: Instant) {
        self.at = at;
    }
}

impl sealed::Sealed for Timer {
    fn is_ready(&mut self) -> bool {
        Instant::now() >= self.at
    }

    fn arm(&mut self) -> io::Result<bool> {
        Ok(sealed::Sealed::is_ready(self))
    }

    fn disarm(&mut self) {}

    fn descriptors<'a>(&'a mut self, _to: &mut Vec<PollFd<'a>>) -> bool {
        true
    }

    fn due(&self) -> Option<Instant> {
        Some(self.at)
    }
}

impl Endpoint for Timer {}

/// A descriptor that a [`Select`] waits for: a socket, a terminal, anything that `poll` knows.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'fd> {
    fd: BorrowedFd<'fd>,
    writable: bool,
}

impl<'fd> Descriptor<'fd> {
    /// Until it can be read, or has ended or failed.
    #[must_use]
    pub fn readable(fd: BorrowedFd<'fd>) -> Self {
        Self { fd, writable: false }
    }

    /// Until it can be written, or has failed.
    #[must_use]
    pub fn writable(fd: BorrowedFd<'fd>) -> Self {
        Self { fd, writable: true }
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let flags = if self.writable { PollFlags::OUT } else { PollFlags::IN };
        PollFd::new(&self.fd, flags)
    }
}

impl sealed::Sealed for Descriptor<'_> {
    /// A system call.
    fn is_ready(&mut self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // What cannot be asked is for its owner to find out.
        poll(&mut [self.poll_fd()], Some(&now)) != Ok(0)
    }

    fn arm(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn disarm(&mut self) {}

    fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        to.push(self.poll_fd());
        true
    }

    fn asks_the_system(&self) -> bool {
        true
    }
}

impl Endpoint for Descriptor<'_> {}

/// Waits for whichever of several ends has something to do first.
///
/// # Guarantees
/// - An end is ready if a call would not wait: there is a message, or all senders are gone. One whose senders are gone
///   stays ready; leave it out from then on.
/// - Fair: ends that are ready together are told in turn.
/// - No wake-up is lost: what is published after the last look ends the wait. Where a peer cannot reach this process (it may
///   not look into it, or has no descriptors left), within 50 ms.
/// - The death of a peer ends it, too, within about a millisecond for a small process: its end is seen when its memory is
///   torn down. Within 10 ms where the kernel does not tell it by a descriptor.
/// - As long as something is ready, no system call, but for [descriptors](Descriptor).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use tidewire::{Select, Timer};
///
/// let (mut tx, mut ticks) = tidewire::channel::<u64>()?;
/// let (_tx, mut orders) = tidewire::channel::<u32>()?;
/// tx.send(7)?;
/// let mut select = Select::new();
/// let mut timer = Timer::after(Duration::from_secs(60));
/// assert_eq!(select.wait(&mut [&mut orders, &mut ticks, &mut timer])?, 1);
/// assert_eq!(ticks.try_recv(), Ok(7));
/// assert_eq!(select.wait_timeout(&mut [&mut orders, &mut ticks], Duration::from_millis(1))?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Select {
    /// Where to look first.
    next: usize,
}

/// Ends that were armed, and are no more when this is gone.
struct Armed<'s, 'e>(&'s mut [&'e mut dyn Endpoint]);

impl Drop for Armed<'_, '_> {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|end| end.disarm());
    }
}

impl fmt::Debug for Armed<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Armed({})", self.0.len())
    }
}

impl Select {
    /// One that has waited for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until one of the ends is ready, and says which.
    ///
    /// # Errors
    /// What the system says if there are no more descriptors, or `InvalidInput` if there are no ends to wait for.
    pub fn wait(&mut self, ends: &mut [&mut dyn Endpoint]) -> io::Result<usize> {
        loop {
            if let Some(ready) = self.wait_until(ends, None)? {
                return Ok(ready);
            }
        }
    }

    /// Waits until one of the ends is ready, but not longer than `time`; says which, if one is.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(
        &mut self,
        ends: &mut [&mut dyn Endpoint],
        time: Duration,
    ) -> io::Result<Option<usize>> {
        self.wait_until(ends, Instant::now().checked_add(time))
    }

    /// Which of the ends is ready now, if one is.
    pub fn look(&mut self, ends: &mut [&mut dyn Endpoint]) -> Option<usize> {
        let (behind, before) = (self.next..ends.len(), 0..self.next.min(ends.len()));
        for index in behind.chain(before) {
            if ends.get_mut(index).is_some_and(|end| end.is_ready()) {
                self.next = index + 1;
                return Some(index);
            }
        }
        None
    }

    fn wait_until(
        &mut self,
        ends: &mut [&mut dyn Endpoint],
        until: Option<Instant>,
    ) -> io::Result<Option<usize>> {
        if ends.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected ends to wait for, found none"));
        }
        let polled = ends.iter().any(|end| end.asks_the_system());
        // Descriptors of the user's make each look a system call.
        for _ in 0..if polled { 1 } else { LOOKS } {
            if let Some(ready) = self.look(ends) {
                return Ok(Some(ready));
            }
            std::hint::spin_loop();
        }
        loop {
            self.sleep(ends, until)?;
            if let Some(ready) = self.look(ends) {
                return Ok(Some(ready));
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
        }
    }

    /// One sleep, unless there is something to do.
    fn sleep(&self, ends: &mut [&mut dyn Endpoint], until: Option<Instant>) -> io::Result<()> {
        let armed = Armed(ends);
        for end in armed.0.iter_mut() {
            if end.arm()? {
                return Ok(());
            }
        }
        let due = armed.0.iter().filter_map(|end| end.due()).chain(until).min();
        let mut fds = Vec::new();
        let mut all = true;
        for end in armed.0.iter_mut() {
            all &= end.descriptors(&mut fds);
        }
        let now = Instant::now();
        let left = due.map(|due| due.saturating_duration_since(now));
        // Never for ever: a ring may not reach this process.
        let slice = if all { DEFAULT_SLICE } else { UNWATCHED };
        let most = left.map_or(slice, |left| left.min(slice));
        let most = Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(most.subsec_nanos()),
        };
        match poll(&mut fds, Some(&most)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
