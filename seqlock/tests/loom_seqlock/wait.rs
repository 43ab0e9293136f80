//! Readers that sleep, and writers that wake them: whoever is not woken sleeps for ever, which a model reports.

use loom::thread;
use tidewire_seqlock::{AttachError, Cell, KernelRef, Options, Reader, Wake};
use tidewire_shm::bell::{BellMode, Kernel, Nap, Place};
use tidewire_shm::sync::hook;
use tidewire_shm::{Region, Trusted, Unleased};

use super::futex::Futex;
use crate::cells::value;
use crate::leases::Leases;
use crate::model::{Shown, at_every_step, model, model_that_shows};

use std::time::Duration;

/// A word of the region that the cell does not use: where the kernel's calls begin.
const FREE: usize = 8;

/// A futex that tells whether somebody was woken.
#[derive(Debug)]
struct Noted {
    futex: Futex,
    shown: Shown,
}

impl Kernel for Noted {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        let nap = self.futex.sleep(place, expected, timeout_ns);
        self.shown.note(if nap == Nap::Woken { "woken" } else { "kept awake" });
        nap
    }
    fn wake(&self, place: Place<'_>) -> u32 {
        self.futex.wake(place)
    }
    fn register(&self) -> Result<(), i32> {
        self.futex.register()
    }
    fn barrier(&self) -> bool {
        self.futex.barrier()
    }
    fn now_ns(&self) -> u64 {
        self.futex.now_ns()
    }
    fn pause(&self, ns: u64) {
        self.futex.pause(ns);
    }
    fn yield_now(&self) {
        self.futex.yield_now();
    }
    fn spins(&self) -> u32 {
        0
    }
}

const COUNTED: Wake = Wake::Waiters(BellMode::Fence);

fn futex(shown: &Shown) -> &'static Noted {
    // A kernel is for good; what it is made of is gone with the model.
    let futex = Futex::new(&Region::heap(128).unwrap(), FREE);
    Box::leak(Box::new(Noted { futex, shown: shown.clone() }))
}

fn cell<const N: usize>(wake: Wake) -> Cell<[u64; N]>
where
    [u64; N]: bytemuck::Pod,
{
    let options = Options::new().slots(2).wake(wake).liveness::<Leases>();
    let region = Region::heap(Cell::<[u64; N]>::bytes(&options).unwrap()).unwrap();
    Cell::create(region, &value(0), &options).unwrap()
}

/// Waits for each version there is, up to the last.
fn follow<const N: usize>(
    reader: &mut Reader<[u64; N]>,
    futex: &Noted,
    leases: &Leases,
    last: u64,
    shown: &Shown,
) where
    [u64; N]: bytemuck::Pod,
{
    let mut seen = 0;
    while seen < last {
        let found = reader.wait_changed_on(futex, leases, seen, Duration::MAX).unwrap();
        assert!(found > seen && found <= last, "{found} after {seen}");
        shown.note_if(found == last && seen == 0, "at once");
        shown.note_if(found < last, "one by one");
        seen = found;
    }
    assert_eq!(reader.version(), Ok(last));
}

/// A writer writes `last` versions and goes, while a reader waits for them: it is woken, or finds what was written; it is
/// never told that the writer is gone while there is something to be found.
fn wakes<const N: usize>(wake: Wake, last: u64, expected: &'static [&'static str])
where
    [u64; N]: bytemuck::Pod,
{
    model_that_shows(expected, move |shown| {
        let leases = Leases::new();
        let (cell, futex) = (cell::<N>(wake), futex(shown));
        let mut writer = cell.writer_on(futex, &leases).unwrap();
        let mut reader = cell.reader();
        let writing = thread::spawn(move || {
            (1..=last).for_each(|version| assert_eq!(writer.write(&value(version)), version));
        });
        follow(&mut reader, futex, &leases, last, shown);
        writing.join().unwrap();
    });
}

#[test]
fn a_reader_of_a_word_that_is_counted_is_woken() {
    wakes::<1>(COUNTED, 2, &["at once", "one by one", "woken", "kept awake"]);
}

/// Between the first and the last store of a write, `latest` changes twice.
#[test]
fn a_reader_of_an_inline_value_that_is_counted_is_woken() {
    wakes::<2>(COUNTED, 1, &["at once", "woken", "kept awake"]);
}

#[test]
fn a_reader_of_a_word_is_woken_by_a_writer_that_always_wakes() {
    wakes::<1>(Wake::Always, 2, &["at once", "one by one", "woken", "kept awake"]);
}

#[test]
fn a_reader_of_an_inline_value_is_woken_by_a_writer_that_always_wakes() {
    wakes::<2>(Wake::Always, 1, &["at once", "woken", "kept awake"]);
}

#[test]
fn two_readers_that_are_counted_are_woken() {
    model_that_shows(&["woken", "kept awake"], |shown| {
        let leases = Leases::new();
        let (cell, futex) = (cell::<1>(COUNTED), futex(shown));
        let mut writer = cell.writer_on(futex, &leases).unwrap();
        let readers = [cell.reader(), cell.reader()];
        let waiting = readers.map(|mut reader| {
            let leases = leases.clone();
            thread::spawn(move || {
                assert_eq!(reader.wait_changed_on(futex, &leases, 0, Duration::MAX), Ok(1));
            })
        });
        assert_eq!(writer.write(&value(1)), 1);
        waiting.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// Killed at any step, also between publication and wake, a writer leaves readers that the next write wakes.
fn killed<const N: usize>(wake: Wake)
where
    [u64; N]: bytemuck::Pod,
{
    at_every_step(move |step| {
        let leases = Leases::new();
        let (cell, futex) = (cell::<N>(wake), futex(&Shown::default()));
        let first = cell.writer_on(futex, &leases).unwrap();
        let mut reader = cell.reader();
        let dying = thread::spawn(move || {
            let outcome = hook::killed_after(step, || {
                let mut first = first;
                first.write(&value(1));
            });
            outcome.is_none()
        });
        let following = thread::spawn(move || {
            let killed = dying.join().unwrap();
            let mut next = cell.writer_on(futex, &leases).unwrap();
            let (before, last) = (next.version(), next.version() + 1);
            assert_eq!(next.write(&value(last)), last);
            (before, killed)
        });
        // By leases that say nothing, so that it waits for the next writer.
        let found = reader.wait_changed_on(futex, &Unleased, 0, Duration::MAX).unwrap();
        let (before, killed) = following.join().unwrap();
        assert!((1..=before + 1).contains(&found), "{found}, {before} before");
        killed
    });
}

#[test]
fn a_writer_of_words_killed_at_any_step_is_followed_by_one_that_wakes() {
    killed::<1>(COUNTED);
    killed::<1>(Wake::Always);
}

#[test]
fn an_inline_writer_killed_at_any_step_is_followed_by_one_that_wakes() {
    killed::<2>(COUNTED);
}

#[test]
fn without_a_system_a_writer_that_wakes_needs_a_kernel() {
    model(|| {
        for wake in [Wake::Always, COUNTED] {
            let options = Options::new().slots(2).wake(wake);
            let region = Region::heap(Cell::<u64>::bytes(&options).unwrap()).unwrap();
            let cell = Cell::<u64, Trusted>::create(region, &0, &options).unwrap();
            assert_eq!(cell.writer(&Unleased).unwrap_err(), AttachError::NoKernel);
            // The role was given back.
            let kernel: KernelRef = futex(&Shown::default());
            assert_eq!(cell.writer_on(kernel, &Unleased).unwrap().write(&1), 1);
        }
    });
}
