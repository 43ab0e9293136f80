//! The cleaner: which segments a directory holds, who holds them, and away with those that nobody does.
//!
//! # Protocol
//! | step | why |
//! |---|---|
//! | open the file, read its header, ask for its locks | all that a dry run does: no lock is taken, nothing is written |
//! | write lock on all bytes, the gate and [`RoleId::CLEANER`] too | given: nobody holds it, nor can until it ends |
//! | is the name still this file? | else it was replaced: left alone |
//! | remove the name, then unlock | who opened it in between finds its roles held, then its name gone |
//!
//! # Crash argument
//! | point | killed here, the others see | who repairs |
//! |---|---|---|
//! | C0 all bytes locked | the stale segment: the kernel unlocks | the next cleaner or joiner |
//! | C1 name removed | nothing | nobody |

use alloc::vec::Vec;
use core::ops::Range;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::fstat;
use rustix::io::{pread, retry_on_intr};

use super::directory::Directory;
use super::error::SegmentError;
use super::map::{Access, Identity};
use super::name::Name;
use super::options::SegmentOptions;
use super::stale::{Claim, PRESENCE, locked_in, remove};
use super::{Segment, origin};
use crate::header::MAGIC;
use crate::lease::RoleId;

/// The byte of producer 0.
const PRODUCERS: u64 = 16;
/// How many producers are shown at most.
const PRODUCERS_SHOWN: u64 = 4096;
/// How many questions about the locks of one segment are asked at most.
const QUESTIONS: u32 = 10_000;

/// Where the header has what is shown; see [`Header`](crate::Header).
const KIND_AT: usize = 24;
const BOOT_ID_AT: usize = 88;
const SHOWN_BYTES: usize = 96;

/// What the cleaner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CleanMode {
    /// Say what would be removed, and change nothing.
    DryRun,
    /// Remove what nobody holds.
    Remove,
}

/// What the cleaner made of a segment.
#[derive(Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// Somebody holds a role of it or is present in it. Left alone.
    InUse,
    /// Nobody holds it, and it is still there, since this was a [dry run](CleanMode::DryRun).
    Stale,
    /// Nobody held it, and its name is gone.
    Removed,
    /// No structure begins in it, so it may be anybody's, used in ways that the cleaner knows nothing of. Left alone.
    Unmarked,
    /// The file cannot be a segment, or not be looked at. Left alone.
    Refused(SegmentError),
}

/// A segment that the cleaner found.
#[derive(Debug)]
#[non_exhaustive]
pub struct FoundSegment {
    /// Its name.
    pub name: Name,
    /// Bytes of its file; 0 if it was refused.
    pub bytes: u64,
    /// Which structure lies in it, as its header numbers them; `None` if there is none.
    pub kind: Option<u32>,
    /// When its file was made, where the file system tells.
    pub created: Option<SystemTime>,
    /// The boot in which it was made, as its header says; `None` if there is none.
    pub boot_id: Option<u64>,
    /// Whether that is the running boot.
    pub of_this_boot: bool,
    /// The roles that were held when it was looked at, in order. Of the producers the first 4096 found, no more.
    pub held: Vec<RoleId>,
    /// Whether `held` is not all: more producers than that were held, or their bytes were locked in more pieces than one
    /// look goes through, or somebody had all bytes for a moment, which is no role.
    pub more_held: bool,
    /// Whether somebody was [present](crate::Presence), or just joining.
    pub present: bool,
    /// What was made of it.
    pub verdict: Verdict,
}

impl Segment {
    /// Lists the segments of the default directory and, if asked to, removes those that nobody holds.
    ///
    /// A segment is held if somebody [joined](Self::join) it, or has a [lease](Self::leases) of one of its roles. Programs
    /// that do neither are not seen: do not clean a directory that such programs use. Who has a removed segment mapped
    /// keeps it, but nobody else will find it.
    ///
    /// # Guarantees
    /// - Removes no segment that somebody holds, even if it is taken at that very moment: then its taker is refused, or
    ///   the cleaner is.
    /// - Removes only what begins with the header of a structure.
    /// - A dry run takes no lock and writes nothing.
    /// - Killed at any moment, each segment is there or gone.
    ///
    /// # Errors
    /// [`SegmentError::Directory`], [`SegmentError::Permission`], [`SegmentError::Io`]: the directory cannot be used.
    /// A directory that is missing is empty. What is wrong with a single file, also that it cannot be removed, is its
    /// [verdict](Verdict::Refused).
    ///
    /// # Examples
    /// ```no_run
    /// use tidewire_shm::{CleanMode, Segment};
    ///
    /// for found in Segment::clean(CleanMode::DryRun)? {
    ///     println!("{}: {} bytes, {:?}", found.name, found.bytes, found.verdict);
    /// }
    /// # Ok::<(), tidewire_shm::SegmentError>(())
    /// ```
    pub fn clean(mode: CleanMode) -> Result<Vec<FoundSegment>, SegmentError> {
        Self::clean_with(mode, &SegmentOptions::new())
    }

