//! Writers and readers with gates that are killed at any of their accesses, and those that come after them.

use std::sync::Arc;

use loom::thread;
use tidewire_seqlock::log::{Log, Start, Writer};
use tidewire_shm::Trusted;
use tidewire_shm::sync::hook;

use crate::follower::{Follower, log, value, values};
use crate::leases::{Lease, Leases};
use crate::model::{Shown, at_every_step};

fn try_next(writer: &mut Writer<[u64; 2], Trusted, Lease>) -> u64 {
    let next = writer.version() + 1;
    writer.try_write(&value(next)).unwrap_or(0)
}

/// Killed at any step, a writer is followed: nothing that it was told is written is lost, nothing torn is seen, and its
/// successor does not overwrite what a gate holds.
#[test]
fn a_writer_killed_at_any_step_is_followed() {
    at_every_step(|step| {
        let shown = Shown::default();
        let leases = Leases::new();
        let log = log::<2, Leases>(2, 1);
        let mut first = log.writer(&leases).unwrap();
        assert_eq!(try_next(&mut first), 1);
        let mut gated = Follower::new(log.gated_reader(Start::Oldest, &leases).unwrap());
        let dying = thread::spawn(move || {
            let mut acknowledged = 1;
            let outcome = hook::killed_after(step, || {
                let mut first = first;
                acknowledged = try_next(&mut first).max(acknowledged);
                acknowledged = try_next(&mut first).max(acknowledged);
            });
            (acknowledged, outcome.is_none())
        });
        let following = thread::spawn(move || {
            let (acknowledged, killed) = dying.join().unwrap();
            let mut next = log.writer(&leases).unwrap();
            assert!(
                next.version() >= acknowledged,
                "{acknowledged} was written, goes on from {}",
                next.version()
            );
            try_next(&mut next);
            (next, killed)
        });
        gated.step(&shown);
        let (mut writer, killed) = following.join().unwrap();
        gated.finish(writer.version(), &shown);
        assert_eq!(gated.reader.missed(), 0);
        let last = try_next(&mut writer);
        assert_ne!(last, 0, "there is room");
        gated.finish(last, &shown);
        killed
    });
}

/// The same in the middle of a piece, for a reader without a gate.
#[test]
fn a_writer_killed_in_a_piece_is_followed() {
    at_every_step(|step| {
        let shown = Shown::default();
        let leases = Leases::new();
        let log = log::<1, Leases>(8, 0);
        let mut first = log.writer(&leases).unwrap();
        assert_eq!(first.write_slice(&values(1..=8)), 8);
        let mut lossy = Follower::new(log.reader(Start::History(8)).unwrap());
        let dying = thread::spawn(move || {
            let mut acknowledged = 8;
            let outcome = hook::killed_after(step, || {
                let mut first = first;
                acknowledged = first.write_slice(&values(9..=10));
            });
            (acknowledged, outcome.is_none())
        });
        let following = thread::spawn(move || {
            let (acknowledged, killed) = dying.join().unwrap();
            let mut next = log.writer(&leases).unwrap();
            let version = next.version();
            assert!(version == 10 || acknowledged == 8 && version == 8, "{version}, {acknowledged} written");
            assert_eq!(next.write(&value(version + 1)), version + 1);
            (version + 1, killed)
        });
        lossy.step(&shown);
        let (last, killed) = following.join().unwrap();
        lossy.finish(last, &shown);
        killed
    });
}

/// Joins, reads and leaves.
fn visit(log: &Log<[u64; 1]>, leases: &Leases) {
    let Ok(mut reader) = log.gated_reader(Start::Next, leases) else { return };
    let first = reader.position();
    if let Some((found, version)) = reader.next().unwrap() {
        assert_eq!((found, version), (value(first), first));
    }
    assert_eq!(reader.missed(), 0);
}

/// Killed at any step from the claim of its gate to the end of its drop, a reader is not waited for any more once its gate is
/// reclaimed; while it lives its gate is its own.
#[test]
fn a_gate_whose_holder_was_killed_is_reclaimed() {
    at_every_step(|step| {
        let leases = Leases::new();
        let log = Arc::new(log::<1, Leases>(2, 1));
        let mut writer = log.writer(&leases).unwrap();
        let dying = thread::spawn({
            let (log, leases) = (Arc::clone(&log), leases.clone());
            move || hook::killed_after(step, || visit(&log, &leases)).is_none()
        });
        let next = |writer: &Writer<[u64; 1], Trusted, Lease>| value(writer.version() + 1);
        // While it may live or die.
        let _done_or_full = writer.try_write(&next(&writer));
        writer.reclaim_gates(&leases);
        let _done_or_full = writer.try_write(&next(&writer));
        let killed = dying.join().unwrap();
        writer.reclaim_gates(&leases);
        assert_eq!(writer.room(), 2);
        for _ in 0..3 {
            assert!(writer.try_write(&next(&writer)).is_ok());
        }
        killed
    });
}

/// The gate of a dead reader is taken by the next one, with nothing reclaimed in between.
#[test]
fn a_gate_whose_holder_was_killed_is_taken() {
    at_every_step(|step| {
        let shown = Shown::default();
        let leases = Leases::new();
        let log = Arc::new(log::<1, Leases>(2, 1));
        let mut writer = log.writer(&leases).unwrap();
        assert_eq!(writer.try_write(&value(1)), Ok(1));
        let dying = thread::spawn({
            let (log, leases) = (Arc::clone(&log), leases.clone());
            move || hook::killed_after(step, || visit(&log, &leases)).is_none()
        });
        let following = thread::spawn({
            let (log, leases) = (Arc::clone(&log), leases.clone());
            move || {
                let killed = dying.join().unwrap();
                (log.gated_reader(Start::Next, &leases).unwrap(), killed)
            }
        });
        for _ in 0..2 {
            let next = writer.version() + 1;
            let _done_or_full = writer.try_write(&value(next));
        }
        let (reader, killed) = following.join().unwrap();
        let mut follower = Follower::new(reader);
        follower.finish(writer.version(), &shown);
        let next = writer.version() + 1;
        assert_eq!(writer.try_write(&value(next)), Ok(next));
        follower.finish(next, &shown);
        assert_eq!(follower.reader.missed(), 0);
        killed
    });
}
