//! What a subscriber does, whatever it subscribes to.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tidewire_seqlock::log::{GatedReader, Reader, Start};
use tidewire_shm::bell::{Armed, Caller, PeerState, Roster, System, Woken};
use tidewire_shm::{
    DeathWatch, ForkMark, NoticeAddress, RoleId, Segment, SegmentLease, SegmentLeases, Untrusted,
};

use super::{Open, attached};
use crate::company::OWNER;
use crate::error::{OpenError, SubscribeError};
use crate::event::{Ending, Events, UNRUNG, UNWATCHED};
use crate::ground::Ground;
use crate::options::{Options, Wait};
use crate::queue::{cannot, is_vacant};
use crate::rest::{Rest, Until};
use crate::typed::{Leaving, single_queue};

/// Attempts of one poll.
const LOOKS: u32 = 16;

/// How a subscriber reads.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, and reading shall not go through a pointer"
)]
pub(crate) enum Source<T> {
    /// With a gate: it is known, can be waited for, and sleeps at a bell.
    Seated(GatedReader<T, Untrusted, SegmentLease>, Rest, Caller<System, Untrusted>),
    /// It cannot write.
    Observing(Reader<T, Untrusted>, Wait),
    /// In a fork child, whose parent has it.
    Abandoned,
}

/// A subscriber but for how a message is read from the log.
pub(crate) struct SubscribeEnd<T> {
    source: Source<T>,
    events: Events,
    mark: ForkMark,
    /// The publisher that is known, if one is there.
    publisher: Option<u64>,
    watch: Option<DeathWatch>,
    notice: [u64; 2],
    ending: Ending,
    /// The head that was last told to the publisher.
    told: u64,
    missed: u64,
    roster: Roster<Untrusted>,
    leases: Arc<SegmentLeases>,
    segment: Segment,
    leaving: Leaving,
}

/// What became of one look.
pub(crate) enum Next<R> {
    Got(R),
    Nothing,
    Missed(u64),
    Corrupt(tidewire_seqlock::Corrupt),
}

impl<T> Source<T> {
    fn lag(&mut self) -> u64 {
        match self {
            Self::Seated(reader, ..) => reader.lag().unwrap_or(1),
            Self::Observing(reader, _) => reader.lag().unwrap_or(1),
            Self::Abandoned => 0,
        }
    }
}

impl<T> SubscribeEnd<T> {
    fn start(options: &Options) -> Start {
        match options.history {
            0 => Start::Next,
            history => Start::History(history),
        }
    }

    pub(crate) fn on(mut ground: Ground, options: &Options, open: Open<T>) -> Result<Self, OpenError> {
        let log = attached(open(single_queue(&mut ground)?), "subscriber")?;
        let reader = attached(log.gated_reader(Self::start(options), &*ground.leases), "subscriber")?;
        let mut caller = ground.roster.caller(OWNER, System)?;
        let own = ground.attend(reader.gate() + 1, &options.wait.sleep_options())?;
        // A publisher that sleeps has one more to wait for.
        let _rung = caller.ring();
        let rest = Rest { own, wait: options.wait };
        Ok(Self::reading(Source::Seated(reader, rest, caller), ground, options))
    }

    /// One that cannot write.
    pub(crate) fn observing(mut ground: Ground, options: &Options, open: Open<T>) -> Result<Self, OpenError> {
        let log = attached(open(single_queue(&mut ground)?), "subscriber")?;
        let reader = log.reader(Self::start(options)).map_err(cannot)?;
        let mut observing = Self::reading(Source::Observing(reader, options.wait), ground, options);
        // Nobody knows that it is there: what it looks at is not its to take away.
        observing.leaving.keep = true;
        Ok(observing)
    }

    fn reading(source: Source<T>, ground: Ground, options: &Options) -> Self {
        let leaving = Leaving::of(&ground, options);
        let Ground { segment, leases, roster, mark, .. } = ground;
        let mut made = Self {
            source,
            events: Events::default(),
            mark,
            publisher: None,
            watch: None,
            notice: [0; 2],
            ending: Ending::Unasked,
            told: 0,
            missed: 0,
            roster,
            leases,
            segment,
            leaving,
        };
        made.meet();
        made
    }

