//! Where the words and the data of cells lie.
//!
//! # Memory layout
//! ```text
//! line stride   page stride   written by      what
//!           0             0   the creator     header (128 bytes), written once
//!         128           128   the creator     shape (128 bytes, below), written once
//!         256          4096   waiting readers bell: waiters u32, how many sleep if wake is 2 or 3, else 0; 124 reserved
//!         384          8192   writers         cell 0, cell 1, ... at multiples of `cell_bytes`
//!
//! cell                        writers         only with many writers: lock u64 on a line of its own
//!                             writers         owner words u64, one per writer, 16 to a line
//!                             the writer      hot line: latest u64; its low half is what a futex waits for.
//!                                             word form: `slots` words behind it
//!                                             inline form: a copy of the value in at most 7 words behind it
//!                                             classic form: the value behind it; from 57 bytes on, 64 bytes on
//!                             the writer      inline and rotating form: slots {data words, stamp u64}, each at a
//!                                             multiple of 64 bytes
//!
//! shape  +0   4  form         1 word, 2 inline, 3 rotating, 4 classic; follows from the size of the value
//!        +4   4  slots        a power of two; 1 in the classic form
//!        +8   4  liveness     the kind of leases that writers hold; 0 = none
//!       +12   4  writers      owner words of each cell
//!       +16   4  cells
//!       +20   4  wake         0: writers wake nobody; 1: they wake with each write; 2: they do if the bell says that
//!                             somebody sleeps, behind a fence of their own; 3: the same, behind the sleeper's barrier
//!       +24   8  cell_bytes
//!       +32  96  reserved     zero
//! ```
//! A value of `b` bytes takes `b / 8` words, rounded up; a byte value takes as many as the longest one, and one word
//! behind them for its length. Every word of the table above is 8-byte aligned and accessed as 8 bytes, except the
//! shape and the header, which nobody writes after creation.

use bytemuck::{Pod, Zeroable};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{
    CACHE_LINE_BYTES, Field, HEADER_BYTES, Header, Incompatible, LINE_BYTES, Liveness, Region, RoleStride,
    Trust,
};

use crate::error::CreateError;
use crate::wait::{Post, Wake};

/// The header kind of a cell.
pub const KIND_CELL: u32 = 0x0003_0001;
/// The header kind of a cell of bytes.
pub const KIND_BYTES: u32 = 0x0003_0002;
/// The header kind of a table of cells.
pub const KIND_TABLE: u32 = 0x0003_0003;
/// The header kind of a classic seqlock.
pub const KIND_CLASSIC: u32 = 0x0003_0004;
/// The header kind of a cell with many writers.
pub const KIND_SHARED: u32 = 0x0003_0005;
/// The header kind of a log.
pub const KIND_LOG: u32 = 0x0003_0006;

/// The largest value.
pub(crate) const MAX_ELEMENT_BYTES: usize = if usize::BITS > 32 { 1 << 31 } else { 1 << 27 };
/// The most cells of a table.
pub(crate) const MAX_CELLS: u32 = 1 << 20;
/// The most writers of a cell.
pub(crate) const MAX_WRITERS: u32 = 64;

const DEFAULT_SLOTS: u32 = 8;
/// With four slots, readers that find a stamp wrong and `latest` unchanged have proof of a lie. Models make do with two:
/// with fewer writes than slots nothing ever comes round.
const MIN_SLOTS: u32 = if cfg!(loom) { 2 } else { 4 };
const MAX_SLOTS: u32 = 1024;
/// More words would leave the hot line.
const WORD_SLOTS: u32 = 4;
/// Words behind `latest` on its line. Models use fewer: two show a torn copy as well as seven.
const INLINE_WORDS: usize = if cfg!(loom) { 2 } else { 7 };
pub(crate) const WORD_BYTES: usize = 8;
pub(crate) const SHAPE_OFFSET: usize = HEADER_BYTES;
const OWNERS_PER_LINE: usize = LINE_BYTES / WORD_BYTES;

