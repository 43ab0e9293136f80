//! The publishing end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidewire_seqlock::log::{Log, LogFull, Writer};
use tidewire_shm::bell::System;
use tidewire_shm::{ForkMark, Liveness, Presence, RoleId, Segment, SegmentLease, SegmentLeases, Untrusted};

use super::attached;
use crate::company::{Company, OWNER};
use crate::error::{OpenError, SendError, SendTimeoutError};
use crate::ground::Ground;
use crate::message::Message;
use crate::options::{Options, Overflow};
use crate::queue::is_vacant;
use crate::rest::{Rest, Until};
use crate::send::{DROPPED, WAITED};
use crate::typed::{Leaving, overflow_from, single_queue};

/// The publishing end. `Send`, not `Sync`, not `Clone`.
///
/// # Guarantees
/// - A message that was published is there for every subscriber until it is overwritten; killed after that, this process
///   takes nothing of it away. Killed before, nobody sees any of it.
/// - With [`Overflow::DropOldest`], the default, [`publish`](Self::publish) never waits, whatever subscribers do, and each is told
///   exactly how many it missed. With [`Overflow::Block`] nobody misses anything: it waits for the slowest, and for one that
///   is dead not longer than a millisecond or so.
/// - No system call unless a subscriber sleeps.
pub struct Publisher<T: Message> {
    writer: Option<Writer<T, Untrusted, SegmentLease>>,
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

impl<T: Message> Publisher<T> {
    pub(super) fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let overflow = overflow_from(ground.numbers.get(1).copied())?;
        let leaving = Leaving::of(&ground, options);
        let log = attached(Log::<T, _>::open(single_queue(&mut ground)?, 0), "publisher")?;
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
            leaving,
        })
    }

    /// Publishes a message; says which it is: they are counted from 1.
    ///
    /// # Errors
    /// [`SendError::Full`] if the slowest subscriber has no room and the publication was made to
    /// [reject](Overflow::Reject), [`SendError::ForkedChild`].
    #[inline]
    pub fn publish(&mut self, value: T) -> Result<u64, SendError<T>> {
        let Some(writer) = self.writer.as_mut().filter(|_| !self.mark.is_forked_child()) else {
            return Err(SendError::ForkedChild(value));
        };
        let written = match self.overflow {
            Overflow::DropOldest => Ok(writer.write(&value)),
            _ => writer.try_write(&value),
        };
        match written {
            Ok(version) => {
                self.tell();
                Ok(version)
            }
            Err(full) => self.publish_full(value, full),
        }
    }

    /// After something was published. One load if nobody sleeps.
    #[inline]
    fn tell(&mut self) {
        if self.company.is_awaited() {
            self.company.call_those_who_wait();
        }
    }

    #[cold]
    fn publish_full(&mut self, value: T, full: LogFull) -> Result<u64, SendError<T>> {
        match self.overflow {
            Overflow::Reject => {
                // One that is dead holds up nobody.
                self.bury();
                self.open_gate(full);
                match self.writer.as_mut().map(|writer| writer.try_write(&value)) {
                    Some(Ok(version)) => {
                        self.tell();
                        Ok(version)
                    }
                    _ => Err(SendError::Full(value)),
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
            _ => self.publish_until(value, Until::NEVER, full).map_err(|error| match error {
                SendTimeoutError::ForkedChild(value) => SendError::ForkedChild(value),
                error => SendError::Full(error.into_inner()),
            }),
        }
    }

    /// Publishes a message, and waits for the slowest subscriber, but not longer than `time`.
    ///
    /// # Errors
    /// [`SendTimeoutError::Timeout`], [`SendTimeoutError::ForkedChild`].
    pub fn publish_timeout(&mut self, value: T, time: Duration) -> Result<u64, SendTimeoutError<T>> {
        let Some(writer) = self.writer.as_mut().filter(|_| !self.mark.is_forked_child()) else {
            return Err(SendTimeoutError::ForkedChild(value));
        };
        let written = match self.overflow {
            Overflow::DropOldest => Ok(writer.write(&value)),
            _ => writer.try_write(&value),
        };
        match written {
            Ok(version) => {
                self.tell();
                Ok(version)
            }
            Err(full) => self.publish_until(value, Until::after(time), full),
        }
    }

    /// Waits for room, and for nobody who is gone.
    fn publish_until(&mut self, value: T, until: Until, full: LogFull) -> Result<u64, SendTimeoutError<T>> {
        if let Some(rest) = self.rest.as_mut() {
            rest.own.count(WAITED, 1);
        }
        let mut full = full;
        loop {
            self.bury();
            self.open_gate(full);
            let Self { writer, rest, company, .. } = self;
            let (Some(writer), Some(rest)) = (writer.as_mut(), rest.as_mut()) else {
                return Err(SendTimeoutError::ForkedChild(value));
            };
            let mut version = None;
            let mut ready = || {
                match writer.try_write(&value) {
                    Ok(written) => version = Some(written),
                    Err(now) => full = now,
                }
                version.is_some() || company.roster.changes() != company.changes()
            };
            let (watches, _) = company.watches();
            // Not longer than a slice at a time: who holds this up may have died before it said that it is there.
            let _woken = rest.wait(&mut ready, until, &watches, false);
            if let Some(version) = version {
                self.tell();
                return Ok(version);
            }
            if until.is_over() {
                return Err(SendTimeoutError::Timeout(value));
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
    pub fn wait_subscribers(&mut self, count: usize, time: Duration) -> bool {
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

    /// How many subscribers are there, but for those that cannot write.
    pub fn subscribers(&mut self) -> usize {
        if !self.mark.is_forked_child() {
            self.bury();
        }
        self.company.len()
    }

    /// How many messages were published, ever; the number of the last one.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::version)
    }

    /// Messages that were dropped since there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.rest.as_ref().map_or(0, |rest| rest.own.counter(DROPPED))
    }

    /// The memory of the publication, to hand it to other processes.
    #[must_use]
    pub fn memory(&self) -> &Segment {
        &self.segment
    }
}

impl<T: Message> Drop for Publisher<T> {
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

impl<T: Message> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("memory", &self.segment).finish_non_exhaustive()
    }
}
