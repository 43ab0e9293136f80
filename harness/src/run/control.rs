//! The words beside the structure under test: who has arrived, who still moves, and how many messages there were.
//!
//! They lie in an anonymous segment of their own, one line per writer, so that the parent can watch its children
//! without a system call of theirs.
//!
//! # Memory layout
//! ```text
//!   0   producer   beat u64, count u64, step u64, total u64
//! 128   consumer   beat u64, count u64, step u64
//! 256   ping u64   written by both in turn: the raw round trip
//! ```

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{LINE_BYTES, Region, Segment};

/// The environment variable under which children inherit the segment.
pub(crate) const VARIABLE: &str = "TIDEWIRE_RUN_CONTROL";
/// Bytes of the segment.
pub(crate) const BYTES: usize = 3 * LINE_BYTES;
/// The total of a producer that has not ended.
const RUNNING: u64 = 0;

/// Which end of a structure a process plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// It sends.
    Producer,
    /// It receives.
    Consumer,
}

impl Role {
    /// Both, in the order in which they are started.
    pub(crate) const BOTH: [Self; 2] = [Self::Producer, Self::Consumer];

    /// The name that reports carry.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// The other one.
    pub(crate) fn peer(self) -> Self {
        match self {
            Self::Producer => Self::Consumer,
            Self::Consumer => Self::Producer,
        }
    }

    fn line(self) -> usize {
        match self {
            Self::Producer => 0,
            Self::Consumer => LINE_BYTES,
        }
    }
}

/// The words that one role writes.
#[derive(Debug)]
struct Words {
    beat: Shared<AtomicU64>,
    count: Shared<AtomicU64>,
    step: Shared<AtomicU64>,
}

/// The control words; keeps the memory alive.
#[derive(Debug)]
pub(crate) struct Control {
    producer: Words,
    consumer: Words,
    total: Shared<AtomicU64>,
    ping: Shared<AtomicU64>,
    address: usize,
    _region: Region,
}

impl Control {
    /// The control words of a segment of [`BYTES`].
    pub(crate) fn new(segment: &Segment) -> Result<Self> {
        let region = segment.region();
        anyhow::ensure!(
            region.len() >= BYTES,
            "expected a control segment of {BYTES} bytes, found {}",
            region.len()
        );
        // SAFETY: an aligned word of the region, which the result keeps; every user makes an atomic of it.
        let word = |offset| unsafe { region.atomic_u64(offset) };
        let words = |role: Role| Words {
            beat: word(role.line()),
            count: word(role.line() + 8),
            step: word(role.line() + 16),
        };
        Ok(Self {
            producer: words(Role::Producer),
            consumer: words(Role::Consumer),
            total: word(Role::Producer.line() + 24),
            ping: word(2 * LINE_BYTES),
            address: word(0).as_ptr().addr(),
            _region: region,
        })
    }

    /// Where the words are mapped in this process.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    fn words(&self, role: Role) -> &Words {
        match role {
            Role::Producer => &self.producer,
            Role::Consumer => &self.consumer,
        }
    }

    /// A number that changes as long as the role moves, whether or not it gets anything done.
    pub(crate) fn beats(&self, role: Role) -> u64 {
        // ORD advice: Relaxed, a sign of life and nothing more.
        self.words(role).beat.load(Ordering::Relaxed)
    }

    /// How many messages the role has dealt with, as it last said.
    pub(crate) fn count(&self, role: Role) -> u64 {
        // ORD advice: Relaxed, a count and nothing more.
        self.words(role).count.load(Ordering::Relaxed)
    }

    /// How far the role has come on the way to its first message.
    pub(crate) fn step(&self, role: Role) -> u64 {
        // ORD run.step: Acquire <- `Control::arrive`; what the role did before that step.
        self.words(role).step.load(Ordering::Acquire)
    }

    /// Gives a sign of life.
    pub(crate) fn beat(&self, role: Role) {
        let word = &self.words(role).beat;
        // ORD own: Relaxed, only this role writes its beat.
        let next = word.load(Ordering::Relaxed).wrapping_add(1);
        // ORD advice: Relaxed, a sign of life and nothing more.
        word.store(next, Ordering::Relaxed);
    }

    /// Says how many messages were dealt with, which is a sign of life as well.
    pub(crate) fn progress(&self, role: Role, messages: u64) {
        // ORD advice: Relaxed, a count and nothing more.
        self.words(role).count.store(messages, Ordering::Relaxed);
        self.beat(role);
    }

    /// Says that the role has come to this step.
    pub(crate) fn arrive(&self, role: Role, step: u64) {
        // ORD run.step: Release -> `Control::step`; what this role did before that step.
        self.words(role).step.store(step, Ordering::Release);
        self.beat(role);
    }

    /// Says that the producer has ended, and how many messages it claims to have sent.
    pub(crate) fn end(&self, sent: u64) {
        // ORD run.end: Release -> `Control::ended`; everything the producer published.
        self.total.store(sent.wrapping_add(1), Ordering::Release);
    }

    /// How many messages there were, once the producer has ended.
    pub(crate) fn ended(&self) -> Option<u64> {
        // ORD run.end: Acquire <- `Control::end`; what is not seen now was never published.
        match self.total.load(Ordering::Acquire) {
            RUNNING => None,
            total => Some(total.wrapping_sub(1)),
        }
    }

    /// The word of the raw round trip.
    pub(crate) fn ping(&self) -> &AtomicU64 {
        &self.ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_show_the_same_words() {
        let segment = Segment::anonymous(BYTES).unwrap();
        let again = Segment::from_fd(segment.try_clone_fd().unwrap()).unwrap();
        let (one, other) = (Control::new(&segment).unwrap(), Control::new(&again).unwrap());
        assert_ne!(one.address(), other.address());
        assert_eq!(other.ended(), None);
        one.progress(Role::Producer, 7);
        one.arrive(Role::Consumer, 2);
        one.end(0);
        assert_eq!([other.count(Role::Producer), other.count(Role::Consumer)], [7, 0]);
        assert_eq!([other.beats(Role::Producer), other.beats(Role::Consumer)], [1, 1]);
        assert_eq!([other.step(Role::Producer), other.step(Role::Consumer)], [0, 2]);
        assert_eq!(other.ended(), Some(0));
    }
}
