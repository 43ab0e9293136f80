//! Channels of bytes: messages of any length.

use std::fmt;
use std::time::{Duration, Instant};

use tidewire_shm::{Region, Segment, Untrusted};

use crate::byte_queue::{self, ByteSink, ByteSource, Place};
use crate::error::{
    OpenError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use crate::ground::{Ground, Plan, own, take_a_place};
use crate::info::{self, SenderInfo};
use crate::options::{Options, Wait};
use crate::queue::{Popped, Pushed};
use crate::receive::ReceiveEnd;
use crate::rest::Until;
use crate::send::{DROPPED, Offered, SendEnd, WAITED};
use crate::typed::{Leaving, chosen, numbers, single_queue};

/// The kind of a composite that is a channel of bytes.
pub(crate) const KIND_BYTES: u32 = 0x0005_0002;

/// What stands in place of a layout.
const BYTES: &str = "bytes";

fn plan(options: &Options) -> Result<Plan<'_>, OpenError> {
    let senders = options.checked_senders()?;
    Ok(Plan {
        kind: KIND_BYTES,
        fingerprint: options.bytes_of,
        text: BYTES.to_owned(),
        numbers: numbers(options),
        entries: senders + 1,
        parts: vec![byte_queue::bytes(options)?],
        options,
    })
}

fn fill(options: &Options) -> impl FnMut(Vec<Region<Untrusted>>) -> Result<(), OpenError> + '_ {
    |parts| parts.into_iter().try_for_each(|region| byte_queue::create(region, options))
}

impl Options {
    /// The receiving end of a channel of bytes; else as [`receiver`](Self::receiver). Its capacity is in bytes.
    ///
    /// # Errors
    /// As [`receiver`](Self::receiver).
    pub fn bytes_receiver(&self, name: &str) -> Result<BytesReceiver, OpenError> {
        own(self, |options| {
            let ground = plan(options)?.join(name, &mut fill(options))?;
            Ok((ground.adopted, BytesReceiver::on(ground, options)))
        })
    }

    /// A sending end of a channel of bytes; else as [`sender`](Self::sender).
    ///
    /// # Errors
    /// As [`sender`](Self::sender).
    pub fn bytes_sender(&self, name: &str) -> Result<BytesSender, OpenError> {
        take_a_place(|| BytesSender::on(plan(self)?.find(name)?, self))
    }

    /// A sending end of a channel of bytes; else as [`sender_in`](Self::sender_in).
    ///
    /// # Errors
    /// As [`sender_in`](Self::sender_in).
    pub fn bytes_sender_in(&self, name: &str, time: Duration) -> Result<BytesSender, OpenError> {
        BytesSender::on(plan(self)?.find_in(name, time)?, self)
    }

    /// A channel of bytes without a name; else as [`channel`](Self::channel).
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    pub fn bytes_channel(&self) -> Result<(BytesSender, BytesReceiver), OpenError> {
        let segment = self.bytes_memory()?;
        let fd = segment.try_clone_fd()?;
        let receiver = self.bytes_receiver_on(segment)?;
        let sender = self.bytes_sender_on(Segment::from_fd_with(fd, &self.segment_options())?)?;
        Ok((sender, receiver))
    }

    /// The memory of a channel of bytes, to be handed to other processes; else as [`memory`](Self::memory).
    ///
    /// # Errors
    /// As [`memory`](Self::memory).
    pub fn bytes_memory(&self) -> Result<Segment, OpenError> {
        plan(self)?.anonymous(&mut fill(self))
    }

    /// The receiving end of a channel of bytes in memory that was handed over.
    ///
    /// # Errors
    /// As [`bytes_receiver`](Self::bytes_receiver).
    pub fn bytes_receiver_on(&self, memory: Segment) -> Result<BytesReceiver, OpenError> {
        BytesReceiver::on(plan(self)?.open(memory, None)?, self)
    }

    /// A sending end of a channel of bytes in memory that was handed over.
    ///
    /// # Errors
    /// As [`bytes_sender`](Self::bytes_sender).
    pub fn bytes_sender_on(&self, memory: Segment) -> Result<BytesSender, OpenError> {
        BytesSender::on(plan(self)?.open(memory, None)?, self)
    }
}

/// Opens the receiving end of a channel of bytes; else as [`receiver`](crate::receiver()).
///
/// # Errors
/// As [`receiver`](crate::receiver()).
///
/// # Examples
/// ```no_run
/// let line = tidewire::bytes_receiver("lines")?.recv()?;
/// println!("{}", String::from_utf8_lossy(&line));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bytes_receiver(name: &str) -> Result<BytesReceiver, OpenError> {
    Options::new().bytes_receiver(name)
}

/// Opens a sending end of a channel of bytes; else as [`sender`](crate::sender()).
///
/// # Errors
/// As [`sender`](crate::sender()).
///
/// # Examples
/// ```no_run
/// tidewire::bytes_sender("lines")?.send(b"a line")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bytes_sender(name: &str) -> Result<BytesSender, OpenError> {
    Options::new().bytes_sender(name)
}

