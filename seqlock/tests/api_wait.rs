//! Waiting for a change: who wakes whom, how long a sleep lasts, and what a peer that lies can do about it.
#![cfg(all(feature = "std", not(loom), not(miri), target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

mod common;
mod kernels;

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Leases, Memory, Value, role};
use kernels::Observed;
use tidewire_seqlock::table::Table;
use tidewire_seqlock::{
    AttachError, Cell, CorruptWord, KernelRef, Options, Reader, WaitError, Wake, bytes, classic, shared,
};
use tidewire_shm::bell::{BellMode, Kernel, Nap, Place, System};
use tidewire_shm::{Field, Incompatible, Liveness, Unleased, Untrusted};

/// Where things lie with line stride: header and shape come first.
const WAKE: usize = 128 + 20;
const BELL: usize = 256;
const LATEST: usize = 512;

/// Long enough that a test that comes to its end has failed.
const LONG: Duration = Duration::from_secs(30);
const SHORT_NS: u64 = 30_000_000;
const SHORT: Duration = Duration::from_nanos(SHORT_NS);

fn ways() -> Vec<Wake> {
    let mut ways = vec![Wake::Never, Wake::Always, Wake::Waiters(BellMode::Fence)];
    if BellMode::choose(&System) == BellMode::Membarrier {
        ways.push(Wake::Waiters(BellMode::Membarrier));
    }
    ways
}

fn cell<const N: usize>(options: &Options) -> (Memory, Cell<[u64; N], Untrusted>)
where
    [u64; N]: bytemuck::Pod,
{
    let memory = Memory::new(Cell::<[u64; N]>::bytes(options).unwrap());
    let cell = Cell::create(memory.region(), &Value::of(0), options).unwrap();
    (memory, cell)
}

/// What waits, and what writes once; for each structure.
type Ends = (
    Box<dyn FnMut(&Observed, u64, Duration) -> Result<u64, WaitError> + Send>,
    Box<dyn FnMut() -> u64 + Send>,
);

fn ends_of_a_cell<const N: usize>(wake: Wake, kernel: KernelRef) -> Ends
where
    [u64; N]: bytemuck::Pod,
{
    let (_memory, cell) = cell::<N>(&Options::new().wake(wake));
    let (mut reader, mut writer) = (cell.reader(), cell.writer_on(kernel, &Unleased).unwrap());
    (
        Box::new(move |kernel, since, timeout| reader.wait_changed_on(kernel, &Unleased, since, timeout)),
        Box::new(move || writer.write(&Value::of(1))),
    )
}

/// The two ends of each structure, whose writer asks `kernel`.
fn structures(wake: Wake, kernel: KernelRef) -> Vec<Ends> {
    let options = Options::new().wake(wake);
    let mut all = vec![
        ends_of_a_cell::<1>(wake, kernel),
        ends_of_a_cell::<3>(wake, kernel),
        ends_of_a_cell::<9>(wake, kernel),
    ];

    let memory = Memory::new(bytes::Cell::<Untrusted>::bytes(100, &options).unwrap());
    let cell = bytes::Cell::create(memory.region(), 100, b"zero", &options).unwrap();
    let (mut reader, mut writer) = (cell.reader(), cell.writer_on(kernel, &Unleased).unwrap());
    all.push((
        Box::new(move |kernel, since, timeout| reader.wait_changed_on(kernel, &Unleased, since, timeout)),
        Box::new(move || writer.write(b"one").unwrap()),
    ));

    let memory = Memory::new(Table::<u64>::bytes(3, &options).unwrap());
    let table = Table::create(memory.region(), 3, u64::from, &options).unwrap();
    let mut reader = table.reader(2).unwrap();
    let mut writer = table.writer_on(2, kernel, &Unleased).unwrap();
    all.push((
        Box::new(move |kernel, since, timeout| reader.wait_changed_on(kernel, &Unleased, since, timeout)),
        Box::new(move || writer.write(&7)),
    ));

    let memory = Memory::new(shared::Cell::<u64>::bytes(&options).unwrap());
    let cell = shared::Cell::create(memory.region(), &0, &options).unwrap();
    let (mut reader, mut writer) = (cell.reader(), cell.writer_on(kernel, &Unleased).unwrap());
    all.push((
        Box::new(move |kernel, since, timeout| reader.wait_changed_on(kernel, &Unleased, since, timeout)),
        Box::new(move || writer.write(&Unleased, &7).unwrap()),
    ));
    all
}

