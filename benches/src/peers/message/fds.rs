//! Descriptors from one process to another, over a Unix socket at a link's path.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// The most descriptors that are handed over at a time.
const MOST: usize = 4;

/// Hands descriptors to whoever listens at a path.
pub(super) fn hand_over(path: &Path, fds: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
    let to = UnixStream::connect(path)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    anyhow::ensure!(
        with.push(SendAncillaryMessage::ScmRights(fds)),
        "expected at most {MOST} descriptors, found {}",
        fds.len()
    );
    sendmsg(&to, &[IoSlice::new(&[0])], &mut with, SendFlags::empty()).context("hand descriptors over")?;
    Ok(())
}

/// Takes what is handed over there.
pub(super) fn take_over<const N: usize>(listener: &UnixListener) -> anyhow::Result<[OwnedFd; N]> {
    let (from, _) = listener.accept()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&from, &mut [IoSliceMut::new(&mut [0])], &mut with, RecvFlags::CMSG_CLOEXEC)
        .context("take descriptors over")?;
    let fds: Vec<OwnedFd> = with
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    fds.try_into().map_err(|found: Vec<_>| anyhow!("expected {N} descriptors, found {}", found.len()))
}
