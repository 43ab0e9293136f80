//! One value of a plain type: its one writer and its readers.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::time::Duration;

use bytemuck::Pod;
use tidewire_shm::bell::Kernel;
use tidewire_shm::sync::{AtomicU64, Shared};
use tidewire_shm::{Liveness, Region, RoleId, Trust, Trusted};

use crate::codec::{Codec, Fixed};
use crate::engine::{Core, Look, Pen};
use crate::error::{AttachError, Corrupt, CreateError, ReadError, WaitError};
use crate::layout::{KIND_CELL, Layout, Options, Place, Shape};
use crate::role::{Held, Owner, claim, proves};
use crate::wait::{self, Alarm, KernelRef, Post, system};

pub(crate) const fn shape<T: Pod>(kind: u32) -> Shape {
    Shape {
        kind,
        element_bytes: size_of::<T>(),
        element_align: align_of::<T>(),
        words: size_of::<T>().div_ceil(8),
        classic: false,
        shared: false,
    }
}

/// The words of one cell of a validated layout, and the region that keeps them alive.
pub(crate) struct Bound<C, L: Trust> {
    pub(crate) core: Core<C>,
    pub(crate) region: Region<L>,
}

impl<C: Codec, L: Trust> Bound<C, L> {
    pub(crate) fn new(region: &Region<L>, layout: &Layout, place: &Place, codec: C) -> Self {
        Self {
            // SAFETY: the region handle goes where the core goes.
            core: unsafe { Core::new(region, layout, place, codec) },
            // SAFETY: the handles of one cell follow one protocol: the roles are claimed by their owner words, and
            // references are never lent.
            region: unsafe { region.alias() },
        }
    }

    /// What the writer of the cell does behind each write.
    pub(crate) fn alarm(&self, layout: &Layout, kernel: Option<KernelRef>) -> Result<Alarm, AttachError> {
        // SAFETY: the alarm goes where the core and the region go.
        unsafe { Alarm::new(&self.region, layout, &self.core.latest, kernel) }
    }
}

/// The owner word of a writer of a cell.
pub(crate) fn owner_word<L: Trust>(region: &Region<L>, place: &Place, writer: u32) -> Shared<AtomicU64> {
    // SAFETY: an owner word of a validated layout; handles that keep it keep the region, too. Only those who asked
    // whether the region is writable do more than load it.
    unsafe { region.atomic_u64(place.owner(writer)) }
}

/// Whether `Vacant` from these leases can be believed about a writer that holds leases of kind `held` in this region.
pub(crate) fn says<L: Trust, V: Liveness>(held: u32, region: &Region<L>, liveness: &V) -> bool {
    proves::<V>() && V::KIND == held && liveness.covers(region)
}

/// Takes the role of a writer and the right to it.
pub(crate) fn claim_writer<L: Trust, V: Liveness>(
    region: &Region<L>,
    layout: &Layout,
    place: &Place,
    (writer, lease): (u32, u32),
    liveness: &V,
) -> Result<Held<V::Lease>, AttachError> {
    region.require_writable()?;
    layout.require_liveness(region, liveness)?;
    let no_such = AttachError::NoCell { index: lease, cells: layout.cells };
    let id = RoleId::producer(lease).ok_or(no_such)?;
    claim(owner_word(region, place, writer), id, liveness)
}

/// The latest value of a plain type `T`, in a region, created or opened and validated; gives out its roles.
///
/// `L` says whether the other processes are trusted (see [`Trust`]). Values are copied in and out either way.
///
/// # Examples
/// ```
/// use tidewire_seqlock::Cell;
/// use tidewire_shm::Unleased;
///
/// let cell = Cell::on_heap(&[0_u64; 4])?;
/// let mut writer = cell.writer(&Unleased)?;
/// let mut reader = cell.reader();
/// assert_eq!(reader.read()?, ([0; 4], 0));
/// assert_eq!(writer.write(&[1, 2, 3, 4]), 1);
/// assert_eq!(writer.update(|value| value[0] = 9), 2);
/// assert_eq!(reader.read()?, ([9, 2, 3, 4], 2));
/// assert_eq!(reader.read_if_changed(2)?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cell<T, L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    value: PhantomData<fn(T) -> T>,
}

