//! Readers that wait in one process for writers in another: on mappings that are read-only, and while the others are
//! killed, stopped and resumed.
#![cfg(all(feature = "std", not(loom), not(miri), target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;
mod kernels;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::Value;
use kernels::Observed;
use tidewire_seqlock::{Cell, Options, WaitError, Wake};
use tidewire_shm::bell::{BellMode, Kernel, Nap, Place, System};
use tidewire_shm::{Segment, SegmentLeases, SegmentOptions, Untrusted};

/// Where, for the child.
const PLACE: &str = "TIDEWIRE_SEQLOCK_WAIT_PLACE";
/// What the child shall do.
const PART: &str = "TIDEWIRE_SEQLOCK_WAIT_PART";

/// Long enough that a test that comes to its end has failed.
const LONG: Duration = Duration::from_secs(50);

type Word = Cell<[u64; 3], Untrusted>;

fn options(place: &Path) -> SegmentOptions {
    SegmentOptions::new().directory(place.join("segments"))
}

/// A child that runs a test of this binary, alone.
struct Peer(Child);

impl Peer {
    fn start(test: &str, place: &Path, part: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(PLACE, place)
            .env(PART, part)
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.0.id())]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the kernel says that all of it is stopped.
    fn stop(&self) {
        self.signal("STOP");
        let status = format!("/proc/{}/stat", self.0.id());
        let start = Instant::now();
        while !std::fs::read_to_string(&status).unwrap().contains(") T ") {
            assert!(start.elapsed() < LONG, "it does not stop");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn ends_well(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _dead_already = self.0.kill();
        let _dead_already = self.0.wait();
    }
}

/// Where this process is a child, and its part.
fn part() -> Option<(PathBuf, String)> {
    Some((std::env::var_os(PLACE)?.into(), std::env::var(PART).ok()?))
}

/// Both ends of a cell: its segment, mapped to be written.
fn create(place: &Path, wake: Wake) -> Segment {
    let cells = Options::new().liveness::<SegmentLeases>().wake(wake);
    let len = Word::bytes(&cells).unwrap();
    let created = Segment::create_with("cell", len, &options(place), |region| {
        Cell::create(region, &<[u64; 3]>::of(0), &cells)?;
        Ok(())
    });
    created.unwrap()
}

fn open(place: &Path) -> Segment {
    Segment::open_with("cell", &options(place)).unwrap()
}

fn open_read_only(place: &Path) -> Segment {
    let segment = Segment::open_read_only_with("cell", &options(place)).unwrap();
    assert!(segment.is_read_only() && !segment.region().is_writable());
    segment
}

fn cell(segment: &Segment) -> Word {
    Word::open(segment.region(), 0).unwrap()
}

/// As long as its writer's role is free.
fn await_writer(cell: &Word) {
    let start = Instant::now();
    while cell.writer_owner().is_none() {
        assert!(start.elapsed() < LONG, "nobody became the writer");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A child that waits on a read-only mapping (or one that lets it be counted) and can be woken by nothing but a wake, for
/// each of so many versions.
fn sleep_soundly(place: &Path, read_only: bool, last: u64) {
    let segment = if read_only { open_read_only(place) } else { open(place) };
    let (leases, kernel) = (segment.leases().unwrap(), Observed::sound_sleeper());
    let mut reader = cell(&segment).reader();
    std::fs::write(place.join(format!("ready {}", std::process::id())), "").unwrap();
    let start = Instant::now();
    let mut seen = 0;
    while seen < last {
        seen = reader.wait_changed_on(&kernel, &leases, seen, LONG).unwrap();
        let (value, version) = reader.read().unwrap();
        assert!(version >= seen && value.is(version));
        seen = version;
    }
    assert!(kernel.naps() > 0 && start.elapsed() < LONG, "{kernel:?}");
}

fn a_writer_wakes_readers(test: &str, wake: Wake, read_only: bool) {
    const LAST: u64 = 20;
    if let Some((place, _)) = part() {
        return sleep_soundly(&place, read_only, LAST);
    }
    let place = tempfile::tempdir().unwrap();
    let segment = create(place.path(), wake);
    let mut writer = cell(&segment).writer(&segment.leases().unwrap()).unwrap();
    let readers = [(); 2].map(|()| Peer::start(test, place.path(), "reader"));
    for reader in &readers {
        let ready = place.path().join(format!("ready {}", reader.0.id()));
        let start = Instant::now();
        while !ready.exists() {
            assert!(start.elapsed() < LONG, "a reader did not start");
            thread::sleep(Duration::from_millis(1));
        }
    }
    for version in 1..=LAST {
        thread::sleep(Duration::from_millis(25));
        assert_eq!(writer.write(&Value::of(version)), version);
    }
    readers.into_iter().for_each(Peer::ends_well);
}

#[test]
fn a_writer_wakes_readers_whose_mapping_is_read_only() {
    a_writer_wakes_readers("a_writer_wakes_readers_whose_mapping_is_read_only", Wake::Always, true);
}

#[test]
fn a_writer_wakes_readers_that_are_counted() {
    let wake = Wake::Waiters(BellMode::Fence);
    a_writer_wakes_readers("a_writer_wakes_readers_that_are_counted", wake, false);
}

#[test]
fn a_writer_wakes_readers_that_fence_for_it() {
    if BellMode::choose(&System) != BellMode::Membarrier {
        return;
    }
    let wake = Wake::Waiters(BellMode::Membarrier);
    a_writer_wakes_readers("a_writer_wakes_readers_that_fence_for_it", wake, false);
}

/// Dies where it would wake somebody.
#[derive(Debug)]
struct DiesAtTheWake;

impl Kernel for DiesAtTheWake {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        System.sleep(place, expected, timeout_ns)
    }
    fn wake(&self, _place: Place<'_>) -> u32 {
        let kill = format!("kill -KILL {}", std::process::id());
        // It may come too late, if the parent is as fast to kill this one.
        let _told = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
        unreachable!("a process survived SIGKILL")
    }
    fn register(&self) -> Result<(), i32> {
        System.register()
    }
    fn barrier(&self) -> bool {
        System.barrier()
    }
    fn now_ns(&self) -> u64 {
        System.now_ns()
    }
    fn pause(&self, ns: u64) {
        System.pause(ns);
    }
    fn yield_now(&self) {
        System.yield_now();
    }
    fn spins(&self) -> u32 {
        0
    }
}

/// A child that becomes the writer and is killed: between publication and wake, or at some time, having written nothing.
fn be_killed(place: &Path, part: &str) {
    let segment = open(place);
    let leases = segment.leases().unwrap();
    let mut writer = cell(&segment).writer_on(&DiesAtTheWake, &leases).unwrap();
    match part {
        "at the wake" => {
            // Until the reader is likely to be asleep.
            thread::sleep(Duration::from_millis(30));
            let version = writer.version() + 1;
            writer.write(&Value::of(version));
            unreachable!("it died in that");
        }
        _ => thread::sleep(LONG),
    }
}

#[test]
fn a_writer_killed_between_publication_and_wake_delays_readers_by_a_slice() {
    if let Some((place, part)) = part() {
        return be_killed(&place, &part);
    }
    let place = tempfile::tempdir().unwrap();
    let created = create(place.path(), Wake::Always);
    let segment = open_read_only(place.path());
    let (leases, mut reader) = (created.leases().unwrap(), cell(&segment).reader());
    let test = "a_writer_killed_between_publication_and_wake_delays_readers_by_a_slice";
    for version in 1..=5 {
        let peer = Peer::start(test, place.path(), "at the wake");
        let kernel = Observed::default();
        // Until there is the writer, there is none.
        let (start, mut answer) = (Instant::now(), Err(WaitError::WriterGone));
        while answer == Err(WaitError::WriterGone) && start.elapsed() < LONG {
            answer = reader.wait_changed_on(&kernel, &leases, version - 1, LONG);
        }
        assert_eq!((answer, reader.read()), (Ok(version), Ok((Value::of(version), version))));
        assert!(start.elapsed() < LONG / 2 && kernel.longest_ns() <= 10_000_000, "{kernel:?}");
        drop(peer);
        // By now the lease is free, and that is known at once.
        assert_eq!(reader.wait_changed(&leases, version, LONG), Err(WaitError::WriterGone));
    }
}

#[test]
fn readers_of_a_writer_that_is_killed_are_told() {
    if let Some((place, part)) = part() {
        return be_killed(&place, &part);
    }
    for wake in [Wake::Never, Wake::Always, Wake::Waiters(BellMode::Fence)] {
        let place = tempfile::tempdir().unwrap();
        let created = create(place.path(), wake);
        let segment = open_read_only(place.path());
        let (leases, mut reader) = (created.leases().unwrap(), cell(&segment).reader());
        let test = "readers_of_a_writer_that_is_killed_are_told";
        let peer = Peer::start(test, place.path(), "some time");
        await_writer(&cell(&segment));
        let answer = reader.wait_changed(&leases, 0, Duration::from_millis(40));
        assert_eq!(answer, Err(WaitError::TimedOut), "{wake:?}: it lives");
        // Stopped is not gone.
        peer.stop();
        let answer = reader.wait_changed(&leases, 0, Duration::from_millis(40));
        assert_eq!(answer, Err(WaitError::TimedOut), "{wake:?}: it is only stopped");
        let start = Instant::now();
        let killing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(peer);
        });
        assert_eq!(reader.wait_changed(&leases, 0, LONG), Err(WaitError::WriterGone), "{wake:?}");
        assert!(start.elapsed() < LONG / 2, "{wake:?}");
        killing.join().unwrap();
    }
}

