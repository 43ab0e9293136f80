//! The ring of byte records against a `VecDeque`: every operation of both handles, in any order.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod hostile_memory;

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::thread;

use hostile_memory::{LINE, Memory, Offsets, PAGE, record};
use proptest::prelude::*;
use tidewire_ring::bytes::{Consumer, Producer, Record, Reservation, Ring};
use tidewire_ring::{Options, RecordPopError, RecordPushError, TooMany, Tuning};
use tidewire_shm::{Region, RoleStride, Trust, Trusted, Untrusted};

/// What the two trust levels do differently.
trait Level: Trust {
    fn region(memory: &Memory) -> Region<Self>;
    fn fill(room: &mut Reservation<'_, Self>, bytes: &[u8]);
    fn read(record: &Record<'_, Self>) -> Vec<u8>;
}

fn copy_out<L: Trust>(record: &Record<'_, L>) -> Vec<u8> {
    let mut bytes = vec![0; record.len()];
    let middle = bytes.len() / 2;
    record.get(middle, &mut bytes[middle..]).unwrap();
    record.get(0, &mut bytes[..middle]).unwrap();
    bytes
}

impl Level for Untrusted {
    fn region(memory: &Memory) -> Region<Self> {
        memory.region()
    }

    fn fill(room: &mut Reservation<'_, Self>, bytes: &[u8]) {
        let middle = bytes.len() / 2;
        room.set(middle, &bytes[middle..]).unwrap();
        room.set(0, &bytes[..middle]).unwrap();
    }

    fn read(record: &Record<'_, Self>) -> Vec<u8> {
        copy_out(record)
    }
}

impl Level for Trusted {
    fn region(memory: &Memory) -> Region<Self> {
        memory.trusted()
    }

    fn fill(room: &mut Reservation<'_, Self>, bytes: &[u8]) {
        room.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
    }

    fn read(record: &Record<'_, Self>) -> Vec<u8> {
        assert_eq!(copy_out(record), **record);
        record.to_vec()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Reserve { len: usize, commit: usize },
    Abort(usize),
    Batch { lens: Vec<usize>, commit: bool },
    PopInto(usize),
    Pop,
    PeekLen,
    Release,
    Tune { touch: bool, pauses: u32, release_every: Option<u64> },
    LeaveProducer,
    LeaveConsumer,
    KillProducer,
    KillConsumer,
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![2 => 0..40_usize, 1 => 0..300_usize, 1 => Just(0), 1 => Just(24)];
    let period = prop_oneof![Just(None), (0..600_u64).prop_map(Some), Just(Some(u64::MAX))];
    let lens = proptest::collection::vec(len(), 0..5);
    prop_oneof![
        8 => len().prop_map(Op::Push),
        4 => (len(), len()).prop_map(|(len, commit)| Op::Reserve { len, commit }),
        1 => len().prop_map(Op::Abort),
        4 => (lens, any::<bool>()).prop_map(|(lens, commit)| Op::Batch { lens, commit }),
        6 => len().prop_map(Op::PopInto),
        8 => Just(Op::Pop),
        1 => Just(Op::PeekLen),
        1 => Just(Op::Release),
        1 => (any::<bool>(), 0..3_u32, period)
            .prop_map(|(touch, pauses, release_every)| Op::Tune { touch, pauses, release_every }),
        1 => Just(Op::LeaveProducer),
        1 => Just(Op::LeaveConsumer),
        1 => Just(Op::KillProducer),
        1 => Just(Op::KillConsumer),
    ]
}

#[derive(Clone, Debug)]
struct Case {
    capacity: usize,
    stride: RoleStride,
    start: u64,
    ops: Vec<Op>,
}

fn case() -> impl Strategy<Value = Case> {
    let capacity = (6..11_u32).prop_map(|n| 1 << n);
    let stride = prop_oneof![Just(RoleStride::Line), Just(RoleStride::Page)];
    let start = prop_oneof![Just(0), any::<u64>(), (0..900_u64).prop_map(|n| u64::MAX - n)];
    let ops = proptest::collection::vec(op(), 1..120);
    (capacity, stride, start, ops).prop_map(|(capacity, stride, start, ops)| Case {
        capacity,
        stride,
        start: start & !7,
        ops,
    })
}

fn framed(len: usize) -> usize {
    (8 + len).next_multiple_of(8)
}

/// Whether a position lies behind another, both of one ring.
fn is_behind(position: u64, other: u64) -> bool {
    position != other && position.wrapping_sub(other) < 1 << 63
}

/// A record and where it lies.
#[derive(Clone, Debug)]
struct Sent {
    /// Where its frame lies, behind padding or not.
    frame: u64,
    bytes: Vec<u8>,
}

impl Sent {
    fn end(&self) -> u64 {
        self.frame.wrapping_add(framed(self.bytes.len()) as u64)
    }
}

/// A ring, its two handles, and what they must answer.
struct World<L: Level> {
    memory: Memory,
    offsets: Offsets,
    ring: Ring<L>,
    producer: ManuallyDrop<Producer<L>>,
    consumer: ManuallyDrop<Consumer<L>>,
    capacity: usize,
    period: u64,
    /// Published and not consumed.
    queue: VecDeque<Sent>,
    /// Consumed, newest last.
    consumed: Vec<Sent>,
    /// Serial number of the next record, position of the next free byte.
    made: u64,
    tail: u64,
    head: u64,
}

impl<L: Level> World<L> {
    fn new(case: &Case) -> Self {
        let options = Options::new().role_stride(case.stride);
        let memory = Memory::new(Ring::<L>::bytes(case.capacity, &options).unwrap());
        let ring = Ring::<L>::create(L::region(&memory), case.capacity, &options).unwrap();
        let offsets = if case.stride == RoleStride::Line { LINE } else { PAGE };
        memory.set_word(offsets.tail, case.start);
        memory.set_word(offsets.head, case.start);
        let producer = ManuallyDrop::new(ring.producer().unwrap());
        let consumer = ManuallyDrop::new(ring.consumer().unwrap());
        Self {
            memory,
            offsets,
            ring,
            producer,
            consumer,
            capacity: case.capacity,
            period: Self::period(case.capacity, None),
            queue: VecDeque::new(),
            consumed: Vec::new(),
            made: 0,
            tail: case.start,
            head: case.start,
        }
    }

    fn period(capacity: usize, release_every: Option<u64>) -> u64 {
        let capacity = capacity as u64;
        release_every.unwrap_or(capacity / 8).clamp(1, capacity)
    }

    fn unreleased(&self) -> u64 {
        self.head.wrapping_sub(self.memory.word(self.offsets.head))
    }

    fn free(&self) -> usize {
        self.capacity - self.tail.wrapping_sub(self.memory.word(self.offsets.head)) as usize
    }

    fn max_record(&self) -> usize {
        self.capacity / 2 - 8
    }

    fn make(&mut self, len: usize) -> Vec<u8> {
        self.made += 1;
        record(self.made, len)
    }

    /// Where the frame of a record of `len` bytes goes behind `ahead` bytes, or why it does not.
    fn place(&self, len: usize, ahead: usize) -> Result<u64, RecordPushError> {
        if len > self.max_record() {
            return Err(RecordPushError::TooLong { max: self.max_record() as u32 });
        }
        let start = self.tail.wrapping_add(ahead as u64);
        let rest = self.capacity - (start % self.capacity as u64) as usize;
        let padding = if framed(len) <= rest { 0 } else { rest };
        if ahead + padding + framed(len) > self.free() {
            return Err(RecordPushError::Full);
        }
        Ok(start.wrapping_add(padding as u64))
    }

    fn publish(&mut self, frame: u64, bytes: Vec<u8>) {
        let sent = Sent { frame, bytes };
        self.tail = sent.end();
        self.queue.push_back(sent);
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Push(_) | Op::Reserve { .. } | Op::Abort(_) => self.write(op),
            Op::Batch { lens, commit } => self.batch(lens, *commit),
            Op::PopInto(_) | Op::Pop | Op::PeekLen => self.read(op),
            Op::Release => {
                self.consumer.release();
                assert_eq!(self.unreleased(), 0);
            }
            Op::Tune { touch, pauses, release_every } => {
                let mut tuning = Tuning::default().touch(*touch).pauses(*pauses);
                if let Some(bytes) = release_every {
                    tuning = tuning.release_every(*bytes);
                }
                self.consumer.tune(tuning);
                self.period = Self::period(self.capacity, *release_every);
            }
            Op::LeaveProducer | Op::LeaveConsumer | Op::KillProducer | Op::KillConsumer => self.change(op),
        }
    }

    fn write(&mut self, op: &Op) {
        let (Op::Push(len) | Op::Reserve { len, .. } | Op::Abort(len)) = *op else {
            unreachable!("no writing operation")
        };
        let bytes = self.make(len);
        let place = self.place(len, 0);
        if matches!(op, Op::Push(_)) {
            let result = self.producer.push(&bytes);
            assert_eq!(result, place.map(|_| ()), "{len} bytes with {} free", self.free());
            if let Ok(place) = place {
                self.publish(place, bytes);
            }
            return;
        }
        let mut room = match self.producer.reserve(len) {
            Ok(room) => room,
            Err(error) => return assert_eq!(Err(error), place),
        };
        let place = place.expect("reserved more than was free");
        assert_eq!((room.len(), room.is_empty()), (len, len == 0));
        L::fill(&mut room, &bytes);
        assert_eq!(room.set(len, &[0]), Err(TooMany { available: len, asked: len + 1 }));
        if let Op::Reserve { commit, .. } = *op {
            let result = room.commit(commit);
            if commit > len {
                assert_eq!(result, Err(TooMany { available: len, asked: commit }));
            } else {
                assert_eq!(result, Ok(()));
                self.publish(place, bytes[..commit].to_vec());
            }
        }
    }

    fn batch(&mut self, lens: &[usize], commit: bool) {
        let records: Vec<_> = lens.iter().map(|len| self.make(*len)).collect();
        let (mut ahead, mut sent) = (0, Vec::new());
        let mut expected = Vec::new();
        for bytes in &records {
            let place = self.place(bytes.len(), ahead);
            expected.push(place.map(|_| ()));
            if let Ok(frame) = place {
                let added = Sent { frame, bytes: bytes.clone() };
                ahead = added.end().wrapping_sub(self.tail) as usize;
                sent.push(added);
            }
        }
        let mut batch = self.producer.batch();
        let mut results = Vec::new();
        for bytes in &records {
            results.push(batch.push(bytes));
        }
        assert_eq!(results, expected);
        assert_eq!((batch.len(), batch.is_empty()), (sent.len(), sent.is_empty()));
        if commit {
            assert_eq!(batch.commit(), sent.len());
            if let Some(last) = sent.last() {
                self.tail = last.end();
            }
            self.queue.extend(sent);
        }
    }

    fn took(&mut self) {
        let sent = self.queue.pop_front().unwrap();
        self.head = sent.end();
        self.consumed.push(sent);
        assert!(self.unreleased() < self.period, "{} unreleased, period {}", self.unreleased(), self.period);
    }

    fn read(&mut self, op: &Op) {
        if let Some(front) = self.queue.front() {
            // A look at a record consumes the padding before it.
            self.head = front.frame;
        }
        let front = self.queue.front().map(|sent| sent.bytes.clone());
        let result = match *op {
            Op::PopInto(len) => {
                let mut to = vec![0xEE; len];
                let result = self.consumer.pop_into(&mut to);
                let taken = *result.as_ref().unwrap_or(&0);
                assert!(to[taken..].iter().all(|b| *b == 0xEE), "wrote behind the record");
                match &front {
                    Some(bytes) if bytes.len() > len => {
                        let needed = bytes.len() as u32;
                        return assert_eq!(result, Err(RecordPopError::BufferTooSmall { needed }));
                    }
                    _ => result.map(|n| to[..n].to_vec()),
                }
            }
            Op::Pop => self.consumer.pop().map(|record| {
                assert_eq!(record.is_empty(), front.as_ref().is_some_and(Vec::is_empty));
                let beyond = TooMany { available: record.len(), asked: record.len() + 1 };
                assert_eq!(record.get(record.len(), &mut [0]), Err(beyond));
                L::read(&record)
            }),
            _ => return assert_eq!(self.consumer.peek_len().ok(), front.map(|bytes| bytes.len())),
        };
        match result {
            Ok(bytes) => {
                assert_eq!(Some(bytes), front);
                self.took();
            }
            Err(error) => {
                assert_eq!((error, front), (RecordPopError::Empty, None));
                assert_eq!(self.unreleased(), 0, "empty, and yet not released");
            }
        }
    }

    fn change(&mut self, op: &Op) {
        match op {
            Op::LeaveProducer => {
                // SAFETY: replaced below, before anything uses it.
                unsafe { ManuallyDrop::drop(&mut self.producer) };
                self.producer = ManuallyDrop::new(self.ring.producer().unwrap());
            }
            Op::KillProducer => {
                // SAFETY: the former handle is never used again, nor dropped.
                let successor = unsafe { self.ring.replace_producer(self.producer.owner()) };
                self.producer = ManuallyDrop::new(successor.unwrap());
            }
            Op::LeaveConsumer => {
                // SAFETY: replaced below, before anything uses it.
                unsafe { ManuallyDrop::drop(&mut self.consumer) };
                assert_eq!(self.unreleased(), 0, "a drop releases");
                self.consumer = ManuallyDrop::new(self.ring.consumer().unwrap());
                self.period = Self::period(self.capacity, None);
            }
            _ => {
                // SAFETY: the former handle is never used again, nor dropped.
                let successor = unsafe { self.ring.replace_consumer(self.consumer.owner()) };
                self.consumer = ManuallyDrop::new(successor.unwrap());
                // What was not released is seen again.
                let released = self.memory.word(self.offsets.head);
                while let Some(sent) = self.consumed.pop_if(|sent| is_behind(sent.end(), released)) {
                    self.queue.push_front(sent);
                }
                self.head = released;
                self.period = Self::period(self.capacity, None);
            }
        }
    }

    fn check(&self) {
        let len = self.tail.wrapping_sub(self.head) as usize;
        assert!(len + self.unreleased() as usize <= self.capacity, "I1");
        assert_eq!(self.memory.word(self.offsets.tail), self.tail);

        assert_eq!(self.producer.position(), self.tail);
        assert_eq!(self.producer.len(), self.capacity - self.free());
        assert_eq!(self.producer.free(), self.free());
        assert_eq!(self.producer.is_full(), self.free() == 0);
        assert_eq!(self.producer.is_empty(), self.free() == self.capacity);
        assert_eq!(self.producer.capacity(), self.capacity);
        assert_eq!(self.producer.max_record(), self.max_record());
        assert_eq!(self.producer.corruption(), None);

        assert_eq!(self.consumer.position(), self.head);
        assert_eq!(self.consumer.len(), len);
        assert_eq!(self.consumer.free(), self.capacity - len);
        assert_eq!(self.consumer.is_full(), len == self.capacity);
        assert_eq!(self.consumer.is_empty(), len == 0);
        assert_eq!(self.consumer.is_empty(), self.queue.is_empty());
        assert_eq!(self.consumer.capacity(), self.capacity);
        assert_eq!(self.consumer.corruption(), None);
    }

    fn finish(mut self) {
        // SAFETY: not used again.
        unsafe { ManuallyDrop::drop(&mut self.producer) };
        // SAFETY: not used again.
        unsafe { ManuallyDrop::drop(&mut self.consumer) };
        assert_eq!((self.ring.producer_owner(), self.ring.consumer_owner()), (None, None));
        self.memory.assert_guards();
    }
}

fn run<L: Level>(case: &Case) {
    let mut world = World::<L>::new(case);
    world.check();
    for op in &case.ops {
        world.step(op);
        world.check();
    }
    world.finish();
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn agrees_with_a_queue_untrusted(case in case()) {
        run::<Untrusted>(&case);
    }

    #[test]
    fn agrees_with_a_queue_trusted(case in case()) {
        run::<Trusted>(&case);
    }
}

/// How one side of a threaded run moves records.
#[derive(Clone, Copy, Debug)]
enum Way {
    Copy,
    InPlace,
    Batch(usize),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Copy), Just(Way::InPlace), (1..6_usize).prop_map(Way::Batch)]
}

