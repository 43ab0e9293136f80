//! Reads and writes of cells that hold the latest value.
//!
//! The writer goes round `TURNS` buffers and stamps the version into the first, the middle and the last word; every
//! other word tells which buffer it comes from. `TURNS` is a prime, so that neighbours, and any two versions that
//! share a slot of a cell with few slots, differ in every word. The reader copies the value out, shows its buffer to
//! an opaque function, and looks at the three stamps.
//!
//! A window has two halves. In the first, reads and writes are counted. In the second, each read is timed by itself,
//! between fences, and every word of what it read is compared. What the clock shows for nothing at all is noted and
//! not subtracted.

use std::hint::{black_box, spin_loop};
use std::mem::ManuallyDrop;

use anyhow::{bail, ensure};

use crate::board::{Board, Value};
use crate::clock::{fenced, ticks};
use crate::crowd::{self, Crowd};
use crate::latency::{Latencies, Summary};
use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{self, Mode};
use crate::probe::{self, meet};
use crate::schedule::Plan;

/// Buffers of the writer.
const TURNS: usize = 5;
/// At most this many times are kept.
const KEPT: u64 = 1 << 20;
/// Times of nothing.
const NOTHINGS: u64 = 1 << 12;

/// The parts of a sample, as the reader says them.
const COUNTED: u64 = 1;
const TIMED: u64 = 2;
const OVER: u64 = 3;

fn filler(turn: usize, place: usize) -> u64 {
    0x9e37_79b9_7f4a_7c15_u64.wrapping_mul((place * TURNS + turn + 1) as u64)
}

#[inline(always)]
fn stamp<const W: usize>(value: &mut [u64; W], version: u64) {
    for place in [0, W / 2, W - 1] {
        if let Some(word) = value.get_mut(place) {
            *word = version;
        }
    }
}

fn filled<const W: usize>(turn: usize) -> [u64; W] {
    std::array::from_fn(|place| filler(turn, place))
}

/// The writer's buffers.
struct Source<const W: usize> {
    buffers: Box<[[u64; W]; TURNS]>,
    turn: usize,
    version: u64,
}

impl<const W: usize> Source<W> {
    fn new() -> Self {
        let mut buffers = Box::new(std::array::from_fn(filled));
        for (turn, buffer) in buffers.iter_mut().enumerate() {
            stamp(buffer, turn as u64);
        }
        Self { buffers, turn: 0, version: 0 }
    }

    /// The value whose turn it is.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "kept below the length")]
    fn now(&self) -> &[u64; W] {
        &self.buffers[self.turn]
    }

    /// Stamps what was just used for its next turn, long before that comes, and goes on.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "kept below the length")]
    fn next(&mut self) {
        stamp(&mut self.buffers[self.turn], self.version + TURNS as u64);
        self.version += 1;
        self.turn = if self.turn + 1 < TURNS { self.turn + 1 } else { 0 };
    }
}

/// The initial value: version 0.
fn initial<const W: usize>() -> [u64; W] {
    let mut value = filled(0);
    stamp(&mut value, 0);
    value
}

/// What a reader has seen.
struct Seen {
    last: u64,
    torn: u64,
    back: u64,
    fillers: Vec<Vec<u64>>,
}

impl Seen {
    fn new<const W: usize>() -> Self {
        Self {
            last: 0,
            torn: 0,
            back: 0,
            fillers: (0..TURNS).map(|turn| filled::<W>(turn).to_vec()).collect(),
        }
    }

    /// Looks at the three stamps.
    #[inline(always)]
    fn glance<const W: usize>(&mut self, found: &[u64; W]) {
        black_box(found);
        let [first, middle, last] = [0, W / 2, W - 1].map(|place| found.get(place).copied().unwrap_or(0));
        self.torn += u64::from(((first ^ middle) | (first ^ last)) != 0);
        self.back += u64::from(first < self.last);
        self.last = first;
    }

