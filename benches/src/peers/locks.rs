//! Values under locks: parking_lot's and the standard library's. They sleep within their process; threads only.

use std::sync::{Arc, PoisonError};

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{Mode, THREADS};

/// parking_lot's `RwLock`.
#[derive(Debug)]
pub enum ParkingRwLock {}

/// parking_lot's `Mutex`.
#[derive(Debug)]
pub enum ParkingMutex {}

/// The standard library's `RwLock`.
#[derive(Debug)]
pub enum StdRwLock {}

impl CellContender for ParkingRwLock {
    const NAME: &'static str = "parking_lot RwLock";
    const SLEEPS: bool = true;
    type Writer<const W: usize> = Arc<parking_lot::RwLock<[u64; W]>>;
    type Reader<const W: usize> = Arc<parking_lot::RwLock<[u64; W]>>;

    fn modes(_: usize) -> &'static [Mode] {
        THREADS
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let lock = Arc::new(parking_lot::RwLock::new(*initial));
        Ok((vec![Arc::clone(&lock); readers], lock))
    }
}

impl<const W: usize> CellWriter<W> for Arc<parking_lot::RwLock<[u64; W]>> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        *parking_lot::RwLock::write(self) = *value;
    }
}

impl<const W: usize> CellReader<W> for Arc<parking_lot::RwLock<[u64; W]>> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = *parking_lot::RwLock::read(self);
        true
    }
}

impl CellContender for ParkingMutex {
    const NAME: &'static str = "parking_lot Mutex";
    const SLEEPS: bool = true;
    type Writer<const W: usize> = Arc<parking_lot::Mutex<[u64; W]>>;
    type Reader<const W: usize> = Arc<parking_lot::Mutex<[u64; W]>>;

    fn modes(_: usize) -> &'static [Mode] {
        THREADS
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let lock = Arc::new(parking_lot::Mutex::new(*initial));
        Ok((vec![Arc::clone(&lock); readers], lock))
    }
}

impl<const W: usize> CellWriter<W> for Arc<parking_lot::Mutex<[u64; W]>> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        *self.lock() = *value;
    }
}

impl<const W: usize> CellReader<W> for Arc<parking_lot::Mutex<[u64; W]>> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = *self.lock();
        true
    }
}

impl CellContender for StdRwLock {
    const NAME: &'static str = "std RwLock";
    const SLEEPS: bool = true;
    type Writer<const W: usize> = Arc<std::sync::RwLock<[u64; W]>>;
    type Reader<const W: usize> = Arc<std::sync::RwLock<[u64; W]>>;

    fn modes(_: usize) -> &'static [Mode] {
        THREADS
    }

    fn make<const W: usize>(
        readers: usize,
        initial: &[u64; W],
    ) -> anyhow::Result<(Vec<Self::Reader<W>>, Self::Writer<W>)> {
        let lock = Arc::new(std::sync::RwLock::new(*initial));
        Ok((vec![Arc::clone(&lock); readers], lock))
    }
}

impl<const W: usize> CellWriter<W> for Arc<std::sync::RwLock<[u64; W]>> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        *std::sync::RwLock::write(self).unwrap_or_else(PoisonError::into_inner) = *value;
    }
}

impl<const W: usize> CellReader<W> for Arc<std::sync::RwLock<[u64; W]>> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        *to = *std::sync::RwLock::read(self).unwrap_or_else(PoisonError::into_inner);
        true
    }
}
