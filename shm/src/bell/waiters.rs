//! A doorbell for any number of sleepers, who are only counted.

use super::kernel::{Deadline, Kernel, Place};
use super::sleeper::{Patience, SleepOptions, SleepTally, low_half};
use super::wait::{self, Flag, Woken};
use super::{BELL_BYTES, Bell, BellError, BellForm, BellMode, RingerTally, Rung, words};
use crate::region::Region;
use crate::sync::{AtomicU32, AtomicU64, Ordering, Shared, compiler_fence, full_fence};
use crate::trust::Trust;

/// A doorbell in a region: for structures with one publisher and any number of readers.
///
/// Its flag is a count of sleepers, in a line that they can write; what they sleep on is the low half of the
/// publisher's position, which they may have mapped read-only.
///
/// # Not guaranteed
/// A waiter that is killed asleep leaves the count high: from then on each ring is a system call, until somebody
/// who knows that nobody waits [resets](WaitersRinger::reset) it. A waiter that writes where it should not can delay
/// the others by a slice each.
#[derive(Clone, Debug)]
pub struct Waiters {
    bell: Bell,
}

impl Waiters {
    /// Writes a doorbell: nobody waits.
    ///
    /// # Errors
    /// As [`Bell::create`].
    ///
    /// # Safety
    /// As [`Bell::create`].
    pub unsafe fn create<L: Trust>(
        region: &Region<L>,
        offset: usize,
        mode: BellMode,
    ) -> Result<Self, BellError> {
        // SAFETY: the caller's promises are the same.
        let bell = unsafe { Bell::create(region, offset, mode, BellForm::Waiters)? };
        Ok(Self { bell })
    }

    /// Finds a doorbell that was created there.
    ///
    /// # Errors
    /// As [`Bell::open`]; [`BellError::Form`] if there is a bell of another form.
    ///
    /// # Safety
    /// As [`Bell::open`].
    pub unsafe fn open<L: Trust>(region: &Region<L>, offset: usize) -> Result<Self, BellError> {
        // SAFETY: the caller's promises are the same.
        let bell = unsafe { Bell::open(region, offset)? };
        bell.expect(BellForm::Waiters)?;
        Ok(Self { bell })
    }

    /// The doorbell of a structure that says elsewhere, where waiters cannot write, of which mode it is. Its kind is
    /// neither written nor read, and its count is left as it is: the structure begins with zero.
    ///
    /// # Errors
    /// [`BellError::Place`] as [`Bell::create`].
    ///
    /// # Safety
    /// As [`Bell::create`].
    pub unsafe fn with_mode<L: Trust>(
        region: &Region<L>,
        offset: usize,
        mode: BellMode,
    ) -> Result<Self, BellError> {
        // SAFETY: the caller's promises are the same.
        let (flag, _kind) = unsafe { words(region, offset)? };
        let bell =
            Bell { flag, mode, form: BellForm::Waiters, writable: region.is_writable_at(offset, BELL_BYTES) };
        Ok(Self { bell })
    }

    /// Who pays for the fence.
    #[must_use]
    pub fn mode(&self) -> BellMode {
        self.bell.mode
    }

    /// The end of the one who publishes `position`. It needs only to read the count.
    ///
    /// # Errors
    /// [`BellError::Membarrier`] as [`Bell::ringer`].
    pub fn ringer<K: Kernel>(
        &self,
        position: Shared<AtomicU64>,
        kernel: K,
    ) -> Result<WaitersRinger<K>, BellError> {
        self.bell.mode.prepare(&kernel)?;
        Ok(WaitersRinger {
            count: self.bell.flag.clone(),
            writable: self.bell.writable,
            position,
            mode: self.bell.mode,
            kernel,
            tally: RingerTally::default(),
        })
    }

    /// An end of one who waits for `position` to change.
    ///
    /// # Errors
    /// [`BellError::ReadOnly`] if the count cannot be written, [`BellError::Membarrier`] as [`Bell::sleeper`].
    pub fn waiter<K: Kernel>(
        &self,
        position: Shared<AtomicU64>,
        kernel: K,
        options: &SleepOptions,
    ) -> Result<Waiter<K>, BellError> {
        self.bell.expect_writable()?;
        self.bell.expect_barrier(&kernel)?;
        let patience = Patience::new(options, &kernel);
        let count = CountFlag { count: self.bell.flag.clone(), position };
        Ok(Waiter { count, mode: self.bell.mode, kernel, patience, tally: SleepTally::default() })
    }
}

/// The publisher's end of a [doorbell](Waiters).
#[derive(Debug)]
pub struct WaitersRinger<K> {
    count: Shared<AtomicU32>,
    writable: bool,
    position: Shared<AtomicU64>,
    mode: BellMode,
    kernel: K,
    tally: RingerTally,
}

