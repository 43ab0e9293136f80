//! Two threads over one ring of fixed slots, every way to move a message. Written for the sanitizers, which see each
//! access of both threads; without them they check order and contents.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

use std::thread;

use bytemuck::Pod;
use tidewire_ring::fixed::{Consumer, Producer, Ring};
use tidewire_ring::{PopError, PushError, Tuning};

const MESSAGES: u64 = 4_000;

/// A message that carries its number all over.
trait Message: Pod + PartialEq + core::fmt::Debug + Send {
    fn number(n: u64) -> Self;
}

impl Message for u64 {
    fn number(n: u64) -> Self {
        n
    }
}

impl<const N: usize> Message for [u64; N]
where
    [u64; N]: Pod,
{
    fn number(n: u64) -> Self {
        core::array::from_fn(|i| n ^ i as u64)
    }
}

impl Message for [u8; 3] {
    fn number(n: u64) -> Self {
        [n as u8, (n >> 8) as u8, !n as u8]
    }
}

/// Moves all messages from one thread to another. `send` gets the number of the next message and says how many it
/// pushed; `receive` likewise for popped.
fn stream<T: Message>(
    capacity: usize,
    tuning: Tuning,
    send: fn(&mut Producer<T>, u64) -> Result<usize, PushError>,
    receive: fn(&mut Consumer<T>, u64) -> Result<usize, PopError>,
) {
    let (mut producer, mut consumer) = Ring::<T>::on_heap(capacity).unwrap().split().unwrap();
    consumer.tune(tuning);
    let sender = thread::spawn(move || {
        let mut next = 0;
        while next < MESSAGES {
            match send(&mut producer, next) {
                Ok(n) => next += n as u64,
                Err(PushError::Full) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let mut next = 0;
    while next < MESSAGES {
        match receive(&mut consumer, next) {
            Ok(n) => next += n as u64,
            Err(PopError::Empty) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    sender.join().unwrap();
    assert_eq!(consumer.pop().err(), Some(PopError::Empty));
    assert_eq!(consumer.position(), MESSAGES);
}

fn push<T: Message>(producer: &mut Producer<T>, next: u64) -> Result<usize, PushError> {
    producer.push(T::number(next)).map(|()| 1)
}

fn pop<T: Message>(consumer: &mut Consumer<T>, next: u64) -> Result<usize, PopError> {
    consumer.pop().map(|message| {
        assert_eq!(message, T::number(next));
        1
    })
}

/// One to seven messages, as many as are left.
fn batch(next: u64) -> u64 {
    (1 + next % 7).min(MESSAGES - next)
}

fn push_batch<T: Message>(producer: &mut Producer<T>, next: u64) -> Result<usize, PushError> {
    let messages: Vec<T> = (next..next + batch(next)).map(T::number).collect();
    producer.push_slice(&messages).map(|()| messages.len())
}

fn pop_batch<T: Message>(consumer: &mut Consumer<T>, next: u64) -> Result<usize, PopError> {
    let mut messages = [T::zeroed(); 5];
    let n = consumer.pop_into(&mut messages)?;
    for (i, message) in messages[..n].iter().enumerate() {
        assert_eq!(*message, T::number(next + i as u64));
    }
    Ok(n)
}

/// Through the slots themselves; the last one reserved stays free.
fn fill<T: Message>(producer: &mut Producer<T>, next: u64) -> Result<usize, PushError> {
    let n = batch(next) as usize;
    let mut slots = producer.reserve(n + 1)?;
    let (first, second) = slots.as_mut_slices();
    for (i, slot) in first.iter_mut().chain(second).enumerate() {
        *slot = T::number(next + i as u64);
    }
    slots.commit(n).unwrap();
    Ok(n)
}

/// In the slots themselves; what lies behind the first three is read again.
fn view<T: Message>(consumer: &mut Consumer<T>, next: u64) -> Result<usize, PopError> {
    let mut chunk = consumer.read_chunk(6)?;
    let n = chunk.len().min(3);
    let (first, second) = chunk.as_slices();
    for (i, message) in first.iter().chain(second).enumerate() {
        assert_eq!(*message, T::number(next + i as u64));
    }
    chunk.release(n).unwrap();
    Ok(n)
}

/// Every way in with every way out, over a ring that wraps every few messages.
fn every_way<T: Message>(tuning: Tuning) {
    for capacity in [8, 64] {
        stream::<T>(capacity, tuning, push, pop);
        stream::<T>(capacity, tuning, push_batch, pop_batch);
        stream::<T>(capacity, tuning, fill, view);
        stream::<T>(capacity, tuning, push, view);
        stream::<T>(capacity, tuning, fill, pop_batch);
    }
}

#[test]
fn threads_exchange_8_bytes_in_order() {
    every_way::<u64>(Tuning::default());
}

#[test]
fn threads_exchange_64_bytes_in_order() {
    every_way::<[u64; 8]>(Tuning::default());
}

#[test]
fn threads_exchange_1024_bytes_in_order() {
    every_way::<[u64; 128]>(Tuning::default());
}

#[test]
fn threads_exchange_odd_sizes_in_order() {
    every_way::<[u8; 3]>(Tuning::default());
}

#[test]
fn threads_exchange_without_touch_and_with_late_release() {
    every_way::<[u64; 8]>(Tuning::default().touch(false).release_every(8));
}

#[test]
fn threads_exchange_through_a_single_slot() {
    stream::<[u64; 8]>(1, Tuning::default(), push, pop);
}

#[test]
fn roles_pass_from_thread_to_thread() {
    let ring = Ring::<[u64; 8]>::on_heap(16).unwrap();
    for round in 0..200 {
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let sender = thread::spawn(move || {
            for i in 0..20 {
                while producer.push(<[u64; 8]>::number(round * 20 + i)).is_err() {
                    thread::yield_now();
                }
            }
        });
        let receiver = thread::spawn(move || {
            for i in 0..20 {
                let message = loop {
                    match consumer.pop() {
                        Ok(message) => break message,
                        Err(PopError::Empty) => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                };
                assert_eq!(message, <[u64; 8]>::number(round * 20 + i));
            }
        });
        sender.join().unwrap();
        receiver.join().unwrap();
    }
}