#[test]
fn a_wait_for_a_version_that_has_passed_does_not_sleep() {
    for wake in ways() {
        for (mut wait, mut write) in structures(wake, Observed::forever()) {
            let kernel = Observed::default();
            assert_eq!(wait(&kernel, 0, Duration::ZERO), Err(WaitError::TimedOut));
            assert_eq!(wait(&kernel, 5, LONG), Ok(0), "any other version will do");
            assert_eq!(write(), 1);
            assert_eq!((wait(&kernel, 0, LONG), wait(&kernel, 0, Duration::ZERO)), (Ok(1), Ok(1)));
            assert_eq!(kernel.naps(), 0, "{wake:?}");
        }
    }
}

#[test]
fn a_wait_without_a_change_times_out_after_its_time() {
    for wake in ways() {
        for (mut wait, _write) in structures(wake, Observed::forever()) {
            let (kernel, start) = (Observed::default(), Instant::now());
            assert_eq!(wait(&kernel, 0, SHORT), Err(WaitError::TimedOut));
            let lasted = start.elapsed();
            assert!(lasted >= SHORT && lasted < LONG, "{wake:?}: {lasted:?}");
            let most = if wake == Wake::Never { 1_000_000 } else { SHORT_NS };
            assert!(kernel.naps() > 0 && kernel.longest_ns() <= most, "{wake:?}: {kernel:?}");
        }
    }
}

/// The reader's sleep has no other end than the wake.
#[test]
fn a_write_wakes_whoever_sleeps() {
    for wake in ways().into_iter().filter(|wake| *wake != Wake::Never) {
        for (mut wait, mut write) in structures(wake, Observed::forever()) {
            let (kernel, start) = (Observed::sound_sleeper(), Instant::now());
            thread::scope(|scope| {
                let waiting = scope.spawn(|| wait(&kernel, 0, LONG));
                while kernel.naps() == 0 {
                    thread::yield_now();
                }
                // So that it is more likely to be asleep than about to.
                thread::sleep(Duration::from_millis(2));
                assert_eq!(write(), 1);
                assert_eq!(waiting.join().unwrap(), Ok(1));
            });
            assert!(start.elapsed() < LONG, "{wake:?}: nobody woke the reader");
        }
    }
}

#[test]
fn readers_of_a_writer_that_wakes_nobody_find_its_writes() {
    let writing = Observed::forever();
    for (mut wait, mut write) in structures(Wake::Never, writing) {
        let kernel = Observed::default();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&kernel, 0, LONG));
            while kernel.naps() == 0 {
                thread::yield_now();
            }
            assert_eq!(write(), 1);
            assert_eq!(waiting.join().unwrap(), Ok(1));
        });
    }
    assert_eq!(writing.wakes(), 0);
}

/// What a write costs where nobody waits.
#[test]
fn a_writer_wakes_only_where_that_was_chosen() {
    for wake in ways() {
        let kernel = Observed::forever();
        for (_wait, mut write) in structures(wake, kernel) {
            let before = kernel.wakes();
            (1..=3).for_each(|version| assert_eq!(write(), version));
            let expected = if wake == Wake::Always { 3 } else { 0 };
            assert_eq!(kernel.wakes() - before, expected, "{wake:?}");
        }
    }
}

/// As a writer leaves it that is killed between publication and wake.
#[test]
fn a_wake_that_never_comes_costs_one_slice() {
    for wake in ways() {
        let muted = Observed::forever();
        muted.mute.store(true, Ordering::SeqCst);
        for (mut wait, mut write) in structures(wake, muted) {
            let (kernel, start) = (Observed::default(), Instant::now());
            thread::scope(|scope| {
                let waiting = scope.spawn(|| wait(&kernel, 0, LONG));
                while kernel.naps() == 0 {
                    thread::yield_now();
                }
                assert_eq!(write(), 1);
                assert_eq!(waiting.join().unwrap(), Ok(1));
            });
            assert!(start.elapsed() < LONG / 2, "{wake:?}");
            assert!(kernel.longest_ns() <= 50_000_000, "{wake:?}: {kernel:?}");
        }
    }
}