/// What a creator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// How many versions a cell keeps, a power of two from 4 to 1024. A reader must try again only if the writer
    /// writes one less than this while the reader copies once. Values of up to 8 bytes keep at most 4.
    pub slots: u32,
    /// How many writers a cell with [many writers](crate::shared) may have at a time, 1 to 64.
    pub writers: u32,
    /// The kind of leases that writers will hold ([`Liveness::KIND`]).
    pub liveness: u32,
    /// Whether what readers may have to write, to wait, lies on a page of its own.
    pub role_stride: RoleStride,
    /// A name for the type of the value, compared when the cell is opened; 0 says none.
    pub type_fingerprint: u64,
    /// What writers do for readers that wait. [Classic](crate::classic) cells have none of them.
    pub wake: Wake,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults: 8 slots, 16 writers where there may be many, no leases, line stride, no type fingerprint, writers
    /// that wake nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: DEFAULT_SLOTS,
            writers: 16,
            liveness: 0,
            role_stride: RoleStride::Line,
            type_fingerprint: 0,
            wake: Wake::Never,
        }
    }

    /// Chooses how many versions a cell keeps.
    #[must_use]
    pub const fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Chooses how many writers a cell with many writers may have.
    #[must_use]
    pub const fn writers(mut self, writers: u32) -> Self {
        self.writers = writers;
        self
    }

    /// Chooses the kind of leases that writers will hold; those of another kind are refused.
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

    /// Names the type of the value.
    #[must_use]
    pub const fn type_fingerprint(mut self, fingerprint: u64) -> Self {
        self.type_fingerprint = fingerprint;
        self
    }

    /// Chooses what writers do for readers that wait.
    #[must_use]
    pub const fn wake(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }
}

/// How the versions of a value are kept; follows from its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Word = 1,
    Inline = 2,
    Rotating = 3,
    Classic = 4,
}

impl Form {
    /// The form of a value of so many words.
    #[inline(always)]
    pub(crate) const fn of(words: usize) -> Self {
        if words <= 1 {
            Self::Word
        } else if words <= INLINE_WORDS {
            Self::Inline
        } else {
            Self::Rotating
        }
    }
}

/// Words of a slot: the data, the stamp, and what is left of the last cache line.
#[inline(always)]
pub(crate) const fn slot_words(data_words: usize) -> usize {
    (data_words + 1).next_multiple_of(CACHE_LINE_BYTES / WORD_BYTES)
}

/// What a structure of this crate keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: u32,
    pub(crate) element_bytes: usize,
    pub(crate) element_align: usize,
    /// Words that a value takes.
    pub(crate) words: usize,
    pub(crate) classic: bool,
    /// Whether a cell has a lock and many owner words.
    pub(crate) shared: bool,
}

/// Validated, private, never read from shared memory again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) form: Form,
    pub(crate) slots: u32,
    pub(crate) writers: u32,
    pub(crate) liveness: u32,
    pub(crate) cells: u32,
    pub(crate) words: usize,
    pub(crate) wake: Wake,
    stride: RoleStride,
    shared: bool,
    cell_bytes: usize,
    total_bytes: usize,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    form: u32,
    slots: u32,
    liveness: u32,
    writers: u32,
    cells: u32,
    wake: u32,
    cell_bytes: u64,
    reserved: [u64; 12],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == LINE_BYTES);
    assert!(offset_of!(Raw, cells) == 16);
    assert!(offset_of!(Raw, cell_bytes) == 24);
    assert!(offset_of!(Raw, reserved) == 32);
};

/// Where the words of one cell lie in its region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) latest: usize,
    /// The words behind `latest` that hold data, and how many.
    pub(crate) hot: (usize, usize),
    /// The words of the slots.
    pub(crate) slots: (usize, usize),
    /// The lock; only with many writers.
    pub(crate) lock: usize,
    owners: usize,
}

impl Place {
    /// The owner word of a writer.
    pub(crate) fn owner(&self, writer: u32) -> usize {
        self.owners + writer as usize * WORD_BYTES
    }
}

impl Shape {
    fn form(&self) -> Form {
        if self.classic { Form::Classic } else { Form::of(self.words) }
    }

