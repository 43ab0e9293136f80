//! `run` as a user starts it: real processes, judged by what they print and how they end.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod process_run_harness;

use std::fs;
use std::io::Write as _;

use process_run_harness::run;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

#[test]
fn a_short_run_verifies_every_row_and_gives_every_field() {
    let ended = run(&["--json", "--seconds", "1", "--structure", "ring-fixed", "--structure", "ring-bytes"]);
    assert!(ended.status.success(), "{}{}", ended.out, ended.err);
    assert_eq!(ended.err, "");
    let rows = ended.rows();
    let names = "structure payload_bytes mode producers sent received lost duplicated reordered torn msgs_per_s \
                 bytes_per_s rtt_p50_ns rtt_p99_ns rtt_p999_ns raw_rtt_ns history_events history_good verified";
    let mut seen = Vec::new();
    for row in &rows {
        let found: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected: Vec<_> = names.split_whitespace().collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(row["verified"], true, "{row}");
        assert_eq!(row["sent"], row["received"], "{row}");
        assert_eq!(row["producers"], 1);
        assert_eq!(row["history_good"], true, "{row}");
        for fault in ["lost", "duplicated", "reordered", "torn"] {
            assert_eq!(row[fault], 0, "{row}");
        }
        for rate in ["sent", "msgs_per_s", "bytes_per_s", "raw_rtt_ns"] {
            assert!(row[rate].as_f64().unwrap() > 0.0, "{row}");
        }
        let quantiles = ["rtt_p50_ns", "rtt_p99_ns", "rtt_p999_ns"].map(|name| row[name].as_f64());
        if row["mode"] == "round-trip" {
            let quantiles = quantiles.map(Option::unwrap);
            assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{row}");
        } else {
            assert_eq!(quantiles, [None; 3]);
        }
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        seen.push((text("structure"), text("mode"), row["payload_bytes"].as_u64().unwrap()));
    }
    let fixed = [8, 64, 1024].into_iter().flat_map(|payload| {
        ["single", "batch32", "round-trip"].map(|mode| ("ring-fixed".to_owned(), mode.to_owned(), payload))
    });
    assert_eq!(seen[..9], fixed.collect::<Vec<_>>());
    assert_eq!(seen.len(), 11);
    assert!(seen[9].1 == "records" && (40..56).contains(&seen[9].2), "{:?}", seen[9]);
    assert!(seen[10].1 == "file" && seen[10].0 == "ring-bytes");
    ended.assert_clean();
}

#[test]
fn people_get_a_table_and_a_sum() {
    let ended = run(&["--messages", "20000", "--structure", "ring-fixed", "--payload", "32"]);
    assert!(ended.status.success(), "{}", ended.err);
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines.len(), 5, "{}", ended.out);
    assert!(lines[0].starts_with("structure") && lines[0].contains("M msgs/s"));
    assert!(lines[1].contains(" 20000 ") && lines[1].contains("  good ") && lines[1].ends_with("yes"));
    assert_eq!(lines[4], "3 rows verified, 0 failed");
}

/// The structures that these tests know every row of.
const RINGS: [&str; 4] = ["--structure", "ring-fixed", "--structure", "ring-bytes"];

#[test]
fn a_fixed_count_is_kept_by_every_size() {
    for payload in ["8", "16", "32", "64", "128", "256", "512", "1024", "2048", "4096"] {
        let few = ["run", "--json", "--messages", "3001", "--payload", payload, "--capacity", "16384"];
        let ended = run(&[&few[..], &RINGS].concat());
        assert!(ended.status.success(), "{}", ended.err);
        let rows = ended.rows();
        assert_eq!(rows.len(), 4);
        for row in rows {
            assert_eq!(row["received"], 3001, "{row}");
            assert_eq!(row["payload_bytes"].to_string(), payload);
        }
    }
}

#[test]
fn one_message_through_the_smallest_rings_is_a_run() {
    let ended = run(&["--json", "--messages", "1", "--structure", "ring-fixed", "--capacity", "32"]);
    assert!(ended.status.success(), "{}", ended.err);
    let ended = run(&["--json", "--messages", "5000", "--structure", "ring-bytes", "--capacity", "256"]);
    assert!(ended.status.success(), "{}", ended.err);
}

