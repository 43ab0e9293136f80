//! A sending end.

use std::fmt;
use std::time::{Duration, Instant};

use tidewire_shm::Segment;

use super::{Leaving, Reservation, single_queue};
use crate::error::{OpenError, SendError, SendTimeoutError, TrySendError};
use crate::ground::Ground;
use crate::message::Message;
use crate::options::{Options, Overflow, Wait};
use crate::queue::{Inlet as _, Pushed, Shape, Sink};
use crate::rest::Until;
use crate::send::{DROPPED, Offered, SendEnd, WAITED};

/// A sending end of a channel. `Send`, not `Sync`; for another thread [open another one](Self::try_clone).
///
/// # Guarantees
/// - A message is sent, or given back with the reason, or dropped and counted if the channel was made so.
/// - A wait for room ends, mostly within a millisecond, as an error, when the receiver is gone or dead; or goes on when another
///   receiver takes its place.
/// - While there is room and the receiver is awake, no system call, no allocation and no lock.
/// - No other sender can delay this one, but for room in a channel of [one order](crate::Kind::Ordered).
pub struct Sender<T: Message> {
    pub(crate) end: SendEnd<Sink<T>>,
    leaving: Leaving,
    options: Options,
}

impl<T: Message> Sender<T> {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let (end, leaving) = Leaving::with(ground, options, true, |mut ground| {
            let shape = Shape::of(&ground.numbers, options)?;
            let sink = match Sink::open(shape, single_queue(&mut ground)?, &ground.leases) {
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
    /// [`TrySendError::Full`] if not, [`TrySendError::Disconnected`] if nobody is there to receive; both give it back.
    #[inline]
    pub fn try_send(&mut self, value: T) -> Result<(), TrySendError<T>> {
        if self.sends_at_once(&value) {
            return Ok(());
        }
        self.try_or_return(value)
    }

    /// Where that was not all: the message comes back with the reason.
    #[cold]
    fn try_or_return(&mut self, value: T) -> Result<(), TrySendError<T>> {
        self.try_send_otherwise(&value).map_err(|error| error.map(|()| value))
    }

    /// Sends a message. If there is no room, what happens is what was [chosen](Overflow) for the channel: waiting is the
    /// default.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] if nobody is there to receive, or goes while this waits; [`SendError::Full`] if the
    /// channel rejects. That a receiver was killed is found out when there is no room: what was sent until then waits for
    /// the next receiver.
    #[inline]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        if self.sends_at_once(&value) {
            return Ok(());
        }
        self.give_or_return(value)
    }

    /// Where that was not all: the message comes back with the reason.
    #[cold]
    fn give_or_return(&mut self, value: T) -> Result<(), SendError<T>> {
        match self.end.send(|sink| sink.push(&value)) {
            Ok(()) => Ok(()),
            Err(error) => Err(TrySendError::from(error).map(|()| value).into()),
        }
    }

    /// As [`send`](Self::send), from where the message lies; for messages that are too large to be moved about.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_from(&mut self, value: &T) -> Result<(), SendError<()>> {
        if self.sends_at_once(value) {
            return Ok(());
        }
        self.send_otherwise(value)
    }

    /// Where that was not all.
    #[cold]
    fn send_otherwise(&mut self, value: &T) -> Result<(), SendError<()>> {
        self.end.send(|sink| sink.push(value))
    }

    #[cold]
    fn try_send_otherwise(&mut self, value: &T) -> Result<(), TrySendError<()>> {
        match self.end.offer(&mut |sink: &mut Sink<T>| sink.push(value)) {
            Offered::Sent => Ok(()),
            Offered::Full => Err(TrySendError::Full(())),
            Offered::Failed(error) => Err(error),
        }
    }

    /// The hot path: true if that was all. If not, nothing is changed, and the ways around it try again.
    #[inline(always)]
    fn sends_at_once(&mut self, value: &T) -> bool {
        let sent = self.end.is_open() && self.end.inlet.pushes(value);
        if sent {
            self.end.ring();
        }
        sent
    }

    /// As [`try_send`](Self::try_send), from where the message lies.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    #[inline]
    pub fn try_send_from(&mut self, value: &T) -> Result<(), TrySendError<()>> {
        if self.sends_at_once(value) {
            return Ok(());
        }
        self.try_send_otherwise(value)
    }

