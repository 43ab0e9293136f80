//! The ring of fixed slots against a `VecDeque`: every operation of both handles, in any order.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod hostile_memory;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::mem::ManuallyDrop;
use std::thread;

use bytemuck::Pod;
use hostile_memory::{A16, A32, A64, A128, LINE, Memory, Offsets, PAGE, Tick, element};
use proptest::prelude::*;
use tidewire_ring::fixed::{Chunk, Consumer, Producer, Reservation, Ring};
use tidewire_ring::{AttachError, Options, PopError, PushError, TooMany, Tuning};
use tidewire_shm::{Region, RoleStride, Trust, Trusted, Untrusted};

/// What the two trust levels do differently.
trait Level: Trust {
    fn region(memory: &Memory) -> Region<Self>;
    fn fill<T: Pod>(slots: &mut Reservation<'_, T, Self>, values: &[T]);
    fn read<T: Pod>(chunk: &mut Chunk<'_, T, Self>) -> Vec<T>;
}

impl Level for Untrusted {
    fn region(memory: &Memory) -> Region<Self> {
        memory.region()
    }

    fn fill<T: Pod>(slots: &mut Reservation<'_, T, Self>, values: &[T]) {
        let middle = values.len() / 2;
        slots.set(middle, &values[middle..]).unwrap();
        slots.set(0, &values[..middle]).unwrap();
    }

    fn read<T: Pod>(chunk: &mut Chunk<'_, T, Self>) -> Vec<T> {
        let mut values = vec![T::zeroed(); chunk.len()];
        let middle = values.len() / 2;
        chunk.get(middle, &mut values[middle..]).unwrap();
        chunk.get(0, &mut values[..middle]).unwrap();
        values
    }
}

impl Level for Trusted {
    fn region(memory: &Memory) -> Region<Self> {
        memory.trusted()
    }

    fn fill<T: Pod>(slots: &mut Reservation<'_, T, Self>, values: &[T]) {
        let n = slots.len();
        let (front, back) = slots.as_mut_slices();
        assert_eq!(front.len() + back.len(), n);
        for (slot, value) in front.iter_mut().chain(back).zip(values) {
            *slot = *value;
        }
    }

    fn read<T: Pod>(chunk: &mut Chunk<'_, T, Self>) -> Vec<T> {
        let (front, back) = chunk.as_slices();
        let values = [front, back].concat();
        let mut copies = vec![T::zeroed(); values.len()];
        chunk.get(0, &mut copies).unwrap();
        assert_eq!(copies.as_slice().len(), values.len());
        assert_eq!(bytemuck::cast_slice::<T, u8>(&copies), bytemuck::cast_slice::<T, u8>(&values));
        values
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push,
    PushFrom,
    PushSlice(usize),
    Reserve { n: usize, set: usize, commit: usize },
    Abort(usize),
    Pop,
    PopTo,
    Peek,
    PopInto(usize),
    Chunk { n: usize, release: usize },
    PutBack(usize),
    Drain(usize),
    Release,
    Tune { touch: bool, pauses: u32, release_every: Option<u64> },
    LeaveProducer,
    LeaveConsumer,
    KillProducer,
    KillConsumer,
}

fn op() -> impl Strategy<Value = Op> {
    let count = || prop_oneof![4 => 0..6_usize, 1 => 0..70_usize];
    let period = prop_oneof![Just(None), (0..80_u64).prop_map(Some), Just(Some(u64::MAX))];
    prop_oneof![
        8 => Just(Op::Push),
        2 => Just(Op::PushFrom),
        4 => count().prop_map(Op::PushSlice),
        4 => (count(), count(), count()).prop_map(|(n, set, commit)| Op::Reserve { n, set, commit }),
        1 => count().prop_map(Op::Abort),
        8 => Just(Op::Pop),
        2 => Just(Op::PopTo),
        1 => Just(Op::Peek),
        4 => count().prop_map(Op::PopInto),
        4 => (count(), count()).prop_map(|(n, release)| Op::Chunk { n, release }),
        1 => count().prop_map(Op::PutBack),
        1 => count().prop_map(Op::Drain),
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
    let capacity = (0..7_u32).prop_map(|n| 1 << n);
    let stride = prop_oneof![Just(RoleStride::Line), Just(RoleStride::Page)];
    // Positions never wrap in practice; the arithmetic must not care.
    let start = prop_oneof![Just(0), any::<u64>(), (0..100_u64).prop_map(|n| u64::MAX - n)];
    let ops = proptest::collection::vec(op(), 1..120);
    (capacity, stride, start, ops).prop_map(|(capacity, stride, start, ops)| Case {
        capacity,
        stride,
        start,
        ops,
    })
}

/// A ring, its two handles, and what they must answer.
struct World<T: Pod, L: Level> {
    memory: Memory,
    offsets: Offsets,
    ring: Ring<T, L>,
    producer: ManuallyDrop<Producer<T, L>>,
    consumer: ManuallyDrop<Consumer<T, L>>,
    capacity: usize,
    period: u64,
    /// Published and not consumed.
    queue: VecDeque<T>,
    /// Consumed, newest last.
    consumed: Vec<T>,
    /// Serial number of the next message, position of the next free slot.
    made: u64,
    tail: u64,
    head: u64,
    generations: [u32; 2],
}

impl<T: Pod + PartialEq + Debug, L: Level> World<T, L> {
    fn new(case: &Case) -> Self {
        let options = Options::new().role_stride(case.stride);
        let memory = Memory::new(Ring::<T, L>::bytes(case.capacity, &options).unwrap());
        let ring = Ring::<T, L>::create(L::region(&memory), case.capacity, &options).unwrap();
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
            generations: [1, 1],
        }
    }

    fn period(capacity: usize, release_every: Option<u64>) -> u64 {
        let capacity = capacity as u64;
        release_every.unwrap_or(capacity / 8).clamp(1, capacity)
    }

    /// Consumed, not yet released.
    fn unreleased(&self) -> u64 {
        self.head.wrapping_sub(self.memory.word(self.offsets.head))
    }

    fn room(&self) -> usize {
        self.capacity - self.queue.len() - self.unreleased() as usize
    }

    fn make(&mut self, n: usize) -> Vec<T> {
        let values = (0..n as u64).map(|i| element(self.made + i)).collect();
        self.made += n as u64;
        values
    }

    fn published(&mut self, values: &[T]) {
        self.queue.extend(values);
        self.tail = self.tail.wrapping_add(values.len() as u64);
    }

    fn took(&mut self, values: &[T]) {
        for value in values {
            assert_eq!(Some(*value), self.queue.pop_front(), "at position {}", self.head);
            self.consumed.push(*value);
            self.head = self.head.wrapping_add(1);
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Push | Op::PushFrom | Op::PushSlice(_) | Op::Reserve { .. } | Op::Abort(_) => self.write(op),
            Op::Pop | Op::PopTo | Op::Peek | Op::Drain(_) => self.read_one(op),
            Op::PopInto(_) | Op::Chunk { .. } | Op::PutBack(_) => self.read_many(op),
            Op::Release => {
                self.consumer.release();
                assert_eq!(self.unreleased(), 0);
            }
            Op::Tune { touch, pauses, release_every } => {
                let mut tuning = Tuning::default().touch(touch).pauses(pauses);
                if let Some(elements) = release_every {
                    tuning = tuning.release_every(elements);
                }
                self.consumer.tune(tuning);
                self.period = Self::period(self.capacity, release_every);
            }
            Op::LeaveProducer | Op::LeaveConsumer | Op::KillProducer | Op::KillConsumer => self.change(op),
        }
    }

    fn write(&mut self, op: &Op) {
        let room = self.room();
        let expect = |n: usize| if n <= room { Ok(()) } else { Err(PushError::Full) };
        match *op {
            Op::PushSlice(n) => {
                let values = self.make(n);
                let result = self.producer.push_slice(&values);
                assert_eq!(result, expect(n), "push_slice of {n} with room for {room}");
                if result.is_ok() {
                    self.published(&values);
                }
            }
            Op::Reserve { n, set, commit } => {
                let values = self.make(set.min(n));
                match self.producer.reserve(n) {
                    Ok(mut slots) => {
                        assert_eq!(expect(n), Ok(()));
                        assert_eq!((slots.len(), slots.is_empty()), (n, n == 0));
                        L::fill(&mut slots, &values);
                        let beyond = TooMany { available: n, asked: n + 1 };
                        assert_eq!(slots.set(n, &[T::zeroed()]), Err(beyond));
                        // Slots that were not set hold old messages: publish only what was.
                        let k = if commit > n { commit } else { commit.min(values.len()) };
                        let result = slots.commit(k);
                        if k > n {
                            assert_eq!(result, Err(TooMany { available: n, asked: k }));
                        } else {
                            assert_eq!(result, Ok(()));
                            self.published(&values[..k]);
                        }
                    }
                    Err(error) => assert_eq!(Err(error), expect(n)),
                }
            }
            Op::Abort(n) => {
                let values = self.make(n);
                match self.producer.reserve(n) {
                    Ok(mut slots) => {
                        assert_eq!(expect(n), Ok(()));
                        L::fill(&mut slots, &values);
                    }
                    Err(error) => assert_eq!(Err(error), expect(n)),
                }
            }
            _ => {
                let values = self.make(1);
                let result = match op {
                    Op::Push => self.producer.push(values[0]),
                    _ => self.producer.push_from(&values[0]),
                };
                assert_eq!(result, expect(1), "push with room for {room}");
                if result.is_ok() {
                    self.published(&values);
                }
            }
        }
    }

    fn found_empty(&self, error: PopError) {
        assert_eq!(error, PopError::Empty);
        assert!(self.queue.is_empty(), "found empty with {} messages", self.queue.len());
        assert_eq!(self.unreleased(), 0, "empty, and yet not released");
    }

    fn read_one(&mut self, op: &Op) {
        match *op {
            Op::Pop => match self.consumer.pop() {
                Ok(value) => self.took(&[value]),
                Err(error) => return self.found_empty(error),
            },
            Op::PopTo => {
                let before = element(u64::MAX);
                let mut value = before;
                match self.consumer.pop_to(&mut value) {
                    Ok(()) => self.took(&[value]),
                    Err(error) => {
                        assert_eq!(value, before, "changed by a pop that failed");
                        return self.found_empty(error);
                    }
                }
            }
            Op::Peek => match self.consumer.peek() {
                Ok(value) => assert_eq!(Some(&value), self.queue.front()),
                Err(error) => return self.found_empty(error),
            },
            Op::Drain(n) => {
                let values: Vec<T> = self.consumer.drain().take(n).collect();
                assert_eq!(values.len(), n.min(self.queue.len()));
                self.took(&values);
                if values.is_empty() {
                    return;
                }
            }
            _ => unreachable!("no reading operation"),
        }
        assert!(self.unreleased() < self.period, "{} unreleased, period {}", self.unreleased(), self.period);
    }

    fn read_many(&mut self, op: &Op) {
        match *op {
            Op::PopInto(n) => {
                let mut to = vec![T::zeroed(); n];
                let available = n.min(self.queue.len());
                match self.consumer.pop_into(&mut to) {
                    Ok(k) => {
                        assert_eq!(k, available);
                        self.took(&to[..k]);
                        assert!(
                            to[k..].iter().all(|value| *value == T::zeroed()),
                            "wrote behind what it popped"
                        );
                        if k == 0 {
                            return;
                        }
                    }
                    Err(error) => return self.found_empty(error),
                }
            }
            Op::Chunk { n, release } => {
                let available = n.min(self.queue.len());
                match self.consumer.read_chunk(n) {
                    Ok(mut chunk) => {
                        assert_eq!((chunk.len(), chunk.is_empty()), (available, available == 0));
                        let values = L::read(&mut chunk);
                        let beyond = TooMany { available, asked: available + 1 };
                        assert_eq!(chunk.get(available, &mut [T::zeroed()]), Err(beyond));
                        let result = chunk.release(release);
                        if release > available {
                            assert_eq!(result, Err(TooMany { available, asked: release }));
                            return;
                        }
                        assert_eq!(result, Ok(()));
                        self.took(&values[..release]);
                    }
                    Err(error) => return self.found_empty(error),
                }
            }
            Op::PutBack(n) => {
                match self.consumer.read_chunk(n) {
                    Ok(mut chunk) => {
                        let values = L::read(&mut chunk);
                        assert!(values.iter().eq(self.queue.iter().take(n)));
                    }
                    Err(error) => self.found_empty(error),
                }
                return;
            }
            _ => unreachable!("no reading operation"),
        }
        assert!(self.unreleased() < self.period, "{} unreleased, period {}", self.unreleased(), self.period);
    }

    fn change(&mut self, op: &Op) {
        match op {
            Op::LeaveProducer => {
                assert!(matches!(self.ring.producer(), Err(AttachError::RoleTaken(_))));
                // SAFETY: replaced below, before anything uses it.
                unsafe { ManuallyDrop::drop(&mut self.producer) };
                assert_eq!(self.ring.producer_owner(), None);
                self.producer = ManuallyDrop::new(self.ring.producer().unwrap());
                self.generations[0] += 1;
            }
            Op::KillProducer => {
                // SAFETY: the former handle is never used again, nor dropped.
                let successor = unsafe { self.ring.replace_producer(self.producer.owner()) };
                self.producer = ManuallyDrop::new(successor.unwrap());
                self.generations[0] += 1;
            }
            Op::LeaveConsumer => {
                assert!(matches!(self.ring.consumer(), Err(AttachError::RoleTaken(_))));
                // SAFETY: replaced below, before anything uses it.
                unsafe { ManuallyDrop::drop(&mut self.consumer) };
                assert_eq!(self.ring.consumer_owner(), None);
                assert_eq!(self.unreleased(), 0, "a drop releases");
                self.consumer = ManuallyDrop::new(self.ring.consumer().unwrap());
                self.generations[1] += 1;
                self.period = Self::period(self.capacity, None);
            }
            _ => {
                // SAFETY: the former handle is never used again, nor dropped.
                let successor = unsafe { self.ring.replace_consumer(self.consumer.owner()) };
                self.consumer = ManuallyDrop::new(successor.unwrap());
                self.generations[1] += 1;
                // What was not released is seen again.
                let again = self.unreleased();
                for _ in 0..again {
                    self.queue.push_front(self.consumed.pop().unwrap());
                }
                self.head = self.head.wrapping_sub(again);
                self.period = Self::period(self.capacity, None);
            }
        }
    }

    fn check(&self) {
        let (len, unreleased) = (self.queue.len(), self.unreleased() as usize);
        assert!(len + unreleased <= self.capacity, "I1");
        assert_eq!(self.memory.word(self.offsets.tail), self.tail);

        assert_eq!(self.producer.position(), self.tail);
        assert_eq!(self.producer.len(), len + unreleased);
        assert_eq!(self.producer.free(), self.room());
        assert_eq!(self.producer.is_full(), self.room() == 0);
        assert_eq!(self.producer.is_empty(), len + unreleased == 0);
        assert_eq!(self.producer.capacity(), self.capacity);
        assert_eq!(self.producer.corruption(), None);
        assert_eq!(self.producer.owner().generation, self.generations[0]);

        assert_eq!(self.consumer.position(), self.head);
        assert_eq!(self.consumer.len(), len);
        assert_eq!(self.consumer.free(), self.capacity - len);
        assert_eq!(self.consumer.is_full(), len == self.capacity);
        assert_eq!(self.consumer.is_empty(), len == 0);
        assert_eq!(self.consumer.capacity(), self.capacity);
        assert_eq!(self.consumer.corruption(), None);
        assert_eq!(self.consumer.owner().generation, self.generations[1]);
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

fn run<T: Pod + PartialEq + Debug, L: Level>(case: &Case) {
    let mut world = World::<T, L>::new(case);
    world.check();
    for op in &case.ops {
        world.step(op);
        world.check();
    }
    world.finish();
}

fn both<T: Pod + PartialEq + Debug>(case: &Case) {
    run::<T, Untrusted>(case);
    run::<T, Trusted>(case);
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

macro_rules! agrees {
    ($($name:ident: $element:ty;)*) => {
        proptest! {
            #![proptest_config(config(60))]
            $(
                #[test]
                fn $name(case in case()) {
                    both::<$element>(&case);
                }
            )*
        }
    };
}

agrees! {
    agrees_with_a_queue_of_u8: u8;
    agrees_with_a_queue_of_u16: u16;
    agrees_with_a_queue_of_u32: u32;
    agrees_with_a_queue_of_u64: u64;
    agrees_with_a_queue_of_3_bytes: [u8; 3];
    agrees_with_a_queue_of_12_bytes: [u32; 3];
    agrees_with_a_queue_of_24_bytes: Tick;
    agrees_with_a_queue_of_72_bytes: [u64; 9];
    agrees_with_a_queue_of_1_kib: [u8; 1024];
    agrees_with_a_queue_aligned_to_16: A16;
    agrees_with_a_queue_aligned_to_32: A32;
    agrees_with_a_queue_aligned_to_64: A64;
    agrees_with_a_queue_aligned_to_128: A128;
}

/// How one side of a threaded run moves messages.
#[derive(Clone, Copy, Debug)]
enum Way {
    Single,
    Slice(usize),
    InPlace(usize),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Single), (1..9_usize).prop_map(Way::Slice), (1..9_usize).prop_map(Way::InPlace)]
}

fn send<L: Level>(producer: &mut Producer<[u64; 2], L>, ways: &[Way], total: u64) {
    let mut next = 0;
    for way in ways.iter().cycle() {
        if next == total {
            return;
        }
        let n = match *way {
            Way::Single => 1,
            Way::Slice(n) | Way::InPlace(n) => n.min(producer.capacity()).min((total - next) as usize),
        };
        let values: Vec<[u64; 2]> = (next..next + n as u64).map(|i| [i, !i]).collect();
        let sent = || -> Result<(), PushError> {
            match way {
                Way::Single => producer.push(values[0]),
                Way::Slice(_) => producer.push_slice(&values),
                Way::InPlace(_) => {
                    let mut slots = producer.reserve(n)?;
                    L::fill(&mut slots, &values);
                    slots.commit(n).unwrap();
                    Ok(())
                }
            }
        }();
        match sent {
            Ok(()) => next += n as u64,
            Err(error) => {
                assert_eq!(error, PushError::Full);
                thread::yield_now();
            }
        }
    }
}

fn receive<L: Level>(consumer: &mut Consumer<[u64; 2], L>, ways: &[Way], total: u64) {
    let mut next = 0;
    for way in ways.iter().cycle() {
        if next == total {
            break;
        }
        let got = || -> Result<Vec<[u64; 2]>, PopError> {
            match *way {
                Way::Single => Ok(vec![consumer.pop()?]),
                Way::Slice(n) => {
                    let mut values = vec![[0; 2]; n];
                    let n = consumer.pop_into(&mut values)?;
                    values.truncate(n);
                    Ok(values)
                }
                Way::InPlace(n) => {
                    let mut chunk = consumer.read_chunk(n)?;
                    let values = L::read(&mut chunk);
                    chunk.release(values.len()).unwrap();
                    Ok(values)
                }
            }
        }();
        match got {
            Ok(values) => {
                for value in values {
                    assert_eq!(value, [next, !next]);
                    next += 1;
                }
            }
            Err(error) => {
                assert_eq!(error, PopError::Empty);
                thread::yield_now();
            }
        }
    }
    assert_eq!(consumer.pop(), Err(PopError::Empty));
}

fn threads<L: Level>(capacity: usize, tuning: Tuning, senders: &[Way], receivers: &[Way]) {
    const TOTAL: u64 = 20_000;
    let memory = Memory::new(Ring::<[u64; 2], L>::bytes(capacity, &Options::new()).unwrap());
    let ring = Ring::create(L::region(&memory), capacity, &Options::new()).unwrap();
    let (mut producer, mut consumer) = ring.split().unwrap();
    consumer.tune(tuning);
    thread::scope(|scope| {
        scope.spawn(move || {
            send(&mut producer, senders, TOTAL);
            assert_eq!(producer.position(), TOTAL);
        });
        scope.spawn(move || receive(&mut consumer, receivers, TOTAL));
    });
    memory.assert_guards();
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn threads_keep_every_message_in_order(
        capacity in (0..8_u32).prop_map(|n| 1_usize << n),
        trusted: bool,
        touch: bool,
        release_every in 1..100_u64,
        senders in proptest::collection::vec(way(), 1..5),
        receivers in proptest::collection::vec(way(), 1..5),
    ) {
        let tuning = Tuning::default().touch(touch).release_every(release_every);
        if trusted {
            threads::<Trusted>(capacity, tuning, &senders, &receivers);
        } else {
            threads::<Untrusted>(capacity, tuning, &senders, &receivers);
        }
    }
}
