//! The seam in a normal build: wrappers that compile to the bare operation.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic;
use core::sync::atomic::Ordering;

use crate::copy;

/// A 64-bit control word in shared memory.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct AtomicU64(atomic::AtomicU64);

/// A 32-bit control word in shared memory, the width that a futex wait needs.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct AtomicU32(atomic::AtomicU32);

impl AtomicU64 {
    /// Creates a word with the given value.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    /// Loads the value. The ordering is the caller's.
    #[inline(always)]
    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    /// Stores a value. The ordering is the caller's.
    #[inline(always)]
    pub fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    /// Replaces the value and returns the old one.
    #[inline(always)]
    pub fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.0.swap(value, order)
    }

    /// Adds and returns the old value; wraps.
    #[inline(always)]
    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }

    /// Sets the bits of `bits` and returns the old value.
    #[inline(always)]
    pub fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_or(bits, order)
    }

    /// Clears the bits that are not in `bits` and returns the old value.
    #[inline(always)]
    pub fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        self.0.fetch_and(bits, order)
    }

    /// Stores `new` if the value is `current`.
    ///
    /// # Errors
    /// The value that was found instead.
    #[inline(always)]
    pub fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        ok: Ordering,
        failed: Ordering,
    ) -> Result<u64, u64> {
        self.0.compare_exchange(current, new, ok, failed)
    }

    /// As [`compare_exchange`](Self::compare_exchange), but may fail although the value matches.
    ///
    /// # Errors
    /// The value that was found.
    #[inline(always)]
    pub fn compare_exchange_weak(
        &self,
        current: u64,
        new: u64,
        ok: Ordering,
        failed: Ordering,
    ) -> Result<u64, u64> {
        self.0.compare_exchange_weak(current, new, ok, failed)
    }

    /// The address of the word, for system calls that take one.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u64 {
        self.0.as_ptr()
    }
}

impl AtomicU32 {
    /// Creates a word with the given value.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(atomic::AtomicU32::new(value))
    }

    /// Loads the value. The ordering is the caller's.
    #[inline(always)]
    pub fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }

    /// Stores a value. The ordering is the caller's.
    #[inline(always)]
    pub fn store(&self, value: u32, order: Ordering) {
        self.0.store(value, order);
    }

    /// Replaces the value and returns the old one.
    #[inline(always)]
    pub fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.0.swap(value, order)
    }

    /// Adds and returns the old value; wraps.
    #[inline(always)]
    pub fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
        self.0.fetch_add(value, order)
    }

    /// Stores `new` if the value is `current`.
    ///
    /// # Errors
    /// The value that was found instead.
    #[inline(always)]
    pub fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        ok: Ordering,
        failed: Ordering,
    ) -> Result<u32, u32> {
        self.0.compare_exchange(current, new, ok, failed)
    }

    /// The address of the word, for system calls that take one.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u32 {
        self.0.as_ptr()
    }
}

/// An atomic fence. The ordering is the caller's.
#[inline(always)]
pub fn fence(order: Ordering) {
    atomic::fence(order);
}

/// `fence(SeqCst)`, by the cheaper of the instructions that are one.
#[inline(always)]
pub fn full_fence() {
    #[cfg(all(target_arch = "x86_64", not(miri), not(plain_copy)))]
    {
        // A locked instruction is a full fence, and several times cheaper than the `mfence` that a fence becomes. The
        // compiler moves no access across assembly that may touch memory.
        // SAFETY: stores back what lies below this thread's own stack, in one step; nothing else changes but flags. Without
        // `nostack` the compiler keeps nothing there.
        unsafe { core::arch::asm!("lock or dword ptr [rsp - 64], 0") };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(plain_copy))))]
    // ORD full: SeqCst <-> whatever the caller's comment names.
    atomic::fence(Ordering::SeqCst);
}

/// A fence for the compiler alone: the processor may still reorder. The ordering is the caller's.
#[inline(always)]
pub fn compiler_fence(order: Ordering) {
    atomic::compiler_fence(order);
}

/// Tells the processor that this thread is spinning.
#[inline(always)]
pub fn spin_hint() {
    core::hint::spin_loop();
}

/// A handle on one atomic inside a region.
///
/// It does not keep the region alive: whoever makes one promises to (see [`Region::atomic_u64`]).
///
/// [`Region::atomic_u64`]: crate::Region::atomic_u64
pub struct Shared<A> {
    word: NonNull<A>,
}

