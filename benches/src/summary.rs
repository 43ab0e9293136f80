//! From samples to rows: medians, ranges, and ratios formed inside a round.

use crate::cells::Kind;
use crate::pair::Mode;
use crate::probe::Regime;
use crate::record::{Record, SampleRecord};

/// A median and the range around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// How many there are.
    pub n: usize,
}

impl Spread {
    /// The spread of some numbers; none if there are none.
    #[must_use]
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().filter(|number| number.is_finite()).collect();
        numbers.sort_by(f64::total_cmp);
        let n = numbers.len();
        let (low, high) = (numbers.get(n.saturating_sub(1) / 2)?, numbers.get(n / 2)?);
        Some(Self { median: (low + high) / 2.0, min: *numbers.first()?, max: *numbers.last()?, n })
    }
}

/// A number that a sample yields.
pub type Metric = fn(&SampleRecord) -> f64;

/// Messages per second.
pub const RATE: Metric = |sample| sample.measured.rate;
/// Messages per second in the first ten milliseconds.
pub const FIRST_RATE: Metric = |sample| sample.measured.first_rate;
/// Mean, ns.
pub const MEAN: Metric = |sample| sample.measured.mean_ns;
/// Median, ns.
pub const P50: Metric = |sample| sample.measured.p50_ns;
/// 99th percentile, ns.
pub const P99: Metric = |sample| sample.measured.p99_ns;
/// 99.9th percentile, ns.
pub const P999: Metric = |sample| sample.measured.p999_ns;
/// Longest, ns.
pub const MAX: Metric = |sample| sample.measured.max_ns;
/// Round trip of one line.
pub const LINE: Metric = SampleRecord::line;
/// Round trip of two lines.
pub const FLOOR: Metric = SampleRecord::floor;
/// Mean over the round trip of one line.
pub const MEAN_TO_LINE: Metric = |sample| sample.measured.mean_ns / sample.line();
/// Mean over the round trip of two lines.
pub const MEAN_TO_FLOOR: Metric = |sample| sample.measured.mean_ns / sample.floor();

/// What all sides of a crowd had, in cores.
pub const CORES: Metric = |sample| sample.measured.cores;
/// Messages of the last of many producers over those of the first.
pub const FAIRNESS: Metric = |sample| sample.measured.fairness;
/// Writes per second.
pub const WRITES: Metric = |sample| sample.measured.writes;
/// Repeated attempts per read; none if the cell does not say.
pub const RETRIES: Metric =
    |sample| if sample.measured.retries < 0.0 { f64::NAN } else { sample.measured.retries };
/// Reads that were not whole, of what does not promise it.
pub const TORN: Metric = |sample| sample.measured.torn;
/// A read alone, ns.
pub const READ_ALONE: Metric = |sample| sample.measured.read_alone_ns;
/// A write alone, ns.
pub const WRITE_ALONE: Metric = |sample| sample.measured.write_alone_ns;
/// The clock alone, ns.
pub const NOTHING: Metric = |sample| sample.measured.nothing_ns;
/// System calls per million messages; none if they could not be counted.
pub const CALLS: Metric = |sample| if sample.measured.calls < 0.0 { f64::NAN } else { sample.measured.calls };
/// Whether the receiver was told.
pub const TOLD: Metric = |sample| f64::from(sample.measured.told > 0.0);
/// Nanoseconds until it was told; none if it never was.
pub const TOLD_AFTER: Metric =
    |sample| if sample.measured.told > 0.0 { sample.measured.p50_ns } else { f64::NAN };
/// Nanoseconds of a message where they follow each other without a pause.
pub const EACH: Metric = |sample| 1e9 / sample.measured.rate;
/// Median, µs.
pub const P50_MICROS: Metric = |sample| sample.measured.p50_ns / 1e3;
/// Microseconds until a receiver was told; none if it never was.
pub const TOLD_AFTER_MICROS: Metric = |sample| TOLD_AFTER(sample) / 1e3;
/// Memory of both sides for their first channel, KiB.
pub const FIRST_OWN: Metric = |sample| sample.measured.first_own_bytes / 1024.0;
/// Memory between both sides for it, KiB.
pub const FIRST_SHARED: Metric = |sample| sample.measured.first_shared_bytes / 1024.0;
/// Memory of both sides for each further channel, KiB.
pub const OWN: Metric = |sample| sample.measured.own_bytes / 1024.0;
/// Memory between both sides for it, KiB.
pub const SHARED: Metric = |sample| sample.measured.shared_bytes / 1024.0;
/// All memory for a further channel, KiB; none where the kernel has the messages, which does not tell.
pub const PER_CHANNEL: Metric =
    |sample| if SHARED(sample) < 1.0 { f64::NAN } else { OWN(sample) + SHARED(sample) };
/// Seconds of a build.
pub const SECONDS: Metric = |sample| sample.measured.seconds;
/// Seconds that its processes had.
pub const CPU_SECONDS: Metric = |sample| sample.measured.cpu_seconds;
/// Packages that were built.
pub const CRATES: Metric = |sample| sample.measured.crates;
/// 99th percentile over the round trip of one line.
pub const P99_TO_LINE: Metric = |sample| sample.measured.p99_ns / sample.line();

