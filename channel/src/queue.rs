//! The queues that a channel can be made of, behind one face.

use tidewire_mpsc::ordered;
use tidewire_shm::{Liveness, Region, SegmentLeases, Untrusted};

use crate::error::{Corrupt, OpenError};
use crate::message::Message;
use crate::options::{Kind, Options};

/// What became of one look at a queue.
#[derive(Debug)]
pub(crate) enum Popped<R> {
    Got(R),
    Empty,
    Corrupt(Corrupt),
    /// The buffer is; the message needs so many bytes.
    TooSmall(usize),
}

/// What became of one attempt to put something into a queue.
#[derive(Debug)]
pub(crate) enum Pushed {
    Done,
    Full,
    Corrupt(Corrupt),
    /// It never fits; so much does.
    TooLong(usize),
}

/// What a receiver does with any queue.
pub(crate) trait Outlet {
    /// Publishes that what was consumed is.
    fn release(&mut self);
    /// Whether a look would find nothing.
    fn is_empty(&self) -> bool;
    /// Looks for senders that came.
    fn rescan(&mut self);
    /// Frees what senders held that are proven dead.
    fn reclaim(&mut self, leases: &SegmentLeases);
    /// A sender that was taken out of use since this was last asked.
    fn take_corrupt(&mut self) -> Option<Corrupt>;
    /// Forgets the queue without giving anything back.
    fn abandon(&mut self);
}

/// What a sender does with any queue.
pub(crate) trait Inlet {
    /// Which of the senders it is.
    fn lane(&self) -> u32;
    /// Whether nothing is left of what anybody sent.
    fn is_all_received(&self) -> bool;
    /// Forgets the queue without giving anything back.
    fn abandon(&mut self);
}

