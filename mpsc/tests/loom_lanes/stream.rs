//! Messages through lanes: nothing lost, nothing twice, in order per producer, batches whole.

use loom::{sync::Arc, thread};
use tidewire_mpsc::{Delivery, LaneState, Tuning};
use tidewire_ring::PushError;
use tidewire_shm::Unleased;

use crate::model::model_that_shows;
use crate::{Gate, of, pop, queue, rest};

const BOTH: [Delivery; 2] = [Delivery::AtLeastOnce, Delivery::AtMostOnce];

/// Three messages through two slots.
#[test]
fn one_lane_over_a_wrap() {
    for delivery in BOTH {
        model_that_shows(&["empty", "full", "wrap"], move |shown| {
            let queue = queue::<Unleased>(1, 2, delivery);
            let mut producer = queue.producer(&Unleased).unwrap();
            let mut consumer = queue.consumer(&Unleased).unwrap();
            consumer.tune(Tuning::default().release_every(1));
            let producing = thread::spawn({
                let shown = shown.clone();
                move || {
                    let mut next = 1;
                    for _ in 0..4 {
                        match producer.push(next) {
                            Ok(()) if next == 3 => return (producer, 4),
                            Ok(()) => next += 1,
                            Err(error) => {
                                assert_eq!(error, PushError::Full);
                                shown.note("full");
                            }
                        }
                    }
                    (producer, next)
                }
            });
            let mut got: Vec<u64> = (0..4).filter_map(|_| pop(&mut consumer)).collect();
            shown.note_if(got.is_empty(), "empty");
            shown.note_if(got.len() > 2, "wrap");
            let (mut producer, next) = producing.join().unwrap();
            got.extend(rest(&mut consumer));
            for late in next..=3 {
                producer.push(late).unwrap();
                got.extend(rest(&mut consumer));
            }
            assert_eq!(got, [1, 2, 3]);
        });
    }
}

/// Two producers that attach while the consumer works.
#[test]
fn two_producers_attach_and_push() {
    for (delivery, budget) in [(Delivery::AtLeastOnce, 1), (Delivery::AtMostOnce, 64)] {
        model_that_shows(&["first", "second", "turn"], move |shown| {
            // Room for three: the second one may get the lane of the first, with its messages.
            let queue = queue::<Unleased>(2, 4, delivery);
            let mut consumer = queue.consumer(&Unleased).unwrap();
            consumer.tune(Tuning::default().budget(budget));
            let mut first = queue.producer(&Unleased).unwrap();
            let gate = Gate::new();
            let one = thread::spawn(move || {
                first.push(10).unwrap();
                first.push(11).unwrap();
            });
            let here = gate.clone();
            let two = thread::spawn(move || {
                here.pass();
                let mut second = queue.producer(&Unleased).unwrap();
                second.push(20).unwrap();
                drop(second);
                queue
            });
            gate.pass();
            let mut got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
            shown.note_if(got.first() == Some(&10), "first");
            shown.note_if(got.first() == Some(&20), "second");
            shown.note_if(got.len() == 2 && of(&got, 10).len() == 1, "turn");
            one.join().unwrap();
            drop(two.join().unwrap());
            got.extend(rest(&mut consumer));
            assert_eq!((of(&got, 10), of(&got, 20)), (vec![10, 11], vec![20]), "{got:?}");
        });
    }
}

/// A batch of two is seen whole or not at all.
#[test]
fn a_batch_is_whole() {
    for delivery in BOTH {
        model_that_shows(&["nothing", "both"], move |shown| {
            let queue = queue::<Unleased>(1, 4, delivery);
            let mut producer = queue.producer(&Unleased).unwrap();
            let mut consumer = queue.consumer(&Unleased).unwrap();
            let producing = thread::spawn(move || {
                producer.push_slice(&[1, 2]).unwrap();
                producer.push(3).unwrap();
            });
            let mut got = Vec::new();
            match pop(&mut consumer) {
                None => shown.note("nothing"),
                Some(first) => {
                    shown.note("both");
                    got = vec![first, pop(&mut consumer).expect("the other half of the batch")];
                }
            }
            producing.join().unwrap();
            got.extend(rest(&mut consumer));
            assert_eq!(got, [1, 2, 3]);
        });
    }
}

/// A lane whose consumer has nothing more to take there gives its slots back while it takes from another one.
#[test]
fn a_lane_that_is_left_is_released() {
    model_that_shows(&["room", "full"], |shown| {
        let queue = queue::<Unleased>(2, 1, Delivery::AtLeastOnce);
        let mut first = queue.producer(&Unleased).unwrap();
        let mut second = queue.producer(&Unleased).unwrap();
        let mut consumer = queue.consumer(&Unleased).unwrap();
        first.push(10).unwrap();
        second.push(20).unwrap();
        let gate = Gate::new();
        let pushing = thread::spawn({
            let (shown, gate) = (shown.clone(), gate.clone());
            move || {
                gate.pass();
                let more = first.push(11).is_ok();
                shown.note(if more { "room" } else { "full" });
                (first, more)
            }
        });
        let mut got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
        assert_eq!(got.len(), 2);
        gate.pass();
        got.extend(pop(&mut consumer));
        let (mut first, more) = pushing.join().unwrap();
        got.extend(rest(&mut consumer));
        if !more {
            assert_eq!(first.push(11), Ok(()), "both lanes were found empty");
            got.extend(rest(&mut consumer));
        }
        assert_eq!((of(&got, 10), of(&got, 20)), (vec![10, 11], vec![20]));
    });
}

/// Whoever looks on sees numbers that were true at some time, and never a lane that lies.
#[test]
fn an_observer_takes_nobody_for_corrupt() {
    model_that_shows(&["before", "between", "after"], |shown| {
        let queue = Arc::new(queue::<Unleased>(1, 2, Delivery::AtMostOnce));
        let mut producer = queue.producer(&Unleased).unwrap();
        let mut consumer = queue.consumer(&Unleased).unwrap();
        let moving = thread::spawn(move || {
            producer.push(1).unwrap();
            assert_eq!(pop(&mut consumer), Some(1));
            (producer, consumer)
        });
        let seen = queue.lanes().next().unwrap();
        assert_eq!(seen.state, LaneState::Owned);
        assert!(seen.sent <= 1 && seen.received <= 1 && seen.depth <= 1, "{seen:?}");
        shown.note(match (seen.sent, seen.received) {
            (0, _) => "before",
            (_, 0) => "between",
            _ => "after",
        });
        drop(moving.join().unwrap());
    });
}
