//! What a cell can answer instead of a value.

use core::error::Error;
use core::fmt;

use tidewire_shm::bell::BellError;
use tidewire_shm::{Incompatible, LeaseError, RegionError};

use crate::layout::MAX_ELEMENT_BYTES;
use crate::role::Owner;

/// What a writer published that no correct writer would.
///
/// A handle that met it is latched: every later call returns the same `Corrupt`.
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
    /// The version of the latest value went back, or is beyond what could have been counted.
    Version,
    /// The slot that the latest version stands in says, again and again, that it holds another one.
    Stamp,
    /// The length of a byte value is beyond the longest that the cell takes.
    Length,
    /// The lock of a cell with many writers names a writer that there is not.
    Lock,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found;
        match self.what {
            CorruptWord::Version => {
                write!(f, "corrupt cell: expected a version that never goes back, found {found}")
            }
            CorruptWord::Stamp => {
                write!(f, "corrupt cell: expected the slot of version {found} to hold it, found another")
            }
            CorruptWord::Length => {
                write!(f, "corrupt cell: expected a value of at most the cell's length, found {found} bytes")
            }
            CorruptWord::Lock => {
                write!(f, "corrupt cell: expected a lock held by one of its writers, found {found:#x}")
            }
        }
    }
}

impl Error for Corrupt {}

/// Why a read returned no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Each attempt took as long as the writer took to write every other slot; the next call may succeed at once.
    Lapped,
    /// The writer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a byte value was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesReadError {
    /// As [`ReadError::Lapped`].
    Lapped,
    /// The value is longer than the buffer.
    BufferTooSmall {
        /// Bytes of the value.
        needed: usize,
    },
    /// The writer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a wait ended without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The time was over, and the latest version was still the same.
    TimedOut,
    /// The latest version is still the same, and when this was asked nobody held the lease of the writer: it died, it
    /// ended in order, or there was none yet. One may come any time.
    WriterGone,
    /// The writer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a byte value was not changed; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// The value has become longer than any that the cell takes.
    TooLong(TooLong),
    /// The length of the latest value cannot be: a peer has overwritten it.
    Corrupt(Corrupt),
}

/// Why one of many writers did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// This writer did not get the lock: another one had it whenever it looked, and none of them is proven gone. Nothing
    /// was written.
    Busy {
        /// The number of the writer that was last seen with the lock; 0, too, if each was done before it could be seen.
        writer: u32,
    },
    /// The lock or the version cannot be; final.
    Corrupt(Corrupt),
}

/// The value is longer than any that the cell takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// The longest value.
    pub max: usize,
    /// Bytes of this one.
    pub found: usize,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lapped => f.write_str(LAPPED),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

const LAPPED: &str = "expected to copy the value before the writer came round to its slot again, and did not";

