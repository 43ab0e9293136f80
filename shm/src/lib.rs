//! The ground that every structure of Tidewire stands on.
//!
//! What a byte at an offset means before any queue exists: [regions](Region) of memory and who may write them
//! ([`Trust`]), the [header](Header) that says what a region holds, named and anonymous [segments](Segment) that
//! processes share, and the [seam](sync) between real memory and the model checker.
//!
//! Without the `std` feature the crate is `no_std`: bring memory of your own with [`Region::from_static`], or, with
//! `alloc`, take it from the heap.
#![cfg_attr(not(any(loom, test, feature = "std")), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod bell;
#[cfg(feature = "alloc")]
mod composite;
#[cfg(not(loom))]
mod copy;
#[cfg(all(feature = "std", not(loom)))]
mod death;
mod error;
mod header;
mod lease;
mod line;
#[cfg(all(feature = "std", not(loom)))]
mod own_fd;
mod region;
pub mod sync;
mod trust;

#[cfg(all(feature = "std", not(loom)))]
mod segment;

#[cfg(feature = "alloc")]
pub use composite::{COMPOSITE_NUMBERS, COMPOSITE_PARTS, COMPOSITE_TEXT_BYTES, Composite};
#[cfg(all(feature = "std", not(loom)))]
pub use death::{DeathError, DeathNotice, DeathWatch, NoticeAddress, NoticeState, WATCHES_MAX, WaitedWith};
pub use error::{Field, Incompatible, RegionError};
pub use header::{ABI_MAJOR, ABI_MINOR, HEADER_BYTES, Header, MAGIC, RoleStride};
pub use lease::{KERNEL_LEASES, LeaseError, Liveness, RoleId, Tenancy, Unleased};
pub use line::{CACHE_LINE_BYTES, LINE_BYTES, Line};
pub use region::{Origin, Region};
#[cfg(all(feature = "std", not(loom)))]
pub use segment::{
    Arrival, CleanMode, ForkMark, FoundSegment, JoinError, Joined, LeaseRange, Name, NameError, Part,
    PartedDraft, PartedSegment, Presence, Segment, SegmentError, SegmentLease, SegmentLeases, SegmentOptions,
    StalePolicy, Verdict, guard_sigbus,
};
pub use trust::{Trust, Trusted, Untrusted};

#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
mod readme {}
