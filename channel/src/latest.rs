//! The latest value under a name: one writer, any number of readers that cannot write.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewire_seqlock::{AttachError, Cell, Corrupt, ReadError};
use tidewire_shm::bell::{Attendance, Kernel, Nap, Place, SleepOptions, System};
use tidewire_shm::{
    ForkMark, LeaseError, Liveness, Name, Presence, Region, RoleId, Segment, SegmentError, SegmentLease,
    SegmentLeases, Tenancy, Untrusted,
};

use crate::error::OpenError;
use crate::ground::{Ground, Plan};
use crate::message::Message;
use crate::options::{Options, Wait};
use crate::queue::cannot;
use crate::rest::Until;

/// The kind of a composite that is a latest value.
pub(crate) const KIND_LATEST: u32 = 0x0005_0004;
/// The entry of the writer.
const WRITER: u32 = 0;
/// Looks between two looks at the clock.
const LOOKS: u32 = 1024;
/// How often a reader that does not sleep asks for the lease of the writer.
const QUESTIONS: Duration = Duration::from_millis(10);
/// How often somebody who waits for a writer, or for its name, looks.
const PAUSE: Duration = Duration::from_millis(1);

/// What a writer does for readers that [wait](Reader::wait_changed). Chosen when the value is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wake {
    /// Each store wakes whoever sleeps: a system call, about half a microsecond. For up to some ten thousand stores a second.
    /// The default.
    #[default]
    Always,
    /// Nothing: a store makes no system call. Readers that wait look for themselves, every 50 microseconds at first and
    /// every millisecond in the end.
    Never,
}

impl Wake {
    fn in_cell(self) -> tidewire_seqlock::Wake {
        match self {
            Self::Always => tidewire_seqlock::Wake::Always,
            Self::Never => tidewire_seqlock::Wake::Never,
        }
    }
}

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// This process is a fork child of the one that opened the writer.
    ForkedChild,
}

/// Why no value was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// In each of a thousand attempts the writer stored so often that nothing could be copied whole; the next call may
    /// succeed at once.
    Lapped,
    /// The writer published something that cannot be; final.
    Corrupt(Corrupt),
}

/// Why a wait for another value ended without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The time was over.
    TimedOut,
    /// There is no writer: it is gone or dead, or there was none yet. What it stored last stays. One may come any time.
    WriterGone,
    /// As [`LoadError::Lapped`].
    Lapped,
    /// As [`LoadError::Corrupt`].
    Corrupt(Corrupt),
}

const LAPPED: &str =
    "expected to copy a value before the writer stored over it, and did not in a thousand attempts";

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForkedChild => {
                f.write_str("expected the process that opened this writer, found a child that it forked")
            }
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lapped => f.write_str(LAPPED),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("expected another value in time, found the same"),
            Self::WriterGone => f.write_str("expected another value, found the same and no writer"),
            Self::Lapped => f.write_str(LAPPED),
            Self::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl Error for StoreError {}
impl Error for LoadError {}
impl Error for WaitError {}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lapped => Self::Lapped,
            ReadError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<LoadError> for WaitError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Lapped => Self::Lapped,
            LoadError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

