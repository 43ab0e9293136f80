//! Creation: a queue or none, never a mixture.

use tidewire_mpsc::AttachError;
use tidewire_shm::Field;

use super::leases::Leases;
use super::model::Expected;
use super::rig::Rig;
use super::survivors::is_done;
use super::{CORRUPT, DONE, Deed, MpscOperation, Owners, Verdict, acts};
use crate::explore::{Act, Outcome, Seen, Stage};
use crate::ops::rig::region;

impl<R: Rig> MpscOperation<R> {
    /// Opens the queue; `None` if there is no structure at all.
    fn open_if_any(stage: &Stage) -> Verdict<Option<R::Queue>> {
        match R::open(region(stage.segment(), R::bytes())?) {
            Ok(queue) => Ok(Some(queue)),
            Err(AttachError::Incompatible(error)) if error.field == Field::Magic => Ok(None),
            Err(error) => Err(format!("expected a queue or no magic: {error}")),
        }
    }

    fn is_old(&self, owners: Owners) -> bool {
        self.deed == Deed::CreateOver && owners == self.owners.get()
    }

    /// Whoever looks while a creator stands finds a new queue, the old one as long as nothing was done to it, or none.
    pub(super) fn look_beside(&self, stage: &Stage) -> Verdict<()> {
        for _ in 0..3 {
            let Some(queue) = Self::open_if_any(stage)? else { continue };
            let owners = Self::owners_of(&queue);
            if owners != Owners::default() && !self.is_old(owners) {
                return Err(format!("expected a new queue, or the old one, found {owners:?}"));
            }
        }
        Ok(())
    }

    /// Creates what a creator that died did not.
    pub(super) fn create_again<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let mut kept = None;
        Ok(Box::new(move || match Self::open_if_any(stage) {
            Ok(Some(_)) => DONE,
            Ok(None) => {
                let made =
                    region(stage.segment(), R::bytes()).and_then(|region| R::create(region, self.delivery));
                made.map_or(CORRUPT, |queue| acts::keep(queue, &mut kept))
            }
            Err(_) => CORRUPT,
        }))
    }

    /// The new queue is there, whole, or the old one is, whole, or nothing is; where nothing is, it can be created.
    pub(super) fn judge_create(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if seen.second.is_some_and(|answer| answer != DONE) {
            return Err(format!("expected that a queue can be created, found {seen:?}"));
        }
        let (queue, there) = match Self::open_if_any(stage)? {
            Some(queue) => (queue, true),
            None if is_done(seen.first) || is_done(seen.second) => {
                return Err("a queue was created, but there is none".to_owned());
            }
            None => (R::create(region(stage.segment(), R::bytes())?, self.delivery)?, false),
        };
        let owners = Self::owners_of(&queue);
        let new = owners == Owners::default();
        if !new && (!there || !self.is_old(owners) || seen.first.is_some()) {
            return Err(format!("expected free roles in a new queue, found {owners:?}"));
        }
        drop(queue);
        if new {
            // Whoever creates anew has the word of all who used the old queue.
            Leases::survivor(stage)?.clear();
        }
        let expected = std::array::from_fn(|lane| {
            let (first, last) = if new { (0, 0) } else { (self.before_of(lane), self.end(lane)) };
            Expected { first: vec![first], last: vec![last] }
        });
        let _drained = self.survive(stage, &expected)?;
        Ok(if new && there { Outcome::Present } else { Outcome::Absent })
    }
}
