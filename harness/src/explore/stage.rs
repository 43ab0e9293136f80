//! The memory that the tracer, the victims and the judges share: one segment and one scratch page.
//!
//! ```text
//! guard page | ... segment | guard page | scratch | guard page
//! ```
//! The segment ends at a guard page, so that a write past its end is a signal and not a silent change. All
//! processes are forked from the tracer, so the addresses are the same in each of them.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::io;

/// Words that one role can hand out of an operation.
const OUTPUT_WORDS: usize = 64;

/// Words that [`Operation::interfere`](super::Operation::interfere) can leave for the judge.
const NOTE_WORDS: usize = 64;

/// Bytes of a text that a child leaves for the tracer.
const TEXT_BYTES: usize = 2048;

const PAGE_BYTES: usize = 4096;

/// A structure's own alignment: lines of 128 bytes.
const LINE_BYTES: usize = 128;

/// Who acts in a run with two actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The victim.
    First,
    /// Its partner, or the process that recovers after it.
    Second,
}

/// What outlives an actor, apart from the segment.
#[derive(Debug)]
#[repr(C)]
struct Scratch {
    returned: [AtomicU64; 2],
    results: [AtomicU64; 2],
    output: [[AtomicU64; OUTPUT_WORDS]; 2],
    notes: [AtomicU64; NOTE_WORDS],
    text_bytes: AtomicU64,
    text: [AtomicU8; TEXT_BYTES],
}

/// Bytes of the scratch that a verdict may depend on: all but the text.
const SCRATCH_KEY_BYTES: usize = core::mem::offset_of!(Scratch, text_bytes);

