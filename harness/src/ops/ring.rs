//! The operations of the rings, stepped at every instruction.
//!
//! Messages are numbered without gaps. [`prepare`](Operation::prepare) moves `before` messages through the ring, so
//! that it wraps where it should, and leaves `filled` in it. Whatever happens to the victim, the survivors must
//! find the numbers that follow from that: everything acknowledged, the operation in flight wholly or not at all,
//! in order, nothing twice but what a consumer had not released.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

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
}

/// Results of acts.
const DONE: u64 = 1;
const REFUSED: u64 = 2;
const CORRUPT: u64 = 3;
const TORN: u64 = 4;

/// The roles that are held when the victim starts, by the process that prepared.
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
    filled: u64,
    modes: &'static [Mode],
    held: RefCell<Held<R>>,
    /// Where the consumer stands when the victim starts.
    head: Cell<u64>,
}

const DATA: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double, Mode::Flip];
const ROLE: &[Mode] = &[Mode::Kill, Mode::Double];
const ALONE: &[Mode] = &[Mode::Kill];

fn row<R: Rig>(
    name: &'static str,
    deed: Deed,
    before: u64,
    filled: u64,
    modes: &'static [Mode],
) -> Box<dyn Operation> {
    Box::new(RingOperation::<R> {
        name,
        deed,
        before,
        filled,
        modes,
        held: RefCell::default(),
        head: Cell::default(),
    })
}

