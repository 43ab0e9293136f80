//! Latest values, between the threads of one process.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tidewire::{
    LoadError, Message, OpenError, Options, Snapshot, StalePolicy, StoreError, Wait, WaitError, Wake,
};

const LONG: Duration = Duration::from_secs(20);
const WAITS: [Wait; 5] =
    [Wait::Spin, Wait::Yield, Wait::Hybrid, Wait::HybridFor(Duration::from_micros(2)), Wait::Park];

#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[repr(C)]
struct Pose {
    x: f64,
    y: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[repr(C)]
struct OtherPose {
    x: f64,
    y: u64,
}

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    (place, options)
}

fn file(place: &tempfile::TempDir, name: &str) -> PathBuf {
    place.path().join("segments").join(name)
}

#[test]
fn versions_count_what_was_stored() {
    let (mut tx, mut rx) = Options::new().latest(Pose { x: 1.0, y: 2.0 }).unwrap();
    assert_eq!(rx.load(), Ok(Snapshot { value: Pose { x: 1.0, y: 2.0 }, version: 0 }));
    assert_eq!(rx.load_if_changed(), Ok(None));
    assert_eq!(tx.store(Pose { x: 3.0, y: 4.0 }), Ok(1));
    assert_eq!(tx.update(|pose| pose.x += 0.5), Ok(2));
    let third = Snapshot { value: Pose { x: 3.5, y: 4.0 }, version: 2 };
    assert_eq!((tx.latest(), tx.version(), rx.version()), (third, 2, Ok(2)));
    assert_eq!(rx.load_if_changed(), Ok(Some(third)));
    assert_eq!(rx.load_if_changed(), Ok(None));
    assert_eq!(rx.load(), Ok(third), "a load gives it again");
}

#[test]
fn a_reader_that_returned_nothing_yet_waits_for_nothing() {
    let (_tx, mut rx) = Options::new().latest(5_u64).unwrap();
    assert_eq!(rx.wait_changed(Duration::ZERO).unwrap().value, 5);
    assert_eq!(rx.wait_changed(Duration::ZERO), Err(WaitError::TimedOut));
    let (_tx, mut rx) = Options::new().latest(5_u64).unwrap();
    assert_eq!(rx.load_if_changed().unwrap().map(|found| found.value), Some(5));
}

#[test]
fn a_wait_ends_with_the_next_value_however_it_waits() {
    for wait in WAITS {
        for wake in [Wake::Always, Wake::Never] {
            let (_place, options) = in_a_directory();
            let mut tx = options.latest_writer_with("pose", [0_u64; 9], wake).unwrap();
            let mut rx = options.wait(wait).latest_reader::<[u64; 9]>("pose").unwrap();
            rx.load().unwrap();
            let start = Instant::now();
            assert_eq!(rx.wait_changed(Duration::from_millis(20)), Err(WaitError::TimedOut), "{wait:?}");
            assert!(start.elapsed() >= Duration::from_millis(20));
            let writing = thread::spawn(move || {
                thread::sleep(Duration::from_millis(10));
                tx.store([7; 9]).unwrap();
                tx
            });
            let found = rx.wait_changed_deadline(Instant::now() + LONG).unwrap();
            assert_eq!(found, Snapshot { value: [7; 9], version: 1 }, "{wait:?} {wake:?}");
            writing.join().unwrap();
            let start = Instant::now();
            assert_eq!(rx.wait_changed(LONG), Err(WaitError::WriterGone), "{wait:?} {wake:?}");
            assert!(start.elapsed() < LONG / 4);
            assert_eq!(rx.load().unwrap().value, [7; 9]);
        }
    }
}

