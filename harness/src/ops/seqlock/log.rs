//! The operations of the log, stepped at every instruction.
//!
//! A value's tag says which version it is and who wrote it, so that a value of the wrong lap is seen as well as one that is
//! torn. Beside each victim there are two readers: the watcher, whose gate the process that prepares holds, and one without
//! a gate that was never called and is more than a lap behind. Whatever happens to the victim, the first must miss nothing, and
//! the second must be told exactly what it missed.
//!
//! The second gate is the victim's, or that of a holder who died: of it there are two words and no lease.

use std::cell::{OnceCell, RefCell};
use std::sync::atomic::Ordering;

use tidewire_seqlock::log::{GatedReader, Log, Options, Reader, Start, Writer};
use tidewire_shm::{Region, Segment, SegmentLease, SegmentLeases, Untrusted};

use super::{DONE, NOBODY, OTHERS, TAKEN, VICTIM, Verdict, writable};
use crate::cells::value;
use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage};

mod acts;
mod survivors;
mod twins;
mod view;

pub(crate) use twins::cases;

type Item = [u64; 3];
type Values = Log<Item, Untrusted>;
type Writing = Writer<Item, Untrusted, SegmentLease>;
type Reading = Reader<Item, Untrusted>;
type Gated = GatedReader<Item, Untrusted, SegmentLease>;

/// Results of acts, beside those of the cells.
const REFUSED: u64 = 10;
const OVERTAKEN: u64 = 11;
const FAILED: u64 = 12;

/// Words of an act's output: where it was before, which version and which tag it got, what it was told it missed, where it
/// is now, which gate it has or was refused for, and how many gates it opened.
const FIRST: usize = 0;
const VERSION: usize = 1;
const TAG: usize = 2;
const MISSED: usize = 3;
const POSITION: usize = 4;
const GATE: usize = 5;
const OPENED: usize = 6;

/// The smallest log whose groups have more than one slot.
const CAPACITY: u64 = 32;
const GROUP: u64 = 2;
const PIECE: u64 = 8;
const KEPT: u64 = CAPACITY - PIECE - GROUP + 1;
const OPTIONS: Options = Options::new(32).gates(2).liveness::<SegmentLeases>();

/// Where the words are.
const OWNER: usize = 384;
const LATEST: usize = 512;
const STAMPS: usize = 640;
const DATA: usize = 768;
const SLOT: usize = size_of::<Item>();
const GATES: usize = DATA + 32 * SLOT;
/// The gate of the victim.
const GATE_ONE: usize = GATES + 128;

/// What a dead holder of the gate needed last.
const DEAD_HEAD: u64 = 6;
/// With how many values the victim joins that shall let go of some, and how many it takes before.
const BACK: u64 = 22;
const TAKEN_BEFORE: u64 = 3;
/// So many values are written beside it that the last one takes the slot of the value that it reads.
const OVER: u64 = CAPACITY - BACK + TAKEN_BEFORE + 1;

/// What the victim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Write,
    TryWrite,
    Refused,
    Slice(u64),
    TrySlice(u64),
    TakeOver,
    Join,
    JoinDead,
    Next,
    Leave,
    Lossy,
    Behind,
    Reclaim,
}

impl Deed {
    /// How many values it publishes, if nothing is in its way.
    fn count(self) -> u64 {
        match self {
            Self::Write | Self::TryWrite | Self::Refused => 1,
            Self::Slice(count) | Self::TrySlice(count) => count,
            _ => 0,
        }
    }

    fn writes(self) -> bool {
        self.count() > 0
    }

    /// Whether the writer's role is the victim's from the start.
    fn has_role(self) -> bool {
        self.writes() || self == Self::Reclaim
    }

    fn joins(self) -> bool {
        matches!(self, Self::Join | Self::JoinDead)
    }
}

/// One row of the table.
struct LogOperation {
    structure: &'static str,
    name: &'static str,
    deed: Deed,
    /// Versions written before.
    before: u64,
    /// How many of them the watcher has not taken.
    lag: u64,
    modes: &'static [Mode],
    /// Those of the process that prepares.
    watch: RefCell<Option<Watch>>,
    leases: OnceCell<SegmentLeases>,
    /// A wrong victim.
    breaks: Option<twins::Breaks>,
}

/// The readers beside the victim.
struct Watch {
    gated: Gated,
    lossy: Reading,
}

const BOTH: &[Mode] = &[Mode::Kill, Mode::Freeze];
const ALL: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Pairs];

fn row(name: &'static str, deed: Deed, before: u64, modes: &'static [Mode]) -> LogOperation {
    LogOperation {
        structure: "log",
        name,
        deed,
        before,
        lag: 3,
        modes,
        watch: RefCell::default(),
        leases: OnceCell::new(),
        breaks: None,
    }
}

