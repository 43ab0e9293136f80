//! A hostile process writes over every shared word while a victim works: the victim may find the memory corrupt or
//! full of nonsense, and nothing worse.
//!
//! | who | what |
//! |---|---|
//! | hostile process | random and plausible values over positions, owners, headers, frames and payload |
//! | victim | operations through untrusted handles; drops a handle that is latched corrupt and attaches again |
//! | harness | watches the victim: a signal, a panic, a turn that does not end, an answer that cannot be |
//!
//! The structure ends where a page begins that nobody may touch. What lies in front of it up to the page's start is
//! filled with a canary, of which the last 64 bytes are looked at after each turn; before that comes another page
//! that nobody may touch. The victim's buffers have 64 bytes of canary on both sides. What is written farther away
//! within a page, and what is only read there, goes unnoticed. The page through which victim and harness talk can
//! be read by the hostile process and not written.
//!
//! A structure joins by a row of [`subjects`]: where its words lie, and a [`Victim`].
//!
//! The seed decides what both sides choose; how they interleave is the processor's affair, so a seed repeats a
//! run's choices and not its every moment.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::cells::rig::{self as cells, Plain};
use crate::report::{Reporter, Row, complain};

mod arena;
mod bytes;
mod dice;
mod fixed;
mod hostile;
mod mpsc;
mod roles;
mod seqlock;
mod victim;
mod watch;

pub(crate) use arena::Arena;
pub(crate) use dice::Dice;
pub(crate) use roles::{DATA, HEAD, TAIL, reset};
pub(crate) use victim::{Act, Finding, Output, Subject, TURN, Tally, Victim, must};
pub(crate) use watch::{End, Outcome, run as run_subject};

/// The subject that twins of record rings change the victim of, and its capacity.
pub(crate) use bytes::{CAPACITY as RECORD_CAPACITY, subject as record_subject};

/// Lets a hostile process overwrite shared words while a victim works.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds in all, divided among the structures.
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Repeats the choices of a run; drawn and printed if absent.
    #[arg(long)]
    seed: Option<u64>,
}

/// What one structure went through.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScribbleRow {
    pub(crate) structure: &'static str,
    pub(crate) operations: u64,
    pub(crate) corrupt: u64,
    pub(crate) crashed: u64,
    pub(crate) hung: u64,
    pub(crate) seconds: f64,
}

impl ScribbleRow {
    fn new(structure: &'static str, outcome: &Outcome) -> Self {
        Self {
            structure,
            operations: outcome.operations,
            corrupt: outcome.corrupt,
            crashed: u64::from(matches!(outcome.end, End::Crashed(_))),
            hung: u64::from(matches!(outcome.end, End::Hung(_))),
            seconds: outcome.seconds,
        }
    }

    /// Whether the victim came through, and met anything that it had to come through.
    pub(crate) fn is_good(&self) -> bool {
        self.crashed == 0 && self.hung == 0 && self.operations > 0 && self.corrupt > 0
    }
}

impl Row for ScribbleRow {
    const COLUMNS: &'static [(&'static str, i16)] = &[
        ("structure", -22),
        ("operations", 12),
        ("corrupt", 11),
        ("crashed", 7),
        ("hung", 5),
        ("seconds", 7),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.structure.to_owned(),
            self.operations.to_string(),
            self.corrupt.to_string(),
            self.crashed.to_string(),
            self.hung.to_string(),
            format!("{:.1}", self.seconds),
        ]
    }
}

