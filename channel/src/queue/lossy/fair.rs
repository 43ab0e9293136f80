//! The receiving end of several senders that overwrite their oldest messages: a reader for each lane, in turn.
//!
//! A lane is looked at only once its entry of the roster says that somebody had it, and is passed over from when its sender is
//! proven gone and all of it is received until another one comes: what a look costs does not grow with senders that there
//! could be.

use tidewire_seqlock::log::{Log, NextError, Reader};
use tidewire_seqlock::{Owner, Reader as CellReader, Writer as CellWriter};
use tidewire_shm::bell::Roster;
use tidewire_shm::{Liveness as _, Region, RoleId, SegmentLease, SegmentLeases, Tenancy, Untrusted};

use super::super::{Popped, Progress};
use super::lanes::{Account, Lanes, Words};
use super::{LOOKS, follow, is_new, receiver_lease};
use crate::error::{Corrupt, OpenError};
use crate::message::Message;

/// Messages that one lane may give before the others are looked at.
const BUDGET: u64 = 64;

/// Whether a lane is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    InTurn,
    /// Nobody was there and nothing was left; this is who the log said had it.
    Resting(Option<Owner>),
    /// It lies.
    Out,
}

/// A lane that somebody had.
#[derive(Debug)]
struct Seat<T: Message> {
    log: Log<T, Untrusted>,
    reader: Reader<T, Untrusted>,
    begin: CellReader<u64, Untrusted>,
    book: CellWriter<Words, Untrusted, ()>,
    told: Account,
    now: Account,
    /// Missed by this end.
    missed: u64,
    /// How many may be passed before that is told.
    period: u64,
    standing: Standing,
}

impl<T: Message> Seat<T> {
    fn open(lanes: &Lanes<T>, lane: u32, leases: &SegmentLeases) -> Result<Self, OpenError> {
        let cannot = super::super::cannot;
        let log = lanes.log(lane).map_err(cannot)?;
        let begin = lanes.begin(lane).map_err(cannot)?;
        let (told, book) = lanes.keep_account(lane, leases).map_err(cannot)?;
        let (reader, passed) = follow(&log, told.passed)?;
        let period = (log.capacity() / 8).max(1);
        let standing = if told.is_out { Standing::Out } else { Standing::InTurn };
        // Not more than there is, whoever wrote that.
        let told = Account { passed, ..told };
        let mut seat = Self { log, reader, begin, book, told, now: told, missed: 0, period, standing };
        let before = (seat.reader.position() - 1).saturating_sub(passed);
        seat.miss(before);
        Ok(seat)
    }

    /// Counts those in front of the next one as missed.
    fn miss(&mut self, missed: u64) {
        if missed > 0 {
            let begin = self.begin.read().map_or(self.now.begin, |(begin, _)| begin);
            self.now.miss(missed, self.reader.position(), begin);
            self.missed = self.missed.saturating_add(missed);
        }
    }

    /// What this and former ends missed of the sender that is there.
    fn missed_of_sender(&self) -> u64 {
        let begin = self.begin.clone().read().map_or(0, |(begin, _)| begin);
        if begin == self.now.begin { self.now.missed_of_sender } else { 0 }
    }

    fn is_due(&self) -> bool {
        self.reader.position() > self.told.passed + 1 + self.period
    }

    /// Tells how far this end came, and says what is new of it.
    fn tell(&mut self) -> Progress {
        self.now.passed = self.reader.position() - 1;
        let passed = self.now.passed.saturating_sub(self.told.passed);
        let missed = self.now.missed.saturating_sub(self.told.missed);
        if self.now != self.told {
            self.book.write(&self.now.words());
            self.told = self.now;
        }
        Progress { passed, missed, cut_short: false }
    }

