//! A look at a log by somebody who knows nothing of its values but what the header says.

use core::fmt;

use tidewire_shm::sync::Ordering;
use tidewire_shm::{Header, Region, Trust, Trusted};

use super::layout::{Element, KIND_LOG_BYTES, Layout, Measure};
use super::{OPEN, gate};
use crate::cell::owner_word;
use crate::engine::END;
use crate::error::{AttachError, Corrupt, CorruptWord};
use crate::layout::{KIND_LOG, WORD_BYTES};
use crate::look::element_of;
use crate::role::Owner;

/// A gate as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateStats {
    /// The number of the gate.
    pub gate: u32,
    /// Who holds it, if anybody: a reader that is running, stopped or dead.
    pub owner: Option<Owner>,
    /// Values that are published and that its reader has not let go of; `None` if the gate is open. It has not taken at most as
    /// many; the difference is less than an eighth of the capacity, or than a group (a 16th of the capacity, at most 64),
    /// whichever is more. Those beyond the capacity are overwritten.
    pub lag: Option<u64>,
}

/// A log of values of any type, for whoever only looks: monitors, and the tools of an operator. It sees no values.
///
/// # Guarantees
/// Those of a [view of cells](crate::View).
///
/// # Examples
/// ```
/// use tidewire_seqlock::log::{Log, Options, Start, View};
/// use tidewire_shm::{Segment, Unleased};
///
/// let options = Options::new(16).gates(2);
/// let segment = Segment::anonymous(Log::<[u64; 3]>::bytes(&options)?)?;
/// let log = Log::<[u64; 3], _>::create(segment.region(), &options)?;
/// let (mut writer, _slow) = (log.writer(&Unleased)?, log.gated_reader(Start::Next, &Unleased)?);
/// writer.write_slice(&[[1; 3], [2; 3]]);
///
/// let view = View::open(segment.region().read_only())?;
/// assert_eq!((view.element_bytes(), view.capacity(), view.version()?), (24, 16, 2));
/// assert_eq!(view.gates().map(|gate| gate.lag).collect::<Vec<_>>(), [Some(2), None]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct View<L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
}

impl<L: Trust> View<L> {
    /// Opens a log that somebody created; header and shape are read once and never again.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that no log has.
    pub fn open(region: Region<L>) -> Result<Self, AttachError> {
        let header = Header::inspect(&region)?;
        let layout = if header.kind == KIND_LOG_BYTES {
            Layout::open_bytes(&region, header.type_fingerprint)?
        } else {
            let (bytes, align) = element_of(&header)?;
            let element = Element { kind: KIND_LOG, bytes, align, words: bytes.div_ceil(WORD_BYTES) };
            Layout::open(&region, element, header.type_fingerprint)?
        };
        Ok(Self { region, layout })
    }

    /// Bytes of a value, of the longest one for values of bytes.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        self.layout.element.bytes
    }

    /// Slots of the log; see [`Log::capacity`](super::Log::capacity).
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.layout.measure.capacity
    }

    /// How many of the latest values are there whatever the writer is doing, once there are so many; see
    /// [`Log::kept`](super::Log::kept).
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.layout.measure.kept()
    }

    /// The version of the latest value; 0 if there is none.
    ///
    /// # Errors
    /// [`Corrupt`] if it cannot be.
    pub fn version(&self) -> Result<u64, Corrupt> {
        // SAFETY: a control word of a validated layout; the region is kept.
        let latest = unsafe { self.region.atomic_u64(self.layout.front.place(0).latest) };
        // ORD advice: Relaxed, a number for people; nothing is read behind it.
        let found = latest.load(Ordering::Relaxed);
        if found < END { Ok(found) } else { Err(Corrupt { what: CorruptWord::Version, found }) }
    }

    /// What can be seen of the gates now. Where the latest version cannot be, nobody lags.
    pub fn gates(&self) -> impl Iterator<Item = GateStats> + '_ {
        (0..self.layout.gates).map(|number| {
            // ORD advice: Relaxed, a number for people, of about the moment of the one below.
            let head = gate::head(&self.region, &self.layout, number).load(Ordering::Relaxed);
            let latest = self.version().unwrap_or(0);
            // Whoever lies may name any version: there is none behind the latest, and none before the first.
            let lag = (head != OPEN).then(|| (latest + 1).saturating_sub(head));
            GateStats {
                gate: number,
                owner: Owner::of(&gate::owner(&self.region, &self.layout, number)),
                lag,
            }
        })
    }

    /// Who holds the role of the writer now.
    #[must_use]
    pub fn writer_owner(&self) -> Option<Owner> {
        Owner::of(&owner_word(&self.region, &self.layout.front.place(0), 0))
    }
}

impl<L: Trust> fmt::Debug for View<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measure { capacity, .. } = self.layout.measure;
        f.debug_struct("View")
            .field("capacity", &capacity)
            .field("gates", &self.layout.gates)
            .finish_non_exhaustive()
    }
}
