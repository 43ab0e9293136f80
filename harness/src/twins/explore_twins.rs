//! Broken twins for the instruction explorer: small queues, each wrong in one way that real queues were wrong in.
//!
//! Each must be caught in its mode. A correct queue of the same shape must pass every mode: a checker that cries
//! wolf is as useless as one that sleeps.
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

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::explore::{
    Act, ExploreError, Finding, Mode, Operation, Outcome, Role, Seen, Stage, StepOptions, step,
};

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

/// Results of acts.
const DONE: u64 = 1;
const REFUSED: u64 = 2;
const CORRUPT: u64 = 3;

/// The message that the victim pushes, the one of its partner, and the first one of the others.
const VICTIM: u64 = 100;
const PARTNER: u64 = 200;
const OTHERS: u64 = 300;

/// One checker that met one twin.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TwinRow {
    /// The broken structure.
    pub(crate) twin: &'static str,
    /// What should catch it.
    pub(crate) checker: String,
    /// Whether it did.
    pub(crate) caught: bool,
}

/// How the twins fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TwinSummary {
    /// Twins that were caught.
    pub(crate) caught: u64,
    /// Twins that were not: the checker is broken.
    pub(crate) missed: u64,
}

/// Why there is no verdict on the checker.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum TwinError {
    /// The explorer could not run.
    Explore(ExploreError),
    /// The explorer condemned the correct queue.
    FalseAlarm(Option<Finding>),
}

impl fmt::Display for TwinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explore(_) => f.write_str("the explorer could not run"),
            Self::FalseAlarm(Some(finding)) => write!(f, "the correct queue was found broken: {finding}"),
            Self::FalseAlarm(None) => f.write_str("the correct queue was found broken"),
        }
    }
}

impl Error for TwinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Explore(error) => Some(error),
            Self::FalseAlarm(_) => None,
        }
    }
}

/// Explores every twin in the modes that must catch it, and the correct queue in every mode.
///
/// `base` gives the limits; its choice of structures and modes is not used.
///
/// # Errors
/// [`TwinError::Explore`] if the explorer cannot run, [`TwinError::FalseAlarm`] if the correct queue is condemned.
/// A twin that is not caught is a row, and counted.
pub(crate) fn twins(base: &StepOptions, out: &mut dyn FnMut(TwinRow)) -> Result<TwinSummary, TwinError> {
    let mut summary = TwinSummary::default();
    for mode in Mode::ALL {
        for twin in &ALL {
            if !twin.modes.contains(&mode) {
                continue;
            }
            let (bad, evidence) = explore(base, twin, mode)?;
            if twin.flaw == Flaw::None {
                if bad {
                    return Err(TwinError::FalseAlarm(evidence));
                }
                continue;
            }
            let caught = bad && evidence.is_some_and(|found| twin.flaw.explains(&found.verdict));
            if caught {
                summary.caught += 1;
            } else {
                summary.missed += 1;
            }
            out(TwinRow { twin: twin.name, checker: format!("step {mode}"), caught });
        }
    }
    Ok(summary)
}

/// Whether one mode finds a twin broken, and where first.
fn explore(base: &StepOptions, twin: &Twin, mode: Mode) -> Result<(bool, Option<Finding>), TwinError> {
    let options = StepOptions { structure: None, operation: None, modes: vec![mode], ..base.clone() };
    let mut evidence = None;
    let summary = step(&options, &[twin], &mut |row| {
        evidence = row.findings.into_iter().next();
    })
    .map_err(TwinError::Explore)?;
    Ok((summary.bad != 0, evidence))
}

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

impl Flaw {
    /// Whether a verdict is of the sort that this flaw leads to: another one would mean that the checker stumbled.
    fn explains(self, verdict: &str) -> bool {
        let sorts: &[&str] = match self {
            Self::None => &[],
            Self::ClaimFirst => &["no room for message"],
            Self::TimesOut | Self::SharesTail => &["delivered"],
            Self::PublishesFirst | Self::ReleasesFirst => &["a torn message", "delivered"],
            Self::FetchesTwice => &["beyond its buffer"],
            Self::AddsTwice => &["of the first messages", "the positions make no sense"],
            Self::Locks => &["a survivor is blocked"],
        };
        sorts.iter().any(|sort| verdict.contains(sort))
    }
}

