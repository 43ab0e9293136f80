//! One value of bytes, of any length up to a longest one: its one writer and its readers.
//!
//! The protocols are those of cells of plain types; a value of bytes is copied in as many words as it has, and its
//! length is a word behind the place of the longest one. Because the length is a part of what is validated, a copy
//! whose length and bytes belong to different versions is never returned.

#[cfg(feature = "alloc")]
use alloc::{vec, vec::Vec};
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use tidewire_shm::bell::Kernel;
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use crate::cell::{Bound, claim_writer, owner_word};
use crate::codec::{Buffer, Bytes};
use crate::engine::{Look, Pen};
#[cfg(feature = "alloc")]
use crate::error::UpdateError;
use crate::error::{
    AttachError, BytesReadError, Corrupt, CorruptWord, CreateError, ReadError, TooLong, WaitError,
};
use crate::layout::{KIND_BYTES, Layout, MAX_ELEMENT_BYTES, Options, Shape};
use crate::role::{Held, Owner};
use crate::wait::{self, KernelRef, Post, system};

fn shape(max: usize) -> Result<Shape, CreateError> {
    if max > MAX_ELEMENT_BYTES {
        return Err(CreateError::Element { bytes: max, align: 1 });
    }
    let words = max.div_ceil(8) + 1;
    Ok(Shape { kind: KIND_BYTES, element_bytes: max, element_align: 1, words, classic: false, shared: false })
}

/// The latest value of at most so many bytes, in a region, created or opened and validated; gives out its roles.
///
/// # Examples
/// ```
/// use tidewire_seqlock::bytes::Cell;
/// use tidewire_shm::Unleased;
///
/// let cell = Cell::on_heap(100, b"")?;
/// let (mut writer, mut reader) = (cell.writer(&Unleased)?, cell.reader());
/// writer.write(b"forty-two")?;
/// let mut buffer = [0; 100];
/// let (value, version) = reader.read(&mut buffer)?;
/// assert_eq!((value, version), (&b"forty-two"[..], 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cell<L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    codec: Bytes,
}

impl<L: Trust> fmt::Debug for Cell<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("max", &self.codec.max()).finish_non_exhaustive()
    }
}

impl Cell<Trusted> {
    /// A cell on the heap, for threads of this process.
    ///
    /// # Errors
    /// As [`create`](Self::create), or if memory is short.
    #[cfg(feature = "alloc")]
    pub fn on_heap(max: usize, initial: &[u8]) -> Result<Self, CreateError> {
        let bytes = Self::bytes(max, &Options::new())?;
        Self::create(Region::heap(bytes)?, max, initial, &Options::new())
    }
}

impl<L: Trust> Cell<L> {
    /// Bytes of region that a cell for values of up to `max` bytes needs.
    ///
    /// # Errors
    /// [`CreateError`] if `max` is 0 or too large, or the options cannot be.
    pub fn bytes(max: usize, options: &Options) -> Result<usize, CreateError> {
        shape(max)?.bytes(1, options)
    }

    /// Creates a cell for values of up to `max` bytes, with `initial` as version 0, in a region that nobody uses (any
    /// more).
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if `initial` is longer than `max`, or the region is too short or cannot be
    /// written.
    pub fn create(
        region: Region<L>,
        max: usize,
        initial: &[u8],
        options: &Options,
    ) -> Result<Self, CreateError> {
        if initial.len() > max {
            return Err(CreateError::Initial(TooLong { max, found: initial.len() }));
        }
        let codec = Bytes::new(max);
        let layout = shape(max)?.create(&region, 1, options, |layout, index| {
            let bound = Bound::new(&region, layout, &layout.place(index), codec);
            // SAFETY: the region is alive and writable, and nobody else can see the cell yet.
            unsafe { bound.core.write(0, initial) };
        })?;
        Ok(Self { region, layout, codec })
    }

