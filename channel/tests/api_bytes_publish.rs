//! Publications of bytes, between the threads of one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests may panic, with small numbers"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidewire::shm::{Composite, Region, Segment, Untrusted};
use tidewire::{
    OpenError, Options, Overflow, Pattern, Select, SendError, SendTimeoutError, SubscribeError, Wait,
};

const LONG: Duration = Duration::from_secs(20);

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    (place, options)
}

/// Message number `i`: its length and its bytes depend on it.
fn message(i: u64) -> Vec<u8> {
    let len = (i * 7 % 61) as usize;
    (0..len).map(|at| (i as u8).wrapping_mul(31).wrapping_add(at as u8)).collect()
}

#[test]
fn every_subscriber_gets_everything_where_nothing_may_be_lost() {
    for wait in [Wait::Spin, Wait::Hybrid, Wait::Park] {
        let options = Options::new().capacity(8).max_message(64).overflow(Overflow::Block).wait(wait);
        let (mut publisher, first) = options.bytes_publish().unwrap();
        let memory = publisher.memory().try_clone_fd().unwrap();
        let second = options.bytes_subscriber_on(Segment::from_fd(memory).unwrap()).unwrap();
        assert_eq!((publisher.subscribers(), publisher.max_message(), second.max_message()), (2, 64, 64));
        let readers = [first, second].map(|mut subscriber| {
            thread::spawn(move || {
                let (mut to, mut array) = (Vec::new(), [0; 64]);
                for i in 1..=600 {
                    if i % 3 == 0 {
                        let len = subscriber.recv_into(&mut array).unwrap();
                        assert_eq!(&array[..len], message(i), "{wait:?}");
                    } else {
                        assert_eq!(subscriber.recv_to(&mut to).unwrap(), to.len());
                        assert_eq!(to, message(i), "{wait:?}");
                    }
                }
                assert_eq!(subscriber.recv(), Err(SubscribeError::Disconnected));
                subscriber.missed()
            })
        });
        for i in 1..=600 {
            assert_eq!(publisher.publish(&message(i)).unwrap(), i);
        }
        drop(publisher);
        assert_eq!(readers.map(|reader| reader.join().unwrap()), [0, 0]);
    }
}

#[test]
fn a_slow_subscriber_is_told_exactly_what_it_missed() {
    const LAST: u64 = 100_000;
    let options = Options::new().capacity(16).max_message(64);
    let (mut publisher, mut subscriber) = options.bytes_publish().unwrap();
    let writer = thread::spawn(move || {
        for i in 1..=LAST {
            publisher.publish(&message(i)).unwrap();
        }
    });
    let mut got = 0;
    loop {
        match subscriber.recv() {
            Ok(found) => {
                got += 1;
                assert_eq!(found, message(got + subscriber.missed()), "received and missed are all");
            }
            Err(error) => {
                assert_eq!(error, SubscribeError::Disconnected);
                break;
            }
        }
        if got % 64 == 0 {
            thread::sleep(Duration::from_micros(50));
        }
    }
    assert_eq!(got + subscriber.missed(), LAST);
    assert!(subscriber.missed() > 0 && got > 0);
    writer.join().unwrap();
}

#[test]
fn history_is_for_those_who_come_late_and_observers_only_look() {
    let (_place, options) = in_a_directory();
    let mut publisher = options.clone().capacity(64).max_message(100).bytes_publisher("late").unwrap();
    (1..=20).for_each(|i| assert_eq!(publisher.publish(&message(i)).unwrap(), i));
    // What a subscriber chooses for itself makes no difference.
    let from = |history| {
        let options = options.clone().history(history).max_message(5);
        let mut subscriber = options.bytes_subscriber("late").unwrap();
        assert_eq!(subscriber.max_message(), 100);
        subscriber.drain().collect::<Vec<_>>()
    };
    assert_eq!(from(0), Vec::<Vec<u8>>::new());
    assert_eq!(from(3), [message(18), message(19), message(20)]);
    assert_eq!(from(1000), (1..=20).map(message).collect::<Vec<_>>());
    let mut observer = options.clone().history(2).bytes_observer("late").unwrap();
    assert_eq!(observer.drain().collect::<Vec<_>>(), [message(19), message(20)]);
    assert!(observer.memory().is_read_only());
    publisher.publish(b"one more").unwrap();
    assert_eq!(observer.recv().unwrap(), b"one more");
    assert_eq!(publisher.subscribers(), 0, "nobody knows of one who only looks");
}

