//! What anybody who has a queue open can see of its lanes. It costs those who move messages nothing.

use tidewire_ring::Owner;
use tidewire_shm::Trust;
use tidewire_shm::sync::{Ordering, fence};

use crate::layout::Form;
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
    /// Messages (bytes of records, with frames and padding) ever published. In an ordered queue without those of the push
    /// that a producer is in, or was when it was stopped or killed; so it may be less than `received`.
    pub sent: u64,
    /// Messages (bytes) ever released by the consumer.
    pub received: u64,
    /// Messages (bytes) published and not yet released: `sent - received`, 0 if that is less than nothing.
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
        // ORD advice: Relaxed, since an observer's memory may be such that it can only be read; the fence acquires.
        let before = head.load(Ordering::Relaxed);
        // ORD ring.free: Acquire <- the consumer's release; it had acquired a tail not before this head, and that tail or a
        // later one is loaded next. An ordered queue's consumer acquires order words instead: see below.
        fence(Ordering::Acquire);
        // ORD advice: Relaxed, numbers for people; the second look at the head tells whether they belong together.
        stats.sent = tail.load(Ordering::Relaxed);
        // ORD advice: Relaxed, as above.
        stats.received = head.load(Ordering::Relaxed);
        let depth = stats.sent.wrapping_sub(stats.received);
        let capacity = self.layout.capacity as u64;
        let behind = depth > u64::MAX / 2;
        // An ordered push publishes first and stores the tail then: killed or stopped in between, it is behind the head.
        let honest = behind && matches!(self.layout.form, Form::Ordered { .. });
        if self.is_quarantined(lane) || (depth > capacity && before == stats.received && !honest) {
            stats.state = LaneState::Corrupt;
        }
        stats.depth = if behind { 0 } else { depth.min(capacity) };
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
