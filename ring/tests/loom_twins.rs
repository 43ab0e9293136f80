//! Broken twins: rings on the seam, each wrong in one way that the shipped one is right. The checker must report every
//! one of them, and must pass the same model when the ring is right; else a passing model of the real ring would
//! prove nothing.
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
use tidewire_shm::sync::{AtomicU64, Ordering, Payload, Shared, fence, hook};
use tidewire_shm::{Region, Trusted};

/// What a twin does; `Default` is right.
#[derive(Clone, Copy, Debug)]
struct Ways {
    tail_store: Ordering,
    tail_load: Ordering,
    head_store: Ordering,
    head_load: Ordering,
    /// The tail is stored before the slot is written.
    publish_first: bool,
    /// The head is stored before the slot is read.
    release_first: bool,
    /// The head is stored before the slot is touched.
    touch_late: bool,
    /// The producer takes one slot more than there is.
    overfill: bool,
    /// A batch is published message by message.
    batch_by_message: bool,
}

const RIGHT: Ways = Ways {
    tail_store: Ordering::Release,
    tail_load: Ordering::Acquire,
    head_store: Ordering::Release,
    head_load: Ordering::Acquire,
    publish_first: false,
    release_first: false,
    touch_late: false,
    overfill: false,
    batch_by_message: false,
};

const CAPACITY: u64 = 2;
const DATA: usize = 256;

/// One end of a twin.
struct End {
    tail: Shared<AtomicU64>,
    head: Shared<AtomicU64>,
    data: Payload,
    _region: Region<Trusted>,
    ways: Ways,
}

impl End {
    fn pair(ways: Ways) -> (Self, Self) {
        let region = Region::heap(DATA + 8 * CAPACITY as usize).unwrap();
        let end = || Self {
            // SAFETY: a control word, nowhere used as payload; the region is kept.
            tail: unsafe { region.atomic_u64(0) },
            // SAFETY: as above.
            head: unsafe { region.atomic_u64(128) },
            // SAFETY: payload, nowhere used as a control word; the region is kept.
            data: unsafe { region.payload(DATA, 8 * CAPACITY as usize) },
            // SAFETY: both ends follow the protocol of the twin; where it is wrong, loom reports before anything is
            // lent.
            _region: unsafe { region.alias() },
            ways,
        };
        (end(), end())
    }

    fn offset(position: u64) -> usize {
        (position % CAPACITY * 8) as usize
    }

    fn write(&self, position: u64, value: u64) {
        // SAFETY: within the data; whether it is ours is what the model finds out.
        unsafe { self.data.store(Self::offset(position), &value) };
    }

    fn read(&self, position: u64) -> u64 {
        // SAFETY: within the data; whether it is ours is what the model finds out.
        unsafe { self.data.load(Self::offset(position)) }
    }

    fn touch(&self, position: u64) {
        // SAFETY: within the data; whether it is ours is what the model finds out.
        unsafe { self.data.touch::<u64>(Self::offset(position)) };
    }

    fn room(&self, tail: u64) -> u64 {
        let most = CAPACITY + u64::from(self.ways.overfill);
        most - (tail - self.head.load(self.ways.head_load)).min(most)
    }

    fn push(&self, tail: &mut u64, values: &[u64]) -> bool {
        if self.room(*tail) < values.len() as u64 {
            return false;
        }
        let end = *tail + values.len() as u64;
        if self.ways.publish_first {
            self.tail.store(end, self.ways.tail_store);
        }
        for (position, value) in (*tail..).zip(values) {
            self.write(position, *value);
            if self.ways.batch_by_message {
                self.tail.store(position + 1, self.ways.tail_store);
            }
        }
        self.tail.store(end, self.ways.tail_store);
        *tail = end;
        true
    }

    fn pop(&self, head: &mut u64) -> Option<u64> {
        if self.tail.load(self.ways.tail_load) == *head {
            return None;
        }
        if self.ways.release_first {
            self.head.store(*head + 1, self.ways.head_store);
        }
        let value = self.read(*head);
        if !self.ways.touch_late {
            self.touch(*head);
        }
        self.head.store(*head + 1, self.ways.head_store);
        if self.ways.touch_late {
            self.touch(*head);
        }
        *head += 1;
        Some(value)
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

/// A stream over a wrap.
fn stream(ways: Ways) -> impl Fn() + Send + Sync + 'static {
    move || {
        let (producer, consumer) = End::pair(ways);
        let producing = thread::spawn(move || {
            let mut tail = 0;
            for _ in 0..4 {
                let next = tail + 1;
                producer.push(&mut tail, &[next]);
            }
            tail
        });
        let mut head = 0;
        for _ in 0..4 {
            if let Some(value) = consumer.pop(&mut head) {
                assert_eq!(value, head);
            }
        }
        let tail = producing.join().unwrap();
        while let Some(value) = consumer.pop(&mut head) {
            assert_eq!(value, head);
        }
        assert_eq!(head, tail);
    }
}

/// A batch of two that must be seen whole or not at all.
fn batch(ways: Ways) -> impl Fn() + Send + Sync + 'static {
    move || {
        let (producer, consumer) = End::pair(ways);
        let producing = thread::spawn(move || assert!(producer.push(&mut 0, &[1, 2])));
        let seen = consumer.tail.load(ways.tail_load);
        assert!(seen == 0 || seen == 2, "part of a batch");
        producing.join().unwrap();
    }
}

