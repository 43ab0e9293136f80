//! The seam under loom: the same names, backed by model objects.
//!
//! A region has no bytes that atomics could live in. Instead each offset that is used as an atomic gets a loom
//! atomic of its own, made on first use with the value zero, and each 8-byte granule that is used as payload gets
//! a shadow cell whose accesses loom checks for happens-before.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::indexing_slicing,
    reason = "a model has std, and must stop where it is wrong"
)]

use core::fmt;
use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};
use core::panic::Location;
use core::ptr;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use loom::cell::{ConstPtr, MutPtr, UnsafeCell};
use loom::sync::atomic;

use super::hook::{self, Kind};

/// Bytes that one shadow cell stands for.
const GRANULE: usize = 8;

/// A 64-bit control word of a model.
#[derive(Debug)]
pub struct AtomicU64(atomic::AtomicU64);

/// A 32-bit control word of a model.
#[derive(Debug)]
pub struct AtomicU32(atomic::AtomicU32);

fn order(at: &'static Location<'static>, kind: Kind, order: Ordering) -> Ordering {
    hook::ordering(at, kind, order).expect("only a fence can be removed")
}

macro_rules! model_atomic {
    ($name:ident, $raw:ty, $value:ty) => {
        impl $name {
            /// Creates a word with the given value; inside a model only.
            #[must_use]
            pub fn new(value: $value) -> Self {
                Self(<$raw>::new(value))
            }

            /// Loads the value.
            #[track_caller]
            pub fn load(&self, ord: Ordering) -> $value {
                let ord = order(Location::caller(), Kind::Load, ord);
                if hook::step() { self.0.load(ord) } else { 0 }
            }

            /// Stores a value.
            #[track_caller]
            pub fn store(&self, value: $value, ord: Ordering) {
                let ord = order(Location::caller(), Kind::Store, ord);
                if hook::step() {
                    self.0.store(value, ord);
                }
            }

            /// Replaces the value and returns the old one.
            #[track_caller]
            pub fn swap(&self, value: $value, ord: Ordering) -> $value {
                let ord = order(Location::caller(), Kind::Rmw, ord);
                if hook::step() { self.0.swap(value, ord) } else { 0 }
            }

            /// Adds and returns the old value; wraps.
            #[track_caller]
            pub fn fetch_add(&self, value: $value, ord: Ordering) -> $value {
                let ord = order(Location::caller(), Kind::Rmw, ord);
                if hook::step() { self.0.fetch_add(value, ord) } else { 0 }
            }

            /// Sets the bits of `bits` and returns the old value.
            #[track_caller]
            pub fn fetch_or(&self, bits: $value, ord: Ordering) -> $value {
                let ord = order(Location::caller(), Kind::Rmw, ord);
                if hook::step() { self.0.fetch_or(bits, ord) } else { 0 }
            }

            /// Clears the bits that are not in `bits` and returns the old value.
            #[track_caller]
            pub fn fetch_and(&self, bits: $value, ord: Ordering) -> $value {
                let ord = order(Location::caller(), Kind::Rmw, ord);
                if hook::step() { self.0.fetch_and(bits, ord) } else { 0 }
            }

            /// Stores `new` if the value is `current`.
            ///
            /// # Errors
            /// The value that was found instead.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                ok: Ordering,
                failed: Ordering,
            ) -> Result<$value, $value> {
                let at = Location::caller();
                let (ok, failed) = (order(at, Kind::Rmw, ok), order(at, Kind::CasFail, failed));
                if !hook::step() {
                    return Err(0);
                }
                if hook::stale_cas() {
                    // A failing compare-exchange is a plain load: it may return an old value, which loom's own
                    // compare-exchange never shows.
                    let seen = self.0.load(failed);
                    if seen != current {
                        return Err(seen);
                    }
                }
                self.0.compare_exchange(current, new, ok, failed)
            }

            /// As `compare_exchange`, but may fail although the value matches.
            ///
            /// # Errors
            /// The value that was found.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                ok: Ordering,
                failed: Ordering,
            ) -> Result<$value, $value> {
                if hook::spurious_failure() {
                    let failed = order(Location::caller(), Kind::CasFail, failed);
                    if !hook::step() {
                        return Err(0);
                    }
                    return Err(self.0.load(failed));
                }
                self.compare_exchange(current, new, ok, failed)
            }
        }
    };
}

