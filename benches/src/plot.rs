//! Two small plots, drawn by hand as SVG: rates by payload, and percentiles of latency.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;

use crate::cells::{Group, Kind};
use crate::pair::Mode;
use crate::peers;
use crate::record::{CellRecord, Record, top};
use crate::summary::{MEAN, Metric, P50, P99, P999, RATE, View, WRITES, main_regime};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;
/// Between two names of the legend.
const NAME_HEIGHT: f64 = 18.0;
const COLOURS: [&str; 14] = [
    "#0b6e99", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#2e4057", "#c17c3a", "#7a9e1f", "#999999",
    "#5c4033", "#e377c2", "#17becf", "#000000", "#bcbd22",
];

/// A line through the ticks of the horizontal axis; some may be missing.
struct Series {
    name: String,
    points: Vec<Option<f64>>,
    ours: bool,
}

struct Plot<'p> {
    title: &'p str,
    unit: &'p str,
    ticks: Vec<String>,
    series: Vec<Series>,
}

impl Plot<'_> {
    /// The decades that hold all points.
    fn decades(&self) -> Option<(i32, i32)> {
        let points = self.series.iter().flat_map(|series| series.points.iter().flatten());
        let mut points = points.filter(|point| **point > 0.0).map(|point| point.log10());
        let first = points.next()?;
        let (low, high) = points.fold((first, first), |(low, high), point| (low.min(point), high.max(point)));
        #[expect(clippy::cast_possible_truncation, reason = "decades of what a clock can show")]
        let (low, high) = (low.floor() as i32, high.ceil() as i32);
        Some((low, high.max(low + 1)))
    }

    fn svg(&self) -> Option<String> {
        let (low, high) = self.decades()?;
        // The names may need more room than the lines.
        let height = HEIGHT.max(TOP + NAME_HEIGHT * self.series.len() as f64);
        let y = |value: f64| {
            let share = (value.log10() - f64::from(low)) / f64::from(high - low);
            height - BOTTOM - share * (height - TOP - BOTTOM)
        };
        let step = (WIDTH - LEFT - RIGHT) / (self.ticks.len().max(2) - 1) as f64;
        let x = |tick: usize| LEFT + step * tick as f64;
        let mut out = String::new();
        let mut put = |text: String| {
            let _always = writeln!(out, "{text}");
        };
        put(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">"
        ));
        put(format!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"));
        put(format!("<text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{}</text>", escape(self.title)));
        put(format!("<text x=\"{LEFT}\" y=\"38\" fill=\"#666\">{}</text>", escape(self.unit)));
        for decade in low..=high {
            let (value, right) = (10_f64.powi(decade), WIDTH - RIGHT);
            let at = y(value);
            put(format!("<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>"));
            put(format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                LEFT - 8.0,
                at + 4.0
            ));
        }
        for (i, tick) in self.ticks.iter().enumerate() {
            let (at, below) = (x(i), height - BOTTOM + 20.0);
            put(format!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", escape(tick)));
        }
        for ((i, series), colour) in self.series.iter().enumerate().zip(COLOURS.iter().cycle()) {
            let width = if series.ours { 3.0 } else { 1.5 };
            // There are more lines than colours.
            let dash = if i < COLOURS.len() { "" } else { " stroke-dasharray=\"6 3\"" };
            let points = series.points.iter().enumerate();
            let points: Vec<_> = points.filter_map(|(tick, value)| Some((x(tick), y((*value)?)))).collect();
            let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            put(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>",
                path.join(" ")
            ));
            for (x, y) in points {
                put(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{}\" fill=\"{colour}\"/>", width + 1.0));
            }
            let (at, name) = (TOP + NAME_HEIGHT * i as f64, escape(&series.name));
            put(format!(
                "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{}\">{name}</text>",
                WIDTH - RIGHT + 20.0,
                at - 6.0,
                WIDTH - RIGHT + 40.0,
                at
            ));
        }
        put("</svg>".to_owned());
        Some(out)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Our variants are left out, all but the first that there is: the default, mostly.
fn series(names: &[String], mut points: impl FnMut(&str) -> Vec<Option<f64>>) -> Vec<Series> {
    let first = names.iter().find(|name| peers::is_ours(name));
    let drawn = names.iter().filter(|name| !peers::is_ours(name) || first == Some(name));
    let series =
        drawn.map(|name| Series { name: name.clone(), points: points(name), ours: first == Some(name) });
    series.filter(|series| series.points.iter().any(Option::is_some)).collect()
}

