//! `run`: real processes stream real data through every structure, and every message is verified.
//!
//! Each row is a structure, a mode and a size. For each, the parent lays the structure out in an anonymous segment
//! and starts this program for each role, as producers and as consumer; they inherit the segment, map it at different
//! addresses, run on different processors where there are some, and take it as untrusted. A producer numbers and
//! fills every message, the [oracle] at the other end looks at every word of each, and the parent compares what they
//! say at the end. Then the same processes move some more messages and [write down](recorded) what they do, and the
//! checker judges their histories. What the children need beside the structure lies in [control] words of a segment
//! of their own.
//!
//! [Cells](cells) have a value and no messages: their rows are played beside the others, and so are those of the
//! [patterns] of the message layer, which are opened by name.
//!
//! # Adding a structure
//! Implement [`plan::Structure`] and add it to [`plan::STRUCTURES`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::history::Clock;
use crate::report::{Reporter, complain};
use crate::subject::Role;
use crate::twins::TwinRow;
use crate::twins::history_twins::Twin;

mod bundle;
mod cells;
mod child;
mod clock;
mod control;
mod file;
mod fixed;
mod interrupt;
pub(crate) mod message;
mod mpsc;
pub(crate) mod oracle;
mod parent;
mod patterns;
mod pieces;
mod pin;
mod plan;
mod probe;
mod recorded;
mod records;
mod row;
mod side;
mod trips;

use file::Copy;
use parent::{Ended, Ending};
use plan::{Choices, Fault, Limit, Mode, Plan, STRUCTURES, Shape};
use row::RunRow;

/// Seconds for all timed rows together, unless the user says otherwise.
const SECONDS: f64 = 15.0;
/// After how long a child of a twin that does not move is given up.
const TWIN_PATIENCE: Duration = Duration::from_secs(10);
/// The most that may be asked for: sequences must not run out.
const MOST_SECONDS: f64 = 3600.0;

/// What `run` can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds for all timed rows together [default: 15]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<f64>,
    /// Messages per row, instead of a time
    #[arg(long, value_name = "COUNT", conflicts_with = "seconds",
          value_parser = clap::value_parser!(u64).range(1..message::MAX_SEQUENCE / 2))]
    messages: Option<u64>,
    /// Capacity: slots of ring-fixed, or of each lane [default: 1024], bytes of ring-bytes, or of each lane [default: 65536]
    #[arg(long, value_name = "COUNT")]
    capacity: Option<usize>,
    /// Payload bytes of a message; may be given several times [default: 8, 64 and 1024; records of 16 to 79]
    #[arg(long, value_name = "BYTES")]
    payload: Vec<usize>,
    /// Only this structure; may be given several times
    #[arg(long, value_name = "NAME", value_parser = ["ring-fixed", "ring-bytes", "mpsc-fixed", "mpsc-bytes",
          "mpsc-ordered", "mpsc-ordered-bytes", "cell", "channel", "channel-bytes", "channel-ordered",
          "channel-single", "channel-async", "channel-serde", "publish", "publish-lossy", "latest", "request"])]
    structure: Vec<String>,
    /// The file that is sent as byte records [default: this program]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Lets the producer do one thing wrong in every row: the run must notice.
    #[arg(long, hide = true)]
    fault: Option<Fault>,
    /// Lets the rows of single eight-byte slots record the histories of a broken ring: the run must notice.
    #[arg(long, hide = true)]
    twin: Option<Twin>,
    /// After how long a child that does not move is given up.
    #[arg(long, hide = true, value_name = "MS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    patience_ms: u64,
}

/// What a child is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChildArgs {
    /// The end that it plays.
    #[arg(long)]
    role: Role,
    /// What to do, as the parent writes it.
    #[arg(long)]
    plan: String,
}

fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("expected a number of seconds above 0 and up to {MOST_SECONDS}");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if seconds > 0.0 && seconds <= MOST_SECONDS { Ok(seconds) } else { Err(wrong()) }
}