model_atomic!(AtomicU64, atomic::AtomicU64, u64);
model_atomic!(AtomicU32, atomic::AtomicU32, u32);

/// An atomic fence.
#[track_caller]
pub fn fence(ord: Ordering) {
    if let Some(ord) = hook::ordering(Location::caller(), Kind::Fence, ord) {
        atomic::fence(ord);
    }
}

/// `fence(SeqCst)`.
#[track_caller]
pub fn full_fence() {
    fence(Ordering::SeqCst);
}

/// Nothing: a model has no compiler that reorders, and what the processor may do is not fenced.
pub fn compiler_fence(_ord: Ordering) {}

/// Lets another model thread run.
pub fn spin_hint() {
    loom::hint::spin_loop();
}

/// A counted handle on one atomic of a model.
pub struct Shared<A> {
    word: Arc<A>,
}

impl<A> Clone for Shared<A> {
    fn clone(&self) -> Self {
        Self { word: Arc::clone(&self.word) }
    }
}

impl<A> fmt::Debug for Shared<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(model)")
    }
}

impl<A> Deref for Shared<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.word
    }
}

/// A run of words of a model, each an atomic.
#[derive(Clone)]
pub struct Words {
    words: Arc<[Arc<AtomicU64>]>,
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words(model, {} words)", self.words.len())
    }
}

impl Words {
    /// Words of the run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// One word, for accesses with an ordering of their own.
    ///
    /// # Safety
    /// As in the normal build.
    #[must_use]
    pub unsafe fn word(&self, index: usize) -> &AtomicU64 {
        &self.words[index]
    }

    /// Copies bytes out, word by word.
    ///
    /// # Safety
    /// As in the normal build.
    pub unsafe fn load_bytes(&self, index: usize, to: *mut u8, len: usize) {
        for (i, word) in self.words[index..index + len.div_ceil(GRANULE)].iter().enumerate() {
            let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            let n = (len - i * GRANULE).min(GRANULE);
            // SAFETY: `n` bytes of the `len` at `to`, which are private.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.wrapping_add(i * GRANULE), n) };
        }
    }

    /// Copies bytes in, word by word.
    ///
    /// # Safety
    /// As in the normal build.
    pub unsafe fn store_bytes(&self, index: usize, from: *const u8, len: usize) {
        for (i, word) in self.words[index..index + len.div_ceil(GRANULE)].iter().enumerate() {
            let mut bytes = [0; GRANULE];
            let n = (len - i * GRANULE).min(GRANULE);
            // SAFETY: `n` bytes of the `len` at `from`, which are private.
            unsafe { ptr::copy_nonoverlapping(from.wrapping_add(i * GRANULE), bytes.as_mut_ptr(), n) };
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
    }

    /// Nothing: a hint has no meaning in a model.
    pub fn prefetch(&self, _index: usize) {}
}

struct Bytes {
    plain: core::cell::UnsafeCell<Box<[u64]>>,
    shadow: Vec<UnsafeCell<()>>,
}

// SAFETY: loom runs one model thread at a time, and the shadow cells report every unordered access.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn address(&self, offset: usize) -> *mut u8 {
        // SAFETY: one model thread runs at a time; the reference ends here, before any other use.
        let base = unsafe { (*self.plain.get()).as_mut_ptr() };
        base.cast::<u8>().wrapping_add(offset)
    }
}

/// A run of payload bytes of a model, shadowed per 8-byte granule.
#[derive(Clone)]
pub struct Payload {
    bytes: Arc<Bytes>,
    base: usize,
    len: usize,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload(model, {} bytes)", self.len)
    }
}