    /// Opens a cell that somebody created for values of up to `max` bytes, as [`Cell::open`](crate::Cell::open) does.
    ///
    /// # Errors
    /// As [`Cell::open`](crate::Cell::open).
    pub fn open(region: Region<L>, max: usize, type_fingerprint: u64) -> Result<Self, AttachError> {
        let shape = shape(max).map_err(|_| {
            use tidewire_shm::{Field, Incompatible};
            Incompatible::new(Field::ElementBytes, MAX_ELEMENT_BYTES as u64, max as u64)
        })?;
        let layout = shape.open(&region, type_fingerprint)?;
        Ok(Self { region, layout, codec: Bytes::new(max) })
    }

    /// Bytes of the longest value.
    #[must_use]
    pub fn max(&self) -> usize {
        self.codec.max()
    }

    /// A reader. There may be any number of them; none of them ever writes.
    #[must_use]
    pub fn reader(&self) -> Reader<L> {
        let bound = Bound::new(&self.region, &self.layout, &self.layout.place(0), self.codec);
        let post = self.layout.post(0);
        Reader { look: Look::new(bound.core), region: bound.region, post, not_sync: PhantomData }
    }

    /// Takes the role of the one writer, as [`Cell::writer`](crate::Cell::writer) does.
    ///
    /// # Errors
    /// As [`Cell::writer`](crate::Cell::writer).
    pub fn writer<V: Liveness>(&self, liveness: &V) -> Result<Writer<L, V::Lease>, AttachError> {
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
    ) -> Result<Writer<L, V::Lease>, AttachError> {
        self.attach(Some(kernel), liveness)
    }

    fn attach<V: Liveness>(
        &self,
        kernel: Option<KernelRef>,
        liveness: &V,
    ) -> Result<Writer<L, V::Lease>, AttachError> {
        let place = self.layout.place(0);
        let held = claim_writer(&self.region, &self.layout, &place, (0, 0), liveness)?;
        let bound = Bound::new(&self.region, &self.layout, &place, self.codec);
        let alarm = bound.alarm(&self.layout, kernel)?;
        let pen = Pen::adopt(bound.core, alarm)?;
        Ok(Writer { pen, held, _region: bound.region, not_sync: PhantomData })
    }

    /// Who holds the role of the writer now.
    #[must_use]
    pub fn writer_owner(&self) -> Option<Owner> {
        Owner::of(&owner_word(&self.region, &self.layout.place(0), 0))
    }
}

