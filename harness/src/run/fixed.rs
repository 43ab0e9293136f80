//! The adapter for rings of fixed slots: messages of a few sizes, one at a time and in batches; round trips are the part of `trips`.

use anyhow::{Result, bail};
use tidewire_ring::fixed::{Consumer, Producer, Ring};
use tidewire_ring::{Options, PopError, PushError};
use tidewire_shm::{Region, Untrusted};

use super::message::{self, WORD, name};
use super::oracle::{Oracle, Tally};
use super::plan::{Choices, Mode, Plan, Shape, Structure, regions};
use super::side::{Outcome, Side, address};
use super::trips::{answer, ask};
use crate::subject::{self, Subject};
use crate::twins::history_twins::Broken;

/// Messages in a batch.
const BATCH: usize = 32;
/// Messages between two looks at the clock.
const BLOCK: u64 = 4096;
const CAPACITY: usize = 1024;
const DEFAULT_PAYLOADS: [usize; 3] = [8, 64, 1024];
const MODES: [Mode; 3] = [Mode::Single, Mode::Batch32, Mode::RoundTrip];
/// Names the message of this file: words as `message` lays them out, version 1.
pub(super) const FINGERPRINT: u64 = 0x7469_6465_7275_6e01;

/// Rings of fixed slots.
pub(crate) struct Fixed;

/// What depends on the size of a message.
struct Size {
    payload: usize,
    bytes: fn(usize) -> Result<usize>,
    create: fn(Region, usize) -> Result<()>,
    produce: fn(&mut Side<'_>, Vec<Region>) -> Result<Outcome>,
    consume: fn(&mut Side<'_>, Vec<Region>) -> Result<Outcome>,
    recorded: fn() -> Box<dyn Subject>,
}

const fn size<const W: usize>() -> Size {
    Size {
        payload: W * WORD,
        bytes: bytes::<W>,
        create: create::<W>,
        produce: produce::<W>,
        consume: consume::<W>,
        recorded: || Box::new(subject::Fixed::<W> { fingerprint: FINGERPRINT }),
    }
}

static SIZES: [Size; 10] = [
    size::<1>(),
    size::<2>(),
    size::<4>(),
    size::<8>(),
    size::<16>(),
    size::<32>(),
    size::<64>(),
    size::<128>(),
    size::<256>(),
    size::<512>(),
];

fn of_payload(payload: usize) -> Result<&'static Size> {
    match SIZES.iter().find(|size| size.payload == payload) {
        Some(size) => Ok(size),
        None => {
            let known: Vec<_> = SIZES.iter().map(|size| size.payload.to_string()).collect();
            bail!("expected a payload out of {} bytes, found {payload}", known.join(", "))
        }
    }
}

impl Structure for Fixed {
    fn name(&self) -> &'static str {
        "ring-fixed"
    }

    fn shapes(&self, choices: &Choices) -> Result<Vec<Shape>> {
        let capacity = choices.capacity.unwrap_or(CAPACITY);
        let payloads =
            if choices.payloads.is_empty() { &DEFAULT_PAYLOADS[..] } else { &choices.payloads[..] };
        let mut shapes = Vec::new();
        for &payload in payloads {
            (of_payload(payload)?.bytes)(capacity)?;
            let payload = (payload, payload);
            shapes.extend(MODES.map(|mode| Shape { mode, payload, capacity, producers: 1 }));
        }
        if capacity < BATCH {
            bail!("expected a capacity of at least {BATCH} slots, the length of a batch, found {capacity}");
        }
        Ok(shapes)
    }

    fn bytes(&self, plan: &Plan) -> Result<usize> {
        (of_payload(plan.payload.1)?.bytes)(plan.capacity)
    }

    fn create(&self, plan: &Plan, region: Region) -> Result<()> {
        (of_payload(plan.payload.1)?.create)(region, plan.capacity)
    }

    fn recorded(&self, plan: &Plan) -> Result<Box<dyn Subject>> {
        if let Some(twin) = plan.twin {
            let ring = subject::Fixed { fingerprint: FINGERPRINT };
            return Ok(Box::new(Broken { twin, ring }));
        }
        Ok((of_payload(plan.payload.1)?.recorded)())
    }

    fn produce(&self, side: &mut Side<'_>, regions: Vec<Region>) -> Result<Outcome> {
        (of_payload(side.plan.payload.1)?.produce)(side, regions)
    }

    fn consume(&self, side: &mut Side<'_>, regions: Vec<Region>) -> Result<Outcome> {
        (of_payload(side.plan.payload.1)?.consume)(side, regions)
    }
}

pub(crate) type Message<const W: usize> = [u64; W];
pub(crate) type Sender<const W: usize> = Producer<Message<W>, Untrusted>;
pub(crate) type Receiver<const W: usize> = Consumer<Message<W>, Untrusted>;

fn options() -> Options {
    Options::new().type_fingerprint(FINGERPRINT)
}

fn bytes<const W: usize>(capacity: usize) -> Result<usize> {
    Ok(Ring::<Message<W>, Untrusted>::bytes(capacity, &options())?)
}

fn create<const W: usize>(region: Region, capacity: usize) -> Result<()> {
    Ring::<Message<W>, Untrusted>::create(region, capacity, &options())?;
    Ok(())
}

