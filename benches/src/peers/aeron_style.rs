//! A many-to-one ring in the style of Aeron's, written from the published description of the algorithm.
//!
//! Records lie in place, one behind the other: a word of length and type, then the message. A producer claims room by
//! a compare-and-swap of the shared tail, stores the negative length, writes the message, and publishes it by a
//! release store of the length. The consumer stops at a length that is not positive; it zeroes what it consumed and
//! publishes the head, once for each batch. A record that would cross the end of the buffer is preceded by a padding
//! record. Not for production: a producer that dies between claim and length stops the consumer for ever.
//!
//! Where this differs from the original: each producer keeps its own copy of the head instead of one that all share;
//! length and type are one store; and several records can be claimed at once.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::board::Word;
use crate::contender::{CAPACITY, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode};

/// The ring.
#[derive(Debug)]
pub enum AeronStyle {}

/// The type of a record with a message, above its length.
const MESSAGE: i64 = 1 << 32;
/// The type of a record without one.
const PADDING: i64 = 2 << 32;
/// Where the length lies: words of the record, negative while it is written.
const LENGTH: i64 = (1 << 32) - 1;

#[derive(Debug)]
struct Ring {
    /// Claimed words since the beginning.
    tail: Word,
    /// Consumed words since the beginning.
    head: Word,
    /// Words that may be claimed and not consumed: as many as the capacity's messages take.
    limit: u64,
    /// One less than the buffer's words, a power of two.
    mask: u64,
    words: Box<[UnsafeCell<u64>]>,
}

// SAFETY: a word is written by the producer that claimed it until it publishes the length, then by the consumer
// until it publishes the head; lengths are only accessed as atomics while both could.
unsafe impl Sync for Ring {}

/// A producer.
#[derive(Debug)]
pub struct AeronTx {
    ring: Arc<Ring>,
    /// The head when it was last read.
    head: u64,
}

/// The consumer.
#[derive(Debug)]
pub struct AeronRx {
    ring: Arc<Ring>,
    head: u64,
}

/// Words of a record with a message of `W` words.
const fn record<const W: usize>() -> u64 {
    W as u64 + 1
}

impl Ring {
    fn new<const W: usize>() -> Self {
        let limit = CAPACITY as u64 * record::<W>();
        let words = limit.next_power_of_two();
        let room = usize::try_from(words).unwrap_or(usize::MAX);
        Self {
            tail: Word(AtomicU64::new(0)),
            head: Word(AtomicU64::new(0)),
            limit,
            mask: words - 1,
            // Zeroed memory, as it comes.
            words: vec![0_u64; room].into_iter().map(UnsafeCell::new).collect(),
        }
    }

    #[inline(always)]
    fn at(&self, position: u64) -> *mut u64 {
        #[expect(clippy::cast_possible_truncation, reason = "below the length of a slice")]
        let index = (position & self.mask) as usize;
        // SAFETY: masked, so below the buffer's words.
        let word = unsafe { self.words.get_unchecked(index) };
        word.get()
    }

    #[inline(always)]
    fn length_at(&self, position: u64) -> &AtomicI64 {
        // SAFETY: aligned, lives as long as the ring, and accessed without this atomic only by its one owner.
        unsafe { AtomicI64::from_ptr(self.at(position).cast()) }
    }

    /// Words from a position to the end of the buffer.
    #[inline(always)]
    fn to_end(&self, position: u64) -> u64 {
        self.mask + 1 - (position & self.mask)
    }
}

