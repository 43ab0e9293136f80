//! What it takes to build a package and all that it needs from nothing, as whoever adds it to a project does once.
//!
//! Two jobs, the release profile of this workspace, into a new folder that is removed afterwards. Sources are there
//! already: nothing is loaded. How long it takes depends on what else runs; the time that its processes had does less,
//! and a build during which others had more than a twentieth of the machine does not count.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, id};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::board::{Board, Value};
use crate::record::top;

/// A build that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(600);
const JOBS: &str = "2";

/// A new folder, removed with all that is in it when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("tidewire-benches-cold-{}", id()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// Runs cargo on this workspace without what the caller's environment would change.
fn cargo(arguments: &[&str], more: &[OsString]) -> anyhow::Result<Output> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(top()).args(arguments).args(more);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL", "CARGO_MAKEFLAGS", "MAKEFLAGS"]
    {
        command.env_remove(name);
    }
    // An empty name is none: a cache of earlier builds is not from nothing.
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
    let output = command.output().context("run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
    ensure!(output.status.success(), "expected cargo {} to succeed, it said: {last}", arguments.join(" "));
    Ok(output)
}

/// How many packages there are in a tree, one a line; what stands there again is marked and counted once.
fn packages(tree: &str) -> usize {
    let name_and_version = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    tree.lines().filter_map(name_and_version).collect::<BTreeSet<_>>().len()
}

/// Fields of a line of numbers from one on, in ticks.
fn ticks(fields: &str, from: usize, count: usize) -> anyhow::Result<Vec<f64>> {
    let found: Vec<f64> =
        fields.split_whitespace().skip(from).take(count).filter_map(|field| field.parse().ok()).collect();
    ensure!(found.len() == count, "expected {count} times, found {}", found.len());
    Ok(found)
}

/// What processors were busy with so far, in seconds.
#[derive(Clone, Copy)]
struct Busy {
    /// For whatever this process has started and seen end: its own code, and the kernel's for it.
    own: [f64; 2],
    /// For anything.
    all: f64,
}

impl Busy {
    fn now() -> anyhow::Result<Self> {
        let second = rustix::param::clock_ticks_per_second() as f64;
        let process = fs::read_to_string("/proc/self/stat").context("ask for the time of a process")?;
        // The name, in brackets, may hold anything.
        let fields = process.rsplit(')').next().unwrap_or_default();
        let own = ticks(fields, 13, 2)?.into_iter().map(|ticks| ticks / second).collect::<Vec<_>>();
        let machine = fs::read_to_string("/proc/stat").context("ask for the time of the machine")?;
        let fields = machine.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        // All but the fourth and the fifth, which are idle; the ninth and tenth are in the first ones.
        let all = ticks(fields, 0, 3)?.into_iter().chain(ticks(fields, 5, 3)?).sum::<f64>() / second;
        let &[user, system] = own.as_slice() else { anyhow::bail!("expected two times") };
        Ok(Self { own: [user, system], all })
    }
}

/// Builds a package from nothing, and counts what it is built of.
///
/// # Errors
/// What cargo says, or the system.
pub fn build(board: &Board, package: &str) -> anyhow::Result<()> {
    board.expect(1);
    let tree = ["tree", "--locked", "--offline", "--edges", "normal,build", "--prefix", "none", "--package"];
    let tree = cargo(&tree, &[package.into()])?;
    board.set(Value::Crates, packages(&String::from_utf8_lossy(&tree.stdout)) as f64);
    let folder = Folder::new()?;
    let (before, began) = (Busy::now()?, Instant::now());
    let arguments = ["build", "--release", "--locked", "--offline", "--jobs", JOBS, "--package", package];
    cargo(&arguments, &["--target-dir".into(), folder.0.clone().into()])?;
    let (took, after) = (began.elapsed().as_secs_f64(), Busy::now()?);
    let own: f64 = after.own.iter().zip(before.own).map(|(after, before)| after - before).sum();
    board.set(Value::Seconds, took);
    board.set(Value::CpuSeconds, own);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    board.raise(Value::Waited, (after.all - before.all - own).max(0.0) / (took * cores));
    board.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_counted_once() {
        let tree = "a v0.1.0 (/some/where)\nb v1.0.0 (proc-macro)\nc v2.0.1\nb v1.0.0 (proc-macro) (*)\nc v1.0.0\n\n";
        assert_eq!(packages(tree), 4, "two versions are two packages");
        assert_eq!(packages(""), 0);
    }

    #[test]
    fn times_are_read_as_the_system_writes_them() {
        assert_eq!(ticks(" 1 2 30 4", 1, 2).expect("two times"), [2.0, 30.0]);
        assert!(ticks("1 2", 1, 2).is_err(), "one is missing");
        let (first, second) = (Busy::now().expect("times"), Busy::now().expect("times"));
        assert!(second.all >= first.all && first.all > 0.0);
    }
}
