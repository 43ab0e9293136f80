//! The publishing end of messages of a type.

use std::fmt;
use std::time::Duration;

use tidewire_seqlock::log::{Log, LogFull};
use tidewire_shm::Segment;

use super::PublishEnd;
use crate::error::{OpenError, SendError, SendTimeoutError, TrySendError};
use crate::ground::Ground;
use crate::message::Message;
use crate::options::Options;
use crate::rest::Until;

/// The publishing end. `Send`, not `Sync`, not `Clone`.
///
/// # Guarantees
/// - A message that was published is there for every subscriber until it is overwritten; killed after that, this process
///   takes nothing of it away. Killed before, nobody sees any of it.
/// - With [`Overflow::DropOldest`](crate::Overflow::DropOldest), the default, [`publish`](Self::publish) never waits, whatever subscribers do, and each is told
///   exactly how many it missed. With [`Overflow::Block`](crate::Overflow::Block) nobody misses anything: it waits for the slowest, and for one that
///   is dead not longer than a millisecond or so.
/// - No system call unless a subscriber sleeps.
pub struct Publisher<T: Message> {
    end: PublishEnd<T>,
}

impl<T: Message> Publisher<T> {
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        Ok(Self { end: PublishEnd::on(ground, options, |region| Log::open(region, 0))? })
    }

    /// Publishes a message; says which it is: they are counted from 1. Of one that is [dropped](crate::Overflow::DropNewest) it says which the last one
    /// was that was not.
    ///
    /// # Errors
    /// [`SendError::Full`] if the slowest subscriber has no room and the publication was made to
    /// [reject](crate::Overflow::Reject), [`SendError::ForkedChild`].
    #[inline]
    pub fn publish(&mut self, value: T) -> Result<u64, SendError<T>> {
        let Some((writer, overwrites)) = self.end.writer() else {
            return Err(SendError::ForkedChild(value));
        };
        let written = if overwrites { Ok(writer.write(&value)) } else { writer.try_write(&value) };
        match written {
            Ok(version) => {
                self.end.tell();
                Ok(version)
            }
            Err(full) => self.publish_full(value, full),
        }
    }

    #[cold]
    fn publish_full(&mut self, value: T, full: LogFull) -> Result<u64, SendError<T>> {
        let published = self.end.publish_full(&mut |writer| Ok(writer.try_write(&value)?), full);
        published.map_err(|error: TrySendError<()>| error.map(|()| value).into())
    }

    /// Publishes a message, and waits for the slowest subscriber, but not longer than `time`.
    ///
    /// # Errors
    /// [`SendTimeoutError::Timeout`], [`SendTimeoutError::ForkedChild`].
    pub fn publish_timeout(&mut self, value: T, time: Duration) -> Result<u64, SendTimeoutError<T>> {
        let Some((writer, overwrites)) = self.end.writer() else {
            return Err(SendTimeoutError::ForkedChild(value));
        };
        let written = if overwrites { Ok(writer.write(&value)) } else { writer.try_write(&value) };
        match written {
            Ok(version) => {
                self.end.tell();
                Ok(version)
            }
            Err(full) => {
                let until = Until::after(time);
                let published =
                    self.end.publish_until(&mut |writer| Ok(writer.try_write(&value)?), until, full);
                published.map_err(|error| error.map(|()| value).into())
            }
        }
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

impl<T: Message> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("memory", self.memory()).finish_non_exhaustive()
    }
}
