//! Channels that drop their oldest messages.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

use std::thread;
use std::time::{Duration, Instant};

use tidewire::{Kind, OpenError, Options, Overflow, RecvError, RecvTimeoutError, Select, TryRecvError};

const LONG: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options::new().kind(Kind::Single).overflow(Overflow::DropOldest).capacity(64)
}

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = options().directory(place.path().join("segments"));
    (place, options)
}

#[test]
fn the_oldest_go_and_are_counted_exactly() {
    let (mut tx, mut rx) = options().channel::<u64>().unwrap();
    for i in 0..1000 {
        tx.send(i).unwrap();
    }
    let got: Vec<_> = rx.drain().collect();
    assert_eq!(got.last(), Some(&999));
    assert!(got.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(rx.missed(), got[0], "none before was received");
    assert_eq!(rx.missed() + got.len() as u64, 1000);
    assert_eq!(rx.senders()[0].dropped, rx.missed());
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(tx.dropped(), rx.missed(), "told when nothing was left");
    assert_eq!((tx.len(), tx.capacity()), (0, 64));
    tx.send(1000).unwrap();
    assert_eq!((tx.len(), rx.senders()[0].queued, rx.recv()), (1, 1, Ok(1000)));
}

#[test]
fn whatever_the_pace_received_and_missed_is_all() {
    let (mut tx, mut rx) = options().channel::<[u64; 9]>().unwrap();
    let sender = thread::spawn(move || {
        for i in 0..50_000_u64 {
            tx.send([i; 9]).unwrap();
            if i % 5000 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let (mut received, mut next) = (0, 0);
    loop {
        match rx.recv() {
            Ok(message) => {
                assert!(message.iter().all(|word| *word == message[0]), "torn: {message:?}");
                assert!(message[0] >= next);
                received += 1;
                next = message[0] + 1;
                assert_eq!(received + rx.missed(), next);
            }
            Err(error) => break assert_eq!(error, RecvError::Disconnected),
        }
    }
    assert_eq!(next, 50_000, "the last ones are never dropped");
    sender.join().unwrap();
}

#[test]
fn slices_and_places_go_through_it() {
    let (mut tx, mut rx) = options().channel::<u64>().unwrap();
    assert_eq!(tx.send_slice(&(0..200).collect::<Vec<_>>()), Ok(200));
    let mut some = [0; 7];
    let (mut received, mut last) = (0, 0);
    while let Ok(count) = rx.try_recv_slice(&mut some) {
        assert!(count > 0);
        received += count as u64;
        last = some[count - 1];
    }
    assert_eq!((last, received + rx.missed()), (199, 200));
    let mut place = tx.reserve().unwrap();
    *place.as_mut().unwrap() = 200;
    place.commit().unwrap();
    drop(tx.reserve().unwrap());
    let mut chunk = rx.read_chunk(8).unwrap();
    assert_eq!(chunk.as_slices().unwrap().0, [200]);
    chunk.release(1).unwrap();
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
}

#[test]
fn a_receiver_that_sleeps_is_woken_and_told_when_its_sender_leaves() {
    let (mut tx, mut rx) = options().channel::<u64>().unwrap();
    let sender = thread::spawn(move || {
        for i in 0..20 {
            thread::sleep(Duration::from_millis(2));
            tx.send(i).unwrap();
        }
    });
    assert_eq!(rx.iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    sender.join().unwrap();
}

#[test]
fn a_select_wakes_for_it() {
    let (mut tx, mut rx) = options().channel::<u64>().unwrap();
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        tx.send(7).unwrap();
        tx
    });
    assert_eq!(Select::new().wait_timeout(&mut [&mut rx], LONG).unwrap(), Some(0));
    assert_eq!(rx.recv(), Ok(7));
    drop(sender.join().unwrap());
}

#[test]
fn the_next_receiver_goes_on_where_the_last_one_left() {
    let (_place, options) = in_a_directory();
    let mut rx = options.receiver::<u64>("test").unwrap();
    let mut tx = options.sender::<u64>("test").unwrap();
    tx.send_slice(&[0, 1, 2, 3, 4]).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(0), Ok(1)));
    drop(rx);
    assert!(tx.send(5).is_err(), "nobody receives");
    let mut rx = options.receiver::<u64>("test").unwrap();
    assert_eq!(rx.drain().collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(rx.missed(), 0);
    drop(rx);
    // A sender that leaves and another one are one account.
    drop(tx);
    let mut rx = options.receiver::<u64>("test").unwrap();
    let mut tx = options.sender::<u64>("test").unwrap();
    for i in 0..100 {
        tx.send(i).unwrap();
    }
    let got = rx.drain().count() as u64;
    assert_eq!(rx.missed() + got, 100);
}

#[test]
fn what_was_overwritten_while_nobody_received_is_missed() {
    let (_place, options) = in_a_directory();
    let memory = options.memory::<u64>().unwrap();
    let open = || tidewire::shm::Segment::from_fd(memory.try_clone_fd().unwrap()).unwrap();
    let mut rx = options.receiver_on::<u64>(open()).unwrap();
    let mut tx = options.sender_on::<u64>(open()).unwrap();
    for i in 0..300 {
        tx.send(i).unwrap();
    }
    assert!(rx.recv().is_ok());
    let missed = rx.missed();
    drop(rx);
    let mut rx = options.receiver_on::<u64>(open()).unwrap();
    assert_eq!(rx.recv(), Ok(missed + 1));
    for i in 300..500 {
        tx.send(i).unwrap();
    }
    let got: Vec<_> = rx.drain().collect();
    assert_eq!(got.last(), Some(&499));
    assert_eq!(missed + 1 + 1 + rx.missed() + got.len() as u64, 500);
}

#[test]
fn names_go_when_all_was_received_and_stay_when_not() {
    let (place, options) = in_a_directory();
    let names = || std::fs::read_dir(place.path().join("segments")).unwrap().count();
    let mut rx = options.receiver::<u64>("test").unwrap();
    let mut tx = options.sender::<u64>("test").unwrap();
    tx.send(1).unwrap();
    drop(tx);
    drop(rx);
    assert_eq!(names(), 1, "one message waits");
    rx = options.receiver::<u64>("test").unwrap();
    tx = options.sender::<u64>("test").unwrap();
    assert_eq!(rx.recv(), Ok(1));
    drop(rx);
    drop(tx);
    assert_eq!(names(), 0);
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let refused = options().kind(Kind::Ordered).channel::<u64>().unwrap_err();
    assert!(matches!(refused, OpenError::Options { .. }));
    assert!(refused.to_string().contains("Kind::Lanes or Kind::Single"), "{refused}");
    assert!(options().bytes_channel().unwrap_err().to_string().contains("DropOldest"));
    let (_place, options) = in_a_directory();
    let _rx = options.receiver::<u64>("test").unwrap();
    let _tx = options.sender::<u64>("test").unwrap();
    assert!(matches!(options.receiver::<u64>("test"), Err(OpenError::Taken { role: "receiver", .. })));
    assert!(matches!(options.sender::<u64>("test"), Err(OpenError::Exhausted { most: 1 })));
}

#[test]
fn a_receiver_that_waits_for_a_sender_is_told_of_time() {
    let (_tx, mut rx) = options().channel::<u64>().unwrap();
    let begun = Instant::now();
    assert_eq!(rx.recv_timeout(Duration::from_millis(10)), Err(RecvTimeoutError::Timeout));
    assert!(begun.elapsed() >= Duration::from_millis(10));
}

#[test]
fn regress_chunks_go_on_beyond_what_is_told() {
    for capacity in [4, 64] {
        let options = Options::new().kind(Kind::Single).overflow(Overflow::DropOldest).capacity(capacity);
        let (mut tx, mut rx) = options.channel::<u64>().unwrap();
        let sent = 3 * capacity as u64 / 4;
        for i in 0..sent {
            tx.send(i).unwrap();
        }
        for i in 0..sent {
            let mut chunk = rx.try_read_chunk(8).unwrap();
            assert_eq!(chunk.as_slices().unwrap().0, [i]);
            chunk.release(1).unwrap();
        }
        assert!(matches!(rx.try_read_chunk(8), Err(TryRecvError::Empty)));
        assert_eq!(rx.missed(), 0);
    }
}
