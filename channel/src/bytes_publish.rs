//! Publications of bytes: messages of any length up to a longest one.
//!
//! Ends, waiting, deaths and what is missed are those of [`publish`](crate::publish).

mod publisher;
mod subscriber;

use std::time::Duration;

use tidewire_seqlock::log::bytes;
use tidewire_shm::{Region, Segment, Untrusted};

use crate::error::OpenError;
use crate::ground::{Plan, own, take_a_place};
use crate::options::Options;
use crate::publish::{log_options, look_at, publication};
use crate::queue::cannot;

pub use publisher::BytesPublisher;
pub use subscriber::BytesSubscriber;

/// The kind of a composite that bytes are published to.
pub(crate) const KIND_PUBLISH_BYTES: u32 = 0x0005_0006;

/// What stands in place of a layout.
const BYTES: &str = "bytes";
/// Bytes of the longest message, where nothing is chosen.
const MAX_MESSAGE: usize = 4096;

fn max(options: &Options) -> usize {
    options.max_message.unwrap_or(MAX_MESSAGE)
}

fn plan(options: &Options) -> Result<Plan<'_>, OpenError> {
    let max = max(options);
    let log_bytes = bytes::region_bytes(max, &log_options(options, max)?).map_err(cannot)?;
    publication(options, KIND_PUBLISH_BYTES, (options.bytes_of, BYTES.to_owned()), log_bytes)
}

fn fill(options: &Options) -> impl FnMut(Vec<Region<Untrusted>>) -> Result<(), OpenError> + '_ {
    |parts| {
        parts.into_iter().try_for_each(|region| {
            let max = max(options);
            bytes::create(region, max, &log_options(options, max)?).map(drop).map_err(cannot)
        })
    }
}

/// Opens the publishing end of a publication of bytes; else as [`publisher`](crate::publisher()).
///
/// # Errors
/// As [`publisher`](crate::publisher()).
///
/// # Examples
/// ```no_run
/// tidewire::bytes_publisher("lines")?.publish(b"a line")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bytes_publisher(name: &str) -> Result<BytesPublisher, OpenError> {
    Options::new().bytes_publisher(name)
}

/// Subscribes to bytes that somebody publishes, from now on; else as [`subscriber`](crate::subscriber()).
///
/// # Errors
/// As [`subscriber`](crate::subscriber()).
///
/// # Examples
/// ```no_run
/// let line = tidewire::bytes_subscriber("lines")?.recv()?;
/// println!("{}", String::from_utf8_lossy(&line));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bytes_subscriber(name: &str) -> Result<BytesSubscriber, OpenError> {
    Options::new().bytes_subscriber(name)
}

impl Options {
    /// Bytes of the longest message that can be published as bytes; 4096, if nothing else is chosen. Each message that is kept
    /// takes so much room, all of it when the publication is created: of long ones choose a small [capacity](Self::capacity), too.
    /// Whoever creates the publication chooses it.
    ///
    /// It concerns [`bytes_publisher`](Self::bytes_publisher) and its like alone: in a channel of bytes the capacity decides.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// The publishing end of a publication of bytes; else as [`publisher`](Self::publisher). Its capacity is how many messages
    /// are kept, of up to [`max_message`](Self::max_message) bytes each.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    pub fn bytes_publisher(&self, name: &str) -> Result<BytesPublisher, OpenError> {
        own(self, |options| {
            let ground = plan(options)?.join(name, &mut fill(options))?;
            Ok((ground.adopted, BytesPublisher::on(ground, options)))
        })
    }

    /// Subscribes to bytes; else as [`subscriber`](Self::subscriber).
    ///
    /// # Errors
    /// As [`subscriber`](Self::subscriber).
    pub fn bytes_subscriber(&self, name: &str) -> Result<BytesSubscriber, OpenError> {
        take_a_place(|| BytesSubscriber::on(plan(self)?.find(name)?, self))
    }

    /// Subscribes to bytes; else as [`subscriber_in`](Self::subscriber_in).
    ///
    /// # Errors
    /// As [`subscriber_in`](Self::subscriber_in).
    pub fn bytes_subscriber_in(&self, name: &str, time: Duration) -> Result<BytesSubscriber, OpenError> {
        take_a_place(|| BytesSubscriber::on(plan(self)?.find_in(name, time)?, self))
    }

    /// Subscribes to bytes with memory that this process cannot write; else as [`observer`](Self::observer).
    ///
    /// # Errors
    /// As [`observer`](Self::observer).
    pub fn bytes_observer(&self, name: &str) -> Result<BytesSubscriber, OpenError> {
        BytesSubscriber::observing(look_at(&plan(self)?, name)?, self)
    }

    /// A publisher of bytes and a subscriber without a name; else as [`publish`](Self::publish).
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut first) = tidewire::Options::new().max_message(100).bytes_publish()?;
    /// publisher.publish(b"high water")?;
    /// assert_eq!(first.recv()?, b"high water");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes_publish(&self) -> Result<(BytesPublisher, BytesSubscriber), OpenError> {
        let segment = self.bytes_publish_memory()?;
        let fd = segment.try_clone_fd()?;
        let publisher = self.bytes_publisher_on(segment)?;
        Ok((publisher, self.bytes_subscriber_on(Segment::from_fd_with(fd, &self.segment_options())?)?))
    }

    /// The memory of a publication of bytes, to be handed to other processes; else as [`memory`](Self::memory).
    ///
    /// # Errors
    /// As [`memory`](Self::memory).
    pub fn bytes_publish_memory(&self) -> Result<Segment, OpenError> {
        plan(self)?.anonymous(&mut fill(self))
    }

    /// The publishing end of a publication of bytes in memory that was handed over.
    ///
    /// # Errors
    /// As [`bytes_publisher`](Self::bytes_publisher).
    pub fn bytes_publisher_on(&self, memory: Segment) -> Result<BytesPublisher, OpenError> {
        BytesPublisher::on(plan(self)?.open(memory, None)?, self)
    }

    /// A subscriber to bytes in memory that was handed over.
    ///
    /// # Errors
    /// As [`bytes_subscriber`](Self::bytes_subscriber).
    pub fn bytes_subscriber_on(&self, memory: Segment) -> Result<BytesSubscriber, OpenError> {
        BytesSubscriber::on(plan(self)?.open(memory, None)?, self)
    }
}
