//! The examples, in processes of their own; some are killed.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tidewire::shm::Segment;

const PATIENCE: Duration = Duration::from_secs(30);

/// The example, built as this test was: `target/debug/deps/...`, `target/debug/examples/...`. A whole `cargo test` has built
/// it already; one of some tests has not, or has an old one.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let examples = BUILT.get_or_init(|| {
        let test = env::current_exe().unwrap();
        let built = test.parent().and_then(Path::parent).unwrap();
        let profile = match built.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        // Those that this test was built with: with others all would be built anew.
        let chosen = [
            (cfg!(feature = "futures"), "futures"),
            (cfg!(feature = "serde"), "serde"),
            (cfg!(feature = "smol"), "smol"),
            (cfg!(feature = "tokio"), "tokio"),
        ];
        let features: Vec<_> = chosen.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--examples", "--profile", profile, "--features", &features.join(",")])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"])
            .arg(built.parent().unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built.join("examples")
    });
    examples.join(name)
}

/// A name of this test alone, which is taken away whatever happens.
struct Name(String);

impl Name {
    fn new(what: &str) -> Self {
        Self(format!("test-{what}-{}", std::process::id()))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _gone = Segment::unlink(&self.0);
    }
}

/// A process that is killed if it is not awaited.
struct Running(Option<Child>);

impl Running {
    fn start(name: &str, args: &[&str]) -> Self {
        let child = Command::new(example(name))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(Some(child))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn input(&mut self) -> ChildStdin {
        self.child().stdin.take().unwrap()
    }

    /// A line of its output.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let output = self.child().stdout.as_mut().unwrap();
        let mut byte = [0];
        // Not more than the line: what follows is for the next.
        while output.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    /// Waits for its end, with patience.
    fn end(mut self) -> Output {
        let start = Instant::now();
        while self.child().try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "expected it to end, and it did not");
            thread::sleep(Duration::from_millis(1));
        }
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    fn ends_well(self) -> String {
        let output = self.end();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _dead = (child.kill(), child.wait());
        }
    }
}

fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "expected {what}, and it did not come");
        thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_owner(name: &Name) {
    wait_until("somebody who receives", || tidewire::inspect(&name.0).is_ok_and(|it| it.entry.here == 1));
}

#[test]
fn work_queue_does_all_work_of_all_senders() {
    let name = Name::new("jobs");
    let serving = Running::start("work_queue", &["serve", &name.0, "3"]);
    wait_for_owner(&name);
    let senders: Vec<Running> =
        (0..3).map(|_| Running::start("work_queue", &["send", &name.0, "20000"])).collect();
    for sender in senders {
        assert_eq!(sender.ends_well(), "20000 jobs sent\n");
    }
    assert_eq!(serving.ends_well(), "60000 jobs done, of weight 120000\n");
    assert!(tidewire::inspect(&name.0).is_err(), "nothing is left");
}

/// The first number of a line.
fn total(line: &str) -> u64 {
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn work_queue_outlives_a_sender_that_is_killed() {
    let name = Name::new("killed-jobs");
    let serving = Running::start("work_queue", &["serve", &name.0, "2"]);
    wait_for_owner(&name);
    let mut endless = Running::start("work_queue", &["send", &name.0, "1000000000000"]);
    wait_until("a sender", || tidewire::inspect(&name.0).is_ok_and(|it| it.entry.here == 2));
    let orderly = Running::start("work_queue", &["send", &name.0, "5000"]);
    assert_eq!(orderly.ends_well(), "5000 jobs sent\n");
    endless.child().kill().unwrap();
    assert_eq!(endless.end().status.signal(), Some(9));
    assert!(total(&serving.ends_well()) >= 5000);
}

#[test]
fn work_queue_tells_senders_that_the_receiver_was_killed() {
    let name = Name::new("dead-jobs");
    let mut serving = Running::start("work_queue", &["serve", &name.0, "1"]);
    wait_for_owner(&name);
    let mut sending = Running::start("work_queue", &["send", &name.0, "1000000000000"]);
    wait_until("a sender", || tidewire::inspect(&name.0).is_ok_and(|it| it.entry.here == 2));
    serving.child().kill().unwrap();
    let start = Instant::now();
    wait_until("the end of the sender", || sending.child().try_wait().unwrap().is_some());
    assert!(start.elapsed() < Duration::from_secs(2));
    let output = sending.end();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("Disconnected"), "{errors}");
}

