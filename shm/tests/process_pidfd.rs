//! Descriptors of a peer's process: readable when it ends, and never of another one that has its number.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests, which may panic")]

mod process_segment_peer;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use process_segment_peer::{peer, report, role};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::fstat;
use rustix::io::{Errno, FdFlags, fcntl_getfd};
use rustix::process::{Pid, Signal, kill_process};
use tidewire_shm::bell::PeerState;
use tidewire_shm::{DeathError, DeathNotice, DeathWatch, NoticeAddress};

const LONG: Duration = Duration::from_secs(20);

fn sleep_for_ever() -> ! {
    thread::sleep(6 * LONG);
    panic!("nobody killed this process");
}

/// Runs in a peer: makes a notice, says where it is, and waits to be killed.
fn own_a_notice() -> ! {
    let [low, inode] = DeathNotice::own().unwrap().address().unwrap().to_words();
    report(&format!("{low} {inode}"));
    sleep_for_ever();
}

struct Victim {
    child: Child,
    words: [u64; 2],
    watch: DeathWatch,
}

impl Victim {
    fn start(test: &str) -> Self {
        let mut child = peer(test, "owner", "").spawn().unwrap();
        let said = said(&mut child);
        let (low, inode) = said.split_once(' ').unwrap();
        let words = [low.parse().unwrap(), inode.parse().unwrap()];
        let watch = DeathWatch::find(NoticeAddress::from_words(words)).unwrap();
        assert_eq!(watch.state(), PeerState::Alive);
        Self { child, words, watch }
    }

    fn address(&self) -> NoticeAddress {
        NoticeAddress::from_words(self.words)
    }

    /// The number of the notice's descriptor in the peer.
    fn number(&self) -> i32 {
        i32::try_from(self.words[0] >> 32).unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Dead and reaped, perhaps.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn said(child: &mut Child) -> String {
    let out = BufReader::new(child.stdout.as_mut().unwrap());
    out.lines().map_while(Result::ok).find_map(|line| line.strip_prefix('@').map(str::to_owned)).unwrap()
}

fn is_readable_within(process: &OwnedFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    let mut asked = [PollFd::new(process, PollFlags::IN)];
    let count = poll(&mut asked, Some(&timeout)).unwrap();
    count == 1 && asked[0].revents().contains(PollFlags::IN)
}

#[test]
fn it_is_readable_soon_after_a_kill_and_not_before() {
    let test = "it_is_readable_soon_after_a_kill_and_not_before";
    if role().is_some() {
        own_a_notice();
    }
    let mut all = Vec::new();
    for _ in 0..21 {
        let victim = Victim::start(test);
        let process = victim.watch.pidfd(victim.address()).unwrap();
        assert!(fcntl_getfd(&process).unwrap().contains(FdFlags::CLOEXEC));
        kill_process(victim.pid(), Signal::STOP).unwrap();
        assert!(!is_readable_within(&process, Duration::from_millis(5)), "it is only stopped");
        let again = victim.watch.pidfd(victim.address()).unwrap();
        let killed = Instant::now();
        kill_process(victim.pid(), Signal::KILL).unwrap();
        assert!(is_readable_within(&process, Duration::from_secs(1)), "{:?}", killed.elapsed());
        all.push(killed.elapsed());
        assert!(is_readable_within(&again, Duration::from_secs(1)));
        assert_eq!(victim.watch.state(), PeerState::Dead);
        // Not reaped yet: its number is still its own, and it is dead all the same.
        let refused = victim.watch.pidfd(victim.address()).unwrap_err();
        assert!(matches!(refused, DeathError::Gone { found: PeerState::Dead }), "{refused}");
    }
    all.sort();
    println!("readable after {:?}, {:?} to {:?}", all[10], all[0], all[20]);
}

#[test]
fn an_orderly_exit_is_an_end_too() {
    let test = "an_orderly_exit_is_an_end_too";
    if role().is_some() {
        let [low, inode] = DeathNotice::own().unwrap().address().unwrap().to_words();
        report(&format!("{low} {inode}"));
        thread::sleep(Duration::from_millis(500));
        std::process::exit(0);
    }
    let victim = Victim::start(test);
    let process = victim.watch.pidfd(victim.address()).unwrap();
    assert!(is_readable_within(&process, LONG));
    let refused = victim.watch.pidfd(victim.address()).unwrap_err();
    assert!(matches!(refused, DeathError::Gone { found: PeerState::Detached }), "{refused}");
}

/// Tries addresses that do not lead to the owner, while it lives.
fn try_lies(victim: &Victim) {
    let refused = |words| victim.watch.pidfd(NoticeAddress::from_words(words)).unwrap_err();
    let [low, inode] = victim.words;
    let (me, upper) = (u64::from(std::process::id()), low >> 32 << 32);
    // Another process with a notice of its own.
    let own = DeathNotice::own().unwrap().address().unwrap().to_words();
    let lie = refused(own);
    assert!(matches!(lie, DeathError::AnotherProcess { what: "inode of its notice", .. }), "{lie}");
    let lie = refused([own[0], inode]);
    assert!(matches!(lie, DeathError::NotANotice { what: "inode", .. }), "{lie}");
    // One that has the very notice, as whoever was sent it.
    let path = format!("/proc/{}/fd/{}", victim.child.id(), victim.number());
    let copy = File::open(path).unwrap();
    let number = u64::from(copy.as_raw_fd().unsigned_abs());
    assert_eq!(fstat(&copy).unwrap().st_ino, inode);
    let words = [me | number << 32, inode];
    assert_eq!(DeathWatch::find(NoticeAddress::from_words(words)).unwrap().state(), PeerState::Alive);
    match refused(words) {
        DeathError::AnotherProcess { pid, what, .. } => {
            assert_eq!((pid, what), (std::process::id(), "its guard"));
        }
        other => panic!("{other}"),
    }
    // The number of a thread is not that of a process, and some are of nobody.
    let guard = guard_of(victim);
    for pid in [u64::from(guard), 0, u64::from(u32::MAX), 0x7fff_fff0] {
        let lie = refused([pid | upper, inode]);
        assert!(matches!(lie, DeathError::System { .. }), "{pid}: {lie}");
    }
}

fn guard_of(victim: &Victim) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", victim.child.id())).unwrap();
    let mut named = tasks.map(Result::unwrap).filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "tidewire-guard")
    });
    named.next().unwrap().file_name().to_str().unwrap().parse().unwrap()
}