    fn layout(&self, cells: u32, options: &Options) -> Result<Layout, CreateError> {
        let &Self { element_bytes: bytes, element_align: align, .. } = self;
        if bytes == 0 || bytes > MAX_ELEMENT_BYTES || align > LINE_BYTES {
            return Err(CreateError::Element { bytes, align });
        }
        let form = self.form();
        let slots = match form {
            Form::Classic => 1,
            Form::Word => options.slots.min(WORD_SLOTS),
            _ => options.slots,
        };
        let found = options.slots;
        if !self.classic && (!found.is_power_of_two() || !(MIN_SLOTS..=MAX_SLOTS).contains(&found)) {
            return Err(CreateError::Slots { min: MIN_SLOTS, max: MAX_SLOTS, found });
        }
        if cells == 0 || cells > MAX_CELLS {
            return Err(CreateError::Count { what: "cells", max: MAX_CELLS, found: cells });
        }
        let writers = if self.shared { options.writers } else { 1 };
        if writers == 0 || writers > MAX_WRITERS {
            return Err(CreateError::Count { what: "writers", max: MAX_WRITERS, found: writers });
        }
        let mut layout = Layout {
            form,
            slots,
            writers,
            liveness: options.liveness,
            cells,
            words: self.words,
            wake: if self.classic { Wake::Never } else { options.wake },
            stride: options.role_stride,
            shared: self.shared,
            cell_bytes: 0,
            total_bytes: 0,
        };
        layout.cell_bytes = layout.measure().ok_or(CreateError::TooLarge)?;
        let total =
            layout.cell_bytes.checked_mul(cells as usize).and_then(|all| all.checked_add(layout.first()));
        layout.total_bytes = total.filter(|n| isize::try_from(*n).is_ok()).ok_or(CreateError::TooLarge)?;
        Ok(layout)
    }

    /// Bytes that so many cells of this shape need.
    pub(crate) fn bytes(&self, cells: u32, options: &Options) -> Result<usize, CreateError> {
        Ok(self.layout(cells, options)?.total_bytes)
    }

    /// Takes away an old magic, clears the words, lets `fill` write the first value of each cell, and writes shape and
    /// header, the magic last.
    ///
    /// | killed | the others see |
    /// |---|---|
    /// | before the old magic is gone | what was there |
    /// | before the new magic is stored | no structure; whoever wants one creates it |
    /// | after | cells with their first values |
    pub(crate) fn create<L: Trust>(
        &self,
        region: &Region<L>,
        cells: u32,
        options: &Options,
        mut fill: impl FnMut(&Layout, u32),
    ) -> Result<Layout, CreateError> {
        region.require_writable()?;
        let layout = self.layout(cells, options)?;
        let too_small = CreateError::RegionTooSmall { needed: layout.total_bytes, found: region.len() };
        if layout.total_bytes > region.len() {
            return Err(too_small);
        }
        Header::invalidate(region).map_err(|_| too_small)?;
        clear(region, layout.bell());
        for cell in 0..cells {
            layout.clear(region, cell);
            fill(&layout, cell);
        }
        let raw = layout.raw();
        // SAFETY: the shape line is in bounds (just checked) and nowhere used as a control word.
        let payload = unsafe { region.payload(SHAPE_OFFSET, LINE_BYTES) };
        // SAFETY: in bounds; nobody reads a shape before the magic.
        unsafe { payload.store(0, &raw) };
        let header = Header {
            kind: self.kind,
            total_bytes: layout.total_bytes as u64,
            capacity: cells.into(),
            element_bytes: self.element_bytes as u64,
            element_align: self.element_align as u64,
            type_fingerprint: options.type_fingerprint,
            role_stride: options.role_stride,
            data_offset: layout.first() as u64,
            origin: region.origin(),
        };
        header.write(region).map_err(|_| too_small)?;
        Ok(layout)
    }

