//! `step`: every operation killed, frozen, interleaved and lied to at every instruction.

use std::time::Instant;

use anyhow::Result;

use crate::explore::{Mode, Operation, StepOptions, StepRow, step};
use crate::ops;
use crate::report::{Reporter, Row, complain};

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
fn speed(points: u64, seconds: f64) -> String {
    if points == 0 || seconds <= 0.0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = points as f64 / seconds;
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
    let operations = ops::all();
    let operations: Vec<&dyn Operation> = operations.iter().map(AsRef::as_ref).collect();
    let mut printed = Ok(());
    let (mut killed, mut killing) = (0_u64, 0.0);
    let summary = step(&options, &operations, &mut |row| {
        if row.mode == Mode::Kill {
            killed += row.points;
            killing += row.seconds;
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
    let seconds = started.elapsed().as_secs_f64();
    reporter.note(&format!(
        "\n{} rows, {} points, {} images, {} bad, {seconds:.1} s{}",
        summary.rows,
        summary.points,
        summary.images,
        summary.bad,
        speed(killed, killing)
    ))?;
    Ok(summary.bad == 0)
}
