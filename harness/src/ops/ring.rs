//! The operations of the rings, stepped at every instruction.
//!
//! Messages are numbered without gaps. [`prepare`](Operation::prepare) moves `before` messages through the ring, so
//! that it wraps where it should, has `late` more consumed but not released, and leaves `filled` in it. Whatever
//! happens to the victim, the survivors must find the numbers that follow from that: everything acknowledged, the
//! operation in flight wholly or not at all, in order, nothing twice but exactly what a consumer had not released.
//!
//! What must be answered and what must be seen again follows from the sizes of the messages alone: the format's rule
//! for elements and padding, and the documented rule for releasing, are written down here a second time.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use tidewire_ring::{AttachError, Owner};
use tidewire_shm::Field;

use super::rig::{Bytes, Fixed, MOST, Popped, Pushed, Rig, region};
use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage};

/// What the victim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Push,
    PushBatch,
    Commit,
    Abort,
    Pop,
    PopBatch,
    PopInPlace,
    Peek,
    AttachProducer,
    AttachConsumer,
    DetachProducer,
    DetachConsumer,
    ReplaceProducer,
    ReplaceConsumer,
    Create,
    CreateOver,
}

impl Deed {
    /// Messages that the deed publishes if it succeeds.
    fn publishes(self) -> u64 {
        match self {
            Self::Push | Self::Commit => 1,
            Self::PushBatch => 3,
            _ => 0,
        }
    }

    /// Messages that the deed consumes at most.
    fn consumes(self) -> u64 {
        match self {
            Self::Pop | Self::PopInPlace => 1,
            Self::PopBatch => 3,
            _ => 0,
        }
    }

    fn pushes(self) -> bool {
        matches!(self, Self::Push | Self::PushBatch | Self::Commit | Self::Abort)
    }

    fn pops(self) -> bool {
        matches!(self, Self::Pop | Self::PopBatch | Self::PopInPlace | Self::Peek)
    }

    fn attaches(self) -> bool {
        matches!(self, Self::AttachProducer | Self::AttachConsumer)
    }

    fn detaches(self) -> bool {
        matches!(self, Self::DetachProducer | Self::DetachConsumer)
    }

    fn replaces(self) -> bool {
        matches!(self, Self::ReplaceProducer | Self::ReplaceConsumer)
    }

    fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateOver)
    }

    /// Whether the deed is the consumer's.
    fn consumers(self) -> bool {
        self.pops() || matches!(self, Self::AttachConsumer | Self::DetachConsumer | Self::ReplaceConsumer)
    }
}

/// Results of acts.
const DONE: u64 = 1;
const REFUSED: u64 = 2;
const CORRUPT: u64 = 3;
const TORN: u64 = 4;
const TAKEN: u64 = 5;
const CHANGED: u64 = 6;

/// The word of the recoverer's output that says that there was one.
const RECOVERED: usize = 63;

/// The roles that are held when the victim starts, by the process that prepared.
///
/// An act takes the one that it uses; the other stays, since dropping it would free its role.
struct Held<R: Rig> {
    producer: Option<R::Producer>,
    consumer: Option<R::Consumer>,
}

impl<R: Rig> Default for Held<R> {
    fn default() -> Self {
        Self { producer: None, consumer: None }
    }
}

/// One row of the table.
struct RingOperation<R: Rig> {
    name: &'static str,
    deed: Deed,
    before: u64,
    late: u64,
    filled: u64,
    modes: &'static [Mode],
    /// The deed must go over the wrap: checked.
    wraps: bool,
    /// The partner of one that takes a role attaches; otherwise it does the same.
    beside_attacher: bool,
    held: RefCell<Held<R>>,
    /// Where the consumer stands when the victim starts.
    head: Cell<u64>,
    /// Who holds the two roles when the victim starts: the producer, the consumer.
    owners: Cell<[Option<Owner>; 2]>,
}

impl<R: Rig> Drop for RingOperation<R> {
    fn drop(&mut self) {
        self.forget();
    }
}

const DATA: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double, Mode::Flip];
const LATE: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double];
const ROLE: &[Mode] = LATE;
const PAIR: &[Mode] = &[Mode::Pairs];
const CREATE: &[Mode] = &[Mode::Kill, Mode::Double];
/// What a creator leaves over an old ring is what it leaves over nothing, or nothing: its recovery is the other row's.
const CREATE_OVER: &[Mode] = &[Mode::Kill];

fn row<R: Rig>(
    name: &'static str,
    deed: Deed,
    before: u64,
    filled: u64,
    modes: &'static [Mode],
) -> RingOperation<R> {
    RingOperation {
        name,
        deed,
        before,
        late: 0,
        filled,
        modes,
        wraps: false,
        beside_attacher: false,
        held: RefCell::default(),
        head: Cell::default(),
        owners: Cell::default(),
    }
}

impl<R: Rig> RingOperation<R> {
    /// The deed goes over the wrap.
    fn wrapping(mut self) -> Self {
        self.wraps = true;
        self
    }

    /// The consumer has consumed `late` messages that it has not released.
    fn late(mut self, late: u64) -> Self {
        self.late = late;
        self
    }

