//! What can go wrong with a bell.

use core::error::Error;
use core::fmt;

use super::{BELL_BYTES, BellForm};

/// Why a bell could not be created, opened or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BellError {
    /// There is no room for a bell at this offset.
    Place {
        /// The offset.
        offset: usize,
        /// Bytes of the region.
        len: usize,
    },
    /// The flag would have to be written, in memory that can only be read.
    ReadOnly,
    /// There is no bell of a kind that this version knows.
    Kind {
        /// What stands where the kind of a bell should.
        found: u32,
    },
    /// The bell is of another form.
    Form {
        /// The form that the call is for.
        expected: BellForm,
        /// The form of the bell.
        found: BellForm,
    },
    /// The bell is in membarrier mode, and this process cannot take part. Create the structure in fence mode where
    /// such processes use it.
    Membarrier {
        /// The system's error number; 0 if it gave none.
        errno: i32,
    },
    /// A descriptor that is no eventfd was given to a ringer.
    NotAnEventfd,
    /// Any other answer of the system.
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's error number.
        errno: i32,
    },
}

impl fmt::Display for BellError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { offset, len } => {
                write!(f, "expected {BELL_BYTES} aligned bytes for a bell, found offset {offset} of {len}")
            }
            Self::ReadOnly => f.write_str("expected a bell that can be written, found it read-only"),
            Self::Kind { found } => write!(f, "expected the kind of a bell, found {found:#010x}"),
            Self::Form { expected, found } => {
                write!(f, "expected a bell of form {expected:?}, found {found:?}")
            }
            Self::Membarrier { errno } => {
                write!(
                    f,
                    "expected a process that can register for membarrier, which this bell needs, \
                     found system error {errno}"
                )
            }
            Self::NotAnEventfd => f.write_str("expected an eventfd, found another descriptor"),
            Self::System { operation, errno } => write!(f, "failed to {operation}: system error {errno}"),
        }
    }
}

impl Error for BellError {}