/// A reader that is stopped delays nobody, and finds the latest value when it goes on.
#[test]
fn a_reader_that_was_stopped_finds_the_latest_value() {
    const LAST: u64 = 10_000;
    if let Some((place, part)) = part() {
        let segment = if part == "reads only" { open_read_only(&place) } else { open(&place) };
        let leases = segment.leases().unwrap();
        let mut reader = cell(&segment).reader();
        let mut seen = 0;
        while seen < LAST {
            seen = reader.wait_changed(&leases, seen, LONG).unwrap();
            let (value, version) = reader.read().unwrap();
            assert!(version >= seen && value.is(version));
        }
        return;
    }
    for wake in [Wake::Never, Wake::Always, Wake::Waiters(BellMode::Fence)] {
        let place = tempfile::tempdir().unwrap();
        let created = create(place.path(), wake);
        let mut writer = cell(&created).writer(&created.leases().unwrap()).unwrap();
        let test = "a_reader_that_was_stopped_finds_the_latest_value";
        let readers = ["reads only", "is counted"].map(|part| Peer::start(test, place.path(), part));
        for version in 1..=LAST {
            if version % 2_500 == 1 {
                // Asleep, or just starting; then stopped there, and resumed after more writes.
                thread::sleep(Duration::from_millis(30));
                readers.iter().for_each(Peer::stop);
            }
            assert_eq!(writer.write(&Value::of(version)), version);
            if version % 2_500 == 1_000 {
                readers.iter().for_each(|reader| reader.signal("CONT"));
            }
        }
        readers.into_iter().for_each(Peer::ends_well);
    }
}
