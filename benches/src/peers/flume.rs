//! flume: a channel under one lock, polled. The lock sleeps within its process, so only threads can share it.

use flume::{Receiver, Sender, bounded};

use crate::contender::{CAPACITY, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{Mode, THREADS};

/// The bounded channel.
#[derive(Debug)]
pub enum Flume {}

impl ManyContender for Flume {
    const NAME: &'static str = "flume";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = THREADS;
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
        self.try_send(*message).is_ok()
    }
}

impl<const W: usize> Rx<W> for Receiver<[u64; W]> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.try_recv() {
            Ok(message) => {
                *to = message;
                true
            }
            Err(_) => false,
        }
    }
}
