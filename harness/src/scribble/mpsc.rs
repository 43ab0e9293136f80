//! Victims: queues with many producers. One process has all handles: two producers and the consumer.
//!
//! What is found corrupt is told, the lane or the queue is out of use from then on, and the victim creates the queue
//! anew when nothing else is left. A producer that is refused, a lane that is gone, messages of nonsense: all of that a
//! hostile peer can do. A write beyond a buffer, a position that moves by itself, a call that does not end it cannot.

use anyhow::Result;
use tidewire_mpsc::{CorruptLane, LaneStats};
use tidewire_shm::{Region, Untrusted};

use super::arena::Arena;
use super::dice::Dice;
use super::hostile::Targets;
use super::roles;
use super::victim::{Act, Finding, Output, Subject, TURN, Tally, Victim, must};

mod fixed;
mod leases;
mod ordered;
mod records;

pub(crate) use fixed::Slots;
pub(crate) use ordered::{OrderedRecords, OrderedSlots};
pub(crate) use records::Records;

/// Lanes of each queue, all with a producer.
const LANES: usize = 2;
const LINE: usize = 128;
/// The words of every queue with line stride: shape, consumer, quarantined, attached, registry.
const SHAPE: usize = 128;
const REGISTRY: usize = 640;
/// What lies behind the registry.
const EXTRA: usize = REGISTRY + LANES * LINE;
/// Bytes that an ordered queue has there, and where its order words begin.
const ORDER_BYTES: usize = 16384;
const ORDER_WORDS: usize = 512;

/// What becomes of a handle after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Goes,
    /// It was latched corrupt, and has been seen to stay so.
    Latched,
}

/// One kind of queue.
trait Kind: 'static {
    type Queue;
    type Producer;
    type Consumer;
    type Body: Copy + 'static;

    const ORDERED: bool;
    /// Elements of a lane, and bytes of each.
    const CAPACITY: usize;
    const UNIT: usize;
    /// What positions are multiples of.
    const GRAIN: u64;
    const BODY: Self::Body;

    fn bytes() -> Result<usize>;
    fn create(region: Region<Untrusted>) -> Result<Self::Queue>;
    /// `None` if the memory holds no such queue.
    fn open(region: Region<Untrusted>) -> Option<Self::Queue>;
    fn producer(queue: &Self::Queue) -> Option<Self::Producer>;
    fn consumer(queue: &Self::Queue) -> Option<Self::Consumer>;
    fn lane(producer: &Self::Producer) -> u32;
    fn is_quarantined(producer: &Self::Producer) -> bool;
    fn push(
        producer: &mut Self::Producer,
        body: &mut Self::Body,
        dice: &mut Dice,
        tally: &mut Tally<'_>,
    ) -> Result<After, Finding>;
    fn pop(
        consumer: &mut Self::Consumer,
        body: &mut Self::Body,
        dice: &mut Dice,
        tally: &mut Tally<'_>,
    ) -> Result<After, Finding>;
    fn last_lane(consumer: &Self::Consumer) -> Option<u32>;
    fn take_corrupt(consumer: &mut Self::Consumer) -> Option<CorruptLane>;
    fn out_of_use(consumer: &Self::Consumer) -> usize;
    fn stats(queue: &Self::Queue) -> impl Iterator<Item = LaneStats>;
    /// How many lanes were freed, or nothing.
    fn reclaim(queue: &Self::Queue, consumer: &mut Self::Consumer) -> Option<u32>;
    fn rescan(consumer: &mut Self::Consumer);
}

/// Bytes of a lane.
fn lane_bytes<K: Kind>() -> usize {
    2 * LINE + (K::CAPACITY * K::UNIT).next_multiple_of(LINE)
}

/// Where a lane begins: tail, a line further the head, a line further the data.
fn lane_offset<K: Kind>(lane: usize) -> usize {
    EXTRA + if K::ORDERED { ORDER_BYTES } else { 0 } + lane * lane_bytes::<K>()
}

fn positions<K: Kind>(lane: usize) -> (usize, usize) {
    let tail = lane_offset::<K>(lane);
    (tail, tail + LINE)
}

