//! The classic seqlock: one slot and a sequence that is odd while it is written. For those who need the memory of the
//! other slots more than its guarantees: here a writer that dies while it writes takes the value with it.
//!
//! One writer, any number of readers that only load. A write is wait-free. A reader waits, for a bounded time, while
//! the writer writes, and then asks the kernel whether the writer lives: [`ReadError::WriterDied`] and not an endless
//! wait. The next writer's first value mends the cell.
//!
//! # Memory layout
//! ```text
//! sequence + 0   u64   writer   2 v: the value is version v, whole; 2 v + 1: version v + 1 is being written
//! sequence + 8         writer   the value, if it has at most 7 words; larger ones begin at + 64
//! ```
//!
//! # Protocol
//! | step | the writer of version `v + 1` |
//! |---|---|
//! | 1 | sequence = `2 v + 1`; release fence |
//! | 2 | the value, word by word in any order |
//! | 3 | sequence = `2 v + 2`, release |
//!
//! A reader loads the sequence, fences, copies the value if the sequence was even, fences, and loads the sequence again:
//! unchanged, the copy is whole.
//!
//! # Invariants
//! - S1: the sequence is stored by the one writer only, and never goes back.
//! - S2: while the sequence is `2 v`, the value is that of version `v`, whole.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `classic.publish` | `Slot::publish` | `Reader::attempt`: first load and fence | the value |
//! | `classic.busy` | `Slot::store`: fence behind the odd store | `Reader::attempt`: fence in front of the second load | whoever saw a word of a newer value sees the sequence changed |
//!
//! # Crash argument
//! | point | killed here, the readers see | the next writer |
//! |---|---|---|
//! | before step 1 | `v`, whole | goes on |
//! | in or behind steps 1, 2 | no value: [`ReadError::WriterDied`] until there is a writer, [`ReadError::Busy`] until it has written | is [`damaged`](Writer::is_damaged) until it has written, as version `v + 1` |
//! | behind step 3 | `v + 1`, whole | goes on |
//!
//! A writer that is *stopped* in step 2 lives: readers are told [`ReadError::Busy`] for as long as it takes.
//!
//! # Not guaranteed
//! Under a writer that writes without pause, readers starve: [`ReadError::Busy`]. A [`Cell`](crate::Cell) has none of
//! these troubles.
//!
//! # Sources
//! The seqlock of Linux; H. Boehm, *Can seqlocks get along with programming language memory models?* (2012), for the
//! fences.

use core::error::Error;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use bytemuck::Pod;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, Words, fence, spin_hint};
use tidewire_shm::{Liveness, Region, RoleId, Tenancy, Trust, Trusted};

use crate::cell::{claim_writer, owner_word, says, shape};
use crate::codec::{Codec, Fixed};
use crate::error::{AttachError, Corrupt, CorruptWord, CreateError};
use crate::layout::{KIND_CLASSIC, Layout, Options, Shape};
use crate::role::{Held, Owner};

/// Sequences are below this.
const END: u64 = 1 << 63;
/// Attempts of a reader before it asks whether the writer lives.
const ATTEMPTS: u32 = if cfg!(loom) { 2 } else { 1000 };

/// Why a read returned no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The value was being written in each of a thousand attempts, and nobody is proven dead: by leases that prove
    /// nothing, or that are not those of the cell, nobody ever is.
    Busy,
    /// The writer died while it wrote. The next one mends the cell.
    WriterDied,
    /// The sequence went back, or is beyond what could have been counted; final.
    Corrupt(Corrupt),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("expected a value between two writes, found one being written"),
            Self::WriterDied => f.write_str("expected a whole value, found one whose writer died writing it"),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for ReadError {}

impl From<Corrupt> for ReadError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Corrupt(corrupt)
    }
}

/// There is no whole value to change: a writer died while it wrote. Write one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a whole value to change, found one whose writer died writing it")
    }
}

impl Error for Damaged {}

