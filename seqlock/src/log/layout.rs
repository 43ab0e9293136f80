//! Where the words of a log lie.
//!
//! The drawing stands in [`log`](crate::log); this file measures it, writes it and checks it.

use bytemuck::{Pod, Zeroable};
use tidewire_shm::{
    Field, HEADER_BYTES, Header, Incompatible, LINE_BYTES, Liveness, Region, RoleStride, Trust,
};

use crate::codec::{Bytes, Codec as _};
use crate::error::CreateError;
use crate::layout::{KIND_LOG, Layout as Front, MAX_ELEMENT_BYTES, SHAPE_OFFSET, WORD_BYTES, clear, same};
use crate::wait::Wake;

/// The header kind of a log of bytes.
pub const KIND_LOG_BYTES: u32 = 0x0003_0007;

/// The most readers with gates. Each of them costs the writer a look at a line now and then.
pub const MAX_GATES: u32 = 256;

/// With four slots, a stamp that nobody could have written yet is known for a lie. Models make do with two.
const MIN_CAPACITY: u32 = if cfg!(loom) { 2 } else { 4 };
const MAX_CAPACITY: u32 = 1 << 30;
/// Groups that a log has at least, unless it has fewer slots.
const GROUPS: u32 = if cfg!(loom) { 4 } else { 16 };
/// The most slots of a group.
const MAX_GROUP: u32 = 64;
/// Pieces of a log.
const PIECES: u32 = 4;

/// What a creator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How many values the log keeps, a power of two from 4 to 2^30.
    pub capacity: u32,
    /// How many readers the writer can be made to wait for, at most 256. 0 makes a log that only ever overwrites.
    pub gates: u32,
    /// The kind of leases that the writer and readers with gates will hold ([`Liveness::KIND`]).
    pub liveness: u32,
    /// How far apart lie what the writer, and what each reader with a gate writes.
    pub role_stride: RoleStride,
    /// A name for the type of the values, compared when the log is opened; 0 says none.
    pub type_fingerprint: u64,
    /// What the writer does for readers that wait.
    pub wake: Wake,
}

impl Options {
    /// A log that keeps so many values; no gates, no leases, line stride, no type fingerprint, a writer that wakes nobody.
    #[must_use]
    pub const fn new(capacity: u32) -> Self {
        Self {
            capacity,
            gates: 0,
            liveness: 0,
            role_stride: RoleStride::Line,
            type_fingerprint: 0,
            wake: Wake::Never,
        }
    }

    /// Chooses how many readers may have gates.
    #[must_use]
    pub const fn gates(mut self, gates: u32) -> Self {
        self.gates = gates;
        self
    }

    /// Chooses the kind of leases that will be held; those of another kind are refused.
    #[must_use]
    pub const fn liveness<V: Liveness>(mut self) -> Self {
        self.liveness = V::KIND;
        self
    }

    /// Chooses the role stride.
    #[must_use]
    pub const fn role_stride(mut self, stride: RoleStride) -> Self {
        self.role_stride = stride;
        self
    }

    /// Names the type of the values.
    #[must_use]
    pub const fn type_fingerprint(mut self, fingerprint: u64) -> Self {
        self.type_fingerprint = fingerprint;
        self
    }

    /// Chooses what the writer does for readers that wait.
    #[must_use]
    pub const fn wake(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }
}

/// Private measures: powers of two, none larger than the one before it in capacity, piece, group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    /// Slots.
    pub(super) capacity: u64,
    /// Slots that have one stamp.
    pub(super) group: u64,
    /// The most values that are published by one store, and that are written between two looks at the gates.
    pub(super) piece: u64,
}

impl Measure {
    fn of(capacity: u32) -> Self {
        let group = (capacity / GROUPS).clamp(1, MAX_GROUP);
        let piece = (capacity / PIECES).max(group);
        Self { capacity: capacity.into(), group: group.into(), piece: piece.into() }
    }

    /// The first version of the group of a version.
    #[inline(always)]
    pub(super) fn base(self, version: u64) -> u64 {
        version & !(self.group - 1)
    }

    /// Whether a version is the first of a group.
    #[inline(always)]
    pub(super) fn opens(self, version: u64) -> bool {
        version & (self.group - 1) == 0
    }

