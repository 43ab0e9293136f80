//! Both kinds of ordered queue against one plain list: every operation of all handles, deaths included, in any order.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::mem_forget,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

#[path = "../../ring/tests/hostile_memory/mod.rs"]
mod hostile_memory;
mod lanes;
mod ordered;

use hostile_memory::Memory;
use lanes::Leases;
use ordered::{Kind, Records, Slots};
use proptest::prelude::*;
use tidewire_mpsc::ordered::Tuning;
use tidewire_mpsc::{AttachError, Delivery, LaneState, Options};
use tidewire_shm::{RoleId, RoleStride};

#[derive(Clone, Debug)]
enum Op {
    Attach,
    Detach(usize),
    KillProducer(usize),
    Push(usize, usize),
    Pop,
    PopSome(usize),
    Release,
    Reclaim,
    Tune { touch: bool, release_every: Option<u64> },
    LeaveConsumer,
    KillConsumer,
}

fn op() -> impl Strategy<Value = Op> {
    let who = || 0..4_usize;
    prop_oneof![
        3 => Just(Op::Attach),
        1 => who().prop_map(Op::Detach),
        1 => who().prop_map(Op::KillProducer),
        8 => (who(), 1..6_usize).prop_map(|(who, n)| Op::Push(who, n)),
        8 => (who(), Just(1)).prop_map(|(who, n)| Op::Push(who, n)),
        8 => Just(Op::Pop),
        4 => (1..20_usize).prop_map(Op::PopSome),
        1 => Just(Op::Release),
        2 => Just(Op::Reclaim),
        1 => (any::<bool>(), prop::option::of(1..20_u64))
            .prop_map(|(touch, release_every)| Op::Tune { touch, release_every }),
        1 => Just(Op::LeaveConsumer),
        1 => Just(Op::KillConsumer),
    ]
}

/// What must come: everything pushed, in the order of the pushes.
struct World<K: Kind> {
    queue: K::Queue,
    leases: Leases,
    producers: Vec<K::Producer>,
    /// Lanes of killed producers that were not given back.
    dead: Vec<u32>,
    /// There is one between two operations.
    consumer: Option<K::Consumer>,
    pushed: Vec<u64>,
    /// How many of them were popped.
    popped: usize,
    /// How many a successor cannot see again, as far as this list knows.
    released: usize,
    delivery: Delivery,
    lanes: usize,
}

