//! Slots reserved, read or drained in place.

use core::fmt;

use bytemuck::Pod;
use tidewire_shm::sync::{Span, SpanMut};
use tidewire_shm::{Trust, Trusted};

use super::Consumer;
use super::end::{PopEnd, PushEnd};
use crate::error::TooMany;

/// Free slots that a producer fills in place: [`commit`](Self::commit) publishes, dropping aborts.
///
/// # Guarantees
/// Nobody sees anything before the commit, whatever happens to this process. The slots hold stale messages until
/// they are set: whoever commits a slot that it did not set publishes an old message.
pub struct Reservation<'p, T: Pod, L: Trust> {
    producer: &'p mut PushEnd<T, L>,
    n: usize,
    borrowed: Option<(SpanMut<'p>, SpanMut<'p>)>,
}

impl<'p, T: Pod, L: Trust> Reservation<'p, T, L> {
    pub(super) fn new(producer: &'p mut PushEnd<T, L>, n: usize) -> Self {
        Self { producer, n, borrowed: None }
    }

    /// Slots reserved.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether none are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Copies messages into the slots from number `first` on.
    ///
    /// # Errors
    /// [`TooMany`] if they reach beyond the reservation; then nothing is copied.
    pub fn set(&mut self, first: usize, values: &[T]) -> Result<(), TooMany> {
        let end = first.saturating_add(values.len());
        if end > self.n {
            return Err(TooMany { available: self.n, asked: end });
        }
        self.borrowed = None;
        let position = self.producer.cursor.position().wrapping_add(first as u64);
        // SAFETY: I2: the reserved slots are free, these lie within them, and nothing borrows them now.
        unsafe { self.producer.slots.write_slice(position, values) };
        Ok(())
    }

    /// Publishes the first `k` slots with one store; the others stay free.
    ///
    /// # Errors
    /// [`TooMany`] if `k` is more than was reserved; then nothing is published.
    pub fn commit(mut self, k: usize) -> Result<(), TooMany> {
        if k > self.n {
            return Err(TooMany { available: self.n, asked: k });
        }
        self.borrowed = None;
        if k > 0 {
            let position = self.producer.cursor.position();
            self.producer.cursor.publish(position, k as u64);
        }
        Ok(())
    }
}

impl<T: Pod> Reservation<'_, T, Trusted> {
    /// The slots themselves: those before the wrap and those behind it, with unspecified contents.
    ///
    /// The contents are whatever older messages left there. Every one is a valid `T`, so nothing needs to be
    /// initialised for safety, only for sense.
    pub fn as_mut_slices(&mut self) -> (&mut [T], &mut [T]) {
        let slots = &self.producer.slots;
        let position = self.producer.cursor.position();
        let front = slots.before_wrap(position, self.n);
        let size = size_of::<T>();
        self.borrowed = None;
        // SAFETY: I2: the reserved slots are free and ours alone; peers are trusted; the producer that the
        // reservation borrows keeps the region.
        let first = unsafe { slots.data.span_mut(slots.offset(position), front * size) };
        // SAFETY: as above; behind the wrap the slots start at offset zero and do not reach the first part.
        let second = unsafe { slots.data.span_mut(0, (self.n - front) * size) };
        let (first, second) = self.borrowed.insert((first, second));
        (typed_mut(first), typed_mut(second))
    }
}

impl<T: Pod, L: Trust> fmt::Debug for Reservation<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("len", &self.n).finish_non_exhaustive()
    }
}

/// Published slots that a consumer reads in place: [`release`](Self::release) consumes, dropping does not.
///
/// # Guarantees
/// The producer writes none of these slots before they are released. Killed before, they are seen again by a
/// successor. Slices are lent only with trusted peers:
/// ```compile_fail,E0599
/// use tidewire_shm::Untrusted;
/// fn lend(mut chunk: tidewire_ring::fixed::Chunk<'_, u64, Untrusted>) {
///     chunk.as_slices();
/// }
/// ```
/// ```
/// use tidewire_shm::Trusted;
/// fn lend(mut chunk: tidewire_ring::fixed::Chunk<'_, u64, Trusted>) {
///     chunk.as_slices();
/// }
/// ```
pub struct Chunk<'c, T: Pod, L: Trust> {
    consumer: &'c mut PopEnd<T, L>,
    n: usize,
    borrowed: Option<(Span<'c>, Span<'c>)>,
}

