//! What goes over the socket: descriptors, and which parts they are.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::PARTS_MAX;
use crate::segment::error::SegmentError;

/// The byte before the set of parts.
const MARK: u8 = b'P';
/// The mark, and a bit for each part that a descriptor is of, in their order, as a little-endian number.
const BYTES: usize = 1 + 8;

/// Sends the descriptors of the parts in `set`, in their order.
pub(super) fn send(to: &UnixStream, set: u64, descriptors: &[BorrowedFd<'_>]) -> Result<(), SegmentError> {
    let mut bytes = [MARK; BYTES];
    bytes.iter_mut().skip(1).zip(set.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PARTS_MAX))];
    let sent = retry_on_intr(|| {
        let mut control = SendAncillaryBuffer::new(&mut space);
        // It fits: the room was computed for the most parts that there can be.
        let _fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
        sendmsg(to, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
    })
    .map_err(SegmentError::on("send parts"))?;
    if sent == BYTES {
        return Ok(());
    }
    let expected = format!("a socket that takes {BYTES} bytes");
    Err(SegmentError::Handover { expected, found: format!("one that took {sent}") })
}

/// Receives the descriptors of exactly the parts in `set`. All that came is closed if it is not that.
///
/// The socket's read timeout is the time for all of it, in however many pieces it comes and however many signals do.
pub(super) fn receive(from: &UnixStream, set: u64) -> Result<Vec<OwnedFd>, SegmentError> {
    let wrong = |found: String| SegmentError::Handover {
        expected: format!("descriptors of the parts {}", names(set)),
        found,
    };
    let patience = Patience::of(from)?;
    let mut bytes = [0_u8; BYTES];
    let mut filled = 0;
    let count = set.count_ones() as usize;
    let mut descriptors = Vec::new();
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        patience.wait(from)?;
        let missing = count - descriptors.len();
        let came = match receive_some(from, rest, missing, &mut descriptors) {
            // Somebody else took what was there.
            Err(Errno::AGAIN) if !matches!(patience, Patience::Never) => continue,
            came => came.map_err(SegmentError::on("receive parts"))?,
        };
        if descriptors.len() > count {
            return Err(wrong(format!("{} or more descriptors", descriptors.len())));
        }
        match came {
            None => return Err(wrong("more descriptors than there was room for".to_owned())),
            Some(0) => return Err(wrong("the end of the stream".to_owned())),
            Some(some) => filled += some,
        }
        if bytes[0] != MARK {
            return Err(wrong(format!("byte {:#04x}", bytes[0])));
        }
    }
    let [_, number @ ..] = bytes;
    let found = u64::from_le_bytes(number);
    if found != set || descriptors.len() != count {
        return Err(wrong(format!("{} descriptors of the parts {}", descriptors.len(), names(found))));
    }
    Ok(descriptors)
}

/// Until when to wait for a message.
enum Patience {
    /// The socket does not block: not at all.
    Never,
    Until(Instant),
    Always,
}

impl Patience {
    fn of(from: &UnixStream) -> Result<Self, SegmentError> {
        let flags = fcntl_getfl(from).map_err(SegmentError::on("inspect the socket"))?;
        if flags.contains(OFlags::NONBLOCK) {
            return Ok(Self::Never);
        }
        let timeout = from
            .read_timeout()
            .map_err(|source| SegmentError::from_io("read the timeout of the socket", source))?;
        Ok(timeout.and_then(|timeout| Instant::now().checked_add(timeout)).map_or(Self::Always, Self::Until))
    }

    /// Waits until something is there to be received, if only the end of the stream.
    fn wait(&self, from: &UnixStream) -> Result<(), SegmentError> {
        let over = || SegmentError::from_io("receive parts", io::ErrorKind::TimedOut.into());
        loop {
            let timeout = match self {
                Self::Never => return Ok(()),
                Self::Always => None,
                Self::Until(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    // Zero asks once more and does not wait.
                    Some(Timespec::try_from(left).map_err(|_| over())?)
                }
            };
            match poll(&mut [PollFd::new(from, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return Err(over()),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(SegmentError::on("wait for parts")(errno)),
            }
        }
    }
}

/// One call: adds the descriptors, few more than `missing` at most, and tells how many bytes came. `None`: the kernel
/// dropped descriptors.
fn receive_some(
    from: &UnixStream,
    bytes: &mut [u8],
    missing: usize,
    descriptors: &mut Vec<OwnedFd>,
) -> Result<Option<usize>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PARTS_MAX), ScmCredentials(1))];
    // Room for no more: the kernel closes the rest.
    let room = rustix::cmsg_space!(ScmRights(missing), ScmCredentials(1));
    let mut control = RecvAncillaryBuffer::new(space.get_mut(..room).unwrap_or_default());
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = retry_on_intr(|| recvmsg(from, &mut [IoSliceMut::new(bytes)], &mut control, flags))?;
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = item {
            descriptors.extend(some);
        }
    }
    Ok((!message.flags.contains(ReturnFlags::CTRUNC)).then_some(message.bytes))
}

/// The numbers of the parts in a set.
fn names(set: u64) -> String {
    let numbers: Vec<String> =
        (0..u64::BITS).filter(|bit| set >> bit & 1 == 1).map(|bit| format!("{bit}")).collect();
    format!("[{}]", numbers.join(", "))
}