impl<A> Clone for Shared<A> {
    fn clone(&self) -> Self {
        Self { word: self.word }
    }
}

impl<A> fmt::Debug for Shared<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:p})", self.word)
    }
}

// SAFETY: the only access a handle gives is `&A`, and `A` may be used from any thread.
unsafe impl<A: Sync> Send for Shared<A> {}
// SAFETY: as above.
unsafe impl<A: Sync> Sync for Shared<A> {}

impl<A> Deref for Shared<A> {
    type Target = A;

    #[inline(always)]
    fn deref(&self) -> &A {
        // SAFETY: the maker promised that the word is in bounds, aligned, and alive while handles to it are.
        unsafe { self.word.as_ref() }
    }
}

/// A run of 64-bit words inside a region that several processes may load and store at the same time: the data of
/// structures whose readers find out afterwards whether what they copied was whole.
///
/// Copies are relaxed accesses of whole words, in no promised order: word by word, or in assembly that stands for
/// that (see the module `copy::run`). Both sides access the same eight bytes with the same width, always. Loading from
/// memory that is mapped read-only is defined.
#[derive(Clone, Copy)]
pub struct Words {
    base: NonNull<u64>,
    len: usize,
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({:p}, {} words)", self.base, self.len)
    }
}

// SAFETY: a `Words` is an address; each access through it is `unsafe` and atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Words of the run.
    #[must_use]
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn at(&self, index: usize, words: usize) -> *mut u64 {
        debug_assert!(
            index.checked_add(words).is_some_and(|end| end <= self.len),
            "access out of bounds of a run of words"
        );
        // SAFETY: every caller promised that `index + words` is within the run.
        unsafe { self.base.as_ptr().add(index) }
    }

    /// One word, for accesses with an ordering of their own.
    ///
    /// # Safety
    /// - `index` is below [`len`](Self::len), and the region is alive while the word is used;
    /// - if the region is not writable, only relaxed loads are done.
    #[must_use]
    #[inline(always)]
    pub unsafe fn word(&self, index: usize) -> &AtomicU64 {
        let word = self.at(index, 1).cast::<AtomicU64>();
        // SAFETY: in bounds, aligned, alive, and only ever accessed as an atomic.
        unsafe { &*word }
    }

    /// Copies `len` bytes out of the words from `index` on.
    ///
    /// # Safety
    /// - `index + len.div_ceil(8)` is at most [`len`](Self::len); `to` is private memory of `len` bytes;
    /// - the region is alive. Words that somebody stores at the same time have their old or their new value.
    #[inline(always)]
    pub unsafe fn load_bytes(&self, index: usize, to: *mut u8, len: usize) {
        // SAFETY: both ends are in bounds by the caller's promise.
        unsafe { copy::run::load(to, self.at(index, len.div_ceil(8)), len) };
    }

    /// Copies `len` bytes into the words from `index` on; what is left of the last word becomes zero.
    ///
    /// # Safety
    /// - `index + len.div_ceil(8)` is at most [`len`](Self::len); `from` is private initialised memory of `len`
    ///   bytes;
    /// - the region is alive and writable.
    #[inline(always)]
    pub unsafe fn store_bytes(&self, index: usize, from: *const u8, len: usize) {
        // SAFETY: both ends are in bounds by the caller's promise.
        unsafe { copy::run::store(self.at(index, len.div_ceil(8)), from, len) };
    }

    /// Asks the processor to fetch the line of a word for reading. A hint without effect on values.
    #[inline(always)]
    pub fn prefetch(&self, index: usize) {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse", not(miri)))]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = self.base.as_ptr().wrapping_add(index);
            // SAFETY: a prefetch of any address is allowed; it cannot fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast::<i8>()) };
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse", not(miri))))]
        let _ = index;
    }
}

/// A run of payload bytes inside a region: memory that is handed from side to side by the positions.
///
/// Copies in and out tolerate that a peer which breaks the protocol writes the same bytes at the same time: they
/// are relaxed word accesses, or assembly that stands for them (see the module `copy`). Only a [`Span`] is a reference, so only
/// trusted handles may make one.
#[derive(Clone, Copy)]
pub struct Payload {
    base: NonNull<u8>,
    len: usize,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({:p}, {} bytes)", self.base, self.len)
    }
}