/// Versions of even numbers open groups.
fn table() -> Vec<LogOperation> {
    vec![
        row("write within a group", Deed::Write, 36, BOTH),
        row("write into the next group", Deed::Write, 37, BOTH),
        row("try_write with room", Deed::TryWrite, 37, BOTH),
        LogOperation { lag: CAPACITY, ..row("try_write that is refused", Deed::Refused, 37, BOTH) },
        row("write a slice over two groups", Deed::Slice(3), 36, BOTH),
        row("try to write a slice of pieces", Deed::TrySlice(PIECE + GROUP), 37, ALL),
        row("take a dead writer over", Deed::TakeOver, 37, BOTH),
        row("join at a free gate", Deed::Join, 37, BOTH),
        row("join at a dead holder's gate", Deed::JoinDead, 37, BOTH),
        row("next that lets go", Deed::Next, 37, ALL),
        row("leave a gate", Deed::Leave, 37, BOTH),
        row("next without a gate", Deed::Lossy, 37, ALL),
        row("next a lap behind", Deed::Behind, 37, BOTH),
        row("reclaim a dead holder's gate", Deed::Reclaim, 37, ALL),
    ]
}

/// The operations of the log.
pub(super) fn operations() -> Vec<Box<dyn Operation>> {
    table().into_iter().map(|row| Box::new(row) as Box<dyn Operation>).collect()
}

/// The first version of a group.
fn base(version: u64) -> u64 {
    version - version % GROUP
}

/// A word of the segment; nobody else uses it now.
fn peek(stage: &Stage, offset: usize) -> Verdict<u64> {
    // SAFETY: a control word of the layout, which the structure uses as this atomic only.
    let word = unsafe { writable(stage.segment(), stage.bytes())?.atomic_u64(offset) };
    // ORD stage: Relaxed, those who wrote it are stopped or dead.
    Ok(word.load(Ordering::Relaxed))
}

fn put(stage: &Stage, offset: usize, value: u64) -> Verdict<()> {
    // SAFETY: a word of the layout, which the structure uses as this atomic only.
    let word = unsafe { writable(stage.segment(), stage.bytes())?.atomic_u64(offset) };
    // ORD stage: Relaxed, the processes of the run are forked behind it.
    word.store(value, Ordering::Relaxed);
    Ok(())
}

fn output(stage: &Stage, role: Role, word: usize) -> u64 {
    // ORD stage: Relaxed, the act's process has ended.
    stage.output(role).get(word).map_or(0, |word| word.load(Ordering::Relaxed))
}

impl LogOperation {
    fn leases(&self) -> Verdict<&SegmentLeases> {
        if let Some(leases) = self.leases.get() {
            return Ok(leases);
        }
        let made = Segment::anonymous(4096).and_then(|segment| segment.leases());
        let made = made.map_err(|error| format!("making leases: {error}"))?;
        Ok(self.leases.get_or_init(|| made))
    }

    fn region(stage: &Stage) -> Verdict<Region<Untrusted>> {
        writable(stage.segment(), stage.bytes())
    }

    fn open(stage: &Stage) -> Verdict<Values> {
        Log::open(Self::region(stage)?, 0).map_err(|error| format!("expected a log, found {error}"))
    }

    /// A reader without a gate, through a region that may only be read.
    fn reader(stage: &Stage) -> Verdict<Reading> {
        let log: Values = Log::open(Self::region(stage)?.read_only(), 0)
            .map_err(|error| format!("expected a log to read, found {error}"))?;
        log.reader(Start::Oldest).map_err(|error| format!("expected a log to read, found {error}"))
    }

    fn writer(&self, stage: &Stage) -> Verdict<Writing> {
        let writer = Self::open(stage)?.writer(self.leases()?);
        writer.map_err(|error| format!("attaching a writer: {error}"))
    }

    /// What is left of those who died before the victim begins.
    fn leave_dead(&self, stage: &Stage) -> Verdict<()> {
        match self.deed {
            Deed::TakeOver => {
                // Killed when it had entered the next group and stored some of the first value.
                let version = self.before + 1;
                let slot = usize::try_from(version % CAPACITY).map_err(|error| error.to_string())?;
                put(stage, OWNER, NOBODY)?;
                put(stage, STAMPS + slot / 2 * 8, version)?;
                put(stage, DATA + slot * SLOT, version)
            }
            Deed::JoinDead | Deed::Reclaim => {
                put(stage, GATE_ONE, DEAD_HEAD)?;
                put(stage, GATE_ONE + 8, NOBODY)
            }
            _ => Ok(()),
        }
    }

    /// How many values others wrote beside a victim that stood.
    fn others(stage: &Stage) -> u64 {
        let [count, ..] = stage.notes();
        // ORD stage: Relaxed, the others have ended.
        count.load(Ordering::Relaxed)
    }
}

impl Operation for LogOperation {
    fn structure(&self) -> &'static str {
        self.structure
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn bytes(&self) -> usize {
        GATE_ONE + 128
    }

