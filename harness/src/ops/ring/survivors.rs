//! What survivors do, and what they check.

use std::sync::atomic::Ordering;

use super::{CHANGED, DONE, Deed, REFUSED, RingOperation, TAKEN, Verdict, acts};
use crate::explore::{Act, Operation as _, Outcome, Role, Stage};
use crate::ops::rig::{MOST, Popped, Pushed, Rig};

impl<R: Rig> RingOperation<R> {
    /// The producer's role: free, or held by a process that the explorer waited for.
    pub(super) fn any_producer(ring: &R::Ring) -> Verdict<R::Producer> {
        let producer = match R::producer_owner(ring) {
            None => R::producer(ring),
            // SAFETY: survivors run when every process that held a handle is dead, and the explorer waited for it;
            // the process that prepared lives, but has forgotten its handles.
            Some(dead) => unsafe { R::replace_producer(ring, dead) },
        };
        producer.map_err(|error| format!("taking the producer's role over: {error}"))
    }

    /// The consumer's role, likewise.
    pub(super) fn any_consumer(ring: &R::Ring) -> Verdict<R::Consumer> {
        let consumer = match R::consumer_owner(ring) {
            None => R::consumer(ring),
            // SAFETY: as above.
            Some(dead) => unsafe { R::replace_consumer(ring, dead) },
        };
        consumer.map_err(|error| format!("taking the consumer's role over: {error}"))
    }

    /// Pops everything there is; the numbers must follow each other. Returns the first and the one behind the last.
    pub(super) fn drain(consumer: &mut R::Consumer, at_least: u64) -> Verdict<(u64, u64)> {
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
    pub(super) fn laps(producer: &mut R::Producer, consumer: &mut R::Consumer, mut next: u64) -> Verdict<()> {
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
    pub(super) fn check_published(&self, last: u64, answer: Option<u64>) -> Verdict<bool> {
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

    pub(super) fn outcome(&self, published: bool, first: u64, answer: Option<u64>) -> Outcome {
        let consumed = self.deed.consumes() > 0 && first > self.before;
        let present = if self.deed.publishes() > 0 { published } else { consumed || answer == Some(DONE) };
        if present { Outcome::Present } else { Outcome::Absent }
    }

    /// Numbers that an act handed out: how many, checked to be the right ones.
    pub(super) fn handed_out(&self, stage: &Stage, role: Role) -> Verdict<u64> {
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
    pub(super) fn given(&self, stage: &Stage, answer: Option<u64>) -> Verdict<()> {
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
}

impl<R: Rig> RingOperation<R> {
    /// Checks that the sizes that verdicts are computed from are those of the ring, and that the deed wraps if it is to.
    pub(super) fn check_prepared(&self, [head, tail]: [u64; 2]) -> Verdict<()> {
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

    pub(super) fn check_partner(&self, answer: u64, must: bool) -> Verdict<()> {
        match answer {
            DONE => Ok(()),
            REFUSED if !must => Ok(()),
            _ => Err(format!("the partner of {:?} must be served: {must}, but answered {answer}", self.deed)),
        }
    }

    /// Somebody else who wants the victim's role.
    pub(super) fn rival<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        if self.deed.replaces() && !self.beside_attacher {
            return self.victim(stage);
        }
        let ring = Self::open(stage)?;
        Ok(if self.deed.consumers() {
            let mut kept = None;
            Box::new(move || acts::answer(R::consumer(&ring), &mut kept))
        } else {
            let mut kept = None;
            Box::new(move || acts::answer(R::producer(&ring), &mut kept))
        })
    }

    /// Of two that want one role, exactly one has it, and the other was told why not.
    pub(super) fn judge_rivals(&self, ring: &R::Ring, first: u64, second: u64) -> Verdict<Outcome> {
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
}
