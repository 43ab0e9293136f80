//! Publish and subscribe: one publisher, and subscribers that come and go, each at its own pace.
//!
//! What is published lies in a log. Messages of a type and [bytes](crate::bytes_publish) differ in how one is written there and
//! read; all else is done by the ends that stand here.

mod end;
mod publisher;
mod reading;
mod subscriber;

use std::time::Duration;

use tidewire_seqlock::log::{Log, Options as LogOptions};
use tidewire_seqlock::{AttachError, Wake};
use tidewire_shm::{Region, RoleId, Segment, SegmentLeases, Untrusted};

use crate::company::OWNER;
use crate::error::OpenError;
use crate::ground::{Ground, Plan, own, take_a_place};
use crate::message::Message;
use crate::options::{Options, Overflow};
use crate::queue::{cannot, is_vacant};
use crate::typed::overflow_number;

pub(crate) use end::PublishEnd;
pub use publisher::Publisher;
pub(crate) use reading::{Next, Source, SubscribeEnd};
pub use subscriber::Subscriber;

/// The kind of a composite that is published to.
pub(crate) const KIND_PUBLISH: u32 = 0x0005_0005;

/// Opens the publishing end of a name: creates it, or goes on where a publisher that is gone stopped. What is published
/// overwrites the oldest, whoever has not read it.
///
/// # Errors
/// [`OpenError::Taken`] if somebody publishes already, [`OpenError::Types`] if subscribers are there that expect something
/// else, [`OpenError::Segment`] if there is no room.
///
/// # Examples
/// ```no_run
/// tidewire::publisher::<u64>("ticks")?.publish(7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn publisher<T: Message>(name: &str) -> Result<Publisher<T>, OpenError> {
    Options::new().publisher(name)
}

/// Subscribes to what somebody publishes, from now on.
///
/// # Errors
/// [`OpenError::NotFound`] if nobody publishes (see [`Options::subscriber_in`] for waiting until somebody does),
/// [`OpenError::Types`] if it is something else, [`OpenError::Exhausted`] if there are as many subscribers as there can be.
///
/// # Examples
/// ```no_run
/// let mut ticks = tidewire::subscriber::<u64>("ticks")?;
/// println!("{}", ticks.recv()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn subscriber<T: Message>(name: &str) -> Result<Subscriber<T>, OpenError> {
    Options::new().subscriber(name)
}

/// How what is published is found in a part.
pub(crate) type Open<T> = fn(Region<Untrusted>) -> Result<Log<T, Untrusted>, AttachError>;

/// What the log of a publication is, of messages of so many bytes.
pub(crate) fn log_options(options: &Options, message_bytes: usize) -> Result<LogOptions, OpenError> {
    const ABOUT_BYTES: usize = 1 << 20;
    let fits = (ABOUT_BYTES / message_bytes.max(1)).clamp(16, 1024);
    let wanted = options.capacity.unwrap_or(fits).max(4);
    let capacity = wanted.checked_next_power_of_two().and_then(|capacity| u32::try_from(capacity).ok());
    let capacity = capacity.ok_or_else(|| cannot(format!("expected fewer than {wanted} messages")))?;
    Ok(LogOptions::new(capacity).gates(options.senders).liveness::<SegmentLeases>().wake(Wake::Never))
}

/// What a publication is whose log takes so many bytes.
pub(crate) fn publication(
    options: &Options,
    kind: u32,
    (fingerprint, text): (u64, String),
    log_bytes: usize,
) -> Result<Plan<'_>, OpenError> {
    if !(1..tidewire_shm::bell::ROSTER_MAX).contains(&options.senders) {
        return Err(cannot(format!("expected 1 to 255 subscribers, found {}", options.senders)));
    }
    let overflow = overflow_number(options.overflow.unwrap_or(Overflow::DropOldest));
    Ok(Plan {
        kind,
        fingerprint,
        text,
        numbers: [u64::from(options.senders), overflow, 0, 0, 0, 0, 0, 0],
        entries: options.senders + 1,
        parts: vec![log_bytes],
        options,
    })
}

fn plan<T: Message>(options: &Options) -> Result<Plan<'_>, OpenError> {
    let log_options = log_options(options, size_of::<T>())?;
    let bytes = Log::<T, Untrusted>::bytes(&log_options).map_err(cannot)?;
    publication(options, KIND_PUBLISH, (T::LAYOUT.fingerprint(), T::LAYOUT.describe()), bytes)
}

/// Opens what somebody owns for an observer.
pub(crate) fn look_at(plan: &Plan<'_>, name: &str) -> Result<Ground, OpenError> {
    let segment = Segment::open_read_only_with(name, &plan.options.segment_options())?;
    let ground = plan.open(segment, None)?;
    if !ground.roster.entry(OWNER).present || is_vacant(&ground.leases, RoleId::CONSUMER) {
        return Err(OpenError::NotFound { name: name.to_owned() });
    }
    Ok(ground)
}

