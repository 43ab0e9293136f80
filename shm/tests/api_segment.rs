//! Segments as one process sees them: names, files, permissions, lengths, mappings, options.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::panic;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use process_segment_peer::{bytes, fill};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tidewire_shm::{
    Header, Name, NameError, Region, RoleStride, Segment, SegmentError, SegmentOptions, Untrusted,
};

fn place() -> (TempDir, SegmentOptions) {
    let private = Permissions::from_mode(0o700);
    let place = tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap();
    let options = SegmentOptions::new().directory(place.path());
    (place, options)
}

fn empty(_: Region<Untrusted>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(())
}

/// The error of an operation that must not hang.
fn refusal(name: &'static str, options: &SegmentOptions) -> SegmentError {
    let (send, answer) = mpsc::channel();
    let options = options.clone();
    thread::spawn(move || send.send(Segment::open_with(name, &options)));
    answer.recv_timeout(Duration::from_secs(10)).expect("open hangs").expect_err("opened")
}

fn assert_refused(error: &SegmentError, property: &str, wanted: &str, seen: &str) {
    match error {
        SegmentError::NotASegment { what, expected, found } => {
            assert_eq!((*what, expected.as_str(), found.as_str()), (property, wanted, seen), "{error}");
        }
        _ => panic!("refused for another reason: {error:?}"),
    }
}

fn is_allowed(byte: u8) -> bool {
    b"abcdefghijklmnopqrstuvwxyz0123456789._-".contains(&byte)
}

proptest! {
    #[test]
    fn names_of_allowed_bytes_are_accepted(name in "[a-z0-9._-]{1,200}") {
        prop_assume!(name != "." && name != "..");
        let parsed = Name::new(&name).unwrap();
        prop_assert_eq!(parsed.as_str(), name);
    }

    #[test]
    fn the_first_forbidden_byte_is_named(name in "([a-z0-9._-]{0,5}.?){1,8}") {
        prop_assume!(!name.is_empty() && name != "." && name != "..");
        match (Name::new(&name), name.bytes().position(|byte| !is_allowed(byte))) {
            (Ok(parsed), None) => prop_assert_eq!(parsed.as_str(), name),
            (Err(NameError::Byte { byte, at }), Some(first)) => {
                prop_assert_eq!((byte, at), (name.as_bytes()[first], first));
            }
            (answer, first) => prop_assert!(false, "{:?} for {:?}, {:?}", answer, name, first),
        }
    }

    #[test]
    fn names_of_any_text_never_panic(name in any::<String>()) {
        let fits = (1..=200).contains(&name.len()) && name.bytes().all(is_allowed) && name != "." && name != "..";
        prop_assert_eq!(Name::new(&name).is_ok(), fits);
    }
}

#[test]
fn names_that_are_too_long_or_mean_directories_are_refused() {
    assert!(Name::new(&"n".repeat(200)).is_ok());
    assert_eq!(Name::new(&"n".repeat(201)), Err(NameError::TooLong { found: 201 }));
    assert_eq!(Name::new(""), Err(NameError::Empty));
    assert_eq!(Name::new("."), Err(NameError::Dots));
    assert_eq!(Name::new(".."), Err(NameError::Dots));
    assert!(Name::new("...").is_ok());
    let text = Name::new("a\0b").unwrap_err().to_string();
    assert!(text.ends_with("found byte 0x00 at place 1"), "{text}");
}

#[test]
fn files_are_private_and_whole_pages() {
    for named in [false, true] {
        let (place, options) = place();
        let options = options.named_temporary(named);
        let segment = Segment::create_with("private", 5000, &options, empty).unwrap();
        let file = fs::metadata(place.path().join("private")).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o600);
        assert_eq!((file.len(), file.nlink()), (8192, 1));
        assert!(file.blocks() * 512 >= 8192, "its room is not taken");
        assert_eq!((segment.len(), segment.region().len()), (5000, 5000));
        assert_eq!(Segment::open_with("private", &options).unwrap().len(), 8192);
    }
}

