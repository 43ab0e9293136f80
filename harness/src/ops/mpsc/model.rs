//! What must be, computed from the sizes of the messages and the documented rules.

use tidewire_mpsc::Delivery;

use super::leases::{Leases, lane_role};
use super::rig::{Rig, number, place};
use super::{
    Beside, DONE, Deed, EXHAUSTED, FREED, Held, LANES, Lane, MpscOperation, REFUSED, Seat, TAKEN, Verdict,
};
use crate::explore::{Role, Stage};

/// What survivors may find in a lane.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// The first message that is found.
    pub(super) first: Vec<u64>,
    /// The one behind the last.
    pub(super) last: Vec<u64>,
}

impl<R: Rig> MpscOperation<R> {
    pub(super) fn lane(&self, lane: usize) -> Lane {
        self.lanes.get(lane).copied().unwrap_or(Lane::New)
    }

    /// The number of the first message that was not moved through the lane.
    pub(super) fn before_of(&self, lane: usize) -> u64 {
        if lane < LANES - 1 && self.lane(lane) != Lane::New { self.before } else { 0 }
    }

    /// The number of the first message that nobody consumed yet.
    pub(super) fn start(&self, lane: usize) -> u64 {
        self.before_of(lane) + if lane == 0 { self.late } else { 0 }
    }

    /// The number of the first message that nobody published yet.
    pub(super) fn end(&self, lane: usize) -> u64 {
        self.start(lane) + self.filled.get(lane).copied().unwrap_or(0)
    }

    /// The position of message `n` of a lane, or of the padding before it.
    pub(super) fn position_of(lane: usize, n: u64) -> u64 {
        (0..n).fold(0, |at, n| {
            let (padding, size) = R::elements(at, number(lane, n));
            at + padding + size
        })
    }

    /// How often the consumer releases: at once what was late, or not before everything in the lane was consumed.
    pub(super) fn period(&self) -> u64 {
        let late = Self::position_of(0, self.start(0)) - Self::position_of(0, self.before_of(0));
        if self.due { late } else { R::CAPACITY }
    }

    fn once(&self) -> bool {
        self.delivery == Delivery::AtMostOnce
    }

    /// The first message of a lane that a successor sees if the victim does nothing.
    fn base(&self, lane: usize) -> u64 {
        let released = self.once() || self.seat == Seat::Free;
        if released { self.start(lane) } else { self.before_of(lane) }
    }

    /// The lane that the victim's message comes from if nobody acts beside it.
    fn source(&self) -> Option<usize> {
        let has = |lane: &usize| self.filled.get(*lane).is_some_and(|filled| *filled > 0);
        // Where the turn of lane 0 is over the others come first; else it goes on as long as it has anything.
        let others = (1..LANES).find(has);
        match others {
            Some(other) if self.due && !R::ORDERED => Some(other),
            others => Some(0).filter(has).or(others),
        }
    }

    /// Whether the victim's call releases what was late: lanes do when the lane is left or its period is over, an
    /// order when the period is over, and both when nothing is found.
    fn releases(&self) -> bool {
        if self.once() || self.late == 0 {
            return false;
        }
        match self.deed {
            Deed::DetachConsumer => true,
            // A lane that is free and empty is let go.
            Deed::Rescan => self.lane(0) == Lane::Free && self.filled.first() == Some(&0),
            deed if deed.pops() => {
                let left = if R::ORDERED { self.source().is_none() } else { self.source() != Some(0) };
                self.due || left
            }
            _ => false,
        }
    }

    /// Messages that the victim is given if it is given anything.
    fn gives(&self) -> u64 {
        let there = self.source().and_then(|lane| self.filled.get(lane)).copied().unwrap_or(0);
        there.min(self.deed.asks())
    }

    /// Elements that a push needs.
    fn needs(&self) -> u64 {
        let end = Self::position_of(0, self.end(0));
        match self.deed {
            Deed::Commit | Deed::Abort => R::reserved(end),
            _ => Self::position_of(0, self.end(0) + self.deed.publishes()) - end,
        }
    }

    /// Whether so many elements fit into a lane while nothing more is released.
    fn fits(&self, lane: usize, elements: u64) -> bool {
        let base = Self::position_of(lane, self.base(lane));
        Self::position_of(lane, self.end(lane)) + elements <= base + R::CAPACITY
    }