#[test]
fn histories_hold_every_operation_of_the_messages_they_are_of() {
    for (messages, recorded) in [(700, 700), (1_000_000, 200_000)] {
        let count = messages.to_string();
        let ended = run(&[&["--json", "--payload", "8", "--messages", &count][..], &RINGS].concat());
        assert!(ended.status.success(), "{}", ended.err);
        for row in ended.rows() {
            let events = row["history_events"].as_u64().unwrap();
            // A push and a pop of each message, or of each batch; of eight, one is a round trip.
            let least = match row["mode"].as_str().unwrap() {
                "single" | "records" => 2 * recorded,
                "batch32" => 2 * recorded / 32,
                _ => 4 * recorded / 8,
            };
            assert!((least..=5 * recorded + 5).contains(&events), "{row}");
            assert_eq!(row["history_good"], true, "{row}");
        }
    }
}

/// A ring that loses messages only while it is recorded: what is measured is right, so only the history can tell.
#[test]
fn a_bad_history_fails_the_run() {
    let few = ["--json", "--structure", "ring-fixed", "--payload", "8", "--messages", "20000"];
    let ended = run(&[&few[..], &["--twin", "lossy"]].concat());
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    assert!(ended.err.contains("ring-fixed 8 B single: in its history: messages "), "{}", ended.err);
    let row = &ended.rows()[0];
    assert_eq!((&row["received"], &row["lost"]), (&20_000.into(), &0.into()), "{row}");
    assert_eq!((&row["history_good"], &row["verified"]), (&false.into(), &false.into()), "{row}");
    ended.assert_clean();
}

/// The consumer falls asleep in the recorded part and is killed for it: what it wrote down is there, and is judged.
#[test]
fn histories_outlive_the_death_of_who_wrote_them() {
    let few = ["--json", "--structure", "ring-fixed", "--payload", "8", "--messages", "20000"];
    let ended = run(&[&few[..], &["--twin", "stuck", "--patience-ms", "1500"]].concat());
    assert_eq!(ended.status.code(), Some(1), "{}", ended.err);
    assert!(ended.err.contains("the consumer (process "), "{}", ended.err);
    let row = &ended.rows()[0];
    assert!(row["history_events"].as_u64().unwrap() > 1000, "{row}");
    assert_eq!(row["verified"], false, "{row}");
    assert!(!ended.err.contains("in its history"), "what was written is right: {}", ended.err);
    ended.assert_clean();
}

#[test]
fn each_fault_is_caught_in_its_column() {
    let faults =
        [("skip", "lost", 1), ("repeat", "duplicated", 1), ("swap", "reordered", 1), ("tear", "torn", 1)];
    for (fault, column, count) in faults.into_iter().chain([("lie", "lost", 1000)]) {
        let ended = run(&[&["--json", "--messages", "10000", "--fault", fault][..], &RINGS].concat());
        assert_eq!(ended.status.code(), Some(1), "{fault}");
        let rows = ended.rows();
        assert_eq!(rows.len(), 11);
        for row in rows {
            assert_eq!(row["verified"], false, "{fault}: {row}");
            // Faults are those of the measured part.
            assert_eq!(row["history_good"], true, "{fault}: {row}");
            for other in ["lost", "duplicated", "reordered", "torn"] {
                assert_eq!(row[other], if other == column { count } else { 0 }, "{fault}: {row}");
            }
        }
        assert!(ended.err.contains("the producer says it sent"), "{}", ended.err);
        assert_eq!(ended.err.contains("with the digest"), fault != "lie", "{}", ended.err);
        ended.assert_clean();
    }
}

