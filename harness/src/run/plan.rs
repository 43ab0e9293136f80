//! What one row does, and the table of structures that have rows.

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tidewire_shm::Region;

use super::pin::Cores;
use super::side::{Outcome, Side};
use super::{bundle, fixed, mpsc, records};
use crate::subject::Subject;
use crate::twins::history_twins::Twin;

/// Everything that a row does is decided here; the children get it as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) structure: String,
    pub(crate) mode: Mode,
    /// Payload bytes of a message, at least and at most.
    pub(crate) payload: (usize, usize),
    /// Slots or bytes, as the structure counts.
    pub(crate) capacity: usize,
    pub(crate) producers: u8,
    pub(crate) limit: Limit,
    pub(crate) cores: Option<Cores>,
    pub(crate) fault: Option<Fault>,
    /// Messages whose history is recorded after the measured ones.
    pub(crate) history: u64,
    /// What is wrong with the structure while histories are recorded.
    pub(crate) twin: Option<Twin>,
    /// The process that must be the parent of the children.
    pub(crate) parent: u32,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// One at a time.
    Single,
    /// Thirty-two at a time.
    Batch32,
    /// There, and back over a second structure.
    RoundTrip,
    /// Records of mixed lengths, one at a time.
    Records,
    /// A file, cut into records of mixed lengths.
    File,
}

impl Mode {
    /// The name that rows carry.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Batch32 => "batch32",
            Self::RoundTrip => "round-trip",
            Self::Records => "records",
            Self::File => "file",
        }
    }

    /// Whether the row lasts as long as it may, rather than as long as its file.
    pub(crate) fn is_timed(self) -> bool {
        self != Self::File
    }

    /// How many segments the row needs.
    pub(crate) fn segments(self) -> usize {
        if self == Self::RoundTrip { 2 } else { 1 }
    }
}

/// When the producer ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Limit {
    Seconds(f64),
    Messages(u64),
}

/// What the producer does wrong, once, so that it is seen whether anybody notices. The first four spoil messages,
/// the others the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// Leaves a message out.
    Skip,
    /// Sends a message again.
    Repeat,
    /// Sends two messages in the wrong order.
    Swap,
    /// Sends a message that is partly another one.
    Tear,
    /// Claims to have sent more than it did.
    Lie,
    /// Never ends, though it lives.
    Stall,
    /// Ends with an error.
    Fail,
    /// Says something at its end that is no result.
    Mumble,
    /// A receiver that follows another one forgets its first messages.
    Forget,
}

impl Fault {
    /// The messages sent instead of those from `next` on, and whether they are torn; then where to go on.
    pub(crate) fn instead(self, next: u64) -> (Vec<(u64, bool)>, u64) {
        match self {
            Self::Skip => (vec![], next + 1),
            Self::Repeat => (vec![(next.saturating_sub(1), false)], next),
            Self::Swap => (vec![(next + 1, false), (next, false)], next + 2),
            Self::Tear => (vec![(next, true)], next + 1),
            Self::Lie | Self::Stall | Self::Fail | Self::Mumble | Self::Forget => (vec![], next),
        }
    }
}

/// What the user asked for, as far as it decides which rows there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) payloads: Vec<usize>,
    pub(crate) capacity: Option<usize>,
    /// Whether the user named a file.
    pub(crate) input: bool,
}

/// A row before its limit is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) mode: Mode,
    /// Payload bytes of a message, at least and at most.
    pub(crate) payload: (usize, usize),
    /// Slots or bytes, as the structure counts.
    pub(crate) capacity: usize,
    /// How many processes send; round trips have one.
    pub(crate) producers: u8,
}

/// What `run` needs to know of a structure: the adapter.
pub(crate) trait Structure: Sync {
    /// The name that rows carry.
    fn name(&self) -> &'static str;

    /// Its rows, in the order in which they run.
    fn shapes(&self, choices: &Choices) -> Result<Vec<Shape>>;

    /// Bytes of each segment of the row.
    fn bytes(&self, plan: &Plan) -> Result<usize>;

    /// Lays the structure out in a new segment.
    fn create(&self, plan: &Plan, region: Region) -> Result<()>;

    /// The structure of this row as one whose histories are recorded.
    fn recorded(&self, plan: &Plan) -> Result<Box<dyn Subject>>;

    /// Plays a producer until the plan's limit, in a process of its own.
    fn produce(&self, side: &mut Side<'_>, regions: Vec<Region>) -> Result<Outcome>;

    /// Plays the consumer until all producers have ended, in a process of its own.
    fn consume(&self, side: &mut Side<'_>, regions: Vec<Region>) -> Result<Outcome>;
}

/// The structures that have rows.
pub(crate) static STRUCTURES: &[&dyn Structure] =
    &[&fixed::Fixed, &records::Records, &mpsc::FIXED, &mpsc::RECORDS, &mpsc::ORDERED, &mpsc::ORDERED_RECORDS];

/// Those that only twins play with.
static HIDDEN: &[&dyn Structure] = &[&bundle::Bundle];

/// The structure of this name.
pub(crate) fn structure(name: &str) -> Result<&'static dyn Structure> {
    match STRUCTURES.iter().chain(HIDDEN).find(|structure| structure.name() == name) {
        Some(structure) => Ok(*structure),
        None => {
            let known: Vec<_> = STRUCTURES.iter().map(|structure| structure.name()).collect();
            bail!("expected a structure out of {}, found {name}", known.join(", "))
        }
    }
}

/// One region per segment of the row.
pub(crate) fn regions<const N: usize>(regions: Vec<Region>) -> Result<[Region; N]> {
    let found = regions.len();
    match regions.try_into() {
        Ok(regions) => Ok(regions),
        Err(_) => bail!("expected {N} segments, found {found}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_the_way_to_a_child() {
        let plan = Plan {
            structure: "ring-fixed".to_owned(),
            mode: Mode::RoundTrip,
            payload: (8, 8),
            capacity: 1024,
            producers: 1,
            limit: Limit::Seconds(1.5),
            cores: Some(Cores { producers: vec![0, 2], consumer: 1 }),
            fault: Some(Fault::Swap),
            history: 1000,
            twin: Some(Twin::BlindEmpty),
            parent: 7,
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn names_are_found_and_others_are_refused() {
        for known in STRUCTURES.iter().chain(HIDDEN) {
            assert_eq!(structure(known.name()).unwrap().name(), known.name());
        }
        let error = structure("pipe").err().unwrap().to_string();
        assert_eq!(
            error,
            "expected a structure out of ring-fixed, ring-bytes, mpsc-fixed, mpsc-bytes, mpsc-ordered, \
             mpsc-ordered-bytes, found pipe"
        );
    }
}
