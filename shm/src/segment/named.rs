//! Segments with a name: create and open.

use super::create::Draft;
use super::directory::Directory;
use super::error::{InitError, SegmentError};
use super::map::{Access, Mapping};
use super::name::Name;
use super::options::SegmentOptions;
use super::{Segment, origin};
use crate::region::Region;
use crate::trust::Untrusted;

/// How often a name is tried that others create and remove all the time.
const ATTEMPTS: u32 = 100;

impl Segment {
    /// Creates a named segment of `len` bytes, lets `init` fill it, and only then gives it its name.
    ///
    /// `init` may have run in vain if another process takes the name first.
    ///
    /// # Errors
    /// - [`SegmentError::Name`], [`SegmentError::Length`]: bad arguments;
    /// - [`SegmentError::AlreadyExists`]: the name is taken;
    /// - [`SegmentError::NoSpace`], [`SegmentError::Limit`]: there is not enough room, or not for this process;
    /// - [`SegmentError::Init`]: what `init` returned;
    /// - [`SegmentError::Directory`]: the directory is not this user's alone;
    /// - [`SegmentError::Mode`]: a [mode](SegmentOptions::mode) that cannot be, or without what it needs;
    /// - [`SegmentError::Permission`], [`SegmentError::Io`]: the system refuses.
    ///
    /// In every case nothing is left behind.
    ///
    /// # Examples
    /// ```no_run
    /// use tidewire_shm::Segment;
    ///
    /// let ticks = Segment::create("ticks", 1 << 16, |_region| Ok(()))?;
    /// ticks.withdraw()?;
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn create(
        name: &str,
        len: usize,
        init: impl FnOnce(Region<Untrusted>) -> Result<(), InitError>,
    ) -> Result<Self, SegmentError> {
        Self::create_with(name, len, &SegmentOptions::new(), init)
    }

