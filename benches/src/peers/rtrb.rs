//! rtrb: the ring for threads that most real-time audio in Rust uses.

use std::slice;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::contender::{CAPACITY, Contender, Rx, Tx};
use crate::mpsc::contender::{ManyContender, TURN};
use crate::pair::{EVERYWHERE, Mode};

/// With `push` and `pop`, which pass messages by value.
#[derive(Debug)]
pub enum Rtrb {}

/// With slices of one message, which are copied straight from and to where they lie.
#[derive(Debug)]
pub enum RtrbSlices {}

/// A producer that pushes slices of one.
#[derive(Debug)]
pub struct SliceTx<const W: usize>(Producer<[u64; W]>);

/// A consumer that pops slices of one.
#[derive(Debug)]
pub struct SliceRx<const W: usize>(Consumer<[u64; W]>);

impl Contender for Rtrb {
    const NAME: &'static str = "rtrb";
    const BATCH: bool = true;
    type Tx<const W: usize> = Producer<[u64; W]>;
    type Rx<const W: usize> = Consumer<[u64; W]>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        Ok(RingBuffer::new(CAPACITY))
    }
}

impl<const W: usize> Tx<W> for Producer<[u64; W]> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.push(*message).is_ok()
    }

    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        self.push_entire_slice(messages).map_or(0, |()| messages.len())
    }
}

impl<const W: usize> Rx<W> for Consumer<[u64; W]> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.pop() {
            Ok(message) => {
                *to = message;
                true
            }
            Err(_) => false,
        }
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        self.pop_partial_slice(to).0.len()
    }
}

impl Contender for RtrbSlices {
    const NAME: &'static str = "rtrb, slices of 1";
    const BATCH: bool = false;
    type Tx<const W: usize> = SliceTx<W>;
    type Rx<const W: usize> = SliceRx<W>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let (tx, rx) = RingBuffer::new(CAPACITY);
        Ok((SliceTx(tx), SliceRx(rx)))
    }
}

impl<const W: usize> Tx<W> for SliceTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.0.push_entire_slice(slice::from_ref(message)).is_ok()
    }
}

impl<const W: usize> Rx<W> for SliceRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        self.0.pop_entire_slice(slice::from_mut(to)).is_ok()
    }
}

/// A ring for each producer; the consumer goes round, with at most [`TURN`] messages of one before the next.
#[derive(Debug)]
pub enum Bundle {}

/// The consumer of a bundle.
#[derive(Debug)]
pub struct BundleRx<const W: usize> {
    lanes: Vec<Consumer<[u64; W]>>,
    lane: usize,
    left: usize,
}

impl<const W: usize> BundleRx<W> {
    #[inline(always)]
    fn next_lane(&mut self) {
        self.lane = if self.lane + 1 < self.lanes.len() { self.lane + 1 } else { 0 };
        self.left = TURN;
    }
}

impl ManyContender for Bundle {
    const NAME: &'static str = "bundle of rtrb";
    const BATCH: bool = true;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = Producer<[u64; W]>;
    type Rx<const W: usize> = BundleRx<W>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (txs, lanes) = (0..producers).map(|_| RingBuffer::new(CAPACITY)).unzip();
        Ok((txs, BundleRx { lanes, lane: 0, left: TURN }))
    }
}

impl<const W: usize> Rx<W> for BundleRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        for _ in 0..=self.lanes.len() {
            if self.left > 0
                && let Some(lane) = self.lanes.get_mut(self.lane)
                && Rx::pop(lane, to)
            {
                self.left -= 1;
                return true;
            }
            self.next_lane();
        }
        false
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        for _ in 0..=self.lanes.len() {
            let most = self.left.min(to.len());
            if most > 0
                && let Some(lane) = self.lanes.get_mut(self.lane)
            {
                let popped = Rx::pop_batch(lane, to.get_mut(..most).unwrap_or_default());
                if popped > 0 {
                    self.left -= popped;
                    return popped;
                }
            }
            self.next_lane();
        }
        0
    }
}
