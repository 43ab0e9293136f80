//! What the survivors may find, and that they can go on.

use std::sync::atomic::Ordering;

use tidewire_seqlock::log::{LogFull, NextError, Start};

use super::{
    BACK, CAPACITY, DEAD_HEAD, DONE, Deed, FIRST, GATE, GATE_ONE, GATES, GROUP, Gated, Item, KEPT,
    LogOperation, MISSED, OPENED, OVER, OVERTAKEN, PIECE, POSITION, REFUSED, Reading, TAG, TAKEN,
    TAKEN_BEFORE, VERSION, Values, Verdict, Watch, Writing, base, output, peek,
};
use crate::cells::{tag, value};
use crate::explore::{Role, Seen, Stage};
use crate::ops::seqlock::acts::protect;
use crate::ops::seqlock::{NEXT, OTHERS, VICTIM};

/// How many values the survivor that joins last begins with.
const HISTORY: u64 = 4;

/// Readers with and without a gate.
trait Takes {
    fn take(&mut self) -> Result<Option<(Item, u64)>, NextError>;
    fn at(&self) -> u64;
    fn missed(&self) -> u64;
}

impl Takes for Reading {
    fn take(&mut self) -> Result<Option<(Item, u64)>, NextError> {
        self.next()
    }

    fn at(&self) -> u64 {
        self.position()
    }

    fn missed(&self) -> u64 {
        Self::missed(self)
    }
}

impl Takes for Gated {
    fn take(&mut self) -> Result<Option<(Item, u64)>, NextError> {
        self.next()
    }

    fn at(&self) -> u64 {
        self.position()
    }

    fn missed(&self) -> u64 {
        Self::missed(self)
    }
}

/// Takes all that there is while nobody writes: each version in order, whole, with the tag that it must have. What a reader
/// misses it is told at once, and exactly.
fn drain(who: &str, reader: &mut impl Takes, may_miss: bool, tag_of: impl Fn(u64) -> u64) -> Verdict<u64> {
    let (first, told_before) = (reader.at(), reader.missed());
    let (mut taken, mut missed) = (0, 0);
    loop {
        let at = reader.at();
        match reader.take() {
            Ok(Some((value, version))) => {
                let (expected, found) = (tag_of(at), tag(&value));
                if version != at || found != Some(expected) {
                    return Err(format!(
                        "{who}: expected version {at} with tag {expected:#x}, found version {version} with {found:x?}"
                    ));
                }
                taken += 1;
            }
            Ok(None) => break,
            Err(NextError::Overtaken { missed: told }) => {
                if !may_miss || taken + missed > 0 || told == 0 || reader.at() != at + told {
                    return Err(format!(
                        "{who}, at version {at} behind {taken} values: expected nothing missed, or all at once, found {told} missed and version {} next",
                        reader.at()
                    ));
                }
                missed = told;
            }
            Err(NextError::Corrupt(corrupt)) => return Err(format!("{who}, at version {at}: {corrupt}")),
        }
    }
    if first + taken + missed != reader.at() || reader.missed() - told_before != missed {
        return Err(format!(
            "{who} took {taken} and missed {missed} from version {first} on, and stands at {}",
            reader.at()
        ));
    }
    Ok(reader.at() - 1)
}

impl LogOperation {
    /// The tag of a version of before, or of the one that wrote.
    pub(super) fn tag_of(&self, version: u64) -> u64 {
        match version {
            old if old <= self.before => old,
            new if self.deed.writes() => VICTIM + new,
            new => OTHERS + new,
        }
    }

    /// What may be the latest version while a victim stands.
    pub(super) fn legal_beside(&self) -> Vec<u64> {
        let (old, new) = (self.before, self.before + self.deed.count());
        match self.deed {
            Deed::Refused => vec![old],
            Deed::TrySlice(_) => vec![old, old + PIECE, new],
            _ => vec![old, new],
        }
    }

