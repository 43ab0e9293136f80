//! The classic seqlock: readers that wait, and find out that they would wait for ever.

use loom::thread;
use tidewire_seqlock::Options;
use tidewire_seqlock::classic::{Cell, ReadError};
use tidewire_shm::Region;
use tidewire_shm::sync::hook;

use crate::cells::value;
use crate::leases::Leases;
use crate::model::{at_every_step, model_that_shows};

fn cell() -> Cell<[u64; 2]> {
    let options = Options::new().liveness::<Leases>();
    let region = Region::heap(Cell::<[u64; 2]>::bytes(&options).unwrap()).unwrap();
    Cell::create(region, &value(0), &options).unwrap()
}

#[test]
fn a_value_is_seen_whole_or_not_at_all() {
    model_that_shows(&["busy", "newer", "first"], |shown| {
        let leases = Leases::new();
        let cell = cell();
        let (mut writer, mut reader) = (cell.writer(&leases).unwrap(), cell.reader());
        let writing = thread::spawn(move || {
            (1..=2).for_each(|version| assert_eq!(writer.write(&value(version)), version));
            writer
        });
        let mut last = 0;
        for _ in 0..2 {
            match reader.read(&leases) {
                Ok((found, version)) => {
                    assert_eq!(found, value(version), "torn");
                    assert!(version >= last, "{version} after {last}");
                    shown.note(if version > last { "newer" } else { "first" });
                    last = version;
                }
                Err(error) => {
                    assert_eq!(error, ReadError::Busy);
                    shown.note("busy");
                }
            }
        }
        let _alive = writing.join().unwrap();
        assert_eq!(reader.try_read(), Ok((value(2), 2)));
    });
}

/// Killed at any step, a writer leaves a whole value, or one that readers are told is lost; the next writer mends it.
#[test]
fn a_writer_killed_at_any_step_is_found_out_and_followed() {
    at_every_step(|step| {
        let leases = Leases::new();
        let cell = cell();
        let mut reader = cell.reader();
        let mut first = cell.writer(&leases).unwrap();
        first.write(&value(1));
        let dying = thread::spawn(move || {
            let mut acknowledged = 1;
            let outcome = hook::killed_after(step, || {
                let mut first = first;
                acknowledged = first.write(&value(2));
            });
            (acknowledged, outcome.is_none())
        });
        let early = reader.read(&leases);
        let (acknowledged, killed) = dying.join().unwrap();
        let late = reader.read(&leases);
        let died = matches!(late, Err(ReadError::WriterDied));
        for result in [early, late] {
            match result {
                Ok((found, version)) => assert_eq!(found, value(version), "torn"),
                Err(ReadError::WriterDied) => {
                    assert!(killed && died, "it had not died, or was mended by nobody");
                }
                Err(error) => assert_eq!(error, ReadError::Busy),
            }
        }
        assert!(!matches!(late, Err(ReadError::Busy)), "the writer is gone");
        let mut next = cell.writer(&leases).unwrap();
        assert_eq!(next.is_damaged(), died);
        assert!(next.version() >= acknowledged);
        let version = next.version() + 1;
        assert_eq!(next.write(&value(version)), version);
        assert_eq!(reader.read(&leases), Ok((value(version), version)));
        killed
    });
}

/// Readers that copy while a writer dies and the next one mends the value.
#[test]
fn a_value_that_is_mended_is_seen_whole_or_not_at_all() {
    at_every_step(|step| {
        let leases = Leases::new();
        let cell = cell();
        let mut reader = cell.reader();
        let mut first = cell.writer(&leases).unwrap();
        let dying = thread::spawn(move || {
            hook::killed_after(step, || {
                first.write(&value(1));
                drop(first);
            })
            .is_none()
        });
        let following = thread::spawn(move || {
            let killed = dying.join().unwrap();
            let mut next = cell.writer(&leases).unwrap();
            let version = next.version() + 1;
            // Not what the dead one was about to write: the same version may hold something else.
            next.write(&[version * 10 + 5; 2]);
            (killed, version)
        });
        let early = reader.try_read();
        let (killed, last) = following.join().unwrap();
        match early {
            Ok((found, version)) => {
                let mended = version == last && found == [version * 10 + 5; 2];
                assert!(found == value(version) || mended, "torn: {found:?}");
            }
            Err(error) => assert_eq!(error, ReadError::Busy),
        }
        killed
    });
}
