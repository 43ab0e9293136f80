//! The values of the last while, each to be read in order: one writer, and readers that come and go.
//!
//! A [`Log`] is a ring of slots that one writer goes round and round. Every reader has a position of its own. Most
//! [readers](Reader) only load, in a read-only mapping too: nobody knows of them, and one that is overtaken is told
//! exactly how many values it missed. A log may have gates: a [reader with a gate](GatedReader) publishes how far it came,
//! and [`Writer::try_write`] refuses to overwrite what it has not taken. Reads and writes are wait-free and make no
//! system call, unless [`Wake`] was chosen; taking a role is a few steps.
//!
//! Values are of a plain type, or [bytes] of any length up to a longest one. The protocol is one, and so is the code of
//! it: they differ in how a value is copied into its slot and out of it.
//!
//! # Memory layout
//! ```text
//! line stride  page stride  written by      what
//!           0            0  the creator     header (128 bytes), written once
//!         128          128  the creator     shape (128 bytes, below), written once
//!         256         4096  waiting readers bell, as of any cell
//!         384         8192  the writer      owner word u64 on a line of its own
//!         512         8320  the writer      latest u64 on a line of its own: the version of the latest value, 0 if none;
//!                                           its low half is what a futex waits for
//!         640         8448  the writer      stamps u64, one for each group of slots, in whole lines
//!                           the writer      slots, one behind the other, in whole lines together; a value of b bytes
//!                                           takes b / 8 words, rounded up; one of up to b bytes takes as many, and one more
//!                                           behind them for its length. Version v lives in slot v % capacity
//!                           reader i        gate i, at the next multiple of the role stride + i role strides:
//!                                           head u64: the oldest version that it needs, 0 if the gate is open;
//!                                           owner word u64
//!
//! shape  +0   4  group         slots that have one stamp: a 16th of the capacity, at least 1 and at most 64
//!        +4   4  gates
//!        +8   4  liveness      the kind of leases that the writer and readers with gates hold; 0 = none
//!       +12   4  wake          as of any cell
//!       +16   8  piece         the most values that one store publishes: a quarter of the capacity
//!       +24   8  stamps_offset
//!       +32   8  gates_offset
//!       +40  88  reserved      zero
//! ```
//! `data_offset` of the header is where the slots begin, `capacity` how many there are; `element_bytes` is the size of the
//! values, or of the longest one, and the kind says which. Versions count from 1. The first
//! version of the group of `v` is its *base*: `v - v % group`. A stamp is the base of the versions that its group holds.
//!
//! # Protocol
//! | step | the writer of version `v` |
//! |---|---|
//! | 1 | if `v` is the first of its group, it *enters* the group: if gates count and it is not yet known to be free, it looks at them (below); stamp = `v`; release fence |
//! | 2 | the data of the slot, word by word in any order |
//! | 3 | latest = `v`, release; a slice is published by one such store for each piece of it |
//!
//! A reader whose next version is `v` waits until `latest` is at least `v`, fences, copies the slot, fences and loads the
//! stamp. If it is the base of `v`, the copy is whole, and the length is a part of it; else the writer has come round and entered the group: the reader
//! goes on half a lap behind `latest`, or behind that group if that is later. Versions have no gaps, so
//! the distance is how many it missed. A batch of versions is copied at once and validated by the stamp of its *first*
//! version alone: the writer enters groups in order, so that one would be gone first.
//!
//! The stamp belongs to a group so that, while the writer is elsewhere, readers keep its line, and the writer needs one fence
//! for many values. It costs up to a group of the oldest values.
//!
//! ## Gates
//! The writer may enter a group if every gate that is not open has a head beyond what the group holds. It does not look each
//! time. One look, made when `latest` is `p`, says how far it may go until the next one: up to the end of the group of
//! `p + piece`, but not to what the gates forbid. What is entered may be filled, by a successor too. A reader closes its
//! gate so:
//!
//! | step | the reader |
//! |---|---|
//! | 1 | takes the gate's lease and owner word |
//! | 2 | head = `s`, where it would like to start; full fence; `l` = latest |
//! | 3 | if `s` is below `l + piece + group - capacity`, goes on from there instead: head = that |
//!
//! The writer's look is: full fence, load all heads. Both fences are in one order. A look that comes behind the reader's fence
//! finds the head. One that comes before it was made at a `p` that the reader's `l` is not below; all such looks together
//! allow the writer to enter groups whose base is up to `p + piece`, so up to `l + piece`, and those hold nothing from
//! `l + piece + group - capacity` on. So from step 3 on nothing that the reader needs is overwritten, whether the writer has
//! seen it or not, and a reader that starts with what comes next, or with at most [`Log::kept`] values that are there,
//! starts where it wants to.
//!
//! A reader stores its head, as the base of its next version, when it has taken an eighth of the capacity, at least a group, or
//! finds nothing more to take. The writer frees no less than a group at a time.
//!
//! # Invariants
//! - L1: `latest` is stored by the one writer only, and grows by at most a piece at a time.
//! - L2: stamps of one group never go back: they grow by the capacity, in the order of the groups. A successor stores
//!   again what a dead writer stored beyond `latest`.
//! - L3: while the stamp of a group is `b`, its slots of versions up to `latest` hold versions of base `b`, whole.
//! - L4: slots and stamps are found by private versions and the private measure: accesses stay within the log. Of bytes, no
//!   more are copied than the private length of the longest value, whatever the slot says.
//! - L5: the head of a gate is stored by whoever has its lease only.
//!
//! # Ordering
//! | edge | releasing end | acquiring end | hands over |
//! |---|---|---|---|
//! | `log.publish` | `Writer::publish` | `Reader::refresh`: load of `latest` and fence | the slots up to that version, and their stamps |
//! | `log.busy` | `Track::enter`: fence behind the stamp | `Reader::is_whole`: fence in front of the load of the stamp | whoever saw a word of a newer version sees the stamp of its group, or a later one |
//! | `log.follow` | `Track::enter`, `Core::adopt`: the same fences, and that of a successor | `Reader::overtaken`: fence behind the stamp | whoever saw the stamp of a group sees `latest` at most a group and a piece before it |
//! | `gate.meet` | `GatedReader::close`: fence between head and `latest` | `Writer::look_at_gates`: fence between `latest` and heads | either the writer sees the head, or the reader that `latest` |
//! | `gate.free` | `Gate::store_head` | `Writer::look_at_gates`: fence behind the heads | all that the reader did before it let go of these versions |
//! | `cell.adopt` | a former writer's end: its lease, its role | `Log::writer` | all that it wrote |
//!
//! # Crash argument
//! | point | killed or stopped here, the others see | repair |
//! |---|---|---|
//! | writer: in or behind steps 1 and 2 | `latest` as before; readers that were still in that group of the lap before are overtaken, which they would be anyway | the successor writes the same versions again, from step 1. It looks at the gates itself |
//! | writer: behind step 3 | the value or the piece | none |
//! | reader with a gate: step 1 | a gate that is open, or closed as a dead holder left it; a lease that is free | [`Writer::reclaim_gates`], or the next one that takes the gate |
//! | reader with a gate: from step 2 on | a gate that is closed, a lease that is free; the writer is refused | as above |
//! | reader with a gate: leaving, head is 0 | an open gate that names a dead holder | the next one that takes it |
//! | whoever reclaims a gate | as the dead holder left it, or open | as above |
//! | reader without a gate | nothing | none |
//!
//! A reader with a gate that is *stopped* has its lease. Then [`Writer::try_write`] is refused for as long as that lasts,
//! by contract; it never waits.
//!
//! # Not guaranteed
//! - A lying writer can show any bytes as values, of any length that there can be, or make a reader find the log `Corrupt`. A lying reader can keep its
//!   gate closed for as long as it lives, and miss what it has not taken: nothing else.
//! - A reader that the writer overtakes again and again reads half of a lap at a time at best.
//! - The writer may be refused for less than an eighth of the capacity that is taken already: for as long as the reader neither
//!   reads on nor [lets go](GatedReader::release).
//! - Versions are counted to 2^62: at 10^9 values a second, 146 years.
//!
//! # Sources
//! The rotating slots of this crate, with the readers a lap behind instead of at the latest. Of a ring of which the writer
//! tells what it is about to overwrite, and readers find out afterwards, Agrona's broadcast buffer is an example. That the stamp
//! belongs to many slots, is stored once, and is one that readers look at instead of the line that the writer stores to, is
//! our own. The two fences of a gate are Dekker's.
//!
//! # Examples
//! ```
//! use tidewire_seqlock::log::{Log, NextError, Options, Start};
//! use tidewire_shm::{Region, Unleased};
//!
//! let options = Options::new(4).gates(1);
//! let log = Log::create(Region::heap(Log::<u64>::bytes(&options)?)?, &options)?;
//! let mut writer = log.writer(&Unleased)?;
//! let mut lossy = log.reader(Start::Oldest)?;
//! let mut lossless = log.gated_reader(Start::Next, &Unleased)?;
//! for value in 1..=4 {
//!     assert_eq!(writer.try_write(&(value * 10)), Ok(value));
//! }
//! assert!(writer.try_write(&50).is_err(), "the gate has not taken 10");
//! assert_eq!(lossless.next()?, Some((10, 1)));
//! assert_eq!(writer.try_write(&50), Ok(5));
//! assert_eq!(lossy.next(), Err(NextError::Overtaken { missed: 3 }));
//! assert_eq!(lossy.next()?, Some((40, 4)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;
use tidewire_shm::sync::{AtomicU64, Ordering, Words, fence};
use tidewire_shm::{Liveness, Region, Trust, Trusted};

