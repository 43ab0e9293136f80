//! Writers of the log, and a reader with a gate, that are each wrong in one way; who prepares and who judges are those of the right ones.

use std::sync::Arc;

use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{Region, Untrusted};

use super::{
    CAPACITY, DATA, DONE, GATE_ONE, KEPT, LATEST, LogOperation, OWNER, SLOT, VICTIM, Verdict, table, writable,
};
use crate::cells::value;
use crate::explore::{Act, Mode, Operation, Role, Stage};

/// A wrong victim.
pub(super) type Breaks = for<'a> fn(&'a Stage) -> Verdict<Act<'a>>;

/// A twin, the mode that must find it broken, and how the first verdict must begin.
type Case = (Option<Box<dyn Operation>>, Mode, &'static str);

/// What the explorer must find.
pub(crate) fn cases() -> Vec<Case> {
    let case = |structure, name: &str, mode, breaks: Breaks, verdict| {
        let right = table().into_iter().find(|row| row.name == name);
        let twin = right.map(|row| LogOperation { structure, breaks: Some(breaks), ..row });
        (twin.map(|twin| Box::new(twin) as Box<dyn Operation>), mode, verdict)
    };
    vec![
        case(
            "log that publishes first",
            "write within a group",
            Mode::Kill,
            publish_first,
            "a new reader: expected version 37 with tag 0x100000025, found version 37 with Some(5)",
        ),
        case(
            "log whose groups are not entered",
            "write into the next group",
            Mode::Kill,
            enter_never,
            "a new reader: expected version 6 with tag 0x6, found version 6 with None",
        ),
        case(
            "log whose gates close unseen",
            "join at a free gate",
            Mode::Freeze,
            close_unseen,
            "expected that a reader at 15 misses nothing, found version ",
        ),
    ]
}

/// A word of the log; kept with its region.
fn word(region: &Region<Untrusted>, offset: usize) -> Shared<AtomicU64> {
    // SAFETY: a word of the log, used as this atomic only; kept with the region.
    unsafe { region.atomic_u64(offset) }
}

/// The words that a writer needs for one version.
struct Words {
    _region: Arc<Region<Untrusted>>,
    latest: Shared<AtomicU64>,
    slot: Vec<Shared<AtomicU64>>,
    version: u64,
}

impl Words {
    fn new(stage: &Stage) -> Verdict<Self> {
        let region = Arc::new(writable(stage.segment(), stage.bytes())?);
        let word = |offset| word(&region, offset);
        // ORD own: Relaxed, nobody else wants the role.
        word(OWNER).store(1 << 32 | u64::from(std::process::id()), Ordering::Relaxed);
        let latest = word(LATEST);
        // ORD own: Relaxed, nobody else writes.
        let version = latest.load(Ordering::Relaxed) + 1;
        let at = DATA + usize::try_from(version % CAPACITY).map_err(|error| error.to_string())? * SLOT;
        let slot = (at..at + SLOT).step_by(8).map(word).collect();
        Ok(Self { latest, slot, version, _region: Arc::clone(&region) })
    }

    fn fill(&self) {
        for (to, word) in self.slot.iter().zip(value::<3>(VICTIM + self.version)) {
            // ORD run: Relaxed; the twins are wrong in their steps, not in their orderings.
            to.store(word, Ordering::Relaxed);
        }
    }

    fn publish(&self, stage: &Stage) {
        // ORD log.publish: Release -> `Reader::refresh`; hands over what is there by now.
        self.latest.store(self.version, Ordering::Release);
        if let Some(told) = stage.output(Role::First).get(super::VERSION) {
            // ORD stage: Relaxed, read after this process has ended.
            told.store(self.version, Ordering::Relaxed);
        }
    }
}

/// The version is published before the value is there.
fn publish_first(stage: &Stage) -> Verdict<Act<'_>> {
    let words = Words::new(stage)?;
    Ok(Box::new(move || {
        words.publish(stage);
        words.fill();
        DONE
    }))
}

/// Nobody is told that the group of the lap before is overwritten.
fn enter_never(stage: &Stage) -> Verdict<Act<'_>> {
    let words = Words::new(stage)?;
    Ok(Box::new(move || {
        words.fill();
        words.publish(stage);
        DONE
    }))
}

/// A reader that closes its gate where it wants to start, and does not look whether the writer has been there since.
fn close_unseen(stage: &Stage) -> Verdict<Act<'_>> {
    let region = writable(stage.segment(), stage.bytes())?;
    let [latest, head, owner] = [LATEST, GATE_ONE, GATE_ONE + 8].map(|offset| word(&region, offset));
    let id = u64::from(std::process::id());
    Ok(Box::new(move || {
        let _kept = &region;
        // ORD own: Relaxed, nobody else wants the gate.
        owner.store(1 << 32 | id, Ordering::Relaxed);
        // ORD log.publish: Acquire <- `Writer::publish`; the slots up to this version.
        let position = latest.load(Ordering::Acquire) + 1 - KEPT;
        // ORD gate.meet: SeqCst, as strong as can be, and too late.
        head.store(position, Ordering::SeqCst);
        for (at, told) in [(super::POSITION, position), (super::GATE, 1)] {
            if let Some(to) = stage.output(Role::First).get(at) {
                // ORD stage: Relaxed, read after this process has ended.
                to.store(told, Ordering::Relaxed);
            }
        }
        DONE
    }))
}
