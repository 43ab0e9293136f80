//! The consumer gives back lanes of the dead, against attachers and against its own death.

use loom::thread;
use tidewire_mpsc::{AttachError, Delivery};
use tidewire_shm::sync::hook;

use crate::model::{at_every_step, model_that_shows};
use crate::{pop, queue, rest};

/// An attacher finds the lane still taken, or free and with the right end.
#[test]
fn an_attacher_meets_a_reclaim() {
    model_that_shows(&["taken", "given"], |shown| {
        let (queue, leases) = queue(1, 4, Delivery::AtLeastOnce);
        let mut dead = queue.producer(&leases).unwrap();
        let mut consumer = queue.consumer(&leases).unwrap();
        dead.push(10).unwrap();
        // Its push of two is cut off behind the compare-exchange: the slots, the two looks at the word, then the end.
        let killed =
            thread::spawn(move || hook::killed_after(3, move || dead.push_slice(&[11, 12])).is_none());
        assert!(killed.join().unwrap());
        leases.bury();
        let attaching = thread::spawn({
            let (queue, leases) = (queue.clone(), leases.clone());
            move || match queue.producer(&leases) {
                Ok(mut next) => {
                    next.push(13).unwrap();
                    Some(next)
                }
                Err(AttachError::LanesExhausted { corrupt: 0, .. }) => None,
                Err(error) => panic!("{error}"),
            }
        });
        let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
        assert_eq!(consumer.reclaim(&leases).unwrap(), 1);
        let next = attaching.join().unwrap();
        shown.note(if next.is_some() { "given" } else { "taken" });
        let mut next = next.unwrap_or_else(|| {
            let mut next = queue.producer(&leases).unwrap();
            next.push(13).unwrap();
            next
        });
        got.extend(rest(&mut consumer));
        assert_eq!(got, [10, 11, 12, 13]);
        next.push(14).unwrap();
        assert_eq!(rest(&mut consumer), [14]);
    });
}

/// Killed at any access of a reclaim, the consumer is followed by one that reclaims again and finds the same end.
#[test]
fn a_reclaim_killed_anywhere_is_done_again() {
    at_every_step(|step| {
        let (queue, leases) = queue(2, 4, Delivery::AtLeastOnce);
        let mut dead = queue.producer(&leases).unwrap();
        let mut victim = queue.consumer(&leases).unwrap();
        dead.push(10).unwrap();
        dead.push(11).unwrap();
        assert_eq!(pop(&mut victim), Some(10));
        let lane = dead.lane();
        assert!(
            thread::spawn(move || hook::killed_after(3, move || dead.push(12)).is_none()).join().unwrap()
        );
        leases.bury();
        let dying = thread::spawn({
            let leases = leases.clone();
            move || {
                hook::killed_after(step, move || {
                    victim.reclaim(&leases).unwrap();
                    std::mem::forget(victim);
                })
                .is_none()
            }
        });
        // Another one attaches meanwhile, to either lane.
        let mut other = queue.producer(&leases).unwrap();
        other.push(20).unwrap();
        if !dying.join().unwrap() {
            return false;
        }
        leases.bury();
        let mut successor = queue.consumer(&leases).unwrap();
        successor.reclaim(&leases).unwrap();
        let mut next = queue.producer(&leases).unwrap();
        assert!(next.lane() == lane || other.lane() == lane, "the lane of the dead is in use again");
        next.push(30).unwrap();
        assert_eq!(rest(&mut successor), [10, 11, 12, 20, 30]);
        true
    });
}
