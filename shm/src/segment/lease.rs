//! Leases that the kernel holds: locks on the bytes of a segment's own file.
//!
//! A lease is an open-file-description write lock (`F_OFD_SETLK`) on the byte at offset [`RoleId::number`], on a
//! descriptor that was opened for this lease alone: it is closed when another program is started, never mapped
//! through, duplicated or sent. The locks are advice between takers, and no bytes are touched: the offset may lie
//! behind the end of the file. The kernel knows the holder by its open file, so pid reuse, pid namespaces and other
//! descriptors of the same file make no difference.
//!
//! # What is proven
//! A lease that is given, and [`Tenancy::Vacant`], prove that **no instruction of an earlier holder will run any
//! more, or that it handed the lease back**, and that everything it wrote to the memory is visible.
//!
//! - *No instruction.* The kernel drops a lock when the last reference to the open file goes. There is one
//!   descriptor, in the table of files that all threads of the holder share. A dying thread leaves that table only
//!   in `do_exit`, after its last return to user mode, and the table closes its files when the last thread has left
//!   it. `execve` ends the other threads and takes the old memory away before it closes descriptors. So a process
//!   that is stopped, swapped out, traced or dumping core holds its leases, and one that is dead does not, reaped
//!   or not.
//! - *Visible.* A dying thread leaves the table by a full barrier, the last of them removes the lock under the spin
//!   lock of the file's lock list, and whoever acquires the lease takes that same spin lock: a chain of release and
//!   acquire from each store of the holder to each load of the next. `drop` unlocks behind a fence, and an answer
//!   of `Vacant` is followed by one, because the kernel answers from an empty list without its spin lock.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | what it hands over |
//! |---|---|---|---|
//! | lease.back | `SegmentLease::drop`, or the kernel at death | `lock`, in the kernel | all that the holder wrote |
//! | lease.vacant | the same | fence in `SegmentLeases::tenancy` | the same |
//!
//! # Crash argument
//! | point | killed here, the others see | who repairs |
//! |---|---|---|
//! | C0 opened, not locked | the role is free | nobody: the kernel closes |
//! | C1 locked | held until the process is dead, then free | nobody: the kernel unlocks |
//! | C2 unlocked, not closed | the role is free | nobody: the kernel closes |
//!
//! # Not guaranteed
//! - Fairness, and protection from denial: any process that can open the file can lock any byte, and keep it.
//! - A process that duplicates the descriptor from outside (`pidfd_getfd`, a debugger) has the lease too; one that
//!   closes descriptors that it does not own loses it.
//! - A thread that gave itself another table of files (`unshare(CLONE_FILES)`), or a process that shares the memory
//!   by `clone` but not the table, is not covered by leases that were taken without it: it must not use them.
//! - Reads and writes that the kernel or a device carries out for the holder (`io_uring`, RDMA) are not
//!   instructions: do not start such on the memory of a segment.
//! - Files on a network: what their locks mean is their server's affair.

use alloc::format;
use core::ffi::{c_int, c_short};
use core::fmt;
use core::sync::atomic::{Ordering, fence};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, Stat, fstat, open, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};

use super::Segment;
use super::error::SegmentError;
use super::fork::{ForkMark, Unshared};
use super::map::{Identity, Mapped};
use super::name::Name;
use super::parts::AddressRange;
use crate::lease::{KERNEL_LEASES, LeaseError, Liveness, RoleId, Tenancy};
use crate::region::{Origin, Region};
use crate::trust::Trust;

