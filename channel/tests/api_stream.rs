//! Channels of bytes as streams, between the threads of one process.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use tidewire::{Kind, Options, Overflow};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn a_copy_is_what_was_copied() {
    for kind in KINDS {
        for capacity in [256, 4096, 1 << 20] {
            let (tx, rx) = Options::new().kind(kind).capacity(capacity).bytes_channel().unwrap();
            let data = pattern(700_001);
            let sent = data.clone();
            let sending = thread::spawn(move || {
                let mut to = tx.into_stream();
                assert_eq!(io::copy(&mut &*sent, &mut to).unwrap(), 700_001);
                to.finish().unwrap();
            });
            let mut got = Vec::new();
            io::copy(&mut rx.into_stream(), &mut got).unwrap();
            assert!(got == data, "{kind:?} {capacity}");
            sending.join().unwrap();
        }
    }
}

#[test]
fn writes_and_reads_of_any_length_make_one_stream() {
    let (tx, rx) = Options::new().bytes_channel().unwrap();
    let data = pattern(200_000);
    let sent = data.clone();
    let sending = thread::spawn(move || {
        let mut to = tx.into_stream();
        let mut rest = sent.as_slice();
        let mut length = 1;
        while !rest.is_empty() {
            let piece = rest.get(..length).unwrap_or(rest);
            to.write_all(piece).unwrap();
            rest = &rest[piece.len()..];
            length = length * 7 % 50_021;
            if length % 5 == 0 {
                to.flush().unwrap();
            }
        }
    });
    let mut from = rx.into_stream();
    let mut got = Vec::new();
    let mut length = 1;
    loop {
        let mut piece = vec![0; length];
        let read = from.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        got.extend_from_slice(&piece[..read]);
        length = length * 11 % 9973;
    }
    assert!(got == data);
    assert_eq!(from.read(&mut [0; 4]).unwrap(), 0, "the end stays");
    sending.join().unwrap();
}

#[test]
fn small_writes_are_sent_by_flush_and_not_before() {
    let (tx, mut rx) = Options::new().bytes_channel().unwrap();
    let mut to = tx.into_stream();
    to.write_all(b"one").unwrap();
    to.write_all(b"two").unwrap();
    assert!(rx.try_recv().is_err());
    to.flush().unwrap();
    to.flush().unwrap();
    assert_eq!(rx.try_recv().unwrap(), b"onetwo");
    assert!(rx.try_recv().is_err(), "nothing is no message");
    to.write_all(b"three").unwrap();
    drop(to);
    assert_eq!(rx.recv().unwrap(), b"three");
}

#[test]
fn a_message_without_bytes_is_no_end() {
    let (mut tx, rx) = Options::new().bytes_channel().unwrap();
    let mut from = rx.into_stream();
    for message in [&b""[..], b"a", b"", b"", b"bc"] {
        tx.send(message).unwrap();
    }
    drop(tx);
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"abc");
    assert_eq!(from.read(&mut []).unwrap(), 0);
}

#[test]
fn lines_are_read_and_what_is_left_is_given_back() {
    let (tx, rx) = Options::new().bytes_channel().unwrap();
    let mut to = tx.into_stream();
    write!(to, "first\nsecond\nrest").unwrap();
    to.flush().unwrap();
    let mut from = rx.into_stream();
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    let (mut rx, left) = from.into_parts();
    assert_eq!(left, b"second\nrest");
    to.write_all(b"more").unwrap();
    to.finish().unwrap();
    assert_eq!(rx.recv().unwrap(), b"more");
    let (tx, rx) = Options::new().bytes_channel().unwrap();
    let mut to = tx.into_stream();
    writeln!(to, "x").unwrap();
    to.finish().unwrap();
    assert_eq!(BufReader::new(rx.into_stream()).lines().count(), 1);
}

#[test]
fn a_stream_waits_for_room_whatever_was_chosen() {
    for overflow in [Overflow::Block, Overflow::Reject, Overflow::DropNewest] {
        let (tx, rx) = Options::new().capacity(512).overflow(overflow).bytes_channel().unwrap();
        let data = pattern(50_000);
        let sent = data.clone();
        let sending = thread::spawn(move || tx.into_stream().write_all(&sent));
        thread::sleep(Duration::from_millis(5));
        let mut got = Vec::new();
        rx.into_stream().read_to_end(&mut got).unwrap();
        assert!(got == data, "{overflow:?}");
        sending.join().unwrap().unwrap();
    }
}

#[test]
fn a_writer_without_a_reader_is_told_broken_pipe() {
    let (tx, rx) = Options::new().capacity(512).bytes_channel().unwrap();
    let mut to = tx.into_stream();
    to.write_all(b"here").unwrap();
    to.flush().unwrap();
    let reading = thread::spawn(move || {
        let mut from = rx.into_stream();
        from.read_exact(&mut [0; 4]).unwrap();
        thread::sleep(Duration::from_millis(20));
    });
    let start = Instant::now();
    let error = loop {
        if let Err(error) = to.write_all(&[7; 300]).and_then(|()| to.flush()) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(error.get_ref().is_some_and(|inner| inner.to_string().contains("receiver")), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
    reading.join().unwrap();
    to.write_all(b"x").unwrap();
    assert_eq!(to.finish().unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_stream_goes_on_with_a_sender_that_comes_later() {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    let mut from = options.bytes_receiver("lines").unwrap().into_stream();
    for text in ["one", "two"] {
        let mut to = options.bytes_sender("lines").unwrap().into_stream();
        to.write_all(text.as_bytes()).unwrap();
        to.finish().unwrap();
        let mut got = String::new();
        from.read_to_string(&mut got).unwrap();
        assert_eq!(got, text);
    }
}
