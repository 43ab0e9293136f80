//! How one consumer looks after many lanes: which one is next, when it is released, what happens to one that lies.
//!
//! For the one consumer of a queue; every call is wait-free: its steps are bounded by the number of lanes. No system
//! calls, no allocation after the role is taken, and no read-modify-write but where a lane leaves the rotation.
//!
//! # Memory layout
//! ```text
//! shared    see `layout`; of each lane the tail is read, the head is written
//! private   seats    one per lane: its consuming end, made when the lane is first seen
//!           rota     the lanes in use: each tail word with the position where the lane was last left
//!           current  the lane that messages are taken from, and how many more it may give in this turn
//! ```
//!
//! # Protocol
//! | state of a lane | seat | in the rota | who may leave it | next |
//! |---|---|---|---|---|
//! | unseen | none | no | the consumer, when a bit or an owner word shows it | in use |
//! | in use | open | yes | the consumer, when it is free and empty | resting |
//! | resting | open | no | the consumer, when a bit or an owner word shows it | in use |
//! | in use, resting | open | | the consumer, when the lane lies | out of use, for good |
//!
//! A call takes from the current lane while its turn lasts and something is known there. Otherwise it turns:
//! 1. look at the bitmap, and now and then at all owner words, for lanes that are not in the rota;
//! 2. look at the others in turn: one load each, compared with where the lane was left. The first that has more is the
//!    current lane now; the former one is released;
//! 3. if none has: release the current lane if that is due, and look there for more. If it is empty, it is left like
//!    the others, and as long as nothing comes a call is one pass over all of them: no store, no further call.
//!
//! # Invariants
//! - P1: only the current lane holds consumed messages that are not released.
//! - P2: with [`Delivery::AtLeastOnce`](crate::Delivery) a lane is released only at the start of a turn, thus never in the call that
//!   copied a message out.
//! - P3: a lane in the rota that is not current was left at `idle`, with nothing known beyond it or with a tail that
//!   differs.
//! - P4: a bit of `attached` is a hint (G4 of [`registry`](crate::registry)): a lane is used only if its generation is
//!   not zero, and one whose bit was lost is found by its owner word.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `mpsc.attach` | `Core::announce` | `Poller::look_closely`, `Core::withdraw` | the claim of a lane |
//! | `mpsc.prepare`, `role.free` | see [`registry`](crate::registry) | `Core::owner` | prepared positions; the last tail of a former owner |
//!
//! The messages themselves go over the ring's own edges. The loads of step 2 hand over nothing: who finds more there
//! looks again through the lane's own end, which acquires.
//!
//! A lane that is free and empty leaves the rota like this: take its bit away, then look at owner and tail again. An
//! attacher claims the lane, then sets the bit. If its bit came before ours was taken away, we see its claim and
//! keep the lane; if it came after, the bit stays and we see it next time.
//!
//! # Crash argument
//! | point | a consumer killed here, the successor sees | cost |
//! |---|---|---|
//! | while reading, or before the head is stored (at least once) | what was not released in the current lane again | at most `release_every`; of records one more, with padding |
//! | after the head is stored, before the call returns (at most once) | what the call had copied out is gone | what this call took |
//! | while a lane leaves the rota | a bit less: it looks at all owner words when it starts | nothing |
//! | after a lane is out of use, before that is published | it finds out by itself | nothing |
//!
//! # Not guaranteed
//! No order between messages of different producers. A hostile producer can lose its own messages, and make each turn
//! look at its lane in vain; it costs the others no message. A lane whose bit was lost is found after 1024 turns, or by
//! `rescan` ([`fixed::Consumer::rescan`](crate::fixed::Consumer::rescan)): whoever sleeps rescans first.
//!
//! # Sources
//! The rings and their touch rule are those of `tidewire_ring`; a lane per producer and a budget per lane are common
//! practice.

use alloc::boxed::Box;
use alloc::vec::Vec;

