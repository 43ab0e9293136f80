//! Readers of a log that only load: how they find out what they missed. The protocol stands in [`log`](crate::log).

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::time::Duration;

use bytemuck::Pod;
use tidewire_shm::bell::Kernel;
use tidewire_shm::sync::{Ordering, fence, spin_hint};
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use super::layout::Measure;
use super::{Bytes, Log, NextError, Start, Track};
use crate::codec::{Buffer, Fixed};
use crate::engine::Look;
use crate::error::{Corrupt, CorruptWord, WaitError};
use crate::wait::{self, Post};

#[cfg(doc)]
use crate::wait::Wake;

/// Fewer values than this are little to find at a look: a reader that is that close behind fights with the writer for each
/// line.
const LITTLE: u64 = 256;
/// How many pause instructions a reader waits before the next look then, some 100 ns.
const PAUSES: u32 = if cfg!(loom) { 0 } else { 4 };

/// A reader of a log that the writer does not know of; `Send`, not `Sync`. It never writes. The one exception is chosen with
/// the log: a count of those that wait ([`Wake::Waiters`]).
pub struct Reader<T, L: Trust = Trusted> {
    /// `latest`, and whether the log lies.
    look: Look<Fixed<u64>>,
    pub(super) track: Track<T>,
    /// The version to be read next; at most one more than `known`.
    pub(super) next: u64,
    /// Versions up to here are published, and what was written before that is acquired.
    known: u64,
    missed: u64,
    /// The last look found something.
    hot: bool,
    /// The last two looks found something, the last one little: wait a moment before the next.
    thin: bool,
    post: Post,
    region: Region<L>,
    not_sync: PhantomData<core::cell::Cell<()>>,
}

impl<T, L: Trust> Clone for Reader<T, L> {
    /// Another reader, which goes on from where this one is.
    fn clone(&self) -> Self {
        Self {
            look: self.look.clone(),
            track: self.track.clone(),
            // SAFETY: readers write nothing and lend nothing.
            region: unsafe { self.region.alias() },
            not_sync: PhantomData,
            ..*self
        }
    }
}

impl<T, L: Trust> Reader<T, L> {
    /// A reader that starts there.
    pub(super) fn attach(log: &Log<T, L>, start: Start) -> Result<Self, Corrupt> {
        let (core, track, region) = log.bind();
        let (look, post) = (Look::new(core), log.layout.front.post(0));
        let mut reader = Self {
            look,
            track,
            next: 1,
            known: 0,
            missed: 0,
            hot: false,
            thin: false,
            post,
            region,
            not_sync: PhantomData,
        };
        reader.begin(start)?;
        Ok(reader)
    }
}

impl<T: Pod, L: Trust> Reader<T, L> {
    /// The next value and its version, if there is one already.
    ///
    /// # Guarantees
    /// Wait-free: one copy at most, no system call, no store; where the last looks found little, some 100 ns before the next
    /// one. Versions come in order, without a gap but for those that it
    /// says were missed. `None` means that at a moment during the call nothing newer was published.
    ///
    /// # Errors
    /// [`NextError::Overtaken`] if the value was overwritten; the next call returns a newer one.
    /// [`NextError::Corrupt`] for good once the writer published what cannot be.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an iterator could not say what was missed")]
    pub fn next(&mut self) -> Result<Option<(T, u64)>, NextError> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: private.
        let version = unsafe { self.take(value.as_mut_ptr()) }?;
        // SAFETY: where there is a version, all bytes were written, and any bytes are a plain type.
        Ok(version.map(|version| (unsafe { value.assume_init() }, version)))
    }

    /// As [`next`](Self::next), to where the value shall lie; for types that are too large to return by value.
    ///
    /// # Errors
    /// As [`next`](Self::next). Then `to` may hold anything.
    #[inline]
    pub fn next_into(&mut self, to: &mut T) -> Result<Option<u64>, NextError> {
        // SAFETY: private; any bytes are a plain type.
        unsafe { self.take(to) }
    }

    /// The next value, to where it shall lie, and its version.
    ///
    /// # Safety
    /// `to` is private and may be written.
    #[inline(always)]
    unsafe fn take(&mut self, to: *mut T) -> Result<Option<u64>, NextError> {
        let Some(version) = self.upcoming()? else { return Ok(None) };
        // SAFETY: the caller's promise; the region is kept.
        unsafe { self.track.load(version, to) };
        self.is_whole()?;
        self.next = version + 1;
        Ok(Some(version))
    }

    /// The next values, as many as there are and fit; returns how many. They are the versions up to, but without,
    /// [`position`](Self::position) afterwards.
    ///
    /// # Guarantees
    /// As [`next`](Self::next), for all of them at once.
    ///
    /// # Errors
    /// As [`next`](Self::next). Then `to` may hold anything.
    pub fn next_batch(&mut self, to: &mut [T]) -> Result<usize, NextError> {
        let first = self.next;
        let wanted = (to.len() as u64).min(self.track.measure.capacity);
        if self.known + 1 - first < wanted {
            self.refresh()?;
        }
        let count = wanted.min(self.known + 1 - first);
        if count == 0 {
            return Ok(0);
        }
        // Up to the last slot, and from the first one on.
        let before_end = self.track.measure.capacity - self.track.measure.slot(first) as u64;
        let to = to.split_at_mut(len(count)).0;
        let (to_end, from_start) = to.split_at_mut(len(count.min(before_end)));
        // SAFETY: slots up to the last one follow each other; the region is kept.
        unsafe { self.track.load_run(first, to_end) };
        // SAFETY: as above, from the first slot on; if there are none, there is nothing to copy.
        unsafe { self.track.load_run(first + before_end, from_start) };
        self.is_whole()?;
        self.next = first + count;
        Ok(len(count))
    }
}

