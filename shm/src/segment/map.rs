//! Room and mappings.

use alloc::sync::Arc;
use core::ptr::NonNull;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, Stat, fallocate, fstat, fstatfs, fstatvfs, ftruncate};
use rustix::io::{Errno, retry_on_intr};
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;

use super::error::SegmentError;
use super::options::SegmentOptions;
use crate::region::{Origin, Region};
use crate::trust::Untrusted;

/// How much one call reserves: a signal undoes only that, so a timer cannot starve a large reservation.
const RESERVE_STEP: u64 = 2 << 20;

const TMPFS: u32 = 0x0102_1994;
const HUGETLBFS: u32 = 0x9584_58f6;
const PMD_SIZE: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

/// A mapping that regions keep alive.
#[derive(Debug)]
pub(super) struct Mapping {
    mapped: Arc<Mapped>,
    /// The bytes that were asked for; the mapping goes on to the end of the last page.
    len: usize,
    huge: bool,
    access: Access,
}

/// What keeps the regions of a segment alive: a mapping, and what it is of.
#[derive(Debug)]
pub(super) struct Mapped {
    bytes: MmapRaw,
    pub(super) identity: Identity,
}

/// Tells a file from every other that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// What may be done through a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Mapping {
    /// Gives a new, empty file room for `len` bytes and maps it. All its bytes are zero.
    pub(super) fn create(fd: &OwnedFd, len: usize, options: &SegmentOptions) -> Result<Self, SegmentError> {
        let system = file_system(fd);
        let hugetlb = system == Some(HUGETLBFS);
        let page = if hugetlb { huge_page_size(fd)? } else { page_size() };
        let size = round_up(len, page).ok_or(SegmentError::Length { asked: len })?;
        check_limits(system, size as u64)?;
        // Looked up first: afterwards the file itself is part of what is used.
        let free = room(fd);
        retry_on_intr(|| ftruncate(fd, size as u64)).map_err(|errno| no_space(size as u64, free, errno))?;
        let bytes = map(fd, size, Access::ReadWrite)?;
        if options.huge_pages && !hugetlb {
            // Before the room is reserved: pages that exist already stay small. A failure is not an answer, the
            // reservation below gives one.
            advise_huge(&bytes);
        }
        reserve(fd, size as u64, page as u64).map_err(|errno| no_space(size as u64, free, errno))?;
        Self::finish(fd, bytes, len, hugetlb, Access::ReadWrite, options)
    }

    /// Maps a whole file that exists.
    pub(super) fn attach(
        fd: &OwnedFd,
        len: usize,
        access: Access,
        options: &SegmentOptions,
    ) -> Result<Self, SegmentError> {
        let bytes = map(fd, len, access)?;
        let hugetlb = is_hugetlb(fd);
        if options.huge_pages && !hugetlb && access == Access::ReadWrite {
            advise_huge(&bytes);
        }
        Self::finish(fd, bytes, len, hugetlb, access, options)
    }

    fn finish(
        fd: &OwnedFd,
        bytes: MmapRaw,
        len: usize,
        hugetlb: bool,
        access: Access,
        options: &SegmentOptions,
    ) -> Result<Self, SegmentError> {
        if options.prefault {
            let advice = match access {
                Access::ReadOnly => Advice::PopulateRead,
                Access::ReadWrite => Advice::PopulateWrite,
            };
            retry(|| bytes.advise(advice))
                .map_err(|source| SegmentError::from_io("prefault the mapping", source))?;
        }
        if options.lock_memory {
            retry(|| bytes.lock()).map_err(|source| not_locked(bytes.len() as u64, source))?;
        }
        let huge = hugetlb || (options.huge_pages && is_mapped_huge(&bytes));
        let stat = fstat(fd).map_err(SegmentError::on("inspect the segment"))?;
        Ok(Self { mapped: Arc::new(Mapped { bytes, identity: Identity::of(&stat) }), len, huge, access })
    }

    /// A region over the bytes that were asked for.
    pub(super) fn region(&self, origin: Origin) -> Region<Untrusted> {
        let base = NonNull::new(self.mapped.bytes.as_mut_ptr()).unwrap_or(NonNull::dangling());
        // SAFETY: the mapping is at least `len` bytes long, initialised by the kernel, kept alive by the `Arc`, and
        // given out as regions only; over a read-only mapping the region is made read-only at once.
        let region = unsafe { Region::from_raw_parts(base, self.len, origin, self.mapped.clone()) };
        match region {
            Ok(region) if self.access == Access::ReadOnly => region.read_only(),
            Ok(region) => region,
            Err(error) => unreachable!("a mapping starts at a page and is not empty: {error}"),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn huge(&self) -> bool {
        self.huge
    }
}

fn map(fd: &OwnedFd, size: usize, access: Access) -> Result<MmapRaw, SegmentError> {
    let mut options = MmapOptions::new();
    options.len(size);
    match access {
        Access::ReadOnly => options.map_raw_read_only(fd.as_raw_fd()),
        Access::ReadWrite => options.map_raw(fd.as_raw_fd()),
    }
    .map_err(|source| SegmentError::from_io("map the segment", source))
}

fn round_up(len: usize, page: usize) -> Option<usize> {
    let size = len.checked_next_multiple_of(page)?;
    (size > 0 && isize::try_from(size).is_ok()).then_some(size)
}

/// Refuses what would end in a signal or in the killing of processes instead of an error.
fn check_limits(system: Option<u32>, size: u64) -> Result<(), SegmentError> {
    if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|&limit| limit < size) {
        // Beyond it the kernel sends SIGXFSZ.
        return Err(SegmentError::Limit { limit: "RLIMIT_FSIZE", needed_bytes: size, found_bytes: limit });
    }
    if system == Some(TMPFS) && may_be_short(size) {
        match available_memory() {
            Some(free) if free < size => {
                return Err(SegmentError::NoSpace { needed_bytes: size, available_bytes: Some(free) });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the room for the whole file now, so that no later access can find that there is none.
fn reserve(fd: &OwnedFd, size: u64, page: u64) -> Result<(), Errno> {
    let step = RESERVE_STEP.max(page);
    let mut done = 0;
    while done < size {
        let some = step.min(size - done);
        retry_on_intr(|| fallocate(fd, FallocateFlags::empty(), done, some))?;
        done += some;
    }
    Ok(())
}

/// What is free on the file system. `None`: it has no limit, or does not tell.
fn room(fd: &OwnedFd) -> Option<u64> {
    let system = fstatvfs(fd).ok().filter(|system| system.f_blocks > 0)?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

fn no_space(needed_bytes: u64, available_bytes: Option<u64>, errno: Errno) -> SegmentError {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::FBIG => {
            SegmentError::NoSpace { needed_bytes, available_bytes }
        }
        _ => SegmentError::from_io("reserve space", errno.into()),
    }
}

/// Whether memory may be too short for so much: what is free without a look at what could be freed is less than twice as
/// much. To look costs several system calls, and the kernel adds up numbers of all processors.
fn may_be_short(size: u64) -> bool {
    let now = sysinfo();
    let free = now.freeram.saturating_mul(now.mem_unit.max(1).into());
    size > free / 2
}

/// What the kernel thinks could be allocated, swap included. `None`: it does not tell.
fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(kibibytes(&text, "MemAvailable:")?.saturating_add(kibibytes(&text, "SwapFree:").unwrap_or(0)))
}

/// The value of a line `key   1234 kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number = value.trim().strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

fn not_locked(needed_bytes: u64, source: io::Error) -> SegmentError {
    let limit = getrlimit(Resource::Memlock).current;
    match (Errno::from_io_error(&source), limit) {
        (Some(Errno::NOMEM | Errno::PERM | Errno::AGAIN), Some(found_bytes)) => {
            SegmentError::Limit { limit: "RLIMIT_MEMLOCK", needed_bytes, found_bytes }
        }
        _ => SegmentError::from_io("lock the mapping", source),
    }
}

/// Asks for transparent huge pages and touches them, which is when the kernel decides.
fn advise_huge(bytes: &MmapRaw) {
    if bytes.advise(Advice::HugePage).is_ok() {
        let _refused = retry(|| bytes.advise(Advice::PopulateWrite));
    }
}

/// Whether huge pages map all but less than one at each end.
fn is_mapped_huge(bytes: &MmapRaw) -> bool {
    let huge = fs::read_to_string(PMD_SIZE).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let (Some(huge), Ok(smaps)) = (huge, fs::read_to_string("/proc/self/smaps")) else {
        return false;
    };
    let first = alloc::format!("{:x}-", bytes.as_ptr().addr());
    let Some(start) = smaps.lines().position(|line| line.starts_with(&first)) else {
        return false;
    };
    let fields = smaps.lines().skip(start + 1).take_while(|line| !line.starts_with("VmFlags:"));
    let mapped: u64 = fields
        .filter_map(|line| kibibytes(line, "ShmemPmdMapped:").or_else(|| kibibytes(line, "FilePmdMapped:")))
        .sum();
    mapped > 0 && mapped.saturating_add(2 * huge) > bytes.len() as u64
}

/// Whether the file lies on a tmpfs, where its bytes are memory.
pub(super) fn is_tmpfs(fd: &OwnedFd) -> bool {
    is_on(fd, TMPFS)
}

fn is_hugetlb(fd: &OwnedFd) -> bool {
    is_on(fd, HUGETLBFS)
}

fn is_on(fd: &OwnedFd, magic: u32) -> bool {
    file_system(fd) == Some(magic)
}

/// The magic number of the file system that a file lies on. `None`: the system does not tell.
fn file_system(fd: &OwnedFd) -> Option<u32> {
    // The field is signed on some targets and wider on others; magic numbers are 32 bits everywhere.
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    fstatfs(fd).ok().map(|system| system.f_type as u32)
}

fn huge_page_size(fd: &OwnedFd) -> Result<usize, SegmentError> {
    let system = fstatvfs(fd).map_err(SegmentError::on("read the size of a huge page"))?;
    Ok(usize::try_from(system.f_bsize).unwrap_or(usize::MAX))
}

/// Repeats what a signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{kibibytes, round_up};

    #[test]
    fn sizes_are_whole_pages_of_an_address_space() {
        assert_eq!(round_up(1, 4096), Some(4096));
        assert_eq!(round_up(4096, 4096), Some(4096));
        assert_eq!(round_up(4097, 4096), Some(8192));
        assert_eq!(round_up(0, 4096), None);
        assert_eq!(round_up(isize::MAX as usize, 4096), None);
        assert_eq!(round_up(usize::MAX, 4096), None);
    }

    #[test]
    fn numbers_of_the_kernel_are_read() {
        let text = "MemFree:  1 kB\nMemAvailable:    4660 kB\nSwapFree: x kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(4660 * 1024));
        assert_eq!(kibibytes(text, "SwapFree:"), None);
        assert_eq!(kibibytes(text, "Absent:"), None);
    }
}
