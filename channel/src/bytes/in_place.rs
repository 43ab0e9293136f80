//! Messages of bytes, written and read where they lie.

use std::fmt;

use tidewire_ring::TooMany;
use tidewire_shm::ForkMark;

use crate::byte_queue::{HeldBytes, LentBytes};
use crate::error::SendError;
use crate::send::Publication;

/// A place for a message of bytes: [`commit`](Self::commit) sends what was written there, dropping it sends nothing.
///
/// It lies where the receiver will read it, and may be written in pieces, so that a large message is written once, whether or not
/// peers are [trusted](crate::Options::trusted). In a channel of [one order](crate::Kind::Ordered) it lies elsewhere, and is copied
/// when it is sent.
///
/// # Guarantees
/// Nobody sees anything before the commit, whatever happens to this process. Bytes that are never written are those of older
/// messages, or zeros.
pub struct BytesReservation<'s> {
    held: HeldBytes<'s>,
    publication: Publication<'s>,
}

impl<'s> BytesReservation<'s> {
    pub(super) fn new(held: HeldBytes<'s>, publication: Publication<'s>) -> Self {
        Self { held, publication }
    }

    /// Bytes that there is room for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is room for an empty message only.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes bytes from byte `first` on.
    ///
    /// # Errors
    /// [`TooMany`] if they reach beyond the place; then nothing is written.
    pub fn set(&mut self, first: usize, bytes: &[u8]) -> Result<(), TooMany> {
        if self.publication.is_ours() { self.held.set(first, bytes) } else { Ok(()) }
    }

    /// The place itself. `None` if others can write there, and are not [trusted](crate::Options::trusted) not to; and in a fork
    /// child of the process that reserved it.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        if self.publication.is_ours() { self.held.as_mut_slice() } else { None }
    }

    /// Sends the first `len` bytes as a message.
    ///
    /// # Errors
    /// [`SendError::TooLong`] if there is not as much room, [`SendError::ForkedChild`] in a fork child of the process that reserved
    /// the place, [`SendError::Corrupt`] if a peer published what cannot be; then nothing is sent. A receiver that has gone
    /// meanwhile is no error: the message waits for the next one.
    pub fn commit(self, len: usize) -> Result<(), SendError<()>> {
        let Self { held, publication } = self;
        publication.publish(|| held.commit(len))
    }
}

impl fmt::Debug for BytesReservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesReservation").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A message of bytes, where it lies. **It is received when this is dropped**, also by an early return or a panic.
///
/// It may be copied out in pieces, each used before the next: then a large message is read once, whether or not peers are trusted.
/// Where they [are](crate::Options::trusted), it is lent.
///
/// # Guarantees
/// No sender writes there before it is received. If this process is killed before, the next receiver has it again. Senders that wait
/// for room are told by the next call of the receiver.
pub struct BytesChunk<'r> {
    lent: LentBytes<'r>,
    mark: &'r ForkMark,
}

impl<'r> BytesChunk<'r> {
    pub(super) fn new(lent: LentBytes<'r>, mark: &'r ForkMark) -> Self {
        Self { lent, mark }
    }

    /// Bytes of the message. That is looked up once: no sender can change it any more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lent.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out, from byte `first` on.
    ///
    /// # Errors
    /// [`TooMany`] if they reach beyond the message; then nothing is copied.
    pub fn get(&self, first: usize, to: &mut [u8]) -> Result<(), TooMany> {
        self.lent.get(first, to)
    }

    /// The bytes themselves. `None` if others can write there, and are not [trusted](crate::Options::trusted) not to.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.lent.as_slice()
    }
}

impl Drop for BytesChunk<'_> {
    #[expect(clippy::mem_forget, reason = "in a fork child it is the parent's to consume")]
    fn drop(&mut self) {
        let lent = std::mem::replace(&mut self.lent, LentBytes::Nothing);
        if self.mark.is_forked_child() {
            std::mem::forget(lent);
        }
    }
}

impl fmt::Debug for BytesChunk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BytesChunk").field("len", &self.len()).finish_non_exhaustive()
    }
}
