//! A run of bytes that a structure lives in: a static, the heap, or a mapping.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
#[cfg(not(loom))]
use core::ptr::NonNull;

#[cfg(feature = "alloc")]
use alloc::sync::Arc;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use crate::error::RegionError;
use crate::line::LINE_BYTES;
#[cfg(not(loom))]
use crate::line::Line;
use crate::sync::{AtomicU32, AtomicU64, Memory, Payload, Shared, Words};
use crate::trust::{Trust, Trusted, Untrusted};

/// What keeps the bytes of a region alive.
#[cfg(feature = "alloc")]
type Keep = Option<Arc<dyn core::any::Any + Send + Sync>>;

/// What may be stored through a region.
#[derive(Clone)]
enum Writable {
    All,
    Nothing,
    /// Only these runs of bytes: in order, neither empty nor touching each other.
    #[cfg(feature = "alloc")]
    Runs(Arc<[Range<usize>]>),
}

/// Where a region comes from: copied into the header at creation; the boot is compared at attach.
///
/// Memory of one process has no origin (all zero). A segment draws a random nonce when it is created and carries
/// the identity of the running boot, so that a file that survived a reboot is not mistaken for a live one. Memory without a name, which no reboot leaves
/// behind, carries no boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// A random number drawn when a segment is created; zero for process memory and for segments that were opened.
    pub nonce: u128,
    /// A hash of the identity of the running boot; zero for process memory and for memory without a name.
    pub boot_id: u64,
}

/// A run of bytes, 128-byte aligned, initialised, and alive as long as anything made from it.
///
/// Every structure is created in a region or opened from one, and takes it by value: two structures cannot be
/// laid over one region in safe code. `L` says who may write the bytes (see [`Trust`]).
///
/// ```
/// use tidewire_shm::{Line, Region};
///
/// let on_heap = Region::heap(4096)?;
/// assert_eq!(on_heap.len(), 4096);
///
/// let memory: &'static mut [Line<[u8; 128]>] = Box::leak(vec![Line::new([0; 128]); 8].into_boxed_slice());
/// let in_static = Region::from_static(memory);
/// assert_eq!(in_static.len(), 1024);
/// # Ok::<(), tidewire_shm::RegionError>(())
/// ```
pub struct Region<L: Trust = Untrusted> {
    memory: Memory,
    origin: Origin,
    writable: Writable,
    #[cfg(feature = "alloc")]
    keep: Keep,
    level: PhantomData<L>,
}

impl<L: Trust> fmt::Debug for Region<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("bytes", &self.len())
            .field("trusted", &L::TRUSTED)
            .finish_non_exhaustive()
    }
}

impl Region<Trusted> {
    /// A region in memory that lives for ever. No system calls; usable without an allocator.
    #[cfg(not(loom))]
    #[must_use]
    pub fn from_static(lines: &'static mut [Line<[u8; LINE_BYTES]>]) -> Self {
        let len = size_of_val(lines);
        let base = NonNull::from(lines).cast::<u8>();
        Self {
            memory: Memory::new(base, len),
            origin: Origin::default(),
            writable: Writable::All,
            #[cfg(feature = "alloc")]
            keep: None,
            level: PhantomData,
        }
    }

    /// A zeroed region on the heap, for threads of one process.
    ///
    /// # Errors
    /// [`RegionError::Length`] if `len` is zero or not representable, [`RegionError::OutOfMemory`] if the
    /// allocator refuses.
    #[cfg(all(feature = "alloc", not(loom)))]
    pub fn heap(len: usize) -> Result<Self, RegionError> {
        let block = heap::Block::zeroed(len)?;
        let base = block.base();
        Ok(Self {
            memory: Memory::new(base, len),
            origin: Origin::default(),
            writable: Writable::All,
            keep: Some(Arc::new(block)),
            level: PhantomData,
        })
    }