impl AeronTx {
    /// Claims room for records of so many words, all in one run; none if there is not enough.
    #[inline(always)]
    fn claim(&mut self, words: u64) -> Option<u64> {
        let ring = &*self.ring;
        // ORD claim: Relaxed, a stale tail fails the exchange.
        let mut tail = ring.tail.0.load(Ordering::Relaxed);
        loop {
            let to_end = ring.to_end(tail);
            let padding = if to_end < words { to_end } else { 0 };
            if tail + padding + words > self.head + ring.limit {
                // ORD room: Acquire <- `AeronRx::release`; what lies before the head is zero again.
                self.head = ring.head.0.load(Ordering::Acquire);
                if tail + padding + words > self.head + ring.limit {
                    return None;
                }
            }
            let next = tail + padding + words;
            // ORD claim: Relaxed <-> `AeronTx::claim`; only hands out disjoint runs, the lengths publish.
            match ring.tail.0.compare_exchange_weak(tail, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) if padding > 0 => {
                    let length = PADDING | padding.cast_signed();
                    // ORD record: Release -> `AeronRx::read`.
                    ring.length_at(tail).store(length, Ordering::Release);
                    return Some(tail + padding);
                }
                Ok(_) => return Some(tail),
                Err(found) => tail = found,
            }
        }
    }

    /// Writes a record that was claimed, and publishes it.
    #[inline(always)]
    fn write<const W: usize>(&self, position: u64, message: &[u64; W]) {
        let (ring, length) = (&*self.ring, record::<W>().cast_signed());
        // ORD record: Release, as the algorithm has it; the consumer only sees that it is not positive.
        ring.length_at(position).store(-length, Ordering::Release);
        // SAFETY: the run was claimed by this producer and does not cross the end.
        unsafe { ptr::copy_nonoverlapping(message.as_ptr(), ring.at(position + 1), W) };
        // ORD record: Release -> `AeronRx::read`; hands over the message.
        ring.length_at(position).store(MESSAGE | length, Ordering::Release);
    }
}

impl AeronRx {
    /// Reads up to `most` messages through `each`, which is handed where a message lies.
    #[inline(always)]
    fn read(&mut self, most: usize, mut each: impl FnMut(usize, *const u64)) -> usize {
        let (mut at, mut read) = (self.head, 0);
        while read < most {
            // ORD record: Acquire <- `AeronTx::write`, `AeronTx::claim`; the message is whole.
            let length = self.ring.length_at(at).load(Ordering::Acquire);
            if length <= 0 {
                break;
            }
            if length & PADDING == 0 {
                each(read, self.ring.at(at + 1).cast_const());
                read += 1;
            }
            at += (length & LENGTH).cast_unsigned();
        }
        if at != self.head {
            self.release(at);
        }
        read
    }

    /// Zeroes everything up to a position and lets the producers have it.
    #[inline(always)]
    fn release(&mut self, to: u64) {
        let first = (to - self.head).min(self.ring.to_end(self.head));
        for (from, words) in [(self.head, first), (self.head + first, to - self.head - first)] {
            #[expect(clippy::cast_possible_truncation, reason = "at most the length of a slice")]
            let words = words as usize;
            // SAFETY: consumed and not yet released, so nobody else's; the two parts do not cross the end.
            unsafe { ptr::write_bytes(self.ring.at(from), 0, words) };
        }
        self.head = to;
        // ORD room: Release -> `AeronTx::claim`; the zeroes.
        self.ring.head.0.store(to, Ordering::Release);
    }
}

impl ManyContender for AeronStyle {
    const NAME: &'static str = "Aeron-style ring";
    const BATCH: bool = true;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = AeronTx;
    type Rx<const W: usize> = AeronRx;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let ring = Arc::new(Ring::new::<W>());
        let txs = (0..producers).map(|_| AeronTx { ring: Arc::clone(&ring), head: 0 });
        Ok((txs.collect(), AeronRx { ring, head: 0 }))
    }
}

impl<const W: usize> Tx<W> for AeronTx {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        let Some(position) = self.claim(record::<W>()) else { return false };
        self.write(position, message);
        true
    }

    /// One claim for all, a length for each.
    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        let Some(position) = self.claim(record::<W>() * messages.len() as u64) else { return 0 };
        for (i, message) in messages.iter().enumerate() {
            self.write(position + i as u64 * record::<W>(), message);
        }
        messages.len()
    }
}

impl<const W: usize> Rx<W> for AeronRx {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        self.take(to, 1, |_| {}) == 1
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        let (room, base) = (to.len(), to.as_mut_ptr());
        self.read(room, |i, from| {
            // SAFETY: `read` counts below `room`.
            let slot = unsafe { base.add(i) };
            // SAFETY: a published record of this ring holds `W` words; the slot is the caller's.
            unsafe { ptr::copy_nonoverlapping(from, slot.cast(), W) };
        })
    }

    #[inline(always)]
    fn take(&mut self, to: &mut [u64; W], most: usize, mut each: impl FnMut(&[u64; W])) -> usize {
        self.read(most, |_, from| {
            // SAFETY: a published record of this ring holds `W` words; the buffer is the caller's.
            unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), W) };
            each(to);
        })
    }
}
