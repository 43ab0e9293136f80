//! Where the words lie that an ordered queue has beside its lanes.

use tidewire_shm::LINE_BYTES;
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Region, Trust};

use crate::layout::Layout;

/// The fewest order words.
const MIN_ORDER: usize = if cfg!(loom) { 2 } else { 1024 };
/// What the parts of different writers may be apart.
const MAX_STRIDE: usize = if cfg!(loom) { LINE_BYTES } else { 4096 };
const WORD: usize = 8;

/// Offsets in the region; from a validated layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Says which block is valid; the blocks follow on the next lines.
    pub(super) version: usize,
    /// Words of a block and of what fills its last line.
    pub(super) block_words: usize,
    pub(super) hint: usize,
    pub(super) order: usize,
    /// Order words are `1 << order_shift`.
    pub(super) order_shift: u32,
}

/// Words of a checkpoint before the heads: order head and messages taken of the run there.
pub(super) const BLOCK_HEAD_WORDS: usize = 2;

fn block_words(lanes: usize) -> usize {
    (BLOCK_HEAD_WORDS + lanes).next_multiple_of(LINE_BYTES / WORD)
}

/// Bytes of the consumer's words: version and two blocks.
fn consumer_bytes(lanes: usize) -> usize {
    LINE_BYTES + 2 * WORD * block_words(lanes)
}

/// Order words for so many lanes in each of which at most `entries` runs are published and not released.
fn order_words(lanes: usize, entries: usize) -> Option<usize> {
    lanes.checked_mul(entries)?.max(MIN_ORDER).checked_next_power_of_two()
}

/// Bytes that all of it needs, whatever the stride.
pub(super) fn extra_bytes(lanes: usize, entries: usize) -> Option<usize> {
    let apart = consumer_bytes(lanes).next_multiple_of(MAX_STRIDE) + MAX_STRIDE;
    order_words(lanes, entries)?.checked_mul(WORD)?.checked_add(apart)
}

impl Places {
    /// Of a layout that [`extra_bytes`] made room in, where a publication takes at least `grain` elements of a lane.
    pub(crate) fn new(layout: &Layout, grain: usize) -> Self {
        let entries = layout.capacity / grain;
        let version = layout.extra_offset();
        let unit = layout.unit().min(MAX_STRIDE);
        let hint = (version + consumer_bytes(layout.lanes)).next_multiple_of(unit);
        Self {
            version,
            block_words: block_words(layout.lanes),
            hint,
            order: hint + unit,
            order_shift: order_words(layout.lanes, entries).map_or(0, usize::ilog2),
        }
    }

    /// Zeroes all of it, what is not zero already: then the queue is empty.
    pub(crate) fn clear<L: Trust>(&self, region: &Region<L>) {
        let run = |offset: usize, words: usize| (offset..).step_by(WORD).take(words);
        let consumer = run(self.version, LINE_BYTES / WORD + 2 * self.block_words);
        for offset in consumer.chain([self.hint]).chain(run(self.order, 1 << self.order_shift)) {
            // SAFETY: a word of a validated layout, which is never payload; the region outlives it.
            let word = unsafe { region.atomic_u64(offset) };
            // ORD own: Relaxed, nobody else uses a region that is being created in.
            if word.load(Ordering::Relaxed) != 0 {
                // ORD header.publish: Relaxed, the header's magic publishes the cleared words.
                word.store(0, Ordering::Relaxed);
            }
        }
    }
}
