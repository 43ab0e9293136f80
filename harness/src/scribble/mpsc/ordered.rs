//! Ordered queues, of slots and of records.

use anyhow::Result;
use tidewire_mpsc::ordered::bytes::{
    Consumer as RecordConsumer, Producer as RecordProducer, Queue as RecordQueue,
};
use tidewire_mpsc::ordered::fixed::{Consumer as SlotConsumer, Producer as SlotProducer, Queue as SlotQueue};
use tidewire_mpsc::ordered::{PopError, PushError, RecordPopError, RecordPushError};
use tidewire_mpsc::{CorruptLane, LaneStats};
use tidewire_shm::{Region, Untrusted};

use super::fixed::{BATCH, CAPACITY as SLOTS, Message, options};
use super::leases::Own;
use super::records::{BUFFER, CAPACITY as BYTES, LONGEST, length};
use super::{After, Kind};
use crate::scribble::Dice;
use crate::scribble::victim::{Act, Finding, Tally, must};

/// Lanes of 64 slots of 64 bytes, in one order.
pub(crate) struct OrderedSlots;

/// Lanes of 1024 bytes of records, in one order.
pub(crate) struct OrderedRecords;

impl Kind for OrderedSlots {
    type Queue = SlotQueue<Message, Untrusted>;
    type Producer = SlotProducer<Message, Untrusted>;
    type Consumer = SlotConsumer<Message, Untrusted>;
    type Body = [Message; BATCH];

    const ORDERED: bool = true;
    const CAPACITY: usize = SLOTS;
    const UNIT: usize = 64;
    const GRAIN: u64 = 1;
    const BODY: [Message; BATCH] = [[0x22; 8]; BATCH];

    fn bytes() -> Result<usize> {
        Ok(Self::Queue::bytes(SLOTS, &options())?)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Queue> {
        Ok(SlotQueue::create(region, SLOTS, &options())?)
    }

    fn open(region: Region<Untrusted>) -> Option<Self::Queue> {
        SlotQueue::open(region, 0).ok()
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
        body: &mut [Message; BATCH],
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
                tally.act(Act::Length);
                must(producer.len() <= SLOTS, "a length beyond the capacity")?;
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
        body: &mut [Message; BATCH],
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
            2 => {
                tally.act(Act::Peek);
                consumer.peek().map(|_| 1)
            }
            3 => {
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
            Err(PopError::Corrupt(corrupt)) => {
                let again = consumer.pop();
                must(again == Err(PopError::Corrupt(corrupt)), "a consumer that returned to service")?;
                must(consumer.corruption() == Some(corrupt), "a consumer that forgot what was wrong")?;
                return Ok(After::Latched);
            }
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

    fn reclaim(_queue: &Self::Queue, consumer: &mut Self::Consumer) -> Option<u32> {
        consumer.reclaim(&Own).ok()
    }

    fn rescan(_consumer: &mut Self::Consumer) {}
}

impl Kind for OrderedRecords {
    type Queue = RecordQueue<Untrusted>;
    type Producer = RecordProducer<Untrusted>;
    type Consumer = RecordConsumer<Untrusted>;
    type Body = [u8; BUFFER];

    const ORDERED: bool = true;
    const CAPACITY: usize = BYTES;
    const UNIT: usize = 1;
    const GRAIN: u64 = 8;
    const BODY: [u8; BUFFER] = [0x11; BUFFER];

    fn bytes() -> Result<usize> {
        Ok(Self::Queue::bytes(BYTES, &options())?)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Queue> {
        Ok(RecordQueue::create(region, BYTES, &options())?)
    }

    fn open(region: Region<Untrusted>) -> Option<Self::Queue> {
        RecordQueue::open(region, 0).ok()
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
        body: &mut [u8; BUFFER],
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
                let committed = batch.commit().map(drop);
                first.and(second).and(committed)
            }
            1 => {
                tally.act(Act::Length);
                must(producer.len() <= BYTES, "a length beyond the capacity")?;
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
        must(moved <= BYTES as u64, "a tail that moved by more than the capacity")?;
        match pushed {
            Err(RecordPushError::Corrupt(corrupt)) => {
                let again = producer.push(&[]);
                must(again == Err(RecordPushError::Corrupt(corrupt)), "a producer that returned to service")?;
                must(producer.corruption() == Some(corrupt), "a producer that forgot what was wrong")?;
                Ok(After::Latched)
            }
            Err(RecordPushError::TooLong { .. }) => {
                must(len > BYTES / 2 - 8, "too long, but it is not").map(|()| After::Goes)
            }
            _ => Ok(After::Goes),
        }
    }

    fn pop(
        consumer: &mut Self::Consumer,
        body: &mut [u8; BUFFER],
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
        if let Err(RecordPopError::Corrupt(corrupt)) = popped {
            let again = consumer.peek_len();
            must(again == Err(RecordPopError::Corrupt(corrupt)), "a consumer that returned to service")?;
            must(consumer.corruption() == Some(corrupt), "a consumer that forgot what was wrong")?;
            return Ok(After::Latched);
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

    fn reclaim(_queue: &Self::Queue, consumer: &mut Self::Consumer) -> Option<u32> {
        consumer.reclaim(&Own).ok()
    }

    fn rescan(_consumer: &mut Self::Consumer) {}
}
