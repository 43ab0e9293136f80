//! Cells, each wrong in one way that real ones were wrong in. Each must be caught by the explorer, and by `stress`; a
//! right cell of the same shape must pass both.
//!
//! # Memory layout
//! Owner and latest version where a [cell](tidewire_seqlock::Cell) has them, then four slots of eight words and a stamp.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use anyhow::{Result, bail};
use tidewire_seqlock::{AttachError, Owner};
use tidewire_shm::{Liveness as _, Region, RoleId, SegmentLease, SegmentLeases, Untrusted};

use super::TwinRow;
use crate::cells::rig::{Found, Rig, Written, slot_bytes};
use crate::cells::{CellRow, tag, value};
use crate::explore::{Mode, Operation};
use crate::ops::cell_operation;
use crate::report::complain;
use crate::stress::cells::{Play, play};

/// Nothing is wrong.
const RIGHT: usize = 0;
/// One slot, whose version changes when the value has: nobody sees that it is being written.
const UNMARKED: usize = 1;
/// Readers do not look whether the writer came round to their slot.
const UNCHECKED: usize = 2;
/// The version is published before the value is there.
const EARLY: usize = 3;
/// One slot and an odd version while it is written, and readers that wait until it is even.
const ENDLESS: usize = 4;
/// Who wants to write does, whoever has the lease.
const STOLEN: usize = 5;

const WORDS: usize = 8;
const SLOTS: u64 = 4;
const BUSY: u64 = 1 << 63;
const ATTEMPTS: u32 = 1000;
/// How long a twin is under stress at the most.
const TIME: Duration = Duration::from_secs(10);
/// How long the right cell is.
const RIGHT_TIME: Duration = Duration::from_millis(500);

/// A cell with a flaw.
pub(crate) struct Broken<const FLAW: usize>;

/// The words of a cell.
pub(crate) struct Memory(Arc<Region<Untrusted>>);

/// Its writer; dropping it frees the role.
pub(crate) struct Writer {
    memory: Memory,
    _lease: Option<SegmentLease>,
}

/// A reader, and how often it tried again.
pub(crate) struct Reader {
    memory: Memory,
    retries: u64,
}

const OWNER: usize = 384;
const LATEST: usize = 512;

fn slot(version: u64) -> usize {
    LATEST + 128 + usize::try_from(version % SLOTS).unwrap_or(0) * slot_bytes(WORDS)
}

impl Memory {
    fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    #[inline(always)]
    fn get(&self, offset: usize) -> u64 {
        // SAFETY: words of the layout, which is within the region; it is kept.
        let word = unsafe { self.0.atomic_u64(offset) };
        // ORD twin: Acquire <- `Memory::put`; the twins are wrong in their steps, not in their orderings.
        word.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn put(&self, offset: usize, to: u64) {
        // SAFETY: as above; writers have regions that may be written.
        let word = unsafe { self.0.atomic_u64(offset) };
        // ORD twin: Release -> `Memory::get`; as above.
        word.store(to, Ordering::Release);
    }

    #[inline(always)]
    fn fill(&self, at: usize, words: &[u64; WORDS]) {
        // ORD twin: Release -> the fence of `copy`; who sees a word stored below sees what was stored above.
        fence(Ordering::Release);
        for (n, word) in words.iter().enumerate() {
            self.put(at + 8 * n, *word);
        }
    }

    #[inline(always)]
    fn copy(&self, at: usize) -> [u64; WORDS] {
        let words = std::array::from_fn(|n| self.get(at + 8 * n));
        // ORD twin: Acquire <- the fence of `fill`; if a word above came from a newer value, what is loaded below tells.
        fence(Ordering::Acquire);
        words
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.memory.put(OWNER, 0);
    }
}

impl<const FLAW: usize> Broken<FLAW> {
    const ONE_SLOT: bool = FLAW == UNMARKED || FLAW == ENDLESS;

