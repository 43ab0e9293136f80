//! The receiving end of any queue: who is there to send, what waits for room, and how to wait for a message.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tidewire_shm::bell::{Armed, System, Woken};
use tidewire_shm::{ForkMark, Presence, Segment, SegmentLeases};

use crate::company::Company;
use crate::error::Corrupt;
use crate::error::{OpenError, RecvError, RecvTimeoutError, TryRecvError};
use crate::event::{Events, UNRUNG, UNWATCHED};
use crate::ground::Ground;
use crate::options::Wait;
use crate::queue::{MISSED, Outlet, PASSED, Popped};
use crate::rest::{Rest, Until};

/// Attempts of one poll.
const LOOKS: u32 = 16;

/// The entry of the receiver; that of sender `i` is `i + 1`.
pub(crate) const RECEIVER: u32 = crate::company::OWNER;

#[derive(Debug)]
pub(crate) struct ReceiveEnd<O: Outlet> {
    pub(crate) outlet: O,
    rest: Option<Rest>,
    /// A sender that was found to be out of use, not yet told.
    spoilt: Option<Corrupt>,
    events: Events,
    mark: ForkMark,
    pub(crate) company: Company,
    leases: Arc<SegmentLeases>,
    _presence: Option<Presence>,
    pub(crate) segment: Segment,
}

impl<O: Outlet> ReceiveEnd<O> {
    pub(crate) fn new(outlet: O, ground: Ground, wait: Wait) -> Result<Self, OpenError> {
        let own = ground.prepare_to_attend();
        let Ground { segment, leases, presence, roster, mark, .. } = ground;
        let company = Company::new(roster, Arc::clone(&leases), 0)?;
        // Counted on: what attends begins at zero.
        let missed = company.roster.counter(RECEIVER, MISSED);
        let mut own = company.roster.attend(RECEIVER, own, System, &wait.sleep_options())?;
        own.count(MISSED, missed);
        let (rest, events) = (Some(Rest { own, wait }), Events::default());
        let spoilt = None;
        let mut end =
            Self { outlet, rest, spoilt, events, mark, company, leases, _presence: presence, segment };
        end.tell();
        end.look_around();
        Ok(end)
    }

    /// Brings the list of senders up to date, and frees what the dead held.
    fn look_around(&mut self) {
        let before = self.company.changes();
        // Also what somebody held who died before it had said that it is there, or after it had said that it left.
        if self.company.look_around() || self.company.changes() != before {
            self.outlet.reclaim(&self.leases);
        }
        // What came without a pop that noticed it.
        self.outlet.rescan();
        self.outlet.survey(&self.company.roster, &self.leases);
    }

    /// Whether nothing is left of what anybody sent; for an end that is about to leave.
    pub(crate) fn is_all_received(&mut self) -> bool {
        if self.mark.is_forked_child() {
            return false;
        }
        self.outlet.release();
        self.outlet.rescan();
        self.outlet.is_empty()
    }

    /// One attempt.
    pub(crate) fn try_take<R>(
        &mut self,
        mut pop: impl FnMut(&mut O) -> Popped<R>,
    ) -> Result<R, TryRecvError> {
        self.prepare()?;
        let first = pop(&mut self.outlet);
        self.settle(first, pop)
    }

    /// Before a look at the queue. In line with the caller's look, as the closures are not, this is the hot path; a look
    /// that finds nothing is [settled](Self::settle).
    #[inline(always)]
    pub(crate) fn prepare(&mut self) -> Result<(), TryRecvError> {
        if self.mark.is_forked_child() {
            return Err(TryRecvError::ForkedChild);
        }
        // Before, not after: what this call hands out is released by a later one.
        self.make_room();
        Ok(())
    }

    /// What the first look comes to, and another one if it has to be.
    pub(crate) fn settle<R>(
        &mut self,
        first: Popped<R>,
        mut pop: impl FnMut(&mut O) -> Popped<R>,
    ) -> Result<R, TryRecvError> {
        match first {
            Popped::Got(got) => Ok(got),
            Popped::Empty => self.try_again(&mut pop),
            Popped::Corrupt(corrupt) => Err(TryRecvError::Corrupt(corrupt)),
            Popped::TooSmall(needed) => Err(TryRecvError::BufferTooSmall { needed }),
        }
    }

    /// Releases what earlier calls handed out, if senders wait for room, and wakes them. One load if there are none.
    #[inline(always)]
    pub(crate) fn make_room(&mut self) {
        if self.company.is_awaited() {
            self.outlet.release();
            self.company.call_those_who_wait();
        }
    }

    /// Tells how far this end came, where the queue does not; whether the last look was cut short for it.
    fn tell(&mut self) -> bool {
        match (self.outlet.progress(), self.rest.as_mut()) {
            (Some(progress), Some(rest)) => {
                // In this order: killed in between, what was missed counts twice rather than never.
                rest.own.count(MISSED, progress.missed);
                rest.own.count(PASSED, progress.passed);
                progress.cut_short
            }
            _ => false,
        }
    }

