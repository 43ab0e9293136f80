//! How a segment is made and mapped.

use std::path::PathBuf;

/// How a segment is made and mapped; the default is a plain mapping in the default directory.
///
/// ```
/// use tidewire_shm::{Segment, SegmentOptions};
///
/// let place = tempfile::tempdir()?;
/// let options = SegmentOptions::new().directory(place.path().join("segments")).prefault(true);
/// let ticks = Segment::create_with("ticks", 1 << 16, &options, |_| Ok(()))?;
/// assert_eq!(ticks.len(), 1 << 16);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SegmentOptions {
    pub(super) directory: Option<PathBuf>,
    pub(super) huge_pages: bool,
    pub(super) prefault: bool,
    pub(super) lock_memory: bool,
    pub(super) named_temporary: bool,
}

impl SegmentOptions {
    /// The default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps named segments in this directory instead of the [default](crate::Segment#where-names-live).
    ///
    /// The first creation makes it, with the mode 0700, if only its last component is missing. If it exists it must
    /// have that mode, belong to the effective user and not be a symbolic link itself; the way to it is not
    /// checked. Where the directory lies on a disk, the system also writes the memory to it. Anonymous segments
    /// have no use for it.
    ///
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// assert!(Segment::list_with(&options)?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn directory(self, directory: impl Into<PathBuf>) -> Self {
        Self { directory: Some(directory.into()), ..self }
    }

    /// Asks for huge pages; normal pages are taken where the system gives none.
    ///
    /// Anonymous segments ask the reserved pool first, and their size is then rounded up to a huge page. Where the
    /// pool is empty, and for named segments, the kernel is advised to use transparent huge pages and the mapping
    /// is faulted in. [`Segment::huge_pages`](crate::Segment::huge_pages) says what was got.
    ///
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let options = SegmentOptions::new().huge_pages(true);
    /// let ticks = Segment::anonymous_with(8 << 20, &options)?;
    /// println!("huge pages: {}", ticks.huge_pages());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn huge_pages(self, wanted: bool) -> Self {
        Self { huge_pages: wanted, ..self }
    }

    /// Fills the page tables while mapping, so that no later access takes a page fault for the first time.
    ///
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let options = SegmentOptions::new().prefault(true);
    /// assert_eq!(Segment::anonymous_with(4096, &options)?.len(), 4096);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn prefault(self, wanted: bool) -> Self {
        Self { prefault: wanted, ..self }
    }

    /// Locks the mapping into memory; a limit that forbids it is an error that names the limit.
    ///
    /// ```
    /// use tidewire_shm::{Segment, SegmentError, SegmentOptions};
    ///
    /// let options = SegmentOptions::new().lock_memory(true);
    /// match Segment::anonymous_with(4096, &options) {
    ///     Ok(locked) => assert_eq!(locked.len(), 4096),
    ///     Err(SegmentError::Limit { limit, found_bytes, .. }) => println!("{limit} is {found_bytes}"),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), SegmentError>(())
    /// ```
    #[must_use]
    pub fn lock_memory(self, wanted: bool) -> Self {
        Self { lock_memory: wanted, ..self }
    }

    /// Creates by way of a named temporary file even where the file system has unnamed ones, so that the way of
    /// lesser file systems can be tested on any.
    #[doc(hidden)]
    #[must_use]
    pub fn named_temporary(self, wanted: bool) -> Self {
        Self { named_temporary: wanted, ..self }
    }
}
