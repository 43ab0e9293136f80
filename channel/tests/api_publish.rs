//! Publish and subscribe, between the threads of one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

use std::thread;
use std::time::{Duration, Instant};

use tidewire::{
    Kind, Message, OpenError, Options, Overflow, Select, SendError, SendTimeoutError, SubscribeError, Wait,
};

const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Message)]
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

#[test]
fn every_subscriber_gets_everything_where_nothing_may_be_lost() {
    for wait in [Wait::Spin, Wait::Hybrid, Wait::Park] {
        let options = Options::new().capacity(8).overflow(Overflow::Block).wait(wait);
        let (mut publisher, first) = options.publish::<Tick>().unwrap();
        let memory = publisher.memory().try_clone_fd().unwrap();
        let second = options.subscriber_on(tidewire::shm::Segment::from_fd(memory).unwrap()).unwrap();
        assert_eq!(publisher.subscribers(), 2);
        let readers = [first, second].map(|mut subscriber| {
            thread::spawn(move || {
                for id in 0..600 {
                    assert_eq!(subscriber.recv().unwrap(), Tick { id, price: 1.0 }, "{wait:?}");
                }
                assert_eq!(subscriber.recv(), Err(SubscribeError::Disconnected));
                subscriber.missed()
            })
        });
        for id in 0..600 {
            assert_eq!(publisher.publish(Tick { id, price: 1.0 }).unwrap(), id + 1);
        }
        drop(publisher);
        assert_eq!(readers.map(|reader| reader.join().unwrap()), [0, 0]);
    }
}

#[test]
fn a_slow_subscriber_is_told_exactly_what_it_missed() {
    let (mut publisher, mut subscriber) = Options::new().capacity(16).publish::<u64>().unwrap();
    let writer = thread::spawn(move || {
        for i in 1..=200_000 {
            publisher.publish(i).unwrap();
        }
    });
    let (mut got, mut last) = (0, 0);
    loop {
        match subscriber.recv() {
            Ok(i) => {
                got += 1;
                assert_eq!(i, got + subscriber.missed(), "received and missed are all that was published");
                assert!(i > last);
                last = i;
            }
            Err(error) => break assert_eq!(error, SubscribeError::Disconnected),
        }
        if got % 64 == 0 {
            thread::sleep(Duration::from_micros(50));
        }
    }
    assert_eq!(got + subscriber.missed(), 200_000);
    assert!(subscriber.missed() > 0 && got > 0);
    writer.join().unwrap();
}

#[test]
fn history_is_for_those_who_come_late() {
    let (_place, options) = in_a_directory();
    let mut publisher = options.clone().capacity(64).publisher::<u64>("late").unwrap();
    (1..=20).for_each(|i| assert_eq!(publisher.publish(i).unwrap(), i));
    let from = |history| {
        let mut subscriber = options.clone().history(history).subscriber::<u64>("late").unwrap();
        subscriber.drain().collect::<Vec<_>>()
    };
    assert_eq!(from(0), [0; 0]);
    assert_eq!(from(3), [18, 19, 20]);
    assert_eq!(from(1000), (1..=20).collect::<Vec<_>>());
    let mut observer = options.clone().history(2).observer::<u64>("late").unwrap();
    assert_eq!(observer.drain().collect::<Vec<_>>(), [19, 20]);
    assert!(observer.memory().is_read_only());
    publisher.publish(21).unwrap();
    assert_eq!(observer.recv(), Ok(21));
    assert_eq!(publisher.subscribers(), 0, "nobody knows of one who only looks");
}

#[test]
fn overflow_is_what_the_publisher_chose() {
    let full = |overflow| {
        let (mut publisher, subscriber) =
            Options::new().capacity(4).overflow(overflow).publish::<u64>().unwrap();
        let mut i = 0;
        while i < 100
            && publisher.publish_timeout(i, Duration::from_millis(5)).is_ok()
            && publisher.dropped() == 0
        {
            i += 1;
        }
        (i, publisher, subscriber)
    };
    let (i, mut publisher, mut subscriber) = full(Overflow::Block);
    assert!((4..8).contains(&i), "{i}");
    let timed = publisher.publish_timeout(i, Duration::from_millis(20));
    assert!(matches!(timed, Err(SendTimeoutError::Timeout(value)) if value == i));
    assert_eq!(subscriber.drain().count() as u64, i);
    publisher.publish(i).unwrap();

    let (i, mut publisher, subscriber) = full(Overflow::Reject);
    assert!(matches!(publisher.publish(i), Err(SendError::Full(value)) if value == i));
    drop(subscriber);
    publisher.publish(i).unwrap();

    let (_publisher, subscriber) =
        Options::new().capacity(4).overflow(Overflow::DropNewest).publish::<u64>().unwrap();
    let mut publisher = _publisher;
    (0..100).for_each(|i| assert!(publisher.publish(i).is_ok()));
    assert_eq!(publisher.dropped() + publisher.published(), 100);
    drop(subscriber);
    let (i, publisher, _subscriber) = full(Overflow::DropOldest);
    assert_eq!((i, publisher.dropped()), (100, 0));
    assert!(matches!(
        Options::new().kind(Kind::Ordered).overflow(Overflow::DropOldest).channel::<u64>(),
        Err(OpenError::Options { .. })
    ));
}

