//! Fixed slots.

use std::sync::Arc;

use loom::sync::atomic::Ordering;
use loom::thread;
use tidewire_ring::fixed::{Consumer, Producer, Ring};
use tidewire_ring::{PopError, PushError, Tuning};
use tidewire_shm::sync::hook;

use crate::model::{at_every_step, gate, model, model_that_shows};

/// A message of `N` equal words, so that a torn one shows.
type Message<const N: usize> = [u64; N];

fn number<const N: usize>(message: Message<N>) -> u64 {
    assert!(message.iter().all(|word| *word == message[0]), "torn: {message:?}");
    message[0]
}

fn ring<const N: usize>(capacity: usize) -> (Producer<Message<N>>, Consumer<Message<N>>) {
    Ring::on_heap(capacity).unwrap().split().unwrap()
}

fn pop<const N: usize>(consumer: &mut Consumer<Message<N>>) -> Option<u64> {
    match consumer.pop() {
        Ok(message) => Some(number(message)),
        Err(PopError::Empty) => None,
        Err(PopError::Corrupt(corrupt)) => panic!("{corrupt}"),
    }
}

fn push<const N: usize>(producer: &mut Producer<Message<N>>, number: u64) -> bool {
    match producer.push([number; N]) {
        Ok(()) => true,
        Err(PushError::Full) => false,
        Err(PushError::Corrupt(corrupt)) => panic!("{corrupt}"),
    }
}

/// Messages 1, 2, ... `items` through a ring, in order, each once.
fn stream<const N: usize>(capacity: usize, items: u64, attempts: usize, tuning: Tuning) {
    model_that_shows(&["empty", "full", "full, then room", "wrap"], move |shown| {
        let (mut producer, mut consumer) = ring::<N>(capacity);
        consumer.tune(tuning);
        let producing = thread::spawn({
            let shown = shown.clone();
            move || {
                let (mut next, mut full) = (1, false);
                for _ in 0..attempts {
                    if next > items {
                        break;
                    } else if push(&mut producer, next) {
                        shown.note_if(full, "full, then room");
                        next += 1;
                    } else {
                        shown.note("full");
                        full = true;
                    }
                }
                (producer, next)
            }
        });
        let mut got: Vec<u64> = (0..attempts).filter_map(|_| pop(&mut consumer)).collect();
        shown.note_if(got.is_empty(), "empty");
        shown.note_if(got.len() > capacity, "wrap");
        let (mut producer, next) = producing.join().unwrap();
        got.extend(consumer.drain().map(number));
        for rest in next..=items {
            assert!(push(&mut producer, rest), "full although drained");
            got.extend(pop(&mut consumer));
            consumer.release();
        }
        assert_eq!(got, (1..=items).collect::<Vec<_>>());
    });
}

#[test]
fn one_slot_three_messages() {
    stream::<1>(1, 3, 4, Tuning::default());
}

#[test]
fn two_slots_four_messages() {
    stream::<1>(2, 4, 5, Tuning::default());
}

#[test]
fn two_slots_late_release() {
    stream::<1>(2, 4, 5, Tuning::default().release_every(2));
}

#[test]
fn whole_lines_with_touch() {
    stream::<8>(1, 3, 4, Tuning::default());
    stream::<8>(2, 3, 4, Tuning::default().release_every(2));
}

#[test]
fn whole_lines_without_touch() {
    stream::<8>(1, 3, 4, Tuning::default().touch(false));
    stream::<8>(2, 3, 4, Tuning::default().touch(false).release_every(2));
}

/// An empty ring is released at once, however late the consumer may release: the producer never waits for a
/// consumer that waits for it.
#[test]
fn empty_releases_everything() {
    model_that_shows(&["released"], |shown| {
        let (mut producer, mut consumer) = ring::<1>(2);
        consumer.tune(Tuning::default().release_every(2));
        let producing = thread::spawn(move || {
            assert!(push(&mut producer, 1));
            producer
        });
        let first = pop(&mut consumer);
        let empty = first.is_some() && pop(&mut consumer).is_none();
        let mut producer = producing.join().unwrap();
        if empty {
            shown.note("released");
            assert!(producer.is_empty(), "found empty and kept a slot");
            assert!(push(&mut producer, 2));
            assert!(push(&mut producer, 3));
        }
    });
}

