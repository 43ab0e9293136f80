//! `mutate`: weakens every atomic ordering of the structures, one at a time, and sees that a model notices.
//!
//! One binary serves all mutants: built with `--cfg loom`, each atomic operation knows where it stands in the source
//! and asks the environment for its ordering (`tidewire_shm::sync::hook`). The steps:
//!
//! 1. [`build`] the models of the packages in [`PACKAGES`] and list them;
//! 2. run each model unchanged and [record](run) the sites that it reaches: it must pass;
//! 3. run each [mutant](site) against the models that reach its site, the fastest first, until one fails: with one
//!    preemption, which kills almost everything in no time, and what survives that with as many as asked for. A
//!    model that kills with more preemptions than it was run with unchanged is run unchanged with as many first;
//! 4. compare with the [sources](source) and the [reviewed list](reviewed): a mutant that no model kills, an ordering
//!    in the sources that no model reaches, an import under which orderings are not found, and an entry of the list
//!    that has become false are all [bad](judge).
//!
//! A new structure is one more row of [`PACKAGES`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::report::Reporter;
use crate::verify::tool;

mod build;
mod judge;
mod reviewed;
mod run;
mod site;
mod source;

/// A package whose orderings are under test.
struct Package {
    name: &'static str,
    /// Its test targets that hold models. A package may have none if the models of others reach its sites.
    tests: &'static [&'static str],
    /// Where its orderings stand.
    sources: &'static str,
    /// The parts of `sources` that are not under test: the seam forwards the orderings of its callers.
    except: &'static [&'static str],
}

const PACKAGES: &[Package] = &[
    Package {
        name: "tidewire-shm",
        tests: &["loom_bell", "loom_roster"],
        sources: "shm/src",
        except: &["shm/src/sync"],
    },
    Package { name: "tidewire-ring", tests: &["loom_ring"], sources: "ring/src", except: &[] },
    Package {
        name: "tidewire-mpsc",
        tests: &["loom_lanes", "loom_ordered"],
        sources: "mpsc/src",
        except: &[],
    },
    Package {
        name: "tidewire-seqlock",
        tests: &["loom_seqlock", "loom_log"],
        sources: "seqlock/src",
        except: &[],
    },
];

/// The reviewed list, from the root of the workspace.
const REVIEWED: &str = "harness/mutate-survivors.txt";

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Use this built binary of models instead of building; may be given more than once.
    #[arg(long, value_name = "PATH")]
    binary: Vec<PathBuf>,
    /// How many times a model may preempt a thread before a mutant counts as a survivor. One is tried first.
    #[arg(long, default_value_t = 3, value_name = "N")]
    preemptions: u32,
    /// How long one model may run against one mutant.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
    /// How many models run at a time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    jobs: usize,
}

/// Carries out the command; `Ok(false)` says that something was bad and was reported.
pub(crate) fn main(args: &Args, reporter: &mut Reporter) -> Result<bool> {
    let root = tool::workspace_root()?;
    let list = root.join(REVIEWED);
    let text = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut reviewed = reviewed::Reviewed::parse(&text).with_context(|| list.display().to_string())?;
    let sources = PACKAGES
        .iter()
        .map(|package| source::read_all(&root, package.sources, package.except))
        .collect::<Result<Vec<_>>>()?
        .concat();

    let binaries = if args.binary.is_empty() { build::models(&root, PACKAGES)? } else { args.binary.clone() };
    let start = Instant::now();
    let runner = run::Runner {
        preemptions: args.preemptions,
        timeout: Duration::from_secs(args.timeout.max(1)),
        jobs: args.jobs.max(1),
        scratch: tool::scratch(&root)?,
    };
    let mut models = runner.baseline(&binaries, runner.quick())?;
    let mut sites = judge::sites(&models, &sources);
    if judge::misses_any(&sources, &sites) {
        models = runner.baseline(&binaries, runner.preemptions)?;
        sites = judge::sites(&models, &sources);
    }
    let tried = runner.mutants(&models, &sites)?;
    let rows = judge::judge(&models, &sources, &sites, &tried, &mut reviewed);

    let bad = rows.iter().filter(|row| row.verdict.bad()).count();
    for row in &rows {
        reporter.row(row)?;
    }
    let killed = rows.iter().filter(|row| row.verdict == judge::Verdict::Killed).count();
    reporter.note(&format!(
        "{} models, {} sites, {killed} mutants killed, {} reviewed, {bad} bad, {:.1} s",
        models.len(),
        sites.len(),
        rows.iter().filter(|row| row.verdict == judge::Verdict::Reviewed).count(),
        start.elapsed().as_secs_f64(),
    ))?;
    Ok(bad == 0)
}
