//! The structures whose histories are recorded, under stress and in runs: one row of the table each.
//!
//! A structure joins by implementing [`Subject`], [`Sender`] and [`Receiver`] and standing in [`table`]; plans,
//! kills, journals and the checker know nothing about structures.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tidewire_shm::{Region, Segment, Untrusted};

use crate::history::{Clock, PopDesk, Promise, Room};
use crate::run::message;
use crate::twins::history_twins::{Broken, Twin};
use crate::twins::mpsc_twins::Hasty;

mod bundle;
mod fixed;
pub(crate) mod mpsc;
mod numbers;
pub(crate) mod play;
mod records;
mod role;

pub(crate) use bundle::Bundle;
pub(crate) use fixed::{Fixed, consumer};
pub(crate) use numbers::Numbers;
pub(crate) use records::Records;
pub(crate) use role::Role;

/// Messages of one operation at the most.
pub(crate) const BATCH: usize = 32;
/// The number of a producer that does not exist: what is reserved and not committed carries it.
pub(crate) const NOBODY: u32 = 0xfffe;

/// Size and laziness of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Slots, or bytes.
    pub(crate) capacity: usize,
    /// Units after which a consumer releases.
    pub(crate) release_every: u64,
}

/// How messages are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// One.
    One,
    /// Some, with one publication.
    Batch(u32),
    /// Some reserved, fewer committed.
    Commit {
        /// Reserved.
        reserved: u32,
        /// Committed.
        kept: u32,
    },
    /// Some reserved, none committed.
    Abort(u32),
}

impl Push {
    /// Any way.
    #[inline(always)]
    pub(crate) fn any(numbers: &mut Numbers, most: u32) -> Self {
        let mut some = || u32::try_from(numbers.between(1, most.into())).unwrap_or(1);
        let (reserved, kept) = (some(), some());
        match numbers.below(8) {
            0..=3 => Self::One,
            4..=5 => Self::Batch(kept),
            6 => Self::Commit { reserved: reserved.max(kept), kept: reserved.min(kept) },
            _ => Self::Abort(reserved),
        }
    }

    /// Messages that it publishes.
    #[inline(always)]
    pub(crate) fn messages(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Batch(n) => n,
            Self::Commit { kept, .. } => kept,
            Self::Abort(_) => 0,
        }
    }
}

/// How messages are popped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pop {
    /// One.
    One,
    /// One, looked at first.
    Peek,
    /// Up to so many, in place; then a part of them is released.
    Chunk(u32, u64),
    /// Up to so many, into the hand.
    Into(u32),
    /// One after the other, up to so many.
    Drain(u32),
    /// None; what was consumed is released.
    Release,
}

impl Pop {
    /// Any way.
    #[inline(always)]
    pub(crate) fn any(numbers: &mut Numbers, most: u32) -> Self {
        let n = u32::try_from(numbers.between(1, most.into())).unwrap_or(1);
        match numbers.below(16) {
            0..=4 => Self::One,
            5..=6 => Self::Peek,
            7..=9 => Self::Chunk(n, numbers.next()),
            10..=12 => Self::Into(n),
            13..=14 => Self::Drain(n),
            _ => Self::Release,
        }
    }
}

/// Why an operation did nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No room, or no message.
    NotNow,
    /// Something that must not happen.
    Broken(String),
}

impl Refusal {
    /// Something that must not happen.
    pub(crate) fn broken(error: impl core::fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }
}

/// The producing end.
pub(crate) trait Sender {
    /// Units that messages take.
    fn units(&self, producer: u32, seq: u64, n: u32) -> u32;

    /// Whether messages are reserved one by one, whatever [`Push::Commit`] says.
    fn one_by_one(&self) -> bool {
        false
    }

    /// Pushes the messages of `producer` from `seq` on.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] if there is no room: then nothing was pushed.
    fn send(&mut self, how: Push, producer: u32, seq: u64) -> Result<(), Refusal>;
}

/// The consuming end.
pub(crate) trait Receiver {
    /// Pops messages and writes them down, before they are released or into the hand.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] if there was none.
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal>;
}

/// A structure.
pub(crate) trait Subject: Sync {
    /// Its name in reports.
    fn structure(&self) -> &'static str;

    /// Bytes of a message; their mean, where lengths differ.
    fn payload_bytes(&self) -> u64;

    /// The smallest and the largest capacity under stress, powers of two.
    fn capacities(&self) -> (usize, usize);

    /// Messages of one operation at the most, so that it fits even while the consumer releases lazily.
    fn batch(&self, shape: &Shape) -> u32;

    /// Bytes of region that it needs.
    ///
    /// # Errors
    /// What the structure says.
    fn bytes(&self, shape: &Shape) -> Result<usize>;

    /// Creates it.
    ///
    /// # Errors
    /// What the structure says.
    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()>;

    /// How many producers there are.
    fn producers(&self) -> u8 {
        1
    }

    /// Takes the role of producer `number`, if need be from an owner that is dead.
    ///
    /// # Errors
    /// What the structure says.
    ///
    /// # Safety
    /// Every process that ever had the role has ended, or gave it back.
    unsafe fn sender(&self, region: Region<Untrusted>, number: u8) -> Result<Box<dyn Sender>>;

    /// Takes the consumer's role, if need be from an owner that is dead.
    ///
    /// # Errors
    /// What the structure says.
    ///
    /// # Safety
    /// As [`sender`](Self::sender).
    unsafe fn receiver(&self, region: Region<Untrusted>, shape: &Shape) -> Result<Box<dyn Receiver>>;