impl fmt::Display for BytesReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lapped => f.write_str(LAPPED),
            Self::BufferTooSmall { needed } => {
                write!(f, "the buffer is too small: the value has {needed} bytes")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("expected another version, found the same when the time was over"),
            Self::WriterGone => f.write_str("expected another version, found the same and no writer"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(error) => error.fmt(f),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { writer } => {
                write!(f, "expected to get the lock, found it held, last by writer {writer}")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value is too long: expected at most {} bytes, found {}", self.max, self.found)
    }
}

impl Error for ReadError {}
impl Error for BytesReadError {}
impl Error for WaitError {}
impl Error for UpdateError {}
impl Error for WriteError {}
impl Error for TooLong {}

impl From<ReadError> for BytesReadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lapped => Self::Lapped,
            ReadError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<Corrupt> for ReadError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl From<Corrupt> for BytesReadError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl From<Corrupt> for WaitError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl From<TooLong> for UpdateError {
    fn from(error: TooLong) -> Self {
        Self::TooLong(error)
    }
}

impl From<Corrupt> for WriteError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

const _: () = assert!(size_of::<ReadError>() <= 16 && size_of::<WriteError>() <= 16);
const _: () = assert!(size_of::<WaitError>() <= 16);

/// Why a cell was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateError {
    /// The number of slots is not a power of two within the allowed range.
    Slots {
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
        /// What was asked for.
        found: u32,
    },
    /// There are no cells or no writers, or too many.
    Count {
        /// What was to be counted.
        what: &'static str,
        /// The most.
        max: u32,
        /// What was asked for.
        found: u32,
    },
    /// The value is empty, larger than 2 GiB (128 MiB with 32-bit addresses), or aligned to more than a line.
    Element {
        /// Bytes of the value.
        bytes: usize,
        /// Alignment of the value.
        align: usize,
    },
    /// All of it together is larger than an address space.
    TooLarge,
    /// The initial value is longer than the cell takes.
    Initial(TooLong),
    /// The region is shorter than the structure.
    RegionTooSmall {
        /// Bytes that it needs.
        needed: usize,
        /// Bytes of the region.
        found: usize,
    },
    /// The region could not be made, or cannot be written.
    Region(RegionError),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { min, max, found } => {
                write!(
                    f,
                    "expected a number of slots that is a power of two from {min} to {max}, found {found}"
                )
            }
            Self::Count { what, max, found } => write!(f, "expected 1 to {max} {what}, found {found}"),
            Self::Element { bytes, align } => write!(
                f,
                "expected a value of 1 byte to {MAX_ELEMENT_BYTES} bytes aligned to at most 128, found {bytes} bytes aligned to {align}"
            ),
            Self::TooLarge => {
                f.write_str("expected a structure that fits into the address space, found a larger one")
            }
            Self::Initial(error) => error.fmt(f),
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
            Self::Initial(error) => Some(error),
            _ => None,
        }
    }
}

impl From<RegionError> for CreateError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

/// Why a cell was not opened or a role not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// The bytes are not the structure that was asked for, or it counts on another kind of leases.
    Incompatible(Incompatible),
    /// The memory cannot be written, and the role writes.
    Region(RegionError),
    /// The role has an owner.
    RoleTaken(Owner),
    /// The lease of the role was not given.
    Lease(LeaseError),
    /// All writers of a cell with many writers are taken.
    WritersExhausted {
        /// How many there are.
        writers: u32,
    },
    /// All gates of a log are taken, or it has none.
    GatesExhausted {
        /// How many there are.
        gates: u32,
    },
    /// There is no cell with that number.
    NoCell {
        /// The number.
        index: u32,
        /// How many cells there are.
        cells: u32,
    },
    /// What is published cannot be.
    Corrupt(Corrupt),
    /// The writer would have to wake readers, and there is no system here to ask for that: take the role with a kernel
    /// of your own.
    NoKernel,
    /// The writer would have to wake readers, and cannot.
    Bell(BellError),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incompatible(error) => error.fmt(f),
            Self::Region(error) => error.fmt(f),
            Self::RoleTaken(owner) => write!(f, "expected a free role, found it taken by {owner}"),
            Self::Lease(error) => error.fmt(f),
            Self::WritersExhausted { writers } => {
                write!(f, "expected one of {writers} writers to be free, found all of them taken")
            }
            Self::GatesExhausted { gates } => {
                write!(f, "expected one of {gates} gates to be free, found none")
            }
            Self::NoCell { index, cells } => {
                write!(f, "expected a cell number below {cells}, found {index}")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::NoKernel => {
                f.write_str("expected a kernel to wake readers by, found none in this build of the library")
            }
            Self::Bell(error) => error.fmt(f),
        }
    }
}

impl Error for AttachError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Incompatible(error) => Some(error),
            Self::Region(error) => Some(error),
            Self::Lease(error) => Some(error),
            Self::Corrupt(error) => Some(error),
            Self::Bell(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Incompatible> for AttachError {
    fn from(error: Incompatible) -> Self {
        Self::Incompatible(error)
    }
}

impl From<RegionError> for AttachError {
    fn from(error: RegionError) -> Self {
        Self::Region(error)
    }
}

impl From<Corrupt> for AttachError {
    fn from(error: Corrupt) -> Self {
        Self::Corrupt(error)
    }
}

impl From<BellError> for AttachError {
    fn from(error: BellError) -> Self {
        Self::Bell(error)
    }
}