    /// The lanes that an attacher may get, those that look free first.
    fn available(&self) -> Vec<usize> {
        let of = |wanted: &[Lane]| (0..LANES).filter(|lane| wanted.contains(&self.lane(*lane))).collect();
        let mut found: Vec<usize> = of(&[Lane::Free, Lane::New]);
        if !R::ORDERED {
            found.extend::<Vec<usize>>(of(&[Lane::Dead]));
        }
        found
    }

    fn dead(&self) -> u64 {
        self.lanes.iter().filter(|lane| **lane == Lane::Dead).count() as u64
    }

    /// What the victim answers if nobody acts beside it.
    fn must_answer(&self) -> u64 {
        let refused = match self.deed {
            Deed::AttachProducer if self.available().is_empty() => return EXHAUSTED,
            Deed::AttachConsumer if self.seat == Seat::Kept => return TAKEN,
            Deed::Reclaim => return FREED + self.dead(),
            deed if deed.pushes() => !self.fits(0, self.needs()),
            deed if deed.pops() => self.source().is_none(),
            _ => false,
        };
        if refused { REFUSED } else { DONE }
    }

    /// Checks the victim's answer; `alone` if nobody acted beside it.
    pub(super) fn check_answer(&self, answer: Option<u64>, alone: bool) -> Verdict<()> {
        let (Some(found), must) = (answer, self.must_answer()) else {
            return Ok(());
        };
        // A lane that was empty or full may have changed before the victim looked.
        let changed = !alone && must == REFUSED && found == DONE;
        // The others may have taken the lanes of the dead before the victim looked.
        let fewer = !alone && self.deed == Deed::Reclaim && (FREED..must).contains(&found);
        if found == must || changed || fewer {
            return Ok(());
        }
        Err(format!("expected the answer {must}, found {found}"))
    }

    /// How many messages of each lane an act was given, checked to be the next ones of their lanes; `alone` if it
    /// must be those of the lane whose turn it is.
    pub(super) fn given(
        &self,
        stage: &Stage,
        role: Role,
        answer: Option<u64>,
        alone: bool,
    ) -> Verdict<[u64; LANES]> {
        let mut given = [0; LANES];
        let victim = role == Role::First;
        if victim && !self.deed.pops() {
            return Ok(given);
        }
        let peeks = victim && self.deed == Deed::Peek;
        let ids = self.handed_out(stage, role)?;
        if answer == Some(REFUSED) && !ids.is_empty() {
            return Err(format!("refused, but was given {ids:?}"));
        }
        if victim && alone && answer == Some(DONE) && ids.len() as u64 != self.gives() {
            return Err(format!("expected to be given {} messages, found {ids:?}", self.gives()));
        }
        if answer == Some(DONE) && ids.is_empty() {
            return Err("was given nothing, but says that it was".to_owned());
        }
        for id in ids {
            let is_next = |lane: usize, given: u64| {
                let next = number(lane, self.start(lane) + given);
                id == if peeks { R::peeked(next) } else { next }
            };
            let found = match (alone, self.source()) {
                (true, source) => source.filter(|lane| given.get(*lane).is_some_and(|n| is_next(*lane, *n))),
                (false, _) => (0..).zip(given).find(|(lane, n)| is_next(*lane, *n)).map(|(lane, _)| lane),
            };
            match found.and_then(|lane| given.get_mut(lane)) {
                Some(given) => *given += 1,
                None => return Err(format!("expected the next message of a lane, found {:?}", place(id))),
            }
        }
        Ok(given)
    }

    /// The messages at which a successor may go on in a lane, if nobody acted beside the victim.
    pub(super) fn resumes(&self, lane: usize, answer: Option<u64>, given: &[u64; LANES]) -> Vec<u64> {
        let (base, start) = (self.base(lane), self.start(lane));
        if self.once() {
            let given = given.get(lane).copied().unwrap_or(0);
            return match answer {
                _ if !self.deed.pops() || self.deed == Deed::Peek || self.source() != Some(lane) => {
                    vec![start]
                }
                Some(_) => vec![start + given],
                None => vec![start, start + self.gives()],
            };
        }
        match answer {
            _ if lane != 0 || !self.releases() => vec![base],
            Some(_) => vec![start],
            None => vec![base, start],
        }
    }