/// The receiving end of a channel of bytes. `Send`, not `Sync`, not `Clone`.
///
/// The guarantees are those of a [`Receiver`](crate::Receiver).
///
/// ```
/// let (mut tx, mut rx) = tidewire::Options::new().bytes_channel()?;
/// tx.send(b"one")?;
/// tx.send(b"")?;
/// assert_eq!(rx.recv()?, b"one");
/// assert_eq!(rx.recv()?, b"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct BytesReceiver {
    pub(crate) end: ReceiveEnd<ByteSource>,
    leaving: Leaving,
}

impl BytesReceiver {
    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let (kind, _) = chosen(&ground.numbers)?;
        let leaving = Leaving::of(&ground, options);
        let source = ByteSource::open(kind, single_queue(&mut ground)?, &ground.leases)?;
        Ok(Self { end: ReceiveEnd::new(source, ground, options.wait)?, leaving })
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`](crate::Receiver::try_recv).
    pub fn try_recv(&mut self) -> Result<Vec<u8>, TryRecvError> {
        let mut to = Vec::new();
        self.try_recv_to(&mut to)?;
        Ok(to)
    }

    /// Takes a message if there is one, into a buffer that is used again; says how long it is.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_to(&mut self, to: &mut Vec<u8>) -> Result<usize, TryRecvError> {
        self.end.prepare()?;
        match self.end.outlet.pop_to(to) {
            Popped::Got(len) => Ok(len),
            first => self.end.settle(first, |source| source.pop_to(to)),
        }
    }

    /// Takes a message if there is one, into a buffer of a fixed length; says how long it is.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), and [`TryRecvError::BufferTooSmall`]; then the message is the next to be received.
    pub fn try_recv_into(&mut self, to: &mut [u8]) -> Result<usize, TryRecvError> {
        self.end.prepare()?;
        match self.end.outlet.pop_into(to) {
            Popped::Got(len) => Ok(len),
            first => self.end.settle(first, |source| source.pop_into(to)),
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// As [`Receiver::recv`](crate::Receiver::recv).
    pub fn recv(&mut self) -> Result<Vec<u8>, RecvError> {
        let mut to = Vec::new();
        self.recv_to(&mut to)?;
        Ok(to)
    }

    /// Waits for a message, into a buffer that is used again; says how long it is.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_to(&mut self, to: &mut Vec<u8>) -> Result<usize, RecvError> {
        match self.try_recv_to(to) {
            Err(TryRecvError::Empty) => Ok(self.end.take(Until::NEVER, |source| source.pop_to(to))?),
            other => Ok(other.map_err(RecvTimeoutError::from_try)?),
        }
    }

    /// Waits for a message, into a buffer of a fixed length; says how long it is.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvError::BufferTooSmall`]; then the message is the next to be received.
    pub fn recv_into(&mut self, to: &mut [u8]) -> Result<usize, RecvError> {
        match self.try_recv_into(to) {
            Err(TryRecvError::Empty) => Ok(self.end.take(Until::NEVER, |source| source.pop_into(to))?),
            other => Ok(other.map_err(RecvTimeoutError::from_try)?),
        }
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`RecvTimeoutError::Timeout`].
    pub fn recv_timeout(&mut self, time: Duration) -> Result<Vec<u8>, RecvTimeoutError> {
        let mut to = Vec::new();
        self.recv_to_timeout(&mut to, time)?;
        Ok(to)
    }

    /// Waits for a message, but not longer than `time`, into a buffer that is used again; says how long it is.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_to_timeout(&mut self, to: &mut Vec<u8>, time: Duration) -> Result<usize, RecvTimeoutError> {
        match self.try_recv_to(to) {
            Err(TryRecvError::Empty) => self.end.take(Until::after(time), |source| source.pop_to(to)),
            other => Ok(other.map_err(RecvTimeoutError::from_try)?),
        }
    }

    /// Waits for a message until a moment.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<Vec<u8>, RecvTimeoutError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// The messages that come, until all senders are gone or something is wrong: [`try_recv`](Self::try_recv) tells what.
    pub fn iter(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The messages that are there, until there is none.
    pub fn drain(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Waits until that many senders are there; whether they were in time.
    pub fn wait_senders(&mut self, count: usize, time: Duration) -> bool {
        self.end.wait_senders(count, Until::after(time))
    }

    /// Who is there to send.
    pub fn senders(&mut self) -> Vec<SenderInfo> {
        let senders = self.end.senders();
        let queued = self.end.outlet.queued();
        let info = |(entry, generation): (u32, u64)| {
            info::sender(&self.end.company.roster, entry, generation, &queued)
        };
        senders.into_iter().map(info).collect()
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

impl Drop for BytesReceiver {
    /// What was sent and not received waits for the next receiver.
    fn drop(&mut self) {
        self.leaving.keep = !self.end.is_all_received();
    }
}

impl fmt::Debug for BytesReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesReceiver").field("memory", &self.end.segment).finish_non_exhaustive()
    }
}

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
    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let (kind, overflow) = chosen(&ground.numbers)?;
        let leaving = Leaving::of(&ground, options);
        let sink = match ByteSink::open(kind, single_queue(&mut ground)?, &ground.leases) {
            Err(OpenError::Taken { role: "peer", .. }) => return Err(OpenError::Exhausted { most: 1 }),
            opened => opened?,
        };
        let end = SendEnd::new(sink, ground, options.wait, overflow)?;
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
