//! shmem-ipc: a ring of words in a memfd with two eventfds, which its users hand over by themselves; here over a Unix
//! socket. It has no messages, only words: both sides know how many belong together.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::ptr;

use anyhow::anyhow;
use shmem_ipc::sharedring::{Receiver, Sender};

use crate::message::contender::{Layer, MessageRx, MessageTx, capacity};
use crate::message::place::Link;
use crate::peers::message::fds;

/// A receiver that looks again and again.
#[derive(Debug)]
pub enum Polled {}

/// A receiver that sleeps on its eventfd.
#[derive(Debug)]
pub enum Sleeping {}

/// Its sender, which sleeps while there is no room.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct Tx(Sender<u64>);

/// Its receiver that polls.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct PolledRx(Receiver<u64>);

/// Its receiver that sleeps.
#[expect(missing_debug_implementations, reason = "the wrapped end has none")]
pub struct SleepingRx(Receiver<u64>);

fn create<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx> {
    let tx = Sender::new(capacity(W) * W).map_err(|error| anyhow!("create a shmem-ipc ring: {error}"))?;
    link.await_made();
    let ring = [tx.memfd().as_file().as_fd(), tx.empty_signal().as_fd(), tx.full_signal().as_fd()];
    fds::hand_over(&link.path(), &ring)?;
    Ok(Tx(tx))
}

fn attach<const W: usize>(link: &Link<'_>) -> anyhow::Result<Receiver<u64>> {
    let listener = UnixListener::bind(link.path())?;
    link.made();
    let [memory, empty, full] = fds::take_over(&listener)?.map(File::from);
    Receiver::open(capacity(W) * W, memory, empty, full)
        .map_err(|error| anyhow!("attach to a shmem-ipc ring: {error}"))
}

impl Layer for Polled {
    const NAME: &'static str = "shmem-ipc, polled";
    const SLEEPS: bool = false;
    type Tx<const W: usize> = Tx;
    type Rx<const W: usize> = PolledRx;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx> {
        create::<W>(link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<PolledRx> {
        Ok(PolledRx(attach::<W>(link)?))
    }
}

impl Layer for Sleeping {
    const NAME: &'static str = "shmem-ipc, sleeping";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = Tx;
    type Rx<const W: usize> = SleepingRx;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<Tx> {
        create::<W>(link)
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<SleepingRx> {
        Ok(SleepingRx(attach::<W>(link)?))
    }
}

impl<const W: usize> MessageTx<W> for Tx {
    #[inline(always)]
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            self.0.block_until_writable()?;
            let mut sent = 0;
            self.0.send_raw(|to, room| {
                sent = room.min(rest.len());
                // SAFETY: both have room for as many words, and nobody else writes there before they are sent.
                unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), to, sent) };
                sent
            })?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Receives as many words as there are, up to those that are missing, and says how many.
#[inline(always)]
fn receive_some(rx: &mut Receiver<u64>, missing: &mut [u64]) -> anyhow::Result<usize> {
    let mut received = 0;
    rx.receive_raw(|from, there| {
        received = there.min(missing.len());
        // SAFETY: both have as many words, and the sender leaves those that were sent alone.
        unsafe { ptr::copy_nonoverlapping(from, missing.as_mut_ptr(), received) };
        received
    })?;
    Ok(received)
}

impl<const W: usize> MessageRx<W> for PolledRx {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let mut have = receive_some(&mut self.0, buffer)?;
        if have == 0 {
            return Ok(false);
        }
        while have < W {
            have += receive_some(&mut self.0, buffer.get_mut(have..).unwrap_or_default())?;
        }
        read(buffer);
        Ok(true)
    }
}

impl<const W: usize> MessageRx<W> for SleepingRx {
    #[inline(always)]
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let mut have = 0;
        while have < W {
            self.0.block_until_readable()?;
            have += receive_some(&mut self.0, buffer.get_mut(have..).unwrap_or_default())?;
        }
        read(buffer);
        Ok(true)
    }
}
