//! Broken twins for the history checker, under `stress` and in `run`: a ring that is made wrong in one way. Of some,
//! what the users see is wrong only when a process dies, or only in time.
//!
//! Each is a ring of eight-byte messages with a wrapper around one end. Each must be caught by the column that is
//! there for it, not by any trouble.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tidewire_ring::fixed;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{Region, Untrusted};

use super::{TwinRow, mpsc_twins};
use crate::history::{Clock, PopDesk, Verdict};
use crate::report::complain;
use crate::scribble::HEAD;
use crate::stress::Books;
use crate::stress::plan::{self, Cell, Limits};
use crate::stress::round::{self, Ground, Outcome};
use crate::subject::{Fixed, Pop, Push, Receiver, Refusal, Sender, Shape, Subject, consumer, read, table};

/// How the names of twins begin.
pub(crate) const PREFIX: &str = "twin-";

/// The bundle of rings of which one loses messages.
const LOSSY_BUNDLE: &str = "twin-bundle-lossy";

/// Rounds in which a twin must be caught.
const ROUNDS: u64 = 60;
/// After how long without progress a twin hangs, and the right ring.
const TWIN_PATIENCE: Duration = Duration::from_millis(300);
const RIGHT_PATIENCE: Duration = Duration::from_secs(5);
/// Messages that the early ones hold back.
const HELD: u32 = 8;

/// What is wrong with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
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
    /// The consumer passes a message over, now and then: lost, whoever lives.
    Lossy,
    /// The head is never stored: the ring fills up for good.
    NeverReleased,
    /// A push that always says Full.
    AlwaysFull,
}

impl Twin {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::EarlyAcknowledge,
        Self::EarlyRelease,
        Self::BlindEmpty,
        Self::BlindFull,
        Self::Stuck,
        Self::Lossy,
        Self::NeverReleased,
        Self::AlwaysFull,
    ];

    /// The structure that they are made from.
    pub(crate) const RING: &str = "ring-fixed";

    /// Those that the histories of a run must show, where nobody dies and nobody is late.
    pub(crate) const IN_RUNS: [Self; 2] = [Self::Lossy, Self::BlindEmpty];

    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EarlyAcknowledge => "twin-early-acknowledge",
            Self::EarlyRelease => "twin-early-release",
            Self::BlindEmpty => "twin-blind-empty",
            Self::BlindFull => "twin-blind-full",
            Self::Stuck => "twin-stuck",
            Self::Lossy => "twin-lossy",
            Self::NeverReleased => "twin-never-released",
            Self::AlwaysFull => "twin-always-full",
        }
    }

    /// Whether it is wrong only in time, and right to anybody without a clock.
    pub(crate) fn needs_clock(self) -> bool {
        matches!(self, Self::BlindEmpty | Self::BlindFull | Self::NeverReleased | Self::AlwaysFull)
    }

    /// Whether the checker found what is wrong with it, and not something else.
    pub(crate) fn is_found_by(self, verdict: &Verdict) -> bool {
        match self {
            Self::EarlyAcknowledge | Self::EarlyRelease | Self::Lossy => verdict.lost > 0,
            Self::BlindEmpty => verdict.false_empty > 0,
            Self::BlindFull | Self::NeverReleased | Self::AlwaysFull => verdict.false_full > 0,
            Self::Stuck => false,
        }
    }

    /// The same of a round; of a consumer that never wakes, the hang is what is found.
    fn is_caught_by(self, outcome: &Outcome) -> bool {
        match self {
            Self::Stuck => outcome.hung,
            _ => self.is_found_by(&outcome.judgement.verdict),
        }
    }
}

/// A ring with one thing wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken {
    /// What is wrong.
    pub(crate) twin: Twin,
    /// The ring that it is made from.
    pub(crate) ring: Fixed<1>,
}

impl Subject for Broken {
    fn structure(&self) -> &'static str {
        self.twin.name()
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
        self.ring.bytes(shape)
    }

    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()> {
        self.ring.create(region, shape)
    }

    unsafe fn sender(&self, region: Region<Untrusted>, number: u8) -> Result<Box<dyn Sender>> {
        // SAFETY: the caller's promise.
        let sender = unsafe { self.ring.sender(region, number)? };
        Ok(match self.twin {
            Twin::EarlyAcknowledge => Box::new(EarlyAcknowledge { sender, producer: 0, first: 0, held: 0 }),
            Twin::BlindFull => Box::new(BlindFull { sender, every: SKIPPED, tries: 0 }),
            Twin::AlwaysFull => Box::new(BlindFull { sender, every: 1, tries: 0 }),
            _ => sender,
        })
    }

    unsafe fn receiver(&self, region: Region<Untrusted>, shape: &Shape) -> Result<Box<dyn Receiver>> {
        if let Twin::EarlyRelease | Twin::Lossy = self.twin {
            // SAFETY: the caller's promise.
            let consumer = unsafe { consumer(region, self.ring.fingerprint, shape)? };
            return Ok(match self.twin {
                Twin::Lossy => Box::new(Lossy { consumer, pops: 0 }),
                _ => Box::new(EarlyRelease { consumer, taken: VecDeque::new() }),
            });
        }
        // SAFETY: the word of the head, in a ring of line stride; used as this atomic only, and kept with the region.
        let head = unsafe { region.atomic_u64(HEAD) };
        // SAFETY: kept for the word alone.
        let kept = unsafe { region.alias() };
        // SAFETY: the caller's promise.
        let receiver = unsafe { self.ring.receiver(region, shape)? };
        Ok(match self.twin {
            Twin::BlindEmpty => Box::new(BlindEmpty { receiver, looks: 0 }),
            Twin::Stuck => Box::new(Stuck { receiver, looks: 0 }),
            Twin::NeverReleased => Box::new(NeverReleased { receiver, head, _region: kept }),
            _ => receiver,
        })
    }

    fn read_hand(&self, hand: &[u8], found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        self.ring.read_hand(hand, found);
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        // That of the ring; what the wrappers hold back is not promised.
        self.ring.laziness(shape)
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
    every: u64,
    tries: u64,
}