    /// The slot of a version.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the capacity was a u32")]
    pub(super) fn slot(self, version: u64) -> usize {
        (version & (self.capacity - 1)) as usize
    }

    /// The stamp of a version's group.
    #[inline(always)]
    pub(super) fn stamp(self, version: u64) -> usize {
        self.slot(version) >> self.group.trailing_zeros()
    }

    /// How many of the latest values are there whatever the writer is doing, and whatever it may do before it looks at
    /// the gates again.
    pub(super) fn kept(self) -> u64 {
        self.capacity - self.piece - self.group + 1
    }
}

/// What the slots hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) kind: u32,
    /// Of a value; of the longest one.
    pub(super) bytes: usize,
    pub(super) align: usize,
    /// Words of a slot.
    pub(super) words: usize,
}

impl Element {
    /// Values of a plain type.
    pub(super) const fn plain<T>() -> Self {
        let (bytes, align) = (size_of::<T>(), align_of::<T>());
        Self { kind: KIND_LOG, bytes, align, words: bytes.div_ceil(WORD_BYTES) }
    }

    /// Values of up to `max` bytes, and their length behind them.
    pub(super) fn bytes(max: usize) -> Self {
        Self { kind: KIND_LOG_BYTES, bytes: max, align: 1, words: Bytes::new(max).words() }
    }
}

/// Validated, private, never read from shared memory again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) front: Front,
    pub(super) element: Element,
    pub(super) measure: Measure,
    pub(super) gates: u32,
    stride: RoleStride,
    stamps: usize,
    data: usize,
    first_gate: usize,
    total_bytes: usize,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    group: u32,
    gates: u32,
    liveness: u32,
    wake: u32,
    piece: u64,
    stamps_offset: u64,
    gates_offset: u64,
    reserved: [u64; 11],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == LINE_BYTES);
    assert!(offset_of!(Raw, piece) == 16);
    assert!(offset_of!(Raw, gates_offset) == 32);
    assert!(offset_of!(Raw, reserved) == 40);
};

