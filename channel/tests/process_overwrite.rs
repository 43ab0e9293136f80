//! Channels that drop their oldest, places that are held and chunks that are lent, when whoever has them is killed.
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
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidewire::{Kind, Options, Overflow, RecvTimeoutError, SendError, TryRecvError};

const KINDS: [Kind; 3] = [Kind::Lanes, Kind::Ordered, Kind::Single];
const LONG: Duration = Duration::from_secs(20);
const CAPACITY: u64 = 64;
type Frame = [u64; 8192];

fn options(place: &Path) -> Options {
    Options::new().directory(place.join("segments")).capacity(CAPACITY as usize)
}

fn lossy(place: &Path) -> Options {
    options(place).kind(Kind::Single).overflow(Overflow::DropOldest)
}

fn names(place: &Path) -> usize {
    std::fs::read_dir(place.join("segments")).map_or(0, Iterator::count)
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    let place = Path::new(&place);
    let (role, kind) = role.split_once(' ').unwrap_or((&role, ""));
    let kind = match kind {
        "Ordered" => Kind::Ordered,
        "Single" => Kind::Single,
        _ => Kind::Lanes,
    };
    match role {
        // Sends numbers from the one it hears, and says what it has sent now and then, until it is killed.
        "flood" => {
            let first: u64 = listen().parse().unwrap();
            let mut tx = lossy(place).sender_in::<[u64; 9]>("test", LONG).unwrap();
            say("there");
            for i in first.. {
                if tx.send([i; 9]).is_err() {
                    break;
                }
                if i % 50 == 0 {
                    say(i);
                }
            }
        }
        // Receives, and says what, and how many it received and missed.
        "gather" => {
            let mut rx = lossy(place).receiver_in::<[u64; 9]>("test", LONG).unwrap();
            say("there");
            let mut received = 0;
            while let Ok(message) = rx.recv() {
                assert!(message.iter().all(|word| *word == message[0]));
                received += 1;
                say(format!("{} {received} {}", message[0], rx.missed()));
            }
        }
        // Writes large messages where they are read, until it is killed, and says what was sent.
        "frames" => {
            let options = options(place).kind(kind);
            // SAFETY: all who have the memory are this program, and killed ones write nothing more.
            let options = unsafe { options.trusted() };
            let mut tx = options.sender_in::<Frame>("test", LONG).unwrap();
            say("there");
            for i in 0.. {
                let Ok(mut frame) = tx.reserve() else { break };
                frame.as_mut().expect("all are trusted").fill(i);
                frame.commit().unwrap();
                say(i);
            }
        }
        // Has a place, and a message written there.
        "hold" => {
            let mut tx = options(place).kind(kind).sender_in::<u64>("test", LONG).unwrap();
            tx.send(1).unwrap();
            let mut held = tx.reserve().unwrap();
            held.set(&2);
            say("held");
            listen();
            held.commit().unwrap();
        }
        // Has a chunk, and releases nothing.
        "borrow" => {
            let mut rx = options(place).kind(kind).receiver::<u64>("test").unwrap();
            say("there");
            let chunk = rx.read_chunk(8).unwrap();
            say(chunk.len());
            listen();
            chunk.release(1).unwrap();
        }
        // Opens a receiver with fewer descriptors than it needs, one more each time, and says how often that was refused.
        "starve" | "starve-publisher" => {
            let publishes = role == "starve-publisher";
            // What was inherited may lie anywhere: a limit is one of numbers, so that the holes below it count.
            // SAFETY: nothing of this process uses a descriptor from 3 on at this moment.
            assert_eq!(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) }, 0);
            let usual = getrlimit(Resource::Nofile);
            let mut refused = 0;
            for free in 0..40 {
                let each = place.join(free.to_string());
                std::fs::create_dir(&each).unwrap();
                let limit = Rlimit { current: Some(3 + free), maximum: usual.maximum };
                setrlimit(Resource::Nofile, limit).unwrap();
                let options = options(&each).kind(kind);
                let refusal = if publishes {
                    options.publisher::<u64>("test").err()
                } else {
                    options.receiver::<u64>("test").err()
                };
                setrlimit(Resource::Nofile, usual).unwrap();
                refused += u32::from(refusal.is_some());
                // To make it three are needed, to take it away four: with three it is left to the next who comes.
                assert!(free == 3 || names(&each) == 0, "with {free} descriptors");
            }
            say(refused);
        }
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn a_sender_that_overwrites_is_killed_anywhere_and_the_account_has_no_gap() {
    let place = tempfile::tempdir().unwrap();
    let mut rx = lossy(place.path()).receiver::<[u64; 9]>("test").unwrap();
    let (mut next, mut received) = (0, 0);
    for round in 0..15 {
        let mut sender = Peer::start("flood", place.path());
        sender.tell(&next.to_string());
        assert_eq!(sender.hear().as_deref(), Some("there"));
        let mut said = None;
        for _ in 0..round {
            said = sender.hear().map(|said| said.parse::<u64>().unwrap());
            // Sometimes it keeps up, sometimes it does not.
            for _ in 0..40 {
                let message = rx.recv().unwrap();
                received += 1;
                next = message[0] + 1;
                assert_eq!(received + rx.missed(), next);
            }
        }
        sender.kill();
        while let Some(more) = sender.hear() {
            said = Some(more.parse().unwrap());
        }
        let killed = Instant::now();
        loop {
            match rx.recv_timeout(LONG) {
                Ok(message) => {
                    assert!(message.iter().all(|word| *word == message[0]), "torn: {message:?}");
                    received += 1;
                    next = message[0] + 1;
                    assert_eq!(received + rx.missed(), next);
                }
                Err(error) => break assert_eq!(error, RecvTimeoutError::Disconnected),
            }
        }
        assert!(killed.elapsed() < Duration::from_secs(2));
        assert!(said.is_none_or(|said| next > said), "{said:?} was sent, {next} is next");
    }
    assert!(next > 0);
}

