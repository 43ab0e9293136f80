//! The operations of the cells, and in [`log`] those of the log, stepped at every instruction.
//!
//! Values follow from tags, and tags say who wrote: version `v` of what was [prepared](Operation::prepare) has the tag
//! `v`, what others write has tags of their own. Whatever happens to a writer, readers must find the last complete
//! version, whole and without a second attempt; the next writer must find nothing to repair and go on counting. In a
//! classic cell a death may take the value with it, and readers must be told.
//!
//! Readers that are stepped may not write to the segment: they take the right away from themselves, so that a store
//! would be a fault. Leases are the kernel's own locks, on a segment beside the stage: a victim that is killed loses
//! its lease, one that is stopped keeps it.

use std::cell::{OnceCell, RefCell};
use std::sync::atomic::Ordering;

use tidewire_seqlock::AttachError;
use tidewire_shm::{Field, LeaseError, Region, Segment, SegmentLeases, Untrusted};

use super::rig::region as writable;
use crate::cells::rig::{Bytes, Classic, Found, Plain, Rig, Shared, Table, Written};
use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage};

mod acts;
mod create;
mod log;
mod survivors;

pub(crate) use log::cases as log_twins;

/// Results of acts.
const DONE: u64 = 1;
const BUSY: u64 = 2;
const CORRUPT: u64 = 3;
const TORN: u64 = 4;
const TAKEN: u64 = 5;
const DIED: u64 = 6;

/// The tags of what is written: by the victim, by its partner, by who comes after it, and by the survivors.
const VICTIM: u64 = 1 << 32;
const PARTNER: u64 = 2 << 32;
const NEXT: u64 = 3 << 32;
const OTHERS: u64 = 4 << 32;

/// Words of an act's output.
const FIRST: usize = 0;
const TAG: usize = 1;
const VERSION: usize = 2;
/// The word of the recoverer's output that says that there was one.
const RECOVERED: usize = 63;
/// The owner word of a process that there is not.
const NOBODY: u64 = 7 << 32 | 0x7FFF_FFF0;
/// The lock, with the second writer in it.
const LOCK: usize = 384;
const LOCKED: u64 = 5 << 32 | 2;

/// What the victim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Write,
    Update,
    Attach,
    TakeOver,
    Detach,
    Read,
    Create,
    CreateOver,
}

impl Deed {
    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Update)
    }

    fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateOver)
    }
}

/// One row of the table.
struct CellOperation<R: Rig> {
    name: &'static str,
    deed: Deed,
    /// Versions written before.
    before: u64,
    modes: &'static [Mode],
    /// The partner of one that writes writes, too; otherwise it reads.
    beside_writer: bool,
    /// A writer died with the lock.
    locked: bool,
    /// A reader that has seen the last version before.
    reader: RefCell<Option<R::Reader>>,
    leases: OnceCell<SegmentLeases>,
}

type Verdict<T> = Result<T, String>;

const WRITE: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double];
const ALONE: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Double];
const READ: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Flip];
const PAIRS: &[Mode] = &[Mode::Pairs];

fn row<R: Rig>(name: &'static str, deed: Deed, before: u64, modes: &'static [Mode]) -> CellOperation<R> {
    CellOperation {
        name,
        deed,
        before,
        modes,
        beside_writer: false,
        locked: false,
        reader: RefCell::default(),
        leases: OnceCell::new(),
    }
}

fn table<R: Rig>() -> Vec<Box<dyn Operation>> {
    let mut rows: Vec<CellOperation<R>> = vec![
        row("write", Deed::Write, 2, WRITE),
        // With one slot, that is what it was before: what readers do beside it need not be seen twice.
        row("write round the slots", Deed::Write, 2 * R::LAP + 1, if R::LAP > 1 { WRITE } else { ALONE }),
        row("attach a writer", Deed::Attach, 3, WRITE),
        row("take a dead writer over", Deed::TakeOver, 3, WRITE),
        row("detach a writer", Deed::Detach, 3, WRITE),
        row("read", Deed::Read, 6, READ),
        row("create", Deed::Create, 0, ALONE),
        row("create over an old cell", Deed::CreateOver, 6, ALONE),
    ];
    if R::UPDATES {
        rows.push(row("update", Deed::Update, 5, WRITE));
    }
    if R::SHARED {
        rows.push(CellOperation {
            beside_writer: true,
            ..row("write beside a writer", Deed::Write, 5, PAIRS)
        });
        rows.push(CellOperation {
            beside_writer: true,
            ..row("update beside a writer", Deed::Update, 5, PAIRS)
        });
        rows.push(CellOperation { locked: true, ..row("write behind a dead lock", Deed::Write, 5, ALONE) });
    }
    rows.into_iter().map(|row| Box::new(row) as Box<dyn Operation>).collect()
}

/// The operations of all kinds of cells, and of the log.
pub(super) fn operations() -> Vec<Box<dyn Operation>> {
    let tables = [
        table::<Plain<1>>(),
        table::<Plain<7>>(),
        table::<Plain<32>>(),
        table::<Bytes>(),
        table::<Table>(),
        table::<Shared>(),
        table::<Classic>(),
    ];
    tables.into_iter().flatten().chain(log::operations()).collect()
}

