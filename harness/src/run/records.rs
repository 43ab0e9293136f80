//! The adapter for rings of byte records: records of mixed lengths; files are the part of `pieces`.

use anyhow::{Result, bail};
use tidewire_ring::bytes::{Consumer, Producer, Ring};
use tidewire_ring::{Options, RecordPopError, RecordPushError};
use tidewire_shm::{Region, Untrusted};

use super::message::{self, WORD, name};
use super::oracle::Oracle;
use super::pieces::{HEAD, PIECE, receive_file, send_file};
use super::plan::{Choices, Mode, Plan, Shape, Structure, regions};
use super::side::{Outcome, Side, address};
use crate::subject::{self, Subject};

/// Records between two looks at the clock.
const BLOCK: u64 = 4096;
const CAPACITY: usize = 1 << 16;
/// Bytes of a record, at least and at most, unless the user says otherwise.
const LENGTHS: (usize, usize) = (16, 79);
/// Bytes of the longest record of the row of records.
pub(super) const LONGEST: usize = 4096;
const FINGERPRINT: u64 = 0x7469_6465_7275_6e02;

/// Rings of byte records.
pub(crate) struct Records;

pub(super) type Words = [u64; LONGEST / WORD];

impl Structure for Records {
    fn name(&self) -> &'static str {
        "ring-bytes"
    }

    fn shapes(&self, choices: &Choices) -> Result<Vec<Shape>> {
        let capacity = choices.capacity.unwrap_or(CAPACITY);
        Ring::<Untrusted>::bytes(capacity, &options())?;
        let longest = (capacity / 2).saturating_sub(WORD);
        let shape = |mode, payload| Shape { mode, payload, capacity, producers: 1 };
        let mut shapes = Vec::new();
        for &payload in &choices.payloads {
            if !(WORD..=LONGEST).contains(&payload) {
                bail!("expected a payload from {WORD} to {LONGEST} bytes, found {payload}");
            }
            shapes.push(shape(Mode::Records, (payload, payload)));
        }
        if choices.payloads.is_empty() {
            shapes.push(shape(Mode::Records, LENGTHS));
        }
        if choices.payloads.is_empty() || choices.input {
            shapes.push(shape(Mode::File, (1, PIECE.min(longest.saturating_sub(HEAD)).max(1))));
        }
        for &Shape { mode, payload: (_, most), .. } in &shapes {
            let needed = if mode == Mode::File { most + HEAD } else { most };
            if needed > longest {
                bail!(
                    "expected a capacity of which half holds a record of {needed} bytes and {WORD} more, \
                     found {capacity} bytes"
                );
            }
        }
        Ok(shapes)
    }

    fn bytes(&self, plan: &Plan) -> Result<usize> {
        Ok(Ring::<Untrusted>::bytes(plan.capacity, &options())?)
    }

    fn create(&self, plan: &Plan, region: Region) -> Result<()> {
        Ring::<Untrusted>::create(region, plan.capacity, &options())?;
        Ok(())
    }

    fn recorded(&self, plan: &Plan) -> Result<Box<dyn Subject>> {
        let bytes = |payload: usize| payload.clamp(WORD, subject::Records::LONGEST);
        let (shortest, longest) = match plan.mode {
            // Short pieces are many messages, and the most work for the ring.
            Mode::File => (WORD, plan.payload.1.min(LENGTHS.1)),
            _ => plan.payload,
        };
        let (shortest, longest) = (bytes(shortest), bytes(longest));
        Ok(Box::new(subject::Records { fingerprint: FINGERPRINT, shortest, longest }))
    }

    fn produce(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        let addresses = all.iter().map(address).collect();
        let [region] = regions(all)?;
        let producer = Ring::open(region, FINGERPRINT)?.producer()?;
        let outcome = match side.plan.mode {
            Mode::Records => send_records(side, producer)?,
            Mode::File => send_file(side, producer)?,
            mode => bail!("expected a mode of byte records, found {}", mode.name()),
        };
        Ok(Outcome { addresses, ..outcome })
    }

    fn consume(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        let addresses = all.iter().map(address).collect();
        let [region] = regions(all)?;
        let consumer = Ring::open(region, FINGERPRINT)?.consumer()?;
        let outcome = match side.plan.mode {
            Mode::Records => receive_records(side, consumer)?,
            Mode::File => receive_file(side, consumer)?,
            mode => bail!("expected a mode of byte records, found {}", mode.name()),
        };
        Ok(Outcome { addresses, ..outcome })
    }
}