#[test]
fn sensor_keeps_the_last_value_of_a_killed_process_and_goes_on_with_the_next() {
    let name = Name::new("pose");
    let mut watching = Running::start("sensor", &["watch", &name.0, "100000"]);
    let mut measuring = Running::start("sensor", &["measure", &name.0, "1000000"]);
    assert_eq!(measuring.line(), "version 0");
    // It wakes for values that come one after the other.
    let seen: Vec<u64> = (0..5).map(|_| next_version(&mut watching)).collect();
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    measuring.child().kill().unwrap();
    assert_eq!(measuring.end().status.signal(), Some(9));
    let mut last = *seen.last().unwrap();
    let gone = loop {
        let line = watching.line();
        if line.starts_with("gone") {
            break line;
        }
        last = version(&line);
    };
    assert_eq!(gone, format!("gone, last seen at {last}"), "one for each version");

    let mut again = Running::start("sensor", &["measure", &name.0, "50"]);
    assert_eq!(again.line(), format!("version {last}"));
    assert_eq!(next_version(&mut watching), last + 1);
    again.ends_well();
    let mut rx = tidewire::reader::<[f64; 3]>(&name.0);
    assert!(rx.is_err(), "its fields have names");
    rx = tidewire::Options::new().latest_reader_in(&format!("{}-none", name.0), Duration::ZERO);
    assert!(rx.is_err());
}

/// The next version that is seen; a writer that is just coming may be taken for one that is gone.
fn next_version(watching: &mut Running) -> u64 {
    loop {
        let line = watching.line();
        if !line.starts_with("gone") {
            return version(&line);
        }
    }
}

/// The number in front of a colon.
fn version(line: &str) -> u64 {
    line.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn file_pipe_copies_a_file() {
    let (name, place) = (Name::new("pipe"), tempfile::tempdir().unwrap());
    let paths = [place.path().join("from"), place.path().join("to")];
    let data: Vec<u8> = (0..5_000_003_u64).map(|i| ((i * i) >> 7) as u8).collect();
    fs::write(&paths[0], &data).unwrap();
    let [from, to] = paths.each_ref().map(|path| path.to_str().unwrap());
    let receiving = Running::start("file_pipe", &["receive", to, &name.0]);
    wait_for_owner(&name);
    let sending = Running::start("file_pipe", &["send", from, &name.0]);
    assert_eq!(sending.ends_well(), "5000003 bytes\n");
    assert_eq!(receiving.ends_well(), "5000003 bytes\n");
    assert!(fs::read(to).unwrap() == data);
}

#[test]
fn file_pipe_tells_that_the_sender_was_killed() {
    let (name, place) = (Name::new("cut-pipe"), tempfile::tempdir().unwrap());
    let to = place.path().join("to");
    let receiving = Running::start("file_pipe", &["receive", to.to_str().unwrap(), &name.0]);
    wait_for_owner(&name);
    let mut sending = Running::start("file_pipe", &["send", "-", &name.0]);
    let mut input = sending.input();
    // Much more than is gathered.
    input.write_all(&vec![7; 1 << 20]).unwrap();
    wait_until("bytes", || fs::metadata(&to).is_ok_and(|file| file.len() > 1 << 18));
    sending.child().kill().unwrap();
    sending.end();
    let output = receiving.end();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("UnexpectedEof"), "{errors}");
    let got = fs::read(&to).unwrap();
    assert!(got.len() <= 1 << 20 && got.iter().all(|byte| *byte == 7));
}

/// What a subscriber says at its end: received, missed, the number of the last.
fn ticks(line: &str) -> [u64; 3] {
    let words: Vec<&str> = line.split([' ', ',']).collect();
    // "R received, M missed, the last was L at P".
    [0, 3, 9].map(|at| words[at].parse().unwrap())
}

#[test]
fn ticker_tells_every_subscriber_exactly_what_it_missed() {
    let name = Name::new("ticks");
    let subscribers: Vec<Running> =
        (0..3).map(|_| Running::start("ticker", &["subscribe", &name.0])).collect();
    let publishing = Running::start("ticker", &["publish", &name.0, "3", "200000"]);
    assert_eq!(publishing.ends_well(), "200000 ticks published\n");
    for subscriber in subscribers {
        let [received, missed, last] = ticks(&subscriber.ends_well());
        assert_eq!((received + missed, last), (200_000, 200_000));
        assert!(received > 0);
    }
    assert!(tidewire::inspect(&name.0).is_err(), "nothing is left");
}

/// As the example has it.
#[derive(Clone, Copy, tidewire::Message)]
#[repr(C)]
struct Tick {
    number: u64,
    price: f64,
}

