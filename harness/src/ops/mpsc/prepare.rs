//! What the victim finds: the queue made and filled, and the handles at hand.

use std::sync::atomic::Ordering;

use tidewire_shm::RoleId;

use super::deed::{Deed, Lane, Seat};
use super::leases::{Holder, Leases, lane_role};
use super::rig::{Rig, number};
use super::{Held, LANES, MpscOperation, Owners, Verdict};
use crate::explore::{Role, Stage};
use crate::ops::rig::{MOST, Popped, Pushed, region};

impl<R: Rig> MpscOperation<R> {
    pub(super) fn open(stage: &Stage) -> Verdict<R::Queue> {
        R::open(region(stage.segment(), R::bytes())?).map_err(|error| format!("opening: {error}"))
    }

    /// The handles of a run whose segment is gone: their process is to be as dead.
    pub(super) fn forget(&self) {
        #[expect(clippy::mem_forget, reason = "what a dead process leaves is exactly what is wanted")]
        std::mem::forget(self.held.take());
    }

    /// Gives the handles of the last run back, and zeroes what they wrote. Forgotten, they would make this process
    /// larger with each run, and each fork of it slower.
    pub(super) fn leave(&self, stage: &Stage) {
        let place = stage.segment().addr().get();
        if self.place.replace(place) != place {
            self.forget();
        }
        drop(self.held.take());
        // SAFETY: the whole segment, which only this process uses now: the handles into it are gone.
        unsafe { stage.segment().as_ptr().write_bytes(0, stage.bytes()) };
    }

    /// Whether the victim has the consumer's role, or wants it.
    pub(super) fn consumes(&self) -> bool {
        self.deed.consumers() || (R::ORDERED && self.deed == Deed::Reclaim)
    }

    pub(super) fn take_producer(&self, stage: &Stage, lane: usize, to: Holder) -> Verdict<R::Producer> {
        let mut held = self.held.borrow_mut();
        let producer = held.producers.get_mut(lane).and_then(Option::take);
        if let Some(role) = lane_role(lane) {
            Leases::first(stage)?.pass(role, to);
        }
        producer.ok_or_else(|| format!("the producer of lane {lane} was not prepared"))
    }

    pub(super) fn take_consumer(&self, stage: &Stage, to: Holder) -> Verdict<R::Consumer> {
        Leases::first(stage)?.pass(RoleId::CONSUMER, to);
        self.held.borrow_mut().consumer.take().ok_or_else(|| "the consumer was not prepared".to_owned())
    }

    /// Makes and fills the queue.
    pub(super) fn fill(&self, stage: &Stage) -> Verdict<()> {
        let queue = R::create(region(stage.segment(), R::bytes())?, self.delivery)?;
        let leases = Leases::before(stage)?;
        let error = |error| format!("preparing: {error}");
        let mut held = Held::<R>::default();
        let mut consumer = R::consumer(&queue, &leases).map_err(error)?;
        let push = |producer: &mut Option<R::Producer>, lane, from: u64, to: u64| {
            for id in (from..to).map(|n| number(lane, n)) {
                let pushed = producer.as_mut().map(|producer| R::push(producer, id));
                if pushed != Some(Pushed::Done) {
                    return Err(format!("preparing: message {id} was not pushed: {pushed:?}"));
                }
            }
            Ok(())
        };
        let pop = |consumer: &mut R::Consumer, id: u64| match R::pop(consumer) {
            Popped::Message(found) if found == id => Ok(()),
            found => Err(format!("preparing: expected message {id}, found {found:?}")),
        };
        // The last lane is attached behind everything that the consumer does.
        for lane in 0..LANES {
            let attached = self.lane(lane) != Lane::New;
            let producer = held.producers.get_mut(lane).ok_or("a lane too many")?;
            if lane == LANES - 1 {
                R::release(&mut consumer);
                R::tune(&mut consumer, self.period());
                let [first, second, ..] = &mut held.producers;
                push(first, 0, self.before_of(0), self.end(0))?;
                for n in self.before_of(0)..self.start(0) {
                    pop(&mut consumer, number(0, n))?;
                }
                push(second, 1, self.start(1), self.end(1))?;
                if attached {
                    let third = held.producers.get_mut(lane).ok_or("a lane too many")?;
                    *third = Some(R::producer(&queue, &leases).map_err(error)?);
                    push(third, lane, 0, self.end(lane))?;
                }
            } else if attached {
                *producer = Some(R::producer(&queue, &leases).map_err(error)?);
                for n in 0..self.before_of(lane) {
                    push(producer, lane, n, n + 1)?;
                    pop(&mut consumer, number(lane, n))?;
                }
            }
        }
        held.consumer = Some(consumer);
        self.check_prepared(&held)?;
        for (lane, producer) in held.producers.iter_mut().enumerate() {
            match self.lane(lane) {
                Lane::Free => drop(producer.take()),
                Lane::Kept => {
                    lane_role(lane).into_iter().for_each(|role| leases.pass(role, Holder::Bystander));
                }
                Lane::New | Lane::Dead | Lane::Ours => {}
            }
        }
        match self.seat {
            Seat::Free => drop(held.consumer.take()),
            Seat::Kept => leases.pass(RoleId::CONSUMER, Holder::Bystander),
            Seat::Dead | Seat::Ours => {}
        }
        *self.held.borrow_mut() = held;
        self.owners.set(Self::owners_of(&queue));
        Ok(())
    }

    pub(super) fn owners_of(queue: &R::Queue) -> Owners {
        Owners {
            lanes: std::array::from_fn(|lane| R::owner(queue, lane)),
            consumer: R::consumer_owner(queue),
        }
    }

    /// What an act handed out: how many, then the numbers.
    pub(super) fn handed_out(&self, stage: &Stage, role: Role) -> Verdict<Vec<u64>> {
        let [count, ids @ ..] = stage.output(role);
        // ORD stage: Relaxed, the act's process has ended.
        let count = usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if count > MOST {
            return Err(format!("expected at most {MOST} messages, found {count}"));
        }
        // ORD stage: Relaxed, as above.
        Ok(ids.iter().take(count).map(|id| id.load(Ordering::Relaxed)).collect())
    }
}
