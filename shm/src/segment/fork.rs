//! Fork children: how a process sees that it is one, and which descriptors it must not keep.
//!
//! A fork child gets a copy of everything, also of what may exist only once. Two things here undo that: a
//! [mark](ForkMark), by which a copy knows that it is a copy, and a registry of descriptors that a child closes
//! before its first instruction after `fork` returns. A lock that belongs to an open file would otherwise outlive
//! its holder for as long as a child has that file open.
//!
//! # Memory layout
//! All of it is private to the process; a child starts with a copy.
//! ```text
//! page (wiped in a child)   word: 0 not looked at since the fork | BUSY | generation of this process, from 1
//! SLOTS[0..CAPACITY]        fd: 0 free | RESERVED | descriptor + 2; device and inode of its file
//! STARTED, FINISHED         forks that began, forks that ended in the parent
//! LAST                      the last generation, which a child counts on from
//! ```
//!
//! # Protocol
//! | step | who | why |
//! |---|---|---|
//! | wait until no fork is under way | a thread that opens | its child may get half of what follows |
//! | open, write the slot | the same | from here on every child that has the descriptor knows it |
//! | has a fork begun since? then undo, start again | the same | its child may have the descriptor without the slot |
//! | use the descriptor | the same | no child has it without its slot |
//! | `STARTED + 1`, fork, `FINISHED + 1` | a thread that forks, by `pthread_atfork` | equal: no fork is under way |
//! | close what the slots name, take the next generation | the child, by `pthread_atfork` | |
//!
//! Neither handler waits, allocates or locks, so a fork in a signal handler is as good as any. A fork that falls into
//! the opening leaves the child a descriptor that nobody uses, at worst.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | what it hands over |
//! |---|---|---|---|
//! | fork.begin | fence in `before_fork` | fence in `fork_has_begun` | the slot, or the fork |
//! | fork.end | `after_fork` | `quiet` | the copying is over |
//! | fork.slot | `Unshared::drop` | `reserve` | the slot, to the next that uses it |
//! | fork.page | `install` | `word` | the page, mapped and marked |
//! | fork.word | `settle` | `settle`, in another thread | the generation of this process |

use core::fmt;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::thread;

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::param::page_size;

use super::error::SegmentError;

/// How many descriptors one process can have here at a time.
const CAPACITY: usize = 4096;
const FREE: u64 = 0;
const RESERVED: u64 = 1;
/// A slot holds the descriptor plus this.
const FIRST: u64 = 2;

/// The word of a child that nobody has looked at.
const WIPED: u64 = 0;
/// Somebody is looking.
const BUSY: u64 = u64::MAX;

/// How often, and how long apart, an opener looks for a moment without a fork: a second in all.
const ATTEMPTS: u32 = 10_000;
const PAUSE: Duration = Duration::from_micros(100);

#[derive(Debug)]
struct Slot {
    fd: AtomicU64,
    device: AtomicU64,
    inode: AtomicU64,
}

static SLOTS: [Slot; CAPACITY] =
    [const { Slot { fd: AtomicU64::new(FREE), device: AtomicU64::new(0), inode: AtomicU64::new(0) } };
        CAPACITY];
/// No slot from here on was ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);
static FINISHED: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);
static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());

/// The process that took this mark, told apart from its fork children.
///
/// Part of every handle that a fork child must not use: the child's copy of the mark says so, at the price of one
/// load from a page that the kernel empties in the child (`MADV_WIPEONFORK`).
///
/// # Guarantees
/// [`is_forked_child`](Self::is_forked_child) is true in every process that got its memory by copy from the one
/// that took the mark: by `fork`, by `_Fork`, by `clone` without `CLONE_VM`, and in their children. It is false in
/// the process that took it, whatever that has forked since. After `vfork`, or any `clone` with `CLONE_VM`, the
/// child works on the memory of its parent and the answer is the parent's, false: such a child must not use the
/// parent's handles.
///
/// # Examples
/// ```
/// use tidewire_shm::ForkMark;
///
/// let mark = ForkMark::here()?;
/// assert!(!mark.is_forked_child());
/// # Ok::<(), tidewire_shm::SegmentError>(())
/// ```
#[derive(Clone, Copy)]
pub struct ForkMark {
    word: &'static AtomicU64,
    generation: u64,
}

