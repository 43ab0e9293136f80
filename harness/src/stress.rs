//! `stress`: real processes that are killed, stopped, starved and crowded at random, and a checker that judges what
//! they wrote down.
//!
//! A round is a fresh structure, its producers, a consumer, and a [plan]. The plan follows from the seed and the number
//! of the round alone: the size of the structure, how lazily its consumer releases, when which process is killed,
//! stopped, moved or given another priority. What the processes themselves do follows from it, too. Only the
//! kernel's own choices do not, so a round can be played again as far as the kernel allows.
//!
//! Cells have no messages and no history: their [rows](mod@cells) are played beside the others.
//!
//! A process that is killed is waited for; then a successor takes its role over. Between rounds nobody is alive,
//! and the [checker](crate::history) reads the journals. Nothing is left behind: segments are anonymous, and children die
//! with their parent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::rand::{GetRandomFlags, getrandom};
use tidewire_shm::Segment;

use crate::history::{Book, Clock, RESERVE, Volume};
use crate::report::{Reporter, complain};
use crate::subject::{Shape, Subject, table};
use crate::twins::{history_twins, seqlock_twins};

pub(crate) mod cells;
mod child;
pub(crate) mod plan;
pub(crate) mod round;
mod row;

use plan::{BUDGET, Cell, Limits, Round};
use round::{Ground, Outcome};
use row::StressRow;

/// Length of a round, unless its messages are used up before.
const ROUND_MS: u64 = 400;
/// Faulty rounds that are described.
const DESCRIBED: u64 = 8;

/// What the book of a round with this many producers holds.
#[expect(clippy::cast_possible_truncation, reason = "half a million")]
pub(crate) fn volume(producers: u8) -> Volume {
    let budget = BUDGET as usize;
    let pushes = budget / usize::from(producers.max(1)) + (1 << 14);
    Volume { producers, pushes, pops: 3 * budget + 2 * RESERVE }
}

/// What `stress` can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds for all rows together
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What everything random follows from [default: drawn]
    #[arg(long)]
    seed: Option<u64>,
    /// Only this structure; may be given several times
    #[arg(long, value_name = "NAME")]
    structure: Vec<String>,
    /// Only messages of this size; may be given several times
    #[arg(long, value_name = "BYTES")]
    payload: Vec<u64>,
    /// Keep all processes on one processor
    #[arg(long)]
    one_core: bool,
    /// Give the processes extreme priorities in every round
    #[arg(long)]
    nice: bool,
    /// Play only the round of this number, once for each time that fits
    #[arg(long, value_name = "NUMBER", requires = "seed")]
    round: Option<u64>,
    /// Print the plans of the first rounds, one JSON object each, and do nothing else
    #[arg(long, value_name = "ROUNDS")]
    plan: Option<u64>,
    /// After how long without progress a pair hangs.
    #[arg(long, hide = true, value_name = "MS", default_value_t = 5_000)]
    patience_ms: u64,
    /// Put the broken twins under stress instead: each must be caught.
    #[arg(long, hide = true)]
    twins: bool,
    /// The orders of a child.
    #[arg(long, hide = true, value_name = "ORDERS")]
    child: Option<String>,
}

impl Args {
    fn limits(&self) -> Limits {
        Limits { one_core: self.one_core, nice: self.nice, round_ms: ROUND_MS }
    }

    /// The places in the table of the structures that were asked for. Twins only come when they are named.
    fn chosen(&self, table: &[Box<dyn Subject>]) -> Result<Vec<usize>> {
        let named = |subject: &dyn Subject| self.structure.iter().any(|name| name == subject.structure());
        for name in &self.structure {
            let known = cells::is_known(name) || table.iter().any(|subject| subject.structure() == name);
            ensure!(
                known,
                "expected a structure among ring-fixed, ring-bytes, mpsc-fixed, mpsc-bytes, mpsc-ordered and \
                 mpsc-ordered-bytes, found {name}"
            );
        }
        let wanted = |subject: &dyn Subject| {
            let default =
                self.structure.is_empty() && !subject.structure().starts_with(history_twins::PREFIX);
            (default || named(subject))
                && (self.payload.is_empty() || self.payload.contains(&subject.payload_bytes()))
        };
        let chosen: Vec<usize> = table
            .iter()
            .enumerate()
            .filter(|(_, subject)| wanted(subject.as_ref()))
            .map(|(n, _)| n)
            .collect();
        let mut sizes: Vec<u64> = table
            .iter()
            .filter(|subject| self.structure.is_empty() || named(subject.as_ref()))
            .map(|subject| subject.payload_bytes())
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        for size in &self.payload {
            ensure!(sizes.contains(size), "expected a payload among {sizes:?} bytes, found {size}");
        }
        ensure!(!chosen.is_empty(), "expected a structure and a payload that go together, found none");
        Ok(chosen)
    }
}

