//! Two threads over one ring of records, every way to move a record. Written for the sanitizers, which see each
//! access of both threads; without them they check order and contents.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

use std::thread;

use tidewire_ring::bytes::{Consumer, Producer, Ring};
use tidewire_ring::{RecordPopError, RecordPushError, Tuning};

const RECORDS: u64 = 6_000;
const LONGEST: usize = 100;

/// The record of a number: 0 to 99 bytes.
fn record(n: u64) -> Vec<u8> {
    let len = (n.wrapping_mul(0x9E37_79B9) >> 7) as usize % LONGEST;
    (0..len).map(|i| (n as u8).wrapping_add(i as u8)).collect()
}

/// Moves all records from one thread to another; see the argument functions.
fn stream(
    capacity: usize,
    tuning: Tuning,
    send: fn(&mut Producer, u64) -> Result<u64, RecordPushError>,
    receive: fn(&mut Consumer, u64) -> Result<(), RecordPopError>,
) {
    let (mut producer, mut consumer) = Ring::on_heap(capacity).unwrap().split().unwrap();
    consumer.tune(tuning);
    let sender = thread::spawn(move || {
        let mut next = 0;
        while next < RECORDS {
            match send(&mut producer, next) {
                Ok(n) => next += n,
                Err(RecordPushError::Full) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut next = 0;
    while next < RECORDS {
        match receive(&mut consumer, next) {
            Ok(()) => next += 1,
            Err(RecordPopError::Empty) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    sender.join().unwrap();
    assert_eq!(consumer.peek_len(), Err(RecordPopError::Empty));
}

fn push(producer: &mut Producer, next: u64) -> Result<u64, RecordPushError> {
    producer.push(&record(next)).map(|()| 1)
}

/// Up to three records with one publication; fewer where there is no room for more.
fn batch(producer: &mut Producer, next: u64) -> Result<u64, RecordPushError> {
    let mut batch = producer.batch();
    batch.push(&record(next))?;
    for n in next + 1..RECORDS.min(next + 3) {
        if batch.push(&record(n)).is_err() {
            break;
        }
    }
    Ok(batch.commit() as u64)
}

/// In place; less is committed than was reserved.
fn fill(producer: &mut Producer, next: u64) -> Result<u64, RecordPushError> {
    let record = record(next);
    let mut reservation = producer.reserve(record.len() + 9)?;
    reservation.as_mut_slice()[..record.len()].copy_from_slice(&record);
    reservation.commit(record.len()).unwrap();
    Ok(1)
}

fn pop_into(consumer: &mut Consumer, next: u64) -> Result<(), RecordPopError> {
    let mut buffer = [0; LONGEST];
    let n = consumer.pop_into(&mut buffer)?;
    assert_eq!(buffer[..n], record(next));
    Ok(())
}

fn view(consumer: &mut Consumer, next: u64) -> Result<(), RecordPopError> {
    let found = consumer.pop()?;
    assert_eq!(*found, *record(next));
    Ok(())
}

#[test]
fn threads_exchange_records_in_order() {
    for capacity in [256, 4096] {
        for receive in [pop_into, view] {
            for send in [push, batch, fill] {
                stream(capacity, Tuning::default(), send, receive);
            }
        }
    }
}

#[test]
fn threads_exchange_records_without_touch_and_with_late_release() {
    let tuning = Tuning::default().touch(false).release_every(512);
    stream(1024, tuning, push, pop_into);
    stream(1024, tuning, batch, view);
}

#[test]
fn threads_exchange_long_records_in_order() {
    let (mut producer, mut consumer) = Ring::on_heap(4096).unwrap().split().unwrap();
    let sender = thread::spawn(move || {
        for n in 0..1_000_usize {
            let record = vec![n as u8; 1_000 + n];
            while producer.push(&record) == Err(RecordPushError::Full) {
                thread::yield_now();
            }
        }
    });
    let mut buffer = [0; 2_000];
    for n in 0..1_000_usize {
        let len = loop {
            match consumer.pop_into(&mut buffer) {
                Ok(len) => break len,
                Err(RecordPopError::Empty) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(buffer[..len], vec![n as u8; 1_000 + n]);
    }
    sender.join().unwrap();
}
