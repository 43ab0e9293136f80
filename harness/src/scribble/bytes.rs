//! Victims: rings of byte records.

use anyhow::Result;
use tidewire_ring::bytes::{Consumer, Producer, Ring};
use tidewire_ring::{AttachError, Corrupt, RecordPopError, RecordPushError};
use tidewire_shm::{Region, Untrusted};

use super::arena::Arena;
use super::dice::Dice;
use super::hostile::Targets;
use super::roles::{self, Places};
use super::victim::{Act, Finding, Output, Subject, TURN, Tally, Victim, must};

pub(crate) const CAPACITY: usize = 1024;
/// The longest record that a ring can ever claim to hold: the data without a frame.
const LONGEST: usize = CAPACITY - 8;
const BUFFER: usize = 600;

/// The subject of rings of records, with page stride if `PAGE` says so.
pub(crate) fn subject<const PAGE: bool>(structure: &'static str) -> Result<Subject> {
    let places = Places::of(PAGE);
    let bytes = Ring::<Untrusted>::bytes(CAPACITY, &places.options())?;
    let targets = Targets {
        positions: &places.positions,
        control: &places.control,
        data: bytes - CAPACITY..bytes,
        capacity: CAPACITY as u64,
        unit: 1,
        headers: false,
    };
    let create = create::<PAGE>;
    let victim = |arena| Box::new(Records::new(arena, Places::of(PAGE))) as Box<dyn Victim>;
    Ok(Subject { structure, bytes, create, targets, victim })
}

/// The subject that opens and attaches all the time.
pub(super) fn attach_subject<const PAGE: bool>(structure: &'static str) -> Result<Subject> {
    let mut subject = subject::<PAGE>(structure)?;
    subject.targets.headers = true;
    subject.victim = |arena| Box::new(Records { patience: 0, ..Records::new(arena, Places::of(PAGE)) });
    Ok(subject)
}

fn create<const PAGE: bool>(region: Region) -> Result<()> {
    Ring::<Untrusted>::create(region, CAPACITY, &Places::of(PAGE).options())?;
    Ok(())
}

/// A ring of records, used through whichever handles there are.
struct Records {
    arena: Arena,
    places: &'static Places,
    ring: Option<Ring<Untrusted>>,
    producer: Option<Producer<Untrusted>>,
    consumer: Option<Consumer<Untrusted>>,
    output: Box<Output<[u8; BUFFER]>>,
    /// Turns between two attaches that nothing forces, about.
    patience: usize,
}

