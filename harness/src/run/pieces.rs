//! A file as byte records: cut into pieces of mixed lengths at one end, put together at the other.
//!
//! # Layout
//! ```text
//!  0   the first word of a message: producer, sequence, check of both
//!  8   check of the piece's bytes
//! 16   the piece
//! ```

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use tidewire_ring::RecordPopError;
use tidewire_ring::bytes::{Consumer, Producer};
use tidewire_shm::Untrusted;

use super::message::{self, WORD, check_bytes, first_word, name};
use super::oracle::Oracle;
use super::plan::{Fault, Plan};
use super::records::push;
use super::side::{Outcome, Side};

/// Bytes in front of a piece of a file: its name, and the check of its bytes.
pub(crate) const HEAD: usize = 2 * WORD;
/// Bytes of the longest piece of a file.
pub(crate) const PIECE: usize = 1 << 14;
/// Pieces between two reports.
const BLOCK: u64 = 64;
const BUFFER: usize = 1 << 20;

/// The file of this side: its standard input, opened by the parent for reading or for writing.
fn own_file() -> Result<File> {
    let stdin = std::io::stdin();
    Ok(File::from(stdin.as_fd().try_clone_to_owned()?))
}

pub(crate) fn send_file(side: &mut Side<'_>, mut producer: Producer<Untrusted>) -> Result<Outcome> {
    let mut file = BufReader::with_capacity(BUFFER, own_file()?);
    let plan = side.plan;
    let mut record = vec![0; HEAD + plan.payload.1];
    let mut fault = plan.fault;
    let mut next = 0;
    let mut held: Option<Vec<u8>> = None;
    side.start()?;
    loop {
        let len = read_piece(&mut file, &mut record, name(side.number(), next), plan)?;
        if len == HEAD {
            break;
        }
        let whole = record.split_at(len).0;
        if next == 0 || fault.is_none() {
            push(side, &mut producer, whole)?;
        } else if let Some(first) = held.take() {
            // The second of two that change places.
            push(side, &mut producer, whole)?;
            push(side, &mut producer, &first)?;
            fault = None;
        } else {
            held = misbehave(side, &mut producer, whole)?;
            fault = fault.filter(|_| held.is_some());
        }
        next += 1;
        if next % BLOCK == 0 {
            side.progress(next);
        }
    }
    if let Some(first) = held {
        push(side, &mut producer, &first)?;
    }
    Ok(Outcome { sent: side.end(next)?, ..side.outcome() })
}

/// Reads the next piece behind its head; says how long both are.
fn read_piece(file: &mut BufReader<File>, record: &mut [u8], name: u64, plan: &Plan) -> Result<usize> {
    let (head, piece) = record.split_at_mut(HEAD);
    let want = message::length(message::parts(name).1, plan.payload.0, plan.payload.1);
    let piece = piece.split_at_mut(want).0;
    let mut len = 0;
    while let Some(rest) = piece.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).context("reading the input")? {
            0 => break,
            n => len += n,
        }
    }
    let (first, second) = head.split_at_mut(WORD);
    first.copy_from_slice(&first_word(name).to_le_bytes());
    second.copy_from_slice(&check_bytes(piece.split_at(len).0).to_le_bytes());
    Ok(HEAD + len)
}

/// Does what the fault wants with the next record; returns it if it shall follow its successor.
fn misbehave(side: &Side<'_>, producer: &mut Producer<Untrusted>, whole: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut record = whole.to_vec();
    match side.plan.fault {
        Some(Fault::Skip) => {}
        Some(Fault::Swap) => return Ok(Some(record)),
        Some(Fault::Repeat) => {
            push(side, producer, &record)?;
            push(side, producer, &record)?;
        }
        Some(Fault::Tear) => {
            if let Some(last) = record.last_mut() {
                *last ^= 1;
            }
            push(side, producer, &record)?;
        }
        _ => push(side, producer, &record)?,
    }
    Ok(None)
}

pub(crate) fn receive_file(side: &mut Side<'_>, mut consumer: Consumer<Untrusted>) -> Result<Outcome> {
    let mut file = BufWriter::with_capacity(BUFFER, own_file()?);
    let mut record = vec![0; HEAD + side.plan.payload.1];
    let mut oracle = Oracle::new(1);
    let mut bytes = 0;
    let mut over = false;
    let mut fruitless = 0;
    side.start()?;
    loop {
        match consumer.pop_into(&mut record) {
            Ok(len) => {
                let (head, piece) = record.split_at(len).0.split_at(HEAD.min(len));
                let mut words = head.as_chunks::<WORD>().0.iter().map(|word| u64::from_le_bytes(*word));
                let (first, check) = (words.next().unwrap_or_default(), words.next());
                oracle.see_as(first, |_| check == Some(check_bytes(piece)));
                file.write_all(piece).context("writing the output")?;
                bytes += piece.len() as u64;
                fruitless = 0;
                if oracle.next(0).is_multiple_of(BLOCK) {
                    side.progress(oracle.next(0));
                }
            }
            Err(RecordPopError::Empty) if over => break,
            Err(RecordPopError::Empty) => over = !side.wait_for_more(&mut fruitless),
            Err(error) => return Err(error.into()),
        }
    }
    file.flush().context("writing the output")?;
    Ok(side.judged(oracle, |_| bytes))
}
