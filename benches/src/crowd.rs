//! Runs a sample with many sides of one kind and one of another: producers and their consumer, readers and their
//! writer.
//!
//! - The one side runs in the process (or on the thread) that ordered the sample; each of the many has its own.
//! - Where there is one of the many, the two are pinned to their cores as in a [pair]. Where there are
//!   more, nobody is pinned: more sides than cores is the case that is measured, and who runs where is the kernel's
//!   business. That a side is without a core is then no disturbance, but that all together had less than the cores
//!   there are is one: somebody wants to run at any time, so something else ran. The share that decides whether a
//!   sample counts is that of all sides together. It cannot tell for queues and locks that sleep: of those, with more
//!   sides than two, only the probes decide.
//! - The round trip of a line is probed before the many start and after they have ended, between the two pinned
//!   cores, with nobody else there.
//! - Whoever waits looks [`LOOKS`] times and then yields its core, again and again.

use std::hint::spin_loop;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::thread::yield_now;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::getpid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::board::{Board, Value};
use crate::clock::Scale;
use crate::heap;
use crate::pair::{self, Cores, Had, Mode, Side};
use crate::probe;

/// Looks before a waiting side yields.
pub const LOOKS: u32 = 64;

/// How a side waits: it looks, and yields now and then.
#[derive(Debug, Default)]
pub struct Patience {
    looks: u32,
}

impl Patience {
    /// There was nothing.
    #[inline(always)]
    pub fn wait(&mut self) {
        self.looks += 1;
        if self.looks < LOOKS {
            spin_loop();
        } else {
            self.looks = 0;
            yield_now();
        }
    }

    /// There was something.
    #[inline(always)]
    pub fn reset(&mut self) {
        self.looks = 0;
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// How many sides of the first kind there are.
    pub many: usize,
    /// The clock of the probes; none if there shall be no probes.
    pub scale: Option<Scale>,
}

/// Meets all sides: nobody goes on before everybody is here.
fn gather(board: &Board, sides: usize, turn: u64) {
    // ORD gather: AcqRel <-> `gather`; what each side did before is known to all afterwards.
    board.arrived.0.fetch_add(1, Ordering::AcqRel);
    let mut patience = Patience::default();
    // ORD gather: Acquire <- `gather`.
    while board.arrived.0.load(Ordering::Acquire) < sides as u64 * turn {
        patience.wait();
    }
}

/// A side between the two meetings that all sides have, with what it had of the cores.
fn attend(board: &Board, sides: usize, side: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Had> {
    heap::prefault()?;
    gather(board, sides, 1);
    let had = pair::attend(side)?;
    board.add(Value::Cores, had.ran);
    gather(board, sides, 2);
    Ok(had)
}

/// Notes that a side has ended, and what it had of its core if it had one.
fn note(board: &Board, share: Value, pinned: bool, had: Had) {
    if pinned {
        board.set(share, had.ran);
        board.raise(Value::Waited, had.waited);
    }
    board.finish();
}

/// Probes between this side, on the second core, and a helper on the first.
fn probe(
    mode: Mode,
    board: &Board,
    cores: Cores,
    scale: &Scale,
    line: Value,
    floor: Value,
) -> anyhow::Result<()> {
    let helper = || {
        pair::pin(cores.a)?;
        probe::side_a(board, scale, line, floor);
        Ok(())
    };
    pair::pin(cores.b)?;
    match mode {
        Mode::Processes => {
            let child = pair::fork(board, helper)?;
            probe::side_b(board);
            pair::await_child(&child, Duration::from_secs(5))?;
        }
        Mode::Threads => std::thread::scope(|scope| {
            scope.spawn(|| pair::exit_if_failed(board, &helper()));
            probe::side_b(board);
        }),
    }
    Ok(())
}

/// Makes the ends for all sides, and runs each side with its end. Called in a sample's process, once.
///
/// # Errors
/// What `make` or a side said.
pub fn run<X: Send, Y>(
    mode: Mode,
    board: &Board,
    crowd: Crowd,
    make: impl FnOnce(usize) -> anyhow::Result<(Vec<X>, Y)>,
    many: impl Fn(usize, X) -> anyhow::Result<()> + Sync,
    one: impl FnOnce(Y) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if mode == Mode::Processes {
        heap::share()?;
    }
    let (xs, y) = make(crowd.many)?;
    ensure!(xs.len() == crowd.many, "expected {} ends for as many sides, found {}", crowd.many, xs.len());
    // Where a fork takes one of these, what stays here must not be dropped: that would close the child's end.
    let xs: ManuallyDrop<Vec<_>> = ManuallyDrop::new(xs.into_iter().map(|x| Mutex::new(Some(x))).collect());
    let run_many = |index: usize| {
        let x = xs.get(index).and_then(|x| x.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(x) = x else { bail!("expected to run side {index} once") };
        many(index, x)
    };
    let mut one = Some((one, y));
    let mut run_one = || {
        let Some((one, y)) = one.take() else { bail!("expected to run the one side once") };
        one(y)
    };
    all(mode, board, crowd, &run_many, &mut run_one)
}

/// Runs all sides; one copy of this serves all contenders.
fn all(
    mode: Mode,
    board: &Board,
    crowd: Crowd,
    many: &(dyn Fn(usize) -> anyhow::Result<()> + Sync),
    one: Side<'_>,
) -> anyhow::Result<()> {
    let cores = Cores::first_two()?;
    let anywhere = sched_getaffinity(None).context("ask for the allowed cores")?;
    let (pinned, sides) = (crowd.many == 1, crowd.many + 1);
    board.expect(sides);
    if let Some(scale) = &crowd.scale {
        probe(mode, board, cores, scale, Value::LineBefore, Value::FloorBefore)?;
    }
    if pinned {
        pair::pin(cores.b)?;
    } else {
        sched_setaffinity(None, &anywhere).context("allow all cores again")?;
    }
    let run_many = |index: usize| {
        if pinned {
            pair::pin(cores.a)?;
        }
        let had = attend(board, sides, || many(index))?;
        note(board, Value::ShareA, pinned, had);
        Ok(())
    };
    let run_one = || {
        let had = attend(board, sides, one)?;
        note(board, Value::ShareB, pinned, had);
        Ok(())
    };
    match mode {
        Mode::Processes => {
            let (parent, mut children) = (getpid(), Vec::new());
            for index in 0..crowd.many {
                let child = || pair::end_sample_if_failed(board, parent, run_many(index));
                children.push(pair::fork(board, child)?);
            }
            let result = run_one();
            // The order for the sample sets the time limit; a side that failed leaves the others waiting.
            let patience = if result.is_ok() { Duration::from_secs(30) } else { Duration::ZERO };
            for child in &children {
                pair::await_child(child, patience)?;
            }
            result?;
        }
        Mode::Threads => std::thread::scope(|scope| {
            let run_many = &run_many;
            for index in 0..crowd.many {
                scope.spawn(move || pair::exit_if_failed(board, &run_many(index)));
            }
            pair::exit_if_failed(board, &run_one());
        }),
    }
    if !pinned {
        let there_are = sides.min(anywhere.count() as usize);
        let share = board.get(Value::Cores) / there_are as f64;
        board.set(Value::ShareA, share);
        board.set(Value::ShareB, share);
    }
    match &crowd.scale {
        Some(scale) => probe(mode, board, cores, scale, Value::LineAfter, Value::FloorAfter),
        None => Ok(()),
    }
}
