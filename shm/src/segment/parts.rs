//! Segments in parts: each role's words in a memory that only it can write.
//!
//! # Memory layout
//! ```text
//! one range of addresses       part 0     part 1     part 2        ...
//! memory descriptors           sealed     sealed     sealed
//! who has it mapped writable   role A     role B     two roles, or whoever joins (a shared part)
//! ```
//! The parts lie side by side in the order in which they are listed, so an offset means the same as in a segment of one
//! piece. In place of a part that a process does not get lie pages of zeroes that it can read.
//!
//! # Protocol
//! | step | creator | each joiner that writes a part |
//! |---|---|---|
//! | make, and fill every page | its own parts and the shared ones | its own parts |
//! | seal | each as soon as its maker has it mapped | the same |
//! | gather | receives each joiner's parts, maps them read-only | sends them |
//! | fill | lays a structure out in what it can write | waits |
//! | send | what it may have, to each joiner and to observers | receives it, finds its own again, maps the others |
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

pub use draft::PartedDraft;
pub(super) use range::AddressRange;

/// The most parts of a segment.
const PARTS_MAX: usize = 64;

/// One part of a [`PartedSegment`]: how long it is, and who may write it.
///
/// ```
/// use tidewire_shm::{Part, RoleId};
///
/// let words = Part::written_by(RoleId::CONSUMER, 4096);
/// assert_eq!((words.bytes(), words.writer(), words.is_shared()), (4096, Some(RoleId::CONSUMER), false));
/// let data = Part::shared_by([RoleId::CREATOR, RoleId::CONSUMER], 1 << 16);
/// assert_eq!((data.writer(), data.is_shared()), (None, false));
/// assert!(Part::shared(1 << 16).is_shared());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    bytes: usize,
    writers: Writers,
}

/// Who can write a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writers {
    One(RoleId),
    Two([RoleId; 2]),
    All,
}

impl Part {
    /// A part that only the process in this role can write.
    #[must_use]
    pub const fn written_by(role: RoleId, bytes: usize) -> Self {
        Self { bytes, writers: Writers::One(role) }
    }

    /// A part that the processes in these two roles write, and that nobody else gets: others read zeroes in its place. Whoever
    /// makes the segment makes it, and so has it too.
    #[must_use]
    pub const fn shared_by(roles: [RoleId; 2], bytes: usize) -> Self {
        Self { bytes, writers: Writers::Two(roles) }
    }

    /// A part that everybody can write who joins or gets a descriptor of it.
    #[must_use]
    pub const fn shared(bytes: usize) -> Self {
        Self { bytes, writers: Writers::All }
    }

    /// Bytes of the part; must be a positive multiple of the size of a page.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The one role that can write it; `None`: there are two, or everybody can.
    #[must_use]
    pub const fn writer(&self) -> Option<RoleId> {
        match self.writers {
            Writers::One(role) => Some(role),
            Writers::Two(_) | Writers::All => None,
        }
    }

    /// Whether everybody can write it.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.writers, Writers::All)
    }

    /// Whether a process in these roles gets it.
    fn goes_to(&self, roles: &[RoleId]) -> bool {
        match self.writers {
            Writers::Two(two) => two.iter().any(|role| roles.contains(role)),
            Writers::One(_) | Writers::All => true,
        }
    }

    /// Who makes it, for people.
    fn maker(&self) -> String {
        match self.writer() {
            Some(role) => format!("the {role}"),
            None => "the creator of the segment".to_owned(),
        }
    }

    /// How a process maps it that is not its maker.
    fn access_of_others(&self) -> Access {
        if self.writer().is_none() { Access::ReadWrite } else { Access::ReadOnly }
    }
}

