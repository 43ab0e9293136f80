//! The processes around one cell: writers, readers, and what they tell their parent.
//!
//! The cell lies in a segment that is mapped twice: writable, and for reading only. A reader gives the writable mapping
//! up before it begins: whatever it stored would kill it. The board, on which each process has a seat of its own, is a
//! mapping beside the cell.
//!
//! A value has the tag `salt << 40 | version`: the version that it is, and who wrote it. The first value after a damage
//! has the version 0 in its tag, since nobody knows the real one before it is written.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{CpuSet, sched_setaffinity};
use tidewire_shm::{Segment, SegmentLeases, SegmentOptions};

use super::rig::{Found, Rig, Written};

/// The most processes of a kind.
pub(crate) const SEATS: usize = 4;
/// The part of a tag that is the version.
const VERSION: u64 = (1 << 40) - 1;
/// Reads between two looks at the orders.
const BATCH: u64 = 256;
/// Such looks between two times that a reader without a processor of its own gives way.
const YIELD: u64 = 32;
/// Memory file systems have unnamed files, and keep them out of the way.
const MEMORY: &str = "/dev/shm";

/// The memory of a cell.
pub(crate) struct Ground {
    /// Gone in readers.
    whole: RefCell<Option<Segment>>,
    look: Segment,
}

impl Ground {
    /// A new cell. Nothing of it has a name any more when this returns.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new<R: Rig>() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("tidewire-cells-").tempdir_in(MEMORY)?;
        let options = SegmentOptions::new().directory(home.path().join("segments"));
        let whole =
            Segment::create_with("cell", R::bytes(), &options, |region| Ok(R::create(region).map(drop)?))?;
        let look = Segment::open_read_only_with("cell", &options)?;
        Ok(Self { whole: RefCell::new(Some(whole)), look })
    }

    /// The cell, for those who write.
    ///
    /// # Errors
    /// Whatever is wrong with the cell, or that this process gave the right to write up.
    pub(crate) fn open<R: Rig>(&self) -> Result<R::Cell> {
        let region = self.whole.borrow().as_ref().map(Segment::region);
        Ok(R::open(region.context("expected memory that may be written")?)?)
    }

    /// The leases of the cell's roles.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn leases(&self) -> Result<SegmentLeases> {
        Ok(self.look.leases()?)
    }

    /// Ends this process's mapping that may be written: what it stores into the cell from here on kills it.
    fn give_up(&self) {
        *self.whole.borrow_mut() = None;
    }

    /// A reader on the mapping that may only be read.
    ///
    /// # Errors
    /// Whatever is wrong with the cell.
    pub(crate) fn reader<R: Rig>(&self) -> Result<R::Reader> {
        Ok(R::reader(&R::open(self.look.region())?))
    }
}

/// What one process tells the parent.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct Seat {
    /// Set when the process has begun.
    pub(crate) begun: AtomicU64,
    /// What it has done: values read, or written.
    pub(crate) count: AtomicU64,
    /// The version that it read or wrote last.
    pub(crate) version: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// What was wrong, and two numbers about it.
    pub(crate) fault: AtomicU64,
    pub(crate) about: [AtomicU64; 2],
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Fault {
    /// A value that nobody wrote: its tag, or zero; its version.
    Torn = 1,
    /// A version that went back, and the one before it.
    Back = 2,
    /// A version before one that was acknowledged.
    Lost = 3,
    /// No value where there must be one, or no right to write where it must be given.
    Blocked = 4,
    /// A cell that says that it is corrupt, or a write that is not the next one.
    Corrupt = 5,
}

impl Seat {
    fn report(&self, fault: Fault, about: [u64; 2]) {
        for (to, from) in self.about.iter().zip(about) {
            // ORD board.fault: Relaxed, the store below hands them over.
            to.store(from, Ordering::Relaxed);
        }
        // ORD board.fault: Release -> `Seat::fault`; what it is about.
        self.fault.store(fault as u64, Ordering::Release);
    }

    /// What its process found wrong.
    pub(crate) fn fault(&self) -> Option<(Fault, [u64; 2])> {
        // ORD board.fault: Acquire <- `Seat::report`; what it is about.
        let fault = match self.fault.load(Ordering::Acquire) {
            0 => return None,
            1 => Fault::Torn,
            2 => Fault::Back,
            3 => Fault::Lost,
            4 => Fault::Blocked,
            _ => Fault::Corrupt,
        };
        // ORD board.fault: Relaxed, ordered by the load above.
        Some((fault, self.about.each_ref().map(|word| word.load(Ordering::Relaxed))))
    }

