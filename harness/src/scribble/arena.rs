//! The memory of a scribble run: what the victim and the hostile process share, between two pages that nobody may
//! touch; and the page that only the victim and the harness share.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use tidewire_shm::{HEADER_BYTES, Origin, Region};

const PAGE: usize = 4096;
/// What fills the bytes between the first guard page and the structure.
const CANARY: u64 = 0x5AFE_C0DE_5AFE_C0DE;

/// A mapping that ends when it is dropped.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address and a length; what may be done there is the arena's affair.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize, protection: i32, flags: i32) -> Result<Self> {
        // SAFETY: a new anonymous mapping where the kernel likes it.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), len, protection, flags | libc::MAP_ANONYMOUS, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).with_context(|| format!("mapping {len} bytes"));
        }
        let base = NonNull::new(base.cast()).context("expected a mapping, found address zero")?;
        Ok(Self { base, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, unmapped once; every user of the bytes holds the mapping.
        unsafe { libc::munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}

/// Shared memory between two guard pages; the structure ends where the second one starts.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    mapping: Arc<Mapping>,
    base: NonNull<u8>,
    len: usize,
    slack: usize,
    header: [u64; HEADER_BYTES / 8],
}

impl Arena {
    /// Room for a structure of `len` bytes, zeroed.
    pub(crate) fn new(len: usize) -> Result<Self> {
        ensure!(len >= HEADER_BYTES && len.is_multiple_of(128), "expected whole lines, found {len} bytes");
        let inner = len.next_multiple_of(PAGE);
        let mapping = Mapping::new(inner + 2 * PAGE, libc::PROT_NONE, libc::MAP_PRIVATE)?;
        // SAFETY: one page into a mapping that is longer.
        let start = unsafe { mapping.base.add(PAGE) };
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: replaces pages of our own mapping that nobody uses yet.
        let mapped = unsafe {
            libc::mmap(start.as_ptr().cast(), inner, protection, flags | libc::MAP_ANONYMOUS, -1, 0)
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mapping the arena between its guard pages");
        }
        let slack = inner - len;
        // SAFETY: `slack` is less than a page of the pages just mapped.
        let base = unsafe { start.add(slack) };
        let arena = Self { mapping: Arc::new(mapping), base, len, slack, header: [0; HEADER_BYTES / 8] };
        for word in 0..slack / 8 {
            arena.slack_word(word).store(CANARY, Ordering::Relaxed);
        }
        Ok(arena)
    }

    /// Remembers the header as it is now: [`restore_header`](Self::restore_header) writes it again.
    pub(crate) fn remember_header(&mut self) {
        self.header = std::array::from_fn(|i| self.word(i * 8).load(Ordering::Relaxed));
    }

    /// Writes the remembered header.
    pub(crate) fn restore_header(&self) {
        for (i, word) in self.header.iter().enumerate() {
            self.word(i * 8).store(*word, Ordering::Relaxed);
        }
    }

    /// The remembered word of the header at this offset.
    pub(crate) fn header_word(&self, offset: usize) -> u64 {
        self.header.get(offset / 8).copied().unwrap_or(0)
    }

    /// A region over the structure; keeps the mapping.
    pub(crate) fn region(&self) -> Result<Region> {
        // Not memory of one process: leases of the kernel may speak of it.
        let origin = Origin { nonce: 1, ..Origin::default() };
        // SAFETY: mapped, initialised and kept; in this process used through regions and atomic words only.
        let region = unsafe { Region::from_raw_parts(self.base, self.len, origin, self.mapping.clone()) };
        Ok(region?)
    }

    /// Bytes of the structure.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The word at an offset of the structure, rounded down to a multiple of eight; the last word beyond its end.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        let offset = offset.min(self.len - 8) & !7;
        // SAFETY: in bounds and aligned, just made so.
        let word = unsafe { self.base.add(offset) }.cast::<AtomicU64>();
        // SAFETY: mapped as long as the arena is; shared with processes that may write anything.
        unsafe { word.as_ref() }
    }

    /// The address of a byte; whatever is done with it is the caller's doing.
    pub(crate) fn address(&self, offset: usize) -> *mut u8 {
        self.base.as_ptr().wrapping_add(offset)
    }

    fn slack_word(&self, word: usize) -> &AtomicU64 {
        // SAFETY: callers stay below `slack`, which lies mapped in front of the structure.
        let word = unsafe { self.base.offset((word * 8) as isize - self.slack as isize) }.cast::<AtomicU64>();
        // SAFETY: as above; lives as long as the arena.
        unsafe { word.as_ref() }
    }

    /// Whether the bytes in front of the structure are what they were. Looks at the nearest 64.
    pub(crate) fn is_slack_whole(&self) -> bool {
        let words = self.slack / 8;
        (words.saturating_sub(8)..words).all(|word| self.slack_word(word).load(Ordering::Relaxed) == CANARY)
    }
}

/// What the victim tells the harness; the hostile process cannot write it.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Progress {
    /// Set by the harness: end after this turn.
    pub(crate) stop: AtomicU64,
    /// Turns finished.
    pub(crate) beat: AtomicU64,
    pub(crate) operations: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    /// The number of the operation under way.
    pub(crate) act: AtomicU64,
    pub(crate) fault_address: AtomicU64,
    pub(crate) fault_instruction: AtomicU64,
    note: Note,
}

#[derive(Debug)]
#[repr(C)]
struct Note {
    len: AtomicU64,
    text: [AtomicU8; 1024],
}

impl Default for Note {
    fn default() -> Self {
        Self { len: AtomicU64::new(0), text: [const { AtomicU8::new(0) }; 1024] }
    }
}

impl Progress {
    /// Leaves a line for the harness.
    pub(crate) fn say(&self, text: &str) {
        for (to, from) in self.note.text.iter().zip(text.bytes()) {
            to.store(from, Ordering::Relaxed);
        }
        self.note.len.store(text.len() as u64, Ordering::Release);
    }

    /// What was left, if anything.
    pub(crate) fn said(&self) -> Option<String> {
        let len = usize::try_from(self.note.len.load(Ordering::Acquire)).ok()?;
        let bytes: Vec<u8> =
            self.note.text.iter().take(len).map(|byte| byte.load(Ordering::Relaxed)).collect();
        (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A page of [`Progress`].
#[derive(Debug)]
pub(crate) struct Page {
    mapping: Mapping,
}

impl Page {
    pub(crate) fn new() -> Result<Self> {
        const { assert!(size_of::<Progress>() <= PAGE) };
        let mapping = Mapping::new(PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)?;
        Ok(Self { mapping })
    }

    pub(crate) fn progress(&self) -> &Progress {
        // SAFETY: a zeroed page, which is a `Progress` of atomics, alive as long as `self`.
        unsafe { self.mapping.base.cast::<Progress>().as_ref() }
    }

    /// Ends this process's right to write to the page: for the hostile process, which may only look at it.
    pub(crate) fn protect(&self) {
        // SAFETY: changes our own page, which this process does not write to from here on.
        unsafe { libc::mprotect(self.mapping.base.as_ptr().cast(), PAGE, libc::PROT_READ) };
    }
}
