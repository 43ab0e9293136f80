//! One operation in one mode: visits every point, asks for a verdict, counts.

use std::collections::HashMap;
use std::time::Instant;

use super::report::{ExploreError, StepRow, why_refused};
use super::stage::{Role, Stage};
use super::victim::{Act, Path, SpawnError};
use super::watch::Watch;
use super::{Mode, Operation, Outcome, Seen, StepOptions, Stride};

mod actors;
mod double;
mod lies;
mod pairs;
mod verdict;

/// What the survivors found.
#[derive(Clone, Debug)]
enum Verdict {
    Good(Outcome),
    Bad(String),
}

/// One of an operation's acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Victim,
    Partner,
    Recover,
}

impl Script {
    fn role(self) -> Role {
        match self {
            Self::Victim => Role::First,
            Self::Partner | Self::Recover => Role::Second,
        }
    }

    fn actor(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::Partner => "partner",
            Self::Recover => "recoverer",
        }
    }

    fn act<'a>(self, operation: &'a dyn Operation, stage: &'a Stage) -> Result<Act<'a>, String> {
        match self {
            Self::Victim => operation.victim(stage),
            Self::Partner => operation.partner(stage),
            Self::Recover => operation.recover(stage),
        }
    }
}

/// Where an actor stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    script: Script,
    path: &'p Path,
    point: usize,
}

/// What a verdict depends on: an image, and a number for what lies outside of the segment.
type Key = (Box<[u8]>, u64);

type Judge = fn(&dyn Operation, &Stage, Seen) -> Result<Outcome, String>;

type Done<T> = Result<T, ExploreError>;

pub(super) struct Sweep<'a> {
    options: &'a StepOptions,
    watch: &'a Watch,
    stage: &'a Stage,
    operation: &'a dyn Operation,
    verdicts: HashMap<Key, Verdict>,
    blocked: usize,
    row: StepRow,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        options: &'a StepOptions,
        watch: &'a Watch,
        stage: &'a Stage,
        operation: &'a dyn Operation,
        mode: Mode,
    ) -> Self {
        let row = StepRow {
            structure: operation.structure(),
            operation: operation.name(),
            mode,
            points: 0,
            images: 0,
            bad: 0,
            seconds: 0.0,
            absent: 0,
            present: 0,
            cut: false,
            findings: Vec::new(),
        };
        Self { options, watch, stage, operation, verdicts: HashMap::new(), blocked: 0, row }
    }

    pub(super) fn run(mut self) -> Done<StepRow> {
        let started = Instant::now();
        match self.row.mode {
            Mode::Kill => self.kill()?,
            Mode::Freeze => self.freeze()?,
            Mode::Pairs => {
                self.pairs(Script::Victim, Script::Partner)?;
                self.pairs(Script::Partner, Script::Victim)?;
            }
            Mode::Double => self.double()?,
            Mode::Flip => self.flip()?,
        }
        self.row.images = u64::try_from(self.verdicts.len()).unwrap_or(u64::MAX);
        self.row.seconds = started.elapsed().as_secs_f64();
        Ok(self.row)
    }

    /// The points of a path. The calls of an operation may differ in number from run to run, with the state of the heap:
    /// where calls are stopped at, there are some more points, of which the first that a run does not have is the last.
    fn points<'p>(&self, path: &'p Path) -> impl Iterator<Item = usize> + use<'p> {
        let more = if self.operation.stride() == Stride::Call { path.last() + 2 } else { 0 };
        let repeats = self.operation.repeats();
        (0..=path.last() + more).filter(move |point| *point > path.last() || path.is_within(*point, repeats))
    }

    fn kill(&mut self) -> Done<()> {
        let Some(path) = self.reference(Script::Victim, false)? else {
            return Ok(());
        };
        for point in self.points(&path) {
            let Some(victim) = self.victim_at(&path, point)? else {
                continue;
            };
            if victim.has_ended() && point > path.last() {
                break;
            }
            drop(victim);
            self.settle(&[Place { script: Script::Victim, path: &path, point }], |o, stage, seen| {
                o.judge(stage, seen)
            })?;
            if self.row.cut {
                break;
            }
        }
        Ok(())
    }

    fn freeze(&mut self) -> Done<()> {
        let Some(path) = self.reference(Script::Victim, false)? else {
            return Ok(());
        };
        for point in self.points(&path) {
            if self.row.cut {
                break;
            }
            let Some(mut victim) = self.victim_at(&path, point)? else {
                continue;
            };
            if victim.has_ended() && point > path.last() {
                break;
            }
            let places = [Place { script: Script::Victim, path: &path, point }];
            let image = self.stage.snapshot();
            let others =
                self.ask(&|operation, stage| operation.interfere(stage).map(|()| Outcome::Absent))?;
            if let Verdict::Bad(text) = others {
                self.bad(&places, &format!("beside the frozen victim: {text}"), &image);
                continue;
            }
            if !self.ended(&mut victim, &places)? {
                continue;
            }
            drop(victim);
            self.settle(&places, |operation, stage, seen| operation.judge_frozen(stage, seen))?;
        }
        Ok(())
    }

    fn set_up(&self, text: String) -> ExploreError {
        ExploreError::SetUp { structure: self.row.structure, operation: self.row.operation, text }
    }

    fn refused(&self, error: SpawnError) -> ExploreError {
        match error {
            SpawnError::System(source) => failed(source),
            SpawnError::Refused(source) => ExploreError::Refused { why: why_refused(), source },
            SpawnError::SetUp(text) => self.set_up(text),
        }
    }
}

fn failed(source: std::io::Error) -> ExploreError {
    ExploreError::System { call: "tracing a child", source }
}
