//! The instruction explorer: runs the real machine code of an operation in a child, one instruction at a time,
//! and asks at every instruction what the others would see if the child died, slept or was lied to there.
//!
//! # Modes
//! | mode | at every instruction k of the operation |
//! |---|---|
//! | kill | the victim is killed there; the survivors must find every acknowledged message, the one in flight whole or absent, and a structure that works |
//! | freeze | the victim stops there, the others go on, the victim resumes and ends; then the same |
//! | pairs | a partner runs to each of its instructions j; then the victim ends, then the partner; in both orders |
//! | double | for each distinct image that a kill leaves: the process that recovers dies at each of its instructions; then the same |
//! | flip | each control word is replaced by each of a few lies, where the victim is about to access the segment, then it runs on: it must end, and with a legal answer |
//!
//! Each death is a real `SIGKILL` of a real process at the instruction. What it leaves is a number of bytes, and
//! most instructions leave the same bytes as their neighbours: the survivors run once per distinct image
//! (segment, acknowledgements, outputs and notes), each time in a child of their own, since survivors of a broken
//! structure may spin, sleep or crash. Those are verdicts here, not failures of the explorer.
//!
//! Stepping is sequentially consistent: it shows every prefix and every interleaving at one or two switches of
//! the shipped code, and no effect of store buffers. Those are the models' part.
//!
//! An operation on files is stopped at the entry and the exit of each of its [system calls](Stride::Call) instead:
//! between two of them it changes nothing that others see.
//!
//! # Adding a structure
//! Implement [`Operation`] once per public operation and hand it to [`step`]. The engine knows nothing about
//! structures.

mod heap;
mod report;
mod stage;
mod sweep;
#[cfg(target_arch = "x86_64")]
mod touch;
mod victim;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

pub(crate) use heap::Heap;
pub(crate) use report::{ExploreError, Finding, StepRow, Summary};
pub(crate) use stage::{Role, Stage};
pub(crate) use victim::Act;
pub(crate) use watch::Limits;

/// What happens to the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// It dies.
    Kill,
    /// It stops while the others go on, and resumes.
    Freeze,
    /// A partner stops at each of its own instructions as well.
    Pairs,
    /// It dies, and so does the process that recovers.
    Double,
    /// One control word lies.
    Flip,
}

impl Mode {
    /// All modes, in the order in which they run.
    pub(crate) const ALL: [Self; 5] = [Self::Kill, Self::Freeze, Self::Pairs, Self::Double, Self::Flip];

    /// The name that rows carry.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Pairs => "pairs",
            Self::Double => "double",
            Self::Flip => "flip",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What lies between two points of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stride {
    /// One instruction.
    Instruction,
    /// All up to the next entry or exit of a system call: for operations on files, whose instructions in between
    /// change nothing that others see, and differ from run to run with the state of the heap.
    Call,
}

/// What became of the operation in flight, as the survivors see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did not happen.
    Absent,
    /// It happened, wholly and once.
    Present,
}

/// What the judge is told: the results that the acts returned, `None` for an act that never returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The victim's result.
    pub(crate) first: Option<u64>,
    /// The result of its partner, or of the process that recovered.
    pub(crate) second: Option<u64>,
}

/// One operation under test: one row of the explorer's table.
///
/// Each method but [`prepare`](Self::prepare) runs in a child of its own, forked for this one call, over the same
/// segment at the same address: what it leaves in private memory is lost, what it leaves in the segment, in its
/// [output](Stage::output) and in the [notes](Stage::notes) stays. An error text is a verdict: the structure is
/// broken there. So is a panic, a signal, and not coming to an end.
///
/// An operation must be deterministic: same segment, same instructions.
pub(crate) trait Operation {
    /// The structure that the operation belongs to.
    fn structure(&self) -> &'static str;

    /// The operation.
    fn name(&self) -> &'static str;

    /// Bytes of the segment.
    fn bytes(&self) -> usize;

