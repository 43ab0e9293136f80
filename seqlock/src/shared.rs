//! A cell with many writers, one at a time: they take turns by a lock whose holder a lease proves alive or gone.
//!
//! Readers are those of any [cell](crate::Cell) and know nothing of the lock: they wait for nobody. A writer that dies with
//! the lock leaves nothing to repair in the cell; the lock itself is taken from it by whoever wants to write next.
//!
//! # Memory layout
//! ```text
//! lock     u64   any writer   generation << 32 | holder; holder 0 = free, else the writer's number plus one
//! owner i  u64   writer i     as of any role: who is writer number i
//! the rest                    as of any cell
//! ```
//!
//! # Protocol
//! | state | word | who may leave it | next |
//! |---|---|---|---|
//! | free | `g, 0` | any writer | `g + 1, own number` |
//! | held | `g, i` | writer `i`, when it has written | `g, 0` |
//! | held | `g, i` | any writer that was told, after it saw this word, that the lease of writer `i` is vacant | `g + 1, own number` |
//! | held | `g, i` | whoever takes number `i`, before its first write: the lease proves that the holder is gone | `g, 0` |
//!
//! With the lock, a writer loads `latest` and writes the next version as the one writer of a cell does.
//!
//! # Invariants
//! - L1: of all writers that live, at most one has the lock: every way into it is one compare-exchange from the exact
//!   word, and a proof about one generation takes nothing from the next.
//! - L2: a cell is written only with the lock; so with L1 the invariants of its form hold.
//! - L3: a writer's number is its own as long as it has the lease of that number.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `lock.free` | `Guard::drop` | `Writer::lock` | everything that the former holder wrote |
//! | the lease | its end, seen by the kernel | [`Liveness::tenancy`], [`Liveness::acquire`] | everything that a dead holder wrote |
//!
//! # Crash argument
//! | point | killed here, the others see | repair |
//! |---|---|---|
//! | before the compare-exchange of the lock | a free lock | none |
//! | with the lock | as any [cell](crate::Cell), by its form; writers find a lock whose holder's lease is vacant | the next one takes it, and the cell goes on as after the death of a single writer |
//! | having freed the lock | a free lock | none |
//! | having taken the number of a dead holder, before the lock is freed | a lock held by a number whose lease is vacant again | as above |
//!
//! # Not guaranteed
//! Fairness. A writer that is *stopped* with the lock keeps it: the others are told [`WriteError::Busy`]. Where leases
//! prove nothing, so does one that died. A proof about a generation is mistaken for another one if the lock is taken
//! 2^32 times while one writer asks.
//!
//! # Sources
//! Robust mutexes, with the lease in the place of the kernel's list; the cell needs no state "inconsistent".

use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, spin_hint};
use tidewire_shm::{Liveness, Region, RoleId, Tenancy, Trust, Trusted};

use crate::cell::{Bound, Reader, claim_writer, owner_word, says, shape};
use crate::codec::Fixed;
use crate::engine::Core;
use crate::error::{AttachError, Corrupt, CorruptWord, CreateError, WriteError};
use crate::layout::{KIND_SHARED, Layout, Options, Place, Shape};
use crate::role::{Held, Owner, high, low, pair, proves};
use crate::wait::{Alarm, KernelRef, system};

/// Looks at a held lock before a writer gives up.
const ROUNDS: u32 = if cfg!(loom) { 3 } else { 512 };
/// Looks between two questions whether the holder is gone, each of which is a system call.
const ASK_EVERY: u32 = if cfg!(loom) { 1 } else { 64 };

/// The latest value of a plain type `T` with many writers, in a region, created or opened and validated.
///
/// # Examples
/// ```
/// use tidewire_seqlock::shared::Cell;
/// use tidewire_shm::Unleased;
///
/// let cell = Cell::on_heap(&0_u64)?;
/// let mut reader = cell.reader();
/// let (mut first, mut second) = (cell.writer(&Unleased)?, cell.writer(&Unleased)?);
/// first.update(&Unleased, |n| *n += 1)?;
/// second.update(&Unleased, |n| *n += 1)?;
/// assert_eq!(reader.read()?, (2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cell<T, L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    value: PhantomData<fn(T) -> T>,
}