impl<L: Trust> Reader<Bytes, L> {
    /// Copies the bytes of the next version, if there is one already: then the buffer has its length, and the bytes if there
    /// was room for them. The version is still the next one.
    ///
    /// # Safety
    /// The buffer is private and may be written.
    #[inline(always)]
    pub(super) unsafe fn copy(&mut self, to: &mut Buffer) -> Result<Option<u64>, NextError> {
        let Some(version) = self.upcoming()? else { return Ok(None) };
        // SAFETY: the caller's promise; the region is kept.
        unsafe { self.track.load(version, to) };
        self.is_whole()?;
        if usize::try_from(to.len).is_ok_and(|len| len <= self.track.bytes) {
            return Ok(Some(version));
        }
        Err(self.latch(CorruptWord::Length, to.len).into())
    }
}

impl<T, L: Trust> Reader<T, L> {
    /// The version to be read next, if it is published.
    #[inline(always)]
    fn upcoming(&mut self) -> Result<Option<u64>, Corrupt> {
        let version = self.next;
        Ok((version <= self.known || self.look_patiently()?).then_some(version))
    }

    /// Looks for more where nothing is known, a moment later if the looks find little; whether there is something.
    #[cold]
    #[inline(never)]
    fn look_patiently(&mut self) -> Result<bool, Corrupt> {
        if self.thin {
            (0..PAUSES).for_each(|_| spin_hint());
        }
        let found = self.refresh()? + 1 - self.next;
        self.thin = self.hot && found > 0 && found < LITTLE.min(self.track.measure.capacity / 4);
        self.hot = found > 0;
        Ok(self.hot)
    }

    /// What `latest` says, with all that it hands over.
    #[inline]
    pub(super) fn refresh(&mut self) -> Result<u64, Corrupt> {
        let latest = self.look.version()?;
        // ORD log.publish: Acquire <- `Writer::publish`; the slots up to this version, and their stamps.
        fence(Ordering::Acquire);
        self.known = latest;
        Ok(latest)
    }

    /// Whether what was copied of the next version, and of those behind it, is of them; else goes on further up.
    #[inline(always)]
    fn is_whole(&mut self) -> Result<(), NextError> {
        // ORD log.busy: Acquire <- `Track::enter`; if a word was that of a newer version, the stamp below is newer, too.
        fence(Ordering::Acquire);
        // ORD log.busy: Relaxed, the fence before it orders it behind the data.
        let stamp = self.track.stamp(self.next).load(Ordering::Relaxed);
        if stamp == self.track.measure.base(self.next) { Ok(()) } else { Err(self.overtaken(stamp)) }
    }

