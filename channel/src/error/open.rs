//! Why an end was not opened.

use std::error::Error;
use std::fmt;

use tidewire_shm::bell::BellError;
use tidewire_shm::{Incompatible, JoinError, LeaseError, SegmentError};

use crate::message::Difference;

/// Why an end was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no channel of this name, or nobody receives from it (any more).
    NotFound {
        /// The name.
        name: String,
    },
    /// Somebody has this end already.
    Taken {
        /// What was asked for.
        role: &'static str,
        /// The process that has it, as it said.
        pid: Option<u32>,
    },
    /// There are as many senders, subscribers or clients as there can be.
    Exhausted {
        /// How many that is.
        most: u32,
    },
    /// The channel carries other messages.
    Types {
        /// What differs.
        difference: Difference,
    },
    /// What lies under the name is no such channel: another pattern, another kind, or another version.
    Incompatible(Incompatible),
    /// What was chosen cannot be.
    Options {
        /// What is wrong with it.
        reason: String,
    },
    /// The memory could not be opened or created. [`SegmentError::NoSpace`] if there is not enough.
    Segment(SegmentError),
    /// A role was not given by the system.
    Lease(LeaseError),
    /// The system cannot wake sleepers the way this channel wants it.
    Bell(BellError),
    /// What was waited for did not come in time.
    TimedOut {
        /// The name.
        name: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name } => write!(f, "expected somebody at \"{name}\", found nobody"),
            Self::Taken { role, pid: Some(pid) } => write!(f, "expected no {role}, found process {pid}"),
            Self::Taken { role, pid: None } => write!(f, "expected no {role}, found one"),
            Self::Exhausted { most } => write!(f, "expected room for one more, found all {most} there"),
            Self::Types { difference } => difference.fmt(f),
            Self::Incompatible(error) => error.fmt(f),
            Self::Options { reason } => f.write_str(reason),
            Self::Segment(error) => error.fmt(f),
            Self::Lease(error) => error.fmt(f),
            Self::Bell(error) => error.fmt(f),
            Self::TimedOut { name } => write!(f, "expected somebody at \"{name}\" in time, found nobody"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Incompatible(error) => Some(error),
            Self::Segment(error) => Some(error),
            Self::Lease(error) => Some(error),
            Self::Bell(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Incompatible> for OpenError {
    fn from(error: Incompatible) -> Self {
        Self::Incompatible(error)
    }
}

impl From<SegmentError> for OpenError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::NotFound { name } => Self::NotFound { name: name.to_string() },
            error => Self::Segment(error),
        }
    }
}

impl From<BellError> for OpenError {
    fn from(error: BellError) -> Self {
        Self::Bell(error)
    }
}

impl From<JoinError> for OpenError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Segment(error) => error.into(),
            JoinError::NotAdoptable { source, .. } => Self::Incompatible(source),
            JoinError::OtherBoot { expected, found, .. } => {
                Self::Incompatible(Incompatible::new(tidewire_shm::Field::BootId, expected, found))
            }
            error => Self::Options { reason: error.to_string() },
        }
    }
}

impl From<tidewire_ring::AttachError> for OpenError {
    fn from(error: tidewire_ring::AttachError) -> Self {
        match error {
            tidewire_ring::AttachError::Incompatible(error) => error.into(),
            tidewire_ring::AttachError::RoleTaken(owner) => Self::Taken { role: "peer", pid: Some(owner.id) },
            tidewire_ring::AttachError::Lease(LeaseError::Held { .. }) => {
                Self::Taken { role: "peer", pid: None }
            }
            tidewire_ring::AttachError::Lease(error) => Self::Lease(error),
            error => Self::Options { reason: error.to_string() },
        }
    }
}

impl From<tidewire_mpsc::AttachError> for OpenError {
    fn from(error: tidewire_mpsc::AttachError) -> Self {
        match error {
            tidewire_mpsc::AttachError::Incompatible(error) => error.into(),
            tidewire_mpsc::AttachError::RoleTaken(owner) => {
                Self::Taken { role: "receiver", pid: Some(owner.id) }
            }
            tidewire_mpsc::AttachError::LanesExhausted { lanes, .. } => Self::Exhausted { most: lanes },
            tidewire_mpsc::AttachError::Lease(LeaseError::Held { .. }) => {
                Self::Taken { role: "receiver", pid: None }
            }
            tidewire_mpsc::AttachError::Lease(error) => Self::Lease(error),
            error => Self::Options { reason: error.to_string() },
        }
    }
}