#[test]
fn where_leases_prove_it_a_reader_is_told_that_the_writer_is_gone() {
    for wake in ways() {
        let leases = Leases::default();
        let (_memory, cell) = cell::<3>(&Options::new().wake(wake).liveness::<Leases>());
        let mut reader = cell.reader();
        assert_eq!(reader.wait_changed(&leases, 0, LONG), Err(WaitError::WriterGone), "none yet");
        let mut writer = ManuallyDrop::new(cell.writer(&leases).unwrap());
        let kernel = Observed::default();
        assert_eq!(reader.wait_changed_on(&kernel, &leases, 0, SHORT), Err(WaitError::TimedOut));
        assert!(kernel.longest_ns() <= 10_000_000, "{kernel:?}");
        writer.write(&Value::of(1));
        let start = Instant::now();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let first = reader.wait_changed(&leases, 0, LONG);
                (first, reader.wait_changed(&leases, 1, LONG))
            });
            thread::sleep(Duration::from_millis(5));
            leases.kill(role(0));
            // What it wrote is found first.
            assert_eq!(waiting.join().unwrap(), (Ok(1), Err(WaitError::WriterGone)), "{wake:?}");
        });
        assert!(start.elapsed() < LONG / 2, "{wake:?}");
        let mut reader = cell.reader();
        assert_eq!(
            reader.wait_changed(&Unleased, 1, SHORT),
            Err(WaitError::TimedOut),
            "other leases say nothing"
        );
        let _next = cell.writer(&leases).unwrap();
        assert_eq!(
            reader.wait_changed(&leases, 1, SHORT),
            Err(WaitError::TimedOut),
            "there is a writer again"
        );
    }
}

#[test]
fn each_cell_of_a_table_has_a_writer_of_its_own_to_wait_for() {
    let leases = Leases::default();
    let options = Options::new().liveness::<Leases>().wake(Wake::Always);
    let memory = Memory::new(Table::<u64>::bytes(2, &options).unwrap());
    let table = Table::create(memory.region(), 2, u64::from, &options).unwrap();
    let _writer = table.writer(1, &leases).unwrap();
    let (mut first, mut second) = (table.reader(0).unwrap(), table.reader(1).unwrap());
    assert_eq!(first.wait_changed(&leases, 0, LONG), Err(WaitError::WriterGone));
    assert_eq!(second.wait_changed(&leases, 0, SHORT), Err(WaitError::TimedOut));
}

#[test]
fn of_many_writers_the_last_one_must_be_gone() {
    let leases = Leases::default();
    let options = Options::new().liveness::<Leases>().writers(3).wake(Wake::Waiters(BellMode::Fence));
    let memory = Memory::new(shared::Cell::<u64>::bytes(&options).unwrap());
    let cell = shared::Cell::create(memory.region(), &0, &options).unwrap();
    let mut reader = cell.reader();
    let (first, second) = (cell.writer(&leases).unwrap(), cell.writer(&leases).unwrap());
    drop(first);
    assert_eq!(reader.wait_changed(&leases, 0, SHORT), Err(WaitError::TimedOut));
    drop(second);
    assert_eq!(reader.wait_changed(&leases, 0, LONG), Err(WaitError::WriterGone));
}

/// A peer changes the word that is slept on for ever, but never to another version, and the count as well.
#[test]
fn a_word_that_always_changes_holds_nobody_beyond_his_time() {
    for wake in ways() {
        let (memory, cell) = cell::<3>(&Options::new().wake(wake));
        let (mut reader, stop) = (cell.reader(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for lie in 0..100 {
                        // Version 0, its inline copy being changed or not.
                        memory.set(LATEST, lie % 2);
                        memory.set(BELL, lie.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    }
                }
            });
            let (kernel, start) = (Observed::default(), Instant::now());
            let answer = reader.wait_changed_on(&kernel, &Unleased, 0, SHORT);
            let lasted = start.elapsed();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(answer, Err(WaitError::TimedOut), "{wake:?}");
            // The scheduler has a part in it.
            assert!(lasted >= SHORT && lasted < Duration::from_secs(5), "{wake:?}: {lasted:?}");
        });
        memory.check_guards();
    }
}

