//! The receiving end of any queue of messages.

use tidewire_mpsc::ordered;
use tidewire_ring::embed::fixed::PopEnd;
use tidewire_ring::{TooMany, fixed as ring};
use tidewire_shm::bell::Roster;
use tidewire_shm::{Region, SegmentLeases, Trust, Trusted, Untrusted};

use super::lossy::{FairSource, LossySource};
use super::{Outlet, Popped, Progress, Shape, aside, trusting};
use crate::error::{Corrupt, OpenError};
use crate::message::Message;
use crate::options::{Kind, Overflow};

/// The receiving end of a queue of `T`.
#[derive(Debug)]
pub(crate) enum Source<T: Message> {
    Guarded(Consumer<T, Untrusted>),
    /// Lends what lies in the queue.
    Trusting(Consumer<T, Trusted>),
    /// Of a sender that overwrites the oldest.
    Lossy(LossySource<T>),
    /// Of several of those.
    Fair(FairSource<T>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

/// One that nobody overwrites before it is received.
#[derive(Debug)]
pub(crate) enum Consumer<T: Message, L: Trust> {
    Lanes(tidewire_mpsc::fixed::Consumer<T, L>),
    Ordered(ordered::fixed::Consumer<T, L>),
    Single(ring::Consumer<T, L>),
}

fn ordered_failed<R>(error: ordered::PopError) -> Popped<R> {
    match error {
        ordered::PopError::Empty => Popped::Empty,
        ordered::PopError::Corrupt(corrupt) => Popped::Corrupt(Corrupt::Order(corrupt)),
    }
}

fn single_failed<R>(error: tidewire_ring::PopError) -> Popped<R> {
    match error {
        tidewire_ring::PopError::Empty => Popped::Empty,
        tidewire_ring::PopError::Corrupt(corrupt) => Popped::Corrupt(Corrupt::Peer(corrupt)),
    }
}

impl<T: Message, L: Trust> Consumer<T, L> {
    fn open(kind: Kind, region: Region<L>, leases: &SegmentLeases) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => Self::Lanes(tidewire_mpsc::fixed::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Ordered => Self::Ordered(ordered::fixed::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Single => Self::Single(ring::Ring::open(region, 0)?.consumer_with(leases)?),
        })
    }

    #[inline(always)]
    fn pop(&mut self) -> Popped<T> {
        match self {
            Self::Lanes(queue) => match queue.pop() {
                Ok(value) => Popped::Got(value),
                Err(tidewire_mpsc::PopError::Empty) => Popped::Empty,
            },
            Self::Ordered(queue) => match queue.pop() {
                Ok(value) => Popped::Got(value),
                Err(error) => ordered_failed(error),
            },
            Self::Single(queue) => match queue.pop() {
                Ok(value) => Popped::Got(value),
                Err(error) => single_failed(error),
            },
        }
    }

    #[inline(always)]
    fn pop_to(&mut self, to: &mut T) -> Popped<()> {
        match self {
            Self::Lanes(queue) => match queue.pop_to(to) {
                Ok(()) => Popped::Got(()),
                Err(tidewire_mpsc::PopError::Empty) => Popped::Empty,
            },
            Self::Ordered(queue) => match queue.pop_to(to) {
                Ok(()) => Popped::Got(()),
                Err(error) => ordered_failed(error),
            },
            Self::Single(queue) => match queue.pop_to(to) {
                Ok(()) => Popped::Got(()),
                Err(error) => single_failed(error),
            },
        }
    }

    #[inline(always)]
    fn pop_into(&mut self, to: &mut [T]) -> Popped<usize> {
        match self {
            Self::Lanes(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(tidewire_mpsc::PopError::Empty) => Popped::Empty,
            },
            Self::Ordered(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(error) => ordered_failed(error),
            },
            Self::Single(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(error) => single_failed(error),
            },
        }
    }

    /// Whether there is something to be lent.
    fn look(&mut self) -> Popped<()> {
        match self {
            Self::Lanes(queue) => match queue.read_chunk(1) {
                Ok(_) => Popped::Got(()),
                Err(tidewire_mpsc::PopError::Empty) => Popped::Empty,
            },
            Self::Ordered(queue) => match queue.peek() {
                Ok(_) => Popped::Got(()),
                Err(error) => ordered_failed(error),
            },
            Self::Single(queue) => match queue.read_chunk(1) {
                Ok(_) => Popped::Got(()),
                Err(error) => single_failed(error),
            },
        }
    }

    /// What a look found; nothing, if a sender spoilt it since.
    fn lend(&mut self, most: usize) -> Option<Part<'_, T, L>> {
        match self {
            Self::Lanes(queue) => queue.read_chunk(most).ok().map(Part::InPlace),
            Self::Single(queue) => queue.read_chunk(most).ok().map(Part::InPlace),
            Self::Ordered(queue) => queue.peek().ok().map(|value| Part::Copied(Box::new(value), queue)),
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

impl<T: Message> Source<T> {
    /// `passed`: what a former receiver of an overwritten queue told.
    pub(crate) fn open(
        shape: Shape,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
        passed: impl FnOnce() -> u64,
    ) -> Result<Self, OpenError> {
        Ok(match shape {
            Shape { overflow: Overflow::DropOldest, kind: Kind::Lanes, senders, .. } => {
                Self::Fair(FairSource::open(region, senders, leases)?)
            }
            Shape { overflow: Overflow::DropOldest, .. } => {
                Self::Lossy(LossySource::open(shape.kind, region, leases, passed)?)
            }
            Shape { trusted: true, .. } => {
                Self::Trusting(Consumer::open(shape.kind, trusting(region), leases)?)
            }
            _ => Self::Guarded(Consumer::open(shape.kind, region, leases)?),
        })
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Popped<T> {
        match self {
            Self::Guarded(queue) => queue.pop(),
            Self::Trusting(queue) => aside(|| queue.pop()),
            Self::Lossy(queue) => aside(|| queue.pop()),
            Self::Fair(queue) => aside(|| queue.pop()),
            Self::Abandoned => Popped::Empty,
        }
    }

    /// The hot path: where the next message comes from, if it may be known without a look at anything.
    #[inline(always)]
    pub(crate) fn ready(&mut self) -> Option<&mut PopEnd<T, Untrusted>> {
        match self {
            Self::Guarded(Consumer::Lanes(queue)) => queue.ready(),
            Self::Guarded(Consumer::Single(queue)) => Some(queue.as_end()),
            _ => None,
        }
    }

    /// For messages that are too large to return by value.
    #[inline(always)]
    pub(crate) fn pop_to(&mut self, to: &mut T) -> Popped<()> {
        match self {
            Self::Guarded(queue) => queue.pop_to(to),
            Self::Trusting(queue) => aside(|| queue.pop_to(to)),
            Self::Lossy(queue) => aside(|| queue.pop_to(to)),
            Self::Fair(queue) => aside(|| queue.pop_to(to)),
            Self::Abandoned => Popped::Empty,
        }
    }

    #[inline(always)]
    pub(crate) fn pop_into(&mut self, to: &mut [T]) -> Popped<usize> {
        match self {
            Self::Guarded(queue) => queue.pop_into(to),
            Self::Trusting(queue) => aside(|| queue.pop_into(to)),
            Self::Lossy(queue) => aside(|| queue.pop_into(to)),
            Self::Fair(queue) => aside(|| queue.pop_into(to)),
            Self::Abandoned => Popped::Empty,
        }
    }

    /// Whether [`lend`](Self::lend) would have something.
    pub(crate) fn look(&mut self) -> Popped<()> {
        match self {
            Self::Guarded(queue) => queue.look(),
            Self::Trusting(queue) => queue.look(),
            Self::Lossy(queue) => queue.look(),
            Self::Fair(queue) => queue.look(),
            Self::Abandoned => Popped::Empty,
        }
    }

    /// What a look found: it is consumed when whoever has it says so.
    pub(crate) fn lend(&mut self, most: usize) -> Lent<'_, T> {
        let lent = match self {
            Self::Guarded(queue) => queue.lend(most).map(Lent::Guarded),
            Self::Trusting(queue) => queue.lend(most).map(Lent::Trusting),
            Self::Lossy(queue) => match queue.pop() {
                Popped::Got(value) => Some(Lent::Taken(Box::new(value))),
                _ => None,
            },
            Self::Fair(queue) => match queue.pop() {
                Popped::Got(value) => Some(Lent::Taken(Box::new(value))),
                _ => None,
            },
            Self::Abandoned => None,
        };
        lent.unwrap_or(Lent::Nothing)
    }

    /// What each sender has sent and this end not yet received: its number, and how much.
    pub(crate) fn queued(&mut self) -> Vec<(u32, usize)> {
        match self {
            Self::Guarded(queue) => queue.queued(),
            Self::Trusting(queue) => queue.queued(),
            Self::Lossy(queue) => vec![(0, queue.lag())],
            Self::Fair(queue) => queue.queued(),
            Self::Abandoned => Vec::new(),
        }
    }

    /// Messages that were overwritten before this end could take them.
    pub(crate) fn missed(&self) -> u64 {
        match self {
            Self::Lossy(queue) => queue.missed(),
            Self::Fair(queue) => queue.missed(),
            _ => 0,
        }
    }

    /// Those of the sender that is there with that number.
    pub(crate) fn missed_of(&self, lane: u32) -> u64 {
        match self {
            Self::Fair(queue) => queue.missed_of(lane),
            _ => self.missed(),
        }
    }
}

impl<T: Message> Outlet for Source<T> {
    fn release(&mut self) {
        match self {
            Self::Guarded(queue) => queue.release(),
            Self::Trusting(queue) => queue.release(),
            Self::Lossy(_) | Self::Fair(_) | Self::Abandoned => {}
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Guarded(queue) => queue.is_empty(),
            Self::Trusting(queue) => queue.is_empty(),
            Self::Lossy(queue) => queue.is_empty(),
            Self::Fair(queue) => queue.is_empty(),
            Self::Abandoned => true,
        }
    }

    fn is_ready(&mut self) -> bool {
        match self {
            Self::Guarded(queue) => queue.is_ready(),
            Self::Trusting(queue) => queue.is_ready(),
            Self::Lossy(queue) => queue.is_ready(),
            Self::Fair(queue) => queue.is_ready(),
            Self::Abandoned => true,
        }
    }

    fn rescan(&mut self) {
        match self {
            Self::Guarded(queue) => queue.rescan(),
            Self::Trusting(queue) => queue.rescan(),
            Self::Lossy(_) | Self::Fair(_) | Self::Abandoned => {}
        }
    }

    fn reclaim(&mut self, leases: &SegmentLeases) {
        match self {
            Self::Guarded(queue) => queue.reclaim(leases),
            Self::Trusting(queue) => queue.reclaim(leases),
            Self::Fair(queue) => queue.reclaim(leases),
            Self::Lossy(_) | Self::Abandoned => {}
        }
    }

    fn take_corrupt(&mut self) -> Option<Corrupt> {
        match self {
            Self::Guarded(queue) => queue.take_corrupt(),
            Self::Trusting(queue) => queue.take_corrupt(),
            Self::Fair(queue) => queue.take_corrupt(),
            Self::Lossy(_) | Self::Abandoned => None,
        }
    }

    fn close(&mut self) {
        *self = Self::Abandoned;
    }

    #[expect(clippy::mem_forget, reason = "that nothing is given back is what is wanted")]
    fn abandon(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::Abandoned));
    }

    fn progress(&mut self) -> Option<Progress> {
        match self {
            Self::Lossy(queue) => queue.progress(),
            Self::Fair(queue) => queue.progress(),
            _ => None,
        }
    }

    fn survey(&mut self, roster: &Roster<Untrusted>, leases: &SegmentLeases) {
        if let Self::Fair(queue) = self {
            queue.survey(roster, leases);
        }
    }
}

/// Messages that are lent.
pub(crate) enum Lent<'c, T: Message> {
    Guarded(Part<'c, T, Untrusted>),
    Trusting(Part<'c, T, Trusted>),
    /// Out of a queue that is overwritten: gone from there.
    Taken(Box<T>),
    Nothing,
}

/// Messages of a queue that nobody overwrites.
pub(crate) enum Part<'c, T: Message, L: Trust> {
    InPlace(ring::Chunk<'c, T, L>),
    /// The next one, which lies where the order of all has it.
    Copied(Box<T>, &'c mut ordered::fixed::Consumer<T, L>),
}

fn get_one<T: Message>(value: &T, first: usize, to: &mut [T]) -> Result<(), TooMany> {
    match (first, to) {
        (0 | 1, []) => Ok(()),
        (0, [to]) => {
            *to = *value;
            Ok(())
        }
        (first, to) => Err(TooMany { available: 1, asked: first.saturating_add(to.len()) }),
    }
}

impl<T: Message, L: Trust> Part<'_, T, L> {
    fn len(&self) -> usize {
        match self {
            Self::InPlace(chunk) => chunk.len(),
            Self::Copied(..) => 1,
        }
    }

    fn get(&self, first: usize, to: &mut [T]) -> Result<(), TooMany> {
        match self {
            Self::InPlace(chunk) => chunk.get(first, to),
            Self::Copied(value, _) => get_one::<T>(value, first, to),
        }
    }

    fn release(self, count: usize) -> Result<(), TooMany> {
        match self {
            Self::InPlace(chunk) => chunk.release(count),
            Self::Copied(_, _) if count == 0 => Ok(()),
            Self::Copied(mut value, queue) if count == 1 => {
                // The same one: nobody else takes any. What was spoilt since is said by the next call.
                let _again = queue.pop_to(&mut value);
                Ok(())
            }
            Self::Copied(..) => Err(TooMany { available: 1, asked: count }),
        }
    }
}

impl<T: Message> Lent<'_, T> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Guarded(part) => part.len(),
            Self::Trusting(part) => part.len(),
            Self::Taken(_) => 1,
            Self::Nothing => 0,
        }
    }

    pub(crate) fn get(&self, first: usize, to: &mut [T]) -> Result<(), TooMany> {
        match self {
            Self::Guarded(part) => part.get(first, to),
            Self::Trusting(part) => part.get(first, to),
            Self::Taken(value) => get_one::<T>(value, first, to),
            Self::Nothing if first == 0 && to.is_empty() => Ok(()),
            Self::Nothing => Err(TooMany { available: 0, asked: first.saturating_add(to.len()) }),
        }
    }

    /// `None`: others may write there.
    pub(crate) fn as_slices(&mut self) -> Option<(&[T], &[T])> {
        match self {
            Self::Guarded(Part::InPlace(_)) => None,
            Self::Trusting(Part::InPlace(chunk)) => Some(chunk.as_slices()),
            Self::Guarded(Part::Copied(value, _))
            | Self::Trusting(Part::Copied(value, _))
            | Self::Taken(value) => Some((std::slice::from_ref(value), &[])),
            Self::Nothing => Some((&[], &[])),
        }
    }

    pub(crate) fn release(self, count: usize) -> Result<(), TooMany> {
        match self {
            Self::Guarded(part) => part.release(count),
            Self::Trusting(part) => part.release(count),
            Self::Taken(_) if count <= 1 => Ok(()),
            Self::Nothing if count == 0 => Ok(()),
            Self::Taken(_) => Err(TooMany { available: 1, asked: count }),
            Self::Nothing => Err(TooMany { available: 0, asked: count }),
        }
    }
}
