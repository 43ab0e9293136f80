//! Broken twins of the log on the seam, each wrong in one way that the shipped one is right. The checker must report every
//! one of them, and must pass the same model when the log is right; else a passing model of the real one would prove
//! nothing.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::thread;
use tidewire_shm::Region;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, Words, fence, hook};

/// What a twin does; `RIGHT` is right.
#[derive(Clone, Copy, Debug)]
struct Ways {
    /// The stamp is stored before the data, and a fence behind it.
    stamp_first: bool,
    fence_stamp: bool,
    publish: Ordering,
    /// `latest` is stored before the slot is filled.
    publish_first: bool,
    /// The reader's fences: behind `latest`, in front of the stamp, behind a wrong stamp.
    fence_latest: bool,
    fence_data: bool,
    fence_follow: bool,
    /// The reader looks at the stamp at all.
    validate: bool,
    /// A batch is validated by the stamp of its last version instead of its first.
    last_of_batch: bool,
    /// A reader that is overtaken counts from the `latest` that it knew.
    count_from_known: bool,
    /// The two fences that let a head and a look at it meet.
    fence_look: bool,
    fence_close: bool,
    /// The reader closes its gate before it looks where it starts.
    close_first: bool,
    /// The writer looks at gates again when it has gone as far as a look allows.
    look_again: bool,
    /// A successor goes on as if it had looked at the gates.
    inherit: bool,
    /// A gate is opened by whoever believes, without proof, that its reader is dead.
    believe: bool,
}

const RIGHT: Ways = Ways {
    stamp_first: true,
    fence_stamp: true,
    publish: Ordering::Release,
    publish_first: false,
    fence_latest: true,
    fence_data: true,
    fence_follow: true,
    validate: true,
    last_of_batch: false,
    count_from_known: false,
    fence_look: true,
    fence_close: true,
    close_first: true,
    look_again: true,
    inherit: false,
    believe: false,
};

const MOST: usize = 4;
const WORDS: usize = 2;

/// A log of so many slots, in groups of one, with one gate.
#[derive(Clone)]
struct Twin {
    latest: Shared<AtomicU64>,
    head: Shared<AtomicU64>,
    stamps: Words,
    data: Words,
    _region: Arc<Region<tidewire_shm::Trusted>>,
    slots: u64,
    ways: Ways,
}

fn fence_if(yes: bool, order: Ordering) {
    if yes {
        fence(order);
    }
}

/// What a reader comes to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Value([u64; WORDS]),
    Nothing,
    /// Goes on with that version.
    Overtaken(u64),
    Corrupt,
}

impl Twin {
    fn new(slots: u64, ways: Ways) -> Self {
        let region = Arc::new(Region::heap(1024).unwrap());
        // SAFETY: a control word; the region is kept.
        let latest = unsafe { region.atomic_u64(0) };
        // SAFETY: as above.
        let head = unsafe { region.atomic_u64(128) };
        // SAFETY: words, nowhere used otherwise; the region is kept.
        let stamps = unsafe { region.words(256, MOST) };
        // SAFETY: as above.
        let data = unsafe { region.words(512, MOST * WORDS) };
        Self { latest, head, stamps, data, _region: region, slots, ways }
    }

    fn stamp(&self, version: u64) -> &AtomicU64 {
        // SAFETY: within the words.
        unsafe { self.stamps.word((version % self.slots) as usize) }
    }

    fn write(&self, version: u64) {
        let value = [version; WORDS];
        if self.ways.publish_first {
            self.latest.store(version, self.ways.publish);
        }
        if self.ways.stamp_first {
            self.stamp(version).store(version, Ordering::Relaxed);
        }
        fence_if(self.ways.fence_stamp, Ordering::Release);
        let at = (version % self.slots) as usize * WORDS;
        // SAFETY: within the words.
        unsafe { self.data.store_bytes(at, value.as_ptr().cast(), 8 * WORDS) };
        if !self.ways.stamp_first {
            self.stamp(version).store(version, Ordering::Relaxed);
        }
        self.latest.store(version, self.ways.publish);
    }

    fn get(&self, version: u64) -> [u64; WORDS] {
        let mut value = [0; WORDS];
        let at = (version % self.slots) as usize * WORDS;
        // SAFETY: within the words; private memory of that length.
        unsafe { self.data.load_bytes(at, value.as_mut_ptr().cast(), 8 * WORDS) };
        value
    }

    fn look(&self) -> u64 {
        let latest = self.latest.load(Ordering::Relaxed);
        fence_if(self.ways.fence_latest, Ordering::Acquire);
        latest
    }

