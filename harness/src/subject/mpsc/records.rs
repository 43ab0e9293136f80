//! Queues of byte records.

use core::marker::PhantomData;

use anyhow::{Context as _, Result, bail};
use tidewire_mpsc::ordered::{self, bytes as one_order};
use tidewire_mpsc::{AttachError, LaneStats, RecordPopError, Tuning, bytes};
use tidewire_ring::Owner;
use tidewire_shm::{Liveness, Region, Segment, SegmentLeases, Untrusted};

use super::{
    FINGERPRINT, Lanes, Ordered, Queue, Receiver, Refusal, Sender, Shape, Subject, lane, left_behind,
    options, producer,
};
use crate::history::PopDesk;
use crate::subject::records::{framed, units_of};
use crate::subject::{NOBODY, Pop, Push, Records as Form, name};

impl Queue for bytes::Queue<Untrusted> {
    type Producer = bytes::Producer<Untrusted>;
    type Consumer = bytes::Consumer<Untrusted>;

    const NAME: &'static str = "mpsc-bytes";
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

impl Queue for one_order::Queue<Untrusted> {
    type Producer = one_order::Producer<Untrusted>;
    type Consumer = one_order::Consumer<Untrusted>;

    const NAME: &'static str = "mpsc-ordered-bytes";
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

impl From<RecordPopError> for Refusal {
    fn from(error: RecordPopError) -> Self {
        match error {
            RecordPopError::Empty => Self::NotNow,
            error @ RecordPopError::BufferTooSmall { .. } => Self::broken(error),
        }
    }
}

impl From<ordered::RecordPopError> for Refusal {
    fn from(error: ordered::RecordPopError) -> Self {
        match error {
            ordered::RecordPopError::Empty => Self::NotNow,
            error => Self::broken(error),
        }
    }
}

impl From<ordered::RecordPushError> for Refusal {
    fn from(error: ordered::RecordPushError) -> Self {
        match error {
            ordered::RecordPushError::Full => Self::NotNow,
            error => Self::broken(error),
        }
    }
}

/// What records can do in either kind of queue.
pub(crate) trait RecordsKind: Sync + 'static {
    type Queue: Queue<Producer = Self::Producer, Consumer = Self::Consumer>;
    type Producer: 'static;
    type Consumer: 'static;

    fn bytes<V: Liveness>(producers: u8, capacity: usize) -> Result<usize>;
    fn create<V: Liveness>(region: Region<Untrusted>, producers: u8, capacity: usize) -> Result<()>;
    fn push(producer: &mut Self::Producer, record: &[u8]) -> Result<(), Refusal>;
    /// Pushes records with one publication.
    fn push_batch(producer: &mut Self::Producer, records: &[Vec<u8>]) -> Result<(), Refusal>;
    /// Reserves room for a record, fills it, and commits as many bytes as `keep` says, or aborts.
    fn reserve(producer: &mut Self::Producer, record: &[u8], keep: Option<usize>) -> Result<(), Refusal>;
    fn pop_into(consumer: &mut Self::Consumer, to: &mut [u8]) -> Result<usize, Refusal>;
    fn peek_len(consumer: &mut Self::Consumer) -> Result<usize, Refusal>;
    /// Reads a record in place and consumes it; says how long it is, which may be more than fits into `to`.
    fn in_place(consumer: &mut Self::Consumer, to: &mut [u8]) -> Result<usize, Refusal>;
    fn release(consumer: &mut Self::Consumer);
    fn tune(consumer: &mut Self::Consumer, release_every: u64);
}

impl RecordsKind for Lanes {
    type Queue = bytes::Queue<Untrusted>;
    type Producer = bytes::Producer<Untrusted>;
    type Consumer = bytes::Consumer<Untrusted>;

    fn bytes<V: Liveness>(producers: u8, capacity: usize) -> Result<usize> {
        Ok(Self::Queue::bytes(capacity, &options::<V>(producers))?)
    }

    fn create<V: Liveness>(region: Region<Untrusted>, producers: u8, capacity: usize) -> Result<()> {
        Self::Queue::create(region, capacity, &options::<V>(producers))?;
        Ok(())
    }

    #[inline(always)]
    fn push(producer: &mut Self::Producer, record: &[u8]) -> Result<(), Refusal> {
        Ok(producer.push(record)?)
    }

