//! What the tests of both kinds of lanes share: a kernel of one process, and one face for slots and records.
#![allow(dead_code, reason = "each test file uses a part of this module")]
#![allow(clippy::unwrap_used, reason = "a test helper")]

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidewire_mpsc::{
    AttachError, CorruptLane, CreateError, LaneStats, MAX_LANES, Options, PopError, RecordPopError, Tuning,
    bytes, fixed,
};
use tidewire_ring::{PushError, RecordPushError};
use tidewire_shm::{LeaseError, Liveness, Region, RoleId, Tenancy, Untrusted};

use crate::hostile_memory::record;

/// Role numbers that the leases know: lanes have numbers from 16 on.
const ROLES: usize = 16 + MAX_LANES as usize;

/// The leases of one queue, in one process: for each role whether it is held.
///
/// Atomics, not a lock: the standard library is not instrumented, so the thread sanitizer does not see what a contended
/// lock of it orders.
#[derive(Clone, Debug)]
pub(crate) struct Leases(Arc<[AtomicBool]>);

/// A held lease.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    role: RoleId,
}

impl Leases {
    /// What the kernel does when the holder died.
    pub(crate) fn end(&self, role: RoleId) {
        assert!(self.held(role).swap(false, Ordering::AcqRel), "nobody held {role}");
    }

    fn held(&self, role: RoleId) -> &AtomicBool {
        self.0.get(role.number() as usize).unwrap()
    }
}

impl Default for Leases {
    fn default() -> Self {
        Self((0..ROLES).map(|_| AtomicBool::new(false)).collect())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.end(self.role);
    }
}

// SAFETY: one swap takes a role, so it has one holder; it is given back when the holder dropped the lease, or when a test
// says that the holder, which it forgot, is dead.
unsafe impl Liveness for Leases {
    type Lease = Lease;
    const PROVES: bool = true;
    const KIND: u32 = 1 << 31;

    fn acquire(&self, role: RoleId) -> Result<Lease, LeaseError> {
        match self.held(role).swap(true, Ordering::AcqRel) {
            false => Ok(Lease { leases: self.clone(), role }),
            true => Err(LeaseError::Held { role }),
        }
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        if self.held(role).load(Ordering::Acquire) { Tenancy::Held } else { Tenancy::Vacant }
    }
}

/// A pop that gave nothing because there was nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Empty;

/// Slots or records: messages are numbers.
pub(crate) trait Kind {
    type Queue;
    type Producer;
    type Consumer;
    const POSITIONS_ARE_MESSAGES: bool;

    fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError>;
    fn create(region: Region<Untrusted>, capacity: usize, options: &Options) -> Self::Queue;
    fn open(region: Region<Untrusted>) -> Result<Self::Queue, AttachError>;
    fn producer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Producer, AttachError>;
    fn consumer<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<Self::Consumer, AttachError>;
    fn stats(queue: &Self::Queue) -> Vec<LaneStats>;
    fn reclaim<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<u32, AttachError>;
    fn lane(producer: &Self::Producer) -> u32;
    fn position(producer: &Self::Producer) -> u64;
    /// False if full or corrupt.
    fn push(producer: &mut Self::Producer, number: u64) -> bool;
    /// All or none, with one publication.
    fn push_batch(producer: &mut Self::Producer, numbers: &[u64]) -> bool;
    /// A message that may be anything: its number, and whether the rest of it is as it should be.
    fn pop_any(consumer: &mut Self::Consumer) -> Result<(u64, bool), Empty>;
    fn pop(consumer: &mut Self::Consumer) -> Result<u64, Empty> {
        let (number, whole) = Self::pop_any(consumer)?;
        assert!(whole, "torn");
        Ok(number)
    }
    fn peek(consumer: &mut Self::Consumer) -> Result<(), Empty>;
    /// Up to `n` of one lane, copied or in place.
    fn pop_some(consumer: &mut Self::Consumer, n: usize, in_place: bool) -> Result<Vec<u64>, Empty>;
    fn last_lane(consumer: &Self::Consumer) -> Option<u32>;
    fn release(consumer: &mut Self::Consumer);
    fn rescan(consumer: &mut Self::Consumer);
    fn tune(consumer: &mut Self::Consumer, tuning: Tuning);
    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane>;
}

/// Slots of one word.
#[derive(Debug)]
pub(crate) enum Slots {}

impl Kind for Slots {
    type Queue = fixed::Queue<u64, Untrusted>;
    type Producer = fixed::Producer<u64, Untrusted>;
    type Consumer = fixed::Consumer<u64, Untrusted>;
    const POSITIONS_ARE_MESSAGES: bool = true;

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

    fn reclaim<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<u32, AttachError> {
        queue.reclaim(liveness)
    }

    fn lane(producer: &Self::Producer) -> u32 {
        producer.lane()
    }

    fn position(producer: &Self::Producer) -> u64 {
        producer.position()
    }

    fn push(producer: &mut Self::Producer, number: u64) -> bool {
        match producer.push(number) {
            Ok(()) => true,
            Err(PushError::Full | PushError::Corrupt(_)) => false,
        }
    }

    fn push_batch(producer: &mut Self::Producer, numbers: &[u64]) -> bool {
        producer.push_slice(numbers).is_ok()
    }

