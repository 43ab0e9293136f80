//! iceoryx2's queue and its cell: what lies below its services, by themselves.

use anyhow::Context as _;
use iceoryx2_bb_lock_free::spmc::unrestricted_atomic::{self, UnrestrictedAtomic};
use iceoryx2_bb_lock_free::spsc::queue;

use crate::contender::{CAPACITY, Contender, Rx, Tx};
use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{EVERYWHERE, Mode};

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

/// The cell of its blackboard, in a block that lives as long as the process. Its readers write.
#[derive(Debug)]
pub enum Cell {}

/// The writer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct Writer<const W: usize>(unrestricted_atomic::Producer<'static, [u64; W]>);

/// A reader.
#[derive(Debug)]
pub struct Reader<const W: usize>(&'static UnrestrictedAtomic<[u64; W]>);

impl CellContender for Cell {
    const NAME: &'static str = "iceoryx2 cell";
    type Writer<const W: usize> = Writer<W>;
    type Reader<const W: usize> = Reader<W>;

    fn modes(_: usize) -> &'static [Mode] {
        EVERYWHERE
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let cell = vec![UnrestrictedAtomic::new(*initial)].leak().first().context("make a cell")?;
        let writer = cell.acquire_producer().context("take the writer's role")?;
        Ok(((0..readers).map(|_| Reader(cell)).collect(), Writer(writer)))
    }
}

impl<const W: usize> CellWriter<W> for Writer<W> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        self.0.store(*value);
    }
}

impl<const W: usize> CellReader<W> for Reader<W> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = self.0.load();
        true
    }
}
