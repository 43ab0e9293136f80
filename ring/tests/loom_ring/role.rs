//! Claims, drops and take-overs of roles, against each other and against a peer that works.

use std::sync::Arc;

use loom::thread;
use tidewire_ring::fixed::Ring;
use tidewire_ring::{AttachError, PopError};
use tidewire_shm::sync::hook;

use crate::model::{at_every_step, model, model_that_shows};

fn ring() -> Arc<Ring<u64>> {
    Arc::new(Ring::on_heap(2).unwrap())
}

/// Of two that claim a free role one wins, and the other is told that it is taken; also where a compare-exchange
/// fails with a stale value.
#[test]
fn of_two_claims_one_wins() {
    for stale in [false, true] {
        two_claims(stale);
    }
}

fn two_claims(stale: bool) {
    model(move || {
        let ring = ring();
        let other = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                hook::fail_stale_cas(stale);
                ring.producer()
            }
        });
        hook::fail_stale_cas(stale);
        let results = [ring.producer(), other.join().unwrap()];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        let refused = results.iter().find_map(|result| result.as_ref().err()).unwrap();
        assert!(matches!(refused, AttachError::RoleTaken(_)), "{refused}");
        let held = results.iter().find_map(|result| result.as_ref().ok()).unwrap().owner();
        assert_eq!(ring.producer_owner(), Some(held));
    });
}

/// A producer's role goes from hand to hand by drop and claim while the consumer works.
#[test]
fn a_claim_after_a_drop_sees_everything_pushed() {
    for stale in [false, true] {
        claim_producer(stale);
    }
}

fn claim_producer(stale: bool) {
    model_that_shows(&["claimed", "not claimed", "room"], move |shown| {
        let ring = ring();
        let (mut first, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let dropping = thread::spawn(move || first.push(1).unwrap());
        let claiming = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                hook::fail_stale_cas(stale);
                let Some(mut second) = (0..2).find_map(|_| ring.producer().ok()) else {
                    return 0;
                };
                assert_eq!(second.position(), 1, "the former holder pushed one");
                second.push(2).unwrap();
                1 + u64::from(second.push(3).is_ok())
            }
        });
        let mut got: Vec<u64> = (0..2).filter_map(|_| consumer.pop().ok()).collect();
        dropping.join().unwrap();
        let pushed = claiming.join().unwrap();
        shown.note(["not claimed", "claimed", "room"][pushed as usize]);
        got.extend(consumer.drain());
        assert_eq!(got, (1..=1 + pushed).collect::<Vec<_>>());
    });
}

/// A consumer's role goes from hand to hand by drop and claim while the producer works: nothing lost, nothing twice.
#[test]
fn a_claim_after_a_drop_sees_everything_released() {
    for stale in [false, true] {
        claim_consumer(stale);
    }
}

fn claim_consumer(stale: bool) {
    model_that_shows(&["claimed", "not claimed"], move |shown| {
        let ring = ring();
        let (mut producer, mut first) = (ring.producer().unwrap(), ring.consumer().unwrap());
        producer.push(1).unwrap();
        let dropping = thread::spawn(move || first.pop().unwrap());
        let claiming = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                hook::fail_stale_cas(stale);
                let mut second = (0..2).find_map(|_| ring.consumer().ok())?;
                let got: Vec<u64> = (0..2).filter_map(|_| second.pop().ok()).collect();
                Some((second, got))
            }
        });
        let pushed = (2..=4).take_while(|n| producer.push(*n).is_ok()).last().unwrap_or(1);
        let mut got = vec![dropping.join().unwrap()];
        if let Some((mut second, more)) = claiming.join().unwrap() {
            shown.note("claimed");
            got.extend(more);
            got.extend(second.drain());
        } else {
            shown.note("not claimed");
            got.extend(ring.consumer().unwrap().drain());
        }
        assert_eq!(got, (1..=pushed).collect::<Vec<_>>());
    });
}

/// Of two that have proof of a death one takes over, and the other is told that the owner changed.
#[test]
fn of_two_takeovers_one_wins() {
    model(|| {
        let ring = ring();
        let (mut victim, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let dead = victim.owner();
        thread::spawn(move || {
            victim.push(1).unwrap();
            hook::die();
        })
        .join()
        .unwrap();
        assert!(ring.producer().is_err(), "the role of a dead holder is not free");
        let other = thread::spawn({
            let ring = Arc::clone(&ring);
            // SAFETY: the join above is the proof.
            move || unsafe { ring.replace_producer(dead) }
        });
        // SAFETY: the join above is the proof.
        let mine = unsafe { ring.replace_producer(dead) };
        let mut results = [mine, other.join().unwrap()];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        let refused = results.iter().find_map(|result| result.as_ref().err()).unwrap();
        let AttachError::OwnerChanged { expected, .. } = refused else { panic!("{refused}") };
        assert_eq!(*expected, dead);
        results.iter_mut().find_map(|result| result.as_mut().ok()).unwrap().push(2).unwrap();
        assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2]);
    });
}

