//! The cells of structures in parts, beside the same in one segment.

use crate::cells::{Cell, Check, Entry, Group, Kind, Sample};
use crate::check;
use crate::contender::Contender;
use crate::latest::contender::CellContender;
use crate::latest::{check as latest_check, stream as latest_stream};
use crate::mpsc::contender::{Alone, ManyContender as _};
use crate::pair::EVERYWHERE;
use crate::peers::parts::{Lane, Latest, Parted, Ring, Whole};
use crate::peers::{tidewire, tidewire_cell, tidewire_mpsc};
use crate::{latency, stream};

type InOne = tidewire::Tidewire<tidewire::Default>;
type Lanes = tidewire_mpsc::Lanes<tidewire_mpsc::Default>;

fn entry<C: Contender, const W: usize>(sample: Sample) -> Entry {
    let checks: &'static [Check] = &[|board, mode| check::messages::<C, W>(board, mode, false)];
    Entry { contender: C::NAME, sample, checks, modes: EVERYWHERE, sleeps: false }
}

fn single<C: Contender, const W: usize>() -> Entry {
    entry::<C, W>(stream::single::<C, W>)
}

fn trip<C: Contender, const W: usize>() -> Entry {
    entry::<C, W>(latency::round_trip::<C, W>)
}

fn latest<C: CellContender, const W: usize>() -> Entry {
    let checks: &'static [Check] = &[latest_check::values::<C, 1, W>];
    let sample: Sample = latest_stream::full::<C, W>;
    Entry { contender: C::NAME, sample, checks, modes: EVERYWHERE, sleeps: false }
}

fn rings<const W: usize>() -> [Cell; 2] {
    let cell = |name: &str, title: &str, kind, entries| Cell {
        group: Group::Ring,
        name: format!("parts-ring-{name}-{}", 8 * W),
        title: format!("A ring in parts, {title}, {} B", 8 * W),
        kind,
        payload_bytes: 8 * W,
        reference: InOne::NAME,
        windows: 1,
        entries,
    };
    [
        cell(
            "single",
            "one at a time",
            Kind::Rate,
            vec![single::<InOne, W>(), single::<Ring<Whole>, W>(), single::<Ring<Parted>, W>()],
        ),
        cell(
            "trip",
            "round trip",
            Kind::RoundTrip,
            vec![trip::<InOne, W>(), trip::<Ring<Whole>, W>(), trip::<Ring<Parted>, W>()],
        ),
    ]
}

fn lanes() -> [Cell; 2] {
    let cell = |name: &str, title: &str, kind, entries| Cell {
        group: Group::Mpsc,
        name: format!("parts-lanes-{name}-64"),
        title: format!("A lane in parts, {title}, 64 B"),
        kind,
        payload_bytes: 64,
        reference: Lanes::NAME,
        windows: 1,
        entries,
    };
    [
        cell(
            "single",
            "one at a time",
            Kind::Rate,
            vec![single::<Alone<Lanes>, 8>(), single::<Lane<Whole>, 8>(), single::<Lane<Parted>, 8>()],
        ),
        cell(
            "trip",
            "round trip",
            Kind::RoundTrip,
            vec![trip::<Alone<Lanes>, 8>(), trip::<Lane<Whole>, 8>(), trip::<Lane<Parted>, 8>()],
        ),
    ]
}

fn cell() -> Cell {
    Cell {
        group: Group::Cell,
        name: "parts-cell-64".to_owned(),
        title: "Latest value of 64 B in parts, a writer without a pause".to_owned(),
        kind: Kind::Latest,
        payload_bytes: 64,
        reference: tidewire_cell::Latest::NAME,
        windows: 1,
        entries: vec![
            latest::<tidewire_cell::Latest, 8>(),
            latest::<Latest<Whole>, 8>(),
            latest::<Latest<Parted>, 8>(),
        ],
    }
}

/// Those of a group, in the order of the report.
#[must_use]
pub fn of(group: Group) -> Vec<Cell> {
    match group {
        Group::Ring => [rings::<1>(), rings::<8>()].concat(),
        Group::Mpsc => lanes().to_vec(),
        Group::Cell => vec![cell()],
        Group::Message | Group::Build => Vec::new(),
    }
}
