//! The words of one cell, and the two ways to use them: a [`Pen`] that writes versions, and a [`Look`] that reads them.
//!
//! How a version is written and read is the business of the form, which follows from the size of the value:
//! [`word`], [`inline`] or [`rotating`]. What is common stands here: versions that never go back, bounded attempts, and
//! what is latched for good.

use tidewire_shm::sync::{AtomicU64, Ordering, Shared, Words, fence, spin_hint};
use tidewire_shm::{Region, Trust};

use crate::codec::Codec;
use crate::error::{Corrupt, CorruptWord, ReadError};
use crate::layout::{Form, Layout, Place};
use crate::wait::Alarm;

pub(crate) mod inline;
pub(crate) mod rotating;
pub(crate) mod word;

/// Versions are below this; no cell lives long enough to count so far.
pub(crate) const END: u64 = 1 << 62;

/// How often a read tries before it gives up. Under a model each attempt multiplies the schedules.
const ATTEMPTS: u32 = if cfg!(loom) { 3 } else { 1000 };

/// The shared words of one cell.
#[derive(Clone, Debug)]
pub(crate) struct Core<C> {
    pub(crate) codec: C,
    pub(crate) latest: Shared<AtomicU64>,
    /// The data behind `latest`.
    hot: Words,
    slots: Words,
    /// Slots minus one.
    mask: u64,
}

impl<C: Codec> Core<C> {
    /// The words of a cell of a validated layout for values of this codec.
    ///
    /// # Safety
    /// The core is not used after the last handle on the region is dropped.
    pub(crate) unsafe fn new<L: Trust>(region: &Region<L>, layout: &Layout, place: &Place, codec: C) -> Self {
        debug_assert_eq!(layout.words, codec.words(), "the layout was validated for this codec");
        Self {
            codec,
            // SAFETY: a control word of a validated layout; the caller's promise.
            latest: unsafe { region.atomic_u64(place.latest) },
            // SAFETY: data words of a validated layout, only ever used as atomics; the caller's promise.
            hot: unsafe { region.words(place.hot.0, place.hot.1) },
            // SAFETY: as above.
            slots: unsafe { region.words(place.slots.0, place.slots.1) },
            mask: u64::from(layout.slots) - 1,
        }
    }

    #[inline(always)]
    fn form(&self) -> Form {
        Form::of(self.codec.words())
    }

    /// The version that a value of `latest` names.
    #[inline(always)]
    pub(crate) fn version(&self, latest: u64) -> u64 {
        match self.form() {
            Form::Inline => inline::version(latest),
            _ => latest,
        }
    }

    /// Writes a version: a bounded number of steps.
    ///
    /// # Safety
    /// The caller is the one writer, `version` is one more than the latest (or 0, before there is any); the region is
    /// alive and writable.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, version: u64, value: &C::In) {
        // SAFETY: the caller's promise, in each of them.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them is done, for one reason")]
        unsafe {
            match self.form() {
                Form::Word => word::write(self, version, value),
                Form::Inline => inline::write(self, version, value),
                _ => rotating::write(self, version, value),
            }
        }
    }

    /// One attempt to read, having seen `latest`.
    ///
    /// # Safety
    /// `to` is private and may be written; the region is alive.
    #[inline(always)]
    unsafe fn read(&self, latest: u64, to: *mut C::Out) -> Option<u64> {
        // SAFETY: the caller's promise, in each of them.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one of them is done, for one reason")]
        unsafe {
            match self.form() {
                Form::Word => word::read(self, latest, to),
                Form::Inline => inline::read(self, latest, to),
                _ => rotating::take(self, latest, to).then_some(latest),
            }
        }
    }

    /// The version that a new writer goes on from, if there can be one.
    ///
    /// The caller's claim of the role has ordered all that earlier writers did before this; the fence passes that on to
    /// whoever sees what the caller stores next.
    pub(crate) fn adopt(&self) -> Result<u64, Corrupt> {
        // ORD cell.adopt: Relaxed, the claim of the role has ordered what earlier writers did.
        let latest = self.latest.load(Ordering::Relaxed);
        let version = self.version(latest);
        if version >= END {
            return Err(Corrupt { what: CorruptWord::Version, found: version });
        }
        if self.form() != Form::Word && !rotating::holds(self, version) {
            return Err(Corrupt { what: CorruptWord::Stamp, found: version });
        }
        // ORD cell.follow: Release -> the fences of `take`, `Look::look`; who sees the first stamp of this writer sees the
        // `latest` that it goes on from.
        fence(Ordering::Release);
        Ok(version)
    }

    /// Copies the value of a version that nobody else can be writing: the latest one, for the writer.
    ///
    /// # Safety
    /// `to` is private and may be written; the region is alive.
    pub(crate) unsafe fn current(&self, version: u64, to: *mut C::Out) {
        match self.form() {
            // SAFETY: the caller's promise.
            Form::Word => unsafe { word::take(self, version, to) },
            _ => {
                // SAFETY: the caller's promise. Whole: nobody else writes.
                let _whole = unsafe { rotating::take(self, version, to) };
            }
        }
    }
}

