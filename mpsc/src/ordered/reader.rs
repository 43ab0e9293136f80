//! The consumer's way along the order words, and how it tells a successor where it is.

use alloc::boxed::Box;

use tidewire_shm::sync::{AtomicU64, Ordering, Payload, Shared, Words, compiler_fence, spin_hint};
use tidewire_shm::{LINE_BYTES, Trust};

use super::error::{Corrupt, CorruptWord, PopError};
use super::order::{Entry, Order};
use super::places::{BLOCK_HEAD_WORDS, Places};
use crate::error::CorruptLane;
use crate::lane_set::LaneSet;
use crate::options::Delivery;
use crate::registry::{Core, generation};

/// Fewer runs than this are little.
const AHEAD: u64 = 16;

/// What differs between slots and records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// Bytes of an element of a lane.
    pub(super) element_bytes: usize,
    /// Positions of a lane are multiples of this power of two.
    pub(super) grain: u64,
    /// The most messages of a run.
    pub(super) max_run: u64,
    /// After how many elements a checkpoint is due if nobody says otherwise.
    pub(super) period: u64,
}

/// What the consumer knows about a lane.
pub(super) struct Seat {
    /// Where the next message of the lane lies.
    pub(super) head: u64,
    pub(super) data: Payload,
    head_word: Shared<AtomicU64>,
    /// Why the lane is out of use.
    out: Option<tidewire_ring::Corrupt>,
}

/// The consumer's side: order head, heads of the lanes, checkpoint.
pub(super) struct Reader<L: Trust> {
    order: Order,
    /// The position whose run is next.
    at: u64,
    /// Messages taken of that run.
    taken: u64,
    /// Messages of that run that are known and not taken; zero if its word has not been looked at.
    left: u64,
    /// The lane of that run while `left` is not zero, and of the last message otherwise.
    lane: usize,
    seats: Box<[Seat]>,
    /// Elements taken since the last checkpoint.
    unreleased: u64,
    period: u64,
    /// Checkpoints are due before a call returns.
    eager: bool,
    /// The most messages of a run; zero once corrupt, so that no run is taken.
    max_run: u64,
    touch: bool,
    /// Everything before is known to be published; for the pace only, every word is looked at.
    seen: u64,
    /// The last look ahead was not after an empty one.
    hot: bool,
    /// Little was there at the last look ahead, and at the one before something: wait a moment before the next.
    thin: bool,
    pauses: u32,
    /// Lanes whose head has moved since the last checkpoint.
    moved: LaneSet,
    /// Lanes whose head had moved between the last two.
    moved_before: LaneSet,
    version: u64,
    /// Version and blocks.
    words: Words,
    block_words: usize,
    corrupt: Option<Corrupt>,
    unreported: LaneSet,
    unit: Unit,
    core: Core<L>,
}

impl<L: Trust> Reader<L> {
    /// Starts from the last checkpoint. The caller holds the consumer's role (G2).
    pub(super) fn new(core: Core<L>, places: &Places, unit: Unit) -> Self {
        let block_words = places.block_words;
        // SAFETY: within a validated layout, only ever accessed as these words; the reader keeps the region.
        let words = unsafe { core.region.words(places.version, LINE_BYTES / 8 + 2 * block_words) };
        let mut reader = Self {
            order: Order::new(&core.region, places),
            at: 0,
            taken: 0,
            left: 0,
            lane: usize::MAX,
            seats: Box::default(),
            unreleased: 0,
            period: unit.period,
            eager: core.layout.delivery == Delivery::AtMostOnce,
            max_run: unit.max_run,
            touch: true,
            seen: 0,
            hot: false,
            thin: false,
            pauses: tidewire_ring::Tuning::default().pauses,
            moved: LaneSet::default(),
            // What differs between the blocks is not known.
            moved_before: LaneSet([u64::MAX; 4]),
            version: 0,
            words,
            block_words,
            corrupt: None,
            unreported: LaneSet::default(),
            unit,
            core,
        };
        // ORD role.free: Relaxed, as all loads of a checkpoint: whoever wrote it is gone, and the role was acquired.
        reader.version = reader.word(0).load(Ordering::Relaxed);
        let block = reader.block(reader.version);
        // ORD role.free: Relaxed, as above.
        reader.at = reader.word(block).load(Ordering::Relaxed);
        reader.seen = reader.at;
        // ORD role.free: Relaxed, as above.
        reader.taken = reader.word(block + 1).load(Ordering::Relaxed);
        reader.seats = (0..reader.core.layout.lanes)
            .map(|lane| reader.seat(lane, block + BLOCK_HEAD_WORDS + lane))
            .collect();
        for lane in 0..reader.seats.len() {
            reader.adopt(lane);
        }
        reader
    }

