//! The hostile process: writes random and plausible values over every shared word, as fast as it can.
//!
//! It attacks in short phases, each with another focus, since a victim that finds nonsense at once never gets far
//! enough to be misled. Now and then it floods the data with padding and leaves it alone for a while: what goes
//! round in circles in there is then seen by the watchdog.

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::arena::Arena;
use super::dice::Dice;

/// How long it attacks before it leaves flooded data alone.
const ATTACK: Duration = Duration::from_millis(600);

/// The kinds of frames in a ring of records.
const MESSAGE: u64 = 1 << 32;
const PADDING: u64 = 2 << 32;

/// Where the words of a structure lie, and what would be plausible in them.
#[derive(Clone, Debug)]
pub(crate) struct Targets {
    /// Pairs of positions: what is published, and what is freed.
    pub(crate) positions: &'static [(usize, usize)],
    /// All control words, positions included.
    pub(crate) control: &'static [usize],
    /// Bytes of payload.
    pub(crate) data: Range<usize>,
    /// How far apart the positions may be.
    pub(crate) capacity: u64,
    /// Bytes of data for one step of a position.
    pub(crate) unit: u64,
    /// Write headers, too: for victims that attach all the time.
    pub(crate) headers: bool,
}

pub(crate) struct Hostile<'a> {
    arena: &'a Arena,
    targets: &'a Targets,
    dice: Dice,
    /// Values that stood somewhere once.
    stale: [u64; 16],
}

impl<'a> Hostile<'a> {
    pub(crate) fn new(arena: &'a Arena, targets: &'a Targets, dice: Dice) -> Self {
        Self { arena, targets, dice, stale: [0; 16] }
    }

    /// Never returns: the harness kills it. `leave_alone` returns when the victim has had its peace.
    pub(crate) fn run(mut self, leave_alone: impl Fn()) -> ! {
        loop {
            let start = Instant::now();
            while start.elapsed() < ATTACK {
                self.phase();
            }
            self.flood();
            leave_alone();
        }
    }

    fn phase(&mut self) {
        let strokes = 1 << self.dice.below(13);
        match self.dice.below(8) {
            0 => self.repeat(strokes, Self::position),
            1 | 2 => self.repeat(strokes, Self::near_position),
            3 => self.flip(strokes),
            4 => self.repeat(strokes, Self::control),
            5 if self.targets.headers => self.repeat(strokes, Self::header),
            5 | 6 => self.repeat(strokes, Self::data),
            _ => self.repeat(strokes, Self::anywhere),
        }
        let pause = self.dice.below(4) * self.dice.below(1 << 9);
        for _ in 0..pause {
            spin_loop();
        }
    }

    fn repeat(&mut self, strokes: usize, stroke: fn(&mut Self)) {
        for _ in 0..strokes {
            stroke(self);
        }
    }

    fn load(&self, offset: usize) -> u64 {
        // ORD hostile: Relaxed, a liar keeps no order; no partner.
        self.arena.word(offset).load(Ordering::Relaxed)
    }

    fn store(&self, offset: usize, value: u64) {
        // ORD hostile: Relaxed, as above.
        self.arena.word(offset).store(value, Ordering::Relaxed);
    }

