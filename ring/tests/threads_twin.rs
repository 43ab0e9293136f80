//! What shows that the sanitizers see anything: a small ring that is right, and wrong when it is told to be.
//!
//! With `TIDEWIRE_EXPECT_RACE=1` it publishes with relaxed stores, which the thread sanitizer must report; with
//! `TIDEWIRE_EXPECT_OVERFLOW=1` it forgets the wrap once, which the address sanitizer must report. The harness runs
//! both and fails if there is no report. Without either it is a ring like ours, about which nothing may be reported.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use std::cell::UnsafeCell;
use std::env;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const CAPACITY: usize = 8;
const MESSAGES: usize = 2_000;

/// Plain slots and two positions.
struct Toy {
    slots: Box<[UnsafeCell<usize>]>,
    tail: AtomicUsize,
    head: AtomicUsize,
    publish: Ordering,
    look: Ordering,
    /// The message that is looked for one slot behind the last.
    lost_its_way: Option<usize>,
}

// SAFETY: a slot is written before its position is published and read before it is freed; unless it is told not to
// publish, which is what the sanitizer must find.
unsafe impl Sync for Toy {}
// SAFETY: it owns what it holds.
unsafe impl Send for Toy {}

impl Toy {
    fn new() -> Self {
        let told = |name: &str| env::var_os(name).is_some_and(|value| value == "1");
        let race = told("TIDEWIRE_EXPECT_RACE");
        Self {
            slots: (0..CAPACITY).map(|_| UnsafeCell::new(0)).collect(),
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
            publish: if race { Ordering::Relaxed } else { Ordering::Release },
            look: if race { Ordering::Relaxed } else { Ordering::Acquire },
            lost_its_way: told("TIDEWIRE_EXPECT_OVERFLOW").then_some(MESSAGES / 2),
        }
    }

    fn slot(&self, position: usize) -> *mut usize {
        let slot = black_box(self.slots.as_ptr()).wrapping_add(position % CAPACITY);
        UnsafeCell::raw_get(slot)
    }

    fn push(&self, value: usize) -> bool {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail - self.head.load(self.look) == CAPACITY {
            return false;
        }
        // SAFETY: in bounds, and free.
        unsafe { self.slot(tail).write(value) };
        self.tail.store(tail + 1, self.publish);
        true
    }

    fn pop(&self) -> Option<usize> {
        let head = self.head.load(Ordering::Relaxed);
        if self.tail.load(self.look) == head {
            return None;
        }
        if self.lost_its_way == Some(head) {
            // SAFETY: none: the word behind the last slot is not ours, which is what the sanitizer must find.
            black_box(unsafe { self.slot(CAPACITY - 1).wrapping_add(1).read() });
        }
        // SAFETY: in bounds, and published.
        let value = unsafe { self.slot(head).read() };
        self.head.store(head + 1, self.publish);
        Some(value)
    }
}

#[test]
fn toy_ring_delivers_in_order() {
    let toy = Arc::new(Toy::new());
    let sender = Arc::clone(&toy);
    let sender = thread::spawn(move || {
        for n in 0..MESSAGES {
            while !sender.push(n) {
                thread::yield_now();
            }
        }
    });
    for n in 0..MESSAGES {
        let value = loop {
            match toy.pop() {
                Some(value) => break value,
                None => thread::yield_now(),
            }
        };
        assert_eq!(value, n);
    }
    sender.join().unwrap();
}