/// Batches of two through two slots, the second across the wrap: seen whole or not at all.
#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    model_that_shows(&["first", "second", "wait"], |shown| {
        let (mut producer, mut consumer) = ring::<1>(2);
        assert!(push(&mut producer, 9));
        assert_eq!(pop(&mut consumer), Some(9));
        consumer.release();
        let producing = thread::spawn(move || {
            let mut next = 1;
            for _ in 0..3 {
                match producer.push_slice(&[[next], [next + 1]]) {
                    Ok(()) if next == 1 => next = 3,
                    Ok(()) => break,
                    Err(error) => assert_eq!(error, PushError::Full),
                }
            }
        });
        let mut expected = 1;
        for _ in 0..3 {
            let mut two = [[0]; 2];
            match consumer.pop_into(&mut two) {
                Ok(n) => {
                    assert_eq!((n, two), (2, [[expected], [expected + 1]]), "part of a batch");
                    shown.note(if expected == 1 { "first" } else { "second" });
                    expected += 2;
                }
                Err(error) => {
                    assert_eq!(error, PopError::Empty);
                    shown.note("wait");
                }
            }
        }
        producing.join().unwrap();
        let rest = consumer.len();
        assert!(rest == 0 || rest == 2, "part of a batch: {rest}");
    });
}

/// What is reserved, written in place and aborted is never seen; what is committed is seen as it was written.
#[test]
fn reserve_commit_abort() {
    model_that_shows(&["across the wrap"], |shown| {
        let (mut producer, mut consumer) = ring::<1>(2);
        // Where the other may come in while a slice is borrowed.
        let (gate, look) = gate();
        let producing = thread::spawn(move || {
            let mut aborted = producer.reserve(2).unwrap();
            let (front, _) = aborted.as_mut_slices();
            front.fill([66]);
            gate.store(1, Ordering::Relaxed);
            front.fill([67]);
            drop(aborted);
            let mut reserved = producer.reserve(2).unwrap();
            reserved.set(0, &[[1], [67]]).unwrap();
            reserved.commit(1).unwrap();
            if let Ok(mut reserved) = producer.reserve(2) {
                // These two lie across the wrap.
                let (front, back) = reserved.as_mut_slices();
                (front[0], back[0]) = ([2], [3]);
                gate.store(1, Ordering::Relaxed);
                reserved.commit(2).unwrap();
                return 3;
            }
            1
        });
        let mut got: Vec<u64> = (0..3).inspect(|_| look()).filter_map(|_| pop(&mut consumer)).collect();
        let last = producing.join().unwrap();
        shown.note_if(last == 3, "across the wrap");
        got.extend(consumer.drain().map(number));
        assert_eq!(got, (1..=last).collect::<Vec<_>>());
    });
}

/// A chunk is read in place while the producer tries to reuse its slots; they stay ours until released.
#[test]
fn a_chunk_stays_until_it_is_released() {
    model_that_shows(&["two at once", "reused"], |shown| {
        let (mut producer, mut consumer) = ring::<1>(2);
        assert!(push(&mut producer, 1));
        let producing = thread::spawn(move || {
            let mut next = 2;
            for _ in 0..4 {
                if next <= 4 && push(&mut producer, next) {
                    next += 1;
                }
            }
            next
        });
        let mut got = Vec::new();
        for _ in 0..2 {
            let Ok(mut chunk) = consumer.read_chunk(2) else {
                continue;
            };
            let (front, back) = chunk.as_slices();
            let before: Vec<_> = front.iter().chain(back).copied().collect();
            thread::yield_now();
            let after: Vec<_> = front.iter().chain(back).copied().collect();
            assert_eq!(before, after, "a borrowed slot changed");
            shown.note_if(before.len() == 2, "two at once");
            let mut first = [[0]];
            chunk.get(0, &mut first).unwrap();
            assert_eq!(first[0], before[0]);
            // The second stays in the ring and is read again.
            chunk.release(1).unwrap();
            got.push(before[0][0]);
        }
        let next = producing.join().unwrap();
        shown.note_if(next > 3, "reused");
        got.extend(consumer.drain().map(number));
        assert_eq!(got, (1..next).collect::<Vec<_>>());
    });
}

