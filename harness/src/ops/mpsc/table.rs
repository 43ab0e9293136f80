//! The table: what is done to a queue, and in which state.

use std::cell::{Cell, RefCell};

use tidewire_mpsc::Delivery;

use super::MpscOperation;
use super::deed::{Beside, Deed, Lane, Seat};
use super::rig::Rig;
use crate::explore::{Mode, Operation};

const DATA: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double, Mode::Flip];
const LATE: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Pairs, Mode::Double];
const ROLE: &[Mode] = DATA;
const CREATE: &[Mode] = &[Mode::Kill, Mode::Freeze, Mode::Double];
const PAIR: &[Mode] = &[Mode::Pairs];
const ALONE: &[Mode] = &[Mode::Kill, Mode::Freeze];

/// The operations on roles that queues of records are put through.
const RECORDS: &[&str] =
    &["attach to a new lane", "reclaim a lane", "take over from a late consumer", "create"];

/// Two producers at hand, and a lane that nobody ever had.
const HAND: [Lane; 3] = [Lane::Ours, Lane::Ours, Lane::New];
const ALL: [Lane; 3] = [Lane::Ours, Lane::Ours, Lane::Ours];

fn row<R: Rig>(
    name: &'static str,
    deed: Deed,
    before: u64,
    late: u64,
    filled: [u64; 3],
    modes: &'static [Mode],
) -> MpscOperation<R> {
    MpscOperation {
        name,
        deed,
        before,
        late,
        due: false,
        filled,
        lanes: HAND,
        seat: Seat::Ours,
        delivery: Delivery::AtLeastOnce,
        modes,
        beside: Beside::OtherEnd,
        wraps: false,
        hasty: false,
        held: RefCell::default(),
        place: Cell::default(),
        owners: Cell::default(),
    }
}

impl<R: Rig> MpscOperation<R> {
    fn wrapping(mut self) -> Self {
        self.wraps = true;
        self
    }

    fn due(mut self) -> Self {
        self.due = true;
        self
    }

    fn at_most_once(mut self) -> Self {
        self.delivery = Delivery::AtMostOnce;
        self
    }

    fn lanes(mut self, lanes: [Lane; 3]) -> Self {
        self.lanes = lanes;
        self
    }

    fn seat(mut self, seat: Seat) -> Self {
        self.seat = seat;
        self
    }

    fn beside(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }
}

/// The rows of one kind of queue.
pub(super) fn rows<R: Rig>() -> Vec<Box<dyn Operation>> {
    let mut others: Vec<MpscOperation<R>> =
        [roles(), consumers(), creating()].into_iter().flatten().collect();
    // Who holds what has nothing to do with what lanes hold: of records, which lie in pages, a few will do.
    others.retain(|row| R::EXACT || RECORDS.contains(&row.name));
    let all = [pushing::<R>(), popping(), once(), others];
    all.into_iter().flatten().map(|row| Box::new(row) as Box<dyn Operation>).collect()
}

/// A push beside which others are hasty.
pub(super) fn hasty_push<R: Rig>() -> MpscOperation<R> {
    let mut row = row("push", Deed::Push, 2, 0, [1, 1, 0], ALONE);
    row.hasty = true;
    row
}

fn pushing<R: Rig>() -> Vec<MpscOperation<R>> {
    let wraps = R::WRAPS;
    let mut rows = vec![
        row("push", Deed::Push, 2, 0, [1, 1, 0], DATA),
        row("push over the wrap", Deed::Push, wraps, 0, [0, 1, 0], DATA).wrapping(),
        row("push into a full lane", Deed::Push, 1, 0, [R::MOST, 0, 0], DATA),
        row("batch over the wrap", Deed::PushBatch, 3, 0, [0, 1, 0], DATA).wrapping(),
        row("push beside a push", Deed::Push, 2, 0, [1, 1, 0], PAIR).beside(Beside::Producer),
        row("batch beside a push", Deed::PushBatch, 2, 0, [0, 1, 0], PAIR).beside(Beside::Producer),
    ];
    if R::RESERVES {
        rows.push(row("reserve and commit", Deed::Commit, wraps - 1, 0, [1, 0, 0], DATA).wrapping());
        rows.push(row("reserve and abort", Deed::Abort, wraps - 1, 0, [1, 0, 0], DATA).wrapping());
    }
    rows
}