#[test]
fn the_right_twin_passes() {
    explore(stream(RIGHT));
    explore(batch(RIGHT));
}

#[test]
fn publishing_before_writing_is_reported() {
    assert!(reported(stream(Ways { publish_first: true, ..RIGHT })));
}

#[test]
fn relaxed_publication_is_reported() {
    assert!(reported(stream(Ways { tail_store: Ordering::Relaxed, ..RIGHT })));
    assert!(reported(stream(Ways { tail_load: Ordering::Relaxed, ..RIGHT })));
}

#[test]
fn releasing_before_reading_is_reported() {
    assert!(reported(stream(Ways { release_first: true, ..RIGHT })));
}

#[test]
fn a_relaxed_release_is_reported() {
    assert!(reported(stream(Ways { head_store: Ordering::Relaxed, ..RIGHT })));
    assert!(reported(stream(Ways { head_load: Ordering::Relaxed, ..RIGHT })));
}

/// The touch writes back what is there: no value ever goes wrong, only the shadow can tell.
#[test]
fn touching_after_the_release_is_reported() {
    assert!(reported(stream(Ways { touch_late: true, ..RIGHT })));
}

#[test]
fn filling_one_slot_too_many_is_reported() {
    assert!(reported(stream(Ways { overfill: true, ..RIGHT })));
}

#[test]
fn a_batch_published_message_by_message_is_reported() {
    assert!(reported(batch(Ways { batch_by_message: true, ..RIGHT })));
}

/// A borrowed slice counts as an access as long as it lives, though all of its bytes were read before.
#[test]
fn a_slice_that_outlives_its_release_is_reported() {
    let body = |late: bool| {
        move || {
            let (producer, consumer) = End::pair(RIGHT);
            let mut tail = 0;
            assert!(producer.push(&mut tail, &[1, 2]));
            let producing = thread::spawn(move || producer.push(&mut tail, &[3]));
            // SAFETY: published and not yet released; that it outlives the release is what the model must see.
            let slice = unsafe { consumer.data.span(0, 8) };
            let first = slice.first().copied();
            let kept = late.then_some(slice);
            consumer.head.store(1, Ordering::Release);
            producing.join().unwrap();
            drop(kept);
            assert_eq!(first, Some(1));
        }
    };
    explore(body(false));
    assert!(reported(body(true)));
}

/// Claim first and fill later: whoever is killed in between leaves a message that never comes, for ever before the
/// messages of the living.
#[test]
fn claiming_before_filling_strands_the_living_and_is_reported() {
    let body = |one_step: bool| {
        move || {
            let tail = Arc::new(AtomicU64::new(0));
            let stamps: Arc<[AtomicU64; 2]> = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let push = move |tail: &AtomicU64, stamps: &[AtomicU64; 2]| {
                if one_step {
                    // Whoever stamps the first free slot has claimed and published it at once.
                    let free = stamps.iter().any(|stamp| {
                        stamp.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                    });
                    assert!(free);
                } else {
                    let slot = tail.fetch_add(1, Ordering::Relaxed) as usize;
                    stamps[slot].store(1, Ordering::Release);
                }
            };
            let dying = thread::spawn({
                let (tail, stamps) = (Arc::clone(&tail), Arc::clone(&stamps));
                move || hook::killed_after(1, || push(&tail, &stamps)).is_none()
            });
            push(&tail, &stamps);
            dying.join().unwrap();
            // The living one was told that its message is there: the consumer must find a message at the head.
            assert_eq!(stamps[0].load(Ordering::Acquire), 1, "a dead producer hides a message");
        }
    };
    explore(body(true));
    assert!(reported(body(false)));
}

/// Two that announce themselves and look for the other: without a fence on each side both may see nobody.
#[test]
fn a_missing_fence_in_a_handshake_is_reported() {
    let body = |fences: bool| {
        move || {
            let flags = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let meet = move |flags: &[AtomicU64; 2], me: usize| {
                flags[me].store(1, Ordering::Relaxed);
                if fences {
                    fence(Ordering::SeqCst);
                }
                flags[1 - me].load(Ordering::Relaxed)
            };
            let other = thread::spawn({
                let flags = Arc::clone(&flags);
                move || meet(&flags, 1)
            });
            let mine = meet(&flags, 0);
            assert!(mine + other.join().unwrap() > 0, "both slept");
        }
    };
    explore(body(true));
    assert!(reported(body(false)));
}

/// A take-over without proof of death: two producers at once.
#[test]
fn a_takeover_without_proof_is_reported() {
    let body = |proof: bool| {
        move || {
            let ring = Arc::new(tidewire_ring::fixed::Ring::<u64>::on_heap(2).unwrap());
            let mut victim = ring.producer().unwrap();
            let dead = victim.owner();
            let alive = thread::spawn(move || {
                victim.push(1).unwrap();
                hook::die();
            });
            let alive = if proof {
                alive.join().unwrap();
                None
            } else {
                Some(alive)
            };
            // SAFETY: with the join, that is the proof; without it, this is the mistake that loom must report.
            let mut successor = unsafe { ring.replace_producer(dead) }.unwrap();
            successor.push(2).unwrap();
            if let Some(alive) = alive {
                alive.join().unwrap();
            }
            let mut consumer = ring.consumer().unwrap();
            assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2]);
        }
    };
    explore(body(true));
    assert!(reported(body(false)));
}
