//! Anonymous segments: memory that has no name and cannot change its size.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use std::os::fd::OwnedFd;

use rustix::fs::{
    FallocateFlags, MemfdFlags, OFlags, SealFlags, Stat, fallocate, fcntl_add_seals, fcntl_get_seals,
    fcntl_getfl, fstat, memfd_create,
};
use rustix::io::{Errno, FdFlags, fcntl_setfd, retry_on_intr};

use super::directory::{is_regular, verify_length, wrong_kind};
use super::error::SegmentError;
use super::map::{Access, Mapping};
use super::options::SegmentOptions;
use super::{Segment, origin};

/// The size is fixed, and so are the seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
/// Seals under which the memory cannot be mapped for writing.
const READ_ONLY: SealFlags = SealFlags::WRITE.union(SealFlags::FUTURE_WRITE);

impl Segment {
    /// Creates a segment without a name, to be [sent](Self::send) or [inherited](Self::inherit).
    ///
    /// Its memory is zero, cannot change its size (it is sealed), and lives until the last process has dropped it.
    ///
    /// # Errors
    /// - [`SegmentError::Length`]: `len` is zero or larger than an address space;
    /// - [`SegmentError::NoSpace`], [`SegmentError::Limit`]: there is not enough memory, or not for this process;
    /// - [`SegmentError::Permission`], [`SegmentError::Io`]: the system refuses.
    ///
    /// # Examples
    /// ```
    /// let segment = tidewire_shm::Segment::anonymous(1 << 16)?;
    /// assert_eq!(segment.region().len(), 1 << 16);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn anonymous(len: usize) -> Result<Self, SegmentError> {
        Self::anonymous_with(len, &SegmentOptions::new())
    }

    /// [`anonymous`](Self::anonymous) with options.
    ///
    /// # Errors
    /// As [`anonymous`](Self::anonymous).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let segment = Segment::anonymous_with(1 << 16, &SegmentOptions::new().prefault(true))?;
    /// assert_eq!(segment.len(), 1 << 16);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn anonymous_with(len: usize, options: &SegmentOptions) -> Result<Self, SegmentError> {
        let origin = origin::fresh_unnamed()?;
        let (fd, mapping) = create(len, options)?;
        Ok(Self { mapping, fd, origin, named: None, access: Access::ReadWrite, created: true })
    }

    /// Maps anonymous memory that another process created, after a look at what it is.
    ///
    /// # Errors
    /// - [`SegmentError::NotASegment`]: not memory whose size is sealed, not open for reading and writing, not of whole
    ///   pages, or with pages that are yet to be found (what lies behind its end is no help, and is given back);
    /// - [`SegmentError::Permission`], [`SegmentError::Io`]: the system refuses.
    ///
    /// # Examples
    /// ```
    /// use std::fs::File;
    /// use tidewire_shm::{Segment, SegmentError};
    ///
    /// let file = File::open("/proc/self/exe")?;
    /// let refused = Segment::from_fd(file.into());
    /// assert!(matches!(refused, Err(SegmentError::NotASegment { what: "seals", .. })));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SegmentError> {
        Self::from_fd_with(fd, &SegmentOptions::new())
    }

    /// [`from_fd`](Self::from_fd) with options.
    ///
    /// # Errors
    /// As [`from_fd`](Self::from_fd), and [`SegmentError::Limit`] if memory cannot be locked.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let segment = Segment::anonymous(4096)?;
    /// let again = Segment::from_fd_with(segment.try_clone_fd()?, &SegmentOptions::new().prefault(true))?;
    /// assert_eq!(again.len(), 4096);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn from_fd_with(fd: OwnedFd, options: &SegmentOptions) -> Result<Self, SegmentError> {
        let len = verify(&fd)?;
        // It shall not leak into programs that this process starts.
        fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(SegmentError::on("keep the descriptor from leaking"))?;
        let mapping = Mapping::attach(&fd, len, Access::ReadWrite, options)?;
        let origin = origin::ATTACHED_UNNAMED;
        Ok(Self { mapping, fd, origin, named: None, access: Access::ReadWrite, created: false })
    }
}

/// Makes, fills and seals the memory.
fn create(len: usize, options: &SegmentOptions) -> Result<(OwnedFd, Mapping), SegmentError> {
    if len == 0 || isize::try_from(len).is_err() {
        return Err(SegmentError::Length { asked: len });
    }
    let pool = if options.huge_pages { from_pool(len, options) } else { None };
    let (fd, mapping) = match pool {
        Some(made) => made,
        None => {
            let fd = descriptor(MemfdFlags::empty()).map_err(SegmentError::on("create anonymous memory"))?;
            let mapping = Mapping::create(&fd, len, options)?;
            (fd, mapping)
        }
    };
    fcntl_add_seals(&fd, SEALS).map_err(SegmentError::on("seal anonymous memory"))?;
    Ok((fd, mapping))
}

