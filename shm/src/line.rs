//! One cache line with one owner.

use core::ops::{Deref, DerefMut};

/// Bytes of a [`Line`]: two 64-byte cache lines, which adjacent-line prefetchers pull together.
pub const LINE_BYTES: usize = 128;

/// Bytes of one cache line, the unit that moves between cores.
pub const CACHE_LINE_BYTES: usize = 64;

/// A value alone on its 128 bytes, with a layout that is the same on every target and in every version.
///
/// Unlike padding types whose size follows the target, a `Line` may be part of a shared layout.
///
/// ```
/// use tidewire_shm::{LINE_BYTES, Line};
/// assert_eq!(size_of::<Line<u64>>(), LINE_BYTES);
/// assert_eq!(align_of::<Line<u64>>(), LINE_BYTES);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(loom), repr(C, align(128)))]
pub struct Line<T> {
    value: T,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line<u64>>() == LINE_BYTES && align_of::<Line<u64>>() == LINE_BYTES);

impl<T> Line<T> {
    /// Puts a value on a line of its own.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { value }
    }

    /// Takes the value off its line.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Line<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
