//! Rings of fixed slots, recorded.

use anyhow::Result;
use tidewire_ring::{Options, PopError, PushError, TooMany, Tuning, fixed};
use tidewire_shm::{Region, Untrusted};

use super::{BATCH, NOBODY, Pop, Push, Receiver, Refusal, Sender, Shape, Subject, name, read};
use crate::history::{HAND_BYTES, PopDesk};
use crate::run::message;

impl From<PushError> for Refusal {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full => Self::NotNow,
            error @ PushError::Corrupt(_) => Self::broken(error),
        }
    }
}

impl From<PopError> for Refusal {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Empty => Self::NotNow,
            error @ PopError::Corrupt(_) => Self::broken(error),
        }
    }
}

impl From<TooMany> for Refusal {
    fn from(error: TooMany) -> Self {
        Self::broken(error)
    }
}

/// A ring of slots of `W` words.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fixed<const W: usize> {
    /// What the ring's creator named the element type.
    pub(crate) fingerprint: u64,
}

impl<const W: usize> Fixed<W> {
    fn options(self) -> Options {
        Options::new().type_fingerprint(self.fingerprint)
    }
}

/// Words that start the messages in a hand.
pub(super) fn words(bytes: &[u8], at: usize, to: &mut [u64]) -> Option<()> {
    let from = bytes.get(at..at + size_of_val(to))?;
    bytemuck::cast_slice_mut(to).copy_from_slice(from);
    Some(())
}

impl<const W: usize> Subject for Fixed<W> {
    fn structure(&self) -> &'static str {
        "ring-fixed"
    }

    fn payload_bytes(&self) -> u64 {
        size_of::<[u64; W]>() as u64
    }

    fn capacities(&self) -> (usize, usize) {
        (8, 1024)
    }

    fn batch(&self, shape: &Shape) -> u32 {
        // Small, so that what may come again and what may be free late stays well below the capacity.
        let most = (HAND_BYTES / size_of::<[u64; W]>()).clamp(1, BATCH);
        u32::try_from((shape.capacity / 8).clamp(1, most)).unwrap_or(1)
    }

    fn bytes(&self, shape: &Shape) -> Result<usize> {
        Ok(fixed::Ring::<[u64; W], Untrusted>::bytes(shape.capacity, &self.options())?)
    }

    fn create(&self, region: Region<Untrusted>, shape: &Shape) -> Result<()> {
        fixed::Ring::<[u64; W], Untrusted>::create(region, shape.capacity, &self.options())?;
        Ok(())
    }

    unsafe fn sender(&self, region: Region<Untrusted>, _number: u8) -> Result<Box<dyn Sender>> {
        let ring = fixed::Ring::<[u64; W], Untrusted>::open(region, self.fingerprint)?;
        let producer = match ring.producer_owner() {
            // SAFETY: the caller's promise: whoever had the role and did not give it back is dead.
            Some(dead) => unsafe { ring.replace_producer(dead)? },
            None => ring.producer()?,
        };
        Ok(Box::new(FixedSender { producer, batch: [[0; W]; BATCH] }))
    }

    unsafe fn receiver(&self, region: Region<Untrusted>, shape: &Shape) -> Result<Box<dyn Receiver>> {
        // SAFETY: the caller's promise.
        let consumer = unsafe { consumer(region, self.fingerprint, shape)? };
        Ok(Box::new(FixedReceiver { consumer, batch: [[0; W]; BATCH] }))
    }

    fn read_hand(&self, hand: &[u8], found: &mut dyn FnMut(Option<(u32, u64)>, u32)) {
        let mut message = [0; W];
        for place in 0..BATCH {
            let whole =
                words(hand, place * size_of_val(&message), &mut message).and_then(|()| read(&message));
            let Some(whole) = whole else { return };
            found(Some(whole), 1);
        }
    }

    fn laziness(&self, shape: &Shape) -> (u64, u64) {
        // A chunk in hand; and a reservation may ask for more than it commits.
        let batch = u64::from(self.batch(shape));
        (shape.release_every + batch, batch)
    }
}

/// The consuming end of a ring of slots, if need be taken over.
///
/// # Safety
/// As [`Subject::receiver`].
pub(crate) unsafe fn consumer<const W: usize>(
    region: Region<Untrusted>,
    fingerprint: u64,
    shape: &Shape,
) -> Result<fixed::Consumer<[u64; W], Untrusted>> {
    let ring = fixed::Ring::<[u64; W], Untrusted>::open(region, fingerprint)?;
    let mut consumer = match ring.consumer_owner() {
        // SAFETY: the caller's promise: whoever had the role and did not give it back is dead.
        Some(dead) => unsafe { ring.replace_consumer(dead)? },
        None => ring.consumer()?,
    };
    consumer.tune(Tuning::default().release_every(shape.release_every));
    Ok(consumer)
}