    /// A zeroed region of model objects, for threads of one model.
    ///
    /// # Errors
    /// [`RegionError::Length`] if `len` is zero.
    #[cfg(loom)]
    pub fn heap(len: usize) -> Result<Self, RegionError> {
        if len == 0 {
            return Err(RegionError::Length { found: len });
        }
        Ok(Self {
            memory: Memory::new(len),
            origin: Origin::default(),
            writable: Writable::All,
            #[cfg(feature = "alloc")]
            keep: None,
            level: PhantomData,
        })
    }

    /// Forgets that the peers are trusted; always sound.
    #[must_use]
    pub fn distrust(self) -> Region<Untrusted> {
        self.with_level()
    }
}

impl Region<Untrusted> {
    /// A region over bytes that the caller owns or mapped.
    ///
    /// `keep` is dropped with the last structure or handle that uses the bytes.
    ///
    /// # Errors
    /// [`RegionError::Alignment`] if `base` is not 128-byte aligned, [`RegionError::Length`] if `len` is zero.
    ///
    /// # Safety
    /// - the `len` bytes at `base` are mapped readable until `keep` is dropped, and writable, too, unless the region
    ///   is made [`read_only`](Self::read_only), or [but for what is](Self::read_only_but), before anything else is
    ///   done with it;
    /// - they are initialised (as bytes of a mapping are);
    /// - in this process they are accessed only through regions like this one. Other processes may do anything.
    #[cfg(all(feature = "alloc", not(loom)))]
    pub unsafe fn from_raw_parts(
        base: NonNull<u8>,
        len: usize,
        origin: Origin,
        keep: Arc<dyn core::any::Any + Send + Sync>,
    ) -> Result<Self, RegionError> {
        if len == 0 {
            return Err(RegionError::Length { found: len });
        }
        if !base.addr().get().is_multiple_of(LINE_BYTES) {
            return Err(RegionError::Alignment { found: base.addr().get() });
        }
        Ok(Self {
            memory: Memory::new(base, len),
            origin,
            writable: Writable::All,
            keep: Some(keep),
            level: PhantomData,
        })
    }

    /// Trusts every process that can write these bytes; structures over the result lend slices.
    ///
    /// # Safety
    /// Until the last handle over this region is gone, every process that can write the bytes, this one included,
    /// accesses them only through the same structure of this library, with at most one live handle per role.
    #[must_use]
    pub unsafe fn assume_trusted(self) -> Region<Trusted> {
        self.with_level()
    }
}

impl<L: Trust> Region<L> {
    fn with_level<M: Trust>(self) -> Region<M> {
        Region {
            memory: self.memory,
            origin: self.origin,
            writable: self.writable,
            #[cfg(feature = "alloc")]
            keep: self.keep,
            level: PhantomData,
        }
    }

    /// Bytes of the region.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether there are none; only so for a region over an empty static.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the region comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What keeps the bytes alive, if it is a `K`.
    #[cfg(all(feature = "std", not(loom)))]
    pub(crate) fn kept<K: core::any::Any>(&self) -> Option<&K> {
        self.keep.as_deref()?.downcast_ref()
    }

