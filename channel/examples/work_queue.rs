//! Many processes send work to one that does it.
//!
//! In one terminal: `cargo run --example work_queue -- serve jobs 2`. In two others: `cargo run --example work_queue -- send jobs 1000`.
//! Kill a sender: the others go on, and what it had sent is done. Kill the one that serves: they are told at once.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::process;
use std::time::Duration;

use tidewire::{Message, Options};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Job {
    number: u64,
    sender: u32,
    weight: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (role, name) = (args.next().unwrap_or_default(), args.next().unwrap_or("jobs".into()));
    let count = args.next().as_deref().unwrap_or("1").parse();
    match role.as_str() {
        "serve" => serve(&name, count?),
        "send" => send(&name, count?),
        _ => Err("expected: serve NAME SENDERS, or send NAME JOBS".into()),
    }
}

fn serve(name: &str, senders: u64) -> Result<(), Box<dyn Error>> {
    let mut jobs = tidewire::receiver::<Job>(name)?;
    jobs.wait_senders(usize::try_from(senders)?, PATIENCE);
    let (mut done, mut weight) = (0_u64, 0_u64);
    // Ends when all senders have left, or died, and all that they sent is done.
    for job in jobs.iter() {
        done += 1;
        weight += u64::from(job.weight);
    }
    println!("{done} jobs done, of weight {weight}");
    Ok(())
}

fn send(name: &str, count: u64) -> Result<(), Box<dyn Error>> {
    let mut jobs = Options::new().sender_in::<Job>(name, PATIENCE)?;
    for number in 0..count {
        // Waits while there is no room; fails, at once, if nobody is there to do it.
        jobs.send(Job { number, sender: process::id(), weight: 2 })?;
    }
    println!("{count} jobs sent");
    Ok(())
}
