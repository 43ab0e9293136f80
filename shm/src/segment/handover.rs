//! Handing an anonymous segment to another process.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use std::env;
use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::error::SegmentError;
use super::options::SegmentOptions;
use super::{Segment, memory};
use crate::own_fd::through_path;

/// The byte that carries the descriptor.
const MARK: u8 = b'S';
/// How many descriptors there is room for; the kernel closes what is beyond.
const ROOM: usize = 8;

impl Segment {
    /// Sends an anonymous segment over a Unix socket: one byte that carries one descriptor.
    ///
    /// Both processes then have the segment mapped. Nothing is said about the roles that they play in it.
    ///
    /// # Errors
    /// [`SegmentError::NotASegment`] if this segment is named: others open it by its name.
    /// [`SegmentError::Io`] if the socket refuses, also if it does not block and is full.
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use tidewire_shm::Segment;
    ///
    /// let (here, there) = UnixStream::pair()?;
    /// Segment::anonymous(4096)?.send(&here)?;
    /// let received = Segment::receive(&there)?;
    /// assert_eq!(received.len(), 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&self, to: &UnixStream) -> Result<(), SegmentError> {
        memory::verify(&self.fd)?;
        let descriptors = [self.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        retry_on_intr(|| {
            let mut control = SendAncillaryBuffer::new(&mut space);
            // It fits: the room was computed for it.
            let _fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
            sendmsg(to, &[IoSlice::new(&[MARK])], &mut control, SendFlags::NOSIGNAL)
        })
        .map_err(SegmentError::on("send the segment"))?;
        Ok(())
    }

