//! Whom a directory of segments and the files in it admit.
//!
//! # The thought behind it
//! Whoever can write a file can spoil what lies in it, shorten it and take its free roles: the mode says who that is, and
//! nothing here can say it better. What is kept from them is the **name**: under a name nobody finds memory that somebody
//! untrusted made, nor finds it replaced. So directories and files are used only if their owner is the effective user, root or
//! the one who was [named](super::SegmentOptions::owner); where others can write a directory its sticky bit is demanded, so
//! that a name is taken away by the owner of its file, of the directory, or root; and nothing admits more than was chosen.
//!
//! | what a member of the group tries | what becomes of it |
//! |---|---|
//! | take a name first, with a file, a link, a FIFO | refused by its owner or its kind; the owner of the directory can remove it |
//! | remove or replace the name of another's file | the kernel refuses: sticky directory |
//! | give the file of another a second name | both are refused until one is gone. If that is the first one, the second stands for its memory: for what the mode admits anyway, under a name that its owner did not choose |
//! | make the directory before its owner does | refused by its owner |
//! | shorten the file | a loss for the guard, which is demanded. Under that name nobody opens or begins anything until [`unlink`](super::Segment::unlink) took it away |
//! | lock bytes of the file, keep the gate | roles are refused, joins give up: a denial. Whoever can write holds a dead one's role that way, and waits for it do not end |

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use std::path::Path;

use rustix::fs::{Mode, Stat};
use rustix::process::Uid;

use super::error::SegmentError;
use super::options::SegmentOptions;
use super::sigbus;

/// What a file has if nothing else is chosen.
pub(super) const PRIVATE: u32 = 0o600;
/// What can be chosen: its owner reads and writes, and nobody admits others to more than the group.
const KNOWN: [u32; 6] = [PRIVATE, 0o640, 0o644, 0o660, 0o664, 0o666];
/// Permission bits, without those for set-id and sticky.
const PERMISSIONS: u32 = 0o777;
const ALL_BITS: u32 = 0o7777;
const STICKY: u32 = 0o1000;
const SET_GROUP: u32 = 0o2000;
const OTHERS_WRITE: u32 = 0o022;

/// Whether the group may do what all others may not, so that it matters which one it is.
fn is_of_group(mode: u32) -> bool {
    mode >> 3 & 0o7 & !mode != 0
}

/// What was chosen, and can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    mode: u32,
    owner: Option<u32>,
}

impl Admission {
    pub(super) fn of(options: &SegmentOptions) -> Result<Self, SegmentError> {
        let mode = options.mode.unwrap_or(PRIVATE);
        if !KNOWN.contains(&mode) {
            let [private, group_reads, all_read, group_writes, others_read, all_write] =
                KNOWN.map(|mode| format!("{mode:04o}"));
            return Err(SegmentError::Mode {
                expected: format!(
                    "{private}, {group_reads}, {all_read}, {group_writes}, {others_read} or {all_write}"
                ),
                found: format!("{mode:04o}"),
            });
        }
        Ok(Self { mode, owner: options.owner })
    }

    /// Whether nobody but the owner is admitted.
    pub(super) fn is_private(self) -> bool {
        self.mode == PRIVATE
    }

    /// Whether files must have the group of their directory.
    pub(super) fn is_of_group(self) -> bool {
        is_of_group(self.mode)
    }

    /// Of a file that is created.
    pub(super) fn file(self) -> Mode {
        Mode::from_raw_mode(self.mode)
    }

    /// The most that a directory may admit to: whoever may read files finds them, whoever may write them makes some.
    fn most(self) -> u32 {
        let class = |shift: u32| match self.mode >> shift & 0o6 {
            0o6 => 0o7 << shift,
            0o4 => 0o5 << shift,
            _ => 0,
        };
        0o700 | class(3) | class(0)
    }

    /// Of a directory that is created: with its group for all files in it, and so that names are kept by those who made them.
    pub(super) fn directory(self) -> Mode {
        let most = self.most();
        let special = if most & OTHERS_WRITE == 0 { SET_GROUP } else { SET_GROUP | STICKY };
        Mode::from_raw_mode(if self.is_private() { most } else { special | most })
    }

    /// Whether those whom the files admit can find them in a directory of this mode.
    pub(super) fn can_enter(self, directory: &Stat) -> bool {
        let needed = self.most() & 0o055;
        directory.st_mode & needed == needed
    }

    /// A shared file can be shortened by others at any time.
    pub(super) fn require_guard(self) -> Result<(), SegmentError> {
        if self.is_private() || sigbus::is_installed() {
            return Ok(());
        }
        Err(SegmentError::Mode {
            expected: format!(
                "guard_sigbus to have been called, since mode {:04o} admits those who may shorten the file",
                self.mode
            ),
            found: "no guard".to_owned(),
        })
    }

    pub(super) fn require_directory(self) -> SegmentError {
        SegmentError::Mode {
            expected: format!("a directory of its own to be chosen for mode {:04o}", self.mode),
            found: "the default one, which is its user's alone".to_owned(),
        }
    }

