//! The tables of a report, one for each cell, mode and regime.

use super::{dash, for_each_view, heads, line, millions, nanos, put, range, ratios, small};
use crate::cells::Kind;
use crate::pair::Mode;
use crate::record::{CellRecord, Record};
use crate::summary::{
    CALLS, CORES, CPU_SECONDS, CRATES, FAIRNESS, FIRST_OWN, FIRST_RATE, FIRST_SHARED, LINE, MAX, MEAN,
    MEAN_TO_FLOOR, MEAN_TO_LINE, Metric, NOTHING, OWN, P50, P99, P99_TO_LINE, P999, RATE, READ_ALONE,
    RETRIES, SECONDS, SHARED, Spread, TOLD, TOLD_AFTER, TORN, View, WRITE_ALONE, WRITES, dropped, headlines,
};

/// The tables of all cells.
#[must_use]
pub fn tables(record: &Record) -> String {
    let mut out = String::new();
    let (mut last, mut group) = (None, None);
    let several = record.groups().len() > 1;
    for_each_view(record, |cell, mode, regime, view| {
        if several && group != Some(cell.group) {
            put(&mut out, &format!("# {}\n", cell.group.title()));
            group = Some(cell.group);
        }
        if last.as_deref() != Some(cell.name.as_str()) {
            put(&mut out, &format!("## {}\n", cell.title));
            last = Some(cell.name.clone());
        }
        put(&mut out, &format!("{}, {}\n", mode.name(), regime.name()));
        match cell.kind {
            Kind::Rate => rates(&mut out, record, cell, mode, view),
            Kind::RoundTrip | Kind::OneWay | Kind::Fresh => times(&mut out, record, cell, mode, view),
            Kind::Poll => polls(&mut out, record, cell, mode, view),
            Kind::Latest => latest(&mut out, record, cell, mode, view),
            Kind::Alone => alone(&mut out, record, cell, mode, view),
            Kind::SetUp => set_ups(&mut out, record, cell, mode, view),
            Kind::Calls => calls(&mut out, record, cell, mode, view),
            Kind::Death => deaths(&mut out, record, cell, mode, view),
            Kind::Memory => memory(&mut out, record, cell, mode, view),
            Kind::Build => builds(&mut out, record, cell, mode, view),
        }
        put(&mut out, "");
    });
    out
}

fn rates(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let to = format!("x {}", cell.reference);
    let (first, crowd) = (cell.name == "single-64", cell.name.starts_with("mpsc-"));
    let mut columns = vec!["contender", "M/s", "GB/s", to.as_str()];
    if first {
        columns.push("first 10 ms, M/s");
    }
    if crowd {
        columns.extend(["fairness", "cores"]);
    }
    columns.extend(["R, ns", "n", "dropped"]);
    heads(out, &columns);
    for name in &cell.contenders {
        let Some(rate) = view.spread(name, RATE) else { continue };
        let bytes = cell.payload_bytes as f64;
        let gigabytes = if bytes > 0.0 { format!("{:.2}", rate.median * bytes / 1e9) } else { dash() };
        let ratio = view.ratio(name, RATE, &cell.reference, RATE);
        let mut cells =
            vec![name.clone(), range(&rate, millions), gigabytes, ratio.map_or_else(dash, ratios)];
        if first {
            cells.push(view.spread(name, FIRST_RATE).map_or_else(dash, |s| range(&s, millions)));
        }
        if crowd {
            for metric in [FAIRNESS, CORES] {
                cells.push(view.spread(name, metric).map_or_else(dash, |s| format!("{:.2}", s.median)));
            }
        }
        cells.push(view.spread(name, LINE).map_or_else(dash, |s| nanos(s.median)));
        cells.extend([rate.n.to_string(), dropped(record, &cell.name, mode, name).to_string()]);
        line(out, &cells);
    }
}

