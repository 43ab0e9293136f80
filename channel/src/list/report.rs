//! What a look tells.

use std::fmt;
use std::time::SystemTime;

use tidewire_shm::RoleId;

use crate::bytes::KIND_BYTES;
use crate::bytes_publish::KIND_PUBLISH_BYTES;
use crate::latest::KIND_LATEST;
use crate::options::{Kind, Overflow};
use crate::typed::KIND_CHANNEL;

const KIND_REQUESTS: u32 = 0x0005_0003;
const KIND_PUBLISH: u32 = 0x0005_0005;
/// Characters of a message's layout in a line of a table.
const MAX_COLUMN: usize = 60;

/// What lies under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pattern {
    /// A channel of messages of one type.
    Channel,
    /// A channel of bytes.
    Bytes,
    /// Requests and responses.
    Requests,
    /// A latest value.
    Latest,
    /// A publisher and its subscribers.
    Publish,
    /// A publisher of bytes and its subscribers.
    PublishBytes,
    /// Another structure, of which the header names the kind.
    Other(u32),
    /// Nothing that begins as a structure does.
    Unmarked,
}

impl Pattern {
    pub(super) fn of(kind: Option<u32>) -> Self {
        match kind {
            Some(KIND_CHANNEL) => Self::Channel,
            Some(KIND_BYTES) => Self::Bytes,
            Some(KIND_REQUESTS) => Self::Requests,
            Some(KIND_LATEST) => Self::Latest,
            Some(KIND_PUBLISH) => Self::Publish,
            Some(KIND_PUBLISH_BYTES) => Self::PublishBytes,
            Some(kind) => Self::Other(kind),
            None => Self::Unmarked,
        }
    }

    /// The number of the kind, if it has a roster.
    pub(super) fn kind(self) -> Option<u32> {
        match self {
            Self::Channel => Some(KIND_CHANNEL),
            Self::Bytes => Some(KIND_BYTES),
            Self::Requests => Some(KIND_REQUESTS),
            Self::Latest => Some(KIND_LATEST),
            Self::Publish => Some(KIND_PUBLISH),
            Self::PublishBytes => Some(KIND_PUBLISH_BYTES),
            Self::Other(_) | Self::Unmarked => None,
        }
    }

    /// What the holder of an entry is.
    pub(super) fn role(self, entry: u32) -> &'static str {
        match (self, entry) {
            (Self::Channel | Self::Bytes, 0) => "receiver",
            (Self::Channel | Self::Bytes, _) => "sender",
            (Self::Requests, 0) => "server",
            (Self::Requests, _) => "client",
            (Self::Latest, _) => "writer",
            (Self::Publish | Self::PublishBytes, 0) => "publisher",
            (Self::Publish | Self::PublishBytes, _) => "subscriber",
            (Self::Other(_) | Self::Unmarked, _) => "peer",
        }
    }

    /// The lease that the holder of an entry has, where it is known.
    pub(super) fn lease(self, entry: u32) -> Option<RoleId> {
        match (self, entry) {
            (Self::Channel | Self::Bytes | Self::Requests, 0) => Some(RoleId::CONSUMER),
            (Self::Channel | Self::Bytes | Self::Requests, _) => RoleId::producer(entry - 1),
            (Self::Latest, 0) => RoleId::producer(0),
            _ => None,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel => f.pad("channel"),
            Self::Bytes => f.pad("bytes"),
            Self::Requests => f.pad("requests"),
            Self::Latest => f.pad("latest"),
            Self::Publish => f.pad("publish"),
            Self::PublishBytes => f.pad("pub-bytes"),
            Self::Other(kind) => f.pad(&format!("{kind:#x}")),
            Self::Unmarked => f.pad("unmarked"),
        }
    }
}

/// Whether somebody uses what lies under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Usage {
    /// Somebody holds a role of it, or joined it. Readers of a latest value are not seen.
    InUse,
    /// Nobody does: [`clean`](crate::clean()) would remove it. It may hold what the next one goes on with.
    Stale,
    /// No structure begins in it, so that it cannot be known. Never cleaned.
    Unmarked,
    /// It could not be looked at, for this reason.
    Refused(String),
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.pad("in use"),
            Self::Stale => f.pad("stale"),
            Self::Unmarked => f.pad("unknown"),
            Self::Refused(_) => f.pad("refused"),
        }
    }
}

/// What is known of somebody who took part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// It is there: proven by its lease, or told by its death notice.
    Here,
    /// It said that it left.
    Left,
    /// It is gone without having said so: proven by its lease, or told by its death notice.
    Died,
    /// It said that it came, and nothing tells whether it is still there.
    Unknown,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Here => "here",
            Self::Left => "left",
            Self::Died => "died",
            Self::Unknown => "unknown",
        })
    }
}

