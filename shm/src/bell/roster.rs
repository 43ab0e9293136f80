//! A roster: who takes part in something that processes share, where the death notice of each is found, and a bell for
//! each.
//!
//! A roster knows roles by number and nothing of what they do. Coming and going takes a bounded number of steps. Looking
//! whether somebody waits is one load per 64 entries, for whoever has something to tell all of them.
//!
//! # Memory layout
//! ```text
//!   0              changes u64    grows by one when somebody comes or goes
//!   8              waiting 4 u64  bit i of word i / 64: entry i sleeps, or is about to
//!  40              zero
//! 128 + 128 i      entry i
//!      +0          state u64      generation << 1 | 1 while its holder is there
//!      +8          notice 2 u64   where its death notice is found, 0 if nowhere
//!     +24          event 2 u64    where the pipe is found that wakes it in a reactor, 0 if nowhere
//!     +40          bell 8 bytes   see [`bell`](super)
//!     +48          zero
//!     +64          counters 8 u64 the holder's, for people and monitors
//! ```
//! An entry is written by its holder only (and its bell's flag by ringers); `changes` and `waiting` by all. None of them
//! is written while messages are moved.
//!
//! # Protocol
//! | state | who changes it | to |
//! |---|---|---|
//! | `g, 0` nobody | who took the role's lease | `g + 1, 1` there |
//! | `g, 1` there | its holder, when it leaves | `g, 0` |
//! | `g, 1` there, its holder dead | who took the role's lease next | `g + 1, 1` |
//!
//! That two hold one entry at a time is for leases to prevent; if somebody breaks that, wake-ups are lost for a slice
//! each, and nothing else.
//!
//! # Invariants
//! - R1: the notice and the event of generation `g` are written before the state says that `g` is there.
//! - R2: a bit of `waiting` is up from before the sleeper's fence until after its sleep, as the flag of its bell is
//!   (I1 of [`bell`](super)). Who finds it down after a publication and a fence need not ring.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | what it hands over |
//! |---|---|---|---|
//! | roster.enter | `Roster::attend` | `Roster::entry` | notice and event of that generation |
//! | roster.event | `Attendance::set_event` | `Caller::ring_pipe` | nothing: an address that is looked at |
//! | roster.leave | `Attendance::drop` | `Roster::entry` | what the holder published before it went |
//! | roster.changes | `Roster::attend`, `Attendance::drop` | `Roster::changes` | the state that changed |
//! | bell.meet | publication, fence in `Hands::any` | fence in `wait::announced`, look | either the look sees the publication, or the other side the bit |
//!
//! # Crash argument
//! | killed here | the others see | who repairs | cost |
//! |---|---|---|---|
//! | between state and `changes` | a newcomer, when they look for another reason | the next change | time |
//! | there | an entry that says so, and a notice that says dead | whoever has the lease next; others ask the lease | nothing |
//! | asleep | a bit that stays up | [`Roster::lower`] by whoever knows; the next holder | a look at the bell per ring |
//!
//! # Not guaranteed
//! A peer that writes where it should not can make others believe that somebody is there or gone, look at notices that
//! are none, oversleep by a slice, and write eight bytes into a pipe that it has itself or that is made like those that are
//! rung. It can do no more.

use super::kernel::{Deadline, Kernel};
use super::sleeper::{BellFlag, Patience, SleepOptions, SleepTally};
use super::wait::{self, Flag, Woken};
use super::{BELL_BYTES, Bell, BellError, BellForm, BellMode, ON_FUTEX, Place, Ringer, RingerTally, Rung};
use crate::line::LINE_BYTES;
use crate::region::Region;
use crate::sync::{AtomicU64, Ordering, Shared, compiler_fence, fence, full_fence};
use crate::trust::Trust;

/// The most entries that a roster can have.
pub const ROSTER_MAX: u32 = 256;
/// Counters of an entry.
pub const ROSTER_COUNTERS: usize = 8;

const CHANGES: usize = 0;
const WAITING: usize = 8;
const WAITING_WORDS: usize = 4;
const STATE: usize = 0;
const NOTICE: usize = 8;
const EVENT: usize = 24;
const BELL: usize = 40;
const COUNTERS: usize = 64;
const PRESENT: u64 = 1;

/// What an entry says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// How many have held it, this one included.
    pub generation: u64,
    /// Whether its holder said that it is there. One that was killed says so for ever: ask its notice, and its lease.
    pub present: bool,
    /// Where the holder's death notice is found, as it said; zeroes if nowhere.
    pub notice: [u64; 2],
}

