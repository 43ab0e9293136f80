//! Cells of a plain type, and tables of them: values, versions, roles, and what is refused.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Leases, Memory, Value, pattern, role};
use tidewire_seqlock::table::Table;
use tidewire_seqlock::{AttachError, Cell, CreateError, Options, ReadError};
use tidewire_shm::{Field, LeaseError, Region, RegionError, RoleStride, Trusted, Unleased, Untrusted};

/// Twenty writes, each read in every way.
fn round_trip<const N: usize>(options: &Options)
where
    [u8; N]: bytemuck::Pod,
{
    let memory = Memory::new(Cell::<[u8; N]>::bytes(options).unwrap());
    let cell = Cell::create(memory.region(), &pattern::<N>(0), options).unwrap();
    let again = Cell::<[u8; N], Untrusted>::open(memory.region().read_only(), 0).unwrap();
    let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), again.reader());
    assert_eq!(reader.read(), Ok((pattern::<N>(0), 0)));
    for version in 1..=20 {
        assert_eq!(reader.read_if_changed(version - 1), Ok(None));
        if version % 3 == 0 {
            let updated = writer.update(|value| {
                assert_eq!(*value, pattern::<N>(version - 1), "{N} bytes");
                *value = pattern::<N>(version);
            });
            assert_eq!(updated, version);
        } else {
            assert_eq!(writer.write(&pattern::<N>(version)), version);
        }
        assert_eq!((writer.version(), writer.value()), (version, pattern::<N>(version)));
        assert_eq!(reader.version(), Ok(version));
        assert_eq!(reader.read_if_changed(version - 1), Ok(Some((pattern::<N>(version), version))));
        assert_eq!(reader.read(), Ok((pattern::<N>(version), version)));
        assert_eq!(reader.try_read(), Ok((pattern::<N>(version), version)));
        let mut value = [0; N];
        assert_eq!(again.reader().read_into(&mut value), Ok(version));
        assert_eq!(value, pattern::<N>(version));
    }
    assert_eq!((reader.retries(), reader.corruption()), (0, None));
    memory.check_guards();
}

#[test]
fn every_size_round_trips() {
    for slots in [4, 8, 64] {
        for stride in [RoleStride::Line, RoleStride::Page] {
            let options = Options::new().slots(slots).role_stride(stride);
            round_trip::<1>(&options);
            round_trip::<2>(&options);
            round_trip::<7>(&options);
            round_trip::<8>(&options);
            round_trip::<9>(&options);
            round_trip::<24>(&options);
            round_trip::<55>(&options);
            round_trip::<56>(&options);
            round_trip::<57>(&options);
            round_trip::<63>(&options);
            round_trip::<64>(&options);
            round_trip::<65>(&options);
            round_trip::<127>(&options);
            round_trip::<128>(&options);
            round_trip::<200>(&options);
            round_trip::<1000>(&options);
            round_trip::<4096>(&options);
        }
    }
}

#[test]
fn types_of_every_alignment_round_trip() {
    fn check<T: bytemuck::Pod + PartialEq + std::fmt::Debug>(value: T) {
        let cell = Cell::on_heap(&T::zeroed()).unwrap();
        let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
        writer.write(&value);
        assert_eq!(reader.read(), Ok((value, 1)));
    }
    check(0xA5_u8);
    check(0xA5A5_u16);
    check([1_u16, 2, 3]);
    check(7_u32);
    check([7_u32; 5]);
    check(-1_i64);
    check(u128::MAX / 3);
    check([u128::MAX / 3; 9]);
    check(1.5_f64);
}

#[test]
fn readers_see_what_was_written_while_they_did_not_look() {
    let cell = Cell::on_heap(&<[u64; 9]>::of(0)).unwrap();
    let (mut writer, mut early) = (cell.writer(&Unleased).unwrap(), cell.reader());
    early.read().unwrap();
    for version in 1..=100 {
        writer.write(&Value::of(version));
    }
    let late = cell.reader();
    for mut reader in [early.clone(), early, late] {
        assert_eq!(reader.read(), Ok((<[u64; 9]>::of(100), 100)));
    }
}

#[test]
fn an_update_that_panics_writes_nothing() {
    fn check<const N: usize>()
    where
        [u64; N]: bytemuck::Pod,
    {
        let cell = Cell::on_heap(&<[u64; N]>::of(0)).unwrap();
        let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
        writer.write(&Value::of(1));
        let panic = catch_unwind(AssertUnwindSafe(|| {
            writer.update(|value| {
                value.fill(3);
                panic!("on purpose");
            })
        }));
        assert!(panic.is_err());
        assert_eq!(reader.read(), Ok((<[u64; N]>::of(1), 1)));
        assert_eq!(writer.write(&Value::of(2)), 2);
        assert_eq!(reader.read(), Ok((<[u64; N]>::of(2), 2)));
    }
    check::<1>();
    check::<7>();
    check::<8>();
}

