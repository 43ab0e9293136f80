//! Several senders that overwrite their oldest messages: a log for each, and what is told of it.
//!
//! No word here is this file's own: what lies there are the logs and the tables of cells of [`tidewire_seqlock`], with their
//! protocols, and each word has one writer.
//!
//! # Memory layout
//! ```text
//! begins    a table of cells, one for each lane: the version that its sender began with; whoever has the lane writes it
//! accounts  a table of cells, one for each lane: five words (`Account`); the receiver writes them
//! lanes     a log for each, a stride apart: what is left of the part, divided by the lanes, in whole lines
//! ```
//! The lease of lane `i` is that of producer `i`: it gives the right to write its log and its begin. That of the receiver gives the
//! right to write all accounts.
//!
//! # Protocol
//! A sender takes the first lane that is free and of which all is received, or else the first that is free; then it writes
//! its begin, and then it sends. What is missed of a version from the begin on is missed of the sender that is there now, since the
//! begin is written before the first message is published. The receiver tells in the account what it passed, received or
//! missed: before each wait, every eighth of the capacity, and when it leaves. All of that changes by one publication.
//!
//! # Crash argument
//! | killed here | the others see | cost |
//! |---|---|---|
//! | sender: with the lane, before its begin is written | a begin of a former sender, and no message of this one | nothing |
//! | sender: behind that | what is published | nothing |
//! | receiver: before it told | an account that is older | what was passed since comes again, or is missed again: counted once |
//! | receiver: behind that | the account | nothing |
//!
//! # Not guaranteed
//! A peer that writes where it should not makes up messages, numbers and the state of lanes. A lane that is found to lie while it is
//! read is out of use for good: the receiver says so in its account, and no sender takes it. One that cannot be opened at all is
//! passed over without a word, and its sender, if it has one, is not told either.

use core::cell::Cell;
use core::marker::PhantomData;

use tidewire_seqlock::log::{Log, Start, Writer};
use tidewire_seqlock::table::Table;
use tidewire_seqlock::{AttachError, Options as CellOptions, Reader as CellReader, Writer as CellWriter};
use tidewire_shm::{
    LINE_BYTES, LeaseError, Liveness, Region, RoleId, SegmentLease, SegmentLeases, Tenancy, Trust, Untrusted,
};

use super::super::{cannot, log_options};
use super::attached;
use crate::error::OpenError;
use crate::message::Message;
use crate::options::Options;

/// What receivers passed of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// The last version that was received or missed.
    pub(super) passed: u64,
    /// How many were missed, of all senders that the lane had.
    pub(super) missed: u64,
    /// The first version of the sender that had the lane when that was told.
    pub(super) begin: u64,
    /// How many of that one's were missed.
    pub(super) missed_of_sender: u64,
    /// Whether the lane is out of use.
    pub(super) is_out: bool,
}

/// As it lies in its cell.
pub(super) type Words = [u64; 5];

impl Account {
    pub(super) fn words(self) -> Words {
        [self.passed, self.missed, self.begin, self.missed_of_sender, self.is_out.into()]
    }

    pub(super) fn from_words([passed, missed, begin, missed_of_sender, is_out]: Words) -> Self {
        Self { passed, missed, begin, missed_of_sender, is_out: is_out != 0 }
    }

    /// Counts what was missed before a version; the sender that is there now began with `begin`.
    pub(super) fn miss(&mut self, missed: u64, before: u64, begin: u64) {
        if begin != self.begin {
            (self.begin, self.missed_of_sender) = (begin, 0);
        }
        self.missed = self.missed.saturating_add(missed);
        let of_sender = missed.min(before.saturating_sub(begin));
        self.missed_of_sender = self.missed_of_sender.saturating_add(of_sender);
    }
}

/// A lease that was taken already, or that stands behind another one, for who asks for it now.
struct Given<'l, G> {
    lease: Cell<Option<G>>,
    leases: &'l SegmentLeases,
}

