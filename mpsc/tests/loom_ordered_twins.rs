//! Broken twins: small ordered queues on the seam, each wrong in one way that the shipped one is right. The checker must
//! report every one of them, and must pass the same model when the queue is right; else a passing model of the real
//! queue would prove nothing.
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
use tidewire_shm::sync::{AtomicU64, Ordering, Payload, Shared, hook};
use tidewire_shm::{Region, Trusted};

/// What a twin does; `RIGHT` is right.
#[derive(Clone, Copy, Debug)]
struct Ways {
    claim: Ordering,
    look: Ordering,
    release: Ordering,
    room: Ordering,
    /// A place is taken by a counter, and filled in a second step.
    claim_first: bool,
    /// The order word is written before the slot.
    publish_first: bool,
    /// The hint that a producer leaves is one place further on than it may be.
    hint_ahead: bool,
    /// A producer pushes as if it had a slot more in its lane.
    overfill: bool,
    /// Where a dead owner's lane ends is read from its tail.
    end_from_tail: bool,
    /// The heads of the lanes are stored before the checkpoint.
    heads_first: bool,
    /// The checkpoint has one block, written in place.
    one_block: bool,
    /// At least once: the checkpoint comes before the read.
    checkpoint_first: bool,
}

const RIGHT: Ways = Ways {
    claim: Ordering::Release,
    look: Ordering::Acquire,
    release: Ordering::Release,
    room: Ordering::Acquire,
    claim_first: false,
    publish_first: false,
    hint_ahead: false,
    overfill: false,
    end_from_tail: false,
    heads_first: false,
    one_block: false,
    checkpoint_first: false,
};

const LANES: usize = 2;
/// Slots of a lane.
const CAPACITY: u64 = 2;
const ORDER: u64 = 4;

/// Offsets: hint, counter, version, two blocks, tails, heads, order, data.
const HINT: usize = 0;
const COUNTER: usize = 8;
const VERSION: usize = 16;
const BLOCKS: usize = 24;
const BLOCK_BYTES: usize = 8 * (1 + LANES);
const TAILS: usize = BLOCKS + 2 * BLOCK_BYTES;
const HEADS: usize = TAILS + 8 * LANES;
const WORDS: usize = HEADS + 8 * LANES;
const DATA: usize = WORDS + 8 * ORDER as usize;
const BYTES: usize = DATA + 8 * LANES * CAPACITY as usize;

/// All that one side needs.
struct Twin {
    region: Region<Trusted>,
    data: Payload,
    ways: Ways,
}

impl Twin {
    fn sides<const N: usize>(ways: Ways) -> [Self; N] {
        let region = Region::heap(BYTES).unwrap();
        for offset in (0..DATA).step_by(8) {
            // SAFETY: as in `word`; named before threads race for it.
            drop(unsafe { region.atomic_u64(offset) });
        }
        std::array::from_fn(|_| Self {
            // SAFETY: payload, nowhere used as a control word; the region is kept.
            data: unsafe { region.payload(DATA, BYTES - DATA) },
            // SAFETY: all sides follow the protocol of the twin; where it is wrong, loom reports it.
            region: unsafe { region.alias() },
            ways,
        })
    }

    fn word(&self, offset: usize) -> Shared<AtomicU64> {
        // SAFETY: control words lie below the data; the region is kept.
        unsafe { self.region.atomic_u64(offset) }
    }

    fn order(&self, position: u64) -> Shared<AtomicU64> {
        self.word(WORDS + 8 * (position % ORDER) as usize)
    }

    fn slot(lane: usize, position: u64) -> usize {
        8 * (lane * CAPACITY as usize + (position % CAPACITY) as usize)
    }
}

struct Producer {
    twin: Twin,
    lane: usize,
    tail: u64,
}

impl Producer {
    fn attach(twin: Twin, lane: usize) -> Self {
        let tail = twin.word(TAILS + 8 * lane).load(Ordering::Relaxed);
        Self { twin, lane, tail }
    }

    /// False if there is no room.
    fn push(&mut self, value: u64) -> bool {
        let (twin, ways) = (&self.twin, self.twin.ways);
        let head = twin.word(HEADS + 8 * self.lane).load(ways.room);
        if self.tail - head >= CAPACITY + u64::from(ways.overfill) {
            return false;
        }
        let slot = Twin::slot(self.lane, self.tail);
        if !ways.publish_first {
            // SAFETY: within the data; whether it is ours is what the model finds out.
            unsafe { twin.data.store(slot, &value) };
        }
        if ways.claim_first {
            let at = twin.word(COUNTER).fetch_add(1, Ordering::Relaxed);
            twin.order(at).store((at / ORDER + 1) << 8 | self.lane as u64, ways.claim);
        } else {
            self.claim();
        }
        if ways.publish_first {
            // SAFETY: as above.
            unsafe { twin.data.store(slot, &value) };
        }
        self.tail += 1;
        twin.word(TAILS + 8 * self.lane).store(self.tail, Ordering::Relaxed);
        true
    }

