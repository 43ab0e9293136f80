//! What the two sides of a sample and the process that ordered it tell each other, in shared memory.

use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use anyhow::Context as _;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A word alone on its line, and on the line that is fetched with it.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Word(pub AtomicU64);

/// What a sample measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Value {
    /// Round trip of one line before the sample, ns.
    LineBefore,
    /// Round trip of two lines before the sample, ns.
    FloorBefore,
    /// Round trip of one line after the sample, ns.
    LineAfter,
    /// Round trip of two lines after the sample, ns.
    FloorAfter,
    /// Messages per second in the window.
    Rate,
    /// Messages per second in the first ten milliseconds.
    FirstRate,
    /// Mean of the lowest nine tenths, ns.
    Mean,
    /// Median, ns.
    P50,
    /// ns.
    P99,
    /// ns.
    P999,
    /// ns.
    Max,
    /// Messages measured.
    Count,
    /// Which share of the time side A had its core to itself.
    ShareA,
    /// The same of side B.
    ShareB,
}

const VALUES: usize = Value::ShareB as usize + 1;
const TEXT_BYTES: usize = 480;

/// One sample's shared words.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Board {
    /// The probes' first line.
    pub ping: Word,
    /// The probes' second line.
    pub pong: Word,
    /// How many meetings side A has reached.
    pub here_a: Word,
    /// How many meetings side B has reached.
    pub here_b: Word,
    stop: Word,
    done: Word,
    finished: AtomicU64,
    values: [AtomicU64; VALUES],
    text_bytes: AtomicU64,
    text: [AtomicU8; TEXT_BYTES],
}

/// A board in memory that forks share; unmapped when dropped.
#[derive(Debug)]
pub struct SharedBoard {
    board: ptr::NonNull<Board>,
}

impl SharedBoard {
    /// A blank board.
    ///
    /// # Errors
    /// If the system has no memory to give.
    pub fn new() -> anyhow::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                size_of::<Board>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::POPULATE,
            )
        };
        let base = base.context("map the board")?;
        Ok(Self { board: ptr::NonNull::new(base.cast()).context("map the board")? })
    }
}

impl std::ops::Deref for SharedBoard {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: mapped until dropped, aligned to a page; all fields are atomics, for which zero bytes are valid.
        unsafe { self.board.as_ref() }
    }
}

impl Drop for SharedBoard {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference outlives the owner.
        let _gone = unsafe { munmap(self.board.as_ptr().cast(), size_of::<Board>()) };
    }
}

impl Board {
    /// Asks the producer to end.
    pub fn stop(&self) {
        // ORD board: Release -> `Board::stopped`; nothing is read behind it.
        self.stop.0.store(1, Ordering::Release);
    }

    /// Whether the other side asked to end.
    #[inline(always)]
    #[must_use]
    pub fn stopped(&self) -> bool {
        // ORD board: Acquire <- `Board::stop`.
        self.stop.0.load(Ordering::Acquire) != 0
    }

    /// Says that the producer has ended: nothing more will come.
    pub fn done(&self) {
        // ORD board: Release -> `Board::is_done`; everything was pushed before.
        self.done.0.store(1, Ordering::Release);
    }

    /// Whether the producer has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // ORD board: Acquire <- `Board::done`.
        self.done.0.load(Ordering::Acquire) != 0
    }

    /// Says that a side has ended as it should; two do.
    pub fn finish(&self) {
        // ORD board: Release -> `Board::is_finished`; the values were set before.
        self.finished.fetch_add(1, Ordering::Release);
    }

    /// Whether both sides ended as they should.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // ORD board: Acquire <- `Board::finish`.
        self.finished.load(Ordering::Acquire) == 2
    }

    /// Notes a result.
    pub fn set(&self, value: Value, number: f64) {
        if let Some(word) = self.values.get(value as usize) {
            // ORD own: Relaxed, `finish` publishes it.
            word.store(number.to_bits(), Ordering::Relaxed);
        }
    }

    /// A result; 0 if it was never noted.
    #[must_use]
    pub fn get(&self, value: Value) -> f64 {
        // ORD own: Relaxed, `is_finished` or the wait for the process came before.
        self.values.get(value as usize).map_or(0.0, |word| f64::from_bits(word.load(Ordering::Relaxed)))
    }

    /// Notes why the sample is no good; the first reason stays.
    pub fn fail(&self, reason: &str) {
        let bytes = reason.as_bytes();
        let bytes = bytes.get(..TEXT_BYTES).unwrap_or(bytes);
        let len = bytes.len() as u64;
        // ORD board.text: Relaxed, the wait for the process orders the text before its reader.
        if self.text_bytes.compare_exchange(0, len, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            for (to, from) in self.text.iter().zip(bytes) {
                // ORD board.text: Relaxed, as above.
                to.store(*from, Ordering::Relaxed);
            }
        }
    }

    /// Why the sample is no good, if somebody said so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        // ORD board.text: Relaxed, the wait for the process came before.
        let len = usize::try_from(self.text_bytes.load(Ordering::Relaxed)).unwrap_or(0);
        // ORD board.text: Relaxed, as above.
        let bytes = self.text.iter().take(len).map(|byte| byte.load(Ordering::Relaxed));
        (len > 0).then(|| String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned())
    }
}
