//! The data of a lane as records, framed as in [`tidewire_ring::bytes`].

use tidewire_ring::{Corrupt, CorruptWord};
use tidewire_shm::sync::Payload;

/// Bytes of a frame, and the grain of positions.
pub(super) const FRAME: usize = 8;
const KIND_MESSAGE: u32 = 1;
const KIND_PADDING: u32 = 2;

/// The bytes that a record of `len` bytes takes, frame included.
#[inline(always)]
pub(super) const fn framed(len: usize) -> usize {
    (FRAME + len).next_multiple_of(FRAME)
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "no record or padding is longer than 4 GiB")]
const fn frame(kind: u32, len: usize) -> u64 {
    (kind as u64) << 32 | (len as u32) as u64
}

/// The longest record that a lane of `capacity` bytes takes: with its padding it fits into an empty lane anywhere.
pub(super) const fn max_record(capacity: usize) -> usize {
    let half = capacity / 2 - FRAME;
    if half > u32::MAX as usize { u32::MAX as usize } else { half }
}

/// Where the next record goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Bytes of padding before it.
    padding: usize,
    /// Where its frame lies.
    position: u64,
    len: usize,
}

impl Place {
    /// All that it takes, padding and frame included.
    #[inline(always)]
    pub(super) fn bytes(&self) -> usize {
        self.padding + framed(self.len)
    }
}

/// A validated record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// Where its payload starts in the data.
    pub(super) offset: usize,
    pub(super) len: usize,
    /// All that it takes, padding and frame included.
    pub(super) bytes: usize,
}

/// How positions of a lane map to its bytes. The same for all lanes, so the data is named by each call.
///
/// Every call's `data` is that of a lane of `capacity` bytes, and every position a multiple of [`FRAME`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Records {
    mask: u64,
}

impl Records {
    /// For lanes of `capacity` bytes, a power of two from 64 on.
    pub(super) fn new(capacity: usize) -> Self {
        Self { mask: capacity as u64 - 1 }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the mask is below the capacity, a usize")]
    fn offset(self, position: u64) -> usize {
        (position & self.mask) as usize
    }

    /// Bytes from `position` to the end of the data; a multiple of [`FRAME`], at least [`FRAME`].
    #[inline(always)]
    fn before_wrap(self, data: &Payload, position: u64) -> usize {
        data.len() - self.offset(position)
    }

    /// Where a record of `len` bytes, at most [`max_record`], goes that follows `position`.
    #[inline(always)]
    pub(super) fn place(self, data: &Payload, position: u64, len: usize) -> Place {
        let rest = self.before_wrap(data, position);
        if framed(len) <= rest {
            Place { padding: 0, position, len }
        } else {
            Place { padding: rest, position: position.wrapping_add(rest as u64), len }
        }
    }

    /// Writes padding, frame and payload.
    ///
    /// # Safety
    /// The bytes of the place are the caller's to write; it was made for a record of this length in this lane.
    #[inline(always)]
    pub(super) unsafe fn fill(self, data: &Payload, place: Place, record: &[u8]) {
        if place.padding > 0 {
            let start = place.position.wrapping_sub(place.padding as u64);
            // SAFETY: the padding is free and has room for a frame.
            unsafe { data.store(self.offset(start), &frame(KIND_PADDING, place.padding - FRAME)) };
        }
        let offset = self.offset(place.position);
        // SAFETY: the frame is free, and does not cross the end: positions are multiples of eight.
        unsafe { data.store(offset, &frame(KIND_MESSAGE, record.len())) };
        // SAFETY: the payload is free and does not reach beyond the end of the data.
        unsafe { data.write_bytes(offset + FRAME, record.as_ptr(), record.len()) };
    }

    /// The record at `position`, validated against the data, behind at most one padding.
    ///
    /// # Safety
    /// The frame at `position`, and the record that an honest one announces, are the caller's to read.
    #[inline(always)]
    pub(super) unsafe fn message(self, data: &Payload, position: u64) -> Result<Message, Corrupt> {
        // SAFETY: in bounds and aligned, since positions are multiples of eight; the caller's promise.
        let found = unsafe { data.load::<u64>(self.offset(position)) };
        if found >> 32 == u64::from(KIND_MESSAGE) {
            return self.validate(data, position, found, 0);
        }
        let rest = self.before_wrap(data, position);
        if found != frame(KIND_PADDING, rest - FRAME) || rest == data.len() {
            return Err(Corrupt { what: CorruptWord::Record, found });
        }
        let behind = position.wrapping_add(rest as u64);
        // SAFETY: as above; behind an honest padding a record follows.
        let found = unsafe { data.load::<u64>(self.offset(behind)) };
        self.validate(data, behind, found, rest)
    }

    #[inline(always)]
    fn validate(self, data: &Payload, position: u64, found: u64, padding: usize) -> Result<Message, Corrupt> {
        let most = self.before_wrap(data, position) - padding.min(self.before_wrap(data, position));
        let len = found & u64::from(u32::MAX);
        // What there is is a multiple of a frame, so what fits unrounded fits rounded up.
        if found >> 32 != u64::from(KIND_MESSAGE) || len + FRAME as u64 > most as u64 {
            return Err(Corrupt { what: CorruptWord::Record, found });
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the length of the data")]
        let len = len as usize;
        Ok(Message { offset: self.offset(position) + FRAME, len, bytes: padding + framed(len) })
    }
}
