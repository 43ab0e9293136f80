//! Channels between processes: whoever is killed or stopped wherever, nothing that was sent is lost, nobody hangs, and
//! everybody is told.
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
use rustix::process::Signal;
use tidewire::{
    Kind, Options, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError, Wait,
};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];
const LONG: Duration = Duration::from_secs(20);

fn options(place: &Path) -> Options {
    Options::new().directory(place.join("segments")).capacity(64)
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    let options = options(Path::new(&place));
    let (role, kind) = role.split_once(' ').unwrap_or((&role, "lanes"));
    let options = match kind {
        "ordered" => options.kind(Kind::Ordered),
        "single" => options.kind(Kind::Single),
        _ => options,
    };
    match role {
        // Sends numbers until it is killed, and says each tenth that was sent.
        "flood" => {
            let mut tx = options.sender_in::<[u64; 4]>("test", LONG).unwrap();
            say("there");
            for i in 0_u64.. {
                if tx.send([i; 4]).is_err() {
                    break;
                }
                if i % 10 == 0 {
                    say(i);
                }
            }
        }
        // Sends what it is told to.
        "send" => {
            let mut tx = options.sender_in::<u64>("test", LONG).unwrap();
            say("there");
            loop {
                match listen().as_str() {
                    "leave" => break,
                    // Nothing is dropped.
                    "exit" => std::process::exit(0),
                    number => tx.send(number.parse().unwrap()).unwrap(),
                }
                say("sent");
            }
        }
        // Receives until all senders are gone, and says how it ended.
        "receive" => {
            let mut rx = options.receiver::<[u64; 4]>("test").unwrap();
            say("there");
            loop {
                match rx.recv() {
                    Ok(message) => assert!(message.iter().all(|word| *word == message[0])),
                    Err(error) => return say(error),
                }
            }
        }
        // Has a receiver, and receives nothing.
        "idle" => {
            let _rx = options.receiver::<u64>("test").unwrap();
            say("there");
            listen();
        }
        other => panic!("no such role: {other}"),
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Ordered => "ordered",
        Kind::Single => "single",
        _ => "lanes",
    }
}

/// A process that ends in order without dropping its sender is gone all the same, also for a receiver that never waits.
#[test]
fn a_sender_whose_process_just_exits_is_gone() {
    for kind in KINDS {
        for waits in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let mut rx = options(place.path()).kind(kind).receiver::<u64>("test").unwrap();
            let mut sender = Peer::start(&format!("send {}", kind_name(kind)), place.path());
            assert_eq!(sender.hear().as_deref(), Some("there"));
            assert!(rx.wait_senders(1, LONG), "it is known when it ends");
            sender.tell("7");
            assert_eq!(sender.hear().as_deref(), Some("sent"));
            sender.tell("exit");
            assert!(sender.child.wait().unwrap().success());
            assert_eq!(rx.try_recv(), Ok(7));
            if waits {
                assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
            }
            let start = Instant::now();
            while rx.try_recv() == Err(TryRecvError::Empty) {
                assert!(start.elapsed() < LONG, "{kind:?}: a sender that ended is not gone");
            }
            assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
        }
    }
}

#[test]
fn a_sender_killed_anywhere_loses_nothing_that_was_sent_and_ends_the_wait() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let mut rx = options(place.path()).kind(kind).receiver::<[u64; 4]>("test").unwrap();
        let mut worst = Duration::ZERO;
        for round in 0..12 {
            let mut sender = Peer::start(&format!("flood {}", kind_name(kind)), place.path());
            assert_eq!(sender.hear().as_deref(), Some("there"));
            let mut next = 0;
            let mut acknowledged = None;
            for _ in 0..round {
                acknowledged = sender.hear().map(|said| said.parse::<u64>().unwrap());
                while next <= acknowledged.unwrap() {
                    assert_eq!(rx.recv(), Ok([next; 4]));
                    next += 1;
                }
            }
            let killed = Instant::now();
            sender.kill();
            let gone = killed.elapsed();
            while let Some(said) = sender.hear() {
                acknowledged = Some(said.parse().unwrap());
            }
            let start = Instant::now();
            loop {
                match rx.recv_timeout(LONG) {
                    Ok(message) => {
                        assert_eq!(message, [next; 4], "{kind:?}");
                        next += 1;
                    }
                    Err(error) => break assert_eq!(error, RecvTimeoutError::Disconnected),
                }
            }
            worst = worst.max(start.elapsed()).max(gone);
            assert!(
                acknowledged.is_none_or(|last| next > last),
                "{kind:?}: {acknowledged:?} was said, {next} is next"
            );
            assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
        }
        assert!(worst < Duration::from_secs(2), "{kind:?}: {worst:?}");
    }
}

#[test]
fn a_sleeping_receiver_is_told_of_a_death_at_once() {
    let place = tempfile::tempdir().unwrap();
    let mut rx = options(place.path()).wait(Wait::Park).receiver::<u64>("test").unwrap();
    let mut times = Vec::new();
    for _ in 0..11 {
        let mut sender = Peer::start("send", place.path());
        assert_eq!(sender.hear().as_deref(), Some("there"));
        assert!(rx.wait_senders(1, LONG));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            let killed = Instant::now();
            sender.signal(Signal::KILL);
            (killed, sender)
        });
        assert_eq!(rx.recv(), Err(RecvError::Disconnected));
        let told = Instant::now();
        let (killed, _sender) = killer.join().unwrap();
        times.push(told.saturating_duration_since(killed));
    }
    times.sort_unstable();
    // A slice of somebody who is not woken would take 10 to 50 ms.
    assert!(times[5] < Duration::from_millis(8), "median of {times:?}");
}