/// One operation of a kind of cells, by its name; for kinds that are not in the table.
pub(crate) fn operation_of<R: Rig>(name: &str) -> Option<Box<dyn Operation>> {
    table::<R>().into_iter().find(|operation| operation.name() == name)
}

impl<R: Rig> CellOperation<R> {
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

    fn open(stage: &Stage) -> Verdict<R::Cell> {
        R::open(Self::region(stage)?).map_err(|error| format!("expected a cell, found {error}"))
    }

    /// A reader of its own, through a region that may only be read.
    fn reader(stage: &Stage) -> Verdict<R::Reader> {
        let cell = R::open(Self::region(stage)?.read_only());
        cell.map(|cell| R::reader(&cell)).map_err(|error| format!("expected a cell to read, found {error}"))
    }

    /// The cell, if there is any structure at all.
    fn open_if_any(stage: &Stage) -> Verdict<Option<R::Cell>> {
        match R::open(Self::region(stage)?) {
            Ok(cell) => Ok(Some(cell)),
            Err(AttachError::Incompatible(error)) if error.field == Field::Magic => Ok(None),
            Err(error) => Err(format!("expected a cell or no magic: {error}")),
        }
    }

    /// A word of the segment, written by nobody else now.
    fn put(stage: &Stage, offset: usize, value: u64) -> Verdict<()> {
        // SAFETY: a control word of the layout, which the structure uses as this atomic only.
        let word = unsafe { Self::region(stage)?.atomic_u64(offset) };
        // ORD stage: Relaxed, the processes of the run are forked behind it.
        word.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Whether survivors were preceded by one that recovered.
    fn is_recovered(stage: &Stage) -> bool {
        // ORD stage: Relaxed, the act's process has ended.
        stage.output(Role::Second).get(RECOVERED).is_some_and(|mark| mark.load(Ordering::Relaxed) != 0)
    }
}

impl<R: Rig> Operation for CellOperation<R> {
    fn structure(&self) -> &'static str {
        R::STRUCTURE
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn bytes(&self) -> usize {
        R::bytes()
    }

    fn modes(&self) -> &'static [Mode] {
        self.modes
    }

    fn capacity(&self) -> u64 {
        R::LAP
    }

    fn names(&self) -> Vec<usize> {
        if R::SHARED { vec![R::OWNER, R::OWNER + 8] } else { vec![R::OWNER] }
    }

    fn rounds(&self) -> usize {
        // Who waits for a frozen writer goes round many times, and each round looks like the one before.
        if R::WAITS || R::SHARED { 3 } else { usize::MAX }
    }

    fn prepare(&self, stage: &Stage) -> Verdict<()> {
        *self.reader.borrow_mut() = None;
        if self.deed.creates() {
            // SAFETY: the whole segment, which only this process uses now; a line of it is no valid header.
            unsafe { stage.segment().as_ptr().write_bytes(0xA5, stage.bytes()) };
        }
        if self.deed == Deed::Create {
            return Ok(());
        }
        let cell = R::create(Self::region(stage)?)?;
        let leases = self.leases()?;
        let mut writer = R::writer(&cell, leases).map_err(|error| format!("preparing: {error}"))?;
        for version in 1..=self.before {
            let written = R::write(&mut writer, leases, version);
            if written != Written::Version(version) {
                return Err(format!("preparing version {version}: {written:?}"));
            }
        }
        drop(writer);
        let mut reader = Self::reader(stage)?;
        let found = R::read(&mut reader, leases);
        if found != Found::Value(self.before, self.before) {
            return Err(format!("preparing: expected version {}, found {found:?}", self.before));
        }
        *self.reader.borrow_mut() = Some(reader);
        if self.deed == Deed::TakeOver {
            Self::put(stage, R::OWNER, NOBODY)?;
        }
        if R::SHARED && (self.deed == Deed::TakeOver || self.locked) {
            Self::put(stage, R::OWNER + 8, NOBODY)?;
            Self::put(stage, LOCK, LOCKED)?;
        }
        Ok(())
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        match self.deed {
            Deed::Write | Deed::Update => self.writing(stage, Role::First, VICTIM),
            Deed::Attach | Deed::TakeOver => self.attaching(stage, Role::First),
            Deed::Detach => {
                let writer = R::writer(&Self::open(stage)?, self.leases()?);
                let mut writer = Some(writer.map_err(|error| format!("attaching: {error}"))?);
                Ok(Box::new(move || u64::from(writer.take().is_some())))
            }
            Deed::Read => self.reading(stage, Role::First),
            Deed::Create | Deed::CreateOver => {
                let mut region = Some(Self::region(stage)?);
                let mut kept = None;
                Ok(Box::new(move || {
                    region.take().and_then(|region| R::create(region).ok()).map_or(CORRUPT, |cell| {
                        let _kept = kept.insert(cell);
                        DONE
                    })
                }))
            }
        }
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if seen.first.is_some_and(|answer| answer != DONE) {
            return Err(format!("expected the answer {DONE}, found {seen:?}"));
        }
        if self.deed.creates() {
            return self.judge_create(stage, seen);
        }
        if seen.second.is_some_and(|answer| answer != DONE) {
            return Err(format!("expected that the next writer writes, found {seen:?}"));
        }
        self.check_answer(stage, seen, self.before + 1)?;
        let found = self.look(stage, &self.legal(stage, seen), self.may_be_cut(stage, seen))?;
        let cell = Self::open(stage)?;
        self.check_owner(stage, &cell, seen)?;
        self.go_on(stage, &cell, found, &self.legal(stage, seen))?;
        let present = match (found, self.deed.writes()) {
            (Found::Value(tag, _), true) => tag != self.before,
            _ => seen.first.is_some(),
        };
        Ok(if present { Outcome::Present } else { Outcome::Absent })
    }

