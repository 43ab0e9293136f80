//! Choices from a seed.

/// A splitmix64 generator: small, fast, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// Choices that depend on the seed and on who draws them.
    pub(crate) fn new(seed: u64, who: u64) -> Self {
        let mut dice = Self { state: seed ^ who.wrapping_mul(0xA076_1D64_78BD_642F) };
        dice.word();
        dice
    }

    /// Any word.
    #[inline]
    pub(crate) fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `end`, which is not zero.
    #[inline]
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.word()) * end as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// Any of a few.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len().max(1))).copied()
    }
}
