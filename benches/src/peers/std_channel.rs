//! The standard library's bounded channel, polled: nobody ever sleeps in it, so that it works across a fork.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::contender::{CAPACITY, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode};

/// The bounded channel.
#[derive(Debug)]
pub enum StdChannel {}

impl ManyContender for StdChannel {
    const NAME: &'static str = "std sync_channel";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = SyncSender<[u64; W]>;
    type Rx<const W: usize> = Receiver<[u64; W]>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (tx, rx) = sync_channel(CAPACITY);
        Ok((vec![tx; producers], rx))
    }
}

impl<const W: usize> Tx<W> for SyncSender<[u64; W]> {
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
