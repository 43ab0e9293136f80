//! Where the words and the data of a queue lie, and how they are created and opened.
//!
//! # Memory layout
//! ```text
//! line stride   page stride   writer            what
//!           0             0   creator           header (128 bytes), written once
//!         128           128   creator           shape (128 bytes, below), written once
//!         256          4096   consumer          owner u64; bell u32 at +8 and 12 reserved bytes
//!         384          4224   consumer          quarantined: 4 u64, bit i of word i / 64 says lane i is out of use
//!         512          8192   attachers, and    attached: 4 u64, a hint: bit i of word i / 64 says look at lane i
//!                             the consumer
//!         640         12288   attachers, and    registry: one line per lane: owner u64; bell u32 at +8 and 12
//!                             the consumer      reserved bytes
//!      behind        behind   as the form says  extra: what a form of queue needs beside its lanes; none for lanes, for
//!                                               ordered see `ordered`
//!      behind        behind   producer i,       lanes: `lane_bytes` each
//!                             the consumer
//!
//! lane, line stride:    0 tail u64 (producer) | 128 head u64 (consumer) | 256 data
//! lane, page stride:    0 page of the producer: tail u64 at line 2i % 32 of it
//!                    4096 page of the consumer: head u64 at line (2i + 1) % 32 of it
//!                    8192 data
//!
//! shape     0 lanes u32        1 to 256
//!           4 delivery u32     1 at least once, 2 at most once
//!           8 liveness u32     what kind of leases its processes use; 0 none
//!          12 form u32         1 lanes, 2 ordered
//!          16 lane_bytes u64   from one lane to the next
//!          24 extra_bytes u64
//!          32 zero
//! ```
//! Each part starts on a 128-byte line, with page stride on a page (in `header`, `capacity` is that of one lane, and
//! `data_offset` is where the lanes begin). With page stride the hot words of the lanes lie at different offsets of
//! their pages, so that a consumer that looks at all tails finds them in different cache sets.
//!
//! # One writer for each memory
//! With page stride a queue of lanes can lie in a segment of parts (`tidewire_shm::Part`), so that the kernel refuses
//! whoever tries to write what is another role's:
//!
//! | part | who can write it |
//! |---|---|
//! | header and shape | the creator |
//! | consumer, quarantined | the consumer |
//! | attached, registry | everybody who attaches |
//! | of lane i: the page of the tail | the process that made it: producer i |
//! | of lane i: the page of the head | the consumer |
//! | of lane i: the data | producer i and the consumer; nobody else gets it |
//!
//! A lane is given only to a process that can write its tail, the consumer's role only to one that can write all heads.
//! What cannot have one writer is what several processes move by compare-exchange: the owner words of the registry, whose
//! next value is written by whoever takes the lane, frees it, or proves that its owner is dead, and the hints. A hostile
//! process can by them hide a lane from the consumer while that is empty, hold lanes, or suppress a bell: what it can do
//! is delay, for as long as it likes. It cannot publish in another's lane, change what another has written, or free what
//! another has published. Data is written by its producer and touched by the consumer. Whoever creates the queue makes
//! all of the data, and can write it.
//!
//! A sealed part has one writer for ever, so a lane's process is the only one that the lane ever has: it may detach and
//! attach again, but of a dead process the lane stays unused (what it published is still delivered). For the same reason
//! all parts, thus all producers, must be there when the segment is made; there are at most 64 parts: 20 lanes.
//!
//! An ordered queue has order words that every producer moves: it needs memory all of which can be written.
//!
//! # States of a lane
//! The words of a lane mean nothing before its first owner has prepared them, which its owner word says (see
//! [`registry`](crate::registry)): `generation` zero is a lane that nobody ever had. So a queue is created without a
//! look at its lanes, whatever lay there, and a lane that is never attached costs no memory where memory is sparse.
//!
//! # Crash argument
//! | point | a creator killed here, the others see | repair |
//! |---|---|---|
//! | before the old magic is gone | what was there | none |
//! | before the new magic is stored | no structure | whoever wants one creates it |
//! | after | an empty queue | none |

#[cfg(all(feature = "std", not(loom)))]
use alloc::vec::Vec;

