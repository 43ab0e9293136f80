//! Memory of a channel: what both sides have of their own for it, and what lies between them.
//!
//! The system says what each process has resident; a page that several share counts for each by its share, so that
//! the sum over both sides counts it once. What the kernel keeps for pipes, sockets and queues of its own is not in
//! it. The first channel of a process is told apart from further ones: it brings what is there once, threads and
//! tables, and the code's first touch of the heap.

use std::fs;

use anyhow::{Context as _, ensure};

use crate::board::{Board, Value};
use crate::message::contender::{Layer, capacity};
use crate::message::run::{self, Manner};
use crate::message::stream::{await_one, probed_a, probed_b, send};
use crate::pair::Mode;
use crate::probe::meet;
use crate::schedule::Plan;
use crate::stream::blank;

/// Channels behind the first.
const FURTHER: usize = 8;

/// What a process has resident, in bytes, each page by its share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resident {
    /// That is nobody else's: heap, stacks, tables.
    pub own: f64,
    /// In memory that processes share.
    pub shared: f64,
}

impl Resident {
    /// Of this process.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn here() -> anyhow::Result<Self> {
        let text =
            fs::read_to_string("/proc/self/smaps_rollup").context("ask for the memory of a process")?;
        let bytes = |name: &str| -> anyhow::Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            Ok(kib.with_context(|| format!("expected {name} of a process' memory, found none"))? * 1024.0)
        };
        Ok(Self { own: bytes("Pss_Anon:")?, shared: bytes("Pss_Shmem:")? })
    }
}

/// Notes what came since `before`.
fn note(board: &Board, before: Resident, own: Value, shared: Value, channels: usize) -> anyhow::Result<()> {
    let now = Resident::here()?;
    board.add(own, (now.own - before.own) / channels as f64);
    board.add(shared, (now.shared - before.shared) / channels as f64);
    Ok(())
}

/// Runs one side: opens the channels one by one, each of which all of `messages` go through, and keeps them.
fn channels<E>(
    board: &Board,
    mut open: impl FnMut(usize) -> anyhow::Result<E>,
    mut pass: impl FnMut(&mut E, u64) -> anyhow::Result<()>,
    messages: u64,
    meet: impl Fn(),
) -> anyhow::Result<Vec<E>> {
    let mut ends = Vec::with_capacity(FURTHER + 1);
    let mut before = Resident::here()?;
    for number in 0..=FURTHER {
        meet();
        let mut end = open(number)?;
        // Some lose what is sent before there is a receiver.
        meet();
        (0..messages).try_for_each(|message| pass(&mut end, message))?;
        ends.push(end);
        // Until both are through: pages that only one has would count twice.
        meet();
        if number == 0 {
            note(board, before, Value::FirstOwn, Value::FirstShared, 1)?;
            meet();
            before = Resident::here()?;
        }
    }
    note(board, before, Value::Own, Value::Shared, FURTHER)?;
    meet();
    Ok(ends)
}

/// What a channel takes once it has been full of messages: the first of two processes, and each further one.
///
/// # Errors
/// What a side found wrong, or what the layer or the system said.
pub fn of_a_channel<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    let messages = 2 * capacity(W) as u64;
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            probed_a(board, plan, || {
                let mut buffer = blank();
                channels(
                    board,
                    |number| L::sender::<W>(&place.link(board, number)?),
                    |tx, number| send(tx, &mut buffer, number),
                    messages,
                    || meet(&board.here_a, &board.here_b),
                )
                .map(drop)
            })
        },
        |place| {
            probed_b(board, || {
                let mut buffer = blank();
                channels(
                    board,
                    |number| L::receiver::<W>(&place.link(board, number)?),
                    |rx, number| {
                        let (found, torn) = await_one(rx, &mut buffer)?;
                        ensure!(torn == 0 && found == number, "expected message {number}, found {found}");
                        Ok(())
                    },
                    messages,
                    || meet(&board.here_b, &board.here_a),
                )
                .map(drop)
            })
        },
    )?;
    board.set(Value::Count, (FURTHER + 1) as f64);
    Ok(())
}