impl<'l, G> Given<'l, G> {
    fn new(lease: G, leases: &'l SegmentLeases) -> Self {
        Self { lease: Cell::new(Some(lease)), leases }
    }
}

// SAFETY: made in this file only, by whoever holds the lease of the lane for its log and its begin, and that of the receiver for
// accounts; it is given once, kept no longer than that, and proves what that proves. Of another segment it says nothing.
unsafe impl<G: Send + 'static> Liveness for Given<'_, G> {
    type Lease = G;
    const PROVES: bool = <SegmentLeases as Liveness>::PROVES;
    const KIND: u32 = <SegmentLeases as Liveness>::KIND;

    fn acquire(&self, role: RoleId) -> Result<G, LeaseError> {
        self.lease.take().ok_or(LeaseError::Held { role })
    }

    fn tenancy(&self, _role: RoleId) -> Tenancy {
        Tenancy::Unknown
    }

    fn covers<L: Trust>(&self, region: &Region<L>) -> bool {
        self.leases.covers(region)
    }
}

/// The lane of a sender.
#[derive(Debug)]
pub(super) struct Place<T: Message> {
    pub(super) lanes: Lanes<T>,
    pub(super) lane: u32,
    /// The version that its sender began with.
    pub(super) begin: u64,
}

/// A lane that was taken.
pub(super) struct Taken<T: Message> {
    pub(super) lane: u32,
    /// The version that comes first.
    pub(super) begin: u64,
    pub(super) log: Log<T, Untrusted>,
    pub(super) writer: Writer<T, Untrusted, SegmentLease>,
}

/// All lanes of a channel.
pub(super) struct Lanes<T: Message> {
    begins: Table<u64, Untrusted>,
    accounts: Table<Words, Untrusted>,
    logs: Vec<Region<Untrusted>>,
    message: PhantomData<fn(T) -> T>,
}

impl<T: Message> std::fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").field("lanes", &self.logs.len()).finish_non_exhaustive()
    }
}

fn cell_options() -> CellOptions {
    CellOptions::new().slots(4).liveness::<SegmentLeases>()
}

/// Bytes of the two tables.
fn tables(lanes: u32) -> Result<(usize, usize), OpenError> {
    let begins = Table::<u64, Untrusted>::bytes(lanes, &cell_options()).map_err(cannot)?;
    let accounts = Table::<Words, Untrusted>::bytes(lanes, &cell_options()).map_err(cannot)?;
    Ok((begins.next_multiple_of(LINE_BYTES), accounts.next_multiple_of(LINE_BYTES)))
}

/// The tables, and the lanes.
pub(super) type Parts = (Region<Untrusted>, Region<Untrusted>, Vec<Region<Untrusted>>);

pub(super) fn split(region: Region<Untrusted>, lanes: u32) -> Result<Parts, OpenError> {
    let (begins_bytes, accounts_bytes) = tables(lanes)?;
    let (begins, behind) = region.split_at(begins_bytes).map_err(cannot)?;
    let (accounts, mut behind) = behind.split_at(accounts_bytes).map_err(cannot)?;
    let stride = behind.len() / lanes.max(1) as usize / LINE_BYTES * LINE_BYTES;
    let mut logs = Vec::with_capacity(lanes as usize);
    for _ in 0..lanes {
        let (log, rest) = behind.split_at(stride).map_err(cannot)?;
        logs.push(log);
        behind = rest;
    }
    Ok((begins, accounts, logs))
}

/// Bytes of a part with lanes.
pub(in crate::queue) fn bytes_of<T: Message>(options: &Options) -> Result<usize, OpenError> {
    let lanes = options.most_senders();
    let (begins, accounts) = tables(lanes)?;
    let log = Log::<T, Untrusted>::bytes(&log_options::<T>(options)?).map_err(cannot)?;
    let logs = log.checked_next_multiple_of(LINE_BYTES).and_then(|log| log.checked_mul(lanes as usize));
    logs.and_then(|logs| logs.checked_add(begins + accounts))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(|| cannot(format!("expected {lanes} lanes that fit into memory, found larger ones")))
}