fn send<L: Level>(producer: &mut Producer<L>, ways: &[Way], lens: &[usize], total: usize) {
    let bytes = |i: usize| record(i as u64, lens[i % lens.len()]);
    let mut next = 0;
    for way in ways.iter().cycle() {
        if next == total {
            return;
        }
        let first = bytes(next);
        let sent = match *way {
            Way::Copy => producer.push(&first).map(|()| 1),
            Way::InPlace => producer.reserve(first.len()).map(|mut room| {
                L::fill(&mut room, &first);
                room.commit(first.len()).unwrap();
                1
            }),
            Way::Batch(n) => {
                let mut batch = producer.batch();
                let added = (next..total.min(next + n)).map_while(|i| batch.push(&bytes(i)).ok()).count();
                assert_eq!(batch.commit(), added);
                if added > 0 { Ok(added) } else { Err(RecordPushError::Full) }
            }
        };
        match sent {
            Ok(n) => next += n,
            Err(error) => {
                assert_eq!(error, RecordPushError::Full);
                thread::yield_now();
            }
        }
    }
}

fn longest(lens: &[usize]) -> usize {
    lens.iter().copied().max().unwrap_or(0)
}

fn receive<L: Level>(consumer: &mut Consumer<L>, ways: &[Way], lens: &[usize], total: usize) {
    let mut next = 0;
    let mut buffer = vec![0; longest(lens)];
    for way in ways.iter().cycle() {
        if next == total {
            break;
        }
        let got = match way {
            Way::InPlace => consumer.pop().map(|record| L::read(&record)),
            _ => consumer.pop_into(&mut buffer).map(|n| buffer[..n].to_vec()),
        };
        match got {
            Ok(bytes) => {
                assert_eq!(bytes, record(next as u64, lens[next % lens.len()]), "record {next}");
                next += 1;
            }
            Err(error) => {
                assert_eq!(error, RecordPopError::Empty);
                thread::yield_now();
            }
        }
    }
    assert_eq!(consumer.peek_len(), Err(RecordPopError::Empty));
}

