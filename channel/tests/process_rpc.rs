//! Requests and replies between processes that are killed, stopped, forked, or that lie.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests may panic, and say their seeds")]

mod peer;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use peer::{Peer, listen, role, say};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use tidewire::{
    CallError, Client, OpenError, Options, RecvTimeoutError, Request, Server, TryRecvError, Wait,
};

const NAME: &str = "asked";
const LONG: Duration = Duration::from_secs(20);

fn options(place: &Path) -> Options {
    Options::new().directory(place.join("segments")).senders(4).capacity(8)
}

/// The same clock in all processes.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// Numbers that look random, from a seed that is printed when a test fails.
struct Numbers(u64);

impl Numbers {
    fn new(test: &str) -> Self {
        let seed = u64::from(std::process::id()) << 32 | u64::from(now().subsec_nanos());
        eprintln!("{test}: seed {seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Ends loops, also when an assertion fails beside them.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a peer does.
#[test]
fn peer() {
    let Some((role, place)) = role() else { return };
    let place = PathBuf::from(place);
    match role.as_str() {
        "silent server" => silent_server(&place),
        "server" => serving(&place),
        "leaving server" => leaving_server(&place),
        "waiting client" => waiting_client(&place),
        "busy client" => busy_client(&place),
        "forking" => forking(),
        other => panic!("expected a role, found {other:?}"),
    }
}

/// Takes requests and does not answer; says how many it has.
fn silent_server(place: &Path) -> ! {
    let mut server: Server<u64, u64> = options(place).server(NAME).unwrap();
    say("here");
    let mut held = Vec::new();
    loop {
        held.push(server.recv().unwrap());
        say(held.len());
    }
}

/// Takes a request, and leaves without an answer when it is told to; its process stays.
fn leaving_server(place: &Path) -> ! {
    let mut server: Server<u64, u64> = options(place).server(NAME).unwrap();
    say("here");
    let held = server.recv().unwrap();
    say("asked");
    listen();
    drop(server);
    listen();
    drop(held);
    exit(0);
}

fn serving(place: &Path) -> ! {
    let mut server: Server<u64, u64> = options(place).server(NAME).unwrap();
    say("here");
    for request in server.iter() {
        let answer = *request + 1;
        let _sent = request.reply(answer);
    }
    unreachable!("requests come for ever");
}

/// Calls, and says what came of it, and when.
fn waiting_client(place: &Path) -> ! {
    loop {
        let client: Client<u64, u64> = options(place).client_in(NAME, LONG).unwrap();
        let answer = client.call(1);
        let then = now();
        say(format!("{answer:?} {}", then.as_nanos()));
        listen();
    }
}

/// Calls as fast as it can, in all ways, until it is killed.
fn busy_client(place: &Path) -> ! {
    let client: Client<u64, u64> = options(place).client(NAME).unwrap();
    let mut numbers = Numbers(u64::from(std::process::id()));
    let mut said = false;
    loop {
        let first = numbers.below(1 << 40);
        let flying = 1 + numbers.below(8);
        let pending: Vec<_> = (0..flying).map_while(|i| client.start(first + i).ok()).collect();
        for (i, pending) in (0..).zip(pending) {
            match numbers.below(8) {
                0 => drop(pending),
                _ => assert_eq!(pending.wait(), Ok(first + i + 1)),
            }
        }
        if !said {
            say("calling");
            said = true;
        }
    }
}

unsafe extern "C" {
    safe fn fork() -> i32;
    safe fn _exit(code: i32) -> !;
}

/// In a child of a fork nothing works, and nothing that it drops is taken from its parent.
fn forking() {
    let (client, mut server) = tidewire::service::<u64, u64>().unwrap();
    let pending = client.start(1).unwrap();
    let held = server.recv().unwrap();
    let child = fork();
    if child == 0 {
        let waited = pending.wait();
        let refused = client.call(2) == Err(CallError::ForkedChild)
            && client.start(2).is_err()
            && matches!(server.try_recv(), Err(TryRecvError::ForkedChild))
            && matches!(server.recv_timeout(LONG), Err(RecvTimeoutError::ForkedChild))
            && held.reply(9) == Err(tidewire::ReplyError::ForkedChild)
            && waited == Err(CallError::ForkedChild);
        drop(client);
        drop(server);
        _exit(if refused { 7 } else { 8 });
    }
    let child = rustix::process::Pid::from_raw(child).unwrap();
    let options = rustix::process::WaitOptions::empty();
    let (_, status) = rustix::process::waitpid(Some(child), options).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(7));
    held.reply(5).unwrap();
    assert_eq!(pending.wait(), Ok(5));
    let second = client.start(2).unwrap();
    server.recv().unwrap().reply(6).unwrap();
    assert_eq!(second.wait(), Ok(6));
    drop(server);
    assert_eq!(client.call(3), Err(CallError::Disconnected));
    say("well");
    exit(0);
}

#[test]
fn a_fork_child_takes_nothing_from_its_parent() {
    let place = tempfile::tempdir().unwrap();
    let mut peer = Peer::start("forking", place.path());
    assert_eq!(peer.hear().as_deref(), Some("well"));
}

#[test]
fn all_who_wait_are_told_when_the_server_is_killed() {
    let place = tempfile::tempdir().unwrap();
    let mut clients: Vec<Peer> = Vec::new();
    let mut took = Vec::new();
    for round in 0..5 {
        let mut server = Peer::start("silent server", place.path());
        assert_eq!(server.hear().as_deref(), Some("here"));
        if clients.is_empty() {
            clients = (0..3).map(|_| Peer::start("waiting client", place.path())).collect();
        } else {
            clients.iter_mut().for_each(|client| client.tell("again"));
        }
        for number in ["1", "2", "3"] {
            assert_eq!(server.hear().as_deref(), Some(number));
        }
        // Asleep, or about to be.
        thread::sleep(Duration::from_millis(5 * round));
        let killed = now();
        server.signal(Signal::KILL);
        let mut worst = Duration::ZERO;
        for client in &mut clients {
            let said = client.hear().unwrap();
            let (answer, then) = said.rsplit_once(' ').unwrap();
            assert_eq!(answer, "Err(Disconnected)");
            worst = worst.max(Duration::from_nanos(then.parse().unwrap()).saturating_sub(killed));
        }
        server.child.wait().unwrap();
        took.push(worst);
    }
    // The machine may have been busy with something else once.
    took.sort();
    assert!(took.get(2).is_some_and(|median| *median < Duration::from_millis(100)), "{took:?}");
}

#[test]
fn who_sleeps_is_woken_when_the_server_leaves_in_order() {
    let place = tempfile::tempdir().unwrap();
    let options = options(place.path()).wait(Wait::Park);
    let mut took = Vec::new();
    for _ in 0..5 {
        let mut server = Peer::start("leaving server", place.path());
        assert_eq!(server.hear().as_deref(), Some("here"));
        let client: Client<u64, u64> = options.client(NAME).unwrap();
        let waiting = thread::spawn(move || (client.call_timeout(1, LONG), Instant::now(), client));
        assert_eq!(server.hear().as_deref(), Some("asked"));
        thread::sleep(Duration::from_millis(10));
        let start = Instant::now();
        server.tell("leave");
        let (answer, then, client) = waiting.join().unwrap();
        assert_eq!(answer, Err(CallError::Disconnected));
        assert!(!client.is_connected());
        took.push(then.saturating_duration_since(start));
    }
    // Unwoken, it would sleep until the end of its slice, 40 ms from then.
    took.sort();
    assert!(took.get(2).is_some_and(|median| *median < Duration::from_millis(25)), "{took:?}");
}

#[test]
fn a_killed_client_costs_nobody_anything_and_its_lane_is_used_again() {
    let place = tempfile::tempdir().unwrap();
    // Room for the healthy one, and one more.
    let options = options(place.path()).senders(2);
    let mut server: Server<u64, u64> = options.server(NAME).unwrap();
    let (stop, unserved) = (AtomicBool::new(false), AtomicBool::new(false));
    let calls = AtomicU64::new(0);
    let healthy: Client<u64, u64> = options.client(NAME).unwrap();
    let mut numbers = Numbers::new("killed clients");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut held: Vec<Request<u64, u64>> = Vec::new();
            while !unserved.load(Ordering::Relaxed) {
                if let Ok(request) = server.recv_timeout(Duration::from_millis(1)) {
                    held.push(request);
                }
                // One is left for a while, so that some are answered after the death of who asked.
                while held.len() > 1
                    || (!held.is_empty() && server.try_recv().map(|more| held.push(more)).is_err())
                {
                    let request = held.remove(0);
                    let answer = *request + 1;
                    let _sent = request.reply(answer);
                }
            }
            assert_eq!(server.take_corrupt(), None);
        });
        // Dropped last: until all are answered.
        let _unserved = Ends(&unserved);
        let asking = scope.spawn(|| {
            let healthy = healthy;
            let mut i = 0;
            while !stop.load(Ordering::Relaxed) {
                i += 1;
                assert_eq!(healthy.call_timeout(i, LONG), Ok(i + 1));
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
        let ends = Ends(&stop);
        for round in 0..50 {
            let before = calls.load(Ordering::Relaxed);
            let mut victim = Peer::start("busy client", place.path());
            assert_eq!(victim.hear().as_deref(), Some("calling"), "round {round}");
            thread::sleep(Duration::from_micros(numbers.below(5000)));
            victim.kill();
            let until = Instant::now() + LONG;
            while calls.load(Ordering::Relaxed) == before {
                assert!(Instant::now() < until, "nobody is answered after round {round}");
                thread::yield_now();
            }
        }
        let last: Client<u64, u64> = options.client(NAME).unwrap();
        assert!(matches!(options.client::<u64, u64>(NAME), Err(OpenError::Exhausted { .. })));
        for i in 0..100 {
            assert_eq!(last.call_timeout(i, LONG), Ok(i + 1));
        }
        drop(ends);
        asking.join().unwrap();
    });
}

#[test]
fn a_stopped_server_is_no_dead_one_and_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let mut server = Peer::start("server", place.path());
    assert_eq!(server.hear().as_deref(), Some("here"));
    let client: Client<u64, u64> = options(place.path()).client(NAME).unwrap();
    assert_eq!(client.call(1), Ok(2));
    for round in 1..=3 {
        server.stop();
        for i in 0..2 {
            let start = Instant::now();
            let answer = client.call_timeout(100 * round + i, Duration::from_millis(30));
            assert_eq!(answer, Err(CallError::Timeout));
            assert!(start.elapsed() >= Duration::from_millis(30));
        }
        let taken: Result<Server<u64, u64>, _> = options(place.path()).server(NAME);
        assert!(matches!(taken, Err(OpenError::Taken { .. })));
        assert_eq!(client.in_flight(), 2);
        server.signal(Signal::CONT);
        // The answers that come late are for nobody.
        for i in 0..20 {
            assert_eq!(client.call_timeout(i, LONG), Ok(i + 1));
        }
        assert_eq!(client.in_flight(), 0);
    }
    server.kill();
    assert_eq!(client.call(1), Err(CallError::Disconnected));
    // Another one takes its place, for the same client.
    let mut next = Peer::start("server", place.path());
    assert_eq!(next.hear().as_deref(), Some("here"));
    assert_eq!(client.call_timeout(7, LONG), Ok(8));
}