    fn seat(&self, lane: usize, checkpoint: usize) -> Seat {
        let parts = self.core.layout.lane(lane);
        // SAFETY: data of a validated layout; the reader keeps the region.
        let data =
            unsafe { self.core.region.payload(parts.data_offset, parts.capacity * self.unit.element_bytes) };
        Seat {
            // ORD role.free: Relaxed, as above.
            head: self.word(checkpoint).load(Ordering::Relaxed),
            data,
            head_word: self.core.word(parts.head_offset),
            out: None,
        }
    }

    /// Does for a lane what a former consumer may have left undone behind its last checkpoint: releases it up to there.
    fn adopt(&mut self, lane: usize) {
        let fresh = generation(self.core.owner(lane)) == 0;
        let gone = self.core.is_quarantined(lane);
        let capacity = self.core.layout.capacity as u64;
        let Some(seat) = self.seats.get_mut(lane) else { return };
        // ORD own: Relaxed, only consumers store heads, and their role was acquired; zero in a fresh lane.
        let released = if fresh { 0 } else { seat.head_word.load(Ordering::Relaxed) };
        let behind = seat.head.wrapping_sub(released);
        if gone || behind > if fresh { 0 } else { capacity } || seat.head & (self.unit.grain - 1) != 0 {
            let corrupt = tidewire_ring::Corrupt { what: tidewire_ring::CorruptWord::Head, found: seat.head };
            self.quarantine(lane, corrupt);
        } else if behind > 0 {
            // ORD order.free: Release -> `Lane::refresh`; the former consumer's reads, which its end ordered before.
            seat.head_word.store(seat.head, Ordering::Release);
        }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: callers ask for the version or for words of a block; the reader keeps the region, which is writable.
        unsafe { self.words.word(index) }
    }

    /// The first word of the block that a version makes valid.
    fn block(&self, version: u64) -> usize {
        LINE_BYTES / 8 + if version & 1 == 0 { 0 } else { self.block_words }
    }

    pub(super) fn core(&self) -> &Core<L> {
        &self.core
    }

    pub(super) fn order(&self) -> &Order {
        &self.order
    }

    /// The position whose run is next, and how much of it was taken.
    pub(super) fn order_head(&self) -> (u64, u64) {
        (self.at, self.taken)
    }

    #[inline(always)]
    pub(super) fn touches(&self) -> bool {
        self.touch
    }

    /// The lane that the last message came from, or the next one comes from if it was looked at.
    pub(super) fn lane(&self) -> Option<u32> {
        (self.lane < self.seats.len()).then(|| u32::try_from(self.lane).ok()).flatten()
    }

    pub(super) fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    /// A seat that is in use.
    pub(super) fn open_seat(&self, lane: usize) -> Option<&Seat> {
        self.seats.get(lane).filter(|seat| seat.out.is_none())
    }

    pub(super) fn tune(&mut self, tuning: tidewire_ring::Tuning) {
        self.touch = tuning.touch;
        self.pauses = tuning.pauses;
        self.period =
            tuning.release_every.unwrap_or(self.unit.period).clamp(1, self.core.layout.capacity as u64);
    }

