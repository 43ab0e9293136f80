//! Segments in parts: each role's words in a memory that only it can write.
//!
//! # Memory layout
//! ```text
//! one range of addresses       part 0     part 1     part 2        ...
//! memory descriptors           sealed     sealed     sealed
//! who has it mapped writable   role A     role B     whoever joins (a shared part)
//! ```
//! The parts lie side by side in the order in which they are listed, so an offset means the same as in a segment of one
//! piece.
//!
//! # Protocol
//! | step | creator | each joiner that writes a part |
//! |---|---|---|
//! | make, and fill every page | its own parts and the shared ones | its own parts |
//! | seal | each as soon as its maker has it mapped | the same |
//! | gather | receives each joiner's parts, maps them read-only | sends them |
//! | fill | lays a structure out in what it can write | waits |
//! | send | all parts, to each joiner and to observers | receives them, finds its own again, maps the others |
//!
//! The seal on a part that has one writer (`F_SEAL_FUTURE_WRITE`) leaves the mapping that exists as it is, and lets
//! nobody have another one that can be written.
//!
//! # Crash argument
//! | point | killed here, the others see | who repairs |
//! |---|---|---|
//! | before a message is sent | the end of the stream | nobody: the kernel frees what nobody has |
//! | after it | the parts, which live as long as somebody has them | nobody |

mod assembly;
mod draft;
mod memory;
mod message;
mod range;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::error::SegmentError;
use super::lease::SegmentLeases;
use super::map::{Access, Mapping};
use super::options::SegmentOptions;
use super::{Segment, origin};
use crate::lease::RoleId;
use crate::region::{Origin, Region};
use crate::trust::Untrusted;
use assembly::Assembly;
use range::AddressRange;

pub use draft::PartedDraft;

/// The most parts of a segment.
const PARTS_MAX: usize = 64;

/// One part of a [`PartedSegment`]: how long it is, and who may write it.
///
/// ```
/// use tidewire_shm::{Part, RoleId};
///
/// let words = Part::written_by(RoleId::CONSUMER, 4096);
/// assert_eq!((words.bytes(), words.writer(), words.is_shared()), (4096, Some(RoleId::CONSUMER), false));
/// assert!(Part::shared(1 << 16).is_shared());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    bytes: usize,
    writer: Option<RoleId>,
}

impl Part {
    /// A part that only the process in this role can write.
    #[must_use]
    pub const fn written_by(role: RoleId, bytes: usize) -> Self {
        Self { bytes, writer: Some(role) }
    }

    /// A part that everybody can write who joins or gets a descriptor of it.
    #[must_use]
    pub const fn shared(bytes: usize) -> Self {
        Self { bytes, writer: None }
    }

    /// Bytes of the part; must be a positive multiple of the size of a page.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The one role that can write it; `None`: everybody.
    #[must_use]
    pub const fn writer(&self) -> Option<RoleId> {
        self.writer
    }

    /// Whether everybody can write it.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.writer.is_none()
    }

    /// Who makes it, for people.
    fn maker(&self) -> String {
        match self.writer {
            Some(role) => format!("the {role}"),
            None => "the creator of the segment".to_owned(),
        }
    }

    /// How a process maps it that is not its maker.
    fn access_of_others(&self) -> Access {
        if self.is_shared() { Access::ReadWrite } else { Access::ReadOnly }
    }
}

