//! Both kinds of lanes against a model of plain vectors: every operation of all handles, deaths included, in any order.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

#[path = "../../ring/tests/hostile_memory/mod.rs"]
mod hostile_memory;
mod lanes;

use std::mem::ManuallyDrop;

use hostile_memory::Memory;
use lanes::{Empty, Kind, Leases, Records, Slots};
use proptest::prelude::*;
use tidewire_mpsc::{AttachError, Delivery, LaneState, Options, Tuning};
use tidewire_shm::{RoleId, RoleStride};

#[derive(Clone, Debug)]
enum Op {
    Attach,
    Detach(usize),
    KillProducer(usize),
    Push(usize),
    PushBatch(usize, usize),
    Pop,
    PopSome(usize, bool),
    Peek,
    Drain,
    Release,
    Rescan,
    Reclaim,
    Tune { budget: u32, touch: bool, release_every: Option<u64> },
    LeaveConsumer,
    KillConsumer,
}

fn op() -> impl Strategy<Value = Op> {
    let who = || 0..4_usize;
    let period = prop_oneof![Just(None), (0..80_u64).prop_map(Some), Just(Some(u64::MAX))];
    prop_oneof![
        4 => Just(Op::Attach),
        1 => who().prop_map(Op::Detach),
        1 => who().prop_map(Op::KillProducer),
        16 => who().prop_map(Op::Push),
        6 => (who(), 0..5_usize).prop_map(|(who, n)| Op::PushBatch(who, n)),
        14 => Just(Op::Pop),
        6 => (0..6_usize, any::<bool>()).prop_map(|(n, in_place)| Op::PopSome(n, in_place)),
        2 => Just(Op::Peek),
        1 => Just(Op::Drain),
        1 => Just(Op::Release),
        1 => Just(Op::Rescan),
        1 => Just(Op::Reclaim),
        1 => (0..5_u32, any::<bool>(), period)
            .prop_map(|(budget, touch, release_every)| Op::Tune { budget, touch, release_every }),
        1 => Just(Op::LeaveConsumer),
        1 => Just(Op::KillConsumer),
    ]
}

/// What one lane should hold.
#[derive(Debug, Default)]
struct Lane {
    /// Every message ever published, with the position behind it.
    published: Vec<(u64, u64)>,
    /// How many of them the consumer has taken.
    taken: usize,
    owned: bool,
    /// Owned by somebody who was killed.
    dead: bool,
}

struct World<K: Kind> {
    memory: Memory,
    leases: Leases,
    queue: K::Queue,
    capacity: usize,
    delivery: Delivery,
    lanes: Vec<Lane>,
    producers: Vec<K::Producer>,
    consumer: K::Consumer,
    period: u64,
    next: u64,
}

