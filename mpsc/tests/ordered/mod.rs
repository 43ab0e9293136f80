//! One face for ordered slots and records, for tests of both: messages are numbers.
#![allow(dead_code, reason = "each test file uses a part of this module")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test helper, with small numbers"
)]

use tidewire_mpsc::ordered::{
    Corrupt, PopError, PushError, RecordPopError, RecordPushError, Tuning, bytes, fixed,
};
use tidewire_mpsc::{AttachError, CorruptLane, CreateError, LaneStats, Options};
use tidewire_shm::{Liveness, Region, Untrusted};

/// Slots or records.
pub(crate) trait Kind {
    type Queue;
    type Producer: Send;
    type Consumer: Send;

    fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError>;
    fn create(region: Region<Untrusted>, capacity: usize, options: &Options) -> Self::Queue;
    fn open(region: Region<Untrusted>) -> Result<Self::Queue, AttachError>;
    fn producer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Producer, AttachError>;
    fn consumer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Consumer, AttachError>;
    fn stats(queue: &Self::Queue) -> Vec<LaneStats>;
    fn lane(producer: &Self::Producer) -> u32;
    /// All of them in one publication; false if there is no room.
    fn push(producer: &mut Self::Producer, numbers: &[u64]) -> Result<bool, Corrupt>;
    fn pop(consumer: &mut Self::Consumer) -> Result<Option<u64>, Corrupt>;
    /// Some messages in as few calls as the kind has; at most `max`.
    fn pop_some(consumer: &mut Self::Consumer, max: usize) -> Result<Vec<u64>, Corrupt>;
    fn release(consumer: &mut Self::Consumer);
    fn tune(consumer: &mut Self::Consumer, tuning: Tuning);
    fn reclaim<V: Liveness>(consumer: &mut Self::Consumer, liveness: &V) -> Result<u32, AttachError>;
    fn is_empty(consumer: &Self::Consumer) -> bool;
    fn last_lane(consumer: &Self::Consumer) -> Option<u32>;
    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane>;
}

pub(crate) struct Slots;
pub(crate) struct Records;

impl Kind for Slots {
    type Queue = fixed::Queue<u64, Untrusted>;
    type Producer = fixed::Producer<u64, Untrusted>;
    type Consumer = fixed::Consumer<u64, Untrusted>;

    fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError> {
        Self::Queue::bytes(capacity, options)
    }

    fn create(region: Region<Untrusted>, capacity: usize, options: &Options) -> Self::Queue {
        Self::Queue::create(region, capacity, options).unwrap()
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Queue, AttachError> {
        Self::Queue::open(region, 0)
    }

    fn producer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Producer, AttachError> {
        queue.producer(liveness)
    }

    fn consumer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Consumer, AttachError> {
        queue.consumer(liveness)
    }

    fn stats(queue: &Self::Queue) -> Vec<LaneStats> {
        queue.lanes().collect()
    }

    fn lane(producer: &Self::Producer) -> u32 {
        producer.lane()
    }

    fn push(producer: &mut Self::Producer, numbers: &[u64]) -> Result<bool, Corrupt> {
        let result = match numbers {
            [one] => producer.push(*one),
            some => producer.push_slice(some),
        };
        match result {
            Ok(()) => Ok(true),
            Err(PushError::Full | PushError::TooMany { .. }) => Ok(false),
            Err(PushError::Corrupt(corrupt)) => Err(corrupt),
        }
    }

    fn pop(consumer: &mut Self::Consumer) -> Result<Option<u64>, Corrupt> {
        let peeked = consumer.peek();
        let popped = consumer.pop();
        match popped {
            Ok(number) => Ok(Some(number)),
            Err(PopError::Empty) => {
                assert!(peeked.is_err(), "a peek saw what a pop does not");
                Ok(None)
            }
            Err(PopError::Corrupt(corrupt)) => Err(corrupt),
        }
    }

    fn pop_some(consumer: &mut Self::Consumer, max: usize) -> Result<Vec<u64>, Corrupt> {
        let mut numbers = vec![0; max];
        match consumer.pop_into(&mut numbers) {
            Ok(n) => numbers.truncate(n),
            Err(PopError::Empty) => numbers.clear(),
            Err(PopError::Corrupt(corrupt)) => return Err(corrupt),
        }
        Ok(numbers)
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn tune(consumer: &mut Self::Consumer, tuning: Tuning) {
        consumer.tune(tuning);
    }

    fn reclaim<V: Liveness>(consumer: &mut Self::Consumer, liveness: &V) -> Result<u32, AttachError> {
        consumer.reclaim(liveness)
    }

    fn is_empty(consumer: &Self::Consumer) -> bool {
        consumer.is_empty()
    }

    fn last_lane(consumer: &Self::Consumer) -> Option<u32> {
        consumer.last_lane()
    }

    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane> {
        consumer.take_corrupt()
    }
}

/// The record of a number: it, and 0 to 16 bytes more.
fn record(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number % 5 * 4) as usize, number as u8);
    bytes
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}

