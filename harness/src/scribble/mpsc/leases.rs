//! Leases of a process that has all handles itself.

use std::sync::atomic::{AtomicBool, Ordering};

use tidewire_shm::{LeaseError, Liveness, RoleId, Tenancy};

use super::LANES;

/// The leases of the victim's process: whoever else had a role is none that this process would believe.
pub(super) struct Own;

/// Whether a lease is out: the consumer's, then those of the lanes.
static OUT: [AtomicBool; 1 + LANES] = [const { AtomicBool::new(false) }; 1 + LANES];

fn out(role: RoleId) -> Option<&'static AtomicBool> {
    let lane = (0_u32..).zip(1..=LANES).find(|(lane, _)| RoleId::producer(*lane) == Some(role));
    OUT.get(if role == RoleId::CONSUMER { 0 } else { lane?.1 })
}

/// A lease; dropping it hands it back.
pub(super) struct Lease(&'static AtomicBool);

impl Drop for Lease {
    fn drop(&mut self) {
        // ORD role.proof: Release -> `Own::acquire`; what was done under the lease.
        self.0.store(false, Ordering::Release);
    }
}

// SAFETY: one flag per role, taken by one exchange; only this process has handles, and a handle of its own that was
// dropped is done. What the memory says about owners has no part in it.
unsafe impl Liveness for Own {
    type Lease = Lease;
    const PROVES: bool = true;
    const KIND: u32 = 0x8000_0002;

    fn acquire(&self, role: RoleId) -> Result<Lease, LeaseError> {
        let flag = out(role).ok_or(LeaseError::System { role, errno: libc::EINVAL })?;
        // ORD role.proof: Acquire <- `Lease::drop`; what was done under the former lease.
        if flag.swap(true, Ordering::Acquire) { Err(LeaseError::Held { role }) } else { Ok(Lease(flag)) }
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        match out(role) {
            // ORD role.proof: Acquire <- `Lease::drop`; what was done under the former lease.
            Some(flag) if !flag.load(Ordering::Acquire) => Tenancy::Vacant,
            Some(_) => Tenancy::Held,
            None => Tenancy::Unknown,
        }
    }
}
