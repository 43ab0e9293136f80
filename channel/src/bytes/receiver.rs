//! The receiving end.

use std::fmt;
use std::time::{Duration, Instant};

use tidewire_shm::Segment;

use super::BytesChunk;
use crate::byte_queue::ByteSource;
use crate::error::{OpenError, RecvError, RecvTimeoutError, TryRecvError};
use crate::ground::Ground;
use crate::info::{self, SenderInfo};
use crate::options::{Options, Wait};
use crate::queue::{Popped, Shape};
use crate::receive::ReceiveEnd;
use crate::rest::Until;
use crate::typed::{Leaving, single_queue};

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
    pub(super) fn on(ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let adopted = ground.adopted;
        let (end, leaving) = Leaving::with(ground, options, adopted, |mut ground| {
            let shape = Shape::of(&ground.numbers, options)?;
            let source = ByteSource::open(shape, single_queue(&mut ground)?, &ground.leases)?;
            ReceiveEnd::new(source, ground, options.wait)
        })?;
        Ok(Self { end, leaving })
    }

    /// Waits for a message, to be read where it lies: see [`BytesChunk`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    /// ```
    /// let (mut tx, mut rx) = tidewire::Options::new().bytes_channel()?;
    /// tx.send(b"a long message")?;
    /// let message = rx.read()?;
    /// let mut piece = [0; 4];
    /// message.get(2, &mut piece)?;
    /// assert_eq!((message.len(), &piece), (14, b"long"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&mut self) -> Result<BytesChunk<'_>, RecvError> {
        self.end.take(Until::NEVER, ByteSource::look)?;
        Ok(self.lend())
    }

    /// As [`read`](Self::read), if there is a message.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_read(&mut self) -> Result<BytesChunk<'_>, TryRecvError> {
        self.end.try_take(ByteSource::look)?;
        Ok(self.lend())
    }

    /// As [`read`](Self::read), and waits not longer than `time`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn read_timeout(&mut self, time: Duration) -> Result<BytesChunk<'_>, RecvTimeoutError> {
        self.end.take(Until::after(time), ByteSource::look)?;
        Ok(self.lend())
    }

    fn lend(&mut self) -> BytesChunk<'_> {
        let (source, mark) = self.end.split();
        BytesChunk::new(source.lend(), mark)
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
