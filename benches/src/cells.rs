//! The cells of the comparison: what is measured, with which contenders.

use crate::board::Board;
use crate::pair::Mode;
use crate::schedule::Plan;

pub mod build;
pub mod latest;
pub mod message;
pub mod mpsc;
pub mod parts;
pub mod ring;

/// Which structure a cell is about.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Queues between one producer and one consumer.
    #[default]
    Ring,
    /// Queues between many producers and one consumer.
    Mpsc,
    /// Cells that hold the latest value.
    Cell,
    /// Message layers between two processes.
    Message,
    /// Builds from nothing.
    Build,
}

impl Group {
    /// All groups, in the order of the report.
    pub const ALL: [Self; 5] = [Self::Ring, Self::Mpsc, Self::Cell, Self::Message, Self::Build];
    /// Those that are measured unless others are named.
    pub const USUAL: [Self; 4] = [Self::Ring, Self::Mpsc, Self::Cell, Self::Message];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Mpsc => "mpsc",
            Self::Cell => "cell",
            Self::Message => "message",
            Self::Build => "build",
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Ring => "One producer, one consumer",
            Self::Mpsc => "Many producers, one consumer",
            Self::Cell => "Latest value",
            Self::Message => "Messages between processes",
            Self::Build => "Builds",
        }
    }
}

/// What a cell's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Messages per second.
    Rate,
    /// Nanoseconds there and back.
    RoundTrip,
    /// Nanoseconds one way, paced.
    OneWay,
    /// Nanoseconds of a look that finds nothing.
    Poll,
    /// Reads per second beside a writer, and what one takes.
    Latest,
    /// Nanoseconds of a read of what was just written on the other core.
    Fresh,
    /// Nanoseconds of a read and of a write with nobody else there.
    Alone,
    /// Nanoseconds until the first message is there.
    SetUp,
    /// System calls per million messages.
    Calls,
    /// Whether a receiver is told of its sender's death, and nanoseconds until it is.
    Death,
    /// Memory of both sides and between them.
    Memory,
    /// Seconds of a build, and of how many packages.
    Build,
}

/// Takes one sample, in the process that was made for it.
pub type Sample = fn(&Board, &Plan, Mode) -> anyhow::Result<()>;
/// Checks a contender, likewise.
pub type Check = fn(&Board, Mode) -> anyhow::Result<()>;

/// One contender of a cell.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub contender: &'static str,
    /// How a sample of it is taken.
    pub sample: Sample,
    /// What it must pass before.
    pub checks: &'static [Check],
    /// Between what it can run.
    pub modes: &'static [Mode],
    /// Whether its sides may sleep: then only waiting for a core means that the sample was disturbed, not an idle one.
    pub sleeps: bool,
}

/// One thing that is measured.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Which structure it is about.
    pub group: Group,
    /// Its name on the command line and in the record.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What its numbers mean.
    pub kind: Kind,
    /// Bytes of a message; 0 if they differ.
    pub payload_bytes: usize,
    /// Whom ratios are formed to.
    pub reference: &'static str,
    /// How many windows a sample of it takes.
    pub windows: u32,
    /// Who takes part.
    pub entries: Vec<Entry>,
}

/// The cells of a quick run: one or two of each kind, those that say most.
pub const QUICK: [&str; 12] = [
    "round-trip-64",
    "single-8",
    "single-64",
    "batch-64",
    "mpsc-1-64",
    "mpsc-4-64",
    "cell-full-64",
    "cell-full-1024",
    "message-rate-64",
    "message-trip-64",
    "message-request-64",
    "message-wake-64",
];

/// All cells, in the order of the report.
#[must_use]
pub fn all() -> Vec<Cell> {
    let structures = [(Group::Ring, ring::all()), (Group::Mpsc, mpsc::all()), (Group::Cell, latest::all())];
    let with_parts = structures.into_iter().map(|(group, cells)| [cells, parts::of(group)].concat());
    with_parts.chain([message::all(), build::all()]).flatten().collect()
}
