//! Creation: a segment is whole before it has a name.
//!
//! # Protocol
//! ```text
//! unnamed temporary file -> room -> mapping -> initialised -> linked under its name, in one step
//! ```
//! Where the file system has no unnamed files, a named temporary one takes its place:
//! ```text
//! named temporary file -> locked -> still linked? -> room -> mapping -> initialised -> renamed, in one step
//! ```
//! Its name cannot be that of a segment, nor be guessed, and says which boot and process made it. The lock belongs
//! to the open file and dies with the last process that has it open; so a temporary file that can be locked has no
//! creator, and the next creator in the directory removes it.
//!
//! # Crash argument
//!
//! | point | killed here, the others see | who repairs |
//! |---|---|---|
//! | C0 the unnamed file exists, up to the link | nothing | nobody: the kernel frees it |
//! | C1 linked or renamed | the whole segment | nobody |
//! | C2 the named temporary file exists, not yet locked | a name that is not a segment's | next creation there |
//! | C3 locked, up to the rename | the same, unlocked by the kernel | next creation there |
//!
//! Between its creation and its lock a temporary file looks dead to others and may be removed: the creator sees
//! this after it took the lock, and starts again.

use alloc::format;
use alloc::string::String;
use core::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, fchmod, flock, fstat, linkat, openat,
    renameat_with, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};

use super::directory::Directory;
use super::error::{InitError, SegmentError};
use super::map::{Access, Mapping};
use super::name::Name;
use super::options::SegmentOptions;
use super::{Segment, origin};
use crate::own_fd::through_path;
use crate::region::{Origin, Region};
use crate::trust::Untrusted;

/// How a temporary name begins: no name of a segment has this byte.
const TEMPORARY: &str = "#";
/// How often a removed temporary file is replaced. One loss needs another creation at the wrong moment.
const ATTEMPTS: u32 = 64;
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A whole segment without a name. Dropped, it leaves nothing.
#[derive(Debug)]
pub(super) struct Draft<'d> {
    directory: &'d Directory,
    temporary: Option<Temporary<'d>>,
    fd: OwnedFd,
    mapping: Mapping,
    origin: Origin,
}

impl<'d> Draft<'d> {
    pub(super) fn make(
        directory: &'d Directory,
        len: usize,
        options: &SegmentOptions,
        init: impl FnOnce(Region<Untrusted>) -> Result<(), InitError>,
    ) -> Result<Self, SegmentError> {
        if len == 0 || isize::try_from(len).is_err() {
            return Err(SegmentError::Length { asked: len });
        }
        let origin = origin::fresh()?;
        let unnamed = if options.named_temporary { None } else { unnamed(directory)? };
        let (fd, temporary) = match unnamed {
            Some(fd) => (fd, None),
            None => {
                remove_leftovers(directory)?;
                let (fd, temporary) = Temporary::make(directory, origin.boot_id)?;
                (fd, Some(temporary))
            }
        };
        fchmod(&fd, MODE).map_err(SegmentError::on("set the mode of the segment"))?;
        let mapping = Mapping::create(&fd, len, options)?;
        init(mapping.region(origin)).map_err(SegmentError::Init)?;
        Ok(Self { directory, temporary, fd, mapping, origin })
    }

    /// Gives the segment its name, in one step, if nobody has it. Only then may others open it, also by a temporary name.
    pub(super) fn publish(&mut self, name: &Name) -> Result<(), SegmentError> {
        self.directory.admit_to(&self.fd)?;
        let published = match &mut self.temporary {
            None => {
                let to = self.directory.fd();
                through_path(self.fd.as_raw_fd(), |open_file| {
                    retry_on_intr(|| linkat(CWD, open_file, to, name.as_str(), AtFlags::SYMLINK_FOLLOW))
                })
            }
            Some(temporary) => temporary.rename(name, &self.fd),
        };
        published.map_err(|errno| match errno {
            Errno::EXIST => SegmentError::AlreadyExists { name: name.clone() },
            _ => SegmentError::on("name the segment")(errno),
        })
    }

    /// Opens the file, which has no name yet, a second time.
    pub(super) fn reopen(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let open = |place: &OwnedFd, path: &str| retry_on_intr(|| openat(place, path, flags, Mode::empty()));
        match &self.temporary {
            None => through_path(self.fd.as_raw_fd(), |open_file| open(self.directory.fd(), open_file)),
            Some(temporary) => open(self.directory.fd(), &temporary.name),
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// The segment, which [`publish`](Self::publish) gave its name.
    pub(super) fn into_segment(self) -> Segment {
        let Self { fd, mapping, origin, .. } = self;
        Segment { mapping, fd, origin, named: None, access: Access::ReadWrite, created: true }
    }
}

/// An unnamed file. `None`: the file system has none.
fn unnamed(directory: &Directory) -> Result<Option<OwnedFd>, SegmentError> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| openat(directory.fd(), ".", flags, MODE)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => Ok(None),
        Err(errno) => Err(SegmentError::on("create an unnamed file")(errno)),
    }
}

/// The name of a temporary file; removed with this value, unless it was renamed.
#[derive(Debug)]
struct Temporary<'d> {
    directory: &'d Directory,
    name: String,
    renamed: bool,
}