    fn claim(&self) {
        let (twin, ways) = (&self.twin, self.twin.ways);
        let mut at = twin.word(HINT).load(Ordering::Relaxed);
        loop {
            let word = twin.order(at);
            let found = word.load(Ordering::Relaxed);
            if found >> 8 > at / ORDER {
                at += 1;
            } else if word
                .compare_exchange(
                    found,
                    (at / ORDER + 1) << 8 | self.lane as u64,
                    ways.claim,
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                twin.word(HINT).store(at + 1 + u64::from(ways.hint_ahead), Ordering::Relaxed);
                return;
            }
        }
    }
}

struct Consumer {
    twin: Twin,
    at: u64,
    heads: [u64; LANES],
    version: u64,
}

impl Consumer {
    fn attach(twin: Twin) -> Self {
        let load = |offset| twin.word(offset).load(Ordering::Relaxed);
        let version = load(VERSION);
        let block = Self::block(&twin, version);
        let heads = std::array::from_fn(|lane| load(block + 8 * (1 + lane)));
        let at = load(block);
        for (lane, head) in heads.iter().enumerate() {
            if !twin.ways.one_block {
                twin.word(HEADS + 8 * lane).store(*head, Ordering::Release);
            }
        }
        Self { at, heads, version, twin }
    }

    fn block(twin: &Twin, version: u64) -> usize {
        BLOCKS + if twin.ways.one_block { 0 } else { (version % 2) as usize * BLOCK_BYTES }
    }

    fn checkpoint(&mut self) {
        let twin = &self.twin;
        let store_heads = || {
            for (lane, head) in self.heads.iter().enumerate() {
                twin.word(HEADS + 8 * lane).store(*head, twin.ways.release);
            }
        };
        if twin.ways.heads_first {
            store_heads();
        }
        self.version += 1;
        let block = Self::block(twin, self.version);
        twin.word(block).store(self.at, Ordering::Relaxed);
        for (lane, head) in self.heads.iter().enumerate() {
            twin.word(block + 8 * (1 + lane)).store(*head, Ordering::Relaxed);
        }
        twin.word(VERSION).store(self.version, Ordering::Relaxed);
        if !twin.ways.heads_first {
            store_heads();
        }
    }

    /// The next message; releases what was popped before.
    fn pop(&mut self) -> Option<u64> {
        let found = self.twin.order(self.at).load(self.twin.ways.look);
        if found >> 8 != self.at / ORDER + 1 {
            assert_eq!(found >> 8, self.at / ORDER, "an order word of another lap");
            self.checkpoint();
            return None;
        }
        let lane = (found & 0xff) as usize;
        if !self.twin.ways.checkpoint_first {
            self.checkpoint();
        }
        let slot = Twin::slot(lane, self.heads[lane]);
        self.at += 1;
        self.heads[lane] += 1;
        if self.twin.ways.checkpoint_first {
            self.checkpoint();
        }
        // SAFETY: within the data; whether it is ours is what the model finds out.
        Some(unsafe { self.twin.data.load(slot) })
    }