/// All words but those of the header.
fn control<K: Kind>() -> Vec<usize> {
    let positions = (0..LANES).map(positions::<K>).flat_map(|(tail, head)| [tail, head]);
    let shape = (SHAPE..EXTRA).step_by(8);
    let order = if K::ORDERED { ORDER_WORDS + 8 * 1024 } else { 0 };
    // Positions and roles as often as all the order words together.
    let few: Vec<usize> = positions.chain(shape).collect();
    let often = few.len() * if K::ORDERED { 8 } else { 1 };
    few.iter().copied().cycle().take(often).chain((EXTRA..EXTRA + order).step_by(8)).collect()
}

/// The subject of one kind.
#[expect(private_bounds, reason = "the kinds are those of this module")]
pub(crate) fn subject<K: Kind>(structure: &'static str) -> Result<Subject> {
    let bytes = K::bytes()?;
    let [first, second] = [0, 1].map(positions::<K>);
    Ok(Subject {
        structure,
        bytes: bytes.next_multiple_of(LINE),
        create: |region| K::create(region).map(drop),
        targets: Targets {
            positions: Vec::leak(vec![first, second]),
            control: Vec::leak(control::<K>()),
            data: lane_offset::<K>(0) + 2 * LINE..bytes,
            capacity: K::CAPACITY as u64,
            unit: K::UNIT as u64,
            headers: false,
        },
        victim: |arena| Box::new(Crowd::<K>::new(arena)),
    })
}

/// The subject that opens and attaches all the time.
#[expect(private_bounds, reason = "the kinds are those of this module")]
pub(crate) fn attach_subject<K: Kind>(structure: &'static str) -> Result<Subject> {
    let mut subject = subject::<K>(structure)?;
    subject.targets.headers = true;
    subject.victim = |arena| Box::new(Crowd::<K> { patience: 0, ..Crowd::new(arena) });
    Ok(subject)
}

/// A queue, used through whichever handles there are.
struct Crowd<K: Kind> {
    arena: Arena,
    queue: Option<K::Queue>,
    producers: [Option<K::Producer>; LANES],
    consumer: Option<K::Consumer>,
    output: Box<Output<K::Body>>,
    /// Turns between two attaches that nothing forces, about.
    patience: usize,
}

impl<K: Kind> Crowd<K> {
    fn new(arena: Arena) -> Self {
        let output = Output::new(K::BODY);
        Self { arena, queue: None, producers: [None, None], consumer: None, output, patience: 64 }
    }

    fn leave(&mut self) {
        (self.producers, self.consumer, self.queue) = ([None, None], None, None);
    }

