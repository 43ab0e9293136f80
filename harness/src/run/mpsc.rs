//! The adapters for queues with many producers: slots one at a time and in batches, records of mixed lengths. All roles
//! are taken by leases of the segment.

use core::marker::PhantomData;

use anyhow::{Context as _, Result, bail};
use tidewire_shm::{Region, Segment, SegmentLeases};

use super::child::variable;
use super::fixed::{misbehave, payload_bytes};
use super::message::{self, WORD, name};
use super::oracle::Oracle;
use super::plan::{Choices, Mode, Plan, Shape, Structure};
use super::records::{LONGEST, Words, is_record, lay_out, words};
use super::side::{Outcome, Side, address};
use crate::subject::mpsc::{Lanes, Ordered, Queue, Records, RecordsKind, Slots, SlotsKind, producer};
use crate::subject::{self, Refusal, Subject};

/// Messages in a batch.
const BATCH: usize = 32;
/// Messages between two looks at the clock.
const BLOCK: u64 = 1024;
const PRODUCERS: [u8; 4] = [1, 2, 4, 16];
const SLOTS: usize = 1024;
const BYTES: usize = 1 << 16;
/// Bytes of a record, at least and at most, unless the user says otherwise.
const LENGTHS: (usize, usize) = (16, 79);

/// Queues of fixed slots.
pub(crate) struct FixedQueue<K>(PhantomData<fn() -> K>);
/// Queues of byte records.
pub(crate) struct RecordQueue<K>(PhantomData<fn() -> K>);

/// In order per producer.
pub(crate) static FIXED: FixedQueue<Lanes> = FixedQueue(PhantomData);
/// In one order.
pub(crate) static ORDERED: FixedQueue<Ordered> = FixedQueue(PhantomData);
/// Records, in order per producer.
pub(crate) static RECORDS: RecordQueue<Lanes> = RecordQueue(PhantomData);
/// Records, in one order.
pub(crate) static ORDERED_RECORDS: RecordQueue<Ordered> = RecordQueue(PhantomData);

/// The segment of the structure, which leases are asked of.
fn segment() -> Result<Segment> {
    Ok(Segment::inherited(variable(0))?)
}

fn queue<Q: Queue>() -> Result<(Q, SegmentLeases)> {
    let segment = segment()?;
    Ok((Q::open_queue(segment.region())?, segment.leases()?))
}

/// Tries until it works.
#[inline(always)]
fn insist(side: &Side<'_>, mut act: impl FnMut() -> Result<(), Refusal>) -> Result<()> {
    let mut fruitless = 0;
    loop {
        match act() {
            Ok(()) => return Ok(()),
            Err(Refusal::NotNow) => side.wait(&mut fruitless),
            Err(Refusal::Broken(text)) => bail!(text),
        }
    }
}

