//! What the processes of a row tell each other and their parent, beside the messages: each has a seat that it alone writes.

use anyhow::{Context as _, Result};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{Region, Segment};

/// The most processes of a kind.
pub(super) const SEATS: usize = 4;
/// Words of a seat: two lines.
const WORDS: usize = 32;
/// The parent's seat is the last one.
const PARENT: usize = 2 * SEATS;
const ALL: usize = PARENT + 1;

/// The words of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Word {
    /// The end is open, and whoever it waits for has come.
    Begun,
    /// How far it is: messages given and acknowledged, or taken.
    Count,
    /// One more than it claims to have given, once it has ended.
    Total,
    Received,
    Lost,
    Duplicated,
    Reordered,
    Torn,
    /// What it was told that it missed.
    Missed,
    Bytes,
    /// Nanoseconds at work.
    Time,
    /// Nanoseconds, since the row began, when it was told that its peers are gone.
    Told,
    P50,
    P99,
    P999,
    /// Something else was wrong, and it has said what.
    Trouble,
    /// The message that it expects next of the first giver; the next three words are of the others.
    Next,
    /// One more than the message of the first giver that it got first, where it follows another; the next three words are of
    /// the others.
    First = 20,
    /// The parent's: begin.
    Go = 24,
    /// The parent's: give no more.
    Stop,
    /// The parent's: nothing more is given.
    Over,
}

/// All seats, in memory that the processes of a row share.
#[derive(Debug)]
pub(super) struct Board {
    words: Vec<Shared<AtomicU64>>,
    _region: Region,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat<'b> {
    words: &'b [Shared<AtomicU64>],
}

impl Board {
    /// A board of zeros.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new() -> Result<Self> {
        let region = Segment::anonymous(ALL * WORDS * 8).context("the memory of the board")?.region();
        // SAFETY: an aligned word of the region, which the result keeps; every user makes an atomic of it.
        let word = |number: usize| unsafe { region.atomic_u64(number * 8) };
        Ok(Self { words: (0..ALL * WORDS).map(word).collect(), _region: region })
    }

    fn seat(&self, number: usize) -> Seat<'_> {
        Seat { words: self.words.get(number * WORDS..(number + 1) * WORDS).unwrap_or_default() }
    }

    /// The seat of a giver.
    pub(super) fn giver(&self, number: usize) -> Seat<'_> {
        self.seat(number.min(SEATS - 1))
    }

    /// The seat of a taker.
    pub(super) fn taker(&self, number: usize) -> Seat<'_> {
        self.seat(SEATS + number.min(SEATS - 1))
    }

    /// The orders of the parent.
    pub(super) fn parent(&self) -> Seat<'_> {
        self.seat(PARENT)
    }
}

impl Seat<'_> {
    /// Says something; everything that this process did before can be seen by whoever sees it.
    #[inline]
    pub(super) fn say(&self, word: Word, value: u64) {
        if let Some(word) = self.words.get(word as usize) {
            // ORD patterns.seat: Release -> `Seat::said`; what its process did before.
            word.store(value, Ordering::Release);
        }
    }

    /// What was said last.
    #[inline]
    pub(super) fn said(&self, word: Word) -> u64 {
        // ORD patterns.seat: Acquire <- `Seat::say`; what its process did before.
        self.words.get(word as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Says something of a giver: [`Word::Next`] or [`Word::First`].
    #[inline]
    pub(super) fn say_of(&self, giver: usize, word: Word, value: u64) {
        if let Some(word) = self.words.get(word as usize + giver) {
            // ORD patterns.next: Release -> `Seat::said_of`; what its process did before.
            word.store(value, Ordering::Release);
        }
    }

    /// What was said last of a giver.
    pub(super) fn said_of(&self, giver: usize, word: Word) -> u64 {
        // ORD patterns.next: Acquire <- `Seat::say_of`; what its process did before.
        self.words.get(word as usize + giver).map_or(0, |word| word.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_do_not_meet() {
        let board = Board::new().unwrap();
        let seats = || {
            (0..SEATS).flat_map(|number| [board.giver(number), board.taker(number)]).chain([board.parent()])
        };
        for (number, seat) in (1..).zip(seats()) {
            seat.say(Word::Begun, number);
            seat.say(Word::Over, 100 + number);
            for giver in 0..SEATS {
                seat.say_of(giver, Word::Next, 10 * number + giver as u64);
                seat.say_of(giver, Word::First, 20 * number + giver as u64);
            }
        }
        for (number, seat) in (1..).zip(seats()) {
            assert_eq!(
                [Word::Begun, Word::Over, Word::Go].map(|word| seat.said(word)),
                [number, 100 + number, 0]
            );
            assert_eq!(seat.said_of(3, Word::Next), 10 * number + 3);
            assert_eq!(seat.said_of(3, Word::First), 20 * number + 3);
        }
    }
}
