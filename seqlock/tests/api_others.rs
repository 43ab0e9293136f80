//! Byte values, many writers, and the classic cell.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod common;

use common::{Leases, Memory, Value, byte, role};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tidewire_seqlock::{
    AttachError, BytesReadError, CorruptWord, CreateError, Options, TooLong, UpdateError, WriteError, bytes,
    classic, shared,
};
use tidewire_shm::{Field, Liveness, Region, RegionError, Unleased, Untrusted};

fn value(version: u64, len: usize) -> Vec<u8> {
    (0..len).map(|i| byte(version, i)).collect()
}

#[test]
fn byte_values_of_every_length_round_trip() {
    for max in [1, 7, 8, 9, 40, 48, 49, 64, 100, 1000, 5000] {
        let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(max, &Options::new()).unwrap());
        let cell = bytes::Cell::create(memory.region(), max, &value(0, max / 2), &Options::new()).unwrap();
        let view = bytes::Cell::open(memory.region().read_only(), max, 0).unwrap();
        assert_eq!((cell.max(), view.max()), (max, max));
        let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), view.reader());
        let mut buffer = vec![0xEE; max + 1];
        assert_eq!(reader.read(&mut buffer), Ok((&value(0, max / 2)[..], 0)));
        let lens = (0..=max.min(130)).chain([max / 2, max - 1, max, 0, max]);
        for (version, len) in (1..).zip(lens) {
            assert_eq!(writer.write(&value(version, len)), Ok(version));
            assert_eq!(reader.read(&mut buffer), Ok((&value(version, len)[..], version)));
            assert_eq!(reader.try_read(&mut buffer[..len]), Ok((&value(version, len)[..], version)));
            assert_eq!(reader.read_if_changed(version, &mut buffer), Ok(None));
            let changed = reader.read_if_changed(version - 1, &mut buffer);
            assert_eq!(changed, Ok(Some((&value(version, len)[..], version))));
            if let Some(short) = len.checked_sub(1) {
                let error = reader.read(&mut buffer[..short]).unwrap_err();
                assert_eq!(error, BytesReadError::BufferTooSmall { needed: len });
            }
            assert_eq!(reader.version(), Ok(version));
        }
        let version = writer.version();
        assert_eq!(writer.write(&value(1, max + 1)), Err(TooLong { max, found: max + 1 }));
        assert_eq!((writer.version(), reader.version(), writer.max()), (version, Ok(version), max));
        memory.check_guards();
    }
}

#[test]
fn byte_cells_that_cannot_be_are_refused() {
    let create = |max, initial: &[u8]| bytes::Cell::on_heap(max, initial).map(drop).unwrap_err();
    assert_eq!(create(0, b""), CreateError::Element { bytes: 0, align: 1 });
    assert_eq!(create(3, b"four"), CreateError::Initial(TooLong { max: 3, found: 4 }));
    let huge = bytes::Cell::<Untrusted>::bytes(usize::MAX, &Options::new()).unwrap_err();
    assert_eq!(huge, CreateError::Element { bytes: usize::MAX, align: 1 });
    let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(10, &Options::new()).unwrap());
    bytes::Cell::create(memory.region(), 10, b"", &Options::new()).unwrap();
    for max in [9, 11, usize::MAX] {
        let error = bytes::Cell::open(memory.region(), max, 0).unwrap_err();
        assert!(
            matches!(error, AttachError::Incompatible(error) if error.field == Field::ElementBytes),
            "{error}"
        );
    }
    let view = bytes::Cell::open(memory.region().read_only(), 10, 0).unwrap();
    assert_eq!(view.writer(&Unleased).unwrap_err(), AttachError::Region(RegionError::ReadOnly));
}