    fn trusts(self, owner: u32, me: Uid) -> bool {
        owner == me.as_raw() || (!self.is_private() && (owner == 0 || Some(owner) == self.owner))
    }

    /// Whom it trusts, in words.
    fn owners(self, me: Uid) -> String {
        let me = me.as_raw();
        match self.owner {
            _ if self.is_private() => me.to_string(),
            Some(owner) if owner != me && owner != 0 => format!("{me}, {owner} or 0"),
            _ if me == 0 => me.to_string(),
            _ => format!("{me} or 0"),
        }
    }

    pub(super) fn verify_directory(self, stat: &Stat, me: Uid, path: &Path) -> Result<(), SegmentError> {
        let wrong = |expected: String, found: String| SegmentError::Directory {
            path: path.to_owned(),
            expected,
            found,
        };
        if !self.trusts(stat.st_uid, me) {
            return Err(wrong(format!("owner {}", self.owners(me)), format!("owner {}", stat.st_uid)));
        }
        if self.is_private() {
            let mode = stat.st_mode & PERMISSIONS;
            if mode != Mode::RWXU.bits() {
                return Err(wrong("mode 0700".to_owned(), format!("mode {mode:04o}")));
            }
            return Ok(());
        }
        let found = stat.st_mode & ALL_BITS;
        let wrong = |expected: &str| {
            let expected = format!("mode {:04o}{expected}", self.directory().bits());
            Err(wrong(expected, format!("mode {found:04o}")))
        };
        if found & PERMISSIONS & !self.most() != 0 {
            return wrong(" or one that admits to less");
        }
        if found & OTHERS_WRITE != 0 && found & STICKY == 0 {
            return wrong(", with the sticky bit where others can write");
        }
        Ok(())
    }

