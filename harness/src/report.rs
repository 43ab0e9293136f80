//! What the commands print: a table for people or one JSON object per row, and complaints on standard error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

/// A row of a report: its JSON form comes from `Serialize`, its table form from here.
pub(crate) trait Row: Serialize {
    /// Column heads and their widths; a negative width aligns to the left.
    const COLUMNS: &'static [(&'static str, i16)];

    /// The cells, as many as there are columns.
    fn cells(&self) -> Vec<String>;
}

/// Prints rows as they come.
#[derive(Debug)]
pub(crate) struct Reporter {
    json: bool,
    head: Option<&'static str>,
}

impl Reporter {
    /// A reporter for a table, or for JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, head: None }
    }

    /// Whether rows are printed as JSON: then nothing else may go to standard output.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether people watch: then progress may be drawn on standard error.
    pub(crate) fn interactive(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Prints a row; before the first of its kind, the heads.
    pub(crate) fn row<R: Row>(&mut self, row: &R) -> anyhow::Result<()> {
        if self.json {
            return print(&serde_json::to_string(row)?);
        }
        self.heads::<R>()?;
        let cells = row.cells();
        let cells = R::COLUMNS.iter().zip(&cells).map(|((_, width), cell)| pad(cell, *width));
        print(cells.collect::<Vec<_>>().join("  ").trim_end())
    }

    /// Prints the heads of rows of this kind, unless they are the last that were printed; nothing with JSON.
    pub(crate) fn heads<R: Row>(&mut self) -> anyhow::Result<()> {
        let kind = std::any::type_name::<R>();
        if self.json || self.head == Some(kind) {
            return Ok(());
        }
        self.head = Some(kind);
        let heads = R::COLUMNS.iter().map(|(head, width)| pad(head, *width));
        print(&heads.collect::<Vec<_>>().join("  "))
    }

    /// Takes the heads of rows of this kind as printed: by another process.
    pub(crate) fn without_heads<R: Row>(&mut self) {
        self.head = Some(std::any::type_name::<R>());
    }

    /// Prints a line for people; nothing with JSON.
    pub(crate) fn note(&mut self, text: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { print(text) }
    }
}

fn pad(text: &str, width: i16) -> String {
    let columns = usize::from(width.unsigned_abs());
    if width < 0 { format!("{text:<columns$}") } else { format!("{text:>columns$}") }
}

fn print(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    // In one piece: other processes may print lines, too.
    out.write_all(format!("{line}\n").as_bytes())?;
    Ok(out.flush()?)
}

/// Says something on standard error; a closed one is nobody's loss.
pub(crate) fn complain(text: &str) {
    let _closed = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}