    /// The head of the victim's gate when it begins.
    pub(super) fn head_at_first(&self) -> u64 {
        match self.deed {
            Deed::JoinDead | Deed::Reclaim => DEAD_HEAD,
            Deed::Next | Deed::Leave => self.before + 1 - BACK,
            _ => 0,
        }
    }

    /// What a new reader sees, and the one that was there before: a legal version, and all of those that are kept.
    pub(super) fn look(&self, stage: &Stage, legal: &[u64]) -> Verdict<u64> {
        protect(stage, true)?;
        let mut new = Self::reader(stage)?;
        let first = new.position();
        let last = drain("a new reader", &mut new, false, |version| self.tag_of(version))?;
        if let Some(watch) = self.watch.borrow().as_ref() {
            let behind = drain("one behind", &mut watch.lossy.clone(), true, |version| self.tag_of(version))?;
            if behind != last {
                return Err(format!("a new reader came to version {last}, one behind to {behind}"));
            }
        }
        protect(stage, false)?;
        if !legal.contains(&last) {
            return Err(format!("expected that the latest version is one of {legal:?}, found {last}"));
        }
        // While the writer rests, all groups are there; otherwise those that it has entered are not.
        let all = base(last) + GROUP - CAPACITY;
        let least = match self.deed {
            Deed::Slice(_) | Deed::TrySlice(_) => last + 1 - KEPT,
            Deed::TakeOver => all + GROUP,
            deed if deed.writes() => all + GROUP,
            _ => all,
        };
        if !(all..=least).contains(&first) {
            return Err(format!(
                "with version {last} the latest, expected that the oldest is one of {all} to {least}, found {first}"
            ));
        }
        Ok(last)
    }

    /// The answer of a victim that nobody disturbed.
    pub(super) fn check_alone(&self, stage: &Stage, answer: u64) -> Verdict<()> {
        let told = |word| output(stage, Role::First, word);
        let at = self.before;
        let well = match self.deed {
            Deed::Refused => answer == REFUSED && told(GATE) == 0,
            Deed::TakeOver => answer == DONE && told(VERSION) == at,
            Deed::Join | Deed::JoinDead => {
                answer == DONE && told(POSITION) == at + 1 - KEPT && told(GATE) == 1
            }
            Deed::Next | Deed::Lossy => answer == DONE && self.is_next(stage),
            Deed::Leave => answer == DONE,
            Deed::Behind => {
                // On with what is half a lap behind.
                let next = at + 1 - CAPACITY / 2;
                answer == OVERTAKEN && told(POSITION) == next && told(FIRST) + told(MISSED) == next
            }
            Deed::Reclaim => answer == DONE && told(OPENED) == 1,
            deed => answer == DONE && told(VERSION) == at + deed.count(),
        };
        if well { Ok(()) } else { Err(self.wrong_answer(stage, answer)) }
    }

    fn wrong_answer(&self, stage: &Stage, answer: u64) -> String {
        let told: Vec<u64> = (FIRST..=OPENED).map(|word| output(stage, Role::First, word)).collect();
        format!("{:?} was given the answer {answer}, and {told:x?}", self.deed)
    }

    /// Whether the victim was given the value that came next, whole.
    fn is_next(&self, stage: &Stage) -> bool {
        let told = |word| output(stage, Role::First, word);
        let next = match self.deed {
            Deed::Next => self.before + 1 - BACK + TAKEN_BEFORE,
            _ => told(FIRST),
        };
        told(FIRST) == next
            && told(VERSION) == next
            && told(TAG) == self.tag_of(next)
            && told(POSITION) == next + 1
    }

