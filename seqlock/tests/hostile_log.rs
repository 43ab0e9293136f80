//! Peers that lie: readers and writers end in bounded time, with an answer, and nothing outside of the log is read or
//! written.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Memory, Value};
use proptest::prelude::*;
use tidewire_seqlock::log::{Log, NextError, Options, Start};
use tidewire_seqlock::{AttachError, Corrupt, CorruptWord};
use tidewire_shm::{Unleased, Untrusted};

const LATEST: usize = 512;
const STAMPS: usize = 640;

/// A log of eight slots in which so much is published.
fn log(published: u64) -> (Memory, Log<[u64; 3], Untrusted>) {
    let options = Options::new(8).gates(2);
    let memory = Memory::new(Log::<[u64; 3]>::bytes(&options).unwrap());
    let log = Log::create(memory.region(), &options).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    (1..=published).for_each(|version| assert_eq!(writer.write(&Value::of(version)), version));
    (memory, log)
}

fn stamp(version: u64) -> usize {
    STAMPS + 8 * (version as usize % 8)
}

fn corrupt(what: CorruptWord, found: u64) -> Corrupt {
    Corrupt { what, found }
}

#[test]
fn a_version_that_goes_back_is_corrupt_for_good() {
    let (memory, log) = log(6);
    let mut reader = log.reader(Start::Next).unwrap();
    for wrong in [5, 0, u64::MAX, 1 << 62] {
        let mut reader = reader.clone();
        memory.set(LATEST, wrong);
        let error = corrupt(CorruptWord::Version, wrong);
        assert_eq!((reader.next(), reader.lag()), (Err(NextError::Corrupt(error)), Err(error)));
        memory.set(LATEST, 6);
        assert_eq!((reader.next(), reader.corruption()), (Err(NextError::Corrupt(error)), Some(error)));
        assert_eq!(reader.next_batch(&mut [[0; 3]; 2]), Err(NextError::Corrupt(error)));
    }
    assert_eq!((reader.next(), reader.corruption()), (Ok(None), None));
}

#[test]
fn a_stamp_that_cannot_be_is_corrupt_for_good() {
    // The slot of version 4: of no version, of another slot, of a lap before, of one that cannot have begun.
    for wrong in [0, 3, 5, 4 + 16, 4 + 80, 1 << 63, u64::MAX] {
        let (memory, log) = log(6);
        let mut reader = log.reader(Start::History(3)).unwrap();
        let mut batches = reader.clone();
        memory.set(stamp(4), wrong);
        let error = corrupt(CorruptWord::Stamp, 4);
        assert_eq!(reader.next(), Err(NextError::Corrupt(error)), "{wrong:#x}");
        assert_eq!(batches.next_batch(&mut [[0; 3]; 2]), Err(NextError::Corrupt(error)), "{wrong:#x}");
        memory.set(stamp(4), 4);
        assert_eq!((reader.next(), reader.lag()), (Err(NextError::Corrupt(error)), Err(error)));
        assert_eq!(reader.corruption(), Some(error));
    }
}

/// Versions that were announced and not written.
#[test]
fn a_version_that_runs_ahead_is_corrupt_when_it_is_read() {
    let (memory, log) = log(6);
    let mut reader = log.reader(Start::Next).unwrap();
    memory.set(LATEST, 1 << 61);
    assert_eq!(reader.lag(), Ok((1 << 61) - 6));
    assert_eq!(reader.next(), Err(NextError::Corrupt(corrupt(CorruptWord::Stamp, 7))));
    // Whoever joins, joins there.
    let mut reader = log.reader(Start::Oldest).unwrap();
    assert!(matches!(reader.next(), Err(NextError::Corrupt(_))));
    assert!(matches!(log.writer(&Unleased).unwrap_err(), AttachError::Corrupt(_)));
}

#[test]
fn a_writer_does_not_go_on_from_what_cannot_be() {
    let (memory, log) = log(6);
    memory.set(stamp(6), 14);
    let refused = AttachError::Corrupt(corrupt(CorruptWord::Stamp, 6));
    assert_eq!(log.writer(&Unleased).unwrap_err(), refused);
    memory.set(LATEST, 1 << 62);
    let refused = AttachError::Corrupt(corrupt(CorruptWord::Version, 1 << 62));
    assert_eq!(log.writer(&Unleased).unwrap_err(), refused);
    memory.set(stamp(6), 6);
    memory.set(LATEST, 6);
    assert_eq!(log.writer(&Unleased).unwrap().write(&Value::of(7)), 7);
}

