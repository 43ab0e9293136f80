//! A ring of byte records: one producer, one consumer, messages of 0 to `max` bytes each.
//!
//! The protocol, its orderings and its crash argument are those of [`cursor`](crate::cursor): element = byte. This
//! file says how records are framed, and how a frame that a peer wrote is validated. Every push and pop is wait-free
//! and makes no system calls; taking a role is one compare-exchange, tried a few times.
//!
//! # Memory layout
//! ```text
//! layout        see `layout`: header, tail line, head line, two owner lines
//! data          capacity bytes; position p lives at byte p % capacity; positions are multiples of 8
//!
//! record        0  frame u64   kind << 32 | length
//!               8  length bytes, then zero to seven unused ones up to a multiple of 8
//! kind 1        a message
//! kind 2        padding: the rest of the data up to its end; the record that follows lies at byte 0
//! ```
//! A record is never split by the wrap: where the rest of the data is too short, padding fills it, and padding and
//! record are published together. The longest record takes half of the capacity, header included, so that padding
//! and record always fit into a ring that is empty and released.
//!
//! # Protocol
//! | operation | shared accesses, in order |
//! |---|---|
//! | [`Producer::push`], [`Reservation::commit`] | (head) (padding frame) payload, frame, tail once |
//! | [`Consumer::pop_into`] | (tail) frame once, payload, touch, (head) |
//!
//! # Invariants
//! - R1: every position that is ever stored lies on a record boundary.
//! - R2: a frame is loaded once, and used only if it is a message that ends within both the published window and
//!   the data, or padding that ends exactly at the end of the data, inside the window, and not at byte 0.
//! - R3: after padding comes byte 0, where padding is refused: one pop looks at two frames at the most.
//!
//! # Crash argument
//! That of [`cursor`](crate::cursor): frames and payload lie beyond the tail until the one store, so a producer killed
//! anywhere leaves the former tail or the new one. The roles of the dead go to others as those of
//! [`fixed`](crate::fixed) do.
//!
//! # Not guaranteed
//! The unused bytes behind a record, and bytes of a reservation that were never set, are those of older records.
//!
//! # Examples
//! ```
//! use tidewire_ring::bytes::Ring;
//!
//! let (mut producer, mut consumer) = Ring::on_heap(4096)?.split()?;
//! producer.push(b"hello")?;
//! producer.push(b"")?;
//! let mut buffer = [0; 64];
//! let n = consumer.pop_into(&mut buffer)?;
//! assert_eq!(&buffer[..n], b"hello");
//! assert_eq!(consumer.pop_into(&mut buffer)?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(all(feature = "std", not(loom)))]
use alloc::vec::Vec;
use core::fmt;

#[cfg(feature = "alloc")]
use tidewire_shm::Liveness;
#[cfg(all(feature = "std", not(loom)))]
use tidewire_shm::Part;
use tidewire_shm::{Region, Trust, Trusted};

use crate::cursor::Tuning;
use crate::error::{AttachError, Corrupt, CreateError, RecordPopError, RecordPushError};
use crate::layout::{Layout, Options, Side};
use crate::role::{self, Owner, Tenure};
use crate::stats::Stats;

pub(crate) mod end;
mod record;

use end::{PopEnd, PushEnd, SHAPE};
pub use record::{Batch, Record, Reservation};

/// A ring in a region, created or opened and validated; gives out its two roles.
///
/// `L` says whether the peers are trusted (see [`Trust`]).
pub struct Ring<L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
}

impl<L: Trust> fmt::Debug for Ring<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("capacity_bytes", &self.layout.capacity).finish_non_exhaustive()
    }
}

impl Ring<Trusted> {
    /// A ring on the heap, for threads of this process.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two from 64 on, or memory is short.
    #[cfg(feature = "alloc")]
    pub fn on_heap(capacity_bytes: usize) -> Result<Self, CreateError> {
        let bytes = Self::bytes(capacity_bytes, &Options::new())?;
        Self::create(Region::heap(bytes)?, capacity_bytes, &Options::new())
    }
}

impl<L: Trust> Ring<L> {
    /// Bytes of region that a ring of `capacity_bytes` of data needs.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two from 64 to 4 GiB.
    pub fn bytes(capacity_bytes: usize, options: &Options) -> Result<usize, CreateError> {
        SHAPE.bytes(capacity_bytes, options)
    }

