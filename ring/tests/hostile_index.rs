//! Positions that no correct peer publishes: at attach, and between any two operations.
#![cfg(not(loom))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod hostile_memory;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostile_memory::{LINE, Memory, STRIDES, assert_same, element};
use proptest::prelude::*;
use tidewire_ring::{
    AttachError, Corrupt, CorruptWord, Options, PopError, PushError, RecordPopError, RecordPushError, bytes,
    fixed,
};
use tidewire_shm::Untrusted;

type FixedRing = fixed::Ring<u64, Untrusted>;
type FixedPair = (fixed::Producer<u64, Untrusted>, fixed::Consumer<u64, Untrusted>);
type BytesRing = bytes::Ring<Untrusted>;
type BytesPair = (bytes::Producer<Untrusted>, bytes::Consumer<Untrusted>);

const CAPACITY: usize = 16;
const BYTES: usize = 256;

fn fixed_ring() -> (Memory, FixedRing) {
    let memory = Memory::new(FixedRing::bytes(CAPACITY, &Options::new()).unwrap());
    let ring = FixedRing::create(memory.region(), CAPACITY, &Options::new()).unwrap();
    (memory, ring)
}

fn fixed_pair() -> (Memory, FixedPair) {
    let (memory, ring) = fixed_ring();
    (memory, ring.split().unwrap())
}

fn bytes_ring() -> (Memory, BytesRing) {
    let memory = Memory::new(BytesRing::bytes(BYTES, &Options::new()).unwrap());
    let ring = BytesRing::create(memory.region(), BYTES, &Options::new()).unwrap();
    (memory, ring)
}

fn bytes_pair() -> (Memory, BytesPair) {
    let (memory, ring) = bytes_ring();
    (memory, ring.split().unwrap())
}

