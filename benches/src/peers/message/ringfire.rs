//! ringfire by its path, without loss: its consumer spins, or sleeps on the ring's futex.
//!
//! It returns messages by value; they are received into the buffer and shown there.

use anyhow::{Context as _, anyhow};
use ringfire::{FlowControl, FutexWait, RingConsumer, RingProducer, RingProducerBuilder};

use crate::message::contender::{Layer, MessageRx, MessageTx, capacity};
use crate::message::place::Link;

/// A consumer that looks again and again.
#[derive(Debug)]
pub enum Spinning {}

/// A consumer that sleeps, by the rule that comes with it.
#[derive(Debug)]
pub enum Sleeping {}

/// Its producer; push waits for room.
#[derive(Debug)]
pub struct Tx<const W: usize>(RingProducer<[u64; W]>);

/// Its consumer that spins.
#[derive(Debug)]
pub struct SpinningRx<const W: usize>(RingConsumer<[u64; W]>);

/// Its consumer that sleeps.
#[derive(Debug)]
pub struct SleepingRx<const W: usize>(RingConsumer<[u64; W]>, FutexWait);

fn create<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx<W>> {
    let builder = RingProducerBuilder::new(capacity(W) as u64)
        .flow_control(FlowControl::LosslessBackpressure)
        .max_readers(1)
        .file_mode(0o600);
    let tx = builder.build(link.path()).map_err(|error| anyhow!("create a ringfire ring: {error}"))?;
    link.made();
    Ok(Tx(tx))
}

fn attach<const W: usize>(link: &Link<'_>) -> anyhow::Result<RingConsumer<[u64; W]>> {
    link.await_made();
    let rx = RingConsumer::builder().start_from_oldest().attach(link.path());
    rx.map_err(|error| anyhow!("{error}")).context("attach to a ringfire ring")
}

/// Words of a message that is moved word by word, which takes a compiler long: once is enough.
const LARGE: usize = 256;

#[inline(always)]
fn try_one<const W: usize>(rx: &mut RingConsumer<[u64; W]>, buffer: &mut [u64; W]) -> bool {
    match rx.try_recv() {
        Some(message) => {
            *buffer = message;
            true
        }
        None => false,
    }
}

#[inline(never)]
fn try_large<const W: usize>(rx: &mut RingConsumer<[u64; W]>, buffer: &mut [u64; W]) -> bool {
    try_one(rx, buffer)
}

#[inline(never)]
fn await_large<const W: usize>(rx: &mut RingConsumer<[u64; W]>, wait: &mut FutexWait, buffer: &mut [u64; W]) {
    *buffer = rx.recv_blocking(wait);
}

impl Layer for Spinning {
    const NAME: &'static str = "ringfire, spinning";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = Tx<W>;
    type Rx<const W: usize> = SpinningRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx<W>> {
        create(link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<SpinningRx<W>> {
        Ok(SpinningRx(attach(link)?))
    }
}

impl Layer for Sleeping {
    const NAME: &'static str = "ringfire, sleeping";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = Tx<W>;
    type Rx<const W: usize> = SleepingRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx<W>> {
        create(link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<SleepingRx<W>> {
        Ok(SleepingRx(attach(link)?, FutexWait::default()))
    }
}

impl<const W: usize> MessageTx<W> for Tx<W> {
    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.0.push(message);
        Ok(())
    }
}

impl<const W: usize> MessageRx<W> for SpinningRx<W> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let come = if W > LARGE { try_large(&mut self.0, buffer) } else { try_one(&mut self.0, buffer) };
        if come {
            read(buffer);
        }
        Ok(come)
    }
}

impl<const W: usize> MessageRx<W> for SleepingRx<W> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        if W > LARGE {
            await_large(&mut self.0, &mut self.1, buffer);
        } else {
            *buffer = self.0.recv_blocking(&mut self.1);
        }
        read(buffer);
        Ok(true)
    }
}