impl From<tidewire_seqlock::WaitError> for WaitError {
    fn from(error: tidewire_seqlock::WaitError) -> Self {
        match error {
            tidewire_seqlock::WaitError::TimedOut => Self::TimedOut,
            tidewire_seqlock::WaitError::WriterGone => Self::WriterGone,
            tidewire_seqlock::WaitError::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

fn attach_error(error: AttachError) -> OpenError {
    match error {
        AttachError::Incompatible(error) => error.into(),
        AttachError::RoleTaken(owner) => {
            OpenError::Taken { role: "writer", pid: Some(owner.id).filter(|pid| *pid != 0) }
        }
        AttachError::Lease(LeaseError::Held { .. }) => OpenError::Taken { role: "writer", pid: None },
        AttachError::Lease(error) => OpenError::Lease(error),
        AttachError::Bell(error) => OpenError::Bell(error),
        error => cannot(error),
    }
}

/// The lease of the one writer; the cell asks for the same.
fn writer_role() -> Result<RoleId, OpenError> {
    RoleId::producer(0).ok_or_else(|| cannot("expected a first producer, found none"))
}

fn cell_options(wake: Wake) -> tidewire_seqlock::Options {
    tidewire_seqlock::Options::new().liveness::<SegmentLeases>().wake(wake.in_cell())
}

fn plan<T: Message>(options: &Options, wake: Wake) -> Result<Plan<'_>, OpenError> {
    let bytes = Cell::<T, Untrusted>::bytes(&cell_options(wake)).map_err(cannot)?;
    Ok(Plan {
        kind: KIND_LATEST,
        fingerprint: T::LAYOUT.fingerprint(),
        text: T::LAYOUT.describe(),
        numbers: [0; 8],
        entries: 1,
        parts: vec![bytes],
        options,
    })
}

fn fill<T: Message>(
    initial: &T,
    wake: Wake,
) -> impl FnMut(Vec<Region<Untrusted>>) -> Result<(), OpenError> + '_ {
    move |parts| {
        parts.into_iter().try_for_each(|region| {
            Cell::create(region, initial, &cell_options(wake)).map(drop).map_err(cannot)
        })
    }
}

fn cell<T: Message>(ground: &mut Ground) -> Result<Cell<T, Untrusted>, OpenError> {
    let region = ground.parts.pop().ok_or_else(|| cannot("expected a value, found none"))?;
    Cell::open(region, 0).map_err(attach_error)
}

/// Opens the writer of a value: creates the value, or goes on where a writer that is gone stopped.
///
/// `initial` is the value until the first store; where there is a value already, it stays, and `initial` is not used.
///
/// # Errors
/// [`OpenError::Taken`] if somebody writes it already, [`OpenError::Types`] if a writer is there that stores something else,
/// [`OpenError::Segment`] if there is no room.
///
/// # Examples
/// ```no_run
/// let mut pose = tidewire::writer("pose", [0.0_f64; 3])?;
/// pose.store([1.0, 2.0, 0.5])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn writer<T: Message>(name: &str, initial: T) -> Result<Writer<T>, OpenError> {
    Options::new().latest_writer(name, initial)
}

/// Opens a reader of a value. The value may be that of a writer which is gone: [`Reader::is_writer_alive`] tells.
///
/// # Errors
/// [`OpenError::NotFound`] if there is no value of this name (see [`Options::latest_reader_in`] for waiting until there is),
/// [`OpenError::Types`] if it is of another type.
///
/// # Examples
/// ```no_run
/// let pose = tidewire::reader::<[f64; 3]>("pose")?.load()?;
/// println!("{:?}, the {}th", pose.value, pose.version);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn reader<T: Message>(name: &str) -> Result<Reader<T>, OpenError> {
    Options::new().latest_reader(name)
}

impl Options {
    /// As [`writer`](crate::writer()), with these options, of which the directory, what to do with a value that nobody
    /// writes any more ([`stale`](Self::stale)), and those about memory matter.
    ///
    /// One that stores another type than the value has, while no writer is there, begins anew; so does
    /// [`StalePolicy::Recreate`](crate::StalePolicy::Recreate). Readers of the former value then keep it, and its writer is
    /// gone for them: they are to be opened again.
    ///
    /// # Errors
    /// As [`writer`](crate::writer()).
    pub fn latest_writer<T: Message>(&self, name: &str, initial: T) -> Result<Writer<T>, OpenError> {
        self.latest_writer_with(name, initial, Wake::Always)
    }

    /// As [`latest_writer`](Self::latest_writer), with a choice of what the writer does for readers that wait. A value that
    /// is there already keeps what was chosen for it.
    ///
    /// # Errors
    /// As [`writer`](crate::writer()).
    pub fn latest_writer_with<T: Message>(
        &self,
        name: &str,
        initial: T,
        wake: Wake,
    ) -> Result<Writer<T>, OpenError> {
        Writer::on(plan::<T>(self, wake)?.join(name, &mut fill(&initial, wake))?, self)
    }

    /// As [`reader`](crate::reader()), with these options, of which how to wait and the directory matter.
    ///
    /// # Errors
    /// As [`reader`](crate::reader()).
    pub fn latest_reader<T: Message>(&self, name: &str) -> Result<Reader<T>, OpenError> {
        let segment = Segment::open_read_only_with(name, &self.segment_options())?;
        Reader::on(plan::<T>(self, Wake::Always)?.open(segment, None)?, self)
    }

    /// As [`latest_reader`](Self::latest_reader), and waits as long for a value: a reader may start before its writer.
    ///
    /// # Errors
    /// [`OpenError::TimedOut`] if there was none in time, else as [`reader`](crate::reader()).
    pub fn latest_reader_in<T: Message>(&self, name: &str, time: Duration) -> Result<Reader<T>, OpenError> {
        Name::new(name).map_err(SegmentError::from)?;
        let until = Until::after(time);
        loop {
            match self.latest_reader(name) {
                Err(OpenError::NotFound { .. }) if until.is_over() => {
                    return Err(OpenError::TimedOut { name: name.to_owned() });
                }
                Err(OpenError::NotFound { .. }) => std::thread::sleep(PAUSE),
                done => return done,
            }
        }
    }

