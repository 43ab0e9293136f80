//! Broken twins for `stress` and its history checker: a ring that is made wrong in one way, so that what its users
//! see is wrong only when a process dies, or only in time.
//!
//! Each is a ring of eight-byte messages with a wrapper around one end. Each must be caught by the column that is
//! there for it, not by any trouble.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, bail};
use tidewire_ring::fixed;
use tidewire_shm::{Region, Untrusted};

use super::book::Book;
use super::desk::PopDesk;
use super::history::Clock;
use super::plan::{self, Limits};
use super::rings::{Fixed, consumer};
use super::round::{self, Ground, Outcome};
use super::subject::{Pop, Push, Receiver, Refusal, Sender, Shape, Subject, read, table};
use crate::report::complain;
use crate::twins::TwinRow;

/// How the names of twins begin.
pub(crate) const PREFIX: &str = "twin-";

/// Rounds in which a twin must be caught.
const ROUNDS: u64 = 12;
/// After how long without progress a twin hangs, and the right ring.
const TWIN_PATIENCE: Duration = Duration::from_millis(300);
const RIGHT_PATIENCE: Duration = Duration::from_secs(5);
/// Messages that the early ones hold back.
const HELD: u32 = 8;

/// A ring with one thing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twin {
    /// The producer acknowledges a message before it is published: lost when it dies.
    EarlyAcknowledge,
    /// The consumer releases messages before it hands them out: lost when it dies.
    EarlyRelease,
    /// The consumer says Empty without looking, now and then: wrong only in time.
    BlindEmpty,
    /// The producer says Full without looking, now and then: wrong only in time.
    BlindFull,
    /// The consumer sleeps for ever after some looks, as if a wake-up had been lost.
    Stuck,
}

impl Twin {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::EarlyAcknowledge, Self::EarlyRelease, Self::BlindEmpty, Self::BlindFull, Self::Stuck];

    /// Whether it is wrong only in time, and right to anybody without a clock.
    fn needs_clock(self) -> bool {
        matches!(self, Self::BlindEmpty | Self::BlindFull)
    }

    /// Whether the checker found what is wrong with it, and not something else.
    fn is_caught_by(self, outcome: &Outcome) -> bool {
        match self {
            Self::EarlyAcknowledge | Self::EarlyRelease => outcome.verdict.lost > 0,
            Self::BlindEmpty => outcome.verdict.false_empty > 0,
            Self::BlindFull => outcome.verdict.false_full > 0,
            Self::Stuck => outcome.hung,
        }
    }
}

impl Subject for Twin {
    fn structure(&self) -> &'static str {
        match self {
            Self::EarlyAcknowledge => "twin-early-acknowledge",
            Self::EarlyRelease => "twin-early-release",
            Self::BlindEmpty => "twin-blind-empty",
            Self::BlindFull => "twin-blind-full",
            Self::Stuck => "twin-stuck",
        }
    }

    fn payload_bytes(&self) -> u64 {
        8
    }

    fn capacities(&self) -> (usize, usize) {
        (256, 256)
    }

    fn batch(&self, _shape: &Shape) -> u32 {
        1
    }

    fn bytes(&self, shape: &Shape) -> Result<usize> {
        Fixed::<1>.bytes(shape)
    }

    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()> {
        Fixed::<1>.create(region, shape)
    }

    unsafe fn sender(&self, region: Region<Untrusted>) -> Result<Box<dyn Sender>> {
        // SAFETY: the caller's promise.
        let sender = unsafe { Fixed::<1>.sender(region)? };
        Ok(match self {
            Self::EarlyAcknowledge => Box::new(EarlyAcknowledge { sender, producer: 0, first: 0, held: 0 }),
            Self::BlindFull => Box::new(BlindFull { sender, tries: 0 }),
            _ => sender,
        })
    }

    unsafe fn receiver(&self, region: Region<Untrusted>, shape: &Shape) -> Result<Box<dyn Receiver>> {
        if *self == Self::EarlyRelease {
            // SAFETY: the caller's promise.
            let consumer = unsafe { consumer(region, shape)? };
            return Ok(Box::new(EarlyRelease { consumer, taken: VecDeque::new() }));
        }
        // SAFETY: the caller's promise.
        let receiver = unsafe { Fixed::<1>.receiver(region, shape)? };
        Ok(match self {
            Self::BlindEmpty => Box::new(BlindEmpty { receiver, looks: 0 }),
            Self::Stuck => Box::new(Stuck { receiver, looks: 0 }),
            _ => receiver,
        })
    }

    fn read_hand(&self, hand: &[u8], found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        Fixed::<1>.read_hand(hand, found);
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        // That of the ring; what the wrappers hold back is not promised.
        Fixed::<1>.laziness(shape)
    }
}

struct EarlyAcknowledge {
    sender: Box<dyn Sender>,
    producer: u32,
    first: u64,
    held: u32,
}

