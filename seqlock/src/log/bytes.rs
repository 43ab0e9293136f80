//! A log of bytes: values of any length up to a longest one, which is chosen when the log is created.
//!
//! The protocol is that of [any log](super), and so are the handles; only what copies a value is another one. A value takes
//! a slot for the longest one, whatever its length, but no more of it is written or read than it has. Because the length is a
//! part of what is validated, a copy whose length and bytes belong to different versions is never returned.
//!
//! # Examples
//! ```
//! use tidewire_seqlock::log::{Options, Start, TryWriteError, bytes};
//! use tidewire_shm::{Region, Unleased};
//!
//! let options = Options::new(4).gates(1);
//! let region = Region::heap(bytes::region_bytes(100, &options)?)?;
//! let log = bytes::create(region, 100, &options)?;
//! let (mut writer, mut reader) = (log.writer(&Unleased)?, log.gated_reader(Start::Next, &Unleased)?);
//! assert_eq!(writer.try_write_bytes(b"high water"), Ok(1));
//! assert_eq!(writer.try_write_bytes(b""), Ok(2));
//! assert!(matches!(writer.try_write_bytes(&[0; 101]), Err(TryWriteError::TooLong(_))));
//! let mut buffer = [0; 100];
//! assert_eq!(reader.next_bytes(&mut buffer)?, Some((&b"high water"[..], 1)));
//! assert_eq!(reader.next_bytes(&mut buffer)?, Some((&b""[..], 2)));
//! assert_eq!(reader.next_bytes(&mut buffer)?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::marker::PhantomData;

use tidewire_shm::{Region, Trust, Trusted};

use super::layout::{Element, Layout};
use super::{BytesNextError, Options, TryWriteError};
use crate::codec::Buffer;
use crate::error::{AttachError, CreateError, TooLong};
use crate::layout::MAX_ELEMENT_BYTES;

#[cfg(feature = "alloc")]
use super::NextError;
#[cfg(feature = "alloc")]
use crate::error::CorruptWord;

/// What stands in place of the type of values in the handles of a log of bytes. There is no value of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {}

/// A log of bytes.
pub type Log<L = Trusted> = super::Log<Bytes, L>;
/// The one writer of a log of bytes.
pub type Writer<L = Trusted, G = ()> = super::Writer<Bytes, L, G>;
/// A reader of a log of bytes, of which the writer does not know.
pub type Reader<L = Trusted> = super::Reader<Bytes, L>;
/// A reader of a log of bytes that [`try_write_bytes`](super::Writer::try_write_bytes) does not overtake.
pub type GatedReader<L = Trusted, G = ()> = super::GatedReader<Bytes, L, G>;

fn element(max: usize) -> Result<Element, CreateError> {
    // Before words are counted.
    if max > MAX_ELEMENT_BYTES {
        return Err(CreateError::Element { bytes: max, align: 1 });
    }
    Ok(Element::bytes(max))
}

/// Bytes of region that a log of values of up to `max` bytes needs.
///
/// # Errors
/// [`CreateError`] if `max` is 0 or too large, or the options cannot be.
pub fn region_bytes(max: usize, options: &Options) -> Result<usize, CreateError> {
    Ok(Layout::new(element(max)?, options)?.total_bytes())
}

/// A log on the heap without gates, for threads of this process.
///
/// # Errors
/// As [`region_bytes`], or if memory is short.
#[cfg(feature = "alloc")]
pub fn on_heap(max: usize, capacity: u32) -> Result<Log, CreateError> {
    let options = Options::new(capacity);
    create(Region::heap(region_bytes(max, &options)?)?, max, &options)
}

/// Creates a log without values, for values of up to `max` bytes, in a region that nobody uses (any more). What lay there is
/// gone from the first store on; killed in between, the region holds no structure.
///
/// # Errors
/// As [`region_bytes`], or if the region is too short or cannot be written.
pub fn create<L: Trust>(region: Region<L>, max: usize, options: &Options) -> Result<Log<L>, CreateError> {
    let layout = Layout::create(&region, element(max)?, options)?;
    Ok(Log { region, layout, value: PhantomData })
}

/// Opens a log of bytes that somebody created, with the longest value that it was created for; header and shape are read once
/// and never again. Reading needs no right to write: a [read-only](Region::read_only) region will do.
///
/// # Errors
/// [`AttachError::Incompatible`] names the first field that differs from what such a creator, and `type_fingerprint`, would
/// have written.
pub fn open<L: Trust>(region: Region<L>, type_fingerprint: u64) -> Result<Log<L>, AttachError> {
    let layout = Layout::open_bytes(&region, type_fingerprint)?;
    Ok(Log { region, layout, value: PhantomData })
}

impl<L: Trust> super::Log<Bytes, L> {
    /// Bytes of the longest value.
    #[must_use]
    pub fn max(&self) -> usize {
        self.layout.element.bytes
    }
}

impl<L: Trust, G> super::Writer<Bytes, L, G> {
    /// Writes a value and returns its version; see [`Writer::write`](super::Writer::write).
    ///
    /// # Errors
    /// [`TooLong`] if the value is longer than the log takes; then nothing is written.
    #[inline]
    pub fn write_bytes(&mut self, value: &[u8]) -> Result<u64, TooLong> {
        self.require_short(value)?;
        let version = self.enter_next();
        // SAFETY: this handle holds the role and has entered the group; it keeps the region, which was found writable. The
        // length was checked.
        unsafe { self.track.store(version, value) };
        self.publish(version);
        Ok(version)
    }

