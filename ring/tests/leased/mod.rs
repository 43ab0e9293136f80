//! The two kinds of ring behind one face, in memory whose peers are not trusted: messages are numbers.
#![allow(dead_code, reason = "not every test binary that shares this module needs all of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use tidewire_ring::{
    AttachError, CreateError, Options, Owner, PopError, PushError, RecordPopError, RecordPushError, Tuning,
    bytes, fixed,
};
use tidewire_shm::{Liveness, Region, Untrusted};

/// Messages that fit.
pub(crate) const CAPACITY: usize = 64;
/// Bytes of data that a record of one number takes.
const RECORD: u64 = 16;

/// A kind of ring.
pub(crate) trait Kind: 'static {
    /// For people.
    const NAME: &'static str;
    type Ring: Send + Sync;
    type Producer: Send;
    type Consumer: Send;

    fn bytes(options: &Options) -> usize;
    fn create(region: Region<Untrusted>, options: &Options) -> Result<Self::Ring, CreateError>;
    fn open(region: Region<Untrusted>) -> Result<Self::Ring, AttachError>;
    fn split(ring: Self::Ring) -> Result<(Self::Producer, Self::Consumer), AttachError>;
    fn producer(ring: &Self::Ring) -> Result<Self::Producer, AttachError>;
    fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, AttachError>;
    fn producer_with(ring: &Self::Ring, liveness: &impl Liveness) -> Result<Self::Producer, AttachError>;
    fn consumer_with(ring: &Self::Ring, liveness: &impl Liveness) -> Result<Self::Consumer, AttachError>;
    /// # Safety
    /// As the ring's.
    unsafe fn replace_producer(ring: &Self::Ring, dead: Owner) -> Result<Self::Producer, AttachError>;
    /// # Safety
    /// As the ring's.
    unsafe fn replace_consumer(ring: &Self::Ring, dead: Owner) -> Result<Self::Consumer, AttachError>;
    /// Of the producer and of the consumer.
    fn owners(ring: &Self::Ring) -> [Option<Owner>; 2];

    /// `false`: the ring is full.
    fn push(producer: &mut Self::Producer, number: u64) -> bool;
    /// Messages that were ever published.
    fn pushed(producer: &Self::Producer) -> u64;
    fn pushing(producer: &Self::Producer) -> Owner;
    fn pop(consumer: &mut Self::Consumer) -> Option<u64>;
    /// Reads the next message in place, and releases it if `done` says so.
    fn pop_when(consumer: &mut Self::Consumer, done: impl FnOnce(u64) -> bool) -> bool;
    /// Messages that were ever consumed.
    fn popped(consumer: &Self::Consumer) -> u64;
    fn popping(consumer: &Self::Consumer) -> Owner;
    /// Releases after so many messages.
    fn release_every(consumer: &mut Self::Consumer, messages: u64);
}

pub(crate) struct Slots;
pub(crate) struct Records;

impl Kind for Slots {
    const NAME: &'static str = "slots";
    type Ring = fixed::Ring<u64, Untrusted>;
    type Producer = fixed::Producer<u64, Untrusted>;
    type Consumer = fixed::Consumer<u64, Untrusted>;

    fn bytes(options: &Options) -> usize {
        Self::Ring::bytes(CAPACITY, options).unwrap()
    }

