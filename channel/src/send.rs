//! A sending end of any queue: whether somebody is there to receive, and how to wait for room.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tidewire_shm::bell::{Armed, Caller, PeerState, Roster, System, Woken};
use tidewire_shm::{DeathWatch, ForkMark, NoticeAddress, RoleId, Segment, SegmentLeases, Untrusted};

use crate::error::{OpenError, SendError, TrySendError};
use crate::event::{Ending, Events, UNRUNG, UNWATCHED};
use crate::ground::Ground;
use crate::options::{Overflow, Wait};
use crate::queue::{Inlet, Pushed, is_vacant};
use crate::receive::RECEIVER;
use crate::rest::{Rest, Until};

/// Attempts of one poll.
const LOOKS: u32 = 16;

/// Counters of a sender's entry.
pub(crate) const DROPPED: usize = 0;
pub(crate) const WAITED: usize = 1;

#[derive(Debug)]
pub(crate) struct SendEnd<I: Inlet> {
    rest: Option<Rest>,
    events: Events,
    ending: Ending,
    // The lane is given back after the entry.
    pub(crate) inlet: I,
    caller: Caller<System, Untrusted>,
    mark: ForkMark,
    /// The receiver that is known, if one is there.
    receiver: Option<u64>,
    watch: Option<DeathWatch>,
    /// The receiver's notice, as it said.
    notice: [u64; 2],
    pub(crate) overflow: Overflow,
    roster: Roster<Untrusted>,
    leases: Arc<SegmentLeases>,
    pub(crate) segment: Segment,
}

/// What is left to do when a place is filled.
#[derive(Debug)]
pub(crate) struct Publication<'e> {
    caller: &'e mut Caller<System, Untrusted>,
    mark: &'e ForkMark,
}

impl Publication<'_> {
    /// Whether this process is the one that opened the end.
    pub(crate) fn is_ours(&self) -> bool {
        !self.mark.is_forked_child()
    }

    /// Publishes, and wakes the receiver if it sleeps.
    pub(crate) fn publish(self, commit: impl FnOnce() -> Pushed) -> Result<(), SendError<()>> {
        if self.mark.is_forked_child() {
            return Err(SendError::ForkedChild(()));
        }
        match commit() {
            Pushed::Done => {
                let _rung = self.caller.ring();
                Ok(())
            }
            Pushed::Full => Err(SendError::Full(())),
            Pushed::Corrupt(corrupt) => Err(SendError::Corrupt((), corrupt)),
            Pushed::TooLong(most) => Err(SendError::TooLong((), most)),
        }
    }
}

/// What became of an offer.
#[derive(Debug)]
pub(crate) enum Offered {
    Sent,
    Full,
    Failed(TrySendError<()>),
}

impl<I: Inlet> SendEnd<I> {
    pub(crate) fn new(inlet: I, ground: Ground, wait: Wait, overflow: Overflow) -> Result<Self, OpenError> {
        // First: in membarrier mode this registers the process, before its first message.
        let caller = ground.roster.caller(RECEIVER, System)?;
        let own = ground.attend(inlet.lane() + 1, &wait.sleep_options())?;
        let Ground { segment, leases, roster, mark, .. } = ground;
        let rest = Some(Rest { own, wait });
        let mut end = Self {
            rest,
            events: Events::default(),
            ending: Ending::Unasked,
            notice: [0; 2],
            inlet,
            caller,
            mark,
            receiver: None,
            watch: None,
            overflow,
            roster,
            leases,
            segment,
        };
        end.meet();
        // A receiver that sleeps has one more to look after.
        let _rung = end.caller.ring();
        Ok(end)
    }

