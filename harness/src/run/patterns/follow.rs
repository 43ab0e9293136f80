//! Rounds in which a receiver is killed in mid-stream and another one goes on in its place.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::board::Word;
use super::life::{Pattern, Who};
use super::row::PatternRow;
use super::{KILL_US, Round, draw};

/// Messages that are given at least before the first receiver may be killed, and behind it.
const SOME: u64 = 4000;
const FIRST: Who = Who::Taker(0);
const SECOND: Who = Who::Taker(1);
/// Bytes of the shortest record of a channel of bytes, with its frame.
const SHORTEST: u64 = 16;

/// The most that may be received again, of all senders together, and the most that may be lost, with what the call had taken
/// in which the receiver was killed.
///
/// | | again | lost |
/// |---|---|---|
/// | lanes, [at least once](tidewire_mpsc::Delivery::AtLeastOnce) | what is released at once, of one lane | nothing |
/// | ordered, the same | what is released at once | nothing |
/// | lanes of bytes | the same, and a record more | nothing |
/// | a ring | fewer than are released at once | what a call had taken that is not over |
fn bounds(pattern: Pattern) -> (u64, u64) {
    // What is released at once is an eighth of a lane.
    let period = pattern.small() as u64 / 8;
    match pattern {
        Pattern::Bytes | Pattern::Serde => (period / SHORTEST + 1, 0),
        Pattern::Single => (period - 1, 1),
        _ => (period, 0),
    }
}

impl Round {
    /// Kills the receiver at some moment, and sees to it that the second one goes on.
    pub(super) fn followed(mut self, number: u64, row: &mut PatternRow) -> Result<()> {
        self.await_messages(SOME, row);
        let some = draw(row.seed << 20 | number, 3, 1000) as u64;
        sleep(Duration::from_micros(KILL_US / 4 * some / 1000));
        let killed_at = self.kill(FIRST, row)?;
        if self.await_messages(SOME, row) {
            let told = self.job.seat(SECOND).said(Word::Told);
            row.told.push(told.saturating_sub(killed_at) / 1000);
        }
        self.end(row);
        self.count_givers(row);
        self.count_both(row);
        Ok(())
    }

    /// Waits until so many more are given; whether they were.
    fn await_messages(&self, more: u64, row: &mut PatternRow) -> bool {
        let job = &self.job;
        let given = || (0..job.givers).map(|giver| job.board.giver(giver).said(Word::Count)).sum::<u64>();
        let (begun, before) = (Instant::now(), given());
        while given() < before + more {
            if begun.elapsed() > job.patience {
                row.untold += 1;
                row.troubles
                    .push(format!("expected {more} messages more, found that the givers do not go on"));
                return false;
            }
            sleep(Duration::from_micros(100));
        }
        true
    }

    /// Compares what the two receivers got with each other, and with what was given.
    fn count_both(&self, row: &mut PatternRow) {
        let job = &self.job;
        let (first, second) = (job.seat(FIRST), job.seat(SECOND));
        let (most_again, most_lost) = bounds(job.pattern);
        let (mut again, mut skipped, mut taken) = (0, 0, 0);
        for giver in 0..job.givers {
            // The next one that the first receiver expected. It may have had one more in its hand, which comes again.
            let expected = first.said_of(giver, Word::Next);
            row.received += expected;
            // Of a giver of whom nothing more came all had to come before; how much that is the second's oracle knows.
            let found = second.said_of(giver, Word::First).saturating_sub(1);
            skipped += found;
            again += expected.saturating_sub(found);
            taken += found.saturating_sub(expected);
        }
        row.again += again;
        if again > most_again {
            row.duplicated += again - most_again;
            row.troubles.push(format!("expected at most {most_again} messages again, found {again}"));
        }
        row.lost += taken.saturating_sub(most_lost);
        row.received += second.said(Word::Received);
        row.bytes += first.said(Word::Bytes) + second.said(Word::Bytes);
        // What the second oracle missed before its first message was the first receiver's to see.
        row.lost += first.said(Word::Lost) + second.said(Word::Lost).abs_diff(skipped);
        for seat in [first, second] {
            row.duplicated += seat.said(Word::Duplicated);
            row.reordered += seat.said(Word::Reordered);
            row.torn += seat.said(Word::Torn);
        }
    }
}
