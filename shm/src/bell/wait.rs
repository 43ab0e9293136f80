//! Waiting, the same for all forms: look, spin, yield, announce, fence, look, sleep, look.

use super::BellMode;
use super::kernel::{Deadline, Kernel, Nap, Place};
use super::sleeper::{Patience, SleepTally};
use crate::sync::{full_fence, spin_hint};

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a wait may end with nothing there"]
#[non_exhaustive]
pub enum Woken {
    /// What was waited for is there.
    Ready,
    /// The deadline has passed, and it is not there.
    TimedOut,
    /// It is not there, and the death notice of a watched peer says that the peer is gone. A hint: the peer's lease
    /// is the proof.
    PeerGone {
        /// Which of the watched peers.
        index: usize,
        /// What its notice says.
        state: PeerState,
    },
}

/// What a death notice says about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerState {
    /// It runs, or is stopped.
    Alive,
    /// It ended in order, or is about to.
    Detached,
    /// It was killed, aborted, or became another program.
    Dead,
    /// The notice says nothing that has a meaning.
    Unknown,
}

impl PeerState {
    /// Whether it is gone, as far as its notice tells.
    #[must_use]
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Detached | Self::Dead)
    }
}

/// What a waiter raises before it sleeps.
pub(crate) trait Flag {
    /// Raises it; returns what stands in it.
    fn raise(&self) -> u32;
    /// What the word that is slept on holds as long as nothing was published; asked after the fence and before the
    /// look.
    fn expected(&self, raised: u32) -> u32;
    /// The word that is slept on.
    fn place(&self) -> Place<'_>;
    /// Lowers it.
    fn lower(&self);
}

/// Who else may end a wait.
pub(crate) trait Watch<K> {
    /// Who is gone.
    fn gone(&self) -> Option<(usize, PeerState)>;
    /// A sleep that ends also when one of them goes.
    fn sleep(&self, kernel: &K, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap;
}

impl<K: Kernel> Watch<K> for () {
    fn gone(&self) -> Option<(usize, PeerState)> {
        None
    }

    fn sleep(&self, kernel: &K, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        kernel.sleep(place, expected, timeout_ns)
    }
}

/// How somebody waits.
pub(super) struct How<'a, K, W> {
    pub(super) mode: BellMode,
    pub(super) patience: Patience,
    pub(super) kernel: &'a K,
    pub(super) watch: &'a W,
}

/// So many naps in a row that end early with nothing to do are no accident: from then on the waiter also rests.
const FRUITLESS: u32 = 64;
const REST_NS: u64 = 100_000;
/// The longest sleep after a barrier that was refused.
const UNFENCED_NS: u64 = 1_000_000;

/// A flag that is up, and comes down also when the look panics.
struct Raised<'a, F: Flag>(&'a F);

impl<F: Flag> Drop for Raised<'_, F> {
    fn drop(&mut self) {
        self.0.lower();
    }
}

pub(super) fn wait<K: Kernel, F: Flag, W: Watch<K>>(
    how: &How<'_, K, W>,
    flag: &F,
    tally: &mut SleepTally,
    ready: &mut dyn FnMut() -> bool,
    deadline: Deadline,
) -> Woken {
    if ready() {
        return Woken::Ready;
    }
    if deadline.left_ns(how.kernel) == Some(0) {
        return Woken::TimedOut;
    }
    if how.look_patiently(ready) {
        return Woken::Ready;
    }
    let mut fruitless = 0_u32;
    loop {
        // In this order: what a peer published before it went is found first.
        let gone = how.watch.gone();
        let left_ns = deadline.left_ns(how.kernel);
        if gone.is_some() || left_ns == Some(0) {
            return match gone {
                _ if ready() => Woken::Ready,
                Some((index, state)) => Woken::PeerGone { index, state },
                None => Woken::TimedOut,
            };
        }
        match announced(how, flag, tally, ready, left_ns) {
            None => return Woken::Ready,
            Some(nap) => {
                if ready() {
                    // If it was a death that ended this nap, the others who sleep on that notice are woken here.
                    let _passed_on = how.watch.gone();
                    tally.overslept += u64::from(nap == Nap::TimedOut);
                    return Woken::Ready;
                }
                if nap == Nap::TimedOut {
                    fruitless = 0;
                    continue;
                }
                tally.in_vain += 1;
                fruitless += 1;
                if fruitless >= FRUITLESS {
                    fruitless = FRUITLESS;
                    how.kernel.pause(left_ns.unwrap_or(REST_NS).min(REST_NS));
                }
            }
        }
    }
}

impl<K: Kernel, W> How<'_, K, W> {
    /// Spins and yields.
    fn look_patiently(&self, ready: &mut dyn FnMut() -> bool) -> bool {
        for _ in 0..self.patience.rounds {
            spin_hint();
            if ready() {
                return true;
            }
        }
        for _ in 0..self.patience.yields {
            self.kernel.yield_now();
            if ready() {
                return true;
            }
        }
        false
    }
}

/// One sleep, with the flag up. `None`: it was not needed.
///
/// | killed | the others see |
/// |---|---|
/// | before the flag is raised, or after it is lowered | a flag that is down |
/// | in between | a flag that is up: each ringer sends a wake that finds nobody |
fn announced<K: Kernel, F: Flag, W: Watch<K>>(
    how: &How<'_, K, W>,
    flag: &F,
    tally: &mut SleepTally,
    ready: &mut dyn FnMut() -> bool,
    left_ns: Option<u64>,
) -> Option<Nap> {
    let value = flag.raise();
    let raised = Raised(flag);
    let mut nap_ns = left_ns.map_or(how.patience.slice_ns, |left| left.min(how.patience.slice_ns));
    match how.mode {
        // ORD bell.meet: SeqCst <-> `Ringer::ring`, `WaitersRinger::ring`; the flag is up before the look.
        BellMode::Fence => full_fence(),
        BellMode::Membarrier => {
            tally.barriers += 1;
            if !how.kernel.barrier() {
                // The flag reaches the ringers all the same, and soon; only not surely before the look.
                full_fence();
                nap_ns = nap_ns.min(UNFENCED_NS);
            }
        }
    }
    let expected = flag.expected(value);
    if ready() {
        return None;
    }
    tally.naps += 1;
    let nap = how.watch.sleep(how.kernel, flag.place(), expected, nap_ns);
    drop(raised);
    // Only a whole slice counts as one.
    let whole = left_ns.is_none_or(|left| left > how.patience.slice_ns);
    Some(if nap == Nap::TimedOut && !whole { Nap::Woken } else { nap })
}
