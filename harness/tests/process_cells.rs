//! Rows of cells, of `run` and of `stress`, in real processes: right ones are verified, and nothing is left behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn harness(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire-harness"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The rows of cells of a run that must be right; and how many others there are.
fn verified(output: &Output) -> (Vec<Value>, usize) {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{rows:?}\n{said}");
    let all = rows.len();
    let cells: Vec<Value> = rows.into_iter().filter(|row| row.get("reads").is_some()).collect();
    for row in &cells {
        assert_eq!(row["verified"], true, "{row}\n{said}");
        for fault in ["torn", "back", "lost", "blocked"] {
            assert_eq!(row[fault], 0, "{row}");
        }
        for count in ["reads", "writes", "reads_per_s", "writes_per_s"] {
            assert!(row[count].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    let others = all - cells.len();
    (cells, others)
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap()
}

#[test]
fn cells_of_every_size_are_run_with_one_and_with_three_readers() {
    let (rows, others) = verified(&harness(&["run", "--json", "--seconds", "2", "--structure", "cell"]));
    let keys: Vec<_> =
        rows.iter().map(|row| (number(row, "payload_bytes"), number(row, "readers"))).collect();
    let expected: Vec<_> =
        [8, 56, 256, 4096].into_iter().flat_map(|bytes| [(bytes, 1), (bytes, 3)]).collect();
    assert_eq!((keys, others), (expected, 0));
}

#[test]
fn one_size_is_enough() {
    let (rows, _) =
        verified(&harness(&["run", "--json", "--seconds", "0.2", "--structure", "cell", "--payload", "256"]));
    assert_eq!(rows.len(), 2);
}

#[test]
fn a_run_of_everything_has_rows_of_cells_and_of_others() {
    let (rows, others) = verified(&harness(&["--json", "--seconds", "2"]));
    assert!(rows.len() == 8 && others >= 11, "{others}");
}

#[test]
fn a_stress_of_everything_kills_the_writers_of_every_cell() {
    let (rows, others) = verified(&harness(&["stress", "--json", "--seconds", "8", "--seed", "5"]));
    assert!(rows.len() == 12 && others >= 4, "{others}");
    for row in &rows {
        assert!(number(row, "kills") > 0, "{row}");
        assert_eq!(number(row, "seed"), 5);
    }
    assert!(rows.iter().map(|row| number(row, "stops")).sum::<u64>() > 0, "{rows:?}");
}

#[test]
fn cells_refuse_what_only_rings_have() {
    let output = harness(&["run", "--structure", "cell", "--messages", "9"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("expected no --messages"), "{said}");
}

#[test]
fn nothing_is_left_behind() {
    verified(&harness(&["stress", "--json", "--seconds", "1", "--structure", "cell-256"]));
    let left = |name: std::io::Result<std::fs::DirEntry>| {
        let name = name.unwrap().file_name().to_string_lossy().into_owned();
        name.starts_with("tidewire-cells-").then_some(name)
    };
    // Others of these tests may be making theirs at this moment: what stays is what is left.
    let look = || std::fs::read_dir(Path::new("/dev/shm")).unwrap().filter_map(left).collect::<Vec<_>>();
    let before = look();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let left: Vec<_> = look().into_iter().filter(|name| before.contains(name)).collect();
    assert!(left.is_empty(), "{left:?}");
}
