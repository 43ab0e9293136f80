//! The numbers that the structures promised to reach, judged from a record.

use crate::cells::Group;
use crate::pair::Mode::{self, Processes, Threads};
use crate::peers::{BUILT, CELLS, LANES, message, tidewire};
use crate::probe::Regime::{self, Any, Far, Near, Sibling};
use crate::record::Record;
use crate::summary::{
    CALLS, CRATES, EACH, MEAN, MEAN_TO_LINE, Metric, P50, P50_MICROS, P99, P99_TO_LINE, RATE, READ_ALONE,
    RETRIES, SECONDS, Spread, TOLD_AFTER_MICROS, View, WRITE_ALONE, WRITES,
};

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum Measure {
    /// A metric of ours.
    Own(Metric),
    /// A metric of ours over the same metric of another contender in the same round.
    To(&'static str, Metric),
    /// What a metric of ours in nanoseconds is above that of another contender in the same round, in R.
    Beyond(&'static str, Metric),
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
    /// Who promised it.
    ours: &'static str,
    mode: Mode,
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
        Self { cell, regime, measure, limit, ours: tidewire::NAMES[0], mode: Processes, text }
    }

    /// In the near regime, between threads, where every peer can be.
    const fn threads(
        ours: &'static str,
        cell: &'static str,
        measure: Measure,
        limit: Limit,
        text: &'static str,
    ) -> Self {
        Self { cell, regime: Near, measure, limit, ours, mode: Threads, text }
    }

    /// In the near regime, between processes.
    const fn processes(
        ours: &'static str,
        cell: &'static str,
        measure: Measure,
        limit: Limit,
        text: &'static str,
    ) -> Self {
        Self { cell, regime: Near, measure, limit, ours, mode: Processes, text }
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

    /// Between what.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Who promised it.
    #[must_use]
    pub fn ours(&self) -> &'static str {
        self.ours
    }

    /// To whom ours is compared, if to anybody.
    #[must_use]
    pub fn other(&self) -> Option<&'static str> {
        match self.measure {
            Measure::Own(_) => None,
            Measure::To(other, _) | Measure::Beyond(other, _) | Measure::ToThreads(other, _) => Some(other),
        }
    }

    /// Between what the other one runs.
    #[must_use]
    pub fn other_mode(&self) -> Mode {
        if matches!(self.measure, Measure::ToThreads(..)) { Threads } else { self.mode }
    }

    /// Judges a record.
    #[must_use]
    pub fn judge(&self, record: &Record) -> Verdict {
        self.judge_in(record, self.regime)
    }

    /// What the samples of the other regimes say, where there are any: of no consequence, but better known than not.
    pub fn elsewhere(&self, record: &Record) -> impl Iterator<Item = (Regime, Verdict)> {
        let others = [Sibling, Near, Far].into_iter().filter(|regime| *regime != self.regime);
        others
            .map(|regime| (regime, self.judge_in(record, regime)))
            .filter(|(_, verdict)| verdict.found.is_some())
    }

    fn judge_in(&self, record: &Record, regime: Regime) -> Verdict {
        let ours = self.ours;
        let view = |mode: Mode| View::new(record, self.cell, mode, regime);
        let found = match self.measure {
            Measure::Own(metric) => view(self.mode).spread(ours, metric),
            Measure::To(other, metric) => view(self.mode).ratio(ours, metric, other, metric),
            Measure::Beyond(other, metric) => view(self.mode).beyond(ours, metric, other),
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

/// The promises of a group.
#[must_use]
pub fn of(group: Group) -> &'static [Target] {
    match group {
        Group::Ring => &RING,
        Group::Mpsc => &MPSC,
        Group::Cell => &CELL,
        Group::Message => &MESSAGE,
        Group::Build => &BUILD,
    }
}

/// The promises of the ring.
const RING: [Target; 24] = {
    use Limit::{AtLeast, AtMost, Below};
    use Measure::{Own, To, ToThreads};
    const ICEORYX2: &str = "iceoryx2 queue";
    const PLAIN: &str = tidewire::NAMES[3];
    const WHOLE: &str = tidewire::NAMES[0];
    const fn parts(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(tidewire::NAMES[5], cell, measure, limit, text)
    }
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
        parts("parts-ring-single-8", To(WHOLE, RATE), AtLeast(0.95), "in parts >= 0.95 x one segment"),
        parts("parts-ring-single-64", To(WHOLE, RATE), AtLeast(0.95), "in parts >= 0.95 x one segment"),
        parts("parts-ring-trip-8", To(WHOLE, MEAN), AtMost(1.05), "in parts <= 1.05 x one segment"),
        parts("parts-ring-trip-64", To(WHOLE, MEAN), AtMost(1.05), "in parts <= 1.05 x one segment"),
    ]
};

/// The promises of the queues with many producers, between threads; those in parts between processes.
const MPSC: [Target; 31] = {
    use Limit::{AtLeast, AtMost};
    use Measure::{Own, To};
    const AERON: &str = "Aeron-style ring";
    const RTRB: &str = "bundle of rtrb";
    const ARRAY: &str = "crossbeam ArrayQueue";
    const THING: &str = "thingbuf, by reference";
    const THING_BY_VALUE: &str = "thingbuf, by value";
    const fn lanes(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::threads(LANES[0], cell, measure, limit, text)
    }
    const fn ordered(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::threads(LANES[3], cell, measure, limit, text)
    }
    const fn parts(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(LANES[5], cell, measure, limit, text)
    }
    [
        lanes("mpsc-1-8", To(AERON, RATE), AtLeast(2.5), "lanes >= 2.5 x an Aeron-style ring"),
        lanes("mpsc-2-8", To(AERON, RATE), AtLeast(2.0), "lanes >= 2 x an Aeron-style ring"),
        lanes("mpsc-4-8", To(AERON, RATE), AtLeast(2.0), "lanes >= 2 x an Aeron-style ring"),
        lanes("mpsc-1-8", To(RTRB, RATE), AtLeast(1.0), "lanes >= 1 x a bundle of rtrb"),
        lanes("mpsc-2-8", To(RTRB, RATE), AtLeast(1.0), "lanes >= 1 x a bundle of rtrb"),
        lanes("mpsc-4-8", To(RTRB, RATE), AtLeast(1.0), "lanes >= 1 x a bundle of rtrb"),
        lanes("mpsc-1-64", To(AERON, RATE), AtLeast(2.0), "lanes >= 2 x an Aeron-style ring"),
        lanes("mpsc-2-64", To(AERON, RATE), AtLeast(2.0), "lanes >= 2 x an Aeron-style ring"),
        lanes("mpsc-4-64", To(AERON, RATE), AtLeast(2.0), "lanes >= 2 x an Aeron-style ring"),
        lanes("mpsc-1-64", To(ARRAY, RATE), AtLeast(1.5), "lanes >= 1.5 x ArrayQueue"),
        lanes("mpsc-2-64", To(ARRAY, RATE), AtLeast(1.5), "lanes >= 1.5 x ArrayQueue"),
        lanes("mpsc-4-64", To(ARRAY, RATE), AtLeast(1.5), "lanes >= 1.5 x ArrayQueue"),
        lanes("mpsc-1-64", To(THING, RATE), AtLeast(1.5), "lanes >= 1.5 x thingbuf by reference"),
        lanes("mpsc-2-64", To(THING, RATE), AtLeast(1.5), "lanes >= 1.5 x thingbuf by reference"),
        lanes("mpsc-4-64", To(THING, RATE), AtLeast(1.5), "lanes >= 1.5 x thingbuf by reference"),
        lanes("mpsc-1-64", To(THING_BY_VALUE, RATE), AtLeast(1.5), "lanes >= 1.5 x thingbuf by value"),
        lanes("mpsc-2-64", To(THING_BY_VALUE, RATE), AtLeast(1.5), "lanes >= 1.5 x thingbuf by value"),
        lanes("mpsc-4-64", To(THING_BY_VALUE, RATE), AtLeast(1.5), "lanes >= 1.5 x thingbuf by value"),
        lanes("mpsc-1-1024", To(AERON, RATE), AtLeast(1.3), "lanes >= 1.3 x an Aeron-style ring"),
        lanes("mpsc-2-1024", To(AERON, RATE), AtLeast(1.3), "lanes >= 1.3 x an Aeron-style ring"),
        lanes("mpsc-4-1024", To(AERON, RATE), AtLeast(1.3), "lanes >= 1.3 x an Aeron-style ring"),
        lanes("mpsc-one-way-64", To(LANES[1], P99), AtMost(2.0), "lanes p99 <= 2 x plain"),
        lanes("mpsc-one-way-64", To(ARRAY, P50), AtMost(0.75), "lanes p50 <= 0.75 x ArrayQueue"),
        lanes("mpsc-empty-16", Own(MEAN), AtMost(10.0), "lanes <= 10 ns"),
        ordered("mpsc-1-8", To(ARRAY, RATE), AtLeast(2.0), "ordered >= 2 x ArrayQueue"),
        ordered("mpsc-2-8", To(ARRAY, RATE), AtLeast(2.0), "ordered >= 2 x ArrayQueue"),
        ordered("mpsc-4-8", To(ARRAY, RATE), AtLeast(2.0), "ordered >= 2 x ArrayQueue"),
        ordered("mpsc-batch-4-8", To(ARRAY, RATE), AtLeast(2.0), "ordered >= 2 x ArrayQueue"),
        ordered("mpsc-batch-4-8", To(AERON, RATE), AtLeast(1.0), "ordered >= 1 x the shared-tail ring"),
        parts("parts-lanes-single-64", To(LANES[0], RATE), AtLeast(0.95), "in parts >= 0.95 x one segment"),
        parts("parts-lanes-trip-64", To(LANES[0], MEAN), AtMost(1.05), "in parts <= 1.05 x one segment"),
    ]
};

/// The promises of the cells.
const CELL: [Target; 36] = {
    use Limit::{AtLeast, AtMost};
    use Measure::{Own, To};
    const TRIPLE: &str = "triple_buffer";
    const ICEORYX2: &str = "iceoryx2 cell";
    const ATOMIC: &str = "crossbeam AtomicCell";
    const MEMCPY: &str = "memcpy";
    const fn cell(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(CELLS[0], cell, measure, limit, text)
    }
    const fn threads(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::threads(CELLS[0], cell, measure, limit, text)
    }
    [
        cell("cell-full-64", To("seqlock", RATE), AtLeast(20.0), "reads/s >= 20 x seqlock"),
        cell("cell-full-256", To("seqlock", RATE), AtLeast(20.0), "reads/s >= 20 x seqlock"),
        cell("cell-full-1024", To("seqlock", RATE), AtLeast(20.0), "reads/s >= 20 x seqlock"),
        cell("cell-full-4096", To("seqlock", RATE), AtLeast(20.0), "reads/s >= 20 x seqlock"),
        threads("cell-full-64", To(ATOMIC, RATE), AtLeast(3.0), "reads/s >= 3 x AtomicCell"),
        threads("cell-full-256", To(ATOMIC, RATE), AtLeast(3.0), "reads/s >= 3 x AtomicCell"),
        threads("cell-full-1024", To(ATOMIC, RATE), AtLeast(3.0), "reads/s >= 3 x AtomicCell"),
        threads("cell-full-4096", To(ATOMIC, RATE), AtLeast(3.0), "reads/s >= 3 x AtomicCell"),
        cell("cell-full-64", To(ICEORYX2, RATE), AtLeast(3.0), "reads/s >= 3 x iceoryx2's cell"),
        cell("cell-full-256", To(ICEORYX2, RATE), AtLeast(3.0), "reads/s >= 3 x iceoryx2's cell"),
        cell("cell-full-1024", To(ICEORYX2, RATE), AtLeast(3.0), "reads/s >= 3 x iceoryx2's cell"),
        cell("cell-full-4096", To(ICEORYX2, RATE), AtLeast(3.0), "reads/s >= 3 x iceoryx2's cell"),
        cell("cell-full-64", To(TRIPLE, RATE), AtLeast(0.9), "reads/s >= 0.9 x triple_buffer"),
        cell("cell-full-256", To(TRIPLE, RATE), AtLeast(1.0), "reads/s >= 1 x triple_buffer"),
        cell("cell-full-1024", To(TRIPLE, RATE), AtLeast(1.0), "reads/s >= 1 x triple_buffer"),
        cell("cell-full-4096", To(TRIPLE, RATE), AtLeast(1.0), "reads/s >= 1 x triple_buffer"),
        cell("cell-full-8", Own(P99_TO_LINE), AtMost(2.0), "p99 of a read <= 2 R"),
        cell("cell-full-56", Own(P99_TO_LINE), AtMost(2.0), "p99 of a read <= 2 R"),
        cell("cell-full-64", Own(P99_TO_LINE), AtMost(2.0), "p99 of a read <= 2 R"),
        cell("cell-full-256", Own(P99_TO_LINE), AtMost(2.0), "p99 of a read <= 2 R"),
        cell("cell-full-1024", Own(P99_TO_LINE), AtMost(2.0), "p99 of a read <= 2 R"),
        cell("cell-full-64", Own(RETRIES), AtMost(1e-3), "retries per read <= 0.001"),
        cell("cell-full-256", Own(RETRIES), AtMost(1e-3), "retries per read <= 0.001"),
        cell("cell-full-1024", Own(RETRIES), AtMost(1e-3), "retries per read <= 0.001"),
        cell("cell-full-4096", Own(RETRIES), AtMost(1e-3), "retries per read <= 0.001"),
        cell("cell-alone-4096", To(MEMCPY, READ_ALONE), AtMost(1.1), "a read <= 1.1 x memcpy"),
        cell("cell-alone-4096", To(MEMCPY, WRITE_ALONE), AtMost(1.1), "a write <= 1.1 x memcpy"),
        cell("cell-fresh-8", To(MEMCPY, P50), AtMost(1.1), "a fresh read <= 1.1 x one line"),
        cell("cell-fresh-56", To(MEMCPY, P50), AtMost(1.1), "a fresh read <= 1.1 x one line"),
        cell("cell-full-8", To(TRIPLE, WRITES), AtLeast(0.6), "writes/s >= 0.6 x triple_buffer"),
        cell("cell-full-56", To(TRIPLE, WRITES), AtLeast(0.6), "writes/s >= 0.6 x triple_buffer"),
        cell("cell-full-64", To(TRIPLE, WRITES), AtLeast(0.6), "writes/s >= 0.6 x triple_buffer"),
        cell("cell-full-256", To(TRIPLE, WRITES), AtLeast(0.6), "writes/s >= 0.6 x triple_buffer"),
        cell("cell-full-1024", To(TRIPLE, WRITES), AtLeast(0.6), "writes/s >= 0.6 x triple_buffer"),
        cell("cell-full-4096", To(TRIPLE, WRITES), AtLeast(0.6), "writes/s >= 0.6 x triple_buffer"),
        Target::processes(
            CELLS[2],
            "parts-cell-64",
            To(CELLS[0], RATE),
            AtLeast(0.95),
            "reads/s in parts >= 0.95 x one segment",
        ),
    ]
};

/// The promises of builds.
const BUILD: [Target; 2] = {
    const fn build(metric: Metric, most: f64, text: &'static str) -> Target {
        let (cell, measure, limit) = ("build-cold", Measure::Own(metric), Limit::AtMost(most));
        Target { cell, regime: Any, measure, limit, ours: BUILT[0], mode: Processes, text }
    }
    [build(SECONDS, 15.0, "<= 15 s"), build(CRATES, 20.0, "<= 20 packages")]
};

/// The promises of the message layer and of what it waits with, between processes.
const MESSAGE: [Target; 27] = {
    use Limit::{AtLeast, AtMost};
    use Measure::{Beyond, Own, To};
    const RING: &str = "raw ring";
    const RAW_LANES: &str = "raw lanes";
    const COPIED: &str = "iceoryx2, copied";
    const IN_PLACE: &str = "iceoryx2, in place";
    const ALONE: &str = "one slot alone";
    const NAMES: [&str; 6] = message::tidewire::NAMES;
    const fn any(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(NAMES[0], cell, measure, limit, text)
    }
    const fn sleeping(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(NAMES[1], cell, measure, limit, text)
    }
    const fn single(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(NAMES[2], cell, measure, limit, text)
    }
    const fn published(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(NAMES[3], cell, measure, limit, text)
    }
    const fn awaited(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(NAMES[4], cell, measure, limit, text)
    }
    const fn in_place(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes(NAMES[5], cell, measure, limit, text)
    }
    const fn bells(cell: &'static str, measure: Measure, limit: Limit, text: &'static str) -> Target {
        Target::processes("raw ring, bells", cell, measure, limit, text)
    }
    [
        single("message-rate-64", To(RING, EACH), AtMost(1.15), "one sender <= 1.15 x the raw ring's time"),
        any("message-rate-64", To(RING, EACH), AtMost(1.15), "lanes <= 1.15 x the raw ring's time"),
        any("message-rate-64", To(RAW_LANES, EACH), AtMost(1.15), "lanes <= 1.15 x the raw lanes' time"),
        single("message-trip-64", To(RING, MEAN), AtMost(1.15), "one sender <= 1.15 x the raw ring"),
        any("message-trip-64", To(RING, MEAN), AtMost(1.15), "lanes <= 1.15 x the raw ring"),
        any("message-trip-64", To(RAW_LANES, MEAN), AtMost(1.15), "lanes <= 1.15 x the raw lanes"),
        any("message-rate-64", To(COPIED, RATE), AtLeast(10.0), ">= 10 x iceoryx2, copied"),
        any("message-rate-64", To(IN_PLACE, RATE), AtLeast(10.0), ">= 10 x iceoryx2, in place"),
        published("message-rate-64", To(COPIED, RATE), AtLeast(10.0), "published >= 10 x iceoryx2, copied"),
        published(
            "message-rate-64",
            To(IN_PLACE, RATE),
            AtLeast(10.0),
            "published >= 10 x iceoryx2, in place",
        ),
        any("message-trip-64", To(COPIED, MEAN), AtMost(0.3), "<= 0.3 x iceoryx2, copied"),
        any("message-trip-64", To(IN_PLACE, MEAN), AtMost(0.3), "<= 0.3 x iceoryx2, in place"),
        published("message-trip-64", To(COPIED, MEAN), AtMost(0.3), "published <= 0.3 x iceoryx2, copied"),
        published(
            "message-trip-64",
            To(IN_PLACE, MEAN),
            AtMost(0.3),
            "published <= 0.3 x iceoryx2, in place",
        ),
        any("message-request-8", To("two channels", MEAN), AtMost(1.3), "<= 1.3 x two one-way trips"),
        any("message-request-64", To("two channels", MEAN), AtMost(1.3), "<= 1.3 x two one-way trips"),
        // One slot alone is one R and one touch.
        in_place("message-place-65536", Beyond(ALONE, MEAN), AtMost(1.0), "<= 1 R above one R and one touch"),
        awaited(
            "message-wake-64",
            To("eventfd alone", P50),
            AtMost(1.2),
            "tokio p50 <= 1.2 x a bare eventfd",
        ),
        sleeping("message-wake-64", To("futex alone", P50), AtMost(1.1), "p50 <= 1.1 x a bare futex"),
        bells("message-rate-64", To(RING, RATE), AtLeast(0.95), "a ring with bells >= 0.95 x one without"),
        any("message-calls-64", Own(CALLS), AtMost(100.0), "spinning <= 100 calls per million"),
        sleeping("message-calls-64", Own(CALLS), AtMost(100.0), "sleeping <= 100 calls per million"),
        any("message-set-up-64", Own(P50_MICROS), AtMost(200.0), "p50 <= 200 µs"),
        any("message-kill-64", Own(TOLD_AFTER_MICROS), AtMost(1000.0), "spinning, told within 1000 µs"),
        sleeping("message-kill-64", Own(TOLD_AFTER_MICROS), AtMost(1000.0), "sleeping, told within 1000 µs"),
        any("message-kill-large-64", Own(TOLD_AFTER_MICROS), AtMost(1000.0), "spinning, told within 1000 µs"),
        sleeping(
            "message-kill-large-64",
            Own(TOLD_AFTER_MICROS),
            AtMost(1000.0),
            "sleeping, told within 1000 µs",
        ),
    ]
};
