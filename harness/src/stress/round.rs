//! The parent's part of a round: starts the processes, does to them what was planned, waits, and reads the book.

use std::collections::VecDeque;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tidewire_shm::Segment;

use super::book::Book;
use super::child::{BOOK, Orders, STRUCTURE};
use super::history::{Clock, Event, Run, Verdict, check};
use super::plan::{Act, Pins, Role, Round};
use super::subject::Subject;
use crate::verify::tool::die_with_parent;

/// How often the parent looks.
const LOOK: Duration = Duration::from_micros(500);
/// The last words of a child that are kept.
const WORDS_BYTES: usize = 4096;

/// What a round came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the checker says.
    pub(crate) verdict: Verdict,
    /// SIGKILLs that hit.
    pub(crate) kills: u64,
    /// SIGSTOPs.
    pub(crate) stops: u64,
    /// From the start of the first process to the end of the last.
    pub(crate) seconds: f64,
    /// What is wrong beside the verdict: a hang, a death that nobody caused.
    pub(crate) troubles: Vec<String>,
    /// Whether one of the troubles is a hang.
    pub(crate) hung: bool,
    /// The kernel refused a priority.
    pub(crate) nice_refused: bool,
}

impl Outcome {
    /// Whether nothing is wrong.
    pub(crate) fn good(&self) -> bool {
        self.verdict.good() && self.troubles.is_empty()
    }
}

/// What all rounds share.
pub(crate) struct Ground<'a> {
    /// The place of the structure in the table.
    pub(crate) number: usize,
    /// The structure.
    pub(crate) subject: &'a dyn Subject,
    /// The segment of the book.
    pub(crate) segment: &'a Segment,
    /// The book.
    pub(crate) book: &'a Book,
    /// Where stamps come from.
    pub(crate) clock: Clock,
    /// After how long without progress something hangs.
    pub(crate) patience: Duration,
}

/// A process that plays a role, and how the parent treats it.
struct Player {
    child: Child,
    pid: Pid,
    stopped: bool,
}

impl Drop for Player {
    fn drop(&mut self) {
        // Ended already, or not wanted any more; a stopped process dies, too.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Player {
    /// What it said on standard error; it has ended.
    fn last_words(&mut self) -> String {
        let mut bytes = Vec::new();
        if let Some(pipe) = self.child.stderr.take() {
            let _partly = pipe.take(WORDS_BYTES as u64).read_to_end(&mut bytes);
        }
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        if text.is_empty() { "nothing".to_owned() } else { format!("\"{text}\"") }
    }
}

/// One side: its processes, one after the other.
#[derive(Default)]
struct Side {
    player: Option<Player>,
    /// Processes started so far.
    started: u32,
    /// It came to its end, or nobody will succeed.
    ended: bool,
}

/// Runs a round and judges it.
///
/// # Errors
/// What the system says; what the structure does wrong is in the outcome.
pub(crate) fn run(ground: &Ground<'_>, round: &Round) -> Result<Outcome> {
    let subject = ground.subject;
    let segment = Segment::anonymous(subject.bytes(&round.shape)?)?;
    subject.create(segment.region(), &round.shape)?;
    ground.book.clear();
    let mut stage = Stage {
        ground,
        round,
        segment,
        producer: Side::default(),
        consumer: Side::default(),
        pins: round.pins,
        nice: round.nice,
        resume: VecDeque::new(),
        outcome: Outcome::default(),
        moved: (0, Instant::now()),
    };
    let start = Instant::now();
    stage.play(start)?;
    stage.outcome.seconds = start.elapsed().as_secs_f64();
    let Stage { mut outcome, producer, consumer, .. } = stage;
    // Both sides are gone before the book is read.
    drop((producer, consumer));
    // After a hang or a foreign death the consumer did not drain: that is on record already.
    let promise = super::history::Promise {
        drained: outcome.troubles.is_empty(),
        ..subject.promise(&round.shape, ground.clock)
    };
    let lines = [ground.book.producer().events()];
    outcome.verdict = check(&promise, &lines, &ground.book.consumer().events());
    Ok(outcome)
}

struct Stage<'a> {
    ground: &'a Ground<'a>,
    round: &'a Round,
    segment: Segment,
    producer: Side,
    consumer: Side,
    pins: Pins,
    nice: (i32, i32),
    /// Who is to be continued when.
    resume: VecDeque<(Instant, Role, u32)>,
    outcome: Outcome,
    /// Messages moved, and when that last changed.
    moved: (u64, Instant),
}