/// Proof of one death does not take the role from whoever holds it next.
#[test]
fn a_takeover_names_one_generation() {
    model(|| {
        let ring = ring();
        let first = ring.producer().unwrap();
        let old = first.owner();
        drop(first);
        let claiming = thread::spawn({
            let ring = Arc::clone(&ring);
            move || ring.producer()
        });
        // SAFETY: the holder of that generation is gone: it dropped its handle.
        let late = unsafe { ring.replace_producer(old) };
        assert!(matches!(late, Err(AttachError::OwnerChanged { expected, .. }) if expected == old));
        // A stale failure of the claim cannot happen: the drop happened before it.
        assert!(claiming.join().unwrap().is_ok());
    });
}

/// Both sides die, one successor each, at once.
#[test]
fn both_sides_are_replaced_at_once() {
    model(|| {
        let ring = ring();
        let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let (dead_producer, dead_consumer) = (producer.owner(), consumer.owner());
        let first = thread::spawn(move || {
            let pushed = (1..=3).take_while(|n| producer.push(*n).is_ok()).count() as u64;
            hook::die();
            pushed
        });
        let got = consumer.pop();
        consumer.release();
        assert!(matches!(got, Ok(1) | Err(PopError::Empty)));
        let proof = thread::spawn(move || {
            // The consumer dies here: its drop must reach nothing.
            hook::die();
            drop(consumer);
        });
        let succeeding = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                proof.join().unwrap();
                // SAFETY: the join is the proof.
                let mut consumer = unsafe { ring.replace_consumer(dead_consumer) }.unwrap();
                let got: Vec<u64> = (0..2).filter_map(|_| consumer.pop().ok()).collect();
                (consumer, got)
            }
        });
        let pushed = first.join().unwrap();
        // SAFETY: the join is the proof.
        let mut producer = unsafe { ring.replace_producer(dead_producer) }.unwrap();
        let more = (pushed + 1..=pushed + 2).take_while(|n| producer.push(*n).is_ok()).count() as u64;
        let (mut consumer, mut rest) = succeeding.join().unwrap();
        rest.extend(consumer.drain());
        let start = got.map_or(1, |_| 2);
        assert_eq!(rest, (start..=pushed + more).collect::<Vec<_>>());
    });
}

/// Killed at any step between the claim and the end of the drop, a holder leaves the role free or held by its name,
/// and either way the next one goes on behind what was pushed.
#[test]
fn a_holder_killed_at_any_step_from_claim_to_drop_is_followed() {
    at_every_step(|step| {
        let ring = ring();
        let mut consumer = ring.consumer().unwrap();
        let dying = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let mut pushed = 0;
                let outcome = hook::killed_after(step, || {
                    let mut producer = ring.producer().unwrap();
                    producer.push(1).unwrap();
                    pushed = 1;
                });
                (pushed, outcome.is_none())
            }
        });
        let following = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let fate = dying.join().unwrap();
                let mut producer = match ring.producer_owner() {
                    None => ring.producer().unwrap(),
                    // SAFETY: the join is the proof: nobody else ever held the role.
                    Some(dead) => unsafe { ring.replace_producer(dead) }.unwrap(),
                };
                producer.push(2).unwrap();
                fate
            }
        });
        let mut got: Vec<u64> = (0..2).filter_map(|_| consumer.pop().ok()).collect();
        let (pushed, killed) = following.join().unwrap();
        got.extend(consumer.drain());
        assert!(got == [1, 2] || (pushed == 0 && got == [2]), "{pushed} acknowledged, got {got:?}");
        killed
    });
}

/// The same for a consumer: what it popped may be seen again, at most one, and nothing is lost.
#[test]
fn a_consumer_killed_at_any_step_from_claim_to_drop_is_followed() {
    at_every_step(|step| {
        let ring = ring();
        let mut producer = ring.producer().unwrap();
        producer.push(1).unwrap();
        let dying = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let mut popped = None;
                let outcome = hook::killed_after(step, || popped = ring.consumer().unwrap().pop().ok());
                (popped, outcome.is_none())
            }
        });
        let following = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let (popped, killed) = dying.join().unwrap();
                let mut consumer = match ring.consumer_owner() {
                    None => ring.consumer().unwrap(),
                    // SAFETY: the join is the proof: nobody else ever held the role.
                    Some(dead) => unsafe { ring.replace_consumer(dead) }.unwrap(),
                };
                let got: Vec<u64> = consumer.pop().into_iter().collect();
                (consumer, popped, got, killed)
            }
        });
        let last = (2..=3).take_while(|n| producer.push(*n).is_ok()).last().unwrap_or(1);
        let (mut consumer, popped, mut got, killed) = following.join().unwrap();
        got.extend(consumer.drain());
        let first = got.first().copied().unwrap_or(last + 1);
        assert!(first == 1 || (first == 2 && popped == Some(1)), "popped {popped:?}, then {got:?}");
        assert!(killed || first == 2, "a clean drop releases what was popped");
        assert_eq!(got, (first..=last).collect::<Vec<_>>());
        killed
    });
}
