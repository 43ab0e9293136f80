//! What ends know of themselves and others: who is full, what is spoilt, who stands by.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use tidewire::{Endpoint, Kind, OpenError, Options, Overflow, Select, TryRecvError};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];
const LONG: Duration = Duration::from_secs(20);

#[test]
fn who_is_full_is_seen_by_receiver_and_senders() {
    for kind in [Kind::Lanes, Kind::Ordered] {
        let options = Options::new().kind(kind).capacity(8).senders(3).overflow(Overflow::Reject);
        let (mut tx, mut rx) = options.channel::<u64>().unwrap();
        let mut other = tx.try_clone().unwrap();
        while tx.send(1).is_ok() {}
        other.send(2).unwrap();
        assert_ne!(tx.number(), other.number());
        for sees in [&tx, &other] {
            let depth = |number| sees.depths().into_iter().find(|(lane, _)| *lane == number).unwrap().1;
            assert_eq!((depth(tx.number()), depth(other.number())), (8, 1), "{kind:?}");
        }
        assert_eq!((tx.len(), tx.capacity(), other.len()), (8, 8, 1));
        let infos = rx.senders();
        let queued = |number| infos.iter().find(|info| info.number == number).unwrap().queued;
        assert_eq!((queued(tx.number()), queued(other.number())), (8, 1), "{kind:?}");
        assert_eq!(rx.drain().count(), 9);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        assert!(rx.senders().iter().all(|info| info.queued == 0), "{kind:?}");
    }
    let (mut tx, mut rx) = Options::new().kind(Kind::Single).capacity(8).channel::<u64>().unwrap();
    tx.send_slice(&[1, 2, 3]).unwrap();
    assert_eq!((tx.depths(), tx.number(), rx.senders()[0].queued), (vec![(0, 3)], 0, 3));
    let (mut tx, mut rx) = Options::new().bytes_channel().unwrap();
    tx.send(b"four").unwrap();
    let depth = tx.depths().iter().find(|(lane, _)| *lane == tx.number()).unwrap().1;
    assert_eq!((depth, rx.senders()[0].queued), (tx.queued(), tx.queued()));
    assert!(depth >= 4);
}

/// Numbers that look random, the same ones each time.
fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

/// Writes words that cannot be, or could, to where there may be positions.
fn scribble(memory: &File, random: &mut impl FnMut() -> u64) {
    let mut bytes = vec![0; memory.metadata().unwrap().len().min(1 << 16) as usize];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    let words: Vec<u64> =
        bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    // Positions are small numbers by now.
    let small: Vec<usize> = (0..words.len()).filter(|at| (1..=64).contains(&words[*at])).collect();
    // Behind the last one of larger ones is the next word of the order of all messages, where there is one.
    let large = |at: usize| (1 << 12..1 << 40).contains(&words[at]);
    let ends: Vec<usize> = (1..words.len()).filter(|at| large(at - 1) && words[*at] == 0).collect();
    let mut pick = |from: &[usize]| from[(random() % from.len() as u64) as usize];
    let (one, another) = (pick(&small), pick(&ends));
    for _ in 0..1 + random() % 4 {
        let at = match random() % 4 {
            0 | 1 => one,
            2 => another,
            _ => (random() % words.len() as u64) as usize,
        };
        let (was, at) = (words[at], 8 * at as u64);
        let now = match random() % 4 {
            0 => random(),
            1 => was.wrapping_add(1 << 40),
            2 => was.wrapping_add(random() % 64),
            _ => was.wrapping_sub(random() % 64),
        };
        memory.write_all_at(&now.to_le_bytes(), at).unwrap();
    }
}

