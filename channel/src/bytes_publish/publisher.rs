//! The publishing end.

use std::fmt;
use std::time::{Duration, Instant};

use tidewire_seqlock::log::{LogFull, TryWriteError, bytes};
use tidewire_shm::Segment;

use crate::error::{OpenError, SendError, SendTimeoutError, TrySendError};
use crate::ground::Ground;
use crate::options::Options;
use crate::publish::PublishEnd;
use crate::rest::Until;

/// The publishing end of a publication of bytes. `Send`, not `Sync`, not `Clone`.
///
/// The guarantees are those of a [`Publisher`](crate::Publisher).
pub struct BytesPublisher {
    end: PublishEnd<bytes::Bytes>,
}

impl BytesPublisher {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        Ok(Self { end: PublishEnd::on(ground, options, |region| bytes::open(region, 0))? })
    }

    /// Publishes a message; says which it is: they are counted from 1. Of one that is [dropped](crate::Overflow::DropNewest) it says which the last one
    /// was that was not.
    ///
    /// # Errors
    /// As [`Publisher::publish`](crate::Publisher::publish), and [`SendError::TooLong`].
    #[inline]
    pub fn publish(&mut self, message: &[u8]) -> Result<u64, SendError<()>> {
        match self.write(message)? {
            Ok(version) => Ok(version),
            Err(full) => {
                let published = self.end.publish_full(&mut |writer| writer.try_write_bytes(message), full);
                Ok(published?)
            }
        }
    }

    /// Publishes a message, and waits for the slowest subscriber, but not longer than `time`.
    ///
    /// # Errors
    /// As [`Publisher::publish_timeout`](crate::Publisher::publish_timeout), and [`SendTimeoutError::TooLong`].
    pub fn publish_timeout(&mut self, message: &[u8], time: Duration) -> Result<u64, SendTimeoutError<()>> {
        match self.write(message)? {
            Ok(version) => Ok(version),
            Err(full) => {
                let mut attempt = |writer: &mut bytes::Writer<_, _>| writer.try_write_bytes(message);
                Ok(self.end.publish_until(&mut attempt, Until::after(time), full)?)
            }
        }
    }

    /// Publishes a message, and waits for the slowest subscriber until a moment.
    ///
    /// # Errors
    /// As [`publish_timeout`](Self::publish_timeout).
    pub fn publish_deadline(
        &mut self,
        message: &[u8],
        deadline: Instant,
    ) -> Result<u64, SendTimeoutError<()>> {
        self.publish_timeout(message, deadline.saturating_duration_since(Instant::now()))
    }

    /// The hot path.
    #[inline(always)]
    fn write(&mut self, message: &[u8]) -> Result<Result<u64, LogFull>, TrySendError<()>> {
        let (writer, overwrites) = self.end.writer().ok_or(TrySendError::ForkedChild(()))?;
        let written = if overwrites {
            writer.write_bytes(message).map_err(TryWriteError::from)
        } else {
            writer.try_write_bytes(message)
        };
        match written {
            Ok(version) => {
                self.end.tell();
                Ok(Ok(version))
            }
            Err(TryWriteError::Full(full)) => Ok(Err(full)),
            Err(TryWriteError::TooLong(long)) => Err(TrySendError::TooLong((), long.max)),
        }
    }

    /// The longest message that there can be.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.end.max_message()
    }

    /// Waits until that many subscribers are there that may write; whether they were in time.
    pub fn wait_subscribers(&mut self, count: usize, time: Duration) -> bool {
        self.end.wait_subscribers(count, time)
    }

    /// How many subscribers are there, but for those that cannot write.
    pub fn subscribers(&mut self) -> usize {
        self.end.subscribers()
    }

    /// How many messages were published, ever; the number of the last one.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.end.published()
    }

    /// Messages that were dropped since there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.end.dropped()
    }

    /// The memory of the publication, to hand it to other processes.
    #[must_use]
    pub fn memory(&self) -> &Segment {
        self.end.memory()
    }
}

impl fmt::Debug for BytesPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesPublisher").field("memory", self.memory()).finish_non_exhaustive()
    }
}