fn fill<T: Message>(options: &Options) -> impl FnMut(Vec<Region<Untrusted>>) -> Result<(), OpenError> + '_ {
    |parts| {
        parts.into_iter().try_for_each(|region| {
            Log::<T, _>::create(region, &log_options(options, size_of::<T>())?).map(drop).map_err(cannot)
        })
    }
}

impl Options {
    /// As [`publisher`](crate::publisher()), with these options: [`capacity`](Self::capacity) is how many messages are kept,
    /// [`senders`](Self::senders) how many subscribers there can be that may write, and [`overflow`](Self::overflow) what becomes
    /// of messages that a subscriber is too slow for.
    ///
    /// # Errors
    /// As [`publisher`](crate::publisher()); [`OpenError::Options`] if what was chosen cannot be.
    pub fn publisher<T: Message>(&self, name: &str) -> Result<Publisher<T>, OpenError> {
        own(self, |options| {
            let ground = plan::<T>(options)?.join(name, &mut fill::<T>(options))?;
            Ok((ground.adopted, Publisher::on(ground, options)))
        })
    }

    /// As [`subscriber`](crate::subscriber()), with these options, of which [`history`](Self::history), how to wait, and the
    /// directory matter.
    ///
    /// # Errors
    /// As [`subscriber`](crate::subscriber()).
    pub fn subscriber<T: Message>(&self, name: &str) -> Result<Subscriber<T>, OpenError> {
        take_a_place(|| Subscriber::on(plan::<T>(self)?.find(name)?, self))
    }

    /// As [`subscriber`](Self::subscriber), and waits as long for somebody who publishes.
    ///
    /// # Errors
    /// [`OpenError::TimedOut`] if nobody came, else as [`subscriber`](Self::subscriber).
    pub fn subscriber_in<T: Message>(&self, name: &str, time: Duration) -> Result<Subscriber<T>, OpenError> {
        take_a_place(|| Subscriber::on(plan::<T>(self)?.find_in(name, time)?, self))
    }

    /// Subscribes with memory that this process cannot write: the kernel sees to it. Nobody knows of such a subscriber, and
    /// there may be any number of them; no publisher waits for one or wakes it, so that it looks for itself, after a while
    /// every millisecond; in a [`Select`](crate::Select) every 10.
    ///
    /// # Errors
    /// As [`subscriber`](Self::subscriber), but for [`OpenError::Exhausted`].
    pub fn observer<T: Message>(&self, name: &str) -> Result<Subscriber<T>, OpenError> {
        Subscriber::observing(look_at(&plan::<T>(self)?, name)?, self)
    }

    /// A publisher and a subscriber without a name, for the threads of this process.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut first) = tidewire::Options::new().publish::<u64>()?;
    /// publisher.publish(7)?;
    /// assert_eq!(first.recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish<T: Message>(&self) -> Result<(Publisher<T>, Subscriber<T>), OpenError> {
        let segment = self.publish_memory::<T>()?;
        let fd = segment.try_clone_fd()?;
        let publisher = self.publisher_on(segment)?;
        Ok((publisher, self.subscriber_on(Segment::from_fd_with(fd, &self.segment_options())?)?))
    }

    /// The memory of a publication without a name, to be handed to other processes; else as [`memory`](Self::memory).
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    pub fn publish_memory<T: Message>(&self) -> Result<Segment, OpenError> {
        plan::<T>(self)?.anonymous(&mut fill::<T>(self))
    }

    /// The publishing end in memory that was handed over.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    pub fn publisher_on<T: Message>(&self, memory: Segment) -> Result<Publisher<T>, OpenError> {
        Publisher::on(plan::<T>(self)?.open(memory, None)?, self)
    }

    /// A subscriber in memory that was handed over.
    ///
    /// # Errors
    /// As [`subscriber`](Self::subscriber).
    pub fn subscriber_on<T: Message>(&self, memory: Segment) -> Result<Subscriber<T>, OpenError> {
        Subscriber::on(plan::<T>(self)?.open(memory, None)?, self)
    }
}

fn attached<R>(result: Result<R, AttachError>, role: &'static str) -> Result<R, OpenError> {
    result.map_err(|error| match error {
        AttachError::Incompatible(error) => error.into(),
        AttachError::RoleTaken(owner) => OpenError::Taken { role, pid: Some(owner.id) },
        AttachError::GatesExhausted { gates } => OpenError::Exhausted { most: gates },
        AttachError::Lease(tidewire_shm::LeaseError::Held { .. }) => OpenError::Taken { role, pid: None },
        AttachError::Lease(error) => OpenError::Lease(error),
        error => cannot(error),
    })
}
