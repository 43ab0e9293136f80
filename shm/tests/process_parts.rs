//! Segments in parts between processes: one writer each, and the kernel that refuses all others.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_segment_peer;

use std::ffi::c_void;
use std::fs::OpenOptions;
use std::io::{IoSlice, IoSliceMut, Read, Write, stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::ptr::null_mut;
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{peer, report, reports, role};
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, fstat, ftruncate,
    memfd_create, open,
};
use rustix::io::{Errno, FdFlags, fcntl_getfd, pwrite};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap, mprotect};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::param::page_size;
use rustix::process::{Resource, Rlimit, setrlimit};
use tidewire_shm::sync::{AtomicU64, Ordering, Shared, fence};
use tidewire_shm::{
    Liveness, Part, PartedDraft, PartedSegment, Region, RegionError, RoleId, SegmentError, Tenancy, Untrusted,
};

const CREATOR: RoleId = RoleId::CREATOR;
const PRODUCER: RoleId = RoleId::producer(0).unwrap();
const CONSUMER: RoleId = RoleId::CONSUMER;
const PATIENCE: Duration = Duration::from_secs(50);

/// A ring with page stride: header, producer's words, consumer's words, data.
fn ring() -> [Part; 4] {
    [
        Part::written_by(CREATOR, page_size()),
        Part::written_by(PRODUCER, page_size()),
        Part::written_by(CONSUMER, page_size()),
        Part::shared(page_size()),
    ]
}

/// Starts this test again in a role, with one end of a socket as its standard input.
fn start(test: &str, role: &str) -> (Child, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = peer(test, role, "");
    command.stdin(Stdio::from(OwnedFd::from(there)));
    (command.spawn().unwrap(), here)
}