#[test]
fn symbolic_links_are_refused() {
    let (place, options) = place();
    Segment::create_with("target", 1, &options, empty).unwrap();
    symlink("target", place.path().join("link")).unwrap();
    symlink("nowhere", place.path().join("dangling")).unwrap();
    for name in ["link", "dangling"] {
        assert_refused(&refusal(name, &options), "kind of file", "a regular file", "a symbolic link");
        // Creation must not follow it either.
        let taken = Segment::create_with(name, 1, &options, empty).unwrap_err();
        assert!(matches!(taken, SegmentError::AlreadyExists { .. }), "{taken}");
    }
    assert!(!place.path().join("nowhere").exists());
}

#[test]
fn directories_behind_symbolic_links_are_refused() {
    let (place, options) = place();
    let real = place.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o700)).unwrap();
    Segment::create_with("inside", 1, &options.clone().directory(&real), empty).unwrap();
    symlink("real", place.path().join("link")).unwrap();
    for path in ["link", "link/", "link/.", "link//"] {
        let options = options.clone().directory(place.path().join(path));
        for answer in
            [Segment::open_with("inside", &options), Segment::create_with("new", 1, &options, empty)]
        {
            let error = answer.unwrap_err();
            match &error {
                SegmentError::Directory { found, .. } => assert_eq!(found, "a symbolic link", "{error}"),
                _ => panic!("{path}: {error:?}"),
            }
        }
    }
}

#[test]
fn directories_that_others_can_use_are_refused() {
    let (place, options) = place();
    for mode in [0o750, 0o701, 0o777, 0o500] {
        fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
        let error = Segment::create_with("new", 1, &options, empty).unwrap_err();
        match &error {
            SegmentError::Directory { path, expected, found } => {
                assert_eq!((path.as_path(), expected.as_str()), (place.path(), "mode 0700"));
                assert_eq!(*found, format!("mode {mode:04o}"));
            }
            _ => panic!("{error:?}"),
        }
    }
    fs::set_permissions(place.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(Segment::create_with("new", 1, &options, empty).is_ok());

    let file = options.clone().directory(place.path().join("new"));
    assert!(matches!(Segment::list_with(&file), Err(SegmentError::Directory { .. })));
}

#[test]
fn a_missing_directory_is_empty_and_made_by_the_first_creation() {
    let (place, options) = place();
    let options = options.directory(place.path().join("new"));
    assert!(Segment::list_with(&options).unwrap().is_empty());
    assert!(matches!(Segment::open_with("x", &options), Err(SegmentError::NotFound { .. })));
    assert!(matches!(Segment::unlink_with("x", &options), Err(SegmentError::NotFound { .. })));
    assert!(!place.path().join("new").exists());
    Segment::create_with("x", 1, &options, empty).unwrap();
    assert_eq!(fs::metadata(place.path().join("new")).unwrap().mode() & 0o7777, 0o700);
    let unreachable = options.directory(place.path().join("no/such"));
    assert!(matches!(Segment::create_with("x", 1, &unreachable, empty), Err(SegmentError::Io { .. })));
}

#[test]
fn foreign_owners_are_refused() {
    let (place, options) = place();
    Segment::create_with("foreign", 1, &options, empty).unwrap();
    let me = fs::metadata(place.path()).unwrap().uid();
    let owner_of_directory = |options: &SegmentOptions, owner: u32| {
        let error = Segment::list_with(options).unwrap_err();
        match &error {
            SegmentError::Directory { expected, found, .. } => {
                assert_eq!(*expected, format!("owner {me}"));
                assert_eq!(*found, format!("owner {owner}"));
            }
            _ => panic!("{error:?}"),
        }
    };
    match chown(place.path().join("foreign"), Some(me + 1), None) {
        Ok(()) => {
            let found = (me + 1).to_string();
            assert_refused(&refusal("foreign", &options), "owner", &me.to_string(), &found);
            chown(place.path(), Some(me + 1), None).unwrap();
            owner_of_directory(&options, me + 1);
        }
        // Without the right to give files away there is a directory of somebody else's at hand.
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            owner_of_directory(&options.directory("/"), 0);
        }
    }
}