#[test]
fn a_version_that_goes_back_ends_a_wait_for_good() {
    for wake in ways() {
        let (memory, cell) = cell::<1>(&Options::new().wake(wake));
        let (mut reader, mut writer) = (cell.reader(), cell.writer(&Unleased).unwrap());
        (1..=3).for_each(|version| assert_eq!(writer.write(&Value::of(version)), version));
        assert_eq!(reader.wait_changed(&Unleased, 0, LONG), Ok(3));
        let kernel = Observed::default();
        let answer = thread::scope(|scope| {
            let waiting = scope.spawn(|| reader.wait_changed_on(&kernel, &Unleased, 3, LONG));
            while kernel.naps() == 0 {
                thread::yield_now();
            }
            memory.set(LATEST, 2);
            waiting.join().unwrap()
        });
        let Err(WaitError::Corrupt(corrupt)) = answer else { panic!("{wake:?}: {answer:?}") };
        assert_eq!((corrupt.what, corrupt.found), (CorruptWord::Version, 2));
        memory.set(LATEST, 4);
        assert_eq!(reader.wait_changed(&Unleased, 3, LONG), answer, "{wake:?}");
    }
}

/// In its first sleep, 2^32 versions are written of which no wake tells.
#[derive(Debug)]
struct SleepsThroughALap(Memory2);

struct Memory2(Memory);

impl std::fmt::Debug for Memory2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("len", &self.0.len()).finish()
    }
}

impl Kernel for SleepsThroughALap {
    fn sleep(&self, _place: Place<'_>, expected: u32, _timeout_ns: u64) -> Nap {
        let memory = &self.0.0;
        memory.set(LATEST, memory.get(LATEST) + (1 << 32));
        assert_eq!(memory.get(LATEST) & u64::from(u32::MAX), u64::from(expected), "a futex sees no change");
        Nap::TimedOut
    }
    fn wake(&self, _place: Place<'_>) -> u32 {
        0
    }
    fn register(&self) -> Result<(), i32> {
        Ok(())
    }
    fn barrier(&self) -> bool {
        true
    }
    fn now_ns(&self) -> u64 {
        System.now_ns()
    }
    fn pause(&self, _ns: u64) {}
    fn yield_now(&self) {}
    fn spins(&self) -> u32 {
        0
    }
}

#[test]
fn versions_that_wrap_the_word_in_one_sleep_are_found_at_its_end() {
    for wake in ways() {
        let (memory, cell) = cell::<1>(&Options::new().wake(wake));
        let kernel = SleepsThroughALap(Memory2(memory.clone()));
        let found = cell.reader().wait_changed_on(&kernel, &Unleased, 0, LONG);
        assert_eq!(found, Ok(1 << 32), "{wake:?}");
    }
}

#[test]
fn readers_that_died_asleep_cost_wakes_until_they_are_forgotten() {
    let kernel = Observed::forever();
    let (memory, cell) = cell::<1>(&Options::new().wake(Wake::Waiters(BellMode::Fence)));
    let mut writer = cell.writer_on(kernel, &Unleased).unwrap();
    // As two leave it that were killed.
    memory.set(BELL, 2);
    writer.write(&[1]);
    writer.write(&[2]);
    assert_eq!(kernel.wakes(), 2);
    writer.forget_waiters();
    writer.write(&[3]);
    assert_eq!((kernel.wakes(), memory.get(BELL)), (2, 0));
    // Those that come later are counted as ever.
    assert_eq!(cell.reader().wait_changed(&Unleased, 3, SHORT), Err(WaitError::TimedOut));
    assert_eq!(memory.get(BELL), 0);
}

