//! Waiting for answers by descriptors: many tasks, one pipe.
//!
//! Whoever wakes the pipe, or ends, wakes all tasks that wait; the first that is polled then announces the next wait. As
//! long as somebody stands on the board, a wait is announced, or whoever stood there was woken.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tidewire_shm::bell::Armed;

use super::{ClientEnd, Ends, PAUSE, State};
use crate::error::CallError;
use crate::event::{Ending, Events, UNRUNG, UNWATCHED};
use crate::rpc::record::{CallNumber, Cargo};

/// Attempts of one poll.
const LOOKS: u32 = 16;

/// The tasks that wait; for which call, or for room.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Vec<(Option<CallNumber>, Waker)>>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, Vec<(Option<CallNumber>, Waker)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a task; whether it is the only one.
    fn note(&self, call: Option<CallNumber>, waker: &Waker) -> bool {
        // Clones and ends run code of others': not under the lock.
        let waker = waker.clone();
        let mut noted = self.lock();
        let alone = noted.iter().all(|(other, _)| *other == call);
        let former = match noted.iter_mut().find(|(other, _)| *other == call) {
            Some((_, former)) => Some(std::mem::replace(former, waker)),
            None => {
                noted.push((call, waker));
                None
            }
        };
        drop(noted);
        drop(former);
        alone
    }

    /// Takes a task from the board; whether nobody is left.
    fn forget(&self, call: Option<CallNumber>) -> bool {
        let mut noted = self.lock();
        let index = noted.iter().position(|(other, _)| *other == call);
        let former = index.map(|index| noted.swap_remove(index));
        let nobody = noted.is_empty();
        drop(noted);
        drop(former);
        nobody
    }

    /// Wakes all.
    pub(super) fn call(&self) {
        let woken = std::mem::take(&mut *self.lock());
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Wake for Board {
    fn wake(self: Arc<Self>) {
        self.call();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.call();
    }
}

/// What a client waits with.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    events: Events,
    ending: Ending,
    board: Arc<Board>,
}

impl Waiting {
    /// There is another server, or none: all look again.
    pub(super) fn renew(&mut self) {
        self.ending = Ending::Unasked;
        self.board.call();
    }

    /// Forgets all without giving anything back, in a fork child.
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    pub(super) fn abandon(&mut self) {
        std::mem::forget(std::mem::take(self));
    }

    fn register(&mut self) -> io::Result<()> {
        let waker = Waker::from(Arc::clone(&self.board));
        self.events.register(&waker)?;
        let wait = if self.ending.register(&waker) { UNRUNG } else { UNWATCHED };
        self.events.wake_at(Instant::now() + wait, &waker)
    }
}

impl<A: Cargo> ClientEnd<A> {
    /// One attempt of a future; if there is no answer, its task is woken when there is.
    pub(crate) fn poll_take(&mut self, id: CallNumber, cx: &Context<'_>) -> Poll<Result<A, CallError>> {
        if let Some(done) = self.try_take(id) {
            self.leave_board(Some(id));
            return Poll::Ready(done);
        }
        let alone = self.waiting.board.note(Some(id), cx.waker());
        if !alone && self.waiting.events.is_armed() {
            return Poll::Pending;
        }
        // Bounded: a peer may change its mind again and again.
        for _ in 0..LOOKS {
            self.disarm();
            match self.arm_for(Some(id)) {
                Ok(true) => {}
                Ok(false) => match self.waiting.register() {
                    Ok(()) => return Poll::Pending,
                    Err(_) => break,
                },
                Err(_) => break,
            }
            if let Some(done) = self.try_take(id) {
                self.leave_board(Some(id));
                return Poll::Ready(done);
            }
        }
        // Without descriptors: soon.
        self.disarm();
        self.waiting.board.call();
        Poll::Pending
    }

