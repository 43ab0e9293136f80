//! The two ends of a ring of records without their roles: what [`Producer`](super::Producer) and
//! [`Consumer`](super::Consumer) add is an owner word. A larger structure that keeps the ends apart by other means
//! embeds them as they are.
#![expect(clippy::missing_errors_doc, reason = "the handles with roles document the same methods for users")]

use core::fmt;
use core::marker::PhantomData;

use tidewire_shm::sync::Payload;
use tidewire_shm::{Region, Trust};

use super::record::{Batch, Record, Reservation};
use crate::cursor::{HasHead, HeadCursor, Positions, TailCursor, Tuning};
use crate::error::{Corrupt, CorruptWord, RecordPopError, RecordPushError};
use crate::layout::{KIND_BYTES, Parts, Shape};
use crate::touch::touch_lines;

/// Bytes of a frame, and the grain of positions.
pub(super) const FRAME: usize = 8;
pub(super) const KIND_MESSAGE: u32 = 1;
const KIND_PADDING: u32 = 2;

/// The smallest capacity: room for padding and one empty record.
const MIN_CAPACITY: usize = 64;
/// The largest capacity: lengths are 32-bit.
const MAX_CAPACITY: usize = if usize::BITS > 32 { 1 << 32 } else { 1 << 27 };

/// What kind of element a byte of a record is.
pub const SHAPE: Shape = Shape {
    kind: KIND_BYTES,
    element_bytes: 1,
    element_align: 1,
    min_capacity: MIN_CAPACITY,
    max_capacity: MAX_CAPACITY,
};

/// The bytes that a record of `len` bytes takes, frame included.
#[inline(always)]
pub(super) const fn framed(len: usize) -> usize {
    (FRAME + len).next_multiple_of(FRAME)
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "no record or padding is longer than 4 GiB")]
pub(super) const fn frame(kind: u32, len: usize) -> u64 {
    (kind as u64) << 32 | (len as u32) as u64
}

/// The data of a ring as bytes, and what keeps it alive.
pub(super) struct Data<L: Trust> {
    pub(super) bytes: Payload,
    mask: u64,
    _region: Region<L>,
}

impl<L: Trust> Data<L> {
    /// # Safety
    /// As [`PushEnd::attach`].
    unsafe fn new(region: &Region<L>, parts: &Parts) -> Self {
        Self {
            // SAFETY: data, which holds no control words; kept with the region.
            bytes: unsafe { region.payload(parts.data_offset, parts.capacity) },
            mask: parts.capacity as u64 - 1,
            // SAFETY: the handles of one ring follow one protocol, by the caller's promise.
            _region: unsafe { region.alias() },
        }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the mask is below the capacity, a usize")]
    pub(super) fn offset(&self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// Bytes from `position` to the end of the data; a multiple of [`FRAME`], at least [`FRAME`].
    #[inline(always)]
    fn before_wrap(&self, position: u64) -> usize {
        self.bytes.len() - self.offset(position)
    }

    fn max_record(&self) -> u32 {
        u32::try_from(self.bytes.len() / 2 - FRAME).unwrap_or(u32::MAX)
    }

    /// # Safety
    /// The eight bytes at `position` are the caller's to write.
    #[inline(always)]
    pub(super) unsafe fn write_frame(&self, position: u64, frame: u64) {
        // SAFETY: positions are multiples of eight, so the frame does not cross the end; the caller's promise.
        unsafe { self.bytes.store(self.offset(position), &frame) };
    }
}

/// Where the next record goes: its position, behind padding or not.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Bytes of padding before it; the padding frame is already written.
    pub(super) padding: usize,
    /// Where its frame lies.
    pub(super) position: u64,
}

/// The producing end, without a role.
pub struct PushEnd<L: Trust> {
    pub(super) cursor: TailCursor,
    pub(super) data: Data<L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<L: Trust> PushEnd<L> {
    /// Starts from the published tail.
    ///
    /// # Safety
    /// - `parts` lie in `region`, apart from each other, the words 8-byte aligned, the data 128-byte aligned; the
    ///   capacity is a power of two from 64 to 4 GiB;
    /// - they are accessed only through the ends of one ring of records, of which at most one `PushEnd` and one
    ///   `PopEnd` are used at a time in all processes that follow the protocol;
    /// - everything that a former `PushEnd` did happened before this call.
    pub unsafe fn attach(region: &Region<L>, parts: &Parts) -> Result<Self, Corrupt> {
        // SAFETY: the caller's promise; the data keeps the region.
        let cursor = TailCursor::attach(unsafe { Positions::new(region, parts, FRAME as u64) })?;
        // SAFETY: the caller's promise.
        let data = unsafe { Data::new(region, parts) };
        Ok(Self { cursor, data, not_sync: PhantomData })
    }

    /// See [`Producer::push`](super::Producer::push).
    #[inline(always)]
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordPushError> {
        let start = self.cursor.position();
        let place = self.place(record.len(), 0)?;
        // SAFETY: `place` says that frame and payload are free.
        unsafe { self.fill(place, record) };
        self.cursor.publish(start, (place.padding + framed(record.len())) as u64);
        Ok(())
    }

    /// See [`Producer::reserve`](super::Producer::reserve).
    pub fn reserve(&mut self, len: usize) -> Result<Reservation<'_, L>, RecordPushError> {
        let place = self.place(len, 0)?;
        Ok(Reservation::new(self, place, len))
    }