#[test]
fn files_arrive_as_they_were() {
    let home = tempfile::tempdir().unwrap();
    let mut bytes = vec![0_u8; 20_000_000];
    let mut word = 1_u64;
    for chunk in bytes.chunks_exact_mut(8) {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    for (name, len) in [("empty", 0), ("byte", 1), ("large", bytes.len() - 3)] {
        let path = home.path().join(name);
        fs::File::create(&path).unwrap().write_all(&bytes[..len]).unwrap();
        let ended = run(&[
            "--json",
            "--structure",
            "ring-bytes",
            "--messages",
            "100",
            "--input",
            path.to_str().unwrap(),
        ]);
        assert!(ended.status.success(), "{name}: {}", ended.err);
        let row = &ended.rows()[1];
        assert_eq!(row["mode"], "file");
        assert_eq!(row["sent"] == 0, len == 0, "{row}");
        assert_eq!(fs::metadata(&path).unwrap().len(), len as u64);
        ended.assert_clean();
    }
}

#[test]
fn bad_arguments_are_refused_with_what_was_expected() {
    let refused: &[(&[&str], i32, &str)] = &[
        (
            &["--payload", "7"],
            1,
            "expected a payload out of 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096 bytes, found 7",
        ),
        (
            &["--payload", "5000", "--structure", "ring-bytes"],
            1,
            "expected a payload from 8 to 4096 bytes, found 5000",
        ),
        (&["--capacity", "1000"], 1, "expected a capacity that is a power of two"),
        (&["--capacity", "16", "--structure", "ring-fixed"], 1, "expected a capacity of at least 32 slots"),
        (
            &["--capacity", "64", "--structure", "ring-bytes"],
            1,
            "expected a capacity of which half holds a record",
        ),
        (&["--input", "/nowhere/to/be/found"], 1, "opening the input /nowhere/to/be/found"),
        (&["--input", "/dev/zero"], 1, "expected a regular file as the input, found /dev/zero"),
        (
            &["--input", "/dev/null", "--structure", "ring-fixed"],
            1,
            "expected ring-bytes among the structures",
        ),
        (&["--seconds", "0"], 2, "expected a number of seconds above 0"),
        (&["--seconds", "-1"], 2, "-1"),
        (&["--seconds", "NaN"], 2, "expected a number of seconds above 0"),
        (&["--seconds", "soon"], 2, "expected a number of seconds above 0"),
        (&["--messages", "0"], 2, "0 is not in"),
        (&["--messages", "9", "--seconds", "9"], 2, "cannot be used with"),
        (&["--structure", "pipe"], 2, "ring-fixed, ring-bytes"),
        (&["--speed"], 2, "--speed"),
        (&["child", "--role", "producer", "--plan", "{}"], 1, "the plan cannot be read"),
    ];
    for (args, code, what) in refused {
        let ended = run(args);
        assert_eq!(ended.status.code(), Some(*code), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(what), "{args:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{args:?}");
    }
}

#[test]
fn a_child_refuses_a_parent_that_it_was_not_meant_for() {
    let plan = r#"{"structure":"ring-fixed","mode":"single","payload":[8,8],"capacity":64,
                   "producers":1,"limit":{"messages":1},"cores":null,"fault":null,"history":1,"twin":null,
                   "parent":1}"#;
    let ended = run(&["child", "--role", "consumer", "--plan", plan]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.err.contains("expected process 1 as the parent"), "{}", ended.err);
}

#[test]
fn one_processor_is_enough() {
    let all = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap());
    // Of this test's thread, and so of what it starts.
    sched_setaffinity(None, &one).unwrap();
    let ended = run(&[&["--json", "--messages", "2000"][..], &RINGS].concat());
    assert!(ended.status.success(), "{}", ended.err);
    assert_eq!(ended.rows().len(), 11);
}

#[test]
fn mappings_differ_where_addresses_are_not_random() {
    let switched = std::thread::spawn(|| {
        // SAFETY: changes how programs that this thread starts are loaded, and nothing else.
        let before = unsafe { libc::personality(0x004_0000) };
        assert_ne!(before, -1, "{}", std::io::Error::last_os_error());
        // SAFETY: this argument changes nothing and asks for what is.
        let now = unsafe { libc::personality(0xffff_ffff) };
        assert_eq!(now & 0x004_0000, 0x004_0000, "addresses are still random");
        run(&["--json", "--messages", "500"])
    });
    let ended = switched.join().unwrap();
    assert!(ended.status.success(), "{}", ended.err);
}
