//! The promises, each provoked in real processes: one test per row of the table of faults in the README, named after
//! the row.
//!
//! Everything lies in named segments, with leases of the kernel. A test that needs other processes starts its own
//! binary again, with only itself selected and a role in the environment. Where a fault cannot be provoked, because the
//! system does not permit it, the test says so on standard error and provokes the nearest one that it can; none passes
//! without having provoked anything.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests, which may panic and say what they saw"
)]

mod confinement;
mod peers;
mod queues;
mod values;

mod creation;
mod deaths;
mod forks;
mod headers;
mod hostile;
mod leftovers;
mod room;
mod stops;
mod waits;
mod writers;