    /// Whether the receiver is there who was there before: then a push may come before any other question. In line with
    /// the caller's push, as the closures below are not, this is the hot path; whatever it does not settle,
    /// [`offer`](Self::offer) does.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        !self.mark.is_forked_child() && self.receiver.is_some_and(|known| self.caller.is_held_by(known))
    }

    /// Wakes the receiver if it sleeps: after every push.
    #[inline(always)]
    pub(crate) fn ring(&mut self) {
        let _rung = self.caller.ring();
    }

    /// One attempt.
    pub(crate) fn offer(&mut self, push: &mut impl FnMut(&mut I) -> Pushed) -> Offered {
        let offered = self.attempt(push);
        if matches!(offered, Offered::Sent) {
            self.ring();
        }
        offered
    }

    /// One attempt of something that the receiver need not know of.
    fn attempt(&mut self, push: &mut impl FnMut(&mut I) -> Pushed) -> Offered {
        if self.mark.is_forked_child() {
            return Offered::Failed(TrySendError::ForkedChild(()));
        }
        if (self.receiver.is_none() || self.caller.holder() != self.receiver) && !self.meet() {
            return Offered::Failed(TrySendError::Disconnected(()));
        }
        match push(&mut self.inlet) {
            Pushed::Done => Offered::Sent,
            Pushed::Full if self.is_alone() => Offered::Failed(TrySendError::Disconnected(())),
            Pushed::Full if self.overflow == Overflow::DropOldest => {
                self.inlet.looked();
                match push(&mut self.inlet) {
                    Pushed::Done => Offered::Sent,
                    _ => Offered::Full,
                }
            }
            Pushed::Full => Offered::Full,
            Pushed::Corrupt(corrupt) => Offered::Failed(TrySendError::Corrupt((), corrupt)),
            Pushed::TooLong(most) => Offered::Failed(TrySendError::TooLong((), most)),
        }
    }

    /// Gets to know the receiver that is there now, if there is one.
    #[cold]
    fn meet(&mut self) -> bool {
        let said = self.roster.entry(RECEIVER);
        if !said.present {
            (self.receiver, self.watch) = (None, None);
            return false;
        }
        if self.receiver != Some(said.generation) {
            self.receiver = Some(said.generation);
            self.notice = said.notice;
            self.ending = Ending::Unasked;
            self.watch = DeathWatch::find(NoticeAddress::from_words(said.notice)).ok();
        }
        !self.is_alone()
    }

    /// Whether the receiver is gone, as far as its notice says, or its lease if there is none.
    #[cold]
    fn is_alone(&self) -> bool {
        if self.watch.as_ref().is_some_and(DeathWatch::is_dead_hint) {
            return true;
        }
        match self.watch.as_ref().map(DeathWatch::state) {
            Some(PeerState::Dead) => true,
            // One that is about to end may still receive: its lease is the proof.
            Some(PeerState::Alive | PeerState::Unknown) => false,
            _ => is_vacant(&self.leases, RoleId::CONSUMER),
        }
    }

    /// Whether somebody is there to receive.
    pub(crate) fn is_connected(&mut self) -> bool {
        !self.mark.is_forked_child() && self.meet()
    }

    /// Waits for room; gives up when nobody is there to make any.
    pub(crate) fn send_until(
        &mut self,
        until: Until,
        push: &mut impl FnMut(&mut I) -> Pushed,
    ) -> Result<(), TrySendError<()>> {
        self.attempt_until(until, push)?;
        self.ring();
        Ok(())
    }

    /// As [`send_until`](Self::send_until), for something that the receiver need not know of.
    pub(crate) fn attempt_until(
        &mut self,
        until: Until,
        push: &mut impl FnMut(&mut I) -> Pushed,
    ) -> Result<(), TrySendError<()>> {
        loop {
            match self.attempt(push) {
                Offered::Sent => return Ok(()),
                Offered::Failed(error) => return Err(error),
                Offered::Full if until.is_over() => return Err(TrySendError::Full(())),
                Offered::Full => {}
            }
            if let Some(pushed) = self.sleep(until, push) {
                match pushed {
                    Pushed::Done => return Ok(()),
                    Pushed::Corrupt(corrupt) => return Err(TrySendError::Corrupt((), corrupt)),
                    Pushed::TooLong(most) => return Err(TrySendError::TooLong((), most)),
                    Pushed::Full => {}
                }
            }
        }
    }

    /// Sleeps until there is room, which it uses, or something else to do.
    fn sleep(&mut self, until: Until, push: &mut impl FnMut(&mut I) -> Pushed) -> Option<Pushed> {
        let Self { rest, inlet, caller, receiver, watch, .. } = self;
        let rest = rest.as_mut()?;
        rest.own.count(WAITED, 1);
        let mut done = None;
        let mut ready = || {
            match push(inlet) {
                Pushed::Full => {}
                other => done = Some(other),
            }
            done.is_some() || caller.holder() != *receiver
        };
        let watches: Vec<&DeathWatch> =
            watch.iter().filter(|watch| watch.state() != PeerState::Detached).collect();
        let all_watched = !watches.is_empty();
        let woken = rest.wait(&mut ready, until, &watches, all_watched);
        if done.is_none() && woken == Woken::TimedOut {
            self.ask_the_lease();
        }
        done
    }

    /// A receiver may have spoilt its own notice and died: then only its lease tells, from now on.
    fn ask_the_lease(&mut self) {
        if self.watch.is_some() && is_vacant(&self.leases, RoleId::CONSUMER) {
            self.watch = None;
        }
    }

    /// Sends as the channel wants it.
    pub(crate) fn send(&mut self, mut push: impl FnMut(&mut I) -> Pushed) -> Result<(), SendError<()>> {
        match self.offer(&mut push) {
            Offered::Sent => Ok(()),
            Offered::Failed(error) => Err(error.into()),
            Offered::Full => self.send_full(&mut push),
        }
    }

    #[cold]
    fn send_full(&mut self, push: &mut impl FnMut(&mut I) -> Pushed) -> Result<(), SendError<()>> {
        match self.overflow {
            Overflow::Block => Ok(self.send_until(Until::NEVER, push)?),
            Overflow::Reject => Err(SendError::Full(())),
            Overflow::DropNewest | Overflow::DropOldest => {
                self.drop_newest(1);
                Ok(())
            }
        }
    }

    /// One look for a place.
    pub(crate) fn find_room(
        &mut self,
        mut look: impl FnMut(&mut I) -> Pushed,
    ) -> Result<(), TrySendError<()>> {
        match self.attempt(&mut look) {
            Offered::Sent => Ok(()),
            Offered::Full => Err(TrySendError::Full(())),
            Offered::Failed(error) => Err(error),
        }
    }

    /// Finds a place, as the channel wants it where there is none.
    pub(crate) fn await_room(&mut self, mut look: impl FnMut(&mut I) -> Pushed) -> Result<(), SendError<()>> {
        match (self.find_room(&mut look), self.overflow) {
            (Err(TrySendError::Full(())), Overflow::Block) => {
                Ok(self.attempt_until(Until::NEVER, &mut look)?)
            }
            (Err(TrySendError::Full(())), Overflow::DropNewest | Overflow::DropOldest) => {
                self.drop_newest(1);
                Err(SendError::Full(()))
            }
            (found, _) => Ok(found?),
        }
    }

    /// The queue, and what to do once something is published in it.
    pub(crate) fn split(&mut self) -> (&mut I, Publication<'_>) {
        (&mut self.inlet, Publication { caller: &mut self.caller, mark: &self.mark })
    }

    /// Counts messages that were dropped.
    pub(crate) fn drop_newest(&mut self, messages: u64) {
        if let Some(rest) = self.rest.as_mut() {
            rest.own.count(DROPPED, messages);
        }
    }

    /// Whether nothing is left of what anybody sent; for an end that is about to leave.
    pub(crate) fn is_all_received(&self) -> bool {
        !self.mark.is_forked_child() && self.inlet.is_all_received(&self.roster)
    }

    /// What the others say of themselves.
    pub(crate) fn roster(&self) -> &Roster<Untrusted> {
        &self.roster
    }

    pub(crate) fn counter(&self, counter: usize) -> u64 {
        self.rest.as_ref().map_or(0, |rest| rest.own.counter(counter))
    }

    pub(crate) fn set_wait(&mut self, wait: Wait) {
        if let Some(rest) = self.rest.as_mut() {
            rest.wait = wait;
            rest.own.set_patience(&wait.sleep_options());
        }
    }
}

