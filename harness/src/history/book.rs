//! The book of a run: the words by which parent and children agree, their journals, and the consumer's hand.
//!
//! # Memory layout
//! ```text
//!    0   stop u64      producers begin nothing new
//!  128   drain u64     parent: the producers have ended, the consumer ends when nothing is left
//!  256   got u64       consumer: messages received so far
//!  384   count u64     of the consumer's journal
//!  512   pushed u64    producer 0: messages acknowledged so far
//!  640   count u64     of the journal of producer 0
//!  ...                 the same for each further producer
//! page   records of the producers, one after the other; records of the consumer; hand
//! ```
//! All of it is the harness' own: the structure under test lies in a segment of its own.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tidewire_shm::sync::{AtomicU64, Ordering, Payload, Shared, Span, SpanMut};
use tidewire_shm::{Region, Segment, Untrusted};

use super::{Journal, RECORD_BYTES};

/// The longest run of messages that lies in a hand.
pub(crate) const HAND_BYTES: usize = 32 * 1024;
/// Records that a consumer keeps free for what is still in the structure when the producers stop.
pub(crate) const RESERVE: usize = 1 << 15;

const STOP: usize = 0;
const DRAIN: usize = 128;
const GOT: usize = 256;
const CONSUMER_COUNT: usize = 384;
const PUSHED: usize = 512;
const PRODUCER_COUNT: usize = 640;
/// Bytes of words of one producer.
const PRODUCER_WORDS: usize = 256;
const PAGE: usize = 4096;

/// How much a book holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Journals of producers.
    pub(crate) producers: u8,
    /// Records of each of them.
    pub(crate) pushes: usize,
    /// Records of the consumer.
    pub(crate) pops: usize,
}

impl Volume {
    fn records(self) -> usize {
        (PUSHED + usize::from(self.producers) * PRODUCER_WORDS).next_multiple_of(PAGE)
    }

    /// Where the records of producer `number` lie; behind the last one, those of the consumer.
    fn journal(self, number: u8) -> usize {
        self.records() + usize::from(number) * self.pushes * RECORD_BYTES
    }

    fn hand(self) -> usize {
        (self.journal(self.producers) + self.pops * RECORD_BYTES).next_multiple_of(PAGE)
    }

    fn bytes(self) -> usize {
        self.hand() + HAND_BYTES
    }
}

/// The book, as one process has it mapped.
#[derive(Debug)]
pub(crate) struct Book {
    region: Region<Untrusted>,
    volume: Volume,
    stop: Shared<AtomicU64>,
    drain: Shared<AtomicU64>,
    pushed: Vec<Shared<AtomicU64>>,
    got: Shared<AtomicU64>,
    hand: Payload,
}

impl Book {
    /// Memory for a book.
    pub(crate) fn segment(volume: Volume) -> Result<Segment> {
        Segment::anonymous(volume.bytes()).context("cannot create the segment for the histories")
    }

    /// The book in its segment.
    pub(crate) fn open(segment: &Segment, volume: Volume) -> Result<Self> {
        let region = segment.region();
        let (needed, found) = (volume.bytes(), region.len());
        anyhow::ensure!(found >= needed, "expected a book of {needed} bytes, found {found}");
        let word = |offset| {
            // SAFETY: the region is kept beside the word; the layout gives the offset to this atomic only.
            unsafe { region.atomic_u64(offset) }
        };
        let (stop, drain, got) = (word(STOP), word(DRAIN), word(GOT));
        let words = |number| PUSHED + usize::from(number) * PRODUCER_WORDS;
        let pushed = (0..volume.producers).map(|number| word(words(number))).collect();
        // SAFETY: the region is kept beside it; these bytes are the hand only.
        let hand = unsafe { region.payload(volume.hand(), HAND_BYTES) };
        Ok(Self { region, volume, stop, drain, pushed, got, hand })
    }