    /// Looks at every word.
    #[inline(never)]
    fn study<const W: usize>(&mut self, found: &[u64; W]) {
        self.glance(found);
        let fillers = usize::try_from(self.last % TURNS as u64).ok().and_then(|turn| self.fillers.get(turn));
        let mut expected = fillers.and_then(|fillers| fillers.first_chunk::<W>().copied()).unwrap_or([0; W]);
        stamp(&mut expected, self.last);
        self.torn += u64::from(*found != expected);
    }

    /// Judges a cell by its promise.
    #[inline(never)]
    fn judge(&self, board: &Board, whole: bool) -> anyhow::Result<()> {
        board.add(Value::Torn, self.torn as f64);
        ensure!(
            !whole || (self.torn == 0 && self.back == 0),
            "expected whole values that never go back, found {} torn and {} that went back",
            self.torn,
            self.back
        );
        Ok(())
    }
}

/// Writes until it is over; at a pace, or without a pause. Notes writes per second of the first half.
fn writing<const W: usize>(board: &Board, plan: &Plan, paced: bool, writer: &mut impl CellWriter<W>) {
    let mut source = Source::<W>::new();
    let (mut phase, mut counted, mut next) = (0, (0, 0), ticks());
    loop {
        for _ in 0..if paced { 1 } else { 16 } {
            source.next();
            writer.write(source.now());
        }
        if paced {
            next += plan.pace_ticks;
            if ticks() > next + 100 * plan.pace_ticks {
                next = ticks();
            }
            while ticks() < next {
                spin_loop();
            }
        }
        let now = board.phase();
        if now == phase {
            continue;
        }
        if now == COUNTED {
            counted = (ticks(), source.version);
        } else if phase == COUNTED {
            let took = plan.scale.ns((ticks() - counted.0) as f64);
            board.set(Value::Writes, (source.version - counted.1) as f64 * 1e9 / took);
        }
        phase = now;
        if phase == OVER {
            return;
        }
    }
}

/// What the clock shows for nothing at all.
#[inline(never)]
fn nothing(board: &Board, plan: &Plan) {
    let mut times = Latencies::with_capacity(NOTHINGS);
    for _ in 0..NOTHINGS {
        let began = fenced();
        times.add(fenced() - began);
    }
    board.set(Value::Nothing, times.into_summary(&plan.scale).p50);
}

/// Reads until the window has passed. The first reader says which part runs.
fn reading<C: CellContender, const W: usize>(
    board: &Board,
    plan: &Plan,
    index: usize,
    mut reader: C::Reader<W>,
) -> anyhow::Result<()> {
    let leads = index == 0;
    let part = |phase| {
        if leads {
            board.set_phase(phase);
        }
    };
    let (mut seen, mut buffer) = (Seen::new::<W>(), Box::new([0; W]));
    let mut times = Latencies::with_capacity(KEPT);
    if leads {
        nothing(board, plan);
    }
    let read_until = |reader: &mut C::Reader<W>, seen: &mut Seen, buffer: &mut [u64; W], end: u64| {
        let (mut reads, mut given_up) = (0_u64, 0_u64);
        loop {
            for _ in 0..16 {
                if reader.read(buffer) {
                    seen.glance(buffer);
                    reads += 1;
                } else {
                    given_up += 1;
                }
            }
            let now = ticks();
            if now >= end {
                return (now, reads, given_up);
            }
        }
    };
    let half = plan.window_ticks / 2;
    let began = ticks();
    let (since, _, _) = read_until(&mut reader, &mut seen, &mut buffer, began + plan.warm_ticks);
    let before = reader.retries();
    part(COUNTED);
    let (until, reads, given_up) = read_until(&mut reader, &mut seen, &mut buffer, since + half);
    let retries = reader.retries().zip(before).map_or(given_up, |(after, before)| after - before);
    part(TIMED);
    let end = until + half;
    loop {
        let first = fenced();
        let good = reader.read(&mut buffer);
        let last = fenced();
        if good {
            times.add(last - first);
            seen.study(&buffer);
        }
        if last >= end {
            break;
        }
    }
    part(OVER);
    board.add(Value::Rate, reads as f64 * 1e9 / plan.scale.ns((until - since) as f64));
    let known = reader.retries().is_some() || given_up > 0;
    board.raise(Value::Retries, if known { retries as f64 / reads.max(1) as f64 } else { -1.0 });
    note_worst(board, &times.into_summary(&plan.scale));
    seen.judge(board, C::WHOLE)
}

