//! The cells of queues between many producers and one consumer.

use std::marker::PhantomData;

use crate::cells::{Cell, Check, Entry, Group, Kind};
use crate::latency;
use crate::mpsc::contender::{Alone, ManyContender};
use crate::mpsc::{check, poll, stream};
use crate::pair::THREADS;
use crate::peers::{self, ManyVisitor, aeron_style, crossbeam, rtrb, thingbuf};

/// Whom ratios are formed to.
const REFERENCE: &str = aeron_style::AeronStyle::NAME;

/// The checks of a contender for a number of producers and a size of message. More than four producers bring nothing
/// new to a check.
struct Checks<C, const P: usize, const W: usize>(PhantomData<C>);

impl<C: ManyContender, const P: usize, const W: usize> Checks<C, P, W> {
    const SINGLE: &'static [Check] = if P == 1 {
        &[|board, mode| check::messages::<C, 1, W>(board, mode, false)]
    } else {
        &[|board, mode| check::messages::<C, 4, W>(board, mode, false)]
    };
    const BATCH: &'static [Check] = if P == 1 {
        &[|board, mode| check::messages::<C, 1, W>(board, mode, true)]
    } else {
        &[|board, mode| check::messages::<C, 4, W>(board, mode, true)]
    };
}

struct Singles<const P: usize, const W: usize>(Vec<Entry>);
struct Batches<const P: usize, const W: usize>(Vec<Entry>);
struct OneWays(Vec<Entry>);
struct Polls(Vec<Entry>);

impl<const P: usize, const W: usize> ManyVisitor for Singles<P, W> {
    fn visit<C: ManyContender>(&mut self) {
        self.0.push(Entry {
            contender: C::NAME,
            sample: stream::single::<C, P, W>,
            checks: Checks::<C, P, W>::SINGLE,
            modes: C::MODES,
            sleeps: C::SLEEPS,
        });
    }
}

impl<const P: usize, const W: usize> ManyVisitor for Batches<P, W> {
    fn visit<C: ManyContender>(&mut self) {
        // One without batches stands beside them, one at a time: some promises are relative to it.
        if C::BATCH || C::NAME == crossbeam::QUEUE {
            self.0.push(Entry {
                contender: C::NAME,
                sample: stream::batch::<C, P, W>,
                checks: Checks::<C, P, W>::BATCH,
                modes: C::MODES,
                sleeps: C::SLEEPS,
            });
        }
    }
}

impl ManyVisitor for OneWays {
    fn visit<C: ManyContender>(&mut self) {
        self.0.push(Entry {
            contender: C::NAME,
            sample: latency::one_way::<Alone<C>, 8>,
            checks: Checks::<C, 1, 8>::SINGLE,
            modes: C::MODES,
            sleeps: C::SLEEPS,
        });
    }
}

impl ManyVisitor for Polls {
    fn visit<C: ManyContender>(&mut self) {
        self.0.push(Entry {
            contender: C::NAME,
            sample: poll::empty::<C>,
            checks: Checks::<C, 4, 8>::SINGLE,
            // Nobody else is there.
            modes: THREADS,
            sleeps: C::SLEEPS,
        });
    }
}

fn single<const P: usize, const W: usize>() -> Cell {
    let mut visitor = Singles::<P, W>(Vec::new());
    peers::mpsc(&mut visitor);
    cell(
        &format!("mpsc-{P}-{}", 8 * W),
        &format!("{}, one at a time, {}", producers(P), size(8 * W)),
        W,
        visitor.0,
    )
}

fn batch<const P: usize, const W: usize>() -> Cell {
    let mut visitor = Batches::<P, W>(Vec::new());
    peers::mpsc(&mut visitor);
    let name = format!("mpsc-batch-{P}-{}", 8 * W);
    cell(&name, &format!("{}, batches of 16, {}", producers(P), size(8 * W)), W, visitor.0)
}

fn cell(name: &str, title: &str, words: usize, entries: Vec<Entry>) -> Cell {
    Cell {
        group: Group::Mpsc,
        name: name.to_owned(),
        title: title.to_owned(),
        kind: Kind::Rate,
        payload_bytes: 8 * words,
        reference: REFERENCE,
        windows: 1,
        entries,
    }
}

fn producers(count: usize) -> String {
    if count == 1 { "1 producer".to_owned() } else { format!("{count} producers") }
}

fn size(bytes: usize) -> String {
    if bytes < 1024 { format!("{bytes} B") } else { format!("{} KiB", bytes / 1024) }
}

fn one_way() -> Cell {
    let mut visitor = OneWays(Vec::new());
    peers::mpsc(&mut visitor);
    // Paced messages leave nearly all of the time to waiting: these tell what there is to tell.
    let wanted = |name: &str| {
        let peers = [
            REFERENCE,
            crossbeam::QUEUE,
            crossbeam::CHANNEL,
            thingbuf::ByReference::NAME,
            rtrb::Bundle::NAME,
        ];
        peers.contains(&name) || peers::is_ours(name)
    };
    visitor.0.retain(|entry| wanted(entry.contender));
    Cell {
        kind: Kind::OneWay,
        reference: crossbeam::QUEUE,
        ..cell("mpsc-one-way-64", "1 producer, one way at 1 µs pacing, 64 B", 8, visitor.0)
    }
}

fn empty() -> Cell {
    let mut visitor = Polls(Vec::new());
    peers::mpsc(&mut visitor);
    let wanted = |name: &str| name == rtrb::Bundle::NAME || name == REFERENCE || peers::is_ours(name);
    visitor.0.retain(|entry| wanted(entry.contender));
    Cell {
        kind: Kind::Poll,
        reference: rtrb::Bundle::NAME,
        ..cell("mpsc-empty-16", "A look at 16 silent producers", 8, visitor.0)
    }
}

/// All of them, in the order of the report.
#[must_use]
pub fn all() -> Vec<Cell> {
    vec![
        single::<1, 1>(),
        single::<2, 1>(),
        single::<4, 1>(),
        single::<16, 1>(),
        single::<1, 8>(),
        single::<2, 8>(),
        single::<4, 8>(),
        single::<16, 8>(),
        single::<1, 128>(),
        single::<2, 128>(),
        single::<4, 128>(),
        single::<16, 128>(),
        batch::<1, 1>(),
        batch::<2, 1>(),
        batch::<4, 1>(),
        batch::<16, 1>(),
        batch::<1, 8>(),
        batch::<2, 8>(),
        batch::<4, 8>(),
        batch::<16, 8>(),
        one_way(),
        empty(),
    ]
}
