//! A model of leases for stepped processes: a word per role behind the queue, part of every image.
//!
//! The kernel's locks are no bytes: they would not come back with an image, and asking for them is thousands of
//! instructions of another structure. Here a word names who holds the lease, and each process is told who is dead when
//! it starts: that is what the explorer knows, since it is the explorer that killed them. Taking the lease of
//! somebody who is dead is one compare-exchange, as it is one call to the kernel.

use std::sync::atomic::{AtomicU64, Ordering};

use tidewire_shm::{LeaseError, Liveness, RoleId, Tenancy};

use super::{LANES, Verdict};
use crate::explore::Stage;

/// Roles that have leases here: the consumer, then the lanes.
const ROLES: usize = 1 + LANES;
/// Tries for one lease.
const ROUNDS: u32 = 4;
/// Bytes of the table.
pub(super) const BYTES: usize = 128;

/// Who can hold a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Holder {
    /// Nobody.
    Nobody,
    /// The process that prepared: it left its handles to the others, or died with them.
    Before,
    /// The victim.
    First,
    /// Its partner, or the process that recovers.
    Second,
    /// Somebody who lives as long as the victim and does nothing.
    Bystander,
    /// A survivor, or one of those who go on beside a frozen victim.
    Survivor,
}

/// The leases as one process sees them.
#[derive(Clone, Copy)]
pub(super) struct Leases {
    table: &'static [AtomicU64; ROLES],
    me: Holder,
    dead: &'static [Holder],
}

/// Nobody but survivors lives.
const ALL_DEAD: &[Holder] = &[Holder::Before, Holder::First, Holder::Second, Holder::Bystander];
/// The victim and whoever stands beside it live.
const ONLY_BEFORE: &[Holder] = &[Holder::Before];
/// The victim is dead.
const VICTIM: &[Holder] = &[Holder::Before, Holder::First];

/// The tables of rehearsals.
static REHEARSALS: [[AtomicU64; ROLES]; 2] = [const { [const { AtomicU64::new(0) }; ROLES] }; 2];

impl Leases {
    fn of(stage: &Stage, me: Holder, dead: &'static [Holder]) -> Verdict<Self> {
        let offset = stage.bytes().checked_sub(BYTES).ok_or("a segment without room for leases")?;
        // SAFETY: within the segment, behind the queue; it is mapped as long as the process.
        let table = unsafe { stage.segment().add(offset) }.cast::<[AtomicU64; ROLES]>();
        // SAFETY: aligned to a line, of any bytes, and used through these atomics only.
        Ok(Self { table: unsafe { table.as_ref() }, me, dead })
    }

    /// Of the process that prepares.
    pub(super) fn before(stage: &Stage) -> Verdict<Self> {
        Self::of(stage, Holder::Before, &[])
    }

    /// Of the victim: who prepared is dead.
    pub(super) fn first(stage: &Stage) -> Verdict<Self> {
        Self::of(stage, Holder::First, ONLY_BEFORE)
    }

    /// Of the victim's partner, which knows as much.
    pub(super) fn second(stage: &Stage) -> Verdict<Self> {
        Self::of(stage, Holder::Second, ONLY_BEFORE)
    }

    /// Of whoever recovers after the victim.
    pub(super) fn recoverer(stage: &Stage) -> Verdict<Self> {
        Self::of(stage, Holder::Second, VICTIM)
    }

    /// Of those who go on beside a frozen victim; the hasty ones take it for dead.
    pub(super) fn beside(stage: &Stage, hasty: bool) -> Verdict<Self> {
        Self::of(stage, Holder::Survivor, if hasty { VICTIM } else { ONLY_BEFORE })
    }

    /// Of survivors: everybody else is dead.
    pub(super) fn survivor(stage: &Stage) -> Verdict<Self> {
        Self::of(stage, Holder::Survivor, ALL_DEAD)
    }

    /// Of two rehearsals at once, which have nothing to do with the stage.
    pub(super) fn rehearsals() -> [Self; 2] {
        let [one, other] = &REHEARSALS;
        [one, other].map(|table| Self { table, me: Holder::First, dead: &[] })
    }