    /// As [`sender`](Self::sender), in its segment; and the line that it pushes into, where that is not `number`.
    ///
    /// # Errors
    /// What the structure says.
    ///
    /// # Safety
    /// As [`sender`](Self::sender).
    unsafe fn sender_in(&self, segment: &Segment, number: u8) -> Result<(Box<dyn Sender>, u8)> {
        // SAFETY: the caller's promise.
        Ok((unsafe { self.sender(segment.region(), number) }?, number))
    }

    /// As [`receiver`](Self::receiver), in its segment.
    ///
    /// # Errors
    /// What the structure says.
    ///
    /// # Safety
    /// As [`sender`](Self::sender).
    unsafe fn receiver_in(&self, segment: &Segment, shape: &Shape) -> Result<Box<dyn Receiver>> {
        // SAFETY: the caller's promise.
        unsafe { self.receiver(segment.region(), shape) }
    }

    /// Looks at what is left when everybody is gone.
    ///
    /// # Errors
    /// What is not as it should be.
    fn left_behind(&self, _segment: &Segment) -> Result<()> {
        Ok(())
    }

    /// Finds the whole messages that lie in a hand, up to the first that is not.
    fn read_hand(&self, hand: &[u8], found: &mut dyn FnMut(Option<(u32, u64)>, u32));

    /// The units that may be consumed and not yet released, and the largest waste by framing.
    fn laziness(&self, shape: &Shape) -> (u64, u64);

    /// Whether messages of different producers keep the order in which they were pushed.
    fn ordered(&self) -> bool {
        true
    }

    /// What it promises.
    fn promise(&self, shape: &Shape, clock: Clock) -> Promise {
        let (lazy, waste) = self.laziness(shape);
        Promise {
            ordered: self.ordered(),
            clock: clock == Clock::Counter,
            settle: Clock::SETTLE,
            again: lazy,
            room: Some(Room { capacity: shape.capacity as u64, lazy: lazy + waste }),
            drained: true,
        }
    }
}

/// Everything that can be put under stress; runs have their own table, with the sizes that were asked for.
pub(crate) fn table() -> Vec<Box<dyn Subject>> {
    let mut all: Vec<Box<dyn Subject>> = vec![
        Box::new(Fixed::<1>::default()),
        Box::new(Fixed::<8>::default()),
        Box::new(Fixed::<128>::default()),
        Box::new(Records::default()),
    ];
    for twin in Twin::ALL {
        all.push(Box::new(Broken { twin, ring: Fixed::default() }));
    }
    for lossy in [None, Some(1)] {
        all.push(Box::new(Bundle { producers: 3, ring: Fixed::default(), lossy }));
    }
    all.push(Box::new(Hasty::new()));
    all.extend(mpsc::table());
    all
}

/// The name of a message: producer and sequence in 48 bits. No name is 0, so no message begins with zeros.
#[inline(always)]
pub(crate) fn name(producer: u32, seq: u64) -> u64 {
    u64::from(producer.wrapping_add(1) & 0xffff) << 32 | seq & u64::from(u32::MAX)
}

/// Producer and sequence of a name, if it is one.
#[inline(always)]
pub(crate) fn parts(name: u64) -> Option<(u32, u64)> {
    Some((((name >> 32) as u32).checked_sub(1)?, name & u64::from(u32::MAX)))
}

/// Producer and sequence of a message of whole words, if it is one.
#[inline(always)]
pub(crate) fn read(words: &[u64]) -> Option<(u32, u64)> {
    let name = message::name_of(*words.first()?)?;
    if message::is(words, name) { parts(name) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_producer_and_sequence_and_zeros_are_no_message() {
        for (producer, seq) in [(0, 0), (1, 77), (NOBODY, u64::from(u32::MAX))] {
            let mut words = [0; 8];
            message::fill(&mut words, name(producer, seq));
            assert_eq!(read(&words), Some((producer, seq)));
            words[7] ^= 1;
            assert_eq!(read(&words), None);
        }
        assert_eq!(read(&[0]), None);
    }

    /// Else a message that comes again, or a refusal for want of room, would always be excused.
    #[test]
    fn what_is_excused_stays_below_the_capacity() {
        for subject in table() {
            let (least, most) = subject.capacities();
            for capacity in [least, 2 * least, most] {
                let shape = Shape { capacity, release_every: capacity as u64 / 8 };
                let promise = subject.promise(&shape, Clock::Counter);
                let name = subject.structure();
                assert!(2 * promise.again <= capacity as u64, "{name}: {} of {capacity}", promise.again);
                let lazy = promise.room.unwrap().lazy;
                assert!(5 * lazy <= 3 * capacity as u64, "{name}: {lazy} of {capacity}");
            }
        }
    }

    #[test]
    fn every_structure_reads_its_own_hand() {
        for subject in table() {
            let mut found = 0;
            subject.read_hand(&[0; 4096], &mut |_, _| found += 1);
            assert_eq!(found, 0, "{}", subject.structure());
            let (least, most) = subject.capacities();
            for capacity in [least, most] {
                let shape = Shape { capacity, release_every: 1 };
                let batch = subject.batch(&shape);
                assert!((1..=u32::try_from(BATCH).unwrap()).contains(&batch), "{}", subject.structure());
                assert!(subject.bytes(&shape).unwrap() > capacity);
            }
        }
    }
}