fn table<R: Rig>() -> Vec<Box<dyn Operation>> {
    vec![
        row::<R>("push", Deed::Push, 2, 1, DATA),
        row::<R>("push over the wrap", Deed::Push, 3, 0, DATA),
        row::<R>("push into a full ring", Deed::Push, 1, R::FITS, DATA),
        row::<R>("batch over the wrap", Deed::PushBatch, 3, 0, DATA),
        row::<R>("reserve and commit", Deed::Commit, 3, 1, DATA),
        row::<R>("reserve and abort", Deed::Abort, 3, 1, DATA),
        row::<R>("pop", Deed::Pop, 2, 2, DATA),
        row::<R>("pop over the wrap", Deed::Pop, 3, 2, DATA),
        row::<R>("pop from an empty ring", Deed::Pop, 2, 0, DATA),
        row::<R>("pop a batch", Deed::PopBatch, 3, 3, DATA),
        row::<R>("read in place and release", Deed::PopInPlace, 3, 2, DATA),
        row::<R>("peek", Deed::Peek, 3, 2, DATA),
        row::<R>("attach a producer", Deed::AttachProducer, 3, 2, ROLE),
        row::<R>("attach a consumer", Deed::AttachConsumer, 3, 2, ROLE),
        row::<R>("detach a producer", Deed::DetachProducer, 3, 2, ROLE),
        row::<R>("detach a consumer", Deed::DetachConsumer, 3, 2, ROLE),
        row::<R>("replace a producer", Deed::ReplaceProducer, 3, 2, ROLE),
        row::<R>("replace a consumer", Deed::ReplaceConsumer, 3, 2, ROLE),
        row::<R>("create", Deed::Create, 0, 0, ALONE),
    ]
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
        self.before + self.filled
    }

    fn is_consumer(&self) -> bool {
        matches!(self.deed, Deed::Pop | Deed::PopBatch | Deed::PopInPlace | Deed::Peek)
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

    /// Checks what the survivors drained: the numbers `found.0 .. found.1`, after the others took `taken`.
    fn check(&self, found: (u64, u64), seen: Option<u64>, taken: u64, consumed: u64) -> Verdict<Outcome> {
        let (first, last) = found;
        let (published, done) = (self.deed.publishes(), seen == Some(DONE));
        let whole = last == self.end() + published;
        if last != self.end() && !whole {
            return Err(format!("expected messages up to {} or {published} more, found {last}", self.end()));
        }
        if seen == Some(CORRUPT) || seen == Some(TORN) {
            return Err(format!("expected an honest answer, found {seen:?}"));
        }
        if published > 0 && ((done && !whole) || (seen == Some(REFUSED) && whole)) {
            return Err(format!("answered {seen:?}, but published up to {last}"));
        }
        // What a consumer was given may be seen again, as it may not have been released; nothing may be missing.
        let lowest = self.before + taken;
        let highest = lowest + consumed;
        if first < lowest || first > highest {
            return Err(format!("expected to go on at {lowest} to {highest}, found {first}"));
        }
        let present = if published > 0 { whole } else { first > lowest || done };
        Ok(if present { Outcome::Present } else { Outcome::Absent })
    }

    /// Consumed numbers that an act handed out: how many, checked to be the right ones.
    fn handed_out(&self, stage: &Stage, role: Role, first: u64) -> Verdict<u64> {
        let [count, ids @ ..] = stage.output(role);
        // ORD stage: Relaxed, the act's process has ended.
        let count = count.load(Ordering::Relaxed);
        for (id, expected) in ids.iter().zip(first..).take(usize::try_from(count).unwrap_or(MOST)) {
            // ORD stage: Relaxed, as above.
            let id = id.load(Ordering::Relaxed);
            if id != expected && self.deed != Deed::Peek {
                return Err(format!("expected to be given message {expected}, found {id}"));
            }
        }
        Ok(count)
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
        // Handles of the last run would write into the new ring when dropped: their process is to be as dead.
        #[expect(clippy::mem_forget, reason = "what a dead process leaves is exactly what is wanted")]
        std::mem::forget(self.held.take());
        if self.deed == Deed::Create {
            return Ok(());
        }
        let ring = R::create(region(stage.segment(), stage.bytes())?)?;
        let error = |error| format!("preparing: {error}");
        let mut producer = R::producer(&ring).map_err(error)?;
        let mut consumer = R::consumer(&ring).map_err(error)?;
        for id in 0..self.before {
            if R::push(&mut producer, id) != Pushed::Done || R::pop(&mut consumer) != Popped::Message(id) {
                return Err(format!("preparing: message {id} did not pass"));
            }
        }
        R::release(&mut consumer);
        self.head.set(R::position(&consumer));
        for id in self.before..self.end() {
            if R::push(&mut producer, id) != Pushed::Done {
                return Err(format!("preparing: no room for message {id}"));
            }
        }
        // Free roles for attaching; held ones, as by a process that died, for replacing; ours for the rest.
        let (keep_producer, keep_consumer) = match self.deed {
            Deed::AttachProducer | Deed::AttachConsumer => (false, false),
            _ => (true, true),
        };
        let mut held = self.held.borrow_mut();
        held.producer = keep_producer.then_some(producer);
        held.consumer = keep_consumer.then_some(consumer);
        Ok(())
    }

    fn victim<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let held = self.held.take();
        let missing = || "the role was not prepared".to_owned();
        let ring = (self.deed != Deed::Create).then(|| Self::open(stage)).transpose()?;
        let ring = move || ring.ok_or_else(missing);
        Ok(match self.deed {
            Deed::Push | Deed::PushBatch | Deed::Commit | Deed::Abort => {
                self.act_pushing(held.producer.ok_or_else(missing)?)
            }
            Deed::Pop | Deed::PopBatch | Deed::PopInPlace | Deed::Peek => {
                self.act_popping(held.consumer.ok_or_else(missing)?, stage, Role::First)
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
                let mut producer = held.producer;
                Box::new(move || u64::from(producer.take().is_some()))
            }
            Deed::DetachConsumer => {
                let mut consumer = held.consumer;
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
            Deed::Create => {
                let mut region = Some(region(stage.segment(), stage.bytes())?);
                let mut kept = None;
                Box::new(move || match region.take() {
                    Some(region) => answer(R::create(region), &mut kept),
                    None => REFUSED,
                })
            }
        })
    }

    fn judge(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if self.deed == Deed::Create {
            return self.judge_create(stage, seen);
        }
        let ring = Self::open(stage)?;
        let given = self.handed_out(stage, Role::First, self.before)?;
        let mut consumer = Self::any_consumer(&ring)?;
        let found = Self::drain(&mut consumer, self.end())?;
        let outcome = self.check(found, seen.first, 0, self.deed.consumes().min(self.filled))?;
        if seen.first == Some(DONE) && found.0 > self.before + given && self.deed.consumes() > 0 {
            return Err(format!("{given} messages were handed out, but the next is {}", found.0));
        }
        let mut producer = Self::any_producer(&ring)?;
        Self::laps(&mut producer, &mut consumer, found.1)?;
        Ok(outcome)
    }

    fn interfere(&self, stage: &Stage) -> Verdict<()> {
        let ring = Self::open(stage)?;
        let [count, ..] = stage.notes();
        if self.is_consumer() {
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
        let ring = Self::open(stage)?;
        let [count, ..] = stage.notes();
        // ORD stage: Relaxed, the others have ended.
        let count = count.load(Ordering::Relaxed);
        let mut consumer = Self::any_consumer(&ring)?;
        let mut producer = Self::any_producer(&ring)?;
        let given = self.handed_out(stage, Role::First, self.before)?;
        if seen.first.is_none() {
            return Err("the victim resumed but did not come to an end".to_owned());
        }
        let outcome = if self.is_consumer() {
            let end = self.end() + count;
            let found = Self::drain(&mut consumer, end)?;
            let highest = self.before + given;
            let released = if self.deed == Deed::Peek { self.before } else { highest };
            if found.1 != end || found.0 < self.before || found.0 > released.max(self.before) {
                return Err(format!("expected messages {released} to {end} or from before, found {found:?}"));
            }
            Self::laps(&mut producer, &mut consumer, end)?;
            if given > 0 { Outcome::Present } else { Outcome::Absent }
        } else {
            // What the others drained while the victim was frozen may include its message.
            let lowest = self.before + count;
            let found = Self::drain(&mut consumer, lowest)?;
            let outcome = self.check(found, seen.first, count, 0)?;
            Self::laps(&mut producer, &mut consumer, found.1)?;
            outcome
        };
        Ok(outcome)
    }

    fn partner<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let held = self.held.take();
        let missing = || "the role was not prepared".to_owned();
        if self.is_consumer() {
            let mut producer = held.producer.ok_or_else(missing)?;
            let id = self.end();
            Ok(Box::new(move || result(R::push(&mut producer, id))))
        } else {
            Ok(self.act_popping(held.consumer.ok_or_else(missing)?, stage, Role::Second))
        }
    }

    fn judge_pair(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let (Some(first), Some(second)) = (seen.first, seen.second) else {
            return Err(format!("expected both to come to an end, found {seen:?}"));
        };
        let ring = Self::open(stage)?;
        let popper = if self.is_consumer() { Role::First } else { Role::Second };
        let given = self.handed_out(stage, popper, self.before)?;
        let given = if self.deed == Deed::Peek { 0 } else { given };
        let pushed = match (self.is_consumer(), first, second) {
            (true, _, DONE) => 1,
            (false, DONE, _) => self.deed.publishes(),
            _ => 0,
        };
        let end = self.end() + pushed;
        let mut consumer = Self::any_consumer(&ring)?;
        let found = Self::drain(&mut consumer, end)?;
        if [first, second].iter().any(|result| [CORRUPT, TORN].contains(result)) {
            return Err(format!("expected honest answers, found {first} and {second}"));
        }
        if found.1 != end || found.0 < self.before || found.0 > self.before + given {
            return Err(format!(
                "{given} given, {pushed} pushed: expected messages up to {end}, found {found:?}"
            ));
        }
        // An empty ring must have been empty at some moment, a full one full.
        if given == 0 && self.filled > 0 && self.deed != Deed::Peek {
            return Err("the popping one found a ring empty that never was".to_owned());
        }
        if pushed == 0 && self.filled == 0 && self.deed != Deed::Abort {
            return Err("the pushing one found a ring full that never was".to_owned());
        }
        let mut producer = Self::any_producer(&ring)?;
        Self::laps(&mut producer, &mut consumer, end)?;
        Ok(if pushed > 0 { Outcome::Present } else { Outcome::Absent })
    }

    fn recover<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let ring = Self::open(stage)?;
        let consumer = self.is_consumer()
            || matches!(self.deed, Deed::AttachConsumer | Deed::DetachConsumer | Deed::ReplaceConsumer);
        if consumer {
            let mut kept = None;
            Ok(Box::new(move || answer(Self::any_consumer(&ring), &mut kept)))
        } else {
            let mut kept = None;
            Ok(Box::new(move || answer(Self::any_producer(&ring), &mut kept)))
        }
    }

    fn control_words(&self) -> Vec<usize> {
        if self.is_consumer() { R::believed_at(self.head.get()) } else { vec![R::head_word()] }
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
            if id > self.end() + self.deed.publishes() {
                return Err(format!("expected a message that was ever sent, found {id}"));
            }
        }
        Ok(if result == DONE { Outcome::Present } else { Outcome::Absent })
    }
}

impl<R: Rig> RingOperation<R> {
    /// A ring is there, whole, or nothing is; where nothing is, it can be created.
    fn judge_create(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        let (ring, outcome) = match Self::open(stage) {
            Ok(ring) => (ring, Outcome::Present),
            Err(error) if seen.first.is_some() => return Err(error),
            Err(_) => (R::create(region(stage.segment(), stage.bytes())?)?, Outcome::Absent),
        };
        let mut producer = Self::any_producer(&ring)?;
        let mut consumer = Self::any_consumer(&ring)?;
        Self::laps(&mut producer, &mut consumer, 0)?;
        Ok(outcome)
    }
}

/// Keeps what was taken, so that dropping it is not part of the step; the act's answer.
fn answer<T, E>(taken: Result<T, E>, kept: &mut Option<T>) -> u64 {
    match taken {
        Ok(taken) => {
            *kept = Some(taken);
            DONE
        }
        Err(_) => REFUSED,
    }
}