/// Anonymous memory in parts, each of which only the process in one role can write: the kernel refuses all others.
///
/// For structures whose roles keep their words on pages of their own
/// ([`RoleStride::Page`](crate::RoleStride::Page)), between processes that do not trust each other. All processes list
/// the same parts; each says which roles it plays. The queues of this library do not ask for their own bytes yet and
/// refuse a region of which they may not write all; latest values whose parts their writer makes work.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use tidewire_shm::{Part, PartedDraft, PartedSegment, RoleId};
///
/// let page = 4096;
/// let parts = [
///     Part::written_by(RoleId::CREATOR, page),
///     Part::written_by(RoleId::CONSUMER, page),
///     Part::shared(16 * page),
/// ];
/// let (here, there) = UnixStream::pair()?;
/// // Another process does this.
/// let joining = std::thread::spawn(move || PartedSegment::join(&there, &parts, &[RoleId::CONSUMER]));
///
/// let mut draft = PartedDraft::new(&parts, &[RoleId::CREATOR])?;
/// draft.gather(&here, &[RoleId::CONSUMER])?;
/// let created = draft.complete()?;
/// // A structure is laid out in `created.region()` here: nobody else has it yet.
/// created.send(&here)?;
/// let joined = joining.join().map_err(|_| "the thread panicked")??;
///
/// assert_eq!((created.region().len(), joined.region().len()), (18 * page, 18 * page));
/// assert!(created.region().is_writable_at(0, page) && !created.region().is_writable_at(page, 1));
/// assert!(joined.region().is_writable_at(page, 17 * page) && !joined.region().is_writable_at(0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Guarantees
/// - **One writer.** A part that a role writes is made, mapped and sealed by the process in that role, before anybody
///   else has a descriptor of it. From then on nobody can map it for writing, give a mapping the right to write, write
///   it as a file, also if it is opened anew, or take pages out of it; not even its maker, but by the mapping that it
///   has. It can do so until its last region is dropped.
/// - **Nobody changes its size**, so that no access is beyond its end. Pages of a shared part can be taken out by whoever
///   may write it: they read as zeroes, and need memory again.
/// - **What comes is checked**: that each part has its size, its seals and all its pages, normal ones, and is no other part
///   again. A process finds its own parts among those that it is sent, or refuses all. No more than a few descriptors
///   beyond those that are expected are ever taken from a socket.
/// - **A store where this process may not is refused before it is done**: [regions](Self::region) know which bytes can
///   be written. Only unsafe code that does not ask dies of it.
///
/// # Not guaranteed
/// - A process that may trace another one, or look into its descriptors (`/proc/<pid>/fd`), as processes of the same
///   user may where the system does not forbid it, can write its memory by that, or map a part before it is sealed.
/// - Who writes a shared part is everybody's affair: it is for data that a peer can spoil only for itself.
/// - A fork child has its parent's mappings, with the right to write.
/// - The writer of a part may write anything into it, at any time: regions are [`Untrusted`].
pub struct PartedSegment {
    parts: Vec<Part>,
    fds: Vec<OwnedFd>,
    /// What this process has mapped writable.
    writable: Vec<Range<usize>>,
    range: Arc<AddressRange>,
    origin: Origin,
}

