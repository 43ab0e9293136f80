//! Blocks of messages that go over as a whole: the limit of a bulk copy from one core to the other. No contender: a
//! message is there only when its block is full.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

use crate::contender::{Contender, Rx, Tx};

/// Two blocks are filled while two are emptied.
const BLOCKS: usize = 4;

/// Messages of a block: about 8 KiB of them, or 32. They divide the messages of a check, which ends with a full block.
const fn messages(words: usize) -> usize {
    match words {
        0..=1 => 800,
        2..=8 => 160,
        _ => 32,
    }
}

/// The limit.
#[derive(Debug)]
pub enum Block {}

#[repr(C, align(128))]
struct Turn(AtomicU64);

/// How often a block was filled and emptied, and what is in it.
struct Place<const W: usize> {
    filled: Turn,
    emptied: Turn,
    messages: UnsafeCell<Box<[[u64; W]]>>,
}

// SAFETY: a block's messages are used by the producer while it was filled as often as emptied, and by the consumer
// while it was not; the words that say so hand them over.
unsafe impl<const W: usize> Sync for Place<W> {}

/// One end: the blocks, which of them is in use, which of its messages is next, and how often all were gone round.
struct End<const W: usize> {
    places: &'static [Place<W>],
    place: usize,
    next: usize,
    lap: u64,
}

impl<const W: usize> End<W> {
    fn new(places: &'static [Place<W>]) -> Self {
        Self { places, place: 0, next: 0, lap: 0 }
    }

    #[inline(always)]
    fn place(&self) -> Option<&'static Place<W>> {
        self.places.get(self.place)
    }

    /// The next block.
    #[inline(always)]
    fn turn(&mut self) {
        (self.next, self.place) = (0, self.place + 1);
        if self.place == BLOCKS {
            (self.place, self.lap) = (0, self.lap + 1);
        }
    }
}

/// The producer.
#[expect(missing_debug_implementations, reason = "blocks are long to show")]
pub struct BlockTx<const W: usize>(End<W>);

/// The consumer.
#[expect(missing_debug_implementations, reason = "blocks are long to show")]
pub struct BlockRx<const W: usize>(End<W>);

impl Contender for Block {
    const NAME: &'static str = "bulk copy";
    const BATCH: bool = true;
    const PROMPT: bool = false;
    type Tx<const W: usize> = BlockTx<W>;
    type Rx<const W: usize> = BlockRx<W>;

    fn make<const W: usize>() -> anyhow::Result<(BlockTx<W>, BlockRx<W>)> {
        let place = |_| Place {
            filled: Turn(AtomicU64::new(0)),
            emptied: Turn(AtomicU64::new(0)),
            messages: UnsafeCell::new(vec![[1; W]; messages(W)].into()),
        };
        let places = (0..BLOCKS).map(place).collect::<Vec<_>>().leak();
        places.first().context("make blocks")?;
        Ok((BlockTx(End::new(places)), BlockRx(End::new(places))))
    }
}

impl<const W: usize> Tx<W> for BlockTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.push_batch(std::slice::from_ref(message)) == 1
    }

    #[inline(always)]
    fn push_batch(&mut self, from: &[[u64; W]]) -> usize {
        let Some(place) = self.0.place() else { return 0 };
        // ORD block.emptied: Acquire <- `BlockRx::pop_batch`; the room.
        if self.0.next == 0 && place.emptied.0.load(Ordering::Acquire) != self.0.lap {
            return 0;
        }
        // SAFETY: filled as often as emptied, so the producer's.
        let block = unsafe { &mut *place.messages.get() };
        let room = block.get_mut(self.0.next..).unwrap_or_default();
        let n = room.len().min(from.len());
        if let (Some(to), Some(from)) = (room.get_mut(..n), from.get(..n)) {
            to.copy_from_slice(from);
        }
        self.0.next += n;
        if self.0.next == messages(W) {
            // ORD block.filled: Release -> `BlockRx::pop_batch`; the messages.
            place.filled.0.store(self.0.lap + 1, Ordering::Release);
            self.0.turn();
        }
        n
    }
}

impl<const W: usize> Rx<W> for BlockRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        self.pop_batch(std::slice::from_mut(to)) == 1
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        let Some(place) = self.0.place() else { return 0 };
        // ORD block.filled: Acquire <- `BlockTx::push_batch`; the messages.
        if self.0.next == 0 && place.filled.0.load(Ordering::Acquire) != self.0.lap + 1 {
            return 0;
        }
        // SAFETY: filled once more than emptied, so the consumer's.
        let block = unsafe { &*place.messages.get() };
        let rest = block.get(self.0.next..).unwrap_or_default();
        let n = rest.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.0.next += n;
        if self.0.next == messages(W) {
            // ORD block.emptied: Release -> `BlockTx::push_batch`; the room.
            place.emptied.0.store(self.0.lap + 1, Ordering::Release);
            self.0.turn();
        }
        n
    }
}
