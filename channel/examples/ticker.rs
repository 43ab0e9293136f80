//! One process publishes, and any number of others subscribe, each at its own pace.
//!
//! In two terminals: `cargo run --example ticker -- subscribe ticks`. In another: `cargo run --example ticker -- publish ticks 2 1000000`.
//! Stop a subscriber and let it go on: it says how many it missed. Kill the publisher: all that it published comes first.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::time::Duration;

use tidewire::{Message, Options, SubscribeError};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    number: u64,
    price: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["publish", name, subscribers, count] => publish(name, subscribers.parse()?, count.parse()?),
        ["subscribe", name] => subscribe(name),
        _ => Err("expected: publish NAME SUBSCRIBERS COUNT, or subscribe NAME".into()),
    }
}

fn publish(name: &str, subscribers: usize, count: u64) -> Result<(), Box<dyn Error>> {
    let mut ticks = tidewire::publisher::<Tick>(name)?;
    ticks.wait_subscribers(subscribers, PATIENCE);
    for number in 1..=count {
        // Never waits. With `Overflow::Block` it would, for the slowest, and nobody would miss anything.
        ticks.publish(Tick { number, price: 100.0 + (number % 7) as f64 })?;
    }
    println!("{} ticks published", ticks.published());
    Ok(())
}

fn subscribe(name: &str) -> Result<(), Box<dyn Error>> {
    let mut ticks = Options::new().subscriber_in::<Tick>(name, PATIENCE)?;
    let (mut received, mut last) = (0_u64, Tick { number: 0, price: 0.0 });
    loop {
        match ticks.recv() {
            Ok(tick) => (received, last) = (received + 1, tick),
            Err(SubscribeError::Disconnected) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!(
        "{received} received, {} missed, the last was {} at {}",
        ticks.missed(),
        last.number,
        last.price
    );
    Ok(())
}