    /// Sends a message, and waits for room, but not longer than `time`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`SendTimeoutError::Timeout`].
    pub fn send_timeout(&mut self, value: T, time: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, || Until::after(time))
    }

    /// Sends a message, and waits for room until a moment.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&mut self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, || Until::at(deadline))
    }

    fn send_until(&mut self, value: T, until: impl FnOnce() -> Until) -> Result<(), SendTimeoutError<T>> {
        match self.try_send(value) {
            Err(TrySendError::Full(value)) => self
                .end
                .send_until(until(), &mut |sink: &mut Sink<T>| sink.push(&value))
                .map_err(|error| error.map(|()| value).into()),
            other => other.map_err(SendTimeoutError::from),
        }
    }

    /// Sends all messages of a slice, as many at a time as fit, each batch with one publication. Says how many were sent,
    /// or dropped if the channel was made so: all of them, unless it [rejects](Overflow::Reject) what does not fit.
    ///
    /// # Errors
    /// As [`send`](Self::send), with the number of those that had been sent before.
    pub fn send_slice(&mut self, values: &[T]) -> Result<usize, SendError<usize>> {
        let mut sent = 0;
        let most = (self.end.inlet.most() / 2).max(1);
        for batch in values.chunks(most) {
            let waits = matches!(self.end.overflow, Overflow::Block | Overflow::DropOldest);
            if !waits && !self.room_for(batch) {
                return self.send_rest(values.get(sent..).unwrap_or_default(), sent);
            }
            match self.end.send(|sink| sink.push_slice(batch)) {
                Ok(()) => sent += batch.len(),
                Err(error) => return Err(TrySendError::from(error).map(|()| sent).into()),
            }
        }
        Ok(sent)
    }

    fn room_for(&self, batch: &[T]) -> bool {
        self.capacity().saturating_sub(self.len()) >= batch.len()
    }

    /// One at a time, where what does not fit is not waited for.
    fn send_rest(&mut self, values: &[T], before: usize) -> Result<usize, SendError<usize>> {
        for (i, value) in values.iter().enumerate() {
            match self.end.send(|sink| sink.push(value)) {
                Ok(()) => {}
                Err(SendError::Full(())) => return Ok(before + i),
                Err(error) => return Err(TrySendError::from(error).map(|()| before + i).into()),
            }
        }
        Ok(before + values.len())
    }

    /// A place for a message, to be written where it will be read: see [`Reservation`]. Waits for one, or not, as the channel
    /// [wants it](Overflow).
    ///
    /// # Errors
    /// As [`send_from`](Self::send_from); [`SendError::Full`] also where what has no room is dropped: that counts as one.
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tidewire::channel::<[u64; 100]>()?;
    /// let mut place = tx.reserve()?;
    /// place.set(&[7; 100]);
    /// place.commit()?;
    /// drop(tx.reserve()?);
    /// assert_eq!(rx.drain().collect::<Vec<_>>(), [[7; 100]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&mut self) -> Result<Reservation<'_, T>, SendError<()>> {
        self.end.await_room(Sink::look)?;
        self.hold().map_err(SendError::from)
    }

    /// As [`reserve`](Self::reserve), if there is a place now.
    ///
    /// # Errors
    /// As [`try_send_from`](Self::try_send_from).
    pub fn try_reserve(&mut self) -> Result<Reservation<'_, T>, TrySendError<()>> {
        self.end.find_room(Sink::look)?;
        self.hold()
    }

    /// As [`reserve`](Self::reserve), and waits not longer than `time`.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve), and [`SendTimeoutError::Timeout`].
    pub fn reserve_timeout(&mut self, time: Duration) -> Result<Reservation<'_, T>, SendTimeoutError<()>> {
        self.end.attempt_until(Until::after(time), &mut Sink::look)?;
        self.hold().map_err(SendTimeoutError::from)
    }

    fn hold(&mut self) -> Result<Reservation<'_, T>, TrySendError<()>> {
        let (sink, publication) = self.end.split();
        match sink.hold() {
            Ok(held) => Ok(Reservation::new(held, publication)),
            Err(Pushed::Corrupt(corrupt)) => Err(TrySendError::Corrupt((), corrupt)),
            Err(_) => Err(TrySendError::Full(())),
        }
    }

    /// Another sending end of the same channel, for another thread. That of a channel with a name is opened by its name: there is
    /// none where the name is gone, though what is open goes on.
    ///
    /// # Errors
    /// As [`Options::sender`].
    pub fn try_clone(&self) -> Result<Self, OpenError> {
        match self.end.segment.name() {
            Some(name) => self.options.sender(name.as_str()),
            None => {
                let fd = self.end.segment.try_clone_fd()?;
                self.options.sender_on(Segment::from_fd_with(fd, &self.options.segment_options())?)
            }
        }
    }

    /// Whether somebody is there to receive.
    pub fn is_connected(&mut self) -> bool {
        self.end.is_connected()
    }

    /// Messages of this sender that take room: those that are not received yet, and the last ones that were, until the
    /// receiver looks for more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.inlet.len(self.end.roster())
    }

    /// Whether no message of this sender takes room.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that fit into the channel for this sender.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.inlet.capacity()
    }

    /// What takes room, of each sender that there can be: its number, and how many messages. That of this one is
    /// [`number`](Self::number); one that has [`capacity`](Self::capacity) is full.
    #[must_use]
    pub fn depths(&self) -> Vec<(u32, usize)> {
        self.end.inlet.queued(self.end.roster())
    }

    /// Which of the senders this is, as its receiver sees it: [`SenderInfo::number`](crate::SenderInfo::number).
    #[must_use]
    pub fn number(&self) -> u32 {
        self.end.inlet.lane()
    }

    /// Messages of this sender that were dropped since there was no room. Where the [oldest](crate::Overflow::DropOldest) are:
    /// those that receivers are known to have missed; a receiver tells now and then. With [`Kind::Single`](crate::Kind::Single) of all
    /// senders that there were.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        match self.end.overflow {
            Overflow::DropOldest => self.end.inlet.missed(self.end.roster()),
            _ => self.end.counter(DROPPED),
        }
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

impl<T: Message> Drop for Sender<T> {
    /// What was sent and not received waits for the next receiver.
    fn drop(&mut self) {
        self.leaving.keep = !self.end.is_all_received();
    }
}

impl<T: Message> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("memory", &self.end.segment).finish_non_exhaustive()
    }
}