    fn create(region: Region<Untrusted>, options: &Options) -> Result<Self::Ring, CreateError> {
        Self::Ring::create(region, CAPACITY, options)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Ring, AttachError> {
        Self::Ring::open(region, 0)
    }

    fn split(ring: Self::Ring) -> Result<(Self::Producer, Self::Consumer), AttachError> {
        ring.split()
    }

    fn producer(ring: &Self::Ring) -> Result<Self::Producer, AttachError> {
        ring.producer()
    }

    fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, AttachError> {
        ring.consumer()
    }

    fn producer_with(ring: &Self::Ring, liveness: &impl Liveness) -> Result<Self::Producer, AttachError> {
        ring.producer_with(liveness)
    }

    fn consumer_with(ring: &Self::Ring, liveness: &impl Liveness) -> Result<Self::Consumer, AttachError> {
        ring.consumer_with(liveness)
    }

    unsafe fn replace_producer(ring: &Self::Ring, dead: Owner) -> Result<Self::Producer, AttachError> {
        // SAFETY: the caller's promise.
        unsafe { ring.replace_producer(dead) }
    }

    unsafe fn replace_consumer(ring: &Self::Ring, dead: Owner) -> Result<Self::Consumer, AttachError> {
        // SAFETY: the caller's promise.
        unsafe { ring.replace_consumer(dead) }
    }

    fn owners(ring: &Self::Ring) -> [Option<Owner>; 2] {
        [ring.producer_owner(), ring.consumer_owner()]
    }

    fn push(producer: &mut Self::Producer, number: u64) -> bool {
        match producer.push(number) {
            Ok(()) => true,
            Err(PushError::Full) => false,
            Err(PushError::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    }

    fn pushed(producer: &Self::Producer) -> u64 {
        producer.position()
    }

    fn pushing(producer: &Self::Producer) -> Owner {
        producer.owner()
    }

    fn pop(consumer: &mut Self::Consumer) -> Option<u64> {
        match consumer.pop() {
            Ok(number) => Some(number),
            Err(PopError::Empty) => None,
            Err(PopError::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    }

    fn pop_when(consumer: &mut Self::Consumer, done: impl FnOnce(u64) -> bool) -> bool {
        let chunk = match consumer.read_chunk(1) {
            Ok(chunk) => chunk,
            Err(PopError::Empty) => return false,
            Err(PopError::Corrupt(corrupt)) => panic!("{corrupt}"),
        };
        let mut number = [0];
        chunk.get(0, &mut number).unwrap();
        let done = done(number[0]);
        if done {
            chunk.release(1).unwrap();
        }
        done
    }

    fn popped(consumer: &Self::Consumer) -> u64 {
        consumer.position()
    }

    fn popping(consumer: &Self::Consumer) -> Owner {
        consumer.owner()
    }

    fn release_every(consumer: &mut Self::Consumer, messages: u64) {
        consumer.tune(Tuning::default().release_every(messages));
    }
}

impl Kind for Records {
    const NAME: &'static str = "records";
    type Ring = bytes::Ring<Untrusted>;
    type Producer = bytes::Producer<Untrusted>;
    type Consumer = bytes::Consumer<Untrusted>;

    fn bytes(options: &Options) -> usize {
        Self::Ring::bytes(CAPACITY * RECORD as usize, options).unwrap()
    }

    fn create(region: Region<Untrusted>, options: &Options) -> Result<Self::Ring, CreateError> {
        Self::Ring::create(region, CAPACITY * RECORD as usize, options)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Ring, AttachError> {
        Self::Ring::open(region, 0)
    }

    fn split(ring: Self::Ring) -> Result<(Self::Producer, Self::Consumer), AttachError> {
        ring.split()
    }

    fn producer(ring: &Self::Ring) -> Result<Self::Producer, AttachError> {
        ring.producer()
    }

    fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, AttachError> {
        ring.consumer()
    }

    fn producer_with(ring: &Self::Ring, liveness: &impl Liveness) -> Result<Self::Producer, AttachError> {
        ring.producer_with(liveness)
    }

    fn consumer_with(ring: &Self::Ring, liveness: &impl Liveness) -> Result<Self::Consumer, AttachError> {
        ring.consumer_with(liveness)
    }

    unsafe fn replace_producer(ring: &Self::Ring, dead: Owner) -> Result<Self::Producer, AttachError> {
        // SAFETY: the caller's promise.
        unsafe { ring.replace_producer(dead) }
    }

    unsafe fn replace_consumer(ring: &Self::Ring, dead: Owner) -> Result<Self::Consumer, AttachError> {
        // SAFETY: the caller's promise.
        unsafe { ring.replace_consumer(dead) }
    }

    fn owners(ring: &Self::Ring) -> [Option<Owner>; 2] {
        [ring.producer_owner(), ring.consumer_owner()]
    }

    fn push(producer: &mut Self::Producer, number: u64) -> bool {
        match producer.push(&number.to_ne_bytes()) {
            Ok(()) => true,
            Err(RecordPushError::Full) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn pushed(producer: &Self::Producer) -> u64 {
        producer.position() / RECORD
    }

    fn pushing(producer: &Self::Producer) -> Owner {
        producer.owner()
    }

    fn pop(consumer: &mut Self::Consumer) -> Option<u64> {
        let mut number = [0; 8];
        match consumer.pop_into(&mut number) {
            Ok(8) => Some(u64::from_ne_bytes(number)),
            Ok(other) => panic!("expected a record of 8 bytes, found {other}"),
            Err(RecordPopError::Empty) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn pop_when(consumer: &mut Self::Consumer, done: impl FnOnce(u64) -> bool) -> bool {
        let record = match consumer.pop() {
            Ok(record) => record,
            Err(RecordPopError::Empty) => return false,
            Err(error) => panic!("{error}"),
        };
        let mut number = [0; 8];
        record.get(0, &mut number).unwrap();
        let done = done(u64::from_ne_bytes(number));
        if done {
            drop(record);
        } else {
            // Not consumed: the next pop finds it again.
            let _kept = core::mem::ManuallyDrop::new(record);
        }
        done
    }

    fn popped(consumer: &Self::Consumer) -> u64 {
        consumer.position() / RECORD
    }

    fn popping(consumer: &Self::Consumer) -> Owner {
        consumer.owner()
    }

    fn release_every(consumer: &mut Self::Consumer, messages: u64) {
        consumer.tune(Tuning::default().release_every(messages * RECORD));
    }
}