use crate::cell::owner_word;
use crate::codec::{Buffer, Bytes as BytesCodec, Codec, Fixed};
use crate::engine::Core;
use crate::error::{AttachError, Corrupt, CreateError};
use crate::layout::WORD_BYTES;
use crate::role::Owner;
use crate::wait::{KernelRef, system};

pub mod bytes;
mod error;
mod gate;
mod layout;
mod look;
mod reader;
mod room;
mod writer;

use bytes::Bytes;
pub use error::{BytesNextError, LogFull, NextError, TryWriteError};
pub use gate::GatedReader;
use layout::{Element, Layout, Measure};
pub use layout::{KIND_LOG_BYTES, MAX_GATES, Options};
pub use look::{GateStats, View};
pub use reader::Reader;
pub use writer::Writer;

#[cfg(doc)]
use crate::wait::Wake;
#[cfg(doc)]
use tidewire_shm::RoleId;

/// The head of a gate that holds nobody up.
const OPEN: u64 = 0;

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the oldest value that is there.
    Oldest,
    /// With so many of the latest values, or with all that are there if these are fewer.
    History(u64),
    /// With the next value that is published.
    Next,
}

/// The stamps and the slots of a log.
struct Track<T> {
    stamps: Words,
    data: Words,
    measure: Measure,
    /// Of the longest value.
    bytes: usize,
    value: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Track<T> {
    #[cfg_attr(not(loom), expect(clippy::clone_on_copy, reason = "under loom they are counted handles"))]
    fn clone(&self) -> Self {
        let Self { stamps, data, measure, bytes, value } = self;
        Self { stamps: stamps.clone(), data: data.clone(), measure: *measure, bytes: *bytes, value: *value }
    }
}

impl<T> Track<T> {
    /// # Safety
    /// The track is not used after the last handle on the region is dropped.
    unsafe fn new<L: Trust>(region: &Region<L>, layout: &Layout) -> Self {
        let ((stamps, count), (data, words)) = (layout.stamps(), layout.data());
        Self {
            // SAFETY: words of a validated layout, only ever used as atomics; the caller's promise.
            stamps: unsafe { region.words(stamps, count) },
            // SAFETY: as above.
            data: unsafe { region.words(data, words) },
            measure: layout.measure,
            bytes: layout.element.bytes,
            value: PhantomData,
        }
    }