#[test]
fn a_byte_writer_goes_on_where_the_one_before_stopped() {
    let cell = bytes::Cell::on_heap(10, b"zero").unwrap();
    cell.writer(&Unleased).unwrap().write(b"one").unwrap();
    assert_eq!(cell.writer_owner(), None);
    let mut second = cell.writer(&Unleased).unwrap();
    assert_eq!(cell.writer_owner(), Some(second.owner()));
    assert!(matches!(cell.writer(&Unleased), Err(AttachError::RoleTaken(_))));
    assert_eq!(second.write(b"two"), Ok(2));
    let mut reader = cell.reader().clone();
    assert_eq!(reader.read(&mut [0; 10]), Ok((&b"two"[..], 2)));
    assert_eq!((reader.retries(), reader.corruption()), (0, None));
}

#[test]
fn a_byte_value_is_changed_where_it_is_or_not_at_all() {
    let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(10, &Options::new()).unwrap());
    let cell = bytes::Cell::create(memory.region(), 10, b"zero", &Options::new()).unwrap();
    let (mut writer, mut reader, mut buffer) = (cell.writer(&Unleased).unwrap(), cell.reader(), [0; 10]);
    for (version, len) in (1..=20).zip((0..=10).cycle()) {
        let before = reader.read(&mut buffer).unwrap().0.to_vec();
        let updated = writer.update(|value| {
            assert_eq!(*value, before);
            *value = self::value(version, len);
        });
        assert_eq!(updated, Ok(version));
        assert_eq!(reader.read(&mut buffer), Ok((&value(version, len)[..], version)));
    }
    let long = writer.update(|value| value.resize(11, 7));
    assert_eq!(long, Err(UpdateError::TooLong(TooLong { max: 10, found: 11 })));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        writer.update(|value| {
            value.push(1);
            panic!("in the middle")
        })
    }));
    assert!(panicked.is_err());
    let last = value(20, 8);
    assert_eq!((reader.read(&mut buffer), writer.version()), (Ok((&last[..], 20)), 20));

    // The length of version 20, in the slot of 20 % 8: behind two words of data.
    let length = 384 + 128 + 128 + 4 * 64 + 16;
    assert_eq!(memory.get(length), 8);
    memory.set(length, 11);
    let Err(UpdateError::Corrupt(corrupt)) = writer.update(|_| panic!("called")) else {
        panic!("not found out")
    };
    assert_eq!((corrupt.what, corrupt.found), (CorruptWord::Length, 11));
    assert_eq!((writer.write(b"mended"), writer.update(|value| value.truncate(3))), (Ok(21), Ok(22)));
    assert_eq!(reader.read(&mut buffer), Ok((&b"men"[..], 22)));
    memory.check_guards();
}

fn leased() -> (Leases, shared::Cell<[u64; 9]>) {
    let options = Options::new().liveness::<Leases>().writers(3);
    let region = Region::heap(shared::Cell::<[u64; 9]>::bytes(&options).unwrap()).unwrap();
    (Leases::default(), shared::Cell::create(region, &Value::of(0), &options).unwrap())
}

