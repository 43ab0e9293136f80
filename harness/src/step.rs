//! `step`: every operation killed, frozen, interleaved and lied to at every instruction.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::explore::{Mode, Operation, StepOptions, StepRow, Summary, step};
use crate::ops;
use crate::report::{Reporter, Row, complain};

mod crew;

use crew::{Board, Shared, Totals};

/// What to explore.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Explore only this structure.
    #[arg(long)]
    structure: Option<String>,
    /// Explore only this operation.
    #[arg(long)]
    operation: Option<String>,
    /// Explore only these modes: kill, freeze, pairs, double, flip.
    #[arg(long, value_delimiter = ',', value_parser = parse_mode)]
    mode: Vec<Mode>,
    /// Pairs of instructions that an operation may have before partners stop only where they touch the segment.
    #[arg(long, default_value_t = StepOptions::default().pairs)]
    pairs: usize,
    /// Stop partners at every instruction, however many pairs that are.
    #[arg(long, conflicts_with = "pairs")]
    complete: bool,
    /// Processes that share the operations, each on a processor of its own if there are as many.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = parse_jobs)]
    jobs: usize,
}

/// More than enough for any machine.
const MOST_JOBS: usize = 256;

fn parse_jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs) if (1..=MOST_JOBS).contains(&jobs) => Ok(jobs),
        _ => Err(format!("expected a number from 1 to {MOST_JOBS}, found {text}")),
    }
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    Mode::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
        let names: Vec<_> = Mode::ALL.iter().map(|mode| mode.name()).collect();
        format!("expected one of {}, found {text}", names.join(", "))
    })
}

impl Row for StepRow {
    const COLUMNS: &'static [(&'static str, i16)] = &[
        ("structure", -12),
        ("operation", -31),
        ("mode", -6),
        ("points", 7),
        ("images", 7),
        ("absent", 7),
        ("present", 7),
        ("bad", 5),
        ("seconds", 8),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.structure.to_owned(),
            self.operation.to_owned(),
            self.mode.to_string(),
            self.points.to_string(),
            self.images.to_string(),
            self.absent.to_string(),
            self.present.to_string(),
            self.bad.to_string(),
            format!("{:.2}", self.seconds),
        ]
    }
}

/// How fast points of the kill mode were visited, if any were.
fn speed(totals: &Totals) -> String {
    if totals.kills == 0 || totals.killing.is_zero() {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = totals.kills as f64 / totals.killing.as_secs_f64();
    format!(", {rate:.0} kill points/s")
}

/// Explores; true if no point is bad.
pub(crate) fn main(args: &Args, reporter: &mut Reporter) -> Result<bool> {
    let started = Instant::now();
    let modes = if args.mode.is_empty() { Mode::ALL.to_vec() } else { args.mode.clone() };
    let options = StepOptions {
        structure: args.structure.clone(),
        operation: args.operation.clone(),
        modes,
        pairs: if args.complete { usize::MAX } else { args.pairs },
        ..StepOptions::default()
    };
    let shared = Shared::new()?;
    if args.jobs == 1 {
        let operations = ops::all();
        let operations: Vec<&dyn Operation> = operations.iter().map(AsRef::as_ref).collect();
        explore(&options, &operations, reporter, shared.board())?;
    } else {
        reporter.heads::<StepRow>()?;
        let quiet = reporter.json();
        crew::run(args.jobs, &|number| one_of_many(&options, number, quiet, shared.board()))?;
    }
    let totals = shared.board().totals();
    if totals.rows == 0 {
        bail!("{}", options.nothing());
    }
    reporter.note(&format!(
        "\n{} rows, {} points, {} images, {} bad, {:.1} s{}",
        totals.rows,
        totals.points,
        totals.images,
        totals.bad,
        started.elapsed().as_secs_f64(),
        speed(&totals)
    ))?;
    Ok(totals.bad == 0)
}

/// One of the processes that share the operations: they are made anew in each, since they hold files and locks.
fn one_of_many(options: &StepOptions, number: usize, json: bool, board: &Board) -> Result<()> {
    let options = StepOptions { processor: number, ..options.clone() };
    let operations = ops::all();
    let wanted: Vec<_> =
        operations.iter().map(AsRef::as_ref).filter(|operation| options.wants(*operation)).collect();
    let mut reporter = Reporter::new(json);
    reporter.without_heads::<StepRow>();
    while let Some(operation) = wanted.get(board.take()) {
        explore(&options, &[*operation], &mut reporter, board)?;
    }
    Ok(())
}

/// Explores the operations, prints the rows and adds them up.
fn explore(
    options: &StepOptions,
    operations: &[&dyn Operation],
    reporter: &mut Reporter,
    board: &Board,
) -> Result<()> {
    let mut printed = Ok(());
    let mut totals = Totals::default();
    let summary = step(options, operations, &mut |row| {
        if row.mode == Mode::Kill {
            totals.kills += row.points;
            totals.killing += Duration::try_from_secs_f64(row.seconds).unwrap_or_default();
        }
        let result = reporter.row(&row);
        if printed.is_ok() {
            printed = result;
        }
        for finding in &row.findings {
            complain(&finding.to_string());
        }
        if row.cut {
            complain(&format!(
                "{} {} ({}): cut short, too many points block",
                row.structure, row.operation, row.mode
            ));
        }
    })?;
    printed?;
    let Summary { rows, points, images, bad, .. } = summary;
    board.add(Totals { rows, points, images, bad, ..totals });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_at_least_one() {
        assert_eq!(parse_jobs("2"), Ok(2));
        assert!(parse_jobs("0").is_err() && parse_jobs("257").is_err() && parse_jobs("two").is_err());
    }
}
