//! Channels of bytes: messages of any length.

mod in_place;
mod receiver;
mod sender;

use std::time::Duration;

use tidewire_shm::{Region, Segment, Untrusted};

use crate::byte_queue;
use crate::error::OpenError;
use crate::ground::{Plan, own, take_a_place, take_over};
use crate::options::Options;
use crate::typed::numbers;

pub use in_place::{BytesChunk, BytesReservation};
pub use receiver::BytesReceiver;
pub use sender::{BytesSender, Writing};

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

    /// The receiving end of a channel of bytes; else as [`receiver_in`](Self::receiver_in).
    ///
    /// # Errors
    /// As [`receiver_in`](Self::receiver_in).
    pub fn bytes_receiver_in(&self, name: &str, time: Duration) -> Result<BytesReceiver, OpenError> {
        take_over(time, || self.bytes_receiver(name))
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
        take_a_place(|| BytesSender::on(plan(self)?.find_in(name, time)?, self))
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
