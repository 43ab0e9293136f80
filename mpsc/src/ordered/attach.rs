//! Taking a lane, and giving back those of the dead.

use tidewire_ring::Owner;
use tidewire_ring::embed::Parts;
use tidewire_shm::sync::Ordering;
use tidewire_shm::{LeaseError, Liveness, Region, RoleId, Tenancy, Trust};

use super::error::{Corrupt, CorruptWord};
use super::lane::Lane;
use super::order::Entry;
use super::reader::{Reader, Seat};
use crate::error::AttachError;
use crate::registry::{Core, Tenure, generation, proves};

/// A liveness whose leases prove nothing: who attaches with it takes only lanes that their owner or the consumer freed.
struct FreeOnly<'v, V>(&'v V);

// SAFETY: `PROVES` is false, and everything else is what `V` promises.
unsafe impl<V: Liveness> Liveness for FreeOnly<'_, V> {
    type Lease = V::Lease;
    const PROVES: bool = false;
    const KIND: u32 = V::KIND;

    fn acquire(&self, role: RoleId) -> Result<V::Lease, LeaseError> {
        self.0.acquire(role)
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        self.0.tenancy(role)
    }

    fn covers<M: Trust>(&self, region: &Region<M>) -> bool {
        self.0.covers(region)
    }
}

/// Takes a free lane (O6), which begins where its tail says.
pub(super) fn attach_lane<V: Liveness, L: Trust>(
    core: &Core<L>,
    liveness: &V,
    grain: u64,
) -> Result<(usize, Tenure, Lane), AttachError> {
    // SAFETY: the words of a validated layout; the handle keeps the region.
    let make = |region: &Region<L>, parts: &Parts| unsafe { Lane::attach(region, parts, grain) };
    core.attach_lane(&FreeOnly(liveness), make)
}

impl<L: Trust> Reader<L> {
    /// Frees the lanes whose owner is proven dead, and says how many. `end` says where a lane ends that has so many
    /// messages not yet taken.
    pub(super) fn reclaim<V: Liveness>(
        &mut self,
        liveness: &V,
        end: impl Fn(&Seat, u64) -> Result<u64, tidewire_ring::Corrupt>,
    ) -> Result<u32, AttachError> {
        self.core().same_liveness(liveness)?;
        let mut reclaimed = 0;
        for lane in 0..if proves::<V>() { self.core().layout.lanes } else { 0 } {
            let word = self.core().owner_word(lane);
            // ORD advice: Relaxed, decides only whether to ask for the lease.
            if Owner::from_word(word.load(Ordering::Relaxed)).is_none() {
                continue;
            }
            let Some(role) = u32::try_from(lane).ok().and_then(RoleId::producer) else { continue };
            let _lease = match liveness.acquire(role) {
                Ok(lease) => lease,
                Err(LeaseError::Held { .. }) => continue,
                Err(error) => return Err(AttachError::Lease(error)),
            };
            // ORD role.proof: Relaxed, the lease already ordered everything that the dead owner did before this.
            let found = word.load(Ordering::Relaxed);
            let Some(dead) = Owner::from_word(found) else { continue };
            if generation(found) != 0 && !self.end_lane(lane, &end) {
                continue;
            }
            let free = Owner { id: 0, ..dead };
            // ORD role.proof: Relaxed, and whoever takes the lane next has the lease after us.
            // ORD own: failure Relaxed, nothing is read behind it.
            let freed =
                word.compare_exchange(dead.word(), free.word(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
            reclaimed += u32::from(freed);
        }
        Ok(reclaimed)
    }

    /// Stores where the lane of a dead owner ends; false if that cannot be known. Its lease is ours.
    fn end_lane(
        &mut self,
        lane: usize,
        end: &impl Fn(&Seat, u64) -> Result<u64, tidewire_ring::Corrupt>,
    ) -> bool {
        let messages = match self.messages_ahead(lane) {
            Ok(messages) => messages,
            Err(corrupt) => {
                self.latch(corrupt);
                return false;
            }
        };
        let Some(seat) = self.open_seat(lane) else { return false };
        match end(seat, messages) {
            Ok(end) => {
                // ORD role.proof: Relaxed, whoever takes the lane next has the lease after us.
                self.core().word(self.core().layout.lane(lane).tail_offset).store(end, Ordering::Relaxed);
                true
            }
            Err(corrupt) => {
                self.quarantine(lane, corrupt);
                false
            }
        }
    }

    /// Messages of a lane that are published and that this consumer has not taken.
    ///
    /// The words of a dead owner are seen, since its lease is ours, and by O1 so are all below them: it had acquired
    /// those. So a word that looks free is behind its last one, and ends the search: the cost is that of the words
    /// ahead, not of all there are.
    fn messages_ahead(&self, lane: usize) -> Result<u64, Corrupt> {
        let order = self.order();
        let (first, taken) = self.order_head();
        let mut messages = 0_u64;
        for step in 0..order.len() {
            let at = first.wrapping_add(step);
            // ORD role.proof: Relaxed, the lease already ordered everything that the dead owner did or saw before this.
            let word = order.word(at).load(Ordering::Relaxed);
            match order.laps(word, at) {
                0 => break,
                1 => {}
                _ => return Err(Corrupt { what: CorruptWord::Order, found: word }),
            }
            let entry = Entry::of(word);
            if entry.lane == lane {
                messages += entry.run.saturating_sub(if step == 0 { taken } else { 0 });
            }
        }
        Ok(messages)
    }
}
