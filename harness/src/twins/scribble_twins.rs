//! Broken twins for the scribbler: consumers and producers of records, each wrong in one way that a hostile peer
//! can use. Each must be caught while the real ring, in the same memory, is not.

use std::hint::black_box;
use std::ptr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::report::complain;
use crate::scribble::{
    Act, Arena, DATA, Dice, End, Finding, HEAD, Outcome, Output, RECORD_CAPACITY, Subject, TAIL, TURN, Tally,
    Victim, must, record_subject, reset, run_subject,
};

const CAPACITY: u64 = RECORD_CAPACITY as u64;
const MASK: u64 = CAPACITY - 1;
const MESSAGE: u64 = 1;
const PADDING: u64 = 2;
const BUFFER: usize = RECORD_CAPACITY;
/// How long a twin may go uncaught.
const PATIENCE: Duration = Duration::from_secs(12);

/// One checker that met one twin.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TwinRow {
    /// The broken structure.
    pub(crate) twin: &'static str,
    /// What should catch it.
    pub(crate) checker: &'static str,
    /// Whether it did.
    pub(crate) caught: bool,
}

/// A twin, and how it must end.
struct Twin {
    name: &'static str,
    caught: fn(&End) -> bool,
    victim: fn(Arena) -> Box<dyn Victim>,
}

const TWINS: &[Twin] = &[
    Twin {
        name: "pop that reads the length twice",
        caught: crashes,
        victim: |arena| pop(arena, Fault::Twice),
    },
    Twin { name: "pop that trusts the length", caught: crashes, victim: |arena| pop(arena, Fault::Trust) },
    Twin { name: "pop that skips padding for ever", caught: hangs, victim: |arena| pop(arena, Fault::Skip) },
    Twin {
        name: "push at the shared tail",
        caught: crashes,
        victim: |arena| Box::new(SharedTail::new(arena)),
    },
];

fn crashes(end: &End) -> bool {
    matches!(end, End::Crashed(_))
}

fn hangs(end: &End) -> bool {
    matches!(end, End::Hung(_))
}

/// Runs every twin until it is caught, and the correct consumer of the same shape, which must not be.
///
/// # Errors
/// Where a process or a mapping could not be made.
pub(crate) fn twins(seed: u64) -> Result<Vec<TwinRow>> {
    let mut rows = Vec::new();
    for twin in TWINS {
        let subject =
            Subject { structure: twin.name, victim: twin.victim, ..record_subject::<false>(twin.name)? };
        let outcome = run_subject(&subject, PATIENCE, seed)?;
        rows.push(row(twin.name, (twin.caught)(&outcome.end), &outcome));
    }
    let honest =
        Subject { victim: |arena| pop(arena, Fault::None), ..record_subject::<false>("honest pop")? };
    let outcome = run_subject(&honest, PATIENCE / 6, seed)?;
    let passes = outcome.end == End::Well && outcome.operations > 0 && outcome.corrupt > 0;
    rows.push(row("none: a correct pop passes", passes, &outcome));
    Ok(rows)
}

fn row(twin: &'static str, caught: bool, outcome: &Outcome) -> TwinRow {
    if !caught {
        complain(&format!("{twin}: {:?} after {:.2} s", outcome.end, outcome.seconds));
    }
    TwinRow { twin, checker: "scribble", caught }
}

/// What is wrong with a pop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Twice,
    Trust,
    Skip,
}

/// A consumer written like that of the ring, but for its fault.
struct Popper {
    arena: Arena,
    fault: Fault,
    head: u64,
    output: Box<Output<[u8; BUFFER]>>,
}

fn pop(arena: Arena, fault: Fault) -> Box<dyn Victim> {
    Box::new(Popper { arena, fault, head: 0, output: Output::new([0; BUFFER]) })
}

fn framed(len: u64) -> u64 {
    (8 + len).next_multiple_of(8)
}

fn place(position: u64) -> usize {
    DATA + usize::try_from(position & MASK).unwrap_or(0)
}

