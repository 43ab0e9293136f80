//! Composites: several structures in one region, with what whoever opens it must know before it opens them.
//!
//! # Memory layout
//! ```text
//!   0   header 128     see `Header`; capacity is the number of parts, data_offset where the first begins
//! 128   numbers 8 u64  of whoever created it
//! 192   text_bytes u64, 7 u64 zero
//! 256   parts 8 times  offset u64, bytes u64; those beyond the last are zero
//! 384   text           bytes of whoever created it
//!       parts          each on a page of 4096 bytes
//! ```
//! Everything before the parts is written once, before the header's magic, and copied once by each process that opens it.
//!
//! # Crash argument
//! The magic comes last: a creator killed before has made nothing that can be opened.

use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Field, Incompatible};
use crate::header::{HEADER_BYTES, Header, RoleStride};
use crate::region::Region;
use crate::trust::Trust;

/// Numbers that a composite carries.
pub const COMPOSITE_NUMBERS: usize = 8;
/// The most parts that a composite has.
pub const COMPOSITE_PARTS: usize = 8;
/// The most bytes of text that a composite carries.
pub const COMPOSITE_TEXT_BYTES: usize = 3712;

const HEAD_WORDS: usize = (TEXT - HEADER_BYTES) / 8;
const TEXT: usize = HEADER_BYTES + 256;
const PAGE_BYTES: usize = 4096;

/// What a region of several structures is: made by its creator, found by all others.
///
/// ```
/// use tidewire_shm::{Composite, Incompatible, Region};
///
/// let made = Composite { kind: 0x77, type_fingerprint: 5, numbers: [9; 8], text: b"two".into(), parts: vec![128, 300] };
/// let region = Region::heap(made.bytes())?;
/// made.create(region, |parts| {
///     assert_eq!(parts[0].len(), 4096);
///     Ok::<(), Incompatible>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Composite {
    /// Which kind of composite this is.
    pub kind: u32,
    /// The creator's name for the types in it; compared by whoever opens it.
    pub type_fingerprint: u64,
    /// Numbers of the creator.
    pub numbers: [u64; COMPOSITE_NUMBERS],
    /// Text of the creator; what is beyond [`COMPOSITE_TEXT_BYTES`] is cut off.
    pub text: Vec<u8>,
    /// Bytes that each part needs; parts beyond [`COMPOSITE_PARTS`] are refused.
    pub parts: Vec<usize>,
}

