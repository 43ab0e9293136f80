//! What a log can answer instead of a value or a version.

use core::error::Error;
use core::fmt;

use crate::error::{Corrupt, TooLong};

/// Why a read of a log returned no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextError {
    /// The writer has overwritten the next values before they were read. The reader goes on behind them: what it returned
    /// and what it missed, together, is all that was published from where it started to there.
    Overtaken {
        /// How many.
        missed: u64,
    },
    /// The writer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a read of a log of bytes returned no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesNextError {
    /// As [`NextError::Overtaken`].
    Overtaken {
        /// How many.
        missed: u64,
    },
    /// The value is longer than the buffer; it is still the next one.
    BufferTooSmall {
        /// Bytes of the value.
        needed: usize,
    },
    /// The writer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a value of bytes was not written to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryWriteError {
    /// There is no room.
    Full(LogFull),
    /// The value is longer than any that the log takes.
    TooLong(TooLong),
}

/// There is no room: a reader with a gate has not yet taken what would be overwritten. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFull {
    /// The gate that is furthest behind.
    pub gate: u32,
}

impl fmt::Display for NextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overtaken { missed } => {
                write!(f, "expected the next value, found that it and the rest of {missed} were overwritten")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for BytesNextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Overtaken { missed } => NextError::Overtaken { missed }.fmt(f),
            Self::BufferTooSmall { needed } => {
                write!(f, "expected a buffer for {needed} bytes, found a shorter one")
            }
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for TryWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(f),
            Self::TooLong(long) => long.fmt(f),
        }
    }
}

impl fmt::Display for LogFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected room, found that the reader of gate {} has not taken the oldest values",
            self.gate
        )
    }
}

impl Error for NextError {}
impl Error for BytesNextError {}
impl Error for TryWriteError {}
impl Error for LogFull {}

impl From<Corrupt> for NextError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

impl From<NextError> for BytesNextError {
    fn from(error: NextError) -> Self {
        match error {
            NextError::Overtaken { missed } => Self::Overtaken { missed },
            NextError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<LogFull> for TryWriteError {
    fn from(full: LogFull) -> Self {
        Self::Full(full)
    }
}

impl From<TooLong> for TryWriteError {
    fn from(long: TooLong) -> Self {
        Self::TooLong(long)
    }
}

const _: () = assert!(size_of::<NextError>() <= 16);
