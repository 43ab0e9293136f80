//! Runs layers, alone or two at a time, and tells what became of each.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::reasons::Reasons;
use crate::report::{Row, complain};

pub(super) const PASSED: &str = "passed";
pub(super) const FAILED: &str = "FAILED";

/// What a layer's output is counted by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    /// `test result: ok. 12 passed; ...` of a test runner: the sum.
    Passed,
    /// One JSON object a line: the lines.
    JsonRows,
    /// The command is one case.
    One,
}

/// Whether another layer may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// What it finds does not depend on how fast it goes.
    Any,
    /// It measures, waits, or searches for a time: or it uses all processors by itself.
    None,
}

/// A layer: a name, a command, and what counts.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) name: &'static str,
    pub(super) command: Command,
    pub(super) count: Count,
    pub(super) company: Company,
}

/// A line of the final table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) layer: String,
    pub(super) cases: u64,
    pub(super) seconds: f64,
    pub(super) verdict: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) reasons: Vec<String>,
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

/// Runs the layers: first those that bear company, `lanes` at a time, then the others one by one. The outcomes are in
/// the order of the layers.
pub(super) fn run_all(layers: Vec<Layer>, lanes: usize) -> Vec<Outcome> {
    let count = layers.len();
    let (beside, alone): (Vec<_>, Vec<_>) =
        layers.into_iter().enumerate().partition(|(_, layer)| layer.company == Company::Any);
    let beside: Vec<_> = beside.into_iter().map(|(at, layer)| (at, Mutex::new(Some(layer)))).collect();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    let keep = |at, outcome| outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
    thread::scope(|scope| {
        for _ in 0..lanes.min(beside.len()) {
            scope.spawn(|| {
                // ORD own: Relaxed, a counter; the end of the scope hands the outcomes over.
                while let Some((at, layer)) = beside.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let layer = layer.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(layer) = layer {
                        keep(*at, run(layer));
                    }
                }
            });
        }
    });
    for (at, layer) in alone {
        keep(at, run(layer));
    }
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Runs a layer to its end.
pub(super) fn run(layer: Layer) -> Outcome {
    let started = Instant::now();
    let Layer { name, command, count, company } = layer;
    complain(&format!("\n==> {name}"));
    // What is said by two at a time is told apart.
    let mark = if company == Company::Any { format!("[{name}] ") } else { String::new() };
    let (cases, passed, mut reasons) = match execute(command, count, &mark) {
        Ok(said) => said,
        Err(error) => {
            let said = format!("{error:#}");
            complain(&format!("{name}: {said}"));
            (0, false, vec![said])
        }
    };
    // A layer that ran nothing proves nothing.
    let passed = passed && cases > 0;
    if cases == 0 {
        reasons.insert(0, "nothing was run".to_owned());
    }
    let verdict = if passed { PASSED } else { FAILED };
    let seconds = started.elapsed().as_secs_f64();
    complain(&format!("<== {name}: {verdict} after {seconds:.1} s"));
    if passed {
        reasons.clear();
    }
    Outcome { layer: name.to_owned(), cases, seconds, verdict, reasons }
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

/// Runs a command to its end: the cases, whether it says that all is well, and what looks like a reason if not.
///
/// What it prints is passed on to standard error, each line behind `mark`: standard output carries the table, or JSON.
pub(super) fn execute(mut command: Command, count: Count, mark: &str) -> Result<(u64, bool, Vec<String>)> {
    let words = format!("{command:?}");
    // An error that keeps its trace takes a lock for it, which a child forked by a test with threads may never get.
    command.env("RUST_LIB_BACKTRACE", "0");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Running(child.with_context(|| format!("starting {words}"))?);
    let stdout = child.0.stdout.take().context("a piped standard output")?;
    let stderr = child.0.stderr.take().context("a piped standard error")?;
    let (out, errors) = thread::scope(|scope| {
        let errors = scope.spawn(|| pass_on(stderr, mark, |_| 0));
        let out = pass_on(stdout, mark, |line| count_line(line, count));
        (out, errors.join())
    });
    let (mut cases, out) = out.with_context(|| format!("reading from {words}"))?;
    let errors = errors.map_err(|_panic| anyhow::anyhow!("reading the errors of {words}"))?;
    let (_none, errors) = errors.with_context(|| format!("reading the errors of {words}"))?;
    let status = child.0.wait().with_context(|| format!("waiting for {words}"))?;
    let mut reasons = Reasons::of(vec![out, errors]);
    if !status.success() {
        let said = format!("{words} ended with {status}");
        complain(&said);
        reasons.insert(0, said);
        reasons.truncate(super::reasons::MOST);
    }
    if matches!(count, Count::One) {
        cases = 1;
    }
    Ok((cases, status.success(), reasons))
}

/// Passes lines on, adds up what they count, and keeps the reasons among them.
fn pass_on(from: impl Read, mark: &str, count: impl Fn(&str) -> u64) -> std::io::Result<(u64, Reasons)> {
    let (mut from, mut line, mut cases, mut reasons) =
        (BufReader::new(from), Vec::new(), 0, Reasons::default());
    while from.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        cases += count(text);
        reasons.look(text);
        complain(&format!("{mark}{text}"));
        line.clear();
    }
    Ok((cases, reasons))
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
    use std::time::Duration;

    use super::*;

    fn layer(name: &'static str, script: &str, count: Count, company: Company) -> Layer {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Layer { name, command, count, company }
    }

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
        let (cases, passed, _) = execute(command, Count::JsonRows, "").unwrap();
        assert_eq!((cases, passed), (2, true));
    }

    #[test]
    fn a_layer_that_ran_nothing_has_failed() {
        let nothing = run(layer("empty", "true", Count::Passed, Company::None));
        assert_eq!((nothing.verdict, nothing.reasons), (FAILED, vec!["nothing was run".to_owned()]));
        let missing = Layer {
            command: Command::new("/nonexistent/program"),
            ..layer("missing", "", Count::One, Company::None)
        };
        assert_eq!(run(missing).verdict, FAILED);
        assert_eq!(run(layer("failing", "false", Count::One, Company::None)).verdict, FAILED);
    }

    #[test]
    fn a_failed_layer_says_why_and_a_good_one_says_nothing() {
        let script =
            "echo '{\"bad\":0}'; echo '{\"bad\":7}'; echo \"thread panicked at a.rs:1:1:\" >&2; echo why >&2";
        let good = run(layer("good", script, Count::JsonRows, Company::Any));
        assert_eq!((good.verdict, good.cases, good.reasons.len()), (PASSED, 2, 0));
        let bad = run(layer("bad", &format!("{script}; exit 3"), Count::JsonRows, Company::Any));
        assert_eq!((bad.verdict, bad.cases), (FAILED, 2));
        let [ended, row, panicked, why] = bad.reasons.as_slice() else { panic!("{:?}", bad.reasons) };
        assert!(ended.contains("exit status: 3") && row == "{\"bad\":7}", "{:?}", bad.reasons);
        assert!(panicked.contains("panicked at") && why == "why", "{:?}", bad.reasons);
    }

    #[test]
    fn two_bear_company_the_others_are_alone_and_outcomes_keep_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        // Each of two waits for the other; who is alone would find a trace of another that runs.
        let meets = |mine: &str, other: &str| {
            format!("touch {}; while ! test -e {}; do sleep 0.01; done", at(mine), at(other))
        };
        let alone = format!("! test -e {0} && touch {0} && sleep 0.05 && rm {0}", at("alone"));
        let layers = vec![
            layer("first", &alone, Count::One, Company::None),
            layer("second", &meets("a", "b"), Count::One, Company::Any),
            layer("third", &alone, Count::One, Company::None),
            layer("fourth", &meets("b", "a"), Count::One, Company::Any),
        ];
        let started = Instant::now();
        let outcomes = run_all(layers, 2);
        let found: Vec<_> =
            outcomes.iter().map(|outcome| (outcome.layer.as_str(), outcome.verdict)).collect();
        let expected = ["first", "second", "third", "fourth"].map(|name| (name, PASSED));
        assert_eq!(found, expected);
        assert!(started.elapsed() >= Duration::from_millis(100));
    }
}