fn options() -> Options {
    Options::new().type_fingerprint(FINGERPRINT)
}

/// The words that a record of this many bytes fills, wholly or in part.
#[inline(always)]
pub(super) fn words(all: &mut Words, len: usize) -> &mut [u64] {
    all.split_at_mut(len.div_ceil(WORD).min(LONGEST / WORD)).0
}

/// Lays a record out; says how long it is.
#[inline(always)]
pub(super) fn lay_out(all: &mut Words, plan: &Plan, number: u8, sequence: u64) -> usize {
    let len = message::length(sequence, plan.payload.0, plan.payload.1);
    message::fill(words(all, len), name(number, sequence));
    len
}

/// Pushes one record, however long it takes.
#[inline(always)]
pub(crate) fn push(side: &Side<'_>, producer: &mut Producer<Untrusted>, record: &[u8]) -> Result<()> {
    let mut fruitless = 0;
    loop {
        match producer.push(record) {
            Ok(()) => return Ok(()),
            Err(RecordPushError::Full) => side.wait(&mut fruitless),
            Err(error) => return Err(error.into()),
        }
    }
}

fn send_records(side: &mut Side<'_>, mut producer: Producer<Untrusted>) -> Result<Outcome> {
    side.start()?;
    let (plan, number) = (side.plan, side.number());
    let mut budget = side.budget(BLOCK);
    let mut fault = plan.fault;
    let mut all: Words = [0; LONGEST / WORD];
    let mut next = 0;
    loop {
        let block = budget.next(next);
        if block == 0 {
            break;
        }
        for sequence in next..next + block {
            let len = lay_out(&mut all, plan, number, sequence);
            push(side, &mut producer, bytemuck::cast_slice(&all).split_at(len).0)?;
        }
        next += block;
        side.progress(next);
        let Some(fault) = fault.take() else { continue };
        let (instead, go_on) = fault.instead(next);
        for (sequence, torn) in instead {
            let len = lay_out(&mut all, plan, number, sequence);
            if torn {
                message::tear(words(&mut all, len), name(number, sequence));
            }
            push(side, &mut producer, bytemuck::cast_slice(&all).split_at(len).0)?;
        }
        next = go_on;
    }
    Ok(Outcome { sent: side.end(next)?, ..side.outcome() })
}

fn receive_records(side: &mut Side<'_>, mut consumer: Consumer<Untrusted>) -> Result<Outcome> {
    side.start()?;
    let plan = side.plan;
    let mut oracle = Oracle::new(1);
    let mut follow = oracle.follow(0);
    let mut all: Words = [0; LONGEST / WORD];
    let mut bytes = 0;
    let mut over = false;
    let mut fruitless = 0;
    loop {
        match consumer.pop_into(bytemuck::cast_slice_mut(&mut all)) {
            Ok(len) => {
                let [first, ..] = all;
                let first = if len < WORD { 0 } else { first };
                follow.see_as(first, |name| is_record(&all, len, name, plan));
                bytes += len as u64;
                fruitless = 0;
                if follow.next().is_multiple_of(BLOCK) {
                    side.progress(follow.next());
                }
            }
            Err(RecordPopError::Empty) if over => break,
            Err(RecordPopError::Empty) => over = !side.wait_for_more(&mut fruitless),
            Err(error) => return Err(error.into()),
        }
    }
    follow.end();
    Ok(side.judged(oracle, |_| bytes))
}

/// Whether these bytes are exactly the record of this name.
#[inline(always)]
pub(super) fn is_record(all: &Words, len: usize, name: u64, plan: &Plan) -> bool {
    let (_, sequence) = message::parts(name);
    if len != message::length(sequence, plan.payload.0, plan.payload.1) {
        return false;
    }
    let (whole, rest) = all.split_at(len / WORD);
    let used = len % WORD;
    if !message::is(whole, name) {
        return false;
    }
    let Some(last) = rest.first().filter(|_| used > 0) else {
        return true;
    };
    let unused = u64::BITS - 8 * u32::try_from(used).unwrap_or_default();
    // Records are laid out as little-endian machines do: the bytes that are there are the low ones.
    (last.to_le() ^ message::word(name, whole.len()).to_le()) << unused == 0
}
