//! The receiving end of any queue of byte records.

use tidewire_mpsc::ordered;
use tidewire_ring::{TooMany, bytes as ring};
use tidewire_shm::{Region, SegmentLeases, Trust, Trusted, Untrusted};

use crate::error::{Corrupt, OpenError};
use crate::options::Kind;
use crate::queue::{Outlet, Popped, Shape, aside, trusting};

/// The receiving end of a queue of records.
#[derive(Debug)]
pub(crate) enum ByteSource {
    Guarded(Consumer<Untrusted>),
    /// Lends what lies in the queue.
    Trusting(Consumer<Trusted>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

#[derive(Debug)]
pub(crate) enum Consumer<L: Trust> {
    Lanes(tidewire_mpsc::bytes::Consumer<L>),
    Ordered(ordered::bytes::Consumer<L>),
    Single(ring::Consumer<L>),
}

impl<L: Trust> Consumer<L> {
    fn open(kind: Kind, region: Region<L>, leases: &SegmentLeases) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => Self::Lanes(tidewire_mpsc::bytes::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Ordered => Self::Ordered(ordered::bytes::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Single => Self::Single(ring::Ring::open(region, 0)?.consumer_with(leases)?),
        })
    }

    #[inline(always)]
    fn pop_into(&mut self, to: &mut [u8]) -> Popped<usize> {
        match self {
            Self::Lanes(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(error) => lanes_popped(error),
            },
            Self::Ordered(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(error) => ordered_popped(error),
            },
            Self::Single(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(error) => single_popped(error),
            },
        }
    }

    /// Into a buffer that is made as long as the message is.
    #[inline(always)]
    fn pop_to(&mut self, to: &mut Vec<u8>) -> Popped<usize> {
        // The length of a record was validated once, and bounds what is copied.
        match self {
            Self::Lanes(queue) => match queue.pop() {
                Ok(record) => got(to, record.len(), |to| record.get(0, to).is_ok()),
                Err(error) => lanes_popped(error),
            },
            Self::Ordered(queue) => match queue.pop() {
                Ok(record) => got(to, record.len(), |to| record.get(0, to).is_ok()),
                Err(error) => ordered_popped(error),
            },
            Self::Single(queue) => match queue.pop() {
                Ok(record) => got(to, record.len(), |to| record.get(0, to).is_ok()),
                Err(error) => single_popped(error),
            },
        }
    }

    /// Whether there is a record to be lent.
    fn look(&mut self) -> Popped<()> {
        let found = match self {
            Self::Lanes(queue) => queue.peek_len().map_err(lanes_popped),
            Self::Ordered(queue) => queue.peek_len().map_err(ordered_popped),
            Self::Single(queue) => queue.peek_len().map_err(single_popped),
        };
        match found {
            Ok(_) => Popped::Got(()),
            Err(nothing) => nothing,
        }
    }

    /// What a look found; nothing, if a sender spoilt it since.
    fn lend(&mut self) -> Option<Record<'_, L>> {
        match self {
            Self::Lanes(queue) => queue.pop().ok().map(Record::There),
            Self::Single(queue) => queue.pop().ok().map(Record::There),
            Self::Ordered(queue) => queue.pop().ok().map(Record::Ordered),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            // Also what cannot be makes them longer.
            Self::Lanes(queue) => !queue.is_empty(),
            Self::Ordered(queue) => !queue.is_empty(),
            Self::Single(queue) => !queue.is_empty() || queue.corruption().is_some(),
        }
    }

    fn queued(&self) -> Vec<(u32, usize)> {
        let depth =
            |lane: tidewire_mpsc::LaneStats| (lane.lane, usize::try_from(lane.depth).unwrap_or(usize::MAX));
        match self {
            Self::Lanes(queue) => queue.lanes().map(depth).collect(),
            Self::Ordered(queue) => queue.lanes().map(depth).collect(),
            Self::Single(queue) => vec![(0, queue.len())],
        }
    }

