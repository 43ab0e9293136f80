//! Real threads at full speed: no read is torn, none goes back, none is lost, in any form.
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
use std::time::{Duration, Instant};

use common::{Value, byte};
use tidewire_seqlock::table::Table;
use tidewire_seqlock::{BytesReadError, Cell, Options, ReadError, Reader, bytes, classic, shared};
use tidewire_shm::{Region, Unleased};

/// Checked reads of each of the tests of one form.
const READS: u64 = if cfg!(miri) { 200 } else { 1_500_000 };

/// Versions that a reader must have seen: threads that take turns instead of meeting see one per turn.
const VERSIONS: u64 = if cfg!(miri) { 2 } else { 1000 };

/// Reads until it has read and seen enough, and checks every word of every value.
fn check_reads<const N: usize>(mut reader: Reader<[u64; N]>)
where
    [u64; N]: bytemuck::Pod,
{
    let (mut last, mut versions, mut reads) = (0, 0, 0);
    while reads < READS || versions < VERSIONS {
        match reader.read() {
            Ok((value, version)) => {
                assert!(version >= last, "{version} after {last}");
                assert!(value.is(version), "torn: version {version}, {value:x?}");
                versions += u64::from(version != last);
                last = version;
                reads += 1;
            }
            Err(ReadError::Lapped) => {}
            Err(ReadError::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    }
}

fn full_speed<const N: usize>(slots: u32)
where
    [u64; N]: bytemuck::Pod,
{
    let options = Options::new().slots(slots);
    let region = Region::heap(Cell::<[u64; N]>::bytes(&options).unwrap()).unwrap();
    let cell = Cell::create(region, &Value::of(0), &options).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    let mut written = 0;
    thread::scope(|scope| {
        let readers = [cell.reader(), cell.reader()].map(|reader| scope.spawn(|| check_reads(reader)));
        while readers.iter().any(|reader| !reader.is_finished()) {
            written += 1;
            assert_eq!(writer.write(&Value::of(written)), written);
        }
    });
    assert_eq!(cell.reader().read(), Ok((Value::of(written), written)));
}

#[test]
fn words() {
    full_speed::<1>(4);
}

#[test]
fn inline() {
    full_speed::<2>(8);
    full_speed::<7>(4);
}

#[test]
fn rotating() {
    full_speed::<8>(4);
    full_speed::<8>(8);
    full_speed::<33>(8);
    full_speed::<128>(4);
}

/// A buffer longer than any value, bytes of every length from none to all.
#[test]
fn byte_values() {
    for max in [40, 1000] {
        let cell = bytes::Cell::on_heap(max, b"").unwrap();
        let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
        let stop = AtomicBool::new(false);
        let len = |version: u64| (version.wrapping_mul(7919) % (max as u64 + 1)) as usize;
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut buffer = vec![0; max];
                let (mut last, mut reads) = (0, 0);
                while reads < READS / 10 {
                    match reader.read(&mut buffer) {
                        Ok((value, version)) => {
                            assert!(version >= last, "{version} after {last}");
                            assert_eq!(value.len(), len(version), "version {version}");
                            let right = value.iter().enumerate().all(|(i, found)| *found == byte(version, i));
                            assert!(right, "torn: version {version}");
                            last = version;
                            reads += 1;
                        }
                        Err(BytesReadError::Lapped) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            let mut value = vec![0; max];
            for version in 1.. {
                for (i, to) in value.iter_mut().enumerate() {
                    *to = byte(version, i);
                }
                assert_eq!(writer.write(&value[..len(version)]), Ok(version));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            // By name, here and below: the end of a scope is not seen by the thread sanitizer.
            reading.join().unwrap();
        });
    }
}

/// Writers of neighbouring cells do not disturb each other.
#[test]
fn tables() {
    let table = Table::on_heap(2, |_| <[u64; 9]>::of(0)).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let writing = [0, 1].map(|index| {
            let mut writer = table.writer(index, &Unleased).unwrap();
            scope.spawn(move || {
                for version in 1.. {
                    writer.write(&Value::of(version));
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        });
        let mut readers = [0, 1].map(|index| table.reader(index).unwrap());
        for _ in 0..READS / 10 {
            for reader in &mut readers {
                if let Ok((value, version)) = reader.read() {
                    assert!(value.is(version), "torn: version {version}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        for writing in writing {
            writing.join().unwrap();
        }
    });
}

/// Three writers count in one cell, and no update is lost.
#[test]
fn shared_writers() {
    const EACH: u64 = if cfg!(miri) { 20 } else { 100_000 };
    let cell = shared::Cell::on_heap(&[0_u64; 12]).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            let mut writer = cell.writer(&Unleased).unwrap();
            scope.spawn(move || {
                let mut done = 0;
                while done < EACH {
                    match writer.update(&Unleased, |value| value.iter_mut().for_each(|word| *word += 1)) {
                        Ok(_) => done += 1,
                        Err(tidewire_seqlock::WriteError::Busy { .. }) => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let mut reader = cell.reader();
        let mut last = 0;
        while last < 3 * EACH {
            if let Ok((value, version)) = reader.read() {
                assert!(
                    version >= last && value == [version; 12],
                    "version {version} after {last}: {value:?}"
                );
                last = version;
            }
        }
    });
}

/// The classic cell under a writer that rests between its writes.
#[test]
fn classic_values() {
    let cell = classic::Cell::on_heap(&<[u64; 20]>::of(0)).unwrap();
    let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for version in 1.. {
                writer.write(&Value::of(version));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                for _ in 0..version % 64 {
                    std::hint::spin_loop();
                }
            }
        });
        let (mut last, mut reads) = (0, 0);
        while reads < READS / 10 {
            match reader.read(&Unleased) {
                Ok((value, version)) => {
                    assert!(version >= last, "{version} after {last}");
                    assert!(value.is(version), "torn: version {version}");
                    last = version;
                    reads += 1;
                }
                Err(error) => assert_eq!(error, classic::ReadError::Busy),
            }
        }
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
    });
}

/// The checks above can fail: a cell without a protocol, between the same threads, shows torn values.
#[test]
fn without_a_protocol_values_are_torn() {
    use std::sync::atomic::AtomicU64;
    let words: [AtomicU64; 128] = std::array::from_fn(|_| AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(60);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for version in 1.. {
                words.iter().for_each(|word| word.store(version, Ordering::Relaxed));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let torn = loop {
            let value: [u64; 128] = std::array::from_fn(|i| words[i].load(Ordering::Relaxed));
            if value.iter().any(|word| *word != value[0]) {
                break true;
            }
            if Instant::now() > deadline {
                break false;
            }
        };
        stop.store(true, Ordering::Relaxed);
        writing.join().unwrap();
        assert!(torn, "no torn value in a minute");
    });
}
