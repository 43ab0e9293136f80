//! A POSIX message queue, as deep and as wide as everybody may have one without asking for more.

use std::ffi::CString;
use std::io::Error;

use anyhow::{Context as _, bail, ensure};
use bytemuck::{bytes_of, bytes_of_mut};

use crate::board::SIGNALS;
use crate::message::contender::{Layer, MessageRx, MessageTx};
use crate::message::place::{Link, Place};

/// The queue.
#[derive(Debug)]
pub enum PosixQueue {}

/// An end of it.
#[derive(Debug)]
pub struct End(libc::mqd_t);

/// Messages that it holds.
const DEPTH: i64 = 10;

fn name(of: &str) -> anyhow::Result<CString> {
    CString::new(format!("/{of}")).context("name a queue")
}

/// Whether a call was only interrupted; otherwise its error.
fn interrupted(doing: &str) -> anyhow::Result<()> {
    let error = Error::last_os_error();
    if error.kind() == std::io::ErrorKind::Interrupted {
        return Ok(());
    }
    bail!("{doing}: {error}")
}

impl Layer for PosixQueue {
    const NAME: &'static str = "POSIX message queue";
    const SLEEPS: bool = true;
    const MAX_BYTES: usize = 8 << 10;
    type Tx<const W: usize> = End;
    type Rx<const W: usize> = End;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        link.await_made();
        let name = name(&link.name())?;
        // SAFETY: a string that ends with a zero and outlives the call.
        let queue = unsafe { libc::mq_open(name.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        ensure!(queue >= 0, "open a message queue: {}", Error::last_os_error());
        Ok(End(queue))
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<End> {
        let name = name(&link.name())?;
        // SAFETY: a structure of numbers.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        attributes.mq_maxmsg = DEPTH;
        attributes.mq_msgsize = 8 * W as i64;
        let flags = libc::O_RDONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        let mode: libc::mode_t = 0o600;
        // SAFETY: a string that ends with a zero, a mode and attributes, as the flags ask for; they outlive the call.
        let queue = unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw const attributes) };
        ensure!(queue >= 0, "make a message queue: {}", Error::last_os_error());
        link.made();
        Ok(End(queue))
    }

    fn clean(place: &Place) {
        for number in 0..SIGNALS {
            if let Ok(name) = name(&format!("{}-{number}", place.name())) {
                // SAFETY: a string that ends with a zero and outlives the call.
                unsafe { libc::mq_unlink(name.as_ptr()) };
            }
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: opened by this end, and closed once.
        unsafe { libc::mq_close(self.0) };
    }
}

impl<const W: usize> MessageTx<W> for End {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        let bytes = bytes_of(message);
        // SAFETY: as many bytes as there are, alive during the call.
        while unsafe { libc::mq_send(self.0, bytes.as_ptr().cast(), bytes.len(), 0) } < 0 {
            interrupted("send to a message queue")?;
        }
        Ok(())
    }
}

impl<const W: usize> MessageRx<W> for End {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        let bytes = bytes_of_mut(buffer);
        let (start, room) = (bytes.as_mut_ptr().cast(), bytes.len());
        let received = loop {
            // SAFETY: as much room as there is, alive during the call.
            match unsafe { libc::mq_receive(self.0, start, room, std::ptr::null_mut()) } {
                ..0 => interrupted("receive from a message queue")?,
                received => break received,
            }
        };
        ensure!(received.cast_unsigned() == room, "expected a message of {room} bytes, found {received}");
        read(buffer);
        Ok(true)
    }
}