impl<K: Kernel> WaitersRinger<K> {
    /// Wakes all who wait, if anybody does. To be called after every publication.
    #[inline]
    pub fn ring(&mut self) -> Rung {
        match self.mode {
            // ORD waiters.meet: SeqCst <-> `announced`; the publication comes before the look at the count.
            BellMode::Fence => full_fence(),
            // ORD waiters.meet: SeqCst <-> `announced`, for the compiler; a waiter's system call is the processor's.
            BellMode::Membarrier => compiler_fence(Ordering::SeqCst),
        }
        // ORD waiters.meet: Relaxed, behind the fence.
        if self.count.load(Ordering::Relaxed) == 0 { Rung::Awake } else { self.wake() }
    }

    #[cold]
    fn wake(&mut self) -> Rung {
        let found = self.kernel.wake(Place::LowHalf(&self.position));
        self.tally.wakes += 1;
        self.tally.in_vain += u64::from(found == 0);
        Rung::Sent
    }

    /// Counts nobody as waiting any more, so that waiters that were killed asleep cost no further system calls. For whoever
    /// knows that nobody waits, as after a take-over of a structure that had no reader left.
    ///
    /// Rings pass by a waiter that does sleep at that moment, until its slice ends. When it wakes it counts itself off all
    /// the same, so the count may stay lower than the number of sleepers, by as many as slept through the reset: while no
    /// more than so many are asleep, rings pass them by, too. Nobody sleeps longer than a slice for it, and the next moment
    /// in which nobody sleeps puts the count right.
    ///
    /// # Errors
    /// [`BellError::ReadOnly`] if the count cannot be written.
    pub fn reset(&mut self) -> Result<(), BellError> {
        if !self.writable {
            return Err(BellError::ReadOnly);
        }
        // ORD own: Relaxed, a count that nobody needs.
        self.count.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// What this ringer did so far.
    #[must_use]
    pub fn tally(&self) -> RingerTally {
        self.tally
    }
}

/// An end of one who waits at a [doorbell](Waiters). The guarantees are those of a [`Sleeper`](super::Sleeper).
#[derive(Debug)]
pub struct Waiter<K: Kernel> {
    count: CountFlag,
    mode: BellMode,
    kernel: K,
    patience: Patience,
    tally: SleepTally,
}

impl<K: Kernel> Waiter<K> {
    /// Waits until `ready` is true, or the deadline has passed. It becomes true only together with a change of the
    /// position.
    pub fn wait(&mut self, mut ready: impl FnMut() -> bool, deadline: Deadline) -> Woken {
        self.wait_while_watching(&mut ready, deadline, &())
    }

    pub(crate) fn wait_while_watching<W: wait::Watch<K>>(
        &mut self,
        ready: &mut dyn FnMut() -> bool,
        deadline: Deadline,
        watch: &W,
    ) -> Woken {
        let how = wait::How { mode: self.mode, patience: self.patience, kernel: &self.kernel, watch };
        wait::wait(&how, &self.count, &mut self.tally, ready, deadline)
    }

    /// What this waiter did so far.
    #[must_use]
    pub fn tally(&self) -> SleepTally {
        self.tally
    }
}

/// The count in the hands of one waiter.
#[derive(Debug)]
struct CountFlag {
    count: Shared<AtomicU32>,
    position: Shared<AtomicU64>,
}

impl Flag for CountFlag {
    fn raise(&self) -> u32 {
        // ORD waiters.meet: Relaxed, before the fence in `announced`.
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    fn expected(&self, _raised: u32) -> u32 {
        // ORD waiters.meet: Relaxed, behind the fence; the look comes after it and sees no less.
        low_half(self.position.load(Ordering::Relaxed))
    }

    fn place(&self) -> Place<'_> {
        Place::LowHalf(&self.position)
    }

    /// Not below zero, where a reset may have put the count while this one slept. Whom a reset no longer counts cannot know
    /// that, and takes away the count of another one, if there is one.
    fn lower(&self) {
        // ORD own: Relaxed, a count.
        let mut count = self.count.load(Ordering::Relaxed);
        // Bounded: a peer may keep changing the count.
        for _ in 0..64 {
            let Some(less) = count.checked_sub(1) else { return };
            // ORD own: Relaxed, a count; on failure too.
            match self.count.compare_exchange(count, less, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => count = now,
            }
        }
        // Whatever the others do, this one is counted no more. If there was zero it was not counted: then the step is undone,
        // and who looked in between rang in vain. Two that find zero like this at the same moment undo one step of the two:
        // then the count stays high, and each ring is a system call until a reset.
        // ORD own: Relaxed, a count; adding the most there is takes one away.
        if self.count.fetch_add(u32::MAX, Ordering::Relaxed) == 0 {
            // ORD own: Relaxed, a count.
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
