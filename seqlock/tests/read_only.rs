//! Readers on memory that the kernel lets nobody write: a store would be a SIGSEGV.
#![cfg(all(feature = "std", not(loom), not(miri)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Leases, Value};
use tidewire_seqlock::table::Table;
use tidewire_seqlock::{
    AttachError, BytesReadError, Cell, CreateError, Options, ReadError, bytes, classic, shared,
};
use tidewire_shm::{Region, RegionError, Segment, SegmentOptions, Unleased, Untrusted};

/// A segment in which `create` laid something out, mapped twice: to be written, and read-only.
fn segment(len: usize, create: impl FnOnce(Region<Untrusted>)) -> (tempfile::TempDir, Segment, Segment) {
    let place = tempfile::tempdir().unwrap();
    let options = SegmentOptions::new().directory(place.path().join("segments"));
    let created = Segment::create_with("cell", len, &options, |region| {
        create(region);
        Ok(())
    });
    let read_only = Segment::open_read_only_with("cell", &options).unwrap();
    assert!(read_only.is_read_only() && !read_only.region().is_writable());
    (place, created.unwrap(), read_only)
}

/// The permissions of the mappings of a segment, as the kernel sees them.
#[test]
fn the_mapping_is_read_only() {
    let len = Cell::<u64>::bytes(&Options::new()).unwrap();
    let (place, _created, read_only) =
        segment(len, |region| drop(Cell::create(region, &7_u64, &Options::new()).unwrap()));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mine = maps.lines().filter(|line| line.contains(place.path().to_str().unwrap()));
    let permissions: Vec<_> = mine.filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(permissions.len(), 2, "{maps}");
    assert!(permissions.contains(&"r--s") && permissions.contains(&"rw-s"), "{permissions:?}");
    drop(read_only);
}

fn reads_what_another_writes<const N: usize>()
where
    [u64; N]: bytemuck::Pod,
{
    let options = Options::new();
    let len = Cell::<[u64; N]>::bytes(&options).unwrap();
    let (_place, created, read_only) =
        segment(len, |region| drop(Cell::create(region, &<[u64; N]>::of(0), &options).unwrap()));
    let mut writer =
        Cell::<[u64; N], Untrusted>::open(created.region(), 0).unwrap().writer(&Unleased).unwrap();
    let cell = Cell::<[u64; N], Untrusted>::open(read_only.region(), 0).unwrap();
    assert_eq!(cell.writer(&Unleased).unwrap_err(), AttachError::Region(RegionError::ReadOnly));
    assert_eq!(cell.writer_owner(), Some(writer.owner()));
    let mut reader = cell.reader();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1.. {
                writer.write(&Value::of(version));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let (mut last, mut reads) = (0, 0);
        while reads < 100_000 || last < 100 {
            match reader.read_if_changed(last) {
                Ok(Some((value, version))) => {
                    assert!(version > last && value.is(version), "{version} after {last}");
                    last = version;
                }
                Ok(None) | Err(ReadError::Lapped) => {}
                Err(error) => panic!("{error}"),
            }
            reads += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn readers_of_every_form_only_load() {
    reads_what_another_writes::<1>();
    reads_what_another_writes::<7>();
    reads_what_another_writes::<8>();
    reads_what_another_writes::<512>();
}

#[test]
fn the_other_structures_only_load_as_well() {
    let options = Options::new();
    let len = bytes::Cell::<Untrusted>::bytes(100, &options).unwrap();
    let (_place, created, read_only) =
        segment(len, |region| drop(bytes::Cell::create(region, 100, b"abc", &options).unwrap()));
    let mut reader = bytes::Cell::open(read_only.region(), 100, 0).unwrap().reader();
    assert_eq!(reader.read(&mut [0; 100]), Ok((&b"abc"[..], 0)));
    assert_eq!(reader.read(&mut []), Err(BytesReadError::BufferTooSmall { needed: 3 }));
    drop(created);

    let len = Table::<[u64; 8]>::bytes(3, &options).unwrap();
    let (_place, _created, read_only) = segment(len, |region| {
        drop(Table::create(region, 3, |index| [u64::from(index); 8], &options).unwrap());
    });
    let table = Table::<[u64; 8], Untrusted>::open(read_only.region(), 0).unwrap();
    assert_eq!(table.reader(2).unwrap().read(), Ok(([2; 8], 0)));
    assert_eq!(table.writer(2, &Unleased).unwrap_err(), AttachError::Region(RegionError::ReadOnly));

    let leased = options.liveness::<Leases>();
    let len = shared::Cell::<u64>::bytes(&leased).unwrap();
    let (_place, _created, read_only) =
        segment(len, |region| drop(shared::Cell::create(region, &5_u64, &leased).unwrap()));
    let cell = shared::Cell::<u64, Untrusted>::open(read_only.region(), 0).unwrap();
    assert_eq!((cell.reader().read(), cell.lock_holder(), cell.writer_owner(0)), (Ok((5, 0)), None, None));
    assert_eq!(cell.writer(&Leases::default()).unwrap_err(), AttachError::Region(RegionError::ReadOnly));

    let len = classic::Cell::<[u64; 9]>::bytes(&options).unwrap();
    let (_place, _created, read_only) =
        segment(len, |region| drop(classic::Cell::create(region, &[3_u64; 9], &options).unwrap()));
    let cell = classic::Cell::<[u64; 9], Untrusted>::open(read_only.region(), 0).unwrap();
    assert_eq!(cell.reader().read(&Unleased), Ok(([3; 9], 0)));
    assert_eq!(cell.writer(&Unleased).unwrap_err(), AttachError::Region(RegionError::ReadOnly));

    let error = Cell::create(read_only.region(), &0_u64, &options).unwrap_err();
    assert_eq!(error, CreateError::Region(RegionError::ReadOnly));
}