/// A number by which contenders are compared.
#[derive(Clone, Copy, Debug)]
pub struct Headline {
    /// Its name with its unit.
    pub unit: &'static str,
    /// The number.
    pub metric: Metric,
    /// Whether more is better.
    pub more: bool,
}

/// The numbers that decide a cell; the first decides who is best.
#[must_use]
pub fn headlines(kind: Kind) -> &'static [Headline] {
    const fn head(unit: &'static str, metric: Metric, more: bool) -> Headline {
        Headline { unit, metric, more }
    }
    const RATES: [Headline; 1] = [head("M/s", RATE, true)];
    const TRIPS: [Headline; 1] = [head("ns mean", MEAN, false)];
    const MEDIANS: [Headline; 1] = [head("ns p50", P50, false)];
    const POLLS: [Headline; 1] = [head("ns", MEAN, false)];
    const LATEST: [Headline; 3] = [
        head("M reads/s", RATE, true),
        head("ns p99 of a read", P99, false),
        head("M writes/s", WRITES, true),
    ];
    const ALONE: [Headline; 2] =
        [head("ns a read", READ_ALONE, false), head("ns a write", WRITE_ALONE, false)];
    const FIRSTS: [Headline; 1] = [head("ns p50", P50, false)];
    const SYSTEM: [Headline; 1] = [head("calls per million", CALLS, false)];
    const DEATHS: [Headline; 1] = [head("ns after the death", TOLD_AFTER, false)];
    const MEMORY: [Headline; 1] = [head("KiB a further channel", PER_CHANNEL, false)];
    const BUILDS: [Headline; 2] = [head("s", SECONDS, false), head("packages", CRATES, false)];
    match kind {
        Kind::Rate => &RATES,
        Kind::RoundTrip => &TRIPS,
        Kind::OneWay | Kind::Fresh => &MEDIANS,
        Kind::Poll => &POLLS,
        Kind::Latest => &LATEST,
        Kind::Alone => &ALONE,
        Kind::SetUp => &FIRSTS,
        Kind::Calls => &SYSTEM,
        Kind::Death => &DEATHS,
        Kind::Memory => &MEMORY,
        Kind::Build => &BUILDS,
    }
}

/// Some of a record's samples.
#[derive(Clone, Copy, Debug)]
pub struct View<'r> {
    record: &'r Record,
    cell: &'r str,
    mode: Mode,
    regime: Regime,
}

impl<'r> View<'r> {
    /// The samples of a cell in a mode and a regime.
    #[must_use]
    pub fn new(record: &'r Record, cell: &'r str, mode: Mode, regime: Regime) -> Self {
        Self { record, cell, mode, regime }
    }

    fn samples<'v>(&'v self, contender: &'v str) -> impl Iterator<Item = &'r SampleRecord> + 'v {
        self.record.samples.iter().filter(move |sample| {
            sample.cell == self.cell
                && sample.mode == self.mode
                && sample.regime == Some(self.regime)
                && sample.contender == contender
        })
    }

    /// The spread of a metric.
    #[must_use]
    pub fn spread(&self, contender: &str, metric: Metric) -> Option<Spread> {
        Spread::of(self.samples(contender).map(metric))
    }

    /// The spread of ratios to another contender in the same round.
    #[must_use]
    pub fn ratio(
        &self,
        contender: &str,
        metric: Metric,
        other: &str,
        other_metric: Metric,
    ) -> Option<Spread> {
        let ratios = self.samples(contender).filter_map(|sample| {
            let other = self.samples(other).find(|other| other.round == sample.round)?;
            Some(metric(sample) / other_metric(other))
        });
        Spread::of(ratios)
    }

    /// The spread of what a contender takes more than another in the same round, in round trips of one line.
    #[must_use]
    pub fn beyond(&self, contender: &str, metric: Metric, other: &str) -> Option<Spread> {
        let differences = self.samples(contender).filter_map(|sample| {
            let other = self.samples(other).find(|other| other.round == sample.round)?;
            Some((metric(sample) - metric(other)) / sample.line())
        });
        Spread::of(differences)
    }

    /// Whether anything was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.record.samples.iter().any(|sample| {
            sample.cell == self.cell && sample.mode == self.mode && sample.regime == Some(self.regime)
        })
    }
}

/// Samples of a contender that were dropped because their probes disagree or a side was disturbed.
#[must_use]
pub fn dropped(record: &Record, cell: &str, mode: Mode, contender: &str) -> usize {
    let samples = record.samples.iter();
    let mine = samples.filter(|s| s.cell == cell && s.mode == mode && s.contender == contender);
    mine.filter(|sample| sample.regime.is_none()).count()
}

/// The regime in which most samples of a mode were taken.
#[must_use]
pub fn main_regime(record: &Record, mode: Mode) -> Regime {
    let count = |regime| {
        record.samples.iter().filter(|sample| sample.mode == mode && sample.regime == Some(regime)).count()
    };
    let mut regimes = Regime::ALL;
    regimes.sort_by_key(|regime| std::cmp::Reverse(count(*regime)));
    regimes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_count_lies_between_the_middle_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).expect("there are numbers");
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0, n: 4 });
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
