//! What can be wrong with memory, and what was expected instead.

use core::error::Error;
use core::fmt;

/// Why bytes cannot be a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// The length is zero or larger than an address space.
    Length {
        /// The length that was asked for.
        found: usize,
    },
    /// The first byte is not 128-byte aligned.
    Alignment {
        /// The address that was given.
        found: usize,
    },
    /// The allocator refused.
    OutOfMemory {
        /// The bytes that were asked for.
        bytes: usize,
    },
    /// Something was to be written into memory that can only be read.
    ReadOnly,
    /// These bytes were to be written, and not all of them can be.
    ReadOnlyPart {
        /// Where they begin.
        offset: usize,
        /// How many they are.
        bytes: usize,
    },
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { found } => write!(f, "a region cannot have {found} bytes"),
            Self::Alignment { found } => {
                write!(f, "a region must start at a multiple of 128, found address {found:#x}")
            }
            Self::OutOfMemory { bytes } => write!(f, "no memory for a region of {bytes} bytes"),
            Self::ReadOnly => f.write_str("expected memory that can be written, found it read-only"),
            Self::ReadOnlyPart { offset, bytes } => {
                write!(
                    f,
                    "expected {bytes} bytes at {offset} to be writable, found memory that can only be read"
                )
            }
        }
    }
}

impl Error for RegionError {}

/// The bytes are not what the caller wants to attach to: one field, what was expected, what was found.
///
/// Numbers are the field's own unit; texts and hashes are shown as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incompatible {
    /// The field of the header that differs.
    pub field: Field,
    /// What this process wants there; for a range, its least value.
    pub expected: u64,
    /// What stands there.
    pub found: u64,
}

impl Incompatible {
    /// A mismatch of `field`.
    #[must_use]
    pub fn new(field: Field, expected: u64, found: u64) -> Self {
        Self { field, expected, found }
    }
}

/// The fields of a header that an attach compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The first eight bytes, `TIDEWIRE`.
    Magic,
    /// The major version of the layout.
    AbiMajor,
    /// The minor version of the layout: a newer one than ours cannot be attached.
    AbiMinor,
    /// The mark that reads differently on a machine of the other byte order.
    Endianness,
    /// Bytes of the header.
    HeaderBytes,
    /// Bytes of a line.
    LineBytes,
    /// Which structure it is.
    Kind,
    /// Flags that this version does not know.
    Flags,
    /// Bytes of the whole structure.
    TotalBytes,
    /// Slots or bytes of capacity.
    Capacity,
    /// Bytes of one element.
    ElementBytes,
    /// Alignment of one element.
    ElementAlign,
    /// The hash that names the element type.
    TypeFingerprint,
    /// Bytes between the control words of two roles.
    RoleStride,
    /// Where the data begins.
    DataOffset,
    /// The boot in which the structure was created.
    BootId,
    /// The random number drawn at creation.
    Nonce,
    /// Bytes that must be zero.
    Reserved,
    /// Whether the memory can be written: 1 if so, 0 if it can only be read.
    Access,
    /// What kind of leases the processes use that share it ([`Liveness::KIND`](crate::Liveness::KIND)).
    Liveness,
    /// Which of several forms the structure has.
    Form,
    /// How many slots, cells, or writers it has.
    Count,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::AbiMajor => "major layout version",
            Self::AbiMinor => "minor layout version",
            Self::Endianness => "endianness mark",
            Self::HeaderBytes => "header size",
            Self::LineBytes => "line size",
            Self::Kind => "kind of structure",
            Self::Flags => "flags",
            Self::TotalBytes => "total size",
            Self::Capacity => "capacity",
            Self::ElementBytes => "element size",
            Self::ElementAlign => "element alignment",
            Self::TypeFingerprint => "type fingerprint",
            Self::RoleStride => "role stride",
            Self::DataOffset => "data offset",
            Self::BootId => "boot id",
            Self::Nonce => "creation nonce",
            Self::Reserved => "reserved bytes",
            Self::Access => "access",
            Self::Liveness => "kind of liveness",
            Self::Form => "form",
            Self::Count => "count",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, expected, found } = self;
        match field {
            Field::Access => {
                write!(f, "incompatible {field}: expected memory that can be written, found it read-only")
            }
            Field::Magic
            | Field::Endianness
            | Field::TypeFingerprint
            | Field::BootId
            | Field::Nonce
            | Field::Kind
            | Field::Flags => {
                write!(f, "incompatible {field}: expected {expected:#x}, found {found:#x}")
            }
            _ => write!(f, "incompatible {field}: expected {expected}, found {found}"),
        }
    }
}

impl Error for Incompatible {}