    /// The lane of the next message, at the start of a call: what earlier calls handed out may be released. Says also
    /// how many messages of this lane follow each other there, at least one.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<(&Seat, u64), PopError> {
        if self.unreleased >= self.period {
            self.checkpoint();
        }
        self.find::<true>()
    }

    /// The lane of the next message, in a call that has taken some already.
    #[inline(always)]
    pub(super) fn more(&mut self) -> Result<(&Seat, u64), PopError> {
        self.find::<false>()
    }

    #[inline(always)]
    fn find<const START: bool>(&mut self) -> Result<(&Seat, u64), PopError> {
        if self.left == 0 {
            self.look::<START>()?;
        }
        // There is one: `look` says so.
        self.seats.get(self.lane).map(|seat| (seat, self.left)).ok_or(PopError::Empty)
    }

    /// Looks at the word of the next run. On success something is left of it.
    #[inline(always)]
    fn look<const START: bool>(&mut self) -> Result<(), PopError> {
        let mut passed = 0;
        loop {
            if self.at == self.seen {
                self.look_ahead();
            }
            // ORD order.publish: Acquire <- `Publisher::publish`; the messages of the run are filled.
            let found = self.order.word(self.at).load(Ordering::Acquire);
            if self.order.laps(found, self.at) == 1 && self.admit(found) {
                return Ok(());
            }
            self.pass_over(found, START && passed == 0)?;
            passed += 1;
            if passed > self.order.len() {
                return Err(PopError::Empty);
            }
        }
    }

    /// Waits a moment if the producers are only just ahead: else each message would cost both sides the line of its
    /// order word. How far ahead they are, one word further on tells (O1).
    #[cold]
    #[inline(never)]
    fn look_ahead(&mut self) {
        self.seen = self.at.wrapping_add(1);
        if self.pauses == 0 {
            return;
        }
        if self.thin {
            for _ in 0..self.pauses {
                spin_hint();
            }
        }
        let ahead = self.at.wrapping_add(AHEAD.min(self.order.len() - 1));
        // ORD advice: Relaxed, decides only whether to wait.
        let more = self.order.laps(self.order.word(ahead).load(Ordering::Relaxed), ahead) == 1;
        self.thin = self.hot && !more;
        self.hot = true;
        if more {
            self.seen = ahead;
        }
    }

    /// Takes up the run of a published word, if it can be.
    #[inline(always)]
    fn admit(&mut self, found: u64) -> bool {
        let Entry { lane, run } = Entry::of(found);
        let in_use = self.seats.get(lane).is_some_and(|seat| seat.out.is_none());
        if !in_use || run > self.max_run || run <= self.taken {
            return false;
        }
        self.order.prefetch_next_line(self.at);
        if self.touch {
            self.order.touch(self.at, found);
        }
        self.lane = lane;
        self.left = run - self.taken;
        self.moved.set(lane, true);
        true
    }

    /// Goes on behind a run that cannot be taken, because its lane is out of use, now if not before. If there is no run,
    /// everything taken is released by a call that has handed out nothing.
    #[cold]
    #[inline(never)]
    fn pass_over(&mut self, found: u64, start: bool) -> Result<(), PopError> {
        if let Some(corrupt) = self.corrupt {
            return Err(PopError::Corrupt(corrupt));
        }
        let Entry { lane, run } = Entry::of(found);
        match self.order.laps(found, self.at) {
            0 => {
                (self.seen, self.hot, self.thin) = (self.at, false, false);
                if start {
                    self.release();
                }
                return Err(PopError::Empty);
            }
            1 if lane < self.seats.len() && run > self.taken => {}
            _ => return Err(PopError::Corrupt(self.latch(Corrupt { what: CorruptWord::Order, found }))),
        }
        if self.open_seat(lane).is_some() {
            let what = tidewire_ring::CorruptWord::Tail;
            self.quarantine(lane, tidewire_ring::Corrupt { what, found });
        }
        self.next_run();
        self.unreleased += 1;
        Ok(())
    }

    fn next_run(&mut self) {
        self.at = self.at.wrapping_add(1);
        self.taken = 0;
        self.left = 0;
    }

    /// The first `messages` of what is left, which are `elements` of the lane, were read.
    #[inline(always)]
    pub(super) fn took(&mut self, messages: u64, elements: u64) {
        if let Some(seat) = self.seats.get_mut(self.lane) {
            seat.head = seat.head.wrapping_add(elements);
        }
        self.unreleased += elements;
        if self.left == messages {
            self.next_run();
        } else {
            self.left -= messages;
            self.taken += messages;
        }
    }

    /// Ends a call that took something.
    #[inline(always)]
    pub(super) fn finish(&mut self) {
        if self.eager {
            self.checkpoint();
        }
    }

    /// Releases everything taken, if anything was.
    pub(super) fn release(&mut self) {
        if self.unreleased > 0 {
            self.checkpoint();
        }
    }

    /// Says where this consumer is: with one store to a successor, then lane by lane to the producers.
    #[cold]
    #[inline(never)]
    fn checkpoint(&mut self) {
        if self.corrupt.is_some() {
            return;
        }
        let version = self.version.wrapping_add(1);
        let block = self.block(version);
        // ORD order.checkpoint: Relaxed, as all stores of the block: whoever reads it acquired the role, and the
        // compiler keeps them between the fences.
        self.word(block).store(self.at, Ordering::Relaxed);
        // ORD order.checkpoint: Relaxed, as above.
        self.word(block + 1).store(self.taken, Ordering::Relaxed);
        for (lane, seat) in self.among(self.moved, self.moved_before) {
            // ORD order.checkpoint: Relaxed, as above.
            self.word(block + BLOCK_HEAD_WORDS + lane).store(seat.head, Ordering::Relaxed);
        }
        // ORD order.checkpoint: Release -> `Reader::new`; killed behind this, all of the block is stored. For the
        // compiler alone: a successor has the role after this process, which orders the rest.
        compiler_fence(Ordering::Release);
        // ORD order.checkpoint: Relaxed, between the fences.
        self.word(0).store(version, Ordering::Relaxed);
        self.version = version;
        // ORD order.checkpoint: SeqCst <-> the fence above; no store of the next block before this one is valid.
        compiler_fence(Ordering::SeqCst);
        for (_, seat) in self.among(self.moved, LaneSet::default()) {
            // ORD order.free: Release -> `Lane::refresh`; reads and touches below the head are over.
            seat.head_word.store(seat.head, Ordering::Release);
        }
        self.moved_before = self.moved;
        self.moved = LaneSet::default();
        if self.left > 0 {
            self.moved.set(self.lane, true);
        }
        self.unreleased = 0;
    }

    /// The lanes of two sets, with their seats.
    fn among(&self, one: LaneSet, other: LaneSet) -> impl Iterator<Item = (usize, &Seat)> {
        let words = (0..).zip(one.0.into_iter().zip(other.0).map(|(one, other)| one | other));
        let lanes = words.flat_map(|(i, word)| {
            let rest = core::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)));
            rest.take_while(|rest| *rest != 0).map(move |rest| 64 * i + rest.trailing_zeros() as usize)
        });
        lanes.map_while(|lane| Some((lane, self.seats.get(lane)?)))
    }

    /// Ends this handle: what a peer published cannot be.
    #[cold]
    pub(super) fn latch(&mut self, corrupt: Corrupt) -> Corrupt {
        self.corrupt = Some(corrupt);
        self.max_run = 0;
        self.left = 0;
        corrupt
    }

    /// Takes a lane out of use for good: what is published there cannot be.
    #[cold]
    pub(super) fn quarantine(&mut self, lane: usize, corrupt: tidewire_ring::Corrupt) {
        let Some(seat) = self.seats.get_mut(lane) else { return };
        seat.out = Some(corrupt);
        self.unreported.set(lane, true);
        self.core.quarantine(lane);
    }

    /// Takes the current lane out of use: it gave something that cannot be. Its run is passed over.
    #[cold]
    pub(super) fn quarantine_current(&mut self, corrupt: tidewire_ring::Corrupt) {
        self.quarantine(self.lane, corrupt);
        self.next_run();
        self.unreleased += 1;
    }

    /// One lane that was taken out of use since it was last asked for.
    pub(super) fn take_corrupt(&mut self) -> Option<CorruptLane> {
        let lane = self.unreported.first()?;
        self.unreported.set(lane, false);
        self.quarantined().find(|found| found.lane as usize == lane)
    }

    /// All lanes out of use.
    pub(super) fn quarantined(&self) -> impl Iterator<Item = CorruptLane> + '_ {
        (0..)
            .zip(&self.seats)
            .filter_map(|(lane, seat)| seat.out.map(|corrupt| CorruptLane { lane, corrupt }))
    }

    /// Whether a pop would find nothing, not even that the order is corrupt; a fresh look.
    pub(super) fn is_empty(&self) -> bool {
        // ORD advice: Relaxed, who takes it looks again.
        let found = self.order.word(self.at).load(Ordering::Relaxed);
        self.corrupt.is_none() && self.left == 0 && self.order.laps(found, self.at) == 0
    }
}
