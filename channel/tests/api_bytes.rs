//! Channels of bytes, between the threads of one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

use std::thread;
use std::time::Duration;

use tidewire::{Kind, Options, Overflow, RecvError, SendError, TryRecvError, TrySendError, Wait};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];

#[test]
fn messages_of_any_length_arrive_whole_and_in_order() {
    for kind in KINDS {
        for wait in [Wait::Spin, Wait::Hybrid, Wait::Park] {
            let (mut tx, mut rx) =
                Options::new().kind(kind).capacity(4096).wait(wait).bytes_channel().unwrap();
            let most = tx.max_message();
            let length = move |i: usize| i * 37 % (most + 1);
            let sender = thread::spawn(move || {
                for i in 0..2000 {
                    tx.send(&vec![i as u8; length(i)]).unwrap();
                }
            });
            let mut buffer = Vec::new();
            for i in 0..2000 {
                assert_eq!(rx.recv_to(&mut buffer).unwrap(), length(i), "{kind:?}");
                assert!(buffer.iter().all(|byte| *byte == i as u8));
            }
            assert_eq!(rx.recv(), Err(RecvError::Disconnected));
            sender.join().unwrap();
        }
    }
}

#[test]
fn what_never_fits_is_said_and_what_does_not_fit_now_is_full() {
    for kind in KINDS {
        let (mut tx, mut rx) = Options::new().kind(kind).capacity(1024).bytes_channel().unwrap();
        let most = tx.max_message();
        let long = vec![1; most + 1];
        assert!(matches!(tx.send(&long), Err(SendError::TooLong((), found)) if found == most), "{kind:?}");
        let mut sent = 0;
        while tx.try_send(&[7; 100]).is_ok() {
            sent += 1;
        }
        assert!(matches!(tx.try_send(&[7; 100]), Err(TrySendError::Full(()))));
        assert!((3..=10).contains(&sent), "{sent}");
        assert_eq!(rx.drain().count(), sent);
        assert!(tx.send(&vec![1; most]).is_ok());
        assert_eq!(rx.recv().unwrap().len(), most);
    }
}

#[test]
fn a_short_buffer_loses_nothing() {
    for kind in KINDS {
        let (mut tx, mut rx) = Options::new().kind(kind).bytes_channel().unwrap();
        tx.send(b"longer").unwrap();
        let mut short = [0; 3];
        assert_eq!(rx.try_recv_into(&mut short), Err(TryRecvError::BufferTooSmall { needed: 6 }), "{kind:?}");
        assert_eq!(rx.recv_into(&mut short), Err(RecvError::BufferTooSmall { needed: 6 }));
        assert_eq!(rx.recv().unwrap(), b"longer");
    }
}

#[test]
fn a_message_is_written_in_place() {
    for kind in KINDS {
        let (mut tx, mut rx) = Options::new().kind(kind).bytes_channel().unwrap();
        tx.send_with(100, |to| {
            assert_eq!(to.room(), 100);
            assert_eq!(to.put(98, b"abc"), Err(100));
            to.put(0, b"head").unwrap();
            to.put(4, b"tail").unwrap();
            8
        })
        .unwrap();
        assert_eq!(rx.recv().unwrap(), b"headtail", "{kind:?}");
    }
}

#[test]
fn dropped_bytes_are_counted_for_both_sides() {
    let options = Options::new().capacity(256).overflow(Overflow::DropNewest);
    let (mut tx, mut rx) = options.bytes_channel().unwrap();
    (0..100).for_each(|_| tx.send(&[1; 32]).unwrap());
    let arrived = rx.drain().count() as u64;
    assert_eq!(tx.dropped() + arrived, 100);
    assert_eq!(rx.senders()[0].dropped, tx.dropped());
}

#[test]
fn several_senders_share_a_channel_of_bytes() {
    for kind in [Kind::Lanes, Kind::Ordered] {
        let (tx, mut rx) = Options::new().kind(kind).capacity(1024).bytes_channel().unwrap();
        let senders: Vec<_> = (0..3_u8)
            .map(|number| {
                let mut tx = tx.try_clone().unwrap();
                thread::spawn(move || {
                    (0..500_u16).for_each(|i| tx.send(&[&[number], &i.to_le_bytes()[..]].concat()).unwrap())
                })
            })
            .collect();
        drop(tx);
        let mut next = [0_u16; 3];
        for message in rx.iter() {
            let number = usize::from(message[0]);
            assert_eq!(u16::from_le_bytes([message[1], message[2]]), next[number]);
            next[number] += 1;
        }
        assert_eq!(next, [500; 3]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}

#[test]
fn bytes_are_no_messages_and_time_passes() {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    let mut rx = options.bytes_receiver("bytes").unwrap();
    assert!(options.sender::<u64>("bytes").is_err());
    assert!(rx.recv_timeout(Duration::from_millis(10)).is_err());
    options.bytes_sender("bytes").unwrap().send(b"x").unwrap();
    assert_eq!(rx.recv().unwrap(), b"x");
}
