//! The order words: how one says what was published where, and how a producer publishes.

use tidewire_shm::sync::{AtomicU64, Ordering, Shared, Words};
use tidewire_shm::{CACHE_LINE_BYTES, Region, Trust};

use super::error::{Corrupt, CorruptWord};
use super::places::Places;

const LANE_BITS: u32 = 8;
const RUN_BITS: u32 = 10;
const LAP_BITS: u32 = u64::BITS - RUN_BITS - LANE_BITS;
const LAP_MASK: u64 = (1 << LAP_BITS) - 1;
/// The most messages that one order word publishes.
pub(super) const MAX_RUN: usize = 1 << RUN_BITS;

/// Order words that share a cache line.
const WORDS_PER_LINE: u64 = if cfg!(loom) { 2 } else { CACHE_LINE_BYTES as u64 / 8 };
/// Looks at order words between two looks at the hint.
const HINT_LOOKS: u64 = 8;
/// A producer that has gone on by a multiple of this tells the others.
const HINT_STEP: u64 = 8;

/// What an order word publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) lane: usize,
    /// 1 to [`MAX_RUN`] messages.
    pub(super) run: u64,
}

impl Entry {
    /// What a word says, whatever its lap.
    #[inline(always)]
    pub(super) fn of(word: u64) -> Self {
        let lane = (word & ((1 << LANE_BITS) - 1)) as usize;
        Self { lane, run: (word >> LANE_BITS & ((1 << RUN_BITS) - 1)) + 1 }
    }
}

/// How a word stands to a position whose word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// The position is free, and everything of one lap before is published.
    Free,
    /// The position is published.
    Published,
    /// The position was published, and so was everything up to this many positions further on.
    Lapped(u64),
    /// Older than free: the position is more than a lap ahead of everything published.
    Impossible,
}

/// The order words and the arithmetic of positions.
#[derive(Clone, Debug)]
pub(super) struct Order {
    words: Words,
    /// Words are `1 << shift`.
    shift: u32,
}

impl Order {
    /// The order words of a validated layout.
    pub(super) fn new<L: Trust>(region: &Region<L>, places: &Places) -> Self {
        let len = 1 << places.order_shift;
        // SAFETY: within a validated layout, only ever accessed as these words; whoever keeps the result keeps the
        // region, too.
        let words = unsafe { region.words(places.order, len) };
        Self { words, shift: places.order_shift }
    }

    /// How many positions there are at a time.
    pub(super) fn len(&self) -> u64 {
        1 << self.shift
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the mask is below the number of words, a usize")]
    fn index(&self, position: u64) -> usize {
        (position & ((1 << self.shift) - 1)) as usize
    }

    #[inline(always)]
    fn lap(&self, position: u64) -> u64 {
        position >> self.shift & LAP_MASK
    }

    #[inline(always)]
    pub(super) fn word(&self, position: u64) -> &AtomicU64 {
        // SAFETY: an index is below the number of words; the region is kept beside this, and is writable.
        unsafe { self.words.word(self.index(position)) }
    }

    /// Fetches the line behind that of a position, if the position is the first of its line.
    #[inline(always)]
    pub(super) fn prefetch_next_line(&self, position: u64) {
        if position.is_multiple_of(WORDS_PER_LINE) {
            self.words.prefetch(self.index(position.wrapping_add(WORDS_PER_LINE)));
        }
    }

    /// Writes the last word of a line back as it was found, so that the next producer there gets the line from one
    /// owner, as the ring's touch does for slots. For the consumer, of a published word whose run it has not released:
    /// until then nobody else may change it (O2).
    #[inline(always)]
    pub(super) fn touch(&self, position: u64, found: u64) {
        if position % WORDS_PER_LINE == WORDS_PER_LINE - 1 {
            // ORD order.claim: Release -> `Publisher::publish`; hands on what was acquired with the word, since this store
            // stands where the producer's own release did.
            self.word(position).store(found, Ordering::Release);
        }
    }

    /// By how many laps a word is ahead of the word that would be free for `position`: 0 free, 1 published.
    #[inline(always)]
    pub(super) fn laps(&self, word: u64, position: u64) -> u64 {
        (word >> (LANE_BITS + RUN_BITS)).wrapping_sub(self.lap(position)) & LAP_MASK
    }

    #[inline(always)]
    pub(super) fn age(&self, word: u64, position: u64) -> Age {
        match self.laps(word, position) {
            0 => Age::Free,
            1 => Age::Published,
            laps if laps <= LAP_MASK / 2 => Age::Lapped((laps - 1) << self.shift),
            _ => Age::Impossible,
        }
    }

    /// The word that publishes a run of a lane at `position`.
    #[inline(always)]
    fn published(&self, position: u64, lane: u64, run: u64) -> u64 {
        let lap = self.lap(position).wrapping_add(1) & LAP_MASK;
        lap << (LANE_BITS + RUN_BITS) | (run - 1) << LANE_BITS | lane
    }

    /// A position up to which everything was published at some time, as far as the first word tells.
    fn some_published(&self) -> u64 {
        // ORD order.claim: Acquire <- `Publisher::publish`; everything below is published. An old word only makes the way
        // longer.
        let word = self.word(0).load(Ordering::Acquire);
        match word >> (LANE_BITS + RUN_BITS) {
            0 => 0,
            lap => ((lap - 1) << self.shift).wrapping_add(1),
        }
    }
}

/// A producer's way along the order words.
#[derive(Debug)]
pub(super) struct Publisher {
    order: Order,
    hint: Shared<AtomicU64>,
    /// Everything before is published (O1).
    at: u64,
    lane: u64,
}

impl Publisher {
    /// Publishes for `lane`, below 256.
    pub(super) fn new<L: Trust>(region: &Region<L>, places: &Places, lane: usize) -> Self {
        let order = Order::new(region, places);
        let at = order.some_published();
        // SAFETY: a word of a validated layout; whoever keeps the result keeps the region, too.
        let hint = unsafe { region.atomic_u64(places.hint) };
        let mut publisher = Self { order, hint, at, lane: lane as u64 };
        publisher.at = publisher.hinted(at);
        publisher
    }

