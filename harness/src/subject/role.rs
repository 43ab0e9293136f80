//! The ends of a structure.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// An end of a structure. Producers are numbered; where there is one, it is number 0.
///
/// As text: `producer` for number 0, `producer-1` and so on for the others, `consumer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Role {
    /// It sends.
    Producer(u8),
    /// It receives.
    Consumer,
}

const PRODUCER: &str = "producer";
const CONSUMER: &str = "consumer";

impl Role {
    /// All ends of a structure with this many producers, in the order in which they are started.
    pub(crate) fn all(producers: u8) -> impl Iterator<Item = Self> {
        (0..producers).map(Self::Producer).chain([Self::Consumer])
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Producer(0) => f.write_str(PRODUCER),
            Self::Producer(number) => write!(f, "{PRODUCER}-{number}"),
            Self::Consumer => f.write_str(CONSUMER),
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = || text.strip_prefix(PRODUCER)?.strip_prefix('-')?.parse().ok();
        match text {
            PRODUCER => Ok(Self::Producer(0)),
            CONSUMER => Ok(Self::Consumer),
            _ => number().map(Self::Producer).ok_or_else(|| {
                format!("expected {PRODUCER}, {PRODUCER}-<number> or {CONSUMER}, found {text}")
            }),
        }
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.to_string()
    }
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_found_by_its_text_and_other_text_is_refused() {
        let texts: Vec<_> = Role::all(3).map(|role| role.to_string()).collect();
        assert_eq!(texts, ["producer", "producer-1", "producer-2", "consumer"]);
        for role in Role::all(16) {
            assert_eq!(role.to_string().parse(), Ok(role));
            let json = serde_json::to_string(&role).unwrap();
            assert_eq!(serde_json::from_str::<Role>(&json).unwrap(), role);
        }
        for text in ["", "producer-", "producer-256", "producer1", "consumer-1", "Producer"] {
            assert!(text.parse::<Role>().is_err(), "{text}");
        }
    }
}
