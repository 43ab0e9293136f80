//! What anybody who has a queue open can see of its lanes. It costs those who move messages nothing.

use tidewire_ring::Owner;
use tidewire_shm::Trust;
use tidewire_shm::sync::Ordering;

use crate::registry::{Core, generation};

/// What a lane is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneState {
    /// Nobody owns it; what was pushed there before is still delivered.
    Free,
    /// A producer owns it, running, stopped or dead.
    Owned,
    /// It is out of use, or what is published there cannot be.
    Corrupt,
}

/// A lane as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneStats {
    /// The number of the lane.
    pub lane: u32,
    /// What it is used for.
    pub state: LaneState,
    /// Who owns it, if anybody.
    pub owner: Option<Owner>,
    /// How many producers have owned it: the generation of its owner word; wraps.
    pub owners: u32,
    /// Messages (bytes of records, with frames and padding) ever published.
    pub sent: u64,
    /// Messages (bytes) ever released by the consumer.
    pub received: u64,
    /// Messages (bytes) published and not yet released.
    pub depth: u64,
}

impl<L: Trust> Core<L> {
    /// All lanes, one after the other.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        (0..).zip(0..self.layout.lanes).map(|(number, lane)| self.lane_stats(number, lane))
    }

    fn lane_stats(&self, number: u32, lane: usize) -> LaneStats {
        let word = self.owner(lane);
        let (owner, owners) = (Owner::from_word(word), generation(word));
        let state = if owner.is_some() { LaneState::Owned } else { LaneState::Free };
        let mut stats = LaneStats { lane: number, state, owner, owners, sent: 0, received: 0, depth: 0 };
        if owners == 0 {
            // Its positions mean nothing yet.
            return stats;
        }
        let parts = self.layout.lane(lane);
        let (tail, head) = (self.word(parts.tail_offset), self.word(parts.head_offset));
        // ORD advice: Relaxed, numbers for people; the second look tells whether they belong together.
        let before = head.load(Ordering::Relaxed);
        stats.sent = tail.load(Ordering::Relaxed);
        stats.received = head.load(Ordering::Relaxed);
        let depth = stats.sent.wrapping_sub(stats.received);
        let capacity = self.layout.capacity as u64;
        if self.is_quarantined(lane) || (depth > capacity && before == stats.received) {
            stats.state = LaneState::Corrupt;
        }
        stats.depth = if depth > u64::MAX / 2 { 0 } else { depth.min(capacity) };
        stats
    }

    /// Who owns a lane, if anybody; `None` also for a number that no lane has.
    pub(crate) fn lane_owner(&self, lane: u32) -> Option<Owner> {
        let lane = usize::try_from(lane).ok().filter(|lane| *lane < self.layout.lanes)?;
        // ORD advice: Relaxed, the answer may be old when it arrives.
        Owner::from_word(self.owner_word(lane).load(Ordering::Relaxed))
    }

    /// Who consumes, if anybody.
    pub(crate) fn consumer_owner(&self) -> Option<Owner> {
        // ORD advice: Relaxed, the answer may be old when it arrives.
        Owner::from_word(self.consumer_word().load(Ordering::Relaxed))
    }
}
