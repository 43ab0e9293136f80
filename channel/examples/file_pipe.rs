//! A file goes from one process to another.
//!
//! In one terminal: `cargo run --example file_pipe -- receive COPY pipe`. In another: `cargo run --example file_pipe -- send FILE pipe`.
//! Kill the sender in the middle: the receiver says that the file is not whole.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::fs::File;
use std::io;
use std::time::Duration;

use tidewire::{Kind, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let options = Options::new().kind(Kind::Single).capacity(1 << 20);
    let bytes = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["receive", path, name] => {
            let mut from = options.bytes_receiver(name)?.into_stream();
            let mut file = File::create(path)?;
            // The end of the stream is the sender's leaving; its death is an error.
            io::copy(&mut from, &mut file)?
        }
        ["send", "-", name] => {
            let mut to = options.bytes_sender_in(name, Duration::from_secs(10))?.into_stream();
            let bytes = io::copy(&mut io::stdin(), &mut to)?;
            to.finish()?;
            bytes
        }
        ["send", path, name] => {
            let mut file = File::open(path)?;
            let mut to = options.bytes_sender_in(name, Duration::from_secs(10))?.into_stream();
            let bytes = io::copy(&mut file, &mut to)?;
            to.finish()?;
            bytes
        }
        _ => return Err("expected: receive PATH NAME, or send PATH NAME, or send - NAME".into()),
    };
    println!("{bytes} bytes");
    Ok(())
}
