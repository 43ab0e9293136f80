//! A writer that overwrites, and readers that it overtakes.

use std::sync::Arc;

use loom::thread;
use tidewire_seqlock::log::{NextError, Start};
use tidewire_shm::Unleased;

use crate::follower::{Follower, log, value, values};
use crate::model::model_that_shows;

/// A writer goes on from version `before` to version `last` while a reader of what is there makes `steps`.
fn stream<const N: usize>(
    capacity: u32,
    before: u64,
    last: u64,
    steps: u32,
    expected: &'static [&'static str],
) where
    [u64; N]: bytemuck::Pod,
{
    model_that_shows(expected, move |shown| {
        let log = log::<N, Unleased>(capacity, 0);
        let mut writer = log.writer(&Unleased).unwrap();
        (1..=before).for_each(|version| assert_eq!(writer.write(&value(version)), version));
        let mut follower = Follower::new(log.reader(Start::Oldest).unwrap());
        let writing = thread::spawn(move || {
            (before + 1..=last).for_each(|version| assert_eq!(writer.write(&value(version)), version));
        });
        for _ in 0..steps {
            follower.step(shown);
        }
        writing.join().unwrap();
        follower.finish(last, shown);
    });
}

#[test]
fn nothing_torn_is_read_and_what_is_missed_is_counted() {
    stream::<2>(2, 1, 4, 3, &["read", "overtaken"]);
}

#[test]
fn a_reader_from_the_first_value_on() {
    stream::<1>(2, 0, 4, 2, &["read", "overtaken"]);
}

/// The second version of a group is stored behind no fence of its own.
#[test]
fn a_stamp_speaks_for_its_group() {
    stream::<2>(8, 7, 10, 2, &["read", "overtaken"]);
}

/// A reader that is overtaken never takes a fast writer for one that lies: that needs four slots.
#[test]
fn an_honest_writer_is_never_corrupt() {
    stream::<1>(4, 1, 6, 3, &["read", "overtaken"]);
}

/// The same where one writer follows another: whoever saw the first stamp of the second knows what the first published.
#[test]
fn the_first_stamp_of_a_follower_tells_of_what_was_published() {
    model_that_shows(&["read", "overtaken"], |shown| {
        let log = Arc::new(log::<1, Unleased>(4, 0));
        let mut first = log.writer(&Unleased).unwrap();
        first.write(&value(1));
        let mut follower = Follower::new(log.reader(Start::Oldest).unwrap());
        let shown = shown.clone();
        let reading = thread::spawn(move || {
            follower.step(&shown);
            (follower, shown)
        });
        (2..=4).for_each(|version| assert_eq!(first.write(&value(version)), version));
        drop(first);
        let following = thread::spawn(move || {
            assert_eq!(log.writer(&Unleased).unwrap().write(&value(5)), 5);
        });
        following.join().unwrap();
        let (mut follower, shown) = reading.join().unwrap();
        follower.finish(5, &shown);
    });
}

/// A batch is whole if its first version is.
#[test]
fn the_first_stamp_speaks_for_a_batch() {
    model_that_shows(&["batch", "overtaken"], |shown| {
        let log = log::<1, Unleased>(8, 0);
        let mut writer = log.writer(&Unleased).unwrap();
        assert_eq!(writer.write_slice(&values(1..=9)), 9);
        let mut reader = log.reader(Start::Oldest).unwrap();
        assert_eq!(reader.position(), 2);
        let writing = thread::spawn(move || {
            writer.write(&value(10));
            assert_eq!(writer.write_slice(&values(11..=12)), 12);
            writer.write(&value(13));
        });
        let mut found = [[0]; 4];
        let missed = match reader.next_batch(&mut found) {
            Ok(count) => {
                shown.note("batch");
                assert_eq!((found[..count].to_vec(), count), (values(2..=5), 4), "torn");
                0
            }
            Err(NextError::Overtaken { missed }) => {
                shown.note("overtaken");
                missed
            }
            Err(NextError::Corrupt(corrupt)) => panic!("{corrupt}"),
        };
        assert_eq!(reader.missed(), missed);
        let from = reader.position();
        writing.join().unwrap();
        // One that was overtaken in the middle of it may be overtaken once more.
        let mut found = [[0]; 8];
        match reader.next_batch(&mut found) {
            Ok(count) => assert_eq!(found[..count], values(from..=13)),
            Err(NextError::Overtaken { missed: again }) => {
                assert_eq!(reader.position(), from + again);
                assert_eq!(reader.next().unwrap(), Some((value(from + again), from + again)));
            }
            Err(NextError::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    });
}

/// A slice is published by one store: a reader sees all of a piece or nothing.
#[test]
fn a_piece_is_published_at_once() {
    model_that_shows(&["all", "nothing"], |shown| {
        let log = log::<1, Unleased>(8, 0);
        let (mut writer, mut reader) = (log.writer(&Unleased).unwrap(), log.reader(Start::Next).unwrap());
        let writing = thread::spawn(move || assert_eq!(writer.write_slice(&values(1..=2)), 2));
        match reader.lag().unwrap() {
            0 => shown.note("nothing"),
            lag => {
                assert_eq!(lag, 2);
                let mut found = [[0]; 2];
                assert_eq!(reader.next_batch(&mut found), Ok(2));
                assert_eq!(found.to_vec(), values(1..=2));
                shown.note("all");
            }
        }
        writing.join().unwrap();
    });
}
