//! Byte records: 64 bytes of data, the smallest ring. A record of 16 bytes takes 24, so every third one finds only
//! 16 bytes before the end and goes behind padding; records of 24 bytes take 32, and every second one ends a line.

use std::sync::Arc;

use loom::sync::atomic::Ordering;
use loom::thread;
use tidewire_ring::bytes::{Consumer, Producer, Ring};
use tidewire_ring::{RecordPopError, RecordPushError, Tuning};
use tidewire_shm::sync::hook;
use tidewire_shm::{Region, Trust, Trusted, Untrusted};

use crate::model::{at_every_step, gate, model, model_that_shows};

const CAPACITY: usize = 64;

/// Record number `n` with `len` equal bytes.
fn record(n: u64, len: usize) -> Vec<u8> {
    vec![n as u8; len]
}

/// The number of a record, which is whole and has the right length.
fn number(bytes: &[u8], len: usize) -> u64 {
    let n = bytes.first().copied().unwrap_or_default();
    assert_eq!(bytes, vec![n; len], "torn");
    n.into()
}

fn push<L: Trust>(producer: &mut Producer<L>, n: u64, len: usize) -> bool {
    match producer.push(&record(n, len)) {
        Ok(()) => true,
        Err(RecordPushError::Full) => false,
        Err(error) => panic!("{error}"),
    }
}

fn pop<L: Trust>(consumer: &mut Consumer<L>, len: usize) -> Option<u64> {
    let mut buffer = [0; 32];
    match consumer.pop_into(&mut buffer) {
        Ok(n) => Some(number(&buffer[..n], len)),
        Err(RecordPopError::Empty) => None,
        Err(error) => panic!("{error}"),
    }
}

fn drain<L: Trust>(consumer: &mut Consumer<L>, len: usize) -> impl Iterator<Item = u64> {
    core::iter::from_fn(move || pop(consumer, len))
}

