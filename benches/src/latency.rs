//! Times of single messages: round trips and paced one-way trips.

use std::hint::{black_box, spin_loop};

use anyhow::bail;

use crate::board::{Board, Value};
use crate::clock::{Scale, stamp, ticks};
use crate::contender::{Contender, Rx, Tx};
use crate::pair::{self, Mode};
use crate::probe::{self, meet};
use crate::schedule::Plan;

/// Single times, in ticks.
#[derive(Debug, Default)]
pub struct Latencies {
    ticks: Vec<u32>,
}

/// What single times come to, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Mean of the lowest nine tenths.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// How many there are.
    pub count: f64,
}

impl Latencies {
    /// Room for a number of times, paid for now.
    #[must_use]
    pub fn with_capacity(count: u64) -> Self {
        let count = usize::try_from(count).unwrap_or(0);
        let mut ticks = vec![1; count];
        ticks.clear();
        Self { ticks }
    }

    /// Adds a time, if there is room.
    #[inline(always)]
    pub fn add(&mut self, ticks: u64) {
        if self.ticks.len() < self.ticks.capacity() {
            self.ticks.push(u32::try_from(ticks).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ticks.len() == self.ticks.capacity()
    }

    /// Sorts and sums up.
    #[inline(never)]
    #[must_use]
    pub fn into_summary(mut self, scale: &Scale) -> Summary {
        self.ticks.sort_unstable();
        let count = self.ticks.len();
        let at = |share: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "a share of a length")]
            let rank = (count as f64 * share) as usize;
            let ticks = self.ticks.get(rank.min(count.saturating_sub(1)));
            scale.ns(f64::from(ticks.copied().unwrap_or(0)))
        };
        let low = self.ticks.get(..(count * 9).div_ceil(10)).unwrap_or_default();
        let sum: u64 = low.iter().map(|ticks| u64::from(*ticks)).sum();
        Summary {
            mean: scale.ns(sum as f64 / low.len().max(1) as f64),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
            count: count as f64,
        }
    }
}

impl Summary {
    pub(crate) fn note(&self, board: &Board) {
        board.set(Value::Mean, self.mean);
        board.set(Value::P50, self.p50);
        board.set(Value::P99, self.p99);
        board.set(Value::P999, self.p999);
        board.set(Value::Max, self.max);
        board.set(Value::Count, self.count);
    }
}

/// At most this many times are kept; a window that yields more ends early.
pub(crate) const KEPT: u64 = 1 << 20;

/// Fills a message from its number; every word depends on it.
#[inline(always)]
fn message<const W: usize>(number: u64) -> [u64; W] {
    [number; W]
}

#[inline(always)]
fn is_message<const W: usize>(found: &[u64; W], number: u64) -> bool {
    black_box(found).iter().fold(0, |wrong, word| wrong | (word ^ number)) == 0
}

/// Pops into `to`, polling with one pause; false once the other side asked to end.
#[inline(always)]
fn pop_until_stopped<const W: usize>(rx: &mut impl Rx<W>, to: &mut [u64; W], board: &Board) -> bool {
    loop {
        for _ in 0..64 {
            if rx.pop(to) {
                return true;
            }
            spin_loop();
        }
        if board.stopped() {
            return false;
        }
    }
}

/// Round trips: a message goes through one queue and its echo comes back through another.
///
/// # Errors
/// What a side found wrong.
pub fn round_trip<C: Contender, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
) -> anyhow::Result<()> {
    let make = || {
        let (there, echo_from) = C::make::<W>()?;
        let (echo_to, back) = C::make::<W>()?;
        Ok(((there, back), (echo_from, echo_to)))
    };
    let side_a = |(mut there, mut back): (C::Tx<W>, C::Rx<W>)| {
        let mut trips = Latencies::with_capacity(KEPT);
        probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
        meet(&board.here_a, &board.here_b);
        let began = ticks();
        let (warm, end) = (began + plan.warm_ticks, began + plan.warm_ticks + plan.window_ticks);
        let (mut buffer, mut number, mut good) = ([0; W], 0, true);
        while !trips.is_full() {
            let sent = ticks();
            if sent > end {
                break;
            }
            good &= there.push(&message(number));
            while !back.pop(&mut buffer) {
                spin_loop();
            }
            let received = stamp();
            good &= is_message(&buffer, number);
            number += 1;
            if sent > warm {
                trips.add(received - sent);
            }
        }
        board.stop();
        meet(&board.here_a, &board.here_b);
        probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
        trips.into_summary(&plan.scale).note(board);
        if good { Ok(()) } else { bail!("expected each echo to equal its message, found another") }
    };
    let side_b = |(mut from, mut to): (C::Rx<W>, C::Tx<W>)| {
        probe::side_b(board);
        meet(&board.here_b, &board.here_a);
        let mut buffer = [0; W];
        while pop_until_stopped(&mut from, &mut buffer, board) {
            while !to.push(black_box(&buffer)) {
                spin_loop();
            }
        }
        meet(&board.here_b, &board.here_a);
        probe::side_b(board);
        Ok(())
    };
    pair::run(mode, board, make, side_a, side_b)
}

/// One-way trips of messages that are sent at a fixed pace and carry the time at which they were.
///
/// # Errors
/// What a side found wrong.
pub fn one_way<C: Contender, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let side_a = |mut tx: C::Tx<W>| {
        probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
        meet(&board.here_a, &board.here_b);
        let mut next = ticks();
        while !board.stopped() {
            while ticks() < next {
                spin_loop();
            }
            let message = message::<W>(stamp());
            while !tx.push(&message) && !board.stopped() {
                spin_loop();
            }
            next += plan.pace_ticks;
            if ticks() > next + 100 * plan.pace_ticks {
                // The machine was away: go on at the pace instead of catching up in one burst.
                next = ticks();
            }
        }
        board.done();
        meet(&board.here_a, &board.here_b);
        probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
        Ok(())
    };
    let side_b = |mut rx: C::Rx<W>| {
        let mut trips = Latencies::with_capacity(KEPT);
        probe::side_b(board);
        meet(&board.here_b, &board.here_a);
        let began = ticks();
        let (warm, end) = (began + plan.warm_ticks, began + plan.warm_ticks + plan.window_ticks);
        let (mut buffer, mut last, mut good) = ([0; W], 0, true);
        while !(board.stopped() && board.is_done()) {
            if !rx.pop(&mut buffer) {
                if ticks() > end {
                    board.stop();
                }
                spin_loop();
                continue;
            }
            let now = stamp();
            let [sent, ..] = buffer.as_slice() else { bail!("expected messages of at least a word") };
            good &= *sent > last && is_message(&buffer, *sent);
            last = *sent;
            if now > end {
                board.stop();
            } else if now > warm {
                trips.add(now.saturating_sub(last));
            }
        }
        meet(&board.here_b, &board.here_a);
        probe::side_b(board);
        trips.into_summary(&plan.scale).note(board);
        if good { Ok(()) } else { bail!("expected messages in order and whole, found another") }
    };
    pair::run(mode, board, C::make::<W>, side_a, side_b)
}