/// Bytes of region that a roster of so many entries needs.
#[must_use]
pub const fn roster_bytes(entries: u32) -> usize {
    LINE_BYTES + LINE_BYTES * entries as usize
}

/// Who takes part, in a region of its own.
///
/// ```
/// use tidewire_shm::Region;
/// use tidewire_shm::bell::{BellMode, Roster, SleepOptions, System, roster_bytes};
///
/// let region = Region::heap(roster_bytes(2))?;
/// let roster = Roster::create(region, 2, BellMode::choose(&System))?;
/// let here = roster.attend(0, [0; 2], System, &SleepOptions::new())?;
/// assert!(roster.entry(0).present && !roster.entry(1).present);
/// drop(here);
/// assert_eq!((roster.changes(), roster.entry(0).present), (2, false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Roster<L: Trust> {
    region: Region<L>,
    entries: u32,
    mode: BellMode,
}

impl<L: Trust> Roster<L> {
    /// Writes a roster where nobody takes part. Part of the creation of a structure, before it is published.
    ///
    /// # Errors
    /// [`BellError::ReadOnly`] if the region can only be read, [`BellError::Place`] if it is too short or there are more
    /// than [`ROSTER_MAX`] entries.
    pub fn create(region: Region<L>, entries: u32, mode: BellMode) -> Result<Self, BellError> {
        let roster = Self { region, entries, mode };
        roster.check()?;
        roster.region.require_writable().map_err(|_| BellError::ReadOnly)?;
        for offset in (0..roster_bytes(entries)).step_by(8) {
            // ORD own: Relaxed, published with the structure.
            roster.word(offset).store(0, Ordering::Relaxed);
        }
        for index in 0..entries {
            // SAFETY: the eight bytes are a bell's only, the stores above happened before; the roster keeps the region.
            unsafe { Bell::create(&roster.region, Self::at(index, BELL), mode, BellForm::Word)? };
        }
        Ok(roster)
    }

    /// Finds a roster that was created there with that many entries.
    ///
    /// # Errors
    /// As [`create`](Self::create), [`BellError::Kind`] if there is none of a kind that this version knows.
    pub fn open(region: Region<L>, entries: u32) -> Result<Self, BellError> {
        let mut roster = Self { region, entries, mode: BellMode::Fence };
        roster.check()?;
        for index in 0..entries {
            // All of them, so that whoever adopts memory knows that each end can be opened.
            let bell = roster.bell(index)?;
            if index == 0 {
                roster.mode = bell.mode();
            }
        }
        Ok(roster)
    }

    fn check(&self) -> Result<(), BellError> {
        if self.entries > ROSTER_MAX || self.region.len() < roster_bytes(self.entries) {
            return Err(BellError::Place { offset: 0, len: self.region.len() });
        }
        Ok(())
    }

    /// How many entries it has.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Who pays for the fences.
    #[must_use]
    pub fn mode(&self) -> BellMode {
        self.mode
    }

    const fn at(index: u32, offset: usize) -> usize {
        LINE_BYTES + LINE_BYTES * index as usize + offset
    }

    fn word(&self, offset: usize) -> Shared<AtomicU64> {
        // SAFETY: within a roster whose length was checked; a control word; every handle keeps the region.
        unsafe { self.region.atomic_u64(offset) }
    }

    fn hand(&self, index: u32) -> Hand {
        Hand { word: self.word(WAITING + 8 * (index as usize / 64)), bit: 1 << (index % 64) }
    }

    fn bell(&self, index: u32) -> Result<Bell, BellError> {
        if index >= self.entries {
            return Err(BellError::Place { offset: Self::at(index, BELL), len: self.region.len() });
        }
        // SAFETY: the eight bytes are a bell's only; whoever gets an end of it keeps the region.
        unsafe { Bell::open(&self.region, Self::at(index, BELL)) }
    }

    fn alias(&self) -> Region<L> {
        // SAFETY: all handles of a roster follow its protocol, and none lends references.
        unsafe { self.region.alias() }
    }

    /// How often somebody came or went. One load; may lag behind an [entry](Self::entry).
    #[inline]
    #[must_use]
    pub fn changes(&self) -> u64 {
        // ORD roster.changes: Relaxed, since a load from a read-only mapping must be; the fence below acquires.
        let changes = self.word(CHANGES).load(Ordering::Relaxed);
        // ORD roster.changes: Acquire <- `Roster::attend`, `Attendance::drop`; the state that changed is seen.
        fence(Ordering::Acquire);
        changes
    }

