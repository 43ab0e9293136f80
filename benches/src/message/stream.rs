//! What is timed of message layers: rate, round trip, paced one-way trips, the wake-up of a sleeper, and setting up.
//!
//! A sender that copies goes round a few buffers and stamps one long before its turn comes, as in [`crate::stream`].
//! The first and the last word of each message are compared with what they should be.

use std::hint::{black_box, spin_loop};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::board::{Board, SIGNALS, Value};
use crate::clock::{stamp as now, ticks};
use crate::latency::{KEPT, Latencies};
use crate::message::contender::{Layer, MessageRx, MessageTx};
use crate::message::run::{self, Manner};
use crate::pair::Mode;
use crate::probe::{self, meet};
use crate::schedule::Plan;
use crate::stream::{Window, blank, stamp, wrong};

/// The number of the last message.
pub const LAST: u64 = u64::MAX;
/// Between two messages to a sleeper.
pub const NAP: Duration = Duration::from_millis(2);
/// A sample of wake-ups takes this many windows.
pub const WAKE_WINDOWS: u32 = 10;
/// Between two paced messages: less would be more than some can send.
pub const PACE: Duration = Duration::from_micros(10);
/// A sample of paced messages takes this many windows, for as many messages as tell what the thousandth takes.
pub const PACE_WINDOWS: u32 = 4;

/// What a sender sends from, where it sends.
pub(crate) struct Source<const W: usize> {
    buffers: Vec<[u64; W]>,
    number: u64,
}

impl<const W: usize> Source<W> {
    pub(crate) fn new() -> Self {
        let used = match W {
            0..=32 => 64,
            33..=256 => 16,
            _ => 4,
        };
        let mut buffers = vec![blank(); used];
        buffers.iter_mut().zip(0..).for_each(|(buffer, number)| stamp(buffer, number));
        Self { buffers, number: 0 }
    }

    /// How many messages were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.number
    }

    /// Sends the next message of a stream.
    #[inline(always)]
    pub(crate) fn send<X: MessageTx<W>>(&mut self, tx: &mut X) -> anyhow::Result<()> {
        let (number, used) = (self.number, self.buffers.len());
        self.number += 1;
        if X::IN_PLACE {
            return tx.send_in_place(|place| stamp(place, number));
        }
        if W == 1 {
            return tx.send(&[number; W]);
        }
        // As many buffers as a power of two.
        let turn = usize::try_from(number)? & (used - 1);
        if let Some(buffer) = self.buffers.get_mut(turn) {
            tx.send(buffer)?;
            stamp(buffer, number + used as u64);
        }
        Ok(())
    }
}

/// Sends one message with a number of its own.
#[inline(always)]
pub(crate) fn send<const W: usize, X: MessageTx<W>>(
    tx: &mut X,
    buffer: &mut [u64; W],
    number: u64,
) -> anyhow::Result<()> {
    if X::IN_PLACE {
        return tx.send_in_place(|place| stamp(place, number));
    }
    stamp(buffer, number);
    tx.send(black_box(buffer))
}

/// Receives one message and says which number it bears in front, and whether another one at its end.
#[inline(always)]
pub(crate) fn receive<const W: usize>(
    rx: &mut impl MessageRx<W>,
    buffer: &mut [u64; W],
) -> anyhow::Result<Option<(u64, u64)>> {
    let mut found = (0, 0);
    let come = rx.receive(buffer, |message| {
        let message = black_box(message);
        let number = message.first().copied().unwrap_or(0);
        found = (number, wrong(message, number));
    })?;
    Ok(come.then_some(found))
}

/// As [`receive`], again and again until there is one.
#[inline(always)]
pub(crate) fn await_one<const W: usize>(
    rx: &mut impl MessageRx<W>,
    buffer: &mut [u64; W],
) -> anyhow::Result<(u64, u64)> {
    loop {
        if let Some(found) = receive(rx, buffer)? {
            return Ok(found);
        }
        spin_loop();
    }
}

