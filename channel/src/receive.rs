//! The receiving end of any queue: who is there to send, what waits for room, and how to wait for a message.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tidewire_shm::bell::{Armed, Caller, Hands, Roster, System, Woken};
use tidewire_shm::{
    DeathWatch, ForkMark, NoticeAddress, Presence, RoleId, Segment, SegmentLeases, Untrusted,
};

use crate::error::{OpenError, RecvError, RecvTimeoutError, TryRecvError};
use crate::event::{Ending, Events, UNWATCHED};
use crate::ground::Ground;
use crate::options::Wait;
use crate::queue::{Outlet, Popped, is_vacant};
use crate::rest::{Rest, Until};

/// Attempts of one poll.
const LOOKS: u32 = 16;

/// The entry of the receiver; that of sender `i` is `i + 1`.
pub(crate) const RECEIVER: u32 = 0;

/// A sender that said that it is there.
#[derive(Debug)]
struct Present {
    entry: u32,
    generation: u64,
    watch: Option<DeathWatch>,
    /// Its notice, as it said.
    notice: [u64; 2],
    ending: Ending,
}

/// A sender that died.
#[derive(Clone, Copy, Debug)]
struct Ghost {
    entry: u32,
    generation: u64,
    /// Whether its death is proven, and what it held given back.
    buried: bool,
}

#[derive(Debug)]
pub(crate) struct ReceiveEnd<O: Outlet> {
    // In this order: the role is free before those who wait are told.
    pub(crate) outlet: O,
    rest: Option<Rest>,
    events: Events,
    hands: Hands<Untrusted>,
    mark: ForkMark,
    /// Who is there, as of `changes`.
    present: Vec<Present>,
    changes: u64,
    /// Whether anybody has been there in our time, and the generation of each entry before.
    met: bool,
    before: Vec<u64>,
    /// Those whose entries say that they are there, and who are not.
    ghosts: Vec<Ghost>,
    callers: Vec<Option<Caller<System, Untrusted>>>,
    pub(crate) roster: Roster<Untrusted>,
    leases: Arc<SegmentLeases>,
    _presence: Option<Presence>,
    pub(crate) segment: Segment,
}

impl<O: Outlet> ReceiveEnd<O> {
    pub(crate) fn new(outlet: O, ground: Ground, wait: Wait) -> Result<Self, OpenError> {
        // Before we are there: whoever comes later is one who came in our time.
        let before: Vec<u64> =
            (0..ground.roster.entries()).map(|entry| ground.roster.entry(entry).generation).collect();
        let own = ground.attend(RECEIVER, &wait.sleep_options())?;
        let Ground { segment, leases, presence, roster, mark, .. } = ground;
        let hands = roster.hands();
        let callers = (0..roster.entries()).map(|_| None).collect();
        let mut end = Self {
            outlet,
            rest: Some(Rest { own, wait }),
            events: Events::default(),
            hands,
            mark,
            present: Vec::new(),
            changes: 0,
            met: false,
            before,
            ghosts: Vec::new(),
            callers,
            roster,
            leases,
            _presence: presence,
            segment,
        };
        end.look_around();
        Ok(end)
    }

    /// One attempt.
    #[inline]
    pub(crate) fn try_take<R>(
        &mut self,
        mut pop: impl FnMut(&mut O) -> Popped<R>,
    ) -> Result<R, TryRecvError> {
        if self.mark.is_forked_child() {
            return Err(TryRecvError::ForkedChild);
        }
        match pop(&mut self.outlet) {
            Popped::Got(got) => {
                self.make_room();
                Ok(got)
            }
            Popped::Empty => self.try_again(&mut pop),
            Popped::Corrupt(corrupt) => Err(TryRecvError::Corrupt(corrupt)),
            Popped::TooSmall(needed) => Err(TryRecvError::BufferTooSmall { needed }),
        }
    }

    /// After something was consumed: wakes senders that wait for room. One load if there are none.
    #[inline]
    pub(crate) fn make_room(&mut self) {
        if self.hands.any() {
            self.call_senders();
        }
    }

