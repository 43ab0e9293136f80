//! A writer at full speed and readers beside it, in threads.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a missing value shall fail the test"
)]

mod common;

use std::thread;

use common::Value;
use tidewire_seqlock::log::{GatedReader, Log, NextError, Options, Reader, Start};
use tidewire_shm::{Region, Unleased};

const VALUES: u64 = if cfg!(miri) { 300 } else { 300_000 };

/// Reads up to the last value; what was received and what was missed is all of it.
fn follow<const N: usize>(mut reader: Reader<[u64; N]>, batch: usize) -> u64
where
    [u64; N]: bytemuck::Pod,
{
    let (start, mut received, mut missed) = (reader.position(), 0, 0);
    let mut found = vec![[0; N]; batch];
    while reader.position() <= VALUES {
        let first = reader.position();
        match reader.next_batch(&mut found) {
            Ok(0) => thread::yield_now(),
            Ok(count) => {
                for (version, value) in (first..).zip(&found[..count]) {
                    assert!(value.is(version), "torn: {version}");
                }
                received += count as u64;
            }
            Err(NextError::Overtaken { missed: more }) => missed += more,
            Err(error) => panic!("{error}"),
        }
        match reader.next() {
            Ok(Some((value, version))) => {
                assert!(value.is(version), "torn: {version}");
                received += 1;
            }
            Ok(None) => {}
            Err(NextError::Overtaken { missed: more }) => missed += more,
            Err(error) => panic!("{error}"),
        }
        assert_eq!((start + received + missed, missed), (reader.position(), reader.missed()));
    }
    missed
}

/// Reads up to the last value without missing any.
fn follow_gated<const N: usize>(mut reader: GatedReader<[u64; N]>)
where
    [u64; N]: bytemuck::Pod,
{
    while reader.position() <= VALUES {
        let expected = reader.position();
        match reader.next().unwrap() {
            Some((value, version)) => assert!(value.is(expected) && version == expected, "{version}"),
            None => thread::yield_now(),
        }
    }
}

fn run<const N: usize>(capacity: u32)
where
    [u64; N]: bytemuck::Pod,
{
    let options = Options::new(capacity).gates(2);
    let region = Region::heap(Log::<[u64; N]>::bytes(&options).unwrap()).unwrap();
    let log = Log::<[u64; N]>::create(region, &options).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    thread::scope(|scope| {
        for batch in [0, 1, 20] {
            let reader = log.reader(Start::Oldest).unwrap();
            scope.spawn(move || follow(reader, batch));
        }
        let gated = log.gated_reader(Start::Next, &Unleased).unwrap();
        assert_eq!(gated.position(), 1);
        scope.spawn(move || follow_gated(gated));
        // And one that comes and goes.
        let log = &log;
        scope.spawn(move || {
            loop {
                let mut gated = log.gated_reader(Start::History(5), &Unleased).unwrap();
                if gated.position() + 10 > VALUES {
                    return;
                }
                let first = gated.position();
                let mut next = first;
                while next < first + 10 {
                    match gated.next().unwrap() {
                        Some((value, version)) => {
                            assert!(value.is(next) && version == next, "{version}");
                            next += 1;
                        }
                        None => thread::yield_now(),
                    }
                }
                assert_eq!(gated.missed(), 0);
            }
        });
        let mut next = 1;
        while next <= VALUES {
            let piece: Vec<_> =
                (next..=VALUES).take(usize::from(next % 100 == 0) * 30).map(Value::of).collect();
            let written = match piece.as_slice() {
                [] => writer.try_write(&Value::of(next)).map(|_| 1),
                piece => writer.try_write_slice(piece),
            };
            match written {
                Ok(written) => next += written as u64,
                Err(_) => thread::yield_now(),
            }
        }
    });
}

#[test]
fn nothing_torn_is_read_and_all_is_accounted_for() {
    run::<1>(4);
    run::<1>(1024);
    run::<8>(64);
    run::<33>(32);
}
