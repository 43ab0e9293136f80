//! System calls of a stream of messages, counted by the kernel.
//!
//! Each side counts its own, with those of the threads that its layer starts, through the trace point that every
//! system call passes. Setting up and ending are not counted. The counter asks for rights that not everybody has.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use rustix::fs::{Mode as FileMode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::board::{Board, Value};
use crate::message::contender::Layer;
use crate::message::run::{self, Manner};
use crate::message::stream::{probed_a, probed_b, receive_all, send_all};
use crate::pair::Mode;
use crate::schedule::Plan;

/// What the kernel is told about a counter; the rest of its description is zero.
#[repr(C)]
struct Attributes {
    kind: u32,
    bytes: u32,
    config: u64,
    unused: [u64; 3],
    flags: u64,
    unused_too: [u64; 8],
}

const TRACE_POINT: u32 = 2;
/// Threads that are started later count, too.
const INHERIT: u64 = 1 << 1;

/// The system calls of this process.
#[derive(Debug)]
pub struct Counter(File);

/// The number of the trace point: in the trace file system where it is mounted, and else in a mount of our own that
/// nobody sees.
fn trace_point() -> anyhow::Result<u64> {
    const ID: &str = "events/raw_syscalls/sys_enter/id";
    let text =
        std::fs::read_to_string(format!("/sys/kernel/tracing/{ID}")).or_else(|_| -> anyhow::Result<_> {
            let context =
                fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC).context("open a trace file system")?;
            fsconfig_create(&context).context("make a trace file system")?;
            let top = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY);
            let top = top.context("mount a trace file system")?;
            let id = openat(&top, ID, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty());
            let mut text = String::new();
            File::from(id.context("open the trace point")?).read_to_string(&mut text)?;
            Ok(text)
        })?;
    text.trim().parse().with_context(|| format!("expected the number of a trace point, found {text:?}"))
}

impl Counter {
    /// Starts to count.
    ///
    /// # Errors
    /// If the kernel has no such counter, or not for us.
    pub fn new() -> anyhow::Result<Self> {
        let attributes = Attributes {
            kind: TRACE_POINT,
            bytes: u32::try_from(size_of::<Attributes>())?,
            config: trace_point()?,
            unused: [0; 3],
            flags: INHERIT,
            unused_too: [0; 8],
        };
        // SAFETY: the attributes outlive the call, and say how long they are; the others are numbers.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, 0, -1, -1, 0) };
        ensure!(fd >= 0, "open a counter of system calls: {}", std::io::Error::last_os_error());
        // SAFETY: just opened, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
        Ok(Self(File::from(fd)))
    }

    /// How many there were.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn count(&mut self) -> anyhow::Result<u64> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count).context("read a counter of system calls")?;
        Ok(u64::from_ne_bytes(count))
    }
}

/// Runs a side and says how many system calls it made; that which reads the counter is not among them.
fn counted<T>(counter: &mut Counter, side: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, u64)> {
    let before = counter.count()?;
    let result = side()?;
    let calls = counter.count()?.saturating_sub(before);
    Ok((result, calls.saturating_sub(1)))
}

/// System calls of both sides while messages are sent without a pause.
///
/// # Errors
/// What a side found wrong, or what the layer said.
pub fn stream<L: Layer, const W: usize>(board: &Board, plan: &Plan, mode: Mode) -> anyhow::Result<()> {
    run::both(
        board,
        mode,
        Manner::of_layer::<L>(),
        |place| {
            // First of all, so that threads of the layer count.
            let counter = Counter::new();
            let mut tx = L::sender::<W>(&place.link(board, 0)?)?;
            probed_a(board, plan, || {
                let Ok(mut counter) = counter else {
                    board.set(Value::Calls, -1.0);
                    return send_all(&mut tx, board).map(drop);
                };
                let (messages, calls) = counted(&mut counter, || send_all(&mut tx, board))?;
                // The last one is a message, too.
                board.set(Value::Count, (messages + 1) as f64);
                board.add(Value::Noted, calls as f64);
                Ok(())
            })
        },
        |place| {
            let counter = Counter::new();
            let mut rx = L::receiver::<W>(&place.link(board, 0)?)?;
            probed_b(board, || {
                let Ok(mut counter) = counter else { return receive_all(&mut rx, board, plan) };
                let ((), calls) = counted(&mut counter, || receive_all(&mut rx, board, plan))?;
                board.add(Value::Noted, calls as f64);
                Ok(())
            })
        },
    )?;
    if board.get(Value::Calls) == 0.0 {
        board.set(Value::Calls, board.get(Value::Noted) / board.get(Value::Count).max(1.0) * 1e6);
    }
    Ok(())
}
