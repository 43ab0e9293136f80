//! What the tests share: leases of one process, values whose words must agree, and memory with a peer that may do
//! anything.
#![allow(dead_code, reason = "each test file uses a part of this module")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test helpers")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytemuck::Pod;
use tidewire_shm::{LeaseError, Liveness, Origin, Region, RoleId, Tenancy, Untrusted};

/// Leases of one process: a holder dies when its lease is [killed](Leases::kill), or hands it back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashSet<(RoleId, u64)>>>,
    given: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    key: (RoleId, u64),
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.held.lock().unwrap().remove(&self.key);
    }
}

impl Leases {
    /// As if the process that holds the role had died. The test forgets the handle.
    pub(crate) fn kill(&self, role: RoleId) {
        self.held.lock().unwrap().retain(|(held, _)| *held != role);
    }
}

// SAFETY: a role is in the set at most once, and leaves it when its lease is dropped, or when a test that will never use
// its holder again says so.
unsafe impl Liveness for Leases {
    type Lease = Lease;
    const PROVES: bool = true;
    const KIND: u32 = 1 << 31;

    fn acquire(&self, role: RoleId) -> Result<Lease, LeaseError> {
        let mut held = self.held.lock().unwrap();
        if held.iter().any(|(taken, _)| *taken == role) {
            return Err(LeaseError::Held { role });
        }
        let key = (role, self.given.fetch_add(1, Ordering::Relaxed));
        held.insert(key);
        drop(held);
        Ok(Lease { leases: self.clone(), key })
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        let taken = self.held.lock().unwrap().iter().any(|(taken, _)| *taken == role);
        if taken { Tenancy::Held } else { Tenancy::Vacant }
    }
}

/// The lease of writer `index`.
pub(crate) fn role(index: u32) -> RoleId {
    RoleId::producer(index).unwrap()
}

/// A value of `N` bytes that version `version` writes: every byte depends on both.
pub(crate) fn pattern<const N: usize>(version: u64) -> [u8; N] {
    std::array::from_fn(|i| byte(version, i))
}

/// Byte `i` of the value of a version.
pub(crate) fn byte(version: u64, i: usize) -> u8 {
    let word = version.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(i as u64 / 8);
    word.to_le_bytes()[i % 8]
}

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

/// Bytes between guards, which a test reads and writes as a hostile peer would.
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
            memory.raw(i).store(GUARD_BYTE, Ordering::Relaxed);
        }
        memory
    }

    fn guards(&self) -> impl Iterator<Item = usize> + use<> {
        (0..GUARD).chain(GUARD + self.len..self.block.layout.size())
    }

    fn raw(&self, i: usize) -> &AtomicU8 {
        assert!(i < self.block.layout.size());
        // SAFETY: in bounds, just checked.
        let byte = unsafe { self.block.base.add(i) };
        // SAFETY: alive as long as `self`; the test is the hostile peer here.
        unsafe { AtomicU8::from_ptr(byte.as_ptr()) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn region(&self) -> Region<Untrusted> {
        self.region_of(self.len)
    }

    pub(crate) fn region_of(&self, len: usize) -> Region<Untrusted> {
        assert!(len <= self.len);
        // SAFETY: in bounds.
        let base = unsafe { self.block.base.add(GUARD) };
        // SAFETY: readable and writable, initialised, kept alive; other accesses play the other process.
        unsafe { Region::from_raw_parts(base, len, Origin::default(), self.block.clone()) }.unwrap()
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.len);
        // SAFETY: in bounds, just checked.
        let word = unsafe { self.block.base.add(GUARD + offset) };
        // SAFETY: aligned, alive as long as `self`.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    pub(crate) fn get(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    pub(crate) fn set_byte(&self, offset: usize, value: u8) {
        assert!(offset < self.len);
        self.raw(GUARD + offset).store(value, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        (0..self.len).map(|i| self.raw(GUARD + i).load(Ordering::Relaxed)).collect()
    }

    /// Fails if anything was written outside of the bytes.
    pub(crate) fn check_guards(&self) {
        for i in self.guards() {
            assert_eq!(self.raw(i).load(Ordering::Relaxed), GUARD_BYTE, "byte {i} of the guards");
        }
    }
}

/// A plain type of the bytes of an array, aligned to 8.
pub(crate) trait Value: Pod + PartialEq + std::fmt::Debug {
    fn of(version: u64) -> Self;

    /// Whether it is the value of that version, in every word.
    fn is(&self, version: u64) -> bool {
        *self == Self::of(version)
    }
}

impl<const N: usize> Value for [u64; N]
where
    [u64; N]: Pod,
{
    /// Every word tells the version.
    fn of(version: u64) -> Self {
        std::array::from_fn(|i| version.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (i as u64) << 56)
    }
}
