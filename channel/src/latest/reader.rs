//! Whoever looks at a latest value.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewire_shm::bell::{Kernel, Nap, Place, System};
use tidewire_shm::{Liveness, RoleId, Segment, SegmentLeases, Tenancy, Untrusted};

use super::changing::Watcher;
use super::{LoadError, PAUSE, Snapshot, WaitError, cell};
use crate::error::OpenError;
use crate::ground::Ground;
use crate::message::Message;
use crate::options::{Options, Wait};
use crate::queue::cannot;
use crate::rest::Until;

/// Looks between two looks at the clock.
const LOOKS: u32 = 1024;
/// How often a reader that does not sleep asks for the lease of the writer.
const QUESTIONS: Duration = Duration::from_millis(10);

/// The lease of the one writer; the cell asks for the same.
fn writer_role() -> Result<RoleId, OpenError> {
    RoleId::producer(0).ok_or_else(|| cannot("expected a first producer, found none"))
}

/// A reader of a latest value. `Send`, not `Sync`; a clone has seen what this one has.
///
/// One opened by name has the memory mapped for reading only, and nobody knows of it: any number of them, coming, going and
/// dying as they like, make no difference to the writer. They go on when a writer is followed by another one, and in a fork
/// child, too.
///
/// # Guarantees
/// - A value is whole, was the latest at a moment during the call, and is never older than one that this reader returned
///   before.
/// - A load makes no system call, no store and no allocation, and waits for nobody.
/// - That the writer is gone or dead ends a wait within about 10 milliseconds.
/// - A writer may write anything anywhere: a reader returns what it made up, or says [`LoadError::Corrupt`].
pub struct Reader<T: Message> {
    pub(super) look: tidewire_seqlock::Reader<T, Untrusted>,
    /// The last version that was returned.
    pub(super) seen: Option<u64>,
    wait: Wait,
    /// Who waits in the place of tasks.
    pub(super) watcher: Option<Watcher>,
    pub(super) leases: Arc<SegmentLeases>,
    role: RoleId,
    segment: Arc<Segment>,
}

