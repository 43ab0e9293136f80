//! What the operations of a log do, one thread at a time.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a missing value shall fail the test"
)]

mod common;

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use common::{Leases, Memory, role};
use tidewire_seqlock::log::{
    GatedReader, Log, LogFull, MAX_GATES, NextError, Options, Reader, Start, Writer,
};
use tidewire_seqlock::{AttachError, Corrupt, CorruptWord, CreateError, Owner, WaitError, Wake};
use tidewire_shm::bell::BellMode;
use tidewire_shm::{
    Field, LeaseError, Liveness, Region, RegionError, RoleStride, Trusted, Unleased, Untrusted,
};

fn log<T: bytemuck::Pod>(options: &Options) -> Log<T> {
    let region = Region::heap(Log::<T>::bytes(options).unwrap()).unwrap();
    Log::create(region, options).unwrap()
}

fn write(writer: &mut Writer<u64>, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        assert_eq!(writer.write(&(version * 10)), version);
    }
}

/// Reads a version, with its value.
#[track_caller]
fn expect(reader: &mut Reader<u64>, version: u64) {
    assert_eq!(reader.next(), Ok(Some((version * 10, version))));
}

#[test]
fn values_come_in_order_and_each_reader_has_a_position_of_its_own() {
    let log = Log::<u64>::on_heap(8).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    let mut early = log.reader(Start::Next).unwrap();
    assert_eq!((early.next(), early.lag(), early.position()), (Ok(None), Ok(0), 1));
    write(&mut writer, 1..=3);
    let (mut late, mut old) = (log.reader(Start::Next).unwrap(), log.reader(Start::Oldest).unwrap());
    let mut two = log.reader(Start::History(2)).unwrap();
    assert_eq!([early.lag(), late.lag(), old.lag(), two.lag()], [Ok(3), Ok(0), Ok(3), Ok(2)]);
    (1..=3).for_each(|version| expect(&mut early, version));
    expect(&mut old, 1);
    let mut same = old.clone();
    expect(&mut two, 2);
    write(&mut writer, 4..=4);
    for reader in [&mut early, &mut late] {
        expect(reader, 4);
        assert_eq!(reader.next(), Ok(None));
    }
    (2..=4).for_each(|version| expect(&mut same, version));
    (2..=4).for_each(|version| expect(&mut old, version));
    assert_eq!((old.missed(), writer.version()), (0, 4));
}

#[test]
fn a_resting_log_keeps_as_many_values_as_it_has_slots_but_for_a_group() {
    for (capacity, group) in [(4_u32, 1), (8, 1), (32, 2), (2048, 64)] {
        let log = Log::<u64>::on_heap(capacity).unwrap();
        let mut writer = log.writer(&Unleased).unwrap();
        for published in 1..=4 * u64::from(capacity) {
            write(&mut writer, published..=published);
            let mut reader = log.reader(Start::Oldest).unwrap();
            // The oldest group is gone as soon as its first version is overwritten.
            let oldest = (published - published % group + group).saturating_sub(capacity.into()).max(1);
            let first = reader.position();
            assert_eq!(first, oldest, "{capacity} slots, {published} published");
            assert!(published + 1 - first >= log.kept().min(published));
            expect(&mut reader, first);
        }
    }
}

#[test]
fn regress_missed_is_exact_for_every_distance() {
    for capacity in [4_u32, 32] {
        let group = u64::from(capacity / 16).max(1);
        let (capacity, first) = (u64::from(capacity), 5);
        for last in first..first + 4 * capacity {
            let log = Log::<u64>::on_heap(u32::try_from(capacity).unwrap()).unwrap();
            let mut writer = log.writer(&Unleased).unwrap();
            write(&mut writer, 1..=first - 1);
            let mut reader = log.reader(Start::Next).unwrap();
            write(&mut writer, first..=last);
            let base = first - first % group;
            if base + capacity > last {
                expect(&mut reader, first);
                assert_eq!((reader.missed(), reader.position()), (0, first + 1));
                continue;
            }
            let next = (last + 1 - capacity / 2).max(base + group);
            assert_eq!(reader.lag(), Ok(last + 1 - first));
            assert_eq!(reader.next(), Err(NextError::Overtaken { missed: next - first }));
            assert_eq!((reader.missed(), reader.lag()), (next - first, Ok(last + 1 - next)));
            (next..=last).for_each(|version| expect(&mut reader, version));
            assert_eq!(reader.next(), Ok(None));
        }
    }
}

