//! Channels of messages, between the threads of one process.
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
    Kind, Message, OpenError, Options, Overflow, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    TryRecvError, TrySendError, Wait,
};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];
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
fn messages_arrive_in_order_for_every_kind_and_wait() {
    for kind in KINDS {
        for wait in
            [Wait::Spin, Wait::Yield, Wait::Hybrid, Wait::HybridFor(Duration::from_micros(2)), Wait::Park]
        {
            let options = Options::new().kind(kind).capacity(8).wait(wait);
            let (mut tx, mut rx) = options.channel::<Tick>().unwrap();
            let sender = thread::spawn(move || {
                for id in 0..2000 {
                    tx.send(Tick { id, price: 0.5 }).unwrap();
                }
            });
            for id in 0..2000 {
                assert_eq!(rx.recv().unwrap(), Tick { id, price: 0.5 }, "{kind:?} {wait:?}");
            }
            assert_eq!(rx.recv(), Err(RecvError::Disconnected));
            sender.join().unwrap();
        }
    }
}

#[test]
fn several_senders_are_each_in_order() {
    for kind in [Kind::Lanes, Kind::Ordered] {
        let (tx, mut rx) = Options::new().kind(kind).capacity(16).channel::<[u64; 2]>().unwrap();
        let senders: Vec<_> = (0..3)
            .map(|number| {
                let mut tx = tx.try_clone().unwrap();
                thread::spawn(move || (0..1000).for_each(|i| tx.send([number, i]).unwrap()))
            })
            .collect();
        drop(tx);
        let mut next = [0; 3];
        for [number, i] in rx.iter() {
            assert_eq!(i, next[number as usize]);
            next[number as usize] += 1;
        }
        assert_eq!(next, [1000; 3]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
}

#[test]
fn a_full_channel_gives_the_message_back() {
    for kind in KINDS {
        let (mut tx, mut rx) = Options::new().kind(kind).capacity(2).channel::<u64>().unwrap();
        assert_eq!(tx.capacity(), 2);
        tx.try_send(0).unwrap();
        tx.try_send(1).unwrap();
        assert!(matches!(tx.try_send(2), Err(TrySendError::Full(2))), "{kind:?}");
        let start = Instant::now();
        let timed = tx.send_timeout(2, Duration::from_millis(30));
        assert!(matches!(timed, Err(SendTimeoutError::Timeout(2))));
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert_eq!(tx.waited(), 1);
        assert_eq!(rx.drain().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        tx.send_deadline(2, Instant::now() + LONG).unwrap();
        assert_eq!(rx.recv(), Ok(2));
    }
}

#[test]
fn a_sender_that_waits_for_room_is_woken_by_a_receiver_that_makes_some() {
    for kind in KINDS {
        let (mut tx, mut rx) =
            Options::new().kind(kind).capacity(2).wait(Wait::Park).channel::<u64>().unwrap();
        let sender = thread::spawn(move || {
            (0..50).for_each(|i| tx.send(i).unwrap());
            tx.waited()
        });
        for i in 0..50 {
            thread::sleep(Duration::from_millis(2));
            let start = Instant::now();
            assert_eq!(rx.recv(), Ok(i), "{kind:?}");
            assert!(start.elapsed() < Duration::from_millis(45), "woken, not found at the end of a slice");
        }
        assert!(sender.join().unwrap() > 10);
    }
}

#[test]
fn overflow_is_what_the_receiver_chose() {
    let options = Options::new().capacity(2);
    let (mut tx, _rx) = options.clone().overflow(Overflow::Reject).channel::<u64>().unwrap();
    assert_eq!(tx.send_slice(&[0, 1, 2]).unwrap(), 2);
    assert!(matches!(tx.send(3), Err(SendError::Full(3))));

    let (mut tx, mut rx) = options.overflow(Overflow::DropNewest).channel::<u64>().unwrap();
    (0..5).for_each(|i| tx.send(i).unwrap());
    assert_eq!(tx.dropped(), 3);
    let senders = rx.senders();
    assert_eq!((senders.len(), senders[0].dropped, senders[0].queued), (1, 3, 2));
    assert_eq!(senders[0].pid, Some(std::process::id()));
    assert_eq!(rx.drain().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_receiver_that_leaves_ends_every_send() {
    for kind in KINDS {
        let (mut tx, rx) = Options::new().kind(kind).capacity(2).channel::<u64>().unwrap();
        tx.send(0).unwrap();
        tx.send(1).unwrap();
        let sender = thread::spawn(move || {
            let waited = tx.send(2);
            (waited, tx.try_send(3), tx.is_connected())
        });
        thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        drop(rx);
        let (waited, tried, connected) = sender.join().unwrap();
        assert!(start.elapsed() < Duration::from_millis(45), "woken, not found at the end of a slice");
        assert!(matches!(waited, Err(SendError::Disconnected(2))), "{waited:?}");
        assert!(matches!(tried, Err(TrySendError::Disconnected(3))), "{tried:?}");
        assert!(!connected);
    }
}

#[test]
fn senders_that_leave_end_every_wait_after_their_messages() {
    for kind in KINDS {
        let (mut tx, mut rx) = Options::new().kind(kind).channel::<u64>().unwrap();
        tx.send(7).unwrap();
        let leaver = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(tx);
        });
        assert_eq!(rx.recv(), Ok(7));
        assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected), "{kind:?}");
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
        leaver.join().unwrap();
    }
}

#[test]
fn nobody_yet_is_not_disconnected_and_another_sender_ends_it() {
    let (_place, options) = in_a_directory();
    let mut rx = options.receiver::<u64>("late").unwrap();
    assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(rx.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout));
    assert!(!rx.wait_senders(1, Duration::from_millis(20)));
    let mut tx = options.sender::<u64>("late").unwrap();
    assert!(rx.wait_senders(1, LONG));
    tx.send(1).unwrap();
    drop(tx);
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    options.sender::<u64>("late").unwrap().send(2).unwrap();
    assert_eq!(rx.recv(), Ok(2), "one that comes later ends it");
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
}