/// The latest value of a plain type `T` in one slot, in a region, created or opened and validated.
///
/// # Examples
/// ```
/// use tidewire_seqlock::classic::Cell;
/// use tidewire_shm::Unleased;
///
/// let cell = Cell::on_heap(&[0_u64; 100])?;
/// let (mut writer, mut reader) = (cell.writer(&Unleased)?, cell.reader());
/// writer.write(&[7; 100]);
/// assert_eq!(reader.read(&Unleased)?, ([7; 100], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cell<T, L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    value: PhantomData<fn(T) -> T>,
}

impl<T, L: Trust> fmt::Debug for Cell<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("words", &self.layout.words).finish_non_exhaustive()
    }
}

/// The sequence and the value, and what keeps them alive.
struct Slot<T, L: Trust> {
    sequence: Shared<AtomicU64>,
    words: Words,
    codec: Fixed<T>,
    region: Region<L>,
}

impl<T: Pod> Cell<T, Trusted> {
    /// A cell on the heap, for threads of this process.
    ///
    /// # Errors
    /// [`CreateError`] if `T` is empty or memory is short.
    #[cfg(feature = "alloc")]
    pub fn on_heap(initial: &T) -> Result<Self, CreateError> {
        let bytes = Self::bytes(&Options::new())?;
        Self::create(Region::heap(bytes)?, initial, &Options::new())
    }
}

impl<T: Pod, L: Trust> Cell<T, L> {
    const SHAPE: Shape = Shape { classic: true, ..shape::<T>(KIND_CLASSIC) };

    /// Bytes of region that a cell needs.
    ///
    /// # Errors
    /// [`CreateError`] if `T` is empty.
    pub fn bytes(options: &Options) -> Result<usize, CreateError> {
        Self::SHAPE.bytes(1, options)
    }

    /// Creates a cell in a region that nobody uses (any more), with `initial` as version 0.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or cannot be written.
    pub fn create(region: Region<L>, initial: &T, options: &Options) -> Result<Self, CreateError> {
        let layout = Self::SHAPE.create(&region, 1, options, |layout, _| {
            let slot = Slot::new(&region, layout);
            // SAFETY: the region is alive and writable, and nobody else can see the cell yet.
            unsafe { slot.store(0, initial) };
            slot.publish(0);
        })?;
        Ok(Self { region, layout, value: PhantomData })
    }

    /// Opens a cell that somebody created, as [`Cell::open`](crate::Cell::open) does.
    ///
    /// # Errors
    /// As [`Cell::open`](crate::Cell::open).
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = Self::SHAPE.open(&region, type_fingerprint)?;
        Ok(Self { region, layout, value: PhantomData })
    }

    /// A reader. There may be any number of them; none of them ever writes.
    #[must_use]
    pub fn reader(&self) -> Reader<T, L> {
        let slot = Slot::new(&self.region, &self.layout);
        let liveness = self.layout.liveness;
        Reader { slot, liveness, seen: 0, retries: 0, corrupt: None, not_sync: PhantomData }
    }

    /// Takes the role of the one writer, as [`Cell::writer`](crate::Cell::writer) does. If the one before died while it
    /// wrote, the new one [is damaged](Writer::is_damaged).
    ///
    /// # Errors
    /// As [`Cell::writer`](crate::Cell::writer).
    pub fn writer<V: Liveness>(&self, liveness: &V) -> Result<Writer<T, L, V::Lease>, AttachError> {
        let place = self.layout.place(0);
        let held = claim_writer(&self.region, &self.layout, &place, (0, 0), liveness)?;
        let slot = Slot::new(&self.region, &self.layout);
        // ORD cell.adopt: Relaxed, the claim of the role has ordered what earlier writers did.
        let sequence = slot.sequence.load(Ordering::Relaxed);
        if sequence >= END {
            return Err(Corrupt { what: CorruptWord::Version, found: sequence >> 1 }.into());
        }
        Ok(Writer { held, slot, sequence, not_sync: PhantomData })
    }

    /// Who holds the role of the writer now.
    #[must_use]
    pub fn writer_owner(&self) -> Option<Owner> {
        Owner::of(&owner_word(&self.region, &self.layout.place(0), 0))
    }
}

