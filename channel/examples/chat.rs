//! Two people write to each other: futures, in whichever runtime.
//!
//! In one terminal: `cargo run --example chat -- ann bob`. In another one: `cargo run --example chat -- bob ann`. End with
//! ctrl-D, or kill one: the other one is told.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::io;
use std::thread;
use std::time::Duration;

use futures_lite::future::{block_on, or};
use tidewire::{Kind, Options, RecvError};

const PATIENCE: Duration = Duration::from_secs(30);

/// What comes first.
enum Line {
    Heard(Result<Vec<u8>, RecvError>),
    Typed(Result<Vec<u8>, RecvError>),
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [me, other] = args.as_slice() else {
        return Err("expected: ME OTHER".into());
    };
    let options = Options::new().kind(Kind::Single);
    let mut heard = options.bytes_receiver(me)?;
    let mut to_other = options.bytes_sender_in(other, PATIENCE)?;
    heard.wait_senders(1, PATIENCE);
    // A channel without a name, from the thread that reads the keyboard.
    let (mut typing, mut typed) = options.bytes_channel()?;
    thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).try_for_each(|line| typing.send(line.as_bytes()))
    });
    println!("{other} is here");
    block_on(async {
        loop {
            // Of the two futures, the one that is dropped has taken nothing.
            let hear = async { Line::Heard(heard.recv_async().await) };
            let line = or(hear, async { Line::Typed(typed.recv_async().await) }).await;
            match line {
                Line::Heard(Ok(text)) => println!("{other}: {}", String::from_utf8_lossy(&text)),
                Line::Typed(Ok(text)) => to_other.send_async(&text).await?,
                Line::Heard(Err(RecvError::Disconnected)) => break println!("{other} is gone"),
                Line::Typed(Err(RecvError::Disconnected)) => break,
                Line::Heard(Err(error)) | Line::Typed(Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    })
}
