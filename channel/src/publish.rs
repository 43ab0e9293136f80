//! Publish and subscribe: one publisher, and subscribers that come and go, each at its own pace.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use tidewire_seqlock::Wake;
use tidewire_seqlock::log::{
    GatedReader, Log, LogFull, NextError, Options as LogOptions, Reader, Start, Writer,
};
use tidewire_shm::bell::{Armed, Caller, PeerState, Roster, System};
use tidewire_shm::{
    DeathWatch, ForkMark, Liveness, NoticeAddress, Presence, Region, RoleId, Segment, SegmentLease,
    SegmentLeases, Untrusted,
};

use crate::company::{Company, OWNER};
use crate::error::{OpenError, SendError, SendTimeoutError, SubscribeError};
use crate::event::{Ending, Events, UNRUNG, UNWATCHED};
use crate::futures::Subscribing;
use crate::ground::{Ground, Plan};
use crate::message::Message;
use crate::options::{Options, Overflow, Wait};
use crate::queue::{cannot, is_vacant};
use crate::rest::{Rest, Until};
use crate::select::{Endpoint, sealed};
use crate::send::{DROPPED, WAITED};
use crate::typed::{Leaving, overflow_from, overflow_number, single_queue};

/// The kind of a composite that is published to.
pub(crate) const KIND_PUBLISH: u32 = 0x0005_0005;

/// Attempts of one poll.
const LOOKS: u32 = 16;

/// Opens the publishing end of a name: creates it, or goes on where a publisher that is gone stopped. What is published
/// overwrites the oldest, whoever has not read it.
///
/// # Errors
/// [`OpenError::Taken`] if somebody publishes already, [`OpenError::Types`] if subscribers are there that expect something
/// else, [`OpenError::Segment`] if there is no room.
///
/// # Examples
/// ```no_run
/// tidewire::publisher::<u64>("ticks")?.publish(7)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn publisher<T: Message>(name: &str) -> Result<Publisher<T>, OpenError> {
    Options::new().publisher(name)
}

/// Subscribes to what somebody publishes, from now on.
///
/// # Errors
/// [`OpenError::NotFound`] if nobody publishes (see [`Options::subscriber_in`] for waiting until somebody does),
/// [`OpenError::Types`] if it is something else, [`OpenError::Exhausted`] if there are as many subscribers as there can be.
///
/// # Examples
/// ```no_run
/// let mut ticks = tidewire::subscriber::<u64>("ticks")?;
/// println!("{}", ticks.recv()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn subscriber<T: Message>(name: &str) -> Result<Subscriber<T>, OpenError> {
    Options::new().subscriber(name)
}

fn log_options<T: Message>(options: &Options) -> Result<LogOptions, OpenError> {
    const ABOUT_BYTES: usize = 1 << 20;
    let fits = (ABOUT_BYTES / size_of::<T>().max(1)).clamp(16, 1024);
    let wanted = options.capacity.unwrap_or(fits).max(4);
    let capacity = wanted.checked_next_power_of_two().and_then(|capacity| u32::try_from(capacity).ok());
    let capacity = capacity.ok_or_else(|| cannot(format!("expected fewer than {wanted} messages")))?;
    Ok(LogOptions::new(capacity).gates(options.senders).liveness::<SegmentLeases>().wake(Wake::Never))
}

fn plan<T: Message>(options: &Options) -> Result<Plan<'_>, OpenError> {
    if !(1..tidewire_shm::bell::ROSTER_MAX).contains(&options.senders) {
        return Err(cannot(format!("expected 1 to 255 subscribers, found {}", options.senders)));
    }
    let overflow = overflow_number(options.overflow.unwrap_or(Overflow::DropOldest));
    let bytes = Log::<T, Untrusted>::bytes(&log_options::<T>(options)?).map_err(cannot)?;
    Ok(Plan {
        kind: KIND_PUBLISH,
        fingerprint: T::LAYOUT.fingerprint(),
        text: T::LAYOUT.describe(),
        numbers: [u64::from(options.senders), overflow, 0, 0, 0, 0, 0, 0],
        entries: options.senders + 1,
        parts: vec![bytes],
        options,
    })
}

fn fill<T: Message>(options: &Options) -> impl FnMut(Vec<Region<Untrusted>>) -> Result<(), OpenError> + '_ {
    |parts| {
        parts.into_iter().try_for_each(|region| {
            Log::<T, _>::create(region, &log_options::<T>(options)?).map(drop).map_err(cannot)
        })
    }
}

