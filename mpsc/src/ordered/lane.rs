//! A producer's lane: what it may fill, and where the lane ends.

use tidewire_ring::embed::Parts;
use tidewire_shm::sync::{AtomicU64, Ordering, Shared};
use tidewire_shm::{Region, Trust};

use super::error::{Corrupt, CorruptWord, Refused};

/// The positions of a lane, as its owner sees them.
#[derive(Debug)]
pub(super) struct Lane {
    tail: u64,
    /// `tail` may grow up to here; never beyond the true `head + capacity`. Equal to `tail` once corrupt.
    limit: u64,
    capacity: u64,
    grain: u64,
    tail_word: Shared<AtomicU64>,
    head_word: Shared<AtomicU64>,
    corrupt: Option<Corrupt>,
}

impl Lane {
    /// Starts where the former owner ended, which the lane's tail says: it was stored before the lane was freed.
    ///
    /// # Safety
    /// Both words are within the region, aligned, and accessed only as these atomics; whoever keeps the result keeps the
    /// region, too.
    pub(super) unsafe fn attach<L: Trust>(
        region: &Region<L>,
        parts: &Parts,
        grain: u64,
    ) -> Result<Self, tidewire_ring::Corrupt> {
        // SAFETY: the caller's promise.
        let tail_word = unsafe { region.atomic_u64(parts.tail_offset) };
        // SAFETY: the caller's promise.
        let head_word = unsafe { region.atomic_u64(parts.head_offset) };
        let capacity = parts.capacity as u64;
        // ORD order.free: Acquire <- `Reader::checkpoint`; what lies below is read.
        let head = head_word.load(Ordering::Acquire);
        // ORD role.free: Relaxed, whoever freed the lane stored it before.
        let tail = tail_word.load(Ordering::Relaxed);
        if (head | tail) & (grain - 1) != 0 || tail.wrapping_sub(head) > capacity {
            return Err(tidewire_ring::Corrupt { what: tidewire_ring::CorruptWord::Tail, found: tail });
        }
        let limit = head.wrapping_add(capacity);
        Ok(Self { tail, limit, capacity, grain, tail_word, head_word, corrupt: None })
    }

    /// Where the next message goes.
    #[inline(always)]
    pub(super) fn position(&self) -> u64 {
        self.tail
    }

    pub(super) fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    #[inline(always)]
    fn room(&self) -> u64 {
        self.limit.wrapping_sub(self.tail)
    }

    /// Elements that are published and not yet released; a fresh look.
    pub(super) fn len(&self) -> u64 {
        // ORD advice: Relaxed, a count and nothing more; the true length may be lower, never higher.
        let head = self.head_word.load(Ordering::Relaxed);
        self.tail.wrapping_sub(head).min(self.capacity)
    }

    /// Succeeds if `n` elements may be written; looks at the consumer's word only if the private copy says no.
    #[inline(always)]
    pub(super) fn require(&mut self, n: u64) -> Result<(), Refused> {
        if self.room() >= n { Ok(()) } else { self.refresh(n) }
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self, n: u64) -> Result<(), Refused> {
        if let Some(corrupt) = self.corrupt {
            return Err(Refused::Corrupt(corrupt));
        }
        // ORD order.free: Acquire <- `Reader::checkpoint`; the consumer is done with what lies below.
        let head = self.head_word.load(Ordering::Acquire);
        let limit = head.wrapping_add(self.capacity);
        let room = limit.wrapping_sub(self.tail);
        // A head that went back below what was seen lies, even where the room still fits.
        if room > self.capacity || room < self.room() || head & (self.grain - 1) != 0 {
            return Err(self.latch(Corrupt { what: CorruptWord::Head, found: head }).into());
        }
        self.limit = limit;
        if self.room() >= n { Ok(()) } else { Err(Refused::Full) }
    }

    /// Ends this handle: what a peer published cannot be.
    #[cold]
    pub(super) fn latch(&mut self, corrupt: Corrupt) -> Corrupt {
        self.limit = self.tail;
        self.corrupt = Some(corrupt);
        corrupt
    }

    /// The order word says that `n` elements more are published.
    #[inline(always)]
    pub(super) fn advance(&mut self, n: u64) {
        self.tail = self.tail.wrapping_add(n);
        self.store_tail();
    }

    /// Says for observers, and for the next owner if the lane is freed behind this, where the lane ends.
    #[inline(always)]
    pub(super) fn store_tail(&self) {
        // ORD role.free: Relaxed, passed on by `Role::drop`; to observers it is a number.
        self.tail_word.store(self.tail, Ordering::Relaxed);
    }
}
