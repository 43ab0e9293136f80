//! A kernel for models: who holds which lease.

use std::sync::{Arc, Mutex};

use loom::sync::atomic::{AtomicU64, Ordering};
use tidewire_shm::{LeaseError, Liveness, RoleId, Tenancy};

/// Roles of a ring: the consumer, the producer.
const ROLES: usize = 2;

/// Leases of one ring.
#[derive(Clone, Debug)]
pub(crate) struct Leases(Arc<Table>);

#[derive(Debug)]
struct Table {
    held: [AtomicU64; ROLES],
    /// What the end of a lease releases.
    end: Ordering,
    /// Roles whose holder is being killed: the kernel ends the lease when the death is complete.
    dying: Mutex<Vec<usize>>,
}

/// A held lease.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Leases,
    role: usize,
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self::that_end(Ordering::Release)
    }

    /// Leases whose end orders nothing: a mistake.
    pub(crate) fn that_order_nothing() -> Self {
        Self::that_end(Ordering::Relaxed)
    }

    fn that_end(end: Ordering) -> Self {
        let held = std::array::from_fn(|_| AtomicU64::new(0));
        Self(Arc::new(Table { held, end, dying: Mutex::default() }))
    }

    /// What the kernel does when a process is gone: all that it held ends, after its last instruction.
    pub(crate) fn bury(&self) {
        for role in std::mem::take(&mut *self.0.dying.lock().unwrap()) {
            self.end(role);
        }
    }

    fn end(&self, role: usize) {
        self.0.held[role].store(0, self.0.end);
    }
}

fn index(role: RoleId) -> usize {
    if role == RoleId::CONSUMER { 0 } else { role.number() as usize - 15 }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leases.0.dying.lock().unwrap().push(self.role);
        } else {
            self.leases.end(self.role);
        }
    }
}

// SAFETY: one flag per role, moved by compare-exchange; it falls only when the holder dropped the lease, which is after
// all that it did with the role, or when `bury` is called, after its death. (Leases that order nothing break the last
// rule, and models must report what follows.)
unsafe impl Liveness for Leases {
    type Lease = Lease;
    const PROVES: bool = true;
    const KIND: u32 = 1 << 31;

    fn acquire(&self, role: RoleId) -> Result<Lease, LeaseError> {
        let at = index(role);
        match self.0.held[at].compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Lease { leases: self.clone(), role: at }),
            Err(_) => Err(LeaseError::Held { role }),
        }
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        match self.0.held[index(role)].load(Ordering::Acquire) {
            0 => Tenancy::Vacant,
            _ => Tenancy::Held,
        }
    }
}

/// A liveness that lies: everybody is dead at any time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Liar;

// SAFETY: none, and that is its purpose: the models must report what follows.
unsafe impl Liveness for Liar {
    type Lease = ();
    const PROVES: bool = true;
    const KIND: u32 = (1 << 31) + 1;

    fn acquire(&self, _role: RoleId) -> Result<(), LeaseError> {
        Ok(())
    }

    fn tenancy(&self, _role: RoleId) -> Tenancy {
        Tenancy::Vacant
    }
}
