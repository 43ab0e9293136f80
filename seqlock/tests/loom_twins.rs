//! Broken twins: cells on the seam, each wrong in one way that the shipped ones are right. The checker must report every
//! one of them, and must pass the same model when the cell is right; else a passing model of the real cells would prove
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
    /// The slot says that it is being written before it is.
    busy: bool,
    /// The fence between that and the data.
    fence_busy: bool,
    publish: Ordering,
    /// The reader's fence between `latest` and the data.
    fence_first: bool,
    /// The reader's fence between the data and the stamp.
    fence_second: bool,
    /// The reader looks at the stamp at all.
    validate: bool,
    /// `latest` is stored before the slot is filled.
    publish_first: bool,
    /// The writer that follows a dead one goes on one version further than it should.
    skip: bool,
    /// The inline copy is marked as being changed before it is.
    odd: bool,
    /// The fence between that and the copy.
    fence_odd: bool,
    odd_publish: Ordering,
    /// The reader's fence between the copy and the second look at `latest`.
    fence_copy: bool,
    /// The reader's fence between the second look at `latest` and the slot.
    fence_slot: bool,
}

const RIGHT: Ways = Ways {
    busy: true,
    fence_busy: true,
    publish: Ordering::Release,
    fence_first: true,
    fence_second: true,
    validate: true,
    publish_first: false,
    skip: false,
    odd: true,
    fence_odd: true,
    odd_publish: Ordering::Release,
    fence_copy: true,
    fence_slot: true,
};

const SLOTS: u64 = 2;
const WORDS: usize = 2;
const BUSY: u64 = 1 << 63;

#[derive(Clone)]
struct Twin {
    latest: Shared<AtomicU64>,
    copy: Words,
    slots: Words,
    _region: Arc<Region<tidewire_shm::Trusted>>,
    ways: Ways,
}

fn fence_if(yes: bool, order: Ordering) {
    if yes {
        fence(order);
    }
}

impl Twin {
    fn new(ways: Ways) -> Self {
        let region = Arc::new(Region::heap(1024).unwrap());
        // SAFETY: a control word; the region is kept.
        let latest = unsafe { region.atomic_u64(0) };
        // SAFETY: words, nowhere used otherwise; the region is kept.
        let copy = unsafe { region.words(8, WORDS) };
        // SAFETY: as above.
        let slots = unsafe { region.words(128, 16) };
        let twin = Self { latest, copy, slots, _region: region, ways };
        for slot in 1..SLOTS {
            twin.stamp(slot).store(BUSY, Ordering::Relaxed);
        }
        twin
    }

    fn at(version: u64) -> usize {
        (version % SLOTS) as usize * 8
    }

    fn stamp(&self, version: u64) -> &AtomicU64 {
        // SAFETY: within the words.
        unsafe { self.slots.word(Self::at(version) + WORDS) }
    }

    fn put(words: &Words, at: usize, version: u64) {
        let value = [version; WORDS];
        // SAFETY: within the words.
        unsafe { words.store_bytes(at, value.as_ptr().cast(), 8 * WORDS) };
    }

    fn get(words: &Words, at: usize) -> [u64; WORDS] {
        let mut value = [0; WORDS];
        // SAFETY: within the words; private memory of that length.
        unsafe { words.load_bytes(at, value.as_mut_ptr().cast(), 8 * WORDS) };
        value
    }

    fn fill(&self, version: u64) {
        if self.ways.busy {
            self.stamp(version).store(BUSY | version, Ordering::Relaxed);
        }
        fence_if(self.ways.fence_busy, Ordering::Release);
        Self::put(&self.slots, Self::at(version), version);
        self.stamp(version).store(version, Ordering::Relaxed);
    }

    fn take(&self, version: u64) -> Option<(u64, [u64; WORDS])> {
        let value = Self::get(&self.slots, Self::at(version));
        fence_if(self.ways.fence_second, Ordering::Acquire);
        let whole = self.stamp(version).load(Ordering::Relaxed) == version || !self.ways.validate;
        whole.then_some((version, value))
    }

