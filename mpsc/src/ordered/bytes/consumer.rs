//! The consuming end, and records in place.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use tidewire_ring::{Owner, TooMany, Tuning};
use tidewire_shm::sync::{Payload, Span};
use tidewire_shm::{Liveness, Trust, Trusted};

use crate::error::{AttachError, CorruptLane};
use crate::ordered::error::{Corrupt, RecordPopError};
use crate::ordered::reader::Reader;
use crate::ordered::records::{FRAME, Message, Records};
use crate::ordered::slots::touch_lines;
use crate::registry::Tenure;
use crate::stats::LaneStats;

/// The consuming end. One per queue; `Send`, not `Sync`, not `Clone`.
///
/// A lane with a frame that cannot be is taken out of use, and the others go on: no call fails because of it.
/// [`take_corrupt`](Self::take_corrupt) tells, once for each.
///
/// Dropping it releases what it consumed (unless it is corrupt) and frees the role.
pub struct Consumer<L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind the release in `drop`; the reader keeps the region.
    tenure: Tenure,
    reader: Reader<L>,
    records: Records,
    not_sync: PhantomData<Cell<()>>,
}

impl<L: Trust> Drop for Consumer<L> {
    fn drop(&mut self) {
        self.reader.release();
    }
}

impl<L: Trust> Consumer<L> {
    pub(super) fn new(tenure: Tenure, reader: Reader<L>, records: Records) -> Self {
        Self { tenure, reader, records, not_sync: PhantomData }
    }

    /// Copies the next record out, whoever pushed it, and consumes it; says how long it is.
    ///
    /// # Guarantees
    /// Wait-free; no system call. Records come in one order: a push that returned before another was called comes
    /// first. With [`AtLeastOnce`](crate::Delivery::AtLeastOnce) the record is released by a later call, at the latest
    /// after [`Tuning::release_every`] bytes or when the queue is found empty; with
    /// [`AtMostOnce`](crate::Delivery::AtMostOnce) before this call returns.
    ///
    /// # Errors
    /// [`RecordPopError::Empty`] if there is none now, [`RecordPopError::BufferTooSmall`]: the record stays,
    /// [`RecordPopError::Corrupt`] for good once a peer published what cannot be.
    #[inline]
    pub fn pop_into(&mut self, to: &mut [u8]) -> Result<usize, RecordPopError> {
        let (data, message) = self.message()?;
        let Some(to) = to.get_mut(..message.len) else {
            return Err(RecordPopError::BufferTooSmall {
                needed: u32::try_from(message.len).unwrap_or(u32::MAX),
            });
        };
        // SAFETY: O3: the record is published; it was validated against the data.
        unsafe { data.read_bytes(message.offset, to.as_mut_ptr(), message.len) };
        self.consume(&data, message);
        Ok(message.len)
    }