// SAFETY: a `Payload` is an address; each access through it is `unsafe` and carries its own promise.
unsafe impl Send for Payload {}
// SAFETY: as above.
unsafe impl Sync for Payload {}

impl Payload {
    /// Bytes of payload.
    #[must_use]
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        debug_assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "payload access out of bounds"
        );
        // SAFETY: every caller promised that `offset + len` is within the payload.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Copies a value out.
    ///
    /// # Safety
    /// - `offset + size_of::<T>()` is at most [`len`](Self::len), and `offset` is aligned for `T`;
    /// - any bytes are a valid `T`;
    /// - the region is alive, and the protocol gives these bytes to the caller for reading. If a peer breaks the
    ///   protocol the value is arbitrary, nothing worse.
    #[inline(always)]
    #[must_use]
    pub unsafe fn load<T: Copy>(&self, offset: usize) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: in bounds and aligned by the caller's promise; `value` is private.
        unsafe { copy::load(value.as_mut_ptr(), self.at(offset, size_of::<T>()).cast::<T>()) };
        // SAFETY: every byte was written by the copy, and any bytes are a valid `T`.
        unsafe { value.assume_init() }
    }

    /// Copies a value out to where it shall lie.
    ///
    /// # Safety
    /// As [`load`](Self::load).
    #[inline(always)]
    pub unsafe fn load_to<T: Copy>(&self, offset: usize, to: &mut T) {
        // SAFETY: in bounds and aligned by the caller's promise; `to` is private.
        unsafe { copy::load(to, self.at(offset, size_of::<T>()).cast::<T>()) };
    }

    /// Copies a value in.
    ///
    /// # Safety
    /// - `offset + size_of::<T>()` is at most [`len`](Self::len), and `offset` is aligned for `T`;
    /// - `T` has no padding;
    /// - the region is alive, and the protocol gives these bytes to the caller for writing.
    #[inline(always)]
    pub unsafe fn store<T: Copy>(&self, offset: usize, value: &T) {
        // SAFETY: in bounds and aligned by the caller's promise; `value` is private.
        unsafe { copy::store(self.at(offset, size_of::<T>()).cast::<T>(), value) };
    }

    /// Copies `len` bytes out to `to`.
    ///
    /// # Safety
    /// - `offset + len` is at most [`Payload::len`]; `to` is private memory of `len` bytes;
    /// - the region is alive, and the protocol gives these bytes to the caller for reading.
    #[inline(always)]
    pub unsafe fn read_bytes(&self, offset: usize, to: *mut u8, len: usize) {
        // SAFETY: both ends are in bounds by the caller's promise.
        unsafe { copy::bytes(to, self.at(offset, len), len) };
    }

    /// Copies `len` bytes in from `from`.
    ///
    /// # Safety
    /// - `offset + len` is at most [`Payload::len`]; `from` is private initialised memory of `len` bytes;
    /// - the region is alive, and the protocol gives these bytes to the caller for writing.
    #[inline(always)]
    pub unsafe fn write_bytes(&self, offset: usize, from: *const u8, len: usize) {
        // SAFETY: both ends are in bounds by the caller's promise.
        unsafe { copy::bytes(self.at(offset, len), from, len) };
    }

    /// Writes the `W` at `offset` back unchanged, so that the line becomes this core's to give away.
    ///
    /// # Safety
    /// As for a [`store`](Self::store) of a `W` at `offset`, with any bytes a valid `W`.
    #[inline(always)]
    pub unsafe fn touch<W: Copy>(&self, offset: usize) {
        // SAFETY: in bounds, aligned and owned by the caller, who promised what a store needs.
        unsafe { copy::touch(self.at(offset, size_of::<W>()).cast::<W>()) };
    }

    /// Asks the processor to fetch the line at `offset` for reading. A hint without effect on values.
    #[inline(always)]
    pub fn prefetch(&self, offset: usize) {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse"))]
        {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = self.base.as_ptr().wrapping_add(offset);
            // SAFETY: a prefetch of any address is allowed; it cannot fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast::<i8>()) };
        }
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse")))]
        let _ = offset;
    }

    /// A view of bytes that nobody writes while it lives.
    ///
    /// # Safety
    /// - `offset + len` is at most [`Payload::len`], the region outlives the view;
    /// - no process writes these bytes while the view lives: peers are trusted to follow the protocol.
    #[inline(always)]
    #[must_use]
    pub unsafe fn span<'p>(&self, offset: usize, len: usize) -> Span<'p> {
        Span { bytes: self.run(offset, len), payload: PhantomData }
    }

    /// A view of bytes that nobody else reads or writes while it lives.
    ///
    /// # Safety
    /// - `offset + len` is at most [`Payload::len`], the region outlives the view;
    /// - no other view or access overlaps these bytes while it lives: peers are trusted to follow the protocol.
    #[inline(always)]
    #[must_use]
    pub unsafe fn span_mut<'p>(&self, offset: usize, len: usize) -> SpanMut<'p> {
        SpanMut { bytes: self.run(offset, len), payload: PhantomData }
    }

    fn run(&self, offset: usize, len: usize) -> NonNull<[u8]> {
        let start = NonNull::new(self.at(offset, len)).unwrap_or(self.base);
        NonNull::slice_from_raw_parts(start, len)
    }
}