    fn beside_attacher(mut self) -> Self {
        self.beside_attacher = true;
        self
    }
}

fn table<R: Rig>() -> Vec<Box<dyn Operation>> {
    let wraps = R::WRAPS;
    let rows = [
        row::<R>("push", Deed::Push, 2, 1, DATA),
        row("push over the wrap", Deed::Push, wraps, 0, DATA).wrapping(),
        row("push into a full ring", Deed::Push, 1, 4, DATA),
        row("batch over the wrap", Deed::PushBatch, 3, 0, DATA).wrapping(),
        row("reserve and commit", Deed::Commit, wraps - 1, 1, DATA).wrapping(),
        row("reserve and abort", Deed::Abort, wraps - 1, 1, DATA).wrapping(),
        row("pop", Deed::Pop, 2, 2, DATA),
        row("pop over the wrap", Deed::Pop, wraps, 2, DATA).wrapping(),
        row("pop from an empty ring", Deed::Pop, 2, 0, DATA),
        row("pop a batch", Deed::PopBatch, 3, 3, DATA).wrapping(),
        row("read in place and release", Deed::PopInPlace, wraps, 2, DATA).wrapping(),
        row("peek", Deed::Peek, wraps, 2, DATA).wrapping(),
        row("pop, release not due", Deed::Pop, 2, 2, LATE).late(1),
        row("pop, release due", Deed::Pop, 2, 2, LATE).late(2),
        row("pop a batch, release due", Deed::PopBatch, 2, 3, LATE).late(1),
        row("pop late from an empty ring", Deed::Pop, 2, 0, LATE).late(1),
        row("read in place, release due", Deed::PopInPlace, 2, 2, LATE).late(2),
        row("attach a producer", Deed::AttachProducer, 3, 2, ROLE),
        row("attach a consumer", Deed::AttachConsumer, 3, 2, ROLE),
        row("detach a producer", Deed::DetachProducer, 3, 2, ROLE),
        row("detach a consumer", Deed::DetachConsumer, 3, 2, ROLE),
        row("detach a late consumer", Deed::DetachConsumer, 2, 1, ROLE).late(1),
        row("replace a producer", Deed::ReplaceProducer, 3, 2, ROLE),
        row("replace a consumer", Deed::ReplaceConsumer, 3, 2, ROLE),
        row("replace beside an attacher", Deed::ReplaceProducer, 3, 2, PAIR).beside_attacher(),
        row("create", Deed::Create, 0, 0, CREATE),
        row("create over an old ring", Deed::CreateOver, 2, 2, CREATE_OVER),
    ];
    rows.into_iter().map(|row| Box::new(row) as Box<dyn Operation>).collect()
}

/// The operations of both kinds of ring.
pub(super) fn operations() -> Vec<Box<dyn Operation>> {
    table::<Fixed>().into_iter().chain(table::<Bytes>()).collect()
}

type Verdict<T> = Result<T, String>;

impl<R: Rig> RingOperation<R> {
    fn open(stage: &Stage) -> Verdict<R::Ring> {
        R::open(region(stage.segment(), stage.bytes())?).map_err(|error| format!("opening: {error}"))
    }

    /// The number of the first message that nobody published yet.
    fn end(&self) -> u64 {
        self.before + self.late + self.filled
    }

    /// The number of the first message that nobody consumed yet.
    fn start(&self) -> u64 {
        self.before + self.late
    }

    /// Handles of a run would write into the next run's ring when dropped: their process is to be as dead.
    fn forget(&self) {
        #[expect(clippy::mem_forget, reason = "what a dead process leaves is exactly what is wanted")]
        std::mem::forget(self.held.take());
    }

    /// How often the victim's consumer publishes its position.
    fn period(&self) -> u64 {
        if self.late > 0 { R::LATE } else { 1 }
    }

    /// The position of message `id`, or of the padding before it.
    fn position_of(id: u64) -> u64 {
        (0..id).fold(0, |at, id| {
            let (padding, size) = R::elements(at, id);
            at + padding + size
        })
    }

    /// Whether so many elements fit behind everything pushed while the consumer released no more than at the start.
    fn fits(&self, elements: u64) -> bool {
        Self::position_of(self.end()) + elements <= Self::position_of(self.before) + R::CAPACITY
    }

    /// Elements that a push needs.
    fn needs(&self) -> u64 {
        let end = Self::position_of(self.end());
        match self.deed {
            Deed::Commit | Deed::Abort => R::reserved(end),
            _ => Self::position_of(self.end() + self.deed.publishes()) - end,
        }
    }

    /// Messages that the victim is given if it is given anything.
    fn gives(&self) -> u64 {
        if self.deed == Deed::Peek { 1 } else { self.deed.consumes() }
    }

    /// What the victim answers if nobody acts beside it.
    fn must_answer(&self) -> u64 {
        let refused =
            (self.deed.pushes() && !self.fits(self.needs())) || (self.deed.pops() && self.filled == 0);
        if refused { REFUSED } else { DONE }
    }

