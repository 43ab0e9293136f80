//! The bare wake-up: one slot in shared memory, and a futex for whoever has to wait. A limit and no contender: it
//! knows no names, no sizes and no deaths, and sleeps and wakes for each message.

use std::fs::{File, OpenOptions};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use rustix::fs::ftruncate;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::futex;

use crate::message::contender::{Layer, MessageRx, MessageTx};
use crate::message::place::Link;

/// The slot.
#[derive(Debug)]
pub enum Futex {}

/// Where the message begins, behind the word that says whether there is one.
const MESSAGE: usize = 128;
const EMPTY: u32 = 0;
const FULL: u32 = 1;

/// An end of it.
#[derive(Debug)]
pub struct End<const W: usize> {
    base: NonNull<u8>,
}

impl<const W: usize> End<W> {
    const BYTES: usize = MESSAGE + 8 * W;

    fn map(file: &File) -> anyhow::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(ptr::null_mut(), Self::BYTES, access, flags, file, 0) };
        let base = base.context("map the slot")?;
        Ok(Self { base: NonNull::new(base.cast()).context("map the slot")? })
    }

    fn turn(&self) -> &AtomicU32 {
        // SAFETY: the start of the mapping, which lives as long as this end; only used as this atomic.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().cast()) }
    }

    fn message(&self) -> *mut [u64; W] {
        // SAFETY: inside of the mapping.
        unsafe { self.base.as_ptr().add(MESSAGE) }.cast()
    }

    /// Sleeps until the slot is as wanted.
    fn await_turn(&self, wanted: u32) -> anyhow::Result<()> {
        // ORD futex: Acquire <- `End::hand_over`; the message, or the room for it.
        while self.turn().load(Ordering::Acquire) != wanted {
            match futex::wait(self.turn(), futex::Flags::empty(), 1 - wanted, None) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for the slot"),
            }
        }
        Ok(())
    }

    fn hand_over(&self, turn: u32) -> anyhow::Result<()> {
        // ORD futex: Release -> `End::await_turn`; the message, or the room for it.
        self.turn().store(turn, Ordering::Release);
        futex::wake(self.turn(), futex::Flags::empty(), 1).context("wake the other side")?;
        Ok(())
    }
}

impl<const W: usize> Drop for End<W> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; no reference outlives its owner.
        let _gone = unsafe { munmap(self.base.as_ptr().cast(), Self::BYTES) };
    }
}

impl Layer for Futex {
    const NAME: &'static str = "futex alone";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = End<W>;
    type Rx<const W: usize> = End<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<End<W>> {
        link.await_made();
        let file = OpenOptions::new().read(true).write(true).open(link.path());
        End::map(&file.context("open the slot")?)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<End<W>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(link.path());
        let file = file.context("make the slot")?;
        ftruncate(&file, End::<W>::BYTES as u64).context("make room for the slot")?;
        let end = End::map(&file)?;
        link.made();
        Ok(end)
    }
}

impl<const W: usize> MessageTx<W> for End<W> {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.await_turn(EMPTY)?;
        // SAFETY: mapped and aligned; while the slot is empty it is the sender's alone.
        unsafe { ptr::copy_nonoverlapping(message, self.message(), 1) };
        self.hand_over(FULL)
    }
}

impl<const W: usize> MessageRx<W> for End<W> {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.await_turn(FULL)?;
        // SAFETY: mapped and aligned; while the slot is full it is the receiver's alone.
        unsafe { ptr::copy_nonoverlapping(self.message(), buffer, 1) };
        self.hand_over(EMPTY)?;
        read(buffer);
        Ok(true)
    }
}
