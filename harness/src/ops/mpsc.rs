//! The operations of queues with many producers, stepped at every instruction.
//!
//! Each queue has three lanes. Messages are numbered per lane without gaps. [`prepare`](Operation::prepare) moves `before`
//! messages through lanes 0 and 1, so that they wrap where they should, has `late` more of lane 0 consumed but not
//! released, and leaves `filled` in the lanes. Whatever happens to the victim, the survivors must find in each lane
//! the numbers that follow from that: everything acknowledged, the operation in flight wholly or not at all, in
//! order, nothing twice but exactly what a consumer had not released. Then all lanes can be attached, those of the
//! dead included, and go on for three laps.
//!
//! Who is dead is what the explorer knows; see [`leases`].
//!
//! What must be answered and what must be seen again follows from the sizes of the messages alone: the format's rule
//! for elements and padding, and the documented rules for turns and releases, are written down here a second time.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use tidewire_mpsc::Delivery;
use tidewire_ring::Owner;
use tidewire_shm::{Region, Untrusted};

use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage};

mod acts;
mod create;
mod deed;
mod leases;
mod model;
mod prepare;
mod rig;
mod survivors;
mod table;

use deed::{Beside, Deed, Lane, Seat};
use leases::{Holder, Leases};
use rig::{Rig, number};

/// Lanes of each queue.
const LANES: usize = 3;

/// How many of the words of an order are stopped at while they are zeroed.
const REPEATS: usize = 8;

/// Results of acts; what is beyond the last is a number of lanes that were freed.
const DONE: u64 = 1;
const REFUSED: u64 = 2;
const CORRUPT: u64 = 3;
const TORN: u64 = 4;
const TAKEN: u64 = 5;
const EXHAUSTED: u64 = 6;
const FREED: u64 = 16;

/// The word of the recoverer's output that says that there was one.
const RECOVERED: usize = 63;
/// The notes: up to where each lane is filled, then up to where it is consumed.
const FILLED: usize = 0;
const CONSUMED: usize = LANES;

type Verdict<T> = Result<T, String>;

/// A region on the heap.
fn alone(bytes: usize) -> Verdict<Region<Untrusted>> {
    Region::heap(bytes).map(Region::distrust).map_err(|error| error.to_string())
}

/// The handles that the process that prepared made.
///
/// An act takes those that it uses; the others stay, since dropping one would free its role.
struct Held<R: Rig> {
    producers: [Option<R::Producer>; LANES],
    consumer: Option<R::Consumer>,
}

impl<R: Rig> Default for Held<R> {
    fn default() -> Self {
        Self { producers: [const { None }; LANES], consumer: None }
    }
}

/// Who holds the lanes and the consumer's role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owners {
    lanes: [Option<Owner>; LANES],
    consumer: Option<Owner>,
}

/// One row of the table.
struct MpscOperation<R: Rig> {
    name: &'static str,
    deed: Deed,
    before: u64,
    late: u64,
    /// The consumer's turn at lane 0 is over, and its release due.
    due: bool,
    filled: [u64; LANES],
    lanes: [Lane; LANES],
    seat: Seat,
    delivery: Delivery,
    modes: &'static [Mode],
    beside: Beside,
    /// The deed must go over the wrap: checked.
    wraps: bool,
    /// Whoever goes on beside the victim takes it for dead because it does nothing: wrong, for twins.
    hasty: bool,
    held: RefCell<Held<R>>,
    /// The segment that the handles are of.
    place: Cell<usize>,
    /// Who holds what when the victim starts.
    owners: Cell<Owners>,
}

impl<R: Rig> Drop for MpscOperation<R> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The operations of all kinds of queue.
pub(super) fn operations() -> Vec<Box<dyn Operation>> {
    let lanes = [table::rows::<rig::Fixed>(), table::rows::<rig::Bytes>()];
    let ordered = [table::rows::<rig::OrderedFixed>(), table::rows::<rig::OrderedBytes>()];
    lanes.into_iter().chain(ordered).flatten().collect()
}

/// A push beside which others take a producer that stands for a dead one.
pub(crate) fn hasty_push() -> Box<dyn Operation> {
    Box::new(table::hasty_push::<rig::Fixed>())
}

/// Message `n` of lane 0 of the queue of slots.
pub(crate) fn message_of(n: u64) -> [u64; 4] {
    rig::message(number(0, n))
}

impl<R: Rig> Operation for MpscOperation<R> {
    fn structure(&self) -> &'static str {
        R::STRUCTURE
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn bytes(&self) -> usize {
        R::bytes().next_multiple_of(leases::BYTES) + leases::BYTES
    }

