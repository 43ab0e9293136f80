//! The positions of a ring: one producer that moves the tail, one consumer that moves the head, no lock, no
//! read-modify-write, and nothing to repair when either of them stops for ever.
//!
//! Fixed slots ([`fixed`](crate::fixed)) and byte records ([`bytes`](crate::bytes)) are two ways to divide the same
//! data; what they share, and all of the concurrency, is here. Positions count elements: slots or bytes.
//! Publishing and consuming are wait-free: a bounded number of steps, whatever the peer does. No system calls.
//!
//! # Memory layout
//! ```text
//! shared    tail u64    on a line that only the producer writes
//!           head u64    on a line that only the consumer writes
//!           data        capacity elements; element p lies at index p % capacity
//! private   producer    tail, limit = last seen head + capacity
//!           consumer    head, seen = last seen tail, published = last stored head, stop
//! ```
//!
//! # Protocol
//! | element | when | who may access it | next |
//! |---|---|---|---|
//! | free | `tail <= p < head + capacity` | the producer, to write | published by the store of `tail` |
//! | published | `head <= p < tail` | the consumer, to read and to touch | freed by the store of `head` |
//!
//! The producer fills any number of elements and publishes them with ONE store. The consumer reads, writes one
//! word of each consumed line back unchanged (*touch*: the producer's next write then finds the line ready to be
//! taken over instead of shared), and stores `head` every `period` elements and whenever it finds nothing.
//!
//! # Invariants
//! - I1: `head <= tail <= head + capacity`, in wrapping `u64` arithmetic. Checked on every load of a peer's word that is acted on (a `len` only reports);
//!   a handle that finds otherwise is latched corrupt.
//! - I2: an element is written only by the producer between `Acquire` of a head beyond `p - capacity` and the
//!   store of a tail beyond `p`; it is read or touched only by the consumer between `Acquire` of that tail and the
//!   store of a head beyond `p`.
//! - I3: each shared word is loaded once per use into a private variable and used from there.
//! - I4: addresses come from private positions and the private capacity only.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `ring.publish` | `TailCursor::publish` | `HeadCursor::look`, `HeadCursor::attach` | filled elements |
//! | `ring.free` | `HeadCursor::store_head` | `TailCursor::refresh`, `TailCursor::attach` | free elements |
//! | `ring.adopt` | a former producer's `publish` | `TailCursor::attach` | its elements, passed on by the next `publish` |
//! | `ring.adopt` | a former consumer's `store_head` | `HeadCursor::attach` | its reads, passed on by the next `store_head` |
//!
//! # Crash argument
//! | point | killed or stopped here, the others see | repair | cost |
//! |---|---|---|---|
//! | producer, before the store of `tail` | nothing of the message or batch | none | the message in hand |
//! | producer, after it | the whole message or batch | none | nothing |
//! | consumer, while reading or touching | the message still published, unchanged | none | seen again by a successor |
//! | consumer, before the store of `head` | fewer than `period` consumed elements and the batch in hand still published | none | seen again by a successor |
//! | consumer, after a store of `head` inside a pop, before the pop returns | what this call took freed | none | what this call took |
//! | consumer, after it | them freed | none | nothing |
//!
//! A pop that completes a period releases before it returns, so a consumer killed in that very call takes with it
//! what the call had copied out. Who must not lose that either reads in place (a chunk, a record) and releases when
//! the work is done.
//!
//! A successor starts from the published position of its side. Nothing else survives a process, so nothing else
//! needs care.
//!
//! # Not guaranteed
//! The producer may see "full" while fewer than `period` consumed elements are not yet stored as free: for ever, if
//! the consumer stops popping before it has found the ring empty and does not release. A hostile peer can stop
//! sending, fill the ring, make each look pay the pauses, or publish positions that make a handle latch `Corrupt`; it
//! cannot make an operation take more steps than that, read or write outside of the data, or bring a latched
//! handle back. Positions wrap after 2^64 elements: at 10^9 a second, 584 years.
//!
//! A process that forks has copies of its handles in the child. Only one of the two may go on to use or drop them;
//! the other must end by `_exit` or `exec`, or forget them.
//!
//! # Sources
//! L. Lamport, *Specifying concurrent program modules* (1983), for the two positions; private copies of the
//! remote position and lazy release are common practice; the touch rule is our own measurement (DESIGN.md).

