//! What the survivors may find, and that they can go on.

use std::sync::atomic::Ordering;

use super::{
    BUSY, CellOperation, DONE, Deed, FIRST, Found, OTHERS, PARTNER, Rig, TAG, TAKEN, VERSION, VICTIM,
    Verdict, Written,
};
use crate::explore::{Role, Seen, Stage};

fn output(stage: &Stage, role: Role, word: usize) -> u64 {
    // ORD stage: Relaxed, the act's process has ended.
    stage.output(role).get(word).map_or(0, |word| word.load(Ordering::Relaxed))
}

impl<R: Rig> CellOperation<R> {
    /// The versions that may be the latest, each with the tag that it must have.
    pub(super) fn legal(&self, stage: &Stage, seen: Seen) -> Vec<(u64, u64)> {
        let mut legal = Vec::new();
        if !self.deed.writes() || seen.first.is_none() {
            legal.push((self.before, self.before));
        }
        if self.deed.writes() {
            legal.push((VICTIM, self.before + 1));
        }
        if Self::is_recovered(stage) {
            let next: Vec<_> = legal.iter().map(|(_, version)| (super::NEXT, version + 1)).collect();
            if seen.second.is_some() {
                legal.clear();
            }
            legal.extend(next);
        }
        legal
    }

    /// Whether a classic cell may have lost its value: somebody who wrote did not come to the end.
    pub(super) fn may_be_cut(&self, stage: &Stage, seen: Seen) -> bool {
        let last = if Self::is_recovered(stage) { seen.second } else { seen.first };
        let writes = self.deed.writes() || Self::is_recovered(stage);
        R::WAITS && writes && last.is_none()
    }

    /// What readers see, old ones and new ones: a legal version, whole, at the first attempt.
    pub(super) fn look(&self, stage: &Stage, legal: &[(u64, u64)], cut: bool) -> Verdict<Found> {
        let leases = self.leases()?;
        let mut new = Self::reader(stage)?;
        let found = R::read(&mut new, leases);
        let well = match found {
            Found::Value(tag, version) => legal.contains(&(tag, version)),
            Found::Died | Found::Busy => cut,
            Found::Torn | Found::Corrupt => false,
        };
        if !well {
            return Err(format!("expected a tag and a version of {legal:?}, found {found:?}"));
        }
        let mut old = self.reader.borrow_mut();
        if let Some(old) = old.as_mut() {
            let again = R::read(old, leases);
            if again != found {
                return Err(format!("a new reader found {found:?}, an old one {again:?}"));
            }
            let retries = R::retries(&new) + R::retries(old);
            if retries > 0 && !cut {
                return Err(format!("expected that one attempt is enough, found {retries} retries"));
            }
        }
        Ok(found)
    }

    /// Whether the owner word says who the writer was.
    pub(super) fn check_owner(&self, stage: &Stage, cell: &R::Cell, seen: Seen) -> Verdict<()> {
        let owner = R::owner(cell);
        let done = seen.first.is_some();
        let expected = match self.deed {
            _ if R::SHARED || Self::is_recovered(stage) => None,
            Deed::Write | Deed::Update | Deed::TakeOver => Some(true),
            Deed::Attach => done.then_some(true),
            Deed::Detach => done.then_some(false),
            _ => Some(false),
        };
        match expected {
            Some(expected) if expected != owner.is_some() => {
                Err(format!("{:?} was done: {done}, but the owner is {owner:?}", self.deed))
            }
            _ => Ok(()),
        }
    }

    /// The version that a victim was told must be the one that it wrote.
    pub(super) fn check_answer(&self, stage: &Stage, seen: Seen, version: u64) -> Verdict<()> {
        let told = output(stage, Role::First, VERSION);
        if self.deed.writes() && seen.first.is_some() && told != version {
            return Err(format!("expected that the writer is told version {version}, found {told}"));
        }
        if self.deed == Deed::Read && seen.first.is_some() {
            return self.check_read(stage, Role::First, 0);
        }
        Ok(())
    }

    /// What a reader was given beside `others` writes of others: a version of its time, whole.
    pub(super) fn check_read(&self, stage: &Stage, role: Role, others: u64) -> Verdict<()> {
        let [first, tag, version] = [FIRST, TAG, VERSION].map(|word| output(stage, role, word));
        let expected = match version.checked_sub(self.before) {
            Some(0) => Some(self.before),
            Some(n) if n <= others => Some(OTHERS + n - 1),
            _ => None,
        };
        if expected != Some(tag) || version < first {
            return Err(format!(
                "a reader that saw version {first} was given version {version} with tag {tag:#x}"
            ));
        }
        Ok(())
    }

