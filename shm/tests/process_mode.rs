//! Named segments that others may open: who is let in, who is not, and what a member of the group can do.
//!
//! Peers run as other users, which takes root. Where that cannot be had, it is said, and what one user can do is tested.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic, and tell"
)]

mod process_segment_peer;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use process_segment_peer::{bytes, fill, peer, report, reports, role};
use rustix::process::geteuid;
use tempfile::TempDir;
use tidewire_shm::{
    LeaseError, Liveness, Region, RoleId, Segment, SegmentError, SegmentOptions, StalePolicy, Tenancy,
    Untrusted, guard_sigbus,
};

/// Users and groups that need no entry anywhere.
const MEMBER: u32 = 65_534;
const OTHER_MEMBER: u32 = 54_321;
const STRANGER: u32 = 54_322;
const GROUP: u32 = 54_323;
const OTHER_GROUP: u32 = 54_324;
const NAME: &str = "shared";
const PAGE: usize = 4096;

fn empty(_: Region<Untrusted>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(())
}

/// Where all users can look, but only this one writes.
fn place() -> TempDir {
    let open = Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(open).tempdir_in("/dev/shm").unwrap()
}

fn options(directory: impl Into<PathBuf>, mode: u32) -> SegmentOptions {
    SegmentOptions::new().directory(directory).mode(mode)
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn make_directory(path: &Path, owner: u32, group: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    chown(path, Some(owner), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The test once more, as another user with this group and no other.
fn peer_as(test: &str, role: &str, place: &Path, uid: u32, gid: u32) -> Command {
    let this = peer(test, role, place);
    // Not by its path, which others need not be able to walk.
    let mut command = Command::new("/proc/self/exe");
    command.args(this.get_args());
    for (key, value) in this.get_envs() {
        command.env(key, value.unwrap());
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.uid(uid).gid(gid);
    command
}

/// What the peer says as another user.
fn ask(test: &str, role: &str, place: &Path, uid: u32, gid: u32) -> String {
    reports(&peer_as(test, role, place, uid, gid).output().unwrap()).join("; ")
}

/// Whether this process can start others as other users; says so if not.
fn can_be_others() -> bool {
    let tried = geteuid().is_root()
        && Command::new("/proc/self/exe")
            .args(["--list", "--quiet"])
            .stdout(Stdio::null())
            .uid(MEMBER)
            .gid(GROUP)
            .status()
            .is_ok_and(|status| status.success());
    if !tried {
        eprintln!("only what one user can do is tested: this process cannot become another");
    }
    tried
}

fn told<T>(result: Result<T, SegmentError>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error @ SegmentError::Permission { .. }) => format!("permission: {error}"),
        Err(error) => error.to_string(),
    }
}

/// What peers do that others start.
fn act(role: &str, place: &str) {
    let directory = Path::new(place).join("d");
    let (what, mode) = role.split_once(' ').unwrap();
    let options = options(&directory, u32::from_str_radix(mode, 8).unwrap());
    if what != "unguarded" {
        guard_sigbus().unwrap();
    }
    match what {
        "unguarded" => {
            report(&told(Segment::open_with(NAME, &options)));
            report(&told(Segment::create_with("new", 1, &options, empty)));
            report(&told(Segment::join_with("new", 1, StalePolicy::Recreate, &options, empty).map_err(
                |error| match error {
                    tidewire_shm::JoinError::Segment(error) => error,
                    error => panic!("{error}"),
                },
            )));
            // What maps nothing needs none.
            report(&told(Segment::list_with(&options)));
        }
        "open" => report(&told(Segment::open_with(NAME, &options))),
        "read" => {
            let found = Segment::open_read_only_with(NAME, &options);
            if let Ok(found) = &found {
                assert!(bytes(&found.region()).iter().all(|&byte| byte == 1));
                let leases = found.leases().unwrap();
                assert_eq!(leases.tenancy(RoleId::CONSUMER), Tenancy::Held);
                let refused = leases.acquire(RoleId::CLEANER).unwrap_err();
                assert!(matches!(refused, LeaseError::System { .. }), "{refused}");
            }
            report(&told(found));
        }
        // Writes, takes a role, and tries what it must not.
        "write" => {
            let found = Segment::open_with(NAME, &options).unwrap();
            fill(&found.region(), 2);
            let lease = found.leases().unwrap().acquire(RoleId::CONSUMER).unwrap();
            drop(lease);
            report(&told(found.withdraw()));
            report(&told(Segment::unlink_with(NAME, &options)));
            let path = |name: &str| directory.join(name);
            report(if fs::rename(path(NAME), path("moved")).is_err() { "kept" } else { "moved" });
            Segment::create_with("own", 1, &options, empty).unwrap();
            report(if fs::rename(path("own"), path(NAME)).is_err() { "kept" } else { "replaced" });
        }
        "owned-by-root" => report(&told(Segment::open_with(NAME, &options))),
        "owned-by-member" => report(&told(Segment::open_with(NAME, &options.owner(MEMBER)))),
        "create" => report(&told(Segment::create_with(NAME, PAGE, &options, |region| {
            fill(&region, 1);
            Ok(())
        }))),
        "create-new" => report(&told(Segment::create_with("new", 1, &options, empty))),
        "masked" => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
            for named in [false, true] {
                let name = if named { "renamed" } else { "linked" };
                Segment::create_with(name, 1, &options.clone().named_temporary(named), empty).unwrap();
                report(&format!("{:o} {:o}", mode_of(&directory), mode_of(&directory.join(name))));
            }
        }
        // Makes the file short under its users.
        "shorten" => {
            OpenOptions::new().write(true).open(directory.join(NAME)).unwrap().set_len(0).unwrap();
            report("shortened");
        }
        "link" => {
            fs::hard_link(directory.join(NAME), directory.join("second")).unwrap();
            report("linked");
        }
        "squat" => {
            let file = File::create(directory.join(NAME)).unwrap();
            file.set_len(PAGE as u64).unwrap();
            file.set_permissions(Permissions::from_mode(0o660)).unwrap();
            report("mine");
        }
        other => panic!("no such role: {other}"),
    }
}

/// Creates a segment that says 1, and keeps its first role.
fn create(place: &Path, mode: u32) -> (Segment, impl Sized) {
    let segment = Segment::create_with(NAME, PAGE, &options(place.join("d"), mode), |region| {
        fill(&region, 1);
        Ok(())
    })
    .unwrap();
    let lease = segment.leases().unwrap().acquire(RoleId::CONSUMER).unwrap();
    (segment, lease)
}

const NO_DIRECTORY: &str = "permission: not permitted to open the directory of segments";
const NO_FILE: &str = "permission: not permitted to open the segment";

#[test]
fn the_default_lets_nobody_else_in() {
    const TEST: &str = "the_default_lets_nobody_else_in";
    if let Some((role, place)) = role() {
        return act(&role, &place);
    }
    let place = place();
    let (segment, _lease) = create(place.path(), 0o600);
    let directory = place.path().join("d");
    assert_eq!((mode_of(&directory), mode_of(&directory.join(NAME))), (0o700, 0o600));
    drop(segment);
    if !can_be_others() {
        return;
    }
    for (uid, gid) in [(MEMBER, GROUP), (STRANGER, 0)] {
        for role in ["open 600", "read 600", "open 660", "read 644"] {
            assert_eq!(ask(TEST, role, place.path(), uid, gid), NO_DIRECTORY);
        }
    }
    // Where the way is open, the file is not.
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    let refused = ask(TEST, "open 600", place.path(), MEMBER, GROUP);
    assert!(refused.ends_with("expected owner 65534, found owner 0"), "{refused}");
    assert_eq!(ask(TEST, "open 644", place.path(), MEMBER, GROUP), NO_FILE);
}

#[test]
fn a_group_shares_a_segment_and_nobody_else_does() {
    const TEST: &str = "a_group_shares_a_segment_and_nobody_else_does";
    if let Some((role, place)) = role() {
        return act(&role, &place);
    }
    guard_sigbus().unwrap();
    let place = place();
    let directory = place.path().join("d");
    let (segment, lease) = create(place.path(), 0o660);
    assert_eq!((mode_of(&directory), mode_of(&directory.join(NAME))), (0o3770, 0o660));
    drop((segment, lease));
    fs::remove_dir_all(&directory).unwrap();
    // What the mode gives, no umask takes away.
    let said = reports(&peer(TEST, "masked 660", place.path()).output().unwrap());
    assert_eq!(said, ["3770 660", "3770 660"]);
    fs::remove_dir_all(&directory).unwrap();
    if !can_be_others() {
        return;
    }
    // As an administrator makes it; also without setgid the group is that of the directory.
    for bits in [0o3770, 0o1770] {
        make_directory(&directory, 0, GROUP, bits);
        let (segment, lease) = create(place.path(), 0o660);
        assert_eq!(fs::metadata(directory.join(NAME)).unwrap().gid(), GROUP);
        drop(lease);
        assert_eq!(
            ask(TEST, "write 660", place.path(), MEMBER, GROUP),
            "permission: not permitted to remove the name; permission: not permitted to remove the name; kept; \
             kept"
        );
        assert!(bytes(&segment.region()).iter().all(|&byte| byte == 2), "it is not one memory");
        assert_eq!(ask(TEST, "open 660", place.path(), STRANGER, OTHER_GROUP), NO_DIRECTORY);
        let narrower = ask(TEST, "open 640", place.path(), MEMBER, GROUP);
        assert!(narrower.contains("expected mode 2750 or one that admits to less, found mode"), "{narrower}");
        let private = ask(TEST, "open 600", place.path(), MEMBER, GROUP);
        assert!(private.contains("expected owner 65534, found owner 0"), "{private}");
        fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn who_may_only_read_reads() {
    const TEST: &str = "who_may_only_read_reads";
    if let Some((role, place)) = role() {
        return act(&role, &place);
    }
    guard_sigbus().unwrap();
    let place = place();
    let directory = place.path().join("d");
    for (mode, of_directory) in [(0o640, 0o2750), (0o644, 0o2755)] {
        let kept = create(place.path(), mode);
        assert_eq!((mode_of(&directory), mode_of(&directory.join(NAME))), (of_directory, mode));
        drop(kept);
        fs::remove_dir_all(&directory).unwrap();
    }
    if !can_be_others() {
        return;
    }
    make_directory(&directory, 0, GROUP, 0o2750);
    let kept = create(place.path(), 0o640);
    assert_eq!(ask(TEST, "read 640", place.path(), MEMBER, GROUP), "done");
    assert_eq!(ask(TEST, "open 640", place.path(), MEMBER, GROUP), NO_FILE);
    assert_eq!(ask(TEST, "read 640", place.path(), STRANGER, OTHER_GROUP), NO_DIRECTORY);
    drop(kept);
    fs::remove_dir_all(&directory).unwrap();
    let _kept = create(place.path(), 0o644);
    assert_eq!(ask(TEST, "read 644", place.path(), STRANGER, OTHER_GROUP), "done");
    assert_eq!(ask(TEST, "open 644", place.path(), STRANGER, OTHER_GROUP), NO_FILE);
    let refused = ask(TEST, "create-new 644", place.path(), STRANGER, OTHER_GROUP);
    assert_eq!(refused, "permission: not permitted to create an unnamed file");
}

#[test]
fn who_may_read_can_keep_a_role_from_others() {
    guard_sigbus().unwrap();
    let place = place();
    let options = options(place.path().join("d"), 0o644);
    let segment = Segment::create_with(NAME, PAGE, &options, empty).unwrap();
    let leases = segment.leases().unwrap();
    let reading = File::open(place.path().join("d").join(NAME)).unwrap();
    let (l_type, l_whence) = (libc::F_RDLCK.try_into().unwrap(), libc::SEEK_SET.try_into().unwrap());
    let byte = libc::flock { l_type, l_whence, l_start: 1, l_len: 1, l_pid: 0 };
    // SAFETY: the descriptor is open, and the command reads one `flock` behind the pointer.
    let locked = unsafe { libc::fcntl(reading.as_raw_fd(), libc::F_OFD_SETLK, &raw const byte) };
    assert_eq!(locked, 0);
    assert!(matches!(leases.acquire(RoleId::CONSUMER), Err(LeaseError::Held { .. })));
    assert_eq!(leases.tenancy(RoleId::CONSUMER), Tenancy::Vacant, "it makes nobody look alive");
    drop(reading);
    assert!(leases.acquire(RoleId::CONSUMER).is_ok());
}

#[test]
fn everybody_shares_a_directory_like_that_of_shared_memory() {
    const TEST: &str = "everybody_shares_a_directory_like_that_of_shared_memory";
    if let Some((role, place)) = role() {
        return act(&role, &place);
    }
    guard_sigbus().unwrap();
    let place = place();
    let directory = place.path().join("d");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o1777)).unwrap();
    let refused = told(Segment::create_with(NAME, PAGE, &options(&directory, 0o660), empty));
    assert!(refused.ends_with("expected mode 3770 or one that admits to less, found mode 1777"), "{refused}");
    let (segment, lease) = create(place.path(), 0o666);
    assert_eq!(mode_of(&directory), 0o1777, "what exists is not changed");
    drop(lease);
    if !can_be_others() {
        return;
    }
    assert!(ask(TEST, "write 666", place.path(), STRANGER, OTHER_GROUP).ends_with("kept; kept"));
    assert!(bytes(&segment.region()).iter().all(|&byte| byte == 2));
    // Created by one whose group is not that of the directory.
    segment.withdraw().unwrap();
    assert_eq!(ask(TEST, "create 666", place.path(), MEMBER, OTHER_GROUP), "done");
    let refused = ask(TEST, "owned-by-root 666", place.path(), STRANGER, GROUP);
    assert_eq!(refused, "not a segment: owner: expected 54322 or 0, found 65534");
    assert_eq!(ask(TEST, "owned-by-member 666", place.path(), STRANGER, GROUP), "done");
}

#[test]
fn names_that_others_took_first_are_refused() {
    const TEST: &str = "names_that_others_took_first_are_refused";
    if let Some((role, place)) = role() {
        return act(&role, &place);
    }
    guard_sigbus().unwrap();
    let place = place();
    let directory = place.path().join("d");
    let own = options(&directory, 0o660);
    let others = can_be_others();
    if others {
        make_directory(&directory, 0, GROUP, 0o3770);
    }
    // A second name that a member gives to what it may write.
    let kept = create(place.path(), 0o660);
    let said = if others {
        ask(TEST, "link 660", place.path(), MEMBER, GROUP)
    } else {
        reports(&peer(TEST, "link 660", place.path()).output().unwrap()).join("")
    };
    assert_eq!(said, "linked");
    assert_eq!(told(Segment::open_with(NAME, &own)), "not a segment: links: expected 1, found 2");
    Segment::unlink_with("second", &own).unwrap();
    assert_eq!(told(Segment::open_with(NAME, &own)), "done");
    Segment::unlink_with(NAME, &own).unwrap();
    drop(kept);
    if !others {
        return;
    }
    assert_eq!(ask(TEST, "squat 660", place.path(), MEMBER, GROUP), "mine");
    let squatted = "not a segment: owner: expected 0, found 65534";
    assert_eq!(told(Segment::open_with(NAME, &own)), squatted);
    let join =
        |options: &SegmentOptions| Segment::join_with(NAME, PAGE, StalePolicy::Recreate, options, empty);
    assert_eq!(join(&own).unwrap_err().to_string(), squatted);
    // Nor do other members believe it; who expects that user does.
    let refused = ask(TEST, "open 660", place.path(), OTHER_MEMBER, GROUP);
    assert_eq!(refused, "not a segment: owner: expected 54321 or 0, found 65534");
    assert_eq!(ask(TEST, "owned-by-member 660", place.path(), OTHER_MEMBER, GROUP), "done");
    Segment::unlink_with(NAME, &own).unwrap();

    // Another user's segment, by one who may create: its group is right even though nobody said so.
    assert_eq!(ask(TEST, "create 660", place.path(), MEMBER, GROUP), "done");
    assert_eq!(fs::metadata(directory.join(NAME)).unwrap().gid(), GROUP);
    assert!(Segment::open_with(NAME, &own).is_err());
    let named = own.clone().owner(MEMBER);
    assert!(bytes(&Segment::open_with(NAME, &named).unwrap().region()).iter().all(|&byte| byte == 1));

    // The directory itself.
    fs::remove_dir_all(&directory).unwrap();
    make_directory(&directory, MEMBER, GROUP, 0o3770);
    let refused = told(Segment::create_with(NAME, PAGE, &own, empty));
    assert!(refused.ends_with("expected owner 0, found owner 65534"), "{refused}");
    assert_eq!(told(Segment::create_with(NAME, PAGE, &own.owner(MEMBER), empty)), "done");
}

#[test]
fn what_can_be_shortened_is_not_mapped_without_the_guard() {
    const TEST: &str = "what_can_be_shortened_is_not_mapped_without_the_guard";
    if let Some((role, place)) = role() {
        return act(&role, &place);
    }
    guard_sigbus().unwrap();
    let place = place();
    let kept = create(place.path(), 0o660);
    let said = reports(&peer(TEST, "unguarded 660", place.path()).output().unwrap());
    let refused = "cannot share a segment: expected guard_sigbus to have been called, since mode 0660 admits those \
                   who may shorten the file, found no guard";
    assert_eq!(said, [refused, refused, refused, "done"]);
    drop(kept);
    fs::remove_dir_all(place.path().join("d")).unwrap();
    let _kept = create(place.path(), 0o600);
    // As ever: this user alone can, and is trusted not to.
    let said = reports(&peer(TEST, "unguarded 600", place.path()).output().unwrap());
    assert_eq!(said, ["done", "done", "done", "done"]);
}

#[test]
fn a_member_that_shortens_the_file_costs_its_contents_only() {
    const TEST: &str = "a_member_that_shortens_the_file_costs_its_contents_only";
    if let Some((role, place)) = role() {
        return act(&role, &place);
    }
    guard_sigbus().unwrap();
    let place = place();
    let directory = place.path().join("d");
    let others = can_be_others();
    if others {
        make_directory(&directory, 0, GROUP, 0o3770);
    }
    let (segment, _lease) = create(place.path(), 0o660);
    assert!(segment.is_guarded());
    let said = if others {
        ask(TEST, "shorten 660", place.path(), MEMBER, GROUP)
    } else {
        reports(&peer(TEST, "shorten 660", place.path()).output().unwrap()).join("")
    };
    assert_eq!(said, "shortened");
    assert!(bytes(&segment.region()).iter().all(|&byte| byte == 0));
    assert!(segment.is_lost());
}