/// Gives out the leases of a segment, and knows which are held: from the kernel, which releases a lease only when
/// its holder handed it back or is dead.
///
/// From [`Segment::leases`]; lives on when the segment is dropped, unlinked or replaced, and then still speaks of
/// the same memory, not of what has its name.
///
/// # Guarantees
/// - At most one lease per role, among all processes and threads that have the memory: two takers of one process
///   are two takers. Held by a process that is stopped, however long; free once it is killed, reaped or not, or
///   has started another program. The number of a process and its pid namespace play no part.
/// - A lease that is given, and [`Tenancy::Vacant`], prove that every earlier holder handed its lease back or
///   will not execute another instruction, and all that it wrote before is visible.
/// - [`acquire`](Liveness::acquire) makes three system calls, [`tenancy`](Liveness::tenancy) one. Neither waits for
///   others, but `acquire` waits, a second at most, for a fork of this process that is just under way.
///
/// - They speak of structures in this segment only. For one in another segment they prove nothing: that would break its
///   mutual exclusion (torn values), not the safety of memory. [`covers`](Liveness::covers) is true for regions of
///   this segment, false for those of another and for memory of one process; of regions that were made
///   [of parts](Region::from_raw_parts) with an origin it is not known, and it is true.
///
/// # Errors
/// `acquire` returns [`LeaseError::System`] with `EMFILE` or `ENFILE` if there are no more descriptors, or if this
/// process has 4096 leases; with `EACCES` or `EPERM` if this process may not write the file; with `ESTALE` if what
/// was opened is not the segment; with `EAGAIN` if this process forked without a pause for a second.
///
/// # Fork
/// A fork child holds no lease: its copies of the descriptors are closed in it before `fork` returns there (a handler
/// of `pthread_atfork`), so that it keeps nothing alive of a parent that died; and what it does with its copies of
/// the parent's leases has no effect on the parent's. It must not go on in the parent's roles: whoever forks promises
/// that, and [`SegmentLease::is_forked_child`], or a [`ForkMark`] in each handle, tells it. It may take leases of its
/// own, also by its copy of this value.
///
/// - Raw `clone` or `_Fork`, which run no handlers: the child does not hold the lease either, and sees that it is a
///   child, but the lease stays held until the child has ended too or starts another program. Safe, but the role
///   cannot be taken over from its dead parent.
/// - `vfork`, `posix_spawn`, and so [`Command`](std::process::Command): the child runs on its parent's memory until
///   it starts its program, and that closes its copies. Killed in between, the parent's lease ends with the start.
///
/// # Examples
/// ```
/// use tidewire_shm::{LeaseError, Liveness, RoleId, Segment, Tenancy};
///
/// let segment = Segment::anonymous(4096)?;
/// let leases = segment.leases()?;
/// let consumer = leases.acquire(RoleId::CONSUMER)?;
/// assert_eq!(leases.tenancy(RoleId::CONSUMER), Tenancy::Held);
/// assert!(matches!(leases.acquire(RoleId::CONSUMER), Err(LeaseError::Held { .. })));
/// drop(consumer);
/// assert_eq!(leases.tenancy(RoleId::CONSUMER), Tenancy::Vacant);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SegmentLeases {
    /// For asking, and to be opened again. Never holds a lock, so that it is no harm if children share it.
    asking: OwnedFd,
    /// Where else the file can be opened.
    place: Option<Place>,
    identity: Identity,
}

/// The right to a role of a segment. Dropping it hands it back; the kernel does so when the process dies.
///
/// There is no second one of a role, so it cannot be cloned:
/// ```compile_fail
/// use tidewire_shm::{Liveness, RoleId, Segment};
///
/// let consumer = Segment::anonymous(4096)?.leases()?.acquire(RoleId::CONSUMER)?;
/// let second = consumer.clone();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
/// But it can be moved to another thread:
/// ```
/// use tidewire_shm::{Liveness, RoleId, Segment};
///
/// let consumer = Segment::anonymous(4096)?.leases()?.acquire(RoleId::CONSUMER)?;
/// let moved = std::thread::spawn(move || consumer.role()).join();
/// assert_eq!(moved.ok(), Some(RoleId::CONSUMER));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SegmentLease {
    open_file: Unshared,
    role: RoleId,
}

/// A name in a directory.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    name: Name,
}

impl Segment {
    /// The leases of this segment's roles.
    ///
    /// Every process that has the memory gives out the same leases, whether it created the segment, opened it by
    /// name, also [for reading](Self::open_read_only), inherited or received it. To acquire a lease a process must be
    /// allowed to open the file for writing; to ask, for reading.
    ///
    /// # Errors
    /// [`SegmentError::Permission`], [`SegmentError::Io`] if the memory cannot be opened a second time. It is
    /// opened through `/proc/thread-self/fd`; where that is missing, a named segment is found by its name, if that
    /// still stands for it. [`SegmentError::Io`] too if this process cannot tell its fork children from itself: see
    /// [`ForkMark::here`].
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Liveness, RoleId, Segment, Tenancy};
    ///
    /// let segment = Segment::anonymous(4096)?;
    /// assert_eq!(segment.leases()?.tenancy(RoleId::CREATOR), Tenancy::Vacant);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn leases(&self) -> Result<SegmentLeases, SegmentError> {
        let place = match &self.named {
            Some((name, directory)) => {
                let directory = fcntl_dupfd_cloexec(directory.fd(), 0)
                    .map_err(SegmentError::on("duplicate the descriptor of the directory"))?;
                Some(Place { directory, name: name.clone() })
            }
            None => None,
        };
        SegmentLeases::of(self.as_fd(), place)
    }
}

