//! Ordered slots behind the face.

use tidewire_mpsc::ordered::fixed::{Consumer, Producer, Queue};
use tidewire_mpsc::ordered::{PopError, PushError, Tuning};
use tidewire_mpsc::{AttachError, Delivery, LaneState};
use tidewire_ring::Owner;
use tidewire_shm::{Region, Untrusted};

use super::fixed::{CAPACITY, Message, batch, message, number};
use super::{Rig, options};
use crate::ops::mpsc::leases::Leases;
use crate::ops::mpsc::{LANES, Verdict, alone};
use crate::ops::rig::{MOST, Popped, Pushed};

/// Where the lanes begin, and their bytes, with line stride.
const LANES_OFFSET: usize = 17408;
const LANE_BYTES: usize = 384;
/// The hint and the order words, of which there are so many.
pub(super) const HINT: usize = 1408;
const ORDER: usize = 1536;
pub(super) const ORDER_WORDS: u64 = 1024;

fn refused(error: PopError) -> Popped {
    match error {
        PopError::Empty => Popped::Empty,
        PopError::Corrupt(_) => Popped::Corrupt,
    }
}

fn pushed(result: Result<(), PushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        Err(PushError::Full | PushError::TooMany { .. }) => Pushed::Full,
        Err(PushError::Corrupt(_)) => Pushed::Corrupt,
    }
}

/// The order words where the consumer and the next producer stand, and the ones before and behind.
pub(super) fn order_words(order: usize, runs: [u64; 2]) -> impl Iterator<Item = usize> {
    let near = runs.into_iter().flat_map(|run| [run.wrapping_sub(1), run, run + 1]);
    near.map(move |run| order + 8 * usize::try_from(run % ORDER_WORDS).unwrap_or(0))
}

/// Three lanes of four slots of 32 bytes, in one order.
pub(in crate::ops::mpsc) struct OrderedFixed;

impl Rig for OrderedFixed {
    type Queue = Queue<Message, Untrusted>;
    type Producer = Producer<Message, Untrusted>;
    type Consumer = Consumer<Message, Untrusted>;

    const STRUCTURE: &'static str = "mpsc-ordered";
    const CAPACITY: u64 = CAPACITY as u64;
    const FITS: u64 = CAPACITY as u64;
    const MOST: u64 = CAPACITY as u64;
    const EXACT: bool = true;
    const BATCHES: bool = true;
    const RESERVES: bool = false;
    const IN_PLACE: bool = false;
    const ORDERED: bool = true;
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
        pushed(producer.push(message(id)))
    }

    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed {
        let batch = batch(first);
        pushed(producer.push_slice(batch.get(..n).unwrap_or_default()))
    }

    fn reserve(_producer: &mut Self::Producer, _id: u64, _commit: bool) -> Pushed {
        Pushed::Corrupt
    }

    fn tail(producer: &Self::Producer) -> u64 {
        producer.position()
    }

    fn pop(consumer: &mut Self::Consumer) -> Popped {
        consumer.pop().map_or_else(refused, number)
    }

    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]) {
        let mut buffer = [Message::default(); MOST];
        let most = to.len().min(MOST);
        match consumer.pop_into(buffer.get_mut(..most).unwrap_or_default()) {
            Ok(n) => to.iter_mut().zip(buffer).take(n).for_each(|(to, found)| *to = number(found)),
            Err(error) => to.iter_mut().take(1).for_each(|to| *to = refused(error)),
        }
    }

    fn pop_in_place(_consumer: &mut Self::Consumer) -> Popped {
        Popped::Corrupt
    }

    fn peek(consumer: &mut Self::Consumer) -> Popped {
        consumer.peek().map_or_else(refused, number)
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
        None
    }

    fn words(lane: usize) -> [usize; 3] {
        let base = LANES_OFFSET + lane * LANE_BYTES;
        [base, base + 128, base + 256]
    }

    fn believed(_at: u64, runs: [u64; 2]) -> Vec<usize> {
        order_words(ORDER, runs).chain([HINT]).collect()
    }
}