    /// The value of a version, of which `known` says whether it is published.
    fn read(&self, next: u64, known: u64) -> Found {
        if next > known && self.look() < next {
            return Found::Nothing;
        }
        let value = self.get(next);
        fence_if(self.ways.fence_data, Ordering::Acquire);
        let stamp = self.stamp(next).load(Ordering::Relaxed);
        if stamp == next || !self.ways.validate {
            return Found::Value(value);
        }
        fence_if(self.ways.fence_follow, Ordering::Acquire);
        let latest = if self.ways.count_from_known { known } else { self.latest.load(Ordering::Relaxed) };
        if stamp < next + self.slots || latest + 2 < stamp {
            return Found::Corrupt;
        }
        Found::Overtaken((next + 1).max((latest + 1).saturating_sub(self.slots / 2)))
    }

    /// The values of two versions that are known to be published.
    fn batch(&self, next: u64) -> Option<[[u64; WORDS]; 2]> {
        let values = [self.get(next), self.get(next + 1)];
        fence_if(self.ways.fence_data, Ordering::Acquire);
        let checked = next + u64::from(self.ways.last_of_batch);
        (self.stamp(checked).load(Ordering::Relaxed) == checked).then_some(values)
    }

    /// The first version that the gate forbids, or that a look at it now says nothing about.
    fn bound(&self, published: u64) -> u64 {
        fence_if(self.ways.fence_look, Ordering::SeqCst);
        let head = self.head.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let allowed = if head == 0 { u64::MAX } else { head + self.slots };
        if self.ways.look_again { allowed.min(published + 2) } else { allowed }
    }

    /// Writes up to a version as far as the gate allows, and says how far.
    fn try_up_to(&self, mut published: u64, last: u64) -> u64 {
        let mut bound = if self.ways.inherit { u64::MAX } else { 0 };
        while published < last {
            if published + 1 >= bound {
                bound = self.bound(published);
            }
            if published + 1 >= bound {
                break;
            }
            self.write(published + 1);
            published += 1;
        }
        published
    }

    /// Closes the gate and says where the reader starts.
    fn join(&self) -> u64 {
        let wanted = self.look() + 1;
        if !self.ways.close_first {
            fence_if(self.ways.fence_close, Ordering::SeqCst);
            let latest = self.latest.load(Ordering::Relaxed);
            let start = wanted.max((latest + 2).saturating_sub(self.slots));
            self.head.store(start, Ordering::Relaxed);
            return start;
        }
        self.head.store(wanted, Ordering::Relaxed);
        fence_if(self.ways.fence_close, Ordering::SeqCst);
        let latest = self.look();
        let start = wanted.max((latest + 2).saturating_sub(self.slots));
        self.head.store(start, Ordering::Release);
        start
    }
}

fn explore(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    let cut = builder.max_duration.is_some() || builder.max_permutations.is_some();
    assert!(!cut, "{CUT}");
    builder.check(body);
}

const CUT: &str = "a model that is cut by time or by a number of runs ends as passed: unset these bounds";

/// Whether a model reports something; that it was cut is no report.
fn reported(body: impl Fn() + Send + Sync + 'static) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| explore(body))) else { return false };
    let cut = panic.downcast_ref::<&str>() == Some(&CUT)
        || panic.downcast_ref::<String>().is_some_and(|text| text == CUT);
    assert!(!cut, "{CUT}");
    true
}

/// A writer goes on from the first version to the last, while a reader reads the first one, and again where that sends it.
fn stream(slots: u64, last: u64, ways: Ways) -> impl Fn() + Send + Sync + 'static {
    move || {
        let twin = Twin::new(slots, ways);
        twin.write(1);
        let writer = twin.clone();
        let writing = thread::spawn(move || (2..=last).for_each(|version| writer.write(version)));
        let (mut next, mut known) = (1, 1);
        for _ in 0..2 {
            match twin.read(next, known) {
                Found::Value(value) => {
                    assert_eq!(value, [next; WORDS], "torn");
                    next += 1;
                }
                Found::Overtaken(on) => {
                    assert!(on > next && on <= last + 1);
                    (next, known) = (on, on - 1);
                }
                Found::Nothing => {}
                Found::Corrupt => panic!("an honest writer"),
            }
        }
        writing.join().unwrap();
    }
}

#[test]
fn the_right_twin_passes() {
    explore(stream(2, 3, RIGHT));
    explore(stream(4, 5, RIGHT));
}

#[test]
fn data_in_front_of_their_stamp_are_reported() {
    assert!(reported(stream(2, 3, Ways { stamp_first: false, ..RIGHT })));
    assert!(reported(stream(2, 3, Ways { fence_stamp: false, ..RIGHT })));
}

#[test]
fn relaxed_publication_is_reported() {
    assert!(reported(stream(2, 3, Ways { publish: Ordering::Relaxed, ..RIGHT })));
    assert!(reported(stream(2, 3, Ways { fence_latest: false, ..RIGHT })));
}

