//! The receiving end.

use std::fmt;
use std::time::{Duration, Instant};

use tidewire_ring::embed::fixed::PopEnd;
use tidewire_shm::{Segment, Untrusted};

use super::{Chunk, Leaving, single_queue};
use crate::error::{OpenError, RecvError, RecvTimeoutError, TryRecvError};
use crate::ground::Ground;
use crate::info::{self, SenderInfo};
use crate::message::Message;
use crate::options::{Options, Wait};
use crate::queue::{PASSED, Popped, Shape, Source};
use crate::receive::{RECEIVER, ReceiveEnd};
use crate::rest::Until;

/// The receiving end of a channel. `Send`, not `Sync`, not `Clone`.
///
/// # Guarantees
/// - Every message that a sender was told is sent arrives, once, whole, and in the order of that sender; also if the sender
///   is killed right after, and also if this end dies and another goes on: what it had not been given is given to that
///   one, and the last ones of each sender possibly again.
/// - A wait ends, mostly within a millisecond, as an error, when the last sender is gone or dead; all that was sent comes first.
/// - While messages are there, no system call, no allocation and no lock.
/// - A peer may write anything anywhere: this end returns what the peer made up, or says [`Corrupt`](crate::Corrupt).
pub struct Receiver<T: Message> {
    pub(crate) end: ReceiveEnd<Source<T>>,
    leaving: Leaving,
}

