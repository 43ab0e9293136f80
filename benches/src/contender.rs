//! What a queue must offer to be compared.
//!
//! A contender is a type that makes pairs of ends. Messages are arrays of `W` words and pass by reference, so that
//! no contender pays for a copy that its own interface does not ask for.

use crate::pair::{EVERYWHERE, Mode};

/// A queue between one producer and one consumer.
pub trait Contender: 'static {
    /// Its name in tables.
    const NAME: &'static str;
    /// Whether several messages can be pushed or popped by one call.
    const BATCH: bool;
    /// Between what it can run.
    const MODES: &'static [Mode] = EVERYWHERE;
    /// Whether a message is there as soon as it is pushed. What shows them only by the block is a limit of streams.
    const PROMPT: bool = true;
    /// The producing end.
    type Tx<const W: usize>: Tx<W>;
    /// The consuming end.
    type Rx<const W: usize>: Rx<W>;

    /// Makes a queue for [`CAPACITY`] messages, and its ends.
    ///
    /// # Errors
    /// What the queue says.
    fn make<const W: usize>() -> anyhow::Result<(Self::Tx<W>, Self::Rx<W>)>;
}

/// Messages that a queue holds; those that waste a slot hold one fewer.
pub const CAPACITY: usize = 1024;
/// Messages of a batch.
pub const BATCH: usize = 32;

/// The producing end of a queue.
pub trait Tx<const W: usize>: Send {
    /// Pushes a message; false if there is no room.
    fn push(&mut self, message: &[u64; W]) -> bool;

    /// Pushes the first messages of a slice and says how many.
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        usize::from(messages.first().is_some_and(|message| self.push(message)))
    }
}

/// The consuming end of a queue.
pub trait Rx<const W: usize>: Send {
    /// Pops a message; false if there is none.
    fn pop(&mut self, to: &mut [u64; W]) -> bool;

    /// Pops up to as many messages as the slice holds and says how many.
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        usize::from(to.first_mut().is_some_and(|to| self.pop(to)))
    }

    /// Takes up to `most` messages, each copied into `to` and shown there, and says how many. Where an interface
    /// hands messages to a function, this is that; elsewhere it pops.
    #[inline(always)]
    fn take(&mut self, to: &mut [u64; W], most: usize, mut each: impl FnMut(&[u64; W])) -> usize {
        let mut taken = 0;
        while taken < most && self.pop(to) {
            each(to);
            taken += 1;
        }
        taken
    }
}

/// A queue of byte records between one producer and one consumer.
pub trait RecordContender: 'static {
    /// Its name in tables.
    const NAME: &'static str;
    /// The producing end.
    type Tx: RecordTx;
    /// The consuming end.
    type Rx: RecordRx;

    /// Makes a queue of [`RECORD_CAPACITY_BYTES`], and its ends.
    ///
    /// # Errors
    /// What the queue says.
    fn make() -> anyhow::Result<(Self::Tx, Self::Rx)>;
}

/// Bytes of a queue of records.
pub const RECORD_CAPACITY_BYTES: usize = 64 << 10;

/// The producing end of a queue of records.
pub trait RecordTx: Send {
    /// Pushes a record; false if there is no room.
    fn push(&mut self, record: &[u8]) -> bool;
}

/// The consuming end of a queue of records.
pub trait RecordRx: Send {
    /// Pops a record and says how long it is.
    fn pop(&mut self, to: &mut [u8]) -> Option<usize>;
}