    fn pop_any(consumer: &mut Self::Consumer) -> Result<(u64, bool), Empty> {
        consumer.pop().map(|number| (number, true)).map_err(|PopError::Empty| Empty)
    }

    fn peek(consumer: &mut Self::Consumer) -> Result<(), Empty> {
        let before = consumer.peek().map_err(|PopError::Empty| Empty)?;
        assert_eq!(consumer.peek(), Ok(before));
        Ok(())
    }

    fn pop_some(consumer: &mut Self::Consumer, n: usize, in_place: bool) -> Result<Vec<u64>, Empty> {
        let mut to = vec![0; n];
        if in_place && n > 0 {
            let chunk = consumer.read_chunk(n).map_err(|PopError::Empty| Empty)?;
            to.truncate(chunk.len());
            chunk.get(0, &mut to).unwrap();
            chunk.release(to.len()).unwrap();
        } else {
            let n = consumer.pop_into(&mut to).map_err(|PopError::Empty| Empty)?;
            to.truncate(n);
        }
        Ok(to)
    }

    fn last_lane(consumer: &Self::Consumer) -> Option<u32> {
        consumer.last_lane()
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn rescan(consumer: &mut Self::Consumer) {
        consumer.rescan();
    }

    fn tune(consumer: &mut Self::Consumer, tuning: Tuning) {
        consumer.tune(tuning);
    }

    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane> {
        consumer.take_corrupt()
    }
}

/// Records whose length and bytes follow from their number.
#[derive(Debug)]
pub(crate) enum Records {}

fn text(number: u64) -> Vec<u8> {
    let mut text = number.to_le_bytes().to_vec();
    text.extend(record(number, (number % 17) as usize));
    text
}

fn any_number(text: &[u8]) -> (u64, bool) {
    let Some(start) = text.first_chunk::<8>() else { return (0, false) };
    let number = u64::from_le_bytes(*start);
    (number, text == self::text(number))
}

fn number(text: &[u8]) -> u64 {
    let (number, whole) = any_number(text);
    assert!(whole, "torn: {text:?}");
    number
}

impl Kind for Records {
    type Queue = bytes::Queue<Untrusted>;
    type Producer = bytes::Producer<Untrusted>;
    type Consumer = bytes::Consumer<Untrusted>;
    const POSITIONS_ARE_MESSAGES: bool = false;

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

    fn reclaim<V: Liveness>(queue: &Self::Queue, liveness: &V) -> Result<u32, AttachError> {
        queue.reclaim(liveness)
    }

    fn lane(producer: &Self::Producer) -> u32 {
        producer.lane()
    }

    fn position(producer: &Self::Producer) -> u64 {
        producer.position()
    }

    fn push(producer: &mut Self::Producer, number: u64) -> bool {
        match producer.push(&text(number)) {
            Ok(()) => true,
            Err(RecordPushError::Full | RecordPushError::Corrupt(_)) => false,
            Err(error @ RecordPushError::TooLong { .. }) => panic!("{error}"),
        }
    }

    fn push_batch(producer: &mut Self::Producer, numbers: &[u64]) -> bool {
        let mut batch = producer.batch();
        if numbers.iter().any(|number| batch.push(&text(*number)).is_err()) {
            return false;
        }
        batch.commit() == numbers.len()
    }

    fn pop_any(consumer: &mut Self::Consumer) -> Result<(u64, bool), Empty> {
        let mut to = [0; 4096];
        match consumer.pop_into(&mut to) {
            Ok(n) => Ok(any_number(to.get(..n).unwrap())),
            Err(RecordPopError::Empty) => Err(Empty),
            Err(error @ RecordPopError::BufferTooSmall { .. }) => panic!("{error}"),
        }
    }

    fn peek(consumer: &mut Self::Consumer) -> Result<(), Empty> {
        let len = consumer.peek_len().map_err(|_| Empty)?;
        assert_eq!(consumer.peek_len(), Ok(len));
        let needed = u32::try_from(len).unwrap();
        assert_eq!(consumer.pop_into(&mut [0; 7]), Err(RecordPopError::BufferTooSmall { needed }));
        let kept = consumer.pop().unwrap();
        assert_eq!(kept.len(), len);
        let _kept = ManuallyDrop::new(kept);
        Ok(())
    }

    fn pop_some(consumer: &mut Self::Consumer, n: usize, in_place: bool) -> Result<Vec<u64>, Empty> {
        if n == 0 {
            return Ok(Vec::new());
        }
        if !in_place {
            return Self::pop(consumer).map(|number| vec![number]);
        }
        let record = consumer.pop().map_err(|_| Empty)?;
        let mut to = vec![0; record.len()];
        record.get(0, &mut to).unwrap();
        Ok(vec![number(&to)])
    }

    fn last_lane(consumer: &Self::Consumer) -> Option<u32> {
        consumer.last_lane()
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn rescan(consumer: &mut Self::Consumer) {
        consumer.rescan();
    }

    fn tune(consumer: &mut Self::Consumer, tuning: Tuning) {
        consumer.tune(tuning);
    }

    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane> {
        consumer.take_corrupt()
    }
}
