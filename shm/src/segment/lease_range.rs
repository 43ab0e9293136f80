//! Leases of one of several structures in a segment.
//!
//! The roles of a structure are numbered as if it were alone in its segment: a ring has a consumer and producer 0, whatever
//! else lies there. Where a segment holds several, each gets numbers of its own: role `r` of a structure whose range begins at
//! `first` is the segment's producer `first + r`.

use core::fmt;

use super::lease::{SegmentLease, SegmentLeases};
use crate::lease::{LeaseError, Liveness, RoleId, Tenancy};
use crate::region::Region;
use crate::trust::Trust;

/// Leases that the kernel holds for one of several structures in a segment: see [`SegmentLeases::range`].
#[derive(Clone, Copy)]
pub struct LeaseRange<'s> {
    leases: &'s SegmentLeases,
    first: u32,
}

impl SegmentLeases {
    /// The leases of a structure that shares its segment with others: its role number `r` is [producer](RoleId::producer)
    /// `first + r` of the segment. Ranges of two structures that are used at a time lie apart, and all processes use the
    /// same one for the same structure; the number of the last role of a structure of `n` producers is `n + 15`.
    ///
    /// # Guarantees
    /// Those of the [leases of a segment](SegmentLeases). A structure that was made for ranges
    /// ([`KIND`](Liveness::KIND)) refuses plain leases, and the other way round. Two ranges that overlap, or two ranges for
    /// one structure, are as leases of another segment: they break mutual exclusion, never the safety of memory where peers
    /// are not trusted; where they are, that all use the same range is part of the promise.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Liveness, RoleId, Segment, Tenancy};
    ///
    /// let leases = Segment::anonymous(4096)?.leases()?;
    /// let (first, second) = (leases.range(1000), leases.range(1032));
    /// let consumer = first.acquire(RoleId::CONSUMER)?;
    /// assert!(first.acquire(RoleId::CONSUMER).is_err());
    /// assert_eq!(second.tenancy(RoleId::CONSUMER), Tenancy::Vacant);
    /// assert_eq!(leases.tenancy(RoleId::CONSUMER), Tenancy::Vacant);
    /// # drop(consumer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn range(&self, first: u32) -> LeaseRange<'_> {
        LeaseRange { leases: self, first }
    }
}

impl LeaseRange<'_> {
    /// The role of the segment that stands for a role of the structure.
    fn of(&self, role: RoleId) -> Option<RoleId> {
        self.first.checked_add(role.number()).and_then(RoleId::producer)
    }
}

// SAFETY: as that of the segment's leases, which this asks under other numbers: no two roles of a range have the same one,
// and whoever uses the structure uses its range. Structures made for another kind of leases refuse these.
unsafe impl Liveness for LeaseRange<'_> {
    type Lease = SegmentLease;
    const PROVES: bool = true;
    const KIND: u32 = 2;

    fn acquire(&self, role: RoleId) -> Result<SegmentLease, LeaseError> {
        // A number that there is not: as what the system says of an offset that it cannot lock.
        const EINVAL: i32 = 22;
        let Some(asked) = self.of(role) else { return Err(LeaseError::System { role, errno: EINVAL }) };
        self.leases.acquire(asked).map_err(|error| match error {
            LeaseError::Held { .. } => LeaseError::Held { role },
            LeaseError::System { errno, .. } => LeaseError::System { role, errno },
        })
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        self.of(role).map_or(Tenancy::Unknown, |role| self.leases.tenancy(role))
    }

    fn covers<L: Trust>(&self, region: &Region<L>) -> bool {
        self.leases.covers(region)
    }
}

impl fmt::Debug for LeaseRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseRange").field("first", &self.first).finish_non_exhaustive()
    }
}