/// A peek does not consume, and a pop to a place gives what the peek showed.
#[test]
fn a_peek_leaves_the_message() {
    model(|| {
        let (mut producer, mut consumer) = ring::<8>(1);
        let producing =
            thread::spawn(move || u64::from(push(&mut producer, 1)) + u64::from(push(&mut producer, 2)));
        let mut got = Vec::new();
        for _ in 0..2 {
            if let Ok(peeked) = consumer.peek() {
                let mut popped = [0; 8];
                consumer.pop_to(&mut popped).unwrap();
                assert_eq!(popped, peeked);
                got.push(number(popped));
            }
        }
        let pushed = producing.join().unwrap();
        got.extend(consumer.drain().map(number));
        assert_eq!(got, (1..=pushed).collect::<Vec<_>>());
    });
}

/// What the consumer is told to be there can be popped.
#[test]
fn the_consumers_length_is_a_lower_bound() {
    model_that_shows(&["none", "some"], |shown| {
        let (mut producer, mut consumer) = ring::<1>(2);
        let producing = thread::spawn(move || (1..=3).filter(|n| push(&mut producer, *n)).count());
        for _ in 0..2 {
            let (empty, len) = (consumer.is_empty(), consumer.len());
            assert!(len <= 2);
            shown.note(if len == 0 { "none" } else { "some" });
            assert!(empty || len > 0, "not empty turned into empty");
            for _ in 0..len {
                assert!(pop(&mut consumer).is_some(), "{len} promised, fewer there");
            }
        }
        producing.join().unwrap();
    });
}

/// What the producer is told to be free can be pushed.
#[test]
fn the_producers_free_room_is_a_lower_bound() {
    model_that_shows(&["none", "some"], |shown| {
        let (mut producer, mut consumer) = ring::<1>(2);
        assert!(push(&mut producer, 1));
        assert!(push(&mut producer, 2));
        let consuming = thread::spawn(move || {
            let got: Vec<_> = (0..3).filter_map(|_| pop(&mut consumer)).collect();
            (consumer, got)
        });
        let mut next = 3;
        for _ in 0..2 {
            let (full, free) = (producer.is_full(), producer.free());
            assert!(full || free > 0, "not full turned into full");
            shown.note(if free == 0 { "none" } else { "some" });
            for _ in 0..free {
                assert!(push(&mut producer, next), "{free} free, no room");
                next += 1;
            }
        }
        let (mut consumer, mut got) = consuming.join().unwrap();
        got.extend(consumer.drain().map(number));
        assert_eq!(got, (1..next).collect::<Vec<_>>());
    });
}

/// A producer is killed before each of its accesses; its successor, which has proof by a join, goes on at once while
/// the consumer works. What was acknowledged arrives, what was in the hand arrives whole or not at all.
fn producer_takeover(work: fn(&mut Producer<Message<1>>, &mut u64), batch: u64) {
    at_every_step(move |step| {
        let ring = Arc::new(Ring::<Message<1>>::on_heap(2).unwrap());
        let (mut victim, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let dead = victim.owner();
        let dying = thread::spawn(move || {
            let mut acknowledged = 0;
            let outcome = hook::killed_after(step, || work(&mut victim, &mut acknowledged));
            hook::die();
            (acknowledged, outcome.is_none())
        });
        let succeeding = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let fate = dying.join().unwrap();
                // SAFETY: the join is the proof.
                let mut producer = unsafe { ring.replace_producer(dead) }.unwrap();
                let pushed = [101, 102].into_iter().take_while(|n| push(&mut producer, *n)).count() as u64;
                (fate, pushed)
            }
        });
        let mut got: Vec<u64> = (0..3).filter_map(|_| pop(&mut consumer)).collect();
        let ((acknowledged, killed), pushed) = succeeding.join().unwrap();
        got.extend(consumer.drain().map(number));
        let whole = got.iter().take_while(|n| **n < 100).count() as u64;
        assert!(
            whole == acknowledged || whole == acknowledged + batch,
            "{acknowledged} acknowledged, got {got:?}"
        );
        assert!(killed || whole == acknowledged);
        assert_eq!(got, (1..=whole).chain(101..=100 + pushed).collect::<Vec<_>>());
        killed
    });
}