impl<K: Kind> World<K> {
    fn new(capacity: usize, delivery: Delivery, stride: RoleStride) -> Self {
        let lanes = 3;
        let options = Options::new().lanes(lanes).delivery(delivery).role_stride(stride).liveness::<Leases>();
        let memory = Memory::new(K::bytes(capacity, &options).unwrap());
        // What lay there before must not matter.
        for offset in (0..memory.len() / 8).map(|i| 8 * i) {
            memory.set_word(offset, 0x0101_0101_0101_0101 * (offset as u64 % 255));
        }
        drop(K::create(memory.region(), capacity, &options));
        let queue = K::open(memory.region()).unwrap();
        let leases = Leases::default();
        let consumer = K::consumer(&queue, &leases).unwrap();
        let lanes = (0..lanes).map(|_| Lane::default()).collect();
        let (producers, period, next) = (Vec::new(), (capacity as u64 / 8).max(1), 0);
        Self { memory, leases, queue, capacity, delivery, lanes, producers, consumer, period, next }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Attach => self.attach(),
            Op::Detach(who) if who < self.producers.len() => {
                let producer = self.producers.swap_remove(who);
                self.lanes[K::lane(&producer) as usize].owned = false;
            }
            Op::KillProducer(who) if who < self.producers.len() => {
                let producer = self.producers.swap_remove(who);
                let lane = K::lane(&producer);
                self.lanes[lane as usize].dead = true;
                let _killed = ManuallyDrop::new(producer);
                self.leases.end(RoleId::producer(lane).unwrap());
            }
            Op::Push(who) if who < self.producers.len() => self.push(who, 1),
            Op::PushBatch(who, n) if who < self.producers.len() => self.push(who, n),
            Op::Detach(_) | Op::KillProducer(_) | Op::Push(_) | Op::PushBatch(..) => {}
            Op::Pop => {
                let got = K::pop(&mut self.consumer).map(|number| vec![number]);
                self.took(got, 1);
            }
            Op::PopSome(n, in_place) => {
                let got = K::pop_some(&mut self.consumer, n, in_place);
                self.took(got, n);
            }
            Op::Peek => {
                let lane = K::peek(&mut self.consumer).map(|()| K::last_lane(&self.consumer));
                assert_eq!(lane.is_err(), self.rest() == 0);
                if lane.is_ok() {
                    let got = K::pop(&mut self.consumer).map(|number| vec![number]);
                    assert_eq!(lane, Ok(K::last_lane(&self.consumer)), "what was peeked at comes next");
                    self.took(got, 1);
                }
            }
            Op::Drain => self.drain(),
            Op::Release => {
                K::release(&mut self.consumer);
                assert_eq!(self.unreleased(), 0);
            }
            Op::Rescan => K::rescan(&mut self.consumer),
            Op::Reclaim => {
                let dead = self.lanes.iter().filter(|lane| lane.dead).count();
                assert_eq!(K::reclaim(&self.queue, &self.leases), Ok(dead as u32));
                for lane in self.lanes.iter_mut().filter(|lane| lane.dead) {
                    (lane.dead, lane.owned) = (false, false);
                }
            }
            Op::Tune { budget, touch, release_every } => {
                let mut tuning = Tuning::default().budget(budget).touch(touch).pauses(0);
                tuning.release_every = release_every;
                let capacity = self.capacity as u64;
                self.period = release_every.unwrap_or(capacity / 8).clamp(1, capacity);
                // What an earlier tuning let pass may still be unreleased.
                K::release(&mut self.consumer);
                K::tune(&mut self.consumer, tuning);
            }
            Op::LeaveConsumer => self.succeed(true),
            Op::KillConsumer => self.succeed(false),
        }
        self.check();
    }

    fn attach(&mut self) {
        match K::producer(&self.queue, &self.leases) {
            Ok(producer) => {
                let number = K::lane(&producer) as usize;
                let free = self.lanes.iter().any(|lane| !lane.owned);
                let lane = &mut self.lanes[number];
                assert!(!lane.owned || (lane.dead && !free), "free lanes come first");
                (lane.owned, lane.dead) = (true, false);
                assert_eq!(K::position(&producer), lane.published.last().map_or(0, |message| message.1));
                self.producers.push(producer);
            }
            Err(error) => {
                assert_eq!(error, AttachError::LanesExhausted { lanes: 3, corrupt: 0 });
                assert!(self.lanes.iter().all(|lane| lane.owned && !lane.dead));
            }
        }
    }

    fn push(&mut self, who: usize, n: usize) {
        let producer = &mut self.producers[who];
        let number = K::lane(producer) as usize;
        let stats = K::stats(&self.queue)[number];
        let numbers: Vec<u64> = (self.next..self.next + n as u64).collect();
        let before = K::position(producer);
        let pushed = match numbers.as_slice() {
            [one] => K::push(producer, *one),
            many => K::push_batch(producer, many),
        };
        if K::POSITIONS_ARE_MESSAGES {
            assert_eq!(pushed, stats.depth + n as u64 <= self.capacity as u64, "full or not");
        } else {
            assert!(pushed || stats.depth > 0 || n > 1, "one record fits into an empty lane");
        }
        if !pushed {
            assert_eq!(K::position(producer), before);
            return;
        }
        self.next += n as u64;
        let lane = &mut self.lanes[number];
        if K::POSITIONS_ARE_MESSAGES {
            lane.published.extend((before + 1..).zip(&numbers).map(|(end, number)| (*number, end)));
        } else {
            // A record that does not fit before the end of the data lies behind padding.
            let (mut end, capacity) = (before, self.capacity as u64);
            let ends: Vec<u64> = numbers
                .iter()
                .map(|number| {
                    let (framed, before_wrap) =
                        ((8 + 8 + number % 17).next_multiple_of(8), capacity - end % capacity);
                    end += framed + if framed > before_wrap { before_wrap } else { 0 };
                    end
                })
                .collect();
            assert_eq!(K::position(producer), end);
            lane.published.extend(numbers.iter().copied().zip(ends));
        }
    }

    fn took(&mut self, got: Result<Vec<u64>, Empty>, max: usize) {
        let Ok(got) = got else {
            assert_eq!(self.rest(), 0, "empty, and messages are there");
            assert_eq!(self.unreleased(), 0, "empty, and something is unreleased");
            return;
        };
        assert!(got.len() <= max && (max == 0 || !got.is_empty()));
        if !got.is_empty() {
            let lane = &mut self.lanes[K::last_lane(&self.consumer).unwrap() as usize];
            let expected: Vec<u64> =
                lane.published[lane.taken..].iter().take(got.len()).map(|message| message.0).collect();
            assert_eq!(got, expected, "in order, each once");
            lane.taken += got.len();
        }
    }

    fn drain(&mut self) {
        while self.rest() > 0 {
            let got = K::pop(&mut self.consumer).map(|number| vec![number]);
            assert!(got.is_ok());
            self.took(got, 1);
        }
        assert_eq!(K::pop(&mut self.consumer), Err(Empty));
    }

    fn rest(&self) -> usize {
        self.lanes.iter().map(|lane| lane.published.len() - lane.taken).sum()
    }

    /// Messages that were taken and are not yet released, of all lanes.
    fn unreleased(&self) -> usize {
        let stats = K::stats(&self.queue);
        self.lanes.iter().zip(stats).map(|(lane, stats)| lane.taken - lane.released(stats.received)).sum()
    }

    fn succeed(&mut self, in_order: bool) {
        let unreleased = self.unreleased();
        // A queue of its own stands in while the role changes hands.
        let spare = {
            let options = Options::new().lanes(1);
            let memory = Memory::new(K::bytes(64, &options).unwrap());
            K::consumer(&K::create(memory.region(), 64, &options), &tidewire_shm::Unleased).unwrap()
        };
        let old = std::mem::replace(&mut self.consumer, spare);
        if in_order {
            drop(old);
            assert_eq!(self.unreleased(), 0, "an orderly end releases everything");
        } else {
            let _killed = ManuallyDrop::new(old);
            self.leases.end(RoleId::CONSUMER);
            if self.delivery == Delivery::AtMostOnce {
                assert_eq!(unreleased, 0, "seen twice");
            }
        }
        self.consumer = K::consumer(&self.queue, &self.leases).unwrap();
        self.period = (self.capacity as u64 / 8).max(1);
        for (lane, stats) in self.lanes.iter_mut().zip(K::stats(&self.queue)) {
            lane.taken = lane.released(stats.received);
        }
    }

    fn check(&mut self) {
        self.memory.assert_guards();
        assert_eq!(K::take_corrupt(&mut self.consumer), None);
        for (lane, stats) in self.lanes.iter().zip(K::stats(&self.queue)) {
            let state = if lane.owned { LaneState::Owned } else { LaneState::Free };
            assert_eq!((stats.state, stats.owner.is_some()), (state, lane.owned));
            assert_eq!(stats.sent, lane.published.last().map_or(0, |message| message.1));
            assert_eq!(stats.depth, stats.sent - stats.received);
            // The bound of what a successor sees again.
            let taken = lane.taken.checked_sub(1).map_or(0, |last| lane.published[last].1);
            let spare = if K::POSITIONS_ARE_MESSAGES { 0 } else { 2 * 32 + 8 };
            assert!(taken.saturating_sub(stats.received) <= self.period + spare, "released too late");
        }
    }
}

impl Lane {
    /// How many messages lie before a position.
    fn released(&self, position: u64) -> usize {
        self.published.partition_point(|message| message.1 <= position)
    }
}

fn run<K: Kind>(capacity: usize, at_most_once: bool, pages: bool, ops: &[Op]) {
    let delivery = if at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
    let stride = if pages { RoleStride::Page } else { RoleStride::Line };
    let mut world = World::<K>::new(capacity, delivery, stride);
    for op in ops {
        world.run(op);
    }
    world.drain();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slots_agree_with_the_model(
        capacity in (0..5_u32).prop_map(|bits| 1 << bits),
        at_most_once: bool,
        pages: bool,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        run::<Slots>(capacity, at_most_once, pages, &ops);
    }

    #[test]
    fn records_agree_with_the_model(
        capacity in (6..9_u32).prop_map(|bits| 1 << bits),
        at_most_once: bool,
        pages: bool,
        ops in prop::collection::vec(op(), 0..200),
    ) {
        run::<Records>(capacity, at_most_once, pages, &ops);
    }
}
