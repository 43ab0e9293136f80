//! Where the words and the data of a ring lie.
//!
//! # Memory layout
//! ```text
//! line stride   page stride   owner      what
//!           0             0   creator    header (128 bytes), written once
//!         128          4096   producer   tail u64: everything below is published
//!         256          8448   consumer   head u64: everything below is free again
//!         384          4224   producer   owner u64; bell u32 at +8 and 12 reserved bytes
//!         400           128   creator    liveness u64, written once
//!         512          8576   consumer   owner u64; bell u32 at +8 and 12 reserved bytes
//!         640         12288   both       data, 128-byte aligned: slots or records
//! ```
//! Each row is a 128-byte line, but for `liveness`, which lies in one of them. With page stride the producer's lines fill page 1 and the consumer's page 2, at
//! different offsets inside their pages so that the two hot lines never share a cache set.
//!
//! So with page stride each role can have its words in a memory that only it can write ([`Part`](tidewire_shm::Part)):
//! a role stores into its own two lines and into the data, which the consumer touches; the creator stores what it can
//! write, and what it cannot must say already what it shall. A role is given to nobody who cannot write what is its.
//!
//! `liveness` is the [`Liveness::KIND`] of the leases by which the roles are taken; 0, as in rings that know nothing
//! of leases: roles are taken without. Whoever opens the ring reads it once.

#[cfg(all(feature = "std", not(loom)))]
use alloc::vec::Vec;

use tidewire_shm::sync::Ordering;
use tidewire_shm::{
    Field, HEADER_BYTES, Header, Incompatible, LINE_BYTES, Liveness, Region, RegionError, RoleStride, Trust,
};
#[cfg(all(feature = "std", not(loom)))]
use tidewire_shm::{Part, RoleId};

use crate::error::CreateError;
#[cfg(all(feature = "std", not(loom)))]
use crate::role::role_id;

/// The header kind of a ring of fixed slots.
pub const KIND_FIXED: u32 = 0x0001_0001;
/// The header kind of a ring of byte records.
pub const KIND_BYTES: u32 = 0x0001_0002;

/// The largest element; keeps element times capacity within the address size.
pub(crate) const MAX_ELEMENT_BYTES: usize = if usize::BITS > 32 { 1 << 31 } else { 1 << 27 };

/// What a creator may choose beside the capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How far apart the two sides' control words lie.
    pub role_stride: RoleStride,
    /// A name for the element type, compared when the ring is opened; 0 says none.
    pub type_fingerprint: u64,
    /// What kind of leases the processes use ([`Liveness::KIND`]); 0 says none.
    pub liveness: u32,
}

impl Options {
    /// The defaults: line stride, no type fingerprint, no leases.
    #[must_use]
    pub const fn new() -> Self {
        Self { role_stride: RoleStride::Line, type_fingerprint: 0, liveness: 0 }
    }

    /// Chooses the role stride.
    #[must_use]
    pub const fn role_stride(mut self, stride: RoleStride) -> Self {
        self.role_stride = stride;
        self
    }

    /// Names the element type.
    #[must_use]
    pub const fn type_fingerprint(mut self, fingerprint: u64) -> Self {
        self.type_fingerprint = fingerprint;
        self
    }

    /// Chooses the kind of leases that everybody who takes a role must use: with them a dead holder's role is taken
    /// over by safe code (`producer_with` and `consumer_with` of the rings, with the feature `alloc`), and no role is
    /// given without.
    #[must_use]
    pub const fn liveness<V: Liveness>(mut self) -> Self {
        self.liveness = V::KIND;
        self
    }
}

/// One side of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

impl Side {
    fn number(self) -> usize {
        match self {
            Self::Producer => 0,
            Self::Consumer => 1,
        }
    }
}

/// What kind of element a ring holds; the shape half of a `Layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The header kind of a ring of them.
    pub kind: u32,
    /// Bytes of one element.
    pub element_bytes: usize,
    /// Alignment of one element.
    pub element_align: usize,
    /// The smallest capacity, in elements.
    pub min_capacity: usize,
    /// The largest capacity, in elements; memory may allow less.
    pub max_capacity: usize,
}

/// Where the words and the data of one ring lie in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The producer's position.
    pub tail_offset: usize,
    /// The consumer's position.
    pub head_offset: usize,
    /// Slots or records.
    pub data_offset: usize,
    /// Slots or bytes; a power of two.
    pub capacity: usize,
}

/// Validated, private, never read from shared memory again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) capacity: usize,
    pub(crate) data_bytes: usize,
    /// The kind of leases by which roles are taken; 0: none.
    pub(crate) liveness: u64,
    stride: RoleStride,
}

impl Shape {
    /// The largest data area; keeps every sum of offsets within 63 bits.
    const MAX_DATA_BYTES: usize = 1 << (usize::BITS - 4);

    fn max_capacity(&self, rings: usize) -> usize {
        let most = Self::MAX_DATA_BYTES / self.element_bytes.max(1) / rings.max(1);
        (1 << most.max(1).ilog2()).min(self.max_capacity)
    }

