//! What a log can answer instead of a value or a version.

use core::error::Error;
use core::fmt;

use crate::error::Corrupt;

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
impl Error for LogFull {}

impl From<Corrupt> for NextError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

const _: () = assert!(size_of::<NextError>() <= 16);
