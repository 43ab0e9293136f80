//! Victims: cells of all kinds, read and written; and readers on memory that they may not write to.

use std::io;
use std::marker::PhantomData;

use anyhow::{Context as _, Result, bail};
use tidewire_seqlock::{Cell, Corrupt, ReadError, Reader};
use tidewire_shm::{Region, Segment, SegmentLeases, Untrusted};

use super::arena::Arena;
use super::dice::Dice;
use super::hostile::Targets;
use super::victim::{Act, Finding, Subject, TURN, Tally, Victim, must};
use crate::cells::rig::{Found, Plain, Rig, Written, slot_bytes};

/// Where the slots begin, behind the word that names the latest version.
const SLOTS: usize = 128;

/// The subject of cells of one kind.
pub(super) fn subject<R: Rig>(structure: &'static str) -> Result<Subject> {
    let bytes = R::bytes();
    let stamps = (0..4).map(|slot| R::LATEST + SLOTS + slot * slot_bytes(R::WORDS) + 8 * R::WORDS);
    let stamps: Vec<usize> = if R::WORDS > 1 && !R::WAITS { stamps.collect() } else { vec![R::LATEST] };
    let hot = (R::LATEST..R::LATEST + 64).step_by(8);
    let (data, unit) = if stamps.len() > 1 {
        (R::LATEST + SLOTS..R::LATEST + SLOTS + 4 * slot_bytes(R::WORDS), slot_bytes(R::WORDS))
    } else {
        (R::LATEST + 8..bytes, 8)
    };
    // Lock and owners, or owners alone.
    let owners = [R::OWNER, R::OWNER + 8, R::LATEST.saturating_sub(256)];
    Ok(Subject {
        structure,
        bytes: bytes.next_multiple_of(128),
        create: |region| match R::create(region) {
            Ok(_) => Ok(()),
            Err(error) => bail!("{error}"),
        },
        targets: Targets {
            positions: stamps.iter().map(|stamp| (R::LATEST, *stamp)).collect::<Vec<_>>().leak(),
            control: hot.chain(stamps).chain(owners).filter(|word| *word < bytes).collect::<Vec<_>>().leak(),
            data,
            capacity: R::LAP,
            unit: unit as u64,
            headers: false,
        },
        victim: |arena| Box::new(Handles::<R>::new(arena, 64)),
    })
}

/// The subject that opens and attaches all the time.
pub(super) fn attach_subject<R: Rig>(structure: &'static str) -> Result<Subject> {
    let mut subject = subject::<R>(structure)?;
    subject.targets.headers = true;
    subject.victim = |arena| Box::new(Handles::<R>::new(arena, 0));
    Ok(subject)
}

/// The subject of readers that may not write to the memory at all.
pub(super) fn read_only_subject<const N: usize>(structure: &'static str) -> Result<Subject> {
    let mut subject = subject::<Plain<N>>(structure)?;
    subject.victim = |arena| Box::new(Looker::<N>::new(arena));
    Ok(subject)
}

/// A cell, used through whichever handles there are.
struct Handles<R: Rig> {
    arena: Arena,
    leases: Option<SegmentLeases>,
    cell: Option<R::Cell>,
    writer: Option<R::Writer>,
    reader: Option<R::Reader>,
    /// The last version that the writer was told, and that the reader was given.
    versions: (Option<u64>, u64),
    tag: u64,
    /// Turns between two attaches that nothing forces, about.
    patience: usize,
}

impl<R: Rig> Handles<R> {
    fn new(arena: Arena, patience: usize) -> Self {
        let leases = Segment::anonymous(4096).and_then(|segment| segment.leases()).ok();
        Self { arena, leases, cell: None, writer: None, reader: None, versions: (None, 0), tag: 0, patience }
    }

    fn region(&self) -> Result<Region, Finding> {
        self.arena.region().map_err(|_| Finding("the arena refused a region"))
    }

    /// Gets what is missing: cell, writer, reader. What the memory says may prevent it; then the cell is made anew.
    fn attach(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        if dice.below(self.patience + 1) == 0 {
            (self.cell, self.writer, self.reader) = (None, None, None);
        }
        let Some(leases) = &self.leases else { return Err(Finding("there are no leases")) };
        if self.cell.is_none() {
            tally.act(Act::Open);
            self.cell = R::open(self.region()?).ok();
        }
        if self.cell.is_none() {
            tally.corrupt();
            (self.writer, self.reader) = (None, None);
            let made = R::create(self.region()?);
            return must(made.is_ok(), "a cell could not be made anew");
        }
        let Some(cell) = &self.cell else { return Ok(()) };
        if self.writer.is_none() {
            tally.act(Act::Attach);
            self.writer = R::writer(cell, leases).ok();
            self.versions.0 = None;
        }
        if self.writer.is_none() {
            // What the latest version is said to be cannot be: only a new cell helps.
            tally.corrupt();
            self.cell = None;
            self.reader = None;
            let made = R::create(self.region()?);
            return must(made.is_ok(), "a cell could not be made anew");
        }
        if self.reader.is_none() {
            self.reader = Some(R::reader(cell));
            self.versions.1 = 0;
        }
        Ok(())
    }

