//! ringfire: a ring in a file of /dev/shm for one writer and many readers, here with one reader and without loss.
//!
//! Its ring for many writers drops messages when they are faster than the reader, so it cannot pass the check; its
//! multiplexer over lossless rings, one for each producer, can.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow};
use ringfire::{FlowControl, RingConsumer, RingMultiplexer, RingProducer, RingProducerBuilder};

use crate::contender::{CAPACITY, Contender, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode};

/// The ring without loss.
#[derive(Debug)]
pub enum Ringfire {}

fn path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // ORD own: Relaxed, only makes names differ.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/dev/shm/tidewire-benches-{}-{number}", std::process::id()))
}

impl Contender for Ringfire {
    const NAME: &'static str = "ringfire";
    const BATCH: bool = true;
    type Tx<const W: usize> = RingProducer<[u64; W]>;
    type Rx<const W: usize> = RingConsumer<[u64; W]>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let path = path();
        let builder = RingProducerBuilder::new(CAPACITY as u64)
            .flow_control(FlowControl::LosslessBackpressure)
            .max_readers(1)
            .file_mode(0o600);
        let tx = builder.build(&path).map_err(|error| anyhow!("create a ringfire ring: {error}"))?;
        let rx = RingConsumer::builder().start_from_oldest().attach(&path);
        // Both sides have it mapped: nothing is left behind, however the sample ends.
        std::fs::remove_file(&path).context("remove the ringfire ring's name")?;
        Ok((tx, rx.map_err(|error| anyhow!("attach to a ringfire ring: {error}"))?))
    }
}

impl<const W: usize> Tx<W> for RingProducer<[u64; W]> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.try_push(message).is_ok()
    }

    /// Waits for room by its own rules.
    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        RingProducer::push_batch(self, messages);
        messages.len()
    }
}

impl<const W: usize> Rx<W> for RingConsumer<[u64; W]> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.try_recv() {
            Some(message) => {
                *to = message;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        self.recv_batch(to)
    }
}

/// The multiplexer over lossless rings.
#[derive(Debug)]
pub enum Multiplexer {}

/// Its consumer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct MultiplexerRx<const W: usize>(RingMultiplexer<[u64; W]>);

impl ManyContender for Multiplexer {
    const NAME: &'static str = "ringfire multiplexer";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = RingProducer<[u64; W]>;
    type Rx<const W: usize> = MultiplexerRx<W>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (mut txs, mut all) = (Vec::new(), RingMultiplexer::new());
        for _ in 0..producers {
            let (tx, rx) = Ringfire::make::<W>()?;
            txs.push(tx);
            all.add(rx);
        }
        Ok((txs, MultiplexerRx(all)))
    }
}

impl<const W: usize> Rx<W> for MultiplexerRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.0.try_recv_any() {
            Some((_, message)) => {
                *to = message;
                true
            }
            None => false,
        }
    }
}
