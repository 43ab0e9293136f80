//! The cells of cells: what holds the latest value.

use std::marker::PhantomData;

use crate::cells::{Cell, Check, Entry, Group, Kind, Sample};
use crate::latest::contender::CellContender;
use crate::latest::{check, stream};
use crate::peers::{self, CellVisitor, memcpy, triple_buffer};

/// The checks of a contender for a number of readers and a size of value.
struct Checks<C, const R: usize, const W: usize>(PhantomData<C>);

impl<C: CellContender, const R: usize, const W: usize> Checks<C, R, W> {
    const ALL: &'static [Check] = if C::WHOLE { &[check::values::<C, R, W>] } else { &[] };
}

/// What is measured with one reader.
#[derive(Clone, Copy)]
enum What {
    Full,
    Paced,
    Fresh,
    Alone,
}

struct Pairs<const W: usize> {
    what: What,
    entries: Vec<Entry>,
}

struct Crowds<const R: usize, const W: usize>(Vec<Entry>);

impl<const W: usize> CellVisitor for Pairs<W> {
    fn visit<C: CellContender>(&mut self) {
        let sample: Sample = match self.what {
            What::Full => stream::full::<C, W>,
            What::Paced => stream::paced::<C, W>,
            What::Fresh => stream::fresh::<C, W>,
            What::Alone => stream::alone::<C, W>,
        };
        self.entries.push(Entry {
            contender: C::NAME,
            sample,
            checks: Checks::<C, 1, W>::ALL,
            modes: C::modes(W),
            sleeps: C::SLEEPS,
        });
    }
}

impl<const R: usize, const W: usize> CellVisitor for Crowds<R, W> {
    fn visit<C: CellContender>(&mut self) {
        if C::READERS {
            self.0.push(Entry {
                contender: C::NAME,
                sample: stream::readers::<C, R, W>,
                checks: Checks::<C, R, W>::ALL,
                modes: C::modes(W),
                sleeps: C::SLEEPS,
            });
        }
    }
}

fn pair<const W: usize>(what: What) -> Cell {
    let mut visitor = Pairs::<W> { what, entries: Vec::new() };
    peers::latest(&mut visitor);
    let (short, text, kind, reference) = match what {
        What::Full => ("full", "a writer without a pause", Kind::Latest, triple_buffer::TripleBuffer::NAME),
        What::Paced => ("paced", "a writer at 1 MHz", Kind::Latest, triple_buffer::TripleBuffer::NAME),
        What::Fresh => {
            ("fresh", "one read after one write on the other core", Kind::Fresh, memcpy::Memcpy::NAME)
        }
        What::Alone => ("alone", "reads and writes alone", Kind::Alone, memcpy::Memcpy::NAME),
    };
    Cell {
        group: Group::Cell,
        name: format!("cell-{short}-{}", 8 * W),
        title: format!("Latest value of {}, {text}", size(8 * W)),
        kind,
        payload_bytes: 8 * W,
        reference,
        windows: 1,
        entries: visitor.entries,
    }
}

fn crowd<const R: usize, const W: usize>() -> Cell {
    let mut visitor = Crowds::<R, W>(Vec::new());
    peers::latest(&mut visitor);
    Cell {
        group: Group::Cell,
        name: format!("cell-readers-{R}-{}", 8 * W),
        title: format!(
            "Latest value of {}, a writer without a pause, {R} readers, nobody pinned",
            size(8 * W)
        ),
        kind: Kind::Latest,
        payload_bytes: 8 * W,
        reference: peers::seqlock::Seqlock::NAME,
        windows: 1,
        entries: visitor.0,
    }
}

fn size(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

/// All of them, in the order of the report.
#[must_use]
pub fn all() -> Vec<Cell> {
    fn sizes(what: What) -> [Cell; 6] {
        [
            pair::<1>(what),
            pair::<7>(what),
            pair::<8>(what),
            pair::<32>(what),
            pair::<128>(what),
            pair::<512>(what),
        ]
    }
    let mut cells = Vec::new();
    cells.extend(sizes(What::Full));
    cells.push(crowd::<3, 32>());
    cells.extend(sizes(What::Paced));
    cells.extend(sizes(What::Fresh));
    cells.extend(sizes(What::Alone));
    cells
}
