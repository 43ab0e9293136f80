//! Waiting for a change: how a reader sleeps until there is another version, and what a writer does for it. Readers may
//! wait in any number; a wait is bounded by its time, a write stays as it is but for the wake.
//!
//! # Memory layout
//! A reader sleeps on the low half of `latest`, which it only loads. Beside that there is one word in each structure, used
//! only with [`Wake::Waiters`], for all its cells together:
//! ```text
//! bell + 0   u32   readers that wait   how many of them sleep
//! ```
//!
//! # Protocol
//! A reader looks at the version, spins a little, and then looks and sleeps in turn until the version is another one:
//!
//! | wake | the writer, behind each write | the reader, for each sleep | a sleep lasts at most |
//! |---|---|---|---|
//! | [`Never`](Wake::Never) | nothing | looks, sleeps | a poll: 50 µs, then longer, 1 ms in the end |
//! | [`Always`](Wake::Always) | wakes all | looks, sleeps | a slice: 10 ms if leases prove who is gone, else 50 ms |
//! | [`Waiters`](Wake::Waiters) | fence; if the count is not zero, wakes all | counts itself; fence; looks, sleeps; counts itself no more | a slice |
//!
//! "Sleeps" is a futex wait that does not begin unless the low half of `latest` is what it was before the look; so what
//! was published since then keeps the reader awake. A reader that cannot write the count, or whose part of the fence the
//! system refuses, polls. Between sleeps, but not more often than every 10 ms, a reader asks whether the lease of the writer
//! is vacant, and looks once more if it is: what a writer published before it died is found first.
//!
//! # Invariants
//! - A1: no sleep lasts longer than a poll or a slice, whatever anybody wrote or did not write.
//! - A2: a reader goes by the whole version, which it loads anew behind each sleep; wakes only say when to look.
//! - A3: with `Never` and `Always` a reader writes nothing, with `Waiters` only the count.
//!
//! # Ordering
//! The data are handed over by `cell.publish`, when they are read. With `Waiters`, [the doorbell](tidewire_shm::bell::Waiters)
//! has the fences by which either the reader's look sees the publication, or the writer sees the count. With `Always`
//! the kernel has them: it compares the word and falls asleep in one step with respect to a wake.
//!
//! # Crash argument
//! | point | killed here, the others see | repair | cost |
//! |---|---|---|---|
//! | writer: published, nobody woken yet | a version that readers find when their sleep ends | none | at most a slice, once |
//! | writer: woke | readers that wake | none | none |
//! | reader: counted | a count that is too high for ever | `forget_waiters` of a writer | a system call for each write |
//! | reader: anywhere else | nothing | none | none |
//!
//! # Not guaranteed
//! - 2^32 writes (2^31 of a value with the inline form) between the load in front of the look and the kernel's comparison
//!   look like none: the reader then sleeps, for at most a slice (A1), and finds the version by A2. While it sleeps the
//!   same number makes no difference: it is woken by each of them.
//! - Wakes are not fair, and none is sent for each of two versions: a reader finds the latest one.
//! - A peer that can write the word or the count can end sleeps early, or make them last a whole slice. Sleeps that end
//!   early again and again are followed by rests.
//! - That there is no writer is true for the moment of asking.
//!
//! # Sources
//! The bells of `tidewire-shm`. That a futex can be waited for in memory that is mapped read-only is by Linux: the word is
//! only compared.

use core::time::Duration;

use tidewire_shm::bell::{
    BellMode, DEFAULT_SLICE, Deadline, Kernel, Nap, Place, SleepOptions, Spin, UNWATCHED_SLICE, Waiter,
    Waiters, WaitersRinger,
};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, spin_hint};
use tidewire_shm::{Liveness, Region, RoleId, Tenancy, Trust};

use crate::cell::says;
use crate::codec::Codec;
use crate::engine::Look;
use crate::error::{AttachError, Corrupt, WaitError};
use crate::layout::Layout;
use crate::role::low;

const FIRST_POLL_NS: u64 = 50_000;
const LAST_POLL_NS: u64 = 1_000_000;
/// Sleeps in a row that end early for nothing, after which they are no accident.
const FRUITLESS: u32 = 64;
const REST_NS: u64 = 100_000;
/// Where there is one processor, spinning is of no use. In a model, whoever yields is never asleep when the others write.
const YIELDS: u32 = if cfg!(loom) { 0 } else { 4 };

/// What a writer asks to wake readers.
pub type KernelRef = &'static (dyn Kernel + Sync);

