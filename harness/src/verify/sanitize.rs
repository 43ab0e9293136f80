//! The thread and the address sanitizer over the test suites, and two planted faults that they must report.
//!
//! The payload copies are plain ones in these builds (`--cfg plain_copy`), so that the sanitizers see them. The
//! standard library is not instrumented, and what it synchronises inside is invisible: tests run one after the
//! other, and the test runner's own channel is suppressed (`.ci/tsan.supp`).

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::tool;
use crate::report::{Reporter, Row, complain};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const THREAD: Sanitizer = Sanitizer { name: "thread", directory: "target/tsan" };
const ADDRESS: Sanitizer = Sanitizer { name: "address", directory: "target/asan" };
/// Lines of a failed run that are shown.
const TAIL: usize = 80;

/// Runs the test suites under the thread and the address sanitizer.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Only build the tests.
    #[arg(long)]
    no_run: bool,
}

/// One run of tests.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LayerOutcome {
    /// Which sanitizer over which tests.
    pub(crate) name: String,
    /// Tests that passed, or reports that were wanted.
    pub(crate) cases: u64,
    /// With the build.
    pub(crate) seconds: f64,
    /// Whether all is as it must be, and anything was run.
    pub(crate) passed: bool,
}

impl Row for LayerOutcome {
    const COLUMNS: &'static [(&'static str, i16)] =
        &[("run", -44), ("cases", 5), ("seconds", 7), ("passed", 6)];

    fn cells(&self) -> Vec<String> {
        let seconds = format!("{:.1}", self.seconds);
        vec![self.name.clone(), self.cases.to_string(), seconds, self.passed.to_string()]
    }
}

/// A sanitizer and where it builds.
#[derive(Clone, Copy, Debug)]
struct Sanitizer {
    name: &'static str,
    directory: &'static str,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Lane {
    name: &'static str,
    sanitizer: Sanitizer,
    /// Which tests.
    tests: &'static [&'static str],
    /// Tests that cannot work under the sanitizer.
    skip: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// A report that must come, where a fault is planted.
    wanted: Option<&'static str>,
}

const THREADS: &[&str] =
    &["-p", "tidewire-ring", "--test", "threads_fixed", "--test", "threads_bytes", "--test", "threads_twin"];
const TWIN: &[&str] = &["-p", "tidewire-ring", "--test", "threads_twin"];
const UNITS: &[&str] = &["-p", "tidewire-ring", "-p", "tidewire-shm", "--lib"];
/// All accesses to a cell are atomic: here the sanitizer looks at what is beside them.
const CELLS: &[&str] = &["-p", "tidewire-seqlock", "--lib", "--test", "threads"];
const QUEUES: &[&str] =
    &["-p", "tidewire-mpsc", "--lib", "--test", "threads_lanes", "--test", "threads_ordered"];
/// Not the documentation's examples: they would be built one by one.
const ALL: &[&str] = &[
    "-p",
    "tidewire-ring",
    "-p",
    "tidewire-mpsc",
    "-p",
    "tidewire-seqlock",
    "-p",
    "tidewire-shm",
    "--lib",
    "--tests",
];

/// The address sanitizer turns locking of memory into nothing, and these look at what is locked.
const NO_LOCKS: &[&str] =
    &["prefaulting_and_locking_happen_while_mapping", "limits_of_the_process_are_named"];

const LANES: &[Lane] = &[
    Lane {
        name: "threads over one ring",
        sanitizer: THREAD,
        tests: THREADS,
        skip: &[],
        environment: &[],
        wanted: None,
    },
    Lane { name: "units", sanitizer: THREAD, tests: UNITS, skip: &[], environment: &[], wanted: None },
    Lane {
        name: "threads over one cell",
        sanitizer: THREAD,
        tests: CELLS,
        skip: &[],
        environment: &[],
        wanted: None,
    },
    Lane {
        name: "threads over one queue",
        sanitizer: THREAD,
        tests: QUEUES,
        skip: &[],
        environment: &[],
        wanted: None,
    },
    Lane {
        name: "twin that publishes relaxed",
        sanitizer: THREAD,
        tests: TWIN,
        skip: &[],
        environment: &[("TIDEWIRE_EXPECT_RACE", "1")],
        wanted: Some("ThreadSanitizer: data race"),
    },
    Lane {
        name: "all tests",
        sanitizer: ADDRESS,
        tests: ALL,
        skip: NO_LOCKS,
        // Tests of crashes leak what the dead held.
        // Tests ask for more memory than there is and want to be told. Tests of faults want the kernel's signals.
        environment: &[(
            "ASAN_OPTIONS",
            "detect_leaks=0:allocator_may_return_null=1:handle_segv=0:handle_sigbus=0",
        )],
        wanted: None,
    },
    Lane {
        name: "threads over one ring, leaks",
        sanitizer: ADDRESS,
        tests: THREADS,
        skip: &[],
        environment: &[("ASAN_OPTIONS", "detect_leaks=1")],
        wanted: None,
    },
    Lane {
        name: "threads over one queue, leaks",
        sanitizer: ADDRESS,
        tests: QUEUES,
        skip: &[],
        environment: &[("ASAN_OPTIONS", "detect_leaks=1")],
        wanted: None,
    },
    Lane {
        name: "twin that forgets to wrap",
        sanitizer: ADDRESS,
        tests: TWIN,
        skip: &[],
        environment: &[("TIDEWIRE_EXPECT_OVERFLOW", "1"), ("ASAN_OPTIONS", "detect_leaks=0")],
        wanted: Some("AddressSanitizer: heap-buffer-overflow"),
    },
];