use tidewire_ring::embed::{Parts, Shape};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{
    Field, HEADER_BYTES, Header, Incompatible, LINE_BYTES, Region, RegionError, RoleStride, Trust,
};
#[cfg(all(feature = "std", not(loom)))]
use tidewire_shm::{Part, RoleId};

use crate::error::CreateError;
use crate::options::{Delivery, Options};
use crate::ordered::Places;

/// The header kind of a queue of lanes of fixed slots.
pub const KIND_LANES_FIXED: u32 = 0x0002_0001;
/// The header kind of a queue of lanes of byte records.
pub const KIND_LANES_BYTES: u32 = 0x0002_0002;
/// The header kind of an ordered queue of fixed slots.
pub const KIND_ORDERED_FIXED: u32 = 0x0002_0003;
/// The header kind of an ordered queue of byte records.
pub const KIND_ORDERED_BYTES: u32 = 0x0002_0004;

/// The most lanes that a queue can have.
pub const MAX_LANES: u32 = 256;
/// Words of a bitmap of lanes.
pub(crate) const MAP_WORDS: usize = 4;

const PAGE_BYTES: usize = 4096;
const LINES_PER_PAGE: usize = PAGE_BYTES / LINE_BYTES;
const SHAPE_OFFSET: usize = HEADER_BYTES;
const SHAPE_WORDS: usize = LINE_BYTES / 8;

/// How a queue of this form publishes; one number of the shape line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In order per producer.
    Lanes,
    /// In one order.
    Ordered {
        /// The fewest elements of a lane that one publication takes.
        grain: usize,
    },
}

impl Form {
    fn number(self) -> u32 {
        match self {
            Self::Lanes => 1,
            Self::Ordered { .. } => 2,
        }
    }
}

/// What a program wants a queue to be: all that it compares when it opens one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The header kind of the queue.
    pub(crate) kind: u32,
    pub(crate) form: Form,
    /// What its lanes hold.
    pub(crate) element: Shape,
    /// Bytes that this form needs beside its lanes, for lanes of this number and capacity.
    pub(crate) extra_bytes: fn(lanes: usize, capacity: usize) -> Option<usize>,
}

/// Validated, private, never read from shared memory again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) form: Form,
    pub(crate) lanes: usize,
    /// Of one lane, in elements.
    pub(crate) capacity: usize,
    pub(crate) delivery: Delivery,
    pub(crate) liveness: u32,
    stride: RoleStride,
    extra_bytes: usize,
    lanes_offset: usize,
    lane_bytes: usize,
    total_bytes: usize,
}

impl Plan {
    fn layout(&self, capacity: usize, options: &Options) -> Result<Layout, CreateError> {
        if options.lanes == 0 || options.lanes > MAX_LANES {
            return Err(CreateError::Lanes { found: options.lanes });
        }
        let lanes = options.lanes as usize;
        let data_bytes = self.element.data_bytes(capacity, lanes)?;
        let too_large = tidewire_ring::CreateError::Capacity {
            min: self.element.min_capacity,
            max: capacity / 2,
            found: capacity,
        };
        let mut layout = Layout {
            form: self.form,
            lanes,
            capacity,
            delivery: options.delivery,
            liveness: options.liveness,
            stride: options.role_stride,
            extra_bytes: 0,
            lanes_offset: 0,
            lane_bytes: 0,
            total_bytes: 0,
        };
        layout.place(data_bytes, (self.extra_bytes)(lanes, capacity)).ok_or(too_large)?;
        Ok(layout)
    }

    /// Bytes of region that a queue needs.
    pub(crate) fn bytes(&self, capacity: usize, options: &Options) -> Result<usize, CreateError> {
        Ok(self.layout(capacity, options)?.total_bytes)
    }

