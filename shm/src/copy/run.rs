//! Copies between private memory and a run of words that others load or store at the same time by design.
//!
//! Every access is a relaxed one of a whole aligned word. From [`VECTORS_FROM`] bytes on, the whole words are copied
//! by the assembly of [`bytes`](super::bytes). The words are aligned and every vector access begins and ends between
//! two of them, so an access of 16 or 32 bytes stands for relaxed accesses of its 2 or 4 words, in no promised order;
//! where two accesses overlap, for two accesses of those words, of which the later one counts. Which instructions are
//! used is decided once per process. The protocols above need no more of the assembly than of the words: that no
//! byte comes from nowhere, and that fences order the whole copy.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Whether there are vectors to copy by, in a build that may use them.
const VECTORS: bool = cfg!(all(
    not(plain_copy),
    not(miri),
    any(all(target_arch = "x86_64", target_feature = "sse2"), target_arch = "aarch64")
));

/// From this length on they are used.
const VECTORS_FROM: usize = if VECTORS { 64 } else { usize::MAX };

/// Copies `len` bytes out of a run of words.
///
/// # Safety
/// `to` is private and has room for `len` bytes; `from` is aligned; the words that hold `len` bytes are in bounds and
/// only ever accessed as relaxed words.
#[inline(always)]
pub(crate) unsafe fn load(to: *mut u8, from: *mut u64, len: usize) {
    let whole = len / 8;
    if len >= VECTORS_FROM {
        // SAFETY: whole words within both ends, one of which is private.
        unsafe { super::bytes(to, from.cast(), whole * 8) };
    } else {
        for i in 0..whole {
            // SAFETY: in bounds and aligned by the caller's promise.
            let word = unsafe { word(from, i) };
            // SAFETY: the word's own eight bytes of `to`.
            unsafe { put(to, i, word, 8) };
        }
    }
    if !len.is_multiple_of(8) {
        // SAFETY: the last word is in bounds by the caller's promise.
        let word = unsafe { word(from, whole) };
        // SAFETY: what is left of `to`.
        unsafe { put(to, whole, word, len % 8) };
    }
}

/// Copies `len` bytes into a run of words; what is left of the last one becomes zero.
///
/// # Safety
/// As [`load`], the other way; the words are writable.
#[inline(always)]
pub(crate) unsafe fn store(to: *mut u64, from: *const u8, len: usize) {
    let whole = len / 8;
    if len >= VECTORS_FROM {
        // SAFETY: whole words within both ends, one of which is private.
        unsafe { super::bytes(to.cast(), from, whole * 8) };
    } else {
        for i in 0..whole {
            // SAFETY: the word's own eight bytes of `from`.
            let word = unsafe { get(from, i, 8) };
            // SAFETY: in bounds and aligned by the caller's promise.
            unsafe { set(to, i, word) };
        }
    }
    if !len.is_multiple_of(8) {
        // SAFETY: what is left of `from`.
        let word = unsafe { get(from, whole, len % 8) };
        // SAFETY: the last word is in bounds by the caller's promise.
        unsafe { set(to, whole, word) };
    }
}

#[inline(always)]
unsafe fn word(from: *mut u64, i: usize) -> u64 {
    // SAFETY: in bounds by the caller's promise.
    let at = unsafe { from.add(i) };
    // SAFETY: aligned and only accessed as an atomic by the caller's promise.
    let word = unsafe { AtomicU64::from_ptr(at) };
    // ORD run: Relaxed, the fences of the protocol around the copy carry the order.
    word.load(Ordering::Relaxed)
}

#[inline(always)]
unsafe fn set(to: *mut u64, i: usize, value: u64) {
    // SAFETY: in bounds by the caller's promise.
    let at = unsafe { to.add(i) };
    // SAFETY: aligned and only accessed as an atomic by the caller's promise.
    let word = unsafe { AtomicU64::from_ptr(at) };
    // ORD run: Relaxed, the fences of the protocol around the copy carry the order.
    word.store(value, Ordering::Relaxed);
}

/// The first `n` of a word's bytes into private memory.
#[inline(always)]
unsafe fn put(to: *mut u8, i: usize, word: u64, n: usize) {
    // SAFETY: in bounds by the caller's promise.
    let at = unsafe { to.add(i * 8) };
    // SAFETY: `n` is at most 8, and both ends are private.
    unsafe { ptr::copy_nonoverlapping(word.to_ne_bytes().as_ptr(), at, n) };
}

/// A word whose first `n` bytes come from private memory; the others are zero.
#[inline(always)]
unsafe fn get(from: *const u8, i: usize, n: usize) -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: in bounds by the caller's promise.
    let at = unsafe { from.add(i * 8) };
    // SAFETY: `n` is at most 8, and both ends are private.
    unsafe { ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), n) };
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length on both sides of where the ways of copying change copies its bytes, and no others.
    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "below 251")]
    fn every_length_goes_in_and_out_unchanged() {
        let source: [u8; 1200] = core::array::from_fn(|i| (i * 7 % 251) as u8 + 1);
        for len in (0..=300).chain(1020..=1032) {
            for skew in [0, 1, 7] {
                let mut shared = [u64::MAX; 160];
                // SAFETY: `skew + len` is within the source and `len` bytes are within the words.
                unsafe { store(shared.as_mut_ptr(), source[skew..].as_ptr(), len) };
                assert!(shared[len.div_ceil(8)..].iter().all(|word| *word == u64::MAX), "{len}");
                let mut target = [0xEE_u8; 1300];
                // SAFETY: as above, with room in the target.
                unsafe { load(target[16 + skew..].as_mut_ptr(), shared.as_mut_ptr(), len) };
                assert_eq!(&target[16 + skew..][..len], &source[skew..][..len], "length {len}, skew {skew}");
                assert!(target[..16 + skew].iter().all(|b| *b == 0xEE), "wrote before, length {len}");
                assert!(target[16 + skew + len..].iter().all(|b| *b == 0xEE), "wrote behind, length {len}");
                if !len.is_multiple_of(8) {
                    let last = shared[len / 8].to_ne_bytes();
                    assert!(
                        last[len % 8..].iter().all(|byte| *byte == 0),
                        "the rest of the last word is zero"
                    );
                }
            }
        }
    }
}
