//! Waiting for children without ever hanging, and running short-lived children.
//!
//! A timer interrupts the tracer's `waitpid` a few times a second; only then are the limits looked at, so that a
//! step costs no extra system call. A child that has used its processor time spins, one that was asleep at every
//! look for long enough sleeps for ever; both are *blocked*. Neither depends on the machine's load.

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::io;
use std::panic::catch_unwind;
use std::time::Instant;

use super::heap;
use super::stage::Stage;

/// How often the limits are looked at.
const TICK: Duration = Duration::from_millis(20);

/// How long a child may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Processor time: more than this is a spin.
    pub(crate) processor: Duration,
    /// Wall time: asleep for longer than this is for ever. Time spent waiting for a processor does not count.
    pub(crate) wall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processor: Duration::from_millis(400), wall: Duration::from_secs(5) }
    }
}

/// What `waitpid` reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A traced child stopped by this signal.
    Stopped(i32),
    /// The child ended with this code.
    Exited(i32),
    /// The child was killed by this signal.
    Killed(i32),
    /// The limits are used up; the child still runs.
    Blocked,
}

/// A timer that interrupts the thread that made it.
pub(super) struct Watch {
    timer: libc::timer_t,
    limits: Limits,
    old_action: libc::sigaction,
    tracer: libc::pid_t,
}

/// Wakes `waitpid`; nothing to do.
extern "C" fn on_tick(_signal: libc::c_int) {}

impl Watch {
    /// Starts the timer for the calling thread.
    pub(super) fn start(limits: Limits) -> io::Result<Self> {
        // SAFETY: all zero is a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        // SAFETY: as above.
        let mut old_action: libc::sigaction = unsafe { core::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int) = on_tick;
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: both point at live `sigaction`s; the handler does nothing.
        check(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, &raw mut old_action) })?;
        // SAFETY: all zero is a valid `sigevent`.
        let mut event: libc::sigevent = unsafe { core::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        // SAFETY: a plain system call.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = core::ptr::null_mut();
        // SAFETY: both point at live values.
        check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) })?;
        // SAFETY: a plain system call.
        let tracer = unsafe { libc::getpid() };
        let watch = Self { timer, limits, old_action, tracer };
        let tick = libc::timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        let every = libc::itimerspec { it_interval: tick, it_value: tick };
        // SAFETY: the timer exists and the setting is alive.
        check(unsafe { libc::timer_settime(watch.timer, 0, &raw const every, core::ptr::null_mut()) })?;
        Ok(watch)
    }

    /// The limits that children are held to.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// The process that traces.
    pub(super) fn tracer(&self) -> libc::pid_t {
        self.tracer
    }

    /// Waits until the child stops or ends, or its limits are used up.
    pub(super) fn wait(&self, pid: libc::pid_t) -> io::Result<Event> {
        let mut base = None;
        let mut asleep_since = None;
        loop {
            let mut status = 0;
            // SAFETY: `status` is alive; the child is ours and not yet reaped.
            let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            if waited == pid {
                return Ok(if libc::WIFSTOPPED(status) {
                    Event::Stopped(libc::WSTOPSIG(status))
                } else if libc::WIFSIGNALED(status) {
                    Event::Killed(libc::WTERMSIG(status))
                } else {
                    Event::Exited(libc::WEXITSTATUS(status))
                });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            let used = processor_time(pid)?;
            if used.saturating_sub(*base.get_or_insert(used)) > self.limits.processor {
                return Ok(Event::Blocked);
            }
            if !asleep(pid) {
                asleep_since = None;
            } else if asleep_since.get_or_insert_with(Instant::now).elapsed() > self.limits.wall {
                return Ok(Event::Blocked);
            }
        }
    }

    /// Runs `body` in a child of its own and returns how it ended; a blocked child is killed.
    pub(super) fn run(&self, stage: &Stage, body: &dyn Fn() -> i32) -> io::Result<Event> {
        let child = fork(self.tracer, stage, body)?;
        let event = self.wait(child);
        if !matches!(event, Ok(Event::Exited(_) | Event::Killed(_))) {
            end(child);
        }
        event
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `start` and is deleted once.
        unsafe { libc::timer_delete(self.timer) };
        // SAFETY: restores what `start` replaced.
        unsafe { libc::sigaction(libc::SIGALRM, &raw const self.old_action, core::ptr::null_mut()) };
    }
}

