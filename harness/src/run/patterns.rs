//! Rows of the message layer: processes that open the ends of a channel, a publication or a service by name, as a user's
//! programs do; every message is looked at.
//!
//! | pattern | gives | takes | what must hold |
//! |---|---|---|---|
//! | `channel`, `channel-bytes` | senders | one receiver | all of each sender, once, in order |
//! | `channel-ordered` | senders | one receiver | the same; the order over all senders is not looked at here |
//! | `channel-single` | one sender | one receiver | the same |
//! | `channel-async` | senders | one receiver | the same, with futures on both sides |
//! | `channel-serde` | senders | one receiver | the same, of letters of several forms |
//! | `publish` | one publisher, who waits | subscribers | all, for each |
//! | `publish-lossy` | one publisher, who does not wait | subscribers, one of them slow | what did not come was told as missed, exactly |
//! | `latest` | one writer | readers | each value whole, and never an older one; what came between them was told by its version, exactly; the last one |
//! | `request` | clients | one server | all of each client, in order, and to each question its own answer |
//!
//! Rows `killed` play rounds: one process is killed at some moment, in every second round the one that owns the pattern,
//! after another one was stopped for a while. If the owner dies, all others must be told and come to their end by themselves;
//! if another one dies, the rest must go on. What the dead one had acknowledged arrives everywhere; of what it had not, at most
//! the one message that it was giving.
//!
//! Rows `followed` play rounds, too: the receiver is killed while all senders send, and another one, which waits for that, goes
//! on in its place. Both tell the parent of each message before they ask for the next. Then of each sender:
//!
//! | | |
//! |---|---|
//! | the first of the second receiver | is not behind the next one that the first receiver expected: nothing is lost |
//! | | and before it, of all senders together, by no more than the channel documents: what is received *again* |
//! | from there on | all in order, once, up to the last one that the sender was told is sent |
//!
//! The names lie in a directory of each round's own, which is gone at its end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tidewire::Options;

use super::interrupt;
use super::message;
use super::pin::Cores;
use super::plan::Fault;
use crate::cells::crew::Child;

mod awaited;
mod board;
mod ends;
mod follow;
mod life;
mod row;

use board::{Board, Word};
use life::{Job, Pattern, Who};
pub(super) use row::PatternRow;

/// Names are made in memory file systems.
const MEMORY: &str = "/dev/shm";
/// How long another process is stopped.
const STOP: Duration = Duration::from_millis(3);
/// A process is killed within so many microseconds.
const KILL_US: u64 = 12_000;
/// How long the rest goes on after a death that does not concern it.
const AFTER: Duration = Duration::from_millis(2);

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) structure: &'static str,
    pub(super) mode: &'static str,
    pattern: Pattern,
    givers: usize,
    takers: usize,
}

const fn subject(structure: &'static str, pattern: Pattern, givers: usize, takers: usize) -> Subject {
    Subject { structure, mode: STREAM, pattern, givers, takers }
}

const fn killed(structure: &'static str, pattern: Pattern, givers: usize, takers: usize) -> Subject {
    Subject { mode: KILLED, ..subject(structure, pattern, givers, takers) }
}

const fn followed(structure: &'static str, pattern: Pattern, givers: usize) -> Subject {
    Subject { mode: FOLLOWED, ..subject(structure, pattern, givers, 2) }
}

const STREAM: &str = "stream";
const KILLED: &str = "killed";
const FOLLOWED: &str = "followed";
/// The names that can be asked for.
pub(super) const STRUCTURES: [&str; 10] = [
    "channel",
    "channel-bytes",
    "channel-ordered",
    "channel-single",
    "channel-async",
    "channel-serde",
    "publish",
    "publish-lossy",
    "latest",
    "request",
];

