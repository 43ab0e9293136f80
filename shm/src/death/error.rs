//! What can go wrong with death notices.

use alloc::string::String;
use core::error::Error;
use core::fmt;
use std::io;

use rustix::io::Errno;

use crate::bell::PeerState;

/// Why there is no death notice, or none to watch. Nothing but time is lost: look after leases instead.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeathError {
    /// The system refused a part of it.
    System {
        /// What was tried.
        operation: &'static str,
        /// The answer of the system.
        source: io::Error,
    },
    /// The notice says that the peer is gone.
    Gone {
        /// What it says.
        found: PeerState,
    },
    /// The process at an address is not the one whose notice this is.
    AnotherProcess {
        /// The process that the address names.
        pid: u32,
        /// Which property is wrong.
        what: &'static str,
        /// What the owner of the notice has there.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A descriptor that is not a death notice.
    NotANotice {
        /// Which property is wrong.
        what: &'static str,
        /// What a notice has there.
        expected: String,
        /// What was found.
        found: String,
    },
}

impl DeathError {
    pub(super) fn on(operation: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { operation, source: errno.into() }
    }
}

impl fmt::Display for DeathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { operation, .. } => write!(f, "failed to {operation}"),
            Self::Gone { found } => {
                write!(f, "the peer is gone: expected the notice of one that is alive, found {found:?}")
            }
            Self::AnotherProcess { pid, what, expected, found } => {
                write!(f, "process {pid} is not the peer: {what}: expected {expected}, found {found}")
            }
            Self::NotANotice { what, expected, found } => {
                write!(f, "not a death notice: {what}: expected {expected}, found {found}")
            }
        }
    }
}

impl Error for DeathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            Self::Gone { .. } | Self::AnotherProcess { .. } | Self::NotANotice { .. } => None,
        }
    }
}