#[test]
fn a_publisher_that_waits_is_woken_by_a_reader_and_by_one_who_leaves() {
    let options = Options::new().capacity(4).overflow(Overflow::Block).wait(Wait::Park);
    for leaves in [false, true] {
        let (mut publisher, mut subscriber) = options.publish::<u64>().unwrap();
        while publisher.publish_timeout(0, Duration::from_millis(2)).is_ok() {}
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                publisher.publish(1).unwrap();
                Instant::now()
            });
            thread::sleep(Duration::from_millis(60));
            let start = Instant::now();
            if leaves {
                drop(subscriber);
            } else {
                while subscriber.try_recv().is_ok() {}
            }
            let woken = waiting.join().unwrap();
            assert!(
                woken.saturating_duration_since(start) < Duration::from_millis(45),
                "not at the end of a slice"
            );
        });
    }
}

#[test]
fn a_sleeping_subscriber_is_woken_by_each_message_and_by_the_end() {
    let (mut publisher, mut subscriber) = Options::new().wait(Wait::Park).publish::<u64>().unwrap();
    let writer = thread::spawn(move || {
        for i in 0..20 {
            thread::sleep(Duration::from_millis(3));
            publisher.publish(i).unwrap();
        }
        thread::sleep(Duration::from_millis(20));
    });
    let start = Instant::now();
    (0..20).for_each(|i| assert_eq!(subscriber.recv_timeout(LONG), Ok(i)));
    assert_eq!(subscriber.recv_timeout(LONG), Err(SubscribeError::Disconnected));
    assert!(start.elapsed() < Duration::from_millis(600), "woken, not found at the ends of slices");
    assert!(!subscriber.is_connected());
    writer.join().unwrap();
}

#[test]
fn another_publisher_goes_on_and_its_subscribers_stay() {
    let (_place, options) = in_a_directory();
    let mut publisher = options.publisher::<u64>("next").unwrap();
    let mut subscriber = options.subscriber::<u64>("next").unwrap();
    assert!(matches!(options.publisher::<u64>("next"), Err(OpenError::Taken { role: "publisher", .. })));
    assert_eq!(publisher.publish(1).unwrap(), 1);
    drop(publisher);
    assert_eq!(subscriber.recv(), Ok(1));
    assert_eq!(subscriber.recv(), Err(SubscribeError::Disconnected));
    let mut publisher = options.publisher::<u64>("next").unwrap();
    assert_eq!(publisher.publish(2).unwrap(), 2, "the count goes on");
    assert_eq!(subscriber.recv(), Ok(2));
    assert_eq!(subscriber.try_recv(), Err(SubscribeError::Empty));
}

#[test]
fn what_cannot_be_is_said() {
    let (place, options) = in_a_directory();
    assert!(matches!(options.subscriber::<u64>("none"), Err(OpenError::NotFound { .. })));
    assert!(matches!(options.observer::<u64>("none"), Err(OpenError::NotFound { .. })));
    let timed = options.subscriber_in::<u64>("none", Duration::from_millis(10));
    assert!(matches!(timed, Err(OpenError::TimedOut { .. })));
    let publisher = options.clone().senders(1).publisher::<u64>("one").unwrap();
    let first = options.subscriber::<u64>("one").unwrap();
    assert!(matches!(options.subscriber::<u64>("one"), Err(OpenError::Exhausted { most: 1 })));
    assert!(matches!(options.subscriber::<Tick>("one"), Err(OpenError::Types { .. })));
    assert!(matches!(options.receiver::<u64>("one"), Err(OpenError::Incompatible(_))));
    drop(first);
    assert!(options.subscriber::<u64>("one").is_ok());
    drop(publisher);
    assert_eq!(std::fs::read_dir(place.path().join("segments")).unwrap().count(), 0);
    assert!(matches!(options.senders(0).publisher::<u64>("x"), Err(OpenError::Options { .. })));
}

#[test]
fn subscribers_are_selected_and_awaited() {
    let (mut publisher, mut subscriber) = Options::new().publish::<u64>().unwrap();
    let (_other, mut silent) = Options::new().publish::<u64>().unwrap();
    let writer = thread::spawn(move || {
        for i in 0..10 {
            thread::sleep(Duration::from_millis(3));
            publisher.publish(i).unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    });
    let mut select = Select::new();
    for i in 0..5 {
        assert_eq!(select.wait(&mut [&mut silent, &mut subscriber]).unwrap(), 1);
        assert_eq!(subscriber.try_recv(), Ok(i));
    }
    futures_lite::future::block_on(async {
        for i in 5..10 {
            assert_eq!(subscriber.recv_async().await, Ok(i));
        }
        assert_eq!(subscriber.recv_async().await, Err(SubscribeError::Disconnected));
    });
    writer.join().unwrap();
}
