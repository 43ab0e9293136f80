//! `stress` in real processes: right structures pass, broken ones do not, and nothing is left behind.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Runs `stress` with these arguments to its end.
fn stress(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire-harness"));
    command.arg("stress").args(arguments).stdin(Stdio::null());
    command
}

/// The rows that it printed.
fn rows(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn number(row: &Value, name: &str) -> u64 {
    row.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("{name} in {row}"))
}

/// Rows of a run that must be right.
fn verified(output: &Output) -> Vec<Value> {
    let rows = rows(output);
    assert!(output.status.success(), "{rows:?}\n{}", stderr(output));
    for row in &rows {
        assert_eq!(row.get("verified"), Some(&Value::Bool(true)), "{row}\n{}", stderr(output));
        assert_eq!(row.get("history_good"), Some(&Value::Bool(true)), "{row}");
        assert!(number(row, "history_events") > number(row, "kills"), "{row}");
        assert!(number(row, "received") > 0, "{row}");
        assert_eq!(number(row, "sent"), number(row, "received"), "{row}");
        for fault in ["lost", "duplicated", "reordered", "torn"] {
            assert_eq!(number(row, fault), 0, "{row}");
        }
    }
    rows
}

const FIELDS: [&str; 22] = [
    "structure",
    "payload_bytes",
    "mode",
    "producers",
    "sent",
    "received",
    "lost",
    "duplicated",
    "reordered",
    "torn",
    "msgs_per_s",
    "bytes_per_s",
    "rtt_p50_ns",
    "rtt_p99_ns",
    "rtt_p999_ns",
    "raw_rtt_ns",
    "history_events",
    "history_good",
    "verified",
    "kills",
    "stops",
    "seed",
];

#[test]
fn a_short_stress_verifies_every_structure() {
    let rings = ["--structure", "ring-fixed", "--structure", "ring-bytes"];
    let output = stress(&[&["--json", "--seconds", "4", "--seed", "11"], &rings[..]].concat());
    let rows = verified(&output);
    let key = |row: &Value| (row["structure"].as_str().unwrap().to_owned(), number(row, "payload_bytes"));
    let keys: Vec<_> = rows.iter().map(key).collect();
    let fixed = |bytes| ("ring-fixed".to_owned(), bytes);
    assert_eq!(keys, [fixed(8), fixed(64), fixed(1024), ("ring-bytes".to_owned(), 43)]);
    for row in &rows {
        let names: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), FIELDS.len(), "{names:?}");
        assert!(FIELDS.iter().all(|field| row.get(*field).is_some()), "{row}");
        assert!(row["rtt_p50_ns"].is_null() && row["raw_rtt_ns"].is_null());
        assert_eq!(number(row, "seed"), 11);
    }
    let sum = |name| rows.iter().map(|row| number(row, name)).sum::<u64>();
    assert!(sum("kills") > 0 && sum("stops") > 0, "{rows:?}");
    assert!(stderr(&output).starts_with("seed 11;"), "{}", stderr(&output));
}

#[test]
fn one_processor_and_extreme_priorities_change_nothing() {
    let output = stress(&[
        "--json",
        "--seconds",
        "2",
        "--seed",
        "3",
        "--one-core",
        "--nice",
        "--structure",
        "ring-bytes",
    ]);
    assert_eq!(verified(&output).len(), 1);
}