    /// The parts of a segment ([`PartedSegment`](tidewire_shm::PartedSegment)) for such a ring between processes that do
    /// not trust each other: with page stride the header's, the producer's, the consumer's, and the data, which both
    /// write. With line stride all of it is one part that both write.
    ///
    /// Whoever is [`RoleId::CREATOR`](tidewire_shm::RoleId::CREATOR) creates the ring before it sends the parts. Then each role is
    /// given only to a process that can write its part, and the kernel sees to it that there is one: not even a successor
    /// of a dead producer or consumer can write that part, so both begin with a new segment.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    #[cfg(all(feature = "std", not(loom)))]
    pub fn parts(capacity_bytes: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        SHAPE.memory(capacity_bytes, options)
    }

    /// Creates an empty ring in a region that nobody uses (any more). What lay there is gone from the first store on;
    /// killed in between, the region holds no structure.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two from 64 to 4 GiB, the region is too short, its header cannot be
    /// written, or a word that cannot be written does not say already what it shall.
    pub fn create(region: Region<L>, capacity_bytes: usize, options: &Options) -> Result<Self, CreateError> {
        let layout = SHAPE.create(&region, capacity_bytes, options)?;
        Ok(Self { region, layout })
    }

    /// Opens a ring that somebody created; the header is read once and never again. Nothing is written: memory that can
    /// only be read will do, for whoever takes no role.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what this version would have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = SHAPE.open(&region, type_fingerprint)?;
        Ok(Self { region, layout })
    }

    /// Bytes of data, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.layout.capacity
    }

    /// Takes both roles, for two threads of this process. To take a role again after its handle was dropped, keep the
    /// ring and use [`producer`](Self::producer) and [`consumer`](Self::consumer) instead.
    ///
    /// # Errors
    /// As [`producer`](Self::producer) and [`consumer`](Self::consumer).
    pub fn split(self) -> Result<Ends<L>, AttachError> {
        Ok((self.producer()?, self.consumer()?))
    }

    /// Takes the producer's role, which must be free, and continues at the published tail.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if it has an owner, [`AttachError::Corrupt`] if the positions cannot be,
    /// [`AttachError::LeaseRequired`] if the ring was made for leases, [`AttachError::Incompatible`] if the role's words or
    /// the data can only be read here.
    pub fn producer(&self) -> Result<Producer<L>, AttachError> {
        Producer::attach(self, Tenure::free(&self.region, &self.layout, Side::Producer)?)
    }

    /// Takes the consumer's role, which must be free, and continues at the published head.
    ///
    /// # Errors
    /// As [`producer`](Self::producer).
    pub fn consumer(&self) -> Result<Consumer<L>, AttachError> {
        Consumer::attach(self, Tenure::free(&self.region, &self.layout, Side::Consumer)?)
    }

    /// Takes the producer's role with its lease, free or from a producer that the lease proves dead, and continues at
    /// the published tail: everything that was published stays, the record in the dead one's hand is gone. The handle keeps
    /// the lease and hands it back when it is dropped.
    ///
    /// # Guarantees
    /// A producer that is only stopped keeps its role, however long. What the lease costs ([`Liveness::acquire`]) is
    /// paid here and at the drop, nothing for each record.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if somebody has the role who is not proven dead (the name is the one in the owner
    /// word; its owner may have ended a moment ago), [`AttachError::Lease`] if somebody has the lease and the word names
    /// nobody, or the system refused; [`AttachError::Incompatible`] if the ring was made for another kind of leases
    /// ([`Options::liveness`]) or these speak of other memory; [`AttachError::Corrupt`] if the positions cannot be: then
    /// the role is free. [`AttachError::OwnerChanged`] if a peer scribbles over the owner word meanwhile.
    #[cfg(feature = "alloc")]
    pub fn producer_with<V: Liveness>(&self, liveness: &V) -> Result<Producer<L>, AttachError> {
        Producer::attach(self, Tenure::leased(&self.region, &self.layout, Side::Producer, liveness)?)
    }

    /// Takes the consumer's role with its lease, free or from a consumer that the lease proves dead, and continues at
    /// the published head: what a dead one had not yet released is seen again, as after
    /// [`replace_consumer`](Self::replace_consumer).
    ///
    /// # Guarantees
    /// As [`producer_with`](Self::producer_with).
    ///
    /// # Errors
    /// As [`producer_with`](Self::producer_with).
    #[cfg(feature = "alloc")]
    pub fn consumer_with<V: Liveness>(&self, liveness: &V) -> Result<Consumer<L>, AttachError> {
        Consumer::attach(self, Tenure::leased(&self.region, &self.layout, Side::Consumer, liveness)?)
    }

    /// Who holds the producer's role now.
    #[must_use]
    pub fn producer_owner(&self) -> Option<Owner> {
        role::owner(&self.region, &self.layout, Side::Producer)
    }

    /// Who holds the consumer's role now.
    #[must_use]
    pub fn consumer_owner(&self) -> Option<Owner> {
        role::owner(&self.region, &self.layout, Side::Consumer)
    }

    /// What can be seen of the ring now, for people and monitors. Needs no role and disturbs nobody.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.region, &self.layout)
    }

    /// Replaces a producer that died: everything it published stays, the record in its hand is gone.
    ///
    /// # Errors
    /// [`AttachError::OwnerChanged`] if `dead` is not the owner (any more), [`AttachError::Corrupt`] if the
    /// positions cannot be; then the role is free. [`AttachError::LeaseRequired`] if the ring was made for leases,
    /// which do the same without a promise.
    ///
    /// # Safety
    /// `dead` was read from this ring since it was created, it will never run another instruction on it, and its
    /// death happened before this call: the kernel said so (a wait for the process, or a lock that its death
    /// released). A timeout is no proof.
    pub unsafe fn replace_producer(&self, dead: Owner) -> Result<Producer<L>, AttachError> {
        Producer::attach(self, Tenure::of_dead(&self.region, &self.layout, Side::Producer, dead)?)
    }

    /// Replaces a consumer that died: what it had not yet released is seen again, fewer than
    /// [`Tuning::release_every`] bytes beside the record in its hand. What a pop had taken in which it died may be lost with
    /// it; what it read in place is not.
    ///
    /// # Errors
    /// As [`replace_producer`](Self::replace_producer).
    ///
    /// # Safety
    /// As [`replace_producer`](Self::replace_producer).
    pub unsafe fn replace_consumer(&self, dead: Owner) -> Result<Consumer<L>, AttachError> {
        Consumer::attach(self, Tenure::of_dead(&self.region, &self.layout, Side::Consumer, dead)?)
    }
}