    #[cold]
    fn call_senders(&mut self) {
        self.outlet.release();
        let raised: Vec<u32> = self.hands.raised().filter(|entry| *entry != RECEIVER).collect();
        for entry in raised {
            self.call(entry);
        }
    }

    fn call(&mut self, entry: u32) {
        let Some(caller) = self.callers.get_mut(entry as usize) else { return };
        if caller.is_none() {
            // Refused now, it is tried at the next message; the sender looks for itself at the end of its slice.
            *caller = self.roster.caller(entry, System).ok();
        }
        if let Some(caller) = caller {
            let _rung = caller.ring();
        }
    }

    /// Nothing was found: has anything changed among the senders?
    #[cold]
    fn try_again<R>(&mut self, pop: &mut impl FnMut(&mut O) -> Popped<R>) -> Result<R, TryRecvError> {
        if let Some(corrupt) = self.outlet.take_corrupt() {
            return Err(TryRecvError::Corrupt(corrupt));
        }
        let gone = |present: &Present| present.watch.as_ref().is_some_and(|watch| watch.state().is_gone());
        let nothing_new =
            self.roster.changes() == self.changes && self.ghosts.iter().all(|ghost| ghost.buried);
        if nothing_new && !self.present.iter().any(gone) {
            // What they had sent was found, or is found by now, after the last look around.
            return Err(self.nothing());
        }
        self.look_around();
        // What the ones who left had sent before is found now, whatever the queue knew before.
        self.outlet.rescan();
        match pop(&mut self.outlet) {
            Popped::Got(got) => {
                self.make_room();
                Ok(got)
            }
            Popped::Corrupt(corrupt) => Err(TryRecvError::Corrupt(corrupt)),
            Popped::TooSmall(needed) => Err(TryRecvError::BufferTooSmall { needed }),
            Popped::Empty => Err(match self.outlet.take_corrupt() {
                Some(corrupt) => TryRecvError::Corrupt(corrupt),
                None => self.nothing(),
            }),
        }
    }

    fn nothing(&self) -> TryRecvError {
        if self.met && self.present.is_empty() { TryRecvError::Disconnected } else { TryRecvError::Empty }
    }

    /// Brings the list of those who are there up to date.
    fn look_around(&mut self) {
        // Before the entries: a change in between is found next time.
        self.changes = self.roster.changes();
        let mut seen = std::mem::take(&mut self.present);
        for entry in 1..self.roster.entries() {
            let said = self.roster.entry(entry);
            // Also one that came and went without being seen.
            self.met |= self.before.get(entry as usize).is_some_and(|before| said.generation > *before);
            if !said.present {
                continue;
            }
            let known = seen.iter().position(|one| one.entry == entry && one.generation == said.generation);
            let is_ghost = |ghost: &Ghost| (ghost.entry, ghost.generation) == (entry, said.generation);
            if self.ghosts.iter().any(is_ghost) {
                continue;
            }
            let found = match known {
                Some(index) => seen.swap_remove(index),
                None => {
                    let watch = DeathWatch::find(NoticeAddress::from_words(said.notice)).ok();
                    Present {
                        entry,
                        generation: said.generation,
                        watch,
                        notice: said.notice,
                        ending: Ending::Unasked,
                    }
                }
            };
            let gone = match &found.watch {
                Some(watch) => watch.state().is_gone(),
                // One that died before it was ever seen has no notice any more.
                None => known.is_none() && self.is_vacant(entry),
            };
            if gone {
                // That it was there counts only if it could be seen.
                self.met |= found.watch.is_some();
                self.ghosts.push(Ghost { entry, generation: found.generation, buried: false });
            } else {
                self.present.push(found);
            }
        }
        self.met |= !self.present.is_empty() || !seen.is_empty();
        self.bury();
    }

    fn is_vacant(&self, entry: u32) -> bool {
        RoleId::producer(entry - 1).is_some_and(|role| is_vacant(&self.leases, role))
    }

