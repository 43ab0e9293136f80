//! A writer may be the last of all handles: it keeps the memory until it has freed its role.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;

use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use common::Memory;
use tidewire_seqlock::{Cell, Options, Owner, bytes, classic, shared, table};
use tidewire_shm::{Origin, Region, Unleased, Untrusted};

/// Memory that keeps a copy of what it held when its last region was dropped.
struct Recorded {
    memory: Memory,
    last: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        *self.last.lock().unwrap() = Some(self.memory.bytes());
    }
}

/// Bytes of regions, and what was seen of the last one.
#[derive(Default)]
struct Recorder(Arc<Mutex<Option<Vec<u8>>>>);

impl Recorder {
    fn region(&self, len: usize) -> Region<Untrusted> {
        let memory = Memory::new(len);
        let base = NonNull::from(memory.word(0)).cast();
        let keep = Arc::new(Recorded { memory, last: Arc::clone(&self.0) });
        // SAFETY: readable and writable, initialised, and alive as long as what is kept.
        unsafe { Region::from_raw_parts(base, len, Origin::default(), keep) }.unwrap()
    }

    /// What the memory held at its end.
    fn at_the_end(&self) -> Region<Untrusted> {
        let bytes = self.0.lock().unwrap().take().expect("the memory is gone");
        let memory = Memory::new(bytes.len());
        bytes.iter().enumerate().for_each(|(i, &byte)| memory.set_byte(i, byte));
        memory.region()
    }
}

/// Who makes the memory, keeps nothing of it, and has the leases for it.
type Make<'a> = &'a dyn Fn(usize) -> Region<Untrusted>;
/// Lets a writer be the last, and tells how to find out who holds its role.
type Structure = (fn(Make<'_>), fn(Region<Untrusted>) -> Option<Owner>);

const VALUE: [u64; 9] = [7; 9];

fn options() -> Options {
    Options::new()
}

fn structures() -> [Structure; 5] {
    [
        (
            |make| {
                let region = make(Cell::<[u64; 9]>::bytes(&options()).unwrap());
                let cell = Cell::create(region, &VALUE, &options()).unwrap();
                let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
                drop(cell);
                reader.read().unwrap();
                drop(reader);
                assert_eq!(writer.write(&VALUE), 1);
            },
            |region| Cell::<[u64; 9], _>::open(region, 0).unwrap().writer_owner(),
        ),
        (
            |make| {
                let region = make(bytes::Cell::<Untrusted>::bytes(100, &options()).unwrap());
                let cell = bytes::Cell::create(region, 100, b"seven", &options()).unwrap();
                let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
                drop(cell);
                reader.read(&mut [0; 100]).unwrap();
                drop(reader);
                assert_eq!(writer.write(b"eight"), Ok(1));
            },
            |region| bytes::Cell::open(region, 100, 0).unwrap().writer_owner(),
        ),
        (
            |make| {
                let region = make(table::Table::<[u64; 9]>::bytes(3, &options()).unwrap());
                let table = table::Table::create(region, 3, |_| VALUE, &options()).unwrap();
                let (mut writer, mut reader) =
                    (table.writer(2, &Unleased).unwrap(), table.reader(2).unwrap());
                drop(table);
                reader.read().unwrap();
                drop(reader);
                assert_eq!(writer.write(&VALUE), 1);
            },
            |region| table::Table::<[u64; 9], _>::open(region, 0).unwrap().writer_owner(2),
        ),
        (
            |make| {
                let region = make(shared::Cell::<[u64; 9]>::bytes(&options()).unwrap());
                let cell = shared::Cell::create(region, &VALUE, &options()).unwrap();
                let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
                drop(cell);
                reader.read().unwrap();
                drop(reader);
                assert_eq!(writer.write(&Unleased, &VALUE), Ok(1));
            },
            |region| shared::Cell::<[u64; 9], _>::open(region, 0).unwrap().writer_owner(0),
        ),
        (
            |make| {
                let region = make(classic::Cell::<[u64; 9]>::bytes(&options()).unwrap());
                let cell = classic::Cell::create(region, &VALUE, &options()).unwrap();
                let (mut writer, mut reader) = (cell.writer(&Unleased).unwrap(), cell.reader());
                drop(cell);
                reader.read(&Unleased).unwrap();
                drop(reader);
                assert_eq!(writer.write(&VALUE), 1);
            },
            |region| classic::Cell::<[u64; 9], _>::open(region, 0).unwrap().writer_owner(),
        ),
    ]
}

#[test]
fn the_role_is_free_before_the_memory_is_gone() {
    for (let_a_writer_be_the_last, owner) in structures() {
        let recorder = Recorder::default();
        let_a_writer_be_the_last(&|len| recorder.region(len));
        assert_eq!(owner(recorder.at_the_end()), None);
    }
}

#[test]
fn a_writer_may_be_the_last_on_the_heap() {
    for (let_a_writer_be_the_last, _) in structures() {
        let_a_writer_be_the_last(&|len| Region::heap(len).unwrap().distrust());
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_writer_may_be_the_last_on_a_segment() {
    for (let_a_writer_be_the_last, _) in structures() {
        let_a_writer_be_the_last(&|len| tidewire_shm::Segment::anonymous(len).unwrap().region());
    }
}
