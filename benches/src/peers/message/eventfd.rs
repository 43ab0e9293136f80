//! The bare wake-up through a descriptor: one [slot](super::slot) in shared memory, and an eventfd for each side that
//! has to wait. A limit and no contender; only where a sleeper is woken.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::Context as _;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use crate::message::contender::{Layer, MessageRx, MessageTx, Part};
use crate::message::place::Link;
use crate::peers::message::fds;
use crate::peers::message::slot::{EMPTY, FULL, Slot};

/// The slot.
#[derive(Debug)]
pub enum Eventfd {}

/// An end of it.
#[derive(Debug)]
pub struct End<const W: usize> {
    slot: Slot<W>,
    /// There is a message.
    full: OwnedFd,
    /// There is room.
    empty: OwnedFd,
}

/// Sleeps until the other side says so.
fn sleep_on(fd: &OwnedFd) -> anyhow::Result<()> {
    loop {
        match read(fd, &mut [0_u8; 8]) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for an eventfd"),
        }
    }
}

fn ring(fd: &OwnedFd) -> anyhow::Result<()> {
    write(fd, &1_u64.to_ne_bytes()).context("write to an eventfd")?;
    Ok(())
}

impl Layer for Eventfd {
    const NAME: &'static str = "eventfd alone";
    const SLEEPS: bool = true;
    const PART: Part = Part::Wake;
    type Tx<const W: usize> = End<W>;
    type Rx<const W: usize> = End<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<End<W>> {
        let slot = Slot::create(link)?;
        let full = eventfd(0, EventfdFlags::CLOEXEC).context("make an eventfd")?;
        let empty = eventfd(1, EventfdFlags::CLOEXEC).context("make an eventfd")?;
        link.await_made();
        fds::hand_over(&link.path().with_extension("fds"), &[full.as_fd(), empty.as_fd()])?;
        Ok(End { slot, full, empty })
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<End<W>> {
        let listener = UnixListener::bind(link.path().with_extension("fds"))?;
        link.made();
        let [full, empty] = fds::take_over(&listener)?;
        Ok(End { slot: Slot::open(link)?, full, empty })
    }
}

impl<const W: usize> MessageTx<W> for End<W> {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        sleep_on(&self.empty)?;
        self.slot.write(message);
        self.slot.set(FULL);
        ring(&self.full)
    }
}

impl<const W: usize> MessageRx<W> for End<W> {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        sleep_on(&self.full)?;
        anyhow::ensure!(self.slot.is(FULL), "expected a message behind its event, found none");
        self.slot.read(buffer);
        self.slot.set(EMPTY);
        ring(&self.empty)?;
        read(buffer);
        Ok(true)
    }
}