#[test]
fn batches_go_round_the_end() {
    let log = Log::<u64>::on_heap(16).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    let mut reader = log.reader(Start::Next).unwrap();
    let mut buffer = [0; 40];
    let mut next = 1;
    for length in (0..=16).chain([3, 16, 1, 16, 7, 16]) {
        let values: Vec<u64> = (next..next + length).map(|version| version * 10).collect();
        assert_eq!(writer.write_slice(&values), next + length - 1);
        let half = usize::try_from(length / 2).unwrap();
        assert_eq!(reader.next_batch(&mut buffer[..half]), Ok(half));
        assert_eq!(buffer[..half], values[..half]);
        assert_eq!(reader.next_batch(&mut buffer), Ok(values.len() - half));
        assert_eq!(buffer[..values.len() - half], values[half..]);
        assert_eq!((reader.next_batch(&mut buffer), reader.position()), (Ok(0), next + length));
        next += length;
    }
    assert_eq!(reader.missed(), 0);
    // Longer than the log: nothing but the end is kept.
    let values: Vec<u64> = (next..next + 100).map(|version| version * 10).collect();
    assert_eq!(writer.write_slice(&values), next + 99);
    assert_eq!(reader.next_batch(&mut buffer), Err(NextError::Overtaken { missed: 92 }));
    assert_eq!(reader.next_batch(&mut buffer), Ok(8));
    assert_eq!(buffer[..8], values[92..]);
}

/// Sizes that are no multiple of a word, and that are many.
#[test]
fn values_of_any_size_are_kept() {
    fn check<const N: usize>() {
        let log = Log::<[u8; N]>::on_heap(32).unwrap();
        let mut writer = log.writer(&Unleased).unwrap();
        let mut reader = log.reader(Start::Next).unwrap();
        let values: Vec<[u8; N]> = (0..20_u64).map(common::pattern).collect();
        for _ in 0..5 {
            for value in &values[..7] {
                writer.write(value);
            }
            writer.write_slice(&values[7..]);
            let mut found = [[0; N]; 20];
            assert_eq!(reader.next().unwrap().unwrap().0, values[0]);
            assert_eq!(reader.next_into(&mut found[0]), Ok(Some(reader.position() - 1)));
            assert_eq!(found[0], values[1]);
            assert_eq!(reader.next_batch(&mut found), Ok(18));
            assert_eq!(found[..18], values[2..]);
        }
    }
    check::<1>();
    check::<3>();
    check::<8>();
    check::<12>();
    check::<63>();
    check::<64>();
    check::<65>();
    check::<1000>();
    check::<128>();
    check::<136>();
}

#[test]
fn a_gate_holds_the_writer_until_its_reader_has_taken_the_oldest_value() {
    let log = log::<u64>(&Options::new(4).gates(2));
    let mut writer = log.writer(&Unleased).unwrap();
    assert_eq!(writer.room(), 4);
    let mut slow = log.gated_reader(Start::Next, &Unleased).unwrap();
    let mut fast = log.gated_reader(Start::Next, &Unleased).unwrap();
    assert_eq!((slow.gate(), fast.gate(), log.gates()), (0, 1, 2));
    assert_eq!(log.gate_owner(0), Some(slow.owner()));
    for version in 1..=4 {
        assert_eq!(writer.room(), 5 - version);
        assert_eq!(writer.try_write(&(version * 10)), Ok(version));
        assert_eq!(fast.next(), Ok(Some((version * 10, version))));
    }
    for _ in 0..3 {
        assert_eq!((writer.try_write(&50), writer.room()), (Err(LogFull { gate: 0 }), 0));
        assert_eq!(writer.try_write_slice(&[50, 60]), Err(LogFull { gate: 0 }));
    }
    assert_eq!(slow.next(), Ok(Some((10, 1))));
    assert_eq!(slow.next(), Ok(Some((20, 2))));
    assert_eq!((writer.room(), slow.head(), fast.head()), (2, 3, 5));
    assert_eq!(writer.try_write_slice(&[50, 60, 70]), Ok(2));
    assert_eq!(writer.try_write(&70), Err(LogFull { gate: 0 }));
    assert_eq!((slow.lag(), fast.lag()), (Ok(4), Ok(2)));
    let mut found = [0; 4];
    assert_eq!((slow.next_batch(&mut found), found), (Ok(4), [30, 40, 50, 60]));
    assert_eq!(writer.try_write(&70), Ok(7));
    let mut seven = 0;
    assert_eq!((slow.next_into(&mut seven), slow.next_into(&mut seven), seven), (Ok(Some(7)), Ok(None), 70));
    // Whoever leaves holds nobody up.
    drop((slow, fast));
    assert_eq!((log.gate_owner(0), writer.room()), (None, 4));
    (8..20).for_each(|version| assert_eq!(writer.try_write(&0), Ok(version)));
}

