//! A queue of fixed slots: many producers, one consumer, messages of one plain type `T`, in order per producer.
//!
//! Each producer has a lane of its own, a ring of [`tidewire_ring::fixed`], so that a push is one release store that
//! nobody competes for: wait-free, no system call, no read-modify-write, and nothing to repair when its process dies.
//! Who holds which lane is in [`registry`](crate::registry), how the consumer goes over them in [`poll`](crate::poll).
//!
//! # Memory layout
//! See [`layout`](crate::layout); the data of a lane are slots as in [`tidewire_ring::fixed`].
//!
//! # Protocol
//! | operation | shared accesses, in order |
//! |---|---|
//! | [`Producer::push`], [`Producer::push_slice`], [`Reservation::commit`] | those of a ring, in the producer's lane |
//! | [`Consumer::pop`] and the others | (tails and bitmap, at a turn) (head, if a lane is left or due) those of a ring |
//!
//! # Crash argument
//! That of the ring for each lane, and of [`registry`](crate::registry) and [`poll`](crate::poll) for the rest.
//!
//! # Not guaranteed
//! Order between producers. With [`Untrusted`](tidewire_shm::Untrusted) peers a message may hold any bytes: validate it
//! as you would a packet.
//!
//! # Examples
//! ```
//! use tidewire_mpsc::PopError;
//! use tidewire_mpsc::fixed::Queue;
//! use tidewire_shm::Unleased;
//!
//! let queue = Queue::<u64>::on_heap(64)?;
//! let (mut a, mut b) = (queue.producer(&Unleased)?, queue.producer(&Unleased)?);
//! let mut consumer = queue.consumer(&Unleased)?;
//! a.push(1)?;
//! b.push(2)?;
//! a.push(3)?;
//! let mut got: Vec<u64> = consumer.drain().collect();
//! got.sort_unstable();
//! assert_eq!(got, [1, 2, 3]);
//! assert_eq!(consumer.pop(), Err(PopError::Empty));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(all(feature = "std", not(loom)))]
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_ring::Owner;
use tidewire_ring::embed::Parts;
use tidewire_ring::embed::fixed::{PushEnd, shape};
pub use tidewire_ring::fixed::{Chunk, Reservation};
#[cfg(all(feature = "std", not(loom)))]
use tidewire_shm::Part;
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use crate::error::{AttachError, CreateError};
use crate::layout::{Form, KIND_LANES_FIXED, Plan};
use crate::options::{Delivery, Options};
use crate::poll::Poller;
use crate::registry::Core;
use crate::stats::LaneStats;

mod consumer;
mod producer;

pub use consumer::{Consumer, Drain};
pub use producer::Producer;

pub(crate) fn plan<T: Pod>() -> Plan {
    Plan { kind: KIND_LANES_FIXED, form: Form::Lanes, element: shape::<T>(), extra_bytes: |_, _| Some(0) }
}

/// A queue in a region, created or opened and validated; gives out the roles of producers and of the consumer.
///
/// `L` says whether the peers are trusted (see [`Trust`]).
pub struct Queue<T, L: Trust = Trusted> {
    core: Core<L>,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Pod> Queue<T, Trusted> {
    /// A queue on the heap, for threads of this process, with the default [`Options`]: 16 lanes.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two, `T` is empty, or memory is short.
    pub fn on_heap(capacity: usize) -> Result<Self, CreateError> {
        let options = Options::new();
        let region =
            Region::heap(Self::bytes(capacity, &options)?).map_err(tidewire_ring::CreateError::from)?;
        Self::create(region, capacity, &options)
    }
}

impl<T: Pod, L: Trust> Queue<T, L> {
    /// Bytes of region that a queue needs whose lanes have room for `capacity` messages each.
    ///
    /// # Errors
    /// [`CreateError`] if there are no or too many lanes, the capacity is no power of two, or `T` is empty.
    pub fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError> {
        plan::<T>().bytes(capacity, options)
    }

    /// The parts of a segment ([`PartedSegment`](tidewire_shm::PartedSegment)) for such a queue between processes that do
    /// not trust each other; which those are, and what the kernel then refuses, is the table of [`layout`](crate::layout).
    /// With line stride all of it is one part that everybody writes.
    ///
    /// Whoever is [`RoleId::CREATOR`](tidewire_shm::RoleId::CREATOR) creates the queue before it sends the parts; producer i is
    /// [`RoleId::producer(i)`](tidewire_shm::RoleId::producer), and gets lane i. There are more parts than a segment has
    /// ([`PartedDraft::new`](tidewire_shm::PartedDraft::new) says so) for more than 20 lanes.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    #[cfg(all(feature = "std", not(loom)))]
    pub fn parts(capacity: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        plan::<T>().memory(capacity, options)
    }