/// A metric by payload, of the cells whose names are a prefix and a number of bytes.
struct ByPayload {
    prefix: &'static str,
    title: &'static str,
    mode: Mode,
    metric: Metric,
    /// What the metric is divided by, and what that gives.
    unit: (f64, &'static str),
}

impl ByPayload {
    fn svg(&self, record: &Record) -> Option<String> {
        let regime = main_regime(record, self.mode);
        let is_ours = |cell: &&CellRecord| {
            let bytes = cell.name.strip_prefix(self.prefix);
            bytes.is_some_and(|bytes| bytes.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let cells: Vec<&CellRecord> = record.cells.iter().filter(is_ours).collect();
        let ticks = cells.iter().map(|cell| format!("{} B", cell.payload_bytes)).collect();
        let series = series(&cells.first()?.contenders, |name| {
            let point = |cell: &&CellRecord| {
                let view = View::new(record, &cell.name, self.mode, regime);
                view.spread(name, self.metric).map(|spread| spread.median / self.unit.0)
            };
            cells.iter().map(point).collect()
        });
        let unit = format!("{}, {}, {}", self.unit.1, self.mode.name(), regime.name());
        Plot { title: self.title, unit: &unit, ticks, series }.svg()
    }
}

/// The plots by payload and their files.
fn by_payload() -> Vec<(&'static str, ByPayload)> {
    const MESSAGES: (f64, &str) = (1e6, "millions of messages per second");
    let rates = |prefix, title, mode| ByPayload { prefix, title, mode, metric: RATE, unit: MESSAGES };
    let cells =
        |title, metric, unit| ByPayload { prefix: "cell-full-", title, mode: Mode::Threads, metric, unit };
    vec![
        ("single.svg", rates("single-", "One at a time", Mode::Processes)),
        ("batch.svg", rates("batch-", "Batches of 32", Mode::Processes)),
        ("mpsc-1.svg", rates("mpsc-1-", "1 producer, one at a time", Mode::Threads)),
        ("mpsc-2.svg", rates("mpsc-2-", "2 producers, one at a time", Mode::Threads)),
        ("mpsc-4.svg", rates("mpsc-4-", "4 producers, one at a time", Mode::Threads)),
        ("mpsc-16.svg", rates("mpsc-16-", "16 producers, one at a time", Mode::Threads)),
        ("message-rate.svg", rates("message-rate-", "Message layers, without a pause", Mode::Processes)),
        (
            "cell-reads.svg",
            cells("Reads beside a writer without a pause", RATE, (1e6, "millions of reads per second")),
        ),
        (
            "cell-writes.svg",
            cells("Writes without a pause beside a reader", WRITES, (1e6, "millions of writes per second")),
        ),
        ("cell-p99.svg", cells("A read beside a writer without a pause", P99, (1.0, "p99, nanoseconds"))),
    ]
}

fn percentiles(record: &Record, cell: &CellRecord) -> Option<String> {
    let mode =
        if matches!(cell.group, Group::Ring | Group::Message) { Mode::Processes } else { Mode::Threads };
    let regime = main_regime(record, mode);
    let metrics: [Metric; 4] = [MEAN, P50, P99, P999];
    let ticks = ["mean of 90 %", "p50", "p99", "p99.9"].map(str::to_owned).to_vec();
    let view = View::new(record, &cell.name, mode, regime);
    let series = series(&cell.contenders, |name| {
        metrics.iter().map(|metric| view.spread(name, *metric).map(|spread| spread.median)).collect()
    });
    let unit = format!("nanoseconds, {}, {}", mode.name(), regime.name());
    Plot { title: &cell.title, unit: &unit, ticks, series }.svg()
}

/// Draws all plots into the tree and returns their file names.
///
/// # Errors
/// What the file system says.
pub fn write(record: &Record) -> anyhow::Result<Vec<String>> {
    let plots = by_payload().into_iter().map(|(name, plot)| (name.to_owned(), plot.svg(record)));
    let mut plots: Vec<_> = plots.collect();
    // Of ours alone there is one line: none.
    let has_peers = |cell: &CellRecord| cell.contenders.iter().any(|name| !peers::is_ours(name));
    let cells = record.cells.iter().filter(|cell| matches!(cell.kind, Kind::RoundTrip | Kind::OneWay));
    for cell in cells.filter(|cell| has_peers(cell)) {
        plots.push((format!("{}.svg", cell.name), percentiles(record, cell)));
    }
    let folder = top().join("benches/plots");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut names = Vec::new();
    for (name, svg) in plots {
        if let Some(svg) = svg {
            let path = folder.join(&name);
            fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
            names.push(name);
        }
    }
    Ok(names)
}