    /// As [`write_bytes`](Self::write_bytes), if every reader with a gate has taken what would be overwritten; see
    /// [`Writer::try_write`](super::Writer::try_write).
    ///
    /// # Errors
    /// [`TryWriteError::Full`] names the gate that is furthest behind, [`TryWriteError::TooLong`] as in
    /// [`write_bytes`](Self::write_bytes); nothing was written.
    #[inline]
    pub fn try_write_bytes(&mut self, value: &[u8]) -> Result<u64, TryWriteError> {
        self.require_short(value)?;
        let version = self.try_enter_next()?;
        // SAFETY: as in `write_bytes`.
        unsafe { self.track.store(version, value) };
        self.publish(version);
        Ok(version)
    }

    #[inline(always)]
    fn require_short(&self, value: &[u8]) -> Result<(), TooLong> {
        let (max, found) = (self.max(), value.len());
        if found <= max { Ok(()) } else { Err(TooLong { max, found }) }
    }

    /// Bytes of the longest value.
    #[must_use]
    #[inline]
    pub fn max(&self) -> usize {
        self.track.bytes
    }
}

impl<L: Trust> super::Reader<Bytes, L> {
    /// Copies the next value, if there is one already, into `buffer`, and returns the part of it that holds the value, and its
    /// version.
    ///
    /// # Guarantees
    /// Those of [`Reader::next`](super::Reader::next).
    ///
    /// # Errors
    /// Those of [`Reader::next`](super::Reader::next), and [`BytesNextError::BufferTooSmall`], which a buffer of
    /// [`max`](Self::max) bytes never is. Then `buffer` may hold anything.
    #[inline]
    pub fn next_bytes<'b>(
        &mut self,
        buffer: &'b mut [u8],
    ) -> Result<Option<(&'b [u8], u64)>, BytesNextError> {
        let mut to = Buffer { to: buffer.as_mut_ptr(), room: buffer.len(), len: 0 };
        // SAFETY: private.
        let Some(version) = (unsafe { self.copy(&mut to) })? else { return Ok(None) };
        let len = usize::try_from(to.len).unwrap_or(usize::MAX);
        let Some((value, _)) = buffer.split_at_checked(len) else {
            return Err(BytesNextError::BufferTooSmall { needed: len });
        };
        self.next = version + 1;
        Ok(Some((value, version)))
    }

    /// The next value, if there is one already, in place of what is in `to`, which grows if it must; returns the version.
    ///
    /// # Guarantees
    /// Those of [`Reader::next`](super::Reader::next); but it allocates where the value is longer than the capacity of `to`,
    /// and then copies twice at most.
    ///
    /// # Errors
    /// Those of [`Reader::next`](super::Reader::next). Then, and where there is no value, `to` is empty.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn next_bytes_into(&mut self, to: &mut Vec<u8>) -> Result<Option<u64>, NextError> {
        match self.take_to(to)? {
            Some(Err(needed)) => self.next_bytes_into_longer(to, needed),
            Some(Ok(version)) => Ok(Some(version)),
            None => Ok(None),
        }
    }

    #[cfg(feature = "alloc")]
    #[cold]
    fn next_bytes_into_longer(&mut self, to: &mut Vec<u8>, needed: usize) -> Result<Option<u64>, NextError> {
        to.reserve_exact(needed);
        match self.take_to(to)? {
            // It is the same version: a length that grows is a lie.
            Some(Err(needed)) => Err(self.latch(CorruptWord::Length, needed as u64).into()),
            Some(Ok(version)) => Ok(Some(version)),
            None => Ok(None),
        }
    }

    /// Takes the next value if there is one that fits into the capacity of a vector; else says what it needs.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    fn take_to(&mut self, to: &mut Vec<u8>) -> Result<Option<Result<u64, usize>>, NextError> {
        to.clear();
        let mut copied = Buffer { to: to.as_mut_ptr(), room: to.capacity(), len: 0 };
        // SAFETY: private; what is in the capacity may be written.
        let Some(version) = unsafe { self.copy(&mut copied) }? else { return Ok(None) };
        let len = usize::try_from(copied.len).unwrap_or(usize::MAX);
        if len > copied.room {
            return Ok(Some(Err(len)));
        }
        // SAFETY: within the capacity; as it is, so many bytes were copied there.
        unsafe { to.set_len(len) };
        self.next = version + 1;
        Ok(Some(Ok(version)))
    }

    /// Bytes of the longest value.
    #[must_use]
    pub fn max(&self) -> usize {
        self.track.bytes
    }
}

impl<L: Trust, G> super::GatedReader<Bytes, L, G> {
    /// The next value and its version, if there is one already, in `buffer`; see [`Reader::next_bytes`](super::Reader::next_bytes).
    /// Taken, the writer may overwrite it, but it is told so only when an eighth of the capacity is taken, when there is nothing
    /// more, or [now](Self::release).
    ///
    /// # Errors
    /// As [`Reader::next_bytes`](super::Reader::next_bytes); [`BytesNextError::Overtaken`] only if the writer did not
    /// [ask](super::Writer::try_write_bytes).
    #[inline]
    pub fn next_bytes<'b>(
        &mut self,
        buffer: &'b mut [u8],
    ) -> Result<Option<(&'b [u8], u64)>, BytesNextError> {
        let next = self.reader.next_bytes(buffer);
        self.release_if_due(!matches!(next, Ok(Some(_))));
        next
    }

    /// The next value, in place of what is in `to`; see [`Reader::next_bytes_into`](super::Reader::next_bytes_into).
    ///
    /// # Errors
    /// As [`next_bytes`](Self::next_bytes), but that there is always room.
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn next_bytes_into(&mut self, to: &mut Vec<u8>) -> Result<Option<u64>, NextError> {
        let next = self.reader.next_bytes_into(to);
        self.release_if_due(!matches!(next, Ok(Some(_))));
        next
    }

    /// Bytes of the longest value.
    #[must_use]
    pub fn max(&self) -> usize {
        self.reader.max()
    }
}