/// What depends on the size of a message.
struct Size {
    payload: usize,
    bytes: fn(&Plan) -> Result<usize>,
    create: fn(&Plan, Region) -> Result<()>,
    produce: fn(&mut Side<'_>) -> Result<Outcome>,
    consume: fn(&mut Side<'_>) -> Result<Outcome>,
    recorded: fn(u8) -> Box<dyn Subject>,
}

const fn size<K: SlotsKind<W>, const W: usize>() -> Size {
    Size {
        payload: W * WORD,
        bytes: |plan| K::bytes::<SegmentLeases>(plan.producers, plan.capacity),
        create: |plan, region| K::create::<SegmentLeases>(region, plan.producers, plan.capacity),
        produce: |side| match side.plan.mode {
            Mode::Single => send::<K, W, 1>(side),
            _ => send::<K, W, BATCH>(side),
        },
        consume: |side| match side.plan.mode {
            Mode::Single => receive::<K, W, 1>(side),
            _ => receive::<K, W, BATCH>(side),
        },
        recorded: |producers| Box::new(Slots::<K, W>::new(producers)),
    }
}

fn of_payload<K>(payload: usize) -> Result<Size>
where
    K: SlotsKind<1> + SlotsKind<8> + SlotsKind<128>,
{
    let sizes = [size::<K, 1>(), size::<K, 8>(), size::<K, 128>()];
    sizes
        .into_iter()
        .find(|size| size.payload == payload)
        .with_context(|| format!("expected a payload out of 8, 64, 1024 bytes, found {payload}"))
}

impl<K> Structure for FixedQueue<K>
where
    K: SlotsKind<1> + SlotsKind<8> + SlotsKind<128>,
{
    fn name(&self) -> &'static str {
        <K as SlotsKind<1>>::Queue::NAME
    }

    fn shapes(&self, choices: &Choices) -> Result<Vec<Shape>> {
        let capacity = choices.capacity.unwrap_or(SLOTS);
        if capacity < BATCH {
            bail!("expected a capacity of at least {BATCH} slots, the length of a batch, found {capacity}");
        }
        // One order is for small messages, if nobody asks for others.
        let usual: &[usize] = if <K as SlotsKind<1>>::Queue::ORDERED { &[8] } else { &[8, 64, 1024] };
        let payloads = if choices.payloads.is_empty() { usual } else { &choices.payloads };
        let mut shapes = Vec::new();
        for &payload in payloads {
            of_payload::<K>(payload)?;
            for mode in [Mode::Single, Mode::Batch32] {
                let payload = (payload, payload);
                shapes.extend(PRODUCERS.map(|producers| Shape { mode, payload, capacity, producers }));
            }
        }
        Ok(shapes)
    }

    fn bytes(&self, plan: &Plan) -> Result<usize> {
        (of_payload::<K>(plan.payload.1)?.bytes)(plan)
    }

    fn create(&self, plan: &Plan, region: Region) -> Result<()> {
        (of_payload::<K>(plan.payload.1)?.create)(plan, region)
    }

    fn recorded(&self, plan: &Plan) -> Result<Box<dyn Subject>> {
        Ok((of_payload::<K>(plan.payload.1)?.recorded)(plan.producers))
    }

    fn produce(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        let outcome = (of_payload::<K>(side.plan.payload.1)?.produce)(side)?;
        Ok(Outcome { addresses: all.iter().map(address).collect(), ..outcome })
    }

    fn consume(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        let outcome = (of_payload::<K>(side.plan.payload.1)?.consume)(side)?;
        Ok(Outcome { addresses: all.iter().map(address).collect(), ..outcome })
    }
}

/// Sends `N` messages at a time.
fn send<K: SlotsKind<W>, const W: usize, const N: usize>(side: &mut Side<'_>) -> Result<Outcome> {
    let (queue, leases) = queue::<K::Queue>()?;
    let mut producer = producer(&queue, &leases)?;
    side.start()?;
    let mut budget = side.budget(BLOCK);
    let mut fault = side.plan.fault;
    let number = side.number();
    let mut batch = vec![[0; W]; N];
    let mut next = 0;
    loop {
        let block = budget.next(next);
        if block == 0 {
            break;
        }
        // Names follow each other like sequences.
        let (mut name, mut left) = (name(number, next), block);
        while left > 0 {
            let n = left.min(N as u64);
            #[expect(clippy::cast_possible_truncation, reason = "at most `N`")]
            let batch = batch.split_at_mut(n as usize).0;
            for (message, name) in batch.iter_mut().zip(name..) {
                message::fill(message, name);
            }
            match batch {
                [message] if N == 1 => insist(side, || K::push(&mut producer, message))?,
                batch => insist(side, || K::push_slice(&mut producer, batch))?,
            }
            name += n;
            left -= n;
        }
        next += block;
        side.progress(next);
        if fault.take().is_some() {
            next = misbehave(side, next, |message| insist(side, || K::push(&mut producer, message)))?;
        }
    }
    Ok(Outcome { sent: side.end(next)?, ..side.outcome() })
}

/// Receives up to `N` messages at a time, until the producers have ended and there are no more.
fn receive<K: SlotsKind<W>, const W: usize, const N: usize>(side: &mut Side<'_>) -> Result<Outcome> {
    let (queue, leases) = queue::<K::Queue>()?;
    let mut consumer = queue.consume(&leases)?;
    side.start()?;
    let mut oracle = Oracle::new(side.plan.producers);
    let mut batch = vec![[0; W]; N];
    let (mut over, mut fruitless, mut seen, mut report) = (false, 0, 0_u64, 0);
    loop {
        let got = match batch.as_mut_slice() {
            [message] => K::pop_to(&mut consumer, message).map(|()| 1),
            batch => K::pop_into(&mut consumer, batch),
        };
        match got {
            Ok(n) => {
                for message in batch.iter().take(n) {
                    let first = message.first().copied().unwrap_or_default();
                    oracle.see_as(first, |name| message::is(message, name));
                }
                fruitless = 0;
                seen += n as u64;
                if seen >= report {
                    report = seen + BLOCK;
                    side.progress(seen);
                }
            }
            Err(Refusal::NotNow) if over => break,
            Err(Refusal::NotNow) => over = !side.wait_for_more(&mut fruitless),
            Err(Refusal::Broken(text)) => bail!(text),
        }
    }
    drop(consumer);
    Ok(side.judged(oracle, payload_bytes::<W>))
}

impl<K: RecordsKind> Structure for RecordQueue<K> {
    fn name(&self) -> &'static str {
        K::Queue::NAME
    }

