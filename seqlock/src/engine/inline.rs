//! The inline form: values of 9 to 56 bytes, in rotating slots and once more behind `latest`, on its line. One writer,
//! any number of readers that only load. A read takes one cache line while the writer rests; where the copy is being
//! changed, the slots serve.
//!
//! # Memory layout
//! ```text
//! latest + 0   u64   writer   2 v: the copy behind holds version v; 2 v + 1: slot v does, the copy is being changed
//! latest + 8         writer   the copy, at most 7 words
//! slot i             writer   as in the rotating form
//! ```
//!
//! # Protocol
//! | step | the writer of version `v` |
//! |---|---|
//! | 1 to 3 | fills the slot of `v`, as in the [rotating](super::rotating) form |
//! | 4 | latest = `2 v + 1`, release; release fence |
//! | 5 | the copy, word by word in any order |
//! | 6 | latest = `2 v`, release |
//!
//! A reader that loads an even `latest` copies the words behind it, fences and loads `latest` again: unchanged, the
//! copy is whole. Else, and if `latest` was odd, it takes the slot of the version that it saw last. So `latest` is odd
//! for as long as a writer that died or was stopped leaves it so, and nobody waits.
//!
//! # Invariants
//! - H1: `latest / 2` never goes back, and no value of `latest` comes twice.
//! - H2: whatever the parity, when `latest / 2` is `v`, R2 of the rotating form holds for `v`.
//! - H3: while `latest` is `2 v`, the copy holds `v` whole.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `cell.publish` | `write`: store of `2 v + 1` | `Reader::look`; `read`: fence behind the second load | the slot of `v` |
//! | `inline.publish` | `write`: store of `2 v` | `Reader::look` | the copy, and the slot |
//! | `inline.busy` | `write`: fence behind `2 v + 1` | `read`: fence in front of the second load | whoever saw a word of a newer copy sees `latest` changed |
//! | `cell.busy` | as in the rotating form | | |
//!
//! # Crash argument
//! | point | killed or stopped here, the readers see | the next writer |
//! |---|---|---|
//! | steps 1 to 3 | `v - 1`, from the copy | writes `v` again, from step 1 |
//! | behind 4, in 5 | `v`, from its slot, until the next write | writes `v + 1`, whose step 5 mends the copy |
//! | behind 6 | `v`, from the copy | writes `v + 1` |
//!
//! # Not guaranteed
//! As in the rotating form.
//!
//! # Sources
//! The latch of Linux (`seqcount_latch`) for serving readers from another copy while one is changed.

use tidewire_shm::sync::{Ordering, fence};

use super::{Core, rotating};
use crate::codec::Codec;

/// The version that a value of `latest` names.
#[inline(always)]
pub(crate) fn version(latest: u64) -> u64 {
    latest >> 1
}

/// Writes a version.
///
/// # Safety
/// As [`rotating::fill`].
#[inline(always)]
pub(super) unsafe fn write<C: Codec>(core: &Core<C>, version: u64, value: &C::In) {
    // SAFETY: the caller's promise.
    unsafe { rotating::fill(core, version, value) };
    let even = version << 1;
    // ORD cell.publish: Release -> `Reader::look`, the fence behind the second load of `read`; the slot of the version.
    core.latest.store(even | 1, Ordering::Release);
    // ORD inline.busy: Release -> the fence of `read`; who sees a word stored below sees the store above.
    fence(Ordering::Release);
    // SAFETY: the copy has as many words as the value; the caller's promise.
    unsafe { core.codec.store(&core.hot, 0, value) };
    // ORD inline.publish: Release -> `Reader::look`; hands over the copy and the slot.
    core.latest.store(even, Ordering::Release);
}

/// One attempt to read, having seen `latest`; the version whose value is whole in `to`, if there is one.
///
/// # Safety
/// As [`rotating::take`].
#[inline(always)]
pub(super) unsafe fn read<C: Codec>(core: &Core<C>, mut latest: u64, to: *mut C::Out) -> Option<u64> {
    if latest & 1 == 0 {
        // SAFETY: the copy has as many words as the value; the caller's promise.
        unsafe { core.codec.load(&core.hot, 0, to) };
        // ORD inline.busy: Acquire <- `write`; if a word above came from a newer copy, `latest` has changed.
        fence(Ordering::Acquire);
        // ORD inline.busy: Relaxed, ordered by the fence above, and by the one below.
        let now = core.latest.load(Ordering::Relaxed);
        if now == latest {
            return Some(version(now));
        }
        // ORD cell.publish: Acquire <- `write`; the slot of this newer version is whole.
        fence(Ordering::Acquire);
        latest = now;
    }
    let version = version(latest);
    // SAFETY: the caller's promise.
    unsafe { rotating::take(core, version, to) }.then_some(version)
}
