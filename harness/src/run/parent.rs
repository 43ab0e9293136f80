//! The parent of a row: starts its children, watches them, and brings back what they say or what became of them.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tidewire_shm::Segment;

use super::child::variable;
use super::control::{self, Control};
use super::interrupt;
use super::plan::{self, Plan};
use super::recorded::{self, Books};
use super::side::Outcome;
use crate::history::Judgement;
use crate::subject::Role;

/// How often the parent looks whether its children move, at the least.
const TICK: Duration = Duration::from_millis(100);
/// How often it looks whether a child that has closed its outputs is gone.
const SOON: Duration = Duration::from_millis(1);
/// What is kept of the words of a child.
const MOST_SAID: usize = 1 << 16;
/// Lines of them that a report repeats.
const LINES: usize = 5;

/// How a row ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// All sides came to their end and said so.
    Told(Outcomes),
    /// One did not; what is wrong, and how many messages had been sent and received.
    Trouble { what: String, counts: [u64; 2] },
}

/// What all sides have to say.
#[derive(Debug)]
pub(crate) struct Outcomes {
    pub(crate) producers: Vec<Outcome>,
    pub(crate) consumer: Outcome,
}

/// A row that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) ending: Ending,
    /// What the histories come to.
    pub(crate) histories: Vec<Judgement>,
}

/// A child and what it said so far.
#[derive(Debug)]
struct Peer {
    role: Role,
    child: Child,
    said: Vec<u8>,
    complained: Vec<u8>,
    status: Option<ExitStatus>,
    beats: u64,
    count: u64,
    /// How long it has given no sign of life.
    still: Duration,
    /// How long it has dealt with no message, and recorded none.
    vain: Duration,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.status.is_none() {
            // It may be gone already: then there is nothing to kill, and the wait finds it.
            let _gone = self.child.kill();
            let _status = self.child.wait();
        }
    }
}

/// Runs a row: `files` are what the producer reads and what the consumer writes, for rows that have any.
pub(crate) fn run(
    plan: &Plan,
    files: Option<[&File; 2]>,
    patience: Duration,
    tick: &mut dyn FnMut(),
) -> Result<Ended> {
    let structure = plan::structure(&plan.structure)?;
    let mut segments = Vec::new();
    for _ in 0..plan.mode.segments() {
        let segment = Segment::anonymous(structure.bytes(plan)?)?;
        structure.create(plan, segment.region())?;
        segments.push(segment);
    }
    let shared = Segment::anonymous(control::bytes(plan.producers))?;
    let control = Control::new(&shared, plan.producers)?;
    let books = Books::new(plan)?;
    let text = serde_json::to_string(plan)?;
    let mut peers = Vec::new();
    for role in Role::all(plan.producers) {
        let file = files.map(|[read, written]| if role == Role::Consumer { written } else { read });
        let mut command = command(role, &text, file)?;
        shared.inherit(&mut command, control::VARIABLE)?;
        for (number, segment) in segments.iter().enumerate() {
            segment.inherit(&mut command, variable(number))?;
        }
        for (number, book) in books.segments().enumerate() {
            book.inherit(&mut command, recorded::variable(number))?;
        }
        let child = command.spawn().with_context(|| format!("starting the {role}"))?;
        peers.push(Peer::new(role, child));
    }
    let what = watch(&mut peers, &control, patience, tick)?;
    let sent = (0..plan.producers).map(|number| control.count(Role::Producer(number))).sum();
    let counts = [sent, control.count(Role::Consumer)];
    let ending = match what {
        Some(what) => Ending::Trouble { what, counts },
        None => told(&peers).unwrap_or_else(|what| Ending::Trouble { what, counts }),
    };
    // All sides are gone before the books are read.
    drop(peers);
    let whole = matches!(ending, Ending::Told(_));
    Ok(Ended { ending, histories: books.judge(plan, structure, whole)? })
}

