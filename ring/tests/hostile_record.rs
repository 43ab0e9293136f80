//! Record frames that no correct producer writes.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod hostile_memory;

use hostile_memory::{LINE, Memory, assert_same};
use proptest::prelude::*;
use tidewire_ring::bytes::{Consumer, Producer, Ring};
use tidewire_ring::{Corrupt, CorruptWord, Options, RecordPopError};
use tidewire_shm::Untrusted;

const CAPACITY: usize = 256;
const MESSAGE: u32 = 1;
const PADDING: u32 = 2;

fn frame(kind: u32, len: u32) -> u64 {
    u64::from(kind) << 32 | u64::from(len)
}

fn framed(len: u32) -> u64 {
    (8 + u64::from(len)).next_multiple_of(8)
}

/// A ring whose producer published `window` bytes from position `head` on, whatever they are.
fn published(head: u64, window: u64) -> (Memory, Ring<Untrusted>, Consumer<Untrusted>) {
    let memory = Memory::new(Ring::<Untrusted>::bytes(CAPACITY, &Options::new()).unwrap());
    let ring = Ring::create(memory.region(), CAPACITY, &Options::new()).unwrap();
    memory.set_word(LINE.head, head);
    memory.set_word(LINE.tail, head + window);
    let consumer = ring.consumer().unwrap();
    (memory, ring, consumer)
}

fn set_frame(memory: &Memory, position: u64, frame: u64) {
    memory.set_word(LINE.data + position as usize % CAPACITY, frame);
}

/// What a consumer must make of these words: the length of the record at the head, or what was wrong with it.
fn verdict(memory: &Memory, head: u64, window: u64) -> Result<u32, Corrupt> {
    let load = |position: u64| memory.word(LINE.data + position as usize % CAPACITY);
    let corrupt = |found| Err(Corrupt { what: CorruptWord::Record, found });
    let rest = |position: u64| CAPACITY as u64 - position % CAPACITY as u64;
    let (mut position, mut left) = (head, window);
    let mut found = load(position);
    if found == frame(PADDING, (rest(position) - 8) as u32) {
        // Padding at the start of the data would be a whole lap of nothing; padding with nothing behind it, too.
        if rest(position) == CAPACITY as u64 || rest(position) >= left {
            return corrupt(found);
        }
        left -= rest(position);
        position += rest(position);
        found = load(position);
    }
    let len = (found & u64::from(u32::MAX)) as u32;
    if found >> 32 != u64::from(MESSAGE) || framed(len) > left.min(rest(position)) {
        return corrupt(found);
    }
    Ok(len)
}

/// Every way to read agrees with the verdict; after a corrupt frame the consumer is dead and writes nothing.
fn check(memory: &Memory, consumer: &mut Consumer<Untrusted>, expected: Result<u32, Corrupt>) {
    let result = consumer.peek_len();
    match expected {
        Ok(len) => {
            assert_eq!(result, Ok(len as usize));
            // The bytes in front of and behind the buffer are somebody else's.
            let mut to = vec![0xEE; len as usize + 32];
            if len > 0 {
                let needed = len;
                let short = &mut to[16..15 + len as usize];
                assert_eq!(consumer.pop_into(short), Err(RecordPopError::BufferTooSmall { needed }));
            }
            let before = memory.bytes();
            assert_eq!(consumer.pop_into(&mut to[16..16 + len as usize]), Ok(len as usize));
            assert!(to[..16].iter().chain(&to[16 + len as usize..]).all(|b| *b == 0xEE));
            // Touching changes no byte; only the head may have moved.
            let after = memory.bytes();
            assert_same(&before[LINE.data..], &after[LINE.data..]);
        }
        Err(corrupt) => {
            let (before, after) = (memory.bytes(), LINE.head + 8);
            assert_eq!(result, Err(RecordPopError::Corrupt(corrupt)));
            // A mended frame does not mend the handle.
            set_frame(memory, consumer.position(), frame(MESSAGE, 0));
            for _ in 0..2 {
                let mut to = [0xEE; CAPACITY];
                assert_eq!(consumer.peek_len(), Err(RecordPopError::Corrupt(corrupt)));
                assert_eq!(consumer.pop_into(&mut to), Err(RecordPopError::Corrupt(corrupt)));
                assert_eq!(consumer.pop().unwrap_err(), RecordPopError::Corrupt(corrupt));
                consumer.release();
                assert_eq!(consumer.corruption(), Some(corrupt));
                assert_eq!(to, [0xEE; CAPACITY]);
            }
            assert_same(&before[..after], &memory.bytes()[..after]);
        }
    }
    memory.assert_guards();
}

