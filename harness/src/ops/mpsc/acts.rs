//! The parts of operations that are stepped.
//!
//! Taking a role allocates. Each set-up rehearses what its act does on a queue of its own: what the rehearsal gave
//! back to the allocator is what the act gets from it, by the same few instructions each time.

use std::sync::atomic::Ordering;

use tidewire_mpsc::{AttachError, Delivery};

use super::leases::{Holder, Leases};
use super::rig::Rig;
use super::{CORRUPT, DONE, Deed, EXHAUSTED, FREED, MpscOperation, REFUSED, TAKEN, TORN, Verdict};
use crate::explore::{Act, Role, Stage};
use crate::ops::rig::{MOST, Popped, Pushed, region};

impl<R: Rig> MpscOperation<R> {
    pub(super) fn act_pushing(&self, mut producer: R::Producer) -> Act<'_> {
        let (deed, id) = (self.deed, super::number(0, self.end(0)));
        Box::new(move || {
            result(match deed {
                Deed::Push => R::push(&mut producer, id),
                Deed::PushBatch => R::push_batch(&mut producer, id, 3),
                Deed::Commit => R::reserve(&mut producer, id, true),
                _ => R::reserve(&mut producer, id, false),
            })
        })
    }

    pub(super) fn act_popping<'a>(
        deed: Deed,
        mut consumer: R::Consumer,
        stage: &'a Stage,
        role: Role,
    ) -> Act<'a> {
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

    /// Leaves the lane that it got in the output.
    pub(super) fn act_attaching<'a>(stage: &'a Stage, leases: Leases, role: Role) -> Verdict<Act<'a>> {
        let queue = Self::open(stage)?;
        let mut kept = None;
        rehearse::<R>()?;
        Ok(Box::new(move || match R::producer(&queue, &leases) {
            Ok(producer) => {
                let [_, lane, ..] = stage.output(role);
                // ORD stage: Relaxed, read after this process has ended.
                lane.store(R::lane(&producer) as u64, Ordering::Relaxed);
                keep(producer, &mut kept)
            }
            Err(error) => refused(&error),
        }))
    }

    pub(super) fn act_consuming<'a>(stage: &'a Stage, leases: Leases) -> Verdict<Act<'a>> {
        let queue = Self::open(stage)?;
        let mut kept = None;
        rehearse::<R>()?;
        Ok(Box::new(move || match R::consumer(&queue, &leases) {
            Ok(consumer) => keep(consumer, &mut kept),
            Err(error) => refused(&error),
        }))
    }

    pub(super) fn act_reclaiming<'a>(
        &'a self,
        stage: &'a Stage,
        leases: Leases,
        holder: Holder,
    ) -> Verdict<Act<'a>> {
        let queue = Self::open(stage)?;
        let mut consumer = if R::ORDERED { Some(self.take_consumer(stage, holder)?) } else { None };
        rehearse::<R>()?;
        Ok(Box::new(move || match R::reclaim(&queue, consumer.as_mut(), &leases) {
            Ok(freed) => FREED + u64::from(freed),
            Err(error) => refused(&error),
        }))
    }

    /// Takes the consumer's role and frees the lanes of the dead.
    pub(super) fn act_inheriting<'a>(stage: &'a Stage, leases: Leases) -> Verdict<Act<'a>> {
        let queue = Self::open(stage)?;
        let mut kept = None;
        rehearse::<R>()?;
        Ok(Box::new(move || match R::consumer(&queue, &leases) {
            Ok(consumer) => {
                let freed = R::reclaim(&queue, Some(kept.insert(consumer)), &leases);
                freed.map_or_else(|error| refused(&error), |_| DONE)
            }
            Err(error) => refused(&error),
        }))
    }

    pub(super) fn act_creating<'a>(stage: &'a Stage, delivery: Delivery) -> Verdict<Act<'a>> {
        let mut region = Some(region(stage.segment(), R::bytes())?);
        let mut kept = None;
        Ok(Box::new(move || match region.take().map(|region| R::create(region, delivery)) {
            Some(Ok(queue)) => keep(queue, &mut kept),
            Some(Err(_)) => CORRUPT,
            None => REFUSED,
        }))
    }
}

/// Takes and gives back every role of queues that nobody else knows: of two at once, since the act itself may lie in
/// memory that the first one gave back.
fn rehearse<R: Rig>() -> Verdict<()> {
    let mut played = Vec::new();
    for leases in Leases::rehearsals() {
        let error = |error| format!("rehearsing: {error}");
        let queue = R::alone()?;
        let mut consumer = R::consumer(&queue, &leases).map_err(error)?;
        let producer = R::producer(&queue, &leases).map_err(error)?;
        R::reclaim(&queue, Some(&mut consumer), &leases).map_err(error)?;
        played.push((producer, consumer, queue));
    }
    drop(played);
    Ok(())
}

/// Keeps what was taken, so that dropping it is not part of the step.
pub(super) fn keep<T>(taken: T, kept: &mut Option<T>) -> u64 {
    *kept = Some(taken);
    DONE
}

pub(super) fn result(pushed: Pushed) -> u64 {
    match pushed {
        Pushed::Done => DONE,
        Pushed::Full => REFUSED,
        Pushed::Corrupt => CORRUPT,
    }
}

fn refused(error: &AttachError) -> u64 {
    match error {
        AttachError::RoleTaken(_) | AttachError::Lease(tidewire_shm::LeaseError::Held { .. }) => TAKEN,
        AttachError::LanesExhausted { corrupt: 0, .. } => EXHAUSTED,
        _ => CORRUPT,
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
