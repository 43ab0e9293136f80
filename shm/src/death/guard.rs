//! The guard: the thread whose end the kernel announces.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rustix::thread::gettid;

use super::{DeathError, WAITERS};
use crate::sync::{AtomicU32, Ordering};

const STACK_BYTES: usize = 64 << 10;

/// The head of the list that the kernel walks when a thread ends, and its only node. Private memory that is never
/// freed; the words that the kernel reads never change after they are registered.
#[repr(C)]
struct RobustList {
    /// The first node.
    next: *mut usize,
    /// From a node to its futex word.
    futex_offset: isize,
    /// No operation is under way.
    pending: *mut usize,
    /// The node: where the list goes on, which is back to the head.
    node: *mut usize,
}

/// Starts the guard of the word at `address`, and returns when the kernel knows it.
///
/// # Safety
/// `word` stays mapped writable until the process ends or becomes another program.
pub(super) unsafe fn start(word: &'static AtomicU32) -> Result<(), DeathError> {
    let refused = |operation| move |source| DeathError::System { operation, source };
    let (tell, told) = sync_channel(1);
    let mask = block_signals().map_err(refused("block signals"))?;
    let guard = thread::Builder::new().name("tidewire-guard".into()).stack_size(STACK_BYTES);
    let started = guard.spawn(move || run(word, &tell));
    restore_signals(&mask);
    // Not joined: it ends with the process.
    drop(started.map_err(refused("start the guard thread"))?);
    told.recv()
        .map_err(|_| refused("start the guard thread")(io::Error::from(io::ErrorKind::UnexpectedEof)))?
        .map_err(refused("register a robust futex"))
}

fn run(word: &'static AtomicU32, tell: &SyncSender<io::Result<()>>) {
    let registered = register(word);
    let failed = registered.is_err();
    // Whoever waits for it is there until it is sent.
    let _told = tell.send(registered);
    if failed {
        return;
    }
    loop {
        // All signals are blocked: it never returns. It makes no difference if it did.
        // SAFETY: no memory is involved.
        unsafe { libc::pause() };
    }
}

/// Replaces this thread's list by one of ours, and says who guards the word.
fn register(word: &'static AtomicU32) -> io::Result<()> {
    let list: &'static UnsafeCell<RobustList> = Box::leak(Box::new(UnsafeCell::new(RobustList {
        next: null_mut(),
        futex_offset: 0,
        pending: null_mut(),
        node: null_mut(),
    })));
    let head = list.get();
    // SAFETY: within the list.
    let node = unsafe { &raw mut (*head).node };
    let filled = RobustList {
        next: node.cast(),
        futex_offset: word.as_ptr().addr().wrapping_sub(node.addr()).cast_signed(),
        pending: null_mut(),
        node: head.cast(),
    };
    // SAFETY: leaked just now, nobody else knows it.
    unsafe { head.write(filled) };
    // The size of the part that the kernel knows: three words.
    let len = 3 * size_of::<usize>();
    // SAFETY: the head, its node and the word stay where they are until the process ends. This thread never uses a
    // robust mutex, so the list that is replaced is empty and stays so.
    let answer = unsafe { libc::syscall(libc::SYS_set_robust_list, head, len) };
    if answer != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: leaked above, and the kernel refused it: nobody else knows it.
        drop(unsafe { Box::from_raw(list.get().cast::<UnsafeCell<RobustList>>()) });
        return Err(error);
    }
    let tid = gettid().as_raw_nonzero().get().unsigned_abs();
    // ORD death.alive: Release -> `DeathWatch::state`; the kernel knows the list.
    word.store(tid | WAITERS, Ordering::Release);
    Ok(())
}

/// Blocks all signals of this thread, for the one that it starts to inherit that.
fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = MaybeUninit::uninit();
    let mut old = MaybeUninit::uninit();
    // SAFETY: fills the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: both are valid; the first is filled.
    let answer = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) };
    if answer != 0 {
        return Err(io::Error::from_raw_os_error(answer));
    }
    // SAFETY: the call succeeded and filled it.
    Ok(unsafe { old.assume_init() })
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: a set that `block_signals` got from the system; it cannot fail.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, null_mut()) };
}
