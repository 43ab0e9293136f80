//! What the consumer keeps about one lane: its end, and its tail to look at.

use tidewire_ring::Corrupt;
use tidewire_ring::embed::{Parts, Polled};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{Region, Trust};

/// The consuming end of one lane, of either kind.
pub(crate) trait LaneEnd<L: Trust>: Polled + Sized {
    /// Whether positions count messages; bytes otherwise.
    const COUNTS_MESSAGES: bool;

    /// Starts from the published head.
    ///
    /// # Safety
    /// As that of the ring's end.
    unsafe fn attach(region: &Region<L>, parts: &Parts) -> Result<Self, Corrupt>;

    fn tune(&mut self, tuning: tidewire_ring::Tuning);

    /// Published and not yet consumed, in elements; a fresh look.
    fn len(&self) -> usize;
}

/// What the consumer knows about a lane.
pub(crate) enum Seat<E> {
    Unseen,
    Open(E),
    Corrupt(Corrupt),
}

impl<E> Seat<E> {
    /// Its end, if it has one.
    pub(crate) fn open(&mut self) -> Option<&mut E> {
        match self {
            Self::Open(end) => Some(end),
            Self::Unseen | Self::Corrupt(_) => None,
        }
    }
}

/// A lane in use, as cheap to look at as can be.
pub(crate) struct Watch {
    pub(crate) tail: Shared<AtomicU64>,
    /// The consumer's position when the lane was last left.
    pub(crate) idle: u64,
    pub(crate) lane: usize,
}

impl Watch {
    /// Not zero if there is more.
    #[inline(always)]
    fn more(&self) -> u64 {
        // ORD advice: Relaxed, who finds more looks again through the lane's end, which acquires.
        self.tail.load(Ordering::Relaxed) ^ self.idle
    }
}

/// The first lane that has more; four at a time, since mostly none has.
#[inline(always)]
pub(crate) fn first_with_more(watches: &[Watch]) -> Option<usize> {
    let (fours, rest) = watches.as_chunks::<4>();
    for (i, four) in fours.iter().enumerate() {
        let [a, b, c, d] = four;
        if a.more() | b.more() | c.more() | d.more() != 0 {
            return four.iter().position(|watch| watch.more() != 0).map(|lane| 4 * i + lane);
        }
    }
    rest.iter().position(|watch| watch.more() != 0).map(|lane| 4 * fours.len() + lane)
}
