//! What there is: the names of a directory, what lies under each, and who takes part. Nothing of it is written, and no lock
//! is taken.

use std::fmt;
use std::time::SystemTime;

use tidewire_shm::bell::Roster;
use tidewire_shm::{
    CleanMode, Composite, DeathWatch, FoundSegment, Header, Liveness, NoticeAddress, RoleId, Segment,
    SegmentLeases, Tenancy, Untrusted, Verdict,
};

use crate::bytes::KIND_BYTES;
use crate::error::OpenError;
use crate::latest::KIND_LATEST;
use crate::options::{Kind, Options, Overflow};
use crate::send::{DROPPED, WAITED};
use crate::typed::{KIND_CHANNEL, chosen};

const KIND_REQUESTS: u32 = 0x0005_0003;
const KIND_PUBLISH: u32 = 0x0005_0005;
/// Characters of a foreign text that are kept.
const MAX_SHOWN: usize = 4096;
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
    /// Another structure, of which the header names the kind.
    Other(u32),
    /// Nothing that begins as a structure does.
    Unmarked,
}

impl Pattern {
    fn of(kind: Option<u32>) -> Self {
        match kind {
            Some(KIND_CHANNEL) => Self::Channel,
            Some(KIND_BYTES) => Self::Bytes,
            Some(KIND_REQUESTS) => Self::Requests,
            Some(KIND_LATEST) => Self::Latest,
            Some(KIND_PUBLISH) => Self::Publish,
            Some(kind) => Self::Other(kind),
            None => Self::Unmarked,
        }
    }

    /// The number of the kind, if it has a roster.
    fn kind(self) -> Option<u32> {
        match self {
            Self::Channel => Some(KIND_CHANNEL),
            Self::Bytes => Some(KIND_BYTES),
            Self::Requests => Some(KIND_REQUESTS),
            Self::Latest => Some(KIND_LATEST),
            Self::Publish => Some(KIND_PUBLISH),
            Self::Other(_) | Self::Unmarked => None,
        }
    }

    /// What the holder of an entry is.
    fn role(self, entry: u32) -> &'static str {
        match (self, entry) {
            (Self::Channel | Self::Bytes, 0) => "receiver",
            (Self::Channel | Self::Bytes, _) => "sender",
            (Self::Requests, 0) => "server",
            (Self::Requests, _) => "client",
            (Self::Latest, _) => "writer",
            (Self::Publish, 0) => "publisher",
            (Self::Publish, _) => "subscriber",
            (Self::Other(_) | Self::Unmarked, _) => "peer",
        }
    }

    /// The lease that the holder of an entry has, where it is known.
    fn lease(self, entry: u32) -> Option<RoleId> {
        match (self, entry) {
            (Self::Channel | Self::Bytes, 0) => Some(RoleId::CONSUMER),
            (Self::Channel | Self::Bytes, _) => RoleId::producer(entry - 1),
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
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, number, standing, generation, dropped, waited, .. } = self;
        let pid = self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        write!(f, "{role:<10} {number:>3} {standing:<7} pid {pid:>8} generation {generation:>5}")?;
        if *role == "sender" {
            write!(f, " dropped {dropped} waited {waited}")?;
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
    /// Messages that fit for each sender, in a channel; bytes in a channel of bytes.
    pub capacity: Option<u64>,
    /// Places for those who connect to whoever owns it: the most senders, clients or subscribers that there can be.
    pub places: u32,
    /// Who takes part, or did last in its place: the owner first.
    pub peers: Vec<Peer>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", Entry::HEAD)?;
        write!(f, "{}", self.entry)?;
        if let (Some(kind), Some(overflow)) = (self.kind, self.overflow) {
            write!(f, "\nkind {kind:?}, overflow {overflow:?}, places {}", self.places)?;
        }
        if let Some(capacity) = self.capacity {
            write!(f, ", capacity {capacity}")?;
        }
        for peer in &self.peers {
            write!(f, "\n{peer}")?;
        }
        Ok(())
    }
}

