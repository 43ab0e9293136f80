//! Looking at what there is.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use tidewire::shm::{CleanMode, Segment, SegmentOptions, Verdict};
use tidewire::{Entry, Kind, Message, OpenError, Options, Overflow, Pattern, Standing, TrySendError, Usage};

#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    id: u64,
    price: f64,
}

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    (place, options)
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

#[test]
fn a_missing_directory_is_empty() {
    let (_place, options) = in_a_directory();
    assert_eq!(options.list().unwrap(), []);
    assert!(matches!(options.inspect("ticks"), Err(OpenError::NotFound { name }) if name == "ticks"));
    assert!(options.clean(CleanMode::Remove).unwrap().is_empty());
}

#[test]
fn a_list_tells_patterns_messages_and_who_is_there() {
    let (place, options) = in_a_directory();
    let _rx = options.receiver::<Tick>("ticks").unwrap();
    let tx = options.sender::<Tick>("ticks").unwrap();
    let _lines = options.bytes_receiver("lines").unwrap();
    let pose = options.latest_writer("pose", [0.0_f64; 3]).unwrap();
    let raw = SegmentOptions::new().directory(place.path().join("segments"));
    Segment::create_with("raw", 4096, &raw, |_| Ok(())).unwrap();

    let entries = options.list().unwrap();
    assert_eq!(names(&entries), ["lines", "pose", "raw", "ticks"]);
    let [lines, latest, unmarked, ticks] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!((lines.pattern, lines.message.as_str(), lines.here), (Pattern::Bytes, "bytes", 1));
    assert_eq!((latest.pattern, latest.message.as_str()), (Pattern::Latest, "[f64; 3] 24/8"));
    assert_eq!((&latest.usage, latest.here), (&Usage::InUse, 1));
    assert_eq!((unmarked.pattern, &unmarked.usage), (Pattern::Unmarked, &Usage::Unmarked));
    assert_eq!((ticks.pattern, ticks.here, &ticks.usage), (Pattern::Channel, 2, &Usage::InUse));
    assert_eq!(ticks.message, "{id: u64 @0, price: f64 @8} 16/8");
    assert_eq!(ticks.bytes, fs::metadata(place.path().join("segments/ticks")).unwrap().len());
    if let Some(created) = ticks.created {
        assert!(SystemTime::now().duration_since(created).unwrap() < Duration::from_secs(600));
    }
    let line = ticks.to_string();
    for word in ["ticks", "channel", "in use", "{id: u64 @0"] {
        assert!(line.contains(word), "{line}");
    }
    // Columns stand below their heads.
    assert_eq!(Entry::HEAD.find("PATTERN"), line.find("channel"));
    assert_eq!(Entry::HEAD.find("MESSAGE"), line.find("{id"));

    drop((tx, pose));
    let entries = options.list().unwrap();
    let here: Vec<usize> = entries.iter().map(|entry| entry.here).collect();
    assert_eq!(here, [1, 0, 0, 1]);
    assert_eq!(entries[1].usage, Usage::Stale, "a value without a writer");
}

