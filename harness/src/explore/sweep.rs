//! One operation in one mode: visits every point, asks for a verdict, counts.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Instant;

use super::report::{ExploreError, Finding, StepRow, dump, place, why_refused};
use super::stage::{Role, Stage};
use super::victim::{Act, Arrival, Path, SpawnError, Stop, Victim};
use super::watch::{Event, PANICKED, Watch};
use super::{Mode, Operation, Outcome, Seen, StepOptions};

/// Exit codes of judges.
const ABSENT: i32 = 0;
const PRESENT: i32 = 1;
const BROKEN: i32 = 2;

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

type Judge = fn(&dyn Operation, &Stage, Seen) -> Result<Outcome, String>;

type Done<T> = Result<T, ExploreError>;

pub(super) struct Sweep<'a> {
    options: &'a StepOptions,
    watch: &'a Watch,
    stage: &'a Stage,
    operation: &'a dyn Operation,
    verdicts: HashMap<(Box<[u8]>, u64), Verdict>,
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

    // ---- the modes

    fn kill(&mut self) -> Done<()> {
        let Some(path) = self.reference(Script::Victim, false)? else {
            return Ok(());
        };
        for point in 0..=path.last() {
            let Some(victim) = self.victim_at(&path, point)? else {
                continue;
            };
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
        for point in 0..=path.last() {
            if self.row.cut {
                break;
            }
            let Some(mut victim) = self.victim_at(&path, point)? else {
                continue;
            };
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

    fn pairs(&mut self, ahead: Script, behind: Script) -> Done<()> {
        let Some(alone) = self.reference(behind, false)? else {
            return Ok(());
        };
        let Some(path) = self.reference(ahead, true)? else {
            return Ok(());
        };
        let all = 2 * (path.last() + 1) * (alone.last() + 1);
        let touching_only = all > self.options.pairs && !self.operation.shares_elsewhere();
        for point in path.stops(touching_only) {
            let ahead_at = Place { script: ahead, path: &path, point };
            let Some(beside) = self.path_beside(ahead_at, behind, touching_only)? else {
                continue;
            };
            for beside_point in beside.stops(touching_only) {
                if self.row.cut {
                    return Ok(());
                }
                self.pair(ahead_at, Place { script: behind, path: &beside, point: beside_point })?;
            }
        }
        Ok(())
    }

    /// The way of `behind` through its operation while the other stands.
    fn path_beside(&mut self, ahead: Place<'_>, behind: Script, touches: bool) -> Done<Option<Path>> {
        let Some((_standing, mut second)) = self.both(ahead, behind)? else {
            return Ok(None);
        };
        let (path, stop) = self.traced(&mut second, touches)?;
        if stop == Stop::Marker {
            return Ok(Some(path));
        }
        let places = [ahead, Place { script: behind, path: &path, point: path.last() }];
        let image = self.stage.snapshot();
        let what = self.describe(stop);
        self.bad(&places, &format!("beside the frozen {}: {what}", ahead.script.actor()), &image);
        Ok(None)
    }

    /// One pair: both stand, then the first ends, then the second.
    fn pair(&mut self, ahead: Place<'_>, behind: Place<'_>) -> Done<()> {
        let places = [ahead, behind];
        let (mut first, mut second) = loop {
            let Some((first, mut second)) = self.both(ahead, behind.script)? else {
                return Ok(());
            };
            match second.reach(behind.path, behind.point).map_err(failed)? {
                Arrival::Strayed => {}
                Arrival::There | Arrival::Ended => break (first, second),
                Arrival::Fell(stop) => return self.fell(&places, stop),
            }
        };
        if self.ended(&mut first, &places)? && self.ended(&mut second, &places)? {
            drop((first, second));
            self.settle(&places, |operation, stage, seen| operation.judge_pair(stage, seen))?;
        }
        Ok(())
    }

    /// Both of a pair set up, the first at its point.
    fn both(&mut self, ahead: Place<'_>, behind: Script) -> Done<Option<(Victim<'a>, Victim<'a>)>> {
        loop {
            self.reset()?;
            let mut first = self.spawn(ahead.script)?;
            let second = self.spawn(behind)?;
            match first.reach(ahead.path, ahead.point).map_err(failed)? {
                Arrival::Strayed => {}
                Arrival::There | Arrival::Ended => return Ok(Some((first, second))),
                Arrival::Fell(stop) => {
                    self.fell(&[ahead], stop)?;
                    return Ok(None);
                }
            }
        }
    }

    fn double(&mut self) -> Done<()> {
        let Some(path) = self.reference(Script::Victim, false)? else {
            return Ok(());
        };
        let mut left = Vec::new();
        let mut known = HashSet::new();
        for point in 0..=path.last() {
            let Some(victim) = self.victim_at(&path, point)? else {
                continue;
            };
            drop(victim);
            let image = self.stage.snapshot();
            if known.insert(self.nameless(&image)) {
                left.push((point, image));
            }
        }
        for (point, image) in left {
            let death = Place { script: Script::Victim, path: &path, point };
            self.recoveries(death, &image)?;
            if self.row.cut {
                break;
            }
        }
        Ok(())
    }

    /// Kills the recoverer at each of its instructions after one death.
    fn recoveries(&mut self, death: Place<'_>, image: &[u8]) -> Done<()> {
        self.back_to(image)?;
        let path = match self.try_spawn(Script::Recover) {
            Ok(mut recoverer) => {
                let (path, stop) = self.traced(&mut recoverer, false)?;
                if stop != Stop::Marker {
                    let places = [death, Place { script: Script::Recover, path: &path, point: path.last() }];
                    return self.fell(&places, stop);
                }
                path
            }
            Err(SpawnError::SetUp(text)) => {
                self.bad(&[death], &format!("recovery is impossible: {text}"), image);
                return Ok(());
            }
            Err(error) => return Err(self.refused(error)),
        };
        for point in 0..=path.last() {
            let places = [death, Place { script: Script::Recover, path: &path, point }];
            let arrival = loop {
                self.back_to(image)?;
                match self.spawn(Script::Recover)?.reach(&path, point).map_err(failed)? {
                    Arrival::Strayed => {}
                    arrival => break arrival,
                }
            };
            match arrival {
                Arrival::Fell(stop) => self.fell(&places, stop)?,
                _ => self.settle(&places, |operation, stage, seen| operation.judge(stage, seen))?,
            }
            if self.row.cut {
                break;
            }
        }
        Ok(())
    }

    fn flip(&mut self) -> Done<()> {
        let Some(path) = self.reference(Script::Victim, true)? else {
            return Ok(());
        };
        let words = self.operation.control_words();
        let mut random = self.options.seed;
        // A lie is the same to the victim from one access to the segment to the next.
        for point in path.stops(true).into_iter().filter(|point| *point < path.last()) {
            for &word in &words {
                random = scrambled(random);
                for lie in lies(self.operation.capacity(), random) {
                    if self.row.cut {
                        return Ok(());
                    }
                    self.lie(&path, point, word, lie)?;
                }
            }
        }
        Ok(())
    }

    /// One run in which the word at `offset` lies from `point` on.
    fn lie(&mut self, path: &Path, point: usize, offset: usize, lie: Lie) -> Done<()> {
        let places = [Place { script: Script::Victim, path, point }];
        let Some(mut victim) = self.victim_at(path, point)? else {
            return Ok(());
        };
        let mut change = (0, 0);
        let replaced = self.stage.replace_word(offset, |old| {
            change = (old, lie.of(old));
            change.1
        });
        let (old, new) = change;
        if replaced.is_none() {
            return Err(self.set_up(format!("control word {offset:#x} is not within the segment")));
        }
        if old == new {
            return Ok(());
        }
        let image = self.stage.snapshot();
        let said = format!("the word at {offset:#x} changed from {old:#x} to {new:#x}");
        let stop = victim.finish().map_err(failed)?;
        if stop != Stop::Marker {
            let what = self.describe(stop);
            self.bad(&places, &format!("{said}: {what}"), &image);
            return Ok(());
        }
        drop(victim);
        self.settle_as(&places, Some(&said), |operation, stage, seen| operation.judge_flipped(stage, seen))
    }

    // ---- actors

    /// Zeroes the stage and prepares the structure.
    fn reset(&self) -> Done<()> {
        self.stage.clear();
        self.operation.prepare(self.stage).map_err(|text| self.set_up(text))
    }

    /// The stage as a death left it.
    fn back_to(&self, image: &[u8]) -> Done<()> {
        self.reset()?;
        self.stage.restore(image);
        Ok(())
    }

    fn try_spawn(&self, script: Script) -> Result<Victim<'a>, SpawnError> {
        let (operation, stage) = (self.operation, self.stage);
        Victim::spawn(self.watch, stage, script.role(), &|| script.act(operation, stage))
    }

    fn spawn(&self, script: Script) -> Done<Victim<'a>> {
        self.try_spawn(script).map_err(|error| self.refused(error))
    }

    fn traced(&self, victim: &mut Victim<'_>, touches: bool) -> Done<(Path, Stop)> {
        let segment = touches.then(|| {
            let start = self.stage.segment().addr().get();
            start..start + self.stage.bytes()
        });
        victim.trace(self.options.instructions, segment).map_err(failed)
    }

    /// The path of an act that runs alone; `None`, and a bad point, if it does not end.
    fn reference(&mut self, script: Script, touches: bool) -> Done<Option<Path>> {
        self.reset()?;
        let mut victim = self.spawn(script)?;
        let (path, stop) = self.traced(&mut victim, touches)?;
        if stop == Stop::Marker {
            return Ok(Some(path));
        }
        self.fell(&[Place { script, path: &path, point: path.last() }], stop)?;
        Ok(None)
    }

    /// A fresh victim at a point; `None`, and a bad point, if it cannot get there.
    fn victim_at(&mut self, path: &Path, point: usize) -> Done<Option<Victim<'a>>> {
        loop {
            self.reset()?;
            let mut victim = self.spawn(Script::Victim)?;
            match victim.reach(path, point).map_err(failed)? {
                Arrival::Strayed => {}
                Arrival::There | Arrival::Ended => return Ok(Some(victim)),
                Arrival::Fell(stop) => {
                    self.fell(&[Place { script: Script::Victim, path, point }], stop)?;
                    return Ok(None);
                }
            }
        }
    }

    /// Lets an actor run to the end of its act; false, and a bad point, if it does not get there.
    fn ended(&mut self, victim: &mut Victim<'_>, places: &[Place<'_>]) -> Done<bool> {
        let image = self.stage.snapshot();
        let stop = victim.finish().map_err(failed)?;
        if stop != Stop::Marker {
            let what = self.describe(stop);
            self.bad(places, &format!("resumed: {what}"), &image);
        }
        Ok(stop == Stop::Marker)
    }

    // ---- verdicts

    /// Asks the judge, once per distinct image, and counts the point.
    fn settle(&mut self, places: &[Place<'_>], judge: Judge) -> Done<()> {
        self.settle_as(places, None, judge)
    }

    /// As [`settle`](Self::settle); `before` is said before a bad verdict.
    fn settle_as(&mut self, places: &[Place<'_>], before: Option<&str>, judge: Judge) -> Done<()> {
        let seen = Seen {
            first: self.stage.acknowledged(Role::First),
            second: self.stage.acknowledged(Role::Second),
        };
        let image = self.stage.snapshot();
        let key = (self.nameless(&image), self.operation.outside());
        let verdict = match self.verdicts.get(&key) {
            Some(verdict) => verdict.clone(),
            None => {
                let verdict = self.ask(&|operation, stage| judge(operation, stage, seen))?;
                self.verdicts.insert(key, verdict.clone());
                verdict
            }
        };
        match verdict {
            Verdict::Bad(text) => match before {
                Some(before) => self.bad(places, &format!("{before}: {text}"), &image),
                None => self.bad(places, &text, &image),
            },
            Verdict::Good(outcome) => {
                self.row.points += 1;
                match outcome {
                    Outcome::Absent => self.row.absent += 1,
                    Outcome::Present => self.row.present += 1,
                }
            }
        }
        Ok(())
    }

    /// An image without the names of processes, which differ from run to run and mean nothing.
    fn nameless(&self, image: &[u8]) -> Box<[u8]> {
        let mut image: Box<[u8]> = Box::from(image);
        for offset in self.operation.names() {
            if let Some(name) = image.get_mut(offset..).and_then(<[u8]>::first_chunk_mut::<4>) {
                *name = u32::from(*name != [0; 4]).to_ne_bytes();
            }
        }
        image
    }

    /// Runs a question in a child of its own.
    fn ask(&mut self, question: &dyn Fn(&dyn Operation, &Stage) -> Result<Outcome, String>) -> Done<Verdict> {
        let (operation, stage) = (self.operation, self.stage);
        let event = self.watch.run(stage, &|| match question(operation, stage) {
            Ok(Outcome::Absent) => ABSENT,
            Ok(Outcome::Present) => PRESENT,
            Err(text) => {
                stage.write_text(&text);
                BROKEN
            }
        });
        Ok(match event.map_err(failed)? {
            Event::Exited(ABSENT) => Verdict::Good(Outcome::Absent),
            Event::Exited(PRESENT) => Verdict::Good(Outcome::Present),
            Event::Exited(BROKEN) => Verdict::Bad(stage.read_text()),
            Event::Exited(PANICKED) => Verdict::Bad(format!("a survivor panicked: {}", stage.read_text())),
            Event::Exited(code) => Verdict::Bad(format!("a survivor ended with code {code}")),
            Event::Killed(signal) | Event::Stopped(signal) => {
                Verdict::Bad(format!("a survivor crashed: {}", signal_name(signal)))
            }
            Event::Blocked => {
                self.count_blocked();
                Verdict::Bad(format!("a survivor is blocked: {}", self.limits()))
            }
        })
    }

    fn count_blocked(&mut self) {
        self.blocked += 1;
        self.row.cut |= self.blocked >= self.options.blocked;
    }

    fn limits(&self) -> String {
        let limits = self.watch.limits();
        format!("no end within {:?} of processor time or {:?}", limits.processor, limits.wall)
    }

    /// What a victim that did not reach its end did.
    fn describe(&mut self, stop: Stop) -> String {
        match stop {
            Stop::Crashed(signal) => format!("the operation crashed: {}", signal_name(signal)),
            Stop::Exited(PANICKED) => format!("the operation panicked: {}", self.stage.read_text()),
            Stop::Exited(code) => format!("the operation ended its process with code {code}"),
            Stop::Step | Stop::Marker => "the operation left its path".to_owned(),
            Stop::Blocked => {
                self.count_blocked();
                let most = self.options.instructions;
                format!("the operation is blocked: {} or {most} instructions", self.limits())
            }
        }
    }

    /// Counts a point at which the operation itself did not go on.
    fn fell(&mut self, places: &[Place<'_>], stop: Stop) -> Done<()> {
        let image = self.stage.snapshot();
        let what = self.describe(stop);
        self.bad(places, &what, &image);
        Ok(())
    }

    fn bad(&mut self, places: &[Place<'_>], verdict: &str, image: &[u8]) {
        self.row.points += 1;
        self.row.bad += 1;
        if self.row.findings.len() < self.options.findings {
            let segment = image.get(..self.stage.bytes()).unwrap_or(image);
            let places = places
                .iter()
                .map(|at| place(at.script.actor(), at.point, at.path.last(), at.path.address(at.point)));
            self.row.findings.push(Finding {
                structure: self.row.structure,
                operation: self.row.operation,
                mode: self.row.mode,
                places: places.collect(),
                verdict: verdict.to_owned(),
                image: dump(segment),
            });
        }
    }

    // ---- errors

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

/// The name of a signal that a broken structure can cause.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGABRT => "SIGABRT",
        libc::SIGTRAP => "SIGTRAP",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// How a control word lies.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Is(u64),
    Off(u64),
}

impl Lie {
    fn of(self, old: u64) -> u64 {
        match self {
            Self::Is(value) => value,
            Self::Off(by) => old.wrapping_add(by),
        }
    }
}

/// The lies that each word tells at each instruction.
fn lies(capacity: u64, random: u64) -> [Lie; 8] {
    [
        Lie::Is(0),
        Lie::Is(1),
        Lie::Is(u64::MAX),
        Lie::Off(1),
        Lie::Off(u64::MAX),
        Lie::Off(capacity),
        Lie::Off(capacity.wrapping_neg()),
        Lie::Is(random),
    ]
}

/// The next number of a sequence that looks random (a Weyl sequence through a finalizer).
fn scrambled(state: u64) -> u64 {
    let mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
