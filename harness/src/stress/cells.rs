//! Cells under stress: writers that are killed and stopped at random, readers that look at every word.
//!
//! A writer writes at full speed until it is killed; the parent waits for it and looks at what it left, and a successor
//! takes its role over through its lease. Now and then a writer is stopped instead: then readers must go on, and nobody
//! may take its role. Readers are killed, too, which nobody must notice. Everything that was acknowledged must be seen
//! by whoever looks later, and no version may go back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cells::CellRow;
use crate::cells::crew::{self, Board, Child, Fault, Ground, Seat};
use crate::cells::rig::{Bytes, Classic, Found, Plain, Rig, Shared};
use crate::scribble::Dice;

/// Longest life of a writer before it is killed, in microseconds.
const LIFE_US: usize = 300;

/// What a process that looked found.
const VALUE: u64 = 1;
const TORN: u64 = 2;
const NOTHING: u64 = 3;

/// One row: a cell, and how many read it.
pub(crate) struct Subject {
    pub(crate) structure: &'static str,
    pub(crate) payload_bytes: u64,
    pub(crate) readers: usize,
    play: fn(&Play) -> Result<CellRow>,
}

/// How a row is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Play {
    pub(crate) structure: &'static str,
    pub(crate) payload_bytes: u64,
    pub(crate) readers: usize,
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// After how long without progress somebody is blocked.
    pub(crate) patience: Duration,
    /// Let the parent not read the cell itself: for cells whose readers may wait for ever.
    pub(crate) apart: bool,
}

const fn subject<R: Rig>(payload_bytes: u64, readers: usize) -> Subject {
    Subject { structure: R::STRUCTURE, payload_bytes, readers, play: play::<R> }
}

/// The rows.
pub(crate) const SUBJECTS: &[Subject] = &[
    subject::<Plain<1, 8>>(8, 1),
    subject::<Plain<1, 8>>(8, 3),
    subject::<Plain<7, 8>>(56, 1),
    subject::<Plain<7, 8>>(56, 3),
    subject::<Plain<32, 8>>(256, 1),
    subject::<Plain<32, 8>>(256, 3),
    subject::<Plain<512, 8>>(4096, 1),
    subject::<Plain<512, 8>>(4096, 3),
    subject::<Bytes>(100, 1),
    subject::<Shared>(72, 1),
    subject::<Shared>(72, 3),
    subject::<Classic>(96, 1),
];

/// Whether a structure has rows here.
pub(super) fn is_known(name: &str) -> bool {
    SUBJECTS.iter().any(|subject| subject.structure == name)
}

/// Whether structures were named, and all of them have their rows here.
pub(super) fn are_all(names: &[String]) -> bool {
    !names.is_empty() && names.iter().all(|name| is_known(name))
}

/// The rows that were asked for. A round that is played again, and plans, are none of theirs.
pub(super) fn chosen(args: &super::Args) -> Vec<&'static Subject> {
    let wanted = |subject: &&Subject| {
        let all = args.structure.is_empty() && args.payload.is_empty();
        let named = args.structure.iter().any(|name| name == subject.structure);
        let sized = args.payload.is_empty() || args.payload.contains(&subject.payload_bytes);
        all || named && sized
    };
    let none = args.round.is_some() || args.plan.is_some();
    SUBJECTS.iter().filter(wanted).filter(|_| !none).collect()
}

impl Subject {
    /// Plays the row.
    ///
    /// # Errors
    /// What the system says. What is wrong with the cell is in the row.
    pub(super) fn run(&self, time: Duration, seed: u64, patience: Duration) -> Result<CellRow> {
        let &Self { structure, payload_bytes, readers, play } = self;
        play(&Play { structure, payload_bytes, readers, time, seed, patience, apart: false })
    }
}

/// A row that is being played.
struct Table<'a, R: Rig> {
    ground: &'a Ground,
    board: &'a Board,
    play: &'a Play,
    row: CellRow,
    /// The parent's own reader, and what it saw last.
    eye: R::Reader,
    seen: u64,
    salt: u64,
    readers: Vec<Child>,
    writers: Vec<Child>,
}

/// Plays one row with cells of one kind.
///
/// # Errors
/// What the system says. What is wrong with the cell is in the row.
pub(crate) fn play<R: Rig>(play: &Play) -> Result<CellRow> {
    let (ground, board) = (Ground::new::<R>()?, Board::new()?);
    let row = CellRow {
        structure: play.structure.to_owned(),
        payload_bytes: play.payload_bytes,
        mode: "stress",
        writers: if R::SHARED { 2 } else { 1 },
        readers: play.readers as u64,
        seed: play.seed,
        ..CellRow::default()
    };
    let mut table = Table::<R> {
        ground: &ground,
        board: &board,
        play,
        row,
        eye: ground.reader::<R>()?,
        seen: 0,
        salt: 0,
        readers: Vec::new(),
        writers: Vec::new(),
    };
    let begun = Instant::now();
    let mut dice = Dice::new(play.seed, play.readers as u64);
    // Short sleeps shall be short; refused, they are longer.
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
    let mut well = table.begin()?;
    while well && begun.elapsed() < play.time {
        well = table.turn(&mut dice)?;
    }
    table.end(begun.elapsed())
}

