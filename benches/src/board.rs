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
    /// Which share of the time the side that was worst off waited for its core.
    Waited,
    /// The sum of what all sides had, in cores.
    Cores,
    /// Messages of the last of many producers over those of the first.
    Fairness,
    /// Writes per second beside the reads.
    Writes,
    /// Attempts of reads that had to be repeated, per read.
    Retries,
    /// Reads that found no value whole; a protocol has none.
    Torn,
    /// A read alone, ns.
    ReadAlone,
    /// A write alone, ns.
    WriteAlone,
    /// What the clock shows for nothing at all, ns.
    Nothing,
    /// System calls of both sides per million messages; below zero if they cannot be counted.
    Calls,
    /// Whether a receiver was told that its sender was killed: 1, or -1.
    Told,
    /// A time that one process notes for another, in ticks.
    Noted,
    /// Memory of both sides for their first channel, in bytes.
    FirstOwn,
    /// Memory between both sides for it, in bytes.
    FirstShared,
    /// Memory of both sides for each further channel, in bytes.
    Own,
    /// Memory between both sides for it, in bytes.
    Shared,
    /// Seconds of a build.
    Seconds,
    /// Seconds that its processes had.
    CpuSeconds,
    /// Packages that were built.
    Crates,
}

const VALUES: usize = Value::Crates as usize + 1;
const TEXT_BYTES: usize = 480;
const NAME_BYTES: usize = 104;

/// Set-ups that the processes of a sample can tell each other about.
pub const SIGNALS: usize = 16;

/// Where one process says that it has made something, and maybe under which name.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Signal {
    made: AtomicU64,
    joined: AtomicU64,
    name_bytes: AtomicU64,
    name: [AtomicU8; NAME_BYTES],
}

impl Signal {
    /// Says that it is made, under a name of at most 104 bytes.
    ///
    /// # Errors
    /// If the name is longer.
    pub fn made(&self, name: &str) -> anyhow::Result<()> {
        let bytes = name.as_bytes();
        anyhow::ensure!(
            bytes.len() <= NAME_BYTES,
            "expected a name of at most {NAME_BYTES} bytes, found {name:?}"
        );
        for (to, from) in self.name.iter().zip(bytes) {
            // ORD own: Relaxed, `made` publishes it.
            to.store(*from, Ordering::Relaxed);
        }
        // ORD own: Relaxed, as above.
        self.name_bytes.store(bytes.len() as u64, Ordering::Relaxed);
        // ORD signal: Release -> `Signal::is_made`; the name, and what was made.
        self.made.store(1, Ordering::Release);
        Ok(())
    }

    /// Whether it is made.
    #[must_use]
    pub fn is_made(&self) -> bool {
        // ORD signal: Acquire <- `Signal::made`.
        self.made.load(Ordering::Acquire) != 0
    }

    /// Says that the other side has what it needs of it.
    pub fn joined(&self) {
        // ORD signal.joined: Release -> `Signal::is_joined`; what was made for it.
        self.joined.store(1, Ordering::Release);
    }

    /// Whether the other side has what it needs of it.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        // ORD signal.joined: Acquire <- `Signal::joined`.
        self.joined.load(Ordering::Acquire) != 0
    }

    /// Under which name.
    #[must_use]
    pub fn name(&self) -> String {
        // ORD own: Relaxed, `is_made` came before.
        let len = usize::try_from(self.name_bytes.load(Ordering::Relaxed)).unwrap_or(0);
        // ORD own: Relaxed, as above.
        let bytes = self.name.iter().take(len).map(|byte| byte.load(Ordering::Relaxed));
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
    }
}

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
    /// How often a side of a crowd has come to a meeting.
    pub arrived: Word,
    /// Which part of a sample runs.
    phase: Word,
    stop: Word,
    done: Word,
    finished: AtomicU64,
    sides: AtomicU64,
    values: [AtomicU64; VALUES],
    /// What was made.
    pub signals: [Signal; SIGNALS],
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

    /// Says that a producer has ended: nothing more will come from it.
    pub fn done(&self) {
        // ORD board: Release -> `Board::all_done`; everything was pushed before.
        self.done.0.fetch_add(1, Ordering::Release);
    }

    /// Whether the producer has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.all_done(1)
    }

    /// Whether that many producers have ended.
    #[must_use]
    pub fn all_done(&self, producers: usize) -> bool {
        // ORD board: Acquire <- `Board::done`.
        self.done.0.load(Ordering::Acquire) >= producers as u64
    }

    /// Starts a part of the sample.
    pub fn set_phase(&self, phase: u64) {
        // ORD board.phase: Release -> `Board::phase`; nothing is read behind it.
        self.phase.0.store(phase, Ordering::Release);
    }

    /// Which part of the sample runs.
    #[inline(always)]
    #[must_use]
    pub fn phase(&self) -> u64 {
        // ORD board.phase: Acquire <- `Board::set_phase`.
        self.phase.0.load(Ordering::Acquire)
    }

    /// Says how many sides the sample has, where there are not two.
    pub fn expect(&self, sides: usize) {
        // ORD own: Relaxed, set before any side starts and read after all have ended.
        self.sides.store(sides as u64, Ordering::Relaxed);
    }

    /// Says that a side has ended as it should.
    pub fn finish(&self) {
        // ORD board: Release -> `Board::is_finished`; the values were set before.
        self.finished.fetch_add(1, Ordering::Release);
    }

    /// Whether all sides ended as they should.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // ORD own: Relaxed, as in `expect`.
        let sides = match self.sides.load(Ordering::Relaxed) {
            0 => 2,
            sides => sides,
        };
        // ORD board: Acquire <- `Board::finish`.
        self.finished.load(Ordering::Acquire) == sides
    }

    /// Notes a result.
    pub fn set(&self, value: Value, number: f64) {
        if let Some(word) = self.values.get(value as usize) {
            // ORD own: Relaxed, `finish` publishes it.
            word.store(number.to_bits(), Ordering::Relaxed);
        }
    }

    /// Changes a result that several sides form together.
    fn update(&self, value: Value, change: impl Fn(f64) -> f64) {
        if let Some(word) = self.values.get(value as usize) {
            // ORD own: Relaxed, `finish` publishes it.
            let _done = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
                Some(change(f64::from_bits(bits)).to_bits())
            });
        }
    }

    /// Adds to a result.
    pub fn add(&self, value: Value, number: f64) {
        self.update(value, |sum| sum + number);
    }

    /// Notes a result if it is higher than what is noted.
    pub fn raise(&self, value: Value, number: f64) {
        self.update(value, |most| most.max(number));
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
