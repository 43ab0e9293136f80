//! The command line.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::report::Reporter;
use crate::{mutate, run, scribble, step, stress, twins, verify};

/// Runs, stresses, kills, freezes and scribbles real processes over Tidewire's structures, and judges them.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Args,
    /// Print one JSON object per row on standard output instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stream real data between real processes and verify every message (the default).
    Run(run::Args),
    /// Weaken every atomic ordering, one at a time, and see that a model notices.
    Mutate(mutate::Args),
    /// Kill, freeze, interleave and lie to every operation at every instruction.
    Step(step::Args),
    /// Let a hostile process overwrite shared words while a victim works.
    Scribble(scribble::Args),
    /// Run with random kills and stops, and check the recorded histories.
    Stress(stress::Args),
    /// Show every checker a structure that is broken on purpose.
    Twins(twins::Args),
    /// Run the threaded tests under the thread and address sanitizers.
    Sanitize(verify::sanitize::Args),
    /// Fuzz attaching and operation sequences.
    Fuzz(verify::fuzz::Args),
    /// Run every test there is: units, models, mutants, sweeps, scribbles, fuzzing, sanitizers, twins, stress.
    Verify(verify::Args),
    /// Part of a run: a process that plays one role. Started by the harness, not by people.
    #[command(hide = true)]
    Child(run::ChildArgs),
}

impl Cli {
    /// Carries out the command; `Ok(false)` says that something was bad and was reported.
    pub(crate) fn execute(&self) -> Result<bool> {
        let mut reporter = Reporter::new(self.json);
        match &self.command {
            None => run::main(&self.run, &mut reporter),
            Some(Command::Run(args)) => run::main(args, &mut reporter),
            Some(Command::Mutate(args)) => mutate::main(args, &mut reporter),
            Some(Command::Step(args)) => step::main(args, &mut reporter),
            Some(Command::Scribble(args)) => scribble::main(args, &mut reporter),
            Some(Command::Stress(args)) => stress::main(args, &mut reporter),
            Some(Command::Twins(args)) => twins::main(args, &mut reporter),
            Some(Command::Sanitize(args)) => {
                verify::sanitize::main(args, &verify::workspace_root()?, &mut reporter)
            }
            Some(Command::Fuzz(args)) => verify::fuzz::main(args, &verify::workspace_root()?, &mut reporter),
            Some(Command::Verify(args)) => verify::main(args, &mut reporter),
            Some(Command::Child(args)) => run::child(args),
        }
    }
}
