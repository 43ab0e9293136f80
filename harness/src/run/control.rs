//! The words beside the structure under test: who has arrived, who still moves, and how many messages there were.
//!
//! They lie in an anonymous segment of their own, one line per writer, so that the parent can watch its children
//! without a system call of theirs.
//!
//! # Memory layout
//! ```text
//!   0   consumer     beat u64, count u64, step u64, (total u64), recorded u64
//! 128   ping u64     written by both in turn: the raw round trip
//! 256   producer 0   beat u64, count u64, step u64, total u64, recorded u64
//! 384   producer 1   the same, and so on
//! ```

use anyhow::Result;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{LINE_BYTES, Region, Segment};

use crate::subject::Role;

/// The environment variable under which children inherit the segment.
pub(crate) const VARIABLE: &str = "TIDEWIRE_RUN_CONTROL";
/// The total of a producer that has not ended.
const RUNNING: u64 = 0;
const CONSUMER: usize = 0;
const PING: usize = LINE_BYTES;
const PRODUCERS: usize = 2 * LINE_BYTES;

/// Bytes of the segment of a row with this many producers.
pub(crate) fn bytes(producers: u8) -> usize {
    PRODUCERS + usize::from(producers) * LINE_BYTES
}

/// The words that one role writes.
#[derive(Debug)]
struct Words {
    beat: Shared<AtomicU64>,
    count: Shared<AtomicU64>,
    step: Shared<AtomicU64>,
    /// A producer's.
    total: Shared<AtomicU64>,
    recorded: Shared<AtomicU64>,
}

/// The control words; keeps the memory alive.
#[derive(Debug)]
pub(crate) struct Control {
    /// The producers', then the consumer's.
    words: Vec<Words>,
    producers: u8,
    ping: Shared<AtomicU64>,
    address: usize,
    _region: Region,
}

impl Control {
    /// The control words of a row with this many producers.
    pub(crate) fn new(segment: &Segment, producers: u8) -> Result<Self> {
        let region = segment.region();
        let (needed, found) = (bytes(producers), region.len());
        anyhow::ensure!(found >= needed, "expected a control segment of {needed} bytes, found {found}");
        // SAFETY: an aligned word of the region, which the result keeps; every user makes an atomic of it.
        let word = |offset| unsafe { region.atomic_u64(offset) };
        let words = |line| Words {
            beat: word(line),
            count: word(line + 8),
            step: word(line + 16),
            total: word(line + 24),
            recorded: word(line + 32),
        };
        let lines = (0..usize::from(producers)).map(|number| PRODUCERS + number * LINE_BYTES);
        Ok(Self {
            words: lines.chain([CONSUMER]).map(words).collect(),
            producers,
            ping: word(PING),
            address: word(0).as_ptr().addr(),
            _region: region,
        })
    }

    /// Where the words are mapped in this process.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// How many producers there are.
    pub(crate) fn producers(&self) -> u8 {
        self.producers
    }

    #[expect(clippy::indexing_slicing, reason = "roles come from the plan, like the number of producers")]
    fn words(&self, role: Role) -> &Words {
        match role {
            Role::Producer(number) => &self.words[usize::from(number)],
            Role::Consumer => &self.words[usize::from(self.producers)],
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

    /// How many operations the role has recorded once its messages were dealt with, as it last said.
    pub(crate) fn recorded(&self, role: Role) -> u64 {
        // ORD advice: Relaxed, a count and nothing more.
        self.words(role).recorded.load(Ordering::Relaxed)
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

    /// Says how many operations were recorded, which is a sign of life as well.
    pub(crate) fn record(&self, role: Role, operations: u64) {
        // ORD advice: Relaxed, a count and nothing more.
        self.words(role).recorded.store(operations, Ordering::Relaxed);
        self.beat(role);
    }

    /// Says that the role has come to this step.
    pub(crate) fn arrive(&self, role: Role, step: u64) {
        // ORD run.step: Release -> `Control::step`; what this role did before that step.
        self.words(role).step.store(step, Ordering::Release);
        self.beat(role);
    }

    /// Whether every other role has come to this step.
    pub(crate) fn others_at(&self, role: Role, step: u64) -> bool {
        Role::all(self.producers).all(|other| other == role || self.step(other) >= step)
    }

    /// Says that a producer has ended, and how many messages it claims to have sent.
    pub(crate) fn end(&self, role: Role, sent: u64) {
        // ORD run.end: Release -> `Control::ended`; everything the producer published.
        self.words(role).total.store(sent.wrapping_add(1), Ordering::Release);
    }

    /// How many messages a producer sent, once it has ended.
    pub(crate) fn ended(&self, role: Role) -> Option<u64> {
        // ORD run.end: Acquire <- `Control::end`; what is not seen now was never published.
        match self.words(role).total.load(Ordering::Acquire) {
            RUNNING => None,
            total => Some(total.wrapping_sub(1)),
        }
    }

    /// Whether all producers have ended.
    pub(crate) fn all_ended(&self) -> bool {
        (0..self.producers).all(|number| self.ended(Role::Producer(number)).is_some())
    }

    /// The word of the raw round trip.
    pub(crate) fn ping(&self) -> &AtomicU64 {
        &self.ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [Role; 3] = [Role::Producer(0), Role::Producer(1), Role::Consumer];

    #[test]
    fn two_mappings_show_the_same_words() {
        let segment = Segment::anonymous(bytes(2)).unwrap();
        let again = Segment::from_fd(segment.try_clone_fd().unwrap()).unwrap();
        let (one, other) = (Control::new(&segment, 2).unwrap(), Control::new(&again, 2).unwrap());
        assert_ne!(one.address(), other.address());
        assert_eq!(TWO.map(|role| other.ended(role)), [None; 3]);
        one.progress(Role::Producer(1), 7);
        one.record(Role::Producer(1), 5);
        one.arrive(Role::Consumer, 2);
        one.end(Role::Producer(0), 0);
        assert_eq!(TWO.map(|role| other.count(role)), [0, 7, 0]);
        assert_eq!(TWO.map(|role| other.recorded(role)), [0, 5, 0]);
        assert_eq!(TWO.map(|role| other.beats(role)), [0, 2, 1]);
        assert_eq!(TWO.map(|role| other.step(role)), [0, 0, 2]);
        assert_eq!(other.ended(Role::Producer(0)), Some(0));
        assert!(!other.all_ended());
        one.end(Role::Producer(1), 7);
        assert!(other.all_ended());
    }

    #[test]
    fn a_step_is_reached_when_everybody_else_is_there() {
        let segment = Segment::anonymous(bytes(2)).unwrap();
        let control = Control::new(&segment, 2).unwrap();
        control.arrive(Role::Producer(0), 3);
        assert!(!control.others_at(Role::Consumer, 3));
        control.arrive(Role::Producer(1), 4);
        assert!(control.others_at(Role::Consumer, 3));
        assert!(!control.others_at(Role::Producer(0), 1));
    }
}
