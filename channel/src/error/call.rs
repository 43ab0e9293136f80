//! Why a call has no answer, or an answer was not sent.

use std::error::Error;
use std::fmt;

use super::{Corrupt, FORKED, too_long};

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The answer did not come in time.
    Timeout,
    /// No server is there, or it went before it answered. Whether it had begun to is not known.
    Disconnected,
    /// The server dropped the request.
    Dropped,
    /// As many calls as there can be are in flight, so many, or there is no room for another one now.
    Full(usize),
    /// The question is longer than one can be: that many bytes.
    TooLong(usize),
    /// The server's answer was longer than one can be.
    ReplyTooLong,
    /// What came in place of an answer is none.
    Malformed,
    /// The server published something that cannot be. This end is of no use any more.
    Corrupt(Corrupt),
    /// The answer was taken before, or the call was cancelled.
    Taken,
    /// This process is a fork child of the one that opened this end.
    ForkedChild,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("expected an answer in time, found none"),
            Self::Disconnected => f.write_str("expected a server, found that it is gone"),
            Self::Dropped => f.write_str("expected an answer, found that the server dropped the request"),
            Self::Full(most) => {
                write!(f, "expected room for a call, found all there is taken: at most {most} at a time")
            }
            Self::TooLong(most) => too_long(*most, f),
            Self::ReplyTooLong => f.write_str("expected an answer, found that it was too long to be sent"),
            Self::Malformed => f.write_str("expected an answer, found a record that is none"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::Taken => f.write_str("expected a call in flight, found that its answer was taken"),
            Self::ForkedChild => f.write_str(FORKED),
        }
    }
}

impl Error for CallError {}

/// Why an answer was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyError {
    /// Whoever asked is gone, or the server was dropped.
    Disconnected,
    /// It is longer than an answer can be: that many bytes. Whoever asked is told.
    TooLong(usize),
    /// There is no room: whoever asked has more calls in flight than it may have.
    Full,
    /// Whoever asked published something that cannot be.
    Corrupt(Corrupt),
    /// This process is a fork child of the one that received the request.
    ForkedChild,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("expected the client that asked, found that it is gone"),
            Self::TooLong(most) => too_long(*most, f),
            Self::Full => f.write_str("expected room for an answer, found a client that asked too much"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::ForkedChild => f.write_str(FORKED),
        }
    }
}

impl Error for ReplyError {}