    /// What somebody that wrote beside others was told; returns the version that is the latest then.
    pub(super) fn check_written(&self, stage: &Stage, role: Role, answer: u64) -> Verdict<u64> {
        let version = output(stage, role, VERSION);
        let written = version.checked_sub(self.before).filter(|_| answer == DONE);
        let well = match (self.deed, role, written) {
            // The watcher left while it stood, or it was refused before that.
            (Deed::Refused, _, None) => answer == REFUSED && output(stage, role, GATE) == 0,
            (Deed::Refused | Deed::Write | Deed::TryWrite | Deed::Lossy, _, Some(written)) => written == 1,
            // Refused, if at all, by a gate that was closed meanwhile: not before what that reader surely needs.
            (Deed::TrySlice(count), _, Some(written)) => (PIECE..=count).contains(&written),
            (Deed::Slice(count), _, Some(written)) => written == count,
            // As far as the reader let it before it took its value, or behind that.
            (Deed::Next, Role::Second, Some(written)) => {
                let room = base(self.head_at_first()) + CAPACITY - 1 - self.before;
                written == room || written == OVER
            }
            _ => false,
        };
        if !well {
            return Err(format!(
                "who wrote beside others was given the answer {answer}, and version {version}"
            ));
        }
        Ok(self.before + written.unwrap_or(0))
    }

    /// What a victim that stood for a while was told.
    pub(super) fn check_beside(&self, stage: &Stage, answer: u64, last: u64) -> Verdict<()> {
        let told = |word| output(stage, Role::First, word);
        let well = match self.deed {
            Deed::TakeOver => answer == DONE && told(VERSION) == last,
            Deed::Join | Deed::JoinDead => {
                let legal = self.before + 1 - KEPT..=last + 1;
                answer == DONE && legal.contains(&told(POSITION)) && told(GATE) == 1
            }
            Deed::Lossy | Deed::Behind if answer == OVERTAKEN => {
                told(MISSED) > 0 && told(FIRST) + told(MISSED) == told(POSITION) && told(POSITION) <= last + 1
            }
            Deed::Next | Deed::Lossy => answer == DONE && self.is_next(stage),
            Deed::Leave => answer == DONE,
            Deed::Reclaim => answer == DONE && told(OPENED) == 1,
            deed => deed.writes(),
        };
        if well { Ok(()) } else { Err(self.wrong_answer(stage, answer)) }
    }

    /// What both of a pair were told.
    pub(super) fn check_pair(&self, stage: &Stage, first: u64, second: u64, last: u64) -> Verdict<()> {
        match self.deed {
            Deed::Next | Deed::Lossy => self.check_beside(stage, first, last),
            _ => {
                let told = |word| output(stage, Role::Second, word);
                let (head, opened) = (peek(stage, GATE_ONE)?, output(stage, Role::First, OPENED));
                let joined = second == DONE
                    && told(GATE) == 1
                    && told(POSITION) == head
                    && (self.before + 1 - KEPT..=last + 1).contains(&head);
                let reclaims = self.deed == Deed::Reclaim;
                let refused = reclaims && second == TAKEN && opened == 1 && head == 0;
                if first == DONE && (joined || refused) && (!reclaims || opened <= 1) {
                    return Ok(());
                }
                let position = told(POSITION);
                Err(format!(
                    "the answers are {first} and {second}, the gate joined at {position} has head {head}, and {opened} were opened"
                ))
            }
        }
    }

    /// Whether the head of the victim's gate is what it was, or what it shall be; returns it.
    pub(super) fn check_gate(&self, stage: &Stage, seen: Seen, before: u64) -> Verdict<u64> {
        let told = output(stage, Role::First, POSITION);
        let after = match self.deed {
            Deed::Join | Deed::JoinDead if seen.first.is_some() => told,
            Deed::Join | Deed::JoinDead => self.before + 1 - KEPT,
            Deed::Next => base(before + TAKEN_BEFORE + 1),
            _ => 0,
        };
        let head = peek(stage, GATE_ONE)?;
        if head == after || seen.first.is_none() && head == before {
            Ok(head)
        } else {
            Err(format!("expected that the victim's gate had head {before} and has {after}, found {head}"))
        }
    }