    /// The parts of a segment for a queue of lanes: those of the module's table with page stride; with line stride all
    /// roles share one.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn memory(&self, capacity: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        let layout = self.layout(capacity, options)?;
        if !layout.pages() {
            return Ok([Part::shared(layout.total_bytes.next_multiple_of(PAGE_BYTES))].into());
        }
        let page = |role| Part::written_by(role, PAGE_BYTES);
        let registry = Part::shared(layout.lanes_offset - layout.attached_offset(0));
        let mut parts: Vec<Part> = [page(RoleId::CREATOR), page(RoleId::CONSUMER), registry].into();
        for producer in (0..options.lanes).filter_map(RoleId::producer) {
            let data = Part::shared_by([producer, RoleId::CONSUMER], layout.data_bytes());
            parts.extend([page(producer), page(RoleId::CONSUMER), data]);
        }
        Ok(parts)
    }

    /// Takes away an old magic, zeroes the words of the registry and writes shape and header, the magic last.
    pub(crate) fn create<L: Trust>(
        &self,
        region: &Region<L>,
        capacity: usize,
        options: &Options,
    ) -> Result<Layout, CreateError> {
        let layout = self.layout(capacity, options)?;
        let too_small =
            tidewire_ring::CreateError::RegionTooSmall { needed: layout.total_bytes, found: region.len() };
        if layout.total_bytes > region.len() {
            return Err(too_small.into());
        }
        layout.require_cleared(region).map_err(tidewire_ring::CreateError::Region)?;
        Header::retract(region).map_err(|_| too_small)?;
        layout.clear(region);
        if let Form::Ordered { grain } = self.form {
            Places::new(&layout, grain).clear(region);
        }
        layout.write_shape(region, self.form);
        let header = Header {
            kind: self.kind,
            total_bytes: layout.total_bytes as u64,
            capacity: capacity as u64,
            element_bytes: self.element.element_bytes as u64,
            element_align: self.element.element_align as u64,
            type_fingerprint: options.type_fingerprint,
            role_stride: options.role_stride,
            data_offset: layout.lanes_offset as u64,
            origin: region.origin(),
        };
        header.write(region).map_err(|_| too_small)?;
        Ok(layout)
    }

    /// Reads header and shape once and compares every field with what this plan would have written. Nothing is written,
    /// and nothing needs to be writable before a role is taken.
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
        same(Field::ElementBytes, self.element.element_bytes as u64, header.element_bytes)?;
        same(Field::ElementAlign, self.element.element_align as u64, header.element_align)?;
        same(Field::TypeFingerprint, type_fingerprint, header.type_fingerprint)?;
        let minimum = (SHAPE_OFFSET + LINE_BYTES) as u64;
        if header.total_bytes < minimum {
            return Err(Incompatible::new(Field::TotalBytes, minimum, header.total_bytes));
        }
        let shape = read_shape(region);
        same(Field::Form, self.form.number().into(), shape.form.into())?;
        let delivery = Delivery::from_number(shape.delivery).ok_or(Incompatible::new(
            Field::Form,
            Delivery::default().number().into(),
            shape.delivery.into(),
        ))?;
        let min_capacity = self.element.min_capacity as u64;
        let bad_capacity = Incompatible::new(Field::Capacity, min_capacity, header.capacity);
        let capacity = usize::try_from(header.capacity).map_err(|_| bad_capacity)?;
        let options = Options {
            lanes: shape.lanes,
            delivery,
            liveness: shape.liveness,
            role_stride: header.role_stride,
            type_fingerprint,
        };
        let layout = self.layout(capacity, &options).map_err(|error| match error {
            CreateError::Lanes { found } => Incompatible::new(Field::Count, MAX_LANES.into(), found.into()),
            CreateError::Ring(tidewire_ring::CreateError::Element { bytes, .. }) => {
                Incompatible::new(Field::ElementBytes, 1, bytes as u64)
            }
            CreateError::Ring(_) => bad_capacity,
        })?;
        same(Field::DataOffset, layout.lanes_offset as u64, header.data_offset)?;
        same(Field::DataOffset, layout.lane_bytes as u64, shape.lane_bytes)?;
        same(Field::DataOffset, layout.extra_bytes as u64, shape.extra_bytes)?;
        same(Field::Reserved, 0, shape.reserved)?;
        same(Field::TotalBytes, layout.total_bytes as u64, header.total_bytes)?;
        layout.name_words(region);
        Ok(layout)
    }
}