    /// The group of the next version says that it holds others: skips what is lost.
    #[cold]
    #[inline(never)]
    fn overtaken(&mut self, stamp: u64) -> NextError {
        // ORD log.follow: Acquire <- `Track::enter`, `Core::adopt`; `latest` as it was before the group in front of that one
        // was entered, at least.
        fence(Ordering::Acquire);
        let latest = match self.refresh() {
            Ok(latest) => latest,
            Err(corrupt) => return corrupt.into(),
        };
        let Measure { capacity, group, piece } = self.track.measure;
        let base = self.track.measure.base(self.next);
        // An honest writer enters a group again a lap later, when all but the last group and the piece in hand is published.
        let lapped = stamp > base && (stamp - base).is_multiple_of(capacity);
        if !lapped || latest + group + piece < stamp {
            return self.latch(CorruptWord::Stamp, self.next).into();
        }
        // Not beyond `latest + 1`: a lap is more than two groups and a piece.
        let next = (base + group).max((latest + 1).saturating_sub(capacity / 2));
        let missed = next - self.next;
        self.next = next;
        self.missed += missed;
        NextError::Overtaken { missed }
    }

    #[cold]
    pub(super) fn latch(&mut self, what: CorruptWord, found: u64) -> Corrupt {
        // So that the next call looks, and finds it.
        self.known = self.next - 1;
        self.look.latch(what, found)
    }

    /// Chooses the next version.
    fn begin(&mut self, start: Start) -> Result<(), Corrupt> {
        let latest = self.refresh()?;
        let wanted = match start {
            Start::Next => 0,
            Start::History(values) => values,
            Start::Oldest => u64::MAX,
        };
        let measure = self.track.measure;
        let first = |values: u64| (latest + 1).saturating_sub(values).max(1);
        // ORD advice: Relaxed, whether it is still there is found when it is read.
        let gone = |version| self.track.stamp(version).load(Ordering::Relaxed) != measure.base(version);
        let mut next = first(wanted.min(measure.capacity));
        if next <= latest && gone(next) {
            // The group that the writer is in; or more of them, if it is in a piece.
            next = (measure.base(next) + measure.group).min(latest + 1);
            if next <= latest && gone(next) {
                next = next.max(first(measure.kept()));
            }
        }
        self.next = next;
        Ok(())
    }

    /// The version that comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// How many values this reader missed so far.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// How many values are published that were neither returned nor missed; one load.
    ///
    /// # Errors
    /// [`Corrupt`] for good once the writer published what cannot be.
    pub fn lag(&mut self) -> Result<u64, Corrupt> {
        Ok(self.look.version()? + 1 - self.next)
    }

    /// Waits until there is a next value, as [`Reader::wait_changed`](crate::Reader::wait_changed) of a cell waits for a
    /// change; returns the version of the latest.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`] if the time was over first; [`WaitError::WriterGone`] if nobody holds the lease of the
    /// writer and there is still none, which by leases that prove nothing, or that are not those of the log, is never known;
    /// [`WaitError::Corrupt`] for good once the writer published what cannot be.
    #[cfg(all(feature = "std", not(loom)))]
    pub fn wait_next<V: Liveness>(&mut self, liveness: &V, timeout: Duration) -> Result<u64, WaitError> {
        self.wait_next_on(&tidewire_shm::bell::System, liveness, timeout)
    }

    /// As `wait_next`, by a kernel of the caller's; where there is no system to ask, the only way to wait.
    ///
    /// # Errors
    /// As `wait_next`.
    pub fn wait_next_on<K: Kernel, V: Liveness>(
        &mut self,
        kernel: &K,
        liveness: &V,
        timeout: Duration,
    ) -> Result<u64, WaitError> {
        if self.next <= self.known {
            return Ok(self.known);
        }
        let (region, look) = (&self.region, &mut self.look);
        wait::changed(look, (region, &self.post), (kernel, liveness), self.next - 1, timeout)
    }

    /// What made this handle useless, if anything did.
    #[must_use]
    pub fn corruption(&self) -> Option<Corrupt> {
        self.look.corruption()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "no more than the length of a slice")]
fn len(count: u64) -> usize {
    count as usize
}

impl<T, L: Trust> fmt::Debug for Reader<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("next", &self.next).finish_non_exhaustive()
    }
}
