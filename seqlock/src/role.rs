//! Who holds a role of a cell: a lease that the kernel knows of, and one word that names the holder.
//!
//! # Protocol
//! The owner word is `generation << 32 | id`; an `id` of zero means free. The lease decides, the word names.
//!
//! | state | word | who may leave it | next |
//! |---|---|---|---|
//! | free | `g, 0` | whoever has the lease | `g + 1, id` |
//! | held | `g, id` | the holder, by dropping its handle, before it drops its lease | `g, 0` |
//! | held | `g, id` | whoever has a lease that *proves* that every earlier holder is gone | `g + 1, id'` |
//!
//! Leases that prove nothing ([`Unleased`](tidewire_shm::Unleased)) leave the compare-exchange of the word to decide,
//! and the role of a holder that died without dropping its handle stays taken.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `role.free` | `Role::drop` | [`claim`] | everything the former holder did |
//! | the lease | its end, seen by the kernel | [`Liveness::acquire`] | everything a dead holder did |
//!
//! # Crash argument
//! | point | killed here, the others see | repair |
//! |---|---|---|
//! | with the lease, before the compare-exchange | the former word; the lease ends with the process | none |
//! | after it | a word that names a dead holder, a lease that is free | the next one with the lease goes on |
//! | after the word is freed, before the lease is | a free word, a lease that ends with the process | none |
//!
//! The id is a hint for people (the process id where there is one); it proves nothing.

use core::fmt;

use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{LeaseError, Liveness, RoleId};

use crate::error::AttachError;

/// Who holds a role: a name for people, and how often it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The process that took the role; 1 where there are no processes, 0 if it was freed again meanwhile.
    pub id: u32,
    /// How many times the role had been taken before, plus one; wraps.
    pub generation: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} (generation {})", self.id, self.generation)
    }
}

impl Owner {
    /// Whom an owner word names, if anybody.
    pub(crate) fn of(word: &AtomicU64) -> Option<Self> {
        // ORD advice: Relaxed, the answer may be old when it arrives; claims decide by compare-exchange.
        Self::from_word(word.load(Ordering::Relaxed))
    }

    fn from_word(word: u64) -> Option<Self> {
        let owner = Self { id: low(word), generation: high(word) };
        (owner.id != 0).then_some(owner)
    }

    fn word(self) -> u64 {
        pair(self.generation, self.id)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
pub(crate) fn low(word: u64) -> u32 {
    word as u32
}

pub(crate) fn high(word: u64) -> u32 {
    low(word >> 32)
}

pub(crate) fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The id that this process writes into owner words.
fn own_id() -> u32 {
    #[cfg(all(feature = "std", not(loom)))]
    return std::process::id();
    #[cfg(not(all(feature = "std", not(loom))))]
    1
}

/// A held role: dropping it frees the word, and then the lease.
pub(crate) struct Held<G> {
    // In this order: the word is free before the lease is.
    role: Role,
    _lease: G,
}

/// A word that names us.
struct Role {
    word: Shared<AtomicU64>,
    owner: Owner,
}

/// Whether these leases prove anything about earlier holders. Leases of kind 0 are none: handles without a lease may hold
/// the roles of structures that were created for none, and nothing is proven about those.
pub(crate) const fn proves<V: Liveness>() -> bool {
    V::PROVES && V::KIND != 0
}

/// Takes the lease of a role and its word, which must be writable.
pub(crate) fn claim<V: Liveness>(
    word: Shared<AtomicU64>,
    id: RoleId,
    liveness: &V,
) -> Result<Held<V::Lease>, AttachError> {
    /// Each round that fails is one in which somebody else took the role, or a stale look at it.
    const ROUNDS: u32 = 4;
    let lease = liveness.acquire(id).map_err(|error| match (error, Owner::of(&word)) {
        (LeaseError::Held { .. }, Some(owner)) => AttachError::RoleTaken(owner),
        (error, _) => AttachError::Lease(error),
    })?;
    // ORD own: Relaxed, only the compare-exchange below decides.
    let mut found = word.load(Ordering::Relaxed);
    for _ in 0..ROUNDS {
        if let (Some(owner), false) = (Owner::from_word(found), proves::<V>()) {
            return Err(AttachError::RoleTaken(owner));
        }
        let owner = Owner { id: own_id(), generation: high(found).wrapping_add(1) };
        // ORD role.free: Acquire <- `Role::drop`; the former holder is done with the cell. What a dead one did, the
        // lease has ordered.
        // ORD own: failure Relaxed, nothing is read behind it.
        match word.compare_exchange(found, owner.word(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Ok(Held { role: Role { word, owner }, _lease: lease }),
            Err(now) => found = now,
        }
    }
    Err(AttachError::RoleTaken(Owner { id: low(found), generation: high(found) }))
}

impl<G> Held<G> {
    pub(crate) fn owner(&self) -> Owner {
        self.role.owner
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let free = Owner { id: 0, ..self.owner };
        // ORD role.free: Release -> `claim`; everything this holder did with the cell.
        // ORD own: failure Relaxed; a word that is no longer ours was scribbled by a peer and is left alone.
        let _ =
            self.word.compare_exchange(self.owner.word(), free.word(), Ordering::Release, Ordering::Relaxed);
    }
}
