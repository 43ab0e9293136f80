//! The producing end.

use core::fmt;

use bytemuck::Pod;
use tidewire_ring::embed::fixed::PushEnd;
use tidewire_ring::{Corrupt, Owner, PushError};
use tidewire_shm::{Trust, Trusted};

use super::Reservation;
use crate::registry::{Core, Tenure};

/// A producing end: one lane of the queue. `Send`, not `Sync`, not `Clone`.
///
/// Dropping it frees the lane; everything pushed stays and is delivered.
pub struct Producer<T, L: Trust = Trusted> {
    // The word is freed and the lease handed back first; end and core keep the region.
    pub(super) tenure: Tenure,
    pub(super) end: PushEnd<T, L>,
    pub(super) lane: u32,
    pub(super) core: Core<L>,
}

impl<T: Pod, L: Trust> Producer<T, L> {
    /// The end without its role.
    #[doc(hidden)]
    #[inline(always)]
    pub fn as_end(&mut self) -> &mut PushEnd<T, L> {
        &mut self.end
    }

    /// Pushes one message.
    ///
    /// # Guarantees
    /// Wait-free; no system call; no other producer can delay it. If it returns `Ok` the message is published: it
    /// survives the death of this process. Killed before, nothing of it is seen.
    ///
    /// # Errors
    /// [`PushError::Full`] if there is no room in the lane (the consumer may have consumed up to
    /// [`Tuning::release_every`](crate::Tuning::release_every) messages that it has not released yet), [`PushError::Corrupt`] for good once the
    /// consumer published an impossible position.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), PushError> {
        self.end.push_from(&value)
    }

    /// Pushes a copy of one message from where it lies; for types that are too large to pass by value.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    #[inline]
    pub fn push_from(&mut self, value: &T) -> Result<(), PushError> {
        self.end.push_from(value)
    }

    /// Pushes all messages of a slice with one publication, or none of them.
    ///
    /// # Guarantees
    /// As [`push`](Self::push), for the whole batch: no observer, and no crash, shows a part of it.
    ///
    /// # Errors
    /// [`PushError::Full`] if they do not all fit now; more than [`capacity`](Self::capacity) never do.
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> Result<(), PushError> {
        self.end.push_slice(values)
    }

    /// Reserves `n` free slots to be filled in place; nothing is published before [`Reservation::commit`].
    ///
    /// # Errors
    /// As [`push_slice`](Self::push_slice).
    pub fn reserve(&mut self, n: usize) -> Result<Reservation<'_, T, L>, PushError> {
        self.end.reserve(n)
    }

    /// Messages that fit into the lane.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }

    /// Messages in the lane that are published and not yet released. A running consumer can only make it smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
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

impl<T, L: Trust> fmt::Debug for Producer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("lane", &self.lane).field("end", &self.end).finish_non_exhaustive()
    }
}
