//! An ordered queue of byte records: many producers, one consumer, messages of 0 to `max` bytes each, in one order.
//!
//! The protocol, its orderings and its crash argument are those of [`ordered`](crate::ordered): element = byte, and an
//! order word counts records. The records of a lane are framed as in [`tidewire_ring::bytes`]. A push is lock-free, a pop
//! wait-free.
//!
//! # Examples
//! ```
//! use tidewire_mpsc::ordered::bytes::Queue;
//! use tidewire_shm::Unleased;
//!
//! let queue = Queue::on_heap(4096)?;
//! let (mut a, mut b) = (queue.producer(&Unleased)?, queue.producer(&Unleased)?);
//! let mut consumer = queue.consumer(&Unleased)?;
//! a.push(b"hello")?;
//! b.push(b"world")?;
//! let mut buffer = [0; 64];
//! assert_eq!(consumer.pop_into(&mut buffer)?, 5);
//! assert_eq!(&buffer[..5], b"hello");
//! assert_eq!(&*consumer.pop()?, b"world");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;

use tidewire_ring::Owner;
use tidewire_ring::embed::bytes::SHAPE;
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use super::attach::attach_lane;
use super::order::{MAX_RUN, Publisher};
use super::places::{Places, extra_bytes};
use super::reader::{Reader, Unit};
use super::records::{FRAME, Records};
use crate::error::{AttachError, CreateError};
use crate::layout::{Form, KIND_ORDERED_BYTES, Layout, Plan};
use crate::options::{Delivery, Options};
use crate::registry::Core;
use crate::stats::LaneStats;

mod consumer;
mod producer;

pub use consumer::{Consumer, Record};
pub use producer::{Batch, Producer};

/// A publication takes at least a frame of a lane.
const GRAIN: usize = FRAME;

pub(crate) const PLAN: Plan = Plan {
    kind: KIND_ORDERED_BYTES,
    form: Form::Ordered { grain: GRAIN },
    element: SHAPE,
    extra_bytes: |lanes, capacity| extra_bytes(lanes, capacity / GRAIN),
};

/// A queue in a region, created or opened and validated; gives out the roles of producers and of the consumer.
///
/// `L` says whether the peers are trusted (see [`Trust`]).
pub struct Queue<L: Trust = Trusted> {
    core: Core<L>,
    places: Places,
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
    fn new(region: Region<L>, layout: Layout) -> Self {
        let places = Places::new(&layout, GRAIN);
        Self { core: Core { region, layout }, places }
    }

    /// Bytes of region that a queue needs whose lanes have `capacity_bytes` of data each.
    ///
    /// # Errors
    /// [`CreateError`] if there are no or too many lanes, or the capacity is no power of two from 64 to 4 GiB.
    pub fn bytes(capacity_bytes: usize, options: &Options) -> Result<usize, CreateError> {
        PLAN.bytes(capacity_bytes, options)
    }

    /// Creates an empty queue in a region that nobody uses (any more). What lay there is gone from the first store on;
    /// killed in between, the region holds no structure. The lanes are not touched; the order words (8 bytes for each
    /// 8 bytes of all lanes together) are looked at, and written where they are not zero.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or can only be read.
    pub fn create(region: Region<L>, capacity_bytes: usize, options: &Options) -> Result<Self, CreateError> {
        let layout = PLAN.create(&region, capacity_bytes, options)?;
        Ok(Self::new(region, layout))
    }

    /// Opens a queue that somebody created; header and shape are read once and never again. Nothing is written: memory
    /// that can only be read will do, for whoever takes no role ([`lanes`](Self::lanes)).
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what this version and
    /// `type_fingerprint` would have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = PLAN.open(&region, type_fingerprint)?;
        Ok(Self::new(region, layout))
    }

    /// Takes a free lane and continues where it ends.
    ///
    /// # Guarantees
    /// A bounded number of steps and questions to `liveness`; does not wait. A lane whose owner died is free only after
    /// the consumer [reclaimed](Consumer::reclaim) it.
    ///
    /// # Errors
    /// [`AttachError::LanesExhausted`] if there is none, [`AttachError::Incompatible`] if the queue was made for
    /// another kind of liveness, or its memory can not all be written here; [`AttachError::Lease`] if the system refused to
    /// answer.
    pub fn producer<V: Liveness>(&self, liveness: &V) -> Result<Producer<L>, AttachError> {
        let (number, tenure, lane) = attach_lane(&self.core, liveness, GRAIN as u64)?;
        let core = self.core.alias();
        let publisher = Publisher::new(&core.region, &self.places, number);
        Ok(Producer::new(core, number, tenure, lane, publisher))
    }

    /// Takes the consumer's role, if it is free or its owner is proven dead, and continues at the last checkpoint.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if somebody has it, else as [`producer`](Self::producer).
    pub fn consumer<V: Liveness>(&self, liveness: &V) -> Result<Consumer<L>, AttachError> {
        let tenure = self.core.attach_consumer(liveness)?;
        let core = self.core.alias();
        let capacity = core.layout.capacity;
        let unit = Unit {
            element_bytes: 1,
            grain: GRAIN as u64,
            max_run: MAX_RUN.min(capacity / GRAIN) as u64,
            period: capacity as u64 / 8,
        };
        Ok(Consumer::new(tenure, Reader::new(core, &self.places, unit), Records::new(capacity)))
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

    /// What can be seen of the lanes now, for people and monitors. Needs no role and disturbs nobody. What a producer
    /// published last may be missing from `sent`.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.core.lanes()
    }
}

impl<L: Trust> fmt::Debug for Queue<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt_queue(f)
    }
}