impl Stage<'_> {
    fn side(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Producer => &mut self.producer,
            Role::Consumer => &mut self.consumer,
        }
    }

    fn play(&mut self, start: Instant) -> Result<()> {
        self.start(Role::Producer)?;
        self.start(Role::Consumer)?;
        let mut acts = self.round.acts.iter().peekable();
        let end = start + Duration::from_millis(self.round.ms);
        let mut over = false;
        while !(self.producer.ended && self.consumer.ended) {
            let now = Instant::now();
            let elapsed_us = u64::try_from(now.duration_since(start).as_micros()).unwrap_or(u64::MAX);
            if now < end {
                // One at a time: a late one does not make all that follow late.
                if let Some(planned) = acts.next_if(|planned| planned.at_us <= elapsed_us) {
                    self.act(planned.act)?;
                }
            } else if !core::mem::replace(&mut over, true) {
                // What is left is a matter of the structure and no longer of who is starved.
                self.ground.book.stop();
                (self.pins, self.nice) = (self.round.last_pins(), (0, 0));
                self.place_all();
            }
            self.resume_due(now)?;
            self.reap(Role::Producer);
            if self.producer.ended {
                self.ground.book.drain();
            }
            self.reap(Role::Consumer);
            if !self.outcome.troubles.is_empty() || self.hangs(now) {
                return Ok(());
            }
            let next = acts.peek().filter(|_| !over).map_or(LOOK, |planned| {
                Duration::from_micros(planned.at_us.saturating_sub(elapsed_us)).min(LOOK)
            });
            std::thread::sleep(next);
        }
        Ok(())
    }

    /// Starts a process for a role: the first, or the successor of one that is dead.
    fn start(&mut self, role: Role) -> Result<()> {
        let number = self.side(role).started;
        let orders = Orders {
            role,
            subject: self.ground.number,
            shape: self.round.shape,
            number,
            seed: self.round.seed,
            clock: self.ground.clock,
            parent: std::process::id(),
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg("stress").arg("--child").arg(serde_json::to_string(&orders)?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        self.segment.inherit(&mut command, STRUCTURE)?;
        self.ground.segment.inherit(&mut command, BOOK)?;
        die_with_parent(&mut command);
        let child = command.spawn().with_context(|| format!("cannot start a {}", role.name()))?;
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
        let side = self.side(role);
        side.started += 1;
        side.player = Some(Player { child, pid, stopped: false });
        self.place(role);
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Kill(role) => return self.kill(role),
            Act::Stop(role, for_us) => {
                let started = self.side(role).started;
                let Some(player) = &mut self.side(role).player else { return Ok(()) };
                if !player.stopped && kill_process(player.pid, Signal::STOP).is_ok() {
                    player.stopped = true;
                    self.outcome.stops += 1;
                    let until = Instant::now() + Duration::from_micros(for_us);
                    self.resume.push_back((until, role, started));
                }
            }
            Act::Pin(pins) => {
                self.pins = pins;
                self.place_all();
            }
            Act::Nice(producer, consumer) => {
                self.nice = (producer, consumer);
                self.place_all();
            }
        }
        Ok(())
    }

    fn resume_due(&mut self, now: Instant) -> Result<()> {
        for _ in 0..self.resume.len() {
            let Some((until, role, started)) = self.resume.pop_front() else { break };
            if until > now {
                self.resume.push_back((until, role, started));
                continue;
            }
            let side = self.side(role);
            if let Some(player) = side.player.as_mut().filter(|_| side.started == started) {
                player.stopped = false;
                kill_process(player.pid, Signal::CONT).context("cannot continue a child")?;
            }
        }
        Ok(())
    }

    fn kill(&mut self, role: Role) -> Result<()> {
        let Some(mut player) = self.side(role).player.take() else { return Ok(()) };
        player.child.kill().context("cannot kill a child")?;
        let status = player.child.wait().context("cannot wait for a child")?;
        if status.signal() != Some(libc::SIGKILL) {
            // It had ended by itself, just before.
            self.ended(role, player, status);
            return Ok(());
        }
        self.outcome.kills += 1;
        if role == Role::Consumer {
            self.take_over();
        }
        self.start(role)
    }

    /// Writes down that the consumer died, and what it had in its hand.
    fn take_over(&mut self) {
        let mut journal = self.ground.book.consumer();
        if let Some(Event::Taking(bytes, _)) = journal.last() {
            let hand = self.ground.book.hand();
            let hand = hand.get(..bytes as usize).unwrap_or_default();
            self.ground.subject.read_hand(hand, &mut |message, units| {
                if let Some((producer, seq)) = message {
                    journal.append(Event::Hand(Run { producer, seq, n: 1, units }));
                }
            });
        }
        journal.append(Event::TakeOver);
        journal.publish();
    }

    /// Looks whether the process of a role has ended by itself.
    fn reap(&mut self, role: Role) {
        let Some(mut player) = self.side(role).player.take() else { return };
        match player.child.try_wait() {
            Ok(None) => self.side(role).player = Some(player),
            Ok(Some(status)) => self.ended(role, player, status),
            Err(error) => self.outcome.troubles.push(format!("cannot wait for the {}: {error}", role.name())),
        }
    }

    fn ended(&mut self, role: Role, mut player: Player, status: ExitStatus) {
        self.side(role).ended = true;
        if !status.success() {
            let words = player.last_words();
            let name = role.name();
            let number = self.side(role).started;
            self.outcome.troubles.push(format!("{name} {number} ended with {status}; it said {words}"));
        }
    }

    /// Whether nothing has moved for too long although nobody is stopped.
    fn hangs(&mut self, now: Instant) -> bool {
        let book = self.ground.book;
        let moved =
            book.pushed() + book.received() + u64::from(self.producer.started + self.consumer.started);
        let paused = [&self.producer, &self.consumer]
            .iter()
            .any(|side| side.player.as_ref().is_some_and(|player| player.stopped));
        if moved != self.moved.0 || paused {
            self.moved = (moved, now);
            return false;
        }
        if now.duration_since(self.moved.1) < self.ground.patience {
            return false;
        }
        let producer = book.producer().last();
        let consumer = book.consumer().last();
        self.outcome.hung = true;
        self.outcome.troubles.push(format!(
            "nothing moved for {:?}; {} messages pushed, {} received; the producer's last record is {producer:?}, \
             the consumer's {consumer:?}",
            self.ground.patience,
            book.pushed(),
            book.received()
        ));
        for role in [Role::Producer, Role::Consumer] {
            if let Some(mut player) = self.side(role).player.take() {
                let _gone = player.child.kill();
                let _status = player.child.wait();
                let words = player.last_words();
                self.outcome.troubles.push(format!("the {} was killed; it said {words}", role.name()));
            }
        }
        true
    }

    fn place_all(&mut self) {
        self.place(Role::Producer);
        self.place(Role::Consumer);
    }

    /// Gives a process the processors and the priority of the phase.
    fn place(&mut self, role: Role) {
        let (pins, nice) = (self.pins, self.nice);
        let Some(player) = &self.side(role).player else { return };
        let pid = player.pid;
        let priority = match role {
            Role::Producer => nice.0,
            Role::Consumer => nice.1,
        };
        // A process that has just ended needs neither.
        if let Some(set) = processors(pins, role) {
            let _ended = sched_setaffinity(Some(pid), &set);
        }
        // Who may not raise a priority could not take a low one back.
        let allowed = if priority == 0 { Ok(()) } else { setpriority_process(Some(pid), -1) };
        let set = allowed.and_then(|()| setpriority_process(Some(pid), priority));
        if let Err(Errno::ACCESS | Errno::PERM) = set {
            self.outcome.nice_refused = true;
            let _ended = setpriority_process(Some(pid), 0);
        }
    }
}

/// The processors of a phase: those of this process, the first or the last of them.
fn processors(pins: Pins, role: Role) -> Option<CpuSet> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut numbers = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let only = match (pins, role) {
        (Pins::Free, _) => return Some(allowed),
        (Pins::OneCore, _) | (Pins::Apart, Role::Producer) => numbers.next()?,
        (Pins::Apart, Role::Consumer) => numbers.next_back()?,
    };
    let mut set = CpuSet::new();
    set.set(only);
    Some(set)
}
