//! Producers in threads of their own: one order, which is that of real time where pushes do not overlap.
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
mod ordered;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use hostile_memory::Memory;
use lanes::Leases;
use ordered::{Kind, Records, Slots};
use tidewire_mpsc::{Delivery, Options};

/// Messages of one producer.
const EACH: u64 = if cfg!(miri) { 50 } else { 20_000 };

/// A message: its producer and its number there.
fn message(producer: u64, number: u64) -> u64 {
    producer << 32 | number
}

/// Stamps are drawn from one counter before and after each push. Whatever was popped later must not have returned before
/// the push of what was popped earlier was called.
fn check(order: &[u64], stamps: &[Vec<(u64, u64)>]) {
    let stamp = |message: u64| stamps[(message >> 32) as usize][(message & 0xFFFF_FFFF) as usize];
    let mut next = vec![0; stamps.len()];
    for message in order {
        let of = &mut next[(*message >> 32) as usize];
        assert_eq!(*message & 0xFFFF_FFFF, *of, "in order per producer");
        *of += 1;
    }
    assert!(next.iter().all(|n| *n == EACH), "{next:?}");
    let mut first_return = u64::MAX;
    for message in order.iter().rev() {
        let (called, returned) = stamp(*message);
        assert!(first_return > called, "a push that had returned came behind one that was called later");
        first_return = first_return.min(returned);
    }
}

fn run<K: Kind>(producers: u64, capacity: usize, batch: usize, delivery: Delivery)
where
    K::Queue: Sync,
{
    let options = Options::new().lanes(4).delivery(delivery).liveness::<Leases>();
    let memory = Memory::new(K::bytes(capacity, &options).unwrap());
    let queue = K::create(memory.region(), capacity, &options);
    let leases = Leases::default();
    let mut consumer = K::consumer(&queue, &leases).unwrap();
    let clock = AtomicU64::new(0);
    let mut order = Vec::new();
    let stamps: Vec<Vec<(u64, u64)>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|me| {
                let (queue, leases, clock) = (&queue, &leases, &clock);
                scope.spawn(move || {
                    let mut producer = K::producer(queue, leases).unwrap();
                    let mut stamps = Vec::new();
                    while (stamps.len() as u64) < EACH {
                        let from = stamps.len() as u64;
                        let to = EACH.min(from + 1 + from % batch as u64);
                        let numbers: Vec<u64> = (from..to).map(|number| message(me, number)).collect();
                        let called = loop {
                            let called = clock.fetch_add(1, Ordering::SeqCst);
                            if K::push(&mut producer, &numbers).unwrap() {
                                break called;
                            }
                            thread::yield_now();
                        };
                        let returned = clock.fetch_add(1, Ordering::SeqCst);
                        stamps.extend(numbers.iter().map(|_| (called, returned)));
                        if from % 1000 == 999 {
                            // Another lane, perhaps.
                            drop(producer);
                            producer = K::producer(queue, leases).unwrap();
                        }
                    }
                    stamps
                })
            })
            .collect();
        while order.len() as u64 != producers * EACH {
            let some = K::pop_some(&mut consumer, 1 + order.len() % 7).unwrap();
            if some.is_empty() {
                thread::yield_now();
            }
            order.extend(some);
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(K::pop(&mut consumer), Ok(None));
    assert_eq!(K::take_corrupt(&mut consumer), None);
    check(&order, &stamps);
    memory.assert_guards();
}

#[test]
fn slots_of_two_producers_come_in_real_time_order() {
    run::<Slots>(2, 64, 1, Delivery::AtLeastOnce);
    run::<Slots>(2, 2, 1, Delivery::AtMostOnce);
}

#[test]
fn slots_of_four_producers_come_in_real_time_order() {
    run::<Slots>(4, 256, 1, Delivery::AtLeastOnce);
    run::<Slots>(4, 64, 16, Delivery::AtLeastOnce);
    run::<Slots>(4, 16, 5, Delivery::AtMostOnce);
}

#[test]
fn records_of_two_and_four_producers_come_in_real_time_order() {
    run::<Records>(2, 8, 1, Delivery::AtLeastOnce);
    run::<Records>(4, 64, 9, Delivery::AtLeastOnce);
    run::<Records>(4, 16, 3, Delivery::AtMostOnce);
}