#[test]
fn a_wait_that_spins_long_ends_in_time() {
    let options = Options::new().wait(Wait::HybridFor(Duration::from_secs(3600)));
    let (_tx, mut rx) = options.latest(5_u64).unwrap();
    rx.load().unwrap();
    let start = Instant::now();
    assert_eq!(rx.wait_changed(Duration::from_millis(10)), Err(WaitError::TimedOut));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn values_are_never_torn_and_never_go_back() {
    let (mut tx, rx) = Options::new().latest([0_u64; 40]).unwrap();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let mut rx = rx.clone();
            thread::spawn(move || {
                let mut last = 0;
                while last < 20_000 {
                    let found = match rx.load() {
                        Err(LoadError::Lapped) => continue,
                        loaded => loaded.unwrap(),
                    };
                    assert!(found.value.iter().all(|word| *word == found.version), "{found:?}");
                    assert!(found.version >= last);
                    last = found.version;
                }
            })
        })
        .collect();
    for version in 1..=20_000 {
        assert_eq!(tx.store([version; 40]), Ok(version));
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn there_is_one_writer_and_its_process_is_named() {
    let (_place, options) = in_a_directory();
    let first = options.latest_writer("pose", 1_u64).unwrap();
    match options.latest_writer("pose", 2_u64) {
        Err(OpenError::Taken { role: "writer", pid }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    let other = options.latest_writer("pose", 2_u32);
    assert!(matches!(other, Err(OpenError::Types { .. })), "it is of another type, and in use: {other:?}");
    drop(first);
    assert_eq!(options.latest_writer("pose", 2_u64).unwrap().latest().value, 1);
}

#[test]
fn a_reader_cannot_write_and_outlives_writers() {
    let (_place, options) = in_a_directory();
    let mut tx = options.latest_writer("pose", Pose { x: 0.0, y: 0.0 }).unwrap();
    let mut rx = options.latest_reader::<Pose>("pose").unwrap();
    assert!(rx.memory().is_read_only() && !rx.memory().region().is_writable());
    tx.store(Pose { x: 1.0, y: 1.0 }).unwrap();
    assert!(rx.is_writer_alive());
    drop(tx);
    assert!(!rx.is_writer_alive() && !rx.wait_writer(Duration::from_millis(5)));
    assert_eq!(rx.load().unwrap(), Snapshot { value: Pose { x: 1.0, y: 1.0 }, version: 1 });
    // Whoever comes later finds the last value, too.
    assert_eq!(options.latest_reader::<Pose>("pose").unwrap().load().unwrap().version, 1);
    assert_eq!(rx.wait_changed(LONG), Err(WaitError::WriterGone));

    let mut tx = options.latest_writer("pose", Pose { x: 9.0, y: 9.0 }).unwrap();
    assert_eq!(tx.latest().value.x, 1.0, "the value there is stays");
    assert!(rx.wait_writer(LONG));
    assert_eq!(tx.store(Pose { x: 2.0, y: 2.0 }), Ok(2));
    assert_eq!(rx.wait_changed(LONG).unwrap(), Snapshot { value: Pose { x: 2.0, y: 2.0 }, version: 2 });
}

#[test]
fn a_reader_of_another_type_is_told_the_field() {
    let (_place, options) = in_a_directory();
    let _tx = options.latest_writer("pose", Pose { x: 0.0, y: 0.0 }).unwrap();
    match options.latest_reader::<OtherPose>("pose") {
        Err(OpenError::Types { difference }) => assert_eq!(difference.field(), Some("y")),
        other => panic!("{other:?}"),
    }
    let rx = options.receiver::<u64>("ticks").unwrap();
    let none = options.latest_reader::<u64>("ticks");
    assert!(matches!(none, Err(OpenError::Incompatible(_))), "a channel is no value: {none:?}");
    drop(rx);
}

#[test]
fn a_reader_may_come_first() {
    let (_place, options) = in_a_directory();
    assert!(matches!(options.latest_reader::<u64>("pose"), Err(OpenError::NotFound { .. })));
    let soon = Duration::from_millis(20);
    assert!(matches!(options.latest_reader_in::<u64>("pose", soon), Err(OpenError::TimedOut { .. })));
    assert!(matches!(options.latest_reader_in::<u64>("no/name", LONG), Err(OpenError::Segment(_))));
    let early = options.clone();
    let reading = thread::spawn(move || early.latest_reader_in::<u64>("pose", LONG).unwrap().load());
    thread::sleep(soon);
    let _tx = options.latest_writer("pose", 8_u64).unwrap();
    assert_eq!(reading.join().unwrap().unwrap().value, 8);
}

#[test]
fn another_type_or_recreate_begins_anew_when_nobody_writes() {
    let (_place, options) = in_a_directory();
    drop(options.latest_writer("pose", 1_u64).unwrap());
    let mut old = options.latest_reader::<u64>("pose").unwrap();
    let tx = options.latest_writer("pose", 2_u32).unwrap();
    assert_eq!((tx.latest().value, tx.version()), (2, 0));
    assert_eq!(old.load().unwrap().value, 1, "it keeps what it has");
    assert_eq!(old.wait_changed(LONG), Err(WaitError::WriterGone));
    drop(tx);
    let anew = options.stale(StalePolicy::Recreate).latest_writer("pose", 3_u32).unwrap();
    assert_eq!(anew.latest().value, 3);
}

#[test]
fn removing_takes_the_name_away() {
    let (place, options) = in_a_directory();
    let tx = options.latest_writer("pose", 1_u64).unwrap();
    let mut rx = options.latest_reader::<u64>("pose").unwrap();
    assert!(tx.remove().unwrap());
    assert!(!file(&place, "pose").exists());
    assert_eq!(rx.load().unwrap().value, 1);
    let (tx, _rx) = Options::new().latest(1_u64).unwrap();
    assert!(tx.remove().unwrap(), "it had no name");
}

#[test]
fn a_fork_child_reads_and_does_not_write() {
    let (mut tx, mut rx) = Options::new().latest(1_u64).unwrap();
    // SAFETY: the child only does what may be done behind a fork of several threads, and ends at once.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let stored = tx.store(2);
        let loaded = rx.load().map(|found| found.value);
        drop(tx);
        let fine = stored == Err(StoreError::ForkedChild) && loaded == Ok(1);
        // SAFETY: ends the child without running what is the parent's.
        unsafe { libc::_exit(i32::from(!fine)) }
    }
    let mut status = -1;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(tx.store(3), Ok(1), "the child's end gave nothing back");
    assert!(rx.is_writer_alive());
}

/// Whatever a peer of the same user writes, a reader returns a value, or an error, in time.
#[test]
fn scribbled_memory_is_a_value_or_an_error() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut corrupt = 0;
    for round in 0..40 {
        let (place, options) = in_a_directory();
        let mut tx = options.latest_writer("pose", [0_u64; 20]).unwrap();
        let mut rx = options.latest_reader::<[u64; 20]>("pose").unwrap();
        let file = OpenOptions::new().write(true).open(file(&place, "pose")).unwrap();
        let words = fs::metadata(place.path().join("segments/pose")).unwrap().len() / 8;
        for _ in 0..100 {
            let word = if next() % 2 == 0 { 1024 + next() % 300 } else { next() % words };
            file.write_all_at(&next().to_ne_bytes(), word * 8).unwrap();
            let start = Instant::now();
            let loaded = (rx.load(), rx.load_if_changed(), rx.version());
            corrupt += u32::from(matches!(loaded.0, Err(LoadError::Corrupt(_))));
            let _any = rx.wait_changed(Duration::from_micros(100));
            let _any = tx.store([round; 20]);
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        let opened = options.latest_reader::<[u64; 20]>("pose");
        let _any = opened.map(|mut rx| rx.load());
    }
    assert!(corrupt > 0, "some of it is known to be none");
}
