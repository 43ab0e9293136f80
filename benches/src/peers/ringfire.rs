//! ringfire: a ring in a file of /dev/shm for one writer and many readers, here with one reader and without loss.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, anyhow};
use ringfire::{FlowControl, RingConsumer, RingProducer, RingProducerBuilder};

use crate::contender::{CAPACITY, Contender, Rx, Tx};

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