/// The table: everything that is scribbled over.
pub(crate) fn subjects() -> Result<Vec<Subject>> {
    Ok(vec![
        fixed::subject::<u64, false>("fixed 8 B")?,
        fixed::subject::<[u64; 8], false>("fixed 64 B")?,
        fixed::subject::<[u8; 100], false>("fixed 100 B")?,
        fixed::subject::<[u64; 8], true>("fixed 64 B, pages")?,
        bytes::subject::<false>("records")?,
        bytes::subject::<true>("records, pages")?,
        fixed::attach_subject::<u64>("attach fixed")?,
        bytes::attach_subject::<false>("attach records")?,
        bytes::attach_subject::<true>("attach records, pages")?,
        seqlock::subject::<Plain<1>>("cell 8 B")?,
        seqlock::subject::<Plain<7>>("cell 56 B")?,
        seqlock::subject::<Plain<32>>("cell 256 B")?,
        seqlock::subject::<cells::Bytes>("cell of bytes")?,
        seqlock::subject::<cells::Table>("table of cells")?,
        seqlock::subject::<cells::Shared>("cell of two writers")?,
        seqlock::subject::<cells::Classic>("classic cell")?,
        seqlock::read_only_subject::<1>("cell 8 B, read-only")?,
        seqlock::read_only_subject::<7>("cell 56 B, read-only")?,
        seqlock::read_only_subject::<512>("cell 4096 B, read-only")?,
        seqlock::attach_subject::<Plain<7>>("attach cell")?,
        seqlock::attach_subject::<cells::Shared>("attach writers")?,
        mpsc::subject::<mpsc::Slots>("lanes 64 B")?,
        mpsc::subject::<mpsc::Records>("lanes of records")?,
        mpsc::subject::<mpsc::OrderedSlots>("ordered 64 B")?,
        mpsc::subject::<mpsc::OrderedRecords>("ordered records")?,
        mpsc::attach_subject::<mpsc::Slots>("attach lanes")?,
        mpsc::attach_subject::<mpsc::Records>("attach lanes of rec.")?,
        mpsc::attach_subject::<mpsc::OrderedSlots>("attach ordered")?,
        mpsc::attach_subject::<mpsc::OrderedRecords>("attach ordered rec.")?,
    ])
}

/// Runs the whole table and hands each row out as it is ready. A victim that comes to harm is complained about.
///
/// # Errors
/// Where a process or a mapping could not be made, or the time is no time.
pub(crate) fn scribble(
    seconds: f64,
    seed: u64,
    mut on_row: impl FnMut(&ScribbleRow) -> Result<()>,
) -> Result<Vec<ScribbleRow>> {
    ensure!(
        seconds.is_finite() && (0.1..=1e6).contains(&seconds),
        "expected 0.1 to 1,000,000 seconds, found {seconds}"
    );
    let subjects = subjects()?;
    let share = Duration::from_secs_f64(seconds / subjects.len() as f64);
    let mut rows = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        let outcome = run_subject(subject, share, seed.wrapping_add(number as u64))?;
        if let End::Crashed(how) | End::Hung(how) = &outcome.end {
            complain(&format!("{}, seed {seed}: {how}", subject.structure));
        }
        let row = ScribbleRow::new(subject.structure, &outcome);
        on_row(&row)?;
        rows.push(row);
    }
    Ok(rows)
}

/// A seed that was not used before.
pub(crate) fn new_seed() -> Result<u64> {
    let mut bytes = [0; 8];
    let n = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    ensure!(n == bytes.len(), "expected 8 random bytes, found {n}");
    Ok(u64::from_le_bytes(bytes))
}

pub(crate) fn main(args: &Args, reporter: &mut Reporter) -> Result<bool> {
    let seed = args.seed.map_or_else(new_seed, Ok)?;
    complain(&format!("seed {seed}"));
    if cfg!(debug_assertions) {
        complain("a debug build: the machine code that is shipped is the release build's");
    }
    let rows = scribble(args.seconds, seed, |row| reporter.row(row))?;
    let operations: u64 = rows.iter().map(|row| row.operations).sum();
    let seconds: f64 = rows.iter().map(|row| row.seconds).sum();
    reporter.note(&format!("{operations} operations in {seconds:.1} s"))?;
    Ok(rows.iter().all(ScribbleRow::is_good))
}
