//! The queues that the promises are about, each in a named segment with leases: the ring, lanes, and the ordered queue.

use std::fmt::Debug;
use std::path::Path;

use tidewire_mpsc::fixed as lanes;
use tidewire_mpsc::ordered::{self, fixed as in_order};
use tidewire_ring::fixed as ring;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{Region, Segment, SegmentLeases, Untrusted};

use crate::peers::at;

/// Messages of a ring, and of a lane.
pub(crate) const CAPACITY: usize = 256;
/// Lanes of a queue of many producers.
pub(crate) const LANES: u32 = 2;

pub(crate) type Message = [u64; 8];
pub(crate) type Ring = ring::Ring<Message, Untrusted>;
pub(crate) type Lanes = lanes::Queue<Message, Untrusted>;
pub(crate) type Ordered = in_order::Queue<Message, Untrusted>;

/// Message `number` of a producer: no other message has a word of it.
pub(crate) fn message(producer: u64, number: u64) -> Message {
    let word = |index: u64| (number << 16 | producer << 8 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [producer, number, word(2), word(3), word(4), word(5), word(6), word(7)]
}

/// Who pushed a message, and its number; panics if it is not whole.
pub(crate) fn whole(found: &Message) -> (u64, u64) {
    let [producer, number, ..] = *found;
    assert_eq!(*found, message(producer, number), "a message that nobody pushed");
    (producer, number)
}

/// Why nothing was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// Full, or empty.
    Yet,
    /// For good.
    Corrupt(String),
}

fn corrupt(error: impl Debug) -> No {
    No::Corrupt(format!("{error:?}"))
}

pub(crate) trait Push {
    fn push(&mut self, message: Message) -> Result<(), No>;
}

pub(crate) trait Pop {
    fn pop(&mut self) -> Result<Message, No>;
    /// Makes the lanes of the dead free, where the consumer has to.
    fn reclaim(&mut self, leases: &SegmentLeases) -> Option<u32>;
}

impl Push for ring::Producer<Message, Untrusted> {
    fn push(&mut self, message: Message) -> Result<(), No> {
        ring::Producer::push(self, message).map_err(|error| match error {
            tidewire_ring::PushError::Full => No::Yet,
            error => corrupt(error),
        })
    }
}

impl Pop for ring::Consumer<Message, Untrusted> {
    fn pop(&mut self) -> Result<Message, No> {
        ring::Consumer::pop(self).map_err(|error| match error {
            tidewire_ring::PopError::Empty => No::Yet,
            error => corrupt(error),
        })
    }

    fn reclaim(&mut self, _leases: &SegmentLeases) -> Option<u32> {
        None
    }
}

impl Push for lanes::Producer<Message, Untrusted> {
    fn push(&mut self, message: Message) -> Result<(), No> {
        lanes::Producer::push(self, message).map_err(|error| match error {
            tidewire_ring::PushError::Full => No::Yet,
            error => corrupt(error),
        })
    }
}

impl Pop for lanes::Consumer<Message, Untrusted> {
    fn pop(&mut self) -> Result<Message, No> {
        let popped = lanes::Consumer::pop(self);
        match self.take_corrupt() {
            Some(lane) => Err(corrupt(lane)),
            None => popped.map_err(|_| No::Yet),
        }
    }

    fn reclaim(&mut self, leases: &SegmentLeases) -> Option<u32> {
        Some(lanes::Consumer::reclaim(self, leases).unwrap())
    }
}

impl Push for in_order::Producer<Message, Untrusted> {
    fn push(&mut self, message: Message) -> Result<(), No> {
        in_order::Producer::push(self, message).map_err(|error| match error {
            ordered::PushError::Full => No::Yet,
            error => corrupt(error),
        })
    }
}

impl Pop for in_order::Consumer<Message, Untrusted> {
    fn pop(&mut self) -> Result<Message, No> {
        let popped = in_order::Consumer::pop(self);
        match (popped, self.take_corrupt()) {
            (_, Some(lane)) => Err(corrupt(lane)),
            (Err(ordered::PopError::Empty), None) => Err(No::Yet),
            (popped, None) => popped.map_err(corrupt),
        }
    }

    fn reclaim(&mut self, leases: &SegmentLeases) -> Option<u32> {
        Some(in_order::Consumer::reclaim(self, leases).unwrap())
    }
}