    /// The journal of producer `number`, which the volume has.
    pub(crate) fn producer(&self, number: u8) -> Journal {
        let count = PRODUCER_COUNT + usize::from(number) * PRODUCER_WORDS;
        let (records, bytes) = (self.volume.journal(number), self.volume.pushes * RECORD_BYTES);
        Journal::open(&self.region, count, records, bytes)
    }

    /// The journals of all producers.
    pub(crate) fn producers(&self) -> impl Iterator<Item = Journal> {
        (0..self.volume.producers).map(|number| self.producer(number))
    }

    /// The consumer's journal.
    pub(crate) fn consumer(&self) -> Journal {
        let (records, bytes) = (self.volume.journal(self.volume.producers), self.volume.pops * RECORD_BYTES);
        Journal::open(&self.region, CONSUMER_COUNT, records, bytes)
    }

    /// Makes the book empty; nobody else has it.
    pub(crate) fn clear(&self) {
        for word in [&self.stop, &self.drain, &self.got].into_iter().chain(&self.pushed) {
            // ORD book.clear: Relaxed, the start of the children orders it.
            word.store(0, Ordering::Relaxed);
        }
        self.producers().for_each(|mut journal| journal.clear());
        self.consumer().clear();
    }

    /// Tells the producers to begin nothing new.
    pub(crate) fn stop(&self) {
        // ORD book.stop: Relaxed, a hint that hands nothing over.
        self.stop.store(1, Ordering::Relaxed);
    }

    /// Whether producers shall begin nothing new.
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

    /// Messages acknowledged so far, by all producers.
    pub(crate) fn pushed(&self) -> u64 {
        // ORD book.count: Relaxed, a number for the watchdog.
        self.pushed.iter().map(|word| word.load(Ordering::Relaxed)).sum()
    }

    /// Messages acknowledged so far by producer `number`.
    #[inline(always)]
    pub(crate) fn pushed_by(&self, number: u8) -> u64 {
        // ORD book.count: Relaxed, a number for the budget.
        self.pushed.get(usize::from(number)).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Counts messages that producer `number` pushed; only it does.
    #[inline(always)]
    pub(crate) fn add_pushed(&self, number: u8, n: u64) {
        if let Some(word) = self.pushed.get(usize::from(number)) {
            // ORD book.count: Relaxed, one writer.
            word.store(word.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, Run};

    #[test]
    fn every_journal_is_filled_to_its_end_without_a_trace_in_the_others() {
        let volume = Volume { producers: 3, pushes: 40, pops: 50 };
        let segment = Book::segment(volume).unwrap();
        let book = Book::open(&segment, volume).unwrap();
        let event = |producer, seq| Event::Hand(Run { producer, seq, n: 1, units: 1 });
        let journals = || book.producers().chain([book.consumer()]);
        for (journal, number) in journals().zip(0..) {
            let mut journal = journal;
            for seq in 0..60 {
                journal.append(event(number, seq));
            }
            assert_eq!(journal.room(), 0);
            journal.publish();
        }
        let hand = book.hand().iter().filter(|byte| **byte != 0).count();
        assert_eq!(hand, 0);
        for (journal, (number, length)) in journals().zip([(0, 40), (1, 40), (2, 40), (3, 50)]) {
            let expected: Vec<Event> = (0..length).map(|seq| event(number, seq)).collect();
            assert_eq!(journal.events(), expected);
        }
        book.add_pushed(2, 7);
        book.add_pushed(0, 1);
        assert_eq!([book.pushed_by(0), book.pushed_by(1), book.pushed_by(2), book.pushed()], [1, 0, 7, 8]);
        book.clear();
        assert!(journals().all(|journal| journal.events().is_empty()) && book.pushed() == 0);
    }

    #[test]
    fn a_segment_that_is_too_short_is_refused() {
        let segment = Book::segment(Volume { producers: 1, pushes: 1, pops: 1 }).unwrap();
        let more = Volume { producers: 4, pushes: 1 << 12, pops: 1 };
        assert!(Book::open(&segment, more).unwrap_err().to_string().starts_with("expected a book of"));
    }
}
