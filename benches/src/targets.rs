//! The numbers that the ring promised to reach, judged from a record.

use crate::pair::Mode::{self, Processes, Threads};
use crate::peers::tidewire;
use crate::probe::Regime::{self, Far, Near, Sibling};
use crate::record::Record;
use crate::summary::{MEAN, MEAN_TO_LINE, Metric, P50, P99, RATE, Spread, View};

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum Measure {
    /// A metric of ours.
    Own(Metric),
    /// A metric of ours over the same metric of another contender in the same round.
    To(&'static str, Metric),
    /// As `To`, the other one between threads, by medians: they are never in one round with processes.
    ToThreads(&'static str, Metric),
}

/// Where the limit lies.
#[derive(Clone, Copy, Debug)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

/// A promise.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    cell: &'static str,
    regime: Regime,
    measure: Measure,
    limit: Limit,
    /// What it says.
    pub text: &'static str,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// What was found; none if it was not measured.
    pub found: Option<Spread>,
    /// Whether it is kept, by the median.
    pub met: bool,
}

impl Verdict {
    /// In a word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.found, self.met) {
            (None, _) => "not measured",
            (Some(_), true) => "met",
            (Some(_), false) => "**missed**",
        }
    }
}

impl Target {
    const fn new(
        cell: &'static str,
        regime: Regime,
        measure: Measure,
        limit: Limit,
        text: &'static str,
    ) -> Self {
        Self { cell, regime, measure, limit, text }
    }

    /// The cell.
    #[must_use]
    pub fn cell(&self) -> &'static str {
        self.cell
    }

    /// The regime.
    #[must_use]
    pub fn regime(&self) -> Regime {
        self.regime
    }

    /// Judges a record: our default, between processes.
    #[must_use]
    pub fn judge(&self, record: &Record) -> Verdict {
        let ours = tidewire::NAMES[0];
        let view = |mode: Mode| View::new(record, self.cell, mode, self.regime);
        let found = match self.measure {
            Measure::Own(metric) => view(Processes).spread(ours, metric),
            Measure::To(other, metric) => view(Processes).ratio(ours, metric, other, metric),
            Measure::ToThreads(other, metric) => {
                let other = view(Threads).spread(other, metric);
                let mine = view(Processes).spread(ours, metric);
                mine.zip(other).map(|(mine, other)| Spread {
                    median: mine.median / other.median,
                    min: mine.min / other.max,
                    max: mine.max / other.min,
                    n: mine.n.min(other.n),
                })
            }
        };
        let met = found.is_some_and(|found| match self.limit {
            Limit::AtLeast(limit) => found.median >= limit,
            Limit::AtMost(limit) => found.median <= limit,
            Limit::Below(limit) => found.median < limit,
        });
        Verdict { found, met }
    }
}

/// The promises of the ring.
pub const TARGETS: [Target; 20] = {
    use Limit::{AtLeast, AtMost, Below};
    use Measure::{Own, To, ToThreads};
    const ICEORYX2: &str = "iceoryx2 queue";
    const PLAIN: &str = tidewire::NAMES[3];
    [
        Target::new("round-trip-8", Near, Own(MEAN_TO_LINE), AtMost(1.1), "mean <= 1.1 R"),
        Target::new("round-trip-64", Near, Own(MEAN_TO_LINE), AtMost(1.7), "mean <= 1.7 R"),
        Target::new("round-trip-64", Near, ToThreads("rtrb", MEAN), Below(1.0), "mean below rtrb in threads"),
        Target::new("single-8", Near, To("rtrb", RATE), AtLeast(1.8), ">= 1.8 x rtrb"),
        Target::new("single-64", Near, To("rtrb", RATE), AtLeast(3.0), ">= 3 x rtrb"),
        Target::new("single-64", Near, To(ICEORYX2, RATE), AtLeast(2.0), ">= 2 x iceoryx2's queue"),
        Target::new("single-1024", Near, To("rtrb", RATE), AtLeast(3.0), ">= 3 x rtrb"),
        Target::new("single-8", Far, To("rtrb", RATE), AtLeast(1.5), ">= 1.5 x rtrb"),
        Target::new("single-64", Far, To("rtrb", RATE), AtLeast(1.5), ">= 1.5 x rtrb"),
        Target::new("single-1024", Far, To("rtrb", RATE), AtLeast(1.5), ">= 1.5 x rtrb"),
        Target::new("single-8", Sibling, To("rtrb", RATE), AtLeast(0.95), ">= 0.95 x rtrb"),
        Target::new("single-64", Sibling, To("rtrb", RATE), AtLeast(0.95), ">= 0.95 x rtrb"),
        Target::new("single-1024", Sibling, To("rtrb", RATE), AtLeast(0.95), ">= 0.95 x rtrb"),
        Target::new("one-way-8", Near, To("rtrb", P50), AtMost(1.1), "p50 <= 1.1 x rtrb"),
        Target::new("one-way-64", Near, To("rtrb", P50), AtMost(1.1), "p50 <= 1.1 x rtrb"),
        Target::new("one-way-8", Near, To(PLAIN, P99), AtMost(2.0), "p99 <= 2 x plain"),
        Target::new("one-way-64", Near, To(PLAIN, P99), AtMost(2.0), "p99 <= 2 x plain"),
        Target::new("batch-8", Near, To("rtrb", RATE), AtLeast(1.1), ">= 1.1 x rtrb"),
        Target::new("batch-64", Near, To("rtrb", RATE), AtLeast(1.1), ">= 1.1 x rtrb"),
        Target::new("records-16-79", Near, Own(RATE), AtLeast(60e6), ">= 60 M/s"),
    ]
};
