//! What a cell must offer to be compared. Values are arrays of `W` words and pass by reference, so that nobody pays
//! for a copy that its own interface does not ask for.

use crate::pair::Mode;

/// A cell that holds the latest value.
pub trait CellContender: 'static {
    /// Its name in tables.
    const NAME: &'static str;
    /// Whether a side may sleep in it: then an idle core does not mean that the sample was disturbed, but a side that
    /// waits for its core does.
    const SLEEPS: bool = false;
    /// Whether it may have more than one reader.
    const READERS: bool = true;
    /// Whether it promises whole values that never go back; what does not is a limit and no contender.
    const WHOLE: bool = true;
    /// The writing end.
    type Writer<const W: usize>: CellWriter<W>;
    /// A reading end.
    type Reader<const W: usize>: CellReader<W>;

    /// Between what it can run with values of so many words.
    fn modes(words: usize) -> &'static [Mode];

    /// Makes a cell with an initial value, its writer, and its readers.
    ///
    /// # Errors
    /// What the cell says.
    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)>;
}

/// The writing end of a cell.
pub trait CellWriter<const W: usize>: Send {
    /// Writes a value.
    fn write(&mut self, value: &[u64; W]);
}

/// A reading end of a cell.
pub trait CellReader<const W: usize>: Send {
    /// Copies the latest value out; false if the cell gave up.
    fn read(&mut self, to: &mut [u64; W]) -> bool;

    /// How many attempts had to be repeated so far, where the cell says so.
    fn retries(&self) -> Option<u64> {
        None
    }
}
