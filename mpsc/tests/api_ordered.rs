//! The ordered queue: what each call promises, without concurrency; both kinds.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../../ring/tests/hostile_memory/mod.rs"]
mod hostile_memory;
mod lanes;
mod ordered;

use hostile_memory::Memory;
use lanes::Leases;
use ordered::{Kind, Records, Slots};
use tidewire_mpsc::ordered::{PopError, PushError, RecordPopError, RecordPushError, Tuning, bytes, fixed};
use tidewire_mpsc::{AttachError, Delivery, LaneState, Options};
use tidewire_shm::{Field, Region, RoleId, RoleStride, Unleased};

fn slots(lanes: u32, capacity: usize, delivery: Delivery) -> fixed::Queue<u64> {
    let options = Options::new().lanes(lanes).delivery(delivery);
    let bytes = fixed::Queue::<u64>::bytes(capacity, &options).unwrap();
    fixed::Queue::create(Region::heap(bytes).unwrap(), capacity, &options).unwrap()
}

#[test]
fn messages_come_in_the_order_of_the_pushes() {
    let queue = slots(3, 8, Delivery::AtLeastOnce);
    let mut producers: Vec<_> = (0..3).map(|_| queue.producer(&Unleased).unwrap()).collect();
    let mut consumer = queue.consumer(&Unleased).unwrap();
    let mut number = 0;
    // More than two laps of 1024 order words.
    for round in 0..900_usize {
        for who in [round % 3, (round / 2) % 3, (round * 7) % 3] {
            producers[who].push(number).unwrap();
            number += 1;
        }
        assert_eq!(consumer.peek(), Ok(number - 3));
        for back in (1..4).rev() {
            assert_eq!(consumer.pop(), Ok(number - back));
        }
        assert_eq!(consumer.last_lane(), Some(producers[(round * 7) % 3].lane()));
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    }
    assert!(producers.iter().all(|producer| producer.is_empty() && producer.free() == 8));
}