    fn take<R>(
        &mut self,
        take: &mut impl FnMut(&mut Reader<T, Untrusted>) -> Result<Option<R>, NextError>,
    ) -> Result<Option<R>, tidewire_seqlock::Corrupt> {
        for _ in 0..LOOKS {
            match take(&mut self.reader) {
                Ok(got) => return Ok(got),
                Err(NextError::Overtaken { missed }) => self.miss(missed),
                Err(NextError::Corrupt(corrupt)) => return Err(corrupt),
            }
        }
        Ok(None)
    }

    /// Whether nobody is proven to be there who could send more, and nothing is left: then as whom the log names.
    fn is_left(&mut self, lane: u32, leases: &SegmentLeases) -> Option<Option<Owner>> {
        let owner = self.log.writer_owner();
        let role = RoleId::producer(lane)?;
        if owner.is_some() && leases.tenancy(role) != Tenancy::Vacant {
            return None;
        }
        // Behind the question: what it sent before it went is seen. Who comes meanwhile is in the news, with another name.
        (self.reader.lag() == Ok(0)).then_some(owner)
    }

    /// Whether somebody came since it was left.
    fn is_back(&mut self) -> bool {
        match self.standing {
            Standing::Resting(owner) => self.log.writer_owner() != owner || self.reader.lag() != Ok(0),
            Standing::InTurn | Standing::Out => false,
        }
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct FairSource<T: Message> {
    /// By lane; none if nobody was seen there.
    seats: Vec<Option<Box<Seat<T>>>>,
    /// The lanes that are looked at.
    rota: Vec<usize>,
    /// The current lane, an index of `rota`, and what it may still give in this turn.
    at: usize,
    left: u64,
    /// Whether there may be something to tell.
    moved: bool,
    /// What is told to the lanes and not yet counted for all.
    counted: Progress,
    spoilt: Vec<Corrupt>,
    lanes: Lanes<T>,
    // Behind the books.
    _role: SegmentLease,
}

impl<T: Message> FairSource<T> {
    pub(in crate::queue) fn open(
        region: Region<Untrusted>,
        lanes: u32,
        leases: &SegmentLeases,
    ) -> Result<Self, OpenError> {
        let lanes = Lanes::open(region, lanes)?;
        let role = receiver_lease(leases)?;
        Ok(Self {
            seats: (0..lanes.len()).map(|_| None).collect(),
            rota: Vec::new(),
            at: 0,
            left: 0,
            moved: false,
            counted: Progress::default(),
            spoilt: Vec::new(),
            lanes,
            _role: role,
        })
    }

    fn seat(&mut self, at: usize) -> Option<&mut Seat<T>> {
        let lane = *self.rota.get(at)?;
        self.seats.get_mut(lane)?.as_deref_mut()
    }

    fn open_seats(&self) -> impl Iterator<Item = (u32, &Seat<T>)> {
        (0..).zip(&self.seats).filter_map(|(lane, seat)| Some((lane, seat.as_deref()?)))
    }

    /// Looks for senders that came.
    pub(in crate::queue) fn survey(&mut self, roster: &Roster<Untrusted>, leases: &SegmentLeases) {
        for (lane, slot) in (0_u32..).zip(&mut self.seats) {
            let came = match slot {
                None if is_new(roster, lane) => false,
                None => {
                    // One that cannot be opened is asked again when somebody comes or goes.
                    *slot = Seat::open(&self.lanes, lane, leases).ok().map(Box::new);
                    self.moved |= slot.is_some();
                    slot.as_ref().is_some_and(|seat| seat.standing != Standing::Out)
                }
                Some(seat) => seat.is_back(),
            };
            if let (true, Some(seat)) = (came, slot) {
                seat.standing = Standing::InTurn;
                self.rota.push(lane as usize);
            }
        }
    }

    /// Passes over lanes from now on whose senders are gone and of which nothing is left.
    pub(in crate::queue) fn reclaim(&mut self, leases: &SegmentLeases) {
        let mut at = 0;
        while let Some(lane) = self.rota.get(at).copied() {
            let number = u32::try_from(lane).unwrap_or(u32::MAX);
            match self.seat(at).and_then(|seat| seat.is_left(number, leases)) {
                Some(owner) => self.retire(at, Standing::Resting(owner)),
                None => at += 1,
            }
        }
    }

    /// Takes a lane out of turn.
    fn retire(&mut self, at: usize, standing: Standing) {
        if let Some(seat) = self.seat(at) {
            seat.standing = standing;
            seat.now.is_out = standing == Standing::Out;
            let told = seat.tell();
            self.count(told);
        }
        if at < self.rota.len() {
            self.rota.remove(at);
        }
        if self.at >= at {
            // A turn begins with the one behind this.
            (self.at, self.left) = (self.at.saturating_sub(1), 0);
        }
    }

    fn shut(&mut self, at: usize, corrupt: tidewire_seqlock::Corrupt) {
        self.retire(at, Standing::Out);
        self.spoilt.push(Corrupt::Log(corrupt));
    }

    fn count(&mut self, told: Progress) {
        self.counted.passed = self.counted.passed.saturating_add(told.passed);
        self.counted.missed = self.counted.missed.saturating_add(told.missed);
        self.moved = true;
    }

    /// From one lane; one that lies is out of turn behind it.
    fn take_at<R>(
        &mut self,
        at: usize,
        take: &mut impl FnMut(&mut Reader<T, Untrusted>) -> Result<Option<R>, NextError>,
    ) -> Option<R> {
        let seat = self.seat(at)?;
        // Before, not after: what this call hands out is not received if the process dies in it.
        let told = if seat.is_due() { seat.tell() } else { Progress::default() };
        let taken = seat.take(take);
        self.count(told);
        match taken {
            Ok(got) => got,
            Err(corrupt) => {
                self.shut(at, corrupt);
                None
            }
        }
    }

    /// From the current lane, as long as its turn lasts, or from the next one that has something.
    fn next<R>(
        &mut self,
        weight: impl Fn(&R) -> u64,
        mut take: impl FnMut(&mut Reader<T, Untrusted>) -> Result<Option<R>, NextError>,
    ) -> Popped<R> {
        if self.left > 0
            && let Some(got) = self.take_at(self.at, &mut take)
        {
            self.left = self.left.saturating_sub(weight(&got));
            return Popped::Got(got);
        }
        self.left = 0;
        let mut next = self.at + 1;
        for _ in 0..self.rota.len() {
            if next >= self.rota.len() {
                next = 0;
            }
            let lanes = self.rota.len();
            if self.has_more(next)
                && let Some(got) = self.take_at(next, &mut take)
            {
                (self.at, self.left) = (next, BUDGET.saturating_sub(weight(&got)));
                return Popped::Got(got);
            }
            // Behind one that was taken out stands the next.
            next += usize::from(self.rota.len() == lanes);
        }
        Popped::Empty
    }

    /// Whether a lane has something, one load; one that lies is out of turn behind it.
    fn has_more(&mut self, at: usize) -> bool {
        match self.seat(at).map(|seat| seat.reader.lag()) {
            None | Some(Ok(0)) => false,
            Some(Ok(_)) => true,
            Some(Err(corrupt)) => {
                self.shut(at, corrupt);
                false
            }
        }
    }

    pub(in crate::queue) fn pop(&mut self) -> Popped<T> {
        self.next(|_| 1, |reader| Ok(reader.next()?.map(|(value, _)| value)))
    }

    pub(in crate::queue) fn pop_to(&mut self, to: &mut T) -> Popped<()> {
        self.next(|()| 1, |reader| Ok(reader.next_into(to)?.map(|_| ())))
    }

    pub(in crate::queue) fn pop_into(&mut self, to: &mut [T]) -> Popped<usize> {
        let weight = |count: &usize| *count as u64;
        self.next(weight, |reader| Ok(Some(reader.next_batch(to)?).filter(|count| *count > 0)))
    }

    pub(in crate::queue) fn look(&mut self) -> Popped<()> {
        let mut at = 0;
        while at < self.rota.len() {
            let lanes = self.rota.len();
            if self.has_more(at) {
                return Popped::Got(());
            }
            at += usize::from(self.rota.len() == lanes);
        }
        Popped::Empty
    }

    pub(in crate::queue) fn is_ready(&mut self) -> bool {
        !matches!(self.look(), Popped::Empty) || !self.spoilt.is_empty()
    }

    pub(in crate::queue) fn is_empty(&self) -> bool {
        (0_u32..).zip(&self.seats).all(|(lane, seat)| match seat {
            // What came since the last look is left to the next receiver, with all that is missed of it.
            None => self.lanes.depth(lane) == 0,
            Some(seat) => seat.standing == Standing::Out || seat.reader.clone().lag() == Ok(0),
        })
    }

    /// What waits in each lane.
    pub(in crate::queue) fn queued(&self) -> Vec<(u32, usize)> {
        let lag = |seat: &Seat<T>| seat.reader.clone().lag().unwrap_or(0);
        self.open_seats()
            .map(|(lane, seat)| (lane, usize::try_from(lag(seat)).unwrap_or(usize::MAX)))
            .collect()
    }

    pub(in crate::queue) fn missed(&self) -> u64 {
        self.open_seats().fold(0, |all, (_, seat)| all.saturating_add(seat.missed))
    }

    pub(in crate::queue) fn missed_of(&self, lane: u32) -> u64 {
        let seat = self.seats.get(lane as usize).and_then(Option::as_deref);
        seat.map_or(0, Seat::missed_of_sender)
    }

    pub(in crate::queue) fn take_corrupt(&mut self) -> Option<Corrupt> {
        self.spoilt.pop()
    }

    pub(in crate::queue) fn progress(&mut self) -> Option<Progress> {
        if !std::mem::take(&mut self.moved) {
            return None;
        }
        for at in 0..self.rota.len() {
            if let Some(seat) = self.seat(at) {
                let told = seat.tell();
                self.counted.passed = self.counted.passed.saturating_add(told.passed);
                self.counted.missed = self.counted.missed.saturating_add(told.missed);
            }
        }
        Some(std::mem::take(&mut self.counted))
    }
}

#[cfg(test)]
mod tests {
    use crate::queue::Source;
    use crate::{Options, Overflow, Receiver};

    fn in_turn(rx: &Receiver<u64>) -> usize {
        match &rx.end.outlet {
            Source::Fair(queue) => queue.rota.len(),
            _ => usize::MAX,
        }
    }

    #[test]
    fn only_lanes_with_somebody_or_something_are_looked_at() {
        let options = Options::new().overflow(Overflow::DropOldest).senders(200).capacity(4);
        let (tx, mut rx) = options.channel::<u64>().expect("a channel");
        assert_eq!(rx.try_recv(), Err(crate::TryRecvError::Empty));
        assert_eq!(in_turn(&rx), 1, "of 200");
        let mut others: Vec<_> = (0..9).map(|_| tx.try_clone().expect("another one")).collect();
        others.iter_mut().for_each(|tx| tx.send(1).expect("somebody receives"));
        others.truncate(1);
        assert_eq!(rx.senders().len(), 2);
        assert_eq!(in_turn(&rx), 10, "their messages are there");
        assert_eq!(rx.drain().sum::<u64>(), 9);
        // With the next change they are seen to be empty.
        others.push(tx.try_clone().expect("another one"));
        assert_eq!(rx.senders().len(), 3);
        assert_eq!(in_turn(&rx), 3);
        let mut back: Vec<_> = (0..9).map(|_| tx.try_clone().expect("another one")).collect();
        back.iter_mut().for_each(|tx| tx.send(1).expect("somebody receives"));
        drop(back);
        assert_eq!(rx.drain().sum::<u64>(), 9);
        assert_eq!(rx.missed(), 0);
    }
}
