//! A subscriber.

use std::fmt;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use tidewire_seqlock::log::{BytesNextError, NextError, bytes};
use tidewire_shm::Segment;

use crate::error::{OpenError, SubscribeError};
use crate::futures::SubscribingBytes;
use crate::ground::Ground;
use crate::options::Options;
use crate::publish::{Next, Source, SubscribeEnd};
use crate::rest::Until;
use crate::select::{Endpoint, sealed};

/// A subscriber to bytes. `Send`, not `Sync`, not `Clone`.
///
/// The guarantees are those of a [`Subscriber`](crate::Subscriber); but a message that is longer than any before it has its
/// buffer allocated.
///
/// ```
/// let (mut publisher, mut subscriber) = tidewire::Options::new().bytes_publish()?;
/// publisher.publish(b"one")?;
/// publisher.publish(b"")?;
/// assert_eq!(subscriber.recv()?, b"one");
/// assert_eq!(subscriber.recv()?, b"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BytesSubscriber {
    end: SubscribeEnd<bytes::Bytes>,
}

impl Source<bytes::Bytes> {
    /// The length of the next message, which takes the place of what was in the buffer.
    #[inline]
    fn next_to(&mut self, to: &mut Vec<u8>) -> Next<usize> {
        let next = match self {
            Self::Seated(reader, ..) => reader.next_bytes_into(to),
            Self::Observing(reader, _) => reader.next_bytes_into(to),
            Self::Abandoned => Ok(None),
        };
        match next {
            Ok(Some(_)) => Next::Got(to.len()),
            Ok(None) => Next::Nothing,
            Err(NextError::Overtaken { missed }) => Next::Missed(missed),
            Err(NextError::Corrupt(corrupt)) => Next::Corrupt(corrupt),
        }
    }

    /// The length of the next message, or what it needs if that is more than there is.
    #[inline]
    fn next_in(&mut self, to: &mut [u8]) -> Next<Result<usize, usize>> {
        let next = match self {
            Self::Seated(reader, ..) => reader.next_bytes(to),
            Self::Observing(reader, _) => reader.next_bytes(to),
            Self::Abandoned => Ok(None),
        };
        match next {
            Ok(Some((message, _))) => Next::Got(Ok(message.len())),
            Ok(None) => Next::Nothing,
            Err(BytesNextError::BufferTooSmall { needed }) => Next::Got(Err(needed)),
            Err(BytesNextError::Overtaken { missed }) => Next::Missed(missed),
            Err(BytesNextError::Corrupt(corrupt)) => Next::Corrupt(corrupt),
        }
    }
}

/// What fitted, or an error.
fn fitted(len: Result<usize, usize>) -> Result<usize, SubscribeError> {
    len.map_err(|needed| SubscribeError::BufferTooSmall { needed })
}

impl BytesSubscriber {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        Ok(Self { end: SubscribeEnd::on(ground, options, |region| bytes::open(region, 0))? })
    }

    pub(super) fn observing(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        Ok(Self { end: SubscribeEnd::observing(ground, options, |region| bytes::open(region, 0))? })
    }

    /// Takes a message if there is one; those that were overwritten before they could be read are counted in
    /// [`missed`](Self::missed).
    ///
    /// # Errors
    /// As [`Subscriber::try_recv`](crate::Subscriber::try_recv).
    pub fn try_recv(&mut self) -> Result<Vec<u8>, SubscribeError> {
        let mut to = Vec::new();
        self.try_recv_to(&mut to)?;
        Ok(to)
    }

    /// Takes a message if there is one, into a buffer that is used again; says how long it is.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv). Then the buffer is empty, unless it was a fork child that asked.
    #[inline]
    pub fn try_recv_to(&mut self, to: &mut Vec<u8>) -> Result<usize, SubscribeError> {
        self.end.try_take(|source| source.next_to(to))
    }

    /// Takes a message if there is one, into a buffer of a fixed length; says how long it is.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), and [`SubscribeError::BufferTooSmall`]; then the message is the next to be received,
    /// unless it is overwritten. The buffer may hold anything.
    #[inline]
    pub fn try_recv_into(&mut self, to: &mut [u8]) -> Result<usize, SubscribeError> {
        fitted(self.end.try_take(|source| source.next_in(to))?)
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// As [`Subscriber::recv`](crate::Subscriber::recv).
    pub fn recv(&mut self) -> Result<Vec<u8>, SubscribeError> {
        let mut to = Vec::new();
        self.recv_to(&mut to)?;
        Ok(to)
    }

    /// Waits for a message, into a buffer that is used again; says how long it is.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    #[inline]
    pub fn recv_to(&mut self, to: &mut Vec<u8>) -> Result<usize, SubscribeError> {
        self.end.take_until(Until::NEVER, |source| source.next_to(to))
    }

    /// Waits for a message, into a buffer of a fixed length; says how long it is.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`SubscribeError::BufferTooSmall`] as [`try_recv_into`](Self::try_recv_into).
    #[inline]
    pub fn recv_into(&mut self, to: &mut [u8]) -> Result<usize, SubscribeError> {
        fitted(self.end.take_until(Until::NEVER, |source| source.next_in(to))?)
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`SubscribeError::Empty`] if none came in all that time.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<Vec<u8>, SubscribeError> {
        let mut to = Vec::new();
        self.recv_to_timeout(&mut to, time)?;
        Ok(to)
    }

    /// Waits for a message, but not longer than `time`, into a buffer that is used again; says how long it is.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_to_timeout(&mut self, to: &mut Vec<u8>, time: Duration) -> Result<usize, SubscribeError> {
        self.end.take_in(time, |source| source.next_to(to))
    }

    /// Waits for a message until a moment.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, SubscribeError> {
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
    pub fn iter(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The messages that are there, until there is none.
    pub fn drain(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Whether somebody is there to publish.
    pub fn is_connected(&mut self) -> bool {
        self.end.is_connected()
    }

    /// The longest message that there can be.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.end.max_message()
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
    pub fn recv_async(&mut self) -> SubscribingBytes<'_> {
        SubscribingBytes { subscriber: self }
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, SubscribeError>> {
        let mut to = Vec::new();
        self.end.poll_take(cx, |source| source.next_to(&mut to)).map_ok(|_| to)
    }
}

impl SubscribeEnd<bytes::Bytes> {
    fn max_message(&self) -> usize {
        match self.source() {
            Source::Seated(reader, ..) => reader.max(),
            Source::Observing(reader, _) => reader.max(),
            Source::Abandoned => 0,
        }
    }
}

impl sealed::Sealed for BytesSubscriber {
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

impl Endpoint for BytesSubscriber {}

impl fmt::Debug for BytesSubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesSubscriber").field("memory", self.memory()).finish_non_exhaustive()
    }
}