    /// See [`Producer::batch`](super::Producer::batch).
    pub fn batch(&mut self) -> Batch<'_, L> {
        Batch::new(self)
    }

    /// Finds room for a record of `len` bytes behind `ahead` bytes that are filled but not published.
    #[inline(always)]
    pub(super) fn place(&mut self, len: usize, ahead: usize) -> Result<Place, RecordPushError> {
        let max = self.data.max_record();
        if len > max as usize {
            return Err(RecordPushError::TooLong { max });
        }
        let start = self.cursor.position().wrapping_add(ahead as u64);
        let rest = self.data.before_wrap(start);
        let needed = framed(len);
        if needed <= rest {
            self.cursor.require((ahead + needed) as u64)?;
            return Ok(Place { padding: 0, position: start });
        }
        self.cursor.require((ahead + rest + needed) as u64)?;
        // SAFETY: `require` says that the rest of the data is free, and it has room for a frame.
        unsafe { self.data.write_frame(start, frame(KIND_PADDING, rest - FRAME)) };
        Ok(Place { padding: rest, position: start.wrapping_add(rest as u64) })
    }

    /// Writes frame and payload.
    ///
    /// # Safety
    /// `place` was made for a record of this length and nothing was placed there since.
    #[inline(always)]
    pub(super) unsafe fn fill(&self, place: Place, record: &[u8]) {
        // SAFETY: the place's frame is free.
        unsafe { self.data.write_frame(place.position, frame(KIND_MESSAGE, record.len())) };
        let offset = self.data.offset(place.position) + FRAME;
        // SAFETY: the place's payload is free and does not reach beyond the end of the data.
        unsafe { self.data.bytes.write_bytes(offset, record.as_ptr(), record.len()) };
    }

    /// Bytes of data, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.data.bytes.len()
    }

    /// The longest record that this ring takes.
    #[must_use]
    pub fn max_record(&self) -> usize {
        self.data.max_record() as usize
    }

    /// Bytes published and not yet released.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.cursor.len()).unwrap_or(usize::MAX)
    }

    /// Whether nothing is unreleased.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes were ever published.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// What made this end useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.cursor.corruption()
    }
}

/// A validated message at the head.
#[derive(Clone, Copy)]
pub(super) struct Message {
    /// Where its payload starts in the data.
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// The consuming end, without a role. Dropping it releases nothing.
pub struct PopEnd<L: Trust> {
    cursor: HeadCursor,
    pub(super) data: Data<L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<L: Trust> PopEnd<L> {
    /// Starts from the published head.
    ///
    /// # Safety
    /// As [`PushEnd::attach`], for a former `PopEnd`.
    pub unsafe fn attach(region: &Region<L>, parts: &Parts) -> Result<Self, Corrupt> {
        // SAFETY: the caller's promise; the data keeps the region.
        let positions = unsafe { Positions::new(region, parts, FRAME as u64) };
        let cursor = HeadCursor::attach(positions, u64::MAX)?;
        // SAFETY: the caller's promise.
        let data = unsafe { Data::new(region, parts) };
        Ok(Self { cursor, data, not_sync: PhantomData })
    }

    /// See [`Consumer::pop_into`](super::Consumer::pop_into).
    #[inline(always)]
    pub fn pop_into(&mut self, to: &mut [u8]) -> Result<usize, RecordPopError> {
        let message = self.message()?;
        let Some(to) = to.get_mut(..message.len) else {
            return Err(too_small(message.len));
        };
        // SAFETY: R2: the message lies within the published window and the data.
        unsafe { self.data.bytes.read_bytes(message.offset, to.as_mut_ptr(), message.len) };
        self.consume(message);
        Ok(message.len)
    }

    /// See [`Consumer::pop`](super::Consumer::pop).
    pub fn pop(&mut self) -> Result<Record<'_, L>, RecordPopError> {
        let message = self.message()?;
        Ok(Record::new(self, message))
    }