use tidewire_shm::sync::{AtomicU64, Ordering, Shared, fence, spin_hint};
use tidewire_shm::{Region, Trust};

use crate::error::{Corrupt, CorruptWord, PopError, PushError};
use crate::layout::Parts;

/// How a word of the peer's is loaded where a fence behind it acquires. It may lie in memory that this process can only
/// read, where no other load than a relaxed one is sure not to write. The sanitizers know no fences, and are told by the load.
// ORD ring.publish, ring.free: Relaxed, each use has a fence; Acquire says no more than that.
const PEERS: Ordering = if cfg!(plain_copy) { Ordering::Acquire } else { Ordering::Relaxed };

/// How a consumer trades latency, throughput and redelivery; private to it, changeable at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// Write one word of each consumed line back unchanged. On by default.
    pub touch: bool,
    /// How many pause instructions to wait before looking again after a short look. 4 by default (0 under a model):
    /// about 100 ns on the processors that were measured, more where a pause takes longer. More than that becomes
    /// a latency trap under paced load.
    pub pauses: u32,
    /// Publish the head after this many elements at the latest; `None` means an eighth of the capacity, at least 1.
    /// A successor of a dead consumer sees fewer than this many again, beside the message, batch or chunk in hand.
    pub release_every: Option<u64>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { touch: true, pauses: if cfg!(loom) { 0 } else { 4 }, release_every: None }
    }
}

impl Tuning {
    /// Chooses whether consumed lines are written back.
    #[must_use]
    pub const fn touch(mut self, touch: bool) -> Self {
        self.touch = touch;
        self
    }

    /// Chooses the wait before looking again after a short look.
    #[must_use]
    pub const fn pauses(mut self, pauses: u32) -> Self {
        self.pauses = pauses;
        self
    }

    /// Chooses after how many elements the head is published at the latest; at least 1.
    #[must_use]
    pub const fn release_every(mut self, elements: u64) -> Self {
        self.release_every = Some(elements);
        self
    }
}

/// The shared words and the size of a ring, from a validated layout.
#[derive(Clone, Debug)]
pub(crate) struct Positions {
    pub(crate) tail: Shared<AtomicU64>,
    pub(crate) head: Shared<AtomicU64>,
    pub(crate) capacity: u64,
    /// Positions are multiples of this power of two.
    pub(crate) grain: u64,
}

impl Positions {
    /// The words of a ring whose parts lie in `region`.
    ///
    /// # Safety
    /// Both words are within the region, aligned, and accessed only as these atomics; whoever keeps the result keeps
    /// the region, too.
    pub(crate) unsafe fn new<L: Trust>(region: &Region<L>, parts: &Parts, grain: u64) -> Self {
        Self {
            // SAFETY: the caller's promise.
            tail: unsafe { region.atomic_u64(parts.tail_offset) },
            // SAFETY: the caller's promise.
            head: unsafe { region.atomic_u64(parts.head_offset) },
            capacity: parts.capacity as u64,
            grain,
        }
    }

    fn on_grain(&self, position: u64) -> bool {
        position & (self.grain - 1) == 0
    }

    /// Both positions, checked against I1 and the grain.
    fn load(&self) -> Result<(u64, u64), Corrupt> {
        let (head, tail) = (self.head.load(PEERS), self.tail.load(PEERS));
        // ORD ring.free: Acquire <- `HeadCursor::store_head`; elements below `head + capacity` may be written.
        // ORD ring.adopt: Acquire <- a former consumer's `HeadCursor::store_head`; its reads are over.
        // ORD ring.publish: Acquire <- `TailCursor::publish`; elements below `tail` are filled.
        // ORD ring.adopt: Acquire <- a former producer's `TailCursor::publish`; passed on by our own.
        fence(Ordering::Acquire);
        if !self.on_grain(head) {
            return Err(Corrupt { what: CorruptWord::Head, found: head });
        }
        if !self.on_grain(tail) || tail.wrapping_sub(head) > self.capacity {
            return Err(Corrupt { what: CorruptWord::Tail, found: tail });
        }
        Ok((tail, head))
    }
}

