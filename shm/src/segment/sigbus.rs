//! The guard against SIGBUS: a file that a peer shortened costs its contents, not the process.
//!
//! The pages behind the new end of a shortened file are gone, and an access to them is a SIGBUS. The handler puts
//! zero pages of this process in their place, marks the mapping as lost, and lets the access run again. It is for
//! named segments; the size of an anonymous one is sealed.
//!
//! # Memory layout
//! All of it is private to the process; a fork child starts with a copy, which is true of its mappings too.
//! ```text
//! SLOTS[0..CAPACITY]   state: generation << 8 | LOST | READ_ONLY | FREE, BUSY or LIVE
//!                      owner: the `Mapped` that the slot is of
//!                      start, end: the mapping     lost_from: where the zero pages begin; `end`: there are none
//! FORMER               what the program did with SIGBUS before
//! ```
//!
//! # Protocol
//! | state | who may leave it | next states |
//! |---|---|---|
//! | FREE | who registers a mapping, by CAS | BUSY of the next generation |
//! | BUSY | the same | LIVE |
//! | LIVE | the handler, by CAS | LIVE and LOST |
//! | LIVE | the drop of the mapping, before it is unmapped | FREE |
//!
//! # Invariants
//! - I1 A LIVE slot is of a mapping that exists: it is registered after it was mapped, and freed before it is unmapped.
//! - I2 Whoever reads one generation of LIVE before and after the other words has the words of that mapping.
//! - I3 A thread that accesses a mapping keeps it alive by a region, so while its handler runs, I1 holds on.
//! - I4 LOST is set before the first zero page is there.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | what it hands over |
//! |---|---|---|---|
//! | sigbus.slot | `register` | `Slot::read` | owner, start, end |
//! | sigbus.reuse | `Slot::free` | `Slot::reserve` | the slot, to the next mapping |
//! | sigbus.busy | fence in `Slot::fill` | fence in `Slot::read` | that the words are changing |
//! | sigbus.lost | CAS in `Slot::mark_lost` | fence in `is_lost` | the mark, before any zero |
//! | sigbus.zero | `Slot::replace` | `Slot::replace`, in another thread | zero pages are there |
//! | sigbus.former | `install` | `pass_on` | the former action |
//!
//! # Crash argument
//! Nothing here is shared with other processes: killed anywhere, the others see nothing of it.
//!
//! # Not guaranteed
//! - If two threads meet the loss of one mapping at the same moment, what one stores into the zero pages may be
//!   zeroed again by the other.
//! - A thread that has SIGBUS blocked is killed by the kernel, as ever.

