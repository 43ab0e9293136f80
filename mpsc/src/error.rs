//! What a queue can answer instead of a message.

use core::error::Error;
use core::fmt;

use tidewire_ring::{Corrupt, Owner};
use tidewire_shm::{Incompatible, LeaseError};

use crate::layout::MAX_LANES;

/// Why a pop returned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopError {
    /// No lane in use has a message now. A producer may publish one at any time.
    Empty,
}

/// Why no record was popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPopError {
    /// No lane in use has a record now. A producer may publish one at any time.
    Empty,
    /// The record is longer than the buffer; it stays where it is, and is the next to be popped.
    BufferTooSmall {
        /// Bytes of the record.
        needed: u32,
    },
}

impl From<PopError> for RecordPopError {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Empty => Self::Empty,
        }
    }
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
        }
    }
}

impl fmt::Display for RecordPopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => PopError::Empty.fmt(f),
            Self::BufferTooSmall { needed } => {
                write!(f, "the buffer is too small: the record has {needed} bytes")
            }
        }
    }
}

impl Error for PopError {}
impl Error for RecordPopError {}

/// A lane that was taken out of use because what is published there cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptLane {
    /// The number of the lane.
    pub lane: u32,
    /// What was found there.
    pub corrupt: Corrupt,
}

impl fmt::Display for CorruptLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lane {}: {}", self.lane, self.corrupt)
    }
}

impl Error for CorruptLane {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.corrupt)
    }
}

/// Why a queue was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// The number of lanes is not one from 1 to 256.
    Lanes {
        /// What was asked for.
        found: u32,
    },
    /// The lanes cannot be: their capacity, their element, or the region that they should lie in.
    Ring(tidewire_ring::CreateError),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lanes { found } => write!(f, "expected 1 to {MAX_LANES} lanes, found {found}"),
            Self::Ring(error) => error.fmt(f),
        }
    }
}

impl Error for CreateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ring(error) => error.source(),
            Self::Lanes { .. } => None,
        }
    }
}

impl From<tidewire_ring::CreateError> for CreateError {
    fn from(error: tidewire_ring::CreateError) -> Self {
        Self::Ring(error)
    }
}

/// Why a role was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// The bytes are not the queue that was asked for, or its processes use another kind of liveness.
    Incompatible(Incompatible),
    /// Every lane has an owner that is not known to be dead, or is out of use. In an ordered queue lanes of the dead
    /// count, too, until the consumer has reclaimed them ([`ordered::fixed::Consumer::reclaim`](crate::ordered::fixed::Consumer::reclaim)).
    LanesExhausted {
        /// Lanes of the queue.
        lanes: u32,
        /// How many of them are out of use because what is published there cannot be.
        corrupt: u32,
    },
    /// The consumer's role has an owner that is not known to be dead.
    RoleTaken(Owner),
    /// The lease of the role was not given, for another reason than that an owner holds it.
    Lease(LeaseError),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incompatible(error) => error.fmt(f),
            Self::LanesExhausted { lanes, corrupt } => {
                write!(f, "expected a free lane, found all {lanes} taken ({corrupt} of them corrupt)")
            }
            Self::RoleTaken(owner) => write!(f, "expected a free role, found it taken by {owner}"),
            Self::Lease(error) => error.fmt(f),
        }
    }
}

impl Error for AttachError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Incompatible(error) => Some(error),
            Self::Lease(error) => Some(error),
            Self::LanesExhausted { .. } | Self::RoleTaken(_) => None,
        }
    }
}

impl From<Incompatible> for AttachError {
    fn from(error: Incompatible) -> Self {
        Self::Incompatible(error)
    }
}
