//! Rings of byte records, recorded.

use anyhow::Result;
use tidewire_ring::{Options, RecordPopError, RecordPushError, Tuning, bytes};
use tidewire_shm::{Region, Untrusted};

use super::{NOBODY, Pop, Push, Receiver, Refusal, Sender, Shape, Subject, name, parts};
use crate::history::PopDesk;
use crate::run::message;

impl From<RecordPushError> for Refusal {
    fn from(error: RecordPushError) -> Self {
        match error {
            RecordPushError::Full => Self::NotNow,
            error => Self::broken(error),
        }
    }
}

impl From<RecordPopError> for Refusal {
    fn from(error: RecordPopError) -> Self {
        match error {
            RecordPopError::Empty => Self::NotNow,
            error => Self::broken(error),
        }
    }
}

/// A ring of byte records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records {
    /// What the ring's creator named the element type.
    pub(crate) fingerprint: u64,
    /// Bytes of the shortest record, at least 8.
    pub(crate) shortest: usize,
    /// Bytes of the longest record, at most [`LONGEST`](Self::LONGEST).
    pub(crate) longest: usize,
}

impl Default for Records {
    fn default() -> Self {
        Self { fingerprint: 0, shortest: 8, longest: 79 }
    }
}

impl Records {
    /// The longest record that is recorded.
    pub(crate) const LONGEST: usize = 4096;
    /// Words that hold it.
    pub(super) const WORDS: usize = Self::LONGEST / 8;

    fn options(self) -> Options {
        Options::new().type_fingerprint(self.fingerprint)
    }

    pub(super) fn length(self, name: u64) -> usize {
        message::length(name, self.shortest, self.longest)
    }

    /// The record of this name.
    pub(super) fn lay_out(self, name: u64, words: &mut [u64; Self::WORDS]) -> &[u8] {
        let len = self.length(name);
        message::fill(words.get_mut(..len.div_ceil(8)).unwrap_or_default(), name);
        bytemuck::cast_slice(words).get(..len).unwrap_or_default()
    }

    /// The record of this name, and what memory held behind it, up to the longest.
    pub(super) fn lay_out_longest(self, name: u64, words: &mut [u64; Self::WORDS]) -> &[u8] {
        message::fill(words.get_mut(..self.longest.div_ceil(8)).unwrap_or_default(), name);
        bytemuck::cast_slice(words).get(..self.longest).unwrap_or_default()
    }

    /// Producer and sequence of a record, if it is one.
    pub(super) fn read(self, bytes: &[u8]) -> Option<(u32, u64)> {
        let first = bytes.first_chunk::<8>()?;
        let name = message::name_of(u64::from_ne_bytes(*first))?;
        if bytes.len() != self.length(name) {
            return None;
        }
        let whole = bytes.chunks(8).enumerate().all(|(place, found)| {
            let word = message::word(name, place).to_ne_bytes();
            word.get(..found.len()) == Some(found)
        });
        if whole { parts(name) } else { None }
    }
}

pub(super) const fn framed(len: usize) -> usize {
    (8 + len).next_multiple_of(8)
}

#[expect(clippy::cast_possible_truncation, reason = "at most 4104")]
pub(super) fn units_of(bytes: usize) -> u32 {
    framed(bytes) as u32
}

impl Subject for Records {
    fn structure(&self) -> &'static str {
        "ring-bytes"
    }

    fn payload_bytes(&self) -> u64 {
        (self.shortest + self.longest) as u64 / 2
    }

    fn capacities(&self) -> (usize, usize) {
        (1024, 1 << 16)
    }

    fn batch(&self, shape: &Shape) -> u32 {
        // A quarter of the capacity, for the same reason.
        u32::try_from(shape.capacity / 4 / framed(self.longest)).unwrap_or(1).clamp(1, 32)
    }

    fn bytes(&self, shape: &Shape) -> Result<usize> {
        Ok(bytes::Ring::<Untrusted>::bytes(shape.capacity, &self.options())?)
    }

    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()> {
        bytes::Ring::<Untrusted>::create(region, shape.capacity, &self.options())?;
        Ok(())
    }

    unsafe fn sender(&self, region: Region<Untrusted>, _number: u8) -> Result<Box<dyn Sender>> {
        let ring = bytes::Ring::<Untrusted>::open(region, self.fingerprint)?;
        let producer = match ring.producer_owner() {
            // SAFETY: the caller's promise: whoever had the role and did not give it back is dead.
            Some(dead) => unsafe { ring.replace_producer(dead)? },
            None => ring.producer()?,
        };
        Ok(Box::new(RecordSender { kind: *self, producer, words: [0; Self::WORDS] }))
    }

    unsafe fn receiver(&self, region: Region<Untrusted>, shape: &Shape) -> Result<Box<dyn Receiver>> {
        let ring = bytes::Ring::<Untrusted>::open(region, self.fingerprint)?;
        let mut consumer = match ring.consumer_owner() {
            // SAFETY: the caller's promise: whoever had the role and did not give it back is dead.
            Some(dead) => unsafe { ring.replace_consumer(dead)? },
            None => ring.consumer()?,
        };
        consumer.tune(Tuning::default().release_every(shape.release_every));
        Ok(Box::new(RecordReceiver { kind: *self, consumer, words: [0; Self::WORDS] }))
    }

    fn read_hand(&self, hand: &[u8], found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        let name = hand.first_chunk::<8>().and_then(|first| message::name_of(u64::from_ne_bytes(*first)));
        let Some(name) = name else { return };
        let len = self.length(name);
        if let Some(whole) = hand.get(..len).and_then(|hand| self.read(hand)) {
            found(Some(whole), units_of(len));
        }
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        let most = framed(self.longest) as u64;
        // The record in hand and the padding before it; and, in the ring, padding at the wrap and before a record,
        // which may have been reserved longer than it became.
        (shape.release_every + 2 * most, 3 * most)
    }
}

