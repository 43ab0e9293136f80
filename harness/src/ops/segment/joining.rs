//! Joining, cleaning and discarding, stopped at the entry and the exit of every system call.
//!
//! What locks say of the dead is the kernel's word: with the victim its locks are gone. So the survivors must find what the
//! victim left under the name, join it as if nobody had been there, have it for themselves as long as anybody is present,
//! and clean it away when nobody is. A segment that was left over holds [`LEFT`] messages: by them it is told from one
//! that was made since.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use tidewire_shm::{
    Arrival, CleanMode, FoundSegment, JoinError, Joined, Segment, SegmentError, StalePolicy,
    Verdict as Finding,
};

use super::{BYTES, CAPACITY, CREATED, FAILED, MODES, NAME, NEXT, OPENED, Slots, Verdict, init, row};
use super::{GONE, SegmentOperation};
use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage, Stride};

/// Messages in a segment that was left over.
const LEFT: u64 = 3;
/// Further results of acts.
const ADOPTED: u64 = 7;
const REMOVED: u64 = 8;
const IN_USE: u64 = 9;

/// What the victim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Join(StalePolicy),
    Clean,
    Discard,
}

/// What it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A segment that nobody uses any more.
    LeftOver,
    /// One in which somebody is present.
    Used,
}

/// One row of the table.
struct JoinOperation {
    files: SegmentOperation,
    deed: Deed,
    before: Before,
    /// The present one.
    present: RefCell<Option<Joined>>,
}

/// The operations on segments that may be left over.
pub(super) fn operations() -> Vec<Box<dyn Operation>> {
    let (recreate, adopt) = (Deed::Join(StalePolicy::Recreate), Deed::Join(StalePolicy::Adopt));
    let operation = |name, deed, before| JoinOperation {
        files: row(name, super::Deed::OpenOrCreate),
        deed,
        before,
        present: RefCell::default(),
    };
    let renamed = |mut row: JoinOperation| {
        row.files.named_temporary = true;
        row
    };
    let rows = [
        operation("join, none there", recreate, Before::Nothing),
        renamed(operation("join, none there, rename", recreate, Before::Nothing)),
        operation("join, recreate", recreate, Before::LeftOver),
        operation("join, adopt", adopt, Before::LeftOver),
        operation("join, in use", recreate, Before::Used),
        operation("clean", Deed::Clean, Before::LeftOver),
        operation("clean, in use", Deed::Clean, Before::Used),
        operation("discard", Deed::Discard, Before::LeftOver),
        operation("discard, in use", Deed::Discard, Before::Used),
    ];
    rows.into_iter().map(|row| Box::new(row) as Box<dyn Operation>).collect()
}

fn of(arrival: Arrival) -> u64 {
    match arrival {
        Arrival::Created => CREATED,
        Arrival::Opened => OPENED,
        Arrival::Adopted => ADOPTED,
        _ => FAILED,
    }
}

fn joined(made: Result<Joined, JoinError>, kept: &mut Option<Joined>) -> u64 {
    made.map_or(FAILED, |joined| of(kept.insert(joined).arrival))
}

/// What the cleaner made of the segment.
fn cleaned(segments: &[FoundSegment]) -> u64 {
    let found = segments.iter().find(|found| found.name.as_str() == NAME);
    match found.map(|found| &found.verdict) {
        None => GONE,
        Some(Finding::Removed) => REMOVED,
        Some(Finding::InUse) => IN_USE,
        Some(_) => FAILED,
    }
}

impl JoinOperation {
    fn policy(&self) -> StalePolicy {
        if let Deed::Join(policy) = self.deed { policy } else { StalePolicy::Recreate }
    }

    fn join(&self) -> Verdict<Joined> {
        let joined = Segment::join_with(NAME, BYTES, self.policy(), &self.files.options()?, init);
        joined.map_err(|error| format!("expected that the segment can be joined: {error}"))
    }

    fn clean(&self) -> Verdict<u64> {
        let found = Segment::clean_with(CleanMode::Remove, &self.files.options()?);
        found.map(|found| cleaned(&found)).map_err(|error| format!("cleaning: {error}"))
    }

