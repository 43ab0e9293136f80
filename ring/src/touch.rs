//! The touch: writing one word of a consumed line back unchanged before the line is given back.
//!
//! A line that the consumer has only read stays shared between two caches, and the producer's next store to it
//! pays for taking it over; a line that the consumer has written moves in one transfer. The value must stay what it
//! is: a successor of a dead consumer may have to read it again.

use tidewire_shm::CACHE_LINE_BYTES;
use tidewire_shm::sync::Payload;

const WORD: usize = 8;

/// Touches each cache line whose last byte lies in `offset .. offset + len`; the others are somebody else's to touch.
///
/// `EIGHT` says that `offset` and `len` are multiples of eight.
///
/// # Safety
/// The bytes are the caller's to write until it frees them, within `data`, and not borrowed.
#[inline(always)]
pub(crate) unsafe fn touch_lines<const EIGHT: bool>(data: &Payload, offset: usize, len: usize) {
    let mut end = (offset + len) & !(CACHE_LINE_BYTES - 1);
    while end > offset {
        if EIGHT {
            // SAFETY: `end` and `offset` are multiples of eight and `end > offset`, so the word is the caller's.
            unsafe { data.touch::<u64>(end - WORD) };
        } else {
            // SAFETY: `end > offset`, so the byte is the caller's.
            unsafe { data.touch::<u8>(end - 1) };
        }
        // A multiple of the line above `offset >= 0`, hence at least one line.
        end -= CACHE_LINE_BYTES;
    }
}
