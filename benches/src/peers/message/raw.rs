//! Our ring and our lanes with nothing above them, in a named segment: what a channel is built on, and what it is
//! measured against. Limits and no contenders: nobody is told of a death, and whoever has to wait looks again and
//! again.

use std::hint::spin_loop;
use std::marker::PhantomData;

use anyhow::Context as _;
use tidewire_mpsc::fixed as lanes;
use tidewire_ring::fixed as ring;
use tidewire_shm::bell::{
    Attendance, BellMode, Caller, Deadline, Roster, SleepOptions, System, roster_bytes,
};
use tidewire_shm::{Region, Segment, SegmentOptions, Unleased, Untrusted};

use crate::contender::{Rx as QueueRx, Tx as QueueTx};
use crate::message::contender::{Layer, MessageRx, MessageTx, Part, capacity};
use crate::message::place::Link;

/// Senders that our channels are made for in the benches.
pub(super) const SENDERS: u32 = 4;

/// A queue in a segment.
pub trait Queue: 'static {
    /// Its name in tables.
    const NAME: &'static str;
    /// The producing end.
    type Tx<const W: usize>: QueueTx<W>;
    /// The consuming end.
    type Rx<const W: usize>: QueueRx<W>;

    /// Bytes that it needs.
    ///
    /// # Errors
    /// What the queue says.
    fn bytes<const W: usize>() -> anyhow::Result<usize>;

    /// Makes it.
    ///
    /// # Errors
    /// What the queue says.
    fn create<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<()>;

    /// Takes the producing end.
    ///
    /// # Errors
    /// What the queue says.
    fn producer<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<Self::Tx<W>>;

    /// Takes the consuming end.
    ///
    /// # Errors
    /// What the queue says.
    fn consumer<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<Self::Rx<W>>;
}

/// The ring.
#[derive(Debug)]
pub enum Ring {}

impl Queue for Ring {
    const NAME: &'static str = "raw ring";
    type Tx<const W: usize> = ring::Producer<[u64; W], Untrusted>;
    type Rx<const W: usize> = ring::Consumer<[u64; W], Untrusted>;

    fn bytes<const W: usize>() -> anyhow::Result<usize> {
        Ok(ring::Ring::<[u64; W], Untrusted>::bytes(capacity(W), &tidewire_ring::Options::new())?)
    }

    fn create<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<()> {
        ring::Ring::<[u64; W], _>::create(region, capacity(W), &tidewire_ring::Options::new())?;
        Ok(())
    }

    fn producer<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<Self::Tx<W>> {
        Ok(ring::Ring::open(region, 0)?.producer()?)
    }

    fn consumer<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<Self::Rx<W>> {
        Ok(ring::Ring::open(region, 0)?.consumer()?)
    }
}

/// The lanes, one of which is used.
#[derive(Debug)]
pub enum Lanes {}

fn lanes_options() -> tidewire_mpsc::Options {
    tidewire_mpsc::Options::new().lanes(SENDERS)
}

impl Queue for Lanes {
    const NAME: &'static str = "raw lanes";
    type Tx<const W: usize> = lanes::Producer<[u64; W], Untrusted>;
    type Rx<const W: usize> = lanes::Consumer<[u64; W], Untrusted>;

    fn bytes<const W: usize>() -> anyhow::Result<usize> {
        Ok(lanes::Queue::<[u64; W], Untrusted>::bytes(capacity(W), &lanes_options())?)
    }

    fn create<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<()> {
        lanes::Queue::<[u64; W], _>::create(region, capacity(W), &lanes_options())?;
        Ok(())
    }

    fn producer<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<Self::Tx<W>> {
        Ok(lanes::Queue::open(region, 0)?.producer(&Unleased)?)
    }

    fn consumer<const W: usize>(region: Region<Untrusted>) -> anyhow::Result<Self::Rx<W>> {
        Ok(lanes::Queue::open(region, 0)?.consumer(&Unleased)?)
    }
}

fn segment_options(link: &Link<'_>) -> SegmentOptions {
    SegmentOptions::new().directory(link.path())
}

const QUEUE: &str = "queue";
const BELLS: &str = "bells";

