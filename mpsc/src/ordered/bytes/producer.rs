//! The producing end, and batches.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use tidewire_ring::Owner;
use tidewire_shm::sync::Payload;
use tidewire_shm::{Trust, Trusted};

use crate::ordered::error::{Corrupt, RecordPushError};
use crate::ordered::lane::Lane;
use crate::ordered::order::{MAX_RUN, Publisher};
use crate::ordered::records::{Place, Records, max_record};
use crate::registry::{Core, Tenure};

/// A producing end: one lane of the queue. `Send`, not `Sync`, not `Clone`.
///
/// Dropping it frees the lane; everything pushed stays and is delivered.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_mpsc::ordered::bytes::Producer>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_mpsc::ordered::bytes::Producer>();
/// sent::<tidewire_mpsc::ordered::bytes::Consumer>();
/// ```
pub struct Producer<L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind what `drop` stores; the core keeps the region.
    tenure: Tenure,
    lane: Lane,
    publisher: Publisher,
    records: Records,
    data: Payload,
    number: u32,
    core: Core<L>,
    not_sync: PhantomData<Cell<()>>,
}

impl<L: Trust> Drop for Producer<L> {
    fn drop(&mut self) {
        self.lane.store_tail();
    }
}

impl<L: Trust> Producer<L> {
    pub(super) fn new(
        core: Core<L>,
        number: usize,
        tenure: Tenure,
        lane: Lane,
        publisher: Publisher,
    ) -> Self {
        let parts = core.layout.lane(number);
        // SAFETY: data of a validated layout; the handle keeps the region.
        let data = unsafe { core.region.payload(parts.data_offset, parts.capacity) };
        let records = Records::new(parts.capacity);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        Self { tenure, lane, publisher, records, data, number, core, not_sync: PhantomData }
    }

    /// Pushes one record.
    ///
    /// # Guarantees
    /// Lock-free; no system call; a producer that is stopped or dead delays nobody. If it returns `Ok` the record is
    /// published, behind every record whose push returned before this one was called: it survives the death of this
    /// process. Killed before, either nothing of it is seen or all.
    ///
    /// # Errors
    /// [`RecordPushError::TooLong`] if it is longer than [`max_record`](Self::max_record), [`RecordPushError::Full`] if
    /// there is no room in the lane now, [`RecordPushError::Corrupt`] for good once a peer published what cannot be.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordPushError> {
        let place = self.place(record.len(), 0)?;
        // SAFETY: O3: `place` says that its bytes are free.
        unsafe { self.records.fill(&self.data, place, record) };
        self.publish(1, place.bytes())
    }

    /// Starts a batch: records that are published together, neighbours in the order.
    pub fn batch(&mut self) -> Batch<'_, L> {
        Batch { producer: self, filled: 0, records: 0 }
    }

    /// Finds room for a record of `len` bytes behind `ahead` bytes that are filled but not published.
    #[inline(always)]
    fn place(&mut self, len: usize, ahead: usize) -> Result<Place, RecordPushError> {
        if len > self.max_record() {
            return Err(RecordPushError::TooLong {
                max: u32::try_from(self.max_record()).unwrap_or(u32::MAX),
            });
        }
        let start = self.lane.position().wrapping_add(ahead as u64);
        let place = self.records.place(&self.data, start, len);
        self.lane.require((ahead + place.bytes()) as u64)?;
        Ok(place)
    }

    #[inline(always)]
    fn publish(&mut self, records: u64, bytes: usize) -> Result<(), RecordPushError> {
        match self.publisher.publish(records) {
            Ok(()) => {
                self.lane.advance(bytes as u64);
                Ok(())
            }
            Err(corrupt) => Err(RecordPushError::Corrupt(self.lane.latch(corrupt))),
        }
    }

    /// The longest record that a lane takes.
    #[must_use]
    pub fn max_record(&self) -> usize {
        max_record(self.data.len())
    }

    /// Bytes of the lane, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Bytes in the lane that are published and not yet released. A running consumer can only make it smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.lane.len()).unwrap_or(usize::MAX)
    }

    /// Bytes that may be filled now, frames and padding included. A running consumer can only make it larger.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether nothing in the lane is unreleased. A running consumer can only turn `false` into `true`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes were ever published in this lane, by all of its owners.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.lane.position()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.lane.corruption()
    }

    /// Whether the consumer took this lane out of use, because of what was published for it: then nothing that is
    /// pushed here arrives. Drop the handle and attach again.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.core.is_quarantined(self.number as usize)
    }

    /// The number of the lane.
    #[must_use]
    pub fn lane(&self) -> u32 {
        self.number
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

/// Records that are published together: [`commit`](Self::commit) publishes, dropping aborts.
///
/// # Guarantees
/// No observer, and no crash, shows a part of the batch.
pub struct Batch<'p, L: Trust> {
    producer: &'p mut Producer<L>,
    filled: usize,
    records: usize,
}

impl<L: Trust> Batch<'_, L> {
    /// Adds a record; what was added before stays, whatever this returns.
    ///
    /// # Errors
    /// As [`Producer::push`]. A batch that has 1024 records, or that needs more than the whole capacity, stays `Full`:
    /// commit what there is.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordPushError> {
        let place = self.producer.place(record.len(), self.filled)?;
        if self.records == MAX_RUN {
            return Err(RecordPushError::Full);
        }
        // SAFETY: O3: `place` says that its bytes are free, behind what the batch filled.
        unsafe { self.producer.records.fill(&self.producer.data, place, record) };
        self.filled += place.bytes();
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

    /// Publishes all records with one order word and says how many.
    ///
    /// # Errors
    /// [`RecordPushError::Corrupt`] if a peer published what cannot be; then nothing is published.
    pub fn commit(self) -> Result<usize, RecordPushError> {
        if let Some(corrupt) = self.producer.corruption() {
            return Err(RecordPushError::Corrupt(corrupt));
        }
        if self.records > 0 {
            self.producer.publish(self.records as u64, self.filled)?;
        }
        Ok(self.records)
    }
}

impl<L: Trust> fmt::Debug for Producer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.lane.position();
        f.debug_struct("Producer")
            .field("lane", &self.number)
            .field("position", &position)
            .finish_non_exhaustive()
    }
}

impl<L: Trust> fmt::Debug for Batch<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("records", &self.records).finish_non_exhaustive()
    }
}
