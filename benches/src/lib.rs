//! Side-by-side measurements of Tidewire and its peers.
//!
//! # Method
//! - One sample is one process of its own, which makes a fresh queue and forks the other side (*processes*) or starts
//!   a thread for it (*threads*); the sides are pinned to two cores. Queues that live on the heap are made in memory
//!   that the fork shares ([`heap`]).
//! - In the same two pinned sides, the round trip of a cache line is [probed](probe) before and after. Where the two
//!   probes fall into different regimes the virtual machine was moved meanwhile: the sample is dropped and counted.
//!   So is a sample one of whose sides had to share its core.
//! - Each contender passes the same correctness [check] before it is timed: order, and every word.
//! - Contenders take turns, round after round. Ratios are formed inside a round; the report shows their median.
//! - Message layers run only between processes that find each other by name: see [`message`].
//! - A message is really produced and really copied out: see [`stream`].
//!
//! A contender is a file in [`peers`]; a cell is a function in [`cells`].

pub mod board;
pub mod cells;
pub mod check;
pub mod clock;
pub mod cold;
pub mod contender;
pub mod crowd;
pub mod heap;
pub mod latency;
pub mod latest;
pub mod losses;
pub mod message;
pub mod mpsc;
pub mod pair;
pub mod peers;
pub mod plot;
pub mod probe;
pub mod reasons;
pub mod record;
pub mod report;
pub mod schedule;
pub mod stream;
pub mod summary;
pub mod targets;

#[global_allocator]
static HEAP: heap::SharedHeap = heap::SharedHeap::new();