    /// The next record in place; **it is consumed when the [`Record`] is dropped**, also by an early return or a panic.
    /// To keep it, forget it: then the next pop finds it again.
    ///
    /// # Errors
    /// As [`pop_into`](Self::pop_into).
    pub fn pop(&mut self) -> Result<Record<'_, L>, RecordPopError> {
        let (data, message) = self.message()?;
        let span = L::TRUSTED.then(|| {
            // SAFETY: O3: peers that are trusted do not write a published record before it is released; it was validated
            // against the data; the consumer that the record borrows keeps the region.
            unsafe { data.span(message.offset, message.len) }
        });
        Ok(Record { consumer: self, data, message, span })
    }

    /// The length of the record that the next pop gives, which stays.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn peek_len(&mut self) -> Result<usize, RecordPopError> {
        Ok(self.message()?.1.len)
    }

    /// The next record; lanes that give none that can be are taken out of use.
    #[inline(always)]
    fn message(&mut self) -> Result<(Payload, Message), RecordPopError> {
        loop {
            let (seat, _) = self.reader.next()?;
            // SAFETY: O3: the reader says that a record is published at the lane's head.
            match unsafe { self.records.message(&seat.data, seat.head) } {
                #[cfg_attr(
                    not(loom),
                    allow(clippy::clone_on_copy, reason = "under loom it is a counted handle")
                )]
                Ok(message) => return Ok((seat.data.clone(), message)),
                // At most once for each lane.
                Err(corrupt) => self.reader.quarantine_current(corrupt),
            }
        }
    }

    /// Touches and consumes the record that was just read.
    #[inline(always)]
    fn consume(&mut self, data: &Payload, message: Message) {
        if self.reader.touches() {
            // SAFETY: O3: the record is ours until its lane's head is stored, and nothing borrows it.
            unsafe { touch_lines(data, message.offset - FRAME, FRAME + message.len.next_multiple_of(FRAME)) };
        }
        self.reader.took(1, message.bytes as u64);
        self.reader.finish();
    }

    /// Releases everything that was consumed now: with [`AtLeastOnce`](crate::Delivery::AtLeastOnce), whoever calls this
    /// is done with all that was handed out.
    pub fn release(&mut self) {
        self.reader.release();
    }

    /// Changes how this consumer touches and releases. By default it releases after an eighth of the capacity of a lane.
    pub fn tune(&mut self, tuning: Tuning) {
        self.reader.tune(tuning);
    }

    /// Frees the lanes whose owner is proven dead, and says how many. Their records are still delivered, and the next
    /// producer may have the lane at once. Only the consumer can do this: only it knows where such a lane ends.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] if the queue was made for another kind of liveness, [`AttachError::Lease`] if the
    /// system refused to answer; what was freed before stays so, and the rest can be tried again.
    pub fn reclaim<V: Liveness>(&mut self, liveness: &V) -> Result<u32, AttachError> {
        let records = self.records;
        let capacity = self.reader.core().layout.capacity as u64;
        self.reader.reclaim(liveness, |seat, messages| {
            let mut end = seat.head;
            for _ in 0..messages {
                // SAFETY: O3: the reader says that so many records from the lane's head on are published, and with the
                // owner's lease everything that it wrote is seen.
                let message = unsafe { records.message(&seat.data, end) }?;
                end = end.wrapping_add(message.bytes as u64);
                if end.wrapping_sub(seat.head) > capacity {
                    return Err(crate::ordered::lying_tail(end));
                }
            }
            Ok(end)
        })
    }

    /// Whether a pop would find nothing, not even that the order is corrupt. Running producers can only turn `true`
    /// into `false`; what lanes out of use published counts until a pop has passed over it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// The lane that the last record came from, or the next one comes from if it was looked at.
    #[must_use]
    pub fn last_lane(&self) -> Option<u32> {
        self.reader.lane()
    }

    /// One of the lanes that were taken out of use, each once.
    pub fn take_corrupt(&mut self) -> Option<CorruptLane> {
        self.reader.take_corrupt()
    }

    /// The lanes that this consumer took out of use.
    pub fn quarantined(&self) -> impl Iterator<Item = CorruptLane> + '_ {
        self.reader.quarantined()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.reader.corruption()
    }

    /// What can be seen of the lanes now. As [`Queue::lanes`](super::Queue::lanes).
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.reader.core().lanes()
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

/// The next record, in place; consumed when dropped, however that comes about.
///
/// With trusted peers it derefs to the bytes; otherwise it copies out. Killed before the drop, a successor sees
/// the record again.
pub struct Record<'c, L: Trust> {
    consumer: &'c mut Consumer<L>,
    data: Payload,
    message: Message,
    /// Only with trusted peers.
    span: Option<Span<'c>>,
}

impl<L: Trust> Record<'_, L> {
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
        // SAFETY: O3: the record is published; it was validated against the data, and these bytes lie within it.
        unsafe { self.data.read_bytes(self.message.offset + first, to.as_mut_ptr(), to.len()) };
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
        self.consumer.consume(&self.data, self.message);
    }
}

impl<L: Trust> fmt::Debug for Consumer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("last_lane", &self.last_lane()).finish_non_exhaustive()
    }
}

impl<L: Trust> fmt::Debug for Record<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("len", &self.message.len).finish_non_exhaustive()
    }
}
