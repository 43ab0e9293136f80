//! All kinds of queue behind one face, so that their operations are one table.
//!
//! A message is its number, `lane << 16 | n`: the n-th message that was ever pushed in that lane. Everything else in it
//! follows from the number, so that a message that is torn anywhere is seen.

use tidewire_mpsc::{AttachError, Delivery, Options};
use tidewire_ring::Owner;
use tidewire_shm::{Region, Untrusted};

use super::leases::Leases;
use super::{LANES, Verdict};
use crate::ops::rig::{Popped, Pushed};

mod bytes;
mod fixed;
mod ordered_bytes;
mod ordered_fixed;

pub(super) use bytes::Bytes;
pub(super) use fixed::{Fixed, message};
pub(super) use ordered_bytes::OrderedBytes;
pub(super) use ordered_fixed::OrderedFixed;

/// The number of message `n` of a lane.
pub(super) fn number(lane: usize, n: u64) -> u64 {
    (lane as u64) << 16 | n
}

/// Lane and number in the lane.
pub(super) fn place(number: u64) -> (usize, u64) {
    (usize::try_from(number >> 16).unwrap_or(usize::MAX), number & 0xFFFF)
}

/// Options of all rigs.
pub(super) fn options(delivery: Delivery) -> Options {
    Options::new().lanes(u32::try_from(LANES).unwrap_or(1)).delivery(delivery).liveness::<Leases>()
}

/// A queue of one kind, and what its handles can do.
///
/// Handles are untrusted ones: those are the default, and every byte goes through the validating paths.
pub(super) trait Rig: 'static {
    type Queue: 'static;
    type Producer: 'static;
    type Consumer: 'static;

    const STRUCTURE: &'static str;
    /// Elements that positions of a lane count.
    const CAPACITY: u64;
    /// Messages that surely fit into a lane.
    const FITS: u64;
    /// Messages, the first after one, that fill a lane so that no other fits.
    const MOST: u64;
    /// Whether a lane takes exactly [`FITS`](Self::FITS) messages.
    const EXACT: bool;
    /// Whether several messages can be popped by one call.
    const BATCHES: bool;
    /// Whether room can be reserved.
    const RESERVES: bool;
    /// Whether messages can be consumed in place.
    const IN_PLACE: bool;
    /// Whether messages come in the order in which they were pushed, whoever pushed them; then only the consumer
    /// reclaims, and a lane is attached only when it is free.
    const ORDERED: bool;
    /// The number in lane 0 of a message that goes over the wrap: what comes before fills the first lap.
    const WRAPS: u64;

    fn bytes() -> usize;
    fn create(region: Region<Untrusted>, delivery: Delivery) -> Verdict<Self::Queue>;
    /// A queue of the same shape, of which nobody else knows.
    fn alone() -> Verdict<Self::Queue>;
    fn open(region: Region<Untrusted>) -> Result<Self::Queue, AttachError>;
    fn producer(queue: &Self::Queue, leases: &Leases) -> Result<Self::Producer, AttachError>;
    fn consumer(queue: &Self::Queue, leases: &Leases) -> Result<Self::Consumer, AttachError>;
    fn reclaim(
        queue: &Self::Queue,
        consumer: Option<&mut Self::Consumer>,
        leases: &Leases,
    ) -> Result<u32, AttachError>;
    fn owner(queue: &Self::Queue, lane: usize) -> Option<Owner>;
    fn consumer_owner(queue: &Self::Queue) -> Option<Owner>;
    /// Lanes whose state is that of a lane out of use.
    fn corrupt_lanes(queue: &Self::Queue) -> usize;
    fn lane(producer: &Self::Producer) -> usize;
    fn push(producer: &mut Self::Producer, id: u64) -> Pushed;
    /// Pushes messages `first ..` with one publication.
    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed;
    /// Reserves room for one message, writes it in place, and commits or aborts.
    fn reserve(producer: &mut Self::Producer, id: u64, commit: bool) -> Pushed;
    fn tail(producer: &Self::Producer) -> u64;
    fn pop(consumer: &mut Self::Consumer) -> Popped;
    /// Pops up to `to.len()` messages in one go; what did not come is left as it was.
    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]);
    /// Reads in place and consumes one message.
    fn pop_in_place(consumer: &mut Self::Consumer) -> Popped;
    /// Looks without consuming; what it says of a message is [`peeked`](Self::peeked).
    fn peek(consumer: &mut Self::Consumer) -> Popped;
    fn release(consumer: &mut Self::Consumer);
    fn rescan(consumer: &mut Self::Consumer);
    /// Makes the consumer release after this many elements.
    fn tune(consumer: &mut Self::Consumer, release_every: u64);
    /// Whether the consumer took any lane out of use.
    fn took_out(consumer: &mut Self::Consumer) -> bool;
    /// Elements of padding before message `id` at `position`, and of the message.
    fn elements(position: u64, id: u64) -> (u64, u64);
    /// Elements that [`reserve`](Self::reserve) needs at `position`, padding included.
    fn reserved(position: u64) -> u64;
    /// What [`peek`](Self::peek) says of message `id`.
    fn peeked(id: u64) -> u64;
    /// Offsets of the owner words: the consumer's, then those of the lanes.
    fn owner_words() -> [usize; 1 + LANES];
    /// Offset of the first word of hints to look at lanes, if there are such.
    fn hint_word() -> Option<usize>;
    /// Offsets of a lane's tail, head and data.
    fn words(lane: usize) -> [usize; 3];
    /// What is believed beside positions and owners: the frames at position `at` of lane 0, and the order of messages,
    /// of which so many were consumed and so many published.
    fn believed(at: u64, runs: [u64; 2]) -> Vec<usize>;
}
