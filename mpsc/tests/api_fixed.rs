//! Lanes of fixed slots: what each call promises, without concurrency.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use tidewire_mpsc::fixed::{Consumer, Queue};
use tidewire_mpsc::{AttachError, CreateError, Delivery, LaneState, Options, PopError, Tuning};
use tidewire_ring::PushError;
use tidewire_shm::{Region, RoleStride, Segment, SegmentLeases, Unleased, Untrusted};

fn queue(lanes: u32, capacity: usize, delivery: Delivery, stride: RoleStride) -> Queue<u64> {
    let options = Options::new().lanes(lanes).delivery(delivery).role_stride(stride);
    let region = Region::heap(Queue::<u64>::bytes(capacity, &options).unwrap()).unwrap();
    Queue::create(region, capacity, &options).unwrap()
}

fn forms() -> impl Iterator<Item = (Delivery, RoleStride)> {
    [Delivery::AtLeastOnce, Delivery::AtMostOnce]
        .into_iter()
        .flat_map(|delivery| [RoleStride::Line, RoleStride::Page].map(|stride| (delivery, stride)))
}

fn pop_all(consumer: &mut Consumer<u64>) -> Vec<u64> {
    consumer.drain().collect()
}

#[test]
fn messages_of_each_producer_come_in_order_and_once() {
    for (delivery, stride) in forms() {
        let queue = queue(3, 8, delivery, stride);
        let mut producers: Vec<_> = (0..3).map(|_| queue.producer(&Unleased).unwrap()).collect();
        let mut consumer = queue.consumer(&Unleased).unwrap();
        assert_eq!(consumer.pop(), Err(PopError::Empty));
        for round in 0..20 {
            for (i, producer) in (0..).zip(&mut producers) {
                for k in 0..5 {
                    producer.push(i * 1000 + round * 5 + k).unwrap();
                }
            }
            let got = pop_all(&mut consumer);
            assert_eq!(got.len(), 15);
            for i in 0..3 {
                let of: Vec<u64> = got.iter().copied().filter(|m| m / 1000 == i).collect();
                assert_eq!(of, (0..5).map(|k| i * 1000 + round * 5 + k).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn one_slot_per_lane_works_in_both_deliveries() {
    for (delivery, stride) in forms() {
        let queue = queue(2, 1, delivery, stride);
        let (mut a, mut b) = (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
        let mut consumer = queue.consumer(&Unleased).unwrap();
        for i in 0..10 {
            a.push(i).unwrap();
            b.push(100 + i).unwrap();
            assert_eq!(a.push(i), Err(PushError::Full));
            let mut got = [consumer.pop().unwrap(), consumer.pop().unwrap()];
            got.sort_unstable();
            assert_eq!(got, [i, 100 + i]);
            assert_eq!(consumer.pop(), Err(PopError::Empty));
            assert!(a.is_empty() && b.is_empty(), "found empty and not released");
        }
    }
}

/// At least once: a call releases nothing that it hands out itself. At most once: before it returns.
#[test]
fn release_follows_the_delivery() {
    for stride in [RoleStride::Line, RoleStride::Page] {
        let late = queue(1, 4, Delivery::AtLeastOnce, stride);
        let mut producer = late.producer(&Unleased).unwrap();
        let mut consumer = late.consumer(&Unleased).unwrap();
        consumer.tune(Tuning::default().release_every(1));
        producer.push_slice(&[1, 2, 3]).unwrap();
        assert_eq!(consumer.pop(), Ok(1));
        assert_eq!(producer.len(), 3, "released in the call that handed it out");
        assert_eq!(consumer.pop(), Ok(2));
        assert_eq!(producer.len(), 2);
        let mut two = [0; 2];
        assert_eq!(consumer.pop_into(&mut two), Ok(1));
        assert_eq!(producer.len(), 1);
        consumer.release();
        assert_eq!(producer.len(), 0);

        let early = queue(1, 4, Delivery::AtMostOnce, stride);
        let mut producer = early.producer(&Unleased).unwrap();
        let mut consumer = early.consumer(&Unleased).unwrap();
        consumer.tune(Tuning::default().release_every(4));
        producer.push_slice(&[1, 2, 3]).unwrap();
        assert_eq!(consumer.pop(), Ok(1));
        assert_eq!(producer.len(), 2);
        let mut two = [0; 2];
        assert_eq!(consumer.pop_into(&mut two), Ok(2));
        assert_eq!(producer.len(), 0);
    }
}

#[test]
fn a_lane_that_is_left_or_empty_is_released() {
    let queue = queue(2, 4, Delivery::AtLeastOnce, RoleStride::Line);
    let (mut a, mut b) = (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
    let mut consumer = queue.consumer(&Unleased).unwrap();
    consumer.tune(Tuning::default().release_every(4));
    a.push(1).unwrap();
    b.push(10).unwrap();
    let first = consumer.pop().unwrap();
    let second = consumer.pop().unwrap();
    assert_ne!(first < 10, second < 10, "the lane with nothing known is left");
    consumer.drain().count();
    assert_eq!((a.len(), b.len()), (0, 0));
}

#[test]
fn lanes_are_taken_freed_and_exhausted() {
    let queue = queue(2, 4, Delivery::AtLeastOnce, RoleStride::Line);
    let mut a = queue.producer(&Unleased).unwrap();
    let b = queue.producer(&Unleased).unwrap();
    assert_eq!((a.lane(), b.lane()), (0, 1));
    assert_eq!(queue.producer_owner(0), Some(a.owner()));
    assert_eq!(a.owner().generation, 1);
    let error = queue.producer(&Unleased).unwrap_err();
    assert_eq!(error, AttachError::LanesExhausted { lanes: 2, corrupt: 0 });
    a.push(7).unwrap();
    drop(a);
    assert_eq!(queue.producer_owner(0), None);
    let mut again = queue.producer(&Unleased).unwrap();
    assert_eq!((again.lane(), again.owner().generation, again.position()), (0, 2, 1));
    again.push(8).unwrap();
    let mut consumer = queue.consumer(&Unleased).unwrap();
    assert_eq!(pop_all(&mut consumer), [7, 8], "old messages first");
    assert_eq!(consumer.last_lane(), Some(0));
    assert!(
        matches!(queue.consumer(&Unleased), Err(AttachError::RoleTaken(owner)) if owner == consumer.owner())
    );
    drop(consumer);
    assert!(queue.consumer(&Unleased).is_ok());
    assert_eq!(queue.reclaim(&Unleased), Ok(0), "nothing is proven");
}

#[test]
fn a_consumer_finds_what_was_pushed_before_it_came_and_what_producers_left() {
    for (delivery, stride) in forms() {
        let queue = queue(4, 8, delivery, stride);
        for i in 0..4 {
            let mut producer = queue.producer(&Unleased).unwrap();
            producer.push(i).unwrap();
        }
        let mut consumer = queue.consumer(&Unleased).unwrap();
        assert_eq!(pop_all(&mut consumer), [0, 1, 2, 3]);
        drop(consumer);
        let mut consumer = queue.consumer(&Unleased).unwrap();
        assert_eq!(consumer.pop(), Err(PopError::Empty), "seen again");
    }
}

#[test]
fn a_lane_leaves_the_rota_and_comes_back() {
    let queue = queue(3, 8, Delivery::AtLeastOnce, RoleStride::Line);
    let mut consumer = queue.consumer(&Unleased).unwrap();
    for round in 0..5 {
        let mut producers: Vec<_> = (0..3).map(|_| queue.producer(&Unleased).unwrap()).collect();
        for producer in &mut producers {
            producer.push(round).unwrap();
        }
        drop(producers);
        assert_eq!(pop_all(&mut consumer), [round; 3]);
        consumer.rescan();
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    }
    assert!(
        consumer.lanes().all(|lane| lane.state == LaneState::Free && lane.depth == 0 && lane.owners == 5)
    );
}

#[test]
fn the_budget_bounds_a_turn() {
    let queue = queue(2, 64, Delivery::AtLeastOnce, RoleStride::Line);
    let (mut a, mut b) = (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
    let mut consumer = queue.consumer(&Unleased).unwrap();
    consumer.tune(Tuning::default().budget(3).release_every(64));
    for i in 0..12 {
        a.push(i).unwrap();
        b.push(100 + i).unwrap();
    }
    let got = pop_all(&mut consumer);
    let turns: Vec<usize> = got.chunk_by(|x, y| (*x < 100) == (*y < 100)).map(<[u64]>::len).collect();
    assert_eq!(turns, [3; 8], "{got:?}");
}

/// With at least once the period ends a turn; with at most once every call releases, and only the budget does.
#[test]
fn the_period_bounds_a_turn_only_where_it_says_something() {
    for (delivery, stride) in forms() {
        let queue = queue(1, 64, delivery, stride);
        let mut producer = queue.producer(&Unleased).unwrap();
        let mut consumer = queue.consumer(&Unleased).unwrap();
        for (tuning, period) in [
            (Tuning::default(), 8),
            (Tuning::default().release_every(3), 3),
            (Tuning::default().budget(5), 5),
        ] {
            let expected = match delivery {
                Delivery::AtMostOnce if period != 5 => 40,
                _ => period,
            };
            consumer.tune(tuning);
            producer.push_slice(&[7; 40]).unwrap();
            assert_eq!(consumer.pop_into(&mut [0; 64]), Ok(expected), "{delivery:?}, {tuning:?}");
            pop_all(&mut consumer);
            consumer.release();
            producer.push_slice(&[7; 40]).unwrap();
            assert_eq!(
                consumer.read_chunk(64).map(|chunk| chunk.len()),
                Ok(expected),
                "{delivery:?}, {tuning:?}"
            );
            pop_all(&mut consumer);
            consumer.release();
        }
    }
}

#[test]
fn peek_chunks_and_slices() {
    for (delivery, stride) in forms() {
        let queue = queue(2, 16, delivery, stride);
        let mut producer = queue.producer(&Unleased).unwrap();
        let mut consumer = queue.consumer(&Unleased).unwrap();
        consumer.tune(Tuning::default().release_every(16));
        assert_eq!(consumer.peek(), Err(PopError::Empty));
        assert!(consumer.read_chunk(4).is_err());
        producer.push_slice(&[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(consumer.peek(), Ok(1));
        assert_eq!(consumer.peek(), Ok(1));
        assert_eq!(consumer.pop(), Ok(1));
        let mut chunk = consumer.read_chunk(3).unwrap();
        assert_eq!(chunk.as_slices().0, [2, 3, 4]);
        chunk.release(2).unwrap();
        assert_eq!(consumer.len(), 3);
        let mut to = 0;
        consumer.pop_to(&mut to).unwrap();
        assert_eq!(to, 4);
        let mut rest = [0; 8];
        assert_eq!(consumer.pop_into(&mut []), Ok(0));
        assert_eq!(consumer.pop_into(&mut rest), Ok(2));
        assert_eq!(rest[..2], [5, 6]);
        assert!(consumer.is_empty());
        let mut reservation = producer.reserve(2).unwrap();
        reservation.set(0, &[7, 8]).unwrap();
        reservation.commit(2).unwrap();
        assert_eq!(pop_all(&mut consumer), [7, 8]);
    }
}

#[test]
fn bad_numbers_are_refused_by_name() {
    let create = |lanes, capacity| Queue::<u64>::bytes(capacity, &Options::new().lanes(lanes));
    assert_eq!(create(0, 8), Err(CreateError::Lanes { found: 0 }));
    assert_eq!(create(257, 8), Err(CreateError::Lanes { found: 257 }));
    assert!(create(256, 8).is_ok());
    let error = create(1, 12).unwrap_err();
    assert!(error.to_string().contains("expected a capacity that is a power of two"), "{error}");
    assert!(matches!(Queue::<[u8; 0]>::bytes(8, &Options::new()), Err(CreateError::Ring(_))));
    let short = Queue::<u64>::create(Region::heap(1024).unwrap(), 8, &Options::new()).unwrap_err();
    assert!(short.to_string().contains("expected a region of at least"), "{short}");
}

/// Leases of a segment prove nothing about other memory.
#[test]
fn leases_of_other_memory_are_refused() {
    let options = Options::new().lanes(1).liveness::<SegmentLeases>();
    let bytes = Queue::<u64>::bytes(4, &options).expect("a plain queue");
    let leases = Segment::anonymous(4096).expect("a segment").leases().expect("its leases");
    let queue = Queue::<u64>::create(Region::heap(bytes).expect("memory"), 4, &options).expect("a queue");
    assert!(matches!(queue.producer(&leases), Err(AttachError::Incompatible(_))));
    assert!(matches!(queue.consumer(&leases), Err(AttachError::Incompatible(_))));
    assert!(matches!(queue.reclaim(&leases), Err(AttachError::Incompatible(_))));

    let segment = Segment::anonymous(bytes).expect("a segment");
    let queue = Queue::<u64, Untrusted>::create(segment.region(), 4, &options).expect("a queue");
    assert!(matches!(queue.producer(&leases), Err(AttachError::Incompatible(_))), "those of another segment");
    let leases = segment.leases().expect("its leases");
    let mut producer = queue.producer(&leases).expect("a free lane");
    assert!(matches!(queue.producer(&leases), Err(AttachError::LanesExhausted { lanes: 1, corrupt: 0 })));
    assert_eq!(queue.reclaim(&leases).expect("an answer"), 0, "a held lane is not reclaimed");
    producer.push(1).expect("room");
    // Forgotten, the word stays and the lease, too: nobody may take the lane while the process lives.
    let _forgotten = std::mem::ManuallyDrop::new(producer);
    assert!(matches!(queue.producer(&leases), Err(AttachError::LanesExhausted { .. })));
    assert_eq!(queue.consumer(&leases).expect("a free role").pop(), Ok(1));
}