/// The writer is told an eighth of the capacity at a time, or when there is nothing more, or when it is asked for.
#[test]
fn what_is_taken_is_let_go_of_in_time() {
    let log = log::<u64>(&Options::new(64).gates(1));
    let mut writer = log.writer(&Unleased).unwrap();
    let mut reader = log.gated_reader(Start::Next, &Unleased).unwrap();
    let values: Vec<u64> = (1..=63).collect();
    assert_eq!(writer.try_write_slice(&values), Ok(63));
    assert_eq!(writer.try_write(&64), Err(LogFull { gate: 0 }));
    let mut take = |reader: &mut GatedReader<u64>, last| {
        (reader.position()..=last)
            .for_each(|version| assert_eq!(reader.next(), Ok(Some((version, version)))));
        (reader.head(), writer.room())
    };
    // Groups are of four, and begin with a multiple of that.
    assert_eq!(take(&mut reader, 10), (1, 0));
    assert_eq!(take(&mut reader, 11), (12, 12));
    assert_eq!(take(&mut reader, 18), (12, 12));
    reader.release();
    assert_eq!(take(&mut reader, 18), (16, 16));
    assert_eq!(take(&mut reader, 22), (16, 16));
    assert_eq!(take(&mut reader, 23), (24, 24));
    assert_eq!(take(&mut reader, 63), (64, 64));
    reader.release();
    assert_eq!((reader.next(), reader.head()), (Ok(None), 64));
}

#[test]
fn a_gated_reader_starts_where_nothing_can_be_lost() {
    let log = log::<u64>(&Options::new(64).gates(1));
    assert_eq!((log.capacity(), log.kept()), (64, 64 - 16 - 4 + 1));
    let mut writer = log.writer(&Unleased).unwrap();
    for before in [0, 1, 40, 45, 46, 63, 64, 65, 200] {
        let next = writer.version() + 1;
        write(&mut writer, next..=before);
        for (start, wanted) in [
            (Start::Next, 0),
            (Start::History(3), 3),
            (Start::History(45), 45),
            (Start::History(46), 45),
            (Start::Oldest, 45),
        ] {
            let mut reader = log.gated_reader(start, &Unleased).unwrap();
            assert_eq!(reader.position(), (before + 1).saturating_sub(wanted).max(1), "{before}, {start:?}");
            let first = reader.position();
            let expected = (wanted > 0 && before > 0).then_some((first * 10, first));
            assert_eq!((reader.next(), reader.missed()), (Ok(expected), 0));
        }
    }
}

#[test]
fn a_writer_that_does_not_ask_overtakes_gates_and_their_readers_are_told() {
    let log = log::<u64>(&Options::new(4).gates(1));
    let mut writer = log.writer(&Unleased).unwrap();
    let mut reader = log.gated_reader(Start::Next, &Unleased).unwrap();
    write(&mut writer, 1..=7);
    assert_eq!(writer.try_write(&80), Err(LogFull { gate: 0 }));
    assert_eq!(reader.next(), Err(NextError::Overtaken { missed: 5 }));
    assert_eq!((reader.position(), reader.missed(), reader.lag()), (6, 5, Ok(2)));
    assert_eq!(writer.try_write(&80), Ok(8));
    assert_eq!(reader.next(), Ok(Some((60, 6))));
}