    fn push_batch(producer: &mut Self::Producer, records: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut batch = producer.batch();
        for record in records {
            batch.push(record)?;
        }
        batch.commit();
        Ok(())
    }

    fn reserve(producer: &mut Self::Producer, record: &[u8], keep: Option<usize>) -> Result<(), Refusal> {
        let mut reservation = producer.reserve(record.len())?;
        reservation.set(0, record)?;
        if let Some(keep) = keep {
            reservation.commit(keep)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn pop_into(consumer: &mut Self::Consumer, to: &mut [u8]) -> Result<usize, Refusal> {
        Ok(consumer.pop_into(to)?)
    }

    fn peek_len(consumer: &mut Self::Consumer) -> Result<usize, Refusal> {
        Ok(consumer.peek_len()?)
    }

    fn in_place(consumer: &mut Self::Consumer, to: &mut [u8]) -> Result<usize, Refusal> {
        let record = consumer.pop()?;
        let len = record.len();
        if let Some(to) = to.get_mut(..len) {
            record.get(0, to)?;
        }
        Ok(len)
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn tune(consumer: &mut Self::Consumer, release_every: u64) {
        consumer.tune(Tuning::default().release_every(release_every));
    }
}

impl RecordsKind for Ordered {
    type Queue = one_order::Queue<Untrusted>;
    type Producer = one_order::Producer<Untrusted>;
    type Consumer = one_order::Consumer<Untrusted>;

    fn bytes<V: Liveness>(producers: u8, capacity: usize) -> Result<usize> {
        Ok(Self::Queue::bytes(capacity, &options::<V>(producers))?)
    }

    fn create<V: Liveness>(region: Region<Untrusted>, producers: u8, capacity: usize) -> Result<()> {
        Self::Queue::create(region, capacity, &options::<V>(producers))?;
        Ok(())
    }

    #[inline(always)]
    fn push(producer: &mut Self::Producer, record: &[u8]) -> Result<(), Refusal> {
        Ok(producer.push(record)?)
    }

    fn push_batch(producer: &mut Self::Producer, records: &[Vec<u8>]) -> Result<(), Refusal> {
        let mut batch = producer.batch();
        for record in records {
            batch.push(record)?;
        }
        batch.commit()?;
        Ok(())
    }

    /// An order has no reservations: what is to be kept is pushed.
    fn reserve(producer: &mut Self::Producer, record: &[u8], keep: Option<usize>) -> Result<(), Refusal> {
        match keep.and_then(|keep| record.get(..keep)) {
            Some(record) => Self::push(producer, record),
            None => Ok(()),
        }
    }

    #[inline(always)]
    fn pop_into(consumer: &mut Self::Consumer, to: &mut [u8]) -> Result<usize, Refusal> {
        Ok(consumer.pop_into(to)?)
    }

    fn peek_len(consumer: &mut Self::Consumer) -> Result<usize, Refusal> {
        Ok(consumer.peek_len()?)
    }

    fn in_place(consumer: &mut Self::Consumer, to: &mut [u8]) -> Result<usize, Refusal> {
        let record = consumer.pop()?;
        let len = record.len();
        if let Some(to) = to.get_mut(..len) {
            record.get(0, to)?;
        }
        Ok(len)
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn tune(consumer: &mut Self::Consumer, release_every: u64) {
        consumer.tune(ordered::Tuning::default().release_every(release_every));
    }
}

/// A queue of records.
pub(crate) struct Records<K> {
    producers: u8,
    form: Form,
    kind: PhantomData<fn() -> K>,
}

impl<K: RecordsKind> Records<K> {
    pub(crate) fn new(producers: u8) -> Self {
        Self::with(producers, Form::default())
    }

    /// Of records of these lengths.
    pub(crate) fn with(producers: u8, form: Form) -> Self {
        Self { producers, form, kind: PhantomData }
    }
}

impl<K: RecordsKind> Subject for Records<K> {
    fn structure(&self) -> &'static str {
        K::Queue::NAME
    }

    fn payload_bytes(&self) -> u64 {
        self.form.payload_bytes()
    }

    fn capacities(&self) -> (usize, usize) {
        self.form.capacities()
    }

    fn producers(&self) -> u8 {
        self.producers
    }

    fn ordered(&self) -> bool {
        K::Queue::ORDERED
    }

    fn batch(&self, shape: &Shape) -> u32 {
        self.form.batch(shape)
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
        let producer = producer(&queue, &segment.leases()?)?;
        let lane = lane::<K::Queue>(&producer);
        Ok((Box::new(RecordSender::<K> { form: self.form, producer, words: [0; Form::WORDS] }), lane))
    }

    unsafe fn receiver_in(&self, segment: &Segment, shape: &Shape) -> Result<Box<dyn Receiver>> {
        let (queue, leases) = (K::Queue::open_queue(segment.region())?, segment.leases()?);
        let mut consumer = queue.consume(&leases).context("the consumer")?;
        K::tune(&mut consumer, shape.release_every);
        let form = self.form;
        Ok(Box::new(RecordReceiver::<K> { consumer, queue, leases, form, words: [0; Form::WORDS] }))
    }

    fn left_behind(&self, segment: &Segment) -> Result<()> {
        left_behind::<K::Queue>(segment, self.producers)
    }

    fn read_hand(&self, _hand: &[u8], _found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        // Nothing is released by the call that takes it.
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        let most = framed(self.form.longest) as u64;
        // The record in hand and the padding before it; and, in the lane, padding at the wrap and before a record, which
        // may have been reserved longer than it became.
        (shape.release_every + 2 * most, 3 * most)
    }
}

struct RecordSender<K: RecordsKind> {
    form: Form,
    producer: K::Producer,
    words: [u64; Form::WORDS],
}

impl<K: RecordsKind> Sender for RecordSender<K> {
    fn units(&self, producer: u32, seq: u64, n: u32) -> u32 {
        (0..u64::from(n)).map(|i| units_of(self.form.length(name(producer, seq + i)))).sum()
    }

    fn one_by_one(&self) -> bool {
        true
    }

    fn send(&mut self, how: Push, number: u32, seq: u64) -> Result<(), Refusal> {
        let Self { form, producer, words } = self;
        match how {
            Push::One => K::push(producer, form.lay_out(name(number, seq), words)),
            Push::Batch(n) => {
                let records =
                    (seq..).take(n as usize).map(|seq| form.lay_out(name(number, seq), words).to_vec());
                let records: Vec<_> = records.collect();
                K::push_batch(producer, &records)
            }
            // Records are reserved one by one, longer than they become.
            Push::Commit { .. } => {
                let name = name(number, seq);
                K::reserve(producer, form.lay_out_longest(name, words), Some(form.length(name)))
            }
            Push::Abort(_) => K::reserve(producer, form.lay_out_longest(name(NOBODY, seq), words), None),
        }
    }
}

struct RecordReceiver<K: RecordsKind> {
    // The consumer's word is freed before its lease.
    consumer: K::Consumer,
    queue: K::Queue,
    leases: SegmentLeases,
    form: Form,
    words: [u64; Form::WORDS],
}

impl<K: RecordsKind> RecordReceiver<K> {
    /// What a call hands out is released by a later one: there is time to write it down.
    fn take(
        &mut self,
        desk: &mut PopDesk,
        pop: fn(&mut K::Consumer, &mut [u8]) -> Result<usize, Refusal>,
    ) -> Result<(), Refusal> {
        desk.begin();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words);
        let len = pop(&mut self.consumer, bytes)?;
        desk.message(bytes.get(..len).and_then(|record| self.form.read(record)), units_of(len));
        desk.settle();
        Ok(())
    }
}

impl<K: RecordsKind> Receiver for RecordReceiver<K> {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        match how {
            Pop::One | Pop::Chunk(..) => self.take(desk, K::in_place)?,
            Pop::Peek => {
                desk.begin();
                let len = K::peek_len(&mut self.consumer)?;
                if K::peek_len(&mut self.consumer)? != len {
                    return Err(Refusal::broken("a record changed its length between two looks"));
                }
                self.take(desk, K::in_place)?;
            }
            Pop::Into(_) => self.take(desk, K::pop_into)?,
            Pop::Drain(most) => {
                self.take(desk, K::pop_into)?;
                for _ in 1..most {
                    match self.take(desk, K::pop_into) {
                        Ok(()) => {}
                        Err(Refusal::NotNow) => break,
                        Err(broken) => return Err(broken),
                    }
                }
            }
            Pop::Release => {
                K::release(&mut self.consumer);
                let freed = self.queue.reclaim_all(&mut self.consumer, &self.leases);
                freed.map_err(Refusal::broken)?;
            }
        }
        Ok(())
    }
}
