//! Who holds a role of a ring: one word per role, claimed by one compare-exchange.
//!
//! # Protocol
//! The owner word is `generation << 32 | id`; an `id` of zero means free.
//!
//! | state | word | who may leave it | next |
//! |---|---|---|---|
//! | free | `g, 0` | anybody who wants the role | `g + 1, id` |
//! | held | `g, id` | the holder, by dropping its handle | `g, 0` |
//! | held | `g, id` | whoever *proved* that the holder is dead | `g + 1, id'` |
//!
//! Every edge is one compare-exchange from the exact word, so of two that try, one wins, and a proof about one
//! generation cannot take the role from the next.
//!
//! In a ring that was made for leases ([`Liveness`]) a role is taken with its lease and no other way, and the lease is
//! the proof:
//!
//! | step | who | why |
//! |---|---|---|
//! | acquire the lease of the role | whoever wants it | from here on every earlier holder is gone |
//! | move the word, whatever it says, to our name | the same | free, or held by somebody who is dead |
//! | start at the published position | the same | what the former holder had published |
//! | free the word | the holder, when it drops its handle | |
//! | hand the lease back | the same | last, so that whoever has the lease finds the word as it will stay |
//!
//! # Invariants
//! - L1: in a ring made for leases of a kind that proves, a role is held by at most one handle that has not ended its
//!   work, in all processes: each has the role's lease, and nobody gets the role without one.
//! - L2: whoever has the lease is the only one that moves the word.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `role.free` | [`Role::drop`] | [`Role::claim`] | everything the former holder did |
//! | `role.proof` | the death itself, seen by the kernel | [`Role::replace`] | everything the dead holder did |
//! | `role.proof` | a lease handed back, or ended by a death | the lease that [`Tenure::leased`] acquires | all that any former holder did |
//!
//! # Crash argument
//! | point | killed here, the others see | repair |
//! |---|---|---|
//! | before the compare-exchange | the former state | none |
//! | after it | held by a dead process | proof of death, then [`Role::replace`] |
//! | before the store of a drop | held by a dead process | the same |
//!
//! With leases, where the death is what ends the lease:
//!
//! | point | killed here, the others see | repair |
//! |---|---|---|
//! | before the lease | the former state | none |
//! | with the lease, before the compare-exchange | the former state, no lease | none |
//! | after it, or anywhere in the work | held by a dead process, no lease | the next who has the lease takes the word over |
//! | in a drop, before the word is freed | the same | the same |
//! | in a drop, after it | free, no lease | none |
//!
//! Stopped instead of killed, it keeps its lease, and nobody takes anything from it.
//!
//! Creating a ring anew starts the generations anew: a proof holds for the ring it was made about.
//!
//! The id is a hint for people (the process id where there is one); it proves nothing.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use core::fmt;

use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
#[cfg(feature = "alloc")]
use tidewire_shm::{Field, Incompatible, LeaseError, Liveness};
use tidewire_shm::{Region, RoleId, Trust};

use crate::error::AttachError;
use crate::layout::{Layout, Side};

/// Who holds a role: a name for people, and the generation that a take-over must name.
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
    /// The owner that a word names, if any.
    #[doc(hidden)]
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        let owner = Self { id: low(word), generation: high(word) };
        (owner.id != 0).then_some(owner)
    }

    /// The word that names this owner.
    #[doc(hidden)]
    #[must_use]
    pub fn word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.id)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    low(word >> 32)
}

/// The id that this process writes into owner words.
#[must_use]
pub fn own_id() -> u32 {
    #[cfg(all(feature = "std", not(loom)))]
    return std::process::id();
    #[cfg(not(all(feature = "std", not(loom))))]
    1
}

/// A held role; dropping it frees the role.
#[derive(Debug)]
pub struct Role {
    word: Shared<AtomicU64>,
    owner: Owner,
}

impl Role {
    /// Who holds the role now.
    pub fn owner_of(word: &AtomicU64) -> Option<Owner> {
        // ORD advice: Relaxed, the answer may be old when it arrives; claims decide by compare-exchange.
        Owner::from_word(word.load(Ordering::Relaxed))
    }

    /// Takes a free role.
    ///
    /// Each round that fails is one in which somebody else took the role; a peer that keeps taking and freeing it
    /// could make us go on for ever, so the rounds are bounded.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if it is not free.
    pub fn claim(word: Shared<AtomicU64>) -> Result<Self, AttachError> {
        const ROUNDS: u32 = 4;
        // ORD own: Relaxed, only the compare-exchange below decides.
        let mut found = word.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            if let Some(owner) = Owner::from_word(found) {
                return Err(AttachError::RoleTaken(owner));
            }
            let owner = Owner { id: own_id(), generation: high(found).wrapping_add(1) };
            // ORD role.free: Acquire <- `Role::drop`; the former holder is done with the role's memory.
            // ORD own: failure Relaxed, nothing is read behind it.
            match word.compare_exchange(found, owner.word(), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(Self { word, owner }),
                Err(now) => found = now,
            }
        }
        Err(AttachError::RoleTaken(Owner { id: low(found), generation: high(found) }))
    }

    /// Takes the role of a holder that is proven dead.
    ///
    /// # Errors
    /// [`AttachError::OwnerChanged`] if somebody else holds it, or nobody.
    pub fn replace(word: Shared<AtomicU64>, dead: Owner) -> Result<Self, AttachError> {
        if dead.id == 0 {
            // The word of a free role: nobody who could have died.
            return Err(AttachError::OwnerChanged { expected: dead, found: Self::owner_of(&word) });
        }
        let owner = Owner { id: own_id(), generation: dead.generation.wrapping_add(1) };
        // ORD role.proof: Relaxed, the proof of death already ordered everything the dead holder did before this.
        // ORD own: failure Relaxed, nothing is read behind it.
        match word.compare_exchange(dead.word(), owner.word(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(Self { word, owner }),
            Err(now) => Err(AttachError::OwnerChanged { expected: dead, found: Owner::from_word(now) }),
        }
    }

    /// The role whose word was made to say `owner` by the caller, or under whose own rules it is the caller's.
    ///
    /// # Safety
    /// The word says `owner`, and it is the caller who holds the role by it; the region is alive as long as the result.
    #[must_use]
    pub unsafe fn held(word: Shared<AtomicU64>, owner: Owner) -> Self {
        Self { word, owner }
    }

    /// Who holds it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let free = Owner { id: 0, ..self.owner };
        // ORD role.free: Release -> `Role::claim`; everything this holder did with the role's memory.
        // ORD own: failure Relaxed; a word that is no longer ours was scribbled by a peer and is left alone.
        let _ =
            self.word.compare_exchange(self.owner.word(), free.word(), Ordering::Release, Ordering::Relaxed);
    }
}

