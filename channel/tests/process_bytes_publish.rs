//! Publications of bytes between processes: nobody is held up by the dead, nothing torn is read, and who may only read cannot
//! write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
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
const MAX: usize = 300;

fn options(place: &str) -> Options {
    Options::new().directory(Path::new(place).join("segments")).capacity(64).max_message(MAX)
}

/// Message number `i` names itself, and all its bytes and its length follow from that.
fn message(i: u64) -> Vec<u8> {
    let len = 8 + (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize % (MAX - 7);
    let mut message = vec![i as u8; len];
    message[..8].copy_from_slice(&i.to_le_bytes());
    message
}

fn number(found: &[u8]) -> u64 {
    let number = u64::from_le_bytes(found[..8].try_into().unwrap());
    assert_eq!(found, message(number), "torn");
    number
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    match role.as_str() {
        // Publishes until it is killed.
        "publish" => {
            let mut publisher = options(&place).bytes_publisher("test").unwrap();
            assert!(publisher.wait_subscribers(1, LONG));
            for count in 1.. {
                let next = publisher.published() + 1;
                assert_eq!(publisher.publish(&message(next)), Ok(next));
                if count == 1000 {
                    say("many");
                }
            }
        }
        // Subscribes, takes a message, and then only listens.
        "subscribe" => {
            let mut subscriber = options(&place).bytes_subscriber("test").unwrap();
            say("there");
            say(number(&subscriber.recv().unwrap()));
            listen();
        }
        // Subscribes to what it cannot write, and tries.
        "observe" => {
            let mut observer = options(&place).history(1).bytes_observer("test").unwrap();
            say(number(&observer.recv().unwrap()));
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
            say(number(&observer.recv_timeout(LONG).unwrap()));
        }
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn a_publisher_killed_anywhere_ends_every_wait_and_the_next_one_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let place_name = place.path().to_str().unwrap();
    let mut subscriber = None;
    let (mut got, mut first) = (0, None);
    for _ in 0..8 {
        let mut publisher = Peer::start("publish", place.path());
        let subscriber =
            subscriber.get_or_insert_with(|| options(place_name).bytes_subscriber_in("test", LONG).unwrap());
        let end = Instant::now() + LONG;
        while !subscriber.is_connected() {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        assert_eq!(publisher.hear().as_deref(), Some("many"));
        publisher.signal(Signal::KILL);
        let mut to = Vec::new();
        loop {
            match subscriber.recv_to_timeout(&mut to, LONG) {
                Ok(len) => {
                    assert_eq!(len, to.len());
                    // In order, whole, and what is not here was missed: over all publishers.
                    let first = *first.get_or_insert(number(&to) - subscriber.missed());
                    assert_eq!(number(&to), first + got + subscriber.missed());
                    got += 1;
                }
                Err(error) => {
                    assert_eq!(error, SubscribeError::Disconnected);
                    break;
                }
            }
        }
    }
    assert!(got > 0);
}

#[test]
fn a_dead_subscriber_releases_a_publisher_that_waits_for_it_and_a_stopped_one_does_not() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path().to_str().unwrap()).overflow(Overflow::Block).wait(Wait::Park);
    let mut publisher = options.bytes_publisher("test").unwrap();
    for _ in 0..3 {
        let mut subscriber = Peer::start("subscribe", place.path());
        assert_eq!(subscriber.hear().as_deref(), Some("there"));
        assert!(publisher.wait_subscribers(1, LONG));
        let first = publisher.published() + 1;
        publisher.publish(&message(first)).unwrap();
        assert_eq!(subscriber.hear(), Some(first.to_string()));
        subscriber.stop();
        while publisher.publish_timeout(b"fill", Duration::from_millis(5)).is_ok() {}
        let timed = publisher.publish_timeout(b"more", Duration::from_millis(50));
        assert_eq!(timed, Err(SendTimeoutError::Timeout(())), "it is stopped, and lives");
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            subscriber.signal(Signal::KILL);
            subscriber
        });
        assert!(publisher.publish_timeout(b"more", LONG).is_ok(), "nobody waits for the dead");
        drop(killer.join().unwrap());
    }
}

#[test]
fn one_who_only_looks_cannot_write_and_reads_on() {
    let place = tempfile::tempdir().unwrap();
    let mut publisher = options(place.path().to_str().unwrap()).bytes_publisher("test").unwrap();
    publisher.publish(&message(1)).unwrap();
    let mut observer = Peer::start("observe", place.path());
    assert_eq!(observer.hear().as_deref(), Some("1"));
    assert_eq!(observer.hear().as_deref(), Some("true"), "a writable mapping is refused");
    assert_eq!(observer.hear().as_deref(), Some("true"), "writing the file is refused");
    publisher.publish(&message(2)).unwrap();
    assert_eq!(observer.hear().as_deref(), Some("2"));
}