/// Notes the times of the reader that was worst off.
#[inline(never)]
fn note_worst(board: &Board, times: &Summary) {
    board.add(Value::Count, times.count);
    for (value, time) in [
        (Value::Mean, times.mean),
        (Value::P50, times.p50),
        (Value::P99, times.p99),
        (Value::P999, times.p999),
        (Value::Max, times.max),
    ] {
        board.raise(value, time);
    }
}

/// A writer on one core, a reader on the other.
fn both<C: CellContender, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
    paced: bool,
) -> anyhow::Result<()> {
    let make = || {
        let (mut readers, writer) = C::make::<W>(1, &initial())?;
        let Some(reader) = readers.pop() else { bail!("expected a reader, found none") };
        Ok((writer, reader))
    };
    let side_a = |mut writer: C::Writer<W>| {
        probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
        meet(&board.here_a, &board.here_b);
        writing(board, plan, paced, &mut writer);
        meet(&board.here_a, &board.here_b);
        probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
        Ok(())
    };
    let side_b = |reader: C::Reader<W>| {
        probe::side_b(board);
        meet(&board.here_b, &board.here_a);
        reading::<C, W>(board, plan, 0, reader)?;
        meet(&board.here_b, &board.here_a);
        probe::side_b(board);
        Ok(())
    };
    pair::run(mode, board, make, side_a, side_b)
}

/// The writer never pauses.
///
/// # Errors
/// What a side found wrong.
pub fn full<C: CellContender, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    both::<C, W>(board, plan, mode, false)
}

/// The writer writes at a pace.
///
/// # Errors
/// What a side found wrong.
pub fn paced<C: CellContender, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    both::<C, W>(board, plan, mode, true)
}

/// The writer never pauses, `R` readers read; nobody is pinned.
///
/// # Errors
/// What a side found wrong.
pub fn readers<C: CellContender, const R: usize, const W: usize>(
    board: &Board,
    plan: &Plan,
    mode: Mode,
) -> anyhow::Result<()> {
    // More sides than cores: each half holds some turns of everybody.
    let plan = &Plan { window_ticks: 3 * plan.window_ticks, ..*plan };
    let crowd = Crowd { many: R, scale: Some(plan.scale) };
    let make = |readers| C::make::<W>(readers, &initial());
    let read = |index: usize, reader| reading::<C, W>(board, plan, index, reader);
    let write = |writer: C::Writer<W>| {
        // A writer that goes may take the value with it, and some readers are not done.
        let mut writer = ManuallyDrop::new(writer);
        writing::<W>(board, plan, false, &mut *writer);
        Ok(())
    };
    crowd::run(mode, board, crowd, make, read, write)
}