/// Records 1, 2, ... `items` of `len` bytes through a ring, in order, each once.
fn stream(len: usize, items: u64, attempts: usize, tuning: Tuning) {
    model_that_shows(&["empty", "full", "full, then room", "wrap"], move |shown| {
        let (mut producer, mut consumer) = Ring::on_heap(CAPACITY).unwrap().split().unwrap();
        consumer.tune(tuning);
        let producing = thread::spawn({
            let shown = shown.clone();
            move || {
                let (mut next, mut full) = (1, false);
                for _ in 0..attempts {
                    if next > items {
                        break;
                    } else if push(&mut producer, next, len) {
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
        let mut got: Vec<u64> = (0..attempts).filter_map(|_| pop(&mut consumer, len)).collect();
        shown.note_if(got.is_empty(), "empty");
        shown.note_if(got.len() > 2, "wrap");
        let (mut producer, next) = producing.join().unwrap();
        got.extend(drain(&mut consumer, len));
        for rest in next..=items {
            assert!(push(&mut producer, rest, len), "full although drained");
            got.extend(pop(&mut consumer, len));
            consumer.release();
        }
        assert_eq!(got, (1..=items).collect::<Vec<_>>());
    });
}

#[test]
fn records_behind_padding() {
    stream(16, 4, 5, Tuning::default());
}

#[test]
fn records_behind_padding_late_release() {
    stream(16, 4, 5, Tuning::default().release_every(48));
}

#[test]
fn records_that_end_lines() {
    for touch in [true, false] {
        stream(24, 4, 4, Tuning::default().touch(touch));
    }
}

#[test]
fn empty_records() {
    model(|| {
        let (mut producer, mut consumer) = Ring::on_heap(CAPACITY).unwrap().split().unwrap();
        let producing = thread::spawn(move || (0..2).filter(|_| producer.push(b"").is_ok()).count());
        let mut got = (0..2).filter(|_| consumer.pop_into(&mut []) == Ok(0)).count();
        assert_eq!(producing.join().unwrap(), 2);
        got += core::iter::from_fn(|| consumer.pop_into(&mut []).ok()).count();
        assert_eq!(got, 2);
    });
}

/// Two records and the padding between them appear with one store.
#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    model_that_shows(&["nothing", "all"], |shown| {
        let (mut producer, mut consumer) = Ring::on_heap(CAPACITY).unwrap().split().unwrap();
        // 24 bytes used and released: 24 of 40 hold the first record, then 16 are padding, then comes the second.
        assert!(push(&mut producer, 9, 16));
        assert_eq!(pop(&mut consumer, 16), Some(9));
        let producing = thread::spawn(move || {
            // Never committed.
            producer.batch().push(&record(66, 16)).unwrap();
            let mut batch = producer.batch();
            batch.push(&record(1, 16)).unwrap();
            batch.push(&record(2, 16)).unwrap();
            assert_eq!(batch.commit(), 2);
        });
        let mut got: Vec<u64> = Vec::new();
        for _ in 0..2 {
            let len = consumer.len();
            assert!(len == 0 || len == 64, "part of a batch: {len} bytes");
            shown.note(if len == 0 { "nothing" } else { "all" });
            if let Some(first) = pop(&mut consumer, 16) {
                got.push(first);
                got.extend(pop(&mut consumer, 16));
                assert_eq!(got, [1, 2], "part of a batch");
                break;
            }
        }
        producing.join().unwrap();
        got.extend(drain(&mut consumer, 16));
        assert_eq!(got, [1, 2]);
    });
}

/// What is reserved and aborted is never seen, not even its padding; what is committed is seen as it was written.
#[test]
fn reserve_commit_abort() {
    model_that_shows(&["behind padding"], |shown| {
        let (mut producer, mut consumer) = Ring::on_heap(CAPACITY).unwrap().split().unwrap();
        // Where the other may come in while a slice is borrowed.
        let (gate, look) = gate();
        let producing = thread::spawn(move || {
            let mut aborted = producer.reserve(24).unwrap();
            aborted.as_mut_slice().fill(66);
            gate.store(1, Ordering::Relaxed);
            aborted.as_mut_slice().fill(67);
            drop(aborted);
            let mut reserved = producer.reserve(24).unwrap();
            reserved.as_mut_slice()[..8].fill(1);
            gate.store(1, Ordering::Relaxed);
            reserved.set(8, &[1; 8]).unwrap();
            reserved.commit(16).unwrap();
            let mut last = 1;
            for _ in 0..2 {
                // The third is behind padding, and needs the first to be released.
                let Ok(mut reserved) = producer.reserve(16) else {
                    break;
                };
                last += 1;
                reserved.set(0, &record(last, 16)).unwrap();
                reserved.commit(16).unwrap();
            }
            last
        });
        let mut got: Vec<u64> = (0..3).inspect(|_| look()).filter_map(|_| pop(&mut consumer, 16)).collect();
        let last = producing.join().unwrap();
        shown.note_if(last == 3, "behind padding");
        got.extend(drain(&mut consumer, 16));
        assert_eq!(got, (1..=last).collect::<Vec<_>>());
    });
}

/// A record is borrowed while the producer tries to reuse its bytes; they stay ours until it is dropped.
#[test]
fn a_borrowed_record_stays_until_it_is_dropped() {
    model_that_shows(&["reused"], |shown| {
        let (mut producer, mut consumer) = Ring::on_heap(CAPACITY).unwrap().split().unwrap();
        assert!(push(&mut producer, 1, 24));
        let producing = thread::spawn(move || {
            let mut next = 2;
            for _ in 0..4 {
                if next <= 4 && push(&mut producer, next, 24) {
                    next += 1;
                }
            }
            next
        });
        let mut got = Vec::new();
        for _ in 0..3 {
            let Ok(record) = consumer.pop() else { continue };
            let before = number(&record, 24);
            thread::yield_now();
            assert_eq!(number(&record, 24), before, "a borrowed record changed");
            drop(record);
            got.push(before);
        }
        let next = producing.join().unwrap();
        shown.note_if(next > 3, "reused");
        got.extend(drain(&mut consumer, 24));
        assert_eq!(got, (1..next).collect::<Vec<_>>());
    });
}

/// The same with peers that are not trusted: copied out, piece by piece.
#[test]
fn an_untrusted_record_is_copied_out() {
    model(|| {
        let bytes = Ring::<Untrusted>::bytes(CAPACITY, &tidewire_ring::Options::new()).unwrap();
        let region: Region<Trusted> = Region::heap(bytes).unwrap();
        let ring = Ring::create(region.distrust(), CAPACITY, &tidewire_ring::Options::new()).unwrap();
        let (mut producer, mut consumer) = ring.split().unwrap();
        let producing =
            thread::spawn(move || (1..=3).take_while(|n| push(&mut producer, *n, 24)).count() as u64);
        let mut got = Vec::new();
        for _ in 0..3 {
            let Ok(record) = consumer.pop() else { continue };
            let (mut front, mut back) = ([0; 12], [0; 12]);
            record.get(0, &mut front).unwrap();
            record.get(12, &mut back).unwrap();
            assert_eq!(front, back);
            got.push(number(&front, 12));
        }
        let pushed = producing.join().unwrap();
        got.extend(drain(&mut consumer, 24));
        assert_eq!(got, (1..=pushed).collect::<Vec<_>>());
    });
}

/// A short buffer leaves the record; the length that was told is the record's.
#[test]
fn a_short_buffer_leaves_the_record() {
    model(|| {
        let (mut producer, mut consumer) = Ring::on_heap(CAPACITY).unwrap().split().unwrap();
        let producing = thread::spawn(move || assert!(push(&mut producer, 1, 16)));
        if let Ok(len) = consumer.peek_len() {
            assert_eq!(len, 16);
            let refused = consumer.pop_into(&mut [0; 15]);
            assert_eq!(refused, Err(RecordPopError::BufferTooSmall { needed: 16 }));
        }
        producing.join().unwrap();
        assert_eq!(drain(&mut consumer, 16).collect::<Vec<_>>(), [1]);
    });
}

/// A consumer that is told of bytes finds a record; a producer that is told of room has it.
#[test]
fn lengths_are_lower_bounds() {
    model(|| {
        let (mut producer, mut consumer) = Ring::on_heap(CAPACITY).unwrap().split().unwrap();
        let producing = thread::spawn(move || {
            let mut next = 1;
            for _ in 0..3 {
                // 40 bytes are 24 and the longest padding before them.
                let room = producer.free() >= 40;
                let pushed = push(&mut producer, next, 16);
                assert!(pushed || !room, "room promised, none there");
                next += u64::from(pushed);
            }
            next
        });
        let mut got = Vec::new();
        for _ in 0..2 {
            let empty = consumer.is_empty();
            let popped = pop(&mut consumer, 16);
            assert!(popped.is_some() || empty, "a record promised, none there");
            got.extend(popped);
        }
        let next = producing.join().unwrap();
        got.extend(drain(&mut consumer, 16));
        assert_eq!(got, (1..next).collect::<Vec<_>>());
    });
}

/// As for fixed slots: killed before each access, replaced at once while the consumer works.
fn producer_takeover(work: fn(&mut Producer, &mut u64), batch: u64) {
    at_every_step(move |step| {
        let ring = Arc::new(Ring::on_heap(CAPACITY).unwrap());
        let (mut victim, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        // 24 bytes used and released: the victim's second record goes behind padding.
        assert!(push(&mut victim, 9, 16));
        assert_eq!(pop(&mut consumer, 16), Some(9));
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
                let pushed =
                    [101, 102].into_iter().take_while(|n| push(&mut producer, *n, 16)).count() as u64;
                (fate, pushed)
            }
        });
        let mut got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer, 16)).collect();
        let ((acknowledged, killed), pushed) = succeeding.join().unwrap();
        got.extend(drain(&mut consumer, 16));
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
                *acknowledged += u64::from(push(producer, *acknowledged + 1, 16));
            }
        },
        1,
    );
}