#[test]
fn ticker_outlives_subscribers_and_they_get_all_that_a_killed_publisher_published() {
    let name = Name::new("killed-ticks");
    let mut doomed = Running::start("ticker", &["subscribe", &name.0]);
    let staying = Running::start("ticker", &["subscribe", &name.0]);
    let mut publishing = Running::start("ticker", &["publish", &name.0, "2", "1000000000000"]);
    wait_until("all three", || tidewire::inspect(&name.0).is_ok_and(|it| it.entry.here == 3));
    // It waits for both before it begins.
    let mut look = tidewire::Options::new().observer::<Tick>(&name.0).unwrap();
    wait_until("a tick", || look.try_recv().is_ok());
    doomed.child().kill().unwrap();
    assert_eq!(doomed.end().status.signal(), Some(9));
    thread::sleep(Duration::from_millis(50));
    assert!(publishing.child().try_wait().unwrap().is_none(), "it does not mind");
    publishing.child().kill().unwrap();
    assert_eq!(publishing.end().status.signal(), Some(9));
    let [received, missed, last] = ticks(&staying.ends_well());
    assert!(last > 0 && received + missed == last, "{received} + {missed}, {last}");
}

#[test]
fn rpc_answers_everybody_and_does_not_mind_the_death_of_one() {
    let name = Name::new("sums");
    let mut serving = Running::start("rpc", &["serve", &name.0]);
    let mut endless = Running::start("rpc", &["ask", &name.0, "1000000000000"]);
    let asking: Vec<Running> = (0..2).map(|_| Running::start("rpc", &["ask", &name.0, "4000"])).collect();
    // The numbers below 1000; and of each n, n and the two behind it.
    let total = 999 * 1000 / 2 + 3 * (3999 * 4000 / 2) + 3 * 4000_u64;
    for one in asking {
        assert_eq!(one.ends_well(), format!("4000 answers, {total} in all\n"));
    }
    endless.child().kill().unwrap();
    assert_eq!(endless.end().status.signal(), Some(9));
    let another = Running::start("rpc", &["ask", &name.0, "4000"]);
    assert_eq!(another.ends_well(), format!("4000 answers, {total} in all\n"));
    serving.child().kill().unwrap();
}

#[test]
fn rpc_tells_those_who_ask_that_the_server_was_killed() {
    let name = Name::new("dead-sums");
    let mut serving = Running::start("rpc", &["serve", &name.0]);
    let mut asking = Running::start("rpc", &["ask", &name.0, "1000000000000"]);
    wait_until("a client", || tidewire::inspect(&name.0).is_ok_and(|it| it.entry.here == 2));
    thread::sleep(Duration::from_millis(20));
    serving.child().kill().unwrap();
    let start = Instant::now();
    wait_until("the end of who asks", || asking.child().try_wait().unwrap().is_some());
    assert!(start.elapsed() < Duration::from_secs(2));
    let output = asking.end();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("Disconnected"), "{errors}");
}

#[test]
fn chat_carries_lines_both_ways_and_tells_who_left() {
    let (ann, bob) = (Name::new("ann"), Name::new("bob"));
    let talk = || {
        let mut both =
            [[&ann, &bob], [&bob, &ann]].map(|[me, other]| Running::start("chat", &[&me.0, &other.0]));
        assert_eq!(both[0].line(), format!("{} is here", bob.0));
        assert_eq!(both[1].line(), format!("{} is here", ann.0));
        let mut inputs = both.each_mut().map(Running::input);
        for (from, to, name) in [(0, 1, &ann), (1, 0, &bob)] {
            for text in ["well, hello", "and more"] {
                writeln!(inputs[from], "{text}").unwrap();
                assert_eq!(both[to].line(), format!("{}: {text}", name.0));
            }
        }
        (both, inputs)
    };
    // One ends what it types.
    let ([first, mut second], [input, _kept]) = talk();
    drop(input);
    assert_eq!(first.ends_well(), "");
    assert_eq!(second.line(), format!("{} is gone", ann.0));
    second.ends_well();
    // One is killed.
    let ([mut first, mut second], _kept) = talk();
    second.child().kill().unwrap();
    assert_eq!(second.end().status.signal(), Some(9));
    assert_eq!(first.line(), format!("{} is gone", bob.0));
    first.ends_well();
}

#[test]
fn examples_say_how_they_are_used() {
    for name in ["work_queue", "sensor", "file_pipe", "ticker", "rpc", "chat"] {
        let output = Running::start(name, &["dance"]).end();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains("expected: "), "{name}: {errors}");
        assert!(output.stdout.is_empty());
    }
}

/// What it says about time depends on the machine; that each wake-up came, and was counted, does not.
#[cfg(feature = "tokio")]
#[test]
fn async_wake_measures_all_three_ways() {
    let output = Command::new(example("async_wake")).arg("20").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, way) in lines.iter().zip(["an eventfd", "a channel, by tokio", "a channel, by its own thread"])
    {
        assert!(line.starts_with(way) && line.contains("p50") && !line.contains(" 0.00 us"), "{text}");
    }
}
