//! kanal: a channel under one lock that spins and naps, polled.

use kanal::{Receiver, Sender, bounded};

use crate::contender::{CAPACITY, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode};

/// The bounded channel.
#[derive(Debug)]
pub enum Kanal {}

impl ManyContender for Kanal {
    const NAME: &'static str = "kanal";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    const SLEEPS: bool = true;
    type Tx<const W: usize> = Sender<[u64; W]>;
    type Rx<const W: usize> = Receiver<[u64; W]>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (tx, rx) = bounded(CAPACITY);
        Ok((vec![tx; producers], rx))
    }
}

impl<const W: usize> Tx<W> for Sender<[u64; W]> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        matches!(self.try_send(*message), Ok(true))
    }
}

impl<const W: usize> Rx<W> for Receiver<[u64; W]> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.try_recv() {
            Ok(Some(message)) => {
                *to = message;
                true
            }
            _ => false,
        }
    }
}
