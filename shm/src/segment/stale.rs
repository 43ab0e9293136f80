//! Joining a segment that may be left over: who is there, and what to do when nobody is.
//!
//! # Protocol
//! Each byte of the segment's own file can be locked, and none is touched ([`SegmentLeases`](super::SegmentLeases)).
//! ```text
//! byte 0 creator | 1 consumer | 2 cleaner | 3 presence: shared by all who joined | 4 gate: who decides | 16 + i producer i
//! ```
//! | step of a joiner | what it proves or does |
//! |---|---|
//! | open the name; none: make a file, presence in it, then link | who finds the name finds all, and who made it |
//! | write lock on the gate, without waiting | nobody else decides; refused: somebody does, for a moment: again |
//! | is the name still this file? | else somebody replaced it: again |
//! | shared lock on byte 3: presence | refused only while somebody who keeps to no gate has all bytes: again |
//! | write lock on **all** bytes, in one call, without waiting | refused: somebody else has a byte, and so uses the segment |
//! | refused: unlock the gate | it is opened: there was a moment in which both were there |
//! | given, recreate: remove the name, then create | the old memory is never initialised a second time |
//! | given, adopt: read the header; shared lock on byte 3 instead, unlock the rest, the gate last | presence without a gap |
//!
//! The segment is mapped afterwards, with presence and without the gate: however long that takes, nobody waits for it.
//!
//! # Invariants
//! - S1 The name of a file is removed here, and by the cleaner, only by who holds its gate and all its bytes.
//! - S2 Whoever has presence, and saw the name stand for the file with the gate in hand or gave it the name, has a file that
//!   nobody removes by S1 until it gives presence back.
//! - S3 Presence is taken with the gate in hand, or before the file has a name. So from the answer `Created` or `Adopted`
//!   on, until nobody has a byte of the file any more, nobody else gets one of these two.
//!
//! So of several joiners of a stale segment exactly one takes its name away or adopts it, of several that find none
//! exactly one creates, and all that return are in one segment.
//!
//! # Crash argument
//! | point | killed here, the others see | who repairs |
//! |---|---|---|
//! | C0 the gate, then presence, then all bytes locked | nothing: the kernel unlocks them in one step | nobody |
//! | C1 name removed | no segment | the next joiner creates |
//! | C2 presence in a file without a name | nothing ([creation](super::create)) | nobody, or the next creation |
//! | C3 linked, with presence | a stale segment that is new | the next joiner |
//! | C4 adopted: shared lock on byte 3, some of the rest unlocked | a stale segment | the next joiner |
//! | C5 presence alone | a stale segment, if nobody else is there | the next joiner |
//!
//! # Not guaranteed
//! `Opened` says that somebody else used the segment at one moment of the call. It may be gone when the call returns, and
//! so may the one that said `Created` or `Adopted`. Whoever holds a lease for a moment, or only tries to take one, uses
//! the segment in that moment.
//!
//! Whoever opens the segment and neither joins nor holds a lease is not seen. Whoever is stopped while it holds the gate,
//! which takes some microseconds, keeps the others waiting until they give up. In those microseconds whoever has the segment
//! without having joined is told that the role it asks for is held.

use core::error::Error;
use core::ffi::{c_int, c_short};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};
use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::{Errno, pread, retry_on_intr};

use super::create::Draft;
use super::directory::Directory;
use super::error::{InitError, SegmentError};
use super::fork::{ForkMark, Unshared};
use super::map::{Access, Identity, Mapping};
use super::name::Name;
use super::options::SegmentOptions;
use super::{Segment, origin};
use crate::error::{Field, Incompatible};
use crate::header::{HEADER_BYTES, Header};
use crate::region::Region;
use crate::trust::Untrusted;

/// The byte that all who joined share.
pub(super) const PRESENCE: u64 = 3;
/// The byte of the one who decides what becomes of the segment.
const GATE: u64 = 4;
/// How often a joiner tries, and how long it waits where somebody else has to finish: about a second.
const ATTEMPTS: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(1);
/// How often it only lets others run instead: they are done in microseconds, if they run.
const SHORT_PAUSES: u32 = 20;