    /// Messages in a segment.
    fn messages(segment: &Segment) -> Verdict<u64> {
        let ring = Slots::open(segment.region(), 0).map_err(|error| format!("opening a ring: {error}"))?;
        Ok(ring.consumer().map_err(|error| format!("taking the consumer's role: {error}"))?.len() as u64)
    }

    /// The messages of the segment under the name, which is whole; `None` if there is none.
    fn there(&self) -> Verdict<Option<u64>> {
        if self.files.look()?.is_none() {
            return Ok(None);
        }
        let segment = Segment::open_with(NAME, &self.files.options()?);
        segment
            .map_err(|error| format!("opening: {error}"))
            .and_then(|segment| Self::messages(&segment))
            .map(Some)
    }

    /// Whether the answers and what is there go together; `recovery` if somebody else joined behind the victim's death, or
    /// died while it did.
    fn check_answers(&self, seen: Seen, there: Option<u64>, recovery: bool) -> Verdict<()> {
        let old = (self.before != Before::Nothing).then_some(LEFT);
        let new = Some(0);
        let well = match (self.before, self.deed, seen.first, seen.second) {
            (Before::Used, Deed::Join(_), first, second) => {
                there == old && [first, second].into_iter().flatten().all(|answer| answer == OPENED)
            }
            (Before::Used, _, first, second) => {
                there == old && first.is_none_or(|x| x == IN_USE) && second.is_none_or(|x| x == OPENED)
            }
            (_, Deed::Join(StalePolicy::Adopt), first, second) => {
                there == old && [first, second].into_iter().flatten().all(|answer| answer == ADOPTED)
            }
            // Who joins behind it finds a segment that nobody uses, whatever the victim came to.
            (_, _, _, Some(second)) => second == CREATED && there == new,
            (_, Deed::Join(_), Some(first), None) if !recovery => first == CREATED && there == new,
            (_, Deed::Clean | Deed::Discard, Some(first), None) if !recovery => {
                first == REMOVED && there.is_none()
            }
            (_, deed, _, None) => {
                let makes = recovery || matches!(deed, Deed::Join(_));
                there == old || there.is_none() || (makes && there == new)
            }
        };
        if well {
            return Ok(());
        }
        let (deed, first, second) = (self.deed, seen.first, seen.second);
        Err(format!(
            "{deed:?} was answered {first:?}, the next one {second:?}, and there are {there:?} messages"
        ))
    }

    /// What the others do when the victim is gone.
    fn settle(&self, there: Option<u64>) -> Verdict<()> {
        let first = self.join()?;
        let expected = match (self.before, self.policy(), there) {
            (Before::Used, _, _) => Arrival::Opened,
            (_, StalePolicy::Adopt, Some(_)) => Arrival::Adopted,
            _ => Arrival::Created,
        };
        let messages = Self::messages(&first.segment)?;
        let kept = if expected == Arrival::Created { 0 } else { there.unwrap_or(0) };
        if first.arrival != expected || messages != kept {
            let found = first.arrival;
            return Err(format!(
                "expected {expected:?} with {kept} messages, found {found:?} with {messages}"
            ));
        }
        let second = self.join()?;
        if second.arrival != Arrival::Opened || self.clean()? != IN_USE {
            return Err(format!("expected to join who is present, found {:?}", second.arrival));
        }
        drop((first, second));
        if self.before == Before::Used {
            return Ok(());
        }
        let left = self.clean()?;
        if left != REMOVED || self.files.look()?.is_some() {
            return Err(format!("expected that nobody holds the segment, found {left}"));
        }
        Segment::create_with(NEXT, BYTES, &self.files.options()?, init)
            .map_err(|error| format!("the creation of another segment: {error}"))?;
        let entries = self.files.entries()?;
        if entries == [NEXT] { Ok(()) } else { Err(format!("expected {NEXT} alone, found {entries:?}")) }
    }
}

