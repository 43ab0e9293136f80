//! Lanes of byte records behind the face; with page stride, so that both layouts are stepped.

use tidewire_mpsc::bytes::{Consumer, Producer, Queue};
use tidewire_mpsc::{AttachError, Delivery, LaneState, RecordPopError, Tuning};
use tidewire_ring::Owner;
use tidewire_shm::{Region, RoleStride, Untrusted};

use super::{Rig, options};
use crate::ops::mpsc::leases::Leases;
use crate::ops::mpsc::{LANES, Verdict, alone};
use crate::ops::record_of;
use crate::ops::rig::{Popped, Pushed};

pub(super) const CAPACITY: usize = 128;
pub(super) const LONGEST: usize = 20;
/// More than the longest, so that a commit gives some of it back.
pub(super) const RESERVED: usize = LONGEST + 4;
/// Bytes of a lane with page stride: two pages, and the data rounded up to one.
const LANE_BYTES: usize = 12288;

pub(super) fn length(id: u64) -> usize {
    record_of(id, &mut [0; LONGEST]).len()
}

/// Bytes of padding before a record of `len` bytes at `position`, and of the record with its frame, as the format
/// says: a record is a frame of eight bytes and a payload rounded up to eights, and does not go over the wrap.
pub(super) fn framed(position: u64, len: usize) -> (u64, u64) {
    let size = 8 + len.next_multiple_of(8) as u64;
    let rest = CAPACITY as u64 - position % CAPACITY as u64;
    (if size > rest { rest } else { 0 }, size)
}

pub(super) fn number(found: &[u8]) -> Popped {
    let Some(id) = found.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Popped::Torn;
    };
    // A number of a lying peer may be anything: the length is computed only from plausible ones.
    if id > u64::from(u32::MAX) {
        return Popped::Torn;
    }
    if record_of(id, &mut [0; LONGEST]) == found { Popped::Message(id) } else { Popped::Torn }
}

fn refused(error: RecordPopError) -> Popped {
    match error {
        RecordPopError::Empty => Popped::Empty,
        RecordPopError::BufferTooSmall { .. } => Popped::Torn,
    }
}

/// Three lanes of 128 bytes of records of 8 to 20 bytes.
pub(in crate::ops::mpsc) struct Bytes;

impl Rig for Bytes {
    type Queue = Queue<Untrusted>;
    type Producer = Producer<Untrusted>;
    type Consumer = Consumer<Untrusted>;

    const STRUCTURE: &'static str = "mpsc-bytes";
    const CAPACITY: u64 = CAPACITY as u64;
    // Three records of at most 32 framed bytes and padding of at most 24.
    const FITS: u64 = 3;
    const MOST: u64 = 4;
    const EXACT: bool = false;
    const BATCHES: bool = false;
    const RESERVES: bool = true;
    const IN_PLACE: bool = true;
    const ORDERED: bool = false;
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
        queue: &Self::Queue,
        _consumer: Option<&mut Self::Consumer>,
        leases: &Leases,
    ) -> Result<u32, AttachError> {
        queue.reclaim(leases)
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
        let pushed = producer.push(record_of(id, &mut [0; LONGEST]));
        pushed.map_or_else(Into::into, |()| Pushed::Done)
    }

    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed {
        let mut batch = producer.batch();
        for id in (first..).take(n) {
            if let Err(error) = batch.push(record_of(id, &mut [0; LONGEST])) {
                return error.into();
            }
        }
        batch.commit();
        Pushed::Done
    }

    fn reserve(producer: &mut Self::Producer, id: u64, commit: bool) -> Pushed {
        match producer.reserve(RESERVED) {
            Ok(mut place) => {
                let mut buffer = [0; LONGEST];
                let record = record_of(id, &mut buffer);
                let set = place.set(0, record).is_ok();
                let well = set && (!commit || place.commit(record.len()).is_ok());
                if well { Pushed::Done } else { Pushed::Corrupt }
            }
            Err(error) => error.into(),
        }
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

    fn rescan(consumer: &mut Self::Consumer) {
        consumer.rescan();
    }

    fn tune(consumer: &mut Self::Consumer, release_every: u64) {
        consumer.tune(Tuning::default().release_every(release_every));
    }

    fn took_out(consumer: &mut Self::Consumer) -> bool {
        consumer.take_corrupt().is_some()
    }

    fn elements(position: u64, id: u64) -> (u64, u64) {
        framed(position, length(id))
    }

    fn reserved(position: u64) -> u64 {
        let (padding, size) = framed(position, RESERVED);
        padding + size
    }

    fn peeked(id: u64) -> u64 {
        length(id) as u64
    }

    fn owner_words() -> [usize; 1 + LANES] {
        [4096, 12288, 12416, 12544]
    }

    fn hint_word() -> Option<usize> {
        Some(8192)
    }

    fn words(lane: usize) -> [usize; 3] {
        let base = 16384 + lane * LANE_BYTES;
        [base + 256 * lane, base + 4096 + 256 * lane + 128, base + 8192]
    }

    fn believed(at: u64, _runs: [u64; 2]) -> Vec<usize> {
        let [_, _, data] = Self::words(0);
        let frame = usize::try_from(at % Self::CAPACITY).unwrap_or(0);
        // The frame at the head, and the one that follows if that one is padding.
        vec![data + frame, data]
    }
}
