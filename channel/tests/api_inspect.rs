//! How much waits, how far behind who reads is, and the newest version: seen from outside, without the type.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a missing value shall fail the test"
)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tidewire::shm::{Liveness, RoleId, Segment, SegmentOptions};
use tidewire::{Kind, Message, OpenError, Options, Overflow, Peer, Report, Usage};

/// Of a size that is no power of two.
#[derive(Clone, Copy, Message)]
#[repr(C)]
struct Tick {
    id: u64,
    prices: [f32; 5],
    last: u32,
}

const TICK: Tick = Tick { id: 1, prices: [0.5; 5], last: 7 };

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    (place, options)
}

/// Looks, and sees to it that nothing changed by that.
fn look(place: &Path, options: &Options, name: &str) -> Report {
    let read = || fs::read(place.join("segments").join(name)).unwrap();
    let before = read();
    let report = options.inspect(name).unwrap();
    assert!(before == read(), "nothing of {name} is written");
    report
}

fn peers<'r>(report: &'r Report, role: &str) -> Vec<&'r Peer> {
    report.peers.iter().filter(|peer| peer.role == role).collect()
}

#[test]
fn a_report_tells_how_many_messages_of_each_sender_wait() {
    for kind in KINDS {
        let (place, options) = in_a_directory();
        let senders = if kind == Kind::Single { 1 } else { 3 };
        let chosen = options.clone().kind(kind).capacity(16).senders(senders).overflow(Overflow::Reject);
        let mut rx = chosen.receiver::<Tick>("ticks").unwrap();
        let mut first = options.sender::<Tick>("ticks").unwrap();
        let other = (senders > 1).then(|| options.sender::<Tick>("ticks").unwrap());
        let seen = || {
            let report = look(place.path(), &options, "ticks");
            assert_eq!((report.capacity, report.newest, report.kept), (Some(16), None, None), "{kind:?}");
            assert_eq!(peers(&report, "receiver").first().unwrap().queued, None);
            let senders = peers(&report, "sender");
            assert!(senders.iter().all(|peer| peer.unit == "messages" && peer.lag.is_none()));
            (
                senders.iter().map(|peer| (peer.queued.unwrap(), peer.full)).collect::<Vec<_>>(),
                report.to_string(),
            )
        };
        let idle: &[(u64, bool)] = if other.is_some() { &[(0, false)] } else { &[] };
        assert_eq!(seen().0, [&[(0, false)], idle].concat());
        for sent in 1..=16 {
            first.send(TICK).unwrap();
            assert_eq!(seen().0, [&[(sent, sent == 16)], idle].concat(), "{kind:?}");
            assert_eq!(first.len() as u64, sent);
        }
        assert!(first.send(TICK).is_err());
        let text = seen().1;
        assert!(text.contains("queued 16 messages (full)") && text.contains("capacity 16"), "{text}");
        // What is received takes its room for a while.
        for received in 1..=16 {
            rx.try_recv().unwrap();
            let queued = seen().0[0].0;
            assert!((16 - received..16 - received + 3).contains(&queued), "{kind:?}: {received} {queued}");
            assert_eq!(queued, first.len() as u64);
        }
        assert!(rx.try_recv().is_err());
        assert_eq!(seen().0, [&[(0, false)], idle].concat(), "{kind:?}");
    }
}

#[test]
fn a_report_tells_what_waits_where_the_oldest_are_overwritten() {
    let (place, options) = in_a_directory();
    let chosen = options.clone().kind(Kind::Single).overflow(Overflow::DropOldest).capacity(16);
    let mut rx = chosen.receiver::<Tick>("ticks").unwrap();
    let mut tx = options.sender::<Tick>("ticks").unwrap();
    let seen = || {
        let report = look(place.path(), &options, "ticks");
        let sender = peers(&report, "sender")[0].clone();
        assert_eq!(report.capacity, Some(16));
        (report.newest.unwrap(), report.kept.unwrap(), sender.queued.unwrap(), sender.full)
    };
    assert_eq!(seen(), (0, 0, 0, false));
    for sent in 1..=40 {
        tx.send(TICK).unwrap();
        let (newest, kept, queued, full) = seen();
        assert_eq!((newest, queued, full), (sent, sent.min(16), sent >= 16));
        assert!(kept >= sent.min(8) && kept <= sent.min(16), "{sent}: {kept}");
    }
    while rx.try_recv().is_ok() {}
    let (newest, _, queued, full) = seen();
    assert_eq!((newest, queued, full), (40, 0, false));
}

