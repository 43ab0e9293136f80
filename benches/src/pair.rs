//! Runs the two sides of a sample: a process for the sample, and in it a fork or a thread for side B.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process, pidfd_open,
    pidfd_send_signal, set_parent_process_death_signal, waitid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::board::{Board, SharedBoard, Value};
use crate::heap;

/// What the two sides are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Two processes: one forked the other.
    Processes,
    /// Two threads of one process.
    Threads,
}

/// Between what a contender can run: both.
pub const EVERYWHERE: &[Mode] = &[Mode::Processes, Mode::Threads];
/// It is made for processes.
pub const PROCESSES: &[Mode] = &[Mode::Processes];
/// Its locks, lists or allocations are not shared by a fork.
pub const THREADS: &[Mode] = &[Mode::Threads];

impl Mode {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Threads => "threads",
        }
    }
}

/// The cores of side A and side B.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    pub(crate) a: usize,
    pub(crate) b: usize,
}

impl Cores {
    /// The first two cores that this process may use.
    ///
    /// # Errors
    /// If there are fewer than two.
    pub fn first_two() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("ask for the allowed cores")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(a), Some(b)) => Ok(Self { a, b }),
            _ => bail!("expected at least two cores to run on, found {}", allowed.count()),
        }
    }
}

pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("pin to core {core}"))
}

/// Forks; the child runs `child` and ends, whatever happens in it.
pub(crate) fn fork(board: &Board, child: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<OwnedFd> {
    // The child owns what it captures: dropping it here, too, would close the child's end of a queue.
    let child = ManuallyDrop::new(child);
    // SAFETY: the child runs with the one thread that forked. Where other threads exist (tests), the C library
    // keeps its allocator usable in the child, and nothing else that they could hold is used there.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A child must not outlive whoever waits for it.
        let dies = set_parent_process_death_signal(Some(Signal::KILL));
        match catch_unwind(AssertUnwindSafe(|| {
            dies.map_err(anyhow::Error::from).and_then(|()| ManuallyDrop::into_inner(child)())
        })) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => board.fail(&format!("{error:#}")),
            Err(_) => board.fail("a side panicked"),
        }
        // SAFETY: ends the child without running what belongs to its parent.
        unsafe { libc::_exit(0) };
    }
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).context("fork")?;
    pidfd_open(pid, PidfdFlags::empty()).context("open the child's descriptor")
}

/// Waits for a child, and for no other's; kills it if it takes too long. True if it ended by itself.
pub(crate) fn await_child(child: &OwnedFd, patience: Duration) -> anyhow::Result<bool> {
    let timeout = Timespec::try_from(patience).context("convert the patience")?;
    let ended = loop {
        match poll(&mut [PollFd::new(child, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result.context("wait for a child")? > 0,
        }
    };
    if !ended {
        pidfd_send_signal(child, Signal::KILL).context("kill a child that takes too long")?;
    }
    loop {
        match waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(|_status| ended).context("reap a child"),
        }
    }
}

/// Runs a sample in a process of its own and returns its board.
///
/// # Errors
/// What the sample said; or that a side panicked, died, or took longer than `patience`.
pub fn sample(
    patience: Duration,
    body: impl FnOnce(&Board) -> anyhow::Result<()>,
) -> anyhow::Result<SharedBoard> {
    let board = SharedBoard::new()?;
    let child = fork(&board, || body(&board))?;
    let ended = await_child(&child, patience)?;
    if let Some(reason) = board.failure() {
        bail!(reason);
    }
    if !ended {
        bail!("expected the sample to end within {patience:?}, killed it");
    }
    if !board.is_finished() {
        bail!("expected every side to finish, found that one died");
    }
    Ok(board)
}

/// What a side had of the time: which share of it on a core, and which share waiting for one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Had {
    pub(crate) ran: f64,
    pub(crate) waited: f64,
}

/// How long this thread has waited for a core so far, where the system tells.
fn waited() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