#[test]
fn a_stopped_client_delays_nobody() {
    let place = tempfile::tempdir().unwrap();
    let mut server: Server<u64, u64> = options(place.path()).server(NAME).unwrap();
    let client: Client<u64, u64> = options(place.path()).client(NAME).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Ok(request) = server.recv_timeout(Duration::from_millis(1)) {
                    let answer = *request + 1;
                    // Also for the stopped one there is room for every answer.
                    assert_eq!(request.reply(answer), Ok(()));
                }
            }
        });
        let _ends = Ends(&stop);
        let mut other = Peer::start("busy client", place.path());
        assert_eq!(other.hear().as_deref(), Some("calling"));
        for _ in 0..5 {
            other.stop();
            for i in 0..2000 {
                assert_eq!(client.call_timeout(i, LONG), Ok(i + 1));
            }
            other.signal(Signal::CONT);
            thread::sleep(Duration::from_millis(2));
        }
        other.stop();
    });
}

/// The only file of a directory.
fn file_of(place: &Path) -> File {
    let files: Vec<_> =
        std::fs::read_dir(place.join("segments")).unwrap().map(|file| file.unwrap().path()).collect();
    let file = files.iter().find(|path| path.to_string_lossy().contains(NAME)).unwrap();
    OpenOptions::new().read(true).write(true).open(file).unwrap()
}