fn consumer<Q: Queue, const W: usize>(link: &Link<'_>) -> anyhow::Result<Q::Rx<W>> {
    let segment = Segment::create_with(QUEUE, Q::bytes::<W>()?, &segment_options(link), |region| {
        Q::create::<W>(region).map_err(Into::into)
    });
    Q::consumer(segment.context("create the queue's segment")?.region())
}

fn producer<Q: Queue, const W: usize>(link: &Link<'_>) -> anyhow::Result<Q::Tx<W>> {
    let segment = Segment::open_with(QUEUE, &segment_options(link)).context("open the queue's segment")?;
    Q::producer(segment.region())
}

/// A queue as it is.
#[derive(Debug)]
pub struct Raw<Q>(PhantomData<Q>);

/// Its producer.
#[derive(Debug)]
pub struct Tx<P>(P);

/// Its consumer.
#[derive(Debug)]
pub struct Rx<C>(C);

impl<Q: Queue> Layer for Raw<Q> {
    const NAME: &'static str = Q::NAME;
    const SLEEPS: bool = false;
    const PART: Part = Part::Flow;
    type Tx<const W: usize> = Tx<Q::Tx<W>>;
    type Rx<const W: usize> = Rx<Q::Rx<W>>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Self::Tx<W>> {
        link.await_made();
        Ok(Tx(producer::<Q, W>(link)?))
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<Self::Rx<W>> {
        let rx = consumer::<Q, W>(link)?;
        link.made();
        Ok(Rx(rx))
    }
}

impl<P: QueueTx<W>, const W: usize> MessageTx<W> for Tx<P> {
    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        while !self.0.push(message) {
            spin_loop();
        }
        Ok(())
    }
}

impl<C: QueueRx<W>, const W: usize> MessageRx<W> for Rx<C> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let come = self.0.pop(buffer);
        if come {
            read(buffer);
        }
        Ok(come)
    }
}

/// The ring with bells: its consumer sleeps while there is nothing, and its producer looks whether to wake it.
#[derive(Debug)]
pub enum WithBells {}

/// Its producer.
#[derive(Debug)]
pub struct RingingTx<const W: usize> {
    tx: <Ring as Queue>::Tx<W>,
    caller: Caller<System, Untrusted>,
}

/// Its consumer.
#[derive(Debug)]
pub struct SleepingRx<const W: usize> {
    rx: <Ring as Queue>::Rx<W>,
    own: Attendance<System, Untrusted>,
}

impl Layer for WithBells {
    const NAME: &'static str = "raw ring, bells";
    const SLEEPS: bool = true;
    const PART: Part = Part::Flow;
    type Tx<const W: usize> = RingingTx<W>;
    type Rx<const W: usize> = SleepingRx<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<RingingTx<W>> {
        link.await_made();
        let bells = Segment::open_with(BELLS, &segment_options(link)).context("open the bells' segment")?;
        let caller = Roster::open(bells.region(), 1)?.caller(0, System)?;
        Ok(RingingTx { tx: producer::<Ring, W>(link)?, caller })
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<SleepingRx<W>> {
        let mode = BellMode::choose(&System);
        let bells = Segment::create_with(BELLS, roster_bytes(1), &segment_options(link), |region| {
            Ok(Roster::create(region, 1, mode).map(drop)?)
        });
        let bells = Roster::open(bells.context("create the bells' segment")?.region(), 1)?;
        let own = bells.attend(0, [0; 2], System, &SleepOptions::new())?;
        let rx = consumer::<Ring, W>(link)?;
        link.made();
        Ok(SleepingRx { rx, own })
    }
}

impl<const W: usize> MessageTx<W> for RingingTx<W> {
    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        while !QueueTx::push(&mut self.tx, message) {
            spin_loop();
        }
        let _rung = self.caller.ring();
        Ok(())
    }
}

impl<const W: usize> MessageRx<W> for SleepingRx<W> {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let Self { rx, own } = self;
        if !QueueRx::pop(rx, buffer) {
            let mut come = false;
            let _woken = own.wait(
                || {
                    come = come || QueueRx::pop(rx, buffer);
                    come
                },
                Deadline::NEVER,
            );
            if !come {
                return Ok(false);
            }
        }
        read(buffer);
        Ok(true)
    }
}
