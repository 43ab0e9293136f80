//! One run: a victim and a hostile process over one arena, and the watchdog.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::arena::{Arena, Page, Progress};
use super::dice::Dice;
use super::hostile::Hostile;
use super::victim::{Act, Finding, Subject, Tally};

/// Processor time that a turn may take: thousands of times what it needs.
const MOST_TURN: Duration = Duration::from_secs(1);
/// Turns that the hostile process lets the victim finish among flooded data.
const QUIET_TURNS: u64 = 64;
/// Time that the hostile process leaves the victim alone at the most, where it gets no processor.
const MOST_QUIET: Duration = Duration::from_secs(5);
/// Time without a turn after which a victim hangs even if it does not compute.
const MOST_SILENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Status of a victim that found an answer that cannot be, or panicked.
const FOUND: c_int = 3;
const PANICKED: c_int = 4;

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) corrupt: u64,
    pub(crate) end: End,
    pub(crate) seconds: f64,
}

/// What became of the victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It worked until it was told to stop.
    Well,
    /// A signal, a panic, or an answer that no memory can justify.
    Crashed(String),
    /// A turn that does not end.
    Hung(String),
}

/// Runs a subject for some time, or until it crashes or hangs.
pub(crate) fn run(subject: &Subject, duration: Duration, seed: u64) -> Result<Outcome> {
    let mut arena = Arena::new(subject.bytes)?;
    (subject.create)(arena.region()?)?;
    arena.remember_header();
    let page = Page::new()?;
    let start = Instant::now();
    let victim = Child::spawn(0, || victim(subject, &arena, page.progress(), Dice::new(seed, 1)))?;
    let hostile = Child::spawn(1, || {
        page.protect();
        let leave_alone = || leave_alone(&victim, page.progress());
        Hostile::new(&arena, &subject.targets, Dice::new(seed, 2)).run(leave_alone);
    })?;
    let end = watch(&victim, &hostile, page.progress(), start, duration)?;
    drop(hostile);
    let progress = page.progress();
    let end = match end {
        End::Well => End::Well,
        End::Crashed(how) => End::Crashed(describe(&how, subject, &arena, progress)),
        End::Hung(how) => End::Hung(describe(&how, subject, &arena, progress)),
    };
    Ok(Outcome {
        // ORD watch: Relaxed, the victim has ended and was waited for.
        operations: progress.operations.load(Ordering::Relaxed),
        corrupt: progress.corrupt.load(Ordering::Relaxed),
        end,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Waits until the victim has finished some turns, or has computed long enough for the watchdog to see that its turns
/// do not end any more.
fn leave_alone(victim: &Child, progress: &Progress) {
    let (start, before) = (Instant::now(), victim.processor_time());
    let turns = progress.beat.load(Ordering::Acquire);
    while start.elapsed() < MOST_QUIET
        && victim.processor_time().saturating_sub(before) < MOST_TURN * 5 / 4
        && progress.beat.load(Ordering::Acquire).saturating_sub(turns) < QUIET_TURNS
    {
        sleep(POLL);
    }
}

fn describe(how: &str, subject: &Subject, arena: &Arena, progress: &Progress) -> String {
    let words = subject.targets.positions.iter().flat_map(|(a, b)| [a, b]).chain(subject.targets.control);
    // ORD advice: Relaxed, numbers for people.
    let words: Vec<String> = words
        .map(|offset| format!("[{offset}] = {:#x}", arena.word(*offset).load(Ordering::Relaxed)))
        .collect();
    format!(
        "{how} in {} after {} operations; words now: {}",
        Act::name(progress.act.load(Ordering::Relaxed)),
        progress.operations.load(Ordering::Relaxed),
        words.join(", ")
    )
}

/// Waits for the end of the time or of the victim.
///
/// # Errors
/// The hostile process has ended: nobody scribbled then.
fn watch(
    victim: &Child,
    hostile: &Child,
    progress: &Progress,
    start: Instant,
    duration: Duration,
) -> Result<End> {
    let mut last = (0, Duration::ZERO, start);
    loop {
        sleep(POLL);
        if start.elapsed() >= duration {
            // ORD progress.stop: Release -> the victim's and the hostile's look; hands over nothing.
            progress.stop.store(1, Ordering::Release);
        }
        let ended = victim.ended()?;
        if let Some(status) = hostile.ended()? {
            bail!(
                "expected the hostile process to write to the end, found that it ended with status {status:#x}"
            );
        }
        if let Some(status) = ended {
            return Ok(judge(status, progress));
        }
        // ORD progress.beat: Acquire <- the victim's beat; what it wrote of its act before.
        let (beat, spent) = (progress.beat.load(Ordering::Acquire), victim.processor_time());
        if beat != last.0 {
            last = (beat, spent, Instant::now());
        } else if spent.saturating_sub(last.1) > MOST_TURN && beat > 0 || last.2.elapsed() > MOST_SILENCE {
            return Ok(End::Hung(format!(
                "no end for {} ms of processor time",
                spent.saturating_sub(last.1).as_millis()
            )));
        }
    }
}

fn judge(status: c_int, progress: &Progress) -> End {
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        // Nobody else writes that word: the hostile process cannot.
        if progress.stop.load(Ordering::Acquire) == 0 {
            return End::Crashed("ended before it was told to,".to_owned());
        }
        return End::Well;
    }
    if libc::WIFSIGNALED(status) {
        let address = progress.fault_address.load(Ordering::Relaxed);
        let instruction = progress.fault_instruction.load(Ordering::Relaxed);
        let signal = libc::WTERMSIG(status);
        return End::Crashed(format!(
            "signal {signal} at address {address:#x}, instruction {instruction:#x},"
        ));
    }
    End::Crashed(progress.said().unwrap_or_else(|| format!("status {status:#x}")))
}

/// A process of this run; killed and reaped when dropped.
#[derive(Debug)]
struct Child {
    pid: libc::pid_t,
    reaped: std::cell::Cell<bool>,
}

impl Child {
    /// Forks. The child stays on the processor of this number, as far as there is one, and runs `body`, whose panic
    /// ends the child: what its parent was doing is none of its business.
    fn spawn(processor: usize, body: impl FnOnce()) -> Result<Self> {
        // SAFETY: takes no arguments.
        let parent = unsafe { libc::getpid() };
        // SAFETY: the child runs `body` and nothing else of this program; what it allocates is its own.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()).context("forking"),
            0 => {
                die_with(parent);
                stay_on(processor);
                let ended = panic::catch_unwind(AssertUnwindSafe(body));
                leave(if ended.is_ok() { 0 } else { PANICKED });
            }
            pid => Ok(Self { pid, reaped: std::cell::Cell::new(false) }),
        }
    }

    /// The wait status, once it has ended.
    fn ended(&self) -> Result<Option<c_int>> {
        let mut status = 0;
        // SAFETY: a child of ours that is not reaped yet, and a place for its status.
        match unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } {
            0 => Ok(None),
            -1 => Err(io::Error::last_os_error()).context("waiting for a process of the run"),
            _ => {
                self.reaped.set(true);
                Ok(Some(status))
            }
        }
    }

    /// What it has computed so far; zero if the kernel does not say.
    fn processor_time(&self) -> Duration {
        let mut clock = 0;
        // SAFETY: a place for the clock.
        if unsafe { libc::clock_getcpuclockid(self.pid, &raw mut clock) } != 0 {
            return Duration::ZERO;
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a place for the time.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return Duration::ZERO;
        }
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped.get() {
            // SAFETY: a child of ours that is not reaped yet.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            // SAFETY: as above; the status is not wanted.
            unsafe { libc::waitpid(self.pid, ptr::null_mut(), 0) };
        }
    }
}