/// What writers do for readers that [wait](crate::Reader::wait_changed_on). Chosen when a structure is created.
///
/// | wake | each write costs | a waiting reader learns of it | and needs |
/// |---|---|---|---|
/// | [`Never`](Self::Never) | nothing | when its poll ends, 50 µs to 1 ms | a mapping, read-only or not |
/// | [`Always`](Self::Always) | a system call, some 0.5 µs | at once | a mapping, read-only or not |
/// | [`Waiters`](Self::Waiters) | a full fence or nothing; while somebody sleeps, the system call | at once | to write one word; else it polls |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wake {
    /// Nothing: for writers at full speed, and readers that need no value at once. Those that wait look again and again,
    /// which costs them a system call each time.
    #[default]
    Never,
    /// Each write wakes whoever sleeps: for writers that are slow, up to some ten thousand writes a second.
    Always,
    /// Each write looks whether anybody sleeps. In [fence](BellMode::Fence) mode that is a full fence and a load; in
    /// [membarrier](BellMode::Membarrier) mode only a load, but every process that writes must be able to register for
    /// it, and each sleep of a reader begins with a system call of its own.
    ///
    /// A reader that is killed asleep stays counted: from then on each write wakes, until a writer
    /// [forgets](crate::Writer::forget_waiters) it. All cells of a table have one count: while anybody sleeps at one of
    /// them, writes to each of them wake.
    Waiters(BellMode),
}

impl Wake {
    /// As it stands in the shape.
    pub(crate) const fn code(self) -> u32 {
        match self {
            Self::Never => 0,
            Self::Always => 1,
            Self::Waiters(BellMode::Fence) => 2,
            Self::Waiters(_) => 3,
        }
    }

    pub(crate) const fn of(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Never),
            1 => Some(Self::Always),
            2 => Some(Self::Waiters(BellMode::Fence)),
            3 => Some(Self::Waiters(BellMode::Membarrier)),
            _ => None,
        }
    }
}

/// The system, where there is one.
pub(crate) fn system() -> Option<KernelRef> {
    #[cfg(all(feature = "std", not(loom)))]
    return Some(&tidewire_shm::bell::System);
    #[cfg(not(all(feature = "std", not(loom))))]
    None
}

/// What a writer does behind each write.
#[derive(Debug)]
pub(crate) enum Alarm {
    Off,
    Always(Shared<AtomicU64>, KernelRef),
    Waiters(WaitersRinger<KernelRef>),
}

impl Alarm {
    /// The alarm of the cell whose version is `latest`.
    ///
    /// # Safety
    /// The alarm is not used after the last handle on the region is dropped.
    pub(crate) unsafe fn new<L: Trust>(
        region: &Region<L>,
        layout: &Layout,
        latest: &Shared<AtomicU64>,
        kernel: Option<KernelRef>,
    ) -> Result<Self, AttachError> {
        match layout.wake {
            Wake::Never => Ok(Self::Off),
            Wake::Always => Ok(Self::Always(latest.clone(), kernel.ok_or(AttachError::NoKernel)?)),
            Wake::Waiters(mode) => {
                // SAFETY: the bell of a validated layout, used as a doorbell only; the caller's promise.
                let bell = unsafe { Waiters::with_mode(region, layout.bell(), mode) }?;
                let ringer = bell.ringer(latest.clone(), kernel.ok_or(AttachError::NoKernel)?)?;
                Ok(Self::Waiters(ringer))
            }
        }
    }

    /// To be called behind each write.
    #[inline(always)]
    pub(crate) fn ring(&mut self) {
        if !matches!(self, Self::Off) {
            self.ring_slow();
        }
    }

    /// Out of the way of writes that wake nobody.
    #[cold]
    #[inline(never)]
    fn ring_slow(&mut self) {
        match self {
            Self::Off => {}
            Self::Always(latest, kernel) => {
                // Whom it found makes no difference: there may be none.
                let _found = kernel.wake(Place::LowHalf(latest));
            }
            Self::Waiters(ringer) => {
                // As above.
                let _rung = ringer.ring();
            }
        }
    }

    /// Counts nobody as waiting.
    pub(crate) fn forget(&mut self) {
        if let Self::Waiters(ringer) = self {
            // A writer's region can be written.
            let _done = ringer.reset();
        }
    }
}

/// Where a reader waits, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post {
    pub(crate) wake: Wake,
    pub(crate) bell: usize,
    /// The kind of leases that writers hold.
    pub(crate) liveness: u32,
    /// The number of the first writer's lease, and how many there are.
    pub(crate) lease: u32,
    pub(crate) writers: u32,
}

impl Post {
    /// Whether nobody holds the lease of any writer.
    fn is_deserted<V: Liveness>(&self, liveness: &V) -> bool {
        (0..self.writers).all(|writer| {
            let role = self.lease.checked_add(writer).and_then(RoleId::producer);
            role.is_some_and(|role| liveness.tenancy(role) == Tenancy::Vacant)
        })
    }

    /// The reader's end of the doorbell, if there is one that it can use.
    fn waiter<'k, L: Trust, K: Kernel>(
        &self,
        region: &Region<L>,
        latest: &Shared<AtomicU64>,
        kernel: &'k K,
    ) -> Option<Waiter<&'k K>> {
        /// The spinning is done, and each wait is one slice.
        const AT_ONCE: SleepOptions =
            SleepOptions::new().spin(Spin::Rounds(0)).yields(0).slice(DEFAULT_SLICE);
        let Wake::Waiters(mode) = self.wake else { return None };
        // SAFETY: the bell of a validated layout, used as a doorbell only; the waiter is dropped before the region.
        let bell = unsafe { Waiters::with_mode(region, self.bell, mode) }.ok()?;
        bell.waiter(latest.clone(), kernel, &AT_ONCE).ok()
    }
}