#[test]
fn the_role_is_one_and_a_drop_frees_it() {
    let cell = Cell::on_heap(&0_u64).unwrap();
    assert_eq!(cell.writer_owner(), None);
    let mut first = cell.writer(&Unleased).unwrap();
    first.write(&5);
    let owner = first.owner();
    assert_eq!((owner.id, owner.generation), (std::process::id(), 1));
    assert_eq!(cell.writer_owner(), Some(owner));
    assert_eq!(cell.writer(&Unleased).unwrap_err(), AttachError::RoleTaken(owner));
    drop(first);
    assert_eq!(cell.writer_owner(), None);
    let mut second = cell.writer(&Unleased).unwrap();
    assert_eq!((second.owner().generation, second.version(), second.value()), (2, 1, 5));
    assert_eq!(second.write(&6), 2);
}

#[test]
fn a_dead_writer_is_followed_where_leases_prove_it() {
    let options = Options::new().liveness::<Leases>();
    let leases = Leases::default();
    let region = Region::heap(Cell::<u64>::bytes(&options).unwrap()).unwrap();
    let cell = Cell::create(region, &0_u64, &options).unwrap();
    let mut first = cell.writer(&leases).unwrap();
    first.write(&5);
    let owner = first.owner();
    assert_eq!(cell.writer(&leases).unwrap_err(), AttachError::RoleTaken(owner), "it lives");
    leases.kill(role(0));
    let mut second = cell.writer(&leases).unwrap();
    assert_eq!((second.owner().generation, second.version()), (2, 1));
    assert_eq!(second.write(&6), 2);
    // The dead one is torn down late: it must not free what is no longer its own.
    drop(first);
    assert_eq!(cell.writer_owner(), Some(second.owner()));
}

#[test]
fn another_kind_of_leases_is_refused() {
    let options = Options::new().liveness::<Leases>();
    let region = Region::heap(Cell::<u64>::bytes(&options).unwrap()).unwrap();
    let cell = Cell::create(region, &0_u64, &options).unwrap();
    let Err(AttachError::Incompatible(error)) = cell.writer(&Unleased) else { panic!("other leases") };
    assert_eq!((error.field, error.expected, error.found), (Field::Liveness, 1 << 31, 0));
    // A lease that is held while nobody's name stands in the word: somebody is about to take the role.
    let leases = Leases::default();
    let _lease = tidewire_shm::Liveness::acquire(&leases, role(0)).unwrap();
    assert_eq!(cell.writer(&leases).unwrap_err(), AttachError::Lease(LeaseError::Held { role: role(0) }));
}

#[test]
fn what_cannot_be_created_is_refused() {
    let create = |len: usize, options: &Options| {
        Cell::create(Region::heap(len).unwrap(), &0_u64, options).map(drop).unwrap_err()
    };
    for found in [0, 1, 2, 3, 5, 2048] {
        let error = create(1 << 16, &Options::new().slots(found));
        assert_eq!(error, CreateError::Slots { min: 4, max: 1024, found });
    }
    let needed = Cell::<u64>::bytes(&Options::new()).unwrap();
    let found = needed - 1;
    assert_eq!(create(found, &Options::new()), CreateError::RegionTooSmall { needed, found });
    let empty = Cell::<[u64; 0]>::bytes(&Options::new()).unwrap_err();
    assert_eq!(empty, CreateError::Element { bytes: 0, align: 8 });
    for found in [0, (1 << 20) + 1] {
        let error = Table::<u64>::bytes(found, &Options::new()).unwrap_err();
        assert_eq!(error, CreateError::Count { what: "cells", max: 1 << 20, found });
    }
    let region = Region::heap(needed).unwrap().read_only();
    let error = Cell::create(region, &0_u64, &Options::new()).unwrap_err();
    assert_eq!(error, CreateError::Region(RegionError::ReadOnly));
}

#[test]
fn a_read_only_region_gives_readers_and_no_writer() {
    let region = Region::heap(Cell::<u64>::bytes(&Options::new()).unwrap()).unwrap();
    // SAFETY: one cell over both.
    let alias = unsafe { region.alias() };
    let cell = Cell::create(region, &7_u64, &Options::new()).unwrap();
    let view = Cell::<u64, Trusted>::open(alias.read_only(), 0).unwrap();
    assert_eq!(view.writer(&Unleased).unwrap_err(), AttachError::Region(RegionError::ReadOnly));
    assert_eq!(view.reader().read(), Ok((7, 0)));
    let writer = cell.writer(&Unleased).unwrap();
    assert_eq!(view.writer_owner(), Some(writer.owner()));
}