    /// Whoever has the word of everybody creates anew; sometimes with positions far away.
    fn create(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        self.leave();
        tally.act(Act::Open);
        let region = self.arena.region().map_err(|_| Finding("the arena refused a region"))?;
        self.queue = K::create(region).ok();
        must(self.queue.is_some(), "a region that was large enough is not any more")?;
        if !K::ORDERED && dice.below(2) == 0 {
            for lane in 0..LANES {
                roles::reset(&self.arena, dice, K::CAPACITY as u64, K::GRAIN, positions::<K>(lane));
                // Generation 1, and free: the positions mean something.
                // ORD hostile: Relaxed, races with the hostile process in any case.
                self.arena.word(REGISTRY + lane * LINE).store(1 << 32, std::sync::atomic::Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Gets what is missing: queue, producers, consumer. What the memory says may prevent it.
    fn attach(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        if dice.below(self.patience + 1) == 0 {
            self.leave();
        }
        if self.queue.is_none() {
            tally.act(Act::Open);
            let region = self.arena.region().map_err(|_| Finding("the arena refused a region"))?;
            self.queue = K::open(region);
            if self.queue.is_none() {
                tally.corrupt();
                self.arena.restore_header();
                return if dice.below(4) == 0 { self.create(dice, tally) } else { Ok(()) };
            }
        }
        let Some(queue) = &self.queue else { return Ok(()) };
        let mut refused = false;
        for producer in self.producers.iter_mut().filter(|producer| producer.is_none()) {
            tally.act(Act::Attach);
            *producer = K::producer(queue);
            refused |= producer.is_none();
        }
        if self.consumer.is_none() {
            tally.act(Act::Attach);
            self.consumer = K::consumer(queue);
            refused |= self.consumer.is_none();
        }
        let [first, second] = &self.producers;
        if let (Some(first), Some(second)) = (first, second) {
            must(K::lane(first) != K::lane(second), "two producers in one lane")?;
        }
        if refused {
            tally.corrupt();
            return if dice.below(4) == 0 { self.create(dice, tally) } else { Ok(()) };
        }
        Ok(())
    }

    fn push(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let Some(slot) = self.producers.get_mut(dice.below(LANES)) else { return Ok(()) };
        let Some(producer) = slot else { return Ok(()) };
        let after = K::push(producer, &mut self.output.body, dice, tally)?;
        if after == After::Latched {
            tally.corrupt();
        }
        if after == After::Latched || K::is_quarantined(producer) {
            *slot = None;
        }
        Ok(())
    }

    fn pop(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        let (Some(consumer), Some(queue)) = (&mut self.consumer, &self.queue) else { return Ok(()) };
        let after = match dice.below(256) {
            0 => {
                tally.act(Act::Length);
                let stats = K::stats(queue).take(LANES + 1);
                let fine = stats.map(|lane| u64::from(lane.depth <= K::CAPACITY as u64)).sum::<u64>();
                must(fine == LANES as u64, "statistics of more than there is")?;
                After::Goes
            }
            1 => {
                tally.act(Act::Attach);
                let freed = K::reclaim(queue, consumer);
                must(freed.is_none_or(|freed| freed as usize <= LANES), "more lanes freed than there are")?;
                K::rescan(consumer);
                After::Goes
            }
            _ => K::pop(consumer, &mut self.output.body, dice, tally)?,
        };
        let lane = K::last_lane(consumer);
        must(lane.is_none_or(|lane| (lane as usize) < LANES), "a message of a lane that is not")?;
        for _ in 0..LANES {
            let Some(corrupt) = K::take_corrupt(consumer) else { break };
            must((corrupt.lane as usize) < LANES, "a lane out of use that is not")?;
            tally.corrupt();
        }
        must(K::take_corrupt(consumer).is_none(), "more lanes out of use than there are")?;
        let useless = K::out_of_use(consumer) == LANES;
        if after == After::Latched || useless {
            tally.corrupt();
            self.create(dice, tally)?;
        }
        Ok(())
    }
}

impl<K: Kind> Victim for Crowd<K> {
    fn turn(&mut self, dice: &mut Dice, tally: &mut Tally<'_>) -> Result<(), Finding> {
        for _ in 0..if self.patience == 0 { TURN / 4 } else { 4 } {
            self.attach(dice, tally)?;
            for _ in 0..if self.patience == 0 { 1 } else { TURN / 8 } {
                self.push(dice, tally)?;
                self.pop(dice, tally)?;
            }
        }
        must(self.output.is_whole(), "a write beyond the buffer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    /// The words are drawn a second time above: what a queue does must be seen in them.
    fn check<K: Kind>() {
        let bytes = K::bytes().unwrap();
        let arena = Arena::new(bytes.next_multiple_of(LINE)).unwrap();
        let queue = K::create(arena.region().unwrap()).unwrap();
        let at = |offset| arena.word(offset).load(Ordering::Relaxed);
        let _kept = [K::producer(&queue).unwrap(), K::producer(&queue).unwrap()];
        let id = u64::from(std::process::id());
        assert_eq!([at(REGISTRY), at(REGISTRY + LINE)], [1 << 32 | id; 2]);
        let stats: Vec<_> = K::stats(&queue).collect();
        assert_eq!(stats.len(), LANES);
        for (lane, stats) in stats.into_iter().enumerate() {
            let (tail, head) = positions::<K>(lane);
            assert_eq!(bytes - lane_offset::<K>(lane), (LANES - lane) * lane_bytes::<K>());
            arena.word(tail).store(16, Ordering::Relaxed);
            arena.word(head).store(8, Ordering::Relaxed);
            let seen = K::stats(&queue).nth(lane).unwrap();
            assert_eq!((stats.sent, seen.sent, seen.received), (0, 16, 8));
        }
    }

    #[test]
    fn the_words_lie_where_the_queues_have_them() {
        check::<Slots>();
        check::<Records>();
        check::<OrderedSlots>();
        check::<OrderedRecords>();
    }
}
