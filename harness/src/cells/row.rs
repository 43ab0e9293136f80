//! A row of the report, of `run` and of `stress`.

use serde::Serialize;

use crate::report::{Row, complain};

/// What became of one cell among its processes.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CellRow {
    pub(crate) structure: String,
    pub(crate) payload_bytes: u64,
    pub(crate) mode: &'static str,
    pub(crate) writers: u64,
    pub(crate) readers: u64,
    /// Versions that were written.
    pub(crate) writes: u64,
    /// Values that were read, all of each looked at.
    pub(crate) reads: u64,
    /// Attempts to read that failed.
    pub(crate) retries: u64,
    /// Reads that were told that there is no value now; possible in a classic cell only.
    pub(crate) refused: u64,
    /// Values that nobody wrote.
    pub(crate) torn: u64,
    /// Versions that went back.
    pub(crate) back: u64,
    /// Acknowledged versions that were not seen afterwards.
    pub(crate) lost: u64,
    /// Readers and writers that did not go on, or were refused what they must get.
    pub(crate) blocked: u64,
    pub(crate) writes_per_s: f64,
    pub(crate) reads_per_s: f64,
    pub(crate) verified: bool,
    /// Writers that were killed.
    pub(crate) kills: u64,
    /// Writers that were stopped.
    pub(crate) stops: u64,
    pub(crate) seed: u64,
    /// What was wrong, for people.
    #[serde(skip)]
    pub(crate) troubles: Vec<String>,
}

impl Row for CellRow {
    const COLUMNS: &'static [(&'static str, i16)] = &[
        ("structure", -24),
        ("bytes", 6),
        ("mode", -7),
        ("writers", 7),
        ("readers", 7),
        ("kills", 6),
        ("stops", 6),
        ("writes", 12),
        ("reads", 12),
        ("retries", 9),
        ("refused", 8),
        ("torn", 6),
        ("back", 6),
        ("lost", 6),
        ("blocked", 7),
        ("M writes/s", 10),
        ("M reads/s", 9),
        ("verified", -8),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.structure.clone(),
            self.payload_bytes.to_string(),
            self.mode.to_owned(),
            self.writers.to_string(),
            self.readers.to_string(),
            self.kills.to_string(),
            self.stops.to_string(),
            self.writes.to_string(),
            self.reads.to_string(),
            self.retries.to_string(),
            self.refused.to_string(),
            self.torn.to_string(),
            self.back.to_string(),
            self.lost.to_string(),
            self.blocked.to_string(),
            format!("{:.2}", self.writes_per_s / 1e6),
            format!("{:.2}", self.reads_per_s / 1e6),
            if self.verified { "yes" } else { "NO" }.to_owned(),
        ]
    }
}

impl CellRow {
    /// Says on standard error what was wrong.
    pub(crate) fn complain(&self) {
        for trouble in &self.troubles {
            let Self { structure, payload_bytes, readers, seed, .. } = self;
            complain(&format!(
                "{structure} of {payload_bytes} bytes, {readers} readers, seed {seed}: {trouble}"
            ));
        }
    }

    /// Works out the rates.
    #[expect(clippy::cast_precision_loss, reason = "rates")]
    pub(crate) fn rate(&mut self, time: std::time::Duration) {
        let seconds = time.as_secs_f64();
        if seconds > 0.0 {
            self.writes_per_s = (self.writes as f64 / seconds).round();
            self.reads_per_s = (self.reads as f64 / seconds).round();
        }
    }
}