fn times(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let there_and_back = cell.kind == Kind::RoundTrip;
    let metric = headlines(cell.kind).first().map_or(P50, |headline| headline.metric);
    let to = format!("x {}", cell.reference);
    let mut columns = vec!["contender", "mean, ns", "p50", "p99", "p99.9", "longest", to.as_str()];
    if there_and_back {
        columns.extend(["x R", "x floor"]);
    }
    columns.extend(["R, ns", "n", "dropped"]);
    heads(out, &columns);
    for name in &cell.contenders {
        let Some(mean) = view.spread(name, MEAN) else { continue };
        let median = |metric: Metric| view.spread(name, metric).map_or_else(dash, |s| nanos(s.median));
        let p50 = view.spread(name, P50).map_or_else(dash, |s| range(&s, nanos));
        let ratio = view.ratio(name, metric, &cell.reference, metric);
        let mut cells = vec![name.clone(), range(&mean, nanos), p50, median(P99), median(P999), median(MAX)];
        cells.push(ratio.map_or_else(dash, ratios));
        if there_and_back {
            for metric in [MEAN_TO_LINE, MEAN_TO_FLOOR] {
                cells.push(view.spread(name, metric).map_or_else(dash, ratios));
            }
        }
        cells.push(median(LINE));
        cells.extend([mean.n.to_string(), dropped(record, &cell.name, mode, name).to_string()]);
        line(out, &cells);
    }
    if cell.kind == Kind::Fresh {
        clock_alone(out, cell, view);
    }
}

/// What stands at the end of each row: R, samples, dropped samples.
fn tail(cells: &mut Vec<String>, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>, name: &str) {
    cells.push(view.spread(name, LINE).map_or_else(dash, |s| nanos(s.median)));
    let n = view.spread(name, LINE).map_or(0, |s| s.n);
    cells.extend([n.to_string(), dropped(record, &cell.name, mode, name).to_string()]);
}

fn polls(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let to = format!("x {}", cell.reference);
    heads(out, &["contender", "ns", to.as_str(), "R, ns", "n", "dropped"]);
    for name in &cell.contenders {
        let Some(mean) = view.spread(name, MEAN) else { continue };
        let ratio = view.ratio(name, MEAN, &cell.reference, MEAN);
        let took = range(&mean, |ns| format!("{ns:.1}"));
        let mut cells = vec![name.clone(), took, ratio.map_or_else(dash, ratios)];
        tail(&mut cells, record, cell, mode, view, name);
        line(out, &cells);
    }
}

fn latest(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let to = format!("reads x {}", cell.reference);
    let columns = ["contender", "M reads/s", to.as_str(), "M writes/s", "p50, ns", "p99", "p99.9", "longest"];
    heads(out, &[&columns[..], &["p99 x R", "retries/read", "torn", "R, ns", "n", "dropped"]].concat());
    for name in &cell.contenders {
        let Some(reads) = view.spread(name, RATE) else { continue };
        let median = |metric: Metric| view.spread(name, metric).map_or_else(dash, |s| nanos(s.median));
        let ratio = view.ratio(name, RATE, &cell.reference, RATE);
        let p99 = view.spread(name, P99).map_or_else(dash, |s| range(&s, nanos));
        let mut cells = vec![name.clone(), range(&reads, millions), ratio.map_or_else(dash, ratios)];
        cells.push(view.spread(name, WRITES).map_or_else(dash, |s| range(&s, millions)));
        cells.extend([median(P50), p99, median(P999), median(MAX)]);
        cells.push(view.spread(name, P99_TO_LINE).map_or_else(dash, |s| format!("{:.2}", s.median)));
        cells.push(view.spread(name, RETRIES).map_or_else(dash, |s| small(s.median)));
        cells.push(view.spread(name, TORN).map_or_else(dash, |s| format!("{:.0}", s.median)));
        tail(&mut cells, record, cell, mode, view, name);
        line(out, &cells);
    }
    clock_alone(out, cell, view);
}

fn alone(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let to = [format!("x {}", cell.reference), format!("x {}", cell.reference)];
    let [to_read, to_write] = &to;
    heads(out, &["contender", "read, ns", to_read, "write, ns", to_write, "R, ns", "n", "dropped"]);
    for name in &cell.contenders {
        let mut cells = vec![name.clone()];
        for metric in [READ_ALONE, WRITE_ALONE] {
            let ratio = view.ratio(name, metric, &cell.reference, metric);
            let took = view.spread(name, metric).map(|s| range(&s, |ns| format!("{ns:.1}")));
            cells.extend([took.unwrap_or_else(dash), ratio.map_or_else(dash, ratios)]);
        }
        if view.spread(name, LINE).is_some() {
            tail(&mut cells, record, cell, mode, view, name);
            line(out, &cells);
        }
    }
}

