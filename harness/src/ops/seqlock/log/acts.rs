//! The parts of operations that are stepped, and what others do beside them.

use std::sync::atomic::Ordering;

use tidewire_seqlock::AttachError;
use tidewire_seqlock::log::{LogFull, NextError, Start};
use tidewire_shm::LeaseError;

use super::{
    BACK, CAPACITY, DONE, Deed, FAILED, FIRST, GATE, Item, KEPT, LogOperation, MISSED, OPENED, OTHERS,
    OVERTAKEN, PIECE, POSITION, REFUSED, TAG, TAKEN, TAKEN_BEFORE, VERSION, Verdict, Watch,
};
use crate::cells::{tag, value};
use crate::explore::{Act, Role, Stage};
use crate::ops::seqlock::acts::protect;

/// Leaves a word in the output of an act.
fn hand_out(stage: &Stage, role: Role, word: usize, value: u64) {
    if let Some(to) = stage.output(role).get(word) {
        // ORD stage: Relaxed, read after this process has ended.
        to.store(value, Ordering::Relaxed);
    }
}

/// What a reader was given.
fn found(stage: &Stage, next: Result<Option<(Item, u64)>, NextError>) -> u64 {
    match next {
        Ok(Some((value, version))) => {
            hand_out(stage, Role::First, TAG, tag(&value).unwrap_or(u64::MAX));
            hand_out(stage, Role::First, VERSION, version);
            DONE
        }
        Err(NextError::Overtaken { missed }) => {
            hand_out(stage, Role::First, MISSED, missed);
            OVERTAKEN
        }
        Ok(None) | Err(NextError::Corrupt(_)) => FAILED,
    }
}

