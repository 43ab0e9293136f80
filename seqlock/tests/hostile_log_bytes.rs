//! Peers that lie about a log of bytes: an answer in bounded time, and nothing outside of the log or of the buffer is read or
//! written.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Memory, byte};
use proptest::prelude::*;
use tidewire_seqlock::log::{BytesNextError, NextError, Options, Start, bytes};
use tidewire_seqlock::{Corrupt, CorruptWord};
use tidewire_shm::{Unleased, Untrusted};

const MAX: usize = 21;
/// Behind 8 stamps, in a line of their own.
const DATA: usize = 768;
const SLOT: usize = 32;

fn value(version: u64) -> Vec<u8> {
    (0..version as usize * 5 % (MAX + 1)).map(|i| byte(version, i)).collect()
}

/// A log of eight slots in which so much is published.
fn log(published: u64) -> (Memory, bytes::Log<Untrusted>) {
    let options = Options::new(8).gates(2);
    let memory = Memory::new(bytes::region_bytes(MAX, &options).unwrap());
    let log = bytes::create(memory.region(), MAX, &options).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    (1..=published).for_each(|version| assert_eq!(writer.write_bytes(&value(version)), Ok(version)));
    (memory, log)
}

fn length(version: u64) -> usize {
    DATA + version as usize % 8 * SLOT + SLOT - 8
}

#[test]
fn a_length_beyond_the_longest_is_corrupt_for_good() {
    for wrong in [MAX as u64 + 1, 24, 25, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
        let (memory, log) = log(6);
        let mut reader = log.reader(Start::History(3)).unwrap();
        let (mut vectors, mut gated) =
            (reader.clone(), log.gated_reader(Start::History(3), &Unleased).unwrap());
        let right = memory.get(length(4));
        memory.set(length(4), wrong);
        let error = Corrupt { what: CorruptWord::Length, found: wrong };
        let (mut buffer, mut to) = ([7; MAX], vec![7; 3]);
        assert_eq!(reader.next_bytes(&mut buffer), Err(BytesNextError::Corrupt(error)));
        assert_eq!(gated.next_bytes(&mut buffer), Err(BytesNextError::Corrupt(error)));
        assert_eq!(buffer, [7; MAX], "nothing was copied");
        assert_eq!(vectors.next_bytes_into(&mut to), Err(NextError::Corrupt(error)));
        assert_eq!(to.len(), 0);
        memory.set(length(4), right);
        assert_eq!(reader.next_bytes(&mut buffer), Err(BytesNextError::Corrupt(error)), "{wrong:#x}");
        assert_eq!((reader.lag(), reader.corruption()), (Err(error), Some(error)));
        assert_eq!((reader.position(), reader.missed()), (4, 0));
        memory.check_guards();
    }
}

#[test]
fn any_length_up_to_the_longest_is_a_value() {
    let (memory, log) = log(6);
    let reader = log.reader(Start::History(1)).unwrap();
    for len in 0..=MAX {
        memory.set(length(6), len as u64);
        let mut to = Vec::new();
        assert_eq!((reader.clone().next_bytes_into(&mut to), to.len()), (Ok(Some(6)), len));
        let refused = reader.clone().next_bytes(&mut vec![0; len.saturating_sub(1)]).map(|_| ());
        assert_eq!(refused.is_err(), len > 0);
    }
}

/// A length that grows between two looks at one version: told, or found within the bounds, however it falls.
#[test]
fn a_length_that_changes_all_the_time_ends_in_an_answer() {
    let (memory, log) = log(6);
    let stop = Arc::new(AtomicBool::new(false));
    let liar = thread::spawn({
        let (memory, stop) = (memory.clone(), Arc::clone(&stop));
        move || {
            for len in (0..=MAX as u64).cycle() {
                memory.set(length(6), len);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    });
    let reader = log.reader(Start::History(1)).unwrap();
    for _ in 0..if cfg!(miri) { 50 } else { 50_000 } {
        let mut to = Vec::new();
        match reader.clone().next_bytes_into(&mut to) {
            Ok(Some(6)) => assert!(to.len() <= MAX),
            Err(NextError::Corrupt(Corrupt { what: CorruptWord::Length, found })) => {
                assert!(found <= MAX as u64);
            }
            other => panic!("{other:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    liar.join().unwrap();
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
            let _any = writer.try_write_bytes(&value(small));
            prop_assert!(writer.room() <= 8);
            readers.extend(log.reader(Start::History(small)).ok());
            gated.extend(log.gated_reader(Start::Oldest, &Unleased).ok());
            // The buffer is a part of a larger one, the rest of which nobody touches.
            let mut buffer = [0xA5; 40];
            let room = small as usize % (MAX + 1);
            let mut to = Vec::with_capacity(room);
            for reader in &mut readers {
                let position = reader.position();
                for _ in 0..3 {
                    if let Ok(Some((found, _))) = reader.next_bytes(&mut buffer[..room]) {
                        prop_assert!(found.len() <= room);
                    }
                    let _any = reader.next_bytes_into(&mut to);
                    prop_assert!(to.len() <= MAX);
                }
                prop_assert!(reader.position() >= position);
            }
            for reader in &mut gated {
                let _any = reader.next_bytes(&mut buffer[..room]);
                let _any = reader.next_bytes_into(&mut to);
                prop_assert!(to.len() <= MAX);
            }
            prop_assert!(buffer[room..].iter().all(|byte| *byte == 0xA5));
        }
        drop(gated);
        memory.check_guards();
    }
}

/// All words behind header and shape, all the time, while they are used; and then the same log as it was.
#[test]
fn scribbles_end_in_an_answer() {
    let (memory, log) = log(20);
    let right: Arc<Vec<_>> =
        Arc::new((384..memory.len()).step_by(8).map(|at| (at, memory.get(at))).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let scribbling = thread::spawn({
        let (memory, right, stop) = (memory.clone(), Arc::clone(&right), Arc::clone(&stop));
        move || {
            let mut random = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                let (at, _) = right[(random >> 33) as usize % right.len()];
                let small = random >> 58;
                memory.set(at, if random & 1 << 30 == 0 { small } else { random });
            }
        }
    });
    let mut to = Vec::new();
    for round in 0..if cfg!(miri) { 20 } else { 10_000 } {
        if round % 8 == 0 {
            right.iter().for_each(|(at, word)| memory.set(*at, *word));
        }
        if let Ok(mut writer) = log.writer(&Unleased) {
            let _any = writer.try_write_bytes(&value(round));
            let _any = writer.write_bytes(&value(round + 1));
        }
        for start in [Start::Oldest, Start::Next, Start::History(round % 9)] {
            if let Ok(mut reader) = log.reader(start) {
                for _ in 0..4 {
                    let _any = reader.next_bytes_into(&mut to);
                    assert!(to.len() <= MAX);
                }
            }
        }
        if let Ok(mut reader) = log.gated_reader(Start::Oldest, &Unleased) {
            let _any = reader.next_bytes(&mut [0; 9]).map(|_| ());
        }
    }
    stop.store(true, Ordering::Relaxed);
    scribbling.join().unwrap();
    right.iter().for_each(|(at, word)| memory.set(*at, *word));
    let mut reader = log.reader(Start::Oldest).unwrap();
    for version in 13..=20 {
        assert_eq!((reader.next_bytes_into(&mut to), &to), (Ok(Some(version)), &value(version)));
    }
    memory.check_guards();
}