/// What to do with a segment that nobody uses any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StalePolicy {
    /// Take its name away and create anew: what it held is lost. The default.
    #[default]
    Recreate,
    /// Go on with what is there, so that what was committed can be drained.
    Adopt,
}

/// How a segment was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrival {
    /// This call created it: there was none, or a stale one.
    Created,
    /// Somebody else used it, at a moment at which this one was [present](Presence) already.
    Opened,
    /// Nobody used it any more, and it was kept as it was.
    Adopted,
}

/// A segment, and the right to be counted as one who uses it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Joined {
    /// The segment.
    pub segment: Segment,
    /// Keep it as long as anything is done with the segment.
    pub presence: Presence,
    /// How it was come by.
    pub arrival: Arrival,
}

/// As long as it lives the segment is not stale, whether roles of it are held or not.
///
/// Any number of processes, and of values in one process, can be present. The kernel ends it with the process; a fork child
/// does not have it.
pub struct Presence {
    claim: Claim,
}

/// Why a segment could not be joined.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// It could not be opened, inspected or created.
    Segment(SegmentError),
    /// It was to be adopted, but what lies in it was not made in the running boot: its contents are not promised.
    OtherBoot {
        /// The name.
        name: Name,
        /// The running boot.
        expected: u64,
        /// The boot that its header names.
        found: u64,
    },
    /// It was to be adopted, but it holds no structure that this version knows, so not even its boot is known.
    NotAdoptable {
        /// The name.
        name: Name,
        /// What is wrong with its header.
        source: Incompatible,
    },
}

impl Segment {
    /// Opens a named segment that is in use, or creates it if there is none, or if the one there is stale.
    ///
    /// A segment is stale if nobody is [present](Presence) and no [lease](Self::leases) of it is held. All processes
    /// that share it should come by it this way, or hold a lease before the last of the others goes: one that does
    /// neither is not seen, and its peers will find another segment under the name.
    ///
    /// `init` fills a new segment, as for [`create`](Self::create). It may run more than once, on new memory each time,
    /// and in vain.
    ///
    /// # Guarantees
    /// - The memory of a stale segment is never initialised again: it loses its name, and a new one takes it. Who still
    ///   has it mapped keeps it.
    /// - Of several processes that join at the same time exactly one [creates](Arrival::Created) the segment, or
    ///   [adopts](Arrival::Adopted) a stale one, and all have the same segment. As long as anybody is present nobody else
    ///   does either.
    /// - [`Opened`](Arrival::Opened) is never said because of somebody who only looked whether the segment is stale.
    /// - Killed at any moment, nothing is left that the next call does not put right.
    ///
    /// # Errors
    /// [`JoinError::Segment`]: as [`open_or_create`](Self::open_or_create); [`SegmentError::Contended`] after about a
    /// second in which others replaced the segment again and again, or one of them was stopped while it did.
    ///
    /// # Examples
    /// ```no_run
    /// let ticks = tidewire_shm::Segment::join("ticks", 1 << 16, |_region| Ok(()))?;
    /// println!("{:?}", ticks.arrival);
    /// # Ok::<(), tidewire_shm::JoinError>(())
    /// ```
    pub fn join(
        name: &str,
        len: usize,
        init: impl FnMut(Region<Untrusted>) -> Result<(), InitError>,
    ) -> Result<Joined, JoinError> {
        Self::join_with(name, len, StalePolicy::default(), &SegmentOptions::new(), init)
    }