impl ForkMark {
    /// The mark of this process.
    ///
    /// The first call of a process maps a page and registers handlers with `pthread_atfork`; both stay. A process that
    /// forks in several threads makes it before it starts them: a fork that is under way in another thread meanwhile is
    /// not seen, and its child may keep a lease of this process for as long as it lives.
    ///
    /// # Errors
    /// [`SegmentError::Io`] if the system has no page to give, or one older than Linux 4.14 cannot empty it in
    /// children.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::ForkMark;
    ///
    /// assert_eq!(ForkMark::here()?.generation(), ForkMark::here()?.generation());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn here() -> Result<Self, SegmentError> {
        let word = match word() {
            Some(word) => word,
            None => install()?,
        };
        Ok(Self { word, generation: settle(word) })
    }

    /// Whether this process is a fork child of the one that took the mark.
    ///
    /// # Guarantees
    /// One load; wait-free, no system call, and safe in a signal handler.
    ///
    /// # Examples
    /// ```
    /// assert!(!tidewire_shm::ForkMark::here()?.is_forked_child());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn is_forked_child(&self) -> bool {
        // ORD own: Relaxed, the word changes only where a process begins.
        self.word.load(Ordering::Relaxed) != self.generation
    }

    /// How many forks lie between this process and the first that took a mark, plus one.
    ///
    /// Grows from parent to child; children of one parent have the same.
    ///
    /// # Examples
    /// ```
    /// assert_ne!(tidewire_shm::ForkMark::here()?.generation(), 0);
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl fmt::Debug for ForkMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkMark")
            .field("generation", &self.generation)
            .field("is_forked_child", &self.is_forked_child())
            .finish()
    }
}

/// A descriptor that `fork` does not pass on: the child closes it before `fork` returns there.
///
/// Dropped in a child, it does nothing: its number may be somebody else's by then.
#[derive(Debug)]
pub(super) struct Unshared {
    fd: Option<OwnedFd>,
    slot: &'static Slot,
    mark: ForkMark,
}

impl Unshared {
    /// Opens a descriptor. `open` must make a new one each time; a fork that interferes makes it run again.
    ///
    /// # Errors
    /// What `open` returns; `MFILE` if the process has as many of these as it can have; `AGAIN` if for a second
    /// there was no moment without a fork.
    pub(super) fn open(
        mark: ForkMark,
        mut open: impl FnMut() -> Result<(OwnedFd, Stat), Errno>,
    ) -> Result<Self, Errno> {
        for _ in 0..ATTEMPTS {
            if let Some(forks) = quiet() {
                let slot = reserve()?;
                let (fd, stat) = open().inspect_err(|_| free(slot))?;
                fill(slot, &fd, &stat);
                let made = Self { fd: Some(fd), slot, mark };
                if !fork_has_begun(forks) {
                    return Ok(made);
                }
            }
            thread::sleep(PAUSE);
        }
        Err(Errno::AGAIN)
    }

    /// The descriptor; `None` in a child, which does not have it.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| !self.mark.is_forked_child()).map(AsFd::as_fd)
    }

    pub(super) fn mark(&self) -> ForkMark {
        self.mark
    }
}

impl Drop for Unshared {
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            // The number is not ours: the child's handler closed it, or nobody did.
            let _closed_or_left = self.fd.take().map(IntoRawFd::into_raw_fd);
            return;
        }
        // Freed before the descriptor is: a child must not close what another thread opens under the same number.
        free(self.slot);
        self.fd = None;
    }
}

/// How many forks have begun, if none of them is under way.
fn quiet() -> Option<u64> {
    // ORD fork.end: Acquire <- `after_fork`; read first, so that every fork counted by `STARTED` is over.
    let finished = FINISHED.load(Ordering::Acquire);
    // ORD fork.begin: Acquire; a hint, `fork_has_begun` decides.
    let started = STARTED.load(Ordering::Acquire);
    (started == finished).then_some(started)
}

/// Whether a fork has begun since there were `forks`. If not, every later child has what was written until now.
fn fork_has_begun(forks: u64) -> bool {
    // ORD fork.begin: SeqCst <-> `before_fork`; the slot is written before the count is read.
    fence(Ordering::SeqCst);
    // ORD own: Relaxed, behind the fence.
    STARTED.load(Ordering::Relaxed) != forks
}