    /// What became of a request for which there was no room: ready if it is to be tried again, or never will be.
    pub(crate) fn poll_room(&mut self, most: usize, cx: &Context<'_>) -> Poll<Result<(), CallError>> {
        self.ask_after_server();
        let Some(Ends { inbox, .. }) = self.ends.as_mut() else {
            return Poll::Ready(Err(CallError::ForkedChild));
        };
        let had_slot = !inbox.free.is_empty();
        if !had_slot && inbox.abandoned == 0 {
            return Poll::Ready(Err(CallError::Full(most)));
        }
        let _none_wanted = inbox.look(None);
        if !had_slot && !inbox.free.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Nobody rings for room.
        self.waiting.board.note(None, cx.waker());
        let waker = Waker::from(Arc::clone(&self.waiting.board));
        if self.waiting.events.wake_at(Instant::now() + PAUSE, &waker).is_err() {
            self.waiting.board.call();
        }
        Poll::Pending
    }

    /// A task that waits no more.
    pub(crate) fn leave_board(&mut self, call: Option<CallNumber>) {
        if self.mark.is_forked_child() {
            return;
        }
        if self.waiting.board.forget(call) {
            self.disarm();
        } else if !self.waiting.events.is_armed() {
            self.waiting.board.call();
        }
    }

    /// Before a wait without descriptors: those with them look again after it.
    #[inline]
    pub(super) fn interrupt(&mut self) {
        if self.waiting.events.is_armed() {
            self.disarm();
            self.waiting.board.call();
        }
    }

    /// Announces a wait for this answer, or for any; true: do not wait.
    fn arm_for(&mut self, id: Option<CallNumber>) -> io::Result<bool> {
        let Self { ends: Some(Ends { rest, inbox, .. }), waiting, watch, notice, server, caller, .. } = self
        else {
            return Ok(true);
        };
        waiting.ending.find(watch.as_ref(), *notice);
        let armed = waiting.events.arm(&mut rest.own, || {
            let _none_wanted = inbox.look(None);
            let done = id.map_or_else(|| inbox.first_done().is_some(), |id| inbox.is_done(id));
            done || caller.holder() != *server
        })?;
        Ok(armed == Armed::Ready)
    }

    pub(crate) fn disarm(&mut self) {
        if self.mark.is_forked_child() {
            return;
        }
        if let Some(Ends { rest, .. }) = self.ends.as_mut() {
            self.waiting.events.disarm(&mut rest.own);
        }
    }

    /// A call that is over and was not taken.
    pub(crate) fn answered(&mut self) -> Option<CallNumber> {
        if self.mark.is_forked_child() {
            return None;
        }
        for last in [false, true] {
            let inbox = &mut self.ends.as_mut()?.inbox;
            let _none_wanted = inbox.look(None);
            let found = inbox.first_done();
            if found.is_some() || last {
                return found;
            }
            self.ask_after_server();
        }
        None
    }

    /// As one of several ends.
    pub(crate) fn arm(&mut self) -> io::Result<bool> {
        if self.mark.is_forked_child() || self.answered().is_some() {
            return Ok(true);
        }
        // Tasks that wait look again when this is over.
        self.disarm();
        self.waiting.board.call();
        // A server that is there now may not be the one that was.
        if self.caller.holder() != self.server {
            self.meet();
        }
        self.arm_for(None)
    }

    pub(crate) fn is_forked_child(&self) -> bool {
        self.mark.is_forked_child()
    }

    pub(crate) fn descriptors<'a>(&'a self, to: &mut Vec<PollFd<'a>>) -> bool {
        let poll = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let Waiting { events, ending, .. } = &self.waiting;
        to.extend(events.fd().filter(|_| events.is_armed()).map(poll));
        to.extend(ending.fd().map(poll));
        // Without a server nothing is in flight.
        ending.fd().is_some() || self.server.is_none()
    }
}

impl<A> super::Inbox<A> {
    fn first_done(&self) -> Option<CallNumber> {
        self.slots.iter().find(|slot| matches!(slot.state, State::Done(_))).map(|slot| slot.id)
    }
}