/// Lists what lies in the directory of this user, sorted by name.
///
/// # Guarantees
/// It writes nothing, takes no lock and disturbs nobody: memory is mapped for reading only. What is wrong with one name is
/// told in its [entry](Usage::Refused). A peer may have written anything: text is shown without control characters, and cut.
///
/// # Errors
/// [`OpenError::Segment`] if the directory cannot be used. One that is missing is empty.
///
/// # Examples
/// ```
/// # let place = tempfile::tempdir()?;
/// # let options = tidewire::Options::new().directory(place.path().join("segments"));
/// let rx = options.receiver::<u64>("ticks")?;
/// // `tidewire::list()` looks into the directory of this user.
/// for entry in options.list()? {
///     println!("{entry}");
/// #   assert_eq!((entry.name.as_str(), entry.here), ("ticks", 1));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn list() -> Result<Vec<Entry>, OpenError> {
    Options::new().list()
}

/// Looks at what lies under a name. Guarantees are those of [`list`]. How much is queued is not seen from outside: a receiver
/// [tells](crate::Receiver::senders), and so does a [sender](crate::Sender::len); so does a reader of a latest value its
/// [version](crate::Reader::version).
///
/// # Errors
/// [`OpenError::NotFound`], else as [`list`].
///
/// # Examples
/// ```no_run
/// println!("{}", tidewire::inspect("ticks")?);
/// # Ok::<(), tidewire::OpenError>(())
/// ```
pub fn inspect(name: &str) -> Result<Report, OpenError> {
    Options::new().inspect(name)
}

/// Removes what nobody uses from the directory of this user, or only says what it would remove.
///
/// What is removed is lost for whoever would have gone on with it: messages that were sent and not received, and latest
/// values that have no writer. Readers that have such a value open keep it, and never see another writer.
///
/// # Errors
/// [`OpenError::Segment`] if the directory cannot be used, or the system refuses.
///
/// # Examples
/// ```no_run
/// use tidewire::shm::CleanMode;
///
/// for found in tidewire::clean(CleanMode::DryRun)? {
///     println!("{}: {:?}", found.name, found.verdict);
/// }
/// # Ok::<(), tidewire::OpenError>(())
/// ```
pub fn clean(mode: CleanMode) -> Result<Vec<FoundSegment>, OpenError> {
    Options::new().clean(mode)
}

impl Options {
    /// As [`list`](crate::list()), with these options, of which the directory matters.
    ///
    /// # Errors
    /// As [`list`](crate::list()).
    pub fn list(&self) -> Result<Vec<Entry>, OpenError> {
        let found = Segment::clean_with(CleanMode::DryRun, &self.segment_options())?;
        Ok(found.into_iter().map(|found| self.report(found).entry).collect())
    }

    /// As [`inspect`](crate::inspect()), with these options, of which the directory matters.
    ///
    /// # Errors
    /// As [`inspect`](crate::inspect()).
    pub fn inspect(&self, name: &str) -> Result<Report, OpenError> {
        let found = Segment::clean_with(CleanMode::DryRun, &self.segment_options())?;
        let found = found.into_iter().find(|found| found.name.as_str() == name);
        found.map(|found| self.report(found)).ok_or_else(|| OpenError::NotFound { name: name.to_owned() })
    }

    /// As [`clean`](crate::clean()), with these options, of which the directory matters.
    ///
    /// # Errors
    /// As [`clean`](crate::clean()).
    pub fn clean(&self, mode: CleanMode) -> Result<Vec<FoundSegment>, OpenError> {
        Ok(Segment::clean_with(mode, &self.segment_options())?)
    }

