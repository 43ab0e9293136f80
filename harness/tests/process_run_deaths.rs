//! `run` whose processes are killed, stopped or interrupted: what it says, and that nothing is left behind.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod process_run_harness;

use std::fs;
use std::time::Duration;

use process_run_harness::{ROLES, assert_gone, is_gone, run, send, start};
use rustix::process::Signal;

/// One long row: what is killed in it ends the run.
const LONG: &[&str] = &["--json", "--structure", "ring-bytes", "--payload", "64", "--seconds", "50"];

#[test]
fn a_child_that_fails_stalls_or_mumbles_is_reported_with_what_it_said() {
    let reports = [
        (
            "fail",
            "5000",
            "ended with exit status 1, after at least 3000 messages; it said: tidewire-harness: told to fail",
        ),
        ("stall", "1000", "waits in vain for"),
        ("mumble", "5000", "the producer ended well, but its result cannot be read"),
    ];
    for (fault, patience_ms, report) in reports {
        let few = ["--json", "--structure", "ring-bytes", "--payload", "64", "--messages", "3000"];
        let ended = run(&[&few[..], &["--patience-ms", patience_ms, "--fault", fault]].concat());
        assert_eq!(ended.status.code(), Some(1), "{fault}");
        assert!(ended.err.contains(report), "{fault}: {}", ended.err);
        assert_eq!(ended.rows()[0]["sent"], 3000, "{fault}");
        assert_eq!(ended.rows()[0]["verified"], false, "{fault}");
        ended.assert_clean();
    }
}

#[test]
fn a_killed_child_is_reported_and_takes_the_other_with_it() {
    for (victim, role) in ROLES.into_iter().enumerate() {
        let run = start(LONG);
        let children = run.children();
        for pid in children {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            assert!(maps.contains("/memfd:tidewire"), "{maps}");
            assert!(!maps.contains("/dev/shm"), "a mapping that has a name: {maps}");
        }
        send(children[victim], Signal::KILL);
        let ended = run.end();
        assert_eq!(ended.status.code(), Some(1));
        let report = format!(
            "ring-bytes 64 B records: the {role} (process {}) was killed by signal 9 (SIGKILL)",
            children[victim]
        );
        assert!(ended.err.starts_with(&report), "{}", ended.err);
        assert!(ended.err.contains("it said nothing"), "{}", ended.err);
        assert_eq!(ended.rows()[0]["verified"], false);
        assert_gone(&children);
        ended.assert_clean();
    }
}

#[test]
fn a_killed_parent_takes_its_children_with_it() {
    let run = start(LONG);
    let children = run.children();
    run.signal(Signal::KILL);
    let ended = run.end();
    assert!(!ended.status.success());
    assert_gone(&children);
    ended.assert_clean();
}

#[test]
fn an_interrupted_parent_ends_its_children_first() {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP")] {
        let run = start(LONG);
        let children = run.children();
        run.signal(signal);
        let ended = run.end();
        assert_eq!(ended.status.code(), Some(1));
        assert!(
            ended.err.contains(&format!("interrupted by signal {} ({name})", signal.as_raw())),
            "{}",
            ended.err
        );
        assert!(children.into_iter().all(is_gone));
        ended.assert_clean();
    }
}

#[test]
fn a_stopped_child_is_reported_as_hanging() {
    for (victim, role) in ROLES.into_iter().enumerate() {
        let run = start(&[LONG, &["--patience-ms", "1500"]].concat());
        let children = run.children();
        send(children[victim], Signal::STOP);
        let ended = run.end();
        assert_eq!(ended.status.code(), Some(1));
        let report = format!("the {role} (process {}) has not moved for", children[victim]);
        assert!(ended.err.contains(&report) && ended.err.contains("is stopped"), "{}", ended.err);
        assert_gone(&children);
        ended.assert_clean();
    }
}

#[test]
fn a_parent_that_was_stopped_does_not_blame_its_children() {
    let run = start(&[
        "--json",
        "--structure",
        "ring-bytes",
        "--payload",
        "64",
        "--seconds",
        "4",
        "--patience-ms",
        "2000",
    ]);
    let _children = run.children();
    run.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(5));
    run.signal(Signal::CONT);
    let ended = run.end();
    assert!(ended.status.success(), "{}", ended.err);
}

#[test]
fn a_closed_output_is_an_error_and_no_panic() {
    for args in [&["--messages", "100"][..], &["--messages", "100", "--json"]] {
        let mut run = start(args);
        drop(run.parent.stdout.take());
        let ended = run.end();
        assert_eq!(ended.status.code(), Some(1));
        assert!(ended.err.contains("Broken pipe"), "{}", ended.err);
        ended.assert_clean();
    }
}
