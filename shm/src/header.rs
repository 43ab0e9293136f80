//! The first line of every structure: what it is, checked once, then never read again.
//!
//! ```text
//! offset size
//!    0    8  magic            "TIDEWIRE", stored last
//!    8    2  abi_major        layouts with another major version are refused
//!   10    2  abi_minor        a newer minor version than ours is refused
//!   12    4  endianness       0x01020304
//!   16    4  header_bytes     128
//!   20    4  line_bytes       128
//!   24    4  kind             which structure (the structure's crate assigns it)
//!   28    4  flags            none known: must be zero
//!   32    8  total_bytes      bytes of the whole structure, header included
//!   40    8  capacity         slots or bytes
//!   48    8  element_bytes    bytes of one element; 1 for bytes
//!   56    8  element_align    alignment of one element
//!   64    8  type_fingerprint the user's name for the element type; 0 = none given
//!   72    8  role_stride      bytes between the control lines of two roles
//!   80    8  data_offset      where the data begins
//!   88    8  boot_id          hash of the boot that created it; 0 = process memory, or without a name
//!   96   16  nonce            random, drawn with a segment; 0 = none; for people and tools, compared by nobody yet
//!  112   16  reserved         zero
//! ```
//!
//! All numbers are in the byte order of the machine that wrote them; the mark tells. A structure is written into
//! memory that nobody else can see yet ([`Segment::create`](crate::Segment::create) links the name afterwards), so
//! storing the magic last matters only to memory that is watched from the start, such as a static.

use bytemuck::{Pod, Zeroable};

use crate::error::{Field, Incompatible};
use crate::line::LINE_BYTES;
use crate::region::Region;
use crate::sync::{Ordering, fence};
use crate::trust::Trust;

/// The first eight bytes of every structure.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TIDEWIRE");
/// The major version of the layout: changes when an older program would misread the bytes.
pub const ABI_MAJOR: u16 = 1;
/// The minor version of the layout: changes when a newer program knows more than an older one.
pub const ABI_MINOR: u16 = 0;
/// Bytes of the header.
pub const HEADER_BYTES: usize = LINE_BYTES;

#[expect(clippy::cast_possible_truncation, reason = "both are 128")]
const HEADER_BYTES_U32: u32 = HEADER_BYTES as u32;
#[expect(clippy::cast_possible_truncation, reason = "both are 128")]
const LINE_BYTES_U32: u32 = LINE_BYTES as u32;
const ENDIANNESS: u32 = 0x0102_0304;
const MAGIC_OFFSET: usize = 0;

/// The header as it lies in memory. Plain old data: any bytes are a (possibly wrong) header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Raw {
    magic: u64,
    abi_major: u16,
    abi_minor: u16,
    endianness: u32,
    header_bytes: u32,
    line_bytes: u32,
    kind: u32,
    flags: u32,
    total_bytes: u64,
    capacity: u64,
    element_bytes: u64,
    element_align: u64,
    type_fingerprint: u64,
    role_stride: u64,
    data_offset: u64,
    boot_id: u64,
    nonce: [u64; 2],
    reserved: [u64; 2],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Raw>() == HEADER_BYTES);
    assert!(offset_of!(Raw, magic) == MAGIC_OFFSET);
    assert!(offset_of!(Raw, endianness) == 12);
    assert!(offset_of!(Raw, kind) == 24);
    assert!(offset_of!(Raw, total_bytes) == 32);
    assert!(offset_of!(Raw, type_fingerprint) == 64);
    assert!(offset_of!(Raw, boot_id) == 88);
    assert!(offset_of!(Raw, reserved) == 112);
};

/// How far apart the control words of two roles lie; chosen at creation, recorded in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoleStride {
    /// 128 bytes: where memory is scarce. The default.
    #[default]
    Line,
    /// A page of 4096 bytes: each role's words can be mapped with permissions of their own.
    Page,
}

impl RoleStride {
    /// The stride in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Line => LINE_BYTES,
            Self::Page => 4096,
        }
    }

    fn from_bytes(bytes: u64) -> Option<Self> {
        [Self::Line, Self::Page].into_iter().find(|stride| stride.bytes() as u64 == bytes)
    }
}

/// What a header says besides the constants: private, validated, and not read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which structure this is.
    pub kind: u32,
    /// Bytes of the whole structure, header included.
    pub total_bytes: u64,
    /// Slots or bytes.
    pub capacity: u64,
    /// Bytes of one element; 1 for bytes.
    pub element_bytes: u64,
    /// Alignment of one element.
    pub element_align: u64,
    /// The user's name for the element type; 0 if none was given.
    pub type_fingerprint: u64,
    /// How far apart the control words of two roles lie.
    pub role_stride: RoleStride,
    /// Where the data begins.
    pub data_offset: u64,
    /// Where the memory comes from.
    pub origin: crate::region::Origin,
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are what is wanted")]
fn halves(number: u128) -> [u64; 2] {
    [number as u64, (number >> 64) as u64]
}

