//! What a queue between many producers and one consumer must offer to be compared.

use std::marker::PhantomData;

use crate::contender::{Contender, Rx, Tx};
use crate::pair::Mode;

/// A queue between many producers and one consumer.
pub trait ManyContender: 'static {
    /// Its name in tables.
    const NAME: &'static str;
    /// Whether several messages can be pushed or popped by one call.
    const BATCH: bool;
    /// Between what it can run.
    const MODES: &'static [Mode];
    /// Whether a side may sleep in it: then an idle core does not mean that the sample was disturbed, but a side that
    /// waits for its core does.
    const SLEEPS: bool = false;
    /// A producing end.
    type Tx<const W: usize>: Tx<W>;
    /// The consuming end.
    type Rx<const W: usize>: Rx<W>;

    /// Makes a queue of the usual capacity with an end for each producer: [`CAPACITY`](crate::contender::CAPACITY)
    /// messages, or as many for each producer where each has a queue of its own.
    ///
    /// # Errors
    /// What the queue says.
    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<Self::Tx<W>>, Self::Rx<W>)>;
}

/// Messages of a batch.
pub const BATCH: usize = 16;
/// The most messages that a consumer takes before it looks at its clock; also the turn of a lane.
pub const TURN: usize = 64;
/// The most producers.
pub const PRODUCERS: usize = 16;

/// A queue for many, with one producer.
#[derive(Debug)]
pub struct Alone<C>(PhantomData<C>);

impl<C: ManyContender> Contender for Alone<C> {
    const NAME: &'static str = C::NAME;
    const BATCH: bool = C::BATCH;
    const MODES: &'static [Mode] = C::MODES;
    type Tx<const W: usize> = C::Tx<W>;
    type Rx<const W: usize> = C::Rx<W>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let (mut txs, rx) = C::make::<W>(1)?;
        match txs.pop() {
            Some(tx) if txs.is_empty() => Ok((tx, rx)),
            _ => anyhow::bail!("expected one producing end, found another number"),
        }
    }
}
