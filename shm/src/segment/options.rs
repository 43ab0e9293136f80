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
    /// `None`: only the effective user.
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<u32>,
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
    /// checked. With a [mode](Self::mode) that admits others it is theirs to enter, too, and may be root's or that of the
    /// [owner](Self::owner). Where the directory lies on a disk, the system also writes the memory to it. Anonymous
    /// segments have no use for it.
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

    /// Who may open named segments: the permission bits of their files. 0600, only the effective user, unless chosen.
    ///
    /// | mode | who else can open a segment |
    /// |---|---|
    /// | 0640, 0644 | the group, or everybody, [for reading](crate::Segment::open_read_only) only |
    /// | 0660 | the group |
    /// | 0664, 0666 | the group, and everybody for reading only; everybody |
    ///
    /// All who take part give the same mode and the same [directory](Self::directory), which must be chosen for it, and call
    /// [`guard_sigbus`](crate::guard_sigbus) before they map anything: whoever may write a file may shorten it, and without
    /// the guard that kills the others. The group is that of the directory, and files are given it. Where the creator is
    /// neither the user who opens nor root, the opener names it as [`owner`](Self::owner).
    ///
    /// # The directory
    /// The first creation makes it, with the bits of the mode, right to enter it, setgid, and the sticky bit where
    /// others may write: 3770 for 0660, 2750 for 0640. Its group is then that of the process or of a setgid directory
    /// above; to have another, make it beforehand, as by `install -d -m 3770 -g traders /dev/shm/ticks`. A directory that
    /// exists must belong to the effective user, root or the named owner, admit nobody to more than such a one does, and have
    /// the sticky bit where others can write it. 0750 for files with 0660 is one in which others open, but create nothing. For a
    /// creation it must admit those whom the mode does; one that is this user's, empty and 0700 is opened to them, which also
    /// puts right what a creator leaves that is killed just when it makes the directory.
    ///
    /// # Guarantees
    /// - Nobody is admitted whom the mode and the group do not admit, whatever the umask. A file gets group and mode last: as
    ///   long as it is not whole it is its creator's alone.
    /// - Only what the effective user, root or the named owner made is opened under a name, and only with this mode or
    ///   less and one link: nobody else can have a name stand for memory of theirs, by being first or otherwise.
    /// - Nobody else can remove or replace a name: only the owner of the file, of the directory, and root can.
    ///
    /// # Not guaranteed
    /// Whoever may write a file is a peer like any other, and may do all that a hostile peer can: read everything, write
    /// anything anywhere in it ([`Untrusted`](crate::Untrusted) says what that can do: it spoils contents, not processes),
    /// shorten the file, and take each role that is free. Whoever may read it can read everything, and lock its bytes for
    /// reading, which keeps roles from being taken: who shall not even deny service must not be admitted to read. With the
    /// right to write the directory one can fill it, and take names that are free: their owners are then told whose they
    /// are. A second link that somebody makes keeps a segment from being opened as long as it is there. Access lists
    /// (`setfacl`) are not looked at: they are their owner's affair.
    ///
    /// A stale segment is replaced only by who may remove its name; others that [join](crate::Segment::join) it can adopt
    /// it, if the mode lets them write. An existing segment keeps its mode.
    ///
    /// # Errors
    /// Told by what is done with the options: [`SegmentError::Mode`](crate::SegmentError::Mode) for any other bits (execute,
    /// set-id, owner without both, others with more than the group, write without read), without a directory, and for what
    /// maps a segment without the guard. Anonymous segments have no use for a mode.
    ///
    /// ```
    /// use std::os::unix::fs::PermissionsExt;
    /// use tidewire_shm::{Segment, SegmentOptions, guard_sigbus};
    ///
    /// guard_sigbus()?;
    /// let place = tempfile::tempdir()?;
    /// let shared = place.path().join("segments");
    /// let options = SegmentOptions::new().directory(&shared).mode(0o660);
    /// Segment::create_with("ticks", 4096, &options, |_| Ok(()))?;
    /// assert_eq!(shared.join("ticks").metadata()?.permissions().mode() & 0o7777, 0o660);
    /// assert!(Segment::open_with("ticks", &SegmentOptions::new().directory(&shared)).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn mode(self, mode: u32) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// Opens what this user made, too, where the [mode](Self::mode) admits others: a directory, and the segments in it.
    ///
    /// Without it only root and the effective user are trusted with names: any member of a group that may create could
    /// otherwise be first with a name that somebody else is expected under.
    ///
    /// ```
    /// use tidewire_shm::SegmentOptions;
    ///
    /// // A client of what user 990 serves.
    /// let options = SegmentOptions::new().directory("/run/ticks").mode(0o660).owner(990);
    /// ```
    #[must_use]
    pub fn owner(self, uid: u32) -> Self {
        Self { owner: Some(uid), ..self }
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
