//! Lanes of byte records.

use anyhow::Result;
use tidewire_mpsc::bytes::{Consumer, Producer, Queue};
use tidewire_mpsc::{CorruptLane, LaneStats, RecordPopError};
use tidewire_ring::RecordPushError;
use tidewire_shm::{Region, Untrusted};

use super::fixed::options;
use super::leases::Own;
use super::{After, Kind, LANES};
use crate::scribble::Dice;
use crate::scribble::victim::{Act, Finding, Tally, must};

pub(super) const CAPACITY: usize = 1024;
/// The longest record that a lane can ever claim to hold: the data without a frame.
pub(super) const LONGEST: usize = CAPACITY - 8;
pub(super) const BUFFER: usize = 600;
pub(super) type Body = [u8; BUFFER];

/// Mostly short, sometimes as long as the buffer.
pub(super) fn length(dice: &mut Dice) -> usize {
    if dice.below(8) == 0 { dice.below(BUFFER + 1) } else { dice.below(49) }
}

/// Lanes of 1024 bytes of records.
pub(crate) struct Records;

impl Kind for Records {
    type Queue = Queue<Untrusted>;
    type Producer = Producer<Untrusted>;
    type Consumer = Consumer<Untrusted>;
    type Body = Body;

    const ORDERED: bool = false;
    const CAPACITY: usize = CAPACITY;
    const UNIT: usize = 1;
    const GRAIN: u64 = 8;
    const BODY: Body = [0x11; BUFFER];

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
        let len = length(dice);
        let record = body.get(..len).unwrap_or_default();
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
                        let committed = reservation.commit(dice.below(len + 1)).is_ok();
                        must(set && committed, "a reservation that does not take what was reserved")?;
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
            Err(RecordPushError::Corrupt(corrupt)) => {
                let again = producer.push(&[]);
                must(again == Err(RecordPushError::Corrupt(corrupt)), "a producer that returned to service")?;
                must(producer.corruption() == Some(corrupt), "a producer that forgot what was wrong")?;
                Ok(After::Latched)
            }
            Err(RecordPushError::TooLong { .. }) => {
                must(len > CAPACITY / 2 - 8, "too long, but it is not").map(|()| After::Goes)
            }
            _ => Ok(After::Goes),
        }
    }

    fn pop(
        consumer: &mut Self::Consumer,
        body: &mut Body,
        dice: &mut Dice,
        tally: &mut Tally<'_>,
    ) -> Result<After, Finding> {
        let room = length(dice);
        let to = body.get_mut(..room).unwrap_or_default();
        let popped = match dice.below(8) {
            0 => {
                tally.act(Act::Chunk);
                match consumer.pop() {
                    Ok(record) => {
                        let len = record.len();
                        must(len <= LONGEST, "a record longer than the lane")?;
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
                    Ok(len) => must(len <= LONGEST, "a record longer than the lane").map(Ok)?,
                    Err(error) => Err(error),
                }
            }
            2 => {
                tally.act(Act::Length);
                must(consumer.len() <= LANES * CAPACITY, "a length beyond the capacity")?;
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
        if let Err(RecordPopError::BufferTooSmall { needed }) = popped {
            let needed = usize::try_from(needed).unwrap_or(usize::MAX);
            must(room < needed && needed <= LONGEST, "too small, but it is not")?;
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