impl Kind for Records {
    type Queue = bytes::Queue<Untrusted>;
    type Producer = bytes::Producer<Untrusted>;
    type Consumer = bytes::Consumer<Untrusted>;

    fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError> {
        Self::Queue::bytes(32 * capacity.max(2), options)
    }

    fn create(region: Region<Untrusted>, capacity: usize, options: &Options) -> Self::Queue {
        Self::Queue::create(region, 32 * capacity.max(2), options).unwrap()
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Queue, AttachError> {
        Self::Queue::open(region, 0)
    }

    fn producer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Producer, AttachError> {
        queue.producer(liveness)
    }

    fn consumer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Consumer, AttachError> {
        queue.consumer(liveness)
    }

    fn stats(queue: &Self::Queue) -> Vec<LaneStats> {
        queue.lanes().collect()
    }

    fn lane(producer: &Self::Producer) -> u32 {
        producer.lane()
    }

    fn push(producer: &mut Self::Producer, numbers: &[u64]) -> Result<bool, Corrupt> {
        let result = match numbers {
            [one] => producer.push(&record(*one)),
            some => {
                let mut batch = producer.batch();
                some.iter()
                    .try_for_each(|number| batch.push(&record(*number)))
                    .and_then(|()| batch.commit().map(|_| ()))
            }
        };
        match result {
            Ok(()) => Ok(true),
            Err(RecordPushError::Full | RecordPushError::TooLong { .. }) => Ok(false),
            Err(RecordPushError::Corrupt(corrupt)) => Err(corrupt),
        }
    }

    fn pop(consumer: &mut Self::Consumer) -> Result<Option<u64>, Corrupt> {
        match consumer.pop() {
            Ok(record) => {
                let mut bytes = vec![0; record.len()];
                record.get(0, &mut bytes).unwrap();
                Ok(Some(number(&bytes).unwrap_or(u64::MAX)))
            }
            Err(RecordPopError::Corrupt(corrupt)) => Err(corrupt),
            Err(_) => Ok(None),
        }
    }

    fn pop_some(consumer: &mut Self::Consumer, max: usize) -> Result<Vec<u64>, Corrupt> {
        let (mut numbers, mut bytes) = (Vec::new(), [0; 4096]);
        while numbers.len() < max {
            match consumer.pop_into(&mut bytes) {
                Ok(n) => numbers.push(number(&bytes[..n]).unwrap_or(u64::MAX)),
                Err(RecordPopError::Corrupt(corrupt)) if numbers.is_empty() => return Err(corrupt),
                Err(_) => break,
            }
        }
        Ok(numbers)
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn tune(consumer: &mut Self::Consumer, tuning: Tuning) {
        consumer.tune(tuning);
    }

    fn reclaim<V: Liveness>(consumer: &mut Self::Consumer, liveness: &V) -> Result<u32, AttachError> {
        consumer.reclaim(liveness)
    }

    fn is_empty(consumer: &Self::Consumer) -> bool {
        consumer.is_empty()
    }

    fn last_lane(consumer: &Self::Consumer) -> Option<u32> {
        consumer.last_lane()
    }

    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane> {
        consumer.take_corrupt()
    }
}
