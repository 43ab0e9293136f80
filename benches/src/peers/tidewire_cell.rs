//! Our cell, in an anonymous segment, with untrusted peers: what processes get by default.

use tidewire_seqlock::{Cell, Options, Reader, Writer};
use tidewire_shm::{Unleased, Untrusted};

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{EVERYWHERE, Mode};
use crate::peers::CELLS;
use crate::peers::tidewire::region;

/// As it comes.
#[derive(Debug)]
pub enum Latest {}

impl CellContender for Latest {
    const NAME: &'static str = CELLS[0];
    type Writer<const W: usize> = Writer<[u64; W], Untrusted>;
    type Reader<const W: usize> = Reader<[u64; W], Untrusted>;

    fn modes(_: usize) -> &'static [Mode] {
        EVERYWHERE
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let options = Options::new();
        let bytes = Cell::<[u64; W], Untrusted>::bytes(&options)?;
        let cell = Cell::create(region(bytes)?, initial, &options)?;
        let writer = cell.writer(&Unleased)?;
        Ok(((0..readers).map(|_| cell.reader()).collect(), writer))
    }
}

impl<const W: usize> CellWriter<W> for Writer<[u64; W], Untrusted> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        Writer::write(self, value);
    }
}

impl<const W: usize> CellReader<W> for Reader<[u64; W], Untrusted> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        self.read_into(to).is_ok()
    }

    fn retries(&self) -> Option<u64> {
        Some(Reader::retries(self))
    }
}