    /// The bytes of data of one of `rings` rings of `capacity`, if that is a capacity for them.
    ///
    /// # Errors
    /// [`CreateError::Element`] or [`CreateError::Capacity`]: what is wrong.
    pub fn data_bytes(&self, capacity: usize, rings: usize) -> Result<usize, CreateError> {
        let &Self { element_bytes: bytes, element_align: align, min_capacity: min, .. } = self;
        if bytes == 0 || bytes > MAX_ELEMENT_BYTES || align > LINE_BYTES {
            return Err(CreateError::Element { bytes, align });
        }
        let max = self.max_capacity(rings);
        if !capacity.is_power_of_two() || capacity < min || capacity > max {
            return Err(CreateError::Capacity { min, max, found: capacity });
        }
        Ok(capacity * bytes)
    }

    fn layout(&self, capacity: usize, stride: RoleStride, liveness: u64) -> Result<Layout, CreateError> {
        Ok(Layout { capacity, data_bytes: self.data_bytes(capacity, 1)?, liveness, stride })
    }

    /// Bytes that a ring of this shape needs.
    pub(crate) fn bytes(&self, capacity: usize, options: &Options) -> Result<usize, CreateError> {
        Ok(self.layout(capacity, options.role_stride, options.liveness.into())?.total_bytes())
    }

    /// Takes away an old magic, sets the control words and writes the header, the magic last.
    ///
    /// | killed | the others see |
    /// |---|---|
    /// | before the old magic is gone | what was there |
    /// | before the new magic is stored | no structure; whoever wants one creates it |
    /// | after | an empty ring |
    pub(crate) fn create<L: Trust>(
        &self,
        region: &Region<L>,
        capacity: usize,
        options: &Options,
    ) -> Result<Layout, CreateError> {
        region.require_writable_at(0, HEADER_BYTES.min(region.len()))?;
        let layout = self.layout(capacity, options.role_stride, options.liveness.into())?;
        let too_small = CreateError::RegionTooSmall { needed: layout.total_bytes(), found: region.len() };
        if layout.total_bytes() > region.len() {
            return Err(too_small);
        }
        layout.require_cleared(region)?;
        Header::retract(region).map_err(|_| too_small)?;
        layout.clear(region);
        let header = Header {
            kind: self.kind,
            total_bytes: layout.total_bytes() as u64,
            capacity: capacity as u64,
            element_bytes: self.element_bytes as u64,
            element_align: self.element_align as u64,
            type_fingerprint: options.type_fingerprint,
            role_stride: options.role_stride,
            data_offset: layout.data_offset() as u64,
            origin: region.origin(),
        };
        header.write(region).map_err(|_| too_small)?;
        Ok(layout)
    }

    /// The parts of a segment for such a ring: one for each role with page stride; with line stride all roles share one.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn memory(&self, capacity: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        let layout = self.layout(capacity, options.role_stride, options.liveness.into())?;
        let page = RoleStride::Page.bytes();
        let up = |bytes: usize| bytes.next_multiple_of(page);
        Ok(match options.role_stride {
            RoleStride::Line => [Part::shared(up(layout.total_bytes()))].into(),
            _ => [
                Part::written_by(RoleId::CREATOR, page),
                Part::written_by(role_id(Side::Producer), page),
                Part::written_by(role_id(Side::Consumer), page),
                Part::shared_by([role_id(Side::Producer), role_id(Side::Consumer)], up(layout.data_bytes)),
            ]
            .into(),
        })
    }

    /// Reads the header once and compares every field with what this shape would have written. Nothing is written, and
    /// nothing needs to be writable before a role is taken.
    pub(crate) fn open<L: Trust>(
        &self,
        region: &Region<L>,
        type_fingerprint: u64,
    ) -> Result<Layout, Incompatible> {
        let header = Header::inspect(region)?;
        let same = |field, expected: u64, found: u64| {
            if expected == found { Ok(()) } else { Err(Incompatible::new(field, expected, found)) }
        };
        same(Field::Kind, self.kind.into(), header.kind.into())?;
        same(Field::ElementBytes, self.element_bytes as u64, header.element_bytes)?;
        same(Field::ElementAlign, self.element_align as u64, header.element_align)?;
        same(Field::TypeFingerprint, type_fingerprint, header.type_fingerprint)?;
        let bad_capacity = Incompatible::new(Field::Capacity, self.min_capacity as u64, header.capacity);
        let capacity = usize::try_from(header.capacity).map_err(|_| bad_capacity)?;
        let mut layout = self.layout(capacity, header.role_stride, 0).map_err(|error| match error {
            CreateError::Element { bytes, .. } => Incompatible::new(Field::ElementBytes, 1, bytes as u64),
            _ => bad_capacity,
        })?;
        same(Field::DataOffset, layout.data_offset() as u64, header.data_offset)?;
        same(Field::TotalBytes, layout.total_bytes() as u64, header.total_bytes)?;
        // SAFETY: a control word of this layout, within the region, which outlives the handle.
        let liveness = unsafe { region.atomic_u64(layout.liveness_offset()) };
        // ORD header.publish: Relaxed, behind the acquiring fence of `Header::inspect`.
        layout.liveness = liveness.load(Ordering::Relaxed);
        Ok(layout)
    }
}