/// The producer's side.
#[derive(Debug)]
pub(crate) struct TailCursor {
    tail: u64,
    /// `tail` may grow up to here; never beyond the true `head + capacity`. Equal to `tail` once corrupt.
    limit: u64,
    shared: Positions,
    corrupt: Option<Corrupt>,
}

impl TailCursor {
    /// Starts from the published position: that of a new ring, or of a producer that is gone.
    pub(crate) fn attach(shared: Positions) -> Result<Self, Corrupt> {
        let (tail, head) = shared.load()?;
        let limit = head.wrapping_add(shared.capacity);
        Ok(Self { tail, limit, shared, corrupt: None })
    }

    pub(crate) fn position(&self) -> u64 {
        self.tail
    }

    pub(crate) fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    /// How many elements may be written at least, without looking at the peer's word.
    #[inline(always)]
    pub(crate) fn room(&self) -> u64 {
        self.limit.wrapping_sub(self.tail)
    }

    /// Elements in the ring as the consumer last published it; a fresh look.
    pub(crate) fn len(&self) -> u64 {
        // ORD advice: Relaxed, a count and nothing more; the true length may be lower, never higher.
        let head = self.shared.head.load(Ordering::Relaxed);
        self.tail.wrapping_sub(head).min(self.shared.capacity)
    }

    /// Succeeds if `n` elements may be written; looks at the peer's word only if the private copy says no.
    #[inline(always)]
    pub(crate) fn require(&mut self, n: u64) -> Result<(), PushError> {
        if self.room() >= n { Ok(()) } else { self.refresh(n) }
    }

    #[cold]
    #[inline(never)]
    fn refresh(&mut self, n: u64) -> Result<(), PushError> {
        if let Some(corrupt) = self.corrupt {
            return Err(PushError::Corrupt(corrupt));
        }
        let head = self.shared.head.load(PEERS);
        // ORD ring.free: Acquire <- `HeadCursor::store_head`; the consumer is done with what lies below.
        fence(Ordering::Acquire);
        let limit = head.wrapping_add(self.shared.capacity);
        let room = limit.wrapping_sub(self.tail);
        // A head that went back below what was seen lies, even where the room still fits.
        if room > self.shared.capacity || room < self.room() || !self.shared.on_grain(head) {
            let corrupt = Corrupt { what: CorruptWord::Head, found: head };
            self.limit = self.tail;
            self.corrupt = Some(corrupt);
            return Err(PushError::Corrupt(corrupt));
        }
        self.limit = limit;
        if self.room() >= n { Ok(()) } else { Err(PushError::Full) }
    }

    /// Publishes `n` elements from `position`, the tail, on with one store.
    ///
    /// They are filled, and [`require`](Self::require) allowed them; if it failed since, with `Corrupt`, nothing may be
    /// published any more.
    #[inline(always)]
    pub(crate) fn publish(&mut self, position: u64, n: u64) {
        debug_assert!(position == self.tail && n <= self.room(), "published more than was free");
        self.tail = position.wrapping_add(n);
        // ORD ring.publish: Release -> `HeadCursor::look`; hands over the elements below the new tail.
        self.shared.tail.store(self.tail, Ordering::Release);
    }
}

/// The consumer's side.
#[derive(Debug)]
pub(crate) struct HeadCursor {
    head: u64,
    /// Elements below may be consumed without a look at anything: at most `seen` and `published + period`.
    stop: u64,
    seen: u64,
    published: u64,
    period: u64,
    /// The last look found something.
    hot: bool,
    /// The last two looks found something, the last one little: wait a moment before the next.
    thin: bool,
    /// Fewer elements than this are little.
    little: u64,
    pauses: u32,
    touch: bool,
    /// Nothing but [`store_head`](Self::store_head) and finding nothing releases.
    by_hand: bool,
    shared: Positions,
    corrupt: Option<Corrupt>,
}

/// An end of a ring that has a [`HeadCursor`].
pub(crate) trait HasHead {
    fn head(&self) -> &HeadCursor;
    fn head_mut(&mut self) -> &mut HeadCursor;
}

