//! The queues of byte records that a channel can be made of, behind one face.

use tidewire_mpsc::ordered;
use tidewire_ring::{TooMany, bytes as ring};
use tidewire_shm::bell::Roster;
use tidewire_shm::{Region, SegmentLeases, Trust, Trusted, Untrusted};

use crate::error::{Corrupt, OpenError};
use crate::options::{Kind, Options};
use crate::queue::{
    Inlet, Outlet, Popped, Pushed, Shape, aside, cannot, lanes_options, ring_options, trusting,
};

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
    if options.is_lossy() {
        return Err(cannot("expected an overflow that a channel of bytes has, found DropOldest"));
    }
    let capacity = capacity(options)?;
    match options.kind {
        Kind::Lanes => {
            tidewire_mpsc::bytes::Queue::<Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Ordered => {
            ordered::bytes::Queue::<Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Single => ring::Ring::<Untrusted>::bytes(capacity, &ring_options()).map_err(cannot),
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
        Kind::Single => ring::Ring::create(region, capacity, &ring_options()).map(drop).map_err(cannot),
    }
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

/// Where a message is written before it is sent.
pub(crate) trait Place {
    /// Writes bytes from an offset on; whether they fit.
    fn put(&mut self, offset: usize, bytes: &[u8]) -> bool;
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
