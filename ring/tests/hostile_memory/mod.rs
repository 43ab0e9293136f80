//! Memory that a test shares with the code under test, as a hostile peer would: it reads and writes every byte
//! through pointers of its own, and guards around the bytes show any access that leaves them.
#![allow(dead_code, reason = "each test file uses a part of this module")]
#![allow(clippy::unwrap_used, reason = "a test helper")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytemuck::Pod;
use tidewire_shm::{Origin, Region, RoleStride, Trusted, Untrusted};

/// Bytes of guard on either side.
const GUARD: usize = 128;
const GUARD_BYTE: u8 = 0xA5;

struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an owner of bytes that are accessed as atomics or by the code under test only.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Bytes with guards; regions over them keep them alive.
#[derive(Clone)]
pub(crate) struct Memory {
    block: Arc<Block>,
    len: usize,
}

impl Memory {
    pub(crate) fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.next_multiple_of(128) + 2 * GUARD, 128).unwrap();
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        let memory = Self { block: Arc::new(Block { base, layout }), len };
        for i in memory.guards() {
            memory.raw_byte(i).store(GUARD_BYTE, Ordering::Relaxed);
        }
        memory
    }

    fn guards(&self) -> impl Iterator<Item = usize> {
        (0..GUARD).chain(GUARD + self.len..self.block.layout.size())
    }

    fn raw_byte(&self, i: usize) -> &AtomicU8 {
        assert!(i < self.block.layout.size());
        // SAFETY: in bounds, just checked.
        let byte = unsafe { self.block.base.add(i) };
        // SAFETY: alive as long as `self`; the test is the hostile peer here.
        unsafe { AtomicU8::from_ptr(byte.as_ptr()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A region over all bytes.
    pub(crate) fn region(&self) -> Region<Untrusted> {
        self.region_of(self.len, Origin::default())
    }

    /// A region over the first `len` bytes.
    pub(crate) fn region_of(&self, len: usize, origin: Origin) -> Region<Untrusted> {
        assert!(len <= self.len);
        // SAFETY: in bounds.
        let base = unsafe { self.block.base.add(GUARD) };
        let keep = Arc::clone(&self.block);
        // SAFETY: aligned, initialised, alive with `keep`; this module stands for the other process.
        unsafe { Region::from_raw_parts(base, len, origin, keep) }.unwrap()
    }

    /// A region whose user promises not to scribble while handles are in use.
    pub(crate) fn trusted(&self) -> Region<Trusted> {
        // SAFETY: tests that take this level change bytes only while no reference into them lives.
        unsafe { self.region().assume_trusted() }
    }

    pub(crate) fn byte(&self, offset: usize) -> u8 {
        assert!(offset < self.len);
        self.raw_byte(GUARD + offset).load(Ordering::Relaxed)
    }

    pub(crate) fn set_byte(&self, offset: usize, value: u8) {
        assert!(offset < self.len);
        self.raw_byte(GUARD + offset).store(value, Ordering::Relaxed);
    }

    pub(crate) fn set_bytes(&self, offset: usize, values: &[u8]) {
        for (i, value) in values.iter().enumerate() {
            self.set_byte(offset + i, *value);
        }
    }

    fn raw_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: in bounds, just checked.
        let word = unsafe { self.block.base.add(GUARD + offset) };
        // SAFETY: aligned; alive as long as `self`; the test is the hostile peer here.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    pub(crate) fn word(&self, offset: usize) -> u64 {
        self.raw_word(offset).load(Ordering::Acquire)
    }

    pub(crate) fn set_word(&self, offset: usize, value: u64) {
        self.raw_word(offset).store(value, Ordering::Release);
    }

    /// A copy of all bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        for offset in (0..self.len / 8).map(|i| i * 8) {
            bytes.extend(self.word(offset).to_ne_bytes());
        }
        bytes.extend((bytes.len()..self.len).map(|i| self.byte(i)));
        bytes
    }

    /// Nobody wrote outside of the bytes.
    pub(crate) fn assert_guards(&self) {
        for i in self.guards() {
            let found = self.raw_byte(i).load(Ordering::Relaxed);
            assert_eq!(found, GUARD_BYTE, "byte {} was written", i.wrapping_sub(GUARD).cast_signed());
        }
    }

    /// How many regions and handles keep the bytes alive.
    pub(crate) fn users(&self) -> usize {
        Arc::strong_count(&self.block) - 1
    }
}

/// Where the words of a ring lie, written down here a second time: the layout is an interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    pub(crate) tail: usize,
    pub(crate) head: usize,
    pub(crate) producer: usize,
    pub(crate) consumer: usize,
    pub(crate) data: usize,
}

pub(crate) const LINE: Offsets = Offsets { tail: 128, head: 256, producer: 384, consumer: 512, data: 640 };
pub(crate) const PAGE: Offsets =
    Offsets { tail: 4096, head: 8448, producer: 4224, consumer: 8576, data: 12288 };

pub(crate) const STRIDES: [(RoleStride, Offsets); 2] = [(RoleStride::Line, LINE), (RoleStride::Page, PAGE)];

/// Element number `n` of any plain type: every byte depends on `n`.
pub(crate) fn element<T: Pod>(n: u64) -> T {
    let mut value = T::zeroed();
    let mut state = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for byte in bytemuck::bytes_of_mut(&mut value) {
        state ^= state >> 29;
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        *byte = (state >> 56) as u8;
    }
    value
}

/// Record number `n` of `len` bytes.
pub(crate) fn record(n: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| element::<u8>(n.wrapping_mul(1009).wrapping_add(i as u64))).collect()
}

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident($inner:ty) align $align:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C, align($align))]
        pub(crate) struct $name(pub(crate) $inner);
    )* };
}

plain! {
    A16([u8; 16]) align 16;
    A32([u8; 32]) align 32;
    A64([u8; 64]) align 64;
    A128([u8; 128]) align 128;
    A256([u8; 256]) align 256;
}

/// 24 bytes of mixed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Tick {
    pub(crate) id: u64,
    pub(crate) price: u32,
    pub(crate) volume: u32,
    pub(crate) flags: [u16; 4],
}

/// Two copies of the bytes are equal; otherwise says where they are not.
#[track_caller]
pub(crate) fn assert_same(before: &[u8], after: &[u8]) {
    assert_eq!(before.len(), after.len());
    let changed: Vec<_> = before.iter().zip(after).enumerate().filter(|(_, (a, b))| a != b).collect();
    assert!(changed.is_empty(), "written, as (offset, (before, after)): {changed:?}");
}
