//! A writer that lies, and memory that anybody writes: readers end in bounded time, with a value, `Lapped` or `Corrupt`,
//! and nothing outside of the cell is read or written.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Memory, Value};
use proptest::prelude::*;
use tidewire_seqlock::table::Table;
use tidewire_seqlock::{
    AttachError, BytesReadError, Cell, Corrupt, CorruptWord, Options, ReadError, bytes, classic, shared,
};
use tidewire_shm::{Unleased, Untrusted};

/// Offsets of a cell with line stride: header, shape and bell come first.
const OWNER: usize = 384;
const LATEST: usize = OWNER + 128;
const SLOTS: usize = LATEST + 128;

fn cell<const N: usize>() -> (Memory, Cell<[u64; N], Untrusted>)
where
    [u64; N]: bytemuck::Pod,
{
    let memory = Memory::new(Cell::<[u64; N]>::bytes(&Options::new()).unwrap());
    let cell = Cell::create(memory.region(), &Value::of(0), &Options::new()).unwrap();
    (memory, cell)
}

/// Words of a slot, and where its stamp is among them.
fn slot(n: usize) -> (usize, usize) {
    ((n + 1).next_multiple_of(8), n)
}

#[test]
fn a_version_that_goes_back_is_corrupt_for_good() {
    fn check<const N: usize>(scale: u64)
    where
        [u64; N]: bytemuck::Pod,
    {
        let (memory, cell) = cell::<N>();
        let mut writer = cell.writer(&Unleased).unwrap();
        for version in 1..=9 {
            writer.write(&Value::of(version));
        }
        let mut reader = cell.reader();
        assert_eq!(reader.read(), Ok((Value::of(9), 9)));
        // Version 8 is still there, whole: nothing but its number is wrong.
        memory.set(LATEST, 8 * scale);
        if scale == 2 {
            // From its slot, not from the copy.
            memory.set(LATEST, 8 * scale + 1);
        }
        let corrupt = Corrupt { what: CorruptWord::Version, found: 8 };
        assert_eq!(reader.clone().version(), Err(corrupt));
        assert_eq!(reader.read(), Err(ReadError::Corrupt(corrupt)));
        memory.set(LATEST, 9 * scale);
        assert_eq!(reader.read(), Err(ReadError::Corrupt(corrupt)), "latched");
        assert_eq!(reader.try_read(), Err(ReadError::Corrupt(corrupt)), "latched");
        assert_eq!(reader.read_if_changed(9), Err(ReadError::Corrupt(corrupt)), "latched");
        assert_eq!((reader.version(), reader.corruption()), (Err(corrupt), Some(corrupt)));
        assert_eq!(cell.reader().read(), Ok((Value::of(9), 9)), "who saw nothing of it goes on");
    }
    check::<1>(1);
    check::<7>(2);
    check::<8>(1);
}

#[test]
fn a_stamp_that_never_fits_is_corrupt_in_bounded_time() {
    fn check<const N: usize>(latest: u64)
    where
        [u64; N]: bytemuck::Pod,
    {
        let (words, stamp) = slot(N);
        for lie in [1, u64::MAX, 1 << 63, 8, (1 << 63) | 8] {
            let (memory, cell) = cell::<N>();
            memory.set(LATEST, latest);
            memory.set(SLOTS + stamp * 8, lie);
            let mut reader = cell.reader();
            let start = Instant::now();
            let corrupt = Corrupt { what: CorruptWord::Stamp, found: 0 };
            assert_eq!(reader.try_read(), Err(ReadError::Lapped));
            assert_eq!(reader.read(), Err(ReadError::Corrupt(corrupt)));
            assert!(reader.retries() >= 1000 && start.elapsed() < Duration::from_secs(5));
            assert_eq!(cell.writer(&Unleased).unwrap_err(), AttachError::Corrupt(corrupt));
            assert_eq!(cell.writer_owner(), None, "a refused writer keeps nothing");
            assert!(words >= stamp);
            memory.check_guards();
        }
    }
    check::<7>(1);
    check::<8>(0);
    check::<100>(0);
}

#[test]
fn versions_that_nobody_can_have_counted_are_refused() {
    for version in [1 << 62, u64::MAX >> 1, u64::MAX] {
        let (memory, word) = cell::<1>();
        memory.set(LATEST, version);
        let corrupt = Corrupt { what: CorruptWord::Version, found: version };
        assert_eq!(word.reader().read(), Err(ReadError::Corrupt(corrupt)));
        assert_eq!(word.reader().version(), Err(corrupt));
        assert_eq!(word.writer(&Unleased).unwrap_err(), AttachError::Corrupt(corrupt));
    }
    // The last one that can be adopted: writing goes on without overflow, and readers say what they think of it.
    let (memory, word) = cell::<1>();
    memory.set(LATEST, (1 << 62) - 1);
    let mut writer = word.writer(&Unleased).unwrap();
    assert_eq!(writer.write(&[1]), 1 << 62);
    assert!(matches!(word.reader().read(), Err(ReadError::Corrupt(_))));
}

