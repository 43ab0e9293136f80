//! Whoever stores a latest value.

use std::fmt;

use tidewire_shm::bell::{Attendance, SleepOptions, System};
use tidewire_shm::{ForkMark, Presence, Segment, SegmentLease, Untrusted};

use super::{Snapshot, StoreError, attach_error, cell};
use crate::error::OpenError;
use crate::ground::Ground;
use crate::message::Message;
use crate::options::Options;

/// The entry of the writer.
const WRITER: u32 = 0;

/// The writer of a latest value. `Send`, not `Sync`, not `Clone`.
///
/// Dropping it leaves the value and its name: readers keep the last value, those who come later find it, and the next writer
/// goes on with its versions. [`remove`](Self::remove) takes the name away.
///
/// # Guarantees
/// - A store is wait-free, whatever readers do, makes no allocation, and no system call but the one that [wakes](crate::Wake).
/// - One store publishes a value: a writer that is killed at any instruction leaves the value before, whole, and nothing to
///   repair.
pub struct Writer<T: Message> {
    // In this order: it says that it left, gives the role back, and then is not there any more.
    attendance: Option<Attendance<System, Untrusted>>,
    pen: Option<tidewire_seqlock::Writer<T, Untrusted, SegmentLease>>,
    mark: ForkMark,
    _presence: Option<Presence>,
    segment: Segment,
    options: Options,
}

impl<T: Message> Writer<T> {
    pub(super) fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let cell = cell::<T>(&mut ground)?;
        // First: whoever has the lease may take the entry.
        let pen = cell.writer(&*ground.leases).map_err(attach_error)?;
        let attendance = ground.attend(WRITER, &SleepOptions::new())?;
        let Ground { segment, presence, mark, .. } = ground;
        Ok(Self {
            attendance: Some(attendance),
            pen: Some(pen),
            mark,
            _presence: presence,
            segment,
            options: options.clone(),
        })
    }

    #[inline]
    fn pen(&mut self) -> Result<&mut tidewire_seqlock::Writer<T, Untrusted, SegmentLease>, StoreError> {
        if self.mark.is_forked_child() {
            return Err(StoreError::ForkedChild);
        }
        self.pen.as_mut().ok_or(StoreError::ForkedChild)
    }

    /// Stores a value; returns its version, one more than that of the value before.
    ///
    /// # Errors
    /// [`StoreError::ForkedChild`] in a fork child: the value is its parent's.
    #[inline]
    pub fn store(&mut self, value: T) -> Result<u64, StoreError> {
        Ok(self.pen()?.write(&value))
    }

    /// Stores what `change` makes of the latest value. It works on a copy: if it panics, nothing is stored.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[inline]
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> Result<u64, StoreError> {
        Ok(self.pen()?.update(change))
    }

    /// The latest value and its version.
    #[must_use]
    pub fn latest(&self) -> Snapshot<T> {
        match &self.pen {
            Some(pen) => Snapshot { value: pen.value(), version: pen.version() },
            None => Snapshot { value: bytemuck::Zeroable::zeroed(), version: 0 },
        }
    }

    /// The version of the latest value: 0 until the first store to a new one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.pen.as_ref().map_or(0, tidewire_seqlock::Writer::version)
    }

    /// Leaves, and takes the name of the value away; whether it is gone. Readers that have it open keep it.
    ///
    /// # Errors
    /// [`OpenError::Segment`] if the system refuses.
    ///
    /// # Examples
    /// ```
    /// # let place = tempfile::tempdir()?;
    /// # let options = tidewire::Options::new().directory(place.path().join("segments"));
    /// let writer = options.latest_writer("pose", [0.0_f64; 3])?;
    /// assert!(writer.remove()?);
    /// assert!(options.latest_reader::<[f64; 3]>("pose").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(self) -> Result<bool, OpenError> {
        if self.mark.is_forked_child() {
            return Ok(false);
        }
        let Some(name) = self.segment.name().map(ToString::to_string) else { return Ok(true) };
        let memory = self.segment.try_clone_fd()?;
        let options = self.options.segment_options();
        drop(self);
        Ok(Segment::discard_with(&name, &memory, &options)?)
    }

    /// The memory of the value, to hand it to other processes.
    pub fn memory(&self) -> &Segment {
        &self.segment
    }
}

impl<T: Message> Drop for Writer<T> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            // All of it is the parent's.
            std::mem::forget(self.attendance.take());
            std::mem::forget(self.pen.take());
        }
    }
}

impl<T: Message> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("version", &self.version())
            .field("memory", &self.segment)
            .finish_non_exhaustive()
    }
}