    /// Whether the owner words say who the holders were.
    pub(super) fn check_owners(&self, stage: &Stage, seen: Seen) -> Verdict<()> {
        let log = Self::open(stage)?;
        let done = seen.first.is_some();
        let expected = match self.deed {
            deed if deed.has_role() => [Some(true), done.then_some(false)],
            Deed::TakeOver => [if Self::others(stage) == 0 || done { Some(true) } else { None }, Some(false)],
            Deed::Join => [Some(false), done.then_some(true)],
            Deed::JoinDead | Deed::Next => [Some(false), Some(true)],
            Deed::Leave => [Some(false), done.then_some(false)],
            _ => [Some(false), Some(false)],
        };
        let found = [log.writer_owner(), log.gate_owner(1)];
        let well = expected.iter().zip(found).all(|(expected, found)| match expected {
            Some(expected) => found.is_some() == *expected,
            None => true,
        });
        if well {
            Ok(())
        } else {
            Err(format!(
                "{:?} was done: {done}, but the writer and the victim's gate are {found:?}",
                self.deed
            ))
        }
    }

    /// The next writer goes on counting. It is refused by the gate of the dead, which keeps all that was promised, until it
    /// reclaims it; then there is room for all but what the watcher needs. Behind that three laps are written and read by
    /// everybody, and at last all roles are free.
    pub(super) fn go_on(&self, stage: &Stage, last: u64) -> Verdict<()> {
        let log = Self::open(stage)?;
        let mut writer = self.writer(stage)?;
        if writer.version() != last {
            return Err(format!(
                "expected that the next writer is at version {last}, found {}",
                writer.version()
            ));
        }
        let watch = self.watch.borrow_mut().take();
        let (mut watcher, mut lossy) = match watch {
            Some(Watch { gated, lossy }) if !Self::has_left(stage) => (Some(gated), Some(lossy)),
            _ => (None, None),
        };
        let tag_of = |version| if version <= last { self.tag_of(version) } else { NEXT + version };
        let everybody = |watcher: &mut Option<Gated>, lossy: &mut Option<Reading>| {
            if let Some(watcher) = watcher.as_mut() {
                drain("the watcher", watcher, false, tag_of)?;
            }
            lossy.as_mut().map_or(Ok(0), |lossy| drain("the one behind", lossy, true, tag_of))
        };
        everybody(&mut watcher, &mut lossy)?;
        self.fill(stage, &mut writer, tag_of)?;
        everybody(&mut watcher, &mut lossy)?;
        self.reclaim(stage, &mut writer, watcher.as_ref())?;
        let mut joined = self.join(&log, &writer)?;
        drain("who joined", &mut joined, false, tag_of)?;
        for round in 0..3 * CAPACITY / 4 {
            Self::write_four(&mut writer, round)?;
            drain("who joined", &mut joined, false, tag_of)?;
            if round % 4 != 0 {
                everybody(&mut watcher, &mut None)?;
            }
        }
        everybody(&mut watcher, &mut lossy)?;
        let room = writer.room();
        let written = Self::write_until_refused(&mut writer)?;
        if room < KEPT || written != room {
            return Err(format!("expected room for a lap, found {room}, and {written} were written"));
        }
        drain("who joined", &mut joined, false, tag_of)?;
        everybody(&mut watcher, &mut lossy)?;
        drop((joined, watcher));
        let room = writer.room();
        drop(writer);
        let heads = [peek(stage, GATES)?, peek(stage, GATE_ONE)?];
        let owners = [log.writer_owner(), log.gate_owner(0), log.gate_owner(1)];
        if room != CAPACITY || heads != [0; 2] || owners != [None; 3] {
            return Err(format!(
                "expected an empty house, found room {room}, the heads {heads:?} and {owners:?}"
            ));
        }
        Ok(())
    }

    /// Whether the watcher left while the victim stood.
    fn has_left(stage: &Stage) -> bool {
        let [_, left, ..] = stage.notes();
        // ORD stage: Relaxed, the others have ended.
        left.load(Ordering::Relaxed) != 0
    }

