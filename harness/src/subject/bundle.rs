//! A bundle: one ring of fixed slots for each producer, side by side in one region, and one consumer that looks at them
//! in turn.
//!
//! The plainest structure with several producers. Nobody uses it; it is there so that plans, journals and judges are
//! seen to treat several producers apart, with a right structure and with one that passes messages of one line over.

use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tidewire_ring::{Options, PopError, fixed};
use tidewire_shm::{LINE_BYTES, Region, Untrusted};

use super::{Fixed, Pop, Receiver, Refusal, Sender, Shape, Subject, consumer, read};
use crate::history::PopDesk;

/// A bundle of rings of eight-byte messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundle {
    pub(crate) producers: u8,
    pub(crate) ring: Fixed<1>,
    /// The line of which a message is passed over now and then.
    pub(crate) lossy: Option<u8>,
}

/// Messages of which one is passed over.
const PASSED: u64 = 1_000;
/// Messages that the consumer takes from one ring at a time.
const CHUNK: usize = 4;

impl Bundle {
    fn ring_bytes(capacity: usize) -> Result<usize> {
        let bytes = fixed::Ring::<[u64; 1], Untrusted>::bytes(capacity, &Options::new())?;
        Ok(bytes.next_multiple_of(LINE_BYTES))
    }

    /// Bytes of all rings.
    pub(crate) fn all_bytes(producers: u8, capacity: usize) -> Result<usize> {
        Ok(Self::ring_bytes(capacity)? * usize::from(producers))
    }

    /// The part of a region that is the ring of producer `number`.
    pub(crate) fn part(region: &Region<Untrusted>, number: u8, capacity: usize) -> Result<Region<Untrusted>> {
        let bytes = Self::ring_bytes(capacity)?;
        // SAFETY: a word of the region, for its address; kept with the part.
        let first = unsafe { region.atomic_u64(usize::from(number) * bytes) };
        // SAFETY: kept for the part alone.
        let whole = unsafe { region.alias() };
        let base = NonNull::new(first.as_ptr().cast::<u8>()).context("a region at no address")?;
        // SAFETY: `bytes` bytes of a region that is kept, used by the ring of this number only.
        let part = unsafe { Region::from_raw_parts(base, bytes, region.origin(), Arc::new(whole)) };
        Ok(part?)
    }

    fn parts(
        self,
        region: &Region<Untrusted>,
        capacity: usize,
    ) -> impl Iterator<Item = Result<Region<Untrusted>>> {
        (0..self.producers).map(move |number| Self::part(region, number, capacity))
    }

    /// The capacity of the first ring, which is that of all.
    fn capacity(self, region: &Region<Untrusted>) -> Result<usize> {
        // SAFETY: for a look at the header alone.
        let look = unsafe { region.alias() };
        Ok(fixed::Ring::<[u64; 1], Untrusted>::open(look, self.ring.fingerprint)?.capacity())
    }
}

impl Subject for Bundle {
    fn structure(&self) -> &'static str {
        if self.lossy.is_some() { "twin-bundle-lossy" } else { "twin-bundle" }
    }

    fn payload_bytes(&self) -> u64 {
        8
    }

    fn capacities(&self) -> (usize, usize) {
        (256, 256)
    }

    fn producers(&self) -> u8 {
        self.producers
    }

    fn ordered(&self) -> bool {
        false
    }

    fn batch(&self, shape: &Shape) -> u32 {
        self.ring.batch(shape)
    }

    fn bytes(&self, shape: &Shape) -> Result<usize> {
        Self::all_bytes(self.producers, shape.capacity)
    }

    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()> {
        self.parts(&region, shape.capacity).try_for_each(|part| self.ring.create(part?, shape))
    }

    unsafe fn sender(&self, region: Region<Untrusted>, number: u8) -> Result<Box<dyn Sender>> {
        let part = Self::part(&region, number, self.capacity(&region)?)?;
        // SAFETY: the caller's promise, for the one producer of this ring.
        unsafe { self.ring.sender(part, 0) }
    }

    unsafe fn receiver(&self, region: Region<Untrusted>, shape: &Shape) -> Result<Box<dyn Receiver>> {
        let consumers = self.parts(&region, shape.capacity).map(|part| {
            // SAFETY: the caller's promise.
            unsafe { consumer(part?, self.ring.fingerprint, shape) }
        });
        let consumers = consumers.collect::<Result<Vec<_>>>()?;
        Ok(Box::new(Consumers { consumers, next: 0, lossy: self.lossy, pops: 0 }))
    }

    fn read_hand(&self, _hand: &[u8], _found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        // Everything is read in place.
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        self.ring.laziness(shape)
    }
}

struct Consumers {
    consumers: Vec<fixed::Consumer<[u64; 1], Untrusted>>,
    next: usize,
    lossy: Option<u8>,
    pops: u64,
}

impl Receiver for Consumers {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        // Before the first of the rings is looked at: found empty, all of them were at one time.
        desk.begin();
        let count = self.consumers.len();
        for turn in 0..count {
            let number = (self.next + turn) % count.max(1);
            let Some(consumer) = self.consumers.get_mut(number) else { continue };
            if how == Pop::Release {
                consumer.release();
                continue;
            }
            let chunk = match consumer.read_chunk(CHUNK) {
                Ok(chunk) => chunk,
                Err(PopError::Empty) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut messages = [[0]; CHUNK];
            let n = chunk.len().min(CHUNK);
            chunk.get(0, messages.get_mut(..n).unwrap_or_default())?;
            let passes = self.lossy.is_some_and(|line| usize::from(line) == number);
            for message in messages.iter().take(n) {
                self.pops += 1;
                if !(passes && self.pops.is_multiple_of(PASSED)) {
                    desk.message(read(message), 1);
                }
            }
            desk.settle();
            chunk.release(n)?;
            self.next = number + 1;
            return Ok(());
        }
        if how == Pop::Release { Ok(()) } else { Err(Refusal::NotNow) }
    }
}