    /// [`join`](Self::join) with a policy for a stale segment, and options.
    ///
    /// [`StalePolicy::Adopt`] never takes over what a boot before this one left, or what has no header that says so: both are
    /// errors, and the segment stays as it is. [`StalePolicy::Recreate`] replaces those too.
    ///
    /// # Errors
    /// As [`join`](Self::join), and [`JoinError::OtherBoot`] and [`JoinError::NotAdoptable`] for [`StalePolicy::Adopt`].
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Arrival, StalePolicy, Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// let join = || Segment::join_with("ticks", 4096, StalePolicy::Recreate, &options, |_region| Ok(()));
    ///
    /// let first = join()?;
    /// assert_eq!(first.arrival, Arrival::Created);
    /// assert_eq!(join()?.arrival, Arrival::Opened);
    /// drop(first);
    /// // Nobody is there any more.
    /// assert_eq!(join()?.arrival, Arrival::Created);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join_with(
        name: &str,
        len: usize,
        policy: StalePolicy,
        options: &SegmentOptions,
        mut init: impl FnMut(Region<Untrusted>) -> Result<(), InitError>,
    ) -> Result<Joined, JoinError> {
        let name = Name::new(name).map_err(SegmentError::from)?;
        let directory = Directory::create(options)?;
        let (segment, claim, arrival) = join_in(&directory, &name, len, policy, options, &mut init)?;
        Ok(Joined { segment: segment.named(name, directory), presence: Presence { claim }, arrival })
    }
}

type Init<'i> = &'i mut dyn FnMut(Region<Untrusted>) -> Result<(), InitError>;