#[test]
fn what_is_too_long_is_refused_and_a_short_buffer_loses_nothing() {
    let (mut publisher, mut subscriber) = Options::new().max_message(10).bytes_publish().unwrap();
    assert_eq!(publisher.publish(&[0; 11]), Err(SendError::TooLong((), 10)));
    assert_eq!(publisher.publish_timeout(&[0; 11], LONG), Err(SendTimeoutError::TooLong((), 10)));
    assert_eq!((publisher.published(), subscriber.lag()), (0, 0));
    publisher.publish(b"ten  bytes").unwrap();
    for room in [0, 9] {
        let needed = Err(SubscribeError::BufferTooSmall { needed: 10 });
        assert_eq!(subscriber.try_recv_into(&mut [0; 10][..room]), needed);
        assert_eq!(subscriber.recv_into(&mut [0; 10][..room]), needed);
    }
    assert_eq!(subscriber.lag(), 1);
    let mut to = vec![7; 100];
    assert_eq!((subscriber.try_recv_to(&mut to), &*to), (Ok(10), &b"ten  bytes"[..]));
    assert_eq!((subscriber.try_recv_to(&mut to), to.len()), (Err(SubscribeError::Empty), 0));
    assert_eq!(subscriber.recv_timeout(Duration::from_millis(2)), Err(SubscribeError::Empty));
    assert_eq!(subscriber.recv_deadline(Instant::now()), Err(SubscribeError::Empty));
    assert_eq!(subscriber.missed(), 0);
}

#[test]
fn overflow_is_what_the_publisher_chose() {
    let full = |overflow| {
        let options = Options::new().capacity(4).max_message(64).overflow(overflow);
        let (mut publisher, subscriber) = options.bytes_publish().unwrap();
        let mut i = 0;
        while i < 100
            && publisher.publish_timeout(&message(i), Duration::from_millis(5)).is_ok()
            && publisher.dropped() == 0
        {
            i += 1;
        }
        (i, publisher, subscriber)
    };
    let (i, mut publisher, mut subscriber) = full(Overflow::Block);
    assert!((4..8).contains(&i), "{i}");
    let timed = publisher.publish_deadline(b"late", Instant::now() + Duration::from_millis(20));
    assert_eq!(timed, Err(SendTimeoutError::Timeout(())));
    assert_eq!(subscriber.drain().collect::<Vec<_>>(), (0..i).map(message).collect::<Vec<_>>());
    publisher.publish(b"now").unwrap();
    assert_eq!(subscriber.recv().unwrap(), b"now");

    let (_, mut publisher, subscriber) = full(Overflow::Reject);
    assert_eq!(publisher.publish(b"no"), Err(SendError::Full(())));
    drop(subscriber);
    publisher.publish(b"yes").unwrap();

    let options = Options::new().capacity(4).max_message(64).overflow(Overflow::DropNewest);
    let (mut publisher, _subscriber) = options.bytes_publish().unwrap();
    (0..100).for_each(|i| assert!(publisher.publish(&message(i)).is_ok()));
    assert_eq!(publisher.dropped() + publisher.published(), 100);
    let (i, publisher, _subscriber) = full(Overflow::DropOldest);
    assert_eq!((i, publisher.dropped()), (100, 0));
}

#[test]
fn a_publisher_that_waits_is_woken_by_a_reader_and_by_one_who_leaves() {
    let options = Options::new().capacity(4).max_message(8).overflow(Overflow::Block).wait(Wait::Park);
    for leaves in [false, true] {
        let (mut publisher, mut subscriber) = options.bytes_publish().unwrap();
        while publisher.publish_timeout(b"fill", Duration::from_millis(2)).is_ok() {}
        let waiting = thread::spawn(move || publisher.publish(b"more").map(|_| publisher));
        thread::sleep(Duration::from_millis(20));
        if leaves {
            drop(subscriber);
            drop(waiting.join().unwrap().unwrap());
        } else {
            let found: Vec<_> = subscriber.iter().take(5).collect();
            assert_eq!(found.last().unwrap(), b"more");
            drop(waiting.join().unwrap().unwrap());
        }
    }
}

#[test]
fn another_publisher_goes_on_and_its_subscribers_stay() {
    let (_place, options) = in_a_directory();
    let mut publisher = options.bytes_publisher("next").unwrap();
    let mut subscriber = options.bytes_subscriber("next").unwrap();
    assert!(matches!(options.bytes_publisher("next"), Err(OpenError::Taken { role: "publisher", .. })));
    assert_eq!(publisher.publish(b"one").unwrap(), 1);
    drop(publisher);
    assert_eq!(subscriber.recv().unwrap(), b"one");
    assert_eq!(subscriber.recv(), Err(SubscribeError::Disconnected));
    assert!(!subscriber.is_connected());
    let mut publisher = options.bytes_publisher("next").unwrap();
    assert_eq!(publisher.publish(b"two").unwrap(), 2, "the count goes on");
    assert_eq!(subscriber.recv().unwrap(), b"two");
    assert_eq!(subscriber.try_recv(), Err(SubscribeError::Empty));
}

