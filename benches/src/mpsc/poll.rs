//! What it costs the consumer to find all of sixteen attached producers silent.

use std::hint::black_box;

use anyhow::ensure;

use crate::board::{Board, Value};
use crate::clock::ticks;
use crate::contender::{Rx, Tx};
use crate::mpsc::contender::{ManyContender, PRODUCERS};
use crate::pair::{self, Mode};
use crate::probe::{self, meet};
use crate::schedule::Plan;

/// Polls between two looks at the clock.
const STRIDE: u64 = 1024;

/// Nanoseconds of an empty poll, after each of the producers was heard once.
///
/// # Errors
/// If a message is not there, or one is that should not be.
pub fn empty<C: ManyContender>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let make = || {
        let (txs, rx) = C::make::<8>(PRODUCERS)?;
        Ok(((txs, rx), ()))
    };
    let side_a = |(mut txs, mut rx): (Vec<C::Tx<8>>, C::Rx<8>)| {
        probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
        let mut buffer = [0; 8];
        for (producer, tx) in txs.iter_mut().enumerate() {
            ensure!(tx.push(&[producer as u64; 8]), "expected room for a message, found none");
        }
        for _ in 0..PRODUCERS {
            ensure!(rx.pop(&mut buffer), "expected a message of each producer, found none");
        }
        let (mut polls, mut found) = (0, false);
        let began = ticks();
        let (warm, mut measured) = (began + plan.warm_ticks, None);
        let took = loop {
            for _ in 0..STRIDE {
                found |= black_box(&mut rx).pop(&mut buffer);
            }
            polls += STRIDE;
            let now = ticks();
            match measured {
                None if now >= warm => measured = Some((now, polls)),
                Some((since, before)) if now >= since + plan.window_ticks => {
                    break plan.scale.ns((now - since) as f64) / (polls - before) as f64;
                }
                _ => {}
            }
        };
        ensure!(!found, "expected no message, found one");
        board.set(Value::Mean, took);
        board.set(Value::Count, polls as f64);
        meet(&board.here_a, &board.here_b);
        probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
        Ok(())
    };
    let side_b = |()| {
        probe::side_b(board);
        meet(&board.here_b, &board.here_a);
        probe::side_b(board);
        Ok(())
    };
    pair::run(mode, board, make, side_a, side_b)
}
