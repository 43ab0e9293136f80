//! Queues between many producers and one consumer.
//!
//! [`contender`]: what they must offer. [`check`]: what they must pass. [`stream`]: messages per second. [`poll`]:
//! what an empty look costs. Latency is that of [`crate::latency`], with one producer.

pub mod check;
pub mod contender;
pub mod poll;
pub mod stream;