#[test]
fn a_producer_killed_at_any_step_of_a_batch_is_replaced() {
    producer_takeover(
        |producer, acknowledged| {
            let mut batch = producer.batch();
            batch.push(&record(1, 16)).unwrap();
            batch.push(&record(2, 16)).unwrap();
            *acknowledged = batch.commit() as u64;
        },
        2,
    );
}

#[test]
fn a_producer_killed_at_any_step_of_a_reservation_is_replaced() {
    producer_takeover(
        |producer, acknowledged| {
            let mut reserved = producer.reserve(16).unwrap();
            reserved.as_mut_slice().fill(1);
            reserved.commit(16).unwrap();
            *acknowledged = 1;
        },
        1,
    );
}

/// As for fixed slots; `period` and what may be seen again are counted in records of 24 bytes.
fn consumer_takeover(period: u64, work: fn(&mut Consumer, &mut Vec<u64>)) {
    at_every_step(move |step| {
        let ring = Arc::new(Ring::on_heap(CAPACITY).unwrap());
        let (mut producer, mut victim) = (ring.producer().unwrap(), ring.consumer().unwrap());
        victim.tune(Tuning::default().release_every(period * 24));
        assert!(push(&mut producer, 1, 16));
        assert!(push(&mut producer, 2, 16));
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
                let got: Vec<u64> = (0..2).filter_map(|_| pop(&mut consumer, 16)).collect();
                (consumer, before, got, killed)
            }
        });
        let mut next = 3;
        for _ in 0..2 {
            if next <= 4 && push(&mut producer, next, 16) {
                next += 1;
            }
        }
        let (mut consumer, before, mut got, killed) = succeeding.join().unwrap();
        got.extend(drain(&mut consumer, 16));
        assert_eq!(before, (1..=before.len() as u64).collect::<Vec<_>>());
        let first = got.first().copied().unwrap_or(next);
        let last = before.len() as u64;
        assert!(first <= last + 1, "lost: {before:?} then {got:?}");
        assert!(first + period > last, "too much again: {before:?} then {got:?}");
        assert_eq!(got, (first..next).collect::<Vec<_>>());
        // Whoever is left can use the whole ring.
        assert!(push(&mut producer, 7, 16));
        assert_eq!(drain(&mut consumer, 16).collect::<Vec<_>>(), [7]);
        killed
    });
}

#[test]
fn a_consumer_killed_at_any_step_of_a_pop_is_replaced() {
    for period in [1, 2] {
        consumer_takeover(period, |consumer, got| {
            (0..3).for_each(|_| got.extend(pop(consumer, 16)));
        });
    }
}

#[test]
fn a_consumer_killed_at_any_step_of_a_borrowed_record_is_replaced() {
    consumer_takeover(1, |consumer, got| {
        for _ in 0..3 {
            if let Ok(record) = consumer.pop() {
                let seen = number(&record, 16);
                drop(record);
                got.push(seen);
            }
        }
    });
}