    /// What an entry says; that of one beyond the last says nothing.
    #[must_use]
    pub fn entry(&self, index: u32) -> Entry {
        if index >= self.entries {
            return Entry::default();
        }
        // ORD roster.enter: Relaxed, since a load from a read-only mapping must be; the fence below acquires.
        let state = self.word(Self::at(index, STATE)).load(Ordering::Relaxed);
        // ORD roster.enter: Acquire <- `Roster::attend`; the notice of this generation, or a later one.
        // ORD roster.leave: Acquire <- `Attendance::drop`; what the holder published before.
        fence(Ordering::Acquire);
        // ORD own: Relaxed, behind the state; of a later generation it is a hint that leads to a look at the lease.
        let notice = [0, 8].map(|word| self.word(Self::at(index, NOTICE + word)).load(Ordering::Relaxed));
        Entry { generation: state >> 1, present: state & PRESENT != 0, notice }
    }

    /// A counter of an entry, as its holder left it.
    #[must_use]
    pub fn counter(&self, index: u32, counter: usize) -> u64 {
        if index >= self.entries || counter >= ROSTER_COUNTERS {
            return 0;
        }
        // ORD own: Relaxed, a number for people.
        self.word(Self::at(index, COUNTERS + 8 * counter)).load(Ordering::Relaxed)
    }

    /// Takes an entry: says that its holder is there, and gives its end of the bell. For whoever holds the lease of the
    /// role.
    ///
    /// # Errors
    /// [`BellError::Place`] if there is no such entry, [`BellError::ReadOnly`] if it cannot be written,
    /// [`BellError::Membarrier`] as [`Bell::sleeper`].
    pub fn attend<K: Kernel>(
        &self,
        index: u32,
        notice: [u64; 2],
        kernel: K,
        options: &SleepOptions,
    ) -> Result<Attendance<K, L>, BellError> {
        self.region.require_writable().map_err(|_| BellError::ReadOnly)?;
        let bell = self.bell(index)?;
        self.mode.prepare(&kernel)?;
        bell.expect_barrier(&kernel)?;
        let hand = self.hand(index);
        hand.lower();
        let patience = Patience::new(options, &kernel);
        let flag = EntryFlag { bell: BellFlag::new(bell.flag.clone(), None, ON_FUTEX), hand };
        for (word, value) in [0, 8].into_iter().zip(notice) {
            // ORD roster.enter: Relaxed, before the state.
            self.word(Self::at(index, NOTICE + word)).store(value, Ordering::Relaxed);
        }
        for offset in (EVENT..BELL).step_by(8).chain((COUNTERS..LINE_BYTES).step_by(8)) {
            // ORD own: Relaxed, before the state.
            self.word(Self::at(index, offset)).store(0, Ordering::Relaxed);
        }
        let state = self.word(Self::at(index, STATE));
        // ORD own: Relaxed, only a number to go on from; the lease orders a former holder's store before this.
        let generation = (state.load(Ordering::Relaxed) >> 1) + 1;
        // ORD roster.enter: Release -> `Roster::entry`; the notice.
        state.store(generation << 1 | PRESENT, Ordering::Release);
        // ORD roster.changes: Release -> `Roster::changes`; the state.
        self.word(CHANGES).fetch_add(1, Ordering::Release);
        let changes = self.word(CHANGES);
        let counters = core::array::from_fn(|counter| self.word(Self::at(index, COUNTERS + 8 * counter)));
        Ok(Attendance {
            index,
            generation,
            state,
            changes,
            counters,
            #[cfg(all(feature = "std", not(loom)))]
            event: [0, 8].map(|word| self.word(Self::at(index, EVENT + word))),
            flag,
            mode: self.mode,
            kernel,
            patience,
            tally: SleepTally::default(),
            #[cfg(all(feature = "std", not(loom)))]
            copied: super::Copied::here(),
            _region: self.alias(),
        })
    }