/// The victim's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Push,
    Pop,
}

/// One operation of one twin.
#[derive(Debug)]
struct Twin {
    name: &'static str,
    flaw: Flaw,
    deed: Deed,
    modes: &'static [Mode],
}

const ALL: [Twin; 10] = [
    Twin {
        name: "one-step queue",
        flaw: Flaw::None,
        deed: Deed::Push,
        modes: &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double],
    },
    Twin { name: "one-step queue", flaw: Flaw::None, deed: Deed::Pop, modes: &Mode::ALL },
    Twin { name: "claim-then-fill queue", flaw: Flaw::ClaimFirst, deed: Deed::Push, modes: &[Mode::Kill] },
    Twin { name: "timeout recovery", flaw: Flaw::TimesOut, deed: Deed::Push, modes: &[Mode::Freeze] },
    Twin {
        name: "publish before write",
        flaw: Flaw::PublishesFirst,
        deed: Deed::Push,
        modes: &[Mode::Kill, Mode::Freeze],
    },
    Twin {
        name: "release before copy",
        flaw: Flaw::ReleasesFirst,
        deed: Deed::Pop,
        modes: &[Mode::Freeze, Mode::Pairs],
    },
    Twin { name: "unclaimed shared tail", flaw: Flaw::SharesTail, deed: Deed::Push, modes: &[Mode::Pairs] },
    Twin { name: "double-fetching pop", flaw: Flaw::FetchesTwice, deed: Deed::Pop, modes: &[Mode::Flip] },
    Twin { name: "recovery that adds twice", flaw: Flaw::AddsTwice, deed: Deed::Pop, modes: &[Mode::Double] },
    Twin { name: "lock without owner", flaw: Flaw::Locks, deed: Deed::Push, modes: &[Mode::Kill] },
];

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

/// What was delivered and pushed, as far as survivors know; the others' part travels in the notes.
#[derive(Default)]
struct History {
    delivered: Vec<u64>,
    pushed: Vec<u64>,
}

impl History {
    /// Notes are two lists of at most 31 numbers, each after its length.
    fn write(&self, stage: &Stage) {
        let (delivered, pushed) = stage.notes().split_at(32);
        for (half, list) in [(delivered, &self.delivered), (pushed, &self.pushed)] {
            let length = u64::try_from(list.len()).unwrap_or(u64::MAX);
            for (note, value) in half.iter().zip([&length].into_iter().chain(list)) {
                // ORD own: Relaxed, read by a process forked after this one ended.
                note.store(*value, Ordering::Relaxed);
            }
        }
    }

    fn read(stage: &Stage) -> Self {
        let (delivered, pushed) = stage.notes().split_at(32);
        let list = |half: &[AtomicU64]| {
            // ORD own: Relaxed, as in `write`.
            let mut values = half.iter().map(|note| note.load(Ordering::Relaxed));
            let length = usize::try_from(values.next().unwrap_or(0)).unwrap_or(usize::MAX);
            values.take(length).collect()
        };
        Self { delivered: list(delivered), pushed: list(pushed) }
    }
}

impl Twin {
    /// Messages that are in the queue before the victim acts.
    fn initial(&self) -> Vec<u64> {
        match self.deed {
            Deed::Push => vec![1, 2],
            Deed::Pop => vec![1, 2, 3, 4],
        }
    }

    fn several_producers(&self) -> bool {
        matches!(self.flaw, Flaw::ClaimFirst | Flaw::TimesOut | Flaw::SharesTail | Flaw::Locks)
    }

