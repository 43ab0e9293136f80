//! Small queues, each wrong in one way that real queues were wrong in.
//!
//! # Memory layout
//! Words of eight bytes; four slots of eight words.
//!
//! | word | content |
//! |---|---|
//! | 0 | tail, the producer's |
//! | 16 | head, the consumer's |
//! | 32, 33 | intent and debt of the twin that must recover |
//! | 40 | lock of the twin that locks |
//! | 48 + 8 i | slot i: stamp, length, four words of payload |

use std::sync::atomic::{AtomicU64, Ordering};

use crate::explore::Stage;

mod operation;

pub(super) use operation::{cases, right};

use operation::Deed;

const TAIL: usize = 0;
const HEAD: usize = 16;
const INTENT: usize = 32;
const DEBT: usize = 33;
const LOCK: usize = 40;
const SLOTS: usize = 48;
const SLOT_WORDS: usize = 8;
const STAMP: usize = 0;
const LENGTH: usize = 1;
const PAYLOAD: usize = 2;
const CAPACITY: u64 = 4;
const BYTES: usize = (SLOTS + 4 * SLOT_WORDS) * 8;

/// Words of a message.
const WORDS: usize = 4;

/// Looks at a claimed slot before the timeout twin gives its owner up.
const PATIENCE: u32 = 8;

/// What is wrong with a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Nothing.
    None,
    /// Producers claim a position, then fill it: a death between leaves a hole for ever.
    ClaimFirst,
    /// As above, and the consumer gives a hole up after a while: its owner may only have slept.
    TimesOut,
    /// The tail moves before the message is written.
    PublishesFirst,
    /// The head moves before the message is copied out.
    ReleasesFirst,
    /// Two producers share a tail that suits one.
    SharesTail,
    /// The length is checked, then loaded again and used.
    FetchesTwice,
    /// Recovery adds to a debt and clears the evidence in two steps.
    AddsTwice,
    /// A lock that dies with its owner.
    Locks,
}

/// A queue over the words of a segment.
#[derive(Clone, Copy)]
struct Queue<'a> {
    words: &'a [AtomicU64],
    flaw: Flaw,
}

/// What a pop found.
enum Popped {
    Message,
    Empty,
    Corrupt,
}

