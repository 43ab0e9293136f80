//! Producers that come and go in threads, and one consumer: nothing lost, nothing twice, in order per producer.
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

use std::thread;

use hostile_memory::Memory;
use lanes::{Kind, Leases, Records, Slots};
use tidewire_mpsc::{AttachError, Delivery, Options, Tuning};
use tidewire_shm::{Liveness, Unleased};

const MESSAGES: u64 = 3_000;
/// Messages between two attachments of one producer.
const STAY: u64 = 250;

/// Attaches, waiting while all lanes are taken.
fn attach<K: Kind, V: Liveness>(queue: &K::Queue, liveness: &V) -> K::Producer {
    loop {
        match K::producer(queue, liveness) {
            Ok(producer) => return producer,
            Err(AttachError::LanesExhausted { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// `producers` threads over `lanes` lanes; messages are numbers of `1 << 32` times the producer plus a count.
fn stream<K: Kind, V: Liveness + Sync>(
    liveness: &V,
    producers: u64,
    lanes: u32,
    delivery: Delivery,
    stay: u64,
) where
    K::Queue: Sync,
{
    let options = Options::new().lanes(lanes).delivery(delivery).liveness::<V>();
    let memory = Memory::new(K::bytes(256, &options).unwrap());
    let queue = K::create(memory.region(), 256, &options);
    let mut consumer = K::consumer(&queue, liveness).unwrap();
    K::tune(&mut consumer, Tuning::default().budget(16));
    thread::scope(|scope| {
        for who in 0..producers {
            let queue = &queue;
            scope.spawn(move || {
                let mut producer = attach::<K, V>(queue, liveness);
                for i in 0..MESSAGES {
                    if i % stay == stay - 1 {
                        drop(producer);
                        producer = attach::<K, V>(queue, liveness);
                    }
                    while !K::push(&mut producer, who << 32 | i) {
                        thread::yield_now();
                    }
                }
            });
        }
        let mut next = vec![0; producers as usize];
        let mut seen = vec![vec![false; MESSAGES as usize]; producers as usize];
        let mut turn = 0_usize;
        while next.iter().any(|next| *next < MESSAGES) {
            turn += 1;
            let got = match turn % 3 {
                0 => K::pop(&mut consumer).map(|number| vec![number]),
                n => K::pop_some(&mut consumer, 7, n == 1),
            };
            let Ok(got) = got else {
                thread::yield_now();
                continue;
            };
            for message in got {
                let (who, i) = ((message >> 32) as usize, message & u64::from(u32::MAX));
                // One who stays in its lane is in order; one who changes lanes may be overtaken by itself.
                if stay > MESSAGES {
                    assert_eq!(i, next[who], "producer {who}");
                }
                assert!(!std::mem::replace(&mut seen[who][i as usize], true), "producer {who}: {i} twice");
                next[who] += 1;
            }
        }
        assert!(seen.iter().flatten().all(|seen| *seen), "a message is missing");
    });
    assert!(K::pop(&mut consumer).is_err());
    assert_eq!(K::take_corrupt(&mut consumer), None);
    memory.assert_guards();
}

fn all<K: Kind>(producers: u64)
where
    K::Queue: Sync,
{
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        stream::<K, _>(&Unleased, producers, 16, delivery, u64::MAX);
        stream::<K, _>(&Leases::default(), producers, producers.max(2) as u32, delivery, STAY);
        stream::<K, _>(&Leases::default(), producers, 1 + producers as u32 / 2, delivery, STAY);
    }
}

#[test]
fn one_producer_of_slots() {
    all::<Slots>(1);
}

#[test]
fn two_producers_of_slots() {
    all::<Slots>(2);
}

#[test]
fn four_producers_of_slots() {
    all::<Slots>(4);
}

#[test]
fn producers_of_records() {
    for producers in [1, 2, 4] {
        all::<Records>(producers);
    }
}
