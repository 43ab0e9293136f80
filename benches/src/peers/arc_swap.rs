//! arc-swap: a pointer to a value on the heap, replaced as a whole. Each write allocates; threads only.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{Mode, THREADS};

/// The pointer.
#[derive(Debug)]
pub enum Swap {}

impl CellContender for Swap {
    const NAME: &'static str = "arc-swap";
    type Writer<const W: usize> = Arc<ArcSwap<[u64; W]>>;
    type Reader<const W: usize> = Arc<ArcSwap<[u64; W]>>;

    fn modes(_: usize) -> &'static [Mode] {
        THREADS
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let swap = Arc::new(ArcSwap::from_pointee(*initial));
        Ok((vec![Arc::clone(&swap); readers], swap))
    }
}

impl<const W: usize> CellWriter<W> for Arc<ArcSwap<[u64; W]>> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        self.store(Arc::new(*value));
    }
}

impl<const W: usize> CellReader<W> for Arc<ArcSwap<[u64; W]>> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = **self.load();
        true
    }
}