/// Whenever a call has something to say, a select would have woken for it. Returns whether it was that something is spoilt.
fn ready_for_what_comes<R>(
    end: &mut (impl Endpoint + 'static),
    mut call: impl FnMut(&mut dyn std::any::Any) -> Result<R, TryRecvError>,
) -> bool {
    let mut spoilt = false;
    for _ in 0..12 {
        let ready = Select::new().look(&mut [end]).is_some();
        let armed = Select::new().wait_timeout(&mut [end], Duration::ZERO).unwrap().is_some();
        match call(end) {
            Err(TryRecvError::Empty) => break,
            Ok(_) => assert!(ready && armed, "a message came unexpectedly"),
            Err(error) => {
                assert!(ready && armed, "{error} came unexpectedly");
                spoilt |= matches!(error, TryRecvError::Corrupt(_));
                if error == TryRecvError::Disconnected {
                    break;
                }
            }
        }
    }
    spoilt
}

#[test]
fn regress_an_end_is_ready_when_something_is_spoilt() {
    let mut random = numbers(0x5eed_1234_5678_9abc);
    for kind in KINDS {
        let (mut messages, mut bytes) = (0, 0);
        for _ in 0..400 {
            let options = Options::new().kind(kind).capacity(16).senders(3);
            let (mut tx, mut rx) = options.channel::<u64>().unwrap();
            let mut other = if kind == Kind::Single { None } else { Some(tx.try_clone().unwrap()) };
            tx.send_slice(&[1, 2, 3]).unwrap();
            assert_eq!(rx.drain().count(), 3);
            if let Some(other) = &mut other {
                other.send_slice(&[4, 5]).unwrap();
            }
            tx.send(6).unwrap();
            scribble(&File::from(rx.memory().try_clone_fd().unwrap()), &mut random);
            messages += u32::from(ready_for_what_comes(&mut rx, |end| {
                end.downcast_mut::<tidewire::Receiver<u64>>().unwrap().try_recv()
            }));

            let (mut tx, mut rx) = options.capacity(1024).bytes_channel().unwrap();
            tx.send(b"some bytes").unwrap();
            scribble(&File::from(rx.memory().try_clone_fd().unwrap()), &mut random);
            bytes += u32::from(ready_for_what_comes(&mut rx, |end| {
                end.downcast_mut::<tidewire::BytesReceiver>().unwrap().try_recv()
            }));
        }
        assert!(messages > 0 && bytes > 0, "{kind:?}: spoilt {messages} and {bytes} times");
    }
}

fn in_a_directory() -> (tempfile::TempDir, Options) {
    let place = tempfile::tempdir().unwrap();
    let options = Options::new().directory(place.path().join("segments"));
    (place, options)
}

#[test]
fn a_receiver_stands_by() {
    let (_place, options) = in_a_directory();
    let mut first = options.receiver::<u64>("test").unwrap();
    let mut tx = options.sender::<u64>("test").unwrap();
    let begun = Instant::now();
    let refused = options.receiver_in::<u64>("test", Duration::from_millis(20));
    assert!(matches!(refused, Err(OpenError::Taken { .. })));
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let second = {
        let options = options.clone();
        thread::spawn(move || options.receiver_in::<u64>("test", LONG).unwrap().iter().collect::<Vec<_>>())
    };
    tx.send(1).unwrap();
    assert_eq!(first.recv(), Ok(1));
    tx.send(2).unwrap();
    drop(first);
    let end = Instant::now() + LONG;
    while !tx.is_connected() {
        assert!(Instant::now() < end);
        thread::yield_now();
    }
    tx.send(3).unwrap();
    drop(tx);
    assert_eq!(second.join().unwrap(), [2, 3]);

    let first = options.bytes_receiver("bytes").unwrap();
    let refused = options.bytes_receiver_in("bytes", Duration::ZERO);
    assert!(matches!(refused, Err(OpenError::Taken { .. })));
    drop(first);
    assert!(options.bytes_receiver_in("bytes", LONG).is_ok());
}

#[test]
fn a_sender_whose_name_is_gone_goes_on_and_says_that_no_other_can_be_had() {
    let (place, options) = in_a_directory();
    let mut rx = options.receiver::<u64>("test").unwrap();
    let mut tx = options.sender::<u64>("test").unwrap();
    let mut clone = tx.try_clone().unwrap();
    for entry in std::fs::read_dir(place.path().join("segments")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    tx.send(1).unwrap();
    clone.send(2).unwrap();
    let mut got = [rx.recv().unwrap(), rx.recv().unwrap()];
    got.sort_unstable();
    assert_eq!(got, [1, 2]);
    assert!(matches!(tx.try_clone(), Err(OpenError::NotFound { .. })));
    drop((tx, clone));
    assert!(rx.recv().is_err());
}

#[cfg(feature = "serde")]
#[test]
fn a_content_is_refused_where_the_type_says_it() {
    let refused = Options::new().content("numbers").channel::<u64>().unwrap_err();
    assert!(matches!(refused, OpenError::Options { .. }) && refused.to_string().contains("content"));
    assert!(Options::new().content("numbers").bytes_channel().is_ok());
}