#[test]
fn a_receiver_of_what_is_overwritten_is_killed_and_the_next_goes_on_with_its_account() {
    let place = tempfile::tempdir().unwrap();
    let mut gatherer = Peer::start("gather", place.path());
    assert_eq!(gatherer.hear().as_deref(), Some("there"));
    let mut tx = lossy(place.path()).sender_in::<[u64; 9]>("test", LONG).unwrap();
    let (mut sent, mut last) = (0, None::<u64>);
    for round in 0..8_u64 {
        for burst in 0..10 * (round + 1) {
            tx.send([sent; 9]).unwrap();
            sent += 1;
            if burst % 7 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        let heard = gatherer.hear().expect("something was received");
        gatherer.kill();
        let mut lines = vec![heard];
        lines.extend(std::iter::from_fn(|| gatherer.hear()));
        let (mut start, mut said) = (None, None);
        for line in lines {
            let words: Vec<u64> = line.split(' ').map_while(|word| word.parse().ok()).collect();
            // The last line may be cut.
            let [value, received, missed] = words[..] else { continue };
            let began = value + 1 - received - missed;
            assert_eq!(*start.get_or_insert(began), began, "received and missed is all");
            said = Some(value);
        }
        if let (Some(began), Some(last)) = (start, last) {
            assert!(began <= last + 1, "a gap from {last} to {began}");
            assert!(began + CAPACITY / 8 + 1 > last, "{began} again, after {last}");
        }
        last = said;
        // A sender finds out by itself.
        let lonely = Instant::now();
        let mut more = 0;
        while tx.send([sent; 9]).is_ok() {
            sent += 1;
            more += 1;
            assert!(more <= 2 * CAPACITY && lonely.elapsed() < LONG);
        }
        gatherer = Peer::start("gather", place.path());
        assert_eq!(gatherer.hear().as_deref(), Some("there"));
        assert!(tx.is_connected());
        assert!(!matches!(tx.send([sent; 9]), Err(SendError::Full(_))));
        sent += 1;
    }
}

#[test]
fn large_messages_in_place_are_whole_or_not_there_wherever_their_sender_is_killed() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let options = options(place.path()).kind(kind).capacity(8).senders(2);
        // SAFETY: all who have the memory are this program, and killed ones write nothing more.
        let options = unsafe { options.trusted() };
        let mut rx = options.receiver::<Frame>("test").unwrap();
        for round in 0..6_u64 {
            let mut sender = Peer::start(&format!("frames {kind:?}"), place.path());
            assert_eq!(sender.hear().as_deref(), Some("there"));
            let (mut next, mut said) = (0, None);
            let begun = Instant::now();
            loop {
                match rx.read_chunk_timeout(4, LONG) {
                    Ok(mut chunk) => {
                        let (front, back) = chunk.as_slices().expect("all are trusted");
                        for frame in front.iter().chain(back) {
                            assert!(frame.iter().all(|word| *word == next), "{kind:?}: {next}");
                            next += 1;
                        }
                        let all = chunk.len();
                        chunk.release(all).unwrap();
                    }
                    Err(error) => break assert_eq!(error, RecvTimeoutError::Disconnected),
                }
                if next > 3 * round && begun.elapsed() > Duration::from_millis(3 * round) && said.is_none() {
                    sender.kill();
                    while let Some(more) = sender.hear() {
                        said = Some(more.parse::<u64>().unwrap());
                    }
                    said.get_or_insert(0);
                }
            }
            assert!(said.is_some_and(|said| next > said), "{kind:?}: {said:?} was sent, {next} is next");
        }
    }
}

