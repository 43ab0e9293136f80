//! Segments between processes: races, hand-over, and what the system refuses.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::fs::{self, Permissions};
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{bytes, fill, peer, report, reports, role};
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_getfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use tidewire_shm::sync::Ordering;
use tidewire_shm::{Region, Segment, SegmentError, SegmentOptions, Untrusted};

const BARRIER: &str = "TIDEWIRE_TEST_BARRIER";
const HANDED: &str = "TIDEWIRE_TEST_SEGMENT";

fn private_place() -> TempDir {
    let private = Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap()
}

fn empty(_: Region<Untrusted>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(())
}

const RACERS: u64 = 4;
const ROUNDS: u64 = 150;
const PATIENCE: Duration = Duration::from_secs(90);

/// Meets the others at a word of shared memory, then tries to create; opens what somebody else created.
fn race(place: &str, named: bool) {
    let barrier = Segment::inherited(BARRIER).unwrap().region();
    // SAFETY: the region lives as long as this function, and has nothing but this word.
    let arrived = unsafe { barrier.atomic_u64(0) };
    let options = SegmentOptions::new().directory(place).named_temporary(named);
    let mine = u8::try_from(std::process::id() % 251).unwrap() + 1;
    let started = Instant::now();
    let mut won = 0;
    for round in 1..=ROUNDS {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < round * RACERS {
            assert!(started.elapsed() < PATIENCE, "another racer is gone");
            thread::yield_now();
        }
        let name = format!("round-{round}");
        let init = |region| {
            fill(&region, mine);
            Ok(())
        };
        let segment = match Segment::create_with(&name, 16 << 10, &options, init) {
            Ok(segment) => {
                won += 1;
                segment
            }
            Err(SegmentError::AlreadyExists { .. }) => Segment::open_with(&name, &options).unwrap(),
            Err(error) => panic!("{error:?}"),
        };
        let found = bytes(&segment.region());
        assert!(found[0] != 0 && found.iter().all(|&byte| byte == found[0]), "half initialised");
        assert!(!segment.is_created() || found[0] == mine, "somebody else initialised it");
    }
    report(&won.to_string());
}

fn run_race(test: &str, role: &str) {
    let place = private_place();
    let barrier = Segment::anonymous(8).unwrap();
    let racers: Vec<_> = (0..RACERS)
        .map(|_| {
            let mut command = peer(test, role, place.path());
            barrier.inherit(&mut command, BARRIER).unwrap();
            command.spawn().unwrap()
        })
        .collect();
    let won: Vec<u64> = racers
        .into_iter()
        .map(|racer| reports(&racer.wait_with_output().unwrap())[0].parse().unwrap())
        .collect();
    assert_eq!(won.iter().sum::<u64>(), ROUNDS, "not one winner in each round: {won:?}");
    // Nothing but the segments: no temporary file of a loser either.
    assert_eq!(fs::read_dir(place.path()).unwrap().count() as u64, ROUNDS);
}

#[test]
fn racing_creators_have_one_winner() {
    if let Some((_, place)) = role() {
        return race(&place, false);
    }
    run_race("racing_creators_have_one_winner", "racer");
}

#[test]
fn racing_creators_without_unnamed_files_have_one_winner() {
    if let Some((_, place)) = role() {
        return race(&place, true);
    }
    run_race("racing_creators_without_unnamed_files_have_one_winner", "racer");
}

#[test]
fn a_segment_is_inherited_across_exec() {
    const TEST: &str = "a_segment_is_inherited_across_exec";
    match role() {
        Some((role, _)) if role == "child" => {
            let segment = Segment::inherited(HANDED).unwrap();
            assert!(!segment.is_created());
            assert!(bytes(&segment.region()).iter().all(|&byte| byte == 1));
            fill(&segment.region(), 2);
            // A second time works too; its own child gets the variable, but not the memory.
            Segment::inherited(HANDED).unwrap();
            let output = peer(TEST, "grandchild", "").output().unwrap();
            return report(&reports(&output)[0]);
        }
        Some(_) => {
            let refused = Segment::inherited(HANDED).unwrap_err();
            return report(&refused.to_string());
        }
        None => {}
    }
    let segment = Segment::anonymous(4096).unwrap();
    fill(&segment.region(), 1);
    let mut command = peer(TEST, "child", "");
    segment.inherit(&mut command, HANDED).unwrap();
    // In this process the descriptor stays closed to other programs.
    let handed =
        command.get_envs().find(|(name, _)| *name == HANDED).unwrap().1.unwrap().to_str().unwrap().to_owned();
    let output = command.output().unwrap();
    let said = reports(&output);
    assert!(said[0].starts_with("no segment arrived: expected <descriptor>:<inode>"), "{said:?}");
    assert!(bytes(&segment.region()).iter().all(|&byte| byte == 2));

    // The same variable without the descriptor.
    drop(command);
    let mut stranger = peer(TEST, "grandchild", "");
    let output = stranger.env(HANDED, handed).output().unwrap();
    assert!(reports(&output)[0].contains("which is no open descriptor"));
}