/// All lengths around every bound, and all kinds, at the start, in the middle and at the end of the data.
#[test]
fn every_frame_is_judged_by_window_and_data() {
    let kinds = [0, MESSAGE, PADDING, 3, 1 << 16 | MESSAGE, 1 << 31 | MESSAGE, u32::MAX];
    let mut seen = [0, 0];
    for head in [0, 8, 128, 240, 248, 256, 3 * 256 + 248] {
        for window in [8, 16, 24, 128, 248, 256] {
            for kind in kinds {
                let bounds = [0, window, CAPACITY as u64 - head % CAPACITY as u64, 1 << 31, 1 << 32];
                let lens = bounds
                    .iter()
                    .flat_map(|bound| (0..=24).map(move |n| (bound + n).wrapping_sub(12) as u32));
                for len in lens {
                    let (memory, _ring, mut consumer) = published(head, window);
                    set_frame(&memory, head, frame(kind, len));
                    let expected = verdict(&memory, head, window);
                    seen[usize::from(expected.is_ok())] += 1;
                    check(&memory, &mut consumer, expected);
                }
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 500), "one verdict is hardly tested: {seen:?}");
}

#[test]
fn padding_is_refused_at_the_start_alone_and_twice() {
    // At byte 0 it would be a lap of nothing.
    let (memory, _ring, mut consumer) = published(256, 256);
    let whole = frame(PADDING, CAPACITY as u32 - 8);
    set_frame(&memory, 256, whole);
    check(&memory, &mut consumer, Err(Corrupt { what: CorruptWord::Record, found: whole }));

    // With nothing published behind it.
    let (memory, _ring, mut consumer) = published(240, 16);
    set_frame(&memory, 240, frame(PADDING, 8));
    check(&memory, &mut consumer, Err(Corrupt { what: CorruptWord::Record, found: frame(PADDING, 8) }));

    // With padding behind it: one look sees two frames at the most.
    let (memory, _ring, mut consumer) = published(240, 256);
    set_frame(&memory, 240, frame(PADDING, 8));
    set_frame(&memory, 256, whole);
    check(&memory, &mut consumer, Err(Corrupt { what: CorruptWord::Record, found: whole }));

    // Short of the end, and beyond it.
    for len in [0, 7, 9, 16, u32::MAX] {
        let (memory, _ring, mut consumer) = published(240, 64);
        set_frame(&memory, 240, frame(PADDING, len));
        let found = frame(PADDING, len);
        check(&memory, &mut consumer, Err(Corrupt { what: CorruptWord::Record, found }));
    }

    // As it should be.
    let (memory, _ring, mut consumer) = published(240, 24);
    set_frame(&memory, 240, frame(PADDING, 8));
    set_frame(&memory, 256, frame(MESSAGE, 0));
    check(&memory, &mut consumer, Ok(0));
    assert_eq!(consumer.pop().unwrap_err(), RecordPopError::Empty);
}

/// The peer changes a frame after the look that validated it: the record in hand keeps its private length.
#[test]
fn a_frame_is_loaded_once() {
    let (memory, ring, mut consumer) = published(0, 0);
    let mut producer = ring.producer().unwrap();
    producer.push(&[7; 20]).unwrap();
    producer.push(&[8; 4]).unwrap();
    {
        let record = consumer.pop().unwrap();
        set_frame(&memory, 0, frame(MESSAGE, u32::MAX));
        assert_eq!(record.len(), 20);
        let mut to = [0; 20];
        record.get(0, &mut to).unwrap();
        assert_eq!(to, [7; 20]);
        assert!(record.get(1, &mut to).is_err());
    }
    // It was consumed as what it was, and the next one is found.
    let mut to = [0; 8];
    assert_eq!(consumer.pop_into(&mut to), Ok(4));
    assert_eq!(to[..4], [8; 4]);
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Frames that often pass: right kind, small length.
fn likely() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0..40_u32).prop_map(|len| frame(MESSAGE, len)),
        2 => (0..32_u32).prop_map(|n| frame(PADDING, n * 8)),
        1 => (0..4_u32, any::<u32>()).prop_map(|(kind, len)| frame(kind, len)),
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(config(1500))]

    /// Whatever lies in the data: a consumer reads exactly what a careful reader would, and stops.
    #[test]
    fn any_bytes_are_read_as_a_careful_reader_would(
        words in proptest::collection::vec(likely(), CAPACITY / 8),
        head in (0..1_u64 << 40).prop_map(|n| n * 8),
        window in (0..=CAPACITY as u64 / 8).prop_map(|n| n * 8),
        touch: bool,
    ) {
        let (memory, _ring, mut consumer) = published(head, window);
        consumer.tune(tidewire_ring::Tuning::default().touch(touch));
        for (i, word) in words.iter().enumerate() {
            memory.set_word(LINE.data + i * 8, *word);
        }
        let data = memory.bytes()[LINE.data..].to_vec();
        let tail = head + window;
        let mut records = 0;
        while consumer.position() != tail {
            let position = consumer.position();
            let expected = verdict(&memory, position, tail - position);
            let result = consumer.pop().map(|record| record.len() as u32);
            match expected {
                Ok(len) => prop_assert_eq!(result, Ok(len)),
                Err(corrupt) => {
                    prop_assert_eq!(result, Err(RecordPopError::Corrupt(corrupt)));
                    break;
                }
            }
            prop_assert!(consumer.position() > position);
            records += 1;
        }
        prop_assert!(records <= CAPACITY / 8);
        if consumer.corruption().is_none() {
            prop_assert_eq!(consumer.pop().unwrap_err(), RecordPopError::Empty);
            prop_assert_eq!(memory.word(LINE.head), tail);
        } else {
            prop_assert!(memory.word(LINE.head) - head <= window);
        }
        assert_same(&data, &memory.bytes()[LINE.data..]);
        memory.assert_guards();
    }

    /// A producer never reads the data: whatever lies there, it publishes the same.
    #[test]
    fn a_producer_ignores_what_lies_in_the_data(
        words in proptest::collection::vec(any::<u64>(), CAPACITY / 8),
        lens in proptest::collection::vec(0..130_usize, 1..12),
    ) {
        let run = |words: &[u64]| {
            let (memory, ring, consumer) = published(0, 0);
            drop(consumer);
            for (i, word) in words.iter().enumerate() {
                memory.set_word(LINE.data + i * 8, *word);
            }
            let mut producer: Producer<Untrusted> = ring.producer().unwrap();
            let results: Vec<_> = lens.iter().map(|len| producer.push(&vec![*len as u8; *len])).collect();
            let mut consumer = ring.consumer().unwrap();
            let mut records = Vec::new();
            while let Ok(record) = consumer.pop() {
                let mut bytes = vec![0; record.len()];
                record.get(0, &mut bytes).unwrap();
                records.push(bytes);
            }
            (results, records, consumer.corruption())
        };
        prop_assert_eq!(run(&words), run(&[]));
    }
}
