//! Being written.
use crate::report::Reporter;

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_args: &Args, _reporter: &mut Reporter) -> anyhow::Result<bool> {
    anyhow::bail!("not there yet")
}