    /// Reads header and shape once and compares every field with what this shape would have written.
    pub(crate) fn open<L: Trust>(
        &self,
        region: &Region<L>,
        fingerprint: u64,
    ) -> Result<Layout, Incompatible> {
        let header = Header::inspect(region)?;
        same(Field::Kind, self.kind.into(), header.kind.into())?;
        same(Field::ElementBytes, self.element_bytes as u64, header.element_bytes)?;
        same(Field::ElementAlign, self.element_align as u64, header.element_align)?;
        same(Field::TypeFingerprint, fingerprint, header.type_fingerprint)?;
        let least = (HEADER_BYTES + LINE_BYTES) as u64;
        if header.total_bytes < least {
            return Err(Incompatible::new(Field::TotalBytes, least, header.total_bytes));
        }
        // SAFETY: `total_bytes` is within the region, so the shape is; it is nowhere used as a control word.
        let payload = unsafe { region.payload(SHAPE_OFFSET, LINE_BYTES) };
        // SAFETY: in bounds and aligned; any bytes are a `Raw`; nobody writes a shape after the magic.
        let raw = unsafe { payload.load::<Raw>(0) };
        same(Field::Form, self.form() as u64, raw.form.into())?;
        same(Field::Reserved, 0, raw.reserved.iter().fold(0, |all, word| all | word))?;
        same(Field::Capacity, raw.cells.into(), header.capacity)?;
        let unknown = Incompatible::new(Field::Flags, 0, raw.wake.into());
        let options = Options {
            slots: if self.classic { DEFAULT_SLOTS } else { raw.slots },
            writers: raw.writers,
            liveness: raw.liveness,
            role_stride: header.role_stride,
            type_fingerprint: fingerprint,
            wake: Wake::of(raw.wake).ok_or(unknown)?,
        };
        let layout = self.layout(raw.cells, &options).map_err(|error| match error {
            CreateError::Count { what: "cells", found, .. } => {
                Incompatible::new(Field::Capacity, 1, found.into())
            }
            CreateError::Slots { min, found, .. } => {
                Incompatible::new(Field::Count, min.into(), found.into())
            }
            CreateError::Count { found, .. } => Incompatible::new(Field::Count, 1, found.into()),
            _ => Incompatible::new(Field::ElementBytes, 1, header.element_bytes),
        })?;
        same(Field::Flags, layout.wake.code().into(), raw.wake.into())?;
        same(Field::Count, layout.slots.into(), raw.slots.into())?;
        same(Field::Count, layout.writers.into(), raw.writers.into())?;
        same(Field::TotalBytes, layout.cell_bytes as u64, raw.cell_bytes)?;
        same(Field::DataOffset, layout.first() as u64, header.data_offset)?;
        same(Field::TotalBytes, layout.total_bytes as u64, header.total_bytes)?;
        Ok(layout)
    }
}

pub(crate) fn same(field: Field, expected: u64, found: u64) -> Result<(), Incompatible> {
    if expected == found { Ok(()) } else { Err(Incompatible::new(field, expected, found)) }
}

pub(crate) fn clear<L: Trust>(region: &Region<L>, offset: usize) {
    // SAFETY: a control word of a layout that lies within the region, which outlives the handle.
    let word = unsafe { region.atomic_u64(offset) };
    // ORD header.publish: Relaxed, the header's magic publishes the cleared words.
    word.store(0, Ordering::Relaxed);
}

impl Layout {
    /// What a [log](crate::log) has in common with a cell: the bell, the owner word of the writer, and `latest`.
    pub(crate) fn of_log(liveness: u32, wake: Wake, stride: RoleStride) -> Self {
        Self {
            form: Form::Word,
            slots: 1,
            writers: 1,
            liveness,
            cells: 1,
            words: 1,
            wake,
            stride,
            shared: false,
            cell_bytes: 0,
            total_bytes: 0,
        }
    }

    fn raw(&self) -> Raw {
        Raw {
            form: self.form as u32,
            slots: self.slots,
            liveness: self.liveness,
            writers: self.writers,
            cells: self.cells,
            wake: self.wake.code(),
            cell_bytes: self.cell_bytes as u64,
            reserved: [0; 12],
        }
    }

    /// Whether these leases are those that the writers of this structure hold. Leases of the right kind that say nothing
    /// about the region are found as 0: none.
    pub(crate) fn require_liveness<L: Trust, V: Liveness>(
        &self,
        region: &Region<L>,
        liveness: &V,
    ) -> Result<(), Incompatible> {
        same(Field::Liveness, self.liveness.into(), V::KIND.into())?;
        if liveness.covers(region) { Ok(()) } else { same(Field::Liveness, self.liveness.into(), 0) }
    }

    /// Where readers wait for cell `index`, which is below [`cells`](Self::cells).
    pub(crate) fn post(&self, index: u32) -> Post {
        Post {
            wake: self.wake,
            bell: self.bell(),
            liveness: self.liveness,
            lease: index,
            writers: self.writers,
        }
    }

    pub(crate) fn bell(&self) -> usize {
        match self.stride {
            RoleStride::Line => SHAPE_OFFSET + LINE_BYTES,
            stride => stride.bytes(),
        }
    }

