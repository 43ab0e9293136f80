//! A process measures, and any number of others look at the latest value.
//!
//! In one terminal: `cargo run --example sensor -- measure pose 1000000`. In others: `cargo run --example sensor -- watch pose 10`.
//! Kill the one that measures: the others keep the last value. Start it again: they go on.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::thread;
use std::time::Duration;

use tidewire::{Message, Options, WaitError};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Default, Message)]
#[repr(C)]
struct Pose {
    x: f64,
    y: f64,
    heading: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (role, name) = (args.next().unwrap_or_default(), args.next().unwrap_or("pose".into()));
    let count = args.next().as_deref().unwrap_or("10").parse()?;
    match role.as_str() {
        "measure" => measure(&name, count),
        "watch" => watch(&name, count),
        _ => Err("expected: measure NAME COUNT, or watch NAME COUNT".into()),
    }
}

fn measure(name: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let mut pose = tidewire::writer(name, Pose::default())?;
    println!("version {}", pose.version());
    for _ in 0..count {
        pose.update(|pose| (pose.x, pose.y, pose.heading) = (pose.x + 1.0, pose.y - 1.0, 0.5))?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn watch(name: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let mut pose = Options::new().latest_reader_in::<Pose>(name, PATIENCE)?;
    for _ in 0..count {
        match pose.wait_changed(PATIENCE) {
            Ok(seen) => println!("{}: {} {}", seen.version, seen.value.x, seen.value.y),
            Err(WaitError::WriterGone) => println!("gone, last seen at {}", pose.load()?.value.x),
            Err(error) => return Err(error.into()),
        }
        pose.wait_writer(PATIENCE);
    }
    Ok(())
}