/// The receiving end of a queue of `T`.
#[derive(Debug)]
pub(crate) enum Source<T: Message> {
    Lanes(tidewire_mpsc::fixed::Consumer<T, Untrusted>),
    Ordered(ordered::fixed::Consumer<T, Untrusted>),
    Single(tidewire_ring::fixed::Consumer<T, Untrusted>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

/// A sending end of a queue of `T`.
#[derive(Debug)]
pub(crate) enum Sink<T: Message> {
    Lanes(tidewire_mpsc::fixed::Producer<T, Untrusted>, tidewire_mpsc::fixed::Queue<T, Untrusted>),
    Ordered(ordered::fixed::Producer<T, Untrusted>, ordered::fixed::Queue<T, Untrusted>),
    Single(tidewire_ring::fixed::Producer<T, Untrusted>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

pub(crate) fn lanes_options(options: &Options) -> tidewire_mpsc::Options {
    tidewire_mpsc::Options::new().lanes(options.most_senders()).liveness::<SegmentLeases>()
}

pub(crate) fn ring_options() -> tidewire_ring::Options {
    tidewire_ring::Options::new().liveness::<SegmentLeases>()
}

pub(crate) fn cannot(error: impl std::fmt::Display) -> OpenError {
    OpenError::Options { reason: error.to_string() }
}

/// Messages for each sender: what was chosen, or as many as make about a mebibyte.
pub(crate) fn capacity<T>(options: &Options) -> Result<usize, OpenError> {
    const ABOUT_BYTES: usize = 1 << 20;
    let lanes = options.most_senders().max(1) as usize;
    let fits = ABOUT_BYTES / lanes / size_of::<T>().max(1);
    let wanted = options.capacity.unwrap_or(fits.clamp(8, 1024));
    wanted
        .max(1)
        .checked_next_power_of_two()
        .ok_or_else(|| cannot(format!("expected fewer than {wanted} messages")))
}

pub(crate) fn bytes_of<T: Message>(options: &Options) -> Result<usize, OpenError> {
    let capacity = capacity::<T>(options)?;
    match options.kind {
        Kind::Lanes => tidewire_mpsc::fixed::Queue::<T, Untrusted>::bytes(capacity, &lanes_options(options))
            .map_err(cannot),
        Kind::Ordered => {
            ordered::fixed::Queue::<T, Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Single => {
            tidewire_ring::fixed::Ring::<T, Untrusted>::bytes(capacity, &ring_options()).map_err(cannot)
        }
    }
}

pub(crate) fn create<T: Message>(region: Region<Untrusted>, options: &Options) -> Result<(), OpenError> {
    let capacity = capacity::<T>(options)?;
    match options.kind {
        Kind::Lanes => tidewire_mpsc::fixed::Queue::<T, _>::create(region, capacity, &lanes_options(options))
            .map(drop)
            .map_err(cannot),
        Kind::Ordered => ordered::fixed::Queue::<T, _>::create(region, capacity, &lanes_options(options))
            .map(drop)
            .map_err(cannot),
        Kind::Single => tidewire_ring::fixed::Ring::<T, _>::create(region, capacity, &ring_options())
            .map(drop)
            .map_err(cannot),
    }
}

impl<T: Message> Source<T> {
    pub(crate) fn open(
        kind: Kind,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => Self::Lanes(tidewire_mpsc::fixed::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Ordered => Self::Ordered(ordered::fixed::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Single => Self::Single(tidewire_ring::fixed::Ring::open(region, 0)?.consumer_with(leases)?),
        })
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Popped<T> {
        match self {
            Self::Lanes(queue) => match queue.pop() {
                Ok(value) => Popped::Got(value),
                Err(tidewire_mpsc::PopError::Empty) => Popped::Empty,
            },
            Self::Ordered(queue) => match queue.pop() {
                Ok(value) => Popped::Got(value),
                Err(ordered::PopError::Empty) => Popped::Empty,
                Err(ordered::PopError::Corrupt(corrupt)) => Popped::Corrupt(Corrupt::Order(corrupt)),
            },
            Self::Single(queue) => match queue.pop() {
                Ok(value) => Popped::Got(value),
                Err(tidewire_ring::PopError::Empty) => Popped::Empty,
                Err(tidewire_ring::PopError::Corrupt(corrupt)) => Popped::Corrupt(Corrupt::Peer(corrupt)),
            },
            Self::Abandoned => Popped::Empty,
        }
    }

    /// For messages that are too large to return by value.
    #[inline(always)]
    pub(crate) fn pop_to(&mut self, to: &mut T) -> Popped<()> {
        match self {
            Self::Lanes(queue) => match queue.pop_to(to) {
                Ok(()) => Popped::Got(()),
                Err(tidewire_mpsc::PopError::Empty) => Popped::Empty,
            },
            Self::Ordered(queue) => match queue.pop_to(to) {
                Ok(()) => Popped::Got(()),
                Err(ordered::PopError::Empty) => Popped::Empty,
                Err(ordered::PopError::Corrupt(corrupt)) => Popped::Corrupt(Corrupt::Order(corrupt)),
            },
            Self::Single(queue) => match queue.pop_to(to) {
                Ok(()) => Popped::Got(()),
                Err(tidewire_ring::PopError::Empty) => Popped::Empty,
                Err(tidewire_ring::PopError::Corrupt(corrupt)) => Popped::Corrupt(Corrupt::Peer(corrupt)),
            },
            Self::Abandoned => Popped::Empty,
        }
    }

    #[inline(always)]
    pub(crate) fn pop_into(&mut self, to: &mut [T]) -> Popped<usize> {
        match self {
            Self::Lanes(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(tidewire_mpsc::PopError::Empty) => Popped::Empty,
            },
            Self::Ordered(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(ordered::PopError::Empty) => Popped::Empty,
                Err(ordered::PopError::Corrupt(corrupt)) => Popped::Corrupt(Corrupt::Order(corrupt)),
            },
            Self::Single(queue) => match queue.pop_into(to) {
                Ok(n) => Popped::Got(n),
                Err(tidewire_ring::PopError::Empty) => Popped::Empty,
                Err(tidewire_ring::PopError::Corrupt(corrupt)) => Popped::Corrupt(Corrupt::Peer(corrupt)),
            },
            Self::Abandoned => Popped::Empty,
        }
    }
}

impl<T: Message> Source<T> {
    /// What each sender has sent and this end not yet received: its number, and how much.
    pub(crate) fn queued(&self) -> Vec<(u32, usize)> {
        let depth =
            |lane: tidewire_mpsc::LaneStats| (lane.lane, usize::try_from(lane.depth).unwrap_or(usize::MAX));
        match self {
            Self::Lanes(queue) => queue.lanes().map(depth).collect(),
            Self::Ordered(queue) => queue.lanes().map(depth).collect(),
            Self::Single(queue) => vec![(0, queue.len())],
            Self::Abandoned => Vec::new(),
        }
    }
}

impl<T: Message> Outlet for Source<T> {
    fn release(&mut self) {
        match self {
            Self::Lanes(queue) => queue.release(),
            Self::Ordered(queue) => queue.release(),
            Self::Single(queue) => queue.release(),
            Self::Abandoned => {}
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Lanes(queue) => queue.is_empty(),
            Self::Ordered(queue) => queue.is_empty(),
            Self::Single(queue) => queue.is_empty(),
            Self::Abandoned => true,
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
            Self::Single(_) | Self::Abandoned => Ok(0),
        };
    }

    fn take_corrupt(&mut self) -> Option<Corrupt> {
        match self {
            Self::Lanes(queue) => queue.take_corrupt().map(Corrupt::Sender),
            Self::Ordered(queue) => queue.take_corrupt().map(Corrupt::Sender),
            Self::Single(_) | Self::Abandoned => None,
        }
    }

    #[expect(clippy::mem_forget, reason = "that nothing is given back is what is wanted")]
    fn abandon(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::Abandoned));
    }
}

impl<T: Message> Sink<T> {
    pub(crate) fn open(
        kind: Kind,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => {
                let queue = tidewire_mpsc::fixed::Queue::open(region, 0)?;
                Self::Lanes(queue.producer(leases)?, queue)
            }
            Kind::Ordered => {
                let queue = ordered::fixed::Queue::open(region, 0)?;
                Self::Ordered(queue.producer(leases)?, queue)
            }
            Kind::Single => Self::Single(tidewire_ring::fixed::Ring::open(region, 0)?.producer_with(leases)?),
        })
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, value: &T) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.push_from(value)),
            Self::Ordered(queue, _) => ordered_pushed(queue.push_from(value)),
            Self::Single(queue) => pushed(queue.push_from(value)),
            Self::Abandoned => Pushed::Full,
        }
    }

    #[inline(always)]
    pub(crate) fn push_slice(&mut self, values: &[T]) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.push_slice(values)),
            Self::Ordered(queue, _) => ordered_pushed(queue.push_slice(values)),
            Self::Single(queue) => pushed(queue.push_slice(values)),
            Self::Abandoned => Pushed::Full,
        }
    }

    /// The most messages of one batch.
    pub(crate) fn most(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.capacity(),
            Self::Ordered(queue, _) => queue.max_batch(),
            Self::Single(queue) => queue.capacity(),
            Self::Abandoned => 0,
        }
    }

    /// What is sent and not yet received.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.len(),
            Self::Ordered(queue, _) => queue.len(),
            Self::Single(queue) => queue.len(),
            Self::Abandoned => 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.capacity(),
            Self::Ordered(queue, _) => queue.capacity(),
            Self::Single(queue) => queue.capacity(),
            Self::Abandoned => 0,
        }
    }
}