fn set_ups(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let to = format!("x {}", cell.reference);
    heads(out, &["contender", "p50, µs", "longest, µs", to.as_str(), "R, ns", "n", "dropped"]);
    for name in &cell.contenders {
        let Some(p50) = view.spread(name, P50) else { continue };
        let longest = view.spread(name, MAX).map_or_else(dash, |s| micros(s.median));
        let ratio = view.ratio(name, P50, &cell.reference, P50);
        let mut cells = vec![name.clone(), range(&p50, micros), longest, ratio.map_or_else(dash, ratios)];
        tail(&mut cells, record, cell, mode, view, name);
        line(out, &cells);
    }
}

fn calls(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    heads(out, &["contender", "calls per million messages", "R, ns", "n", "dropped"]);
    for name in &cell.contenders {
        if view.spread(name, LINE).is_none() {
            continue;
        }
        // Not everybody may count them.
        let calls = view.spread(name, CALLS);
        let mut cells = vec![name.clone(), calls.map_or_else(dash, |s| range(&s, |n| format!("{n:.0}")))];
        tail(&mut cells, record, cell, mode, view, name);
        line(out, &cells);
    }
}

fn deaths(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let told = if cell.name.starts_with("message-succeed") { "replaced" } else { "told" };
    heads(out, &["contender", told, "after, µs", "R, ns", "n", "dropped"]);
    for name in &cell.contenders {
        let Some(told) = view.spread(name, TOLD) else { continue };
        let after = view.spread(name, TOLD_AFTER);
        let share = match after {
            None => "never".to_owned(),
            Some(after) => format!("{} of {}", after.n, told.n),
        };
        let mut cells = vec![name.clone(), share, after.map_or_else(dash, |s| range(&s, micros))];
        tail(&mut cells, record, cell, mode, view, name);
        line(out, &cells);
    }
}

fn memory(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let columns = ["contender", "own, KiB", "shared, KiB", "first: own, KiB", "first: shared, KiB"];
    heads(out, &[&columns[..], &["R, ns", "n", "dropped"]].concat());
    for name in &cell.contenders {
        if view.spread(name, LINE).is_none() {
            continue;
        }
        let mut cells = vec![name.clone()];
        for metric in [OWN, SHARED, FIRST_OWN, FIRST_SHARED] {
            cells.push(view.spread(name, metric).map_or_else(dash, |s| range(&s, |kib| format!("{kib:.0}"))));
        }
        tail(&mut cells, record, cell, mode, view, name);
        line(out, &cells);
    }
}

fn builds(out: &mut String, record: &Record, cell: &CellRecord, mode: Mode, view: View<'_>) {
    let to = format!("x {}", cell.reference);
    heads(out, &["package", "s", to.as_str(), "CPU, s", "packages", "n", "dropped"]);
    for name in &cell.contenders {
        let Some(seconds) = view.spread(name, SECONDS) else { continue };
        let show = |spread: Spread| range(&spread, |seconds| format!("{seconds:.1}"));
        let ratio = view.ratio(name, SECONDS, &cell.reference, SECONDS);
        let mut cells = vec![name.clone(), show(seconds), ratio.map_or_else(dash, ratios)];
        cells.push(view.spread(name, CPU_SECONDS).map_or_else(dash, show));
        cells.push(view.spread(name, CRATES).map_or_else(dash, |s| format!("{:.0}", s.median)));
        cells.extend([seconds.n.to_string(), dropped(record, &cell.name, mode, name).to_string()]);
        line(out, &cells);
    }
}

/// Nanoseconds, in microseconds.
fn micros(ns: f64) -> String {
    let micros = ns / 1e3;
    if micros >= 100.0 { format!("{micros:.0}") } else { format!("{micros:.1}") }
}

/// What the clock shows for nothing, below a table of times that hold it.
fn clock_alone(out: &mut String, cell: &CellRecord, view: View<'_>) {
    let all = cell.contenders.iter().filter_map(|name| view.spread(name, NOTHING));
    if let Some(nothing) = Spread::of(all.map(|s| s.median)) {
        put(
            out,
            &format!("\nThe clock alone takes {} ns of each time; not subtracted.", nanos(nothing.median)),
        );
    }
}
