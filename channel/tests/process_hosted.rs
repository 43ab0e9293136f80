//! Ends in the runtimes of others, against real processes: nothing is lost whenever a future is dropped, and the death of a
//! peer ends the same await.
#![cfg(all(feature = "tokio", feature = "smol"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::semicolon_if_nothing_returned,
    reason = "tests may panic, and say their seeds"
)]

mod peer;

use std::future::Future;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use futures_lite::future::or;
use peer::{Peer, listen, role, say};
use rustix::process::Signal;
use tidewire::smol::OnSmol;
use tidewire::tokio::OnTokio;
use tidewire::{CallError, Hosted, Options, RecvError, SendError, SubscribeError, WaitError};

const LONG: Duration = Duration::from_secs(20);
/// What a death may take to be told, the quickest time: about a millisecond where nothing else runs.
const TOLD: Duration = Duration::from_millis(50);
const MESSAGES: u64 = 3000;

fn options(place: &Path) -> Options {
    Options::new().directory(place.join("segments")).capacity(16).senders(2)
}

/// Numbers that look random, from a seed that is printed when a test fails.
struct Numbers(u64);

impl Numbers {
    fn new(test: &str) -> Self {
        let seed = u64::from(std::process::id()) << 16 | test.len() as u64;
        eprintln!("{test}: seed {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 31) % bound
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Runtime {
    Tokio,
    Smol,
}

impl Runtime {
    const ALL: [Self; 2] = [Self::Tokio, Self::Smol];

    fn block_on<R>(self, future: impl Future<Output = R>) -> R {
        match self {
            Self::Tokio => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(future)
            }
            Self::Smol => async_io::block_on(future),
        }
    }

    fn host<E: OnTokio + OnSmol>(self, end: E) -> Hosted<E> {
        match self {
            Self::Tokio => end.on_tokio(),
            Self::Smol => end.on_smol(),
        }
    }
}

/// The future, or nothing if a moment is over before: then it is dropped, wherever it is.
async fn for_a_moment<R>(numbers: &mut Numbers, future: impl Future<Output = R>) -> Option<R> {
    let moment = Duration::from_nanos(numbers.below(200_000));
    let timer = async {
        async_io::Timer::after(moment).await;
        None
    };
    or(async { Some(future.await) }, timer).await
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    let (options, mut numbers) = (options(Path::new(&place)), Numbers::new("peer"));
    let mut rest = || {
        if numbers.below(8) == 0 {
            thread::sleep(Duration::from_micros(numbers.below(300)));
        }
    };
    match role.as_str() {
        "send" => {
            let mut tx = options.sender_in::<u64>("test", LONG).unwrap();
            (0..MESSAGES).for_each(|i| {
                rest();
                tx.send(i).unwrap()
            });
            say("sent");
            listen();
        }
        "send bytes" => {
            let mut tx = options.bytes_sender_in("test", LONG).unwrap();
            (0..MESSAGES).for_each(|i| {
                rest();
                tx.send(i.to_string().as_bytes()).unwrap()
            });
            say("sent");
            listen();
        }
        "receive" => {
            let mut rx = options.receiver::<u64>("test").unwrap();
            say("there");
            for i in 0..MESSAGES {
                rest();
                assert_eq!(rx.recv(), Ok(i));
            }
            say("received");
            listen();
        }
        "publish" => {
            let mut publisher = options.overflow(tidewire::Overflow::Block).publisher::<u64>("test").unwrap();
            assert!(publisher.wait_subscribers(1, LONG));
            (0..MESSAGES).for_each(|i| {
                rest();
                publisher.publish(i).unwrap();
            });
            say("published");
            listen();
        }
        "serve" => {
            let mut server = options.server::<u64, u64>("test").unwrap();
            say("there");
            for request in server.iter() {
                rest();
                if *request == MESSAGES {
                    say("asked for the last time");
                    listen();
                }
                let answer = *request + 1;
                let _cancelled = request.reply(answer);
            }
        }
        "call" => {
            let client = options.client_in::<u64, u64>("test", LONG).unwrap();
            for i in 0..MESSAGES {
                rest();
                assert_eq!(client.call(i), Ok(i + 1));
            }
            say("answered");
            listen();
        }
        "store" => {
            let mut writer = options.latest_writer("test", 0_u64).unwrap();
            say("there");
            for i in 1..=MESSAGES {
                rest();
                writer.store(i).unwrap();
            }
            say("stored");
            listen();
        }
        other => panic!("no such role: {other}"),
    }
}

/// Kills the peer in a moment; says how long the future took from then on.
async fn told<R>(peer: Peer, future: impl Future<Output = R>) -> (R, Duration) {
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        let killed = Instant::now();
        peer.signal(Signal::KILL);
        (killed, peer)
    });
    let result = future.await;
    let then = Instant::now();
    let (killed, _peer) = killer.join().unwrap();
    (result, then.saturating_duration_since(killed))
}