struct RecordSender {
    kind: Records,
    producer: bytes::Producer<Untrusted>,
    words: [u64; Records::WORDS],
}

impl Sender for RecordSender {
    fn units(&self, producer: u32, seq: u64, n: u32) -> u32 {
        (0..u64::from(n)).map(|i| units_of(self.kind.length(name(producer, seq + i)))).sum()
    }

    fn one_by_one(&self) -> bool {
        true
    }

    fn send(&mut self, how: Push, producer: u32, seq: u64) -> Result<(), Refusal> {
        let Self { kind, producer: ring, words } = self;
        match how {
            Push::One => ring.push(kind.lay_out(name(producer, seq), words))?,
            Push::Batch(n) => {
                let mut batch = ring.batch();
                for seq in (seq..).take(n as usize) {
                    batch.push(kind.lay_out(name(producer, seq), words))?;
                }
                batch.commit();
            }
            // Records are reserved one by one, longer than they become.
            Push::Commit { .. } => {
                let name = name(producer, seq);
                let mut reservation = ring.reserve(kind.longest)?;
                reservation.set(0, kind.lay_out_longest(name, words))?;
                reservation.commit(kind.length(name))?;
            }
            Push::Abort(_) => {
                let mut reservation = ring.reserve(kind.longest)?;
                reservation.set(0, kind.lay_out_longest(name(NOBODY, seq), words))?;
            }
        }
        Ok(())
    }
}

struct RecordReceiver {
    kind: Records,
    consumer: bytes::Consumer<Untrusted>,
    words: [u64; Records::WORDS],
}

impl RecordReceiver {
    /// Reads a record in place, and writes it down before it is released.
    fn in_place(&mut self, desk: &mut PopDesk) -> Result<(), Refusal> {
        desk.begin();
        let record = self.consumer.pop()?;
        let len = record.len();
        let message = match bytemuck::cast_slice_mut(&mut self.words).get_mut(..len) {
            Some(bytes) => {
                record.get(0, bytes)?;
                self.kind.read(bytes)
            }
            None => None,
        };
        desk.message(message, units_of(len));
        desk.settle();
        Ok(())
    }
}

impl Receiver for RecordReceiver {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        match how {
            Pop::One | Pop::Chunk(..) => self.in_place(desk)?,
            Pop::Peek => {
                desk.begin();
                let len = self.consumer.peek_len()?;
                let again = self.consumer.peek_len()?;
                if len != again {
                    return Err(Refusal::broken("a record changed its length between two looks"));
                }
                self.in_place(desk)?;
            }
            Pop::Into(_) => {
                let Self { kind, consumer, .. } = self;
                let n = desk.taking(kind.longest.next_multiple_of(8), 1, |hand| consumer.pop_into(hand))?;
                desk.messages_in_hand(|hand, note| {
                    note(hand.get(..n).and_then(|hand| kind.read(hand)), units_of(n));
                });
                desk.settle();
            }
            Pop::Drain(most) => {
                self.in_place(desk)?;
                for _ in 1..most {
                    match self.in_place(desk) {
                        Ok(()) => {}
                        Err(Refusal::NotNow) => break,
                        Err(broken) => return Err(broken),
                    }
                }
            }
            Pop::Release => self.consumer.release(),
        }
        Ok(())
    }
}
