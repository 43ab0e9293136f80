//! Segments where the system is short of room or of rights, and where names live by default.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use process_segment_peer::{bytes, fill, peer, report, reports, role};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Resource, Rlimit, getegid, geteuid, getrlimit, setrlimit, umask};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, set_capabilities, unshare_unsafe};
use tempfile::TempDir;
use tidewire_shm::{Region, Segment, SegmentError, SegmentOptions, Untrusted};

const MORE_THAN_THERE_IS: &str = "more_memory_than_there_is_is_an_error_and_kills_nobody";

fn private_place() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

fn empty(_: Region<Untrusted>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(())
}

fn text(path: &'static str, text: &[u8]) -> Result<(), Errno> {
    let fd = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, text).map(|_| ())
}

/// Lets the child have a tmpfs of its own at `place`, which goes away with it. Fails at spawn where that is not
/// allowed.
fn with_tmpfs(command: &mut Command, place: &Path, options: &str) {
    let target = CString::new(place.as_os_str().as_bytes()).unwrap();
    let options = CString::new(options).unwrap();
    let user_map = format!("{0} {0} 1", geteuid().as_raw());
    let group_map = format!("{0} {0} 1", getegid().as_raw());
    let isolate = move || -> io::Result<()> {
        // SAFETY: between fork and exec this process has one thread and shares no descriptor table.
        let own = unsafe { unshare_unsafe(UnshareFlags::NEWNS) };
        if own == Err(Errno::PERM) {
            // SAFETY: as above.
            unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)? };
            text("/proc/self/setgroups", b"deny")?;
            text("/proc/self/uid_map", user_map.as_bytes())?;
            text("/proc/self/gid_map", group_map.as_bytes())?;
        } else {
            own?;
        }
        mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount(c"tmpfs", &*target, c"tmpfs", MountFlags::NOSUID, &*options)?;
        Ok(())
    };
    // SAFETY: the closure makes system calls on data made before the fork, and neither allocates nor locks.
    unsafe { command.pre_exec(isolate) };
}

/// Everything that must hold on a file system of 1 MiB.
fn fill_a_small_file_system(place: &Path) {
    for named in [false, true] {
        let options = SegmentOptions::new().directory(place).named_temporary(named);
        for options in [options.clone(), options.clone().prefault(true), options.clone().huge_pages(true)] {
            match Segment::create_with("large", 4 << 20, &options, |_| panic!("must not run")).unwrap_err() {
                SegmentError::NoSpace { needed_bytes, available_bytes: Some(free) } => {
                    assert_eq!(needed_bytes, 4 << 20);
                    assert!((960 << 10..=1 << 20).contains(&free), "{free}");
                }
                error => panic!("{error:?}"),
            }
            assert_eq!(fs::read_dir(place).unwrap().count(), 0);
        }
        let half = Segment::create_with("half", 512 << 10, &options, empty).unwrap();
        // Somebody takes the rest; not a byte is left.
        let mut rest = fs::File::create(place.join("rest")).unwrap();
        while rest.write(&[1; 4096]).is_ok() {}
        // No access finds that there is no room.
        fill(&half.region(), 4);
        assert!(bytes(&half.region()).iter().all(|&byte| byte == 4));
        let none = Segment::create_with("none", 4096, &options, empty).unwrap_err();
        assert!(matches!(none, SegmentError::NoSpace { needed_bytes: 4096, .. }), "{none:?}");
        let either = Segment::open_or_create_with("none", 4096, &options, empty).unwrap_err();
        assert!(matches!(either, SegmentError::NoSpace { .. }), "{either:?}");
        assert_eq!(fs::read_dir(place).unwrap().count(), 2);
        fs::remove_file(place.join("rest")).unwrap();
        half.withdraw().unwrap();
    }
    report("no space");
}