    /// [`clean`](Self::clean) with options, of which only the directory and who is admitted there matter.
    ///
    /// # Errors
    /// As [`clean`](Self::clean).
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{CleanMode, Segment, SegmentOptions, Verdict};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// Segment::create_with("raw", 4096, &options, |_region| Ok(()))?;
    /// let found = Segment::clean_with(CleanMode::Remove, &options)?;
    /// assert!(matches!(found[0].verdict, Verdict::Unmarked), "no structure lies in it");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clean_with(mode: CleanMode, options: &SegmentOptions) -> Result<Vec<FoundSegment>, SegmentError> {
        let Some(directory) = Directory::existing(options)? else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for name in directory.list()? {
            all.extend(judge(&directory, name, mode)?);
        }
        Ok(all)
    }

    /// Takes the name away from this memory, if nobody uses it any more; for whoever left it, and kept a descriptor. Says
    /// whether the name does not stand for it any more.
    ///
    /// # Guarantees
    /// As [`clean`](Self::clean); what has the name by now, if that is other memory, is left alone.
    ///
    /// # Errors
    /// As [`clean`](Self::clean), and [`SegmentError::Name`] if it is no name.
    ///
    /// # Examples
    /// ```
    /// use tidewire_shm::{Segment, SegmentOptions};
    ///
    /// let place = tempfile::tempdir()?;
    /// let options = SegmentOptions::new().directory(place.path().join("segments"));
    /// let memory = Segment::anonymous(4096)?;
    /// assert!(Segment::discard_with("never-had-it", &memory, &options)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard_with(
        name: &str,
        memory: impl AsFd,
        options: &SegmentOptions,
    ) -> Result<bool, SegmentError> {
        let name = Name::new(name)?;
        let Some(directory) = Directory::existing(options)? else {
            return Ok(true);
        };
        let identity = |fd: BorrowedFd<'_>| {
            fstat(fd).map(|stat| Identity::of(&stat)).map_err(SegmentError::on("inspect the segment"))
        };
        let (found, fd) = match look(&directory, &name)? {
            Some(seen) => seen,
            None => return Ok(true),
        };
        if identity(fd.as_fd())? != identity(memory.as_fd())? {
            return Ok(true);
        }
        if !matches!(found.verdict, Verdict::Stale) {
            return Ok(false);
        }
        let removed = remove_stale(&directory, &name, &fd, found)?;
        Ok(removed.is_none_or(|found| matches!(found.verdict, Verdict::Removed)))
    }
}

/// `None`: the name is gone, or another's, by now.
fn judge(directory: &Directory, name: Name, mode: CleanMode) -> Result<Option<FoundSegment>, SegmentError> {
    let (found, fd) = match look(directory, &name) {
        Ok(Some(seen)) => seen,
        Ok(None) => return Ok(None),
        Err(error) => return Ok(Some(refused(name, error))),
    };
    if mode == CleanMode::DryRun || !matches!(found.verdict, Verdict::Stale) {
        return Ok(Some(found));
    }
    match remove_stale(directory, &name, &fd, found) {
        Ok(found) => Ok(found),
        // What is wrong with one file is its verdict.
        Err(error) => Ok(Some(refused(name, error))),
    }
}