impl Records {
    fn new(arena: Arena, places: &'static Places) -> Self {
        let output = Output::new([0x11; BUFFER]);
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
            self.producer = roles::accept(taken, &self.arena, dice, tally, self.places, (CAPACITY as u64, 8));
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
            self.consumer = roles::accept(taken, &self.arena, dice, tally, self.places, (CAPACITY as u64, 8));
        }
        Ok(())
    }

    fn push(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let Some(producer) = &mut self.producer else {
            return Ok(());
        };
        let before = producer.position();
        let len = length(dice);
        let record = self.output.body.get(..len).unwrap_or_default();
        let pushed = match dice.below(8) {
            0 => {
                tally.act(Act::PushMany);
                let mut batch = producer.batch();
                let first = batch.push(record);
                let second = batch.push(record.get(..len / 2).unwrap_or_default());
                batch.commit();
                first.and(second)
            }
            1 => {
                tally.act(Act::Reserve);
                match producer.reserve(len) {
                    Ok(mut reservation) => {
                        let set = reservation.set(0, record).is_ok() && reservation.set(len, &[0]).is_err();
                        must(set, "a reservation that does not take what was reserved")?;
                        let committed = reservation.commit(dice.below(len + 1));
                        must(committed.is_ok(), "a reservation that commits less than was reserved")?;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            2 => {
                tally.act(Act::Length);
                must(producer.len() <= CAPACITY, "a length beyond the capacity")?;
                Ok(())
            }
            _ => {
                tally.act(Act::Push);
                let pushed = producer.push(record);
                let moved = producer.position() != before;
                must(pushed.is_ok() == moved, "a push that moved the tail, refused, or the other way round")?;
                pushed
            }
        };
        let moved = producer.position().wrapping_sub(before);
        must(moved <= CAPACITY as u64, "a tail that moved by more than the capacity")?;
        match pushed {
            Err(RecordPushError::Corrupt(corrupt)) => self.producer_is_latched(corrupt, tally),
            Err(RecordPushError::TooLong { .. }) => must(len > CAPACITY / 2 - 8, "too long, but it is not"),
            _ => Ok(()),
        }
    }

    fn producer_is_latched(&mut self, corrupt: Corrupt, tally: &mut Tally<'_>) -> Result<(), Finding> {
        tally.corrupt();
        let Some(mut producer) = self.producer.take() else {
            return Ok(());
        };
        let before = producer.position();
        tally.act(Act::Push);
        let again = producer.push(&[]);
        must(again == Err(RecordPushError::Corrupt(corrupt)), "a producer that returned to service")?;
        must(producer.corruption() == Some(corrupt), "a producer that forgot what was wrong")?;
        must(producer.position() == before, "a latched producer that moved the tail")
    }

    fn pop(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let Some(consumer) = &mut self.consumer else {
            return Ok(());
        };
        let before = consumer.position();
        let room = length(dice);
        let to = self.output.body.get_mut(..room).unwrap_or_default();
        let popped = match dice.below(8) {
            0 => {
                tally.act(Act::Chunk);
                match consumer.pop() {
                    Ok(record) => {
                        let len = record.len();
                        must(len <= LONGEST, "a record longer than the ring")?;
                        let n = len.min(room);
                        let got = record.get(len - n, to.get_mut(..n).unwrap_or_default());
                        let beyond = record.get(len, &mut [0]);
                        must(got.is_ok() && beyond.is_err(), "a record that is not as long as it says")?;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            1 => {
                tally.act(Act::Peek);
                match consumer.peek_len() {
                    Ok(len) => must(len <= LONGEST, "a record longer than the ring").map(Ok)?,
                    Err(error) => Err(error),
                }
            }
            2 => {
                tally.act(Act::Length);
                must(consumer.len() <= CAPACITY, "a length beyond the capacity")?;
                tally.act(Act::Release);
                consumer.release();
                Ok(())
            }
            _ => {
                tally.act(Act::Pop);
                match consumer.pop_into(to) {
                    Ok(len) => must(len <= room, "a record longer than its buffer").map(Ok)?,
                    Err(error) => Err(error),
                }
            }
        };
        let moved = consumer.position().wrapping_sub(before);
        must(moved <= CAPACITY as u64, "a head that moved by more than the capacity")?;
        match popped {
            Err(RecordPopError::Corrupt(corrupt)) => self.consumer_is_latched(corrupt, tally),
            Err(RecordPopError::BufferTooSmall { needed }) => {
                let needed = usize::try_from(needed).unwrap_or(usize::MAX);
                must(room < needed && needed <= LONGEST, "too small, but it is not")
            }
            _ => Ok(()),
        }
    }

    fn consumer_is_latched(&mut self, corrupt: Corrupt, tally: &mut Tally<'_>) -> Result<(), Finding> {
        tally.corrupt();
        let Some(mut consumer) = self.consumer.take() else {
            return Ok(());
        };
        let before = consumer.position();
        tally.act(Act::Peek);
        let again = consumer.peek_len();
        must(again == Err(RecordPopError::Corrupt(corrupt)), "a consumer that returned to service")?;
        must(consumer.corruption() == Some(corrupt), "a consumer that forgot what was wrong")?;
        must(consumer.position() == before, "a latched consumer that moved the head")
    }
}

/// Mostly short, sometimes as long as the buffer.
fn length(dice: &mut Dice) -> usize {
    if dice.below(8) == 0 { dice.below(BUFFER + 1) } else { dice.below(49) }
}

impl Victim for Records {
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        for _ in 0..if self.patience == 0 { TURN / 4 } else { 4 } {
            self.attach(dice, tally)?;
            for _ in 0..if self.patience == 0 { 1 } else { TURN / 8 } {
                self.push(dice, tally)?;
                self.pop(dice, tally)?;
            }
        }
        if dice.below(64) == 0 {
            roles::reset(&self.arena, dice, CAPACITY as u64, 8, self.places.pair());
        }
        must(self.output.is_whole(), "a write beyond the buffer")
    }
}
