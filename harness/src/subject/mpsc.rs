//! Queues with many producers, recorded; all roles are taken by leases of the segment that the queue lies in.
//!
//! A line of the history is a lane: whoever attaches is given one, and what it pushes follows what the former owners of
//! that lane pushed. There are as many lanes as producers, so that a lane that leaks is missed: the successor of a
//! dead producer has no other to go to.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tidewire_mpsc::{AttachError, Delivery, LaneState, LaneStats, Options};
use tidewire_ring::{Corrupt, Owner};
use tidewire_shm::{Liveness, Region, Segment, Untrusted};

use super::{Receiver, Refusal, Sender, Shape, Subject};

mod records;
mod slots;

pub(crate) use records::{Records, RecordsKind};
pub(crate) use slots::{Slots, SlotsKind};

/// Names the messages.
pub(crate) const FINGERPRINT: u64 = 0x7469_6465_7275_6e03;
/// How long a lane may be out of reach: until a consumer comes that frees it, say.
const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_micros(100);

/// In order per producer.
pub(crate) struct Lanes;
/// In one order.
pub(crate) struct Ordered;

/// What all kinds of queue have in common.
pub(crate) trait Queue: Sized + 'static {
    type Producer: 'static;
    type Consumer: 'static;

    /// The name of the structure.
    const NAME: &'static str;
    /// Messages come in the order in which they were pushed, whoever pushed them; then only the consumer reclaims.
    const ORDERED: bool;

    fn open_queue(region: Region<Untrusted>) -> Result<Self, AttachError>;
    fn attach<V: Liveness>(&self, leases: &V) -> Result<Self::Producer, AttachError>;
    fn consume<V: Liveness>(&self, leases: &V) -> Result<Self::Consumer, AttachError>;
    fn reclaim_all<V: Liveness>(&self, consumer: &mut Self::Consumer, leases: &V)
    -> Result<u32, AttachError>;
    fn lane_of(producer: &Self::Producer) -> u32;
    fn stats(&self) -> Vec<LaneStats>;
    fn owners(&self) -> Vec<Option<Owner>>;
}

/// Options of a queue for so many producers.
pub(crate) fn options<V: Liveness>(producers: u8) -> Options {
    Options::new()
        .lanes(producers.max(1).into())
        .delivery(Delivery::AtLeastOnce)
        .liveness::<V>()
        .type_fingerprint(FINGERPRINT)
}

/// Takes a lane as soon as there is one.
///
/// # Errors
/// What the queue says, where it is not that all lanes are taken; or that they stayed so.
pub(crate) fn producer<Q: Queue, V: Liveness>(queue: &Q, leases: &V) -> Result<Q::Producer> {
    let until = Instant::now() + PATIENCE;
    loop {
        match queue.attach(leases) {
            Ok(producer) => return Ok(producer),
            Err(AttachError::LanesExhausted { .. }) if Instant::now() < until => sleep(PAUSE),
            Err(error) => bail!("attaching a producer: {error}"),
        }
    }
}

/// The number of a producer's lane.
pub(crate) fn lane<Q: Queue>(producer: &Q::Producer) -> u8 {
    u8::try_from(Q::lane_of(producer)).unwrap_or(u8::MAX)
}

/// Nobody is left: everybody's role can be taken, and there is no more than that.
fn left_behind<Q: Queue>(segment: &Segment, producers: u8) -> Result<()> {
    let (queue, leases) = (Q::open_queue(segment.region())?, segment.leases()?);
    let mut consumer = queue.consume(&leases)?;
    if Q::ORDERED {
        queue.reclaim_all(&mut consumer, &leases)?;
    }
    let corrupt = queue.stats().iter().filter(|lane| lane.state == LaneState::Corrupt).count();
    ensure!(corrupt == 0, "expected sound lanes, found {corrupt} corrupt");
    let mut held = Vec::new();
    let refused = loop {
        match queue.attach(&leases) {
            Ok(producer) if held.len() < 256 => held.push(producer),
            Ok(_) => bail!("expected {producers} lanes, found no end of them"),
            Err(error) => break error,
        }
    };
    ensure!(
        held.len() == usize::from(producers)
            && matches!(refused, AttachError::LanesExhausted { corrupt: 0, .. }),
        "expected {producers} lanes to be had, found {}, then: {refused}",
        held.len()
    );
    drop((held, consumer));
    let owners = queue.owners();
    ensure!(owners.iter().all(Option::is_none), "expected free roles, found {owners:?}");
    Ok(())
}

impl From<Corrupt> for Refusal {
    fn from(error: Corrupt) -> Self {
        Self::broken(error)
    }
}

/// Everything that is put under stress.
pub(crate) fn table() -> Vec<Box<dyn Subject>> {
    let mut all: Vec<Box<dyn Subject>> = Vec::new();
    for producers in [1, 2, 4, 16] {
        all.push(Box::new(Slots::<Lanes, 1>::new(producers)));
        all.push(Box::new(Records::<Lanes>::new(producers)));
        all.push(Box::new(Slots::<Ordered, 1>::new(producers)));
    }
    all.push(Box::new(Slots::<Lanes, 8>::new(4)));
    all.push(Box::new(Slots::<Lanes, 128>::new(2)));
    all.push(Box::new(Slots::<Ordered, 8>::new(4)));
    all.push(Box::new(Records::<Ordered>::new(4)));
    all
}
