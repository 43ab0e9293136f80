//! crossbeam: the array queue, the unbounded queue and the bounded channel. All serve many producers and consumers.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::contender::{CAPACITY, Contender, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode, THREADS};

/// The array queue's name.
pub const QUEUE: &str = "crossbeam ArrayQueue";
/// The bounded channel's name.
pub const CHANNEL: &str = "crossbeam channel";

/// The array queue.
#[derive(Debug)]
pub enum Queue {}

impl Contender for Queue {
    const NAME: &'static str = QUEUE;
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
    const NAME: &'static str = CHANNEL;
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

impl ManyContender for Queue {
    const NAME: &'static str = QUEUE;
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = Arc<ArrayQueue<[u64; W]>>;
    type Rx<const W: usize> = Arc<ArrayQueue<[u64; W]>>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let queue = Arc::new(ArrayQueue::new(CAPACITY));
        Ok((vec![Arc::clone(&queue); producers], queue))
    }
}

impl ManyContender for Channel {
    const NAME: &'static str = CHANNEL;
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = Sender<[u64; W]>;
    type Rx<const W: usize> = Receiver<[u64; W]>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (tx, rx) = bounded(CAPACITY);
        Ok((vec![tx; producers], rx))
    }
}

/// The queue without a bound. It allocates as it goes, so it runs between threads only; and it would grow as long as
/// the producers are faster, so each looks at the length before every `LOOK`th message and waits above `MOST`.
#[derive(Debug)]
pub enum Unbounded {}

/// Messages between two looks at the length.
const LOOK: u32 = 64;
/// The length at which producers wait.
const MOST: usize = 8 * CAPACITY;

/// A producer.
#[derive(Debug)]
pub struct UnboundedTx<const W: usize> {
    queue: Arc<SegQueue<[u64; W]>>,
    turn: u32,
}

impl ManyContender for Unbounded {
    const NAME: &'static str = "crossbeam SegQueue";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = THREADS;
    type Tx<const W: usize> = UnboundedTx<W>;
    type Rx<const W: usize> = Arc<SegQueue<[u64; W]>>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let queue = Arc::new(SegQueue::new());
        let txs = (0..producers).map(|_| UnboundedTx { queue: Arc::clone(&queue), turn: 0 });
        Ok((txs.collect(), queue))
    }
}

impl<const W: usize> Tx<W> for UnboundedTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        if self.turn.is_multiple_of(LOOK) && self.queue.len() > MOST {
            return false;
        }
        self.turn = self.turn.wrapping_add(1);
        self.queue.push(*message);
        true
    }
}

impl<const W: usize> Rx<W> for Arc<SegQueue<[u64; W]>> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match SegQueue::pop(self) {
            Some(message) => {
                *to = message;
                true
            }
            None => false,
        }
    }
}
