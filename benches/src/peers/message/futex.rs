//! The bare wake-up: one [slot](super::slot) in shared memory, and a futex for whoever has to wait. A limit and no
//! contender: it sleeps and wakes for each message.

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::thread::futex;

use crate::message::contender::{Layer, MessageRx, MessageTx};
use crate::message::place::Link;
use crate::peers::message::slot::{EMPTY, FULL, Slot};

/// The slot.
#[derive(Debug)]
pub enum Futex {}

/// An end of it.
#[derive(Debug)]
pub struct End<const W: usize>(Slot<W>);

impl<const W: usize> End<W> {
    /// Sleeps until the slot is as wanted.
    fn await_turn(&self, wanted: u32) -> anyhow::Result<()> {
        while !self.0.is(wanted) {
            match futex::wait(self.0.turn(), futex::Flags::empty(), 1 - wanted, None) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for the slot"),
            }
        }
        Ok(())
    }

    fn hand_over(&self, turn: u32) -> anyhow::Result<()> {
        self.0.set(turn);
        futex::wake(self.0.turn(), futex::Flags::empty(), 1).context("wake the other side")?;
        Ok(())
    }
}

impl Layer for Futex {
    const NAME: &'static str = "futex alone";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = End<W>;
    type Rx<const W: usize> = End<W>;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<End<W>> {
        link.await_made();
        Ok(End(Slot::open(link)?))
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<End<W>> {
        let slot = Slot::create(link)?;
        link.made();
        Ok(End(slot))
    }
}

impl<const W: usize> MessageTx<W> for End<W> {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        self.await_turn(EMPTY)?;
        self.0.write(message);
        self.hand_over(FULL)
    }
}

impl<const W: usize> MessageRx<W> for End<W> {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.await_turn(FULL)?;
        self.0.read(buffer);
        self.hand_over(EMPTY)?;
        read(buffer);
        Ok(true)
    }
}
