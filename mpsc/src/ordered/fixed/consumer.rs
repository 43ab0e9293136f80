//! The consuming end.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_ring::{Owner, Tuning};
use tidewire_shm::{Liveness, Trust, Trusted};

use crate::error::{AttachError, CorruptLane};
use crate::ordered::error::{Corrupt, PopError};
use crate::ordered::reader::Reader;
use crate::ordered::slots::Slots;
use crate::registry::Tenure;
use crate::stats::LaneStats;

/// The consuming end. One per queue; `Send`, not `Sync`, not `Clone`.
///
/// Dropping it releases what it consumed (unless it is corrupt) and frees the role.
pub struct Consumer<T: Pod, L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind the release in `drop`; the reader keeps the region.
    pub(super) tenure: Tenure,
    pub(super) reader: Reader<L>,
    pub(super) slots: Slots<T>,
    pub(super) not_sync: PhantomData<Cell<()>>,
}

impl<T: Pod, L: Trust> Drop for Consumer<T, L> {
    fn drop(&mut self) {
        self.reader.release();
    }
}

impl<T: Pod, L: Trust> Consumer<T, L> {
    /// Pops the next message, whoever pushed it.
    ///
    /// # Guarantees
    /// Wait-free; no system call. Messages come in one order: a push that returned before another was called comes
    /// first. With [`AtLeastOnce`](crate::Delivery::AtLeastOnce) the message is released by a later call, at the latest after
    /// [`Tuning::release_every`] messages or when the queue is found empty; with [`AtMostOnce`](crate::Delivery::AtMostOnce) before this
    /// call returns.
    ///
    /// # Errors
    /// [`PopError::Empty`] if there is none now, [`PopError::Corrupt`] for good once a peer published what cannot be.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        let touch = self.reader.touches();
        let (seat, _) = self.reader.next()?;
        // SAFETY: O3: the reader says that the slot at the lane's head is published.
        let value = unsafe { self.slots.read(&seat.data, seat.head) };
        // SAFETY: O3: it is ours until the lane's head is stored.
        unsafe { self.slots.done_with_one(&seat.data, seat.head, touch) };
        self.reader.took(1, 1);
        self.reader.finish();
        Ok(value)
    }

    /// Pops one message to where it shall lie; for types that are too large to return by value.
    ///
    /// # Errors
    /// As [`pop`](Self::pop); then `to` is unchanged.
    #[inline]
    pub fn pop_to(&mut self, to: &mut T) -> Result<(), PopError> {
        let touch = self.reader.touches();
        let (seat, _) = self.reader.next()?;
        // SAFETY: O3: the reader says that the slot at the lane's head is published.
        unsafe { self.slots.read_to(&seat.data, seat.head, to) };
        // SAFETY: O3: it is ours until the lane's head is stored.
        unsafe { self.slots.done_with_one(&seat.data, seat.head, touch) };
        self.reader.took(1, 1);
        self.reader.finish();
        Ok(())
    }

    /// Copies the next message without consuming it.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn peek(&mut self) -> Result<T, PopError> {
        let (seat, _) = self.reader.next()?;
        // SAFETY: O3: the reader says that the slot at the lane's head is published.
        Ok(unsafe { self.slots.read(&seat.data, seat.head) })
    }

    /// Pops up to `to.len()` messages and says how many; at least one.
    ///
    /// # Errors
    /// As [`pop`](Self::pop). An empty `to` takes nothing and returns `Ok(0)`.
    #[inline]
    pub fn pop_into(&mut self, to: &mut [T]) -> Result<usize, PopError> {
        let touch = self.reader.touches();
        let (mut n, mut rest) = (0, to);
        while !rest.is_empty() {
            let found = if n == 0 { self.reader.next() } else { self.reader.more() };
            let (seat, left) = match found {
                Ok(found) => found,
                Err(error) if n == 0 => return Err(error),
                Err(_) => break,
            };
            let run = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
            let (values, behind) = rest.split_at_mut(run);
            // SAFETY: O3: the reader says that as many slots from the lane's head on are published.
            unsafe { self.slots.read_slice(&seat.data, seat.head, values) };
            if touch {
                // SAFETY: O3: the slots are ours until their lane's head is stored.
                unsafe { self.slots.touch(&seat.data, seat.head, run) };
            }
            self.reader.took(run as u64, run as u64);
            (n, rest) = (n + run, behind);
        }
        if n > 0 {
            self.reader.finish();
        }
        Ok(n)
    }

    /// Pops message after message until the queue is empty.
    pub fn drain(&mut self) -> Drain<'_, T, L> {
        Drain { consumer: self }
    }

    /// Releases everything that was consumed now: with [`AtLeastOnce`](crate::Delivery::AtLeastOnce), whoever calls this is done with all
    /// that was handed out.
    pub fn release(&mut self) {
        self.reader.release();
    }

    /// Changes how this consumer touches and releases. By default it releases after an eighth of the capacity of a lane,
    /// at most 64 messages.
    pub fn tune(&mut self, tuning: Tuning) {
        self.reader.tune(tuning);
    }

    /// Frees the lanes whose owner is proven dead, and says how many. Their messages are still delivered, and the next
    /// producer may have the lane at once. Only the consumer can do this: only it knows where such a lane ends.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] if the queue was made for another kind of liveness, [`AttachError::Lease`] if the
    /// system refused to answer; what was freed before stays so, and the rest can be tried again.
    pub fn reclaim<V: Liveness>(&mut self, liveness: &V) -> Result<u32, AttachError> {
        let capacity = self.reader.core().layout.capacity as u64;
        self.reader.reclaim(liveness, |seat, messages| {
            let end = seat.head.wrapping_add(messages);
            if messages <= capacity { Ok(end) } else { Err(crate::ordered::lying_tail(end)) }
        })
    }

    /// Whether a pop would find nothing, not even that the order is corrupt. Running producers can only turn `true`
    /// into `false`; what lanes out of use published counts until a pop has passed over it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// The lane that the last message came from, or the next one comes from if it was peeked at.
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

/// Pops message after message; ends when the queue is empty or corrupt.
pub struct Drain<'c, T: Pod, L: Trust> {
    consumer: &'c mut Consumer<T, L>,
}

impl<T: Pod, L: Trust> Iterator for Drain<'_, T, L> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }
}

impl<T: Pod, L: Trust> fmt::Debug for Consumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("last_lane", &self.last_lane()).finish_non_exhaustive()
    }
}

impl<T: Pod, L: Trust> fmt::Debug for Drain<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drain")
    }
}
