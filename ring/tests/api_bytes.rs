//! The ring of byte records, operation by operation.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::drop_non_drop,
    reason = "tests: a wrong index or a missing value shall fail the test; drops are spelt out where they matter"
)]

mod hostile_memory;

use std::error::Error;
use std::mem::ManuallyDrop;

use hostile_memory::{LINE, Memory, STRIDES, record};
use tidewire_ring::bytes::{Batch, Consumer, Producer, Record, Reservation, Ring};
use tidewire_ring::{
    AttachError, Corrupt, CorruptWord, CreateError, Options, Owner, PopError, PushError, RecordPopError,
    RecordPushError, TooMany, Tuning,
};
use tidewire_shm::{LINE_BYTES, Line, Region, RegionError, Trusted, Untrusted};

fn pair(capacity: usize) -> (Producer, Consumer) {
    Ring::on_heap(capacity).unwrap().split().unwrap()
}

fn untrusted(capacity: usize) -> (Memory, Ring<Untrusted>) {
    let memory = Memory::new(Ring::<Untrusted>::bytes(capacity, &Options::new()).unwrap());
    let ring = Ring::create(memory.region(), capacity, &Options::new()).unwrap();
    (memory, ring)
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
    sends::<Ring>();
    sends::<Ring<Untrusted>>();
    sends::<Producer>();
    sends::<Consumer>();
    sends::<Producer<Untrusted>>();
    sends::<Consumer<Untrusted>>();
    assert_not!(Sync: Producer, Consumer, Producer<Untrusted>, Consumer<Untrusted>);
    assert_not!(Clone: Ring, Producer, Consumer, Producer<Untrusted>, Consumer<Untrusted>);
    assert_not!(Clone: Reservation<'static, Trusted>, Batch<'static, Trusted>, Record<'static, Trusted>);
}

#[test]
fn records_of_every_length_come_out_as_they_went_in() {
    let (mut producer, mut consumer) = pair(512);
    assert_eq!((producer.capacity(), consumer.capacity(), producer.max_record()), (512, 512, 248));
    let mut to = [0; 256];
    for len in (0..=248).chain((0..=248).rev()) {
        let sent = record(len as u64, len);
        producer.push(&sent).unwrap();
        assert_eq!(consumer.peek_len(), Ok(len));
        let n = consumer.pop_into(&mut to).unwrap();
        assert_eq!(to[..n], sent);
    }
    assert_eq!(consumer.pop_into(&mut to), Err(RecordPopError::Empty));
    assert_eq!(producer.position(), consumer.position());
    assert!(producer.is_empty());
}

/// Whatever the offset at which a record begins, it is never split, and its neighbours stay whole.
#[test]
fn every_length_at_every_offset_wraps_whole() {
    for start in (0..128).step_by(8) {
        for len in 0..=56_usize {
            let (memory, ring) = untrusted(128);
            memory.set_word(LINE.tail, start);
            memory.set_word(LINE.head, start);
            let (mut producer, mut consumer) = ring.split().unwrap();
            let records: Vec<_> = (0..4).map(|i| record(i, len)).collect();
            let sent = records.iter().map_while(|bytes| producer.push(bytes).ok()).count();
            assert!(sent >= 1, "an empty ring takes the longest record wherever it stands");
            for bytes in &records[..sent] {
                let mut to = vec![0; len];
                assert_eq!(consumer.pop_into(&mut to), Ok(len));
                assert_eq!(to, *bytes, "start {start}");
            }
            assert_eq!(consumer.pop_into(&mut []), Err(RecordPopError::Empty));
            assert_eq!(memory.word(LINE.head), memory.word(LINE.tail));
            memory.assert_guards();
        }
    }
}

#[test]
fn a_full_ring_refuses_and_keeps_what_it_has() {
    let (mut producer, mut consumer) = pair(64);
    assert_eq!(producer.max_record(), 24);
    for i in 0..8 {
        assert!(!producer.is_full());
        assert_eq!(producer.push(&[]), Ok(()), "empty record {i}");
    }
    assert!(producer.is_full() && consumer.is_full());
    assert_eq!((producer.len(), producer.free(), consumer.len(), consumer.free()), (64, 0, 64, 0));
    assert_eq!(producer.push(&[]), Err(RecordPushError::Full));
    assert_eq!(producer.reserve(0).unwrap_err(), RecordPushError::Full);
    assert_eq!(producer.batch().push(&[]), Err(RecordPushError::Full));
    for _ in 0..8 {
        assert_eq!(consumer.pop_into(&mut []), Ok(0));
    }
    assert!(consumer.is_empty());
    assert_eq!(consumer.pop_into(&mut []), Err(RecordPopError::Empty));
    assert_eq!(
        (consumer.pop().unwrap_err(), consumer.peek_len()),
        (RecordPopError::Empty, Err(RecordPopError::Empty))
    );
    assert!(producer.is_empty());
}

#[test]
fn a_record_that_can_never_fit_is_refused_as_such() {
    let (mut producer, consumer) = pair(128);
    for len in [57, 64, 128, 10_000] {
        let error = RecordPushError::TooLong { max: 56 };
        assert_eq!(producer.push(&vec![1; len]), Err(error));
        assert_eq!(producer.reserve(len).unwrap_err(), error);
        assert_eq!(producer.batch().push(&vec![1; len]), Err(error));
    }
    assert_eq!(producer.reserve(usize::MAX).unwrap_err(), RecordPushError::TooLong { max: 56 });
    assert_eq!((producer.position(), consumer.len()), (0, 0));
    assert_eq!(producer.push(&[1; 56]), Ok(()));
}

#[test]
fn a_buffer_that_is_too_small_leaves_the_record() {
    let (mut producer, mut consumer) = pair(128);
    producer.push(&[5; 10]).unwrap();
    let mut to = [0; 9];
    for _ in 0..3 {
        assert_eq!(consumer.pop_into(&mut to), Err(RecordPopError::BufferTooSmall { needed: 10 }));
    }
    assert_eq!((to, consumer.position()), ([0; 9], 0));
    let mut to = [0; 12];
    assert_eq!(consumer.pop_into(&mut to), Ok(10));
    assert_eq!(to, [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0, 0]);
}

/// The look behind padding and the refusal leave the record where it is, also for a successor.
#[test]
fn a_buffer_that_is_too_small_behind_padding_leaves_the_record() {
    let (memory, ring) = untrusted(128);
    memory.set_word(LINE.tail, 112);
    memory.set_word(LINE.head, 112);
    let (mut producer, mut consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    producer.push(&[5; 20]).unwrap();
    assert_eq!(consumer.len(), 16 + 32);
    assert_eq!(consumer.pop_into(&mut [0; 19]), Err(RecordPopError::BufferTooSmall { needed: 20 }));
    assert_eq!((consumer.position(), consumer.len()), (128, 32));
    drop(consumer);
    let (mut heir, mut to) = (ring.consumer().unwrap(), [0; 20]);
    assert_eq!((heir.pop_into(&mut to), to), (Ok(20), [5; 20]));
}

#[test]
fn a_reservation_publishes_what_is_committed_and_nothing_when_dropped() {
    let (mut producer, mut consumer) = pair(128);
    for lap in 0..20_u8 {
        let mut room = producer.reserve(40).unwrap();
        assert_eq!((room.len(), room.is_empty()), (40, false));
        room.as_mut_slice().fill(lap);
        room.set(1, &[9, 9]).unwrap();
        assert_eq!(consumer.peek_len(), Err(RecordPopError::Empty), "seen before the commit");
        room.commit(5).unwrap();
        let mut aborted = producer.reserve(24).unwrap();
        aborted.set(0, &[7; 24]).unwrap();
        drop(aborted);
        assert_eq!(*consumer.pop().unwrap(), [lap, 9, 9, lap, lap]);
        assert_eq!(consumer.peek_len(), Err(RecordPopError::Empty));
    }
    let room = producer.reserve(3).unwrap();
    assert_eq!(room.commit(4), Err(TooMany { available: 3, asked: 4 }));
    let room = producer.reserve(3).unwrap();
    assert_eq!(room.commit(0), Ok(()));
    assert_eq!(consumer.pop().unwrap().len(), 0, "a refused commit published");
}

#[test]
fn a_reservation_takes_no_more_than_it_has() {
    let (mut producer, _consumer) = pair(128);
    let mut room = producer.reserve(10).unwrap();
    assert_eq!(room.set(0, &[1; 11]), Err(TooMany { available: 10, asked: 11 }));
    assert_eq!(room.set(9, &[1; 2]), Err(TooMany { available: 10, asked: 11 }));
    assert_eq!(room.set(11, &[]), Err(TooMany { available: 10, asked: 11 }));
    let most = usize::MAX;
    assert_eq!(room.set(most, &[1]), Err(TooMany { available: 10, asked: most }));
    assert_eq!((room.set(10, &[]), room.set(9, &[1])), (Ok(()), Ok(())));
}

/// An empty record whose frame is the last word of the data has its payload at the very end.
#[test]
fn an_empty_record_may_end_the_data() {
    for trusted in [true, false] {
        let (memory, ring) = untrusted(64);
        memory.set_word(LINE.tail, 56);
        memory.set_word(LINE.head, 56);
        if trusted {
            drop(ring);
            let (mut producer, mut consumer) = Ring::open(memory.trusted(), 0).unwrap().split().unwrap();
            let mut room = producer.reserve(0).unwrap();
            assert!(room.is_empty() && room.as_mut_slice().is_empty());
            room.commit(0).unwrap();
            assert!(consumer.pop().unwrap().is_empty());
        } else {
            let (mut producer, mut consumer) = ring.split().unwrap();
            let mut room = producer.reserve(0).unwrap();
            room.set(0, &[]).unwrap();
            room.commit(0).unwrap();
            consumer.pop().unwrap().get(0, &mut []).unwrap();
        }
        assert_eq!(memory.word(LINE.tail), 64);
        memory.assert_guards();
    }
}

#[test]
fn a_batch_is_published_whole_or_not_at_all() {
    let (mut producer, mut consumer) = pair(256);
    for lap in 0..30 {
        let records: Vec<_> = (0..).zip(20..24).map(|(i, len)| record(lap * 4 + i, len)).collect();
        let mut batch = producer.batch();
        assert!(batch.is_empty());
        for bytes in &records {
            batch.push(bytes).unwrap();
        }
        assert_eq!((batch.len(), batch.is_empty()), (4, false));
        assert_eq!(consumer.peek_len(), Err(RecordPopError::Empty), "seen before the commit");
        assert_eq!(batch.commit(), 4);
        for bytes in &records {
            assert_eq!(*consumer.pop().unwrap(), **bytes);
        }
        consumer.release();
        // Dropped: nothing of it is ever seen.
        let mut batch = producer.batch();
        batch.push(&[1; 100]).unwrap();
        drop(batch);
    }
    let position = producer.position();
    assert_eq!(producer.batch().commit(), 0);
    assert_eq!(producer.position(), position);
}

#[test]
fn a_batch_keeps_what_fitted_when_the_next_does_not() {
    let (mut producer, mut consumer) = pair(64);
    let mut batch = producer.batch();
    batch.push(&[1; 16]).unwrap();
    batch.push(&[2; 16]).unwrap();
    assert_eq!(batch.push(&[3; 16]), Err(RecordPushError::Full));
    assert_eq!(batch.push(&[3; 25]), Err(RecordPushError::TooLong { max: 24 }));
    batch.push(&[4; 8]).unwrap();
    assert_eq!((batch.push(&[]), batch.len()), (Err(RecordPushError::Full), 3));
    assert_eq!(batch.commit(), 3);
    for expected in [vec![1; 16], vec![2; 16], vec![4; 8]] {
        assert_eq!(*consumer.pop().unwrap(), *expected);
    }
}

#[test]
fn a_record_in_place_is_consumed_when_dropped_and_not_before() {
    let (mut producer, mut consumer) = pair(128);
    producer.push(b"hello").unwrap();
    producer.push(b"world").unwrap();
    let record = consumer.pop().unwrap();
    assert_eq!((&*record, record.len(), record.is_empty()), (b"hello".as_slice(), 5, false));
    let mut to = [0; 3];
    record.get(1, &mut to).unwrap();
    assert_eq!(&to, b"ell");
    assert_eq!(record.get(3, &mut to), Err(TooMany { available: 5, asked: 6 }));
    let most = usize::MAX;
    assert_eq!(record.get(most, &mut to), Err(TooMany { available: 5, asked: most }));
    assert_eq!(&to, b"ell", "a refused copy wrote");
    assert_eq!(producer.len(), 32);
    drop(record);
    assert_eq!((consumer.position(), consumer.len()), (16, 16));
    // A record that is never dropped is never consumed.
    let _kept = ManuallyDrop::new(consumer.pop().unwrap());
    assert_eq!(*consumer.pop().unwrap(), *b"world");
}

#[test]
fn the_head_is_released_as_tuned() {
    for (release_every, period) in
        [(None, 16), (Some(0), 1), (Some(1), 1), (Some(40), 40), (Some(u64::MAX), 128)]
    {
        let (mut producer, mut consumer) = pair(128);
        let tuning = Tuning::default();
        consumer.tune(release_every.map_or(tuning, |n| tuning.release_every(n)));
        while producer.push(&[]).is_ok() {}
        let mut most = 0;
        while !consumer.is_empty() {
            assert_eq!(consumer.pop_into(&mut []), Ok(0));
            let held = producer.len() - consumer.len();
            most = most.max(held);
            assert!(held < period, "{held} held back, every {release_every:?}");
        }
        assert_eq!(most, (period - 1) / 8 * 8);
        assert_eq!(consumer.peek_len(), Err(RecordPopError::Empty));
        assert_eq!(producer.len(), 0, "not released when found empty");
    }
}

#[test]
fn release_gives_everything_back_now() {
    let (mut producer, mut consumer) = pair(128);
    consumer.tune(Tuning::default().release_every(128).touch(false).pauses(0));
    producer.push(&[1; 24]).unwrap();
    producer.push(&[2; 24]).unwrap();
    drop(consumer.pop().unwrap());
    assert_eq!((producer.len(), consumer.len()), (64, 32));
    consumer.release();
    assert_eq!(producer.len(), 32);
}

#[test]
fn capacities_out_of_range_are_refused() {
    let most = 1 << 32;
    for found in [0, 1, 8, 32, 63, 65, 96, most - 1] {
        let result = Ring::on_heap(found).map(drop);
        assert!(
            matches!(result, Err(CreateError::Capacity { min: 64, found: f, .. }) if f == found),
            "{result:?}"
        );
    }
    for found in [most + 1, most * 2, usize::MAX] {
        let error = CreateError::Capacity { min: 64, max: most, found };
        assert_eq!(Ring::<Trusted>::bytes(found, &Options::new()), Err(error));
        assert_eq!(Ring::create(Region::heap(1024).unwrap(), found, &Options::new()).map(drop), Err(error));
    }
    assert_eq!(Ring::<Trusted>::bytes(most, &Options::new()), Ok(640 + most));
}

#[test]
fn the_range_that_a_refusal_names_is_the_range_that_holds() {
    for found in [0, 32, 65] {
        let Err(CreateError::Capacity { min, max, .. }) = Ring::<Trusted>::bytes(found, &Options::new())
        else {
            panic!("{found} is no capacity")
        };
        assert!(Ring::<Trusted>::bytes(min, &Options::new()).is_ok(), "{found}: the smallest is {min}");
        assert!(Ring::<Trusted>::bytes(max, &Options::new()).is_ok(), "{found}: the largest is {max}");
    }
}

#[test]
fn a_region_that_is_too_short_is_refused() {
    for (stride, offsets) in STRIDES {
        let options = Options::new().role_stride(stride);
        let needed = offsets.data + 64;
        assert_eq!(Ring::<Untrusted>::bytes(64, &options), Ok(needed));
        let region = Region::heap(needed - 1).unwrap().distrust();
        let error = Ring::create(region, 64, &options).unwrap_err();
        assert_eq!(error, CreateError::RegionTooSmall { needed, found: needed - 1 });
        let (mut producer, mut consumer) =
            Ring::create(Region::heap(needed).unwrap(), 64, &options).unwrap().split().unwrap();
        producer.push(b"page or line").unwrap();
        assert_eq!(*consumer.pop().unwrap(), *b"page or line");
    }
}

#[test]
fn a_ring_in_a_static_works() {
    let lines: &'static mut [Line<[u8; LINE_BYTES]>] = Box::leak(vec![Line::new([0; LINE_BYTES]); 6].into());
    let ring = Ring::create(Region::from_static(lines), 128, &Options::new()).unwrap();
    let (mut producer, mut consumer) = ring.split().unwrap();
    producer.push(&[8; 56]).unwrap();
    assert_eq!(*consumer.pop().unwrap(), [8; 56]);
}

#[test]
fn roles_are_taken_freed_and_replaced() {
    let ring = Ring::on_heap(128).unwrap();
    for generation in 1..4 {
        let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
        let owner = Owner { id: std::process::id(), generation };
        assert_eq!((producer.owner(), consumer.owner()), (owner, owner));
        assert_eq!((ring.producer_owner(), ring.consumer_owner()), (Some(owner), Some(owner)));
        assert_eq!(ring.producer().unwrap_err(), AttachError::RoleTaken(owner));
        assert_eq!(ring.consumer().unwrap_err(), AttachError::RoleTaken(owner));
    }
    assert_eq!((ring.producer_owner(), ring.consumer_owner()), (None, None));
    let dead = ManuallyDrop::new(ring.producer().unwrap());
    let expected = dead.owner();
    // SAFETY: the former handle is never used again.
    let heir = unsafe { ring.replace_producer(expected) }.unwrap();
    // SAFETY: as above.
    let error = unsafe { ring.replace_producer(expected) }.unwrap_err();
    assert_eq!(error, AttachError::OwnerChanged { expected, found: Some(heir.owner()) });
    // SAFETY: as above; nobody holds the role.
    let error = unsafe { ring.replace_consumer(expected) }.unwrap_err();
    assert_eq!(error, AttachError::OwnerChanged { expected, found: None });
}

#[test]
fn a_new_producer_goes_on_where_the_dead_one_published() {
    let ring = Ring::on_heap(128).unwrap();
    let mut consumer = ring.consumer().unwrap();
    let mut dead = ManuallyDrop::new(ring.producer().unwrap());
    dead.push(b"one").unwrap();
    let owner = dead.owner();
    // Killed in the middle of a batch, padding written and all.
    let mut batch = dead.batch();
    while batch.push(&[6; 20]).is_ok() {}
    let _in_hand = ManuallyDrop::new(batch);
    // SAFETY: the former handle is never used again.
    let mut heir = unsafe { ring.replace_producer(owner) }.unwrap();
    assert_eq!((heir.position(), heir.len()), (16, 16));
    heir.push(b"two").unwrap();
    assert_eq!(*consumer.pop().unwrap(), *b"one");
    assert_eq!(*consumer.pop().unwrap(), *b"two");
    assert_eq!(consumer.peek_len(), Err(RecordPopError::Empty));
}

#[test]
fn a_new_consumer_sees_a_bounded_number_of_records_again() {
    for release_every in [1, 24, 100, 512] {
        for popped in 0..14_u64 {
            let ring = Ring::on_heap(512).unwrap();
            let mut producer = ring.producer().unwrap();
            for i in 0..14 {
                producer.push(&record(i, 24)).unwrap();
            }
            let mut dead = ManuallyDrop::new(ring.consumer().unwrap());
            dead.tune(Tuning::default().release_every(release_every));
            for i in 0..popped {
                assert_eq!(*dead.pop().unwrap(), *record(i, 24));
            }
            let owner = dead.owner();
            let _in_hand = ManuallyDrop::new(dead.pop().unwrap());
            // SAFETY: the former handle is never used again.
            let mut heir = unsafe { ring.replace_consumer(owner) }.unwrap();
            let first = heir.position();
            assert!(first.is_multiple_of(32) && popped * 32 - first < release_every.max(32));
            for i in first / 32..14 {
                assert_eq!(*heir.pop().unwrap(), *record(i, 24), "the touch changed a record");
            }
            assert_eq!(heir.peek_len(), Err(RecordPopError::Empty));
        }
    }
}

#[test]
fn the_region_lives_as_long_as_any_handle() {
    let (memory, ring) = untrusted(128);
    let (producer, consumer) = (ring.producer().unwrap(), ring.consumer().unwrap());
    assert_eq!(memory.users(), 3);
    drop(ring);
    drop(producer);
    assert_eq!(memory.users(), 1);
    drop(consumer);
    assert_eq!(memory.users(), 0);

    let (memory, ring) = untrusted(128);
    drop(memory);
    let (mut producer, mut consumer) = ring.split().unwrap();
    producer.push(&[1]).unwrap();
    drop(producer);
    let mut to = [0; 1];
    assert_eq!((consumer.pop_into(&mut to), to), (Ok(1), [1]));
}

#[test]
fn debug_texts_name_the_handle_and_show_no_bytes() {
    let ring = Ring::on_heap(128).unwrap();
    assert_eq!(format!("{ring:?}"), "Ring { capacity_bytes: 128, .. }");
    let (mut producer, mut consumer) = ring.split().unwrap();
    assert_eq!(format!("{producer:?}"), "Producer { position: 0, .. }");
    assert_eq!(format!("{:?}", producer.reserve(3).unwrap()), "Reservation { len: 3, .. }");
    assert_eq!(format!("{:?}", producer.batch()), "Batch { records: 0, .. }");
    producer.push(&[1, 2]).unwrap();
    assert_eq!(format!("{consumer:?}"), "Consumer { position: 0, .. }");
    assert_eq!(format!("{:?}", consumer.pop().unwrap()), "Record { len: 2, .. }");
}

#[test]
fn errors_are_small_and_say_what_was_expected_and_found() {
    assert!(size_of::<RecordPushError>() <= 16 && size_of::<RecordPopError>() <= 16);
    let head = Corrupt { what: CorruptWord::Head, found: 7 };
    let record = Corrupt { what: CorruptWord::Record, found: 0x9 };
    let texts: [(&dyn Error, &str); 6] = [
        (&RecordPushError::Full, "the ring is full"),
        (&RecordPushError::TooLong { max: 56 }, "the record is too long: expected at most 56 bytes"),
        (
            &RecordPushError::Corrupt(head),
            "corrupt ring: expected a head at most one capacity behind the tail, found 7",
        ),
        (&RecordPopError::Empty, "the ring is empty"),
        (&RecordPopError::BufferTooSmall { needed: 9 }, "the buffer is too small: the record has 9 bytes"),
        (
            &RecordPopError::Corrupt(record),
            "corrupt ring: expected a record within the published bytes, found header 0x9",
        ),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
        assert!(error.source().is_none());
    }
}

#[test]
fn slot_errors_convert_to_record_errors() {
    let corrupt = Corrupt { what: CorruptWord::Tail, found: 7 };
    assert_eq!(RecordPushError::from(PushError::Full), RecordPushError::Full);
    assert_eq!(RecordPushError::from(PushError::Corrupt(corrupt)), RecordPushError::Corrupt(corrupt));
    assert_eq!(RecordPopError::from(PopError::Empty), RecordPopError::Empty);
    assert_eq!(RecordPopError::from(PopError::Corrupt(corrupt)), RecordPopError::Corrupt(corrupt));
    assert_eq!(
        CreateError::from(RegionError::Length { found: 0 }),
        CreateError::Region(RegionError::Length { found: 0 })
    );
}
