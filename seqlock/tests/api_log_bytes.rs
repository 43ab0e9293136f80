//! What the operations of a log of bytes do.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests: a missing value shall fail the test"
)]

mod common;

use std::mem::ManuallyDrop;
use std::thread;
use std::time::Duration;

use common::{Leases, Memory, byte, role};
use tidewire_seqlock::log::bytes::{self, Reader, Writer};
use tidewire_seqlock::log::{
    BytesNextError, KIND_LOG_BYTES, Log, LogFull, NextError, Options, Start, TryWriteError,
};
use tidewire_seqlock::{AttachError, CreateError, TooLong, WaitError, Wake};
use tidewire_shm::{Field, Header, Region, RegionError, Unleased, Untrusted};

/// The value of a version: its length and each of its bytes depend on it.
fn value(version: u64, max: usize) -> Vec<u8> {
    let len = (version.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % (max + 1);
    (0..len).map(|i| byte(version, i)).collect()
}

fn log(max: usize, options: &Options) -> bytes::Log {
    bytes::create(Region::heap(bytes::region_bytes(max, options).unwrap()).unwrap(), max, options).unwrap()
}

fn write(writer: &mut Writer, versions: std::ops::RangeInclusive<u64>) {
    let max = writer.max();
    versions.for_each(|version| assert_eq!(writer.write_bytes(&value(version, max)), Ok(version)));
}

#[track_caller]
fn expect(reader: &mut Reader, version: u64) {
    let mut buffer = vec![0xEE; reader.max()];
    let expected = value(version, reader.max());
    assert_eq!(reader.next_bytes(&mut buffer), Ok(Some((&expected[..], version))));
}

#[test]
fn values_of_every_length_come_in_order() {
    for max in [1, 7, 8, 9, 16, 63, 200] {
        let log = bytes::on_heap(max, 512).unwrap();
        assert_eq!((log.max(), log.capacity()), (max, 512));
        let (mut writer, mut reader) = (log.writer(&Unleased).unwrap(), log.reader(Start::Next).unwrap());
        let (mut vectors, mut to) = (reader.clone(), vec![9; 3]);
        for len in (0..=max).chain((0..=max).rev()) {
            let version = writer.version() + 1;
            let value: Vec<u8> = (0..len).map(|i| byte(version, i)).collect();
            assert_eq!(writer.write_bytes(&value), Ok(version));
            let mut exact = vec![0; len];
            assert_eq!(reader.next_bytes(&mut exact), Ok(Some((&value[..], version))));
            assert_eq!((vectors.next_bytes_into(&mut to), &to), (Ok(Some(version)), &value));
            assert!(to.capacity() <= max.max(8), "no more than the longest value");
        }
        assert_eq!((vectors.next_bytes_into(&mut to), to.len()), (Ok(None), 0));
    }
}

#[test]
fn what_is_too_long_is_not_written_and_what_does_not_fit_stays_the_next() {
    let log = log(10, &Options::new(4).gates(1));
    let (mut writer, mut reader) =
        (log.writer(&Unleased).unwrap(), log.gated_reader(Start::Next, &Unleased).unwrap());
    let long = TooLong { max: 10, found: 11 };
    assert_eq!(writer.write_bytes(&[0; 11]), Err(long));
    assert_eq!(writer.try_write_bytes(&[0; 11]), Err(TryWriteError::TooLong(long)));
    assert_eq!((writer.version(), reader.lag()), (0, Ok(0)));
    assert_eq!(writer.try_write_bytes(b"ten  bytes"), Ok(1));
    for short in [0, 1, 9] {
        let refused = reader.next_bytes(&mut [0; 10][..short]).map(|_| ());
        assert_eq!(refused, Err(BytesNextError::BufferTooSmall { needed: 10 }));
        assert_eq!((reader.position(), reader.lag()), (1, Ok(1)));
    }
    assert_eq!(reader.next_bytes(&mut [0; 10]), Ok(Some((&b"ten  bytes"[..], 1))));
    assert_eq!(reader.next_bytes(&mut []), Ok(None));
    assert_eq!(reader.missed(), 0);
}

#[test]
fn missed_is_exact() {
    for capacity in [4_u32, 32] {
        let log = bytes::on_heap(30, capacity).unwrap();
        let mut writer = log.writer(&Unleased).unwrap();
        let mut reader = log.reader(Start::Next).unwrap();
        write(&mut writer, 1..=u64::from(4 * capacity));
        let mut to = Vec::new();
        let Err(NextError::Overtaken { missed }) = reader.next_bytes_into(&mut to) else {
            panic!("overtaken")
        };
        assert_eq!((reader.missed(), reader.position(), to.len()), (missed, missed + 1, 0));
        (missed + 1..=u64::from(4 * capacity)).for_each(|version| expect(&mut reader, version));
        assert_eq!(reader.lag(), Ok(0));
    }
}

#[test]
fn a_writer_waits_for_readers_with_gates_only() {
    let log = log(20, &Options::new(4).gates(1));
    let (mut writer, mut lossy) = (log.writer(&Unleased).unwrap(), log.reader(Start::Next).unwrap());
    let mut gated = log.gated_reader(Start::Next, &Unleased).unwrap();
    (1..=4).for_each(|version| assert_eq!(writer.try_write_bytes(&value(version, 20)), Ok(version)));
    assert_eq!(writer.try_write_bytes(b"more"), Err(TryWriteError::Full(LogFull { gate: 0 })));
    assert_eq!(writer.wait_room(&Unleased, Duration::from_millis(1)), Err(LogFull { gate: 0 }));
    let mut to = Vec::new();
    assert_eq!((gated.next_bytes_into(&mut to), &to), (Ok(Some(1)), &value(1, 20)));
    gated.wake_writer();
    assert_eq!(writer.wait_room(&Unleased, Duration::from_secs(60)), Ok(()));
    assert_eq!(writer.try_write_bytes(&value(5, 20)), Ok(5));
    assert!(matches!(lossy.next_bytes_into(&mut to), Err(NextError::Overtaken { .. })));
    assert_eq!(writer.write_bytes(&value(6, 20)), Ok(6), "it need not ask");
    assert!(matches!(gated.next_bytes(&mut [0; 20]), Err(BytesNextError::Overtaken { missed: 1.. })));
    drop(gated);
    assert_eq!(writer.room(), 4);
}

#[test]
fn an_opener_finds_the_longest_value_and_compares_the_rest() {
    let options = Options::new(8).gates(2).type_fingerprint(7);
    let memory = Memory::new(bytes::region_bytes(20, &options).unwrap());
    let log = bytes::create(memory.region(), 20, &options).unwrap();
    assert_eq!(Header::inspect(&memory.region()).unwrap().kind, KIND_LOG_BYTES);
    log.writer(&Unleased).unwrap().write_bytes(b"kept").unwrap();
    let opened = bytes::open(memory.region(), 7).unwrap();
    assert_eq!((opened.max(), opened.capacity(), opened.gates()), (20, 8, 2));
    let mut reader = opened.reader(Start::Oldest).unwrap();
    assert_eq!(reader.next_bytes(&mut [0; 20]), Ok(Some((&b"kept"[..], 1))));

    let field = |error: AttachError| match error {
        AttachError::Incompatible(error) => error.field,
        error => panic!("{error}"),
    };
    assert_eq!(field(bytes::open(memory.region(), 8).unwrap_err()), Field::TypeFingerprint);
    assert_eq!(field(Log::<[u8; 20], Untrusted>::open(memory.region(), 7).unwrap_err()), Field::Kind);
    // The length of the longest value, as somebody else might have written it.
    let lengths = 24..80;
    let at = lengths.step_by(8).find(|at| memory.get(*at) == 20).unwrap();
    for wrong in [0, 19, 1 << 31, (1 << 31) + 1, 1 << 40, u64::MAX] {
        memory.set(at, wrong);
        let found = bytes::open(memory.region(), 7);
        // One that takes as many words is no other log.
        assert!(found.is_ok_and(|log| log.max() == 19) == (wrong == 19), "{wrong}");
    }
    memory.set(at, 28);
    assert!(bytes::open(memory.region(), 7).is_err(), "one more word");
    memory.set(at, 20);
    let plain = Memory::new(Log::<u64, Untrusted>::bytes(&Options::new(8)).unwrap());
    drop(Log::<u64, _>::create(plain.region(), &Options::new(8)).unwrap());
    assert_eq!(field(bytes::open(plain.region(), 0).unwrap_err()), Field::Kind);
    memory.check_guards();
}

#[test]
fn what_cannot_be_is_refused() {
    let options = Options::new(4);
    for max in [0, (1 << 31) + 1, usize::MAX] {
        let refused = CreateError::Element { bytes: max, align: 1 };
        assert_eq!(bytes::region_bytes(max, &options), Err(refused), "{max}");
    }
    assert!(matches!(bytes::on_heap(8, 3), Err(CreateError::Slots { found: 3, .. })));
    let most = Options::new(1 << 30);
    // 2^30 slots of 2^31 bytes are 2^61 bytes.
    assert!(bytes::region_bytes(1 << 31, &most).is_ok_and(|bytes| bytes > 1 << 61));
    let memory = Memory::new(1024);
    assert!(matches!(
        bytes::create(memory.region(), 100, &Options::new(16)),
        Err(CreateError::RegionTooSmall { .. })
    ));
}

#[test]
fn a_reader_needs_no_right_to_write() {
    let memory = Memory::new(bytes::region_bytes(20, &Options::new(4)).unwrap());
    let log = bytes::create(memory.region(), 20, &Options::new(4)).unwrap();
    log.writer(&Unleased).unwrap().write_bytes(b"seen").unwrap();
    let log = bytes::open(memory.region().read_only(), 0).unwrap();
    let mut reader = log.reader(Start::Oldest).unwrap();
    assert_eq!(reader.next_bytes(&mut [0; 4]), Ok(Some((&b"seen"[..], 1))));
    assert!(matches!(log.writer(&Unleased), Err(AttachError::Region(RegionError::ReadOnly))));
}

#[test]
fn the_dead_are_followed() {
    let leases = Leases::default();
    let log = log(20, &Options::new(4).gates(1).liveness::<Leases>());
    let mut first = ManuallyDrop::new(log.writer(&leases).unwrap());
    let _gated = ManuallyDrop::new(log.gated_reader(Start::Next, &leases).unwrap());
    (1..=4).for_each(|version| assert_eq!(first.try_write_bytes(&value(version, 20)), Ok(version)));
    assert!(matches!(log.writer(&leases), Err(AttachError::RoleTaken(_))));
    // Both die.
    leases.kill(role(0));
    leases.kill(role(1));
    let mut next = log.writer(&leases).unwrap();
    assert_eq!(next.version(), 4);
    assert!(matches!(next.try_write_bytes(b""), Err(TryWriteError::Full(_))));
    assert_eq!(next.reclaim_gates(&leases), 1);
    assert_eq!(next.try_write_bytes(b"after"), Ok(5));
    let mut reader = log.gated_reader(Start::History(1), &leases).unwrap();
    assert_eq!(reader.next_bytes(&mut [0; 20]), Ok(Some((&b"after"[..], 5))));
}

#[test]
fn a_reader_waits_for_the_next_value() {
    let log = log(20, &Options::new(4).wake(Wake::Always));
    let (mut writer, mut reader) = (log.writer(&Unleased).unwrap(), log.reader(Start::Next).unwrap());
    assert_eq!(reader.wait_next(&Unleased, Duration::from_millis(1)), Err(WaitError::TimedOut));
    let writing = thread::spawn(move || writer.write_bytes(b"late"));
    assert_eq!(reader.wait_next(&Unleased, Duration::from_secs(60)), Ok(1));
    assert_eq!(reader.next_bytes(&mut [0; 20]), Ok(Some((&b"late"[..], 1))));
    assert_eq!(writing.join().unwrap(), Ok(1));
}

/// A fast writer, and readers of both kinds: nothing torn, nothing unaccounted for.
#[test]
fn threads_read_what_was_written_or_are_told() {
    const LAST: u64 = if cfg!(miri) { 100 } else { 60_000 };
    let log = log(70, &Options::new(32).gates(1));
    let mut writer = log.writer(&Unleased).unwrap();
    let mut lossy = log.reader(Start::Next).unwrap();
    let mut gated = log.gated_reader(Start::Next, &Unleased).unwrap();
    let writing = thread::spawn(move || {
        for version in 1..=LAST {
            let value = value(version, 70);
            while let Err(error) = writer.try_write_bytes(&value) {
                assert!(matches!(error, TryWriteError::Full(_)));
                thread::yield_now();
            }
        }
    });
    let lossless = thread::spawn(move || {
        let mut buffer = [0; 70];
        while gated.position() <= LAST {
            match gated.next_bytes(&mut buffer) {
                Ok(Some((found, version))) => assert_eq!(found, value(version, 70)),
                Ok(None) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        gated.missed()
    });
    let (mut received, mut to) = (0, Vec::new());
    while lossy.position() <= LAST {
        match lossy.next_bytes_into(&mut to) {
            Ok(Some(version)) => {
                received += 1;
                assert_eq!((to.as_slice(), version), (&*value(version, 70), received + lossy.missed()));
            }
            Ok(None) => thread::yield_now(),
            Err(NextError::Overtaken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(received + lossy.missed(), LAST);
    writing.join().unwrap();
    assert_eq!(lossless.join().unwrap(), 0);
}
