//! Creation: a ring or none, never a mixture.

use tidewire_ring::AttachError;
use tidewire_shm::Field;

use super::{CORRUPT, DONE, Deed, RingOperation, Verdict, acts};
use crate::explore::{Act, Outcome, Seen, Stage};
use crate::ops::rig::{Rig, region};

impl<R: Rig> RingOperation<R> {
    /// Opens the ring; `None` if there is no structure at all.
    pub(super) fn open_if_any(stage: &Stage) -> Verdict<Option<R::Ring>> {
        match R::open(region(stage.segment(), stage.bytes())?) {
            Ok(ring) => Ok(Some(ring)),
            Err(AttachError::Incompatible(error)) if error.field == Field::Magic => Ok(None),
            Err(error) => Err(format!("expected a ring or no magic: {error}")),
        }
    }

    /// Whoever looks while a creator stands finds a new ring, the old one as long as nothing was done to it, or none.
    pub(super) fn look_beside(&self, stage: &Stage) -> Verdict<()> {
        for _ in 0..3 {
            let Some(ring) = Self::open_if_any(stage)? else { continue };
            let owners = [R::producer_owner(&ring), R::consumer_owner(&ring)];
            let old = self.deed == Deed::CreateOver && owners == self.owners.get();
            if owners != [None; 2] && !old {
                return Err(format!(
                    "expected free roles in a new ring, or those of the old one, found {owners:?}"
                ));
            }
        }
        Ok(())
    }

    /// Creates what a creator that died did not.
    pub(super) fn create_again<'a>(stage: &'a Stage) -> Verdict<Act<'a>> {
        let mut kept = None;
        Ok(Box::new(move || match Self::open_if_any(stage) {
            Ok(Some(_)) => DONE,
            Ok(None) => {
                let ring = region(stage.segment(), stage.bytes()).and_then(R::create);
                acts::created(ring, &mut kept)
            }
            Err(_) => CORRUPT,
        }))
    }

    /// The new ring is there, whole, or the old one is, whole, or nothing is; where nothing is, it can be created.
    pub(super) fn judge_create(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if seen.second.is_some_and(|answer| answer != DONE) {
            return Err(format!("expected that a ring can be created, found {seen:?}"));
        }
        let answered = [seen.first, seen.second].contains(&Some(DONE));
        let (ring, there) = match Self::open_if_any(stage)? {
            Some(ring) => (ring, true),
            None if answered => return Err("a ring was created, but there is none".to_owned()),
            None => (R::create(region(stage.segment(), stage.bytes())?)?, false),
        };
        let owners = [R::producer_owner(&ring), R::consumer_owner(&ring)];
        let new = owners == [None; 2];
        let old = self.deed == Deed::CreateOver && there && owners == self.owners.get();
        if !new && (!old || seen.first.is_some()) {
            return Err(format!("expected free roles in a new ring, found {owners:?}"));
        }
        let mut producer = Self::any_producer(&ring)?;
        let mut consumer = Self::any_consumer(&ring)?;
        let positions = [R::position(&consumer), R::tail(&producer)];
        let expected = if new { [0; 2] } else { [self.before, self.end()].map(Self::position_of) };
        if positions != expected {
            return Err(format!("expected the positions {expected:?}, found {positions:?}"));
        }
        let (from, to) = if new { (0, 0) } else { (self.before, self.end()) };
        let found = Self::drain(&mut consumer, to)?;
        if found != (from, to) {
            return Err(format!("expected messages {from} to {to}, found {found:?}"));
        }
        Self::laps(&mut producer, &mut consumer, to)?;
        Ok(if new && there { Outcome::Present } else { Outcome::Absent })
    }
}
