//! The check that each contender passes before it is timed: nothing lost, repeated, reordered or torn.
//!
//! Every word of a message depends on its number and on its place. Both sides stop now and then for as long as it
//! takes the queue to run full or empty, so that both ends of it are met.

use std::hint::spin_loop;

use anyhow::{bail, ensure};

use crate::board::Board;
use crate::contender::{BATCH, CAPACITY, Contender, RecordContender, RecordRx, RecordTx, Rx, Tx};
use crate::pair::{self, Mode};
use crate::probe::meet;
use crate::stream::record_len;

/// Messages of a check.
pub const MESSAGES: u64 = 100_000;

pub(crate) fn word(number: u64, place: usize) -> u64 {
    number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ place as u64
}

fn message<const W: usize>(number: u64) -> [u64; W] {
    std::array::from_fn(|place| word(number, place))
}

#[inline(never)]
pub(crate) fn compare<const W: usize>(found: &[u64; W], number: u64) -> anyhow::Result<()> {
    for (place, found) in found.iter().enumerate() {
        let expected = word(number, place);
        ensure!(
            *found == expected,
            "message {number}: expected {expected:#x} in word {place} of {W}, found {found:#x}"
        );
    }
    Ok(())
}

/// Waits now and then, long enough for the other side to fill or empty the queue; at other times on each side.
fn rest(number: u64, phase: u64) {
    if (number + phase) % (8 * CAPACITY as u64) < 16 {
        for _ in 0..4 * CAPACITY {
            spin_loop();
        }
    }
}

/// How many messages of a batch go together: all sizes come up.
fn size(number: u64) -> usize {
    usize::try_from(number % BATCH as u64).unwrap_or(0) + 1
}

/// Checks one at a time, or batches.
///
/// # Errors
/// The first message that was not what it should be, or what the queue said.
pub fn messages<C: Contender, const W: usize>(
    board: &Board,
    mode: Mode,
    batches: bool,
) -> anyhow::Result<()> {
    let side_a = |mut tx: C::Tx<W>| {
        meet(&board.here_a, &board.here_b);
        let mut number = 0;
        while number < MESSAGES && !board.stopped() {
            rest(number, 0);
            if batches {
                let batch: [[u64; W]; BATCH] = std::array::from_fn(|i| message(number + i as u64));
                number += tx.push_batch(batch.get(..size(number)).unwrap_or_default()) as u64;
            } else {
                number += u64::from(tx.push(&message(number)));
            }
        }
        board.done();
        meet(&board.here_a, &board.here_b);
        Ok(())
    };
    let side_b = |mut rx: C::Rx<W>| {
        meet(&board.here_b, &board.here_a);
        let (mut buffer, mut number) = (Box::new([[0; W]; BATCH]), 0);
        while number < MESSAGES {
            rest(number, 4 * CAPACITY as u64);
            let ended = board.is_done();
            let to = buffer.get_mut(..if batches { size(number * 7) } else { 1 }).unwrap_or_default();
            let taken = match to {
                [one] if !batches => usize::from(rx.pop(one)),
                many => rx.pop_batch(many),
            };
            for found in buffer.get(..taken).unwrap_or_default() {
                compare(found, number)?;
                number += 1;
            }
            if taken == 0 && ended {
                bail!("expected {MESSAGES} messages, found {number}");
            }
        }
        let mut extra = [0; W];
        meet(&board.here_b, &board.here_a);
        ensure!(batches || !rx.pop(&mut extra), "expected {MESSAGES} messages, found one more");
        Ok(())
    };
    pair::run(mode, board, C::make::<W>, side_a, side_b)
}

/// Checks records, with every byte.
///
/// # Errors
/// As [`messages`].
pub fn records<C: RecordContender>(board: &Board, mode: Mode) -> anyhow::Result<()> {
    fn bytes(number: u64) -> impl Iterator<Item = u8> {
        (0..record_len(number)).map(move |place| {
            let [byte, ..] = word(number, place).to_le_bytes();
            byte
        })
    }
    let side_a = |mut tx: C::Tx| {
        meet(&board.here_a, &board.here_b);
        let mut number = 0;
        while number < MESSAGES {
            rest(number, 0);
            let record: Vec<u8> = bytes(number).collect();
            while !tx.push(&record) {
                spin_loop();
            }
            number += 1;
        }
        board.done();
        Ok(())
    };
    let side_b = |mut rx: C::Rx| {
        meet(&board.here_b, &board.here_a);
        let (mut buffer, mut number) = ([0; 128], 0);
        while number < MESSAGES {
            rest(number, 4 * CAPACITY as u64);
            let ended = board.is_done();
            match rx.pop(&mut buffer) {
                Some(len) => {
                    let found = buffer.get(..len).unwrap_or_default();
                    ensure!(
                        bytes(number).eq(found.iter().copied()),
                        "record {number}: expected {} certain bytes, found {len} or others",
                        record_len(number)
                    );
                    number += 1;
                }
                None if ended => bail!("expected {MESSAGES} records, found {number}"),
                None => spin_loop(),
            }
        }
        Ok(())
    };
    pair::run(mode, board, C::make, side_a, side_b)
}
