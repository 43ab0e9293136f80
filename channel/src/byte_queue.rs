//! The queues of byte records that a channel can be made of, behind one face.

use tidewire_mpsc::ordered;
use tidewire_shm::{Region, SegmentLeases, Untrusted};

use crate::error::{Corrupt, OpenError};
use crate::options::{Kind, Options};
use crate::queue::{Inlet, Outlet, Popped, Pushed, cannot, lanes_options, ring_options};

/// The receiving end of a queue of records.
#[derive(Debug)]
pub(crate) enum ByteSource {
    Lanes(tidewire_mpsc::bytes::Consumer<Untrusted>),
    Ordered(ordered::bytes::Consumer<Untrusted>),
    Single(tidewire_ring::bytes::Consumer<Untrusted>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

/// A sending end of a queue of records.
#[derive(Debug)]
pub(crate) enum ByteSink {
    Lanes(tidewire_mpsc::bytes::Producer<Untrusted>, tidewire_mpsc::bytes::Queue<Untrusted>),
    Ordered(ordered::bytes::Producer<Untrusted>, ordered::bytes::Queue<Untrusted>),
    Single(tidewire_ring::bytes::Producer<Untrusted>),
    /// In a fork child, whose parent has it.
    Abandoned,
}

/// Bytes for each sender: what was chosen, or as many as make about a mebibyte.
pub(crate) fn capacity(options: &Options) -> Result<usize, OpenError> {
    const ABOUT_BYTES: usize = 1 << 20;
    const LEAST_BYTES: usize = 1 << 16;
    let fits = ABOUT_BYTES / options.most_senders().max(1) as usize;
    let wanted = options.capacity.unwrap_or(fits.max(LEAST_BYTES));
    let least = 256;
    wanted
        .max(least)
        .checked_next_power_of_two()
        .ok_or_else(|| cannot(format!("expected fewer than {wanted} bytes")))
}

pub(crate) fn bytes(options: &Options) -> Result<usize, OpenError> {
    let capacity = capacity(options)?;
    match options.kind {
        Kind::Lanes => {
            tidewire_mpsc::bytes::Queue::<Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Ordered => {
            ordered::bytes::Queue::<Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Single => {
            tidewire_ring::bytes::Ring::<Untrusted>::bytes(capacity, &ring_options()).map_err(cannot)
        }
    }
}

pub(crate) fn create(region: Region<Untrusted>, options: &Options) -> Result<(), OpenError> {
    let capacity = capacity(options)?;
    match options.kind {
        Kind::Lanes => tidewire_mpsc::bytes::Queue::create(region, capacity, &lanes_options(options))
            .map(drop)
            .map_err(cannot),
        Kind::Ordered => {
            ordered::bytes::Queue::create(region, capacity, &lanes_options(options)).map(drop).map_err(cannot)
        }
        Kind::Single => {
            tidewire_ring::bytes::Ring::create(region, capacity, &ring_options()).map(drop).map_err(cannot)
        }
    }
}

impl ByteSource {
    pub(crate) fn open(
        kind: Kind,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => Self::Lanes(tidewire_mpsc::bytes::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Ordered => Self::Ordered(ordered::bytes::Queue::open(region, 0)?.consumer(leases)?),
            Kind::Single => Self::Single(tidewire_ring::bytes::Ring::open(region, 0)?.consumer_with(leases)?),
        })
    }

    #[inline(always)]
    pub(crate) fn pop_into(&mut self, to: &mut [u8]) -> Popped<usize> {
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
            Self::Abandoned => Popped::Empty,
        }
    }

    /// Into a buffer that is made as long as the message is.
    #[inline(always)]
    pub(crate) fn pop_to(&mut self, to: &mut Vec<u8>) -> Popped<usize> {
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
            Self::Abandoned => Popped::Empty,
        }
    }

    /// What each sender has sent and this end not yet received: its number, and how many bytes.
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

#[inline(always)]
fn got(to: &mut Vec<u8>, len: usize, copy: impl FnOnce(&mut [u8]) -> bool) -> Popped<usize> {
    to.resize(len, 0);
    if copy(to) { Popped::Got(len) } else { Popped::TooSmall(len) }
}

fn lanes_popped(error: tidewire_mpsc::RecordPopError) -> Popped<usize> {
    match error {
        tidewire_mpsc::RecordPopError::Empty => Popped::Empty,
        tidewire_mpsc::RecordPopError::BufferTooSmall { needed } => Popped::TooSmall(needed as usize),
    }
}

fn ordered_popped(error: ordered::RecordPopError) -> Popped<usize> {
    match error {
        ordered::RecordPopError::Empty => Popped::Empty,
        ordered::RecordPopError::BufferTooSmall { needed } => Popped::TooSmall(needed as usize),
        ordered::RecordPopError::Corrupt(corrupt) => Popped::Corrupt(Corrupt::Order(corrupt)),
    }
}

fn single_popped(error: tidewire_ring::RecordPopError) -> Popped<usize> {
    match error {
        tidewire_ring::RecordPopError::Empty => Popped::Empty,
        tidewire_ring::RecordPopError::BufferTooSmall { needed } => Popped::TooSmall(needed as usize),
        tidewire_ring::RecordPopError::Corrupt(corrupt) => Popped::Corrupt(Corrupt::Peer(corrupt)),
    }
}

impl Outlet for ByteSource {
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

impl ByteSink {
    pub(crate) fn open(
        kind: Kind,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        Ok(match kind {
            Kind::Lanes => {
                let queue = tidewire_mpsc::bytes::Queue::open(region, 0)?;
                Self::Lanes(queue.producer(leases)?, queue)
            }
            Kind::Ordered => {
                let queue = ordered::bytes::Queue::open(region, 0)?;
                Self::Ordered(queue.producer(leases)?, queue)
            }
            Kind::Single => Self::Single(tidewire_ring::bytes::Ring::open(region, 0)?.producer_with(leases)?),
        })
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, record: &[u8]) -> Pushed {
        match self {
            Self::Lanes(queue, _) => pushed(queue.push(record)),
            Self::Ordered(queue, _) => match queue.push(record) {
                Ok(()) => Pushed::Done,
                Err(ordered::RecordPushError::Full) => Pushed::Full,
                Err(ordered::RecordPushError::TooLong { max }) => Pushed::TooLong(max as usize),
                Err(ordered::RecordPushError::Corrupt(corrupt)) => Pushed::Corrupt(Corrupt::Order(corrupt)),
            },
            Self::Single(queue) => pushed(queue.push(record)),
            Self::Abandoned => Pushed::Full,
        }
    }

    /// Lets `fill` write a message of up to `len` bytes where it will be read; it says how many it is. Where there is one
    /// order over all senders, it writes elsewhere first.
    #[inline(always)]
    pub(crate) fn push_with(&mut self, len: usize, fill: &mut dyn FnMut(&mut dyn Place) -> usize) -> Pushed {
        match self {
            Self::Lanes(queue, _) => match queue.reserve(len) {
                Ok(mut place) => {
                    let used = fill(&mut place).min(len);
                    if place.commit(used).is_ok() { Pushed::Done } else { Pushed::TooLong(len) }
                }
                Err(error) => pushed(Err(error)),
            },
            Self::Single(queue) => match queue.reserve(len) {
                Ok(mut place) => {
                    let used = fill(&mut place).min(len);
                    if place.commit(used).is_ok() { Pushed::Done } else { Pushed::TooLong(len) }
                }
                Err(error) => pushed(Err(error)),
            },
            Self::Ordered(queue, _) => {
                let max = queue.max_record();
                if len > max {
                    return Pushed::TooLong(max);
                }
                let mut aside = vec![0; len];
                let used = fill(&mut aside).min(len);
                aside.truncate(used);
                self.push(&aside)
            }
            Self::Abandoned => Pushed::Full,
        }
    }

    /// The longest message.
    pub(crate) fn max(&self) -> usize {
        match self {
            Self::Lanes(queue, _) => queue.max_record(),
            Self::Ordered(queue, _) => queue.max_record(),
            Self::Single(queue) => queue.max_record(),
            Self::Abandoned => 0,
        }
    }

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

/// Where a message is written before it is sent.
pub(crate) trait Place {
    /// Writes bytes from an offset on; whether they fit.
    fn put(&mut self, offset: usize, bytes: &[u8]) -> bool;
}

impl Place for tidewire_ring::bytes::Reservation<'_, Untrusted> {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> bool {
        self.set(offset, bytes).is_ok()
    }
}

impl Place for Vec<u8> {
    fn put(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let end = offset.checked_add(bytes.len());
        match end.and_then(|end| self.get_mut(offset..end)) {
            Some(room) => {
                room.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

impl Inlet for ByteSink {
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
fn pushed(result: Result<(), tidewire_ring::RecordPushError>) -> Pushed {
    match result {
        Ok(()) => Pushed::Done,
        Err(tidewire_ring::RecordPushError::Full) => Pushed::Full,
        Err(tidewire_ring::RecordPushError::TooLong { max }) => Pushed::TooLong(max as usize),
        Err(tidewire_ring::RecordPushError::Corrupt(corrupt)) => Pushed::Corrupt(Corrupt::Peer(corrupt)),
    }
}
