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

use tidewire_ring::Owner;

use super::rig::{Bytes, Fixed, MOST, Popped, Pushed, Rig, region};
use crate::explore::{Act, Mode, Operation, Outcome, Role, Seen, Stage};

mod acts;
mod create;
mod deed;
mod model;
mod survivors;

use acts::{answer, created, result};
use deed::Deed;

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
const CREATE: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Double];

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
        row("create over an old ring", Deed::CreateOver, 2, 2, CREATE),
    ];
    rows.into_iter().map(|row| Box::new(row) as Box<dyn Operation>).collect()
}

/// The operations of both kinds of ring.
pub(super) fn operations() -> Vec<Box<dyn Operation>> {
    table::<Fixed>().into_iter().chain(table::<Bytes>()).collect()
}

type Verdict<T> = Result<T, String>;

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
        if self.deed.creates() {
            return self.look_beside(stage);
        }
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
        if self.deed.creates() {
            self.check_answer(answer, true)?;
            return self.judge_create(stage, seen);
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