impl<T, L: Trust> fmt::Debug for Cell<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("slots", &self.layout.slots).finish_non_exhaustive()
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
    /// Bytes of region that a cell needs.
    ///
    /// # Errors
    /// [`CreateError`] if `T` is empty or the options cannot be.
    pub fn bytes(options: &Options) -> Result<usize, CreateError> {
        shape::<T>(KIND_CELL).bytes(1, options)
    }

    /// Creates a cell in a region that nobody uses (any more), with `initial` as version 0. What lay there is gone from
    /// the first store on; killed in between, the region holds no structure.
    ///
    /// # Errors
    /// [`CreateError`] if `T` is empty, the options cannot be, or the region is too short or cannot be written.
    pub fn create(region: Region<L>, initial: &T, options: &Options) -> Result<Self, CreateError> {
        let layout = shape::<T>(KIND_CELL).create(&region, 1, options, |layout, index| {
            let bound = Bound::new(&region, layout, &layout.place(index), Fixed::<T>::new());
            // SAFETY: the region is alive and writable, and nobody else can see the cell yet.
            unsafe { bound.core.write(0, initial) };
        })?;
        Ok(Self { region, layout, value: PhantomData })
    }

    /// Opens a cell that somebody created; header and shape are read once and never again. Reading needs no right to
    /// write: a [read-only](Region::read_only) region will do.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what `T` and `type_fingerprint`
    /// would have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = shape::<T>(KIND_CELL).open(&region, type_fingerprint)?;
        Ok(Self { region, layout, value: PhantomData })
    }

    /// Versions that the cell keeps.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.layout.slots
    }

    /// A reader. There may be any number of them; none of them ever writes.
    #[must_use]
    pub fn reader(&self) -> Reader<T, L> {
        let bound = Bound::new(&self.region, &self.layout, &self.layout.place(0), Fixed::new());
        Reader::new(bound, self.layout.post(0))
    }

    /// Takes the role of the one writer, with the lease of [`RoleId::producer`] number 0, and goes on from the latest
    /// version.
    ///
    /// If the lease proves it ([`Liveness::PROVES`]), a writer that died is followed here; nothing is to be repaired.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if there is a writer (or was one, and leases prove nothing),
    /// [`AttachError::Incompatible`] if the cell was created for another kind of leases, or these are of another segment
    /// ([`Liveness::covers`]), [`AttachError::Region`] if the region cannot be written, [`AttachError::Corrupt`] if what
    /// is published cannot be, [`AttachError::Bell`], [`AttachError::NoKernel`] if the writer shall wake readers and cannot.
    pub fn writer<V: Liveness>(&self, liveness: &V) -> Result<Writer<T, L, V::Lease>, AttachError> {
        Writer::attach(&self.region, &self.layout, 0, system(), liveness)
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
        Writer::attach(&self.region, &self.layout, 0, Some(kernel), liveness)
    }

    /// Who holds the role of the writer now.
    #[must_use]
    pub fn writer_owner(&self) -> Option<Owner> {
        Owner::of(&owner_word(&self.region, &self.layout.place(0), 0))
    }
}