    fn release(&mut self) {
        match self {
            Self::Lanes(queue) => queue.release(),
            Self::Ordered(queue) => queue.release(),
            Self::Single(queue) => queue.release(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Lanes(queue) => queue.is_empty(),
            Self::Ordered(queue) => queue.is_empty(),
            Self::Single(queue) => queue.is_empty(),
        }
    }

    fn rescan(&mut self) {
        if let Self::Lanes(queue) = self {
            queue.rescan();
        }
    }

    fn reclaim(&mut self, leases: &SegmentLeases) {
        // What is refused now is tried again when the next one goes, and by whoever needs the lane.
        let _tried = match self {
            Self::Lanes(queue) => queue.reclaim(leases),
            Self::Ordered(queue) => queue.reclaim(leases),
            Self::Single(_) => Ok(0),
        };
    }

    fn take_corrupt(&mut self) -> Option<Corrupt> {
        match self {
            Self::Lanes(queue) => queue.take_corrupt().map(Corrupt::Sender),
            Self::Ordered(queue) => queue.take_corrupt().map(Corrupt::Sender),
            Self::Single(_) => None,
        }
    }
}

impl ByteSource {
    pub(crate) fn open(
        shape: Shape,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        Ok(if shape.trusted {
            Self::Trusting(Consumer::open(shape.kind, trusting(region), leases)?)
        } else {
            Self::Guarded(Consumer::open(shape.kind, region, leases)?)
        })
    }

    #[inline(always)]
    pub(crate) fn pop_into(&mut self, to: &mut [u8]) -> Popped<usize> {
        match self {
            Self::Guarded(queue) => queue.pop_into(to),
            Self::Trusting(queue) => aside(|| queue.pop_into(to)),
            Self::Abandoned => Popped::Empty,
        }
    }

    /// Into a buffer that is made as long as the message is.
    #[inline(always)]
    pub(crate) fn pop_to(&mut self, to: &mut Vec<u8>) -> Popped<usize> {
        match self {
            Self::Guarded(queue) => queue.pop_to(to),
            Self::Trusting(queue) => aside(|| queue.pop_to(to)),
            Self::Abandoned => Popped::Empty,
        }
    }

    /// Whether [`lend`](Self::lend) would have something.
    pub(crate) fn look(&mut self) -> Popped<()> {
        match self {
            Self::Guarded(queue) => queue.look(),
            Self::Trusting(queue) => queue.look(),
            Self::Abandoned => Popped::Empty,
        }
    }

    /// What a look found: it is consumed when it is dropped.
    pub(crate) fn lend(&mut self) -> LentBytes<'_> {
        let lent = match self {
            Self::Guarded(queue) => queue.lend().map(LentBytes::Guarded),
            Self::Trusting(queue) => queue.lend().map(LentBytes::Trusting),
            Self::Abandoned => None,
        };
        lent.unwrap_or(LentBytes::Nothing)
    }

    /// What each sender has sent and this end not yet received: its number, and how many bytes.
    pub(crate) fn queued(&self) -> Vec<(u32, usize)> {
        match self {
            Self::Guarded(queue) => queue.queued(),
            Self::Trusting(queue) => queue.queued(),
            Self::Abandoned => Vec::new(),
        }
    }
}