    fn write(&self, version: u64) {
        if self.ways.publish_first {
            self.latest.store(version, self.ways.publish);
        }
        self.fill(version);
        self.latest.store(version, self.ways.publish);
    }

    fn read(&self) -> Option<(u64, [u64; WORDS])> {
        let version = self.latest.load(Ordering::Relaxed);
        fence_if(self.ways.fence_first, Ordering::Acquire);
        self.take(version)
    }

    fn write_inline(&self, version: u64) {
        self.fill(version);
        if self.ways.odd {
            self.latest.store(version << 1 | 1, self.ways.odd_publish);
        }
        fence_if(self.ways.fence_odd, Ordering::Release);
        Self::put(&self.copy, 0, version);
        self.latest.store(version << 1, self.ways.publish);
    }

    fn read_inline(&self) -> Option<(u64, [u64; WORDS])> {
        let mut latest = self.latest.load(Ordering::Relaxed);
        fence_if(self.ways.fence_first, Ordering::Acquire);
        if latest & 1 == 0 {
            let value = Self::get(&self.copy, 0);
            fence_if(self.ways.fence_copy, Ordering::Acquire);
            let now = self.latest.load(Ordering::Relaxed);
            if now == latest || !self.ways.validate {
                return Some((latest >> 1, value));
            }
            fence_if(self.ways.fence_slot, Ordering::Acquire);
            latest = now;
        }
        self.take(latest >> 1)
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

fn check(read: Option<(u64, [u64; WORDS])>) {
    if let Some((version, value)) = read {
        assert_eq!(value, [version; WORDS], "torn");
    }
}

/// A writer of so many versions, a reader of one.
fn rotating(ways: Ways, writes: u64) -> impl Fn() + Send + Sync + 'static {
    move || {
        let twin = Twin::new(ways);
        let writer = twin.clone();
        let writing = thread::spawn(move || (1..=writes).for_each(|version| writer.write(version)));
        check(twin.read());
        writing.join().unwrap();
    }
}

fn inline(ways: Ways, writes: u64) -> impl Fn() + Send + Sync + 'static {
    move || {
        let twin = Twin::new(ways);
        let writer = twin.clone();
        let writing = thread::spawn(move || (1..=writes).for_each(|version| writer.write_inline(version)));
        check(twin.read_inline());
        writing.join().unwrap();
    }
}

const ENOUGH: u64 = SLOTS + 1;

#[test]
fn the_right_twins_pass() {
    explore(rotating(RIGHT, ENOUGH));
    explore(inline(RIGHT, ENOUGH));
}

