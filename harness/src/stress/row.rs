//! A row of the report.

use serde::Serialize;

use super::round::Outcome;
use crate::report::Row;
use crate::subject::Subject;

/// What stress found in one structure at one size; the JSON form has these names, those of `run` first.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StressRow {
    structure: String,
    payload_bytes: u64,
    mode: &'static str,
    producers: u64,
    sent: u64,
    received: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    torn: u64,
    msgs_per_s: f64,
    bytes_per_s: f64,
    rtt_p50_ns: Option<f64>,
    rtt_p99_ns: Option<f64>,
    rtt_p999_ns: Option<f64>,
    raw_rtt_ns: Option<f64>,
    history_events: u64,
    history_good: bool,
    pub(crate) verified: bool,
    kills: u64,
    stops: u64,
    seed: u64,
    #[serde(skip)]
    rounds: u64,
    #[serde(skip)]
    again: u64,
    #[serde(skip)]
    seconds: f64,
}

impl StressRow {
    /// A row of no rounds yet. It is verified only once messages came.
    pub(crate) fn new(subject: &dyn Subject, seed: u64) -> Self {
        Self {
            structure: subject.structure().to_owned(),
            payload_bytes: subject.payload_bytes(),
            mode: "stress",
            producers: subject.producers().into(),
            sent: 0,
            received: 0,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            torn: 0,
            msgs_per_s: 0.0,
            bytes_per_s: 0.0,
            rtt_p50_ns: None,
            rtt_p99_ns: None,
            rtt_p999_ns: None,
            raw_rtt_ns: None,
            history_events: 0,
            history_good: true,
            verified: true,
            kills: 0,
            stops: 0,
            seed,
            rounds: 0,
            again: 0,
            seconds: 0.0,
        }
    }

    /// Adds a round.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let verdict = &outcome.judgement.verdict;
        self.rounds += 1;
        self.sent += verdict.sent;
        self.received += verdict.received;
        self.lost += verdict.lost;
        self.duplicated += verdict.duplicated;
        self.reordered += verdict.reordered;
        self.torn += verdict.torn;
        self.again += verdict.again;
        self.kills += outcome.kills;
        self.stops += outcome.stops;
        self.seconds += outcome.seconds;
        self.history_events += outcome.judgement.events;
        self.history_good &= verdict.good();
        self.verified &= outcome.good() && verdict.sent == verdict.received;
        if self.seconds > 0.0 {
            self.msgs_per_s = (self.received as f64 / self.seconds).round();
            self.bytes_per_s = self.msgs_per_s * self.payload_bytes as f64;
        }
    }

    /// Ends the row: where nothing came, nothing is verified.
    pub(crate) fn close(&mut self) {
        self.verified &= self.received > 0;
    }
}

impl Row for StressRow {
    const COLUMNS: &'static [(&'static str, i16)] = &[
        ("structure", -24),
        ("bytes", 6),
        ("rounds", 6),
        ("kills", 6),
        ("stops", 6),
        ("sent", 12),
        ("received", 12),
        ("again", 8),
        ("lost", 6),
        ("dupl.", 6),
        ("reord.", 6),
        ("torn", 6),
        ("M msgs/s", 9),
        ("verified", -8),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.structure.clone(),
            self.payload_bytes.to_string(),
            self.rounds.to_string(),
            self.kills.to_string(),
            self.stops.to_string(),
            self.sent.to_string(),
            self.received.to_string(),
            self.again.to_string(),
            self.lost.to_string(),
            self.duplicated.to_string(),
            self.reordered.to_string(),
            self.torn.to_string(),
            format!("{:.2}", self.msgs_per_s / 1e6),
            if self.verified { "yes" } else { "NO" }.to_owned(),
        ]
    }
}
