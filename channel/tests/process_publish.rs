//! Publish and subscribe between processes: nobody is held up by the dead, and who may only read cannot write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

mod peer;

use std::path::Path;
use std::time::{Duration, Instant};

use peer::{Peer, listen, role, say};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::Signal;
use tidewire::{Options, Overflow, SendTimeoutError, SubscribeError, Wait};

const LONG: Duration = Duration::from_secs(20);

fn options(place: &str) -> Options {
    Options::new().directory(Path::new(place).join("segments")).capacity(64)
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    match role.as_str() {
        // Publishes until it is killed.
        "publish" => {
            let mut publisher = options(&place).publisher::<[u64; 4]>("test").unwrap();
            assert!(publisher.wait_subscribers(1, LONG));
            for i in 1_u64.. {
                publisher.publish([i; 4]).unwrap();
                if i == 1000 {
                    say("many");
                }
            }
        }
        // Subscribes, takes a message, and then only listens.
        "subscribe" => {
            let mut subscriber = options(&place).subscriber::<u64>("test").unwrap();
            say("there");
            let first = subscriber.recv().unwrap();
            say(first);
            listen();
        }
        // Subscribes to what it cannot write, and tries.
        "observe" => {
            let mut observer = options(&place).history(1).observer::<u64>("test").unwrap();
            say(observer.recv().unwrap());
            let fd = observer.memory();
            // SAFETY: a new mapping of its own, which nothing else uses.
            let mapped = unsafe {
                rustix::mm::mmap(
                    std::ptr::null_mut(),
                    4096,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED,
                    fd,
                    0,
                )
            };
            say(mapped.is_err());
            say(rustix::io::pwrite(fd, b"x", 0).is_err());
        }
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn a_publisher_killed_anywhere_ends_every_wait_and_the_next_one_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let place_name = place.path().to_str().unwrap();
    let mut last = 0;
    let mut subscriber = None;
    for _ in 0..8 {
        let mut publisher = Peer::start("publish", place.path());
        let subscriber = subscriber
            .get_or_insert_with(|| options(place_name).subscriber_in::<[u64; 4]>("test", LONG).unwrap());
        let end = Instant::now() + LONG;
        while !subscriber.is_connected() {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        assert_eq!(publisher.hear().as_deref(), Some("many"));
        publisher.signal(Signal::KILL);
        loop {
            match subscriber.recv_timeout(LONG) {
                Ok(message) => assert!(message.iter().all(|word| *word == message[0])),
                Err(error) => break assert_eq!(error, SubscribeError::Disconnected),
            }
            last += 1;
        }
    }
    assert!(last > 0);
}

#[test]
fn a_dead_subscriber_releases_a_publisher_that_waits_for_it_and_a_stopped_one_does_not() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path().to_str().unwrap()).overflow(Overflow::Block).wait(Wait::Park);
    let mut publisher = options.publisher::<u64>("test").unwrap();
    let mut times = Vec::new();
    for round in 0..5 {
        let mut subscriber = Peer::start("subscribe", place.path());
        assert_eq!(subscriber.hear().as_deref(), Some("there"));
        assert!(publisher.wait_subscribers(1, LONG));
        publisher.publish(round).unwrap();
        assert_eq!(subscriber.hear(), Some(round.to_string()));
        subscriber.stop();
        while publisher.publish_timeout(7, Duration::from_millis(5)).is_ok() {}
        let timed = publisher.publish_timeout(8, Duration::from_millis(100));
        assert!(matches!(timed, Err(SendTimeoutError::Timeout(8))), "it is stopped, and lives");
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            let killed = Instant::now();
            subscriber.signal(Signal::KILL);
            (killed, subscriber)
        });
        publisher.publish(9).unwrap();
        let free = Instant::now();
        let (killed, _subscriber) = killer.join().unwrap();
        times.push(free.saturating_duration_since(killed));
    }
    times.sort_unstable();
    assert!(times[2] < Duration::from_millis(20), "median of {times:?}");
}

#[test]
fn one_who_only_looks_cannot_write() {
    let place = tempfile::tempdir().unwrap();
    let mut publisher = options(place.path().to_str().unwrap()).publisher::<u64>("test").unwrap();
    publisher.publish(3).unwrap();
    let mut observer = Peer::start("observe", place.path());
    assert_eq!(observer.hear().as_deref(), Some("3"));
    assert_eq!(observer.hear().as_deref(), Some("true"), "a writable mapping is refused");
    assert_eq!(observer.hear().as_deref(), Some("true"), "writing the file is refused");
}