impl Layout {
    /// The line of a side: number 0 holds its position, number 1 its owner and bell.
    fn line(&self, side: Side, number: usize) -> usize {
        let side = side.number();
        match self.stride {
            RoleStride::Line => HEADER_BYTES + (2 * number + side) * LINE_BYTES,
            stride => (1 + side) * stride.bytes() + (2 * side + number) * LINE_BYTES,
        }
    }

    /// Where the words and the data lie.
    pub(crate) fn parts(&self) -> Parts {
        Parts {
            tail_offset: self.position(Side::Producer),
            head_offset: self.position(Side::Consumer),
            data_offset: self.data_offset(),
            capacity: self.capacity,
        }
    }

    /// The side's position word.
    pub(crate) fn position(&self, side: Side) -> usize {
        self.line(side, 0)
    }

    /// The side's owner word.
    pub(crate) fn owner(&self, side: Side) -> usize {
        self.line(side, 1)
    }

    /// The kind of leases: in the line of the producer's owner word, or on the creator's page.
    fn liveness_offset(&self) -> usize {
        match self.stride {
            RoleStride::Line => self.owner(Side::Producer) + 16,
            _ => HEADER_BYTES,
        }
    }

    pub(crate) fn data_offset(&self) -> usize {
        match self.stride {
            RoleStride::Line => HEADER_BYTES + 4 * LINE_BYTES,
            stride => 3 * stride.bytes(),
        }
    }

    fn total_bytes(&self) -> usize {
        self.data_offset() + self.data_bytes
    }

    /// Whether a side can write what it has to: its own lines, and the data, which the consumer touches.
    pub(crate) fn require_writable<L: Trust>(
        &self,
        region: &Region<L>,
        side: Side,
    ) -> Result<(), Incompatible> {
        let own = [0, 1].map(|number| (self.line(side, number), LINE_BYTES));
        let data = (self.data_offset(), self.data_bytes);
        if own.into_iter().chain([data]).all(|(offset, len)| region.is_writable_at(offset, len)) {
            Ok(())
        } else {
            Err(Incompatible::new(Field::Access, 1, 0))
        }
    }

    /// The control words, and what they say in a new ring. The kind of leases comes last: with line stride it lies in a
    /// line of which the rest is zeroed.
    fn words(&self) -> impl Iterator<Item = (usize, u64)> + use<> {
        let liveness = (self.liveness_offset(), self.liveness);
        let lines = [Side::Producer, Side::Consumer].map(|side| (self.position(side), self.owner(side)));
        let words = lines.into_iter().flat_map(|(position, owner)| [position, owner, owner + 8, owner + 16]);
        words.filter(move |offset| *offset != liveness.0).map(|offset| (offset, 0)).chain([liveness])
    }

    /// What this process cannot write, since it is in another role's memory, must say already what it shall.
    fn require_cleared<L: Trust>(&self, region: &Region<L>) -> Result<(), RegionError> {
        for (offset, value) in self.words().filter(|(offset, _)| !region.is_writable_at(*offset, 8)) {
            // SAFETY: a control word of this layout, within the region, which outlives the handle.
            let word = unsafe { region.atomic_u64(offset) };
            // ORD advice: Relaxed, nobody uses the words yet; whoever writes it can do so at any time.
            if word.load(Ordering::Relaxed) != value {
                region.require_writable_at(offset, 8)?;
            }
        }
        Ok(())
    }

    /// Zeroes the control words that this process can write, and says the kind of leases.
    fn clear<L: Trust>(&self, region: &Region<L>) {
        for (offset, value) in self.words().filter(|(offset, _)| region.is_writable_at(*offset, 8)) {
            // SAFETY: a control word of this layout, within the region, which outlives the handle.
            let word = unsafe { region.atomic_u64(offset) };
            // ORD header.publish: Relaxed, the header's magic publishes the words.
            word.store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(stride: RoleStride) -> Layout {
        let shape = Shape {
            kind: KIND_FIXED,
            element_bytes: 8,
            element_align: 8,
            min_capacity: 1,
            max_capacity: usize::MAX,
        };
        shape.layout(16, stride, 0).expect("a plain shape")
    }

    /// The layout is an interface: other versions and languages read it. Changing these numbers needs a new
    /// major version in the header.
    #[test]
    fn offsets_are_those_of_the_drawing() {
        let line = layout(RoleStride::Line);
        assert_eq!([line.position(Side::Producer), line.position(Side::Consumer)], [128, 256]);
        assert_eq!([line.owner(Side::Producer), line.owner(Side::Consumer)], [384, 512]);
        assert_eq!(line.liveness_offset(), 400);
        assert_eq!(line.data_offset(), 640);
        assert_eq!(line.total_bytes(), 640 + 128);

        let page = layout(RoleStride::Page);
        assert_eq!([page.position(Side::Producer), page.position(Side::Consumer)], [4096, 8448]);
        assert_eq!([page.owner(Side::Producer), page.owner(Side::Consumer)], [4224, 8576]);
        assert_eq!(page.liveness_offset(), 128);
        assert_eq!(page.data_offset(), 12288);
    }
}
