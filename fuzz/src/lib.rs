//! What the fuzz targets do with their input. A panic, a signal or a time-out is a finding.
//!
//! | target | input | oracle |
//! |---|---|---|
//! | [`attach`] | operations, then the bytes of a region | no panic, no access out of bounds, bounded answers |
//! | [`fixed_ops`] | operations on a ring of fixed slots | a `VecDeque`, over crashes of both sides |
//! | [`bytes_ops`] | operations on a ring of byte records | a `VecDeque`, over crashes of both sides |
//!
//! The library is built with debug assertions, so every payload access checks its bounds.

mod attach;
mod bytes;
mod fixed;
mod memory;
#[cfg(feature = "planted")]
mod planted;
mod tape;

pub use attach::attach;
pub use bytes::bytes_ops;
pub use fixed::fixed_ops;

/// Operations of one input, at most: keeps an execution short.
const MOST_OPERATIONS: usize = 400;