fn remove_stale(
    directory: &Directory,
    name: &Name,
    fd: &OwnedFd,
    found: FoundSegment,
) -> Result<Option<FoundSegment>, SegmentError> {
    let Some(claim) = Claim::open(directory, name, fd)? else {
        return Ok(None);
    };
    Ok(match remove_if_unheld(directory, name, &claim)? {
        Removal::Done => Some(FoundSegment { verdict: Verdict::Removed, ..found }),
        Removal::Replaced => None,
        Removal::Held => {
            let Holders { held, more_held, present } = holders(fd.as_fd())?;
            Some(FoundSegment { held, more_held, present, verdict: Verdict::InUse, ..found })
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Removal {
    Done,
    /// Somebody came in between.
    Held,
    /// The name is gone or another's.
    Replaced,
}

fn remove_if_unheld(directory: &Directory, name: &Name, claim: &Claim) -> Result<Removal, SegmentError> {
    if !claim.try_all()? {
        return Ok(Removal::Held);
    }
    if !claim.has_name(directory, name)? {
        return Ok(Removal::Replaced);
    }
    remove(directory, name)?;
    Ok(Removal::Done)
}

fn refused(name: Name, error: SegmentError) -> FoundSegment {
    FoundSegment {
        name,
        bytes: 0,
        kind: None,
        created: None,
        boot_id: None,
        of_this_boot: false,
        held: Vec::new(),
        more_held: false,
        present: false,
        verdict: Verdict::Refused(error),
    }
}

/// What can be seen without changing anything. `None`: the name is gone.
fn look(directory: &Directory, name: &Name) -> Result<Option<(FoundSegment, OwnedFd)>, SegmentError> {
    let (fd, len) = match directory.open_file(name, Access::ReadOnly) {
        Err(SegmentError::NotFound { .. }) => return Ok(None),
        opened => opened?,
    };
    let (kind, boot_id) = header(&fd)?.unzip();
    let Holders { held, more_held, present } = holders(fd.as_fd())?;
    let file = File::from(fd);
    let created = file.metadata().and_then(|metadata| metadata.created()).ok();
    let verdict = if present || more_held || !held.is_empty() {
        Verdict::InUse
    } else if kind.is_none() {
        Verdict::Unmarked
    } else {
        Verdict::Stale
    };
    let of_this_boot = boot_id == Some(origin::boot_id()?);
    let (name, bytes) = (name.clone(), len as u64);
    let found =
        FoundSegment { name, bytes, kind, created, boot_id, of_this_boot, held, more_held, present, verdict };
    Ok(Some((found, file.into())))
}

/// The kind and the boot that the header names. Read, not mapped: the file may be shortened at any time.
fn header(fd: &OwnedFd) -> Result<Option<(u32, u64)>, SegmentError> {
    let mut bytes = [0_u8; SHOWN_BYTES];
    let read = retry_on_intr(|| pread(fd, &mut bytes, 0)).map_err(SegmentError::on("read the header"))?;
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|&bytes| u64::from_ne_bytes(bytes));
    if read < SHOWN_BYTES || number(0) != Some(MAGIC) {
        return Ok(None);
    }
    let kind =
        bytes.get(KIND_AT..).and_then(|rest| rest.first_chunk()).map(|&bytes| u32::from_ne_bytes(bytes));
    Ok(kind.zip(number(BOOT_ID_AT)))
}

/// Who has bytes of the file locked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holders {
    held: Vec<RoleId>,
    more_held: bool,
    present: bool,
}

/// Which roles are held, and whether any other byte is.
fn holders(fd: BorrowedFd<'_>) -> Result<Holders, SegmentError> {
    let (ranges, all) = locked(fd)?;
    let mut found = Holders { more_held: !all, ..Holders::default() };
    let mut room = PRODUCERS_SHOWN;
    for range in ranges {
        for (number, role) in [(0, RoleId::CREATOR), (1, RoleId::CONSUMER), (2, RoleId::CLEANER)] {
            if range.contains(&number) {
                found.held.push(role);
            }
        }
        found.present |= range.start < PRODUCERS && range.end > PRESENCE;
        let (first, end) = (range.start.max(PRODUCERS), range.end);
        // Who has all bytes has no number of producers.
        let shown = if end == u64::MAX { first } else { end.min(first.saturating_add(room)) };
        let roles = (first..shown).map_while(|byte| RoleId::producer(u32::try_from(byte - PRODUCERS).ok()?));
        let before = found.held.len();
        found.held.extend(roles);
        found.more_held |= first + ((found.held.len() - before) as u64) < end;
        room -= shown.saturating_sub(first);
    }
    found.held.sort();
    found.held.dedup();
    Ok(found)
}

/// The ranges that are locked, and whether these are all.
fn locked(fd: BorrowedFd<'_>) -> Result<(Vec<Range<u64>>, bool), SegmentError> {
    let everything: Range<u64> = 0..u64::MAX;
    let (mut found, mut open) = (Vec::new(), Vec::from([everything]));
    for _ in 0..QUESTIONS {
        let Some(range) = open.pop() else {
            break;
        };
        let Some(some) = locked_in(fd, &range)? else {
            continue;
        };
        let some = some.start.max(range.start)..some.end.min(range.end);
        open.extend(
            [range.start..some.start, some.end..range.end].into_iter().filter(|rest| !rest.is_empty()),
        );
        found.push(some);
    }
    Ok((found, open.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::{
        Claim, Directory, Holders, Name, PRODUCERS, PRODUCERS_SHOWN, QUESTIONS, Removal, Segment,
        SegmentOptions, holders, remove_if_unheld,
    };
    use crate::lease::{Liveness, RoleId};
    use core::ops::Range;
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_name_that_was_given_to_another_file_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d"));
        let make = |name| Segment::create_with(name, 4096, &options, |_| Ok(())).unwrap();
        let (first, second) = (make("one"), make("two"));
        let directory = Directory::create(&options).unwrap();
        let name = Name::new("one").unwrap();
        let claim = |segment: &Segment| Claim::open(&directory, &name, &segment.fd).unwrap();
        let late = claim(&first).unwrap();
        std::fs::rename(place.path().join("d/two"), place.path().join("d/one")).unwrap();
        assert_eq!(remove_if_unheld(&directory, &name, &late).unwrap(), Removal::Replaced);
        assert!(claim(&first).is_none(), "the name is not its any more");

        let lease = second.leases().unwrap().acquire(RoleId::CONSUMER).unwrap();
        let claimed = claim(&second).unwrap();
        assert_eq!(remove_if_unheld(&directory, &name, &claimed).unwrap(), Removal::Held);
        let only = Holders { held: [RoleId::CONSUMER].into(), more_held: false, present: false };
        assert_eq!(holders(second.fd.as_fd()).unwrap(), only);
        drop(lease);
        assert!(directory.stat(&name).unwrap().is_some());
        assert_eq!(remove_if_unheld(&directory, &name, &claimed).unwrap(), Removal::Done);
        assert!(directory.stat(&name).unwrap().is_none());
    }

    #[test]
    fn what_is_held_is_listed_or_said_to_be_more() {
        let place = tempfile::tempdir().unwrap();
        let file = || {
            let path = place.path().join("file");
            std::fs::File::options().create(true).truncate(false).read(true).write(true).open(path).unwrap()
        };
        // Keeps the bytes of `range` locked.
        let lock = |range: Range<u64>| {
            let locked = file();
            let number = |value: u64| libc::off_t::try_from(value).unwrap();
            let record = libc::flock {
                l_type: libc::F_WRLCK.try_into().unwrap(),
                l_whence: libc::SEEK_SET.try_into().unwrap(),
                l_start: number(range.start),
                l_len: number(range.end - range.start),
                l_pid: 0,
            };
            // SAFETY: the descriptor is open; reads one `flock`.
            let answer = unsafe { libc::fcntl(locked.as_raw_fd(), libc::F_OFD_SETLK, &raw const record) };
            assert_eq!(answer, 0, "{range:?}");
            locked
        };
        let look = || holders(file().as_fd()).unwrap();
        let count = || {
            let found = look();
            (found.held.len() as u64, found.more_held, found.present)
        };
        let most = PRODUCERS + PRODUCERS_SHOWN;
        assert_eq!(look(), Holders::default());
        let whole = lock(PRODUCERS..most);
        assert_eq!(count(), (PRODUCERS_SHOWN, false, false));
        let one_more = lock(most..most + 1);
        assert_eq!(count(), (PRODUCERS_SHOWN, true, false));
        drop(whole);
        assert_eq!(count(), (1, false, false));
        drop(one_more);
        // Numbers that no producer has.
        let beyond = lock(u64::from(u32::MAX)..u64::from(u32::MAX) + 100);
        let found = look();
        assert!(found.more_held && found.held.len() < 100, "{found:?}");
        drop(beyond);
        let everything = lock(0..0);
        let found = look();
        assert_eq!(found.held, [RoleId::CREATOR, RoleId::CONSUMER, RoleId::CLEANER]);
        assert!(found.more_held && found.present);
        drop(everything);
        // In more pieces than one look goes through.
        let pieces = lock(PRODUCERS..PRODUCERS + u64::from(QUESTIONS) + 10);
        for odd in (0..u64::from(QUESTIONS) + 10).step_by(2) {
            let record = libc::flock {
                l_type: libc::F_UNLCK.try_into().unwrap(),
                l_whence: libc::SEEK_SET.try_into().unwrap(),
                l_start: (PRODUCERS + odd).try_into().unwrap(),
                l_len: 1,
                l_pid: 0,
            };
            // SAFETY: the descriptor is open; reads one `flock`.
            let answer = unsafe { libc::fcntl(pieces.as_raw_fd(), libc::F_OFD_SETLK, &raw const record) };
            assert_eq!(answer, 0);
        }
        let found = look();
        assert!(found.more_held && found.held.len() as u64 <= PRODUCERS_SHOWN, "{}", found.held.len());
    }
}
