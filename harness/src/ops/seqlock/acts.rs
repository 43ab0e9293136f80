//! The parts of operations that are stepped.

use std::io;
use std::sync::atomic::Ordering;

use tidewire_seqlock::AttachError;
use tidewire_shm::LeaseError;

use super::{
    BUSY, CORRUPT, CellOperation, DIED, DONE, Deed, FIRST, Found, NEXT, Rig, TAG, TAKEN, TORN, VERSION,
    Verdict, Written,
};
use crate::explore::{Act, Role, Stage};

const PAGE: usize = 4096;

/// Takes the right to write to the segment from this process, or gives it back.
pub(super) fn protect(stage: &Stage, read_only: bool) -> Verdict<()> {
    let address = stage.segment().as_ptr();
    // The segment ends where a page ends; what lies before it on its first page is nobody's.
    let before = address.addr() % PAGE;
    let rights = if read_only { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
    // SAFETY: whole pages of the stage's mapping; this process has no reference into them, and what it stores to them
    // meanwhile is a fault, which is what the explorer looks for.
    let done = unsafe { libc::mprotect(address.wrapping_sub(before).cast(), before + stage.bytes(), rights) };
    if done == 0 { Ok(()) } else { Err(format!("protecting the segment: {}", io::Error::last_os_error())) }
}

/// Leaves a word in the output of an act.
fn hand_out(stage: &Stage, role: Role, word: usize, value: u64) {
    if let Some(to) = stage.output(role).get(word) {
        // ORD stage: Relaxed, read after this process has ended.
        to.store(value, Ordering::Relaxed);
    }
}

fn answer(stage: &Stage, role: Role, written: Written) -> u64 {
    match written {
        Written::Version(version) => {
            hand_out(stage, role, VERSION, version);
            DONE
        }
        Written::Torn => TORN,
        Written::Busy => BUSY,
        Written::Damaged => DIED,
        Written::Corrupt => CORRUPT,
    }
}

impl<R: Rig> CellOperation<R> {
    /// A writer, attached, that writes a value.
    pub(super) fn writing<'a>(&'a self, stage: &'a Stage, role: Role, tag: u64) -> Verdict<Act<'a>> {
        let leases = self.leases()?;
        let writer = R::writer(&Self::open(stage)?, leases);
        let mut writer = writer.map_err(|error| format!("attaching: {error}"))?;
        let update = self.deed == Deed::Update;
        Ok(Box::new(move || {
            let written =
                if update { R::update(&mut writer, leases, tag) } else { R::write(&mut writer, leases, tag) };
            answer(stage, role, written)
        }))
    }

    /// Somebody who wants to be the writer.
    pub(super) fn attaching<'a>(&'a self, stage: &'a Stage, role: Role) -> Verdict<Act<'a>> {
        let (leases, cell, mut kept) = (self.leases()?, Self::open(stage)?, None);
        Ok(Box::new(move || match R::writer(&cell, leases) {
            Ok(writer) => {
                hand_out(stage, role, FIRST, R::number(&writer));
                // Kept, so that to drop it is not part of the step.
                let _kept = kept.insert(writer);
                DONE
            }
            Err(AttachError::RoleTaken(_) | AttachError::Lease(LeaseError::Held { .. })) => TAKEN,
            Err(_) => CORRUPT,
        }))
    }

    /// Who comes after a dead writer: attaches and writes.
    pub(super) fn succeeding<'a>(&'a self, stage: &'a Stage) -> Verdict<Act<'a>> {
        let (leases, cell, mut kept) = (self.leases()?, Self::open(stage)?, None);
        Ok(Box::new(move || match R::writer(&cell, leases) {
            Ok(writer) => {
                let written = R::write(kept.insert(writer), leases, NEXT);
                answer(stage, Role::Second, written)
            }
            Err(_) => TAKEN,
        }))
    }

    /// A reader, on memory that it may not write to.
    pub(super) fn reading<'a>(&'a self, stage: &'a Stage, role: Role) -> Verdict<Act<'a>> {
        let leases = self.leases()?;
        let mut reader = Self::reader(stage)?;
        protect(stage, true)?;
        Ok(Box::new(move || {
            let first = R::version(&mut reader).unwrap_or(0);
            let found = R::read(&mut reader, leases);
            hand_out(stage, role, FIRST, first);
            match found {
                Found::Value(tag, version) => {
                    hand_out(stage, role, TAG, tag);
                    hand_out(stage, role, VERSION, version);
                    DONE
                }
                Found::Torn => TORN,
                Found::Busy => BUSY,
                Found::Died => DIED,
                Found::Corrupt => CORRUPT,
            }
        }))
    }
}
