//! Both kinds of ring behind one face, so that their operations are one table.
//!
//! A message is its number: everything else in it follows from the number, so that a message that is torn
//! anywhere is seen. All of it works without allocating, since the explorer steps it.

use std::ptr::NonNull;
use std::sync::Arc;

use tidewire_ring::{AttachError, Owner, PopError, PushError, RecordPopError, RecordPushError};
use tidewire_shm::{Origin, Region, Untrusted};

mod bytes;
mod fixed;

pub(crate) use bytes::{Bytes, record as record_of};
pub(super) use fixed::Fixed;

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Done,
    Full,
    Corrupt,
}

/// What became of a pop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    Message(u64),
    Torn,
    Empty,
    Corrupt,
}

/// The most messages that one operation moves.
pub(super) const MOST: usize = 4;

/// A ring of one kind, and what its handles can do.
///
/// Handles are untrusted ones: those are the default, and every byte goes through the validating paths.
pub(crate) trait Rig: 'static {
    type Ring;
    type Producer: 'static;
    type Consumer: 'static;

    const STRUCTURE: &'static str;
    /// Elements that the structure's positions count.
    const CAPACITY: u64;
    /// Messages that surely fit.
    const FITS: u64;
    /// Whether positions are known to take exactly [`FITS`](Self::FITS) messages, and batches are taken in one step.
    const EXACT: bool;
    /// The number of a message that goes over the wrap: what comes before fills the ring's first lap.
    const WRAPS: u64;
    /// Elements after which a consumer that releases late does.
    const LATE: u64;

    fn bytes() -> usize;
    fn create(region: Region<Untrusted>) -> Result<Self::Ring, String>;
    fn open(region: Region<Untrusted>) -> Result<Self::Ring, AttachError>;
    fn producer(ring: &Self::Ring) -> Result<Self::Producer, AttachError>;
    fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, AttachError>;
    fn producer_owner(ring: &Self::Ring) -> Option<Owner>;
    fn consumer_owner(ring: &Self::Ring) -> Option<Owner>;
    /// # Safety
    /// As the ring's own.
    unsafe fn replace_producer(ring: &Self::Ring, dead: Owner) -> Result<Self::Producer, AttachError>;
    /// # Safety
    /// As the ring's own.
    unsafe fn replace_consumer(ring: &Self::Ring, dead: Owner) -> Result<Self::Consumer, AttachError>;
    fn push(producer: &mut Self::Producer, id: u64) -> Pushed;
    /// Pushes messages `first ..` with one publication.
    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed;
    /// Reserves room for one message, writes it in place, and commits or aborts.
    fn reserve(producer: &mut Self::Producer, id: u64, commit: bool) -> Pushed;
    fn pop(consumer: &mut Self::Consumer) -> Popped;
    /// Pops up to `to.len()` messages in one go; what did not come is left as it was.
    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]);
    /// Reads in place and consumes one message of what it read.
    fn pop_in_place(consumer: &mut Self::Consumer) -> Popped;
    /// Looks without consuming; the number of the message found is what [`peeked`](Self::peeked) says.
    fn peek(consumer: &mut Self::Consumer) -> Popped;
    fn release(consumer: &mut Self::Consumer);
    /// Offsets of the words that a consumer at `head` believes: the tail, and what it reads there.
    fn believed_at(head: u64) -> Vec<usize>;
    /// Offset of the word that a producer believes: the head.
    fn head_word() -> usize;
    fn position(consumer: &Self::Consumer) -> u64;
    fn tail(producer: &Self::Producer) -> u64;
    /// Makes the consumer publish its position after this many elements.
    fn tune(consumer: &mut Self::Consumer, release_every: u64);
    /// Elements of padding before message `id` at `position`, and of the message.
    fn elements(position: u64, id: u64) -> (u64, u64);
    /// Elements that [`reserve`](Self::reserve) needs at `position`, padding included.
    fn reserved(position: u64) -> u64;
    /// What [`peek`](Self::peek) says of message `id`.
    fn peeked(id: u64) -> u64;
    /// The most that a peek can say in a ring that holds messages below `end` and lies about its control words.
    fn peeked_most(end: u64) -> u64;
    /// Offsets of the owner words.
    fn owner_words() -> [usize; 2];
}

/// A region over the explorer's segment.
pub(super) fn region(segment: NonNull<u8>, bytes: usize) -> Result<Region<Untrusted>, String> {
    // Not memory of one process: leases of the kernel may speak of it.
    let origin = Origin { nonce: 1, ..Origin::default() };
    // SAFETY: the segment is mapped as long as the process, zeroed, and accessed by the explorer only while the
    // processes that use it are stopped or dead.
    unsafe { Region::from_raw_parts(segment, bytes, origin, Arc::new(())) }.map_err(|error| error.to_string())
}

/// Word `i` of message `id`.
fn word(id: u64, i: u64) -> u64 {
    (id ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29) ^ id
}

impl From<PushError> for Pushed {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full => Self::Full,
            PushError::Corrupt(_) => Self::Corrupt,
        }
    }
}

impl From<RecordPushError> for Pushed {
    fn from(error: RecordPushError) -> Self {
        match error {
            RecordPushError::Full | RecordPushError::TooLong { .. } => Self::Full,
            RecordPushError::Corrupt(_) => Self::Corrupt,
        }
    }
}

impl From<PopError> for Popped {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Empty => Self::Empty,
            PopError::Corrupt(_) => Self::Corrupt,
        }
    }
}

impl From<RecordPopError> for Popped {
    fn from(error: RecordPopError) -> Self {
        match error {
            RecordPopError::Empty => Self::Empty,
            RecordPopError::BufferTooSmall { .. } => Self::Torn,
            RecordPopError::Corrupt(_) => Self::Corrupt,
        }
    }
}

fn pushed<E: Into<Pushed>>(result: Result<(), E>) -> Pushed {
    result.map_or_else(Into::into, |()| Pushed::Done)
}

/// What became of a reservation that was made: to write and to commit what was reserved cannot fail.
fn reserved(well: bool) -> Pushed {
    if well { Pushed::Done } else { Pushed::Corrupt }
}