/// A record that is lent, and consumed when it is dropped.
pub(crate) enum LentBytes<'c> {
    Guarded(Record<'c, Untrusted>),
    Trusting(Record<'c, Trusted>),
    Nothing,
}

pub(crate) enum Record<'c, L: Trust> {
    There(ring::Record<'c, L>),
    Ordered(ordered::bytes::Record<'c, L>),
}

impl<L: Trust> Record<'_, L> {
    fn len(&self) -> usize {
        match self {
            Self::There(record) => record.len(),
            Self::Ordered(record) => record.len(),
        }
    }

    fn get(&self, first: usize, to: &mut [u8]) -> Result<(), TooMany> {
        match self {
            Self::There(record) => record.get(first, to),
            Self::Ordered(record) => record.get(first, to),
        }
    }
}

impl LentBytes<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Guarded(record) => record.len(),
            Self::Trusting(record) => record.len(),
            Self::Nothing => 0,
        }
    }

    pub(crate) fn get(&self, first: usize, to: &mut [u8]) -> Result<(), TooMany> {
        match self {
            Self::Guarded(record) => record.get(first, to),
            Self::Trusting(record) => record.get(first, to),
            Self::Nothing if first == 0 && to.is_empty() => Ok(()),
            Self::Nothing => Err(TooMany { available: 0, asked: first.saturating_add(to.len()) }),
        }
    }

    /// `None`: others may write there.
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Guarded(_) => None,
            Self::Trusting(Record::There(record)) => Some(record),
            Self::Trusting(Record::Ordered(record)) => Some(record),
            Self::Nothing => Some(&[]),
        }
    }
}

#[inline(always)]
fn got(to: &mut Vec<u8>, len: usize, copy: impl FnOnce(&mut [u8]) -> bool) -> Popped<usize> {
    to.resize(len, 0);
    if copy(to) { Popped::Got(len) } else { Popped::TooSmall(len) }
}

fn lanes_popped<R>(error: tidewire_mpsc::RecordPopError) -> Popped<R> {
    match error {
        tidewire_mpsc::RecordPopError::Empty => Popped::Empty,
        tidewire_mpsc::RecordPopError::BufferTooSmall { needed } => Popped::TooSmall(needed as usize),
    }
}

fn ordered_popped<R>(error: ordered::RecordPopError) -> Popped<R> {
    match error {
        ordered::RecordPopError::Empty => Popped::Empty,
        ordered::RecordPopError::BufferTooSmall { needed } => Popped::TooSmall(needed as usize),
        ordered::RecordPopError::Corrupt(corrupt) => Popped::Corrupt(Corrupt::Order(corrupt)),
    }
}

fn single_popped<R>(error: tidewire_ring::RecordPopError) -> Popped<R> {
    match error {
        tidewire_ring::RecordPopError::Empty => Popped::Empty,
        tidewire_ring::RecordPopError::BufferTooSmall { needed } => Popped::TooSmall(needed as usize),
        tidewire_ring::RecordPopError::Corrupt(corrupt) => Popped::Corrupt(Corrupt::Peer(corrupt)),
    }
}

impl Outlet for ByteSource {
    fn release(&mut self) {
        match self {
            Self::Guarded(queue) => queue.release(),
            Self::Trusting(queue) => queue.release(),
            Self::Abandoned => {}
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Guarded(queue) => queue.is_empty(),
            Self::Trusting(queue) => queue.is_empty(),
            Self::Abandoned => true,
        }
    }

    fn is_ready(&mut self) -> bool {
        match self {
            Self::Guarded(queue) => queue.is_ready(),
            Self::Trusting(queue) => queue.is_ready(),
            Self::Abandoned => true,
        }
    }

    fn rescan(&mut self) {
        match self {
            Self::Guarded(queue) => queue.rescan(),
            Self::Trusting(queue) => queue.rescan(),
            Self::Abandoned => {}
        }
    }

    fn reclaim(&mut self, leases: &SegmentLeases) {
        match self {
            Self::Guarded(queue) => queue.reclaim(leases),
            Self::Trusting(queue) => queue.reclaim(leases),
            Self::Abandoned => {}
        }
    }

    fn take_corrupt(&mut self) -> Option<Corrupt> {
        match self {
            Self::Guarded(queue) => queue.take_corrupt(),
            Self::Trusting(queue) => queue.take_corrupt(),
            Self::Abandoned => None,
        }
    }

    fn close(&mut self) {
        *self = Self::Abandoned;
    }

    #[expect(clippy::mem_forget, reason = "that nothing is given back is what is wanted")]
    fn abandon(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::Abandoned));
    }
}
