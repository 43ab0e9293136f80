//! Records stay readable, and add up.

use std::path::Path;

use tidewire_benches::cells::{self, Group};
use tidewire_benches::record::{CellRecord, Record, top};
use tidewire_benches::report;
use tidewire_benches::targets;

fn old() -> Record {
    let path = Path::new("benches/record/amd-epyc-26-2-1/2026-11-23-ring.json");
    Record::read(&top().join(path)).expect("the first record")
}

#[test]
fn the_first_record_is_read_and_reported() {
    let record = old();
    assert_eq!(record.groups(), [Group::Ring]);
    let text = report::markdown(&record, &[]);
    assert!(text.contains("## Targets") && text.contains("## Where we lose"));
    assert!(!text.contains("Many producers"), "nothing was measured with many producers");
}

#[test]
fn records_add_up() {
    let (mut record, other) = (old(), old());
    let (samples, rounds) = (record.samples.len(), other.samples.iter().map(|sample| sample.round).max());
    let cells = record.cells.len();
    record.add(other).expect("a record of the same machine");
    assert_eq!((record.samples.len(), record.cells.len()), (2 * samples, cells));
    let most = record.samples.iter().map(|sample| sample.round).max();
    assert_eq!(
        most,
        rounds.map(|round| 2 * round + 1),
        "the rounds of the second come behind those of the first"
    );
}

#[test]
fn records_of_other_machines_do_not_add_up() {
    let mut other = old();
    other.machine.cpu = "Another".to_owned();
    let error = old().add(other).expect_err("another machine").to_string();
    assert!(error.contains("expected a record of"), "{error}");
}

#[test]
fn what_was_written_is_read_again() {
    let mut record = old();
    let cell = cells::all().into_iter().find(|cell| cell.group == Group::Cell).expect("a cell");
    record.cells.push(CellRecord::new(&cell));
    let mut sample = record.samples.first().expect("a sample").clone();
    (sample.cell, sample.measured.writes, sample.measured.retries) = (cell.name, 1e6, -1.0);
    record.samples.push(sample);
    let path = std::env::temp_dir().join(format!("tidewire-benches-{}.json", std::process::id()));
    record.write(&path).expect("written");
    let read = Record::read(&path);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(read.expect("read"), record);
}

#[test]
fn targets_speak_of_cells_and_contenders_that_there_are() {
    let cells = cells::all();
    for group in Group::ALL {
        for target in targets::of(group) {
            let cell = cells.iter().find(|cell| cell.name == target.cell());
            let cell = cell.unwrap_or_else(|| panic!("{}: expected a cell, found none", target.cell()));
            assert_eq!(cell.group, group, "{}", target.cell());
            if let Some(other) = target.other() {
                let entry = cell.entries.iter().find(|entry| entry.contender == other);
                let entry =
                    entry.unwrap_or_else(|| panic!("{}: expected {other}, found none", target.cell()));
                assert!(
                    entry.modes.contains(&target.other_mode()),
                    "{}: {other} cannot run there",
                    cell.name
                );
            }
        }
    }
}
