//! The producing end.

use core::fmt;

use tidewire_ring::embed::bytes::PushEnd;
use tidewire_ring::{Corrupt, Owner, RecordPushError};
use tidewire_shm::{Trust, Trusted};

use super::{Batch, Reservation};
use crate::registry::{Core, Tenure};

/// A producing end: one lane of the queue. `Send`, not `Sync`, not `Clone`.
///
/// Dropping it frees the lane; everything pushed stays and is delivered.
pub struct Producer<L: Trust = Trusted> {
    // The word is freed and the lease handed back first; end and core keep the region.
    pub(super) tenure: Tenure,
    pub(super) end: PushEnd<L>,
    pub(super) lane: u32,
    pub(super) core: Core<L>,
}

impl<L: Trust> Producer<L> {
    /// Pushes one record.
    ///
    /// # Guarantees
    /// Wait-free; no system call; no other producer can delay it. If it returns `Ok` the record is published: it
    /// survives the death of this process. Killed before, nothing of it is seen.
    ///
    /// # Errors
    /// [`RecordPushError::Full`] if there is no room in the lane now (the consumer may have consumed bytes that it has
    /// not released yet), [`RecordPushError::TooLong`] if there never can be, [`RecordPushError::Corrupt`] for good once
    /// the consumer published an impossible position.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordPushError> {
        self.end.push(record)
    }

    /// Reserves a record of `len` bytes to be written in place; nothing is published before
    /// [`Reservation::commit`].
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, L>, RecordPushError> {
        self.end.reserve(len)
    }

    /// Starts a batch: any number of records, published together with one store.
    pub fn batch(&mut self) -> Batch<'_, L> {
        self.end.batch()
    }

    /// Bytes of data of the lane, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }

    /// The longest record that the lane takes.
    #[must_use]
    pub fn max_record(&self) -> usize {
        self.end.max_record()
    }

    /// Bytes in the lane that are published and not yet released. A running consumer can only make it smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Bytes that are free. A running consumer can only make it larger. A record needs its own bytes rounded up to
    /// a multiple of 8, plus 8, plus padding at the wrap.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether nothing in the lane is unreleased. A running consumer can only turn `false` into `true`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether not even an empty record fits. A running consumer can only turn `true` into `false`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// How many bytes were ever published in this lane, by all of its owners: the position of the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.end.position()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.end.corruption()
    }

    /// Whether the consumer took this lane out of use, because of what a former owner published: then nothing that is
    /// pushed here arrives. Drop the handle and attach again.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.core.is_quarantined(self.lane as usize)
    }

    /// The number of the lane.
    #[must_use]
    pub fn lane(&self) -> u32 {
        self.lane
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

impl<L: Trust> fmt::Debug for Producer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("lane", &self.lane).field("end", &self.end).finish_non_exhaustive()
    }
}