/// Values that bounds checks tend to get wrong, around a position.
fn near(position: u64, capacity: u64) -> impl Strategy<Value = u64> {
    let offsets = [0, 1, 7, 8, capacity - 1, capacity, capacity + 1, capacity + 8, 1 << 31, 1 << 32, 1 << 63];
    prop_oneof![
        2 => any::<u64>(),
        3 => (0..=2 * capacity + 16).prop_map(move |n| position.wrapping_add(n).wrapping_sub(capacity + 8)),
        1 => proptest::sample::select(offsets.to_vec()).prop_map(move |n| position.wrapping_add(n)),
        1 => proptest::sample::select(offsets.to_vec()).prop_map(move |n| position.wrapping_sub(n)),
        1 => Just(u64::MAX),
        1 => Just(0),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What an attach must say to these positions.
fn verdict(tail: u64, head: u64, capacity: u64, grain: u64) -> Result<(), Corrupt> {
    if !head.is_multiple_of(grain) {
        return Err(Corrupt { what: CorruptWord::Head, found: head });
    }
    if !tail.is_multiple_of(grain) || tail.wrapping_sub(head) > capacity {
        return Err(Corrupt { what: CorruptWord::Tail, found: tail });
    }
    Ok(())
}

/// The role words of the line layout, which an attach and a drop may write.
fn without_roles(memory: &Memory) -> Vec<u8> {
    let mut all = memory.bytes();
    all[LINE.producer..LINE.producer + 8].fill(0);
    all[LINE.consumer..LINE.consumer + 8].fill(0);
    all
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn attach_to_any_positions_of_slots(
        (head, tail) in any::<u64>().prop_flat_map(|head| (Just(head), near(head, CAPACITY as u64))),
    ) {
        let (memory, ring) = fixed_ring();
        memory.set_word(LINE.tail, tail);
        memory.set_word(LINE.head, head);
        let before = without_roles(&memory);
        let expected = verdict(tail, head, CAPACITY as u64, 1);
        let len = tail.wrapping_sub(head) as usize;
        match (ring.producer(), expected) {
            (Ok(producer), Ok(())) => prop_assert_eq!((producer.position(), producer.len()), (tail, len)),
            (Err(AttachError::Corrupt(found)), Err(corrupt)) => prop_assert_eq!(found, corrupt),
            (result, _) => prop_assert!(false, "{result:?}, expected {expected:?}"),
        }
        match (ring.consumer(), expected) {
            (Ok(consumer), Ok(())) => prop_assert_eq!((consumer.position(), consumer.len()), (head, len)),
            (Err(AttachError::Corrupt(found)), Err(corrupt)) => prop_assert_eq!(found, corrupt),
            (result, _) => prop_assert!(false, "{result:?}, expected {expected:?}"),
        }
        // Attach and drop wrote the roles and nothing else, and a failed attach holds no role.
        prop_assert_eq!((ring.producer_owner(), ring.consumer_owner()), (None, None));
        assert_same(&before, &without_roles(&memory));
        memory.assert_guards();
    }

    #[test]
    fn attach_to_any_positions_of_records(
        (head, tail) in (any::<u64>(), 0..4_u8)
            .prop_map(|(head, skew)| if skew == 0 { head } else { head & !7 })
            .prop_flat_map(|head| (Just(head), near(head, BYTES as u64))),
    ) {
        let (memory, ring) = bytes_ring();
        memory.set_word(LINE.tail, tail);
        memory.set_word(LINE.head, head);
        let expected = verdict(tail, head, BYTES as u64, 8);
        match (ring.producer(), expected) {
            (Ok(producer), Ok(())) => prop_assert_eq!(producer.position(), tail),
            (Err(AttachError::Corrupt(found)), Err(corrupt)) => prop_assert_eq!(found, corrupt),
            (result, _) => prop_assert!(false, "{result:?}, expected {expected:?}"),
        }
        match (ring.consumer(), expected) {
            (Ok(consumer), Ok(())) => prop_assert_eq!(consumer.position(), head),
            (Err(AttachError::Corrupt(found)), Err(corrupt)) => prop_assert_eq!(found, corrupt),
            (result, _) => prop_assert!(false, "{result:?}, expected {expected:?}"),
        }
        prop_assert_eq!((ring.producer_owner(), ring.consumer_owner()), (None, None));
        memory.assert_guards();
    }
}

#[test]
fn a_failed_take_over_frees_the_role_and_names_the_word() {
    for (stride, offsets) in STRIDES {
        let options = Options::new().role_stride(stride);
        let memory = Memory::new(FixedRing::bytes(CAPACITY, &options).unwrap());
        let ring = FixedRing::create(memory.region(), CAPACITY, &options).unwrap();
        let (dead, also_dead) = {
            let producer = std::mem::ManuallyDrop::new(ring.producer().unwrap());
            let consumer = std::mem::ManuallyDrop::new(ring.consumer().unwrap());
            (producer.owner(), consumer.owner())
        };
        memory.set_word(offsets.tail, CAPACITY as u64 + 1);
        let corrupt = Corrupt { what: CorruptWord::Tail, found: CAPACITY as u64 + 1 };
        // SAFETY: the former handle is never used again.
        let producer = unsafe { ring.replace_producer(dead) };
        assert_eq!(producer.unwrap_err(), AttachError::Corrupt(corrupt));
        // SAFETY: the former handle is never used again.
        let consumer = unsafe { ring.replace_consumer(also_dead) };
        assert_eq!(consumer.unwrap_err(), AttachError::Corrupt(corrupt));
        assert_eq!((ring.producer_owner(), ring.consumer_owner()), (None, None));
        // Once the words are sane again the roles can be had, with generations that go on.
        memory.set_word(offsets.tail, 0);
        assert_eq!(ring.producer().unwrap().owner().generation, dead.generation + 2);
        assert_eq!(ring.consumer().unwrap().owner().generation, also_dead.generation + 2);
    }
}

/// Calls every method of a corrupt producer: each says the same, and no byte changes.
fn assert_dead_producer(memory: &Memory, producer: &mut fixed::Producer<u64, Untrusted>, corrupt: Corrupt) {
    let before = memory.bytes();
    let position = producer.position();
    for _ in 0..3 {
        assert_eq!(producer.push(1), Err(PushError::Corrupt(corrupt)));
        assert_eq!(producer.push_from(&2), Err(PushError::Corrupt(corrupt)));
        assert_eq!(producer.push_slice(&[3]), Err(PushError::Corrupt(corrupt)));
        assert_eq!(producer.push_slice(&[4; 2 * CAPACITY]), Err(PushError::Corrupt(corrupt)));
        assert_eq!(producer.reserve(1).unwrap_err(), PushError::Corrupt(corrupt));
        assert_eq!(producer.reserve(usize::MAX).unwrap_err(), PushError::Corrupt(corrupt));
        assert_eq!(producer.corruption(), Some(corrupt));
        assert_eq!(producer.position(), position);
        assert!(producer.len() <= CAPACITY && producer.free() <= CAPACITY);
        assert_eq!(producer.is_full(), producer.free() == 0);
        assert_eq!(producer.is_empty(), producer.free() == CAPACITY);
    }
    // Nothing of nothing is still nothing.
    assert!(matches!(producer.push_slice(&[]), Ok(()) | Err(PushError::Corrupt(_))));
    assert_same(&before, &memory.bytes());
    memory.assert_guards();
}

/// Calls every method of a corrupt consumer: each says the same, and no byte changes.
fn assert_dead_consumer(memory: &Memory, consumer: &mut fixed::Consumer<u64, Untrusted>, corrupt: Corrupt) {
    let before = memory.bytes();
    let position = consumer.position();
    for round in 0..3 {
        let (mut one, mut some) = (7, [7; 3]);
        assert_eq!(consumer.pop(), Err(PopError::Corrupt(corrupt)));
        assert_eq!(consumer.pop_to(&mut one), Err(PopError::Corrupt(corrupt)));
        assert_eq!(consumer.peek(), Err(PopError::Corrupt(corrupt)));
        assert_eq!(consumer.pop_into(&mut some), Err(PopError::Corrupt(corrupt)));
        assert_eq!(consumer.read_chunk(1).unwrap_err(), PopError::Corrupt(corrupt));
        assert_eq!(consumer.read_chunk(usize::MAX).unwrap_err(), PopError::Corrupt(corrupt));
        assert_eq!(consumer.drain().next(), None);
        assert_eq!((one, some), (7, [7; 3]), "a failed pop wrote");
        consumer.release();
        consumer.tune(tidewire_ring::Tuning::default().release_every(round));
        assert_eq!(consumer.corruption(), Some(corrupt));
        assert_eq!(consumer.position(), position);
        assert!(consumer.len() <= CAPACITY && consumer.free() <= CAPACITY);
        assert_eq!(consumer.is_full(), consumer.free() == 0);
        assert_eq!(consumer.is_empty(), consumer.free() == CAPACITY);
    }
    assert!(matches!(consumer.pop_into(&mut []), Ok(0) | Err(PopError::Corrupt(_))));
    if let Ok(chunk) = consumer.read_chunk(0) {
        chunk.release(0).unwrap();
    }
    assert_same(&before, &memory.bytes());
    memory.assert_guards();
}

#[test]
fn a_corrupt_producer_stays_so_when_the_words_are_mended() {
    for ahead in [1, 15, 1 << 40, 1 << 63, (CAPACITY as u64 + 1).wrapping_neg()] {
        let (memory, (mut producer, consumer)) = fixed_pair();
        producer.push_slice(&[9; CAPACITY]).unwrap();
        // Ahead of the tail, or more than a capacity behind it.
        let head = ahead.wrapping_add(CAPACITY as u64);
        memory.set_word(LINE.head, head);
        let corrupt = Corrupt { what: CorruptWord::Head, found: head };
        assert_eq!(producer.push(1), Err(PushError::Corrupt(corrupt)));
        assert_dead_producer(&memory, &mut producer, corrupt);
        memory.set_word(LINE.head, CAPACITY as u64);
        assert_dead_producer(&memory, &mut producer, corrupt);
        let before = without_roles(&memory);
        drop(producer);
        assert_same(&before, &without_roles(&memory));
        drop(consumer);
    }
}

#[test]
fn a_corrupt_consumer_stays_so_when_the_words_are_mended() {
    // Behind the head, behind what was seen, or more than a capacity ahead.
    for tail in [0, 1, 9, 2 + CAPACITY as u64 + 1, 1 << 40, u64::MAX] {
        let (memory, (mut producer, mut consumer)) = fixed_pair();
        producer.push_slice(&[9; 10]).unwrap();
        consumer.tune(tidewire_ring::Tuning::default().release_every(8));
        assert_eq!((consumer.pop(), consumer.pop()), (Ok(9), Ok(9)));
        memory.set_word(LINE.tail, tail);
        let corrupt = Corrupt { what: CorruptWord::Tail, found: tail };
        // More than is known: the consumer must look.
        assert_eq!(consumer.read_chunk(CAPACITY).unwrap_err(), PopError::Corrupt(corrupt), "tail {tail}");
        assert_dead_consumer(&memory, &mut consumer, corrupt);
        memory.set_word(LINE.tail, 12);
        assert_dead_consumer(&memory, &mut consumer, corrupt);
        let before = without_roles(&memory);
        drop(consumer);
        assert_same(&before, &without_roles(&memory));
    }
}

#[test]
fn a_corrupt_handle_of_records_stays_so() {
    let (memory, (mut producer, mut consumer)) = bytes_pair();
    while producer.push(&[5; 24]).is_ok() {}
    let corrupt = Corrupt { what: CorruptWord::Head, found: 4 };
    memory.set_word(LINE.head, 4);
    assert_eq!(producer.push(&[1]), Err(RecordPushError::Corrupt(corrupt)));
    memory.set_word(LINE.head, BYTES as u64);
    let before = memory.bytes();
    for len in [0, 1, 24, 120] {
        assert_eq!(producer.push(&vec![1; len]), Err(RecordPushError::Corrupt(corrupt)));
        assert_eq!(producer.reserve(len).unwrap_err(), RecordPushError::Corrupt(corrupt));
        let mut batch = producer.batch();
        assert_eq!(batch.push(&vec![1; len]), Err(RecordPushError::Corrupt(corrupt)));
        assert_eq!(batch.commit(), 0);
    }
    assert_eq!(producer.push(&[1; 121]), Err(RecordPushError::TooLong { max: 120 }));
    assert_eq!(producer.corruption(), Some(corrupt));
    assert_same(&before, &memory.bytes());

    memory.set_word(LINE.tail, 12);
    let corrupt = Corrupt { what: CorruptWord::Tail, found: 12 };
    assert_eq!(consumer.peek_len(), Err(RecordPopError::Corrupt(corrupt)));
    memory.set_word(LINE.tail, BYTES as u64);
    let before = memory.bytes();
    for _ in 0..3 {
        let mut to = [7; 64];
        assert_eq!(consumer.pop_into(&mut to), Err(RecordPopError::Corrupt(corrupt)));
        assert_eq!(consumer.pop().unwrap_err(), RecordPopError::Corrupt(corrupt));
        assert_eq!(consumer.peek_len(), Err(RecordPopError::Corrupt(corrupt)));
        assert_eq!(to, [7; 64], "a failed pop wrote");
        consumer.release();
        assert_eq!(consumer.corruption(), Some(corrupt));
    }
    assert_same(&before, &memory.bytes());
    memory.assert_guards();
}

#[test]
fn nothing_consumed_is_released_after_corruption() {
    let (memory, (mut producer, mut consumer)) = fixed_pair();
    consumer.tune(tidewire_ring::Tuning::default().release_every(CAPACITY as u64));
    producer.push_slice(&[9; 4]).unwrap();
    assert_eq!(consumer.pop_into(&mut [0; 4]), Ok(4));
    memory.set_word(LINE.tail, 3);
    assert!(matches!(consumer.pop(), Err(PopError::Corrupt(_))));
    consumer.release();
    drop(consumer);
    assert_eq!(memory.word(LINE.head), 0);
}

/// A head that goes back within the capacity is a lie all the same; what is published stays.
#[test]
fn a_head_that_goes_back_is_corrupt() {
    let (memory, (mut producer, mut consumer)) = fixed_pair();
    for lap in 0..3 {
        producer.push_slice(&[lap; CAPACITY]).unwrap();
        assert_eq!(consumer.pop_into(&mut [0; CAPACITY]), Ok(CAPACITY));
    }
    producer.push_slice(&[1, 2, 3]).unwrap();
    let tail = producer.position();
    memory.set_word(LINE.head, tail - CAPACITY as u64);
    // Fill what is known to be free, then look.
    while producer.push(8) == Ok(()) {}
    let found = tail - CAPACITY as u64;
    assert_eq!(producer.push(8), Err(PushError::Corrupt(Corrupt { what: CorruptWord::Head, found })));
    assert!(producer.position() - memory.word(LINE.head) <= 2 * CAPACITY as u64);
    assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Ok(1), Ok(2), Ok(3)]);
    memory.assert_guards();
}

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Reserve { n: usize, commit: usize },
    Pop(usize),
    Chunk { n: usize, release: usize },
    Drain,
    Scribble { head: bool, near: u64 },
    ScribbleAny { head: bool, value: u64 },
    Data { at: usize, value: u64 },
    Owner { consumer: bool, value: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    let count = || prop_oneof![0..5_usize, 0..40_usize];
    prop_oneof![
        6 => count().prop_map(Act::Push),
        3 => (count(), count()).prop_map(|(n, commit)| Act::Reserve { n, commit }),
        6 => count().prop_map(Act::Pop),
        3 => (count(), count()).prop_map(|(n, release)| Act::Chunk { n, release }),
        1 => Just(Act::Drain),
        1 => (any::<bool>(), any::<u64>()).prop_map(|(head, value)| Act::ScribbleAny { head, value }),
        2 => (any::<bool>(), 0..600_u64).prop_map(|(head, near)| Act::Scribble { head, near }),
        1 => (0..64_usize, any::<u64>()).prop_map(|(at, value)| Act::Data { at, value }),
        1 => (any::<bool>(), any::<u64>()).prop_map(|(consumer, value)| Act::Owner { consumer, value }),
    ]
}