    /// A value without a name, for the threads of this process.
    ///
    /// # Errors
    /// [`OpenError::Segment`] if there is no memory.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let (mut tx, mut rx) = tidewire::Options::new().latest([0.0_f64; 3])?;
    /// assert_eq!(rx.load()?.version, 0);
    /// tx.store([1.0, 2.0, 0.5])?;
    /// assert_eq!(rx.wait_changed(Duration::from_secs(1))?.value, [1.0, 2.0, 0.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn latest<T: Message>(&self, initial: T) -> Result<(Writer<T>, Reader<T>), OpenError> {
        let segment = self.latest_memory(initial)?;
        let fd = segment.try_clone_fd()?;
        let writer = self.latest_writer_on(segment)?;
        let reader = self.latest_reader_on(Segment::from_fd_with(fd, &self.segment_options())?)?;
        Ok((writer, reader))
    }

    /// The memory of a value without a name, to be handed to other processes; else as [`memory`](Self::memory).
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn latest_memory<T: Message>(&self, initial: T) -> Result<Segment, OpenError> {
        plan::<T>(self, Wake::Always)?.anonymous(&mut fill(&initial, Wake::Always))
    }

    /// The writer of a value in memory that was handed over.
    ///
    /// # Errors
    /// As [`writer`](crate::writer()).
    pub fn latest_writer_on<T: Message>(&self, memory: Segment) -> Result<Writer<T>, OpenError> {
        Writer::on(plan::<T>(self, Wake::Always)?.open(memory, None)?, self)
    }

    /// A reader of a value in memory that was handed over. It writes nothing, but what was handed over for writing is
    /// mapped so.
    ///
    /// # Errors
    /// As [`reader`](crate::reader()).
    pub fn latest_reader_on<T: Message>(&self, memory: Segment) -> Result<Reader<T>, OpenError> {
        Reader::on(plan::<T>(self, Wake::Always)?.open(memory, None)?, self)
    }
}

/// A value, and which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot<T> {
    /// The value, whole: as one call stored it.
    pub value: T,
    /// How many were stored before it: 0 is the initial one.
    pub version: u64,
}

/// The writer of a latest value. `Send`, not `Sync`, not `Clone`.
///
/// Dropping it leaves the value and its name: readers keep the last value, those who come later find it, and the next writer
/// goes on with its versions. [`remove`](Self::remove) takes the name away.
///
/// # Guarantees
/// - A store is wait-free, whatever readers do, makes no allocation, and no system call but the one that [wakes](Wake).
/// - One store publishes a value: a writer that is killed at any instruction leaves the value before, whole, and nothing to
///   repair.
pub struct Writer<T: Message> {
    // In this order: it says that it left, gives the role back, and then is not there any more.
    attendance: Option<Attendance<System, Untrusted>>,
    pen: Option<tidewire_seqlock::Writer<T, Untrusted, SegmentLease>>,
    mark: ForkMark,
    _presence: Option<Presence>,
    segment: Segment,
    options: Options,
}

