//! Models of the rings: the shipped code, explored by loom over every schedule and every value that a load may see.
//!
//! The kernel, where there is one, is a table of flags ([`leases`]): a lease that is taken, given back, or ended by a
//! death, in that order and no other.
//!
//! Complete at the preemption bound (`LOOM_MAX_PREEMPTIONS`, 3 by default): never cut by time or by a number of
//! runs. Both sides make a bounded number of attempts and what is left is done after they joined, so that no retry
//! loop blows a model up.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tidewire-ring --profile loom --test loom_ring`, and once more
//! with `TIDEWIRE_STALE_CAS=1`. `tidewire-harness mutate` runs the same models with one ordering weakened at a time.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

mod bytes;
mod fixed;
mod header;
mod lease;
mod lease_twins;
mod leases;
mod model;
mod role;
mod seam;
