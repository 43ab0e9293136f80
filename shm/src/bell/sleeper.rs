//! The waiter's end of a bell.

use core::cell::Cell;
use core::time::Duration;

use super::kernel::{Deadline, Kernel, Place};
use super::wait::{self, Flag, Woken};
use super::{ANNOUNCEMENT, AWAKE, BellMode, DEFAULT_SLICE, ON_FUTEX, STATE};
use crate::sync::{AtomicU32, AtomicU64, Ordering, Shared};

/// How long to look before sleeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spin {
    /// What this machine does in 10 to 20 microseconds, measured once per process; nothing where this process has one
    /// processor.
    Calibrated,
    /// That many rounds of a pause and a look.
    Rounds(u32),
}

/// How a waiter waits.
///
/// ```
/// use core::time::Duration;
/// use tidewire_shm::bell::{SleepOptions, Spin};
///
/// let thrifty = SleepOptions::new().spin(Spin::Rounds(0)).slice(Duration::from_millis(20));
/// assert_ne!(thrifty, SleepOptions::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepOptions {
    spin: Spin,
    yields: Option<u32>,
    slice: Duration,
}

impl SleepOptions {
    /// The defaults: calibrated spinning, yielding only where there is one processor, slices of
    /// [`DEFAULT_SLICE`].
    #[must_use]
    pub const fn new() -> Self {
        Self { spin: Spin::Calibrated, yields: None, slice: DEFAULT_SLICE }
    }

    /// How long to look before anything else.
    #[must_use]
    pub const fn spin(mut self, spin: Spin) -> Self {
        self.spin = spin;
        self
    }

    /// How often to let others run, and look again, before sleeping.
    #[must_use]
    pub const fn yields(mut self, yields: u32) -> Self {
        self.yields = Some(yields);
        self
    }

    /// How long a sleep lasts at most before the waiter looks for itself: what a wake that never came costs.
    /// At least a microsecond.
    #[must_use]
    pub const fn slice(mut self, slice: Duration) -> Self {
        self.slice = slice;
        self
    }
}

impl Default for SleepOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// The options, resolved for one kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) rounds: u32,
    pub(super) yields: u32,
    pub(super) slice_ns: u64,
}

impl Patience {
    const ALONE_YIELDS: u32 = 4;
    const LEAST_SLICE_NS: u64 = 1_000;

    pub(super) fn new<K: Kernel>(options: &SleepOptions, kernel: &K) -> Self {
        let rounds = match options.spin {
            Spin::Calibrated => kernel.spins(),
            Spin::Rounds(rounds) => rounds,
        };
        let alone = options.spin == Spin::Calibrated && rounds == 0;
        let yields = options.yields.unwrap_or(if alone { Self::ALONE_YIELDS } else { 0 });
        let slice = u64::try_from(options.slice.as_nanos()).unwrap_or(u64::MAX);
        Self { rounds, yields, slice_ns: slice.max(Self::LEAST_SLICE_NS) }
    }
}

/// What a sleeper did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SleepTally {
    /// System calls that sleep.
    pub naps: u64,
    /// System calls that fence for the ringers.
    pub barriers: u64,
    /// Naps that lasted their whole slice although there was something to do: the wake never came, or came just then.
    pub overslept: u64,
    /// Naps that ended early with nothing to do.
    pub in_vain: u64,
}

/// The waiter's end of a [bell](super::Bell): one per bell at a time.
///
/// # Guarantees
/// - Whatever is published and rung while this end sleeps wakes it. A ringer that died in between, and a peer that
///   writes where it should not, can delay that by a slice, not more.
/// - No wait lasts longer than its deadline, but for the time that the looks themselves, one phase of spinning, and
///   the scheduler take.
#[derive(Debug)]
pub struct Sleeper<K: Kernel> {
    flag: BellFlag,
    mode: BellMode,
    kernel: K,
    patience: Patience,
    tally: SleepTally,
}

impl<K: Kernel> Sleeper<K> {
    pub(super) fn new(
        flag: Shared<AtomicU32>,
        position: Option<Shared<AtomicU64>>,
        mode: BellMode,
        kernel: K,
        options: &SleepOptions,
    ) -> Self {
        let patience = Patience::new(options, &kernel);
        let flag = BellFlag::new(flag, position, ON_FUTEX);
        Self { flag, mode, kernel, patience, tally: SleepTally::default() }
    }

    /// Waits until `ready` is true, or the deadline has passed.
    ///
    /// `ready` looks at the structure; it is called often. When it becomes true, somebody rings; in position form only
    /// together with a change of the position.
    pub fn wait(&mut self, mut ready: impl FnMut() -> bool, deadline: Deadline) -> Woken {
        self.wait_while_watching(&mut ready, deadline, &())
    }

    pub(crate) fn wait_while_watching<W: wait::Watch<K>>(
        &mut self,
        ready: &mut dyn FnMut() -> bool,
        deadline: Deadline,
        watch: &W,
    ) -> Woken {
        let how = wait::How { mode: self.mode, patience: self.patience, kernel: &self.kernel, watch };
        wait::wait(&how, &self.flag, &mut self.tally, ready, deadline)
    }

    /// The system that this end asks.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// What this sleeper did so far.
    #[must_use]
    pub fn tally(&self) -> SleepTally {
        self.tally
    }
}

/// The flag of a bell in the hands of its one sleeper.
#[derive(Debug)]
pub(super) struct BellFlag {
    flag: Shared<AtomicU32>,
    position: Option<Shared<AtomicU64>>,
    /// How this sleeper sleeps.
    state: u32,
    /// I3: the flag as it was last stored, awake.
    lowered: Cell<u32>,
}

impl BellFlag {
    /// Goes on where the last sleeper stopped, and lowers the flag if that one died asleep.
    pub(super) fn new(flag: Shared<AtomicU32>, position: Option<Shared<AtomicU64>>, state: u32) -> Self {
        // ORD own: Relaxed; only a number to go on from, any will do.
        let last = flag.load(Ordering::Relaxed);
        let made = Self { flag, position, state, lowered: Cell::new(last & !STATE | AWAKE) };
        made.lower();
        made
    }
}

impl BellFlag {
    /// Raises it in a way that a wake depends on.
    pub(super) fn raise_as(&self, state: u32) -> u32 {
        let next = self.lowered.get().wrapping_add(ANNOUNCEMENT);
        self.lowered.set(next);
        // ORD bell.meet: Relaxed, before the fence in `announced`, or that of who waits in a reactor.
        self.flag.store(next | state, Ordering::Relaxed);
        next | state
    }
}

impl Flag for BellFlag {
    fn raise(&self) -> u32 {
        self.raise_as(self.state)
    }

    fn expected(&self, raised: u32) -> u32 {
        match &self.position {
            None => raised,
            // ORD bell.meet: Relaxed, behind the fence; the look comes after it and sees no less.
            Some(position) => low_half(position.load(Ordering::Relaxed)),
        }
    }

    fn place(&self) -> Place<'_> {
        match &self.position {
            None => Place::Word(&self.flag),
            Some(position) => Place::LowHalf(position),
        }
    }

    fn lower(&self) {
        // ORD own: Relaxed; a ringer that sees it late sends a wake for nothing.
        self.flag.store(self.lowered.get(), Ordering::Relaxed);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the half that a futex compares")]
pub(super) fn low_half(position: u64) -> u32 {
    position as u32
}