/// One read right after one write on the other core, again and again.
///
/// # Errors
/// What a side found wrong.
pub fn fresh<C: CellContender, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    use std::sync::atomic::Ordering;
    let make = || {
        let (mut readers, writer) = C::make::<W>(1, &initial())?;
        let Some(reader) = readers.pop() else { bail!("expected a reader, found none") };
        Ok((writer, reader))
    };
    let side_a = |mut writer: C::Writer<W>| {
        probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
        // ORD own: Relaxed, the meeting hands both over; the probes left their own numbers there.
        board.ping.0.store(0, Ordering::Relaxed);
        // ORD own: Relaxed, as above.
        board.pong.0.store(0, Ordering::Relaxed);
        meet(&board.here_a, &board.here_b);
        let mut source = Source::<W>::new();
        while board.phase() != OVER {
            source.next();
            writer.write(source.now());
            // ORD fresh: Release -> side B; the value was written.
            board.ping.0.store(source.version, Ordering::Release);
            // ORD fresh: Acquire <- side B; the value was read.
            while board.pong.0.load(Ordering::Acquire) != source.version && board.phase() != OVER {
                spin_loop();
            }
        }
        meet(&board.here_a, &board.here_b);
        probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
        Ok(())
    };
    let side_b = |mut reader: C::Reader<W>| {
        let mut times = Latencies::with_capacity(KEPT);
        let (mut seen, mut buffer) = (Seen::new::<W>(), Box::new([0; W]));
        probe::side_b(board);
        nothing(board, plan);
        meet(&board.here_b, &board.here_a);
        let began = ticks();
        let (warm, end) = (began + plan.warm_ticks, began + plan.warm_ticks + plan.window_ticks);
        let (mut version, mut stale) = (0, 0_u64);
        loop {
            version += 1;
            // ORD fresh: Acquire <- side A; the value was written.
            while board.ping.0.load(Ordering::Acquire) != version {
                spin_loop();
            }
            let first = fenced();
            let good = reader.read(&mut buffer);
            let last = fenced();
            if good {
                seen.study(&buffer);
                stale += u64::from(seen.last != version);
            }
            if last >= end {
                break;
            }
            if last >= warm && good {
                times.add(last - first);
            }
            // ORD fresh: Release -> side A; the value was read.
            board.pong.0.store(version, Ordering::Release);
        }
        board.set_phase(OVER);
        meet(&board.here_b, &board.here_a);
        probe::side_b(board);
        note_worst(board, &times.into_summary(&plan.scale));
        ensure!(!C::WHOLE || stale == 0, "expected the value just written, found an older one {stale} times");
        seen.judge(board, C::WHOLE)
    };
    pair::run(mode, board, make, side_a, side_b)
}

/// Writes with nobody reading, then reads with nobody writing: what each costs alone.
///
/// # Errors
/// What a side found wrong.
pub fn alone<C: CellContender, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    /// Operations between two looks at the clock.
    const STRIDE: u64 = 64;
    fn time(plan: &Plan, mut operate: impl FnMut()) -> f64 {
        let (began, mut done) = (ticks(), 0);
        loop {
            for _ in 0..STRIDE {
                operate();
            }
            done += STRIDE;
            let now = ticks();
            if now >= began + plan.window_ticks / 2 {
                return plan.scale.ns((now - began) as f64) / done as f64;
            }
        }
    }
    let make = || {
        let (mut readers, writer) = C::make::<W>(1, &initial())?;
        let Some(reader) = readers.pop() else { bail!("expected a reader, found none") };
        Ok((writer, reader))
    };
    let side_a = |mut writer: C::Writer<W>| {
        probe::side_a(board, &plan.scale, Value::LineBefore, Value::FloorBefore);
        meet(&board.here_a, &board.here_b);
        let mut source = Source::<W>::new();
        let took = time(plan, || {
            source.next();
            writer.write(source.now());
        });
        board.set(Value::WriteAlone, took);
        board.set(Value::Count, source.version as f64);
        meet(&board.here_a, &board.here_b);
        meet(&board.here_a, &board.here_b);
        probe::side_a(board, &plan.scale, Value::LineAfter, Value::FloorAfter);
        Ok(())
    };
    let side_b = |mut reader: C::Reader<W>| {
        let (mut seen, mut buffer) = (Seen::new::<W>(), Box::new([0; W]));
        probe::side_b(board);
        meet(&board.here_b, &board.here_a);
        meet(&board.here_b, &board.here_a);
        let mut failed = 0_u64;
        let took = time(plan, || {
            failed += u64::from(!reader.read(&mut buffer));
            black_box(&buffer);
        });
        board.set(Value::ReadAlone, took);
        seen.study(&buffer);
        meet(&board.here_b, &board.here_a);
        probe::side_b(board);
        ensure!(
            failed == 0,
            "expected every read to succeed with nobody writing, found {failed} that failed"
        );
        ensure!(
            seen.last as f64 == board.get(Value::Count),
            "expected the value last written, found version {}",
            seen.last
        );
        seen.judge(board, C::WHOLE)
    };
    pair::run(mode, board, make, side_a, side_b)
}
