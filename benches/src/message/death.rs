//! What a receiver learns when its sender is killed: when, if at all. And when a killed receiver's successor has its first
//! message.

use std::hint::{black_box, spin_loop};
use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;

use crate::board::{Board, Value};
use crate::clock::{stamp as now, ticks};
use crate::message::contender::{Layer, MessageRx as _};
use crate::message::place::Place;
use crate::message::run::{self, Manner};
use crate::message::stream::{await_one, receive, send};
use crate::pair::Mode;
use crate::probe;
use crate::schedule::Plan;
use crate::stream::blank;

/// Who is not told by then is never told.
pub const NEVER: Duration = Duration::from_secs(5);

/// Between two messages of the sender.
const PACE: Duration = Duration::from_micros(200);
/// The receiver is about to be killed.
const KILLED: u64 = 1;
/// It is, and its successor may begin.
const REPLACED: u64 = 2;
/// Messages before a side is killed.
const BEFORE: u64 = 25;

/// What a large sender has resident.
const LARGE: usize = 1 << 30;

/// Kills the sender and takes the time until the receiver is told; until [`NEVER`] at the most.
///
/// # Errors
/// What a side found wrong, or what the layer said while its sender lived.
pub fn kill<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    kill_within::<L, W>(board, plan, mode, NEVER, 0)
}

/// As [`kill`], of a sender with a gibibyte resident, which the system has to take back.
///
/// # Errors
/// As [`kill`].
pub fn kill_large<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    kill_within::<L, W>(board, plan, mode, NEVER, LARGE)
}

/// As [`kill`], with another limit, of a sender with so many bytes resident.
///
/// # Errors
/// As [`kill`].
pub fn kill_within<L: Layer, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
    never: Duration,
    resident: usize,
) -> anyhow::Result<()> {
    ensure!(mode == Mode::Processes, "expected processes, found {}", mode.name());
    let place = Place::new()?;
    let result = supervise::<L, W>(board, plan, &place, never, resident);
    Manner::of_layer::<L>().end(board, &place);
    result
}

fn supervise<L: Layer, const W: usize>(
    board: &Board,
    plan: &Plan,
    place: &Place,
    never: Duration,
    resident: usize,
) -> anyhow::Result<()> {
    // Of the two sides, one is killed; who kills it is the other that must finish.
    let [sender, receiver] = run::start(
        board,
        &mut || {
            probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
            // Nobody is left to probe with afterwards.
            board.set(Value::LineAfter, board.get(Value::LineBefore));
            board.set(Value::FloorAfter, board.get(Value::FloorBefore));
            // Written, so that it is there.
            let ballast = black_box(vec![1_u8; resident]);
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            let mut buffer = blank();
            for number in 0.. {
                send(&mut tx, &mut buffer, number)?;
                sleep(PACE);
            }
            drop(ballast);
            Ok(())
        },
        &mut || {
            probe::side_b(board);
            let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
            let mut buffer = blank();
            for number in 0..BEFORE {
                let (found, torn) = await_one(&mut rx, &mut buffer)?;
                ensure!(torn == 0 && found == number, "expected message {number}, found {found}");
            }
            board.done();
            // An error is how most say it.
            while let Ok(come) = receive(&mut rx, &mut buffer) {
                if come.is_none() && rx.is_sender_gone()? {
                    break;
                }
                spin_loop();
            }
            board.set(Value::Noted, ticks() as f64);
            Ok(())
        },
    )?;
    let ready = await_ready(board);
    let killed = now();
    run::kill(&sender)?;
    let told = ready && run::await_one(&receiver, never)?;
    if !told {
        run::kill(&receiver)?;
    }
    if board.failure().is_some() {
        // Whoever ordered the sample reads it there.
        return Ok(());
    }
    ensure!(ready, "expected {BEFORE} messages before the death, found fewer");
    note(board, plan, told, killed)?;
    if !told {
        board.finish();
    }
    board.finish();
    Ok(())
}

