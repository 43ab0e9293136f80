//! The cells of message layers.

use std::marker::PhantomData;

use crate::cells::{Cell, Entry, Group, Kind, Sample};
use crate::message::contender::{Layer, MessageTx, Part, Requests};
use crate::message::{calls, check, death, memory, requests, stream};
use crate::pair::PROCESSES;
use crate::peers::is_ours;
use crate::peers::message::{self as peers, LayerVisitor, RequestsVisitor, slot, sockets, tidewire};

/// What is measured of a layer. A type, so that only what is measured is compiled.
trait What {
    const SHORT: &'static str;
    const TITLE: &'static str;
    const KIND: Kind;
    /// How many windows a sample takes.
    const WINDOWS: u32 = 1;

    /// Whether a layer takes part: most are all of it.
    fn wants<L: Layer, const W: usize>() -> bool {
        L::PART == Part::All
    }

    fn sample<L: Layer, const W: usize>() -> Sample;
}

struct Rate;
struct Trip;
struct Pace;
struct InPlace;
struct Wake;
struct SetUp;
struct Memory;
struct Calls;
struct Kill;
struct KillLarge;
struct Succeed;

fn flows<L: Layer>() -> bool {
    matches!(L::PART, Part::All | Part::Flow)
}

impl What for Rate {
    const SHORT: &'static str = "rate";
    const TITLE: &'static str = "without a pause";
    const KIND: Kind = Kind::Rate;

    fn wants<L: Layer, const W: usize>() -> bool {
        flows::<L>()
    }

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::rate::<L, W>
    }
}

impl What for Trip {
    const SHORT: &'static str = "trip";
    const TITLE: &'static str = "round trip";
    const KIND: Kind = Kind::RoundTrip;

    fn wants<L: Layer, const W: usize>() -> bool {
        flows::<L>()
    }

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::round_trip::<L, W>
    }
}

impl What for Pace {
    const SHORT: &'static str = "pace";
    const TITLE: &'static str = "one way at 10 µs pacing";
    const KIND: Kind = Kind::OneWay;
    const WINDOWS: u32 = stream::PACE_WINDOWS;

    fn wants<L: Layer, const W: usize>() -> bool {
        flows::<L>()
    }

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::pace::<L, W>
    }
}

impl What for InPlace {
    const SHORT: &'static str = "place";
    const TITLE: &'static str = "every word written and read, and one word back";
    const KIND: Kind = Kind::RoundTrip;

    /// Whoever can write and read where messages lie, and ours, whether or not.
    fn wants<L: Layer, const W: usize>() -> bool {
        flows::<L>() && (<L::Tx<W> as MessageTx<W>>::IN_PLACE || is_ours(L::NAME))
    }

    fn sample<L: Layer, const W: usize>() -> Sample {
        stream::in_place::<L, W>
    }
}

impl What for Wake {
    const SHORT: &'static str = "wake";
    const TITLE: &'static str = "one every 2 ms to a receiver that sleeps";
    const KIND: Kind = Kind::OneWay;
    const WINDOWS: u32 = stream::WAKE_WINDOWS;

    fn wants<L: Layer, const W: usize>() -> bool {
        L::SLEEPS && L::PART != Part::Flow
    }

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

impl What for Memory {
    const SHORT: &'static str = "memory";
    const TITLE: &'static str = "memory of a channel";
    const KIND: Kind = Kind::Memory;

    fn sample<L: Layer, const W: usize>() -> Sample {
        memory::of_a_channel::<L, W>
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

impl What for KillLarge {
    const SHORT: &'static str = "kill-large";
    const TITLE: &'static str = "the sender is killed, which has a gibibyte resident";
    const KIND: Kind = Kind::Death;
    /// To fill a gibibyte takes a second.
    const WINDOWS: u32 = 25;

    /// Ours, and the one that the kernel tells; the others say the same as without it.
    fn wants<L: Layer, const W: usize>() -> bool {
        L::PART == Part::All && (is_ours(L::NAME) || L::NAME == <sockets::Stream as Layer>::NAME)
    }

    fn sample<L: Layer, const W: usize>() -> Sample {
        death::kill_large::<L, W>
    }
}

impl What for Succeed {
    const SHORT: &'static str = "succeed";
    const TITLE: &'static str = "the receiver is killed, and another one takes its place";
    const KIND: Kind = Kind::Death;

    /// Ours: with others, both sides have to be set up anew.
    fn wants<L: Layer, const W: usize>() -> bool {
        L::PART == Part::All && is_ours(L::NAME)
    }

    fn sample<L: Layer, const W: usize>() -> Sample {
        death::succeed::<L, W>
    }
}

struct Layers<T, const W: usize>(Vec<Entry>, PhantomData<T>);

impl<T: What, const W: usize> LayerVisitor for Layers<T, W> {
    fn visit<L: Layer>(&mut self) {
        if 8 * W <= L::MAX_BYTES && T::wants::<L, W>() {
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

fn cell(
    name: String,
    title: String,
    (kind, windows): (Kind, u32),
    bytes: usize,
    entries: Vec<Entry>,
) -> Cell {
    let reference = <sockets::Stream as Layer>::NAME;
    Cell { group: Group::Message, name, title, kind, payload_bytes: bytes, reference, windows, entries }
}

fn layers<T: What, const W: usize>() -> Cell {
    let mut visitor = Layers::<T, W>(Vec::new(), PhantomData);
    peers::layers(&mut visitor);
    let title = format!("Messages of {}, {}", size(8 * W), T::TITLE);
    let mut cell =
        cell(format!("message-{}-{}", T::SHORT, 8 * W), title, (T::KIND, T::WINDOWS), 8 * W, visitor.0);
    // Where the usual one takes no part, another one does.
    let others = [<slot::Spinning as Layer>::NAME, <tidewire::Spinning as Layer>::NAME];
    for other in others {
        if !cell.entries.iter().any(|entry| entry.contender == cell.reference) {
            cell.reference = other;
        }
    }
    cell
}

fn asking<const W: usize>() -> Cell {
    let mut visitor = Asking::<W>(Vec::new());
    peers::requests(&mut visitor);
    let title = format!("Request and reply of {}", size(8 * W));
    cell(format!("message-request-{}", 8 * W), title, (Kind::RoundTrip, 1), 8 * W, visitor.0)
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
        layers::<InPlace, 8192>(),
        asking::<1>(),
        asking::<8>(),
        layers::<Pace, 8>(),
        layers::<Wake, 8>(),
        layers::<Calls, 8>(),
        layers::<SetUp, 8>(),
        layers::<Memory, 8>(),
        layers::<Kill, 8>(),
        layers::<KillLarge, 8>(),
        layers::<Succeed, 8>(),
    ]
}
