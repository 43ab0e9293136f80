//! A look at a ring by somebody who knows nothing of its messages but what the header says.

use core::fmt;

use tidewire_shm::{Field, Header, Incompatible, Region, Trust, Trusted};

use crate::bytes::end::SHAPE;
use crate::error::AttachError;
use crate::layout::{KIND_BYTES, KIND_FIXED, Layout, Shape, Side};
use crate::role::{self, Owner};
use crate::stats::Stats;

/// A ring of any kind and of any type, for whoever only looks: monitors, and the tools of an operator. It takes no role.
///
/// # Guarantees
/// Nothing is ever written: memory that can only be read will do. What the header says of the messages is believed only as
/// far as all of the ring then lies within the region. Whoever lies about a position lies about numbers, and nothing else.
///
/// # Examples
/// ```
/// use tidewire_ring::fixed::Ring;
/// use tidewire_ring::{Options, View};
/// use tidewire_shm::Segment;
///
/// let options = Options::new();
/// let segment = Segment::anonymous(Ring::<[u64; 3]>::bytes(16, &options)?)?;
/// let mut producer = Ring::<[u64; 3], _>::create(segment.region(), 16, &options)?.producer()?;
/// producer.push([1, 2, 3])?;
///
/// let view = View::open(segment.region().read_only())?;
/// assert_eq!((view.element_bytes(), view.capacity(), view.stats().depth), (24, 16, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct View<L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    shape: Shape,
}

impl<L: Trust> View<L> {
    /// Opens a ring that somebody created; the header is read once and never again.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that no ring has.
    pub fn open(region: Region<L>) -> Result<Self, AttachError> {
        let header = Header::inspect(&region)?;
        let shape = match header.kind {
            KIND_BYTES => SHAPE,
            KIND_FIXED => slots_of(&header)?,
            found => return Err(Incompatible::new(Field::Kind, KIND_FIXED.into(), found.into()).into()),
        };
        let layout = shape.open(&region, header.type_fingerprint)?;
        Ok(Self { region, layout, shape })
    }

    /// What kind of ring it is: [`KIND_FIXED`] or [`KIND_BYTES`].
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.shape.kind
    }

    /// Bytes of a message; 1 in a ring of records.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        self.shape.element_bytes
    }

    /// Messages that fit; bytes in a ring of records, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.layout.capacity
    }

    /// What can be seen of the ring now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.region, &self.layout)
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
}

impl<L: Trust> fmt::Debug for View<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layout, shape, .. } = self;
        f.debug_struct("View")
            .field("shape", shape)
            .field("capacity", &layout.capacity)
            .finish_non_exhaustive()
    }
}

/// The shape of the slots of which a header tells, if a type can be so: as long as some multiple of its alignment. How long
/// it may be at most, and how aligned, is asked where the layout is made of it.
///
/// # Errors
/// The field that no type has.
pub fn slots_of(header: &Header) -> Result<Shape, Incompatible> {
    let Header { element_bytes: bytes, element_align: align, .. } = *header;
    let no_align = Incompatible::new(Field::ElementAlign, 1, align);
    let no_bytes = Incompatible::new(Field::ElementBytes, align, bytes);
    if !align.is_power_of_two() {
        return Err(no_align);
    }
    if !bytes.is_multiple_of(align) {
        return Err(no_bytes);
    }
    Ok(Shape {
        kind: KIND_FIXED,
        element_bytes: usize::try_from(bytes).map_err(|_| no_bytes)?,
        element_align: usize::try_from(align).map_err(|_| no_align)?,
        min_capacity: 1,
        max_capacity: usize::MAX,
    })
}
