//! Records stay readable, and add up.

use std::path::Path;
use std::time::Duration;

use tidewire_benches::cells::{self, Group};
use tidewire_benches::losses::{self, Rival, Standing};
use tidewire_benches::pair::Mode;
use tidewire_benches::reasons;
use tidewire_benches::record::{CellRecord, Record, Settings, top};
use tidewire_benches::report;
use tidewire_benches::schedule::Schedule;
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

/// The newest records of the machine that the report in the tree is about, as `--write` puts them together.
fn newest() -> Record {
    let mut record = old();
    record.cells.truncate(0);
    record.samples.truncate(0);
    record.rejected.truncate(0);
    record.complete().expect("the records of the same machine");
    record
}

#[test]
fn each_missed_target_of_the_newest_records_has_a_reason() {
    let record = newest();
    assert!(record.groups().len() >= 4, "{:?}", record.groups());
    for target in record.groups().into_iter().flat_map(targets::of) {
        let verdict = target.judge(&record);
        if verdict.found.is_some() && !verdict.met {
            let (cell, text) = (target.cell(), target.text);
            assert!(
                reasons::of(target).is_some(),
                "{cell}, \"{text}\" is missed: expected a reason, found none"
            );
        }
    }
    assert!(!report::markdown(&record, &[]).contains(reasons::NONE));
}

#[test]
fn a_missed_target_without_a_reason_is_listed_and_says_so() {
    let mut record = old();
    let mine = record.samples.iter_mut().filter(|sample| sample.cell == "records-16-79");
    mine.for_each(|sample| sample.measured.rate = 1e6);
    let text = report::markdown(&record, &[]);
    let line = text.lines().find(|line| line.contains(reasons::NONE)).expect("it is listed");
    assert!(line.contains("Byte records") && line.contains(">= 60 M/s"), "{line}");
}

#[test]
fn what_is_lost_in_each_round_is_told_from_what_is_even() {
    let mut record = old();
    let mut peers = record.samples.iter_mut().filter(|sample| {
        (sample.cell.as_str(), sample.contender.as_str(), sample.mode)
            == ("batch-64", "rtrb", Mode::Processes)
    });
    // Far ahead of everybody, in each round.
    peers.by_ref().for_each(|sample| sample.measured.rate = 1e12);
    let is_it = |w: &&losses::Worse<'_>| {
        (w.cell.name.as_str(), w.mode, w.rival) == ("batch-64", Mode::Processes, Rival::Peer)
    };
    let (worse, _) = losses::find(&record);
    let found: Vec<_> = worse.iter().filter(is_it).map(|w| (w.standing, w.other.0)).collect();
    assert_eq!(found, [(Standing::Lost, "rtrb")]);
    // Behind in one of its rounds.
    let sample = record.samples.iter_mut().find(|sample| sample.measured.rate == 1e12).expect("a sample");
    sample.measured.rate = 1.0;
    let (worse, _) = losses::find(&record);
    let found: Vec<_> = worse.iter().filter(is_it).map(|w| (w.standing, w.other.0)).collect();
    assert_eq!(found, [(Standing::Even, "rtrb")]);
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
fn a_record_is_completed_by_the_newest_of_other_groups() {
    let mut new = old();
    new.cells.truncate(0);
    new.samples.truncate(0);
    let message = cells::all().into_iter().find(|cell| cell.group == Group::Message).expect("a cell");
    new.cells.push(CellRecord::new(&message));
    let (mut first, mut second) = (old(), old());
    (first.date, second.date) = ("2026-01-01".to_owned(), "2026-01-02".to_owned());
    first.samples.truncate(10);
    let expected = second.samples.len();
    new.complete_from(vec![first, second]).expect("records of the same machine");
    assert_eq!(new.groups(), [Group::Ring, Group::Message]);
    assert_eq!(new.samples.len(), expected, "the newest, and it alone");
}

#[test]
fn a_quick_run_has_cells_that_there_are_and_two_minutes() {
    let mut cells = cells::all();
    cells.retain(|cell| cells::QUICK.contains(&cell.name.as_str()));
    assert_eq!(cells.len(), cells::QUICK.len(), "each of them is a cell");
    let groups: Vec<_> = Group::ALL.into_iter().filter(|g| cells.iter().any(|c| c.group == *g)).collect();
    assert_eq!(groups, Group::USUAL, "each usual group has one");
    let took: Duration = Schedule::new(cells, Settings::quick()).estimate().values().sum();
    assert!(took <= Duration::from_secs(120), "{took:?}");
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
            let has = |name: &str| cell.entries.iter().any(|entry| entry.contender == name);
            if cfg!(not(feature = "peers-heavy")) && !(has(target.ours()) && target.other().is_none_or(has)) {
                continue;
            }
            let promised = has(target.ours());
            assert!(promised, "{}: expected {}, found none", cell.name, target.ours());
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