    fn word(&self, role: RoleId) -> Option<&'static AtomicU64> {
        let place = (0..LANES).find(|lane| lane_role(*lane) == Some(role)).map(|lane| lane + 1);
        self.table.get(if role == RoleId::CONSUMER { 0 } else { place? })
    }

    /// Says that another process goes on with a handle that was made here.
    pub(super) fn pass(&self, role: RoleId, to: Holder) {
        if let Some(word) = self.word(role) {
            // ORD stage: Relaxed, the processes of a run start one after the other.
            word.store(to as u64, Ordering::Relaxed);
        }
    }

    /// Who holds a lease.
    pub(super) fn holder(&self, role: RoleId) -> u64 {
        // ORD stage: Relaxed, the others stand or are dead.
        self.word(role).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Takes every lease away from whoever has it.
    pub(super) fn clear(&self) {
        for word in self.table {
            // ORD stage: Relaxed, everybody else is dead.
            word.store(Holder::Nobody as u64, Ordering::Relaxed);
        }
    }

    fn is_dead(&self, holder: u64) -> bool {
        self.dead.iter().any(|dead| *dead as u64 == holder)
    }
}

/// The role of a lane's producer.
pub(super) fn lane_role(lane: usize) -> Option<RoleId> {
    RoleId::producer(u32::try_from(lane).ok()?)
}

/// A lease; dropping it hands it back.
pub(super) struct Lease(&'static AtomicU64);

impl Drop for Lease {
    fn drop(&mut self) {
        // ORD role.proof: Release -> `Leases::acquire`; what the holder did.
        self.0.store(Holder::Nobody as u64, Ordering::Release);
    }
}

// SAFETY: a word names one holder at a time and is moved by compare-exchange; it is taken only from nobody, or from
// a holder that this process was told is dead. Every move acquires what the former holder released, and what the dead
// did is seen by the order in which the explorer runs them.
unsafe impl Liveness for Leases {
    type Lease = Lease;
    const PROVES: bool = true;
    const KIND: u32 = 0x8000_0001;

    fn acquire(&self, role: RoleId) -> Result<Lease, LeaseError> {
        let word = self.word(role).ok_or(LeaseError::System { role, errno: libc::EINVAL })?;
        // ORD own: Relaxed, the compare-exchange decides.
        let mut found = word.load(Ordering::Relaxed);
        // As often as others can come and go meanwhile: the kernel lets nobody in between.
        for _ in 0..ROUNDS {
            if found != Holder::Nobody as u64 && !self.is_dead(found) {
                break;
            }
            // ORD role.proof: AcqRel <-> `Lease::drop`; what the former holder did, and what this one will do.
            // ORD own: failure Relaxed, nothing is read behind it.
            match word.compare_exchange(found, self.me as u64, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(Lease(word)),
                Err(now) => found = now,
            }
        }
        Err(LeaseError::Held { role })
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        match self.holder(role) {
            0 => Tenancy::Vacant,
            holder if self.is_dead(holder) => Tenancy::Vacant,
            _ => Tenancy::Held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_given_once_and_that_of_a_dead_one_only_to_those_who_know() {
        let table = Box::leak(Box::default());
        let of = |me, dead| Leases { table, me, dead };
        let role = lane_role(1).unwrap();
        let first = of(Holder::First, ONLY_BEFORE);
        let lease = first.acquire(role).unwrap();
        let survivor = of(Holder::Survivor, ONLY_BEFORE);
        assert!(matches!(survivor.acquire(role), Err(LeaseError::Held { .. })));
        assert_eq!(survivor.tenancy(role), Tenancy::Held);
        assert_eq!(survivor.tenancy(RoleId::CONSUMER), Tenancy::Vacant);
        drop(lease);
        assert_eq!(survivor.tenancy(role), Tenancy::Vacant);
        #[expect(clippy::mem_forget, reason = "its holder dies")]
        std::mem::forget(first.acquire(role).unwrap());
        assert!(survivor.acquire(role).is_err());
        let knowing = of(Holder::Survivor, ALL_DEAD);
        assert_eq!(knowing.tenancy(role), Tenancy::Vacant);
        let lease = knowing.acquire(role).unwrap();
        assert_eq!(survivor.holder(role), Holder::Survivor as u64);
        drop(lease);
        assert!(lane_role(LANES).and_then(|role| survivor.acquire(role).ok()).is_none());
    }
}
