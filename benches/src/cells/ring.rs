//! The cells of queues between one producer and one consumer.

use crate::cells::{Cell, Check, Entry, Group, Kind, Sample};
use crate::check;
use crate::contender::{Contender, RecordContender};
use crate::latency;
use crate::pair::EVERYWHERE;
use crate::peers::{self, Visitor, tidewire};
use crate::stream;

fn entry<C: Contender>(sample: Sample, checks: &'static [Check]) -> Entry {
    Entry { contender: C::NAME, sample, checks, modes: C::MODES, sleeps: false }
}

/// The checks of a contender for one size of message.
struct Checks<C, const W: usize>(std::marker::PhantomData<C>);

impl<C: Contender, const W: usize> Checks<C, W> {
    const SINGLE: &'static [Check] = &[|board, mode| check::messages::<C, W>(board, mode, false)];
    const BOTH: &'static [Check] = &[
        |board, mode| check::messages::<C, W>(board, mode, false),
        |board, mode| check::messages::<C, W>(board, mode, true),
    ];
}

struct Singles<const W: usize>(Vec<Entry>);
struct Batches<const W: usize>(Vec<Entry>);
struct RoundTrips<const W: usize>(Vec<Entry>);
struct OneWays<const W: usize>(Vec<Entry>);

impl<const W: usize> Visitor for Singles<W> {
    fn visit<C: Contender>(&mut self) {
        let checks = Checks::<C, W>::SINGLE;
        self.0.push(entry::<C>(stream::single::<C, W>, checks));
    }
}

impl<const W: usize> Visitor for Batches<W> {
    fn visit<C: Contender>(&mut self) {
        if C::BATCH {
            let checks = Checks::<C, W>::BOTH;
            self.0.push(entry::<C>(stream::batch::<C, W>, checks));
        }
    }
}

impl<const W: usize> Visitor for RoundTrips<W> {
    fn visit<C: Contender>(&mut self) {
        if C::PROMPT {
            let checks = Checks::<C, W>::SINGLE;
            self.0.push(entry::<C>(latency::round_trip::<C, W>, checks));
        }
    }
}

impl<const W: usize> Visitor for OneWays<W> {
    fn visit<C: Contender>(&mut self) {
        if C::PROMPT {
            let checks = Checks::<C, W>::SINGLE;
            self.0.push(entry::<C>(latency::one_way::<C, W>, checks));
        }
    }
}

fn record_entry<C: RecordContender>() -> Entry {
    Entry {
        contender: C::NAME,
        sample: stream::records::<C>,
        checks: &[check::records::<C>],
        modes: EVERYWHERE,
        sleeps: false,
    }
}

fn singles<const W: usize>() -> Vec<Entry> {
    let mut visitor = Singles::<W>(Vec::new());
    peers::spsc(&mut visitor);
    visitor.0
}

fn batches<const W: usize>() -> Vec<Entry> {
    let mut visitor = Batches::<W>(Vec::new());
    peers::spsc(&mut visitor);
    visitor.0
}

fn round_trips<const W: usize>() -> Vec<Entry> {
    let mut visitor = RoundTrips::<W>(Vec::new());
    peers::spsc(&mut visitor);
    visitor.0
}

fn one_ways<const W: usize>() -> Vec<Entry> {
    let mut visitor = OneWays::<W>(Vec::new());
    peers::spsc(&mut visitor);
    // Paced messages leave nearly all of the time to waiting: three contenders tell what there is to tell.
    let wanted = [tidewire::NAMES[0], tidewire::NAMES[3], "rtrb"];
    visitor.0.retain(|entry| wanted.contains(&entry.contender));
    visitor.0
}

fn records() -> Vec<Entry> {
    vec![
        record_entry::<tidewire::TidewireRecords<tidewire::Default>>(),
        record_entry::<tidewire::TidewireRecords<tidewire::TouchOff>>(),
        record_entry::<tidewire::TidewireRecords<tidewire::NoPauses>>(),
        record_entry::<tidewire::TidewireRecords<tidewire::Plain>>(),
    ]
}

/// All of them, in the order of the report.
#[must_use]
pub fn all() -> Vec<Cell> {
    let cell = |name: &str, title: &str, kind, payload_bytes, entries| Cell {
        group: Group::Ring,
        name: name.to_owned(),
        title: title.to_owned(),
        kind,
        payload_bytes,
        reference: "rtrb",
        windows: 1,
        entries,
    };
    let plain = tidewire::NAMES[3];
    vec![
        cell("round-trip-8", "Round trip, 8 B", Kind::RoundTrip, 8, round_trips::<1>()),
        cell("round-trip-64", "Round trip, 64 B", Kind::RoundTrip, 64, round_trips::<8>()),
        cell("single-8", "One at a time, 8 B", Kind::Rate, 8, singles::<1>()),
        cell("single-64", "One at a time, 64 B", Kind::Rate, 64, singles::<8>()),
        cell("single-1024", "One at a time, 1 KiB", Kind::Rate, 1024, singles::<128>()),
        cell("batch-8", "Batches of 32, 8 B", Kind::Rate, 8, batches::<1>()),
        cell("batch-64", "Batches of 32, 64 B", Kind::Rate, 64, batches::<8>()),
        cell("batch-1024", "Batches of 32, 1 KiB", Kind::Rate, 1024, batches::<128>()),
        Cell {
            reference: plain,
            ..cell("records-16-79", "Byte records of 16 to 79 B", Kind::Rate, 0, records())
        },
        cell("one-way-8", "One way at 1 µs pacing, 8 B", Kind::OneWay, 8, one_ways::<1>()),
        cell("one-way-64", "One way at 1 µs pacing, 64 B", Kind::OneWay, 64, one_ways::<8>()),
    ]
}