    /// The stamp of the group of a version.
    #[inline(always)]
    fn stamp(&self, version: u64) -> &AtomicU64 {
        // SAFETY: L4; whoever has a track has the region.
        unsafe { self.stamps.word(self.measure.stamp(version)) }
    }

    /// Step 1, where the gates allow it: what the group held is overwritten from here on.
    #[inline(always)]
    fn enter(&self, version: u64) {
        // ORD log.busy: Relaxed, ordered before the data by the fence.
        self.stamp(version).store(version, Ordering::Relaxed);
        // ORD log.busy: Release -> the fence of `Reader::is_whole`; who sees a word stored below sees the stamp above.
        // ORD log.follow: Release -> the fence of `Reader::overtaken`; who sees the next stamp sees what is published by now.
        fence(Ordering::Release);
    }
}

impl<T: Pod> Track<T> {
    /// Words of a slot.
    const WORDS: usize = size_of::<T>().div_ceil(WORD_BYTES);
    /// Whether the bytes of values lie in slots as they do in a slice.
    const DENSE: bool = size_of::<T>().is_multiple_of(WORD_BYTES);
    /// Whether a value is copied word by word: what the caller does with it before and behind that can then stay in
    /// registers, which vectors of other widths would have to wait for.
    const FEW: bool = Self::DENSE && Self::WORDS <= 16;

