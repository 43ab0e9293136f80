//! Channels of messages of one type.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tidewire_shm::{Segment, SegmentOptions};

use crate::error::{
    OpenError, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use crate::ground::{Ground, Plan, own, take_a_place};
use crate::info::{self, SenderInfo};
use crate::message::Message;
use crate::options::{Kind, Options, Overflow, Wait};
use crate::queue::{self, Popped, Pushed, Sink, Source, cannot};
use crate::receive::ReceiveEnd;
use crate::rest::Until;
use crate::send::{DROPPED, Offered, SendEnd, WAITED};

/// The kind of a composite that is a channel of messages.
pub(crate) const KIND_CHANNEL: u32 = 0x0005_0001;

/// Opens the receiving end of a channel: creates the channel, or goes on where a receiver that is gone stopped.
///
/// # Errors
/// [`OpenError::Taken`] if somebody receives already, [`OpenError::Types`] if senders are there that send something else,
/// [`OpenError::Segment`] if there is no room.
///
/// # Examples
/// ```no_run
/// for tick in tidewire::receiver::<u64>("ticks")?.iter() {
///     println!("{tick}");
/// }
/// # Ok::<(), tidewire::OpenError>(())
/// ```
pub fn receiver<T: Message>(name: &str) -> Result<Receiver<T>, OpenError> {
    Options::new().receiver(name)
}

/// Opens a sending end of a channel that somebody receives from.
///
/// # Errors
/// [`OpenError::NotFound`] if nobody receives (see [`Options::sender_in`] for waiting until somebody does),
/// [`OpenError::Types`] if it receives something else, [`OpenError::Exhausted`] if there are as many senders as there can
/// be.
///
/// # Examples
/// ```no_run
/// tidewire::sender::<u64>("ticks")?.send(7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sender<T: Message>(name: &str) -> Result<Sender<T>, OpenError> {
    Options::new().sender(name)
}

/// A channel without a name, for the threads of this process.
///
/// # Errors
/// [`OpenError::Segment`] if there is no memory.
///
/// # Examples
/// ```
/// let (mut tx, mut rx) = tidewire::channel::<u64>()?;
/// let adder = std::thread::spawn(move || rx.iter().sum::<u64>());
/// for i in 1..=10 {
///     tx.send(i)?;
/// }
/// drop(tx);
/// assert_eq!(adder.join().unwrap(), 55);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn channel<T: Message>() -> Result<(Sender<T>, Receiver<T>), OpenError> {
    Options::new().channel()
}

pub(crate) fn numbers(options: &Options) -> [u64; 8] {
    let kind = match options.kind {
        Kind::Lanes => 1,
        Kind::Ordered => 2,
        Kind::Single => 3,
    };
    let overflow = overflow_number(options.overflow.unwrap_or_default());
    [u64::from(options.most_senders()), kind, overflow, 0, 0, 0, 0, 0]
}

pub(crate) fn overflow_number(overflow: Overflow) -> u64 {
    match overflow {
        Overflow::Block => 1,
        Overflow::Reject => 2,
        Overflow::DropNewest => 3,
        Overflow::DropOldest => 4,
    }
}

pub(crate) fn overflow_from(number: Option<u64>) -> Result<Overflow, OpenError> {
    let all = [Overflow::Block, Overflow::Reject, Overflow::DropNewest, Overflow::DropOldest];
    let found = number.unwrap_or(0);
    let known = all.into_iter().find(|overflow| overflow_number(*overflow) == found);
    known.ok_or_else(|| cannot(format!("expected an overflow from 1 to 4, found {found}")))
}

/// What the creator chose.
pub(crate) fn chosen(numbers: &[u64; 8]) -> Result<(Kind, Overflow), OpenError> {
    let [_, kind, overflow, ..] = numbers;
    let kind = match kind {
        1 => Kind::Lanes,
        2 => Kind::Ordered,
        3 => Kind::Single,
        found => return Err(cannot(format!("expected a kind of channel from 1 to 3, found {found}"))),
    };
    let overflow = overflow_from(Some(*overflow))?;
    Ok((kind, overflow))
}

fn plan<T: Message>(options: &Options) -> Result<Plan<'_>, OpenError> {
    let senders = options.checked_senders()?;
    Ok(Plan {
        kind: KIND_CHANNEL,
        fingerprint: T::LAYOUT.fingerprint(),
        text: T::LAYOUT.describe(),
        numbers: numbers(options),
        entries: senders + 1,
        parts: vec![queue::bytes_of::<T>(options)?],
        options,
    })
}