/// Side A between the probes.
pub(crate) fn probed_a(
    board: &Board,
    plan: &Plan,
    side: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
    meet(&board.here_a, &board.here_b);
    run::noted(board, side())?;
    meet(&board.here_a, &board.here_b);
    probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
    Ok(())
}

/// Side B between the probes.
pub(crate) fn probed_b(board: &Board, side: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    probe::side_b(board);
    meet(&board.here_b, &board.here_a);
    run::noted(board, side())?;
    meet(&board.here_b, &board.here_a);
    probe::side_b(board);
    Ok(())
}

/// Sends without a pause until the board says stop, and then the last message. Says how many there were before it.
pub(crate) fn send_all<const W: usize>(tx: &mut impl MessageTx<W>, board: &Board) -> anyhow::Result<u64> {
    let mut source = Source::<W>::new();
    while !board.stopped() {
        source.send(tx)?;
    }
    send(tx, &mut blank(), LAST)?;
    Ok(source.sent())
}

/// Receives all that [`send_all`] sends, and stops it when the window is over.
pub(crate) fn receive_all<const W: usize>(
    rx: &mut impl MessageRx<W>,
    board: &Board,
    plan: &Plan,
) -> anyhow::Result<()> {
    // Messages, or looks that find none, between two looks at the clock.
    let stride = if W > 256 { 4 } else { 64 };
    let (mut buffer, mut window) = (vec![blank::<W>()], Window::new(plan));
    let [buffer] = buffer.as_mut_slice() else { return Ok(()) };
    let (mut taken, mut look, mut idle, mut over, mut errors) = (0, stride, 0, false, 0);
    loop {
        match receive(rx, buffer)? {
            Some((LAST, torn)) => {
                ensure!(errors | torn == 0, "expected every message in its turn, found another");
                return Ok(());
            }
            Some((number, torn)) => {
                errors |= torn | (number ^ taken);
                taken += 1;
            }
            None => {
                idle += 1;
                spin_loop();
            }
        }
        if !over && (taken >= look || idle >= 256) {
            (look, idle) = (taken + stride, 0);
            over = window.is_over(taken, board, plan);
            if over {
                board.stop();
            }
        }
    }
}

/// Messages per second.
///
/// # Errors
/// What a side found wrong, or what the layer said.
pub fn rate<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            probed_a(board, plan, || send_all(&mut tx, board).map(drop))
        },
        |place| {
            let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
            probed_b(board, || receive_all(&mut rx, board, plan))
        },
    )
}

/// Round trips: a message goes one way and its echo comes back another.
///
/// # Errors
/// As [`rate`].
pub fn round_trip<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            let mut there = L::sender::<W>(&place.link(board, 0)?)?;
            let mut back = L::receiver::<W>(&place.link(board, 1)?)?;
            let mut trips = Latencies::with_capacity(KEPT);
            probed_a(board, plan, || {
                let (mut buffer, mut source, mut errors) = (blank(), Source::<W>::new(), 0);
                let began = ticks();
                let warm = began + plan.warm_ticks;
                let end = warm + plan.window_ticks;
                while !trips.is_full() {
                    let sent = ticks();
                    if sent > end {
                        break;
                    }
                    let expected = source.sent();
                    source.send(&mut there)?;
                    let (number, torn) = await_one(&mut back, &mut buffer)?;
                    let received = now();
                    errors |= torn | (number ^ expected);
                    if sent > warm {
                        trips.add(received - sent);
                    }
                }
                send(&mut there, &mut buffer, LAST)?;
                ensure!(errors == 0, "expected each echo to equal its message, found another");
                Ok(())
            })?;
            trips.into_summary(&plan.scale).note(board);
            Ok(())
        },
        |place| {
            let mut from = L::receiver::<W>(&place.link(board, 0)?)?;
            let mut to = L::sender::<W>(&place.link(board, 1)?)?;
            probed_b(board, || {
                let mut buffer = blank();
                loop {
                    let (number, _) = await_one(&mut from, &mut buffer)?;
                    if number == LAST {
                        return Ok(());
                    }
                    echo(&mut to, &buffer, number)?;
                }
            })
        },
    )
}

