//! Lanes of the dead: reclaimed once, by whoever is first, and never from the living.

use std::sync::Arc;

use loom::thread;
use tidewire_mpsc::{AttachError, Delivery, LaneState};
use tidewire_shm::sync::hook;

use crate::leases::Leases;
use crate::model::{at_every_step, model, model_that_shows};
use crate::{Gate, pop, queue, rest};

/// A queue with one lane whose owner pushed 10 and was killed.
fn with_a_dead_owner(leases: &Leases) -> Arc<tidewire_mpsc::fixed::Queue<u64>> {
    let queue = Arc::new(queue::<Leases>(1, 2, Delivery::AtLeastOnce));
    let dying = thread::spawn({
        let (queue, leases) = (Arc::clone(&queue), leases.clone());
        move || {
            let killed = hook::killed_after(u64::MAX, || {
                let mut producer = queue.producer(&leases).unwrap();
                producer.push(10).unwrap();
                hook::die();
            });
            leases.bury();
            killed.unwrap();
        }
    });
    dying.join().unwrap();
    assert!(queue.producer_owner(0).is_some());
    queue
}

/// The consumer reclaims while somebody attaches: one owner in the end, old messages first, none lost.
#[test]
fn reclaim_against_attach() {
    model_that_shows(&["reclaimed", "replaced", "refused"], |shown| {
        let leases = Leases::new();
        let queue = with_a_dead_owner(&leases);
        let mut consumer = queue.consumer(&leases).unwrap();
        let gate = Gate::new();
        let attaching = thread::spawn({
            let (queue, leases, gate) = (Arc::clone(&queue), leases.clone(), gate.clone());
            move || {
                gate.pass();
                let mut producer = queue.producer(&leases).ok()?;
                producer.push(20).unwrap();
                Some(producer)
            }
        });
        gate.pass();
        let reclaimed = consumer.reclaim(&leases).unwrap();
        let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
        let attached = attaching.join().unwrap();
        shown.note_if(reclaimed == 1, "reclaimed");
        shown.note_if(reclaimed == 0 && attached.is_some(), "replaced");
        shown.note_if(attached.is_none(), "refused");
        got.extend(rest(&mut consumer));
        assert_eq!(got, if attached.is_some() { vec![10, 20] } else { vec![10] });
        assert_eq!(queue.producer_owner(0), attached.as_ref().map(|producer| producer.owner()));
        assert!(reclaimed == 1 || attached.is_some(), "somebody has it");
    });
}

/// Of two that reclaim one does, and the lane is free once.
#[test]
fn of_two_reclaimers_one_does_it() {
    model_that_shows(&["mine", "other"], |shown| {
        let leases = Leases::new();
        let queue = with_a_dead_owner(&leases);
        let gate = Gate::new();
        let other = thread::spawn({
            let (queue, leases, gate) = (Arc::clone(&queue), leases.clone(), gate.clone());
            move || {
                gate.pass();
                queue.reclaim(&leases).unwrap()
            }
        });
        gate.pass();
        let mine = queue.reclaim(&leases).unwrap();
        let other = other.join().unwrap();
        shown.note(if mine == 1 { "mine" } else { "other" });
        assert_eq!(mine + other, 1);
        assert_eq!(queue.lanes().next().map(|lane| (lane.state, lane.owners)), Some((LaneState::Free, 1)));
        let mut consumer = queue.consumer(&leases).unwrap();
        assert_eq!(rest(&mut consumer), [10]);
    });
}

/// The owner dies, somebody reclaims its lane, and the consumer looks around meanwhile: if it lets the lane go, which is
/// free then, it has seen all that the dead one had pushed.
#[test]
fn a_lane_freed_for_the_dead_is_not_left_before_it_is_empty() {
    model_that_shows(&["freed", "freed later", "found at once", "found later"], |shown| {
        let leases = Leases::new();
        let queue = Arc::new(queue::<Leases>(1, 2, Delivery::AtLeastOnce));
        let mut producer = queue.producer(&leases).unwrap();
        let mut consumer = queue.consumer(&leases).unwrap();
        let gate = Gate::new();
        let reclaiming = thread::spawn({
            let (queue, leases, gate) = (Arc::clone(&queue), leases.clone(), gate.clone());
            move || {
                let dying = thread::spawn(move || {
                    producer.push(10).unwrap();
                    hook::killed_after(0, move || producer.push(11)).is_none()
                });
                assert!(dying.join().unwrap());
                leases.bury();
                assert_eq!(queue.reclaim(&leases), Ok(1));
                gate.pass();
            }
        });
        gate.pass();
        consumer.rescan();
        // Read behind the look around, so that it says nothing to it.
        shown.note(if queue.producer_owner(0).is_none() { "freed" } else { "freed later" });
        let mut got = rest(&mut consumer);
        shown.note(if got.is_empty() { "found later" } else { "found at once" });
        reclaiming.join().unwrap();
        // Without another look at the owner words.
        got.extend(rest(&mut consumer));
        assert_eq!(got, [10]);
    });
}

/// A reclaimer or attacher killed at any step is followed by another one.
#[test]
fn a_reclaimer_killed_at_any_step_is_followed() {
    at_every_step(|step| {
        let leases = Leases::new();
        let queue = with_a_dead_owner(&leases);
        let gate = Gate::new();
        let dying = thread::spawn({
            let (queue, leases, gate) = (Arc::clone(&queue), leases.clone(), gate.clone());
            move || {
                gate.pass();
                let killed = hook::killed_after(step, || queue.reclaim(&leases).unwrap()).is_none();
                leases.bury();
                killed
            }
        });
        gate.pass();
        let early = queue.producer(&leases).ok();
        let killed = dying.join().unwrap();
        let mut producer = match early {
            Some(producer) => producer,
            None => queue.producer(&leases).expect("nobody holds it any more"),
        };
        producer.push(20).unwrap();
        let mut consumer = queue.consumer(&leases).unwrap();
        assert_eq!(rest(&mut consumer), [10, 20]);
        killed
    });
}

/// A living owner keeps its lane against everybody, though it does nothing.
#[test]
fn the_living_keep_their_lane() {
    model(|| {
        let leases = Leases::new();
        let queue = Arc::new(queue::<Leases>(1, 2, Delivery::AtLeastOnce));
        let mut owner = queue.producer(&leases).unwrap();
        let gate = Gate::new();
        let taking = thread::spawn({
            let (queue, leases, gate) = (Arc::clone(&queue), leases.clone(), gate.clone());
            move || {
                gate.pass();
                assert_eq!(queue.reclaim(&leases), Ok(0));
                queue.producer(&leases).unwrap_err()
            }
        });
        gate.pass();
        owner.push(10).unwrap();
        assert_eq!(taking.join().unwrap(), AttachError::LanesExhausted { lanes: 1, corrupt: 0 });
        assert_eq!(queue.producer_owner(0), Some(owner.owner()));
    });
}
