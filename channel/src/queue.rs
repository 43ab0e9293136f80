//! The queues that a channel can be made of, behind one face.

mod lossy;
mod sink;
mod source;

use tidewire_mpsc::ordered;
use tidewire_seqlock::log::Log;
use tidewire_shm::bell::{ROSTER_MAX, Roster};
use tidewire_shm::{Liveness, Region, SegmentLeases, Trusted, Untrusted};

use crate::error::{Corrupt, OpenError};
use crate::message::Message;
use crate::options::{Kind, Options, Overflow};

pub(crate) use lossy::{MISSED, PASSED, look as look_at_overwritten};
pub(crate) use sink::{Held, Sink};
pub(crate) use source::{Lent, Source};

/// What the end of a channel is to be opened as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) kind: Kind,
    pub(crate) overflow: Overflow,
    /// Whether whoever opens it promised that peers are to be trusted.
    pub(crate) trusted: bool,
    /// How many senders there can be.
    pub(crate) senders: u32,
}

impl Shape {
    /// What its creator chose, as one who opens it wants it.
    pub(crate) fn of(numbers: &[u64; 8], options: &Options) -> Result<Self, OpenError> {
        let (kind, overflow) = crate::typed::chosen(numbers)?;
        let [senders, ..] = numbers;
        let senders = u32::try_from(*senders).unwrap_or(ROSTER_MAX).clamp(1, ROSTER_MAX - 1);
        Ok(Self { kind, overflow, trusted: options.trusted, senders })
    }
}

/// The same memory, for an end that trusts its peers.
pub(crate) fn trusting(region: Region<Untrusted>) -> Region<Trusted> {
    // SAFETY: only called for options that were made by `Options::trusted`, whose caller promised just that; one handle for
    // each role, since the roles are leased.
    unsafe { region.assume_trusted() }
}

/// What is seldom done, out of the way of what is done often.
#[inline(never)]
pub(crate) fn aside<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// What became of one look at a queue.
#[derive(Debug)]
pub(crate) enum Popped<R> {
    Got(R),
    Empty,
    Corrupt(Corrupt),
    /// The buffer is; the message needs so many bytes.
    TooSmall(usize),
}

/// What became of one attempt to put something into a queue.
#[derive(Debug)]
pub(crate) enum Pushed {
    Done,
    Full,
    Corrupt(Corrupt),
    /// It never fits; so much does.
    TooLong(usize),
}

/// What a receiver does with any queue.
pub(crate) trait Outlet {
    /// Publishes that what was consumed is.
    fn release(&mut self);
    /// Whether a look would find nothing.
    fn is_empty(&self) -> bool;
    /// Whether a look would find something, or that the queue cannot be used any more.
    fn is_ready(&mut self) -> bool;
    /// Looks for senders that came.
    fn rescan(&mut self);
    /// Frees what senders held that are proven dead.
    fn reclaim(&mut self, leases: &SegmentLeases);
    /// A sender that was taken out of use since this was last asked.
    fn take_corrupt(&mut self) -> Option<Corrupt>;
    /// Gives the queue back: the role is free.
    fn close(&mut self);
    /// Forgets the queue without giving anything back.
    fn abandon(&mut self);
    /// What to tell the senders and the next receiver, where the queue itself does not: asked for before each wait, and after
    /// a look that was cut short for it.
    fn progress(&mut self) -> Option<Progress> {
        None
    }
    /// Looks for senders that came, where the roster tells: whenever it says that something changed.
    fn survey(&mut self, _roster: &Roster<Untrusted>, _leases: &SegmentLeases) {}
}

/// How far the receiver of an overwritten queue came: counters of its entry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Messages received or missed since the last time.
    pub(crate) passed: u64,
    /// Messages missed since the last time.
    pub(crate) missed: u64,
    /// Whether a look found nothing only to have this told.
    pub(crate) cut_short: bool,
}

