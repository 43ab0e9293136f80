//! Victims: rings of fixed slots.

use anyhow::Result;
use bytemuck::Pod;
use tidewire_ring::fixed::{Consumer, Producer, Ring};
use tidewire_ring::{AttachError, Corrupt, PopError, PushError};
use tidewire_shm::{Region, Untrusted};

use super::arena::Arena;
use super::dice::Dice;
use super::hostile::Targets;
use super::roles::{self, Places};
use super::victim::{Act, Finding, Output, Subject, TURN, Tally, Victim, must};

const CAPACITY: usize = 64;
const BATCH: usize = 24;

/// The subject of rings of `T`, with page stride if `PAGE` says so.
pub(super) fn subject<T: Pod, const PAGE: bool>(structure: &'static str) -> Result<Subject> {
    let places = Places::of(PAGE);
    let bytes = Ring::<T, Untrusted>::bytes(CAPACITY, &places.options())?;
    Ok(Subject {
        structure,
        bytes: bytes.next_multiple_of(128),
        create: create::<T, PAGE>,
        targets: Targets {
            positions: &places.positions,
            control: &places.control,
            data: bytes - CAPACITY * size_of::<T>()..bytes,
            capacity: CAPACITY as u64,
            unit: size_of::<T>() as u64,
            headers: false,
        },
        victim: |arena| Box::new(Slots::<T>::new(arena, Places::of(PAGE))),
    })
}

/// The subject that opens and attaches all the time.
pub(super) fn attach_subject<T: Pod>(structure: &'static str) -> Result<Subject> {
    let mut subject = subject::<T, false>(structure)?;
    subject.targets.headers = true;
    subject.victim = |arena| Box::new(Slots::<T> { patience: 0, ..Slots::new(arena, &Places::LINE) });
    Ok(subject)
}

fn create<T: Pod, const PAGE: bool>(region: Region) -> Result<()> {
    Ring::<T, Untrusted>::create(region, CAPACITY, &Places::of(PAGE).options())?;
    Ok(())
}

/// A ring of `T`, used through whichever handles there are.
struct Slots<T: Pod> {
    arena: Arena,
    places: &'static Places,
    ring: Option<Ring<T, Untrusted>>,
    producer: Option<Producer<T, Untrusted>>,
    consumer: Option<Consumer<T, Untrusted>>,
    output: Box<Output<[T; BATCH]>>,
    /// Turns between two attaches that nothing forces, about.
    patience: usize,
}

impl<T: Pod> Slots<T> {
    fn new(arena: Arena, places: &'static Places) -> Self {
        let output = Output::new([T::zeroed(); BATCH]);
        Self { arena, places, ring: None, producer: None, consumer: None, output, patience: 64 }
    }

    /// Gets what is missing: ring, producer, consumer. What the memory says may prevent it.
    fn attach(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        if dice.below(self.patience + 1) == 0 {
            (self.ring, self.producer, self.consumer) = (None, None, None);
        }
        if self.ring.is_none() {
            tally.act(Act::Open);
            let region = self.arena.region().map_err(|_| Finding("the arena refused a region"))?;
            match Ring::open(region, 0) {
                Ok(ring) => {
                    must(ring.capacity() == CAPACITY, "opened with another capacity than fits")?;
                    self.ring = Some(ring);
                }
                Err(_) => {
                    tally.corrupt();
                    self.arena.restore_header();
                    return Ok(());
                }
            }
        }
        let Some(ring) = &self.ring else { return Ok(()) };
        if self.producer.is_none() {
            tally.act(Act::Attach);
            let taken = match ring.producer() {
                Err(AttachError::RoleTaken(owner)) => {
                    tally.act(Act::Attach);
                    // SAFETY: the handle that had the role is gone, and nobody else ever had it.
                    unsafe { ring.replace_producer(owner) }
                }
                taken => taken,
            };
            if roles::asks_for_leases(&taken, &self.arena, tally, self.places) {
                self.ring = None;
                return Ok(());
            }
            self.producer = roles::accept(taken, &self.arena, dice, tally, self.places, (CAPACITY as u64, 1));
        }
        if self.consumer.is_none() {
            tally.act(Act::Attach);
            let taken = match ring.consumer() {
                Err(AttachError::RoleTaken(owner)) => {
                    tally.act(Act::Attach);
                    // SAFETY: the handle that had the role is gone, and nobody else ever had it.
                    unsafe { ring.replace_consumer(owner) }
                }
                taken => taken,
            };
            if roles::asks_for_leases(&taken, &self.arena, tally, self.places) {
                self.ring = None;
                return Ok(());
            }
            self.consumer = roles::accept(taken, &self.arena, dice, tally, self.places, (CAPACITY as u64, 1));
        }
        Ok(())
    }