impl<T, L: Trust> fmt::Debug for Cell<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("writers", &self.layout.writers).finish_non_exhaustive()
    }
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
    const SHAPE: Shape = Shape { shared: true, ..shape::<T>(KIND_SHARED) };

    /// Bytes of region that a cell needs.
    ///
    /// # Errors
    /// [`CreateError`] if `T` is empty or the options cannot be.
    pub fn bytes(options: &Options) -> Result<usize, CreateError> {
        Self::SHAPE.bytes(1, options)
    }

    /// Creates a cell in a region that nobody uses (any more), with `initial` as version 0.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or cannot be written.
    pub fn create(region: Region<L>, initial: &T, options: &Options) -> Result<Self, CreateError> {
        let layout = Self::SHAPE.create(&region, 1, options, |layout, index| {
            let bound = Bound::new(&region, layout, &layout.place(index), Fixed::<T>::new());
            // SAFETY: the region is alive and writable, and nobody else can see the cell yet.
            unsafe { bound.core.write(0, initial) };
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

    /// How many writers there may be at a time.
    #[must_use]
    pub fn writers(&self) -> u32 {
        self.layout.writers
    }

    fn place(&self) -> Place {
        self.layout.place(0)
    }

    fn lock_word(&self) -> Shared<AtomicU64> {
        // SAFETY: the lock of a validated layout; handles that keep it keep the region, too.
        unsafe { self.region.atomic_u64(self.place().lock) }
    }

    /// A reader. There may be any number of them; none of them ever writes.
    #[must_use]
    pub fn reader(&self) -> Reader<T, L> {
        let bound = Bound::new(&self.region, &self.layout, &self.place(), Fixed::new());
        Reader::new(bound, self.layout.post(0))
    }

    /// Becomes one of the writers: takes the lowest number that is free or whose holder is proven gone, with the lease
    /// of [`RoleId::producer`] of that number.
    ///
    /// # Errors
    /// [`AttachError::WritersExhausted`] if all are taken; else as [`Cell::writer`](crate::Cell::writer).
    pub fn writer<V: Liveness>(&self, liveness: &V) -> Result<Writer<T, L, V::Lease>, AttachError> {
        self.attach(system(), liveness)
    }

    /// As [`writer`](Self::writer), with a kernel of the caller's to wake readers by; where there is no system to ask, the
    /// only way to become a writer that [wakes](crate::Wake).
    ///
    /// # Errors
    /// As [`writer`](Self::writer).
    pub fn writer_on<V: Liveness>(
        &self,
        kernel: KernelRef,
        liveness: &V,
    ) -> Result<Writer<T, L, V::Lease>, AttachError> {
        self.attach(Some(kernel), liveness)
    }

    fn attach<V: Liveness>(
        &self,
        kernel: Option<KernelRef>,
        liveness: &V,
    ) -> Result<Writer<T, L, V::Lease>, AttachError> {
        self.region.require_writable()?;
        let place = self.place();
        for taken in [false, true] {
            if taken && !proves::<V>() {
                break;
            }
            for index in 0..self.layout.writers {
                if Owner::of(&owner_word(&self.region, &place, index)).is_some() != taken {
                    continue;
                }
                match claim_writer(&self.region, &self.layout, &place, (index, index), liveness) {
                    Ok(held) => return self.admit(held, index, kernel),
                    Err(
                        AttachError::RoleTaken(_) | AttachError::Lease(tidewire_shm::LeaseError::Held { .. }),
                    ) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(AttachError::WritersExhausted { writers: self.layout.writers })
    }

    fn admit<G>(
        &self,
        held: Held<G>,
        index: u32,
        kernel: Option<KernelRef>,
    ) -> Result<Writer<T, L, G>, AttachError> {
        let bound = Bound::new(&self.region, &self.layout, &self.place(), Fixed::new());
        let alarm = bound.alarm(&self.layout, kernel)?;
        let writer = Writer {
            core: bound.core,
            alarm,
            lock: self.lock_word(),
            number: index + 1,
            writers: self.layout.writers,
            liveness: self.layout.liveness,
            seen: 0,
            corrupt: None,
            held,
            region: bound.region,
            not_sync: PhantomData,
        };
        writer.free_what_is_left();
        Ok(writer)
    }

    /// Who is writer number `index` now, if anybody.
    #[must_use]
    pub fn writer_owner(&self, index: u32) -> Option<Owner> {
        (index < self.layout.writers).then(|| Owner::of(&owner_word(&self.region, &self.place(), index)))?
    }

    /// The number of the writer that has the lock now, if any has.
    #[must_use]
    pub fn lock_holder(&self) -> Option<u32> {
        // ORD advice: Relaxed, the answer may be old when it arrives.
        low(self.lock_word().load(Ordering::Relaxed)).checked_sub(1)
    }
}

/// One of the writers of a cell; `Send`, not `Sync`, not `Clone`. `G` is its lease.
pub struct Writer<T, L: Trust = Trusted, G = ()> {
    core: Core<Fixed<T>>,
    alarm: Alarm,
    lock: Shared<AtomicU64>,
    /// What stands in the lock when we hold it.
    number: u32,
    writers: u32,
    /// The kind of leases that the writers hold.
    liveness: u32,
    /// The last version that this writer saw or wrote.
    seen: u64,
    corrupt: Option<Corrupt>,
    // In this order: freeing the role needs the region.
    held: Held<G>,
    region: Region<L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

/// The lock, held; dropping it frees it.
struct Guard {
    lock: Shared<AtomicU64>,
    generation: u32,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // ORD lock.free: Release -> `Writer::lock`; everything that was written with the lock.
        self.lock.store(pair(self.generation, 0), Ordering::Release);
    }
}

impl<T: Pod, L: Trust, G> Writer<T, L, G> {
    /// Frees the lock if a former holder of our number died with it: our lease is the proof, and has ordered what it
    /// wrote before this.
    fn free_what_is_left(&self) {
        // ORD own: Relaxed, only the compare-exchange below decides. Our number stands there since before our lease.
        let found = self.lock.load(Ordering::Relaxed);
        if low(found) == self.number {
            let free = pair(high(found), 0);
            // ORD lock.free: Release -> `Writer::lock`; what the dead holder wrote, which our lease ordered before this.
            // ORD own: failure Relaxed; somebody else with proof was faster.
            let _ = self.lock.compare_exchange(found, free, Ordering::Release, Ordering::Relaxed);
        }
    }

    fn lock<V: Liveness<Lease = G>>(&mut self, liveness: &V) -> Result<Guard, WriteError> {
        let mut last = 0;
        for round in 1..=ROUNDS {
            // ORD own: Relaxed, only the compare-exchange below decides.
            let found = self.lock.load(Ordering::Relaxed);
            let holder = low(found);
            if holder > self.writers {
                return Err(self.latch(CorruptWord::Lock, found).into());
            }
            if holder != 0 {
                last = holder;
            }
            // Our own number can stand there only if a peer wrote it: nobody lives who holds it.
            let free = holder == 0 || holder == self.number;
            if free || round.is_multiple_of(ASK_EVERY) && self.is_gone(liveness, holder) {
                let generation = high(found).wrapping_add(1);
                let ours = pair(generation, self.number);
                // ORD lock.free: Acquire <- `Guard::drop`, `free_what_is_left`; what was written with the lock. What a
                // dead holder wrote, the answer about its lease has ordered.
                // ORD own: failure Relaxed, nothing is read behind it.
                match self.lock.compare_exchange(found, ours, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Ok(Guard { lock: self.lock.clone(), generation }),
                    // Whoever was faster, unless it is done already.
                    Err(now) if (1..=self.writers).contains(&low(now)) => last = low(now),
                    Err(_) => {}
                }
            }
            spin_hint();
        }
        Err(WriteError::Busy { writer: last.saturating_sub(1) })
    }

    /// Whether the holder of the lock that was seen before this is gone. Only the leases of this cell are asked.
    #[cold]
    fn is_gone<V: Liveness>(&self, liveness: &V, holder: u32) -> bool {
        let role = holder.checked_sub(1).and_then(RoleId::producer);
        let role = role.filter(|_| says(self.liveness, &self.region, liveness));
        role.is_some_and(|role| liveness.tenancy(role) == Tenancy::Vacant)
    }

    #[cold]
    fn latch(&mut self, what: CorruptWord, found: u64) -> Corrupt {
        *self.corrupt.get_or_insert(Corrupt { what, found })
    }

    /// Locks, and says which version is the latest.
    fn begin<V: Liveness<Lease = G>>(&mut self, liveness: &V) -> Result<(Guard, u64), WriteError> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt.into());
        }
        let guard = self.lock(liveness)?;
        let version = match self.core.adopt() {
            Ok(version) if version >= self.seen => version,
            Ok(version) => return Err(self.latch(CorruptWord::Version, version).into()),
            Err(Corrupt { what, found }) => return Err(self.latch(what, found).into()),
        };
        Ok((guard, version))
    }

    fn finish(&mut self, guard: Guard, version: u64, value: &T) -> u64 {
        let version = version + 1;
        // SAFETY: L2: with the lock this is the one writer; the region is kept, and was found writable.
        unsafe { self.core.write(version, value) };
        self.seen = version;
        drop(guard);
        self.alarm.ring();
        version
    }

    /// Writes a value and returns its version, one more than that of the value before.
    ///
    /// # Guarantees
    /// As [`Writer::write`](crate::Writer::write), with the lock. While nobody else writes no system call, but the one that
    /// [wakes](crate::Wake) readers, without the lock; else a few questions to the kernel whether the holder lives.
    ///
    /// # Errors
    /// [`WriteError::Busy`] if this one did not get the lock: others held it whenever it looked, and are not proven gone.
    /// Nobody is by leases that prove nothing, or that are not those of this cell ([`Liveness::covers`]).
    /// [`WriteError::Corrupt`] for good once something is published that cannot be.
    pub fn write<V: Liveness<Lease = G>>(&mut self, liveness: &V, value: &T) -> Result<u64, WriteError> {
        let (guard, version) = self.begin(liveness)?;
        Ok(self.finish(guard, version, value))
    }

    /// Writes what `change` makes of the latest value, with the lock all the while: no other writer's value comes
    /// between. It works on a private copy; if it panics nothing is written and the lock is free.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn update<V: Liveness<Lease = G>>(
        &mut self,
        liveness: &V,
        change: impl FnOnce(&mut T),
    ) -> Result<u64, WriteError> {
        let (guard, version) = self.begin(liveness)?;
        let mut value = T::zeroed();
        // SAFETY: private; the region is kept; with the lock nobody else writes.
        unsafe { self.core.current(version, &raw mut value) };
        change(&mut value);
        Ok(self.finish(guard, version, &value))
    }

    /// The number of this writer.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.number - 1
    }

    /// Counts no reader as asleep: for whoever knows that readers were killed while they waited, since when each write
    /// makes a system call ([`Wake::Waiters`](crate::Wake::Waiters)). One that does sleep now may do so for a whole slice.
    pub fn forget_waiters(&mut self) {
        self.alarm.forget();
    }

    /// This handle's name in its owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.held.owner()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }
}

impl<T, L: Trust, G> fmt::Debug for Writer<T, L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("number", &self.number).finish_non_exhaustive()
    }
}
