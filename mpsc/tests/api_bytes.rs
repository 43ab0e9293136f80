//! Lanes of records: what each call promises, without concurrency.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use tidewire_mpsc::bytes::{Consumer, Queue};
use tidewire_mpsc::{CreateError, Delivery, Options, RecordPopError, Tuning};
use tidewire_ring::RecordPushError;
use tidewire_shm::{Region, Trusted, Unleased};

fn queue(lanes: u32, capacity: usize, delivery: Delivery) -> Queue {
    let options = Options::new().lanes(lanes).delivery(delivery);
    let region = Region::heap(Queue::<Trusted>::bytes(capacity, &options).unwrap()).unwrap();
    Queue::create(region, capacity, &options).unwrap()
}

fn pop(consumer: &mut Consumer) -> Vec<u8> {
    let mut to = [0; 256];
    let n = consumer.pop_into(&mut to).unwrap();
    to[..n].to_vec()
}

#[test]
fn records_are_pushed_reserved_and_batched() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        let queue = queue(2, 256, delivery);
        let mut producer = queue.producer(&Unleased).unwrap();
        let mut consumer = queue.consumer(&Unleased).unwrap();
        assert_eq!(consumer.pop_into(&mut []), Err(RecordPopError::Empty));
        producer.push(b"one").unwrap();
        let mut reserved = producer.reserve(8).unwrap();
        reserved.as_mut_slice()[..5].copy_from_slice(b"two..");
        reserved.commit(3).unwrap();
        let _aborted = producer.reserve(16).unwrap();
        let mut batch = producer.batch();
        batch.push(b"").unwrap();
        batch.push(b"four").unwrap();
        assert_eq!(batch.commit(), 2);
        assert_eq!(pop(&mut consumer), b"one");
        assert_eq!(consumer.peek_len(), Ok(3));
        assert_eq!(*consumer.pop().unwrap(), *b"two");
        assert_eq!(pop(&mut consumer), b"");
        assert_eq!(pop(&mut consumer), b"four");
        assert_eq!(consumer.last_lane(), Some(0));
        assert_eq!(consumer.pop().err(), Some(RecordPopError::Empty));
        assert!(consumer.is_empty() && producer.is_empty());
        let max = producer.max_record();
        assert_eq!(max, 120);
        let too_long = RecordPushError::TooLong { max: 120 };
        assert_eq!(producer.push(&vec![0; max + 1]), Err(too_long));
        producer.push(&vec![1; max]).unwrap();
        assert_eq!(pop(&mut consumer), vec![1; max]);
    }
}

/// A record that is too long for the buffer stays, and is the next, though the budget is used up and another lane has
/// records.
#[test]
fn a_record_that_is_too_long_for_the_buffer_is_the_next_one() {
    let queue = queue(2, 256, Delivery::AtLeastOnce);
    let (mut a, mut b) = (queue.producer(&Unleased).unwrap(), queue.producer(&Unleased).unwrap());
    let mut consumer = queue.consumer(&Unleased).unwrap();
    consumer.tune(Tuning::default().budget(1).release_every(1));
    for producer in [&mut a, &mut b] {
        producer.push(b"a longer record").unwrap();
        producer.push(b"short").unwrap();
    }
    let small = &mut [0; 8];
    for _ in 0..5 {
        assert_eq!(consumer.pop_into(small), Err(RecordPopError::BufferTooSmall { needed: 15 }));
    }
    let lane = consumer.last_lane();
    assert_eq!(pop(&mut consumer), b"a longer record");
    assert_eq!(consumer.last_lane(), lane);
    assert_eq!(pop(&mut consumer), b"a longer record");
    assert_ne!(consumer.last_lane(), lane, "the budget is one");
    assert_eq!([pop(&mut consumer), pop(&mut consumer)], [b"short", b"short"]);
}

#[test]
fn release_follows_the_delivery() {
    let late = queue(1, 256, Delivery::AtLeastOnce);
    let (mut producer, mut consumer) = (late.producer(&Unleased).unwrap(), late.consumer(&Unleased).unwrap());
    consumer.tune(Tuning::default().release_every(1));
    producer.push(b"1").unwrap();
    producer.push(b"2").unwrap();
    pop(&mut consumer);
    assert_eq!(producer.len(), 32, "released in the call that handed it out");
    drop(consumer.pop().unwrap());
    assert_eq!(producer.len(), 16);
    consumer.release();
    assert_eq!(producer.len(), 0);

    let early = queue(1, 256, Delivery::AtMostOnce);
    let (mut producer, mut consumer) =
        (early.producer(&Unleased).unwrap(), early.consumer(&Unleased).unwrap());
    producer.push(b"1").unwrap();
    pop(&mut consumer);
    assert_eq!(producer.len(), 0);
}

#[test]
fn bad_capacities_are_refused() {
    for capacity in [0, 32, 96] {
        let found = Queue::<Trusted>::bytes(capacity, &Options::new());
        assert!(matches!(found, Err(CreateError::Ring(_))), "{capacity}: {found:?}");
    }
}