#[test]
fn files_that_others_can_use_are_refused() {
    let (place, options) = place();
    Segment::create_with("open", 1, &options, empty).unwrap();
    let path = place.path().join("open");
    for mode in [0o620, 0o640, 0o602, 0o604, 0o610, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_refused(&refusal("open", &options), "mode", "0600", &format!("{mode:04o}"));
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(Segment::open_with("open", &options).is_ok());
}

#[test]
fn second_links_are_refused() {
    let (place, options) = place();
    Segment::create_with("one", 1, &options, empty).unwrap();
    fs::hard_link(place.path().join("one"), place.path().join("two")).unwrap();
    assert_refused(&refusal("one", &options), "links", "1", "2");
    fs::remove_file(place.path().join("two")).unwrap();
    assert!(Segment::open_with("one", &options).is_ok());
}

#[test]
fn files_of_no_or_partial_pages_are_refused() {
    let (place, options) = place();
    Segment::create_with("short", 8192, &options, empty).unwrap();
    let file = fs::OpenOptions::new().write(true).open(place.path().join("short")).unwrap();
    let page = rustix::param::page_size() as u64;
    for len in [0, 1, page - 1, page + 1] {
        file.set_len(len).unwrap();
        let expected = format!("a positive multiple of {page} bytes");
        assert_refused(&refusal("short", &options), "size", &expected, &format!("{len} bytes"));
    }
    file.set_len(page).unwrap();
    assert!(Segment::open_with("short", &options).is_ok());
}

#[test]
fn other_kinds_of_files_are_refused_at_once() {
    let (place, options) = place();
    let path = |name: &str| place.path().join(name);
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::create_dir(path("directory")).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    for (name, found) in [("fifo", "a FIFO"), ("directory", "a directory"), ("socket", "a socket")] {
        assert_refused(&refusal(name, &options), "kind of file", "a regular file", found);
        let read_only = Segment::open_read_only_with(name, &options);
        assert_refused(&read_only.unwrap_err(), "kind of file", "a regular file", found);
    }
    assert!(Segment::list_with(&options).unwrap().is_empty());
}

#[test]
fn names_are_taken_listed_and_removed() {
    let (place, options) = place();
    assert!(matches!(Segment::open_with("b", &options), Err(SegmentError::NotFound { .. })));
    let first = Segment::create_with("b", 1, &options, empty).unwrap();
    Segment::create_with("a", 1, &options, empty).unwrap();
    fs::write(place.path().join("Not-A-Name"), b"").unwrap();
    let names: Vec<_> = Segment::list_with(&options).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a", "b"]);

    let taken = Segment::create_with("b", 1, &options, |_| panic!("must not run")).unwrap_err();
    assert!(matches!(&taken, SegmentError::AlreadyExists { name } if name.as_str() == "b"), "{taken}");
    Segment::unlink_with("b", &options).unwrap();
    assert!(matches!(Segment::unlink_with("b", &options), Err(SegmentError::NotFound { .. })));

    // Somebody else has the name now.
    let second = Segment::create_with("b", 1, &options, empty).unwrap();
    assert!(matches!(first.withdraw(), Err(SegmentError::NotFound { .. })));
    second.withdraw().unwrap();
    assert!(matches!(second.withdraw(), Err(SegmentError::NotFound { .. })));
    let anonymous = Segment::anonymous(1).unwrap();
    assert!(matches!(anonymous.withdraw(), Err(SegmentError::NotASegment { what: "name", .. })));
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let (place, options) = place();
    for asked in [0, usize::MAX, isize::MAX as usize + 1, isize::MAX as usize] {
        let named = Segment::create_with("length", asked, &options, empty).unwrap_err();
        let anonymous = Segment::anonymous(asked).unwrap_err();
        for error in [named, anonymous] {
            assert!(matches!(error, SegmentError::Length { asked: found } if found == asked), "{error:?}");
        }
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_failed_initialiser_leaves_nothing() {
    for named in [false, true] {
        let (place, options) = place();
        let options = options.named_temporary(named);
        let failed = Segment::create_with("failed", 1, &options, |_| Err("no luck".into())).unwrap_err();
        let source = std::error::Error::source(&failed).unwrap();
        assert_eq!(source.to_string(), "no luck");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);

        let panics = || Segment::create_with("failed", 1, &options, |_| panic!("deliberate"));
        assert!(panic::catch_unwind(panics).is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_name_that_appears_during_initialisation_is_not_overwritten() {
    for named in [false, true] {
        let (_place, options) = place();
        let options = options.named_temporary(named);
        let overtaken = |_| {
            Segment::create_with("race", 8192, &options, empty)?;
            Ok(())
        };
        let lost = Segment::create_with("race", 4096, &options, overtaken).unwrap_err();
        assert!(matches!(lost, SegmentError::AlreadyExists { .. }), "{lost}");
        assert_eq!(Segment::open_with("race", &options).unwrap().len(), 8192);
        // The same, for one that takes either.
        Segment::unlink_with("race", &options).unwrap();
        let either = Segment::open_or_create_with("race", 4096, &options, overtaken).unwrap();
        assert!(!either.is_created());
        assert_eq!(either.len(), 8192);
        assert_eq!(Segment::list_with(&options).unwrap().len(), 1);
    }
}

#[test]
fn open_or_create_survives_names_that_come_and_go() {
    let (place, options) = place();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut created = 0;
                    for _ in 0..500 {
                        let init = |region: Region<Untrusted>| {
                            fill(&region, 7);
                            Ok(())
                        };
                        let segment = Segment::open_or_create_with("fleeting", 4096, &options, init).unwrap();
                        assert!(bytes(&segment.region()).iter().all(|&byte| byte == 7));
                        created += usize::from(segment.is_created());
                        let _gone = Segment::unlink_with("fleeting", &options);
                    }
                    created
                })
            })
            .collect();
        let created: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!((500..=1000).contains(&created), "{created}");
    });
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn two_mappings_see_one_memory() {
    let (_place, options) = place();
    let one = Segment::create_with("both", 4096, &options, empty).unwrap();
    let other = Segment::open_with("both", &options).unwrap();
    assert!(bytes(&other.region()).iter().all(|&byte| byte == 0), "new memory is zero");
    fill(&one.region(), 1);
    assert!(bytes(&other.region()).iter().all(|&byte| byte == 1));
    fill(&other.region(), 2);
    assert!(bytes(&one.region()).iter().all(|&byte| byte == 2));
}

