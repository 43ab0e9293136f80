//! Queues with many producers, each wrong in one way that real ones were wrong in: claimed before they are filled,
//! attached without a look at what is there, and taken from somebody who only stands still. Each must be caught by
//! the explorer; the last one, with real processes, by `stress`.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tidewire_mpsc::LaneStats;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{
    LeaseError, Liveness, Origin, Region, RoleId, Segment, SegmentLease, SegmentLeases, Tenancy, Untrusted,
};

use crate::explore::{Act, Mode, Operation, Outcome as Found, Seen, Stage};
use crate::ops;
use crate::stress::round::Outcome;
use crate::subject::mpsc::{Lanes, Queue, Slots, SlotsKind, producer};
use crate::subject::{Receiver, Sender, Shape, Subject};

/// An operation that is wrong, a mode that must show it, and how the verdict on it begins.
pub(crate) type Case = (Option<Box<dyn Operation>>, Mode, &'static str);

/// Where the words of lane 0 lie in the queue of slots that is stepped, and its owner.
const TAIL: usize = 1024;
const HEAD: usize = 1152;
const DATA: usize = 1280;
const OWNER: usize = 640;
/// Its slots.
const SLOTS: u64 = 4;
const SLOT: usize = 32;

/// The result of an act that did what it should.
const DONE: u64 = 1;

/// The twins of the explorer.
pub(crate) fn cases() -> Vec<Case> {
    let case = |name, operation, breaks, verdict| {
        let right = ops::all()
            .into_iter()
            .find(|right| right.structure() == "mpsc-fixed" && right.name() == operation);
        let twin = right.map(|right| Box::new(Twin { name, right, breaks }) as Box<dyn Operation>);
        (twin, Mode::Kill, verdict)
    };
    let hasty = Twin { name: "mpsc: lane of one that stands taken", right: ops::hasty_push(), breaks: None };
    vec![
        case("mpsc: claimed, then filled", "push", Some(claim_first), "found a torn message"),
        case("mpsc: attach starts anew", "attach a producer", Some(start_anew), "lane 0: expected messages"),
        (Some(Box::new(hasty)), Mode::Freeze, "lane 0: expected messages"),
    ]
}

type Breaks = for<'a> fn(&'a Stage) -> Result<Act<'a>, String>;

/// A right operation whose victim does something else, or whose peers do.
struct Twin {
    name: &'static str,
    right: Box<dyn Operation>,
    breaks: Option<Breaks>,
}

impl Operation for Twin {
    fn structure(&self) -> &'static str {
        self.name
    }

    fn name(&self) -> &'static str {
        self.right.name()
    }

    fn bytes(&self) -> usize {
        self.right.bytes()
    }

    fn modes(&self) -> &'static [Mode] {
        &[Mode::Kill, Mode::Freeze]
    }

    fn names(&self) -> Vec<usize> {
        self.right.names()
    }

    fn prepare(&self, stage: &Stage) -> Result<(), String> {
        self.right.prepare(stage)
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Result<Act<'a>, String> {
        self.breaks.map_or_else(|| self.right.victim(stage), |breaks| breaks(stage))
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Result<Found, String> {
        self.right.judge(stage, seen)
    }

    fn interfere(&self, stage: &Stage) -> Result<(), String> {
        self.right.interfere(stage)
    }

    fn judge_frozen(&self, stage: &Stage, seen: Seen) -> Result<Found, String> {
        self.right.judge_frozen(stage, seen)
    }
}

fn region(stage: &Stage) -> Result<Region<Untrusted>, String> {
    // SAFETY: the segment is mapped as long as the process; the explorer accesses it only while this process is stopped
    // or dead.
    unsafe { Region::from_raw_parts(stage.segment(), stage.bytes(), Origin::default(), Arc::new(())) }
        .map_err(|error| error.to_string())
}

/// A word of the queue; kept with its region.
fn word(region: &Region<Untrusted>, offset: usize) -> Shared<AtomicU64> {
    // SAFETY: a control word of the queue, or a word of a slot that only the victim uses; kept with the region.
    unsafe { region.atomic_u64(offset) }
}

/// Takes the place of a message in the lane, and only then fills it.
fn claim_first(stage: &Stage) -> Result<Act<'_>, String> {
    let region = region(stage)?;
    let tail = word(&region, TAIL);
    // ORD own: Relaxed, nobody else pushes.
    let position = tail.load(Ordering::Relaxed);
    let slot = DATA + usize::try_from(position % SLOTS).unwrap_or(0) * SLOT;
    let words: Vec<_> = (0..SLOT / 8).map(|i| word(&region, slot + 8 * i)).collect();
    let message = ops::message_of(position);
    Ok(Box::new(move || {
        let _kept = &region;
        // ORD ring.publish: Release -> `TailCursor::look`; far too early for the message.
        tail.store(position + 1, Ordering::Release);
        for (to, word) in words.iter().zip(message) {
            // ORD own: Relaxed, and too late.
            to.store(word, Ordering::Relaxed);
        }
        DONE
    }))
}