    pub(super) fn check_writer_and_reader(
        &self,
        stage: &Stage,
        first: u64,
        second: u64,
    ) -> Verdict<Vec<(u64, u64)>> {
        let after = (VICTIM, self.before + 1);
        if first != DONE || output(stage, Role::First, VERSION) != after.1 {
            return Err(format!("expected that the writer is done, found the answer {first}"));
        }
        let [saw, tag, version] = [FIRST, TAG, VERSION].map(|word| output(stage, Role::Second, word));
        let legal = [(self.before, self.before), after];
        if second == DONE && (!legal.contains(&(tag, version)) || version < saw) {
            return Err(format!(
                "a reader that saw version {saw} was given version {version} with tag {tag:#x}"
            ));
        }
        if second != DONE && !(R::WAITS && second == BUSY) {
            return Err(format!("a reader beside a writer was given the answer {second}"));
        }
        Ok(vec![after])
    }

    pub(super) fn check_writers(&self, stage: &Stage, first: u64, second: u64) -> Verdict<Vec<(u64, u64)>> {
        let versions = [Role::First, Role::Second].map(|role| output(stage, role, VERSION));
        let next = self.before + 1;
        match (first, second, versions) {
            (DONE, DONE, [one, other]) if one == next && other == next + 1 => Ok(vec![(PARTNER, other)]),
            (DONE, DONE, [one, other]) if other == next && one == next + 1 => Ok(vec![(VICTIM, one)]),
            (DONE, BUSY, [one, _]) if one == next => Ok(vec![(VICTIM, one)]),
            (BUSY, DONE, [_, other]) if other == next => Ok(vec![(PARTNER, other)]),
            _ => Err(format!("two writers were given the answers {first} and {second}, and {versions:?}")),
        }
    }

    /// Two that wanted one role, or one that wanted what the other gave back.
    pub(super) fn check_rivals(&self, stage: &Stage, first: u64, second: u64) -> Verdict<Vec<(u64, u64)>> {
        let numbers = [Role::First, Role::Second].map(|role| output(stage, role, FIRST));
        let [one, other] = numbers;
        let well = match (first, second) {
            (DONE, TAKEN) => !R::SHARED,
            (TAKEN, DONE) => !R::SHARED && self.deed != Deed::Detach,
            (DONE, DONE) => self.deed == Deed::Detach || R::SHARED && one != other,
            _ => false,
        };
        if !well {
            return Err(format!("two rivals were given the answers {first} and {second}, and {numbers:?}"));
        }
        Ok(vec![(self.before, self.before)])
    }

    /// The next writer finds nothing changed and goes on counting, three laps more; then the role is free again.
    pub(super) fn go_on(
        &self,
        stage: &Stage,
        cell: &R::Cell,
        found: Found,
        legal: &[(u64, u64)],
    ) -> Verdict<()> {
        let leases = self.leases()?;
        let mut reader = self.reader.borrow_mut().take().map_or_else(|| Self::reader(stage), Ok)?;
        let mut writer = R::writer(cell, leases).map_err(|error| format!("the next writer: {error}"))?;
        let cut = found == Found::Died;
        let beside = R::read(&mut reader, leases);
        if beside != if cut { Found::Busy } else { found } {
            return Err(format!("{found:?} was found, with the next writer attached {beside:?}"));
        }
        if cut && R::UPDATES && R::update(&mut writer, leases, OTHERS) != Written::Damaged {
            return Err("expected that there is no value to change, but it was changed".to_owned());
        }
        let retries = R::retries(&reader);
        let mut next = None;
        for n in 0..3 * R::LAP {
            let tag = OTHERS + (1 << 16) + n;
            let written = if R::UPDATES && n % 2 == 1 {
                R::update(&mut writer, leases, tag)
            } else {
                R::write(&mut writer, leases, tag)
            };
            let Written::Version(version) = written else {
                return Err(format!("write {n} of the next writer: {written:?}"));
            };
            let well = match (next, found) {
                (Some(next), _) => version == next,
                (None, Found::Value(_, last)) => version == last + 1,
                (None, _) => legal.iter().any(|(_, last)| version == last + 1),
            };
            let read = [R::read(&mut reader, leases), R::read(&mut Self::reader(stage)?, leases)];
            if !well || read != [Found::Value(tag, version); 2] {
                return Err(format!(
                    "behind {found:?}, write {n} was version {version}, and then read as {read:?}"
                ));
            }
            next = Some(version + 1);
        }
        if R::retries(&reader) != retries {
            return Err(format!("expected no retries, found {}", R::retries(&reader) - retries));
        }
        drop(writer);
        if !R::SHARED && R::owner(cell).is_some() {
            return Err(format!("expected a free role, found {:?}", R::owner(cell)));
        }
        if !R::beside_is_whole(cell) {
            return Err("the cells beside it are not what they were".to_owned());
        }
        Ok(())
    }
}