#[test]
fn a_receiver_killed_ends_every_send_and_the_next_one_goes_on() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let options = options(place.path()).kind(kind);
        let mut receiver = Peer::start(&format!("idle {}", kind_name(kind)), place.path());
        assert_eq!(receiver.hear().as_deref(), Some("there"));
        let mut tx = options.sender_in::<u64>("test", LONG).unwrap();
        (0..64).for_each(|i| tx.send(i).unwrap());
        assert!(matches!(tx.try_send(64), Err(TrySendError::Full(64))));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            receiver.kill();
            Instant::now()
        });
        assert!(matches!(tx.send(64), Err(SendError::Disconnected(64))), "{kind:?}");
        let told = Instant::now();
        let killed = killer.join().unwrap();
        assert!(told.saturating_duration_since(killed) < Duration::from_millis(100));
        assert!(!tx.is_connected());

        let mut rx = options.receiver::<u64>("test").unwrap();
        assert!(tx.is_connected());
        let sender = std::thread::spawn(move || tx.send(64).unwrap());
        for i in 0..=64 {
            assert_eq!(rx.recv_timeout(LONG), Ok(i), "{kind:?}");
        }
        sender.join().unwrap();
    }
}

#[test]
fn a_stopped_peer_is_waited_for_and_never_declared_dead() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path());
    let mut rx = options.receiver::<u64>("test").unwrap();
    let mut sender = Peer::start("send", place.path());
    assert_eq!(sender.hear().as_deref(), Some("there"));
    sender.tell("7");
    assert_eq!(rx.recv(), Ok(7));
    sender.stop();
    sender.tell("8");
    assert_eq!(rx.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout));
    assert_eq!(rx.senders().len(), 1);
    sender.signal(Signal::CONT);
    assert_eq!(rx.recv_timeout(LONG), Ok(8));

    let other = tempfile::tempdir().unwrap();
    let mut receiver = Peer::start("idle", other.path());
    assert_eq!(receiver.hear().as_deref(), Some("there"));
    let mut tx = self::options(other.path()).sender_in::<u64>("test", LONG).unwrap();
    receiver.stop();
    (0..64).for_each(|i| tx.send(i).unwrap());
    let timed = tx.send_timeout(64, Duration::from_millis(200));
    assert!(matches!(timed, Err(SendTimeoutError::Timeout(64))), "{timed:?}");
    receiver.signal(Signal::CONT);
}

#[test]
fn senders_killed_again_and_again_leave_room_for_others_and_a_clean_directory() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path()).senders(2);
    let mut rx = options.receiver::<u64>("test").unwrap();
    for round in 0..10 {
        let mut peers = [Peer::start("send", place.path()), Peer::start("send", place.path())];
        for peer in &mut peers {
            assert_eq!(peer.hear().as_deref(), Some("there"), "round {round}: a lane of the dead is free");
            peer.tell("1");
            assert_eq!(peer.hear().as_deref(), Some("sent"));
        }
        peers.iter_mut().for_each(Peer::kill);
        assert_eq!([rx.recv(), rx.recv(), rx.recv()], [Ok(1), Ok(1), Err(RecvError::Disconnected)]);
    }
    drop(rx);
    assert_eq!(std::fs::read_dir(place.path().join("segments")).unwrap().count(), 0);
}

#[test]
fn a_receiver_process_hears_everything_until_its_sender_leaves_or_dies() {
    for ending in ["killed", "left"] {
        let place = tempfile::tempdir().unwrap();
        let mut receiver = Peer::start("receive", place.path());
        assert_eq!(receiver.hear().as_deref(), Some("there"));
        if ending == "killed" {
            let mut sender = Peer::start("flood", place.path());
            for _ in 0..20 {
                sender.hear();
            }
            sender.kill();
        } else {
            let mut tx = options(place.path()).sender::<[u64; 4]>("test").unwrap();
            (0..10_000).for_each(|i| tx.send([i; 4]).unwrap());
        }
        assert_eq!(receiver.hear(), Some(RecvError::Disconnected.to_string()), "{ending}");
    }
}

#[test]
fn a_fork_child_is_refused_and_its_parent_goes_on() {
    let (mut tx, mut rx) = Options::new().channel::<u64>().unwrap();
    tx.send(1).unwrap();
    // SAFETY: the child calls what allocates nothing and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = matches!(tx.try_send(2), Err(TrySendError::ForkedChild(2)))
            && rx.try_recv() == Err(TryRecvError::ForkedChild);
        drop((tx, rx));
        // SAFETY: ends this process without what the runner of the tests would do.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = -1;
    // SAFETY: the child of above, and a word of ours.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    tx.send(3).unwrap();
    assert_eq!([rx.recv(), rx.recv()], [Ok(1), Ok(3)]);
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
}