#[test]
fn variables_that_lie_are_refused() {
    const TEST: &str = "variables_that_lie_are_refused";
    if role().is_some() {
        match Segment::inherited(HANDED) {
            Ok(_) => report("mapped"),
            Err(SegmentError::Handover { found, .. }) => report(&format!("handover {found}")),
            Err(error) => report(&error.to_string()),
        }
        return;
    }
    let segment = Segment::anonymous(4096).unwrap();
    let answer = |value: &dyn Fn(&str) -> String| {
        let mut command = peer(TEST, "child", "");
        segment.inherit(&mut command, HANDED).unwrap();
        let right =
            command.get_envs().find(|(name, _)| *name == HANDED).unwrap().1.unwrap().to_str().unwrap();
        let value = value(right);
        reports(&command.env(HANDED, value).output().unwrap()).remove(0)
    };
    assert_eq!(answer(&|right| right.to_owned()), "mapped");
    assert!(answer(&|right| format!("{right}1")).contains("other memory"));
    assert!(answer(&|_| "9999:1".to_owned()).contains("no open descriptor"));
    for garbage in ["", "7", ":", "-1:5", "7:x", "99999999999:5", "x"] {
        assert!(answer(&|_| garbage.to_owned()).starts_with("handover"), "{garbage:?}");
    }
    // Standard output of the child: a pipe, which is not memory.
    let pipe = answer(&|_| "1:1".to_owned());
    assert!(pipe.contains("a FIFO") || pipe.contains("no open descriptor"), "{pipe}");
}

#[test]
fn a_segment_is_sent_between_processes() {
    const TEST: &str = "a_segment_is_sent_between_processes";
    if let Some((_, socket)) = role() {
        let mut stream = UnixStream::connect(socket).unwrap();
        let received = Segment::receive(&stream).unwrap();
        assert!(bytes(&received.region()).iter().all(|&byte| byte == 5));
        assert!(fcntl_getfd(received.as_fd()).unwrap().contains(FdFlags::CLOEXEC));
        fill(&received.region(), 6);
        stream.write_all(b"done").unwrap();
        let own = Segment::anonymous(8192).unwrap();
        fill(&own.region(), 7);
        own.send(&stream).unwrap();
        return report("sent");
    }
    let place = private_place();
    let path = place.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let child = peer(TEST, "child", &path).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let segment = Segment::anonymous(4096).unwrap();
    fill(&segment.region(), 5);
    segment.send(&stream).unwrap();
    // Other traffic on the same socket is not disturbed: a segment takes one byte.
    let mut done = [0; 4];
    io::Read::read_exact(&mut stream, &mut done).unwrap();
    assert_eq!(&done, b"done");
    assert!(bytes(&segment.region()).iter().all(|&byte| byte == 6));
    let received = Segment::receive(&stream).unwrap();
    assert_eq!(reports(&child.wait_with_output().unwrap()), ["sent"]);
    // The sender is gone; its memory is not.
    assert_eq!(received.len(), 8192);
    assert!(bytes(&received.region()).iter().all(|&byte| byte == 7));
}

fn send_raw(to: &UnixStream, data: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(to, &[IoSlice::new(data)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn anything_but_one_descriptor_is_refused_and_closed() {
    let (here, there) = UnixStream::pair().unwrap();
    let segment = Segment::anonymous(4096).unwrap();
    let found = |there: &UnixStream| match Segment::receive(there).unwrap_err() {
        SegmentError::Handover { found, .. } => found,
        error => panic!("{error:?}"),
    };
    send_raw(&here, b"S", &[]);
    assert_eq!(found(&there), "byte 0x53 with 0 descriptors");
    send_raw(&here, b"x", &[segment.as_fd()]);
    assert_eq!(found(&there), "byte 0x78 with 1 descriptors");

    for count in [2, 8, 60] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut descriptors = vec![write.as_fd(); count - 1];
        descriptors.insert(0, segment.as_fd());
        send_raw(&here, b"S", &descriptors);
        let found = found(&there);
        let wanted = format!("byte 0x53 with {count} descriptors");
        assert!(found == wanted || (count > 8 && found.starts_with("more descriptors")), "{found}");
        // All that were received are closed again: the pipe has no writer left.
        drop(write);
        assert_eq!(rustix::io::read(&read, &mut [0_u8; 1]).unwrap(), 0);
    }

    // A refusal does not harm what comes next.
    segment.send(&here).unwrap();
    assert_eq!(Segment::receive(&there).unwrap().len(), 4096);
    drop(here);
    assert_eq!(found(&there), "the end of the stream");
    assert!(matches!(segment.send(&there), Err(SegmentError::Io { .. })));
}

#[test]
fn named_segments_are_not_handed_over() {
    let place = private_place();
    let options = SegmentOptions::new().directory(place.path());
    let named = Segment::create_with("named", 1, &options, empty).unwrap();
    let (here, _there) = UnixStream::pair().unwrap();
    let refused = [
        named.send(&here).unwrap_err(),
        named.inherit(&mut peer("x", "y", ""), HANDED).unwrap_err(),
        Segment::from_fd(named.try_clone_fd().unwrap()).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, SegmentError::NotASegment { what: "seals", .. }), "{error:?}");
    }
}

