//! What a bell asks of a system.

use core::fmt;
use core::time::Duration;

use crate::sync::{AtomicU32, AtomicU64};

/// A word that somebody can sleep on.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The word itself.
    Word(&'a AtomicU32),
    /// The less significant half of a word of twice the width.
    LowHalf(&'a AtomicU64),
}

#[cfg(not(loom))]
impl Place<'_> {
    /// The address of the word, for system calls.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u32 {
        match self {
            Self::Word(word) => word.as_ptr(),
            Self::LowHalf(word) => {
                let halves = word.as_ptr().cast::<u32>();
                if cfg!(target_endian = "big") { halves.wrapping_add(1) } else { halves }
            }
        }
    }
}

/// How a sleep ended. A hint: whoever slept looks for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nap {
    /// Somebody woke the sleeper, or the system did for no reason.
    Woken,
    /// It did not begin: the word was not as expected.
    Changed,
    /// The time was over.
    TimedOut,
}

/// What a bell asks of a system: sleep, wake, fence, time.
///
/// `System` (with the feature `std`) asks Linux. An implementation of another kind serves models, tests, and systems where
/// there is no Linux to ask; all ends of one bell use the same kind. It can cost a waiter time, nothing else: every
/// waiter looks for itself, and limits each sleep.
pub trait Kernel: fmt::Debug {
    /// Sleeps while the word at `place` is `expected`, until woken, but not longer than `timeout_ns`.
    ///
    /// Comparing and falling asleep are one step with respect to [`wake`](Self::wake). May return early.
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap;

    /// Wakes all that sleep on the word, in all processes; returns how many it found.
    fn wake(&self, place: Place<'_>) -> u32;

    /// Makes this process one whose threads [`barrier`](Self::barrier) reaches.
    ///
    /// # Errors
    /// The system's error number, or 0, if it cannot be.
    fn register(&self) -> Result<(), i32>;

    /// Executes a full fence in every thread of every registered process, and in this one. False if that was refused.
    fn barrier(&self) -> bool;

    /// Nanoseconds of a clock that never steps.
    fn now_ns(&self) -> u64;

    /// Lets others run for as long.
    fn pause(&self, ns: u64);

    /// Lets others run that want to.
    fn yield_now(&self);

    /// How many rounds of spinning a waiter should do before it sleeps, if nothing else was chosen; 0 where the
    /// other side cannot run meanwhile.
    fn spins(&self) -> u32;
}

impl<K: Kernel + ?Sized> Kernel for &K {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        (**self).sleep(place, expected, timeout_ns)
    }

    fn wake(&self, place: Place<'_>) -> u32 {
        (**self).wake(place)
    }

    fn register(&self) -> Result<(), i32> {
        (**self).register()
    }

    fn barrier(&self) -> bool {
        (**self).barrier()
    }

    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }

    fn pause(&self, ns: u64) {
        (**self).pause(ns);
    }

    fn yield_now(&self) {
        (**self).yield_now();
    }

    fn spins(&self) -> u32 {
        (**self).spins()
    }
}

/// When to give up waiting: a moment of the clock that [`Kernel::now_ns`] reads; of `CLOCK_MONOTONIC` for `System`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<u64>);

impl Deadline {
    /// Never.
    pub const NEVER: Self = Self(None);
    /// Long ago: look, but do not wait.
    pub const NOW: Self = Self(Some(0));

    /// At this moment of the kernel's clock.
    #[must_use]
    pub const fn at_ns(ns: u64) -> Self {
        Self(Some(ns))
    }

    /// That long from now; never, if that is beyond the clock's range.
    #[must_use]
    pub fn after<K: Kernel>(kernel: &K, duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).ok().and_then(|ns| kernel.now_ns().checked_add(ns)))
    }

    /// This moment, or that long from now if that is earlier.
    #[must_use]
    pub fn earlier<K: Kernel>(self, kernel: &K, duration: Duration) -> Self {
        let other = Self::after(kernel, duration);
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (None, _) => other,
            (_, None) => self,
        }
    }

    /// How long it is until then; `None`: for ever.
    #[must_use]
    pub fn left<K: Kernel>(self, kernel: &K) -> Option<Duration> {
        self.left_ns(kernel).map(Duration::from_nanos)
    }

    /// Whether the moment has passed.
    #[must_use]
    pub fn is_over<K: Kernel>(self, kernel: &K) -> bool {
        self.left_ns(kernel) == Some(0)
    }

    /// What is left; `None`: for ever.
    pub(crate) fn left_ns<K: Kernel>(self, kernel: &K) -> Option<u64> {
        match self.0 {
            None => None,
            Some(0) => Some(0),
            Some(at) => Some(at.saturating_sub(kernel.now_ns())),
        }
    }
}
