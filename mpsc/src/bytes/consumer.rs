//! The consuming end.

use core::fmt;

use tidewire_ring::embed::Parts;
use tidewire_ring::embed::bytes::PopEnd;
use tidewire_ring::{Corrupt, Owner};
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use super::Record;
use crate::error::{AttachError, CorruptLane, RecordPopError};
use crate::poll::Poller;
use crate::registry::Tenure;
use crate::seat::LaneEnd;
use crate::stats::LaneStats;
use crate::tuning::Tuning;

impl<L: Trust> LaneEnd<L> for PopEnd<L> {
    const COUNTS_MESSAGES: bool = false;

    unsafe fn attach(region: &Region<L>, parts: &Parts) -> Result<Self, Corrupt> {
        // SAFETY: the caller's promise.
        unsafe { Self::attach(region, parts) }
    }

    fn tune(&mut self, tuning: tidewire_ring::Tuning) {
        self.tune(tuning);
    }

    fn len(&self) -> usize {
        self.len()
    }
}

/// The consuming end. One per queue; `Send`, not `Sync`, not `Clone`.
///
/// A lane whose published positions or frames cannot be is taken out of use, and the others go on: no call fails because of it.
/// [`take_corrupt`](Self::take_corrupt) tells, once for each; look after an empty pop, say, or now and then.
///
/// Dropping it releases what it consumed and frees the role.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_mpsc::bytes::Consumer>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_mpsc::bytes::Consumer>();
/// sent::<tidewire_mpsc::bytes::Producer>();
/// ```
pub struct Consumer<L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind the release in `drop`; the poller keeps the region.
    pub(super) tenure: Tenure,
    pub(super) poller: Poller<PopEnd<L>, L>,
}

impl<L: Trust> Drop for Consumer<L> {
    fn drop(&mut self) {
        self.poller.release();
    }
}

impl<L: Trust> Consumer<L> {
    /// Copies the next record of some producer out and consumes it; says how long it is.
    ///
    /// # Guarantees
    /// Steps bounded by the number of lanes, a few as long as one lane has more; no system call. Records of one
    /// producer come in order. With [`AtLeastOnce`](crate::Delivery::AtLeastOnce) the record is released by a later call, with
    /// [`AtMostOnce`](crate::Delivery::AtMostOnce) before this one returns.
    ///
    /// # Errors
    /// [`RecordPopError::Empty`] if no lane in use has one now, [`RecordPopError::BufferTooSmall`]: the record stays, and
    /// is the next to be popped.
    #[inline]
    pub fn pop_into(&mut self, to: &mut [u8]) -> Result<usize, RecordPopError> {
        loop {
            if let Some(end) = self.poller.ready() {
                match end.pop_into(to) {
                    Ok(len) => return Ok(len),
                    Err(error) => self.refused(error)?,
                }
            }
            self.turn()?;
        }
    }

    /// The next record in place; **it is consumed when the [`Record`] is dropped**, also by an early return or a panic.
    /// To keep it, forget it: then the next pop finds it again. It is released by a later call.
    ///
    /// # Errors
    /// [`RecordPopError::Empty`] if no lane in use has one now.
    pub fn pop(&mut self) -> Result<Record<'_, L>, RecordPopError> {
        self.peek_len()?;
        let end = self.poller.ready().ok_or(RecordPopError::Empty)?;
        end.pop().map_err(|_| RecordPopError::Empty)
    }

    /// The length of the record that the next pop gives, which stays.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn peek_len(&mut self) -> Result<usize, RecordPopError> {
        loop {
            if let Some(end) = self.poller.peek() {
                match end.peek_len() {
                    Ok(len) => {
                        self.poller.pin();
                        return Ok(len);
                    }
                    Err(error) => self.refused(error)?,
                }
            }
            self.turn()?;
        }
    }

    #[inline(always)]
    fn turn(&mut self) -> Result<(), RecordPopError> {
        if self.poller.turn() { Ok(()) } else { Err(RecordPopError::Empty) }
    }

    /// A pop of the current lane failed: the caller's affair, or that of the lane.
    #[cold]
    fn refused(&mut self, error: tidewire_ring::RecordPopError) -> Result<(), RecordPopError> {
        match error {
            tidewire_ring::RecordPopError::Empty => {}
            tidewire_ring::RecordPopError::BufferTooSmall { needed } => {
                self.poller.pin();
                return Err(RecordPopError::BufferTooSmall { needed });
            }
            tidewire_ring::RecordPopError::Corrupt(corrupt) => self.poller.quarantine_current(corrupt),
        }
        Ok(())
    }

    /// Releases everything that was consumed now: with [`AtLeastOnce`](crate::Delivery::AtLeastOnce), whoever calls this is done with all
    /// that was handed out.
    pub fn release(&mut self) {
        self.poller.release();
    }

    /// Changes how this consumer waits, touches, releases and goes from lane to lane.
    pub fn tune(&mut self, tuning: Tuning) {
        self.poller.tune(tuning);
    }

    /// Looks at the owner words of all lanes. Call it before sleeping: a producer that was stopped between taking its
    /// lane and saying so is otherwise found only after many turns.
    pub fn rescan(&mut self) {
        self.poller.rescan();
    }

    /// Frees the lanes whose owner is proven dead, and says how many. Their messages are still delivered, and the next
    /// producer may have the lane at once.
    ///
    /// # Errors
    /// As [`Queue::reclaim`](super::Queue::reclaim).
    pub fn reclaim<V: Liveness>(&self, liveness: &V) -> Result<u32, AttachError> {
        self.poller.core().reclaim(liveness)
    }

    /// Bytes published and not yet consumed in the lanes in use, frames and padding included. Running producers can only make it larger.
    #[must_use]
    pub fn len(&self) -> usize {
        self.poller.len()
    }

    /// Whether no lane in use has a record. Looking releases nothing: see [`release`](Self::release).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lane that the last message came from, or the one that was peeked at.
    #[must_use]
    pub fn last_lane(&self) -> Option<u32> {
        self.poller.lane()
    }

    /// One of the lanes that were taken out of use, each once.
    pub fn take_corrupt(&mut self) -> Option<CorruptLane> {
        self.poller.take_corrupt()
    }

    /// The lanes that this consumer took out of use.
    pub fn quarantined(&self) -> impl Iterator<Item = CorruptLane> + '_ {
        self.poller.quarantined()
    }

    /// What can be seen of the lanes now.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.poller.core().lanes()
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

impl<L: Trust> fmt::Debug for Consumer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("last_lane", &self.poller.lane()).finish_non_exhaustive()
    }
}