#[test]
fn writers_take_turns() {
    let (leases, cell) = leased();
    let mut reader = cell.reader();
    let mut writers: Vec<_> = (0..3).map(|_| cell.writer(&leases).unwrap()).collect();
    assert_eq!(writers.iter().map(shared::Writer::index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(cell.writer(&leases).unwrap_err(), AttachError::WritersExhausted { writers: 3 });
    for version in 1..=30 {
        let writer = &mut writers[usize::try_from(version).unwrap() * 7 % 3];
        if version % 2 == 0 {
            assert_eq!(writer.write(&leases, &Value::of(version)), Ok(version));
        } else {
            let updated = writer.update(&leases, |value| {
                assert_eq!(*value, <[u64; 9]>::of(version - 1));
                *value = Value::of(version);
            });
            assert_eq!(updated, Ok(version));
        }
        assert_eq!(cell.lock_holder(), None);
        assert_eq!(reader.read(), Ok((<[u64; 9]>::of(version), version)));
    }
    let second = writers.remove(1);
    assert_eq!(cell.writer_owner(1), Some(second.owner()));
    drop(second);
    assert_eq!((cell.writer_owner(1), cell.writer_owner(3), cell.writers()), (None, None, 3));
    assert_eq!(cell.writer(&leases).unwrap().index(), 1);
}

/// Dies with the lock: in an update that never comes back.
fn die_with_the_lock(cell: &shared::Cell<[u64; 9]>, leases: &Leases) -> u32 {
    let mut writer = cell.writer(leases).unwrap();
    let index = writer.index();
    // A thread that stays in the update for ever, as a process does that is killed there.
    let leases = leases.clone();
    let (inside, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = writer.update(&leases, |_| {
            inside.send(()).unwrap();
            loop {
                std::thread::park();
            }
        });
    });
    wait.recv().unwrap();
    assert_eq!(cell.lock_holder(), Some(index));
    index
}

#[test]
fn a_lock_is_kept_from_others_while_its_holder_lives_and_taken_from_it_when_it_is_dead() {
    let (leases, cell) = leased();
    let mut other = cell.writer(&leases).unwrap();
    let holder = die_with_the_lock(&cell, &leases);
    assert_eq!(other.write(&leases, &Value::of(1)), Err(WriteError::Busy { writer: holder }));
    assert_eq!(cell.reader().read(), Ok((<[u64; 9]>::of(0), 0)), "readers wait for nobody");
    leases.kill(role(holder));
    assert_eq!(other.write(&leases, &Value::of(1)), Ok(1));
    assert_eq!((cell.lock_holder(), cell.reader().read()), (None, Ok((<[u64; 9]>::of(1), 1))));
}

#[test]
fn who_takes_the_number_of_a_dead_holder_frees_its_lock() {
    let (leases, cell) = leased();
    let mut other = cell.writer(&leases).unwrap();
    let holder = die_with_the_lock(&cell, &leases);
    let third = cell.writer(&leases).unwrap();
    assert_ne!(third.index(), holder);
    leases.kill(role(holder));
    let successor = cell.writer(&leases).unwrap();
    assert_eq!((successor.index(), cell.lock_holder()), (holder, None));
    assert_eq!(other.write(&leases, &Value::of(1)), Ok(1));
}

#[test]
fn an_update_that_panics_frees_the_lock() {
    let cell = shared::Cell::on_heap(&1_u64).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| writer.update(&Unleased, |_| panic!("on purpose"))));
    assert!(panic.is_err());
    assert_eq!((cell.lock_holder(), cell.reader().read()), (None, Ok((1, 0))));
    assert_eq!(writer.write(&Unleased, &2), Ok(1));
}

#[test]
fn a_lock_that_names_nobody_is_corrupt_and_read_only_memory_has_no_writers() {
    let options = Options::new().writers(2);
    let memory = Memory::new(shared::Cell::<u64>::bytes(&options).unwrap());
    let cell = shared::Cell::create(memory.region(), &0_u64, &options).unwrap();
    let mut writer = cell.writer(&Unleased).unwrap();
    memory.set(384, 1 << 32 | 3);
    for _ in 0..2 {
        let Err(WriteError::Corrupt(corrupt)) = writer.write(&Unleased, &1) else { panic!("a lie") };
        assert_eq!((corrupt.what, corrupt.found), (CorruptWord::Lock, 1 << 32 | 3));
        assert_eq!(writer.corruption(), Some(corrupt));
        memory.set(384, 0);
    }
    let view = shared::Cell::<u64, Untrusted>::open(memory.region().read_only(), 0).unwrap();
    assert_eq!(view.writer(&Unleased).unwrap_err(), AttachError::Region(RegionError::ReadOnly));
    for found in [0, 65] {
        let error = shared::Cell::<u64>::bytes(&Options::new().writers(found)).unwrap_err();
        assert_eq!(error, CreateError::Count { what: "writers", max: 64, found });
    }
}