impl Header {
    fn raw(&self) -> Raw {
        Raw {
            magic: MAGIC,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            endianness: ENDIANNESS,
            header_bytes: HEADER_BYTES_U32,
            line_bytes: LINE_BYTES_U32,
            kind: self.kind,
            flags: 0,
            total_bytes: self.total_bytes,
            capacity: self.capacity,
            element_bytes: self.element_bytes,
            element_align: self.element_align,
            type_fingerprint: self.type_fingerprint,
            role_stride: self.role_stride.bytes() as u64,
            data_offset: self.data_offset,
            boot_id: self.origin.boot_id,
            nonce: halves(self.origin.nonce),
            reserved: [0; 2],
        }
    }

    /// Takes away the magic of whatever lies in the region, before anything else is written there.
    ///
    /// From then on until [`write`](Self::write) nobody can open the region: a creator killed in between leaves memory
    /// that says so, not a mixture of an old structure and a new one.
    ///
    /// # Errors
    /// [`Field::Access`] if the region can only be read, [`Field::TotalBytes`] if it is shorter than a header.
    pub fn invalidate<L: Trust>(region: &Region<L>) -> Result<(), Incompatible> {
        require_writable(region)?;
        Self::retract(region)
    }

    /// As [`invalidate`](Self::invalidate), for whoever asks the region about all that it writes behind the header: only
    /// the header must be writable.
    ///
    /// # Errors
    /// [`Field::Access`] if the header can only be read, [`Field::TotalBytes`] if the region is shorter than that.
    pub fn retract<L: Trust>(region: &Region<L>) -> Result<(), Incompatible> {
        require_writable_header(region)?;
        if region.len() < HEADER_BYTES {
            return Err(Incompatible::new(Field::TotalBytes, HEADER_BYTES as u64, region.len() as u64));
        }
        // SAFETY: the first eight bytes are only accessed as this word; the region outlives it.
        let magic = unsafe { region.atomic_u64(MAGIC_OFFSET) };
        // ORD header.invalidate: Relaxed, ordered before what follows by the fence.
        magic.store(0, Ordering::Relaxed);
        // ORD header.invalidate: Release -> the second fence of `Header::inspect`; whose copy has a word of the new structure
        // does not find the old magic behind it.
        fence(Ordering::Release);
        Ok(())
    }

    /// Writes the header into memory whose control words and data are ready.
    ///
    /// The magic goes last: whoever reads it, and fences, finds the rest.
    ///
    /// # Errors
    /// [`Field::Access`] if the header can only be read, [`Field::TotalBytes`] if the region is shorter than the
    /// structure.
    pub fn write<L: Trust>(&self, region: &Region<L>) -> Result<(), Incompatible> {
        require_writable_header(region)?;
        let (wanted, have) = (self.total_bytes, region.len() as u64);
        if wanted > have || region.len() < HEADER_BYTES {
            return Err(Incompatible::new(Field::TotalBytes, wanted, have));
        }
        self.write_front(region)
    }

    /// As [`write`](Self::write), where `region` is only the front of the structure.
    pub(crate) fn write_front<L: Trust>(&self, region: &Region<L>) -> Result<(), Incompatible> {
        require_writable_header(region)?;
        if region.len() < HEADER_BYTES {
            return Err(Incompatible::new(Field::TotalBytes, HEADER_BYTES as u64, region.len() as u64));
        }
        let raw = self.raw();
        let rest = bytemuck::bytes_of(&raw).split_at(8).1;
        // SAFETY: the header is in bounds (just checked) and is payload but for the magic.
        let payload = unsafe { region.payload(8, HEADER_BYTES - 8) };
        // SAFETY: in bounds; nobody else uses a header that has no magic yet.
        unsafe { payload.write_bytes(0, rest.as_ptr(), rest.len()) };
        // SAFETY: the first eight bytes are only accessed as this word; the region outlives it.
        let magic = unsafe { region.atomic_u64(MAGIC_OFFSET) };
        // ORD header.publish: Release -> `Header::inspect`; hands over the header, control words and data.
        magic.store(raw.magic, Ordering::Release);
        Ok(())
    }

    /// Reads the header once into private memory and checks all that does not depend on the structure; for
    /// structures whose roles write. So none of them is ever laid over memory that can only be read.
    ///
    /// # Errors
    /// [`Field::Access`] if the region can only be read; else as [`inspect`](Self::inspect).
    pub fn read<L: Trust>(region: &Region<L>) -> Result<Self, Incompatible> {
        require_writable(region)?;
        Self::inspect(region)
    }