/// How a structure that embeds many rings looks after the consuming end of one.
///
/// Only here can it say that consuming releases nothing. What it gets in return is the duty to call
/// [`release`](Self::release).
pub trait Polled {
    /// From now on consuming releases nothing; only [`release`](Self::release) does, and a refill that finds nothing.
    fn release_by_hand(&mut self);
    /// Releases everything consumed to the producer now.
    fn release(&mut self);
    /// Elements consumed and not yet released.
    fn unreleased(&self) -> u64;
    /// Elements that can be consumed without a look at anything.
    fn known(&self) -> u64;
    /// Whether a pop of one element needs no look at anything and no bookkeeping; never true if nothing is known.
    fn quick(&self) -> bool;
    /// How many elements were ever consumed.
    fn position(&self) -> u64;
    /// Looks for more where nothing is known. A `patient` caller has nothing else to do, and waits a moment for more
    /// where the looks are thin.
    ///
    /// # Errors
    /// [`PopError::Empty`] if there is nothing now, [`PopError::Corrupt`] for good.
    fn refill(&mut self, patient: bool) -> Result<(), PopError>;
}

impl<E: HasHead> Polled for E {
    fn release_by_hand(&mut self) {
        self.head_mut().release_by_hand();
    }

    #[inline(always)]
    fn release(&mut self) {
        self.head_mut().store_head();
    }

    #[inline(always)]
    fn unreleased(&self) -> u64 {
        self.head().unpublished()
    }

    #[inline(always)]
    fn known(&self) -> u64 {
        self.head().window()
    }

    #[inline(always)]
    fn quick(&self) -> bool {
        self.head().head != self.head().stop
    }

    fn position(&self) -> u64 {
        self.head().position()
    }

    fn refill(&mut self, patient: bool) -> Result<(), PopError> {
        self.head_mut().refill(patient)
    }
}

impl HeadCursor {
    /// Starts from the published position: that of a new ring, or of a consumer that is gone.
    pub(crate) fn attach(shared: Positions, little: u64) -> Result<Self, Corrupt> {
        let (tail, head) = shared.load()?;
        let mut cursor = Self {
            head,
            stop: head,
            seen: tail,
            published: head,
            period: 1,
            hot: false,
            thin: false,
            little: little.min(shared.capacity / 4),
            pauses: 0,
            touch: true,
            by_hand: false,
            shared,
            corrupt: None,
        };
        cursor.tune(Tuning::default());
        Ok(cursor)
    }

    pub(crate) fn tune(&mut self, tuning: Tuning) {
        let capacity = self.shared.capacity;
        let period = tuning.release_every.unwrap_or(capacity / 8).clamp(1, capacity);
        self.period = if self.by_hand { u64::MAX } else { period };
        self.pauses = tuning.pauses;
        self.touch = tuning.touch;
        self.stop = self.head;
        self.release_if_due();
    }

    /// From now on consuming releases nothing: the embedding structure does it, when what was handed out is safe.
    pub(crate) fn release_by_hand(&mut self) {
        self.by_hand = true;
        self.period = u64::MAX;
        self.stop = self.head;
    }

    pub(crate) fn position(&self) -> u64 {
        self.head
    }

    pub(crate) fn corruption(&self) -> Option<Corrupt> {
        self.corrupt
    }

    #[inline(always)]
    pub(crate) fn touches(&self) -> bool {
        self.touch
    }

    /// Elements that are known to be published, without looking at the peer's word.
    #[inline(always)]
    pub(crate) fn window(&self) -> u64 {
        self.seen.wrapping_sub(self.head)
    }

    /// Elements in the ring; a fresh look.
    pub(crate) fn len(&self) -> u64 {
        // ORD advice: Relaxed, a count and nothing more; the true length may be higher, never lower.
        let tail = self.shared.tail.load(Ordering::Relaxed);
        tail.wrapping_sub(self.head).min(self.shared.capacity)
    }

    /// Succeeds if at least one element may be consumed.
    #[inline(always)]
    pub(crate) fn require_one(&mut self) -> Result<(), PopError> {
        if self.head == self.stop { self.next_window() } else { Ok(()) }
    }

