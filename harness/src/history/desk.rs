//! Where a child writes down what it does, before and after it does it.

use super::book::{Book, RESERVE};
use super::{Clock, Event, Journal, Run, Span};

/// The producer's desk.
///
/// A push is published as *not done* before it is tried. One that is refused becomes a `Full`, and the next try of
/// the same push a record of its own; tries after that move the `Full` forward, because the last one is the one
/// that must be right under the hardest conditions.
#[derive(Debug)]
pub(crate) struct PushDesk {
    book: Book,
    /// The producer's number.
    number: u8,
    journal: Journal,
    clock: Clock,
    /// The record of the push in hand.
    current: Option<usize>,
    /// The record of its refusals.
    refusal: Option<usize>,
    run: Run,
    t0: u64,
    /// A record did not fit.
    pub(crate) overflow: bool,
}

impl PushDesk {
    /// The desk of producer `number`.
    pub(crate) fn new(book: Book, clock: Clock, number: u8) -> Self {
        let journal = book.producer(number);
        let run = Run { producer: 0, seq: 0, n: 0, units: 0 };
        Self { book, number, journal, clock, current: None, refusal: None, run, t0: 0, overflow: false }
    }

    /// The words that the processes agree by.
    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// Messages of this producer that were acknowledged so far, those of its predecessors included.
    #[inline(always)]
    pub(crate) fn pushed(&self) -> u64 {
        self.book.pushed_by(self.number)
    }

    /// Whether there is room for another push.
    pub(crate) fn has_room(&self) -> bool {
        self.journal.room() > 8
    }

    /// A push of this run begins.
    #[inline(always)]
    pub(crate) fn start(&mut self, run: Run) {
        self.run = run;
        self.refusal = None;
        self.t0 = self.clock.before();
        self.enter();
    }

    #[inline(always)]
    fn enter(&mut self) {
        let span = Span { t0: self.t0, t1: Span::NEVER };
        self.current = self.journal.append(Event::Push(self.run, span));
        self.overflow |= self.current.is_none();
        self.journal.publish();
    }

    /// It is acknowledged.
    #[inline(always)]
    pub(crate) fn done(&mut self) {
        let t1 = self.clock.after();
        if let Some(record) = self.current.take() {
            self.journal.end(record, t1);
        }
        self.book.add_pushed(self.number, self.run.n.into());
    }

    /// It is refused.
    pub(crate) fn refused(&mut self) {
        match (self.refusal, self.current) {
            (Some(refusal), _) => self.journal.begin_again(refusal, self.t0),
            (None, Some(current)) => {
                self.journal.turn_full(current);
                self.refusal = Some(current);
                self.enter();
            }
            (None, None) => {}
        }
    }

    /// It is tried again.
    pub(crate) fn again(&mut self) {
        self.t0 = self.clock.before();
    }

    /// It is given up.
    pub(crate) fn withdraw(&mut self) {
        if let Some(record) = self.current.take() {
            self.journal.turn_nothing(record);
        }
    }
}

/// The consumer's desk.
///
/// Messages are written down before they are released. Where an operation releases before it returns, it is
/// announced first ([`taking`](Self::taking)) and takes its messages into the hand.
#[derive(Debug)]
pub(crate) struct PopDesk {
    book: Book,
    journal: Journal,
    clock: Clock,
    t0: u64,
    /// What was received and not yet written down.
    pending: Vec<Run>,
    torn: u64,
    /// The last record, if it says Empty.
    empty: Option<usize>,
    /// The last record announces an operation.
    taking: bool,
    /// A record did not fit.
    pub(crate) overflow: bool,
}

impl PopDesk {
    pub(crate) fn new(book: Book, clock: Clock) -> Self {
        let journal = book.consumer();
        Self {
            book,
            journal,
            clock,
            t0: 0,
            pending: Vec::with_capacity(64),
            torn: 0,
            empty: None,
            taking: false,
            overflow: false,
        }
    }

    /// The words that the processes agree by.
    pub(crate) fn book(&self) -> &Book {
        &self.book
    }

    /// Whether only what is still in the structure fits.
    pub(crate) fn is_short(&self) -> bool {
        self.journal.room() < RESERVE
    }

    /// An operation begins.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        self.t0 = self.clock.before();
    }

    /// An operation begins that may release before it returns: it takes up to `len` bytes into the hand, which
    /// has `places` where a message may start, `stride` bytes apart.
    pub(crate) fn taking<R>(&mut self, stride: usize, places: usize, take: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut hand = self.book.hand_mut(stride * places);
        // No message begins with eight zeros.
        for place in hand.chunks_mut(stride) {
            place.iter_mut().take(8).for_each(|byte| *byte = 0);
        }
        let bytes = u32::try_from(hand.len()).unwrap_or(u32::MAX);
        let span = Span { t0: self.clock.before(), t1: Span::NEVER };
        self.taking = self.journal.append(Event::Taking(bytes, span)).is_some();
        self.overflow |= !self.taking;
        self.journal.publish();
        self.t0 = self.clock.before();
        take(&mut hand)
    }

    /// A message was received: producer and sequence, or nothing that a producer sends.
    #[inline(always)]
    pub(crate) fn message(&mut self, message: Option<(u32, u64)>, units: u32) {
        note(&mut self.pending, &mut self.torn, message, units);
    }

    /// Messages were received into the hand; `read` finds them there.
    pub(crate) fn messages_in_hand(
        &mut self,
        read: impl FnOnce(&[u8], &mut dyn FnMut(Option<(u32, u64)>, u32)),
    ) {
        let Self { book, pending, torn, .. } = self;
        read(&book.hand(), &mut |message, units| note(pending, torn, message, units));
    }

    /// What was received is written down.
    #[inline(always)]
    pub(crate) fn settle(&mut self) {
        let span = Span { t0: self.t0, t1: self.clock.after() };
        let mut n = 0;
        for run in &self.pending {
            self.overflow |= self.journal.append(Event::Got(*run, span)).is_none();
            n += u64::from(run.n);
        }
        for _ in 0..self.torn {
            self.overflow |= self.journal.append(Event::Torn(span)).is_none();
        }
        self.journal.publish();
        self.book.add_received(n + self.torn);
        self.pending.clear();
        self.torn = 0;
        self.empty = None;
        self.taking = false;
    }

    /// Nothing was there.
    pub(crate) fn empty(&mut self) {
        let span = Span { t0: self.t0, t1: self.clock.after() };
        if core::mem::take(&mut self.taking) {
            self.journal.retract();
        }
        match self.empty {
            Some(record) if record + 1 == self.journal.len() => self.journal.begin_again(record, span.t0),
            _ => {
                self.empty = self.journal.append(Event::Empty(span));
                self.overflow |= self.empty.is_none();
                self.journal.publish();
            }
        }
    }
}

#[inline(always)]
fn note(pending: &mut Vec<Run>, torn: &mut u64, message: Option<(u32, u64)>, units: u32) {
    let Some((producer, seq)) = message else {
        *torn += 1;
        return;
    };
    match pending.last_mut() {
        Some(run) if run.producer == producer && run.seq + u64::from(run.n) == seq => {
            run.n += 1;
            run.units += units;
        }
        _ => pending.push(Run { producer, seq, n: 1, units }),
    }
}
