//! The peers' side: looking, and waiting for data and death together.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::ptr::NonNull;
use core::time::Duration;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::mm::ProtFlags;
use rustix::param::page_size;
use rustix::thread::futex::{self, Wait, WaitFlags, WaitPtr, WaitvFlags};
use rustix::time::ClockId;

use super::notice::{SEALS, map, unmap};
use super::{DeathError, MAGIC, Page, state_of};
use crate::bell::{
    Attendance, Deadline, Kernel, Nap, PeerState, Place, Sleeper, System, UNWATCHED_SLICE, Waiter, Watch,
    Woken, nap, timespec,
};
use crate::sync::{AtomicU32, Ordering, fence};
use crate::trust::Trust;

/// How many notices one wait can sleep on; those beyond are looked at after each [`UNWATCHED_SLICE`].
pub const WATCHES_MAX: usize = 32;

/// The death notice of a peer.
///
/// # Guarantees
/// The page is mapped read-only, and its size cannot change: looking at it never fails, and whatever its owner
/// writes into it costs this process nothing but a look at the owner's lease.
pub struct DeathWatch {
    page: NonNull<Page>,
    /// Of the page's memory: the device, and the inode there.
    pub(super) memory: (u64, u64),
    /// 1: this watch has woken the others.
    passed_on: AtomicU32,
}

// SAFETY: the page is only loaded from, as atomics.
unsafe impl Send for DeathWatch {}
// SAFETY: as above.
unsafe impl Sync for DeathWatch {}

impl DeathWatch {
    /// Maps a peer's notice, after a look at what the descriptor is. The descriptor is closed.
    ///
    /// # Errors
    /// [`DeathError::NotANotice`] if it is not a page that is sealed as a notice is, with the magic of one;
    /// [`DeathError::System`] if it cannot be mapped.
    pub fn new(fd: OwnedFd) -> Result<Self, DeathError> {
        let memory = verify(&fd)?;
        let page = map(&fd, page_size(), ProtFlags::READ)?;
        let watch = Self { page, memory, passed_on: AtomicU32::new(0) };
        // ORD own: Relaxed, written before the owner sealed it.
        let found = u64::from_le(watch.page().magic.load(Ordering::Relaxed));
        if found == MAGIC {
            return Ok(watch);
        }
        Err(wrong("magic", format!("{MAGIC:#018x}"), format!("{found:#018x}")))
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped as long as the watch lives, and only loaded from, as these atomics.
        unsafe { self.page.as_ref() }
    }

    pub(super) fn word(&self) -> &AtomicU32 {
        &self.page().word
    }

    /// What the notice says. One load.
    #[inline]
    #[must_use]
    pub fn state(&self) -> PeerState {
        // ORD death.alive: Relaxed, since a load from a read-only mapping must be; the fence below acquires.
        let word = self.word().load(Ordering::Relaxed);
        // ORD death.alive: Acquire <- `register`, `detach`, and the kernel; what the peer published before it went is
        // there to be found.
        fence(Ordering::Acquire);
        state_of(word)
    }

    /// Whether the notice says that the peer died. One load; a hint: its lease is the proof.
    ///
    /// The kernel wakes one of those who sleep on a notice; the first look that finds the peer dead wakes the others, by a
    /// system call.
    #[inline]
    #[must_use]
    pub fn is_dead_hint(&self) -> bool {
        self.state() == PeerState::Dead && self.gone().is_some()
    }

    /// Sleeps while the word at `place` is `expected` and the peer is there, but not longer than `timeout`. May
    /// return early.
    ///
    /// Where the kernel cannot wait for two words, it returns after [`UNWATCHED_SLICE`] at the latest.
    #[must_use]
    pub fn wait_with(&self, place: Place<'_>, expected: u32, timeout: Duration) -> WaitedWith {
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let watches = [self];
        let nap = Watched(&watches).sleep(&System, place, expected, timeout_ns);
        if let Some(state) = self.gone() {
            return WaitedWith::PeerGone(state);
        }
        match nap {
            Nap::TimedOut => WaitedWith::TimedOut,
            Nap::Woken | Nap::Changed => WaitedWith::Word,
        }
    }

    /// How the peer is gone, if it is; then makes sure that all others who wait for that know it too.
    fn gone(&self) -> Option<PeerState> {
        // Looked at once: whose word it is may write anything into it at any time.
        let state = self.state();
        if !state.is_gone() {
            return None;
        }
        // ORD own: Relaxed, to do it once; twice would do no harm.
        if self.passed_on.swap(1, Ordering::Relaxed) == 0 {
            System.wake(Place::Word(self.word()));
        }
        Some(state)
    }
}

/// How a [wait](DeathWatch::wait_with) for a word and a peer's death ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitedWith {
    /// The word changed, or somebody woke its waiters, or a signal came: look.
    Word,
    /// The notice says that the peer is gone.
    PeerGone(PeerState),
    /// The time is over.
    TimedOut,
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        unmap(self.page);
    }
}

