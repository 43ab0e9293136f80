//! Messages per second, one at a time and in batches.
//!
//! What is timed is a producer that has each message in a buffer and a consumer that copies each into another. The
//! producer goes round a few buffers and stamps one long before its turn comes: a stamp that is still in the store
//! buffer when the copy reads it would be measured instead of the queue. Messages of one word are made in a
//! register. The consumer's buffer is shown to an opaque function by reference, so that no copy can be left out and
//! none is added, and its first and last word are compared with the number of the message. Both sides pause once
//! before they look again.

use std::hint::{black_box, spin_loop};

use anyhow::bail;

use crate::board::{Board, Value};
use crate::clock::ticks;
use crate::contender::{BATCH, Contender, RecordContender, RecordRx, RecordTx, Rx, Tx};
use crate::pair::{self, Mode};
use crate::probe::{self, meet};
use crate::schedule::Plan;

/// The most buffers of a producer.
pub(crate) const BUFFERS: usize = 64;
/// Messages between two looks at the clock.
pub(crate) const STRIDE: u64 = 256;

/// A producer's buffers, as few as keep the stamps out of the way and the whole within the first cache.
pub(crate) struct Source<T> {
    buffers: Box<[T; BUFFERS]>,
    mask: usize,
    turn: usize,
}

impl<T: Copy> Source<T> {
    pub(crate) fn new(blank: T, mut stamp: impl FnMut(&mut T, u64)) -> Self {
        let used = match size_of::<T>() {
            0..=256 => 64,
            257..=2048 => 16,
            _ => 4,
        };
        let mut buffers = Box::new([blank; BUFFERS]);
        for (turn, buffer) in buffers.iter_mut().take(used).enumerate() {
            stamp(buffer, turn as u64);
        }
        Self { buffers, mask: used - 1, turn: 0 }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "masked with the length: the check folds away")]
    pub(crate) fn now(&mut self) -> &mut T {
        &mut self.buffers[self.turn & self.mask & (BUFFERS - 1)]
    }

    /// Stamps the buffer that was just used for its next turn.
    #[inline(always)]
    pub(crate) fn next(&mut self, mut stamp: impl FnMut(&mut T, u64)) {
        let turn = (self.turn + self.mask + 1) as u64;
        stamp(self.now(), turn);
        self.turn += 1;
    }
}

#[inline(always)]
pub(crate) fn stamp<const W: usize>(message: &mut [u64; W], number: u64) {
    if let Some(first) = message.first_mut() {
        *first = number;
    }
    if let Some(last) = message.last_mut() {
        *last = number;
    }
}

#[inline(always)]
pub(crate) fn wrong<const W: usize>(message: &[u64; W], number: u64) -> u64 {
    message.first().map_or(0, |word| word ^ number) | message.last().map_or(0, |word| word ^ number)
}

#[inline(always)]
fn stamp_batch<const W: usize>(batch: &mut [[u64; W]; BATCH], turn: u64) {
    for (i, message) in batch.iter_mut().enumerate() {
        stamp(message, turn * BATCH as u64 + i as u64);
    }
}

/// Words that differ from message to message, so that a copy cannot be replaced by a fill.
pub(crate) fn blank<const W: usize>() -> [u64; W] {
    std::array::from_fn(|i| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(i as u64 + 1))
}

/// Counts messages on the consumer's side, and says when the sample is over.
pub(crate) struct Window {
    warm: u64,
    end: u64,
    window_ticks: u64,
    began: u64,
    started: Option<(u64, u64)>,
}

impl Window {
    pub(crate) fn new(plan: &Plan) -> Self {
        let began = ticks();
        let warm = began + plan.warm_ticks;
        Self { warm, end: warm + plan.window_ticks, window_ticks: plan.window_ticks, began, started: None }
    }

    /// Looks at the clock; true once the window has passed, with its results on the board.
    #[inline(never)]
    pub(crate) fn is_over(&mut self, messages: u64, board: &Board, plan: &Plan) -> bool {
        let now = ticks();
        if now < self.warm {
            return false;
        }
        let per_second = |messages: u64, ticks: u64| messages as f64 * 1e9 / plan.scale.ns(ticks as f64);
        let Some((since, before)) = self.started else {
            board.set(Value::FirstRate, per_second(messages, now - self.began));
            self.started = Some((now, messages));
            self.end = now + self.window_ticks;
            return false;
        };
        if now < self.end {
            return false;
        }
        board.set(Value::Rate, per_second(messages - before, now - since));
        board.set(Value::Count, (messages - before) as f64);
        true
    }
}

/// Everything of side A but the pushing: `push` pushes until the board says stop.
fn producing(board: &Board, plan: &Plan, push: impl FnOnce()) {
    probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
    meet(&board.here_a, &board.here_b);
    push();
    board.done();
    meet(&board.here_a, &board.here_b);
    probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
}