impl PartedSegment {
    /// Creates a segment all of whose parts are shared or written by `roles`, played by this process.
    ///
    /// Where others write parts, start with a [`PartedDraft`].
    ///
    /// # Errors
    /// [`SegmentError::Handover`] if another role writes a part; else as [`PartedDraft::new`].
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Part, PartedSegment, RoleId};
    ///
    /// let cell = PartedSegment::create(&[Part::written_by(RoleId::CREATOR, 4096)], &[RoleId::CREATOR])?;
    /// assert!(cell.region().is_writable());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn create(parts: &[Part], roles: &[RoleId]) -> Result<Self, SegmentError> {
        PartedDraft::new(parts, roles)?.complete()
    }

    /// Takes part in a segment that the process at the other end of the socket creates: makes the parts that `roles`,
    /// played by this process, write, sends them, and receives all parts.
    ///
    /// Waits until they come, or until the socket's read timeout has passed since this process began to wait, however
    /// slowly they come. If no part is written by `roles`, nothing is sent; shared parts can be written all the same: see
    /// [`observe`](Self::observe).
    ///
    /// # Errors
    /// - [`SegmentError::Handover`]: the stream ended; not all parts came; what came as a part of this process's is not
    ///   what it made; or two parts are the same memory;
    /// - [`SegmentError::NotASegment`]: a part is not memory of the right size that is sealed as it must be;
    /// - [`SegmentError::Io`] of the kind [`TimedOut`](std::io::ErrorKind::TimedOut): the time is over;
    /// - else as [`PartedDraft::new`].
    pub fn join(from: &UnixStream, parts: &[Part], roles: &[RoleId]) -> Result<Self, SegmentError> {
        let mut assembly = Assembly::of(parts)?;
        let own = assembly.written_by(roles);
        assembly.make(own)?;
        if own != 0 {
            message::send(from, own, &assembly.descriptors(own))?;
        }
        Self::receive(from, assembly, Part::access_of_others)
    }

    /// Receives a segment of which this process shall write nothing, not even the shared parts.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use tidewire_shm::{Part, PartedSegment, RoleId};
    ///
    /// let parts = [Part::written_by(RoleId::CREATOR, 4096), Part::shared(4096)];
    /// let (here, there) = UnixStream::pair()?;
    /// PartedSegment::create(&parts, &[RoleId::CREATOR])?.send(&here)?;
    /// let observed = PartedSegment::observe(&there, &parts)?;
    /// assert!(!observed.region().is_writable_at(4096, 8));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe(from: &UnixStream, parts: &[Part]) -> Result<Self, SegmentError> {
        Self::receive(from, Assembly::of(parts)?, |_| Access::ReadOnly)
    }

    fn receive(
        from: &UnixStream,
        mut assembly: Assembly,
        may: impl Fn(&Part) -> Access,
    ) -> Result<Self, SegmentError> {
        let all = assembly.all();
        let descriptors = message::receive(from, all)?;
        assembly.take(all, descriptors, may)?;
        assembly.finish(origin::attached()?)
    }

    /// Sends all parts to a process that [joins](Self::join) or [observes](Self::observe).
    ///
    /// With them goes the right to write the shared parts, and to send all of them on.
    ///
    /// # Errors
    /// [`SegmentError::Io`] if the socket refuses, also if it does not block and is full; [`SegmentError::Handover`] if
    /// it took only some bytes.
    pub fn send(&self, to: &UnixStream) -> Result<(), SegmentError> {
        let all = (0..self.fds.len()).fold(0, |set, bit| set | 1_u64 << bit);
        let descriptors: Vec<BorrowedFd<'_>> = self.fds.iter().map(OwnedFd::as_fd).collect();
        message::send(to, all, &descriptors)
    }

    /// The memory: all parts, of which [can be written](Region::is_writable_at) what this process writes and, if it did
    /// not [observe](Self::observe), the shared parts. Every region keeps the mappings alive.
    ///
    /// As with [`Segment::region`], a region of a segment that this process completed carries its nonce.
    #[must_use]
    pub fn region(&self) -> Region<Untrusted> {
        let keep = self.range.clone();
        // SAFETY: the range has all its parts, whose bytes the kernel initialised; it is kept alive by the `Arc`, and
        // given out as regions only, which are told at once which bytes are not mapped writable.
        let region =
            unsafe { Region::from_raw_parts(self.range.base(), self.range.len(), self.origin, keep) };
        match region {
            Ok(region) => region.read_only_but(self.writable.iter().cloned()),
            Err(error) => unreachable!("a range starts at a page and is not empty: {error}"),
        }
    }

    /// The parts, in their order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The descriptor of a part; closed when this process starts another program. `None`: there is no such part.
    #[must_use]
    pub fn part_fd(&self, part: usize) -> Option<BorrowedFd<'_>> {
        self.fds.get(part).map(OwnedFd::as_fd)
    }

    /// The leases of this segment's roles: the same in every process that has it, observers included.
    ///
    /// They are locks on the memory of the first part, whatever its seals. [`covers`](crate::Liveness::covers) is true
    /// for regions of this and of every other parted segment.
    ///
    /// # Errors
    /// As [`Segment::leases`].
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Liveness, Part, PartedSegment, RoleId, Tenancy};
    ///
    /// let cell = PartedSegment::create(&[Part::written_by(RoleId::CREATOR, 4096)], &[RoleId::CREATOR])?;
    /// let lease = cell.leases()?.acquire(RoleId::CREATOR)?;
    /// assert_eq!(cell.leases()?.tenancy(RoleId::CREATOR), Tenancy::Held);
    /// drop(lease);
    /// assert_eq!(cell.leases()?.tenancy(RoleId::CREATOR), Tenancy::Vacant);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn leases(&self) -> Result<SegmentLeases, SegmentError> {
        let (Some(fd), Some(part)) = (self.fds.first(), self.parts.first()) else {
            return Err(SegmentError::Length { asked: 0 });
        };
        let fd = fd.try_clone().map_err(|source| SegmentError::from_io("duplicate a descriptor", source))?;
        let access = Access::ReadOnly;
        let mapping = Mapping::attach(&fd, part.bytes, access, &SegmentOptions::new())?;
        Segment { mapping, fd, origin: self.origin, named: None, access, created: false }.leases()
    }
}

impl fmt::Debug for PartedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartedSegment")
            .field("parts", &self.parts)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}