/// The exit code of a child whose body panicked; the text says what it said.
pub(super) const PANICKED: i32 = 125;

/// Forks; `body` runs in the child, which then ends with the code that it returns.
pub(super) fn fork(tracer: libc::pid_t, stage: &Stage, body: &dyn Fn() -> i32) -> io::Result<libc::pid_t> {
    // SAFETY: the child goes on alone with a copy of this thread. The engine is started in a process without
    // other threads (or with threads that only wait), so no lock that it needs is held by one of them.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => in_child(tracer, stage, body),
        child => Ok(child),
    }
}

/// The whole life of a child.
fn in_child(tracer: libc::pid_t, stage: &Stage, body: &dyn Fn() -> i32) -> ! {
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: a plain system call.
    if unsafe { libc::getppid() } != tracer {
        exit(PANICKED);
    }
    heap::enter();
    std::panic::set_hook(Box::new(|_| {}));
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(code) => exit(code),
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(ToString::to_string)
                .or_else(|| panic.downcast_ref::<String>().cloned());
            stage.write_text(&text.unwrap_or_else(|| "a panic without a text".to_owned()));
            exit(PANICKED)
        }
    }
}

/// Ends the process at once: no destructors, no buffers of the parent written twice.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used any more.
    unsafe { libc::_exit(code) }
}

/// Kills a child that is not yet reaped, and reaps it.
pub(super) fn end(pid: libc::pid_t) {
    // SAFETY: the child is ours and not yet reaped, so the number is its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    loop {
        let mut status = 0;
        // SAFETY: as above; `status` is alive.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        let interrupted = waited == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if !interrupted && (waited != pid || !libc::WIFSTOPPED(status)) {
            return;
        }
    }
}

/// Processor time that a process has used.
fn processor_time(pid: libc::pid_t) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` is alive.
    let failed = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is alive.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Ok(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Whether a process sleeps; one that waits for a processor does not.
fn asleep(pid: libc::pid_t) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses and may contain any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['S', 'D']))
}

/// The error of a system call that returned -1.
pub(super) fn check(returned: libc::c_int) -> io::Result<()> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The calling thread, and the children it forks, on one processor; undone when dropped.
pub(super) struct Pin {
    before: libc::cpu_set_t,
}

impl Pin {
    /// Pins to a processor that is allowed, the `number`-th from the last. Tracer and child hand over to each other at
    /// every step, which is fastest, and steadiest, on one processor.
    pub(super) fn to_one(number: usize) -> io::Result<Self> {
        // SAFETY: all zero is an empty set.
        let mut before: libc::cpu_set_t = unsafe { core::mem::zeroed() };
        // SAFETY: the set is alive and of the length given.
        check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut before) })?;
        let all = 0..usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
        // SAFETY: the index is below the set's size.
        let allowed: Vec<usize> = all.rev().filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &before) }).collect();
        let chosen = allowed.iter().cycle().nth(number).copied();
        // SAFETY: all zero is an empty set.
        let mut one: libc::cpu_set_t = unsafe { core::mem::zeroed() };
        // SAFETY: found in a set of the same size.
        unsafe { libc::CPU_SET(chosen.unwrap_or(0), &mut one) };
        // SAFETY: the set is alive and of the length given.
        check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one) })?;
        Ok(Self { before })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: the set is alive and of the length given; a refusal leaves the thread pinned, which is legal.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.before) };
    }
}