/// What a shape line says.
struct ShapeLine {
    lanes: u32,
    delivery: u32,
    liveness: u32,
    form: u32,
    lane_bytes: u64,
    extra_bytes: u64,
    /// All reserved words, one over the other.
    reserved: u64,
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Reads the shape line once; the region has one.
fn read_shape<L: Trust>(region: &Region<L>) -> ShapeLine {
    // SAFETY: the line is within the region by the header, and is only ever accessed as payload.
    let line = unsafe { region.payload(SHAPE_OFFSET, LINE_BYTES) };
    // SAFETY: in bounds and aligned; any bytes are numbers; whoever created the queue wrote them before the magic.
    let [a, b, lane_bytes, extra_bytes, rest @ ..] = unsafe { line.load::<[u64; SHAPE_WORDS]>(0) };
    // The words are those of a little-endian machine or of a big-endian one: the header says that it is ours.
    let ((lanes, delivery), (liveness, form)) = (parts_of(a), parts_of(b));
    let reserved = rest.iter().fold(0, |all, word| all | word);
    ShapeLine { lanes, delivery, liveness, form, lane_bytes, extra_bytes, reserved }
}

/// Two neighbouring `u32` of one word, in the order in which they lie in memory.
fn parts_of(word: u64) -> (u32, u32) {
    let (low, high) = halves(word);
    if cfg!(target_endian = "little") { (low, high) } else { (high, low) }
}

fn word_of(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") { whole(first, second) } else { whole(second, first) }
}

impl Layout {
    /// Lays the parts out behind each other; `None` if there is no room for them in the address space.
    fn place(&mut self, data_bytes: usize, extra_bytes: Option<usize>) -> Option<()> {
        let unit = self.unit();
        let up = |bytes: usize| bytes.checked_next_multiple_of(unit);
        self.extra_bytes = extra_bytes?;
        self.lanes_offset = up(self.extra_offset().checked_add(self.extra_bytes)?)?;
        self.lane_bytes = up(data_bytes)?.checked_add(2 * unit)?;
        self.total_bytes = self.lane_bytes.checked_mul(self.lanes)?.checked_add(self.lanes_offset)?;
        isize::try_from(self.total_bytes).ok().map(|_| ())
    }

    /// How far apart the words of different roles lie.
    pub(crate) fn unit(&self) -> usize {
        match self.stride {
            RoleStride::Line => LINE_BYTES,
            stride => stride.bytes(),
        }
    }

    fn pages(&self) -> bool {
        self.stride != RoleStride::Line
    }

    /// The consumer's owner word; its bell is 8 bytes further.
    pub(crate) fn consumer_offset(&self) -> usize {
        if self.pages() { PAGE_BYTES } else { SHAPE_OFFSET + LINE_BYTES }
    }

    /// Word `i` of the bitmap of lanes that are out of use.
    pub(crate) fn quarantined_offset(&self, i: usize) -> usize {
        self.consumer_offset() + LINE_BYTES + 8 * i
    }

    /// Word `i` of the bitmap of lanes to look at.
    pub(crate) fn attached_offset(&self, i: usize) -> usize {
        let line = if self.pages() { 2 * PAGE_BYTES } else { self.consumer_offset() + 2 * LINE_BYTES };
        line + 8 * i
    }

    fn registry_offset(&self) -> usize {
        self.attached_offset(0) + if self.pages() { PAGE_BYTES } else { LINE_BYTES }
    }

    /// The owner word of a lane; its bell is 8 bytes further.
    pub(crate) fn owner_offset(&self, lane: usize) -> usize {
        self.registry_offset() + lane * LINE_BYTES
    }

    /// What the form of the queue needs beside its lanes; on a line, with page stride on a page.
    pub(crate) fn extra_offset(&self) -> usize {
        let end = self.owner_offset(self.lanes);
        if self.pages() { end.next_multiple_of(PAGE_BYTES) } else { end }
    }

    /// The words and the data of a lane.
    pub(crate) fn lane(&self, lane: usize) -> Parts {
        let base = self.lanes_offset + lane * self.lane_bytes;
        let (tail, head, data) = if self.pages() {
            let line = |n: usize| n % LINES_PER_PAGE * LINE_BYTES;
            (line(2 * lane), PAGE_BYTES + line(2 * lane + 1), 2 * PAGE_BYTES)
        } else {
            (0, LINE_BYTES, 2 * LINE_BYTES)
        };
        Parts {
            tail_offset: base + tail,
            head_offset: base + head,
            data_offset: base + data,
            capacity: self.capacity,
        }
    }

