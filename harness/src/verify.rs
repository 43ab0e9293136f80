//! `verify`: every test there is, one after the other, with a table at the end.
//!
//! Each layer is a command with a way to count its cases. What a layer prints passes through as it comes; a layer
//! that cannot run has failed. Layers that need an own build have a target directory of their own, so that they do
//! not rebuild each other's dependencies.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::report::{Reporter, Row, complain};

pub(crate) mod fuzz;
pub(crate) mod sanitize;
pub(crate) mod tool;

pub(crate) use tool::workspace_root;

/// What to verify, and how long to search.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Search for hours instead of minutes: longer fuzzing, scribbling and stress, models at a higher preemption bound,
    /// and every pair of instructions.
    #[arg(long)]
    long: bool,
    /// Run only the layers whose names contain one of these texts.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
}

/// How far the searching layers search.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Seconds, each target.
    fuzz_each: u64,
    /// Seconds.
    scribble: u64,
    /// Seconds.
    stress: u64,
    /// How often a model may take the processor from a thread, in one schedule.
    preemptions: u64,
    /// Partners stop at every instruction, however many pairs that are.
    complete: bool,
}

impl Budget {
    const FAST: Self = Self { fuzz_each: 30, scribble: 15, stress: 30, preemptions: 3, complete: false };
    const LONG: Self = Self { fuzz_each: 3600, scribble: 3600, stress: 3600, preemptions: 5, complete: true };
}

/// What a layer's output is counted by.
#[derive(Clone, Copy, Debug)]
enum Count {
    /// `test result: ok. 12 passed; ...` of a test runner: the sum.
    Passed,
    /// One JSON object a line: the lines.
    JsonRows,
    /// The command is one case.
    One,
}

/// The packages that users import.
const LIBRARIES: [&str; 4] = ["tidewire-shm", "tidewire-ring", "tidewire-mpsc", "tidewire-seqlock"];

/// A layer: a name, a command, and what counts.
struct Layer {
    name: &'static str,
    command: Command,
    count: Count,
}

/// A line of the final table.
#[derive(Debug, Serialize)]
struct Outcome {
    layer: String,
    cases: u64,
    seconds: f64,
    verdict: &'static str,
}

impl Row for Outcome {
    const COLUMNS: &'static [(&'static str, i16)] =
        &[("layer", -34), ("cases", 7), ("seconds", 8), ("verdict", -7)];

    fn cells(&self) -> Vec<String> {
        vec![
            self.layer.clone(),
            self.cases.to_string(),
            format!("{:.1}", self.seconds),
            self.verdict.to_owned(),
        ]
    }
}

/// Runs the layers; true if all passed.
pub(crate) fn main(args: &Args, reporter: &mut Reporter) -> Result<bool> {
    let root = workspace_root()?;
    let budget = if args.long { Budget::LONG } else { Budget::FAST };
    let wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|text| name.contains(text.as_str()));
    let mut outcomes = Vec::new();
    for layer in layers(&root, budget)?.into_iter().filter(|layer| wanted(layer.name)) {
        outcomes.push(run(layer));
    }
    if outcomes.is_empty() {
        bail!("no layer has a name that contains any of {:?}", args.only);
    }
    reporter.note("")?;
    for outcome in &outcomes {
        reporter.row(outcome)?;
    }
    let passed = outcomes.iter().filter(|outcome| outcome.verdict == PASSED).count();
    let cases: u64 = outcomes.iter().map(|outcome| outcome.cases).sum();
    reporter.note(&format!("\n{} layers, {cases} cases", outcomes.len()))?;
    reporter.note(&format!("{passed} passed, {} failed", outcomes.len() - passed))?;
    Ok(passed == outcomes.len())
}

const PASSED: &str = "passed";
const FAILED: &str = "FAILED";