    fn shapes(&self, choices: &Choices) -> Result<Vec<Shape>> {
        let capacity = choices.capacity.unwrap_or(BYTES);
        let longest = (capacity / 2).saturating_sub(WORD).min(LONGEST);
        let mut payloads = Vec::new();
        for &payload in &choices.payloads {
            if !(WORD..=longest).contains(&payload) {
                bail!("expected a payload from {WORD} to {longest} bytes, found {payload}");
            }
            payloads.push((payload, payload));
        }
        if choices.payloads.is_empty() {
            payloads.push(LENGTHS);
        }
        let shape = |payload, producers| Shape { mode: Mode::Records, payload, capacity, producers };
        Ok(payloads
            .into_iter()
            .flat_map(|payload| PRODUCERS.map(|producers| shape(payload, producers)))
            .collect())
    }

    fn bytes(&self, plan: &Plan) -> Result<usize> {
        K::bytes::<SegmentLeases>(plan.producers, plan.capacity)
    }

    fn create(&self, plan: &Plan, region: Region) -> Result<()> {
        K::create::<SegmentLeases>(region, plan.producers, plan.capacity)
    }

    fn recorded(&self, plan: &Plan) -> Result<Box<dyn Subject>> {
        let (shortest, longest) = plan.payload;
        let form = subject::Records { shortest, longest, ..subject::Records::default() };
        Ok(Box::new(Records::<K>::with(plan.producers, form)))
    }

    fn produce(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        Ok(Outcome { addresses: all.iter().map(address).collect(), ..send_records::<K>(side)? })
    }

    fn consume(&self, side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
        Ok(Outcome { addresses: all.iter().map(address).collect(), ..receive_records::<K>(side)? })
    }
}

fn send_records<K: RecordsKind>(side: &mut Side<'_>) -> Result<Outcome> {
    let (queue, leases) = queue::<K::Queue>()?;
    let mut producer = producer(&queue, &leases)?;
    side.start()?;
    let (plan, number) = (side.plan, side.number());
    let mut budget = side.budget(BLOCK);
    let mut fault = plan.fault;
    let mut all: Words = [0; LONGEST / WORD];
    let mut next = 0;
    let mut push = |all: &Words, len: usize| {
        insist(side, || K::push(&mut producer, bytemuck::cast_slice(all).split_at(len).0))
    };
    loop {
        let block = budget.next(next);
        if block == 0 {
            break;
        }
        for sequence in next..next + block {
            let len = lay_out(&mut all, plan, number, sequence);
            push(&all, len)?;
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
            push(&all, len)?;
        }
        next = go_on;
    }
    Ok(Outcome { sent: side.end(next)?, ..side.outcome() })
}

fn receive_records<K: RecordsKind>(side: &mut Side<'_>) -> Result<Outcome> {
    let (queue, leases) = queue::<K::Queue>()?;
    let mut consumer = queue.consume(&leases)?;
    side.start()?;
    let plan = side.plan;
    let mut oracle = Oracle::new(plan.producers);
    let mut all: Words = [0; LONGEST / WORD];
    let (mut bytes, mut seen) = (0, 0_u64);
    let (mut over, mut fruitless) = (false, 0);
    loop {
        match K::pop_into(&mut consumer, bytemuck::cast_slice_mut(&mut all)) {
            Ok(len) => {
                let [first, ..] = all;
                let first = if len < WORD { 0 } else { first };
                oracle.see_as(first, |name| is_record(&all, len, name, plan));
                bytes += len as u64;
                fruitless = 0;
                seen += 1;
                if seen.is_multiple_of(BLOCK) {
                    side.progress(seen);
                }
            }
            Err(Refusal::NotNow) if over => break,
            Err(Refusal::NotNow) => over = !side.wait_for_more(&mut fruitless),
            Err(Refusal::Broken(text)) => bail!(text),
        }
    }
    drop(consumer);
    Ok(side.judged(oracle, |_| bytes))
}
