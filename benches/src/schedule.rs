//! The order of samples: contenders take turns, round after round.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use indicatif::ProgressBar;

use crate::board::{Board, Value};
use crate::cells::{Cell, Entry, Group, Kind};
use crate::clock::Scale;
use crate::cold;
use crate::pair::{self, Mode};
use crate::probe::Regime;
use crate::record::{Measured, Rejected, SampleRecord, Settings};

/// How long a sample takes, in ticks of the clock that both sides share.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The clock.
    pub scale: Scale,
    /// Before the window: the first ten milliseconds.
    pub warm_ticks: u64,
    /// The window.
    pub window_ticks: u64,
    /// Between two paced messages.
    pub pace_ticks: u64,
}

/// The first part of a sample: a warm-up, reported apart.
pub const WARM: Duration = Duration::from_millis(10);
/// Between two paced messages.
pub const PACE: Duration = Duration::from_micros(1);
/// A side that had its core for a smaller share of the time was disturbed by something else on the machine.
pub const CORE_SHARE: f64 = 0.95;
/// Whose receiver is so often not told of a death, which takes long to find out, is not asked again.
const NEVERS: u32 = 3;
/// What a sample takes beside its windows: processes, probes, a queue or a channel; and what a check takes. As measured.
const AROUND: Duration = Duration::from_millis(12);
const CHECK: Duration = Duration::from_millis(40);
/// A sample that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

impl Plan {
    /// A plan with a window.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        let scale = Scale::calibrate();
        Self {
            scale,
            warm_ticks: scale.ticks(WARM),
            window_ticks: scale.ticks(window),
            pace_ticks: scale.ticks(PACE),
        }
    }
}

/// All that is to be done for some cells.
#[derive(Debug)]
pub struct Schedule {
    cells: Vec<Cell>,
    settings: Settings,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The samples, those dropped for their probes included.
    pub samples: Vec<SampleRecord>,
    /// Contenders that failed their check, or a sample.
    pub rejected: Vec<Rejected>,
}

impl Schedule {
    /// A schedule for cells.
    #[must_use]
    pub fn new(cells: Vec<Cell>, settings: Settings) -> Self {
        Self { cells, settings }
    }

    /// The cells.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The lanes of a cell: who runs between what.
    fn lanes<'c>(&'c self, cell: &'c Cell) -> impl Iterator<Item = (&'c Entry, Mode)> {
        self.settings.modes.iter().flat_map(|mode| {
            let entries = cell.entries.iter().filter(|entry| entry.modes.contains(mode));
            entries.map(|entry| (entry, *mode))
        })
    }

    /// Steps of progress: checks and samples.
    #[must_use]
    pub fn steps(&self) -> u64 {
        let lanes: usize = self.cells.iter().map(|cell| self.lanes(cell).count()).sum();
        lanes as u64 * (u64::from(self.settings.rounds) + 1)
    }

    /// How long each group takes about, if nobody needs longer than its windows and nothing else runs.
    #[must_use]
    pub fn estimate(&self) -> BTreeMap<Group, Duration> {
        let (window, rounds) = (Duration::from_millis(self.settings.window_ms), self.settings.rounds);
        let (mut groups, mut passed) = (BTreeMap::new(), BTreeSet::new());
        for cell in &self.cells {
            let group: &mut Duration = groups.entry(cell.group).or_default();
            for (entry, mode) in self.lanes(cell) {
                let new = entry.checks.iter().filter(|check| passed.insert((**check as usize, mode))).count();
                *group += CHECK * u32::try_from(new).unwrap_or(u32::MAX);
                *group += (AROUND + WARM + window * cell.windows) * rounds;
            }
        }
        groups
    }

    /// Checks and measures everything.
    #[must_use]
    pub fn run(&self, progress: &ProgressBar) -> Outcome {
        let mut outcome = Outcome::default();
        let plan = Plan::new(Duration::from_millis(self.settings.window_ms));
        let mut passed = BTreeSet::new();
        for cell in &self.cells {
            progress.set_message(cell.name.clone());
            let lanes = self.check(cell, &mut passed, &mut outcome, progress);
            let (mut failed, mut nevers) = (BTreeSet::new(), BTreeMap::new());
            for round in 0..self.settings.rounds {
                for turn in 0..lanes.len() {
                    // Who comes after whom changes from round to round.
                    let at = (turn + round as usize) % lanes.len();
                    if let Some(&(entry, mode)) = lanes.get(at)
                        && !failed.contains(&(entry.contender, mode))
                    {
                        let lane = (entry.contender, mode);
                        match measure(cell, &entry, mode, round, &plan) {
                            Ok(sample) => {
                                let never: &mut u32 = nevers.entry(lane).or_default();
                                *never += u32::from(sample.measured.told < 0.0);
                                if *never == NEVERS {
                                    failed.insert(lane);
                                }
                                outcome.samples.push(sample);
                            }
                            Err(error) => {
                                failed.insert(lane);
                                outcome.rejected.push(Rejected::new(cell, &entry, mode, &error));
                            }
                        }
                    }
                    progress.inc(1);
                }
            }
        }
        outcome
    }

    /// The lanes of a cell that pass their checks; a check is made once.
    fn check(
        &self,
        cell: &Cell,
        passed: &mut BTreeSet<(usize, Mode)>,
        outcome: &mut Outcome,
        progress: &ProgressBar,
    ) -> Vec<(Entry, Mode)> {
        let mut lanes = Vec::new();
        for (entry, mode) in self.lanes(cell) {
            let failure = entry.checks.iter().find_map(|check| {
                let key = (*check as usize, mode);
                if passed.contains(&key) {
                    return None;
                }
                let result = pair::sample(PATIENCE, |board| check(board, mode));
                passed.extend(result.is_ok().then_some(key));
                result.err()
            });
            progress.inc(1);
            match failure {
                None => lanes.push((*entry, mode)),
                Some(error) => outcome.rejected.push(Rejected::new(cell, entry, mode, &error)),
            }
        }
        lanes
    }
}

