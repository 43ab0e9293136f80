//! The physical floor: how long a cache line takes from one core to the other and back.
//!
//! One line: both sides write the same word in turn. Two lines: each direction has a line of its own, as in any
//! pair of rings. One pause per poll, each trip timed by itself, mean of the lowest nine tenths.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;

use crate::board::{Board, Value, Word};
use crate::clock::{Scale, ticks};
use crate::latency::Latencies;

/// Trips of a probe.
pub const TRIPS: u64 = 2_500;

/// Where the two cores lie to each other, by the round trip of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Regime {
    /// Below 45 ns: two threads of one core.
    ///
    /// Where the limit lies: on the processor of the record two cores are between 55 and 95 ns apart, and arithmetic
    /// on one takes the same time whether the other is idle or busy with the same (1.00, 0.99 to 1.02, in 29 of 32
    /// trials). Two threads of one core would slow each other down.
    Sibling,
    /// 45 to 200 ns.
    Near,
    /// Above 200 ns.
    Far,
    /// Of what does not depend on it, and is not probed.
    Any,
}

impl Regime {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Near, Self::Far, Self::Sibling, Self::Any];

    /// The regime of a round trip.
    #[must_use]
    pub fn of(line_ns: f64) -> Self {
        match line_ns {
            ns if ns < 45.0 => Self::Sibling,
            ns if ns <= 200.0 => Self::Near,
            _ => Self::Far,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sibling => "sibling",
            Self::Near => "near",
            Self::Far => "far",
            Self::Any => "any",
        }
    }
}

/// Meets the other side: neither goes on before both are here.
pub fn meet(mine: &Word, other: &Word) {
    // ORD meet: AcqRel <-> `meet`; what each side did before is known to the other afterwards.
    let turn = mine.0.fetch_add(1, Ordering::AcqRel) + 1;
    // ORD meet: Acquire <- `meet`.
    while other.0.load(Ordering::Acquire) < turn {
        spin_loop();
    }
}

#[inline(always)]
fn await_value(word: &Word, value: u64) {
    // ORD probe: Acquire <- the store of the other side; nothing is read behind it.
    while word.0.load(Ordering::Acquire) != value {
        spin_loop();
    }
}

#[inline(always)]
fn put(word: &Word, value: u64) {
    // ORD probe: Release -> `await_value`; nothing is handed over.
    word.0.store(value, Ordering::Release);
}

/// Side A of both probes: notes the one-line and the two-line round trip.
pub fn side_a(board: &Board, scale: &Scale, line: Value, floor: Value) {
    for (value, back) in [(line, &board.ping), (floor, &board.pong)] {
        let mut trips = Latencies::with_capacity(TRIPS);
        put(&board.ping, 0);
        put(&board.pong, 0);
        meet(&board.here_a, &board.here_b);
        for trip in 0..TRIPS {
            let began = ticks();
            put(&board.ping, 2 * trip + 1);
            await_value(back, 2 * trip + 2);
            trips.add(ticks() - began);
        }
        meet(&board.here_a, &board.here_b);
        board.set(value, trips.into_summary(scale).mean);
    }
}

/// Side B of both probes.
pub fn side_b(board: &Board) {
    for back in [&board.ping, &board.pong] {
        meet(&board.here_b, &board.here_a);
        for trip in 0..TRIPS {
            await_value(&board.ping, 2 * trip + 1);
            put(back, 2 * trip + 2);
        }
        meet(&board.here_b, &board.here_a);
    }
}
