//! A pipe, by name, with messages of a length that both sides know.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use bytemuck::{bytes_of, bytes_of_mut};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::message::contender::{Layer, MessageRx, MessageTx};
use crate::message::place::Link;

/// The pipe.
#[derive(Debug)]
pub enum Pipe {}

impl Layer for Pipe {
    const NAME: &'static str = "pipe";
    const SLEEPS: bool = true;
    type Tx<const W: usize> = File;
    type Rx<const W: usize> = File;

    fn sender<const W: usize>(link: &Link<'_>) -> anyhow::Result<File> {
        link.await_made();
        OpenOptions::new().write(true).open(link.path()).context("open a pipe to write")
    }

    fn receiver<const W: usize>(link: &Link<'_>) -> anyhow::Result<File> {
        mknodat(CWD, link.path(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).context("make a pipe")?;
        link.made();
        File::open(link.path()).context("open a pipe to read")
    }
}

impl<const W: usize> MessageTx<W> for File {
    fn send(&mut self, message: &[u64; W]) -> anyhow::Result<()> {
        Ok(self.write_all(bytes_of(message))?)
    }
}

impl<const W: usize> MessageRx<W> for File {
    fn receive(&mut self, buffer: &mut [u64; W], read: impl FnOnce(&[u64; W])) -> anyhow::Result<bool> {
        self.read_exact(bytes_of_mut(buffer))?;
        read(buffer);
        Ok(true)
    }
}