fn assert_told(mut times: Vec<Duration>) {
    times.sort_unstable();
    assert!(times[0] < TOLD, "the quickest of {times:?}");
}

#[test]
fn a_receiver_gets_everything_once_and_is_told_of_a_death() {
    for runtime in Runtime::ALL {
        let mut numbers = Numbers::new("receiver");
        let mut times = Vec::new();
        for _ in 0..3 {
            let place = tempfile::tempdir().unwrap();
            let mut rx = runtime.host(options(place.path()).receiver::<u64>("test").unwrap());
            let mut peer = Peer::start("send", place.path());
            let (last, time) = runtime.block_on(async {
                let mut next = 0;
                while next < MESSAGES {
                    if let Some(got) = for_a_moment(&mut numbers, rx.recv()).await {
                        assert_eq!(got, Ok(next), "{runtime:?}");
                        next += 1;
                    }
                }
                assert_eq!(peer.hear().as_deref(), Some("sent"));
                told(peer, rx.recv()).await
            });
            assert_eq!(last, Err(RecvError::Disconnected), "{runtime:?}");
            times.push(time);
        }
        assert_told(times);
    }
}

#[test]
fn bytes_come_as_a_stream_that_ends_with_their_sender() {
    for runtime in Runtime::ALL {
        let place = tempfile::tempdir().unwrap();
        let mut rx = runtime.host(options(place.path()).capacity(256).bytes_receiver("test").unwrap());
        let mut numbers = Numbers::new("bytes");
        let mut peer = Peer::start("send bytes", place.path());
        let (last, time) = runtime.block_on(async {
            let mut next = 0;
            while next < MESSAGES {
                let got =
                    if next % 2 == 0 { for_a_moment(&mut numbers, rx.recv()).await } else { rx.next().await };
                if let Some(got) = got {
                    assert_eq!(got, Ok(next.to_string().into_bytes()), "{runtime:?}");
                    next += 1;
                }
            }
            assert_eq!(peer.hear().as_deref(), Some("sent"));
            told(peer, rx.next()).await
        });
        assert_eq!(last, None, "{runtime:?}");
        assert!(time < LONG);
    }
}

#[test]
fn a_sender_sends_everything_once_and_is_told_of_a_death() {
    for runtime in Runtime::ALL {
        let mut numbers = Numbers::new("sender");
        let mut times = Vec::new();
        for _ in 0..3 {
            let place = tempfile::tempdir().unwrap();
            let mut peer = Peer::start("receive", place.path());
            assert_eq!(peer.hear().as_deref(), Some("there"));
            let mut tx = runtime.host(options(place.path()).sender_in::<u64>("test", LONG).unwrap());
            let (failed, time) = runtime.block_on(async {
                let mut next = 0;
                while next < MESSAGES {
                    if let Some(sent) = for_a_moment(&mut numbers, tx.send(next)).await {
                        sent.unwrap();
                        next += 1;
                    }
                }
                assert_eq!(peer.hear().as_deref(), Some("received"));
                // Until it is full, and then for room that never comes.
                told(peer, async {
                    loop {
                        if let Err(error) = tx.send(7).await {
                            break error;
                        }
                    }
                })
                .await
            });
            assert_eq!(failed, SendError::Disconnected(7), "{runtime:?}");
            times.push(time);
        }
        assert_told(times);
    }
}

