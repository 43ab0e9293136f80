//! A clock that two cores share, cheap enough to read for each message.

use std::time::{Duration, Instant};

/// The time, in ticks.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    // SAFETY: the instruction exists on every processor of this architecture.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The time, in ticks, once everything before it has been done.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[must_use]
pub fn stamp() -> u64 {
    let mut core = 0;
    // SAFETY: every 64-bit processor that runs Linux in this decade has the instruction.
    unsafe { std::arch::x86_64::__rdtscp(&raw mut core) }
}

/// The time, in ticks, between two fences: everything before has been done, and nothing behind has begun. A bare
/// reading does not wait for the loads before it, and so flatters a read of a line that another core has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[must_use]
pub fn fenced() -> u64 {
    // SAFETY: the instruction exists on every processor of this architecture.
    unsafe { std::arch::x86_64::_mm_lfence() };
    let now = ticks();
    // SAFETY: as above.
    unsafe { std::arch::x86_64::_mm_lfence() };
    now
}

/// The time, in ticks, between two fences.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
#[must_use]
pub fn fenced() -> u64 {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    let now = ticks();
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    now
}

/// The time, in ticks.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The time, in ticks.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
#[must_use]
pub fn stamp() -> u64 {
    ticks()
}

/// How long a tick is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    ns_per_tick: f64,
}

impl Scale {
    /// Compares the clock with the system's for a twentieth of a second.
    #[must_use]
    pub fn calibrate() -> Self {
        let (began, first) = (Instant::now(), ticks());
        while began.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (elapsed, last) = (began.elapsed(), ticks());
        Self { ns_per_tick: elapsed.as_nanos() as f64 / (last - first) as f64 }
    }

    /// Nanoseconds of a number of ticks.
    #[must_use]
    pub fn ns(&self, ticks: f64) -> f64 {
        ticks * self.ns_per_tick
    }

    /// Ticks of a duration.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "durations here are seconds at the most")]
    pub fn ticks(&self, duration: Duration) -> u64 {
        (duration.as_nanos() as f64 / self.ns_per_tick) as u64
    }
}