    /// An act that pushes `id` or pops.
    fn act<'a>(&self, stage: &'a Stage, role: Role, deed: Deed, id: u64) -> Act<'a> {
        let queue = Queue::over(stage, self.flaw);
        match deed {
            Deed::Push => Box::new(move || if queue.push(id) { DONE } else { REFUSED }),
            Deed::Pop => {
                let output = stage.output(role);
                Box::new(move || match queue.pop(output) {
                    Popped::Message => DONE,
                    Popped::Empty => REFUSED,
                    Popped::Corrupt => CORRUPT,
                })
            }
        }
    }

    /// What the partner of a pair does: it pushes where producers share the queue or the victim pops.
    fn partner_deed(&self) -> Deed {
        if self.deed == Deed::Pop || self.several_producers() { Deed::Push } else { Deed::Pop }
    }

    /// Whether everything was delivered that must be, nothing else, and in order.
    fn account(&self, history: &History, seen: Seen) -> Result<Outcome, String> {
        let mut expected = self.initial();
        let all = &history.delivered;
        let of = |from: u64| all.iter().copied().filter(move |id| (from..from + 100).contains(id));
        let first_missing = !all.contains(&1);
        if self.deed == Deed::Pop && seen.first.is_none() && first_missing {
            expected.remove(0);
        }
        if !of(0).eq(expected.iter().copied()) {
            return Err(format!("of the first messages {expected:?}, delivered: {all:?}"));
        }
        if !of(OTHERS).eq(history.pushed.iter().copied()) {
            return Err(format!("of the others' messages {:?}, delivered: {all:?}", history.pushed));
        }
        for (id, deed, result) in
            [(VICTIM, self.deed, seen.first), (PARTNER, self.partner_deed(), seen.second)]
        {
            let count = all.iter().filter(|found| **found == id).count();
            let pushed = deed == Deed::Push && result == Some(DONE);
            if count > 1 || (pushed && count == 0) || (deed == Deed::Pop && count != 0) {
                return Err(format!(
                    "message {id} (acknowledged: {pushed}) was delivered {count} times: {all:?}"
                ));
            }
        }
        if let Some(unknown) = all.iter().find(|id| **id >= OTHERS + 100 || **id == 0) {
            return Err(format!("message {unknown} was never pushed: {all:?}"));
        }
        let happened = match self.deed {
            Deed::Push => all.contains(&VICTIM),
            Deed::Pop => seen.first.is_some() || first_missing,
        };
        Ok(if happened { Outcome::Present } else { Outcome::Absent })
    }
}

