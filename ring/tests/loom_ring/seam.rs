//! The levers of the seam do what the models rely on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use loom::thread;
use tidewire_ring::fixed::Ring;
use tidewire_shm::sync::{AtomicU64, Ordering, hook};

use crate::model::model;

/// What a failing compare-exchange returned, over all schedules of a store of 1 and then 2.
fn failures(stale: bool) -> BTreeSet<u64> {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let result = Arc::clone(&seen);
    model(move || {
        let word = Arc::new(AtomicU64::new(0));
        let writing = thread::spawn({
            let word = Arc::clone(&word);
            move || {
                word.store(1, Ordering::Relaxed);
                word.store(2, Ordering::Relaxed);
                // Another word: behind it in every schedule, yet a stale value of the first may still be seen.
                AtomicU64::new(0).store(1, Ordering::Relaxed);
            }
        });
        hook::fail_stale_cas(stale);
        let found = word.compare_exchange(9, 10, Ordering::Relaxed, Ordering::Relaxed).unwrap_err();
        writing.join().unwrap();
        seen.lock().unwrap().insert(found);
    });
    result.lock().unwrap().clone()
}

#[test]
fn a_stale_compare_exchange_fails_with_every_value_that_a_load_may_see() {
    assert_eq!(failures(true), BTreeSet::from([0, 1, 2]));
}

/// How often a weak compare-exchange fails before it succeeds, over all schedules of another thread's addition.
#[test]
fn a_weak_compare_exchange_fails_as_often_as_it_is_told() {
    for told in 0..3 {
        model(move || {
            let word = AtomicU64::new(7);
            hook::fail_weak_cas(told);
            for _ in 0..told {
                let result = word.compare_exchange_weak(7, 8, Ordering::Relaxed, Ordering::Relaxed);
                assert_eq!(result, Err(7));
            }
            assert_eq!(word.compare_exchange_weak(7, 8, Ordering::Relaxed, Ordering::Relaxed), Ok(7));
        });
    }
}

/// Two additions by weak compare-exchange with a retry each, both failing spuriously: none is lost.
#[test]
fn spurious_and_stale_failures_lose_no_addition() {
    model(|| {
        let word = Arc::new(AtomicU64::new(0));
        let add = |word: &AtomicU64| {
            hook::fail_weak_cas(1);
            hook::fail_stale_cas(true);
            let mut old = word.load(Ordering::Relaxed);
            // One spurious failure, then what a stale value and the other thread cost, then a strong one at last.
            for _ in 0..2 {
                match word.compare_exchange_weak(old, old + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(now) => old = now,
                }
            }
            word.fetch_add(1, Ordering::Relaxed);
        };
        let other = thread::spawn({
            let word = Arc::clone(&word);
            move || add(&word)
        });
        add(&word);
        other.join().unwrap();
        assert_eq!(word.load(Ordering::Relaxed), 2);
    });
}

/// Killed before its access number `k + 1`, a thread has made `k`, and makes none while it is torn down.
#[test]
fn a_killed_thread_changes_nothing_any_more() {
    for steps in 0..4 {
        model(move || {
            let ring = Arc::new(Ring::<u64>::on_heap(2).unwrap());
            let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
            let owner = producer.owner();
            let killed = thread::spawn(move || {
                // Two pushes: slot, tail, slot, tail; then the drop of the handle.
                hook::killed_after(steps, move || {
                    producer.push(1).unwrap();
                    producer.push(2).unwrap();
                })
                .is_none()
            });
            assert!(killed.join().unwrap());
            assert_eq!(ring.producer_owner(), Some(owner), "a dead process freed its role");
            assert_eq!(consumer.drain().count() as u64, steps / 2);
        });
    }
}
