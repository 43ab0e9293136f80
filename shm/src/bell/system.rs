//! Linux, as bells ask it.

use core::sync::atomic;
use core::time::Duration;
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query, sched_getaffinity};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::kernel::{Kernel, Nap, Place};
use crate::death::{self, NoticeState};
use crate::sync::spin_hint;

const NS_PER_S: u64 = 1_000_000_000;

/// Linux: futexes in shared memory, `membarrier`, and `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct System;

impl Kernel for System {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        let timeout = timespec(timeout_ns);
        let answer = futex::wait(word(place), futex::Flags::empty(), expected, Some(&timeout));
        nap(answer)
    }

    fn wake(&self, place: Place<'_>) -> u32 {
        let all = i32::MAX.unsigned_abs();
        // It cannot fail where the word is mapped; if it did, nobody would sleep there.
        let found = futex::wake(word(place), futex::Flags::empty(), all).unwrap_or(0);
        u32::try_from(found).unwrap_or(u32::MAX)
    }

    fn register(&self) -> Result<(), i32> {
        if !can_membarrier() {
            return Err(Errno::NOSYS.raw_os_error());
        }
        membarrier(MembarrierCommand::RegisterGlobalExpedited).map_err(Errno::raw_os_error)
    }

    fn barrier(&self) -> bool {
        membarrier(MembarrierCommand::GlobalExpedited).is_ok()
    }

    fn now_ns(&self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let s = u64::try_from(now.tv_sec).unwrap_or(0);
        s.saturating_mul(NS_PER_S).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn pause(&self, ns: u64) {
        thread::sleep(Duration::from_nanos(ns));
    }

    fn yield_now(&self) {
        thread::yield_now();
    }

    fn spins(&self) -> u32 {
        static SPINS: OnceLock<u32> = OnceLock::new();
        *SPINS.get_or_init(calibrate)
    }
}

/// What the running kernel offers to this process; the rest works without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Bells in [membarrier mode](super::BellMode::Membarrier) can be used. Else: fence mode.
    pub membarrier: bool,
    /// A wait for several words at a time. Else: waits that watch a death notice look after it every
    /// [`UNWATCHED_SLICE`](super::UNWATCHED_SLICE).
    pub futex_waitv: bool,
    /// Whether this process has a death notice. Else: peers notice its death when they look after its lease.
    pub death_notice: NoticeState,
}

/// What the running kernel offers to this process. Starts nothing: whether there can be a death notice is known after
/// [`DeathNotice::own`](crate::DeathNotice::own) was called.
#[must_use]
pub fn capabilities() -> Capabilities {
    Capabilities {
        membarrier: can_membarrier(),
        futex_waitv: death::can_wait_for_several(),
        death_notice: death::notice_state(),
    }
}

fn can_membarrier() -> bool {
    let needed = MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED;
    membarrier_query().contains(needed)
}

/// The word, as the system call wants it.
fn word(place: Place<'_>) -> &atomic::AtomicU32 {
    // SAFETY: mapped and aligned, as the atomic is that it is, or is half of; nothing is done with the reference but
    // to give its address to the kernel.
    unsafe { atomic::AtomicU32::from_ptr(place.as_ptr()) }
}

pub(crate) fn nap(answer: Result<(), Errno>) -> Nap {
    match answer {
        Err(Errno::AGAIN) => Nap::Changed,
        Err(Errno::TIMEDOUT) => Nap::TimedOut,
        // Woken, interrupted, or refused for a reason that the next look decides on.
        _ => Nap::Woken,
    }
}

pub(crate) fn timespec(ns: u64) -> Timespec {
    let s = i64::try_from(ns / NS_PER_S).unwrap_or(i64::MAX);
    // Below a billion.
    let tv_nsec = i64::try_from(ns % NS_PER_S).unwrap_or(0);
    Timespec { tv_sec: s, tv_nsec }
}

/// How many pauses make the time that spinning is worth: a little less than a sleep and a wake take.
fn calibrate() -> u32 {
    const WORTH_NS: u128 = 15_000;
    const SAMPLE: u32 = 256;
    let alone = sched_getaffinity(None).is_ok_and(|set| set.count() == 1)
        || thread::available_parallelism().is_ok_and(|n| n.get() == 1);
    if alone {
        return 0;
    }
    let sample = || {
        let start = Instant::now();
        for _ in 0..SAMPLE {
            spin_hint();
        }
        start.elapsed().as_nanos().max(1)
    };
    // The fastest is the one that nobody interrupted.
    let fastest = (0..8).map(|_| sample()).min().unwrap_or(1);
    let spins = WORTH_NS * u128::from(SAMPLE) / fastest;
    u32::try_from(spins).unwrap_or(u32::MAX).clamp(16, 20_000)
}
