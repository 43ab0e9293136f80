//! ringbuf: a ring with cached positions, batches by slices.

use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use crate::contender::{CAPACITY, Contender, Rx, Tx};

/// The ring on the heap.
#[derive(Debug)]
pub enum Ringbuf {}

/// Its producer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct RingbufTx<const W: usize>(HeapProd<[u64; W]>);

/// Its consumer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct RingbufRx<const W: usize>(HeapCons<[u64; W]>);

impl Contender for Ringbuf {
    const NAME: &'static str = "ringbuf";
    const BATCH: bool = true;
    type Tx<const W: usize> = RingbufTx<W>;
    type Rx<const W: usize> = RingbufRx<W>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let (tx, rx) = HeapRb::new(CAPACITY).split();
        Ok((RingbufTx(tx), RingbufRx(rx)))
    }
}

impl<const W: usize> Tx<W> for RingbufTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.0.try_push(*message).is_ok()
    }

    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        self.0.push_slice(messages)
    }
}

impl<const W: usize> Rx<W> for RingbufRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.0.try_pop() {
            Some(message) => {
                *to = message;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        self.0.pop_slice(to)
    }
}
