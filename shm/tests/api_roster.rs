//! Rosters and composites, in one process.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidewire_shm::bell::{
    Armed, BellError, BellMode, Deadline, EventAddress, EventPipe, ROSTER_MAX, Roster, Rung, SleepOptions,
    Spin, System, Woken, roster_bytes,
};
use tidewire_shm::{
    COMPOSITE_TEXT_BYTES, Composite, Field, Incompatible, LINE_BYTES, Region, RegionError, Segment, Trusted,
    Untrusted,
};

const AT_ONCE: SleepOptions =
    SleepOptions::new().spin(Spin::Rounds(0)).yields(0).slice(Duration::from_secs(10));
const MODES: [BellMode; 2] = [BellMode::Fence, BellMode::Membarrier];

fn roster(entries: u32, mode: BellMode) -> Roster<Trusted> {
    Roster::create(Region::heap(roster_bytes(entries)).unwrap(), entries, mode).unwrap()
}

#[test]
fn coming_and_going_is_seen_and_counted() {
    let roster = roster(70, BellMode::Fence);
    assert_eq!((roster.entries(), roster.changes()), (70, 0));
    let mut one = roster.attend(69, [3, 4], System, &AT_ONCE).unwrap();
    let entry = roster.entry(69);
    assert_eq!((entry.generation, entry.present, entry.notice), (1, true, [3, 4]));
    assert_eq!((one.index(), one.generation(), roster.changes()), (69, 1, 1));
    one.count(2, 5);
    one.count(2, 1);
    one.count(99, 1);
    assert_eq!((roster.counter(69, 2), one.counter(2), roster.counter(69, 99)), (6, 6, 0));
    drop(one);
    let entry = roster.entry(69);
    assert_eq!((entry.generation, entry.present, roster.changes()), (1, false, 2));
    let two = roster.attend(69, [0; 2], System, &AT_ONCE).unwrap();
    assert_eq!((two.generation(), roster.counter(69, 2)), (2, 0));
    assert_eq!(roster.entry(70), tidewire_shm::bell::Entry::default());
}

#[test]
fn whoever_waits_raises_a_hand_and_is_woken() {
    for mode in MODES {
        let roster = roster(66, mode);
        let mut sleeper = roster.attend(65, [0; 2], System, &AT_ONCE).unwrap();
        let mut caller = roster.caller(65, System).unwrap();
        let hands = roster.hands(&System).unwrap();
        assert!(!hands.any() && caller.ring() == Rung::Awake);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let wait = scope.spawn(|| {
                let woken = sleeper
                    .wait(|| done.load(Ordering::Acquire), Deadline::after(&System, Duration::from_secs(9)));
                (woken, Instant::now())
            });
            while !hands.any() {
                thread::yield_now();
            }
            thread::sleep(Duration::from_millis(20));
            assert_eq!(hands.raised().collect::<Vec<_>>(), [65], "{mode:?}");
            let rung = Instant::now();
            done.store(true, Ordering::Release);
            assert_eq!(caller.ring(), Rung::Sent);
            let (woken, at) = wait.join().unwrap();
            assert_eq!(woken, Woken::Ready);
            assert!(at - rung < Duration::from_secs(5), "woken, not found at the end of a slice");
        });
        assert!(!hands.any());
        assert_eq!((caller.holder(), caller.tally().wakes, sleeper.tally().naps >= 1), (Some(1), 1, true));
        drop(sleeper);
        assert_eq!(caller.holder(), None);
    }
}

#[test]
fn a_hand_of_one_who_died_can_be_lowered() {
    let roster = roster(2, BellMode::Fence);
    let mut one = roster.attend(1, [0; 2], System, &AT_ONCE).unwrap();
    assert_eq!(one.arm(|| false), Armed::Armed);
    let hands = roster.hands(&System).unwrap();
    assert!(hands.any());
    roster.lower(1);
    assert!(!hands.any());
    roster.lower(7);
    one.disarm();
}

#[test]
fn one_who_waits_in_a_reactor_is_woken_through_a_pipe() {
    for mode in MODES {
        let roster = roster(1, mode);
        let mut one = roster.attend(0, [0; 2], System, &AT_ONCE).unwrap();
        let mut caller = roster.caller(0, System).unwrap();
        assert_eq!(one.arm(|| true), Armed::Ready);
        assert_eq!(one.arm(|| false), Armed::Armed);
        assert_eq!(caller.ring(), Rung::Unreachable, "it said no pipe");
        one.disarm();
        let pipe = EventPipe::new().unwrap();
        one.set_event(pipe.address());
        let readable = |wait: i64| {
            let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec { tv_sec: wait, tv_nsec: 0 })).unwrap() == 1
        };
        assert_eq!(caller.ring(), Rung::Awake);
        assert!(!readable(0));
        for _ in 0..3 {
            assert_eq!(one.arm(|| false), Armed::Armed);
            assert_eq!(caller.ring(), Rung::Sent);
            assert_eq!(caller.ring(), Rung::Already);
            assert!(readable(5), "{mode:?}");
            one.disarm();
            assert!(pipe.drain().unwrap() && !pipe.drain().unwrap() && !readable(0));
        }
        // The next holder has a pipe of its own.
        drop(one);
        let next = EventPipe::new().unwrap();
        let mut two = roster.attend(0, [0; 2], System, &AT_ONCE).unwrap();
        two.set_event(next.address());
        assert_eq!(two.arm(|| false), Armed::Armed);
        assert_eq!(caller.ring(), Rung::Sent);
        assert!(next.drain().unwrap() && !pipe.drain().unwrap());
    }
}

