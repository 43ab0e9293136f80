//! `verify`: every test there is, with a table at the end, and why each layer failed that did.
//!
//! Each layer is a command with a way to count its cases. What a layer prints passes through as it comes; a layer
//! that cannot run has failed. Layers that need an own build have a target directory of their own, so that they do
//! not rebuild each other's dependencies. What takes a while whatever the machine does (builds, models, mutants, the
//! fuzzer) runs first, two at a time; what times, waits or kills then has the machine for itself.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::report::{Reporter, complain};

pub(crate) mod fuzz;
mod layer;
mod reasons;
pub(crate) mod sanitize;
pub(crate) mod tool;

use layer::{Company, Count, Layer, Outcome, PASSED};
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

/// The packages that users import.
const LIBRARIES: [&str; 4] = ["tidewire-shm", "tidewire-ring", "tidewire-mpsc", "tidewire-seqlock"];

/// Layers that run at the same time, where they may.
const LANES: usize = 2;

/// Runs the layers; true if all passed.
pub(crate) fn main(args: &Args, reporter: &mut Reporter) -> Result<bool> {
    let root = workspace_root()?;
    let budget = if args.long { Budget::LONG } else { Budget::FAST };
    let wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|text| name.contains(text.as_str()));
    let mut layers = layers(&root, budget)?;
    layers.retain(|layer| wanted(layer.name));
    if layers.is_empty() {
        bail!("no layer has a name that contains any of {:?}", args.only);
    }
    report(&layer::run_all(layers, LANES), reporter)
}

/// Prints the table, and behind it, since only the end of a long output may be kept, why layers failed; true if none did.
fn report(outcomes: &[Outcome], reporter: &mut Reporter) -> Result<bool> {
    reporter.note("")?;
    for outcome in outcomes {
        reporter.row(outcome)?;
    }
    let cases: u64 = outcomes.iter().map(|outcome| outcome.cases).sum();
    reporter.note(&format!("\n{} layers, {cases} cases", outcomes.len()))?;
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.verdict != PASSED).collect();
    reporter.note(&format!("{} passed, {} failed", outcomes.len() - failed.len(), failed.len()))?;
    for outcome in &failed {
        complain(&said_again(outcome));
    }
    Ok(failed.is_empty())
}

/// Why a layer failed, for people.
fn said_again(outcome: &Outcome) -> String {
    let mut text = format!("\n{} failed:", outcome.layer);
    for reason in &outcome.reasons {
        text.push_str("\n  ");
        text.push_str(reason);
    }
    text
}

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
        &[
            "-p",
            "tidewire",
            "-p",
            "tidewire-derive",
            "--features",
            "tidewire/futures,tidewire/serde,tidewire/tokio,tidewire/smol",
        ],
    ]
    .concat();
    let seconds = |n: u64| n.to_string();
    let jobs = LANES.to_string();
    let mut step = vec!["step", "--jobs", &jobs];
    if budget.complete {
        step.push("--complete");
    }
    let beside = |name, command, count| Layer { name, command, count, company: Company::Any };
    let alone = |name, command, count| Layer { name, command, count, company: Company::None };
    let built = |mut command: Command| {
        command.arg("--no-run");
        command
    };
    // Optimised: they step and time machine code.
    let own = || cargo("test", &["--release", "-p", "tidewire-harness"]);
    let checks = || cargo("test", &["--release", "-p", "tidewire-benches", "--test", "check"]);
    Ok(vec![
        // The longest first; those that use one target directory are apart.
        beside("build of the benchmarks' checks", built(checks()), Count::One),
        beside("models (loom)", models(), Count::Passed),
        beside("build of the tests", built(cargo("test", &units)), Count::One),
        beside("models (loom, stale failures)", with(models(), "TIDEWIRE_STALE_CAS", "1"), Count::Passed),
        beside("build of this program's tests", built(own()), Count::One),
        // Beside others a model takes longer.
        beside("mutated orderings", harness(&["mutate", "--timeout", "180"]), Count::JsonRows),
        beside("build of the sanitizers' tests", harness(&["sanitize", "--no-run"]), Count::JsonRows),
        beside("fuzzing", harness(&["fuzz", "--seconds", &seconds(budget.fuzz_each)]), Count::JsonRows),
        beside(
            "build without std",
            cargo("build", &[&packages[..], &["--no-default-features"]].concat()),
            Count::One,
        ),
        alone("tests (units, properties, hostile)", cargo("test", &units), Count::Passed),
        alone("tests of this program", own(), Count::Passed),
        alone("checks of the benchmarks", checks(), Count::Passed),
        alone("broken twins", harness(&["twins"]), Count::JsonRows),
        alone("every instruction", harness(&step), Count::JsonRows),
        alone("scribbler", harness(&["scribble", "--seconds", &seconds(budget.scribble)]), Count::JsonRows),
        alone("stress", harness(&["stress", "--seconds", &seconds(budget.stress)]), Count::JsonRows),
        alone("sanitizers", harness(&["sanitize"]), Count::JsonRows),
        alone("run", harness(&["run"]), Count::JsonRows),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_names_of_their_own() {
        let layers = layers(&workspace_root().unwrap(), Budget::FAST).unwrap();
        let mut names: Vec<_> = layers.iter().map(|layer| layer.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), layers.len());
    }

    #[test]
    fn a_planted_failure_fails_the_whole_and_is_said_again() {
        let planted = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Layer { name: "planted", command, count: Count::One, company: Company::Any }
        };
        let many = "i=0; while [ $i -lt 99 ]; do echo error: $i; i=$((i+1)); done";
        for (script, passes) in [(many.to_owned(), true), (format!("{many}; exit 1"), false)] {
            let outcomes = layer::run_all(vec![planted(&script), planted("true")], LANES);
            let said: Vec<_> = outcomes.iter().map(said_again).collect();
            assert_eq!(report(&outcomes, &mut Reporter::new(true)).unwrap(), passes);
            let [planted, good] = said.as_slice() else { panic!("{said:?}") };
            assert!(!good.contains("error:"));
            let lines = planted.lines().filter(|line| line.starts_with("  error: ")).count();
            assert_eq!(lines, if passes { 0 } else { reasons::MOST - 1 });
        }
    }
}
