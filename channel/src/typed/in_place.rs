//! Messages written and read where they lie.

use std::fmt;

use tidewire_ring::TooMany;
use tidewire_shm::ForkMark;

use crate::error::SendError;
use crate::message::Message;
use crate::queue::{Held, Lent};
use crate::send::Publication;

/// A place for a message: [`commit`](Self::commit) sends what was written there, dropping it sends nothing.
///
/// It lies where the receiver will read it, so that a large message is written once. Where peers are
/// [trusted](crate::Options::trusted) it is lent, to be made there bit by bit; else a message is copied into it. In a channel of
/// [one order](crate::Kind::Ordered), and where the [oldest](crate::Overflow::DropOldest) are dropped, it lies elsewhere, since it is
/// not known before which place will be its own: it is always lent, and copied when it is sent.
///
/// # Guarantees
/// Nobody sees anything before the commit, whatever happens to this process. Until it is written, the place holds an older message,
/// or zeros: whoever commits it unwritten sends that.
pub struct Reservation<'s, T: Message> {
    held: Held<'s, T>,
    publication: Publication<'s>,
}

impl<'s, T: Message> Reservation<'s, T> {
    pub(super) fn new(held: Held<'s, T>, publication: Publication<'s>) -> Self {
        Self { held, publication }
    }

    /// Copies a message into the place.
    pub fn set(&mut self, value: &T) {
        if self.publication.is_ours() {
            self.held.set(value);
        }
    }

    /// The place itself. `None` if others can write there, and are not [trusted](crate::Options::trusted) not to; and in a fork
    /// child of the process that reserved it.
    #[must_use]
    pub fn as_mut(&mut self) -> Option<&mut T> {
        if self.publication.is_ours() { self.held.as_mut() } else { None }
    }

    /// Sends it.
    ///
    /// # Errors
    /// [`SendError::ForkedChild`] in a fork child of the process that reserved the place, [`SendError::Corrupt`] if a peer
    /// published what cannot be. A receiver that has gone meanwhile is no error: the message waits for the next one.
    pub fn commit(self) -> Result<(), SendError<()>> {
        let Self { held, publication } = self;
        publication.publish(|| held.commit())
    }
}

impl<T: Message> fmt::Debug for Reservation<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reservation(..)")
    }
}

/// Messages of one sender, where they lie: [`release`](Self::release) says that they are received, dropping it does not.
///
/// Where peers are [trusted](crate::Options::trusted) they are lent as slices, and nothing is copied; else they are copied out, as
/// many as are wanted at a time. In a channel of [one order](crate::Kind::Ordered) it is one message, copied: its neighbours lie
/// elsewhere. So it is where the [oldest](crate::Overflow::DropOldest) are dropped, since they may be overwritten at any time; and
/// there it is received when it is read.
///
/// # Guarantees
/// No sender writes these places before they are released. If this process is killed before, the next receiver has them again.
/// Senders that wait for room are told by the next call of the receiver.
pub struct Chunk<'r, T: Message> {
    lent: Lent<'r, T>,
    mark: &'r ForkMark,
}

impl<'r, T: Message> Chunk<'r, T> {
    pub(super) fn new(lent: Lent<'r, T>, mark: &'r ForkMark) -> Self {
        Self { lent, mark }
    }

    /// Messages that it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lent.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies messages out, from number `first` on.
    ///
    /// # Errors
    /// [`TooMany`] if they reach beyond those that there are; then nothing is copied.
    pub fn get(&self, first: usize, to: &mut [T]) -> Result<(), TooMany> {
        self.lent.get(first, to)
    }

    /// The messages themselves: those before the end of the queue and those that go on at its beginning. `None` if others
    /// can write there, and are not [trusted](crate::Options::trusted) not to.
    #[must_use]
    pub fn as_slices(&mut self) -> Option<(&[T], &[T])> {
        self.lent.as_slices()
    }

    /// The first `count` messages are received; the others are read again next time. In a fork child of the process that has the
    /// receiver nothing happens.
    ///
    /// # Errors
    /// [`TooMany`] if there are not as many; then none is.
    pub fn release(self, count: usize) -> Result<(), TooMany> {
        if self.mark.is_forked_child() { Ok(()) } else { self.lent.release(count) }
    }
}

impl<T: Message> fmt::Debug for Chunk<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("len", &self.len()).finish_non_exhaustive()
    }
}
