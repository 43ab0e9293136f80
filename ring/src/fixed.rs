//! A ring of fixed slots: one producer, one consumer, messages of one plain type `T`.
//!
//! The protocol, its orderings and its crash argument are those of [`cursor`](crate::cursor): element = slot. This
//! file says how a slot is written, read and touched. Every push and pop is wait-free and makes no system calls; taking
//! a role is one compare-exchange, tried a few times.
//!
//! # Memory layout
//! ```text
//! layout        see `layout`: header, tail line, head line, two owner lines
//! data + 0      slot 0     size_of::<T>() bytes, no padding between slots
//! data + size   slot 1
//! ...           position p lives in slot p % capacity
//! ```
//!
//! # Protocol
//! | operation | shared accesses, in order |
//! |---|---|
//! | [`Producer::push`] | (head, if the private copy says full) slot, tail |
//! | [`Producer::push_slice`], [`Reservation::commit`] | (head) slots, tail once: all of it or nothing |
//! | [`Consumer::pop`] | (tail, if nothing more is known; head, if a release is due) slot, touch |
//! | [`Consumer::pop_into`], [`Chunk::release`] | (tail) slots, touch, (head) |
//!
//! # Invariants
//! - S1: `T` is plain old data (`bytemuck::Pod`): any bytes are a `T`, no padding leaks, and a slot of stale bytes is
//!   still a `T`. So a torn or hostile slot is a wrong value, never undefined behaviour.
//! - S2: a slot's offset is `(position & mask) * size_of::<T>()` with the private mask, hence within the data.
//! - S3: with I2 of [`cursor`](crate::cursor), no two handles that follow the protocol access a slot at one time.
//!
//! # Crash argument
//! Of the messages: that of [`cursor`](crate::cursor). Of the roles, in a ring that was made for leases
//! ([`Options::liveness`]):
//!
//! | killed | the successor ([`Ring::producer_with`], [`Ring::consumer_with`]) finds |
//! |---|---|
//! | a producer, anywhere from the lease to the end of its drop | no lease, the word free or naming the dead one; it takes both and pushes behind the last published message |
//! | a consumer, anywhere from the lease to the end of its drop | the same; it pops from the published head on |
//! | either, when the handle's drop is done | a free word and a free lease |
//! | nobody: a holder is stopped | the lease held: refused, however long |
//!
//! Without leases the role of a dead holder stays taken until somebody who has proof says so
//! ([`Ring::replace_producer`]).
//!
//! # Not guaranteed
//! With [`Untrusted`](tidewire_shm::Untrusted) peers a message may hold any bytes: validate it as you would a packet.
//!
//! # Examples
//! ```
//! use tidewire_ring::fixed::Ring;
//! use tidewire_ring::{PopError, PushError};
//!
//! let ring = Ring::<u64>::on_heap(4)?;
//! let (mut producer, mut consumer) = ring.split()?;
//! for i in 0..4 {
//!     producer.push(i)?;
//! }
//! assert_eq!(producer.push(4), Err(PushError::Full));
//! assert_eq!(consumer.pop(), Ok(0));
//! assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3]);
//! assert_eq!(consumer.pop(), Err(PopError::Empty));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(all(feature = "std", not(loom)))]
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
#[cfg(feature = "alloc")]
use tidewire_shm::Liveness;
#[cfg(all(feature = "std", not(loom)))]
use tidewire_shm::Part;
use tidewire_shm::{Region, Trust, Trusted};

use crate::cursor::Tuning;
use crate::error::{AttachError, Corrupt, CreateError, PopError, PushError};
use crate::layout::{Layout, Options, Side};
use crate::role::{self, Owner, Tenure};
use crate::stats::Stats;

mod chunk;
pub(crate) mod end;
mod slots;

pub use chunk::{Chunk, Drain, Reservation};
use end::{PopEnd, PushEnd, shape};

/// A ring in a region, created or opened and validated; gives out its two roles.
///
/// `L` says whether the peers are trusted (see [`Trust`]).
pub struct Ring<T, L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    element: PhantomData<fn(T) -> T>,
}

impl<T, L: Trust> fmt::Debug for Ring<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("capacity", &self.layout.capacity).finish_non_exhaustive()
    }
}

impl<T: Pod> Ring<T, Trusted> {
    /// A ring on the heap, for threads of this process.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two, `T` is empty, or memory is short.
    #[cfg(feature = "alloc")]
    pub fn on_heap(capacity: usize) -> Result<Self, CreateError> {
        let bytes = Self::bytes(capacity, &Options::new())?;
        Self::create(Region::heap(bytes)?, capacity, &Options::new())
    }
}

