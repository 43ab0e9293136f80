//! Readers with gates: what they join, and what they let go of.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use tidewire_seqlock::log::Start;
use tidewire_shm::Unleased;

use crate::follower::{Follower, log, value, values};
use crate::model::{Shown, model_that_shows};

/// A writer tries to go on from version `before` with so many values while a reader joins, with version `first` if it comes
/// before all of them: from where it joined it misses nothing.
fn join(capacity: u32, before: u64, tries: u64, start: Start, first: u64) {
    model_that_shows(&["read", "full", "joined later"], move |shown| {
        let log = log::<1, Unleased>(capacity, 1);
        let mut writer = log.writer(&Unleased).unwrap();
        (1..=before).for_each(|version| assert_eq!(writer.try_write(&value(version)), Ok(version)));
        let noted = shown.clone();
        let writing = thread::spawn(move || {
            for _ in 0..tries {
                let next = writer.version() + 1;
                noted.note_if(writer.try_write(&value(next)).is_err(), "full");
            }
            writer
        });
        let mut follower = Follower::new(log.gated_reader(start, &Unleased).unwrap());
        assert!(follower.reader.position() >= first);
        shown.note_if(follower.reader.position() > first, "joined later");
        follower.step(shown);
        follower.step(shown);
        let mut writer = writing.join().unwrap();
        follower.finish(writer.version(), shown);
        // And there is room again.
        let next = writer.version() + 1;
        assert_eq!(writer.try_write(&value(next)), Ok(next));
        follower.finish(next, shown);
    });
}

/// Neither the writer that does not see the head, nor the reader that sees an old `latest`: not both.
#[test]
fn a_reader_that_joins_misses_nothing_from_there_on() {
    join(2, 0, 4, Start::Next, 1);
}

#[test]
fn a_reader_that_joins_with_what_is_there_misses_nothing_of_it() {
    join(4, 4, 4, Start::Oldest, 2);
}

/// With slices a look at the gates is older than what is written: what it allows is never what a reader starts with.
#[test]
fn a_look_at_the_gates_allows_nothing_that_a_reader_starts_with() {
    model_that_shows(&["read", "first of all"], |shown| {
        let log = log::<1, Unleased>(8, 1);
        let mut writer = log.writer(&Unleased).unwrap();
        assert_eq!(writer.try_write_slice(&values(1..=10)), Ok(10));
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                let next = writer.version() + 1;
                let _some_or_none = writer.try_write_slice(&values(next..=next + 1));
            }
            writer.version()
        });
        let mut follower = Follower::new(log.gated_reader(Start::History(log.kept()), &Unleased).unwrap());
        shown.note_if(follower.reader.position() == 6, "first of all");
        follower.step(shown);
        let last = writing.join().unwrap();
        follower.finish(last, shown);
    });
}

/// Room hands over what the reader did before it made it.
#[test]
fn room_is_found_behind_what_its_reader_did() {
    model_that_shows(&["room", "full"], |shown: &Shown| {
        let log = log::<1, Unleased>(2, 1);
        let mut writer = log.writer(&Unleased).unwrap();
        let mut reader = log.gated_reader(Start::Next, &Unleased).unwrap();
        (1..=2).for_each(|version| assert_eq!(writer.try_write(&value(version)), Ok(version)));
        let done = Arc::new(AtomicU64::new(0));
        let reading = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                done.store(1, Ordering::Relaxed);
                assert_eq!(reader.next(), Ok(Some((value(1), 1))));
                reader
            }
        });
        match writer.try_write(&value(3)) {
            Ok(_) => {
                shown.note("room");
                assert_eq!(done.load(Ordering::Relaxed), 1);
            }
            Err(full) => {
                assert_eq!(full.gate, 0);
                shown.note("full");
            }
        }
        drop(reading.join().unwrap());
        let next = writer.version() + 1;
        (next..next + 3).for_each(|version| assert_eq!(writer.try_write(&value(version)), Ok(version)));
    });
}

/// What a reader with a gate has not taken stays, while one without a gate may miss some.
#[test]
fn a_gate_holds_what_its_reader_has_not_taken() {
    model_that_shows(&["read", "full"], |shown: &Shown| {
        let log = log::<2, Unleased>(2, 1);
        let mut writer = log.writer(&Unleased).unwrap();
        let mut follower = Follower::new(log.gated_reader(Start::Next, &Unleased).unwrap());
        assert_eq!(writer.try_write(&value(1)), Ok(1));
        let noted = shown.clone();
        let writing = thread::spawn(move || {
            for _ in 0..3 {
                let next = writer.version() + 1;
                noted.note_if(writer.try_write(&value(next)).is_err(), "full");
            }
            writer.version()
        });
        follower.step(shown);
        follower.step(shown);
        let last = writing.join().unwrap();
        follower.finish(last, shown);
        assert_eq!(follower.reader.missed(), 0);
    });
}

/// Two gates: one that is held, and one that is closed meanwhile.
#[test]
fn each_gate_holds_what_its_own_reader_has_not_taken() {
    model_that_shows(&["read", "full 0", "full 1", "through"], |shown: &Shown| {
        let log = log::<1, Unleased>(2, 2);
        let mut writer = log.writer(&Unleased).unwrap();
        let mut held = Follower::new(log.gated_reader(Start::Next, &Unleased).unwrap());
        assert_eq!(writer.try_write(&value(1)), Ok(1));
        let noted = shown.clone();
        let reading = thread::spawn(move || {
            held.step(&noted);
            (held, noted)
        });
        let noted = shown.clone();
        let writing = thread::spawn(move || {
            for _ in 0..3 {
                let next = writer.version() + 1;
                match writer.try_write(&value(next)) {
                    Ok(version) => noted.note_if(version > 2, "through"),
                    Err(full) => noted.note(["full 0", "full 1"][full.gate as usize]),
                }
            }
            writer.version()
        });
        let mut joined = Follower::new(log.gated_reader(Start::Oldest, &Unleased).unwrap());
        joined.step(shown);
        let last = writing.join().unwrap();
        let (mut held, noted) = reading.join().unwrap();
        held.finish(last, &noted);
        joined.finish(last, shown);
        assert_eq!((held.reader.missed(), joined.reader.missed()), (0, 0));
    });
}
