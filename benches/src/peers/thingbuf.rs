//! thingbuf: a channel whose slots are filled and read in place, polled. Both ways are listed: by reference, and by
//! value.

use anyhow::Context as _;
use thingbuf::mpsc::blocking::{StaticChannel, StaticReceiver, StaticSender};

use crate::contender::{CAPACITY, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode};

/// Filled and read in place.
#[derive(Debug)]
pub enum ByReference {}

/// Moved in and out.
#[derive(Debug)]
pub enum ByValue {}

/// A message that the channel may keep as it is when it recycles a slot: the next one overwrites all of it.
#[derive(Debug)]
pub struct Slot<const W: usize>([u64; W]);

impl<const W: usize> Default for Slot<W> {
    fn default() -> Self {
        Self([0; W])
    }
}

impl<const W: usize> Clone for Slot<W> {
    fn clone(&self) -> Self {
        Self(self.0)
    }

    /// Recycling: leaves what is there.
    #[inline(always)]
    fn clone_from(&mut self, _: &Self) {}
}

/// A producer in place.
#[derive(Debug)]
pub struct ReferenceTx<const W: usize>(StaticSender<Slot<W>>);

/// The consumer in place.
#[derive(Debug)]
pub struct ReferenceRx<const W: usize>(StaticReceiver<Slot<W>>);

/// A producer by value.
#[derive(Debug)]
pub struct ValueTx<const W: usize>(StaticSender<Slot<W>>);

/// The consumer by value.
#[derive(Debug)]
pub struct ValueRx<const W: usize>(StaticReceiver<Slot<W>>);

type Ends<const W: usize> = (Vec<StaticSender<Slot<W>>>, StaticReceiver<Slot<W>>);

/// The channel in a block that lives as long as the process.
fn ends<const W: usize>(producers: usize) -> anyhow::Result<Ends<W>> {
    let channel: Vec<StaticChannel<Slot<W>, CAPACITY>> = vec![StaticChannel::new()];
    let (tx, rx) = channel.leak().first().context("make a channel")?.split();
    Ok((vec![tx; producers], rx))
}

impl ManyContender for ByReference {
    const NAME: &'static str = "thingbuf, by reference";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = ReferenceTx<W>;
    type Rx<const W: usize> = ReferenceRx<W>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (txs, rx) = ends(producers)?;
        Ok((txs.into_iter().map(ReferenceTx).collect(), ReferenceRx(rx)))
    }
}

impl<const W: usize> Tx<W> for ReferenceTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        match self.0.try_send_ref() {
            Ok(mut slot) => {
                slot.0 = *message;
                true
            }
            Err(_) => false,
        }
    }
}

impl<const W: usize> Rx<W> for ReferenceRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.0.try_recv_ref() {
            Ok(slot) => {
                *to = slot.0;
                true
            }
            Err(_) => false,
        }
    }
}

impl ManyContender for ByValue {
    const NAME: &'static str = "thingbuf, by value";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = ValueTx<W>;
    type Rx<const W: usize> = ValueRx<W>;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)> {
        let (txs, rx) = ends(producers)?;
        Ok((txs.into_iter().map(ValueTx).collect(), ValueRx(rx)))
    }
}

impl<const W: usize> Tx<W> for ValueTx<W> {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        self.0.try_send(Slot(*message)).is_ok()
    }
}

impl<const W: usize> Rx<W> for ValueRx<W> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        match self.0.try_recv() {
            Ok(slot) => {
                *to = slot.0;
                true
            }
            Err(_) => false,
        }
    }
}