    fn rest(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Where the lane of a dead owner ends is stored as its tail.
    fn reclaim(&self, lane: usize) {
        if self.twin.ways.end_from_tail {
            return;
        }
        let published =
            (self.at..self.at + ORDER).map(|at| (at, self.twin.order(at).load(Ordering::Relaxed)));
        let ahead = published.take_while(|(at, word)| word >> 8 == at / ORDER + 1);
        let mine = ahead.filter(|(_, word)| word & 0xff == lane as u64).count() as u64;
        self.twin.word(TAILS + 8 * lane).store(self.heads[lane] + mine, Ordering::Relaxed);
    }
}

/// Explores `body` with the preemption bound of the other models.
fn explore(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    assert!(builder.max_duration.is_none() && builder.max_permutations.is_none());
    builder.check(body);
}

/// The checker reports `wrong`, and passes `RIGHT`.
fn only_right(wrong: &[Ways], model: impl Fn(Ways) + Copy + Send + Sync + 'static) {
    explore(move || model(RIGHT));
    for ways in wrong.iter().copied() {
        let outcome = catch_unwind(AssertUnwindSafe(|| explore(move || model(ways))));
        assert!(outcome.is_err(), "passed: {ways:?}");
    }
}

/// As [`only_right`], for models that kill somebody after each number of steps below `steps`; the checker reports
/// `wrong` for some number.
fn only_right_killed(steps: u64, wrong: &[Ways], model: impl Fn(Ways, u64) + Copy + Send + Sync + 'static) {
    (0..steps).for_each(|step| explore(move || model(RIGHT, step)));
    for ways in wrong.iter().copied() {
        let fails = |step| catch_unwind(AssertUnwindSafe(|| explore(move || model(ways, step)))).is_err();
        assert!((0..steps).any(fails), "passed: {ways:?}");
    }
}

/// Two producers and a consumer: each order kept, nothing lost, and nobody's slot read while it is written.
fn stream(ways: Ways) {
    let [a, b, c] = Twin::sides(ways);
    let (mut a, mut b) = (Producer::attach(a, 0), Producer::attach(b, 1));
    let mut consumer = Consumer::attach(c);
    let gate = Arc::new(loom::sync::atomic::AtomicU64::new(0));
    assert!(a.push(10) && a.push(11));
    let first = thread::spawn({
        let gate = Arc::clone(&gate);
        move || {
            let pushed = a.push(12);
            gate.load(Ordering::Relaxed);
            pushed
        }
    });
    let second = thread::spawn({
        let gate = Arc::clone(&gate);
        move || {
            let pushed = b.push(20);
            gate.load(Ordering::Relaxed);
            pushed
        }
    });
    let mut got: Vec<u64> = (0..2).filter_map(|_| consumer.pop()).collect();
    gate.store(1, Ordering::Relaxed);
    got.extend(consumer.pop());
    let pushed = 2 + u64::from(first.join().unwrap());
    assert!(second.join().unwrap());
    got.extend(consumer.rest());
    let of_first: Vec<u64> = got.iter().copied().filter(|value| *value < 20).collect();
    assert_eq!(of_first.len() as u64, pushed);
    assert!(of_first.is_sorted() && got.len() as u64 == pushed + 1, "{got:?}");
}

#[test]
fn weak_orderings_are_reported() {
    let relaxed = Ordering::Relaxed;
    only_right(
        &[
            Ways { claim: relaxed, ..RIGHT },
            Ways { look: relaxed, ..RIGHT },
            Ways { release: relaxed, ..RIGHT },
            Ways { room: relaxed, ..RIGHT },
        ],
        stream,
    );
}

#[test]
fn steps_in_the_wrong_order_are_reported() {
    only_right(
        &[
            Ways { publish_first: true, ..RIGHT },
            Ways { overfill: true, ..RIGHT },
            Ways { hint_ahead: true, ..RIGHT },
        ],
        stream,
    );
}

/// A producer is killed at some step of its second push; its lane is given to the next one.
fn killed_push(ways: Ways, steps: u64) {
    let [a, b, next, c] = Twin::sides(ways);
    let (mut a, mut b) = (Producer::attach(a, 0), Producer::attach(b, 1));
    let mut consumer = Consumer::attach(c);
    assert!(a.push(10));
    let killed =
        thread::spawn(move || hook::killed_after(steps, move || a.push(11)).is_none()).join().unwrap();
    assert!(b.push(20));
    consumer.reclaim(0);
    let mut got: Vec<u64> = consumer.pop().into_iter().collect();
    got.extend(consumer.pop());
    got.extend(consumer.pop());
    assert_eq!(consumer.pop(), None);
    let mut next = Producer::attach(next, 0);
    assert!(next.push(12));
    got.extend(consumer.rest());
    assert!(got == [10, 11, 20, 12] || (killed && got == [10, 20, 12]), "{got:?}");
}

#[test]
fn what_a_dead_producer_leaves_is_reported() {
    let wrong = [Ways { end_from_tail: true, ..RIGHT }, Ways { claim_first: true, ..RIGHT }];
    only_right_killed(8, &wrong, killed_push);
}

/// A consumer is killed at some step while a producer waits for room: the successor loses nothing and repeats at most
/// the one message in hand.
fn killed_consumer(ways: Ways, steps: u64) {
    let [a, c, successor] = Twin::sides(ways);
    let mut a = Producer::attach(a, 0);
    let mut victim = Consumer::attach(c);
    assert!(a.push(10) && a.push(11));
    let dying = thread::spawn(move || {
        let mut got = Vec::new();
        hook::killed_after(steps, || {
            got.extend((0..2).filter_map(|_| victim.pop()));
        });
        hook::die();
        got
    });
    let mut pushed = 2 + u64::from(a.push(12));
    let first = dying.join().unwrap();
    let mut successor = Consumer::attach(successor);
    // Whatever room the dead consumer gave is used before the successor reads.
    while pushed < 4 && a.push(10 + pushed) {
        pushed += 1;
    }
    let second = successor.rest();
    let all: Vec<u64> = (10..10 + pushed).collect();
    assert!(second[..] == all[all.len() - second.len()..], "{second:?} of {all:?}");
    let repeated = first.len() + second.len() - all.len().min(first.len() + second.len());
    assert!(first.len() + second.len() >= all.len(), "lost: {first:?}, {second:?}");
    assert!(repeated <= 1, "repeated: {first:?}, {second:?}");
}

#[test]
fn a_checkpoint_in_several_steps_is_reported() {
    let wrong = [
        Ways { heads_first: true, ..RIGHT },
        Ways { one_block: true, ..RIGHT },
        Ways { checkpoint_first: true, ..RIGHT },
    ];
    only_right_killed(24, &wrong, killed_consumer);
}