/// Does what a hostile peer does; says whether the act was one.
fn scribble(memory: &Memory, act: &Act, around: u64, data: usize) -> bool {
    match *act {
        Act::Scribble { head, near } => {
            let offset = if head { LINE.head } else { LINE.tail };
            memory.set_word(offset, around.wrapping_add(near).wrapping_sub(300));
        }
        Act::ScribbleAny { head, value } => {
            let offset = if head { LINE.head } else { LINE.tail };
            memory.set_word(offset, value);
        }
        Act::Data { at, value } => memory.set_word(LINE.data + at * 8 % data, value),
        Act::Owner { consumer, value } => {
            memory.set_word(if consumer { LINE.consumer } else { LINE.producer }, value);
        }
        _ => return false,
    }
    true
}

/// Once a handle is corrupt, it says the same for ever.
#[derive(Default)]
struct Latch(Option<Corrupt>);

impl Latch {
    fn check(&mut self, now: Option<Corrupt>, reported: Option<Corrupt>) {
        if let Some(corrupt) = self.0 {
            assert_eq!(now, Some(corrupt), "a latch came loose");
        }
        if reported.is_some() {
            assert_eq!(now, reported);
        }
        self.0 = now;
    }
}

fn of_push<T>(result: Result<T, PushError>) -> Option<Corrupt> {
    match result {
        Err(PushError::Corrupt(corrupt)) => Some(corrupt),
        _ => None,
    }
}