#[test]
fn a_full_file_system_is_an_error_at_creation() {
    if let Some((_, place)) = role() {
        return fill_a_small_file_system(Path::new(&place));
    }
    let place = private_place();
    let mut command = peer("a_full_file_system_is_an_error_at_creation", "child", place.path());
    with_tmpfs(&mut command, place.path(), "size=1m,mode=0700");
    match command.output() {
        Ok(output) => assert_eq!(reports(&output), ["no space"]),
        // No mounts here. Then at least what is larger than the memory must be refused the same way.
        Err(_) => {
            let mut command = peer(MORE_THAN_THERE_IS, "child", place.path());
            assert_eq!(reports(&command.output().unwrap()), ["no space"]);
        }
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn more_memory_than_there_is_is_an_error_and_kills_nobody() {
    if let Some((_, place)) = role() {
        // Should this fail, the kernel is to end this process and not another.
        fs::write("/proc/self/oom_score_adj", "1000").unwrap();
        let options = SegmentOptions::new().directory(place);
        for error in [
            Segment::create_with("large", 1 << 46, &options, empty).unwrap_err(),
            Segment::anonymous(1 << 46).unwrap_err(),
            Segment::anonymous_with(1 << 46, &options.huge_pages(true)).unwrap_err(),
        ] {
            match error {
                SegmentError::NoSpace { needed_bytes, available_bytes: Some(free) } => {
                    assert_eq!(needed_bytes, 1 << 46);
                    assert!(free < 1 << 46);
                }
                error => panic!("{error:?}"),
            }
        }
        return report("no space");
    }
    let place = private_place();
    let output = peer(MORE_THAN_THERE_IS, "child", place.path()).output().unwrap();
    assert_eq!(reports(&output), ["no space"]);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn limits_of_the_process_are_named() {
    if let Some((role, place)) = role() {
        let options = SegmentOptions::new().directory(place);
        let error = match role.as_str() {
            "file size" => {
                let limit = Rlimit { current: Some(65536), maximum: getrlimit(Resource::Fsize).maximum };
                setrlimit(Resource::Fsize, limit).unwrap();
                assert!(Segment::create_with("small", 65536, &options, empty).is_ok());
                assert!(Segment::anonymous(65537).is_err());
                // Without the look at the limit this would end in a signal.
                Segment::create_with("large", 65537, &options, empty).unwrap_err()
            }
            _ => {
                let limit = Rlimit { current: Some(65536), maximum: Some(65536) };
                setrlimit(Resource::Memlock, limit).unwrap();
                let mut sets = capabilities(None).unwrap();
                sets.effective.remove(CapabilitySet::IPC_LOCK);
                set_capabilities(None, sets).unwrap();
                let options = options.lock_memory(true);
                assert!(Segment::create_with("small", 4096, &options, empty).is_ok());
                Segment::create_with("large", 1 << 20, &options, empty).unwrap_err()
            }
        };
        return report(&error.to_string());
    }
    for (role, text) in [
        ("file size", "RLIMIT_FSIZE is too low: 69632 bytes needed, found 65536"),
        ("locked memory", "RLIMIT_MEMLOCK is too low: 1048576 bytes needed, found 65536"),
    ] {
        let place = private_place();
        let output = peer("limits_of_the_process_are_named", role, place.path()).output().unwrap();
        assert_eq!(reports(&output), [text]);
        let left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["small"]);
    }
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    if let Some((_, place)) = role() {
        for (mask, name) in [(0o000, "open"), (0o777, "closed")] {
            for (named, suffix) in [(false, "-unnamed"), (true, "-named")] {
                umask(Mode::from_raw_mode(mask));
                let options = SegmentOptions::new().directory(&place).named_temporary(named);
                let name = format!("{name}{suffix}");
                Segment::create_with(&name, 1, &options, empty).unwrap();
                Segment::open_with(&name, &options).unwrap();
            }
        }
        return report("created");
    }
    let place = private_place();
    let output = peer("modes_do_not_depend_on_the_umask", "child", place.path()).output().unwrap();
    assert_eq!(reports(&output), ["created"]);
    for entry in fs::read_dir(place.path()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o7777, 0o600);
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 4);
}

/// Creates a segment in the default directory, and tells where it turned up. Others may have segments there.
fn create_in_the_default_directory(candidate: &str) {
    let name = format!("default-{}", std::process::id());
    let name = name.as_str();
    let is_listed = || Segment::list().unwrap().iter().any(|listed| listed.as_str() == name);
    assert!(!is_listed());
    assert!(matches!(Segment::open(name), Err(SegmentError::NotFound { .. })));
    let fallback = format!("/dev/shm/tidewire-{}", geteuid().as_raw());
    let directories = [Path::new(&fallback).to_path_buf(), Path::new(candidate).join("tidewire")];
    let segment = Segment::create(name, 1, empty).unwrap();
    let places: Vec<_> = directories.iter().filter(|directory| directory.join(name).exists()).collect();
    let modes: Vec<_> = places.iter().map(|place| fs::metadata(place).unwrap().mode() & 0o7777).collect();
    let listed = is_listed();
    let again = Segment::open_or_create(name, 1, empty).map(|again| again.is_created());
    // What could fail from here on leaves nothing behind.
    Segment::open(name).unwrap().withdraw().unwrap();
    assert!(matches!(Segment::unlink(name), Err(SegmentError::NotFound { .. })));
    drop(segment);
    assert!(listed && !again.unwrap());
    assert_eq!((places.len(), modes.as_slice()), (1, &[0o700][..]), "{places:?}");
    report(places[0].to_str().unwrap());
}

/// A directory that is removed with the test, if it is the test that brought it, and nobody else uses it by now.
struct Brought(Option<PathBuf>);

impl Drop for Brought {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _in_use = fs::remove_dir(path);
        }
    }
}

