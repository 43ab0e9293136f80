//! Segments: memory that several processes map, under a name or handed over.

mod clean;
mod create;
mod directory;
mod error;
mod fork;
mod handover;
mod lease;
mod lease_range;
mod listing;
mod map;
mod memory;
mod mode;
mod name;
mod named;
mod options;
mod origin;
mod parts;
mod sigbus;
mod stale;

use core::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::fstat;

use crate::region::{Origin, Region};
use crate::trust::Untrusted;
use directory::Directory;
use map::{Access, Mapping};

pub use clean::{CleanMode, FoundSegment, Verdict};
pub use error::SegmentError;
pub use fork::ForkMark;
pub use lease::{SegmentLease, SegmentLeases};
pub use lease_range::LeaseRange;
pub use name::{Name, NameError};
pub use options::SegmentOptions;
pub use parts::{Part, PartedDraft, PartedSegment};
pub use sigbus::guard_sigbus;
pub use stale::{Arrival, JoinError, Joined, Presence, StalePolicy};

/// Memory that several processes map: under a [name](Name), or anonymous and handed over.
///
/// ```
/// use tidewire_shm::{Segment, SegmentOptions};
///
/// let place = tempfile::tempdir()?;
/// let options = SegmentOptions::new().directory(place.path().join("segments"));
///
/// let created = Segment::create_with("ticks", 1 << 16, &options, |region| {
///     // Lay a structure out here: nobody else can see the region yet.
///     assert_eq!(region.len(), 1 << 16);
///     Ok(())
/// })?;
/// let opened = Segment::open_with("ticks", &options)?;
/// assert_eq!(opened.len(), created.len());
/// Segment::unlink_with("ticks", &options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Guarantees
/// - **Creation is one step.** Whoever finds the name finds a segment that has its room and is initialised. Of
///   racing creators exactly one wins. A creator that is killed at any moment leaves nothing; on file systems
///   without unnamed files (tmpfs has them) it may leave a file that is not a segment, which the next creation in
///   that directory removes.
/// - **Room is taken at creation.** A full file system, or too little memory, is [`SegmentError::NoSpace`] then, and
///   never a signal later. Memory that runs out because of other processes is the kernel's affair, as ever.
/// - **Only this user's processes can interfere.** Directory and file belong to the effective user and are closed
///   to all others; symbolic links, foreign owners, wider modes and second links are refused. Who else can, where that is
///   wanted, a [mode](SegmentOptions::mode) says.
/// - **Dropping removes nothing.** A name stays until [`unlink`](Self::unlink) or [`withdraw`](Self::withdraw), a
///   mapping until the last region over it is dropped; a mapping outlives its name.
///
/// # Not guaranteed
/// A process of the same user can shorten a named segment's file, and an access beyond its new end is then a
/// SIGBUS; [`guard_sigbus`] turns that into a [loss](Self::is_lost). Where peers are not trusted this far, use
/// [anonymous](Self::anonymous) segments: they are sealed.
///
/// # Length
/// [`len`](Self::len) is what the creator asked for, and the size of the file is that rounded up to a page (of the
/// pool, for huge pages), so that no page exists in part. Whoever opens a segment sees the rounded size. The memory
/// is zero when it is created, and its address is the kernel's choice, aligned to a page.
///
/// # Where names live
/// In `$XDG_RUNTIME_DIR/tidewire` if `XDG_RUNTIME_DIR` is an absolute path to a directory on a tmpfs that belongs
/// to the effective user and that nobody else can write; else in `/dev/shm/tidewire-<uid>`. A directory on a disk is
/// passed over because the system would keep writing the memory to it. The directory is made with mode 0700 and
/// stays. Processes that shall meet must agree on it: where one runs in a login session and the other does not, give
/// both a [directory](SegmentOptions::directory).
pub struct Segment {
    mapping: Mapping,
    fd: OwnedFd,
    origin: Origin,
    /// The name, and where it lives.
    named: Option<(Name, Directory)>,
    access: Access,
    created: bool,
}