#[test]
fn gates_are_exhausted_and_free_again() {
    let with = log::<u64>(&Options::new(4).gates(1));
    let held = with.gated_reader(Start::Next, &Unleased).unwrap();
    let refused = with.gated_reader(Start::Next, &Unleased).unwrap_err();
    assert_eq!(refused, AttachError::GatesExhausted { gates: 1 });
    assert_eq!(refused.to_string(), "expected one of 1 gates to be free, found none");
    drop(held);
    assert_eq!(with.gated_reader(Start::Next, &Unleased).unwrap().owner().generation, 2);
    let without = Log::<u64>::on_heap(4).unwrap();
    let refused = without.gated_reader(Start::Next, &Unleased).unwrap_err();
    assert_eq!(refused, AttachError::GatesExhausted { gates: 0 });
}

fn kill<T, L: tidewire_shm::Trust, G>(leases: &Leases, reader: GatedReader<T, L, G>) {
    leases.kill(role(1));
    let _dead = ManuallyDrop::new(reader);
}

#[test]
fn a_gate_is_reclaimed_by_proof_only() {
    let log = log::<u64>(&Options::new(4).gates(2).liveness::<Leases>());
    let leases = Leases::default();
    let mut writer = log.writer(&leases).unwrap();
    let dying = log.gated_reader(Start::Next, &leases).unwrap();
    let living = log.gated_reader(Start::Next, &leases).unwrap();
    (1..=4).for_each(|version| assert_eq!(writer.try_write(&0), Ok(version)));
    assert_eq!((writer.reclaim_gates(&leases), writer.room()), (0, 0));
    kill(&leases, dying);
    // No proof, or not about this log.
    assert_eq!((writer.reclaim_gates(&Unleased), writer.room()), (0, 0));
    assert_eq!(writer.reclaim_gates(&leases), 1);
    assert_eq!((writer.reclaim_gates(&leases), writer.try_write(&0)), (0, Err(LogFull { gate: 1 })));
    assert_eq!((log.gate_owner(0), log.gate_owner(1)), (None, Some(living.owner())));
    drop(living);
    assert_eq!(writer.try_write(&0), Ok(5));
}

#[test]
fn the_gate_of_a_dead_reader_is_taken() {
    let log = log::<u64>(&Options::new(4).gates(1).liveness::<Leases>());
    let leases = Leases::default();
    let mut writer = log.writer(&leases).unwrap();
    let dying = log.gated_reader(Start::Next, &leases).unwrap();
    let refused = log.gated_reader(Start::Next, &leases).unwrap_err();
    assert_eq!(refused, AttachError::GatesExhausted { gates: 1 });
    (1..=4).for_each(|version| assert_eq!(writer.try_write(&version), Ok(version)));
    kill(&leases, dying);
    let mut next = log.gated_reader(Start::Oldest, &leases).unwrap();
    assert_eq!((next.gate(), next.owner().generation, next.position()), (0, 2, 2));
    assert_eq!((writer.try_write(&5), writer.try_write(&6)), (Ok(5), Err(LogFull { gate: 0 })));
    (2..=5).for_each(|version| assert_eq!(next.next(), Ok(Some((version, version)))));
}

#[test]
fn a_writer_is_followed_by_proof_and_keeps_what_gates_hold() {
    let log = log::<u64>(&Options::new(4).gates(1).liveness::<Leases>());
    let leases = Leases::default();
    let mut first = log.writer(&leases).unwrap();
    let mut reader = log.gated_reader(Start::Next, &leases).unwrap();
    (1..=3).for_each(|version| assert_eq!(first.try_write(&version), Ok(version)));
    let owner = first.owner();
    assert_eq!(log.writer(&leases).unwrap_err(), AttachError::RoleTaken(owner));
    leases.kill(role(0));
    let _dead = ManuallyDrop::new(first);
    let mut second = log.writer(&leases).unwrap();
    assert_eq!((second.version(), second.owner().generation), (3, 2));
    assert_eq!((second.try_write(&4), second.try_write(&5)), (Ok(4), Err(LogFull { gate: 0 })));
    (1..=4).for_each(|version| assert_eq!(reader.next(), Ok(Some((version, version)))));
    drop(second);
    assert_eq!(log.writer_owner(), None);
    assert_eq!(log.writer(&leases).unwrap().try_write(&5), Ok(5));
}