impl LogOperation {
    /// A writer, attached, that writes what has the tags of `who`.
    pub(super) fn writing<'a>(
        &'a self,
        stage: &'a Stage,
        role: Role,
        deed: Deed,
        who: u64,
    ) -> Verdict<Act<'a>> {
        const MOST: u64 = 2 * PIECE;
        let mut writer = self.writer(stage)?;
        let values: Vec<Item> = (1..=MOST).map(|n| value(who + self.before + n)).collect();
        let count = usize::try_from(deed.count()).map_err(|error| error.to_string())?;
        let values = values.get(..count).map(<[Item]>::to_vec).unwrap_or_default();
        let Some(first) = values.first().copied() else {
            return Err(format!("{deed:?} writes nothing"));
        };
        Ok(Box::new(move || {
            let written = match deed {
                Deed::Write => Ok(writer.write(&first)),
                Deed::Slice(_) => Ok(writer.write_slice(&values)),
                Deed::TrySlice(_) => writer.try_write_slice(&values).map(|_| writer.version()),
                _ => writer.try_write(&first),
            };
            match written {
                Ok(version) => {
                    hand_out(stage, role, VERSION, version);
                    DONE
                }
                Err(LogFull { gate }) => {
                    hand_out(stage, role, GATE, gate.into());
                    REFUSED
                }
            }
        }))
    }

    /// Somebody who wants to be the writer.
    pub(super) fn attaching<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let (leases, log, mut kept) = (self.leases()?, Self::open(stage)?, None);
        Ok(Box::new(move || match log.writer(leases) {
            Ok(writer) => {
                hand_out(stage, Role::First, VERSION, writer.version());
                // Kept, so that to drop it is not part of the step.
                let _kept = kept.insert(writer);
                DONE
            }
            Err(AttachError::RoleTaken(_) | AttachError::Lease(LeaseError::Held { .. })) => TAKEN,
            Err(_) => FAILED,
        }))
    }

    /// A reader that wants a gate, and as much as a log surely has.
    pub(super) fn joining<'a>(&'a self, stage: &'a Stage, role: Role) -> Verdict<Act<'a>> {
        let (leases, log, mut kept) = (self.leases()?, Self::open(stage)?, None);
        Ok(Box::new(move || match log.gated_reader(Start::History(KEPT), leases) {
            Ok(reader) => {
                hand_out(stage, role, POSITION, reader.position());
                hand_out(stage, role, GATE, reader.gate().into());
                let _kept = kept.insert(reader);
                DONE
            }
            Err(AttachError::GatesExhausted { .. }) => TAKEN,
            Err(_) => FAILED,
        }))
    }

    /// A reader with a gate that has taken a group and a half: takes the next value, or leaves.
    pub(super) fn gated<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let reader = Self::open(stage)?.gated_reader(Start::History(BACK), self.leases()?);
        let mut reader = reader.map_err(|error| format!("joining: {error}"))?;
        for _ in 0..TAKEN_BEFORE {
            let next = reader.next().map_err(|error| format!("reading: {error}"))?;
            next.ok_or_else(|| "expected a value to read, found none".to_owned())?;
        }
        let mut reader = Some(reader);
        if self.deed == Deed::Leave {
            return Ok(Box::new(move || u64::from(reader.take().is_some())));
        }
        Ok(Box::new(move || {
            let Some(reader) = reader.as_mut() else { return FAILED };
            hand_out(stage, Role::First, FIRST, reader.position());
            let answer = found(stage, reader.next());
            hand_out(stage, Role::First, POSITION, reader.position());
            answer
        }))
    }

    /// A reader without a gate, on memory that it may not write to: at the oldest value, or a lap behind.
    pub(super) fn lossy<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let behind = self.watch.borrow().as_ref().map(|watch| watch.lossy.clone());
        let mut reader = match behind {
            Some(behind) if self.deed == Deed::Behind => behind,
            _ => Self::reader(stage)?,
        };
        protect(stage, true)?;
        Ok(Box::new(move || {
            hand_out(stage, Role::First, FIRST, reader.position());
            let answer = found(stage, reader.next());
            hand_out(stage, Role::First, POSITION, reader.position());
            answer
        }))
    }

    /// A writer that opens the gates of the dead.
    pub(super) fn reclaiming<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let (leases, mut writer) = (self.leases()?, self.writer(stage)?);
        let room = writer.room();
        if room != 0 {
            return Err(format!("expected that a dead reader leaves no room, found {room}"));
        }
        Ok(Box::new(move || {
            hand_out(stage, Role::First, OPENED, writer.reclaim_gates(leases).into());
            DONE
        }))
    }

    /// Beside a writer that stands: the watcher takes what is there. Then there is room, for whoever was refused.
    pub(super) fn read_beside(&self, stage: &Stage) -> Verdict<()> {
        let mut watch = self.watch.borrow_mut();
        let Some(Watch { gated, .. }) = watch.as_mut() else {
            return Err("expected a watcher, found none".to_owned());
        };
        let legal = self.legal_beside();
        let mut last = gated.position() - 1;
        while let Some((value, version)) = gated.next().map_err(|error| format!("the watcher: {error}"))? {
            if version != last + 1 || tag(&value) != Some(self.tag_of(version)) {
                return Err(format!("behind version {last}, the watcher found {version}, {value:x?}"));
            }
            last = version;
        }
        if !legal.contains(&last) {
            return Err(format!("expected that the watcher comes to one of {legal:?}, found {last}"));
        }
        if self.deed == Deed::Refused {
            *watch = None;
            Self::note_left(stage);
        }
        Ok(())
    }

    /// Beside a reader, or somebody who wants a role: the watcher leaves, and a writer goes on for three laps, as far as it is
    /// let. It does not ask those that have no gate.
    pub(super) fn write_beside(&self, stage: &Stage) -> Verdict<()> {
        let leases = self.leases()?;
        let mut writer = match Self::open(stage)?.writer(leases) {
            Ok(writer) => writer,
            Err(AttachError::RoleTaken(_) | AttachError::Lease(LeaseError::Held { .. }))
                if self.deed == Deed::TakeOver =>
            {
                return self.read_beside(stage);
            }
            Err(error) => return Err(format!("attaching: {error}")),
        };
        *self.watch.borrow_mut() = None;
        Self::note_left(stage);
        writer.reclaim_gates(leases);
        let [count, ..] = stage.notes();
        for n in 1..=3 * CAPACITY {
            let value = value(OTHERS + self.before + n);
            match writer.try_write(&value) {
                // ORD stage: Relaxed, read after this process has ended.
                Ok(version) if version == self.before + n => count.store(n, Ordering::Relaxed),
                // The one that stands has a gate.
                Err(LogFull { gate: 1 }) if self.may_refuse() => break,
                written => return Err(format!("write {n}: {written:?}")),
            }
        }
        Ok(())
    }

    /// Says that the watcher is gone.
    fn note_left(stage: &Stage) {
        let [_, left, ..] = stage.notes();
        // ORD stage: Relaxed, read after this process has ended.
        left.store(1, Ordering::Relaxed);
    }

    fn may_refuse(&self) -> bool {
        self.deed.joins() || matches!(self.deed, Deed::Next | Deed::Leave)
    }
}