#[test]
fn publication_in_front_of_the_data_is_reported() {
    assert!(reported(stream(2, 3, Ways { publish_first: true, ..RIGHT })));
}

#[test]
fn a_reader_that_does_not_look_again_is_reported() {
    assert!(reported(stream(2, 3, Ways { fence_data: false, ..RIGHT })));
    assert!(reported(stream(2, 3, Ways { validate: false, ..RIGHT })));
}

/// A reader that is overtaken must know what the writer had published by then, or it takes it for a liar.
#[test]
fn a_reader_that_counts_from_an_old_version_is_reported() {
    assert!(reported(stream(4, 5, Ways { fence_follow: false, ..RIGHT })));
    assert!(reported(stream(4, 5, Ways { count_from_known: true, ..RIGHT })));
}

#[test]
fn a_batch_that_is_validated_by_its_last_version_is_reported() {
    let body = |ways| {
        move || {
            let twin = Twin::new(4, ways);
            (1..=4).for_each(|version| twin.write(version));
            let writer = twin.clone();
            let writing = thread::spawn(move || (5..=6).for_each(|version| writer.write(version)));
            let known = twin.look();
            assert_eq!(known.clamp(4, 6), known);
            if let Some(values) = twin.batch(1) {
                assert_eq!(values, [[1; WORDS], [2; WORDS]], "torn");
            }
            writing.join().unwrap();
        }
    };
    explore(body(RIGHT));
    assert!(reported(body(Ways { last_of_batch: true, ..RIGHT })));
    assert!(reported(body(Ways { fence_data: false, ..RIGHT })));
}

/// A reader joins while a writer goes on as far as it may: it finds the version with which it starts, once that is published.
fn joining(slots: u64, last: u64, ways: Ways) -> impl Fn() + Send + Sync + 'static {
    move || {
        let twin = Twin::new(slots, ways);
        let writer = twin.clone();
        let writing = thread::spawn(move || writer.try_up_to(0, last));
        let next = twin.join();
        let published = writing.join().unwrap();
        if next <= published {
            assert_eq!(twin.read(next, 0), Found::Value([next; WORDS]), "lost");
        }
    }
}

#[test]
fn a_gate_that_is_closed_in_the_wrong_order_is_reported() {
    explore(joining(2, 4, RIGHT));
    assert!(reported(joining(2, 4, Ways { fence_look: false, ..RIGHT })));
    assert!(reported(joining(2, 4, Ways { fence_close: false, ..RIGHT })));
    assert!(reported(joining(2, 4, Ways { close_first: false, ..RIGHT })));
}

#[test]
fn a_writer_that_looks_at_open_gates_once_is_reported() {
    assert!(reported(joining(2, 4, Ways { look_again: false, ..RIGHT })));
}

/// A writer that dies, and one that follows it, while a reader holds the first version.
#[test]
fn a_successor_that_does_not_look_at_the_gates_is_reported() {
    let body = |ways: Ways| {
        move || {
            let twin = Twin::new(2, ways);
            let (first, second) = (twin.clone(), twin.clone());
            assert_eq!(twin.join(), 1);
            let dying = thread::spawn(move || {
                hook::killed_after(8, || first.try_up_to(0, 3));
            });
            let following = thread::spawn(move || {
                dying.join().unwrap();
                let published = second.latest.load(Ordering::Relaxed);
                second.try_up_to(published, 4)
            });
            following.join().unwrap();
            assert_eq!(twin.read(1, 1), Found::Value([1; WORDS]), "lost");
        }
    };
    explore(body(RIGHT));
    assert!(reported(body(Ways { inherit: true, ..RIGHT })));
}

/// A gate that is opened while its reader lives: it loses what it holds.
#[test]
fn a_gate_that_is_opened_without_proof_is_reported() {
    let body = |ways: Ways| {
        move || {
            let twin = Twin::new(2, ways);
            assert_eq!(twin.try_up_to(0, 1), 1);
            let reader = twin.clone();
            let reading = thread::spawn(move || {
                let next = reader.join();
                let found = reader.read(next, 0);
                assert!(matches!(found, Found::Value(_) | Found::Nothing), "lost");
                next
            });
            // With the join, that is the proof; without it, this is the mistake that loom must report.
            let reading = if ways.believe { Some(reading) } else { reading.join().map(|_| None).unwrap() };
            twin.head.store(0, Ordering::Relaxed);
            assert!(twin.try_up_to(1, 4) >= 1);
            if let Some(reading) = reading {
                reading.join().unwrap();
            }
        }
    };
    explore(body(RIGHT));
    assert!(reported(body(Ways { believe: true, ..RIGHT })));
}
