//! Peers that spoil what tells of their death, and then die: whoever waits for them finds out by their lease.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, with small numbers"
)]

mod peer;

use std::path::Path;
use std::time::{Duration, Instant};

use peer::{Peer, listen, role, say};
use tidewire::{
    CallError, Client, Options, Receiver, RecvTimeoutError, SendTimeoutError, SubscribeError, Subscriber,
};

/// What is written over the notice: nothing at all, what no state is, and the thread of a living process.
const WORDS: [u32; 4] = [0, u32::MAX, 0x1234_5678, 1];
const LONG: Duration = Duration::from_secs(20);
/// Far less than the waits last, far more than it takes.
const SOON: Duration = Duration::from_secs(10);

fn options(place: &Path) -> Options {
    Options::new().directory(place.join("segments")).capacity(8)
}

/// Overwrites the notice of this process with a word, but for the kernel's own chain of it: a broken chain helps nobody who
/// wants to be believed alive.
fn spoil(word: u32) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    // Those of peers are mapped too, for reading.
    let own = |line: &&str| line.contains("memfd:tidewire-notice") && line.contains(" rw");
    let notice = maps.lines().find(own).expect("a notice");
    let start = usize::from_str_radix(notice.split('-').next().unwrap(), 16).unwrap();
    for at in (start..start + 4096).step_by(4) {
        let at = std::ptr::with_exposed_provenance_mut::<u32>(at);
        // SAFETY: a page of this process that is mapped for writing; only the kernel and peers look at it.
        unsafe { at.write_volatile(word) };
    }
}

/// What a peer does: opens an end, spoils its notice when it is told with what, and waits for its death.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    let options = options(Path::new(&place));
    let stay = |end: &dyn std::any::Any| {
        say("there");
        spoil(listen().parse().unwrap());
        say("spoilt");
        listen();
        let _held = end;
    };
    match role.as_str() {
        "receiver" => stay(&options.receiver::<u64>("test").unwrap()),
        "sender" => stay(&options.sender_in::<u64>("test", LONG).unwrap()),
        "server" => stay(&options.server::<u64, u64>("test").unwrap()),
        "publisher" => stay(&options.publisher::<u64>("test").unwrap()),
        other => panic!("no such role: {other}"),
    }
}

/// Has a wait for a peer that spoils its notice, before the wait or during it, and is killed during it.
fn killed_while_waiting<E: Send>(
    role: &str,
    mut open: impl FnMut(&Options) -> E,
    wait: impl Fn(&mut E) + Sync,
) {
    for (round, word) in WORDS.into_iter().chain(WORDS).enumerate() {
        let place = tempfile::tempdir().unwrap();
        let options = options(place.path());
        let before = role == "sender";
        let mut end = before.then(|| open(&options));
        let mut peer = Peer::start(role, place.path());
        assert_eq!(peer.hear().as_deref(), Some("there"));
        let spoil = |peer: &mut Peer| {
            peer.tell(&word.to_string());
            assert_eq!(peer.hear().as_deref(), Some("spoilt"));
        };
        if round < WORDS.len() {
            spoil(&mut peer);
        }
        let mut end = end.take().unwrap_or_else(|| open(&options));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&mut end));
            std::thread::sleep(Duration::from_millis(30));
            if round >= WORDS.len() {
                spoil(&mut peer);
            }
            peer.kill();
            let killed = Instant::now();
            waiting.join().unwrap();
            assert!(killed.elapsed() < SOON, "{role}, {word:#x}: {:?}", killed.elapsed());
        });
    }
}

#[test]
fn a_sender_finds_out() {
    killed_while_waiting(
        "receiver",
        |options| options.sender_in::<u64>("test", LONG).unwrap(),
        |sender| {
            // Until there is no more room, and then for as long as somebody could make some.
            let error = (0..).find_map(|i| sender.send_timeout(i, LONG).err()).unwrap();
            assert!(matches!(error, SendTimeoutError::Disconnected(_)), "{error}");
        },
    );
}

#[test]
fn a_receiver_finds_out() {
    killed_while_waiting(
        "sender",
        |options| options.receiver::<u64>("test").unwrap(),
        |receiver: &mut Receiver<u64>| {
            assert_eq!(receiver.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
        },
    );
}

#[test]
fn a_caller_finds_out() {
    killed_while_waiting(
        "server",
        |options| options.client_in::<u64, u64>("test", LONG).unwrap(),
        |client: &mut Client<u64, u64>| {
            let error = client.call_timeout(1, LONG).unwrap_err();
            assert!(matches!(error, CallError::Disconnected), "{error}");
        },
    );
}

#[test]
fn a_subscriber_finds_out() {
    killed_while_waiting(
        "publisher",
        |options| options.subscriber_in::<u64>("test", LONG).unwrap(),
        |subscriber: &mut Subscriber<u64>| {
            let error = subscriber.recv_timeout(LONG).unwrap_err();
            assert!(matches!(error, SubscribeError::Disconnected), "{error}");
        },
    );
}