    /// Gives away the right to write: whatever would store into the result is refused with
    /// [`RegionError::ReadOnly`] or [`Field::Access`](crate::Field::Access). For readers that never write, and for
    /// memory that is mapped read-only.
    ///
    /// ```
    /// use tidewire_shm::{Region, RegionError};
    ///
    /// let region = Region::heap(4096)?.read_only();
    /// assert_eq!(region.require_writable(), Err(RegionError::ReadOnly));
    /// # Ok::<(), RegionError>(())
    /// ```
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.writable = Writable::Nothing;
        self
    }

    /// Gives away the right to write everything but these runs of bytes, as far as they could be written before. For
    /// memory of which a process has mapped some [parts](crate::PartedSegment) read-only.
    ///
    /// Whatever wants to store elsewhere is refused, with [`RegionError::ReadOnlyPart`] by what asks for its own bytes,
    /// with [`RegionError::ReadOnly`] or [`Field::Access`](crate::Field::Access) by what wants the whole region.
    ///
    /// ```
    /// use tidewire_shm::{Region, RegionError};
    ///
    /// let region = Region::heap(4096)?.read_only_but([0..128, 1024..2048]);
    /// assert_eq!(region.require_writable_at(1024, 8), Ok(()));
    /// assert_eq!(region.require_writable_at(2048, 8), Err(RegionError::ReadOnlyPart { offset: 2048, bytes: 8 }));
    /// assert_eq!(region.require_writable(), Err(RegionError::ReadOnly));
    /// # Ok::<(), RegionError>(())
    /// ```
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn read_only_but(mut self, runs: impl IntoIterator<Item = Range<usize>>) -> Self {
        let whole = 0..self.len();
        let before = match &self.writable {
            Writable::All => core::slice::from_ref(&whole),
            Writable::Nothing => &[],
            Writable::Runs(runs) => runs,
        };
        let both =
            |run: Range<usize>| before.iter().map(move |may| run.start.max(may.start)..run.end.min(may.end));
        let mut left: Vec<Range<usize>> =
            runs.into_iter().flat_map(both).filter(|run| !run.is_empty()).collect();
        left.sort_unstable_by_key(|run| run.start);
        left.dedup_by(|next, run| {
            let touch = next.start <= run.end;
            if touch {
                run.end = run.end.max(next.end);
            }
            touch
        });
        self.writable = match left.as_slice() {
            [] => Writable::Nothing,
            [all] if *all == whole => Writable::All,
            _ => Writable::Runs(left.into()),
        };
        self
    }

    /// Whether everything may be stored through this region.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        matches!(self.writable, Writable::All)
    }

    /// Whether the `len` bytes at `offset` are bytes of this region and may all be stored.
    #[must_use]
    pub fn is_writable_at(&self, offset: usize, len: usize) -> bool {
        let Some(end) = offset.checked_add(len) else {
            return false;
        };
        match &self.writable {
            Writable::All => end <= self.len(),
            Writable::Nothing => false,
            #[cfg(feature = "alloc")]
            Writable::Runs(runs) => runs.iter().any(|run| run.start <= offset && end <= run.end),
        }
    }

    /// What everything that stores anywhere asks first.
    ///
    /// # Errors
    /// [`RegionError::ReadOnly`] unless everything may be stored through this region.
    pub fn require_writable(&self) -> Result<(), RegionError> {
        if self.is_writable() { Ok(()) } else { Err(RegionError::ReadOnly) }
    }

    /// What asks first that stores only into the `len` bytes at `offset`.
    ///
    /// # Errors
    /// [`RegionError::ReadOnly`] if nothing may be stored through this region, [`RegionError::ReadOnlyPart`] if not all
    /// of these bytes may.
    pub fn require_writable_at(&self, offset: usize, len: usize) -> Result<(), RegionError> {
        match self.writable {
            Writable::Nothing => Err(RegionError::ReadOnly),
            _ if self.is_writable_at(offset, len) => Ok(()),
            _ => Err(RegionError::ReadOnlyPart { offset, bytes: len }),
        }
    }

    /// A second handle on the same bytes, for another role of the same structure.
    ///
    /// # Safety
    /// All handles together follow the protocol of one structure; with `L` = [`Trusted`], references that one of
    /// them lends never overlap accesses through another.
    #[must_use]
    pub unsafe fn alias(&self) -> Self {
        #[cfg_attr(not(loom), allow(clippy::clone_on_copy, reason = "under loom it is a counted handle"))]
        Self {
            memory: self.memory.clone(),
            origin: self.origin,
            writable: self.writable.clone(),
            #[cfg(feature = "alloc")]
            keep: self.keep.clone(),
            level: PhantomData,
        }
    }

    /// Two regions in place of one: the bytes before `offset`, and those from there on. For memory that holds more than
    /// one structure; each half keeps the whole alive.
    ///
    /// # Errors
    /// [`RegionError::Alignment`] unless `offset` is a multiple of 128, [`RegionError::Length`] if it is beyond the end.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::Region;
    ///
    /// let (first, second) = Region::heap(4096)?.split_at(1024)?;
    /// assert_eq!((first.len(), second.len()), (1024, 3072));
    /// # Ok::<(), tidewire_shm::RegionError>(())
    /// ```
    pub fn split_at(self, offset: usize) -> Result<(Self, Self), RegionError> {
        if !offset.is_multiple_of(LINE_BYTES) {
            return Err(RegionError::Alignment { found: offset });
        }
        let whole = self.len();
        if offset > whole {
            return Err(RegionError::Length { found: offset });
        }
        Ok((self.run(0..offset), self.run(offset..whole)))
    }

    /// A handle on some of the bytes, within bounds.
    fn run(&self, run: Range<usize>) -> Self {
        let writable = match &self.writable {
            Writable::All => Writable::All,
            Writable::Nothing => Writable::Nothing,
            #[cfg(feature = "alloc")]
            Writable::Runs(runs) => {
                let within = |may: &Range<usize>| {
                    let both = may.start.max(run.start)..may.end.min(run.end);
                    (!both.is_empty()).then(|| both.start - run.start..both.end - run.start)
                };
                let runs: Vec<Range<usize>> = runs.iter().filter_map(within).collect();
                match runs.as_slice() {
                    [] => Writable::Nothing,
                    [all] if all.len() == run.len() => Writable::All,
                    _ => Writable::Runs(runs.into()),
                }
            }
        };
        Self {
            memory: self.memory.run(run.start, run.len()),
            origin: self.origin,
            writable,
            #[cfg(feature = "alloc")]
            keep: self.keep.clone(),
            level: PhantomData,
        }
    }

    fn assert_within(&self, offset: usize, len: usize, align: usize) {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len()) && offset.is_multiple_of(align),
            "a structure asked for {len} bytes at {offset} of a region of {}",
            self.len()
        );
    }

    /// A handle on the 64-bit control word at `offset`.
    ///
    /// # Panics
    /// If the word is out of bounds or misaligned: layouts are validated before anything is made from them.
    ///
    /// # Safety
    /// - the handle is not used after the last region handle on these bytes is dropped;
    /// - the eight bytes are only ever accessed as this atomic;
    /// - only relaxed loads are done through it, unless the region [is writable](Self::is_writable_at) there.
    #[must_use]
    pub unsafe fn atomic_u64(&self, offset: usize) -> Shared<AtomicU64> {
        self.assert_within(offset, 8, 8);
        // SAFETY: just checked; regions are 128-byte aligned; the rest is the caller's promise.
        unsafe { self.memory.shared_u64(offset) }
    }

    /// A handle on the 32-bit control word at `offset`.
    ///
    /// # Panics
    /// As [`atomic_u64`](Self::atomic_u64).
    ///
    /// # Safety
    /// As [`atomic_u64`](Self::atomic_u64), for four bytes.
    #[must_use]
    pub unsafe fn atomic_u32(&self, offset: usize) -> Shared<AtomicU32> {
        self.assert_within(offset, 4, 4);
        // SAFETY: just checked; regions are 128-byte aligned; the rest is the caller's promise.
        unsafe { self.memory.shared_u32(offset) }
    }

    /// The payload bytes `offset .. offset + len`.
    ///
    /// # Panics
    /// As [`atomic_u64`](Self::atomic_u64).
    ///
    /// # Safety
    /// - it is not used after the last region handle on these bytes is dropped;
    /// - the bytes are never accessed as a control word;
    /// - nothing is written or touched through it where the region is not [writable](Self::is_writable_at).
    #[must_use]
    pub unsafe fn payload(&self, offset: usize, len: usize) -> Payload {
        self.assert_within(offset, len, 1);
        // SAFETY: just checked; the rest is the caller's promise.
        unsafe { self.memory.payload(offset, len) }
    }

    /// The run of `len` 64-bit words that begins at `offset`.
    ///
    /// # Panics
    /// If the run is out of bounds or misaligned: layouts are validated before anything is made from them.
    ///
    /// # Safety
    /// - it is not used after the last region handle on these bytes is dropped;
    /// - the bytes are only ever accessed as these atomics;
    /// - nothing is stored through it, and nothing but relaxed loads done, where the region is not
    ///   [writable](Self::is_writable_at).
    #[must_use]
    pub unsafe fn words(&self, offset: usize, len: usize) -> Words {
        self.assert_within(offset, len.saturating_mul(8), 8);
        // SAFETY: just checked; regions are 128-byte aligned; the rest is the caller's promise.
        unsafe { self.memory.words(offset, len) }
    }
}

