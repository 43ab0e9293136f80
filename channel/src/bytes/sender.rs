//! A sending end.

use std::fmt;
use std::time::{Duration, Instant};

use tidewire_shm::Segment;

use super::BytesReservation;
use crate::byte_queue::{ByteSink, Place};
use crate::error::{OpenError, SendError, SendTimeoutError, TrySendError};
use crate::ground::Ground;
use crate::options::{Options, Wait};
use crate::queue::{Inlet as _, Pushed, Shape};
use crate::rest::Until;
use crate::send::{DROPPED, Offered, SendEnd, WAITED};
use crate::typed::{Leaving, single_queue};

/// A sending end of a channel of bytes. `Send`, not `Sync`; for another thread [open another one](Self::try_clone).
///
/// The guarantees are those of a [`Sender`](crate::Sender).
pub struct BytesSender {
    pub(crate) end: SendEnd<ByteSink>,
    leaving: Leaving,
    options: Options,
}

/// Where a message is written before it is sent: see [`BytesSender::send_with`].
pub struct Writing<'w> {
    place: &'w mut dyn Place,
    len: usize,
}

impl Writing<'_> {
    /// Writes bytes from an offset on. What is never written holds anything.
    ///
    /// # Errors
    /// The number of bytes that there is room for, if these are not within it.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) -> Result<(), usize> {
        if self.place.put(offset, bytes) { Ok(()) } else { Err(self.len) }
    }

    /// Bytes that there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.len
    }
}

impl fmt::Debug for Writing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writing").field("room", &self.len).finish_non_exhaustive()
    }
}