impl<T: Message> Writer<T> {
    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let cell = cell::<T>(&mut ground)?;
        // First: whoever has the lease may take the entry.
        let pen = cell.writer(&*ground.leases).map_err(attach_error)?;
        let attendance = ground.attend(WRITER, &SleepOptions::new())?;
        let Ground { segment, presence, mark, .. } = ground;
        Ok(Self {
            attendance: Some(attendance),
            pen: Some(pen),
            mark,
            _presence: presence,
            segment,
            options: options.clone(),
        })
    }

    #[inline]
    fn pen(&mut self) -> Result<&mut tidewire_seqlock::Writer<T, Untrusted, SegmentLease>, StoreError> {
        if self.mark.is_forked_child() {
            return Err(StoreError::ForkedChild);
        }
        self.pen.as_mut().ok_or(StoreError::ForkedChild)
    }

    /// Stores a value; returns its version, one more than that of the value before.
    ///
    /// # Errors
    /// [`StoreError::ForkedChild`] in a fork child: the value is its parent's.
    #[inline]
    pub fn store(&mut self, value: T) -> Result<u64, StoreError> {
        Ok(self.pen()?.write(&value))
    }

    /// Stores what `change` makes of the latest value. It works on a copy: if it panics, nothing is stored.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[inline]
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> Result<u64, StoreError> {
        Ok(self.pen()?.update(change))
    }

    /// The latest value and its version.
    #[must_use]
    pub fn latest(&self) -> Snapshot<T> {
        match &self.pen {
            Some(pen) => Snapshot { value: pen.value(), version: pen.version() },
            None => Snapshot { value: bytemuck::Zeroable::zeroed(), version: 0 },
        }
    }

    /// The version of the latest value: 0 until the first store to a new one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.pen.as_ref().map_or(0, tidewire_seqlock::Writer::version)
    }

    /// Leaves, and takes the name of the value away; whether it is gone. Readers that have it open keep it.
    ///
    /// # Errors
    /// [`OpenError::Segment`] if the system refuses.
    ///
    /// # Examples
    /// ```
    /// # let place = tempfile::tempdir()?;
    /// # let options = tidewire::Options::new().directory(place.path().join("segments"));
    /// let writer = options.latest_writer("pose", [0.0_f64; 3])?;
    /// assert!(writer.remove()?);
    /// assert!(options.latest_reader::<[f64; 3]>("pose").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(self) -> Result<bool, OpenError> {
        if self.mark.is_forked_child() {
            return Ok(false);
        }
        let Some(name) = self.segment.name().map(ToString::to_string) else { return Ok(true) };
        let options = self.options.segment_options();
        drop(self);
        Ok(Segment::discard_with(&name, &options)?)
    }

    /// The memory of the value, to hand it to other processes.
    pub fn memory(&self) -> &Segment {
        &self.segment
    }
}

impl<T: Message> Drop for Writer<T> {
    #[expect(clippy::mem_forget, reason = "in a fork child nothing of the parent's may be given back")]
    fn drop(&mut self) {
        if self.mark.is_forked_child() {
            // All of it is the parent's.
            std::mem::forget(self.attendance.take());
            std::mem::forget(self.pen.take());
        }
    }
}

impl<T: Message> fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("version", &self.version())
            .field("memory", &self.segment)
            .finish_non_exhaustive()
    }
}

/// A reader of a latest value. `Send`, not `Sync`; a clone has seen what this one has.
///
/// One opened by name has the memory mapped for reading only, and nobody knows of it: any number of them, coming, going and
/// dying as they like, make no difference to the writer. They go on when a writer is followed by another one, and in a fork
/// child, too.
///
/// # Guarantees
/// - A value is whole, was the latest at a moment during the call, and is never older than one that this reader returned
///   before.
/// - A load makes no system call, no store and no allocation, and waits for nobody.
/// - That the writer is gone or dead ends a wait within about 10 milliseconds.
/// - A writer may write anything anywhere: a reader returns what it made up, or says [`LoadError::Corrupt`].
pub struct Reader<T: Message> {
    look: tidewire_seqlock::Reader<T, Untrusted>,
    /// The last version that was returned.
    seen: Option<u64>,
    wait: Wait,
    leases: Arc<SegmentLeases>,
    role: RoleId,
    segment: Arc<Segment>,
}

impl<T: Message> Reader<T> {
    fn on(mut ground: Ground, options: &Options) -> Result<Self, OpenError> {
        let look = cell::<T>(&mut ground)?.reader();
        let Ground { segment, leases, .. } = ground;
        Ok(Self {
            look,
            seen: None,
            wait: options.wait,
            leases,
            role: writer_role()?,
            segment: Arc::new(segment),
        })
    }

    /// The latest value.
    ///
    /// # Errors
    /// [`LoadError::Lapped`] if the writer was too fast for a thousand attempts; [`LoadError::Corrupt`].
    #[inline]
    pub fn load(&mut self) -> Result<Snapshot<T>, LoadError> {
        let (value, version) = self.look.read()?;
        self.seen = Some(version);
        Ok(Snapshot { value, version })
    }

    /// The latest value, unless this reader has returned it already; then one load is all that it takes.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    #[inline]
    pub fn load_if_changed(&mut self) -> Result<Option<Snapshot<T>>, LoadError> {
        let Some(seen) = self.seen else { return self.load().map(Some) };
        let Some((value, version)) = self.look.read_if_changed(seen)? else { return Ok(None) };
        self.seen = Some(version);
        Ok(Some(Snapshot { value, version }))
    }

