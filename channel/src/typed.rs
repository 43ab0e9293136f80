//! Channels of messages of one type.

mod in_place;
mod receiver;
mod sender;

use std::os::fd::OwnedFd;
use std::time::Duration;

use tidewire_shm::{Segment, SegmentOptions};

use crate::error::OpenError;
use crate::ground::{Ground, Plan, own, take_a_place, take_over};
use crate::message::Message;
use crate::options::{Kind, Options, Overflow};
use crate::queue::{self, cannot};

pub use in_place::{Chunk, Reservation};
pub use receiver::{Drain, Iter, Receiver};
pub use sender::Sender;

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
    if options.bytes_of != 0 {
        return Err(cannot(
            "expected no name of a content, since the type of the messages says it, found one",
        ));
    }
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

    /// As [`receiver`](Self::receiver), and where somebody receives already, waits as long for it to go: a receiver that stands by.
    /// It takes over within a few milliseconds of the death of the other.
    ///
    /// # Errors
    /// [`OpenError::Taken`] if somebody received all that time, else as [`receiver`](Self::receiver).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # let place = tempfile::tempdir()?;
    /// # let options = tidewire::Options::new().directory(place.path().join("segments"));
    /// let first = options.receiver::<u64>("ticks")?;
    /// let second = std::thread::spawn(move || options.receiver_in::<u64>("ticks", Duration::from_secs(5)));
    /// drop(first);
    /// assert!(second.join().unwrap().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn receiver_in<T: Message>(&self, name: &str, time: Duration) -> Result<Receiver<T>, OpenError> {
        take_over(time, || self.receiver(name))
    }

    /// As [`sender`](crate::sender()), with these options, of which those of the end itself matter: how to wait, the directory, how
    /// memory is mapped, whether peers are trusted. What the channel is, its receiver chose.
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
        take_a_place(|| Sender::on(plan::<T>(self)?.find_in(name, time)?, self))
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
    /// Has an end opened on what was found. Where that fails, a name that was made for it goes, after all that it stood on:
    /// as long as that is there, somebody uses the name. `keep`: what lies there may be somebody's.
    pub(crate) fn with<R>(
        ground: Ground,
        options: &Options,
        keep: bool,
        open: impl FnOnce(Ground) -> Result<R, OpenError>,
    ) -> Result<(R, Self), OpenError> {
        let mut leaving = Self::of(&ground, options);
        let opened = open(ground);
        leaving.keep = keep && opened.is_err();
        opened.map(|opened| (opened, leaving))
    }

    /// Of an end that takes no name away.
    pub(crate) fn nothing(options: &Options) -> Self {
        Self { name: None, memory: None, options: options.segment_options(), keep: true }
    }

    pub(crate) fn of(ground: &Ground, options: &Options) -> Self {
        Self::from(&ground.segment, options)
    }

    pub(crate) fn from(segment: &Segment, options: &Options) -> Self {
        // Without a descriptor the name is left for the next who joins or cleans.
        let memory = segment.try_clone_fd().ok();
        let name = segment.name().map(ToString::to_string);
        Self { name, memory, options: options.segment_options(), keep: false }
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