use tidewire_ring::embed::Polled;
use tidewire_ring::{Corrupt, Owner, PopError};
use tidewire_shm::Trust;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};

use crate::error::CorruptLane;
use crate::lane_set::LaneSet;
use crate::options::Delivery;
use crate::registry::{Core, generation};
use crate::seat::{LaneEnd, Seat, Watch, first_with_more};
use crate::tuning::Tuning;

/// Turns between two looks at all owner words.
const RESCAN_TURNS: u32 = 1024;
/// A position that no record has.
const NOWHERE: u64 = u64::MAX;

/// The consumer's view of all lanes.
pub(crate) struct Poller<E, L: Trust> {
    core: Core<L>,
    seats: Box<[Seat<E>]>,
    /// The current lane, an index of `seats`; beyond them if there is none.
    lane: usize,
    /// What the current lane may still give in this turn.
    left: u64,
    /// The position in the current lane of a record that the caller knows; [`NOWHERE`] if there is none.
    pinned: u64,
    /// The current lane was left like the others: looked at by its tail alone.
    resting: bool,
    /// Elements that may be consumed in a lane before it is released; a turn ends there. With at most once every call
    /// releases, so that it ends no turn: the capacity.
    period: u64,
    rota: Vec<Watch>,
    /// The current lane, an index of `rota`.
    at: usize,
    /// The bits of `attached` that were acted on, and their words.
    seen: LaneSet,
    maps: Vec<Shared<AtomicU64>>,
    /// The lanes in the rota; it is swept when one has left.
    active: LaneSet,
    sweep: bool,
    turns: u32,
    tuning: Tuning,
    /// Lanes out of use that were not reported.
    unreported: LaneSet,
}

impl<E: LaneEnd<L>, L: Trust> Poller<E, L> {
    /// Starts with all lanes that have an owner or messages. The caller holds the consumer's role (G2).
    pub(crate) fn new(core: Core<L>) -> Self {
        let lanes = core.layout.lanes;
        let maps = (0..lanes.div_ceil(64)).map(|i| core.word(core.layout.attached_offset(i))).collect();
        let mut poller = Self {
            seats: (0..lanes).map(|_| Seat::Unseen).collect(),
            lane: usize::MAX,
            left: 0,
            pinned: NOWHERE,
            resting: true,
            period: 1,
            rota: Vec::with_capacity(lanes),
            at: 0,
            seen: LaneSet::default(),
            maps,
            active: LaneSet::default(),
            sweep: false,
            turns: 0,
            tuning: Tuning::default(),
            unreported: LaneSet::default(),
            core,
        };
        poller.tune(Tuning::default());
        poller.rescan();
        poller
    }

    pub(crate) fn tune(&mut self, tuning: Tuning) {
        let capacity = self.core.layout.capacity as u64;
        self.tuning = tuning;
        self.period = match self.core.layout.delivery {
            Delivery::AtLeastOnce => tuning.release_every.unwrap_or(capacity / 8).clamp(1, capacity),
            Delivery::AtMostOnce => capacity,
        };
        self.left = 0;
        let tuning = tuning.for_a_lane(self.core.layout.delivery);
        for end in self.seats.iter_mut().filter_map(Seat::open) {
            end.tune(tuning);
        }
    }

    pub(crate) fn core(&self) -> &Core<L> {
        &self.core
    }

