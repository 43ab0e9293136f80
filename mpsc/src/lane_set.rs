//! A set of lanes, as the bitmaps of the layout have it.

use crate::layout::MAP_WORDS;

/// A set of lanes.
#[derive(Clone, Copy, Default)]
pub(crate) struct LaneSet(pub(crate) [u64; MAP_WORDS]);

impl LaneSet {
    /// Whether a lane is in it.
    pub(crate) fn has(&self, lane: usize) -> bool {
        self.0.get(lane / 64).is_some_and(|word| word >> (lane % 64) & 1 == 1)
    }

    /// Puts a lane in or takes it out.
    pub(crate) fn set(&mut self, lane: usize, on: bool) {
        if let Some(word) = self.0.get_mut(lane / 64) {
            *word = *word & !(1 << (lane % 64)) | u64::from(on) << (lane % 64);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The lowest one.
    pub(crate) fn first(&self) -> Option<usize> {
        let (i, word) = self.0.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(64 * i + word.trailing_zeros() as usize)
    }
}
