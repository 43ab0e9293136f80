//! A second mapping of the stage's pages, for a handle that the process that prepares keeps.
//!
//! Dropping a reader with a gate stores to the log, and the operation that keeps it lives longer than the stage. What it
//! stores then goes to pages of its own mapping, which lives as long as the handle.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use tidewire_shm::{Origin, Region, Untrusted};

use super::Verdict;
use crate::explore::Stage;

const PAGE: usize = 4096;

/// Pages that are unmapped at the end.
struct Pages {
    address: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: an address and a length; the pages are mapped for all threads.
unsafe impl Send for Pages {}
// SAFETY: as above; nothing is changed but by dropping it.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, with its length; regions that use it keep this value.
        unsafe { libc::munmap(self.address.as_ptr(), self.bytes) };
    }
}

/// The segment of the stage, at another address.
pub(super) fn view(stage: &Stage) -> Verdict<Region<Untrusted>> {
    let segment = stage.segment().as_ptr();
    // The segment ends where a page ends.
    let before = segment.addr() % PAGE;
    let bytes = before + stage.bytes();
    let from = segment.wrapping_sub(before).cast();
    // SAFETY: the stage is mapped and shared; an old size of 0 leaves it there and maps its pages once more, elsewhere.
    let address = unsafe { libc::mremap(from, 0, bytes, libc::MREMAP_MAYMOVE) };
    let failed = || format!("mapping the segment once more: {}", io::Error::last_os_error());
    let address = NonNull::new(address).filter(|address| address.as_ptr() != libc::MAP_FAILED);
    let address = address.ok_or_else(failed)?;
    let pages = Arc::new(Pages { address, bytes });
    // SAFETY: within the mapping, which is that long.
    let start = unsafe { address.cast::<u8>().add(before) };
    // As the region of the stage: not memory of one process.
    let origin = Origin { nonce: 1, ..Origin::default() };
    // SAFETY: mapped for as long as the region keeps the pages; zeroed when the stage was; the explorer accesses them only
    // while the processes that use them are stopped or dead.
    unsafe { Region::from_raw_parts(start, stage.bytes(), origin, pages) }.map_err(|error| error.to_string())
}
