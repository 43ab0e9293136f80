//! Broken twins of a wait that is counted, each wrong in one way that the shipped one is right. The checker must report a
//! lost wake-up for every one of them, and must pass the same model when the wait is right.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

#[path = "../../shm/tests/loom_bell_futex/mod.rs"]
mod futex;

use futex::{Futex, model, reported};
use loom::thread;
use tidewire_shm::Region;
use tidewire_shm::bell::{Kernel, Nap, Place};
use tidewire_shm::sync::{Ordering, fence};

/// What a twin does; `RIGHT` is right.
#[derive(Clone, Copy, Debug)]
struct Ways {
    /// The writer's fence between publication and count.
    writer_fence: bool,
    /// The reader's fence between count and look.
    reader_fence: bool,
    /// The reader looks again when it is counted.
    look_again: bool,
    /// What the kernel shall compare is loaded before that look.
    expect_first: bool,
    /// The reader is counted before that look.
    count_first: bool,
    /// The writer publishes before it looks at the count.
    publish_first: bool,
}

const RIGHT: Ways = Ways {
    writer_fence: true,
    reader_fence: true,
    look_again: true,
    expect_first: true,
    count_first: true,
    publish_first: true,
};

const LATEST: usize = 0;
const COUNT: usize = 8;
const ENTRY: usize = 16;

/// A writer writes two versions; a reader waits for one, then for the other.
fn twin(ways: Ways) -> impl Fn() + Send + Sync + 'static {
    move || {
        let region = Region::heap(128).unwrap();
        let (latest, count) = (futex::word(&region, LATEST), futex::word(&region, COUNT));
        let futex = Futex::new(&region, ENTRY);
        let writing = thread::spawn({
            let (latest, count, futex) = (latest.clone(), count.clone(), futex.clone());
            move || {
                for version in 1..=2 {
                    if ways.publish_first {
                        latest.store(version, Ordering::Release);
                    }
                    if ways.writer_fence {
                        fence(Ordering::SeqCst);
                    }
                    if count.load(Ordering::Relaxed) != 0 {
                        futex.wake(Place::LowHalf(&latest));
                    }
                    if !ways.publish_first {
                        latest.store(version, Ordering::Release);
                    }
                }
            }
        });
        for since in 0..2 {
            while latest.load(Ordering::Relaxed) <= since {
                sleep(ways, &latest, &count, &futex, since);
            }
        }
        writing.join().unwrap();
    }
}

type Word = tidewire_shm::sync::Shared<tidewire_shm::sync::AtomicU64>;

/// One sleep as long as the version is not above `since`.
fn sleep(ways: Ways, latest: &Word, count: &Word, futex: &Futex, since: u64) {
    let raise = || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    if ways.count_first {
        raise();
    }
    if ways.reader_fence {
        fence(Ordering::SeqCst);
    }
    let early = latest.load(Ordering::Relaxed) as u32;
    let changed = ways.look_again && latest.load(Ordering::Relaxed) > since;
    let expected = if ways.expect_first { early } else { latest.load(Ordering::Relaxed) as u32 };
    if !ways.count_first {
        raise();
    }
    if !changed {
        let _nap: Nap = futex.sleep(Place::LowHalf(latest), expected, u64::MAX);
    }
    count.fetch_add(u64::MAX, Ordering::Relaxed);
}

#[test]
fn a_wait_that_is_right_loses_no_wake_up() {
    model(twin(RIGHT));
}

#[test]
fn every_wait_that_is_wrong_is_found_out() {
    let wrong = [
        Ways { writer_fence: false, ..RIGHT },
        Ways { reader_fence: false, ..RIGHT },
        Ways { look_again: false, ..RIGHT },
        Ways { expect_first: false, ..RIGHT },
        Ways { count_first: false, ..RIGHT },
        Ways { publish_first: false, ..RIGHT },
    ];
    for ways in wrong {
        assert!(reported(twin(ways)), "not found out: {ways:?}");
    }
}