/// Puts the structures under stress; `Ok(false)` if anything was bad.
///
/// # Errors
/// What the system says, or what is wrong with the arguments.
pub(crate) fn main(args: &Args, reporter: &mut Reporter) -> Result<bool> {
    if let Some(orders) = &args.child {
        return child::main(orders);
    }
    let table = table();
    let latest = cells::chosen(args);
    let chosen = if cells::are_all(&args.structure) { Vec::new() } else { args.chosen(&table)? };
    let seed = args.seed.map_or_else(draw, Ok)?;
    let clock = Clock::of_this_machine();
    if args.twins {
        return twins(seed, reporter);
    }
    if let Some(rounds) = args.plan {
        return print_plans(args, &table, &chosen, seed, rounds);
    }
    announce(reporter, &format!("seed {seed}; {}", clock.name()))?;
    let each = args.seconds as f64 / (chosen.len() + latest.len()).max(1) as f64;
    let time = Duration::from_secs_f64(each * chosen.len() as f64);
    let run = Run { args, table: &table, chosen: &chosen, seed, clock, time };
    let rows = run.rounds()?;
    let mut bad = 0;
    for row in &rows {
        reporter.row(row)?;
        bad += u64::from(!row.verified);
    }
    for subject in &latest {
        let row =
            subject.run(Duration::from_secs_f64(each), seed, Duration::from_millis(args.patience_ms))?;
        row.complain();
        reporter.row(&row)?;
        bad += u64::from(!row.verified);
    }
    let all = (rows.len() + latest.len()) as u64;
    reporter.note(&format!("{} rows verified, {bad} failed; seed {seed}", all - bad))?;
    Ok(bad == 0)
}

/// Puts the broken twins under stress, a row for each; `Ok(false)` if one was not caught.
///
/// # Errors
/// What the system says, or that the right ring was found wrong.
pub(crate) fn twins(seed: u64, reporter: &mut Reporter) -> Result<bool> {
    let mut printed = Ok(());
    let mut out = |row| {
        if printed.is_ok() {
            printed = reporter.row(&row);
        }
    };
    let caught = history_twins::twins(seed, &mut out)? & seqlock_twins::under_stress(seed, &mut out)?;
    printed?;
    Ok(caught)
}

fn draw() -> Result<u64> {
    let mut bytes = [0; 4];
    let drawn = getrandom(&mut bytes, GetRandomFlags::empty()).context("cannot draw a seed")?;
    ensure!(drawn == bytes.len(), "expected {} random bytes, found {drawn}", bytes.len());
    Ok(u32::from_ne_bytes(bytes).into())
}

/// Says something that must be on record even if the run dies; with JSON, on standard error.
fn announce(reporter: &mut Reporter, text: &str) -> Result<()> {
    if reporter.json() {
        complain(text);
        return Ok(());
    }
    reporter.note(text)
}

/// What plans must know of the structures that were chosen.
fn cells(table: &[Box<dyn Subject>], chosen: &[usize]) -> Vec<Cell> {
    chosen.iter().filter_map(|&number| table.get(number)).map(|subject| Cell::of(subject.as_ref())).collect()
}

fn print_plans(
    args: &Args,
    table: &[Box<dyn Subject>],
    chosen: &[usize],
    seed: u64,
    rounds: u64,
) -> Result<bool> {
    let cells = cells(table, chosen);
    let mut plain = Reporter::new(false);
    for number in 0..rounds {
        plain.note(&serde_json::to_string(&plan::round(seed, number, &args.limits(), &cells))?)?;
    }
    Ok(true)
}