impl Operation for Twin {
    fn structure(&self) -> &'static str {
        self.name
    }

    fn name(&self) -> &'static str {
        match self.deed {
            Deed::Push => "push",
            Deed::Pop => "pop",
        }
    }

    fn bytes(&self) -> usize {
        BYTES
    }

    fn modes(&self) -> &'static [Mode] {
        self.modes
    }

    fn prepare(&self, stage: &Stage) -> Result<(), String> {
        let queue = Queue::over(stage, self.flaw);
        // Three messages have passed already, so that the laps begin inside the array.
        for id in 1..=3 {
            if !queue.push(id) || queue.pop_id()? != Some(id) {
                return Err(format!("message {id} did not pass a new queue"));
            }
        }
        match self.initial().into_iter().all(|id| queue.push(id)) {
            true => Ok(()),
            false => Err("no room for the first messages".to_owned()),
        }
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        Ok(self.act(stage, Role::First, self.deed, VICTIM))
    }

    fn partner<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        Ok(self.act(stage, Role::Second, self.partner_deed(), PARTNER))
    }

    fn recover<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        let queue = Queue::over(stage, self.flaw);
        Ok(Box::new(move || {
            queue.recover(self.deed);
            REFUSED
        }))
    }

    fn interfere(&self, stage: &Stage) -> Result<(), String> {
        let queue = Queue::over(stage, self.flaw);
        let mut history = History::default();
        if self.deed == Deed::Pop {
            // The consumer stands: the producer fills the queue and is refused.
            while queue.push(OTHERS + history.pushed.len() as u64) {
                history.pushed.push(OTHERS + history.pushed.len() as u64);
            }
            history.write(stage);
            return Ok(());
        }
        while let Some(id) = queue.pop_id()? {
            history.delivered.push(id);
        }
        if self.several_producers() {
            // Three laps through the queue, then one that stays.
            for turn in 0..4 * CAPACITY {
                if !queue.push(OTHERS + turn) {
                    return Err(format!("no room for message {} in a drained queue", OTHERS + turn));
                }
                history.pushed.push(OTHERS + turn);
                if turn < 3 * CAPACITY {
                    history.delivered.extend(queue.pop_id()?);
                }
            }
        }
        history.write(stage);
        Ok(())
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        let queue = Queue::over(stage, self.flaw);
        let mut history = History::read(stage);
        queue.recover(self.deed);
        if self.deed == Deed::Pop && seen.first == Some(DONE) {
            history.delivered.push(whole(stage.output(Role::First))?);
        }
        if self.partner_deed() == Deed::Pop && seen.second == Some(DONE) {
            history.delivered.push(whole(stage.output(Role::Second))?);
        }
        while let Some(id) = queue.pop_id()? {
            history.delivered.push(id);
        }
        let outcome = self.account(&history, seen)?;
        queue.laps()?;
        Ok(outcome)
    }

    fn control_words(&self) -> Vec<usize> {
        [TAIL, Queue::slot(3) + LENGTH].into_iter().map(|word| word * 8).collect()
    }

    fn capacity(&self) -> u64 {
        CAPACITY
    }

    fn judge_flipped(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        let beyond = stage.output(Role::First).iter().skip(WORDS);
        // ORD own: Relaxed, the victim has ended.
        let touched = beyond.filter(|word| word.load(Ordering::Relaxed) != 0).count();
        if touched != 0 {
            return Err(format!("the victim wrote {touched} words beyond its buffer"));
        }
        match seen.first {
            Some(DONE) => Ok(Outcome::Present),
            Some(REFUSED | CORRUPT) => Ok(Outcome::Absent),
            other => Err(format!("the victim returned {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> StepOptions {
        StepOptions { other_threads: true, ..StepOptions::default() }
    }

    /// What a row must repeat from run to run.
    fn rows(twins: &[&Twin], options: &StepOptions) -> Vec<(String, [u64; 5])> {
        let operations: Vec<&dyn Operation> = twins.iter().map(|twin| *twin as &dyn Operation).collect();
        let mut rows = Vec::new();
        step(options, &operations, &mut |row| {
            let name = format!("{} {} {}", row.structure, row.operation, row.mode);
            rows.push((name, [row.points, row.images, row.bad, row.absent, row.present]));
        })
        .unwrap();
        rows
    }

    #[test]
    fn every_twin_is_caught_in_its_modes_and_the_correct_queue_passes() {
        let mut caught = Vec::new();
        let summary = twins(&options(), &mut |row| {
            caught.push((row.twin, row.checker, row.caught));
        })
        .unwrap();
        assert_eq!(summary, TwinSummary { caught: 10, missed: 0 }, "{caught:?}");
        let pairs: usize =
            ALL.iter().filter(|twin| twin.flaw != Flaw::None).map(|twin| twin.modes.len()).sum();
        assert_eq!(caught.len(), pairs);
    }

    #[test]
    fn a_flaw_that_the_stepped_operation_does_not_reach_is_no_bad_point() {
        // Its pop is wrong, but only a push is killed: the explorer must not guess.
        let harmless =
            Twin { name: "harmless", flaw: Flaw::ReleasesFirst, deed: Deed::Push, modes: &[Mode::Kill] };
        let (bad, evidence) = explore(&options(), &harmless, Mode::Kill).unwrap();
        assert!(!bad && evidence.is_none());
    }

    #[test]
    fn the_timeout_twin_passes_kills_and_is_only_caught_by_a_sleeper() {
        let twin = Twin {
            name: "timeout",
            flaw: Flaw::TimesOut,
            deed: Deed::Push,
            modes: &[Mode::Kill, Mode::Freeze],
        };
        let rows = rows(&[&twin], &options());
        let bad: Vec<bool> = rows.iter().map(|(_, [_, _, bad, _, _])| *bad != 0).collect();
        assert_eq!(bad, [false, true], "{rows:?}");
    }

    #[test]
    fn rows_are_the_same_in_every_run() {
        let table: Vec<&Twin> = ALL.iter().filter(|twin| twin.flaw != Flaw::Locks).collect();
        assert_eq!(rows(&table, &options()), rows(&table, &options()));
    }
}
