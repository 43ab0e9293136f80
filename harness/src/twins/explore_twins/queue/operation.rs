//! The operations of the queues: what is acted, what survivors expect.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::Case;
use super::{BYTES, CAPACITY, Flaw, LENGTH, Popped, Queue, TAIL, WORDS, whole};
use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage};

/// Results of acts.
const DONE: u64 = 1;
const REFUSED: u64 = 2;
const CORRUPT: u64 = 3;

/// The message that the victim pushes, the one of its partner, and the first one of the others.
const VICTIM: u64 = 100;
const PARTNER: u64 = 200;
const OTHERS: u64 = 300;

/// The victim's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
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

/// The correct queue, in every mode.
pub(crate) fn right() -> Vec<Box<dyn Operation>> {
    let row = |deed, modes| Twin { name: "one-step queue", flaw: Flaw::None, deed, modes };
    let rows =
        [row(Deed::Push, &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double]), row(Deed::Pop, &Mode::ALL)];
    rows.into_iter().map(|twin| Box::new(twin) as Box<dyn Operation>).collect()
}

/// A message that others pushed beside a sleeper, who then claimed that it was his.
const NEVER_CAME: &str = "of the others' messages [300, 301, 302, 303, 304, 305, 306, 307, 308, 309, 310, 311, 312, 313, 314, \
    315], delivered: [1, 2, 300, 301, 302, 303, 304, 305, 306, 307, 308, 309, 310, 311, 312, 313, 314]";
/// A length that was four when it was checked.
const TOO_LONG: &str = "the word at 0x248 changed from 0x4 to 0xffffffffffffffff: the victim wrote 60 words beyond its \
    buffer";

/// The wrong ones, each with a mode that must catch it and what that must say.
pub(crate) fn cases() -> Vec<Case> {
    let case = |name, flaw, deed, mode: Mode, verdict| Case {
        operation: Box::new(Twin { name, flaw, deed, modes: only(mode) }),
        mode,
        verdict,
    };
    let (push, pop) = (Deed::Push, Deed::Pop);
    vec![
        case(
            "claim-then-fill queue",
            Flaw::ClaimFirst,
            push,
            Mode::Kill,
            "lap 0: no room for message 1004 in a drained queue",
        ),
        case("timeout recovery", Flaw::TimesOut, push, Mode::Freeze, NEVER_CAME),
        case(
            "publish before write",
            Flaw::PublishesFirst,
            push,
            Mode::Kill,
            "of the first messages [1, 2], delivered: [1, 2, 2]",
        ),
        case(
            "publish before write",
            Flaw::PublishesFirst,
            push,
            Mode::Freeze,
            "of the first messages [1, 2], delivered: [1, 2, 2]",
        ),
        case(
            "release before copy",
            Flaw::ReleasesFirst,
            pop,
            Mode::Freeze,
            "of the first messages [1, 2, 3, 4], delivered: [300, 2, 3, 4, 300]",
        ),
        case(
            "release before copy",
            Flaw::ReleasesFirst,
            pop,
            Mode::Pairs,
            "a torn message, its first word is 200",
        ),
        case(
            "unclaimed shared tail",
            Flaw::SharesTail,
            push,
            Mode::Pairs,
            "message 100 (acknowledged: true) was delivered 0 times: [1, 2, 200]",
        ),
        case("double-fetching pop", Flaw::FetchesTwice, pop, Mode::Flip, TOO_LONG),
        case(
            "recovery that adds twice",
            Flaw::AddsTwice,
            pop,
            Mode::Double,
            "of the first messages [2, 3, 4], delivered: [3, 4]",
        ),
        case("lock without owner", Flaw::Locks, push, Mode::Kill, "a survivor is blocked: no end within"),
    ]
}

/// One mode alone.
fn only(mode: Mode) -> &'static [Mode] {
    match mode {
        Mode::Kill => &[Mode::Kill],
        Mode::Freeze => &[Mode::Freeze],
        Mode::Pairs => &[Mode::Pairs],
        Mode::Double => &[Mode::Double],
        Mode::Flip => &[Mode::Flip],
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
    use super::super::super::explore;
    use super::*;
    use crate::explore::{StepOptions, step};

    fn options() -> StepOptions {
        StepOptions { other_threads: true, ..StepOptions::default() }
    }

    /// What a row must repeat from run to run.
    fn rows(twins: &[&dyn Operation]) -> Vec<(String, [u64; 5])> {
        let mut rows = Vec::new();
        step(&options(), twins, &mut |row| {
            let name = format!("{} {} {}", row.structure, row.operation, row.mode);
            rows.push((name, [row.points, row.images, row.bad, row.absent, row.present]));
        })
        .unwrap();
        rows
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
        let rows = rows(&[&twin]);
        let bad: Vec<bool> = rows.iter().map(|(_, [_, _, bad, _, _])| *bad != 0).collect();
        assert_eq!(bad, [false, true], "{rows:?}");
    }

    #[test]
    fn rows_are_the_same_in_every_run() {
        let (right, cases) = (right(), cases());
        let wrong = cases.iter().map(|case| &case.operation);
        let table: Vec<&dyn Operation> = right
            .iter()
            .chain(wrong)
            .map(AsRef::as_ref)
            .filter(|twin| twin.structure() != "lock without owner")
            .collect();
        assert_eq!(rows(&table), rows(&table));
    }
}