/// Takes a lane over as if nobody had ever had it.
fn start_anew(stage: &Stage) -> Result<Act<'_>, String> {
    let region = region(stage)?;
    let [owner, tail, head] = [OWNER, TAIL, HEAD].map(|offset| word(&region, offset));
    let id = u64::from(std::process::id());
    Ok(Box::new(move || {
        let _kept = &region;
        // ORD own: Relaxed, nobody else wants the lane.
        let generation = (owner.load(Ordering::Relaxed) >> 32) + 1;
        // ORD own: Relaxed, as above.
        owner.store(generation << 32 | id, Ordering::Relaxed);
        // ORD own: Relaxed, as above; and the messages that were there are gone.
        tail.store(0, Ordering::Relaxed);
        // ORD own: Relaxed, as above.
        head.store(0, Ordering::Relaxed);
        DONE
    }))
}

/// The name of the twin of `stress`.
pub(crate) const HASTY: &str = "twin-mpsc-hasty";
/// How long a producer may do nothing before it is taken for dead.
const SILENCE: Duration = Duration::from_millis(1);
const PRODUCERS: u8 = 4;

type Message = [u64; 1];
type Plain = <Lanes as SlotsKind<1>>::Queue;

/// Whether a round shows what is wrong with the hasty queue: messages that were acknowledged are gone, or overwritten,
/// or a lane is out of use.
pub(crate) fn shows_haste(outcome: &Outcome) -> bool {
    let verdict = &outcome.judgement.verdict;
    verdict.lost > 0 || verdict.torn > 0 || outcome.troubles.iter().any(|trouble| trouble.contains("corrupt"))
}

/// A queue whose lanes are taken from whoever did nothing for a while.
pub(crate) struct Hasty(Slots<Lanes, 1>);

impl Hasty {
    pub(crate) fn new() -> Self {
        Self(Slots::new(PRODUCERS))
    }
}

/// Leases that believe a clock.
struct Clocked {
    leases: SegmentLeases,
    queue: Plain,
}

impl Clocked {
    fn new(segment: &Segment) -> Result<Self> {
        Ok(Self { leases: segment.leases()?, queue: Plain::open_queue(segment.region())? })
    }

    /// How much was ever sent in the lane of a role.
    fn sent(&self, role: RoleId) -> Option<u64> {
        let of_role = |lane: &LaneStats| RoleId::producer(lane.lane) == Some(role);
        self.queue.stats().iter().find(|lane| of_role(lane)).map(|lane| lane.sent)
    }
}

// SAFETY: none. It gives a lease of somebody who is alive, which is what the checker must notice. The processes that it
// misleads share nothing but the segment of the queue and the book of their round, and overwrite there what is checked.
unsafe impl Liveness for Clocked {
    type Lease = Option<SegmentLease>;
    const PROVES: bool = true;
    const KIND: u32 = 0x8000_0003;

    fn acquire(&self, role: RoleId) -> Result<Option<SegmentLease>, LeaseError> {
        match self.leases.acquire(role) {
            Err(held @ LeaseError::Held { .. }) => {
                let before = self.sent(role);
                sleep(SILENCE);
                if before.is_some() && self.sent(role) == before { Ok(None) } else { Err(held) }
            }
            other => other.map(Some),
        }
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        self.leases.tenancy(role)
    }
}

impl Subject for Hasty {
    fn structure(&self) -> &'static str {
        HASTY
    }

    fn payload_bytes(&self) -> u64 {
        size_of::<Message>() as u64
    }

    fn capacities(&self) -> (usize, usize) {
        (256, 256)
    }

    fn producers(&self) -> u8 {
        PRODUCERS
    }

    fn ordered(&self) -> bool {
        false
    }

    fn batch(&self, shape: &Shape) -> u32 {
        self.0.batch(shape)
    }

    fn bytes(&self, shape: &Shape) -> Result<usize> {
        <Lanes as SlotsKind<1>>::bytes::<Clocked>(PRODUCERS, shape.capacity)
    }

    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()> {
        <Lanes as SlotsKind<1>>::create::<Clocked>(region, PRODUCERS, shape.capacity)
    }

    unsafe fn sender(&self, _region: Region<Untrusted>, _number: u8) -> Result<Box<dyn Sender>> {
        bail!("expected a segment to ask for leases, found a region")
    }

    unsafe fn receiver(&self, _region: Region<Untrusted>, _shape: &Shape) -> Result<Box<dyn Receiver>> {
        bail!("expected a segment to ask for leases, found a region")
    }

    unsafe fn sender_in(&self, segment: &Segment, number: u8) -> Result<(Box<dyn Sender>, u8)> {
        let queue = Plain::open_queue(segment.region())?;
        let (sender, _) = Slots::<Lanes, 1>::send_from(producer(&queue, &Clocked::new(segment)?)?);
        // Two processes may have one lane: each writes into its own journal.
        Ok((sender, number))
    }

    unsafe fn receiver_in(&self, segment: &Segment, shape: &Shape) -> Result<Box<dyn Receiver>> {
        let queue = Plain::open_queue(segment.region())?;
        Slots::<Lanes, 1>::receive_from(queue, Clocked::new(segment)?, shape).context("the consumer")
    }

    fn read_hand(&self, _hand: &[u8], _found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        // Nothing is released by the call that takes it.
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        self.0.laziness(shape)
    }
}
