//! rtrb: the ring for threads that most real-time audio in Rust uses.

use std::slice;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::contender::{CAPACITY, Contender, Rx, Tx};

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