/// Sends back what was received: the buffer, or its number where nothing is copied.
#[inline(always)]
fn echo<const W: usize, X: MessageTx<W>>(to: &mut X, buffer: &[u64; W], number: u64) -> anyhow::Result<()> {
    if X::IN_PLACE { to.send_in_place(|place| stamp(place, number)) } else { to.send(buffer) }
}

/// How many messages go at a pace in so many windows.
fn paced(plan: &Plan, windows: u32, pace: Duration) -> u64 {
    u64::from(windows) * plan.window_ticks / plan.scale.ticks(pace).max(1)
}

/// One-way trips of messages that are sent one every [`PACE`] and carry the time at which they were.
///
/// # Errors
/// As [`rate`].
pub fn pace<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let (warm, count) = (1_000, paced(plan, PACE_WINDOWS, PACE));
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            let pace = plan.scale.ticks(PACE);
            probed_a(board, plan, || {
                let (mut buffer, mut next) = (blank(), ticks());
                for _ in 0..warm + count {
                    while ticks() < next {
                        spin_loop();
                    }
                    send(&mut tx, &mut buffer, now())?;
                    next += pace;
                    if ticks() > next + 100 * pace {
                        // The machine was away: go on at the pace instead of catching up in one burst.
                        next = ticks();
                    }
                }
                send(&mut tx, &mut buffer, LAST)
            })
        },
        |place| {
            let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
            let trips = probed(board, || arrivals(&mut rx, warm, count))?;
            trips.into_summary(&plan.scale).note(board);
            Ok(())
        },
    )
}

/// Receives messages that carry the time at which they were sent; the first few do not count.
fn arrivals<const W: usize>(rx: &mut impl MessageRx<W>, warm: u64, count: u64) -> anyhow::Result<Latencies> {
    let mut trips = Latencies::with_capacity(count);
    let (mut buffer, mut last, mut taken) = (blank(), 0, 0);
    loop {
        let (sent, torn) = await_one(rx, &mut buffer)?;
        let received = now();
        ensure!(torn == 0 && sent > last, "expected messages in order and whole, found another");
        if sent == LAST {
            return Ok(trips);
        }
        (last, taken) = (sent, taken + 1);
        if taken > warm {
            trips.add(received.saturating_sub(sent));
        }
    }
}

/// As [`probed_b`], with a result.
fn probed<T>(board: &Board, side: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut result = None;
    probed_b(board, || {
        result = Some(side()?);
        Ok(())
    })?;
    result.context("expected a side to run")
}

/// Round trips of messages that are written word by word where they are read, and read there word by word; a single
/// word comes back.
///
/// # Errors
/// As [`rate`].
pub fn in_place<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            let mut there = L::sender::<W>(&place.link(board, 0)?)?;
            let mut back = L::receiver::<1>(&place.link(board, 1)?)?;
            let mut trips = Latencies::with_capacity(KEPT);
            probed_a(board, plan, || {
                let (mut buffer, mut word) = (vec![blank::<W>()], [0]);
                let [buffer] = buffer.as_mut_slice() else { return Ok(()) };
                let began = ticks();
                let (mut number, mut errors) = (0_u64, 0);
                let warm = began + plan.warm_ticks;
                let end = warm + plan.window_ticks;
                while !trips.is_full() {
                    let sent = ticks();
                    if sent > end {
                        break;
                    }
                    send_whole(&mut there, buffer, number)?;
                    let (found, torn) = await_one(&mut back, &mut word)?;
                    let received = now();
                    errors |= torn | (found ^ number);
                    number += 1;
                    if sent > warm {
                        trips.add(received - sent);
                    }
                }
                send_whole(&mut there, buffer, LAST)?;
                ensure!(errors == 0, "expected each message whole and in its turn, found another");
                Ok(())
            })?;
            trips.into_summary(&plan.scale).note(board);
            Ok(())
        },
        |place| {
            let mut from = L::receiver::<W>(&place.link(board, 0)?)?;
            let mut to = L::sender::<1>(&place.link(board, 1)?)?;
            probed_b(board, || {
                let mut buffer = vec![blank::<W>()];
                let [buffer] = buffer.as_mut_slice() else { return Ok(()) };
                loop {
                    let (number, torn) = await_whole(&mut from, buffer)?;
                    if number == LAST {
                        return Ok(());
                    }
                    // One that is not whole is answered by another number, which its sender finds wrong.
                    send(&mut to, &mut [0], if torn == 0 { number } else { !number })?;
                }
            })
        },
    )
}

