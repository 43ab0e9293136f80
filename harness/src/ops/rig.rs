//! Both kinds of ring behind one face, so that their operations are one table.
//!
//! A message is its number: everything else in it follows from the number, so that a message that is torn
//! anywhere is seen. All of it works without allocating, since the explorer steps it.

use std::ptr::NonNull;
use std::sync::Arc;

use tidewire_ring::{
    AttachError, Options, Owner, PopError, PushError, RecordPopError, RecordPushError, Tuning, bytes, fixed,
};
use tidewire_shm::{Origin, Region, RoleStride, Untrusted};

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Done,
    Full,
    Corrupt,
}

/// What became of a pop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Popped {
    Message(u64),
    Torn,
    Empty,
    Corrupt,
}

/// The most messages that one operation moves.
pub(super) const MOST: usize = 4;

/// A ring of one kind, and what its handles can do.
///
/// Handles are untrusted ones: those are the default, and every byte goes through the validating paths.
pub(super) trait Rig: 'static {
    type Ring;
    type Producer: 'static;
    type Consumer: 'static;

    const STRUCTURE: &'static str;
    /// Elements that the structure's positions count.
    const CAPACITY: u64;
    /// Messages that surely fit.
    const FITS: u64;
    /// Whether positions are known to take exactly [`FITS`](Self::FITS) messages, and batches are taken in one step.
    const EXACT: bool;
    /// The number of a message that goes over the wrap: what comes before fills the ring's first lap.
    const WRAPS: u64;
    /// Elements after which a consumer that releases late does.
    const LATE: u64;

    fn bytes() -> usize;
    fn create(region: Region<Untrusted>) -> Result<Self::Ring, String>;
    fn open(region: Region<Untrusted>) -> Result<Self::Ring, AttachError>;
    fn producer(ring: &Self::Ring) -> Result<Self::Producer, AttachError>;
    fn consumer(ring: &Self::Ring) -> Result<Self::Consumer, AttachError>;
    fn producer_owner(ring: &Self::Ring) -> Option<Owner>;
    fn consumer_owner(ring: &Self::Ring) -> Option<Owner>;
    /// # Safety
    /// As the ring's own.
    unsafe fn replace_producer(ring: &Self::Ring, dead: Owner) -> Result<Self::Producer, AttachError>;
    /// # Safety
    /// As the ring's own.
    unsafe fn replace_consumer(ring: &Self::Ring, dead: Owner) -> Result<Self::Consumer, AttachError>;
    fn push(producer: &mut Self::Producer, id: u64) -> Pushed;
    /// Pushes messages `first ..` with one publication.
    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed;
    /// Reserves room for one message, writes it in place, and commits or aborts.
    fn reserve(producer: &mut Self::Producer, id: u64, commit: bool) -> Pushed;
    fn pop(consumer: &mut Self::Consumer) -> Popped;
    /// Pops up to `to.len()` messages in one go; what did not come is left as it was.
    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]);
    /// Reads in place and consumes one message of what it read.
    fn pop_in_place(consumer: &mut Self::Consumer) -> Popped;
    /// Looks without consuming; the number of the message found is what [`peeked`](Self::peeked) says.
    fn peek(consumer: &mut Self::Consumer) -> Popped;
    fn release(consumer: &mut Self::Consumer);
    /// Offsets of the words that a consumer at `head` believes: the tail, and what it reads there.
    fn believed_at(head: u64) -> Vec<usize>;
    /// Offset of the word that a producer believes: the head.
    fn head_word() -> usize;
    fn position(consumer: &Self::Consumer) -> u64;
    fn tail(producer: &Self::Producer) -> u64;
    /// Makes the consumer publish its position after this many elements.
    fn tune(consumer: &mut Self::Consumer, release_every: u64);
    /// Elements of padding before message `id` at `position`, and of the message.
    fn elements(position: u64, id: u64) -> (u64, u64);
    /// Elements that [`reserve`](Self::reserve) needs at `position`, padding included.
    fn reserved(position: u64) -> u64;
    /// What [`peek`](Self::peek) says of message `id`.
    fn peeked(id: u64) -> u64;
    /// The most that a peek can say in a ring that holds messages below `end` and lies about its control words.
    fn peeked_most(end: u64) -> u64;
    /// Offsets of the owner words.
    fn owner_words() -> [usize; 2];
}

/// A region over the explorer's segment.
pub(super) fn region(segment: NonNull<u8>, bytes: usize) -> Result<Region<Untrusted>, String> {
    // SAFETY: the segment is mapped as long as the process, zeroed, and accessed by the explorer only while the
    // processes that use it are stopped or dead.
    unsafe { Region::from_raw_parts(segment, bytes, Origin::default(), Arc::new(())) }
        .map_err(|error| error.to_string())
}

/// Word `i` of message `id`.
fn word(id: u64, i: u64) -> u64 {
    (id ^ i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29) ^ id
}

const WORDS: usize = 4;
type Message = [u64; WORDS];

fn message(id: u64) -> Message {
    [id, word(id, 1), word(id, 2), word(id, 3)]
}

fn number(found: Message) -> Popped {
    let [id, ..] = found;
    if found == message(id) { Popped::Message(id) } else { Popped::Torn }
}