#[test]
fn names_live_in_a_runtime_directory_in_memory_or_in_shared_memory() {
    const TEST: &str = "names_live_in_a_runtime_directory_in_memory_or_in_shared_memory";
    if let Some((_, candidate)) = role() {
        return create_in_the_default_directory(&candidate);
    }
    let answer = |candidate: &Path, variable: Option<&Path>| {
        let mut command = peer(TEST, "child", candidate);
        match variable {
            Some(path) => command.env("XDG_RUNTIME_DIR", path),
            None => command.env_remove("XDG_RUNTIME_DIR"),
        };
        // A /dev/shm of its own where that is possible, so that nothing is left in the real one.
        with_tmpfs(&mut command, Path::new("/dev/shm"), "size=1m");
        let output = match command.output() {
            Err(_) => {
                let mut command = peer(TEST, "child", candidate);
                command.env("XDG_RUNTIME_DIR", variable.unwrap_or(Path::new(""))).output()
            }
            output => output,
        };
        reports(&output.unwrap()).remove(0)
    };
    let fallback = format!("/dev/shm/tidewire-{}", geteuid().as_raw());
    let is_new = !Path::new(&fallback).exists();
    let _brought = Brought(is_new.then(|| PathBuf::from(&fallback)));
    let disk =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir_in("/var/tmp").unwrap();
    let memory = Path::new("/dev/shm");
    assert_eq!(answer(memory, None), fallback);
    assert_eq!(answer(memory, Some(Path::new(""))), fallback);
    assert_eq!(answer(memory, Some(Path::new("relative"))), fallback);
    assert_eq!(answer(memory, Some(Path::new("/no/such/directory"))), fallback);
    assert_eq!(answer(disk.path(), Some(disk.path())), fallback, "a disk is not memory");
    // Everybody can write here.
    assert_eq!(answer(memory, Some(memory)), fallback);

    let place = private_place();
    let mut command = peer(TEST, "child", place.path());
    let output = command.env("XDG_RUNTIME_DIR", place.path()).output().unwrap();
    assert_eq!(reports(&output), [place.path().join("tidewire").to_str().unwrap()]);
}