#[test]
fn leases_of_another_kind_are_refused() {
    let log = log::<u64>(&Options::new(4).gates(1));
    let other = AttachError::Incompatible(tidewire_shm::Incompatible::new(Field::Liveness, 0, 1 << 31));
    let leases = Leases::default();
    assert_eq!(log.writer(&leases).unwrap_err(), other);
    assert_eq!(log.gated_reader(Start::Next, &leases).unwrap_err(), other);
    let mut writer = log.writer(&Unleased).unwrap();
    let held = log.gated_reader(Start::Next, &Unleased).unwrap();
    assert_eq!(writer.reclaim_gates(&leases), 0);
    assert_eq!(log.gate_owner(0), Some(held.owner()));
    let lease = leases.acquire(role(0));
    assert!(matches!(leases.acquire(role(0)), Err(LeaseError::Held { .. })) && lease.is_ok());
}

#[test]
fn who_may_write_what() {
    let options = Options::new(4).gates(2).role_stride(RoleStride::Page);
    let bytes = Log::<u64>::bytes(&options).unwrap();
    let memory = Memory::new(bytes);
    let log = Log::<u64, _>::create(memory.region(), &options).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    writer.write(&10);
    let read_only = Log::<u64, Untrusted>::open(memory.region().read_only(), 0).unwrap();
    assert_eq!(read_only.reader(Start::Oldest).unwrap().next(), Ok(Some((10, 1))));
    let refused = AttachError::Region(RegionError::ReadOnly);
    assert_eq!(read_only.writer(&Unleased).unwrap_err(), refused);
    assert_eq!(read_only.gated_reader(Start::Next, &Unleased).unwrap_err(), refused);
    let error = Log::<u64, _>::create(memory.region().read_only(), &options).unwrap_err();
    assert_eq!(error, CreateError::Region(RegionError::ReadOnly));
    drop(writer);

    // The page of the writer, and that of gate 0, are all that these two need.
    let gates = bytes - 2 * 4096;
    let pages = |range| Log::<u64, _>::open(memory.region().read_only_but([range]), 0).unwrap();
    let (writes, reads) = (pages(8192..12288), pages(gates..gates + 4096));
    let mut writer = writes.writer(&Unleased).unwrap();
    let mut reader = reads.gated_reader(Start::Next, &Unleased).unwrap();
    (2..=5).for_each(|version| assert_eq!(writer.try_write(&version), Ok(version)));
    assert_eq!((writer.try_write(&6), reader.next()), (Err(LogFull { gate: 0 }), Ok(Some((2, 2)))));
    assert_eq!(writer.try_write(&6), Ok(6));
    assert!(matches!(reads.writer(&Unleased).unwrap_err(), AttachError::Region(_)));
    assert!(matches!(writes.gated_reader(Start::Next, &Unleased).unwrap_err(), AttachError::Region(_)));
    memory.check_guards();
}

