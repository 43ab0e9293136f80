//! What survivors do, and what they check.

use tidewire_mpsc::AttachError;
use tidewire_shm::RoleId;

use super::leases::{Holder, Leases, lane_role};
use super::model::Expected;
use super::rig::{Rig, number, place};
use super::{DONE, Deed, LANES, Lane, MpscOperation, Owners, Verdict};
use crate::explore::{Outcome, Stage};
use crate::ops::rig::{Popped, Pushed};

/// What was popped: of each lane the first and the one behind the last, and all in the order of popping.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) lanes: [Option<(u64, u64)>; LANES],
    order: Vec<u64>,
}

impl<R: Rig> MpscOperation<R> {
    /// Pops everything there is; the numbers of each lane must follow each other.
    pub(super) fn drain(consumer: &mut R::Consumer) -> Verdict<Drained> {
        let mut drained = Drained::default();
        loop {
            let id = match R::pop(consumer) {
                Popped::Message(id) => id,
                Popped::Empty => return Ok(drained),
                Popped::Torn => return Err("found a torn message".to_owned()),
                Popped::Corrupt => return Err("found the queue corrupt".to_owned()),
            };
            let (lane, n) = place(id);
            let Some(range) = drained.lanes.get_mut(lane) else {
                return Err(format!("expected a message of one of the lanes, found {id}"));
            };
            match range {
                None => *range = Some((n, n + 1)),
                Some((_, next)) if *next == n => *next += 1,
                Some((_, next)) => return Err(format!("lane {lane}: expected message {next}, found {n}")),
            }
            drained.order.push(id);
        }
    }

    /// The messages that were pushed before the victim started, in that order.
    fn prepared(&self) -> Vec<u64> {
        (0..LANES)
            .flat_map(|lane| (self.before_of(lane)..self.end(lane)).map(move |n| number(lane, n)))
            .collect()
    }

    fn check_order(&self, found: &[u64]) -> Verdict<()> {
        if !R::ORDERED {
            return Ok(());
        }
        let prepared = self.prepared();
        let known: Vec<u64> = found.iter().copied().filter(|id| prepared.contains(id)).collect();
        let rest = prepared.get(prepared.len().saturating_sub(known.len())..).unwrap_or_default();
        if rest == known { Ok(()) } else { Err(format!("expected the order {rest:?}, found {known:?}")) }
    }

    /// Takes the consumer's role over, drains, compares, and goes on for three laps with every lane.
    pub(super) fn survive(&self, stage: &Stage, expected: &[Expected; LANES]) -> Verdict<Drained> {
        let (queue, leases) = (Self::open(stage)?, Leases::survivor(stage)?);
        let mut consumer = R::consumer(&queue, &leases)
            .map_err(|error| format!("taking the consumer's role over: {error}"))?;
        let drained = Self::drain(&mut consumer)?;
        self.check_order(&drained.order)?;
        let mut next = [0; LANES];
        for (lane, ((found, expected), next)) in drained.lanes.iter().zip(expected).zip(&mut next).enumerate()
        {
            let fits = match found {
                Some((first, last)) => expected.first.contains(first) && expected.last.contains(last),
                None => expected.first.iter().any(|first| expected.last.contains(first)),
            };
            if !fits {
                return Err(format!("lane {lane}: expected messages {expected:?}, found {found:?}"));
            }
            let empty = expected.last.iter().copied().find(|last| expected.first.contains(last));
            *next = found.map(|(_, last)| last).or(empty).unwrap_or(0);
        }
        if R::took_out(&mut consumer) {
            return Err("expected sound lanes, found one taken out of use".to_owned());
        }
        Self::laps(&queue, &leases, consumer, &mut next)?;
        Ok(drained)
    }

    /// Every lane can be attached, and there is none more.
    fn attach_all(queue: &R::Queue, leases: &Leases) -> Verdict<Vec<R::Producer>> {
        let mut producers = Vec::new();
        loop {
            match R::producer(queue, leases) {
                Ok(producer) => producers.push(producer),
                Err(AttachError::LanesExhausted { corrupt: 0, .. }) if producers.len() == LANES => {
                    return Ok(producers);
                }
                Err(error) => return Err(format!("attached {} producers, then: {error}", producers.len())),
            }
        }
    }

