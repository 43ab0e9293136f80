//! A sending end of any queue of messages.

use tidewire_mpsc::ordered;
use tidewire_ring::fixed as ring;
use tidewire_shm::bell::Roster;
use tidewire_shm::{Region, SegmentLeases, Trust, Trusted, Untrusted};

use super::lossy::LossySink;
use super::{Inlet, Pushed, Shape, aside, trusting};
use crate::error::{Corrupt, OpenError};
use crate::message::Message;
use crate::options::{Kind, Overflow};

/// A sending end of a queue of `T`.
#[derive(Debug)]
pub(crate) enum Sink<T: Message> {
    Guarded(Producer<T, Untrusted>),
    /// Lends what lies in the queue.
    Trusting(Producer<T, Trusted>),
    /// Overwrites the oldest.
    Lossy(LossySink<T>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

/// One that overwrites nothing that was not received.
#[derive(Debug)]
pub(crate) enum Producer<T: Message, L: Trust> {
    Lanes(tidewire_mpsc::fixed::Producer<T, L>, tidewire_mpsc::fixed::Queue<T, L>),
    Ordered(ordered::fixed::Producer<T, L>, ordered::fixed::Queue<T, L>),
    Single(ring::Producer<T, L>),
}

#[inline(always)]
fn failed(error: tidewire_ring::PushError) -> Pushed {
    match error {
        tidewire_ring::PushError::Full => Pushed::Full,
        tidewire_ring::PushError::Corrupt(corrupt) => Pushed::Corrupt(Corrupt::Peer(corrupt)),
    }
}

#[inline(always)]
fn pushed(result: Result<(), tidewire_ring::PushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        Err(error) => failed(error),
    }
}

#[inline(always)]
fn ordered_pushed(result: Result<(), ordered::PushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        // Batches are cut to what can fit.
        Err(ordered::PushError::Full | ordered::PushError::TooMany { .. }) => Pushed::Full,
        Err(ordered::PushError::Corrupt(corrupt)) => Pushed::Corrupt(Corrupt::Order(corrupt)),
    }
}

impl<T: Message, L: Trust> Producer<T, L> {
    fn open(kind: Kind, region: Region<L>, leases: &SegmentLeases) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => {
                let queue = tidewire_mpsc::fixed::Queue::open(region, 0)?;
                Self::Lanes(queue.producer(leases)?, queue)
            }
            Kind::Ordered => {
                let queue = ordered::fixed::Queue::open(region, 0)?;
                Self::Ordered(queue.producer(leases)?, queue)
            }
            Kind::Single => Self::Single(ring::Ring::open(region, 0)?.producer_with(leases)?),
        })
    }

    #[inline(always)]
    fn push(&mut self, value: &T) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.push_from(value)),
            Self::Ordered(queue, _) => ordered_pushed(queue.push_from(value)),
            Self::Single(queue) => pushed(queue.push_from(value)),
        }
    }

    #[inline(always)]
    fn push_slice(&mut self, values: &[T]) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.push_slice(values)),
            Self::Ordered(queue, _) => ordered_pushed(queue.push_slice(values)),
            Self::Single(queue) => pushed(queue.push_slice(values)),
        }
    }

    /// Whether a place could be had.
    fn look(&mut self) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.reserve(1).map(drop)),
            Self::Single(queue) => pushed(queue.reserve(1).map(drop)),
            Self::Ordered(queue, _) => match queue.corruption() {
                Some(corrupt) => Pushed::Corrupt(Corrupt::Order(corrupt)),
                None if queue.is_full() => Pushed::Full,
                None => Pushed::Done,
            },
        }
    }

    fn hold(&mut self) -> Result<Place<'_, T, L>, Pushed> {
        match self {
            Self::Lanes(queue, _) => queue.reserve(1).map(Place::There).map_err(failed),
            Self::Single(queue) => queue.reserve(1).map(Place::There).map_err(failed),
            Self::Ordered(queue, _) => Ok(Place::Aside(Box::new(T::zeroed()), queue)),
        }
    }

    fn most(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.capacity(),
            Self::Ordered(queue, _) => queue.max_batch(),
            Self::Single(queue) => queue.capacity(),
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

impl<T: Message> Sink<T> {
    pub(crate) fn open(
        shape: Shape,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        Ok(match shape {
            Shape { overflow: Overflow::DropOldest, kind: Kind::Lanes, senders, .. } => {
                Self::Lossy(LossySink::open_lane(region, senders, leases)?)
            }
            Shape { overflow: Overflow::DropOldest, .. } => {
                Self::Lossy(LossySink::open(shape.kind, region, leases)?)
            }
            Shape { trusted: true, .. } => {
                Self::Trusting(Producer::open(shape.kind, trusting(region), leases)?)
            }
            _ => Self::Guarded(Producer::open(shape.kind, region, leases)?),
        })
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, value: &T) -> Pushed {
        match self {
            Self::Guarded(queue) => queue.push(value),
            Self::Trusting(queue) => aside(|| queue.push(value)),
            Self::Lossy(queue) => aside(|| queue.push(value)),
            Self::Abandoned => Pushed::Full,
        }
    }

    /// The hot path of [`push`](Self::push): whether that was all. If not, nothing is changed.
    #[inline(always)]
    pub(crate) fn pushes(&mut self, value: &T) -> bool {
        let end = match self {
            Self::Guarded(Producer::Lanes(queue, _)) => queue.as_end(),
            Self::Guarded(Producer::Single(queue)) => queue.as_end(),
            _ => return aside(|| matches!(self.push(value), Pushed::Done)),
        };
        end.push_from(value).is_ok()
    }

    #[inline(always)]
    pub(crate) fn push_slice(&mut self, values: &[T]) -> Pushed {
        match self {
            Self::Guarded(queue) => queue.push_slice(values),
            Self::Trusting(queue) => aside(|| queue.push_slice(values)),
            Self::Lossy(queue) => aside(|| queue.push_slice(values)),
            Self::Abandoned => Pushed::Full,
        }
    }

    /// Whether [`hold`](Self::hold) would have a place.
    pub(crate) fn look(&mut self) -> Pushed {
        match self {
            Self::Guarded(queue) => queue.look(),
            Self::Trusting(queue) => queue.look(),
            Self::Lossy(queue) => queue.look(),
            Self::Abandoned => Pushed::Full,
        }
    }

    /// A place for a message, to be written and committed.
    pub(crate) fn hold(&mut self) -> Result<Held<'_, T>, Pushed> {
        match self {
            Self::Guarded(queue) => queue.hold().map(Held::Guarded),
            Self::Trusting(queue) => queue.hold().map(Held::Trusting),
            Self::Lossy(queue) => Ok(Held::Lossy(Box::new(T::zeroed()), queue)),
            Self::Abandoned => Err(Pushed::Full),
        }
    }

    /// The most messages of one batch.
    pub(crate) fn most(&self) -> usize {
        match self {
            Self::Guarded(queue) => queue.most(),
            Self::Trusting(queue) => queue.most(),
            Self::Lossy(queue) => queue.capacity(),
            Self::Abandoned => 0,
        }
    }

    /// What takes room.
    pub(crate) fn len(&self, roster: &Roster<Untrusted>) -> usize {
        match self {
            Self::Guarded(queue) => queue.len(),
            Self::Trusting(queue) => queue.len(),
            Self::Lossy(queue) => queue.len(roster),
            Self::Abandoned => 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Guarded(queue) => queue.capacity(),
            Self::Trusting(queue) => queue.capacity(),
            Self::Lossy(queue) => queue.capacity(),
            Self::Abandoned => 0,
        }
    }

    /// What takes room, of each sender: its number, and how much.
    pub(crate) fn queued(&self, roster: &Roster<Untrusted>) -> Vec<(u32, usize)> {
        match self {
            Self::Guarded(queue) => queue.queued(),
            Self::Trusting(queue) => queue.queued(),
            Self::Lossy(queue) => queue.queued(roster),
            Self::Abandoned => Vec::new(),
        }
    }

    /// What receivers said that they missed.
    pub(crate) fn missed(&self, roster: &Roster<Untrusted>) -> u64 {
        match self {
            Self::Lossy(queue) => queue.missed(roster),
            _ => 0,
        }
    }
}