    /// Nothing was found: has anything changed among the senders?
    #[cold]
    fn try_again<R>(&mut self, pop: &mut impl FnMut(&mut O) -> Popped<R>) -> Result<R, TryRecvError> {
        if let Some(corrupt) = self.spoilt.take().or_else(|| self.outlet.take_corrupt()) {
            return Err(TryRecvError::Corrupt(corrupt));
        }
        if self.tell() {
            match pop(&mut self.outlet) {
                Popped::Got(got) => return Ok(got),
                Popped::Corrupt(corrupt) => return Err(TryRecvError::Corrupt(corrupt)),
                Popped::TooSmall(needed) => return Err(TryRecvError::BufferTooSmall { needed }),
                Popped::Empty => {}
            }
        }
        // A look that finds nothing releases what was handed out before.
        self.make_room();
        self.company.ask_now_and_then();
        if !self.company.has_news() {
            // What they had sent was found, or is found by now, after the last look around.
            return Err(self.nothing());
        }
        self.look_around();
        // What the ones who left had sent before is found now, whatever the queue knew before.
        self.outlet.rescan();
        match pop(&mut self.outlet) {
            Popped::Got(got) => Ok(got),
            Popped::Corrupt(corrupt) => Err(TryRecvError::Corrupt(corrupt)),
            Popped::TooSmall(needed) => Err(TryRecvError::BufferTooSmall { needed }),
            Popped::Empty => Err(match self.outlet.take_corrupt() {
                Some(corrupt) => TryRecvError::Corrupt(corrupt),
                None => self.nothing(),
            }),
        }
    }

    fn nothing(&self) -> TryRecvError {
        if self.company.is_deserted() { TryRecvError::Disconnected } else { TryRecvError::Empty }
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
                    Popped::Got(got) => return Ok(got),
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
        self.tell();
        self.make_room();
        let Self { outlet, rest, company, .. } = self;
        let mut got = None;
        let mut ready = || {
            match pop(outlet) {
                // A lane that lies is passed over, and reported.
                Popped::Empty => got = outlet.take_corrupt().map(Popped::Corrupt),
                found => got = Some(found),
            }
            got.is_some() || company.roster.changes() != company.changes()
        };
        let (watches, all_watched) = company.watches();
        let woken = rest.as_mut()?.wait(&mut ready, until, &watches, all_watched);
        if got.is_none() {
            match woken {
                // So long nothing came: does everybody live who says so?
                Woken::TimedOut => self.company.ask_after_all(),
                _ => self.company.ask_after_unwatched(),
            }
            if !all_watched || woken != Woken::Ready {
                self.look_around();
            }
        }
        got
    }

    /// The queue, and what tells whether this process is the one that opened the end.
    pub(crate) fn split(&mut self) -> (&mut O, &ForkMark) {
        (&mut self.outlet, &self.mark)
    }

    /// Waits until that many senders are there.
    pub(crate) fn wait_senders(&mut self, count: usize, until: Until) -> bool {
        if self.mark.is_forked_child() {
            return false;
        }
        loop {
            self.look_around();
            if self.company.len() >= count {
                return true;
            }
            if until.is_over() {
                return false;
            }
            let Self { rest, company, .. } = self;
            let (watches, all_watched) = company.watches();
            let Some(rest) = rest.as_mut() else { return false };
            let news = || company.roster.changes() != company.changes();
            let _woken = rest.wait(&mut { news }, until, &watches, all_watched);
            self.company.ask_after_unwatched();
        }
    }

    /// Who is there to send: entry and generation.
    pub(crate) fn senders(&mut self) -> Vec<(u32, u64)> {
        if !self.mark.is_forked_child() {
            self.look_around();
        }
        self.company.entries().collect()
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
        if self.mark.is_forked_child() || self.outlet.is_ready() || self.is_spoilt() {
            return true;
        }
        self.company.ask_now_and_then();
        if self.company.has_news() {
            self.look_around();
            self.outlet.rescan();
        }
        self.outlet.is_ready() || self.is_spoilt() || self.nothing() == TryRecvError::Disconnected
    }

    /// Whether a sender was found to be out of use, which the next call tells.
    fn is_spoilt(&mut self) -> bool {
        if self.spoilt.is_none() {
            self.spoilt = self.outlet.take_corrupt();
        }
        self.spoilt.is_some()
    }

    /// Announces a wait; true: do not wait.
    pub(crate) fn arm(&mut self) -> io::Result<bool> {
        if self.mark.is_forked_child() {
            return Ok(true);
        }
        self.outlet.release();
        self.tell();
        self.make_room();
        self.company.ask_after_all();
        if self.is_ready() {
            return Ok(true);
        }
        self.company.find_endings();
        let Self { outlet, rest, events, company, .. } = self;
        let Some(rest) = rest.as_mut() else { return Ok(true) };
        let news = || outlet.is_ready() || company.roster.changes() != company.changes();
        let armed = events.arm(&mut rest.own, news)?;
        Ok(armed == Armed::Ready)
    }

    pub(crate) fn disarm(&mut self) {
        if self.mark.is_forked_child() {
            return;
        }
        if let Some(rest) = self.rest.as_mut() {
            self.events.disarm(&mut rest.own);
        }
    }

    /// What becomes readable when there is something to do; whether that is all that could happen.
    pub(crate) fn descriptors<'a>(&'a self, to: &mut Vec<PollFd<'a>>) -> bool {
        let poll = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        to.extend(self.events.fd().filter(|_| self.events.is_armed()).map(poll));
        self.company.descriptors(to)
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
        let wait = if self.company.register(cx.waker()) { UNRUNG } else { UNWATCHED };
        self.events.wake_at(Instant::now() + wait, cx.waker())
    }
}

impl<O: Outlet> Drop for ReceiveEnd<O> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            // All of it is the parent's.
            self.outlet.abandon();
            std::mem::forget((self.rest.take(), std::mem::take(&mut self.events)));
            self.company.abandon();
            return;
        }
        self.outlet.release();
        self.tell();
        // Says that nobody receives any more, as long as the role is ours; then it is free; then whoever waits for room is
        // woken to see it, and may want it.
        self.rest = None;
        self.outlet.close();
        self.company.call_all();
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
