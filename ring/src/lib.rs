//! Single-producer single-consumer rings that live in shared memory.
//!
//! Two kinds over one protocol ([`cursor`]): [`fixed`] slots of a plain type, and [`bytes`]: records of any length.
//! Both work on any [`Region`](tidewire_shm::Region): a static, the heap, or memory that processes share.
//!
//! # Guarantees
//! - Every push and pop is wait-free and makes no system call, no allocation and no read-modify-write.
//! - A message or batch is published by one store: a process killed or stopped at any instruction leaves nothing
//!   to repair in the data and delays nobody. Its role stays its own until its death is proven. In a ring that is made
//!   for leases ([`Options::liveness`]) the kernel's lease is the proof, and taking the role over is one safe call
//!   ([`fixed::Ring::producer_with`]).
//! - What a peer can write is loaded once and validated; a peer that lies turns the handle `Corrupt`, for good.
//!
//! # Examples
//! Two threads; processes differ only in where the region comes from.
//! ```
//! use tidewire_ring::PopError;
//! use tidewire_ring::fixed::Ring;
//!
//! let (mut producer, mut consumer) = Ring::<[u64; 2]>::on_heap(1024)?.split()?;
//! let sender = std::thread::spawn(move || {
//!     for i in 0..10_000 {
//!         while producer.push([i, i * i]).is_err() {
//!             std::hint::spin_loop();
//!         }
//!     }
//! });
//! let mut next = 0;
//! while next < 10_000 {
//!     match consumer.pop() {
//!         Ok(message) => {
//!             assert_eq!(message, [next, next * next]);
//!             next += 1;
//!         }
//!         Err(PopError::Empty) => std::hint::spin_loop(),
//!         Err(error) => return Err(error.into()),
//!     }
//! }
//! # sender.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(any(loom, test, feature = "std")), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(loom, deny(clippy::disallowed_types))]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod bytes;
pub mod cursor;
#[doc(hidden)]
pub mod embed;
mod error;
pub mod fixed;
mod layout;
mod look;
mod role;
mod stats;
mod touch;

pub use cursor::Tuning;
pub use error::{
    AttachError, Corrupt, CorruptWord, CreateError, PopError, PushError, RecordPopError, RecordPushError,
    TooMany,
};
pub use layout::{KIND_BYTES, KIND_FIXED, Options};
pub use look::View;
pub use role::Owner;
pub use stats::Stats;

#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
mod readme {}
