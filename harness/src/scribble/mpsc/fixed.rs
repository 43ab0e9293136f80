//! Lanes of fixed slots.

use anyhow::Result;
use tidewire_mpsc::fixed::{Consumer, Producer, Queue};
use tidewire_mpsc::{CorruptLane, LaneStats, Options, PopError};
use tidewire_ring::PushError;
use tidewire_shm::{Region, Untrusted};

use super::leases::Own;
use super::{After, Kind, LANES};
use crate::scribble::Dice;
use crate::scribble::victim::{Act, Finding, Tally, must};

pub(super) type Message = [u64; 8];
pub(super) const CAPACITY: usize = 64;
pub(super) const BATCH: usize = 24;
pub(super) type Body = [Message; BATCH];

pub(super) fn options() -> Options {
    Options::new().lanes(u32::try_from(LANES).unwrap_or(1)).liveness::<Own>()
}

/// Lanes of 64 slots of 64 bytes.
pub(crate) struct Slots;

impl Kind for Slots {
    type Queue = Queue<Message, Untrusted>;
    type Producer = Producer<Message, Untrusted>;
    type Consumer = Consumer<Message, Untrusted>;
    type Body = Body;

    const ORDERED: bool = false;
    const CAPACITY: usize = CAPACITY;
    const UNIT: usize = 64;
    const GRAIN: u64 = 1;
    const BODY: Body = [[0x22; 8]; BATCH];

    fn bytes() -> Result<usize> {
        Ok(Self::Queue::bytes(CAPACITY, &options())?)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Queue> {
        Ok(Queue::create(region, CAPACITY, &options())?)
    }

    fn open(region: Region<Untrusted>) -> Option<Self::Queue> {
        Queue::open(region, 0).ok()
    }

    fn producer(queue: &Self::Queue) -> Option<Self::Producer> {
        queue.producer(&Own).ok()
    }

    fn consumer(queue: &Self::Queue) -> Option<Self::Consumer> {
        queue.consumer(&Own).ok()
    }

    fn lane(producer: &Self::Producer) -> u32 {
        producer.lane()
    }

    fn is_quarantined(producer: &Self::Producer) -> bool {
        producer.is_quarantined()
    }

    fn push(
        producer: &mut Self::Producer,
        body: &mut Body,
        dice: &mut Dice,
        tally: &mut Tally<'_>,
    ) -> Result<After, Finding> {
        let before = producer.position();
        let n = 1 + dice.below(BATCH);
        let values = body.get(..n).unwrap_or_default();
        let pushed = match dice.below(8) {
            0 => {
                tally.act(Act::PushMany);
                producer.push_slice(values).map(|()| n)
            }
            1 => {
                tally.act(Act::Reserve);
                match producer.reserve(n) {
                    Ok(mut slots) => {
                        let k = dice.below(n + 1);
                        let set = slots.set(0, values).is_ok() && slots.set(n, values).is_err();
                        must(set && slots.commit(k).is_ok(), "a reservation that takes something else")?;
                        Ok(k)
                    }
                    Err(error) => Err(error),
                }
            }
            2 => {
                tally.act(Act::Length);
                must(producer.len() <= CAPACITY, "a length beyond the capacity")?;
                Ok(0)
            }
            _ => {
                tally.act(Act::Push);
                producer.push([n as u64; 8]).map(|()| 1)
            }
        };
        let moved = producer.position().wrapping_sub(before);
        let wanted = pushed.unwrap_or(0) as u64;
        must(moved == wanted, "a push that moved the tail by something else")?;
        let Err(PushError::Corrupt(corrupt)) = pushed else { return Ok(After::Goes) };
        let again = producer.push([0; 8]);
        must(again == Err(PushError::Corrupt(corrupt)), "a producer that returned to service")?;
        must(producer.corruption() == Some(corrupt), "a producer that forgot what was wrong")?;
        Ok(After::Latched)
    }

    fn pop(
        consumer: &mut Self::Consumer,
        body: &mut Body,
        dice: &mut Dice,
        tally: &mut Tally<'_>,
    ) -> Result<After, Finding> {
        let n = 1 + dice.below(BATCH);
        let to = body.get_mut(..n).unwrap_or_default();
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
                        let beyond = chunk.get(len, &mut [[0; 8]]);
                        must(got.is_ok() && beyond.is_err(), "a chunk that is not as long as it says")?;
                        must(chunk.release(dice.below(len + 1)).is_ok(), "a chunk that releases less")?;
                        Ok(len)
                    }
                    Err(error) => Err(error),
                }
            }
            4 => {
                tally.act(Act::Peek);
                consumer.peek().map(|_| 1)
            }
            5 => {
                tally.act(Act::Length);
                must(consumer.len() <= LANES * CAPACITY, "a length beyond the capacity")?;
                tally.act(Act::Release);
                consumer.release();
                Ok(1)
            }
            _ => {
                tally.act(Act::Pop);
                to.first_mut().map_or(Ok(1), |to| consumer.pop_to(to).map(|()| 1))
            }
        };
        match popped {
            Ok(count) => must((1..=n).contains(&count), "more messages than asked for")?,
            Err(PopError::Empty) => {}
        }
        Ok(After::Goes)
    }

    fn last_lane(consumer: &Self::Consumer) -> Option<u32> {
        consumer.last_lane()
    }

    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane> {
        consumer.take_corrupt()
    }

    fn out_of_use(consumer: &Self::Consumer) -> usize {
        consumer.quarantined().count()
    }

    fn stats(queue: &Self::Queue) -> impl Iterator<Item = LaneStats> {
        queue.lanes()
    }

    fn reclaim(queue: &Self::Queue, _consumer: &mut Self::Consumer) -> Option<u32> {
        queue.reclaim(&Own).ok()
    }

    fn rescan(consumer: &mut Self::Consumer) {
        consumer.rescan();
    }
}
