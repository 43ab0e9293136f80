//! The data of a ring as slots: how one is written, read and touched.

use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::sync::Payload;
use tidewire_shm::{CACHE_LINE_BYTES, Region, Trust};

use crate::layout::Parts;
use crate::touch::touch_lines;

/// The data of a ring as slots, and what keeps it alive.
pub(super) struct Slots<T, L: Trust> {
    pub(super) data: Payload,
    mask: u64,
    _region: Region<L>,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Pod, L: Trust> Slots<T, L> {
    /// The slots of a ring whose parts lie in `region`.
    ///
    /// # Safety
    /// As [`PushEnd::attach`](super::PushEnd::attach).
    pub(super) unsafe fn new(region: &Region<L>, parts: &Parts) -> Self {
        Self {
            // SAFETY: data, which holds no control words; kept with the region.
            data: unsafe { region.payload(parts.data_offset, parts.capacity * size_of::<T>()) },
            mask: parts.capacity as u64 - 1,
            // SAFETY: the handles of one ring follow one protocol, by the caller's promise.
            _region: unsafe { region.alias() },
            element: PhantomData,
        }
    }

    /// Messages that fit.
    pub(super) fn capacity(&self) -> usize {
        self.data.len() / size_of::<T>()
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the mask is below the capacity, a usize")]
    pub(super) fn index(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// S2: the offset of a position's slot, at most `data.len() - size_of::<T>()`.
    #[inline(always)]
    pub(super) fn offset(&self, position: u64) -> usize {
        self.index(position) * size_of::<T>()
    }

    /// How many of `n` slots from `position` on lie before the wrap.
    #[inline(always)]
    pub(super) fn before_wrap(&self, position: u64, n: usize) -> usize {
        n.min(self.data.len() / size_of::<T>() - self.index(position))
    }

    /// # Safety
    /// The slot is the caller's to read (I2).
    #[inline(always)]
    pub(super) unsafe fn read(&self, position: u64) -> T {
        // SAFETY: S2; aligned because data and size are; S1; the caller's promise.
        unsafe { self.data.load(self.offset(position)) }
    }

    /// # Safety
    /// The slot is the caller's to read (I2).
    #[inline(always)]
    pub(super) unsafe fn read_to(&self, position: u64, to: &mut T) {
        // SAFETY: S2; aligned because data and size are; S1; the caller's promise.
        unsafe { self.data.load_to(self.offset(position), to) };
    }

    /// # Safety
    /// The slot is the caller's to write (I2).
    #[inline(always)]
    pub(super) unsafe fn write(&self, position: u64, value: &T) {
        // SAFETY: S2; aligned because data and size are; S1; the caller's promise.
        unsafe { self.data.store(self.offset(position), value) };
    }

    /// Copies messages in, across the wrap.
    ///
    /// # Safety
    /// The slots are the caller's to write (I2).
    pub(super) unsafe fn write_slice(&self, position: u64, values: &[T]) {
        let (front, back) = values.split_at(self.before_wrap(position, values.len()));
        for (values, at) in [(front, position), (back, position.wrapping_add(front.len() as u64))] {
            // SAFETY: S2 for the first slot; `before_wrap` for the rest; the caller's promise.
            unsafe { self.data.write_bytes(self.offset(at), values.as_ptr().cast(), size_of_val(values)) };
        }
    }

    /// Copies messages out, across the wrap.
    ///
    /// # Safety
    /// The slots are the caller's to read (I2).
    pub(super) unsafe fn read_slice(&self, position: u64, values: &mut [T]) {
        let (front, back) = values.split_at_mut(self.before_wrap(position, values.len()));
        let next = position.wrapping_add(front.len() as u64);
        for (values, at) in [(front, position), (back, next)] {
            // SAFETY: S2 for the first slot; `before_wrap` for the rest; S1; the caller's promise.
            unsafe { self.data.read_bytes(self.offset(at), values.as_mut_ptr().cast(), size_of_val(values)) };
        }
    }

    /// Touches the lines that end in these slots.
    ///
    /// # Safety
    /// The slots are the caller's until it frees them, and not borrowed.
    #[inline(always)]
    pub(super) unsafe fn touch(&self, position: u64, n: usize) {
        let front = self.before_wrap(position, n);
        for (at, n) in [(position, front), (position.wrapping_add(front as u64), n - front)] {
            // SAFETY: S2 and `before_wrap`; the caller's promise.
            unsafe { self.touch_run(self.offset(at), n * size_of::<T>()) };
        }
    }

    /// [`touch`](Self::touch) for one slot, where the size often says which lines end in it.
    ///
    /// # Safety
    /// As [`touch`](Self::touch).
    #[inline(always)]
    pub(super) unsafe fn touch_one(&self, position: u64) {
        let (offset, size) = (self.offset(position), size_of::<T>());
        if size.is_multiple_of(CACHE_LINE_BYTES) {
            for line in 0..size / CACHE_LINE_BYTES {
                // SAFETY: the caller's promise; the data is line-aligned, so every line of the slot is its own.
                unsafe { self.data.touch::<u64>(offset + line * CACHE_LINE_BYTES) };
            }
        } else if size >= 8 && CACHE_LINE_BYTES.is_multiple_of(size) {
            if offset % CACHE_LINE_BYTES == CACHE_LINE_BYTES - size {
                // SAFETY: the caller's promise; the slot has at least eight bytes and is aligned to its size.
                unsafe { self.data.touch::<u64>(offset) };
            }
        } else {
            // SAFETY: the caller's promise; S2.
            unsafe { self.touch_run(offset, size) };
        }
    }

    #[inline(always)]
    unsafe fn touch_run(&self, offset: usize, len: usize) {
        if size_of::<T>().is_multiple_of(8) {
            // SAFETY: the caller's promise; sizes and offsets are multiples of eight.
            unsafe { touch_lines::<true>(&self.data, offset, len) };
        } else {
            // SAFETY: the caller's promise.
            unsafe { touch_lines::<false>(&self.data, offset, len) };
        }
    }
}