#[test]
fn what_is_opened_must_be_what_was_created() {
    let options = Options::new().type_fingerprint(77);
    let memory = Memory::new(Cell::<[u32; 4]>::bytes(&options).unwrap());
    let field = |error: AttachError| match error {
        AttachError::Incompatible(error) => error.field,
        other => panic!("{other}"),
    };
    let open = |fingerprint| Cell::<[u32; 4], Untrusted>::open(memory.region(), fingerprint);
    assert_eq!(field(open(77).unwrap_err()), Field::Magic);
    Cell::create(memory.region(), &[1_u32; 4], &options).unwrap();
    assert!(open(77).is_ok());
    assert_eq!(field(open(0).unwrap_err()), Field::TypeFingerprint);
    assert_eq!(
        field(Cell::<[u32; 5], Untrusted>::open(memory.region(), 77).unwrap_err()),
        Field::ElementBytes
    );
    assert_eq!(
        field(Cell::<[u64; 2], Untrusted>::open(memory.region(), 77).unwrap_err()),
        Field::ElementAlign
    );
    assert_eq!(field(Table::<[u32; 4], Untrusted>::open(memory.region(), 77).unwrap_err()), Field::Kind);
    let short = memory.region_of(memory.len() - 1);
    assert_eq!(field(Cell::<[u32; 4], Untrusted>::open(short, 77).unwrap_err()), Field::TotalBytes);
}

#[test]
fn creating_over_an_old_cell_starts_anew() {
    let options = Options::new().slots(4);
    let memory = Memory::new(Cell::<[u64; 20]>::bytes(&options).unwrap());
    let old = Cell::create(memory.region(), &[1_u64; 20], &options).unwrap();
    let mut writer = old.writer(&Unleased).unwrap();
    for _ in 0..5 {
        writer.write(&[9; 20]);
    }
    let mut reader = old.reader();
    assert_eq!(reader.read(), Ok(([9; 20], 5)));
    // Nobody tears it down: as a process does that is killed.
    let _dead = std::mem::ManuallyDrop::new(writer);
    let new = Cell::create(memory.region(), &[2_u64; 20], &options).unwrap();
    assert_eq!(new.reader().read(), Ok(([2; 20], 0)));
    assert_eq!(new.writer_owner(), None);
    assert_eq!(new.writer(&Unleased).unwrap().write(&[3; 20]), 1);
    assert_eq!(new.reader().read(), Ok(([3; 20], 1)));
    // Whoever still reads the old one is told, rather than shown versions that go back.
    assert!(matches!(reader.read(), Err(ReadError::Corrupt(_))));
}

#[test]
fn cells_of_a_table_are_independent() {
    fn check<const N: usize>()
    where
        [u64; N]: bytemuck::Pod,
    {
        let table = Table::on_heap(5, |index| <[u64; N]>::of(u64::from(index) * 1000)).unwrap();
        assert_eq!((table.len(), table.is_empty()), (5, false));
        let mut writers: Vec<_> = (0..5).map(|index| table.writer(index, &Unleased).unwrap()).collect();
        for (index, writer) in writers.iter_mut().enumerate() {
            for version in 1..=index as u64 * 7 {
                writer.write(&Value::of(index as u64 * 1000 + version));
            }
        }
        for index in 0..5 {
            let version = u64::from(index) * 7;
            let value = <[u64; N]>::of(u64::from(index) * 1000 + version);
            assert_eq!(table.reader(index).unwrap().read(), Ok((value, version)));
            assert!(matches!(table.writer(index, &Unleased), Err(AttachError::RoleTaken(_))));
        }
        drop(writers.remove(2));
        assert_eq!((table.writer_owner(2), table.writer_owner(3).is_some()), (None, true));
        let no_such = AttachError::NoCell { index: 5, cells: 5 };
        assert_eq!(table.reader(5).unwrap_err(), no_such);
        assert_eq!(table.writer(5, &Unleased).unwrap_err(), no_such);
        assert_eq!(table.writer_owner(5), None);
    }
    check::<1>();
    check::<3>();
    check::<30>();
}

#[test]
fn writers_of_a_table_hold_the_lease_of_their_cell() {
    let options = Options::new().liveness::<Leases>();
    let leases = Leases::default();
    let region = Region::heap(Table::<u64>::bytes(3, &options).unwrap()).unwrap();
    let table = Table::create(region, 3, u64::from, &options).unwrap();
    let dying = table.writer(1, &leases).unwrap();
    let _other = table.writer(2, &leases).unwrap();
    leases.kill(role(1));
    assert_eq!(table.writer(1, &leases).unwrap().owner().generation, 2);
    assert!(table.writer(2, &leases).is_err());
    drop(dying);
}

#[test]
fn handles_can_be_shown() {
    let cell = Cell::on_heap(&0_u64).unwrap();
    let shown = format!("{cell:?} {:?} {:?}", cell.writer(&Unleased).unwrap(), cell.reader());
    assert!(shown.contains("Cell") && shown.contains("Writer") && shown.contains("Reader"), "{shown}");
    for error in [ReadError::Lapped.to_string(), AttachError::WritersExhausted { writers: 3 }.to_string()] {
        assert!(error.contains("expected"), "{error}");
    }
}