impl<T: Message> Reader<T> {
    pub(super) fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let look = cell::<T>(&mut ground)?.reader();
        let Ground { segment, leases, .. } = ground;
        Ok(Self {
            look,
            seen: None,
            wait: options.wait,
            watcher: None,
            leases,
            role: writer_role()?,
            segment: Arc::new(segment),
        })
    }

    /// The latest value.
    ///
    /// # Errors
    /// [`LoadError::Lapped`] if the writer was too fast for a thousand attempts; [`LoadError::Corrupt`].
    #[inline]
    pub fn load(&mut self) -> Result<Snapshot<T>, LoadError> {
        let (value, version) = self.look.read()?;
        self.seen = Some(version);
        Ok(Snapshot { value, version })
    }

    /// The latest value, unless this reader has returned it already; then one load is all that it takes.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    #[inline]
    pub fn load_if_changed(&mut self) -> Result<Option<Snapshot<T>>, LoadError> {
        let Some(seen) = self.seen else { return self.load().map(Some) };
        let Some((value, version)) = self.look.read_if_changed(seen)? else { return Ok(None) };
        self.seen = Some(version);
        Ok(Some(Snapshot { value, version }))
    }

    /// Waits for a value that this reader has not returned yet, but not longer than `time`: at once, if it has returned none.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; [`WaitError::WriterGone`] if nobody is there to store one (see
    /// [`wait_writer`](Self::wait_writer)); else as [`load`](Self::load).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tidewire::WaitError;
    ///
    /// let (mut tx, mut rx) = tidewire::Options::new().latest(0_u64)?;
    /// assert_eq!(rx.load()?.value, 0);
    /// assert_eq!(rx.wait_changed(Duration::from_millis(1)), Err(WaitError::TimedOut));
    /// tx.store(7)?;
    /// drop(tx);
    /// assert_eq!(rx.wait_changed(Duration::from_secs(9))?.value, 7);
    /// assert_eq!(rx.wait_changed(Duration::from_secs(9)), Err(WaitError::WriterGone));
    /// assert_eq!(rx.load()?.value, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_changed(&mut self, time: Duration) -> Result<Snapshot<T>, WaitError> {
        if let Some(found) = self.load_if_changed()? {
            return Ok(found);
        }
        let since = self.seen.unwrap_or(0);
        match self.wait {
            Wait::Spin => self.look_until(since, time, std::hint::spin_loop)?,
            Wait::Yield => self.look_until(since, time, std::thread::yield_now)?,
            wait => {
                let kernel = Patient { spins: spins(wait, time) };
                let _version = self.look.wait_changed_on(&kernel, &*self.leases, since, time)?;
            }
        }
        // Versions never go back: this is that one or a later one.
        Ok(self.load()?)
    }

    /// Waits for a value that this reader has not returned yet until a moment.
    ///
    /// # Errors
    /// As [`wait_changed`](Self::wait_changed).
    pub fn wait_changed_deadline(&mut self, deadline: Instant) -> Result<Snapshot<T>, WaitError> {
        self.wait_changed(deadline.saturating_duration_since(Instant::now()))
    }

    /// Looks without sleeping.
    fn look_until(&mut self, since: u64, time: Duration, pause: fn()) -> Result<(), WaitError> {
        let until = Until::after(time);
        let mut question = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if self.look.version().map_err(WaitError::Corrupt)? != since {
                    return Ok(());
                }
                pause();
            }
            if until.is_over() {
                return Err(WaitError::TimedOut);
            }
            if question.elapsed() >= QUESTIONS {
                question = Instant::now();
                // In this order: what a writer stored before it went is found first.
                if !self.is_writer_alive() && self.look.version().map_err(WaitError::Corrupt)? == since {
                    return Err(WaitError::WriterGone);
                }
            }
        }
    }

    /// Waits until a writer is there, but not longer than `time`; whether one came.
    pub fn wait_writer(&mut self, time: Duration) -> bool {
        let until = Until::after(time);
        loop {
            if self.is_writer_alive() {
                return true;
            }
            if until.is_over() {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether a writer is there: not one that is gone or proven dead, but one that is stopped. One system call.
    #[must_use]
    pub fn is_writer_alive(&self) -> bool {
        self.leases.tenancy(self.role) != Tenancy::Vacant
    }

    /// The version of the latest value. One load.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`].
    pub fn version(&mut self) -> Result<u64, LoadError> {
        self.look.version().map_err(LoadError::Corrupt)
    }

    /// Chooses how to wait from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// The memory of the value.
    #[must_use]
    pub fn memory(&self) -> &Segment {
        &self.segment
    }
}

impl<T: Message> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self {
            look: self.look.clone(),
            seen: self.seen,
            wait: self.wait,
            watcher: None,
            leases: Arc::clone(&self.leases),
            role: self.role,
            segment: Arc::clone(&self.segment),
        }
    }
}

impl<T: Message> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("seen", &self.seen)
            .field("memory", &self.segment)
            .finish_non_exhaustive()
    }
}

/// Rounds of looking before a reader sleeps, which may do so for that long.
fn spins(wait: Wait, time: Duration) -> u32 {
    match wait {
        Wait::Park => 0,
        // A round takes some 20 ns.
        Wait::HybridFor(spin) => u32::try_from(spin.min(time).as_nanos() / 20).unwrap_or(u32::MAX),
        _ => System.spins(),
    }
}

/// The system, with another opinion on how long to spin.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) spins: u32,
}

impl Kernel for Patient {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        System.sleep(place, expected, timeout_ns)
    }

    fn wake(&self, place: Place<'_>) -> u32 {
        System.wake(place)
    }

    fn register(&self) -> Result<(), i32> {
        System.register()
    }

    fn barrier(&self) -> bool {
        System.barrier()
    }

    fn now_ns(&self) -> u64 {
        System.now_ns()
    }

    fn pause(&self, ns: u64) {
        System.pause(ns);
    }

    fn yield_now(&self) {
        System.yield_now();
    }

    fn spins(&self) -> u32 {
        self.spins
    }
}
