//! The ring of fixed slots, operation by operation.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::drop_non_drop,
    reason = "tests: a wrong index or a missing value shall fail the test; drops are spelt out where they matter"
)]

mod hostile_memory;

use std::error::Error;
use std::fmt::Debug;
use std::mem::ManuallyDrop;
use std::thread;

use bytemuck::Pod;
use hostile_memory::{A16, A32, A64, A128, A256, LINE, Memory, STRIDES, Tick, element};
use tidewire_ring::fixed::{Chunk, Consumer, Drain, Producer, Reservation, Ring};
use tidewire_ring::{
    AttachError, Corrupt, CorruptWord, CreateError, Options, Owner, PopError, PushError, TooMany, Tuning,
};
use tidewire_shm::{
    Field, Incompatible, LINE_BYTES, Line, Origin, Region, RegionError, RoleStride, Trusted, Untrusted,
};

type Pair<T> = (Producer<T>, Consumer<T>);

fn pair<T: Pod>(capacity: usize) -> Pair<T> {
    Ring::on_heap(capacity).unwrap().split().unwrap()
}

/// Compiles only if the type does not implement the trait: otherwise the call is ambiguous.
macro_rules! assert_not {
    ($trait:ident: $($type:ty),+ $(,)?) => { $( {
        trait Ambiguous<A> {
            fn check() {}
        }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Implements;
        impl<T: ?Sized + $trait> Ambiguous<Implements> for T {}
        <$type as Ambiguous<_>>::check();
    } )+ };
}

