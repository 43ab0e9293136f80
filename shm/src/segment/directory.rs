//! The directory that names live in, and what a file in it must be.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec::Vec;
use std::env;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, fchmod, fchown, fstat, mkdirat, open, openat,
    statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::param::page_size;
use rustix::process::{Gid, geteuid};

use super::error::SegmentError;
use super::map::{Access, is_tmpfs};
use super::mode::Admission;
use super::name::Name;
use super::options::SegmentOptions;

const FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const SHARED_MEMORY: &str = "/dev/shm";

/// A directory that nobody can change whom its options do not admit; every use of it goes through the descriptor.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    admission: Admission,
    group: Gid,
}

impl Directory {
    /// The directory of the options, or the default one; made if it is missing.
    pub(super) fn create(options: &SegmentOptions) -> Result<Self, SegmentError> {
        let admission = Admission::of(options)?;
        admission.require_guard()?;
        let path = path(options, admission)?;
        let failed = || SegmentError::on("open the directory of segments");
        match Self::open(&path, admission) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(failed())??.admit(&path),
        }
        match retry_on_intr(|| mkdirat(CWD, &path, Mode::RWXU)) {
            // The umask may have taken bits that the owner needs.
            Ok(()) => chmodat(CWD, &path, Mode::RWXU, AtFlags::empty())
                .map_err(SegmentError::on("set the mode of the directory of segments"))?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(SegmentError::on("make the directory of segments")(errno)),
        }
        Self::open(&path, admission).map_err(failed())??.admit(&path)
    }

    /// The directory of the options, or the default one, if there is one.
    pub(super) fn existing(options: &SegmentOptions) -> Result<Option<Self>, SegmentError> {
        let admission = Admission::of(options)?;
        match Self::open(&path(options, admission)?, admission) {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map_err(SegmentError::on("open the directory of segments"))?.map(Some),
        }
    }

    /// The outer error is the system's, the inner one a verdict.
    fn open(path: &Path, admission: Admission) -> Result<Result<Self, SegmentError>, Errno> {
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
        let verdict = admission.verify_directory(&stat, geteuid(), path);
        Ok(verdict.map(|()| Self { fd, admission, group: Gid::from_raw(stat.st_gid) }))
    }

    /// Lets those in whom its files will admit, if it was just made: then it is empty and its user's alone, also if whoever
    /// made it was killed in between. Any other must let them in already.
    fn admit(self, path: &Path) -> Result<Self, SegmentError> {
        if self.admission.is_private() {
            return Ok(self);
        }
        let stat = fstat(&self.fd).map_err(SegmentError::on("inspect the directory of segments"))?;
        if self.admission.can_enter(&stat) {
            return Ok(self);
        }
        let wanted = self.admission.directory();
        let is_fresh = stat.st_uid == geteuid().as_raw()
            && stat.st_mode & 0o777 == Mode::RWXU.bits()
            && self.is_empty()?;
        if !is_fresh {
            return Err(SegmentError::Directory {
                path: path.to_owned(),
                expected: format!("mode {:04o} or one that lets the same users in", wanted.bits()),
                found: format!("mode {:04o}", stat.st_mode & 0o7777),
            });
        }
        fchmod(&self.fd, wanted).map_err(SegmentError::on("set the mode of the directory of segments"))?;
        Ok(self)
    }

    fn is_empty(&self) -> Result<bool, SegmentError> {
        for entry in self.entries()? {
            let entry = entry.map_err(SegmentError::on("look into the directory of segments"))?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets those open a whole file whom the options admit.
    pub(super) fn admit_to(&self, file: &OwnedFd) -> Result<(), SegmentError> {
        if self.admission.is_private() {
            return Ok(());
        }
        let stat = fstat(file).map_err(SegmentError::on("inspect the segment"))?;
        if self.admission.is_of_group() && stat.st_gid != self.group.as_raw() {
            retry_on_intr(|| fchown(file, None, Some(self.group)))
                .map_err(SegmentError::on("give the segment the group of its directory"))?;
        }
        // After the group: no other one is ever admitted.
        fchmod(file, self.admission.file()).map_err(SegmentError::on("set the mode of the segment"))
    }

    /// Whoever maps a file of it needs the guard, if others can shorten that.
    pub(super) fn require_guard(&self) -> Result<(), SegmentError> {
        self.admission.require_guard()
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
        if !is_regular(&stat) {
            return Err(wrong_kind(&stat));
        }
        self.admission.verify_file(&stat, geteuid(), self.group.as_raw())?;
        Ok((fd, verify_length(&stat)?))
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

fn path(options: &SegmentOptions, admission: Admission) -> Result<PathBuf, SegmentError> {
    match &options.directory {
        // Without the trailing slash, behind which a symbolic link would be followed.
        Some(path) => Ok(path.components().collect()),
        None if admission.is_private() => Ok(default_path()),
        None => Err(admission.require_directory()),
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
    use super::{Directory, Gid};
    use crate::segment::mode::Admission;
    use crate::segment::{Name, SegmentError, SegmentOptions};
    use rustix::fs::{fstat, stat};
    use rustix::process::{Uid, geteuid};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    #[test]
    fn a_foreign_owner_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d"));
        let segment = crate::Segment::create_with("mine", 1, &options, |_| Ok(())).unwrap();
        let (me, other) = (geteuid(), Uid::from_raw(geteuid().as_raw() + 1));
        let admission = Admission::of(&options).unwrap();

        let file = fstat(&segment).unwrap();
        assert!(admission.verify_file(&file, me, file.st_gid).is_ok());
        let refused = admission.verify_file(&file, other, file.st_gid).unwrap_err();
        assert!(matches!(refused, SegmentError::NotASegment { what: "owner", .. }), "{refused}");

        let directory = stat(place.path().join("d")).unwrap();
        assert!(admission.verify_directory(&directory, me, place.path()).is_ok());
        let refused = admission.verify_directory(&directory, other, place.path()).unwrap_err();
        assert!(matches!(refused, SegmentError::Directory { .. }), "{refused}");
    }

    fn mode_of(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_is_opened_to_others_only_if_it_is_fresh() {
        crate::guard_sigbus().unwrap();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("d");
        let shared = SegmentOptions::new().directory(&path).mode(0o660);
        // Made.
        Directory::create(&shared).unwrap();
        assert_eq!(mode_of(&path), 0o3770);
        assert!(
            Directory::existing(&shared.clone().mode(0o640)).is_err(),
            "it admits to more than was chosen"
        );
        assert!(Directory::existing(&SegmentOptions::new().directory(&path)).is_err());
        // As somebody left it who was killed while making it.
        set_mode(&path, 0o700);
        assert!(Directory::existing(&shared).unwrap().is_some());
        assert_eq!(mode_of(&path), 0o700, "to look changed it");
        Directory::create(&shared).unwrap();
        assert_eq!(mode_of(&path), 0o3770);
        // In use, and private.
        set_mode(&path, 0o700);
        fs::write(path.join("private"), b"").unwrap();
        let refused = Directory::create(&shared).unwrap_err();
        let found = "expected mode 3770 or one that lets the same users in, found mode 0700";
        assert!(refused.to_string().ends_with(found), "{refused}");
        // Others may enter, and create nothing: as somebody chose it.
        set_mode(&path, 0o750);
        Directory::create(&shared).unwrap();
        assert_eq!(mode_of(&path), 0o750);
    }

    #[test]
    fn a_shared_file_gets_its_group_before_its_mode() {
        crate::guard_sigbus().unwrap();
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d")).mode(0o660);
        let directory = Directory::create(&options).unwrap();
        let path = place.path().join("d/x");
        let file = fs::File::create(&path).unwrap().into();
        directory.admit_to(&file).unwrap();
        let stat = fstat(&file).unwrap();
        assert_eq!((stat.st_mode & 0o7777, stat.st_gid), (0o660, directory.group.as_raw()));
        // A group that this process may give if it is root, and else must not.
        let other = Gid::from_raw(directory.group.as_raw() + 77);
        let directory = Directory { group: other, ..directory };
        set_mode(&path, 0o600);
        match directory.admit_to(&file) {
            Ok(()) => assert_eq!(fstat(&file).unwrap().st_gid, other.as_raw()),
            Err(refused) => {
                assert!(matches!(refused, SegmentError::Permission { .. }), "{refused}");
                assert_eq!(mode_of(&path), 0o600, "another group was admitted");
            }
        }
    }

    #[test]
    fn what_is_no_segment_is_refused_whatever_the_mode() {
        crate::guard_sigbus().unwrap();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("d");
        let options = SegmentOptions::new().directory(&path).mode(0o666);
        let open = |name| crate::Segment::open_with(name, &options).map(drop).unwrap_err().to_string();
        crate::Segment::create_with("whole", 4096, &options, |_| Ok(())).unwrap();
        symlink("whole", path.join("link")).unwrap();
        assert_eq!(
            open("link"),
            "not a segment: kind of file: expected a regular file, found a symbolic link"
        );
        let (fifo, bits) = (super::FileType::Fifo, super::Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(super::CWD, path.join("fifo"), fifo, bits, 0).unwrap();
        assert_eq!(open("fifo"), "not a segment: kind of file: expected a regular file, found a FIFO");
        fs::hard_link(path.join("whole"), path.join("second")).unwrap();
        assert_eq!(open("second"), "not a segment: links: expected 1, found 2");
        fs::write(path.join("wide"), [0; 4096]).unwrap();
        set_mode(&path.join("wide"), 0o777);
        assert_eq!(open("wide"), "not a segment: mode: expected 0666 or less, found 0777");
    }

    #[test]
    fn a_mode_that_admits_others_needs_a_directory_that_was_chosen() {
        let nowhere = SegmentOptions::new().mode(0o660);
        let refused = Directory::existing(&nowhere).unwrap_err();
        assert!(matches!(refused, SegmentError::Mode { .. }), "{refused}");
    }

    #[test]
    fn a_taken_name_is_seen_before_any_work() {
        let place = tempfile::tempdir().unwrap();
        let options = SegmentOptions::new().directory(place.path().join("d"));
        let directory = Directory::create(&options).unwrap();
        let name = Name::new("taken").unwrap();
        assert!(directory.refuse_taken(&name).is_ok());
        fs::write(place.path().join("d/taken"), b"").unwrap();
        assert!(matches!(directory.refuse_taken(&name), Err(SegmentError::AlreadyExists { .. })));
    }
}