#[test]
fn waits_end_with_a_value_or_in_time() {
    for wake in [Wake::Never, Wake::Always, Wake::Waiters(BellMode::Fence)] {
        let options = Options::new(4).gates(1).wake(wake).liveness::<Leases>();
        let log = log::<u64>(&options);
        let leases = Leases::default();
        let mut reader = log.reader(Start::Next).unwrap();
        let short = Duration::from_millis(1);
        assert_eq!(reader.wait_next(&leases, Duration::from_secs(60)), Err(WaitError::WriterGone));
        let mut writer = log.writer(&leases).unwrap();
        assert_eq!(reader.wait_next(&leases, short), Err(WaitError::TimedOut));
        let mut gated = log.gated_reader(Start::Next, &leases).unwrap();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(30));
                assert_eq!(writer.try_write(&1), Ok(1));
            });
            assert_eq!(gated.wait_next(&leases, Duration::from_secs(60)), Ok(1));
        });
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(gated.next(), Ok(Some((1, 1))));
        // Whoever has something to read does not wait, known of or not.
        assert_eq!(reader.wait_next(&leases, Duration::ZERO), Ok(1));
        writer.write(&2);
        assert_eq!((reader.next(), reader.wait_next(&leases, Duration::ZERO)), (Ok(Some((1, 1))), Ok(2)));
        drop(writer);
        assert_eq!((reader.next(), reader.next()), (Ok(Some((2, 2))), Ok(None)));
        assert_eq!(reader.wait_next(&leases, Duration::from_secs(60)), Err(WaitError::WriterGone));
    }
}

#[test]
fn a_writer_waits_for_room() {
    let log = log::<u64>(&Options::new(4).gates(2).liveness::<Leases>());
    let leases = Leases::default();
    let mut writer = log.writer(&leases).unwrap();
    let long = Duration::from_secs(60);
    assert_eq!(writer.wait_room(&leases, Duration::ZERO), Ok(()));
    let mut reader = log.gated_reader(Start::Next, &leases).unwrap();
    (1..=4).for_each(|version| assert_eq!(writer.try_write(&version), Ok(version)));
    assert_eq!(writer.wait_room(&leases, Duration::ZERO), Err(LogFull { gate: 0 }));
    assert_eq!(writer.wait_room(&leases, Duration::from_millis(20)), Err(LogFull { gate: 0 }));
    let start = Instant::now();
    for wakes in [false, true] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                assert!(reader.next().unwrap().is_some());
                if wakes {
                    reader.wake_writer();
                }
            });
            assert_eq!(writer.wait_room(&leases, long), Ok(()));
        });
        let next = writer.version() + 1;
        assert_eq!(writer.try_write(&next), Ok(next));
    }
    // One that dies is waited for until that is proven, and not by leases that prove nothing.
    kill(&leases, reader);
    assert_eq!(writer.wait_room(&Unleased, Duration::from_millis(20)), Err(LogFull { gate: 0 }));
    assert_eq!((writer.wait_room(&leases, long), log.gate_owner(0)), (Ok(()), None));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_cannot_be_created() {
    for capacity in [0, 1, 2, 3, 6, 1 << 31] {
        let found = Log::<u64>::bytes(&Options::new(capacity));
        assert_eq!(found, Err(CreateError::Slots { min: 4, max: 1 << 30, found: capacity }));
    }
    let found = Log::<u64>::bytes(&Options::new(4).gates(MAX_GATES + 1));
    let error = CreateError::Count { what: "gates or none", max: 256, found: 257 };
    assert_eq!(found, Err(error));
    assert_eq!(error.to_string(), "expected 1 to 256 gates or none, found 257");
    assert_eq!(Log::<()>::bytes(&Options::new(4)), Err(CreateError::Element { bytes: 0, align: 1 }));
    let huge = Log::<[u64; 1 + (1 << 28)]>::bytes(&Options::new(4));
    assert_eq!(huge, Err(CreateError::Element { bytes: (1 << 31) + 8, align: 8 }));
    let needed = Log::<u64>::bytes(&Options::new(4)).unwrap();
    let short = Region::heap(needed - 128).unwrap();
    let error = Log::<u64>::create(short, &Options::new(4)).unwrap_err();
    assert_eq!(error, CreateError::RegionTooSmall { needed, found: needed - 128 });
}

