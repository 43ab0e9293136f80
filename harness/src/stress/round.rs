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

use super::child::{BOOK, Orders, STRUCTURE};
use super::plan::{Act, Pins, Round};
use crate::history::{Book, Clock, Event, Judgement, Promise, Run, judge};
use crate::subject::{Role, Subject};
use crate::verify::tool::die_with_parent;

/// How often the parent looks.
const LOOK: Duration = Duration::from_micros(500);
/// The last words of a child that are kept.
const WORDS_BYTES: usize = 4096;

/// What a round came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What the checker says of the histories.
    pub(crate) judgement: Judgement,
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
        self.judgement.verdict.good() && self.troubles.is_empty()
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
        sides: Role::all(subject.producers()).map(|role| (role, Side::default())).collect(),
        pins: round.pins,
        nice: round.nice,
        resume: VecDeque::new(),
        outcome: Outcome::default(),
        moved: (0, Instant::now()),
        relieved: false,
    };
    let start = Instant::now();
    stage.play(start)?;
    stage.outcome.seconds = start.elapsed().as_secs_f64();
    let Stage { mut outcome, sides, segment, .. } = stage;
    // All sides are gone before the book is read.
    drop(sides);
    // After a hang or a foreign death the consumer did not drain: that is on record already.
    let promise =
        Promise { drained: outcome.troubles.is_empty(), ..subject.promise(&round.shape, ground.clock) };
    outcome.judgement = judge(&promise, ground.book);
    if let Err(error) = subject.left_behind(&segment) {
        outcome.troubles.push(format!("left behind: {error:#}"));
    }
    Ok(outcome)
}

struct Stage<'a> {
    ground: &'a Ground<'a>,
    round: &'a Round,
    segment: Segment,
    /// The producers, then the consumer.
    sides: Vec<(Role, Side)>,
    pins: Pins,
    nice: (i32, i32),
    /// Who is to be continued when.
    resume: VecDeque<(Instant, Role, u32)>,
    outcome: Outcome,
    /// Messages moved, and when that last changed.
    moved: (u64, Instant),
    /// Nothing moved for too long once, and nobody is kept from a processor since.
    relieved: bool,
}

impl Stage<'_> {
    fn side(&mut self, role: Role) -> Option<&mut Side> {
        self.sides.iter_mut().find(|(found, _)| *found == role).map(|(_, side)| side)
    }

    fn roles(&self) -> Vec<Role> {
        self.sides.iter().map(|(role, _)| *role).collect()
    }

    /// The player of a role, if there is one now.
    fn take_player(&mut self, role: Role) -> Option<Player> {
        self.side(role)?.player.take()
    }

    fn play(&mut self, start: Instant) -> Result<()> {
        let roles = self.roles();
        for role in &roles {
            self.start(*role)?;
        }
        let mut acts = self.round.acts.iter().peekable();
        let end = start + Duration::from_millis(self.round.ms);
        let mut over = false;
        while !self.sides.iter().all(|(_, side)| side.ended) {
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
            for role in &roles {
                // The consumer is the last one.
                if *role == Role::Consumer && self.have_producers_ended() {
                    self.ground.book.drain();
                }
                self.reap(*role);
            }
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

    fn have_producers_ended(&self) -> bool {
        self.sides.iter().all(|(role, side)| *role == Role::Consumer || side.ended)
    }

    /// Starts a process for a role: the first, or the successor of one that is dead.
    fn start(&mut self, role: Role) -> Result<()> {
        let number = self.side(role).map_or(0, |side| side.started);
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
        let child = command.spawn().with_context(|| format!("cannot start a {role}"))?;
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
        let player = Player { child, pid, stopped: false };
        let side = self.side(role).context("a role that the structure does not have")?;
        side.started += 1;
        side.player = Some(player);
        self.place(role);
        Ok(())
    }

    fn act(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Kill(role) => return self.kill(role),
            Act::Stop(role, for_us) => {
                let Some(side) = self.side(role) else { return Ok(()) };
                let started = side.started;
                let Some(player) = &mut side.player else { return Ok(()) };
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
            let Some(side) = self.side(role) else { continue };
            if let Some(player) = side.player.as_mut().filter(|_| side.started == started) {
                player.stopped = false;
                kill_process(player.pid, Signal::CONT).context("cannot continue a child")?;
            }
        }
        Ok(())
    }

    fn kill(&mut self, role: Role) -> Result<()> {
        let Some(mut player) = self.take_player(role) else { return Ok(()) };
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
        let Some(mut player) = self.take_player(role) else { return };
        match player.child.try_wait() {
            Ok(None) => {
                if let Some(side) = self.side(role) {
                    side.player = Some(player);
                }
            }
            Ok(Some(status)) => self.ended(role, player, status),
            Err(error) => self.outcome.troubles.push(format!("cannot wait for the {role}: {error}")),
        }
    }

    fn ended(&mut self, role: Role, mut player: Player, status: ExitStatus) {
        let Some(side) = self.side(role) else { return };
        side.ended = true;
        let number = side.started;
        if !status.success() {
            let words = player.last_words();
            self.outcome.troubles.push(format!("{role} {number} ended with {status}; it said {words}"));
        }
    }

    /// Whether nothing has moved for too long although nobody is stopped or kept from a processor.
    fn hangs(&mut self, now: Instant) -> bool {
        let book = self.ground.book;
        let started: u32 = self.sides.iter().map(|(_, side)| side.started).sum();
        let moved = book.pushed() + book.received() + u64::from(started);
        let paused =
            self.sides.iter().any(|(_, side)| side.player.as_ref().is_some_and(|player| player.stopped));
        if moved != self.moved.0 || paused {
            self.moved = (moved, now);
            self.relieved = false;
            return false;
        }
        if now.duration_since(self.moved.1) < self.ground.patience {
            return false;
        }
        if !core::mem::replace(&mut self.relieved, true) {
            // On a busy machine the lowest priority beside the highest may wait this long for its turn. Who still
            // does not move with a fair share hangs.
            (self.pins, self.nice) = (self.round.last_pins(), (0, 0));
            self.place_all();
            self.moved.1 = now;
            return false;
        }
        let producers: Vec<_> = book.producers().map(|journal| journal.last()).collect();
        let consumer = book.consumer().last();
        self.outcome.hung = true;
        self.outcome.troubles.push(format!(
            "nothing moved for {:?}; {} messages pushed, {} received; the producers' last records are {producers:?}, \
             the consumer's {consumer:?}",
            self.ground.patience,
            book.pushed(),
            book.received()
        ));
        for role in self.roles() {
            if let Some(mut player) = self.take_player(role) {
                let _gone = player.child.kill();
                let _status = player.child.wait();
                let words = player.last_words();
                self.outcome.troubles.push(format!("the {role} was killed; it said {words}"));
            }
        }
        true
    }

    fn place_all(&mut self) {
        for role in self.roles() {
            self.place(role);
        }
    }

    /// Gives a process the processors and the priority of the phase.
    fn place(&mut self, role: Role) {
        let (pins, nice) = (self.pins, self.nice);
        let Some(pid) = self.side(role).and_then(|side| side.player.as_ref()).map(|player| player.pid) else {
            return;
        };
        let priority = match role {
            Role::Producer(_) => nice.0,
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
        (Pins::OneCore, _) | (Pins::Apart, Role::Producer(_)) => numbers.next()?,
        (Pins::Apart, Role::Consumer) => numbers.next_back()?,
    };
    let mut set = CpuSet::new();
    set.set(only);
    Some(set)
}