#[test]
fn a_batch_is_whole_and_bounded() {
    let queue = slots(2, 2048, Delivery::AtLeastOnce);
    let (mut a, mut b) = (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
    let mut consumer = queue.consumer(&Unleased).unwrap();
    let many: Vec<u64> = (0..1025).collect();
    assert_eq!(a.push_slice(&many), Err(PushError::TooMany { max: 1024 }));
    assert_eq!(a.push_slice(&[]), Ok(()));
    for _ in 0..5 {
        a.push_slice(&many[..1024]).unwrap();
        b.push(5000).unwrap();
        a.push_slice(&many[..1024]).unwrap();
        assert_eq!((a.push(1), a.is_full()), (Err(PushError::Full), true));
        let mut to = vec![0; 3000];
        assert_eq!(consumer.pop_into(&mut to), Ok(2049));
        assert_eq!((&to[..1024], to[1024], &to[1025..2049]), (&many[..1024], 5000, &many[..1024]));
        assert_eq!(consumer.pop_into(&mut to), Err(PopError::Empty));
        assert_eq!(consumer.pop_into(&mut []), Ok(0));
    }
    let small = slots(1, 4, Delivery::AtLeastOnce);
    let mut producer = small.producer(&Unleased).unwrap();
    assert_eq!((producer.max_batch(), producer.push_slice(&[0; 5])), (4, Err(PushError::TooMany { max: 4 })));
}

/// At least once: a call releases nothing that it hands out itself. At most once: before it returns.
#[test]
fn release_follows_the_delivery() {
    let late = slots(1, 4, Delivery::AtLeastOnce);
    let mut producer = late.producer(&Unleased).unwrap();
    let mut consumer = late.consumer(&Unleased).unwrap();
    consumer.tune(Tuning::default().release_every(1));
    producer.push_slice(&[1, 2, 3, 4]).unwrap();
    assert_eq!((consumer.pop(), producer.len()), (Ok(1), 4));
    assert_eq!((consumer.pop(), producer.len()), (Ok(2), 3));
    consumer.release();
    assert_eq!(producer.len(), 2);
    consumer.tune(Tuning::default().release_every(100));
    assert_eq!((consumer.pop(), consumer.pop(), producer.len()), (Ok(3), Ok(4), 2));
    assert_eq!((consumer.pop(), producer.len()), (Err(PopError::Empty), 0));
    producer.push(5).unwrap();
    consumer.pop_to(&mut 0).unwrap();
    drop(consumer);
    assert!(producer.is_empty(), "released when dropped");

    let at_once = slots(1, 4, Delivery::AtMostOnce);
    let mut producer = at_once.producer(&Unleased).unwrap();
    let mut consumer = at_once.consumer(&Unleased).unwrap();
    producer.push_slice(&[1, 2, 3]).unwrap();
    assert_eq!((consumer.peek(), producer.len()), (Ok(1), 3));
    assert_eq!((consumer.pop(), producer.len()), (Ok(1), 2));
    assert_eq!((consumer.pop_into(&mut [0; 5]), producer.len()), (Ok(2), 0));
}

#[test]
fn records_of_any_length_come_whole() {
    let queue = bytes::Queue::on_heap(256).unwrap();
    let (mut a, mut b) = (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
    let mut consumer = queue.consumer(&Unleased).unwrap();
    assert_eq!((a.max_record(), a.push(&[0; 121])), (120, Err(RecordPushError::TooLong { max: 120 })));
    for len in (0..=120).chain((0..=120).rev()) {
        let record: Vec<u8> = (0..len).collect();
        a.push(&record).unwrap();
        let mut batch = b.batch();
        assert!(batch.is_empty());
        batch.push(&record[..usize::from(len) / 2]).unwrap();
        batch.push(b"behind").unwrap();
        assert_eq!((batch.len(), batch.commit()), (2, Ok(2)));
        // Aborted: nothing of it is seen.
        let _ = b.batch().push(b"never");
        let mut to = [0xFF; 120];
        if len > 0 {
            let short = consumer.pop_into(&mut to[..usize::from(len) - 1]);
            assert_eq!(short, Err(RecordPopError::BufferTooSmall { needed: len.into() }));
        }
        assert_eq!(consumer.peek_len(), Ok(len.into()));
        assert_eq!(consumer.pop_into(&mut to), Ok(len.into()));
        assert_eq!(to[..len.into()], record);
        assert_eq!(&*consumer.pop().unwrap(), &record[..usize::from(len) / 2]);
        let last = consumer.pop().unwrap();
        assert_eq!((last.len(), last.get(1, &mut to[..5]), &to[..5]), (6, Ok(()), &b"ehind"[..]));
        assert!(last.get(2, &mut to[..5]).is_err());
        drop(last);
        assert_eq!(consumer.pop_into(&mut to), Err(RecordPopError::Empty));
        assert!(a.is_empty() && b.is_empty());
    }
    while a.push(&[7; 40]).is_ok() {}
    assert_eq!(a.push(&[7; 40]), Err(RecordPushError::Full));
}

/// Lanes of the dead are given back by the consumer only, and go on where they ended.
fn reclaimed<K: Kind>() {
    for stride in [RoleStride::Line, RoleStride::Page] {
        let options = Options::new().lanes(2).role_stride(stride).liveness::<Leases>();
        let memory = Memory::new(K::bytes(8, &options).unwrap());
        let queue = K::create(memory.region(), 8, &options);
        let leases = Leases::default();
        let mut consumer = K::consumer(&queue, &leases).unwrap();
        let mut stays = K::producer(&queue, &leases).unwrap();
        for round in 0..30 {
            let mut dead = K::producer(&queue, &leases).unwrap();
            assert!(K::push(&mut dead, &[3 * round]).unwrap());
            assert!(K::push(&mut stays, &[3 * round + 1]).unwrap());
            let role = RoleId::producer(K::lane(&dead)).unwrap();
            #[expect(clippy::mem_forget, reason = "it stands for one that was killed")]
            std::mem::forget(dead);
            leases.end(role);
            let refused = K::producer(&queue, &leases).err().unwrap();
            assert_eq!(refused, AttachError::LanesExhausted { lanes: 2, corrupt: 0 });
            if round % 2 == 0 {
                assert_eq!(K::pop(&mut consumer), Ok(Some(3 * round)));
            }
            assert_eq!(K::reclaim(&mut consumer, &leases), Ok(1));
            assert_eq!(K::reclaim(&mut consumer, &leases), Ok(0));
            let mut next = K::producer(&queue, &leases).unwrap();
            assert!(K::push(&mut next, &[3 * round + 2]).unwrap());
            let rest = K::pop_some(&mut consumer, 10).unwrap();
            assert_eq!(rest, Vec::from_iter(3 * round + u64::from(round % 2 == 0)..3 * round + 3));
        }
        let wrong = K::reclaim(&mut consumer, &Unleased).unwrap_err();
        assert!(matches!(wrong, AttachError::Incompatible(found) if found.field == Field::Liveness));
    }
}

#[test]
fn lanes_of_the_dead_are_given_back() {
    reclaimed::<Slots>();
    reclaimed::<Records>();
}

#[test]
fn what_is_not_this_queue_is_refused() {
    let options = Options::new().lanes(2);
    let memory = Memory::new(Slots::bytes(64, &options).unwrap().max(Records::bytes(64, &options).unwrap()));
    drop(Slots::create(memory.region(), 64, &options));
    let refused = |result: Result<(), AttachError>, field| match result {
        Err(AttachError::Incompatible(error)) => assert_eq!(error.field, field),
        other => panic!("{other:?}"),
    };
    refused(Records::open(memory.region()).map(drop), Field::Kind);
    refused(tidewire_mpsc::fixed::Queue::<u64, _>::open(memory.region(), 0).map(drop), Field::Kind);
    let observed = Slots::open(memory.region().read_only()).unwrap();
    assert_eq!(Slots::stats(&observed).iter().filter(|lane| lane.state == LaneState::Free).count(), 2);
    refused(Slots::producer(&observed, &Unleased).map(drop), Field::Access);
    refused(Slots::consumer(&observed, &Unleased).map(drop), Field::Access);
    let part = Slots::open(memory.region().read_only_but(Some(0..memory.len() - 8))).unwrap();
    refused(Slots::producer(&part, &Unleased).map(drop), Field::Access);
    refused(
        Slots::producer(&Slots::open(memory.region()).unwrap(), &Leases::default()).map(drop),
        Field::Liveness,
    );
}

/// A queue created over another one is empty, whatever lay there.
#[test]
fn a_queue_created_over_another_one_is_empty() {
    let options = Options::new().lanes(2);
    let memory = Memory::new(Slots::bytes(64, &options).unwrap());
    for offset in (0..memory.len()).step_by(8) {
        memory.set_word(offset, u64::MAX / 3);
    }
    for _ in 0..2 {
        let queue = Slots::create(memory.region(), 64, &options);
        let mut consumer = Slots::consumer(&queue, &Unleased).unwrap();
        assert_eq!(Slots::pop(&mut consumer), Ok(None));
        let mut producer = Slots::producer(&queue, &Unleased).unwrap();
        for i in 0..64 {
            assert_eq!(Slots::push(&mut producer, &[i]), Ok(true));
        }
        assert_eq!(Slots::pop_some(&mut consumer, 100).unwrap(), Vec::from_iter(0..64));
    }
}
