//! Two actors at every pair of their points.

use super::super::victim::{Arrival, Path, Stop, Victim};
use super::{Done, Place, Script, Sweep, failed};

impl<'a> Sweep<'a> {
    pub(super) fn pairs(&mut self, ahead: Script, behind: Script) -> Done<()> {
        let Some(alone) = self.reference(behind, false)? else {
            return Ok(());
        };
        let Some(path) = self.reference(ahead, true)? else {
            return Ok(());
        };
        let all = 2 * (path.last() + 1) * (alone.last() + 1);
        let touching_only = all > self.options.pairs && !self.operation.shares_elsewhere();
        for point in path.stops(touching_only) {
            let ahead_at = Place { script: ahead, path: &path, point };
            let Some(beside) = self.path_beside(ahead_at, behind, touching_only)? else {
                continue;
            };
            let rounds = self.operation.rounds();
            for beside_point in
                beside.stops(touching_only).into_iter().filter(|at| beside.is_within(*at, rounds))
            {
                if self.row.cut {
                    return Ok(());
                }
                self.pair(ahead_at, Place { script: behind, path: &beside, point: beside_point })?;
            }
        }
        Ok(())
    }

    /// The way of `behind` through its operation while the other stands.
    pub(super) fn path_beside(
        &mut self,
        ahead: Place<'_>,
        behind: Script,
        touches: bool,
    ) -> Done<Option<Path>> {
        let Some((_standing, mut second)) = self.both(ahead, behind)? else {
            return Ok(None);
        };
        let (path, stop) = self.traced(&mut second, touches)?;
        if stop == Stop::Marker {
            return Ok(Some(path));
        }
        let places = [ahead, Place { script: behind, path: &path, point: path.last() }];
        let image = self.stage.snapshot();
        let what = self.describe(stop);
        self.bad(&places, &format!("beside the frozen {}: {what}", ahead.script.actor()), &image);
        Ok(None)
    }

    /// One pair: both stand, then the first ends, then the second.
    pub(super) fn pair(&mut self, ahead: Place<'_>, behind: Place<'_>) -> Done<()> {
        let places = [ahead, behind];
        let (mut first, mut second) = loop {
            let Some((first, mut second)) = self.both(ahead, behind.script)? else {
                return Ok(());
            };
            match second.reach(behind.path, behind.point).map_err(failed)? {
                Arrival::Strayed => {}
                Arrival::There | Arrival::Ended => break (first, second),
                Arrival::Fell(stop) => return self.fell(&places, stop),
            }
        };
        if self.ended(&mut first, &places)? && self.ended(&mut second, &places)? {
            drop((first, second));
            self.settle(&places, |operation, stage, seen| operation.judge_pair(stage, seen))?;
        }
        Ok(())
    }

    /// Both of a pair set up, the first at its point.
    pub(super) fn both(
        &mut self,
        ahead: Place<'_>,
        behind: Script,
    ) -> Done<Option<(Victim<'a>, Victim<'a>)>> {
        loop {
            self.reset()?;
            let mut first = self.spawn(ahead.script)?;
            let second = self.spawn(behind)?;
            match first.reach(ahead.path, ahead.point).map_err(failed)? {
                Arrival::Strayed => {}
                Arrival::There | Arrival::Ended => return Ok(Some((first, second))),
                Arrival::Fell(stop) => {
                    self.fell(&[ahead], stop)?;
                    return Ok(None);
                }
            }
        }
    }
}