impl Payload {
    /// Bytes of payload.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn granules(&self, offset: usize, len: usize) -> &[UnsafeCell<()>] {
        assert!(offset + len <= self.len, "payload access out of bounds: {offset} + {len} > {}", self.len);
        if len == 0 {
            return &[];
        }
        let start = self.base + offset;
        &self.bytes.shadow[start / GRANULE..(start + len).div_ceil(GRANULE)]
    }

    fn reading(&self, offset: usize, len: usize) -> Vec<ConstPtr<()>> {
        self.granules(offset, len).iter().map(UnsafeCell::get).collect()
    }

    fn writing(&self, offset: usize, len: usize) -> Vec<MutPtr<()>> {
        self.granules(offset, len).iter().map(UnsafeCell::get_mut).collect()
    }

    /// Copies a value out.
    ///
    /// # Safety
    /// As in the normal build.
    #[must_use]
    pub unsafe fn load<T: Copy>(&self, offset: usize) -> T {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: `value` has room for a `T`; the rest is the caller's promise.
        unsafe { self.read_bytes(offset, value.as_mut_ptr().cast(), size_of::<T>()) };
        // SAFETY: all bytes are written, and any bytes are a valid `T` by the caller's promise.
        unsafe { value.assume_init() }
    }

    /// Copies a value out to where it shall lie.
    ///
    /// # Safety
    /// As in the normal build.
    pub unsafe fn load_to<T: Copy>(&self, offset: usize, to: &mut T) {
        // SAFETY: `to` has room for a `T`; the rest is the caller's promise.
        unsafe { self.read_bytes(offset, ptr::from_mut(to).cast(), size_of::<T>()) };
    }

    /// Copies a value in.
    ///
    /// # Safety
    /// As in the normal build.
    pub unsafe fn store<T: Copy>(&self, offset: usize, value: &T) {
        // SAFETY: the caller's promise; `value` is a private initialised `T` without padding.
        unsafe { self.write_bytes(offset, ptr::from_ref(value).cast(), size_of::<T>()) };
    }

    /// Copies bytes out.
    ///
    /// # Safety
    /// As in the normal build.
    pub unsafe fn read_bytes(&self, offset: usize, to: *mut u8, len: usize) {
        if len == 0 || !hook::step() {
            return;
        }
        let _shadow = self.reading(offset, len);
        // SAFETY: in bounds (checked above) and private memory of `len` bytes at `to`.
        unsafe { ptr::copy_nonoverlapping(self.bytes.address(self.base + offset), to, len) };
    }

    /// Copies bytes in.
    ///
    /// # Safety
    /// As in the normal build.
    pub unsafe fn write_bytes(&self, offset: usize, from: *const u8, len: usize) {
        if len == 0 || !hook::step() {
            return;
        }
        let _shadow = self.writing(offset, len);
        // SAFETY: in bounds (checked above) and private memory of `len` bytes at `from`.
        unsafe { ptr::copy_nonoverlapping(from, self.bytes.address(self.base + offset), len) };
    }

    /// A plain write of the bytes by their owner, without changing them.
    ///
    /// # Safety
    /// As in the normal build.
    pub unsafe fn touch<W: Copy>(&self, offset: usize) {
        if hook::step() {
            drop(self.writing(offset, size_of::<W>()));
        }
    }

    /// Nothing: a hint has no meaning in a model.
    pub fn prefetch(&self, _offset: usize) {}

    /// A view of bytes that nobody writes while it lives; the shadow is held as long.
    ///
    /// # Safety
    /// As in the normal build.
    #[must_use]
    pub unsafe fn span<'p>(&self, offset: usize, len: usize) -> Span<'p> {
        let alive = hook::step();
        let shadow = if alive { self.reading(offset, len) } else { Vec::new() };
        // SAFETY: in bounds; unwritten while it lives, which the shadow checks.
        let bytes = unsafe { core::slice::from_raw_parts(self.bytes.address(self.base + offset), len) };
        Span { bytes, _shadow: shadow }
    }

    /// A view of bytes that nobody else accesses while it lives; the shadow is held as long.
    ///
    /// # Safety
    /// As in the normal build.
    #[must_use]
    pub unsafe fn span_mut<'p>(&self, offset: usize, len: usize) -> SpanMut<'p> {
        let alive = hook::step();
        let shadow = if alive { self.writing(offset, len) } else { Vec::new() };
        // SAFETY: in bounds; exclusive while it lives, which the shadow checks.
        let bytes = unsafe { core::slice::from_raw_parts_mut(self.bytes.address(self.base + offset), len) };
        SpanMut { bytes, _shadow: shadow }
    }
}