/// Payload borrowed for reading; derefs to the bytes.
///
/// It holds an address, not a reference: a reference exists only while it is dereferenced, so none is alive when
/// the owner of the view gives the bytes back.
pub struct Span<'p> {
    bytes: NonNull<[u8]>,
    payload: PhantomData<&'p [u8]>,
}

// SAFETY: as good as the `&[u8]` that it derefs to.
unsafe impl Send for Span<'_> {}
// SAFETY: as above.
unsafe impl Sync for Span<'_> {}

impl fmt::Debug for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({} bytes)", self.bytes.len())
    }
}

impl Deref for Span<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: in bounds, initialised and unwritten while the view lives, by the maker's promise.
        unsafe { self.bytes.as_ref() }
    }
}

/// Payload borrowed for writing; derefs to the bytes. An address, as [`Span`].
pub struct SpanMut<'p> {
    bytes: NonNull<[u8]>,
    payload: PhantomData<&'p mut [u8]>,
}

// SAFETY: as good as the `&mut [u8]` that it derefs to.
unsafe impl Send for SpanMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SpanMut<'_> {}

impl fmt::Debug for SpanMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanMut({} bytes)", self.bytes.len())
    }
}

impl Deref for SpanMut<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: in bounds, initialised and exclusive while the view lives, by the maker's promise.
        unsafe { self.bytes.as_ref() }
    }
}

impl DerefMut for SpanMut<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: in bounds, initialised and exclusive while the view lives, by the maker's promise.
        unsafe { self.bytes.as_mut() }
    }
}

/// The memory behind a region: an address and a length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address and a length; what may be done there is the region's affair.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The `len` bytes at `offset`, which are bytes of this memory.
    pub(crate) fn run(&self, offset: usize, len: usize) -> Self {
        // What is out of bounds is never reached: the offset of an empty run is the end at most.
        Self { base: NonNull::new(self.base.as_ptr().wrapping_add(offset)).unwrap_or(self.base), len }
    }

    /// # Safety
    /// Eight bytes at `offset` are in bounds and aligned, and only ever accessed as this atomic.
    pub(crate) unsafe fn shared_u64(&self, offset: usize) -> Shared<AtomicU64> {
        // SAFETY: in bounds by the caller's promise.
        Shared { word: unsafe { self.base.add(offset) }.cast() }
    }

    /// # Safety
    /// Four bytes at `offset` are in bounds and aligned, and only ever accessed as this atomic.
    pub(crate) unsafe fn shared_u32(&self, offset: usize) -> Shared<AtomicU32> {
        // SAFETY: in bounds by the caller's promise.
        Shared { word: unsafe { self.base.add(offset) }.cast() }
    }

    /// # Safety
    /// `offset + len` is in bounds.
    pub(crate) unsafe fn payload(&self, offset: usize, len: usize) -> Payload {
        // SAFETY: in bounds by the caller's promise.
        Payload { base: unsafe { self.base.add(offset) }, len }
    }

    /// # Safety
    /// `len` words at `offset` are in bounds and aligned, and only ever accessed as atomics.
    pub(crate) unsafe fn words(&self, offset: usize, len: usize) -> Words {
        // SAFETY: in bounds by the caller's promise.
        Words { base: unsafe { self.base.add(offset) }.cast(), len }
    }
}