    /// Waits for a value that this reader has not returned yet, but not longer than `time`: at once, if it has returned none.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; [`WaitError::WriterGone`] if nobody is there to store one (see
    /// [`wait_writer`](Self::wait_writer)); else as [`load`](Self::load).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use tidewire::WaitError;
    ///
    /// let (mut tx, mut rx) = tidewire::Options::new().latest(0_u64)?;
    /// assert_eq!(rx.load()?.value, 0);
    /// assert_eq!(rx.wait_changed(Duration::from_millis(1)), Err(WaitError::TimedOut));
    /// tx.store(7)?;
    /// drop(tx);
    /// assert_eq!(rx.wait_changed(Duration::from_secs(9))?.value, 7);
    /// assert_eq!(rx.wait_changed(Duration::from_secs(9)), Err(WaitError::WriterGone));
    /// assert_eq!(rx.load()?.value, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_changed(&mut self, time: Duration) -> Result<Snapshot<T>, WaitError> {
        if let Some(found) = self.load_if_changed()? {
            return Ok(found);
        }
        let since = self.seen.unwrap_or(0);
        match self.wait {
            Wait::Spin => self.look_until(since, time, std::hint::spin_loop)?,
            Wait::Yield => self.look_until(since, time, std::thread::yield_now)?,
            wait => {
                let kernel = Patient { spins: spins(wait) };
                let _version = self.look.wait_changed_on(&kernel, &*self.leases, since, time)?;
            }
        }
        // Versions never go back: this is that one or a later one.
        Ok(self.load()?)
    }

    /// Waits for a value that this reader has not returned yet until a moment.
    ///
    /// # Errors
    /// As [`wait_changed`](Self::wait_changed).
    pub fn wait_changed_deadline(&mut self, deadline: Instant) -> Result<Snapshot<T>, WaitError> {
        self.wait_changed(deadline.saturating_duration_since(Instant::now()))
    }

    /// Looks without sleeping.
    fn look_until(&mut self, since: u64, time: Duration, pause: fn()) -> Result<(), WaitError> {
        let until = Until::after(time);
        let mut question = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if self.look.version().map_err(WaitError::Corrupt)? != since {
                    return Ok(());
                }
                pause();
            }
            if until.is_over() {
                return Err(WaitError::TimedOut);
            }
            if question.elapsed() >= QUESTIONS {
                question = Instant::now();
                // In this order: what a writer stored before it went is found first.
                if !self.is_writer_alive() && self.look.version().map_err(WaitError::Corrupt)? == since {
                    return Err(WaitError::WriterGone);
                }
            }
        }
    }

    /// Waits until a writer is there, but not longer than `time`; whether one came.
    pub fn wait_writer(&self, time: Duration) -> bool {
        let until = Until::after(time);
        loop {
            if self.is_writer_alive() {
                return true;
            }
            if until.is_over() {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether a writer is there: not one that is gone or proven dead, but one that is stopped. One system call.
    #[must_use]
    pub fn is_writer_alive(&self) -> bool {
        self.leases.tenancy(self.role) != Tenancy::Vacant
    }

    /// The version of the latest value. One load.
    ///
    /// # Errors
    /// [`LoadError::Corrupt`].
    pub fn version(&mut self) -> Result<u64, LoadError> {
        self.look.version().map_err(LoadError::Corrupt)
    }

    /// Chooses how to wait from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    /// The memory of the value.
    pub fn memory(&self) -> &Segment {
        &self.segment
    }
}

impl<T: Message> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self {
            look: self.look.clone(),
            seen: self.seen,
            wait: self.wait,
            leases: Arc::clone(&self.leases),
            role: self.role,
            segment: Arc::clone(&self.segment),
        }
    }
}

impl<T: Message> fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("seen", &self.seen)
            .field("memory", &self.segment)
            .finish_non_exhaustive()
    }
}

/// Rounds of looking before a reader sleeps.
fn spins(wait: Wait) -> u32 {
    match wait {
        Wait::Park => 0,
        // A round takes some 20 ns.
        Wait::HybridFor(spin) => u32::try_from(spin.as_nanos() / 20).unwrap_or(u32::MAX),
        _ => System.spins(),
    }
}

/// The system, with another opinion on how long to spin.
#[derive(Debug)]
struct Patient {
    spins: u32,
}

impl Kernel for Patient {
    fn sleep(&self, place: Place<'_>, expected: u32, timeout_ns: u64) -> Nap {
        System.sleep(place, expected, timeout_ns)
    }

    fn wake(&self, place: Place<'_>) -> u32 {
        System.wake(place)
    }

    fn register(&self) -> Result<(), i32> {
        System.register()
    }

    fn barrier(&self) -> bool {
        System.barrier()
    }

    fn now_ns(&self) -> u64 {
        System.now_ns()
    }

    fn pause(&self, ns: u64) {
        System.pause(ns);
    }

    fn yield_now(&self) {
        System.yield_now();
    }

    fn spins(&self) -> u32 {
        self.spins
    }
}
