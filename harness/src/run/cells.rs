//! Rows of cells: one writer at full speed, readers on memory that they may not write to, every word looked at.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::pin::Cores;
use crate::cells::CellRow;
use crate::cells::crew::{self, Board, Child, Fault, Ground, Seat};
use crate::cells::rig::{Plain, Rig};

/// One row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) structure: &'static str,
    pub(super) payload_bytes: usize,
    readers: usize,
    play: fn(&Self, Duration, Duration) -> Result<CellRow>,
}

/// What its rows are called.
pub(super) const STRUCTURE: &str = "cell";

const fn subject<const N: usize>(readers: usize) -> Subject {
    Subject { structure: STRUCTURE, payload_bytes: 8 * N, readers, play: play::<Plain<N, 8>> }
}

/// The rows.
pub(super) const SUBJECTS: &[Subject] = &[
    subject::<1>(1),
    subject::<1>(3),
    subject::<7>(1),
    subject::<7>(3),
    subject::<32>(1),
    subject::<32>(3),
    subject::<512>(1),
    subject::<512>(3),
];

impl Subject {
    /// Plays the row.
    ///
    /// # Errors
    /// What the system says. What is wrong with the cell is in the row.
    pub(super) fn run(&self, time: Duration, patience: Duration) -> Result<CellRow> {
        (self.play)(self, time, patience)
    }
}

fn play<R: Rig>(subject: &Subject, time: Duration, patience: Duration) -> Result<CellRow> {
    let (ground, board) = (Ground::new::<R>()?, Board::new()?);
    let cores = Cores::choose();
    let writes_on = cores.as_ref().and_then(|cores| cores.producers.first().copied());
    // All processors but the writer's, in turn.
    let rest: Option<Vec<usize>> =
        cores.map(|cores| [cores.consumer].into_iter().chain(cores.producers.into_iter().skip(1)).collect());
    let mut children = Vec::new();
    for (number, seat) in board.readers().iter().enumerate().take(subject.readers) {
        let reads_on = rest.as_ref().and_then(|rest| rest.get(number % rest.len().max(1)).copied());
        children.push(Child::spawn(|| crew::read::<R>(&ground, &board, seat, reads_on))?);
    }
    let seats = || board.readers().iter().take(subject.readers);
    // ORD board.begun: Acquire <- `crew::read`, `crew::write`; the process is there, with its role.
    let begun = |seat: &Seat| seat.begun.load(Ordering::Acquire) != 0;
    until(patience, || seats().all(begun)).context("the readers did not begin")?;
    let [seat, ..] = board.writers();
    children.push(Child::spawn(|| crew::write::<R>(&ground, &board, seat, 1, writes_on))?);
    until(patience, || begun(seat)).context("the writer did not begin")?;
    let (start, before) = (Instant::now(), counts(&board));
    std::thread::sleep(time);
    let (took, after) = (start.elapsed(), counts(&board));
    board.stop();
    let mut row = CellRow {
        structure: subject.structure.to_owned(),
        payload_bytes: subject.payload_bytes as u64,
        mode: "latest",
        writers: 1,
        readers: subject.readers as u64,
        ..CellRow::default()
    };
    for child in children {
        if let Err(error) = child.finish(patience) {
            row.blocked += 1;
            row.troubles.push(format!("at the end: {error}"));
        }
    }
    for fault in seats().chain([seat]).filter_map(Seat::fault) {
        match fault.0 {
            Fault::Torn => row.torn += 1,
            Fault::Back => row.back += 1,
            Fault::Lost => row.lost += 1,
            Fault::Blocked | Fault::Corrupt => row.blocked += 1,
        }
        row.troubles.push(format!("{fault:?}"));
    }
    // The rates are those of the time when all were there, the counts are of all.
    let [writes, reads] =
        [0, 1].map(|at| after.get(at).zip(before.get(at)).map_or(0, |(after, before)| after - before));
    (row.writes, row.reads) = (writes, reads);
    row.rate(took);
    let [writes, reads] = counts(&board);
    (row.writes, row.reads) = (writes, reads);
    // ORD board: Relaxed, the processes have ended and were waited for.
    row.retries = seats().map(|seat| seat.retries.load(Ordering::Relaxed)).sum();
    // ORD board: Relaxed, as above.
    let all_read = seats().all(|seat| seat.count.load(Ordering::Relaxed) > 0);
    row.verified = row.troubles.is_empty() && all_read && row.writes > 0;
    Ok(row)
}

/// What was written and read so far.
fn counts(board: &Board) -> [u64; 2] {
    // ORD board: Relaxed, counts, of which nothing is read behind.
    [board.writers(), board.readers()]
        .map(|seats| seats.iter().map(|seat| seat.count.load(Ordering::Relaxed)).sum())
}

fn until(patience: Duration, mut what: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !what() {
        ensure!(begun.elapsed() < patience, "expected it within {patience:?}");
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}