#[test]
fn regions_outlive_segment_and_name() {
    let (_place, options) = place();
    let segment = Segment::create_with("outlived", 4096, &options, empty).unwrap();
    let (first, second) = (segment.region(), segment.region());
    segment.withdraw().unwrap();
    drop(segment);
    fill(&first, 9);
    drop(first);
    assert!(bytes(&second).iter().all(|&byte| byte == 9));
}

#[test]
fn regions_carry_their_origin() {
    let (_place, options) = place();
    let mut nonce = 0;
    let init = |region: Region<Untrusted>| {
        nonce = region.origin().nonce;
        let header = Header {
            kind: 1,
            total_bytes: 4096,
            capacity: 0,
            element_bytes: 1,
            element_align: 1,
            type_fingerprint: 0,
            role_stride: RoleStride::Line,
            data_offset: 128,
            origin: region.origin(),
        };
        header.write(&region)?;
        Ok(())
    };
    let created = Segment::create_with("origin", 4096, &options, init).unwrap();
    let opened = Segment::open_with("origin", &options).unwrap();
    assert_ne!(nonce, 0);
    assert_eq!(created.region().origin().nonce, nonce);
    assert_eq!(opened.region().origin().nonce, 0);
    assert_eq!(opened.region().origin().boot_id, created.region().origin().boot_id);
    assert_eq!(Header::read(&opened.region()).unwrap().origin, created.region().origin());
    assert_ne!(Segment::anonymous(1).unwrap().region().origin().nonce, nonce);
}

