//! Queues of fixed slots.

use core::marker::PhantomData;

use anyhow::{Context as _, Result, bail};
use tidewire_mpsc::ordered::{self, fixed as one_order};
use tidewire_mpsc::{AttachError, LaneStats, PopError, Tuning, fixed};
use tidewire_ring::Owner;
use tidewire_shm::{Liveness, Region, Segment, SegmentLeases, Untrusted};

use super::{
    FINGERPRINT, Lanes, Ordered, Queue, Receiver, Refusal, Sender, Shape, Subject, lane, left_behind,
    options, producer,
};
use crate::history::PopDesk;
use crate::run::message;
use crate::subject::{BATCH, NOBODY, Pop, Push, name, read};

type Message<const W: usize> = [u64; W];

impl<const W: usize> Queue for fixed::Queue<Message<W>, Untrusted> {
    type Producer = fixed::Producer<Message<W>, Untrusted>;
    type Consumer = fixed::Consumer<Message<W>, Untrusted>;

    const NAME: &'static str = "mpsc-fixed";
    const ORDERED: bool = false;

    fn open_queue(region: Region<Untrusted>) -> Result<Self, AttachError> {
        Self::open(region, FINGERPRINT)
    }

    fn attach<V: Liveness>(&self, leases: &V) -> Result<Self::Producer, AttachError> {
        self.producer(leases)
    }

    fn consume<V: Liveness>(&self, leases: &V) -> Result<Self::Consumer, AttachError> {
        self.consumer(leases)
    }

    fn reclaim_all<V: Liveness>(&self, _: &mut Self::Consumer, leases: &V) -> Result<u32, AttachError> {
        self.reclaim(leases)
    }

    fn lane_of(producer: &Self::Producer) -> u32 {
        producer.lane()
    }

    fn stats(&self) -> Vec<LaneStats> {
        self.lanes().collect()
    }

    fn owners(&self) -> Vec<Option<Owner>> {
        self.lanes().map(|lane| lane.owner).chain([self.consumer_owner()]).collect()
    }
}

impl<const W: usize> Queue for one_order::Queue<Message<W>, Untrusted> {
    type Producer = one_order::Producer<Message<W>, Untrusted>;
    type Consumer = one_order::Consumer<Message<W>, Untrusted>;

    const NAME: &'static str = "mpsc-ordered";
    const ORDERED: bool = true;

    fn open_queue(region: Region<Untrusted>) -> Result<Self, AttachError> {
        Self::open(region, FINGERPRINT)
    }

    fn attach<V: Liveness>(&self, leases: &V) -> Result<Self::Producer, AttachError> {
        self.producer(leases)
    }

    fn consume<V: Liveness>(&self, leases: &V) -> Result<Self::Consumer, AttachError> {
        self.consumer(leases)
    }

    fn reclaim_all<V: Liveness>(
        &self,
        consumer: &mut Self::Consumer,
        leases: &V,
    ) -> Result<u32, AttachError> {
        consumer.reclaim(leases)
    }

    fn lane_of(producer: &Self::Producer) -> u32 {
        producer.lane()
    }

    fn stats(&self) -> Vec<LaneStats> {
        self.lanes().collect()
    }

    fn owners(&self) -> Vec<Option<Owner>> {
        self.lanes().map(|lane| lane.owner).chain([self.consumer_owner()]).collect()
    }
}

impl From<PopError> for Refusal {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Empty => Self::NotNow,
        }
    }
}

impl From<ordered::PopError> for Refusal {
    fn from(error: ordered::PopError) -> Self {
        match error {
            ordered::PopError::Empty => Self::NotNow,
            ordered::PopError::Corrupt(corrupt) => Self::broken(corrupt),
        }
    }
}

impl From<ordered::PushError> for Refusal {
    fn from(error: ordered::PushError) -> Self {
        match error {
            ordered::PushError::Full => Self::NotNow,
            ordered::PushError::TooMany { max } => Self::Broken(format!("at most {max} at a time")),
            ordered::PushError::Corrupt(corrupt) => Self::broken(corrupt),
        }
    }
}