#[cfg(all(feature = "alloc", not(loom)))]
mod heap {
    use alloc::alloc::{alloc_zeroed, dealloc};
    use core::alloc::Layout;
    use core::ptr::NonNull;

    use crate::error::RegionError;
    use crate::line::LINE_BYTES;

    /// A zeroed, aligned allocation.
    pub(super) struct Block {
        base: NonNull<u8>,
        layout: Layout,
    }

    // SAFETY: the block is only an owner; what is done with the bytes is the region's affair.
    unsafe impl Send for Block {}
    // SAFETY: as above.
    unsafe impl Sync for Block {}

    impl Block {
        pub(super) fn zeroed(len: usize) -> Result<Self, RegionError> {
            if len == 0 {
                return Err(RegionError::Length { found: len });
            }
            let layout =
                Layout::from_size_align(len, LINE_BYTES).map_err(|_| RegionError::Length { found: len })?;
            // SAFETY: the layout is not empty.
            let base = unsafe { alloc_zeroed(layout) };
            NonNull::new(base)
                .map(|base| Self { base, layout })
                .ok_or(RegionError::OutOfMemory { bytes: len })
        }

        pub(super) fn base(&self) -> NonNull<u8> {
            self.base
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout, freed once.
            unsafe { dealloc(self.base.as_ptr(), self.layout) };
        }
    }
}

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests {
    use super::{Region, RegionError, Writable};
    use core::ops::Range;

    fn runs(region: &Region<crate::Trusted>) -> Vec<Range<usize>> {
        match &region.writable {
            Writable::Runs(runs) => runs.to_vec(),
            Writable::All | Writable::Nothing => Vec::new(),
        }
    }

    #[test]
    fn runs_are_sorted_joined_and_never_grow() {
        let region = || Region::heap(1024).unwrap();
        let some = region().read_only_but([512..600, 0..128, 128..256, 590..700, 300..300]);
        assert_eq!(runs(&some), [0..256, 512..700]);
        // Only what could be written before is left, whatever is asked for.
        let less = some.read_only_but([100..550, 0..usize::MAX]);
        assert_eq!(runs(&less), [0..256, 512..700]);
        let less = less.read_only_but(Some(100..550));
        assert_eq!(runs(&less), [100..256, 512..550]);
        assert!(
            less.is_writable_at(100, 156) && !less.is_writable_at(99, 8) && !less.is_writable_at(250, 300)
        );
        assert!(!less.is_writable_at(usize::MAX, 2));
        let none = less.read_only_but(Some(300..400));
        assert_eq!(none.require_writable_at(100, 8), Err(RegionError::ReadOnly));
        let none = none.read_only_but(Some(0..1024));
        assert!(matches!(none.writable, Writable::Nothing));
        assert!(matches!(region().read_only_but(Some(0..1024)).writable, Writable::All));
        assert!(matches!(region().read_only_but([0..512, 512..4096]).writable, Writable::All));
    }

    #[test]
    fn handles_inherit_what_may_be_written() {
        let region = Region::heap(1024).unwrap();
        assert!(region.is_writable_at(0, 1024) && !region.is_writable_at(0, 1025));
        let part = region.read_only_but(Some(128..256));
        // SAFETY: nothing is laid out in either.
        let again = unsafe { part.alias() }.distrust();
        let refused = RegionError::ReadOnlyPart { offset: 0, bytes: 8 };
        assert_eq!(
            (again.require_writable_at(128, 128), again.require_writable_at(0, 8)),
            (Ok(()), Err(refused))
        );
        assert_eq!((again.is_writable(), again.require_writable()), (false, Err(RegionError::ReadOnly)));
        assert_eq!(
            refused.to_string(),
            "expected 8 bytes at 0 to be writable, found memory that can only be read"
        );
    }
}
