//! Messages per second from many producers, one at a time and in batches.
//!
//! As in [`crate::stream`], with these differences. A message carries the number of its producer and its own number
//! among those of that producer, in its first and in its last word; the consumer compares both with what it expects
//! of that producer next. Both sides wait as in a [crowd].

use std::hint::black_box;

use anyhow::bail;

use crate::board::{Board, Value};
use crate::contender::{Rx, Tx};
use crate::crowd::{self, Crowd, Patience};
use crate::mpsc::contender::{BATCH, ManyContender, PRODUCERS, TURN};
use crate::pair::Mode;
use crate::schedule::Plan;
use crate::stream::{STRIDE, Source, Window, blank, stamp};

/// Bits of a message's number; the producer's lies above.
const NUMBER_BITS: u32 = 48;

#[inline(always)]
fn label(producer: usize, number: u64) -> u64 {
    (producer as u64) << NUMBER_BITS | number
}

/// What the consumer expects next of each producer.
struct Expected {
    next: [u64; PRODUCERS],
    wrong: u64,
}

impl Expected {
    fn new() -> Self {
        Self { next: std::array::from_fn(|producer| label(producer, 0)), wrong: 0 }
    }

    /// Compares the first and the last word of a message with its turn.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked with the length: the check folds away")]
    fn meet<const W: usize>(&mut self, message: &[u64; W]) {
        black_box(message);
        let first = message.first().copied().unwrap_or(u64::MAX);
        let last = message.last().copied().unwrap_or(u64::MAX);
        let next = &mut self.next[(first >> NUMBER_BITS) as usize & (PRODUCERS - 1)];
        self.wrong |= (first ^ *next) | (first ^ last);
        *next += 1;
    }

    fn judge(&self) -> anyhow::Result<()> {
        if self.wrong != 0 {
            bail!("expected every message of a producer in its turn, found another");
        }
        Ok(())
    }

    /// What the last of so many producers got through, over what the first did.
    fn fairness(&self, producers: usize) -> f64 {
        let counts = || self.next.iter().take(producers).map(|next| next & ((1 << NUMBER_BITS) - 1));
        let (low, high) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        low as f64 / high.max(1) as f64
    }
}

/// Pops until the window has passed, then until all producers have ended.
fn consume<R>(
    board: &Board,
    plan: &Plan,
    producers: usize,
    rx: &mut R,
    mut take: impl FnMut(&mut R, &mut Expected) -> usize,
) -> anyhow::Result<()> {
    let mut expected = Expected::new();
    let mut patience = Patience::default();
    let mut window = Window::new(plan);
    let (mut taken, mut look, mut idle) = (0, STRIDE, 0);
    loop {
        let n = take(rx, &mut expected) as u64;
        taken += n;
        if n == 0 {
            patience.wait();
            idle += 1;
        } else {
            patience.reset();
        }
        if taken >= look || idle == STRIDE {
            look = taken + STRIDE;
            idle = 0;
            if window.is_over(taken, board, plan) {
                break;
            }
        }
    }
    board.set(Value::Fairness, expected.fairness(producers));
    board.stop();
    // A producer that blocks needs room to see that it shall end.
    while !board.all_done(producers) {
        if take(rx, &mut expected) == 0 {
            patience.wait();
        }
    }
    expected.judge()
}

/// One message at a time, from `P` producers.
///
/// # Errors
/// What a side found wrong.
pub fn single<C: ManyContender, const P: usize, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
) -> anyhow::Result<()> {
    singles::<C, W>(board, plan, mode, P)
}

fn singles<C: ManyContender, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
    producers: usize,
) -> anyhow::Result<()> {
    let produce = |producer: usize, mut tx: C::Tx<W>| {
        let stamp = |message: &mut [u64; W], number| stamp(message, label(producer, number));
        let mut source = Source::new(blank(), stamp);
        let (mut number, mut patience) = (0, Patience::default());
        'all: while number % STRIDE != 0 || !board.stopped() {
            let mut register = [0; W];
            stamp(&mut register, number);
            while !tx.push(if W == 1 { &register } else { source.now() }) {
                if board.stopped() {
                    break 'all;
                }
                patience.wait();
            }
            patience.reset();
            number += 1;
            if W > 1 {
                source.next(stamp);
            }
        }
        board.done();
        Ok(())
    };
    let consume = |mut rx: C::Rx<W>| {
        let mut buffer = [0; W];
        consume(board, plan, producers, &mut rx, |rx, expected| {
            rx.take(&mut buffer, TURN, |message| expected.meet(message))
        })
    };
    let crowd = Crowd { many: producers, scale: Some(plan.scale) };
    crowd::run(mode, board, crowd, C::make::<W>, produce, consume)
}

/// Batches of [`BATCH`] messages, from `P` producers.
///
/// # Errors
/// What a side found wrong.
pub fn batch<C: ManyContender, const P: usize, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
) -> anyhow::Result<()> {
    batches::<C, W>(board, plan, mode, P)
}

fn batches<C: ManyContender, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
    producers: usize,
) -> anyhow::Result<()> {
    let produce = |producer: usize, mut tx: C::Tx<W>| {
        let stamp = |batch: &mut [[u64; W]; BATCH], turn: u64| {
            for (i, message) in batch.iter_mut().enumerate() {
                stamp(message, label(producer, turn * BATCH as u64 + i as u64));
            }
        };
        let mut source = Source::new([blank(); BATCH], stamp);
        let mut patience = Patience::default();
        'all: while !board.stopped() {
            let mut rest = source.now().as_slice();
            while !rest.is_empty() {
                let pushed = tx.push_batch(rest);
                rest = rest.get(pushed..).unwrap_or_default();
                if pushed == 0 {
                    if board.stopped() {
                        break 'all;
                    }
                    patience.wait();
                } else {
                    patience.reset();
                }
            }
            source.next(stamp);
        }
        board.done();
        Ok(())
    };
    let consume = |mut rx: C::Rx<W>| {
        let mut buffer = Box::new([[0; W]; BATCH]);
        consume(board, plan, producers, &mut rx, |rx, expected| {
            let n = rx.pop_batch(buffer.as_mut_slice());
            let taken = buffer.get(..n).unwrap_or_default();
            black_box(taken);
            taken.iter().for_each(|message| expected.meet(message));
            n
        })
    };
    let crowd = Crowd { many: producers, scale: Some(plan.scale) };
    crowd::run(mode, board, crowd, C::make::<W>, produce, consume)
}
