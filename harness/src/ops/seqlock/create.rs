//! Creation: a cell or none, never a mixture.

use super::{CORRUPT, CellOperation, DONE, Deed, Found, Rig, Verdict};
use crate::explore::{Act, Outcome, Seen, Stage};

impl<R: Rig> CellOperation<R> {
    /// Whether a cell is new, or the old one; anything else is broken.
    fn is_new(&self, stage: &Stage) -> Verdict<bool> {
        let found = R::read(&mut Self::reader(stage)?, self.leases()?);
        match found {
            Found::Value(0, 0) => Ok(true),
            Found::Value(tag, version)
                if self.deed == Deed::CreateOver && (tag, version) == (self.before, self.before) =>
            {
                Ok(false)
            }
            _ => Err(format!("expected version 0 of a new cell, or all of the old one, found {found:?}")),
        }
    }

    /// Whoever looks while a creator stands finds a new cell, the old one as long as nothing was done to it, or none.
    pub(super) fn look_beside(&self, stage: &Stage) -> Verdict<()> {
        for _ in 0..3 {
            if Self::open_if_any(stage)?.is_some() {
                self.is_new(stage)?;
            }
        }
        Ok(())
    }

    /// Creates what a creator that died did not.
    pub(super) fn create_again(stage: &Stage) -> Verdict<Act<'_>> {
        let mut kept = None;
        Ok(Box::new(move || {
            let made = match Self::open_if_any(stage) {
                Ok(Some(cell)) => Ok(cell),
                Ok(None) => Self::region(stage).and_then(R::create),
                Err(error) => Err(error),
            };
            made.map_or(CORRUPT, |cell| {
                let _kept = kept.insert(cell);
                DONE
            })
        }))
    }

    /// The new cell is there, whole, or the old one is, whole, or nothing is; where nothing is, it can be created.
    pub(super) fn judge_create(&self, stage: &Stage, seen: Seen) -> Verdict<Outcome> {
        if seen.second.is_some_and(|answer| answer != DONE) {
            return Err(format!("expected that a cell can be created, found {seen:?}"));
        }
        let answered = [seen.first, seen.second].contains(&Some(DONE));
        let (cell, there) = match Self::open_if_any(stage)? {
            Some(cell) => (cell, true),
            None if answered => return Err("a cell was created, but there is none".to_owned()),
            None => (R::create(Self::region(stage)?)?, false),
        };
        let new = self.is_new(stage)?;
        if !new && (!there || seen.first.is_some()) {
            return Err("a cell was created, but the old one is there".to_owned());
        }
        let last = if new { 0 } else { self.before };
        if let Some(owner) = R::owner(&cell) {
            return Err(format!("expected a free role, found it taken by {owner}"));
        }
        // The reader of the old cell has nothing to look for in a new one.
        *self.reader.borrow_mut() = None;
        self.go_on(stage, &cell, Found::Value(last, last), &[(last, last)])?;
        Ok(if new && there { Outcome::Present } else { Outcome::Absent })
    }
}
