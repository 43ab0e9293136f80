//! Producers against each other and against the consumer: one order, nothing lost, nothing twice, no hole.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use tidewire_mpsc::Delivery;
use tidewire_mpsc::ordered::PushError;

use crate::model::model_that_shows;
use crate::{Gate, of, pop, queue, rest};

/// Two producers and the consumer: what both pushed comes once and in the order of each.
#[test]
fn two_producers_make_one_order() {
    model_that_shows(&["first before second", "second before first", "seen early"], |shown| {
        let (queue, leases) = queue(2, 2, Delivery::AtLeastOnce);
        let (mut a, mut b) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        let gate = Gate::new();
        let first = thread::spawn({
            let gate = gate.clone();
            move || {
                a.push(10).unwrap();
                gate.pass();
                a.push(11).unwrap();
            }
        });
        let second = thread::spawn({
            let gate = gate.clone();
            move || {
                b.push(20).unwrap();
                gate.pass();
            }
        });
        gate.open();
        let mut got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
        shown.note_if(!got.is_empty(), "seen early");
        first.join().unwrap();
        second.join().unwrap();
        got.extend(rest(&mut consumer));
        assert_eq!((of(&got, 10), of(&got, 20)), (vec![10, 11], vec![20]));
        assert_eq!(got.len(), 3);
        shown.note(if got[0] == 10 { "first before second" } else { "second before first" });
    });
}

/// If a push returned before another one was called, its message comes first, although the flag that tells the second
/// one so orders nothing.
#[test]
fn a_push_that_returned_comes_before_one_that_is_called_later() {
    model_that_shows(&["later", "at the same time"], |shown| {
        let (queue, leases) = queue(2, 1, Delivery::AtLeastOnce);
        let (mut a, mut b) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        let returned = Arc::new(AtomicBool::new(false));
        let first = thread::spawn({
            let returned = Arc::clone(&returned);
            move || {
                a.push(10).unwrap();
                returned.store(true, Ordering::Relaxed);
            }
        });
        let second = thread::spawn(move || {
            let later = returned.load(Ordering::Relaxed);
            b.push(20).unwrap();
            later
        });
        first.join().unwrap();
        let later = second.join().unwrap();
        let got = rest(&mut consumer);
        shown.note(if later { "later" } else { "at the same time" });
        assert_eq!(got.len(), 2);
        assert!(!later || got == [10, 20], "{got:?}");
    });
}

/// A batch is one place in the order: nobody else's message lies within it, and the consumer sees all of it or nothing.
#[test]
fn a_batch_is_one_place_in_the_order() {
    model_that_shows(&["nothing yet", "all"], |shown| {
        let (queue, leases) = queue(2, 2, Delivery::AtLeastOnce);
        let (mut a, mut b) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        let gate = Gate::new();
        let first = thread::spawn({
            let gate = gate.clone();
            move || {
                a.push_slice(&[10, 11]).unwrap();
                gate.pass();
            }
        });
        let second = thread::spawn({
            let gate = gate.clone();
            move || {
                b.push(20).unwrap();
                gate.pass();
            }
        });
        gate.open();
        let mut got = Vec::new();
        let mut some = [0; 2];
        if let Ok(n) = consumer.pop_into(&mut some) {
            got.extend(&some[..n]);
            shown.note_if(got[..] == [10, 11], "all");
            assert_ne!(got[..], [10], "a part of a batch");
        } else {
            shown.note("nothing yet");
        }
        first.join().unwrap();
        second.join().unwrap();
        got.extend(rest(&mut consumer));
        assert!(got == [10, 11, 20] || got == [20, 10, 11], "{got:?}");
    });
}

