//! Waiting the way that was chosen.

use std::time::{Duration, Instant};

use tidewire_shm::bell::{Attendance, Deadline, System, UNWATCHED_SLICE, Woken};
use tidewire_shm::{DeathWatch, Untrusted};

use crate::options::Wait;

/// The longest wait before the leases of all are asked, too.
const LONGEST: Duration = Duration::from_secs(1);

/// Looks between two looks at the clock and at the peers' notices.
const LOOKS: u32 = 1024;

/// Until when to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until(Deadline);

impl Until {
    pub(crate) const NEVER: Self = Self(Deadline::NEVER);

    pub(crate) fn after(duration: Duration) -> Self {
        Self(Deadline::after(&System, duration))
    }

    pub(crate) fn at(instant: Instant) -> Self {
        Self::after(instant.saturating_duration_since(Instant::now()))
    }

    /// What is left; `None`: for ever.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.left(&System)
    }

    /// Whether the time is over.
    pub(crate) fn is_over(self) -> bool {
        self.0.is_over(&System)
    }
}

/// How one end waits.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) own: Attendance<System, Untrusted>,
    pub(crate) wait: Wait,
}

impl Rest {
    /// Waits until `ready`, a peer that is watched is gone, or the time is over. If somebody is not watched, a slice is the
    /// longest that this takes; else some time, so that [`Woken::TimedOut`] need not be the end.
    pub(crate) fn wait(
        &mut self,
        ready: &mut dyn FnMut() -> bool,
        until: Until,
        peers: &[&DeathWatch],
        all_watched: bool,
    ) -> Woken {
        match self.wait {
            Wait::Spin => look(ready, until, peers, std::hint::spin_loop),
            Wait::Yield => look(ready, until, peers, std::thread::yield_now),
            _ => {
                let slice = until.0.earlier(&System, if all_watched { LONGEST } else { UNWATCHED_SLICE });
                self.own.wait_watching(ready, slice, peers)
            }
        }
    }
}

/// Looks without sleeping; not for ever at a time, so that whoever is not watched is asked after now and then.
fn look(ready: &mut dyn FnMut() -> bool, until: Until, peers: &[&DeathWatch], pause: fn()) -> Woken {
    let slice = until.0.earlier(&System, UNWATCHED_SLICE);
    loop {
        for _ in 0..LOOKS {
            if ready() {
                return Woken::Ready;
            }
            pause();
        }
        // In this order: what a peer published before it went is found first.
        let gone = peers.iter().position(|peer| peer.is_dead_hint());
        if ready() {
            return Woken::Ready;
        }
        if let Some(index) = gone {
            let state = peers.get(index).map_or(tidewire_shm::bell::PeerState::Unknown, |peer| peer.state());
            return Woken::PeerGone { index, state };
        }
        if slice.is_over(&System) {
            return Woken::TimedOut;
        }
    }
}