impl Options {
    /// As [`publisher`](crate::publisher()), with these options: [`capacity`](Self::capacity) is how many messages are kept,
    /// [`senders`](Self::senders) how many subscribers there can be that may write, and [`overflow`](Self::overflow) what becomes
    /// of messages that a subscriber is too slow for.
    ///
    /// # Errors
    /// As [`publisher`](crate::publisher()); [`OpenError::Options`] if what was chosen cannot be.
    pub fn publisher<T: Message>(&self, name: &str) -> Result<Publisher<T>, OpenError> {
        Publisher::on(plan::<T>(self)?.join(name, &mut fill::<T>(self))?, self)
    }

    /// As [`subscriber`](crate::subscriber()), with these options, of which [`history`](Self::history), how to wait, and the
    /// directory matter.
    ///
    /// # Errors
    /// As [`subscriber`](crate::subscriber()).
    pub fn subscriber<T: Message>(&self, name: &str) -> Result<Subscriber<T>, OpenError> {
        Subscriber::on(plan::<T>(self)?.find(name)?, self)
    }

    /// As [`subscriber`](Self::subscriber), and waits as long for somebody who publishes.
    ///
    /// # Errors
    /// [`OpenError::TimedOut`] if nobody came, else as [`subscriber`](Self::subscriber).
    pub fn subscriber_in<T: Message>(&self, name: &str, time: Duration) -> Result<Subscriber<T>, OpenError> {
        Subscriber::on(plan::<T>(self)?.find_in(name, time)?, self)
    }

    /// Subscribes with memory that this process cannot write: the kernel sees to it. Nobody knows of such a subscriber, and
    /// there may be any number of them; no publisher waits for one or wakes it, so that it looks for itself, after a while
    /// every millisecond; in a [`Select`](crate::Select) every 10.
    ///
    /// # Errors
    /// As [`subscriber`](Self::subscriber), but for [`OpenError::Exhausted`].
    pub fn observer<T: Message>(&self, name: &str) -> Result<Subscriber<T>, OpenError> {
        let segment = Segment::open_read_only_with(name, &self.segment_options())?;
        let ground = plan::<T>(self)?.open(segment, None)?;
        if !ground.roster.entry(OWNER).present || is_vacant(&ground.leases, RoleId::CONSUMER) {
            return Err(OpenError::NotFound { name: name.to_owned() });
        }
        Subscriber::observing(ground, self)
    }

    /// A publisher and a subscriber without a name, for the threads of this process.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    ///
    /// # Examples
    /// ```
    /// let (mut publisher, mut first) = tidewire::Options::new().publish::<u64>()?;
    /// publisher.publish(7)?;
    /// assert_eq!(first.recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn publish<T: Message>(&self) -> Result<(Publisher<T>, Subscriber<T>), OpenError> {
        let segment = self.publish_memory::<T>()?;
        let fd = segment.try_clone_fd()?;
        let publisher = self.publisher_on(segment)?;
        Ok((publisher, self.subscriber_on(Segment::from_fd_with(fd, &self.segment_options())?)?))
    }

    /// The memory of a publication without a name, to be handed to other processes; else as [`memory`](Self::memory).
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    pub fn publish_memory<T: Message>(&self) -> Result<Segment, OpenError> {
        plan::<T>(self)?.anonymous(&mut fill::<T>(self))
    }

    /// The publishing end in memory that was handed over.
    ///
    /// # Errors
    /// As [`publisher`](Self::publisher).
    pub fn publisher_on<T: Message>(&self, memory: Segment) -> Result<Publisher<T>, OpenError> {
        Publisher::on(plan::<T>(self)?.open(memory, None)?, self)
    }

    /// A subscriber in memory that was handed over.
    ///
    /// # Errors
    /// As [`subscriber`](Self::subscriber).
    pub fn subscriber_on<T: Message>(&self, memory: Segment) -> Result<Subscriber<T>, OpenError> {
        Subscriber::on(plan::<T>(self)?.open(memory, None)?, self)
    }
}

fn attached<R>(result: Result<R, tidewire_seqlock::AttachError>, role: &'static str) -> Result<R, OpenError> {
    use tidewire_seqlock::AttachError;
    result.map_err(|error| match error {
        AttachError::Incompatible(error) => error.into(),
        AttachError::RoleTaken(owner) => OpenError::Taken { role, pid: Some(owner.id) },
        AttachError::GatesExhausted { gates } => OpenError::Exhausted { most: gates },
        AttachError::Lease(tidewire_shm::LeaseError::Held { .. }) => OpenError::Taken { role, pid: None },
        AttachError::Lease(error) => OpenError::Lease(error),
        error => cannot(error),
    })
}

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
    _owner: SegmentLease,
    _presence: Option<Presence>,
    segment: Segment,
    leaving: Leaving,
}