    /// A control word of this layout.
    pub(crate) fn word<L: Trust>(&self, region: &Region<L>, offset: usize) -> Shared<AtomicU64> {
        // SAFETY: callers ask for control words of this validated layout, which are never payload; handles that keep
        // the word keep the region, too.
        unsafe { region.atomic_u64(offset) }
    }

    /// Whether a producer can write all that it has to, in one lane.
    pub(crate) fn is_open_to_a_producer<L: Trust>(&self, region: &Region<L>, lane: usize) -> bool {
        let parts = self.lane(lane);
        region.is_writable()
            || self.form == Form::Lanes
                && self.is_registry_writable(region)
                && region.is_writable_at(parts.tail_offset, 8)
                && region.is_writable_at(parts.data_offset, self.data_bytes())
    }

    /// Whether the consumer can write all that it has to, in all lanes.
    pub(crate) fn is_open_to_the_consumer<L: Trust>(&self, region: &Region<L>) -> bool {
        let own = (self.consumer_offset(), 2 * LINE_BYTES);
        let lanes = (0..self.lanes).map(|lane| self.lane(lane));
        let words = lanes.flat_map(|parts| [(parts.head_offset, 8), (parts.data_offset, self.data_bytes())]);
        region.is_writable()
            || self.form == Form::Lanes
                && self.is_registry_writable(region)
                && words.chain([own]).all(|(offset, len)| region.is_writable_at(offset, len))
    }

    /// Whether owner words can be moved, and hints given.
    pub(crate) fn is_registry_writable<L: Trust>(&self, region: &Region<L>) -> bool {
        let first = self.attached_offset(0);
        region.is_writable_at(first, self.owner_offset(self.lanes) - first)
    }

    /// Bytes of data of one lane, with what is left to the next one.
    fn data_bytes(&self) -> usize {
        self.lane_bytes - 2 * self.unit()
    }

    /// The words that mean something before a lane is attached.
    fn words(&self) -> impl Iterator<Item = usize> + '_ {
        let roles = (0..self.lanes).map(|lane| self.owner_offset(lane)).chain([self.consumer_offset()]);
        let words = roles.flat_map(|offset| [offset, offset + 8, offset + 16]);
        words.chain((0..MAP_WORDS).flat_map(|i| [self.quarantined_offset(i), self.attached_offset(i)]))
    }

