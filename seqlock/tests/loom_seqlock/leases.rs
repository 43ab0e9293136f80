//! Leases of a model: a flag per role, which the death of its holder clears as the kernel would.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use tidewire_shm::{LeaseError, Liveness, RoleId, Tenancy};

/// One flag for each of the writers that a model has.
#[derive(Clone)]
pub(crate) struct Leases(Arc<[AtomicU64; 2]>);

/// Dropped in order, or when its thread is killed: either way after all that the holder did.
pub(crate) struct Lease(Leases, usize);

impl Leases {
    pub(crate) fn new() -> Self {
        Self(Arc::new([AtomicU64::new(0), AtomicU64::new(0)]))
    }
}

fn index(role: RoleId) -> usize {
    (0..2).find(|index| RoleId::producer(*index) == Some(role)).unwrap() as usize
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.0[self.1].store(0, Ordering::Release);
    }
}

// SAFETY: a flag is set by one compare-exchange and cleared by its holder, or at its death, last of all.
unsafe impl Liveness for Leases {
    type Lease = Lease;
    const PROVES: bool = true;
    const KIND: u32 = 1 << 31;

    fn acquire(&self, role: RoleId) -> Result<Lease, LeaseError> {
        let flag = &self.0[index(role)];
        match flag.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Lease(self.clone(), index(role))),
            Err(_) => Err(LeaseError::Held { role }),
        }
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        if self.0[index(role)].load(Ordering::Acquire) == 0 { Tenancy::Vacant } else { Tenancy::Held }
    }
}
