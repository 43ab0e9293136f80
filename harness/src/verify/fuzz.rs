//! Builds and runs the fuzz targets, and shows that they find planted bugs.
//!
//! The `fuzz` package is no member of the workspace: it is built with coverage instrumentation, which the stable
//! compiler has, into `target/fuzz`. Each target starts from a copy of its committed corpus, so that a run leaves
//! the source tree as it was.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::report::{Reporter, Row, complain};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const TARGETS: [&str; 3] = ["attach", "fixed_ops", "bytes_ops"];
/// Seconds within which a planted bug must be found.
const PLANTED_SECONDS: u64 = 20;
/// Seconds that one input may take.
const INPUT_SECONDS: u64 = 5;
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Fuzzes every target, and sees that planted bugs are found.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// What one target did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FuzzRow {
    pub(crate) target: String,
    /// Inputs run.
    pub(crate) runs: u64,
    pub(crate) seconds: f64,
    /// No crash; with a planted bug: a crash.
    pub(crate) good: bool,
}

impl Row for FuzzRow {
    const COLUMNS: &'static [(&'static str, i16)] =
        &[("target", -22), ("runs", 10), ("seconds", 7), ("good", 5)];

    fn cells(&self) -> Vec<String> {
        let seconds = format!("{:.1}", self.seconds);
        vec![self.target.clone(), self.runs.to_string(), seconds, self.good.to_string()]
    }
}

/// Fuzzes each target for some seconds, then each with a planted bug until that is found; hands each row out as
/// it is ready.
///
/// # Errors
/// A crash, with the path and the bytes of the input; a planted bug that was not found; a build that failed.
pub(crate) fn fuzz(
    root: &Path,
    seconds_each: u64,
    mut on_row: impl FnMut(&FuzzRow) -> Result<()>,
) -> Result<()> {
    let mut failures = Vec::new();
    for (planted, seconds) in [(false, seconds_each), (true, PLANTED_SECONDS)] {
        let programs = build(root, planted)?;
        for target in TARGETS {
            let row = match (one(root, &programs.join(target), target, seconds)?, planted) {
                ((runs, spent, crash), false) => {
                    failures.extend(crash.iter().map(|crash| format!("{target}: {crash}")));
                    FuzzRow {
                        target: target.to_owned(),
                        runs,
                        seconds: spent,
                        good: crash.is_none() && runs > 0,
                    }
                }
                ((runs, spent, crash), true) => {
                    if crash.is_none() {
                        failures.push(format!("{target}: the planted bug was not found in {runs} runs"));
                    }
                    FuzzRow {
                        target: format!("{target}, planted bug"),
                        runs,
                        seconds: spent,
                        good: crash.is_some(),
                    }
                }
            };
            on_row(&row)?;
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}

pub(crate) fn main(args: &Args, root: &Path, reporter: &mut Reporter) -> Result<bool> {
    fuzz(root, args.seconds, |row| reporter.row(row))?;
    Ok(true)
}

/// Builds the targets; says where they are.
fn build(root: &Path, planted: bool) -> Result<PathBuf> {
    let directory = root.join("target/fuzz").join(if planted { "planted" } else { "plain" });
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root.join("fuzz"))
        .args(["build", "--release", "--target", TARGET, "--target-dir"])
        .arg(root.join("target/fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if planted {
        command.args(["--features", "planted"]);
    }
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        complain(&String::from_utf8_lossy(&output.stderr));
        bail!("{command:?} ended with {}", output.status);
    }
    // Both builds write the same names: keep each.
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    for target in TARGETS {
        let built = root.join("target/fuzz").join(TARGET).join("release").join(target);
        let kept = directory.join(target);
        fs::copy(&built, &kept)
            .with_context(|| format!("copying {} to {}", built.display(), kept.display()))?;
    }
    Ok(directory)
}

/// Runs one target: inputs run, seconds, and what crashed it, if anything did.
fn one(root: &Path, program: &Path, target: &str, seconds: u64) -> Result<(u64, f64, Option<String>)> {
    let work = tempfile::tempdir().context("making a directory for the corpus")?;
    let seeds = root.join("fuzz/corpus").join(target);
    for entry in fs::read_dir(&seeds).with_context(|| format!("reading {}", seeds.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), work.path().join(entry.file_name()))?;
    }
    let artifacts = root.join("fuzz/artifacts").join(target);
    fs::create_dir_all(&artifacts).with_context(|| format!("creating {}", artifacts.display()))?;
    let before = Instant::now();
    let output = Command::new(program)
        .arg(work.path())
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg("-max_len=4096")
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let spent = before.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let runs = said.lines().filter_map(runs_in).max().unwrap_or(0);
    let crash = (!output.status.success()).then(|| describe(&output, &said));
    Ok((runs, spent, crash))
}

/// How many inputs a line of the driver's output says were run.
fn runs_in(line: &str) -> Option<u64> {
    let number = match line.strip_prefix('#') {
        Some(rest) => rest.split_whitespace().next()?,
        None => line.strip_prefix("stat::number_of_executed_units:")?.trim(),
    };
    number.parse().ok()
}

/// The panic or signal, and the input: where it is, and its bytes.
fn describe(output: &Output, said: &str) -> String {
    let panic =
        said.lines().skip_while(|line| !line.contains("panicked at")).take(2).collect::<Vec<_>>().join(" ");
    let error =
        said.lines().find(|line| line.contains("ERROR: libFuzzer")).unwrap_or("no message of the driver");
    let path =
        said.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim());
    let bytes = path.and_then(|path| fs::read(path).ok()).unwrap_or_default();
    let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
        let _always = write!(hex, "{byte:02x}");
        hex
    });
    let path = path.unwrap_or("none");
    format!("{}; {panic} {error}; input {path}, {} bytes: {hex}", output.status, bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_from_both_kinds_of_lines() {
        assert_eq!(runs_in("#1048576\tpulse  cov: 52 ft: 77 corp: 22/264b lim: 4096"), Some(1_048_576));
        assert_eq!(runs_in("stat::number_of_executed_units: 325866"), Some(325_866));
        assert_eq!(runs_in("Done 325866 runs in 9 second(s)"), None);
    }
}