    fn push(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let Some(producer) = &mut self.producer else {
            return Ok(());
        };
        let before = producer.position();
        let random = dice.below(64);
        let n = 1 + random % BATCH;
        let values = self.output.body.get(..n).unwrap_or_default();
        let (pushed, most) = match dice.below(8) {
            0 => {
                tally.act(Act::PushMany);
                (producer.push_slice(values).map(|()| n), n)
            }
            1 => {
                tally.act(Act::Reserve);
                let reserved = producer.reserve(n).map(|mut reservation| {
                    let set = reservation.set(0, values).is_ok() && reservation.set(n, values).is_err();
                    let k = random % (n + 1);
                    (set && reservation.commit(k).is_ok(), k)
                });
                if let Ok((set, _)) = reserved {
                    must(set, "a reservation that does not take what was reserved")?;
                }
                (reserved.map(|(_, k)| k), n)
            }
            2 => {
                tally.act(Act::Length);
                must(producer.len() <= CAPACITY, "a length beyond the capacity")?;
                (Ok(0), 0)
            }
            _ => {
                tally.act(Act::Push);
                (producer.push_from(self.output.body.first().unwrap_or(&T::zeroed())).map(|()| 1), 1)
            }
        };
        let moved = producer.position().wrapping_sub(before);
        match pushed {
            Ok(n) => must(moved == n as u64 && n <= most, "a push that moved the tail by something else"),
            Err(error) => {
                must(moved == 0, "a refused push that moved the tail")?;
                if let PushError::Corrupt(corrupt) = error {
                    self.producer_is_latched(corrupt, tally)?;
                }
                Ok(())
            }
        }
    }

    fn producer_is_latched(&mut self, corrupt: Corrupt, tally: &mut Tally<'_>) -> Result<(), Finding> {
        tally.corrupt();
        let Some(mut producer) = self.producer.take() else {
            return Ok(());
        };
        tally.act(Act::Push);
        let again = producer.push(T::zeroed());
        must(again == Err(PushError::Corrupt(corrupt)), "a producer that returned to service")?;
        must(producer.corruption() == Some(corrupt), "a producer that forgot what was wrong")
    }

    fn pop(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let Some(consumer) = &mut self.consumer else {
            return Ok(());
        };
        let before = consumer.position();
        let n = 1 + dice.below(BATCH);
        let to = self.output.body.get_mut(..n).unwrap_or_default();
        let popped = match dice.below(12) {
            0 | 1 => {
                tally.act(Act::PopMany);
                consumer.pop_into(to)
            }
            2 | 3 => {
                tally.act(Act::Chunk);
                match consumer.read_chunk(n) {
                    Ok(chunk) => {
                        let len = chunk.len();
                        must((1..=n).contains(&len), "a chunk longer than asked for")?;
                        let got = chunk.get(0, to.get_mut(..len).unwrap_or_default());
                        let beyond = chunk.get(len, &mut [T::zeroed()]);
                        must(got.is_ok() && beyond.is_err(), "a chunk that is not as long as it says")?;
                        let k = dice.below(len + 1);
                        must(chunk.release(k).is_ok(), "a chunk that releases less than it has")?;
                        Ok(k)
                    }
                    Err(error) => Err(error),
                }
            }
            4 => {
                tally.act(Act::Peek);
                consumer.peek().map(|_| 0)
            }
            5 => {
                tally.act(Act::Length);
                must(consumer.len() <= CAPACITY, "a length beyond the capacity")?;
                tally.act(Act::Release);
                consumer.release();
                Ok(0)
            }
            _ => {
                tally.act(Act::Pop);
                self.output.body.first_mut().map_or(Ok(0), |to| consumer.pop_to(to).map(|()| 1))
            }
        };
        let moved = consumer.position().wrapping_sub(before);
        match popped {
            Ok(count) => {
                must(moved == count as u64 && count <= n, "a pop that moved the head by something else")
            }
            Err(error) => {
                must(moved == 0, "a refused pop that moved the head")?;
                if let PopError::Corrupt(corrupt) = error {
                    self.consumer_is_latched(corrupt, tally)?;
                }
                Ok(())
            }
        }
    }

    fn consumer_is_latched(&mut self, corrupt: Corrupt, tally: &mut Tally<'_>) -> Result<(), Finding> {
        tally.corrupt();
        let Some(mut consumer) = self.consumer.take() else {
            return Ok(());
        };
        tally.act(Act::Pop);
        let again = consumer.pop().err();
        must(again == Some(PopError::Corrupt(corrupt)), "a consumer that returned to service")?;
        must(consumer.corruption() == Some(corrupt), "a consumer that forgot what was wrong")
    }
}

impl<T: Pod> Victim for Slots<T> {
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        for _ in 0..if self.patience == 0 { TURN / 4 } else { 4 } {
            self.attach(dice, tally)?;
            for _ in 0..if self.patience == 0 { 1 } else { TURN / 8 } {
                self.push(dice, tally)?;
                self.pop(dice, tally)?;
            }
        }
        // Now and then the peer seems to be gone: positions far away, also around the end of the numbers.
        if dice.below(64) == 0 {
            roles::reset(&self.arena, dice, CAPACITY as u64, 1, self.places.pair());
        }
        must(self.output.is_whole(), "a write beyond the buffer")
    }
}
