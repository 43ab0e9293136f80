//! Models of the lanes: the shipped code, explored by loom over every schedule and every value that a load may see.
//!
//! The kernel is a table of flags ([`leases`]): a lease that is taken, given back, or ended by a death, in that order
//! and no other. Everything else is as in the models of the rings, whose means these models use.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tidewire-mpsc --profile loom --test loom_lanes`, and once more with
//! `TIDEWIRE_STALE_CAS=1`.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

mod attach;
mod delivery;
mod leases;
#[path = "../../../ring/tests/loom_ring/model.rs"]
#[allow(dead_code, reason = "shared with the models of the rings")]
mod model;
mod reclaim;
mod records;
mod stream;
mod takeover;
mod twins;

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use tidewire_mpsc::fixed::{Consumer, Queue};
use tidewire_mpsc::{Delivery, Options, PopError};
use tidewire_shm::{Liveness, Region};

/// Where threads meet, so that loom tries every order of what they do next: it switches threads only where they access
/// the same object, and finds only some of the orders by itself. It orders nothing in the model.
#[derive(Clone, Debug)]
struct Gate(Arc<AtomicU64>);

impl Gate {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    fn pass(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A queue in the models.
fn queue<V: Liveness>(lanes: u32, capacity: usize, delivery: Delivery) -> Queue<u64> {
    let options = Options::new().lanes(lanes).delivery(delivery).liveness::<V>();
    let bytes = Queue::<u64>::bytes(capacity, &options).unwrap();
    Queue::create(Region::heap(bytes).unwrap(), capacity, &options).unwrap()
}

fn pop(consumer: &mut Consumer<u64>) -> Option<u64> {
    match consumer.pop() {
        Ok(message) => Some(message),
        Err(PopError::Empty) => None,
    }
}

/// Everything that is left, when nobody else runs any more.
fn rest(consumer: &mut Consumer<u64>) -> Vec<u64> {
    consumer.drain().collect()
}

/// The messages of one producer: those from `from` to `from + 9`.
fn of(messages: &[u64], from: u64) -> Vec<u64> {
    messages.iter().copied().filter(|message| (from..from + 10).contains(message)).collect()
}
