//! Lanes that nobody uses cost no memory where memory is sparse.
#![cfg(all(feature = "std", not(loom), target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "tests: a missing value shall fail the test")]

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use tidewire_mpsc::Options;
use tidewire_mpsc::fixed::Queue;
use tidewire_shm::{Origin, Region, RoleStride, Unleased, Untrusted};

/// A mapped memory descriptor without reserved space.
struct Sparse {
    file: OwnedFd,
    map: Arc<MmapRaw>,
}

impl Sparse {
    fn new(len: usize) -> Self {
        let file = memfd_create("sparse", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len as u64).unwrap();
        let map = Arc::new(MmapOptions::new().len(len).map_raw(&file).unwrap());
        Self { file, map }
    }

    fn region(&self) -> Region<Untrusted> {
        let base = NonNull::new(self.map.as_mut_ptr()).unwrap();
        let keep = Arc::clone(&self.map);
        // SAFETY: the mapping lives as long as `keep`; only the code under test accesses it.
        unsafe { Region::from_raw_parts(base, self.map.len(), Origin::default(), keep) }.unwrap()
    }

    fn pages(&self) -> i64 {
        fstat(&self.file).unwrap().st_blocks * 512 / 4096
    }
}

/// 256 lanes of 1 MiB of messages: creating takes the pages of header and registry, attaching those of the lane.
#[test]
fn only_lanes_in_use_take_memory() {
    for (stride, created, attached) in [(RoleStride::Line, 10, 3), (RoleStride::Page, 12, 4)] {
        let options = Options::new().lanes(256).role_stride(stride);
        let sparse = Sparse::new(Queue::<[u64; 16]>::bytes(8192, &options).unwrap());
        let queue = Queue::<[u64; 16], Untrusted>::create(sparse.region(), 8192, &options).unwrap();
        assert!(sparse.pages() <= created, "{stride:?}: creating took {} pages", sparse.pages());
        let before = sparse.pages();
        let mut consumer = queue.consumer(&Unleased).unwrap();
        let mut producer = queue.producer(&Unleased).unwrap();
        producer.push([7; 16]).unwrap();
        assert_eq!(consumer.pop(), Ok([7; 16]));
        consumer.rescan();
        assert_eq!(queue.lanes().filter(|lane| lane.sent > 0).count(), 1);
        assert!(
            sparse.pages() - before <= attached,
            "{stride:?}: one lane took {} pages",
            sparse.pages() - before
        );
    }
}
