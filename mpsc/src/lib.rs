//! Many producers, one consumer, in shared memory: a lane for each producer, and nothing to repair.
//!
//! Two kinds: [`fixed`] slots of a plain type, and [`bytes`]: records of any length. Each producer owns one *lane*, a ring
//! of `tidewire_ring` that it alone writes, and the consumer goes over the lanes in turn. Both work on any
//! [`Region`](tidewire_shm::Region): the heap, or memory that processes share.
//!
//! Where messages of different producers must come in one order, there are both kinds once more in [`ordered`]. It costs:
//! a push is lock-free instead of wait-free, one compare-exchange that all producers compete for; a producer that lies
//! can stop the whole queue; and only the consumer can reclaim the lanes of the dead, which stay taken until then.
//!
//! # Guarantees
//! Of lanes; for the others see [`ordered`].
//!
//! - A push is wait-free: one store publishes a message or a batch, and no other producer can delay it. A pop takes a
//!   number of steps bounded by the number of lanes. No system call, no allocation, no read-modify-write.
//! - Messages of one producer arrive in order; those of several in no particular one.
//! - A producer that is killed or stopped at any instruction leaves nothing to repair and delays nobody. What it had
//!   published is delivered; its lane is used again once its death is *proven* (see
//!   [`Liveness`](tidewire_shm::Liveness)), and never before.
//! - A producer that lies harms only its own lane: that is taken out of use, counted and reported, and the others go on.
//! - A consumer that dies is followed by another one, which sees the last messages again, or not, as [`Delivery`] says.
//!
//! Taking a role costs a few questions to the kernel, through the liveness that the queue was made for. The consumer
//! allocates when it takes its role, so that the crate needs `alloc`; it is `no_std` otherwise.
//!
//! # Examples
//! Threads; processes differ only in where the region comes from, and in a liveness that asks the kernel.
//! ```
//! use tidewire_mpsc::fixed::Queue;
//! use tidewire_shm::Unleased;
//!
//! let queue = Queue::<[u64; 2]>::on_heap(256)?;
//! let mut consumer = queue.consumer(&Unleased)?;
//! std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
//!     for number in 0..3 {
//!         let mut producer = queue.producer(&Unleased)?;
//!         scope.spawn(move || {
//!             for i in 0..1000 {
//!                 while producer.push([number, i]).is_err() {
//!                     std::thread::yield_now();
//!                 }
//!             }
//!         });
//!     }
//!     let mut next = [0; 3];
//!     while next != [1000; 3] {
//!         match consumer.pop() {
//!             Ok([number, i]) => {
//!                 assert_eq!(i, next[number as usize], "in order per producer");
//!                 next[number as usize] += 1;
//!             }
//!             Err(_) => std::thread::yield_now(),
//!         }
//!     }
//!     Ok(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(not(any(loom, test, feature = "std")), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(loom, deny(clippy::disallowed_types))]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

extern crate alloc;

pub mod bytes;
mod error;
pub mod fixed;
mod lane_set;
pub mod layout;
mod look;
mod options;
pub mod ordered;
pub mod poll;
pub mod registry;
mod seat;
mod stats;
mod tuning;

pub use error::{AttachError, CorruptLane, CreateError, PopError, RecordPopError};
pub use layout::{KIND_LANES_BYTES, KIND_LANES_FIXED, KIND_ORDERED_BYTES, KIND_ORDERED_FIXED, MAX_LANES};
pub use look::View;
pub use options::{Delivery, Options};
pub use stats::{LaneState, LaneStats};
pub use tuning::Tuning;

#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
mod readme {}