fn measure(cell: &Cell, entry: &Entry, mode: Mode, round: u32, plan: &Plan) -> anyhow::Result<SampleRecord> {
    let patience = if cell.kind == Kind::Build { cold::PATIENCE } else { PATIENCE };
    let board = pair::sample(patience, |board| (entry.sample)(board, plan, mode))?;
    Ok(sample_record(cell, entry, mode, round, &board))
}

fn sample_record(cell: &Cell, entry: &Entry, mode: Mode, round: u32, board: &Board) -> SampleRecord {
    let (before, after) = (board.get(Value::LineBefore), board.get(Value::LineAfter));
    let core_share = if entry.sleeps {
        // A side that sleeps does not want its core: what counts is when it wanted it and had to wait.
        1.0 - board.get(Value::Waited)
    } else {
        board.get(Value::ShareA).min(board.get(Value::ShareB))
    };
    let regime = if cell.kind == Kind::Build { Regime::Any } else { Regime::of(before) };
    let agree = regime == Regime::Any || Regime::of(after) == regime;
    SampleRecord {
        cell: cell.name.clone(),
        contender: entry.contender.to_owned(),
        mode,
        round,
        line_ns: [before, after],
        floor_ns: [board.get(Value::FloorBefore), board.get(Value::FloorAfter)],
        core_share,
        regime: (agree && core_share >= CORE_SHARE).then_some(regime),
        measured: Measured {
            rate: board.get(Value::Rate),
            first_rate: board.get(Value::FirstRate),
            mean_ns: board.get(Value::Mean),
            p50_ns: board.get(Value::P50),
            p99_ns: board.get(Value::P99),
            p999_ns: board.get(Value::P999),
            max_ns: board.get(Value::Max),
            count: board.get(Value::Count),
            cores: board.get(Value::Cores),
            fairness: board.get(Value::Fairness),
            writes: board.get(Value::Writes),
            retries: board.get(Value::Retries),
            torn: board.get(Value::Torn),
            read_alone_ns: board.get(Value::ReadAlone),
            write_alone_ns: board.get(Value::WriteAlone),
            nothing_ns: board.get(Value::Nothing),
            calls: board.get(Value::Calls),
            told: board.get(Value::Told),
            first_own_bytes: board.get(Value::FirstOwn),
            first_shared_bytes: board.get(Value::FirstShared),
            own_bytes: board.get(Value::Own),
            shared_bytes: board.get(Value::Shared),
            seconds: board.get(Value::Seconds),
            cpu_seconds: board.get(Value::CpuSeconds),
            crates: board.get(Value::Crates),
        },
    }
}
