//! Histories of first-in-first-out structures, and the checker that judges them in one pass.
//!
//! Every process writes what it did into a [`Journal`] in shared memory: the journal survives the `SIGKILL` of its
//! writer, because a record counts from one store of its number on. A producer publishes a record before its
//! operation and completes it afterwards; so an operation that was killed half-way is on record as *not done*. A
//! consumer records what it got before it lets go of it, and where it cannot (an operation that releases before it
//! returns) it says so first and takes the messages into memory that survives it: the *hand*.
//!
//! # What is checked
//! | property | how |
//! |---|---|
//! | order per producer | a message comes exactly when its predecessor in the same line came |
//! | no invention | a message has a push on record, which began before it was got |
//! | no duplicate | messages come again only after a take-over, in order, within [`Promise::again`] |
//! | nothing acknowledged is lost | after the drain every push that is done was got, or lay in a dead consumer's hand |
//! | all or nothing | of a batch that was killed half-way all messages come, or none |
//! | no false Empty | no undelivered push was done before an Empty began |
//! | no false Full | the lazily released rest included, there was no room when a Full began |
//! | real time | a push that ended before another began comes first, also across lines ([`Promise::ordered`]) |
//!
//! The processes write at a [desk](PushDesk) into a [`Book`], which holds the journals of all of them.
//!
//! A *line* is what one role of producer pushes: the records of a dead producer and of its successors follow each
//! other in it. A structure with one producer has one line, one with lanes has a line for each.
//!
//! # Time
//! Stamps are the processor's counter, read before (`rdtsc`) and after (a fence and `rdtscp`) an operation, and only
//! where the kernel says that it runs steadily and never stops, and keeps its own time by it. The fence waits until what
//! was stored is seen by others. Counters of two processors may differ a little, so two operations of different
//! processes count as one after the other only if [`Promise::settle`] ticks lie between them. Where the counter cannot be trusted, the checks of Empty, Full and
//! real time are off, and [`Clock::name`] says so.

mod book;
mod check;
mod clock;
mod desk;
mod journal;
mod line;
#[cfg(test)]
mod tests;

pub(crate) use book::{Book, HAND_BYTES, RESERVE, Volume};
pub(crate) use check::check;
pub(crate) use clock::Clock;
pub(crate) use desk::{PopDesk, PushDesk};
pub(crate) use journal::{Journal, RECORD_BYTES};

/// Consecutive messages of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Who pushed them; a successor of a dead producer has a number of its own.
    pub(crate) producer: u32,
    /// Number of the first; each producer counts from 0.
    pub(crate) seq: u64,
    /// How many.
    pub(crate) n: u32,
    /// The room they take, in the units of [`Promise::room`].
    pub(crate) units: u32,
}

/// When an operation began and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Before its first instruction.
    pub(crate) t0: u64,
    /// After its last one; [`Span::NEVER`] if it was not seen to end.
    pub(crate) t1: u64,
}

impl Span {
    /// The end of an operation that did not end.
    pub(crate) const NEVER: u64 = u64::MAX;

    /// Whether the operation ended.
    pub(crate) fn done(self) -> bool {
        self.t1 != Self::NEVER
    }
}

/// One record of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A push of messages with one publication; done, or killed half-way.
    Push(Run, Span),
    /// A push of these messages was refused for want of room.
    Full(Run, Span),
    /// Messages were received.
    Got(Run, Span),
    /// Something was received that no producer sends.
    Torn(Span),
    /// Nothing was there.
    Empty(Span),
    /// An operation began that may release messages before they can be recorded; it takes them into so many bytes
    /// of the hand.
    Taking(u32, Span),
    /// Messages that lay whole in the hand of a consumer that died in such an operation.
    Hand(Run),
    /// Another consumer took the role of a dead one over.
    TakeOver,
    /// A record that was taken back.
    Nothing,
}

/// What a structure promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    /// Real-time order holds across lines.
    pub(crate) ordered: bool,
    /// Stamps of different processes can be compared.
    pub(crate) clock: bool,
    /// Ticks after which an operation is seen by everybody.
    pub(crate) settle: u64,
    /// Units that a line may show again after a take-over: what was not released, and what was in hand.
    pub(crate) again: u64,
    /// When a push may be refused; `None` leaves that open.
    pub(crate) room: Option<Room>,
    /// The consumer ended only when the producers had ended and nothing was left.
    pub(crate) drained: bool,
}

/// When a push may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Units that a line holds.
    pub(crate) capacity: u64,
    /// Units that may be consumed but not yet free, and what framing may waste.
    pub(crate) lazy: u64,
}

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Messages that were published: every acknowledged one, and those of killed pushes that were seen.
    pub(crate) sent: u64,
    /// Different messages that were received, those in a dead consumer's hand included.
    pub(crate) received: u64,
    /// Of those, messages that were only ever in a dead consumer's hand.
    pub(crate) in_hand: u64,
    /// Messages that came again after a take-over, as promised.
    pub(crate) again: u64,
    /// Pushes that were killed half-way and left nothing.
    pub(crate) absent: u64,
    /// Published messages that never came.
    pub(crate) lost: u64,
    /// Messages that came again without right.
    pub(crate) duplicated: u64,
    /// Messages that came after later ones of their line.
    pub(crate) reordered: u64,
    /// Messages that were damaged.
    pub(crate) torn: u64,
    /// Messages that nobody pushed.
    pub(crate) invented: u64,
    /// Batches of which only a part came.
    pub(crate) parted: u64,
    /// Times that nothing was found although something was there.
    pub(crate) false_empty: u64,
    /// Times that there was no room although there was.
    pub(crate) false_full: u64,
    /// Messages that came before their push, or before one that ended before theirs began.
    pub(crate) untimely: u64,
    /// The first faults in words.
    pub(crate) findings: Vec<String>,
}

impl Verdict {
    /// Faults that are kept in words.
    const WORDS: usize = 8;

    /// Whether nothing is wrong.
    pub(crate) fn good(&self) -> bool {
        self.faults() == 0
    }

    /// How much is wrong.
    pub(crate) fn faults(&self) -> u64 {
        self.lost
            + self.duplicated
            + self.reordered
            + self.torn
            + self.invented
            + self.parted
            + self.false_empty
            + self.false_full
            + self.untimely
    }

    fn find(&mut self, what: impl FnOnce() -> String) {
        if self.findings.len() < Self::WORDS {
            self.findings.push(what());
        }
    }
}

/// What a book that nobody writes any more comes to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgement {
    /// Records of all journals.
    pub(crate) events: u64,
    /// What the checker says.
    pub(crate) verdict: Verdict,
}

/// Judges a book that nobody writes any more.
pub(crate) fn judge(promise: &Promise, book: &Book) -> Judgement {
    let lines: Vec<Vec<Event>> = book.producers().map(|journal| journal.events()).collect();
    let consumer = book.consumer().events();
    let events = lines.iter().map(Vec::len).sum::<usize>() + consumer.len();
    Judgement { events: events as u64, verdict: check(promise, &lines, &consumer) }
}
