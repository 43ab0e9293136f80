//! Ordered queues whose words a hostile peer changes: no panic, no hang, no byte outside; a lane that lies loses only
//! itself.
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

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hostile_memory::Memory;
use lanes::Leases;
use ordered::{Kind, Records, Slots};
use tidewire_mpsc::ordered::CorruptWord;
use tidewire_mpsc::{Delivery, LaneState, Options};
use tidewire_shm::RoleStride;

/// Where the words lie with two lanes and line stride, written down here a second time.
const REGISTRY: usize = 640;
const EXTRA: usize = REGISTRY + 2 * 128;
const HINT: usize = EXTRA + 128 + 2 * 128;
const ORDER: usize = HINT + 128;
const ORDER_WORDS: usize = 1024;
const LANE: usize = EXTRA + 2 * 4096 + 8 * ORDER_WORDS;
const LANE_HEAD: usize = LANE + 128;

fn options() -> Options {
    Options::new().lanes(2).liveness::<Leases>()
}

/// Some traffic that ends, whatever the words say.
fn traffic<K: Kind>(queue: &K::Queue, leases: &Leases) {
    let mut producers: Vec<_> = (0..3).filter_map(|_| K::producer(queue, leases).ok()).collect();
    let Ok(mut consumer) = K::consumer(queue, leases) else { return };
    for i in 0..12 {
        for producer in &mut producers {
            let _ = K::push(producer, &[i]);
            let _ = K::push(producer, &[i, i + 1, i + 2]);
        }
        let _ = K::pop(&mut consumer);
        drop(K::pop_some(&mut consumer, 3));
        let _ = K::reclaim(&mut consumer, leases);
        let _ = K::take_corrupt(&mut consumer);
        K::stats(queue);
    }
}

/// Every word but those of header and shape, changed to values of all kinds: before anybody attaches, and beside handles
/// that are at work.
fn every_word<K: Kind>() {
    let values = [8, 1 << 18, 2 << 18 | 1, 1 << 18 | 0x2FF, u64::MAX - 7, u64::MAX];
    let options = options();
    let memory = Memory::new(K::bytes(8, &options).unwrap());
    // All of the words in front, some order words, all lanes.
    let order = ORDER + 8 * 24..ORDER + 8 * ORDER_WORDS - 16;
    let offsets = (256..memory.len()).step_by(8).filter(|offset| !order.contains(offset));
    for offset in offsets {
        for (i, value) in values.iter().enumerate() {
            let queue = K::create(memory.region(), 8, &options);
            let leases = Leases::default();
            if i % 2 == 0 {
                traffic::<K>(&queue, &leases);
                memory.set_word(offset, *value);
            } else {
                let mut producer = K::producer(&queue, &leases).unwrap();
                let mut consumer = K::consumer(&queue, &leases).unwrap();
                K::push(&mut producer, &[1, 2]).unwrap();
                K::pop(&mut consumer).unwrap();
                memory.set_word(offset, *value);
                for number in 0..12 {
                    let _ = K::push(&mut producer, &[number]);
                    drop(K::pop_some(&mut consumer, 2));
                }
            }
            traffic::<K>(&queue, &leases);
        }
    }
    memory.assert_guards();
}

#[test]
fn no_word_of_slots_harms_more_than_messages() {
    every_word::<Slots>();
}

#[test]
fn no_word_of_records_harms_more_than_messages() {
    every_word::<Records>();
}