    /// Gives back what those held who are proven dead.
    fn bury(&mut self) {
        let roster = &self.roster;
        self.ghosts.retain(|ghost| {
            let said = roster.entry(ghost.entry);
            said.present && said.generation == ghost.generation
        });
        let mut proven = false;
        for index in 0..self.ghosts.len() {
            let Some(Ghost { entry, buried: false, .. }) = self.ghosts.get(index).copied() else { continue };
            if !self.is_vacant(entry) {
                continue;
            }
            if let Some(ghost) = self.ghosts.get_mut(index) {
                ghost.buried = true;
            }
            self.roster.lower(entry);
            proven = true;
        }
        if proven {
            self.outlet.reclaim(&self.leases);
        }
    }

    /// Waits for something to consume.
    pub(crate) fn take<R>(
        &mut self,
        until: Until,
        mut pop: impl FnMut(&mut O) -> Popped<R>,
    ) -> Result<R, RecvTimeoutError> {
        loop {
            match self.try_take(&mut pop) {
                Ok(got) => return Ok(got),
                Err(TryRecvError::Empty) if until.is_over() => return Err(RecvTimeoutError::Timeout),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Corrupt(corrupt)) => return Err(RecvTimeoutError::Corrupt(corrupt)),
                Err(TryRecvError::ForkedChild) => return Err(RecvTimeoutError::ForkedChild),
                Err(TryRecvError::BufferTooSmall { needed }) => {
                    return Err(RecvTimeoutError::BufferTooSmall { needed });
                }
            }
            if let Some(popped) = self.sleep(until, &mut pop) {
                match popped {
                    Popped::Got(got) => {
                        self.make_room();
                        return Ok(got);
                    }
                    Popped::Corrupt(corrupt) => return Err(RecvTimeoutError::Corrupt(corrupt)),
                    Popped::TooSmall(needed) => return Err(RecvTimeoutError::BufferTooSmall { needed }),
                    Popped::Empty => {}
                }
            }
        }
    }

    /// Sleeps until there is something, which it takes, or something else to do.
    fn sleep<R>(&mut self, until: Until, pop: &mut impl FnMut(&mut O) -> Popped<R>) -> Option<Popped<R>> {
        self.outlet.release();
        self.make_room();
        let Self { outlet, rest, present, ghosts, changes, roster, .. } = self;
        let mut got = None;
        let mut ready = || {
            match pop(outlet) {
                Popped::Empty => {}
                found => got = Some(found),
            }
            got.is_some() || roster.changes() != *changes
        };
        let watches: Vec<&DeathWatch> = present.iter().filter_map(|one| one.watch.as_ref()).collect();
        let all_watched = watches.len() == present.len() && ghosts.iter().all(|ghost| ghost.buried);
        let woken = rest.as_mut()?.wait(&mut ready, until, &watches, all_watched);
        if got.is_none() && (matches!(woken, Woken::PeerGone { .. }) || !all_watched) {
            self.ask_after_unwatched();
            self.look_around();
            self.outlet.rescan();
        }
        got
    }

    /// Whoever has no notice is asked after by its lease.
    fn ask_after_unwatched(&mut self) {
        let leases = &self.leases;
        let dead = |one: &Present| {
            one.watch.is_none() && RoleId::producer(one.entry - 1).is_some_and(|role| is_vacant(leases, role))
        };
        for one in self.present.extract_if(.., |one| dead(one)) {
            self.ghosts.push(Ghost { entry: one.entry, generation: one.generation, buried: false });
        }
    }

    /// Waits until that many senders are there.
    pub(crate) fn wait_senders(&mut self, count: usize, until: Until) -> bool {
        loop {
            self.look_around();
            if self.present.len() >= count {
                return true;
            }
            if until.is_over() {
                return false;
            }
            let Self { rest, present, changes, roster, .. } = self;
            let watches: Vec<&DeathWatch> = present.iter().filter_map(|one| one.watch.as_ref()).collect();
            let all = watches.len() == present.len();
            let Some(rest) = rest.as_mut() else { return false };
            let _woken = rest.wait(&mut || roster.changes() != *changes, until, &watches, all);
            self.ask_after_unwatched();
        }
    }

    /// Who is there to send: entry, generation and death notice.
    pub(crate) fn senders(&mut self) -> Vec<(u32, u64)> {
        if !self.mark.is_forked_child() {
            self.look_around();
        }
        self.present.iter().map(|one| (one.entry, one.generation)).collect()
    }

    pub(crate) fn set_wait(&mut self, wait: Wait) {
        if let Some(rest) = self.rest.as_mut() {
            rest.wait = wait;
            rest.own.set_patience(&wait.sleep_options());
        }
    }
}

