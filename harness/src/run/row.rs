//! A row of the report.

use serde::Serialize;

use super::oracle::Tally;
use super::parent::Outcomes;
use super::plan::{Mode, Plan};
use super::side::Rtt;
use crate::history::Judgement;
use crate::report::Row;

/// What one row of a run found; the JSON form has these names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunRow {
    pub(crate) structure: String,
    pub(crate) payload_bytes: u64,
    pub(crate) mode: &'static str,
    pub(crate) producers: u8,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) torn: u64,
    pub(crate) msgs_per_s: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) rtt_p50_ns: Option<f64>,
    pub(crate) rtt_p99_ns: Option<f64>,
    pub(crate) rtt_p999_ns: Option<f64>,
    pub(crate) raw_rtt_ns: Option<f64>,
    /// Records of the histories of the row, which the checker judged.
    pub(crate) history_events: u64,
    /// Whether there were any, and nothing was wrong with them.
    pub(crate) history_good: bool,
    pub(crate) verified: bool,
}

impl RunRow {
    /// The row of sides that came to their end.
    pub(crate) fn told(plan: &Plan, Outcomes { producers, consumer }: &Outcomes) -> Self {
        let mut tally = consumer.tally;
        producers.iter().for_each(|producer| tally.add_faults(&producer.tally));
        let round_trip = plan.mode == Mode::RoundTrip;
        let sent = producers.iter().map(|producer| producer.sent).sum();
        let echoed = !round_trip || producers.iter().all(|asker| asker.tally.received == tally.received);
        let first = producers.first();
        let rtt = first.and_then(|first| first.rtt);
        let typical = (plan.payload.0 + plan.payload.1) as u64 / 2;
        let payload = (consumer.bytes + tally.received / 2).checked_div(tally.received).unwrap_or(typical);
        // A round trip ends where it began; everything else ends at the consumer.
        let asker = first.filter(|_| round_trip);
        let seconds = asker.unwrap_or(consumer).seconds;
        let measured = rtt.is_some();
        let Rtt { p50_ns, p99_ns, p999_ns } = rtt.unwrap_or(Rtt { p50_ns: 0.0, p99_ns: 0.0, p999_ns: 0.0 });
        Self {
            msgs_per_s: rate(tally.received, seconds),
            bytes_per_s: rate(consumer.bytes, seconds),
            rtt_p50_ns: measured.then(|| tenths(p50_ns)),
            rtt_p99_ns: measured.then(|| tenths(p99_ns)),
            rtt_p999_ns: measured.then(|| tenths(p999_ns)),
            raw_rtt_ns: first.and_then(|first| first.raw_rtt_ns).map(tenths),
            verified: tally.is_clean() && sent == tally.received && echoed,
            ..Self::new(plan, payload, sent, tally)
        }
    }

    /// The row of sides that did not come to their end: all that is known is how far they said they were.
    pub(crate) fn troubled(plan: &Plan, [sent, received]: [u64; 2]) -> Self {
        let payload = (plan.payload.0 + plan.payload.1) as u64 / 2;
        Self::new(plan, payload, sent, Tally { received, ..Tally::default() })
    }

    /// Adds what the histories came to; says what is wrong with them.
    pub(crate) fn add_histories(&mut self, histories: &[Judgement]) -> Vec<String> {
        self.history_events = histories.iter().map(|history| history.events).sum();
        let good = |history: &Judgement| {
            history.verdict.good()
                && history.verdict.received > 0
                && history.verdict.sent == history.verdict.received
        };
        self.history_good = !histories.is_empty() && histories.iter().all(good);
        self.verified &= self.history_good;
        let wrong = histories.iter().filter(|history| !history.verdict.good());
        wrong.flat_map(|history| history.verdict.findings.iter().cloned()).collect()
    }

    fn new(plan: &Plan, payload_bytes: u64, sent: u64, tally: Tally) -> Self {
        Self {
            structure: plan.structure.clone(),
            payload_bytes,
            mode: plan.mode.name(),
            producers: plan.producers,
            sent,
            received: tally.received,
            lost: tally.lost,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            torn: tally.torn,
            msgs_per_s: 0.0,
            bytes_per_s: 0.0,
            rtt_p50_ns: None,
            rtt_p99_ns: None,
            rtt_p999_ns: None,
            raw_rtt_ns: None,
            history_events: 0,
            history_good: false,
            verified: false,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { (count as f64 / seconds).round() } else { 0.0 }
}

fn tenths(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

impl Row for RunRow {
    const COLUMNS: &'static [(&'static str, i16)] = &[
        ("structure", -10),
        ("bytes", 6),
        ("mode", -10),
        ("producers", 9),
        ("sent", 12),
        ("received", 12),
        ("lost", 6),
        ("dupl.", 6),
        ("reord.", 6),
        ("torn", 6),
        ("M msgs/s", 9),
        ("GB/s", 7),
        ("p50 ns", 7),
        ("p99 ns", 7),
        ("p99.9 ns", 8),
        ("raw ns", 7),
        ("events", 8),
        ("history", -7),
        ("verified", -8),
    ];

    fn cells(&self) -> Vec<String> {
        let ns = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ns| format!("{ns:.0}"));
        vec![
            self.structure.clone(),
            self.payload_bytes.to_string(),
            self.mode.to_owned(),
            self.producers.to_string(),
            self.sent.to_string(),
            self.received.to_string(),
            self.lost.to_string(),
            self.duplicated.to_string(),
            self.reordered.to_string(),
            self.torn.to_string(),
            format!("{:.2}", self.msgs_per_s / 1e6),
            format!("{:.2}", self.bytes_per_s / 1e9),
            ns(self.rtt_p50_ns),
            ns(self.rtt_p99_ns),
            ns(self.rtt_p999_ns),
            ns(self.raw_rtt_ns),
            self.history_events.to_string(),
            match (self.history_good, self.history_events) {
                (true, _) => "good",
                (false, 0) => "none",
                (false, _) => "BAD",
            }
            .to_owned(),
            if self.verified { "yes" } else { "NO" }.to_owned(),
        ]
    }
}
