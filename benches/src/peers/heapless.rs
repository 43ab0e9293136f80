//! heapless: a ring of fixed size for small machines; one slot stays empty.

use anyhow::Context as _;
use heapless::spsc::{Consumer, Producer, Queue};

use crate::contender::{CAPACITY, Contender, Rx, Tx};

/// The ring, in a block that lives as long as the process.
#[derive(Debug)]
pub enum Heapless {}

/// Its producer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct HeaplessTx<const W: usize>(Producer<'static, [u64; W]>);

/// Its consumer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct HeaplessRx<const W: usize>(Consumer<'static, [u64; W]>);

impl Contender for Heapless {
    const NAME: &'static str = "heapless";
    const BATCH: bool = false;
    type Tx<const W: usize> = HeaplessTx<W>;
    type Rx<const W: usize> = HeaplessRx<W>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let queue: Vec<Queue<[u64; W], CAPACITY>> = vec![Queue::new()];
        let queue = queue.leak().first_mut().context("make a queue")?;
        let (tx, rx) = queue.split();
        Ok((HeaplessTx(tx), HeaplessRx(rx)))
    }
}

impl<const W: usize> Tx<W> for HeaplessTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.0.enqueue(*message).is_ok()
    }
}

impl<const W: usize> Rx<W> for HeaplessRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.0.dequeue() {
            Some(message) => {
                *to = message;
                true
            }
            None => false,
        }
    }
}