fn reserve() -> Result<&'static Slot, Errno> {
    for (index, slot) in SLOTS.iter().enumerate() {
        // ORD own: Relaxed, a hint.
        if slot.fd.load(Ordering::Relaxed) != FREE {
            continue;
        }
        // ORD fork.slot: Acquire <- `free`; the slot is no longer written by who had it.
        // ORD own: Relaxed, a failure tells nothing.
        if slot.fd.compare_exchange(FREE, RESERVED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            // ORD own: Relaxed, before the fence in `fork_has_begun`.
            USED.fetch_max(index + 1, Ordering::Relaxed);
            return Ok(slot);
        }
    }
    Err(Errno::MFILE)
}

fn fill(slot: &Slot, fd: &OwnedFd, stat: &Stat) {
    // ORD own: Relaxed, before the fence in `fork_has_begun`.
    slot.device.store(stat.st_dev, Ordering::Relaxed);
    slot.inode.store(stat.st_ino, Ordering::Relaxed);
    // A descriptor is never negative.
    slot.fd.store(u64::from(fd.as_raw_fd().unsigned_abs()) + FIRST, Ordering::Relaxed);
}

fn free(slot: &Slot) {
    // ORD fork.slot: Release -> `reserve`; what was written to the slot comes before its next use.
    slot.fd.store(FREE, Ordering::Release);
}

/// Runs in the thread that forks, before it does.
extern "C" fn before_fork() {
    // ORD own: Relaxed, before the fence.
    STARTED.fetch_add(1, Ordering::Relaxed);
    // ORD fork.begin: SeqCst <-> `fork_has_begun`; the count is written before the kernel copies the slots.
    fence(Ordering::SeqCst);
}

/// Runs in the parent after a fork, also after one that failed.
extern "C" fn after_fork() {
    // ORD fork.end: Release -> `quiet`; the copying is over.
    FINISHED.fetch_add(1, Ordering::Release);
}

/// Runs in the child, which has this one thread. Makes system calls that are safe in a signal handler only, and
/// neither allocates nor waits.
extern "C" fn in_child() {
    // ORD own: Relaxed, this process has one thread.
    let used = USED.load(Ordering::Relaxed);
    for slot in SLOTS.iter().take(used) {
        // ORD own: Relaxed, this process has one thread.
        let held = slot.fd.swap(FREE, Ordering::Relaxed);
        let (device, inode) = (slot.device.load(Ordering::Relaxed), slot.inode.load(Ordering::Relaxed));
        if let Some(fd) = held.checked_sub(FIRST).and_then(|number| RawFd::try_from(number).ok()) {
            close_inherited(fd, device, inode);
        }
    }
    // ORD own: Relaxed, this process has one thread. Other threads that were forking are not in it.
    FINISHED.store(STARTED.load(Ordering::Relaxed), Ordering::Relaxed);
    if let Some(word) = word() {
        settle(word);
    }
}