impl<'a> Queue<'a> {
    fn over(stage: &'a Stage, flaw: Flaw) -> Self {
        let words = stage.bytes() / 8;
        // SAFETY: the segment has `bytes` bytes, 128-byte aligned, alive as long as the stage; in this process they
        // are only accessed as these atomics until the stage is cleared, when no queue is alive.
        let words =
            unsafe { std::slice::from_raw_parts(stage.segment().cast::<AtomicU64>().as_ptr(), words) };
        Self { words, flaw }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "words of the layout, slots by masked positions")]
    fn word(&self, at: usize) -> &'a AtomicU64 {
        &self.words[at]
    }

    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        // ORD twin: SeqCst <-> `Queue::put`; the twins are wrong in their order of steps, not in their orderings.
        self.word(at).load(Ordering::SeqCst)
    }

    #[inline(always)]
    fn put(&self, at: usize, value: u64) {
        // ORD twin: SeqCst <-> `Queue::get`; as above.
        self.word(at).store(value, Ordering::SeqCst);
    }

    #[inline(always)]
    fn swing(&self, at: usize, from: u64, to: u64) -> bool {
        // ORD twin: SeqCst <-> `Queue::get`; as above, failed or not.
        self.word(at).compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    #[inline(always)]
    fn slot(position: u64) -> usize {
        let index = usize::try_from(position & (CAPACITY - 1)).unwrap_or(0);
        SLOTS + index * SLOT_WORDS
    }

    /// Writes message `id` into the slot of a position.
    #[inline(always)]
    fn fill(&self, position: u64, id: u64) {
        let slot = Self::slot(position);
        for (at, word) in message(id).into_iter().enumerate() {
            self.put(slot + PAYLOAD + at, word);
        }
        self.put(slot + LENGTH, 4);
    }

    /// Appends message `id`; false if the queue is full.
    #[inline(never)]
    fn push(&self, id: u64) -> bool {
        match self.flaw {
            Flaw::ClaimFirst | Flaw::TimesOut => self.push_claiming(id),
            Flaw::Locks => {
                while !self.swing(LOCK, 0, 1) {
                    std::hint::spin_loop();
                }
                let pushed = self.push_in_order(id);
                self.put(LOCK, 0);
                pushed
            }
            _ => self.push_in_order(id),
        }
    }

    #[inline(always)]
    fn push_in_order(&self, id: u64) -> bool {
        let tail = self.get(TAIL);
        if tail.wrapping_sub(self.get(HEAD)) >= CAPACITY {
            return false;
        }
        if self.flaw == Flaw::PublishesFirst {
            self.put(TAIL, tail.wrapping_add(1));
            self.fill(tail, id);
        } else {
            self.fill(tail, id);
            self.put(TAIL, tail.wrapping_add(1));
        }
        true
    }

    #[inline(always)]
    fn push_claiming(&self, id: u64) -> bool {
        loop {
            let tail = self.get(TAIL);
            if tail.wrapping_sub(self.get(HEAD)) >= CAPACITY {
                return false;
            }
            if self.swing(TAIL, tail, tail.wrapping_add(1)) {
                self.fill(tail, id);
                self.put(Self::slot(tail) + STAMP, tail.wrapping_add(1));
                return true;
            }
        }
    }

    /// Takes the oldest message out, into `to`.
    #[inline(never)]
    fn pop(&self, to: &[AtomicU64]) -> Popped {
        let mut patience = PATIENCE;
        loop {
            let head = self.get(HEAD);
            let used = self.get(TAIL).wrapping_sub(head);
            if used == 0 {
                return Popped::Empty;
            }
            if used > CAPACITY {
                return Popped::Corrupt;
            }
            let claims = matches!(self.flaw, Flaw::ClaimFirst | Flaw::TimesOut);
            if !claims || self.get(Self::slot(head) + STAMP) == head.wrapping_add(1) {
                return self.take(head, to);
            }
            if self.flaw == Flaw::ClaimFirst {
                return Popped::Empty;
            }
            patience -= 1;
            if patience == 0 {
                self.put(HEAD, head.wrapping_add(1));
                patience = PATIENCE;
            }
        }
    }

    /// Copies the message at `head` out and releases its slot.
    #[inline(always)]
    fn take(&self, head: u64, to: &[AtomicU64]) -> Popped {
        let next = head.wrapping_add(1);
        if self.flaw == Flaw::ReleasesFirst {
            self.put(HEAD, next);
        }
        if self.flaw == Flaw::AddsTwice {
            self.put(INTENT, next);
        }
        let slot = Self::slot(head);
        let mut length = self.get(slot + LENGTH);
        if length > 4 {
            return Popped::Corrupt;
        }
        if self.flaw == Flaw::FetchesTwice {
            length = self.get(slot + LENGTH);
        }
        // A wild length of the double fetch ends at the end of the output: canaries behind the message tell.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        for (at, word) in to.iter().enumerate().take(length) {
            // ORD own: Relaxed, the output belongs to this actor until it is stopped.
            word.store(self.get(slot + PAYLOAD + at.min(WORDS - 1)), Ordering::Relaxed);
        }
        if self.flaw != Flaw::ReleasesFirst {
            self.put(HEAD, next);
        }
        if self.flaw == Flaw::AddsTwice {
            self.put(INTENT, 0);
        }
        Popped::Message
    }

    /// Takes a dead process's role over.
    #[inline(never)]
    fn recover(&self, deed: Deed) {
        if self.flaw == Flaw::AddsTwice {
            let intent = self.get(INTENT);
            if intent != 0 {
                self.put(DEBT, self.get(DEBT).wrapping_add(intent.wrapping_sub(self.get(HEAD))));
                self.put(INTENT, 0);
            }
            self.put(HEAD, self.get(HEAD).wrapping_add(self.get(DEBT)));
            self.put(DEBT, 0);
            return;
        }
        let own = if deed == Deed::Push { TAIL } else { HEAD };
        self.put(own, self.get(own));
    }

    /// Pops one message as its number; an error if it is torn.
    fn pop_id(&self) -> Result<Option<u64>, String> {
        let to: [AtomicU64; WORDS] = Default::default();
        match self.pop(&to) {
            Popped::Message => whole(&to).map(Some),
            Popped::Empty => Ok(None),
            Popped::Corrupt => Err("the positions make no sense".to_owned()),
        }
    }

    /// Three laps of fill, one refusal, drain in order.
    fn laps(&self) -> Result<(), String> {
        for lap in 0..3 {
            let ids = (1..=CAPACITY).map(|at| 1000 + lap * CAPACITY + at);
            for id in ids.clone() {
                if !self.push(id) {
                    return Err(format!("lap {lap}: no room for message {id} in a drained queue"));
                }
            }
            if self.push(0) {
                return Err(format!("lap {lap}: a full queue took another message"));
            }
            for id in ids {
                let found = self.pop_id()?;
                if found != Some(id) {
                    return Err(format!("lap {lap}: expected message {id}, found {found:?}"));
                }
            }
        }
        Ok(())
    }
}

/// The words of message `id`.
#[inline(always)]
fn message(id: u64) -> [u64; WORDS] {
    [id, !id, id.wrapping_mul(0x0101_0101_0101), id ^ 0x5555_5555_5555_5555]
}

/// The number of a message, if all its words belong to it.
fn whole(words: &[AtomicU64]) -> Result<u64, String> {
    // ORD own: Relaxed, whoever wrote the words has ended or is this process.
    let mut found = words.iter().map(|word| word.load(Ordering::Relaxed));
    let id = found.next().unwrap_or(0);
    let rest = message(id).into_iter().skip(1);
    if rest.eq(found.take(WORDS - 1)) {
        Ok(id)
    } else {
        Err(format!("a torn message, its first word is {id}"))
    }
}