impl<T: Pod, L: Trust> Ring<T, L> {
    /// Bytes of region that a ring of `capacity` messages needs.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two or `T` is empty.
    pub fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError> {
        shape::<T>().bytes(capacity, options)
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
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use tidewire_ring::Options;
    /// use tidewire_ring::fixed::Ring;
    /// use tidewire_shm::{PartedDraft, PartedSegment, RoleId, RoleStride, Untrusted};
    ///
    /// const PRODUCER: RoleId = RoleId::producer(0).unwrap();
    /// let options = Options::new().role_stride(RoleStride::Page);
    /// let parts = Ring::<u64, Untrusted>::parts(1024, &options)?;
    /// let (here, there) = UnixStream::pair()?;
    /// // Another process does this.
    /// let expected = parts.clone();
    /// let joining = std::thread::spawn(move || PartedSegment::join(&there, &expected, &[RoleId::CONSUMER]));
    ///
    /// let mut draft = PartedDraft::new(&parts, &[RoleId::CREATOR, PRODUCER])?;
    /// draft.gather(&here, &[RoleId::CONSUMER])?;
    /// let segment = draft.complete()?;
    /// let ring = Ring::<u64, Untrusted>::create(segment.region(), 1024, &options)?;
    /// segment.send_to(&here, &[RoleId::CONSUMER])?;
    /// ring.producer()?.push(7)?;
    /// assert!(ring.consumer().is_err(), "its words are in the other process's part");
    ///
    /// let joined = joining.join().map_err(|_| "the thread panicked")??;
    /// let ring = Ring::<u64, Untrusted>::open(joined.region(), 0)?;
    /// assert_eq!(ring.consumer()?.pop()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(all(feature = "std", not(loom)))]
    pub fn parts(capacity: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        shape::<T>().memory(capacity, options)
    }

    /// Creates an empty ring in a region that nobody uses (any more). What lay there is gone from the first store on;
    /// killed in between, the region holds no structure.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two, `T` is empty, the region is too short, its header cannot be
    /// written, or a word that cannot be written does not say already what it shall.
    ///
    /// # Examples
    /// ```
    /// use tidewire_ring::Options;
    /// use tidewire_ring::fixed::Ring;
    /// use tidewire_shm::Region;
    ///
    /// let bytes = Ring::<u64>::bytes(1024, &Options::new())?;
    /// let ring = Ring::<u64>::create(Region::heap(bytes)?, 1024, &Options::new())?;
    /// assert_eq!(ring.capacity(), 1024);
    /// # Ok::<(), tidewire_ring::CreateError>(())
    /// ```
    pub fn create(region: Region<L>, capacity: usize, options: &Options) -> Result<Self, CreateError> {
        let layout = shape::<T>().create(&region, capacity, options)?;
        Ok(Self { region, layout, element: PhantomData })
    }

    /// Opens a ring that somebody created; the header is read once and never again. Nothing is written: memory that can
    /// only be read will do, for whoever takes no role.
    ///
    /// Memory from outside this process is [`Untrusted`](tidewire_shm::Untrusted): name the level where the compiler
    /// asks, as in `Ring::<u64, Untrusted>::open(segment.region(), 0)`.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what `T` and `type_fingerprint`
    /// would have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = shape::<T>().open(&region, type_fingerprint)?;
        Ok(Self { region, layout, element: PhantomData })
    }

