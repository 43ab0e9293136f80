//! Models of mistakes, which must be reported: a model that cannot fail proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use tidewire_mpsc::Delivery;

use crate::delivery::killed_consumer;
use crate::leases::Liar;
use crate::model::model;
use crate::{Gate, queue, rest};

/// Whether a model reports something.
fn reported(body: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(body)).is_err()
}

/// Reclaiming without proof of death: the lane of a running producer goes to another one.
#[test]
fn reclaiming_the_living_is_reported() {
    assert!(reported(|| {
        model(|| {
            let queue = Arc::new(queue::<Liar>(1, 2, Delivery::AtLeastOnce));
            let mut victim = queue.producer(&Liar).unwrap();
            let gate = Gate::new();
            let outside = gate.clone();
            let alive = thread::spawn(move || {
                outside.pass();
                victim.push(10).unwrap();
            });
            gate.pass();
            let mut thief = queue.producer(&Liar).unwrap();
            thief.push(20).unwrap();
            alive.join().unwrap();
            drop(thief);
            let mut consumer = queue.consumer(&Liar).unwrap();
            assert_eq!(rest(&mut consumer).len(), 2);
        });
    }));
}

/// Releasing later than the call that hands out repeats messages.
#[test]
fn releasing_in_a_later_call_repeats_messages_and_is_reported() {
    assert!(reported(|| {
        killed_consumer(
            Delivery::AtLeastOnce,
            |consumer, returned| returned.extend(consumer.pop().ok()),
            |returned, successor| assert!(!returned.iter().any(|m| successor.contains(m))),
        );
    }));
}

/// A consumer that takes the bitmap for the truth, and one that looks at the lane again after taking a hint away.
#[test]
fn a_hint_that_is_taken_for_the_truth_is_reported() {
    let body = |again: bool| {
        move || {
            let words = Arc::new([AtomicU64::new(0), AtomicU64::new(1), AtomicU64::new(0)]);
            let attaching = thread::spawn({
                let words = Arc::clone(&words);
                move || {
                    let [owner, bit, tail] = &*words;
                    owner.store(1, Ordering::Relaxed);
                    bit.fetch_or(1, Ordering::Release);
                    tail.store(1, Ordering::Release);
                }
            });
            let [owner, bit, tail] = &*words;
            let mut active = true;
            if owner.load(Ordering::Acquire) == 0 && tail.load(Ordering::Relaxed) == 0 {
                bit.fetch_and(0, Ordering::Acquire);
                active = again && owner.load(Ordering::Acquire) == 1;
            }
            attaching.join().unwrap();
            active |= bit.load(Ordering::Acquire) == 1;
            assert!(active, "a lane with a message, and nobody knows");
        }
    };
    model(body(true));
    assert!(reported(|| {
        model(body(false));
    }));
}
