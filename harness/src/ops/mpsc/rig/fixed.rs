//! Lanes of fixed slots behind the face.

use tidewire_mpsc::fixed::{Consumer, Producer, Queue};
use tidewire_mpsc::{AttachError, Delivery, LaneState, PopError, Tuning};
use tidewire_ring::Owner;
use tidewire_shm::{Region, Untrusted};

use super::{Rig, options};
use crate::ops::mpsc::leases::Leases;
use crate::ops::mpsc::{LANES, Verdict, alone};
use crate::ops::rig::{MOST, Popped, Pushed};

const WORDS: usize = 4;
pub(super) const CAPACITY: usize = 4;
/// Bytes of a lane with line stride: tail, head, and four slots of 32 bytes.
const LANE_BYTES: usize = 384;

/// A message of four words that follow from its number.
pub(in crate::ops::mpsc) type Message = [u64; WORDS];

pub(in crate::ops::mpsc) fn message(id: u64) -> Message {
    let word = |i: u64| (id + i).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) ^ id;
    [id, word(1), word(2), word(3)]
}

pub(super) fn number(found: Message) -> Popped {
    let [id, ..] = found;
    if id <= u64::from(u32::MAX) && found == message(id) { Popped::Message(id) } else { Popped::Torn }
}

pub(super) fn popped(found: Result<Message, PopError>) -> Popped {
    match found {
        Ok(found) => number(found),
        Err(PopError::Empty) => Popped::Empty,
    }
}

/// The messages `first ..` as a batch.
pub(super) fn batch(first: u64) -> [Message; MOST] {
    let mut batch = [Message::default(); MOST];
    for (to, id) in batch.iter_mut().zip(first..) {
        *to = message(id);
    }
    batch
}

/// Three lanes of four slots of 32 bytes.
pub(in crate::ops::mpsc) struct Fixed;

impl Rig for Fixed {
    type Queue = Queue<Message, Untrusted>;
    type Producer = Producer<Message, Untrusted>;
    type Consumer = Consumer<Message, Untrusted>;

    const STRUCTURE: &'static str = "mpsc-fixed";
    const CAPACITY: u64 = CAPACITY as u64;
    const FITS: u64 = CAPACITY as u64;
    const MOST: u64 = CAPACITY as u64;
    const EXACT: bool = true;
    const BATCHES: bool = true;
    const RESERVES: bool = true;
    const IN_PLACE: bool = true;
    const ORDERED: bool = false;
    const WRAPS: u64 = 3;

    fn bytes() -> usize {
        Self::Queue::bytes(CAPACITY, &options(Delivery::AtLeastOnce)).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>, delivery: Delivery) -> Verdict<Self::Queue> {
        Self::Queue::create(region, CAPACITY, &options(delivery)).map_err(|error| error.to_string())
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
        producer.push(message(id)).map_or_else(Into::into, |()| Pushed::Done)
    }

    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed {
        let batch = batch(first);
        let pushed = producer.push_slice(batch.get(..n).unwrap_or_default());
        pushed.map_or_else(Into::into, |()| Pushed::Done)
    }

    fn reserve(producer: &mut Self::Producer, id: u64, commit: bool) -> Pushed {
        match producer.reserve(2) {
            Ok(mut slots) => {
                let set = slots.set(0, &[message(id)]).is_ok();
                let well = set && (!commit || slots.commit(1).is_ok());
                if well { Pushed::Done } else { Pushed::Corrupt }
            }
            Err(error) => error.into(),
        }
    }

    fn tail(producer: &Self::Producer) -> u64 {
        producer.position()
    }

    fn pop(consumer: &mut Self::Consumer) -> Popped {
        popped(consumer.pop())
    }

    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]) {
        let mut buffer = [Message::default(); MOST];
        let most = to.len().min(MOST);
        match consumer.pop_into(buffer.get_mut(..most).unwrap_or_default()) {
            Ok(n) => to.iter_mut().zip(buffer).take(n).for_each(|(to, found)| *to = number(found)),
            Err(PopError::Empty) => {}
        }
    }

    fn pop_in_place(consumer: &mut Self::Consumer) -> Popped {
        let chunk = match consumer.read_chunk(2) {
            Ok(chunk) => chunk,
            Err(PopError::Empty) => return Popped::Empty,
        };
        let mut found = [Message::default()];
        if chunk.get(0, &mut found).is_err() || chunk.release(1).is_err() {
            return Popped::Torn;
        }
        let [found] = found;
        number(found)
    }

    fn peek(consumer: &mut Self::Consumer) -> Popped {
        popped(consumer.peek())
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

    fn elements(_position: u64, _id: u64) -> (u64, u64) {
        (0, 1)
    }

    fn reserved(_position: u64) -> u64 {
        2
    }

    fn peeked(id: u64) -> u64 {
        id
    }

    fn owner_words() -> [usize; 1 + LANES] {
        [256, 640, 768, 896]
    }

    fn hint_word() -> Option<usize> {
        Some(512)
    }

    fn words(lane: usize) -> [usize; 3] {
        let base = 1024 + lane * LANE_BYTES;
        [base, base + 128, base + 256]
    }

    fn believed(_at: u64, _runs: [u64; 2]) -> Vec<usize> {
        Vec::new()
    }
}