fn fill<T: Message>(
    options: &Options,
) -> impl FnMut(Vec<tidewire_shm::Region<tidewire_shm::Untrusted>>) -> Result<(), OpenError> + '_ {
    |parts| parts.into_iter().try_for_each(|region| queue::create::<T>(region, options))
}

impl Options {
    /// As [`receiver`](crate::receiver()), with these options. What a channel is was chosen by whoever created it: one that
    /// goes on with what a former receiver left takes it as it is.
    ///
    /// # Errors
    /// As [`receiver`](crate::receiver()); [`OpenError::Options`] if what was chosen cannot be.
    pub fn receiver<T: Message>(&self, name: &str) -> Result<Receiver<T>, OpenError> {
        own(self, |options| {
            let ground = plan::<T>(options)?.join(name, &mut fill::<T>(options))?;
            Ok((ground.adopted, Receiver::on(ground, options)))
        })
    }

    /// As [`sender`](crate::sender()), with these options, of which how to wait and the directory matter.
    ///
    /// # Errors
    /// As [`sender`](crate::sender()).
    pub fn sender<T: Message>(&self, name: &str) -> Result<Sender<T>, OpenError> {
        take_a_place(|| Sender::on(plan::<T>(self)?.find(name)?, self))
    }

    /// As [`sender`](Self::sender), and waits as long for somebody who receives: a sender may start before its receiver.
    ///
    /// # Errors
    /// [`OpenError::TimedOut`] if nobody came, else as [`sender`](Self::sender).
    pub fn sender_in<T: Message>(&self, name: &str, time: Duration) -> Result<Sender<T>, OpenError> {
        Sender::on(plan::<T>(self)?.find_in(name, time)?, self)
    }

    /// As [`channel`](crate::channel()), with these options.
    ///
    /// # Errors
    /// As [`channel`](crate::channel()); [`OpenError::Options`] if what was chosen cannot be.
    pub fn channel<T: Message>(&self) -> Result<(Sender<T>, Receiver<T>), OpenError> {
        let segment = self.memory::<T>()?;
        let fd = segment.try_clone_fd()?;
        let receiver = self.receiver_on(segment)?;
        let sender = self.sender_on(Segment::from_fd_with(fd, &self.segment_options())?)?;
        Ok((sender, receiver))
    }

    /// The memory of a channel without a name, to be handed to other processes: over a socket ([`Segment::send`]) or to a
    /// child ([`Segment::inherit`]). It is sealed, leaves nothing behind, and works between users and containers.
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    ///
    /// # Examples
    /// ```
    /// use tidewire::Options;
    /// use tidewire::shm::Segment;
    ///
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// let memory = Options::new().memory::<u64>()?;
    /// memory.send(&ours)?;
    /// let mut rx = Options::new().receiver_on::<u64>(memory)?;
    /// // In another process:
    /// let mut tx = Options::new().sender_on::<u64>(Segment::receive(&theirs)?)?;
    /// tx.send(7)?;
    /// assert_eq!(rx.recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memory<T: Message>(&self) -> Result<Segment, OpenError> {
        plan::<T>(self)?.anonymous(&mut fill::<T>(self))
    }

    /// The receiving end of a channel in memory that was handed over.
    ///
    /// # Errors
    /// As [`receiver`](Self::receiver).
    pub fn receiver_on<T: Message>(&self, memory: Segment) -> Result<Receiver<T>, OpenError> {
        Receiver::on(plan::<T>(self)?.open(memory, None)?, self)
    }

    /// A sending end of a channel in memory that was handed over. That nobody receives yet is no error.
    ///
    /// # Errors
    /// As [`sender`](Self::sender).
    pub fn sender_on<T: Message>(&self, memory: Segment) -> Result<Sender<T>, OpenError> {
        Sender::on(plan::<T>(self)?.open(memory, None)?, self)
    }
}

/// Takes a name away, as the last thing that an end does, if nobody else uses it and nothing is left there for anybody.
#[derive(Debug)]
pub(crate) struct Leaving {
    name: Option<String>,
    /// The memory that had the name.
    memory: Option<OwnedFd>,
    options: SegmentOptions,
    /// Whether the name stays.
    pub(crate) keep: bool,
}