/// The rows.
pub(super) const SUBJECTS: &[Subject] = &[
    subject("channel", Pattern::Channel, 1, 1),
    subject("channel", Pattern::Channel, 3, 1),
    killed("channel", Pattern::Channel, 3, 1),
    followed("channel", Pattern::Channel, 3),
    subject("channel-bytes", Pattern::Bytes, 2, 1),
    killed("channel-bytes", Pattern::Bytes, 2, 1),
    followed("channel-bytes", Pattern::Bytes, 2),
    subject("channel-ordered", Pattern::Ordered, 3, 1),
    killed("channel-ordered", Pattern::Ordered, 3, 1),
    followed("channel-ordered", Pattern::Ordered, 3),
    subject("channel-single", Pattern::Single, 1, 1),
    followed("channel-single", Pattern::Single, 1),
    subject("channel-async", Pattern::Async, 1, 1),
    subject("channel-async", Pattern::Async, 3, 1),
    killed("channel-async", Pattern::Async, 3, 1),
    subject("channel-serde", Pattern::Serde, 2, 1),
    killed("channel-serde", Pattern::Serde, 2, 1),
    followed("channel-serde", Pattern::Serde, 2),
    subject("publish", Pattern::Publish, 1, 2),
    killed("publish", Pattern::Publish, 1, 2),
    subject("publish-lossy", Pattern::PublishLossy, 1, 2),
    killed("publish-lossy", Pattern::PublishLossy, 1, 2),
    subject("latest", Pattern::Latest, 1, 2),
    killed("latest", Pattern::Latest, 1, 2),
    subject("request", Pattern::Request, 1, 1),
    subject("request", Pattern::Request, 2, 1),
    killed("request", Pattern::Request, 2, 1),
];

impl Subject {
    /// Plays the row.
    ///
    /// # Errors
    /// What the system says. What is wrong with the pattern is in the row.
    pub(super) fn run(&self, time: Duration, patience: Duration, fault: Option<Fault>) -> Result<PatternRow> {
        ensure!(
            !matches!(fault, Some(Fault::Fail | Fault::Mumble)),
            "expected a fault that a pattern knows, found one of a ring: {fault:?}"
        );
        let seed = Instant::now();
        let mut row = PatternRow {
            structure: self.structure.to_owned(),
            mode: self.mode,
            givers: self.givers as u64,
            takers: self.takers as u64,
            seed: std::process::id().into(),
            ..PatternRow::default()
        };
        if self.mode == STREAM {
            Round::begin(self, patience, fault)?.undisturbed(time, &mut row)?;
        } else {
            // One of each kind at least.
            let mut number = 0;
            while number < 2 || seed.elapsed() < time {
                interrupt::check()?;
                let round = Round::begin(self, patience, fault)?;
                if self.mode == FOLLOWED {
                    round.followed(number, &mut row)?;
                } else {
                    round.with_a_death(number, &mut row)?;
                }
                number += 1;
            }
        }
        row.judge();
        Ok(row)
    }
}

/// The processes of one round, all at work.
struct Round {
    job: Job,
    /// Those that were not waited for yet.
    children: Vec<(Who, Child)>,
    _home: TempDir,
}