#[test]
fn lengths_beyond_the_longest_are_corrupt() {
    for max in [8, 40, 100] {
        let words = max / 8_usize + 1;
        let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(max, &Options::new()).unwrap());
        let cell = bytes::Cell::create(memory.region(), max, b"12345678", &Options::new()).unwrap();
        let at = if words <= 7 { LATEST + 8 } else { SLOTS } + (max.div_ceil(8)) * 8;
        assert_eq!(memory.get(at), 8);
        for lie in [max as u64 + 1, u64::MAX, 1 << 63, 1 << 32] {
            memory.set(at, lie);
            let mut reader = cell.reader();
            let corrupt = Corrupt { what: CorruptWord::Length, found: lie };
            assert_eq!(reader.read(&mut vec![0; max + 100]), Err(BytesReadError::Corrupt(corrupt)));
            assert_eq!((reader.corruption(), reader.version()), (Some(corrupt), Err(corrupt)));
        }
        memory.check_guards();
    }
}

/// Whatever single word of the shape or the header is changed, the structure is refused or opened as it was.
#[test]
fn no_word_of_header_or_shape_can_be_changed_unnoticed() {
    let options = Options::new().type_fingerprint(5);
    let memory = Memory::new(Table::<[u64; 3]>::bytes(3, &options).unwrap());
    Table::create(memory.region(), 3, |_| [7_u64; 3], &options).unwrap();
    let open = || Table::<[u64; 3], Untrusted>::open(memory.region(), 5);
    open().unwrap();
    for offset in (0..256).step_by(4) {
        let word = offset / 8 * 8;
        let before = memory.get(word);
        for lie in [0_u32, 1, 2, 3, 7, 8, 16, 0x0003_0002, 1 << 20, 1 << 31, u32::MAX] {
            let shift = (offset % 8) * 8;
            let changed = (before & !(0xFFFF_FFFF << shift)) | (u64::from(lie) << shift);
            if changed == before {
                continue;
            }
            memory.set(word, changed);
            // Three fields are whatever the creator said: the kind of leases, whom writers wake, and the nonce.
            let wake = offset == 128 + 20 && lie <= 3;
            let free = offset == 128 + 8 || wake || (96..112).contains(&offset);
            match open() {
                Ok(table) => {
                    assert!(free, "offset {offset}: {lie:#x} was accepted");
                    assert_eq!(table.reader(2).unwrap().read(), Ok(([7; 3], 0)));
                }
                Err(AttachError::Incompatible(_)) => assert!(!free, "offset {offset}"),
                Err(error) => panic!("offset {offset}: {error}"),
            }
        }
        memory.set(word, before);
    }
}

/// Another form, other counts: each difference is named, not used.
#[test]
fn shapes_that_do_not_belong_to_the_type_are_refused() {
    fn refused<const N: usize>(lies: &[(usize, u32)])
    where
        [u64; N]: bytemuck::Pod,
    {
        for (offset, lie) in lies {
            let (memory, _) = cell::<N>();
            let word = 128 + offset / 8 * 8;
            let shift = (offset % 8) * 8;
            memory.set(word, (memory.get(word) & !(0xFFFF_FFFF << shift)) | (u64::from(*lie) << shift));
            let error = Cell::<[u64; N], Untrusted>::open(memory.region(), 0).unwrap_err();
            assert!(matches!(error, AttachError::Incompatible(_)), "{offset}: {lie}: {error}");
        }
    }
    refused::<1>(&[(0, 2), (0, 3), (4, 2), (4, 8), (12, 2), (16, 2), (20, 4)]);
    refused::<7>(&[(0, 1), (0, 3), (4, 4), (4, 16), (4, 7), (12, 0), (16, 0), (24, 64)]);
    refused::<8>(&[(0, 2), (0, 4), (4, 1), (4, 1 << 31), (12, 64), (28, 1)]);
}