    fn modes(&self) -> &'static [Mode] {
        self.modes
    }

    fn capacity(&self) -> u64 {
        R::CAPACITY
    }

    fn repeats(&self) -> usize {
        if R::ORDERED && self.deed.creates() { REPEATS } else { usize::MAX }
    }

    fn names(&self) -> Vec<usize> {
        R::owner_words().to_vec()
    }

    fn prepare(&self, stage: &Stage) -> Verdict<()> {
        self.leave(stage);
        if self.deed.creates() {
            // SAFETY: the queue's part of the segment, which only this process uses now; a line of it is no header.
            unsafe { stage.segment().as_ptr().write_bytes(0xA5, R::bytes()) };
        }
        if self.deed == Deed::Create {
            return Ok(());
        }
        self.fill(stage)
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        match self.deed {
            Deed::Push | Deed::PushBatch | Deed::Commit | Deed::Abort => {
                Ok(self.act_pushing(self.take_producer(stage, 0, Holder::First)?))
            }
            Deed::Pop | Deed::PopBatch | Deed::PopInPlace | Deed::Peek => {
                let consumer = self.take_consumer(stage, Holder::First)?;
                Ok(Self::act_popping(self.deed, consumer, stage, Role::First))
            }
            Deed::Rescan => {
                let mut consumer = self.take_consumer(stage, Holder::First)?;
                Ok(Box::new(move || {
                    R::rescan(&mut consumer);
                    DONE
                }))
            }
            Deed::AttachProducer => Self::act_attaching(stage, Leases::first(stage)?, Role::First),
            Deed::AttachConsumer => Self::act_consuming(stage, Leases::first(stage)?),
            Deed::Reclaim => self.act_reclaiming(stage, Leases::first(stage)?, Holder::First),
            Deed::DetachProducer => {
                let mut producer = Some(self.take_producer(stage, 0, Holder::First)?);
                Ok(Box::new(move || u64::from(producer.take().is_some())))
            }
            Deed::DetachConsumer => {
                let mut consumer = Some(self.take_consumer(stage, Holder::First)?);
                Ok(Box::new(move || u64::from(consumer.take().is_some())))
            }
            Deed::Create | Deed::CreateOver => Self::act_creating(stage, self.delivery),
        }
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let answer = seen.first;
        self.check_answer(answer, true)?;
        if self.deed.creates() {
            return self.judge_create(stage, seen);
        }
        let queue = Self::open(stage)?;
        let given = self.given(stage, Role::First, answer, true)?;
        // ORD stage: Relaxed, the act's process has ended.
        if stage.output(Role::Second).get(RECOVERED).is_some_and(|mark| mark.load(Ordering::Relaxed) != 0) {
            if let Some(found) = seen.second.filter(|found| *found != DONE) {
                return Err(format!("expected that somebody recovers, found the answer {found}"));
            }
        } else {
            self.check_owners(&queue, stage, answer)?;
        }
        let expected = std::array::from_fn(|lane| model::Expected {
            first: self.resumes(lane, answer, &given),
            last: self.ends(lane, answer),
        });
        let drained = self.survive(stage, &expected)?;
        Ok(self.outcome(&drained, answer))
    }

    fn interfere(&self, stage: &Stage) -> Verdict<()> {
        if self.deed.creates() {
            return self.look_beside(stage);
        }
        let noted = if self.consumes() { self.push_beside(stage)? } else { self.pop_beside(stage)? };
        let [filled, consumed] = noted;
        for (words, at) in [(filled, FILLED), (consumed, CONSUMED)] {
            for (to, word) in stage.notes().iter().skip(at).zip(words) {
                // ORD stage: Relaxed, read after this process has ended.
                to.store(word, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn judge_frozen(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let answer = seen.first;
        if answer.is_none() {
            return Err("the victim resumed but did not come to an end".to_owned());
        }
        self.check_answer(answer, false)?;
        if self.deed.creates() {
            return self.judge_create(stage, seen);
        }
        let given = self.given(stage, Role::First, answer, false)?;
        let note = |at: usize| {
            // ORD stage: Relaxed, the others have ended.
            stage.notes().get(at).map_or(0, |word| word.load(Ordering::Relaxed))
        };
        let expected = std::array::from_fn(|lane| {
            let more = if lane == 0 && answer == Some(DONE) { self.deed.publishes() } else { 0 };
            model::Expected {
                first: if self.consumes() {
                    self.resumes_beside(lane, &given)
                } else {
                    vec![note(CONSUMED + lane)]
                },
                last: vec![note(FILLED + lane) + more],
            }
        });
        let drained = self.survive(stage, &expected)?;
        Ok(self.outcome(&drained, answer))
    }

    fn partner<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        match self.beside {
            Beside::OtherEnd if !self.deed.consumers() => {
                let consumer = self.take_consumer(stage, Holder::Second)?;
                Ok(Self::act_popping(Deed::Pop, consumer, stage, Role::Second))
            }
            Beside::OtherEnd | Beside::Producer => {
                let lane = usize::from(self.beside == Beside::Producer);
                let mut producer = self.take_producer(stage, lane, Holder::Second)?;
                let id = number(lane, self.end(lane));
                Ok(Box::new(move || acts::result(R::push(&mut producer, id))))
            }
            Beside::Attacher => Self::act_attaching(stage, Leases::second(stage)?, Role::Second),
            Beside::Heir => Self::act_consuming(stage, Leases::second(stage)?),
            Beside::Reclaimer => self.act_reclaiming(stage, Leases::second(stage)?, Holder::Second),
        }
    }

    fn judge_pair(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let (Some(first), Some(second)) = (seen.first, seen.second) else {
            return Err(format!("expected both to come to an end, found {seen:?}"));
        };
        self.check_pair(stage, first, second)?;
        let pops = self.deed.pops();
        let mut given = if pops { self.given(stage, Role::First, Some(first), false)? } else { [0; LANES] };
        if !self.deed.consumers() && self.beside == Beside::OtherEnd {
            given = self.given(stage, Role::Second, Some(second), false)?;
        }
        let pushed = |lane: usize| {
            let mut more = 0;
            if lane == 0 && first == DONE {
                more += self.deed.publishes();
            }
            let other = if self.beside == Beside::Producer { 1 } else { 0 };
            let pushes =
                self.beside == Beside::Producer || (self.beside == Beside::OtherEnd && self.deed.consumers());
            more + u64::from(pushes && lane == other && second == DONE)
        };
        let expected = std::array::from_fn(|lane| model::Expected {
            first: self.resumes_beside(lane, &given),
            last: vec![self.end(lane) + pushed(lane)],
        });
        let drained = self.survive(stage, &expected)?;
        Ok(self.outcome(&drained, Some(first)))
    }

    fn recover<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        if let Some(mark) = stage.output(Role::Second).get(RECOVERED) {
            // ORD stage: Relaxed, read after this process has ended.
            mark.store(1, Ordering::Relaxed);
        }
        let leases = Leases::recoverer(stage)?;
        match self.deed {
            deed if deed.creates() => self.create_again(stage),
            deed if deed.consumers() => Self::act_consuming(stage, leases),
            // Of an order only the consumer reclaims.
            _ if R::ORDERED => Self::act_inheriting(stage, leases),
            Deed::AttachProducer | Deed::DetachProducer => Self::act_attaching(stage, leases, Role::Second),
            _ => {
                let mut act = self.act_reclaiming(stage, leases, Holder::Second)?;
                Ok(Box::new(move || if act() >= FREED { DONE } else { CORRUPT }))
            }
        }
    }

    fn control_words(&self) -> Vec<usize> {
        let words = (0..LANES).map(R::words);
        let owners = R::owner_words().into_iter().skip(1);
        let mut found: Vec<usize> = if self.deed.consumers() {
            let tails = words.map(|[tail, _, _]| tail);
            tails.chain(R::hint_word()).chain(owners).collect()
        } else if self.deed.pushes() {
            words.take(1).map(|[_, head, _]| head).collect()
        } else {
            owners.chain(words.flat_map(|[tail, head, _]| [tail, head])).collect()
        };
        let runs =
            [(0..LANES).map(|lane| self.start(lane)).sum(), (0..LANES).map(|lane| self.end(lane)).sum()];
        found.extend(R::believed(Self::position_of(0, self.start(0)), runs));
        found
    }

    fn judge_flipped(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let Some(result) = seen.first else {
            return Err("the victim did not come to an end".to_owned());
        };
        let known = [DONE, REFUSED, CORRUPT, TORN, TAKEN, EXHAUSTED].contains(&result)
            || (FREED..=FREED + LANES as u64).contains(&result);
        if !known {
            return Err(format!("expected one of the answers, found {result}"));
        }
        // A lie that is as good as the truth gives an answer; what it says lies within the data. Numbers that no
        // message had are `TORN`: the bytes of a lying peer are its own affair.
        for id in self.handed_out(stage, Role::First)? {
            let (lane, n) = rig::place(id);
            if self.deed != Deed::Peek && (lane >= LANES || n >= self.end(lane)) {
                return Err(format!("expected a message that was ever sent, found {id}"));
            }
        }
        Ok(if result == DONE { Outcome::Present } else { Outcome::Absent })
    }
}
