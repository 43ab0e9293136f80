//! A queue whose sender overwrites the oldest messages: a log, and what its one reader tells of how far it came.
//!
//! The log keeps no account of its readers. The receiver counts in its entry of the roster what it passed (received or
//! missed): before each wait, every eighth of the capacity, and when it leaves. One that follows goes on there, so that the
//! account of what was missed has no gap; what a dead one had received since it last said so comes again. (One that is killed
//! within the few instructions between its own entry and its first word leaves a zero there: then all that is kept comes again,
//! and all that is not is missed. One that is killed between its two words has what it missed since counted twice.)
//!
//! Several senders have a log each: how they are told apart is written in [`lanes`].

mod fair;
mod lanes;
mod look;

use tidewire_seqlock::log::{Log, NextError, Reader, Start, Writer};
use tidewire_shm::bell::Roster;
use tidewire_shm::{LeaseError, Liveness as _, Region, RoleId, SegmentLease, SegmentLeases, Untrusted};

use super::{Popped, Progress, Pushed, cannot};
use crate::error::{Corrupt, OpenError};
use crate::message::Message;
use crate::options::Kind;
use crate::receive::RECEIVER;

pub(crate) use fair::FairSource;
use lanes::{Lanes, Place, Taken};
pub(super) use lanes::{bytes_of, create};
pub(crate) use look::look;

/// Counters of the receiver's entry.
pub(crate) const PASSED: usize = 2;
pub(crate) const MISSED: usize = 3;

/// Looks that find the next messages overwritten, before one is given up: each goes on half of a lap behind the sender.
const LOOKS: u32 = 16;

fn open<T: Message>(kind: Kind, region: Region<Untrusted>) -> Result<Log<T, Untrusted>, OpenError> {
    if kind != Kind::Single {
        return Err(cannot(format!("expected one sender where the oldest are overwritten, found {kind:?}")));
    }
    attached(Log::open(region, 0), "receiver")
}

fn attached<R>(result: Result<R, tidewire_seqlock::AttachError>, role: &'static str) -> Result<R, OpenError> {
    use tidewire_seqlock::AttachError;
    result.map_err(|error| match error {
        AttachError::Incompatible(error) => error.into(),
        AttachError::RoleTaken(owner) => OpenError::Taken { role, pid: Some(owner.id) },
        AttachError::Lease(LeaseError::Held { .. }) => OpenError::Taken { role, pid: None },
        AttachError::Lease(error) => OpenError::Lease(error),
        error => cannot(error),
    })
}

/// Passes what a former receiver passed.
fn skip<T: Message>(reader: &mut Reader<T, Untrusted>, passed: u64) {
    let mut seen = Box::new(T::zeroed());
    while reader.position() <= passed {
        match reader.next_into(&mut seen) {
            // Overtaken, it goes on further up.
            Ok(Some(_)) | Err(NextError::Overtaken { .. }) => {}
            // Found again by the first look.
            Ok(None) | Err(NextError::Corrupt(_)) => return,
        }
    }
}

/// A reader behind what a former receiver passed, and how much that was.
fn follow<T: Message>(
    log: &Log<T, Untrusted>,
    passed: u64,
) -> Result<(Reader<T, Untrusted>, u64), OpenError> {
    let mut reader = log.reader(Start::Next).map_err(cannot)?;
    // Not more than there is, whoever wrote that.
    let passed = passed.min(reader.position() - 1);
    if reader.position() - 1 > passed {
        reader = log.reader(Start::Oldest).map_err(cannot)?;
        skip(&mut reader, passed);
    }
    Ok((reader, passed))
}