    /// Messages that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.layout.capacity
    }

    /// Takes both roles, for two threads of this process. To take a role again after its handle was dropped, keep the
    /// ring and use [`producer`](Self::producer) and [`consumer`](Self::consumer) instead.
    ///
    /// # Errors
    /// As [`producer`](Self::producer) and [`consumer`](Self::consumer).
    pub fn split(self) -> Result<Ends<T, L>, AttachError> {
        Ok((self.producer()?, self.consumer()?))
    }

    /// Takes the producer's role, which must be free, and continues at the published tail.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if it has an owner, [`AttachError::Corrupt`] if the positions cannot be,
    /// [`AttachError::LeaseRequired`] if the ring was made for leases, [`AttachError::Incompatible`] if the role's words or
    /// the data can only be read here.
    pub fn producer(&self) -> Result<Producer<T, L>, AttachError> {
        Producer::attach(self, Tenure::free(&self.region, &self.layout, Side::Producer)?)
    }

    /// Takes the consumer's role, which must be free, and continues at the published head.
    ///
    /// # Errors
    /// As [`producer`](Self::producer).
    pub fn consumer(&self) -> Result<Consumer<T, L>, AttachError> {
        Consumer::attach(self, Tenure::free(&self.region, &self.layout, Side::Consumer)?)
    }

    /// Takes the producer's role with its lease, free or from a producer that the lease proves dead, and continues at
    /// the published tail: everything that was published stays, the message in the dead one's hand is gone. The handle keeps
    /// the lease and hands it back when it is dropped.
    ///
    /// # Guarantees
    /// A producer that is only stopped keeps its role, however long. What the lease costs ([`Liveness::acquire`]) is
    /// paid here and at the drop, nothing for each message.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if somebody has the role who is not proven dead (the name is the one in the owner
    /// word; its owner may have ended a moment ago), [`AttachError::Lease`] if somebody has the lease and the word names
    /// nobody, or the system refused; [`AttachError::Incompatible`] if the ring was made for another kind of leases
    /// ([`Options::liveness`]) or these speak of other memory; [`AttachError::Corrupt`] if the positions cannot be: then
    /// the role is free. [`AttachError::OwnerChanged`] if a peer scribbles over the owner word meanwhile.
    ///
    /// # Examples
    /// ```
    /// use tidewire_ring::Options;
    /// use tidewire_ring::fixed::Ring;
    /// use tidewire_shm::{Segment, SegmentLeases, Untrusted};
    ///
    /// let options = Options::new().liveness::<SegmentLeases>();
    /// let segment = Segment::anonymous(Ring::<u64, Untrusted>::bytes(1024, &options)?)?;
    /// let leases = segment.leases()?;
    /// let ring = Ring::<u64, Untrusted>::create(segment.region(), 1024, &options)?;
    ///
    /// let mut producer = ring.producer_with(&leases)?;
    /// producer.push(1)?;
    /// assert!(ring.producer_with(&leases).is_err(), "as long as this process lives and keeps its handle");
    /// drop(producer);
    /// ring.producer_with(&leases)?.push(2)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "alloc")]
    pub fn producer_with<V: Liveness>(&self, liveness: &V) -> Result<Producer<T, L>, AttachError> {
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
    pub fn consumer_with<V: Liveness>(&self, liveness: &V) -> Result<Consumer<T, L>, AttachError> {
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

    /// Replaces a producer that died: everything it published stays, the message in its hand is gone.
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
    pub unsafe fn replace_producer(&self, dead: Owner) -> Result<Producer<T, L>, AttachError> {
        Producer::attach(self, Tenure::of_dead(&self.region, &self.layout, Side::Producer, dead)?)
    }

    /// Replaces a consumer that died: what it had not yet released is seen again, fewer than
    /// [`Tuning::release_every`] messages beside the chunk in its hand. What a pop had taken in which it died may be lost with
    /// it; what it read in place is not.
    ///
    /// # Errors
    /// As [`replace_producer`](Self::replace_producer).
    ///
    /// # Safety
    /// As [`replace_producer`](Self::replace_producer).
    pub unsafe fn replace_consumer(&self, dead: Owner) -> Result<Consumer<T, L>, AttachError> {
        Consumer::attach(self, Tenure::of_dead(&self.region, &self.layout, Side::Consumer, dead)?)
    }
}

/// Both ends of one ring.
pub type Ends<T, L> = (Producer<T, L>, Consumer<T, L>);

/// The producing end of a ring. One per ring; `Send`, not `Sync`, not `Clone`.
///
/// Dropping it frees the role; everything pushed stays.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_ring::fixed::Producer<u64>>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_ring::fixed::Producer<u64>>();
/// ```
pub struct Producer<T, L: Trust = Trusted> {
    // Freed first: the end keeps the region.
    tenure: Tenure,
    end: PushEnd<T, L>,
}

impl<T: Pod, L: Trust> Producer<T, L> {
    /// The end without its role.
    #[doc(hidden)]
    #[inline(always)]
    pub fn as_end(&mut self) -> &mut PushEnd<T, L> {
        &mut self.end
    }

    fn attach(ring: &Ring<T, L>, tenure: Tenure) -> Result<Self, AttachError> {
        // SAFETY: the parts of a validated layout; the role is ours, and what its former holder did happened before.
        let end = unsafe { PushEnd::attach(&ring.region, &ring.layout.parts()) }?;
        Ok(Self { tenure, end })
    }

    /// Pushes one message.
    ///
    /// # Guarantees
    /// Wait-free; no system call. If it returns `Ok` the message is published: it survives the death of this
    /// process. Killed before, nothing of it is seen.
    ///
    /// # Errors
    /// [`PushError::Full`] if there is no room (the consumer may have consumed up to
    /// [`Tuning::release_every`] messages that it has not released yet), [`PushError::Corrupt`] for good once the
    /// consumer published an impossible position.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), PushError> {
        self.end.push_from(&value)
    }

    /// Pushes a copy of one message from where it lies; for types that are too large to pass by value.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    #[inline]
    pub fn push_from(&mut self, value: &T) -> Result<(), PushError> {
        self.end.push_from(value)
    }

    /// Pushes all messages of a slice with one publication, or none of them.
    ///
    /// # Guarantees
    /// As [`push`](Self::push), for the whole batch: no observer, and no crash, shows a part of it.
    ///
    /// # Errors
    /// [`PushError::Full`] if they do not all fit now; more than [`capacity`](Self::capacity) never do.
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> Result<(), PushError> {
        self.end.push_slice(values)
    }

    /// Reserves `n` free slots to be filled in place; nothing is published before
    /// [`Reservation::commit`].
    ///
    /// # Errors
    /// As [`push_slice`](Self::push_slice).
    pub fn reserve(&mut self, n: usize) -> Result<Reservation<'_, T, L>, PushError> {
        self.end.reserve(n)
    }

    /// Messages that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }

    /// Messages published and not yet released. A running consumer can only make it smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Messages that may be pushed now. A running consumer can only make it larger.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether nothing is unreleased. A running consumer can only turn `false` into `true`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a push would find no room. A running consumer can only turn `true` into `false`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// How many messages were ever published: the position of the next one.
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
/// ```compile_fail,E0277
/// fn cloned<T: Clone>() {}
/// cloned::<tidewire_ring::fixed::Consumer<u64>>();
/// ```
pub struct Consumer<T, L: Trust = Trusted> {
    // Freed first: the end keeps the region.
    tenure: Tenure,
    end: PopEnd<T, L>,
}