/// The one writer of a cell; `Send`, not `Sync`, not `Clone`. `G` is its lease.
///
/// Dropping it frees the role; what it wrote stays.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_seqlock::Writer<u64>>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_seqlock::Writer<u64>>();
/// ```
pub struct Writer<T, L: Trust = Trusted, G = ()> {
    pen: Pen<Fixed<T>>,
    // In this order: freeing the role needs the region.
    held: Held<G>,
    _region: Region<L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T: Pod, L: Trust, G> Writer<T, L, G> {
    /// Takes the role of the writer of cell `index`, which there is.
    pub(crate) fn attach<V: Liveness<Lease = G>>(
        region: &Region<L>,
        layout: &Layout,
        index: u32,
        kernel: Option<KernelRef>,
        liveness: &V,
    ) -> Result<Self, AttachError> {
        let place = layout.place(index);
        let held = claim_writer(region, layout, &place, (0, index), liveness)?;
        let bound = Bound::new(region, layout, &place, Fixed::new());
        let alarm = bound.alarm(layout, kernel)?;
        let pen = Pen::adopt(bound.core, alarm)?;
        Ok(Self { pen, held, _region: bound.region, not_sync: PhantomData })
    }

    /// Writes a value and returns its version, one more than that of the value before.
    ///
    /// # Guarantees
    /// Wait-free; no system call but the one that [wakes](crate::Wake) readers where that was chosen. When it returns, the
    /// value is the latest: it survives the death of this process. Killed before, readers see the value before it, whole.
    #[inline]
    pub fn write(&mut self, value: &T) -> u64 {
        // SAFETY: this handle holds the role; it keeps the region, which was found writable.
        unsafe { self.pen.write(value) }
    }

    /// Writes what `change` makes of the latest value; it works on a private copy, so if it panics nothing is written.
    ///
    /// # Guarantees
    /// As [`write`](Self::write), when `change` has returned.
    #[inline]
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> u64 {
        let mut value = self.value();
        change(&mut value);
        self.write(&value)
    }

    /// The latest value.
    #[must_use]
    #[inline]
    pub fn value(&self) -> T {
        let mut value = T::zeroed();
        // SAFETY: private; the region is kept.
        unsafe { self.pen.core.current(self.pen.version(), &raw mut value) };
        value
    }

    /// The version of the latest value; 0 is the initial one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.pen.version()
    }

    /// Counts no reader as asleep: for whoever knows that readers were killed while they waited, since when each write
    /// makes a system call ([`Wake::Waiters`](crate::Wake::Waiters)). One that does sleep now may do so for a whole slice.
    pub fn forget_waiters(&mut self) {
        self.pen.alarm.forget();
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.held.owner()
    }
}

/// A reader of a cell; `Send`, not `Sync`. It never writes, so nobody knows of it, and its death is nobody's affair. The
/// one exception is chosen with the cell: a count of those that wait ([`Wake::Waiters`](crate::Wake::Waiters)).
///
/// The versions that one reader returns never go back.
pub struct Reader<T, L: Trust = Trusted> {
    look: Look<Fixed<T>>,
    region: Region<L>,
    post: Post,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T: Pod, L: Trust> Clone for Reader<T, L> {
    /// Another reader, which has seen what this one has.
    fn clone(&self) -> Self {
        Self {
            look: self.look.clone(),
            // SAFETY: readers write nothing and lend nothing.
            region: unsafe { self.region.alias() },
            post: self.post,
            not_sync: PhantomData,
        }
    }
}

impl<T: Pod, L: Trust> Reader<T, L> {
    pub(crate) fn new(bound: Bound<Fixed<T>, L>, post: Post) -> Self {
        Self { look: Look::new(bound.core), region: bound.region, post, not_sync: PhantomData }
    }

    /// The latest value and its version.
    ///
    /// # Guarantees
    /// No system call, no store. At the moment when it looked, nothing newer was published. It tries again only if the
    /// writer wrote all other slots during one copy, and not for ever.
    ///
    /// # Errors
    /// [`ReadError::Lapped`] if a thousand attempts failed, [`ReadError::Corrupt`] for good once the writer published
    /// what cannot be.
    #[inline]
    pub fn read(&mut self) -> Result<(T, u64), ReadError> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: private; the region is kept.
        let version = unsafe { self.look.read(value.as_mut_ptr()) }?;
        // SAFETY: a read that succeeds has written all bytes, and any bytes are a plain type.
        Ok((unsafe { value.assume_init() }, version))
    }