/// Waiting for descriptors.
impl<O: Outlet> ReceiveEnd<O> {
    /// Whether a call would not wait.
    pub(crate) fn is_ready(&mut self) -> bool {
        if self.mark.is_forked_child() || !self.outlet.is_empty() {
            return true;
        }
        let gone = |present: &Present| present.watch.as_ref().is_some_and(|watch| watch.state().is_gone());
        if self.roster.changes() != self.changes || self.present.iter().any(gone) {
            self.look_around();
            self.outlet.rescan();
        }
        !self.outlet.is_empty() || self.nothing() == TryRecvError::Disconnected
    }

    /// Announces a wait; true: do not wait.
    pub(crate) fn arm(&mut self) -> io::Result<bool> {
        self.outlet.release();
        self.make_room();
        self.ask_after_unwatched();
        if self.is_ready() {
            return Ok(true);
        }
        for one in &mut self.present {
            one.ending.find(one.watch.as_ref(), one.notice);
        }
        let Self { outlet, rest, events, changes, roster, .. } = self;
        let Some(rest) = rest.as_mut() else { return Ok(true) };
        let armed = events.arm(&mut rest.own, || !outlet.is_empty() || roster.changes() != *changes)?;
        Ok(armed == Armed::Ready)
    }

    pub(crate) fn disarm(&mut self) {
        if let Some(rest) = self.rest.as_mut() {
            self.events.disarm(&mut rest.own);
        }
    }

    /// What becomes readable when there is something to do; whether that is all that could happen.
    pub(crate) fn descriptors<'a>(&'a self, to: &mut Vec<PollFd<'a>>) -> bool {
        let poll = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        to.extend(self.events.fd().filter(|_| self.events.is_armed()).map(poll));
        to.extend(self.present.iter().filter_map(|one| one.ending.fd()).map(poll));
        self.present.iter().all(|one| one.ending.fd().is_some())
            && self.ghosts.iter().all(|ghost| ghost.buried)
    }

    /// One attempt of a future; if there is nothing, its task is woken when there is.
    pub(crate) fn poll_take<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut pop: impl FnMut(&mut O) -> Popped<R>,
    ) -> Poll<Result<R, TryRecvError>> {
        self.disarm();
        // Bounded: a peer may change its mind again and again.
        for _ in 0..LOOKS {
            match self.try_take(&mut pop) {
                Err(TryRecvError::Empty) => {}
                done => return Poll::Ready(done),
            }
            match self
                .arm()
                .and_then(|ready| if ready { Ok(true) } else { self.register(cx).map(|()| false) })
            {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                // Without descriptors: look again soon.
                Err(_) => break,
            }
        }
        self.disarm();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn register(&mut self, cx: &Context<'_>) -> io::Result<()> {
        self.events.register(cx.waker())?;
        let mut all = self.ghosts.iter().all(|ghost| ghost.buried);
        for one in &mut self.present {
            all &= one.ending.register(cx.waker());
        }
        if all { Ok(()) } else { self.events.wake_at(Instant::now() + UNWATCHED, cx.waker()) }
    }
}

impl<O: Outlet> Drop for ReceiveEnd<O> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            // All of it is the parent's.
            self.outlet.abandon();
            std::mem::forget(self.rest.take());
            return;
        }
        self.outlet.release();
        // Says that nobody receives any more; then whoever waits for room is woken to see it.
        self.rest = None;
        for entry in 1..self.roster.entries() {
            if self.roster.entry(entry).present {
                self.call(entry);
            }
        }
    }
}

impl From<RecvTimeoutError> for RecvError {
    /// For waits without limit, which no time ends.
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected => Self::Disconnected,
            RecvTimeoutError::Corrupt(corrupt) => Self::Corrupt(corrupt),
            RecvTimeoutError::ForkedChild => Self::ForkedChild,
            RecvTimeoutError::BufferTooSmall { needed } => Self::BufferTooSmall { needed },
        }
    }
}
