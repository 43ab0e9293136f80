//! Runs the two processes of a sample of a message layer, and clears up behind them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::board::{Board, Value};
use crate::crowd::Patience;
use crate::message::contender::{Layer, Requests};
use crate::message::place::Place;
use crate::pair::{self, Cores, Mode, Side};

/// Longer than any sample, and shorter than the patience of whoever ordered it: who is killed clears nothing up.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a sample must know of its layer.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    clean: fn(&Place),
    threads: bool,
}

impl Manner {
    /// That of a layer.
    #[must_use]
    pub fn of_layer<L: Layer>() -> Self {
        Self { clean: L::clean, threads: L::THREADS }
    }

    /// That of one with requests and replies.
    #[must_use]
    pub fn of_requests<Q: Requests>() -> Self {
        Self { clean: Q::clean, threads: Q::THREADS }
    }

    /// Clears up behind a sample.
    pub(crate) fn end(self, board: &Board, place: &Place) {
        (self.clean)(place);
        if self.threads {
            board.set(Value::Waited, 0.0);
        }
    }
}

/// Runs both sides, each in a process of its own that is pinned to its core. Called in a sample's process, once.
///
/// # Errors
/// What a side said, or that it died, or took too long.
pub fn both(
    board: &Board,
    mode: Mode,
    manner: Manner,
    side_a: impl FnOnce(&Place) -> anyhow::Result<()>,
    side_b: impl FnOnce(&Place) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    ensure!(mode == Mode::Processes, "expected processes, found {}", mode.name());
    let place = Place::new()?;
    let (mut a, mut b) = (Some(side_a), Some(side_b));
    let result = start(board, &mut || a.take().map_or(Ok(()), |side| side(&place)), &mut || {
        b.take().map_or(Ok(()), |side| side(&place))
    })
    .and_then(|children| await_all(board, children.iter().collect(), PATIENCE));
    manner.end(board, &place);
    result
}

/// Starts both sides; one copy of this serves all contenders.
pub(crate) fn start(board: &Board, side_a: Side<'_>, side_b: Side<'_>) -> anyhow::Result<[OwnedFd; 2]> {
    let cores = Cores::first_two()?;
    let a = pair::fork(board, || {
        pair::pin(cores.a)?;
        pair::attended(board, Value::ShareA, side_a)
    })?;
    let b = pair::fork(board, || {
        pair::pin(cores.b)?;
        pair::attended(board, Value::ShareB, side_b)
    })?;
    Ok([a, b])
}

/// Starts another side B, which begins with a part of the sample.
pub(crate) fn stand_by(board: &Board, phase: u64, side: Side<'_>) -> anyhow::Result<OwnedFd> {
    let cores = Cores::first_two()?;
    pair::fork(board, || {
        pair::pin(cores.b)?;
        let mut patience = Patience::default();
        while board.phase() < phase {
            patience.wait();
        }
        pair::attended(board, Value::ShareB, side)
    })
}

/// Which of these processes have ended, once one has or the time is over.
fn ended(children: &[&OwnedFd], patience: Duration) -> anyhow::Result<Vec<bool>> {
    let mut fds: Vec<_> = children.iter().map(|child| PollFd::new(*child, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(patience).context("convert the patience")?;
    match poll(&mut fds, Some(&timeout)) {
        Err(rustix::io::Errno::INTR) => {}
        result => drop(result.context("wait for the sides")?),
    }
    Ok(fds.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect())
}

/// Ends a process and waits for it.
pub(crate) fn kill(child: &OwnedFd) -> anyhow::Result<()> {
    pidfd_send_signal(child, Signal::KILL).context("kill a side")?;
    waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED).context("wait for a killed side")?;
    Ok(())
}

/// Waits for all; the first that fails ends the others, for they may wait for it for ever.
fn await_all(board: &Board, mut children: Vec<&OwnedFd>, patience: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    while !children.is_empty() {
        let ended = ended(&children, until.saturating_duration_since(Instant::now()))?;
        for (child, _) in children.iter().zip(&ended).filter(|(_, ended)| **ended) {
            let status = waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
            if let Some(signal) =
                status.context("wait for a side")?.and_then(|status| status.terminating_signal())
            {
                board.fail(&format!("expected each side to finish, found one ended by signal {signal}"));
            }
        }
        let mut gone = ended.iter();
        children.retain(|_| !gone.next().copied().unwrap_or(false));
        if Instant::now() >= until && !children.is_empty() {
            board.fail(&format!("expected both sides to end within {patience:?}, killed them"));
        }
        if board.failure().is_some() {
            for child in children.drain(..) {
                kill(child)?;
            }
        }
    }
    Ok(())
}

/// Notes a side's failure while its ends are still there: the other side would otherwise be the first to complain,
/// of their loss.
pub(crate) fn noted<T>(board: &Board, result: anyhow::Result<T>) -> anyhow::Result<T> {
    result.inspect_err(|error| board.fail(&format!("{error:#}")))
}

/// Waits for one process; false if it is still there when the time is over.
pub(crate) fn await_one(child: &OwnedFd, patience: Duration) -> anyhow::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if ended(&[child], left)?.contains(&true) {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}
