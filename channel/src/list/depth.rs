//! How much waits in a queue, a log or a cell, by words that do not depend on a type. The structure is known by its header.

use tidewire_seqlock::log;
use tidewire_shm::{Header, Region, Untrusted};

use crate::queue::look_at_overwritten;

/// What was seen; nothing of what cannot be.
#[derive(Debug, Default)]
pub(super) struct Depths {
    /// Messages that fit for each sender, or in all; bytes of a queue of records.
    pub(super) capacity: Option<u64>,
    /// The latest version.
    pub(super) newest: Option<u64>,
    /// How many of the latest messages are surely there.
    pub(super) kept: Option<u64>,
    /// Of each sender.
    queued: Vec<Option<u64>>,
    /// Of each gate that is closed.
    lags: Vec<Option<u64>>,
}

impl Depths {
    /// What a sender has in the queue. `passed`: what the receiver of a log says that it passed.
    pub(super) fn queued(&self, sender: u32, passed: u64) -> Option<u64> {
        match (self.newest, self.capacity) {
            (None, _) => *self.queued.get(usize::try_from(sender).ok()?)?,
            (Some(newest), Some(capacity)) if sender == 0 => {
                Some(newest.saturating_sub(passed).min(capacity))
            }
            _ => None,
        }
    }

    /// How far behind a subscriber is.
    pub(super) fn lag(&self, subscriber: u32) -> Option<u64> {
        *self.lags.get(usize::try_from(subscriber).ok()?)?
    }
}

/// Looks at a structure, which has that many senders if it has lanes that are overwritten.
pub(super) fn of(region: Region<Untrusted>, senders: u32) -> Depths {
    use tidewire_mpsc::{KIND_LANES_BYTES, KIND_LANES_FIXED, KIND_ORDERED_BYTES, KIND_ORDERED_FIXED};
    use tidewire_ring::{KIND_BYTES, KIND_FIXED};
    use tidewire_seqlock::{KIND_CELL, KIND_TABLE};

    match Header::inspect(&region).map(|header| header.kind) {
        Ok(KIND_FIXED | KIND_BYTES) => of_a_ring(region),
        Ok(KIND_LANES_FIXED | KIND_LANES_BYTES | KIND_ORDERED_FIXED | KIND_ORDERED_BYTES) => {
            of_a_queue(region)
        }
        Ok(KIND_CELL) => of_a_cell(region),
        // Of which the first part is one.
        Ok(KIND_TABLE) => of_overwritten_lanes(region, senders),
        // Of any other kind it refuses.
        _ => of_a_log(region),
    }
}

fn of_a_ring(region: Region<Untrusted>) -> Depths {
    let Ok(view) = tidewire_ring::View::open(region) else { return Depths::default() };
    let (capacity, queued) = (Some(view.capacity() as u64), vec![Some(view.stats().depth)]);
    Depths { capacity, queued, ..Depths::default() }
}

fn of_a_queue(region: Region<Untrusted>) -> Depths {
    let Ok(view) = tidewire_mpsc::View::open(region) else { return Depths::default() };
    let queued = view.lanes().map(|lane| Some(lane.depth)).collect();
    Depths { capacity: Some(view.lane_capacity() as u64), queued, ..Depths::default() }
}

fn of_overwritten_lanes(region: Region<Untrusted>, senders: u32) -> Depths {
    let lanes = look_at_overwritten(region, senders);
    let capacity = lanes.iter().flatten().map(|lane| lane.capacity).max();
    let queued = lanes.into_iter().map(|lane| Some(lane?.queued)).collect();
    Depths { capacity, queued, ..Depths::default() }
}

fn of_a_log(region: Region<Untrusted>) -> Depths {
    let Ok(view) = log::View::open(region) else { return Depths::default() };
    let newest = view.version().ok();
    let kept = newest.map(|newest| newest.min(view.kept()));
    let lags = view.gates().map(|gate| gate.lag).collect();
    Depths { capacity: Some(view.capacity()), newest, kept, lags, ..Depths::default() }
}

fn of_a_cell(region: Region<Untrusted>) -> Depths {
    let Ok(view) = tidewire_seqlock::View::open(region) else { return Depths::default() };
    // There is one.
    let newest = view.versions().next().and_then(Result::ok);
    Depths { newest, ..Depths::default() }
}