pub(in crate::queue) fn create<T: Message>(
    region: Region<Untrusted>,
    options: &Options,
) -> Result<(), OpenError> {
    let lanes = options.most_senders();
    let (begins, accounts, logs) = split(region, lanes)?;
    Table::create(begins, lanes, |_| 0_u64, &cell_options()).map_err(cannot)?;
    Table::create(accounts, lanes, |_| Account::default().words(), &cell_options()).map_err(cannot)?;
    let log_options = log_options::<T>(options)?;
    logs.into_iter().try_for_each(|log| Log::<T, _>::create(log, &log_options).map(drop).map_err(cannot))
}

impl<T: Message> Lanes<T> {
    pub(super) fn open(region: Region<Untrusted>, lanes: u32) -> Result<Self, OpenError> {
        let (begins, accounts, logs) = split(region, lanes)?;
        let begins = attached(Table::<u64, _>::open(begins, 0), "receiver")?;
        let accounts = attached(Table::<Words, _>::open(accounts, 0), "receiver")?;
        Ok(Self { begins, accounts, logs, message: PhantomData })
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.logs.len()).unwrap_or(0)
    }

    pub(super) fn log(&self, lane: u32) -> Result<Log<T, Untrusted>, AttachError> {
        let no_such = AttachError::NoCell { index: lane, cells: self.len() };
        let region = self.logs.get(lane as usize).ok_or(no_such)?;
        // SAFETY: the handles of one log follow its protocol; where peers are not trusted, nothing is lent.
        Log::open(unsafe { region.alias() }, 0)
    }

    /// What was told of a lane; nothing, if that cannot be read.
    pub(super) fn account(&self, lane: u32) -> Account {
        let read = self.accounts.reader(lane).ok().and_then(|mut reader| reader.read().ok());
        read.map_or_else(Account::default, |(words, _)| Account::from_words(words))
    }

    /// What is told of a lane, and where more of it will be; for whoever holds the lease of the receiver.
    pub(super) fn keep_account(
        &self,
        lane: u32,
        leases: &SegmentLeases,
    ) -> Result<(Account, CellWriter<Words, Untrusted, ()>), AttachError> {
        let writer = self.accounts.writer(lane, &Given::new((), leases))?;
        Ok((Account::from_words(writer.value()), writer))
    }

    pub(super) fn begin(&self, lane: u32) -> Result<CellReader<u64, Untrusted>, AttachError> {
        self.begins.reader(lane)
    }

    /// What is sent in a lane and not told to be passed.
    pub(super) fn depth(&self, lane: u32) -> u64 {
        let account = self.account(lane);
        let latest = || Some(self.log(lane).ok()?.reader(Start::Next).ok()?.position() - 1);
        if account.is_out { 0 } else { latest().unwrap_or(0).saturating_sub(account.passed) }
    }

    /// Takes a lane that is free. What somebody left in one is overwritten only if there is no other.
    pub(super) fn take(&self, leases: &SegmentLeases) -> Result<Taken<T>, OpenError> {
        // Once more: who only looks whether a lane is empty has it for a moment.
        for choosy in [true, false, false] {
            for lane in 0..self.len() {
                let Some(role) = RoleId::producer(lane) else { continue };
                let lease = match leases.acquire(role) {
                    Ok(lease) => lease,
                    Err(LeaseError::Held { .. }) => continue,
                    Err(error) => return Err(OpenError::Lease(error)),
                };
                if self.account(lane).is_out || choosy && self.depth(lane) > 0 {
                    continue;
                }
                // One that somebody spoilt is nobody's.
                if let Ok(taken) = self.begin_in(lane, lease, leases) {
                    return Ok(taken);
                }
            }
        }
        Err(OpenError::Exhausted { most: self.len() })
    }

    fn begin_in(
        &self,
        lane: u32,
        lease: SegmentLease,
        leases: &SegmentLeases,
    ) -> Result<Taken<T>, AttachError> {
        let log = self.log(lane)?;
        let writer = log.writer(&Given::new(lease, leases))?;
        let begin = writer.version() + 1;
        self.begins.writer(lane, &Given::new((), leases))?.write(&begin);
        Ok(Taken { lane, begin, log, writer })
    }
}

