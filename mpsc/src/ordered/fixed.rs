//! An ordered queue of fixed slots: many producers, one consumer, messages of one plain type `T`, in one order.
//!
//! The protocol, its orderings and its crash argument are those of [`ordered`](crate::ordered): element = slot. A push
//! is lock-free, a pop wait-free.
//!
//! # Examples
//! ```
//! use tidewire_mpsc::ordered::PopError;
//! use tidewire_mpsc::ordered::fixed::Queue;
//! use tidewire_shm::Unleased;
//!
//! let queue = Queue::<u64>::on_heap(64)?;
//! let (mut a, mut b) = (queue.producer(&Unleased)?, queue.producer(&Unleased)?);
//! let mut consumer = queue.consumer(&Unleased)?;
//! a.push(1)?;
//! b.push_slice(&[2, 3])?;
//! a.push(4)?;
//! assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3, 4]);
//! assert_eq!(consumer.pop(), Err(PopError::Empty));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_ring::embed::fixed::shape;
use tidewire_ring::{Owner, Tuning};
use tidewire_shm::sync::Payload;
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use super::attach::attach_lane;
use super::error::{Corrupt, PopError, PushError};
use super::lane::Lane;
use super::order::{MAX_RUN, Publisher};
use super::places::{Places, extra_bytes};
use super::reader::{Reader, Unit};
use super::slots::Slots;
use crate::error::{AttachError, CorruptLane, CreateError};
use crate::layout::{Form, KIND_ORDERED_FIXED, Layout, Plan};
use crate::options::{Delivery, Options};
use crate::registry::{Core, Tenure};
use crate::stats::LaneStats;

/// A publication takes at least one slot of a lane.
const GRAIN: usize = 1;
/// The most messages that a successor sees again if nobody says otherwise, beside the batch in hand.
const PERIOD: u64 = 64;

fn plan<T: Pod>() -> Plan {
    Plan {
        kind: KIND_ORDERED_FIXED,
        form: Form::Ordered { grain: GRAIN },
        element: shape::<T>(),
        extra_bytes: |lanes, capacity| extra_bytes(lanes, capacity / GRAIN),
    }
}

fn most_at_once(layout: &Layout) -> usize {
    layout.capacity.min(MAX_RUN)
}

/// A queue in a region, created or opened and validated; gives out the roles of producers and of the consumer.
///
/// `L` says whether the peers are trusted (see [`Trust`]).
pub struct Queue<T, L: Trust = Trusted> {
    core: Core<L>,
    places: Places,
    element: PhantomData<fn(T) -> T>,
}

impl<T: Pod> Queue<T, Trusted> {
    /// A queue on the heap, for threads of this process, with the default [`Options`]: 16 lanes.
    ///
    /// # Errors
    /// [`CreateError`] if the capacity is no power of two, `T` is empty, or memory is short.
    pub fn on_heap(capacity: usize) -> Result<Self, CreateError> {
        let options = Options::new();
        let region =
            Region::heap(Self::bytes(capacity, &options)?).map_err(tidewire_ring::CreateError::from)?;
        Self::create(region, capacity, &options)
    }
}

impl<T: Pod, L: Trust> Queue<T, L> {
    fn new(region: Region<L>, layout: Layout) -> Self {
        let places = Places::new(&layout, GRAIN);
        Self { core: Core { region, layout }, places, element: PhantomData }
    }

    /// Bytes of region that a queue needs whose lanes have room for `capacity` messages each.
    ///
    /// # Errors
    /// [`CreateError`] if there are no or too many lanes, the capacity is no power of two, or `T` is empty.
    pub fn bytes(capacity: usize, options: &Options) -> Result<usize, CreateError> {
        plan::<T>().bytes(capacity, options)
    }

    /// Creates an empty queue in a region that nobody uses (any more). What lay there is gone from the first store on;
    /// killed in between, the region holds no structure. The lanes are not touched; the order words (8 bytes for each
    /// message of all lanes together) are looked at, and written where they are not zero.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or can only be read.
    pub fn create(region: Region<L>, capacity: usize, options: &Options) -> Result<Self, CreateError> {
        let layout = plan::<T>().create(&region, capacity, options)?;
        Ok(Self::new(region, layout))
    }

