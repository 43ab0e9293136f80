//! Roles that are taken by leases: whoever has the lease gets the role, whatever its former holder did or was killed in,
//! and nobody gets it from the living.

use std::cell::Cell;
use std::sync::Arc;

use loom::thread;
use tidewire_ring::fixed::{Consumer, Producer, Ring};
use tidewire_ring::{AttachError, Options, PopError, bytes};
use tidewire_shm::sync::hook;
use tidewire_shm::{Liveness, Region, Trusted};

use crate::leases::Leases;
use crate::model::{Shown, at_every_step, model_that_shows};

/// A ring of two slots that is made for leases of kind `V`.
pub(crate) fn ring<V: Liveness>() -> Arc<Ring<u64>> {
    let options = Options::new().liveness::<V>();
    let region = Region::heap(Ring::<u64>::bytes(2, &options).unwrap()).unwrap();
    Arc::new(Ring::create(region, 2, &options).unwrap())
}

/// A handle, or nothing if somebody has the role or its lease; any other answer is wrong.
fn taken<H>(result: Result<H, AttachError>) -> Option<H> {
    match result {
        Ok(handle) => Some(handle),
        Err(AttachError::RoleTaken(_) | AttachError::Lease(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn pop(consumer: &mut Consumer<u64>) -> Option<u64> {
    match consumer.pop() {
        Ok(message) => Some(message),
        Err(PopError::Empty) => None,
        Err(PopError::Corrupt(corrupt)) => panic!("{corrupt}"),
    }
}

/// A producer pushes and dies, two want its role, before and after its death: never both get it.
#[test]
fn of_two_takers_of_a_dead_producers_role_one_wins() {
    for stale in [false, true] {
        two_takers(stale);
    }
}

fn two_takers(stale: bool) {
    model_that_shows(&["none yet", "mine", "the other's"], move |shown| {
        let (ring, leases) = (ring::<Leases>(), Leases::new());
        let mut consumer = ring.consumer_with(&leases).unwrap();
        let mut victim = ring.producer_with(&leases).unwrap();
        let dead = victim.owner();
        let dying = thread::spawn(move || {
            victim.push(1).unwrap();
            // From here on it changes nothing; that its lease ends is the kernel's doing.
            hook::die();
        });
        let other = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || {
                hook::fail_stale_cas(stale);
                taken(ring.producer_with(&leases))
            }
        });
        hook::fail_stale_cas(stale);
        let mine = taken(ring.producer_with(&leases));
        dying.join().unwrap();
        let other = other.join().unwrap();
        let mut next = match (mine, other) {
            (Some(_), Some(_)) => panic!("one role for two"),
            (Some(mine), None) => {
                shown.note("mine");
                mine
            }
            (None, Some(other)) => {
                shown.note("the other's");
                other
            }
            (None, None) => {
                shown.note("none yet");
                ring.producer_with(&leases).expect("it is dead now")
            }
        };
        assert_eq!(next.owner().generation, dead.generation + 1, "one took over");
        assert_eq!(next.position(), 1);
        next.push(2).unwrap();
        assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2]);
    });
}

/// The same for a dead consumer.
#[test]
fn of_two_takers_of_a_dead_consumers_role_one_wins() {
    model_that_shows(&["none yet", "mine", "the other's"], |shown| {
        let (ring, leases) = (ring::<Leases>(), Leases::new());
        let mut producer = ring.producer_with(&leases).unwrap();
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        let mut victim = ring.consumer_with(&leases).unwrap();
        let dying = thread::spawn(move || {
            assert_eq!(pop(&mut victim), Some(1));
            hook::die();
        });
        let other = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || taken(ring.consumer_with(&leases))
        });
        let mine = taken(ring.consumer_with(&leases));
        dying.join().unwrap();
        let other = other.join().unwrap();
        assert!(mine.is_none() || other.is_none(), "one role for two");
        shown.note(match (&mine, &other) {
            (Some(_), _) => "mine",
            (_, Some(_)) => "the other's",
            _ => "none yet",
        });
        let mut next = mine.or(other).unwrap_or_else(|| ring.consumer_with(&leases).expect("it is dead now"));
        // A period of one: what was popped was released before the pop returned.
        assert_eq!(pop(&mut next), Some(2));
        assert_eq!(pop(&mut next), None);
    });
}