#[test]
fn what_cannot_be_is_said() {
    let (place, options) = in_a_directory();
    assert!(matches!(options.bytes_subscriber("none"), Err(OpenError::NotFound { .. })));
    assert!(matches!(options.bytes_observer("none"), Err(OpenError::NotFound { .. })));
    let timed = options.bytes_subscriber_in("none", Duration::from_millis(10));
    assert!(matches!(timed, Err(OpenError::TimedOut { .. })));
    for wrong in [0, (1 << 31) + 1, usize::MAX] {
        let refused = options.clone().max_message(wrong).bytes_publisher("long");
        assert!(matches!(refused, Err(OpenError::Options { .. })), "{wrong}");
    }
    let publisher = options.clone().senders(1).bytes_publisher("one").unwrap();
    let first = options.bytes_subscriber("one").unwrap();
    assert!(matches!(options.bytes_subscriber("one"), Err(OpenError::Exhausted { most: 1 })));
    assert!(matches!(options.subscriber::<u64>("one"), Err(OpenError::Incompatible(_))));
    assert!(matches!(options.bytes_sender("one"), Err(OpenError::Incompatible(_))));
    drop(first);
    assert!(options.bytes_subscriber("one").is_ok());
    drop(publisher);
    assert_eq!(std::fs::read_dir(place.path().join("segments")).unwrap().count(), 0);
}

#[test]
fn a_list_names_the_pattern() {
    let (_place, options) = in_a_directory();
    let _publisher = options.bytes_publisher("lines").unwrap();
    let _subscriber = options.bytes_subscriber("lines").unwrap();
    let report = options.inspect("lines").unwrap();
    assert_eq!((report.entry.pattern, report.entry.message.as_str()), (Pattern::PublishBytes, "bytes"));
    let roles: Vec<_> = report.peers.iter().map(|peer| peer.role).collect();
    assert_eq!((roles, report.entry.here), (vec!["publisher", "subscriber"], 2));
    assert!(report.to_string().contains("pub-bytes"), "{report}");
}

#[test]
fn subscribers_are_selected_and_awaited() {
    let (mut publisher, mut subscriber) = Options::new().bytes_publish().unwrap();
    let (_other, mut silent) = Options::new().bytes_publish().unwrap();
    let writer = thread::spawn(move || {
        for i in 1..=10 {
            thread::sleep(Duration::from_millis(3));
            publisher.publish(&message(i)).unwrap();
        }
    });
    let mut select = Select::new();
    for i in 1..=5 {
        assert_eq!(select.wait(&mut [&mut silent, &mut subscriber]).unwrap(), 1);
        assert_eq!(subscriber.try_recv(), Ok(message(i)));
    }
    futures_lite::future::block_on(async {
        for i in 6..=10 {
            assert_eq!(subscriber.recv_async().await, Ok(message(i)));
        }
        assert_eq!(subscriber.recv_async().await, Err(SubscribeError::Disconnected));
    });
    writer.join().unwrap();
}

#[cfg(feature = "futures")]
#[test]
fn what_is_published_is_a_stream() {
    use futures_lite::StreamExt as _;

    let (mut publisher, mut subscriber) = Options::new().bytes_publish().unwrap();
    let writer = thread::spawn(move || {
        (1..=10).for_each(|i| assert_eq!(publisher.publish(&message(i)), Ok(i)));
    });
    let found: Vec<_> = futures_lite::future::block_on(subscriber.stream().map(Result::unwrap).collect());
    assert_eq!(found, (1..=10).map(message).collect::<Vec<_>>());
    writer.join().unwrap();
}

