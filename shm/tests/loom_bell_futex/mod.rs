//! What the models of bells share: a futex made of model objects, and how models are run.
#![allow(dead_code, reason = "not every test binary that shares this module needs all of it")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering as Plain};
use std::sync::{Arc, PoisonError};

use loom::sync::{Condvar, Mutex, MutexGuard};
use tidewire_shm::bell::{Kernel, Nap, Place};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{Region, Trusted};

const CUT: &str = "a model that is cut by time or by a number of runs ends as passed: unset these bounds";

/// Explores a model completely within the preemption bound.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    let cut = builder.max_duration.is_some() || builder.max_permutations.is_some();
    assert!(!cut, "{CUT}");
    builder.check(body);
}

/// Whether a model reports something; that it was cut is no report.
pub(crate) fn reported(body: impl Fn() + Send + Sync + 'static) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| model(body))) else { return false };
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    assert!(said != Some(CUT), "{CUT}");
    // A lost wake-up is a sleeper that sleeps for ever.
    assert!(said.is_some_and(|said| said.contains("deadlock")), "{said:?}");
    true
}

/// Something that must happen in some schedule, else a model proves nothing.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<AtomicBool>);

impl Shown {
    pub(crate) fn note_if(&self, happened: bool) {
        if happened {
            self.0.store(true, Plain::Relaxed);
        }
    }

    pub(crate) fn happened(&self) -> bool {
        self.0.load(Plain::Relaxed)
    }
}

/// One model for each step at which the victim may be killed: `body(k)` kills it before its access number `k + 1`
/// and says whether it was; ends with the first `k` that no schedule reaches.
pub(crate) fn at_every_step(body: impl Fn(u64) -> bool + Send + Sync + 'static) {
    let body = Arc::new(body);
    for step in 0.. {
        let reached = Shown::default();
        model({
            let (body, reached) = (Arc::clone(&body), reached.clone());
            move || reached.note_if(body(step))
        });
        if !reached.happened() {
            assert!(step > 2, "the victim made {step} steps only");
            return;
        }
        assert!(step < 100, "the victim never ends");
    }
}

/// A word of the memory that the models run in.
pub(crate) fn word(region: &Region<Trusted>, offset: usize) -> Shared<AtomicU64> {
    // SAFETY: a control word, nowhere used as anything else; the models keep the region.
    unsafe { region.atomic_u64(offset) }
}

#[derive(Debug, Default)]
struct Queue {
    /// How many are parked.
    parked: u32,
    /// How many wakes there were.
    wakes: u32,
}

/// A kernel in which one word can be slept on: comparing the word and parking are one step with respect to a wake.
/// Time stands still: who is not woken sleeps for ever, which the model reports as a deadlock.
#[derive(Clone, Debug)]
pub(crate) struct Futex {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    /// A word that is accessed where a system call begins, so that a thread can be killed there.
    entry: Shared<AtomicU64>,
}

impl Futex {
    pub(crate) fn new(region: &Region<Trusted>, offset: usize) -> Self {
        Self { queue: Arc::new((Mutex::new(Queue::default()), Condvar::new())), entry: word(region, offset) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sleep_while(&self, same: impl FnOnce() -> bool) -> Nap {
        let mut queue = self.lock();
        match catch_unwind(AssertUnwindSafe(same)) {
            Ok(true) => {}
            Ok(false) => return Nap::Changed,
            Err(killed) => {
                // A process that is killed in the kernel leaves no lock behind.
                drop(queue);
                resume_unwind(killed);
            }
        }
        queue.parked += 1;
        let wakes = queue.wakes;
        while queue.wakes == wakes {
            queue = self.queue.1.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Nap::Woken
    }

    pub(crate) fn wake_all(&self) -> u32 {
        self.entry.load(Ordering::Relaxed);
        let mut queue = self.lock();
        let found = queue.parked;
        if found > 0 {
            queue.parked = 0;
            queue.wakes += 1;
            self.queue.1.notify_all();
        }
        found
    }
}

impl Kernel for Futex {
    fn sleep(&self, place: Place<'_>, expected: u32, _timeout_ns: u64) -> Nap {
        self.entry.load(Ordering::Relaxed);
        self.sleep_while(|| match place {
            Place::Word(word) => word.load(Ordering::Relaxed) == expected,
            Place::LowHalf(word) => word.load(Ordering::Relaxed) as u32 == expected,
        })
    }

    fn wake(&self, _place: Place<'_>) -> u32 {
        self.wake_all()
    }

    fn register(&self) -> Result<(), i32> {
        Err(0)
    }

    fn barrier(&self) -> bool {
        false
    }

    fn now_ns(&self) -> u64 {
        1
    }

    fn pause(&self, _ns: u64) {
        loom::thread::yield_now();
    }

    fn yield_now(&self) {
        loom::thread::yield_now();
    }

    fn spins(&self) -> u32 {
        0
    }
}
