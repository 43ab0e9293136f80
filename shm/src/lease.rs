//! The right to a role, and the proof that nobody has it.
//!
//! Taking over from somebody who only *seems* dead loses messages: a stopped process goes on where it was, years
//! later if need be. So every structure asks a [`Liveness`] before it gives away a role that an owner word says is
//! taken, and a [`Liveness`] may only answer from proof: a lock that the kernel released, or a lease that
//! was handed back. Time proves nothing.
//!
//! # Protocol
//! | step | who | why |
//! |---|---|---|
//! | acquire the lease of the role | whoever wants it | from here on every earlier holder is gone |
//! | compare-exchange the owner word | the same | the word names the holder; taken from a former owner, it is a take-over |
//! | free the owner word, then drop the lease | the holder, when it ends in order | the word is free before the lease is |
//!
//! Killed between two steps, the lease ends with the process and the word is left as it was: the next who acquires
//! the lease continues from there.

use core::error::Error;
use core::fmt;

use crate::region::{Origin, Region};
use crate::trust::Trust;

/// A role of one structure, as leases number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleId(u32);

impl RoleId {
    /// Whoever creates the structure or creates it anew.
    pub const CREATOR: Self = Self(0);
    /// The one consumer.
    pub const CONSUMER: Self = Self(1);
    /// Whoever removes what is left of a structure that nobody uses.
    pub const CLEANER: Self = Self(2);

    const FIRST_PRODUCER: u32 = 16;

    /// Producer or writer number `index`, from 0; `None` if there is no such number.
    #[must_use]
    pub const fn producer(index: u32) -> Option<Self> {
        match index.checked_add(Self::FIRST_PRODUCER) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number of the role: 0 creator, 1 consumer, 2 cleaner, 16 + i producer i.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for RoleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CREATOR => f.write_str("creator"),
            Self::CONSUMER => f.write_str("consumer"),
            Self::CLEANER => f.write_str("cleaner"),
            Self(number) if number >= Self::FIRST_PRODUCER => {
                write!(f, "producer {}", number - Self::FIRST_PRODUCER)
            }
            Self(number) => write!(f, "role {number}"),
        }
    }
}

/// What is known about the lease of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tenancy {
    /// Somebody holds it; running or stopped makes no difference.
    Held,
    /// At the moment of asking nobody held it: whoever had held it before is dead or has handed it back.
    Vacant,
    /// It cannot be known.
    Unknown,
}

/// Why a lease was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseError {
    /// Somebody holds it.
    Held {
        /// The role that was asked for.
        role: RoleId,
    },
    /// The system refused to answer.
    System {
        /// The role that was asked for.
        role: RoleId,
        /// The system's error number.
        errno: i32,
    },
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { role } => write!(f, "expected the lease of the {role} to be free, found it held"),
            Self::System { role, errno } => {
                write!(f, "expected a lease of the {role}, found system error {errno}")
            }
        }
    }
}

impl Error for LeaseError {}

/// Gives out leases, at most one per role at a time, and knows who is gone.
///
/// Leases of one segment prove nothing for a structure in another one: used for it, they break its mutual exclusion
/// (a latest value may be torn, a message lost or seen twice), but never the safety of memory where peers are not
/// trusted. [`covers`](Self::covers) finds out.
///
/// # Safety
/// - Safe code cannot pair it with a structure that it says nothing about. ([`KERNEL_LEASES`] of a segment are refused
///   where the memory is no segment's, and memory of a segment is trusted only by a promise that covers the rest.)
/// - If `PROVES` is true: while a lease of a role exists, no other lease of that role exists, in any process that
///   uses the same structure.
/// - If `PROVES` is true, `KIND` is not 0.
/// - A lease of such an implementation is given, and, whatever `PROVES` says, [`Tenancy::Vacant`] is answered, only if every earlier
///   holder of that role handed its lease back or will never execute another instruction, and what it wrote is
///   ordered before the answer.
pub unsafe trait Liveness {
    /// The right to a role. Dropping it hands it back; the death of its process ends it.
    type Lease: Send + 'static;

    /// Whether a lease that is given proves that every earlier holder is gone. If not, only roles that their holder
    /// freed in order can be taken.
    const PROVES: bool;

    /// What kind of liveness this is, written into structures when they are created: processes that use different
    /// kinds would prove nothing to each other. 0 says none; user-defined kinds start at 2^31.
    const KIND: u32;

    /// Takes the lease of a role, if nobody holds it. Does not wait.
    ///
    /// # Errors
    /// [`LeaseError::Held`] if somebody holds it, [`LeaseError::System`] if the system refused.
    fn acquire(&self, role: RoleId) -> Result<Self::Lease, LeaseError>;

    /// What is known about the lease of a role, without taking it.
    fn tenancy(&self, role: RoleId) -> Tenancy;

    /// Whether these leases can speak of structures in that region; asked where a role is taken, and where a
    /// [`Tenancy::Vacant`] is believed.
    ///
    /// As provided: [`KERNEL_LEASES`] do not for memory of one process, all else does for everything.
    fn covers<L: Trust>(&self, region: &Region<L>) -> bool {
        Self::KIND != KERNEL_LEASES || region.origin() != Origin::default()
    }
}

/// [`Liveness::KIND`] of the leases that the kernel holds for a segment.
///
/// They say nothing about memory that is no segment's: structures refuse them there.
pub const KERNEL_LEASES: u32 = 1;

/// No leases: nobody is ever proven dead, and a role is free only when its holder dropped its handle.
///
/// For threads of one process, where a drop always runs, and wherever there is no kernel to ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unleased;

// SAFETY: `PROVES` is false and `Vacant` is never answered; the owner words alone keep the roles apart.
unsafe impl Liveness for Unleased {
    type Lease = ();
    const PROVES: bool = false;
    const KIND: u32 = 0;

    fn acquire(&self, _role: RoleId) -> Result<(), LeaseError> {
        Ok(())
    }

    fn tenancy(&self, _role: RoleId) -> Tenancy {
        Tenancy::Unknown
    }
}
