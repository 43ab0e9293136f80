//! The directory that names live in, and what a file in it must be.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::env;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, fstat, mkdirat, open, openat, statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::param::page_size;
use rustix::process::{Uid, geteuid};

use super::error::SegmentError;
use super::map::{Access, is_tmpfs};
use super::name::Name;
use super::options::SegmentOptions;

const FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const SHARED_MEMORY: &str = "/dev/shm";
/// Permission bits, without those for set-id and sticky.
const PERMISSIONS: u32 = 0o777;

/// A directory that only this user can change; every use of it goes through the descriptor.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
}

impl Directory {
    /// The directory of the options, or the default one; made if it is missing.
    pub(super) fn create(options: &SegmentOptions) -> Result<Self, SegmentError> {
        let path = path(options);
        let failed = || SegmentError::on("open the directory of segments");
        match Self::open(&path) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(failed())?,
        }
        match retry_on_intr(|| mkdirat(CWD, &path, Mode::RWXU)) {
            // The umask may have taken bits that the owner needs.
            Ok(()) => chmodat(CWD, &path, Mode::RWXU, AtFlags::empty())
                .map_err(SegmentError::on("set the mode of the directory of segments"))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(SegmentError::on("make the directory of segments")(errno)),
        }
        Self::open(&path).map_err(failed())?
    }

    /// The directory of the options, or the default one, if there is one.
    pub(super) fn existing(options: &SegmentOptions) -> Result<Option<Self>, SegmentError> {
        match Self::open(&path(options)) {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map_err(SegmentError::on("open the directory of segments"))?.map(Some),
        }
    }

    /// The outer error is the system's, the inner one a verdict.
    fn open(path: &Path) -> Result<Result<Self, SegmentError>, Errno> {
        let fd = match retry_on_intr(|| open(path, FLAGS, Mode::empty())) {
            Ok(fd) => fd,
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                // A component on the way may be at fault instead; then there is nothing to describe.
                let found = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| errno)?;
                return Ok(Err(SegmentError::Directory {
                    path: path.to_owned(),
                    expected: "a directory".to_owned(),
                    found: kind(&found).to_owned(),
                }));
            }
            Err(errno) => return Err(errno),
        };
        let stat = fstat(&fd)?;
        Ok(verify_directory(&stat, geteuid(), path).map(|()| Self { fd }))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Opens a file of the directory and checks all that can be checked without mapping it.
    pub(super) fn open_file(&self, name: &Name, access: Access) -> Result<(OwnedFd, usize), SegmentError> {
        let mode = match access {
            Access::ReadOnly => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        // NONBLOCK: so as not to wait at a FIFO that somebody put there.
        let flags = mode | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match retry_on_intr(|| openat(&self.fd, name.as_str(), flags, Mode::empty())) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(SegmentError::NotFound { name: name.clone() }),
            Err(errno) => return Err(self.not_opened(name, errno)),
        };
        let stat = fstat(&fd).map_err(SegmentError::on("inspect the segment"))?;
        if stat.st_nlink == 0 {
            return Err(SegmentError::NotFound { name: name.clone() });
        }
        let len = verify_file(&stat, geteuid())?;
        Ok((fd, len))
    }

    /// Whether the name is visibly taken: saves the work of losing.
    pub(super) fn refuse_taken(&self, name: &Name) -> Result<(), SegmentError> {
        match statat(&self.fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(SegmentError::AlreadyExists { name: name.clone() }),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(SegmentError::on("look for the name")(errno)),
        }
    }

    pub(super) fn unlink(&self, name: &Name) -> Result<(), SegmentError> {
        match retry_on_intr(|| unlinkat(&self.fd, name.as_str(), AtFlags::empty())) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(SegmentError::NotFound { name: name.clone() }),
            Err(errno) => Err(SegmentError::on("remove the name")(errno)),
        }
    }

    /// What the name stands for now; `None`: nothing.
    pub(super) fn stat(&self, name: &Name) -> Result<Option<Stat>, SegmentError> {
        match statat(&self.fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(SegmentError::on("look for the name")(errno)),
        }
    }

    /// The names of the regular files, sorted.
    pub(super) fn list(&self) -> Result<Vec<Name>, SegmentError> {
        let mut names = Vec::new();
        for entry in self.entries()? {
            let entry = entry.map_err(SegmentError::on("list the segments"))?;
            let Some(name) = entry.file_name().to_str().ok().and_then(|name| Name::new(name).ok()) else {
                continue;
            };
            let regular = match entry.file_type() {
                FileType::Unknown => self.stat(&name)?.is_some_and(|stat| is_regular(&stat)),
                kind => kind == FileType::RegularFile,
            };
            if regular {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn entries(&self) -> Result<Dir, SegmentError> {
        Dir::read_from(&self.fd).map_err(SegmentError::on("list the segments"))
    }

    /// Names what stands in the way of a file that could not be opened.
    fn not_opened(&self, name: &Name, errno: Errno) -> SegmentError {
        match self.stat(name) {
            Ok(Some(stat)) if !is_regular(&stat) => wrong_kind(&stat),
            _ => SegmentError::on("open the segment")(errno),
        }
    }
}

fn path(options: &SegmentOptions) -> PathBuf {
    match &options.directory {
        // Without the trailing slash, behind which a symbolic link would be followed.
        Some(path) => path.components().collect(),
        None => default_path(),
    }
}

/// `$XDG_RUNTIME_DIR/tidewire` if that is ours and memory, or else `/dev/shm/tidewire-<uid>`.
fn default_path() -> PathBuf {
    env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && is_runtime_directory(path))
        .map_or_else(
            || Path::new(SHARED_MEMORY).join(format!("tidewire-{}", geteuid().as_raw())),
            |path| path.join("tidewire"),
        )
}

fn is_runtime_directory(path: &Path) -> bool {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = retry_on_intr(|| open(path, flags, Mode::empty())) else {
        return false;
    };
    let private = fstat(&fd).is_ok_and(|stat| stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0);
    private && is_tmpfs(&fd)
}

fn verify_directory(stat: &Stat, owner: Uid, path: &Path) -> Result<(), SegmentError> {
    let wrong =
        |expected: String, found: String| SegmentError::Directory { path: path.to_owned(), expected, found };
    if stat.st_uid != owner.as_raw() {
        return Err(wrong(format!("owner {}", owner.as_raw()), format!("owner {}", stat.st_uid)));
    }
    let mode = stat.st_mode & PERMISSIONS;
    if mode != Mode::RWXU.bits() {
        return Err(wrong("mode 0700".to_owned(), format!("mode {mode:04o}")));
    }
    Ok(())
}

/// The length of a file that can be mapped and that only `owner` can change.
fn verify_file(stat: &Stat, owner: Uid) -> Result<usize, SegmentError> {
    if !is_regular(stat) {
        return Err(wrong_kind(stat));
    }
    let wrong = |what, expected: String, found: String| SegmentError::NotASegment { what, expected, found };
    if stat.st_uid != owner.as_raw() {
        return Err(wrong("owner", owner.as_raw().to_string(), stat.st_uid.to_string()));
    }
    let mode = stat.st_mode & PERMISSIONS;
    if mode & 0o077 != 0 {
        return Err(wrong("mode", "0600".to_owned(), format!("{mode:04o}")));
    }
    if stat.st_nlink != 1 {
        return Err(wrong("links", "1".to_owned(), stat.st_nlink.to_string()));
    }
    verify_length(stat)
}

/// The length of a file, which is a positive number of pages.
pub(super) fn verify_length(stat: &Stat) -> Result<usize, SegmentError> {
    usize::try_from(stat.st_size)
        .ok()
        .filter(|&len| len > 0 && len.is_multiple_of(page_size()) && isize::try_from(len).is_ok())
        .ok_or_else(|| SegmentError::NotASegment {
            what: "size",
            expected: format!("a positive multiple of {} bytes", page_size()),
            found: format!("{} bytes", stat.st_size),
        })
}

pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub(super) fn wrong_kind(stat: &Stat) -> SegmentError {
    SegmentError::NotASegment {
        what: "kind of file",
        expected: "a regular file".to_owned(),
        found: kind(stat).to_owned(),
    }
}

fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::{Directory, verify_directory, verify_file};
    use crate::segment::{Name, SegmentError, SegmentOptions};
    use rustix::fs::{fstat, stat};
    use rustix::process::{Uid, geteuid};

    #[test]
    fn a_foreign_owner_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d"));
        let segment = crate::Segment::create_with("mine", 1, &options, |_| Ok(())).unwrap();
        let (me, other) = (geteuid(), Uid::from_raw(geteuid().as_raw() + 1));

        let file = fstat(&segment).unwrap();
        assert!(verify_file(&file, me).is_ok());
        let refused = verify_file(&file, other).unwrap_err();
        assert!(matches!(refused, SegmentError::NotASegment { what: "owner", .. }), "{refused}");

        let directory = stat(place.path().join("d")).unwrap();
        assert!(verify_directory(&directory, me, place.path()).is_ok());
        let refused = verify_directory(&directory, other, place.path()).unwrap_err();
        assert!(matches!(refused, SegmentError::Directory { .. }), "{refused}");
    }

    #[test]
    fn a_taken_name_is_seen_before_any_work() {
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d"));
        let directory = Directory::create(&options).unwrap();
        let name = Name::new("taken").unwrap();
        assert!(directory.refuse_taken(&name).is_ok());
        std::fs::write(place.path().join("d/taken"), b"").unwrap();
        assert!(matches!(directory.refuse_taken(&name), Err(SegmentError::AlreadyExists { .. })));
    }
}