    /// How many of `max` elements may be consumed, at least one; looks again only if fewer than `max` are known.
    #[inline(always)]
    pub(crate) fn require_up_to(&mut self, max: u64) -> Result<u64, PopError> {
        if self.window() < max {
            self.look()?;
        }
        Ok(self.window().min(max))
    }

    /// The slow step of [`require_one`](Self::require_one): look if nothing is known.
    #[cold]
    #[inline(never)]
    fn next_window(&mut self) -> Result<(), PopError> {
        if self.head == self.seen {
            self.look()?;
        }
        self.end_window();
        Ok(())
    }

    /// Makes at least one element known. A `patient` caller has nothing else to do and waits a moment for more where
    /// the looks are thin; any other looks at once.
    pub(crate) fn refill(&mut self, patient: bool) -> Result<(), PopError> {
        self.thin &= patient;
        self.next_window()
    }

    /// Reads the tail again. On success at least one element is known.
    #[cold]
    #[inline(never)]
    fn look(&mut self) -> Result<(), PopError> {
        if let Some(corrupt) = self.corrupt {
            return Err(PopError::Corrupt(corrupt));
        }
        if self.thin && self.head == self.seen {
            for _ in 0..self.pauses {
                spin_hint();
            }
        }
        let tail = self.shared.tail.load(PEERS);
        // ORD ring.publish: Acquire <- `TailCursor::publish`; elements below `tail` are filled.
        fence(Ordering::Acquire);
        let found = tail.wrapping_sub(self.head);
        // A tail that went back below what was seen lies, even where the window still fits.
        if found > self.shared.capacity || found < self.window() || !self.shared.on_grain(tail) {
            return Err(PopError::Corrupt(self.latch(CorruptWord::Tail, tail)));
        }
        if found == 0 {
            self.hot = false;
            self.thin = false;
            self.store_head();
            return Err(PopError::Empty);
        }
        self.thin = self.hot && found < self.little;
        self.hot = true;
        self.seen = tail;
        Ok(())
    }

    /// Ends this handle: what a peer published cannot be.
    #[cold]
    pub(crate) fn latch(&mut self, what: CorruptWord, found: u64) -> Corrupt {
        let corrupt = Corrupt { what, found };
        self.corrupt = Some(corrupt);
        self.seen = self.head;
        self.stop = self.head;
        corrupt
    }

    /// Consumes the one element at `position`, the head, that [`require_one`](Self::require_one) allowed.
    #[inline(always)]
    pub(crate) fn advance_one(&mut self, position: u64) {
        debug_assert!(position == self.head && self.window() > 0, "consumed what was not published");
        self.head = position.wrapping_add(1);
        if self.head == self.stop {
            self.end_window();
        }
    }

    /// Releases what is due, and says how far the next elements may be consumed without a look at anything.
    #[cold]
    #[inline(never)]
    fn end_window(&mut self) {
        self.release_if_due();
        let due = self.period - self.unpublished();
        self.stop = self.head.wrapping_add(self.window().min(due));
    }

    /// Consumes `n` elements within the [`window`](Self::window).
    #[inline(always)]
    pub(crate) fn advance(&mut self, n: u64) {
        debug_assert!(n <= self.window(), "consumed more than was published");
        self.head = self.head.wrapping_add(n);
        self.stop = self.head;
        self.release_if_due();
    }

    /// Elements consumed and not yet released.
    #[inline(always)]
    pub(crate) fn unpublished(&self) -> u64 {
        self.head.wrapping_sub(self.published)
    }

    #[inline(always)]
    fn release_if_due(&mut self) {
        if self.unpublished() >= self.period {
            self.store_head();
        }
    }

    /// Gives everything consumed back to the producer.
    #[inline(always)]
    pub(crate) fn store_head(&mut self) {
        if self.published != self.head && self.corrupt.is_none() {
            // ORD ring.free: Release -> `TailCursor::refresh`; reads and touches below the head are over.
            self.shared.head.store(self.head, Ordering::Release);
            self.published = self.head;
        }
    }
}