/// Waiting for descriptors.
impl<I: Inlet> SendEnd<I> {
    /// One attempt of a future; if there is no room, its task is woken when there is.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        push: &mut impl FnMut(&mut I) -> Pushed,
    ) -> Poll<Result<(), TrySendError<()>>> {
        self.disarm();
        // Bounded: a peer may change its mind again and again.
        for _ in 0..LOOKS {
            match self.offer(push) {
                Offered::Sent => return Poll::Ready(Ok(())),
                Offered::Failed(error) => return Poll::Ready(Err(error)),
                Offered::Full => {}
            }
            match self.arm(push) {
                Ok(Some(Pushed::Done)) => {
                    let _rung = self.caller.ring();
                    return Poll::Ready(Ok(()));
                }
                Ok(Some(_)) => {}
                Ok(None) => match self.register(cx) {
                    Ok(()) => return Poll::Pending,
                    Err(_) => return self.look_again(cx),
                },
                Err(_) => return self.look_again(cx),
            }
        }
        self.look_again(cx)
    }

    /// Without descriptors: soon.
    fn look_again<R>(&mut self, cx: &Context<'_>) -> Poll<R> {
        self.disarm();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Announces a wait, and tries once more; what came of that, if it was not in vain.
    fn arm(&mut self, push: &mut impl FnMut(&mut I) -> Pushed) -> io::Result<Option<Pushed>> {
        self.ask_the_lease();
        self.ending.find(self.watch.as_ref(), self.notice);
        let Self { rest, events, inlet, caller, receiver, .. } = self;
        let Some(rest) = rest.as_mut() else { return Ok(Some(Pushed::Full)) };
        let mut done = None;
        let armed = events.arm(&mut rest.own, || {
            match push(inlet) {
                Pushed::Full => {}
                other => done = Some(other),
            }
            done.is_some() || caller.holder() != *receiver
        })?;
        Ok(match armed {
            Armed::Armed => None,
            Armed::Ready => Some(done.unwrap_or(Pushed::Full)),
        })
    }

    pub(crate) fn disarm(&mut self) {
        if self.mark.is_forked_child() {
            return;
        }
        if let Some(rest) = self.rest.as_mut() {
            self.events.disarm(&mut rest.own);
        }
    }

    fn register(&mut self, cx: &Context<'_>) -> io::Result<()> {
        self.events.register(cx.waker())?;
        let wait = if self.ending.register(cx.waker()) { UNRUNG } else { UNWATCHED };
        self.events.wake_at(Instant::now() + wait, cx.waker())
    }
}

impl<I: Inlet> Drop for SendEnd<I> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            // All of it is the parent's.
            self.inlet.abandon();
            std::mem::forget((self.rest.take(), std::mem::take(&mut self.events)));
            std::mem::forget(std::mem::take(&mut self.ending));
            return;
        }
        // Everything was published before; the receiver wakes to see who left.
        self.rest = None;
        let _rung = self.caller.ring();
    }
}
