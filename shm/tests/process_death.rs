//! Death notices between processes: what is a death, who hears of it and how soon, and what nobody can forge.
#![cfg(all(feature = "std", not(loom)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, which may panic, with small numbers"
)]

mod process_segment_peer;

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64 as Plain, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{peer, report, reports, role, wait_for};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fstat, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal, kill_process};
use tidewire_shm::bell::{
    Bell, BellError, BellForm, BellMode, Deadline, PeerState, Place, SleepOptions, Spin, System,
    UNWATCHED_SLICE, Woken, capabilities,
};
use tidewire_shm::sync::{AtomicU32, AtomicU64};
use tidewire_shm::{
    DeathError, DeathNotice, DeathWatch, NoticeAddress, NoticeState, Region, WATCHES_MAX, WaitedWith,
};

/// So long that a wake that never came cannot be taken for one that came late.
const LONG: Duration = Duration::from_secs(20);
const PAGE: usize = 4096;

/// Runs in a peer: makes a notice, and says which descriptor it is.
fn announce() {
    let notice = DeathNotice::own().unwrap();
    report("ready");
    // The number is said on a line of its own, in the way in which a test asks for it.
    report(&notice.fd().as_raw_fd().to_string());
}

fn sleep_for_ever() -> ! {
    thread::sleep(6 * LONG);
    panic!("nobody killed this process");
}

/// The number that the peer says next.
fn said_number(child: &mut Child) -> i32 {
    use std::io::{BufRead, BufReader};
    let out = BufReader::new(child.stdout.as_mut().unwrap());
    let mut said =
        out.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix('@').map(str::to_owned));
    assert_eq!(said.next().as_deref(), Some("ready"));
    said.next().unwrap().parse().unwrap()
}

/// A descriptor of a peer's notice, as one of the same user can get it.
fn open_notice(pid: u32, number: i32) -> OwnedFd {
    File::open(format!("/proc/{pid}/fd/{number}")).unwrap().into()
}

