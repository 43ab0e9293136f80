//! The latest value of something, in shared memory: one writer, any number of readers that never write.
//!
//! | structure | for |
//! |---|---|
//! | [`Cell`] | one value of a plain type; readers never wait, whatever happens to the writer |
//! | [`bytes::Cell`] | one value of bytes, of any length up to a longest one |
//! | [`table::Table`] | many cells of one type |
//! | [`shared::Cell`] | one value with many writers, which take turns |
//! | [`log::Log`] | the values of the last while, each to be read in order; one writer, readers that come and go |
//! | [`classic::Cell`] | one value in one slot: the least memory, and readers that must wait for the writer |
//!
//! All work on any [`Region`](tidewire_shm::Region): a static, the heap, or memory that processes share. How a cell keeps its
//! value follows from the value's size: up to 8 bytes in [single words](engine::word), up to 56 [inline](engine::inline)
//! and in slots, larger ones in [rotating slots](engine::rotating).
//!
//! # Guarantees
//! Of [`Cell`], [`bytes::Cell`] and [`table::Table`]:
//! - A write is wait-free and makes no allocation, no read-modify-write and, unless it [wakes](Wake) readers, no system
//!   call. One store publishes it: a writer killed or stopped at any instruction leaves the value before, whole, and
//!   nothing to repair.
//! - A reader only loads; memory that is mapped read-only will do. It waits for nobody, and tries again only if the
//!   writer laps it. What it returns was the latest value at a moment during the call, and the versions that it
//!   returns never go back.
//! - What a writer can write is validated: of one that lies, a reader gets a value of its making, `Lapped`, or
//!   [`Corrupt`], which is for good; each after a bounded number of steps, and never memory that is not the cell's.
//!
//! Readers may [wait](Reader::wait_changed_on) for the next version. What that costs writers is [chosen](Wake) when a cell is
//! created: as it comes, nothing.
//!
//! Of [`shared::Cell`], the same for readers. A writer takes a lock, by a read-modify-write, and may wait for another one:
//! within bounds, with a few system calls, and then it is told [`WriteError::Busy`]. One that is killed leaves the value
//! before, whole, and a lock that is taken from it where leases prove its death; one that is stopped keeps the lock.
//!
//! Of [`classic::Cell`], less: a write is wait-free, but while it lasts there is no value. Readers wait, within bounds,
//! and the value of a writer that is killed in it is gone until the next one writes.
//!
//! Of [`log::Log`], that a write is wait-free and leaves nothing to repair, that readers only load, and that nothing torn is
//! read; and that a reader is told exactly how much it missed. One with a gate misses nothing: while it lags the writer is
//! refused, until it has read on or is proven dead.
//!
//! Leases are to be those of the segment that the structure lies in. Those of another one prove nothing for it, and
//! would break the mutual exclusion of its writers (torn values), never the safety of memory; where it can be known
//! ([`Liveness::covers`](tidewire_shm::Liveness::covers)), no writer is made by them and nobody is believed dead.
//!
//! # Examples
//! ```
//! use tidewire_seqlock::{Cell, Options};
//! use tidewire_shm::{Region, Unleased};
//!
//! // Threads; processes differ only in where the region comes from.
//! let bytes = Cell::<[f64; 16]>::bytes(&Options::new())?;
//! let cell = Cell::create(Region::heap(bytes)?, &[0.0; 16], &Options::new())?;
//! let mut writer = cell.writer(&Unleased)?;
//! let mut reader = cell.reader();
//! let writing = std::thread::spawn(move || {
//!     for i in 1..=1000 {
//!         writer.write(&[f64::from(i); 16]);
//!     }
//! });
//! let mut version = 0;
//! while version < 1000 {
//!     let value;
//!     (value, version) = reader.read()?;
//!     assert!(value.iter().all(|x| *x == version as f64), "never torn");
//! }
//! # writing.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(any(loom, test, feature = "std")), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(loom, deny(clippy::disallowed_types))]
#![allow(rustdoc::private_intra_doc_links, reason = "the protocols are documented where they are written")]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod bytes;
mod cell;
pub mod classic;
mod codec;
mod engine;
mod error;
mod layout;
pub mod log;
mod look;
mod role;
pub mod shared;
pub mod table;
mod wait;

pub use cell::{Cell, Reader, Writer};
pub use error::{
    AttachError, BytesReadError, Corrupt, CorruptWord, CreateError, ReadError, TooLong, UpdateError,
    WaitError, WriteError,
};
pub use layout::{KIND_BYTES, KIND_CELL, KIND_CLASSIC, KIND_LOG, KIND_SHARED, KIND_TABLE, Options};
pub use look::View;
pub use role::Owner;
pub use wait::{KernelRef, Wake};

#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
mod readme {}
