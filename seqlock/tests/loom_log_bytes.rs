//! Models of the log of bytes: that the length of a value belongs to its bytes, in every schedule and for every value that a
//! load may see. What else the protocol promises is one with the log of plain types, and so is its code: see `loom_log`.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tidewire-seqlock --profile loom --test loom_log_bytes`.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

#[allow(dead_code, reason = "other models use the rest")]
#[path = "loom_seqlock/leases.rs"]
mod leases;
#[allow(dead_code, reason = "other models use the rest")]
#[path = "loom_seqlock/model.rs"]
mod model;

use leases::Leases;
use loom::thread;
use model::{Shown, at_every_step, model_that_shows};
use tidewire_seqlock::log::bytes::{self, Reader};
use tidewire_seqlock::log::{NextError, Options, Start, TryWriteError};
use tidewire_shm::sync::hook;
use tidewire_shm::{Liveness, Region, Unleased};

/// One word of bytes, and its length.
const MAX: usize = 8;

/// Neighbours have other lengths, and all bytes tell the version.
fn value(version: u64) -> Vec<u8> {
    vec![version as u8 * 16; [8, 3, 5, 1][version as usize % 4]]
}

fn log<V: Liveness>(capacity: u32, gates: u32) -> bytes::Log {
    let options = Options::new(capacity).gates(gates).liveness::<V>();
    let region = Region::heap(bytes::region_bytes(MAX, &options).unwrap()).unwrap();
    bytes::create(region, MAX, &options).unwrap()
}

/// Takes a version, if there is one; whether there may be another.
fn step(reader: &mut Reader, into_vector: bool, shown: &Shown) -> bool {
    let next = reader.position();
    let mut buffer = [0; MAX];
    // Too short for some: then the value is copied twice.
    let mut to = Vec::with_capacity(4);
    let found = if into_vector {
        reader.next_bytes_into(&mut to).map(|version| version.map(|version| (&to[..], version)))
    } else {
        reader.next_bytes(&mut buffer).map_err(|error| match error {
            tidewire_seqlock::log::BytesNextError::Overtaken { missed } => NextError::Overtaken { missed },
            other => panic!("{other}"),
        })
    };
    match found {
        Ok(Some((found, version))) => {
            assert_eq!((found, version), (&*value(next), next), "torn, or out of order");
            shown.note("read");
            true
        }
        Ok(None) => false,
        Err(NextError::Overtaken { missed }) => {
            assert_eq!(reader.position(), next + missed);
            shown.note("overtaken");
            true
        }
        Err(NextError::Corrupt(corrupt)) => panic!("{corrupt}"),
    }
}

/// The writer goes on from `before` to `last` while a reader takes some steps.
fn stream(capacity: u32, before: u64, last: u64, steps: u32, into_vector: bool) {
    model_that_shows(&["read", "overtaken"], move |shown| {
        let log = log::<Unleased>(capacity, 0);
        let mut writer = log.writer(&Unleased).unwrap();
        (1..=before).for_each(|version| assert_eq!(writer.write_bytes(&value(version)), Ok(version)));
        let mut reader = log.reader(Start::Oldest).unwrap();
        let start = reader.position();
        let writing = thread::spawn(move || {
            (before + 1..=last)
                .for_each(|version| assert_eq!(writer.write_bytes(&value(version)), Ok(version)));
        });
        for _ in 0..steps {
            step(&mut reader, into_vector, shown);
        }
        writing.join().unwrap();
        while step(&mut reader, into_vector, shown) {}
        assert_eq!(reader.position(), last + 1);
        assert!(reader.missed() <= last + 1 - start);
    });
}

#[test]
fn a_length_belongs_to_its_bytes() {
    stream(2, 1, 4, 2, false);
}

#[test]
fn so_it_does_where_it_is_looked_at_twice() {
    stream(2, 1, 4, 1, true);
}

/// The second version of a group is stored behind no fence of its own.
#[test]
fn a_stamp_speaks_for_the_lengths_of_its_group() {
    stream(8, 7, 10, 2, false);
}

/// A gate holds what it holds.
#[test]
fn a_gate_holds_lengths_and_bytes() {
    model_that_shows(&["refused", "written"], |shown| {
        let log = log::<Unleased>(2, 1);
        let mut writer = log.writer(&Unleased).unwrap();
        let mut reader = log.gated_reader(Start::Next, &Unleased).unwrap();
        (1..=2).for_each(|version| assert_eq!(writer.try_write_bytes(&value(version)), Ok(version)));
        let reading = thread::spawn(move || {
            let mut buffer = [0; MAX];
            for version in 1..=2 {
                assert_eq!(reader.next_bytes(&mut buffer), Ok(Some((&*value(version), version))));
            }
            reader
        });
        match writer.try_write_bytes(&value(3)) {
            Ok(version) => {
                assert_eq!(version, 3);
                shown.note("written");
            }
            Err(TryWriteError::Full(_)) => shown.note("refused"),
            Err(TryWriteError::TooLong(long)) => panic!("{long}"),
        }
        drop(reading.join().unwrap());
    });
}

/// Killed at any step, a writer shows a value whole or not at all, and its successor goes on.
#[test]
fn a_writer_killed_at_any_step_shows_whole_values() {
    at_every_step(|step_of_death| {
        let shown = Shown::default();
        let leases = Leases::new();
        let log = log::<Leases>(2, 0);
        let mut first = log.writer(&leases).unwrap();
        (1..=2).for_each(|version| assert_eq!(first.write_bytes(&value(version)), Ok(version)));
        let mut reader = log.reader(Start::Oldest).unwrap();
        let dying = thread::spawn(move || {
            hook::killed_after(step_of_death, || {
                let mut first = first;
                assert_eq!(first.write_bytes(&value(3)), Ok(3));
            })
            .is_none()
        });
        step(&mut reader, false, &shown);
        let killed = dying.join().unwrap();
        let mut next = log.writer(&leases).unwrap();
        let version = next.version() + 1;
        assert!((3..=4).contains(&version));
        assert_eq!(next.write_bytes(&value(version)), Ok(version));
        while step(&mut reader, false, &shown) {}
        assert_eq!(reader.position(), version + 1);
        killed
    });
}