#[test]
fn a_sender_may_start_first_and_wait_for_its_receiver() {
    let (_place, options) = in_a_directory();
    assert!(matches!(options.sender::<u64>("first"), Err(OpenError::NotFound { .. })));
    let early = options.sender_in::<u64>("first", Duration::from_millis(20));
    assert!(matches!(early, Err(OpenError::TimedOut { .. })), "{early:?}");
    let for_sender = options.clone();
    let sender = thread::spawn(move || for_sender.sender_in("first", LONG).unwrap().send(5_u64).unwrap());
    thread::sleep(Duration::from_millis(30));
    let mut rx = options.receiver::<u64>("first").unwrap();
    assert_eq!(rx.recv(), Ok(5), "the first message is not lost");
    sender.join().unwrap();
}

#[test]
fn regress_a_sender_finds_only_a_receiver_that_is_ready_for_it() {
    let (_place, options) = in_a_directory();
    for _ in 0..100 {
        let for_sender = options.clone();
        let sender = thread::spawn(move || for_sender.sender_in("both", LONG).unwrap().send(5_u64).unwrap());
        let mut rx = options.receiver::<u64>("both").unwrap();
        assert_eq!(rx.recv(), Ok(5));
        sender.join().unwrap();
    }
}

#[test]
fn a_second_receiver_and_one_sender_too_many_are_refused() {
    let (_place, options) = in_a_directory();
    let options = options.senders(2);
    let _rx = options.receiver::<u64>("one").unwrap();
    let second = options.receiver::<u64>("one");
    assert!(matches!(second, Err(OpenError::Taken { role: "receiver", .. })), "{second:?}");
    let first = options.sender::<u64>("one").unwrap();
    let _second = options.sender::<u64>("one").unwrap();
    assert!(matches!(options.sender::<u64>("one"), Err(OpenError::Exhausted { most: 2 })));
    drop(first);
    assert!(options.sender::<u64>("one").is_ok());
}

