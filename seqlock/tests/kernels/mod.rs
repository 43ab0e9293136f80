//! Kernels that do what the system does, and tell of it or leave something out.
#![allow(dead_code, reason = "each test file uses a part of this module")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidewire_shm::bell::{Kernel, Nap, Place, System};

/// The system; counts what it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) naps: AtomicU64,
    pub(crate) wakes: AtomicU64,
    /// The longest sleep that was asked for.
    pub(crate) longest_ns: AtomicU64,
    /// Sleeps last a minute, whatever was asked for: only a wake ends them.
    pub(crate) sound_sleep: AtomicBool,
    /// Wakes are not passed on, as if the writer died in front of them.
    pub(crate) mute: AtomicBool,
}

impl Observed {
    /// For writers, which keep it for good.
    pub(crate) fn forever() -> &'static Self {
        Box::leak(Box::default())
    }

    pub(crate) fn sound_sleeper() -> Self {
        Self { sound_sleep: true.into(), ..Self::default() }
    }

    pub(crate) fn naps(&self) -> u64 {
        self.naps.load(Ordering::SeqCst)
    }

    pub(crate) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::SeqCst)
    }

    pub(crate) fn longest_ns(&self) -> u64 {
        self.longest_ns.load(Ordering::SeqCst)
    }
}

impl Kernel for Observed {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        self.longest_ns.fetch_max(timeout_ns, Ordering::SeqCst);
        self.naps.fetch_add(1, Ordering::SeqCst);
        let sound = self.sound_sleep.load(Ordering::SeqCst);
        System.sleep(place, expected, if sound { 60_000_000_000 } else { timeout_ns })
    }

    fn wake(&self, place: Place<'_>) -> u32 {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        if self.mute.load(Ordering::SeqCst) { 0 } else { System.wake(place) }
    }

    fn register(&self) -> Result<(), i32> {
        System.register()
    }

    fn barrier(&self) -> bool {
        System.barrier()
    }

    fn now_ns(&self) -> u64 {
        System.now_ns()
    }

    fn pause(&self, ns: u64) {
        System.pause(ns);
    }

    fn yield_now(&self) {
        System.yield_now();
    }

    fn spins(&self) -> u32 {
        1
    }
}
