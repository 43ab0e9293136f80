//! Models of the log: the shipped code, explored by loom over every schedule and every value that a load may see.
//!
//! Complete at the preemption bound (`LOOM_MAX_PREEMPTIONS`, 3 by default): never cut by time or by a number of runs.
//! Logs have two, four or eight slots here, in groups of one, one and two; what was written before a model begins costs it
//! nothing, so that each begins where slots are used again.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p tidewire-seqlock --profile loom --test loom_log`, and once more
//! with `TIDEWIRE_STALE_CAS=1`.
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, with small numbers"
)]

mod follower;
#[path = "../../../shm/tests/loom_bell_futex/mod.rs"]
mod futex;
mod gates;
mod header;
#[path = "../loom_seqlock/leases.rs"]
mod leases;
mod lossy;
#[allow(dead_code, reason = "other models use the rest")]
#[path = "../loom_seqlock/model.rs"]
mod model;
mod room;
mod takeover;