impl Round {
    fn begin(subject: &Subject, patience: Duration, fault: Option<Fault>) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tidewire-patterns-").tempdir_in(MEMORY)?;
        let Subject { pattern, givers, takers, mode, .. } = *subject;
        let (named, followed) = (Options::new().directory(home.path().join("names")), mode == FOLLOWED);
        let job = Job {
            pattern,
            givers,
            takers,
            followed,
            options: if followed { named.capacity(pattern.small()) } else { named },
            board: Board::new()?,
            began: Instant::now(),
            fault,
            patience,
            cores: Cores::choose(),
        };
        let mut round = Self { job, children: Vec::new(), _home: home };
        for who in round.job.all() {
            let child = Child::spawn(|| round.job.live(who))?;
            round.children.push((who, child));
        }
        let began = Instant::now();
        let job = &round.job;
        while !job.all().into_iter().all(|who| job.seat(who).said(Word::Begun) != 0) {
            interrupt::check()?;
            let failed = job.all().into_iter().find(|who| job.seat(*who).said(Word::Trouble) != 0);
            ensure!(failed.is_none(), "{pattern:?}: {failed:?} could not begin");
            ensure!(began.elapsed() < patience, "{pattern:?}: expected all to begin within {patience:?}");
            sleep(Duration::from_micros(100));
        }
        job.board.parent().say(Word::Go, 1);
        Ok(round)
    }

    /// Lets them work for a while, and end.
    fn undisturbed(mut self, time: Duration, row: &mut PatternRow) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            interrupt::check()?;
            sleep(left.min(Duration::from_millis(50)));
        }
        self.end(row);
        self.count(None, row);
        self.rates(row);
        Ok(())
    }

    /// Stops one, kills another, and sees what the rest does.
    fn with_a_death(mut self, number: u64, row: &mut PatternRow) -> Result<()> {
        let seed = row.seed << 20 | number;
        let draw = |place, below| draw(seed, place, below);
        let owner = self.job.pattern.owner();
        let all = self.job.all();
        let others: Vec<Who> = all.iter().copied().filter(|who| *who != owner).collect();
        let victim =
            if number.is_multiple_of(2) { Some(owner) } else { others.get(draw(1, others.len())).copied() };
        let victim = victim.context("expected somebody to kill")?;
        let rest: Vec<Who> = all.iter().copied().filter(|who| *who != victim).collect();
        let stopped = rest.get(draw(2, rest.len())).copied();
        let half = Duration::from_micros(KILL_US / 2 * draw(3, 1000) as u64 / 1000);
        sleep(half);
        if let Some(who) = stopped {
            self.stop(who, row);
        }
        sleep(half);
        let killed_at = self.kill(victim, row)?;
        if victim == owner {
            self.await_told(killed_at, row);
        } else {
            if !self.goes_on(&rest) {
                row.untold += 1;
                row.troubles.push(format!("after the death of {victim:?} the others did not go on"));
            }
            sleep(AFTER);
            self.end(row);
        }
        self.count(Some(victim), row);
        Ok(())
    }

    /// Kills a process, and says when.
    fn kill(&mut self, victim: Who, row: &mut PatternRow) -> Result<u64> {
        let Some(at) = self.children.iter().position(|(who, _)| *who == victim) else {
            bail!("expected a process of {victim:?}");
        };
        let killed_at = self.job.now();
        self.children.swap_remove(at).1.kill();
        row.kills += 1;
        Ok(killed_at)
    }

    /// Stops a process for a while. Those go on meanwhile who do not wait for it.
    fn stop(&mut self, who: Who, row: &mut PatternRow) {
        let Some((_, child)) = self.children.iter().find(|(other, _)| *other == who) else { return };
        child.signal(libc::SIGSTOP);
        row.stops += 1;
        sleep(STOP);
        // Nobody can do without the owner for long, and a publisher that waits waits for each.
        let awaited = who == self.job.pattern.owner() || self.job.pattern == Pattern::Publish;
        let others: Vec<Who> = self.job.all().into_iter().filter(|other| *other != who).collect();
        let went_on = awaited || self.goes_on(&others);
        child.signal(libc::SIGCONT);
        if !went_on {
            row.untold += 1;
            row.troubles.push(format!("while {who:?} was stopped the others did not go on"));
        }
    }

    /// Whether these get something done from now on.
    fn goes_on(&self, these: &[Who]) -> bool {
        let done = || these.iter().map(|who| self.job.seat(*who).said(Word::Count)).sum::<u64>();
        let (begun, before) = (Instant::now(), done());
        while done() < before + 1000 {
            if begun.elapsed() > self.job.patience {
                return false;
            }
            sleep(Duration::from_micros(100));
        }
        true
    }

    /// Lets givers end, then takers.
    fn end(&mut self, row: &mut PatternRow) {
        self.job.board.parent().say(Word::Stop, 1);
        self.finish(|who| matches!(who, Who::Giver(_)), row);
        self.job.board.parent().say(Word::Over, 1);
        self.finish(|_| true, row);
    }

    /// The owner is dead: all others end since they are told.
    fn await_told(&mut self, killed_at: u64, row: &mut PatternRow) {
        self.finish(|_| true, row);
        let others = self.job.all().into_iter().filter(|who| *who != self.job.pattern.owner());
        for who in others {
            match self.job.seat(who).said(Word::Told) {
                0 => {
                    row.untold += 1;
                    row.troubles.push(format!("{who:?} was not told of the death of its peer"));
                }
                told => {
                    let took = told.saturating_sub(killed_at) / 1000;
                    row.told.push(took);
                }
            }
        }
    }

    fn finish(&mut self, which: impl Fn(Who) -> bool, row: &mut PatternRow) {
        let (these, rest) = std::mem::take(&mut self.children).into_iter().partition(|(who, _)| which(*who));
        self.children = rest;
        let these: Vec<(Who, Child)> = these;
        for (who, child) in these {
            if let Err(error) = child.finish(self.job.patience) {
                row.untold += 1;
                row.troubles.push(format!("{who:?}: {error}"));
            }
        }
    }

    /// Adds what the processes say at their end.
    fn count(&self, killed: Option<Who>, row: &mut PatternRow) {
        self.count_givers(row);
        self.count_takers(killed, row);
    }

    fn count_givers(&self, row: &mut PatternRow) {
        let job = &self.job;
        let troubled = job.all().into_iter().filter(|who| job.seat(*who).said(Word::Trouble) != 0);
        row.troubles.extend(troubled.map(|who| format!("{who:?} said that something is wrong")));
        for giver in 0..job.givers {
            let seat = job.board.giver(giver);
            row.sent += seat.said(Word::Total).checked_sub(1).unwrap_or_else(|| seat.said(Word::Count));
            row.torn += seat.said(Word::Torn);
            let quantiles =
                [Word::P50, Word::P99, Word::P999].map(|word| Some(seat.said(word)).filter(|ns| *ns > 0));
            // The slowest of them.
            row.rtt_p50_ns = row.rtt_p50_ns.max(quantiles[0]);
            row.rtt_p99_ns = row.rtt_p99_ns.max(quantiles[1]);
            row.rtt_p999_ns = row.rtt_p999_ns.max(quantiles[2]);
        }
    }

    fn count_takers(&self, killed: Option<Who>, row: &mut PatternRow) {
        let job = &self.job;
        for taker in (0..job.takers).filter(|taker| killed != Some(Who::Taker(*taker))) {
            let seat = job.board.taker(taker);
            row.received += seat.said(Word::Received);
            row.bytes += seat.said(Word::Bytes);
            row.duplicated += seat.said(Word::Duplicated);
            row.reordered += seat.said(Word::Reordered);
            row.torn += seat.said(Word::Torn);
            let (lost, missed) = (seat.said(Word::Lost), seat.said(Word::Missed));
            row.missed += missed;
            // What it was told of is not lost; what it was told of in vain is as wrong.
            row.lost += lost.abs_diff(missed);
            if missed > 0 && !job.pattern.is_lossy() {
                row.troubles.push(format!("expected that nobody misses anything, found {missed}"));
            }
            for giver in 0..job.givers {
                let (acknowledged, next) =
                    (job.board.giver(giver).said(Word::Count), seat.said_of(giver, Word::Next));
                let more = u64::from(killed == Some(Who::Giver(giver)));
                if next > acknowledged + more {
                    row.troubles.push(format!(
                        "expected {acknowledged} messages of giver {giver}, or {more} more, found {next}"
                    ));
                }
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates")]
    fn rates(&self, row: &mut PatternRow) {
        let takers = (0..self.job.takers).map(|taker| self.job.board.taker(taker).said(Word::Time));
        let seconds = takers.max().unwrap_or(0) as f64 / 1e9;
        if seconds > 0.0 {
            row.msgs_per_s = (row.received as f64 / seconds).round();
            row.bytes_per_s = (row.bytes as f64 / seconds).round();
        }
    }
}

/// A number below another, of a seed and a place.
fn draw(seed: u64, place: usize, below: usize) -> usize {
    let below = u64::try_from(below).unwrap_or(u64::MAX).max(1);
    usize::try_from((message::word(seed, place) >> 20) % below).unwrap_or(0)
}
