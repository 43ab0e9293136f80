//! Our queues of many producers, in an anonymous segment, with untrusted peers: what processes get by default.
//!
//! Plain lanes are made for the most producers of any cell, since unused ones cost nothing. With one order, the ring
//! of order words grows with the lanes, so there are as many as producers.

use std::marker::PhantomData;

use tidewire_mpsc::{Options, Tuning, fixed, ordered};
use tidewire_shm::{Unleased, Untrusted};

use crate::contender::{CAPACITY, Rx, Tx};
use crate::mpsc::contender::{ManyContender, PRODUCERS};
use crate::pair::{EVERYWHERE, Mode};
use crate::peers::LANES;
use crate::peers::tidewire::region;

/// How the consumer is tuned, and how much room a lane has.
pub trait Variant: 'static {
    /// Its name in tables.
    const NAME: &'static str;

    /// Its tuning.
    #[must_use]
    fn tuning() -> Tuning {
        Tuning::default()
    }

    /// Messages of a lane.
    #[must_use]
    fn capacity(_producers: usize) -> usize {
        CAPACITY
    }
}

/// As it comes.
#[derive(Debug)]
pub enum Default {}

/// Consumed lines are not written back, and no wait before another look.
#[derive(Debug)]
pub enum Plain {}

/// The lanes together have the room that a queue with one tail has.
#[derive(Debug)]
pub enum EqualMemory {}

impl Variant for Default {
    const NAME: &'static str = LANES[0];
}

impl Variant for Plain {
    const NAME: &'static str = LANES[1];

    fn tuning() -> Tuning {
        Tuning::default().touch(false).pauses(0)
    }
}

impl Variant for EqualMemory {
    const NAME: &'static str = LANES[2];

    fn capacity(producers: usize) -> usize {
        CAPACITY / producers.next_power_of_two()
    }
}

/// Lanes with one variant's tuning.
#[derive(Debug)]
pub struct Lanes<V>(PhantomData<V>);

impl<V: Variant> ManyContender for Lanes<V> {
    const NAME: &'static str = V::NAME;
    const BATCH: bool = true;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = fixed::Producer<[u64; W], Untrusted>;
    type Rx<const W: usize> = fixed::Consumer<[u64; W], Untrusted>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (capacity, options) = (V::capacity(producers), Options::new().lanes(PRODUCERS.try_into()?));
        let bytes = fixed::Queue::<[u64; W], Untrusted>::bytes(capacity, &options)?;
        let queue = fixed::Queue::create(region(bytes)?, capacity, &options)?;
        let txs: Result<Vec<_>, _> = (0..producers).map(|_| queue.producer(&Unleased)).collect();
        let mut rx = queue.consumer(&Unleased)?;
        rx.tune(V::tuning());
        Ok((txs?, rx))
    }
}

impl<const W: usize> Tx<W> for fixed::Producer<[u64; W], Untrusted> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.push_from(message).is_ok()
    }

    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        self.push_slice(messages).map_or(0, |()| messages.len())
    }
}

impl<const W: usize> Rx<W> for fixed::Consumer<[u64; W], Untrusted> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        self.pop_to(to).is_ok()
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        self.pop_into(to).unwrap_or(0)
    }
}

/// One order for all producers.
#[derive(Debug)]
pub enum Ordered {}

impl ManyContender for Ordered {
    const NAME: &'static str = LANES[3];
    const BATCH: bool = true;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = ordered::fixed::Producer<[u64; W], Untrusted>;
    type Rx<const W: usize> = ordered::fixed::Consumer<[u64; W], Untrusted>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let options = Options::new().lanes(producers.try_into()?);
        let bytes = ordered::fixed::Queue::<[u64; W], Untrusted>::bytes(CAPACITY, &options)?;
        let queue = ordered::fixed::Queue::create(region(bytes)?, CAPACITY, &options)?;
        let txs: Result<Vec<_>, _> = (0..producers).map(|_| queue.producer(&Unleased)).collect();
        let rx = queue.consumer(&Unleased)?;
        Ok((txs?, rx))
    }
}

impl<const W: usize> Tx<W> for ordered::fixed::Producer<[u64; W], Untrusted> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.push_from(message).is_ok()
    }

    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        self.push_slice(messages).map_or(0, |()| messages.len())
    }
}

impl<const W: usize> Rx<W> for ordered::fixed::Consumer<[u64; W], Untrusted> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        self.pop_to(to).is_ok()
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        self.pop_into(to).unwrap_or(0)
    }
}
