//! Bells: how whoever waits for a structure to change goes to sleep, and how whoever changes it wakes the sleeper.
//!
//! A sleeper raises a flag in shared memory before it sleeps. A ringer looks at the flag after each publication; as
//! long as both are awake that look is all that a bell costs: no system call, and in [membarrier
//! mode](BellMode::Membarrier) no fence either.
//!
//! # Memory layout
//! Eight bytes on a line of the sleeper, at a multiple of eight:
//! ```text
//! +0   flag u32   a bell:      bits 0..2  0 awake | 1 asleep on a futex | 2 asleep on an eventfd | 3 rung
//!                              bits 2..32 announcement: grows by one each time the flag is raised; wraps
//!                 a doorbell:  how many sleep ([`Waiters`])
//! +4   kind u32   bits 0..8    1 fence mode | 2 membarrier mode
//!                 bits 8..16   1 word form | 2 position form | 3 waiters form
//! ```
//! The kind is written once, when the bell is created, and read by each process when it makes an end of it.
//!
//! # Protocol
//! | flag | who changes it | to |
//! |---|---|---|
//! | awake | the sleeper, when it found nothing to do | asleep, with the next announcement |
//! | asleep on a futex | a ringer, in word form, before it wakes | rung, same announcement |
//! | asleep, rung | the sleeper, as soon as it runs again | awake, same announcement |
//!
//! The sleeper, after it spun in vain: raise the flag; full fence, or `membarrier`; look again; sleep, but not longer
//! than a [slice](SleepOptions::slice); lower the flag; look again. The ringer, after each publication: full fence, or
//! only a compiler fence; look at the flag; if it is up, wake.
//!
//! What the sleeper sleeps on is a matter of the [form](BellForm). In word form it is the flag itself, and the ringer
//! marks the flag as rung before it wakes, so that a sleeper that is not quite asleep does not fall asleep. In position
//! form it is the low half of the position that the ringer publishes: the publication itself keeps the sleeper awake,
//! the ringer never writes the flag, and memory that it can only read will do. In both, **only the sleeper lowers the
//! flag**.
//!
//! # Invariants
//! - I1: the flag is up from before the look that precedes a sleep until after it.
//! - I2: a ringer lowers no flag. What it writes to a flag that is up leaves it up.
//! - I3: the sleeper never uses what it reads from the flag: announcements are counted in private.
//! - I4: no single sleep lasts longer than the slice, whatever anybody wrote or did not write.
//! - I5: one ringer wakes at most once for one announcement in word form; in position form it goes on until a wake
//!   found somebody.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | what it hands over |
//! |---|---|---|---|
//! | bell.meet | publication, fence in `Ringer::ring` | fence in `wait::announced`, look | either the look sees the publication, or the ringer sees the flag |
//! | waiters.meet | publication, fence in `WaitersRinger::ring` | fence in `wait::announced`, look | the same, with the count |
//!
//! The data themselves are handed over by the structure's own publication, which the look acquires; a bell orders
//! nothing but the meeting. In membarrier mode the kernel executes the ringer's fence for it, on every processor that
//! runs a registered process, while the sleeper waits for it.
//!
//! # Crash argument
//! | killed here | the others see | who repairs | cost |
//! |---|---|---|---|
//! | ringer: before the flag was looked at | a publication, a flag that is up | the next ring of any ringer, or the end of the slice | at most a slice |
//! | ringer: after the mark, before the wake | flag rung | the same: a flag that is rung is still up, so the next ringer wakes | at most a slice |
//! | ringer: after the wake | a sleeper that wakes | nobody | nothing |
//! | sleeper: flag up | a flag that is up | the next sleeper, when it begins; until then each ringer wakes nobody, once (in position form: per ring) | system calls |
//! | waiter: counted | a count that is too high | [`WaitersRinger::reset`] | a system call per ring |
//!
//! # Not guaranteed
//! - A peer that can write the flag can make the sleeper's sleeps end early or last a whole slice, and a ringer's
//!   rings cost a system call. It can do no more: not crash, not hang beyond the deadline.
//! - A false "unchanged" in position form needs exactly 2^32 positions between a look and the sleep that follows it, a
//!   wrong "rung already" exactly 2^30 sleeps between two looks of a ringer. Either costs a slice.
//! - Wakes are not fair and not counted; a sleeper may wake for nothing.