    /// Checks the victim's answer; `alone` if nobody acted beside it.
    fn check_answer(&self, answer: Option<u64>, alone: bool) -> Verdict<()> {
        let (Some(found), must) = (answer, self.must_answer()) else {
            return Ok(());
        };
        // A ring that was empty or full may have changed before the victim looked.
        if found == must || (!alone && must == REFUSED && found == DONE) {
            return Ok(());
        }
        Err(format!("expected the answer {must}, found {found}"))
    }

    /// The first message that is not released after the victim consumed `count`, by the documented rule: the position
    /// is published when at least a period of elements is consumed and unpublished.
    fn released(&self, count: u64) -> u64 {
        let mut at = Self::position_of(self.before);
        let (mut published, mut first) = (at, self.before);
        let in_one_step = R::EXACT && self.deed == Deed::PopBatch;
        for id in self.before..self.start() + count {
            let (padding, size) = R::elements(at, id);
            for (step, next) in [(padding, id), (size, id + 1)] {
                at += step;
                let pending = in_one_step && next > self.start() && next < self.start() + count;
                if step > 0 && !pending && at - published >= self.period() {
                    (published, first) = (at, next);
                }
            }
        }
        first
    }

    /// The messages at which a successor may go on, after this answer.
    fn resumes(&self, answer: Option<u64>) -> Vec<u64> {
        let consumed = self.deed.consumes();
        match (self.deed, answer) {
            (Deed::DetachConsumer, Some(_)) => vec![self.start()],
            (Deed::DetachConsumer, None) => vec![self.before, self.start()],
            _ if consumed == 0 => vec![self.before],
            (_, Some(DONE)) => vec![self.released(consumed)],
            // A consumer that finds nothing releases everything.
            (_, Some(_)) => vec![self.start()],
            (_, None) if self.filled == 0 => vec![self.before, self.start()],
            (_, None) => (0..=consumed).map(|count| self.released(count)).collect(),
        }
    }

    /// Checks where a successor goes on: at one of `expected`, and by the promise of a bounded redelivery.
    fn check_resumed(&self, first: u64, position: u64, answer: Option<u64>, expected: &[u64]) -> Verdict<()> {
        if !expected.contains(&first) {
            return Err(format!("expected to go on at one of {expected:?}, found {first}"));
        }
        if self.deed.consumes() > 0 && answer == Some(DONE) {
            let again = Self::position_of(self.start() + self.deed.consumes()).wrapping_sub(position);
            if again >= self.period() {
                return Err(format!("expected less than {} elements again, found {again}", self.period()));
            }
        }
        Ok(())
    }

    /// Who holds the victim's role, and who held it at the start; the other role's likewise.
    fn owners(&self, ring: &R::Ring) -> [(Option<Owner>, Option<Owner>); 2] {
        let ([producer, consumer], deed) = (self.owners.get(), self.deed);
        let producer = (R::producer_owner(ring), producer);
        let consumer = (R::consumer_owner(ring), consumer);
        if deed.consumers() { [consumer, producer] } else { [producer, consumer] }
    }