impl Args {
    /// The rows that were asked for, in order.
    fn plans(&self) -> Result<Vec<Plan>> {
        let choices =
            Choices { payloads: self.payload.clone(), capacity: self.capacity, input: self.input.is_some() };
        let wanted = |name: &str| self.structure.is_empty() || self.structure.iter().any(|only| only == name);
        let cores = pin::Cores::choose();
        let mut plans = Vec::new();
        for structure in STRUCTURES.iter().filter(|structure| wanted(structure.name())) {
            let shapes = structure.shapes(&choices).with_context(|| structure.name())?;
            plans.extend(shapes.into_iter().map(|Shape { mode, payload, capacity, producers }| {
                Plan {
                    structure: structure.name().to_owned(),
                    mode,
                    payload,
                    capacity,
                    producers,
                    limit: Limit::Messages(u64::MAX),
                    cores: cores.clone(),
                    fault: self.fault,
                    history: self.messages.unwrap_or(u64::MAX).min(recorded::MESSAGES),
                    twin: self
                        .twin
                        .filter(|_| (structure.name(), mode, payload) == (Twin::RING, Mode::Single, (8, 8))),
                    parent: std::process::id(),
                }
            }));
        }
        let timed = timed(&plans) + self.cells()?.len() + self.patterns()?.len();
        let each = self.seconds.unwrap_or(SECONDS) / f64::from(u32::try_from(timed.max(1))?);
        for plan in plans.iter_mut().filter(|plan| plan.mode.is_timed()) {
            plan.limit = self.messages.map_or(Limit::Seconds(each), Limit::Messages);
        }
        if plans.iter().any(|plan| plan.mode == Mode::File) {
            file::open(file::path(self.input.as_ref()))?;
        } else {
            ensure!(
                self.input.is_none(),
                "expected ring-bytes among the structures: only its rows send a file"
            );
        }
        Ok(plans)
    }
}

impl Args {
    /// The rows of cells that were asked for: all that is timed, unless rings are asked for.
    fn cells(&self) -> Result<Vec<&'static cells::Subject>> {
        let named = self.structure.iter().any(|name| name == cells::STRUCTURE);
        let timed = self.messages.is_none() && self.capacity.is_none() && self.input.is_none();
        let right = self.fault.is_none() && self.twin.is_none();
        ensure!(
            timed && right || !named,
            "expected no --messages, --capacity, --input or fault with cells: they have a value, and a time"
        );
        let all = self.structure.is_empty() && self.payload.is_empty();
        let sized = |bytes| self.payload.is_empty() || self.payload.contains(&bytes);
        let wanted = |subject: &&cells::Subject| named && sized(subject.payload_bytes) || all;
        Ok(cells::SUBJECTS.iter().filter(wanted).filter(|_| timed && right).collect())
    }
}

impl Args {
    /// The rows of the message layer that were asked for: all that is timed, unless structures or sizes are asked for.
    fn patterns(&self) -> Result<Vec<&'static patterns::Subject>> {
        let named = |name: &str| self.structure.iter().any(|only| only == name);
        let any = patterns::STRUCTURES.into_iter().any(named);
        let sized = !self.payload.is_empty() || self.capacity.is_some();
        let right = self.messages.is_none() && !sized && self.input.is_none() && self.twin.is_none();
        ensure!(
            right || !any,
            "expected no --messages, --payload, --capacity or --input with patterns: they have a time"
        );
        let all = self.structure.is_empty() && self.fault.is_none();
        let wanted = |subject: &&patterns::Subject| right && (all || named(subject.structure));
        Ok(patterns::SUBJECTS.iter().filter(wanted).collect())
    }
}

/// Runs all rows; `Ok(false)` if one is not verified.
pub(crate) fn main(args: &Args, reporter: &mut Reporter) -> Result<bool> {
    let plans = args.plans()?;
    interrupt::install();
    let bar = progress(reporter, plans.len())?;
    let mut verified = 0;
    for plan in &plans {
        bar.set_message(format!("{} {} B {}", plan.structure, plan.payload.1, plan.mode.name()));
        let row = run_row(plan, args, &bar)?;
        verified += usize::from(row.verified);
        bar.inc(1);
        bar.suspend(|| reporter.row(&row))?;
    }
    bar.finish_and_clear();
    let (cells, patterns) = (args.cells()?, args.patterns()?);
    let each = args.seconds.unwrap_or(SECONDS) / (timed(&plans) + cells.len() + patterns.len()).max(1) as f64;
    let (each, patience) = (Duration::from_secs_f64(each), Duration::from_millis(args.patience_ms));
    for subject in &cells {
        let row = subject.run(each, patience)?;
        row.complain();
        verified += usize::from(row.verified);
        reporter.row(&row)?;
    }
    for subject in &patterns {
        let row = subject.run(each, patience, args.fault)?;
        row.complain();
        verified += usize::from(row.verified);
        reporter.row(&row)?;
    }
    let all = plans.len() + cells.len() + patterns.len();
    reporter.note(&format!("{verified} rows verified, {} failed", all - verified))?;
    Ok(verified == all)
}

/// How many rows last as long as they may.
fn timed(plans: &[Plan]) -> usize {
    plans.iter().filter(|plan| plan.mode.is_timed()).count()
}