fn join_in(
    directory: &Directory,
    name: &Name,
    len: usize,
    policy: StalePolicy,
    options: &SegmentOptions,
    init: Init<'_>,
) -> Result<(Segment, Claim, Arrival), JoinError> {
    // Made once, and kept until its name is free or somebody else's segment stays.
    let mut unnamed = None;
    for attempt in 0..ATTEMPTS {
        let joined = match directory.open_file(name, Access::ReadWrite) {
            Ok((fd, len)) => join_file(directory, name, fd, len, policy, options)?,
            Err(SegmentError::NotFound { .. }) => {
                let (mut draft, claim) = match unnamed.take() {
                    Some(made) => made,
                    None => draft_with_presence(directory, len, options, &mut *init)?,
                };
                match draft.publish(name) {
                    Ok(()) => Step::Done(draft.into_segment(), claim, Arrival::Created),
                    Err(SegmentError::AlreadyExists { .. }) => {
                        unnamed = Some((draft, claim));
                        Step::Again
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        };
        match joined {
            Step::Done(segment, claim, arrival) => return Ok((segment, claim, arrival)),
            Step::Again => {}
            Step::Wait if attempt < SHORT_PAUSES => thread::yield_now(),
            Step::Wait => thread::sleep(PAUSE),
        }
    }
    Err(SegmentError::Contended { name: name.clone(), attempts: ATTEMPTS }.into())
}

/// What one attempt led to.
enum Step {
    Done(Segment, Claim, Arrival),
    /// The name stands for something else by now.
    Again,
    /// Somebody decides.
    Wait,
}

/// A whole segment without a name, in which this one is present (S3).
fn draft_with_presence<'d>(
    directory: &'d Directory,
    len: usize,
    options: &SegmentOptions,
    init: Init<'_>,
) -> Result<(Draft<'d>, Claim), SegmentError> {
    let draft = Draft::make(directory, len, options, init)?;
    let claim = Claim::of_draft(&draft)?;
    if claim.try_presence()? { Ok((draft, claim)) } else { Err(presence_refused()) }
}

/// Joins the file that was found under the name, or takes the name away from it.
fn join_file(
    directory: &Directory,
    name: &Name,
    fd: OwnedFd,
    len: usize,
    policy: StalePolicy,
    options: &SegmentOptions,
) -> Result<Step, JoinError> {
    let Some(claim) = Claim::open(directory, name, &fd)? else {
        return Ok(Step::Again);
    };
    if !claim.try_gate()? {
        return Ok(Step::Wait);
    }
    if !claim.has_name(directory, name)? {
        return Ok(Step::Again);
    }
    if !claim.try_presence()? {
        return Ok(Step::Wait);
    }
    let arrival = if !claim.try_all()? {
        claim.leave_gate()?;
        Arrival::Opened
    } else if policy == StalePolicy::Recreate {
        // The claim ends after the name has (S1).
        remove(directory, name)?;
        return Ok(Step::Again);
    } else {
        require_adoptable(name, &fd, len)?;
        claim.all_to_presence()?;
        Arrival::Adopted
    };
    let access = Access::ReadWrite;
    let mapping = Mapping::attach(&fd, len, access, options)?;
    let segment = Segment { mapping, fd, origin: origin::attached()?, named: None, access, created: false };
    Ok(Step::Done(segment, claim, arrival))
}

/// Removes a name that the caller may remove by S1; that somebody who does not ask was faster is no error.
pub(super) fn remove(directory: &Directory, name: &Name) -> Result<(), SegmentError> {
    match directory.unlink(name) {
        Err(SegmentError::NotFound { .. }) => Ok(()),
        done => done,
    }
}

/// Read, not mapped: the file may be shortened at any time, and others wait meanwhile.
fn require_adoptable(name: &Name, fd: &OwnedFd, len: usize) -> Result<(), JoinError> {
    let mut bytes = [0_u8; HEADER_BYTES];
    // What cannot be read stays zero, which is no header.
    retry_on_intr(|| pread(fd, &mut bytes, 0)).map_err(SegmentError::on("read the header"))?;
    match Header::inspect_copy(&bytes, len as u64, origin::boot_id()?) {
        Ok(_) => Ok(()),
        Err(Incompatible { field: Field::BootId, expected, found }) => {
            Err(JoinError::OtherBoot { name: name.clone(), expected, found })
        }
        Err(source) => Err(JoinError::NotAdoptable { name: name.clone(), source }),
    }
}

fn presence_refused() -> SegmentError {
    SegmentError::Io { operation: "keep the presence", source: io::ErrorKind::WouldBlock.into() }
}

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const OPEN: &str = "open the segment anew for its locks";

/// An open file of a segment's own, for locks on its bytes. Dropping it ends them.
pub(super) struct Claim {
    open_file: Unshared,
    identity: Identity,
}

impl Claim {
    /// `None`: the name stands for another file by now.
    pub(super) fn open(
        directory: &Directory,
        name: &Name,
        memory: &OwnedFd,
    ) -> Result<Option<Self>, SegmentError> {
        let stat = fstat(memory).map_err(SegmentError::on("inspect the segment"))?;
        let flags = FLAGS | OFlags::NOFOLLOW;
        let again = || retry_on_intr(|| openat(directory.fd(), name.as_str(), flags, Mode::empty()));
        match Self::by(Identity::of(&stat), again) {
            Ok(claim) => Ok(Some(claim)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(SegmentError::on(OPEN)(errno)),
        }
    }

    /// For a file that nobody else can find yet.
    fn of_draft(draft: &Draft<'_>) -> Result<Self, SegmentError> {
        let stat = fstat(draft.fd()).map_err(SegmentError::on("inspect the segment"))?;
        Self::by(Identity::of(&stat), || draft.reopen(FLAGS)).map_err(SegmentError::on(OPEN))
    }

    /// By what `again` opens, if that is the file.
    fn by(identity: Identity, again: impl Fn() -> Result<OwnedFd, Errno>) -> Result<Self, Errno> {
        let mark = ForkMark::here().map_err(|_| Errno::NOMEM)?;
        let open_file = Unshared::open(mark, || {
            let fd = again()?;
            let stat = fstat(&fd)?;
            if Identity::of(&stat) == identity { Ok((fd, stat)) } else { Err(Errno::NOENT) }
        })?;
        Ok(Self { open_file, identity })
    }

    /// Takes the gate, if nobody has it.
    fn try_gate(&self) -> Result<bool, SegmentError> {
        self.lock(libc::F_WRLCK, GATE, 1)
    }

    fn leave_gate(&self) -> Result<(), SegmentError> {
        self.lock(libc::F_UNLCK, GATE, 1).map(drop)
    }

    /// Takes every byte, the gate too, if nobody else has any. Refused, it changes nothing.
    pub(super) fn try_all(&self) -> Result<bool, SegmentError> {
        self.lock(libc::F_WRLCK, 0, 0)
    }

    fn try_presence(&self) -> Result<bool, SegmentError> {
        self.lock(libc::F_RDLCK, PRESENCE, 1)
    }

    /// From holding all to presence. The lock on the byte changes its kind in one step, so nobody comes in between.
    fn all_to_presence(&self) -> Result<(), SegmentError> {
        if !self.try_presence()? {
            return Err(presence_refused());
        }
        self.lock(libc::F_UNLCK, 0, PRESENCE)?;
        self.lock(libc::F_UNLCK, GATE + 1, 0)?;
        self.leave_gate()
    }

    /// Whether the name stands for this file.
    pub(super) fn has_name(&self, directory: &Directory, name: &Name) -> Result<bool, SegmentError> {
        Ok(directory.stat(name)?.is_some_and(|stat| Identity::of(&stat) == self.identity))
    }

    /// Locks `len` bytes, or all from `start` on if that is 0. `false`: somebody else has one of them.
    fn lock(&self, kind: c_int, start: u64, len: u64) -> Result<bool, SegmentError> {
        let failed = || SegmentError::on("lock the segment");
        // In a fork child there is none.
        let fd = self.open_file.fd().ok_or(Errno::CHILD).map_err(failed())?;
        match control(fd, libc::F_OFD_SETLK, kind, start, len) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(errno) => Err(failed()(errno)),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.open_file.fd().is_some() {
            // ORD stale.back: SeqCst <-> `Claim::try_all`, in the kernel; what this process wrote, before the locks are gone.
            fence(Ordering::SeqCst);
            // Unlocked, not only closed: a child of `vfork` may have the open file a little longer. Should it fail, the
            // close that follows does it as well.
            let _unlocked = self.lock(libc::F_UNLCK, 0, 0);
        }
    }
}

/// Some of the bytes of the range that another open file than the one behind `fd` has locked; `None`: nobody has any.
/// Not the first ones: the kernel keeps its locks by holder. A range that ends at [`u64::MAX`] has no end.
pub(super) fn locked_in(fd: BorrowedFd<'_>, range: &Range<u64>) -> Result<Option<Range<u64>>, SegmentError> {
    let len = if range.end == u64::MAX { 0 } else { range.end.saturating_sub(range.start) };
    let found = control(fd, libc::F_OFD_GETLK, libc::F_WRLCK, range.start, len)
        .map_err(SegmentError::on("ask for the locks of the segment"))?;
    if c_int::from(found.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    let start = u64::try_from(found.l_start).unwrap_or(0);
    let end = match u64::try_from(found.l_len) {
        Ok(len) if len > 0 => start.saturating_add(len),
        _ => u64::MAX,
    };
    Ok(Some(start..end))
}

/// One call about locks; returns the record as the kernel leaves it. A length of 0 means to the end of all numbers.
fn control(
    fd: BorrowedFd<'_>,
    command: c_int,
    kind: c_int,
    start: u64,
    len: u64,
) -> Result<libc::flock, Errno> {
    let small = |value: c_int| c_short::try_from(value).map_err(|_| Errno::OVERFLOW);
    let offset = |value: u64| libc::off_t::try_from(value).map_err(|_| Errno::OVERFLOW);
    let (l_type, l_whence) = (small(kind)?, small(libc::SEEK_SET)?);
    let mut record = libc::flock { l_type, l_whence, l_start: offset(start)?, l_len: offset(len)?, l_pid: 0 };
    // SAFETY: the descriptor is open, and the commands read and write one `flock` behind the pointer.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut record) };
    if answer == -1 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(record)
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_forked_child = self.claim.open_file.mark().is_forked_child();
        f.debug_struct("Presence").field("is_forked_child", &is_forked_child).finish_non_exhaustive()
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(error) => error.fmt(f),
            Self::OtherBoot { name, expected, found } => {
                write!(f, "{name} is of another boot: expected {expected:#x}, found {found:#x}")
            }
            Self::NotAdoptable { name, .. } => write!(f, "{name} holds nothing that can be adopted"),
        }
    }
}

impl Error for JoinError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Segment(error) => error.source(),
            Self::OtherBoot { .. } => None,
            Self::NotAdoptable { source, .. } => Some(source),
        }
    }
}

impl From<SegmentError> for JoinError {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}