    /// Creates an empty queue in a region that nobody uses (any more). What lay there is gone from the first store on;
    /// killed in between, the region holds no structure. The lanes are not touched.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or can only be read.
    ///
    /// # Examples
    /// ```
    /// use tidewire_mpsc::fixed::Queue;
    /// use tidewire_mpsc::{Delivery, Options};
    /// use tidewire_shm::Region;
    ///
    /// let options = Options::new().lanes(4).delivery(Delivery::AtMostOnce);
    /// let bytes = Queue::<u64>::bytes(1024, &options)?;
    /// let queue = Queue::<u64>::create(Region::heap(bytes)?, 1024, &options)?;
    /// assert_eq!((queue.lane_count(), queue.lane_capacity()), (4, 1024));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(region: Region<L>, capacity: usize, options: &Options) -> Result<Self, CreateError> {
        let layout = plan::<T>().create(&region, capacity, options)?;
        Ok(Self { core: Core { region, layout }, element: PhantomData })
    }

    /// Opens a queue that somebody created; header and shape are read once and never again. Nothing is written: memory
    /// that can only be read will do, for whoever takes no role ([`lanes`](Self::lanes)).
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what `T` and `type_fingerprint` would
    /// have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = plan::<T>().open(&region, type_fingerprint)?;
        Ok(Self { core: Core { region, layout }, element: PhantomData })
    }

    /// Takes a lane, whichever is free or owned by somebody who is proven dead, and continues at its published tail.
    ///
    /// # Guarantees
    /// A bounded number of steps and questions to `liveness`; does not wait. What former owners of the lane pushed is
    /// delivered before what this one pushes, and takes room until then.
    ///
    /// # Errors
    /// [`AttachError::LanesExhausted`] if there is none, [`AttachError::Incompatible`] if the queue was made for
    /// another kind of liveness, or its words can only be read here; [`AttachError::Lease`] if the system refused to
    /// answer.
    pub fn producer<V: Liveness>(&self, liveness: &V) -> Result<Producer<T, L>, AttachError> {
        // SAFETY: the parts of a validated layout; G1, and what the former owner did happened before: `role.free` or
        // the proof.
        let make = |region: &Region<L>, parts: &Parts| unsafe { PushEnd::attach(region, parts) };
        let (lane, tenure, end) = self.core.attach_lane(liveness, make)?;
        let lane = u32::try_from(lane).unwrap_or(u32::MAX);
        Ok(Producer { tenure, end, lane, core: self.core.alias() })
    }

    /// Takes the consumer's role, if it is free or its owner is proven dead, and continues at the published heads.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if somebody has it, else as [`producer`](Self::producer).
    pub fn consumer<V: Liveness>(&self, liveness: &V) -> Result<Consumer<T, L>, AttachError> {
        let tenure = self.core.attach_consumer(liveness)?;
        Ok(Consumer { tenure, poller: Poller::new(self.core.alias()) })
    }

    /// Producers that there can be at a time.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        self.core.layout.lanes
    }

    /// Messages that fit into one lane.
    #[must_use]
    pub fn lane_capacity(&self) -> usize {
        self.core.layout.capacity
    }

    /// What becomes of messages that a consumer had in its hand when it died.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.core.layout.delivery
    }

    /// Who owns a lane now.
    #[must_use]
    pub fn producer_owner(&self, lane: u32) -> Option<Owner> {
        self.core.lane_owner(lane)
    }

    /// Who holds the consumer's role now.
    #[must_use]
    pub fn consumer_owner(&self) -> Option<Owner> {
        self.core.consumer_owner()
    }

    /// What can be seen of the lanes now, for people and monitors. Needs no role and disturbs nobody.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.core.lanes()
    }

    /// Frees the lanes whose owner is proven dead, and says how many; what they pushed is still delivered.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] if the queue was made for another kind of liveness, [`AttachError::Lease`] if the
    /// system refused to answer; what was freed before stays so, and the rest can be tried again.
    pub fn reclaim<V: Liveness>(&self, liveness: &V) -> Result<u32, AttachError> {
        self.core.reclaim(liveness)
    }
}

impl<T, L: Trust> fmt::Debug for Queue<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt_queue(f)
    }
}