/// The one writer of a cell of bytes; `Send`, not `Sync`, not `Clone`. `G` is its lease.
pub struct Writer<L: Trust = Trusted, G = ()> {
    pen: Pen<Bytes>,
    // In this order: freeing the role needs the region.
    held: Held<G>,
    _region: Region<L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<L: Trust, G> Writer<L, G> {
    /// Writes a value and returns its version, one more than that of the value before.
    ///
    /// # Guarantees
    /// As [`Writer::write`](crate::Writer::write).
    ///
    /// # Errors
    /// [`TooLong`] if the value is longer than the cell takes; then nothing is written.
    #[inline]
    pub fn write(&mut self, value: &[u8]) -> Result<u64, TooLong> {
        let max = self.pen.core.codec.max();
        if value.len() > max {
            return Err(TooLong { max, found: value.len() });
        }
        // SAFETY: this handle holds the role; it keeps the region, which was found writable. The length was checked.
        Ok(unsafe { self.pen.write(value) })
    }

    /// Writes what `change` makes of the latest value; it works on a private copy, so if it panics nothing is written.
    ///
    /// # Guarantees
    /// As [`write`](Self::write), when `change` has returned; but it allocates the copy, of [`max`](Self::max) bytes.
    ///
    /// # Errors
    /// [`UpdateError::TooLong`] if the value has become longer than the cell takes, [`UpdateError::Corrupt`] if a peer
    /// overwrote the length of the latest one, until another is written. Nothing is written then.
    ///
    /// # Examples
    /// ```
    /// use tidewire_seqlock::bytes::Cell;
    /// use tidewire_shm::Unleased;
    ///
    /// let cell = Cell::on_heap(100, b"forty")?;
    /// let (mut writer, mut reader) = (cell.writer(&Unleased)?, cell.reader());
    /// assert_eq!(writer.update(|value| value.extend_from_slice(b"-two")), Ok(1));
    /// assert_eq!(reader.read(&mut [0; 100])?, (&b"forty-two"[..], 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "alloc")]
    pub fn update(&mut self, change: impl FnOnce(&mut Vec<u8>)) -> Result<u64, UpdateError> {
        let mut value = vec![0; self.max()];
        let mut to = Buffer { to: value.as_mut_ptr(), room: value.len(), len: 0 };
        // SAFETY: private; the region is kept; this is the one writer.
        unsafe { self.pen.core.current(self.pen.version(), &raw mut to) };
        match usize::try_from(to.len) {
            Ok(len) if len <= value.len() => value.truncate(len),
            _ => return Err(UpdateError::Corrupt(Corrupt { what: CorruptWord::Length, found: to.len })),
        }
        change(&mut value);
        Ok(self.write(&value)?)
    }

    /// Bytes of the longest value.
    #[must_use]
    pub fn max(&self) -> usize {
        self.pen.core.codec.max()
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

/// A reader of a cell of bytes; `Send`, not `Sync`. It never writes.
pub struct Reader<L: Trust = Trusted> {
    look: Look<Bytes>,
    region: Region<L>,
    post: Post,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<L: Trust> Clone for Reader<L> {
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

impl<L: Trust> Reader<L> {
    /// Copies the latest value into `buffer`, and returns the part of it that holds the value, and its version.
    ///
    /// # Guarantees
    /// As [`Reader::read`](crate::Reader::read).
    ///
    /// # Errors
    /// As [`Reader::read`](crate::Reader::read); [`BytesReadError::BufferTooSmall`] if the value is longer than
    /// `buffer`. Then `buffer` may hold anything.
    #[inline]
    pub fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<(&'b [u8], u64), BytesReadError> {
        let (len, version) = self.copy(buffer, |look, to| {
            // SAFETY: `to` is a private buffer; the region is kept.
            unsafe { look.read(to) }
        })?;
        Ok((buffer.split_at(len).0, version))
    }

    /// As [`read`](Self::read), in one attempt: a number of steps bounded by the length.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`BytesReadError::Lapped`] if the one attempt failed.
    #[inline]
    pub fn try_read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<(&'b [u8], u64), BytesReadError> {
        let (len, version) = self.copy(buffer, |look, to| {
            // SAFETY: `to` is a private buffer; the region is kept.
            unsafe { look.try_read(to) }
        })?;
        Ok((buffer.split_at(len).0, version))
    }

    /// The latest value, unless its version is `since`; then one load is all that it takes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline]
    pub fn read_if_changed<'b>(
        &mut self,
        since: u64,
        buffer: &'b mut [u8],
    ) -> Result<Option<(&'b [u8], u64)>, BytesReadError> {
        if self.look.version()? == since {
            return Ok(None);
        }
        self.read(buffer).map(Some)
    }

    #[inline(always)]
    fn copy(
        &mut self,
        buffer: &mut [u8],
        read: impl FnOnce(&mut Look<Bytes>, *mut Buffer) -> Result<u64, ReadError>,
    ) -> Result<(usize, u64), BytesReadError> {
        let mut to = Buffer { to: buffer.as_mut_ptr(), room: buffer.len(), len: 0 };
        let version = read(&mut self.look, &raw mut to)?;
        let max = self.look.core.codec.max();
        match usize::try_from(to.len) {
            Ok(len) if len <= max && len <= buffer.len() => Ok((len, version)),
            Ok(needed) if needed <= max => Err(BytesReadError::BufferTooSmall { needed }),
            _ => Err(self.look.latch(CorruptWord::Length, to.len).into()),
        }
    }

    /// Bytes of the longest value.
    #[must_use]
    pub fn max(&self) -> usize {
        self.look.core.codec.max()
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
    /// As [`Reader::wait_changed`](crate::Reader::wait_changed_on).
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the time was over first; [`WaitError::WriterGone`] if nobody holds the lease of the
    /// writer and it is still the same version, which by leases that prove nothing, or that are not those of the cell, is
    /// never known; [`WaitError::Corrupt`] for good once the writer published what cannot be.
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

impl<L: Trust, G> fmt::Debug for Writer<L, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl<L: Trust> fmt::Debug for Reader<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("region", &self.region).finish_non_exhaustive()
    }
}
