//! What a receiver learns when its sender is killed: when, if at all.

use std::hint::spin_loop;
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
/// Messages before the sender is killed.
const BEFORE: u64 = 25;

/// Kills the sender and takes the time until the receiver is told; until [`NEVER`] at the most.
///
/// # Errors
/// What a side found wrong, or what the layer said while its sender lived.
pub fn kill<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    kill_within::<L, W>(board, plan, mode, NEVER)
}

/// As [`kill`], with another limit.
///
/// # Errors
/// As [`kill`].
pub fn kill_within<L: Layer, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
    never: Duration,
) -> anyhow::Result<()> {
    ensure!(mode == Mode::Processes, "expected processes, found {}", mode.name());
    let place = Place::new()?;
    let result = supervise::<L, W>(board, plan, &place, never);
    Manner::of_layer::<L>().end(board, &place);
    result
}

fn supervise<L: Layer, const W: usize>(
    board: &Board,
    plan: &Plan,
    place: &Place,
    never: Duration,
) -> anyhow::Result<()> {
    // Of the two sides, one is killed; who kills it is the other that must finish.
    let [sender, receiver] = run::start(
        board,
        &mut || {
            probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
            // Nobody is left to probe with afterwards.
            board.set(Value::LineAfter, board.get(Value::LineBefore));
            board.set(Value::FloorAfter, board.get(Value::FloorBefore));
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            let mut buffer = blank();
            for number in 0.. {
                send(&mut tx, &mut buffer, number)?;
                sleep(PACE);
            }
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
    if told {
        let noted = board.get(Value::Noted);
        ensure!(noted > killed as f64, "expected to be told after the death, found before");
        let took = plan.scale.ns(noted - killed as f64);
        [Value::Mean, Value::P50, Value::Max].into_iter().for_each(|value| board.set(value, took));
        board.set(Value::Told, 1.0);
    } else {
        board.set(Value::Told, -1.0);
        board.finish();
    }
    board.set(Value::Count, 1.0);
    board.finish();
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