#[cfg(feature = "serde")]
#[test]
fn anything_that_serde_knows_is_published() {
    use tidewire::{DecodeError, EncodeError};

    let (_place, options) = in_a_directory();
    let options = options.max_message(40);
    let mut publisher = options.clone().content("words, 1").serde_publisher::<Vec<String>>("words").unwrap();
    let named = options.clone().content("words, 1");
    let mut subscriber = named.serde_subscriber::<Vec<String>>("words").unwrap();
    let mut other = named.serde_subscriber_in::<(u8, u8)>("words", LONG).unwrap();
    assert!(publisher.wait_subscribers(2, LONG));
    let refused = options.clone().content("words, 2").serde_subscriber::<Vec<String>>("words");
    assert!(matches!(refused, Err(OpenError::Incompatible(_))));
    let words = vec!["high".to_owned(), "water".to_owned()];
    assert_eq!(publisher.publish(&words), Ok(1));
    assert_eq!(publisher.publish_timeout(&Vec::new(), LONG), Ok(2));
    let long = vec!["x".repeat(50)];
    assert_eq!(publisher.publish(&long), Err(EncodeError::Channel(SendError::TooLong((), 40))));
    assert_eq!((subscriber.recv(), subscriber.recv_timeout(LONG)), (Ok(words), Ok(Vec::new())));
    assert_eq!(subscriber.try_recv(), Err(DecodeError::Channel(SubscribeError::Empty)));
    assert!(matches!(other.recv(), Err(DecodeError::TooLong { .. })));
    assert!(matches!(other.recv(), Err(DecodeError::Decode(_))));
    drop(publisher);
    assert_eq!(other.recv(), Err(DecodeError::Channel(SubscribeError::Disconnected)));
    assert_eq!((subscriber.missed(), subscriber.lag(), subscriber.iter().count()), (0, 0, 0));
}

/// Words of the memory of a publication, as a peer has them that may do anything.
struct Words {
    region: Region<Untrusted>,
    len: usize,
}

impl Words {
    fn of(region: Region<Untrusted>) -> Self {
        Self { len: region.len() / 8, region }
    }

    fn swap(&self, index: usize, value: u64) -> u64 {
        // SAFETY: in bounds and aligned; whatever is stored there, the ends have to bear it: they do not trust each other.
        let word = unsafe { self.region.atomic_u64(index % self.len * 8) };
        word.swap(value, Ordering::Relaxed)
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        self.0 ^ self.0 >> 31
    }

    /// Now small, now large.
    fn word(&mut self) -> u64 {
        let word = self.next();
        if self.next() & 1 == 0 { word >> 57 } else { word }
    }
}

/// Any word of the memory set to anything between the calls: each ends, with bytes of a length that there can be, a count or an
/// error.
#[test]
fn any_words_end_in_an_answer() {
    for seed in 0..120 {
        let mut random = Random(seed);
        let overflow = if seed % 2 == 0 { Overflow::DropOldest } else { Overflow::Reject };
        let options = Options::new().capacity(8).senders(3).max_message(20).overflow(overflow);
        let (mut publisher, mut subscriber) = options.bytes_publish().unwrap();
        let words = Words::of(publisher.memory().region());
        for i in 0..20 {
            let _any = publisher.publish(&message(i)[..(i as usize).min(message(i).len())]);
        }
        for _ in 0..40 {
            words.swap(random.next() as usize, random.word());
            let len = random.next() as usize % 25;
            match publisher.publish(&[7; 25][..len]) {
                Err(SendError::TooLong((), most)) => assert_eq!((most, len > 20), (20, true)),
                Ok(_) | Err(_) => assert!(len <= 20),
            }
            let mut buffer = [0xA5; 30];
            let room = random.next() as usize % 21;
            if let Ok(found) = subscriber.try_recv_into(&mut buffer[..room]) {
                assert!(found <= room);
            }
            assert!(buffer[room..].iter().all(|byte| *byte == 0xA5));
            if let Ok(found) = subscriber.try_recv() {
                assert!(found.len() <= 20);
            }
            let _any = (subscriber.lag(), subscriber.is_connected(), subscriber.missed());
            let memory = Segment::from_fd(publisher.memory().try_clone_fd().unwrap()).unwrap();
            if let Ok(mut late) = options.clone().history(5).bytes_subscriber_on(memory)
                && let Ok(found) = late.try_recv()
            {
                assert!(found.len() <= 20);
            }
        }
    }
}

/// The same all the time, of the log alone, while a subscriber reads: what it gets is as long as it can be, and it is told the
/// end.
#[test]
fn a_reader_among_scribbles_ends() {
    let options = Options::new().capacity(8).senders(1).max_message(20);
    for round in 0..20 {
        let (mut publisher, mut subscriber) = options.bytes_publish().unwrap();
        let (_, mut parts) = Composite::open(publisher.memory().region(), 0x0005_0006).unwrap();
        let words = Words::of(parts.pop().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let scribbling = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut random = Random(round);
                // What is published, stamps, slots and gates: behind header, shape, bell and owner word.
                while !stop.load(Ordering::Relaxed) {
                    let at = 64 + random.next() as usize % (words.len - 64);
                    words.swap(at, random.word());
                }
            }
        });
        for i in 0..500 {
            publisher.publish(&message(i)[..message(i).len().min(20)]).unwrap();
            match subscriber.try_recv() {
                Ok(found) => assert!(found.len() <= 20),
                Err(SubscribeError::Empty | SubscribeError::Corrupt(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        scribbling.join().unwrap();
    }
}