    #[inline(always)]
    fn latest(memory: &Memory) -> u64 {
        let latest = memory.get(LATEST);
        if FLAW == ENDLESS { latest >> 1 } else { latest }
    }

    #[inline(never)]
    fn store(memory: &Memory, version: u64, words: &[u64; WORDS]) {
        if FLAW == UNMARKED {
            memory.fill(slot(0), words);
            return memory.put(LATEST, version);
        }
        if FLAW == ENDLESS {
            memory.put(LATEST, 2 * version - 1);
            memory.fill(slot(0), words);
            return memory.put(LATEST, 2 * version);
        }
        if FLAW == EARLY {
            memory.put(LATEST, version);
        }
        let at = slot(version);
        memory.put(at + 8 * WORDS, BUSY | version);
        memory.fill(at, words);
        memory.put(at + 8 * WORDS, version);
        memory.put(LATEST, version);
    }

    #[inline(never)]
    fn load(memory: &Memory) -> Option<([u64; WORDS], u64)> {
        let latest = memory.get(LATEST);
        if FLAW == ENDLESS && latest & 1 != 0 {
            return None;
        }
        let at = if Self::ONE_SLOT { slot(0) } else { slot(latest) };
        let words = memory.copy(at);
        let whole = match FLAW {
            UNMARKED | ENDLESS => memory.get(LATEST) == latest,
            UNCHECKED => true,
            _ => memory.get(at + 8 * WORDS) == latest,
        };
        whole.then_some((words, if FLAW == ENDLESS { latest >> 1 } else { latest }))
    }
}

impl<const FLAW: usize> Rig for Broken<FLAW> {
    type Cell = Memory;
    type Writer = Writer;
    type Reader = Reader;

    const STRUCTURE: &'static str = match FLAW {
        RIGHT => "twin-cell, right",
        UNMARKED => "cell without a mark",
        UNCHECKED => "cell whose readers do not look twice",
        EARLY => "cell that publishes first",
        ENDLESS => "cell whose readers wait for ever",
        _ => "cell whose role is for everybody",
    };
    const LAP: u64 = SLOTS;
    const WORDS: usize = WORDS;
    const UPDATES: bool = false;

    fn bytes() -> usize {
        slot(SLOTS - 1) + slot_bytes(WORDS)
    }

    fn create(region: Region<Untrusted>) -> Result<Memory, String> {
        let memory = Memory(Arc::new(region));
        (OWNER..Self::bytes()).step_by(8).for_each(|offset| memory.put(offset, 0));
        memory.fill(slot(0), &value(0));
        Ok(memory)
    }

    fn open(region: Region<Untrusted>) -> Result<Memory, AttachError> {
        Ok(Memory(Arc::new(region)))
    }

    fn writer(cell: &Memory, leases: &SegmentLeases) -> Result<Writer, AttachError> {
        let lease = match RoleId::producer(0) {
            Some(role) if FLAW != STOLEN => Some(leases.acquire(role).map_err(AttachError::Lease)?),
            _ => None,
        };
        cell.put(OWNER, 1 << 32 | u64::from(std::process::id()));
        Ok(Writer { memory: cell.share(), _lease: lease })
    }

    fn reader(cell: &Memory) -> Reader {
        Reader { memory: cell.share(), retries: 0 }
    }

    fn owner(cell: &Memory) -> Option<Owner> {
        let word = cell.get(OWNER);
        let half = |word| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        (word != 0).then(|| Owner { id: half(word), generation: half(word >> 32) })
    }

    fn write(writer: &mut Writer, _leases: &SegmentLeases, tag: u64) -> Written {
        let version = Self::latest(&writer.memory) + 1;
        Self::store(&writer.memory, version, &value(tag));
        Written::Version(version)
    }

    fn update(_writer: &mut Writer, _leases: &SegmentLeases, _tag: u64) -> Written {
        Written::Damaged
    }

