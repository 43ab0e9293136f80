//! iceoryx2's queue: the ring below its services, by itself.

use anyhow::Context as _;
use iceoryx2_bb_lock_free::spsc::queue;

use crate::contender::{CAPACITY, Contender, Rx, Tx};

/// The queue, in a block that lives as long as the process.
#[derive(Debug)]
pub enum Queue {}

/// Its producer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct QueueTx<const W: usize>(queue::Producer<'static, [u64; W], CAPACITY>);

/// Its consumer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct QueueRx<const W: usize>(queue::Consumer<'static, [u64; W], CAPACITY>);

impl Contender for Queue {
    const NAME: &'static str = "iceoryx2 queue";
    const BATCH: bool = false;
    type Tx<const W: usize> = QueueTx<W>;
    type Rx<const W: usize> = QueueRx<W>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let queue = vec![queue::Queue::new()].leak().first().context("make a queue")?;
        let tx = queue.acquire_producer().context("take the producer's role")?;
        let rx = queue.acquire_consumer().context("take the consumer's role")?;
        Ok((QueueTx(tx), QueueRx(rx)))
    }
}

impl<const W: usize> Tx<W> for QueueTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.0.push(message)
    }
}

impl<const W: usize> Rx<W> for QueueRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.0.pop() {
            Some(message) => {
                *to = message;
                true
            }
            None => false,
        }
    }
}