/// A book for each number of producers, made when it is first needed.
#[derive(Default)]
pub(crate) struct Books(Vec<(u8, Segment, Book)>);

impl Books {
    /// The book of rounds with this many producers.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn of(&mut self, producers: u8) -> Result<(&Segment, &Book)> {
        if !self.0.iter().any(|(found, ..)| *found == producers) {
            let segment = Book::segment(volume(producers))?;
            let book = Book::open(&segment, volume(producers))?;
            self.0.push((producers, segment, book));
        }
        let book = self.0.iter().find(|(found, ..)| *found == producers);
        book.map(|(_, segment, book)| (segment, book)).context("a book that was just made")
    }
}

/// One run of `stress`.
struct Run<'a> {
    args: &'a Args,
    table: &'a [Box<dyn Subject>],
    chosen: &'a [usize],
    seed: u64,
    clock: Clock,
    /// For all of them together.
    time: Duration,
}

impl Run<'_> {
    fn rounds(&self) -> Result<Vec<StressRow>> {
        let limits = self.args.limits();
        let cells = cells(self.table, self.chosen);
        let subjects: Vec<(usize, &dyn Subject)> = self
            .chosen
            .iter()
            .filter_map(|&number| self.table.get(number).map(|subject| (number, subject.as_ref())))
            .collect();
        let mut rows: Vec<StressRow> =
            subjects.iter().map(|(_, subject)| StressRow::new(*subject, self.seed)).collect();
        let mut played = vec![false; rows.len()];
        let mut books = Books::default();
        let end = Instant::now() + self.time;
        let (mut number, mut faulty, mut refused) = (self.args.round.unwrap_or(0), 0, false);
        // Every row gets a round, however short the time is.
        let first = rows.len() as u64;
        while Instant::now() < end || (self.args.round.is_none() && number < first) {
            let round = plan::round(self.seed, number, &limits, &cells);
            let Some(((place, subject), row)) = subjects.get(round.cell).zip(rows.get_mut(round.cell)) else {
                break;
            };
            let (segment, book) = books.of(subject.producers())?;
            let ground = Ground {
                number: *place,
                subject: *subject,
                segment,
                book,
                clock: self.clock,
                patience: Duration::from_millis(self.args.patience_ms),
            };
            let outcome = round::run(&ground, &round)
                .with_context(|| format!("round {number} of seed {}", self.seed))?;
            row.add(&outcome);
            if let Some(played) = played.get_mut(round.cell) {
                *played = true;
            }
            if !outcome.good() {
                faulty += 1;
                if faulty <= DESCRIBED {
                    self.describe(&round, *subject, &outcome);
                }
            }
            if outcome.nice_refused && !core::mem::replace(&mut refused, true) {
                complain("the kernel refuses negative priorities here: all are left at 0");
            }
            number += u64::from(self.args.round.is_none());
        }
        rows.iter_mut().for_each(StressRow::close);
        // Too short a time, or one round only: rows that were never played say nothing.
        let mut played = played.into_iter();
        let only = self.args.round.is_some();
        rows.retain(|_| played.next().unwrap_or(false) || !only);
        Ok(rows)
    }

    fn describe(&self, round: &Round, subject: &dyn Subject, outcome: &Outcome) {
        let Shape { capacity, release_every } = round.shape;
        complain(&format!(
            "round {} of seed {}: {} of {} bytes, capacity {capacity}, released every {release_every}; play it again \
             with `stress --seed {} --round {}` and the same other arguments",
            round.number,
            self.seed,
            subject.structure(),
            subject.payload_bytes(),
            self.seed,
            round.number
        ));
        for trouble in &outcome.troubles {
            complain(&format!("  {trouble}"));
        }
        let verdict = &outcome.judgement.verdict;
        if !verdict.good() {
            complain(&format!(
                "  lost {}, duplicated {}, reordered {}, torn {}, invented {}, parted {}, false Empty {}, false Full {}, \
                 untimely {}",
                verdict.lost,
                verdict.duplicated,
                verdict.reordered,
                verdict.torn,
                verdict.invented,
                verdict.parted,
                verdict.false_empty,
                verdict.false_full,
                verdict.untimely
            ));
        }
        for finding in &verdict.findings {
            complain(&format!("  {finding}"));
        }
    }
}
