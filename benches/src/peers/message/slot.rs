//! One slot in shared memory, and a word that says whose turn it is: the least that a message from one process to
//! another can be. Looked at again and again it is a limit of whoever spins; [futex](super::futex) and
//! [eventfd](super::eventfd) sleep at it. No contender: it knows no names, no sizes and no deaths.

use std::fs::{File, OpenOptions};
use std::hint::spin_loop;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use rustix::fs::ftruncate;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::message::contender::{Layer, MessageRx, MessageTx, Part};
use crate::message::place::Link;

/// Where the message begins, behind the word that says whether there is one.
const MESSAGE: usize = 128;
/// It is the sender's turn.
pub(super) const EMPTY: u32 = 0;
/// It is the receiver's turn.
pub(super) const FULL: u32 = 1;

/// The slot, as one side has it mapped.
#[derive(Debug)]
pub struct Slot<const W: usize> {
    base: NonNull<u8>,
}

impl<const W: usize> Slot<W> {
    const BYTES: usize = MESSAGE + 8 * W;

    /// Makes the slot of a link, and says so.
    pub(super) fn create(link: &Link<'_>) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(link.path());
        let file = file.context("make the slot")?;
        ftruncate(&file, Self::BYTES as u64).context("make room for the slot")?;
        Self::map(&file)
    }

    /// Opens the slot that the other side has made.
    pub(super) fn open(link: &Link<'_>) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(link.path());
        Self::map(&file.context("open the slot")?)
    }

    fn map(file: &File) -> anyhow::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(ptr::null_mut(), Self::BYTES, access, flags, file, 0) };
        let base = base.context("map the slot")?;
        Ok(Self { base: NonNull::new(base.cast()).context("map the slot")? })
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> &AtomicU32 {
        // SAFETY: the start of the mapping, which lives as long as this end; only used as this atomic.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().cast()) }
    }

    #[inline(always)]
    pub(super) fn is(&self, wanted: u32) -> bool {
        // ORD slot: Acquire <- `Slot::set`; the message, or the room for it.
        self.turn().load(Ordering::Acquire) == wanted
    }

    #[inline(always)]
    pub(super) fn set(&self, turn: u32) {
        // ORD slot: Release -> `Slot::is`; the message, or the room for it.
        self.turn().store(turn, Ordering::Release);
    }

    fn message(&self) -> *mut [u64; W] {
        // SAFETY: inside of the mapping.
        unsafe { self.base.as_ptr().add(MESSAGE) }.cast()
    }

    /// Writes the message; for a sender whose turn it is.
    #[inline(always)]
    pub(super) fn write(&mut self, message: &[u64; W]) {
        // SAFETY: mapped and aligned; while the slot is empty it is the sender's alone.
        unsafe { ptr::copy_nonoverlapping(message, self.message(), 1) };
    }

    /// Reads the message; for a receiver whose turn it is.
    #[inline(always)]
    pub(super) fn read(&self, buffer: &mut [u64; W]) {
        // SAFETY: mapped and aligned; while the slot is full it is the receiver's alone.
        unsafe { ptr::copy_nonoverlapping(self.message(), buffer, 1) };
    }

    /// The message where it lies; for whose turn it is.
    #[inline(always)]
    fn in_place(&mut self) -> &mut [u64; W] {
        // SAFETY: mapped and aligned, any bytes are words, and nobody else uses it during this side's turn.
        unsafe { &mut *self.message() }
    }
}

impl<const W: usize> Drop for Slot<W> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; no reference outlives its owner.
        let _gone = unsafe { munmap(self.base.as_ptr().cast(), Self::BYTES) };
    }
}

/// A slot whose sides look again and again, and write and read in it.
#[derive(Debug)]
pub enum Spinning {}

impl Layer for Spinning {
    const NAME: &'static str = "one slot alone";
    const SLEEPS: bool = false;
    const PART: Part = Part::Flow;
    type Tx<const W: usize> = Slot<W>;
    type Rx<const W: usize> = Slot<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Slot<W>> {
        link.await_made();
        Slot::open(link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<Slot<W>> {
        let slot = Slot::create(link)?;
        link.made();
        Ok(slot)
    }
}

impl<const W: usize> MessageTx<W> for Slot<W> {
    const IN_PLACE: bool = true;

    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.send_in_place(|place| *place = *message)
    }

    #[inline(always)]
    fn send_in_place(&mut self, write: impl FnOnce(&mut [u64; W])) -> anyhow::Result<()> {
        while !self.is(EMPTY) {
            spin_loop();
        }
        write(self.in_place());
        self.set(FULL);
        Ok(())
    }
}

impl<const W: usize> MessageRx<W> for Slot<W> {
    #[inline(always)]
    fn receive(&mut self, _: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        if !self.is(FULL) {
            return Ok(false);
        }
        read(self.in_place());
        self.set(EMPTY);
        Ok(true)
    }
}
