//! The parts of operations that are stepped.

use std::sync::atomic::Ordering;

use tidewire_ring::AttachError;

use super::{CHANGED, CORRUPT, DONE, Deed, REFUSED, RingOperation, TAKEN, TORN, Verdict};
use crate::explore::{Act, Role, Stage};
use crate::ops::rig::{MOST, Popped, Pushed, Rig};

impl<R: Rig> RingOperation<R> {
    pub(super) fn act_pushing(&self, mut producer: R::Producer) -> Act<'_> {
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

    pub(super) fn act_popping<'a>(
        &'a self,
        mut consumer: R::Consumer,
        stage: &'a Stage,
        role: Role,
    ) -> Act<'a> {
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

pub(super) fn result(pushed: Pushed) -> u64 {
    match pushed {
        Pushed::Done => DONE,
        Pushed::Full => REFUSED,
        Pushed::Corrupt => CORRUPT,
    }
}

/// Leaves what was popped in the act's output: the count, then the numbers.
pub(super) fn hand_out(stage: &Stage, role: Role, found: &[Popped; MOST]) -> u64 {
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

/// Keeps what was taken, so that dropping it is not part of the step; the act's answer.
pub(super) fn answer<T>(taken: Result<T, AttachError>, kept: &mut Option<T>) -> u64 {
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
pub(super) fn created<T>(made: Verdict<T>, kept: &mut Option<T>) -> u64 {
    match made {
        Ok(made) => {
            *kept = Some(made);
            DONE
        }
        Err(_) => CORRUPT,
    }
}