/// Starts a process with the number of one that is gone, which has what `notice` is at the same descriptor. `None`: this
/// user may not choose the numbers of processes, or others were faster each time.
fn reuse(test: &str, pid: u32, number: i32, notice: &OwnedFd) -> Option<Child> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut command = peer(test, "later", "");
        let notice = notice.as_raw_fd();
        let inherit = move || {
            // SAFETY: open as long as the test runs.
            let notice = unsafe { BorrowedFd::borrow_raw(notice) };
            // SAFETY: nobody owns that number in the child, which is about to become another program.
            let mut there = std::mem::ManuallyDrop::new(unsafe { owned(number) });
            Ok(rustix::io::dup2(notice, &mut there)?)
        };
        // SAFETY: the closure makes one system call and neither allocates nor takes a lock.
        unsafe { command.pre_exec(inherit) };
        let mut child = command.spawn().unwrap();
        if child.id() == pid {
            assert_eq!(said(&mut child), "later");
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    None
}

/// # Safety
/// As [`OwnedFd::from_raw_fd`](std::os::fd::FromRawFd::from_raw_fd).
unsafe fn owned(number: i32) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(number) }
}

#[test]
fn a_process_that_is_not_the_owner_is_refused() {
    let test = "a_process_that_is_not_the_owner_is_refused";
    if let Some((role, _)) = role() {
        if role == "later" {
            report("later");
            sleep_for_ever();
        }
        own_a_notice();
    }
    let mut victim = Victim::start(test);
    try_lies(&victim);
    let process = victim.watch.pidfd(victim.address()).unwrap();
    let path = format!("/proc/{}/fd/{}", victim.child.id(), victim.number());
    let notice = OwnedFd::from(File::open(path).unwrap());
    victim.child.kill().unwrap();
    victim.child.wait().unwrap();
    assert!(is_readable_within(&process, Duration::from_secs(1)));

    // Its number is free, and soon another's, who has the same memory at the same descriptor.
    let gone = |watch: &DeathWatch, words| {
        let refused = watch.pidfd(NoticeAddress::from_words(words)).unwrap_err();
        assert!(matches!(refused, DeathError::Gone { found: PeerState::Dead }), "{refused}");
    };
    gone(&victim.watch, victim.words);
    match reuse(test, victim.child.id(), victim.number(), &notice) {
        Some(mut later) => {
            let watch = DeathWatch::find(victim.address()).unwrap();
            assert_eq!(watch.state(), PeerState::Dead, "it is the notice of the one before");
            gone(&watch, victim.words);
            gone(&victim.watch, victim.words);
            assert_eq!(kill_process(Pid::from_child(&later), Signal::KILL), Ok(()));
            later.wait().unwrap();
            println!("the number was used again");
        }
        None => println!("the number was not used again: this user cannot choose it"),
    }
    // And in any case of one that is alive, and has it.
    let number = u64::from(notice.into_raw_fd().unsigned_abs());
    gone(&victim.watch, [u64::from(std::process::id()) | number << 32, victim.words[1]]);
    assert_eq!(kill_process(victim.pid(), Signal::CONT), Err(Errno::SRCH));
}
