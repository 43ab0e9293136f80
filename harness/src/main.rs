//! The harness: runs, stresses, kills, freezes and scribbles real processes over Tidewire's structures, and judges
//! what they leave behind.
//!
//! Without a command it runs: real processes stream real data through shared memory, every message is verified,
//! and a table says how fast it went. The exit status is 0 only if nothing was bad.
use std::process::ExitCode;

use clap::Parser as _;

mod cells;
mod cli;
mod explore;
mod history;
mod mutate;
mod ops;
mod report;
mod run;
mod scribble;
mod step;
mod stress;
mod subject;
mod twins;
mod verify;

#[global_allocator]
static HEAP: explore::Heap = explore::Heap;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.execute() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(&format!("tidewire-harness: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
