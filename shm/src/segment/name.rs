//! Names of segments.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::error::Error;
use core::fmt;
use core::str::FromStr;

/// The longest name, in bytes.
const LONGEST: usize = 200;

/// The name of a segment: 1 to 200 bytes of `a-z`, `0-9`, `.`, `_` and `-`, but neither `.` nor `..`.
///
/// Such a name is one component of a path on every file system, in any locale, and needs no quoting anywhere.
///
/// ```
/// use tidewire_shm::Name;
///
/// let name = Name::new("ticks.v2")?;
/// assert_eq!(name.as_str(), "ticks.v2");
///
/// let error = Name::new("../ticks").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "a segment name is 1 to 200 bytes of a-z, 0-9, '.', '_' and '-', found byte 0x2f ('/') at place 2",
/// );
/// # Ok::<(), tidewire_shm::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`] says which byte at which place is not allowed, or what else is wrong.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > LONGEST {
            return Err(NameError::TooLong { found: name.len() });
        }
        if let Some((at, byte)) = name.bytes().enumerate().find(|&(_, byte)| !allowed(byte)) {
            return Err(NameError::Byte { byte, at });
        }
        if name == "." || name == ".." {
            return Err(NameError::Dots);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

/// Why a text is not the name of a segment.
///
/// ```
/// use tidewire_shm::{Name, NameError};
///
/// assert_eq!(Name::new("Ticks"), Err(NameError::Byte { byte: b'T', at: 0 }));
/// assert_eq!(Name::new(""), Err(NameError::Empty));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// There are no bytes.
    Empty,
    /// There are more than 200 bytes.
    TooLong {
        /// The bytes there are.
        found: usize,
    },
    /// A byte that is not allowed.
    Byte {
        /// The byte.
        byte: u8,
        /// Its place, counted from 0.
        at: usize,
    },
    /// The name is `.` or `..`, which mean directories.
    Dots,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a segment name is 1 to 200 bytes of a-z, 0-9, '.', '_' and '-', found ")?;
        match *self {
            Self::Empty => f.write_str("none"),
            Self::TooLong { found } => write!(f, "{found} bytes"),
            Self::Byte { byte, at } if byte.is_ascii_graphic() => {
                write!(f, "byte {byte:#04x} ('{}') at place {at}", char::from(byte))
            }
            Self::Byte { byte, at } => write!(f, "byte {byte:#04x} at place {at}"),
            Self::Dots => f.write_str("'.' or '..', which mean directories"),
        }
    }
}

impl Error for NameError {}
