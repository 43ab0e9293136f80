//! crossbeam: the array queue and the bounded channel. Both serve many producers and consumers, too.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_queue::ArrayQueue;

use crate::contender::{CAPACITY, Contender, Rx, Tx};

/// The array queue.
#[derive(Debug)]
pub enum Queue {}

impl Contender for Queue {
    const NAME: &'static str = "crossbeam ArrayQueue";
    const BATCH: bool = false;
    type Tx<const W: usize> = Arc<ArrayQueue<[u64; W]>>;
    type Rx<const W: usize> = Arc<ArrayQueue<[u64; W]>>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let queue = Arc::new(ArrayQueue::new(CAPACITY));
        Ok((Arc::clone(&queue), queue))
    }
}

impl<const W: usize> Tx<W> for Arc<ArrayQueue<[u64; W]>> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        ArrayQueue::push(self, *message).is_ok()
    }
}

impl<const W: usize> Rx<W> for Arc<ArrayQueue<[u64; W]>> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match ArrayQueue::pop(self) {
            Some(message) => {
                *to = message;
                true
            }
            None => false,
        }
    }
}

/// The bounded channel, polled: nobody ever sleeps in it, so that it works across a fork.
#[derive(Debug)]
pub enum Channel {}

impl Contender for Channel {
    const NAME: &'static str = "crossbeam channel";
    const BATCH: bool = false;
    type Tx<const W: usize> = Sender<[u64; W]>;
    type Rx<const W: usize> = Receiver<[u64; W]>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        Ok(bounded(CAPACITY))
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