fn receiver_lease(leases: &SegmentLeases) -> Result<SegmentLease, OpenError> {
    leases.acquire(RoleId::CONSUMER).map_err(|error| match error {
        LeaseError::Held { .. } => OpenError::Taken { role: "receiver", pid: None },
        error => OpenError::Lease(error),
    })
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct LossySource<T: Message> {
    reader: Reader<T, Untrusted>,
    /// Missed before the reader began: what was overwritten while nobody received.
    before: u64,
    /// Missed by the reader before it came to where this end begins.
    early: u64,
    /// What was told: the version passed last, and what was missed up to there.
    told: (u64, u64),
    /// Messages that the reader had handed out then.
    handed: u64,
    /// How many may be handed out before that is told.
    period: u64,
    cut_short: bool,
    _role: SegmentLease,
}

impl<T: Message> LossySource<T> {
    pub(super) fn open(
        kind: Kind,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
        passed: impl FnOnce() -> u64,
    ) -> Result<Self, OpenError> {
        let log = open::<T>(kind, region)?;
        let role = receiver_lease(leases)?;
        // Behind the role: a former receiver has told all that it will.
        let (reader, passed) = follow(&log, passed())?;
        let before = (reader.position() - 1).saturating_sub(passed);
        let (period, early) = ((log.capacity() / 8).max(1), reader.missed());
        let mut source =
            Self { reader, before, early, told: (0, 0), handed: 0, period, cut_short: false, _role: role };
        source.handed = source.handed_out();
        Ok(source)
    }

    fn handed_out(&self) -> u64 {
        self.reader.position().saturating_sub(self.reader.missed())
    }

    /// Whether it is time to tell. What was missed does not count: nobody can tell while a wait looks again and again.
    fn is_due(&mut self) -> bool {
        let due = self.handed_out().saturating_sub(self.handed) >= self.period;
        self.cut_short |= due;
        due
    }

    fn next<R>(
        &mut self,
        mut take: impl FnMut(&mut Reader<T, Untrusted>) -> Result<Option<R>, NextError>,
    ) -> Popped<R> {
        if self.is_due() {
            return Popped::Empty;
        }
        for _ in 0..LOOKS {
            match take(&mut self.reader) {
                Ok(Some(got)) => return Popped::Got(got),
                Ok(None) => return Popped::Empty,
                Err(NextError::Overtaken { .. }) => {}
                Err(NextError::Corrupt(corrupt)) => return Popped::Corrupt(Corrupt::Log(corrupt)),
            }
        }
        Popped::Empty
    }

    pub(super) fn pop(&mut self) -> Popped<T> {
        self.next(|reader| Ok(reader.next()?.map(|(value, _)| value)))
    }

    pub(super) fn pop_to(&mut self, to: &mut T) -> Popped<()> {
        self.next(|reader| Ok(reader.next_into(to)?.map(|_| ())))
    }

    pub(super) fn pop_into(&mut self, to: &mut [T]) -> Popped<usize> {
        self.next(|reader| Ok(Some(reader.next_batch(to)?).filter(|count| *count > 0)))
    }

    /// As a pop: whoever finds something takes it.
    pub(super) fn look(&mut self) -> Popped<()> {
        if self.is_due() {
            return Popped::Empty;
        }
        match self.reader.lag() {
            Ok(0) => Popped::Empty,
            Ok(_) => Popped::Got(()),
            Err(corrupt) => Popped::Corrupt(Corrupt::Log(corrupt)),
        }
    }

    pub(super) fn lag(&mut self) -> usize {
        self.reader.lag().map_or(0, |lag| usize::try_from(lag).unwrap_or(usize::MAX))
    }

    /// Whether the next call has something to say.
    pub(super) fn is_ready(&mut self) -> bool {
        self.reader.lag() != Ok(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reader.clone().lag() == Ok(0)
    }

    pub(super) fn missed(&self) -> u64 {
        self.before + self.reader.missed() - self.early
    }

    pub(super) fn progress(&mut self) -> Option<Progress> {
        let now = (self.reader.position() - 1, self.missed());
        let (passed, missed) = self.told;
        let cut_short = std::mem::take(&mut self.cut_short);
        self.handed = self.handed_out();
        if now == self.told && !cut_short {
            return None;
        }
        self.told = now;
        Some(Progress { passed: now.0 - passed, missed: now.1 - missed, cut_short })
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct LossySink<T: Message> {
    writer: Writer<T, Untrusted, SegmentLease>,
    capacity: usize,
    /// Messages until the receiver is looked after: nothing is ever full, so nothing else would tell of its death.
    left: usize,
    /// Where it is one of several.
    place: Option<Box<Place<T>>>,
}

impl<T: Message> LossySink<T> {
    pub(super) fn open(
        kind: Kind,
        region: Region<Untrusted>,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        let log = open::<T>(kind, region)?;
        let writer = attached(log.writer(leases), "peer")?;
        Ok(Self::on(&log, writer, None))
    }

    /// Of one of several senders.
    pub(super) fn open_lane(
        region: Region<Untrusted>,
        lanes: u32,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        let lanes = Lanes::open(region, lanes)?;
        let Taken { lane, begin, log, writer } = lanes.take(leases)?;
        Ok(Self::on(&log, writer, Some(Box::new(Place { lanes, lane, begin }))))
    }

    fn on(
        log: &Log<T, Untrusted>,
        writer: Writer<T, Untrusted, SegmentLease>,
        place: Option<Box<Place<T>>>,
    ) -> Self {
        let capacity = usize::try_from(log.capacity()).unwrap_or(usize::MAX);
        Self { writer, capacity, left: capacity, place }
    }

    pub(super) fn push(&mut self, value: &T) -> Pushed {
        if self.left == 0 {
            return Pushed::Full;
        }
        self.left -= 1;
        let _version = self.writer.write(value);
        Pushed::Done
    }

    pub(super) fn push_slice(&mut self, values: &[T]) -> Pushed {
        if self.left == 0 {
            return Pushed::Full;
        }
        self.left = self.left.saturating_sub(values.len());
        let _version = self.writer.write_slice(values);
        Pushed::Done
    }

    pub(super) fn look(&self) -> Pushed {
        if self.left == 0 { Pushed::Full } else { Pushed::Done }
    }

    pub(super) fn looked(&mut self) {
        self.left = self.capacity;
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn lane(&self) -> u32 {
        self.place.as_ref().map_or(0, |place| place.lane)
    }

    /// What the receiver has not passed yet, as it said.
    pub(super) fn len(&self, roster: &Roster<Untrusted>) -> usize {
        let passed = match &self.place {
            None => roster.counter(RECEIVER, PASSED),
            Some(place) => place.lanes.account(place.lane).passed,
        };
        self.bounded(self.writer.version().saturating_sub(passed))
    }

    fn bounded(&self, behind: u64) -> usize {
        usize::try_from(behind).map_or(self.capacity, |behind| behind.min(self.capacity))
    }

    /// The same of all senders that there can be.
    pub(super) fn queued(&self, roster: &Roster<Untrusted>) -> Vec<(u32, usize)> {
        let Some(place) = &self.place else { return vec![(0, self.len(roster))] };
        let depth = |lane| if is_new(roster, lane) { 0 } else { self.bounded(place.lanes.depth(lane)) };
        (0..place.lanes.len()).map(|lane| (lane, depth(lane))).collect()
    }

    /// Whether the receiver said that it passed all that anybody sent.
    pub(super) fn is_all_received(&self, roster: &Roster<Untrusted>) -> bool {
        let Some(place) = &self.place else { return self.len(roster) == 0 };
        (0..place.lanes.len()).all(|lane| is_new(roster, lane) || place.lanes.depth(lane) == 0)
    }

    /// What receivers missed, as they said: of this sender, or, where there is but one, of all that there were.
    pub(super) fn missed(&self, roster: &Roster<Untrusted>) -> u64 {
        let Some(place) = &self.place else { return roster.counter(RECEIVER, MISSED) };
        let account = place.lanes.account(place.lane);
        if account.begin == place.begin { account.missed_of_sender } else { 0 }
    }
}

/// Whether nobody ever had a lane: then it is not looked at.
fn is_new(roster: &Roster<Untrusted>, lane: u32) -> bool {
    roster.entry(lane + 1).generation == 0
}
