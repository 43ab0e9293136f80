//! How a consumer goes about its work.

use crate::options::Delivery;

/// Messages that one lane may give before the others are looked at.
const BUDGET: u32 = 64;

/// How a consumer trades latency, throughput and redelivery; private to it, changeable at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// Messages or records that one lane may give before the others are looked at; 64 by default, at least 1.
    pub budget: u32,
    /// Write one word of each consumed line back unchanged. On by default.
    pub touch: bool,
    /// How many pause instructions to wait where only one lane has messages and those come thinly. As
    /// [`tidewire_ring::Tuning::pauses`].
    pub pauses: u32,
    /// Release a lane after this many messages (bytes of records) at the latest; `None` means an eighth of its
    /// capacity, at least 1. A successor of a dead consumer sees at most this many of each lane again, and for records
    /// one more. A turn ends there, too, so that it bounds what one call takes. With [`Delivery::AtMostOnce`] it says
    /// nothing, neither about releases nor about turns, since every call releases.
    pub release_every: Option<u64>,
}

impl Default for Tuning {
    fn default() -> Self {
        let ring = tidewire_ring::Tuning::default();
        Self { budget: BUDGET, touch: ring.touch, pauses: ring.pauses, release_every: ring.release_every }
    }
}

impl Tuning {
    /// Chooses how many messages one lane may give before the others are looked at; at least 1.
    #[must_use]
    pub const fn budget(mut self, messages: u32) -> Self {
        self.budget = messages;
        self
    }

    /// Chooses whether consumed lines are written back.
    #[must_use]
    pub const fn touch(mut self, touch: bool) -> Self {
        self.touch = touch;
        self
    }

    /// Chooses the wait where only one lane has messages and those come thinly.
    #[must_use]
    pub const fn pauses(mut self, pauses: u32) -> Self {
        self.pauses = pauses;
        self
    }

    /// Chooses after how many messages (bytes of records) a lane is released at the latest; at least 1.
    #[must_use]
    pub const fn release_every(mut self, elements: u64) -> Self {
        self.release_every = Some(elements);
        self
    }

    /// What the end of one lane is told.
    pub(crate) fn for_a_lane(self, delivery: Delivery) -> tidewire_ring::Tuning {
        let tuning = tidewire_ring::Tuning::default().touch(self.touch).pauses(self.pauses);
        match delivery {
            // Consuming releases at once, behind the copy and before the call returns.
            Delivery::AtMostOnce => tuning.release_every(1),
            // The poller releases by hand.
            Delivery::AtLeastOnce => tuning,
        }
    }
}
