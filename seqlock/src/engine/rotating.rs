//! Rotating stamped slots: the form of values of more than 56 bytes, and the ground of the [inline](super::inline)
//! form. One writer, any number of readers that only load. A write is wait-free; an attempt to read takes a bounded
//! number of steps and fails only if the writer came round to the same slot meanwhile.
//!
//! # Memory layout
//! ```text
//! latest + 0   u64   writer   the version of the latest value; its low half is what a futex waits for
//! slot i             writer   data words, then the stamp: the version that the slot holds, or that is being written
//!                             there with bit 63 (BUSY) set. Version v lives in slot v % slots
//! ```
//! The stamp lies behind the data: in front, it would shift them off the grain of the vectors.
//!
//! # Protocol
//! | step | the writer of version `v`, in the slot of `v - slots` |
//! |---|---|
//! | 1 | stamp = `BUSY` or `v`; release fence |
//! | 2 | the data, word by word in any order |
//! | 3 | stamp = `v` |
//! | 4 | latest = `v`, release |
//!
//! A reader loads `latest` as `v`, fences, copies the data of the slot of `v`, fences, loads the stamp of that slot.
//! If it is `v`, the copy is whole; else the writer has come round, and a newer version is there to be read.
//!
//! The writer never writes the slot that readers are sent to. There is no state "being written" that a reader could
//! wait for, and no word that a dead writer leaves for anybody to repair.
//!
//! # Invariants
//! - R1: `latest` is stored by the one writer only, and only as one more than before.
//! - R2: when `latest` is `v`, the slots of `v`, and of the `slots - 2` versions before it, hold them whole; one more
//!   slot may be being written.
//! - R3: the stamp of a slot never goes back, except that a successor writes `BUSY` again over a version that its
//!   predecessor never published.
//! - R4: a slot's index is `v & mask` with the private mask; whatever `latest` says, accesses stay within the slots.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `cell.publish` | `write`: store of `latest` | `Reader::look`: load of `latest` and fence | the slot of the version, whole, with its stamp |
//! | `cell.busy` | `fill`: fence behind `BUSY` | `take`: fence in front of the load of the stamp | whoever saw a word of a newer version sees its `BUSY`, or what came later |
//! | `cell.adopt` | a former writer's end: its lease, its role | `Writer` at attach | all that it wrote |
//! | `cell.follow` | `Core::adopt`: fence behind all of that | `take`, `Reader::look`: fences | whoever saw the first stamp of a writer sees the `latest` that it went on from |
//!
//! # Crash argument
//! | point | killed or stopped here, the readers see | the next writer |
//! |---|---|---|
//! | before step 1 | `v - 1` | writes `v` |
//! | in or behind steps 1, 2, 3 | `v - 1`, whole, without a retry: nobody is sent to that slot | writes `v` again, into the same slot, from step 1 |
//! | behind step 4 | `v`, whole | writes `v + 1` |
//!
//! Lost is only a value whose step 4 did not happen. Nobody has seen anything of it.
//!
//! # Not guaranteed
//! A read is not wait-free: with a finite number of slots and readers that never write it cannot be. It must try
//! again if the writer makes `slots - 1` whole writes during one copy; tries are bounded and counted. A hostile
//! writer can show any bytes as the value, and make readers find the cell `Corrupt`. Versions are counted to 2^62: at
//! 10^9 writes a second, 146 years.
//!
//! # Sources
//! Stamped slots in rotation are a seqlock (Lameter's and Hemminger's in Linux) unrolled over time, as the two halves
//! of `seqcount_latch` are; H. Boehm, *Can seqlocks get along with programming language memory models?* (2012), for
//! the fences. That readers check a stamp behind the data instead of the counter, so that they stay off the line that the
//! writer stores to, is our own measurement.

use tidewire_shm::sync::{AtomicU64, Ordering, fence};

use super::Core;
use crate::codec::Codec;
use crate::layout::slot_words;

/// The bit of a stamp that says that the slot is being written.
const BUSY: u64 = 1 << 63;

/// The first word of the slot of a version (R4).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the mask is below the number of slots, a u32")]
fn slot<C: Codec>(core: &Core<C>, version: u64) -> usize {
    (version & core.mask) as usize * slot_words(core.codec.words())
}

/// Steps 1 to 3: nobody is sent to the slot yet.
///
/// # Safety
/// The caller is the one writer; the region is alive and writable.
#[inline(always)]
pub(super) unsafe fn fill<C: Codec>(core: &Core<C>, version: u64, value: &C::In) {
    let at = slot(core, version);
    let stamp = stamp(core, version);
    // ORD cell.busy: Relaxed, ordered before the data by the fence.
    stamp.store(BUSY | version, Ordering::Relaxed);
    // ORD cell.busy: Release -> the fence of `take`; who sees a word stored below sees the stamp above.
    fence(Ordering::Release);
    // SAFETY: R4; the caller's promise.
    unsafe { core.codec.store(&core.slots, at, value) };
    // ORD cell.publish: Relaxed, the store of `latest` that follows hands it over.
    stamp.store(version, Ordering::Relaxed);
}

/// Copies the slot of a version and says whether the copy is whole.
///
/// # Safety
/// `to` is private and may be written; the region is alive.
#[inline(always)]
pub(super) unsafe fn take<C: Codec>(core: &Core<C>, version: u64, to: *mut C::Out) -> bool {
    let at = slot(core, version);
    // Found before the copy, behind which nothing that was in a register is known to be unchanged.
    let stamp = stamp(core, version);
    // SAFETY: R4; the caller's promise.
    unsafe { core.codec.load(&core.slots, at, to) };
    // ORD cell.busy: Acquire <- `fill`; if a word above came from a newer version, the stamp below does, too.
    fence(Ordering::Acquire);
    // ORD cell.busy: Relaxed, the fence before it orders it behind the data.
    stamp.load(Ordering::Relaxed) == version
}

/// The stamp of the slot of a version.
#[inline(always)]
fn stamp<C: Codec>(core: &Core<C>, version: u64) -> &AtomicU64 {
    // SAFETY: R4: the stamp is the word behind the data of a slot.
    unsafe { core.slots.word(slot(core, version) + core.codec.words()) }
}

/// Whether the slot of a version holds it, for a writer that nobody writes beside.
pub(super) fn holds<C: Codec>(core: &Core<C>, version: u64) -> bool {
    // ORD cell.adopt: Relaxed, the claim of the role has ordered what earlier writers did.
    stamp(core, version).load(Ordering::Relaxed) == version
}

/// Writes a version.
///
/// # Safety
/// As [`fill`].
#[inline(always)]
pub(super) unsafe fn write<C: Codec>(core: &Core<C>, version: u64, value: &C::In) {
    // SAFETY: the caller's promise.
    unsafe { fill(core, version, value) };
    // ORD cell.publish: Release -> `Reader::look`; hands over the slot of the version.
    core.latest.store(version, Ordering::Release);
}