/// Somebody who takes part, or did last in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// What it is: `"receiver"`, `"sender"`, `"writer"` and so on.
    pub role: &'static str,
    /// Its number among those of its role, from 0.
    pub number: u32,
    /// The process that it runs in, as it said.
    pub pid: Option<u32>,
    /// Whether it is there.
    pub standing: Standing,
    /// How many have had its place, this one included.
    pub generation: u64,
    /// Messages that it dropped since there was no room; 0 for all but the senders of channels.
    pub dropped: u64,
    /// How often it waited for room; 0 for all but the senders of channels.
    pub waited: u64,
    /// Messages that it sent and that take room, with what was received last; bytes, with what frames them, in a channel of
    /// bytes and of questions that were asked. Where the oldest are overwritten, those that the receiver has not said that it
    /// passed. `None` for all but senders and clients, and where it is not seen from outside.
    pub queued: Option<u64>,
    /// What `queued` counts: `"messages"` or `"bytes"`; empty for all but senders and clients.
    pub unit: &'static str,
    /// Whether that fills all its room, so that the next one waits, or is dropped, or takes the place of the oldest.
    pub full: bool,
    /// Messages that were published and that it has not let go of: what it has not received, and less than an eighth of what
    /// is kept (or than 64, if that is more) of what it has. Those beyond the capacity are overwritten. `None` for all but
    /// subscribers.
    pub lag: Option<u64>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, number, standing, generation, dropped, waited, queued, unit, full, lag, .. } = self;
        let pid = self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        write!(f, "{role:<10} {number:>3} {standing:<7} pid {pid:>8} generation {generation:>5}")?;
        if *role == "sender" {
            write!(f, " dropped {dropped} waited {waited}")?;
        }
        if let Some(queued) = queued {
            write!(f, " queued {queued} {unit}{}", if *full { " (full)" } else { "" })?;
        }
        if let Some(lag) = lag {
            write!(f, " lag {lag} messages")?;
        }
        Ok(())
    }
}

/// A name, and what lies under it. It [displays](fmt::Display) as a line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name.
    pub name: String,
    /// What lies there.
    pub pattern: Pattern,
    /// Whether somebody uses it.
    pub usage: Usage,
    /// The layout of its messages, as whoever created it described it; empty if it did not.
    pub message: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// When it was created, where the file system tells.
    pub created: Option<SystemTime>,
    /// Those of its roster that are there.
    pub here: usize,
}

impl Entry {
    /// The head of a table of entries.
    pub const HEAD: &'static str = "NAME                     PATTERN    USE      HERE      BYTES  MESSAGE";
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pattern, usage, message, bytes, here, .. } = self;
        write!(f, "{name:<24} {pattern:<10} {usage:<8} {here:>4} {bytes:>10}  ")?;
        match (usage, message.char_indices().nth(MAX_COLUMN)) {
            (Usage::Refused(reason), _) => f.write_str(reason),
            (_, Some((end, _))) => write!(f, "{}...", message.split_at(end).0),
            (_, None) => f.write_str(message),
        }
    }
}

/// All that can be seen of a name. It [displays](fmt::Display) as some lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What a list says of it.
    pub entry: Entry,
    /// How messages of several senders meet, in a channel.
    pub kind: Option<Kind>,
    /// What becomes of messages for which there is no room, in a channel.
    pub overflow: Option<Overflow>,
    /// Messages that fit for each sender, in a channel; bytes in a channel of bytes, and for each client's questions; messages
    /// that there is room for, where they are published.
    pub capacity: Option<u64>,
    /// The version of the latest value, 0 if that is the initial one; of what was published last, or sent last where the oldest
    /// are overwritten: how many messages there were.
    pub newest: Option<u64>,
    /// Messages up to that one that a subscriber that comes now can ask for, whatever the publisher is doing; where the oldest are
    /// overwritten, those that a receiver surely finds.
    pub kept: Option<u64>,
    /// Places for those who connect to whoever owns it: the most senders, clients or subscribers that there can be.
    pub places: u32,
    /// Who takes part, or did last in its place: the owner first.
    pub peers: Vec<Peer>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Entry::HEAD)?;
        write!(f, "{}", self.entry)?;
        let mut told = Vec::new();
        if let (Some(kind), Some(overflow)) = (self.kind, self.overflow) {
            told.push(format!("kind {kind:?}, overflow {overflow:?}"));
        }
        if self.places > 0 {
            told.push(format!("places {}", self.places));
        }
        let numbers = [("capacity", self.capacity), ("newest", self.newest), ("kept", self.kept)];
        told.extend(numbers.into_iter().filter_map(|(name, number)| Some(format!("{name} {}", number?))));
        if !told.is_empty() {
            write!(f, "\n{}", told.join(", "))?;
        }
        for peer in &self.peers {
            write!(f, "\n{peer}")?;
        }
        Ok(())
    }
}
