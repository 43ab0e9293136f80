//! A queue of byte records: many producers, one consumer, messages of 0 to `max` bytes each, in order per producer.
//!
//! Each producer has a lane of its own, a ring of [`tidewire_ring::bytes`], so that a push is one release store that
//! nobody competes for: wait-free, no system call, no read-modify-write, and nothing to repair when its process dies.
//! Who holds which lane is in [`registry`](crate::registry), how the consumer goes over them in [`poll`](crate::poll).
//!
//! # Memory layout
//! See [`layout`](crate::layout); the data of a lane are records as in [`tidewire_ring::bytes`].
//!
//! # Protocol
//! | operation | shared accesses, in order |
//! |---|---|
//! | [`Producer::push`], [`Reservation::commit`], [`Batch::commit`] | those of a ring, in the producer's lane |
//! | [`Consumer::pop_into`] and the others | (tails and bitmap, at a turn) (head, if a lane is left or due) those of a ring |
//!
//! # Crash argument
//! That of the ring for each lane, and of [`registry`](crate::registry) and [`poll`](crate::poll) for the rest.
//!
//! # Not guaranteed
//! Order between producers. A lane with a frame that cannot be is out of use for good, with all that its producer
//! published behind that frame.
//!
//! # Examples
//! ```
//! use tidewire_mpsc::bytes::Queue;
//! use tidewire_shm::Unleased;
//!
//! let queue = Queue::on_heap(4096)?;
//! let mut producer = queue.producer(&Unleased)?;
//! let mut consumer = queue.consumer(&Unleased)?;
//! producer.push(b"hello")?;
//! let mut buffer = [0; 64];
//! let n = consumer.pop_into(&mut buffer)?;
//! assert_eq!(&buffer[..n], b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(all(feature = "std", not(loom)))]
use alloc::vec::Vec;
use core::fmt;

use tidewire_ring::Owner;
pub use tidewire_ring::bytes::{Batch, Record, Reservation};
use tidewire_ring::embed::Parts;
use tidewire_ring::embed::bytes::{PushEnd, SHAPE};
#[cfg(all(feature = "std", not(loom)))]
use tidewire_shm::Part;
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use crate::error::{AttachError, CreateError};
use crate::layout::{Form, KIND_LANES_BYTES, Plan};
use crate::options::{Delivery, Options};
use crate::poll::Poller;
use crate::registry::Core;
use crate::stats::LaneStats;

mod consumer;
mod producer;

pub use consumer::Consumer;
pub use producer::Producer;

pub(crate) const PLAN: Plan =
    Plan { kind: KIND_LANES_BYTES, form: Form::Lanes, element: SHAPE, extra_bytes: |_, _| Some(0) };

/// A queue in a region, created or opened and validated; gives out the roles of producers and of the consumer.
///
/// `L` says whether the peers are trusted (see [`Trust`]).
pub struct Queue<L: Trust = Trusted> {
    core: Core<L>,
}

impl Queue<Trusted> {
    /// A queue on the heap, for threads of this process, with the default [`Options`]: 16 lanes.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two from 64 on, or memory is short.
    pub fn on_heap(capacity_bytes: usize) -> Result<Self, CreateError> {
        let options = Options::new();
        let region =
            Region::heap(Self::bytes(capacity_bytes, &options)?).map_err(tidewire_ring::CreateError::from)?;
        Self::create(region, capacity_bytes, &options)
    }
}

impl<L: Trust> Queue<L> {
    /// Bytes of region that a queue needs whose lanes have `capacity_bytes` of data each.
    ///
    /// # Errors
    /// [`CreateError`] if there are no or too many lanes, or the capacity is no power of two from 64 to 4 GiB.
    pub fn bytes(capacity_bytes: usize, options: &Options) -> Result<usize, CreateError> {
        PLAN.bytes(capacity_bytes, options)
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
    pub fn parts(capacity_bytes: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        PLAN.memory(capacity_bytes, options)
    }

    /// Creates an empty queue in a region that nobody uses (any more). What lay there is gone from the first store on;
    /// killed in between, the region holds no structure. The lanes are not touched.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or can only be read.
    pub fn create(region: Region<L>, capacity_bytes: usize, options: &Options) -> Result<Self, CreateError> {
        let layout = PLAN.create(&region, capacity_bytes, options)?;
        Ok(Self { core: Core { region, layout } })
    }

    /// Opens a queue that somebody created; header and shape are read once and never again. Nothing is written: memory
    /// that can only be read will do, for whoever takes no role ([`lanes`](Self::lanes)).
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what this version and
    /// `type_fingerprint` would have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = PLAN.open(&region, type_fingerprint)?;
        Ok(Self { core: Core { region, layout } })
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
    pub fn producer<V: Liveness>(&self, liveness: &V) -> Result<Producer<L>, AttachError> {
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
    pub fn consumer<V: Liveness>(&self, liveness: &V) -> Result<Consumer<L>, AttachError> {
        let tenure = self.core.attach_consumer(liveness)?;
        Ok(Consumer { tenure, poller: Poller::new(self.core.alias()) })
    }

    /// Producers that there can be at a time.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        self.core.layout.lanes
    }

    /// Bytes of data of one lane, frames and padding included.
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

impl<L: Trust> fmt::Debug for Queue<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt_queue(f)
    }
}
