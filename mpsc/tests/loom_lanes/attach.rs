//! Taking and leaving lanes, while others do the same and the consumer works.

use std::sync::Arc;

use loom::thread;
use tidewire_mpsc::fixed::Queue;
use tidewire_mpsc::{AttachError, Delivery, LaneState, Options};
use tidewire_shm::sync::hook;
use tidewire_shm::{Liveness, Region, Unleased};

use crate::leases::Leases;
use crate::model::{at_every_step, model, model_that_shows};
use crate::{Gate, of, pop, queue, rest};

/// A queue over memory that an older one used: the positions of its lane are not zero.
fn over_an_old_one<V: Liveness>(lanes: u32) -> Queue<u64> {
    let options = Options::new().lanes(lanes).liveness::<V>();
    let old = Options::new().lanes(lanes);
    let region = Region::heap(Queue::<u64>::bytes(2, &options).unwrap()).unwrap();
    // SAFETY: the old queue is gone before the new one is made.
    let queue = Queue::<u64>::create(unsafe { region.alias() }, 2, &old).unwrap();
    let mut producer = queue.producer(&Unleased).unwrap();
    let mut consumer = queue.consumer(&Unleased).unwrap();
    producer.push(99).unwrap();
    consumer.pop().unwrap();
    producer.push(98).unwrap();
    drop((producer, consumer, queue));
    Queue::create(region, 2, &options).unwrap()
}

/// The first owner of a lane prepares it; the consumer never sees what lay there before.
#[test]
fn what_an_older_queue_left_is_never_seen() {
    model_that_shows(&["found early", "popped", "nothing"], |shown| {
        let queue = over_an_old_one::<Unleased>(1);
        let mut consumer = queue.consumer(&Unleased).unwrap();
        let (gate, here) = (Gate::new(), Gate::new());
        let (outside, inside) = (gate.clone(), here.clone());
        let attaching = thread::spawn(move || {
            outside.pass();
            let mut producer = queue.producer(&Unleased).unwrap();
            inside.pass();
            assert_eq!(producer.position(), 0);
            producer.push(10).unwrap();
        });
        gate.pass();
        here.pass();
        consumer.rescan();
        shown.note_if(consumer.last_lane().is_some() && consumer.is_empty(), "found early");
        let mut got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
        shown.note(if got.is_empty() { "nothing" } else { "popped" });
        attaching.join().unwrap();
        got.extend(rest(&mut consumer));
        assert_eq!(got, [10]);
        assert_eq!(consumer.quarantined().count(), 0);
    });
}

/// The same for the second owner, which did not prepare the lane itself.
#[test]
fn the_next_owner_starts_where_the_first_one_ended() {
    for stale in [false, true] {
        model_that_shows(&["followed", "refused"], move |shown| {
            let queue = Arc::new(over_an_old_one::<Unleased>(1));
            let first = thread::spawn({
                let queue = Arc::clone(&queue);
                move || {
                    queue.producer(&Unleased).ok().map(|mut producer| producer.push(10).unwrap()).is_some()
                }
            });
            let second = thread::spawn({
                let (queue, shown) = (Arc::clone(&queue), shown.clone());
                move || {
                    hook::fail_stale_cas(stale);
                    let Ok(mut producer) = queue.producer(&Unleased) else {
                        shown.note("refused");
                        return false;
                    };
                    shown.note_if(producer.position() == 1, "followed");
                    producer.push(20).unwrap();
                    true
                }
            });
            let (first, second) = (first.join().unwrap(), second.join().unwrap());
            let mut consumer = queue.consumer(&Unleased).unwrap();
            let got = rest(&mut consumer);
            let expected: Vec<u64> =
                [(first, 10), (second, 20)].iter().filter(|m| m.0).map(|m| m.1).collect();
            assert!(first || second);
            assert_eq!(
                (of(&got, 10).len(), of(&got, 20).len(), got.len()),
                (usize::from(first), usize::from(second), expected.len())
            );
        });
    }
}