/// What slots can do in either kind of queue.
pub(crate) trait SlotsKind<const W: usize>: Sync + 'static {
    type Queue: Queue<Producer = Self::Producer, Consumer = Self::Consumer>;
    type Producer: 'static;
    type Consumer: 'static;

    fn bytes<V: Liveness>(producers: u8, capacity: usize) -> Result<usize>;
    fn create<V: Liveness>(region: Region<Untrusted>, producers: u8, capacity: usize) -> Result<()>;
    fn push(producer: &mut Self::Producer, message: &Message<W>) -> Result<(), Refusal>;
    fn push_slice(producer: &mut Self::Producer, messages: &[Message<W>]) -> Result<(), Refusal>;
    /// Reserves room, fills it with as many messages, and commits some of them; none: aborts.
    fn reserve(
        producer: &mut Self::Producer,
        room: usize,
        messages: &[Message<W>],
        keep: usize,
    ) -> Result<(), Refusal>;
    fn pop_to(consumer: &mut Self::Consumer, to: &mut Message<W>) -> Result<(), Refusal>;
    fn pop_into(consumer: &mut Self::Consumer, to: &mut [Message<W>]) -> Result<usize, Refusal>;
    fn peek(consumer: &mut Self::Consumer) -> Result<Message<W>, Refusal>;
    /// Reads up to `most` in place, and consumes a part of them, which `keep` chooses: copied to `to`.
    fn in_place(
        consumer: &mut Self::Consumer,
        most: usize,
        keep: u64,
        to: &mut [Message<W>],
    ) -> Result<usize, Refusal>;
    fn release(consumer: &mut Self::Consumer);
    fn tune(consumer: &mut Self::Consumer, release_every: u64);
}

impl<const W: usize> SlotsKind<W> for Lanes {
    type Queue = fixed::Queue<Message<W>, Untrusted>;
    type Producer = fixed::Producer<Message<W>, Untrusted>;
    type Consumer = fixed::Consumer<Message<W>, Untrusted>;

    fn bytes<V: Liveness>(producers: u8, capacity: usize) -> Result<usize> {
        Ok(Self::Queue::bytes(capacity, &options::<V>(producers))?)
    }

    fn create<V: Liveness>(region: Region<Untrusted>, producers: u8, capacity: usize) -> Result<()> {
        Self::Queue::create(region, capacity, &options::<V>(producers))?;
        Ok(())
    }

    #[inline(always)]
    fn push(producer: &mut Self::Producer, message: &Message<W>) -> Result<(), Refusal> {
        Ok(producer.push_from(message)?)
    }

    #[inline(always)]
    fn push_slice(producer: &mut Self::Producer, messages: &[Message<W>]) -> Result<(), Refusal> {
        Ok(producer.push_slice(messages)?)
    }

