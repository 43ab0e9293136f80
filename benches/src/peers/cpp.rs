//! Queues of C++ libraries, through tables of functions: see `cpp/queues.cpp`.
//!
//! Each operation is a call that nobody can inline, which costs them a nanosecond or so that others do not pay.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::Context as _;

use crate::contender::{CAPACITY, Contender, Rx, Tx};
use crate::mpsc::contender::ManyContender;
use crate::pair::{EVERYWHERE, Mode, THREADS};

/// What can be done with a queue. As in `cpp/queues.cpp`.
#[repr(C)]
struct Calls {
    bytes: usize,
    align: usize,
    make: unsafe extern "C" fn(*mut c_void, usize),
    end: unsafe extern "C" fn(*mut c_void),
    producer: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    end_producer: unsafe extern "C" fn(*mut c_void),
    push: unsafe extern "C" fn(*mut c_void, *mut c_void, *const u64) -> bool,
    pop: unsafe extern "C" fn(*mut c_void, *mut u64) -> bool,
    push_batch: unsafe extern "C" fn(*mut c_void, *mut c_void, *const u64, usize) -> usize,
    pop_batch: unsafe extern "C" fn(*mut c_void, *mut u64, usize) -> usize,
    about: unsafe extern "C" fn(*mut c_void) -> usize,
}

type Table = unsafe extern "C" fn(usize) -> *const Calls;

unsafe extern "C" {
    fn benches_boost_spsc(words: usize) -> *const Calls;
    fn benches_reader_writer(words: usize) -> *const Calls;
    fn benches_concurrent(words: usize) -> *const Calls;
}

/// A queue, in memory of our allocator, so that a fork can share what it holds itself.
struct Queue {
    place: NonNull<c_void>,
    calls: &'static Calls,
    layout: Layout,
}

// SAFETY: all that its functions are used for is meant for several threads: each end for one at a time.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    fn new(table: Table, words: usize, producers: usize) -> anyhow::Result<Arc<Self>> {
        // SAFETY: it only looks the table up.
        let calls = unsafe { table(words) };
        // SAFETY: a constant of the other side, laid out as here; null where there is none.
        let calls: &'static Calls = unsafe { calls.as_ref() }
            .with_context(|| format!("expected messages of 1, 8 or 128 words, found {words}"))?;
        let layout = Layout::from_size_align(calls.bytes, calls.align)?;
        // SAFETY: no queue is empty.
        let Some(place) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: as much room as it asked for, aligned as it asked for.
        unsafe { (calls.make)(place.as_ptr().cast(), producers) };
        Ok(Arc::new(Self { place: place.cast(), calls, layout }))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made there by `new`, and no end is left.
        unsafe { (self.calls.end)(self.place.as_ptr()) };
        // SAFETY: allocated by `new`, with this layout.
        unsafe { dealloc(self.place.as_ptr().cast(), self.layout) };
    }
}

/// A producer.
#[expect(missing_debug_implementations, reason = "the queue has none")]
pub struct CppTx {
    queue: Arc<Queue>,
    handle: *mut c_void,
    /// Where the queue has no bound: messages until the next look at its length.
    looks: Option<u32>,
}

// SAFETY: a producer's handle is for one thread at a time.
unsafe impl Send for CppTx {}

/// The consumer.
#[expect(missing_debug_implementations, reason = "the queue has none")]
pub struct CppRx(Arc<Queue>);

/// Messages between two looks at the length of a queue without a bound.
const LOOK: u32 = 64;
/// The length at which its producers wait.
const MOST: usize = 8 * CAPACITY;

impl CppTx {
    fn new(queue: &Arc<Queue>, bounded: bool) -> Self {
        let queue = Arc::clone(queue);
        // SAFETY: the queue lives as long as this end.
        let handle = unsafe { (queue.calls.producer)(queue.place.as_ptr()) };
        Self { queue, handle, looks: (!bounded).then_some(0) }
    }