impl<K: Kind> World<K> {
    fn expect(&mut self, got: &[u64]) {
        assert_eq!(got, &self.pushed[self.popped..self.popped + got.len()]);
        self.popped += got.len();
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Attach => match K::producer(&self.queue, &self.leases) {
                Ok(producer) => self.producers.push(producer),
                Err(AttachError::LanesExhausted { corrupt: 0, .. }) => {
                    assert_eq!(self.producers.len() + self.dead.len(), self.lanes);
                }
                Err(error) => panic!("{error}"),
            },
            Op::Detach(who) if who < self.producers.len() => drop(self.producers.remove(who)),
            Op::KillProducer(who) if who < self.producers.len() => {
                let victim = self.producers.remove(who);
                let lane = K::lane(&victim);
                std::mem::forget(victim);
                self.leases.end(RoleId::producer(lane).unwrap());
                self.dead.push(lane);
            }
            Op::Push(who, n) if who < self.producers.len() => {
                let numbers: Vec<u64> = (0..n as u64).map(|i| self.pushed.len() as u64 + i).collect();
                if K::push(&mut self.producers[who], &numbers).unwrap() {
                    self.pushed.extend(numbers);
                }
            }
            Op::Pop => {
                let before = self.popped;
                match K::pop(self.consumer.as_mut().unwrap()).unwrap() {
                    Some(number) => self.expect(&[number]),
                    None => {
                        assert_eq!(self.popped, self.pushed.len());
                        self.released = before;
                    }
                }
            }
            Op::PopSome(max) => {
                let got = K::pop_some(self.consumer.as_mut().unwrap(), max).unwrap();
                assert_eq!(got.len(), max.min(self.pushed.len() - self.popped));
                self.expect(&got);
            }
            Op::Release => {
                K::release(self.consumer.as_mut().unwrap());
                self.released = self.popped;
            }
            Op::Reclaim => {
                let n = K::reclaim(self.consumer.as_mut().unwrap(), &self.leases).unwrap();
                assert_eq!(n as usize, self.dead.len());
                self.dead.clear();
            }
            Op::Tune { touch, release_every } => {
                let mut tuning = Tuning::default().touch(touch);
                tuning.release_every = release_every;
                K::tune(self.consumer.as_mut().unwrap(), tuning);
            }
            Op::LeaveConsumer => {
                assert!(K::consumer(&self.queue, &self.leases).is_err(), "its role is taken while it lives");
                drop(self.consumer.take());
                self.released = self.popped;
                self.follow();
            }
            Op::KillConsumer => {
                std::mem::forget(self.consumer.take());
                self.leases.end(RoleId::CONSUMER);
                self.follow();
            }
            _ => {}
        }
        self.check();
    }

    /// The next consumer goes on where the last one was, or repeats what that had not released.
    fn follow(&mut self) {
        let mut next = K::consumer(&self.queue, &self.leases).unwrap();
        // A message is its place in the list.
        let start = K::pop(&mut next).unwrap();
        self.consumer = Some(next);
        let from = start.map_or(self.pushed.len(), |number| number as usize);
        let first = if self.delivery == Delivery::AtMostOnce { self.popped } else { self.released };
        assert!((first..=self.popped).contains(&from), "{from} is not in {first}..={}", self.popped);
        self.popped = from + usize::from(start.is_some());
        self.released = from;
    }

    fn check(&self) {
        assert_eq!(K::is_empty(self.consumer.as_ref().unwrap()), self.popped == self.pushed.len());
        for lane in K::stats(&self.queue) {
            assert_ne!(lane.state, LaneState::Corrupt);
            assert!(lane.depth <= lane.sent);
        }
    }
}

fn run<K: Kind>(lanes: u32, capacity: usize, delivery: Delivery, stride: RoleStride, ops: &[Op]) {
    let options = Options::new().lanes(lanes).delivery(delivery).role_stride(stride).liveness::<Leases>();
    let memory = Memory::new(K::bytes(capacity, &options).unwrap());
    drop(K::create(memory.region(), capacity, &options));
    let (queue, leases) = (K::open(memory.region()).unwrap(), Leases::default());
    let consumer = Some(K::consumer(&queue, &leases).unwrap());
    let mut world = World::<K> {
        queue,
        leases,
        producers: Vec::new(),
        dead: Vec::new(),
        consumer,
        pushed: Vec::new(),
        popped: 0,
        released: 0,
        delivery,
        lanes: lanes as usize,
    };
    ops.iter().for_each(|op| world.apply(op));
    let rest = K::pop_some(world.consumer.as_mut().unwrap(), 1 << 20).unwrap();
    assert_eq!(rest.len(), world.pushed.len() - world.popped);
    world.expect(&rest);
    memory.assert_guards();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn slots_come_in_the_order_of_the_pushes(
        lanes in 1..4_u32,
        bits in 0..5_u32,
        once in any::<bool>(),
        page in any::<bool>(),
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let delivery = if once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
        let stride = if page { RoleStride::Page } else { RoleStride::Line };
        run::<Slots>(lanes, 1 << bits, delivery, stride, &ops);
    }

    #[test]
    fn records_come_in_the_order_of_the_pushes(
        lanes in 1..4_u32,
        bits in 1..5_u32,
        once in any::<bool>(),
        page in any::<bool>(),
        ops in prop::collection::vec(op(), 1..250),
    ) {
        let delivery = if once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
        let stride = if page { RoleStride::Page } else { RoleStride::Line };
        run::<Records>(lanes, 1 << bits, delivery, stride, &ops);
    }
}