    /// Opens a queue that somebody created; header and shape are read once and never again.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what `T` and `type_fingerprint` would
    /// have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = plan::<T>().open(&region, type_fingerprint)?;
        Ok(Self::new(region, layout))
    }

    /// Takes a free lane and continues where it ends.
    ///
    /// # Guarantees
    /// A bounded number of steps and questions to `liveness`; does not wait. A lane whose owner died is free only after
    /// the consumer [reclaimed](Consumer::reclaim) it.
    ///
    /// # Errors
    /// [`AttachError::LanesExhausted`] if there is none, [`AttachError::Incompatible`] if the queue was made for
    /// another kind of liveness, [`AttachError::Lease`] if the system refused to answer.
    pub fn producer<V: Liveness>(&self, liveness: &V) -> Result<Producer<T, L>, AttachError> {
        let (number, tenure, lane) = attach_lane(&self.core, liveness, GRAIN as u64)?;
        let core = self.core.alias();
        let parts = core.layout.lane(number);
        // SAFETY: data of a validated layout; the handle keeps the region.
        let data = unsafe { core.region.payload(parts.data_offset, parts.capacity * size_of::<T>()) };
        Ok(Producer {
            tenure,
            lane,
            publisher: Publisher::new(&core.region, &self.places, number),
            slots: Slots::new(parts.capacity),
            data,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            core,
            not_sync: PhantomData,
        })
    }

    /// Takes the consumer's role, if it is free or its owner is proven dead, and continues at the last checkpoint.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if somebody has it, else as [`producer`](Self::producer).
    pub fn consumer<V: Liveness>(&self, liveness: &V) -> Result<Consumer<T, L>, AttachError> {
        let tenure = self.core.attach_consumer(liveness)?;
        let core = self.core.alias();
        let capacity = core.layout.capacity;
        let unit = Unit {
            element_bytes: size_of::<T>(),
            grain: GRAIN as u64,
            max_run: most_at_once(&core.layout) as u64,
            period: (capacity as u64 / 8).clamp(1, PERIOD),
        };
        let reader = Reader::new(core, &self.places, unit);
        Ok(Consumer { tenure, reader, slots: Slots::new(capacity), not_sync: PhantomData })
    }

    /// Producers that there can be at a time.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        self.core.layout.lanes
    }

    /// Messages that fit into one lane.
    #[must_use]
    pub fn lane_capacity(&self) -> usize {
        self.core.layout.capacity
    }

    /// What becomes of messages that a consumer had in its hand when it died.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.core.layout.delivery
    }

    /// Who owns a lane now.
    #[must_use]
    pub fn producer_owner(&self, lane: u32) -> Option<Owner> {
        self.core.lane_owner(lane)
    }

    /// Who holds the consumer's role now.
    #[must_use]
    pub fn consumer_owner(&self) -> Option<Owner> {
        self.core.consumer_owner()
    }

    /// What can be seen of the lanes now, for people and monitors. Needs no role and disturbs nobody. What a producer
    /// published last may be missing from `sent`.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.core.lanes()
    }
}

/// A producing end: one lane of the queue. `Send`, not `Sync`, not `Clone`.
///
/// Dropping it frees the lane; everything pushed stays and is delivered.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<tidewire_mpsc::ordered::fixed::Producer<u64>>();
/// ```
/// ```
/// fn sent<T: Send>() {}
/// sent::<tidewire_mpsc::ordered::fixed::Producer<u64>>();
/// sent::<tidewire_mpsc::ordered::fixed::Consumer<u64>>();
/// ```
pub struct Producer<T, L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind what `drop` stores; the core keeps the region.
    tenure: Tenure,
    lane: Lane,
    publisher: Publisher,
    slots: Slots<T>,
    data: Payload,
    number: u32,
    core: Core<L>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T, L: Trust> Drop for Producer<T, L> {
    fn drop(&mut self) {
        self.lane.store_tail();
    }
}

