//! A sending end of any queue of byte records.

use tidewire_mpsc::ordered;
use tidewire_ring::{TooMany, bytes as ring};
use tidewire_shm::bell::Roster;
use tidewire_shm::{Region, SegmentLeases, Trust, Trusted, Untrusted};

use super::Place;
use crate::error::{Corrupt, OpenError};
use crate::options::Kind;
use crate::queue::{Inlet, Pushed, Shape, aside, trusting};

/// A sending end of a queue of records.
#[derive(Debug)]
pub(crate) enum ByteSink {
    Guarded(Producer<Untrusted>),
    /// Lends what lies in the queue.
    Trusting(Producer<Trusted>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

#[derive(Debug)]
pub(crate) enum Producer<L: Trust> {
    Lanes(tidewire_mpsc::bytes::Producer<L>, tidewire_mpsc::bytes::Queue<L>),
    Ordered(ordered::bytes::Producer<L>, ordered::bytes::Queue<L>),
    Single(ring::Producer<L>),
}

impl<L: Trust> Producer<L> {
    fn open(kind: Kind, region: Region<L>, leases: &SegmentLeases) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => {
                let queue = tidewire_mpsc::bytes::Queue::open(region, 0)?;
                Self::Lanes(queue.producer(leases)?, queue)
            }
            Kind::Ordered => {
                let queue = ordered::bytes::Queue::open(region, 0)?;
                Self::Ordered(queue.producer(leases)?, queue)
            }
            Kind::Single => Self::Single(ring::Ring::open(region, 0)?.producer_with(leases)?),
        })
    }

    #[inline(always)]
    fn push(&mut self, record: &[u8]) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.push(record)),
            Self::Ordered(queue, _) => ordered_pushed(queue.push(record)),
            Self::Single(queue) => pushed(queue.push(record)),
        }
    }

    /// Whether a place of that length could be had.
    fn look(&mut self, len: usize) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.reserve(len).map(drop)),
            Self::Single(queue) => pushed(queue.reserve(len).map(drop)),
            Self::Ordered(queue, _) if len > queue.max_record() => Pushed::TooLong(queue.max_record()),
            Self::Ordered(queue, _) => match queue.corruption() {
                Some(corrupt) => Pushed::Corrupt(Corrupt::Order(corrupt)),
                // With its frame, and as much again where it would lie across the end.
                None if queue.free() < most_taken(len).min(queue.capacity()) => Pushed::Full,
                None => Pushed::Done,
            },
        }
    }

    fn hold(&mut self, len: usize) -> Result<BytePlace<'_, L>, Pushed> {
        match self {
            Self::Lanes(queue, _) => queue.reserve(len).map(BytePlace::There).map_err(failed),
            Self::Single(queue) => queue.reserve(len).map(BytePlace::There).map_err(failed),
            Self::Ordered(queue, _) => Ok(BytePlace::Aside(vec![0; len], queue)),
        }
    }

    fn max(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.max_record(),
            Self::Ordered(queue, _) => queue.max_record(),
            Self::Single(queue) => queue.max_record(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.len(),
            Self::Ordered(queue, _) => queue.len(),
            Self::Single(queue) => queue.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.capacity(),
            Self::Ordered(queue, _) => queue.capacity(),
            Self::Single(queue) => queue.capacity(),
        }
    }

    fn queued(&self) -> Vec<(u32, usize)> {
        let depth =
            |lane: tidewire_mpsc::LaneStats| (lane.lane, usize::try_from(lane.depth).unwrap_or(usize::MAX));
        match self {
            Self::Lanes(_, queue) => queue.lanes().map(depth).collect(),
            Self::Ordered(_, queue) => queue.lanes().map(depth).collect(),
            Self::Single(queue) => vec![(0, queue.len())],
        }
    }

    fn is_all_received(&self) -> bool {
        match self {
            Self::Lanes(_, queue) => queue.lanes().all(|lane| lane.depth == 0),
            Self::Ordered(_, queue) => queue.lanes().all(|lane| lane.depth == 0),
            Self::Single(queue) => queue.is_empty(),
        }
    }

    fn lane(&self) -> u32 {
        match self {
            Self::Lanes(queue, _) => queue.lane(),
            Self::Ordered(queue, _) => queue.lane(),
            Self::Single(_) => 0,
        }
    }
}

/// Bytes that a record may take at the most, in a place that suits it worst.
fn most_taken(len: usize) -> usize {
    const FRAME: usize = 8;
    let framed = len.saturating_add(2 * FRAME - 1) / FRAME * FRAME;
    framed.saturating_mul(2)
}

impl ByteSink {
    pub(crate) fn open(
        shape: Shape,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        Ok(if shape.trusted {
            Self::Trusting(Producer::open(shape.kind, trusting(region), leases)?)
        } else {
            Self::Guarded(Producer::open(shape.kind, region, leases)?)
        })
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, record: &[u8]) -> Pushed {
        match self {
            Self::Guarded(queue) => queue.push(record),
            Self::Trusting(queue) => aside(|| queue.push(record)),
            Self::Abandoned => Pushed::Full,
        }
    }

    /// Lets `fill` write a message of up to `len` bytes where it will be read; it says how many it is. Where there is one
    /// order over all senders, it writes elsewhere first.
    pub(crate) fn push_with(&mut self, len: usize, fill: &mut dyn FnMut(&mut dyn Place) -> usize) -> Pushed {
        if len > self.max() {
            return Pushed::TooLong(self.max());
        }
        match self.hold(len) {
            Ok(mut place) => {
                let used = fill(&mut place).min(len);
                place.commit(used)
            }
            Err(refused) => refused,
        }
    }