/// Closes a descriptor if it is of this file. It may be none, or another's, if another thread was just opening it:
/// the kernel copies descriptors before memory.
fn close_inherited(fd: RawFd, device: u64, inode: u64) {
    // SAFETY: not negative; the borrow ends before the descriptor is closed, and if it is not open the call fails.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let same = fstat(borrowed).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode));
    if same {
        // SAFETY: it is open, and this process's copy of a descriptor that an `Unshared` owned; that one leaves it
        // alone, since its mark is another process's.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// The generation of this process. The first look after a fork takes the next one.
fn settle(word: &AtomicU64) -> u64 {
    loop {
        // ORD fork.word: Acquire <- the store below, in another thread of this process.
        match word.load(Ordering::Acquire) {
            WIPED => {
                // ORD own: Relaxed, hands nothing over; so does the failure.
                let first = word.compare_exchange(WIPED, BUSY, Ordering::Relaxed, Ordering::Relaxed);
                if first.is_ok() {
                    // ORD own: Relaxed, one thread gets here.
                    let next = LAST.load(Ordering::Relaxed) + 1;
                    LAST.store(next, Ordering::Relaxed);
                    // ORD fork.word: Release -> the load above; `LAST` is counted up.
                    word.store(next, Ordering::Release);
                    return next;
                }
            }
            BUSY => thread::yield_now(),
            generation => return generation,
        }
    }
}

fn word() -> Option<&'static AtomicU64> {
    // ORD fork.page: Acquire <- `install`; the page is mapped and marked.
    let word = WORD.load(Ordering::Acquire);
    // SAFETY: null, or a word of a page that is never unmapped and that is accessed as this atomic only.
    unsafe { word.as_ref() }
}

/// Maps the page that is emptied in children and registers the handlers.
///
/// A fork that another thread is in the middle of may run none of the handlers, and [`quiet`] cannot know of it: its
/// child may keep what this process opens before that fork is over, such as a lease, until it ends or becomes another
/// program. Only the first use of this process can meet that.
/// Of several threads one prevails; handlers
/// that are registered twice count every fork twice, on both sides.
#[cold]
fn install() -> Result<&'static AtomicU64, SegmentError> {
    let page = wiped_page().map_err(SegmentError::on("map a page that fork children do not inherit"))?;
    // SAFETY: the handlers live as long as the program, and do nothing that is forbidden around a fork. What a fork that is
    // under way meanwhile does is said above; no memory of this process depends on it.
    let registered = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
    if registered != 0 {
        unmap(page);
        let error = std::io::Error::from_raw_os_error(registered);
        return Err(SegmentError::from_io("register what fork children close", error));
    }
    // ORD fork.page: Release -> `word`; the page is mapped and marked, the handlers are registered.
    // ORD fork.page: Acquire <- the winner's Release, on failure.
    match WORD.compare_exchange(null_mut(), page, Ordering::Release, Ordering::Acquire) {
        Ok(_) => {}
        Err(_) => unmap(page),
    }
    match word() {
        Some(word) => Ok(word),
        None => unreachable!("the word was stored by this thread or by the one that came first"),
    }
}

/// A page of zeros, as the word in it.
fn wiped_page() -> Result<*mut AtomicU64, Errno> {
    let len = page_size();
    // SAFETY: the kernel chooses where; no memory that is in use changes.
    let page =
        unsafe { mmap_anonymous(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
    // SAFETY: the page was just mapped, and nobody else knows it.
    let marked = unsafe { madvise(page, len, Advice::LinuxWipeOnFork) };
    let word = page.cast::<AtomicU64>();
    marked.inspect_err(|_| unmap(word)).map(|()| word)
}

fn unmap(page: *mut AtomicU64) {
    // SAFETY: from `wiped_page`, and nobody else knows it.
    let _unmapped = unsafe { munmap(page.cast(), page_size()) };
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, ForkMark, SLOTS, Unshared, close_inherited};
    use rustix::fs::fstat;
    use rustix::io::{Errno, fcntl_getfd};
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn open_null() -> Result<(std::os::fd::OwnedFd, rustix::fs::Stat), Errno> {
        let fd = std::os::fd::OwnedFd::from(File::open("/dev/null").unwrap());
        let stat = fstat(&fd)?;
        Ok((fd, stat))
    }

    #[test]
    fn only_a_descriptor_of_the_same_file_is_closed() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (pipe, other) = (fstat(&write).unwrap(), fstat(File::open("/dev/null").unwrap()).unwrap());
        close_inherited(write.as_raw_fd(), other.st_dev, other.st_ino);
        assert!(fcntl_getfd(&write).is_ok());
        close_inherited(i32::MAX, pipe.st_dev, pipe.st_ino);
        close_inherited(std::os::fd::IntoRawFd::into_raw_fd(write), pipe.st_dev, pipe.st_ino);
        // Nobody can write any more.
        assert_eq!(rustix::io::read(&read, &mut [0_u8; 1]).unwrap(), 0);
    }

    #[test]
    fn a_slot_is_free_again_after_a_drop_and_after_a_failure() {
        let mark = ForkMark::here().unwrap();
        for _ in 0..2 * CAPACITY {
            drop(Unshared::open(mark, open_null).unwrap());
            assert_eq!(Unshared::open(mark, || Err(Errno::NOENT)).unwrap_err(), Errno::NOENT);
        }
        // Every slot in use is one of another test's.
        let used = SLOTS.iter().filter(|slot| slot.fd.load(super::Ordering::Relaxed) != 0).count();
        assert!(used < 16, "{used} slots leaked");
    }
}