/// Waits until the latest version is not `since`.
pub(crate) fn changed<C: Codec, L: Trust, K: Kernel, V: Liveness>(
    look: &mut Look<C>,
    (region, post): (&Region<L>, &Post),
    (kernel, liveness): (&K, &V),
    since: u64,
    timeout: Duration,
) -> Result<u64, WaitError> {
    if let Some(version) = newer(look, since)? {
        return Ok(version);
    }
    if timeout.is_zero() {
        return Err(WaitError::TimedOut);
    }
    let start = kernel.now_ns();
    let end = u64::try_from(timeout.as_nanos()).ok().and_then(|ns| start.checked_add(ns));
    if let Some(version) = look_patiently(look, kernel, since)? {
        return Ok(version);
    }
    let latest = look.core.latest.clone();
    let mut bed = match post.waiter(region, &latest, kernel) {
        Some(waiter) => Bed::Doorbell(waiter),
        None => Bed::Word { latest: &latest, kernel, in_vain: 0 },
    };
    let asks = says(post.liveness, region, liveness);
    let slice = ns(if asks { UNWATCHED_SLICE } else { DEFAULT_SLICE });
    let is_woken = post.wake == Wake::Always || matches!(bed, Bed::Doorbell(_));
    let mut longest = if is_woken { slice } else { FIRST_POLL_NS };
    let mut next_question = 0;
    loop {
        let now = kernel.now_ns();
        let left = end.map_or(u64::MAX, |end| end.saturating_sub(now));
        if left == 0 {
            return Err(WaitError::TimedOut);
        }
        if asks && now >= next_question {
            if post.is_deserted(liveness) {
                return newer(look, since)?.ok_or(WaitError::WriterGone);
            }
            next_question = now.saturating_add(ns(UNWATCHED_SLICE));
        }
        let question = if asks { next_question.saturating_sub(now) } else { u64::MAX };
        if let Some(version) = bed.sleep(look, since, now, longest.min(left).min(question))? {
            return Ok(version);
        }
        if !is_woken {
            longest = (2 * longest).min(LAST_POLL_NS);
        }
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The latest version, if it is not `since`.
fn newer<C: Codec>(look: &mut Look<C>, since: u64) -> Result<Option<u64>, Corrupt> {
    Ok(Some(look.version()?).filter(|version| *version != since))
}

/// Spins and yields.
fn look_patiently<C: Codec, K: Kernel>(
    look: &mut Look<C>,
    kernel: &K,
    since: u64,
) -> Result<Option<u64>, Corrupt> {
    let spins = kernel.spins();
    for _ in 0..spins {
        spin_hint();
        if let Some(version) = newer(look, since)? {
            return Ok(Some(version));
        }
    }
    for _ in 0..if spins == 0 { YIELDS } else { 0 } {
        kernel.yield_now();
        if let Some(version) = newer(look, since)? {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// How a reader sleeps.
enum Bed<'a, K: Kernel> {
    /// On the version, telling nobody.
    Word {
        latest: &'a Shared<AtomicU64>,
        kernel: &'a K,
        /// Sleeps in a row that ended early for nothing.
        in_vain: u32,
    },
    /// On the version, counted.
    Doorbell(Waiter<&'a K>),
}

impl<K: Kernel> Bed<'_, K> {
    /// One sleep that lasts at most so long, between two looks.
    fn sleep<C: Codec>(
        &mut self,
        look: &mut Look<C>,
        since: u64,
        now: u64,
        longest: u64,
    ) -> Result<Option<u64>, Corrupt> {
        match self {
            Self::Word { latest, kernel, in_vain } => {
                // ORD advice: Relaxed, hands nothing over; the look comes after it and sees no less.
                let expected = low(latest.load(Ordering::Relaxed));
                if let Some(version) = newer(look, since)? {
                    return Ok(Some(version));
                }
                let nap = kernel.sleep(Place::LowHalf(latest), expected, longest);
                let found = newer(look, since)?;
                *in_vain = if nap == Nap::TimedOut { 0 } else { in_vain.saturating_add(1) };
                if found.is_none() && *in_vain >= FRUITLESS {
                    kernel.pause(longest.min(REST_NS));
                }
                Ok(found)
            }
            Self::Doorbell(waiter) => {
                let mut found = Ok(None);
                let ready = || {
                    found = newer(look, since);
                    !matches!(found, Ok(None))
                };
                // Ready or not, the last look says it.
                let _woken = waiter.wait(ready, Deadline::at_ns(now.saturating_add(longest)));
                found
            }
        }
    }
}
