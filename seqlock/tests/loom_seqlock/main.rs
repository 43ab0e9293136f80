//! Models of the cells: the shipped code, explored by loom over every schedule and every value that a load may see.
//!
//! Complete at the preemption bound (`LOOM_MAX_PREEMPTIONS`, 3 by default): never cut by time or by a number of runs.
//! Cells have two slots here and at least three writes, so that slots are used again under a reader; a model with fewer
//! writes passes cells that are wrong (see `loom_twins`). Under a model values of one word have the word form, of two
//! the inline form, of more the rotating one.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tidewire-seqlock --profile loom --test loom_seqlock`, and once more
//! with `TIDEWIRE_STALE_CAS=1`. `tidewire-harness mutate` runs the same models with one ordering weakened at a time.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

mod cells;
mod classic;
#[path = "../../../shm/tests/loom_bell_futex/mod.rs"]
mod futex;
mod header;
mod leases;
mod model;
mod role;
mod shared;
mod wait;