/// A reader that cannot write the count polls, and writes nothing.
#[test]
fn readers_that_cannot_be_counted_poll() {
    for wake in ways() {
        let (memory, cell) = cell::<9>(&Options::new().wake(wake));
        let view = Cell::<[u64; 9], Untrusted>::open(memory.region().read_only(), 0).unwrap();
        let (mut reader, kernel) = (view.reader(), Observed::default());
        let before = memory.bytes();
        assert_eq!(reader.wait_changed_on(&kernel, &Unleased, 0, SHORT), Err(WaitError::TimedOut));
        assert_eq!(memory.bytes(), before, "{wake:?}");
        let most = if wake == Wake::Always { 50_000_000 } else { 1_000_000 };
        assert!(kernel.longest_ns() <= most, "{wake:?}: {kernel:?}");
        let mut writer = cell.writer(&Unleased).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| reader.wait_changed_on(&kernel, &Unleased, 0, LONG));
            thread::sleep(Duration::from_millis(3));
            writer.write(&Value::of(1));
            assert_eq!(waiting.join().unwrap(), Ok(1), "{wake:?}");
        });
    }
}

#[test]
fn what_was_chosen_stands_in_the_shape() {
    for (code, wake) in (0..).zip([
        Wake::Never,
        Wake::Always,
        Wake::Waiters(BellMode::Fence),
        Wake::Waiters(BellMode::Membarrier),
    ]) {
        let (memory, _cell) = cell::<1>(&Options::new().wake(wake));
        assert_eq!(memory.get(WAKE / 8 * 8) >> 32, code);
        Cell::<[u64; 1], Untrusted>::open(memory.region(), 0).unwrap();
    }
    let (memory, _cell) = cell::<1>(&Options::new());
    memory.set(WAKE / 8 * 8, memory.get(WAKE / 8 * 8) | 4 << 32);
    let error = Cell::<[u64; 1], Untrusted>::open(memory.region(), 0).unwrap_err();
    assert_eq!(error, AttachError::Incompatible(Incompatible::new(Field::Flags, 0, 4)));

    let options = Options::new().wake(Wake::Always);
    let memory = Memory::new(classic::Cell::<u64>::bytes(&options).unwrap());
    classic::Cell::create(memory.region(), &0_u64, &options).unwrap();
    assert_eq!(memory.get(WAKE / 8 * 8) >> 32, 0, "classic cells wake nobody");
    memory.set(WAKE / 8 * 8, memory.get(WAKE / 8 * 8) | 1 << 32);
    let error = classic::Cell::<u64, Untrusted>::open(memory.region(), 0).unwrap_err();
    assert_eq!(error, AttachError::Incompatible(Incompatible::new(Field::Flags, 0, 1)));
}

/// A reader that follows a writer from value to value, through every way to be late.
fn follow<V: Liveness>(mut reader: Reader<[u64; 9], Untrusted>, liveness: &V, last: u64) -> u64 {
    let (mut seen, mut waits) = (0, 0);
    while seen < last {
        seen = reader.wait_changed(liveness, seen, LONG).unwrap();
        let (value, version) = reader.read().unwrap();
        assert!(version >= seen && value.is(version), "{version}");
        seen = version;
        waits += 1;
    }
    waits
}

#[test]
fn readers_follow_a_writer_to_the_end() {
    const LAST: u64 = 300;
    for wake in ways() {
        let (memory, cell) = cell::<9>(&Options::new().wake(wake));
        let view = Cell::<[u64; 9], Untrusted>::open(memory.region().read_only(), 0).unwrap();
        let mut writer = cell.writer(&Unleased).unwrap();
        let start = Instant::now();
        thread::scope(|scope| {
            let readers = [cell.reader(), view.reader(), cell.reader()];
            let following = readers.map(|reader| scope.spawn(|| follow(reader, &Unleased, LAST)));
            for version in 1..=LAST {
                writer.write(&Value::of(version));
                if version % 3 == 0 {
                    thread::sleep(Duration::from_micros(version));
                }
            }
            following.into_iter().for_each(|reader| assert!(reader.join().unwrap() > 1, "{wake:?}"));
        });
        assert!(start.elapsed() < LONG, "{wake:?}");
        assert_eq!(memory.get(BELL), 0, "{wake:?}: nobody is counted any more");
    }
}