    /// As [`read`](Self::read), in one attempt: a bounded number of steps.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`ReadError::Lapped`] if the one attempt failed.
    #[inline]
    pub fn try_read(&mut self) -> Result<(T, u64), ReadError> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: private; the region is kept.
        let version = unsafe { self.look.try_read(value.as_mut_ptr()) }?;
        // SAFETY: a read that succeeds has written all bytes, and any bytes are a plain type.
        Ok((unsafe { value.assume_init() }, version))
    }

    /// As [`read`](Self::read), to where the value shall lie; for types that are too large to return by value.
    ///
    /// # Errors
    /// As [`read`](Self::read). Then `to` may hold anything.
    #[inline]
    pub fn read_into(&mut self, to: &mut T) -> Result<u64, ReadError> {
        // SAFETY: private; any bytes are a plain type; the region is kept.
        unsafe { self.look.read(to) }
    }

    /// The latest value, unless its version is `since`; then one load is all that it takes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline]
    pub fn read_if_changed(&mut self, since: u64) -> Result<Option<(T, u64)>, ReadError> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: private; the region is kept.
        let version = unsafe { self.look.read_if_changed(since, value.as_mut_ptr()) }?;
        // SAFETY: a read that succeeds has written all bytes, and any bytes are a plain type.
        Ok(version.map(|version| (unsafe { value.assume_init() }, version)))
    }

    /// The version of the latest value; 0 is the initial one. One load.
    ///
    /// # Errors
    /// [`Corrupt`] for good once the writer published what cannot be.
    #[inline]
    pub fn version(&mut self) -> Result<u64, Corrupt> {
        self.look.version()
    }

    /// Waits until the latest version is not `since`, and returns it; at once, if it is another one already. Then
    /// [`read`](Self::read) returns that version or a later one.
    ///
    /// # Guarantees
    /// It spins for some microseconds and then sleeps, in a read-only mapping too, and writes nothing, or only that it
    /// waits: see [`Wake`](crate::Wake) for who pays for what. It returns at most one sleep after the time is over,
    /// whatever a peer does, and no sleep lasts longer than 50 ms. So long a change may stay unnoticed of which a writer
    /// that was killed just then told nobody. Where leases prove that a writer is gone, that is known within 10 ms.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the time was over first; [`WaitError::WriterGone`] if nobody holds the lease of the
    /// writer and it is still the same version, which by leases that prove nothing, or that are not those of the cell, is
    /// never known; [`WaitError::Corrupt`] for good once the writer published what cannot be.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tidewire_seqlock::{Cell, Options, WaitError, Wake};
    /// use tidewire_shm::{Region, Unleased};
    ///
    /// let options = Options::new().wake(Wake::Always);
    /// let cell = Cell::create(Region::heap(Cell::<u64>::bytes(&options)?)?, &0_u64, &options)?;
    /// let (mut writer, mut reader) = (cell.writer(&Unleased)?, cell.reader());
    /// let (_, seen) = reader.read()?;
    /// assert_eq!(reader.wait_changed(&Unleased, seen, Duration::from_millis(1)), Err(WaitError::TimedOut));
    /// let writing = std::thread::spawn(move || writer.write(&7));
    /// assert_eq!(reader.wait_changed(&Unleased, seen, Duration::from_secs(60)), Ok(1));
    /// assert_eq!(reader.read()?, (7, 1));
    /// # writing.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(all(feature = "std", not(loom)))]
    pub fn wait_changed<V: Liveness>(
        &mut self,
        liveness: &V,
        since: u64,
        timeout: Duration,
    ) -> Result<u64, WaitError> {
        self.wait_changed_on(&tidewire_shm::bell::System, liveness, since, timeout)
    }

    /// As `wait_changed`, by a kernel of the caller's; where there is no system to ask, the only way to wait.
    ///
    /// # Errors
    /// As `wait_changed`.
    pub fn wait_changed_on<K: Kernel, V: Liveness>(
        &mut self,
        kernel: &K,
        liveness: &V,
        since: u64,
        timeout: Duration,
    ) -> Result<u64, WaitError> {
        wait::changed(&mut self.look, (&self.region, &self.post), (kernel, liveness), since, timeout)
    }

    /// How many attempts of this reader failed so far.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.look.retries()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.look.corruption()
    }
}

impl<T, L: Trust, G> fmt::Debug for Writer<T, L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("owner", &self.held.owner()).finish_non_exhaustive()
    }
}

impl<T, L: Trust> fmt::Debug for Reader<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("region", &self.region).finish_non_exhaustive()
    }
}