    /// Writes until somebody objects; how many values that were.
    fn write_until_refused(writer: &mut Writing) -> Verdict<u64> {
        for written in 0..2 * CAPACITY {
            let version = writer.version() + 1;
            match writer.try_write(&value(NEXT + version)) {
                Ok(found) if found == version => {}
                Ok(found) => return Err(format!("expected to write version {version}, found {found}")),
                Err(LogFull { .. }) => return Ok(written),
            }
        }
        Err("expected that a gate refuses the writer, found that it overwrote a lap".to_owned())
    }

    /// As far as the dead holder of the victim's gate lets the writer: what it needs must be there.
    fn fill(&self, stage: &Stage, writer: &mut Writing, tag_of: impl Fn(u64) -> u64) -> Verdict<()> {
        let head = peek(stage, GATE_ONE)?;
        if head == 0 {
            return Ok(());
        }
        let (room, written) = (writer.room(), Self::write_until_refused(writer)?);
        let refused = writer.try_write(&value(0));
        let end = (base(head) + CAPACITY).max(writer.version() - written + 1);
        if refused != Err(LogFull { gate: 1 }) || room != written || writer.version() + 1 != end {
            return Err(format!(
                "a gate with head {head} and room {room}: {written} were written, up to version {}, then {refused:?}",
                writer.version()
            ));
        }
        let mut reader = Self::reader(stage)?;
        let oldest = reader.position();
        // A dead holder of before was overtaken long ago.
        if oldest > head && head != DEAD_HEAD {
            return Err(format!(
                "expected that a reader at {head} misses nothing, found version {oldest} first"
            ));
        }
        drain("a new reader", &mut reader, false, tag_of).map(|_| ())
    }

    /// Opens the gate of the dead, and no other.
    fn reclaim(&self, stage: &Stage, writer: &mut Writing, watcher: Option<&Gated>) -> Verdict<()> {
        let dead = u32::from(peek(stage, GATE_ONE)? != 0);
        let opened = [0; 2].map(|_: u32| self.leases().map(|leases| writer.reclaim_gates(leases)));
        let room = writer.room();
        let end = watcher.map_or(u64::MAX, |watcher| base(watcher.head()) + CAPACITY);
        let free = (end - writer.version() - 1).min(CAPACITY);
        let [Ok(first), Ok(second)] = opened else {
            return Err("expected leases, found none".to_owned());
        };
        if (first, second) != (dead, 0) || room != free || room + GROUP <= CAPACITY {
            return Err(format!(
                "expected to open {dead} gates and to have room {free}, found {first}, {second} and {room}"
            ));
        }
        Ok(())
    }

    /// Somebody new has the victim's gate, and begins where it wants to.
    fn join(&self, log: &Values, writer: &Writing) -> Verdict<Gated> {
        let joined = log.gated_reader(Start::History(HISTORY), self.leases()?);
        let joined = joined.map_err(|error| format!("joining behind the victim: {error}"))?;
        let expected = (1, writer.version() + 1 - HISTORY);
        if (joined.gate(), joined.position()) != expected {
            return Err(format!(
                "expected to join at {expected:?}, found gate {}, version {}",
                joined.gate(),
                joined.position()
            ));
        }
        Ok(joined)
    }

    /// Four values, in one of four ways; all readers with gates have room for them.
    fn write_four(writer: &mut Writing, round: u64) -> Verdict<()> {
        let end = writer.version() + 4;
        let values: Vec<Item> = (end - 3..=end).map(|version| value(NEXT + version)).collect();
        let refused = |full: LogFull| format!("round {round} was refused by gate {}", full.gate);
        match round % 4 {
            0 => {
                let written = writer.try_write_slice(&values).map_err(refused)?;
                if written != values.len() {
                    return Err(format!("round {round}: expected room for 4 values, found {written}"));
                }
            }
            1 => {
                writer.write_slice(&values);
            }
            2 => values.iter().try_for_each(|value| writer.try_write(value).map(drop)).map_err(refused)?,
            _ => values.iter().for_each(|value| {
                writer.write(value);
            }),
        }
        if writer.version() == end {
            Ok(())
        } else {
            Err(format!("round {round}: expected version {end}, found {}", writer.version()))
        }
    }
}