/// What a sender does with any queue.
pub(crate) trait Inlet {
    /// The receiver was looked after: what never is full says so now and then only to have that done.
    fn looked(&mut self) {}
    /// Which of the senders it is.
    fn lane(&self) -> u32;
    /// Whether nothing is left of what anybody sent. The roster says what its receiver told.
    fn is_all_received(&self, roster: &Roster<Untrusted>) -> bool;
    /// Forgets the queue without giving anything back.
    fn abandon(&mut self);
}

pub(crate) fn lanes_options(options: &Options) -> tidewire_mpsc::Options {
    tidewire_mpsc::Options::new().lanes(options.most_senders()).liveness::<SegmentLeases>()
}

pub(crate) fn ring_options() -> tidewire_ring::Options {
    tidewire_ring::Options::new().liveness::<SegmentLeases>()
}

pub(crate) fn cannot(error: impl std::fmt::Display) -> OpenError {
    OpenError::Options { reason: error.to_string() }
}

/// Messages for each sender: what was chosen, or as many as make about a mebibyte.
pub(crate) fn capacity<T>(options: &Options) -> Result<usize, OpenError> {
    const ABOUT_BYTES: usize = 1 << 20;
    let lanes = options.most_senders().max(1) as usize;
    let fits = ABOUT_BYTES / lanes / size_of::<T>().max(1);
    let wanted = options.capacity.unwrap_or(fits.clamp(8, 1024));
    wanted
        .max(1)
        .checked_next_power_of_two()
        .ok_or_else(|| cannot(format!("expected fewer than {wanted} messages")))
}

/// Of a queue whose sender overwrites the oldest.
fn log_options<T: Message>(options: &Options) -> Result<tidewire_seqlock::log::Options, OpenError> {
    let capacity = capacity::<T>(options)?.max(4);
    let capacity = u32::try_from(capacity)
        .map_err(|_| cannot(format!("expected at most {} messages, found {capacity}", u32::MAX)))?;
    Ok(tidewire_seqlock::log::Options::new(capacity).liveness::<SegmentLeases>())
}

pub(crate) fn bytes_of<T: Message>(options: &Options) -> Result<usize, OpenError> {
    if options.is_lossy() && options.kind == Kind::Lanes {
        return lossy::bytes_of::<T>(options);
    }
    if options.is_lossy() {
        return Log::<T, Untrusted>::bytes(&log_options::<T>(options)?).map_err(cannot);
    }
    let capacity = capacity::<T>(options)?;
    match options.kind {
        Kind::Lanes => tidewire_mpsc::fixed::Queue::<T, Untrusted>::bytes(capacity, &lanes_options(options))
            .map_err(cannot),
        Kind::Ordered => {
            ordered::fixed::Queue::<T, Untrusted>::bytes(capacity, &lanes_options(options)).map_err(cannot)
        }
        Kind::Single => {
            tidewire_ring::fixed::Ring::<T, Untrusted>::bytes(capacity, &ring_options()).map_err(cannot)
        }
    }
}

pub(crate) fn create<T: Message>(region: Region<Untrusted>, options: &Options) -> Result<(), OpenError> {
    if options.is_lossy() && options.kind == Kind::Lanes {
        return lossy::create::<T>(region, options);
    }
    if options.is_lossy() {
        return Log::<T, _>::create(region, &log_options::<T>(options)?).map(drop).map_err(cannot);
    }
    let capacity = capacity::<T>(options)?;
    match options.kind {
        Kind::Lanes => tidewire_mpsc::fixed::Queue::<T, _>::create(region, capacity, &lanes_options(options))
            .map(drop)
            .map_err(cannot),
        Kind::Ordered => ordered::fixed::Queue::<T, _>::create(region, capacity, &lanes_options(options))
            .map(drop)
            .map_err(cannot),
        Kind::Single => tidewire_ring::fixed::Ring::<T, _>::create(region, capacity, &ring_options())
            .map(drop)
            .map_err(cannot),
    }
}

/// Whether this process could take a role now.
pub(crate) fn is_vacant(leases: &SegmentLeases, role: tidewire_shm::RoleId) -> bool {
    leases.tenancy(role) == tidewire_shm::Tenancy::Vacant
}