#[test]
fn a_log_of_another_shape_is_not_opened() {
    let options = Options::new(64).gates(2).type_fingerprint(7);
    let memory = Memory::new(Log::<u64>::bytes(&options).unwrap());
    drop(Log::<u64, _>::create(memory.region(), &options).unwrap());
    let field = |error: AttachError| match error {
        AttachError::Incompatible(error) => error.field,
        other => panic!("{other}"),
    };
    let open = || Log::<u64, _>::open(memory.region(), 7);
    assert_eq!(field(Log::<u64, _>::open(memory.region(), 8).unwrap_err()), Field::TypeFingerprint);
    assert_eq!(field(Log::<u32, _>::open(memory.region(), 7).unwrap_err()), Field::ElementBytes);
    assert_eq!(field(Log::<[u8; 8], _>::open(memory.region(), 7).unwrap_err()), Field::ElementAlign);
    let cell = tidewire_seqlock::Cell::<u64, _>::open(memory.region(), 7).unwrap_err();
    assert_eq!(field(cell), Field::Kind);
    // Every word of header and shape but the origin's, changed by one.
    for offset in (24..128 + 128).step_by(8).filter(|offset| !(88..112).contains(offset)) {
        let was = memory.get(offset);
        for changed in [was ^ 1, was ^ 1 << 32, was ^ 1 << 63] {
            memory.set(offset, changed);
            let found = open();
            // The upper halves of words that begin with what was chosen freely are chosen freely, too.
            let free = [136, 64].contains(&offset) && found.is_ok();
            assert!(found.is_err() || free, "word at {offset}: {changed:#x}");
        }
        memory.set(offset, was);
    }
    assert!(open().is_ok());
    memory.check_guards();
}

/// Small logs byte by byte: other versions and other languages read them.
#[cfg(target_endian = "little")]
#[test]
fn the_bytes_are_those_of_the_drawing() {
    let options = Options::new(4).gates(1).type_fingerprint(0xF1F2_F3F4_F5F6_F7F8).wake(Wake::Always);
    let memory = Memory::new(Log::<u64>::bytes(&options).unwrap());
    let log = Log::<u64, _>::create(memory.region(), &options).unwrap();
    let mut writer = log.writer(&Unleased).unwrap();
    let reader = log.gated_reader(Start::Next, &Unleased).unwrap();
    (1..=2).for_each(|version| assert_eq!(writer.try_write(&(version * 0x11)), Ok(version)));
    (3..=5).for_each(|version| assert_eq!(writer.write(&(version * 0x11)), version));
    let header = [
        (24, 0x0003_0006),
        (32, 1024),
        (40, 4),
        (48, 8),
        (56, 8),
        (64, 0xF1F2_F3F4_F5F6_F7F8),
        (72, 128),
        (80, 768),
    ];
    let shape = [(128, 1 << 32 | 1), (136, 1 << 32), (144, 1), (152, 640), (160, 896)];
    let named = |owner: Owner| u64::from(owner.generation) << 32 | u64::from(owner.id);
    let words = [(384, named(writer.owner())), (512, 5), (896, 1), (904, named(reader.owner()))];
    let stamps = [(640, 4), (648, 5), (656, 2), (664, 3)];
    let data = [(768, 0x44), (776, 0x55), (784, 0x22), (792, 0x33)];
    let all: Vec<_> = [&header[..], &shape, &words, &stamps, &data].concat();
    for (offset, word) in &all {
        assert_eq!(memory.get(*offset), *word, "at {offset}");
    }
    for offset in (128..1024).step_by(8).filter(|offset| !all.iter().any(|(known, _)| known == offset)) {
        assert_eq!(memory.get(offset), 0, "at {offset}");
    }
}

#[test]
fn answers_say_what_was_expected_and_what_was_found() {
    let corrupt = Corrupt { what: CorruptWord::Stamp, found: 7 };
    assert_eq!(NextError::Corrupt(corrupt).to_string(), corrupt.to_string());
    assert_eq!(
        NextError::Overtaken { missed: 3 }.to_string(),
        "expected the next value, found that it and the rest of 3 were overwritten"
    );
    assert_eq!(
        LogFull { gate: 3 }.to_string(),
        "expected room, found that the reader of gate 3 has not taken the oldest values"
    );
    let log = Log::<u64>::on_heap(4).unwrap();
    assert_eq!(format!("{log:?}"), "Log { capacity: 4, gates: 0, .. }");
    fn sent<T: Send>(_: &T) {}
    sent(&log.writer(&Unleased).unwrap());
    sent::<Reader<u64, Trusted>>(&log.reader(Start::Next).unwrap());
}