impl Operation for JoinOperation {
    fn structure(&self) -> &'static str {
        self.files.structure()
    }

    fn name(&self) -> &'static str {
        self.files.name()
    }

    fn bytes(&self) -> usize {
        self.files.bytes()
    }

    fn modes(&self) -> &'static [Mode] {
        MODES
    }

    fn stride(&self) -> Stride {
        Stride::Call
    }

    fn prepare(&self, stage: &Stage) -> Verdict<()> {
        drop(self.present.take());
        self.files.prepare(stage)?;
        if self.before == Before::Nothing {
            return Ok(());
        }
        let joined = self.join()?;
        let ring = Slots::open(joined.segment.region(), 0).map_err(|error| error.to_string())?;
        let mut producer = ring.producer().map_err(|error| error.to_string())?;
        for id in 0..LEFT.min(CAPACITY as u64) {
            producer.push([id; 4]).map_err(|error| format!("preparing: {error}"))?;
        }
        drop(producer);
        if self.before == Before::Used {
            self.present.replace(Some(joined));
        }
        Ok(())
    }

    fn victim<'a>(&'a self, _stage: &'a Stage) -> Verdict<Act<'a>> {
        let (options, policy, mut kept) = (self.files.options()?, self.policy(), None);
        Ok(match self.deed {
            Deed::Join(_) => {
                Box::new(move || joined(Segment::join_with(NAME, BYTES, policy, &options, init), &mut kept))
            }
            Deed::Clean => Box::new(move || {
                Segment::clean_with(CleanMode::Remove, &options).map_or(FAILED, |found| cleaned(&found))
            }),
            Deed::Discard => {
                let memory = Segment::open_with(NAME, &options)
                    .and_then(|segment| segment.try_clone_fd())
                    .map_err(|error| format!("opening what is to be discarded: {error}"))?;
                Box::new(move || match Segment::discard_with(NAME, &memory, &options) {
                    Ok(true) => REMOVED,
                    Ok(false) => IN_USE,
                    Err(_) => FAILED,
                })
            }
        })
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let there = self.there()?;
        let [mark, ..] = stage.output(Role::Second);
        // ORD stage: Relaxed, the act's process has ended.
        self.check_answers(seen, there, mark.load(Ordering::Relaxed) != 0)?;
        self.settle(there)?;
        let same = there == (self.before != Before::Nothing).then_some(LEFT);
        Ok(if same { Outcome::Absent } else { Outcome::Present })
    }

    fn interfere(&self, _stage: &Stage) -> Verdict<()> {
        // None of these waits for who stands with the gate.
        self.clean()?;
        let options = self.files.options()?;
        match Segment::open_with(NAME, &options) {
            Err(SegmentError::NotFound { .. }) => {}
            Err(error) => return Err(format!("expected a whole segment or none: {error}")),
            Ok(segment) => {
                let memory = segment.try_clone_fd().map_err(|error| error.to_string())?;
                Segment::discard_with(NAME, memory, &options)
                    .map_err(|error| format!("discarding: {error}"))?;
            }
        }
        Segment::create_with(NEXT, BYTES, &options, init)
            .and_then(|next| next.withdraw())
            .map_err(|error| format!("creating and withdrawing another segment: {error}"))
    }

    fn judge_frozen(&self, _stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let first = seen.first.ok_or("the victim resumed but did not come to an end")?;
        let there = self.there()?;
        // From its answer on the segment is the victim's; where it was not present yet the others may have removed it.
        let legal = match (self.deed, self.before) {
            (Deed::Join(_), Before::Used) => first == OPENED && there == Some(LEFT),
            (Deed::Join(StalePolicy::Adopt), _) => {
                (first == ADOPTED && there == Some(LEFT)) || (first == CREATED && there == Some(0))
            }
            (Deed::Join(_), _) => first == CREATED && there == Some(0),
            (_, Before::Used) => first == IN_USE && there == Some(LEFT),
            (Deed::Clean, _) => [REMOVED, GONE].contains(&first) && there.is_none(),
            (Deed::Discard, _) => first == REMOVED && there.is_none(),
        };
        if !legal {
            return Err(format!("{:?} was answered {first}, but there are {there:?} messages", self.deed));
        }
        self.settle(there)?;
        Ok(if first == ADOPTED || first == OPENED { Outcome::Absent } else { Outcome::Present })
    }

    fn recover<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let [mark, ..] = stage.output(Role::Second);
        // ORD stage: Relaxed, read after this process has ended.
        mark.store(1, Ordering::Relaxed);
        let (options, policy, mut kept) = (self.files.options()?, self.policy(), None);
        Ok(Box::new(move || joined(Segment::join_with(NAME, BYTES, policy, &options, init), &mut kept)))
    }

    fn outside(&self) -> u64 {
        self.files.outside()
    }
}