impl Layout {
    /// The layout of a log of such values.
    pub(super) fn new(element: Element, options: &Options) -> Result<Self, CreateError> {
        let Element { bytes, align, .. } = element;
        if bytes == 0 || bytes > MAX_ELEMENT_BYTES || align > LINE_BYTES {
            return Err(CreateError::Element { bytes, align });
        }
        let found = options.capacity;
        if !found.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&found) {
            return Err(CreateError::Slots { min: MIN_CAPACITY, max: MAX_CAPACITY, found });
        }
        if options.gates > MAX_GATES {
            return Err(CreateError::Count { what: "gates or none", max: MAX_GATES, found: options.gates });
        }
        let measure = Measure::of(found);
        let mut layout = Self {
            front: Front::of_log(options.liveness, options.wake, options.role_stride),
            element,
            measure,
            gates: options.gates,
            stride: options.role_stride,
            stamps: 0,
            data: 0,
            first_gate: 0,
            total_bytes: 0,
        };
        layout.stamps = layout.front.place(0).latest + LINE_BYTES;
        layout.measure_all().ok_or(CreateError::TooLarge)?;
        Ok(layout)
    }

    fn measure_all(&mut self) -> Option<()> {
        let lines = |words: usize| words.checked_mul(WORD_BYTES)?.checked_next_multiple_of(LINE_BYTES);
        self.data = self.stamps.checked_add(lines(self.stamp_words())?)?;
        let end = self.data.checked_add(lines(self.data_words()?)?)?;
        self.first_gate = end.checked_next_multiple_of(self.stride.bytes())?;
        let gates = self.stride.bytes().checked_mul(self.gates as usize)?;
        let total = if self.gates == 0 { end } else { self.first_gate.checked_add(gates)? };
        self.total_bytes = isize::try_from(total).is_ok().then_some(total)?;
        Some(())
    }

    fn slots(&self) -> usize {
        self.measure.slot(self.measure.capacity - 1) + 1
    }

    fn stamp_words(&self) -> usize {
        self.slots() >> self.measure.group.trailing_zeros()
    }

    fn data_words(&self) -> Option<usize> {
        self.slots().checked_mul(self.element.words)
    }

    pub(super) fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Where the stamps are, and how many.
    pub(super) fn stamps(&self) -> (usize, usize) {
        (self.stamps, self.stamp_words())
    }

    /// Where the data are, and how many words.
    pub(super) fn data(&self) -> (usize, usize) {
        (self.data, self.data_words().unwrap_or(0))
    }

    /// The head of gate `index`, which is below [`gates`](Self::gates); its owner word is the next one.
    pub(super) fn gate(&self, index: u32) -> usize {
        self.first_gate + index as usize * self.stride.bytes()
    }

    /// Writes a log without values, the magic last.
    pub(super) fn create<L: Trust>(
        region: &Region<L>,
        element: Element,
        options: &Options,
    ) -> Result<Self, CreateError> {
        region.require_writable()?;
        let layout = Self::new(element, options)?;
        let too_small = CreateError::RegionTooSmall { needed: layout.total_bytes, found: region.len() };
        if layout.total_bytes > region.len() {
            return Err(too_small);
        }
        Header::invalidate(region).map_err(|_| too_small)?;
        let place = layout.front.place(0);
        let (stamps, count) = layout.stamps();
        let controls = [layout.front.bell(), place.owner(0), place.latest];
        let stamps = (0..count).map(|stamp| stamps + stamp * WORD_BYTES);
        let gates = (0..layout.gates).flat_map(|gate| [layout.gate(gate), layout.gate(gate) + WORD_BYTES]);
        controls.into_iter().chain(stamps).chain(gates).for_each(|offset| clear(region, offset));
        let raw = layout.raw();
        // SAFETY: the shape line is in bounds (just checked) and nowhere used as a control word.
        let payload = unsafe { region.payload(SHAPE_OFFSET, LINE_BYTES) };
        // SAFETY: in bounds; nobody reads a shape before the magic.
        unsafe { payload.store(0, &raw) };
        let header = Header {
            kind: element.kind,
            total_bytes: layout.total_bytes as u64,
            capacity: layout.measure.capacity,
            element_bytes: element.bytes as u64,
            element_align: element.align as u64,
            type_fingerprint: options.type_fingerprint,
            role_stride: options.role_stride,
            data_offset: layout.data as u64,
            origin: region.origin(),
        };
        header.write(region).map_err(|_| too_small)?;
        Ok(layout)
    }

    fn raw(&self) -> Raw {
        Raw {
            group: u32::try_from(self.measure.group).unwrap_or(0),
            gates: self.gates,
            liveness: self.front.liveness,
            wake: self.front.wake.code(),
            piece: self.measure.piece,
            stamps_offset: self.stamps as u64,
            gates_offset: self.first_gate as u64,
            reserved: [0; 11],
        }
    }

    /// Reads header and shape of a log of such values once and compares every field with what this version would have
    /// written.
    pub(super) fn open<L: Trust>(
        region: &Region<L>,
        element: Element,
        fingerprint: u64,
    ) -> Result<Self, Incompatible> {
        Self::check(region, &Header::inspect(region)?, element, fingerprint)
    }

    /// The same of a log of bytes, whose longest value the header tells.
    pub(super) fn open_bytes<L: Trust>(region: &Region<L>, fingerprint: u64) -> Result<Self, Incompatible> {
        let header = Header::inspect(region)?;
        same(Field::Kind, KIND_LOG_BYTES.into(), header.kind.into())?;
        let most = MAX_ELEMENT_BYTES as u64;
        let beyond = Incompatible::new(Field::ElementBytes, most, header.element_bytes);
        if !(1..=most).contains(&header.element_bytes) {
            return Err(beyond);
        }
        let max = usize::try_from(header.element_bytes).map_err(|_| beyond)?;
        Self::check(region, &header, Element::bytes(max), fingerprint)
    }

    fn check<L: Trust>(
        region: &Region<L>,
        header: &Header,
        element: Element,
        fingerprint: u64,
    ) -> Result<Self, Incompatible> {
        same(Field::Kind, element.kind.into(), header.kind.into())?;
        same(Field::ElementBytes, element.bytes as u64, header.element_bytes)?;
        same(Field::ElementAlign, element.align as u64, header.element_align)?;
        same(Field::TypeFingerprint, fingerprint, header.type_fingerprint)?;
        let least = (HEADER_BYTES + LINE_BYTES) as u64;
        if header.total_bytes < least {
            return Err(Incompatible::new(Field::TotalBytes, least, header.total_bytes));
        }
        // SAFETY: `total_bytes` is within the region, so the shape is; it is nowhere used as a control word.
        let payload = unsafe { region.payload(SHAPE_OFFSET, LINE_BYTES) };
        // SAFETY: in bounds and aligned; any bytes are a `Raw`; nobody writes a shape after the magic.
        let raw = unsafe { payload.load::<Raw>(0) };
        same(Field::Reserved, 0, raw.reserved.iter().fold(0, |all, word| all | word))?;
        let no_capacity = Incompatible::new(Field::Capacity, MIN_CAPACITY.into(), header.capacity);
        let unknown = Incompatible::new(Field::Flags, 0, raw.wake.into());
        let options = Options {
            capacity: u32::try_from(header.capacity).map_err(|_| no_capacity)?,
            gates: raw.gates,
            liveness: raw.liveness,
            role_stride: header.role_stride,
            type_fingerprint: fingerprint,
            wake: Wake::of(raw.wake).ok_or(unknown)?,
        };
        let layout = Self::new(element, &options).map_err(|error| match error {
            CreateError::Count { max, found, .. } => {
                Incompatible::new(Field::Count, max.into(), found.into())
            }
            _ => no_capacity,
        })?;
        let expected = layout.raw();
        same(Field::Form, expected.group.into(), raw.group.into())?;
        same(Field::Form, expected.piece, raw.piece)?;
        same(Field::DataOffset, expected.stamps_offset, raw.stamps_offset)?;
        same(Field::DataOffset, expected.gates_offset, raw.gates_offset)?;
        same(Field::DataOffset, layout.data as u64, header.data_offset)?;
        same(Field::TotalBytes, layout.total_bytes as u64, header.total_bytes)?;
        Ok(layout)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn element(bytes: usize, align: usize) -> Element {
        Element { kind: KIND_LOG, bytes, align, words: bytes.div_ceil(WORD_BYTES) }
    }

    /// The layout is an interface: other versions and languages read it. Changing these numbers needs a new
    /// major version in the header.
    #[test]
    fn offsets_are_those_of_the_drawing() {
        let small = Layout::new(element(12, 4), &Options::new(16)).expect("a plain log");
        assert_eq!(small.measure, Measure { capacity: 16, group: 1, piece: 4 });
        assert_eq!((small.front.place(0).owner(0), small.front.place(0).latest), (384, 512));
        assert_eq!((small.stamps(), small.data()), ((640, 16), (768, 32)));
        assert_eq!((small.total_bytes(), small.measure.kept()), (768 + 256, 12));

        let large = Layout::new(element(64, 8), &Options::new(1 << 12).gates(3)).expect("a plain log");
        assert_eq!(large.measure, Measure { capacity: 4096, group: 64, piece: 1024 });
        assert_eq!((large.stamps(), large.data()), ((640, 64), (1152, 8 << 12)));
        assert_eq!((large.gate(2), large.total_bytes()), (1152 + (64 << 12) + 256, large.gate(2) + 128));

        let pages = Options::new(4).gates(2).role_stride(RoleStride::Page);
        let pages = Layout::new(element(8, 8), &pages).expect("a plain log");
        assert_eq!((pages.front.bell(), pages.front.place(0).latest), (4096, 8192 + 128));
        assert_eq!((pages.stamps(), pages.data()), ((8448, 4), (8576, 4)));
        assert_eq!((pages.gate(0), pages.gate(1), pages.total_bytes()), (12288, 16384, 20480));

        let bytes = Layout::new(Element::bytes(20), &Options::new(16)).expect("a plain log");
        assert_eq!((bytes.element.words, bytes.stamps(), bytes.data()), (4, (640, 16), (768, 64)));
    }

    #[test]
    fn whatever_the_capacity_half_of_it_is_kept() {
        for capacity in (2..=30).map(|log| 1_u32 << log) {
            let measure = Measure::of(capacity);
            assert!(measure.kept() >= u64::from(capacity) / 2, "{measure:?}");
            assert!(measure.capacity > 2 * measure.group + measure.piece - 1, "{measure:?}");
        }
    }
}