    /// Gets to know the publisher that is there now.
    fn meet(&mut self) {
        let said = self.roster.entry(OWNER);
        let now = said.present.then_some(said.generation);
        if now != self.publisher {
            self.publisher = now;
            self.notice = said.notice;
            self.ending = Ending::Unasked;
            self.watch = now.and_then(|_| DeathWatch::find(NoticeAddress::from_words(said.notice)).ok());
        }
    }

    /// Whether nobody publishes any more.
    #[cold]
    fn is_deserted(&mut self) -> bool {
        self.meet();
        match (&self.publisher, &self.watch) {
            (None, _) => true,
            (Some(_), Some(watch)) if watch.state() != PeerState::Detached => watch.is_dead_hint(),
            // One that is about to end may still publish: its lease is the proof.
            (Some(_), _) => is_vacant(&self.leases, RoleId::CONSUMER),
        }
    }

    /// Takes a message if there is one; those that were overwritten before they could be read are counted.
    #[inline]
    pub(crate) fn try_take<R>(
        &mut self,
        mut take: impl FnMut(&mut Source<T>) -> Next<R>,
    ) -> Result<R, SubscribeError> {
        if self.mark.is_forked_child() {
            return Err(SubscribeError::ForkedChild);
        }
        match self.look(&mut take) {
            Err(SubscribeError::Empty) => self.look_closely(&mut take),
            done => done,
        }
    }

    #[inline]
    pub(super) fn look<R>(
        &mut self,
        take: &mut impl FnMut(&mut Source<T>) -> Next<R>,
    ) -> Result<R, SubscribeError> {
        // Overtaken again and again is what a stopped one is: each time it goes on half of a lap behind.
        for _ in 0..LOOKS {
            match take(&mut self.source) {
                Next::Got(value) => {
                    self.tell();
                    return Ok(value);
                }
                Next::Nothing => return Err(SubscribeError::Empty),
                Next::Missed(missed) => self.missed += missed,
                Next::Corrupt(corrupt) => return Err(SubscribeError::Corrupt(corrupt)),
            }
        }
        Err(SubscribeError::Empty)
    }

    /// Tells the publisher that there is room, where that changed.
    #[inline]
    fn tell(&mut self) {
        if let Source::Seated(reader, _, caller) = &mut self.source
            && reader.head() != self.told
        {
            self.told = reader.head();
            let _rung = caller.ring();
        }
    }

    /// The same, where there was nothing.
    #[cold]
    pub(super) fn look_closely<R>(
        &mut self,
        take: &mut impl FnMut(&mut Source<T>) -> Next<R>,
    ) -> Result<R, SubscribeError> {
        // It may have let go of what it took.
        self.tell();
        if !self.is_deserted() {
            return Err(SubscribeError::Empty);
        }
        // What was published before the publisher went is there by now.
        match self.look(take) {
            Err(SubscribeError::Empty) => Err(SubscribeError::Disconnected),
            done => done,
        }
    }

    /// Waits for a message.
    #[inline]
    pub(crate) fn take_until<R>(
        &mut self,
        until: Until,
        mut take: impl FnMut(&mut Source<T>) -> Next<R>,
    ) -> Result<R, SubscribeError> {
        loop {
            match self.try_take(&mut take) {
                Err(SubscribeError::Empty) if until.is_over() => return Err(SubscribeError::Empty),
                Err(SubscribeError::Empty) => self.sleep(until),
                done => return done,
            }
        }
    }