/// Memory from the pool of huge pages. `None`: there is no pool, or not enough in it, so normal pages must do.
fn from_pool(len: usize, options: &SegmentOptions) -> Option<(OwnedFd, Mapping)> {
    let fd = descriptor(MemfdFlags::HUGETLB).ok()?;
    let mapping = Mapping::create(&fd, len, options).ok()?;
    Some((fd, mapping))
}

fn descriptor(flags: MemfdFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create("tidewire", flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know the flag.
        Err(Errno::INVAL) => memfd_create("tidewire", flags),
        made => made,
    }
}

/// The length of memory that arrived from elsewhere, if it is what `create` makes.
pub(super) fn verify(fd: &OwnedFd) -> Result<usize, SegmentError> {
    let stat = fstat(fd).map_err(SegmentError::on("inspect the descriptor"))?;
    if !is_regular(&stat) {
        return Err(wrong_kind(&stat));
    }
    verify_seals(fd)?;
    verify_access(fd)?;
    let len = verify_length(&stat)?;
    verify_room(fd, &stat)?;
    Ok(len)
}

/// Memory whose pages are not there yet would have to be found at the first touch, when it is too late for an error.
/// Huge pages are reserved with the mapping instead.
fn verify_room(fd: &OwnedFd, stat: &Stat) -> Result<(), SegmentError> {
    const LARGEST_NORMAL_PAGE: i64 = 1 << 16;
    const BLOCK_BYTES: i64 = 512;
    if stat.st_blksize > LARGEST_NORMAL_PAGE {
        return Ok(());
    }
    // Only the number of blocks is told, and there may be some behind the end (`FALLOC_FL_KEEP_SIZE`) where some before
    // it are missing. Nobody can ever reach those, since the size is sealed, nor add any: so they are given back, and
    // those that are left are counted. To look for holes would not do: room that is reserved and not yet touched is one.
    let end = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let behind = i64::MAX.unsigned_abs().saturating_sub(end);
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    retry_on_intr(|| fallocate(fd, flags, end, behind))
        .map_err(SegmentError::on("free what lies behind the end"))?;
    let stat = fstat(fd).map_err(SegmentError::on("inspect the descriptor"))?;
    let (needed, there) = (stat.st_size, stat.st_blocks.saturating_mul(BLOCK_BYTES));
    if there >= needed {
        return Ok(());
    }
    let (expected, found) = (format!("{needed} bytes"), format!("{there} bytes"));
    Err(SegmentError::NotASegment { what: "reserved room", expected, found })
}

fn verify_seals(fd: &OwnedFd) -> Result<(), SegmentError> {
    let wrong = |found: String| SegmentError::NotASegment { what: "seals", expected: describe(SEALS), found };
    let found = match fcntl_get_seals(fd) {
        Ok(found) => found,
        Err(Errno::INVAL) => return Err(wrong("a file that cannot be sealed".to_owned())),
        Err(errno) => return Err(SegmentError::on("read the seals")(errno)),
    };
    if !found.contains(SEALS) || found.intersects(READ_ONLY) {
        return Err(wrong(describe(found)));
    }
    Ok(())
}

fn verify_access(fd: &OwnedFd) -> Result<(), SegmentError> {
    let flags = fcntl_getfl(fd).map_err(SegmentError::on("inspect the descriptor"))?;
    let access = flags & OFlags::RWMODE;
    if access == OFlags::RDWR && !flags.contains(OFlags::PATH) {
        return Ok(());
    }
    Err(SegmentError::NotASegment {
        what: "access",
        expected: "reading and writing".to_owned(),
        found: match access {
            OFlags::WRONLY => "writing only".to_owned(),
            _ => "reading only".to_owned(),
        },
    })
}

/// The number that tells this memory from all other of this boot.
pub(super) fn inode(fd: &OwnedFd) -> Result<u64, SegmentError> {
    let stat: Stat = fstat(fd).map_err(SegmentError::on("inspect the descriptor"))?;
    Ok(stat.st_ino)
}

fn describe(seals: SealFlags) -> String {
    let names = [
        (SealFlags::SHRINK, "shrink"),
        (SealFlags::GROW, "grow"),
        (SealFlags::SEAL, "seal"),
        (SealFlags::WRITE, "write"),
        (SealFlags::FUTURE_WRITE, "future write"),
    ];
    let set: Vec<&str> =
        names.into_iter().filter(|(seal, _)| seals.contains(*seal)).map(|(_, name)| name).collect();
    if set.is_empty() { "none".to_owned() } else { format!("[{}]", set.join(", ")) }
}