#[cfg(test)]
mod tests {
    use tidewire_shm::Composite;
    use tidewire_shm::sync::Ordering;

    use super::*;
    use crate::{Corrupt, Overflow, TryRecvError};

    /// Where the version of its latest message lies in a log.
    const LATEST: usize = 512;

    #[test]
    fn what_is_missed_of_a_sender_begins_with_it() {
        let mut account = Account::default();
        account.miss(10, 11, 1);
        assert_eq!((account.missed, account.missed_of_sender), (10, 10));
        // Versions 21 to 40 of two senders.
        account.miss(20, 41, 31);
        assert_eq!((account.missed, account.begin, account.missed_of_sender), (30, 31, 10));
        account.miss(5, 50, 31);
        assert_eq!((account.missed, account.missed_of_sender), (35, 15));
        account.miss(1, 60, 60);
        assert_eq!((account.missed, account.missed_of_sender), (36, 0));
        assert_eq!(Account::from_words(account.words()), account);
    }

    #[test]
    fn a_lane_that_lies_is_told_once_and_out_of_use_for_good_and_the_others_go_on() {
        let options = Options::new().overflow(Overflow::DropOldest).senders(3).capacity(16);
        let memory = options.memory::<u64>().expect("memory");
        let segment = || {
            let fd = memory.try_clone_fd().expect("a descriptor");
            tidewire_shm::Segment::from_fd(fd).expect("the same memory")
        };
        let mut rx = options.receiver_on::<u64>(segment()).expect("a receiver");
        let mut senders: Vec<_> =
            (0..2).map(|_| options.sender_on::<u64>(segment()).expect("a sender")).collect();
        let (_, mut parts) = Composite::open(memory.region(), crate::typed::KIND_CHANNEL).expect("a channel");
        let lanes = Lanes::<u64>::open(parts.pop().expect("its last part"), 3).expect("lanes");
        let region = lanes.logs.first().expect("a lane");
        for tx in &mut senders {
            tx.send_slice(&[1, 2, 3]).expect("somebody receives");
        }
        let mut got = vec![rx.recv().expect("a message of either")];
        // SAFETY: a word that is used as one; the region is there.
        unsafe { region.atomic_u64(LATEST) }.store(u64::MAX, Ordering::Relaxed);
        let mut lies = 0;
        loop {
            match rx.try_recv() {
                Ok(value) => got.push(value),
                Err(TryRecvError::Corrupt(Corrupt::Log(_))) => lies += 1,
                Err(error) => {
                    assert_eq!(error, TryRecvError::Empty);
                    break;
                }
            }
        }
        assert_eq!((lies, got.ends_with(&[1, 2, 3])), (1, true), "{got:?}");
        assert!(lanes.account(0).is_out);
        // What lies there may look as it should again.
        senders.remove(0);
        // SAFETY: as above.
        unsafe { region.atomic_u64(LATEST) }.store(3, Ordering::Relaxed);
        let mut next = options.sender_on::<u64>(segment()).expect("another lane");
        assert_eq!(next.number(), 2);
        next.send(4).expect("somebody receives");
        drop(rx);
        let mut rx = options.receiver_on::<u64>(segment()).expect("the next receiver");
        assert_eq!((rx.try_recv(), rx.try_recv()), (Ok(4), Err(TryRecvError::Empty)));
        assert_eq!((rx.missed(), next.depths()), (0, vec![(0, 0), (1, 0), (2, 0)]));
    }
}