    /// Three laps of each lane: fill until refused, drain in order. Then everybody leaves.
    fn laps(
        queue: &R::Queue,
        leases: &Leases,
        mut consumer: R::Consumer,
        next: &mut [u64; LANES],
    ) -> Verdict<()> {
        R::release(&mut consumer);
        if R::ORDERED {
            R::reclaim(queue, Some(&mut consumer), leases).map_err(|error| format!("reclaiming: {error}"))?;
        }
        let mut producers = Self::attach_all(queue, leases)?;
        if R::corrupt_lanes(queue) != 0 {
            return Err("expected sound lanes, found that observers are told of corrupt ones".to_owned());
        }
        for producer in &producers {
            let lane = R::lane(producer);
            let expected = Self::position_of(lane, next.get(lane).copied().unwrap_or(0));
            if R::tail(producer) != expected {
                let found = R::tail(producer);
                return Err(format!("lane {lane}: expected that it goes on at {expected}, found {found}"));
            }
        }
        for lap in 0..3 {
            Self::lap(&mut producers, &mut consumer, next, R::FITS, R::EXACT)
                .map_err(|text| format!("lap {lap}: {text}"))?;
        }
        drop(producers);
        let vacant = |role| leases.holder(role) == Holder::Nobody as u64;
        drop(consumer);
        let left = Self::owners_of(queue);
        let leases_left =
            (0..LANES).filter_map(lane_role).chain([RoleId::CONSUMER]).filter(|role| !vacant(*role)).count();
        if left != Owners::default() || leases_left != 0 {
            return Err(format!("expected that everybody has left, found {left:?} and {leases_left} leases"));
        }
        drop(Self::attach_all(queue, leases)?);
        Ok(())
    }

    /// Fills the lanes of the producers until each is refused, and drains them.
    fn lap(
        producers: &mut [R::Producer],
        consumer: &mut R::Consumer,
        next: &mut [u64; LANES],
        fits: u64,
        exact: bool,
    ) -> Verdict<()> {
        let mut pushed = Drained::default();
        for producer in producers {
            let lane = R::lane(producer);
            let (Some(next), Some(range)) = (next.get_mut(lane), pushed.lanes.get_mut(lane)) else {
                return Err(format!("expected one of the lanes, found {lane}"));
            };
            let first = *next;
            while R::push(producer, number(lane, *next)) == Pushed::Done {
                pushed.order.push(number(lane, *next));
                *next += 1;
                if *next - first > R::CAPACITY {
                    return Err(format!("lane {lane}: pushed more than fits"));
                }
            }
            let found = *next - first;
            if found < fits || (exact && found != fits) {
                return Err(format!("lane {lane}: expected room for {fits} messages, found {found}"));
            }
            *range = (found > 0).then_some((first, *next));
        }
        let found = Self::drain(consumer)?;
        if found.lanes != pushed.lanes || (R::ORDERED && found.order != pushed.order) {
            return Err(format!("expected messages {:?}, found {:?}", pushed.lanes, found.lanes));
        }
        Ok(())
    }

    pub(super) fn outcome(&self, drained: &Drained, answer: Option<u64>) -> Outcome {
        let published = drained.lanes.first().copied().flatten().is_some_and(|(_, last)| last > self.end(0));
        let present = if self.deed.publishes() > 0 { published } else { answer.is_some() };
        if present { Outcome::Present } else { Outcome::Absent }
    }
}

/// Beside a frozen victim. What is returned says up to where each lane is filled and consumed.
impl<R: Rig> MpscOperation<R> {
    /// The producers that are at hand, and all that can be had besides.
    fn producers_beside(&self, queue: &R::Queue, leases: &Leases, from: usize) -> Verdict<Vec<R::Producer>> {
        let mut producers = Vec::new();
        for (lane, producer) in self.held.borrow_mut().producers.iter_mut().enumerate().skip(from) {
            if self.lane(lane) == Lane::Ours
                && let Some(producer) = producer.take()
            {
                lane_role(lane).into_iter().for_each(|role| leases.pass(role, Holder::Survivor));
                producers.push(producer);
            }
        }
        loop {
            match R::producer(queue, leases) {
                Ok(producer) if producers.len() < LANES => producers.push(producer),
                Ok(_) => return Err("attached more producers than there are lanes".to_owned()),
                Err(AttachError::LanesExhausted { corrupt: 0, .. }) => return Ok(producers),
                Err(error) => return Err(format!("attaching beside the victim: {error}")),
            }
        }
    }