impl<T, L: Trust> Drop for Consumer<T, L> {
    fn drop(&mut self) {
        self.end.release();
    }
}

impl<T: Pod, L: Trust> Consumer<T, L> {
    /// The end without its role.
    #[doc(hidden)]
    #[inline(always)]
    pub fn as_end(&mut self) -> &mut PopEnd<T, L> {
        &mut self.end
    }

    fn attach(ring: &Ring<T, L>, tenure: Tenure) -> Result<Self, AttachError> {
        // SAFETY: the parts of a validated layout; the role is ours, and what its former holder did happened before.
        let end = unsafe { PopEnd::attach(&ring.region, &ring.layout.parts()) }?;
        Ok(Self { tenure, end })
    }

    /// Pops one message.
    ///
    /// # Guarantees
    /// Wait-free; no system call. The slot is released to the producer at the latest after
    /// [`Tuning::release_every`] messages, or when the ring is found empty.
    ///
    /// # Errors
    /// [`PopError::Empty`] if there is none now, [`PopError::Corrupt`] for good once the producer published an
    /// impossible position.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        self.end.pop()
    }

    /// Pops one message to where it shall lie; for types that are too large to return by value.
    ///
    /// # Errors
    /// As [`pop`](Self::pop); then `to` is unchanged.
    #[inline]
    pub fn pop_to(&mut self, to: &mut T) -> Result<(), PopError> {
        self.end.pop_to(to)
    }

    /// Copies the next message without consuming it.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn peek(&mut self) -> Result<T, PopError> {
        self.end.peek()
    }

    /// Pops up to `to.len()` messages and says how many; at least one.
    ///
    /// # Errors
    /// As [`pop`](Self::pop). An empty `to` takes nothing and returns `Ok(0)`.
    #[inline]
    pub fn pop_into(&mut self, to: &mut [T]) -> Result<usize, PopError> {
        self.end.pop_into(to)
    }

    /// Up to `max` messages to be read in place; nothing is consumed before [`Chunk::release`].
    ///
    /// # Errors
    /// As [`pop`](Self::pop). `max` zero gives an empty chunk.
    pub fn read_chunk(&mut self, max: usize) -> Result<Chunk<'_, T, L>, PopError> {
        self.end.read_chunk(max)
    }

    /// Pops message after message until the ring is empty or corrupt.
    pub fn drain(&mut self) -> Drain<'_, T, L> {
        Drain::new(self)
    }

    /// Releases everything consumed to the producer now.
    pub fn release(&mut self) {
        self.end.release();
    }

    /// Changes how this consumer waits, touches and releases.
    pub fn tune(&mut self, tuning: Tuning) {
        self.end.tune(tuning);
    }

    /// Messages that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.end.capacity()
    }

    /// Messages that may be popped now. A running producer can only make it larger.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Slots that hold no message. A running producer can only make it smaller.
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

    /// Whether every slot holds a message. A running producer can only turn `false` into `true`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// How many messages were ever consumed: the position of the next one.
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

impl<T, L: Trust> fmt::Debug for Producer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("position", &self.end.position()).finish_non_exhaustive()
    }
}

impl<T, L: Trust> fmt::Debug for Consumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("position", &self.end.position()).finish_non_exhaustive()
    }
}