/// Kills the receiver of a stream, and takes the time until another one, which stands by, has opened the same end and
/// received something from the same sender; until [`NEVER`] at the most.
///
/// # Errors
/// What a side found wrong, or what the layer said while both lived.
pub fn succeed<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    ensure!(mode == Mode::Processes, "expected processes, found {}", mode.name());
    let place = Place::new()?;
    let result = replace::<L, W>(board, plan, &place);
    Manner::of_layer::<L>().end(board, &place);
    result
}

fn replace<L: Layer, const W: usize>(board: &Board, plan: &Plan, place: &Place) -> anyhow::Result<()> {
    let [sender, receiver] = run::start(
        board,
        &mut || {
            probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
            // Nobody is left to probe with afterwards.
            board.set(Value::LineAfter, board.get(Value::LineBefore));
            board.set(Value::FloorAfter, board.get(Value::FloorBefore));
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            let (mut buffer, mut number) = (blank(), 0);
            while !board.stopped() {
                match send(&mut tx, &mut buffer, number) {
                    Ok(()) => number += 1,
                    // Nobody is there: the next one may be.
                    Err(_) if board.phase() >= KILLED => spin_loop(),
                    Err(error) => return Err(error),
                }
            }
            board.done();
            Ok(())
        },
        &mut || {
            probe::side_b(board);
            let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
            let mut buffer = blank();
            for number in 0.. {
                let (found, torn) = await_one(&mut rx, &mut buffer)?;
                ensure!(torn == 0 && found == number, "expected message {number}, found {found}");
                if number == BEFORE {
                    board.done();
                }
            }
            Ok(())
        },
    )?;
    let successor = run::stand_by(board, REPLACED, &mut || {
        let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
        let (_, torn) = await_one(&mut rx, &mut blank())?;
        board.set(Value::Noted, ticks() as f64);
        board.stop();
        ensure!(torn == 0, "expected a whole message after the death, found another");
        // What the sender is in the middle of needs room.
        while !board.all_done(2) && receive(&mut rx, &mut blank()).is_ok() {}
        Ok(())
    })?;
    let ready = await_ready(board);
    let killed = now();
    // In this order: a sender that is told of the death knows that it is meant.
    board.set_phase(KILLED);
    run::kill(&receiver)?;
    board.set_phase(REPLACED);
    let received = ready && run::await_one(&successor, NEVER)?;
    let ended = received && run::await_one(&sender, NEVER)?;
    if !received {
        run::kill(&successor)?;
    }
    if !ended {
        run::kill(&sender)?;
    }
    if board.failure().is_some() {
        // Whoever ordered the sample reads it there.
        return Ok(());
    }
    ensure!(ready, "expected {BEFORE} messages before the death, found fewer");
    ensure!(ended || !received, "expected the sender to end within {NEVER:?}, killed it");
    note(board, plan, received, killed)?;
    if !received {
        // Those that were killed.
        board.finish();
        board.finish();
    }
    Ok(())
}

/// Notes whether it came to what was waited for, and how long after the death.
fn note(board: &Board, plan: &Plan, told: bool, killed: u64) -> anyhow::Result<()> {
    board.set(Value::Count, 1.0);
    board.set(Value::Told, if told { 1.0 } else { -1.0 });
    if told {
        let noted = board.get(Value::Noted);
        ensure!(noted > killed as f64, "expected it after the death, found it before");
        let took = plan.scale.ns(noted - killed as f64);
        [Value::Mean, Value::P50, Value::Max].into_iter().for_each(|value| board.set(value, took));
    }
    Ok(())
}

/// Waits until the receiver has had its messages; false if it never does.
fn await_ready(board: &Board) -> bool {
    for _ in 0..100_000 {
        if board.is_done() {
            return true;
        }
        if board.failure().is_some() {
            return false;
        }
        sleep(Duration::from_micros(100));
    }
    false
}