    /// Checks who holds the victim's role, before survivors take any; `others` if the others had no reason to touch
    /// their own.
    fn check_owners(&self, ring: &R::Ring, answer: Option<u64>, others: bool) -> Verdict<()> {
        let [(found, before), (other, other_before)] = self.owners(ring);
        if others && other != other_before {
            return Err(format!("expected the other role as before, {other_before:?}, found {other:?}"));
        }
        let deed = self.deed;
        let taken = match (found, before) {
            (Some(found), Some(before)) => found.generation == before.generation.wrapping_add(1),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let happened = match deed {
            _ if deed.attaches() || deed.replaces() => taken,
            _ if deed.detaches() => found.is_none(),
            _ => found == before,
        };
        match answer {
            Some(DONE) if !happened => {
                Err(format!("{deed:?} was done, but the owner is {found:?}, was {before:?}"))
            }
            _ if !happened && found != before => {
                Err(format!("expected the owner as before, {before:?}, or {deed:?} done, found {found:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Checks who holds the role that a recoverer took over, or was about to.
    fn check_recovered(&self, ring: &R::Ring, answer: Option<u64>) -> Verdict<()> {
        let [(found, before), (other, other_before)] = self.owners(ring);
        if other != other_before {
            return Err(format!("expected the other role as before, {other_before:?}, found {other:?}"));
        }
        match answer {
            None => Ok(()),
            Some(DONE) if found.is_some() && found != before => Ok(()),
            answer => Err(format!("expected the role to be recovered, found {answer:?} and owner {found:?}")),
        }
    }

    /// The producer's role: free, or held by a process that the explorer waited for.
    fn any_producer(ring: &R::Ring) -> Verdict<R::Producer> {
        let producer = match R::producer_owner(ring) {
            None => R::producer(ring),
            // SAFETY: survivors run when every process that held a handle is dead, and the explorer waited for it;
            // the process that prepared lives, but has forgotten its handles.
            Some(dead) => unsafe { R::replace_producer(ring, dead) },
        };
        producer.map_err(|error| format!("taking the producer's role over: {error}"))
    }

    /// The consumer's role, likewise.
    fn any_consumer(ring: &R::Ring) -> Verdict<R::Consumer> {
        let consumer = match R::consumer_owner(ring) {
            None => R::consumer(ring),
            // SAFETY: as above.
            Some(dead) => unsafe { R::replace_consumer(ring, dead) },
        };
        consumer.map_err(|error| format!("taking the consumer's role over: {error}"))
    }

    /// Pops everything there is; the numbers must follow each other. Returns the first and the one behind the last.
    fn drain(consumer: &mut R::Consumer, at_least: u64) -> Verdict<(u64, u64)> {
        let mut range = None;
        loop {
            match R::pop(consumer) {
                Popped::Message(id) => match &mut range {
                    None => range = Some((id, id + 1)),
                    Some((_, next)) if *next == id => *next += 1,
                    Some((_, next)) => return Err(format!("expected message {next}, found {id}")),
                },
                Popped::Empty => return Ok(range.unwrap_or((at_least, at_least))),
                Popped::Torn => return Err("found a torn message".to_owned()),
                Popped::Corrupt => return Err("found the ring corrupt".to_owned()),
            }
        }
    }

    /// Three laps: fill until refused, over-fill refused, drain in order.
    fn laps(producer: &mut R::Producer, consumer: &mut R::Consumer, mut next: u64) -> Verdict<()> {
        R::release(consumer);
        for lap in 0..3 {
            let mut pushed = 0;
            while R::push(producer, next + pushed) == Pushed::Done {
                pushed += 1;
                if pushed > R::CAPACITY {
                    return Err(format!("lap {lap}: pushed more than fits"));
                }
            }
            if pushed < R::FITS || (R::EXACT && pushed != R::FITS) {
                return Err(format!("lap {lap}: expected room for {} messages, found {pushed}", R::FITS));
            }
            let found = Self::drain(consumer, next)?;
            if found != (next, next + pushed) {
                return Err(format!(
                    "lap {lap}: expected messages {next} to {}, found {found:?}",
                    next + pushed
                ));
            }
            next += pushed;
        }
        Ok(())
    }

    /// Checks up to where the survivors drained, and says what became of the deed.
    fn check_published(&self, last: u64, answer: Option<u64>) -> Verdict<bool> {
        let (end, published) = (self.end(), self.deed.publishes());
        let expected = match answer {
            Some(DONE) => [end + published; 2],
            Some(_) => [end; 2],
            None => [end, end + published],
        };
        if !expected.contains(&last) {
            return Err(format!("answered {answer:?}: expected messages up to {expected:?}, found {last}"));
        }
        Ok(published > 0 && last > end)
    }

    fn outcome(&self, published: bool, first: u64, answer: Option<u64>) -> Outcome {
        let consumed = self.deed.consumes() > 0 && first > self.before;
        let present = if self.deed.publishes() > 0 { published } else { consumed || answer == Some(DONE) };
        if present { Outcome::Present } else { Outcome::Absent }
    }

    /// Numbers that an act handed out: how many, checked to be the right ones.
    fn handed_out(&self, stage: &Stage, role: Role) -> Verdict<u64> {
        let peeks = role == Role::First && self.deed == Deed::Peek;
        let [count, ids @ ..] = stage.output(role);
        // ORD stage: Relaxed, the act's process has ended.
        let count = count.load(Ordering::Relaxed);
        if count > MOST as u64 {
            return Err(format!("expected at most {MOST} messages, found {count}"));
        }
        for (id, expected) in ids.iter().zip(self.start()..).take(usize::try_from(count).unwrap_or(MOST)) {
            // ORD stage: Relaxed, as above.
            let id = id.load(Ordering::Relaxed);
            let expected = if peeks { R::peeked(expected) } else { expected };
            if id != expected {
                return Err(format!("expected to be given {expected}, found {id}"));
            }
        }
        Ok(count)
    }

    /// As [`handed_out`](Self::handed_out); the victim that answered `DONE` was given all that it asked for.
    fn given(&self, stage: &Stage, answer: Option<u64>) -> Verdict<()> {
        let given = self.handed_out(stage, Role::First)?;
        // Beside a ring that was empty a batch may be given less; no row has one.
        if answer == Some(DONE) && given != self.gives() {
            return Err(format!("expected to be given {} messages, found {given}", self.gives()));
        }
        if answer == Some(REFUSED) && given != 0 {
            return Err(format!("refused, but was given {given} messages"));
        }
        Ok(())
    }

    fn act_pushing(&self, mut producer: R::Producer) -> Act<'_> {
        let (deed, id) = (self.deed, self.end());
        Box::new(move || {
            result(match deed {
                Deed::Push => R::push(&mut producer, id),
                Deed::PushBatch => R::push_batch(&mut producer, id, 3),
                Deed::Commit => R::reserve(&mut producer, id, true),
                _ => R::reserve(&mut producer, id, false),
            })
        })
    }

    fn act_popping<'a>(&'a self, mut consumer: R::Consumer, stage: &'a Stage, role: Role) -> Act<'a> {
        let deed = if role == Role::Second { Deed::Pop } else { self.deed };
        Box::new(move || {
            let mut found = [Popped::Empty; MOST];
            let [one, ..] = &mut found;
            match deed {
                Deed::PopBatch => R::pop_batch(&mut consumer, found.get_mut(..3).unwrap_or_default()),
                Deed::PopInPlace => *one = R::pop_in_place(&mut consumer),
                Deed::Peek => *one = R::peek(&mut consumer),
                _ => *one = R::pop(&mut consumer),
            }
            hand_out(stage, role, &found)
        })
    }
}

fn result(pushed: Pushed) -> u64 {
    match pushed {
        Pushed::Done => DONE,
        Pushed::Full => REFUSED,
        Pushed::Corrupt => CORRUPT,
    }
}

/// Leaves what was popped in the act's output: the count, then the numbers.
fn hand_out(stage: &Stage, role: Role, found: &[Popped; MOST]) -> u64 {
    let [count, ids @ ..] = stage.output(role);
    let mut n = 0;
    for (to, popped) in ids.iter().zip(found) {
        match popped {
            Popped::Message(id) => {
                // ORD stage: Relaxed, read after this process has ended.
                to.store(*id, Ordering::Relaxed);
                n += 1;
                // ORD stage: Relaxed, as above.
                count.store(n, Ordering::Relaxed);
            }
            Popped::Empty => break,
            Popped::Torn => return TORN,
            Popped::Corrupt => return CORRUPT,
        }
    }
    if n > 0 { DONE } else { REFUSED }
}

impl<R: Rig> Operation for RingOperation<R> {
    fn structure(&self) -> &'static str {
        R::STRUCTURE
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn bytes(&self) -> usize {
        R::bytes()
    }

    fn modes(&self) -> &'static [Mode] {
        self.modes
    }

    fn capacity(&self) -> u64 {
        R::CAPACITY
    }

    fn names(&self) -> Vec<usize> {
        R::owner_words().to_vec()
    }

    fn prepare(&self, stage: &Stage) -> Verdict<()> {
        self.forget();
        if self.deed.creates() {
            // SAFETY: the whole segment, which only this process uses now; a line of it is no valid header.
            unsafe { stage.segment().as_ptr().write_bytes(0xA5, stage.bytes()) };
        }
        if self.deed == Deed::Create {
            return Ok(());
        }
        let ring = R::create(region(stage.segment(), stage.bytes())?)?;
        let error = |error| format!("preparing: {error}");
        let mut producer = R::producer(&ring).map_err(error)?;
        let mut consumer = R::consumer(&ring).map_err(error)?;
        let lost = |id| format!("preparing: message {id} did not pass");
        for id in 0..self.before {
            if R::push(&mut producer, id) != Pushed::Done || R::pop(&mut consumer) != Popped::Message(id) {
                return Err(lost(id));
            }
        }
        R::release(&mut consumer);
        R::tune(&mut consumer, self.period());
        for id in self.before..self.end() {
            if R::push(&mut producer, id) != Pushed::Done {
                return Err(format!("preparing: no room for message {id}"));
            }
        }
        for id in self.before..self.start() {
            if R::pop(&mut consumer) != Popped::Message(id) {
                return Err(lost(id));
            }
        }
        self.head.set(R::position(&consumer));
        let positions = [self.head.get(), R::tail(&producer)];
        self.check_prepared(positions)?;
        // Free roles for attaching; held ones, as by a process that died, for replacing; ours for the rest.
        if self.deed.attaches() {
            drop((producer, consumer));
        } else {
            *self.held.borrow_mut() = Held { producer: Some(producer), consumer: Some(consumer) };
        }
        self.owners.set([R::producer_owner(&ring), R::consumer_owner(&ring)]);
        Ok(())
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let missing = || "the role was not prepared".to_owned();
        let ring = (!self.deed.creates()).then(|| Self::open(stage)).transpose()?;
        let ring = move || ring.ok_or_else(missing);
        Ok(match self.deed {
            Deed::Push | Deed::PushBatch | Deed::Commit | Deed::Abort => {
                self.act_pushing(self.held.borrow_mut().producer.take().ok_or_else(missing)?)
            }
            Deed::Pop | Deed::PopBatch | Deed::PopInPlace | Deed::Peek => {
                let consumer = self.held.borrow_mut().consumer.take();
                self.act_popping(consumer.ok_or_else(missing)?, stage, Role::First)
            }
            Deed::AttachProducer => {
                let (ring, mut kept) = (ring()?, None);
                Box::new(move || answer(R::producer(&ring), &mut kept))
            }
            Deed::AttachConsumer => {
                let (ring, mut kept) = (ring()?, None);
                Box::new(move || answer(R::consumer(&ring), &mut kept))
            }
            Deed::DetachProducer => {
                let mut producer = self.held.borrow_mut().producer.take();
                Box::new(move || u64::from(producer.take().is_some()))
            }
            Deed::DetachConsumer => {
                let mut consumer = self.held.borrow_mut().consumer.take();
                Box::new(move || u64::from(consumer.take().is_some()))
            }
            Deed::ReplaceProducer => {
                let (ring, mut kept) = (ring()?, None);
                let dead = R::producer_owner(&ring).ok_or_else(missing)?;
                // SAFETY: the process that prepared has forgotten the handle.
                Box::new(move || answer(unsafe { R::replace_producer(&ring, dead) }, &mut kept))
            }
            Deed::ReplaceConsumer => {
                let (ring, mut kept) = (ring()?, None);
                let dead = R::consumer_owner(&ring).ok_or_else(missing)?;
                // SAFETY: as above.
                Box::new(move || answer(unsafe { R::replace_consumer(&ring, dead) }, &mut kept))
            }
            Deed::Create | Deed::CreateOver => {
                let mut region = Some(region(stage.segment(), stage.bytes())?);
                let mut kept = None;
                Box::new(move || match region.take() {
                    Some(region) => created(R::create(region), &mut kept),
                    None => REFUSED,
                })
            }
        })
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let answer = seen.first;
        self.check_answer(answer, true)?;
        if self.deed.creates() {
            return self.judge_create(stage, seen);
        }
        let ring = Self::open(stage)?;
        self.given(stage, answer)?;
        // ORD stage: Relaxed, the act's process has ended.
        if stage.output(Role::Second).get(RECOVERED).is_some_and(|mark| mark.load(Ordering::Relaxed) != 0) {
            self.check_recovered(&ring, seen.second)?;
        } else {
            self.check_owners(&ring, answer, true)?;
        }
        let mut consumer = Self::any_consumer(&ring)?;
        let position = R::position(&consumer);
        let (first, last) = Self::drain(&mut consumer, self.end())?;
        let published = self.check_published(last, answer)?;
        self.check_resumed(first, position, answer, &self.resumes(answer))?;
        let mut producer = Self::any_producer(&ring)?;
        Self::laps(&mut producer, &mut consumer, last)?;
        Ok(self.outcome(published, first, answer))
    }

    fn interfere(&self, stage: &Stage) -> Verdict<()> {
        let ring = Self::open(stage)?;
        let [count, ..] = stage.notes();
        if self.deed.consumers() {
            // The producer goes on until the ring is full, and is refused as often as it likes.
            let mut producer = Self::any_producer(&ring)?;
            let mut n = 0;
            for _ in 0..3 * R::CAPACITY {
                match R::push(&mut producer, self.end() + n) {
                    Pushed::Done => n += 1,
                    Pushed::Full => {}
                    Pushed::Corrupt => return Err("the producer found the ring corrupt".to_owned()),
                }
            }
            // ORD stage: Relaxed, read after this process has ended.
            count.store(n, Ordering::Relaxed);
        } else {
            let mut consumer = Self::any_consumer(&ring)?;
            for _ in 0..3 {
                let (first, last) = Self::drain(&mut consumer, self.end())?;
                // ORD stage: Relaxed, as above; numbers follow each other, so the sum is the count.
                count.fetch_add(last - first, Ordering::Relaxed);
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
        self.given(stage, answer)?;
        let ring = Self::open(stage)?;
        // The others took their role over and let it go.
        self.check_owners(&ring, answer, false)?;
        let [count, ..] = stage.notes();
        // ORD stage: Relaxed, the others have ended.
        let count = count.load(Ordering::Relaxed);
        let mut consumer = Self::any_consumer(&ring)?;
        let position = R::position(&consumer);
        let mut producer = Self::any_producer(&ring)?;
        if self.deed.consumers() {
            let end = self.end() + count;
            let (first, last) = Self::drain(&mut consumer, end)?;
            if last != end {
                return Err(format!("expected messages up to {end}, found {last}"));
            }
            self.check_resumed(first, position, answer, &self.resumes(answer))?;
            Self::laps(&mut producer, &mut consumer, end)?;
            Ok(self.outcome(false, first, answer))
        } else {
            // What the others drained while the victim was frozen may include its message.
            let lowest = self.before + count;
            let (first, last) = Self::drain(&mut consumer, lowest)?;
            let published = self.check_published(last, answer)?;
            if first != lowest {
                return Err(format!("expected to go on at {lowest}, found {first}"));
            }
            Self::laps(&mut producer, &mut consumer, last)?;
            Ok(self.outcome(published, self.before, answer))
        }
    }

    fn partner<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let deed = self.deed;
        if !deed.pushes() && !deed.pops() {
            return self.rival(stage);
        }
        let missing = || "the role was not prepared".to_owned();
        if deed.consumers() {
            let mut producer = self.held.borrow_mut().producer.take().ok_or_else(missing)?;
            let id = self.end();
            Ok(Box::new(move || result(R::push(&mut producer, id))))
        } else {
            let consumer = self.held.borrow_mut().consumer.take();
            Ok(self.act_popping(consumer.ok_or_else(missing)?, stage, Role::Second))
        }
    }

    fn judge_pair(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let (Some(first), Some(second)) = (seen.first, seen.second) else {
            return Err(format!("expected both to come to an end, found {seen:?}"));
        };
        let ring = Self::open(stage)?;
        if !self.deed.pushes() && !self.deed.pops() {
            return self.judge_rivals(&ring, first, second);
        }
        self.check_answer(Some(first), false)?;
        self.given(stage, Some(first))?;
        let (pushed, expected) = if self.deed.consumers() {
            let needs = Self::position_of(self.end() + 1) - Self::position_of(self.end());
            self.check_partner(second, self.fits(needs))?;
            (u64::from(second == DONE), self.resumes(Some(first)))
        } else {
            self.check_partner(second, self.filled > 0)?;
            let given = self.handed_out(stage, Role::Second)?;
            if given != u64::from(second == DONE) {
                return Err(format!("the partner answered {second}, but was given {given} messages"));
            }
            (if first == DONE { self.deed.publishes() } else { 0 }, vec![self.before + given])
        };
        let end = self.end() + pushed;
        let mut consumer = Self::any_consumer(&ring)?;
        let position = R::position(&consumer);
        let found = Self::drain(&mut consumer, end)?;
        if found.1 != end {
            return Err(format!("{pushed} pushed: expected messages up to {end}, found {found:?}"));
        }
        self.check_resumed(found.0, position, Some(first), &expected)?;
        let mut producer = Self::any_producer(&ring)?;
        Self::laps(&mut producer, &mut consumer, end)?;
        Ok(if pushed > 0 { Outcome::Present } else { Outcome::Absent })
    }

    fn recover<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        if let Some(mark) = stage.output(Role::Second).get(RECOVERED) {
            // ORD stage: Relaxed, read after this process has ended.
            mark.store(1, Ordering::Relaxed);
        }
        if self.deed.creates() {
            return Self::create_again(stage);
        }
        let ring = Self::open(stage)?;
        if self.deed.consumers() {
            let mut kept = None;
            Ok(Box::new(move || created(Self::any_consumer(&ring), &mut kept)))
        } else {
            let mut kept = None;
            Ok(Box::new(move || created(Self::any_producer(&ring), &mut kept)))
        }
    }

    fn control_words(&self) -> Vec<usize> {
        if self.deed.consumers() { R::believed_at(self.head.get()) } else { vec![R::head_word()] }
    }

    fn judge_flipped(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let Some(result) = seen.first else {
            return Err("the victim did not come to an end".to_owned());
        };
        if ![DONE, REFUSED, CORRUPT, TORN].contains(&result) {
            return Err(format!("expected one of the answers, found {result}"));
        }
        // A lie that is as good as the truth gives an answer; what it says lies within the data. Numbers that no
        // message had are `TORN`: the bytes of a lying peer are its own affair.
        let [count, ids @ ..] = stage.output(Role::First);
        // ORD stage: Relaxed, the act's process has ended.
        let count = count.load(Ordering::Relaxed);
        if count > MOST as u64 {
            return Err(format!("expected at most {MOST} messages, found {count}"));
        }
        for id in ids.iter().take(usize::try_from(count).unwrap_or(MOST)) {
            // ORD stage: Relaxed, as above.
            let id = id.load(Ordering::Relaxed);
            let most = if self.deed == Deed::Peek { R::peeked_most(self.end()) } else { self.end() };
            if id > most + self.deed.publishes() {
                return Err(format!("expected a message that was ever sent, found {id}"));
            }
        }
        Ok(if result == DONE { Outcome::Present } else { Outcome::Absent })
    }
}

impl<R: Rig> RingOperation<R> {
    /// Checks that the sizes that verdicts are computed from are those of the ring, and that the deed wraps if it is to.
    fn check_prepared(&self, [head, tail]: [u64; 2]) -> Verdict<()> {
        let expected = Self::position_of(self.end());
        if tail != expected {
            return Err(format!("preparing: expected the tail at {expected}, found {tail}"));
        }
        let (at, sizes) = if self.deed.pops() {
            let count = if self.deed == Deed::PopInPlace { 2 } else { self.gives() };
            let sizes = (self.start()..self.start() + count).map(|id| R::elements(0, id).1).sum::<u64>();
            (head, (Self::position_of(self.start() + count) - head, sizes))
        } else {
            let ids = self.end()..self.end() + self.deed.publishes();
            let sizes = ids.map(|id| R::elements(0, id).1).sum::<u64>();
            (tail, (self.needs(), if self.deed == Deed::Push { sizes } else { sizes.min(R::reserved(0)) }))
        };
        let (taken, sizes) = sizes;
        let reaches = at % R::CAPACITY + taken >= R::CAPACITY;
        let pads = R::EXACT || taken > sizes;
        if self.wraps && !(reaches && pads) {
            return Err(format!("preparing: {taken} elements from {at} on do not go over the wrap"));
        }
        Ok(())
    }

    fn check_partner(&self, answer: u64, must: bool) -> Verdict<()> {
        match answer {
            DONE => Ok(()),
            REFUSED if !must => Ok(()),
            _ => Err(format!("the partner of {:?} must be served: {must}, but answered {answer}", self.deed)),
        }
    }

    /// Somebody else who wants the victim's role.
    fn rival<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        if self.deed.replaces() && !self.beside_attacher {
            return self.victim(stage);
        }
        let ring = Self::open(stage)?;
        Ok(if self.deed.consumers() {
            let mut kept = None;
            Box::new(move || answer(R::consumer(&ring), &mut kept))
        } else {
            let mut kept = None;
            Box::new(move || answer(R::producer(&ring), &mut kept))
        })
    }

    /// Of two that want one role, exactly one has it, and the other was told why not.
    fn judge_rivals(&self, ring: &R::Ring, first: u64, second: u64) -> Verdict<Outcome> {
        let deed = self.deed;
        let legal: &[(u64, u64)] = match deed {
            _ if deed.attaches() => &[(DONE, TAKEN), (TAKEN, DONE)],
            // A held role is never free while it is replaced.
            _ if deed.replaces() && self.beside_attacher => &[(DONE, TAKEN)],
            _ if deed.replaces() => &[(DONE, CHANGED), (CHANGED, DONE)],
            _ => &[(DONE, DONE), (DONE, TAKEN)],
        };
        if !legal.contains(&(first, second)) {
            return Err(format!("expected one of the answers {legal:?}, found {first} and {second}"));
        }
        let [(found, before), (other, other_before)] = self.owners(ring);
        if other != other_before {
            return Err(format!("expected the other role as before, {other_before:?}, found {other:?}"));
        }
        let free = deed.detaches() && second == TAKEN;
        if found.is_none() != free || (found.is_some() && found == before) {
            return Err(format!("answered {first} and {second}, but the owner is {found:?}, was {before:?}"));
        }
        let mut consumer = Self::any_consumer(ring)?;
        let (from, to) = Self::drain(&mut consumer, self.end())?;
        self.check_resumed(from, 0, None, &self.resumes(Some(DONE)))?;
        self.check_published(to, Some(DONE))?;
        let mut producer = Self::any_producer(ring)?;
        Self::laps(&mut producer, &mut consumer, to)?;
        Ok(if first == DONE { Outcome::Present } else { Outcome::Absent })
    }

    /// Opens the ring; `None` if there is no structure at all.
    fn open_if_any(stage: &Stage) -> Verdict<Option<R::Ring>> {
        match R::open(region(stage.segment(), stage.bytes())?) {
            Ok(ring) => Ok(Some(ring)),
            Err(AttachError::Incompatible(error)) if error.field == Field::Magic => Ok(None),
            Err(error) => Err(format!("expected a ring or no magic: {error}")),
        }
    }

    /// Creates what a creator that died did not.
    fn create_again<'a>(stage: &'a Stage) -> Verdict<Act<'a>> {
        let mut kept = None;
        Ok(Box::new(move || match Self::open_if_any(stage) {
            Ok(Some(_)) => DONE,
            Ok(None) => {
                let ring = region(stage.segment(), stage.bytes()).and_then(R::create);
                created(ring, &mut kept)
            }
            Err(_) => CORRUPT,
        }))
    }

    /// The new ring is there, whole, or the old one is, whole, or nothing is; where nothing is, it can be created.
    fn judge_create(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if seen.second.is_some_and(|answer| answer != DONE) {
            return Err(format!("expected that a ring can be created, found {seen:?}"));
        }
        let answered = [seen.first, seen.second].contains(&Some(DONE));
        let (ring, there) = match Self::open_if_any(stage)? {
            Some(ring) => (ring, true),
            None if answered => return Err("a ring was created, but there is none".to_owned()),
            None => (R::create(region(stage.segment(), stage.bytes())?)?, false),
        };
        let owners = [R::producer_owner(&ring), R::consumer_owner(&ring)];
        let new = owners == [None; 2];
        let old = self.deed == Deed::CreateOver && there && owners == self.owners.get();
        if !new && (!old || seen.first.is_some()) {
            return Err(format!("expected free roles in a new ring, found {owners:?}"));
        }
        let mut producer = Self::any_producer(&ring)?;
        let mut consumer = Self::any_consumer(&ring)?;
        let positions = [R::position(&consumer), R::tail(&producer)];
        let expected = if new { [0; 2] } else { [self.before, self.end()].map(Self::position_of) };
        if positions != expected {
            return Err(format!("expected the positions {expected:?}, found {positions:?}"));
        }
        let (from, to) = if new { (0, 0) } else { (self.before, self.end()) };
        let found = Self::drain(&mut consumer, to)?;
        if found != (from, to) {
            return Err(format!("expected messages {from} to {to}, found {found:?}"));
        }
        Self::laps(&mut producer, &mut consumer, to)?;
        Ok(if new && there { Outcome::Present } else { Outcome::Absent })
    }
}

/// Keeps what was taken, so that dropping it is not part of the step; the act's answer.
fn answer<T>(taken: Result<T, AttachError>, kept: &mut Option<T>) -> u64 {
    match taken {
        Ok(taken) => {
            *kept = Some(taken);
            DONE
        }
        Err(AttachError::RoleTaken(_)) => TAKEN,
        Err(AttachError::OwnerChanged { .. }) => CHANGED,
        Err(_) => CORRUPT,
    }
}

/// As [`answer`], where nothing but corruption can be the reason for an error.
fn created<T>(made: Verdict<T>, kept: &mut Option<T>) -> u64 {
    match made {
        Ok(made) => {
            *kept = Some(made);
            DONE
        }
        Err(_) => CORRUPT,
    }
}