#[test]
fn a_subscriber_misses_nothing_and_is_told_of_a_death() {
    for runtime in Runtime::ALL {
        let place = tempfile::tempdir().unwrap();
        let mut numbers = Numbers::new("subscriber");
        let mut peer = Peer::start("publish", place.path());
        let subscriber = options(place.path()).subscriber_in::<u64>("test", LONG).unwrap();
        let mut subscriber = runtime.host(subscriber);
        let (last, time) = runtime.block_on(async {
            let mut next = 0;
            while next < MESSAGES {
                if let Some(got) = for_a_moment(&mut numbers, subscriber.recv()).await {
                    assert_eq!(got, Ok(next), "{runtime:?}");
                    next += 1;
                }
            }
            assert_eq!(peer.hear().as_deref(), Some("published"));
            told(peer, subscriber.recv()).await
        });
        assert_eq!(last, Err(SubscribeError::Disconnected), "{runtime:?}");
        assert_eq!(subscriber.missed(), 0);
        assert!(time < LONG);
    }
}

#[test]
fn a_reader_sees_the_last_value_and_is_told_of_a_death() {
    for runtime in Runtime::ALL {
        let place = tempfile::tempdir().unwrap();
        let mut numbers = Numbers::new("reader");
        let mut peer = Peer::start("store", place.path());
        assert_eq!(peer.hear().as_deref(), Some("there"));
        let mut reader = options(place.path()).latest_reader::<u64>("test").unwrap();
        let (last, time) = runtime.block_on(async {
            let mut seen = None;
            while seen != Some(MESSAGES) {
                if let Some(found) = for_a_moment(&mut numbers, reader.changed()).await {
                    let found = found.unwrap();
                    assert_eq!(found.value, found.version, "{runtime:?}");
                    assert!(seen.is_none_or(|seen| seen < found.value), "{runtime:?}");
                    seen = Some(found.value);
                }
            }
            assert_eq!(peer.hear().as_deref(), Some("stored"));
            told(peer, reader.changed()).await
        });
        assert_eq!(last, Err(WaitError::WriterGone), "{runtime:?}");
        assert!(time < LONG);
    }
}

#[test]
fn a_call_is_answered_or_cancelled_and_is_told_of_a_death() {
    for runtime in Runtime::ALL {
        let mut numbers = Numbers::new("client");
        let mut times = Vec::new();
        for _ in 0..3 {
            let place = tempfile::tempdir().unwrap();
            let mut peer = Peer::start("serve", place.path());
            assert_eq!(peer.hear().as_deref(), Some("there"));
            let client = options(place.path()).client_in::<u64, u64>("test", LONG).unwrap();
            let mut client = runtime.host(client);
            let (failed, time) = runtime.block_on(async {
                let mut answered = 0;
                while answered < MESSAGES / 3 {
                    // Cancelled anywhere; what comes back is never the answer to another one.
                    if let Some(answer) = for_a_moment(&mut numbers, client.call(answered)).await {
                        assert_eq!(answer, Ok(answered + 1), "{runtime:?}");
                        answered += 1;
                    }
                    let (first, second) = (client.start(7).unwrap(), client.start(8).unwrap());
                    assert_eq!((second.await, first.await), (Ok(9), Ok(8)), "{runtime:?}");
                }
                let last = client.start(MESSAGES).unwrap();
                assert_eq!(peer.hear().as_deref(), Some("asked for the last time"));
                told(peer, last).await
            });
            assert_eq!(failed, Err(CallError::Disconnected), "{runtime:?}");
            times.push(time);
        }
        assert_told(times);
    }
}

#[test]
fn a_server_gets_every_request_whenever_its_future_is_dropped() {
    for runtime in Runtime::ALL {
        let place = tempfile::tempdir().unwrap();
        let mut numbers = Numbers::new("server");
        let mut server = runtime.host(options(place.path()).server::<u64, u64>("test").unwrap());
        let mut peer = Peer::start("call", place.path());
        runtime.block_on(async {
            let mut next = 0;
            while next < MESSAGES {
                if let Some(request) = for_a_moment(&mut numbers, server.recv()).await {
                    let request = request.unwrap();
                    assert_eq!(*request, next, "{runtime:?}");
                    request.reply(next + 1).unwrap();
                    next += 1;
                }
            }
        });
        assert_eq!(peer.hear().as_deref(), Some("answered"));
    }
}