/// Sends a message all of whose words are its number.
#[inline(always)]
fn send_whole<const W: usize, X: MessageTx<W>>(
    tx: &mut X,
    buffer: &mut [u64; W],
    number: u64,
) -> anyhow::Result<()> {
    if X::IN_PLACE {
        return tx.send_in_place(|place| place.fill(black_box(number)));
    }
    buffer.fill(black_box(number));
    tx.send(buffer)
}

/// Receives such a message: its number, and what of it is another.
#[inline(always)]
fn await_whole<const W: usize>(
    rx: &mut impl MessageRx<W>,
    buffer: &mut [u64; W],
) -> anyhow::Result<(u64, u64)> {
    loop {
        let mut found = (0, 0);
        let come = rx.receive(buffer, |message| {
            let number = message.first().copied().unwrap_or(0);
            found = (number, message.iter().fold(0, |torn, word| torn | (word ^ number)));
        })?;
        if come {
            return Ok(found);
        }
        spin_loop();
    }
}

/// One-way trips to a receiver that sleeps: one message each [`NAP`], which carries the time at which it was sent.
///
/// # Errors
/// As [`rate`].
pub fn wake<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let count = paced(plan, WAKE_WINDOWS, NAP);
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            probed_a(board, plan, || {
                let mut buffer = blank();
                for _ in 0..count {
                    sleep(NAP);
                    send(&mut tx, &mut buffer, now())?;
                }
                send(&mut tx, &mut buffer, LAST)
            })
        },
        |place| {
            let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
            let trips = probed(board, || arrivals(&mut rx, 0, count))?;
            trips.into_summary(&plan.scale).note(board);
            Ok(())
        },
    )
}

/// Setting up: from nothing in both processes to the first message received. The names are agreed before.
///
/// # Errors
/// As [`rate`].
pub fn set_up<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            let mut times = Latencies::with_capacity(SIGNALS as u64);
            probed_a(board, plan, || {
                let mut buffer = blank();
                for number in 0..SIGNALS {
                    let link = place.link(board, number)?;
                    meet(&board.here_a, &board.here_b);
                    let began = ticks();
                    let mut tx = L::sender::<W>(&link)?;
                    send(&mut tx, &mut buffer, number as u64)?;
                    meet(&board.here_a, &board.here_b);
                    #[expect(clippy::cast_possible_truncation, reason = "ticks of half a month")]
                    let ended = board.get(Value::Noted) as u64;
                    times.add(ended.saturating_sub(began));
                }
                Ok(())
            })?;
            times.into_summary(&plan.scale).note(board);
            Ok(())
        },
        |place| {
            probed_b(board, || {
                let mut buffer = blank();
                for number in 0..SIGNALS {
                    let link = place.link(board, number)?;
                    meet(&board.here_b, &board.here_a);
                    let mut rx = L::receiver::<W>(&link)?;
                    let (found, torn) = await_one(&mut rx, &mut buffer)?;
                    board.set(Value::Noted, ticks() as f64);
                    ensure!(
                        torn == 0 && found == number as u64,
                        "expected message {number} and whole, found {found}"
                    );
                    meet(&board.here_b, &board.here_a);
                }
                Ok(())
            })
        },
    )
}