    /// Whether there is room for some messages more; for a queue without a bound, now and then.
    #[inline(always)]
    fn has_room(&mut self, messages: usize) -> bool {
        let Some(left) = self.looks else { return true };
        let messages = u32::try_from(messages).unwrap_or(LOOK);
        if let Some(left) = left.checked_sub(messages) {
            self.looks = Some(left);
            return true;
        }
        // SAFETY: the queue lives as long as this end.
        let room = unsafe { (self.queue.calls.about)(self.queue.place.as_ptr()) } <= MOST;
        self.looks = Some(if room { LOOK } else { 0 });
        room
    }
}

impl Drop for CppTx {
    fn drop(&mut self) {
        // SAFETY: made by `new` for this end alone.
        unsafe { (self.queue.calls.end_producer)(self.handle) };
    }
}

impl<const W: usize> Tx<W> for CppTx {
    #[inline(always)]
    fn push(&mut self, message: &[u64; W]) -> bool {
        // SAFETY: the queue lives as long as this end, and the table is that for messages of so many words.
        self.has_room(1)
            && unsafe { (self.queue.calls.push)(self.queue.place.as_ptr(), self.handle, message.as_ptr()) }
    }

    #[inline(always)]
    fn push_batch(&mut self, messages: &[[u64; W]]) -> usize {
        if !self.has_room(messages.len()) {
            return 0;
        }
        let (from, count) = (messages.as_ptr().cast(), messages.len());
        // SAFETY: as above, and there are so many messages.
        unsafe { (self.queue.calls.push_batch)(self.queue.place.as_ptr(), self.handle, from, count) }
    }
}

impl<const W: usize> Rx<W> for CppRx {
    #[inline(always)]
    fn pop(&mut self, to: &mut [u64; W]) -> bool {
        // SAFETY: the queue lives as long as this end, and the table is that for messages of so many words.
        unsafe { (self.0.calls.pop)(self.0.place.as_ptr(), to.as_mut_ptr()) }
    }

    #[inline(always)]
    fn pop_batch(&mut self, to: &mut [[u64; W]]) -> usize {
        let (start, room) = (to.as_mut_ptr().cast(), to.len());
        // SAFETY: as above, and there is room for so many messages.
        unsafe { (self.0.calls.pop_batch)(self.0.place.as_ptr(), start, room) }
    }
}

fn pair(table: Table, words: usize) -> anyhow::Result<(CppTx, CppRx)> {
    let queue = Queue::new(table, words, 1)?;
    Ok((CppTx::new(&queue, true), CppRx(queue)))
}

/// Boost's queue of fixed size.
#[derive(Debug)]
pub enum BoostSpsc {}

impl Contender for BoostSpsc {
    const NAME: &'static str = "boost spsc_queue";
    const BATCH: bool = true;
    const MODES: &'static [Mode] = EVERYWHERE;
    type Tx<const W: usize> = CppTx;
    type Rx<const W: usize> = CppRx;

    fn make<const W: usize>() -> anyhow::Result<(CppTx, CppRx)> {
        pair(benches_boost_spsc, W)
    }
}

/// moodycamel's queue for one reader and one writer, whose blocks come from the C library's heap: for threads.
#[derive(Debug)]
pub enum ReaderWriter {}

impl Contender for ReaderWriter {
    const NAME: &'static str = "moodycamel ReaderWriterQueue";
    const BATCH: bool = false;
    const MODES: &'static [Mode] = THREADS;
    type Tx<const W: usize> = CppTx;
    type Rx<const W: usize> = CppRx;

    fn make<const W: usize>() -> anyhow::Result<(CppTx, CppRx)> {
        pair(benches_reader_writer, W)
    }
}

/// moodycamel's queue for many, with a token for each side. It has no bound and allocates as it goes: for threads, and
/// each producer looks at the length before every 64th message and waits above 8192.
#[derive(Debug)]
pub enum Concurrent {}

impl ManyContender for Concurrent {
    const NAME: &'static str = "moodycamel ConcurrentQueue";
    const BATCH: bool = true;
    const MODES: &'static [Mode] = THREADS;
    type Tx<const W: usize> = CppTx;
    type Rx<const W: usize> = CppRx;

    fn make<const W: usize>(producers: usize) -> anyhow::Result<(Vec<CppTx>, CppRx)> {
        let queue = Queue::new(benches_concurrent, W, producers)?;
        Ok(((0..producers).map(|_| CppTx::new(&queue, false)).collect(), CppRx(queue)))
    }
}