    fn modes(&self) -> &'static [Mode] {
        self.modes
    }

    fn capacity(&self) -> u64 {
        CAPACITY
    }

    fn names(&self) -> Vec<usize> {
        vec![OWNER, GATES + 8, GATE_ONE + 8]
    }

    fn prepare(&self, stage: &Stage) -> Verdict<()> {
        *self.watch.borrow_mut() = None;
        let failed = |error: &dyn std::fmt::Display| format!("preparing: {error}");
        let needed = Values::bytes(&OPTIONS).map_err(|error| failed(&error))?;
        if needed != self.bytes() {
            return Err(format!("expected a log of {} bytes, found {needed}", self.bytes()));
        }
        let log: Values = Log::create(Self::region(stage)?, &OPTIONS).map_err(|error| failed(&error))?;
        let leases = self.leases()?;
        let mut writer = log.writer(leases).map_err(|error| failed(&error))?;
        let lossy = log.reader(Start::Oldest).map_err(|error| failed(&error))?;
        for version in 1..=self.before - self.lag {
            writer.write(&value(version));
        }
        let view: Values = Log::open(view::view(stage)?, 0).map_err(|error| failed(&error))?;
        let gated = view.gated_reader(Start::Next, leases).map_err(|error| failed(&error))?;
        for version in self.before - self.lag + 1..=self.before {
            if writer.try_write(&value(version)) != Ok(version) {
                return Err(format!("preparing: expected room for version {version}"));
            }
        }
        drop(writer);
        *self.watch.borrow_mut() = Some(Watch { gated, lossy });
        self.leave_dead(stage)
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        if let Some(breaks) = self.breaks {
            return breaks(stage);
        }
        match self.deed {
            Deed::TakeOver => self.attaching(stage),
            Deed::Join | Deed::JoinDead => self.joining(stage, Role::First),
            Deed::Next | Deed::Leave => self.gated(stage),
            Deed::Lossy | Deed::Behind => self.lossy(stage),
            Deed::Reclaim => self.reclaiming(stage),
            deed => self.writing(stage, Role::First, deed, VICTIM),
        }
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if let Some(answer) = seen.first {
            self.check_alone(stage, answer)?;
        }
        let (old, new) = (self.before, self.before + self.deed.count());
        let legal = match (self.deed, seen.first) {
            (Deed::Refused, _) => vec![old],
            (Deed::TrySlice(_), None) => vec![old, old + PIECE, new],
            (_, None) => vec![old, new],
            (_, Some(_)) => vec![new],
        };
        let last = self.look(stage, &legal)?;
        let head = self.check_gate(stage, seen, self.head_at_first())?;
        self.check_owners(stage, seen)?;
        self.go_on(stage, last)?;
        let present = match self.deed {
            Deed::Write | Deed::TryWrite | Deed::Slice(_) | Deed::TrySlice(_) => last > old,
            Deed::Join | Deed::JoinDead | Deed::Next | Deed::Leave | Deed::Reclaim => {
                head != self.head_at_first()
            }
            Deed::Refused | Deed::TakeOver | Deed::Lossy | Deed::Behind => seen.first.is_some(),
        };
        Ok(if present { Outcome::Present } else { Outcome::Absent })
    }

    fn interfere(&self, stage: &Stage) -> Verdict<()> {
        self.look(stage, &self.legal_beside())?;
        if self.deed.has_role() {
            if Self::open(stage)?.writer(self.leases()?).is_ok() {
                return Err("the role of a frozen writer was given away".to_owned());
            }
            return self.read_beside(stage);
        }
        self.write_beside(stage)
    }

    fn judge_frozen(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let Some(answer) = seen.first else {
            return Err(format!("the victim resumed, expected that it is done, found {seen:?}"));
        };
        let others = Self::others(stage);
        let last = self.before + others;
        let last = if self.deed.writes() { self.check_written(stage, Role::First, answer)? } else { last };
        self.check_beside(stage, answer, last)?;
        self.look(stage, &[last])?;
        self.check_gate(stage, seen, self.head_at_first())?;
        self.check_owners(stage, seen)?;
        self.go_on(stage, last)?;
        Ok(if matches!(answer, REFUSED | OVERTAKEN | TAKEN) { Outcome::Absent } else { Outcome::Present })
    }

    fn partner<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        match self.deed {
            Deed::Next => self.writing(stage, Role::Second, Deed::TrySlice(OVER), OTHERS),
            Deed::Lossy => self.writing(stage, Role::Second, Deed::Write, OTHERS),
            _ => self.joining(stage, Role::Second),
        }
    }

    fn judge_pair(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let (Some(first), Some(second)) = (seen.first, seen.second) else {
            return Err(format!("expected both to come to an end, found {seen:?}"));
        };
        let last = match self.deed {
            Deed::TrySlice(_) => self.check_written(stage, Role::First, first)?,
            Deed::Reclaim => self.before,
            _ => self.check_written(stage, Role::Second, second)?,
        };
        self.check_pair(stage, first, second, last)?;
        self.look(stage, &[last])?;
        self.go_on(stage, last)?;
        Ok(if first == DONE && second != TAKEN { Outcome::Present } else { Outcome::Absent })
    }
}