impl<R: Rig> Table<'_, R> {
    fn trouble(&mut self, what: String) -> bool {
        self.row.troubles.push(what);
        false
    }

    fn blocked(&mut self, what: String) -> bool {
        self.row.blocked += 1;
        self.trouble(what)
    }

    /// All processes are there; false if one did not come.
    fn begin(&mut self) -> Result<bool> {
        for number in 0..self.play.readers {
            let reader = self.reader(number)?;
            self.readers.push(reader);
        }
        for number in 0..if R::SHARED { 2 } else { 1 } {
            let Some(writer) = self.writer(number)? else { return Ok(false) };
            self.writers.push(writer);
        }
        Ok(true)
    }

    fn reader(&self, number: usize) -> Result<Child> {
        let seat = self.board.readers().get(number).context("a seat for each reader")?;
        Child::spawn(|| crew::read::<R>(self.ground, self.board, seat, None))
    }

    /// A writer that has taken its role; none if it could not.
    fn writer(&mut self, number: usize) -> Result<Option<Child>> {
        self.salt += 1;
        // Salts have 24 bits of a tag, none of which is zero.
        let salt = self.salt % 0xFF_FFFF + 1;
        let seat = self.board.writers().get(number).context("a seat for each writer")?;
        let (ground, board) = (self.ground, self.board);
        let mut child = Child::spawn(|| crew::write::<R>(ground, board, seat, salt, None))?;
        let begun = Instant::now();
        // ORD board.begun: Acquire <- `crew::write`; the role is taken.
        while seat.begun.load(Ordering::Acquire) != salt {
            if let Some(status) = child.ended() {
                let fault = seat.fault();
                self.blocked(format!("a writer ended with status {status:#x} before it wrote: {fault:?}"));
                return Ok(None);
            }
            if begun.elapsed() > self.play.patience {
                self.blocked("a writer did not begin".to_owned());
                return Ok(None);
            }
            std::thread::sleep(Duration::from_micros(10));
        }
        Ok(Some(child))
    }

    /// One life of one writer; false if something is wrong.
    fn turn(&mut self, dice: &mut Dice) -> Result<bool> {
        let number = dice.below(self.writers.len().max(1));
        // Half of them die young.
        let life = if dice.below(2) == 0 { dice.below(20) } else { dice.below(LIFE_US) };
        if life > 0 {
            std::thread::sleep(Duration::from_micros(life as u64));
        }
        if dice.below(32) == 0 && !self.stop(number, dice)? {
            return Ok(false);
        }
        if number >= self.writers.len() {
            return Ok(self.trouble("a writer is missing".to_owned()));
        }
        let writer = self.writers.remove(number);
        writer.kill();
        self.row.kills += 1;
        if !self.look() || !self.no_faults() {
            return Ok(false);
        }
        if dice.below(64) == 0 && !self.readers.is_empty() {
            let reader = dice.below(self.readers.len());
            let successor = self.reader(reader)?;
            core::mem::replace(self.readers.get_mut(reader).context("a reader")?, successor).kill();
        }
        match self.writer(number)? {
            Some(writer) => self.writers.insert(number, writer),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Stops a writer: readers go on, and nobody takes its role.
    fn stop(&mut self, number: usize, dice: &mut Dice) -> Result<bool> {
        let Some(writer) = self.writers.get(number) else { return Ok(true) };
        writer.signal(libc::SIGSTOP);
        self.row.stops += 1;
        if !R::SHARED {
            let (cell, leases) = (self.ground.open::<R>()?, self.ground.leases()?);
            if R::writer(&cell, &leases).is_ok() {
                return Ok(self.blocked("the role of a stopped writer was given away".to_owned()));
            }
        }
        if dice.below(4) == 0 && !self.readers_go_on() {
            return Ok(false);
        }
        if let Some(writer) = self.writers.get(number).filter(|_| dice.below(2) == 0) {
            writer.signal(libc::SIGCONT);
            std::thread::sleep(Duration::from_micros(dice.below(100) as u64));
        }
        Ok(true)
    }

    /// Each reader comes to the end of some reads.
    fn readers_go_on(&mut self) -> bool {
        let before: Vec<u64> = self.board.readers().iter().map(Seat::done).collect();
        let begun = Instant::now();
        for (number, (seat, before)) in
            self.board.readers().iter().zip(before).enumerate().take(self.play.readers)
        {
            while seat.done() == before {
                if seat.fault().is_some() {
                    return self.no_faults();
                }
                if begun.elapsed() > self.play.patience {
                    return self
                        .blocked(format!("reader {number} read nothing for {:?}", self.play.patience));
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        true
    }

    /// What a reader finds now: the parent, or a process that is given up when it takes too long.
    fn read(&mut self) -> Result<Found> {
        let leases = self.ground.leases()?;
        if !self.play.apart {
            return Ok(R::read(&mut self.eye, &leases));
        }
        let [.., seat] = self.board.readers();
        let eye = &mut self.eye;
        let looker = Child::spawn(|| {
            let (kind, about) = match R::read(eye, &leases) {
                Found::Value(tag, version) => (VALUE, [tag, version]),
                Found::Torn => (TORN, [0; 2]),
                _ => (NOTHING, [0; 2]),
            };
            for (to, from) in seat.about.iter().zip(about) {
                // ORD own: Relaxed, read after this process has ended.
                to.store(from, Ordering::Relaxed);
            }
            // ORD own: Relaxed, as above.
            seat.begun.store(kind, Ordering::Relaxed);
        })?;
        looker.finish(self.play.patience)?;
        // ORD own: Relaxed, the process has ended and was waited for.
        let [tag, version] = seat.about.each_ref().map(|word| word.load(Ordering::Relaxed));
        // ORD own: Relaxed, as above.
        Ok(match seat.begun.load(Ordering::Relaxed) {
            VALUE => Found::Value(tag, version),
            TORN => Found::Torn,
            _ => Found::Busy,
        })
    }

    /// What a dead writer left; false if it is wrong.
    fn look(&mut self) -> bool {
        let acknowledged = self.board.acknowledged();
        let found = match self.read() {
            Ok(found) => found,
            Err(error) => return self.blocked(format!("a look after a death: {error:#}")),
        };
        match found {
            Found::Value(tag, version) => {
                let of = tag & ((1 << 40) - 1);
                if of != version && !(R::WAITS && of == 0) {
                    self.row.torn += 1;
                    return self.trouble(format!("after a death, version {version} has the tag {tag:#x}"));
                }
                if version < acknowledged {
                    self.row.lost += 1;
                    return self.trouble(format!("version {acknowledged} was acknowledged, found {version}"));
                }
                if version < core::mem::replace(&mut self.seen, version) {
                    self.row.back += 1;
                    return self.trouble(format!("after a death, version {version} went back"));
                }
                true
            }
            Found::Died if R::WAITS => true,
            Found::Torn => {
                self.row.torn += 1;
                self.trouble("after a death, a value that nobody wrote".to_owned())
            }
            found => self.blocked(format!("after a death: {found:?}")),
        }
    }

    /// Whether no process has found anything wrong.
    fn no_faults(&mut self) -> bool {
        let mut well = true;
        let seats = self.board.readers().iter().map(|seat| ("reader", seat));
        let seats = seats.chain(self.board.writers().iter().map(|seat| ("writer", seat)));
        let found: Vec<_> = seats.filter_map(|(who, seat)| Some((who, seat.fault()?))).collect();
        for (who, (fault, [one, other])) in found {
            match fault {
                Fault::Torn => self.row.torn += 1,
                Fault::Back => self.row.back += 1,
                Fault::Lost => self.row.lost += 1,
                Fault::Blocked | Fault::Corrupt => self.row.blocked += 1,
            }
            well = self.trouble(format!("a {who}: {fault:?}, {one:#x}, {other:#x}"));
        }
        well
    }

    fn end(mut self, time: Duration) -> Result<CellRow> {
        let well = self.row.troubles.is_empty() && self.readers_go_on();
        self.board.stop();
        // Whoever is stopped must hear it.
        self.writers.iter().for_each(|writer| writer.signal(libc::SIGCONT));
        let all = self.writers.drain(..).chain(self.readers.drain(..)).collect::<Vec<_>>();
        for child in all {
            let ended = if well { child.finish(self.play.patience) } else { Ok(()) };
            if let Err(error) = ended {
                self.blocked(format!("at the end: {error}"));
            }
        }
        if well {
            self.no_faults();
        }
        let sum = |seats: &[Seat], word: fn(&Seat) -> &AtomicU64| {
            // ORD board: Relaxed, the processes have ended and were waited for.
            seats.iter().map(|seat| word(seat).load(Ordering::Relaxed)).sum::<u64>()
        };
        let mut row = self.row;
        row.writes = sum(self.board.writers(), |seat| &seat.count);
        row.reads = sum(self.board.readers(), |seat| &seat.count);
        row.retries = sum(self.board.readers(), |seat| &seat.retries);
        row.refused = sum(self.board.readers(), |seat| &seat.refused);
        row.rate(time);
        row.verified = row.troubles.is_empty() && row.reads > 0 && row.writes > 0;
        Ok(row)
    }
}