impl fmt::Debug for DeathWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeathWatch").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Sleeper<System> {
    /// [`wait`](Self::wait) that ends also when one of the watched peers goes. What it published before is found
    /// first.
    ///
    /// The notices are hints: whoever is told [`Woken::PeerGone`] asks the lease next. One that is about to end in order
    /// ([`PeerState::Detached`]) may hold its lease for some time yet: whoever then waits again leaves its watch out, or
    /// the wait returns at once.
    pub fn wait_watching(
        &mut self,
        mut ready: impl FnMut() -> bool,
        deadline: Deadline,
        peers: &[&DeathWatch],
    ) -> Woken {
        self.wait_while_watching(&mut ready, deadline, &Watched(peers))
    }
}

impl Waiter<System> {
    /// [`wait`](Self::wait) that ends also when one of the watched peers goes; as
    /// [`Sleeper::wait_watching`].
    pub fn wait_watching(
        &mut self,
        mut ready: impl FnMut() -> bool,
        deadline: Deadline,
        peers: &[&DeathWatch],
    ) -> Woken {
        self.wait_while_watching(&mut ready, deadline, &Watched(peers))
    }
}

impl<L: Trust> Attendance<System, L> {
    /// [`wait`](Self::wait) that ends also when one of the watched peers goes; as
    /// [`Sleeper::wait_watching`].
    pub fn wait_watching(
        &mut self,
        mut ready: impl FnMut() -> bool,
        deadline: Deadline,
        peers: &[&DeathWatch],
    ) -> Woken {
        self.wait_while_watching(&mut ready, deadline, &Watched(peers))
    }
}

struct Watched<'a>(&'a [&'a DeathWatch]);

impl Watch<System> for Watched<'_> {
    fn gone(&self) -> Option<(usize, PeerState)> {
        self.0.iter().enumerate().find_map(|(index, watch)| Some((index, watch.gone()?)))
    }

    fn sleep(&self, kernel: &System, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        let unwatched_ns = u64::try_from(UNWATCHED_SLICE.as_nanos()).unwrap_or(u64::MAX);
        if self.0.is_empty() {
            return kernel.sleep(place, expected, timeout_ns);
        }
        if !can_wait_for_several() {
            return kernel.sleep(place, expected, timeout_ns.min(unwatched_ns));
        }
        let mut waits = [Wait::new(); WATCHES_MAX + 1];
        let mut used = 0;
        for (wait, watch) in waits.iter_mut().skip(1).zip(self.0) {
            // ORD own: Relaxed, only compared; `gone` loads it again.
            let value = watch.word().load(Ordering::Relaxed);
            if state_of(value).is_gone() {
                return Nap::Changed;
            }
            *wait = waiting(watch.word().as_ptr(), value);
            used += 1;
        }
        if let Some(first) = waits.first_mut() {
            *first = waiting(place.as_ptr(), expected);
        }
        let waits = waits.get(..=used).unwrap_or(&waits);
        let most_ns = if self.0.len() > WATCHES_MAX { unwatched_ns } else { u64::MAX };
        let until = timespec(kernel.now_ns().saturating_add(timeout_ns.min(most_ns)));
        nap(futex::waitv(waits, WaitvFlags::empty(), Some(&until), ClockId::Monotonic).map(drop))
    }
}

fn waiting(word: *mut u32, value: u32) -> Wait {
    let mut wait = Wait::new();
    wait.uaddr = WaitPtr::new(word.cast());
    wait.val = value.into();
    wait.flags = WaitFlags::SIZE_U32;
    wait
}

/// Whether the kernel can wait for several words at a time. Asked once per process.
pub(crate) fn can_wait_for_several() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        // No words: a kernel that knows the call finds fault with that.
        let answer = futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic);
        answer == Err(Errno::INVAL)
    })
}

pub(super) fn wrong(what: &'static str, expected: String, found: String) -> DeathError {
    DeathError::NotANotice { what, expected, found }
}

/// Tells the memory of a notice from all other: device and inode.
fn verify(fd: &OwnedFd) -> Result<(u64, u64), DeathError> {
    let found = match fcntl_get_seals(fd) {
        Ok(found) => found,
        Err(Errno::INVAL) => SealFlags::empty(),
        Err(errno) => return Err(DeathError::on("read the seals")(errno)),
    };
    if !found.contains(SEALS) {
        return Err(wrong("seals", format!("{:#x}", SEALS.bits()), format!("{:#x}", found.bits())));
    }
    let stat = fstat(fd).map_err(DeathError::on("inspect the descriptor"))?;
    let page = page_size();
    if usize::try_from(stat.st_size) != Ok(page) {
        return Err(wrong("bytes", page.to_string(), stat.st_size.to_string()));
    }
    Ok((stat.st_dev, stat.st_ino))
}
