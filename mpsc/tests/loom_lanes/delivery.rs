//! What becomes of the messages that a consumer had in its hand when it was killed.

use std::sync::Arc;

use loom::thread;
use tidewire_mpsc::Delivery;
use tidewire_shm::sync::hook;

use crate::leases::Leases;
use crate::model::at_every_step;
use crate::{Gate, queue, rest};

/// Kills a consumer at each step of some work, while a producer pushes; gives what it returned and what a successor
/// sees to `judge`.
pub(crate) fn killed_consumer(
    delivery: Delivery,
    work: fn(&mut tidewire_mpsc::fixed::Consumer<u64>, &mut Vec<u64>),
    judge: fn(&[u64], &[u64]),
) {
    at_every_step(move |step| {
        let (queue, leases) = (Arc::new(queue::<Leases>(1, 4, delivery)), Leases::new());
        let mut producer = queue.producer(&leases).unwrap();
        producer.push(10).unwrap();
        let gate = Gate::new();
        let dying = thread::spawn({
            let (queue, leases, gate) = (Arc::clone(&queue), leases.clone(), gate.clone());
            move || {
                let mut returned = Vec::new();
                gate.pass();
                let killed = hook::killed_after(step, || {
                    let mut consumer = queue.consumer(&leases).unwrap();
                    work(&mut consumer, &mut returned);
                });
                leases.bury();
                (returned, killed.is_none())
            }
        });
        gate.pass();
        producer.push(11).unwrap();
        producer.push(12).unwrap();
        let (returned, killed) = dying.join().unwrap();
        let mut successor = queue.consumer(&leases).expect("the dead one's role");
        judge(&returned, &rest(&mut successor));
        killed
    });
}

fn pop_two(consumer: &mut tidewire_mpsc::fixed::Consumer<u64>, returned: &mut Vec<u64>) {
    for _ in 0..2 {
        returned.extend(consumer.pop().ok());
    }
}

fn pop_batch(consumer: &mut tidewire_mpsc::fixed::Consumer<u64>, returned: &mut Vec<u64>) {
    let mut two = [0; 2];
    for _ in 0..2 {
        let n = consumer.pop_into(&mut two).unwrap_or(0);
        returned.extend(&two[..n]);
    }
}

/// A message counts as returned when it was read in place and released.
fn read_in_place(consumer: &mut tidewire_mpsc::fixed::Consumer<u64>, returned: &mut Vec<u64>) {
    for _ in 0..2 {
        if let Ok(mut chunk) = consumer.read_chunk(1) {
            returned.extend(chunk.as_slices().0);
            chunk.release(1).unwrap();
        }
    }
}

/// Every message is returned or seen by the successor; some perhaps by both.
fn nothing_lost(returned: &[u64], successor: &[u64]) {
    let seen: Vec<u64> = (10..13).filter(|m| returned.contains(m) || successor.contains(m)).collect();
    assert_eq!(seen, [10, 11, 12], "{returned:?}, then {successor:?}");
    assert!(successor.windows(2).all(|two| two[0] + 1 == two[1]), "{successor:?}");
}

/// No message twice; at most as many as one call takes are missing.
fn nothing_twice(returned: &[u64], successor: &[u64]) {
    let all = [returned, successor].concat();
    assert!(all.windows(2).all(|two| two[0] < two[1]), "{returned:?}, then {successor:?}");
    assert!(all.len() + 2 >= 3);
}

#[test]
fn at_least_once_loses_nothing() {
    killed_consumer(Delivery::AtLeastOnce, pop_two, nothing_lost);
}

#[test]
fn at_least_once_loses_nothing_of_a_batch() {
    killed_consumer(Delivery::AtLeastOnce, pop_batch, nothing_lost);
}

#[test]
fn at_most_once_repeats_nothing() {
    killed_consumer(Delivery::AtMostOnce, pop_two, |returned, successor| {
        nothing_twice(returned, successor);
        assert!(returned.len() + successor.len() + 1 >= 3, "more than the one in hand is gone");
    });
}

#[test]
fn at_most_once_repeats_nothing_of_a_batch() {
    killed_consumer(Delivery::AtMostOnce, pop_batch, nothing_twice);
}

#[test]
fn what_is_read_in_place_is_never_lost() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        killed_consumer(delivery, read_in_place, nothing_lost);
    }
}