impl SegmentLeases {
    fn of(memory: BorrowedFd<'_>, place: Option<Place>) -> Result<Self, SegmentError> {
        // Early, so that a system that cannot do it says so here.
        ForkMark::here()?;
        let stat = fstat(memory).map_err(SegmentError::on("inspect the segment"))?;
        let identity = Identity::of(&stat);
        let (asking, _) =
            reopen(memory, place.as_ref(), identity, OFlags::RDONLY).map_err(SegmentError::on(
                "open the segment anew for its leases, through /proc/thread-self/fd or its name",
            ))?;
        Ok(Self { asking, place, identity })
    }

    /// `None`: somebody holds it.
    fn lease(&self, role: RoleId) -> Result<Option<SegmentLease>, Errno> {
        let mark = ForkMark::here().map_err(|_| Errno::NOMEM)?;
        let again = || reopen(self.asking.as_fd(), self.place.as_ref(), self.identity, OFlags::RDWR);
        let open_file = Unshared::open(mark, again)?;
        // Locked only now: no fork child has the descriptor without knowing it. In the child of a signal handler
        // that forked just here there is no descriptor.
        let locked = lock(open_file.fd().ok_or(Errno::CHILD)?, role)?;
        Ok(locked.then_some(SegmentLease { open_file, role }))
    }
}

// SAFETY: the kernel gives the write lock of a byte to one open file at a time. A lease has an open file of its own,
// which is locked for one role, and which the kernel keeps until the holder's threads have left user mode, or the
// lease is dropped; a fork child's copy of the lease is none. The lock, and the fences beside it, order what the
// holder wrote before what follows the answer (module documentation).
unsafe impl Liveness for SegmentLeases {
    type Lease = SegmentLease;
    const PROVES: bool = true;
    const KIND: u32 = KERNEL_LEASES;

    fn acquire(&self, role: RoleId) -> Result<SegmentLease, LeaseError> {
        match self.lease(role) {
            Ok(Some(lease)) => Ok(lease),
            Ok(None) => Err(LeaseError::Held { role }),
            Err(errno) => Err(LeaseError::System { role, errno: errno.raw_os_error() }),
        }
    }

    fn tenancy(&self, role: RoleId) -> Tenancy {
        let answer = is_locked(self.asking.as_fd(), role);
        // ORD lease.vacant: SeqCst <-> `SegmentLease::drop`, or the kernel at death; what the holder wrote.
        fence(Ordering::SeqCst);
        match answer {
            Ok(true) => Tenancy::Held,
            Ok(false) => Tenancy::Vacant,
            Err(_) => Tenancy::Unknown,
        }
    }

    fn covers<L: Trust>(&self, region: &Region<L>) -> bool {
        let of_parts = || region.kept::<AddressRange>().and_then(AddressRange::first);
        match region.kept::<Mapped>().map(|mapped| mapped.identity).or_else(of_parts) {
            Some(identity) => identity == self.identity,
            // Made by hand: whoever did that says by the origin whether it is memory of a segment.
            None => region.origin() != Origin::default(),
        }
    }
}

impl SegmentLease {
    /// The role.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Liveness, RoleId, Segment};
    ///
    /// let consumer = Segment::anonymous(4096)?.leases()?.acquire(RoleId::CONSUMER)?;
    /// assert_eq!(consumer.role(), RoleId::CONSUMER);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn role(&self) -> RoleId {
        self.role
    }

    /// Whether this is only a fork child's copy of a lease: it gives no right to anything, and dropping it does
    /// nothing to the lease.
    ///
    /// # Guarantees
    /// One load, as [`ForkMark::is_forked_child`].
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Liveness, RoleId, Segment};
    ///
    /// let consumer = Segment::anonymous(4096)?.leases()?.acquire(RoleId::CONSUMER)?;
    /// assert!(!consumer.is_forked_child());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn is_forked_child(&self) -> bool {
        self.open_file.mark().is_forked_child()
    }

    /// The mark of the process that took the lease, for handles that test it on each use.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Liveness, RoleId, Segment};
    ///
    /// let mark = Segment::anonymous(4096)?.leases()?.acquire(RoleId::CONSUMER)?.fork_mark();
    /// assert!(!mark.is_forked_child());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn fork_mark(&self) -> ForkMark {
        self.open_file.mark()
    }
}