use alloc::boxed::Box;
use core::ffi::{c_int, c_void};
use core::mem::{MaybeUninit, transmute};
use core::ptr::{from_ref, null_mut, without_provenance_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::fstatfs;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::param::page_size;

use super::Segment;
use super::map::{Access, Mapped};

/// How many mappings can be guarded at a time.
const CAPACITY: usize = 1024;

const FREE: u64 = 0;
const BUSY: u64 = 1;
const LIVE: u64 = 2;
const PHASE: u64 = 3;
const READ_ONLY: u64 = 4;
const LOST: u64 = 8;
const GENERATION: u64 = 1 << 8;

/// The pages of these files can only be replaced as a whole.
const HUGETLBFS: u32 = 0x9584_58f6;

#[derive(Debug)]
struct Slot {
    state: AtomicU64,
    owner: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    lost_from: AtomicUsize,
}

/// What a LIVE slot says.
#[derive(Clone, Copy, Debug)]
struct Entry {
    state: u64,
    owner: usize,
    start: usize,
    end: usize,
}

static SLOTS: [Slot; CAPACITY] = [const {
    Slot {
        state: AtomicU64::new(FREE),
        owner: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        lost_from: AtomicUsize::new(0),
    }
}; CAPACITY];
/// No slot from here on was ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
static PAGE: AtomicUsize = AtomicUsize::new(0);
static FORMER: AtomicPtr<libc::sigaction> = AtomicPtr::new(null_mut());
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Lets this process survive that a named segment's file is shortened while it has it mapped.
///
/// An access behind the new end of the file is a SIGBUS, which kills the process. From this call on, where the access is
/// to a named [`Segment`], the rest of its mapping is replaced by zero pages of this process's own, the mapping is marked
/// as [lost](Segment::is_lost), and the access runs again. It does not matter whether the segment was mapped before
/// the call or after it. Any other SIGBUS goes on to what the program did with it before: a handler of either kind runs
/// with its own mask and flags, and without one the process dies as it would have.
///
/// [Anonymous](Segment::anonymous) segments need no guard: nobody can shorten sealed memory.
///
/// # Guarantees
/// - Once per process: a second call does nothing, also if the program installed another handler since.
/// - A mapping is marked before the first zero can be read: what was read from the segment before
///   [`is_lost`](Segment::is_lost) answered `false` came from the segment.
/// - Up to 1024 mappings, each from when the segment was created, opened or joined until it is unmapped.
///   [`Segment::is_guarded`] tells.
///
/// # What a loss looks like
/// The bytes from the page of the access to the end of the mapping read as zero, and what is stored there stays in this
/// process. Pages before it are still shared if the file still has them. Structures see this as a peer that writes
/// zeros:
/// - a position whose zero is impossible for the handle is latched as `Corrupt` at the next look at it: a ring's
///   consumer that has popped anything meets that, and its producer once it has pushed more than the capacity;
/// - one whose zero is possible makes the structure look empty, or full, from then on;
/// - payload that was lost while the positions were not reads as zero bytes, in messages that look whole.
///
/// So the guard saves the process, and the mark saves the meaning: whoever guards asks [`Segment::is_lost`] after
/// a message was read and before it is believed, and at each timeout of a wait, and from the first `true` on treats the
/// structure as `Corrupt`: drops its handles and opens the segment anew. A wait on a lost bell ends by its timeout only.
///
/// # Not guaranteed
/// - Threads that have SIGBUS blocked are killed by the kernel all the same, and a mapping that the kernel has no
///   memory to replace is not saved.
/// - A file that was shortened and made long again before the lost part was accessed has zeros of its own there: that is
///   no SIGBUS, and no loss is seen. Nor is it where the new end lies within a page: the rest of that page reads as zero, and
///   what is stored there is shared with others until the page goes. Nor where a hole was punched into the file: its pages
///   read as zero, too, and take their room anew; only where there is none left is that a SIGBUS, and then it is a loss.
/// - Failures of the memory itself (`BUS_MCEERR_AR`) go to the former handler.
/// - A program that ignored SIGBUS has a handler now: system calls that no `SA_RESTART` restarts (`nanosleep`, `poll`, waits
///   with a timeout) end with `EINTR` where somebody sends it one, and programs that it starts do not ignore SIGBUS.
/// - If another thread installs a handler of its own at the same moment, just before, that is the former one as soon as this
///   call returns. A SIGBUS in between may go to the one before that, whose mask and flags it may also run with.
/// - System calls that are given a lost address fail with `EFAULT`.
/// - A handler that is installed later gets the signal first; it must pass on what is not its own.
///
/// # Errors
/// The system's, if it refuses to change the action.
///
/// # Examples
/// ```
/// use tidewire_shm::{Segment, SegmentOptions, guard_sigbus};
///
/// guard_sigbus()?;
/// let place = tempfile::tempdir()?;
/// let options = SegmentOptions::new().directory(place.path().join("segments"));
/// let ticks = Segment::create_with("ticks", 4096, &options, |_| Ok(()))?;
/// let region = ticks.region();
/// assert!(ticks.is_guarded() && !ticks.is_lost());
/// # drop(region);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn guard_sigbus() -> io::Result<()> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*installed {
        // ORD own: Relaxed, before the handler is installed.
        PAGE.store(page_size(), Ordering::Relaxed);
        install(exchange)?;
        *installed = true;
    }
    Ok(())
}