/// Anonymous memory in parts, each of which only the process in one role can write: the kernel refuses all others.
///
/// For structures whose roles keep their words on pages of their own
/// ([`RoleStride::Page`](crate::RoleStride::Page)), between processes that do not trust each other. All processes list
/// the same parts; each says which roles it plays. Rings and queues of lanes list the parts that they need, and give a
/// role to whoever can write what is its; ordered queues refuse a region of which they may not write all; latest values
/// whose parts their writer makes work.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use tidewire_shm::{Part, PartedDraft, PartedSegment, RoleId};
///
/// let page = 4096;
/// let parts = [
///     Part::written_by(RoleId::CREATOR, page),
///     Part::written_by(RoleId::CONSUMER, page),
///     Part::shared_by([RoleId::CREATOR, RoleId::CONSUMER], 16 * page),
/// ];
/// let (here, there) = UnixStream::pair()?;
/// // Another process does this.
/// let joining = std::thread::spawn(move || PartedSegment::join(&there, &parts, &[RoleId::CONSUMER]));
///
/// let mut draft = PartedDraft::new(&parts, &[RoleId::CREATOR])?;
/// draft.gather(&here, &[RoleId::CONSUMER])?;
/// let created = draft.complete()?;
/// // A structure is laid out in `created.region()` here: nobody else has it yet.
/// created.send_to(&here, &[RoleId::CONSUMER])?;
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
///
///   | tried on a part that another role writes | the kernel's answer |
///   |---|---|
///   | map it for writing, also if opened anew through `/proc` | `EPERM` |
///   | give the mapping that there is the right to write (`mprotect`) | `EACCES` |
///   | write it as a file, also if opened anew; open it emptied | `EPERM` |
///   | punch a hole, truncate, grow, add a seal | `EPERM` |
///   | remove its pages by the mapping (`madvise`) | `EACCES` |
///   | store into it | `SIGSEGV` |
/// - **Two writers.** A part that two roles share is sent to nobody else, so that the others have nothing to try it on.
///   Between the two, and in a shared part, nothing is refused but a change of its size.
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
/// - Who writes a shared part is everybody's affair, and who writes a part of two is that of the two: they are for data that
///   a peer can spoil only for itself, and for words that have no single writer. A process that has such a part can send
///   it on.
/// - What only one process can write, only that process can ever write: nobody comes after it when it is dead. A new
///   process in its role needs a new segment.
/// - A fork child has its parent's mappings, with the right to write.
/// - The writer of a part may write anything into it, at any time: regions are [`Untrusted`].
pub struct PartedSegment {
    parts: Vec<Part>,
    /// `None`: this process did not get the part.
    fds: Vec<Option<OwnedFd>>,
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
    /// slowly they come. If no part is written by `roles` alone, nothing is sent; shared parts can be written all the same:
    /// see [`observe`](Self::observe).
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
        Self::receive(from, assembly, roles, Part::access_of_others)
    }

    /// Receives a segment of which this process shall write nothing, not even the shared parts. Those that two roles write
    /// it does not get.
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
        Self::receive(from, Assembly::of(parts)?, &[], |_| Access::ReadOnly)
    }

    fn receive(
        from: &UnixStream,
        mut assembly: Assembly,
        roles: &[RoleId],
        may: impl Fn(&Part) -> Access,
    ) -> Result<Self, SegmentError> {
        let given = assembly.given_to(roles);
        let descriptors = message::receive(from, given)?;
        assembly.take(given, descriptors, may)?;
        assembly.blank()?;
        assembly.finish(origin::ATTACHED_UNNAMED)
    }

    /// Sends the parts to a process that [observes](Self::observe), or [joins](Self::join) in roles that no part of
    /// [two writers](Part::shared_by) is for.
    ///
    /// With them goes the right to write the shared parts, and to send all of them on.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn send(&self, to: &UnixStream) -> Result<(), SegmentError> {
        self.send_to(to, &[])
    }

    /// Sends the parts to a process that [joins](Self::join) in these roles: those of [two writers](Part::shared_by) only if
    /// one of them is its.
    ///
    /// # Errors
    /// [`SegmentError::Io`] if the socket refuses, also if it does not block and is full; [`SegmentError::Handover`] if
    /// it took only some bytes, or if this process did not get a part itself.
    pub fn send_to(&self, to: &UnixStream, roles: &[RoleId]) -> Result<(), SegmentError> {
        let (mut set, mut descriptors) = (0, Vec::new());
        for (bit, (part, fd)) in self.parts.iter().zip(&self.fds).enumerate() {
            if part.goes_to(roles) {
                let fd = fd.as_ref().ok_or_else(|| SegmentError::Handover {
                    expected: format!("part {bit}, to be sent on"),
                    found: "a part that this process did not get".to_owned(),
                })?;
                set |= 1_u64 << bit;
                descriptors.push(fd.as_fd());
            }
        }
        message::send(to, set, &descriptors)
    }

    /// The memory: all parts, of which [can be written](Region::is_writable_at) what this process writes and, if it did
    /// not [observe](Self::observe), the shared parts. Every region keeps the mappings alive. Where this process did not get
    /// a part, it reads zeroes.
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

    /// The descriptor of a part; closed when this process starts another program. `None`: there is no such part, or this
    /// process did not get it.
    #[must_use]
    pub fn part_fd(&self, part: usize) -> Option<BorrowedFd<'_>> {
        Some(self.fds.get(part)?.as_ref()?.as_fd())
    }

    /// The leases of this segment's roles: the same in every process that has it, observers included.
    ///
    /// They are locks on the memory of the first part, whatever its seals, and so for those who got it.
    /// [`covers`](crate::Liveness::covers) is true for regions of this segment, false for those of another.
    ///
    /// # Errors
    /// [`SegmentError::Handover`] if this process did not get the first part; else as [`Segment::leases`].
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
        let (Some(Some(fd)), Some(part)) = (self.fds.first(), self.parts.first()) else {
            return Err(SegmentError::Handover {
                expected: "the first part, which the leases are locks on".to_owned(),
                found: "a part that this process did not get".to_owned(),
            });
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