    /// As [`read`](Self::read), for whoever writes nothing, or asks the region before it does: works on memory that
    /// can only be read.
    ///
    /// # Errors
    /// The first field that is not what this version writes.
    pub fn inspect<L: Trust>(region: &Region<L>) -> Result<Self, Incompatible> {
        let have = region.len() as u64;
        if region.len() < HEADER_BYTES {
            return Err(Incompatible::new(Field::TotalBytes, HEADER_BYTES as u64, have));
        }
        // SAFETY: the first eight bytes are only accessed as this word; the region outlives it.
        let word = unsafe { region.atomic_u64(MAGIC_OFFSET) };
        // ORD header.publish: Relaxed, since a load from a read-only mapping must be; the fence below acquires.
        let magic = word.load(Ordering::Relaxed);
        // ORD header.publish: Acquire <- `Header::write`; the header, control words and data are ready.
        fence(Ordering::Acquire);
        require_magic(magic)?;
        let mut raw = Raw::zeroed();
        let rest = bytemuck::bytes_of_mut(&mut raw).split_at_mut(8).1;
        // SAFETY: in bounds (just checked); payload but for the magic.
        let payload = unsafe { region.payload(8, HEADER_BYTES - 8) };
        // SAFETY: in bounds; nobody writes a header after its magic, and a hostile write gives arbitrary bytes.
        unsafe { payload.read_bytes(0, rest.as_mut_ptr(), rest.len()) };
        // ORD header.invalidate: Acquire <- `Header::invalidate`; if a word above is of a newer structure, the magic is gone,
        // or new.
        fence(Ordering::Acquire);
        // ORD header.invalidate: Relaxed, the fence before it orders it behind the copy.
        let again = word.load(Ordering::Relaxed);
        if again != magic {
            return Err(Incompatible::new(Field::Magic, MAGIC, again));
        }
        raw.magic = magic;
        raw.validate(have, region.origin().boot_id)
    }

    /// As [`inspect`](Self::inspect), of a header that was read from a file of `file_bytes` bytes which nobody changes.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn inspect_copy(
        bytes: &[u8; HEADER_BYTES],
        file_bytes: u64,
        boot_id: u64,
    ) -> Result<Self, Incompatible> {
        let raw: Raw = bytemuck::pod_read_unaligned(bytes);
        require_magic(raw.magic)?;
        raw.validate(file_bytes, boot_id)
    }
}

fn require_magic(magic: u64) -> Result<(), Incompatible> {
    if magic == MAGIC.swap_bytes() {
        let (expected, found) = (ENDIANNESS.into(), ENDIANNESS.swap_bytes().into());
        return Err(Incompatible::new(Field::Endianness, expected, found));
    }
    if magic == MAGIC { Ok(()) } else { Err(Incompatible::new(Field::Magic, MAGIC, magic)) }
}

fn require_writable<L: Trust>(region: &Region<L>) -> Result<(), Incompatible> {
    region.require_writable().map_err(|_| Incompatible::new(Field::Access, 1, 0))
}

/// Of memory that is too short for a header, what there is: the check of the length says the rest.
fn require_writable_header<L: Trust>(region: &Region<L>) -> Result<(), Incompatible> {
    let bytes = HEADER_BYTES.min(region.len());
    region.require_writable_at(0, bytes).map_err(|_| Incompatible::new(Field::Access, 1, 0))
}

impl Raw {
    fn validate(&self, region_bytes: u64, boot_id: u64) -> Result<Header, Incompatible> {
        let same = |field, expected: u64, found: u64| {
            if expected == found { Ok(()) } else { Err(Incompatible::new(field, expected, found)) }
        };
        same(Field::Endianness, ENDIANNESS.into(), self.endianness.into())?;
        same(Field::AbiMajor, ABI_MAJOR.into(), self.abi_major.into())?;
        if self.abi_minor > ABI_MINOR {
            return Err(Incompatible::new(Field::AbiMinor, ABI_MINOR.into(), self.abi_minor.into()));
        }
        same(Field::HeaderBytes, HEADER_BYTES as u64, self.header_bytes.into())?;
        same(Field::LineBytes, LINE_BYTES as u64, self.line_bytes.into())?;
        same(Field::Flags, 0, self.flags.into())?;
        same(Field::Reserved, 0, self.reserved.iter().fold(0, |all, word| all | word))?;
        same(Field::BootId, boot_id, self.boot_id)?;
        if self.total_bytes > region_bytes {
            return Err(Incompatible::new(Field::TotalBytes, region_bytes, self.total_bytes));
        }
        let role_stride = RoleStride::from_bytes(self.role_stride).ok_or(Incompatible::new(
            Field::RoleStride,
            RoleStride::default().bytes() as u64,
            self.role_stride,
        ))?;
        Ok(Header {
            kind: self.kind,
            total_bytes: self.total_bytes,
            capacity: self.capacity,
            element_bytes: self.element_bytes,
            element_align: self.element_align,
            type_fingerprint: self.type_fingerprint,
            role_stride,
            data_offset: self.data_offset,
            origin: crate::region::Origin {
                nonce: u128::from(self.nonce[1]) << 64 | u128::from(self.nonce[0]),
                boot_id: self.boot_id,
            },
        })
    }
}