    /// Step 2, for one version.
    ///
    /// # Safety
    /// The caller is the one writer and has entered the group; the region is alive and writable.
    #[inline(always)]
    unsafe fn store(&self, version: u64, value: &T) {
        let at = self.measure.slot(version) * Self::WORDS;
        if !Self::FEW {
            // SAFETY: L4; the caller's promise.
            unsafe { Fixed::new().store(&self.data, at, value) };
            return;
        }
        let from: *const T = value;
        for i in 0..Self::WORDS {
            // SAFETY: within the value, which has no padding; it may be aligned to less.
            let value = unsafe { from.cast::<u64>().wrapping_add(i).read_unaligned() };
            // SAFETY: L4; the caller's promise.
            let word = unsafe { self.data.word(at + i) };
            // ORD run: Relaxed, the fences of the protocol around the copy carry the order.
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Copies the slot of a version.
    ///
    /// # Safety
    /// `to` is private and may be written; the region is alive.
    #[inline(always)]
    unsafe fn load(&self, version: u64, to: *mut T) {
        let at = self.measure.slot(version) * Self::WORDS;
        if !Self::FEW {
            // SAFETY: L4; the caller's promise.
            unsafe { Fixed::new().load(&self.data, at, to) };
            return;
        }
        for i in 0..Self::WORDS {
            // SAFETY: L4; the caller's promise.
            let word = unsafe { self.data.word(at + i) };
            // ORD run: Relaxed, the fences of the protocol around the copy carry the order.
            let value = word.load(Ordering::Relaxed);
            // SAFETY: within the value, of which the caller says that it may be written; it may be aligned to less.
            unsafe { to.cast::<u64>().wrapping_add(i).write_unaligned(value) };
        }
    }

    /// Step 2, for versions whose slots follow each other, which the caller found.
    ///
    /// # Safety
    /// As [`store`](Self::store).
    #[inline(always)]
    unsafe fn store_run(&self, version: u64, values: &[T]) {
        if Self::DENSE {
            let at = self.measure.slot(version) * Self::WORDS;
            // SAFETY: L4; the caller's promise; plain types have no padding.
            unsafe { self.data.store_bytes(at, values.as_ptr().cast(), size_of_val(values)) };
        } else {
            for (version, value) in (version..).zip(values) {
                // SAFETY: as above.
                unsafe { self.store(version, value) };
            }
        }
    }

    /// Copies versions whose slots follow each other, which the caller found.
    ///
    /// # Safety
    /// The region is alive.
    #[inline(always)]
    unsafe fn load_run(&self, version: u64, values: &mut [T]) {
        if Self::DENSE {
            let at = self.measure.slot(version) * Self::WORDS;
            // SAFETY: L4; the caller's promise; any bytes are a plain type.
            unsafe { self.data.load_bytes(at, values.as_mut_ptr().cast(), size_of_val(values)) };
        } else {
            for (version, value) in (version..).zip(values) {
                // SAFETY: as above.
                unsafe { self.load(version, value) };
            }
        }
    }
}

impl Track<Bytes> {
    #[inline(always)]
    fn codec(&self) -> BytesCodec {
        BytesCodec::new(self.bytes)
    }

    /// Step 2, for one version: the bytes, and their length.
    ///
    /// # Safety
    /// The caller is the one writer and has entered the group; the value is not longer than the longest one; the region is
    /// alive and writable.
    #[inline(always)]
    unsafe fn store(&self, version: u64, value: &[u8]) {
        let (codec, slot) = (self.codec(), self.measure.slot(version));
        // SAFETY: L4; the caller's promise.
        unsafe { codec.store(&self.data, slot * codec.words(), value) };
    }

    /// Copies the slot of a version: its length, and as many bytes, if there is room for them.
    ///
    /// # Safety
    /// The buffer is private and may be written; the region is alive.
    #[inline(always)]
    unsafe fn load(&self, version: u64, to: &mut Buffer) {
        let (codec, slot) = (self.codec(), self.measure.slot(version));
        // SAFETY: L4; the caller's promise.
        unsafe { codec.load(&self.data, slot * codec.words(), to) };
    }
}

/// A log of values of a plain type `T`, or of [bytes](Bytes), in a region, created or opened and validated; gives out its roles.
///
/// `L` says whether the other processes are trusted (see [`Trust`]). Values are copied in and out either way.
pub struct Log<T, L: Trust = Trusted> {
    region: Region<L>,
    layout: Layout,
    value: PhantomData<fn(T) -> T>,
}

impl<T, L: Trust> fmt::Debug for Log<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (capacity, gates) = (self.layout.measure.capacity, self.layout.gates);
        f.debug_struct("Log").field("capacity", &capacity).field("gates", &gates).finish_non_exhaustive()
    }
}

impl<T: Pod> Log<T, Trusted> {
    /// A log on the heap without gates, for threads of this process.
    ///
    /// # Errors
    /// [`CreateError`] if `T` is empty, the capacity cannot be, or memory is short.
    #[cfg(feature = "alloc")]
    pub fn on_heap(capacity: u32) -> Result<Self, CreateError> {
        let options = Options::new(capacity);
        Self::create(Region::heap(Self::bytes(&options)?)?, &options)
    }
}

impl<T: Pod, L: Trust> Log<T, L> {
    /// Bytes of region that a log needs.
    ///
    /// # Errors
    /// [`CreateError`] if `T` is empty or the options cannot be.
    pub fn bytes(options: &Options) -> Result<usize, CreateError> {
        Ok(Layout::new(Element::plain::<T>(), options)?.total_bytes())
    }

