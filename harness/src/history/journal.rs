//! A journal: an append-only run of records in shared memory that outlives its writer.
//!
//! # Memory layout
//! ```text
//! count    u64, on a line of its own: records below it are published
//! records  40 bytes each: kind << 32 | producer, messages << 32 | units, sequence, t0, t1
//! ```
//!
//! # Crash argument
//! | point | killed here, the others see |
//! |---|---|
//! | before the store of `count` | nothing of the record |
//! | before a record is completed | it, not done |
//! | between two records of one completion | impossible: they are published together |
//!
//! One process writes a journal at a time: a role's, or, between its death and its successor, the parent.

use tidewire_shm::sync::{AtomicU64, Ordering, Payload, Shared};
use tidewire_shm::{Region, Untrusted};

use super::{Event, Run, Span};

/// Bytes of a record.
pub(crate) const RECORD_BYTES: usize = 40;

const NOTHING: u32 = 0;
const PUSH: u32 = 1;
const FULL: u32 = 2;
const GOT: u32 = 3;
const TORN: u32 = 4;
const EMPTY: u32 = 5;
const TAKING: u32 = 6;
const HAND: u32 = 7;
const TAKE_OVER: u32 = 8;

const WORDS: usize = RECORD_BYTES / 8;
const KIND: usize = 0;
const T0: usize = 3;
const T1: usize = 4;

/// A journal in a region.
pub(crate) struct Journal {
    count: Shared<AtomicU64>,
    records: Payload,
    next: usize,
    _region: Region<Untrusted>,
}

impl core::fmt::Debug for Journal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Journal").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Journal {
    /// The journal whose count lies at `count` and whose records lie in `bytes` bytes at `records`; continues it.
    ///
    /// # Panics
    /// If the places do not lie within the region: they are the parent's own.
    pub(crate) fn open(region: &Region<Untrusted>, count: usize, records: usize, bytes: usize) -> Self {
        // SAFETY: kept with the region below; the word is accessed as this atomic only.
        let count = unsafe { region.atomic_u64(count) };
        // SAFETY: kept with the region below; these bytes hold records only.
        let records = unsafe { region.payload(records, bytes) };
        // SAFETY: journals copy in and out, and one process writes at a time.
        let region = unsafe { region.alias() };
        let mut journal = Self { count, records, next: 0, _region: region };
        journal.next = journal.published();
        journal
    }

    fn published(&self) -> usize {
        // ORD journal.publish: Acquire <- `Journal::publish`; the records below are written.
        let count = self.count.load(Ordering::Acquire);
        usize::try_from(count).unwrap_or(usize::MAX).min(self.records.len() / RECORD_BYTES)
    }

    /// Records that still fit.
    #[inline(always)]
    pub(crate) fn room(&self) -> usize {
        self.records.len() / RECORD_BYTES - self.next
    }

    /// Records that are written, published or not.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.next
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.next = 0;
        self.publish();
    }

    #[inline(always)]
    fn word(&self, record: usize, word: usize) -> Option<usize> {
        let offset = record * RECORD_BYTES + word * 8;
        (offset + 8 <= self.records.len()).then_some(offset)
    }

    #[inline(always)]
    fn store(&self, record: usize, word: usize, value: u64) {
        if let Some(offset) = self.word(record, word) {
            // SAFETY: just checked; records are multiples of eight; this process is the only writer now.
            unsafe { self.records.store(offset, &value) };
        }
    }

    #[inline(always)]
    fn load(&self, record: usize, word: usize) -> u64 {
        match self.word(record, word) {
            // SAFETY: just checked; a published record, or our own; any bytes are a number.
            Some(offset) => unsafe { self.records.load(offset) },
            None => 0,
        }
    }

    /// Appends a record, which counts from the next [`publish`](Self::publish) on; `None` if the journal is full.
    #[inline(always)]
    pub(crate) fn append(&mut self, event: Event) -> Option<usize> {
        if self.room() == 0 {
            return None;
        }
        let at = self.next;
        for (word, value) in encode(event).into_iter().enumerate() {
            self.store(at, word, value);
        }
        self.next = at + 1;
        Some(at)
    }

    /// Publishes what was appended.
    #[inline(always)]
    pub(crate) fn publish(&self) {
        // ORD journal.publish: Release -> `Journal::published`; hands over the records below the count.
        self.count.store(self.next as u64, Ordering::Release);
    }

    /// Takes the last record back.
    #[inline(always)]
    pub(crate) fn retract(&mut self) {
        self.next = self.next.saturating_sub(1);
        self.publish();
    }

    /// Completes a record: from this one store on it is done.
    #[inline(always)]
    pub(crate) fn end(&self, record: usize, t1: u64) {
        self.store(record, T1, t1);
    }

    /// Moves the beginning of a record.
    #[inline(always)]
    pub(crate) fn begin_again(&self, record: usize, t0: u64) {
        self.store(record, T0, t0);
    }

    /// Turns a push into a refused one, with one store.
    pub(crate) fn turn_full(&self, record: usize) {
        let producer = self.load(record, KIND) & u64::from(u32::MAX);
        self.store(record, KIND, u64::from(FULL) << 32 | producer);
    }

    /// Turns a record into none, with one store.
    pub(crate) fn turn_nothing(&self, record: usize) {
        self.store(record, KIND, u64::from(NOTHING) << 32);
    }

    /// The last published record.
    pub(crate) fn last(&self) -> Option<Event> {
        let last = self.published().checked_sub(1)?;
        Some(self.read(last))
    }

    /// All published records.
    pub(crate) fn events(&self) -> Vec<Event> {
        (0..self.published()).map(|record| self.read(record)).collect()
    }

    fn read(&self, record: usize) -> Event {
        decode(core::array::from_fn(|word| self.load(record, word)))
    }
}

#[inline(always)]
fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[inline(always)]
fn encode(event: Event) -> [u64; WORDS] {
    let bare = |kind, span: Span| [pair(kind, 0), 0, 0, span.t0, span.t1];
    let full = |kind, run: Run, span: Span| {
        [pair(kind, run.producer), pair(run.n, run.units), run.seq, span.t0, span.t1]
    };
    match event {
        Event::Push(run, span) => full(PUSH, run, span),
        Event::Full(run, span) => full(FULL, run, span),
        Event::Got(run, span) => full(GOT, run, span),
        Event::Hand(run) => full(HAND, run, Span::default()),
        Event::Torn(span) => bare(TORN, span),
        Event::Empty(span) => bare(EMPTY, span),
        Event::Taking(bytes, span) => [pair(TAKING, 0), pair(bytes, 0), 0, span.t0, span.t1],
        Event::TakeOver => bare(TAKE_OVER, Span::default()),
        Event::Nothing => bare(NOTHING, Span::default()),
    }
}

fn decode([kind, count, seq, t0, t1]: [u64; WORDS]) -> Event {
    let (kind, producer) = halves(kind);
    let (n, units) = halves(count);
    let run = Run { producer, seq, n, units };
    let span = Span { t0, t1 };
    match kind {
        PUSH => Event::Push(run, span),
        FULL => Event::Full(run, span),
        GOT => Event::Got(run, span),
        HAND => Event::Hand(run),
        TORN => Event::Torn(span),
        EMPTY => Event::Empty(span),
        TAKING => Event::Taking(n, span),
        TAKE_OVER => Event::TakeOver,
        _ => Event::Nothing,
    }
}
