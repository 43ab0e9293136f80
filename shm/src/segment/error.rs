//! What can go wrong with a segment.

use alloc::boxed::Box;
use alloc::string::String;
use core::error::Error;
use core::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::name::{Name, NameError};

/// What an initialiser returns when it fails.
pub(super) type InitError = Box<dyn Error + Send + Sync>;

/// Why a segment could not be created, opened or handed over.
///
/// ```
/// use tidewire_shm::{Segment, SegmentError};
///
/// assert!(matches!(Segment::anonymous(0), Err(SegmentError::Length { asked: 0 })));
/// assert!(matches!(Segment::open("no/such"), Err(SegmentError::Name(_))));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SegmentError {
    /// The name is not allowed.
    Name(NameError),
    /// The length is zero or larger than an address space.
    Length {
        /// The bytes that were asked for.
        asked: usize,
    },
    /// There is no segment of this name.
    NotFound {
        /// The name.
        name: Name,
    },
    /// The name is taken.
    AlreadyExists {
        /// The name.
        name: Name,
    },
    /// The name appeared and disappeared too often to be opened or created, or somebody who creates, opens or removes it
    /// was in the middle of that all the time.
    Contended {
        /// The name.
        name: Name,
        /// How often it was tried.
        attempts: u32,
    },
    /// The memory, or the file system, has no room. Nothing was created.
    NoSpace {
        /// The bytes that were needed.
        needed_bytes: u64,
        /// The bytes that were free, where the system tells.
        available_bytes: Option<u64>,
    },
    /// A resource limit of this process is too low.
    Limit {
        /// The limit, as `setrlimit` names it.
        limit: &'static str,
        /// The bytes that were needed.
        needed_bytes: u64,
        /// The limit in force.
        found_bytes: u64,
    },
    /// The system refused this process.
    Permission {
        /// What was tried.
        operation: &'static str,
        /// The answer of the system.
        source: io::Error,
    },
    /// A file or a descriptor that is not a segment, or that somebody else could change.
    NotASegment {
        /// Which property is wrong.
        what: &'static str,
        /// What a segment has there.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A directory that somebody else could change, or that is not a directory.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What it must be.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The [mode](crate::SegmentOptions::mode) that was chosen cannot be, or not like this.
    Mode {
        /// What can be.
        expected: String,
        /// What was chosen.
        found: String,
    },
    /// What arrived from another process is not exactly one segment.
    Handover {
        /// What should have arrived.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// The initialiser failed. Nothing was created.
    Init(Box<dyn Error + Send + Sync>),
    /// Any other answer of the system.
    Io {
        /// What was tried.
        operation: &'static str,
        /// The answer of the system.
        source: io::Error,
    },
}

impl SegmentError {
    /// Turns an answer of the system into an error that says what was tried.
    pub(super) fn from_io(operation: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission { operation, source },
            _ => Self::Io { operation, source },
        }
    }

    /// [`from_io`](Self::from_io) for `map_err`.
    pub(super) fn on(operation: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::from_io(operation, errno.into())
    }
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(_) => f.write_str("the name is not allowed"),
            Self::Length { asked } => {
                write!(f, "a segment has 1 to {} bytes, {asked} were asked for", isize::MAX)
            }
            Self::NotFound { name } => write!(f, "there is no segment named {name}"),
            Self::AlreadyExists { name } => write!(f, "there is already a segment named {name}"),
            Self::Contended { name, attempts } => {
                write!(f, "{name} was about to appear or to disappear at each of {attempts} attempts")
            }
            Self::NoSpace { needed_bytes, available_bytes: Some(free) } => {
                write!(f, "no space: {needed_bytes} bytes needed, found {free}")
            }
            Self::NoSpace { needed_bytes, available_bytes: None } => {
                write!(f, "no space: {needed_bytes} bytes needed")
            }
            Self::Limit { limit, needed_bytes, found_bytes } => {
                write!(f, "{limit} is too low: {needed_bytes} bytes needed, found {found_bytes}")
            }
            Self::Permission { operation, .. } => write!(f, "not permitted to {operation}"),
            Self::NotASegment { what, expected, found } => {
                write!(f, "not a segment: {what}: expected {expected}, found {found}")
            }
            Self::Directory { path, expected, found } => {
                write!(f, "unsafe directory {}: expected {expected}, found {found}", path.display())
            }
            Self::Mode { expected, found } => {
                write!(f, "cannot share a segment: expected {expected}, found {found}")
            }
            Self::Handover { expected, found } => {
                write!(f, "no segment arrived: expected {expected}, found {found}")
            }
            Self::Init(_) => f.write_str("the initialiser failed"),
            Self::Io { operation, .. } => write!(f, "failed to {operation}"),
        }
    }
}

impl Error for SegmentError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Name(source) => Some(source),
            Self::Init(source) => Some(&**source),
            Self::Permission { source, .. } | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<NameError> for SegmentError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}