    /// The producers go on until their lanes are full, and are refused as often as they like.
    pub(super) fn push_beside(&self, stage: &Stage) -> Verdict<[[u64; LANES]; 2]> {
        let (queue, leases) = (Self::open(stage)?, Leases::beside(stage, self.hasty)?);
        if (self.deed.pops() || self.deed == Deed::Rescan)
            && !matches!(R::consumer(&queue, &leases), Err(AttachError::RoleTaken(_)))
        {
            return Err("expected that the role of a consumer that stands is taken".to_owned());
        }
        let mut producers = self.producers_beside(&queue, &leases, 0)?;
        let mut filled = std::array::from_fn(|lane| self.end(lane));
        for producer in &mut producers {
            let lane = R::lane(producer);
            let Some(filled) = filled.get_mut(lane) else { return Err(format!("there is no lane {lane}")) };
            for _ in 0..3 * R::CAPACITY {
                match R::push(producer, number(lane, *filled)) {
                    Pushed::Done => *filled += 1,
                    Pushed::Full => {}
                    Pushed::Corrupt => return Err(format!("the producer found lane {lane} corrupt")),
                }
            }
            let used = *filled - self.before_of(lane);
            if used < R::FITS {
                return Err(format!("lane {lane}: expected room for {} messages, found {used}", R::FITS));
            }
        }
        Ok([filled, [0; LANES]])
    }

    /// The consumer drains, and the other producers go on for three laps.
    pub(super) fn pop_beside(&self, stage: &Stage) -> Verdict<[[u64; LANES]; 2]> {
        let (queue, leases) = (Self::open(stage)?, Leases::beside(stage, self.hasty)?);
        leases.pass(RoleId::CONSUMER, Holder::Survivor);
        let held = self.held.borrow_mut().consumer.take();
        let mut consumer = held.ok_or("the consumer was not prepared")?;
        let owned = self.deed == Deed::DetachProducer || self.deed.pushes();
        R::reclaim(&queue, Some(&mut consumer), &leases)
            .map_err(|error| format!("reclaiming beside the victim: {error}"))?;
        let mut producers = self.producers_beside(&queue, &leases, usize::from(owned))?;
        if !self.hasty
            && self.deed.pushes()
            && R::owner(&queue, 0) != self.owners.get().lanes.first().copied().flatten()
        {
            return Err("expected that the lane of a producer that stands is not taken from it".to_owned());
        }
        let most = (0..LANES).filter(|lane| self.lane(*lane) != Lane::Kept).count();
        // The victim may have the lease of one lane; of a lane that it owns nobody else has it.
        let least = most.saturating_sub(1);
        let most = if self.deed.pushes() { least } else { most };
        if !self.hasty && !(least..=most).contains(&producers.len()) {
            return Err(format!(
                "expected {least} to {most} producers beside the victim, found {}",
                producers.len()
            ));
        }
        let mut consumed = std::array::from_fn(|lane| self.start(lane));
        let mut filled = std::array::from_fn(|lane| self.end(lane));
        let mut note = |found: &Drained| {
            for (consumed, range) in consumed.iter_mut().zip(found.lanes) {
                *consumed = range.map_or(*consumed, |(_, last)| last);
            }
        };
        for _ in 0..3 {
            note(&Self::drain(&mut consumer)?);
        }
        for lap in 0..3 {
            let before = filled;
            Self::lap(&mut producers, &mut consumer, &mut filled, R::FITS, R::EXACT)
                .map_err(|text| format!("lap {lap} beside the victim: {text}"))?;
            let lanes = before.iter().zip(&filled).map(|(from, to)| (from != to).then_some((*from, *to)));
            let mut all = Drained::default();
            all.lanes.iter_mut().zip(lanes).for_each(|(to, range)| *to = range);
            note(&all);
        }
        Ok([filled, consumed])
    }
}

/// What became of creating.
pub(super) fn is_done(answer: Option<u64>) -> bool {
    answer == Some(DONE)
}