    /// As [`resumes`](Self::resumes), if others acted beside the victim, and it came to its end.
    pub(super) fn resumes_beside(&self, lane: usize, given: &[u64; LANES]) -> Vec<u64> {
        let (base, start) = (self.base(lane), self.start(lane));
        let pops = self.deed.pops() || (self.deed.pushes() && self.beside == Beside::OtherEnd);
        if self.once() {
            let consumed = if pops && self.deed != Deed::Peek { given.get(lane).copied() } else { None };
            return vec![start + consumed.unwrap_or(0)];
        }
        if lane == 0 && self.releases() { vec![base, start] } else { vec![base] }
    }

    /// Up to where a lane may be found filled, if nobody acted beside the victim.
    pub(super) fn ends(&self, lane: usize, answer: Option<u64>) -> Vec<u64> {
        let end = self.end(lane);
        let more = if lane == 0 { self.deed.publishes() } else { 0 };
        match answer {
            Some(DONE) => vec![end + more],
            Some(_) => vec![end],
            None => vec![end, end + more],
        }
    }

    /// Checks who holds what before survivors take anything.
    pub(super) fn check_owners(&self, queue: &R::Queue, stage: &Stage, answer: Option<u64>) -> Verdict<()> {
        let (before, now) = (self.owners.get(), Self::owners_of(queue));
        let wrong = |what: &str| Err(format!("answered {answer:?}: {what}: found {now:?}, was {before:?}"));
        let mut taken = Vec::new();
        for (lane, (found, was)) in now.lanes.into_iter().zip(before.lanes).enumerate() {
            if found == was {
                continue;
            }
            let next = match (found, was) {
                (Some(found), Some(was)) => found.generation == was.generation.wrapping_add(1),
                (found, _) => found.is_some(),
            };
            match self.deed {
                Deed::AttachProducer if next && self.available().contains(&lane) => taken.push(lane),
                Deed::DetachProducer if found.is_none() && lane == 0 => taken.push(lane),
                Deed::Reclaim if found.is_none() && self.lane(lane) == Lane::Dead => taken.push(lane),
                _ => return wrong("expected the lanes' owners as before"),
            }
        }
        let must = match (self.deed, answer) {
            (Deed::AttachProducer, Some(DONE)) => {
                let [_, lane, ..] = stage.output(Role::First);
                // ORD stage: Relaxed, the act's process has ended.
                let lane = lane.load(std::sync::atomic::Ordering::Relaxed);
                let first = self.available().first().copied();
                if first.map(|lane| lane as u64) != Some(lane) {
                    return Err(format!("expected lane {first:?}, found {lane}"));
                }
                Some(first.into_iter().collect())
            }
            (Deed::DetachProducer, Some(DONE)) => Some(vec![0]),
            (Deed::Reclaim, Some(_)) => {
                Some((0..LANES).filter(|lane| self.lane(*lane) == Lane::Dead).collect())
            }
            (_, Some(_)) => Some(Vec::new()),
            (Deed::AttachProducer | Deed::DetachProducer, None) if taken.len() > 1 => Some(Vec::new()),
            (_, None) => None,
        };
        if must.is_some_and(|must| must != taken) {
            return wrong("expected other lanes to have changed hands");
        }
        let changed = now.consumer != before.consumer;
        let may = match (self.deed, now.consumer, before.consumer) {
            (Deed::AttachConsumer, Some(found), Some(was)) => {
                self.seat == Seat::Dead && found.generation == was.generation.wrapping_add(1)
            }
            (Deed::AttachConsumer, Some(_), None) | (Deed::DetachConsumer, None, _) => true,
            _ => false,
        };
        let must = answer == Some(DONE) && matches!(self.deed, Deed::AttachConsumer | Deed::DetachConsumer);
        if (changed && !may) || (must && !changed) {
            return wrong("the consumer's role");
        }
        Ok(())
    }

