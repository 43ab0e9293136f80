//! How long it takes to wake a task of tokio's in another process: by a channel, and by nothing but an eventfd, turn by turn.
//!
//! `cargo run --release --features tokio --example async_wake [ROUNDS]`. The task has slept for a millisecond before each.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use tidewire::Options;
use tidewire::tokio::OnTokio;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// Nanoseconds of the clock that all processes share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A processor for each process: who wakes and who is woken are never the same one.
fn pin(processor: usize) -> Result<(), Box<dyn Error>> {
    if thread::available_parallelism()?.get() > 1 {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set)?;
    }
    Ok(())
}

/// The other process: its standard input is the eventfd. Each ring carries the moment at which it was rung, and waits until
/// the one before was heard.
fn ring(name: &str, rounds: u32) -> Result<(), Box<dyn Error>> {
    pin(1)?;
    let mut heard = tidewire::receiver::<u32>(&format!("{name}-heard"))?;
    let mut woken_by_tokio = tidewire::sender::<u64>(&format!("{name}-tokio"))?;
    let mut woken_by_thread = tidewire::sender::<u64>(&format!("{name}-thread"))?;
    heard.wait_senders(1, PATIENCE);
    let mut asleep = || {
        let heard = heard.recv();
        thread::sleep(Duration::from_millis(1));
        heard
    };
    for _ in 0..rounds {
        asleep()?;
        rustix::io::write(std::io::stdin(), &now().to_ne_bytes())?;
        asleep()?;
        woken_by_tokio.send(now())?;
        asleep()?;
        woken_by_thread.send(now())?;
    }
    // What is on its way is received all the same.
    Ok(())
}

fn report(what: &str, times: &mut [u64], bare: f64) -> f64 {
    times.sort_unstable();
    let micros = |part: usize| {
        let index = times.len() * part / 100;
        times.get(index).map_or(0.0, |ns| Duration::from_nanos(*ns).as_secs_f64() * 1e6)
    };
    let p50 = micros(50);
    let ratio = if bare > 0.0 { p50 / bare } else { 1.0 };
    println!("{what:<28} p50 {p50:7.2} us  p90 {:7.2} us  {ratio:5.2} x", micros(90));
    p50
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [_, name, rounds] = args.as_slice() {
        return ring(name, rounds.parse()?);
    }
    let rounds: u32 = args.first().map_or(Ok(2000), |rounds| rounds.parse())?;
    pin(0)?;
    let name = format!("async-wake-{}", std::process::id());
    let options = Options::new().senders(1);
    let mut on_tokio = options.receiver::<u64>(&format!("{name}-tokio"))?.on_tokio();
    let mut on_thread = options.receiver::<u64>(&format!("{name}-thread"))?;
    let bare = std::fs::File::from(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let rings = Stdio::from(OwnedFd::from(bare.try_clone()?));
    let mut other =
        Command::new(env::current_exe()?).args(["ring", &name, &rounds.to_string()]).stdin(rings).spawn()?;
    let mut heard = options.sender_in::<u32>(&format!("{name}-heard"), PATIENCE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let [mut eventfd, mut tokio, mut thread] = [const { Vec::new() }; 3];
    runtime.block_on(async {
        #[allow(
            deprecated,
            reason = "an owned descriptor stays what it is, which is what its successor asks for"
        )]
        let bare = AsyncFd::with_interest(bare, Interest::READABLE)?;
        let mut word = [0; 8];
        for round in 0..rounds {
            heard.send(round)?;
            let woken = bare.async_io(Interest::READABLE, |mut file| file.read_exact(&mut word));
            timeout(PATIENCE, woken).await??;
            eventfd.push(now() - u64::from_ne_bytes(word));
            heard.send(round)?;
            let sent = timeout(PATIENCE, on_tokio.recv()).await??;
            tokio.push(now() - sent);
            heard.send(round)?;
            let sent = timeout(PATIENCE, on_thread.recv_async()).await??;
            thread.push(now() - sent);
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    let bare = report("an eventfd", &mut eventfd, 0.0);
    report("a channel, by tokio", &mut tokio, bare);
    report("a channel, by its own thread", &mut thread, bare);
    other.wait()?;
    Ok(())
}