/// What a scribble may lead to.
fn any_outcome<T>(result: Result<T, ReadError>) {
    match result {
        Ok(_) | Err(ReadError::Lapped | ReadError::Corrupt(_)) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes where the words are.
    #[test]
    fn readers_of_any_bytes_end(
        seed in any::<u64>(),
        words in proptest::collection::vec((0_usize..256, any::<u64>(), 0..4_u8), 1..40),
    ) {
        fn check<const N: usize>(seed: u64, words: &[(usize, u64, u8)])
        where
            [u64; N]: bytemuck::Pod,
        {
            let (memory, cell) = cell::<N>();
            let mut reader = cell.reader();
            let mut seen = 0;
            let room = (memory.len() - LATEST) / 8;
            for (at, value, how) in words {
                let value = match how {
                    0 => *value,
                    1 => *value % 64,
                    2 => (1 << 63) | (*value % 64),
                    _ => seed % 20,
                };
                memory.set(LATEST + at % room * 8, value);
                if at % 3 == 0 {
                    memory.set(LATEST, value);
                }
                if let Ok((_, version)) = reader.read() {
                    assert!(version >= seen);
                    seen = version;
                }
                any_outcome(reader.try_read());
                any_outcome(cell.reader().read());
                if let Ok(mut writer) = cell.writer(&Unleased) {
                    let version = writer.version();
                    assert_eq!(writer.update(|value| value[0] ^= 1), version + 1);
                }
                memory.set(OWNER, 0);
            }
            memory.check_guards();
        }
        check::<1>(seed, &words);
        check::<7>(seed, &words);
        check::<8>(seed, &words);
        check::<40>(seed, &words);
    }

    /// Any bytes where bytes and their lengths are.
    #[test]
    fn byte_readers_of_any_bytes_end(
        words in proptest::collection::vec((0_usize..64, any::<u64>(), 0..4_u8), 1..40),
        max in 1_usize..130,
    ) {
        let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(max, &Options::new()).unwrap());
        let cell = bytes::Cell::create(memory.region(), max, b"", &Options::new()).unwrap();
        let room = (memory.len() - LATEST) / 8;
        let mut reader = cell.reader();
        let mut buffer = vec![0; max / 2 + 1];
        for (at, value, how) in words {
            let value = if how == 0 { value } else { value % (2 * max as u64) };
            memory.set(LATEST + at % room * 8, value);
            for reader in [&mut reader, &mut cell.reader()] {
                match reader.read(&mut buffer) {
                    Ok((value, _)) => prop_assert!(value.len() <= max),
                    Err(BytesReadError::BufferTooSmall { needed }) => prop_assert!(needed <= max),
                    Err(BytesReadError::Lapped | BytesReadError::Corrupt(_)) => {}
                }
            }
        }
        memory.check_guards();
    }
}

/// A scribbler at full speed over everything behind the header, while readers and writers of each kind work.
#[test]
fn a_scribbler_hangs_nobody_and_leaves_the_guards_alone() {
    let until = Duration::from_millis(if cfg!(miri) { 1 } else { 400 });
    fn scribble(memory: &Memory, stop: &AtomicBool) {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        while !stop.load(Ordering::Relaxed) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let room = (memory.len() - OWNER) / 8;
            let at = OWNER + (random >> 16) as usize % room * 8;
            let value = match random & 3 {
                0 => random,
                1 => (random >> 40) & 15,
                2 => (1 << 63) | ((random >> 40) & 15),
                _ => 0,
            };
            memory.set(at, value);
        }
    }
    fn race(memory: &Memory, until: Duration, mut work: impl FnMut()) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| scribble(memory, &stop));
            let start = Instant::now();
            while start.elapsed() < until {
                let call = Instant::now();
                work();
                assert!(call.elapsed() < Duration::from_secs(20), "a call took {:?}", call.elapsed());
            }
            stop.store(true, Ordering::Relaxed);
        });
        memory.check_guards();
    }
    fn plain<const N: usize>(until: Duration)
    where
        [u64; N]: bytemuck::Pod,
    {
        let (memory, cell) = cell::<N>();
        race(&memory, until, || {
            let mut reader = cell.reader();
            for _ in 0..4 {
                any_outcome(reader.read());
            }
            if let Ok(mut writer) = cell.writer(&Unleased) {
                writer.update(|value| value[0] += 1 & value[0]);
            }
        });
    }
    plain::<1>(until);
    plain::<7>(until);
    plain::<8>(until);

    let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(30, &Options::new()).unwrap());
    let cell = bytes::Cell::create(memory.region(), 30, b"abc", &Options::new()).unwrap();
    race(&memory, until, || match cell.reader().read(&mut [0; 20]) {
        Ok(_)
        | Err(BytesReadError::Lapped | BytesReadError::BufferTooSmall { .. } | BytesReadError::Corrupt(_)) => {
        }
    });

    let options = Options::new().writers(2);
    let memory = Memory::new(shared::Cell::<[u64; 9]>::bytes(&options).unwrap());
    let cell = shared::Cell::create(memory.region(), &[0_u64; 9], &options).unwrap();
    race(&memory, until, || {
        if let Ok(mut writer) = cell.writer(&Unleased) {
            let _corrupt_or_not = writer.update(&Unleased, |value| value[0] ^= 1);
            let _corrupt_or_not = writer.write(&Unleased, &[5; 9]);
        }
        any_outcome(cell.reader().read());
    });

    let memory = Memory::new(classic::Cell::<[u64; 9]>::bytes(&Options::new()).unwrap());
    let cell = classic::Cell::create(memory.region(), &[0_u64; 9], &Options::new()).unwrap();
    race(&memory, until, || {
        let _any = cell.reader().read(&Unleased);
        if let Ok(mut writer) = cell.writer(&Unleased) {
            let _damaged_or_not = writer.update(|value| value[0] ^= 1);
            writer.write(&[1; 9]);
        }
    });
}