    /// See [`Consumer::peek_len`](super::Consumer::peek_len).
    pub fn peek_len(&mut self) -> Result<usize, RecordPopError> {
        Ok(self.message()?.len)
    }

    /// The message at the head, validated (R2), behind at most one padding (R3).
    #[inline(always)]
    fn message(&mut self) -> Result<Message, RecordPopError> {
        self.cursor.require_up_to(1)?;
        let frame = self.load_frame();
        if frame >> 32 == u64::from(KIND_MESSAGE) { self.validate(frame) } else { self.behind_padding(frame) }
    }

    /// I3: the frame at the head, loaded once.
    #[inline(always)]
    fn load_frame(&self) -> u64 {
        // SAFETY: something is published at the head, so by the grain at least a frame is; it is aligned.
        unsafe { self.data.bytes.load::<u64>(self.data.offset(self.cursor.position())) }
    }

    #[inline(always)]
    fn validate(&mut self, frame: u64) -> Result<Message, RecordPopError> {
        let position = self.cursor.position();
        let len = frame & u64::from(u32::MAX);
        let window = self.cursor.window().min(self.data.before_wrap(position) as u64);
        // The window is a multiple of a frame, so what fits unrounded fits rounded up.
        if frame >> 32 != u64::from(KIND_MESSAGE) || len + FRAME as u64 > window {
            return Err(self.corrupt(frame));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below the window, which is below the data's length"
        )]
        Ok(Message { offset: self.data.offset(position) + FRAME, len: len as usize })
    }

    #[cold]
    fn behind_padding(&mut self, frame: u64) -> Result<Message, RecordPopError> {
        let position = self.cursor.position();
        let rest = self.data.before_wrap(position);
        let is_padding = frame == self::frame(KIND_PADDING, rest - FRAME);
        if !is_padding || self.data.offset(position) == 0 || rest as u64 >= self.cursor.window() {
            return Err(self.corrupt(frame));
        }
        self.cursor.advance(rest as u64);
        let frame = self.load_frame();
        self.validate(frame)
    }

    #[cold]
    fn corrupt(&mut self, frame: u64) -> RecordPopError {
        RecordPopError::Corrupt(self.cursor.latch(CorruptWord::Record, frame))
    }

    /// Touches and consumes the message at the head.
    #[inline(always)]
    pub(super) fn consume(&mut self, message: Message) {
        let size = framed(message.len);
        if self.cursor.touches() {
            let offset = message.offset - FRAME;
            // SAFETY: I2 of `cursor`: the record is ours until the head is stored, and nothing borrows it.
            unsafe { touch_lines::<true>(&self.data.bytes, offset, size) };
        }
        self.cursor.advance(size as u64);
    }

    /// Releases everything consumed to the producer now.
    pub fn release(&mut self) {
        self.cursor.store_head();
    }

    /// Changes how this end waits, touches and releases.
    pub fn tune(&mut self, tuning: Tuning) {
        self.cursor.tune(tuning);
    }

    /// Bytes of data, frames and padding included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.data.bytes.len()
    }

    /// Bytes published and not yet consumed.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.cursor.len()).unwrap_or(usize::MAX)
    }

    /// Whether a pop would find nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes were ever consumed.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// What made this end useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.cursor.corruption()
    }
}

impl<L: Trust> HasHead for PopEnd<L> {
    #[inline(always)]
    fn head(&self) -> &HeadCursor {
        &self.cursor
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut HeadCursor {
        &mut self.cursor
    }
}

#[cold]
fn too_small(len: usize) -> RecordPopError {
    RecordPopError::BufferTooSmall { needed: u32::try_from(len).unwrap_or(u32::MAX) }
}

impl<L: Trust> fmt::Debug for PushEnd<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushEnd").field("position", &self.cursor.position()).finish_non_exhaustive()
    }
}

impl<L: Trust> fmt::Debug for PopEnd<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PopEnd").field("position", &self.cursor.position()).finish_non_exhaustive()
    }
}
