//! Rings of byte records behind the face.

use tidewire_ring::{AttachError, Options, Owner, Tuning, bytes};
use tidewire_shm::{Region, RoleStride, Untrusted};

use super::{Popped, Pushed, Rig, pushed, reserved, word};

/// A ring of 128 bytes of records of 8 to 20 bytes.
pub(crate) struct Bytes;

const BYTES_CAPACITY: usize = 128;
const LONGEST: usize = 20;
/// More than the longest, so that a commit gives some of it back.
const RESERVED: usize = LONGEST + 4;

/// Eight bytes of number and up to twelve that follow from it.
pub(crate) fn record(id: u64, buffer: &mut [u8; LONGEST]) -> &[u8] {
    for (i, chunk) in buffer.chunks_mut(8).enumerate() {
        let word = if i == 0 { id } else { word(id, i as u64) };
        for (to, from) in chunk.iter_mut().zip(word.to_le_bytes()) {
            *to = from;
        }
    }
    buffer.get(..record_len(id)).unwrap_or_default()
}

fn record_len(id: u64) -> usize {
    8 + usize::try_from(id * 5 % 13).unwrap_or(0)
}

/// Bytes of padding before a record of `len` bytes at `position`, and of the record with its frame, as the format
/// says: a record is a frame of eight bytes and a payload rounded up to eights, and does not go over the wrap.
fn framed(position: u64, len: usize) -> (u64, u64) {
    let size = 8 + len.next_multiple_of(8) as u64;
    let rest = Bytes::CAPACITY - position % Bytes::CAPACITY;
    (if size > rest { rest } else { 0 }, size)
}

fn record_number(found: &[u8]) -> Popped {
    let Some(id) = found.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Popped::Torn;
    };
    // A number of a lying peer may be anything: the length is computed only from plausible ones.
    if id > u64::from(u32::MAX) {
        return Popped::Torn;
    }
    let mut buffer = [0; LONGEST];
    if record(id, &mut buffer) == found { Popped::Message(id) } else { Popped::Torn }
}

impl Rig for Bytes {
    type Ring = bytes::Ring<Untrusted>;
    type Producer = bytes::Producer<Untrusted>;
    type Consumer = bytes::Consumer<Untrusted>;

    const STRUCTURE: &'static str = "ring-bytes";
    const CAPACITY: u64 = BYTES_CAPACITY as u64;
    // Three records of at most 32 framed bytes and padding of at most 24.
    const FITS: u64 = 3;
    const EXACT: bool = false;
    // Framed, the records before it take 16, 24, 32, 24 and 24 bytes, and it takes 32.
    const WRAPS: u64 = 5;
    const LATE: u64 = 64;

    fn bytes() -> usize {
        Self::Ring::bytes(BYTES_CAPACITY, &options()).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Ring, String> {
        Self::Ring::create(region, BYTES_CAPACITY, &options()).map_err(|error| error.to_string())
    }

    fn open(region: Region<Untrusted>) -> Result<Self::Ring, AttachError> {
        Self::Ring::open(region, 0)
    }

    fn producer(ring: &Self::Ring) -> Result<Self::Producer, AttachError> {
        ring.producer()
    }

    fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, AttachError> {
        let mut consumer = ring.consumer()?;
        Self::tune(&mut consumer, 1);
        Ok(consumer)
    }

    fn producer_owner(ring: &Self::Ring) -> Option<Owner> {
        ring.producer_owner()
    }

    fn consumer_owner(ring: &Self::Ring) -> Option<Owner> {
        ring.consumer_owner()
    }

    unsafe fn replace_producer(ring: &Self::Ring, dead: Owner) -> Result<Self::Producer, AttachError> {
        // SAFETY: the caller's promise.
        unsafe { ring.replace_producer(dead) }
    }

    unsafe fn replace_consumer(ring: &Self::Ring, dead: Owner) -> Result<Self::Consumer, AttachError> {
        // SAFETY: the caller's promise.
        let mut consumer = unsafe { ring.replace_consumer(dead) }?;
        Self::tune(&mut consumer, 1);
        Ok(consumer)
    }

    fn push(producer: &mut Self::Producer, id: u64) -> Pushed {
        pushed(producer.push(record(id, &mut [0; LONGEST])))
    }

    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed {
        let mut batch = producer.batch();
        for id in (first..).take(n) {
            if let Err(error) = batch.push(record(id, &mut [0; LONGEST])) {
                return error.into();
            }
        }
        batch.commit();
        Pushed::Done
    }

    fn reserve(producer: &mut Self::Producer, id: u64, commit: bool) -> Pushed {
        match producer.reserve(RESERVED) {
            Ok(mut place) => {
                let mut buffer = [0; LONGEST];
                let record = record(id, &mut buffer);
                let set = place.set(0, record).is_ok();
                reserved(set && (!commit || place.commit(record.len()).is_ok()))
            }
            Err(error) => error.into(),
        }
    }

    fn pop(consumer: &mut Self::Consumer) -> Popped {
        let mut buffer = [0; LONGEST];
        match consumer.pop_into(&mut buffer) {
            Ok(n) => record_number(buffer.get(..n).unwrap_or_default()),
            Err(error) => error.into(),
        }
    }

    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]) {
        for to in to {
            *to = Self::pop(consumer);
            if !matches!(to, Popped::Message(_)) {
                break;
            }
        }
    }

    fn pop_in_place(consumer: &mut Self::Consumer) -> Popped {
        let mut buffer = [0; LONGEST];
        match consumer.pop() {
            Ok(record) => {
                let n = record.len();
                match buffer.get_mut(..n).map(|to| record.get(0, to)) {
                    Some(Ok(())) => {}
                    _ => return Popped::Torn,
                }
                drop(record);
                record_number(buffer.get(..n).unwrap_or_default())
            }
            Err(error) => error.into(),
        }
    }

    fn peek(consumer: &mut Self::Consumer) -> Popped {
        match consumer.peek_len() {
            // A length is all that a peek of a record says.
            Ok(n) => Popped::Message(n as u64),
            Err(error) => error.into(),
        }
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn believed_at(head: u64) -> Vec<usize> {
        let data = Self::bytes() - BYTES_CAPACITY;
        let frame = usize::try_from(head % Self::CAPACITY).unwrap_or(0);
        // The frame at the head, and the one that follows if that one is padding.
        vec![4096, data + frame, data]
    }

    fn head_word() -> usize {
        8448
    }

    fn position(consumer: &Self::Consumer) -> u64 {
        consumer.position()
    }

    fn tail(producer: &Self::Producer) -> u64 {
        producer.position()
    }

    fn tune(consumer: &mut Self::Consumer, release_every: u64) {
        consumer.tune(Tuning::default().release_every(release_every));
    }

    fn elements(position: u64, id: u64) -> (u64, u64) {
        framed(position, record_len(id))
    }

    fn reserved(position: u64) -> u64 {
        let (padding, size) = framed(position, RESERVED);
        padding + size
    }

    fn peeked(id: u64) -> u64 {
        record_len(id) as u64
    }

    fn peeked_most(_end: u64) -> u64 {
        Self::CAPACITY
    }

    fn owner_words() -> [usize; 2] {
        [4224, 8576]
    }
}

/// Records live in a ring of page stride, so that both layouts are stepped.
fn options() -> Options {
    Options::new().role_stride(RoleStride::Page)
}
