//! A row of the report.

use serde::Serialize;

use crate::report::{Row, complain};

/// What became of one pattern among its processes; the JSON form has these names.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PatternRow {
    pub(crate) structure: String,
    /// Of a message, on average.
    pub(crate) payload_bytes: u64,
    pub(crate) mode: &'static str,
    /// Senders, publishers or clients.
    pub(crate) givers: u64,
    /// Receivers, subscribers or servers.
    pub(crate) takers: u64,
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) sent: u64,
    /// By all takers together.
    pub(crate) received: u64,
    /// What subscribers were told they missed, exactly.
    pub(crate) missed: u64,
    /// What a receiver got that another one before it had got, too: no more than is documented.
    pub(crate) again: u64,
    /// What nobody was told of.
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) torn: u64,
    /// Processes that were not told that their peers are gone, or did not go on.
    pub(crate) untold: u64,
    /// Of all takers together.
    pub(crate) msgs_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// Of calls.
    pub(crate) rtt_p50_ns: Option<u64>,
    pub(crate) rtt_p99_ns: Option<u64>,
    pub(crate) rtt_p999_ns: Option<u64>,
    /// From a kill until the last one was told, or whoever follows has begun, at most.
    pub(crate) told_us: Option<u64>,
    /// The median of all who were told: what a busy machine does to one of them is not the pattern's.
    pub(crate) told_p50_us: Option<u64>,
    pub(crate) verified: bool,
    pub(crate) seed: u64,
    #[serde(skip)]
    pub(super) told: Vec<u64>,
    #[serde(skip)]
    pub(super) bytes: u64,
    /// What was wrong, for people.
    #[serde(skip)]
    pub(super) troubles: Vec<String>,
}

impl PatternRow {
    /// Judges what was counted.
    pub(super) fn judge(&mut self) {
        self.payload_bytes = (self.bytes + self.received / 2).checked_div(self.received).unwrap_or(0);
        self.told.sort_unstable();
        (self.told_us, self.told_p50_us) =
            (self.told.last().copied(), self.told.get(self.told.len() / 2).copied());
        let faults = [self.lost, self.duplicated, self.reordered, self.torn, self.untold];
        if faults != [0; 5] {
            let [lost, duplicated, reordered, torn, untold] = faults;
            self.troubles.push(format!(
                "{lost} lost, {duplicated} duplicated, {reordered} reordered, {torn} torn, {untold} not told"
            ));
        }
        self.verified = self.troubles.is_empty() && self.received > 0;
    }

    /// Says on standard error what was wrong.
    pub(crate) fn complain(&self) {
        for trouble in &self.troubles {
            let Self { structure, mode, givers, takers, seed, .. } = self;
            complain(&format!("{structure} {mode}, {givers} to {takers}, seed {seed}: {trouble}"));
        }
    }
}

impl Row for PatternRow {
    const COLUMNS: &'static [(&'static str, i16)] = &[
        ("structure", -15),
        ("bytes", 5),
        ("mode", -8),
        ("givers", 6),
        ("takers", 6),
        ("kills", 5),
        ("stops", 5),
        ("sent", 11),
        ("received", 11),
        ("missed", 9),
        ("again", 6),
        ("lost", 5),
        ("dupl.", 5),
        ("reord.", 6),
        ("torn", 5),
        ("untold", 6),
        ("M msgs/s", 8),
        ("GB/s", 6),
        ("p50 ns", 7),
        ("p99 ns", 8),
        ("p99.9 ns", 8),
        ("told us", 7),
        ("max us", 7),
        ("verified", -8),
    ];

    fn cells(&self) -> Vec<String> {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        vec![
            self.structure.clone(),
            self.payload_bytes.to_string(),
            self.mode.to_owned(),
            self.givers.to_string(),
            self.takers.to_string(),
            self.kills.to_string(),
            self.stops.to_string(),
            self.sent.to_string(),
            self.received.to_string(),
            self.missed.to_string(),
            self.again.to_string(),
            self.lost.to_string(),
            self.duplicated.to_string(),
            self.reordered.to_string(),
            self.torn.to_string(),
            self.untold.to_string(),
            format!("{:.2}", self.msgs_per_s / 1e6),
            format!("{:.2}", self.bytes_per_s / 1e9),
            number(self.rtt_p50_ns),
            number(self.rtt_p99_ns),
            number(self.rtt_p999_ns),
            number(self.told_p50_us),
            number(self.told_us),
            if self.verified { "yes" } else { "NO" }.to_owned(),
        ]
    }
}
