//! One consumer after the other.

use loom::thread;
use tidewire_mpsc::Delivery;
use tidewire_mpsc::ordered::PushError;
use tidewire_mpsc::ordered::Tuning;
use tidewire_shm::sync::hook;

use crate::model::{at_every_step, model_that_shows};
use crate::{Gate, Seen, of, pop, queue, rest};

/// Killed at any access of its pops, checkpoints included, beside a producer that waits for room: at least once loses
/// nothing and repeats only what was not released, at most once repeats nothing and loses only what was in its hand.
#[test]
fn a_consumer_killed_anywhere_is_followed_at_one_place() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        let shown = Seen::default();
        let inside = shown.clone();
        at_every_step(move |step| killed_consumer(delivery, step, &inside));
        let unreleased = if delivery == Delivery::AtLeastOnce { "again" } else { "lost" };
        shown.assert(&["at once", "room", "no room", unreleased]);
    }
}

fn killed_consumer(delivery: Delivery, step: u64, shown: &Seen) -> bool {
    let (queue, leases) = queue(2, 1, delivery);
    let (mut a, mut b) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
    let mut victim = queue.consumer(&leases).unwrap();
    a.push(10).unwrap();
    b.push(20).unwrap();
    let dying = thread::spawn(move || {
        let mut got = Vec::new();
        let died = hook::killed_after(step, || {
            // The messages are in this order.
            got.extend(pop(&mut victim));
            got.extend(pop(&mut victim));
            got.extend(pop(&mut victim));
            std::mem::forget(victim);
        })
        .is_none();
        (got, died)
    });
    let again = match a.push(11) {
        Ok(()) => true,
        Err(PushError::Full) => false,
        Err(error) => panic!("{error}"),
    };
    shown.note(if again { "room" } else { "no room" });
    let (first, died) = dying.join().unwrap();
    if !died {
        return false;
    }
    leases.bury();
    let mut successor = queue.consumer(&leases).unwrap();
    let second = rest(&mut successor);
    let all = if again { vec![10, 20, 11] } else { vec![10, 20] };
    let start = all.len() - second.len();
    assert!(second[..] == all[start..], "{second:?} of {all:?}");
    assert!(first[..] == all[..first.len()], "{first:?} of {all:?}");
    match delivery {
        // What was handed out by the last call may come again, and nothing before: the period is one.
        Delivery::AtLeastOnce => {
            assert!(start == first.len() || start + 1 == first.len(), "{first:?}, {second:?}")
        }
        _ => assert!(start == first.len() || start == first.len() + 1, "{first:?}, {second:?}"),
    }
    let what = match start.cmp(&first.len()) {
        std::cmp::Ordering::Less => "again",
        std::cmp::Ordering::Equal => "at once",
        std::cmp::Ordering::Greater => "lost",
    };
    shown.note(what);
    // Both lanes give room again, and the order goes on.
    assert_eq!((a.push(12), b.push(21)), (Ok(()), Ok(())));
    assert_eq!(rest(&mut successor), [12, 21]);
    true
}

/// Killed in the middle of a batch, and of the checkpoint there: the successor goes on within it.
#[test]
fn a_consumer_killed_within_a_batch_is_followed_there() {
    at_every_step(|step| {
        let (queue, leases) = queue(1, 4, Delivery::AtLeastOnce);
        let mut producer = queue.producer(&leases).unwrap();
        let mut victim = queue.consumer(&leases).unwrap();
        victim.tune(Tuning::default().release_every(1));
        producer.push(10).unwrap();
        producer.push_slice(&[11, 12, 13]).unwrap();
        let dying = thread::spawn(move || {
            let mut got = Vec::new();
            let died = hook::killed_after(step, || {
                for _ in 0..4 {
                    got.extend(pop(&mut victim));
                }
                std::mem::forget(victim);
            })
            .is_none();
            (got, died)
        });
        let (first, died) = dying.join().unwrap();
        if !died {
            return false;
        }
        leases.bury();
        let mut successor = queue.consumer(&leases).unwrap();
        let second = rest(&mut successor);
        assert!(second[..] == [10, 11, 12, 13][4 - second.len()..], "{second:?}");
        assert!((4..=5).contains(&(first.len() + second.len())), "{first:?}, {second:?}");
        producer.push_slice(&[14, 15, 16, 17]).unwrap();
        assert_eq!(rest(&mut successor), [14, 15, 16, 17]);
        true
    });
}

/// The role goes from hand to hand while a producer works: nothing lost, nothing twice.
#[test]
fn a_consumer_that_ends_in_order_is_followed_without_repetition() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        model_that_shows(&["followed", "refused"], move |shown| {
            let (queue, leases) = queue(1, 4, delivery);
            let mut producer = queue.producer(&leases).unwrap();
            let mut first = queue.consumer(&leases).unwrap();
            producer.push(10).unwrap();
            let ending = thread::spawn(move || {
                let got = pop(&mut first);
                drop(first);
                got
            });
            let following = thread::spawn({
                let (queue, leases) = (queue.clone(), leases.clone());
                move || {
                    let mut second = queue.consumer(&leases).ok()?;
                    let got = pop(&mut second);
                    Some((second, got))
                }
            });
            producer.push(11).unwrap();
            let mut got: Vec<u64> = ending.join().unwrap().into_iter().collect();
            let mut second = match following.join().unwrap() {
                Some((second, more)) => {
                    shown.note("followed");
                    got.extend(more);
                    second
                }
                None => {
                    shown.note("refused");
                    queue.consumer(&leases).unwrap()
                }
            };
            got.extend(rest(&mut second));
            assert_eq!(got, [10, 11]);
            assert_eq!(of(&got, 10).len(), 2);
        });
    }
}

/// What a consumer read that was killed between its checkpoint and the heads is released by the next one, to a
/// producer that writes there at once.
#[test]
fn a_successor_releases_what_the_dead_had_read() {
    model_that_shows(&["room", "no room"], |shown| {
        let (queue, leases) = queue(1, 1, Delivery::AtMostOnce);
        let mut producer = queue.producer(&leases).unwrap();
        let mut victim = queue.consumer(&leases).unwrap();
        producer.push(10).unwrap();
        let gate = Gate::new();
        let pushing = thread::spawn({
            let gate = gate.clone();
            move || {
                gate.open();
                let room = producer.push(11).is_ok();
                (producer, room)
            }
        });
        let dying = thread::spawn(move || {
            // Word, slot; order head, taken, head, version: the store of the head to the lane is missing.
            hook::killed_after(6, move || pop(&mut victim)).is_none()
        });
        assert!(dying.join().unwrap());
        leases.bury();
        let mut successor = queue.consumer(&leases).unwrap();
        gate.pass();
        let (mut producer, mut room) = pushing.join().unwrap();
        shown.note(if room { "room" } else { "no room" });
        room = room || producer.push(11).is_ok();
        assert!(room, "the successor released nothing");
        assert_eq!(rest(&mut successor), [11]);
    });
}