#[test]
fn other_types_are_refused_and_the_field_is_named() {
    #[derive(Clone, Copy, Message)]
    #[repr(C)]
    struct Other {
        id: u64,
        price: u64,
    }
    let (_place, options) = in_a_directory();
    let _rx = options.receiver::<Tick>("typed").unwrap();
    match options.sender::<Other>("typed") {
        Err(OpenError::Types { difference }) => {
            assert!(difference.to_string().contains("price"), "{difference}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_is_gone_when_the_last_one_leaves() {
    let (place, options) = in_a_directory();
    let files = || std::fs::read_dir(place.path().join("segments")).unwrap().count();
    let rx = options.receiver::<u64>("gone").unwrap();
    let tx = options.sender::<u64>("gone").unwrap();
    assert_eq!(files(), 1);
    drop(rx);
    assert_eq!(files(), 1);
    drop(tx);
    assert_eq!(files(), 0);
    let tx_first = (options.receiver::<u64>("gone").unwrap(), options.sender::<u64>("gone").unwrap());
    let (rx, tx) = tx_first;
    drop(tx);
    drop(rx);
    assert_eq!(files(), 0);
}

#[test]
fn regress_what_was_sent_waits_for_the_next_receiver_when_everybody_left() {
    for kind in KINDS {
        let (place, options) = in_a_directory();
        let options = options.kind(kind);
        let mut rx = options.receiver::<u64>("left").unwrap();
        let mut tx = options.sender::<u64>("left").unwrap();
        tx.send_slice(&[0, 1, 2, 3]).unwrap();
        assert_eq!(rx.recv(), Ok(0));
        if kind == Kind::Ordered {
            drop(tx);
            drop(rx);
        } else {
            drop(rx);
            drop(tx);
        }
        let mut rx = options.receiver::<u64>("left").unwrap();
        assert_eq!(rx.drain().collect::<Vec<_>>(), [1, 2, 3], "{kind:?}");
        drop(rx);
        assert_eq!(std::fs::read_dir(place.path().join("segments")).unwrap().count(), 0);
    }
}

/// What a peer that lies left in front of the queues: anything at all.
#[test]
fn regress_spoilt_memory_that_nobody_uses_is_begun_anew() {
    use std::os::unix::fs::FileExt;
    let (place, options) = in_a_directory();
    for offset in (128..8192).step_by(8) {
        let mut rx = options.receiver::<u64>("spoilt").unwrap();
        let mut tx = options.sender::<u64>("spoilt").unwrap();
        tx.send(1).unwrap();
        if offset == 128 {
            assert_eq!(rx.try_recv(), Ok(1));
            tx.send(1).unwrap();
        }
        drop(rx);
        drop(tx);
        let file = place.path().join("segments").join("spoilt");
        let file = std::fs::File::options().write(true).open(file).expect("what was sent keeps the name");
        file.write_all_at(&[0xa5; 8], offset).unwrap();
        let mut rx = options.receiver::<u64>("spoilt").unwrap();
        let mut tx = options.sender::<u64>("spoilt").unwrap();
        tx.send(2).unwrap();
        assert_eq!(rx.drain().last(), Some(2), "a word at {offset}");
    }
}

#[test]
fn another_receiver_goes_on_and_its_senders_stay() {
    for kind in KINDS {
        let (_place, options) = in_a_directory();
        let options = options.kind(kind);
        let mut rx = options.receiver::<u64>("next").unwrap();
        let mut tx = options.sender::<u64>("next").unwrap();
        tx.send_slice(&[0, 1, 2]).unwrap();
        assert_eq!(rx.recv(), Ok(0));
        drop(rx);
        assert!(matches!(tx.send(3), Err(SendError::Disconnected(3))));
        let mut rx = options.receiver::<u64>("next").unwrap();
        tx.send(3).unwrap();
        assert_eq!([rx.recv(), rx.recv(), rx.recv()], [Ok(1), Ok(2), Ok(3)], "{kind:?}");
        drop(tx);
        assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    }
}

#[test]
fn slices_are_sent_and_received_whole() {
    for kind in KINDS {
        let (mut tx, mut rx) = Options::new().kind(kind).capacity(8).channel::<u64>().unwrap();
        let sender = thread::spawn(move || {
            let values: Vec<u64> = (0..1000).collect();
            assert_eq!(tx.send_slice(&values).unwrap(), 1000);
        });
        let mut got = Vec::new();
        let mut buffer = [0; 5];
        while let Ok(n) = rx.recv_slice(&mut buffer) {
            got.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(got, (0..1000).collect::<Vec<_>>(), "{kind:?}");
        assert_eq!(rx.try_recv_slice(&mut []), Ok(0));
        sender.join().unwrap();
    }
}

#[test]
fn large_messages_go_from_place_to_place() {
    for kind in KINDS {
        let (mut tx, mut rx) = Options::new().kind(kind).capacity(2).channel::<[u64; 512]>().unwrap();
        let mut place = [0; 512];
        assert_eq!(rx.try_recv_to(&mut place), Err(TryRecvError::Empty));
        tx.send_from(&[7; 512]).unwrap();
        tx.try_send_from(&[8; 512]).unwrap();
        assert!(matches!(tx.try_send_from(&[9; 512]), Err(TrySendError::Full(()))));
        rx.recv_to(&mut place).unwrap();
        assert_eq!(place, [7; 512]);
        rx.try_recv_to(&mut place).unwrap();
        assert_eq!(place, [8; 512], "{kind:?}");
    }
}

#[test]
fn what_cannot_be_is_said() {
    let none = Options::new().senders(0).channel::<u64>();
    assert!(matches!(none, Err(OpenError::Options { .. })), "{none:?}");
    assert!(matches!(Options::new().senders(256).channel::<u64>(), Err(OpenError::Options { .. })));
    let name = tidewire::receiver::<u64>("no/name");
    assert!(matches!(name, Err(OpenError::Segment(_))), "{name:?}");
    let huge = Options::new().capacity(usize::MAX).channel::<u64>();
    assert!(matches!(huge, Err(OpenError::Options { .. })), "{huge:?}");
}

/// Who is told that the receiver is gone can be the next one at once.
#[test]
fn the_role_of_a_receiver_is_free_when_its_end_is_told() {
    for kind in [Kind::Lanes, Kind::Ordered, Kind::Single] {
        let place = tempfile::tempdir().unwrap();
        let options = Options::new().directory(place.path().join("segments")).capacity(2).kind(kind);
        let mut rx = options.receiver::<u64>("test").unwrap();
        for _ in 0..50 {
            let mut tx = options.sender::<u64>("test").unwrap();
            rx = thread::scope(|scope| {
                let successor = scope.spawn(|| {
                    // Asleep or not, as it comes.
                    while tx.send(1).is_ok() {}
                    options.receiver::<u64>("test")
                });
                thread::sleep(Duration::from_micros(200));
                drop(rx);
                successor.join().unwrap().unwrap()
            });
        }
    }
}