impl<T: Message> Publisher<T> {
    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
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
        let mut company = Company::new(roster, Arc::clone(&leases), 1);
        let own = company.roster.attend(OWNER, notice, System, &options.wait.sleep_options())?;
        company.look_around();
        Ok(Self {
            writer: Some(writer),
            rest: Some(Rest { own, wait: options.wait }),
            mark,
            company,
            overflow,
            leases,
            _owner: owner,
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
            std::mem::forget((self.writer.take(), self.rest.take()));
            self.company.abandon();
            self.leaving.keep = true;
            return;
        }
        self.writer = None;
        // Says that nobody publishes any more; then whoever waits is woken to see it.
        self.rest = None;
        self.company.call_all();
    }
}

impl<T: Message> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("memory", &self.segment).finish_non_exhaustive()
    }
}

/// How a subscriber reads.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, and reading shall not go through a pointer"
)]
enum Source<T: Message> {
    /// With a gate: it is known, can be waited for, and sleeps at a bell.
    Seated(GatedReader<T, Untrusted, SegmentLease>, Rest, Caller<System, Untrusted>),
    /// It cannot write.
    Observing(Reader<T, Untrusted>, Wait),
    /// In a fork child, whose parent has it.
    Abandoned,
}

/// A subscriber. `Send`, not `Sync`, not `Clone`.
///
/// # Guarantees
/// - Every message that was published since it came (and before, as far as [history](Options::history) was asked for and kept) is
///   received in order, or counted in [`missed`](Self::missed): nothing else.
/// - A wait ends within a millisecond, as an error, when the publisher is gone or dead; all that it published comes first.
/// - It delays nobody, unless the publication was made to wait.
/// - While messages are there, no system call, no allocation and no lock.
pub struct Subscriber<T: Message> {
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
    _leaving: Leaving,
}

/// What became of one look.
enum Next<T> {
    Got(T),
    Nothing,
    Missed(u64),
    Corrupt(tidewire_seqlock::Corrupt),
}

impl<T: Message> Source<T> {
    #[inline]
    fn next(&mut self) -> Next<T> {
        let next = match self {
            Self::Seated(reader, ..) => reader.next(),
            Self::Observing(reader, _) => reader.next(),
            Self::Abandoned => Ok(None),
        };
        match next {
            Ok(Some((value, _))) => Next::Got(value),
            Ok(None) => Next::Nothing,
            Err(NextError::Overtaken { missed }) => Next::Missed(missed),
            Err(NextError::Corrupt(corrupt)) => Next::Corrupt(corrupt),
        }
    }

    fn lag(&mut self) -> u64 {
        match self {
            Self::Seated(reader, ..) => reader.lag().unwrap_or(1),
            Self::Observing(reader, _) => reader.lag().unwrap_or(1),
            Self::Abandoned => 0,
        }
    }
}

