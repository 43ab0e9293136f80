//! What a publishing end does, whatever it publishes.

use std::sync::Arc;
use std::time::Duration;

use tidewire_seqlock::log::bytes::Bytes;
use tidewire_seqlock::log::{LogFull, TryWriteError, Writer};
use tidewire_shm::bell::System;
use tidewire_shm::{ForkMark, Liveness, Presence, RoleId, Segment, SegmentLease, SegmentLeases, Untrusted};

use super::{Open, attached};
use crate::company::{Company, OWNER};
use crate::error::{OpenError, TrySendError};
use crate::ground::Ground;
use crate::options::{Options, Overflow};
use crate::queue::is_vacant;
use crate::rest::{Rest, Until};
use crate::send::{DROPPED, WAITED};
use crate::typed::{Leaving, overflow_from, single_queue};

type LogWriter<T> = Writer<T, Untrusted, SegmentLease>;

/// One attempt to write a message where nobody is overtaken.
type Attempt<'a, T> = &'a mut dyn FnMut(&mut LogWriter<T>) -> Result<u64, TryWriteError>;

/// A publishing end but for how a message is written into the log.
pub(crate) struct PublishEnd<T> {
    writer: Option<LogWriter<T>>,
    rest: Option<Rest>,
    mark: ForkMark,
    company: Company,
    overflow: Overflow,
    leases: Arc<SegmentLeases>,
    owner: Option<SegmentLease>,
    _presence: Option<Presence>,
    segment: Segment,
    leaving: Leaving,
}

impl<T> PublishEnd<T> {
    pub(crate) fn on(ground: Ground, options: &Options, open: Open<T>) -> Result<Self, OpenError> {
        let adopted = ground.adopted;
        let (mut end, leaving) =
            Leaving::with(ground, options, adopted, |ground| Self::staying(ground, options, open))?;
        end.leaving = leaving;
        Ok(end)
    }

    /// One that takes no name away.
    fn staying(mut ground: Ground, options: &Options, open: Open<T>) -> Result<Self, OpenError> {
        let overflow = overflow_from(ground.numbers.get(1).copied())?;
        let log = attached(open(single_queue(&mut ground)?), "publisher")?;
        let owner = ground.leases.acquire(RoleId::CONSUMER).map_err(|error| match error {
            tidewire_shm::LeaseError::Held { .. } => OpenError::Taken { role: "publisher", pid: None },
            error => OpenError::Lease(error),
        })?;
        let writer = attached(log.writer(&*ground.leases), "publisher")?;
        let notice = ground.prepare_to_attend();
        let Ground { segment, leases, presence, roster, mark, .. } = ground;
        let mut company = Company::new(roster, Arc::clone(&leases), 1)?;
        let own = company.roster.attend(OWNER, notice, System, &options.wait.sleep_options())?;
        company.look_around();
        Ok(Self {
            writer: Some(writer),
            rest: Some(Rest { own, wait: options.wait }),
            mark,
            company,
            overflow,
            leases,
            owner: Some(owner),
            _presence: presence,
            segment,
            leaving: Leaving::nothing(options),
        })
    }

    /// What writes, and whether it overwrites what somebody has not read; `None` in a fork child.
    #[inline(always)]
    pub(crate) fn writer(&mut self) -> Option<(&mut LogWriter<T>, bool)> {
        if self.mark.is_forked_child() {
            return None;
        }
        match &mut self.writer {
            Some(writer) => Some((writer, self.overflow == Overflow::DropOldest)),
            None => None,
        }
    }

    /// After something was published. One load if nobody sleeps.
    #[inline]
    pub(crate) fn tell(&mut self) {
        if self.company.is_awaited() {
            self.company.call_those_who_wait();
        }
    }

    /// After an attempt that found no room: what was chosen for that.
    #[cold]
    pub(crate) fn publish_full(
        &mut self,
        attempt: Attempt<'_, T>,
        full: LogFull,
    ) -> Result<u64, TrySendError<()>> {
        match self.overflow {
            Overflow::Reject => {
                // One that is dead holds up nobody.
                self.bury();
                self.open_gate(full);
                match self.writer.as_mut().map(attempt) {
                    Some(Ok(version)) => {
                        self.tell();
                        Ok(version)
                    }
                    Some(Err(TryWriteError::TooLong(long))) => Err(TrySendError::TooLong((), long.max)),
                    _ => Err(TrySendError::Full(())),
                }
            }
            Overflow::DropNewest => {
                if let Some(rest) = self.rest.as_mut() {
                    rest.own.count(DROPPED, 1);
                }
                self.bury();
                self.open_gate(full);
                Ok(self.published())
            }
            _ => self.publish_until(attempt, Until::NEVER, full),
        }
    }