impl<T: Pod, L: Trust> Slot<T, L> {
    fn new(region: &Region<L>, layout: &Layout) -> Self {
        let place = layout.place(0);
        Self {
            // SAFETY: a control word of a validated layout; the region is kept.
            sequence: unsafe { region.atomic_u64(place.latest) },
            // SAFETY: data words of a validated layout, only ever used as atomics; the region is kept.
            words: unsafe { region.words(place.hot.0, place.hot.1) },
            codec: Fixed::new(),
            // SAFETY: the handles of one cell follow one protocol; references are never lent.
            region: unsafe { region.alias() },
        }
    }

    /// Steps 1 and 2, from the even sequence before.
    ///
    /// # Safety
    /// The caller is the one writer; the region is writable.
    #[inline(always)]
    unsafe fn store(&self, before: u64, value: &T) {
        // ORD classic.busy: Relaxed, ordered before the value by the fence.
        self.sequence.store(before | 1, Ordering::Relaxed);
        // ORD classic.busy: Release -> the fence of `Reader::attempt`; who sees a word stored below sees the store above.
        fence(Ordering::Release);
        // SAFETY: the run has as many words as the value; the caller's promise.
        unsafe { self.codec.store(&self.words, 0, value) };
    }

    /// Step 3.
    #[inline(always)]
    fn publish(&self, sequence: u64) {
        // ORD classic.publish: Release -> `Reader::attempt`; hands over the value.
        self.sequence.store(sequence, Ordering::Release);
    }
}

/// The one writer of a classic cell; `Send`, not `Sync`, not `Clone`. `G` is its lease.
pub struct Writer<T, L: Trust = Trusted, G = ()> {
    // In this order: freeing the role needs the region, which the slot keeps.
    held: Held<G>,
    slot: Slot<T, L>,
    /// As published; odd if the writer before died while it wrote.
    sequence: u64,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T: Pod, L: Trust, G> Writer<T, L, G> {
    /// Writes a value and returns its version, one more than that of the value before.
    ///
    /// # Guarantees
    /// Wait-free; no system call. Killed in it, the cell has no value until the next writer has written.
    #[inline]
    pub fn write(&mut self, value: &T) -> u64 {
        let before = self.sequence & !1;
        // SAFETY: this handle holds the role; it keeps the region, which was found writable.
        unsafe { self.slot.store(before, value) };
        self.slot.publish(before + 2);
        self.sequence = before + 2;
        self.version()
    }

    /// Writes what `change` makes of the latest value; it works on a private copy, so if it panics nothing is written.
    ///
    /// # Errors
    /// [`Damaged`] if there is no whole value; then `change` was not called.
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> Result<u64, Damaged> {
        if self.is_damaged() {
            return Err(Damaged);
        }
        let mut value = T::zeroed();
        // SAFETY: private; the region is kept; nobody else writes.
        unsafe { self.slot.codec.load(&self.slot.words, 0, &raw mut value) };
        change(&mut value);
        Ok(self.write(&value))
    }

    /// Whether the writer before died while it wrote, and nothing was written since.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.sequence & 1 != 0
    }

    /// The version of the latest whole value; 0 is the initial one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.sequence >> 1
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.held.owner()
    }
}