/// Payload borrowed for reading; derefs to the bytes.
#[derive(Debug)]
pub struct Span<'p> {
    bytes: &'p [u8],
    _shadow: Vec<ConstPtr<()>>,
}

impl Deref for Span<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

/// Payload borrowed for writing; derefs to the bytes.
#[derive(Debug)]
pub struct SpanMut<'p> {
    bytes: &'p mut [u8],
    _shadow: Vec<MutPtr<()>>,
}

impl Deref for SpanMut<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for SpanMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

/// The memory behind a region of a model.
#[derive(Clone)]
pub(crate) struct Memory {
    bytes: Arc<Bytes>,
    words64: Arc<Mutex<BTreeMap<usize, Arc<AtomicU64>>>>,
    words32: Arc<Mutex<BTreeMap<usize, Arc<AtomicU32>>>>,
    /// Where it begins in the memory that it is a run of.
    start: usize,
    len: usize,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory(model, {} bytes)", self.len)
    }
}

impl Memory {
    pub(crate) fn new(len: usize) -> Self {
        let granules = len.div_ceil(GRANULE);
        let bytes = Bytes {
            plain: core::cell::UnsafeCell::new(std::vec![0_u64; granules].into_boxed_slice()),
            shadow: (0..granules).map(|_| UnsafeCell::new(())).collect(),
        };
        // Loom wants an object to exist before threads race for it. The first word is where a header is looked for
        // before anybody wrote it; the creator makes the others before it publishes that one.
        let words64 = BTreeMap::from([(0, Arc::new(AtomicU64::new(0)))]);
        let words64 = Arc::new(Mutex::new(words64));
        Self { bytes: Arc::new(bytes), words64, words32: Arc::default(), start: 0, len }
    }

    /// The `len` bytes at `offset`, which are bytes of this memory.
    pub(crate) fn run(&self, offset: usize, len: usize) -> Self {
        Self { start: self.start + offset, len, ..self.clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// # Safety
    /// As in the normal build.
    pub(crate) unsafe fn shared_u64(&self, offset: usize) -> Shared<AtomicU64> {
        let mut words = self.words64.lock().expect("no model panics while it holds this lock");
        let word = words.entry(self.start + offset).or_insert_with(|| Arc::new(AtomicU64::new(0)));
        Shared { word: Arc::clone(word) }
    }

    /// # Safety
    /// As in the normal build.
    pub(crate) unsafe fn shared_u32(&self, offset: usize) -> Shared<AtomicU32> {
        let mut words = self.words32.lock().expect("no model panics while it holds this lock");
        let word = words.entry(self.start + offset).or_insert_with(|| Arc::new(AtomicU32::new(0)));
        Shared { word: Arc::clone(word) }
    }

    /// # Safety
    /// As in the normal build.
    pub(crate) unsafe fn payload(&self, offset: usize, len: usize) -> Payload {
        Payload { bytes: Arc::clone(&self.bytes), base: self.start + offset, len }
    }

    /// # Safety
    /// As in the normal build.
    pub(crate) unsafe fn words(&self, offset: usize, len: usize) -> Words {
        let mut all = self.words64.lock().expect("no model panics while it holds this lock");
        let word = |i| {
            Arc::clone(
                all.entry(self.start + offset + i * GRANULE).or_insert_with(|| Arc::new(AtomicU64::new(0))),
            )
        };
        Words { words: (0..len).map(word).collect() }
    }
}