/// What stands in a gate refuses the writer or does not; nothing else.
#[test]
fn a_head_may_be_anything() {
    let (memory, log) = log(6);
    let mut writer = log.writer(&Unleased).unwrap();
    let mut other = log.gated_reader(Start::Next, &Unleased).unwrap();
    let _lying = log.gated_reader(Start::Next, &Unleased).unwrap();
    let gate = memory.len() - 128;
    for head in [0, 1, 2, 6, 7, 8, 100, 1 << 62, u64::MAX - 8, u64::MAX] {
        memory.set(gate, head);
        let next = writer.version() + 1;
        let refused = head != 0 && head.saturating_add(8) <= next;
        assert_eq!(writer.try_write(&Value::of(next)).is_err(), refused, "{head}");
        assert!(writer.room() <= 8);
        memory.set(gate, 0);
        if !refused {
            assert_eq!(other.next(), Ok(Some((Value::of(next), next))));
        }
    }
    memory.check_guards();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any word behind the shape, set to anything, between any calls.
    #[test]
    fn any_words_end_in_an_answer(
        changes in proptest::collection::vec((any::<usize>(), 0_u32..4, any::<u64>(), 0_u64..40), 1..30),
    ) {
        let (memory, log) = log(20);
        let words = (memory.len() - 384) / 8;
        let mut writer = log.writer(&Unleased).unwrap();
        let mut readers = vec![log.reader(Start::Oldest).unwrap()];
        let mut gated = vec![log.gated_reader(Start::Oldest, &Unleased).unwrap()];
        for (at, kind, random, small) in changes {
            let at = 384 + at % words * 8;
            memory.set(at, match kind { 0 => random, 1 => small, 2 => random >> 2, _ => memory.get(at) ^ (1 << (small % 64)) });
            let _any = writer.try_write(&Value::of(small));
            let _any = writer.try_write_slice(&[Value::of(small); 5]);
            prop_assert!(writer.room() <= 8);
            prop_assert_eq!(writer.reclaim_gates(&Unleased), 0);
            readers.extend(log.reader(Start::History(small)).ok());
            if let Ok(joined) = log.gated_reader(Start::Oldest, &Unleased) {
                gated.push(joined);
            }
            for reader in &mut readers {
                let position = reader.position();
                for _ in 0..3 {
                    let _any = reader.next();
                    let _any = reader.next_batch(&mut [[0; 3]; 20]);
                }
                prop_assert!(reader.position() >= position);
                let _any = reader.lag();
            }
            for reader in &mut gated {
                let _any = reader.next();
                let _any = reader.next_batch(&mut [[0; 3]; 20]);
            }
        }
        drop(gated);
        memory.check_guards();
    }
}

/// The same at the same time. Now and then the words are what they were, so that there is something to go on from.
#[test]
fn scribbles_end_in_an_answer() {
    let (memory, log) = log(20);
    let right: Vec<_> = (384..memory.len()).step_by(8).map(|at| (at, memory.get(at))).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                let (at, _) = right[(random >> 33) as usize % right.len()];
                let small = random >> 58;
                memory.set(at, if random & 1 << 30 == 0 { small } else { random });
            }
        });
        for round in 0..if cfg!(miri) { 20 } else { 20_000 } {
            if round % 8 == 0 {
                right.iter().for_each(|(at, word)| memory.set(*at, *word));
            }
            if let Ok(mut writer) = log.writer(&Unleased) {
                let _any = writer.try_write(&Value::of(round));
                writer.write_slice(&[Value::of(round); 9]);
            }
            for start in [Start::Oldest, Start::Next, Start::History(round % 9)] {
                if let Ok(mut reader) = log.reader(start) {
                    for _ in 0..4 {
                        let _any = reader.next();
                    }
                    let _any = reader.next_batch(&mut [[0; 3]; 20]);
                }
            }
            if let Ok(mut reader) = log.gated_reader(Start::Oldest, &Unleased) {
                let _any = reader.next();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    right.iter().for_each(|(at, word)| memory.set(*at, *word));
    let mut reader = log.reader(Start::Oldest).unwrap();
    (13..=20).for_each(|version| assert_eq!(reader.next(), Ok(Some((Value::of(version), version)))));
    memory.check_guards();
}
