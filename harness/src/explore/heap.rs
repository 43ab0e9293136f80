//! A heap of their own for the explorer's children: the same allocations lie at the same addresses, and take the same
//! instructions, in each of them.
//!
//! The system's heap takes another way for the same request when its lists look otherwise, and a child inherits them
//! from a tracer that allocates between any two children. Then a victim leaves the path of the reference run, and each
//! of its points is stepped to from the very start. So children take memory from one end of a fresh arena and give none
//! back; they are short-lived. Without room in the arena they ask the system, as everybody else always does.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::alloc::System;
use std::io;

/// Address space that a child can take; its pages cost nothing until they are touched.
const ARENA_BYTES: usize = 256 << 20;

/// The start of the arena; 0 if there is none yet.
static ARENA: AtomicUsize = AtomicUsize::new(0);
/// Where the next allocation of a child may lie; 0 outside of the explorer's children.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Reserves the arena, once in a process: before it has children.
pub(super) fn reserve() -> io::Result<()> {
    // ORD own: Relaxed, explorations of a process come one after the other.
    if ARENA.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
    let address = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            ARENA_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // ORD own: Relaxed, as above.
    ARENA.store(address.expose_provenance(), Ordering::Relaxed);
    Ok(())
}

/// From here on, this process, a child just forked, allocates in its copy of the arena.
pub(super) fn enter() {
    // ORD own: Relaxed, a child has one thread.
    NEXT.store(ARENA.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// The arena for the explorer's children, the system's heap for everybody else.
pub(crate) struct Heap;

/// Whether this process is a child that has an arena.
fn is_child() -> bool {
    // ORD own: Relaxed, set before the child has anything to allocate.
    NEXT.load(Ordering::Relaxed) != 0
}

/// Room at the end of what is taken, never used before and so zero; `None` if there is none.
fn take(layout: Layout) -> Option<*mut u8> {
    // ORD own: Relaxed, as in `reserve`.
    let end = ARENA.load(Ordering::Relaxed) + ARENA_BYTES;
    // ORD own: Relaxed: a child may start threads, and each of them gets room of its own; nothing else is handed over.
    let taken = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
        let behind = next.checked_next_multiple_of(layout.align())?.checked_add(layout.size())?;
        (behind <= end).then_some(behind)
    });
    let start = taken.ok()?.next_multiple_of(layout.align());
    Some(core::ptr::with_exposed_provenance_mut(start))
}

// SAFETY: a block of the arena lies within it, is aligned, and overlaps no other, since `NEXT` only grows; all other
// blocks are the system's. What a child frees stays as it is: it may be the system's, taken by the tracer.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_child()
            && let Some(room) = take(layout)
        {
            return room;
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_child()
            && let Some(room) = take(layout)
        {
            return room;
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !is_child() {
            // SAFETY: the caller's promise; outside of a child every block is the system's.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if !is_child() {
            // SAFETY: as in `dealloc`.
            return unsafe { System.realloc(block, layout, bytes) };
        }
        // SAFETY: the caller's promise: the new size, rounded up to the alignment, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        // SAFETY: the caller's promise: the size is not zero.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both blocks have as many bytes, and a new one overlaps no other.
            unsafe { block.copy_to_nonoverlapping(moved, layout.size().min(bytes)) };
        }
        moved
    }
}
