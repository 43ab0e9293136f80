//! How a value lies in a run of words.

use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::sync::{Ordering, Words};

/// Values of one kind and their words. The words of one value are always the same ones, and always all atomic.
pub(crate) trait Codec: Copy + Send + Sync + 'static {
    /// What is written.
    type In: ?Sized;
    /// Where it is read to.
    type Out;

    /// Words that a value takes.
    fn words(self) -> usize;

    /// Stores a value into the words from `at` on.
    ///
    /// # Safety
    /// `at + self.words()` is within the run, whose region is alive and writable.
    unsafe fn store(self, words: &Words, at: usize, value: &Self::In);

    /// Loads what is in the words from `at` on, whole or not.
    ///
    /// # Safety
    /// `at + self.words()` is within the run, whose region is alive; `to` is private and may be written.
    unsafe fn load(self, words: &Words, at: usize, to: *mut Self::Out);
}

/// A value of a fixed, plain type.
pub(crate) struct Fixed<T>(PhantomData<fn(T) -> T>);

impl<T> Fixed<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Fixed<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Fixed<T> {}

impl<T: Pod> Codec for Fixed<T> {
    type In = T;
    type Out = T;

    #[inline(always)]
    fn words(self) -> usize {
        size_of::<T>().div_ceil(8)
    }

    #[inline(always)]
    unsafe fn store(self, words: &Words, at: usize, value: &T) {
        let from: *const T = value;
        // SAFETY: the caller's promise; a plain type has no padding, so all bytes are initialised.
        unsafe { words.store_bytes(at, from.cast(), size_of::<T>()) };
    }

    #[inline(always)]
    unsafe fn load(self, words: &Words, at: usize, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { words.load_bytes(at, to.cast(), size_of::<T>()) };
    }
}

/// Bytes, at most `max` of them, in as many words as the longest value takes, and their number in a word behind.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    max: usize,
}

/// Where bytes are read to.
pub(crate) struct Buffer {
    pub(crate) to: *mut u8,
    pub(crate) room: usize,
    /// How many bytes the value says that it has.
    pub(crate) len: u64,
}

impl Bytes {
    pub(crate) const fn new(max: usize) -> Self {
        Self { max }
    }

    pub(crate) fn max(self) -> usize {
        self.max
    }
}

impl Codec for Bytes {
    type In = [u8];
    type Out = Buffer;

    #[inline(always)]
    fn words(self) -> usize {
        self.max.div_ceil(8) + 1
    }

    #[inline(always)]
    unsafe fn store(self, words: &Words, at: usize, value: &[u8]) {
        debug_assert!(value.len() <= self.max, "the caller checked the length");
        // SAFETY: the caller's promise; `value` is no longer than `max`.
        unsafe { words.store_bytes(at, value.as_ptr(), value.len()) };
        // SAFETY: the last word of the value.
        let len = unsafe { words.word(at + self.words() - 1) };
        // ORD run: Relaxed, a part of the data; the fences of the protocol around the copy carry the order.
        len.store(value.len() as u64, Ordering::Relaxed);
    }

    #[inline(always)]
    unsafe fn load(self, words: &Words, at: usize, to: *mut Buffer) {
        // SAFETY: the caller's promise; nobody else uses the buffer.
        let buffer = unsafe { &mut *to };
        // SAFETY: the last word of the value.
        let len = unsafe { words.word(at + self.words() - 1) };
        // ORD run: Relaxed, a part of the data; the fences of the protocol around the copy carry the order.
        buffer.len = len.load(Ordering::Relaxed);
        match usize::try_from(buffer.len) {
            // SAFETY: within the value's words and within the buffer, both just checked.
            Ok(len) if len <= self.max && len <= buffer.room => unsafe {
                words.load_bytes(at, buffer.to, len);
            },
            _ => {}
        }
    }
}
