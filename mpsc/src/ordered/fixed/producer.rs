//! The producing end.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_ring::Owner;
use tidewire_shm::sync::Payload;
use tidewire_shm::{Trust, Trusted};

use super::most_at_once;
use crate::ordered::error::{Corrupt, PushError};
use crate::ordered::lane::Lane;
use crate::ordered::order::Publisher;
use crate::ordered::slots::Slots;
use crate::registry::{Core, Tenure};

/// A producing end: one lane of the queue. `Send`, not `Sync`, not `Clone`.
///
/// Dropping it frees the lane; everything pushed stays and is delivered.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_mpsc::ordered::fixed::Producer<u64>>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_mpsc::ordered::fixed::Producer<u64>>();
/// sent::<tidewire_mpsc::ordered::fixed::Consumer<u64>>();
/// ```
pub struct Producer<T, L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind what `drop` stores; the core keeps the region.
    pub(super) tenure: Tenure,
    pub(super) lane: Lane,
    pub(super) publisher: Publisher,
    pub(super) slots: Slots<T>,
    pub(super) data: Payload,
    pub(super) number: u32,
    pub(super) core: Core<L>,
    pub(super) not_sync: PhantomData<Cell<()>>,
}

impl<T, L: Trust> Drop for Producer<T, L> {
    fn drop(&mut self) {
        self.lane.store_tail();
    }
}

impl<T: Pod, L: Trust> Producer<T, L> {
    /// Pushes one message.
    ///
    /// # Guarantees
    /// Lock-free; no system call; a producer that is stopped or dead delays nobody. If it returns `Ok` the message is
    /// published, behind every message whose push returned before this one was called: it survives the death of this
    /// process. Killed before, either nothing of it is seen or all.
    ///
    /// # Errors
    /// [`PushError::Full`] if there is no room in the lane (the consumer may have consumed messages that it has not
    /// released yet), [`PushError::Corrupt`] for good once a peer published what cannot be.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), PushError> {
        self.push_from(&value)
    }

    /// Pushes a copy of one message from where it lies; for types that are too large to pass by value.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    #[inline]
    pub fn push_from(&mut self, value: &T) -> Result<(), PushError> {
        self.lane.require(1)?;
        // SAFETY: O3: `require` says that the slot is free.
        unsafe { self.slots.write(&self.data, self.lane.position(), value) };
        self.publish(1)
    }

    /// Pushes all messages of a slice with one publication, or none of them. They are neighbours in the order.
    ///
    /// # Guarantees
    /// As [`push`](Self::push), for the whole batch: no observer, and no crash, shows a part of it.
    ///
    /// # Errors
    /// [`PushError::TooMany`] if they are more than [`max_batch`](Self::max_batch), [`PushError::Full`] if they do not
    /// all fit now, else as [`push`](Self::push).
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> Result<(), PushError> {
        if values.len() > self.max_batch() {
            return Err(PushError::TooMany { max: u32::try_from(self.max_batch()).unwrap_or(u32::MAX) });
        }
        self.lane.require(values.len() as u64)?;
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: O3: `require` says that as many slots are free.
        unsafe { self.slots.write_slice(&self.data, self.lane.position(), values) };
        self.publish(values.len() as u64)
    }

    #[inline(always)]
    fn publish(&mut self, run: u64) -> Result<(), PushError> {
        match self.publisher.publish(run) {
            Ok(()) => {
                self.lane.advance(run);
                Ok(())
            }
            Err(corrupt) => Err(PushError::Corrupt(self.lane.latch(corrupt))),
        }
    }

    /// The most messages that one [`push_slice`](Self::push_slice) takes: 1024, or the capacity if that is smaller.
    #[must_use]
    pub fn max_batch(&self) -> usize {
        most_at_once(&self.core.layout)
    }

    /// Messages that fit into the lane.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.core.layout.capacity
    }

    /// Messages in the lane that are published and not yet released. A running consumer can only make it smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.lane.len()).unwrap_or(usize::MAX)
    }

    /// Messages that may be pushed now. A running consumer can only make it larger.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether nothing in the lane is unreleased. A running consumer can only turn `false` into `true`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a push would find no room. A running consumer can only turn `true` into `false`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// How many messages were ever published in this lane, by all of its owners: the position of the next one.
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

impl<T, L: Trust> fmt::Debug for Producer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("lane", &self.number)
            .field("position", &self.lane.position())
            .finish_non_exhaustive()
    }
}