/// The lines that the kernel writes about this process' mappings of a segment, one list per mapping.
fn mappings(segment: &Segment) -> Vec<Vec<String>> {
    let inode = rustix::fs::fstat(segment.as_fd()).unwrap().st_ino.to_string();
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut mine = false;
    for line in smaps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if !words[0].ends_with(':') {
            mine = words[4] == inode;
            if mine {
                found.push(Vec::new());
            }
        }
        if mine {
            found.last_mut().unwrap().push(line.to_owned());
        }
    }
    found
}

fn kilobytes(mapping: &[String], key: &str) -> u64 {
    let line = mapping.iter().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn prefaulting_and_locking_happen_while_mapping() {
    let (_place, options) = place();
    let len = 64 << 10;
    let lazy = Segment::create_with("lazy", len, &options, empty).unwrap();
    assert_eq!(kilobytes(&mappings(&lazy)[0], "Rss:"), 0);

    let options = options.prefault(true);
    let eager = Segment::create_with("eager", len, &options, empty).unwrap();
    assert_eq!(kilobytes(&mappings(&eager)[0], "Rss:"), 64);
    assert_eq!(kilobytes(&mappings(&eager)[0], "Locked:"), 0);
    drop(eager);
    let reader = Segment::open_read_only_with("eager", &options).unwrap();
    let mapping = &mappings(&reader)[0];
    assert!(mapping[0].contains(" r--s "), "{}", mapping[0]);
    assert_eq!(kilobytes(mapping, "Rss:"), 64);

    let locked = Segment::anonymous_with(len, &SegmentOptions::new().lock_memory(true)).unwrap();
    assert_eq!(kilobytes(&mappings(&locked)[0], "Locked:"), 64);
}

#[test]
fn huge_pages_are_reported_as_the_kernel_gave_them() {
    let (_place, options) = place();
    let disk = tempfile::tempdir().unwrap();
    let wanted = SegmentOptions::new().huge_pages(true);
    let len = 8 << 20;
    let segments = [
        Segment::anonymous_with(len, &wanted).unwrap(),
        Segment::create_with("huge", len, &options.huge_pages(true), empty).unwrap(),
        Segment::create_with("huge", len, &wanted.directory(disk.path().join("segments")), empty).unwrap(),
        Segment::anonymous(len).unwrap(),
    ];
    for segment in segments {
        let mapping = &mappings(&segment)[0];
        let pool = kilobytes(mapping, "KernelPageSize:") > 4;
        let transparent = kilobytes(mapping, "ShmemPmdMapped:") + kilobytes(mapping, "FilePmdMapped:");
        // All of the eight MiB but less than a huge page at either end.
        assert_eq!(segment.huge_pages(), pool || transparent > 4 << 10, "{mapping:#?}");
        fill(&segment.region(), 3);
        assert!(bytes(&segment.region()).iter().all(|&byte| byte == 3));
    }
}

#[test]
fn errors_say_what_was_expected_and_found() {
    let texts = [
        (Segment::open("A").unwrap_err(), "the name is not allowed"),
        (
            Segment::anonymous(0).unwrap_err(),
            "a segment has 1 to 9223372036854775807 bytes, 0 were asked for",
        ),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
    let (place, options) = place();
    let error = Segment::open_with("x", &options).unwrap_err();
    assert_eq!(error.to_string(), "there is no segment named x");
    fs::set_permissions(place.path(), Permissions::from_mode(0o711)).unwrap();
    let error = Segment::open_with("x", &options).unwrap_err();
    let path = Path::display(place.path());
    assert_eq!(error.to_string(), format!("unsafe directory {path}: expected mode 0700, found mode 0711"));
}