impl BytesSender {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let (end, leaving) = Leaving::with(ground, options, true, |mut ground| {
            let shape = Shape::of(&ground.numbers, options)?;
            let sink = match ByteSink::open(shape, single_queue(&mut ground)?, &ground.leases) {
                Err(OpenError::Taken { role: "peer", .. }) => return Err(OpenError::Exhausted { most: 1 }),
                opened => opened?,
            };
            SendEnd::new(sink, ground, options.wait, shape.overflow)
        })?;
        Ok(Self { end, leaving, options: options.clone() })
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`Sender::try_send`](crate::Sender::try_send), and [`TrySendError::TooLong`].
    #[inline]
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), TrySendError<()>> {
        if self.sends_at_once(message) {
            return Ok(());
        }
        match self.end.offer(&mut |sink: &mut ByteSink| sink.push(message)) {
            Offered::Sent => Ok(()),
            Offered::Full => Err(TrySendError::Full(())),
            Offered::Failed(error) => Err(error),
        }
    }

    /// Sends a message; what happens if there is no room was [chosen](crate::Overflow) for the channel.
    ///
    /// # Errors
    /// As [`Sender::send`](crate::Sender::send), and [`SendError::TooLong`].
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError<()>> {
        if self.sends_at_once(message) {
            return Ok(());
        }
        self.end.send(|sink| sink.push(message))
    }

    /// The hot path: true if that was all. If not, nothing is changed, and the ways around it try again.
    #[inline(always)]
    fn sends_at_once(&mut self, message: &[u8]) -> bool {
        let sent = self.end.is_open() && matches!(self.end.inlet.push(message), Pushed::Done);
        if sent {
            self.end.ring();
        }
        sent
    }

    /// Sends a message of up to `most` bytes that `write` writes where it will be read, without a copy in between; `write`
    /// returns how long it became. It is called once there is room; again only in a channel of
    /// [one order](crate::Kind::Ordered), where the message is copied.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tidewire::Options::new().bytes_channel()?;
    /// tx.send_with(16, |to| to.put(0, b"in place").map_or(0, |()| 8))?;
    /// assert_eq!(rx.recv()?, b"in place");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_with(
        &mut self,
        most: usize,
        mut write: impl FnMut(&mut Writing<'_>) -> usize,
    ) -> Result<(), SendError<()>> {
        self.end.send(|sink| {
            sink.push_with(most, &mut |place: &mut dyn Place| write(&mut Writing { place, len: most }))
        })
    }

    /// Sends a message, and waits for room, but not longer than `time`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    pub fn send_timeout(&mut self, message: &[u8], time: Duration) -> Result<(), SendTimeoutError<()>> {
        match self.try_send(message) {
            Err(TrySendError::Full(())) => {
                let until = Until::after(time);
                Ok(self.end.send_until(until, &mut |sink: &mut ByteSink| sink.push(message))?)
            }
            other => Ok(other?),
        }
    }

    /// Sends a message, and waits for room until a moment.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<(), SendTimeoutError<()>> {
        self.send_timeout(message, deadline.saturating_duration_since(Instant::now()))
    }

    /// A place for a message of up to `most` bytes, to be written where it will be read: see [`BytesReservation`]. Waits for
    /// one, or not, as the channel [wants it](crate::Overflow).
    ///
    /// # Errors
    /// As [`send`](Self::send); [`SendError::Full`] also where what has no room is dropped: that counts as one.
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tidewire::Options::new().bytes_channel()?;
    /// let mut place = tx.reserve(100)?;
    /// place.set(0, b"a line, ")?;
    /// place.set(8, b"in pieces")?;
    /// place.commit(17)?;
    /// assert_eq!(rx.recv()?, b"a line, in pieces");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self, most: usize) -> Result<BytesReservation<'_>, SendError<()>> {
        self.end.await_room(|sink| sink.look(most))?;
        self.hold(most).map_err(SendError::from)
    }

    /// As [`reserve`](Self::reserve), if there is a place now.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_reserve(&mut self, most: usize) -> Result<BytesReservation<'_>, TrySendError<()>> {
        self.end.find_room(|sink| sink.look(most))?;
        self.hold(most)
    }

    /// As [`reserve`](Self::reserve), and waits not longer than `time`.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve), and [`SendTimeoutError::Timeout`].
    pub fn reserve_timeout(
        &mut self,
        most: usize,
        time: Duration,
    ) -> Result<BytesReservation<'_>, SendTimeoutError<()>> {
        self.end.attempt_until(Until::after(time), &mut |sink: &mut ByteSink| sink.look(most))?;
        self.hold(most).map_err(SendTimeoutError::from)
    }

    fn hold(&mut self, most: usize) -> Result<BytesReservation<'_>, TrySendError<()>> {
        let (sink, publication) = self.end.split();
        match sink.hold(most) {
            Ok(held) => Ok(BytesReservation::new(held, publication)),
            Err(Pushed::Corrupt(corrupt)) => Err(TrySendError::Corrupt((), corrupt)),
            Err(Pushed::TooLong(most)) => Err(TrySendError::TooLong((), most)),
            Err(_) => Err(TrySendError::Full(())),
        }
    }

    /// What takes room, of each sender that there can be: its number, and how many bytes. That of this one is
    /// [`number`](Self::number).
    #[must_use]
    pub fn depths(&self) -> Vec<(u32, usize)> {
        self.end.inlet.queued()
    }

    /// Which of the senders this is, as its receiver sees it: [`SenderInfo::number`](crate::SenderInfo::number).
    #[must_use]
    pub fn number(&self) -> u32 {
        self.end.inlet.lane()
    }

    /// Another sending end of the same channel, for another thread.
    ///
    /// # Errors
    /// As [`Options::sender`].
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        match self.end.segment.name() {
            Some(name) => self.options.bytes_sender(name.as_str()),
            None => {
                let fd = self.end.segment.try_clone_fd()?;
                self.options.bytes_sender_on(Segment::from_fd_with(fd, &self.options.segment_options())?)
            }
        }
    }

    /// Whether somebody is there to receive.
    pub fn is_connected(&mut self) -> bool {
        self.end.is_connected()
    }

    /// The longest message that fits.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.end.inlet.max()
    }

    /// Bytes of this sender that take room (not received yet, or released by the receiver's next look), with what each message takes beside its own.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.end.inlet.len()
    }

    /// Bytes that fit into the channel for this sender.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.inlet.capacity()
    }

    /// Messages of this sender that were dropped since there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.end.counter(DROPPED)
    }

    /// How often this sender waited for room.
    #[must_use]
    pub fn waited(&self) -> u64 {
        self.end.counter(WAITED)
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

impl Drop for BytesSender {
    /// What was sent and not received waits for the next receiver.
    fn drop(&mut self) {
        self.leaving.keep = !self.end.is_all_received();
    }
}

impl fmt::Debug for BytesSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesSender").field("memory", &self.end.segment).finish_non_exhaustive()
    }
}
