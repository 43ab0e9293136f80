//! The consumer gives back lanes of the dead, against attachers and against its own death.

use loom::thread;
use tidewire_mpsc::{AttachError, Delivery};
use tidewire_shm::sync::hook;

use crate::model::{at_every_step, model_that_shows};
use crate::{Gate, of, pop, queue, rest};

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

/// The owner dies beside the consumer, which learns of it from the lease alone: it sees what the dead one had published,
/// and every message of others before that, also where the dead one had passed over their words without a look.
///
/// Behind `before` messages the living one pushes two; the dead one looks at the second and not at the first, since
/// a word of the next lap, or the hint, leads it there: from its own position, or when it attaches.
fn what_the_dead_had_passed_over(before: u64, attached: bool) {
    model_that_shows(&["at once", "later", "behind the others", "between"], move |shown| {
        let (queue, leases) = queue(2, 2, Delivery::AtLeastOnce);
        let mut a = queue.producer(&leases).unwrap();
        let early = attached.then(|| queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        for i in 0..before {
            a.push(i).unwrap();
            assert_eq!(pop(&mut consumer), Some(i));
            assert_eq!(pop(&mut consumer), None);
        }
        let gate = Gate::new();
        let living = thread::spawn(move || {
            a.push(10).unwrap();
            a.push(11).unwrap();
            a
        });
        let dying = thread::spawn({
            let (queue, leases, gate) = (queue.clone(), leases.clone(), gate.clone());
            move || {
                let mut b = early.unwrap_or_else(|| queue.producer(&leases).unwrap());
                b.push(20).unwrap();
                assert_eq!(hook::killed_after(0, move || b.push(21)), None);
                leases.bury();
                gate.pass();
            }
        });
        gate.open();
        let mut got = Vec::new();
        let reclaimed = consumer.reclaim(&leases).unwrap() == 1;
        if reclaimed {
            got = rest(&mut consumer);
            assert!(got.contains(&20), "published, and hidden behind a word that looks free: {got:?}");
            shown.note_if(got[..] == [10, 11, 20], "behind the others");
            shown.note_if(got.starts_with(&[10, 20]), "between");
        }
        shown.note(if reclaimed { "at once" } else { "later" });
        let _a = living.join().unwrap();
        dying.join().unwrap();
        assert_eq!(consumer.reclaim(&leases).unwrap(), u32::from(!reclaimed));
        let mut next = queue.producer(&leases).unwrap();
        assert_eq!((next.lane(), next.position()), (1, 1));
        next.push(21).unwrap();
        got.extend(rest(&mut consumer));
        assert_eq!((of(&got, 10), of(&got, 20)), (vec![10, 11], vec![20, 21]));
    });
}

/// Its own position is of a former lap.
#[test]
fn what_the_dead_had_passed_over_by_a_lap_is_seen() {
    what_the_dead_had_passed_over(3, true);
}

/// The first word tells it a later lap when it attaches.
#[test]
fn what_the_dead_had_passed_over_when_it_attached_is_seen() {
    what_the_dead_had_passed_over(3, false);
}

/// The hint leads it further on.
#[test]
fn what_the_dead_had_passed_over_by_the_hint_is_seen() {
    what_the_dead_had_passed_over(6, false);
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