#[test]
fn a_report_tells_what_waits_of_each_of_several_who_overwrite() {
    let (place, options) = in_a_directory();
    let chosen = options.clone().overflow(Overflow::DropOldest).capacity(16).senders(3);
    let mut rx = chosen.receiver::<Tick>("ticks").unwrap();
    let mut first = options.sender::<Tick>("ticks").unwrap();
    let mut second = options.sender::<Tick>("ticks").unwrap();
    let seen = || {
        let report = look(place.path(), &options, "ticks");
        // Whose newest one it would be, nobody knows.
        assert_eq!((report.capacity, report.newest, report.kept), (Some(16), None, None));
        let senders = peers(&report, "sender");
        assert!(senders.iter().all(|peer| peer.unit == "messages"));
        senders.iter().map(|peer| (peer.queued.unwrap(), peer.full)).collect::<Vec<_>>()
    };
    assert_eq!(seen(), [(0, false); 2]);
    for sent in 1..=20 {
        first.send(TICK).unwrap();
        assert_eq!(seen(), [(sent.min(16), sent >= 16), (0, false)]);
    }
    second.send(TICK).unwrap();
    assert_eq!(seen(), [(16, true), (1, false)]);
    while rx.try_recv().is_ok() {}
    assert_eq!(seen(), [(0, false); 2]);
}

#[test]
fn a_report_tells_how_far_behind_each_subscriber_of_bytes_is() {
    let (place, options) = in_a_directory();
    let mut publisher = options.clone().capacity(16).senders(4).bytes_publisher("lines").unwrap();
    let mut quick = options.bytes_subscriber("lines").unwrap();
    let _slow = options.bytes_subscriber("lines").unwrap();
    let seen = || {
        let report = look(place.path(), &options, "lines");
        let lags: Vec<_> = peers(&report, "subscriber").iter().map(|peer| peer.lag).collect();
        (report.newest.unwrap(), lags)
    };
    assert_eq!(seen(), (0, vec![Some(0); 2]));
    for published in 1..=3 {
        assert_eq!(publisher.publish(b"a line").unwrap(), published);
        assert_eq!(seen(), (published, vec![Some(published); 2]));
    }
    while quick.try_recv().is_ok() {}
    assert_eq!(seen(), (3, vec![Some(0), Some(3)]));
}

#[test]
fn a_report_tells_how_far_behind_each_subscriber_is() {
    let (place, options) = in_a_directory();
    let mut publisher = options.clone().capacity(16).senders(4).publisher::<Tick>("ticks").unwrap();
    let mut quick = options.subscriber::<Tick>("ticks").unwrap();
    let _slow = options.subscriber::<Tick>("ticks").unwrap();
    // Nobody knows of it.
    let _observer = options.observer::<Tick>("ticks").unwrap();
    let seen = || {
        let report = look(place.path(), &options, "ticks");
        assert_eq!(report.capacity, Some(16));
        assert_eq!(peers(&report, "publisher").first().unwrap().lag, None);
        let lags: Vec<_> = peers(&report, "subscriber").iter().map(|peer| peer.lag).collect();
        (report.newest.unwrap(), report.kept.unwrap(), lags, report.to_string())
    };
    assert_eq!((seen().0, seen().1, seen().2), (0, 0, vec![Some(0); 2]));
    for published in 1..=40 {
        assert_eq!(publisher.publish(TICK).unwrap(), published);
        let (newest, kept, lags, text) = seen();
        assert_eq!((newest, lags), (published, vec![Some(published); 2]));
        assert!(kept >= published.min(8) && kept <= published.min(16), "{published}: {kept}");
        for word in [format!("newest {published}"), format!("lag {published} messages")] {
            assert!(text.contains(&word), "{text}");
        }
    }
    while quick.try_recv().is_ok() {}
    assert_eq!(seen().2, [Some(0), Some(40)]);
    for behind in 1..=3 {
        publisher.publish(TICK).unwrap();
        assert_eq!(seen().2, [Some(behind), Some(40 + behind)]);
    }
    quick.try_recv().unwrap();
    let lag = seen().2[0].unwrap();
    assert!((2..4).contains(&lag), "two wait, and what was received may not be let go of: {lag}");
    drop(quick);
    assert_eq!(seen().2, [None, Some(43)], "one that left has its place, and waits for nothing");
}

#[test]
fn a_report_tells_the_version_of_a_latest_value() {
    fn versions<const N: usize>(place: &Path, options: &Options, name: &str)
    where
        [u8; N]: Message,
    {
        let mut writer = options.latest_writer(name, [0_u8; N]).unwrap();
        for version in 0..5 {
            let report = look(place, options, name);
            assert_eq!((report.newest, report.capacity, report.kept), (Some(version), None, None));
            assert!(report.to_string().contains(&format!("newest {version}")), "{report}");
            writer.store([1; N]).unwrap();
        }
    }
    let (place, options) = in_a_directory();
    // In each form that there is.
    versions::<3>(place.path(), &options, "word");
    versions::<48>(place.path(), &options, "inline");
    versions::<300>(place.path(), &options, "rotating");
}

