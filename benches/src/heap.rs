//! An allocator that serves from memory which a later fork shares, while it is switched on.
//!
//! It lets a queue that was written for threads run between processes: everything it allocates lies at the same
//! address in both. The arena is made anew in each sample's process and dies with it, so nothing is ever reused.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use anyhow::Context as _;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Bytes of address space; only what is used takes memory.
const ARENA_BYTES: usize = 256 << 20;
/// The arena's first line holds how much of it is taken.
const ARENA_HEAD_BYTES: usize = 128;

/// The system's allocator, or the arena.
#[derive(Debug)]
pub struct SharedHeap {
    base: AtomicPtr<u8>,
    on: AtomicBool,
}

impl SharedHeap {
    /// An allocator that is switched off.
    #[must_use]
    pub const fn new() -> Self {
        Self { base: AtomicPtr::new(ptr::null_mut()), on: AtomicBool::new(false) }
    }

    fn arena(&self) -> Option<(*mut u8, &AtomicUsize)> {
        // ORD own: Relaxed, set before the fork or by the one thread that there is.
        let base = self.base.load(Ordering::Relaxed);
        if base.is_null() {
            return None;
        }
        // SAFETY: the arena's head: mapped until the process ends, aligned to a page, only used as this atomic.
        Some((base, unsafe { AtomicUsize::from_ptr(base.cast()) }))
    }

    fn owns(&self, block: *mut u8) -> bool {
        // ORD own: Relaxed, as in `arena`.
        let base = self.base.load(Ordering::Relaxed).addr();
        base != 0 && (base..base + ARENA_BYTES).contains(&block.addr())
    }

    fn bump(&self, layout: Layout) -> *mut u8 {
        let Some((base, taken)) = self.arena() else { return ptr::null_mut() };
        let room = layout.size() + layout.align();
        // ORD own: Relaxed, the counter only hands out disjoint blocks.
        let start = taken.fetch_add(room, Ordering::Relaxed);
        if start + room > ARENA_BYTES {
            return ptr::null_mut();
        }
        // SAFETY: below the arena's end, as just checked.
        let block = unsafe { base.add(start) };
        let skip = block.align_offset(layout.align());
        // SAFETY: `room` has an alignment to spare.
        unsafe { block.add(skip) }
    }

    fn is_on(&self) -> bool {
        // ORD own: Relaxed, as in `arena`.
        self.on.load(Ordering::Relaxed)
    }
}

impl Default for SharedHeap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks are disjoint, large enough and aligned, in the arena by `bump` and elsewhere by the system; blocks
// of the arena are never handed out twice.
unsafe impl GlobalAlloc for SharedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.is_on() {
            return self.bump(layout);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !self.owns(block) {
            // SAFETY: the caller's promise; not the arena's, so the system's.
            unsafe { System.dealloc(block, layout) };
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if self.is_on() {
            // Fresh anonymous memory is zero and is handed out once.
            return self.bump(layout);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
}

/// Makes the arena of this process, and switches it on.
///
/// # Errors
/// If the system has no address space to give.
pub fn share() -> anyhow::Result<()> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            ARENA_BYTES,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::NORESERVE,
        )
    };
    let base = base.context("map the shared heap")?.cast::<u8>();
    // SAFETY: the arena's head, as in `arena`; nobody else knows it yet.
    let taken = unsafe { AtomicUsize::from_ptr(base.cast()) };
    // ORD own: Relaxed, single-threaded until the fork.
    taken.store(ARENA_HEAD_BYTES, Ordering::Relaxed);
    // ORD own: Relaxed, as above.
    crate::HEAP.base.store(base, Ordering::Relaxed);
    set(true);
    Ok(())
}

/// Switches the arena on or off, if this process has one.
pub fn set(on: bool) {
    let on = on && crate::HEAP.arena().is_some();
    // ORD own: Relaxed, single-threaded where it is called.
    crate::HEAP.on.store(on, Ordering::Relaxed);
}

/// Fills this process' page tables for all that was taken from the arena so far.
///
/// # Errors
/// If the system has no memory to give.
pub fn prefault() -> anyhow::Result<()> {
    let Some((base, taken)) = crate::HEAP.arena() else { return Ok(()) };
    // ORD own: Relaxed, what the fork's parent took is known to both sides.
    let used = taken.load(Ordering::Relaxed).next_multiple_of(4096).min(ARENA_BYTES);
    // SAFETY: part of the arena; populating changes no contents.
    unsafe { madvise(base.cast(), used, Advice::LinuxPopulateWrite) }.context("prefault the shared heap")
}
