//! left-right: two copies; the writer changes the one that no reader uses, and waits for readers of the other.

use std::mem::ManuallyDrop;

use left_right::{Absorb, ReadHandle, WriteHandle, new_from_empty};

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{EVERYWHERE, Mode};

/// The pair of copies.
#[derive(Debug)]
pub enum LeftRight {}

/// A copy.
#[derive(Clone, Debug)]
pub struct Held<const W: usize>([u64; W]);

impl<const W: usize> Absorb<[u64; W]> for Held<W> {
    #[inline(always)]
    fn absorb_first(&mut self, value: &mut [u64; W], _: &Self) {
        self.0 = *value;
    }

    #[inline(always)]
    fn sync_with(&mut self, first: &Self) {
        self.0 = first.0;
    }
}

/// The writer.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct Writer<const W: usize>(WriteHandle<Held<W>, [u64; W]>);

/// A reader; never dropped, because dropping takes a lock that works within a process only.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct Reader<const W: usize>(ManuallyDrop<ReadHandle<Held<W>>>);

impl CellContender for LeftRight {
    const NAME: &'static str = "left-right";
    type Writer<const W: usize> = Writer<W>;
    type Reader<const W: usize> = Reader<W>;

    fn modes(_: usize) -> &'static [Mode] {
        EVERYWHERE
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let (mut writer, reader) = new_from_empty(Held(*initial));
        // The first publications grow what the writer keeps, once.
        writer.append(*initial).publish();
        writer.append(*initial).publish();
        Ok(((0..readers).map(|_| Reader(ManuallyDrop::new(reader.clone()))).collect(), Writer(writer)))
    }
}

impl<const W: usize> CellWriter<W> for Writer<W> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        self.0.append(*value).publish();
    }
}

impl<const W: usize> CellReader<W> for Reader<W> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        match self.0.enter() {
            Some(held) => {
                *to = held.0;
                true
            }
            None => false,
        }
    }
}