    fn interfere(&self, stage: &Stage) -> Verdict<()> {
        if self.deed.creates() {
            return self.look_beside(stage);
        }
        let in_flight = Seen { first: None, second: None };
        let legal = self.legal(stage, in_flight);
        acts::protect(stage, true)?;
        for _ in 0..3 {
            self.look(stage, &legal, R::WAITS)?;
        }
        acts::protect(stage, false)?;
        let cell = Self::open(stage)?;
        let attached = R::writer(&cell, self.leases()?);
        let mut writer = match attached {
            Ok(_) if self.deed.writes() && !R::SHARED => {
                return Err("the role of a frozen writer was given away".to_owned());
            }
            Ok(writer) => writer,
            Err(AttachError::RoleTaken(_) | AttachError::Lease(LeaseError::Held { .. }))
                if self.deed != Deed::Read =>
            {
                return self.look(stage, &legal, R::WAITS).map(|_| ());
            }
            Err(error) => return Err(format!("attaching: {error}")),
        };
        let [count, ..] = stage.notes();
        for n in 0..3 * R::LAP {
            match R::write(&mut writer, self.leases()?, OTHERS + n) {
                // ORD stage: Relaxed, read after this process has ended.
                Written::Version(_) => count.store(n + 1, Ordering::Relaxed),
                // The frozen one has the lock.
                Written::Busy if R::SHARED && n == 0 && self.deed.writes() => break,
                written => return Err(format!("write {n}: {written:?}")),
            }
        }
        Ok(())
    }

    fn judge_frozen(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if seen.first != Some(DONE) {
            return Err(format!("the victim resumed, expected that it is done, found {seen:?}"));
        }
        if self.deed.creates() {
            return self.judge_create(stage, seen);
        }
        let [count, ..] = stage.notes();
        // ORD stage: Relaxed, the others have ended.
        let others = count.load(Ordering::Relaxed);
        let last = if others == 0 { self.before } else { OTHERS + others - 1 };
        let mut legal = vec![(last, self.before + others)];
        if self.deed.writes() {
            let version = self.before + others + 1;
            legal = vec![(VICTIM, version)];
            if others > 0 {
                legal.push((last, version));
            }
        }
        if self.deed == Deed::Read {
            self.check_read(stage, Role::First, others)?;
        }
        let found = self.look(stage, &legal, false)?;
        self.go_on(stage, &Self::open(stage)?, found, &legal)?;
        Ok(Outcome::Present)
    }

    fn partner<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        match self.deed {
            Deed::Write | Deed::Update if self.beside_writer => self.writing(stage, Role::Second, PARTNER),
            Deed::Write | Deed::Update => self.reading(stage, Role::Second),
            _ => self.attaching(stage, Role::Second),
        }
    }

    fn judge_pair(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let (Some(first), Some(second)) = (seen.first, seen.second) else {
            return Err(format!("expected both to come to an end, found {seen:?}"));
        };
        let legal = if self.beside_writer {
            self.check_writers(stage, first, second)?
        } else if self.deed.writes() {
            self.check_writer_and_reader(stage, first, second)?
        } else {
            self.check_rivals(stage, first, second)?
        };
        let found = self.look(stage, &legal, false)?;
        self.go_on(stage, &Self::open(stage)?, found, &legal)?;
        Ok(if first == DONE { Outcome::Present } else { Outcome::Absent })
    }

    fn recover<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        if let Some(mark) = stage.output(Role::Second).get(RECOVERED) {
            // ORD stage: Relaxed, read after this process has ended.
            mark.store(1, Ordering::Relaxed);
        }
        if self.deed.creates() { Self::create_again(stage) } else { self.succeeding(stage) }
    }

    fn control_words(&self) -> Vec<usize> {
        R::believed(self.before)
    }

    fn judge_flipped(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        // The bytes of a lying writer are its own affair: a value that nobody wrote is an answer.
        match seen.first {
            Some(DONE) => Ok(Outcome::Present),
            Some(TORN | BUSY | CORRUPT | DIED) => Ok(Outcome::Absent),
            answer => Err(format!("{}: expected one of the answers, found {answer:?}", stage.bytes())),
        }
    }
}
