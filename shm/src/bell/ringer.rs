//! The publisher's end of a bell.

#[cfg(all(feature = "std", not(loom)))]
use std::os::fd::OwnedFd;

use super::kernel::{Kernel, Place};
#[cfg(all(feature = "std", not(loom)))]
use super::{BellError, ON_EVENTFD, event};
use super::{BellMode, ON_FUTEX, RUNG, STATE};
use crate::sync::{AtomicU32, AtomicU64, Ordering, Shared, compiler_fence, full_fence};

/// What became of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// The flag is down: who reads the structure next finds what was published.
    Awake,
    /// The flag was up, and a wake was sent.
    Sent,
    /// The flag was up, and this ringer had woken the sleeper already.
    Already,
    /// The sleeper waits for an eventfd that this ringer was not given, or that refused.
    Unreachable,
}

/// What a ringer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingerTally {
    /// System calls that wake.
    pub wakes: u64,
    /// Those of them that found nobody asleep.
    pub in_vain: u64,
}

/// The publisher's end of a [bell](super::Bell).
///
/// # Guarantees
/// [`ring`](Self::ring) does not wait, and as long as the sleeper is awake makes no system call. It may be called at
/// any time, also for nothing.
#[derive(Debug)]
pub struct Ringer<K> {
    flag: Shared<AtomicU32>,
    /// What the sleeper sleeps on, if not the flag.
    position: Option<Shared<AtomicU64>>,
    mode: BellMode,
    kernel: K,
    /// The flag, as rung, of the last announcement that needs no other wake of ours; 0: none.
    done: u32,
    #[cfg(all(feature = "std", not(loom)))]
    eventfd: Option<OwnedFd>,
    tally: RingerTally,
}

impl<K: Kernel> Ringer<K> {
    pub(super) fn new(
        flag: Shared<AtomicU32>,
        position: Option<Shared<AtomicU64>>,
        mode: BellMode,
        kernel: K,
    ) -> Self {
        Self {
            flag,
            position,
            mode,
            kernel,
            done: 0,
            #[cfg(all(feature = "std", not(loom)))]
            eventfd: None,
            tally: RingerTally::default(),
        }
    }

    /// Wakes the sleeper if it sleeps. To be called after every publication, or after every batch of them.
    #[inline]
    pub fn ring(&mut self) -> Rung {
        match self.look() {
            None => Rung::Awake,
            Some(seen) => self.wake(seen),
        }
    }

    /// The flag, if it is up.
    #[inline(always)]
    pub(super) fn look(&self) -> Option<u32> {
        match self.mode {
            // ORD bell.meet: SeqCst <-> `announced`; the publication comes before the look at the flag.
            BellMode::Fence => full_fence(),
            // ORD bell.meet: SeqCst <-> `announced`, for the compiler; the sleeper's system call is the processor's.
            BellMode::Membarrier => compiler_fence(Ordering::SeqCst),
        }
        // ORD bell.meet: Relaxed, behind the fence.
        let seen = self.flag.load(Ordering::Relaxed);
        (seen & STATE != 0).then_some(seen)
    }

    /// What a ring does that saw the flag up.
    #[cold]
    pub(super) fn wake(&mut self, seen: u32) -> Rung {
        let announcement = seen | RUNG;
        if announcement == self.done {
            return Rung::Already;
        }
        match seen & STATE {
            ON_FUTEX | RUNG => self.wake_futex(seen),
            _ => self.wake_eventfd(announcement),
        }
    }

    fn wake_futex(&mut self, seen: u32) -> Rung {
        let announcement = seen | RUNG;
        if let Some(position) = &self.position {
            let found = self.kernel.wake(Place::LowHalf(position));
            if found > 0 {
                // Who was found will lower the flag. If nobody was, the sleeper may be about to compare a position
                // that it knows already: then it is the next ring that must find it.
                self.done = announcement;
            }
            return self.sent(found);
        }
        if seen != announcement {
            // ORD bell.mark: Relaxed, hands nothing over: the sleeper looks behind a fence of its own.
            // ORD bell.mark: Relaxed, on failure too.
            let marked = self.flag.compare_exchange(seen, announcement, Ordering::Relaxed, Ordering::Relaxed);
            if let Err(now) = marked
                && now != announcement
            {
                // It lowered the flag meanwhile, and looks again before it sleeps.
                return Rung::Awake;
            }
        }
        let found = self.kernel.wake(Place::Word(&self.flag));
        // The mark stays until the sleeper has seen it: no later ring of ours can tell it more.
        self.done = announcement;
        self.sent(found)
    }

    fn sent(&mut self, found: u32) -> Rung {
        self.tally.wakes += 1;
        self.tally.in_vain += u64::from(found == 0);
        Rung::Sent
    }

    #[cfg(all(feature = "std", not(loom)))]
    fn wake_eventfd(&mut self, announcement: u32) -> Rung {
        let Some(eventfd) = &self.eventfd else { return Rung::Unreachable };
        self.tally.wakes += 1;
        if !event::signal(eventfd) {
            return Rung::Unreachable;
        }
        self.done = announcement;
        Rung::Sent
    }

    #[cfg(not(all(feature = "std", not(loom))))]
    fn wake_eventfd(&mut self, _announcement: u32) -> Rung {
        Rung::Unreachable
    }

    /// Gives the ringer the eventfd of a sleeper that waits [in a reactor](super::EventBell).
    ///
    /// The descriptor is made non-blocking. A peer that shares it can undo that and fill it, and so stop a ringer:
    /// take eventfds only from peers that are trusted this far.
    ///
    /// # Errors
    /// [`BellError::NotAnEventfd`] if it is something else, [`BellError::System`] if the system refuses.
    #[cfg(all(feature = "std", not(loom)))]
    pub fn give(&mut self, eventfd: OwnedFd) -> Result<(), BellError> {
        event::verify(&eventfd)?;
        self.eventfd = Some(eventfd);
        self.done = 0;
        Ok(())
    }

    /// Gives the ringer a descriptor of its own of the sleeper's pipe, or takes it away.
    #[cfg(all(feature = "std", not(loom)))]
    pub(super) fn give_pipe(&mut self, pipe: Option<OwnedFd>) {
        self.eventfd = pipe;
        self.done = 0;
    }

    /// The system that this end asks.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// What this ringer did so far.
    #[must_use]
    pub fn tally(&self) -> RingerTally {
        self.tally
    }
}

#[cfg(all(feature = "std", not(loom)))]
const _: () = assert!(ON_EVENTFD != ON_FUTEX && ON_EVENTFD != RUNG);