#[test]
fn handles_may_move_to_other_threads_but_not_be_shared_or_copied() {
    fn sends<T: Send + 'static>() {}
    sends::<Ring<u64>>();
    sends::<Ring<u64, Untrusted>>();
    sends::<Producer<u64>>();
    sends::<Consumer<u64>>();
    sends::<Producer<u64, Untrusted>>();
    sends::<Consumer<u64, Untrusted>>();
    assert_not!(Sync: Producer<u64>, Consumer<u64>, Producer<u64, Untrusted>, Consumer<u64, Untrusted>);
    assert_not!(Clone: Ring<u64>, Producer<u64>, Consumer<u64>, Producer<u64, Untrusted>, Consumer<u64, Untrusted>);
    assert_not!(Clone: Reservation<'static, u64, Trusted>, Chunk<'static, u64, Trusted>, Drain<'static, u64, Trusted>);
}

#[test]
fn messages_come_out_once_and_in_order_over_many_laps() {
    for capacity in [1, 2, 4, 64] {
        let (mut producer, mut consumer) = pair::<u64>(capacity);
        assert_eq!((producer.capacity(), consumer.capacity()), (capacity, capacity));
        let mut next = 0;
        for i in 0..1000 {
            if producer.push(i) == Err(PushError::Full) {
                while let Ok(value) = consumer.pop() {
                    assert_eq!(value, next);
                    next += 1;
                }
                assert_eq!(next, i);
                producer.push(i).unwrap();
            }
        }
        assert_eq!(producer.position(), 1000);
    }
}

#[test]
fn a_full_ring_refuses_and_an_empty_one_too() {
    for capacity in [1, 2, 8] {
        let (mut producer, mut consumer) = pair::<u32>(capacity);
        assert!(producer.is_empty() && consumer.is_empty() && !producer.is_full() && !consumer.is_full());
        assert_eq!((consumer.pop(), consumer.peek()), (Err(PopError::Empty), Err(PopError::Empty)));
        producer.push_slice(&vec![3; capacity]).unwrap();
        assert!(producer.is_full() && consumer.is_full() && !producer.is_empty() && !consumer.is_empty());
        assert_eq!(
            (producer.len(), producer.free(), consumer.len(), consumer.free()),
            (capacity, 0, capacity, 0)
        );
        assert_eq!((producer.push(4), producer.push_from(&4)), (Err(PushError::Full), Err(PushError::Full)));
        assert_eq!(producer.reserve(1).unwrap_err(), PushError::Full);
        assert_eq!(producer.push_slice(&[]), Ok(()));
        assert_eq!(consumer.pop_into(&mut vec![0; 2 * capacity]), Ok(capacity));
        assert_eq!(consumer.pop_into(&mut [0]), Err(PopError::Empty));
        assert_eq!(consumer.read_chunk(1).unwrap_err(), PopError::Empty);
        assert_eq!(producer.len(), 0);
    }
}

#[test]
fn a_batch_larger_than_the_capacity_never_fits_and_moves_nothing() {
    let (mut producer, mut consumer) = pair::<u16>(4);
    for n in [5, 8, 1000] {
        assert_eq!(producer.push_slice(&vec![1; n]), Err(PushError::Full));
        assert_eq!(producer.reserve(n).unwrap_err(), PushError::Full);
    }
    assert_eq!(producer.reserve(usize::MAX).unwrap_err(), PushError::Full);
    assert_eq!((producer.position(), consumer.is_empty()), (0, true));
    // Three of four taken: a batch of two is refused whole.
    producer.push_slice(&[1, 2, 3]).unwrap();
    assert_eq!(producer.push_slice(&[4, 5]), Err(PushError::Full));
    assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn batches_of_nothing_do_nothing() {
    let (mut producer, mut consumer) = pair::<u64>(2);
    assert_eq!(producer.push_slice(&[]), Ok(()));
    let slots = producer.reserve(0).unwrap();
    assert!(slots.is_empty());
    slots.commit(0).unwrap();
    assert_eq!(consumer.pop_into(&mut []), Ok(0));
    let mut chunk = consumer.read_chunk(0).unwrap();
    assert!(chunk.is_empty());
    assert_eq!(chunk.as_slices(), ([].as_slice(), [].as_slice()));
    chunk.release(0).unwrap();
    assert_eq!((producer.position(), consumer.position()), (0, 0));
}

#[test]
fn a_reservation_publishes_what_is_committed_and_nothing_when_dropped() {
    let (mut producer, mut consumer) = pair::<u64>(8);
    for _ in 0..5 {
        let mut slots = producer.reserve(6).unwrap();
        slots.set(0, &[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(consumer.pop(), Err(PopError::Empty), "seen before the commit");
        slots.commit(4).unwrap();
        assert_eq!(consumer.len(), 4);
        let mut slots = producer.reserve(4).unwrap();
        slots.set(0, &[9; 4]).unwrap();
        drop(slots);
        assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
    let slots = producer.reserve(3).unwrap();
    assert_eq!(slots.commit(4), Err(TooMany { available: 3, asked: 4 }));
    assert!(consumer.is_empty(), "a refused commit published");
}

#[test]
fn a_reservation_takes_no_more_than_it_has() {
    let (mut producer, _consumer) = pair::<u64>(8);
    let mut slots = producer.reserve(3).unwrap();
    assert_eq!(slots.set(0, &[1; 4]), Err(TooMany { available: 3, asked: 4 }));
    assert_eq!(slots.set(2, &[1; 2]), Err(TooMany { available: 3, asked: 4 }));
    assert_eq!(slots.set(4, &[]), Err(TooMany { available: 3, asked: 4 }));
    let most = usize::MAX;
    assert_eq!(slots.set(most, &[1]), Err(TooMany { available: 3, asked: most }));
    assert_eq!(slots.set(3, &[]), Ok(()));
    assert_eq!(slots.set(2, &[7]), Ok(()));
}

#[test]
fn slices_in_place_meet_at_the_wrap() {
    for before in 0..8 {
        let (mut producer, mut consumer) = pair::<u64>(8);
        for i in 0..before {
            producer.push(i).unwrap();
            consumer.pop().unwrap();
        }
        consumer.release();
        let front = 8 - usize::try_from(before).unwrap();
        let mut slots = producer.reserve(8).unwrap();
        let (a, b) = slots.as_mut_slices();
        assert_eq!((a.len(), b.len()), (front, 8 - front));
        for (i, slot) in a.iter_mut().chain(b).enumerate() {
            *slot = i as u64;
        }
        slots.commit(8).unwrap();
        let mut chunk = consumer.read_chunk(usize::MAX).unwrap();
        let (a, b) = chunk.as_slices();
        assert_eq!((a.len(), b.len()), (front, 8 - front));
        assert!(a.iter().chain(b).copied().eq(0..8));
        chunk.release(8).unwrap();
        assert!(producer.is_empty());
    }
}

#[test]
fn a_chunk_consumes_what_is_released_and_nothing_when_dropped() {
    let (mut producer, mut consumer) = pair::<u64>(8);
    producer.push_slice(&[1, 2, 3, 4, 5]).unwrap();
    drop(consumer.read_chunk(4).unwrap());
    let chunk = consumer.read_chunk(4).unwrap();
    assert_eq!((chunk.len(), chunk.is_empty()), (4, false));
    let mut to = [0; 2];
    chunk.get(1, &mut to).unwrap();
    assert_eq!(to, [2, 3]);
    assert_eq!(chunk.get(3, &mut to), Err(TooMany { available: 4, asked: 5 }));
    let most = usize::MAX;
    assert_eq!(chunk.get(most, &mut to), Err(TooMany { available: 4, asked: most }));
    assert_eq!(to, [2, 3], "a refused copy wrote");
    chunk.release(1).unwrap();
    assert_eq!((consumer.position(), consumer.len()), (1, 4));
    assert_eq!(consumer.read_chunk(2).unwrap().release(3), Err(TooMany { available: 2, asked: 3 }));
    assert_eq!(consumer.drain().collect::<Vec<_>>(), [2, 3, 4, 5]);
}

#[test]
fn peek_consumes_nothing_and_pop_to_leaves_its_target_when_empty() {
    let (mut producer, mut consumer) = pair::<Tick>(2);
    let mut to = element(9);
    assert_eq!(consumer.pop_to(&mut to), Err(PopError::Empty));
    assert_eq!(to, element(9));
    producer.push_from(&element(1)).unwrap();
    assert_eq!((consumer.peek(), consumer.peek()), (Ok(element(1)), Ok(element(1))));
    assert_eq!((consumer.len(), consumer.position()), (1, 0));
    assert_eq!((consumer.pop_to(&mut to), to), (Ok(()), element(1)));
}

#[test]
fn a_drain_ends_when_the_ring_is_empty_and_goes_on_later() {
    let (mut producer, mut consumer) = pair::<u64>(4);
    producer.push_slice(&[1, 2]).unwrap();
    let mut drain = consumer.drain();
    assert_eq!((drain.next(), drain.next(), drain.next()), (Some(1), Some(2), None));
    producer.push(3).unwrap();
    assert_eq!((drain.next(), drain.next()), (Some(3), None));
}

/// The producer sees a slot again after at most `release_every` messages, and all of them when the ring is empty.
#[test]
fn the_head_is_released_as_tuned() {
    let cases = [(None, 2), (Some(0), 1), (Some(1), 1), (Some(3), 3), (Some(16), 16), (Some(u64::MAX), 16)];
    for (release_every, period) in cases {
        for batch in [1, 2, 5] {
            let (mut producer, mut consumer) = pair::<u64>(16);
            let tuning = Tuning::default();
            consumer.tune(release_every.map_or(tuning, |n| tuning.release_every(n)));
            producer.push_slice(&[0; 16]).unwrap();
            let mut most = 0;
            while consumer.len() > batch {
                if batch == 1 {
                    consumer.pop().unwrap();
                } else {
                    consumer.pop_into(&mut vec![0; batch]).unwrap();
                }
                let held = producer.len() - consumer.len();
                most = most.max(held);
                assert!(held < period, "{held} held back, every {release_every:?}");
            }
            if batch == 1 {
                assert_eq!(most, period - 1, "every {release_every:?}");
            }
            while consumer.pop().is_ok() {}
            assert_eq!(producer.len(), 0, "not released when found empty");
        }
    }
}

#[test]
fn release_gives_everything_back_now() {
    let (mut producer, mut consumer) = pair::<u64>(16);
    consumer.tune(Tuning::default().release_every(16));
    producer.push_slice(&[0; 16]).unwrap();
    for _ in 0..5 {
        consumer.pop().unwrap();
    }
    assert_eq!((producer.len(), consumer.len()), (16, 11));
    assert_eq!(producer.push(1), Err(PushError::Full));
    consumer.release();
    assert_eq!((producer.len(), producer.push(1)), (11, Ok(())));
}

#[test]
fn no_tuning_loses_or_stalls() {
    for touch in [true, false] {
        for pauses in [0, 1, 100] {
            for release_every in [0, 1, 3, 8, u64::MAX] {
                let (mut producer, mut consumer) = pair::<[u8; 3]>(8);
                let mut next = 0;
                for i in 0..200 {
                    consumer.tune(Tuning::default().touch(touch).pauses(pauses).release_every(release_every));
                    while producer.push(element(i)).is_err() {
                        if let Ok(value) = consumer.pop() {
                            assert_eq!(value, element::<[u8; 3]>(next));
                            next += 1;
                        } else {
                            // Found empty: then all is released, and the next push succeeds.
                            assert_eq!((i, producer.free()), (next, 8));
                        }
                    }
                }
                assert!(consumer.drain().eq((next..200).map(element::<[u8; 3]>)));
            }
        }
    }
}

#[test]
fn defaults_are_as_documented() {
    let tuning = Tuning::default();
    assert_eq!((tuning.touch, tuning.pauses, tuning.release_every), (true, 4, None));
    assert_eq!(Options::new(), Options::default());
    assert_eq!((Options::new().role_stride, Options::new().type_fingerprint), (RoleStride::Line, 0));
}

fn every_operation_carries<T: Pod + PartialEq + Debug>() {
    for trusted in [true, false] {
        let memory = Memory::new(Ring::<T>::bytes(8, &Options::new()).unwrap());
        if trusted {
            carries(&Ring::<T, _>::create(memory.trusted(), 8, &Options::new()).unwrap());
        } else {
            carries(&Ring::<T, _>::create(memory.region(), 8, &Options::new()).unwrap());
        }
        memory.assert_guards();
    }
}

fn carries<T: Pod + PartialEq + Debug, L: tidewire_shm::Trust>(ring: &Ring<T, L>) {
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    for lap in 0..40_u64 {
        let values: Vec<T> = (0..7).map(|i| element(lap * 7 + i)).collect();
        producer.push(values[0]).unwrap();
        producer.push_from(&values[1]).unwrap();
        producer.push_slice(&values[2..5]).unwrap();
        let mut slots = producer.reserve(2).unwrap();
        slots.set(0, &values[5..]).unwrap();
        slots.commit(2).unwrap();

        assert_eq!(consumer.peek(), Ok(values[0]));
        assert_eq!(consumer.pop(), Ok(values[0]));
        let mut one = T::zeroed();
        consumer.pop_to(&mut one).unwrap();
        assert_eq!(one, values[1]);
        let mut three = [T::zeroed(); 3];
        assert_eq!(consumer.pop_into(&mut three), Ok(3));
        assert_eq!(three, values[2..5]);
        let chunk = consumer.read_chunk(8).unwrap();
        let mut two = [T::zeroed(); 2];
        chunk.get(0, &mut two).unwrap();
        chunk.release(2).unwrap();
        assert_eq!(two, values[5..]);
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    }
}

#[test]
fn elements_of_every_size_and_alignment_are_carried() {
    every_operation_carries::<u8>();
    every_operation_carries::<u16>();
    every_operation_carries::<u32>();
    every_operation_carries::<u64>();
    every_operation_carries::<u128>();
    every_operation_carries::<[u8; 3]>();
    every_operation_carries::<[u8; 64]>();
    every_operation_carries::<[u16; 33]>();
    every_operation_carries::<[u32; 3]>();
    every_operation_carries::<Tick>();
    every_operation_carries::<[u64; 9]>();
    every_operation_carries::<[u8; 1024]>();
    every_operation_carries::<[u8; 5000]>();
    every_operation_carries::<A16>();
    every_operation_carries::<A32>();
    every_operation_carries::<A64>();
    every_operation_carries::<A128>();
}

#[test]
fn elements_that_cannot_be_slots_are_refused() {
    let element = |bytes, align| Some(CreateError::Element { bytes, align });
    assert_eq!(Ring::<[u64; 0]>::on_heap(8).err(), element(0, 8));
    assert_eq!(Ring::<()>::bytes(8, &Options::new()).err(), element(0, 1));
    assert_eq!(Ring::<A256>::on_heap(8).err(), element(256, 256));
    const GIB2: usize = 1 << 31;
    assert_eq!(Ring::<[u8; GIB2 + 1]>::bytes(1, &Options::new()).err(), element(GIB2 + 1, 1));
    assert_eq!(Ring::<[u8; GIB2]>::bytes(1, &Options::new()), Ok(640 + GIB2));
}

#[test]
fn capacities_that_are_no_powers_of_two_are_refused() {
    let most = 1 << 57;
    for found in [0, 3, 5, 6, 7, 1000, usize::MAX, most * 2] {
        let error = CreateError::Capacity { min: 1, max: most, found };
        assert_eq!(Ring::<u64>::on_heap(found).err(), Some(error));
        assert_eq!(Ring::<u64>::bytes(found, &Options::new()), Err(error));
    }
    assert_eq!(Ring::<u64>::bytes(most, &Options::new()), Ok(640 + most * 8));
    // The sizes are possible, the memory is not.
    let bytes = 640 + most * 8;
    let error = Ring::<u64>::on_heap(most).unwrap_err();
    assert_eq!(error, CreateError::Region(RegionError::OutOfMemory { bytes }));
}

#[test]
fn a_region_that_is_too_short_is_refused_and_not_written() {
    for (stride, offsets) in STRIDES {
        let options = Options::new().role_stride(stride);
        let needed = Ring::<u64, Untrusted>::bytes(4, &options).unwrap();
        assert_eq!(needed, offsets.data + 32);
        let memory = Memory::new(needed);
        for found in [1, 127, 128, needed - 1] {
            let region = memory.region_of(found, Origin::default());
            let error = Ring::<u64, Untrusted>::create(region, 4, &options).unwrap_err();
            assert_eq!(error, CreateError::RegionTooSmall { needed, found });
        }
        assert!(memory.bytes().iter().all(|b| *b == 0));
        assert!(Ring::<u64, Untrusted>::create(memory.region(), 4, &options).is_ok());
        memory.assert_guards();
    }
}

/// A region may be longer than its ring, and hold anything before.
#[test]
fn a_ring_is_created_over_old_bytes() {
    for (stride, offsets) in STRIDES {
        let options = Options::new().role_stride(stride);
        let memory = Memory::new(Ring::<u64, Untrusted>::bytes(4, &options).unwrap() + 1000);
        for i in 0..memory.len() {
            memory.set_byte(i, 0xCC);
        }
        let ring = Ring::<u64, Untrusted>::create(memory.region(), 4, &options).unwrap();
        assert_eq!((ring.producer_owner(), ring.consumer_owner()), (None, None));
        let (mut producer, mut consumer) = ring.split().unwrap();
        assert_eq!((producer.position(), consumer.position()), (0, 0));
        producer.push_slice(&[1, 2, 3, 4]).unwrap();
        assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3, 4]);
        for i in offsets.data + 32..memory.len() {
            assert_eq!(memory.byte(i), 0xCC, "wrote behind the ring");
        }
        memory.assert_guards();
    }
}

#[test]
fn a_ring_in_a_static_works() {
    let lines: &'static mut [Line<[u8; LINE_BYTES]>] = Box::leak(vec![Line::new([0; LINE_BYTES]); 6].into());
    let ring = Ring::<u64>::create(Region::from_static(lines), 16, &Options::new()).unwrap();
    let (mut producer, mut consumer) = ring.split().unwrap();
    producer.push_slice(&[5; 16]).unwrap();
    assert_eq!(consumer.drain().sum::<u64>(), 80);
}

#[test]
fn two_openings_of_one_memory_are_one_ring() {
    for (stride, _) in STRIDES {
        let options = Options::new().role_stride(stride).type_fingerprint(77);
        let memory = Memory::new(Ring::<u64, Untrusted>::bytes(16, &options).unwrap());
        let created = Ring::<u64, Untrusted>::create(memory.region(), 16, &options).unwrap();
        let opened = Ring::<u64, Untrusted>::open(memory.region(), 77).unwrap();
        assert_eq!(opened.capacity(), 16);
        let mut producer = created.producer().unwrap();
        let mut consumer = opened.consumer().unwrap();
        assert!(matches!(opened.producer(), Err(AttachError::RoleTaken(_))));
        producer.push_slice(&[1, 2, 3]).unwrap();
        assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(opened.producer_owner(), Some(producer.owner()));
        assert_eq!(created.consumer_owner(), Some(consumer.owner()));
    }
}

#[test]
fn a_role_has_one_owner_at_a_time_and_counts_its_generations() {
    let ring = Ring::<u64>::on_heap(4).unwrap();
    assert_eq!((ring.producer_owner(), ring.consumer_owner()), (None, None));
    for generation in 1..5 {
        let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let owner = Owner { id: std::process::id(), generation };
        assert_eq!((producer.owner(), consumer.owner()), (owner, owner));
        assert_eq!((ring.producer_owner(), ring.consumer_owner()), (Some(owner), Some(owner)));
        assert_eq!(ring.producer().unwrap_err(), AttachError::RoleTaken(owner));
        assert_eq!(ring.consumer().unwrap_err(), AttachError::RoleTaken(owner));
        drop(producer);
        assert_eq!((ring.producer_owner(), ring.consumer_owner()), (None, Some(owner)));
        drop(consumer);
        assert_eq!(ring.consumer_owner(), None);
    }
}

/// `split` that gets only one of the roles gives it back.
#[test]
fn a_split_that_fails_holds_nothing() {
    let memory = Memory::new(Ring::<u64, Untrusted>::bytes(4, &Options::new()).unwrap());
    let ring = Ring::<u64, Untrusted>::create(memory.region(), 4, &Options::new()).unwrap();
    let consumer = ring.consumer().unwrap();
    let other = Ring::<u64, Untrusted>::open(memory.region(), 0).unwrap();
    assert_eq!(other.split().unwrap_err(), AttachError::RoleTaken(consumer.owner()));
    assert_eq!(ring.producer_owner(), None);
}

#[test]
fn generations_wrap() {
    let memory = Memory::new(Ring::<u64, Untrusted>::bytes(4, &Options::new()).unwrap());
    let ring = Ring::<u64, Untrusted>::create(memory.region(), 4, &Options::new()).unwrap();
    memory.set_word(LINE.producer, u64::from(u32::MAX) << 32);
    let producer = ManuallyDrop::new(ring.producer().unwrap());
    assert_eq!(producer.owner().generation, 0);
    // SAFETY: the former handle is never used again.
    let successor = unsafe { ring.replace_producer(producer.owner()) }.unwrap();
    assert_eq!(successor.owner().generation, 1);
}

#[test]
fn threads_that_race_for_a_role_get_it_once() {
    let ring = Ring::<u64>::on_heap(4).unwrap();
    for _ in 0..50 {
        let winners: Vec<_> = thread::scope(|scope| {
            let claims: Vec<_> = (0..4).map(|_| scope.spawn(|| ring.producer())).collect();
            claims.into_iter().filter_map(|claim| claim.join().unwrap().ok()).collect()
        });
        assert_eq!(winners.len(), 1);
    }
    assert_eq!(ring.producer_owner(), None);
}

#[test]
fn only_the_owner_that_was_proven_dead_is_replaced() {
    let ring = Ring::<u64>::on_heap(4).unwrap();
    let dead = ManuallyDrop::new(ring.producer().unwrap());
    let expected = dead.owner();
    // SAFETY: the former handle is never used again.
    let heir = unsafe { ring.replace_producer(expected) }.unwrap();
    assert_eq!(heir.owner().generation, 2);
    // A second proof of the same death comes too late.
    // SAFETY: as above.
    let error = unsafe { ring.replace_producer(expected) }.unwrap_err();
    assert_eq!(error, AttachError::OwnerChanged { expected, found: Some(heir.owner()) });
    drop(heir);
    // SAFETY: as above.
    let error = unsafe { ring.replace_producer(expected) }.unwrap_err();
    assert_eq!(error, AttachError::OwnerChanged { expected, found: None });

    let dead = ManuallyDrop::new(ring.consumer().unwrap());
    let expected = dead.owner();
    // SAFETY: the former handle is never used again.
    let heir = unsafe { ring.replace_consumer(expected) }.unwrap();
    // SAFETY: as above.
    let error = unsafe { ring.replace_consumer(expected) }.unwrap_err();
    assert_eq!(error, AttachError::OwnerChanged { expected, found: Some(heir.owner()) });
}

/// A handle whose owner word was scribbled over leaves the word alone when it goes.
#[test]
fn a_drop_frees_only_its_own_role() {
    let memory = Memory::new(Ring::<u64, Untrusted>::bytes(4, &Options::new()).unwrap());
    let ring = Ring::<u64, Untrusted>::create(memory.region(), 4, &Options::new()).unwrap();
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    let stranger = 9 << 32 | 4711;
    memory.set_word(LINE.producer, stranger);
    memory.set_word(LINE.consumer, 0);
    drop((producer, consumer));
    assert_eq!((memory.word(LINE.producer), memory.word(LINE.consumer)), (stranger, 0));
    assert_eq!(ring.producer_owner(), Some(Owner { id: 4711, generation: 9 }));
}

#[test]
fn a_new_producer_goes_on_where_the_dead_one_published() {
    let ring = Ring::<u64>::on_heap(8).unwrap();
    let mut consumer = ring.consumer().unwrap();
    let mut dead = ManuallyDrop::new(ring.producer().unwrap());
    dead.push_slice(&[1, 2, 3]).unwrap();
    let owner = dead.owner();
    let mut slots = dead.reserve(2).unwrap();
    slots.set(0, &[8, 9]).unwrap();
    drop(slots);
    // SAFETY: the former handle is never used again.
    let mut heir = unsafe { ring.replace_producer(owner) }.unwrap();
    assert_eq!((heir.position(), heir.len()), (3, 3));
    heir.push(4).unwrap();
    assert_eq!(consumer.drain().collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// What is seen again is at most what was consumed and not released: `release_every`, and a chunk in hand.
#[test]
fn a_new_consumer_sees_a_bounded_number_of_messages_again() {
    for release_every in [1, 2, 5, 32] {
        for popped in 0..32 {
            let ring = Ring::<u64>::on_heap(32).unwrap();
            let mut producer = ring.producer().unwrap();
            for i in 0..32 {
                producer.push(i).unwrap();
            }
            let mut dead = ManuallyDrop::new(ring.consumer().unwrap());
            dead.tune(Tuning::default().release_every(release_every));
            for i in 0..popped {
                assert_eq!(dead.pop(), Ok(i));
            }
            let in_hand = dead.read_chunk(3).ok().map_or(0, |chunk| chunk.len() as u64);
            // SAFETY: the former handle is never used again.
            let mut heir = unsafe { ring.replace_consumer(dead.owner()) }.unwrap();
            let first = heir.position();
            assert!(first <= popped && popped - first < release_every, "{popped} popped, again from {first}");
            assert!(in_hand == (32 - popped).min(3));
            assert!(heir.drain().eq(first..32), "the touch changed a message");
        }
    }
}

#[test]
fn what_is_left_is_there_for_the_next_pair() {
    let ring = Ring::<u64>::on_heap(8).unwrap();
    let mut producer = ring.producer().unwrap();
    producer.push_slice(&[1, 2, 3, 4]).unwrap();
    drop(producer);
    let mut consumer = ring.consumer().unwrap();
    assert_eq!(consumer.pop(), Ok(1));
    drop(consumer);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    assert_eq!((producer.position(), consumer.position()), (4, 1));
    producer.push(5).unwrap();
    assert_eq!(consumer.drain().collect::<Vec<_>>(), [2, 3, 4, 5]);
}

#[test]
fn the_region_lives_as_long_as_any_handle() {
    for order in 0..3 {
        let memory = Memory::new(Ring::<u64, Untrusted>::bytes(4, &Options::new()).unwrap());
        let ring = Ring::<u64, Untrusted>::create(memory.region(), 4, &Options::new()).unwrap();
        let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        assert_eq!(memory.users(), 3);
        match order {
            0 => drop(ring),
            1 => drop((ring, producer)),
            _ => drop((consumer, ring)),
        }
        assert_eq!(memory.users(), if order == 0 { 2 } else { 1 });
    }
    // The memory itself goes first, then the ring; the handles still work.
    let memory = Memory::new(Ring::<u64, Untrusted>::bytes(4, &Options::new()).unwrap());
    let ring = Ring::<u64, Untrusted>::create(memory.region(), 4, &Options::new()).unwrap();
    drop(memory);
    let (mut producer, mut consumer) = ring.split().unwrap();
    producer.push(6).unwrap();
    drop(producer);
    assert_eq!((consumer.pop(), consumer.pop()), (Ok(6), Err(PopError::Empty)));
}

#[test]
fn positions_may_wrap() {
    for start in [u64::MAX, u64::MAX - 3, 1 << 63] {
        let memory = Memory::new(Ring::<u64, Untrusted>::bytes(4, &Options::new()).unwrap());
        let ring = Ring::<u64, Untrusted>::create(memory.region(), 4, &Options::new()).unwrap();
        memory.set_word(LINE.tail, start);
        memory.set_word(LINE.head, start);
        let (mut producer, mut consumer) = ring.split().unwrap();
        for i in 0..20 {
            producer.push_slice(&[i, i + 1, i + 2]).unwrap();
            assert_eq!(producer.push_slice(&[0, 0]), Err(PushError::Full));
            assert_eq!((producer.len(), consumer.len()), (3, 3));
            assert_eq!(consumer.drain().collect::<Vec<_>>(), [i, i + 1, i + 2]);
        }
        assert_eq!(producer.position(), start.wrapping_add(60));
    }
}

#[test]
fn debug_texts_name_the_handle_and_show_no_message() {
    let ring = Ring::<u64>::on_heap(4).unwrap();
    assert_eq!(format!("{ring:?}"), "Ring { capacity: 4, .. }");
    let (mut producer, mut consumer) = ring.split().unwrap();
    assert_eq!(format!("{producer:?}"), "Producer { position: 0, .. }");
    assert_eq!(format!("{:?}", producer.reserve(2).unwrap()), "Reservation { len: 2, .. }");
    producer.push(1).unwrap();
    assert_eq!(format!("{consumer:?}"), "Consumer { position: 0, .. }");
    assert_eq!(format!("{:?}", consumer.read_chunk(2).unwrap()), "Chunk { len: 1, .. }");
    assert_eq!(format!("{:?}", consumer.drain()), "Drain");
}

#[test]
fn errors_are_small_and_say_what_was_expected_and_found() {
    assert!(size_of::<PushError>() <= 16 && size_of::<PopError>() <= 16);
    assert!(size_of::<Result<(), PushError>>() <= 16 && size_of::<Corrupt>() <= 16);
    let head = Corrupt { what: CorruptWord::Head, found: 7 };
    let tail = Corrupt { what: CorruptWord::Tail, found: 8 };
    let record = Corrupt { what: CorruptWord::Record, found: 0x1_0000_0009 };
    let owner = Owner { id: 42, generation: 3 };
    let other = Owner { id: 43, generation: 4 };
    let element = CreateError::Element { bytes: 0, align: 8 };
    let texts: [(&dyn Error, &str); 17] = [
        (&head, "corrupt ring: expected a head at most one capacity behind the tail, found 7"),
        (&tail, "corrupt ring: expected a tail at most one capacity ahead of the head, found 8"),
        (&record, "corrupt ring: expected a record within the published bytes, found header 0x100000009"),
        (&PushError::Full, "the ring is full"),
        (
            &PushError::Corrupt(head),
            "corrupt ring: expected a head at most one capacity behind the tail, found 7",
        ),
        (&PopError::Empty, "the ring is empty"),
        (
            &PopError::Corrupt(tail),
            "corrupt ring: expected a tail at most one capacity ahead of the head, found 8",
        ),
        (&TooMany { available: 3, asked: 5 }, "expected at most 3, found 5"),
        (
            &CreateError::Capacity { min: 1, max: 64, found: 3 },
            "expected a capacity that is a power of two from 1 to 64, found 3",
        ),
        (
            &element,
            "expected an element of 1 byte to 2147483648 bytes aligned to at most 128, found 0 bytes aligned to 8",
        ),
        (
            &CreateError::RegionTooSmall { needed: 640, found: 12 },
            "expected a region of at least 640 bytes, found 12",
        ),
        (&CreateError::Region(RegionError::Length { found: 0 }), "a region cannot have 0 bytes"),
        (
            &AttachError::Incompatible(Incompatible::new(Field::Capacity, 8, 9)),
            "incompatible capacity: expected 8, found 9",
        ),
        (&AttachError::RoleTaken(owner), "expected a free role, found it taken by process 42 (generation 3)"),
        (
            &AttachError::OwnerChanged { expected: owner, found: Some(other) },
            "expected the role to be held by process 42 (generation 3), found process 43 (generation 4)",
        ),
        (
            &AttachError::OwnerChanged { expected: owner, found: None },
            "expected the role to be held by process 42 (generation 3), found it free",
        ),
        (
            &AttachError::Corrupt(head),
            "corrupt ring: expected a head at most one capacity behind the tail, found 7",
        ),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn errors_lead_to_their_sources_and_convert() {
    let incompatible = Incompatible::new(Field::Kind, 1, 2);
    let corrupt = Corrupt { what: CorruptWord::Head, found: 7 };
    let source = |error: &dyn Error| error.source().map(ToString::to_string);
    assert_eq!(source(&AttachError::from(incompatible)), Some(incompatible.to_string()));
    assert_eq!(source(&AttachError::from(corrupt)), Some(corrupt.to_string()));
    assert_eq!(source(&AttachError::RoleTaken(Owner { id: 1, generation: 1 })), None);
    let region = RegionError::OutOfMemory { bytes: 5 };
    assert_eq!(source(&CreateError::from(region)), Some(region.to_string()));
    assert_eq!(source(&CreateError::Element { bytes: 0, align: 1 }), None);
    assert_eq!(source(&PushError::Full), None);
    assert_eq!(source(&PopError::Empty), None);
}