    /// Creates a log without values in a region that nobody uses (any more). What lay there is gone from the first store
    /// on; killed in between, the region holds no structure.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), or if the region is too short or cannot be written.
    pub fn create(region: Region<L>, options: &Options) -> Result<Self, CreateError> {
        let layout = Layout::create(&region, Element::plain::<T>(), options)?;
        Ok(Self { region, layout, value: PhantomData })
    }

    /// Opens a log that somebody created; header and shape are read once and never again. Reading needs no right to
    /// write: a [read-only](Region::read_only) region will do.
    ///
    /// # Errors
    /// [`AttachError::Incompatible`] names the first field that differs from what `T` and `type_fingerprint`
    /// would have written.
    pub fn open(region: Region<L>, type_fingerprint: u64) -> Result<Self, AttachError> {
        let layout = Layout::open(&region, Element::plain::<T>(), type_fingerprint)?;
        Ok(Self { region, layout, value: PhantomData })
    }
}

impl<T, L: Trust> Log<T, L> {
    /// Slots of the log: while the writer rests, it keeps this many of the latest values but for less than a sixteenth.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.layout.measure.capacity
    }

    /// How many of the latest values are always there, whatever the writer is doing; a reader with a gate that starts
    /// with no more of them starts where it wants to. At least half of the capacity.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.layout.measure.kept()
    }

    /// How many readers may have gates.
    #[must_use]
    pub fn gates(&self) -> u32 {
        self.layout.gates
    }

    /// A second handle on the region, and the word `latest` behind it.
    fn bind(&self) -> (Core<Fixed<u64>>, Track<T>, Region<L>) {
        let place = self.layout.front.place(0);
        // SAFETY: the region handle goes where the words go. A core of one word that is nowhere used finds `latest`.
        let core = unsafe { Core::new(&self.region, &self.layout.front, &place, Fixed::new()) };
        // SAFETY: as above.
        let track = unsafe { Track::new(&self.region, &self.layout) };
        // SAFETY: the handles of one log follow one protocol: the roles are claimed by their owner words, and
        // references are never lent.
        (core, track, unsafe { self.region.alias() })
    }

    /// A reader without a gate, of which nobody knows. There may be any number of them; none of them ever writes.
    ///
    /// # Errors
    /// [`Corrupt`] if what is published cannot be.
    pub fn reader(&self, start: Start) -> Result<Reader<T, L>, Corrupt> {
        Reader::attach(self, start)
    }

    /// Takes the role of the one writer, with the lease of [`RoleId::producer`] number 0, and goes on from the latest
    /// version.
    ///
    /// If the lease proves it ([`Liveness::PROVES`]), a writer that died is followed here; nothing is to be repaired.
    ///
    /// # Errors
    /// [`AttachError::RoleTaken`] if there is a writer (or was one, and leases prove nothing),
    /// [`AttachError::Incompatible`] if the log was created for another kind of leases, or these are of another segment
    /// ([`Liveness::covers`]), [`AttachError::Region`] if the region cannot be written up to the gates,
    /// [`AttachError::Corrupt`] if what is published cannot be, [`AttachError::Bell`], [`AttachError::NoKernel`] if the
    /// writer shall wake readers and cannot.
    pub fn writer<V: Liveness>(&self, liveness: &V) -> Result<Writer<T, L, V::Lease>, AttachError> {
        Writer::attach(self, system(), liveness)
    }

    /// As [`writer`](Self::writer), with a kernel of the caller's to wake readers by; where there is no system to ask, the
    /// only way to become a writer that [wakes](Wake).
    ///
    /// # Errors
    /// As [`writer`](Self::writer).
    pub fn writer_on<V: Liveness>(
        &self,
        kernel: KernelRef,
        liveness: &V,
    ) -> Result<Writer<T, L, V::Lease>, AttachError> {
        Writer::attach(self, Some(kernel), liveness)
    }

    /// Who holds the role of the writer now.
    #[must_use]
    pub fn writer_owner(&self) -> Option<Owner> {
        Owner::of(&owner_word(&self.region, &self.layout.front.place(0), 0))
    }
}