    /// What its process did: came to an end, one way or the other.
    pub(crate) fn done(&self) -> u64 {
        // ORD board: Relaxed, a count; both are only ever compared with later values.
        self.count.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed)
    }
}

/// The page between parent and children.
#[derive(Debug, Default)]
#[repr(C)]
struct Words {
    stop: AtomicU64,
    writers: [Seat; SEATS],
    readers: [Seat; SEATS],
}

/// The board, in memory that all processes of a row share.
#[derive(Debug)]
pub(crate) struct Board {
    words: NonNull<Words>,
}

impl Board {
    /// An empty board.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new() -> Result<Self> {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes it.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Words>(), rights, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mapping the board");
        }
        Ok(Self { words: NonNull::new(base.cast()).context("expected a mapping, found address zero")? })
    }

    fn words(&self) -> &Words {
        // SAFETY: zeroed pages, which are a board of atomics, mapped as long as `self`; page alignment is enough.
        unsafe { self.words.as_ref() }
    }

    pub(crate) fn writers(&self) -> &[Seat; SEATS] {
        &self.words().writers
    }

    pub(crate) fn readers(&self) -> &[Seat; SEATS] {
        &self.words().readers
    }

    /// Tells all to come to an end.
    pub(crate) fn stop(&self) {
        // ORD board: Relaxed, an order, nothing is handed over.
        self.words().stop.store(1, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        // ORD board: Relaxed, an order, nothing is handed over.
        self.words().stop.load(Ordering::Relaxed) != 0
    }

    /// The last version that a writer acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        // ORD board.acknowledged: Acquire <- `write`; the version was written before.
        self.writers().iter().map(|seat| seat.version.load(Ordering::Acquire)).max().unwrap_or(0)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, unmapped once.
        unsafe { libc::munmap(self.words.as_ptr().cast(), size_of::<Words>()) };
    }
}

/// A process of a row; killed and waited for when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    ended: bool,
}

impl Child {
    /// Forks a process that runs `body` and ends.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn spawn(body: impl FnOnce()) -> Result<Self> {
        // SAFETY: no arguments.
        let parent = unsafe { libc::getpid() };
        // SAFETY: this process has no other threads; the child runs `body` and nothing else of this program.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()).context("forking"),
            0 => {
                // SAFETY: no pointers.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                // SAFETY: no arguments.
                let orphan = unsafe { libc::getppid() } != parent;
                let well = orphan || catch_unwind(AssertUnwindSafe(body)).is_ok();
                // SAFETY: ends the process without running what its parent registered.
                unsafe { libc::_exit(i32::from(!well)) }
            }
            pid => Ok(Self { pid, ended: false }),
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        if !self.ended {
            // SAFETY: a child of ours that is not waited for yet, so the number is its own.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    fn wait(&mut self, flags: i32) -> Option<i32> {
        let mut status = 0;
        // SAFETY: a child of ours that is not waited for yet; the status is alive.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, flags) };
        self.ended |= waited == self.pid;
        (waited == self.pid).then_some(status)
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.wait(0);
    }

    /// Its status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        if self.ended { None } else { self.wait(libc::WNOHANG) }
    }

    /// Waits for an orderly end.
    ///
    /// # Errors
    /// It does not come, or is not orderly.
    pub(crate) fn finish(mut self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.ended() {
                Some(0) => return Ok(()),
                Some(status) => return Err(anyhow!("expected an orderly end, found status {status:#x}")),
                None if begun.elapsed() > patience => return Err(anyhow!("expected an end, found none")),
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(libc::SIGKILL);
            self.wait(0);
        }
    }
}

/// Keeps this process on a processor, where it may be there.
fn pin(processor: Option<usize>) {
    if let Some(processor) = processor {
        let mut one = CpuSet::new();
        one.set(processor);
        // Where it is refused the row is only a slower one.
        let _refused = sched_setaffinity(None, &one);
    }
}