/// Lanes of one slot, two order words: every push but the first comes after a release and into a later lap.
#[test]
fn laps_do_not_overrun() {
    model_that_shows(&["full", "pushed again", "seen early"], |shown| {
        let (queue, leases) = queue(2, 1, Delivery::AtMostOnce);
        let (mut a, mut b) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        a.push(10).unwrap();
        let first = thread::spawn(move || match a.push(11) {
            Ok(()) => true,
            Err(PushError::Full) => false,
            Err(error) => panic!("{error}"),
        });
        let gate = Gate::new();
        let second = thread::spawn({
            let gate = gate.clone();
            move || {
                b.push(20).unwrap();
                gate.pass();
            }
        });
        gate.open();
        let mut got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
        shown.note_if(got.contains(&20), "seen early");
        let again = first.join().unwrap();
        shown.note(if again { "pushed again" } else { "full" });
        second.join().unwrap();
        got.extend(rest(&mut consumer));
        assert_eq!(of(&got, 10), if again { vec![10, 11] } else { vec![10] });
        assert_eq!(of(&got, 20), [20]);
        assert_eq!(got.len(), 2 + usize::from(again));
    });
}

/// A producer that was away for several laps, and a hint from then, find the first free place.
#[test]
fn a_producer_that_was_away_for_laps_finds_the_place() {
    model_that_shows(&["first before second", "second before first", "seen early"], |shown| {
        let (queue, leases) = queue(2, 2, Delivery::AtLeastOnce);
        let (mut a, mut b) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        for i in 0..9 {
            a.push(i).unwrap();
            assert_eq!(pop(&mut consumer), Some(i));
            assert_eq!(pop(&mut consumer), None);
        }
        let gate = Gate::new();
        let first = thread::spawn(move || a.push(10).unwrap());
        let second = thread::spawn({
            let gate = gate.clone();
            move || {
                b.push(20).unwrap();
                gate.pass();
                b.push(21).unwrap();
            }
        });
        gate.open();
        let mut got: Vec<u64> = pop(&mut consumer).into_iter().collect();
        shown.note_if(!got.is_empty(), "seen early");
        first.join().unwrap();
        second.join().unwrap();
        got.extend(rest(&mut consumer));
        assert_eq!((of(&got, 10), of(&got, 20)), (vec![10], vec![20, 21]));
        shown.note(if got[0] == 10 { "first before second" } else { "second before first" });
    });
}

/// Two order words go round three times while a producer looks for its place from the very first one: whatever word it
/// sees, what it finds behind that is not older than it can be.
#[test]
fn a_producer_that_laps_overtake_finds_no_word_too_old() {
    model_that_shows(&["first", "between", "last"], |shown| {
        let (queue, leases) = queue(2, 1, Delivery::AtMostOnce);
        let (mut a, mut b) = (queue.producer(&leases).unwrap(), queue.producer(&leases).unwrap());
        let mut consumer = queue.consumer(&leases).unwrap();
        let late = thread::spawn(move || b.push(20));
        let mut got = Vec::new();
        for i in 0..6 {
            assert_eq!(a.push(i), Ok(()), "its lane is empty");
            while got.last() != Some(&i) {
                got.push(pop(&mut consumer).expect("a push that returned is seen"));
            }
        }
        assert_eq!(late.join().unwrap(), Ok(()));
        got.extend(rest(&mut consumer));
        let at = got.iter().position(|message| *message == 20).unwrap();
        shown.note(["first", "between", "last"][usize::from(at > 0) + usize::from(at == 6)]);
        assert_eq!(got.len(), 7);
        got.remove(at);
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
    });
}

/// A lane that went from hand to hand has the room that the consumer gave meanwhile.
#[test]
fn the_next_owner_of_a_lane_starts_with_its_room() {
    model_that_shows(&["room", "no room"], |shown| {
        let (queue, leases) = queue(1, 1, Delivery::AtMostOnce);
        let mut consumer = queue.consumer(&leases).unwrap();
        queue.producer(&leases).unwrap().push(10).unwrap();
        let attaching = thread::spawn({
            let (queue, leases) = (Arc::clone(&queue), leases.clone());
            move || {
                let mut next = queue.producer(&leases).unwrap();
                // The look at attach decides; a second one would hide it.
                next.is_empty() && next.push(11).is_ok()
            }
        });
        assert_eq!(pop(&mut consumer), Some(10));
        let again = attaching.join().unwrap();
        shown.note(if again { "room" } else { "no room" });
        assert_eq!(rest(&mut consumer), if again { vec![11] } else { vec![] });
    });
}
