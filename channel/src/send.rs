//! A sending end of any queue: whether somebody is there to receive, and how to wait for room.

use std::sync::Arc;

use tidewire_shm::bell::{Caller, Roster, System};
use tidewire_shm::{DeathWatch, ForkMark, NoticeAddress, RoleId, Segment, SegmentLeases, Untrusted};

use crate::error::{OpenError, SendError, TrySendError};
use crate::ground::Ground;
use crate::options::{Overflow, Wait};
use crate::queue::{Inlet, Pushed, is_vacant};
use crate::receive::RECEIVER;
use crate::rest::{Rest, Until};

/// Counters of a sender's entry.
pub(crate) const DROPPED: usize = 0;
pub(crate) const WAITED: usize = 1;

#[derive(Debug)]
pub(crate) struct SendEnd<I: Inlet> {
    rest: Option<Rest>,
    // The lane is given back after the entry.
    pub(crate) inlet: I,
    caller: Caller<System, Untrusted>,
    mark: ForkMark,
    /// The receiver that is known, if one is there.
    receiver: Option<u64>,
    watch: Option<DeathWatch>,
    pub(crate) overflow: Overflow,
    roster: Roster<Untrusted>,
    leases: Arc<SegmentLeases>,
    pub(crate) segment: Segment,
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

    /// One attempt.
    #[inline]
    pub(crate) fn offer(&mut self, push: &mut impl FnMut(&mut I) -> Pushed) -> Offered {
        if self.mark.is_forked_child() {
            return Offered::Failed(TrySendError::ForkedChild(()));
        }
        if (self.receiver.is_none() || self.caller.holder() != self.receiver) && !self.meet() {
            return Offered::Failed(TrySendError::Disconnected(()));
        }
        match push(&mut self.inlet) {
            Pushed::Done => {
                let _rung = self.caller.ring();
                Offered::Sent
            }
            Pushed::Full if self.is_alone() => Offered::Failed(TrySendError::Disconnected(())),
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
            self.watch = DeathWatch::find(NoticeAddress::from_words(said.notice)).ok();
        }
        !self.is_alone()
    }

    /// Whether the receiver is gone, as far as its notice says, or its lease if there is none.
    #[cold]
    fn is_alone(&self) -> bool {
        match &self.watch {
            Some(watch) => watch.state().is_gone(),
            None => is_vacant(&self.leases, RoleId::CONSUMER),
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
        loop {
            match self.offer(push) {
                Offered::Sent => return Ok(()),
                Offered::Failed(error) => return Err(error),
                Offered::Full if until.is_over() => return Err(TrySendError::Full(())),
                Offered::Full => {}
            }
            if let Some(pushed) = self.sleep(until, push) {
                match pushed {
                    Pushed::Done => {
                        let _rung = self.caller.ring();
                        return Ok(());
                    }
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
        let watches: Vec<&DeathWatch> = watch.iter().collect();
        let all_watched = !watches.is_empty();
        let _woken = rest.wait(&mut ready, until, &watches, all_watched);
        done
    }

    /// Sends as the channel wants it.
    #[inline]
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
            Overflow::DropNewest => {
                self.drop_newest(1);
                Ok(())
            }
        }
    }

    /// Counts messages that were dropped.
    pub(crate) fn drop_newest(&mut self, messages: u64) {
        if let Some(rest) = self.rest.as_mut() {
            rest.own.count(DROPPED, messages);
        }
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

impl<I: Inlet> Drop for SendEnd<I> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            // All of it is the parent's.
            self.inlet.abandon();
            std::mem::forget(self.rest.take());
            return;
        }
        // Everything was published before; the receiver wakes to see who left.
        self.rest = None;
        let _rung = self.caller.ring();
    }
}
