//! Memory that a test owns and can look at behind a ring's back.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use std::sync::Arc;

use tidewire_shm::{Line, Origin, Region};

/// Aligned bytes, shared with the regions made over them; used by one thread only.
pub(crate) struct Memory {
    lines: Arc<Lines>,
    len: usize,
}

struct Lines(Vec<UnsafeCell<Line<[u8; 128]>>>);

// SAFETY: the fuzz targets have one thread.
unsafe impl Send for Lines {}
// SAFETY: as above.
unsafe impl Sync for Lines {}

impl Memory {
    /// Memory of at least one byte that starts with `bytes` and goes on with zeros.
    pub(crate) fn new(len: usize, bytes: &[u8]) -> Self {
        let len = len.max(1);
        let lines = (0..len.div_ceil(128)).map(|_| UnsafeCell::new(Line::new([0; 128]))).collect();
        let memory = Self { lines: Arc::new(Lines(lines)), len };
        let n = bytes.len().min(len);
        // SAFETY: `n` bytes are within both; nobody else uses the memory yet.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), memory.base().as_ptr(), n) };
        memory
    }

    fn base(&self) -> NonNull<u8> {
        NonNull::from(self.lines.0.as_slice()).cast()
    }

    /// A region over all of it.
    pub(crate) fn region(&self) -> Region {
        // SAFETY: the lines are alive as long as the region keeps them, aligned, initialised, and used by one
        // thread only through regions, or by copies between two operations.
        unsafe { Region::from_raw_parts(self.base(), self.len, Origin::default(), self.lines.clone()) }
            .expect("lines are aligned and not empty")
    }

    /// What it holds now: what a successor would find if all processes died here.
    pub(crate) fn image(&self) -> Self {
        // SAFETY: initialised, in bounds, and no operation is under way.
        let bytes = unsafe { core::slice::from_raw_parts(self.base().as_ptr(), self.len) };
        Self::new(self.len, bytes)
    }

    /// Writes eight bytes somewhere, as a hostile peer would.
    pub(crate) fn scribble(&self, at: usize, value: u64) {
        let words = self.len / 8;
        if words > 0 {
            let at = at % words * 8;
            // SAFETY: in bounds and aligned; no operation is under way.
            let word = unsafe { self.base().add(at) }.cast::<u64>();
            // SAFETY: as above.
            unsafe { word.write_volatile(value) };
        }
    }
}
