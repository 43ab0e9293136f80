//! The cells of message layers.

use std::marker::PhantomData;

use crate::cells::{Cell, Entry, Group, Kind, Sample};
use crate::message::contender::{Layer, Requests};
use crate::message::{calls, check, death, requests, stream};
use crate::pair::PROCESSES;
use crate::peers::message::{self as peers, LayerVisitor, RequestsVisitor, sockets};

/// What is measured of a layer. A type, so that only what is measured is compiled.
trait What {
    const SHORT: &'static str;
    const TITLE: &'static str;
    const KIND: Kind;
    /// Whether only receivers that sleep take part.
    const SLEEPERS: bool = false;

    fn sample<L: Layer, const W: usize>() -> Sample;
}

struct Rate;
struct Trip;
struct Wake;
struct SetUp;
struct Calls;
struct Kill;

impl What for Rate {
    const SHORT: &'static str = "rate";
    const TITLE: &'static str = "without a pause";
    const KIND: Kind = Kind::Rate;

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::rate::<L, W>
    }
}

impl What for Trip {
    const SHORT: &'static str = "trip";
    const TITLE: &'static str = "round trip";
    const KIND: Kind = Kind::RoundTrip;

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::round_trip::<L, W>
    }
}

impl What for Wake {
    const SHORT: &'static str = "wake";
    const TITLE: &'static str = "one every 2 ms to a receiver that sleeps";
    const KIND: Kind = Kind::OneWay;
    const SLEEPERS: bool = true;

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::wake::<L, W>
    }
}

impl What for SetUp {
    const SHORT: &'static str = "set-up";
    const TITLE: &'static str = "set up until the first is received";
    const KIND: Kind = Kind::SetUp;

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::set_up::<L, W>
    }
}

impl What for Calls {
    const SHORT: &'static str = "calls";
    const TITLE: &'static str = "system calls";
    const KIND: Kind = Kind::Calls;

    fn sample<L: Layer, const W: usize>() -> Sample {
        calls::stream::<L, W>
    }
}

impl What for Kill {
    const SHORT: &'static str = "kill";
    const TITLE: &'static str = "the sender is killed";
    const KIND: Kind = Kind::Death;

    fn sample<L: Layer, const W: usize>() -> Sample {
        death::kill::<L, W>
    }
}

struct Layers<T, const W: usize>(Vec<Entry>, PhantomData<T>);

impl<T: What, const W: usize> LayerVisitor for Layers<T, W> {
    fn visit<L: Layer>(&mut self) {
        if 8 * W <= L::MAX_BYTES && (L::SLEEPS || !T::SLEEPERS) {
            self.0.push(Entry {
                contender: L::NAME,
                sample: T::sample::<L, W>(),
                checks: &[check::messages::<L, W>],
                modes: PROCESSES,
                // Whoever looks again and again may still sleep while there is no room.
                sleeps: true,
            });
        }
    }
}

struct Asking<const W: usize>(Vec<Entry>);

impl<const W: usize> RequestsVisitor for Asking<W> {
    fn visit<Q: Requests>(&mut self) {
        self.0.push(Entry {
            contender: Q::NAME,
            sample: requests::round_trip::<Q, W>,
            checks: &[check::requests::<Q, W>],
            modes: PROCESSES,
            sleeps: true,
        });
    }
}

fn size(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

fn cell(name: String, title: String, kind: Kind, bytes: usize, entries: Vec<Entry>) -> Cell {
    let reference = <sockets::Stream as Layer>::NAME;
    Cell { group: Group::Message, name, title, kind, payload_bytes: bytes, reference, entries }
}

fn layers<T: What, const W: usize>() -> Cell {
    let mut visitor = Layers::<T, W>(Vec::new(), PhantomData);
    peers::layers(&mut visitor);
    let title = format!("Messages of {}, {}", size(8 * W), T::TITLE);
    cell(format!("message-{}-{}", T::SHORT, 8 * W), title, T::KIND, 8 * W, visitor.0)
}

fn asking<const W: usize>() -> Cell {
    let mut visitor = Asking::<W>(Vec::new());
    peers::requests(&mut visitor);
    let title = format!("Request and reply of {}", size(8 * W));
    cell(format!("message-request-{}", 8 * W), title, Kind::RoundTrip, 8 * W, visitor.0)
}

/// All of them, in the order of the report.
#[must_use]
pub fn all() -> Vec<Cell> {
    vec![
        layers::<Rate, 1>(),
        layers::<Rate, 8>(),
        layers::<Rate, 128>(),
        layers::<Rate, 8192>(),
        layers::<Trip, 1>(),
        layers::<Trip, 8>(),
        layers::<Trip, 8192>(),
        asking::<1>(),
        asking::<8>(),
        layers::<Wake, 8>(),
        layers::<Calls, 8>(),
        layers::<SetUp, 8>(),
        layers::<Kill, 8>(),
    ]
}