impl Popper {
    fn frame(&self) -> u64 {
        // ORD scribble.tail: Relaxed, behind the tail that was acquired.
        self.arena.word(place(self.head)).load(Ordering::Relaxed)
    }

    /// Starts again from positions that are possible.
    fn reset(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) {
        tally.corrupt();
        reset(&self.arena, dice, CAPACITY, 8, (TAIL, HEAD));
        self.head = self.arena.word(HEAD).load(Ordering::Relaxed) & !7;
    }

    fn pop(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) {
        tally.act(Act::Pop);
        // ORD scribble.tail: Acquire <- the hostile's stores; what it claims to have published.
        let tail = self.arena.word(TAIL).load(Ordering::Acquire);
        let window = tail.wrapping_sub(self.head);
        if window > CAPACITY || !tail.is_multiple_of(8) {
            return self.reset(dice, tally);
        }
        if window == 0 {
            if dice.below(16) == 0 {
                self.reset(dice, tally);
            }
            return;
        }
        let mut frame = self.frame();
        if self.fault == Fault::Skip {
            while frame >> 32 == PADDING {
                self.head = self.head.wrapping_add(framed(frame & MASK));
                frame = self.frame();
            }
        }
        let mut len = frame & u64::from(u32::MAX);
        let most = window.min(CAPACITY - (self.head & MASK));
        if self.fault != Fault::Trust && (frame >> 32 != MESSAGE || framed(len) > most) {
            return self.reset(dice, tally);
        }
        if self.fault == Fault::Twice {
            len = self.frame() & u64::from(u32::MAX);
        }
        self.take(len);
        // ORD scribble.head: Release -> the hostile's loads; as a ring would.
        self.arena.word(HEAD).store(self.head, Ordering::Release);
    }

    fn take(&mut self, len: u64) {
        let from = self.arena.address(place(self.head) + 8);
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        // SAFETY: none where the fault is that `len` was never checked: that is what the harness must notice, in a
        // process that holds nothing else. Otherwise the record is within the data, and the buffer as long as it.
        unsafe { ptr::copy_nonoverlapping(from, black_box(self.output.body.as_mut_ptr()), bytes) };
        self.head = self.head.wrapping_add(framed(len));
    }
}

impl Victim for Popper {
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        for _ in 0..TURN {
            self.pop(dice, tally);
        }
        must(self.output.is_whole(), "a write beyond the buffer")
    }
}

/// A producer that checks the shared tail and then takes it from the shared word once more.
struct SharedTail {
    arena: Arena,
    record: [u8; 64],
}

impl SharedTail {
    fn new(arena: Arena) -> Self {
        Self { arena, record: [0x33; 64] }
    }

    fn push(&self, dice: &mut Dice, tally: &mut Tally<'_>) {
        tally.act(Act::Push);
        // ORD scribble.head: Acquire <- the hostile's stores; what it claims to have consumed.
        // ORD scribble.tail: Relaxed, its own word as it may have been spoilt.
        let head = self.arena.word(HEAD).load(Ordering::Acquire);
        let checked = self.arena.word(TAIL).load(Ordering::Relaxed);
        let len = 8 * dice.below(9);
        let room = CAPACITY.wrapping_sub(checked.wrapping_sub(head));
        let rest = CAPACITY - (checked & MASK);
        if room > CAPACITY || room.min(rest) < len as u64 || !checked.is_multiple_of(8) {
            tally.corrupt();
            return reset(&self.arena, dice, CAPACITY, 8, (TAIL, HEAD));
        }
        // ORD scribble.tail: Relaxed, read again: that is the flaw.
        let tail = self.arena.word(TAIL).load(Ordering::Relaxed);
        let to = self.arena.address(place(tail));
        // SAFETY: none where the tail has changed since it was checked: that is what the harness must notice.
        unsafe { ptr::copy_nonoverlapping(self.record.as_ptr(), to, len) };
        self.arena.word(TAIL).store(tail.wrapping_add(len as u64), Ordering::Release);
    }
}

impl Victim for SharedTail {
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        for _ in 0..TURN {
            self.push(dice, tally);
        }
        Ok(())
    }
}