/// A kind of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ring,
    Lanes,
    Ordered,
}

fn options(lanes: u32) -> tidewire_mpsc::Options {
    tidewire_mpsc::Options::new().lanes(lanes).liveness::<SegmentLeases>()
}

fn options_of_ring() -> tidewire_ring::Options {
    tidewire_ring::Options::new().liveness::<SegmentLeases>()
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Ring, Self::Lanes, Self::Ordered];

    /// The name of its segment.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Lanes => "lanes",
            Self::Ordered => "ordered",
        }
    }

    pub(crate) fn bytes(self, lanes: u32) -> usize {
        match self {
            Self::Ring => Ring::bytes(CAPACITY, &options_of_ring()).unwrap(),
            Self::Lanes => Lanes::bytes(CAPACITY, &options(lanes)).unwrap(),
            Self::Ordered => Ordered::bytes(CAPACITY, &options(lanes)).unwrap(),
        }
    }

    /// Lays an empty one out.
    pub(crate) fn lay_out(self, region: Region<Untrusted>, lanes: u32) -> Result<(), String> {
        match self {
            Self::Ring => Ring::create(region, CAPACITY, &options_of_ring()).map(drop).map_err(text),
            Self::Lanes => Lanes::create(region, CAPACITY, &options(lanes)).map(drop).map_err(text),
            Self::Ordered => Ordered::create(region, CAPACITY, &options(lanes)).map(drop).map_err(text),
        }
    }

    /// Creates its segment, for so many lanes.
    pub(crate) fn create(self, place: &Path, lanes: u32) -> Segment {
        let init = |region| Ok(self.lay_out(region, lanes)?);
        Segment::create_with(self.name(), self.bytes(lanes), &at(place), init).unwrap()
    }

    pub(crate) fn producer(self, segment: &Segment) -> Result<Box<dyn Push>, String> {
        let (region, leases) = (segment.region(), segment.leases().unwrap());
        Ok(match self {
            Self::Ring => {
                let ring = Ring::open(region, 0).map_err(text)?;
                Box::new(ring.producer_with(&leases).map_err(text)?)
            }
            Self::Lanes => Box::new(Lanes::open(region, 0).map_err(text)?.producer(&leases).map_err(text)?),
            Self::Ordered => {
                Box::new(Ordered::open(region, 0).map_err(text)?.producer(&leases).map_err(text)?)
            }
        })
    }

    pub(crate) fn consumer(self, segment: &Segment) -> Result<Box<dyn Pop>, String> {
        let (region, leases) = (segment.region(), segment.leases().unwrap());
        Ok(match self {
            Self::Ring => {
                let ring = Ring::open(region, 0).map_err(text)?;
                Box::new(ring.consumer_with(&leases).map_err(text)?)
            }
            Self::Lanes => Box::new(Lanes::open(region, 0).map_err(text)?.consumer(&leases).map_err(text)?),
            Self::Ordered => {
                Box::new(Ordered::open(region, 0).map_err(text)?.consumer(&leases).map_err(text)?)
            }
        })
    }
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Counts that processes tell each other: what they have done survives their death.
#[derive(Debug)]
pub(crate) struct Book {
    region: Region<Untrusted>,
}

impl Book {
    const NAME: &str = "book";

    pub(crate) fn create(place: &Path) -> Self {
        let segment = Segment::create_with(Self::NAME, 4096, &at(place), |_| Ok(())).unwrap();
        Self { region: segment.region() }
    }

    pub(crate) fn open(place: &Path) -> Self {
        Self { region: crate::peers::open(place, Self::NAME).region() }
    }

    fn word(&self, index: usize) -> Shared<AtomicU64> {
        // SAFETY: the book has nothing but these words, and is there as long as `self`.
        unsafe { self.region.atomic_u64(8 * index) }
    }

    /// Says that so many were done.
    pub(crate) fn note(&self, index: usize, done: u64) {
        self.word(index).store(done, Ordering::Release);
    }

    pub(crate) fn read(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Adds one; returns what stood there.
    pub(crate) fn add(&self, index: usize) -> u64 {
        self.word(index).fetch_add(1, Ordering::AcqRel)
    }
}