    /// An end that wakes the holder of an entry: one for each who does.
    ///
    /// # Errors
    /// [`BellError::Place`] if there is no such entry, else as [`Bell::ringer`].
    pub fn caller<K: Kernel>(&self, index: u32, kernel: K) -> Result<Caller<K, L>, BellError> {
        let ringer = self.bell(index)?.ringer(kernel)?;
        let state = self.word(Self::at(index, STATE));
        Ok(Caller {
            ringer,
            state,
            #[cfg(all(feature = "std", not(loom)))]
            event: [0, 8].map(|word| self.word(Self::at(index, EVENT + word))),
            #[cfg(all(feature = "std", not(loom)))]
            piped: 0,
            _region: self.alias(),
        })
    }

    /// Who waits, for one who tells all of them.
    ///
    /// # Errors
    /// [`BellError::Membarrier`] as [`Bell::sleeper`]: sleepers must be able to reach this process.
    pub fn hands<K: Kernel>(&self, kernel: &K) -> Result<Hands<L>, BellError> {
        self.mode.prepare(kernel)?;
        let words = core::array::from_fn(|word| self.word(WAITING + 8 * word));
        let first = u64::MAX >> (64 - self.entries.clamp(1, 64));
        Ok(Hands { words, first, entries: self.entries, mode: self.mode, _region: self.alias() })
    }

    /// Takes away the raised hand of an entry whose holder is proven dead.
    ///
    /// The next holder may have come and raised it just before: look at the [entry](Self::entry) again after this, and
    /// if its generation is another, ring it.
    pub fn lower(&self, index: u32) {
        if index < self.entries && self.region.is_writable() {
            let Hand { word, bit } = self.hand(index);
            // ORD roster.hand: Acquire <- `Hand::raise`; whose hand this took away, its generation is seen next.
            word.fetch_and(!bit, Ordering::Acquire);
        }
    }
}

/// A bit that says that somebody sleeps.
#[derive(Debug)]
struct Hand {
    word: Shared<AtomicU64>,
    bit: u64,
}

impl Hand {
    fn raise(&self) {
        // ORD bell.meet: before the fence in `announced`.
        // ORD roster.hand: Release -> `Roster::lower`; the generation whose hand this is.
        self.word.fetch_or(self.bit, Ordering::Release);
    }

    fn lower(&self) {
        // ORD own: Relaxed; who sees it late looks at a flag that is down.
        self.word.fetch_and(!self.bit, Ordering::Relaxed);
    }
}

/// The flag of an entry's bell, and its bit.
#[derive(Debug)]
struct EntryFlag {
    bell: BellFlag,
    hand: Hand,
}

impl Flag for EntryFlag {
    fn raise(&self) -> u32 {
        self.hand.raise();
        self.bell.raise()
    }

    fn expected(&self, raised: u32) -> u32 {
        self.bell.expected(raised)
    }

    fn place(&self) -> Place<'_> {
        self.bell.place()
    }

    fn lower(&self) {
        self.bell.lower();
        self.hand.lower();
    }
}

/// A held entry: waits at its bell. Dropping it says that its holder left.
///
/// A fork child that has a copy of it must not use it: the entry is its parent's. Dropping the copy there does nothing.
///
/// The guarantees of its waits are those of a [`Sleeper`](super::Sleeper).
#[derive(Debug)]
pub struct Attendance<K: Kernel, L: Trust> {
    index: u32,
    generation: u64,
    state: Shared<AtomicU64>,
    changes: Shared<AtomicU64>,
    counters: [Shared<AtomicU64>; ROSTER_COUNTERS],
    #[cfg(all(feature = "std", not(loom)))]
    event: [Shared<AtomicU64>; 2],
    flag: EntryFlag,
    mode: BellMode,
    kernel: K,
    patience: Patience,
    tally: SleepTally,
    #[cfg(all(feature = "std", not(loom)))]
    copied: super::Copied,
    _region: Region<L>,
}

impl<K: Kernel, L: Trust> Attendance<K, L> {
    /// Which entry it is.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// How many held it before, and this one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How to wait from now on.
    pub fn set_patience(&mut self, options: &SleepOptions) {
        self.patience = Patience::new(options, &self.kernel);
    }

    /// Waits until `ready` is true, or the deadline has passed. `ready` looks at what callers publish before they ring.
    pub fn wait(&mut self, mut ready: impl FnMut() -> bool, deadline: Deadline) -> Woken {
        self.wait_while_watching(&mut ready, deadline, &())
    }

    pub(crate) fn wait_while_watching<W: wait::Watch<K>>(
        &mut self,
        ready: &mut dyn FnMut() -> bool,
        deadline: Deadline,
        watch: &W,
    ) -> Woken {
        let how = wait::How { mode: self.mode, patience: self.patience, kernel: &self.kernel, watch };
        wait::wait(&how, &self.flag, &mut self.tally, ready, deadline)
    }