impl Sender for BlindFull {
    fn units(&self, producer: u32, seq: u64, n: u32) -> u32 {
        self.sender.units(producer, seq, n)
    }

    fn send(&mut self, how: Push, producer: u32, seq: u64) -> Result<(), Refusal> {
        self.tries += 1;
        if self.tries.is_multiple_of(self.every) {
            return Err(Refusal::NotNow);
        }
        self.sender.send(how, producer, seq)
    }
}

/// Messages of which one is passed over.
const PASSED: u64 = 1_000;

struct Lossy {
    consumer: fixed::Consumer<[u64; 1], Untrusted>,
    pops: u64,
}

impl Receiver for Lossy {
    fn receive(&mut self, _how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        desk.begin();
        let mut message = self.consumer.pop()?;
        self.pops += 1;
        if self.pops.is_multiple_of(PASSED) {
            message = self.consumer.pop()?;
        }
        desk.message(read(&message), 1);
        desk.settle();
        Ok(())
    }
}

struct NeverReleased {
    receiver: Box<dyn Receiver>,
    head: Shared<AtomicU64>,
    _region: Region<Untrusted>,
}

impl Receiver for NeverReleased {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        // ORD twin: Relaxed, the head is this consumer's own word.
        let before = self.head.load(Ordering::Relaxed);
        let received = self.receiver.receive(how, desk);
        // ORD twin: Relaxed, as above; that the producer may see the store in between changes nothing for long.
        self.head.store(before, Ordering::Relaxed);
        received
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
    let mut books = Books::default();
    let clock = Clock::of_this_machine();
    let limits = Limits { one_core: false, nice: false, round_ms: 200 };
    let mut all = true;
    // Plays rounds until one is as it is wanted.
    let mut play = |place: usize,
                    subject: &dyn Subject,
                    rounds: u64,
                    patience: Duration,
                    wanted: &dyn Fn(&Outcome) -> bool|
     -> Result<Option<Outcome>> {
        let (segment, book) = books.of(subject.producers())?;
        let ground = Ground { number: place, subject, segment, book, clock, patience };
        for number in 0..rounds {
            let plan = plan::round(seed, number, &limits, &[Cell::of(subject)]);
            let outcome = round::run(&ground, &plan)?;
            if wanted(&outcome) {
                return Ok(Some(outcome));
            }
        }
        Ok(None)
    };
    for (place, subject) in table.iter().enumerate() {
        let (name, subject) = (subject.structure(), subject.as_ref());
        if name == mpsc_twins::HASTY {
            let caught = play(place, subject, ROUNDS, TWIN_PATIENCE, &mpsc_twins::shows_haste)?.is_some();
            all &= caught;
            out(TwinRow::new(name, "stress", caught));
            continue;
        }
        let twin = match name {
            LOSSY_BUNDLE => Some(Twin::Lossy),
            _ => Twin::ALL.into_iter().find(|twin| twin.name() == name),
        };
        if let Some(twin) = twin {
            let blind = twin.needs_clock() && clock == Clock::None;
            if blind {
                complain(&format!("{name} cannot be caught: {}", clock.name()));
            }
            let wanted = |outcome: &Outcome| twin.is_caught_by(outcome);
            let caught = !blind && play(place, subject, ROUNDS, TWIN_PATIENCE, &wanted)?.is_some();
            all &= caught;
            out(TwinRow::new(name, "stress", caught));
        } else if (place == 0 || name.starts_with(PREFIX) || (name, subject.producers()) == ("mpsc-fixed", 4))
            && let Some(outcome) = play(place, subject, 2, RIGHT_PATIENCE, &|outcome| !outcome.good())?
        {
            bail!(
                "{name}, which is right, was found wrong: {:?} {:?}",
                outcome.troubles,
                outcome.judgement.verdict
            );
        }
    }
    Ok(all)
}