    /// Receives what [`send`](Self::send) sent, and maps it.
    ///
    /// Takes exactly one byte from the socket. Descriptors that should not have come are closed.
    ///
    /// # Errors
    /// [`SegmentError::Handover`] if the stream ended, or if what came is not one byte with one descriptor;
    /// else as [`from_fd`](Self::from_fd).
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    /// use tidewire_shm::{Segment, SegmentError};
    ///
    /// let (mut here, there) = UnixStream::pair()?;
    /// here.write_all(b"S")?;
    /// assert!(matches!(Segment::receive(&there), Err(SegmentError::Handover { .. })));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn receive(from: &UnixStream) -> Result<Self, SegmentError> {
        Self::receive_with(from, &SegmentOptions::new())
    }

    /// [`receive`](Self::receive) with options.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    ///
    /// # Examples
    /// ```
    /// use std::os::unix::net::UnixStream;
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let (here, there) = UnixStream::pair()?;
    /// Segment::anonymous(4096)?.send(&here)?;
    /// let received = Segment::receive_with(&there, &SegmentOptions::new().prefault(true))?;
    /// assert_eq!(received.len(), 4096);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn receive_with(from: &UnixStream, options: &SegmentOptions) -> Result<Self, SegmentError> {
        Self::from_fd_with(receive_descriptor(from)?, options)
    }

    /// Lets the program that `command` starts [inherit](Self::inherited) this anonymous segment.
    ///
    /// The descriptor stays closed to every other program that this process starts, at the same time too: only the
    /// child opens it, after it was forked. The environment variable `variable` tells the child which it is. The
    /// command keeps a descriptor of the segment as long as it lives.
    ///
    /// # Errors
    /// [`SegmentError::NotASegment`] if this segment is named, [`SegmentError::Io`] if there are no more
    /// descriptors.
    ///
    /// # Examples
    /// ```
    /// use std::process::Command;
    /// use tidewire_shm::Segment;
    ///
    /// let segment = Segment::anonymous(4096)?;
    /// let mut command = Command::new("true");
    /// segment.inherit(&mut command, "TICKS")?;
    /// assert!(command.status()?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inherit(&self, command: &mut Command, variable: impl AsRef<OsStr>) -> Result<(), SegmentError> {
        memory::verify(&self.fd)?;
        let copy = self.try_clone_fd()?;
        command.env(variable, format!("{}:{}", copy.as_raw_fd(), memory::inode(&copy)?));
        let open_in_child = move || Ok(fcntl_setfd(&copy, FdFlags::empty())?);
        // SAFETY: the closure makes one system call and neither allocates nor takes a lock; the descriptor that it
        // owns is open as long as the command is.
        unsafe { command.pre_exec(open_in_child) };
        Ok(())
    }

    /// Maps the segment that the parent process [bequeathed](Self::inherit) in the variable `variable`.
    ///
    /// May be called several times. The inherited descriptor itself stays open until the process ends, but is not
    /// passed on to programs that this process starts.
    ///
    /// # Errors
    /// [`SegmentError::Handover`] if the variable is not set, is not from [`inherit`](Self::inherit), or speaks of
    /// a descriptor that this process does not have; else as [`from_fd`](Self::from_fd).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentError};
    ///
    /// assert!(matches!(Segment::inherited("NOBODY_SET_THIS"), Err(SegmentError::Handover { .. })));
    /// ```
    pub fn inherited(variable: impl AsRef<OsStr>) -> Result<Self, SegmentError> {
        Self::inherited_with(variable, &SegmentOptions::new())
    }

    /// [`inherited`](Self::inherited) with options.
    ///
    /// # Errors
    /// As [`inherited`](Self::inherited).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// assert!(Segment::inherited_with("NOBODY_SET_THIS", &SegmentOptions::new()).is_err());
    /// ```
    pub fn inherited_with(
        variable: impl AsRef<OsStr>,
        options: &SegmentOptions,
    ) -> Result<Self, SegmentError> {
        let variable = variable.as_ref();
        let wrong = |found: &str| SegmentError::Handover {
            expected: format!("<descriptor>:<inode> in the variable {}", variable.display()),
            found: found.to_owned(),
        };
        let value = env::var(variable).map_err(|error| wrong(&error.to_string()))?;
        let (number, inode) = parse(&value).ok_or_else(|| wrong(&value))?;
        // Opened anew: whose descriptor the number is, the environment cannot prove, so it is not taken over.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = through_path(number, |path| retry_on_intr(|| open(path, flags, Mode::empty())));
        let Ok(fd) = opened else {
            return Err(wrong(&format!("{value}, which is no open descriptor")));
        };
        memory::verify(&fd)?;
        if memory::inode(&fd)? != inode {
            return Err(wrong(&format!("{value}, which is a descriptor of other memory")));
        }
        // SAFETY: the number is not negative, and was just seen to be open. Should another thread close it now, the
        // call fails, or marks a descriptor that is marked like this anyway, as all are that Rust opens.
        let inherited = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(inherited, FdFlags::CLOEXEC)
            .map_err(SegmentError::on("keep the descriptor from leaking"))?;
        Self::from_fd_with(fd, options)
    }
}

fn parse(value: &str) -> Option<(RawFd, u64)> {
    let (number, inode) = value.split_once(':')?;
    let number = number.parse().ok().filter(|&number: &RawFd| number >= 0)?;
    Some((number, inode.parse().ok()?))
}

/// Takes one byte and the one descriptor that it carries.
fn receive_descriptor(from: &UnixStream) -> Result<OwnedFd, SegmentError> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(SegmentError::on("receive a segment"))?;
    // Owned from here on: closed on every way out.
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = item {
            descriptors.extend(some);
        }
    }
    let wrong = |found: &str| SegmentError::Handover {
        expected: "one byte that carries one descriptor".to_owned(),
        found: found.to_owned(),
    };
    if message.bytes == 0 {
        return Err(wrong("the end of the stream"));
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(wrong("more descriptors than there was room for"));
    }
    let count = descriptors.len();
    match descriptors.pop() {
        Some(only) if count == 1 && byte == [MARK] => Ok(only),
        _ => Err(wrong(&format!("byte {:#04x} with {count} descriptors", byte[0]))),
    }
}