    /// Says where the pipe is that wakes this end in a reactor; before it first [arms](Self::arm).
    #[cfg(all(feature = "std", not(loom)))]
    pub fn set_event(&mut self, address: super::EventAddress) {
        for (word, value) in self.event.iter().zip(address.to_words()) {
            // ORD roster.event: Relaxed, before the flag is raised; who finds none waits for the next ring.
            word.store(value, Ordering::Relaxed);
        }
        // ORD roster.event: Release -> `Caller::ring_pipe`; whoever sees a flag that is raised after this finds the address.
        fence(Ordering::Release);
    }

    /// Announces a wait in a reactor, for the pipe that was [set](Self::set_event), and looks again: in place of
    /// [`wait`](Self::wait). The protocol is that of an [`EventBell`](super::EventBell).
    #[cfg(all(feature = "std", not(loom)))]
    pub fn arm(&mut self, ready: impl FnOnce() -> bool) -> super::Armed {
        self.flag.hand.raise();
        self.flag.bell.raise_as(super::ON_EVENTFD);
        match self.mode {
            // ORD bell.meet: SeqCst <-> `Ringer::ring`, `Hands::any`; the flag and the bit are up before the look.
            BellMode::Fence => full_fence(),
            BellMode::Membarrier => {
                if !self.kernel.barrier() {
                    // It was granted when this end was made. Without it nobody can promise a wake: do not wait.
                    full_fence();
                    self.flag.lower();
                    return super::Armed::Ready;
                }
            }
        }
        if ready() {
            self.flag.lower();
            return super::Armed::Ready;
        }
        super::Armed::Armed
    }

    /// Ends a wait in a reactor. Look for work after it.
    #[cfg(all(feature = "std", not(loom)))]
    pub fn disarm(&mut self) {
        self.flag.lower();
    }