impl<'c, T: Pod, L: Trust> Chunk<'c, T, L> {
    pub(super) fn new(consumer: &'c mut PopEnd<T, L>, n: usize) -> Self {
        Self { consumer, n, borrowed: None }
    }

    /// Messages in the chunk.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Copies messages out from number `first` on.
    ///
    /// # Errors
    /// [`TooMany`] if they reach beyond the chunk; then nothing is copied.
    pub fn get(&self, first: usize, to: &mut [T]) -> Result<(), TooMany> {
        let end = first.saturating_add(to.len());
        if end > self.n {
            return Err(TooMany { available: self.n, asked: end });
        }
        let position = self.consumer.cursor.position().wrapping_add(first as u64);
        // SAFETY: I2: the slots of the chunk are published, and these lie within them.
        unsafe { self.consumer.slots.read_slice(position, to) };
        Ok(())
    }

    /// Consumes the first `k` messages; the others are read again next time. The producer gets the slots when a
    /// release is due, or by [`Consumer::release`].
    ///
    /// # Errors
    /// [`TooMany`] if `k` is more than the chunk has; then nothing is consumed.
    pub fn release(mut self, k: usize) -> Result<(), TooMany> {
        if k > self.n {
            return Err(TooMany { available: self.n, asked: k });
        }
        self.borrowed = None;
        if self.consumer.cursor.touches() {
            // SAFETY: I2: the slots are ours until the head is stored, and nothing borrows them now.
            unsafe { self.consumer.slots.touch(self.consumer.cursor.position(), k) };
        }
        self.consumer.cursor.advance(k as u64);
        Ok(())
    }
}

impl<T: Pod> Chunk<'_, T, Trusted> {
    /// The messages themselves: those before the wrap and those behind it.
    pub fn as_slices(&mut self) -> (&[T], &[T]) {
        let slots = &self.consumer.slots;
        let position = self.consumer.cursor.position();
        let front = slots.before_wrap(position, self.n);
        let size = size_of::<T>();
        // SAFETY: I2: published slots are not written before they are released; peers are trusted; the consumer
        // that the chunk borrows keeps the region.
        let first = unsafe { slots.data.span(slots.offset(position), front * size) };
        // SAFETY: as above; behind the wrap the slots start at offset zero.
        let second = unsafe { slots.data.span(0, (self.n - front) * size) };
        let (first, second) = self.borrowed.insert((first, second));
        (typed(first), typed(second))
    }
}

impl<T: Pod, L: Trust> fmt::Debug for Chunk<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("len", &self.n).finish_non_exhaustive()
    }
}

fn typed<T: Pod>(bytes: &[u8]) -> &[T] {
    // SAFETY: a run of whole slots, aligned because data and size are; S1: any bytes are a `T`.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

fn typed_mut<T: Pod>(bytes: &mut [u8]) -> &mut [T] {
    // SAFETY: a run of whole slots, aligned because data and size are; S1: any bytes are a `T` and back.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// Pops message after message; ends when the ring is empty or corrupt.
pub struct Drain<'c, T: Pod, L: Trust> {
    consumer: &'c mut Consumer<T, L>,
}

impl<'c, T: Pod, L: Trust> Drain<'c, T, L> {
    pub(super) fn new(consumer: &'c mut Consumer<T, L>) -> Self {
        Self { consumer }
    }
}

impl<T: Pod, L: Trust> Iterator for Drain<'_, T, L> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }
}

impl<T: Pod, L: Trust> fmt::Debug for Drain<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drain")
    }
}