    /// Whether [`hold`](Self::hold) would have a place of that length.
    pub(crate) fn look(&mut self, len: usize) -> Pushed {
        match self {
            Self::Guarded(queue) => queue.look(len),
            Self::Trusting(queue) => queue.look(len),
            Self::Abandoned => Pushed::Full,
        }
    }

    /// A place for a message, to be written and committed.
    pub(crate) fn hold(&mut self, len: usize) -> Result<HeldBytes<'_>, Pushed> {
        match self {
            Self::Guarded(queue) => queue.hold(len).map(HeldBytes::Guarded),
            Self::Trusting(queue) => queue.hold(len).map(HeldBytes::Trusting),
            Self::Abandoned => Err(Pushed::Full),
        }
    }

    /// The longest message.
    pub(crate) fn max(&self) -> usize {
        match self {
            Self::Guarded(queue) => queue.max(),
            Self::Trusting(queue) => queue.max(),
            Self::Abandoned => 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Guarded(queue) => queue.len(),
            Self::Trusting(queue) => queue.len(),
            Self::Abandoned => 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Guarded(queue) => queue.capacity(),
            Self::Trusting(queue) => queue.capacity(),
            Self::Abandoned => 0,
        }
    }

    /// What takes room, of each sender: its number, and how many bytes.
    pub(crate) fn queued(&self) -> Vec<(u32, usize)> {
        match self {
            Self::Guarded(queue) => queue.queued(),
            Self::Trusting(queue) => queue.queued(),
            Self::Abandoned => Vec::new(),
        }
    }
}

/// A place that a message is written to.
pub(crate) enum HeldBytes<'p> {
    Guarded(BytePlace<'p, Untrusted>),
    Trusting(BytePlace<'p, Trusted>),
}

pub(crate) enum BytePlace<'p, L: Trust> {
    There(ring::Reservation<'p, L>),
    /// Elsewhere, to be copied to where the order of all has it.
    Aside(Vec<u8>, &'p mut ordered::bytes::Producer<L>),
}

fn set(place: &mut [u8], first: usize, bytes: &[u8]) -> Result<(), TooMany> {
    let (available, asked) = (place.len(), first.saturating_add(bytes.len()));
    let room = place.get_mut(first..asked).ok_or(TooMany { available, asked })?;
    room.copy_from_slice(bytes);
    Ok(())
}

impl<L: Trust> BytePlace<'_, L> {
    fn len(&self) -> usize {
        match self {
            Self::There(place) => place.len(),
            Self::Aside(place, _) => place.len(),
        }
    }

    fn set(&mut self, first: usize, bytes: &[u8]) -> Result<(), TooMany> {
        match self {
            Self::There(place) => place.set(first, bytes),
            Self::Aside(place, _) => set(place, first, bytes),
        }
    }

    fn commit(self, len: usize) -> Pushed {
        match self {
            Self::There(place) => match place.commit(len) {
                Ok(()) => Pushed::Done,
                Err(TooMany { available, .. }) => Pushed::TooLong(available),
            },
            Self::Aside(place, queue) => match place.get(..len) {
                Some(record) => ordered_pushed(queue.push(record)),
                None => Pushed::TooLong(place.len()),
            },
        }
    }
}

impl HeldBytes<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Guarded(place) => place.len(),
            Self::Trusting(place) => place.len(),
        }
    }

    pub(crate) fn set(&mut self, first: usize, bytes: &[u8]) -> Result<(), TooMany> {
        match self {
            Self::Guarded(place) => place.set(first, bytes),
            Self::Trusting(place) => place.set(first, bytes),
        }
    }

    /// `None`: others may write there.
    pub(crate) fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Guarded(BytePlace::There(_)) => None,
            Self::Trusting(BytePlace::There(place)) => Some(place.as_mut_slice()),
            Self::Guarded(BytePlace::Aside(place, _)) | Self::Trusting(BytePlace::Aside(place, _)) => {
                Some(place)
            }
        }
    }

    pub(crate) fn commit(self, len: usize) -> Pushed {
        match self {
            Self::Guarded(place) => place.commit(len),
            Self::Trusting(place) => place.commit(len),
        }
    }
}

impl Place for HeldBytes<'_> {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> bool {
        self.set(offset, bytes).is_ok()
    }
}

impl Inlet for ByteSink {
    fn is_all_received(&self, _: &Roster<Untrusted>) -> bool {
        match self {
            Self::Guarded(queue) => queue.is_all_received(),
            Self::Trusting(queue) => queue.is_all_received(),
            Self::Abandoned => false,
        }
    }

    fn lane(&self) -> u32 {
        match self {
            Self::Guarded(queue) => queue.lane(),
            Self::Trusting(queue) => queue.lane(),
            Self::Abandoned => 0,
        }
    }

    #[expect(clippy::mem_forget, reason = "that nothing is given back is what is wanted")]
    fn abandon(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::Abandoned));
    }
}

fn failed(error: tidewire_ring::RecordPushError) -> Pushed {
    match error {
        tidewire_ring::RecordPushError::Full => Pushed::Full,
        tidewire_ring::RecordPushError::TooLong { max } => Pushed::TooLong(max as usize),
        tidewire_ring::RecordPushError::Corrupt(corrupt) => Pushed::Corrupt(Corrupt::Peer(corrupt)),
    }
}

#[inline(always)]
fn pushed(result: Result<(), tidewire_ring::RecordPushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        Err(error) => failed(error),
    }
}

#[inline(always)]
fn ordered_pushed(result: Result<(), ordered::RecordPushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        Err(ordered::RecordPushError::Full) => Pushed::Full,
        Err(ordered::RecordPushError::TooLong { max }) => Pushed::TooLong(max as usize),
        Err(ordered::RecordPushError::Corrupt(corrupt)) => Pushed::Corrupt(Corrupt::Order(corrupt)),
    }
}