    fn report(&self, found: FoundSegment) -> Report {
        let pattern = Pattern::of(found.kind);
        let usage = match found.verdict {
            Verdict::InUse => Usage::InUse,
            Verdict::Stale => Usage::Stale,
            Verdict::Refused(error) => Usage::Refused(shown(error.to_string().as_bytes())),
            _ => Usage::Unmarked,
        };
        let entry = Entry {
            name: found.name.to_string(),
            pattern,
            usage,
            message: String::new(),
            bytes: found.bytes,
            created: found.created,
            here: 0,
        };
        let mut report =
            Report { entry, kind: None, overflow: None, capacity: None, places: 0, peers: Vec::new() };
        if let (Some(kind), false) = (pattern.kind(), matches!(report.entry.usage, Usage::Refused(_))) {
            if let Err(error) = self.look_into(&mut report, kind) {
                report.entry.usage = Usage::Refused(shown(error.to_string().as_bytes()));
            }
        }
        report
    }

    /// Reads what its creator wrote, and who is there.
    fn look_into(&self, report: &mut Report, kind: u32) -> Result<(), OpenError> {
        let segment = Segment::open_read_only_with(&report.entry.name, &self.segment_options())?;
        let (found, parts) = Composite::open(segment.region(), kind)?;
        report.entry.message = shown(&found.text);
        let mut parts = parts.into_iter();
        let Some(region) = parts.next() else { return Ok(()) };
        if matches!(report.entry.pattern, Pattern::Channel | Pattern::Bytes) {
            let (kind, overflow) = chosen(&found.numbers)?;
            (report.kind, report.overflow) = (Some(kind), Some(overflow));
            let queue = parts.next().and_then(|queue| Header::inspect(&queue).ok());
            report.capacity = queue.map(|queue| queue.capacity);
        }
        // Each entry takes a line, and so does what stands before them; the last page may have room for more.
        let room = u32::try_from(region.len() / 128 - 1).unwrap_or(0).min(tidewire_shm::bell::ROSTER_MAX);
        let entries = match report.entry.pattern {
            Pattern::Latest => 1,
            _ => {
                let [most, ..] = found.numbers;
                u32::try_from(most).unwrap_or(u32::MAX).saturating_add(1).min(room)
            }
        };
        report.places = entries.saturating_sub(1);
        let roster = Roster::open(region, entries)?;
        let leases = segment.leases()?;
        report.peers = (0..entries).filter_map(|i| peer(report.entry.pattern, &roster, &leases, i)).collect();
        let here = report.peers.iter().filter(|peer| peer.standing == Standing::Here);
        report.entry.here = here.count();
        Ok(())
    }
}

/// What an entry says; `None` if nobody ever had it.
fn peer(pattern: Pattern, roster: &Roster<Untrusted>, leases: &SegmentLeases, index: u32) -> Option<Peer> {
    let said = roster.entry(index);
    if said.generation == 0 {
        return None;
    }
    let address = NoticeAddress::from_words(said.notice);
    let standing = match pattern.lease(index).map(|role| leases.tenancy(role)) {
        _ if !said.present => Standing::Left,
        Some(Tenancy::Held) => Standing::Here,
        Some(Tenancy::Vacant) => Standing::Died,
        _ => match DeathWatch::find(address) {
            Ok(watch) if watch.state().is_gone() => Standing::Died,
            Ok(_) => Standing::Here,
            Err(_) => Standing::Unknown,
        },
    };
    let [low, _] = said.notice;
    let counts = pattern.role(index) == "sender";
    let count = |counter| if counts { roster.counter(index, counter) } else { 0 };
    Some(Peer {
        role: pattern.role(index),
        number: index.saturating_sub(1),
        pid: u32::try_from(low & u64::from(u32::MAX)).ok().filter(|pid| *pid != 0),
        standing,
        generation: said.generation,
        dropped: count(DROPPED),
        waited: count(WAITED),
    })
}

/// A text that anybody may have written.
fn shown(text: &[u8]) -> String {
    let printed = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(text).chars().take(MAX_SHOWN).map(printed).collect()
}