fn open<const W: usize>(region: Region) -> Result<Ring<Message<W>, Untrusted>> {
    Ok(Ring::open(region, FINGERPRINT)?)
}

fn produce<const W: usize>(side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
    let addresses: Vec<_> = all.iter().map(address).collect();
    let outcome = match side.plan.mode {
        Mode::Single => {
            let [there] = regions(all)?;
            send::<W, 1>(side, open(there)?.producer()?)?
        }
        Mode::Batch32 => {
            let [there] = regions(all)?;
            send::<W, BATCH>(side, open(there)?.producer()?)?
        }
        Mode::RoundTrip => {
            let [there, back] = regions(all)?;
            ask::<W>(side, open(there)?.producer()?, open(back)?.consumer()?)?
        }
        mode => bail!("expected a mode of fixed slots, found {}", mode.name()),
    };
    Ok(Outcome { addresses, ..outcome })
}

fn consume<const W: usize>(side: &mut Side<'_>, all: Vec<Region>) -> Result<Outcome> {
    let addresses: Vec<_> = all.iter().map(address).collect();
    let outcome = match side.plan.mode {
        Mode::Single => {
            let [there] = regions(all)?;
            receive::<W, 1>(side, open(there)?.consumer()?)?
        }
        Mode::Batch32 => {
            let [there] = regions(all)?;
            receive::<W, BATCH>(side, open(there)?.consumer()?)?
        }
        Mode::RoundTrip => {
            let [there, back] = regions(all)?;
            answer::<W>(side, open(there)?.consumer()?, open(back)?.producer()?)?
        }
        mode => bail!("expected a mode of fixed slots, found {}", mode.name()),
    };
    Ok(Outcome { addresses, ..outcome })
}

/// Pushes one message, however long it takes. It is made anew if there was no room: so it is moved, never copied.
#[inline(always)]
pub(crate) fn push<const W: usize>(
    side: &Side<'_>,
    producer: &mut Sender<W>,
    message: impl Fn() -> Message<W>,
) -> Result<()> {
    let mut fruitless = 0;
    loop {
        match producer.push(message()) {
            Ok(()) => return Ok(()),
            Err(PushError::Full) => {
                side.wait(&mut fruitless);
                while producer.is_full() {
                    side.wait(&mut fruitless);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The messages that a fault puts in the place of those from `next` on; says where to go on.
#[cold]
#[inline(never)]
pub(crate) fn misbehave<const W: usize>(
    side: &Side<'_>,
    next: u64,
    mut push: impl FnMut(&Message<W>) -> Result<()>,
) -> Result<u64> {
    let Some(fault) = side.plan.fault else {
        return Ok(next);
    };
    let (instead, go_on) = fault.instead(next);
    for (sequence, torn) in instead {
        let name = name(side.number(), sequence);
        let mut message = message::make::<W>(name);
        if torn {
            message::tear(&mut message, name);
        }
        push(&message)?;
    }
    Ok(go_on)
}

/// Sends `N` messages at a time.
pub(super) fn send<const W: usize, const N: usize>(
    side: &mut Side<'_>,
    mut producer: Sender<W>,
) -> Result<Outcome> {
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
            if N == 1 {
                push(side, &mut producer, || message::make(name))?;
                name += 1;
                left -= 1;
                continue;
            }
            let n = left.min(N as u64);
            #[expect(clippy::cast_possible_truncation, reason = "at most `N`")]
            let batch = batch.split_at_mut(n as usize).0;
            for (message, name) in batch.iter_mut().zip(name..) {
                message::fill(message, name);
            }
            let mut fruitless = 0;
            while let Err(error) = producer.push_slice(batch) {
                if error != PushError::Full {
                    return Err(error.into());
                }
                side.wait(&mut fruitless);
            }
            name += n;
            left -= n;
        }
        next += block;
        side.progress(next);
        if fault.take().is_some() {
            next = misbehave(side, next, |message| push(side, &mut producer, || *message))?;
        }
    }
    Ok(Outcome { sent: side.end(next)?, ..side.outcome() })
}

/// Receives up to `N` messages at a time, until the producer has ended and there are no more.
fn receive<const W: usize, const N: usize>(
    side: &mut Side<'_>,
    mut consumer: Receiver<W>,
) -> Result<Outcome> {
    side.start()?;
    let mut oracle = Oracle::new(1);
    let mut follow = oracle.follow(0);
    let mut batch = vec![[0; W]; N];
    let mut message = [0; W];
    let mut over = false;
    let mut fruitless = 0;
    let mut report = 0;
    loop {
        let got = if N == 1 {
            consumer.pop_to(&mut message).map(|()| follow.see(&message))
        } else {
            consumer.pop_into(&mut batch).map(|n| follow.see_all(batch.split_at(n).0))
        };
        match got {
            Ok(()) => {
                fruitless = 0;
                if follow.next() >= report {
                    report = follow.next() + BLOCK;
                    side.progress(follow.next());
                }
            }
            Err(PopError::Empty) if over => break,
            Err(PopError::Empty) => over = !side.wait_for_more(&mut fruitless),
            Err(error) => return Err(error.into()),
        }
    }
    follow.end();
    Ok(side.judged(oracle, payload_bytes::<W>))
}

/// Bytes of messages that were received.
pub(crate) fn payload_bytes<const W: usize>(tally: &Tally) -> u64 {
    tally.received * (W * WORD) as u64
}
