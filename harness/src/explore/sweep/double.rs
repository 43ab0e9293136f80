//! The process that recovers is killed, too.
//!
//! What a death leaves is a number of bytes, and so is what a second death leaves. So after each distinct first
//! death one recoverer is stepped to its end and what it would leave is looked at before each of its
//! instructions; where that was not seen before in this sweep, a recoverer is really killed there and the survivors
//! are asked. Where deaths leave more than bytes (files, say), every recoverer is really killed.

use std::collections::HashSet;
use std::rc::Rc;

use super::super::Stride;
use super::super::victim::{Arrival, Path, SpawnError, Stop, Victim};
use super::{Done, Key, Place, Script, Sweep, failed};

impl Sweep<'_> {
    pub(super) fn double(&mut self) -> Done<()> {
        let Some(path) = self.reference(Script::Victim, false)? else {
            return Ok(());
        };
        let mut left = Vec::new();
        let mut known = HashSet::new();
        for point in self.points(&path) {
            let Some(victim) = self.victim_at(&path, point)? else {
                continue;
            };
            if victim.has_ended() && point > path.last() {
                break;
            }
            drop(victim);
            let image = self.stage.snapshot();
            if known.insert(self.key(&image)) {
                left.push((point, image));
            }
        }
        for (point, image) in left {
            let death = Place { script: Script::Victim, path: &path, point };
            self.recoveries(death, &image)?;
            if self.row.cut {
                break;
            }
        }
        Ok(())
    }

    /// The stage, and what lies outside of it, as a death left them; false, and a bad point, if the victim cannot die
    /// like this again.
    fn after(&mut self, death: Place<'_>, image: &[u8]) -> Done<bool> {
        if self.operation.stride() == Stride::Call {
            return Ok(self.victim_at(death.path, death.point)?.is_some());
        }
        self.back_to(image)?;
        Ok(true)
    }

    /// Kills the recoverer at each of its points after one death.
    fn recoveries(&mut self, death: Place<'_>, image: &[u8]) -> Done<()> {
        if !self.after(death, image)? {
            return Ok(());
        }
        let mut recoverer = match self.try_spawn(Script::Recover) {
            Ok(recoverer) => recoverer,
            Err(SpawnError::SetUp(text)) => {
                self.bad(&[death], &format!("recovery is impossible: {text}"), image);
                return Ok(());
            }
            Err(error) => return Err(self.refused(error)),
        };
        if self.operation.stride() == Stride::Call {
            let (path, stop) = self.traced(&mut recoverer, false)?;
            drop(recoverer);
            if stop != Stop::Marker {
                let places = [death, Place { script: Script::Recover, path: &path, point: path.last() }];
                return self.fell(&places, stop);
            }
            for point in self.points(&path) {
                if self.row.cut || !self.recovery(death, image, &path, point)? {
                    break;
                }
            }
            return Ok(());
        }
        let (path, stop, keys) = self.looked_at(&mut recoverer)?;
        drop(recoverer);
        if stop != Stop::Marker {
            let places = [death, Place { script: Script::Recover, path: &path, point: path.last() }];
            return self.fell(&places, stop);
        }
        for (point, key) in keys.iter().enumerate() {
            if self.row.cut {
                break;
            }
            match self.verdicts.get(&**key).cloned() {
                Some(verdict) => {
                    let places = [death, Place { script: Script::Recover, path: &path, point }];
                    self.count(&places, None, verdict, &key.0);
                }
                None => {
                    self.recovery(death, image, &path, point)?;
                }
            }
        }
        Ok(())
    }

    /// One recoverer that is really killed at a point; false if it came to its end before.
    fn recovery(&mut self, death: Place<'_>, image: &[u8], path: &Path, point: usize) -> Done<bool> {
        let places = [death, Place { script: Script::Recover, path, point }];
        let arrival = loop {
            if !self.after(death, image)? {
                return Ok(true);
            }
            match self.spawn(Script::Recover)?.reach(path, point).map_err(failed)? {
                Arrival::Strayed => {}
                arrival => break arrival,
            }
        };
        match arrival {
            Arrival::Fell(stop) => self.fell(&places, stop)?,
            Arrival::Ended if point > path.last() => return Ok(false),
            _ => self.settle(&places, |operation, stage, seen| operation.judge(stage, seen))?,
        }
        Ok(true)
    }

    /// Steps a recoverer to its end; what it would leave at each point.
    fn looked_at(&self, recoverer: &mut Victim<'_>) -> Done<(Path, Stop, Vec<Rc<Key>>)> {
        let mut last: Option<(Box<[u8]>, Rc<Key>)> = None;
        let mut keys = Vec::new();
        let (path, stop) = self.traced_with(recoverer, false, &mut || {
            let image = self.stage.snapshot();
            let key = match last.take() {
                Some((before, key)) if before == image => key,
                _ => Rc::new(self.key(&image)),
            };
            keys.push(Rc::clone(&key));
            last = Some((image, key));
        })?;
        Ok((path, stop, keys))
    }
}
