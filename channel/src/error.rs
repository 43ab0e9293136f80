//! What can be said instead of a message.

use std::error::Error;
use std::fmt::{self, Display as _};

use tidewire_mpsc::{CorruptLane, ordered};
use tidewire_shm::bell::BellError;
use tidewire_shm::{Incompatible, JoinError, LeaseError, SegmentError};

use crate::message::Difference;

/// A peer published something that cannot be. What it could write is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corrupt {
    /// One of several senders: what it sends is not received any more, the others go on.
    Sender(CorruptLane),
    /// The only sender, or the receiver.
    Peer(tidewire_ring::Corrupt),
    /// The order of all messages, which every sender can write.
    Order(ordered::Corrupt),
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sender(lane) => write!(f, "a sender is out of use: {lane}"),
            Self::Peer(corrupt) => corrupt.fmt(f),
            Self::Order(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for Corrupt {}

const DISCONNECTED_SENDER: &str = "expected a receiver, found that it is gone";
const DISCONNECTED_RECEIVER: &str = "expected a message, found no sender any more";
const FORKED: &str = "expected the process that opened this end, found a child that it forked";

fn too_long(most: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "expected a message of at most {most}, found a longer one")
}

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
            Self::Disconnected(_) => f.write_str(DISCONNECTED_SENDER),
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
            Self::Disconnected(_) => f.write_str(DISCONNECTED_SENDER),
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
            Self::Disconnected(_) => f.write_str(DISCONNECTED_SENDER),
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
            Self::Disconnected => f.write_str(DISCONNECTED_RECEIVER),
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
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("expected a message, found none yet"),
            Self::Disconnected => f.write_str("expected a message, found no publisher any more"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
            Self::ForkedChild => f.write_str(FORKED),
        }
    }
}

impl Error for SubscribeError {}

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