    fn read(reader: &mut Reader, _leases: &SegmentLeases) -> Found {
        let mut attempts = 0;
        while FLAW == ENDLESS || attempts < ATTEMPTS {
            if let Some((words, version)) = Self::load(&reader.memory) {
                return tag(&words).map_or(Found::Torn, |tag| Found::Value(tag, version));
            }
            attempts += 1;
            reader.retries += 1;
            std::hint::spin_loop();
        }
        Found::Busy
    }

    fn version(reader: &mut Reader) -> Option<u64> {
        Some(Self::latest(&reader.memory))
    }

    fn retries(reader: &Reader) -> u64 {
        reader.retries
    }

    fn number(_writer: &Writer) -> u64 {
        0
    }

    fn believed(_version: u64) -> Vec<usize> {
        vec![LATEST]
    }
}

/// An operation of a twin, the mode that must find it broken, and how the first verdict must begin.
pub(crate) type Case = (Option<Box<dyn Operation>>, Mode, &'static str);

/// What the explorer must find.
pub(super) fn cases() -> Vec<Case> {
    vec![
        (
            cell_operation::<Broken<UNMARKED>>("write"),
            Mode::Kill,
            "expected a tag and a version of [(2, 2), (4294967296, 3)], found Torn",
        ),
        (
            cell_operation::<Broken<UNMARKED>>("write"),
            Mode::Pairs,
            "a reader beside a writer was given the answer 4",
        ),
        (
            cell_operation::<Broken<UNCHECKED>>("read"),
            Mode::Freeze,
            "a reader that saw version 6 was given version 6 with tag 0x4",
        ),
        (
            cell_operation::<Broken<EARLY>>("write"),
            Mode::Kill,
            "expected a tag and a version of [(2, 2), (4294967296, 3)], found ",
        ),
        (cell_operation::<Broken<ENDLESS>>("write"), Mode::Kill, "a survivor is blocked: no end within"),
        (
            cell_operation::<Broken<STOLEN>>("write"),
            Mode::Freeze,
            "beside the frozen victim: the role of a frozen writer was given away",
        ),
    ]
}

/// What the explorer must find nothing wrong with.
pub(super) fn right() -> Vec<Box<dyn Operation>> {
    let names = ["write", "write round the slots", "read"];
    names.into_iter().filter_map(cell_operation::<Broken<RIGHT>>).collect()
}

/// Puts each twin under stress until it is caught, and the right cell, which must not be.
///
/// # Errors
/// What the system says, or that the right cell was found wrong.
pub(crate) fn under_stress(seed: u64, out: &mut dyn FnMut(TwinRow)) -> Result<bool> {
    fn put<const FLAW: usize>(seed: u64, time: Duration) -> Result<CellRow> {
        play::<Broken<FLAW>>(&Play {
            structure: Broken::<FLAW>::STRUCTURE,
            payload_bytes: 8 * WORDS as u64,
            // More than there are processors here or there: who copies is interrupted.
            readers: 3,
            time,
            seed,
            patience: if FLAW == RIGHT { Duration::from_secs(5) } else { Duration::from_millis(500) },
            apart: FLAW == ENDLESS,
        })
    }
    let right = put::<RIGHT>(seed, RIGHT_TIME)?;
    if !right.verified {
        bail!("the right cell was found wrong: {:?}", right.troubles);
    }
    let mut all = true;
    let rows = [
        (put::<UNMARKED>(seed, TIME)?, true),
        (put::<UNCHECKED>(seed, TIME)?, true),
        (put::<EARLY>(seed, TIME)?, false),
        (put::<ENDLESS>(seed, TIME)?, false),
        (put::<STOLEN>(seed, TIME)?, false),
    ];
    for (row, tears) in rows {
        // What is published first is found torn while the writer lives, and missing when it is dead.
        let caught = !row.verified && (row.torn > 0 || !tears && row.blocked > 0);
        if !caught {
            complain(&format!("{}: {:?}", row.structure, row.troubles));
        }
        all &= caught;
        out(TwinRow::new(&row.structure, "stress", caught));
    }
    Ok(all)
}
