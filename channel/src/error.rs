//! What can be said instead of a message.

mod call;
mod open;
mod receive;
mod send;

use std::error::Error;
use std::fmt;

use tidewire_mpsc::{CorruptLane, ordered};

pub use call::{CallError, ReplyError};
pub use open::OpenError;
pub use receive::{RecvError, RecvTimeoutError, SubscribeError, TryRecvError};
pub use send::{SendError, SendTimeoutError, TrySendError};

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
    /// A sender of a channel that drops its oldest messages: what it sends is not received any more. Others go on.
    Log(tidewire_seqlock::Corrupt),
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sender(lane) => write!(f, "a sender is out of use: {lane}"),
            Self::Peer(corrupt) => corrupt.fmt(f),
            Self::Order(corrupt) => corrupt.fmt(f),
            Self::Log(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for Corrupt {}

const FORKED: &str = "expected the process that opened this end, found a child that it forked";

fn too_long(most: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "expected a message of at most {most}, found a longer one")
}