    /// Publishes the next `run` messages of the lane, 1 to [`MAX_RUN`], at the first free position. They are filled.
    ///
    /// The rounds are bounded, since hostile peers could change the words for ever: far beyond what one producer can
    /// meet in a row while the others push.
    #[inline(always)]
    pub(super) fn publish(&mut self, run: u64) -> Result<(), Corrupt> {
        let mut at = self.at;
        let mut looks = 0;
        loop {
            let word = self.order.word(at);
            // ORD order.claim: Acquire <- `Publisher::publish`; if it is published, we are behind it and all below (O1).
            let found = word.load(Ordering::Acquire);
            match self.order.age(found, at) {
                Age::Free => {
                    let published = self.order.published(at, self.lane, run);
                    // ORD order.publish: Release -> `Reader::look`; hands over the messages of the run.
                    // ORD order.claim: Release -> `Publisher::publish`; hands on everything below, and the heads we know.
                    // ORD own: failure Relaxed, nothing is read behind it.
                    if word.compare_exchange(found, published, Ordering::Release, Ordering::Relaxed).is_ok() {
                        self.settle(at);
                        return Ok(());
                    }
                }
                Age::Published => at = at.wrapping_add(1),
                Age::Lapped(further) => at = at.wrapping_add(further).wrapping_add(1),
                Age::Impossible => return Err(Corrupt { what: CorruptWord::Order, found }),
            }
            looks += 1;
            if looks % HINT_LOOKS == 0 {
                if looks > self.most_looks() {
                    return Err(Corrupt { what: CorruptWord::Order, found });
                }
                at = self.hinted(at);
            }
        }
    }

    fn most_looks(&self) -> u64 {
        (1 << 16) + 4 * self.order.len()
    }

    /// The position at `at` is ours, and published.
    #[inline(always)]
    fn settle(&mut self, at: u64) {
        self.at = at.wrapping_add(1);
        if self.at.is_multiple_of(HINT_STEP) {
            // ORD advice: Relaxed, a hint that is believed only if the word before it says the same.
            self.hint.store(self.at, Ordering::Relaxed);
        }
    }

    /// Where the hint says one may go on, if that is further than `at` and the words say so, too; else `at`.
    #[cold]
    #[inline(never)]
    fn hinted(&self, at: u64) -> u64 {
        // ORD advice: Relaxed, believed only if the word before it says the same.
        let hint = self.hint.load(Ordering::Relaxed);
        let last = hint.wrapping_sub(1);
        if hint == at || hint.wrapping_sub(at) > u64::MAX / 2 {
            return at;
        }
        // ORD order.claim: Acquire <- `Publisher::publish`, as there.
        match self.order.age(self.order.word(last).load(Ordering::Acquire), last) {
            Age::Published => hint,
            Age::Lapped(further) => hint.wrapping_add(further),
            Age::Free | Age::Impossible => at,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use tidewire_shm::Region;

    fn order() -> (Region<tidewire_shm::Trusted>, Order) {
        let region = Region::heap(8 * 1024).expect("a small region");
        // SAFETY: nothing else lies in the region, and it is returned with the words.
        let words = unsafe { region.words(0, 1024) };
        (region, Order { words, shift: 10 })
    }

    /// The encoding is an interface: other versions and languages read it.
    #[test]
    fn words_are_as_the_layout_says() {
        let (_region, order) = order();
        assert_eq!(order.published(0, 0, 1), 1 << 18);
        assert_eq!(order.published(5, 7, 1024), 1 << 18 | 1023 << 8 | 7);
        assert_eq!(order.published(3 * 1024 + 1, 255, 2), 4 << 18 | 1 << 8 | 255);
        assert_eq!(Entry::of(4 << 18 | 1 << 8 | 255), Entry { lane: 255, run: 2 });
        assert_eq!(Entry::of(1 << 18), Entry { lane: 0, run: 1 });
    }

    #[test]
    fn ages_tell_laps_apart_also_where_they_wrap() {
        let (_region, order) = order();
        assert_eq!(order.age(0, 5), Age::Free);
        assert_eq!(order.age(0, 1024), Age::Impossible);
        for position in [0, 5, 1023, 7 << 10, (1 << 56) - 1, (1 << 56) + 3, u64::MAX - 2048] {
            let word = order.published(position, 3, 4);
            assert_eq!(order.age(word, position), Age::Published);
            assert_eq!(order.age(word, position.wrapping_add(1024)), Age::Free);
            assert_eq!(order.age(word, position.wrapping_add(2048)), Age::Impossible);
            assert_eq!(order.age(word, position.wrapping_sub(1024)), Age::Lapped(1024));
            assert_eq!(order.age(word, position.wrapping_sub(5 * 1024)), Age::Lapped(5 * 1024));
        }
    }
}
