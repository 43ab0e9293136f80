//! A writer and a reader with a gate in processes of their own, killed at random; whoever is left goes on.
#![cfg(all(feature = "std", not(loom), not(miri), target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Value;
use tidewire_seqlock::log::{GatedReader, Log, NextError, Options, Reader, Start};
use tidewire_shm::{Segment, SegmentLease, SegmentLeases, SegmentOptions, Untrusted};

/// Where, and as what, for the child.
const PLACE: &str = "TIDEWIRE_SEQLOCK_TEST_PLACE";
const PART: &str = "TIDEWIRE_SEQLOCK_TEST_PART";
const TEST: &str = "a_log_survives_whoever_is_killed";
const ROUNDS: u32 = 60;
const SIGKILL: i32 = 9;

type Item = [u64; 8];

fn segment_options(place: &Path) -> SegmentOptions {
    SegmentOptions::new().directory(place.join("segments"))
}

/// A child that runs the test of this binary in one of its parts.
struct Victim(Child);

impl Victim {
    fn start(part: &str, place: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture"])
            .env(PLACE, place)
            .env(PART, part)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// Kills it; it must have lived until then.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(SIGKILL), "it found something wrong");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _dead_already = self.0.kill();
        let _dead_already = self.0.wait();
    }
}

fn open(place: &Path) -> (Segment, Log<Item, Untrusted>, SegmentLeases) {
    let segment = Segment::open_with("log", &segment_options(place)).unwrap();
    let log = Log::open(segment.region(), 0).unwrap();
    let leases = segment.leases().unwrap();
    (segment, log, leases)
}

/// Writes for ever, one by one and in slices; waits for readers that live only.
fn write(place: &Path) -> ! {
    let (_segment, log, leases) = open(place);
    let mut writer = log.writer(&leases).unwrap();
    loop {
        let next = writer.version() + 1;
        let slice: Vec<Item> = (next..next + next % 7).map(Item::of).collect();
        let refused = match slice.as_slice() {
            [] | [_] => writer.try_write(&Item::of(next)).is_err(),
            slice => writer.try_write_slice(slice).is_err(),
        };
        if refused && next.is_multiple_of(2) {
            writer.reclaim_gates(&leases);
            std::thread::yield_now();
        } else if refused {
            let _room_or_not = writer.wait_room(&leases, Duration::from_millis(30));
        }
    }
}

/// Joins, and takes what comes for ever, one by one and in batches.
fn read(place: &Path) -> ! {
    let (_segment, log, leases) = open(place);
    let start = if std::process::id().is_multiple_of(2) { Start::Next } else { Start::Oldest };
    let mut reader = log.gated_reader(start, &leases).unwrap();
    let mut batch = [Item::of(0); 9];
    loop {
        let first = reader.position();
        let found = if first.is_multiple_of(5) {
            let found = reader.next().unwrap();
            found.into_iter().for_each(|(value, version)| assert!(value.is(first) && version == first));
            usize::from(found.is_some())
        } else {
            let found = reader.next_batch(&mut batch).unwrap();
            (first..).zip(batch.iter().take(found)).for_each(|(version, value)| assert!(value.is(version)));
            found
        };
        if found == 0 {
            std::thread::yield_now();
        }
    }
}

/// The readers of the parent.
struct Watch {
    gated: GatedReader<Item, Untrusted, SegmentLease>,
    lossy: Reader<Item, Untrusted>,
    received: u64,
    missed: u64,
}

impl Watch {
    /// Takes one value with each reader, where there is one.
    fn step(&mut self) -> bool {
        let expected = self.gated.position();
        let taken = self.gated.next().unwrap();
        if let Some((value, version)) = taken {
            assert_eq!(version, expected, "a reader with a gate missed something");
            assert!(value.is(version), "torn: {version}");
        }
        match self.lossy.next() {
            Ok(Some((value, version))) => {
                assert!(value.is(version), "torn: {version}");
                self.received += 1;
            }
            Ok(None) => {}
            Err(NextError::Overtaken { missed }) => self.missed += missed,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(1 + self.received + self.missed, self.lossy.position());
        taken.is_some()
    }

    /// For some milliseconds, and until so many values have come.
    fn watch(&mut self, values: u32) {
        let (start, mut taken) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(3) || taken < values {
            taken += u32::from(self.step());
            assert!(start.elapsed() < Duration::from_secs(60), "nothing comes any more");
        }
    }
}

#[test]
fn a_log_survives_whoever_is_killed() {
    if let (Some(place), Some(part)) = (std::env::var_os(PLACE).map(PathBuf::from), std::env::var_os(PART)) {
        if part == "writer" { write(&place) } else { read(&place) }
    }
    let place = tempfile::tempdir().unwrap();
    let options = Options::new(64).gates(3).liveness::<SegmentLeases>();
    let len = Log::<Item>::bytes(&options).unwrap();
    let created = Segment::create_with("log", len, &segment_options(place.path()), |region| {
        Log::<Item, _>::create(region, &options)?;
        Ok(())
    });
    let _created = created.unwrap();
    let (_segment, log, leases) = open(place.path());
    let read_only = Segment::open_read_only_with("log", &segment_options(place.path())).unwrap();
    let mut watch = Watch {
        gated: log.gated_reader(Start::Next, &leases).unwrap(),
        lossy: Log::open(read_only.region(), 0).unwrap().reader(Start::Oldest).unwrap(),
        received: 0,
        missed: 0,
    };
    let start = |part| Victim::start(part, place.path());
    let (mut writer, mut reader) = (start("writer"), start("reader"));
    let (mut left_closed, mut writers) = (0, 1);
    for round in 0..ROUNDS {
        // While both start, and when both run.
        watch.watch(if round.is_multiple_of(2) { 500 } else { 0 });
        if round % 3 != 1 {
            writer.kill();
            // What was published is there, and then nothing.
            while watch.step() {}
            writer = start("writer");
            writers += 1;
        }
        if round % 3 != 0 {
            reader.kill();
            left_closed += u32::from(log.gate_owner(1).is_some() || log.gate_owner(2).is_some());
            watch.watch(200);
            reader = start("reader");
        }
    }
    writer.kill();
    reader.kill();
    while watch.step() {}
    assert!(left_closed > 0, "none died with a gate");
    let mut writer = log.writer(&leases).unwrap();
    // One that was killed before it had the role does not count.
    assert!((2..=writers + 1).contains(&writer.owner().generation));
    let last = writer.version();
    assert_eq!(watch.gated.position(), last + 1, "all that was published was taken");
    writer.reclaim_gates(&leases);
    for version in last + 1..last + 200 {
        assert_eq!(writer.try_write(&Item::of(version)), Ok(version));
        assert!(watch.step());
    }
}
