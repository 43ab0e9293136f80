//! The latest value under a name: one writer, any number of readers that cannot write.

mod changing;
mod error;
mod reader;
mod writer;

use std::time::Duration;

use tidewire_seqlock::{AttachError, Cell};
use tidewire_shm::{LeaseError, Name, Region, Segment, SegmentError, SegmentLeases, Untrusted};

use crate::error::OpenError;
use crate::ground::{Ground, Plan, own};
use crate::message::Message;
use crate::options::Options;
use crate::queue::cannot;
use crate::rest::Until;

pub use changing::Changing;
pub use error::{LoadError, StoreError, WaitError};
pub use reader::Reader;
pub use writer::Writer;

/// The kind of a composite that is a latest value.
pub(crate) const KIND_LATEST: u32 = 0x0005_0004;
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
        own(self, |options| {
            let ground = plan::<T>(options, wake)?.join(name, &mut fill(&initial, wake))?;
            Ok((ground.adopted, Writer::on(ground, options)))
        })
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