/// Who looks asks for leases, and never has one: a role can be taken at any moment.
#[test]
fn whoever_looks_holds_nothing() {
    let (place, options) = in_a_directory();
    let _rx = options.receiver::<Tick>("ticks").unwrap();
    let raw = SegmentOptions::new().directory(place.path().join("segments"));
    let segment = Segment::open_with("ticks", &raw).unwrap();
    let leases = segment.leases().unwrap();
    let (sender, over) = (RoleId::producer(0).unwrap(), AtomicBool::new(false));
    let mut taken = 0;
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) || looks == 0 {
                options.inspect("ticks").unwrap();
                options.list().unwrap();
                looks += 1;
            }
            looks
        });
        let begun = std::time::Instant::now();
        while taken < 1000 || begun.elapsed().as_millis() < 100 {
            match leases.acquire(sender) {
                Ok(lease) => drop(lease),
                Err(error) => {
                    over.store(true, Ordering::Relaxed);
                    panic!("after {taken}: {error}");
                }
            }
            taken += 1;
        }
        over.store(true, Ordering::Relaxed);
        assert!(looking.join().unwrap() > 0);
    });
}

/// A peer of the same user may have written anything, anywhere: a look returns, and what it tells can be.
#[test]
fn random_words_anywhere_are_numbers_that_can_be() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut told, mut refused) = (0, 0);
    for _ in 0..60 {
        let (place, options) = in_a_directory();
        let small = options.clone().capacity(8).senders(2);
        let mut ends: Vec<Box<dyn std::any::Any>> = Vec::new();
        for (kind, name) in KINDS.into_iter().zip(["lanes", "ordered", "single"]) {
            ends.push(Box::new(small.clone().kind(kind).receiver::<Tick>(name).unwrap()));
            let mut tx = options.sender::<Tick>(name).unwrap();
            tx.send(TICK).unwrap();
            ends.push(Box::new(tx));
        }
        let lossy = small.clone().kind(Kind::Single).overflow(Overflow::DropOldest);
        ends.push(Box::new(lossy.receiver::<Tick>("lossy").unwrap()));
        ends.push(Box::new(options.sender::<Tick>("lossy").unwrap()));
        let several = small.clone().overflow(Overflow::DropOldest);
        ends.push(Box::new(several.receiver::<Tick>("several").unwrap()));
        ends.push(Box::new(options.sender::<Tick>("several").unwrap()));
        let mut publisher = small.publisher::<Tick>("published").unwrap();
        ends.push(Box::new(options.subscriber::<Tick>("published").unwrap()));
        publisher.publish(TICK).unwrap();
        ends.push(Box::new(publisher));
        ends.push(Box::new(options.latest_writer("latest", 1_u64).unwrap()));
        ends.push(Box::new(small.server::<u64, u64>("asked").unwrap()));
        ends.push(Box::new(options.client::<u64, u64>("asked").unwrap()));
        for name in ["lanes", "ordered", "single", "lossy", "several", "published", "latest", "asked"] {
            let file = OpenOptions::new().write(true).open(place.path().join("segments").join(name)).unwrap();
            let words = file.metadata().unwrap().len() / 8;
            for round in 0..4 {
                for _ in 0..4 << round {
                    let value = if next() % 2 == 0 { next() } else { next() % 64 };
                    // Not the magic, without which it is nothing.
                    file.write_all_at(&value.to_ne_bytes(), 8 * (2 + next() % (words - 2))).unwrap();
                }
                let report = match options.inspect(name) {
                    Ok(report) => report,
                    Err(OpenError::NotFound { .. }) => panic!("{name} is there"),
                    Err(error) => panic!("{name}: {error}"),
                };
                match report.entry.usage {
                    Usage::Refused(_) => refused += 1,
                    _ => told += 1,
                }
                let (capacity, newest) = (report.capacity.unwrap_or(0), report.newest.unwrap_or(0));
                assert!(newest < 1 << 62 && report.kept.unwrap_or(0) <= newest.min(capacity), "{report:?}");
                for peer in &report.peers {
                    assert!(peer.queued.unwrap_or(0) <= capacity, "{report:?}");
                    assert!(peer.lag.unwrap_or(0) <= newest, "{report:?}");
                }
                assert!(!report.to_string().is_empty());
            }
        }
        fs::remove_dir_all(place.path().join("segments")).unwrap();
        drop(ends);
    }
    assert!(told > 300 && refused > 100, "{told} {refused}");
}

#[test]
fn a_report_tells_how_much_of_each_clients_questions_waits() {
    let (place, options) = in_a_directory();
    let mut server = options.server::<Tick, u64>("asked").unwrap();
    let clients =
        [options.client::<Tick, u64>("asked").unwrap(), options.client::<Tick, u64>("asked").unwrap()];
    let seen = || {
        let report = look(place.path(), &options, "asked");
        let clients = peers(&report, "client");
        assert!(clients.iter().all(|peer| peer.unit == "bytes" && !peer.full));
        let queued: Vec<u64> = clients.iter().map(|peer| peer.queued.unwrap()).collect();
        assert!(queued.iter().all(|queued| *queued < report.capacity.unwrap()));
        queued
    };
    assert_eq!(seen(), [0, 0]);
    let asked = clients[1].start(TICK).unwrap();
    let [first, second] = seen()[..] else { panic!("two are there") };
    assert!(first == 0 && second >= size_of::<Tick>() as u64, "{second}");
    server.recv().unwrap().reply(1).unwrap();
    assert_eq!(asked.wait(), Ok(1));
}