impl<T: Pod, L: Trust> Producer<T, L> {
    /// Pushes one message.
    ///
    /// # Guarantees
    /// Lock-free; no system call; a producer that is stopped or dead delays nobody. If it returns `Ok` the message is
    /// published, behind every message whose push returned before this one was called: it survives the death of this
    /// process. Killed before, either nothing of it is seen or all.
    ///
    /// # Errors
    /// [`PushError::Full`] if there is no room in the lane (the consumer may have consumed messages that it has not
    /// released yet), [`PushError::Corrupt`] for good once a peer published what cannot be.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), PushError> {
        self.push_from(&value)
    }

    /// Pushes a copy of one message from where it lies; for types that are too large to pass by value.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    #[inline]
    pub fn push_from(&mut self, value: &T) -> Result<(), PushError> {
        self.lane.require(1)?;
        // SAFETY: O3: `require` says that the slot is free.
        unsafe { self.slots.write(&self.data, self.lane.position(), value) };
        self.publish(1)
    }

    /// Pushes all messages of a slice with one publication, or none of them. They are neighbours in the order.
    ///
    /// # Guarantees
    /// As [`push`](Self::push), for the whole batch: no observer, and no crash, shows a part of it.
    ///
    /// # Errors
    /// [`PushError::TooMany`] if they are more than [`max_batch`](Self::max_batch), [`PushError::Full`] if they do not
    /// all fit now, else as [`push`](Self::push).
    #[inline]
    pub fn push_slice(&mut self, values: &[T]) -> Result<(), PushError> {
        if values.len() > self.max_batch() {
            return Err(PushError::TooMany { max: u32::try_from(self.max_batch()).unwrap_or(u32::MAX) });
        }
        self.lane.require(values.len() as u64)?;
        if values.is_empty() {
            return Ok(());
        }
        // SAFETY: O3: `require` says that as many slots are free.
        unsafe { self.slots.write_slice(&self.data, self.lane.position(), values) };
        self.publish(values.len() as u64)
    }

    #[inline(always)]
    fn publish(&mut self, run: u64) -> Result<(), PushError> {
        match self.publisher.publish(run) {
            Ok(()) => {
                self.lane.advance(run);
                Ok(())
            }
            Err(corrupt) => Err(PushError::Corrupt(self.lane.latch(corrupt))),
        }
    }

    /// The most messages that one [`push_slice`](Self::push_slice) takes: 1024, or the capacity if that is smaller.
    #[must_use]
    pub fn max_batch(&self) -> usize {
        most_at_once(&self.core.layout)
    }

    /// Messages that fit into the lane.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.core.layout.capacity
    }

    /// Messages in the lane that are published and not yet released. A running consumer can only make it smaller.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.lane.len()).unwrap_or(usize::MAX)
    }

    /// Messages that may be pushed now. A running consumer can only make it larger.
    #[must_use]
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether nothing in the lane is unreleased. A running consumer can only turn `false` into `true`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a push would find no room. A running consumer can only turn `true` into `false`.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// How many messages were ever published in this lane, by all of its owners: the position of the next one.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.lane.position()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.lane.corruption()
    }

    /// Whether the consumer took this lane out of use, because of what was published for it: then nothing that is
    /// pushed here arrives. Drop the handle and attach again.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.core.is_quarantined(self.number as usize)
    }

    /// The number of the lane.
    #[must_use]
    pub fn lane(&self) -> u32 {
        self.number
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

/// The consuming end. One per queue; `Send`, not `Sync`, not `Clone`.
///
/// Dropping it releases what it consumed (unless it is corrupt) and frees the role.
pub struct Consumer<T: Pod, L: Trust = Trusted> {
    // The word is freed and the lease handed back first, behind the release in `drop`; the reader keeps the region.
    tenure: Tenure,
    reader: Reader<L>,
    slots: Slots<T>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Pod, L: Trust> Drop for Consumer<T, L> {
    fn drop(&mut self) {
        self.reader.release();
    }
}

impl<T: Pod, L: Trust> Consumer<T, L> {
    /// Pops the next message, whoever pushed it.
    ///
    /// # Guarantees
    /// Wait-free; no system call. Messages come in one order: a push that returned before another was called comes
    /// first. With [`Delivery::AtLeastOnce`] the message is released by a later call, at the latest after
    /// [`Tuning::release_every`] messages or when the queue is found empty; with [`Delivery::AtMostOnce`] before this
    /// call returns.
    ///
    /// # Errors
    /// [`PopError::Empty`] if there is none now, [`PopError::Corrupt`] for good once a peer published what cannot be.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        let touch = self.reader.touches();
        let (seat, _) = self.reader.next()?;
        // SAFETY: O3: the reader says that the slot at the lane's head is published.
        let value = unsafe { self.slots.read(&seat.data, seat.head) };
        // SAFETY: O3: it is ours until the lane's head is stored.
        unsafe { self.slots.done_with_one(&seat.data, seat.head, touch) };
        self.reader.took(1, 1);
        self.reader.finish();
        Ok(value)
    }

    /// Pops one message to where it shall lie; for types that are too large to return by value.
    ///
    /// # Errors
    /// As [`pop`](Self::pop); then `to` is unchanged.
    #[inline]
    pub fn pop_to(&mut self, to: &mut T) -> Result<(), PopError> {
        let touch = self.reader.touches();
        let (seat, _) = self.reader.next()?;
        // SAFETY: O3: the reader says that the slot at the lane's head is published.
        unsafe { self.slots.read_to(&seat.data, seat.head, to) };
        // SAFETY: O3: it is ours until the lane's head is stored.
        unsafe { self.slots.done_with_one(&seat.data, seat.head, touch) };
        self.reader.took(1, 1);
        self.reader.finish();
        Ok(())
    }

    /// Copies the next message without consuming it.
    ///
    /// # Errors
    /// As [`pop`](Self::pop).
    pub fn peek(&mut self) -> Result<T, PopError> {
        let (seat, _) = self.reader.next()?;
        // SAFETY: O3: the reader says that the slot at the lane's head is published.
        Ok(unsafe { self.slots.read(&seat.data, seat.head) })
    }

    /// Pops up to `to.len()` messages and says how many; at least one.
    ///
    /// # Errors
    /// As [`pop`](Self::pop). An empty `to` takes nothing and returns `Ok(0)`.
    #[inline]
    pub fn pop_into(&mut self, to: &mut [T]) -> Result<usize, PopError> {
        let touch = self.reader.touches();
        let (mut n, mut rest) = (0, to);
        while !rest.is_empty() {
            let found = if n == 0 { self.reader.next() } else { self.reader.more() };
            let (seat, left) = match found {
                Ok(found) => found,
                Err(error) if n == 0 => return Err(error),
                Err(_) => break,
            };
            let run = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
            let (values, behind) = rest.split_at_mut(run);
            // SAFETY: O3: the reader says that as many slots from the lane's head on are published.
            unsafe { self.slots.read_slice(&seat.data, seat.head, values) };
            if touch {
                // SAFETY: O3: the slots are ours until their lane's head is stored.
                unsafe { self.slots.touch(&seat.data, seat.head, run) };
            }
            self.reader.took(run as u64, run as u64);
            (n, rest) = (n + run, behind);
        }
        if n > 0 {
            self.reader.finish();
        }
        Ok(n)
    }

    /// Pops message after message until the queue is empty.
    pub fn drain(&mut self) -> Drain<'_, T, L> {
        Drain { consumer: self }
    }

    /// Releases everything that was consumed now: with [`Delivery::AtLeastOnce`], whoever calls this is done with all
    /// that was handed out.
    pub fn release(&mut self) {
        self.reader.release();
    }

    /// Changes how this consumer touches and releases. By default it releases after an eighth of the capacity of a lane,
    /// at most 64 messages.
    pub fn tune(&mut self, tuning: Tuning) {
        self.reader.tune(tuning);
    }

    /// Frees the lanes whose owner is proven dead, and says how many. Their messages are still delivered, and the next
    /// producer may have the lane at once. Only the consumer can do this: only it knows where such a lane ends.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] if the queue was made for another kind of liveness, [`AttachError::Lease`] if the
    /// system refused to answer; what was freed before stays so, and the rest can be tried again.
    pub fn reclaim<V: Liveness>(&mut self, liveness: &V) -> Result<u32, AttachError> {
        let capacity = self.reader.core().layout.capacity as u64;
        self.reader.reclaim(liveness, |seat, messages| {
            let end = seat.head.wrapping_add(messages);
            if messages <= capacity { Ok(end) } else { Err(super::lying_tail(end)) }
        })
    }

    /// Whether nothing can be popped. Running producers can only turn `true` into `false`; what lanes out of use
    /// published counts until a pop has passed over it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// The lane that the last message came from, or the next one comes from if it was peeked at.
    #[must_use]
    pub fn last_lane(&self) -> Option<u32> {
        self.reader.lane()
    }

    /// One of the lanes that were taken out of use, each once.
    pub fn take_corrupt(&mut self) -> Option<CorruptLane> {
        self.reader.take_corrupt()
    }

    /// The lanes that this consumer took out of use.
    pub fn quarantined(&self) -> impl Iterator<Item = CorruptLane> + '_ {
        self.reader.quarantined()
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.reader.corruption()
    }

    /// What can be seen of the lanes now. As [`Queue::lanes`].
    pub fn lanes(&self) -> impl Iterator<Item = LaneStats> + '_ {
        self.reader.core().lanes()
    }

    /// This handle's name in the owner word.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.tenure.owner()
    }
}

/// Pops message after message; ends when the queue is empty or corrupt.
pub struct Drain<'c, T: Pod, L: Trust> {
    consumer: &'c mut Consumer<T, L>,
}

impl<T: Pod, L: Trust> Iterator for Drain<'_, T, L> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.consumer.pop().ok()
    }
}

impl<T, L: Trust> fmt::Debug for Queue<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt_queue(f)
    }
}

impl<T, L: Trust> fmt::Debug for Producer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("lane", &self.number)
            .field("position", &self.lane.position())
            .finish_non_exhaustive()
    }
}

impl<T: Pod, L: Trust> fmt::Debug for Consumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("last_lane", &self.last_lane()).finish_non_exhaustive()
    }
}

impl<T: Pod, L: Trust> fmt::Debug for Drain<'_, T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drain")
    }
}