impl<T: Message> Receiver<T> {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let adopted = ground.adopted;
        let (end, leaving) = Leaving::with(ground, options, adopted, |mut ground| {
            let shape = Shape::of(&ground.numbers, options)?;
            let queue = single_queue(&mut ground)?;
            let passed = || ground.roster.counter(RECEIVER, PASSED);
            let source = Source::open(shape, queue, &ground.leases, passed)?;
            ReceiveEnd::new(source, ground, options.wait)
        })?;
        Ok(Self { end, leaving })
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none now, [`TryRecvError::Disconnected`] if there is none and all senders are
    /// gone. That nobody has come yet is only empty.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if let Some(end) = self.known()
            && let Some(value) = end.pop_known()
        {
            return Ok(value);
        }
        self.look()
    }

    /// The hot path: the next message may be known, and there is nothing else to do.
    #[inline(always)]
    fn known(&mut self) -> Option<&mut PopEnd<T, Untrusted>> {
        let awaited = self.end.company.is_awaited();
        let (source, mark) = self.end.split();
        if awaited || mark.is_forked_child() { None } else { source.ready() }
    }

    /// What the hot path does not settle; nothing is changed.
    #[inline(never)]
    fn look(&mut self) -> Result<T, TryRecvError> {
        self.end.prepare()?;
        match self.end.outlet.pop() {
            Popped::Got(value) => Ok(value),
            first => self.end.settle(first, Source::pop),
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// [`RecvError::Disconnected`] if all senders are gone and all that they sent has been received. A sender that comes
    /// later, such as one that was restarted, ends that: call again, or [wait for it](Self::wait_senders).
    #[inline(always)]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        if let Some(end) = self.known()
            && let Some(value) = end.pop_known()
        {
            return Ok(value);
        }
        self.wait()
    }

    #[inline(never)]
    fn wait(&mut self) -> Result<T, RecvError> {
        match self.look() {
            Err(TryRecvError::Empty) => Ok(self.end.take(Until::NEVER, Source::pop)?),
            other => Ok(other.map_err(RecvTimeoutError::from_try)?),
        }
    }

    /// As [`recv`](Self::recv), into a place of the caller's; for messages that are too large to be moved about.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); then the place holds anything.
    #[inline]
    pub fn recv_to(&mut self, to: &mut T) -> Result<(), RecvError> {
        if let Some(end) = self.known()
            && end.pop_known_to(to)
        {
            return Ok(());
        }
        self.wait_to(to)
    }

    #[inline(never)]
    fn wait_to(&mut self, to: &mut T) -> Result<(), RecvError> {
        match self.look_to(to) {
            Err(TryRecvError::Empty) => Ok(self.end.take(Until::NEVER, |source| source.pop_to(to))?),
            other => Ok(other.map_err(RecvTimeoutError::from_try)?),
        }
    }

    /// As [`try_recv`](Self::try_recv), into a place of the caller's.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv); then the place holds anything.
    #[inline]
    pub fn try_recv_to(&mut self, to: &mut T) -> Result<(), TryRecvError> {
        if let Some(end) = self.known()
            && end.pop_known_to(to)
        {
            return Ok(());
        }
        self.look_to(to)
    }

    #[inline(never)]
    fn look_to(&mut self, to: &mut T) -> Result<(), TryRecvError> {
        self.end.prepare()?;
        match self.end.outlet.pop_to(to) {
            Popped::Got(()) => Ok(()),
            first => self.end.settle(first, |source| source.pop_to(to)),
        }
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    pub fn recv_timeout(&mut self, time: Duration) -> Result<T, RecvTimeoutError> {
        match self.try_recv() {
            Err(TryRecvError::Empty) => self.end.take(Until::after(time), Source::pop),
            other => Ok(other.map_err(RecvTimeoutError::from_try)?),
        }
    }

    /// Waits for a message until a moment.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        match self.try_recv() {
            Err(TryRecvError::Empty) => self.end.take(Until::at(deadline), Source::pop),
            other => Ok(other.map_err(RecvTimeoutError::from_try)?),
        }
    }

    /// Waits for messages and takes as many of one sender as are there and fit; says how many, one at least.
    ///
    /// # Errors
    /// As [`recv`](Self::recv). For an empty slice it returns 0 at once.
    pub fn recv_slice(&mut self, to: &mut [T]) -> Result<usize, RecvError> {
        if to.is_empty() {
            return Ok(0);
        }
        Ok(self.end.take(Until::NEVER, |source| source.pop_into(to))?)
    }

    /// Takes as many messages of one sender as are there and fit; says how many, one at least.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv). For an empty slice it returns 0 at once.
    pub fn try_recv_slice(&mut self, to: &mut [T]) -> Result<usize, TryRecvError> {
        if to.is_empty() {
            return Ok(0);
        }
        self.end.try_take(|source| source.pop_into(to))
    }

    /// Waits for messages and takes up to `most` of one sender to be read where they lie, one at least: see [`Chunk`]. It may be
    /// empty, where a sender spoilt or overwrote in that very moment what was there.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tidewire::channel::<u64>()?;
    /// tx.send_slice(&[1, 2, 3])?;
    /// let chunk = rx.read_chunk(2)?;
    /// let mut first = [0];
    /// chunk.get(0, &mut first)?;
    /// chunk.release(1)?;
    /// assert_eq!((first, rx.recv()), ([1], Ok(2)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_chunk(&mut self, most: usize) -> Result<Chunk<'_, T>, RecvError> {
        self.end.take(Until::NEVER, Source::look)?;
        Ok(self.lend(most))
    }

    /// As [`read_chunk`](Self::read_chunk), if there is a message.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_read_chunk(&mut self, most: usize) -> Result<Chunk<'_, T>, TryRecvError> {
        self.end.try_take(Source::look)?;
        Ok(self.lend(most))
    }

    /// As [`read_chunk`](Self::read_chunk), and waits not longer than `time`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn read_chunk_timeout(
        &mut self,
        most: usize,
        time: Duration,
    ) -> Result<Chunk<'_, T>, RecvTimeoutError> {
        self.end.take(Until::after(time), Source::look)?;
        Ok(self.lend(most))
    }

    fn lend(&mut self, most: usize) -> Chunk<'_, T> {
        let (source, mark) = self.end.split();
        Chunk::new(source.lend(most.max(1)), mark)
    }

    /// The messages that come, until all senders are gone or something is wrong: [`try_recv`](Self::try_recv) tells what.
    pub fn iter(&mut self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there, until there is none.
    pub fn drain(&mut self) -> Drain<'_, T> {
        Drain { receiver: self }
    }

    /// Waits until that many senders are there; whether they were in time.
    pub fn wait_senders(&mut self, count: usize, time: Duration) -> bool {
        self.end.wait_senders(count, Until::after(time))
    }

    /// Who is there to send, and who is full: how much of each waits here, and how often it found no room.
    ///
    /// # Examples
    /// ```
    /// use tidewire::{Options, Overflow};
    ///
    /// let (mut tx, mut rx) = Options::new().capacity(8).overflow(Overflow::Reject).channel::<u64>()?;
    /// let mut idle = tx.try_clone()?;
    /// while tx.send(1).is_ok() {}
    /// let full: Vec<u32> = rx.senders().iter().filter(|one| one.queued >= 8).map(|one| one.number).collect();
    /// assert_eq!(full, [tx.number()]);
    /// idle.send(2)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn senders(&mut self) -> Vec<SenderInfo> {
        let senders = self.end.senders();
        let lanes = self.end.outlet.queued();
        let outlet = &self.end.outlet;
        let info = |(entry, generation): (u32, u64)| {
            let mut info = info::sender(&self.end.company.roster, entry, generation, &lanes);
            // By a sender that overwrites: only this end knows.
            info.dropped = info.dropped.saturating_add(outlet.missed_of(info.number));
            info
        };
        senders.into_iter().map(info).collect()
    }

    /// Messages that were [overwritten](crate::Overflow::DropOldest) before this end could receive them, of all senders, those that
    /// went while nobody received included. What receivers received and what they missed, together, is all that was sent, as far as
    /// they have looked. Of each sender: [`SenderInfo::dropped`].
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.end.outlet.missed()
    }

    /// Chooses how to wait from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.end.set_wait(wait);
    }

    /// The memory of the channel, to hand it to other processes.
    pub fn memory(&self) -> &Segment {
        &self.end.segment
    }
}

impl<T: Message> Drop for Receiver<T> {
    /// What was sent and not received waits for the next receiver.
    fn drop(&mut self) {
        self.leaving.keep = !self.end.is_all_received();
    }
}

impl<T: Message> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("memory", &self.end.segment).finish_non_exhaustive()
    }
}

/// Messages as they come: see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'r, T: Message> {
    receiver: &'r mut Receiver<T>,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

/// Messages that are there: see [`Receiver::drain`].
#[derive(Debug)]
pub struct Drain<'r, T: Message> {
    receiver: &'r mut Receiver<T>,
}

impl<T: Message> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}
