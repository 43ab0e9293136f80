//! Broken twins of a bell, each wrong in one way that the shipped one is right. The checker must report a lost
//! wake-up for every one of them, and must pass the same model when the bell is right.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

mod loom_bell_futex;

use std::sync::Arc;

use loom::thread;
use loom_bell_futex::{Futex, model, reported};
use tidewire_shm::Region;
use tidewire_shm::bell::Kernel;
use tidewire_shm::sync::{AtomicU64, Ordering, fence, hook};

/// What a twin does; `RIGHT` is right.
#[derive(Clone, Copy, Debug)]
struct Ways {
    ringer_fence: bool,
    sleeper_fence: bool,
    look_again: bool,
    /// The ringer marks the flag before it wakes.
    mark: bool,
    /// The mark of the ringer takes the flag down.
    ringer_lowers: bool,
}

const RIGHT: Ways =
    Ways { ringer_fence: true, sleeper_fence: true, look_again: true, mark: true, ringer_lowers: false };

const ASLEEP: u64 = 1;
const RUNG: u64 = 3;

/// A bell in word form.
struct Twin {
    tails: [AtomicU64; 2],
    flag: AtomicU64,
    futex: Futex,
    _region: Region<tidewire_shm::Trusted>,
    ways: Ways,
}

impl Twin {
    fn new(ways: Ways) -> Arc<Self> {
        let region = Region::heap(128).unwrap();
        let futex = Futex::new(&region, 0);
        let word = || AtomicU64::new(0);
        Arc::new(Self { tails: [word(), word()], flag: word(), futex, _region: region, ways })
    }

    fn publish(&self, ringer: usize) {
        self.tails[ringer].store(1, Ordering::Release);
        if self.ways.ringer_fence {
            fence(Ordering::SeqCst);
        }
        let seen = self.flag.load(Ordering::Relaxed);
        if seen == 0 {
            return;
        }
        if self.ways.mark && seen == ASLEEP {
            let mark = if self.ways.ringer_lowers { 0 } else { RUNG };
            let found = self.flag.compare_exchange(ASLEEP, mark, Ordering::Relaxed, Ordering::Relaxed);
            if found == Err(0) {
                return;
            }
        }
        self.futex.wake(tidewire_shm::bell::Place::LowHalf(&self.flag));
    }

    fn wait(&self, ringer: usize) {
        let ready = || self.tails[ringer].load(Ordering::Acquire) == 1;
        while !ready() {
            self.flag.store(ASLEEP, Ordering::Relaxed);
            if self.ways.sleeper_fence {
                fence(Ordering::SeqCst);
            }
            if !(self.ways.look_again && ready()) {
                self.futex.sleep_while(|| self.flag.load(Ordering::Relaxed) == ASLEEP);
            }
            self.flag.store(0, Ordering::Relaxed);
        }
    }
}

fn one_ringer(ways: Ways) -> impl Fn() + Send + Sync + 'static {
    move || {
        let twin = Twin::new(ways);
        let ringing = thread::spawn({
            let twin = Arc::clone(&twin);
            move || twin.publish(0)
        });
        twin.wait(0);
        ringing.join().unwrap();
    }
}

/// The first of two ringers is killed before its access number `step + 1`.
fn a_killed_ringer(ways: Ways, step: u64) -> impl Fn() + Send + Sync + 'static {
    move || {
        let twin = Twin::new(ways);
        let ring = |ringer| {
            let twin = Arc::clone(&twin);
            move || twin.publish(ringer)
        };
        let (dying, living) = (ring(0), ring(1));
        let dying = thread::spawn(move || hook::killed_after(step, dying));
        let living = thread::spawn(living);
        twin.wait(1);
        living.join().unwrap();
        dying.join().unwrap();
    }
}

/// Accesses of a ringer before its wake: the tail, the flag, the mark; the next is the entry of the system call.
const BEFORE_THE_WAKE: u64 = 3;

#[test]
fn the_right_twin_passes() {
    model(one_ringer(RIGHT));
    for step in 0..=BEFORE_THE_WAKE {
        model(a_killed_ringer(RIGHT, step));
    }
}

#[test]
fn a_ringer_without_a_fence_is_reported() {
    assert!(reported(one_ringer(Ways { ringer_fence: false, ..RIGHT })));
}

#[test]
fn a_sleeper_without_a_fence_is_reported() {
    assert!(reported(one_ringer(Ways { sleeper_fence: false, ..RIGHT })));
}

#[test]
fn a_sleeper_that_does_not_look_again_is_reported() {
    assert!(reported(one_ringer(Ways { look_again: false, ..RIGHT })));
}

/// The wake comes between the last look and the sleep.
#[test]
fn a_ringer_that_does_not_mark_is_reported() {
    assert!(reported(one_ringer(Ways { mark: false, ..RIGHT })));
}

#[test]
fn a_ringer_that_lowers_the_flag_and_dies_is_reported() {
    let lowers = Ways { ringer_lowers: true, ..RIGHT };
    model(one_ringer(lowers));
    assert!(reported(a_killed_ringer(lowers, BEFORE_THE_WAKE)));
}
