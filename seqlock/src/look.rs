//! A look at cells by somebody who knows nothing of their values but what the header says.

use core::fmt;

use tidewire_shm::sync::Ordering;
use tidewire_shm::{Field, Header, Incompatible, Region, Trust, Trusted};

use crate::cell::owner_word;
use crate::engine::{END, inline};
use crate::error::{AttachError, Corrupt, CorruptWord};
use crate::layout::{
    Form, KIND_BYTES, KIND_CELL, KIND_CLASSIC, KIND_SHARED, KIND_TABLE, Layout, MAX_ELEMENT_BYTES, Shape,
    WORD_BYTES,
};
use crate::role::Owner;

/// Cells of any kind and of any type, for whoever only looks: monitors, and the tools of an operator. It sees no values. Of a log
/// there is [another](crate::log::View).
///
/// # Guarantees
/// Nothing is ever written: memory that can only be read will do. What the header says of the values is believed only as
/// far as all of the cells then lie within the region. Whoever lies about a version lies about a number, and nothing else.
///
/// # Examples
/// ```
/// use tidewire_seqlock::{Cell, Options, View};
/// use tidewire_shm::{Segment, Unleased};
///
/// let segment = Segment::anonymous(Cell::<[u64; 9]>::bytes(&Options::new())?)?;
/// let cell = Cell::<[u64; 9], _>::create(segment.region(), &[0; 9], &Options::new())?;
/// cell.writer(&Unleased)?.write(&[1; 9]);
///
/// let view = View::open(segment.region().read_only())?;
/// assert_eq!((view.element_bytes(), view.versions().collect::<Vec<_>>()), (72, vec![Ok(1)]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct View<L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    shape: Shape,
}

/// The bytes of a value and their alignment, if a type can be so: as long as some multiple of its alignment.
pub(crate) fn element_of(header: &Header) -> Result<(usize, usize), Incompatible> {
    let Header { element_bytes: bytes, element_align: align, .. } = *header;
    let no_align = Incompatible::new(Field::ElementAlign, 1, align);
    let no_bytes = Incompatible::new(Field::ElementBytes, align, bytes);
    if !align.is_power_of_two() {
        return Err(no_align);
    }
    if !bytes.is_multiple_of(align) {
        return Err(no_bytes);
    }
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= MAX_ELEMENT_BYTES).ok_or(no_bytes)?;
    Ok((bytes, usize::try_from(align).map_err(|_| no_align)?))
}

/// What cells must be that have this header.
fn shape_of(header: &Header) -> Result<Shape, Incompatible> {
    let kinds = [KIND_CELL, KIND_BYTES, KIND_TABLE, KIND_CLASSIC, KIND_SHARED];
    let kind = header.kind;
    if !kinds.contains(&kind) {
        return Err(Incompatible::new(Field::Kind, KIND_CELL.into(), kind.into()));
    }
    let (element_bytes, element_align) = element_of(header)?;
    // Behind bytes stands how many they are.
    let words = element_bytes.div_ceil(WORD_BYTES) + usize::from(kind == KIND_BYTES);
    let (classic, shared) = (kind == KIND_CLASSIC, kind == KIND_SHARED);
    Ok(Shape { kind, element_bytes, element_align, words, classic, shared })
}

impl<L: Trust> View<L> {
    /// Opens cells that somebody created; header and shape are read once and never again.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that no cell has.
    pub fn open(region: Region<L>) -> Result<Self, AttachError> {
        let header = Header::inspect(&region)?;
        let shape = shape_of(&header)?;
        let layout = shape.open(&region, header.type_fingerprint)?;
        Ok(Self { region, layout, shape })
    }

    /// What kind of cells they are: [`KIND_CELL`] and so on.
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.shape.kind
    }

    /// Bytes of a value, of the longest one for values of bytes.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        self.shape.element_bytes
    }

    /// The version of the latest whole value of each cell, 0 if that is the initial one; `Err` where it cannot be.
    pub fn versions(&self) -> impl Iterator<Item = Result<u64, Corrupt>> + '_ {
        (0..self.layout.cells).map(|cell| {
            // SAFETY: a control word of a validated layout; the region is kept.
            let latest = unsafe { self.region.atomic_u64(self.layout.place(cell).latest) };
            // ORD advice: Relaxed, a number for people; nothing is read behind it.
            let latest = latest.load(Ordering::Relaxed);
            let version = match self.layout.form {
                Form::Inline => inline::version(latest),
                // It counts the begin and the end of each write.
                Form::Classic => latest >> 1,
                Form::Word | Form::Rotating => latest,
            };
            if version < END {
                Ok(version)
            } else {
                Err(Corrupt { what: CorruptWord::Version, found: version })
            }
        })
    }

    /// Who writes each cell now; of one with [many writers](crate::shared) the first one that is there.
    pub fn owners(&self) -> impl Iterator<Item = Option<Owner>> + '_ {
        let writers = self.layout.writers;
        (0..self.layout.cells).map(move |cell| {
            let place = self.layout.place(cell);
            (0..writers).find_map(|writer| Owner::of(&owner_word(&self.region, &place, writer)))
        })
    }
}

impl<L: Trust> fmt::Debug for View<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layout, shape, .. } = self;
        f.debug_struct("View").field("shape", shape).field("cells", &layout.cells).finish_non_exhaustive()
    }
}