impl Composite {
    /// Bytes of region that it needs; `usize::MAX` if that is more than an address space.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().fold(PAGE_BYTES, |all, part| all.saturating_add(room(*part)))
    }

    /// Writes it into a region, with parts made by `fill`, which gets a region for each. What lay there is gone from the
    /// first store on.
    ///
    /// # Errors
    /// As [`Header::write`], [`Field::Capacity`] if there are too many parts; what `fill` returns.
    pub fn create<L: Trust, R, E: From<Incompatible>>(
        &self,
        region: Region<L>,
        fill: impl FnOnce(Vec<Region<L>>) -> Result<R, E>,
    ) -> Result<R, E> {
        let count = self.parts.len();
        if count > COMPOSITE_PARTS {
            return Err(Incompatible::new(Field::Capacity, COMPOSITE_PARTS as u64, count as u64).into());
        }
        let (wanted, have) = (self.bytes() as u64, region.len() as u64);
        if wanted > have {
            return Err(Incompatible::new(Field::TotalBytes, wanted, have).into());
        }
        Header::invalidate(&region)?;
        let text = self.text.get(..COMPOSITE_TEXT_BYTES).unwrap_or(&self.text);
        let mut head = vec![0_u64; HEAD_WORDS];
        let table = self.places().flat_map(|(offset, bytes)| [offset as u64, bytes as u64]);
        let values = self.numbers.into_iter().chain([text.len() as u64]).chain([0; 7]).chain(table);
        head.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_le());
        let head: &[u8] = bytemuck::cast_slice(&head);
        // SAFETY: in bounds, a page at least (checked above); only ever payload.
        let payload = unsafe { region.payload(HEADER_BYTES, TEXT - HEADER_BYTES + COMPOSITE_TEXT_BYTES) };
        // SAFETY: in bounds; nobody else uses a region without a magic; the region lives.
        unsafe { payload.write_bytes(0, head.as_ptr(), head.len()) };
        // SAFETY: as above; the text is cut to its room.
        unsafe { payload.write_bytes(TEXT - HEADER_BYTES, text.as_ptr(), text.len()) };
        let header = Header {
            kind: self.kind,
            total_bytes: wanted,
            capacity: count as u64,
            element_bytes: 1,
            element_align: 1,
            type_fingerprint: self.type_fingerprint,
            role_stride: RoleStride::Page,
            data_offset: PAGE_BYTES as u64,
            origin: region.origin(),
        };
        let (front, parts) = cut(region, self.places())?;
        let made = fill(parts)?;
        header.write_front(&front)?;
        Ok(made)
    }

    /// Where the parts lie.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut next = PAGE_BYTES;
        self.parts.iter().map(move |bytes| {
            let at = next;
            next = next.saturating_add(room(*bytes));
            (at, room(*bytes))
        })
    }

    /// Reads what a creator wrote, once, and gives a region for each part. Whoever asks compares fingerprint, numbers and
    /// text, which a peer that lies may have made up.
    ///
    /// # Errors
    /// The first field that is not what this version writes for a composite of this kind.
    pub fn open<L: Trust>(region: Region<L>, kind: u32) -> Result<(Self, Vec<Region<L>>), Incompatible> {
        let header = Header::inspect(&region)?;
        let same = |field, expected: u64, found: u64| {
            if expected == found { Ok(()) } else { Err(Incompatible::new(field, expected, found)) }
        };
        same(Field::Kind, kind.into(), header.kind.into())?;
        same(Field::DataOffset, PAGE_BYTES as u64, header.data_offset)?;
        let count = usize::try_from(header.capacity).unwrap_or(usize::MAX);
        if count > COMPOSITE_PARTS {
            return Err(Incompatible::new(Field::Capacity, COMPOSITE_PARTS as u64, header.capacity));
        }
        if region.len() < PAGE_BYTES {
            return Err(Incompatible::new(Field::TotalBytes, PAGE_BYTES as u64, region.len() as u64));
        }
        let mut head = vec![0_u64; HEAD_WORDS];
        let mut text = vec![0_u8; COMPOSITE_TEXT_BYTES];
        // SAFETY: in bounds (just checked); only ever payload.
        let payload = unsafe { region.payload(HEADER_BYTES, TEXT - HEADER_BYTES + COMPOSITE_TEXT_BYTES) };
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut head);
        // SAFETY: in bounds; nobody writes it after the magic, and a hostile write gives arbitrary bytes.
        unsafe { payload.read_bytes(0, bytes.as_mut_ptr(), bytes.len()) };
        // SAFETY: as above.
        unsafe { payload.read_bytes(TEXT - HEADER_BYTES, text.as_mut_ptr(), text.len()) };
        let mut words = head.iter().map(|word| u64::from_le(*word));
        let numbers = core::array::from_fn(|_| words.next().unwrap_or(0));
        let text_bytes = words.next().unwrap_or(0);
        let fits = usize::try_from(text_bytes).ok().filter(|bytes| *bytes <= text.len());
        text.truncate(fits.ok_or(Incompatible::new(
            Field::Reserved,
            COMPOSITE_TEXT_BYTES as u64,
            text_bytes,
        ))?);
        let mut table = words.skip(7);
        let mut places = Vec::with_capacity(count);
        let mut end = PAGE_BYTES as u64;
        for _ in 0..count {
            let (offset, bytes) = (table.next().unwrap_or(0), table.next().unwrap_or(0));
            same(Field::DataOffset, end, offset)?;
            end = offset.saturating_add(bytes);
            if !bytes.is_multiple_of(PAGE_BYTES as u64) || end > region.len() as u64 {
                return Err(Incompatible::new(Field::TotalBytes, region.len() as u64, end));
            }
            places.push((usize::try_from(offset).unwrap_or(0), usize::try_from(bytes).unwrap_or(0)));
        }
        let parts = places.iter().map(|place| place.1).collect();
        let (_, regions) = cut(region, places.into_iter())?;
        Ok((Self { kind, type_fingerprint: header.type_fingerprint, numbers, text, parts }, regions))
    }
}

/// Whole pages, one at least.
fn room(bytes: usize) -> usize {
    bytes.max(1).checked_next_multiple_of(PAGE_BYTES).unwrap_or(usize::MAX)
}

/// The front, and the parts, which follow each other from its end on.
fn cut<L: Trust>(
    region: Region<L>,
    places: impl Iterator<Item = (usize, usize)>,
) -> Result<(Region<L>, Vec<Region<L>>), Incompatible> {
    let wrong = |_| Incompatible::new(Field::DataOffset, 0, 0);
    let (front, mut rest) = region.split_at(PAGE_BYTES).map_err(wrong)?;
    let mut parts = Vec::new();
    for (_, bytes) in places {
        let (part, behind) = rest.split_at(bytes).map_err(wrong)?;
        parts.push(part);
        rest = behind;
    }
    Ok((front, parts))
}

const _: () = assert!(TEXT + COMPOSITE_TEXT_BYTES == PAGE_BYTES);
const _: () = assert!(HEAD_WORDS == COMPOSITE_NUMBERS + 8 + 2 * COMPOSITE_PARTS);