mod error;
#[cfg(all(feature = "std", not(loom)))]
mod event;
mod kernel;
#[cfg(all(feature = "std", not(loom)))]
mod pipe;
mod ringer;
mod roster;
mod sleeper;
#[cfg(all(feature = "std", not(loom)))]
mod system;
mod wait;
mod waiters;

use core::time::Duration;

use crate::region::Region;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Shared};
use crate::trust::Trust;

pub use error::BellError;
#[cfg(all(feature = "std", not(loom)))]
pub use event::{Armed, EventBell};
pub use kernel::{Deadline, Kernel, Nap, Place};
#[cfg(all(feature = "std", not(loom)))]
pub use pipe::{EventAddress, EventPipe};
pub use ringer::{Ringer, RingerTally, Rung};
pub use roster::{Attendance, Caller, Entry, Hands, ROSTER_COUNTERS, ROSTER_MAX, Roster, roster_bytes};
pub use sleeper::{SleepOptions, SleepTally, Sleeper, Spin};
#[cfg(all(feature = "std", not(loom)))]
pub use system::{Capabilities, System, capabilities};
#[cfg(all(feature = "std", not(loom)))]
pub(crate) use system::{nap, timespec};
#[cfg(all(feature = "std", not(loom)))]
pub(crate) use wait::Watch;
pub use wait::{PeerState, Woken};
pub use waiters::{Waiter, Waiters, WaitersRinger};

/// Bytes of a bell, and its alignment.
pub const BELL_BYTES: usize = 8;

/// How long a sleep lasts at most if nothing else is chosen.
pub const DEFAULT_SLICE: Duration = Duration::from_millis(50);

/// How long a sleep lasts at most where the death of a peer wakes nobody: without a death notice, or where a kernel
/// cannot wait for several words.
///
/// Whoever sleeps without a notice to watch asks after the peer's lease this often.
pub const UNWATCHED_SLICE: Duration = Duration::from_millis(10);

pub(crate) const STATE: u32 = 0b11;
pub(crate) const AWAKE: u32 = 0;
pub(crate) const ON_FUTEX: u32 = 1;
#[cfg(all(feature = "std", not(loom)))]
pub(crate) const ON_EVENTFD: u32 = 2;
pub(crate) const RUNG: u32 = 3;
/// One announcement.
pub(crate) const ANNOUNCEMENT: u32 = STATE + 1;

/// Who pays for the fence that lets a publication and a raised flag meet. Chosen when a bell is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BellMode {
    /// Both sides: the ringer executes a full fence per ring. Works everywhere.
    Fence,
    /// The sleeper alone, with a system call before each sleep; the ringer executes none. Every process that rings
    /// must be able to register for it.
    Membarrier,
}

impl BellMode {
    /// [`Membarrier`](Self::Membarrier) if this process can register for it and use it, else [`Fence`](Self::Fence).
    /// Peers that cannot are refused by a bell in membarrier mode: where they are not known to be able, choose the
    /// fence.
    #[must_use]
    pub fn choose<K: Kernel>(kernel: &K) -> Self {
        if kernel.register().is_ok() && kernel.barrier() { Self::Membarrier } else { Self::Fence }
    }

    fn prepare<K: Kernel>(self, kernel: &K) -> Result<(), BellError> {
        match self {
            Self::Fence => Ok(()),
            Self::Membarrier => kernel.register().map_err(|errno| BellError::Membarrier { errno }),
        }
    }
}

/// What a sleeper sleeps on. Chosen when a bell is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BellForm {
    /// The flag: for several ringers, who must be able to write it.
    Word,
    /// The position that its only ringer publishes: the ringer needs to write nothing else.
    Position,
    /// A position, for several sleepers, who are counted: see [`Waiters`].
    Waiters,
}

fn encode(mode: BellMode, form: BellForm) -> u32 {
    let mode = match mode {
        BellMode::Fence => 1,
        BellMode::Membarrier => 2,
    };
    let form = match form {
        BellForm::Word => 1,
        BellForm::Position => 2,
        BellForm::Waiters => 3,
    };
    mode | form << 8
}

fn decode(kind: u32) -> Result<(BellMode, BellForm), BellError> {
    let mode = match kind & 0xff {
        1 => BellMode::Fence,
        2 => BellMode::Membarrier,
        _ => return Err(BellError::Kind { found: kind }),
    };
    let form = match kind >> 8 {
        1 => BellForm::Word,
        2 => BellForm::Position,
        3 => BellForm::Waiters,
        _ => return Err(BellError::Kind { found: kind }),
    };
    Ok((mode, form))
}