    /// Waits for room, and for nobody who is gone; [`TrySendError::Full`] if the time was over first.
    pub(crate) fn publish_until(
        &mut self,
        attempt: Attempt<'_, T>,
        until: Until,
        full: LogFull,
    ) -> Result<u64, TrySendError<()>> {
        if let Some(rest) = self.rest.as_mut() {
            rest.own.count(WAITED, 1);
        }
        let mut full = full;
        loop {
            self.bury();
            self.open_gate(full);
            let Self { writer, rest, company, .. } = self;
            let (Some(writer), Some(rest)) = (writer.as_mut(), rest.as_mut()) else {
                return Err(TrySendError::ForkedChild(()));
            };
            let mut done = None;
            let mut ready = || {
                match attempt(writer) {
                    Ok(version) => done = Some(Ok(version)),
                    Err(TryWriteError::Full(now)) => full = now,
                    Err(TryWriteError::TooLong(long)) => {
                        done = Some(Err(TrySendError::TooLong((), long.max)));
                    }
                }
                done.is_some() || company.roster.changes() != company.changes()
            };
            let (watches, _) = company.watches();
            // Not longer than a slice at a time: who holds this up may have died before it said that it is there.
            let _woken = rest.wait(&mut ready, until, &watches, false);
            if let Some(done) = done {
                if done.is_ok() {
                    self.tell();
                }
                return done;
            }
            if until.is_over() {
                return Err(TrySendError::Full(()));
            }
        }
    }

    /// Opens the gate that holds this up, if whoever closed it is proven dead, whether it ever said that it is there or not.
    fn open_gate(&mut self, full: LogFull) {
        let vacant = RoleId::producer(full.gate + 1).is_some_and(|role| is_vacant(&self.leases, role));
        if vacant && let Some(writer) = self.writer.as_mut() {
            writer.reclaim_gates(&*self.leases);
        }
    }

    /// Frees what subscribers held that are proven dead.
    fn bury(&mut self) {
        self.company.ask_after_unwatched();
        if self.company.look_around()
            && let Some(writer) = self.writer.as_mut()
        {
            writer.reclaim_gates(&*self.leases);
        }
    }

    /// Waits until that many subscribers are there that may write; whether they were in time.
    pub(crate) fn wait_subscribers(&mut self, count: usize, time: Duration) -> bool {
        if self.mark.is_forked_child() {
            return false;
        }
        let until = Until::after(time);
        loop {
            self.bury();
            if self.company.len() >= count {
                return true;
            }
            if until.is_over() {
                return false;
            }
            let Self { rest, company, .. } = self;
            let Some(rest) = rest.as_mut() else { return false };
            let (watches, all_watched) = company.watches();
            let mut news = || company.roster.changes() != company.changes();
            let _woken = rest.wait(&mut news, until, &watches, all_watched);
        }
    }

    pub(crate) fn subscribers(&mut self) -> usize {
        if !self.mark.is_forked_child() {
            self.bury();
        }
        self.company.len()
    }

    pub(crate) fn published(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::version)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.rest.as_ref().map_or(0, |rest| rest.own.counter(DROPPED))
    }

    pub(crate) fn memory(&self) -> &Segment {
        &self.segment
    }
}

impl PublishEnd<Bytes> {
    pub(crate) fn max_message(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::max)
    }
}

impl<T> Drop for PublishEnd<T> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            std::mem::forget((self.writer.take(), self.rest.take(), self.owner.take()));
            self.company.abandon();
            self.leaving.keep = true;
            return;
        }
        self.writer = None;
        // Says that nobody publishes any more, as long as the role is ours; then it is free; then whoever waits is woken to
        // see it, and may want it.
        self.rest = None;
        self.owner = None;
        self.company.call_all();
    }
}
