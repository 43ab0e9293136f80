//! The word form: values of up to 8 bytes, in single words that rotate behind `latest`, on its line. One writer, any
//! number of readers that only load. A write is two stores, a read three loads, all on one cache line.
//!
//! # Memory layout
//! ```text
//! latest + 0       u64   writer   the version of the latest value; its low half is what a futex waits for
//! latest + 8 + 8 i u64   writer   the value of the latest version v with v % slots = i; slots is 2 or 4
//! ```
//!
//! # Protocol
//! | step | the writer of version `v` |
//! |---|---|
//! | 1 | release fence; the word of `v - slots` = the value |
//! | 2 | latest = `v`, release |
//!
//! A reader loads `latest` as `v`, fences, loads the word of `v`, fences, loads `latest` again. A word is never torn; it
//! can only be that of a later version, and then `latest` has become at least `v + slots - 1`. So if it is less, the word
//! is that of `v`.
//!
//! # Invariants
//! - W1: `latest` is stored by the one writer only, and only as one more than before.
//! - W2: the word of version `v` is stored when `latest` is `v - 1`.
//! - W3: a word's index is `v & mask` with the private mask.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `cell.publish` | `write`: store of `latest` | `Reader::look`: load of `latest` and fence | the word of the version |
//! | `word.busy` | `write`: fence in front of the word | `read`: fence behind the word | whoever saw the word of `w` sees `latest` at `w - 1` or later |
//!
//! # Crash argument
//! | point | killed or stopped here, the readers see | the next writer |
//! |---|---|---|
//! | in step 1 | `v - 1`: nobody is sent to that word | writes `v` again, into the same word |
//! | behind step 2 | `v` | writes `v + 1` |
//!
//! # Not guaranteed
//! As in the [rotating](super::rotating) form; a reader must try again if the writer makes `slots - 1` writes between
//! its two loads of `latest`.
//!
//! # Sources
//! As the rotating form. A pair {version, value} in one access of 16 bytes would need no second look, but 16-byte
//! loads are not atomic by the language, and not on every processor.

use tidewire_shm::sync::{Ordering, fence};

use super::Core;
use crate::codec::Codec;

/// The index of the word of a version (W3).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the mask is below the number of slots, a u32")]
fn index<C: Codec>(core: &Core<C>, version: u64) -> usize {
    (version & core.mask) as usize
}

/// Writes a version.
///
/// # Safety
/// The caller is the one writer; the region is alive and writable; a value takes one word.
#[inline(always)]
pub(super) unsafe fn write<C: Codec>(core: &Core<C>, version: u64, value: &C::In) {
    // ORD word.busy: Release -> the fence of `read`; who sees the word stored below sees the `latest` before it.
    fence(Ordering::Release);
    // SAFETY: W3; the caller's promise.
    unsafe { core.codec.store(&core.hot, index(core, version), value) };
    // ORD cell.publish: Release -> `Reader::look`; hands over the word of the version.
    core.latest.store(version, Ordering::Release);
}

/// One attempt to read, having seen `latest`; the version whose value is in `to`, if it is known.
///
/// # Safety
/// `to` is private and may be written; the region is alive; a value takes one word.
#[inline(always)]
pub(super) unsafe fn read<C: Codec>(core: &Core<C>, latest: u64, to: *mut C::Out) -> Option<u64> {
    // SAFETY: W3; the caller's promise.
    unsafe { core.codec.load(&core.hot, index(core, latest), to) };
    // ORD word.busy: Acquire <- `write`; if the word above is that of a later version, `latest` has come close to it.
    fence(Ordering::Acquire);
    // ORD word.busy: Relaxed, the fence before it orders it behind the word.
    let now = core.latest.load(Ordering::Relaxed);
    (now.wrapping_sub(latest) < core.mask).then_some(latest)
}

/// Copies the word of a version that nobody else writes now.
///
/// # Safety
/// As [`read`].
#[inline(always)]
pub(super) unsafe fn take<C: Codec>(core: &Core<C>, version: u64, to: *mut C::Out) {
    // SAFETY: W3; the caller's promise.
    unsafe { core.codec.load(&core.hot, index(core, version), to) };
}
