//! Why a message was not sent.

use std::error::Error;
use std::fmt::{self, Display as _};

use super::{Corrupt, FORKED, too_long};

const DISCONNECTED: &str = "expected a receiver, found that it is gone";

/// Why a message was not sent; it is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room for it now.
    Full(T),
    /// The receiver has gone, or was killed. Told at once where it left in order; where it was killed, when there is no room
    /// or the next receiver has come: what was sent until then waits for that one.
    Disconnected(T),
    /// The receiver published something that cannot be.
    Corrupt(T, Corrupt),
    /// This process is a fork child of the one that opened this end.
    ForkedChild(T),
    /// It is longer than the channel can ever hold: that many bytes, or messages of a reservation.
    TooLong(T, usize),
}

/// Why a message was not sent, after any wait that was to be; it is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// There is no room for it, and the channel [rejects](crate::Overflow::Reject) what does not fit.
    Full(T),
    /// As [`TrySendError::Disconnected`].
    Disconnected(T),
    /// As [`TrySendError::Corrupt`].
    Corrupt(T, Corrupt),
    /// As [`TrySendError::ForkedChild`].
    ForkedChild(T),
    /// As [`TrySendError::TooLong`].
    TooLong(T, usize),
}

/// Why a message was not sent in time; it is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// There was no room for it in all that time.
    Timeout(T),
    /// As [`TrySendError::Disconnected`].
    Disconnected(T),
    /// As [`TrySendError::Corrupt`].
    Corrupt(T, Corrupt),
    /// As [`TrySendError::ForkedChild`].
    ForkedChild(T),
    /// As [`TrySendError::TooLong`].
    TooLong(T, usize),
}

impl<T> TrySendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value)
            | Self::Disconnected(value)
            | Self::Corrupt(value, _)
            | Self::TooLong(value, _)
            | Self::ForkedChild(value) => value,
        }
    }

    fn text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("expected room for a message, found the channel full"),
            Self::Disconnected(_) => f.write_str(DISCONNECTED),
            Self::Corrupt(_, corrupt) => corrupt.fmt(f),
            Self::ForkedChild(_) => f.write_str(FORKED),
            Self::TooLong(_, most) => too_long(*most, f),
        }
    }

    /// The same without the message.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> TrySendError<U> {
        match self {
            Self::Full(value) => TrySendError::Full(change(value)),
            Self::Disconnected(value) => TrySendError::Disconnected(change(value)),
            Self::Corrupt(value, corrupt) => TrySendError::Corrupt(change(value), corrupt),
            Self::ForkedChild(value) => TrySendError::ForkedChild(change(value)),
            Self::TooLong(value, most) => TrySendError::TooLong(change(value), most),
        }
    }
}

impl<T> SendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        TrySendError::from(self).into_inner()
    }
}

impl<T> SendTimeoutError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(value) => value,
            Self::Disconnected(value)
            | Self::Corrupt(value, _)
            | Self::TooLong(value, _)
            | Self::ForkedChild(value) => value,
        }
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Full(value) => Self::Full(value),
            SendError::Disconnected(value) => Self::Disconnected(value),
            SendError::Corrupt(value, corrupt) => Self::Corrupt(value, corrupt),
            SendError::ForkedChild(value) => Self::ForkedChild(value),
            SendError::TooLong(value, most) => Self::TooLong(value, most),
        }
    }
}

impl<T> From<TrySendError<T>> for SendError<T> {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(value) => Self::Full(value),
            TrySendError::Disconnected(value) => Self::Disconnected(value),
            TrySendError::Corrupt(value, corrupt) => Self::Corrupt(value, corrupt),
            TrySendError::ForkedChild(value) => Self::ForkedChild(value),
            TrySendError::TooLong(value, most) => Self::TooLong(value, most),
        }
    }
}

impl<T> From<TrySendError<T>> for SendTimeoutError<T> {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(value) => Self::Timeout(value),
            TrySendError::Disconnected(value) => Self::Disconnected(value),
            TrySendError::Corrupt(value, corrupt) => Self::Corrupt(value, corrupt),
            TrySendError::ForkedChild(value) => Self::ForkedChild(value),
            TrySendError::TooLong(value, most) => Self::TooLong(value, most),
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(f)
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => TrySendError::Full(()).text(f),
            Self::Disconnected(_) => f.write_str(DISCONNECTED),
            Self::Corrupt(_, corrupt) => corrupt.fmt(f),
            Self::ForkedChild(_) => f.write_str(FORKED),
            Self::TooLong(_, most) => too_long(*most, f),
        }
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(_) => f.write_str("expected room for a message in time, found the channel full"),
            Self::Disconnected(_) => f.write_str(DISCONNECTED),
            Self::Corrupt(_, corrupt) => corrupt.fmt(f),
            Self::ForkedChild(_) => f.write_str(FORKED),
            Self::TooLong(_, most) => too_long(*most, f),
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Disconnected(_) => "Disconnected(..)",
            Self::Corrupt(..) => "Corrupt(..)",
            Self::ForkedChild(_) => "ForkedChild(..)",
            Self::TooLong(..) => "TooLong(..)",
        })
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Disconnected(_) => "Disconnected(..)",
            Self::Corrupt(..) => "Corrupt(..)",
            Self::ForkedChild(_) => "ForkedChild(..)",
            Self::TooLong(..) => "TooLong(..)",
        })
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout(_) => "Timeout(..)",
            Self::Disconnected(_) => "Disconnected(..)",
            Self::Corrupt(..) => "Corrupt(..)",
            Self::ForkedChild(_) => "ForkedChild(..)",
            Self::TooLong(..) => "TooLong(..)",
        })
    }
}

impl<T> Error for TrySendError<T> {}
impl<T> Error for SendError<T> {}
impl<T> Error for SendTimeoutError<T> {}
