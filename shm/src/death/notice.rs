//! The owner's side: one notice per process.

use alloc::boxed::Box;
use core::fmt;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr};
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::param::page_size;

use super::{DETACHED, DeathError, MAGIC, Page, guard};
use crate::bell::{Kernel, Place, System};
use crate::segment::{ForkMark, SegmentError};
use crate::sync::{AtomicU32, Ordering};

/// What peers can rely on.
pub(super) const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL).union(SealFlags::FUTURE_WRITE);

/// Whether this process has a death notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeState {
    /// Nobody asked for one.
    Unasked,
    /// It has one.
    Running,
    /// It was asked for, and the system refused.
    Refused,
}

/// The death notice of this process.
///
/// # Guarantees
/// - From when [`own`](Self::own) returned, the death of the process, however it comes, changes the word and wakes
///   one waiter, who wakes the others; before the memory of the process is torn down, so that its size does not
///   matter. So does an exec. A stop does not.
/// - An orderly exit (`exit`, or the return of `main`) says so, and wakes all.
/// - No peer can write the page, whatever it does with the descriptor.
///
/// # Cost
/// A thread that sleeps as long as the process lives, with 64 KiB of stack; a page; a descriptor.
///
/// ```
/// use tidewire_shm::bell::PeerState;
/// use tidewire_shm::{DeathNotice, DeathWatch};
///
/// let notice = DeathNotice::own()?;
/// // A peer does this, with a descriptor that it was sent.
/// let watch = DeathWatch::new(notice.try_clone_fd()?)?;
/// assert_eq!(watch.state(), PeerState::Alive);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DeathNotice {
    fd: OwnedFd,
    page: NonNull<Page>,
    mark: ForkMark,
}

// SAFETY: the page is accessed as atomics only.
unsafe impl Send for DeathNotice {}
// SAFETY: as above.
unsafe impl Sync for DeathNotice {}

/// The notice of this process, or of the one it is a fork of.
static OWN: AtomicPtr<DeathNotice> = AtomicPtr::new(null_mut());
/// The generation of the process in which a thread makes one just now; 0: none.
static MAKING: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
/// The generation of the process that was refused one.
static REFUSED: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
/// Whether the exit handler is registered; a fork child inherits both.
static AT_EXIT: AtomicBool = AtomicBool::new(false);

impl DeathNotice {
    /// The notice of this process; made by the first call. A fork child's first call makes the child's own.
    ///
    /// The first call also registers the process for [bells](crate::bell::BellMode::Membarrier) in membarrier mode,
    /// which takes microseconds as long as it has one thread, and milliseconds once there is a guard.
    ///
    /// # Errors
    /// [`DeathError::System`] if the system refuses a page, a seal, or the thread. A later call tries again.
    pub fn own() -> Result<&'static Self, DeathError> {
        let mark = ForkMark::here().map_err(forked)?;
        loop {
            if let Some(own) = existing(mark) {
                return Ok(own);
            }
            // ORD death.making: Acquire <- `Making::drop`; by then the notice is there, or is not.
            let making = MAKING.load(Ordering::Acquire);
            if making == mark.generation() {
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            // Another generation's number is left from a fork in the middle.
            // ORD death.making: Acquire <- `Making::drop`; Relaxed on failure, the loop looks again.
            let won = MAKING
                .compare_exchange(making, mark.generation(), Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
            if won {
                let _making = Making;
                if let Some(own) = existing(mark) {
                    return Ok(own);
                }
                return make(mark);
            }
        }
    }

    /// The descriptor that peers need to [watch](super::DeathWatch); closed when this process starts another program.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A descriptor to give away.
    ///
    /// # Errors
    /// [`DeathError::System`] if there are no more descriptors.
    pub fn try_clone_fd(&self) -> Result<OwnedFd, DeathError> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).map_err(DeathError::on("duplicate a descriptor"))
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: mapped as long as the process lives, and accessed as these atomics only.
        unsafe { &self.page.as_ref().word }
    }
}

impl AsFd for DeathNotice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl fmt::Debug for DeathNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeathNotice").field("fd", &self.fd).field("mark", &self.mark).finish_non_exhaustive()
    }
}

/// Ends the making, however it ends.
struct Making;

impl Drop for Making {
    fn drop(&mut self) {
        // ORD death.making: Release -> `DeathNotice::own`; the notice, if there is one, is stored.
        MAKING.store(0, Ordering::Release);
    }
}

fn existing(mark: ForkMark) -> Option<&'static DeathNotice> {
    // ORD death.own: Acquire <- `make`; the notice is complete.
    let own = OWN.load(Ordering::Acquire);
    // SAFETY: null, or leaked by `make`, and never changed.
    let own = unsafe { own.as_ref() };
    own.filter(|own| own.mark.generation() == mark.generation())
}