/// Of two that want the only lane one gets it; of two that want two lanes each gets one.
#[test]
fn of_two_attachers_each_gets_a_lane_of_its_own_or_is_refused() {
    for lanes in [1, 2] {
        model(move || {
            let (queue, gate) = (Arc::new(queue::<Unleased>(lanes, 2, Delivery::AtLeastOnce)), Gate::new());
            let other = thread::spawn({
                let (queue, gate) = (Arc::clone(&queue), gate.clone());
                move || {
                    gate.pass();
                    queue.producer(&Unleased)
                }
            });
            gate.pass();
            let results = [queue.producer(&Unleased), other.join().unwrap()];
            let got: Vec<u32> = results.iter().flatten().map(|producer| producer.lane()).collect();
            assert_eq!(got.len(), lanes as usize);
            assert!(got.len() == 1 || got[0] != got[1], "one lane for two");
            for refused in results.iter().filter_map(|result| result.as_ref().err()) {
                assert_eq!(*refused, AttachError::LanesExhausted { lanes, corrupt: 0 });
            }
        });
    }
}

/// The consumer lets a lane go that is free and empty, while somebody takes it and pushes: the message is found by
/// the hint alone, without another look at all owner words.
#[test]
fn a_lane_that_leaves_the_rota_is_not_forgotten() {
    model_that_shows(&["left", "kept"], |shown| {
        let queue = queue::<Unleased>(1, 2, Delivery::AtLeastOnce);
        let mut consumer = queue.consumer(&Unleased).unwrap();
        let mut first = queue.producer(&Unleased).unwrap();
        first.push(10).unwrap();
        assert_eq!(pop(&mut consumer), Some(10));
        drop(first);
        let (gate, here) = (Gate::new(), Gate::new());
        let (outside, inside) = (gate.clone(), here.clone());
        let attaching = thread::spawn(move || {
            outside.pass();
            let mut second = queue.producer(&Unleased).unwrap();
            inside.pass();
            second.push(20).unwrap();
        });
        gate.pass();
        here.pass();
        consumer.rescan();
        shown.note(if consumer.last_lane().is_none() { "left" } else { "kept" });
        attaching.join().unwrap();
        assert_eq!(rest(&mut consumer), [20]);
    });
}

/// Detaching while the consumer drains and looks around: nothing comes after the lane is seen free and empty.
#[test]
fn detach_and_drain() {
    model_that_shows(&["free", "held"], |shown| {
        let queue = queue::<Unleased>(1, 2, Delivery::AtLeastOnce);
        let mut consumer = queue.consumer(&Unleased).unwrap();
        let mut producer = queue.producer(&Unleased).unwrap();
        let gate = Gate::new();
        let outside = gate.clone();
        let leaving = thread::spawn(move || {
            outside.pass();
            producer.push(10).unwrap();
            outside.pass();
            producer.push(11).unwrap();
        });
        gate.pass();
        let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
        consumer.rescan();
        let free = consumer.lanes().all(|lane| lane.state == LaneState::Free);
        shown.note(if free { "free" } else { "held" });
        got.extend(rest(&mut consumer));
        if free {
            assert_eq!(got, [10, 11], "a free lane is complete");
        }
        leaving.join().unwrap();
        got.extend(rest(&mut consumer));
        assert_eq!(got, [10, 11]);
        consumer.rescan();
        assert_eq!(consumer.last_lane(), None, "free and empty");
        drop(queue);
    });
}

/// Killed at any step from before the lease to behind the detach: what was acknowledged is delivered, at most one
/// message more, and the lane goes to whoever comes next.
#[test]
fn a_producer_killed_at_any_step_leaves_a_prefix_and_a_usable_lane() {
    at_every_step(|step| {
        let (queue, leases) = (Arc::new(over_an_old_one::<Leases>(1)), Leases::new());
        let mut consumer = queue.consumer(&leases).unwrap();
        let gate = Gate::new();
        let dying = thread::spawn({
            let (queue, leases, gate) = (Arc::clone(&queue), leases.clone(), gate.clone());
            move || {
                let mut pushed = 0;
                gate.pass();
                let outcome = hook::killed_after(step, || {
                    let mut producer = queue.producer(&leases).unwrap();
                    for message in 10..12 {
                        producer.push(message).unwrap();
                        pushed += 1;
                    }
                });
                leases.bury();
                (pushed, outcome.is_none())
            }
        });
        gate.pass();
        consumer.rescan();
        let mut got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
        let (pushed, killed) = dying.join().unwrap();
        got.extend(rest(&mut consumer));
        let mut next = queue.producer(&leases).expect("the dead one's lane");
        next.push(20).unwrap();
        got.extend(rest(&mut consumer));
        assert_eq!(got.pop(), Some(20), "{got:?}");
        assert!(
            got == [10, 11][..got.len()] && (pushed..=pushed + 1).contains(&got.len()),
            "{pushed}: {got:?}"
        );
        assert_eq!(consumer.quarantined().count(), 0);
        killed
    });
}