fn popping<R: Rig>() -> Vec<MpscOperation<R>> {
    let wraps = R::WRAPS;
    let mut rows = vec![
        row("pop", Deed::Pop, 2, 1, [2, 1, 0], DATA),
        row("pop over the wrap", Deed::Pop, wraps - 1, 1, [1, 1, 0], DATA).wrapping(),
        row("pop, turn to another lane", Deed::Pop, 2, 1, [0, 2, 0], DATA),
        row("pop, the turn is over", Deed::Pop, 2, 2, [1, 1, 0], LATE).due(),
        row("pop, release due", Deed::Pop, 2, 2, [1, 0, 0], LATE).due(),
        row("pop from an empty queue", Deed::Pop, 2, 1, [0, 0, 0], DATA),
        row("pop from a lane not seen before", Deed::Pop, 2, 1, [0, 0, 1], DATA).lanes(ALL),
        row("pop beside an attacher", Deed::Pop, 2, 1, [0, 1, 0], PAIR).beside(Beside::Attacher),
        row("peek", Deed::Peek, 2, 1, [2, 1, 0], DATA),
        row("peek, turn to another lane", Deed::Peek, 2, 1, [0, 2, 0], DATA),
    ];
    if R::BATCHES {
        rows.push(row("pop a batch", Deed::PopBatch, 2, 1, [3, 0, 0], DATA).wrapping());
        rows.push(row("pop a batch of another lane", Deed::PopBatch, 2, 1, [0, 3, 0], LATE));
    }
    if R::IN_PLACE {
        rows.push(row("read in place and release", Deed::PopInPlace, 2, 1, [2, 1, 0], DATA));
        rows.push(row("read in place, another lane", Deed::PopInPlace, 2, 1, [0, 2, 0], LATE));
    }
    rows
}

fn once<R: Rig>() -> Vec<MpscOperation<R>> {
    let mut rows = vec![
        row("pop, at most once", Deed::Pop, 2, 1, [2, 1, 0], LATE).at_most_once(),
        row("pop, another lane, at most once", Deed::Pop, 2, 1, [0, 2, 0], LATE).at_most_once(),
        row("peek, at most once", Deed::Peek, 2, 1, [2, 1, 0], LATE).at_most_once(),
    ];
    if R::BATCHES {
        rows.push(row("pop a batch, at most once", Deed::PopBatch, 2, 1, [3, 0, 0], LATE).at_most_once());
    }
    if R::IN_PLACE {
        rows.push(row("read in place, at most once", Deed::PopInPlace, 2, 1, [2, 1, 0], LATE).at_most_once());
    }
    rows
}

fn roles<R: Rig>() -> Vec<MpscOperation<R>> {
    use Lane::{Dead, Free, Kept, New, Ours};
    let filled = [1, 1, 0];
    let attach = |name, lanes| {
        row::<R>(name, Deed::AttachProducer, 3, 0, filled, ROLE).lanes(lanes).beside(Beside::Attacher)
    };
    let reclaim = |name, modes, lanes| row::<R>(name, Deed::Reclaim, 3, 0, filled, modes).lanes(lanes);
    let mut rows = vec![
        attach("attach a producer", [Free, Kept, Kept]),
        attach("attach to a new lane", [Kept, Kept, New]),
        attach("attach, two lanes to be had", [Kept, Free, New]),
        row("attach, all lanes taken", Deed::AttachProducer, 3, 0, filled, ALONE).lanes([Kept; 3]),
        row("detach a producer", Deed::DetachProducer, 3, 0, filled, LATE)
            .lanes([Ours, Kept, Kept])
            .beside(Beside::Attacher),
        reclaim("reclaim a lane", ROLE, [Dead, Kept, Kept]).beside(Beside::Attacher),
        reclaim("reclaim two lanes", LATE, [Dead, Dead, New]).beside(Beside::Attacher),
    ];
    if !R::ORDERED {
        rows.push(attach("attach to a dead owner's lane", [Dead, Kept, Kept]));
        rows.push(attach("attach, two lanes of the dead", [Dead, Dead, Kept]));
        rows.push(reclaim("reclaim beside another", PAIR, [Dead, Dead, Kept]).beside(Beside::Reclaimer));
        let rescan = row("rescan, a lane leaves", Deed::Rescan, 2, 1, [0, 1, 0], LATE);
        rows.push(rescan.lanes([Free, Kept, Kept]).beside(Beside::Attacher));
    }
    rows
}

fn consumers<R: Rig>() -> Vec<MpscOperation<R>> {
    let heir = |name, deed, modes, seat| {
        row::<R>(name, deed, 3, 0, [2, 1, 0], modes).seat(seat).beside(Beside::Heir)
    };
    vec![
        heir("attach a consumer", Deed::AttachConsumer, ROLE, Seat::Free),
        heir("take the consumer's role over", Deed::AttachConsumer, ROLE, Seat::Dead),
        heir("attach a consumer, role taken", Deed::AttachConsumer, ALONE, Seat::Kept),
        heir("detach a consumer", Deed::DetachConsumer, LATE, Seat::Ours),
        row("detach a late consumer", Deed::DetachConsumer, 2, 1, [1, 1, 0], LATE).beside(Beside::Heir),
        row("take over from a late consumer", Deed::AttachConsumer, 2, 1, [2, 1, 0], LATE)
            .seat(Seat::Dead)
            .beside(Beside::Heir),
    ]
}

fn creating<R: Rig>() -> Vec<MpscOperation<R>> {
    // An ordered queue has a thousand words more, that are zeroed in a loop: each leaves an image of its own, too many to
    // recover from each.
    let modes = if R::ORDERED { ALONE } else { CREATE };
    vec![
        row("create", Deed::Create, 0, 0, [0; 3], modes),
        row("create over an old queue", Deed::CreateOver, 2, 0, [2, 1, 0], modes),
    ]
}
