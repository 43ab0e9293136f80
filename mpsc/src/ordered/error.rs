//! What an ordered queue can answer instead of a message.

use core::error::Error;
use core::fmt;

/// What a peer published that no correct peer would; it concerns the whole queue.
///
/// A handle that met it is latched: every later call that would move a message returns the same, and the handle
/// publishes nothing again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Which word was wrong.
    pub what: CorruptWord,
    /// What it said.
    pub found: u64,
}

/// The shared words that a handle of an ordered queue validates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum CorruptWord {
    /// An order word is of a lap that cannot be, names a lane that is not, or changes without an end.
    Order,
    /// The consumer's position in a producer's lane is not within one capacity behind its tail, went back, or lies off
    /// the grain.
    Head,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found;
        match self.what {
            CorruptWord::Order => {
                write!(f, "corrupt queue: expected an order word of this lap or the next, found {found:#x}")
            }
            CorruptWord::Head => {
                write!(
                    f,
                    "corrupt queue: expected a head at most one capacity behind the tail, found {found}"
                )
            }
        }
    }
}

impl Error for Corrupt {}

/// Why a push did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// There is not enough room in the lane now. The consumer may make some at any time.
    Full,
    /// So many messages never fit into one publication.
    TooMany {
        /// The most that do.
        max: u32,
    },
    /// A peer published what cannot be; final.
    Corrupt(Corrupt),
}

/// Why a pop returned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopError {
    /// There is no message now. A producer may publish one at any time.
    Empty,
    /// A peer published what cannot be; final.
    Corrupt(Corrupt),
}

/// Why a record was not pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPushError {
    /// There is not enough room in the lane now. The consumer may make some at any time.
    Full,
    /// The record can never fit into a lane.
    TooLong {
        /// The longest record that a lane takes.
        max: u32,
    },
    /// A peer published what cannot be; final.
    Corrupt(Corrupt),
}

/// Why no record was popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPopError {
    /// There is no record now. A producer may publish one at any time.
    Empty,
    /// The record is longer than the buffer; it stays where it is.
    BufferTooSmall {
        /// Bytes of the record.
        needed: u32,
    },
    /// A peer published what cannot be; final.
    Corrupt(Corrupt),
}

const _: () = assert!(size_of::<PushError>() <= 16 && size_of::<RecordPopError>() <= 16);

/// Why a lane gave no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Corrupt(Corrupt),
}

impl From<Corrupt> for Refused {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl From<Refused> for PushError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<Refused> for RecordPushError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Corrupt(corrupt) => Self::Corrupt(corrupt),
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

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the lane is full"),
            Self::TooMany { max } => {
                write!(f, "too many messages for one publication: expected at most {max}")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for RecordPushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the lane is full"),
            Self::TooLong { max } => write!(f, "the record is too long: expected at most {max} bytes"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for RecordPopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
            Self::BufferTooSmall { needed } => {
                write!(f, "the buffer is too small: the record has {needed} bytes")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for PushError {}
impl Error for PopError {}
impl Error for RecordPushError {}
impl Error for RecordPopError {}