impl Leaving {
    pub(crate) fn of(ground: &Ground, options: &Options) -> Self {
        // Without a descriptor the name is left for the next who joins or cleans.
        let memory = ground.segment.try_clone_fd().ok();
        Self { name: ground.name(), memory, options: options.segment_options(), keep: false }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let (Some(name), Some(memory), false) = (&self.name, &self.memory, self.keep) {
            // What cannot be removed now is found by the next who joins or cleans.
            let _removed = Segment::discard_with(name, memory, &self.options);
        }
    }
}

pub(crate) fn single_queue(
    ground: &mut Ground,
) -> Result<tidewire_shm::Region<tidewire_shm::Untrusted>, OpenError> {
    ground.parts.pop().ok_or_else(|| cannot("expected a queue, found none"))
}

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
    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let (kind, _) = chosen(&ground.numbers)?;
        let leaving = Leaving::of(&ground, options);
        let source = Source::open(kind, single_queue(&mut ground)?, &ground.leases)?;
        Ok(Self { end: ReceiveEnd::new(source, ground, options.wait)?, leaving })
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none now, [`TryRecvError::Disconnected`] if there is none and all senders are
    /// gone. That nobody has come yet is only empty.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
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
    #[inline]
    pub fn recv(&mut self) -> Result<T, RecvError> {
        match self.try_recv() {
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
        match self.try_recv_to(to) {
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

    /// Who is there to send.
    pub fn senders(&mut self) -> Vec<SenderInfo> {
        let senders = self.end.senders();
        let lanes = self.end.outlet.queued();
        let info = |(entry, generation): (u32, u64)| {
            info::sender(&self.end.company.roster, entry, generation, &lanes)
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

/// A sending end of a channel. `Send`, not `Sync`; for another thread [open another one](Self::try_clone).
///
/// # Guarantees
/// - A message is sent, or given back with the reason, or dropped and counted if the channel was made so.
/// - A wait for room ends, mostly within a millisecond, as an error, when the receiver is gone or dead; or goes on when another
///   receiver takes its place.
/// - While there is room and the receiver is awake, no system call, no allocation and no lock.
/// - No other sender can delay this one, but for room in a channel of [one order](Kind::Ordered).
pub struct Sender<T: Message> {
    pub(crate) end: SendEnd<Sink<T>>,
    leaving: Leaving,
    options: Options,
}

impl<T: Message> Sender<T> {
    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let (kind, overflow) = chosen(&ground.numbers)?;
        let leaving = Leaving::of(&ground, options);
        let sink = match Sink::open(kind, single_queue(&mut ground)?, &ground.leases) {
            Err(OpenError::Taken { role: "peer", .. }) => return Err(OpenError::Exhausted { most: 1 }),
            opened => opened?,
        };
        let end = SendEnd::new(sink, ground, options.wait, overflow)?;
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
        match self.end.offer(&mut |sink: &mut Sink<T>| sink.push(&value)) {
            Offered::Sent => Ok(()),
            Offered::Full => Err(TrySendError::Full(value)),
            Offered::Failed(error) => Err(error.map(|()| value)),
        }
    }

    /// Sends a message. If there is no room, what happens is what was [chosen](Overflow) for the channel: waiting is the
    /// default.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] if nobody is there to receive, or goes while this waits; [`SendError::Full`] if the
    /// channel rejects.
    #[inline]
    pub fn send(&mut self, value: T) -> Result<(), SendError<T>> {
        if self.sends_at_once(&value) {
            return Ok(());
        }
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
        self.end.send(|sink| sink.push(value))
    }

    /// The hot path: true if that was all. If not, nothing is changed, and the ways around it try again.
    #[inline(always)]
    fn sends_at_once(&mut self, value: &T) -> bool {
        let sent = self.end.is_open() && matches!(self.end.inlet.push(value), Pushed::Done);
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
        match self.end.offer(&mut |sink: &mut Sink<T>| sink.push(value)) {
            Offered::Sent => Ok(()),
            Offered::Full => Err(TrySendError::Full(())),
            Offered::Failed(error) => Err(error),
        }
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
            if self.end.overflow != Overflow::Block && !self.room_for(batch) {
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
        self.end.inlet.capacity().saturating_sub(self.end.inlet.len()) >= batch.len()
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

    /// Another sending end of the same channel, for another thread.
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
        self.end.inlet.len()
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