fn watch(child: &mut Child) -> DeathWatch {
    let number = said_number(child);
    DeathWatch::new(open_notice(child.id(), number)).unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// A victim whose notice is watched.
fn victim(test: &str, role: &str) -> (Child, DeathWatch) {
    let mut child = peer(test, role, "").spawn().unwrap();
    let watch = watch(&mut child);
    assert_eq!(watch.state(), PeerState::Alive);
    (child, watch)
}

/// Waits for a word that nobody changes, and for a death.
fn wait_for_death(watch: &DeathWatch, timeout: Duration) -> WaitedWith {
    let quiet = AtomicU32::new(5);
    watch.wait_with(Place::Word(&quiet), 5, timeout)
}

fn touch(mib: usize) -> Vec<u8> {
    let mut memory = vec![0_u8; mib << 20];
    memory.chunks_mut(PAGE).for_each(|page| page[0] = 1);
    memory
}

/// From the kill to the return of the waiter.
fn latency(test: &str, role: &str) -> Duration {
    let (mut child, watch) = victim(test, role);
    let waiting = thread::spawn(move || {
        let waited = wait_for_death(&watch, LONG);
        let now = Instant::now();
        assert_eq!(waited, WaitedWith::PeerGone(PeerState::Dead));
        assert!(watch.is_dead_hint());
        now
    });
    thread::sleep(Duration::from_millis(20));
    let killed = Instant::now();
    kill_process(pid(&child), Signal::KILL).unwrap();
    let took = waiting.join().unwrap().saturating_duration_since(killed);
    child.wait().unwrap();
    took
}

#[test]
fn a_kill_is_noticed_at_once_however_large_the_process() {
    let test = "a_kill_is_noticed_at_once_however_large_the_process";
    if let Some((role, _)) = role() {
        let memory = touch(if role == "large" { 1 << 10 } else { 0 });
        announce();
        let _kept = std::hint::black_box(&memory);
        sleep_for_ever();
    }
    // A fraction of a millisecond, where nothing else runs. The teardown of a gibibyte takes some 70 ms by itself: a waiter
    // that is told behind it is late in each series, a busy machine is so in some.
    for (role, kills, at_most) in [("small", 11, 1), ("large", 5, 10)] {
        let told_at_once = (0..5).any(|_| {
            let mut all: Vec<_> = (0..kills).map(|_| latency(test, role)).collect();
            all.sort();
            let median = all[all.len() / 2];
            println!("{role}: median {median:?}, {:?} to {:?}", all[0], all[all.len() - 1]);
            median <= Duration::from_millis(at_most)
        });
        assert!(told_at_once, "{role}: not told within {at_most} ms, in any of five series");
    }
}

#[test]
fn all_who_wait_hear_of_it() {
    let test = "all_who_wait_hear_of_it";
    if let Some((role, argument)) = role() {
        if role == "victim" {
            announce();
            sleep_for_ever();
        }
        let (pid, number) = argument.split_once(' ').unwrap();
        let watch = DeathWatch::new(open_notice(pid.parse().unwrap(), number.parse().unwrap())).unwrap();
        report("ready");
        assert_eq!(wait_for_death(&watch, LONG), WaitedWith::PeerGone(PeerState::Dead));
        report("heard");
        return;
    }
    let mut child = peer(test, "victim", "").spawn().unwrap();
    let number = said_number(&mut child);
    let argument = format!("{} {number}", child.id());
    let mut others: Vec<Child> = (0..3).map(|_| peer(test, "waiter", &argument).spawn().unwrap()).collect();
    others.iter_mut().for_each(|other| wait_for(other, "ready"));
    let here: Vec<_> = (0..3)
        .map(|_| {
            let watch = DeathWatch::new(open_notice(child.id(), number)).unwrap();
            thread::spawn(move || wait_for_death(&watch, LONG))
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    let killed = Instant::now();
    child.kill().unwrap();
    for waiter in here {
        assert_eq!(waiter.join().unwrap(), WaitedWith::PeerGone(PeerState::Dead));
    }
    for other in others {
        assert_eq!(reports(&other.wait_with_output().unwrap()), ["heard"]);
    }
    let took = killed.elapsed();
    println!("the last of six heard of it after {took:?}");
    assert!(took < LONG / 2, "{took:?}");
    child.wait().unwrap();
}

#[test]
fn a_stopped_process_is_not_dead_until_it_is_killed() {
    let test = "a_stopped_process_is_not_dead_until_it_is_killed";
    if role().is_some() {
        announce();
        sleep_for_ever();
    }
    let (mut child, watch) = victim(test, "victim");
    kill_process(pid(&child), Signal::STOP).unwrap();
    assert_eq!(wait_for_death(&watch, Duration::from_millis(200)), WaitedWith::TimedOut);
    assert_eq!(watch.state(), PeerState::Alive);
    kill_process(pid(&child), Signal::CONT).unwrap();
    kill_process(pid(&child), Signal::STOP).unwrap();
    let waiting = thread::spawn(move || wait_for_death(&watch, LONG));
    thread::sleep(Duration::from_millis(20));
    child.kill().unwrap();
    assert_eq!(waiting.join().unwrap(), WaitedWith::PeerGone(PeerState::Dead));
    child.wait().unwrap();
}

#[test]
fn a_zombie_is_dead() {
    let test = "a_zombie_is_dead";
    if role().is_some() {
        announce();
        sleep_for_ever();
    }
    let (mut child, watch) = victim(test, "victim");
    child.kill().unwrap();
    assert_eq!(wait_for_death(&watch, LONG), WaitedWith::PeerGone(PeerState::Dead));
    // Nobody has waited for it: it is still there.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let end = Instant::now() + LONG;
    while !std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z") {
        assert!(Instant::now() < end, "{stat}");
    }
    assert!(watch.is_dead_hint());
    child.wait().unwrap();
}

#[test]
fn an_orderly_exit_is_a_detachment_and_an_abort_is_a_death() {
    let test = "an_orderly_exit_is_a_detachment_and_an_abort_is_a_death";
    if let Some((role, _)) = role() {
        announce();
        thread::sleep(Duration::from_millis(100));
        match role.as_str() {
            "exit" => std::process::exit(0),
            "return" => return,
            "abort" => {
                // SAFETY: no memory is involved.
                unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
                std::process::abort()
            }
            // SAFETY: no memory is involved.
            _ => unsafe { libc::_exit(0) },
        }
    }
    let ends = [
        ("exit", PeerState::Detached),
        ("return", PeerState::Detached),
        ("abort", PeerState::Dead),
        ("_exit", PeerState::Dead),
    ];
    for (role, expected) in ends {
        let mut child = peer(test, role, "").spawn().unwrap();
        let number = said_number(&mut child);
        let watch = DeathWatch::new(open_notice(child.id(), number)).unwrap();
        assert_eq!(wait_for_death(&watch, LONG), WaitedWith::PeerGone(expected), "{role}");
        child.wait().unwrap();
        assert_eq!(watch.state(), expected, "{role}");
    }
}

#[test]
fn another_program_in_its_place_is_a_death() {
    let test = "another_program_in_its_place_is_a_death";
    if role().is_some() {
        announce();
        thread::sleep(Duration::from_millis(50));
        let error = Command::new("sleep").arg("60").exec();
        panic!("{error}");
    }
    let (mut child, watch) = victim(test, "victim");
    assert_eq!(wait_for_death(&watch, LONG), WaitedWith::PeerGone(PeerState::Dead));
    assert_eq!(child.try_wait().unwrap(), None, "the other program runs");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Sends a descriptor as a program would.
fn send(to: &UnixStream, fd: impl AsFd) {
    let descriptors = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(to, &[IoSlice::new(b"N")], &mut control, SendFlags::empty()).unwrap();
}

fn receive(from: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(from, &mut [IoSliceMut::new(&mut [0])], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fds.next().unwrap()
}

#[test]
fn a_peer_cannot_write_the_page_whatever_it_does() {
    let test = "a_peer_cannot_write_the_page_whatever_it_does";
    if let Some((_, socket)) = role() {
        send(&UnixStream::connect(socket).unwrap(), DeathNotice::own().unwrap());
        report("sent");
        sleep_for_ever();
    }
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut child = peer(test, "owner", &socket).spawn().unwrap();
    let fd = receive(&listener.accept().unwrap().0);
    let map = |fd: &OwnedFd, protection| {
        // SAFETY: the kernel chooses where.
        unsafe { mmap(null_mut(), PAGE, protection, MapFlags::SHARED, fd, 0) }
    };
    let both = ProtFlags::READ | ProtFlags::WRITE;
    let refuse = |fd: &OwnedFd, how: &str| {
        assert_eq!(map(fd, both), Err(Errno::PERM), "map, {how}");
        assert_eq!(map(fd, ProtFlags::WRITE), Err(Errno::PERM), "map for writing only, {how}");
        assert_eq!(rustix::io::pwrite(fd, b"forged", 64), Err(Errno::PERM), "write, {how}");
        assert_eq!(ftruncate(fd, 0), Err(Errno::PERM), "shrink, {how}");
        assert_eq!(ftruncate(fd, 2 * PAGE as u64), Err(Errno::PERM), "grow, {how}");
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(fd, hole, 0, PAGE as u64), Err(Errno::PERM), "hole, {how}");
        assert_eq!(fcntl_add_seals(fd, SealFlags::WRITE), Err(Errno::PERM), "other seals, {how}");
    };
    refuse(&fd, "as sent");
    for path in [
        format!("/proc/self/fd/{}", fd.as_raw_fd()),
        format!("/proc/{}/fd/{}", child.id(), {
            // The owner's own descriptor, found by what it is.
            let wanted = fstat(&fd).unwrap().st_ino;
            let numbers = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
            let numbers = numbers.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let own = |number: &String| {
                let path = format!("/proc/{}/fd/{number}", child.id());
                rustix::fs::stat(path).is_ok_and(|stat| stat.st_ino == wanted)
            };
            numbers.into_iter().find(own).unwrap()
        }),
    ] {
        let again = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(again.write_at(b"forged", 64).unwrap_err().raw_os_error(), Some(libc::EPERM), "{path}");
        refuse(&again.into(), &path);
    }
    let page = map(&fd, ProtFlags::READ).unwrap();
    // SAFETY: mapped just now, and not used otherwise.
    let opened = unsafe { mprotect(page, PAGE, MprotectFlags::READ | MprotectFlags::WRITE) };
    assert_eq!(opened, Err(Errno::ACCESS));
    // SAFETY: as above.
    unsafe { munmap(page, PAGE).unwrap() };

    let watch = DeathWatch::new(fd).unwrap();
    assert_eq!(watch.state(), PeerState::Alive);
    wait_for(&mut child, "sent");
    child.kill().unwrap();
    assert_eq!(wait_for_death(&watch, LONG), WaitedWith::PeerGone(PeerState::Dead));
    child.wait().unwrap();
}

fn memory(seals: SealFlags, len: u64, magic: &[u8]) -> OwnedFd {
    named_memory("test", seals, len, magic)
}

fn named_memory(name: &str, seals: SealFlags, len: u64, magic: &[u8]) -> OwnedFd {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, len).unwrap();
    rustix::io::pwrite(&fd, magic, 0).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

#[test]
fn what_is_no_notice_is_refused() {
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL | SealFlags::FUTURE_WRITE;
    let refused = |fd: OwnedFd| match DeathWatch::new(fd).unwrap_err() {
        DeathError::NotANotice { what, .. } => what,
        other => panic!("{other}"),
    };
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL, SealFlags::FUTURE_WRITE] {
        assert_eq!(refused(memory(all.difference(missing), PAGE as u64, b"TWDEATH1")), "seals");
    }
    assert_eq!(refused(File::open("/dev/null").unwrap().into()), "seals");
    for len in [8, 2 * PAGE as u64] {
        assert_eq!(refused(memory(all, len, b"TWDEATH1")), "bytes");
    }
    assert_eq!(refused(memory(all, PAGE as u64, b"TWDEATH2")), "magic");
    // A notice of somebody who lies about itself: it says nothing, and harms nobody.
    let liar = DeathWatch::new(memory(all, PAGE as u64, b"TWDEATH1")).unwrap();
    assert_eq!(liar.state(), PeerState::Unknown);
    assert_eq!(wait_for_death(&liar, Duration::from_millis(5)), WaitedWith::TimedOut);
}

/// What a peer published before it died is found first, then its death; and a death wakes a sleeper on a bell.
#[test]
fn a_sleeper_finds_the_last_message_before_the_death() {
    let test = "a_sleeper_finds_the_last_message_before_the_death";
    if let Some((_, memory)) = role() {
        let (pid, number) = memory.split_once(' ').unwrap();
        let file =
            OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/fd/{number}")).unwrap();
        let segment = tidewire_shm::Segment::from_fd(file.into()).unwrap();
        let region = segment.region();
        // SAFETY: nowhere used as anything else; the region is kept.
        let tail = unsafe { region.atomic_u64(0) };
        announce();
        thread::sleep(Duration::from_millis(200));
        // Not rung: the death itself must do.
        tail.store(1, Ordering::Release);
        kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
        unreachable!("a process survived SIGKILL");
    }
    for form in [BellForm::Word, BellForm::Position] {
        let segment = tidewire_shm::Segment::anonymous(PAGE).unwrap();
        let region = segment.region();
        // SAFETY: used as a bell only; the region is kept.
        let bell = unsafe { Bell::create(&region, 128, BellMode::Membarrier, form).unwrap() };
        // SAFETY: nowhere used as anything else; the region is kept.
        let tail = unsafe { region.atomic_u64(0) };
        let options = SleepOptions::new().spin(Spin::Rounds(0)).slice(LONG);
        let mut sleeper = match form {
            BellForm::Word => bell.sleeper(System, &options),
            _ => bell.sleeper_on(tail.clone(), System, &options),
        }
        .unwrap();
        let argument = format!("{} {}", std::process::id(), segment.as_fd().as_raw_fd());
        let mut child = peer(test, "victim", argument).spawn().unwrap();
        let watch = watch(&mut child);
        let bystander = DeathWatch::new(DeathNotice::own().unwrap().try_clone_fd().unwrap()).unwrap();
        let peers = [&bystander, &watch];
        let ready = |seen: u64| {
            let tail = tail.clone();
            move || tail.load(Ordering::Acquire) > seen
        };
        let soon = Deadline::after(&System, Duration::from_millis(20));
        assert_eq!(sleeper.wait_watching(ready(0), soon, &peers), Woken::TimedOut);
        let started = Instant::now();
        assert_eq!(sleeper.wait_watching(ready(0), Deadline::NEVER, &peers), Woken::Ready);
        let gone = Woken::PeerGone { index: 1, state: PeerState::Dead };
        assert_eq!(sleeper.wait_watching(ready(1), Deadline::NEVER, &peers), gone);
        assert!(started.elapsed() < LONG / 2);
        assert_eq!(sleeper.tally().overslept, 0, "{:?}", sleeper.tally());
        child.wait().unwrap();
    }
}

/// More peers than one wait can sleep on: the last of them is looked after from time to time.
#[test]
fn any_number_of_peers_can_be_watched() {
    let test = "any_number_of_peers_can_be_watched";
    if role().is_some() {
        announce();
        sleep_for_ever();
    }
    let (mut child, watch) = victim(test, "victim");
    let own = || DeathWatch::new(DeathNotice::own().unwrap().try_clone_fd().unwrap()).unwrap();
    let others: Vec<_> = (0..WATCHES_MAX + 3).map(|_| own()).collect();
    let peers: Vec<_> = others.iter().chain([&watch]).collect();
    let region = Region::heap(128).unwrap();
    // SAFETY: used as a bell only; the region is kept.
    let bell = unsafe { Bell::create(&region, 0, BellMode::Fence, BellForm::Word).unwrap() };
    let options = SleepOptions::new().spin(Spin::Rounds(0)).slice(LONG);
    let mut sleeper = bell.sleeper(System, &options).unwrap();
    let soon = Deadline::after(&System, Duration::from_millis(30));
    assert_eq!(sleeper.wait_watching(|| false, soon, &peers), Woken::TimedOut);
    let killing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let started = Instant::now();
    let gone = Woken::PeerGone { index: WATCHES_MAX + 3, state: PeerState::Dead };
    assert_eq!(sleeper.wait_watching(|| false, Deadline::NEVER, &peers), gone);
    assert!(started.elapsed() < LONG / 2);
    killing.join().unwrap();
}

fn forked(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the process has one more thread, which sleeps; the child uses what works there, and ends by itself.
    match unsafe { libc::fork() } {
        0 => {
            let code = child();
            // Runs what is registered for an orderly exit.
            std::process::exit(code)
        }
        pid => {
            assert!(pid > 0);
            let mut status = 0;
            // SAFETY: `status` is there to be written.
            let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!(waited, pid);
            assert!(libc::WIFEXITED(status), "{status:#x}");
            libc::WEXITSTATUS(status)
        }
    }
}

#[test]
fn a_fork_child_has_no_notice_until_it_makes_its_own() {
    let test = "a_fork_child_has_no_notice_until_it_makes_its_own";
    if role().is_some() {
        let notice = DeathNotice::own().unwrap();
        assert_eq!(capabilities().death_notice, NoticeState::Running);
        let mine = DeathWatch::new(notice.try_clone_fd().unwrap()).unwrap();
        let inode = fstat(notice.fd()).unwrap().st_ino;

        // It ends in order, and says nothing about its parent.
        let unasked = forked(|| i32::from(capabilities().death_notice != NoticeState::Unasked));
        assert_eq!((unasked, mine.state()), (0, PeerState::Alive));

        let (other, own) = UnixStream::pair().unwrap();
        let made = forked(|| {
            let notice = DeathNotice::own().unwrap();
            assert!(std::ptr::eq(notice, DeathNotice::own().unwrap()));
            assert_ne!(fstat(notice.fd()).unwrap().st_ino, inode);
            send(&own, notice);
            i32::from(capabilities().death_notice != NoticeState::Running)
        });
        assert_eq!((made, mine.state()), (0, PeerState::Alive));
        let child = DeathWatch::new(receive(&other)).unwrap();
        assert_eq!(child.state(), PeerState::Detached);
        report("done");
        return;
    }
    assert_eq!(reports(&peer(test, "parent", "").output().unwrap()), ["done"]);
}

/// Makes system calls fail from now on, as a sandbox would.
fn deny(calls: &[i64]) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for &call in calls {
        let mut jump = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32);
        jump.jf = 1;
        program.push(jump);
        let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        program.push(statement(libc::BPF_RET | libc::BPF_K, refuse));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is there, and the kernel copies it. All threads: libtest runs a test in its own.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 1_u32, &raw const filter) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_refused_guard_is_reported_and_nothing_else_fails() {
    let test = "a_refused_guard_is_reported_and_nothing_else_fails";
    if let Some((role, _)) = role() {
        assert_eq!(capabilities().death_notice, NoticeState::Unasked);
        deny(&[if role == "list" { libc::SYS_set_robust_list } else { libc::SYS_memfd_create }]);
        let error = DeathNotice::own().unwrap_err();
        assert!(matches!(error, DeathError::System { .. }), "{error}");
        assert_eq!(capabilities().death_notice, NoticeState::Refused);
        assert!(DeathNotice::own().is_err());
        report(&format!("{error}: {}", std::error::Error::source(&error).unwrap()));
        return;
    }
    for (role, expected) in [("list", "register a robust futex"), ("memory", "create the memory")] {
        let said = reports(&peer(test, role, "").output().unwrap());
        assert!(said[0].contains(expected) && said[0].contains("not permitted"), "{said:?}");
    }
}

/// Without `futex_waitv`, and without `membarrier`: late by ten milliseconds, and in fence mode, but all there.
#[test]
fn an_older_kernel_costs_ten_milliseconds() {
    let test = "an_older_kernel_costs_ten_milliseconds";
    if let Some((role, argument)) = role() {
        if role == "victim" {
            announce();
            sleep_for_ever();
        }
        deny(&[libc::SYS_futex_waitv, libc::SYS_membarrier]);
        let found = capabilities();
        assert!(!found.futex_waitv && !found.membarrier, "{found:?}");
        assert_eq!(BellMode::choose(&System), BellMode::Fence);
        let region = Region::heap(128).unwrap();
        // SAFETY: used as a bell only; the region is kept.
        let bell = unsafe { Bell::create(&region, 0, BellMode::Membarrier, BellForm::Word).unwrap() };
        assert!(matches!(bell.ringer(System).unwrap_err(), BellError::Membarrier { .. }));
        assert!(matches!(
            bell.sleeper(System, &SleepOptions::new()).unwrap_err(),
            BellError::Membarrier { .. }
        ));
        let (pid, number) = argument.split_once(' ').unwrap();
        let watch = DeathWatch::new(open_notice(pid.parse().unwrap(), number.parse().unwrap())).unwrap();
        // SAFETY: as above.
        let bell = unsafe { Bell::create(&region, 0, BellMode::Fence, BellForm::Word).unwrap() };
        let options = SleepOptions::new().spin(Spin::Rounds(0)).slice(LONG);
        let mut sleeper = bell.sleeper(System, &options).unwrap();
        report("ready");
        let gone = sleeper.wait_watching(|| false, Deadline::NEVER, &[&watch]);
        assert_eq!(gone, Woken::PeerGone { index: 0, state: PeerState::Dead });
        report("heard");
        return;
    }
    let mut child = peer(test, "victim", "").spawn().unwrap();
    let number = said_number(&mut child);
    let mut waiter = peer(test, "waiter", format!("{} {number}", child.id())).spawn().unwrap();
    wait_for(&mut waiter, "ready");
    thread::sleep(Duration::from_millis(30));
    let killed = Instant::now();
    child.kill().unwrap();
    assert_eq!(reports(&waiter.wait_with_output().unwrap()), ["heard"]);
    let took = killed.elapsed();
    println!("heard of it, and ended, after {took:?}; slices of {UNWATCHED_SLICE:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    child.wait().unwrap();
}

#[test]
fn a_pid_namespace_makes_no_difference() {
    let test = "a_pid_namespace_makes_no_difference";
    if let Some((role, _)) = role() {
        if role == "outer" {
            // SAFETY: no memory is involved; from here on children are in a namespace of their own.
            let apart = unsafe { libc::unshare(libc::CLONE_NEWPID) };
            assert_eq!(apart, 0, "{}", std::io::Error::last_os_error());
            let mut inner = peer(test, "inner", "").spawn().unwrap();
            let number = said_number(&mut inner);
            report("ready");
            report(&format!("{} {number}", inner.id()));
            let _ended = inner.wait().unwrap();
            report("ended");
            return;
        }
        assert_eq!(std::process::id(), 1);
        announce();
        sleep_for_ever();
    }
    use std::io::{BufRead, BufReader};
    let mut outer = peer(test, "outer", "").spawn().unwrap();
    let mut said = BufReader::new(outer.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix('@').map(str::to_owned));
    assert_eq!(said.next().as_deref(), Some("ready"));
    let (inner, number) =
        said.next().unwrap().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let inner: u32 = inner.parse().unwrap();
    let watch = DeathWatch::new(open_notice(inner, number.parse().unwrap())).unwrap();
    assert_eq!(watch.state(), PeerState::Alive);
    let waiting = thread::spawn(move || wait_for_death(&watch, LONG));
    thread::sleep(Duration::from_millis(20));
    kill_process(Pid::from_raw(inner.cast_signed()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(waiting.join().unwrap(), WaitedWith::PeerGone(PeerState::Dead));
    assert_eq!(said.next().as_deref(), Some("ended"));
    outer.wait().unwrap();
}

/// Two words in shared memory are enough to find the notice of a peer, and lies in them do no harm.
#[test]
fn a_notice_is_found_by_its_address() {
    let test = "a_notice_is_found_by_its_address";
    if role().is_some() {
        let [low, inode] = DeathNotice::own().unwrap().address().unwrap().to_words();
        report(&format!("{low} {inode}"));
        sleep_for_ever();
    }
    use std::io::{BufRead, BufReader};
    let mut child = peer(test, "owner", "").spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix('@').map(str::to_owned))
        .unwrap();
    let (low, inode) = said.split_once(' ').unwrap();
    let [low, inode]: [u64; 2] = [low.parse().unwrap(), inode.parse().unwrap()];
    let find = |words| DeathWatch::find(NoticeAddress::from_words(words));
    let watch = find([low, inode]).unwrap();
    assert_eq!(watch.state(), PeerState::Alive);
    assert!(matches!(find([low, inode + 1]).unwrap_err(), DeathError::NotANotice { what: "inode", .. }));
    // A pipe, and a descriptor and a process that are not there.
    let me = u64::from(std::process::id());
    let (reader, _writer) = std::io::pipe().unwrap();
    let number = u64::from(reader.as_raw_fd().unsigned_abs());
    let inode_of_pipe = fstat(&reader).unwrap().st_ino;
    let refused = find([me | number << 32, inode_of_pipe]).unwrap_err();
    assert!(matches!(refused, DeathError::NotANotice { what: "name", .. }), "{refused}");
    for low in [me | 999_999 << 32, u64::from(u32::MAX), 0, u64::MAX] {
        let refused = find([low, inode]).unwrap_err();
        assert!(matches!(refused, DeathError::System { .. }), "{refused}");
    }
    // Memory with the right inode that is no notice, by its name, and by its seals.
    for (name, wrong) in [("test", "name"), ("tidewire-notice", "seals")] {
        let plain = named_memory(name, SealFlags::SHRINK, PAGE as u64, b"TWDEATH1");
        let number = u64::from(plain.as_raw_fd().unsigned_abs());
        let refused = find([me | number << 32, fstat(&plain).unwrap().st_ino]).unwrap_err();
        assert!(matches!(refused, DeathError::NotANotice { what, .. } if what == wrong), "{refused}");
    }

    child.kill().unwrap();
    assert_eq!(wait_for_death(&watch, LONG), WaitedWith::PeerGone(PeerState::Dead));
    child.wait().unwrap();
    assert!(find([low, inode]).is_err());
}

/// All threads that ask at once get the same notice, and one guard.
#[test]
fn there_is_one_notice_and_one_guard() {
    let guards = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(name).filter(|name| name.trim() == "tidewire-guard").count()
    };
    let asking: Vec<_> = (0..4).map(|_| thread::spawn(|| DeathNotice::own().unwrap())).collect();
    let found: Vec<_> = asking.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(found.iter().all(|notice| std::ptr::eq(*notice, found[0])));
    assert_eq!(guards(), 1);
    assert_eq!(capabilities().death_notice, NoticeState::Running);
}

/// A peer that is awake is asked after with one load; a signal does not end a wait for good.
#[test]
fn a_change_of_the_word_ends_a_wait_too() {
    let watch = DeathWatch::new(DeathNotice::own().unwrap().try_clone_fd().unwrap()).unwrap();
    let word = AtomicU64::new(7);
    assert_eq!(watch.wait_with(Place::LowHalf(&word), 8, LONG), WaitedWith::Word);
    let started = Instant::now();
    let none = watch.wait_with(Place::LowHalf(&word), 7, Duration::from_millis(10));
    assert_eq!(none, WaitedWith::TimedOut);
    assert!(started.elapsed() >= Duration::from_millis(10));
    static SEEN: Plain = Plain::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while word.load(Ordering::Relaxed) == 7 {
                let _any = watch.wait_with(Place::LowHalf(&word), 7, LONG);
            }
            SEEN.store(1, Ordering::Relaxed);
        });
        thread::sleep(Duration::from_millis(20));
        word.store(8, Ordering::Relaxed);
        use tidewire_shm::bell::Kernel;
        System.wake(Place::LowHalf(&word));
    });
    assert_eq!(SEEN.load(Ordering::Relaxed), 1);
    assert!(started.elapsed() < LONG / 2);
}
