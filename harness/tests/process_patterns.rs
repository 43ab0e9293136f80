//! Rows of the message layer, in real processes: right ones are verified, broken ones are not, and nothing is left behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PATTERNS: [&str; 10] = [
    "channel",
    "channel-bytes",
    "channel-ordered",
    "channel-single",
    "channel-async",
    "channel-serde",
    "publish",
    "publish-lossy",
    "latest",
    "request",
];

/// Those whose receiver is killed and followed by another one.
const FOLLOWED: [&str; 5] =
    ["channel", "channel-bytes", "channel-ordered", "channel-single", "channel-serde"];

/// What a death may take to be told, in the median: 0.2 ms where nothing else runs.
const TOLD_US: u64 = 50_000;

fn harness(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire-harness"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs these patterns.
fn of_patterns(names: &[&str], more: &[&str]) -> Output {
    let named = names.iter().flat_map(|name| ["--structure", name]);
    harness(&["run", "--json"].into_iter().chain(named).chain(more.iter().copied()).collect::<Vec<_>>())
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap()
}

fn text<'r>(row: &'r Value, name: &str) -> &'r str {
    row[name].as_str().unwrap()
}

#[test]
fn every_pattern_streams_and_outlives_deaths() {
    let output = of_patterns(&PATTERNS, &["--seconds", "8"]);
    let rows = rows(&output);
    assert!(output.status.success(), "{rows:?}\n{}", said(&output));
    assert_eq!(said(&output), "");
    let keys: Vec<_> = rows.iter().map(|row| (text(row, "structure"), text(row, "mode"))).collect();
    for pattern in PATTERNS {
        assert!(keys.contains(&(pattern, "stream")), "{keys:?}");
        // Without the one sender there is nobody who could go on.
        assert_eq!(keys.contains(&(pattern, "killed")), pattern != "channel-single", "{keys:?}");
        assert_eq!(keys.contains(&(pattern, "followed")), FOLLOWED.contains(&pattern), "{keys:?}");
    }
    for row in &rows {
        assert_eq!(row["verified"], true, "{row}");
        for fault in ["lost", "duplicated", "reordered", "torn", "untold"] {
            assert_eq!(row[fault], 0, "{row}");
        }
        assert!(number(row, "received") > 0, "{row}");
        let (received, sent) = (number(row, "received"), number(row, "sent"));
        if text(row, "mode") == "killed" {
            // The owner and another one, at least; of those who were told, half at once.
            assert!(number(row, "kills") >= 2 && number(row, "stops") >= 2, "{row}");
            assert!(number(row, "told_p50_us") < TOLD_US, "{row}");
            assert!(number(row, "told_us") >= number(row, "told_p50_us"), "{row}");
        } else if text(row, "mode") == "followed" {
            assert!(number(row, "kills") >= 2 && number(row, "told_p50_us") < TOLD_US, "{row}");
            // A ring may lose what one call had taken, in each round.
            let lost = if text(row, "structure") == "channel-single" { number(row, "kills") } else { 0 };
            let (once, again) = (received - number(row, "again"), number(row, "again"));
            assert!(once <= sent && sent <= once + lost && again < sent, "{row}");
        } else {
            let takers = number(row, "takers");
            assert_eq!(received + number(row, "missed"), sent * takers, "{row}");
            assert!(row["msgs_per_s"].as_f64().unwrap() > 0.0, "{row}");
            let lossy = ["publish-lossy", "latest"].contains(&text(row, "structure"));
            assert_eq!(number(row, "missed") > 0, lossy, "{row}");
            assert_eq!(row["rtt_p50_ns"].is_u64(), text(row, "structure") == "request", "{row}");
        }
    }
}

/// A giver that once in a thousand messages does wrong: every row of every pattern notices, and says what.
#[test]
fn a_giver_that_does_wrong_is_noticed_by_every_pattern() {
    for (fault, column) in
        [("skip", "lost"), ("repeat", "duplicated"), ("swap", "reordered"), ("tear", "torn")]
    {
        let all: Vec<_> = PATTERNS.into_iter().filter(|pattern| *pattern != "latest").collect();
        let output = of_patterns(&all, &["--seconds", "0.5", "--fault", fault]);
        let rows = rows(&output);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(!rows.is_empty());
        for row in &rows {
            assert_eq!(row["verified"], false, "{fault}: {row}");
            assert!(number(row, column) > 0, "{fault}: {row}");
        }
        assert!(said(&output).contains(column), "{}", said(&output));
    }
}

/// Readers of a latest value see few of the values, and yet that their versions are not those that they should be.
#[test]
fn a_writer_that_does_wrong_is_noticed_by_those_who_see_little() {
    for fault in ["skip", "repeat"] {
        let output = of_patterns(&["latest"], &["--seconds", "0.5", "--fault", fault]);
        let rows = rows(&output);
        assert_eq!((output.status.code(), rows.len()), (Some(1), 2), "{}", said(&output));
        for row in &rows {
            assert_eq!(row["verified"], false, "{fault}: {row}");
            assert!(number(row, "lost") + number(row, "duplicated") > 0, "{fault}: {row}");
        }
    }
}

/// A receiver that follows another one and forgets what it gets at first.
#[test]
fn one_that_follows_and_loses_messages_is_noticed() {
    let output = of_patterns(&FOLLOWED, &["--seconds", "0.5", "--fault", "forget"]);
    let rows = rows(&output);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let followed: Vec<_> = rows.iter().filter(|row| row["mode"] == "followed").collect();
    assert_eq!(followed.len(), FOLLOWED.len());
    for row in &rows {
        assert_eq!(row["verified"], row["mode"] != "followed", "{row}");
        assert_eq!(number(row, "lost") > 0, row["mode"] == "followed", "{row}");
    }
}

#[test]
fn a_giver_that_claims_too_much_is_noticed() {
    let output = of_patterns(&PATTERNS, &["--seconds", "0.5", "--fault", "lie"]);
    let rows = rows(&output);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for row in rows.iter().filter(|row| row["mode"] == "stream") {
        assert!(number(row, "lost") >= 1000 && row["verified"] == false, "{row}");
    }
}

#[test]
fn a_giver_that_never_ends_is_given_up() {
    let output = of_patterns(&["channel"], &["--seconds", "0.1", "--fault", "stall", "--patience-ms", "300"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("Giver(0): expected an end, found none"), "{}", said(&output));
}

#[test]
fn patterns_refuse_what_only_structures_have() {
    for more in [["--messages", "9"], ["--payload", "64"], ["--capacity", "64"]] {
        let output = of_patterns(&["publish"], &more);
        assert!(!output.status.success() && said(&output).contains("with patterns"), "{}", said(&output));
    }
}

#[test]
fn nothing_is_left_behind() {
    let output = of_patterns(&["channel", "request"], &["--seconds", "0.3"]);
    assert!(output.status.success(), "{}", said(&output));
    let left = |name: std::io::Result<fs::DirEntry>| {
        let name = name.unwrap().file_name().to_string_lossy().into_owned();
        name.starts_with("tidewire-patterns-").then_some(name)
    };
    // Others of these tests may be making theirs at this moment: what stays is what is left.
    let look = || fs::read_dir(Path::new("/dev/shm")).unwrap().filter_map(left).collect::<Vec<_>>();
    let before = look();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let left: Vec<_> = look().into_iter().filter(|name| before.contains(name)).collect();
    assert!(left.is_empty(), "{left:?}");
}
