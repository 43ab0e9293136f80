//! Channels of what serde can write and read.
#![cfg(feature = "serde")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use tidewire::shm::Field;
use tidewire::{
    DecodeError, EncodeError, OpenError, Options, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    SerdeReceiver, SerdeSender, TryRecvError, TrySendError,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Opened { name: String, tags: Vec<String> },
    Moved(f64, f64),
    Counts(BTreeMap<String, u64>),
    Closed,
}

fn events() -> Vec<Event> {
    let counts = (0..50).map(|i| (format!("key {i}"), i * i)).collect();
    vec![
        Event::Opened { name: "high water".into(), tags: vec!["a".into(), String::new()] },
        Event::Moved(0.1, -7.5),
        Event::Counts(counts),
        Event::Closed,
    ]
}

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    (place, options)
}

#[test]
fn values_arrive_as_they_were_sent() {
    let (mut tx, mut rx) = Options::new().serde_channel::<Event>().unwrap();
    let sending = thread::spawn(move || {
        for event in events().iter().cycle().take(4000) {
            tx.send(event).unwrap();
        }
    });
    let got: Vec<Event> = rx.iter().map(Result::unwrap).collect();
    assert!(got.iter().eq(events().iter().cycle().take(4000)));
    assert_eq!(rx.recv(), Err(DecodeError::Channel(RecvError::Disconnected)));
    sending.join().unwrap();
}

#[test]
fn what_is_no_such_value_is_told_and_the_next_one_comes() {
    let (tx, rx) = Options::new().bytes_channel().unwrap();
    let (mut tx, mut rx) = (tx, SerdeReceiver::<(u8, String)>::new(rx));
    let good = postcard_bytes(&(1, "one".to_owned()));
    tx.send(&good).unwrap();
    tx.send(&good[..3]).unwrap();
    tx.send(&[&good[..], b"more"].concat()).unwrap();
    tx.send(&[1, 2, 0xff, 0xff]).unwrap();
    tx.send(b"").unwrap();
    tx.send(&good).unwrap();
    assert_eq!(rx.recv(), Ok((1, "one".to_owned())));
    let short = rx.try_recv().unwrap_err();
    assert!(matches!(short, DecodeError::Decode(_)) && short.source().is_some(), "{short:?}");
    assert_eq!(rx.recv_timeout(Duration::from_secs(9)), Err(DecodeError::TooLong { left: 4 }));
    assert!(matches!(rx.recv(), Err(DecodeError::Decode(_))), "no UTF-8");
    drop(tx);
    let rest: Vec<_> = rx.iter().map(|found| found.ok()).collect();
    assert_eq!(rest, [None, Some((1, "one".to_owned()))]);
    assert_eq!(rx.try_recv(), Err(DecodeError::Channel(TryRecvError::Disconnected)));
}

/// As a sender writes it.
fn postcard_bytes(value: &(u8, String)) -> Vec<u8> {
    let (tx, mut rx) = Options::new().bytes_channel().unwrap();
    SerdeSender::new(tx).send(value).unwrap();
    rx.recv().unwrap()
}

/// A value that cannot be written.
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

#[test]
fn what_cannot_be_written_is_not_sent() {
    let (tx, mut rx) = Options::new().bytes_channel().unwrap();
    let mut tx = SerdeSender::<Stubborn>::new(tx);
    let error = tx.send(&Stubborn).unwrap_err();
    assert!(matches!(error, EncodeError::Encode(_)) && error.source().is_some(), "{error:?}");
    assert!(matches!(tx.try_send(&Stubborn), Err(EncodeError::Encode(_))));
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    let mut words = SerdeSender::<&str>::new(tx.into_inner());
    words.send(&"after").unwrap();
    assert_eq!(rx.recv().unwrap(), b"\x05after");
}

#[test]
fn what_the_channel_says_is_handed_on() {
    let (mut tx, mut rx) = Options::new().capacity(1024).serde_channel::<Vec<u8>>().unwrap();
    let soon = Duration::from_millis(5);
    assert_eq!(rx.recv_timeout(soon), Err(DecodeError::Channel(RecvTimeoutError::Timeout)));
    assert!(matches!(tx.send(&vec![0; 5000]), Err(EncodeError::Channel(SendError::TooLong(..)))));
    while tx.try_send(&vec![0; 100]).is_ok() {}
    assert!(matches!(tx.try_send(&vec![0; 100]), Err(EncodeError::Channel(TrySendError::Full(())))));
    let timed = tx.send_timeout(&vec![0; 100], soon);
    assert!(matches!(timed, Err(EncodeError::Channel(SendTimeoutError::Timeout(())))));
    let mut second = tx.try_clone().unwrap();
    assert_eq!(rx.try_recv(), Ok(vec![0; 100]));
    drop(rx);
    let error = second.send(&vec![]).unwrap_err();
    assert!(matches!(error, EncodeError::Channel(SendError::Disconnected(()))), "{error}");
    assert_eq!(error.to_string(), SendError::Disconnected(()).to_string());
}

#[test]
fn ends_compare_the_name_of_the_content() {
    let (_place, options) = in_a_directory();
    let third = options.clone().content("orders, version 3");
    let mut rx = third.serde_receiver::<Vec<u64>>("orders").unwrap();
    for other in [options.clone(), options.content("orders, version 2")] {
        match other.serde_sender::<Vec<u64>>("orders") {
            Err(OpenError::Incompatible(found)) => {
                assert_eq!(found.field, Field::TypeFingerprint);
                assert_ne!(found.expected, found.found);
            }
            other => panic!("{other:?}"),
        }
    }
    let mut tx = third.serde_sender_in::<Vec<u64>>("orders", Duration::from_secs(9)).unwrap();
    tx.send(&vec![1, 2]).unwrap();
    assert_eq!(rx.recv(), Ok(vec![1, 2]));
    let none = third.serde_sender_in::<u8>("nobody", Duration::from_millis(5));
    assert!(matches!(none, Err(OpenError::TimedOut { .. })));
}
