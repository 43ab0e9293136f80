//! A look at a queue by somebody who knows nothing of its messages but what the header says.

use core::fmt;

use tidewire_ring::Owner;
use tidewire_ring::embed::fixed::slots_of;
use tidewire_shm::{Field, Header, Incompatible, Region, Trust, Trusted};

use crate::error::AttachError;
use crate::layout::{
    KIND_LANES_BYTES, KIND_LANES_FIXED, KIND_ORDERED_BYTES, KIND_ORDERED_FIXED, Layout, Plan,
};
use crate::registry::Core;
use crate::stats::LaneStats;
use crate::{bytes, fixed, ordered};

/// A queue of any kind and of any type, for whoever only looks: monitors, and the tools of an operator. It takes no role.
///
/// # Guarantees
/// Nothing is ever written: memory that can only be read will do. What the header says of the messages is believed only as
/// far as all of the queue then lies within the region. Whoever lies about a position lies about numbers, and nothing else.
///
/// # Examples
/// ```
/// use tidewire_mpsc::fixed::Queue;
/// use tidewire_mpsc::{Options, View};
/// use tidewire_shm::{Segment, Unleased};
///
/// let options = Options::new().lanes(2);
/// let segment = Segment::anonymous(Queue::<[u64; 3]>::bytes(16, &options)?)?;
/// let queue = Queue::<[u64; 3], _>::create(segment.region(), 16, &options)?;
/// queue.producer(&Unleased)?.push([1, 2, 3])?;
///
/// let view = View::open(segment.region().read_only())?;
/// assert_eq!((view.element_bytes(), view.lane_capacity()), (24, 16));
/// assert_eq!(view.lanes().map(|lane| lane.depth).collect::<Vec<_>>(), [1, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct View<L: Trust = Trusted> {
    core: Core<L>,
    plan: Plan,
}

/// What a queue must be that has this header.
fn plan_of(header: &Header) -> Result<Plan, Incompatible> {
    Ok(match header.kind {
        // But for the element it is the same for all types.
        KIND_LANES_FIXED => Plan { element: slots_of(header)?, ..fixed::plan::<u8>() },
        KIND_LANES_BYTES => bytes::PLAN,
        KIND_ORDERED_FIXED => Plan { element: slots_of(header)?, ..ordered::fixed::plan::<u8>() },
        KIND_ORDERED_BYTES => ordered::bytes::PLAN,
        found => return Err(Incompatible::new(Field::Kind, KIND_LANES_FIXED.into(), found.into())),
    })
}

impl<L: Trust> View<L> {
    /// Opens a queue that somebody created; header and shape are read once and never again.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that no queue has.
    pub fn open(region: Region<L>) -> Result<Self, AttachError> {
        let header = Header::inspect(&region)?;
        let plan = plan_of(&header)?;
        let layout = plan.open(&region, header.type_fingerprint)?;
        Ok(Self { core: Core { region, layout }, plan })
    }

    /// What kind of queue it is: [`KIND_LANES_FIXED`] and so on.
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.plan.kind
    }

    /// Bytes of a message; 1 in a queue of records.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        self.plan.element.element_bytes
    }

    /// Producers that there can be at a time.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        self.core.layout.lanes
    }

    /// Messages that fit into one lane; bytes in a queue of records, frames and padding included.
    #[must_use]
    pub fn lane_capacity(&self) -> usize {
        self.core.layout.capacity
    }

    /// What can be seen of the lanes now. What a producer published last in an ordered queue may be missing from `sent`.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.core.lanes()
    }

    /// Who holds the consumer's role now.
    #[must_use]
    pub fn consumer_owner(&self) -> Option<Owner> {
        self.core.consumer_owner()
    }
}

impl<L: Trust> fmt::Debug for View<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Layout { lanes, capacity, .. } = &self.core.layout;
        f.debug_struct("View")
            .field("element", &self.plan.element)
            .field("lanes", lanes)
            .field("lane_capacity", capacity)
            .finish_non_exhaustive()
    }
}
