//! Models of the ordered queue: the shipped code, explored by loom over every schedule and every value that a load may
//! see.
//!
//! The kernel is the table of flags that the models of the lanes use, the means are those of the rings.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tidewire-mpsc --profile loom --test loom_ordered`, and once more with
//! `TIDEWIRE_STALE_CAS=1`.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

mod killed;
#[path = "../loom_lanes/leases.rs"]
#[allow(dead_code, reason = "shared with the models of the lanes")]
mod leases;
#[path = "../../../ring/tests/loom_ring/model.rs"]
#[allow(dead_code, reason = "shared with the models of the rings")]
mod model;
mod publish;
mod reclaim;
mod takeover;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use leases::Leases;
use loom::sync::atomic::{AtomicU64, Ordering};
use tidewire_mpsc::ordered::PopError;
use tidewire_mpsc::ordered::fixed::{Consumer, Queue};
use tidewire_mpsc::{Delivery, Options};
use tidewire_shm::Region;

/// A queue in the models, with its kernel.
fn queue(lanes: u32, capacity: usize, delivery: Delivery) -> (Arc<Queue<u64>>, Leases) {
    let options = Options::new().lanes(lanes).delivery(delivery).liveness::<Leases>();
    let bytes = Queue::<u64>::bytes(capacity, &options).unwrap();
    (Arc::new(Queue::create(Region::heap(bytes).unwrap(), capacity, &options).unwrap()), Leases::new())
}

fn pop(consumer: &mut Consumer<u64>) -> Option<u64> {
    match consumer.pop() {
        Ok(message) => Some(message),
        Err(PopError::Empty) => None,
        Err(PopError::Corrupt(corrupt)) => panic!("{corrupt}"),
    }
}

/// What happened in some schedule of several models.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<BTreeSet<&'static str>>>);

impl Seen {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().insert(what);
    }

    /// Each of these did, and nothing else.
    fn assert(&self, expected: &[&'static str]) {
        assert_eq!(*self.0.lock().unwrap(), expected.iter().copied().collect());
    }
}

/// A word that loom tries all orders of: it goes back only to the last access to an object before a store, so that a
/// producer, which loads an order word before it stores there, hides the consumer's look from it. Producers pass the
/// gate behind a push, the consumer opens it before a look; neither orders anything.
#[derive(Clone, Debug)]
struct Gate(Arc<AtomicU64>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    fn open(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    fn pass(&self) {
        self.0.load(Ordering::Relaxed);
    }
}

/// Everything that is left, when nobody else runs any more.
fn rest(consumer: &mut Consumer<u64>) -> Vec<u64> {
    let rest = consumer.drain().collect();
    assert_eq!((consumer.corruption(), consumer.take_corrupt()), (None, None));
    rest
}

/// The messages of one producer: those from `from` to `from + 9`.
fn of(messages: &[u64], from: u64) -> Vec<u64> {
    messages.iter().copied().filter(|message| (from..from + 10).contains(message)).collect()
}
