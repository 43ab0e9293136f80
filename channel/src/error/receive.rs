//! Why no message was received.

use std::error::Error;
use std::fmt;

use super::{Corrupt, FORKED};

const DISCONNECTED: &str = "expected a message, found no sender any more";

fn too_small(needed: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "expected a buffer for {needed} bytes, found a shorter one")
}

/// Why no message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// There is none now.
    Empty,
    /// There is none, and whoever had sent is gone; all that they sent has been received. A sender that comes later ends
    /// this.
    Disconnected,
    /// A sender published something that cannot be. Said once for each of several senders, for good if there is one.
    Corrupt(Corrupt),
    /// This process is a fork child of the one that opened this end.
    ForkedChild,
    /// The message is longer than the buffer; it is the next to be received.
    BufferTooSmall {
        /// Its bytes.
        needed: usize,
    },
}

/// Why no message was received, after a wait without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// As [`TryRecvError::Disconnected`].
    Disconnected,
    /// As [`TryRecvError::Corrupt`].
    Corrupt(Corrupt),
    /// As [`TryRecvError::ForkedChild`].
    ForkedChild,
    /// As [`TryRecvError::BufferTooSmall`].
    BufferTooSmall {
        /// Its bytes.
        needed: usize,
    },
}

/// Why no message was received in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// There was none in all that time.
    Timeout,
    /// As [`TryRecvError::Disconnected`].
    Disconnected,
    /// As [`TryRecvError::Corrupt`].
    Corrupt(Corrupt),
    /// As [`TryRecvError::ForkedChild`].
    ForkedChild,
    /// As [`TryRecvError::BufferTooSmall`].
    BufferTooSmall {
        /// Its bytes.
        needed: usize,
    },
}

impl From<RecvError> for TryRecvError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => Self::Disconnected,
            RecvError::Corrupt(corrupt) => Self::Corrupt(corrupt),
            RecvError::ForkedChild => Self::ForkedChild,
            RecvError::BufferTooSmall { needed } => Self::BufferTooSmall { needed },
        }
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => Self::Disconnected,
            RecvError::Corrupt(corrupt) => Self::Corrupt(corrupt),
            RecvError::ForkedChild => Self::ForkedChild,
            RecvError::BufferTooSmall { needed } => Self::BufferTooSmall { needed },
        }
    }
}

impl RecvTimeoutError {
    /// For a message that was looked for once.
    pub(crate) fn from_try(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::Timeout,
            TryRecvError::Disconnected => Self::Disconnected,
            TryRecvError::Corrupt(corrupt) => Self::Corrupt(corrupt),
            TryRecvError::ForkedChild => Self::ForkedChild,
            TryRecvError::BufferTooSmall { needed } => Self::BufferTooSmall { needed },
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str(DISCONNECTED),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::ForkedChild => f.write_str(FORKED),
            Self::BufferTooSmall { needed } => too_small(*needed, f),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("expected a message, found the channel empty"),
            Self::Disconnected => RecvError::Disconnected.fmt(f),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::ForkedChild => f.write_str(FORKED),
            Self::BufferTooSmall { needed } => too_small(*needed, f),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("expected a message in time, found none"),
            Self::Disconnected => RecvError::Disconnected.fmt(f),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::ForkedChild => f.write_str(FORKED),
            Self::BufferTooSmall { needed } => too_small(*needed, f),
        }
    }
}

impl Error for TryRecvError {}
impl Error for RecvError {}
impl Error for RecvTimeoutError {}

/// Why a subscriber received no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// There is none now, or none came in time.
    Empty,
    /// There is none, and nobody publishes any more. A publisher that comes later ends this.
    Disconnected,
    /// The publisher published something that cannot be; for good.
    Corrupt(tidewire_seqlock::Corrupt),
    /// As [`TryRecvError::ForkedChild`].
    ForkedChild,
    /// As [`TryRecvError::BufferTooSmall`]; only of what is published as bytes.
    BufferTooSmall {
        /// Its bytes.
        needed: usize,
    },
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("expected a message, found none yet"),
            Self::Disconnected => f.write_str("expected a message, found no publisher any more"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::ForkedChild => f.write_str(FORKED),
            Self::BufferTooSmall { needed } => too_small(*needed, f),
        }
    }
}

impl Error for SubscribeError {}