impl<T: Message> Inlet for Sink<T> {
    fn looked(&mut self) {
        if let Self::Lossy(queue) = self {
            queue.looked();
        }
    }

    fn is_all_received(&self, roster: &Roster<Untrusted>) -> bool {
        match self {
            Self::Guarded(queue) => queue.is_all_received(),
            Self::Trusting(queue) => queue.is_all_received(),
            Self::Lossy(queue) => queue.is_all_received(roster),
            Self::Abandoned => false,
        }
    }

    fn lane(&self) -> u32 {
        match self {
            Self::Guarded(queue) => queue.lane(),
            Self::Trusting(queue) => queue.lane(),
            Self::Lossy(queue) => queue.lane(),
            Self::Abandoned => 0,
        }
    }

    #[expect(clippy::mem_forget, reason = "that nothing is given back is what is wanted")]
    fn abandon(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::Abandoned));
    }
}

/// A place that a message is written to.
pub(crate) enum Held<'p, T: Message> {
    Guarded(Place<'p, T, Untrusted>),
    Trusting(Place<'p, T, Trusted>),
    /// Elsewhere: it is not known which one it will overwrite.
    Lossy(Box<T>, &'p mut LossySink<T>),
}

/// A place in a queue that nobody overwrites.
pub(crate) enum Place<'p, T: Message, L: Trust> {
    There(ring::Reservation<'p, T, L>),
    /// Elsewhere, to be copied to where the order of all has it.
    Aside(Box<T>, &'p mut ordered::fixed::Producer<T, L>),
}

impl<T: Message, L: Trust> Place<'_, T, L> {
    fn set(&mut self, value: &T) {
        match self {
            // One place was reserved.
            Self::There(place) => drop(place.set(0, std::slice::from_ref(value))),
            Self::Aside(place, _) => **place = *value,
        }
    }

    fn commit(self) -> Pushed {
        match self {
            Self::There(place) => match place.commit(1) {
                Ok(()) => Pushed::Done,
                Err(_) => Pushed::Full,
            },
            Self::Aside(value, queue) => ordered_pushed(queue.push_from(&value)),
        }
    }
}

impl<T: Message> Held<'_, T> {
    pub(crate) fn set(&mut self, value: &T) {
        match self {
            Self::Guarded(place) => place.set(value),
            Self::Trusting(place) => place.set(value),
            Self::Lossy(place, _) => **place = *value,
        }
    }

    /// `None`: others may write there.
    pub(crate) fn as_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Guarded(Place::There(_)) => None,
            Self::Trusting(Place::There(place)) => place.as_mut_slices().0.first_mut(),
            Self::Guarded(Place::Aside(place, _))
            | Self::Trusting(Place::Aside(place, _))
            | Self::Lossy(place, _) => Some(place),
        }
    }

    pub(crate) fn commit(self) -> Pushed {
        match self {
            Self::Guarded(place) => place.commit(),
            Self::Trusting(place) => place.commit(),
            Self::Lossy(value, queue) => queue.push(&value),
        }
    }
}
