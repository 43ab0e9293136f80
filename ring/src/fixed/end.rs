//! The two ends of a ring of slots without their roles: what [`Producer`](super::Producer) and
//! [`Consumer`](super::Consumer) add is an owner word. A larger structure that keeps the ends apart by other means
//! embeds them as they are.
#![expect(clippy::missing_errors_doc, reason = "the handles with roles document the same methods for users")]

use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::{CACHE_LINE_BYTES, Region, Trust};

use super::chunk::{Chunk, Reservation};
use super::slots::Slots;
use crate::cursor::{HasHead, HeadCursor, Polled as _, Positions, TailCursor, Tuning};
use crate::error::{Corrupt, PopError, PushError};
use crate::layout::{KIND_FIXED, Parts, Shape};

/// Messages that count as few when the consumer decides whether to wait a moment before it looks again.
const LITTLE: u64 = 256;

/// What kind of element a `T` is.
#[must_use]
pub const fn shape<T: Pod>() -> Shape {
    Shape {
        kind: KIND_FIXED,
        element_bytes: size_of::<T>(),
        element_align: align_of::<T>(),
        min_capacity: 1,
        max_capacity: usize::MAX,
    }
}

/// The producing end, without a role.
pub struct PushEnd<T, L: Trust> {
    pub(super) cursor: TailCursor,
    pub(super) slots: Slots<T, L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T: Pod, L: Trust> PushEnd<T, L> {
    /// Starts from the published tail.
    ///
    /// # Safety
    /// - `parts` lie in `region`, apart from each other, the words 8-byte aligned, the data 128-byte aligned; the
    ///   capacity is a power of two, and `T` is not empty;
    /// - they are accessed only through the ends of one ring of this kind and of `T`, of which at most one
    ///   `PushEnd` and one `PopEnd` are used at a time in all processes that follow the protocol;
    /// - everything that a former `PushEnd` did happened before this call.
    pub unsafe fn attach(region: &Region<L>, parts: &Parts) -> Result<Self, Corrupt> {
        // SAFETY: the caller's promise; the slots keep the region.
        let cursor = TailCursor::attach(unsafe { Positions::new(region, parts, 1) })?;
        // SAFETY: the caller's promise.
        let slots = unsafe { Slots::new(region, parts) };
        Ok(Self { cursor, slots, not_sync: PhantomData })
    }

    /// See [`Producer::push_from`](super::Producer::push_from).
    #[inline(always)]
    pub fn push_from(&mut self, value: &T) -> Result<(), PushError> {
        self.cursor.require(1)?;
        let position = self.cursor.position();
        // SAFETY: I2: `require` says that the slot at the tail is free.
        unsafe { self.slots.write(position, value) };
        self.cursor.publish(position, 1);
        Ok(())
    }

    /// See [`Producer::push_slice`](super::Producer::push_slice).
    #[inline(always)]
    pub fn push_slice(&mut self, values: &[T]) -> Result<(), PushError> {
        self.cursor.require(values.len() as u64)?;
        if values.is_empty() {
            return Ok(());
        }
        let position = self.cursor.position();
        // SAFETY: I2: `require` says that as many slots are free.
        unsafe { self.slots.write_slice(position, values) };
        self.cursor.publish(position, values.len() as u64);
        Ok(())
    }

    /// See [`Producer::reserve`](super::Producer::reserve).
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Result<Reservation<'_, T, L>, PushError> {
        self.cursor.require(n as u64)?;
        Ok(Reservation::new(self, n))
    }

    /// Messages that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Messages published and not yet released.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.cursor.len()).unwrap_or(usize::MAX)
    }

    /// Whether nothing is unreleased.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What made this end useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.cursor.corruption()
    }
}

impl<T, L: Trust> PushEnd<T, L> {
    /// How many messages were ever published.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }
}

