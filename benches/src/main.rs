//! The side-by-side report: Tidewire and its peers, taking turns.
//!
//! Prints tables; `--write` also regenerates the report, the plots and the raw record in the source tree. The exit
//! status is 0 only if no contender was rejected and some sample counts.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tidewire_benches::cells::{self, Cell, Group, Kind};
use tidewire_benches::pair::Cores;
use tidewire_benches::record::{CellRecord, Machine, Record, Settings, now, top};
use tidewire_benches::schedule::Schedule;
use tidewire_benches::{plot, report};

/// Measures Tidewire and its peers side by side.
#[derive(Debug, Parser)]
#[command(about)]
struct Cli {
    /// At most two minutes: few rounds, short windows, and of all cells only those that say most, unless a group or
    /// cells are named
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Fifteen rounds, long windows
    #[arg(long)]
    full: bool,
    /// Only the cells about this structure, or of builds, which are measured only when they are named; may be repeated
    #[arg(long, value_name = "GROUP")]
    group: Vec<Group>,
    /// Only cells whose name begins like this; may be repeated
    #[arg(long, value_name = "NAME")]
    cell: Vec<String>,
    /// How often each contender takes its turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Writes the raw record to a file; of records that are read, all of them as one
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Regenerates BENCHMARKS.md, the plots, and the record of the day; groups that are not measured now come from the
    /// newest records of this machine
    #[arg(long)]
    write: bool,
    /// Measures nothing: reports on a record; may be repeated, and then on all of them together
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "full", "group", "cell", "rounds"])]
    from: Vec<PathBuf>,
    /// Names the cells
    #[arg(long)]
    list: bool,
    /// Says what would be measured, and how long that would take
    #[arg(long, conflicts_with_all = ["list", "from"])]
    plan: bool,
}

fn main() -> ExitCode {
    match execute(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _closed = writeln!(io::stderr().lock(), "tidewire-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: &Cli) -> anyhow::Result<bool> {
    if cli.list {
        for cell in selected(cli)? {
            let names: Vec<&str> = cell.entries.iter().map(|entry| entry.contender).collect();
            print(&format!(
                "{:<7} {:<20} {}: {}\n",
                cell.group.name(),
                cell.name,
                cell.title,
                names.join(", ")
            ))?;
        }
        return Ok(true);
    }
    if cli.plan {
        print(&plan(cli)?)?;
        return Ok(true);
    }
    let mut record = match cli.from.split_first() {
        Some((first, others)) => {
            let mut record = Record::read(first)?;
            for path in others {
                record.add(Record::read(path)?).with_context(|| format!("add {}", path.display()))?;
            }
            record
        }
        None => measure(cli)?,
    };
    if let Some(path) = &cli.json {
        record.write(path)?;
    }
    if cli.write {
        if cli.from.is_empty() {
            record.write(&record.path())?;
        }
        record.complete()?;
        let plots = plot::write(&record)?;
        let path = top().join("BENCHMARKS.md");
        fs::write(&path, report::markdown(&record, &plots))
            .with_context(|| format!("write {}", path.display()))?;
    }
    print(&report::markdown(&record, &[]))?;
    // A run of which nothing counts says nothing.
    Ok(record.rejected.is_empty() && record.samples.iter().any(|sample| sample.regime.is_some()))
}

fn settings(cli: &Cli) -> Settings {
    let mut settings = match (cli.quick, cli.full) {
        (true, _) => Settings::quick(),
        (_, true) => Settings::full(),
        _ => Settings::usual(),
    };
    if settings.name != "default" {
        settings.options += &format!("--{} ", settings.name);
    }
    if let Some(rounds) = cli.rounds {
        settings.options += &format!("--rounds {rounds} ");
        settings.rounds = rounds;
    }
    for group in &cli.group {
        settings.options += &format!("--group {} ", group.name());
    }
    for cell in &cli.cell {
        settings.options += &format!("--cell {cell} ");
    }
    settings
}

fn selected(cli: &Cli) -> anyhow::Result<Vec<Cell>> {
    let mut cells = cells::all();
    // What is not usual is measured only when it is named.
    let anything = cli.list || !cli.cell.is_empty();
    cells.retain(|cell| match cli.group.as_slice() {
        [] => anything || Group::USUAL.contains(&cell.group),
        groups => groups.contains(&cell.group),
    });
    if !cli.cell.is_empty() {
        cells.retain(|cell| cli.cell.iter().any(|wanted| cell.name.starts_with(wanted.as_str())));
        ensure!(
            !cells.is_empty(),
            "expected the name of a cell (--list names them), found {}",
            cli.cell.join(", ")
        );
    } else if cli.quick && cli.group.is_empty() {
        cells.retain(|cell| cells::QUICK.contains(&cell.name.as_str()));
    }
    Ok(cells)
}

/// What a run would do, and how long it would take.
fn plan(cli: &Cli) -> anyhow::Result<String> {
    let settings = settings(cli);
    let schedule = Schedule::new(selected(cli)?, settings.clone());
    let groups = schedule.estimate();
    let mut text = format!(
        "{}: {} rounds, windows of {} ms, {} samples and checks\n",
        settings.name,
        settings.rounds,
        settings.window_ms,
        schedule.steps()
    );
    for (group, time) in &groups {
        let cells = schedule.cells().iter().filter(|cell| cell.group == *group).count();
        text += &format!("{:<8} {cells:>3} cells {:>6.0} s\n", group.name(), time.as_secs_f64());
    }
    let total: Duration = groups.values().sum();
    text += &format!("{:<8} {:>3} cells {:>6.0} s", "all", schedule.cells().len(), total.as_secs_f64());
    let deaths = schedule.cells().iter().any(|cell| cell.kind == Kind::Death);
    text += if deaths { ", and 15 s more for each that is never told of a death\n" } else { "\n" };
    Ok(text)
}

fn measure(cli: &Cli) -> anyhow::Result<Record> {
    Cores::first_two()?;
    let cells = selected(cli)?;
    let settings = settings(cli);
    let (date, machine) = (now()?, Machine::here());
    let described = cells.iter().map(CellRecord::new).collect();
    let schedule = Schedule::new(cells, settings.clone());
    let progress = ProgressBar::new(schedule.steps());
    progress.set_style(ProgressStyle::with_template("{bar:40} {percent:>3} % {msg:<22} {eta} left")?);
    let outcome = schedule.run(&progress);
    progress.finish_and_clear();
    Ok(Record {
        date,
        machine,
        settings,
        cells: described,
        samples: outcome.samples,
        rejected: outcome.rejected,
    })
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