fn command(role: Role, plan: &str, file: Option<&File>) -> Result<Command> {
    let input = match file {
        Some(file) => Stdio::from(file.try_clone().context("handing a file to a child")?),
        None => Stdio::null(),
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("tidewire-harness").args(["child", "--role", &role.to_string(), "--plan", plan]);
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Waits until all are gone, or one is in trouble: then says what it is.
fn watch(
    peers: &mut [Peer],
    control: &Control,
    patience: Duration,
    tick: &mut dyn FnMut(),
) -> Result<Option<String>> {
    loop {
        interrupt::check()?;
        let began = Instant::now();
        listen(peers)?;
        for peer in peers.iter_mut() {
            peer.look()?;
            if let Some(status) = peer.status.filter(|status| !status.success()) {
                return Ok(Some(peer.report(&ended(status), control)));
            }
        }
        if peers.iter().all(|peer| peer.status.is_some()) {
            return Ok(None);
        }
        // A parent that was stopped itself must not blame its children: no look counts for more than two ticks.
        let passed = began.elapsed().min(2 * TICK);
        if let Some(what) = stuck(peers, control, passed, patience) {
            return Ok(Some(what));
        }
        tick();
    }
}

/// Takes what the children say; returns when there is something, or after a tick.
fn listen(peers: &mut [Peer]) -> Result<()> {
    let closing = peers.iter().any(|peer| peer.status.is_none() && peer.is_silent());
    let timeout = (if closing { SOON } else { TICK }).try_into()?;
    let mut fds: Vec<PollFd<'_>> =
        peers.iter().flat_map(Peer::outputs).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(()),
        Err(error) => return Err(error).context("waiting for the children"),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut ready = ready.into_iter();
    for peer in peers.iter_mut() {
        let Peer { child, said, complained, .. } = peer;
        take(&mut child.stdout, said, &mut ready)?;
        take(&mut child.stderr, complained, &mut ready)?;
    }
    Ok(())
}

/// Reads once from an output that is ready, and drops one that is closed.
fn take<R: Read>(
    from: &mut Option<R>,
    to: &mut Vec<u8>,
    ready: &mut impl Iterator<Item = bool>,
) -> Result<()> {
    let Some(pipe) = from else { return Ok(()) };
    if ready.next() != Some(true) {
        return Ok(());
    }
    let mut some = [0; 4096];
    let n = pipe.read(&mut some).context("reading what a child says")?;
    to.extend_from_slice(some.split_at(n).0);
    if let Some(excess) = to.len().checked_sub(MOST_SAID) {
        to.drain(..excess);
    }
    if n == 0 {
        *from = None;
    }
    Ok(())
}

/// Who has not moved for too long, if anybody.
fn stuck(peers: &mut [Peer], control: &Control, passed: Duration, patience: Duration) -> Option<String> {
    for peer in peers.iter_mut() {
        let beats = control.beats(peer.role);
        let count = control.count(peer.role) + control.recorded(peer.role);
        peer.still = if beats == peer.beats { peer.still + passed } else { Duration::ZERO };
        peer.vain = if count == peer.count { peer.vain + passed } else { Duration::ZERO };
        (peer.beats, peer.count) = (beats, count);
    }
    let running = || peers.iter().filter(|peer| peer.status.is_none());
    if let Some(hung) = running().find(|peer| peer.still >= patience) {
        let state = hung.state().map(|state| format!(" and is {state}")).unwrap_or_default();
        return Some(
            hung.report(&format!("has not moved for {:.1} s{state}", hung.still.as_secs_f64()), control),
        );
    }
    // Alive, yet nothing gets through: each waits for the other, or for one that has ended.
    let waiting = running().find(|peer| peer.vain >= 2 * patience)?;
    let alone = running().all(|peer| peer.vain >= 2 * patience);
    alone.then(|| waiting.report(&format!("waits in vain for {:.1} s", waiting.vain.as_secs_f64()), control))
}

/// What all said, if it can be understood.
fn told(peers: &[Peer]) -> Result<Ending, String> {
    let mut outcomes = Vec::new();
    for peer in peers {
        let said = String::from_utf8_lossy(&peer.said);
        let outcome: Outcome = serde_json::from_str(said.trim()).map_err(|error| {
            format!(
                "the {} ended well, but its result cannot be read ({error}): {:?}",
                peer.role,
                said.trim()
            )
        })?;
        outcomes.push(outcome);
    }
    let consumer = outcomes.pop().ok_or("expected a result of the consumer, found none")?;
    Ok(Ending::Told(Outcomes { producers: outcomes, consumer }))
}

impl Peer {
    fn new(role: Role, child: Child) -> Self {
        Self {
            role,
            child,
            said: Vec::new(),
            complained: Vec::new(),
            status: None,
            beats: 0,
            count: 0,
            still: Duration::ZERO,
            vain: Duration::ZERO,
        }
    }

    fn outputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let out = self.child.stdout.as_ref().map(AsFd::as_fd);
        let err = self.child.stderr.as_ref().map(AsFd::as_fd);
        out.into_iter().chain(err)
    }

    /// Whether it has closed both outputs, as a process does when it ends.
    fn is_silent(&self) -> bool {
        self.outputs().next().is_none()
    }

    /// Looks whether it is gone, once it says no more.
    fn look(&mut self) -> Result<()> {
        if self.status.is_none() && self.is_silent() {
            self.status = self.child.try_wait().context("waiting for a child")?;
        }
        Ok(())
    }

    /// What the system says it is doing.
    fn state(&self) -> Option<&'static str> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        match fields.trim_start().chars().next()? {
            'T' | 't' => Some("stopped"),
            'R' => Some("running"),
            'S' => Some("asleep"),
            'D' => Some("waiting for a device"),
            'Z' | 'X' => Some("dead"),
            _ => None,
        }
    }

    /// What is wrong with it, how far it came, and what it said.
    fn report(&self, what: &str, control: &Control) -> String {
        let name = self.role;
        let (count, step) = (control.count(self.role), control.step(self.role));
        let progress = match step {
            0 => "before it was ready".to_owned(),
            1 => "before its first message".to_owned(),
            _ => format!("after at least {count} messages"),
        };
        let complained = String::from_utf8_lossy(&self.complained);
        let lines: Vec<_> = complained.lines().collect();
        let last = lines.split_at(lines.len().saturating_sub(LINES)).1;
        let said = if last.is_empty() {
            "it said nothing".to_owned()
        } else {
            format!("it said: {}", last.join(" | "))
        };
        format!("the {name} (process {}) {what}, {progress}; {said}", self.child.id())
    }
}

/// How a process ended, in words.
fn ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal} ({})", interrupt::name(signal)),
        (None, Some(code)) => format!("ended with exit status {code}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}
