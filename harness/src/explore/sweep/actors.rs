//! The processes of a sweep: prepared, spawned, brought to a point, ended.

use super::super::victim::{Arrival, Path, SpawnError, Stop, Victim};
use super::{Done, Place, Script, Sweep, failed};

impl<'a> Sweep<'a> {
    /// Zeroes the stage and prepares the structure.
    pub(super) fn reset(&self) -> Done<()> {
        self.stage.clear();
        self.operation.prepare(self.stage).map_err(|text| self.set_up(text))
    }

    /// The stage as a death left it.
    pub(super) fn back_to(&self, image: &[u8]) -> Done<()> {
        self.reset()?;
        self.stage.restore(image);
        Ok(())
    }

    pub(super) fn try_spawn(&self, script: Script) -> Result<Victim<'a>, SpawnError> {
        let (operation, stage) = (self.operation, self.stage);
        let set_up = || script.act(operation, stage);
        Victim::spawn(self.watch, stage, script.role(), operation.stride(), &set_up)
    }

    pub(super) fn spawn(&self, script: Script) -> Done<Victim<'a>> {
        self.try_spawn(script).map_err(|error| self.refused(error))
    }

    pub(super) fn traced(&self, victim: &mut Victim<'_>, touches: bool) -> Done<(Path, Stop)> {
        self.traced_with(victim, touches, &mut || {})
    }

    /// As [`traced`](Self::traced); `look` is called while the victim stands at each point.
    pub(super) fn traced_with(
        &self,
        victim: &mut Victim<'_>,
        touches: bool,
        look: &mut dyn FnMut(),
    ) -> Done<(Path, Stop)> {
        let segment = touches.then(|| {
            let start = self.stage.segment().addr().get();
            start..start + self.stage.bytes()
        });
        victim.trace(self.options.instructions, segment, look).map_err(failed)
    }

    /// The path of an act that runs alone; `None`, and a bad point, if it does not end.
    pub(super) fn reference(&mut self, script: Script, touches: bool) -> Done<Option<Path>> {
        self.reset()?;
        let mut victim = self.spawn(script)?;
        let (path, stop) = self.traced(&mut victim, touches)?;
        if stop == Stop::Marker {
            return Ok(Some(path));
        }
        self.fell(&[Place { script, path: &path, point: path.last() }], stop)?;
        Ok(None)
    }

    /// A fresh victim at a point; `None`, and a bad point, if it cannot get there.
    pub(super) fn victim_at(&mut self, path: &Path, point: usize) -> Done<Option<Victim<'a>>> {
        loop {
            self.reset()?;
            let mut victim = self.spawn(Script::Victim)?;
            match victim.reach(path, point).map_err(failed)? {
                Arrival::Strayed => {}
                Arrival::There | Arrival::Ended => return Ok(Some(victim)),
                Arrival::Fell(stop) => {
                    self.fell(&[Place { script: Script::Victim, path, point }], stop)?;
                    return Ok(None);
                }
            }
        }
    }

    /// Lets an actor run to the end of its act; false, and a bad point, if it does not get there.
    pub(super) fn ended(&mut self, victim: &mut Victim<'_>, places: &[Place<'_>]) -> Done<bool> {
        let image = self.stage.snapshot();
        let stop = victim.finish().map_err(failed)?;
        if stop != Stop::Marker {
            let what = self.describe(stop);
            self.bad(places, &format!("resumed: {what}"), &image);
        }
        Ok(stop == Stop::Marker)
    }
}