impl Drop for SegmentLease {
    fn drop(&mut self) {
        // In a child there is no descriptor, and nothing to hand back.
        if let Some(fd) = self.open_file.fd() {
            // ORD lease.back: SeqCst <-> `SegmentLeases::tenancy`; what this process wrote, before the lock is gone.
            fence(Ordering::SeqCst);
            // Unlocked, not only closed: a child of `vfork` may have the open file a little longer. Should it fail,
            // the close that follows hands back as well.
            let _unlocked = unlock(fd, self.role);
        }
    }
}

impl fmt::Debug for SegmentLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentLease")
            .field("role", &self.role)
            .field("is_forked_child", &self.is_forked_child())
            .finish_non_exhaustive()
    }
}

/// Opens the file of `memory` again: an open file of its own.
fn reopen(
    memory: BorrowedFd<'_>,
    place: Option<&Place>,
    identity: Identity,
    access: OFlags,
) -> Result<(OwnedFd, Stat), Errno> {
    let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // Not /proc/self: that has no descriptors once the main thread has ended.
    let path = format!("/proc/thread-self/fd/{}", memory.as_raw_fd());
    let through_proc =
        retry_on_intr(|| open(&*path, flags, Mode::empty())).and_then(|fd| checked(fd, identity));
    match (through_proc, place) {
        (Err(errno), Some(place)) if !is_shortage(errno) => {
            let Place { directory, name } = place;
            let flags = flags | OFlags::NOFOLLOW;
            retry_on_intr(|| openat(directory, name.as_str(), flags, Mode::empty()))
                .and_then(|fd| checked(fd, identity))
                .map_err(|_| errno)
        }
        (opened, _) => opened,
    }
}

fn checked(fd: OwnedFd, identity: Identity) -> Result<(OwnedFd, Stat), Errno> {
    let stat = fstat(&fd)?;
    if Identity::of(&stat) == identity { Ok((fd, stat)) } else { Err(Errno::STALE) }
}

fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Locks the byte of a role for the open file behind `fd`, if no other open file has it.
fn lock(fd: BorrowedFd<'_>, role: RoleId) -> Result<bool, Errno> {
    match control(fd, libc::F_OFD_SETLK, libc::F_WRLCK, role) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn unlock(fd: BorrowedFd<'_>, role: RoleId) -> Result<(), Errno> {
    control(fd, libc::F_OFD_SETLK, libc::F_UNLCK, role).map(drop)
}

/// Whether an open file other than the one behind `fd` has the byte of a role. Locks for reading are nobody's role: who may
/// only read could make the dead look alive with one.
fn is_locked(fd: BorrowedFd<'_>, role: RoleId) -> Result<bool, Errno> {
    control(fd, libc::F_OFD_GETLK, libc::F_RDLCK, role).map(|found| c_int::from(found) != libc::F_UNLCK)
}

/// One call about the lock on the byte of a role; returns the kind of lock that the kernel leaves in the record.
fn control(fd: BorrowedFd<'_>, command: c_int, kind: c_int, role: RoleId) -> Result<c_short, Errno> {
    let small = |value: c_int| c_short::try_from(value).map_err(|_| Errno::OVERFLOW);
    let (l_type, l_whence) = (small(kind)?, small(libc::SEEK_SET)?);
    let l_start = libc::off_t::from(role.number());
    let mut record = libc::flock { l_type, l_whence, l_start, l_len: 1, l_pid: 0 };
    // SAFETY: the descriptor is open, and the three commands read and write one `flock` behind the pointer.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut record) };
    if answer == -1 {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(record.l_type)
}

#[cfg(test)]
mod tests {
    use super::{Place, SegmentLeases, reopen};
    use crate::lease::{LeaseError, Liveness, RoleId, Tenancy};
    use crate::segment::{Name, Segment, SegmentOptions};
    use rustix::fs::{
        FallocateFlags, MemfdFlags, OFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_getfl, fstat,
        memfd_create,
    };
    use rustix::io::{Errno, FdFlags, fcntl_getfd};
    use std::fs::{File, read_link, rename};
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};

    /// Memory that can no longer be mapped for writing.
    fn sealed_for_writing(seal: SealFlags) -> OwnedFd {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        fallocate(&fd, FallocateFlags::empty(), 0, 4096).unwrap();
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL | seal).unwrap();
        fd
    }

    #[test]
    fn memory_that_is_sealed_against_writing_has_leases() {
        for seal in [SealFlags::FUTURE_WRITE, SealFlags::WRITE] {
            let memory = sealed_for_writing(seal);
            let (here, there) =
                [&memory, &memory].map(|fd| SegmentLeases::of(fd.as_fd(), None).unwrap()).into();
            let lease = here.acquire(RoleId::CONSUMER).unwrap();
            assert_eq!(there.tenancy(RoleId::CONSUMER), Tenancy::Held);
            assert!(matches!(there.acquire(RoleId::CONSUMER), Err(LeaseError::Held { .. })));
            drop(lease);
            assert_eq!(there.tenancy(RoleId::CONSUMER), Tenancy::Vacant);
        }
    }

    #[test]
    fn whoever_may_only_read_can_ask_but_not_acquire() {
        // Descriptors of directories open for reading only, whoever asks.
        let place = tempfile::tempdir().unwrap();
        let directory = OwnedFd::from(File::open(place.path()).unwrap());
        let leases = SegmentLeases::of(directory.as_fd(), None).unwrap();
        let refused = leases.acquire(RoleId::CONSUMER).unwrap_err();
        let role = RoleId::CONSUMER;
        assert_eq!(refused, LeaseError::System { role, errno: Errno::ISDIR.raw_os_error() });
        assert_eq!(leases.tenancy(RoleId::CONSUMER), Tenancy::Vacant);
    }

    #[test]
    fn a_lease_has_an_open_file_of_its_own_that_programs_do_not_inherit() {
        let segment = Segment::anonymous(4096).unwrap();
        let leases = segment.leases().unwrap();
        let one = leases.acquire(RoleId::CONSUMER).unwrap();
        let other = leases.acquire(RoleId::CLEANER).unwrap();
        for lease in [&one, &other] {
            let fd = lease.open_file.fd().unwrap();
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
            assert_eq!(fcntl_getfl(fd).unwrap() & OFlags::RWMODE, OFlags::RDWR);
            assert_eq!(fstat(fd).unwrap().st_ino, fstat(&segment).unwrap().st_ino);
            // An offset belongs to an open file.
            rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(u64::from(lease.role().number()) + 7)).unwrap();
        }
        let offsets = [&one, &other].map(|lease| rustix::fs::tell(lease.open_file.fd().unwrap()).unwrap());
        assert_eq!(offsets, [8, 9]);
        assert_eq!(rustix::fs::tell(&segment).unwrap(), 0);
        assert_eq!(rustix::fs::tell(&leases.asking).unwrap(), 0);
    }

    #[test]
    fn a_file_that_is_not_the_segment_is_refused_by_either_way() {
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d"));
        let named = Segment::create_with("one", 4096, &options, |_| Ok(())).unwrap();
        let other = Segment::create_with("two", 4096, &options, |_| Ok(())).unwrap();
        let leases = named.leases().unwrap();
        let by_name = leases.place.as_ref();
        // The descriptor is another's, so /proc leads astray, and the name leads to the segment.
        let (fd, _) = reopen(other.as_fd(), by_name, leases.identity, OFlags::RDWR).unwrap();
        let found = read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        assert_eq!(found, place.path().join("d/one"));
        // Then the name is another's too.
        rename(place.path().join("d/two"), place.path().join("d/one")).unwrap();
        let refused = reopen(other.as_fd(), by_name, leases.identity, OFlags::RDWR).unwrap_err();
        assert_eq!(refused, Errno::STALE);
        let absent = Place {
            directory: OwnedFd::from(File::open(place.path()).unwrap()),
            name: Name::new("absent").unwrap(),
        };
        let refused = reopen(other.as_fd(), Some(&absent), leases.identity, OFlags::RDWR).unwrap_err();
        assert_eq!(refused, Errno::STALE);
    }
}
