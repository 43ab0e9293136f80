//! Records reserved, batched or read in place.

use core::fmt;
use core::ops::Deref;

use tidewire_shm::sync::{Span, SpanMut};
use tidewire_shm::{Trust, Trusted};

use super::end::{FRAME, KIND_MESSAGE, Message, Place, PopEnd, PushEnd, frame, framed};
use crate::error::{RecordPushError, TooMany};

/// A record that a producer writes in place: [`commit`](Self::commit) publishes, dropping aborts.
///
/// # Guarantees
/// Nobody sees anything before the commit, whatever happens to this process. Bytes that are never written are
/// those of older records.
pub struct Reservation<'p, L: Trust> {
    producer: &'p mut PushEnd<L>,
    place: Place,
    len: usize,
    borrowed: Option<SpanMut<'p>>,
}

impl<'p, L: Trust> Reservation<'p, L> {
    pub(super) fn new(producer: &'p mut PushEnd<L>, place: Place, len: usize) -> Self {
        Self { producer, place, len, borrowed: None }
    }

    /// Bytes reserved.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the record is an empty one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn offset(&self) -> usize {
        self.producer.data.offset(self.place.position) + FRAME
    }

    /// Copies bytes into the record from byte `first` on.
    ///
    /// # Errors
    /// [`TooMany`] if they reach beyond the record; then nothing is copied.
    pub fn set(&mut self, first: usize, bytes: &[u8]) -> Result<(), TooMany> {
        let end = first.saturating_add(bytes.len());
        if end > self.len {
            return Err(TooMany { available: self.len, asked: end });
        }
        self.borrowed = None;
        let offset = self.offset() + first;
        // SAFETY: the reserved bytes are free, these lie within them, and nothing borrows them now.
        unsafe { self.producer.data.bytes.write_bytes(offset, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Publishes the first `len` bytes as one record.
    ///
    /// # Errors
    /// [`TooMany`] if `len` is more than was reserved; then nothing is published.
    pub fn commit(mut self, len: usize) -> Result<(), TooMany> {
        if len > self.len {
            return Err(TooMany { available: self.len, asked: len });
        }
        self.borrowed = None;
        // SAFETY: the place's frame is free, and nothing was placed there since.
        unsafe { self.producer.data.write_frame(self.place.position, frame(KIND_MESSAGE, len)) };
        let start = self.producer.cursor.position();
        self.producer.cursor.publish(start, (self.place.padding + framed(len)) as u64);
        Ok(())
    }
}

impl Reservation<'_, Trusted> {
    /// The bytes themselves, with unspecified contents.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.borrowed = None;
        let offset = self.offset();
        // SAFETY: the reserved bytes are free and ours alone; peers are trusted; the producer that the reservation
        // borrows keeps the region.
        let span = unsafe { self.producer.data.bytes.span_mut(offset, self.len) };
        self.borrowed.insert(span)
    }
}

impl<L: Trust> fmt::Debug for Reservation<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Records that are published together: [`commit`](Self::commit) publishes, dropping aborts.
///
/// # Guarantees
/// No observer, and no crash, shows a part of the batch.
pub struct Batch<'p, L: Trust> {
    producer: &'p mut PushEnd<L>,
    filled: usize,
    records: usize,
}

impl<'p, L: Trust> Batch<'p, L> {
    pub(super) fn new(producer: &'p mut PushEnd<L>) -> Self {
        Self { producer, filled: 0, records: 0 }
    }

    /// Adds a record; what was added before stays, whatever this returns.
    ///
    /// # Errors
    /// As [`Producer::push`](super::Producer::push). A batch that needs more than the whole capacity stays `Full`: commit what there is.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordPushError> {
        let place = self.producer.place(record.len(), self.filled)?;
        // SAFETY: `place` says that frame and payload are free, behind what the batch filled.
        unsafe { self.producer.fill(place, record) };
        self.filled += place.padding + framed(record.len());
        self.records += 1;
        Ok(())
    }

    /// Records added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Publishes all records with one store and says how many: none if the ring turned corrupt meanwhile.
    #[expect(clippy::must_use_candidate, reason = "called for what it does")]
    pub fn commit(self) -> usize {
        if self.producer.corruption().is_some() {
            return 0;
        }
        if self.records > 0 {
            let start = self.producer.cursor.position();
            self.producer.cursor.publish(start, self.filled as u64);
        }
        self.records
    }
}

impl<L: Trust> fmt::Debug for Batch<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("records", &self.records).finish_non_exhaustive()
    }
}

/// The record at the head, in place; consumed when dropped, however that comes about.
///
/// With trusted peers it derefs to the bytes; otherwise it copies out. Killed before the drop, a successor sees
/// the record again.
pub struct Record<'c, L: Trust> {
    consumer: &'c mut PopEnd<L>,
    message: Message,
    /// Only with trusted peers.
    span: Option<Span<'c>>,
}

impl<'c, L: Trust> Record<'c, L> {
    pub(super) fn new(consumer: &'c mut PopEnd<L>, message: Message) -> Self {
        let span = L::TRUSTED.then(|| {
            // SAFETY: R2: the message lies within the published window and the data, where peers that are trusted
            // do not write before it is released; the consumer that the record borrows keeps the region.
            unsafe { consumer.data.bytes.span(message.offset, message.len) }
        });
        Self { consumer, message, span }
    }

    /// Bytes of the record.
    #[must_use]
    pub fn len(&self) -> usize {
        self.message.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.message.len == 0
    }

    /// Copies bytes out from byte `first` on.
    ///
    /// # Errors
    /// [`TooMany`] if they reach beyond the record; then nothing is copied.
    pub fn get(&self, first: usize, to: &mut [u8]) -> Result<(), TooMany> {
        let end = first.saturating_add(to.len());
        if end > self.message.len {
            return Err(TooMany { available: self.message.len, asked: end });
        }
        // SAFETY: R2: the message lies within the published window and the data, and these bytes within it.
        unsafe {
            self.consumer.data.bytes.read_bytes(self.message.offset + first, to.as_mut_ptr(), to.len());
        };
        Ok(())
    }
}

impl Deref for Record<'_, Trusted> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.span.as_deref().unwrap_or_default()
    }
}

impl<L: Trust> Drop for Record<'_, L> {
    fn drop(&mut self) {
        self.span = None;
        self.consumer.consume(self.message);
    }
}

impl<L: Trust> fmt::Debug for Record<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("len", &self.message.len).finish_non_exhaustive()
    }
}
