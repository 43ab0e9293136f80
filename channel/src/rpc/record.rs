//! What a request and a reply look like in their queues.
//!
//! ```text
//! request    0  id u64        client's generation << 32 | count << 8 | slot
//!            8  to u32        the server's generation
//!           12  zero u32
//!           16  the question
//! reply      0  id u64        that of the request
//!            8  status u32    see `Status`
//!           12  zero u32
//!           16  the answer, if the status says that there is one
//! ```
//! Generations are those of the roster's entries, without their upper half.

use tidewire_shm::Untrusted;

use crate::message::Message;

/// Bytes before a question or an answer.
pub(crate) const HEAD_BYTES: usize = 16;
/// Calls that a client can have in flight.
pub(crate) const DEPTH_MAX: usize = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 8;

/// The lower half.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
pub(crate) const fn low(number: u64) -> u32 {
    number as u32
}

/// Which call of which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallNumber(pub(crate) u64);

impl CallNumber {
    /// The first call of a slot.
    pub(crate) fn first(client: u32, slot: u8) -> Self {
        Self(u64::from(client) << 32 | u64::from(slot))
    }

    /// The next call of the same slot.
    pub(crate) fn next(self) -> Self {
        let count = low(self.0).wrapping_add(1 << SLOT_BITS);
        Self(u64::from(self.client()) << 32 | u64::from(count))
    }

    pub(crate) fn client(self) -> u32 {
        low(self.0 >> 32)
    }

    pub(crate) fn slot(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The answer follows.
    Answered,
    /// The server dropped the request.
    Dropped,
    /// The answer was longer than one can be.
    TooLong,
}

impl Status {
    fn number(self) -> u32 {
        match self {
            Self::Answered => 1,
            Self::Dropped => 2,
            Self::TooLong => 3,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Answered, Self::Dropped, Self::TooLong].into_iter().find(|one| one.number() == number)
    }
}

/// The first bytes of a request or reply: whose, and a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) id: CallNumber,
    /// Of a request: to which server. Of a reply: its status.
    pub(crate) number: u32,
}

impl Head {
    pub(crate) fn request(id: CallNumber, to: u32) -> Self {
        Self { id, number: to }
    }

    pub(crate) fn reply(id: CallNumber, status: Status) -> Self {
        Self { id, number: status.number() }
    }

    #[inline]
    pub(crate) fn to_words(self) -> [u64; 2] {
        [self.id.0.to_le(), u64::from(self.number).to_le()]
    }

    #[inline]
    pub(crate) fn from_words([id, number]: [u64; 2]) -> Self {
        Self { id: CallNumber(u64::from_le(id)), number: low(u64::from_le(number)) }
    }
}

/// A record in place.
pub(crate) type Record<'r> = tidewire_ring::bytes::Record<'r, Untrusted>;

/// The head of a record, if it has one. What was written is copied once, and validated by whoever uses it.
#[inline]
pub(crate) fn head(record: &Record<'_>) -> Option<Head> {
    let mut words = [0_u64; 2];
    record.get(0, bytemuck::bytes_of_mut(&mut words)).ok()?;
    Some(Head::from_words(words))
}

/// A question or an answer.
pub(crate) trait Cargo: Sized {
    /// What stands behind the head of a record; `None` if that is none.
    fn read(record: &Record<'_>) -> Option<Self>;
}

impl<T: Message> Cargo for T {
    #[inline]
    fn read(record: &Record<'_>) -> Option<Self> {
        let mut value = T::zeroed();
        if record.len() != HEAD_BYTES + size_of::<T>() {
            return None;
        }
        record.get(HEAD_BYTES, bytemuck::bytes_of_mut(&mut value)).ok()?;
        Some(value)
    }
}

impl Cargo for Vec<u8> {
    fn read(record: &Record<'_>) -> Option<Self> {
        // The length of a record was validated, and bounds what is copied.
        let mut bytes = vec![0; record.len().checked_sub(HEAD_BYTES)?];
        record.get(HEAD_BYTES, &mut bytes).ok()?;
        Some(bytes)
    }
}

/// Writes a record in place, and publishes it.
#[inline]
pub(crate) fn write(
    mut place: tidewire_ring::bytes::Reservation<'_, Untrusted>,
    head: Head,
    cargo: &[u8],
) -> bool {
    let words = head.to_words();
    let fits = place.set(0, bytemuck::bytes_of(&words)).is_ok() && place.set(HEAD_BYTES, cargo).is_ok();
    let len = place.len();
    fits && place.commit(len).is_ok()
}

const _: () = assert!(DEPTH_MAX == 256);