    fn write(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let (Some(writer), Some(leases)) = (&mut self.writer, &self.leases) else {
            return Ok(());
        };
        self.tag = (self.tag + 1) & 0xFFFF_FFFF;
        let written = if R::UPDATES && dice.below(4) == 0 {
            tally.act(Act::Update);
            R::update(writer, leases, self.tag)
        } else {
            tally.act(Act::Write);
            R::write(writer, leases, self.tag)
        };
        match written {
            Written::Version(version) => {
                let next = self.versions.0.replace(version).is_none_or(|last| {
                    // Others may have written, where there are others.
                    if R::SHARED { version > last } else { version == last + 1 }
                });
                must(next, "a version that is not the next one")
            }
            // What was there was not what anybody wrote; it was written all the same.
            Written::Torn => {
                self.versions.0 = None;
                Ok(())
            }
            Written::Busy => must(R::SHARED, "a writer that is alone waits"),
            Written::Damaged => must(R::WAITS, "a damaged cell of a kind that cannot be damaged"),
            Written::Corrupt => {
                tally.corrupt();
                let again = R::write(writer, leases, self.tag);
                self.writer = None;
                must(again == Written::Corrupt, "a writer that returned to service")
            }
        }
    }

    fn read(&mut self, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let (Some(reader), Some(leases)) = (&mut self.reader, &self.leases) else {
            return Ok(());
        };
        tally.act(Act::Read);
        match R::read(reader, leases) {
            Found::Value(_, version) => {
                let back = version < core::mem::replace(&mut self.versions.1, version);
                must(!back, "a version that went back")
            }
            // The bytes of whoever can write them are their own affair.
            Found::Torn => Ok(()),
            Found::Busy => Ok(()),
            Found::Died => Err(Finding("a writer that lives was said to be dead")),
            Found::Corrupt => {
                tally.corrupt();
                let again = R::read(reader, leases);
                self.reader = None;
                must(again == Found::Corrupt, "a reader that returned to service")
            }
        }
    }
}

impl<R: Rig> Victim for Handles<R> {
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        for _ in 0..if self.patience == 0 { TURN / 16 } else { 4 } {
            self.attach(dice, tally)?;
            for _ in 0..if self.patience == 0 { 1 } else { TURN / 8 } {
                self.write(dice, tally)?;
                self.read(tally)?;
            }
        }
        Ok(())
    }
}

/// A reader of `N` words that has no right to write.
struct Looker<const N: usize> {
    /// Never used itself: each new reader begins as its copy.
    first: Option<Reader<[u64; N], Untrusted>>,
    reader: Option<Reader<[u64; N], Untrusted>>,
    seen: u64,
    value: [u64; N],
    kind: PhantomData<Plain<N>>,
}

impl<const N: usize> Looker<N> {
    fn new(arena: Arena) -> Self {
        Self { first: Self::first(&arena).ok(), reader: None, seen: 0, value: [0; N], kind: PhantomData }
    }

    fn first(arena: &Arena) -> Result<Reader<[u64; N], Untrusted>> {
        // The hostile process may have been faster: of a cell that is made anew, here and once, all is as it must be but
        // what it writes meanwhile.
        for _ in 0..1000 {
            Plain::<N>::create(arena.region()?).ok().context("expected that a cell can be made")?;
            if let Ok(cell) = Cell::<[u64; N], Untrusted>::open(arena.region()?.read_only(), 0) {
                protect(arena)?;
                return Ok(cell.reader());
            }
        }
        bail!("expected a cell that can be opened once in a thousand times")
    }
}

/// Takes the right to write to the memory from this process.
fn protect(arena: &Arena) -> Result<()> {
    const PAGE: usize = 4096;
    let start = arena.address(0);
    let before = start.addr() % PAGE;
    // SAFETY: whole pages of the arena's mapping; this process has no reference into them, and what it stores to them
    // from here on is a fault, which is what is looked for.
    let done =
        unsafe { libc::mprotect(start.wrapping_sub(before).cast(), before + arena.len(), libc::PROT_READ) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("protecting the memory") }
}

impl<const N: usize> Victim for Looker<N> {
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let Some(first) = &self.first else { return Err(Finding("there is no reader")) };
        for _ in 0..TURN {
            let reader = self.reader.get_or_insert_with(|| first.clone());
            tally.act(Act::Read);
            let read = match dice.below(4) {
                0 => reader.try_read().map(|(_, version)| Some(version)),
                1 => reader.read_if_changed(self.seen).map(|changed| changed.map(|(_, version)| version)),
                2 => reader.version().map(Some).map_err(ReadError::Corrupt),
                _ => reader.read_into(&mut self.value).map(Some),
            };
            match read {
                Ok(version) => {
                    let version = version.unwrap_or(self.seen);
                    let back = version < core::mem::replace(&mut self.seen, version);
                    must(!back, "a version that went back")?;
                }
                Err(ReadError::Lapped) => {}
                Err(ReadError::Corrupt(corrupt)) => {
                    tally.corrupt();
                    let again = reader.read().err();
                    must(again == Some(ReadError::Corrupt(corrupt)), "a reader that returned to service")?;
                    must(forgets(reader, corrupt), "a reader that forgot what was wrong")?;
                    (self.reader, self.seen) = (None, 0);
                }
            }
        }
        Ok(())
    }
}

/// Whether a reader still knows what was wrong.
fn forgets<const N: usize>(reader: &Reader<[u64; N], Untrusted>, corrupt: Corrupt) -> bool {
    reader.corruption() == Some(corrupt)
}