/// Overwrites words that are in use, in a way that may look right.
fn scribble(file: &File, words: u64, numbers: &mut Numbers) {
    let mut word = [0; 8];
    // The first pages are looked at more often, and words that hold something are worth more than others.
    for _ in 0..64 {
        let at = 8 * numbers.below(words);
        file.read_exact_at(&mut word, at).unwrap();
        let found = u64::from_le_bytes(word);
        if found == 0 && numbers.below(16) != 0 {
            continue;
        }
        let value = match numbers.below(6) {
            0 => numbers.next(),
            1 => numbers.below(256),
            2 => found.wrapping_add(8 * numbers.below(64)),
            3 => found ^ 1 << numbers.below(64),
            4 => found.wrapping_sub(numbers.below(1024)),
            _ => u64::MAX,
        };
        file.write_all_at(&value.to_le_bytes(), at).unwrap();
        return;
    }
}

#[test]
fn a_scribbler_gets_errors_or_answers_and_nothing_else() {
    let mut numbers = Numbers::new("scribbler");
    let (mut answers, mut others) = (0, 0);
    for trial in 0..40 {
        let place = tempfile::tempdir().unwrap();
        let options = options(place.path()).senders(2);
        let server = options.bytes_server(NAME, 100).unwrap();
        let client = options.bytes_client(NAME).unwrap();
        let file = file_of(place.path());
        let words = file.metadata().unwrap().len() / 8;
        let stop = AtomicBool::new(false);
        let pause = Duration::from_micros(numbers.below(2000));
        let until = Instant::now() + Duration::from_millis(40);
        let counted = thread::scope(|scope| {
            scope.spawn(|| {
                let mut server = server;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let mut held = Vec::new();
                    while let Ok(request) = server.recv_timeout(Duration::from_millis(5)) {
                        held.push(request);
                        if held.len() > 2 || stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    for request in held {
                        let _asked = request.is_cancelled();
                        let answer = request.to_vec();
                        let _sent = request.reply(&answer);
                    }
                    let _found = server.take_corrupt();
                    assert!(start.elapsed() < LONG, "the server was kept");
                }
            });
            let calling = scope.spawn(|| {
                let client = client;
                let mut counted = [0_u32; 2];
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let pending: Vec<_> = (0..4).map_while(|i| client.start(&[i; 60]).ok()).collect();
                    for mut pending in pending {
                        let answer = pending.wait_timeout(Duration::from_millis(3));
                        counted[usize::from(answer.is_err())] += 1;
                    }
                    let answer = client.call_timeout(b"whole", Duration::from_millis(3));
                    counted[usize::from(answer.is_err())] += 1;
                    assert!(start.elapsed() < LONG, "the client was kept");
                }
                counted
            });
            let ends = Ends(&stop);
            while Instant::now() < until {
                scribble(&file, words, &mut numbers);
                thread::sleep(pause);
            }
            // Whoever comes now gets an end or an error.
            let start = Instant::now();
            if let Ok(late) = options.bytes_client(NAME) {
                let _answer = late.call_timeout(b"late", Duration::from_millis(3));
            }
            assert!(start.elapsed() < LONG, "trial {trial}: opening was kept");
            drop(ends);
            calling.join().unwrap()
        });
        answers += counted[0];
        others += counted[1];
    }
    assert!(answers > 0 && others > 0, "{answers} answers, {others} errors");
}