/// Whoever works keeps its role; whoever asks gets it when the drop is done, and not before.
#[test]
fn a_living_producer_is_followed_only_when_it_ends() {
    for stale in [false, true] {
        model_that_shows(&["followed", "refused"], move |shown| {
            let (ring, leases) = (ring::<Leases>(), Leases::new());
            let mut consumer = ring.consumer_with(&leases).unwrap();
            let mut first = ring.producer_with(&leases).unwrap();
            let generation = first.owner().generation;
            let working = thread::spawn(move || first.push(1).unwrap());
            let asking = thread::spawn({
                let (ring, leases) = (Arc::clone(&ring), leases.clone());
                move || {
                    hook::fail_stale_cas(stale);
                    let mut second = (0..2).find_map(|_| taken(ring.producer_with(&leases)))?;
                    assert_eq!(second.position(), 1, "the former holder pushed one");
                    assert_eq!(second.owner().generation, generation + 1);
                    second.push(2).unwrap();
                    Some(second)
                }
            });
            let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
            working.join().unwrap();
            let followed = asking.join().unwrap().is_some();
            shown.note(if followed { "followed" } else { "refused" });
            got.extend(consumer.drain());
            assert_eq!(got, [1, 2][..1 + usize::from(followed)]);
        });
    }
}

/// The same for a consumer: nothing lost, nothing twice.
#[test]
fn a_living_consumer_is_followed_only_when_it_ends() {
    model_that_shows(&["followed", "refused"], |shown| {
        let (ring, leases) = (ring::<Leases>(), Leases::new());
        let mut producer = ring.producer_with(&leases).unwrap();
        let mut first = ring.consumer_with(&leases).unwrap();
        producer.push(1).unwrap();
        let working = thread::spawn(move || pop(&mut first).unwrap());
        let asking = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || {
                let mut second = (0..2).find_map(|_| taken(ring.consumer_with(&leases)))?;
                let got = pop(&mut second);
                Some((second, got))
            }
        });
        producer.push(2).unwrap();
        let mut got = vec![working.join().unwrap()];
        let mut second = match asking.join().unwrap() {
            Some((second, more)) => {
                shown.note("followed");
                got.extend(more);
                second
            }
            None => {
                shown.note("refused");
                ring.consumer_with(&leases).unwrap()
            }
        };
        got.extend(second.drain());
        assert_eq!(got, [1, 2]);
    });
}

/// What the next producer of a dead one finds: it pushes 2 behind whatever there is.
fn follow(ring: &Ring<u64>, leases: &Leases, shown: &Shown) -> Option<Producer<u64>> {
    let before = ring.producer_owner();
    let mut next = taken(ring.producer_with(leases))?;
    shown.note_if(before.is_some(), "taken over");
    shown.note_if(before.is_none() && next.owner().generation == 2, "found free");
    next.push(2).unwrap();
    Some(next)
}

/// Killed at any step from before the lease to behind the drop, while others work and ask for the role: what was
/// acknowledged is delivered, in front of what the next one pushes, and the role goes to whoever asks after the death.
#[test]
fn a_producer_killed_at_any_step_is_followed() {
    let shown = Shown::default();
    let inside = shown.clone();
    at_every_step(move |step| {
        let (ring, leases) = (ring::<Leases>(), Leases::new());
        let mut consumer = ring.consumer_with(&leases).unwrap();
        let dying = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || {
                let pushed = Cell::new(None);
                let outcome = hook::killed_after(step, || {
                    let mut producer = taken(ring.producer_with(&leases))?;
                    pushed.set(Some(0));
                    producer.push(1).unwrap();
                    pushed.set(Some(1));
                    Some(())
                });
                leases.bury();
                (pushed.get(), outcome.is_none())
            }
        });
        let following = thread::spawn({
            let (ring, leases, shown) = (Arc::clone(&ring), leases.clone(), inside.clone());
            move || follow(&ring, &leases, &shown)
        });
        let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
        let (pushed, killed) = dying.join().unwrap();
        let next = following.join().unwrap();
        let next = next.unwrap_or_else(|| follow(&ring, &leases, &inside).expect("the dead one's role"));
        got.extend(consumer.drain());
        match pushed {
            Some(1) => assert_eq!(got, [1, 2]),
            Some(_) => assert!(got == [1, 2] || got == [2], "{got:?}"),
            None => assert_eq!(got, [2]),
        }
        assert_eq!(ring.producer_owner(), Some(next.owner()));
        drop(next);
        assert_eq!(ring.producer_owner(), None);
        killed
    });
    assert!(shown.has("taken over") && shown.has("found free"), "{shown:?}");
}