#[test]
fn a_report_tells_what_was_chosen_and_each_peer() {
    let (_place, options) = in_a_directory();
    let chosen = options.clone().kind(Kind::Ordered).overflow(Overflow::DropNewest).capacity(4).senders(3);
    let _rx = chosen.receiver::<u64>("ticks").unwrap();
    drop(options.sender::<u64>("ticks").unwrap());
    let mut first = options.sender::<u64>("ticks").unwrap();
    let second = options.sender::<u64>("ticks").unwrap();
    while !matches!(first.try_send(1), Err(TrySendError::Full(_))) {}
    first.send(2).unwrap();
    first.send(3).unwrap();
    drop(second);

    let report = options.inspect("ticks").unwrap();
    assert_eq!((report.kind, report.overflow), (Some(Kind::Ordered), Some(Overflow::DropNewest)));
    assert_eq!((report.capacity, report.places), (Some(4), 3));
    let me = Some(std::process::id());
    let seen: Vec<_> = report
        .peers
        .iter()
        .map(|peer| (peer.role, peer.number, peer.standing, peer.generation, peer.dropped))
        .collect();
    assert_eq!(
        seen,
        [
            ("receiver", 0, Standing::Here, 1, 0),
            ("sender", 0, Standing::Here, 2, 2),
            ("sender", 1, Standing::Left, 1, 0),
        ]
    );
    assert!(report.peers.iter().all(|peer| peer.pid == me), "{report:?}");
    assert_eq!(report.entry.here, 2);
    let text = report.to_string();
    for word in ["receiver", "here", "left", "dropped 2", "overflow DropNewest"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn looking_changes_nothing() {
    let (place, options) = in_a_directory();
    let _rx = options.receiver::<u64>("ticks").unwrap();
    let mut tx = options.sender::<u64>("ticks").unwrap();
    tx.send(1).unwrap();
    let _pose = options.latest_writer("pose", 1_u64).unwrap();
    let read = |name| fs::read(place.path().join("segments").join(name)).unwrap();
    let before = (read("ticks"), read("pose"));
    options.list().unwrap();
    options.inspect("ticks").unwrap();
    options.clean(CleanMode::DryRun).unwrap();
    assert!(before == (read("ticks"), read("pose")));
}

#[test]
fn cleaning_removes_what_nobody_uses() {
    let (_place, options) = in_a_directory();
    let _rx = options.receiver::<u64>("ticks").unwrap();
    drop(options.latest_writer("pose", 1_u64).unwrap());
    let found = options.clean(CleanMode::DryRun).unwrap();
    assert!(matches!(found[0].verdict, Verdict::Stale), "{found:?}");
    assert_eq!(options.list().unwrap().len(), 2);
    let found = options.clean(CleanMode::Remove).unwrap();
    assert!(matches!(found[0].verdict, Verdict::Removed) && matches!(found[1].verdict, Verdict::InUse));
    assert_eq!(names(&options.list().unwrap()), ["ticks"]);
}

/// A peer of the same user may have written anything.
#[test]
fn scribbled_names_are_listed_or_refused() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (place, options) = in_a_directory();
    let (mut refused, mut listed) = (0, 0);
    for _ in 0..200 {
        let rx = options.receiver::<Tick>("ticks").unwrap();
        let tx = options.latest_writer("pose", 1_u64).unwrap();
        for name in ["ticks", "pose"] {
            let file = OpenOptions::new().write(true).open(place.path().join("segments").join(name)).unwrap();
            for _ in 0..4 {
                // Most of it where something is read: the head, the text, the roster.
                let word = 2 + next() % if next() % 4 == 0 { 1000 } else { 60 };
                file.write_all_at(&next().to_ne_bytes(), word * 8).unwrap();
            }
        }
        for entry in options.list().unwrap() {
            match entry.usage {
                Usage::Refused(ref reason) => {
                    refused += 1;
                    assert!(!reason.is_empty());
                }
                _ => listed += 1,
            }
            let report = options.inspect(&entry.name).unwrap();
            let text = format!("{entry}\n{report}");
            assert!(text.len() < 100_000 && !text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        }
        drop((rx, tx));
        fs::remove_dir_all(place.path().join("segments")).unwrap();
    }
    assert!(refused > 20 && listed > 20, "{refused} {listed}");
}

#[test]
fn a_file_that_is_no_segment_is_refused_with_the_reason() {
    let (place, options) = in_a_directory();
    let _rx = options.receiver::<u64>("ticks").unwrap();
    fs::File::create(place.path().join("segments/note")).unwrap().write_all(b"not a page").unwrap();
    let entries = options.list().unwrap();
    let note = entries.iter().find(|entry| entry.name == "note").unwrap();
    assert!(matches!(&note.usage, Usage::Refused(reason) if reason.contains("expected")), "{note:?}");
    assert!(note.to_string().contains("refused"));
}

#[test]
fn a_report_tells_how_much_is_queued_without_writing() {
    let (place, options) = in_a_directory();
    for (kind, name) in [(Kind::Lanes, "lanes"), (Kind::Ordered, "ordered"), (Kind::Single, "single")] {
        let chosen = options.clone().kind(kind).capacity(1024).senders(2);
        let mut rx = chosen.bytes_receiver(name).unwrap();
        let mut tx = options.bytes_sender(name).unwrap();
        let path = place.path().join("segments").join(name);
        let queued = || {
            let before = fs::read(&path).unwrap();
            let report = options.inspect(name).unwrap();
            assert_eq!(fs::read(&path).unwrap(), before, "nothing is written");
            let senders: Vec<_> = report.peers.iter().filter(|peer| peer.role == "sender").collect();
            assert_eq!(senders.len(), 1);
            let text = report.to_string();
            let queued = senders.first().unwrap().queued.unwrap();
            assert!(text.contains(&format!("queued {queued} bytes")), "{text}");
            queued
        };
        assert_eq!(queued(), 0, "{kind:?}");
        tx.send(&[7; 40]).unwrap();
        let one = queued();
        assert!((40..100).contains(&one), "{kind:?}: {one}");
        tx.send(&[7; 40]).unwrap();
        assert_eq!(queued(), 2 * one, "{kind:?}");
        assert_eq!(rx.drain().count(), 2);
        // A look that finds nothing gives the room back.
        assert!(rx.try_recv().is_err());
        assert_eq!(queued(), 0, "{kind:?}");
    }
    let mut server = options.server::<u64, u64>("asked").unwrap();
    let client = options.client::<u64, u64>("asked").unwrap();
    let queued =
        || options.inspect("asked").unwrap().peers.iter().map(|peer| peer.queued).collect::<Vec<_>>();
    assert_eq!(queued(), [None, Some(0)]);
    let pending = client.start(1).unwrap();
    assert!(queued().last().unwrap().unwrap() >= 24);
    let request = server.recv().unwrap();
    request.reply(2).unwrap();
    assert_eq!(pending.wait(), Ok(2));
}
