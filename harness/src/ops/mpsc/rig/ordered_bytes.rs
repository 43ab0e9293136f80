//! Ordered records behind the face; with page stride, so that both layouts are stepped.

use tidewire_mpsc::ordered::bytes::{Consumer, Producer, Queue};
use tidewire_mpsc::ordered::{RecordPopError, RecordPushError, Tuning};
use tidewire_mpsc::{AttachError, Delivery, LaneState};
use tidewire_ring::Owner;
use tidewire_shm::{Region, RoleStride, Untrusted};

use super::bytes::{CAPACITY, LONGEST, framed, length, number};
use super::ordered_fixed::order_words;
use super::{Rig, options};
use crate::ops::mpsc::leases::Leases;
use crate::ops::mpsc::{LANES, Verdict, alone};
use crate::ops::record_of;
use crate::ops::rig::{Popped, Pushed};

/// Where the lanes begin, and their bytes, with page stride.
const LANES_OFFSET: usize = 32768;
const LANE_BYTES: usize = 12288;
/// The hint and the order words.
const HINT: usize = 20480;
const ORDER: usize = 24576;

fn refused(error: RecordPopError) -> Popped {
    match error {
        RecordPopError::Empty => Popped::Empty,
        RecordPopError::BufferTooSmall { .. } => Popped::Torn,
        RecordPopError::Corrupt(_) => Popped::Corrupt,
    }
}

fn pushed(result: Result<(), RecordPushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        Err(RecordPushError::Full | RecordPushError::TooLong { .. }) => Pushed::Full,
        Err(RecordPushError::Corrupt(_)) => Pushed::Corrupt,
    }
}

/// Three lanes of 128 bytes of records of 8 to 20 bytes, in one order.
pub(in crate::ops::mpsc) struct OrderedBytes;

impl Rig for OrderedBytes {
    type Queue = Queue<Untrusted>;
    type Producer = Producer<Untrusted>;
    type Consumer = Consumer<Untrusted>;

    const STRUCTURE: &'static str = "mpsc-ordered-bytes";
    const CAPACITY: u64 = CAPACITY as u64;
    // Three records of at most 32 framed bytes and padding of at most 24.
    const FITS: u64 = 3;
    const MOST: u64 = 4;
    const EXACT: bool = false;
    const BATCHES: bool = false;
    const RESERVES: bool = false;
    const IN_PLACE: bool = true;
    const ORDERED: bool = true;
    // Framed, the records before it take 16, 24, 32, 24 and 24 bytes, and it takes 32.
    const WRAPS: u64 = 5;

    fn bytes() -> usize {
        let options = options(Delivery::AtLeastOnce).role_stride(RoleStride::Page);
        Self::Queue::bytes(CAPACITY, &options).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>, delivery: Delivery) -> Verdict<Self::Queue> {
        let options = options(delivery).role_stride(RoleStride::Page);
        Self::Queue::create(region, CAPACITY, &options).map_err(|error| error.to_string())
    }

    fn alone() -> Verdict<Self::Queue> {
        Self::create(alone(Self::bytes())?, Delivery::AtLeastOnce)
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Queue, AttachError> {
        Self::Queue::open(region, 0)
    }

    fn producer(queue: &Self::Queue, leases: &Leases) -> Result<Self::Producer, AttachError> {
        queue.producer(leases)
    }

    fn consumer(queue: &Self::Queue, leases: &Leases) -> Result<Self::Consumer, AttachError> {
        queue.consumer(leases)
    }

    fn reclaim(
        _queue: &Self::Queue,
        consumer: Option<&mut Self::Consumer>,
        leases: &Leases,
    ) -> Result<u32, AttachError> {
        consumer.map_or(Ok(0), |consumer| consumer.reclaim(leases))
    }

    fn owner(queue: &Self::Queue, lane: usize) -> Option<Owner> {
        queue.producer_owner(u32::try_from(lane).ok()?)
    }

    fn consumer_owner(queue: &Self::Queue) -> Option<Owner> {
        queue.consumer_owner()
    }

    fn corrupt_lanes(queue: &Self::Queue) -> usize {
        queue.lanes().filter(|lane| lane.state == LaneState::Corrupt).count()
    }

    fn lane(producer: &Self::Producer) -> usize {
        producer.lane() as usize
    }

    fn push(producer: &mut Self::Producer, id: u64) -> Pushed {
        pushed(producer.push(record_of(id, &mut [0; LONGEST])))
    }

    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed {
        let mut batch = producer.batch();
        for id in (first..).take(n) {
            let filled = batch.push(record_of(id, &mut [0; LONGEST]));
            if filled.is_err() {
                return pushed(filled);
            }
        }
        pushed(batch.commit().map(drop))
    }

    fn reserve(_producer: &mut Self::Producer, _id: u64, _commit: bool) -> Pushed {
        Pushed::Corrupt
    }

    fn tail(producer: &Self::Producer) -> u64 {
        producer.position()
    }

    fn pop(consumer: &mut Self::Consumer) -> Popped {
        let mut buffer = [0; LONGEST];
        match consumer.pop_into(&mut buffer) {
            Ok(n) => number(buffer.get(..n).unwrap_or_default()),
            Err(error) => refused(error),
        }
    }

    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]) {
        for to in to.iter_mut().take(1) {
            *to = Self::pop(consumer);
        }
    }

    fn pop_in_place(consumer: &mut Self::Consumer) -> Popped {
        let mut buffer = [0; LONGEST];
        match consumer.pop() {
            Ok(record) => {
                let n = record.len();
                match buffer.get_mut(..n).map(|to| record.get(0, to)) {
                    Some(Ok(())) => {}
                    _ => return Popped::Torn,
                }
                drop(record);
                number(buffer.get(..n).unwrap_or_default())
            }
            Err(error) => refused(error),
        }
    }

    fn peek(consumer: &mut Self::Consumer) -> Popped {
        match consumer.peek_len() {
            // A length is all that a peek of a record says.
            Ok(n) => Popped::Message(n as u64),
            Err(error) => refused(error),
        }
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn rescan(_consumer: &mut Self::Consumer) {}

    fn tune(consumer: &mut Self::Consumer, release_every: u64) {
        consumer.tune(Tuning::default().release_every(release_every));
    }

    fn took_out(consumer: &mut Self::Consumer) -> bool {
        consumer.take_corrupt().is_some()
    }

    fn elements(position: u64, id: u64) -> (u64, u64) {
        framed(position, length(id))
    }

    fn reserved(_position: u64) -> u64 {
        0
    }

    fn peeked(id: u64) -> u64 {
        length(id) as u64
    }

    fn owner_words() -> [usize; 1 + LANES] {
        [4096, 12288, 12416, 12544]
    }

    fn hint_word() -> Option<usize> {
        None
    }

    fn words(lane: usize) -> [usize; 3] {
        let base = LANES_OFFSET + lane * LANE_BYTES;
        [base + 256 * lane, base + 4096 + 256 * lane + 128, base + 8192]
    }

    fn believed(at: u64, runs: [u64; 2]) -> Vec<usize> {
        let [_, _, data] = Self::words(0);
        let frame = usize::try_from(at % Self::CAPACITY).unwrap_or(0);
        // The frame at the head, and the one that follows if that one is padding.
        [data + frame, data, HINT].into_iter().chain(order_words(ORDER, runs)).collect()
    }
}
