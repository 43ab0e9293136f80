//! The names that there are: list, unlink.

use alloc::vec::Vec;

use super::Segment;
use super::directory::Directory;
use super::error::SegmentError;
use super::name::Name;
use super::options::SegmentOptions;

impl Segment {
    /// Removes the name of a segment. Processes that have it mapped keep it.
    ///
    /// # Errors
    /// [`SegmentError::NotFound`] if there is none of this name; else as [`open`](Self::open), but the file is not
    /// inspected: what is in the way of a name can be removed by it.
    ///
    /// # Examples
    /// ```no_run
    /// tidewire_shm::Segment::unlink("ticks")?;
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn unlink(name: &str) -> Result<(), SegmentError> {
        Self::unlink_with(name, &SegmentOptions::new())
    }

    /// [`unlink`](Self::unlink) with options, of which only the directory and who is admitted there matter.
    ///
    /// # Errors
    /// As [`unlink`](Self::unlink).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// Segment::create_with("ticks", 4096, &options, |_region| Ok(()))?;
    /// Segment::unlink_with("ticks", &options)?;
    /// assert!(Segment::open_with("ticks", &options).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unlink_with(name: &str, options: &SegmentOptions) -> Result<(), SegmentError> {
        let name = Name::new(name)?;
        match Directory::existing(options)? {
            Some(directory) => directory.unlink(&name),
            None => Err(SegmentError::NotFound { name }),
        }
    }

    /// The names of the segments, sorted. Others may create and remove some meanwhile.
    ///
    /// Every regular file of the directory whose name is one of a segment counts; it is not inspected.
    ///
    /// # Errors
    /// [`SegmentError::Directory`], [`SegmentError::Permission`], [`SegmentError::Io`]: the directory cannot be
    /// used. One that is missing is empty.
    ///
    /// # Examples
    /// ```no_run
    /// for name in tidewire_shm::Segment::list()? {
    ///     println!("{name}");
    /// }
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn list() -> Result<Vec<Name>, SegmentError> {
        Self::list_with(&SegmentOptions::new())
    }

    /// [`list`](Self::list) with options, of which only the directory and who is admitted there matter.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// Segment::create_with("ticks", 4096, &options, |_region| Ok(()))?;
    /// assert_eq!(Segment::list_with(&options)?[0].as_str(), "ticks");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list_with(options: &SegmentOptions) -> Result<Vec<Name>, SegmentError> {
        Directory::existing(options)?.map_or_else(|| Ok(Vec::new()), |directory| directory.list())
    }
}
