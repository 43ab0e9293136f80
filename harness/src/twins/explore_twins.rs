//! Broken twins for the instruction explorer: operations that are each wrong in one way, of small [queues](queue), of
//! the [rings](mutants), and of named [segments].
//!
//! Each must be caught in its mode, and by the very verdict that its flaw leads to. A correct queue of the same shape
//! must pass every mode: a checker that cries wolf is as useless as one that sleeps. The operations that the mutants
//! of the rings and segments are made from pass in `step`.

use std::error::Error;
use std::fmt;

use serde::Serialize;

use crate::explore::{ExploreError, Finding, Mode, Operation, StepOptions, step};
use crate::ops;
use crate::report::complain;
use crate::twins::{mpsc_twins, seqlock_twins};

mod mutants;
mod queue;
mod segments;

/// A wrong operation, a mode that must catch it, and how the verdict on its first bad point must begin.
struct Case {
    operation: Box<dyn Operation>,
    mode: Mode,
    verdict: &'static str,
}

/// One checker that met one twin.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TwinRow {
    /// The broken structure.
    pub(crate) twin: &'static str,
    /// What should catch it.
    pub(crate) checker: String,
    /// Whether it did.
    pub(crate) caught: bool,
}

/// How the twins fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TwinSummary {
    /// Twins that were caught.
    pub(crate) caught: u64,
    /// Twins that were not: the checker is broken.
    pub(crate) missed: u64,
}

/// Why there is no verdict on the checker.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum TwinError {
    /// The explorer could not run.
    Explore(ExploreError),
    /// The explorer condemned the correct queue.
    FalseAlarm(Option<Finding>),
}

impl fmt::Display for TwinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explore(_) => f.write_str("the explorer could not run"),
            Self::FalseAlarm(Some(finding)) => write!(f, "the correct queue was found broken: {finding}"),
            Self::FalseAlarm(None) => f.write_str("the correct queue was found broken"),
        }
    }
}

impl Error for TwinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Explore(error) => Some(error),
            Self::FalseAlarm(_) => None,
        }
    }
}

/// Explores every twin in the modes that must catch it, and the correct queue in every mode.
///
/// `base` gives the limits; its choice of structures and modes is not used.
///
/// # Errors
/// [`TwinError::Explore`] if the explorer cannot run, [`TwinError::FalseAlarm`] if the correct queue is condemned.
/// A twin that is not caught is a row, and counted.
pub(crate) fn twins(base: &StepOptions, out: &mut dyn FnMut(TwinRow)) -> Result<TwinSummary, TwinError> {
    for twin in queue::right().into_iter().chain(seqlock_twins::right()) {
        for mode in twin.modes() {
            let (bad, evidence) = explore(base, twin.as_ref(), *mode)?;
            if bad {
                return Err(TwinError::FalseAlarm(evidence));
            }
        }
    }
    let mut summary = TwinSummary::default();
    let cases = queue::cases().into_iter().chain(mutants::cases()).chain(segments::cases()).chain(cells());
    for Case { operation, mode, verdict } in cases {
        let (bad, evidence) = explore(base, operation.as_ref(), mode)?;
        let found = evidence.map(|finding| finding.verdict);
        let caught = bad && found.as_ref().is_some_and(|found| found.starts_with(verdict));
        if caught {
            summary.caught += 1;
        } else {
            summary.missed += 1;
            complain(&format!("{}: expected \"{verdict}\", found {found:?}", operation.structure()));
        }
        out(TwinRow { twin: operation.structure(), checker: format!("step {mode}"), caught });
    }
    Ok(summary)
}

/// The twins of cells, of the log, and of queues with many producers.
fn cells() -> impl Iterator<Item = Case> {
    let case =
        |(operation, mode, verdict): seqlock_twins::Case| Some(Case { operation: operation?, mode, verdict });
    let twins = seqlock_twins::cases().into_iter().chain(ops::log_twins()).chain(mpsc_twins::cases());
    twins.filter_map(case)
}

/// Whether one mode finds a twin broken, and where first.
fn explore(
    base: &StepOptions,
    twin: &dyn Operation,
    mode: Mode,
) -> Result<(bool, Option<Finding>), TwinError> {
    let options = StepOptions { structure: None, operation: None, modes: vec![mode], ..base.clone() };
    let mut evidence = None;
    let summary = step(&options, &[twin], &mut |row| {
        evidence = row.findings.into_iter().next();
    })
    .map_err(TwinError::Explore)?;
    Ok((summary.bad != 0, evidence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_twin_is_caught_in_its_modes_and_the_correct_queue_passes() {
        let mut rows = Vec::new();
        let options = StepOptions { other_threads: true, ..StepOptions::default() };
        let summary = twins(&options, &mut |row| {
            rows.push((row.twin, row.checker, row.caught));
        })
        .unwrap();
        assert_eq!(summary, TwinSummary { caught: 29, missed: 0 }, "{rows:?}");
        assert_eq!(rows.len(), 29);
    }
}