/// Whether this process has a notice.
pub(crate) fn notice_state() -> NoticeState {
    let Ok(mark) = ForkMark::here() else { return NoticeState::Refused };
    if existing(mark).is_some() {
        return NoticeState::Running;
    }
    // ORD own: Relaxed, a report.
    let refused = REFUSED.load(Ordering::Relaxed) == mark.generation();
    if refused { NoticeState::Refused } else { NoticeState::Unasked }
}

fn make(mark: ForkMark) -> Result<&'static DeathNotice, DeathError> {
    match assemble(mark) {
        Ok(notice) => {
            let notice: &'static mut DeathNotice = Box::leak(Box::new(notice));
            // ORD death.own: Release -> `existing`; the notice is complete.
            OWN.store(notice, Ordering::Release);
            Ok(notice)
        }
        Err(error) => {
            // ORD own: Relaxed, a report.
            REFUSED.store(mark.generation(), Ordering::Relaxed);
            Err(error)
        }
    }
}

fn assemble(mark: ForkMark) -> Result<DeathNotice, DeathError> {
    let (fd, page) = sealed_page()?;
    let notice = DeathNotice { fd, page, mark };
    // SAFETY: mapped for ever unless what follows fails, and accessed as these atomics only.
    let word: &'static AtomicU32 = unsafe { &page.as_ref().word };
    // Whether it can is asked again where it is needed.
    let _registered = System.register();
    let started = say_so_at_exit()
        // SAFETY: it stays mapped, now that there is a guard.
        .and_then(|()| unsafe { guard::start(word) });
    started.inspect_err(|_| unmap(page)).map(|()| notice)
}

/// A page that this process alone can write, now and for ever.
fn sealed_page() -> Result<(OwnedFd, NonNull<Page>), DeathError> {
    let len = page_size();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match memfd_create("tidewire-notice", flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know the flag.
        Err(Errno::INVAL) => memfd_create("tidewire-notice", flags),
        made => made,
    }
    .map_err(DeathError::on("create the memory of a death notice"))?;
    retry_on_intr(|| ftruncate(&fd, len as u64)).map_err(DeathError::on("size a death notice"))?;
    retry_on_intr(|| fallocate(&fd, FallocateFlags::empty(), 0, len as u64))
        .map_err(DeathError::on("reserve the memory of a death notice"))?;
    let page = map(&fd, len, ProtFlags::READ | ProtFlags::WRITE)?;
    let prepare = || {
        // SAFETY: the page was just mapped, and nobody else knows it.
        unsafe { madvise(page.as_ptr().cast(), len, Advice::LinuxDontFork) }
            .map_err(DeathError::on("keep a death notice from fork children"))?;
        // SAFETY: just mapped, and accessed as these atomics only.
        let magic = unsafe { &page.as_ref().magic };
        // ORD own: Relaxed, before the descriptor is given to anybody.
        magic.store(MAGIC.to_le(), Ordering::Relaxed);
        fcntl_add_seals(&fd, SEALS).map_err(DeathError::on("seal a death notice"))
    };
    match prepare() {
        Ok(()) => Ok((fd, page)),
        Err(error) => {
            unmap(page);
            Err(error)
        }
    }
}

pub(super) fn map(fd: &OwnedFd, len: usize, protection: ProtFlags) -> Result<NonNull<Page>, DeathError> {
    // SAFETY: the kernel chooses where; no memory that is in use changes.
    let page = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED, fd, 0) }
        .map_err(DeathError::on("map a death notice"))?;
    NonNull::new(page.cast()).ok_or_else(|| DeathError::on("map a death notice")(Errno::NOMEM))
}

pub(super) fn unmap(page: NonNull<Page>) {
    // SAFETY: from `map`, and the caller gives it up.
    let _unmapped = unsafe { munmap(page.as_ptr().cast(), page_size()) };
}

fn forked(error: SegmentError) -> DeathError {
    DeathError::System { operation: "tell fork children apart", source: std::io::Error::other(error) }
}

fn say_so_at_exit() -> Result<(), DeathError> {
    // ORD own: Relaxed, one thread gets here at a time.
    if AT_EXIT.load(Ordering::Relaxed) {
        return Ok(());
    }
    // SAFETY: the handler lives as long as the program, and unwinds never.
    if unsafe { libc::atexit(detach) } != 0 {
        return Err(DeathError::on("register what is said at exit")(Errno::NOMEM));
    }
    // ORD own: Relaxed, as above.
    AT_EXIT.store(true, Ordering::Relaxed);
    Ok(())
}

/// Runs when the process exits in order.
extern "C" fn detach() {
    let Ok(mark) = ForkMark::here() else { return };
    // A fork child that has made none has its parent's here, but not its page.
    if let Some(own) = existing(mark) {
        // ORD death.detach: Release -> `DeathWatch::state`; what this thread did comes before it.
        own.word().store(DETACHED, Ordering::Release);
        System.wake(Place::Word(own.word()));
    }
}