/// The same for a consumer: what it popped may be seen again, and nothing is lost.
#[test]
fn a_consumer_killed_at_any_step_is_followed() {
    let shown = Shown::default();
    let inside = shown.clone();
    at_every_step(move |step| {
        let (ring, leases) = (ring::<Leases>(), Leases::new());
        let mut producer = ring.producer_with(&leases).unwrap();
        producer.push(1).unwrap();
        let dying = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || {
                let mut popped = None;
                let outcome = hook::killed_after(step, || {
                    popped = pop(&mut taken(ring.consumer_with(&leases))?);
                    Some(())
                });
                leases.bury();
                (popped, outcome.is_none())
            }
        });
        let following = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || {
                let mut next = taken(ring.consumer_with(&leases))?;
                let got = pop(&mut next);
                Some((next, got))
            }
        });
        producer.push(2).unwrap();
        let (popped, killed) = dying.join().unwrap();
        let mut got = Vec::new();
        let mut next = match following.join().unwrap() {
            Some((next, more)) => {
                got.extend(more);
                next
            }
            None => {
                inside.note_if(killed && ring.consumer_owner().is_some(), "taken over");
                ring.consumer_with(&leases).expect("the dead one's role")
            }
        };
        got.extend(next.drain());
        // A period of one: a pop releases before it returns.
        let released = popped == Some(1);
        assert_eq!(got, [1, 2][usize::from(released)..], "{popped:?}");
        inside.note_if(released, "released");
        killed
    });
    assert!(shown.has("taken over") && shown.has("released"), "{shown:?}");
}

/// The roles of a ring of records are the same.
#[test]
fn a_producer_of_records_killed_at_any_step_is_followed() {
    at_every_step(|step| {
        let options = Options::new().liveness::<Leases>();
        let region = Region::heap(bytes::Ring::<Trusted>::bytes(64, &options).unwrap()).unwrap();
        let ring = Arc::new(bytes::Ring::create(region, 64, &options).unwrap());
        let leases = Leases::new();
        let mut consumer = ring.consumer_with(&leases).unwrap();
        let dying = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || {
                let mut pushed = false;
                let outcome = hook::killed_after(step, || {
                    let mut producer = ring.producer_with(&leases).unwrap();
                    producer.push(b"one").unwrap();
                    pushed = true;
                });
                leases.bury();
                (pushed, outcome.is_none())
            }
        });
        let mut got = Vec::new();
        let mut take = |consumer: &mut bytes::Consumer| {
            let mut record = [0; 8];
            while let Ok(len) = consumer.pop_into(&mut record) {
                got.push(String::from_utf8(record[..len].to_vec()).unwrap());
            }
        };
        take(&mut consumer);
        let (pushed, killed) = dying.join().unwrap();
        ring.producer_with(&leases).expect("the dead one's role").push(b"two").unwrap();
        take(&mut consumer);
        assert!(got == ["one", "two"] || (!pushed && got == ["two"]), "{pushed}: {got:?}");
        killed
    });
}

/// Both sides die, one successor each, at once.
#[test]
fn both_sides_are_followed_at_once() {
    model_that_shows(&["nothing pushed", "pushed"], |shown| {
        let (ring, leases) = (ring::<Leases>(), Leases::new());
        let (mut producer, mut consumer) =
            (ring.producer_with(&leases).unwrap(), ring.consumer_with(&leases).unwrap());
        producer.push(1).unwrap();
        let dying = thread::spawn(move || {
            producer.push(2).unwrap();
            hook::die();
        });
        let succeeding = thread::spawn({
            let (ring, leases) = (Arc::clone(&ring), leases.clone());
            move || {
                let mut next = taken(ring.producer_with(&leases))?;
                Some((next.push(3).is_ok(), next))
            }
        });
        let first = pop(&mut consumer);
        assert_eq!(first, Some(1));
        let gone = thread::spawn(move || {
            // It dies here: its drop must reach nothing.
            hook::die();
            drop(consumer);
        });
        gone.join().unwrap();
        let mut next = ring.consumer_with(&leases).unwrap();
        let mut got: Vec<u64> = pop(&mut next).into_iter().collect();
        dying.join().unwrap();
        let pushed = succeeding.join().unwrap().is_some_and(|(pushed, _)| pushed);
        shown.note(if pushed { "pushed" } else { "nothing pushed" });
        got.extend(next.drain());
        assert_eq!(got, [2, 3][..1 + usize::from(pushed)]);
    });
}
