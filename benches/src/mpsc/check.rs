//! The check that each queue of many producers passes before it is timed: of each producer's messages nothing is
//! lost, repeated, reordered or torn.
//!
//! Every word of a message depends on its producer, on its number and on its place. All sides stop now and then for
//! as long as it takes the queue to run full or empty.

use std::hint::spin_loop;

use anyhow::{bail, ensure};

use crate::board::Board;
use crate::check::word;
use crate::contender::{CAPACITY, Rx, Tx};
use crate::crowd::{self, Crowd, Patience};
use crate::mpsc::contender::{BATCH, ManyContender, PRODUCERS, TURN};
use crate::pair::Mode;

/// Messages of a check, of all producers together.
pub const MESSAGES: u64 = 64_000;

/// The first word names the message; the others depend on it and on their places.
fn message<const W: usize>(producer: usize, number: u64) -> [u64; W] {
    let name = (producer as u64) << 48 | number;
    std::array::from_fn(|place| if place == 0 { name } else { word(name, place) })
}

/// What came of each producer so far.
struct Ledger {
    next: [u64; PRODUCERS],
    producers: usize,
    each: u64,
    fault: Option<anyhow::Error>,
}

impl Ledger {
    fn new(producers: usize) -> Self {
        Self { next: [0; PRODUCERS], producers, each: MESSAGES / producers as u64, fault: None }
    }

    fn judge<const W: usize>(&mut self, found: &[u64; W]) -> anyhow::Result<()> {
        let name = found.first().copied().unwrap_or(u64::MAX);
        let (producer, number) = ((name >> 48) as usize, name & ((1 << 48) - 1));
        ensure!(
            producer < self.producers && number < self.each,
            "expected a producer below {} and a number below {}, found {name:#x}",
            self.producers,
            self.each
        );
        let next = self.next.get_mut(producer).into_iter().next();
        let Some(next) = next else { bail!("expected a producer below {PRODUCERS}, found {producer}") };
        ensure!(number == *next, "producer {producer}: expected message {next}, found message {number}");
        *next += 1;
        for (place, (found, expected)) in found.iter().zip(message::<W>(producer, number)).enumerate() {
            ensure!(
                *found == expected,
                "producer {producer}, message {number}: expected {expected:#x} in word {place} of {W}, found \
                 {found:#x}"
            );
        }
        Ok(())
    }

    #[inline(never)]
    fn note<const W: usize>(&mut self, found: &[u64; W]) {
        if self.fault.is_none() {
            self.fault = self.judge(found).err();
        }
    }

    fn received(&self) -> u64 {
        self.next.iter().sum()
    }
}

/// Waits now and then, long enough for the others to fill or empty the queue; at other times on each side.
fn rest(number: u64, phase: u64) {
    if (number + phase) % (4 * CAPACITY as u64) < 8 {
        for _ in 0..4 * CAPACITY {
            spin_loop();
        }
    }
}

/// How many messages of a batch go together: all sizes come up.
fn size(number: u64) -> usize {
    usize::try_from(number % BATCH as u64).unwrap_or(0) + 1
}

/// Checks one at a time or batches, with `P` producers.
///
/// # Errors
/// The first message that was not what it should be, or what the queue said.
pub fn messages<C: ManyContender, const P: usize, const W: usize>(
    board: &Board,
    mode: Mode,
    batches: bool,
) -> anyhow::Result<()> {
    checked::<C, W>(board, mode, batches, P)
}

fn checked<C: ManyContender, const W: usize>(
    board: &Board,
    mode: Mode,
    batches: bool,
    producers: usize,
) -> anyhow::Result<()> {
    let produce = |producer: usize, mut tx: C::Tx<W>| {
        let (each, mut number, mut patience) = (MESSAGES / producers as u64, 0, Patience::default());
        while number < each {
            rest(number, (producer * CAPACITY) as u64);
            let pushed = if batches {
                let batch: [[u64; W]; BATCH] = std::array::from_fn(|i| message(producer, number + i as u64));
                let most = size(number).min(usize::try_from(each - number).unwrap_or(BATCH));
                tx.push_batch(batch.get(..most).unwrap_or_default()) as u64
            } else {
                u64::from(tx.push(&message(producer, number)))
            };
            number += pushed;
            if pushed == 0 {
                patience.wait();
            }
        }
        board.done();
        Ok(())
    };
    let consume = |mut rx: C::Rx<W>| {
        let mut ledger = Ledger::new(producers);
        let (mut batch, mut buffer) = (Box::new([[0; W]; BATCH]), [0; W]);
        let (mut turns, mut patience) = (0, Patience::default());
        let total = ledger.each * producers as u64;
        while ledger.received() < total {
            rest(ledger.received(), 2 * CAPACITY as u64);
            let ended = board.all_done(producers);
            turns += 1;
            let taken = if batches {
                let taken = rx.pop_batch(batch.get_mut(..size(turns * 7)).unwrap_or_default());
                batch.get(..taken).unwrap_or_default().iter().for_each(|found| ledger.note(found));
                taken
            } else {
                rx.take(&mut buffer, size(turns) * TURN / BATCH, |found| ledger.note(found))
            };
            if let Some(fault) = ledger.fault.take() {
                return Err(fault);
            }
            if taken == 0 {
                ensure!(!ended, "expected {total} messages, found {}", ledger.received());
                patience.wait();
            }
        }
        while !board.all_done(producers) {
            patience.wait();
        }
        let extra = rx.take(&mut buffer, 1, |_| {});
        ensure!(extra == 0, "expected {total} messages, found one more");
        Ok(())
    };
    crowd::run(mode, board, Crowd { many: producers, scale: None }, C::make::<W>, produce, consume)
}
