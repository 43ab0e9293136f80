//! crossbeam's AtomicCell: a real atomic up to eight bytes; above, a counter from a table of the process, so that
//! only threads can share it. Its readers write when a first attempt fails.

use std::sync::Arc;

use crossbeam_utils::atomic::AtomicCell;

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{EVERYWHERE, Mode, THREADS};

/// The cell.
#[derive(Debug)]
pub enum Cell {}

impl CellContender for Cell {
    const NAME: &'static str = "crossbeam AtomicCell";
    type Writer<const W: usize> = Arc<AtomicCell<[u64; W]>>;
    type Reader<const W: usize> = Arc<AtomicCell<[u64; W]>>;

    fn modes(words: usize) -> &'static [Mode] {
        if words == 1 { EVERYWHERE } else { THREADS }
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let cell = Arc::new(AtomicCell::new(*initial));
        Ok(((0..readers).map(|_| Arc::clone(&cell)).collect(), cell))
    }
}

impl<const W: usize> CellWriter<W> for Arc<AtomicCell<[u64; W]>> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        self.store(*value);
    }
}

impl<const W: usize> CellReader<W> for Arc<AtomicCell<[u64; W]>> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = self.load();
        true
    }
}
