//! The data of a lane as slots: how one is written, read and touched.

use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::CACHE_LINE_BYTES;
use tidewire_shm::sync::Payload;

const WORD: usize = 8;

/// How positions of a lane map to its slots. The same for all lanes, so the data is named by each call.
///
/// Every call's `data` is that of a lane of `capacity` slots of `T`, which is aligned to 128 bytes.
pub(super) struct Slots<T> {
    mask: u64,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Pod> Slots<T> {
    /// For lanes of `capacity` slots, a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        Self { mask: capacity as u64 - 1, element: PhantomData }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the mask is below the capacity, a usize")]
    fn index(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// The offset of a position's slot, at most the bytes of the data less those of one slot (O7).
    #[inline(always)]
    fn offset(&self, position: u64) -> usize {
        self.index(position) * size_of::<T>()
    }

    /// How many of `n` slots from `position` on lie before the wrap.
    #[inline(always)]
    fn before_wrap(&self, data: &Payload, position: u64, n: usize) -> usize {
        n.min(data.len() / size_of::<T>() - self.index(position))
    }

    /// # Safety
    /// The slot is the caller's to write.
    #[inline(always)]
    pub(super) unsafe fn write(&self, data: &Payload, position: u64, value: &T) {
        // SAFETY: O7; aligned because data and size are; the caller's promise.
        unsafe { data.store(self.offset(position), value) };
    }

    /// Copies messages in, across the wrap.
    ///
    /// # Safety
    /// The slots are the caller's to write.
    pub(super) unsafe fn write_slice(&self, data: &Payload, position: u64, values: &[T]) {
        let (front, back) = values.split_at(self.before_wrap(data, position, values.len()));
        for (values, at) in [(front, position), (back, position.wrapping_add(front.len() as u64))] {
            // SAFETY: O7 for the first slot; `before_wrap` for the rest; the caller's promise.
            unsafe { data.write_bytes(self.offset(at), values.as_ptr().cast(), size_of_val(values)) };
        }
    }

    /// # Safety
    /// The slot is the caller's to read.
    #[inline(always)]
    pub(super) unsafe fn read(&self, data: &Payload, position: u64) -> T {
        // SAFETY: O7; aligned because data and size are; any bytes are a `T`; the caller's promise.
        unsafe { data.load(self.offset(position)) }
    }

    /// # Safety
    /// The slot is the caller's to read.
    #[inline(always)]
    pub(super) unsafe fn read_to(&self, data: &Payload, position: u64, to: &mut T) {
        // SAFETY: as in `read`.
        unsafe { data.load_to(self.offset(position), to) };
    }

    /// Copies messages out, across the wrap.
    ///
    /// # Safety
    /// The slots are the caller's to read.
    pub(super) unsafe fn read_slice(&self, data: &Payload, position: u64, values: &mut [T]) {
        let (front, back) = values.split_at_mut(self.before_wrap(data, position, values.len()));
        let next = position.wrapping_add(front.len() as u64);
        for (values, at) in [(front, position), (back, next)] {
            // SAFETY: O7 for the first slot; `before_wrap` for the rest; any bytes are a `T`; the caller's promise.
            unsafe { data.read_bytes(self.offset(at), values.as_mut_ptr().cast(), size_of_val(values)) };
        }
    }

    /// Ends the use of a slot that was read: touches it, and fetches the next line where slots share lines.
    ///
    /// # Safety
    /// The slot is the caller's until it frees it.
    #[inline(always)]
    pub(super) unsafe fn done_with_one(&self, data: &Payload, position: u64, touch: bool) {
        let offset = self.offset(position);
        if size_of::<T>() < CACHE_LINE_BYTES && offset % CACHE_LINE_BYTES < size_of::<T>() {
            data.prefetch(offset + CACHE_LINE_BYTES);
        }
        if touch {
            // SAFETY: the caller's promise.
            unsafe { self.touch_one(data, position) };
        }
    }

    /// Touches the lines that end in one slot, where the size often says which.
    ///
    /// # Safety
    /// The slot is the caller's until it frees it.
    #[inline(always)]
    unsafe fn touch_one(&self, data: &Payload, position: u64) {
        let (offset, size) = (self.offset(position), size_of::<T>());
        if size.is_multiple_of(CACHE_LINE_BYTES) {
            for line in 0..size / CACHE_LINE_BYTES {
                // SAFETY: the caller's promise; the data is line-aligned, so every line of the slot is its own.
                unsafe { data.touch::<u64>(offset + line * CACHE_LINE_BYTES) };
            }
        } else if size >= WORD && CACHE_LINE_BYTES.is_multiple_of(size) {
            if offset % CACHE_LINE_BYTES == CACHE_LINE_BYTES - size {
                // SAFETY: the caller's promise; the slot has at least eight bytes and is aligned to its size.
                unsafe { data.touch::<u64>(offset) };
            }
        } else {
            // SAFETY: O7; the caller's promise.
            unsafe { touch_lines(data, offset, size) };
        }
    }

    /// Touches the lines that end in these slots.
    ///
    /// # Safety
    /// The slots are the caller's until it frees them.
    pub(super) unsafe fn touch(&self, data: &Payload, position: u64, n: usize) {
        let front = self.before_wrap(data, position, n);
        for (at, n) in [(position, front), (position.wrapping_add(front as u64), n - front)] {
            // SAFETY: O7 and `before_wrap`; the caller's promise.
            unsafe { touch_lines(data, self.offset(at), n * size_of::<T>()) };
        }
    }
}

/// Touches each cache line whose last byte lies in `offset .. offset + len`; the others are somebody else's to touch.
///
/// # Safety
/// The bytes are the caller's to write until it frees them, and within `data`.
#[inline(always)]
pub(super) unsafe fn touch_lines(data: &Payload, offset: usize, len: usize) {
    let words = (offset | len).is_multiple_of(WORD);
    let mut end = (offset + len) & !(CACHE_LINE_BYTES - 1);
    while end > offset {
        if words {
            // SAFETY: `end` and `offset` are multiples of eight and `end > offset`, so the word is the caller's.
            unsafe { data.touch::<u64>(end - WORD) };
        } else {
            // SAFETY: `end > offset`, so the byte is the caller's.
            unsafe { data.touch::<u8>(end - 1) };
        }
        // A multiple of the line above `offset >= 0`, hence at least one line.
        end -= CACHE_LINE_BYTES;
    }
}