    /// The modes that apply; [`step`] calls no method that they do not need.
    fn modes(&self) -> &'static [Mode] {
        &[Mode::Kill, Mode::Freeze]
    }

    /// Where the operation is stopped; [`Stride::Call`] goes with the modes kill, freeze and double.
    fn stride(&self) -> Stride {
        Stride::Instruction
    }

    /// Makes and fills the structure in a zeroed segment, and puts back what else the operation changes.
    ///
    /// Runs in the tracer, once per point.
    ///
    /// # Errors
    /// A text, when the structure cannot be made; the exploration ends with it.
    fn prepare(&self, stage: &Stage) -> Result<(), String>;

    /// Sets the victim up (attaches it, say) and returns the part that is stepped.
    ///
    /// The value that the part returns is the result that the judge sees; what else it hands out goes to the
    /// output of [`Role::First`].
    ///
    /// # Errors
    /// A text, when the set-up fails; the exploration ends with it.
    fn victim<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String>;

    /// The survivors of a kill, a double kill or a pair: drains the structure, checks what must be there, then
    /// uses it for three further laps and takes the victim's role over.
    ///
    /// # Errors
    /// A text that says what is broken.
    fn judge(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String>;

    /// What the others do while the victim is frozen, at least three laps where they can.
    ///
    /// # Errors
    /// A text that says what they could not do.
    fn interfere(&self, stage: &Stage) -> Result<(), String> {
        let _ = stage;
        Err(format!("{} {} has no peers to run beside a frozen victim", self.structure(), self.name()))
    }

    /// As [`judge`](Self::judge), after the victim resumed and ended.
    ///
    /// # Errors
    /// A text that says what is broken.
    fn judge_frozen(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        self.judge(stage, seen)
    }

    /// Sets up a second victim, for pairs; its outputs belong to [`Role::Second`].
    ///
    /// # Errors
    /// As [`victim`](Self::victim).
    fn partner<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        let _ = stage;
        Err(format!("{} {} has no partner", self.structure(), self.name()))
    }

    /// As [`judge`](Self::judge), after both of a pair ended.
    ///
    /// # Errors
    /// A text that says what is broken.
    fn judge_pair(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        self.judge(stage, seen)
    }

    /// Sets up the process that recovers after the victim's death (takes its role over, say), as
    /// [`Role::Second`]. Where instructions are stepped, only the segment is as the victim left it: locks and files are
    /// as `prepare` left them.
    ///
    /// # Errors
    /// A text that says why recovery is impossible; a verdict here.
    fn recover<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        let _ = stage;
        Err(format!("{} {} has nobody to recover", self.structure(), self.name()))
    }

    /// Offsets in the segment of the eight-byte words that a hostile peer of the victim can write.
    fn control_words(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Offsets in the segment of 32-bit names of processes: zero or not is all that a verdict may depend on.
    fn names(&self) -> Vec<usize> {
        Vec::new()
    }

    /// A distance that a plausible lie is off by: the capacity of the structure.
    fn capacity(&self) -> u64 {
        1
    }

    /// Whether the victim's answer is legal although a word lied: `Corrupt` or right data, within its bounds.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    fn judge_flipped(&self, stage: &Stage, seen: Seen) -> Result<Outcome, String> {
        let _ = (stage, seen);
        Err(format!("{} {} has no judge of lies", self.structure(), self.name()))
    }

    /// Whether the acts share memory other than the segment: then pairs stop at every instruction, however many,
    /// since only accesses to the segment are seen.
    fn shares_elsewhere(&self) -> bool {
        false
    }

    /// How often pairs stop a partner at one instruction at the most: for operations that wait for a victim that stands,
    /// where one round is like the next.
    fn rounds(&self) -> usize {
        usize::MAX
    }

    /// How often a victim without a partner is stopped at one instruction at the most: for operations that do the same to
    /// very many words that nobody looks at yet.
    fn repeats(&self) -> usize {
        usize::MAX
    }

    /// A number for the state outside the segment that a verdict depends on (files, locks).
    ///
    /// Survivors run once per distinct image and number.
    fn outside(&self) -> u64 {
        0
    }
}