impl EarlyAcknowledge {
    fn flush(&mut self) -> Result<(), Refusal> {
        if self.held > 0 {
            self.sender.send(Push::Batch(self.held), self.producer, self.first)?;
            self.held = 0;
        }
        Ok(())
    }
}

impl Sender for EarlyAcknowledge {
    fn units(&self, producer: u32, seq: u64, n: u32) -> u32 {
        self.sender.units(producer, seq, n)
    }

    fn send(&mut self, how: Push, producer: u32, seq: u64) -> Result<(), Refusal> {
        if self.held >= HELD {
            self.flush()?;
        }
        if self.held == 0 {
            (self.producer, self.first) = (producer, seq);
        }
        self.held += how.messages();
        Ok(())
    }
}

impl Drop for EarlyAcknowledge {
    /// Without a death nothing is lost.
    fn drop(&mut self) {
        for _ in 0..1_000_000 {
            if self.flush().is_ok() {
                return;
            }
            rustix::thread::sched_yield();
        }
    }
}

struct EarlyRelease {
    consumer: fixed::Consumer<[u64; 1], Untrusted>,
    taken: VecDeque<[u64; 1]>,
}

impl Receiver for EarlyRelease {
    fn receive(&mut self, _how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        desk.begin();
        if self.taken.is_empty() {
            let mut some = [[0]; HELD as usize];
            let n = self.consumer.pop_into(&mut some)?;
            self.consumer.release();
            self.taken.extend(some.iter().take(n));
        }
        let message = self.taken.pop_front().ok_or(Refusal::NotNow)?;
        desk.message(read(&message), 1);
        desk.settle();
        Ok(())
    }
}

/// Looks or tries of which one is skipped.
const SKIPPED: u64 = 64;

struct BlindEmpty {
    receiver: Box<dyn Receiver>,
    looks: u64,
}

impl Receiver for BlindEmpty {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        self.looks += 1;
        if self.looks.is_multiple_of(SKIPPED) {
            desk.begin();
            return Err(Refusal::NotNow);
        }
        self.receiver.receive(how, desk)
    }
}

struct BlindFull {
    sender: Box<dyn Sender>,
    tries: u64,
}

impl Sender for BlindFull {
    fn units(&self, producer: u32, seq: u64, n: u32) -> u32 {
        self.sender.units(producer, seq, n)
    }

    fn send(&mut self, how: Push, producer: u32, seq: u64) -> Result<(), Refusal> {
        self.tries += 1;
        if self.tries.is_multiple_of(SKIPPED) {
            return Err(Refusal::NotNow);
        }
        self.sender.send(how, producer, seq)
    }
}

/// Looks after which it sleeps.
const AWAKE: u64 = 1_000;

struct Stuck {
    receiver: Box<dyn Receiver>,
    looks: u64,
}

impl Receiver for Stuck {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        self.looks += 1;
        if self.looks > AWAKE {
            loop {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        self.receiver.receive(how, desk)
    }
}

/// Puts every twin under stress until it is caught, but not for ever; and the ring that they are made from, which
/// must not be.
///
/// Twins that are wrong only in time need a clock; without one they are not caught, and that is said.
///
/// # Errors
/// What the system says, or that the right ring was found wrong.
pub(crate) fn twins(seed: u64, out: &mut dyn FnMut(TwinRow)) -> Result<bool> {
    let table = table();
    let segment = Book::segment()?;
    let book = Book::open(&segment)?;
    let clock = Clock::of_this_machine();
    let limits = Limits { one_core: false, nice: false, round_ms: 200 };
    let mut all = true;
    // Plays rounds until one is as it is wanted.
    let play = |place: usize,
                subject: &dyn Subject,
                rounds: u64,
                patience: Duration,
                wanted: &dyn Fn(&Outcome) -> bool|
     -> Result<Option<Outcome>> {
        let ground = Ground { number: place, subject, segment: &segment, book: &book, clock, patience };
        for number in 0..rounds {
            let plan = plan::round(seed, number, &limits, &[subject.capacities()]);
            let outcome = round::run(&ground, &plan)?;
            if wanted(&outcome) {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    };
    for (place, subject) in table.iter().enumerate() {
        let name = subject.structure();
        if let Some(twin) = Twin::ALL.into_iter().find(|twin| twin.structure() == name) {
            let blind = twin.needs_clock() && clock == Clock::None;
            if blind {
                complain(&format!("{name} cannot be caught: {}", clock.name()));
            }
            let wanted = |outcome: &Outcome| twin.is_caught_by(outcome);
            let caught = !blind && play(place, subject.as_ref(), ROUNDS, TWIN_PATIENCE, &wanted)?.is_some();
            all &= caught;
            out(TwinRow::new(name, "stress", caught));
        } else if place == 0
            && let Some(outcome) =
                play(place, subject.as_ref(), 2, RIGHT_PATIENCE, &|outcome| !outcome.good())?
        {
            bail!("the right ring was found wrong: {:?} {:?}", outcome.troubles, outcome.verdict);
        }
    }
    Ok(all)
}