    /// Checks what two that acted at once were told.
    pub(super) fn check_pair(&self, stage: &Stage, first: u64, second: u64) -> Verdict<()> {
        let wrong = |what: &str| Err(format!("answered {first} and {second}: {what}"));
        if self.beside != Beside::Heir && self.deed != Deed::AttachProducer {
            self.check_answer(Some(first), false)?;
        }
        let all = self.available().len();
        let fine = match (self.deed, self.beside) {
            (_, Beside::OtherEnd) if self.deed.consumers() => {
                let needs = Self::position_of(0, self.end(0) + 1) - Self::position_of(0, self.end(0));
                second == DONE || (second == REFUSED && !self.fits(0, needs))
            }
            (_, Beside::OtherEnd) => second == DONE || (second == REFUSED && self.source().is_none()),
            (_, Beside::Producer) => second == DONE,
            (Deed::AttachProducer, Beside::Attacher) => {
                let mut answers = [first, second];
                answers.sort_unstable();
                answers == if all > 1 { [DONE, DONE] } else { [DONE, EXHAUSTED] }
            }
            (Deed::Reclaim, Beside::Attacher) => {
                // Whoever reclaims has the lease for a moment, and frees what it has the lease of.
                let freed = first.wrapping_sub(FREED);
                (second == DONE && freed <= self.dead()) || (second == EXHAUSTED && freed == self.dead())
            }
            (Deed::Reclaim, Beside::Reclaimer) => {
                first.wrapping_sub(FREED).wrapping_add(second.wrapping_sub(FREED)) == self.dead()
            }
            (Deed::DetachProducer, Beside::Attacher) => second == DONE || (second == EXHAUSTED && all == 0),
            (_, Beside::Attacher) => second == DONE,
            (Deed::AttachConsumer, Beside::Heir) => {
                let mut answers = [first, second];
                answers.sort_unstable();
                answers == [DONE, TAKEN]
            }
            (_, Beside::Heir) => first == DONE && [DONE, TAKEN].contains(&second),
            (_, Beside::Reclaimer) => second >= FREED,
        };
        if !fine {
            return wrong("expected something else");
        }
        if self.beside == Beside::Attacher {
            self.check_attached(stage, first, second)?;
        }
        Ok(())
    }

    /// Whoever attached has the lane that it was given, alone, and the consumer is told to look at it.
    fn check_attached(&self, stage: &Stage, first: u64, second: u64) -> Verdict<()> {
        let queue = Self::open(stage)?;
        let lane_of = |role| {
            let [_, lane, ..] = stage.output(role);
            // ORD stage: Relaxed, the act's process has ended.
            usize::try_from(lane.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(usize::MAX)
        };
        let attached = [
            (Role::First, first == DONE && self.deed == Deed::AttachProducer),
            (Role::Second, second == DONE),
        ];
        let lanes: Vec<usize> =
            attached.into_iter().filter(|(_, attached)| *attached).map(|(role, _)| lane_of(role)).collect();
        let leases = Leases::first(stage)?;
        for lane in &lanes {
            if R::owner(&queue, *lane).is_none()
                || lane_role(*lane).is_none_or(|role| leases.holder(role) == 0)
            {
                return Err(format!("expected that lane {lane} is held, found that it is not"));
            }
            if !hinted::<R>(stage, *lane)? {
                return Err(format!("expected a hint to look at lane {lane}, found none"));
            }
        }
        let unique = |lane: &usize| lanes.iter().filter(|other| *other == lane).count() == 1;
        if lanes.iter().all(unique) { Ok(()) } else { Err(format!("two producers in one lane: {lanes:?}")) }
    }

    /// Checks that the sizes that verdicts are computed from are those of the queue, and that the deed wraps if it is to.
    pub(super) fn check_prepared(&self, held: &Held<R>) -> Verdict<()> {
        for (lane, producer) in held.producers.iter().enumerate() {
            let expected = Self::position_of(lane, self.end(lane));
            match producer {
                Some(producer) if R::tail(producer) != expected || R::lane(producer) != lane => {
                    let found = (R::lane(producer), R::tail(producer));
                    return Err(format!("preparing: expected lane {lane} up to {expected}, found {found:?}"));
                }
                _ => {}
            }
        }
        let (at, taken) = if self.deed.pops() {
            let at = Self::position_of(0, self.start(0));
            (at, Self::position_of(0, self.start(0) + self.gives()) - at)
        } else {
            (Self::position_of(0, self.end(0)), self.needs())
        };
        if self.wraps && at % R::CAPACITY + taken < R::CAPACITY {
            return Err(format!("preparing: {taken} elements from {at} on do not go over the wrap"));
        }
        Ok(())
    }
}

/// Whether the hint to look at a lane stands; true where there are none.
fn hinted<R: Rig>(stage: &Stage, lane: usize) -> Verdict<bool> {
    let Some(offset) = R::hint_word() else { return Ok(true) };
    let region = crate::ops::rig::region(stage.segment(), R::bytes())?;
    // SAFETY: a control word of the layout, used as this atomic only.
    let word = unsafe { region.atomic_u64(offset) };
    // ORD stage: Relaxed, whoever wrote it has ended.
    Ok(word.load(tidewire_shm::sync::Ordering::Relaxed) >> lane & 1 == 1)
}