/// What a reader knows beside the words: the last version that it saw, and whether the cell lies.
#[derive(Clone, Debug)]
pub(crate) struct Look<C> {
    pub(crate) core: Core<C>,
    seen: u64,
    retries: u64,
    corrupt: Option<Corrupt>,
}

impl<C: Codec> Look<C> {
    pub(crate) fn new(core: Core<C>) -> Self {
        Self { core, seen: 0, retries: 0, corrupt: None }
    }

    pub(crate) fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn latch(&mut self, what: CorruptWord, found: u64) -> Corrupt {
        *self.corrupt.get_or_insert(Corrupt { what, found })
    }

    /// Versions never go back, and never beyond what can have been counted.
    #[inline(always)]
    fn accept(&mut self, version: u64) -> Result<u64, Corrupt> {
        if version < self.seen || version >= END {
            return Err(self.latch(CorruptWord::Version, version));
        }
        self.seen = version;
        Ok(version)
    }

    /// What `latest` says, with all that it hands over.
    #[inline(always)]
    fn look(&self) -> u64 {
        // ORD cell.publish: Relaxed, since a load from a read-only mapping must be; the fence below acquires.
        let latest = self.core.latest.load(Ordering::Relaxed);
        // ORD cell.publish: Acquire <- `write` of each form; the value of the version, where readers find it.
        fence(Ordering::Acquire);
        latest
    }

    /// The latest version.
    #[inline(always)]
    pub(crate) fn version(&mut self) -> Result<u64, Corrupt> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt);
        }
        // ORD advice: Relaxed, nothing is read behind it.
        let latest = self.core.latest.load(Ordering::Relaxed);
        self.accept(self.core.version(latest))
    }

    /// One attempt. Unless it succeeds, `to` may hold anything.
    ///
    /// # Safety
    /// `to` is private and may be written; the region is alive.
    #[inline(always)]
    pub(crate) unsafe fn try_read(&mut self, to: *mut C::Out) -> Result<u64, ReadError> {
        if let Some(corrupt) = self.corrupt {
            return Err(corrupt.into());
        }
        let latest = self.look();
        // SAFETY: the caller's promise.
        match unsafe { self.core.read(latest, to) } {
            Some(version) => Ok(self.accept(version)?),
            None => {
                self.retries += 1;
                Err(ReadError::Lapped)
            }
        }
    }

    /// As many attempts as it takes, within bounds.
    ///
    /// # Safety
    /// As [`try_read`](Self::try_read).
    #[inline(always)]
    pub(crate) unsafe fn read(&mut self, to: *mut C::Out) -> Result<u64, ReadError> {
        // SAFETY: the caller's promise.
        match unsafe { self.try_read(to) } {
            // SAFETY: the caller's promise.
            Err(ReadError::Lapped) => unsafe { self.read_slow(to) },
            done => done,
        }
    }

    /// The attempts behind the first.
    ///
    /// # Safety
    /// As [`try_read`](Self::try_read).
    #[cold]
    #[inline(never)]
    unsafe fn read_slow(&mut self, to: *mut C::Out) -> Result<u64, ReadError> {
        let first = self.look();
        for _ in 1..ATTEMPTS {
            // SAFETY: the caller's promise.
            match unsafe { self.try_read(to) } {
                Err(ReadError::Lapped) => spin_hint(),
                done => return done,
            }
        }
        // With an honest writer an attempt fails only if `latest` has moved since. An attempt that failed at a stamp saw that
        // of a version `slots` further on at least, which was stored behind the fence of the version before it, and that
        // behind the store of `latest` for the one before that; or, as the first of a writer, behind the fence of `adopt`,
        // and that behind all stores of `latest` before. Our fences since then show us that store at least.
        if self.look() != first {
            return Err(ReadError::Lapped);
        }
        Err(self.latch(CorruptWord::Stamp, self.core.version(first)).into())
    }

    /// As [`read`](Self::read), if the latest version is not `since`.
    ///
    /// # Safety
    /// As [`try_read`](Self::try_read).
    #[inline(always)]
    pub(crate) unsafe fn read_if_changed(
        &mut self,
        since: u64,
        to: *mut C::Out,
    ) -> Result<Option<u64>, ReadError> {
        if self.version()? == since {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        unsafe { self.read(to) }.map(Some)
    }
}

/// What a writer knows beside the words: the version that it wrote last.
#[derive(Debug)]
pub(crate) struct Pen<C> {
    pub(crate) core: Core<C>,
    pub(crate) alarm: Alarm,
    version: u64,
}

impl<C: Codec> Pen<C> {
    /// Goes on from what is published.
    pub(crate) fn adopt(core: Core<C>, alarm: Alarm) -> Result<Self, Corrupt> {
        let version = core.adopt()?;
        Ok(Self { core, alarm, version })
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Writes the next version.
    ///
    /// # Safety
    /// The caller holds the writer's role; the region is alive and writable.
    #[inline(always)]
    pub(crate) unsafe fn write(&mut self, value: &C::In) -> u64 {
        let version = self.version + 1;
        // SAFETY: the caller's promise.
        unsafe { self.core.write(version, value) };
        self.version = version;
        self.alarm.ring();
        version
    }
}