#[test]
fn a_drawn_seed_is_printed_first() {
    let output = stress(&["--seconds", "1", "--structure", "ring-fixed", "--payload", "64"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", stderr(&output));
    let seed = text.strip_prefix("seed ").and_then(|rest| rest.split(';').next()).unwrap();
    seed.parse::<u64>().unwrap();
    assert!(text.trim_end().ends_with(&format!("seed {seed}")), "{text}");
}

#[test]
fn the_same_seed_plans_the_same_events() {
    let plan = |seed, more: &[&str]| {
        let output = stress(&[&["--plan", "6", "--seed", seed], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        output.stdout
    };
    let one = plan("21", &[]);
    assert_eq!(one.iter().filter(|byte| **byte == b'\n').count(), 6);
    assert_eq!(one, plan("21", &[]));
    assert_ne!(one, plan("22", &[]));
    assert_ne!(one, plan("21", &["--one-core"]));
}

#[test]
fn every_twin_is_caught_and_the_right_ring_is_not() {
    let output = stress(&["--twins", "--json", "--seed", "1"]);
    let rows = rows(&output);
    assert!(output.status.success(), "{rows:?}\n{}", stderr(&output));
    assert!(rows.iter().all(|row| row["caught"] == true), "{rows:?}");
    let names: Vec<&str> = rows.iter().map(|row| row["twin"].as_str().unwrap()).collect();
    let expected = [
        "twin-early-acknowledge",
        "twin-early-release",
        "twin-blind-empty",
        "twin-blind-full",
        "twin-stuck",
        "twin-lossy",
        "twin-never-released",
        "twin-always-full",
        "twin-bundle-lossy",
        "twin-mpsc-hasty",
        "cell without a mark",
        "cell whose readers do not look twice",
        "cell that publishes first",
        "cell whose readers wait for ever",
        "cell whose role is for everybody",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_twin_that_is_stressed_by_name_fails_the_run_and_tells_how_to_play_it_again() {
    let output =
        stress(&["--json", "--seconds", "2", "--seed", "5", "--structure", "twin-early-acknowledge"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let rows = rows(&output);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["verified"], false);
    assert!(number(&rows[0], "lost") > 0, "{rows:?}");
    let said = stderr(&output);
    assert!(said.contains("stress --seed 5 --round ") && said.contains("lost "), "{said}");
}

#[test]
fn a_hang_is_reported_with_what_both_sides_did_last() {
    let output = stress(&[
        "--json",
        "--seconds",
        "1",
        "--seed",
        "5",
        "--structure",
        "twin-stuck",
        "--patience-ms",
        "300",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("nothing moved for 300ms") && said.contains("the consumer's Some("), "{said}");
}

#[test]
fn bad_arguments_are_named() {
    for (arguments, expected) in [
        (["--structure", "heap"], "found heap"),
        (["--payload", "9"], "found 9"),
        (["--seconds", "0"], "1..=86400"),
        (["--seed", "many"], "invalid digit"),
        (["--round", "3"], "--seed"),
        (["--child", "{}"], "orders"),
    ] {
        let output = stress(&arguments);
        assert!(!output.status.success());
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}

/// A running `stress`, killed and waited for when the test ends before it.
struct Running(Option<Child>);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Mostly it has ended.
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// The children of a running `stress`.
fn children(of: &Child) -> Vec<u32> {
    let path = format!("/proc/{0}/task/{0}/children", of.id());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is still there and not just waiting to be forgotten.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with(['Z', 'X'])))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may just have ended.
    let _sent = kill_process(pid, signal);
}

#[test]
fn an_interrupted_or_killed_stress_leaves_no_process() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut command = command(&["--seconds", "30"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // Whoever started these tests in the background may have chosen that interrupts are ignored.
        let heed = || {
            // SAFETY: it changes what this process does with a signal, and nothing else.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            Ok(())
        };
        // SAFETY: the closure makes one call, which may be made between fork and exec.
        unsafe { command.pre_exec(heed) };
        let mut parent = Running::start(command);
        let parent = parent.child();
        let mut seen = Vec::new();
        eventually("two children", || {
            seen = children(parent);
            seen.len() >= 2
        });
        // A stopped child must go, too.
        send(seen[0], Signal::STOP);
        send(parent.id(), signal);
        let status = parent.wait().unwrap();
        assert!(status.signal() == Some(signal.as_raw()) || status.code() == Some(1), "{status:?}");
        eventually("the children are gone", || !seen.iter().any(|pid| alive(*pid)));
    }
}

#[test]
fn a_death_that_nobody_planned_is_reported() {
    let mut command = command(&["--seconds", "10", "--structure", "ring-fixed", "--payload", "8", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut parent = Running::start(command);
    // Some of these hit a process that the plan kills at the same time; hardly all.
    for _ in 0..40 {
        for pid in children(parent.child()) {
            send(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = parent.output();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("ended with signal: 9 (SIGKILL)"), "{}", stderr(&output));
}