/// A bell in a region: where its flag is, and what was chosen for it.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use tidewire_shm::Region;
/// use tidewire_shm::bell::{Bell, BellForm, BellMode, Deadline, SleepOptions, System, Woken};
///
/// let region = Region::heap(128)?;
/// // SAFETY: the eight bytes are used as this bell only, and the region outlives it.
/// let bell = unsafe { Bell::create(&region, 0, BellMode::choose(&System), BellForm::Word)? };
/// let mut ringer = bell.ringer(System)?;
/// let mut sleeper = bell.sleeper(System, &SleepOptions::new())?;
///
/// static DONE: AtomicBool = AtomicBool::new(false);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         DONE.store(true, Ordering::Release);
///         ringer.ring();
///     });
///     let woken = sleeper.wait(|| DONE.load(Ordering::Acquire), Deadline::NEVER);
///     assert_eq!(woken, Woken::Ready);
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bell {
    flag: Shared<AtomicU32>,
    mode: BellMode,
    form: BellForm,
    writable: bool,
}

impl Bell {
    /// Writes a bell: nobody is asleep.
    ///
    /// Part of the creation of a structure, before it is published.
    ///
    /// # Errors
    /// [`BellError::ReadOnly`] if the region can only be read, [`BellError::Place`] if `offset` is not a multiple of
    /// eight with eight bytes of the region behind it.
    ///
    /// # Safety
    /// - the eight bytes at `offset` are only ever accessed as a bell;
    /// - the region outlives the bell and everything made from it.
    pub unsafe fn create<L: Trust>(
        region: &Region<L>,
        offset: usize,
        mode: BellMode,
        form: BellForm,
    ) -> Result<Self, BellError> {
        // SAFETY: the caller's promises are the same.
        let (flag, kind) = unsafe { words(region, offset)? };
        region.require_writable_at(offset, BELL_BYTES).map_err(|_| BellError::ReadOnly)?;
        // ORD own: Relaxed, published with the structure.
        flag.store(AWAKE, Ordering::Relaxed);
        kind.store(encode(mode, form), Ordering::Relaxed);
        Ok(Self { flag, mode, form, writable: true })
    }

    /// Finds a bell that was created there. Works on memory that can only be read.
    ///
    /// # Errors
    /// [`BellError::Place`] as [`create`](Self::create), [`BellError::Kind`] if there is no bell of a kind that this
    /// version knows.
    ///
    /// # Safety
    /// As [`create`](Self::create).
    pub unsafe fn open<L: Trust>(region: &Region<L>, offset: usize) -> Result<Self, BellError> {
        // SAFETY: the caller's promises are the same.
        let (flag, kind) = unsafe { words(region, offset)? };
        // ORD own: Relaxed, written before the structure was published.
        let (mode, form) = decode(kind.load(Ordering::Relaxed))?;
        Ok(Self { flag, mode, form, writable: region.is_writable_at(offset, BELL_BYTES) })
    }

    /// Who pays for the fence.
    #[must_use]
    pub fn mode(&self) -> BellMode {
        self.mode
    }

    /// What the sleeper sleeps on.
    #[must_use]
    pub fn form(&self) -> BellForm {
        self.form
    }

    /// An end for a publisher: one per role, several where there are several.
    ///
    /// Make it before the first publication: in membarrier mode this registers the process. The first registration of
    /// a process takes microseconds while it has one thread, and some ten milliseconds when it has more.
    ///
    /// # Errors
    /// [`BellError::Form`] if the bell is not of word form, [`BellError::ReadOnly`] if the flag cannot be marked,
    /// [`BellError::Membarrier`] if the bell is in membarrier mode and this process cannot register.
    pub fn ringer<K: Kernel>(&self, kernel: K) -> Result<Ringer<K>, BellError> {
        self.expect(BellForm::Word)?;
        self.expect_writable()?;
        self.mode.prepare(&kernel)?;
        Ok(Ringer::new(self.flag.clone(), None, self.mode, kernel))
    }

    /// The end of the only publisher of `position`, which needs to write nothing of the bell.
    ///
    /// # Errors
    /// [`BellError::Form`] if the bell is not of position form, [`BellError::Membarrier`] as
    /// [`ringer`](Self::ringer).
    pub fn ringer_on<K: Kernel>(
        &self,
        position: Shared<AtomicU64>,
        kernel: K,
    ) -> Result<Ringer<K>, BellError> {
        self.expect(BellForm::Position)?;
        self.mode.prepare(&kernel)?;
        Ok(Ringer::new(self.flag.clone(), Some(position), self.mode, kernel))
    }