/// Order words that cannot be are reported by both sides, for good.
#[test]
fn a_lying_order_word_is_reported() {
    let options = options();
    let memory = Memory::new(Slots::bytes(8, &options).unwrap());
    for lie in [2 << 18, 1 << 18 | 2, 1 << 18 | 255, u64::MAX] {
        let queue = Slots::create(memory.region(), 8, &options);
        let leases = Leases::default();
        let mut producer = Slots::producer(&queue, &leases).unwrap();
        let mut consumer = Slots::consumer(&queue, &leases).unwrap();
        assert_eq!(Slots::push(&mut producer, &[1]), Ok(true));
        memory.set_word(ORDER, lie);
        assert!(!consumer.is_empty(), "a pop has something to say");
        let corrupt = Slots::pop(&mut consumer).unwrap_err();
        assert_eq!((corrupt.what, corrupt.found), (CorruptWord::Order, lie));
        memory.set_word(ORDER, 1 << 18);
        assert_eq!(Slots::pop(&mut consumer), Err(corrupt), "latched");
        assert!(!consumer.is_empty());
    }
    let queue = Slots::create(memory.region(), 8, &options);
    let mut producer = Slots::producer(&queue, &Leases::default()).unwrap();
    // Older than free: no such word at position 0.
    memory.set_word(ORDER, u64::MAX);
    let corrupt = Slots::push(&mut producer, &[1]).unwrap_err();
    memory.set_word(ORDER, 0);
    assert_eq!(Slots::push(&mut producer, &[1]), Err(corrupt), "latched");
}

/// A run that is longer than its lane, a frame that cannot be: the lane is out of use, the other one goes on.
#[test]
fn a_lane_that_lies_loses_only_itself() {
    let options = options();
    let memory = Memory::new(Records::bytes(8, &options).unwrap());
    let queue = Records::create(memory.region(), 8, &options);
    let leases = Leases::default();
    let mut liar = Records::producer(&queue, &leases).unwrap();
    let mut honest = Records::producer(&queue, &leases).unwrap();
    let mut consumer = Records::consumer(&queue, &leases).unwrap();
    assert_eq!((Records::lane(&liar), Records::lane(&honest)), (0, 1));
    for i in 0..4 {
        assert_eq!(Records::push(&mut liar, &[i]), Ok(true));
        assert_eq!(Records::push(&mut honest, &[100 + i]), Ok(true));
    }
    assert_eq!(Records::pop(&mut consumer), Ok(Some(0)));
    // The second frame of lane 0.
    let frame = (0..memory.len()).step_by(8).find(|at| memory.word(*at) == 1 << 32 | 12).unwrap();
    memory.set_word(frame, 1 << 32 | 4096);
    assert_eq!(Records::pop_some(&mut consumer, 10).unwrap(), [100, 101, 102, 103]);
    assert_eq!(Records::take_corrupt(&mut consumer).map(|lane| lane.lane), Some(0));
    assert_eq!(Records::take_corrupt(&mut consumer), None);
    assert_eq!(Records::push(&mut honest, &[104]), Ok(true));
    assert_eq!(Records::pop(&mut consumer), Ok(Some(104)));

    let memory = Memory::new(Slots::bytes(8, &options).unwrap());
    let queue = Slots::create(memory.region(), 8, &options);
    let leases = Leases::default();
    let mut liar = Slots::producer(&queue, &leases).unwrap();
    let mut honest = Slots::producer(&queue, &leases).unwrap();
    let mut consumer = Slots::consumer(&queue, &leases).unwrap();
    assert_eq!(Slots::push(&mut liar, &[1]), Ok(true));
    memory.set_word(ORDER, memory.word(ORDER) | 1023 << 8);
    assert_eq!(Slots::push(&mut honest, &[100]), Ok(true));
    assert_eq!(Slots::pop(&mut consumer), Ok(Some(100)));
    assert_eq!(Slots::take_corrupt(&mut consumer).map(|lane| lane.lane), Some(0));
}