impl Segment {
    /// The memory. Every region keeps the mapping alive, also when the segment is dropped.
    ///
    /// A region of a created segment carries its nonce; one of an opened segment carries the nonce 0, since only
    /// the header of the structure in it tells. Two structures over one segment spoil each other's contents, as
    /// two processes that disagree do: regions of segments are [`Untrusted`]. Do not lay structures of different
    /// element types over one segment in one process; the language has no rules for what they would do.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::Segment;
    ///
    /// let segment = Segment::anonymous(4096)?;
    /// let region = segment.region();
    /// drop(segment);
    /// assert_eq!(region.len(), 4096);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn region(&self) -> Region<Untrusted> {
        self.mapping.region(self.origin)
    }

    /// Bytes of the segment: what its creator asked for, or what its opener found, which is whole pages.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tidewire_shm::Segment::anonymous(1000)?.len(), 1000);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Whether there are no bytes; a segment always has some.
    ///
    /// # Examples
    /// ```
    /// assert!(!tidewire_shm::Segment::anonymous(1)?.is_empty());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name under which it was created or opened; others may have removed or replaced it since.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tidewire_shm::Segment::anonymous(1)?.name(), None);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.named.as_ref().map(|(name, _)| name)
    }

    /// Whether this value created the memory, rather than opened it or received it.
    ///
    /// # Examples
    /// ```
    /// assert!(tidewire_shm::Segment::anonymous(1)?.is_created());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn is_created(&self) -> bool {
        self.created
    }

    /// Whether the mapping can only be read.
    ///
    /// # Examples
    /// ```
    /// assert!(!tidewire_shm::Segment::anonymous(1)?.is_read_only());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// Whether huge pages map the segment: pages of the reserved pool, or, where
    /// [asked for](SegmentOptions::huge_pages), transparent ones.
    ///
    /// Seen when it was mapped, in what the kernel says of the mapping. With transparent huge pages less than one
    /// at either end may lie on normal pages, and the kernel may split them later.
    ///
    /// # Examples
    /// ```
    /// assert!(!tidewire_shm::Segment::anonymous(4096)?.huge_pages());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.mapping.huge()
    }

    /// A descriptor of the same memory, closed when this process starts another program.
    ///
    /// # Errors
    /// [`SegmentError::Io`] if there are no more descriptors.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::Segment;
    ///
    /// let segment = Segment::anonymous(4096)?;
    /// let again = Segment::from_fd(segment.try_clone_fd()?)?;
    /// assert_eq!(again.len(), 4096);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn try_clone_fd(&self) -> Result<OwnedFd, SegmentError> {
        self.fd.try_clone().map_err(|source| SegmentError::from_io("duplicate the descriptor", source))
    }

    /// Removes the name, if it still stands for this segment. Mappings stay.
    ///
    /// Should another process replace the segment between the look and the removal, its segment loses the name:
    /// the system offers no way to do both at once.
    ///
    /// # Errors
    /// [`SegmentError::NotFound`] if the name is gone or stands for another segment,
    /// [`SegmentError::NotASegment`] if this segment is anonymous.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// let ticks = Segment::create_with("ticks", 4096, &options, |_| Ok(()))?;
    /// ticks.withdraw()?;
    /// assert!(Segment::list_with(&options)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn withdraw(&self) -> Result<(), SegmentError> {
        let Some((name, directory)) = &self.named else {
            return Err(SegmentError::NotASegment {
                what: "name",
                expected: "a named segment".into(),
                found: "an anonymous one".into(),
            });
        };
        let mine = fstat(&self.fd).map_err(SegmentError::on("inspect the segment"))?;
        match directory.stat(name)? {
            Some(there) if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino) => {
                directory.unlink(name)
            }
            _ => Err(SegmentError::NotFound { name: name.clone() }),
        }
    }
}

impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("name", &self.name().map(Name::as_str))
            .field("bytes", &self.len())
            .field("read_only", &self.is_read_only())
            .field("huge_pages", &self.huge_pages())
            .finish_non_exhaustive()
    }
}
