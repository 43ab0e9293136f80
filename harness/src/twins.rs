//! `twins`: structures that are broken on purpose, each of which its checker must catch.
//!
//! A checker that never failed proves nothing. The wrong orderings and algorithms that the models must catch are tests
//! of the ring crate; those for the checkers of this program are here.

use anyhow::Result;
use serde::Serialize;

use crate::explore::StepOptions;
use crate::report::{Reporter, Row};
use crate::{run, stress};

mod explore_twins;
pub(crate) mod history_twins;
pub(crate) mod mpsc_twins;
mod scribble_twins;
pub(crate) mod seqlock_twins;

/// What the twins' random choices follow from.
const SEED: u64 = 7;

/// Nothing to choose.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

/// One checker that met one twin.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TwinRow {
    /// The broken structure.
    pub(crate) twin: String,
    /// What should catch it.
    pub(crate) checker: String,
    /// Whether it did.
    pub(crate) caught: bool,
}

impl TwinRow {
    /// A row.
    pub(crate) fn new(twin: &str, checker: &str, caught: bool) -> Self {
        Self { twin: twin.to_owned(), checker: checker.to_owned(), caught }
    }
}

impl Row for TwinRow {
    const COLUMNS: &'static [(&'static str, i16)] = &[("twin", -36), ("checker", -12), ("caught", -6)];

    fn cells(&self) -> Vec<String> {
        let caught = if self.caught { "yes" } else { "NO" };
        vec![self.twin.clone(), self.checker.clone(), caught.to_owned()]
    }
}

/// Shows every twin to its checker; true if all were caught, and the right structures were not.
pub(crate) fn main(_args: &Args, reporter: &mut Reporter) -> Result<bool> {
    let mut printed = Ok(());
    // First: the explorer forks, and does not want other threads.
    let explored = explore_twins::twins(&StepOptions::default(), &mut |row| {
        let result = reporter.row(&TwinRow::new(row.twin, &row.checker, row.caught));
        if printed.is_ok() {
            printed = result;
        }
    })?;
    printed?;
    let mut all = explored.missed == 0;
    for row in scribble_twins::twins(SEED)? {
        all &= row.caught;
        reporter.row(&TwinRow::new(row.twin, row.checker, row.caught))?;
    }
    let mut printed = Ok(());
    all &= run::twins(&mut |row| {
        if printed.is_ok() {
            printed = reporter.row(&row);
        }
    })?;
    printed?;
    all &= stress::twins(SEED, reporter)?;
    Ok(all)
}
