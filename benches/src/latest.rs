//! Cells that hold the latest value: one writer, one or more readers.
//!
//! [`contender`]: what they must offer. [`check`]: what they must pass. [`stream`]: reads and writes under a writer
//! that writes all the time or at a pace, reads of a fresh value, and both alone.

pub mod check;
pub mod contender;
pub mod stream;
