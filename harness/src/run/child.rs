//! A child of a run: one side of one row, in a process of its own.

use std::io::Write as _;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tidewire_shm::{Segment, SegmentOptions};

use super::control::{self, Control};
use super::pin;
use super::plan::{self, Fault, Plan};
use super::recorded;
use super::side::Side;
use crate::subject::Role;

/// The environment variable under which a child inherits segment `number` of the structure.
pub(crate) fn variable(number: usize) -> String {
    format!("TIDEWIRE_RUN_SEGMENT_{number}")
}

/// Plays the role that the plan gives, and says on standard output how it went.
pub(crate) fn play(role: Role, plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan).context("the plan cannot be read")?;
    stay_with_parent(&plan)?;
    ignore_interrupts();
    if let Some(cores) = &plan.cores {
        let cpu = cores.of(role);
        pin::pin(cpu).with_context(|| format!("cannot be kept on processor {cpu}"))?;
    }
    let structure = plan::structure(&plan.structure)?;
    // One side has each segment mapped once more, where it would else have mapped it in earnest: so the addresses
    // differ between the sides also where the system does not choose them at random.
    let mut elsewhere = Vec::new();
    let mut inherit = |variable: &str| -> Result<Segment> {
        if role == Role::Consumer {
            elsewhere.push(Segment::inherited(variable)?);
        }
        Ok(Segment::inherited_with(variable, &SegmentOptions::new().prefault(true))?)
    };
    let mut segments = Vec::new();
    for number in 0..plan.mode.segments() {
        segments.push(inherit(&variable(number))?);
    }
    let control = Control::new(&inherit(control::VARIABLE)?, plan.producers)?;
    let control_address = control.address();
    let mut side = Side::new(&plan, role, control);
    let regions = segments.iter().map(Segment::region).collect();
    let mut outcome = match role {
        Role::Producer(_) => structure.produce(&mut side, regions)?,
        Role::Consumer => structure.consume(&mut side, regions)?,
    };
    recorded::record(&side, structure, &segments)?;
    outcome.addresses.push(control_address);
    let line = match (role, plan.fault) {
        (Role::Producer(_), Some(Fault::Mumble)) => "mumble".to_owned(),
        _ => serde_json::to_string(&outcome)?,
    };
    writeln!(std::io::stdout(), "{line}").context("nobody takes the result")
}

/// Dies with the parent, whatever kills that.
fn stay_with_parent(plan: &Plan) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be tied to the parent")?;
    // Had the parent died before the call above, there would be no signal.
    let found = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    ensure!(
        u32::try_from(found).is_ok_and(|found| found == plan.parent),
        "expected process {} as the parent, found {found}",
        plan.parent
    );
    Ok(())
}

/// Leaves interrupts from the terminal to the parent, which ends its children itself.
fn ignore_interrupts() {
    for signal in [libc::SIGINT, libc::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler, and there is one thread.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