/// Both ends of one ring.
pub type Ends<L> = (Producer<L>, Consumer<L>);

/// The producing end of a ring. One per ring; `Send`, not `Sync`, not `Clone`.
///
/// Dropping it frees the role; everything pushed stays.
pub struct Producer<L: Trust = Trusted> {
    // Freed first: the end keeps the region.
    tenure: Tenure,
    end: PushEnd<L>,
}

impl<L: Trust> Producer<L> {
    fn attach(ring: &Ring<L>, tenure: Tenure) -> Result<Self, AttachError> {
        // SAFETY: the parts of a validated layout; the role is ours, and what its former holder did happened before.
        let end = unsafe { PushEnd::attach(&ring.region, &ring.layout.parts()) }?;
        Ok(Self { tenure, end })
    }

    /// Pushes one record.
    ///
    /// # Guarantees
    /// Wait-free; no system call. If it returns `Ok` the record is published: it survives the death of this
    /// process. Killed before, nothing of it is seen.
    ///
    /// # Errors
    /// [`RecordPushError::Full`] if there is no room now (the consumer may have consumed up to
    /// [`Tuning::release_every`] bytes that it has not released yet), [`RecordPushError::TooLong`] if there never can
    /// be, [`RecordPushError::Corrupt`] for good once the consumer published an impossible position.
    #[inline]
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordPushError> {
        self.end.push(record)
    }

    /// Reserves a record of `len` bytes to be written in place; nothing is published before
    /// [`Reservation::commit`].
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, L>, RecordPushError> {
        self.end.reserve(len)
    }

