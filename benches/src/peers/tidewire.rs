//! Our rings, in an anonymous segment, with untrusted peers: what two processes get by default.

use std::marker::PhantomData;

use tidewire_ring::{Options, Tuning, bytes, fixed};
use tidewire_shm::{Region, Segment, SegmentOptions, Untrusted};

use crate::contender::{
    CAPACITY, Contender, RECORD_CAPACITY_BYTES, RecordContender, RecordRx, RecordTx, Rx, Tx,
};

/// The names of our variants; the first is the default.
pub const NAMES: [&str; 6] = [
    Default::NAME,
    TouchOff::NAME,
    NoPauses::NAME,
    Plain::NAME,
    "tidewire, page stride",
    "tidewire, in parts",
];

/// How the consumer is tuned.
pub trait Variant: 'static {
    /// Its name in tables.
    const NAME: &'static str;

    /// Its tuning.
    fn tuning() -> Tuning;
}

/// As it comes.
#[derive(Debug)]
pub enum Default {}

/// Consumed lines are not written back.
#[derive(Debug)]
pub enum TouchOff {}

/// No wait before another look.
#[derive(Debug)]
pub enum NoPauses {}

/// Neither.
#[derive(Debug)]
pub enum Plain {}

impl Variant for Default {
    const NAME: &'static str = "tidewire";

    fn tuning() -> Tuning {
        Tuning::default()
    }
}

impl Variant for TouchOff {
    const NAME: &'static str = "tidewire, touch off";

    fn tuning() -> Tuning {
        Tuning::default().touch(false)
    }
}

impl Variant for NoPauses {
    const NAME: &'static str = "tidewire, pauses 0";

    fn tuning() -> Tuning {
        Tuning::default().pauses(0)
    }
}

impl Variant for Plain {
    const NAME: &'static str = "tidewire, plain";

    fn tuning() -> Tuning {
        Tuning::default().touch(false).pauses(0)
    }
}

/// A ring with one variant's tuning.
#[derive(Debug)]
pub struct Tidewire<V>(PhantomData<V>);

/// A region of an anonymous segment, there from the beginning.
pub(crate) fn region(bytes: usize) -> anyhow::Result<Region<Untrusted>> {
    Ok(Segment::anonymous_with(bytes, &SegmentOptions::new().prefault(true))?.region())
}

impl<V: Variant> Contender for Tidewire<V> {
    const NAME: &'static str = V::NAME;
    const BATCH: bool = true;
    type Tx<const W: usize> = fixed::Producer<[u64; W], Untrusted>;
    type Rx<const W: usize> = fixed::Consumer<[u64; W], Untrusted>;

    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)> {
        let options = Options::new();
        let bytes = fixed::Ring::<[u64; W], Untrusted>::bytes(CAPACITY, &options)?;
        let (tx, mut rx) = fixed::Ring::create(region(bytes)?, CAPACITY, &options)?.split()?;
        rx.tune(V::tuning());
        Ok((tx, rx))
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

/// A ring of records with one variant's tuning.
#[derive(Debug)]
pub struct TidewireRecords<V>(PhantomData<V>);

impl<V: Variant> RecordContender for TidewireRecords<V> {
    const NAME: &'static str = V::NAME;
    type Tx = bytes::Producer<Untrusted>;
    type Rx = bytes::Consumer<Untrusted>;

    fn make() -> anyhow::Result<(Self::Tx, Self::Rx)> {
        let options = Options::new();
        let bytes = bytes::Ring::<Untrusted>::bytes(RECORD_CAPACITY_BYTES, &options)?;
        let ring = bytes::Ring::create(region(bytes)?, RECORD_CAPACITY_BYTES, &options)?;
        let (tx, mut rx) = ring.split()?;
        rx.tune(V::tuning());
        Ok((tx, rx))
    }
}

impl RecordTx for bytes::Producer<Untrusted> {
    #[inline(always)]
    fn push(&mut self, record: &[u8]) -> bool {
        self.push(record).is_ok()
    }
}

impl RecordRx for bytes::Consumer<Untrusted> {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u8]) -> Option<usize> {
        self.pop_into(to).ok()
    }
}
