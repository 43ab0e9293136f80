//! A subscriber to messages of a type.

use std::fmt;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use tidewire_seqlock::log::{Log, NextError};
use tidewire_shm::Segment;

use super::{Next, Source, SubscribeEnd};
use crate::error::{OpenError, SubscribeError};
use crate::futures::Subscribing;
use crate::ground::Ground;
use crate::message::Message;
use crate::options::Options;
use crate::rest::Until;
use crate::select::{Endpoint, sealed};

/// A subscriber. `Send`, not `Sync`, not `Clone`.
///
/// # Guarantees
/// - Every message that was published since it came (and before, as far as [history](Options::history) was asked for and kept) is
///   received in order, or counted in [`missed`](Self::missed): nothing else.
/// - A wait ends, mostly within a millisecond, as an error, when the publisher is gone or dead; all that it published comes first.
/// - It delays nobody, unless the publication was made to wait.
/// - While messages are there, no system call, no allocation and no lock.
pub struct Subscriber<T: Message> {
    end: SubscribeEnd<T>,
}

impl<T: Message> Source<T> {
    #[inline]
    fn next(&mut self) -> Next<T> {
        let next = match self {
            Self::Seated(reader, ..) => reader.next(),
            Self::Observing(reader, _) => reader.next(),
            Self::Abandoned => Ok(None),
        };
        match next {
            Ok(Some((value, _))) => Next::Got(value),
            Ok(None) => Next::Nothing,
            Err(NextError::Overtaken { missed }) => Next::Missed(missed),
            Err(NextError::Corrupt(corrupt)) => Next::Corrupt(corrupt),
        }
    }
}

impl<T: Message> Subscriber<T> {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        Ok(Self { end: SubscribeEnd::on(ground, options, |region| Log::open(region, 0))? })
    }

    pub(super) fn observing(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        Ok(Self { end: SubscribeEnd::observing(ground, options, |region| Log::open(region, 0))? })
    }

    /// Takes a message if there is one; those that were overwritten before they could be read are counted in
    /// [`missed`](Self::missed).
    ///
    /// # Errors
    /// [`SubscribeError::Empty`], [`SubscribeError::Disconnected`] if there is none and nobody publishes any more.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, SubscribeError> {
        // As `try_take` does; but so the message is not copied once more on its way to the caller.
        if self.end.is_forked_child() {
            return Err(SubscribeError::ForkedChild);
        }
        match self.end.look(&mut Source::next) {
            Err(SubscribeError::Empty) => self.end.look_closely(&mut Source::next),
            done => done,
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// [`SubscribeError::Disconnected`] if nobody publishes any more and all that was published has been received. A publisher
    /// that comes later ends that: call again. Not so for an [observer](crate::Options::observer) whose publisher left in
    /// order when it had no other subscriber: the name went with it, and whoever publishes next has other memory.
    #[inline]
    pub fn recv(&mut self) -> Result<T, SubscribeError> {
        self.end.take_until(Until::NEVER, Source::next)
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`SubscribeError::Empty`] if none came in all that time.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<T, SubscribeError> {
        self.end.take_in(time, Source::next)
    }

    /// Waits for a message until a moment.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, SubscribeError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Messages that were overwritten before this subscriber could read them, so far: what it received and what it missed,
    /// together, is all that was published since it came.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.end.missed()
    }

    /// Messages that are published and not received yet.
    pub fn lag(&mut self) -> u64 {
        self.end.lag()
    }

    /// The messages that come, until nobody publishes any more or something is wrong: [`try_recv`](Self::try_recv) tells what.
    pub fn iter(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The messages that are there, until there is none.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Whether somebody is there to publish.
    pub fn is_connected(&mut self) -> bool {
        self.end.is_connected()
    }

    /// The memory of the publication, to hand it to other processes.
    #[must_use]
    pub fn memory(&self) -> &Segment {
        self.end.memory()
    }

    /// As [`recv`](Self::recv), for async code in any runtime; cancel-safe. The death of the publisher ends the same await.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> Subscribing<'_, T> {
        Subscribing { subscriber: self }
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, SubscribeError>> {
        self.end.poll_take(cx, Source::next)
    }
}

impl<T: Message> sealed::Sealed for Subscriber<T> {
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

impl<T: Message> Endpoint for Subscriber<T> {}

impl<T: Message> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("memory", self.memory()).finish_non_exhaustive()
    }
}
