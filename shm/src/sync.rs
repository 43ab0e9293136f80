//! The sync seam: the one place where an algorithm meets memory that another process can touch.
//!
//! Every structure of Tidewire is written once, against the types of this module. In a normal build they are
//! thin wrappers that compile to the bare machine operation; under `--cfg loom` the same names are backed by the
//! loom model checker, so that the algorithm that ships is the algorithm that was model-checked.
//!
//! | name | normal build | `--cfg loom` |
//! |---|---|---|
//! | [`AtomicU64`], [`AtomicU32`] | `repr(transparent)` over the core atomic | a loom atomic |
//! | [`Shared<A>`] | a pointer into the region | a counted handle on a model object |
//! | [`Payload`] | a pointer; copies are relaxed words or assembly | plain bytes, one shadow cell per 8-byte granule |
//! | [`Words`] | a pointer; copies are relaxed words or assembly that stands for them | a loom atomic per word |
//! | [`fence`], [`spin_hint`] | the core functions | the loom functions |
//! | [`full_fence`] | a locked instruction, or `fence(SeqCst)` | `fence(SeqCst)` of loom |
//! | [`compiler_fence`] | the core function | nothing |
//!
//! Control words are atomics; payload is *not*: under loom each granule carries a cell that reports any access
//! that is not ordered by happens-before, whatever value it would have read. That is what makes a weakened
//! ordering on a position visible to the models even when the payload happens to look right. Where the protocol
//! itself lets both sides touch the same bytes at one time, and finds out afterwards, the data are [`Words`]: atomics
//! all of them.
//!
//! Each operation takes its ordering where the algorithm calls it and, under loom, knows that place (file, line,
//! column). `tidewire-harness mutate` uses these site names to weaken one ordering at a time in one binary.

pub use core::sync::atomic::Ordering;

#[cfg(not(loom))]
mod real;
#[cfg(not(loom))]
use real as imp;

#[cfg(loom)]
mod model;
#[cfg(loom)]
use model as imp;

#[cfg(loom)]
pub mod hook;

pub(crate) use imp::Memory;
pub use imp::{
    AtomicU32, AtomicU64, Payload, Shared, Span, SpanMut, Words, compiler_fence, fence, full_fence, spin_hint,
};
