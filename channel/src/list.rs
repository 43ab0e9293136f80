//! What there is: the names of a directory, what lies under each, and who takes part. Nothing of it is written, and no lock
//! is taken.

mod depth;
mod report;

use tidewire_shm::bell::Roster;
use tidewire_shm::{
    CleanMode, Composite, DeathWatch, FoundSegment, Liveness, NoticeAddress, Segment, SegmentLeases, Tenancy,
    Untrusted, Verdict,
};

use crate::error::OpenError;
use crate::options::{Kind, Options};
use crate::queue::PASSED;
use crate::receive::RECEIVER;
use crate::send::{DROPPED, WAITED};
use crate::typed::chosen;

use depth::Depths;
pub use report::{Entry, Pattern, Peer, Report, Standing, Usage};

/// Characters of a foreign text that are kept.
const MAX_SHOWN: usize = 4096;

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

/// Looks at what lies under a name. Guarantees are those of [`list`]. It needs no type: how much waits of each sender, how far
/// behind each subscriber is, and the newest version, are told by words that do not depend on it. What a liar wrote there is
/// told as a number that can be, or not at all.
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
        let mut report = Report {
            entry,
            kind: None,
            overflow: None,
            capacity: None,
            newest: None,
            kept: None,
            places: 0,
            peers: Vec::new(),
        };
        let refused = matches!(report.entry.usage, Usage::Refused(_));
        if let Some(kind) = pattern.kind().filter(|_| !refused)
            && let Err(error) = self.look_into(&mut report, kind)
        {
            report.entry.usage = Usage::Refused(shown(error.to_string().as_bytes()));
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
        }
        // Each entry takes a line, and so does what stands before them; the last page may have room for more.
        let room = u32::try_from(region.len() / 128)
            .unwrap_or(0)
            .saturating_sub(1)
            .min(tidewire_shm::bell::ROSTER_MAX);
        let entries = match report.entry.pattern {
            Pattern::Latest => 1,
            _ => {
                let [most, ..] = found.numbers;
                u32::try_from(most).unwrap_or(u32::MAX).saturating_add(1).min(room)
            }
        };
        report.places = entries.saturating_sub(1);
        let depths = parts.next().map(|part| depth::of(part, report.places)).unwrap_or_default();
        let roster = Roster::open(region, entries)?;
        let leases = segment.leases()?;
        report.peers = (0..entries).filter_map(|i| peer(report.entry.pattern, &roster, &leases, i)).collect();
        tell(report, &depths, roster.counter(RECEIVER, PASSED));
        let here = report.peers.iter().filter(|peer| peer.standing == Standing::Here);
        report.entry.here = here.count();
        Ok(())
    }
}

/// Tells how much waits. `passed`: what the receiver says that it passed, of messages that are overwritten.
fn tell(report: &mut Report, depths: &Depths, passed: u64) {
    let pattern = report.entry.pattern;
    if pattern == Pattern::Channel && depths.newest.is_some() && report.kind != Some(Kind::Single) {
        // Of one log it is not known whose it is.
        return;
    }
    (report.capacity, report.newest, report.kept) = (depths.capacity, depths.newest, depths.kept);
    for peer in &mut report.peers {
        match peer.role {
            "subscriber" => peer.lag = depths.lag(peer.number),
            "sender" | "client" => {
                peer.queued = depths.queued(peer.number, passed);
                peer.full = peer.queued.is_some() && peer.queued == depths.capacity;
                peer.unit = if pattern == Pattern::Channel { "messages" } else { "bytes" };
            }
            _ => {}
        }
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
        queued: None,
        unit: "",
        full: false,
        lag: None,
    })
}

/// A text that anybody may have written.
fn shown(text: &[u8]) -> String {
    let printed = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    String::from_utf8_lossy(text).chars().take(MAX_SHOWN).map(printed).collect()
}