    /// The end of the one who waits. Lowers a flag that a dead one left up.
    ///
    /// # Errors
    /// [`BellError::Form`] if the bell is not of word form, [`BellError::ReadOnly`] if the flag cannot be raised,
    /// [`BellError::Membarrier`] if the bell is in membarrier mode and the kernel refuses it to this process.
    pub fn sleeper<K: Kernel>(&self, kernel: K, options: &SleepOptions) -> Result<Sleeper<K>, BellError> {
        self.expect(BellForm::Word)?;
        self.sleeper_of(None, kernel, options)
    }

    /// The end of the one who waits for `position` to change; the position may lie in memory that can only be read.
    ///
    /// # Errors
    /// [`BellError::Form`] if the bell is not of position form; else as [`sleeper`](Self::sleeper).
    pub fn sleeper_on<K: Kernel>(
        &self,
        position: Shared<AtomicU64>,
        kernel: K,
        options: &SleepOptions,
    ) -> Result<Sleeper<K>, BellError> {
        self.expect(BellForm::Position)?;
        self.sleeper_of(Some(position), kernel, options)
    }

    fn sleeper_of<K: Kernel>(
        &self,
        position: Option<Shared<AtomicU64>>,
        kernel: K,
        options: &SleepOptions,
    ) -> Result<Sleeper<K>, BellError> {
        self.expect_writable()?;
        self.expect_barrier(&kernel)?;
        Ok(Sleeper::new(self.flag.clone(), position, self.mode, kernel, options))
    }

    /// The end of one who waits in a reactor. The process that rings must be [given](Ringer::give) a descriptor of
    /// the eventfd; how it gets there is the caller's affair.
    ///
    /// # Errors
    /// [`BellError::System`] if there is no eventfd to be had; else as [`sleeper`](Self::sleeper), in either form.
    #[cfg(all(feature = "std", not(loom)))]
    pub fn event(&self) -> Result<EventBell, BellError> {
        if self.form == BellForm::Waiters {
            return Err(BellError::Form { expected: BellForm::Word, found: self.form });
        }
        self.expect_writable()?;
        self.expect_barrier(&System)?;
        EventBell::new(self.flag.clone(), self.mode)
    }

    fn expect(&self, expected: BellForm) -> Result<(), BellError> {
        if self.form == expected { Ok(()) } else { Err(BellError::Form { expected, found: self.form }) }
    }

    fn expect_writable(&self) -> Result<(), BellError> {
        if self.writable { Ok(()) } else { Err(BellError::ReadOnly) }
    }

    fn expect_barrier<K: Kernel>(&self, kernel: &K) -> Result<(), BellError> {
        if self.mode == BellMode::Membarrier && !kernel.barrier() {
            return Err(BellError::Membarrier { errno: 0 });
        }
        Ok(())
    }
}

/// The two words of a bell.
///
/// # Safety
/// As [`Bell::create`].
unsafe fn words<L: Trust>(
    region: &Region<L>,
    offset: usize,
) -> Result<(Shared<AtomicU32>, Shared<AtomicU32>), BellError> {
    let fits = offset.checked_add(BELL_BYTES).is_some_and(|end| end <= region.len());
    if !fits || !offset.is_multiple_of(BELL_BYTES) {
        return Err(BellError::Place { offset, len: region.len() });
    }
    // SAFETY: in bounds and aligned, just checked; the rest is the caller's promise.
    let flag = unsafe { region.atomic_u32(offset) };
    // SAFETY: as above, for the kind.
    let kind = unsafe { region.atomic_u32(offset + BELL_BYTES / 2) };
    Ok((flag, kind))
}
/// Tells an end from its copy in a fork child, where what it holds is the parent's.
#[cfg(all(feature = "std", not(loom)))]
#[derive(Clone, Copy, Debug)]
struct Copied(Option<crate::segment::ForkMark>);

#[cfg(all(feature = "std", not(loom)))]
impl Copied {
    /// For an end of this process. Where the system cannot tell fork children apart, no end is a copy.
    fn here() -> Self {
        Self(crate::segment::ForkMark::here().ok())
    }

    fn is_in_fork_child(self) -> bool {
        self.0.is_some_and(|mark| mark.is_forked_child())
    }
}