/// The socket of a process that [`start`] started.
fn socket() -> UnixStream {
    let socket = UnixStream::from(stdin().as_fd().try_clone_to_owned().unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Creates what [`ring`] says, with a consumer at the other end.
fn create_ring(socket: &UnixStream, fill: impl FnOnce(&Region<Untrusted>)) -> PartedSegment {
    let mut draft = PartedDraft::new(&ring(), &[CREATOR, PRODUCER]).unwrap();
    draft.gather(socket, &[CONSUMER]).unwrap();
    let created = draft.complete().unwrap();
    fill(&created.region());
    created.send(socket).unwrap();
    created
}

fn word(region: &Region<Untrusted>, offset: usize) -> Shared<AtomicU64> {
    // SAFETY: the tests keep the region, access these bytes as words only, and store only where they may, but for the
    // one that shall die of it.
    unsafe { region.atomic_u64(offset) }
}

/// A peer's word, which may lie in memory that can only be read.
fn peers(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

fn fill(region: &Region<Untrusted>, part: usize, value: u64) {
    (part * page_size()..(part + 1) * page_size())
        .step_by(8)
        .for_each(|offset| word(region, offset).store(value, Ordering::Relaxed));
}

fn is_filled(region: &Region<Untrusted>, part: usize, value: u64) -> bool {
    let mut offsets = (part * page_size()..(part + 1) * page_size()).step_by(8);
    offsets.all(|offset| word(region, offset).load(Ordering::Relaxed) == value)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

const MESSAGES: u64 = 100_000;

/// The positions and the slots of the ring.
fn places(
    region: &Region<Untrusted>,
) -> (Shared<AtomicU64>, Shared<AtomicU64>, impl Fn(u64) -> usize + use<>) {
    let page = page_size();
    let slots = page as u64 / 8;
    let slot = move |position: u64| 3 * page + usize::try_from(position % slots).unwrap() * 8;
    (word(region, page), word(region, 2 * page + 256), slot)
}

#[test]
fn messages_cross_from_part_to_part() {
    if role().is_some() {
        let joined = PartedSegment::join(&socket(), &ring(), &[CONSUMER]).unwrap();
        let region = joined.region();
        // Regions outlive the segment.
        drop(joined);
        let (tail, head, slot) = places(&region);
        for position in 0..MESSAGES {
            wait_until("no message", || peers(&tail) > position);
            // SAFETY: the region is kept; the data is accessed as payload only.
            let data = unsafe { region.payload(slot(position), 8) };
            // SAFETY: the slot is published, and not written before the head says so.
            let message: u64 = unsafe { data.load(0) };
            assert_eq!(message, position.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            // SAFETY: the data is shared, and the slot is the consumer's until it is freed.
            unsafe { data.touch::<u64>(0) };
            head.store(position + 1, Ordering::Release);
        }
        return report("all");
    }
    let (child, socket) = start("messages_cross_from_part_to_part", "consumer");
    let created = create_ring(&socket, |region| {
        let (page, len) = (page_size(), region.len());
        assert!(region.is_writable_at(0, 2 * page) && region.is_writable_at(3 * page, page));
        assert!(!region.is_writable_at(2 * page, 1) && !region.is_writable() && len == 4 * page);
    });
    let region = created.region();
    let (tail, head, slot) = places(&region);
    for position in 0..MESSAGES {
        wait_until("no room", || position - peers(&head) < page_size() as u64 / 8);
        // SAFETY: the region is kept; the data is accessed as payload only.
        let data = unsafe { region.payload(slot(position), 8) };
        // SAFETY: the slot is free, and not read before the tail says so.
        unsafe { data.store(0, &position.wrapping_mul(0x9e37_79b9_7f4a_7c15)) };
        tail.store(position + 1, Ordering::Release);
    }
    assert_eq!(reports(&child.wait_with_output().unwrap()), ["all"]);
    assert_eq!(peers(&head), MESSAGES);
}

fn map_for_writing(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let may = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping that nobody uses.
    unsafe { mmap(null_mut(), page_size(), may, MapFlags::SHARED, fd, 0) }.map(drop)
}

fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> OwnedFd {
    open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// What can be tried with a descriptor of a part, and what the kernel answers.
fn attack_descriptor(fd: BorrowedFd<'_>) -> Vec<(&'static str, Result<(), Errno>)> {
    let bytes = u64::try_from(fstat(fd).unwrap().st_size).unwrap();
    let again = reopen(fd, OFlags::RDWR);
    vec![
        ("map it for writing", map_for_writing(fd)),
        ("write it as a file", pwrite(fd, b"scribble", 0).map(drop)),
        ("open it anew and map", map_for_writing(again.as_fd())),
        ("open it anew and write", pwrite(&again, b"scribble", 0).map(drop)),
        ("open it emptied", open_emptied(fd)),
        ("punch a hole", fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, bytes)),
        ("shrink", ftruncate(fd, 0)),
        ("grow", ftruncate(fd, bytes + page_size() as u64)),
        ("add a seal", fcntl_add_seals(fd, SealFlags::WRITE)),
    ]
}

fn open_emptied(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path, OFlags::RDWR | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty()).map(drop)
}

/// What can be tried with a mapping of a part.
fn attack_mapping(address: *mut u64) -> Vec<(&'static str, Result<(), Errno>)> {
    let page: *mut c_void = address.cast();
    let scribble = *b"scribble";
    let mem = OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap();
    let through_mem = mem.write_at(&scribble, page.addr() as u64).map(drop);
    let from = libc::iovec { iov_base: scribble.as_ptr().cast_mut().cast(), iov_len: scribble.len() };
    let to = libc::iovec { iov_base: page, iov_len: scribble.len() };
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: reads eight bytes that live; that it may write is what shall be refused.
    let written = unsafe { libc::process_vm_writev(own, &raw const from, 1, &raw const to, 1, 0) };
    let across = if written == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap();
    // SAFETY: takes no right away; if it gives one, the test fails.
    let protected = unsafe { mprotect(page, page_size(), MprotectFlags::READ | MprotectFlags::WRITE) };
    // SAFETY: the region is atomics and plain bytes; if its pages go, the test fails.
    let removed = unsafe { madvise(page, page_size(), Advice::LinuxRemove) };
    vec![
        ("give the mapping the right to write", protected),
        ("remove its pages", removed),
        ("write through /proc/self/mem", through_mem.map_err(errno)),
        ("write as another process", across.map_err(errno)),
    ]
}

fn all(ways: Vec<(&'static str, Result<(), Errno>)>, expected: impl Fn(&str) -> Errno) -> Result<(), String> {
    let wrong = ways.into_iter().find(|(way, answer)| *answer != Err(expected(way)));
    wrong.map_or(Ok(()), |(way, answer)| Err(format!("{way}: {answer:?}, expected {:?}", expected(way))))
}

/// Tries everything on a part that this process has mapped read-only.
fn attack(segment: &PartedSegment, part: usize) {
    let region = segment.region();
    let offset = segment.parts()[..part].iter().map(Part::bytes).sum();
    assert!(!region.is_writable_at(offset, 8));
    all(attack_descriptor(segment.part_fd(part).unwrap()), |_| Errno::PERM).unwrap();
    all(attack_mapping(word(&region, offset).as_ptr()), |way| match way {
        "write through /proc/self/mem" => Errno::IO,
        "write as another process" => Errno::FAULT,
        _ => Errno::ACCESS,
    })
    .unwrap();
}

fn tell(mut socket: &UnixStream) {
    socket.write_all(b"!").unwrap();
}

fn hear(mut socket: &UnixStream) {
    socket.read_exact(&mut [0]).unwrap();
}

#[test]
fn nobody_writes_a_part_but_its_one_writer() {
    let (mine, theirs) = (0x1111_u64, 0x2222_u64);
    if role().is_some() {
        let socket = socket();
        let joined = PartedSegment::join(&socket, &ring(), &[CONSUMER]).unwrap();
        let region = joined.region();
        let (page, refused) = (page_size(), |offset| RegionError::ReadOnlyPart { offset, bytes: 8 });
        assert_eq!(region.require_writable_at(page, 8), Err(refused(page)));
        assert_eq!(region.require_writable_at(2 * page, 2 * page), Ok(()));
        assert_eq!(region.require_writable_at(2 * page - 8, 8), Err(refused(2 * page - 8)));
        attack(&joined, 0);
        attack(&joined, 1);
        assert!(is_filled(&region, 0, mine) && is_filled(&region, 1, mine));
        // Its own part: by its mapping, and in no other way.
        fill(&region, 2, theirs);
        all(attack_descriptor(joined.part_fd(2).unwrap()), |_| Errno::PERM).unwrap();
        // The shared part: in any way that leaves its size alone.
        let shared = joined.part_fd(3).unwrap();
        assert_eq!((map_for_writing(shared), pwrite(shared, b"scribble", 0)), (Ok(()), Ok(8)));
        assert_eq!(word(&region, 3 * page).load(Ordering::Relaxed), u64::from_ne_bytes(*b"scribble"));
        assert_eq!((ftruncate(shared, 0), ftruncate(shared, 1 << 20)), (Err(Errno::PERM), Err(Errno::PERM)));
        tell(&socket);
        hear(&socket);
        assert!(is_filled(&region, 2, theirs));
        return report("held");
    }
    let (child, socket) = start("nobody_writes_a_part_but_its_one_writer", "consumer");
    let created = create_ring(&socket, |region| {
        fill(region, 0, mine);
        fill(region, 1, mine);
    });
    hear(&socket);
    let region = created.region();
    assert!(is_filled(&region, 0, mine) && is_filled(&region, 1, mine) && is_filled(&region, 2, theirs));
    attack(&created, 2);
    all(attack_descriptor(created.part_fd(0).unwrap()), |_| Errno::PERM).unwrap();
    assert!(is_filled(&region, 0, mine) && is_filled(&region, 2, theirs));
    for part in 0..4 {
        assert!(fcntl_getfd(created.part_fd(part).unwrap()).unwrap().contains(FdFlags::CLOEXEC));
    }
    tell(&socket);
    assert_eq!(reports(&child.wait_with_output().unwrap()), ["held"]);
}

#[test]
fn a_store_into_another_roles_part_is_a_fault() {
    if role().is_some() {
        let joined = PartedSegment::join(&socket(), &ring(), &[CONSUMER]).unwrap();
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
        let region = joined.region();
        word(&region, 2 * page_size()).store(1, Ordering::Relaxed);
        report("stored where it may");
        word(&region, page_size()).store(1, Ordering::Relaxed);
        return report("stored where it may not");
    }
    let (child, socket) = start("a_store_into_another_roles_part_is_a_fault", "consumer");
    let created = create_ring(&socket, |_| {});
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("@stored where it may\n") && !said.contains("not"), "{said}");
    let region = created.region();
    let words = [2, 1].map(|part| word(&region, part * page_size()).load(Ordering::Relaxed));
    assert_eq!(words, [1, 0]);
}

#[test]
fn a_subscriber_reads_a_cell_and_can_write_nothing_of_it() {
    let cell = [Part::written_by(CREATOR, page_size()), Part::written_by(CREATOR, 2 * page_size())];
    if role().is_some() {
        let socket = socket();
        let observed = PartedSegment::observe(&socket, &cell).unwrap();
        let region = observed.region();
        assert_eq!(region.require_writable(), Err(RegionError::ReadOnly));
        assert_eq!(region.require_writable_at(0, 8), Err(RegionError::ReadOnly));
        let latest = word(&region, page_size());
        let mut last = peers(&latest);
        for _ in 0..1000 {
            wait_until("the writer stands still", || peers(&latest) != last);
            let now = peers(&latest);
            assert!(now > last, "{now} after {last}");
            last = now;
        }
        attack(&observed, 0);
        attack(&observed, 1);
        tell(&socket);
        return report("read");
    }
    let (child, socket) = start("a_subscriber_reads_a_cell_and_can_write_nothing_of_it", "subscriber");
    let created = PartedSegment::create(&cell, &[CREATOR]).unwrap();
    let region = created.region();
    assert!(region.is_writable());
    created.send(&socket).unwrap();
    socket.set_nonblocking(true).unwrap();
    let latest = word(&region, page_size());
    let mut version = 0;
    wait_until("the subscriber does not end", || {
        version += 1;
        latest.store(version, Ordering::Release);
        // A byte, or the end of the stream if the subscriber failed.
        (&socket).read(&mut [0]).is_ok()
    });
    assert_eq!(reports(&child.wait_with_output().unwrap()), ["read"]);
    assert_eq!(latest.load(Ordering::Relaxed), version);
}

/// A part that two roles write is theirs; whoever joins in another role has nothing of it.
#[test]
fn a_part_of_two_writers_goes_to_nobody_else() {
    let (page, third) = (page_size(), RoleId::producer(1).unwrap());
    let parts = [
        Part::written_by(CREATOR, page),
        Part::shared_by([PRODUCER, CONSUMER], page),
        Part::written_by(third, page),
        Part::shared_by([third, CONSUMER], page),
    ];
    if let Some((role, _)) = role() {
        let socket = socket();
        let (own, theirs, role) = if role == "third" { (3, 1, third) } else { (1, 3, CONSUMER) };
        let joined = PartedSegment::join(&socket, &parts, &[role]).unwrap();
        let region = joined.region();
        fill(&region, own, 0x3333);
        if role == third {
            assert!(joined.part_fd(theirs).is_none() && !region.is_writable_at(theirs * page, 8));
            assert!(region.is_writable_at(2 * page, 2 * page));
            assert!(is_filled(&region, theirs, 0));
            // What it did not get it cannot send on; what everybody gets it can.
            assert_handover(joined.send_to(&socket, &[CONSUMER]), "did not get");
        } else {
            assert!(region.is_writable_at(page, page) && region.is_writable_at(3 * page, page));
            attack(&joined, 2);
        }
        attack(&joined, 0);
        tell(&socket);
        return report("held");
    }
    let test = "a_part_of_two_writers_goes_to_nobody_else";
    let [(consumer, to_consumer), (other, to_other)] = ["consumer", "third"].map(|role| start(test, role));
    let mut draft = PartedDraft::new(&parts, &[CREATOR, PRODUCER]).unwrap();
    draft.gather(&to_other, &[third]).unwrap();
    let created = draft.complete().unwrap();
    fill(&created.region(), 1, 0x1111);
    created.send_to(&to_consumer, &[CONSUMER]).unwrap();
    created.send_to(&to_other, &[third]).unwrap();
    hear(&to_other);
    hear(&to_consumer);
    let region = created.region();
    assert!(is_filled(&region, 1, 0x3333) && is_filled(&region, 3, 0x3333));
    for child in [consumer, other] {
        assert_eq!(reports(&child.wait_with_output().unwrap()), ["held"]);
    }
    // An observer gets what nobody shares.
    let (here, there) = UnixStream::pair().unwrap();
    created.send(&here).unwrap();
    let observed = PartedSegment::observe(&there, &parts).unwrap();
    assert_eq!([0, 1, 2, 3].map(|part| observed.part_fd(part).is_some()), [true, false, true, false]);
    assert!(is_filled(&observed.region(), 1, 0) && is_filled(&observed.region(), 3, 0));
    // More than its role is for is not taken.
    created.send_to(&here, &[CONSUMER]).unwrap();
    assert_handover(PartedSegment::observe(&there, &parts), "descriptors");
    let (here, there) = UnixStream::pair().unwrap();
    created.send(&here).unwrap();
    assert_handover(PartedSegment::join(&there, &parts, &[CONSUMER]), "2 descriptors of the parts [0, 2]");
}

#[test]
fn a_killed_joiner_leaves_its_part_and_its_lease() {
    if role().is_some() {
        let socket = socket();
        let joined = PartedSegment::join(&socket, &ring(), &[CONSUMER]).unwrap();
        let leases = joined.leases().unwrap();
        assert!(leases.covers(&joined.region()));
        let _lease = leases.acquire(CONSUMER).unwrap();
        word(&joined.region(), 2 * page_size()).store(7, Ordering::Relaxed);
        tell(&socket);
        hear(&socket);
        return;
    }
    let (mut child, socket) = start("a_killed_joiner_leaves_its_part_and_its_lease", "consumer");
    let created = create_ring(&socket, |_| {});
    let leases = created.leases().unwrap();
    assert!(leases.covers(&created.region()));
    let other = PartedSegment::create(&ring(), &[CREATOR, PRODUCER, CONSUMER]).unwrap();
    assert!(other.leases().unwrap().covers(&other.region().read_only()));
    assert!(!leases.covers(&other.region()) && !other.leases().unwrap().covers(&created.region()));
    hear(&socket);
    assert_eq!((leases.tenancy(CONSUMER), leases.tenancy(PRODUCER)), (Tenancy::Held, Tenancy::Vacant));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(leases.tenancy(CONSUMER), Tenancy::Vacant);
    assert_eq!(word(&created.region(), 2 * page_size()).load(Ordering::Relaxed), 7);
}

const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
const ONE_WRITER: SealFlags = FIXED.union(SealFlags::FUTURE_WRITE);

fn memory(seals: SealFlags, pages: usize) -> OwnedFd {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let zeros = vec![0; pages * page_size()];
    assert_eq!(pwrite(&fd, &zeros, 0).unwrap(), zeros.len());
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// Memory with as many blocks as `pages`, behind its end: what is before it is there only where `filled` says so.
fn memory_with_blocks_beyond(pages: usize, filled: usize) -> OwnedFd {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let bytes = (pages * page_size()) as u64;
    ftruncate(&fd, bytes).unwrap();
    fallocate(&fd, FallocateFlags::KEEP_SIZE, bytes, bytes).unwrap();
    pwrite(&fd, &vec![1; filled * page_size()], 0).unwrap();
    fcntl_add_seals(&fd, ONE_WRITER).unwrap();
    fd
}

/// Sends what only [`PartedSegment::send`] should.
fn offer(to: &UnixStream, mark: u8, set: u64, descriptors: &[BorrowedFd<'_>]) {
    let mut bytes = vec![mark];
    bytes.extend(set.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(to, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
}

/// What an observer of one part with one writer, and one that is shared, makes of such descriptors.
fn observe(one: &OwnedFd, shared: &OwnedFd) -> Result<PartedSegment, SegmentError> {
    let (here, there) = UnixStream::pair().unwrap();
    offer(&here, b'P', 0b11, &[one.as_fd(), shared.as_fd()]);
    PartedSegment::observe(&there, &[Part::written_by(CREATOR, page_size()), Part::shared(page_size())])
}

#[test]
fn memory_that_is_not_what_a_part_must_be_is_refused() {
    let (one, shared) = (memory(ONE_WRITER, 1), memory(FIXED, 1));
    let observed = observe(&one, &shared).unwrap().region();
    assert_eq!(observed.len(), 2 * page_size());
    assert_eq!(observed.require_writable_at(page_size(), 8), Err(RegionError::ReadOnly));
    assert!(observe(&reopen(one.as_fd(), OFlags::RDONLY), &shared).is_ok());
    let sparse = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&sparse, page_size() as u64).unwrap();
    fcntl_add_seals(&sparse, ONE_WRITER).unwrap();
    let (pipe, _end) = rustix::pipe::pipe().unwrap();
    let file = OwnedFd::from(tempfile::tempfile().unwrap());
    let seals = "seals of a part";
    let cases = [
        (&memory(FIXED, 1), &shared, seals),
        (&memory(FIXED | SealFlags::WRITE, 1), &shared, seals),
        (&memory(ONE_WRITER.difference(SealFlags::SEAL), 1), &shared, seals),
        (&memory(ONE_WRITER.difference(SealFlags::GROW), 1), &shared, seals),
        (&memory(ONE_WRITER.difference(SealFlags::SHRINK), 1), &shared, seals),
        (&memory(SealFlags::empty(), 1), &shared, seals),
        (&one, &memory(ONE_WRITER, 1), seals),
        (&one, &memory(FIXED | SealFlags::WRITE, 1), seals),
        (&file, &shared, seals),
        (&pipe, &shared, "kind of file"),
        (&memory(ONE_WRITER, 2), &shared, "size of a part"),
        (&one, &memory(FIXED, 2), "size of a part"),
        (&sparse, &shared, "reserved room of a part"),
        (&one, &reopen(shared.as_fd(), OFlags::RDONLY), "access to a part"),
    ];
    for (number, (one, shared, wrong)) in cases.into_iter().enumerate() {
        let refused = observe(one, shared).unwrap_err();
        let SegmentError::NotASegment { what, .. } = &refused else { panic!("case {number}: {refused:?}") };
        assert_eq!(*what, wrong, "case {number}: {refused}");
    }
}

#[test]
fn blocks_beyond_the_end_are_no_room_and_pages_of_the_pool_are_no_part() {
    let observe = |memory: &OwnedFd, bytes| {
        let (here, there) = UnixStream::pair().unwrap();
        offer(&here, b'P', 1, &[memory.as_fd()]);
        PartedSegment::observe(&there, &[Part::written_by(CREATOR, bytes)])
    };
    let wrong = |memory: &OwnedFd, bytes| match observe(memory, bytes).unwrap_err() {
        SegmentError::NotASegment { what, found, .. } => (what, found),
        other => panic!("{other:?}"),
    };
    for filled in 0..3 {
        let (what, found) = wrong(&memory_with_blocks_beyond(3, filled), 3 * page_size());
        assert_eq!(what, "reserved room of a part");
        assert!(found.contains(&format!("page at {} ", filled * page_size())), "{found}");
    }
    // Where nothing is missing they do no harm.
    assert!(observe(&memory_with_blocks_beyond(3, 3), 3 * page_size()).is_ok());

    let huge = 2 << 20;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    // Not every kernel has a pool, if only an empty one.
    if let Ok(pool) = memfd_create("test", flags) {
        let sized = ftruncate(&pool, huge as u64);
        fcntl_add_seals(&pool, ONE_WRITER).unwrap();
        assert_eq!((sized, wrong(&pool, huge).0), (Ok(()), "pages of a part"));
    }
}

/// A message that comes byte by byte, each of them in time.
#[test]
fn a_message_that_trickles_in_has_one_deadline() {
    let (here, there) = UnixStream::pair().unwrap();
    let one = memory(ONE_WRITER, 1);
    let parts = [Part::written_by(CREATOR, page_size())];
    there.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let started = Instant::now();
    let trickling = thread::spawn(move || {
        for (number, byte) in [b'P', 1, 0, 0, 0, 0, 0, 0, 0].into_iter().enumerate() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = [one.as_fd()];
            if number == 0 {
                assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            }
            // The other end may have lost its patience.
            let _sent = sendmsg(&here, &[IoSlice::new(&[byte])], &mut control, SendFlags::NOSIGNAL);
            thread::sleep(Duration::from_millis(100));
        }
    });
    match PartedSegment::observe(&there, &parts).unwrap_err() {
        SegmentError::Io { source, .. } => assert_eq!(source.kind(), std::io::ErrorKind::TimedOut),
        other => panic!("{other:?}"),
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    drop(there);
    trickling.join().unwrap();
    // A socket that does not block is asked once, and one without a timeout waits.
    let (here, there) = UnixStream::pair().unwrap();
    there.set_nonblocking(true).unwrap();
    match PartedSegment::observe(&there, &parts).unwrap_err() {
        SegmentError::Io { source, .. } => assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock),
        other => panic!("{other:?}"),
    }
    there.set_nonblocking(false).unwrap();
    let waiting = thread::spawn(move || PartedSegment::observe(&there, &parts));
    thread::sleep(Duration::from_millis(100));
    offer(&here, b'P', 1, &[memory(ONE_WRITER, 1).as_fd()]);
    assert!(waiting.join().unwrap().is_ok());
}

#[test]
fn no_more_descriptors_are_taken_than_are_expected() {
    let parts = [Part::written_by(CREATOR, page_size()), Part::written_by(PRODUCER, page_size())];
    let (one, other) = (memory(ONE_WRITER, 1), memory(ONE_WRITER, 1));
    let (here, there) = UnixStream::pair().unwrap();
    for byte in [b'P', 3, 0, 0, 0, 0, 0, 0, 0] {
        let descriptors = [one.as_fd(), other.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&here, &[IoSlice::new(&[byte])], &mut control, SendFlags::empty()).unwrap();
    }
    assert_handover(PartedSegment::observe(&there, &parts), "4 or more descriptors");
    // The second of the nine messages was the last that was looked at.
    let mut left = [0_u8; 9];
    assert_eq!((&there).read(&mut left).unwrap(), 1);
}

fn assert_handover<T: std::fmt::Debug>(answer: Result<T, SegmentError>, found: &str) {
    match answer {
        Err(error @ SegmentError::Handover { .. }) => {
            assert!(error.to_string().contains(found), "{error}: not {found}");
        }
        other => panic!("{other:?}: not {found}"),
    }
}

#[test]
fn messages_that_are_not_all_parts_are_refused() {
    let parts = [Part::written_by(CREATOR, page_size()), Part::written_by(PRODUCER, page_size())];
    let (one, other) = (memory(ONE_WRITER, 1), memory(ONE_WRITER, 1));
    let answer = |mark, set, descriptors: &[BorrowedFd<'_>]| {
        let (here, there) = UnixStream::pair().unwrap();
        offer(&here, mark, set, descriptors);
        PartedSegment::observe(&there, &parts)
    };
    let both = [one.as_fd(), other.as_fd()];
    assert!(answer(b'P', 0b11, &both).is_ok());
    assert_handover(answer(b'S', 0b11, &both), "byte 0x53");
    assert_handover(answer(b'P', 0b01, &both), "2 descriptors of the parts [0]");
    assert_handover(answer(b'P', 0b11, &both[..1]), "1 descriptors of the parts [0, 1]");
    assert_handover(answer(b'P', 0b11, &[]), "0 descriptors");
    assert_handover(answer(b'P', 0b101, &both), "parts [0, 2]");
    assert_handover(answer(b'P', 0b11, &[one.as_fd(); 2]), "that of another part");
    assert_handover(answer(b'P', 0b11, &[one.as_fd(); 100]), "found ");
    let (here, there) = UnixStream::pair().unwrap();
    (&here).write_all(b"P\0").unwrap();
    drop(here);
    assert_handover(PartedSegment::observe(&there, &parts), "the end of the stream");
}

#[test]
fn a_joiner_that_offers_one_memory_twice_is_refused() {
    let (writer, reader) = (PRODUCER, CONSUMER);
    let parts = [
        Part::written_by(CREATOR, page_size()),
        Part::written_by(writer, page_size()),
        Part::written_by(reader, page_size()),
    ];
    let mut draft = PartedDraft::new(&parts, &[CREATOR]).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let (one, other) = (memory(ONE_WRITER, 1), memory(ONE_WRITER, 1));
    offer(&there, b'P', 0b010, &[one.as_fd()]);
    draft.gather(&here, &[writer]).unwrap();
    offer(&there, b'P', 0b100, &[one.as_fd()]);
    assert_handover(draft.gather(&here, &[reader]), "that of another part");
    // Nor does it get a part whose writer is there already.
    offer(&there, b'P', 0b010, &[other.as_fd()]);
    assert_handover(draft.gather(&here, &[writer]), "other memory");
    offer(&there, b'P', 0b001, &[other.as_fd()]);
    assert_handover(draft.gather(&here, &[CREATOR]), "other memory");
    // A joiner in one role cannot bring the part of another.
    offer(&there, b'P', 0b001, &[other.as_fd()]);
    assert_handover(draft.gather(&here, &[reader]), "parts [0]");
    // What was refused did no harm.
    offer(&there, b'P', 0b100, &[other.as_fd()]);
    draft.gather(&here, &[reader]).unwrap();
    assert_eq!(draft.complete().unwrap().region().len(), 3 * page_size());
}

#[test]
fn a_creator_that_replaces_a_joiners_part_is_refused() {
    let parts = [Part::written_by(CREATOR, page_size()), Part::written_by(CONSUMER, page_size())];
    let (here, there) = UnixStream::pair().unwrap();
    let joining = thread::spawn(move || PartedSegment::join(&there, &parts, &[CONSUMER]));
    let mut bytes = [0_u8; 9];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&here, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let came: Vec<OwnedFd> = control
        .drain()
        .filter_map(|item| match item {
            RecvAncillaryMessage::ScmRights(some) => Some(some),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!((bytes, came.len()), ([b'P', 0b10, 0, 0, 0, 0, 0, 0, 0], 1));
    // As it comes, nobody can write it but whoever sent it.
    all(attack_descriptor(came[0].as_fd()), |_| Errno::PERM).unwrap();
    let (mine, fake) = (memory(ONE_WRITER, 1), memory(ONE_WRITER, 1));
    offer(&here, b'P', 0b11, &[mine.as_fd(), fake.as_fd()]);
    assert_handover(joining.join().unwrap(), "other memory than this process made");
}

#[test]
fn parts_that_cannot_be_are_refused() {
    let page = page_size();
    let wrong = |parts: &[Part]| match PartedDraft::new(parts, &[CREATOR]) {
        Err(SegmentError::NotASegment { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(&[]), "number of parts");
    assert_eq!(wrong(&[Part::shared(page); 65]), "number of parts");
    for bytes in [0, 1, page - 1, page + 128, usize::MAX] {
        assert_eq!(wrong(&[Part::shared(page), Part::written_by(CREATOR, bytes)]), "size of a part");
    }
    let huge = Part::written_by(CONSUMER, usize::MAX - (page - 1));
    assert!(matches!(PartedDraft::new(&[huge; 2], &[]), Err(SegmentError::Length { .. })));
    let most = PartedSegment::create(&[Part::shared(page); 64], &[]).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    most.send(&here).unwrap();
    let joined = PartedSegment::join(&there, most.parts(), &[]).unwrap();
    assert!(joined.region().is_writable() && joined.part_fd(63).is_some() && joined.part_fd(64).is_none());

    let missing = PartedSegment::create(&ring(), &[CREATOR, PRODUCER]);
    assert_handover(missing, "expected part 2, from the consumer, found nothing");
}