/// Everything of side B but the popping: `take` pops once, compares, and returns how many there were and what was
/// wrong about them.
fn consuming(board: &Board, plan: &Plan, mut take: impl FnMut(u64) -> (u64, u64)) -> anyhow::Result<()> {
    probe::side_b(board);
    meet(&board.here_b, &board.here_a);
    let mut window = Window::new(plan);
    let (mut taken, mut look, mut errors, mut idle) = (0, STRIDE, 0, 0);
    loop {
        let (n, wrong) = take(taken);
        taken += n;
        errors |= wrong;
        if n == 0 {
            spin_loop();
            idle += 1;
        }
        if taken >= look || idle == STRIDE {
            look = taken + STRIDE;
            idle = 0;
            if window.is_over(taken, board, plan) {
                break;
            }
        }
    }
    board.stop();
    // A producer that blocks needs room to see that it shall end.
    while !board.is_done() {
        take(taken);
    }
    meet(&board.here_b, &board.here_a);
    probe::side_b(board);
    if errors != 0 {
        bail!("expected every message in its turn, found another");
    }
    Ok(())
}

/// One message at a time.
///
/// # Errors
/// What a side found wrong.
pub fn single<C: Contender, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let side_a = |mut tx: C::Tx<W>| {
        let mut source = Source::new(blank(), stamp);
        producing(board, plan, || {
            let mut number = 0;
            while number % STRIDE != 0 || !board.stopped() {
                let mut register = [0; W];
                stamp(&mut register, number);
                while !tx.push(if W == 1 { &register } else { source.now() }) {
                    if board.stopped() {
                        return;
                    }
                    spin_loop();
                }
                number += 1;
                if W > 1 {
                    source.next(stamp);
                }
            }
        });
        Ok(())
    };
    let side_b = |mut rx: C::Rx<W>| {
        let mut buffer = [0; W];
        consuming(board, plan, |expected| {
            if rx.pop(&mut buffer) {
                black_box(&buffer);
                (1, wrong(&buffer, expected))
            } else {
                (0, 0)
            }
        })
    };
    pair::run(mode, board, C::make::<W>, side_a, side_b)
}

/// Batches of [`BATCH`] messages.
///
/// # Errors
/// What a side found wrong.
pub fn batch<C: Contender, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let side_a = |mut tx: C::Tx<W>| {
        let mut source = Source::new([blank(); BATCH], stamp_batch);
        producing(board, plan, || {
            while !board.stopped() {
                let mut rest = source.now().as_slice();
                while !rest.is_empty() {
                    let pushed = tx.push_batch(rest);
                    rest = rest.get(pushed..).unwrap_or_default();
                    if pushed == 0 {
                        if board.stopped() {
                            return;
                        }
                        spin_loop();
                    }
                }
                source.next(stamp_batch);
            }
        });
        Ok(())
    };
    let side_b = |mut rx: C::Rx<W>| {
        let mut buffer = Box::new([[0; W]; BATCH]);
        consuming(board, plan, |expected| {
            let n = rx.pop_batch(buffer.as_mut_slice());
            let taken = buffer.get(..n).unwrap_or_default();
            black_box(taken);
            let first = taken.first().map_or(0, |message| wrong(message, expected));
            let last = taken.last().map_or(0, |message| wrong(message, expected + n as u64 - 1));
            (n as u64, first | last)
        })
    };
    pair::run(mode, board, C::make::<W>, side_a, side_b)
}

/// The longest record, and what a buffer for one takes.
const RECORD_BYTES: usize = 80;

/// The length of a record: 16 to 79 bytes, in an order without a pattern.
#[inline(always)]
#[must_use]
pub fn record_len(number: u64) -> usize {
    let mixed = (number % BUFFERS as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
    let mixed = mixed as usize;
    16 + mixed
}

#[inline(always)]
fn stamp_record(record: &mut [u8; RECORD_BYTES], number: u64) {
    if let Some(first) = record.first_chunk_mut() {
        *first = number.to_le_bytes();
    }
}

/// Records of 16 to 79 bytes, one at a time.
///
/// # Errors
/// What a side found wrong.
pub fn records<C: RecordContender>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let side_a = |mut tx: C::Tx| {
        let mut source = Source::new([0xa5; RECORD_BYTES], stamp_record);
        producing(board, plan, || {
            let mut number = 0;
            while number % STRIDE != 0 || !board.stopped() {
                let record = source.now().get(..record_len(number)).unwrap_or_default();
                while !tx.push(record) {
                    if board.stopped() {
                        return;
                    }
                    spin_loop();
                }
                number += 1;
                source.next(stamp_record);
            }
        });
        Ok(())
    };
    let side_b = |mut rx: C::Rx| {
        let mut buffer = [0; RECORD_BYTES];
        consuming(board, plan, |expected| {
            let Some(len) = rx.pop(&mut buffer) else { return (0, 0) };
            black_box(&buffer);
            let number = buffer.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
            (1, (number ^ expected) | (len ^ record_len(expected)) as u64)
        })
    };
    pair::run(mode, board, C::make, side_a, side_b)
}