/// What to explore, and how long to wait.
#[derive(Clone, Debug)]
pub(crate) struct StepOptions {
    /// Only this structure.
    pub(crate) structure: Option<String>,
    /// Only this operation.
    pub(crate) operation: Option<String>,
    /// The modes to run, of those that an operation has.
    pub(crate) modes: Vec<Mode>,
    /// How long a child may take.
    pub(crate) limits: Limits,
    /// Instructions that an operation may take: more is *blocked*.
    pub(crate) instructions: usize,
    /// Pairs of an operation; with more than this, partners stop only where they touch the segment.
    pub(crate) pairs: usize,
    /// Bad points of one row that are described; the others are counted.
    pub(crate) findings: usize,
    /// Blocked children after which a row is cut short, since each costs its whole limit.
    pub(crate) blocked: usize,
    /// The random lie of the flip mode.
    pub(crate) seed: u64,
    /// Which of the allowed processors to run on, counted from the last; again from the last if there are fewer.
    pub(crate) processor: usize,
    /// Allow other threads in this process. Right where they only wait, as in a test runner: a thread that holds
    /// a lock at the fork would block a child, and that would be reported as a bad point.
    pub(crate) other_threads: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self {
            structure: None,
            operation: None,
            modes: Mode::ALL.to_vec(),
            limits: Limits::default(),
            instructions: 50_000,
            pairs: 4_000,
            findings: 4,
            blocked: 16,
            seed: 0x7469_6465_7769_7265,
            processor: 0,
            other_threads: false,
        }
    }
}

impl StepOptions {
    /// Whether the operation is asked for, in any of its modes.
    pub(crate) fn wants(&self, operation: &dyn Operation) -> bool {
        self.structure.as_deref().is_none_or(|name| name == operation.structure())
            && self.operation.as_deref().is_none_or(|name| name == operation.name())
            && self.modes.iter().any(|mode| operation.modes().contains(mode))
    }

    /// That nothing was found to explore.
    pub(crate) fn nothing(&self) -> ExploreError {
        ExploreError::Nothing { structure: self.structure.clone(), operation: self.operation.clone() }
    }
}

/// The timer's signal and the processor belong to one exploration at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Explores the operations, one row per operation and mode, each handed to `out` as soon as it is complete.
///
/// Pins the calling thread to one processor meanwhile, and uses `SIGALRM`. A second exploration in the same
/// process waits for the first.
///
/// # Errors
/// [`ExploreError`]; a broken structure is no error but a row with bad points. When tracing is refused, it is an
/// error that says why: nothing is skipped.
pub(crate) fn step(
    options: &StepOptions,
    operations: &[&dyn Operation],
    out: &mut dyn FnMut(StepRow),
) -> Result<Summary, ExploreError> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(ExploreError::Unsupported);
    }
    let threads = report::threads();
    if threads != 1 && !options.other_threads {
        return Err(ExploreError::Threads { found: threads });
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let system = |call| move |source| ExploreError::System { call, source };
    heap::reserve().map_err(system("reserving memory for children"))?;
    let _pin = watch::Pin::to_one(options.processor).map_err(system("pinning to one processor"))?;
    let watch = watch::Watch::start(options.limits).map_err(system("starting the watchdog"))?;
    let started = Instant::now();
    let mut summary = Summary::default();
    for operation in operations.iter().filter(|operation| options.wants(**operation)) {
        let stage = Stage::new(operation.bytes()).map_err(system("mapping the segment"))?;
        for mode in Mode::ALL {
            if options.modes.contains(&mode) && operation.modes().contains(&mode) {
                let row = sweep::Sweep::new(options, &watch, &stage, *operation, mode).run()?;
                summary.add(&row);
                out(row);
            }
        }
    }
    summary.seconds = started.elapsed().as_secs_f64();
    if summary.rows == 0 {
        return Err(options.nothing());
    }
    Ok(summary)
}
