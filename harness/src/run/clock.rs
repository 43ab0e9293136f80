//! A clock for round trips: the time stamp counter where it is steady, the system's clock elsewhere.

use std::fs;
use std::time::Instant;

/// Reads ticks; what a tick is, the clock says after the fact.
#[derive(Debug)]
pub(crate) struct Clock {
    counter: bool,
    began: Instant,
    began_ticks: u64,
}

impl Clock {
    /// The best clock of this machine.
    pub(crate) fn new() -> Self {
        Self::with(has_steady_counter())
    }

    fn with(counter: bool) -> Self {
        let mut clock = Self { counter, began: Instant::now(), began_ticks: 0 };
        clock.began_ticks = clock.ticks();
        clock
    }

    /// The ticks now: all loads before this call are done, nothing behind it has begun.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "584 years of nanoseconds")]
    pub(crate) fn ticks(&self) -> u64 {
        if self.counter { counter() } else { self.began.elapsed().as_nanos() as u64 }
    }

    /// Nanoseconds per tick, measured from the clock's making until now: the longer, the better.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub(crate) fn ns_per_tick(&self) -> f64 {
        if !self.counter {
            return 1.0;
        }
        let ticks = self.ticks().wrapping_sub(self.began_ticks).max(1);
        self.began.elapsed().as_nanos() as f64 / ticks as f64
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn counter() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 processor has this fence.
    unsafe { _mm_lfence() };
    // SAFETY: every x86-64 processor has this counter, and Linux lets programs read it.
    let ticks = unsafe { _rdtsc() };
    // SAFETY: as above.
    unsafe { _mm_lfence() };
    ticks
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn counter() -> u64 {
    0
}

/// Whether the processor has a counter that neither sleeps nor changes its pace.
fn has_steady_counter() -> bool {
    if !cfg!(target_arch = "x86_64") {
        return false;
    }
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let Some(flags) = text.lines().find(|line| line.starts_with("flags")) else {
        return false;
    };
    ["constant_tsc", "nonstop_tsc"].iter().all(|flag| flags.split_whitespace().any(|word| word == *flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn both_clocks_agree_with_the_system() {
        for clock in [Clock::new(), Clock::with(false)] {
            let (ticks, began) = (clock.ticks(), Instant::now());
            std::thread::sleep(Duration::from_millis(30));
            let seen = (clock.ticks() - ticks) as f64 * clock.ns_per_tick();
            let ratio = seen / began.elapsed().as_nanos() as f64;
            assert!((0.9..1.1).contains(&ratio), "{clock:?}: {ratio}");
        }
    }
}
