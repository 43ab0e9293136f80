//! A parted segment whose parts are not all there yet.

use core::fmt;
use std::os::unix::net::UnixStream;

use super::assembly::Assembly;
use super::{Part, PartedSegment, message};
use crate::lease::RoleId;
use crate::segment::error::SegmentError;
use crate::segment::origin;

/// A [`PartedSegment`] that its creator still collects the parts of.
///
/// Dropped, it leaves nothing.
pub struct PartedDraft {
    assembly: Assembly,
}

impl PartedDraft {
    /// Makes the parts that `roles`, played by this process, write, and the shared ones.
    ///
    /// # Errors
    /// - [`SegmentError::NotASegment`]: no parts, more than 64, or one that is not of whole pages;
    /// - [`SegmentError::Length`]: together they are larger than an address space;
    /// - [`SegmentError::NoSpace`], [`SegmentError::Limit`]: there is not enough memory, or not for this process;
    /// - [`SegmentError::Permission`], [`SegmentError::Io`]: the system refuses.
    pub fn new(parts: &[Part], roles: &[RoleId]) -> Result<Self, SegmentError> {
        let mut assembly = Assembly::of(parts)?;
        assembly.make(assembly.written_by(roles) | assembly.shared())?;
        Ok(Self { assembly })
    }

    /// Receives the parts that `roles` write from the process that [joins](PartedSegment::join) in them, and maps them
    /// read-only.
    ///
    /// Waits until they come, or until the socket's read timeout has passed since the call, however slowly they come. Who
    /// is at the other end, and whether it may have these roles, the caller must know. After an error the draft is what it
    /// was, but if the system refused a mapping: then nothing can be [completed](Self::complete) any more.
    ///
    /// # Errors
    /// - [`SegmentError::Handover`]: the stream ended; not exactly the parts of these roles came; or one of them is
    ///   memory that is already part of this segment;
    /// - [`SegmentError::NotASegment`]: one of them is not memory of the right size that is sealed as it must be;
    /// - [`SegmentError::Permission`], [`SegmentError::Io`]: the system refuses, or the time is over.
    pub fn gather(&mut self, from: &UnixStream, roles: &[RoleId]) -> Result<(), SegmentError> {
        let set = self.assembly.written_by(roles);
        if set == 0 {
            return Ok(());
        }
        let descriptors = message::receive(from, set)?;
        // Parts that are there already are compared by `take`, and refused as other memory.
        self.assembly.take(set, descriptors, Part::access_of_others)
    }

    /// The whole segment: to be filled, then [sent](PartedSegment::send).
    ///
    /// # Errors
    /// [`SegmentError::Handover`] if a part is missing; then nothing is left.
    pub fn complete(self) -> Result<PartedSegment, SegmentError> {
        self.assembly.finish(origin::fresh_unnamed()?)
    }
}

impl fmt::Debug for PartedDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartedDraft")
            .field("missing", &self.assembly.missing().count_ones())
            .finish_non_exhaustive()
    }
}