impl<'d> Temporary<'d> {
    fn make(directory: &'d Directory, boot_id: u64) -> Result<(OwnedFd, Self), SegmentError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let failed = || SegmentError::on("create a temporary file");
        for _ in 0..ATTEMPTS {
            let name = format!("{TEMPORARY}{boot_id:016x}-{}-{:032x}", process::id(), origin::random()?);
            let fd = match retry_on_intr(|| openat(directory.fd(), name.as_str(), flags, MODE)) {
                Ok(fd) => fd,
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(failed()(errno)),
            };
            let temporary = Self { directory, name, renamed: false };
            if claim(&fd)? {
                return Ok((fd, temporary));
            }
        }
        Err(failed()(Errno::AGAIN))
    }

    fn rename(&mut self, name: &Name, fd: &OwnedFd) -> Result<(), Errno> {
        let directory = self.directory.fd();
        retry_on_intr(|| {
            renameat_with(directory, self.name.as_str(), directory, name.as_str(), RenameFlags::NOREPLACE)
        })?;
        self.renamed = true;
        // The lock has done its work. Left in place, it would do no harm.
        let _unlocked = flock(fd, FlockOperation::Unlock);
        Ok(())
    }
}

/// Locks a temporary file. `false`: others took it for a leftover, and it is lost.
fn claim(fd: &OwnedFd) -> Result<bool, SegmentError> {
    match retry_on_intr(|| flock(fd, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => {}
        // Somebody found it unlocked and is removing it.
        Err(Errno::WOULDBLOCK) => return Ok(false),
        Err(errno) => return Err(SegmentError::on("lock a temporary file")(errno)),
    }
    // From here on nobody removes it; whether somebody did before shows in the number of its links.
    let stat = fstat(fd).map_err(SegmentError::on("inspect a temporary file"))?;
    Ok(stat.st_nlink == 1)
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // Gone already, or left for the next creation.
            let _removed = unlinkat(self.directory.fd(), self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Removes the temporary files of creators that are gone.
fn remove_leftovers(directory: &Directory) -> Result<(), SegmentError> {
    for entry in directory.entries()? {
        let entry = entry.map_err(SegmentError::on("look for leftovers"))?;
        if entry.file_name().to_bytes().starts_with(TEMPORARY.as_bytes()) {
            // One that cannot be removed is in nobody's way.
            let _kept = remove_if_dead(directory, entry.file_name());
        }
    }
    Ok(())
}

fn remove_if_dead(directory: &Directory, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(directory.fd(), name, flags, Mode::empty())?;
    flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    // The lock is held: the creator is gone, or will see that its file has no link. If it finished in between, the
    // file has another name by now, and this one is not found.
    unlinkat(directory.fd(), name, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::{Directory, Draft, Name, TEMPORARY, Temporary, claim, remove_leftovers};
    use crate::segment::{SegmentError, SegmentOptions};
    use std::fs;

    fn files(place: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(place.path().join("d")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn leftovers_are_removed_and_live_files_are_not() {
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d"));
        let directory = Directory::create(&options).unwrap();
        fs::write(place.path().join("d/#dead"), b"half").unwrap();
        fs::write(place.path().join("d/segment"), b"not temporary").unwrap();
        let (fd, alive) = Temporary::make(&directory, 7).unwrap();

        remove_leftovers(&directory).unwrap();
        let mut left = files(&place);
        left.sort();
        assert_eq!(left, [alive.name.clone(), "segment".into()]);

        // As after a kill: the lock goes with the descriptor, the name stays.
        drop(fd);
        remove_leftovers(&directory).unwrap();
        assert_eq!(files(&place), ["segment"]);
    }

    #[test]
    fn a_temporary_file_that_others_removed_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let open = |name| {
            let path = place.path().join(name);
            std::os::fd::OwnedFd::from(fs::File::options().create(true).append(true).open(path).unwrap())
        };
        let mine = open("#one");
        assert!(claim(&mine).unwrap());
        assert!(!claim(&open("#one")).unwrap(), "it is locked");
        let removed = open("#two");
        fs::remove_file(place.path().join("#two")).unwrap();
        assert!(!claim(&removed).unwrap(), "it has no name any more");
    }

    #[test]
    fn a_draft_leaves_nothing_whichever_way_it_ends() {
        let place = tempfile::tempdir().unwrap();
        for named in [false, true] {
            let options = SegmentOptions::new().directory(place.path().join("d")).named_temporary(named);
            let directory = Directory::create(&options).unwrap();
            let draft = Draft::make(&directory, 4096, &options, |_| Ok(())).unwrap();
            let temporary = files(&place);
            assert_eq!(temporary.len(), usize::from(named), "{temporary:?}");
            assert!(temporary.iter().all(|name| name.starts_with(TEMPORARY) && Name::new(name).is_err()));
            drop(draft);
            assert!(files(&place).is_empty());

            let refused = Draft::make(&directory, 4096, &options, |_| Err("no".into())).unwrap_err();
            assert!(matches!(refused, SegmentError::Init(_)));
            assert!(files(&place).is_empty());
        }
    }

    #[test]
    fn a_draft_that_lost_its_name_can_be_published_later() {
        let place = tempfile::tempdir().unwrap();
        for named in [false, true] {
            let options = SegmentOptions::new().directory(place.path().join("d")).named_temporary(named);
            let directory = Directory::create(&options).unwrap();
            let name = Name::new("wanted").unwrap();
            fs::write(place.path().join("d/wanted"), b"").unwrap();
            let mut draft = Draft::make(&directory, 4096, &options, |_| Ok(())).unwrap();
            assert!(matches!(draft.publish(&name), Err(SegmentError::AlreadyExists { .. })));
            fs::remove_file(place.path().join("d/wanted")).unwrap();
            draft.publish(&name).unwrap();
            drop(draft);
            assert_eq!(files(&place), ["wanted"]);
            directory.unlink(&name).unwrap();
        }
    }
}