    /// A value that might be believed in place of `old`.
    fn value(&mut self, old: u64) -> u64 {
        let slot = self.dice.below(self.stale.len());
        let stale = self.stale.get_mut(slot).map_or(0, |slot| std::mem::replace(slot, old));
        let (capacity, random) = (self.targets.capacity, self.dice.word());
        match self.dice.below(18) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => old.wrapping_add(1),
            4 => old.wrapping_sub(1),
            5 | 6 => old.wrapping_add(8),
            7 => old.wrapping_sub(8),
            8 => old.wrapping_add(capacity),
            9 => old.wrapping_sub(capacity),
            10 => old.wrapping_add((random % capacity) & !7),
            11 => random & !7,
            12 => MESSAGE | (random % (capacity + 8)),
            13 => MESSAGE | (random & u64::from(u32::MAX)),
            14 => PADDING | ((random % (capacity + 8)) & !7),
            15 | 16 => stale,
            _ => random,
        }
    }

    fn overwrite(&mut self, offset: usize) {
        let value = self.value(self.load(offset));
        self.store(offset, value);
    }

    /// One of a pair of positions, often to where it makes sense.
    fn position(&mut self) {
        let Some((published, freed)) = self.dice.pick(self.targets.positions) else {
            return;
        };
        let fill = (self.dice.word() % (self.targets.capacity + 1)) & !7;
        match self.dice.below(6) {
            0 | 1 => self.store(published, self.load(freed).wrapping_add(fill)),
            2 => self.store(freed, self.load(published).wrapping_sub(fill)),
            3 => self.store(published, self.load(freed).wrapping_add(self.targets.capacity)),
            4 => self.overwrite(published),
            _ => self.overwrite(freed),
        }
    }

    /// Where the data of a position lies.
    fn at(&self, position: u64) -> usize {
        let byte = (position % self.targets.capacity).wrapping_mul(self.targets.unit);
        self.targets.data.start + usize::try_from(byte).unwrap_or(0)
    }

    /// The data that a victim is about to read or has just written.
    fn near_position(&mut self) {
        let Some((published, freed)) = self.dice.pick(self.targets.positions) else {
            return;
        };
        let word = if self.dice.below(4) == 0 { published } else { freed };
        let (position, random) = (self.load(word), self.dice.word());
        let step = 8 * self.dice.below(4) as u64;
        let rest = self.targets.capacity - position % self.targets.capacity;
        let offset = self.at(position.wrapping_add(step));
        match self.dice.below(4) {
            0 => self.store(offset, MESSAGE | (random % 64)),
            1 => self.store(offset, PADDING | rest.saturating_sub(8)),
            _ => self.overwrite(offset),
        }
    }

    /// One word, back and forth between two values, aimed anew every few strokes: finds what is read twice.
    fn flip(&mut self, strokes: usize) {
        const STROKES: usize = 16;
        let Some((published, freed)) = self.dice.pick(self.targets.positions) else {
            return;
        };
        for _ in 0..strokes / STROKES {
            let head = self.load(freed);
            let (offset, good) = match self.dice.below(8) {
                0 => (published, self.load(published)),
                1 => (freed, head),
                _ => (self.at(head), MESSAGE | (self.dice.word() % 48)),
            };
            let evil = self.value(good);
            for _ in 0..STROKES {
                self.store(offset, good);
                self.store(offset, evil);
            }
            self.store(offset, good);
        }
    }

    fn control(&mut self) {
        if let Some(offset) = self.dice.pick(self.targets.control) {
            self.overwrite(offset);
        }
    }

    /// A word of the header; mostly as it should be, or no attach would ever get beyond it.
    fn header(&mut self) {
        let offset = 8 * self.dice.below(16);
        if self.dice.below(16) == 0 {
            self.overwrite(offset);
        } else {
            self.store(offset, self.arena.header_word(offset));
        }
    }

    fn data(&mut self) {
        let offset = self.dice.below(self.targets.data.len());
        self.overwrite(self.targets.data.start + offset);
    }

    fn anywhere(&mut self) {
        let from =
            if self.targets.headers && self.dice.below(16) == 0 { 0 } else { tidewire_shm::HEADER_BYTES };
        let offset = from + self.dice.below(self.arena.len() - from);
        self.overwrite(offset);
    }

    /// Padding everywhere, of lengths that lead from one to the next for ever.
    fn flood(&mut self) {
        let capacity = self.targets.capacity;
        for offset in self.targets.data.clone().step_by(8) {
            let length = match self.dice.below(3) {
                0 => 0,
                1 => capacity.saturating_sub(8),
                _ => (self.dice.word() % capacity) & !7,
            };
            self.store(offset, PADDING | length);
        }
        for (published, freed) in self.targets.positions {
            self.store(*published, self.load(*freed).wrapping_add(capacity));
        }
        if self.targets.headers {
            self.arena.restore_header();
        }
    }
}