/// Whether [`guard_sigbus`] was called.
pub(super) fn is_installed() -> bool {
    *INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    /// Whether the file was shortened and zero pages took the place of some of the memory.
    ///
    /// # Guarantees
    /// `false`: what this thread read from the segment before the call came from the segment. It is always `false`
    /// without [`guard_sigbus`], without a [guarded](Self::is_guarded) mapping, and until the lost part is accessed.
    /// `true` stays: open the segment anew. No system call.
    ///
    /// # Examples
    /// ```
    /// assert!(!tidewire_shm::Segment::anonymous(4096)?.is_lost());
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn is_lost(&self) -> bool {
        // ORD sigbus.lost: Acquire <- `Slot::mark_lost`; whoever read a zero finds the mark.
        fence(Ordering::Acquire);
        self.entries().any(|entry| entry.state & LOST != 0)
    }

    /// Whether the guard knows this mapping: that of a named segment, if there was room among 1024 when it was opened
    /// and it is neither shorter than 8 bytes nor on a file system of huge pages.
    ///
    /// It says nothing about [`guard_sigbus`], which can follow.
    ///
    /// # Examples
    /// ```
    /// assert!(!tidewire_shm::Segment::anonymous(4096)?.is_guarded(), "sealed memory needs no guard");
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.entries().next().is_some()
    }

    /// Makes the mapping known to the guard. To be called once, for a segment with a name.
    pub(super) fn register(&self) {
        let region = self.mapping.region(self.origin);
        let Some(mapped) = region.kept::<Mapped>() else {
            return;
        };
        if region.len() < size_of::<u64>() || is_hugetlb(&self.fd) {
            return;
        }
        // SAFETY: in bounds, as just checked; nothing is accessed through it, only its address is taken.
        let first = unsafe { region.atomic_u64(0) };
        let start = first.as_ptr().addr();
        let end = start + region.len().next_multiple_of(page_size());
        let flags = if self.access == Access::ReadOnly { READ_ONLY } else { 0 };
        if let Some((slot, generation)) = reserve() {
            slot.fill(generation | LIVE | flags, from_ref(mapped).addr(), start, end);
        }
    }

    /// What the guard knows of this mapping: one entry, or none.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let region = self.named.is_some().then(|| self.mapping.region(self.origin));
        let owner =
            region.as_ref().and_then(|region| region.kept::<Mapped>()).map(|mapped| from_ref(mapped).addr());
        used().filter_map(Slot::read).filter(move |entry| Some(entry.owner) == owner)
    }
}

/// Runs before the fields are dropped, so before the memory is unmapped (I1).
impl Drop for Mapped {
    fn drop(&mut self) {
        let owner = from_ref(self).addr();
        for slot in used() {
            if slot.read().is_some_and(|entry| entry.owner == owner) {
                slot.free();
            }
        }
    }
}

fn is_hugetlb(fd: &OwnedFd) -> bool {
    // The field is signed on some targets and wider on others; magic numbers are 32 bits everywhere.
    #[expect(clippy::cast_possible_truncation, reason = "see above")]
    fstatfs(fd).is_ok_and(|system| system.f_type as u32 == HUGETLBFS)
}

fn used() -> impl Iterator<Item = &'static Slot> {
    // ORD own: Relaxed, a mapping's own slot was counted by the thread that made it known.
    SLOTS.iter().take(USED.load(Ordering::Relaxed))
}

fn reserve() -> Option<(&'static Slot, u64)> {
    SLOTS.iter().enumerate().find_map(|(index, slot)| {
        let generation = slot.reserve()?;
        // ORD own: Relaxed, the handler looks for the mapping of its own thread.
        USED.fetch_max(index + 1, Ordering::Relaxed);
        Some((slot, generation))
    })
}