fn of_pop<T>(result: Result<T, PopError>) -> Option<Corrupt> {
    match result {
        Err(PopError::Corrupt(corrupt)) => Some(corrupt),
        _ => None,
    }
}

fn act_on_slots(producer: &mut fixed::Producer<u64, Untrusted>, act: &Act) -> Option<Corrupt> {
    match *act {
        Act::Push(n) => of_push(producer.push_slice(&vec![element(n as u64); n])),
        Act::Reserve { n, commit } => of_push(producer.reserve(n).map(|slots| {
            assert_eq!(slots.commit(commit).is_ok(), commit <= n);
        })),
        _ => None,
    }
}

fn act_on_messages(consumer: &mut fixed::Consumer<u64, Untrusted>, act: &Act) -> Option<Corrupt> {
    match *act {
        Act::Pop(1) => of_pop(consumer.pop()),
        Act::Pop(n) => of_pop(consumer.pop_into(&mut vec![0; n])),
        Act::Chunk { n, release } => of_pop(consumer.read_chunk(n).map(|chunk| {
            let len = chunk.len();
            assert!(len <= n && len <= CAPACITY);
            assert_eq!(chunk.release(release).is_ok(), release <= len);
        })),
        Act::Drain => {
            // Nothing is published meanwhile, so it ends within what was known and one look.
            assert!(consumer.drain().take(2 * CAPACITY + 1).count() <= 2 * CAPACITY);
            None
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(config(800))]

    #[test]
    fn any_positions_between_operations_on_slots(acts in proptest::collection::vec(act(), 1..60)) {
        let (memory, (mut producer, mut consumer)) = fixed_pair();
        let (mut of_producer, mut of_consumer) = (Latch::default(), Latch::default());
        for act in &acts {
            if scribble(&memory, act, producer.position(), CAPACITY * 8) {
                continue;
            }
            let before = of_producer.0.and(of_consumer.0).map(|_| memory.bytes());
            let reported = act_on_slots(&mut producer, act);
            of_producer.check(producer.corruption(), reported);
            let reported = act_on_messages(&mut consumer, act);
            of_consumer.check(consumer.corruption(), reported);
            if let Some(before) = before {
                assert_same(&before, &memory.bytes());
            }
            prop_assert!(producer.len() <= CAPACITY && consumer.len() <= CAPACITY);
        }
        drop((producer, consumer));
        memory.assert_guards();
    }

    #[test]
    fn any_positions_and_frames_between_operations_on_records(acts in proptest::collection::vec(act(), 1..60)) {
        let (memory, (mut producer, mut consumer)) = bytes_pair();
        let (mut of_producer, mut of_consumer) = (Latch::default(), Latch::default());
        for act in &acts {
            if scribble(&memory, act, producer.position(), BYTES) {
                continue;
            }
            let before = of_producer.0.and(of_consumer.0).map(|_| memory.bytes());
            let pushed = match *act {
                Act::Push(n) => producer.push(&vec![3; n * 4]).err(),
                Act::Reserve { n, commit } => producer
                    .reserve(n)
                    .map(|room| assert_eq!(room.commit(commit).is_ok(), commit <= n))
                    .err(),
                _ => None,
            };
            let reported = match pushed {
                Some(RecordPushError::Corrupt(corrupt)) => Some(corrupt),
                _ => None,
            };
            of_producer.check(producer.corruption(), reported);
            let popped = match *act {
                Act::Pop(n) => consumer.pop_into(&mut vec![0; n * 8]).err(),
                Act::Chunk { .. } => consumer.pop().map(|record| assert!(record.len() <= BYTES - 8)).err(),
                Act::Drain => {
                    let most = 2 * BYTES / 8;
                    let all = (0..=most).map_while(|_| consumer.pop().ok().map(drop)).count();
                    prop_assert!(all <= most, "more records than fit");
                    None
                }
                _ => None,
            };
            let reported = match popped {
                Some(RecordPopError::Corrupt(corrupt)) => Some(corrupt),
                _ => None,
            };
            of_consumer.check(consumer.corruption(), reported);
            if let Some(before) = before {
                assert_same(&before, &memory.bytes());
            }
            prop_assert!(producer.len() <= BYTES && consumer.len() <= BYTES);
        }
        drop((producer, consumer));
        memory.assert_guards();
    }
}

/// A peer that scribbles while both sides run: they end, they report only what is documented, and they stay within
/// their memory.
#[test]
fn a_scribbler_beside_running_handles_does_no_harm() {
    let deadline = Instant::now() + Duration::from_millis(400);
    let mut corrupted = 0;
    while Instant::now() < deadline {
        let (memory, (mut producer, mut consumer)) = bytes_pair();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let scribbler = scope.spawn(|| {
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let value = element::<u64>(n);
                    let offset = match value % 8 {
                        0 => LINE.tail,
                        1 => LINE.head,
                        _ => LINE.data + (value >> 8) as usize % (BYTES / 8) * 8,
                    };
                    let near = ((value >> 32) % (2 * BYTES as u64)) & !7;
                    memory.set_word(offset, if value % 16 < 9 { value } else { 1 << 32 | near });
                }
            });
            let writer = scope.spawn(move || {
                for n in 0..3000 {
                    match producer.push(&[1; 40][..n % 41]) {
                        Ok(()) | Err(RecordPushError::Full) => assert_eq!(producer.corruption(), None),
                        Err(RecordPushError::Corrupt(found)) => {
                            assert_eq!(producer.corruption(), Some(found));
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                producer.corruption().is_some()
            });
            let reader = scope.spawn(move || {
                let mut to = [0; BYTES];
                for _ in 0..3000 {
                    match consumer.pop_into(&mut to) {
                        Ok(n) => assert!(n <= BYTES - 8),
                        Err(RecordPopError::Empty) => assert_eq!(consumer.corruption(), None),
                        Err(RecordPopError::Corrupt(found)) => assert_eq!(consumer.corruption(), Some(found)),
                        Err(error) => panic!("{error}"),
                    }
                }
                consumer.corruption().is_some()
            });
            corrupted += u32::from(writer.join().unwrap()) + u32::from(reader.join().unwrap());
            stop.store(true, Ordering::Relaxed);
            scribbler.join().unwrap();
        });
        memory.assert_guards();
    }
    assert!(corrupted > 0, "the scribbler was never noticed");
}
