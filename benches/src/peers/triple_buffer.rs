//! triple_buffer: three buffers that change hands by a swap of one shared word; one reader.

use triple_buffer::{Input, Output, triple_buffer};

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{EVERYWHERE, Mode};

/// The buffers.
#[derive(Debug)]
pub enum TripleBuffer {}

impl CellContender for TripleBuffer {
    const NAME: &'static str = "triple_buffer";
    const READERS: bool = false;
    type Writer<const W: usize> = Input<[u64; W]>;
    type Reader<const W: usize> = Output<[u64; W]>;

    fn modes(_: usize) -> &'static [Mode] {
        EVERYWHERE
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        anyhow::ensure!(readers == 1, "expected one reader, found {readers}");
        let (input, output) = triple_buffer(initial);
        Ok((vec![output], input))
    }
}

impl<const W: usize> CellWriter<W> for Input<[u64; W]> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        *self.input_buffer_mut() = *value;
        self.publish();
    }
}

impl<const W: usize> CellReader<W> for Output<[u64; W]> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = *Output::read(self);
        true
    }
}