    /// The positions, which mean something only then; a producer clears both, and so cannot where the head is in another
    /// process's memory.
    fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let lanes = (0..self.lanes).map(|lane| self.lane(lane));
        lanes.flat_map(|parts| [parts.tail_offset, parts.head_offset])
    }

    /// Header and shape can be written; words that cannot be, since they are in another role's memory, are zero already.
    fn require_cleared<L: Trust>(&self, region: &Region<L>) -> Result<(), RegionError> {
        if region.is_writable() {
            return Ok(());
        }
        if self.form != Form::Lanes {
            return region.require_writable();
        }
        region.require_writable_at(0, SHAPE_OFFSET + LINE_BYTES)?;
        for offset in self.words().chain(self.positions()) {
            // ORD advice: Relaxed, nobody uses the words yet; whoever writes it can do so at any time.
            if self.word(region, offset).load(Ordering::Relaxed) != 0 {
                region.require_writable_at(offset, 8)?;
            }
        }
        Ok(())
    }

    /// Zeroes the words that mean something before a lane is attached, those that are not zero already: memory that
    /// was never written stays so. In memory of several writers those of all lanes, as far as this process can: then
    /// nobody has to clear a peer's.
    fn clear<L: Trust>(&self, region: &Region<L>) {
        let lanes = self.positions().take(if region.is_writable() { 0 } else { usize::MAX });
        for offset in self.words().chain(lanes) {
            let word = self.word(region, offset);
            // ORD own: Relaxed, nobody else uses a region that is being created in.
            if word.load(Ordering::Relaxed) != 0 {
                // ORD header.publish: Relaxed, the header's magic publishes the cleared words.
                word.store(0, Ordering::Relaxed);
            }
        }
        self.name_words(region);
    }

    /// A model wants its objects to exist before threads race for them.
    #[cfg(loom)]
    fn name_words<L: Trust>(&self, region: &Region<L>) {
        for parts in (0..self.lanes).map(|lane| self.lane(lane)) {
            drop((self.word(region, parts.tail_offset), self.word(region, parts.head_offset)));
        }
    }

    #[cfg(not(loom))]
    fn name_words<L: Trust>(&self, _region: &Region<L>) {}

    fn write_shape<L: Trust>(&self, region: &Region<L>, form: Form) {
        let mut line = [0_u64; SHAPE_WORDS];
        #[expect(clippy::cast_possible_truncation, reason = "at most 256")]
        let lanes = self.lanes as u32;
        let words = [
            word_of(lanes, self.delivery.number()),
            word_of(self.liveness, form.number()),
            self.lane_bytes as u64,
            self.extra_bytes as u64,
        ];
        for (to, from) in line.iter_mut().zip(words) {
            *to = from;
        }
        // SAFETY: the line is within the region, checked by the caller, and is only ever accessed as payload.
        let payload = unsafe { region.payload(SHAPE_OFFSET, LINE_BYTES) };
        // SAFETY: in bounds and aligned; nobody else uses a structure that has no magic yet.
        unsafe { payload.store(0, &line) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        kind: KIND_LANES_FIXED,
        form: Form::Lanes,
        element: Shape {
            kind: 0,
            element_bytes: 8,
            element_align: 8,
            min_capacity: 1,
            max_capacity: usize::MAX,
        },
        extra_bytes: |_, _| Some(0),
    };

    fn layout(stride: RoleStride) -> Layout {
        PLAN.layout(16, &Options::new().lanes(3).role_stride(stride)).expect("a plain layout")
    }

    /// The layout is an interface: other versions and languages read it.
    #[test]
    fn offsets_are_those_of_the_drawing() {
        let line = layout(RoleStride::Line);
        assert_eq!(
            [line.consumer_offset(), line.quarantined_offset(0), line.attached_offset(1)],
            [256, 384, 520]
        );
        assert_eq!([line.owner_offset(0), line.owner_offset(2), line.extra_offset()], [640, 896, 1024]);
        let (first, last) = (line.lane(0), line.lane(2));
        assert_eq!([first.tail_offset, first.head_offset, first.data_offset], [1024, 1152, 1280]);
        assert_eq!([last.tail_offset, last.head_offset, last.data_offset], [1792, 1920, 2048]);
        assert_eq!(line.total_bytes, 1024 + 3 * 384);

        let page = layout(RoleStride::Page);
        assert_eq!(
            [page.consumer_offset(), page.quarantined_offset(3), page.attached_offset(0)],
            [4096, 4248, 8192]
        );
        assert_eq!([page.owner_offset(0), page.owner_offset(2), page.extra_offset()], [12288, 12544, 16384]);
        let (first, last) = (page.lane(0), page.lane(2));
        assert_eq!([first.tail_offset, first.head_offset, first.data_offset], [16384, 20608, 24576]);
        assert_eq!([last.tail_offset, last.head_offset, last.data_offset], [41472, 45696, 49152]);
        assert_eq!(page.total_bytes, 16384 + 3 * 12288);
    }

    #[test]
    fn sizes_that_no_address_space_has_are_refused() {
        let options = Options::new().lanes(256).role_stride(RoleStride::Page);
        let plan = Plan { extra_bytes: |_, _| Some(usize::MAX - 100), ..PLAN };
        assert!(matches!(plan.layout(16, &options), Err(CreateError::Ring(_))));
        assert!(matches!(PLAN.layout(1 << (usize::BITS - 2), &options), Err(CreateError::Ring(_))));
        assert!(matches!(
            Plan { extra_bytes: |_, _| None, ..PLAN }.layout(16, &options),
            Err(CreateError::Ring(_))
        ));
    }
}
