//! The limit of all cells: the bytes are copied in and out, and nobody promises anything. Values may be torn.
//!
//! Below 64 bytes the copy is a run of relaxed words, as the compiler makes it; from there on it is the C library's
//! `memcpy`, called through a pointer that the compiler cannot see through.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::latest::contender::{CellContender, CellReader, CellWriter};
use crate::pair::{EVERYWHERE, Mode};

/// The copy alone.
#[derive(Debug)]
pub enum Memcpy {}

type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;

#[derive(Debug)]
#[repr(C, align(128))]
struct Bytes<const W: usize>(UnsafeCell<[u64; W]>);

// SAFETY: short values are accessed as atomics only; the races of long ones are the foreign function's.
unsafe impl<const W: usize> Sync for Bytes<W> {}

impl<const W: usize> Bytes<W> {
    /// The words of a short value.
    #[inline(always)]
    fn words(&self) -> &[AtomicU64; W] {
        // SAFETY: the same layout; nothing else accesses a short value.
        unsafe { &*self.0.get().cast() }
    }
}

/// An end.
#[derive(Debug)]
pub struct End<const W: usize> {
    bytes: Arc<Bytes<W>>,
    copy: Copy,
}

/// From this many words on, the C library copies.
const LONG: usize = 8;

impl CellContender for Memcpy {
    const NAME: &'static str = "memcpy";
    const WHOLE: bool = false;
    type Writer<const W: usize> = End<W>;
    type Reader<const W: usize> = End<W>;

    fn modes(_: usize) -> &'static [Mode] {
        EVERYWHERE
    }

    fn make<const W: usize>(readers: usize, initial: &[u64; W]) -> anyhow::Result<(Vec<End<W>>, End<W>)> {
        let bytes = Arc::new(Bytes(UnsafeCell::new(*initial)));
        let copy: Copy = black_box(libc::memcpy);
        let ends = (0..readers).map(|_| End { bytes: Arc::clone(&bytes), copy });
        Ok((ends.collect(), End { bytes: Arc::clone(&bytes), copy }))
    }
}

impl<const W: usize> CellWriter<W> for End<W> {
    #[inline(always)]
    fn write(&mut self, value: &[u64; W]) {
        if W >= LONG {
            // SAFETY: both sides are `W` words, and distinct; the race with the reader is the foreign function's.
            unsafe { (self.copy)(self.bytes.0.get().cast(), value.as_ptr().cast(), 8 * W) };
        } else {
            for (to, from) in self.bytes.words().iter().zip(value) {
                // ORD none: Relaxed, nothing is promised.
                to.store(*from, Ordering::Relaxed);
            }
        }
    }
}

impl<const W: usize> CellReader<W> for End<W> {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; W]) -> bool {
        if W >= LONG {
            // SAFETY: as in `write`.
            unsafe { (self.copy)(to.as_mut_ptr().cast(), self.bytes.0.get().cast_const().cast(), 8 * W) };
        } else {
            for (to, from) in to.iter_mut().zip(self.bytes.words()) {
                // ORD none: Relaxed, nothing is promised.
                *to = from.load(Ordering::Relaxed);
            }
        }
        true
    }
}