fn threads<L: Level>(spare: u32, tuning: Tuning, lens: &[usize], senders: &[Way], receivers: &[Way]) {
    const TOTAL: usize = 6_000;
    let capacity = ((longest(lens) + 8) * 2).next_power_of_two().max(64) << spare;
    let memory = Memory::new(Ring::<L>::bytes(capacity, &Options::new()).unwrap());
    let ring = Ring::create(L::region(&memory), capacity, &Options::new()).unwrap();
    let (mut producer, mut consumer) = ring.split().unwrap();
    consumer.tune(tuning);
    thread::scope(|scope| {
        scope.spawn(move || send(&mut producer, senders, lens, TOTAL));
        scope.spawn(move || receive(&mut consumer, receivers, lens, TOTAL));
    });
    memory.assert_guards();
}

proptest! {
    #![proptest_config(config(8))]

    #[test]
    fn threads_keep_every_record_in_order(
        spare in 0..3_u32,
        trusted: bool,
        touch: bool,
        release_every in 1..1000_u64,
        lens in proptest::collection::vec(prop_oneof![0..20_usize, 0..200_usize], 1..7),
        senders in proptest::collection::vec(way(), 1..5),
        receivers in proptest::collection::vec(way(), 1..5),
    ) {
        let tuning = Tuning::default().touch(touch).release_every(release_every);
        if trusted {
            threads::<Trusted>(spare, tuning, &lens, &senders, &receivers);
        } else {
            threads::<Untrusted>(spare, tuning, &lens, &senders, &receivers);
        }
    }
}