/// The life of a writer: takes the role and writes, until it is told to stop.
pub(crate) fn write<R: Rig>(
    ground: &Ground,
    board: &Board,
    seat: &Seat,
    salt: u64,
    processor: Option<usize>,
) {
    pin(processor);
    let opened = ground.open::<R>().ok().zip(ground.leases().ok());
    let Some((cell, leases)) = opened else { return seat.report(Fault::Corrupt, [0; 2]) };
    let Ok(mut writer) = R::writer(&cell, &leases) else { return seat.report(Fault::Blocked, [0; 2]) };
    let mut next = match R::read(&mut R::reader(&cell), &leases) {
        Found::Value(_, version) => version + 1,
        Found::Busy | Found::Died if R::WAITS => 0,
        _ => return seat.report(Fault::Corrupt, [1, 0]),
    };
    // ORD own: Relaxed, this seat is this process's; a predecessor's count goes on.
    let mut count = seat.count.load(Ordering::Relaxed);
    // ORD board.begun: Release -> `Seat::begun`; the role is taken.
    seat.begun.store(salt, Ordering::Release);
    while !board.is_stopped() {
        let written = if R::SHARED {
            R::follow(&mut writer, &leases, salt << 40)
        } else {
            R::write(&mut writer, &leases, salt << 40 | next)
        };
        match written {
            Written::Version(version) if R::SHARED || next == 0 || version == next => {
                // ORD board.acknowledged: Release -> `Board::acknowledged`; the version is written.
                seat.version.store(version, Ordering::Release);
                next = version + 1;
                count += 1;
                // ORD board: Relaxed, a count.
                seat.count.store(count, Ordering::Relaxed);
            }
            Written::Busy if R::SHARED => {
                // ORD board: Relaxed, a count.
                seat.refused.fetch_add(1, Ordering::Relaxed);
            }
            Written::Version(version) => return seat.report(Fault::Corrupt, [version, next]),
            _ => return seat.report(Fault::Corrupt, [2, next]),
        }
    }
    drop(writer);
}

/// The life of a reader: reads, and looks at every word, until it is told to stop.
pub(crate) fn read<R: Rig>(ground: &Ground, board: &Board, seat: &Seat, processor: Option<usize>) {
    pin(processor);
    let (Ok(mut reader), Ok(leases)) = (ground.reader::<R>(), ground.leases()) else {
        return seat.report(Fault::Corrupt, [0; 2]);
    };
    ground.give_up();
    // ORD own: Relaxed, this seat is this process's; a predecessor's counts go on.
    let [count, retries, refused] =
        [&seat.count, &seat.retries, &seat.refused].map(|word| word.load(Ordering::Relaxed));
    let (mut reads, mut none, mut last, mut rounds) = (0, 0, 0, 0_u64);
    // The latest version when a read had been lapped in each of its attempts, until one succeeds.
    let mut lapped_at = None;
    // ORD board.begun: Release -> `Seat::begun`; the reader is there.
    seat.begun.store(1, Ordering::Release);
    while !board.is_stopped() {
        rounds += 1;
        if processor.is_none() && rounds % YIELD == 0 {
            // Whoever wants to die or to follow a dead one shall get a processor soon.
            std::thread::yield_now();
        }
        for turn in 0..BATCH {
            let acknowledged = if turn % 16 == 0 { board.acknowledged() } else { 0 };
            match R::read(&mut reader, &leases) {
                Found::Value(tag, version) => {
                    let of = tag & VERSION;
                    if of != version && !(R::WAITS && of == 0) {
                        return seat.report(Fault::Torn, [tag, version]);
                    }
                    if version < last {
                        return seat.report(Fault::Back, [version, last]);
                    }
                    if version < acknowledged {
                        return seat.report(Fault::Lost, [version, acknowledged]);
                    }
                    last = version;
                    reads += 1;
                    lapped_at = None;
                }
                Found::Busy | Found::Died if R::WAITS => none += 1,
                // A writer that goes on may lap a slow reader as often as it tries; one that stands still may not.
                Found::Busy
                    if lapped_at
                        .is_none_or(|before| R::version(&mut reader).is_some_and(|now| now > before)) =>
                {
                    lapped_at = R::version(&mut reader);
                    none += 1;
                }
                Found::Torn => return seat.report(Fault::Torn, [0; 2]),
                Found::Busy | Found::Died => return seat.report(Fault::Blocked, [last, 0]),
                Found::Corrupt => return seat.report(Fault::Corrupt, [last, 0]),
            }
        }
        // ORD board: Relaxed, numbers for people, and a sign of life.
        seat.version.store(last, Ordering::Relaxed);
        seat.retries.store(retries + R::retries(&reader), Ordering::Relaxed);
        // ORD board: Relaxed, as above.
        seat.refused.store(refused + none, Ordering::Relaxed);
        seat.count.store(count + reads, Ordering::Relaxed);
    }
}
