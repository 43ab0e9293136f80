//! What the models share: values that tell their version, and a reader that counts.

use tidewire_seqlock::log::{GatedReader, Log, NextError, Options, Reader};
use tidewire_shm::{Liveness, Region};

use crate::model::Shown;

/// A value of `N` words that all tell the version.
pub(crate) fn value<const N: usize>(version: u64) -> [u64; N] {
    [version * 10; N]
}

pub(crate) fn values<const N: usize>(versions: std::ops::RangeInclusive<u64>) -> Vec<[u64; N]> {
    versions.map(value).collect()
}

pub(crate) fn log<const N: usize, V: Liveness>(capacity: u32, gates: u32) -> Log<[u64; N]>
where
    [u64; N]: bytemuck::Pod,
{
    let options = Options::new(capacity).gates(gates).liveness::<V>();
    let region = Region::heap(Log::<[u64; N]>::bytes(&options).unwrap()).unwrap();
    Log::create(region, &options).unwrap()
}

/// Either kind of reader.
pub(crate) trait Next<const N: usize> {
    fn step(&mut self) -> Result<Option<([u64; N], u64)>, NextError>;
    fn at(&self) -> u64;
    fn lost(&self) -> u64;
}

impl<const N: usize> Next<N> for Reader<[u64; N]>
where
    [u64; N]: bytemuck::Pod,
{
    fn step(&mut self) -> Result<Option<([u64; N], u64)>, NextError> {
        self.next()
    }
    fn at(&self) -> u64 {
        self.position()
    }
    fn lost(&self) -> u64 {
        self.missed()
    }
}

impl<const N: usize, G> Next<N> for GatedReader<[u64; N], tidewire_shm::Trusted, G>
where
    [u64; N]: bytemuck::Pod,
{
    fn step(&mut self) -> Result<Option<([u64; N], u64)>, NextError> {
        self.next()
    }
    fn at(&self) -> u64 {
        self.position()
    }
    fn lost(&self) -> u64 {
        self.missed()
    }
}

/// A reader, and what it has to account for.
pub(crate) struct Follower<R> {
    pub(crate) reader: R,
    start: u64,
    received: u64,
    missed: u64,
}

impl<R> Follower<R> {
    pub(crate) fn new<const N: usize>(reader: R) -> Self
    where
        R: Next<N>,
    {
        let start = reader.at();
        Self { reader, start, received: 0, missed: 0 }
    }

    /// One step; whether there may be another one.
    pub(crate) fn step<const N: usize>(&mut self, shown: &Shown) -> bool
    where
        R: Next<N>,
    {
        let expected = self.start + self.received + self.missed;
        match self.reader.step() {
            Ok(Some((found, version))) => {
                assert_eq!((found, version), (value(version), expected), "torn, or out of order");
                self.received += 1;
                shown.note("read");
                true
            }
            Ok(None) => false,
            Err(NextError::Overtaken { missed }) => {
                assert!(missed > 0, "overtaken by nobody");
                self.missed += missed;
                shown.note("overtaken");
                true
            }
            Err(NextError::Corrupt(corrupt)) => panic!("{corrupt}"),
        }
    }

    /// Reads all there is: what was received and missed is all that was published.
    pub(crate) fn finish<const N: usize>(&mut self, published: u64, shown: &Shown)
    where
        R: Next<N>,
    {
        while self.step(shown) {}
        assert_eq!(self.start + self.received + self.missed, published + 1);
        assert_eq!((self.reader.at(), self.reader.lost()), (published + 1, self.missed));
    }
}