    /// Owner, mode and links of a regular file in a directory of `group`.
    pub(super) fn verify_file(self, stat: &Stat, me: Uid, group: u32) -> Result<(), SegmentError> {
        let wrong =
            |what, expected: String, found: String| SegmentError::NotASegment { what, expected, found };
        if !self.trusts(stat.st_uid, me) {
            return Err(wrong("owner", self.owners(me), stat.st_uid.to_string()));
        }
        let mode = stat.st_mode & PERMISSIONS;
        if self.is_private() {
            if mode & 0o077 != 0 {
                return Err(wrong("mode", format!("{PRIVATE:04o}"), format!("{mode:04o}")));
            }
        } else if mode & !self.mode != 0 {
            return Err(wrong("mode", format!("{:04o} or less", self.mode), format!("{mode:04o}")));
        } else if is_of_group(mode) && stat.st_gid != group {
            return Err(wrong("group", group.to_string(), stat.st_gid.to_string()));
        }
        if stat.st_nlink != 1 {
            return Err(wrong("links", "1".to_owned(), stat.st_nlink.to_string()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, KNOWN, SegmentError, SegmentOptions};
    use rustix::fs::{Stat, stat};
    use rustix::process::Uid;
    use std::path::Path;

    const ME: u32 = 1000;
    const THEM: u32 = 2000;
    const GROUP: u32 = 3000;

    fn admission(mode: u32) -> Admission {
        Admission::of(&SegmentOptions::new().mode(mode)).unwrap()
    }

    fn found(kind: u32, mode: u32, owner: u32) -> Stat {
        let mut stat = stat("/").unwrap();
        (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink) = (kind | mode, owner, GROUP, 1);
        stat
    }

    fn directory(admission: Admission, mode: u32, owner: u32) -> Result<(), String> {
        let stat = found(0o040_000, mode, owner);
        let verdict = admission.verify_directory(&stat, Uid::from_raw(ME), Path::new("d"));
        verdict.map_err(|error| error.to_string())
    }

    fn file(admission: Admission, mode: u32, owner: u32) -> Result<(), String> {
        let stat = found(0o100_000, mode, owner);
        let verdict = admission.verify_file(&stat, Uid::from_raw(ME), GROUP);
        verdict.map_err(|error| error.to_string())
    }

    #[test]
    fn only_modes_that_can_work_are_taken() {
        for mode in 0..0o20_000 {
            let taken = Admission::of(&SegmentOptions::new().mode(mode));
            assert_eq!(taken.is_ok(), KNOWN.contains(&mode), "{mode:o}");
        }
        let refused = Admission::of(&SegmentOptions::new().mode(0o2770)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot share a segment: expected 0600, 0640, 0644, 0660, 0664 or 0666, found 2770"
        );
        assert!(Admission::of(&SegmentOptions::new()).unwrap().is_private());
    }

    #[test]
    fn directories_admit_those_whom_files_do() {
        let made = [0o600, 0o640, 0o644, 0o660, 0o664, 0o666].map(|mode| admission(mode).directory().bits());
        assert_eq!(made, [0o700, 0o2750, 0o2755, 0o3770, 0o3775, 0o3777]);
        for mode in KNOWN {
            let shared = admission(mode);
            let own = shared.directory().bits();
            assert_eq!(directory(shared, own, ME), Ok(()), "{mode:o}");
            assert!(shared.can_enter(&found(0o040_000, own, ME)));
        }
        assert!(!admission(0o660).can_enter(&found(0o040_000, 0o700, ME)));
        assert!(!admission(0o644).can_enter(&found(0o040_000, 0o750, ME)));
        assert!(admission(0o660).can_enter(&found(0o040_000, 0o750, ME)));
    }

    #[test]
    fn directories_that_admit_to_more_are_refused() {
        for mode in KNOWN {
            let shared = admission(mode);
            let most = shared.most();
            for bits in 0..=0o7777 {
                let accepted = directory(shared, bits, ME).is_ok();
                let expected = if mode == 0o600 {
                    bits & 0o777 == 0o700
                } else {
                    bits & 0o777 & !most == 0 && (bits & 0o022 == 0 || bits & 0o1000 != 0)
                };
                assert_eq!(accepted, expected, "mode {mode:o}, directory {bits:o}");
            }
        }
        assert_eq!(
            directory(admission(0o660), 0o1777, 0),
            Err("unsafe directory d: expected mode 3770 or one that admits to less, found mode 1777".into())
        );
        assert_eq!(
            directory(admission(0o660), 0o2770, ME),
            Err("unsafe directory d: expected mode 3770, with the sticky bit where others can write, found \
                 mode 2770"
                .into())
        );
        assert_eq!(directory(admission(0o666), 0o1777, 0), Ok(()), "as /dev/shm");
    }

    #[test]
    fn only_those_who_are_trusted_may_own() {
        let named = Admission { owner: Some(THEM), ..admission(0o660) };
        let stranger = 4000;
        for (admission, trusted) in [
            (admission(0o600), [true, false, false, false]),
            // Named, but nobody else is admitted.
            (Admission { owner: Some(THEM), ..admission(0o600) }, [true, false, false, false]),
            (admission(0o660), [true, true, false, false]),
            (named, [true, true, true, false]),
        ] {
            for (owner, trusted) in [ME, 0, THEM, stranger].into_iter().zip(trusted) {
                let mode = if admission.is_private() { 0o600 } else { 0o660 };
                assert_eq!(file(admission, mode, owner).is_ok(), trusted, "{admission:?}, {owner}");
                let mode = admission.directory().bits();
                assert_eq!(directory(admission, mode, owner).is_ok(), trusted, "{admission:?}, {owner}");
            }
        }
        let refused = file(named, 0o660, stranger).unwrap_err();
        assert_eq!(refused, "not a segment: owner: expected 1000, 2000 or 0, found 4000");
        let refused = file(admission(0o600), 0o600, 0).unwrap_err();
        assert_eq!(refused, "not a segment: owner: expected 1000, found 0");
        let refused = directory(admission(0o640), 0o2750, stranger).unwrap_err();
        assert_eq!(refused, "unsafe directory d: expected owner 1000 or 0, found owner 4000");
    }

    #[test]
    fn files_that_admit_to_more_are_refused() {
        for mode in KNOWN {
            for bits in 0..=0o777 {
                let accepted = file(admission(mode), bits, ME).is_ok();
                let allowed = if mode == 0o600 { bits & 0o077 == 0 } else { bits & !mode == 0 };
                assert_eq!(accepted, allowed, "mode {mode:o}, file {bits:o}");
            }
        }
        let refused = file(admission(0o640), 0o660, ME).unwrap_err();
        assert_eq!(refused, "not a segment: mode: expected 0640 or less, found 0660");

        let shared = admission(0o660);
        let mut other = found(0o100_000, 0o660, ME);
        other.st_gid = GROUP + 1;
        let refused = shared.verify_file(&other, Uid::from_raw(ME), GROUP).unwrap_err();
        assert!(matches!(refused, SegmentError::NotASegment { what: "group", .. }), "{refused}");
        // A file whose group may do no more than all others may have any.
        other.st_mode = 0o100_600;
        assert!(shared.verify_file(&other, Uid::from_raw(ME), GROUP).is_ok());
        other.st_mode = 0o100_666;
        assert!(admission(0o666).verify_file(&other, Uid::from_raw(ME), GROUP).is_ok());
        other.st_mode = 0o100_664;
        assert!(admission(0o666).verify_file(&other, Uid::from_raw(ME), GROUP).is_err());
        (other.st_mode, other.st_gid) = (0o100_660, GROUP);
        assert!(shared.verify_file(&other, Uid::from_raw(ME), GROUP).is_ok());
        other.st_nlink = 2;
        let refused = shared.verify_file(&other, Uid::from_raw(ME), GROUP).unwrap_err();
        assert!(matches!(refused, SegmentError::NotASegment { what: "links", .. }), "{refused}");
    }
}