/// The segment and the scratch of one operation.
pub(crate) struct Stage {
    base: NonNull<u8>,
    mapped: usize,
    segment: NonNull<u8>,
    bytes: usize,
    scratch: NonNull<Scratch>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Stage {
    /// Maps a stage with a segment of `bytes` bytes, rounded up to whole lines.
    ///
    /// # Errors
    /// What the kernel says when it has no memory to map, or when `bytes` is no possible length.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let wrong =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("a segment cannot have {bytes} bytes"));
        let lines = bytes.max(1).checked_next_multiple_of(LINE_BYTES).ok_or_else(wrong)?;
        let pages = lines.checked_next_multiple_of(PAGE_BYTES).ok_or_else(wrong)?;
        let scratch_pages = size_of::<Scratch>().next_multiple_of(PAGE_BYTES);
        let mapped = pages.checked_add(scratch_pages + 3 * PAGE_BYTES).ok_or_else(wrong)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                mapped,
                libc::PROT_NONE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast::<u8>()).ok_or_else(wrong)?;
        // SAFETY: both offsets lie within the mapping, which is `pages + scratch_pages` and three guards long.
        let segment_pages = unsafe { base.add(PAGE_BYTES) };
        // SAFETY: as above.
        let segment = unsafe { base.add(PAGE_BYTES + pages - lines) };
        // SAFETY: as above.
        let scratch = unsafe { base.add(2 * PAGE_BYTES + pages) };
        let stage = Self { base, mapped, segment, bytes: lines, scratch: scratch.cast() };
        open(segment_pages, pages)?;
        open(scratch, scratch_pages)?;
        Ok(stage)
    }

    /// The first byte of the segment, 128-byte aligned; the same address in every process of the run.
    pub(crate) fn segment(&self) -> NonNull<u8> {
        self.segment
    }

    /// Bytes of the segment: what the operation asked for, rounded up to whole lines.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn scratch(&self) -> &Scratch {
        // SAFETY: the scratch pages are mapped as long as `self`, zeroed at the start, and hold atomics only.
        unsafe { self.scratch.as_ref() }
    }

    /// Words in which the act of `role` hands out what it got; they outlive it, whole or not.
    pub(crate) fn output(&self, role: Role) -> &[AtomicU64; OUTPUT_WORDS] {
        let [first, second] = &self.scratch().output;
        match role {
            Role::First => first,
            Role::Second => second,
        }
    }

    /// Words in which the others tell the judge what they did.
    pub(crate) fn notes(&self) -> &[AtomicU64; NOTE_WORDS] {
        &self.scratch().notes
    }

    /// The result that the act of `role` returned, if it returned.
    pub(crate) fn acknowledged(&self, role: Role) -> Option<u64> {
        let scratch = self.scratch();
        let (returned, result) = pair(&scratch.returned, &scratch.results, role);
        // ORD stage.acknowledge: Acquire <- `arch::acknowledge`; the result is written.
        let returned = returned.load(Ordering::Acquire);
        // ORD stage.acknowledge: Relaxed, ordered by the flag above.
        (returned != 0).then(|| result.load(Ordering::Relaxed))
    }

    /// Where the act of `role` leaves its result, and then a one that says that it returned.
    pub(super) fn receipt(&self, role: Role) -> (*mut u64, *mut u64) {
        let scratch = self.scratch();
        let (returned, result) = pair(&scratch.returned, &scratch.results, role);
        (result.as_ptr(), returned.as_ptr())
    }

    /// Zeroes the segment and the scratch.
    pub(super) fn clear(&self) {
        // SAFETY: `bytes` writable bytes of our own mapping; no reference into them is alive: the handles of
        // earlier runs died with their processes, and those of `prepare` are dropped when it returns.
        unsafe { self.segment.as_ptr().write_bytes(0, self.bytes) };
        // SAFETY: as above, for the scratch; the borrows of it end in the functions that make them.
        unsafe { self.scratch.as_ptr().write_bytes(0, 1) };
    }

    /// A copy of everything that a verdict may depend on: the segment, then acknowledgements, output and notes.
    pub(super) fn snapshot(&self) -> Box<[u8]> {
        let mut bytes = vec![0; self.bytes + SCRATCH_KEY_BYTES].into_boxed_slice();
        let (segment, scratch) = bytes.split_at_mut(self.bytes);
        // SAFETY: source and target have `bytes` bytes; every other process of the run is stopped or dead.
        unsafe {
            self.segment.as_ptr().copy_to_nonoverlapping(segment.as_mut_ptr(), segment.len());
        };
        // SAFETY: as above; the key is a prefix of the scratch.
        unsafe {
            self.scratch.as_ptr().cast::<u8>().copy_to_nonoverlapping(scratch.as_mut_ptr(), scratch.len());
        };
        bytes
    }

    /// Writes a snapshot of this stage back.
    pub(super) fn restore(&self, snapshot: &[u8]) {
        let (segment, scratch) = snapshot.split_at(self.bytes.min(snapshot.len()));
        // SAFETY: a snapshot's segment has `bytes` bytes; every other process of the run is stopped or dead.
        unsafe {
            self.segment.as_ptr().copy_from_nonoverlapping(segment.as_ptr(), segment.len());
        };
        let scratch_bytes = scratch.len().min(SCRATCH_KEY_BYTES);
        // SAFETY: as above, at most the key, a prefix of the scratch.
        unsafe {
            self.scratch.as_ptr().cast::<u8>().copy_from_nonoverlapping(scratch.as_ptr(), scratch_bytes);
        };
    }

    /// Replaces the eight bytes at `offset` of the segment, as a hostile peer would; `None` if out of bounds.
    pub(super) fn replace_word(&self, offset: usize, with: impl FnOnce(u64) -> u64) -> Option<()> {
        if offset.checked_add(8)? > self.bytes {
            return None;
        }
        // SAFETY: just checked to lie within the segment.
        let word = unsafe { self.segment.add(offset) }.cast::<u64>();
        // SAFETY: within the mapping; the victim is stopped.
        let old = unsafe { word.read_unaligned() };
        // SAFETY: as above.
        unsafe { word.write_unaligned(with(old)) };
        Some(())
    }

    /// Leaves a text for the tracer, cut at the room there is.
    pub(super) fn write_text(&self, text: &str) {
        let scratch = self.scratch();
        let mut written = 0;
        for (to, from) in scratch.text.iter().zip(text.bytes()) {
            // ORD stage.text: Relaxed, the tracer reads after the writer's end.
            to.store(from, Ordering::Relaxed);
            written += 1;
        }
        // ORD stage.text: Relaxed, as above.
        scratch.text_bytes.store(written, Ordering::Relaxed);
    }

    /// The text that a child left.
    pub(super) fn read_text(&self) -> String {
        let scratch = self.scratch();
        // ORD stage.text: Relaxed, the writer has ended.
        let length = usize::try_from(scratch.text_bytes.load(Ordering::Relaxed)).unwrap_or(TEXT_BYTES);
        // ORD stage.text: Relaxed, as above.
        let bytes: Vec<u8> =
            scratch.text.iter().take(length).map(|byte| byte.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // SAFETY: our own mapping, with the length it was made with; all borrows of it end with `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// The words of `role`.
fn pair<'a>(
    returned: &'a [AtomicU64; 2],
    results: &'a [AtomicU64; 2],
    role: Role,
) -> (&'a AtomicU64, &'a AtomicU64) {
    let ([first_flag, second_flag], [first, second]) = (returned, results);
    match role {
        Role::First => (first_flag, first),
        Role::Second => (second_flag, second),
    }
}

/// Makes pages of the mapping readable and writable.
fn open(at: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: called with page runs of the mapping that `Stage::new` just made.
    let done = unsafe { libc::mprotect(at.as_ptr().cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