#[test]
fn a_pipe_that_is_gone_or_full_harms_nobody() {
    let roster = roster(1, BellMode::Fence);
    let mut one = roster.attend(0, [0; 2], System, &AT_ONCE).unwrap();
    let mut caller = roster.caller(0, System).unwrap();
    let pipe = EventPipe::new().unwrap();
    let words = pipe.address().to_words();
    one.set_event(pipe.address());
    // Rings until the pipe is full: each wait is a new announcement.
    for _ in 0..10_000 {
        assert_eq!(one.arm(|| false), Armed::Armed);
        assert_eq!(caller.ring(), Rung::Sent);
        one.disarm();
    }
    assert!(pipe.drain().unwrap());
    drop(pipe);
    // Nobody reads it any more; the caller's own end keeps writing harmless.
    assert_eq!(one.arm(|| false), Armed::Armed);
    assert_eq!(caller.ring(), Rung::Sent);
    let mut late = roster.caller(0, System).unwrap();
    assert_eq!(late.ring(), Rung::Unreachable);
    let address = EventAddress::from_words(words).unwrap();
    assert_eq!((address.to_words(), address.pid()), (words, std::process::id()));
    assert_eq!(EventAddress::from_words([0, 0]), None);
    // Something else of that number, and nothing at all.
    for words in [[u64::from(std::process::id()), words[1]], [1 << 32, 1]] {
        one.set_event(EventAddress::from_words(words).unwrap());
        one.disarm();
        assert_eq!(one.arm(|| false), Armed::Armed);
        assert_eq!(roster.caller(0, System).unwrap().ring(), Rung::Unreachable);
    }
}

#[test]
fn what_is_no_roster_is_refused() {
    let short = Region::heap(roster_bytes(2)).unwrap();
    assert!(matches!(Roster::create(short, 3, BellMode::Fence), Err(BellError::Place { .. })));
    let large = Region::heap(roster_bytes(ROSTER_MAX + 1)).unwrap();
    assert!(matches!(Roster::create(large, ROSTER_MAX + 1, BellMode::Fence), Err(BellError::Place { .. })));
    let zeroes = Region::heap(roster_bytes(2)).unwrap();
    assert!(matches!(Roster::open(zeroes, 2), Err(BellError::Kind { found: 0 })));
    let roster = roster(1, BellMode::Fence);
    assert!(matches!(roster.attend(1, [0; 2], System, &AT_ONCE), Err(BellError::Place { .. })));
    assert!(matches!(roster.caller(1, System), Err(BellError::Place { .. })));
    let read_only = Region::heap(roster_bytes(1)).unwrap().read_only();
    assert!(matches!(Roster::create(read_only, 1, BellMode::Fence), Err(BellError::ReadOnly)));
}

fn set(region: &Region<Untrusted>, offset: usize, value: u64) {
    // SAFETY: a word of this test's own memory, which no other thread uses.
    unsafe { region.atomic_u64(offset) }.store(value, Ordering::Relaxed);
}

fn get(region: &Region<Untrusted>, offset: usize) -> u64 {
    // SAFETY: as above.
    unsafe { region.atomic_u64(offset) }.load(Ordering::Relaxed)
}

fn composite() -> Composite {
    Composite {
        kind: 9,
        type_fingerprint: 7,
        numbers: [1, 2, 3, 4, 5, 6, 7, 8],
        text: b"a text".into(),
        parts: vec![1, 5000, 128],
    }
}

