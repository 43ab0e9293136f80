//! The one thread of a process that waits for the descriptors of all futures, and wakes their tasks.
//!
//! Futures of this crate belong to no runtime. What wakes them are pipes, which peers write to, and descriptors of peers'
//! processes; this thread sleeps on all of them together. It starts with the first future that has to wait.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use tidewire_shm::ForkMark;

const INTERRUPT: u64 = 0;

#[derive(Debug)]
struct Reactor {
    /// The process whose thread runs.
    mark: ForkMark,
    epoll: OwnedFd,
    /// Readable when a timer came that is earlier than all others.
    interrupt: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: u64,
    wakers: HashMap<u64, Waker>,
    timers: BTreeMap<(Instant, u64), Waker>,
}

/// A descriptor that wakes a task once each time it is asked to.
#[derive(Debug)]
pub(crate) struct Registration {
    reactor: &'static Reactor,
    fd: Arc<OwnedFd>,
    key: u64,
}

/// That of this process: a fork child, which has no threads but one, begins another one.
fn reactor() -> io::Result<&'static Reactor> {
    static REACTOR: Mutex<Option<&'static Reactor>> = Mutex::new(None);
    let mut made = REACTOR.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reactor) = made.filter(|reactor| !reactor.mark.is_forked_child()) {
        return Ok(reactor);
    }
    let mark = ForkMark::here().map_err(io::Error::other)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let interrupt = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    epoll::add(&epoll, &interrupt, EventData::new_u64(INTERRUPT), EventFlags::IN)?;
    let state = Mutex::new(State { next: 1, wakers: HashMap::new(), timers: BTreeMap::new() });
    let reactor = Arc::new(Reactor { mark, epoll, interrupt, state });
    let running = Arc::clone(&reactor);
    // Only what runs is found by others. Its thread keeps it for as long as the process lives.
    std::thread::Builder::new().name("tidewire-reactor".to_owned()).spawn(move || running.run())?;
    let reactor: &'static Reactor = Box::leak(Box::new(reactor));
    *made = Some(reactor);
    Ok(reactor)
}

impl Reactor {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        let mut due: Vec<Waker> = Vec::new();
        loop {
            let wait = self.lock().timers.first_key_value().map(|((at, _), _)| left(*at));
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // Nothing that can be mended here: do not burn a processor over it.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
            let mut state = self.lock();
            for event in &events {
                let data: EventData = event.data;
                match data.u64() {
                    INTERRUPT => {
                        let mut count = [0; 8];
                        let _read = rustix::io::read(&self.interrupt, &mut count);
                    }
                    key => due.extend(state.wakers.remove(&key)),
                }
            }
            let now = Instant::now();
            while let Some(timer) = state.timers.first_entry().filter(|timer| timer.key().0 <= now) {
                due.push(timer.remove());
            }
            drop(state);
            // Not under the lock: a task may run right here. One that panics ends nothing but itself.
            for waker in due.drain(..) {
                let _panicked = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
        }
    }
}

fn left(at: Instant) -> Timespec {
    let left = at.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}

impl Registration {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let reactor = reactor()?;
        let key = {
            let mut state = reactor.lock();
            state.next += 1;
            state.next
        };
        // Asked for nothing yet.
        epoll::add(&reactor.epoll, &fd, EventData::new_u64(key), EventFlags::ONESHOT)?;
        Ok(Self { reactor, fd: Arc::new(fd), key })
    }

    /// Wakes the task once, when the descriptor can be read.
    pub(crate) fn arm(&self, waker: &Waker) -> io::Result<()> {
        // Before the descriptor is asked after: the event may come at once.
        let waker = waker.clone();
        let former = self.reactor.lock().wakers.insert(self.key, waker);
        if former.is_some() {
            // It is asked after since then, or the event is here and whoever has it wakes the task in a moment. The former
            // waker ends here, not under the lock: it may be the last of its task, and that has registrations of its own.
            return Ok(());
        }
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        let asked = epoll::modify(&self.reactor.epoll, &*self.fd, EventData::new_u64(self.key), flags);
        if asked.is_err() {
            let unused = self.reactor.lock().wakers.remove(&self.key);
            drop(unused);
        }
        Ok(asked?)
    }
}

impl AsFd for Registration {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.reactor.mark.is_forked_child() {
            // The registration is the parent's, and so is the lock.
            return;
        }
        let former = self.reactor.lock().wakers.remove(&self.key);
        drop(former);
        // Closing it would do the same.
        let _gone = epoll::delete(&self.reactor.epoll, &*self.fd);
    }
}

/// A task to be woken at a moment; not if this is dropped before.
#[derive(Debug)]
pub(crate) struct Alarm {
    reactor: &'static Reactor,
    at: (Instant, u64),
}

impl Alarm {
    pub(crate) fn set(at: Instant, waker: &Waker) -> io::Result<Self> {
        let reactor = reactor()?;
        let waker = waker.clone();
        let mut state = reactor.lock();
        state.next += 1;
        let at = (at, state.next);
        state.timers.insert(at, waker);
        let first = state.timers.first_key_value().is_some_and(|(first, _)| *first == at);
        drop(state);
        if first {
            let _rung = rustix::io::write(&reactor.interrupt, &1_u64.to_ne_bytes());
        }
        Ok(Self { reactor, at })
    }

    /// Whether it is still to come, and not later than `at`; then it wakes this task.
    pub(crate) fn keep(&self, at: Instant, waker: &Waker) -> bool {
        if self.at.0 > at || self.reactor.mark.is_forked_child() {
            return false;
        }
        let mut waker = waker.clone();
        let mut state = self.reactor.lock();
        let Some(set) = state.timers.get_mut(&self.at) else { return false };
        std::mem::swap(set, &mut waker);
        // The former one ends after the lock.
        drop(state);
        true
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.reactor.mark.is_forked_child() {
            return;
        }
        let former = self.reactor.lock().timers.remove(&self.at);
        drop(former);
    }
}