/// Runs a row with each twin whose histories alone can show what is wrong with it, and one with the right ring, which
/// must be good.
///
/// # Errors
/// What the system says, or that the right ring was found wrong.
pub(crate) fn twins(out: &mut dyn FnMut(TwinRow)) -> Result<bool> {
    // So many that some lie in the ring for long: an Empty is false only if somebody surely saw them.
    let (messages, capacity) = (100_000, 1 << 14);
    let plan = |producers, twin| Plan {
        structure: if producers == 1 { Twin::RING } else { "twin-bundle" }.to_owned(),
        mode: Mode::Single,
        payload: (8, 8),
        capacity,
        producers,
        limit: Limit::Messages(messages),
        cores: pin::Cores::choose(),
        fault: None,
        history: messages,
        twin,
        parent: std::process::id(),
    };
    let play = |producers, twin| {
        let plan = plan(producers, twin);
        let Ended { ending, histories } = parent::run(&plan, None, TWIN_PATIENCE, &mut || {})?;
        let Ending::Told(outcomes) = ending else {
            bail!("expected a row of {twin:?} that comes to its end, found {ending:?}");
        };
        let mut row = RunRow::told(&plan, &outcomes);
        ensure!(row.verified, "expected what is measured to be right, found {row:?}");
        let wrong = row.add_histories(&histories);
        Ok::<_, anyhow::Error>((row, histories, wrong))
    };
    for producers in [1, 2, 4, 16] {
        let (row, _, wrong) = play(producers, None)?;
        ensure!(row.verified, "the right structure with {producers} producers was found wrong: {wrong:?}");
    }
    let mut all = true;
    let bundle = ("twin-bundle-lossy", 4, Twin::Lossy);
    for (name, producers, twin) in
        Twin::IN_RUNS.map(|twin| (twin.name(), 1, twin)).into_iter().chain([bundle])
    {
        let blind = twin.needs_clock() && Clock::of_this_machine() == Clock::None;
        if blind {
            complain(&format!("{name} cannot be caught: {}", Clock::None.name()));
        }
        let (row, histories, _) = play(producers, Some(twin))?;
        let found = histories.iter().any(|history| twin.is_found_by(&history.verdict));
        let caught = !row.verified && !row.history_good && found;
        all &= caught;
        out(TwinRow::new(name, "run", caught));
    }
    Ok(all)
}

/// Runs one row and complains about what is wrong with it.
fn run_row(plan: &Plan, args: &Args, bar: &ProgressBar) -> Result<RunRow> {
    let mut copy = match plan.mode {
        Mode::File => Some(Copy::open(file::path(args.input.as_ref()))?),
        _ => None,
    };
    let files = copy.as_ref().map(|copy| [&copy.input, &copy.output]);
    let patience = Duration::from_millis(args.patience_ms);
    let Ended { ending, histories } = parent::run(plan, files, patience, &mut || bar.tick())?;
    let mut wrong = Vec::new();
    let mut row = match ending {
        Ending::Told(outcomes) => {
            let consumer = &outcomes.consumer.addresses;
            let producers =
                outcomes.producers.iter().flat_map(|producer| producer.addresses.iter().zip(consumer));
            let same = producers.clone().find(|(one, other)| one == other);
            if let Some((address, _)) = same {
                wrong.push(format!("expected mappings at different addresses, found both at {address:#x}"));
            }
            let row = RunRow::told(plan, &outcomes);
            if !row.verified {
                wrong.push(format!(
                    "the producer says it sent {} messages, the consumer received {}: {} lost, {} duplicated, \
                     {} reordered, {} torn",
                    row.sent, row.received, row.lost, row.duplicated, row.reordered, row.torn
                ));
            }
            row
        }
        Ending::Trouble { what, counts } => {
            wrong.push(what);
            RunRow::troubled(plan, counts)
        }
    };
    // Of a row that broke off, the difference is no news.
    if let Some(copy) = copy.as_mut().filter(|_| row.raw_rtt_ns.is_some()) {
        wrong.extend(copy.difference()?);
    }
    row.verified &= wrong.is_empty();
    wrong.extend(row.add_histories(&histories).into_iter().map(|what| format!("in its history: {what}")));
    for what in wrong {
        let (structure, mode) = (&row.structure, row.mode);
        bar.suspend(|| complain(&format!("{structure} {} B {mode}: {what}", row.payload_bytes)));
    }
    Ok(row)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(reporter: &Reporter, rows: usize) -> Result<ProgressBar> {
    if !reporter.interactive() {
        return Ok(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()));
    }
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} rows, {elapsed}: {msg}")?;
    Ok(ProgressBar::new(rows as u64).with_style(style))
}

/// Plays one side of a row.
pub(crate) fn child(args: &ChildArgs) -> Result<bool> {
    child::play(args.role, &args.plan)?;
    Ok(true)
}
