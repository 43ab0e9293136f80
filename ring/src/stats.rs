//! What anybody who has a ring open can see of it, also in memory that can only be read. It costs the two ends nothing.

use tidewire_shm::sync::Ordering;
use tidewire_shm::{Region, Trust};

use crate::layout::{Layout, Side};

/// A ring as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages (bytes of records, with frames and padding) ever published.
    pub sent: u64,
    /// Messages (bytes) ever released by the consumer.
    pub received: u64,
    /// Messages (bytes) published and not yet released: `sent - received`, at most the capacity, 0 if that is less than
    /// nothing. Whoever lies about a position lies about this.
    pub depth: u64,
}

impl Stats {
    pub(crate) fn of<L: Trust>(region: &Region<L>, layout: &Layout) -> Self {
        let [received, sent] = [Side::Consumer, Side::Producer].map(|side| {
            // SAFETY: a position of a validated layout; the region outlives the handle.
            let word = unsafe { region.atomic_u64(layout.position(side)) };
            // ORD advice: Relaxed, numbers for people, of two moments that are near each other.
            word.load(Ordering::Relaxed)
        });
        let ahead = sent.wrapping_sub(received);
        let depth = if ahead > u64::MAX / 2 { 0 } else { ahead.min(layout.capacity as u64) };
        Self { sent, received, depth }
    }
}