impl<T: Message> Subscriber<T> {
    fn start(options: &Options) -> Start {
        match options.history {
            0 => Start::Next,
            history => Start::History(history),
        }
    }

    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let log = attached(Log::<T, _>::open(single_queue(&mut ground)?, 0), "subscriber")?;
        let reader = attached(log.gated_reader(Self::start(options), &*ground.leases), "subscriber")?;
        let mut caller = ground.roster.caller(OWNER, System)?;
        let own = ground.attend(reader.gate() + 1, &options.wait.sleep_options())?;
        // A publisher that sleeps has one more to wait for.
        let _rung = caller.ring();
        let rest = Rest { own, wait: options.wait };
        Ok(Self::reading(Source::Seated(reader, rest, caller), ground, options))
    }

    fn observing(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let log = attached(Log::<T, _>::open(single_queue(&mut ground)?, 0), "subscriber")?;
        let reader = log.reader(Self::start(options)).map_err(cannot)?;
        Ok(Self::reading(Source::Observing(reader, options.wait), ground, options))
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
            _leaving: leaving,
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

    /// Takes a message if there is one; those that were overwritten before they could be read are counted in
    /// [`missed`](Self::missed).
    ///
    /// # Errors
    /// [`SubscribeError::Empty`], [`SubscribeError::Disconnected`] if there is none and nobody publishes any more.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T, SubscribeError> {
        if self.mark.is_forked_child() {
            return Err(SubscribeError::ForkedChild);
        }
        match self.look() {
            Err(SubscribeError::Empty) => self.look_closely(),
            done => done,
        }
    }

    #[inline]
    fn look(&mut self) -> Result<T, SubscribeError> {
        // Overtaken again and again is what a stopped one is: each time it goes on half of a lap behind.
        for _ in 0..LOOKS {
            match self.source.next() {
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

    #[cold]
    fn look_closely(&mut self) -> Result<T, SubscribeError> {
        // It may have let go of what it took.
        self.tell();
        if !self.is_deserted() {
            return Err(SubscribeError::Empty);
        }
        // What was published before the publisher went is there by now.
        match self.look() {
            Err(SubscribeError::Empty) => Err(SubscribeError::Disconnected),
            done => done,
        }
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// [`SubscribeError::Disconnected`] if nobody publishes any more and all that was published has been received. A publisher
    /// that comes later ends that: call again.
    #[inline]
    pub fn recv(&mut self) -> Result<T, SubscribeError> {
        self.recv_until(Until::NEVER)
    }

    /// Waits for a message, but not longer than `time`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`SubscribeError::Empty`] if none came in all that time.
    pub fn recv_timeout(&mut self, time: Duration) -> Result<T, SubscribeError> {
        match self.try_recv() {
            Err(SubscribeError::Empty) => self.recv_until(Until::after(time)),
            done => done,
        }
    }

    /// Waits for a message until a moment.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, SubscribeError> {
        self.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    fn recv_until(&mut self, until: Until) -> Result<T, SubscribeError> {
        loop {
            match self.try_recv() {
                Err(SubscribeError::Empty) if until.is_over() => return Err(SubscribeError::Empty),
                Err(SubscribeError::Empty) => self.sleep(until),
                done => return done,
            }
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
                let _woken = rest.wait(&mut ready, until, &watches, !watches.is_empty());
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

    /// Messages that were overwritten before this subscriber could read them, so far: what it received and what it missed,
    /// together, is all that was published since it came.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Messages that are published and not received yet.
    pub fn lag(&mut self) -> u64 {
        self.source.lag()
    }

    /// The messages that come, until nobody publishes any more or something is wrong: [`try_recv`](Self::try_recv) tells what.
    pub fn iter(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// The messages that are there, until there is none.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Whether somebody is there to publish.
    pub fn is_connected(&mut self) -> bool {
        !self.mark.is_forked_child() && !self.is_deserted()
    }

    /// The memory of the publication, to hand it to other processes.
    #[must_use]
    pub fn memory(&self) -> &Segment {
        &self.segment
    }

    /// As [`recv`](Self::recv), for async code in any runtime; cancel-safe. The death of the publisher ends the same await.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_async(&mut self) -> Subscribing<'_, T> {
        Subscribing { subscriber: self }
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, SubscribeError>> {
        sealed::Sealed::disarm(self);
        for _ in 0..LOOKS {
            match self.try_recv() {
                Err(SubscribeError::Empty) => {}
                done => return Poll::Ready(done),
            }
            match sealed::Sealed::arm(self).and_then(|ready| if ready { Ok(true) } else { self.register(cx) })
            {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(_) => break,
            }
        }
        // Without descriptors: look again soon.
        sealed::Sealed::disarm(self);
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
}

impl<T: Message> sealed::Sealed for Subscriber<T> {
    fn is_ready(&mut self) -> bool {
        self.mark.is_forked_child() || self.source.lag() > 0 || self.is_deserted()
    }

    fn arm(&mut self) -> io::Result<bool> {
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

    fn disarm(&mut self) {
        if self.mark.is_forked_child() {
            return;
        }
        if let Source::Seated(_, rest, _) = &mut self.source {
            self.events.disarm(&mut rest.own);
        }
    }

    fn descriptors<'a>(&'a self, to: &mut Vec<PollFd<'a>>) -> bool {
        let poll = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        to.extend(self.events.fd().filter(|_| self.events.is_armed()).map(poll));
        to.extend(self.ending.fd().map(poll));
        self.ending.fd().is_some() && matches!(self.source, Source::Seated(..))
    }
}

impl<T: Message> Endpoint for Subscriber<T> {}

impl<T: Message> Drop for Subscriber<T> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Abandoned);
        if self.mark.is_forked_child() {
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

impl<T: Message> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("memory", &self.segment).finish_non_exhaustive()
    }
}
