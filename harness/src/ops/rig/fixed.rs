//! Rings of fixed slots behind the face.

use tidewire_ring::{AttachError, Options, Owner, Tuning, fixed};
use tidewire_shm::{Region, Untrusted};

use super::{MOST, Popped, Pushed, Rig, pushed, reserved, word};

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
pub(crate) struct Fixed;

const FIXED_CAPACITY: usize = 4;

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