#[test]
fn a_place_that_a_dead_sender_held_is_nothing() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let mut rx = options(place.path()).kind(kind).receiver::<u64>("test").unwrap();
        let mut sender = Peer::start(&format!("hold {kind:?}"), place.path());
        assert_eq!(sender.hear().as_deref(), Some("held"));
        assert_eq!(rx.recv(), Ok(1));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        sender.kill();
        assert_eq!(rx.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected), "{kind:?}");
        // And takes no room from the next one.
        let mut tx = options(place.path()).kind(kind).sender_in::<u64>("test", LONG).unwrap();
        (0..CAPACITY).for_each(|i| tx.try_send(i).unwrap());
        assert_eq!(rx.drain().collect::<Vec<_>>(), (0..CAPACITY).collect::<Vec<_>>());
    }
}

#[test]
fn a_chunk_that_a_dead_receiver_held_comes_again() {
    for kind in KINDS {
        let place = tempfile::tempdir().unwrap();
        let mut reader = Peer::start(&format!("borrow {kind:?}"), place.path());
        assert_eq!(reader.hear().as_deref(), Some("there"));
        let mut tx = options(place.path()).kind(kind).sender_in::<u64>("test", LONG).unwrap();
        tx.send_slice(&[1, 2, 3]).unwrap();
        assert!(reader.hear().unwrap().parse::<u64>().unwrap() > 0);
        // It stands by for the death of the other.
        let standby = options(place.path()).kind(kind);
        let standby = std::thread::spawn(move || standby.receiver_in::<u64>("test", LONG).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        let killed = Instant::now();
        reader.kill();
        let mut rx = standby.join().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(2));
        let got: Vec<_> = (0..3).map(|_| rx.recv().unwrap()).collect();
        assert_eq!(got, [1, 2, 3], "{kind:?}");
        tx.send(4).unwrap();
        assert_eq!(rx.recv(), Ok(4));
    }
}

#[test]
fn regress_an_end_that_cannot_be_opened_leaves_no_name() {
    let starving = KINDS.iter().map(|kind| format!("starve {kind:?}"));
    for role in starving.chain(["starve-publisher Lanes".to_owned()]) {
        let place = tempfile::tempdir().unwrap();
        let mut starved = Peer::start(&role, place.path());
        let refused: u32 = starved.hear().expect("it went through").parse().unwrap();
        assert!((3..40).contains(&refused), "{role}: {refused} were refused");
    }
}

#[test]
fn a_fork_child_can_neither_send_nor_receive_what_its_parent_holds() {
    // SAFETY: a channel without a name; a child of this process has the memory too, and does nothing but what is below.
    for options in [Options::new(), unsafe { Options::new().trusted() }] {
        let (mut tx, mut rx) = options.channel::<u64>().unwrap();
        let (mut to, mut from) = options.bytes_channel().unwrap();
        tx.send_slice(&[1, 2]).unwrap();
        to.send(b"one").unwrap();
        let mut place = tx.reserve().unwrap();
        place.set(&3);
        let chunk = rx.read_chunk(1).unwrap();
        let message = from.read().unwrap();
        let mut room = to.reserve(3).unwrap();
        room.set(0, b"two").unwrap();
        // SAFETY: the child calls what allocates nothing and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            place.set(&4);
            let refused = place.as_mut().is_none()
                && place.commit() == Err(SendError::ForkedChild(()))
                && room.commit(3) == Err(SendError::ForkedChild(()))
                && chunk.release(1).is_ok();
            drop(message);
            // SAFETY: ends this process without what the runner of the tests would do.
            unsafe { libc::_exit(i32::from(!refused)) };
        }
        let mut status = -1;
        // SAFETY: the child of above, and a word of ours.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, status), (child, 0));
        chunk.release(0).unwrap();
        place.commit().unwrap();
        room.commit(3).unwrap();
        assert_eq!(message.len(), 3);
        drop(message);
        assert_eq!(rx.drain().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(from.recv().unwrap(), b"two");
    }
}