/// A reader of a classic cell; `Send`, not `Sync`. It never writes.
pub struct Reader<T, L: Trust = Trusted> {
    slot: Slot<T, L>,
    /// The kind of leases that the writers hold.
    liveness: u32,
    seen: u64,
    retries: u64,
    corrupt: Option<Corrupt>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T: Pod, L: Trust> Reader<T, L> {
    /// The latest value and its version.
    ///
    /// # Guarantees
    /// No store. No system call, unless a thousand attempts found the value being written; then one, to ask whether
    /// the writer lives.
    ///
    /// # Errors
    /// [`ReadError`] says why there is none.
    #[inline]
    pub fn read<V: Liveness>(&mut self, liveness: &V) -> Result<(T, u64), ReadError> {
        let mut value = MaybeUninit::<T>::uninit();
        let version = self.read_to(liveness, value.as_mut_ptr())?;
        // SAFETY: a read that succeeds has written all bytes, and any bytes are a plain type.
        Ok((unsafe { value.assume_init() }, version))
    }

    /// As [`read`](Self::read), to where the value shall lie.
    ///
    /// # Errors
    /// As [`read`](Self::read). Then `to` may hold anything.
    #[inline]
    pub fn read_into<V: Liveness>(&mut self, liveness: &V, to: &mut T) -> Result<u64, ReadError> {
        self.read_to(liveness, to)
    }

    /// As [`read`](Self::read), in one attempt; asks nobody.
    ///
    /// # Errors
    /// [`ReadError::Busy`] if the value was being written, [`ReadError::Corrupt`] as ever.
    #[inline]
    pub fn try_read(&mut self) -> Result<(T, u64), ReadError> {
        let mut value = MaybeUninit::<T>::uninit();
        let version = self.attempt(value.as_mut_ptr())?.map_err(|_| ReadError::Busy)?;
        // SAFETY: a read that succeeds has written all bytes, and any bytes are a plain type.
        Ok((unsafe { value.assume_init() }, version))
    }

    #[inline(always)]
    fn read_to<V: Liveness>(&mut self, liveness: &V, to: *mut T) -> Result<u64, ReadError> {
        match self.attempt(to)? {
            Ok(version) => Ok(version),
            Err(_) => self.read_slow(liveness, to),
        }
    }

    #[cold]
    #[inline(never)]
    fn read_slow<V: Liveness>(&mut self, liveness: &V, to: *mut T) -> Result<u64, ReadError> {
        let mut odd = None;
        for _ in 1..ATTEMPTS {
            match self.attempt(to)? {
                Ok(version) => return Ok(version),
                Err(sequence) => odd = (sequence & 1 != 0).then_some(sequence),
            }
            spin_hint();
        }
        let (Some(odd), Some(role)) = (odd, RoleId::producer(0)) else { return Err(ReadError::Busy) };
        if !says(self.liveness, &self.slot.region, liveness) || liveness.tenancy(role) != Tenancy::Vacant {
            return Err(ReadError::Busy);
        }
        // Whoever wrote before the answer is gone. If the sequence is the same, this write will never be finished.
        // ORD advice: Relaxed, the answer has ordered what the dead writer did before this.
        if self.slot.sequence.load(Ordering::Relaxed) == odd {
            Err(ReadError::WriterDied)
        } else {
            self.attempt(to)?.map_err(|_| ReadError::Busy)
        }
    }

    /// One attempt: the version, or the sequence that was in the way.
    #[inline(always)]
    fn attempt(&mut self, to: *mut T) -> Result<Result<u64, u64>, Corrupt> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt);
        }
        // ORD classic.publish: Relaxed, since a load from a read-only mapping must be; the fence below acquires.
        let before = self.slot.sequence.load(Ordering::Relaxed);
        if before < self.seen || before >= END {
            let corrupt = Corrupt { what: CorruptWord::Version, found: before >> 1 };
            self.corrupt = Some(corrupt);
            return Err(corrupt);
        }
        self.seen = before;
        if before & 1 != 0 {
            self.retries += 1;
            return Ok(Err(before));
        }
        // ORD classic.publish: Acquire <- `Slot::publish`; the value is whole.
        fence(Ordering::Acquire);
        // SAFETY: the run has as many words as the value; `to` is private memory of our callers.
        unsafe { self.slot.codec.load(&self.slot.words, 0, to) };
        // ORD classic.busy: Acquire <- `Slot::store`; if a word above came from a newer value, the sequence has changed.
        fence(Ordering::Acquire);
        // ORD classic.busy: Relaxed, the fence before it orders it behind the value.
        let after = self.slot.sequence.load(Ordering::Relaxed);
        if before == after {
            return Ok(Ok(before >> 1));
        }
        self.retries += 1;
        Ok(Err(after))
    }

    /// How many attempts of this reader failed so far.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }
}

impl<T, L: Trust, G> fmt::Debug for Writer<T, L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl<T, L: Trust> fmt::Debug for Reader<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("region", &self.slot.region).finish_non_exhaustive()
    }
}
