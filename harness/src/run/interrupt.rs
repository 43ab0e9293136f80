//! Signals that ask the parent to end: they are noted, and heeded where children can be ended in order.

use core::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Result, bail};

static CAUGHT: AtomicI32 = AtomicI32::new(0);
const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

extern "C" fn note(signal: i32) {
    // ORD advice: Relaxed, a number that is looked at later, by the same thread.
    CAUGHT.store(signal, Ordering::Relaxed);
}

/// Notes signals from now on instead of dying from them. A second one of a kind kills as usual.
pub(crate) fn install() {
    let handler: extern "C" fn(i32) = note;
    for signal in SIGNALS {
        // SAFETY: the structure is plain numbers, for which zero means no flags and nothing blocked.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESETHAND;
        // SAFETY: the handler only stores to an atomic, and the old action is not asked for.
        unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) };
    }
}

/// Fails if a signal has come.
pub(crate) fn check() -> Result<()> {
    // ORD advice: Relaxed, as in `note`.
    match CAUGHT.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => bail!("interrupted by signal {signal} ({}); the children were ended", name(signal)),
    }
}

/// The name of a signal that ends processes.
pub(crate) fn name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        _ => "another signal",
    }
}