    fn reserve(
        producer: &mut Self::Producer,
        room: usize,
        messages: &[Message<W>],
        keep: usize,
    ) -> Result<(), Refusal> {
        let mut reservation = producer.reserve(room)?;
        reservation.set(0, messages)?;
        if keep > 0 {
            reservation.commit(keep)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn pop_to(consumer: &mut Self::Consumer, to: &mut Message<W>) -> Result<(), Refusal> {
        Ok(consumer.pop_to(to)?)
    }

    #[inline(always)]
    fn pop_into(consumer: &mut Self::Consumer, to: &mut [Message<W>]) -> Result<usize, Refusal> {
        Ok(consumer.pop_into(to)?)
    }

    fn peek(consumer: &mut Self::Consumer) -> Result<Message<W>, Refusal> {
        Ok(consumer.peek()?)
    }

    fn in_place(
        consumer: &mut Self::Consumer,
        most: usize,
        keep: u64,
        to: &mut [Message<W>],
    ) -> Result<usize, Refusal> {
        let chunk = consumer.read_chunk(most)?;
        let n = chunk.len().clamp(1, to.len());
        let k = 1 + usize::try_from(keep % n as u64).unwrap_or(0);
        chunk.get(0, to.get_mut(..k).unwrap_or_default())?;
        // Consumed now, released by a later call.
        chunk.release(k)?;
        Ok(k)
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn tune(consumer: &mut Self::Consumer, release_every: u64) {
        consumer.tune(Tuning::default().release_every(release_every));
    }
}

impl<const W: usize> SlotsKind<W> for Ordered {
    type Queue = one_order::Queue<Message<W>, Untrusted>;
    type Producer = one_order::Producer<Message<W>, Untrusted>;
    type Consumer = one_order::Consumer<Message<W>, Untrusted>;

    fn bytes<V: Liveness>(producers: u8, capacity: usize) -> Result<usize> {
        Ok(Self::Queue::bytes(capacity, &options::<V>(producers))?)
    }

    fn create<V: Liveness>(region: Region<Untrusted>, producers: u8, capacity: usize) -> Result<()> {
        Self::Queue::create(region, capacity, &options::<V>(producers))?;
        Ok(())
    }

    #[inline(always)]
    fn push(producer: &mut Self::Producer, message: &Message<W>) -> Result<(), Refusal> {
        Ok(producer.push_from(message)?)
    }

    #[inline(always)]
    fn push_slice(producer: &mut Self::Producer, messages: &[Message<W>]) -> Result<(), Refusal> {
        Ok(producer.push_slice(messages)?)
    }

    /// An order has no reservations: what is to be kept is pushed.
    fn reserve(
        producer: &mut Self::Producer,
        _room: usize,
        messages: &[Message<W>],
        keep: usize,
    ) -> Result<(), Refusal> {
        Self::push_slice(producer, messages.get(..keep).unwrap_or_default())
    }

    #[inline(always)]
    fn pop_to(consumer: &mut Self::Consumer, to: &mut Message<W>) -> Result<(), Refusal> {
        Ok(consumer.pop_to(to)?)
    }

    #[inline(always)]
    fn pop_into(consumer: &mut Self::Consumer, to: &mut [Message<W>]) -> Result<usize, Refusal> {
        Ok(consumer.pop_into(to)?)
    }

    fn peek(consumer: &mut Self::Consumer) -> Result<Message<W>, Refusal> {
        Ok(consumer.peek()?)
    }

    /// An order has no chunks: they are copied out.
    fn in_place(
        consumer: &mut Self::Consumer,
        most: usize,
        keep: u64,
        to: &mut [Message<W>],
    ) -> Result<usize, Refusal> {
        let k = 1 + usize::try_from(keep % most.clamp(1, to.len()) as u64).unwrap_or(0);
        Self::pop_into(consumer, to.get_mut(..k).unwrap_or_default())
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn tune(consumer: &mut Self::Consumer, release_every: u64) {
        consumer.tune(ordered::Tuning::default().release_every(release_every));
    }
}

/// A queue of slots of `W` words.
pub(crate) struct Slots<K, const W: usize> {
    producers: u8,
    kind: PhantomData<fn() -> K>,
}

impl<K: SlotsKind<W>, const W: usize> Slots<K, W> {
    pub(crate) fn new(producers: u8) -> Self {
        Self { producers, kind: PhantomData }
    }

    /// A sender in the lane that it was given.
    pub(crate) fn send_from(producer: K::Producer) -> (Box<dyn Sender>, u8) {
        let lane = lane::<K::Queue>(&producer);
        (Box::new(SlotSender::<K, W> { producer, batch: [[0; W]; BATCH] }), lane)
    }

    /// A receiver with these leases.
    ///
    /// # Errors
    /// What the queue says.
    pub(crate) fn receive_from<V: Liveness + 'static>(
        queue: K::Queue,
        leases: V,
        shape: &Shape,
    ) -> Result<Box<dyn Receiver>> {
        let mut consumer = queue.consume(&leases).context("the consumer")?;
        K::tune(&mut consumer, shape.release_every);
        Ok(Box::new(SlotReceiver::<K, V, W> { queue, leases, consumer, batch: [[0; W]; BATCH] }))
    }
}

impl<K: SlotsKind<W>, const W: usize> Subject for Slots<K, W> {
    fn structure(&self) -> &'static str {
        K::Queue::NAME
    }

    fn payload_bytes(&self) -> u64 {
        size_of::<Message<W>>() as u64
    }

    fn capacities(&self) -> (usize, usize) {
        (8, 1024)
    }

    fn producers(&self) -> u8 {
        self.producers
    }

    fn ordered(&self) -> bool {
        K::Queue::ORDERED
    }

    fn batch(&self, shape: &Shape) -> u32 {
        // Small, so that what may come again and what may be free late stays well below the capacity.
        u32::try_from((shape.capacity / 8).clamp(1, BATCH)).unwrap_or(1)
    }

    fn bytes(&self, shape: &Shape) -> Result<usize> {
        K::bytes::<SegmentLeases>(self.producers, shape.capacity)
    }

    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()> {
        K::create::<SegmentLeases>(region, self.producers, shape.capacity)
    }

    unsafe fn sender(&self, _region: Region<Untrusted>, _number: u8) -> Result<Box<dyn Sender>> {
        bail!("expected a segment to ask for leases, found a region")
    }

    unsafe fn receiver(&self, _region: Region<Untrusted>, _shape: &Shape) -> Result<Box<dyn Receiver>> {
        bail!("expected a segment to ask for leases, found a region")
    }

    unsafe fn sender_in(&self, segment: &Segment, _number: u8) -> Result<(Box<dyn Sender>, u8)> {
        let queue = K::Queue::open_queue(segment.region())?;
        Ok(Self::send_from(producer(&queue, &segment.leases()?)?))
    }

    unsafe fn receiver_in(&self, segment: &Segment, shape: &Shape) -> Result<Box<dyn Receiver>> {
        Self::receive_from(K::Queue::open_queue(segment.region())?, segment.leases()?, shape)
    }

    fn left_behind(&self, segment: &Segment) -> Result<()> {
        left_behind::<K::Queue>(segment, self.producers)
    }

    fn read_hand(&self, _hand: &[u8], _found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        // Nothing is released by the call that takes it.
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        // What a call handed out is not released; and a reservation may ask for more than it commits.
        let batch = u64::from(self.batch(shape));
        (shape.release_every + batch, batch)
    }
}

struct SlotSender<K: SlotsKind<W>, const W: usize> {
    producer: K::Producer,
    batch: [Message<W>; BATCH],
}

impl<K: SlotsKind<W>, const W: usize> SlotSender<K, W> {
    fn fill(&mut self, producer: u32, seq: u64, n: u32) -> usize {
        let mut filled = 0;
        for (message, seq) in self.batch.iter_mut().zip(seq..).take(n as usize) {
            message::fill(message, name(producer, seq));
            filled += 1;
        }
        filled
    }
}

impl<K: SlotsKind<W>, const W: usize> Sender for SlotSender<K, W> {
    fn units(&self, _producer: u32, _seq: u64, n: u32) -> u32 {
        n
    }

    fn send(&mut self, how: Push, producer: u32, seq: u64) -> Result<(), Refusal> {
        let (filled, room, keep) = match how {
            Push::One => (self.fill(producer, seq, 1), 0, 1),
            Push::Batch(n) => (self.fill(producer, seq, n), 0, n as usize),
            Push::Commit { reserved, kept } => {
                (self.fill(producer, seq, kept), reserved as usize, kept as usize)
            }
            Push::Abort(n) => (self.fill(NOBODY, seq, n), n as usize, 0),
        };
        let Self { producer, batch } = self;
        let messages = batch.get(..filled).unwrap_or_default();
        match (how, messages) {
            (Push::One, [message]) => K::push(producer, message),
            (Push::One | Push::Batch(_), messages) => K::push_slice(producer, messages),
            (Push::Commit { .. } | Push::Abort(_), messages) => K::reserve(producer, room, messages, keep),
        }
    }
}

struct SlotReceiver<K: SlotsKind<W>, V, const W: usize> {
    // The consumer's word is freed before its lease.
    consumer: K::Consumer,
    queue: K::Queue,
    leases: V,
    batch: [Message<W>; BATCH],
}

impl<K: SlotsKind<W>, V, const W: usize> SlotReceiver<K, V, W> {
    /// What a call hands out is released by a later one: there is time to write it down.
    fn pop_one(consumer: &mut K::Consumer, desk: &mut PopDesk) -> Result<Message<W>, Refusal> {
        let mut message = [0; W];
        desk.begin();
        K::pop_to(consumer, &mut message)?;
        desk.message(read(&message), 1);
        desk.settle();
        Ok(message)
    }
}

impl<K: SlotsKind<W>, V: Liveness, const W: usize> Receiver for SlotReceiver<K, V, W> {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        let Self { queue, leases, consumer, batch } = self;
        match how {
            Pop::One => {
                Self::pop_one(consumer, desk)?;
            }
            Pop::Peek => {
                desk.begin();
                let seen = K::peek(consumer)?;
                if seen != Self::pop_one(consumer, desk)? {
                    return Err(Refusal::broken("a message changed between peek and pop"));
                }
            }
            Pop::Chunk(most, keep) => {
                desk.begin();
                let k = K::in_place(consumer, most as usize, keep, batch)?;
                batch.iter().take(k).for_each(|message| desk.message(read(message), 1));
                desk.settle();
            }
            Pop::Into(most) => {
                desk.begin();
                let n = K::pop_into(consumer, batch.get_mut(..most as usize).unwrap_or_default())?;
                batch.iter().take(n).for_each(|message| desk.message(read(message), 1));
                desk.settle();
            }
            Pop::Drain(most) => {
                Self::pop_one(consumer, desk)?;
                for _ in 1..most {
                    match Self::pop_one(consumer, desk) {
                        Err(Refusal::NotNow) => break,
                        done => done?,
                    };
                }
            }
            Pop::Release => {
                K::release(consumer);
                queue.reclaim_all(consumer, leases).map_err(Refusal::broken)?;
            }
        }
        Ok(())
    }
}