    /// The current lane, if it may give a message without a look at anything.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Option<&mut E> {
        let Some(Seat::Open(end)) = self.seats.get_mut(self.lane) else { return None };
        let more = if E::COUNTS_MESSAGES {
            self.left > 0 && end.quick()
        } else {
            let lasts = self.left > 0 && end.unreleased() < self.period;
            end.known() > 0 && (lasts || end.position() == self.pinned)
        };
        more.then_some(end)
    }

    /// As [`peek`](Self::peek), and counts a message as taken.
    #[inline(always)]
    pub(crate) fn ready(&mut self) -> Option<&mut E> {
        // Counted first: the end is borrowed until the caller is done with it.
        self.peek()?;
        self.left = if E::COUNTS_MESSAGES { self.left - 1 } else { self.left.saturating_sub(1) };
        self.seats.get_mut(self.lane)?.open()
    }

    /// The current lane, and how many of `max` messages it may give without a look at anything; those are counted as
    /// taken.
    #[inline(always)]
    pub(crate) fn ready_up_to(&mut self, max: u64) -> Option<(&mut E, u64)> {
        let Some(Seat::Open(end)) = self.seats.get_mut(self.lane) else { return None };
        let n = max.min(self.left).min(end.known());
        self.left -= n;
        (n > 0).then_some((end, n))
    }

    /// The next record is known to the caller: it stays the next until it is consumed, whatever the turn says.
    pub(crate) fn pin(&mut self) {
        if let Some(Seat::Open(end)) = self.seats.get(self.lane) {
            self.pinned = end.position();
        }
    }

    /// Turns to the next lane that has something; false if none has.
    #[cold]
    #[inline(never)]
    pub(crate) fn turn(&mut self) -> bool {
        self.look_around();
        if !self.resting {
            return self.choose();
        }
        // One pass over all of them says mostly that there is nothing, whatever the order.
        match first_with_more(&self.rota) {
            None => false,
            // The way of a message that nobody was ahead of: as short as can be.
            Some(first) if first == self.at => self.scan(first + 1, self.rota.len()) || self.enter(first),
            Some(_) => self.choose(),
        }
    }

    /// Goes over the lanes in turn, the current one last.
    #[inline(never)]
    fn choose(&mut self) -> bool {
        let at = self.at;
        if self.scan(at + 1, self.rota.len()) || self.scan(0, at) {
            return true;
        }
        if self.resting { self.scan(at, at + 1) } else { self.stay() }
    }

    /// Makes the first lane of a part of the rota current that has something; false if none has.
    fn scan(&mut self, mut from: usize, to: usize) -> bool {
        while let Some(next) = self.rota.get(from..to).and_then(first_with_more) {
            if self.enter(from + next) {
                return true;
            }
            from += next + 1;
        }
        false
    }

    /// Makes another lane current if it really has something.
    #[inline(never)]
    fn enter(&mut self, next: usize) -> bool {
        let Some(watch) = self.rota.get_mut(next) else { return false };
        let lane = watch.lane;
        let Some(Seat::Open(end)) = self.seats.get_mut(lane) else { return false };
        match end.refill(false) {
            Ok(()) => {
                // A lane that rests was left before.
                if !self.resting {
                    self.leave();
                }
                self.pinned = NOWHERE;
                self.at = next;
                self.lane = lane;
                self.start();
                return true;
            }
            Err(PopError::Empty) => watch.idle = end.position(),
            Err(PopError::Corrupt(corrupt)) => self.quarantine(lane, corrupt),
        }
        false
    }

    /// Releases the current lane (P1, P2).
    fn leave(&mut self) {
        self.left = 0;
        self.pinned = NOWHERE;
        self.resting = true;
        if let Some(Seat::Open(end)) = self.seats.get_mut(self.lane) {
            end.release();
            if let Some(watch) = self.rota.get_mut(self.at) {
                watch.idle = end.position();
            }
        }
    }

    /// Looks for more in the current lane.
    #[inline(never)]
    fn stay(&mut self) -> bool {
        self.left = 0;
        let Some(Seat::Open(end)) = self.seats.get_mut(self.lane) else { return false };
        if end.unreleased() >= self.period {
            end.release();
        }
        match end.refill(true) {
            Ok(()) => {
                self.start();
                true
            }
            Err(PopError::Empty) => {
                // The end released what there was: nothing is left to be done here.
                self.leave();
                false
            }
            Err(PopError::Corrupt(corrupt)) => {
                self.quarantine(self.lane, corrupt);
                false
            }
        }
    }

    /// Begins a turn of the current lane.
    fn start(&mut self) {
        let Some(Seat::Open(end)) = self.seats.get(self.lane) else { return };
        self.resting = false;
        let budget = u64::from(self.tuning.budget.max(1));
        self.left = if E::COUNTS_MESSAGES {
            budget.min(self.period.saturating_sub(end.unreleased())).max(1)
        } else {
            budget
        };
    }

    /// Looks for lanes that are not in the rota, and takes those out that have left.
    #[inline(always)]
    fn look_around(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        let mut same = !self.turns.is_multiple_of(RESCAN_TURNS) && !self.sweep;
        for (map, seen) in self.maps.iter().zip(&self.seen.0) {
            // ORD advice: Relaxed, only says whether to look.
            same &= map.load(Ordering::Relaxed) == *seen;
        }
        if !same {
            self.look_closely();
        }
    }

    #[cold]
    #[inline(never)]
    fn look_closely(&mut self) {
        if self.turns.is_multiple_of(RESCAN_TURNS) {
            self.rescan();
        }
        for i in 0..self.maps.len() {
            let (Some(map), Some(seen)) = (self.maps.get(i), self.seen.0.get_mut(i)) else { return };
            // ORD mpsc.attach: Acquire <- `Core::announce`; the claims behind the bits are seen.
            let bits = map.load(Ordering::Acquire);
            let mut fresh = bits & !*seen;
            *seen = bits;
            while fresh != 0 {
                self.admit(64 * i + fresh.trailing_zeros() as usize);
                fresh &= fresh - 1;
            }
        }
        if self.sweep {
            self.sweep();
        }
    }

    /// Takes a lane into the rota, if it was ever prepared and is not out of use.
    fn admit(&mut self, lane: usize) {
        if self.active.has(lane) || lane >= self.seats.len() || generation(self.core.owner(lane)) == 0 {
            return;
        }
        let parts = self.core.layout.lane(lane);
        let Some(seat) = self.seats.get_mut(lane) else { return };
        if matches!(seat, Seat::Unseen) {
            // SAFETY: the parts of a validated layout; the role is ours (G2), and the lane is prepared (G3).
            match unsafe { E::attach(&self.core.region, &parts) } {
                Ok(mut end) => {
                    if self.core.layout.delivery == Delivery::AtLeastOnce {
                        end.release_by_hand();
                    }
                    end.tune(self.tuning.for_a_lane(self.core.layout.delivery));
                    *seat = Seat::Open(end);
                }
                Err(corrupt) => return self.quarantine(lane, corrupt),
            }
        }
        let Seat::Open(end) = seat else { return };
        let idle = end.position();
        self.active.set(lane, true);
        self.rota.push(Watch { tail: self.core.word(parts.tail_offset), idle, lane });
        if self.lane >= self.seats.len() {
            self.lane = lane;
            self.at = self.rota.len() - 1;
        }
    }

    /// Looks at every owner word: finds lanes whose bit was lost, and lets those go that are free and empty.
    pub(crate) fn rescan(&mut self) {
        for lane in 0..self.seats.len() {
            let owner = self.core.owner(lane);
            if generation(owner) == 0 {
                continue;
            }
            let free = Owner::from_word(owner).is_none();
            match (self.active.has(lane), free) {
                (true, true) => self.retire(lane),
                (false, false) => self.admit(lane),
                (false, true) if self.has_rest(lane) => self.admit(lane),
                _ => {}
            }
        }
        if self.sweep {
            self.sweep();
        }
    }

    /// Whether a lane that is not in the rota holds messages, as far as one can tell without its end.
    fn has_rest(&self, lane: usize) -> bool {
        let parts = self.core.layout.lane(lane);
        // ORD advice: Relaxed, the lane's owner word was acquired before; its end looks again.
        let tail = self.core.word(parts.tail_offset).load(Ordering::Relaxed);
        match self.seats.get(lane) {
            Some(Seat::Open(end)) => tail != end.position(),
            // ORD own: Relaxed, only the consumer stores heads, and its role was acquired.
            Some(Seat::Unseen) => tail != self.core.word(parts.head_offset).load(Ordering::Relaxed),
            Some(Seat::Corrupt(_)) | None => false,
        }
    }

    /// Lets a lane go that is free, if it is also empty. See the module documentation for the race with an attacher.
    fn retire(&mut self, lane: usize) {
        if self.has_rest(lane) {
            return;
        }
        self.core.withdraw(lane);
        if Owner::from_word(self.core.owner(lane)).is_some() || self.has_rest(lane) {
            self.core.restore(lane);
            return;
        }
        self.seen.set(lane, false);
        if self.lane == lane {
            self.leave();
        } else if let Some(Seat::Open(end)) = self.seats.get_mut(lane) {
            end.release();
        }
        self.drop_out(lane);
    }

    fn drop_out(&mut self, lane: usize) {
        self.active.set(lane, false);
        self.sweep = true;
    }

    /// Takes the lanes out of the rota that have left.
    #[cold]
    fn sweep(&mut self) {
        self.sweep = false;
        let active = self.active;
        self.rota.retain(|watch| active.has(watch.lane));
        let still = self.rota.iter().position(|watch| watch.lane == self.lane);
        if still.is_none() {
            self.left = 0;
            self.pinned = NOWHERE;
            self.resting = true;
            self.lane = self.rota.first().map_or(usize::MAX, |watch| watch.lane);
        }
        self.at = still.unwrap_or(0);
    }

    /// Takes a lane out of use for good: what is published there cannot be.
    #[cold]
    fn quarantine(&mut self, lane: usize, corrupt: Corrupt) {
        if let Some(seat) = self.seats.get_mut(lane) {
            *seat = Seat::Corrupt(corrupt);
            self.unreported.set(lane, true);
            self.drop_out(lane);
            self.core.quarantine(lane);
        }
    }

    /// Takes the current lane out of use: it gave something that cannot be.
    #[cold]
    pub(crate) fn quarantine_current(&mut self, corrupt: Corrupt) {
        self.left = 0;
        self.pinned = NOWHERE;
        self.quarantine(self.lane, corrupt);
    }

    /// One lane that was taken out of use since it was last asked for.
    pub(crate) fn take_corrupt(&mut self) -> Option<CorruptLane> {
        let lane = self.unreported.first()?;
        self.unreported.set(lane, false);
        self.quarantined().find(|found| found.lane as usize == lane)
    }

    /// All lanes out of use.
    pub(crate) fn quarantined(&self) -> impl Iterator<Item = CorruptLane> + '_ {
        (0..).zip(&self.seats).filter_map(|(lane, seat)| match seat {
            Seat::Corrupt(corrupt) => Some(CorruptLane { lane, corrupt: *corrupt }),
            _ => None,
        })
    }

    /// Published and not yet consumed in the lanes in use, in elements; a fresh look.
    pub(crate) fn len(&self) -> usize {
        let open = self.rota.iter().filter_map(|watch| match self.seats.get(watch.lane) {
            Some(Seat::Open(end)) => Some(end.len()),
            _ => None,
        });
        open.fold(0, usize::saturating_add)
    }
}

impl<E: Polled, L: Trust> Poller<E, L> {
    /// The lane that the last message came from, if any did.
    pub(crate) fn lane(&self) -> Option<u32> {
        (self.lane < self.seats.len()).then(|| u32::try_from(self.lane).ok()).flatten()
    }

    /// Releases everything consumed. By P1 that is in the current lane.
    pub(crate) fn release(&mut self) {
        if let Some(Seat::Open(end)) = self.seats.get_mut(self.lane) {
            end.release();
        }
    }
}
