//! Writers in processes of their own, killed at full speed; readers on a read-only mapping; leases that the kernel holds.
#![cfg(all(feature = "std", not(loom), not(miri), target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Value;
use tidewire_seqlock::{Cell, Options, ReadError, Reader, shared};
use tidewire_shm::{Segment, SegmentLeases, SegmentOptions, Untrusted};

/// Which test, and where, for the child.
const PLACE: &str = "TIDEWIRE_SEQLOCK_TEST_PLACE";
const KILLS: u32 = 40;

fn options(place: &Path) -> SegmentOptions {
    SegmentOptions::new().directory(place.join("segments"))
}

/// A child that runs a test of this binary, alone.
struct Victim(Child);

impl Victim {
    fn start(test: &str, place: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(PLACE, place)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _dead_already = self.0.kill();
        let _dead_already = self.0.wait();
    }
}

fn place_of_parent() -> Option<std::path::PathBuf> {
    std::env::var_os(PLACE).map(Into::into)
}

/// Reads for a while, until something newer than `last` is there; every value is checked.
fn watch<const N: usize>(
    reader: &mut Reader<[u64; N], Untrusted>,
    mut last: u64,
    right: impl Fn(&[u64; N], u64) -> bool,
) -> u64
where
    [u64; N]: bytemuck::Pod,
{
    let (first, start) = (last, Instant::now());
    while start.elapsed() < Duration::from_millis(5) || last < first + 50 {
        match reader.read() {
            Ok((value, version)) => {
                assert!(version >= last, "{version} after {last}");
                assert!(right(&value, version), "torn: {version}");
                last = version;
            }
            Err(ReadError::Lapped) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nobody writes");
    }
    last
}

fn write_for_ever<const N: usize>(place: &Path)
where
    [u64; N]: bytemuck::Pod,
{
    let segment = Segment::open_with("cell", &options(place)).unwrap();
    let cell = Cell::<[u64; N], Untrusted>::open(segment.region(), 0).unwrap();
    let mut writer = cell.writer(&segment.leases().unwrap()).unwrap();
    loop {
        writer.write(&Value::of(writer.version() + 1));
    }
}

fn writers_are_killed<const N: usize>(test: &str)
where
    [u64; N]: bytemuck::Pod,
{
    if let Some(place) = place_of_parent() {
        return write_for_ever::<N>(&place);
    }
    let place = tempfile::tempdir().unwrap();
    let cells = Options::new().liveness::<SegmentLeases>();
    let len = Cell::<[u64; N]>::bytes(&cells).unwrap();
    let created = Segment::create_with("cell", len, &options(place.path()), |region| {
        Cell::create(region, &<[u64; N]>::of(0), &cells)?;
        Ok(())
    });
    let created = created.unwrap();
    let read_only = Segment::open_read_only_with("cell", &options(place.path())).unwrap();
    let mut reader = Cell::<[u64; N], Untrusted>::open(read_only.region(), 0).unwrap().reader();
    let right = |value: &[u64; N], version| value.is(version);
    let mut last = 0;
    for _ in 0..KILLS {
        let victim = Victim::start(test, place.path());
        last = watch(&mut reader, last, right);
        victim.kill();
        // No writer, and nothing to wait for.
        let (value, version) = reader.try_read().unwrap();
        assert!(version >= last && value.is(version));
        last = version;
    }
    let cell = Cell::<[u64; N], Untrusted>::open(created.region(), 0).unwrap();
    let mut writer = cell.writer(&created.leases().unwrap()).unwrap();
    assert_eq!(writer.owner().generation, KILLS + 1);
    assert_eq!(writer.write(&Value::of(last + 1)), last + 1);
    assert_eq!(reader.try_read(), Ok((Value::of(last + 1), last + 1)));
}

#[test]
fn writers_of_words_are_killed_and_followed() {
    writers_are_killed::<1>("writers_of_words_are_killed_and_followed");
}

#[test]
fn inline_writers_are_killed_and_followed() {
    writers_are_killed::<7>("inline_writers_are_killed_and_followed");
}

#[test]
fn rotating_writers_are_killed_and_followed() {
    writers_are_killed::<64>("rotating_writers_are_killed_and_followed");
}

/// Of two writers one is killed again and again, often with the lock; the other one's writes go on.
#[test]
fn a_lock_is_taken_from_writers_that_are_killed() {
    type Shared = shared::Cell<[u64; 64], Untrusted>;
    let count = |value: &mut [u64; 64]| *value = [value[0] + 1; 64];
    if let Some(place) = place_of_parent() {
        let segment = Segment::open_with("cell", &options(&place)).unwrap();
        let leases = segment.leases().unwrap();
        let mut writer = Shared::open(segment.region(), 0).unwrap().writer(&leases).unwrap();
        loop {
            let _busy_or_done = writer.update(&leases, count);
        }
    }
    let place = tempfile::tempdir().unwrap();
    let cells = Options::new().liveness::<SegmentLeases>().writers(2);
    let len = Shared::bytes(&cells).unwrap();
    let created = Segment::create_with("cell", len, &options(place.path()), |region| {
        shared::Cell::create(region, &[0_u64; 64], &cells)?;
        Ok(())
    });
    let created = created.unwrap();
    let leases = created.leases().unwrap();
    let cell = Shared::open(created.region(), 0).unwrap();
    let (mut writer, mut reader) = (cell.writer(&leases).unwrap(), cell.reader());
    let right = |value: &[u64; 64], version| *value == [version; 64];
    let (mut last, mut kills, mut left_locked) = (0, 0, 0);
    let start = Instant::now();
    // How often a kill finds the lock held depends on the build: what a writer does beside it may take far longer.
    while kills < KILLS || left_locked == 0 {
        assert!(start.elapsed() < Duration::from_secs(120), "none of {kills} died with the lock");
        let victim = Victim::start("a_lock_is_taken_from_writers_that_are_killed", place.path());
        last = watch(&mut reader, last, right);
        victim.kill();
        kills += 1;
        left_locked += u32::from(cell.lock_holder().is_some());
        let written = writer.update(&leases, count).unwrap();
        assert!(written > last, "{written} after {last}");
        assert_eq!((cell.lock_holder(), reader.try_read()), (None, Ok(([written; 64], written))));
        last = written;
    }
}