/// A lease of some liveness; what kind does not matter to whoever only keeps it.
#[cfg(feature = "alloc")]
type Lease = Box<dyn Send>;

/// A held role of a ring and the right to it, if there is one; dropping it frees the word first and hands the lease
/// back last.
pub(crate) struct Tenure {
    // The order is the protocol.
    role: Role,
    #[cfg(feature = "alloc")]
    _lease: Option<Lease>,
}

impl Tenure {
    /// Takes a free role of a ring that knows no leases.
    pub(crate) fn free<L: Trust>(
        region: &Region<L>,
        layout: &Layout,
        side: Side,
    ) -> Result<Self, AttachError> {
        unleased(layout, side)?;
        layout.require_writable(region, side)?;
        Role::claim(owner_word(region, layout, side)).map(Self::without_lease)
    }

    /// Takes the role of a holder that the caller proved dead, in a ring that knows no leases.
    pub(crate) fn of_dead<L: Trust>(
        region: &Region<L>,
        layout: &Layout,
        side: Side,
        dead: Owner,
    ) -> Result<Self, AttachError> {
        unleased(layout, side)?;
        layout.require_writable(region, side)?;
        Role::replace(owner_word(region, layout, side), dead).map(Self::without_lease)
    }

    fn without_lease(role: Role) -> Self {
        Self {
            role,
            #[cfg(feature = "alloc")]
            _lease: None,
        }
    }

    /// Acquires the lease of a role, then takes the role, free or from an owner that the lease proves dead.
    #[cfg(feature = "alloc")]
    pub(crate) fn leased<V: Liveness, L: Trust>(
        region: &Region<L>,
        layout: &Layout,
        side: Side,
        liveness: &V,
    ) -> Result<Self, AttachError> {
        // Leases of kind 0 are none: handles without a lease may hold the roles, and nothing is proven about them.
        let proves = V::PROVES && V::KIND != 0;
        same_liveness(region, layout, liveness)?;
        layout.require_writable(region, side)?;
        let word = owner_word(region, layout, side);
        let lease =
            liveness.acquire(role_id(side)).map_err(|error| match (error, Role::owner_of(&word)) {
                (LeaseError::Held { .. }, Some(owner)) => AttachError::RoleTaken(owner),
                _ => AttachError::Lease(error),
            })?;
        let role = match Role::owner_of(&word) {
            // The lease is the proof: every earlier holder is gone.
            Some(dead) if proves => Role::replace(word, dead),
            _ => Role::claim(word),
        };
        Ok(Self { role: role?, _lease: Some(Box::new(lease)) })
    }

    /// Who holds it.
    pub(crate) fn owner(&self) -> Owner {
        self.role.owner()
    }
}

/// Who holds a role of a ring now.
pub(crate) fn owner<L: Trust>(region: &Region<L>, layout: &Layout, side: Side) -> Option<Owner> {
    Role::owner_of(&owner_word(region, layout, side))
}

fn owner_word<L: Trust>(region: &Region<L>, layout: &Layout, side: Side) -> Shared<AtomicU64> {
    // SAFETY: an owner word of a validated layout; handles that keep it keep the region, too.
    unsafe { region.atomic_u64(layout.owner(side)) }
}

/// The number of a role among the leases of a ring.
pub(crate) const fn role_id(side: Side) -> RoleId {
    const PRODUCER: RoleId = match RoleId::producer(0) {
        Some(role) => role,
        None => panic!("there is a first producer"),
    };
    match side {
        Side::Producer => PRODUCER,
        Side::Consumer => RoleId::CONSUMER,
    }
}

/// Roles of this ring are taken without leases.
fn unleased(layout: &Layout, side: Side) -> Result<(), AttachError> {
    match layout.liveness {
        0 => Ok(()),
        liveness => Err(AttachError::LeaseRequired { role: role_id(side), liveness }),
    }
}

/// These are the leases that the ring was made for, and speak of its memory.
#[cfg(feature = "alloc")]
fn same_liveness<V: Liveness, L: Trust>(
    region: &Region<L>,
    layout: &Layout,
    liveness: &V,
) -> Result<(), Incompatible> {
    let (expected, found) = (u64::from(V::KIND), layout.liveness);
    // The leases of another segment prove nothing about this memory.
    let foreign = !liveness.covers(region);
    if expected == found && !foreign {
        Ok(())
    } else {
        Err(Incompatible::new(Field::Liveness, expected, if foreign { 0 } else { found }))
    }
}
