//! What must be, computed from the sizes of the messages and the documented rules.

use tidewire_ring::Owner;

use super::{DONE, Deed, REFUSED, RingOperation, Verdict};
use crate::explore::Stage;
use crate::ops::rig::{Rig, region};

impl<R: Rig> RingOperation<R> {
    pub(super) fn open(stage: &Stage) -> Verdict<R::Ring> {
        R::open(region(stage.segment(), stage.bytes())?).map_err(|error| format!("opening: {error}"))
    }

    /// The number of the first message that nobody published yet.
    pub(super) fn end(&self) -> u64 {
        self.before + self.late + self.filled
    }

    /// The number of the first message that nobody consumed yet.
    pub(super) fn start(&self) -> u64 {
        self.before + self.late
    }

    /// Handles of a run would write into the next run's ring when dropped: their process is to be as dead.
    pub(super) fn forget(&self) {
        #[expect(clippy::mem_forget, reason = "what a dead process leaves is exactly what is wanted")]
        std::mem::forget(self.held.take());
    }

    /// How often the victim's consumer publishes its position.
    pub(super) fn period(&self) -> u64 {
        if self.late > 0 { R::LATE } else { 1 }
    }

    /// The position of message `id`, or of the padding before it.
    pub(super) fn position_of(id: u64) -> u64 {
        (0..id).fold(0, |at, id| {
            let (padding, size) = R::elements(at, id);
            at + padding + size
        })
    }

    /// Whether so many elements fit behind everything pushed while the consumer released no more than at the start.
    pub(super) fn fits(&self, elements: u64) -> bool {
        Self::position_of(self.end()) + elements <= Self::position_of(self.before) + R::CAPACITY
    }

    /// Elements that a push needs.
    pub(super) fn needs(&self) -> u64 {
        let end = Self::position_of(self.end());
        match self.deed {
            Deed::Commit | Deed::Abort => R::reserved(end),
            _ => Self::position_of(self.end() + self.deed.publishes()) - end,
        }
    }

    /// Messages that the victim is given if it is given anything.
    pub(super) fn gives(&self) -> u64 {
        if self.deed == Deed::Peek { 1 } else { self.deed.consumes() }
    }

    /// What the victim answers if nobody acts beside it.
    pub(super) fn must_answer(&self) -> u64 {
        let refused =
            (self.deed.pushes() && !self.fits(self.needs())) || (self.deed.pops() && self.filled == 0);
        if refused { REFUSED } else { DONE }
    }

    /// Checks the victim's answer; `alone` if nobody acted beside it.
    pub(super) fn check_answer(&self, answer: Option<u64>, alone: bool) -> Verdict<()> {
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
    pub(super) fn released(&self, count: u64) -> u64 {
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
    pub(super) fn resumes(&self, answer: Option<u64>) -> Vec<u64> {
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
    pub(super) fn check_resumed(
        &self,
        first: u64,
        position: u64,
        answer: Option<u64>,
        expected: &[u64],
    ) -> Verdict<()> {
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
    pub(super) fn owners(&self, ring: &R::Ring) -> [(Option<Owner>, Option<Owner>); 2] {
        let ([producer, consumer], deed) = (self.owners.get(), self.deed);
        let producer = (R::producer_owner(ring), producer);
        let consumer = (R::consumer_owner(ring), consumer);
        if deed.consumers() { [consumer, producer] } else { [producer, consumer] }
    }

    /// Checks who holds the victim's role, before survivors take any; `others` if the others had no reason to touch
    /// their own.
    pub(super) fn check_owners(&self, ring: &R::Ring, answer: Option<u64>, others: bool) -> Verdict<()> {
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
    pub(super) fn check_recovered(&self, ring: &R::Ring, answer: Option<u64>) -> Verdict<()> {
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
}