/// A ring of four slots of 32 bytes.
pub(super) struct Fixed;

const FIXED_CAPACITY: usize = 4;

impl From<PushError> for Pushed {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full => Self::Full,
            PushError::Corrupt(_) => Self::Corrupt,
        }
    }
}

impl From<RecordPushError> for Pushed {
    fn from(error: RecordPushError) -> Self {
        match error {
            RecordPushError::Full | RecordPushError::TooLong { .. } => Self::Full,
            RecordPushError::Corrupt(_) => Self::Corrupt,
        }
    }
}

impl From<PopError> for Popped {
    fn from(error: PopError) -> Self {
        match error {
            PopError::Empty => Self::Empty,
            PopError::Corrupt(_) => Self::Corrupt,
        }
    }
}

impl From<RecordPopError> for Popped {
    fn from(error: RecordPopError) -> Self {
        match error {
            RecordPopError::Empty => Self::Empty,
            RecordPopError::BufferTooSmall { .. } => Self::Torn,
            RecordPopError::Corrupt(_) => Self::Corrupt,
        }
    }
}

fn pushed<E: Into<Pushed>>(result: Result<(), E>) -> Pushed {
    result.map_or_else(Into::into, |()| Pushed::Done)
}

/// What became of a reservation that was made: to write and to commit what was reserved cannot fail.
fn reserved(well: bool) -> Pushed {
    if well { Pushed::Done } else { Pushed::Corrupt }
}

impl Rig for Fixed {
    type Ring = fixed::Ring<Message, Untrusted>;
    type Producer = fixed::Producer<Message, Untrusted>;
    type Consumer = fixed::Consumer<Message, Untrusted>;

    const STRUCTURE: &'static str = "ring-fixed";
    const CAPACITY: u64 = FIXED_CAPACITY as u64;
    const FITS: u64 = FIXED_CAPACITY as u64;
    const EXACT: bool = true;
    const WRAPS: u64 = 3;
    const LATE: u64 = 3;

    fn bytes() -> usize {
        Self::Ring::bytes(FIXED_CAPACITY, &Options::new()).unwrap_or(0)
    }

    fn create(region: Region<Untrusted>) -> Result<Self::Ring, String> {
        Self::Ring::create(region, FIXED_CAPACITY, &Options::new()).map_err(|error| error.to_string())
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
        pushed(producer.push(message(id)))
    }

    fn push_batch(producer: &mut Self::Producer, first: u64, n: usize) -> Pushed {
        let mut batch = [Message::default(); MOST];
        for (to, id) in batch.iter_mut().zip(first..) {
            *to = message(id);
        }
        pushed(producer.push_slice(batch.get(..n).unwrap_or_default()))
    }

    fn reserve(producer: &mut Self::Producer, id: u64, commit: bool) -> Pushed {
        match producer.reserve(2) {
            Ok(mut slots) => {
                let set = slots.set(0, &[message(id)]).is_ok();
                reserved(set && (!commit || slots.commit(1).is_ok()))
            }
            Err(error) => error.into(),
        }
    }

    fn pop(consumer: &mut Self::Consumer) -> Popped {
        consumer.pop().map_or_else(Into::into, number)
    }

    fn pop_batch(consumer: &mut Self::Consumer, to: &mut [Popped]) {
        let mut buffer = [Message::default(); MOST];
        let most = to.len().min(MOST);
        match consumer.pop_into(buffer.get_mut(..most).unwrap_or_default()) {
            Ok(n) => to.iter_mut().zip(buffer).take(n).for_each(|(to, found)| *to = number(found)),
            Err(error) => to.iter_mut().take(1).for_each(|to| *to = error.into()),
        }
    }

    fn pop_in_place(consumer: &mut Self::Consumer) -> Popped {
        let chunk = match consumer.read_chunk(2) {
            Ok(chunk) => chunk,
            Err(error) => return error.into(),
        };
        let mut found = [Message::default()];
        if chunk.get(0, &mut found).is_err() || chunk.release(1).is_err() {
            return Popped::Torn;
        }
        let [found] = found;
        number(found)
    }

    fn peek(consumer: &mut Self::Consumer) -> Popped {
        consumer.peek().map_or_else(Into::into, number)
    }

    fn release(consumer: &mut Self::Consumer) {
        consumer.release();
    }

    fn believed_at(_head: u64) -> Vec<usize> {
        vec![128]
    }

    fn head_word() -> usize {
        256
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

    fn elements(_position: u64, _id: u64) -> (u64, u64) {
        (0, 1)
    }

    fn reserved(_position: u64) -> u64 {
        2
    }

    fn peeked(id: u64) -> u64 {
        id
    }

    fn peeked_most(end: u64) -> u64 {
        end
    }

    fn owner_words() -> [usize; 2] {
        [384, 512]
    }
}

/// A ring of 128 bytes of records of 8 to 20 bytes.
pub(super) struct Bytes;

const BYTES_CAPACITY: usize = 128;
const LONGEST: usize = 20;
/// More than the longest, so that a commit gives some of it back.
const RESERVED: usize = LONGEST + 4;

/// Eight bytes of number and up to twelve that follow from it.
fn record(id: u64, buffer: &mut [u8; LONGEST]) -> &[u8] {
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