/// Runs a side and says what it had of the time.
pub(crate) fn attend(side: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Had> {
    let used = || {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(used).unwrap_or_default()
    };
    let (began, before, waited_before) = (Instant::now(), used(), waited());
    side()?;
    let took = began.elapsed().as_secs_f64();
    let waited = waited().saturating_sub(waited_before);
    Ok(Had { ran: (used() - before).as_secs_f64() / took, waited: waited.as_secs_f64() / took })
}

/// Runs a side on its core and notes what it had of the time.
pub(crate) fn attended(
    board: &Board,
    share: Value,
    side: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let had = attend(side)?;
    board.set(share, had.ran);
    board.raise(Value::Waited, had.waited);
    board.finish();
    Ok(())
}

/// Makes two ends and runs side A with one and side B with the other, each on its core. Called in a sample's
/// process, once.
///
/// # Errors
/// What `make` or a side said.
pub fn run<X, Y: Send>(
    mode: Mode,
    board: &Board,
    make: impl FnOnce() -> anyhow::Result<(X, Y)>,
    side_a: impl FnOnce(X) -> anyhow::Result<()>,
    side_b: impl FnOnce(Y) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let cores = Cores::first_two()?;
    if mode == Mode::Processes {
        heap::share()?;
    }
    pin(cores.a)?;
    let (x, y) = make()?;
    let mut a = Some((side_a, x));
    // Where a fork takes this, what stays here must not be dropped: that would close the child's end of a queue.
    let mut b = ManuallyDrop::new(Some((side_b, y)));
    let mut run_a = || {
        heap::prefault()?;
        let Some((side_a, x)) = a.take() else { bail!("expected to run side A once") };
        attended(board, Value::ShareA, || side_a(x))
    };
    let mut run_b = || {
        pin(cores.b)?;
        heap::prefault()?;
        let Some((side_b, y)) = b.take() else { bail!("expected to run side B once") };
        attended(board, Value::ShareB, || side_b(y))
    };
    both(mode, board, &mut run_a, &mut run_b)
}

/// A side with its end inside.
pub(crate) type Side<'s> = &'s mut dyn FnMut() -> anyhow::Result<()>;
/// A side that can run on a thread of its own.
pub(crate) type SendSide<'s> = &'s mut (dyn FnMut() -> anyhow::Result<()> + Send);

/// Runs both sides; one copy of this serves all contenders.
fn both(mode: Mode, board: &Board, side_a: Side<'_>, side_b: SendSide<'_>) -> anyhow::Result<()> {
    match mode {
        Mode::Processes => {
            let parent = getpid();
            let child = fork(board, || end_sample_if_failed(board, parent, side_b()))?;
            let result = side_a();
            // The order for the sample sets the time limit; a side that failed leaves the other waiting.
            let patience = if result.is_ok() { Duration::from_secs(30) } else { Duration::ZERO };
            await_child(&child, patience)?;
            result
        }
        Mode::Threads => std::thread::scope(|scope| {
            scope.spawn(|| exit_if_failed(board, &side_b()));
            let result = side_a();
            exit_if_failed(board, &result);
            result
        }),
    }
}

/// Ends the sample from a forked side that failed: the others may wait for it for ever.
pub(crate) fn end_sample_if_failed(
    board: &Board,
    parent: Pid,
    result: anyhow::Result<()>,
) -> anyhow::Result<()> {
    if let Err(error) = &result {
        board.fail(&format!("{error:#}"));
        if getppid() == Some(parent) {
            kill_process(parent, Signal::KILL).context("end the sample")?;
        }
    }
    result
}

/// The same from a thread.
pub(crate) fn exit_if_failed(board: &Board, result: &anyhow::Result<()>) {
    if let Err(error) = result {
        board.fail(&format!("{error:#}"));
        // SAFETY: ends this process, which is the sample's own.
        unsafe { libc::_exit(0) };
    }
}
