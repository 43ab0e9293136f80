//! Arbitrary bytes as a region.
//!
//! Input: one byte for the shape, one for the length of the script, the script, and the bytes of the region.

use bytemuck::Pod;
use tidewire_ring::fixed;
use tidewire_ring::{PopError, RecordPopError, bytes};
use tidewire_shm::Untrusted;

use crate::memory::Memory;
use crate::tape::Tape;

/// The longest region, from which bytes on the input are ignored.
const MOST_BYTES: usize = 1 << 15;

/// Opens the bytes as each kind of ring, takes the roles, and works with scribbles in between.
pub fn attach(input: &[u8]) {
    let mut tape = Tape::new(input);
    let shape = tape.byte();
    let script: Vec<u8> = (0..tape.byte() % 64).map(|_| tape.byte()).collect();
    let image = tape.rest();
    let memory = Memory::new(image.len().min(MOST_BYTES), image);
    #[cfg(feature = "planted")]
    planted::open(&memory);
    match shape % 3 {
        0 => fixed_ring::<u64>(&memory, &script),
        1 => fixed_ring::<[u64; 8]>(&memory, &script),
        _ => byte_ring(&memory, &script),
    }
}

fn fixed_ring<T: Pod + Default>(memory: &Memory, script: &[u8]) {
    let Ok(ring) = fixed::Ring::<T, Untrusted>::open(memory.region(), 0) else {
        return;
    };
    let owners = (ring.producer_owner(), ring.consumer_owner());
    let producer = match owners.0 {
        // SAFETY: nothing else runs on this memory.
        Some(dead) => unsafe { ring.replace_producer(dead) },
        None => ring.producer(),
    };
    let consumer = match owners.1 {
        // SAFETY: nothing else runs on this memory.
        Some(dead) => unsafe { ring.replace_consumer(dead) },
        None => ring.consumer(),
    };
    let (Ok(mut producer), Ok(mut consumer)) = (producer, consumer) else {
        return;
    };
    let capacity = ring.capacity();
    let value = T::zeroed();
    let mut buffer = [value; 5];
    let mut tape = Tape::new(script);
    while let Some(operation) = tape.next() {
        match operation % 10 {
            0 => _ = producer.push(value),
            1 => _ = producer.push_slice(&buffer),
            2 => {
                if let Ok(mut reservation) = producer.reserve(usize::from(tape.byte() % 8)) {
                    let n = reservation.len();
                    assert!(reservation.set(n, &[value]).is_err());
                    _ = reservation.set(n / 2, &[value]);
                    assert!(reservation.commit(n).is_ok());
                }
            }
            3 => {
                let before = consumer.position();
                let popped = consumer.pop();
                let expected = u64::from(popped.is_ok());
                assert_eq!(consumer.position().wrapping_sub(before), expected);
                if let Err(PopError::Corrupt(corrupt)) = popped {
                    assert_eq!(consumer.pop().err(), Some(PopError::Corrupt(corrupt)), "the latch holds");
                }
            }
            4 => _ = consumer.peek(),
            5 => {
                if let Ok(n) = consumer.pop_into(&mut buffer) {
                    assert!((1..=buffer.len().min(capacity)).contains(&n));
                }
            }
            6 => {
                if let Ok(chunk) = consumer.read_chunk(4) {
                    assert!((1..=4).contains(&chunk.len()));
                    let n = chunk.len();
                    assert!(chunk.get(0, &mut buffer[..n]).is_ok());
                    assert!(chunk.release(n).is_ok());
                }
            }
            7 => consumer.release(),
            _ => memory.scribble(usize::from(tape.u16()), tape.u64()),
        }
        assert!(producer.len() <= capacity && consumer.len() <= capacity);
    }
}

fn byte_ring(memory: &Memory, script: &[u8]) {
    let Ok(ring) = bytes::Ring::<Untrusted>::open(memory.region(), 0) else {
        return;
    };
    let owners = (ring.producer_owner(), ring.consumer_owner());
    let producer = match owners.0 {
        // SAFETY: nothing else runs on this memory.
        Some(dead) => unsafe { ring.replace_producer(dead) },
        None => ring.producer(),
    };
    let consumer = match owners.1 {
        // SAFETY: nothing else runs on this memory.
        Some(dead) => unsafe { ring.replace_consumer(dead) },
        None => ring.consumer(),
    };
    let (Ok(mut producer), Ok(mut consumer)) = (producer, consumer) else {
        return;
    };
    let capacity = ring.capacity();
    let mut buffer = [0_u8; 96];
    let mut tape = Tape::new(script);
    while let Some(operation) = tape.next() {
        let len = usize::from(tape.byte()) % buffer.len();
        match operation % 10 {
            0 => _ = producer.push(&buffer[..len]),
            1 => {
                let mut batch = producer.batch();
                _ = batch.push(&buffer[..len]);
                _ = batch.push(&buffer[..len / 2]);
                batch.commit();
            }
            2 => {
                if let Ok(mut reservation) = producer.reserve(len) {
                    assert!(reservation.set(len, &[1]).is_err());
                    assert!(reservation.set(0, &buffer[..len]).is_ok());
                    assert!(reservation.commit(len / 2).is_ok());
                }
            }
            3 => match consumer.pop_into(&mut buffer[..len]) {
                Ok(n) => assert!(n <= len),
                Err(RecordPopError::BufferTooSmall { needed }) => {
                    assert!((len + 1..=capacity - 8).contains(&(needed as usize)));
                }
                Err(RecordPopError::Corrupt(corrupt)) => {
                    assert_eq!(consumer.peek_len(), Err(RecordPopError::Corrupt(corrupt)), "the latch holds");
                }
                Err(RecordPopError::Empty) => {}
            },
            4 => {
                if let Ok(record) = consumer.pop() {
                    let n = record.len().min(buffer.len());
                    assert!(record.len() <= capacity - 8);
                    assert!(record.get(0, &mut buffer[..n]).is_ok());
                    assert!(record.get(record.len(), &mut [0]).is_err());
                }
            }
            5 => {
                if let Ok(n) = consumer.peek_len() {
                    assert!(n <= capacity - 8);
                }
            }
            6 => consumer.release(),
            _ => memory.scribble(usize::from(tape.u16()), tape.u64()),
        }
        assert!(producer.len() <= capacity && consumer.len() <= capacity);
    }
}

/// An opener that believes the capacity of an otherwise valid header.
#[cfg(feature = "planted")]
mod planted {
    use tidewire_shm::Header;

    use crate::memory::Memory;

    pub(super) fn open(memory: &Memory) {
        let region = memory.region();
        if let Ok(header) = Header::read(&region) {
            let last = header.data_offset.wrapping_add(header.capacity.wrapping_mul(header.element_bytes));
            if last > region.len() as u64 {
                crate::planted::strikes();
                panic!("read beyond the region");
            }
        }
    }
}
