//! An ordered queue of fixed slots: many producers, one consumer, messages of one plain type `T`, in one order.
//!
//! The protocol, its orderings and its crash argument are those of [`ordered`](crate::ordered): element = slot. A push
//! is lock-free, a pop wait-free.
//!
//! # Examples
//! ```
//! use tidewire_mpsc::ordered::PopError;
//! use tidewire_mpsc::ordered::fixed::Queue;
//! use tidewire_shm::Unleased;
//!
//! let queue = Queue::<u64>::on_heap(64)?;
//! let (mut a, mut b) = (queue.producer(&Unleased)?, queue.producer(&Unleased)?);
//! let mut consumer = queue.consumer(&Unleased)?;
//! a.push(1)?;
//! b.push_slice(&[2, 3])?;
//! a.push(4)?;
//! assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3, 4]);
//! assert_eq!(consumer.pop(), Err(PopError::Empty));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_ring::Owner;
use tidewire_ring::embed::fixed::shape;
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use super::attach::attach_lane;
use super::order::{MAX_RUN, Publisher};
use super::places::{Places, extra_bytes};
use super::reader::{Reader, Unit};
use super::slots::Slots;
use crate::error::{AttachError, CreateError};
use crate::layout::{Form, KIND_ORDERED_FIXED, Layout, Plan};
use crate::options::{Delivery, Options};
use crate::registry::Core;
use crate::stats::LaneStats;

mod consumer;
mod producer;

pub use consumer::{Consumer, Drain};
pub use producer::Producer;

/// A publication takes at least one slot of a lane.
const GRAIN: usize = 1;
/// The most messages that a successor sees again if nobody says otherwise, beside the batch in hand.
const PERIOD: u64 = 64;

pub(crate) fn plan<T: Pod>() -> Plan {
    Plan {
        kind: KIND_ORDERED_FIXED,
        form: Form::Ordered { grain: GRAIN },
        element: shape::<T>(),
        extra_bytes: |lanes, capacity| extra_bytes(lanes, capacity / GRAIN),
    }
}

fn most_at_once(layout: &Layout) -> usize {
    layout.capacity.min(MAX_RUN)
}

/// A queue in a region, created or opened and validated; gives out the roles of producers and of the consumer.
///
/// `L` says whether the peers are trusted (see [`Trust`]).
pub struct Queue<T, L: Trust = Trusted> {
    core: Core<L>,
    places: Places,
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
    fn new(region: Region<L>, layout: Layout) -> Self {
        let places = Places::new(&layout, GRAIN);
        Self { core: Core { region, layout }, places, element: PhantomData }
    }

    /// Bytes of region that a queue needs whose lanes have room for `capacity` messages each.
    ///
    /// # Errors
    /// [`CreateError`] if there are no or too many lanes, the capacity is no power of two, or `T` is empty.
    pub fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError> {
        plan::<T>().bytes(capacity, options)
    }

    /// Creates an empty queue in a region that nobody uses (any more). What lay there is gone from the first store on;
    /// killed in between, the region holds no structure. The lanes are not touched; the order words (8 bytes for each
    /// message of all lanes together) are looked at, and written where they are not zero.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or can only be read.
    pub fn create(region: Region<L>, capacity: usize, options: &Options) -> Result<Self, CreateError> {
        let layout = plan::<T>().create(&region, capacity, options)?;
        Ok(Self::new(region, layout))
    }

    /// Opens a queue that somebody created; header and shape are read once and never again. Nothing is written: memory
    /// that can only be read will do, for whoever takes no role ([`lanes`](Self::lanes)).
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what `T` and `type_fingerprint` would
    /// have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = plan::<T>().open(&region, type_fingerprint)?;
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
    pub fn producer<V: Liveness>(&self, liveness: &V) -> Result<Producer<T, L>, AttachError> {
        let (number, tenure, lane) = attach_lane(&self.core, liveness, GRAIN as u64)?;
        let core = self.core.alias();
        let parts = core.layout.lane(number);
        // SAFETY: data of a validated layout; the handle keeps the region.
        let data = unsafe { core.region.payload(parts.data_offset, parts.capacity * size_of::<T>()) };
        Ok(Producer {
            tenure,
            lane,
            publisher: Publisher::new(&core.region, &self.places, number),
            slots: Slots::new(parts.capacity),
            data,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            core,
            not_sync: PhantomData,
        })
    }

    /// Takes the consumer's role, if it is free or its owner is proven dead, and continues at the last checkpoint.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if somebody has it, else as [`producer`](Self::producer).
    pub fn consumer<V: Liveness>(&self, liveness: &V) -> Result<Consumer<T, L>, AttachError> {
        let tenure = self.core.attach_consumer(liveness)?;
        let core = self.core.alias();
        let capacity = core.layout.capacity;
        let unit = Unit {
            element_bytes: size_of::<T>(),
            grain: GRAIN as u64,
            max_run: most_at_once(&core.layout) as u64,
            period: (capacity as u64 / 8).clamp(1, PERIOD),
        };
        let reader = Reader::new(core, &self.places, unit);
        Ok(Consumer { tenure, reader, slots: Slots::new(capacity), not_sync: PhantomData })
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

    /// What can be seen of the lanes now, for people and monitors. Needs no role and disturbs nobody. What a producer
    /// published last may be missing from `sent`.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.core.lanes()
    }
}

impl<T, L: Trust> fmt::Debug for Queue<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt_queue(f)
    }
}
