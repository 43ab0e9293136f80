//! One process answers what any number of others ask.
//!
//! In one terminal: `cargo run --example rpc -- serve squares`. In others: `cargo run --example rpc -- ask squares 1000000`.
//! Kill one that asks: the others do not notice. Kill the one that answers: the others are told at once.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::time::Duration;

use tidewire::{Message, Options};

const PATIENCE: Duration = Duration::from_secs(10);
/// Calls in flight at a time.
const AHEAD: usize = 4;

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Question {
    from: u64,
    to: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", name] => serve(name),
        ["ask", name, count] => ask(name, count.parse()?),
        _ => Err("expected: serve NAME, or ask NAME COUNT".into()),
    }
}

/// Tells the sum of the numbers from one to another.
fn serve(name: &str) -> Result<(), Box<dyn Error>> {
    let mut server = tidewire::server::<Question, u64>(name)?;
    loop {
        let request = server.recv()?;
        let sum = (request.from..request.to).sum();
        // That whoever asked is gone meanwhile is its own affair.
        let _told = request.reply(sum);
    }
}

fn ask(name: &str, count: u64) -> Result<(), Box<dyn Error>> {
    let client = Options::new().client_in::<Question, u64>(name, PATIENCE)?;
    let mut total = client.call(Question { from: 0, to: 1000 })?;
    for first in (0..count).step_by(AHEAD) {
        // Several at a time: the server may answer them in any order.
        let calls =
            (first..count.min(first + AHEAD as u64)).map(|n| client.start(Question { from: n, to: n + 3 }));
        for call in calls.collect::<Result<Vec<_>, _>>()? {
            total += call.wait()?;
        }
    }
    println!("{count} answers, {total} in all");
    Ok(())
}