struct FixedSender<const W: usize> {
    producer: fixed::Producer<[u64; W], Untrusted>,
    batch: [[u64; W]; BATCH],
}

impl<const W: usize> FixedSender<W> {
    fn fill(&mut self, producer: u32, seq: u64, n: u32) -> &[[u64; W]] {
        let mut filled = 0;
        for (message, seq) in self.batch.iter_mut().zip(seq..).take(n as usize) {
            message::fill(message, name(producer, seq));
            filled += 1;
        }
        self.batch.get(..filled).unwrap_or_default()
    }
}

impl<const W: usize> Sender for FixedSender<W> {
    fn units(&self, _producer: u32, _seq: u64, n: u32) -> u32 {
        n
    }

    fn send(&mut self, how: Push, producer: u32, seq: u64) -> Result<(), Refusal> {
        match how {
            Push::One => {
                let mut message = [0; W];
                message::fill(&mut message, name(producer, seq));
                self.producer.push_from(&message)?;
            }
            Push::Batch(n) => {
                self.fill(producer, seq, n);
                self.producer.push_slice(self.batch.get(..n as usize).unwrap_or_default())?;
            }
            Push::Commit { reserved, kept } => {
                self.fill(producer, seq, kept);
                let mut reservation = self.producer.reserve(reserved as usize)?;
                reservation.set(0, self.batch.get(..kept as usize).unwrap_or_default())?;
                reservation.commit(kept as usize)?;
            }
            Push::Abort(n) => {
                self.fill(NOBODY, seq, n);
                let mut reservation = self.producer.reserve(n as usize)?;
                reservation.set(0, self.batch.get(..n as usize).unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

struct FixedReceiver<const W: usize> {
    consumer: fixed::Consumer<[u64; W], Untrusted>,
    batch: [[u64; W]; BATCH],
}

impl<const W: usize> FixedReceiver<W> {
    /// Into the hand: a pop that ends a period releases before it returns.
    fn pop_one(
        consumer: &mut fixed::Consumer<[u64; W], Untrusted>,
        desk: &mut PopDesk,
    ) -> Result<(), Refusal> {
        desk.taking(size_of::<[u64; W]>(), 1, |hand| {
            let place: &mut [[u64; W]] = bytemuck::cast_slice_mut(hand);
            place.first_mut().map_or(Ok(()), |place| consumer.pop_to(place))
        })?;
        desk.messages_in_hand(|hand, note| {
            let mut message = [0; W];
            note(words(hand, 0, &mut message).and_then(|()| read(&message)), 1);
        });
        desk.settle();
        Ok(())
    }
}

impl<const W: usize> Receiver for FixedReceiver<W> {
    fn receive(&mut self, how: Pop, desk: &mut PopDesk) -> Result<(), Refusal> {
        let Self { consumer, batch } = self;
        match how {
            Pop::One => Self::pop_one(consumer, desk)?,
            Pop::Peek => {
                let seen = consumer.peek()?;
                Self::pop_one(consumer, desk)?;
                let mut message = [0; W];
                words(&desk.book().hand(), 0, &mut message);
                if seen != message {
                    return Err(Refusal::broken("a message changed between peek and pop"));
                }
            }
            Pop::Chunk(most, keep) => {
                desk.begin();
                let chunk = consumer.read_chunk(most as usize)?;
                let n = chunk.len().clamp(1, BATCH);
                let k = 1 + usize::try_from(keep % n as u64).unwrap_or(0);
                let messages = batch.get_mut(..k).unwrap_or_default();
                chunk.get(0, messages)?;
                for message in messages {
                    desk.message(read(message), 1);
                }
                desk.settle();
                chunk.release(k)?;
            }
            Pop::Into(most) => {
                let size = size_of::<[u64; W]>();
                let n = desk.taking(size, most as usize, |hand| {
                    consumer.pop_into(bytemuck::cast_slice_mut::<u8, [u64; W]>(hand))
                })?;
                desk.messages_in_hand(|hand, note| {
                    let mut message = [0; W];
                    for place in 0..n {
                        note(words(hand, place * size, &mut message).and_then(|()| read(&message)), 1);
                    }
                });
                desk.settle();
            }
            Pop::Drain(most) => {
                Self::pop_one(consumer, desk)?;
                for _ in 1..most {
                    match Self::pop_one(consumer, desk) {
                        Err(Refusal::NotNow) => break,
                        done => done?,
                    }
                }
            }
            Pop::Release => consumer.release(),
        }
        Ok(())
    }
}
