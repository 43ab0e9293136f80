//! The latest value of something, in shared memory: one writer, any number of readers that never write.
//!
//! | structure | for |
//! |---|---|
//! | [`Cell`] | one value of a plain type; readers never wait, whatever happens to the writer |
//! | [`bytes::Cell`] | one value of bytes, of any length up to a longest one |
//! | [`table::Table`] | many cells of one type |
//! | [`shared::Cell`] | one value with many writers, which take turns |
//! | [`classic::Cell`] | one value in one slot: the least memory, and readers that must wait for the writer |
//!
//! All work on any [`Region`](tidewire_shm::Region): a static, the heap, or memory that processes share. How a cell keeps its
//! value follows from the value's size: up to 8 bytes in [single words](engine::word), up to 56 [inline](engine::inline)
//! and in slots, larger ones in [rotating slots](engine::rotating).
//!
//! # Guarantees
//! (All but [`classic`], which says where it differs.)
//! - A write is wait-free and makes no system call, no allocation and no read-modify-write. One store publishes it: a
//!   writer killed or stopped at any instruction leaves the value before, whole, and nothing to repair.
//! - A reader only loads; memory that is mapped read-only will do. It waits for nobody, and tries again only if the
//!   writer laps it. What it returns was the latest value at a moment during the call, and the versions that it
//!   returns never go back.
//! - What a writer can write is validated: readers of a cell that lies are told [`Corrupt`], for good, after a bounded
//!   number of steps.
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

pub mod bytes;
mod cell;
pub mod classic;
mod codec;
mod engine;
mod error;
mod layout;
mod role;
pub mod shared;
pub mod table;

pub use cell::{Cell, Reader, Writer};
pub use error::{
    AttachError, BytesReadError, Corrupt, CorruptWord, CreateError, ReadError, TooLong, WriteError,
};
pub use layout::{KIND_BYTES, KIND_CELL, KIND_CLASSIC, KIND_SHARED, KIND_TABLE, Options};
pub use role::Owner;

#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
mod readme {}