/// A producer that stopped between its order word and its tail is honest: its tail may be behind the head, and observers
/// say that there is nothing.
fn stopped_before_the_tail<K: Kind>() {
    let options = options();
    let memory = Memory::new(K::bytes(8, &options).unwrap());
    let (queue, leases) = (K::create(memory.region(), 8, &options), Leases::default());
    let mut producer = K::producer(&queue, &leases).unwrap();
    let mut consumer = K::consumer(&queue, &leases).unwrap();
    assert_eq!(K::push(&mut producer, &[1]), Ok(true));
    let before = memory.word(LANE);
    assert_eq!(K::push(&mut producer, &[2, 3]), Ok(true));
    let after = memory.word(LANE);
    assert!(0 < before && before < after);
    // As it was there.
    memory.set_word(LANE, before);
    let stats = K::stats(&queue)[0];
    assert_eq!((stats.state, stats.sent, stats.received, stats.depth), (LaneState::Owned, before, 0, before));
    for i in 1..4 {
        assert_eq!(K::pop(&mut consumer), Ok(Some(i)));
    }
    assert_eq!(K::pop(&mut consumer), Ok(None));
    assert_eq!(memory.word(LANE_HEAD), after, "all of it is released");
    let stats = K::stats(&queue)[0];
    assert_eq!((stats.state, stats.sent, stats.received, stats.depth), (LaneState::Owned, before, after, 0));
    // It goes on.
    assert_eq!(K::push(&mut producer, &[4]), Ok(true));
    let stats = K::stats(&queue)[0];
    assert_eq!(
        (stats.state, stats.sent, stats.depth),
        (LaneState::Owned, memory.word(LANE), stats.sent - after)
    );
    assert!(stats.depth > 0);
    // What is too far ahead cannot be.
    memory.set_word(LANE, 1 << 40);
    assert_eq!(K::stats(&queue)[0].state, LaneState::Corrupt);
}

#[test]
fn a_tail_behind_the_head_is_honest() {
    stopped_before_the_tail::<Slots>();
    stopped_before_the_tail::<Records>();
}

/// A hint that lies costs steps and nothing else, unless the words lie, too.
#[test]
fn a_lying_hint_is_not_believed() {
    let options = options();
    let memory = Memory::new(Slots::bytes(8, &options).unwrap());
    for lie in [3, 1023, 1024, 5000, u64::MAX, u64::MAX / 2, 1 << 60] {
        let queue = Slots::create(memory.region(), 8, &options);
        let leases = Leases::default();
        let mut consumer = Slots::consumer(&queue, &leases).unwrap();
        for i in 0..400 {
            memory.set_word(HINT, lie);
            let mut producer = Slots::producer(&queue, &leases).unwrap();
            for k in 0..8 {
                assert_eq!(Slots::push(&mut producer, &[8 * i + k]), Ok(true));
            }
            memory.set_word(HINT, lie);
            assert_eq!(Slots::pop_some(&mut consumer, 10).unwrap(), Vec::from_iter(8 * i..8 * i + 8));
            assert_eq!(Slots::pop(&mut consumer), Ok(None));
        }
    }
}

/// Words that change all the time end every call all the same.
fn scribbled<K: Kind>(delivery: Delivery)
where
    K::Queue: Sync,
{
    let options = options().delivery(delivery).role_stride(RoleStride::Line);
    let memory = Memory::new(K::bytes(8, &options).unwrap());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64;
            while !done.load(Ordering::Relaxed) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let random = state >> 20;
                let at = match random % 4 {
                    0 => 256 + 8 * (random / 4 % ((memory.len() as u64 - 256) / 8)) as usize,
                    _ => ORDER + 8 * (random / 4 % 64) as usize,
                };
                let (lap, run, lane) = (random / 256 % 3, random / 1024 % 4, random / 4096 % 2);
                memory.set_word(at, lap << 18 | run << 8 | lane);
            }
        });
        for _ in 0..30 {
            let queue = K::create(memory.region(), 8, &options);
            traffic::<K>(&queue, &Leases::default());
            traffic::<K>(&queue, &Leases::default());
        }
        done.store(true, Ordering::Relaxed);
    });
    memory.assert_guards();
}

#[test]
fn every_call_ends_while_words_are_scribbled() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        scribbled::<Slots>(delivery);
        scribbled::<Records>(delivery);
    }
}
