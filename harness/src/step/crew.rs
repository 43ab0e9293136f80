//! Processes that share the work: each forked once, each taking the next piece until there is none.
//!
//! Pieces are handed out one by one, so that all end at about the same time, whatever each piece takes. A counter in
//! shared memory hands each out once. The processes trace, so each has one thread, and what it says goes out in whole
//! lines: one `write` each, to a pipe that takes it whole or to a file.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// What all together have done.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Board {
    next: AtomicUsize,
    rows: AtomicU64,
    points: AtomicU64,
    images: AtomicU64,
    bad: AtomicU64,
    kills: AtomicU64,
    killing_us: AtomicU64,
}

/// Totals of a board.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) points: u64,
    pub(super) images: u64,
    pub(super) bad: u64,
    /// Points of the kill mode.
    pub(super) kills: u64,
    /// Processor-bound seconds spent on them, by all processes together.
    pub(super) killing: Duration,
}

impl Board {
    /// The number of the next piece.
    pub(super) fn take(&self) -> usize {
        // ORD own: Relaxed, a counter; each piece is made anew by who takes it.
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds what one has done.
    pub(super) fn add(&self, totals: Totals) {
        let killing = u64::try_from(totals.killing.as_micros()).unwrap_or(u64::MAX);
        let sums = [
            (&self.rows, totals.rows),
            (&self.points, totals.points),
            (&self.images, totals.images),
            (&self.bad, totals.bad),
            (&self.kills, totals.kills),
            (&self.killing_us, killing),
        ];
        for (sum, more) in sums {
            // ORD own: Relaxed, read when those who add have ended.
            sum.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What all have done so far.
    pub(super) fn totals(&self) -> Totals {
        // ORD own: Relaxed, those who added have ended.
        let of = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        Totals {
            rows: of(&self.rows),
            points: of(&self.points),
            images: of(&self.images),
            bad: of(&self.bad),
            kills: of(&self.kills),
            killing: Duration::from_micros(of(&self.killing_us)),
        }
    }
}

/// A board that processes forked later share.
pub(super) struct Shared(NonNull<Board>);

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                core::ptr::null_mut(),
                size_of::<Board>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let board = NonNull::new(address.cast::<Board>());
        board.map(Self).ok_or_else(|| io::Error::other("a mapping at address zero"))
    }

    pub(super) fn board(&self) -> &Board {
        // SAFETY: mapped as long as `self`, zeroed at the start, page-aligned, and made of atomics only.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: our own mapping, with the length it was made with; borrows of it end with `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Board>()) };
    }
}

/// How many there are, of those that a crew was asked for, and which one this is.
pub(super) type Work<'a> = &'a dyn Fn(usize) -> Result<()>;

/// Runs `work` in `jobs` processes, numbered from 0, and waits for all; this process must have one thread.
///
/// # Errors
/// The first that could not be started or did not end well; the others end first.
pub(super) fn run(jobs: usize, work: Work<'_>) -> Result<()> {
    let parent = std::process::id();
    let mut started = Vec::new();
    let mut trouble = None;
    for number in 0..jobs {
        // SAFETY: the child goes on alone with a copy of this thread, which is the only one.
        match unsafe { libc::fork() } {
            -1 => {
                trouble = Some(anyhow::Error::from(io::Error::last_os_error()).context("forking"));
                break;
            }
            0 => be_one(parent, number, work),
            child => started.push((number, child)),
        }
    }
    for (number, child) in started {
        let ended = wait(child).with_context(|| format!("waiting for process {number}"));
        match ended {
            Ok(0) => {}
            Ok(status) if trouble.is_none() => {
                let error = anyhow::anyhow!("process {number} of {jobs} ended with {}", said(status));
                trouble = Some(error);
            }
            Ok(_) => {}
            Err(error) => trouble = trouble.or(Some(error)),
        }
    }
    trouble.map_or(Ok(()), Err)
}

/// The whole life of one of the crew.
fn be_one(parent: u32, number: usize, work: Work<'_>) -> ! {
    // SAFETY: sets an attribute of this process; takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let work = || {
        if std::os::unix::process::parent_id() != parent {
            bail!("the process that started it has ended");
        }
        work(number)
    };
    let code = match std::panic::catch_unwind(core::panic::AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            crate::report::complain(&format!("{error:#}"));
            1
        }
        Err(_said) => 101,
    };
    // SAFETY: ends the process; what must be dropped was dropped by `work`.
    unsafe { libc::_exit(code) }
}

fn wait(child: libc::pid_t) -> io::Result<libc::c_int> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is alive; the child is ours and not yet reaped.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn said(status: libc::c_int) -> String {
    if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("code {}", libc::WEXITSTATUS(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_taken_once_and_sums_are_sums() {
        let shared = Shared::new().unwrap();
        let work = |_| {
            while shared.board().take() < 1_000 {
                shared.board().add(Totals { rows: 1, bad: 2, ..Totals::default() });
                std::thread::yield_now();
            }
            Ok(())
        };
        run(3, &work).unwrap();
        let totals = shared.board().totals();
        assert_eq!((totals.rows, totals.bad, totals.points), (1_000, 2_000, 0));
    }

    #[test]
    fn one_that_fails_or_dies_is_told_when_all_have_ended() {
        let shared = Shared::new().unwrap();
        let fails = |number| {
            shared.board().take();
            if number == 1 { bail!("on purpose") } else { Ok(()) }
        };
        assert!(run(3, &fails).unwrap_err().to_string().contains("process 1 of 3 ended with code 1"));
        assert_eq!(shared.board().take(), 3);
        let dies = |_| {
            // SAFETY: ends this process only.
            unsafe { libc::raise(libc::SIGKILL) };
            Ok(())
        };
        assert!(run(1, &dies).unwrap_err().to_string().contains("signal 9"));
    }
}
