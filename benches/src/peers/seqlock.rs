//! seqlock: the classic lock of one counter. Its readers wait while a write goes on; its writer takes a lock that
//! nobody else wants.

use std::sync::Arc;

use seqlock::SeqLock;

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{EVERYWHERE, Mode};

/// The lock.
#[derive(Debug)]
pub enum Seqlock {}

impl CellContender for Seqlock {
    const NAME: &'static str = "seqlock";
    type Writer<const W: usize> = Arc<SeqLock<[u64; W]>>;
    type Reader<const W: usize> = Arc<SeqLock<[u64; W]>>;

    fn modes(_: usize) -> &'static [Mode] {
        EVERYWHERE
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let lock = Arc::new(SeqLock::new(*initial));
        Ok((vec![Arc::clone(&lock); readers], lock))
    }
}

impl<const W: usize> CellWriter<W> for Arc<SeqLock<[u64; W]>> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        *self.lock_write() = *value;
    }
}

impl<const W: usize> CellReader<W> for Arc<SeqLock<[u64; W]>> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = SeqLock::read(self);
        true
    }
}
