//! Builds and runs the fuzz targets, and shows that they find planted bugs.
//!
//! The `fuzz` package is no member of the workspace: it is built with coverage instrumentation, which the stable
//! compiler has, into `target/fuzz`. Each target starts from a copy of its committed corpus, and what crashes it is
//! written to `target/fuzz/artifacts`, so that a run leaves the source tree as it was.
//!
//! A planted bug says [`STRUCK`] where it strikes. It is found if the target panics right behind that; any other end
//! of the target is none.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::tool;
use crate::report::{Reporter, Row, complain};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What a planted bug writes when it strikes.
const STRUCK: &str = "a planted bug strikes";
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
    /// Inputs were run and no crash came; with a planted bug: it was found.
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
/// it is ready. What is bad is complained about: a crash, with the path and the bytes of the input; a target that
/// ran nothing; a planted bug that was not found.
///
/// # Errors
/// A build that failed, or a target that cannot be started.
pub(crate) fn fuzz(
    root: &Path,
    seconds_each: u64,
    mut on_row: impl FnMut(&FuzzRow) -> Result<()>,
) -> Result<bool> {
    let mut all = true;
    for (planted, seconds) in [(false, seconds_each), (true, PLANTED_SECONDS)] {
        let programs = build(root, planted)?;
        for target in TARGETS {
            let ended = one(root, &programs.join(target), target, seconds, planted)?;
            let trouble = ended.trouble(planted);
            if let Some(trouble) = &trouble {
                complain(&format!("{target}: {trouble}"));
            }
            let name = if planted { format!("{target}, planted bug") } else { target.to_owned() };
            let good = trouble.is_none();
            on_row(&FuzzRow { target: name, runs: ended.runs, seconds: ended.seconds, good })?;
            all &= good;
        }
    }
    Ok(all)
}

pub(crate) fn main(args: &Args, root: &Path, reporter: &mut Reporter) -> Result<bool> {
    fuzz(root, args.seconds, |row| reporter.row(row))
}

/// Builds the targets; says where they are.
fn build(root: &Path, planted: bool) -> Result<PathBuf> {
    let directory = root.join("target/fuzz").join(if planted { "planted" } else { "plain" });
    let mut command = tool::cargo(&root.join("fuzz"), "build");
    command
        .args(["--release", "--target", TARGET, "--target-dir"])
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

/// What became of a target.
#[derive(Debug)]
struct Ended {
    runs: u64,
    seconds: f64,
    /// How it crashed, if it did.
    crash: Option<String>,
    /// Whether it panicked right where a planted bug had struck.
    found: bool,
}

impl Ended {
    /// What is bad about it.
    fn trouble(&self, planted: bool) -> Option<String> {
        match (&self.crash, planted) {
            (Some(crash), false) => Some(crash.clone()),
            (None, false) => (self.runs == 0).then(|| "ran no input at all".to_owned()),
            (Some(_), true) if self.found => None,
            (Some(crash), true) => Some(format!("ended otherwise than by the planted bug: {crash}")),
            (None, true) => Some(format!("the planted bug was not found in {} runs", self.runs)),
        }
    }
}

/// Runs one target.
fn one(root: &Path, program: &Path, target: &str, seconds: u64, planted: bool) -> Result<Ended> {
    let work = tool::scratch(root)?;
    let corpus = work.path().join("corpus");
    let seeds = root.join("fuzz/corpus").join(target);
    fs::create_dir(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
    for entry in fs::read_dir(&seeds).with_context(|| format!("reading {}", seeds.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), corpus.join(entry.file_name()))?;
    }
    let kept = root.join("target/fuzz/artifacts").join(target);
    let artifacts = if planted { work.path().join("artifacts") } else { kept };
    fs::create_dir_all(&artifacts).with_context(|| format!("creating {}", artifacts.display()))?;
    let before = Instant::now();
    let mut command = Command::new(program);
    command
        .current_dir(work.path())
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg("-max_len=4096")
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .stdin(Stdio::null());
    tool::die_with_parent(&mut command);
    let output = command.output().with_context(|| format!("starting {}", program.display()))?;
    let seconds = before.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let runs = said.lines().filter_map(runs_in).max().unwrap_or(0);
    let crash = (!output.status.success()).then(|| describe(&output, &said));
    Ok(Ended { runs, seconds, crash, found: is_found(&said) })
}

/// Whether the first panic comes right behind a planted bug.
fn is_found(said: &str) -> bool {
    let mut before = "";
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        if line.contains("panicked at") {
            return before == STRUCK;
        }
        before = line;
    }
    false
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

    #[test]
    fn only_a_panic_right_behind_a_planted_bug_finds_it() {
        let panic = "\nthread '<unnamed>' (7) panicked at src/fixed.rs:1:2:\nassertion failed\n";
        assert!(is_found(&format!("#1 INITED\n{STRUCK}\n#2 NEW\n{STRUCK}\n{panic}")));
        assert!(!is_found(&format!("{STRUCK}\n#2 NEW\n{panic}")));
        assert!(!is_found(&format!("{panic}{STRUCK}\n{panic}")));
        assert!(!is_found(&format!("{STRUCK}\n==7== ERROR: libFuzzer: out-of-memory\n")));
        assert!(!is_found(panic) && !is_found(STRUCK) && !is_found(""));
    }

    #[test]
    fn no_run_and_no_bug_are_troubles() {
        let ended = |runs, crash: Option<&str>, found| Ended {
            runs,
            seconds: 1.0,
            crash: crash.map(str::to_owned),
            found,
        };
        assert!(ended(1, None, false).trouble(false).is_none());
        assert!(ended(0, None, false).trouble(false).is_some());
        assert!(ended(9, Some("signal"), false).trouble(false).is_some());
        assert!(ended(9, Some("panic"), true).trouble(true).is_none());
        assert!(ended(9, Some("out of memory"), false).trouble(true).is_some());
        assert!(ended(9, None, true).trouble(true).is_some());
    }
}