impl Slot {
    /// Takes a free slot for the next generation.
    fn reserve(&self) -> Option<u64> {
        // ORD own: Relaxed, a hint.
        let state = self.state.load(Ordering::Relaxed);
        if state & PHASE != FREE {
            return None;
        }
        let next = (state & !(GENERATION - 1)).wrapping_add(GENERATION);
        // ORD sigbus.reuse: Acquire <- `Slot::free`; the former mapping is done with the slot.
        // ORD own: Relaxed, a failure tells nothing.
        let taken = self.state.compare_exchange(state, next | BUSY, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok().then_some(next)
    }

    fn fill(&self, live: u64, owner: usize, start: usize, end: usize) {
        // ORD sigbus.busy: Release -> `Slot::read`; whoever sees a word below sees BUSY, or what follows it.
        fence(Ordering::Release);
        // ORD own: Relaxed, between the fence and the store.
        self.owner.store(owner, Ordering::Relaxed);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.lost_from.store(end, Ordering::Relaxed);
        // ORD sigbus.slot: Release -> `Slot::read`; the words of this generation.
        self.state.store(live, Ordering::Release);
    }

    fn free(&self) {
        // ORD own: Relaxed, the handler that could add a mark needs the mapping, which is going away.
        let generation = self.state.load(Ordering::Relaxed) & !(GENERATION - 1);
        // ORD sigbus.reuse: Release -> `Slot::reserve`; nobody looks for this mapping any more.
        self.state.store(generation | FREE, Ordering::Release);
    }

    /// The words of one generation (I2). `None`: free, or just changing.
    fn read(&self) -> Option<Entry> {
        // ORD sigbus.slot: Acquire <- `Slot::fill`; the words of this generation.
        let state = self.state.load(Ordering::Acquire);
        if state & PHASE != LIVE {
            return None;
        }
        // ORD own: Relaxed, the state is compared behind the fence.
        let owner = self.owner.load(Ordering::Relaxed);
        let start = self.start.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        // ORD sigbus.busy: Acquire <- `Slot::fill`; if a word above is newer, so is the state below.
        fence(Ordering::Acquire);
        // ORD own: Relaxed, behind the fence.
        let again = self.state.load(Ordering::Relaxed);
        // The mark may have come in between.
        ((again ^ state) & !LOST == 0).then_some(Entry { state: again, owner, start, end })
    }

    /// Marks the mapping of the entry as lost. `false`: the slot is another's by now.
    fn mark_lost(&self, entry: Entry) -> bool {
        let unmarked = entry.state & !LOST;
        // ORD sigbus.lost: Release -> `Segment::is_lost`; before the zero pages (I4). The kernel orders them behind it.
        // ORD own: Relaxed, a failure hands nothing over.
        match self.state.compare_exchange(unmarked, unmarked | LOST, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => true,
            Err(found) => found == unmarked | LOST,
        }
    }

    /// Puts zero pages from the page of `address` to the end. `false`: nothing was done. Called by the handler.
    fn replace(&self, entry: Entry, address: usize) -> bool {
        if !self.mark_lost(entry) {
            return false;
        }
        // ORD own: Relaxed, stored before the handler was installed.
        let page = PAGE.load(Ordering::Relaxed);
        let from = address - address % page.max(1);
        // ORD sigbus.zero: Acquire <- the minimum below, in another thread; zero pages are there.
        let until = self.lost_from.load(Ordering::Acquire).min(entry.end);
        if from >= until {
            // Another thread was faster.
            return true;
        }
        let protection =
            if entry.state & READ_ONLY == 0 { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let place = without_provenance_mut::<c_void>(from);
        // SAFETY: the range lies in a mapping that this thread keeps alive (I1, I3) and whose bytes any process may
        // change at any time, to zero too; it stays mapped with the same protection.
        let mapped = unsafe { mmap_anonymous(place, until - from, protection, flags) };
        if mapped.is_ok() {
            // ORD sigbus.zero: Release -> the load above, in another thread; zero pages are there.
            self.lost_from.fetch_min(from, Ordering::Release);
        }
        mapped.is_ok()
    }
}

type Plain = extern "C" fn(c_int);
type Informed = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Puts the handler before what is there, by one exchange: what another thread installs before it is the former action,
/// and what it installs afterwards stays, and has ours as its own former one. To exchange again would make the two call
/// each other for ever.
///
/// `exchange` sets the action, if there is one to set, and returns the one before.
fn install(
    mut exchange: impl FnMut(Option<&libc::sigaction>) -> io::Result<libc::sigaction>,
) -> io::Result<()> {
    let remember = |former| {
        // ORD sigbus.former: Release -> `pass_on`; the action is written. Never freed: a handler may be using it.
        FORMER.store(Box::into_raw(Box::new(former)), Ordering::Release);
    };
    let former = exchange(None)?;
    remember(former);
    let replaced = exchange(Some(&ours(&former)))?;
    if !is_ours(&replaced) && !same(&replaced, &former) {
        remember(replaced);
    }
    Ok(())
}

/// Our action, which is run with the mask and the flags of the former one, so that it can be passed on as it is.
fn ours(former: &libc::sigaction) -> libc::sigaction {
    let kept = libc::SA_NODEFER | libc::SA_RESTART | libc::SA_ONSTACK;
    let flags = match former.sa_sigaction {
        libc::SIG_DFL => libc::SA_ONSTACK,
        // A signal that is ignored ends no system call.
        libc::SIG_IGN => libc::SA_ONSTACK | libc::SA_RESTART,
        _ => former.sa_flags & kept,
    };
    let handler: Informed = on_sigbus;
    libc::sigaction { sa_sigaction: handler as usize, sa_flags: libc::SA_SIGINFO | flags, ..*former }
}

fn is_ours(action: &libc::sigaction) -> bool {
    let handler: Informed = on_sigbus;
    action.sa_sigaction == handler as usize
}

fn same(one: &libc::sigaction, other: &libc::sigaction) -> bool {
    (one.sa_sigaction, one.sa_flags) == (other.sa_sigaction, other.sa_flags)
}

/// Sets the action, if there is one to set, and returns the one before.
fn exchange(action: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut former = MaybeUninit::<libc::sigaction>::zeroed();
    let new = action.map_or(core::ptr::null(), from_ref);
    // SAFETY: null or a whole action, and room for another; the handlers in use stay valid for ever.
    let answer = unsafe { libc::sigaction(libc::SIGBUS, new, former.as_mut_ptr()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call filled it.
    Ok(unsafe { former.assume_init() })
}

/// The handler: only loads, stores and system calls that are safe in one.
extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a whole record, which nobody else knows.
    let record = unsafe { &*info };
    let code = record.si_code;
    if code == libc::BUS_ADRERR {
        // SAFETY: with this code the record has an address.
        let address = unsafe { record.si_addr() }.addr();
        // SAFETY: a pointer to this thread's own number, for ever.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above.
        let before = unsafe { *errno };
        let replaced = used()
            .filter_map(|slot| slot.read().map(|entry| (slot, entry)))
            .find(|(_, entry)| (entry.start..entry.end).contains(&address))
            .is_some_and(|(slot, entry)| slot.replace(entry, address));
        // SAFETY: as above.
        unsafe { *errno = before };
        if replaced {
            return;
        }
    }
    pass_on(signal, code, info, context);
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // ORD sigbus.former: Acquire <- `install`; the action is written.
    let former = FORMER.load(Ordering::Acquire);
    // SAFETY: null, or an action that is never freed or changed.
    let former = unsafe { former.as_ref() };
    let (handler, flags) = former.map_or((libc::SIG_DFL, 0), |former| (former.sa_sigaction, former.sa_flags));
    // Zero and below: another process, or this one, sent it. So does the kernel where memory is known to be broken that
    // nobody has touched yet.
    let sent = code <= 0 || code == libc::BUS_MCEERR_AO;
    match handler {
        libc::SIG_IGN if sent => {}
        // The kernel does not ignore faults.
        libc::SIG_DFL | libc::SIG_IGN => die(signal, sent),
        handler => {
            if flags & libc::SA_RESETHAND != 0 {
                // ORD own: Relaxed, null is the default action and hands nothing over.
                FORMER.store(null_mut(), Ordering::Relaxed);
            }
            if flags & libc::SA_SIGINFO != 0 {
                // SAFETY: the program installed it as a handler with these parameters.
                let handler = unsafe { transmute::<usize, Informed>(handler) };
                handler(signal, info, context);
            } else {
                // SAFETY: the program installed it as a handler with this parameter.
                let handler = unsafe { transmute::<usize, Plain>(handler) };
                handler(signal);
            }
            stay();
        }
    }
}

/// A handler that gave up its place, as that of the standard library does when it is asked about what is not its own,
/// took ours: what it put there is the former one from now on, and the guard stays.
fn stay() {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: room for an action. Safe in a handler.
    let asked = unsafe { libc::sigaction(libc::SIGBUS, core::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: zeroes are an action, too.
    let now = unsafe { now.assume_init() };
    let former = match now.sa_sigaction {
        _ if asked != 0 => return,
        libc::SIG_DFL => null_mut(),
        libc::SIG_IGN => (&raw const IGNORE).cast_mut(),
        // A handler of the program's.
        _ => return,
    };
    // ORD own: Relaxed, null is the default action, the other one is a constant: neither hands anything over.
    FORMER.store(former, Ordering::Relaxed);
    let action = ours(&now);
    // SAFETY: a whole action; the former is known. Safe in a handler.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, null_mut()) };
}

/// The action that ignores the signal. Only read.
static IGNORE: libc::sigaction = {
    // SAFETY: all zero is a valid action: the default one, with an empty mask and no flags.
    let default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    libc::sigaction { sa_sigaction: libc::SIG_IGN, ..default }
};

/// The default action: the process dies when the handler returns, of the access that runs again or of the signal.
fn die(signal: c_int, sent: bool) {
    // SAFETY: all zero is a valid action: the default one, with an empty mask and no flags.
    let default: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a whole action; the former is not asked for. Safe in a handler.
    unsafe { libc::sigaction(signal, &raw const default, null_mut()) };
    if sent {
        // SAFETY: no memory is involved. Safe in a handler.
        unsafe { libc::raise(signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::{FORMER, exchange, install, is_ours, ours};
    use core::ffi::c_int;
    use core::sync::atomic::Ordering;
    use std::sync::{Mutex, PoisonError};

    /// The former action is one for the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    extern "C" fn one(_signal: c_int) {}
    extern "C" fn other(_signal: c_int) {}

    fn action(handler: extern "C" fn(c_int)) -> libc::sigaction {
        libc::sigaction { sa_sigaction: handler as usize, ..exchange(None).unwrap() }
    }

    fn former() -> usize {
        // SAFETY: null, or never freed or changed.
        unsafe { FORMER.load(Ordering::Acquire).as_ref() }.map_or(0, |former| former.sa_sigaction)
    }

    /// Installs on a kernel of its own, where `meanwhile` may do something before the call with a number.
    fn install_on(mut meanwhile: impl FnMut(usize, &mut libc::sigaction)) -> libc::sigaction {
        let mut kernel = action(one);
        let mut calls = 0;
        install(|new| {
            meanwhile(calls, &mut kernel);
            calls += 1;
            let before = kernel;
            kernel = new.copied().unwrap_or(kernel);
            Ok(before)
        })
        .unwrap();
        meanwhile(calls, &mut kernel);
        kernel
    }

    #[test]
    fn a_handler_that_comes_at_the_same_moment_is_before_or_behind_the_guard_never_both() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut came = 0;
        for moment in 0..6 {
            let mut before = None;
            let there = install_on(|call, kernel| {
                if call == moment {
                    before = Some(*kernel);
                    *kernel = action(other);
                }
            });
            let Some(before) = before else { continue };
            came += 1;
            // The other one is in place, and has ours behind it; or ours is, and has the other one behind it.
            let other = action(other).sa_sigaction;
            if is_ours(&there) {
                assert_eq!((former(), before.sa_sigaction), (other, action(one).sa_sigaction), "{moment}");
            } else {
                assert!(there.sa_sigaction == other && is_ours(&before), "{moment}");
                assert_eq!(former(), action(one).sa_sigaction, "{moment}: they call each other for ever");
            }
        }
        assert!(came >= 3, "nothing came in between");
    }

    #[test]
    fn a_second_handler_between_two_exchanges_is_not_called_in_a_circle() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // One comes before the exchange, another right behind it.
        let mut behind = None;
        let there = install_on(|call, kernel| match call {
            1 => *kernel = action(other),
            2 => behind = Some(core::mem::replace(kernel, action(one))),
            _ => {}
        });
        assert_eq!(there.sa_sigaction, action(one).sa_sigaction);
        assert!(behind.is_some_and(|behind| is_ours(&behind)));
        assert_eq!(former(), action(other).sa_sigaction);
    }

    #[test]
    fn ignoring_restarts_system_calls() {
        let ignoring = libc::sigaction { sa_sigaction: libc::SIG_IGN, ..exchange(None).unwrap() };
        assert_ne!(ours(&ignoring).sa_flags & libc::SA_RESTART, 0);
    }
}