    /// Starts a batch: any number of records, published together with one store.
    pub fn batch(&mut self) -> Batch<'_, L> {
        self.end.batch()
    }

    /// Bytes of data, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }

    /// The longest record that this ring takes.
    #[must_use]
    pub fn max_record(&self) -> usize {
        self.end.max_record()
    }

    /// Bytes published and not yet released. A running consumer can only make it smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Bytes that are free. A running consumer can only make it larger. A record needs its own bytes rounded up to
    /// a multiple of 8, plus 8, plus padding at the wrap.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether nothing is unreleased. A running consumer can only turn `false` into `true`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether not even an empty record fits. A running consumer can only turn `true` into `false`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// How many bytes were ever published: the position of the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.end.position()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.end.corruption()
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

/// The consuming end of a ring. One per ring; `Send`, not `Sync`, not `Clone`.
///
/// Dropping it releases what it consumed (unless it is corrupt) and frees the role.
///
/// A record lends its bytes only with trusted peers:
/// ```compile_fail,E0614
/// use tidewire_shm::Untrusted;
/// fn lend(record: &tidewire_ring::bytes::Record<'_, Untrusted>) -> usize {
///     (**record).len()
/// }
/// ```
/// ```
/// use tidewire_shm::Trusted;
/// fn lend(record: &tidewire_ring::bytes::Record<'_, Trusted>) -> usize {
///     (**record).len()
/// }
/// ```
pub struct Consumer<L: Trust = Trusted> {
    // Freed first: the end keeps the region.
    tenure: Tenure,
    end: PopEnd<L>,
}

impl<L: Trust> Drop for Consumer<L> {
    fn drop(&mut self) {
        self.end.release();
    }
}

impl<L: Trust> Consumer<L> {
    fn attach(ring: &Ring<L>, tenure: Tenure) -> Result<Self, AttachError> {
        // SAFETY: the parts of a validated layout; the role is ours, and what its former holder did happened before.
        let end = unsafe { PopEnd::attach(&ring.region, &ring.layout.parts()) }?;
        Ok(Self { tenure, end })
    }

    /// Copies the next record out and consumes it; says how long it is.
    ///
    /// # Guarantees
    /// Wait-free; no system call. The bytes are released to the producer at the latest after
    /// [`Tuning::release_every`] bytes, or when the ring is found empty.
    ///
    /// # Errors
    /// [`RecordPopError::Empty`] if there is none now, [`RecordPopError::BufferTooSmall`] (the record stays),
    /// [`RecordPopError::Corrupt`] for good once the producer published something impossible.
    #[inline]
    pub fn pop_into(&mut self, to: &mut [u8]) -> Result<usize, RecordPopError> {
        self.end.pop_into(to)
    }

    /// The next record in place; **it is consumed when the [`Record`] is dropped**, also by an early return or a panic.
    /// To keep it, forget it: then the next pop finds it again.
    ///
    /// # Errors
    /// As [`pop_into`](Self::pop_into).
    pub fn pop(&mut self) -> Result<Record<'_, L>, RecordPopError> {
        self.end.pop()
    }

    /// The length of the next record, which stays. Padding before it is passed, so [`position`](Self::position) may
    /// move.
    ///
    /// # Errors
    /// As [`pop_into`](Self::pop_into).
    pub fn peek_len(&mut self) -> Result<usize, RecordPopError> {
        self.end.peek_len()
    }

    /// Releases everything consumed to the producer now.
    pub fn release(&mut self) {
        self.end.release();
    }

    /// Changes how this consumer waits, touches and releases; [`Tuning::release_every`] counts bytes here.
    pub fn tune(&mut self, tuning: Tuning) {
        self.end.tune(tuning);
    }

    /// Bytes of data, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }

    /// Bytes published and not yet consumed. A running producer can only make it larger.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Bytes that hold no record. A running producer can only make it smaller.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether a pop would find nothing. A running producer can only turn `true` into `false`. Looking releases
    /// nothing: a consumer that stops at an empty ring without a pop that says so should [`release`](Self::release).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every byte is taken. A running producer can only turn `false` into `true`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// How many bytes were ever consumed: the position of the next record.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.end.position()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.end.corruption()
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

impl<L: Trust> fmt::Debug for Producer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("position", &self.end.position()).finish_non_exhaustive()
    }
}

impl<L: Trust> fmt::Debug for Consumer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("position", &self.end.position()).finish_non_exhaustive()
    }
}
