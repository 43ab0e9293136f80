//! What the tests of structures in segments of parts share: a process at the other end of a socket, and the ways in
//! which it tries to write what it may not.
//!
//! A test that needs another process starts its own binary again, with only itself selected and a socket as its
//! standard input; the test looks for that first.
#![allow(dead_code, reason = "not every test binary that shares this module needs all of it")]

use std::env;
use std::io::{Read, Write, stdin};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr::null_mut;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, Mode, OFlags, fallocate, fstat, ftruncate, open};
use rustix::io::{Errno, pwrite};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect};
use rustix::param::page_size;
use rustix::process::{Signal, set_parent_process_death_signal};
use tidewire_shm::{Part, PartedDraft, PartedSegment, RoleId};

pub(crate) const CREATOR: RoleId = RoleId::CREATOR;
pub(crate) const CONSUMER: RoleId = RoleId::CONSUMER;
pub(crate) const PATIENCE: Duration = Duration::from_secs(50);
const CHILD: &str = "TIDEWIRE_TEST_PARTS_CHILD";

/// A process that is killed with the test, however that ends.
pub(crate) struct Peer {
    child: Child,
    pub(crate) socket: UnixStream,
}

impl Peer {
    /// Starts a test again; `role` is what [`role`] gives there.
    pub(crate) fn start(test: &str, role: &str) -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, role);
        command.stdin(Stdio::from(OwnedFd::from(there)));
        let die_with_the_test = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
        unsafe { command.pre_exec(die_with_the_test) };
        Self { child: command.spawn().unwrap(), socket: here }
    }

    /// Waits until it ended well.
    pub(crate) fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills it, and waits until it is dead.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The role and the socket of a process that [`Peer::start`] started; `None`: it is the test itself.
pub(crate) fn role() -> Option<(String, UnixStream)> {
    let role = env::var(CHILD).ok()?;
    let socket = UnixStream::from(stdin().as_fd().try_clone_to_owned().unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Some((role, socket))
}

pub(crate) fn tell(mut socket: &UnixStream) {
    socket.write_all(b"!").unwrap();
}

pub(crate) fn hear(mut socket: &UnixStream) {
    socket.read_exact(&mut [0]).unwrap();
}

/// Asks until there is an answer.
pub(crate) fn patient<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "the peer stands still");
        thread::yield_now();
    }
}

/// A segment of parts, of which `others` make theirs: as the creator has it, then as they do. In this one process.
pub(crate) fn between(
    parts: &[Part],
    own: &[RoleId],
    others: &'static [RoleId],
    fill: impl FnOnce(&PartedSegment),
) -> (PartedSegment, PartedSegment) {
    let (here, there) = UnixStream::pair().unwrap();
    let expected = parts.to_vec();
    let joining = thread::spawn(move || PartedSegment::join(&there, &expected, others).unwrap());
    let mut draft = PartedDraft::new(parts, own).unwrap();
    draft.gather(&here, others).unwrap();
    let created = draft.complete().unwrap();
    fill(&created);
    created.send_to(&here, others).unwrap();
    (created, joining.join().unwrap())
}

/// Where a part begins.
pub(crate) fn offset_of(segment: &PartedSegment, part: usize) -> usize {
    segment.parts()[..part].iter().map(Part::bytes).sum()
}

fn map_for_writing(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let may = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping that nobody uses.
    unsafe { mmap(null_mut(), page_size(), may, MapFlags::SHARED, fd, 0) }.map(drop)
}

/// Tries to write a part that another process writes: all ways are refused.
pub(crate) fn attack(segment: &PartedSegment, part: usize) {
    let fd = segment.part_fd(part).unwrap();
    let bytes = u64::try_from(fstat(fd).unwrap().st_size).unwrap();
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let again = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let (region, offset) = (segment.region(), offset_of(segment, part));
    assert!(!region.is_writable_at(offset, 8), "part {part} is not this process's");
    // SAFETY: in bounds; it is only asked where it is.
    let page = unsafe { region.atomic_u64(offset) }.as_ptr();
    // SAFETY: takes no right away; if it gives one, the test fails.
    let protected = unsafe { mprotect(page.cast(), page_size(), MprotectFlags::READ | MprotectFlags::WRITE) };
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let ways = [
        ("map it for writing", map_for_writing(fd), Errno::PERM),
        ("give the mapping the right to write", protected, Errno::ACCESS),
        ("write it as a file", pwrite(fd, b"scribble", 0).map(drop), Errno::PERM),
        ("open it anew and map", map_for_writing(again.as_fd()), Errno::PERM),
        ("open it anew and write", pwrite(&again, b"scribble", 0).map(drop), Errno::PERM),
        ("punch a hole", fallocate(fd, hole, 0, bytes), Errno::PERM),
        ("truncate it", ftruncate(fd, 0), Errno::PERM),
        ("grow it", ftruncate(fd, bytes + page_size() as u64), Errno::PERM),
    ];
    for (way, answer, expected) in ways {
        assert_eq!(answer, Err(expected), "{way}: part {part}");
    }
}