    /// As [`take_until`](Self::take_until); the clock is not asked if there is a message.
    pub(crate) fn take_in<R>(
        &mut self,
        time: Duration,
        mut take: impl FnMut(&mut Source<T>) -> Next<R>,
    ) -> Result<R, SubscribeError> {
        match self.try_take(&mut take) {
            Err(SubscribeError::Empty) => self.take_until(Until::after(time), take),
            done => done,
        }
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self, until: Until) {
        let Self { source, watch, leases, roster, publisher, .. } = self;
        let watches: Vec<&DeathWatch> =
            watch.iter().filter(|watch| watch.state() != PeerState::Detached).collect();
        match source {
            Source::Seated(reader, rest, caller) => {
                reader.release();
                let _rung = caller.ring();
                let mut ready = || reader.lag() != Ok(0) || caller.holder() != *publisher;
                let woken = rest.wait(&mut ready, until, &watches, !watches.is_empty());
                // A publisher may have spoilt its own notice and died: then only its lease tells.
                if woken == Woken::TimedOut && is_vacant(leases, RoleId::CONSUMER) {
                    *watch = None;
                }
            }
            Source::Observing(reader, wait) => {
                let slice = until.left().map_or(UNWATCHED, |left| left.min(UNWATCHED));
                let deserted = || !roster.entry(OWNER).present;
                match wait {
                    Wait::Spin | Wait::Yield => {
                        let end = Until::after(slice);
                        while reader.lag() == Ok(0) && !deserted() && !end.is_over() {
                            if *wait == Wait::Spin {
                                std::hint::spin_loop();
                            } else {
                                std::thread::yield_now();
                            }
                        }
                    }
                    // Whatever ends it, the next look tells.
                    _ => drop(reader.wait_next(&**leases, slice)),
                }
            }
            Source::Abandoned => {}
        }
    }

    #[inline(always)]
    pub(super) fn is_forked_child(&self) -> bool {
        self.mark.is_forked_child()
    }

    pub(crate) fn source(&self) -> &Source<T> {
        &self.source
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed
    }

    pub(crate) fn lag(&mut self) -> u64 {
        self.source.lag()
    }

    pub(crate) fn is_connected(&mut self) -> bool {
        !self.mark.is_forked_child() && !self.is_deserted()
    }

    pub(crate) fn memory(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn poll_take<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut Source<T>) -> Next<R>,
    ) -> Poll<Result<R, SubscribeError>> {
        self.disarm();
        for _ in 0..LOOKS {
            match self.try_take(&mut take) {
                Err(SubscribeError::Empty) => {}
                done => return Poll::Ready(done),
            }
            match self.arm().and_then(|ready| if ready { Ok(true) } else { self.register(cx) }) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(_) => break,
            }
        }
        // Without descriptors: look again soon.
        self.disarm();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// False: the task is woken.
    fn register(&mut self, cx: &Context<'_>) -> io::Result<bool> {
        let seated = matches!(self.source, Source::Seated(..));
        if seated {
            self.events.register(cx.waker())?;
        }
        if !self.ending.register(cx.waker()) || !seated {
            let wait = if seated { UNWATCHED } else { Duration::from_millis(1) };
            self.events.wake_at(Instant::now() + wait, cx.waker())?;
        } else {
            self.events.wake_at(Instant::now() + UNRUNG, cx.waker())?;
        }
        Ok(false)
    }

    /// These are what a [`Select`](crate::Select) does with an end.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.mark.is_forked_child() || self.source.lag() > 0 || self.is_deserted()
    }

    pub(crate) fn arm(&mut self) -> io::Result<bool> {
        if self.is_ready() {
            return Ok(true);
        }
        self.ending.find(self.watch.as_ref(), self.notice);
        let Self { source, events, publisher, .. } = self;
        let Source::Seated(reader, rest, caller) = source else { return Ok(false) };
        reader.release();
        let _rung = caller.ring();
        let armed = events.arm(&mut rest.own, || reader.lag() != Ok(0) || caller.holder() != *publisher)?;
        Ok(armed == Armed::Ready)
    }

    pub(crate) fn disarm(&mut self) {
        if self.mark.is_forked_child() {
            return;
        }
        if let Source::Seated(_, rest, _) = &mut self.source {
            self.events.disarm(&mut rest.own);
        }
    }

    pub(crate) fn descriptors<'a>(&'a mut self, to: &mut Vec<PollFd<'a>>) -> bool {
        let poll = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        to.extend(self.events.fd().filter(|_| self.events.is_armed()).map(poll));
        to.extend(self.ending.fd().map(poll));
        self.ending.fd().is_some() && matches!(self.source, Source::Seated(..))
    }
}

impl<T> Drop for SubscribeEnd<T> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Abandoned);
        if self.mark.is_forked_child() {
            self.leaving.keep = true;
            std::mem::forget((std::mem::take(&mut self.events), std::mem::take(&mut self.ending)));
            return std::mem::forget(source);
        }
        if let Source::Seated(reader, rest, mut caller) = source {
            // The entry before the gate: whoever takes the gate next has the entry, too.
            drop(rest);
            drop(reader);
            let _rung = caller.ring();
        }
    }
}