fn classic_round_trip<const N: usize>()
where
    [u64; N]: bytemuck::Pod,
{
    let memory = Memory::new(classic::Cell::<[u64; N]>::bytes(&Options::new()).unwrap());
    let cell = classic::Cell::create(memory.region(), &<[u64; N]>::of(0), &Options::new()).unwrap();
    let view = classic::Cell::<[u64; N], Untrusted>::open(memory.region().read_only(), 0).unwrap();
    let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), view.reader());
    assert_eq!(reader.read(&Unleased), Ok((Value::of(0), 0)));
    for version in 1..=20 {
        if version % 2 == 0 {
            assert_eq!(writer.write(&Value::of(version)), version);
        } else {
            assert_eq!(writer.update(|value| *value = Value::of(version)), Ok(version));
        }
        assert_eq!(reader.read(&Unleased), Ok((Value::of(version), version)));
        assert_eq!(reader.try_read(), Ok((Value::of(version), version)));
        let mut to = [0; N];
        assert_eq!((reader.read_into(&Unleased, &mut to), to), (Ok(version), Value::of(version)));
    }
    assert_eq!(view.writer(&Unleased).unwrap_err(), AttachError::Region(RegionError::ReadOnly));
    assert_eq!((cell.writer_owner(), reader.retries(), reader.corruption()), (Some(writer.owner()), 0, None));
    memory.check_guards();
}

#[test]
fn classic_values_round_trip() {
    classic_round_trip::<1>();
    classic_round_trip::<7>();
    classic_round_trip::<8>();
    classic_round_trip::<100>();
}

/// Where the sequence lies: behind header, shape, bell and owner.
const SEQUENCE: usize = 512;

#[test]
fn a_classic_writer_that_dies_while_it_writes_is_found_out_and_mended() {
    let options = Options::new().liveness::<Leases>();
    let leases = Leases::default();
    let memory = Memory::new(classic::Cell::<[u64; 9]>::bytes(&options).unwrap());
    let cell = classic::Cell::create(memory.region(), &<[u64; 9]>::of(0), &options).unwrap();
    let mut reader = cell.reader();
    let mut writer = cell.writer(&leases).unwrap();
    writer.write(&Value::of(1));
    // As a write leaves it that is stopped in step 2.
    memory.set(SEQUENCE, 3);
    memory.set(SEQUENCE + 64, 0xDEAD);
    assert_eq!(reader.read(&leases), Err(classic::ReadError::Busy), "the writer lives");
    assert!(reader.retries() >= 1000);
    leases.kill(role(0));
    let _dead = std::mem::ManuallyDrop::new(writer);
    assert_eq!(reader.read(&leases), Err(classic::ReadError::WriterDied));
    assert_eq!(reader.try_read(), Err(classic::ReadError::Busy));
    assert_eq!(reader.read(&Unleased), Err(classic::ReadError::Busy), "nothing is proven");

    let mut next = cell.writer(&leases).unwrap();
    assert!(next.is_damaged());
    assert_eq!((next.version(), next.update(|_| ())), (1, Err(classic::Damaged)));
    assert_eq!(reader.read(&leases), Err(classic::ReadError::Busy));
    assert_eq!(next.write(&Value::of(2)), 2);
    assert!(!next.is_damaged());
    assert_eq!(reader.read(&leases), Ok((Value::of(2), 2)));
    assert_eq!(leases.tenancy(role(0)), tidewire_shm::Tenancy::Held);
}

#[test]
fn a_sequence_that_goes_back_is_corrupt() {
    let memory = Memory::new(classic::Cell::<u64>::bytes(&Options::new()).unwrap());
    let cell = classic::Cell::create(memory.region(), &0_u64, &Options::new()).unwrap();
    for lie in [2_u64, 3, u64::MAX, 1 << 63] {
        let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
        while writer.version() < 5 {
            writer.write(&1);
        }
        let (_, before) = reader.read(&Unleased).unwrap();
        memory.set(SEQUENCE, lie);
        for _ in 0..2 {
            let Err(classic::ReadError::Corrupt(corrupt)) = reader.read(&Unleased) else { panic!("a lie") };
            assert_eq!((corrupt.what, corrupt.found), (CorruptWord::Version, lie >> 1));
            memory.set(SEQUENCE, before * 2);
        }
        if lie >> 63 == 1 {
            drop(writer);
            memory.set(SEQUENCE, lie);
            assert!(matches!(cell.writer(&Unleased), Err(AttachError::Corrupt(_))));
            memory.set(SEQUENCE, before * 2);
        }
    }
}