/// The consuming end, without a role. Dropping it releases nothing.
pub struct PopEnd<T, L: Trust> {
    pub(super) cursor: HeadCursor,
    pub(super) slots: Slots<T, L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T: Pod, L: Trust> PopEnd<T, L> {
    /// Starts from the published head.
    ///
    /// # Safety
    /// As [`PushEnd::attach`], for a former `PopEnd`.
    pub unsafe fn attach(region: &Region<L>, parts: &Parts) -> Result<Self, Corrupt> {
        // SAFETY: the caller's promise; the slots keep the region.
        let cursor = HeadCursor::attach(unsafe { Positions::new(region, parts, 1) }, LITTLE)?;
        // SAFETY: the caller's promise.
        let slots = unsafe { Slots::new(region, parts) };
        Ok(Self { cursor, slots, not_sync: PhantomData })
    }

    /// See [`Consumer::pop`](super::Consumer::pop).
    #[inline(always)]
    pub fn pop(&mut self) -> Result<T, PopError> {
        self.cursor.require_one()?;
        let position = self.cursor.position();
        // SAFETY: I2: `require_one` says that the slot at the head is published.
        let value = unsafe { self.slots.read(position) };
        self.consume_one(position);
        Ok(value)
    }

    /// See [`Consumer::pop_to`](super::Consumer::pop_to).
    #[inline(always)]
    pub fn pop_to(&mut self, to: &mut T) -> Result<(), PopError> {
        self.cursor.require_one()?;
        let position = self.cursor.position();
        // SAFETY: I2: `require_one` says that the slot at the head is published.
        unsafe { self.slots.read_to(position, to) };
        self.consume_one(position);
        Ok(())
    }

    /// As [`pop`](Self::pop), of what is known without a look at anything; `None` if nothing is.
    #[inline(always)]
    pub fn pop_known(&mut self) -> Option<T> {
        if !self.quick() {
            return None;
        }
        let position = self.cursor.position();
        // SAFETY: I2: what is `quick` is published.
        let value = unsafe { self.slots.read(position) };
        self.consume_one(position);
        Some(value)
    }

    /// As [`pop_to`](Self::pop_to), of what is known without a look at anything; false if nothing is.
    #[inline(always)]
    pub fn pop_known_to(&mut self, to: &mut T) -> bool {
        if !self.quick() {
            return false;
        }
        let position = self.cursor.position();
        // SAFETY: I2: what is `quick` is published.
        unsafe { self.slots.read_to(position, to) };
        self.consume_one(position);
        true
    }

    /// Touches and consumes the slot at `position`, the head, which was just read.
    #[inline(always)]
    fn consume_one(&mut self, position: u64) {
        if size_of::<T>() < CACHE_LINE_BYTES {
            self.prefetch_next_line(position);
        }
        if self.cursor.touches() {
            // SAFETY: I2: the slot is ours until the head is stored, and nothing borrows it.
            unsafe { self.slots.touch_one(position) };
        }
        self.cursor.advance_one(position);
    }

    /// Small slots share lines: fetch the next line when the first slot of one is read.
    #[inline(always)]
    fn prefetch_next_line(&self, position: u64) {
        let offset = self.slots.offset(position);
        if offset % CACHE_LINE_BYTES < size_of::<T>() {
            self.slots.data.prefetch(offset + CACHE_LINE_BYTES);
        }
    }

    /// See [`Consumer::peek`](super::Consumer::peek).
    pub fn peek(&mut self) -> Result<T, PopError> {
        self.cursor.require_one()?;
        // SAFETY: I2: `require_one` says that the slot at the head is published.
        Ok(unsafe { self.slots.read(self.cursor.position()) })
    }

    /// See [`Consumer::pop_into`](super::Consumer::pop_into).
    #[inline(always)]
    pub fn pop_into(&mut self, to: &mut [T]) -> Result<usize, PopError> {
        let position = self.cursor.position();
        if to.is_empty() {
            return Ok(0);
        }
        let n = self.cursor.require_up_to(to.len() as u64)?;
        #[expect(clippy::cast_possible_truncation, reason = "at most `to.len()`")]
        let values = to.split_at_mut(n as usize).0;
        // SAFETY: I2: `require_up_to` says that as many slots are published.
        unsafe { self.slots.read_slice(position, values) };
        if self.cursor.touches() {
            // SAFETY: I2: the slots are ours until the head is stored, and nothing borrows them.
            unsafe { self.slots.touch(position, values.len()) };
        }
        self.cursor.advance(n);
        Ok(values.len())
    }

    /// See [`Consumer::read_chunk`](super::Consumer::read_chunk).
    pub fn read_chunk(&mut self, max: usize) -> Result<Chunk<'_, T, L>, PopError> {
        let n = if max == 0 { 0 } else { self.cursor.require_up_to(max as u64)? };
        #[expect(clippy::cast_possible_truncation, reason = "at most `max`")]
        Ok(Chunk::new(self, n as usize))
    }

    /// Changes how this end waits, touches and releases.
    pub fn tune(&mut self, tuning: Tuning) {
        self.cursor.tune(tuning);
    }

    /// Messages that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Messages that may be popped now.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.cursor.len()).unwrap_or(usize::MAX)
    }

    /// Whether a pop would find nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What made this end useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.cursor.corruption()
    }
}

impl<T, L: Trust> PopEnd<T, L> {
    /// Releases everything consumed to the producer now.
    pub fn release(&mut self) {
        self.cursor.store_head();
    }

    /// How many messages were ever consumed.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }
}

impl<T, L: Trust> HasHead for PopEnd<T, L> {
    #[inline(always)]
    fn head(&self) -> &HeadCursor {
        &self.cursor
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut HeadCursor {
        &mut self.cursor
    }
}

impl<T, L: Trust> fmt::Debug for PushEnd<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushEnd").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl<T, L: Trust> fmt::Debug for PopEnd<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PopEnd").field("position", &self.position()).finish_non_exhaustive()
    }
}
