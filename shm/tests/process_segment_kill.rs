//! Creators that are killed at random moments leave no half-made segment, and nothing else.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{bytes, fill, peer, report, role, wait_for};
use tidewire_shm::{Segment, SegmentOptions};

const KILLS: u64 = 500;
const LEN: usize = 128 << 10;
const FILLED: u8 = 0xa5;

/// Creates and removes segments until it is killed.
fn create_for_ever(options: &SegmentOptions) -> ! {
    report("ready");
    let started = Instant::now();
    for round in 0_u64.. {
        assert!(started.elapsed() < Duration::from_secs(60), "nobody kills this process");
        let name = format!("victim-{}", round % 4);
        let init = |region| {
            fill(&region, FILLED);
            Ok(())
        };
        let segment = Segment::create_with(&name, LEN, options, init).unwrap();
        segment.withdraw().unwrap();
    }
    unreachable!("the numbers do not end")
}

fn entries(place: &Path) -> Vec<String> {
    let entries = fs::read_dir(place).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Checks that what has a segment's name is a whole segment; says how many other files there are.
fn inspect(place: &Path, options: &SegmentOptions) -> usize {
    for name in Segment::list_with(options).unwrap() {
        let segment = Segment::open_with(name.as_str(), options).unwrap();
        assert_eq!(segment.len(), LEN);
        assert!(bytes(&segment.region()).iter().all(|&byte| byte == FILLED), "{name} is half initialised");
        segment.withdraw().unwrap();
    }
    entries(place).len()
}

fn kill_creators(test: &str, named_temporary: bool) -> usize {
    let private = fs::Permissions::from_mode(0o700);
    let place = tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap();
    let options = SegmentOptions::new().directory(place.path()).named_temporary(named_temporary);
    let mut orphans = 0;
    for kill in 0..KILLS {
        let mut victim = peer(test, "creator", place.path()).spawn().unwrap();
        wait_for(&mut victim, "ready");
        // Spread over several rounds of the victim.
        thread::sleep(Duration::from_micros(kill * 7919 % 1500));
        victim.kill().unwrap();
        victim.wait().unwrap();

        let left = inspect(place.path(), &options);
        orphans += left;
        if named_temporary {
            // The next creation removes what the dead one left.
            let next = Segment::create_with("next", 1, &options, |_| Ok(())).unwrap();
            assert_eq!(entries(place.path()), ["next"]);
            next.withdraw().unwrap();
        }
        assert!(entries(place.path()).is_empty(), "kill {kill}: {:?}", entries(place.path()));
    }
    orphans
}

#[test]
fn a_killed_creator_leaves_nothing() {
    if let Some((_, place)) = role() {
        create_for_ever(&SegmentOptions::new().directory(place));
    }
    assert_eq!(kill_creators("a_killed_creator_leaves_nothing", false), 0);
}

#[test]
fn a_killed_creator_leaves_nothing_that_the_next_does_not_remove() {
    if let Some((_, place)) = role() {
        create_for_ever(&SegmentOptions::new().directory(place).named_temporary(true));
    }
    let orphans = kill_creators("a_killed_creator_leaves_nothing_that_the_next_does_not_remove", true);
    // Else no kill hit a creation, and the test would have shown nothing.
    assert!(orphans > 0, "no creator was killed in the middle");
}
