//! The consuming end.

use core::fmt;

use bytemuck::Pod;
use tidewire_ring::embed::Parts;
use tidewire_ring::embed::fixed::PopEnd;
use tidewire_ring::{Corrupt, Owner};
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use super::Chunk;
use crate::error::{AttachError, CorruptLane, PopError};
use crate::poll::Poller;
use crate::registry::Tenure;
use crate::seat::LaneEnd;
use crate::stats::LaneStats;
use crate::tuning::Tuning;

impl<T: Pod, L: Trust> LaneEnd<L> for PopEnd<T, L> {
    const COUNTS_MESSAGES: bool = true;

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
/// A lane whose published positions cannot be is taken out of use, and the others go on: no call fails because of it.
/// [`take_corrupt`](Self::take_corrupt) tells, once for each; look after an empty pop, say, or now and then.
///
/// Dropping it releases what it consumed and frees the role.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_mpsc::fixed::Consumer<u64>>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_mpsc::fixed::Consumer<u64>>();
/// sent::<tidewire_mpsc::fixed::Producer<u64>>();
/// ```
pub struct Consumer<T, L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind the release in `drop`; the poller keeps the region.
    pub(super) tenure: Tenure,
    pub(super) poller: Poller<PopEnd<T, L>, L>,
}

impl<T, L: Trust> Drop for Consumer<T, L> {
    fn drop(&mut self) {
        self.poller.release();
    }
}

impl<T: Pod, L: Trust> Consumer<T, L> {
    /// The end of the current lane, if a pop needs no look at anything; the message is counted as taken.
    #[doc(hidden)]
    #[inline(always)]
    pub fn ready(&mut self) -> Option<&mut PopEnd<T, L>> {
        self.poller.ready()
    }

    /// Pops one message of some producer.
    ///
    /// # Guarantees
    /// Steps bounded by the number of lanes, a few as long as one lane has more; no system call. Messages of one
    /// producer come in order. With [`AtLeastOnce`](crate::Delivery::AtLeastOnce) the message is released by a later call, with
    /// [`AtMostOnce`](crate::Delivery::AtMostOnce) before this one returns.
    ///
    /// # Errors
    /// [`PopError::Empty`] if no lane in use has one now.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        loop {
            if let Some(end) = self.poller.ready()
                && let Ok(value) = end.pop()
            {
                return Ok(value);
            }
            if !self.poller.turn() {
                return Err(PopError::Empty);
            }
        }
    }

    /// Pops one message to where it shall lie; for types that are too large to return by value.
    ///
    /// # Errors
    /// As [`pop`](Self::pop); then `to` is unchanged.
    #[inline]
    pub fn pop_to(&mut self, to: &mut T) -> Result<(), PopError> {
        loop {
            if let Some(end) = self.poller.ready()
                && end.pop_to(to).is_ok()
            {
                return Ok(());
            }
            if !self.poller.turn() {
                return Err(PopError::Empty);
            }
        }
    }

    /// Copies the message that the next pop gives, without consuming it.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn peek(&mut self) -> Result<T, PopError> {
        loop {
            if let Some(end) = self.poller.peek()
                && let Ok(value) = end.peek()
            {
                return Ok(value);
            }
            if !self.poller.turn() {
                return Err(PopError::Empty);
            }
        }
    }

    /// Pops up to `to.len()` messages of one producer and says how many; at least one, and no more than the rest of
    /// its turn: that of the budget ([`Tuning::budget`](crate::Tuning::budget)) and, with
    /// [`AtLeastOnce`](crate::Delivery::AtLeastOnce), that of the period
    /// ([`Tuning::release_every`](crate::Tuning::release_every), an eighth of the lane's capacity by default).
    ///
    /// # Errors
    /// As [`pop`](Self::pop). An empty `to` takes nothing and returns `Ok(0)`.
    #[inline]
    pub fn pop_into(&mut self, to: &mut [T]) -> Result<usize, PopError> {
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some((end, n)) = self.poller.ready_up_to(to.len() as u64) {
                #[expect(clippy::cast_possible_truncation, reason = "at most `to.len()`")]
                let to = to.split_at_mut(n as usize).0;
                if let Ok(n) = end.pop_into(to) {
                    return Ok(n);
                }
            }
            if !self.poller.turn() {
                return Err(PopError::Empty);
            }
        }
    }

    /// Up to `max` messages (at least one) of one producer to be read in place, no more than the rest of its turn: of
    /// budget and period, as for [`pop_into`](Self::pop_into). Nothing is consumed before [`Chunk::release`], and nothing
    /// released before a later call.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn read_chunk(&mut self, max: usize) -> Result<Chunk<'_, T, L>, PopError> {
        while self.poller.peek().is_none() {
            if !self.poller.turn() {
                return Err(PopError::Empty);
            }
        }
        let (end, n) = self.poller.ready_up_to(max.max(1) as u64).ok_or(PopError::Empty)?;
        end.read_chunk(usize::try_from(n).unwrap_or(max)).map_err(|_| PopError::Empty)
    }

    /// Pops message after message until the queue is empty.
    pub fn drain(&mut self) -> Drain<'_, T, L> {
        Drain { consumer: self }
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

    /// Messages that may be popped now from the lanes in use. Running producers can only make it larger.
    #[must_use]
    pub fn len(&self) -> usize {
        self.poller.len()
    }

    /// Whether no lane in use has a message. Looking releases nothing: see [`release`](Self::release).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lane that the last message came from, or the one before which a peek or chunk stands.
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

/// Pops message after message; ends when the queue is empty.
pub struct Drain<'c, T, L: Trust> {
    consumer: &'c mut Consumer<T, L>,
}

impl<T: Pod, L: Trust> Iterator for Drain<'_, T, L> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }
}

impl<T, L: Trust> fmt::Debug for Consumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("last_lane", &self.poller.lane()).finish_non_exhaustive()
    }
}

impl<T, L: Trust> fmt::Debug for Drain<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drain")
    }
}