    /// Adds to one of the entry's counters.
    pub fn count(&mut self, counter: usize, more: u64) {
        if let Some(word) = self.counters.get(counter) {
            // ORD own: Relaxed, written by this holder only; a number for people.
            word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
    }

    /// One of the entry's counters.
    #[must_use]
    pub fn counter(&self, counter: usize) -> u64 {
        // ORD own: Relaxed, as above.
        self.counters.get(counter).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The system that this end asks.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// What this end did so far.
    #[must_use]
    pub fn tally(&self) -> SleepTally {
        self.tally
    }
}

impl<K: Kernel, L: Trust> Drop for Attendance<K, L> {
    fn drop(&mut self) {
        #[cfg(all(feature = "std", not(loom)))]
        if self.copied.is_in_fork_child() {
            return;
        }
        self.flag.lower();
        // ORD roster.leave: Release -> `Roster::entry`; what this holder published before.
        self.state.store(self.generation << 1, Ordering::Release);
        // ORD roster.changes: Release -> `Roster::changes`; the state.
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// An end that wakes the holder of an entry.
#[derive(Debug)]
pub struct Caller<K, L: Trust> {
    ringer: Ringer<K>,
    state: Shared<AtomicU64>,
    /// Where the pipe of the holder is found.
    #[cfg(all(feature = "std", not(loom)))]
    event: [Shared<AtomicU64>; 2],
    /// The state when the ringer was given a pipe; 0: it has none.
    #[cfg(all(feature = "std", not(loom)))]
    piped: u64,
    _region: Region<L>,
}

impl<K: Kernel, L: Trust> Caller<K, L> {
    /// Wakes the holder if it sleeps: to be called after every publication for it. See [`Ringer::ring`].
    ///
    /// The first ring of a holder that waits [in a reactor](Attendance::arm) opens its pipe.
    #[inline]
    pub fn ring(&mut self) -> Rung {
        match self.ringer.look() {
            None => Rung::Awake,
            Some(seen) => self.wake(seen),
        }
    }

    #[cold]
    fn wake(&mut self, seen: u32) -> Rung {
        #[cfg(all(feature = "std", not(loom)))]
        // ORD advice: Relaxed, only compared; who sees it late rings the pipe of one who is gone, and the next ring is right.
        if self.piped != 0 && self.state.load(Ordering::Relaxed) != self.piped {
            self.piped = 0;
            self.ringer.give_pipe(None);
        }
        match self.ringer.wake(seen) {
            Rung::Unreachable => self.ring_pipe(),
            rung => rung,
        }
    }

    #[cfg(all(feature = "std", not(loom)))]
    #[cold]
    fn ring_pipe(&mut self) -> Rung {
        // ORD roster.event: Acquire <- `Attendance::set_event`; the flag that led here was seen before.
        fence(Ordering::Acquire);
        // ORD roster.enter: Acquire <- `Roster::attend`; the event of this generation, or none yet.
        let state = self.state.load(Ordering::Acquire);
        // ORD roster.event: Relaxed, of another moment it leads to a pipe that is looked at, or none.
        let words = self.event.each_ref().map(|word| word.load(Ordering::Relaxed));
        let found = super::EventAddress::from_words(words).and_then(|address| address.open().ok());
        if found.is_none() {
            return Rung::Unreachable;
        }
        self.piped = state;
        self.ringer.give_pipe(found);
        self.ringer.ring()
    }

    #[cfg(not(all(feature = "std", not(loom))))]
    fn ring_pipe(&mut self) -> Rung {
        Rung::Unreachable
    }

    /// The generation of the entry's holder, if it is there as far as it said. One load, for the hot path; a hint.
    #[inline]
    #[must_use]
    pub fn holder(&self) -> Option<u64> {
        // ORD advice: Relaxed, nothing is read behind it.
        let state = self.state.load(Ordering::Relaxed);
        (state & PRESENT != 0).then_some(state >> 1)
    }

    /// Whether the entry's holder is there, as far as it said, and its generation is this one. As [`holder`](Self::holder).
    #[inline]
    #[must_use]
    pub fn is_held_by(&self, generation: u64) -> bool {
        // ORD advice: Relaxed, nothing is read behind it.
        self.state.load(Ordering::Relaxed) == generation << 1 | PRESENT
    }

    /// What this end did so far.
    #[must_use]
    pub fn tally(&self) -> RingerTally {
        self.ringer.tally()
    }
}

/// Who waits, at a look.
#[derive(Debug)]
pub struct Hands<L: Trust> {
    words: [Shared<AtomicU64>; WAITING_WORDS],
    /// The bits of the first word that are entries.
    first: u64,
    entries: u32,
    mode: BellMode,
    _region: Region<L>,
}

impl<L: Trust> Hands<L> {
    /// Whether anybody waits. To be called after a publication that concerns all: who is not seen here sees the
    /// publication before it sleeps. One load per 64 entries.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        match self.mode {
            // ORD bell.meet: SeqCst <-> `announced`; the publication comes before the look at the bits.
            BellMode::Fence => full_fence(),
            // ORD bell.meet: SeqCst <-> `announced`, for the compiler; the sleeper's system call is the processor's.
            BellMode::Membarrier => compiler_fence(Ordering::SeqCst),
        }
        let [first, ..] = &self.words;
        // ORD bell.meet: Relaxed, behind the fence.
        first.load(Ordering::Relaxed) & self.first != 0 || (self.entries > 64 && self.any_further())
    }

    #[cold]
    fn any_further(&self) -> bool {
        // ORD bell.meet: Relaxed, behind the fence of `any`.
        self.used().skip(1).any(|(_, word, bits)| word.load(Ordering::Relaxed) & bits != 0)
    }

    /// The entries that wait now, at a look.
    pub fn raised(&self) -> impl Iterator<Item = u32> + '_ {
        self.used().flat_map(|(first, word, bits)| {
            // ORD bell.meet: Relaxed, behind the fence of `any`.
            let raised = word.load(Ordering::Relaxed) & bits;
            (0..64).filter(move |bit| raised & (1 << bit) != 0).map(move |bit| first + bit)
        })
    }

    /// Of each word in use: its first entry, and the bits that are entries; a peer may have set others.
    #[inline]
    fn used(&self) -> impl Iterator<Item = (u32, &Shared<AtomicU64>, u64)> + '_ {
        (0..self.entries).step_by(64).zip(&self.words).map(|(first, word)| {
            let entries = (self.entries - first).min(64);
            (first, word, u64::MAX >> (64 - entries))
        })
    }
}

const _: () = assert!(BELL + BELL_BYTES <= COUNTERS && COUNTERS + 8 * ROSTER_COUNTERS == LINE_BYTES);
const _: () = assert!(WAITING_WORDS * 64 == ROSTER_MAX as usize);