    /// [`create`](Self::create) with options.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentError, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// Segment::create_with("ticks", 4096, &options, |_region| Ok(()))?;
    /// let again = Segment::create_with("ticks", 4096, &options, |_region| Ok(()));
    /// assert!(matches!(again, Err(SegmentError::AlreadyExists { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_with(
        name: &str,
        len: usize,
        options: &SegmentOptions,
        init: impl FnOnce(Region<Untrusted>) -> Result<(), InitError>,
    ) -> Result<Self, SegmentError> {
        let name = Name::new(name)?;
        let directory = Directory::create(options)?;
        directory.refuse_taken(&name)?;
        let mut draft = Draft::make(&directory, len, options, init)?;
        draft.publish(&name)?;
        let created = draft.into_segment();
        Ok(created.named(name, directory))
    }

    /// Opens a named segment for reading and writing.
    ///
    /// It has its room and is initialised: a segment has no name before. What its creator made of it, the header
    /// of the structure in it tells.
    ///
    /// # Errors
    /// - [`SegmentError::NotFound`]: there is none of this name;
    /// - [`SegmentError::NotASegment`]: not a regular file of this user alone, or of those whom a
    ///   [mode](SegmentOptions::mode) admits, with one link, of whole pages;
    /// - [`SegmentError::Name`], [`SegmentError::Directory`], [`SegmentError::Mode`], [`SegmentError::Limit`],
    ///   [`SegmentError::Permission`], [`SegmentError::Io`]: as for [`create`](Self::create).
    ///
    /// # Examples
    /// ```no_run
    /// let ticks = tidewire_shm::Segment::open("ticks")?;
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn open(name: &str) -> Result<Self, SegmentError> {
        Self::open_with(name, &SegmentOptions::new())
    }

    /// [`open`](Self::open) with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentError, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// let absent = Segment::open_with("ticks", &options);
    /// assert!(matches!(absent, Err(SegmentError::NotFound { .. })));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn open_with(name: &str, options: &SegmentOptions) -> Result<Self, SegmentError> {
        Self::open_for(Access::ReadWrite, name, options)
    }

    /// Opens a named segment so that this process cannot write it, for structures whose readers never write.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// Its regions are [read-only](Region::read_only): structures and roles that write refuse them with an error.
    ///
    /// # Examples
    /// ```no_run
    /// use tidewire_shm::{Header, Segment};
    ///
    /// let ticks = Segment::open_read_only("ticks")?;
    /// println!("{:?}", Header::inspect(&ticks.region()));
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn open_read_only(name: &str) -> Result<Self, SegmentError> {
        Self::open_for(Access::ReadOnly, name, &SegmentOptions::new())
    }

    /// [`open_read_only`](Self::open_read_only) with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// Segment::create_with("ticks", 4096, &options, |_region| Ok(()))?;
    /// let ticks = Segment::open_read_only_with("ticks", &options)?;
    /// assert!(ticks.is_read_only() && !ticks.region().is_writable());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_read_only_with(name: &str, options: &SegmentOptions) -> Result<Self, SegmentError> {
        Self::open_for(Access::ReadOnly, name, options)
    }

    fn open_for(access: Access, name: &str, options: &SegmentOptions) -> Result<Self, SegmentError> {
        let name = Name::new(name)?;
        match Directory::existing(options)? {
            Some(directory) => {
                directory.require_guard()?;
                let opened = open_in(&directory, &name, access, options)?;
                Ok(opened.named(name, directory))
            }
            None => Err(SegmentError::NotFound { name }),
        }
    }

    /// Opens a named segment, or creates it if there is none; [`is_created`](Self::is_created) tells which.
    ///
    /// An existing segment is opened whatever its length: the header of the structure in it tells. `init` runs at
    /// most once, and in vain if another process creates the segment first.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`open`](Self::open), but for a name that is taken, or not.
    /// [`SegmentError::Contended`] if others created and removed it a hundred times in between.
    ///
    /// # Examples
    /// ```no_run
    /// let ticks = tidewire_shm::Segment::open_or_create("ticks", 1 << 16, |_region| Ok(()))?;
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn open_or_create(
        name: &str,
        len: usize,
        init: impl FnOnce(Region<Untrusted>) -> Result<(), InitError>,
    ) -> Result<Self, SegmentError> {
        Self::open_or_create_with(name, len, &SegmentOptions::new(), init)
    }

    /// [`open_or_create`](Self::open_or_create) with options.
    ///
    /// # Errors
    /// As [`open_or_create`](Self::open_or_create).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// let first = Segment::open_or_create_with("ticks", 4096, &options, |_region| Ok(()))?;
    /// let second = Segment::open_or_create_with("ticks", 4096, &options, |_region| Ok(()))?;
    /// assert!(first.is_created() && !second.is_created());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create_with(
        name: &str,
        len: usize,
        options: &SegmentOptions,
        init: impl FnOnce(Region<Untrusted>) -> Result<(), InitError>,
    ) -> Result<Self, SegmentError> {
        let name = Name::new(name)?;
        let directory = Directory::create(options)?;
        let found = open_or_create_in(&directory, &name, len, options, init)?;
        Ok(found.named(name, directory))
    }

    /// The same segment as one with a name, which the guard against SIGBUS knows.
    pub(super) fn named(self, name: Name, directory: Directory) -> Self {
        let named = Self { named: Some((name, directory)), ..self };
        named.register();
        named
    }
}

fn open_in(
    directory: &Directory,
    name: &Name,
    access: Access,
    options: &SegmentOptions,
) -> Result<Segment, SegmentError> {
    let (fd, len) = directory.open_file(name, access)?;
    let mapping = Mapping::attach(&fd, len, access, options)?;
    Ok(Segment { mapping, fd, origin: origin::attached()?, named: None, access, created: false })
}

fn open_or_create_in(
    directory: &Directory,
    name: &Name,
    len: usize,
    options: &SegmentOptions,
    init: impl FnOnce(Region<Untrusted>) -> Result<(), InitError>,
) -> Result<Segment, SegmentError> {
    let open = || match open_in(directory, name, Access::ReadWrite, options) {
        Err(SegmentError::NotFound { .. }) => Ok(None),
        opened => opened.map(Some),
    };
    if let Some(opened) = open()? {
        return Ok(opened);
    }
    // Made once, and kept until its name is free or somebody else's segment stays long enough to be opened.
    let mut draft = Draft::make(directory, len, options, init)?;
    for _ in 0..ATTEMPTS {
        match draft.publish(name) {
            Ok(()) => return Ok(draft.into_segment()),
            Err(SegmentError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(opened) = open()? {
            return Ok(opened);
        }
    }
    Err(SegmentError::Contended { name: name.clone(), attempts: ATTEMPTS })
}
