//! A writer that sleeps until there is room: whoever is not woken sleeps for ever, which a model reports.

use std::time::Duration;

use loom::thread;
use tidewire_seqlock::log::{LogFull, Start};
use tidewire_shm::bell::{Kernel, Nap, Place};
use tidewire_shm::{Region, Unleased};

use crate::follower::{log, value};
use crate::futex::Futex;
use crate::model::{Shown, model_that_shows};

/// A futex that tells whether somebody was woken.
#[derive(Clone, Debug)]
struct Noted {
    futex: Futex,
    shown: Shown,
}

impl Noted {
    fn new(shown: &Shown) -> Self {
        Self { futex: Futex::new(&Region::heap(128).unwrap(), 8), shown: shown.clone() }
    }
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

/// A reader takes values, and wakes the writer that waits for room for as many.
fn waits(takes: u64) {
    model_that_shows(&["woken", "kept awake"], move |shown| {
        let kernel = Noted::new(shown);
        let log = log::<1, Unleased>(2, 1);
        let mut writer = log.writer(&Unleased).unwrap();
        let mut reader = log.gated_reader(Start::Next, &Unleased).unwrap();
        (1..=2).for_each(|version| assert_eq!(writer.try_write(&value(version)), Ok(version)));
        assert_eq!(writer.wait_room_on(&kernel, &Unleased, Duration::ZERO), Err(LogFull { gate: 0 }));
        let waking = kernel.clone();
        let reading = thread::spawn(move || {
            for version in 1..=takes {
                assert_eq!(reader.next(), Ok(Some((value(version), version))));
                reader.wake_writer_on(&waking);
            }
            reader
        });
        for version in 3..=2 + takes {
            assert_eq!(writer.wait_room_on(&kernel, &Unleased, Duration::MAX), Ok(()));
            assert_eq!(writer.try_write(&value(version)), Ok(version));
        }
        drop(reading.join().unwrap());
    });
}

#[test]
fn a_writer_that_waits_for_room_is_woken() {
    waits(1);
    waits(2);
}