#[test]
fn the_size_of_anonymous_memory_is_sealed() {
    for huge in [false, true] {
        let segment = Segment::anonymous_with(8192, &SegmentOptions::new().huge_pages(huge)).unwrap();
        let fd = segment.as_fd();
        let size = fs::File::from(segment.try_clone_fd().unwrap()).metadata().unwrap().len();
        for len in [0, size * 2] {
            assert_eq!(ftruncate(fd, len), Err(Errno::PERM));
        }
        assert_eq!(fcntl_add_seals(fd, SealFlags::WRITE), Err(Errno::PERM));
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(fs::File::from(segment.try_clone_fd().unwrap()).metadata().unwrap().mode() & 0o111, 0);
        assert_eq!(Segment::from_fd(segment.try_clone_fd().unwrap()).unwrap().len() as u64, size);
    }
}

#[test]
fn memory_that_is_not_sealed_is_not_mapped() {
    let memfd = |len: u64, seals: SealFlags| -> OwnedFd {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, len).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let refusal = |fd: OwnedFd| match Segment::from_fd(fd).unwrap_err() {
        SegmentError::NotASegment { what, expected, found } => format!("{what}: {expected}; {found}"),
        error => panic!("{error:?}"),
    };
    let seals = "seals: [shrink, grow, seal]; ";
    assert_eq!(refusal(memfd(4096, SealFlags::empty())), format!("{seals}none"));
    assert_eq!(refusal(memfd(4096, SealFlags::SHRINK | SealFlags::SEAL)), format!("{seals}[shrink, seal]"));
    assert_eq!(refusal(memfd(4096, SealFlags::SHRINK | SealFlags::GROW)), format!("{seals}[shrink, grow]"));
    assert_eq!(refusal(memfd(4096, all | SealFlags::WRITE)), format!("{seals}[shrink, grow, seal, write]"));
    assert!(refusal(memfd(0, all)).ends_with("0 bytes"));
    assert!(refusal(memfd(4095, all)).ends_with("4095 bytes"));
    assert!(refusal(tempfile::tempfile().unwrap().into()).starts_with(seals));
    assert!(refusal(fs::File::open("/").unwrap().into()).ends_with("a directory"));
    assert!(refusal(fs::File::open("/dev/null").unwrap().into()).ends_with("a character device"));

    // Room that would have to be found at the first touch.
    assert_eq!(refusal(memfd(8192, all)), "reserved room: 8192 bytes; 0 bytes");
    // Blocks behind the end are none of those that are missing, however many there are.
    let beyond = |reserved: u64, behind: u64| -> OwnedFd {
        let fd = memfd(8192, SealFlags::empty());
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&fd, flags, 0, reserved).unwrap();
        rustix::fs::fallocate(&fd, flags, 1 << 30, behind).unwrap();
        fcntl_add_seals(&fd, all).unwrap();
        fd
    };
    for behind in [4096, 8192, 1 << 20] {
        assert_eq!(refusal(beyond(4096, behind)), "reserved room: 8192 bytes; 4096 bytes");
        let whole = beyond(8192, behind);
        let blocks = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_blocks;
        assert!(blocks(&whole) > 16);
        let mapped = Segment::from_fd(whole.try_clone().unwrap()).unwrap();
        assert_eq!((mapped.len(), blocks(&whole)), (8192, 16));
    }
    let good = memfd(4096, all);
    rustix::fs::fallocate(&good, rustix::fs::FallocateFlags::empty(), 0, 4096).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&good));
    let reader = fs::File::open(&path).unwrap();
    assert_eq!(refusal(reader.into()), "access: reading and writing; reading only");
    let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(refusal(writer.into()), "access: reading and writing; writing only");
    let nothing = rustix::fs::open(&path, OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    assert!(Segment::from_fd(nothing).is_err());

    // What survives exec does not survive the next one.
    rustix::io::fcntl_setfd(&good, FdFlags::empty()).unwrap();
    let mapped = Segment::from_fd(good).unwrap();
    assert!(fcntl_getfd(mapped.as_fd()).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(fcntl_get_seals(mapped.as_fd()).unwrap() & all, all);
}
