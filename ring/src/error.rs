//! What a ring can answer instead of a message.

use core::error::Error;
use core::fmt;

use tidewire_shm::{Incompatible, LeaseError, RegionError, RoleId};

use crate::layout::MAX_ELEMENT_BYTES;
use crate::role::Owner;

/// What a peer published that no correct peer would.
///
/// A handle that met it is latched: every later call that would move a message returns the same `Corrupt`, and the
/// handle publishes nothing again. Calls that move nothing (an empty slice, more than was reserved) may answer as
/// they always do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Which word was wrong.
    pub what: CorruptWord,
    /// What it said.
    pub found: u64,
}

/// The shared words that a handle validates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum CorruptWord {
    /// The consumer's position is not within one capacity behind the producer's, went back, or lies off the grain.
    Head,
    /// The producer's position is not within one capacity ahead of the consumer's, went back, or lies off the grain.
    /// At attach: the two positions do not fit each other.
    Tail,
    /// The header of a byte record says a length or a kind that cannot stand there.
    Record,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found;
        match self.what {
            CorruptWord::Head => {
                write!(f, "corrupt ring: expected a head at most one capacity behind the tail, found {found}")
            }
            CorruptWord::Tail => {
                write!(
                    f,
                    "corrupt ring: expected a tail at most one capacity ahead of the head, found {found}"
                )
            }
            CorruptWord::Record => {
                write!(
                    f,
                    "corrupt ring: expected a record within the published bytes, found header {found:#x}"
                )
            }
        }
    }
}

impl Error for Corrupt {}

/// Why a push did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// There is not enough room now. The consumer may make some at any time; for more messages than the capacity it
    /// never can.
    Full,
    /// The consumer published a position that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a pop returned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopError {
    /// There is no message now. The producer may publish one at any time.
    Empty,
    /// The producer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a record was not pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPushError {
    /// There is not enough room now. The consumer may make some at any time.
    Full,
    /// The record can never fit into this ring.
    TooLong {
        /// The longest record that this ring takes.
        max: u32,
    },
    /// The consumer published a position that cannot be; final.
    Corrupt(Corrupt),
}

/// Why no record was popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPopError {
    /// There is no record now. The producer may publish one at any time.
    Empty,
    /// The record is longer than the buffer; it stays where it is.
    BufferTooSmall {
        /// Bytes of the record.
        needed: u32,
    },
    /// The producer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// More was committed or released than was reserved or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// What there was.
    pub available: usize,
    /// What was asked for.
    pub asked: usize,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the ring is empty"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for RecordPushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::TooLong { max } => write!(f, "the record is too long: expected at most {max} bytes"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for RecordPopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the ring is empty"),
            Self::BufferTooSmall { needed } => {
                write!(f, "the buffer is too small: the record has {needed} bytes")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected at most {}, found {}", self.available, self.asked)
    }
}

impl Error for PushError {}
impl Error for PopError {}
impl Error for RecordPushError {}
impl Error for RecordPopError {}
impl Error for TooMany {}

impl From<PushError> for RecordPushError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full => Self::Full,
            PushError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<PopError> for RecordPopError {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Empty => Self::Empty,
            PopError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

const _: () = assert!(size_of::<PushError>() <= 16 && size_of::<RecordPopError>() <= 16);

/// Why a ring was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// The capacity is not a power of two within the allowed range, which depends on the element and the address size.
    Capacity {
        /// The smallest capacity.
        min: usize,
        /// The largest capacity.
        max: usize,
        /// What was asked for.
        found: usize,
    },
    /// The element is empty, larger than 2 GiB (128 MiB with 32-bit addresses), or aligned to more than a line.
    Element {
        /// Bytes of one element.
        bytes: usize,
        /// Alignment of one element.
        align: usize,
    },
    /// The region is shorter than the ring.
    RegionTooSmall {
        /// Bytes that the ring needs.
        needed: usize,
        /// Bytes of the region.
        found: usize,
    },
    /// The region could not be made.
    Region(RegionError),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity { min, max, found } => {
                write!(f, "expected a capacity that is a power of two from {min} to {max}, found {found}")
            }
            Self::Element { bytes, align } => write!(
                f,
                "expected an element of 1 byte to {MAX_ELEMENT_BYTES} bytes aligned to at most 128, found {bytes} bytes aligned to {align}"
            ),
            Self::RegionTooSmall { needed, found } => {
                write!(f, "expected a region of at least {needed} bytes, found {found}")
            }
            Self::Region(error) => error.fmt(f),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Region(error) => Some(error),
            _ => None,
        }
    }
}

impl From<RegionError> for CreateError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

/// Why a role was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// The bytes are not the ring that was asked for, or its processes use another kind of leases.
    Incompatible(Incompatible),
    /// The role has an owner; where roles are taken by leases, one that is not proven dead.
    RoleTaken(Owner),
    /// The ring was made for leases, and the role was to be taken without: that would break the proof for those who
    /// take it with one. Call `producer_with` or `consumer_with`.
    LeaseRequired {
        /// The role.
        role: RoleId,
        /// The kind of leases that the ring was made for ([`Liveness::KIND`](tidewire_shm::Liveness::KIND)).
        liveness: u64,
    },
    /// The lease of the role was not given, for another reason than that an owner holds it.
    Lease(LeaseError),
    /// The owner to be replaced is not the owner.
    OwnerChanged {
        /// Who was proven dead.
        expected: Owner,
        /// Who holds the role, if anybody.
        found: Option<Owner>,
    },
    /// The published positions cannot be.
    Corrupt(Corrupt),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incompatible(error) => error.fmt(f),
            Self::RoleTaken(owner) => write!(f, "expected a free role, found it taken by {owner}"),
            Self::LeaseRequired { role, liveness } => {
                let (role, call) = match *role {
                    RoleId::CONSUMER => ("consumer", "consumer_with"),
                    _ => ("producer", "producer_with"),
                };
                write!(
                    f,
                    "expected the {role}'s role to be taken by {call} with a lease of kind {liveness}, found no lease"
                )
            }
            Self::Lease(error) => error.fmt(f),
            Self::OwnerChanged { expected, found: Some(found) } => {
                write!(f, "expected the role to be held by {expected}, found {found}")
            }
            Self::OwnerChanged { expected, found: None } => {
                write!(f, "expected the role to be held by {expected}, found it free")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for AttachError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Incompatible(error) => Some(error),
            Self::Lease(error) => Some(error),
            Self::Corrupt(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Incompatible> for AttachError {
    fn from(error: Incompatible) -> Self {
        Self::Incompatible(error)
    }
}

impl From<Corrupt> for AttachError {
    fn from(error: Corrupt) -> Self {
        Self::Corrupt(error)
    }
}