    fn first(&self) -> usize {
        match self.stride {
            RoleStride::Line => self.bell() + LINE_BYTES,
            stride => 2 * stride.bytes(),
        }
    }

    fn owners_offset(&self) -> usize {
        if self.shared { LINE_BYTES } else { 0 }
    }

    fn latest_offset(&self) -> usize {
        self.owners_offset() + (self.writers as usize).div_ceil(OWNERS_PER_LINE) * LINE_BYTES
    }

    /// Words from `latest` to the data on or behind its line, and how many.
    fn hot(&self) -> (usize, usize) {
        match self.form {
            Form::Word => (1, self.slots as usize),
            Form::Inline => (1, self.words),
            Form::Rotating => (1, 0),
            Form::Classic if self.words <= INLINE_WORDS => (1, self.words),
            Form::Classic => (CACHE_LINE_BYTES / WORD_BYTES, self.words),
        }
    }

    /// Words of all slots together; a value is at most 2 GiB and there are at most 1024 slots.
    fn slots_words(&self) -> Option<usize> {
        match self.form {
            Form::Inline | Form::Rotating => slot_words(self.words).checked_mul(self.slots as usize),
            Form::Word | Form::Classic => Some(0),
        }
    }

    fn measure(&self) -> Option<usize> {
        let (start, len) = self.hot();
        let hot = start.checked_add(len)?.checked_mul(WORD_BYTES)?.checked_next_multiple_of(LINE_BYTES)?;
        let slots = self.slots_words()?.checked_mul(WORD_BYTES)?;
        hot.checked_add(slots)?.checked_add(self.latest_offset())?.checked_next_multiple_of(LINE_BYTES)
    }

    /// The words of cell `index`, which is below [`cells`](Self::cells).
    pub(crate) fn place(&self, index: u32) -> Place {
        let start = self.first() + index as usize * self.cell_bytes;
        let latest = start + self.latest_offset();
        let (hot, len) = self.hot();
        Place {
            latest,
            hot: (latest + hot * WORD_BYTES, len),
            slots: (latest + LINE_BYTES, self.slots_words().unwrap_or(0)),
            lock: start,
            owners: start + self.owners_offset(),
        }
    }

    /// Zeroes the words of a cell that say something; a zero stamp in any slot but the first names no version.
    fn clear<L: Trust>(&self, region: &Region<L>, index: u32) {
        let place = self.place(index);
        if self.shared {
            clear(region, place.lock);
        }
        for writer in 0..self.writers {
            clear(region, place.owner(writer));
        }
        let (slots, words) = place.slots;
        let slot = slot_words(self.words);
        for stamp in (0..words / slot).map(|i| i * slot + self.words) {
            clear(region, slots + stamp * WORD_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize, shared: bool, options: &Options) -> Layout {
        let words = bytes.div_ceil(8);
        let shape = Shape { kind: 1, element_bytes: bytes, element_align: 8, words, classic: false, shared };
        shape.layout(2, options).expect("a plain shape")
    }

    /// The layout is an interface: other versions and languages read it. Changing these numbers needs a new
    /// major version in the header.
    #[test]
    fn offsets_are_those_of_the_drawing() {
        let word = layout(8, false, &Options::new());
        assert_eq!(
            (word.form, word.slots, word.cell_bytes, word.total_bytes),
            (Form::Word, 4, 256, 384 + 512)
        );
        let place = word.place(1);
        assert_eq!((place.owner(0), place.latest, place.hot), (384 + 256, 384 + 384, (384 + 392, 4)));

        let inline = layout(56, false, &Options::new());
        assert_eq!((inline.form, inline.cell_bytes), (Form::Inline, 256 + 8 * 64));
        assert_eq!(inline.place(0).hot, (384 + 136, 7));
        assert_eq!(inline.place(0).slots, (384 + 256, 64));

        let rotating = layout(64, false, &Options::new().slots(4).role_stride(RoleStride::Page));
        assert_eq!((rotating.form, rotating.bell(), rotating.first()), (Form::Rotating, 4096, 8192));
        assert_eq!(rotating.cell_bytes, 256 + 4 * 128);

        let shared = layout(64, true, &Options::new().writers(17));
        assert_eq!((shared.place(0).lock, shared.place(0).owner(16)), (384, 512 + 128));
        assert_eq!(shared.place(0).latest, 384 + 3 * 128);
    }
}