/// Runs every row of the table and hands each outcome out as it is ready; what fails is shown on standard error.
///
/// # Errors
/// Where the build tool could not be started.
pub(crate) fn sanitize(
    root: &Path,
    mut on_row: impl FnMut(&LayerOutcome) -> Result<()>,
) -> Result<Vec<LayerOutcome>> {
    let mut outcomes = Vec::new();
    for lane in LANES {
        let outcome = run(lane, root)?;
        on_row(&outcome)?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Builds the tests of every row.
fn build(root: &Path, reporter: &mut Reporter) -> Result<bool> {
    let mut all = true;
    for lane in LANES.iter().filter(|lane| lane.wanted.is_none()) {
        let start = Instant::now();
        let mut command = command(lane, root);
        command.arg("--no-run");
        let status = command.status().with_context(|| format!("starting {command:?}"))?;
        let name = format!("{}: build of {}", lane.sanitizer.name, lane.name);
        let passed = status.success();
        all &= passed;
        reporter.row(&LayerOutcome { name, cases: 1, seconds: start.elapsed().as_secs_f64(), passed })?;
    }
    Ok(all)
}

pub(crate) fn main(args: &Args, root: &Path, reporter: &mut Reporter) -> Result<bool> {
    if args.no_run {
        return build(root, reporter);
    }
    let outcomes = sanitize(root, |outcome| reporter.row(outcome))?;
    Ok(outcomes.iter().all(|outcome| outcome.passed))
}

/// The build tool for the tests of a row, without what the tests themselves are told.
fn command(lane: &Lane, root: &Path) -> Command {
    let Sanitizer { name, directory } = lane.sanitizer;
    let flags = format!("-Zsanitizer={name} -Cunsafe-allow-abi-mismatch=sanitizer --cfg plain_copy");
    let mut command = tool::cargo(root, "test");
    command
        .args(["--no-fail-fast", "--release", "--target", TARGET, "--target-dir", directory])
        .args(lane.tests)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

fn run(lane: &Lane, root: &Path) -> Result<LayerOutcome> {
    let start = Instant::now();
    let mut command = command(lane, root);
    command
        .args(["--", "--test-threads=1"])
        .args(lane.skip.iter().flat_map(|test| ["--skip", test]))
        .env("TSAN_OPTIONS", format!("suppressions={}", root.join(".ci/tsan.supp").display()))
        .envs(lane.environment.iter().copied());
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let (cases, passed) = match lane.wanted {
        None => {
            let cases = said.lines().filter_map(passed_in).sum();
            (cases, output.status.success() && cases > 0)
        }
        Some(report) => {
            let reported = !output.status.success() && said.contains(report);
            (u64::from(reported), reported)
        }
    };
    let name = format!("{}: {}", lane.sanitizer.name, lane.name);
    if !passed {
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default();
        // What a test says of its failure stands far in front of the end.
        let panics = lines.iter().enumerate().filter(|(_, line)| line.contains("panicked at"));
        let why: Vec<&str> = panics.flat_map(|(at, _)| lines.iter().skip(at).take(4).copied()).collect();
        let why = why.get(..why.len().min(TAIL)).unwrap_or_default().join("\n");
        let wanted =
            lane.wanted.map(|report| format!("; expected a report of \"{report}\"")).unwrap_or_default();
        complain(&format!("{}\n{why}\n{name}: ended with {}{wanted}", tail.join("\n"), output.status));
    }
    Ok(LayerOutcome { name, cases, seconds: start.elapsed().as_secs_f64(), passed })
}

/// The number before `passed` in a test runner's closing line.
fn passed_in(line: &str) -> Option<u64> {
    line.strip_prefix("test result: ok. ")?.split_once(" passed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closing_lines_of_good_runs_count() {
        assert_eq!(passed_in("test result: ok. 12 passed; 0 failed; 0 ignored"), Some(12));
        assert_eq!(passed_in("test result: FAILED. 12 passed; 1 failed; 0 ignored"), None);
        assert_eq!(passed_in("test a ... ok"), None);
    }
}