#[test]
fn a_producer_killed_at_any_step_of_a_push_is_replaced() {
    producer_takeover(
        |producer, acknowledged| {
            for _ in 0..2 {
                *acknowledged += u64::from(push(producer, *acknowledged + 1));
            }
        },
        1,
    );
}

#[test]
fn a_producer_killed_at_any_step_of_a_batch_is_replaced() {
    producer_takeover(
        |producer, acknowledged| {
            if producer.push_slice(&[[1], [2]]).is_ok() {
                *acknowledged = 2;
            }
        },
        2,
    );
}

#[test]
fn a_producer_killed_at_any_step_of_a_reservation_is_replaced() {
    producer_takeover(
        |producer, acknowledged| {
            let mut reserved = producer.reserve(2).unwrap();
            let (slots, _) = reserved.as_mut_slices();
            slots.copy_from_slice(&[[1], [2]]);
            reserved.commit(2).unwrap();
            *acknowledged = 2;
        },
        2,
    );
}

/// A consumer is killed before each of its accesses; its successor, which has proof by a join, goes on while the
/// producer works. Nothing is lost, and no more is seen again than was consumed and not released.
fn consumer_takeover<const N: usize>(period: u64, work: fn(&mut Consumer<Message<N>>, &mut Vec<u64>)) {
    at_every_step(move |step| {
        let ring = Arc::new(Ring::<Message<N>>::on_heap(2).unwrap());
        let (mut producer, mut victim) = (ring.producer().unwrap(), ring.consumer().unwrap());
        victim.tune(Tuning::default().release_every(period));
        assert!(push(&mut producer, 1));
        let dead = victim.owner();
        let dying = thread::spawn(move || {
            let mut got = Vec::new();
            let outcome = hook::killed_after(step, || work(&mut victim, &mut got));
            hook::die();
            (got, outcome.is_none())
        });
        let succeeding = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let (before, killed) = dying.join().unwrap();
                // SAFETY: the join is the proof.
                let mut consumer = unsafe { ring.replace_consumer(dead) }.unwrap();
                let got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer)).collect();
                (consumer, before, got, killed)
            }
        });
        let mut next = 2;
        for _ in 0..3 {
            if next <= 4 && push(&mut producer, next) {
                next += 1;
            }
        }
        let (mut consumer, before, mut got, killed) = succeeding.join().unwrap();
        got.extend(consumer.drain().map(number));
        assert_eq!(before, (1..=before.len() as u64).collect::<Vec<_>>());
        let first = got.first().copied().unwrap_or(next);
        let last = before.len() as u64;
        assert!(first <= last + 1, "lost: {before:?} then {got:?}");
        assert!(first + period > last, "too much again: {before:?} then {got:?}");
        assert_eq!(got, (first..next).collect::<Vec<_>>());
        // Whoever is left can use the whole ring.
        assert!(push(&mut producer, 7));
        assert!(push(&mut producer, 8));
        assert_eq!(consumer.drain().map(number).collect::<Vec<_>>(), [7, 8]);
        killed
    });
}

#[test]
fn a_consumer_killed_at_any_step_of_a_pop_is_replaced() {
    for period in [1, 2] {
        consumer_takeover::<1>(period, |consumer, got| {
            (0..3).for_each(|_| got.extend(pop(consumer)));
        });
    }
}

#[test]
fn a_consumer_killed_at_any_step_of_a_touched_pop_is_replaced() {
    consumer_takeover::<8>(1, |consumer, got| (0..2).for_each(|_| got.extend(pop(consumer))));
}

#[test]
fn a_consumer_killed_at_any_step_of_a_batch_is_replaced() {
    // The batch itself is in the hand until `pop_into` returns: then it is released at once, or kept below a period.
    consumer_takeover::<8>(2, |consumer, got| {
        for _ in 0..2 {
            let mut two = [[0; 8]; 2];
            if let Ok(n) = consumer.pop_into(&mut two) {
                got.extend(two[..n].iter().copied().map(number));
            }
        }
    });
}

#[test]
fn a_consumer_killed_at_any_step_of_a_chunk_is_replaced() {
    consumer_takeover::<8>(1, |consumer, got| {
        for _ in 0..2 {
            if let Ok(mut chunk) = consumer.read_chunk(1) {
                let seen = number(chunk.as_slices().0[0]);
                chunk.release(1).unwrap();
                got.push(seen);
            }
        }
    });
}
