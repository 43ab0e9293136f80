//! What can be said instead of a latest value.

use std::error::Error;
use std::fmt;

use tidewire_seqlock::{Corrupt, ReadError};

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// This process is a fork child of the one that opened the writer.
    ForkedChild,
}

/// Why no value was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// In each of a thousand attempts the writer stored so often that nothing could be copied whole; the next call may
    /// succeed at once.
    Lapped,
    /// The writer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a wait for another value ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was over.
    TimedOut,
    /// There is no writer: it is gone or dead, or there was none yet, or it is just coming. What was stored last stays. One may
    /// come any time.
    WriterGone,
    /// As [`LoadError::Lapped`].
    Lapped,
    /// As [`LoadError::Corrupt`].
    Corrupt(Corrupt),
}

const LAPPED: &str =
    "expected to copy a value before the writer stored over it, and did not in a thousand attempts";

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForkedChild => {
                f.write_str("expected the process that opened this writer, found a child that it forked")
            }
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lapped => f.write_str(LAPPED),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("expected another value in time, found the same"),
            Self::WriterGone => f.write_str("expected another value, found the same and no writer"),
            Self::Lapped => f.write_str(LAPPED),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for StoreError {}
impl Error for LoadError {}
impl Error for WaitError {}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lapped => Self::Lapped,
            ReadError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<LoadError> for WaitError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Lapped => Self::Lapped,
            LoadError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<tidewire_seqlock::WaitError> for WaitError {
    fn from(error: tidewire_seqlock::WaitError) -> Self {
        match error {
            tidewire_seqlock::WaitError::TimedOut => Self::TimedOut,
            tidewire_seqlock::WaitError::WriterGone => Self::WriterGone,
            tidewire_seqlock::WaitError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}