fn layers(root: &Path, budget: Budget) -> Result<Vec<Layer>> {
    let cargo = |command: &str, words: &[&str]| {
        let mut command = tool::cargo(root, command);
        command.args(words);
        command
    };
    let harness_path = env::current_exe().context("finding the harness' own executable")?;
    let harness = |words: &[&str]| {
        let mut command = Command::new(&harness_path);
        command.args(words).arg("--json").current_dir(root);
        tool::die_with_parent(&mut command);
        command
    };
    let with = |mut command: Command, key: &str, value: &str| {
        command.env(key, value);
        command
    };
    let models = || {
        let mut command = cargo("test", &["--profile", "loom", "--target-dir", "target/loom"]);
        for package in LIBRARIES {
            command.args(["-p", package]);
        }
        // Whatever is called so, in each of them.
        command.args(["--test", "loom_*"]);
        // The encoded flags would win.
        command.env("RUSTFLAGS", "--cfg loom").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.env("LOOM_MAX_PREEMPTIONS", budget.preemptions.to_string());
        command.env_remove("TIDEWIRE_STALE_CAS");
        command
    };
    let packages = LIBRARIES.map(|package| ["-p", package]).concat();
    let units = [
        &packages[..],
        &["-p", "tidewire", "-p", "tidewire-derive", "--features", "tidewire/futures,tidewire/serde"],
    ]
    .concat();
    let seconds = |n: u64| n.to_string();
    let step: &[&str] = if budget.complete { &["step", "--complete"] } else { &["step"] };
    let layer = |name, command, count| Layer { name, command, count };
    Ok(vec![
        layer("tests (units, properties, hostile)", cargo("test", &units), Count::Passed),
        // Optimised: they step and time machine code.
        layer(
            "tests of this program",
            cargo("test", &["--release", "-p", "tidewire-harness"]),
            Count::Passed,
        ),
        layer(
            "build without std",
            cargo("build", &[&packages[..], &["--no-default-features"]].concat()),
            Count::One,
        ),
        layer(
            "checks of the benchmarks",
            cargo("test", &["--release", "-p", "tidewire-benches", "--test", "check"]),
            Count::Passed,
        ),
        layer("models (loom)", models(), Count::Passed),
        layer("models (loom, stale failures)", with(models(), "TIDEWIRE_STALE_CAS", "1"), Count::Passed),
        layer("mutated orderings", harness(&["mutate"]), Count::JsonRows),
        layer("broken twins", harness(&["twins"]), Count::JsonRows),
        layer("every instruction", harness(step), Count::JsonRows),
        layer("scribbler", harness(&["scribble", "--seconds", &seconds(budget.scribble)]), Count::JsonRows),
        layer("stress", harness(&["stress", "--seconds", &seconds(budget.stress)]), Count::JsonRows),
        layer("sanitizers", harness(&["sanitize"]), Count::JsonRows),
        layer("fuzzing", harness(&["fuzz", "--seconds", &seconds(budget.fuzz_each)]), Count::JsonRows),
        layer("run", harness(&["run"]), Count::JsonRows),
    ])
}

fn run(layer: Layer) -> Outcome {
    let started = Instant::now();
    let Layer { name, command, count } = layer;
    complain(&format!("\n==> {name}"));
    let (cases, passed) = match execute(command, count) {
        Ok(result) => result,
        Err(error) => {
            complain(&format!("{name}: {error:#}"));
            (0, false)
        }
    };
    // A layer that ran nothing proves nothing.
    let verdict = if passed && cases > 0 { PASSED } else { FAILED };
    Outcome { layer: name.to_owned(), cases, seconds: started.elapsed().as_secs_f64(), verdict }
}

/// A started program; killed and waited for if it is dropped before its end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already, or not wanted any more.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn execute(mut command: Command, count: Count) -> Result<(u64, bool)> {
    let words = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = Running(child.with_context(|| format!("starting {words}"))?);
    let stdout = child.0.stdout.take().context("a piped standard output")?;
    let (mut stdout, mut line, mut cases) = (BufReader::new(stdout), Vec::new(), 0);
    while stdout.read_until(b'\n', &mut line).with_context(|| format!("reading from {words}"))? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        cases += count_line(text, count);
        // Passed on to standard error: standard output carries the table, or JSON.
        let _closed = writeln!(std::io::stderr().lock(), "{text}");
        line.clear();
    }
    let status = child.0.wait().with_context(|| format!("waiting for {words}"))?;
    if !status.success() {
        complain(&format!("{words} ended with {status}"));
    }
    if matches!(count, Count::One) {
        cases = 1;
    }
    Ok((cases, status.success()))
}

fn count_line(line: &str, count: Count) -> u64 {
    match count {
        Count::Passed => passed_in(line).unwrap_or(0),
        Count::JsonRows => u64::from(line.starts_with('{')),
        Count::One => 0,
    }
}

/// The number before `passed` in a test runner's closing line.
fn passed_in(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    rest.split_once(" passed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_from_closing_lines_only() {
        let line =
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert_eq!(count_line(line, Count::Passed), 12);
        assert_eq!(count_line("test a ... ok", Count::Passed), 0);
        assert_eq!(count_line("{\"site\":1}", Count::JsonRows), 1);
        assert_eq!(count_line("note", Count::JsonRows), 0);
    }

    #[test]
    fn output_that_is_no_text_is_counted_all_the_same() {
        let mut command = Command::new("printf");
        command.arg("\\377\\n{\\376}\\nnote\\n{}");
        assert_eq!(execute(command, Count::JsonRows).unwrap(), (2, true));
    }

    #[test]
    fn a_layer_that_ran_nothing_has_failed() {
        let layer = Layer { name: "empty", command: Command::new("true"), count: Count::Passed };
        assert_eq!(run(layer).verdict, FAILED);
        let layer =
            Layer { name: "missing", command: Command::new("/nonexistent/program"), count: Count::One };
        assert_eq!(run(layer).verdict, FAILED);
        let layer = Layer { name: "failing", command: Command::new("false"), count: Count::One };
        assert_eq!(run(layer).verdict, FAILED);
    }
}