impl<T: Message> Inlet for Sink<T> {
    fn is_all_received(&self) -> bool {
        match self {
            Self::Lanes(_, queue) => queue.lanes().all(|lane| lane.depth == 0),
            Self::Ordered(_, queue) => queue.lanes().all(|lane| lane.depth == 0),
            Self::Single(queue) => queue.is_empty(),
            Self::Abandoned => false,
        }
    }

    fn lane(&self) -> u32 {
        match self {
            Self::Lanes(queue, _) => queue.lane(),
            Self::Ordered(queue, _) => queue.lane(),
            Self::Single(_) | Self::Abandoned => 0,
        }
    }

    #[expect(clippy::mem_forget, reason = "that nothing is given back is what is wanted")]
    fn abandon(&mut self) {
        std::mem::forget(std::mem::replace(self, Self::Abandoned));
    }
}

#[inline(always)]
fn pushed(result: Result<(), tidewire_ring::PushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        Err(tidewire_ring::PushError::Full) => Pushed::Full,
        Err(tidewire_ring::PushError::Corrupt(corrupt)) => Pushed::Corrupt(Corrupt::Peer(corrupt)),
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

/// Whether this process could take a role now.
pub(crate) fn is_vacant(leases: &SegmentLeases, role: tidewire_shm::RoleId) -> bool {
    leases.tenancy(role) == tidewire_shm::Tenancy::Vacant
}