#[test]
fn a_composite_is_found_as_it_was_made() {
    let made = composite();
    assert_eq!(made.bytes(), 4096 + 4096 + 8192 + 4096);
    let segment = Segment::anonymous(made.bytes()).unwrap();
    let lens = |parts: Vec<Region<Untrusted>>| parts.iter().map(Region::len).collect::<Vec<_>>();
    let filled = made.create(segment.region(), |parts| {
        for (i, part) in parts.iter().enumerate() {
            set(part, 0, i as u64 + 1);
        }
        Ok::<_, Incompatible>(lens(parts))
    });
    assert_eq!(filled.unwrap(), [4096, 8192, 4096]);
    let (found, parts) = Composite::open(segment.region(), 9).unwrap();
    assert_eq!(
        (found.type_fingerprint, found.numbers, found.text.as_slice()),
        (7, made.numbers, &b"a text"[..])
    );
    let firsts = parts.iter().map(|part| get(part, 0)).collect::<Vec<_>>();
    assert_eq!(firsts, [1, 2, 3]);
    assert_eq!(lens(parts), [4096, 8192, 4096]);
    let error = Composite::open(segment.region(), 8).unwrap_err();
    assert_eq!((error.field, error.expected, error.found), (Field::Kind, 8, 9));
}

#[test]
fn a_composite_that_fails_or_lies_is_refused() {
    let made = composite();
    let region = || Region::heap(made.bytes()).unwrap();
    let segment = Segment::anonymous(made.bytes()).unwrap();
    let failed = made.create(segment.region(), |_| Err::<(), _>(Incompatible::new(Field::Reserved, 1, 2)));
    assert_eq!(failed.unwrap_err().field, Field::Reserved);
    assert_eq!(
        Composite::open(segment.region(), 9).unwrap_err().field,
        Field::Magic,
        "nothing was published"
    );
    let many = Composite { parts: vec![1; 9], ..composite() };
    let refused = many.create(Region::heap(many.bytes()).unwrap(), |_| Ok::<_, Incompatible>(()));
    assert_eq!(refused.unwrap_err().field, Field::Capacity);
    let short = Region::heap(4096).unwrap();
    assert_eq!(made.create(short, |_| Ok::<_, Incompatible>(())).unwrap_err().field, Field::TotalBytes);
    let long = Composite { text: vec![b'x'; COMPOSITE_TEXT_BYTES + 9], parts: vec![1], ..composite() };
    let segment = Segment::anonymous(long.bytes()).unwrap();
    long.create(segment.region(), |_| Ok::<_, Incompatible>(())).unwrap();
    assert_eq!(Composite::open(segment.region(), 9).unwrap().0.text.len(), COMPOSITE_TEXT_BYTES);
    drop(region());

    // Every word in front of the parts, with values that a liar would choose.
    for word in 16..48 {
        for value in [1, 127, 4096, 1 << 20, u64::MAX, u64::MAX - 4095] {
            let segment = Segment::anonymous(made.bytes()).unwrap();
            made.create(segment.region(), |_| Ok::<_, Incompatible>(())).unwrap();
            set(&segment.region(), 8 * word, value);
            if let Ok((_, parts)) = Composite::open(segment.region(), 9) {
                let bytes: usize = parts.iter().map(Region::len).sum();
                assert!(bytes + 4096 <= made.bytes(), "word {word}");
            }
        }
    }
}

#[test]
fn a_region_is_split_where_it_is_said() {
    let (first, second) =
        Region::heap(1024).unwrap().read_only_but([0..128, 512..640]).split_at(512).unwrap();
    assert_eq!((first.len(), second.len()), (512, 512));
    assert!(first.is_writable_at(0, 128) && !first.is_writable_at(128, 8));
    assert!(second.is_writable_at(0, 128) && !second.is_writable_at(128, 8));
    let (none, all) = second.split_at(0).unwrap();
    assert!(none.is_empty() && all.len() == 512);
    assert_eq!(all.split_at(100).unwrap_err(), RegionError::Alignment { found: 100 });
    assert_eq!(first.split_at(513 + LINE_BYTES - 1).unwrap_err(), RegionError::Length { found: 640 });
}

#[test]
fn hands_of_entries_that_do_not_exist_are_not_seen() {
    let region = Region::heap(roster_bytes(66)).unwrap();
    // SAFETY: nobody else writes the words meanwhile.
    let other = unsafe { region.alias() };
    let roster = Roster::create(region, 66, BellMode::Fence).unwrap();
    let before: Vec<u64> = words(&other);
    let mut sleeper = roster.attend(65, [0; 2], System, &AT_ONCE).unwrap();
    assert_eq!(sleeper.arm(|| false), Armed::Armed);
    let raised: Vec<usize> = (0..16).filter(|i| words(&other)[*i] & !before[*i] == 2).collect();
    let [word] = raised[..] else { panic!("expected one word with the hand of entry 65, found {raised:?}") };
    sleeper.disarm();
    let hands = roster.hands(&System).unwrap();
    // SAFETY: within the roster.
    unsafe { other.atomic_u64(word * 8) }.store(!3, Ordering::Relaxed);
    assert!(!hands.any());
    assert_eq!(hands.raised().next(), None);
}

fn words(region: &Region<Trusted>) -> Vec<u64> {
    // SAFETY: within the roster.
    (0..16).map(|i| unsafe { region.atomic_u64(8 * i) }.load(Ordering::Relaxed)).collect()
}