/// Asks the kernel to kill this process when its parent dies, and leaves no core files.
fn die_with(parent: libc::pid_t) {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    // SAFETY: no arguments.
    if unsafe { libc::getppid() } != parent {
        leave(0);
    }
}

/// Keeps this process on one of the processors that it may use: two that run by turns never meet in an operation.
fn stay_on(number: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let mut allowed =
        (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)).cycle().skip(number);
    if let Some(processor) = allowed.next() {
        let mut one = CpuSet::new();
        one.set(processor);
        // Where it is refused the run is only a weaker one.
        let _refused = sched_setaffinity(None, &one);
    }
}

fn leave(status: c_int) -> ! {
    // SAFETY: ends the process without running what its parent registered.
    unsafe { libc::_exit(status) }
}

/// The victim's process.
fn victim(subject: &Subject, arena: &Arena, progress: &Progress, mut dice: Dice) -> ! {
    catch_faults(progress);
    panic::set_hook(Box::new(|info| {
        let progress = FAULTS.load(Ordering::Relaxed);
        // SAFETY: set by `catch_faults` to a page that lives as long as this process.
        if let Some(progress) = unsafe { progress.as_ref() } {
            progress.say(&info.to_string().replace('\n', " "));
        }
        leave(PANICKED);
    }));
    let mut victim = (subject.victim)(arena.clone());
    let mut tally = Tally::new(progress);
    while progress.stop.load(Ordering::Acquire) == 0 {
        let turn = victim.turn(&mut dice, &mut tally);
        let whole =
            if arena.is_slack_whole() { Ok(()) } else { Err(Finding("a write in front of the memory")) };
        if let Err(Finding(what)) = turn.and(whole) {
            progress.say(what);
            leave(FOUND);
        }
        tally.beat();
    }
    leave(0)
}

static FAULTS: AtomicPtr<Progress> = AtomicPtr::new(ptr::null_mut());

/// Notes address and instruction of a fault before it kills this process.
fn catch_faults(progress: &Progress) {
    FAULTS.store(ptr::from_ref(progress).cast_mut(), Ordering::Relaxed);
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT] {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all zero is a valid action: the default one.
        let action = unsafe { action.assume_init_mut() };
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = note_fault;
        action.sa_sigaction = handler as usize;
        // SAFETY: a valid action whose handler only stores to atomics.
        unsafe { libc::sigaction(signal, ptr::from_ref(action), ptr::null_mut()) };
    }
}

/// Stores what happened; returning runs into the fault once more, which then kills.
extern "C" fn note_fault(_signal: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: null or set by `catch_faults` to a page that lives as long as this process.
    let Some(progress) = (unsafe { FAULTS.load(Ordering::Relaxed).as_ref() }) else {
        return;
    };
    // SAFETY: the kernel passes a valid record.
    let info = unsafe { &*info };
    // SAFETY: the handled signals are faults, whose records have an address, or an abort, where it means nothing.
    let address = unsafe { info.si_addr() } as u64;
    progress.fault_address.store(address, Ordering::Relaxed);
    // SAFETY: the kernel passes a valid context.
    let instruction = instruction(unsafe { &*context.cast::<libc::ucontext_t>() });
    progress.fault_instruction.store(instruction, Ordering::Relaxed);
}

#[cfg(target_arch = "x86_64")]
fn instruction(context: &libc::ucontext_t) -> u64 {
    let register = usize::try_from(libc::REG_RIP).unwrap_or(usize::MAX);
    context.uc_mcontext.gregs.get(register).map_or(0, |value| value.cast_unsigned())
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction(_context: &libc::ucontext_t) -> u64 {
    0
}
