//! What a message layer must offer to be compared.

use anyhow::bail;

use crate::message::place::{Link, Place};

/// In which cells a layer takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// In all.
    All,
    /// Only where messages flow: it has no names, no death, and nobody would set it up.
    Flow,
    /// Only where a sleeper is woken.
    Wake,
}

/// A message layer: messages of `W` words from one process to another, in order, none lost.
pub trait Layer: 'static {
    /// Its name in tables.
    const NAME: &'static str;
    /// Whether its receiver sleeps while there is nothing; others look again and again.
    const SLEEPS: bool;
    /// Whether it starts threads. They share the core of their side, so that a side which waits for it is no sign
    /// that something else disturbed the sample.
    const THREADS: bool = false;
    /// In which cells it takes part.
    const PART: Part = Part::All;
    /// The longest message that it carries as it is set up by default.
    const MAX_BYTES: usize = 64 << 10;
    /// The sending end.
    type Tx<const W: usize>: MessageTx<W>;
    /// The receiving end.
    type Rx<const W: usize>: MessageRx<W>;

    /// Makes the sending end, in its process.
    ///
    /// # Errors
    /// What the layer says.
    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Self::Tx<W>>;

    /// Makes the receiving end, in its process, at the same time. Whoever must come second waits for the first.
    ///
    /// # Errors
    /// What the layer says.
    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<Self::Rx<W>>;

    /// Removes what killed processes leave outside of the place's folder.
    fn clean(_: &Place) {}
}

/// Messages that a layer holds, where one can say: a megabyte of them, and no more than 1024.
#[must_use]
pub const fn capacity(words: usize) -> usize {
    let fit = (1 << 20) / (8 * words);
    if fit < 1024 { fit } else { 1024 }
}

/// The sending end.
pub trait MessageTx<const W: usize> {
    /// Whether messages are written where the receiver reads them.
    const IN_PLACE: bool = false;

    /// Sends a message; waits for room.
    ///
    /// # Errors
    /// What the layer says.
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()>;

    /// Sends a message that is written where the receiver reads it; only what is [in place](Self::IN_PLACE) can.
    ///
    /// # Errors
    /// What the layer says.
    fn send_in_place(&mut self, _: impl FnOnce(&mut [u64; W])) -> anyhow::Result<()> {
        bail!("expected a layer that hands out its memory, found one that copies")
    }
}

/// The receiving end.
pub trait MessageRx<const W: usize> {
    /// Receives a message and shows it: in `buffer`, where it is copied to, or where it lies. False if there is none
    /// yet; a layer that [sleeps](Layer::SLEEPS) sleeps before.
    ///
    /// # Errors
    /// What the layer says.
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool>;

    /// Whether the interface says, when asked, that the sender is gone. Others say so by an error, or never.
    ///
    /// # Errors
    /// What the layer says.
    fn is_sender_gone(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }
}

/// Requests and their replies.
pub trait Requests: 'static {
    /// Its name in tables.
    const NAME: &'static str;
    /// Whether it starts threads, as in [`Layer::THREADS`].
    const THREADS: bool = false;
    /// The asking end.
    type Client<const W: usize>: Client<W>;
    /// The answering end.
    type Server<const W: usize>: Server<W>;

    /// Makes the asking end, in its process.
    ///
    /// # Errors
    /// What the layer says.
    fn client<const W: usize>(link: &Link<'_>) -> anyhow::Result<Self::Client<W>>;

    /// Makes the answering end, in its process, at the same time.
    ///
    /// # Errors
    /// What the layer says.
    fn server<const W: usize>(link: &Link<'_>) -> anyhow::Result<Self::Server<W>>;

    /// Removes what killed processes leave outside of the place's folder.
    fn clean(_: &Place) {}
}

/// The asking end.
pub trait Client<const W: usize> {
    /// Asks, and waits for the reply.
    ///
    /// # Errors
    /// What the layer says.
    fn call(&mut self, request: &[u64; W], reply: &mut [u64; W]) -> anyhow::Result<()>;
}

/// The answering end.
pub trait Server<const W: usize> {
    /// Answers one request; false if there is none yet.
    ///
    /// # Errors
    /// What the layer says.
    fn serve(&mut self, answer: impl FnOnce(&[u64; W]) -> [u64; W]) -> anyhow::Result<bool>;
}
