//! The book of a round: the words by which parent and children agree, their journals, and the consumer's hand.
//!
//! # Memory layout
//! ```text
//!    0   stop u64      parent: producers begin nothing new
//!  128   drain u64     parent: the producers have ended, the consumer ends when nothing is left
//!  256   pushed u64    producer: messages acknowledged so far
//!  384   got u64       consumer: messages received so far
//!  512   count u64     of the producer's journal
//!  640   count u64     of the consumer's journal
//! 4096   records of the producer, records of the consumer, hand
//! ```
//! All of it is the harness' own: the structure under test lies in a segment of its own.

use anyhow::{Context as _, Result};
use tidewire_shm::sync::{AtomicU64, Ordering, Payload, Shared, Span, SpanMut};
use tidewire_shm::{Region, Segment, Untrusted};

use super::history::{Journal, RECORD_BYTES};
use super::plan::BUDGET;

/// The longest run of messages that lies in a hand.
pub(crate) const HAND_BYTES: usize = 32 * 1024;
/// Records that a consumer keeps free for what is still in the structure when the producers stop.
pub(crate) const RESERVE: usize = 1 << 15;

const STOP: usize = 0;
const DRAIN: usize = 128;
const PUSHED: usize = 256;
const GOT: usize = 384;
const PRODUCER_COUNT: usize = 512;
const CONSUMER_COUNT: usize = 640;
const RECORDS: usize = 4096;
#[expect(clippy::cast_possible_truncation, reason = "half a million")]
const PRODUCER_BYTES: usize = (BUDGET as usize + (1 << 14)) * RECORD_BYTES;
#[expect(clippy::cast_possible_truncation, reason = "one and a half million")]
const CONSUMER_BYTES: usize = (3 * BUDGET as usize + 2 * RESERVE) * RECORD_BYTES;
const HAND: usize = (RECORDS + PRODUCER_BYTES + CONSUMER_BYTES).next_multiple_of(4096);
const BYTES: usize = HAND + HAND_BYTES;

/// The book, as one process has it mapped.
#[derive(Debug)]
pub(crate) struct Book {
    region: Region<Untrusted>,
    stop: Shared<AtomicU64>,
    drain: Shared<AtomicU64>,
    pushed: Shared<AtomicU64>,
    got: Shared<AtomicU64>,
    hand: Payload,
}

impl Book {
    /// Memory for a book.
    pub(crate) fn segment() -> Result<Segment> {
        Segment::anonymous(BYTES).context("cannot create the segment for the histories")
    }

    /// The book in its segment.
    pub(crate) fn open(segment: &Segment) -> Result<Self> {
        let region = segment.region();
        anyhow::ensure!(region.len() >= BYTES, "expected a book of {BYTES} bytes, found {}", region.len());
        let word = |offset| {
            // SAFETY: the region is kept beside the word; the layout gives the offset to this atomic only.
            unsafe { region.atomic_u64(offset) }
        };
        let (stop, drain, pushed, got) = (word(STOP), word(DRAIN), word(PUSHED), word(GOT));
        // SAFETY: the region is kept beside it; these bytes are the hand only.
        let hand = unsafe { region.payload(HAND, HAND_BYTES) };
        Ok(Self { region, stop, drain, pushed, got, hand })
    }

    /// The producer's journal.
    pub(crate) fn producer(&self) -> Journal {
        Journal::open(&self.region, PRODUCER_COUNT, RECORDS, PRODUCER_BYTES)
    }

    /// The consumer's journal.
    pub(crate) fn consumer(&self) -> Journal {
        Journal::open(&self.region, CONSUMER_COUNT, RECORDS + PRODUCER_BYTES, CONSUMER_BYTES)
    }

    /// Makes the book empty; nobody else has it.
    pub(crate) fn clear(&self) {
        for word in [&self.stop, &self.drain, &self.pushed, &self.got] {
            // ORD book.clear: Relaxed, the start of the children orders it.
            word.store(0, Ordering::Relaxed);
        }
        self.producer().clear();
        self.consumer().clear();
    }

    /// Tells the producer to begin nothing new.
    pub(crate) fn stop(&self) {
        // ORD book.stop: Relaxed, a hint that hands nothing over.
        self.stop.store(1, Ordering::Relaxed);
    }

    /// Whether the producer shall begin nothing new.
    #[inline(always)]
    pub(crate) fn stopped(&self) -> bool {
        // ORD book.stop: Relaxed, a hint that hands nothing over.
        self.stop.load(Ordering::Relaxed) != 0
    }

    /// Tells the consumer that the producers have ended.
    pub(crate) fn drain(&self) {
        // ORD book.drain: Release -> `Book::draining`; after everything that the producers published.
        self.drain.store(1, Ordering::Release);
    }

    /// Whether the producers have ended.
    #[inline(always)]
    pub(crate) fn draining(&self) -> bool {
        // ORD book.drain: Acquire <- `Book::drain`; what they published is seen from here on.
        self.drain.load(Ordering::Acquire) != 0
    }

    /// Messages acknowledged so far.
    pub(crate) fn pushed(&self) -> u64 {
        // ORD book.count: Relaxed, a number for the watchdog and the budget.
        self.pushed.load(Ordering::Relaxed)
    }

    /// Counts messages that were pushed; only the producer does.
    #[inline(always)]
    pub(crate) fn add_pushed(&self, n: u64) {
        // ORD book.count: Relaxed, one writer.
        self.pushed.store(self.pushed() + n, Ordering::Relaxed);
    }

    /// Messages received so far, repeated ones included.
    pub(crate) fn received(&self) -> u64 {
        // ORD book.count: Relaxed, a number for the watchdog.
        self.got.load(Ordering::Relaxed)
    }

    /// Counts messages that were received; only the consumer does.
    #[inline(always)]
    pub(crate) fn add_received(&self, n: u64) {
        // ORD book.count: Relaxed, one writer.
        self.got.store(self.received() + n, Ordering::Relaxed);
    }

    /// The first `len` bytes of the hand, to take messages into.
    ///
    /// # Panics
    /// If `len` is more than [`HAND_BYTES`].
    pub(crate) fn hand_mut(&mut self, len: usize) -> SpanMut<'_> {
        assert!(len <= HAND_BYTES, "a hand of {len} bytes");
        // SAFETY: within the hand; the consumer is the only process that uses it, and borrows the book meanwhile.
        unsafe { self.hand.span_mut(0, len) }
    }

    /// The hand, to read: by the consumer, or by the parent after the consumer's death.
    pub(crate) fn hand(&self) -> Span<'_> {
        // SAFETY: within the hand; its writer is this process, which borrows the book, or dead.
        unsafe { self.hand.span(0, HAND_BYTES) }
    }
}