#[test]
fn a_slot_that_is_not_marked_busy_is_reported() {
    assert!(reported(rotating(Ways { busy: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { busy: false, ..RIGHT }, ENOUGH)));
}

#[test]
fn a_missing_fence_behind_busy_is_reported() {
    assert!(reported(rotating(Ways { fence_busy: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { fence_busy: false, ..RIGHT }, ENOUGH)));
}

/// Why the models write one version more than there are slots: with one less, nothing shows that `BUSY` is missing.
#[test]
fn with_as_many_writes_as_slots_a_broken_cell_passes() {
    explore(inline(Ways { busy: false, ..RIGHT }, ENOUGH - 1));
    explore(inline(Ways { fence_busy: false, ..RIGHT }, ENOUGH - 1));
}

#[test]
fn relaxed_publication_is_reported() {
    assert!(reported(rotating(Ways { publish: Ordering::Relaxed, ..RIGHT }, ENOUGH)));
    assert!(reported(rotating(Ways { fence_first: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { publish: Ordering::Relaxed, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { odd_publish: Ordering::Relaxed, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { fence_first: false, ..RIGHT }, ENOUGH)));
}

#[test]
fn a_missing_fence_of_the_reader_is_reported() {
    assert!(reported(rotating(Ways { fence_second: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { fence_second: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { fence_copy: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { fence_slot: false, ..RIGHT }, ENOUGH)));
}

#[test]
fn a_reader_that_does_not_look_again_is_reported() {
    assert!(reported(rotating(Ways { validate: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { validate: false, ..RIGHT }, ENOUGH)));
}

#[test]
fn publishing_before_filling_is_reported() {
    // A reader is sent to a slot that does not hold the version: it sees that in the stamp. So this twin tears nothing,
    // but a reader of a writer that stopped there finds nothing, for ever.
    let body = |ways| {
        move || {
            let twin = Twin::new(ways);
            let writer = twin.clone();
            let dying = thread::spawn(move || {
                hook::killed_after(4, || (1..=ENOUGH).for_each(|version| writer.write(version)))
            });
            dying.join().unwrap();
            assert!(twin.read().is_some(), "a dead writer hides the value");
        }
    };
    explore(body(RIGHT));
    assert!(reported(body(Ways { publish_first: true, ..RIGHT })));
}

#[test]
fn a_copy_that_is_not_marked_as_changing_is_reported() {
    assert!(reported(inline(Ways { odd: false, ..RIGHT }, ENOUGH)));
    assert!(reported(inline(Ways { fence_odd: false, ..RIGHT }, ENOUGH)));
}

/// Killed after any number of steps, followed by a writer that goes on from `latest`.
fn crash(ways: Ways, steps: u64) -> impl Fn() + Send + Sync + 'static {
    move || {
        let twin = Twin::new(ways);
        twin.write(1);
        let (first, second) = (twin.clone(), twin.clone());
        let dying = thread::spawn(move || hook::killed_after(steps, || first.write(2)));
        let following = thread::spawn(move || {
            dying.join().unwrap();
            let next = second.latest.load(Ordering::Relaxed) + 1 + u64::from(second.ways.skip);
            (next..next + 2).for_each(|version| second.write(version));
            next + 1
        });
        check(twin.read());
        let last = following.join().unwrap();
        assert_eq!(twin.read(), Some((last, [last; WORDS])));
    }
}

/// The writer that follows a dead one must mark the slot that the dead one left marked, too, whatever it says.
#[test]
fn a_follower_that_marks_nothing_is_reported() {
    for steps in 0..6 {
        explore(crash(RIGHT, steps));
    }
    assert!((0..6).any(|steps| reported(crash(Ways { busy: false, ..RIGHT }, steps))));
}

/// Going on two further overwrites the slot that readers are sent to.
#[test]
fn a_follower_that_skips_a_version_is_reported() {
    let body = |skip| {
        move || {
            let twin = Twin::new(Ways { skip, ..RIGHT });
            (1..=2).for_each(|version| twin.write(version));
            let (first, second) = (twin.clone(), twin.clone());
            let dying = thread::spawn(move || {
                let next = first.latest.load(Ordering::Relaxed) + 1 + u64::from(first.ways.skip);
                hook::killed_after(3, || first.write(next));
            });
            dying.join().unwrap();
            assert!(second.read().is_some(), "a dead writer hides the value");
        }
    };
    explore(body(false));
    assert!(reported(body(true)));
}

/// A lock that is taken from a holder of whom nothing is proven: two writers at once.
#[test]
fn a_lock_stolen_without_proof_is_reported() {
    let body = |proof: bool| {
        move || {
            let twin = Twin::new(RIGHT);
            let lock = Arc::new(AtomicU64::new(0));
            let (slow, held) = (twin.clone(), Arc::clone(&lock));
            held.store(1, Ordering::Relaxed);
            let alive = thread::spawn(move || {
                (1..=ENOUGH).for_each(|version| slow.write(version));
                let _ = held.compare_exchange(1, 0, Ordering::Release, Ordering::Relaxed);
            });
            let alive = if proof {
                alive.join().unwrap();
                None
            } else {
                Some(alive)
            };
            // With the join, that is the proof; without it, this is the mistake that loom must report.
            let found = lock.load(Ordering::Relaxed);
            if lock.compare_exchange(found, 2, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                let next = twin.latest.load(Ordering::Relaxed) + 1;
                let seen = twin.read();
                twin.write(next);
                assert!(seen.is_none_or(|(version, _)| version < next));
                assert_eq!(twin.read(), Some((next, [next; WORDS])), "another one writes");
            }
            if let Some(alive) = alive {
                alive.join().unwrap();
            }
        }
    };
    explore(body(true));
    assert!(reported(body(false)));
}
