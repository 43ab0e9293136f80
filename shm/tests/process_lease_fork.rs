//! Leases and `fork`: a child holds nothing of its parent's, knows it, and keeps nothing alive.
//!
//! Each test starts a process, the parent, which takes leases and forks. The test watches from outside.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_lease_rules;
mod process_segment_peer;

use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use process_lease_rules::{ROLE, create, open, private_place, states, vacant_after, wait_to_be_killed};
use process_segment_peer::{peer, report, role};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, kill_process_group, setrlimit,
    waitpid,
};
use tidewire_shm::bell::{Armed, BellMode, Roster, SleepOptions, System, roster_bytes};
use tidewire_shm::{ForkMark, LeaseError, Liveness, RoleId, Segment, SegmentLease, SegmentLeases, Tenancy};

const OTHER: RoleId = RoleId::CLEANER;

/// A process and its descendants, which are all killed in the end.
struct Family {
    parent: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Family {
    fn start(test: &str, place: &std::path::Path) -> Self {
        let mut parent = peer(test, "parent", place).process_group(0).spawn().unwrap();
        let said = BufReader::new(parent.stdout.take().unwrap()).lines();
        Self { parent, said }
    }

    /// The next report.
    fn next(&mut self) -> String {
        let mut said = self.said.by_ref().map_while(Result::ok);
        let Some(line) = said.find_map(|line| line.strip_prefix('@').map(str::to_owned)) else {
            panic!("the family ended without another word");
        };
        line
    }

    fn kill_parent(&mut self) {
        self.parent.kill().unwrap();
        self.parent.wait().unwrap();
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.parent);
        // There may be nobody left.
        let _none = kill_process_group(group, Signal::KILL);
        self.parent.wait().unwrap();
    }
}

/// Runs `child` in a fork child, which then waits to be killed, or ends if `child` failed.
fn fork(child: impl FnOnce() -> Result<(), String>) -> Pid {
    // SAFETY: the child is this thread's copy alone. The locks of the allocator are in order after a fork, and no
    // other lock is used by another thread when this is called.
    let pid = unsafe { libc::fork() };
    run_child(pid, child)
}

/// As `fork`, but by the system call, so that no handler knows.
fn raw_fork(child: impl FnOnce() -> Result<(), String>) -> Pid {
    // SAFETY: without flags this is `fork`; the child only does what `child` does.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    run_child(pid.try_into().unwrap(), child)
}

fn run_child(pid: i32, child: impl FnOnce() -> Result<(), String>) -> Pid {
    match pid {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: should the test forget this process, it ends by itself.
            unsafe { libc::alarm(60) };
            match child() {
                Ok(()) => report(&format!("child {}", std::process::id())),
                Err(error) => report(&format!("child failed: {error}")),
            }
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        pid => Pid::from_raw(pid).unwrap(),
    }
}

fn pid_in(report: &str) -> Pid {
    let pid = report.strip_prefix("child ").and_then(|pid| pid.parse().ok());
    Pid::from_raw(pid.unwrap_or_else(|| panic!("{report}"))).unwrap()
}

fn is_running(pid: Pid) -> bool {
    states(pid.as_raw_nonzero().get().unsigned_abs()).iter().any(|state| !matches!(state, 'Z' | 'X'))
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).unwrap();
}

fn ensure(what: &str, holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[test]
fn a_child_that_outlives_a_holder_keeps_nothing_of_it() {
    if let Some((_, place)) = role() {
        let leases = open(place).leases().unwrap();
        let lease = leases.acquire(ROLE).unwrap();
        fork(|| {
            ensure("it sees that the lease is not its own", lease.is_forked_child())?;
            ensure("the parent has the role", leases.tenancy(ROLE) == Tenancy::Held)?;
            let taken = leases.acquire(ROLE).err();
            ensure("the role is refused to it", taken == Some(LeaseError::Held { role: ROLE }))?;
            let own = leases.acquire(OTHER).map_err(|error| error.to_string())?;
            ensure("a lease of its own is its own", !own.is_forked_child())?;
            let _until_killed = Box::leak(Box::new(own));
            Ok(())
        });
        wait_to_be_killed();
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut family = Family::start("a_child_that_outlives_a_holder_keeps_nothing_of_it", place.path());
    let child = pid_in(&family.next());
    assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
    assert_eq!(leases.tenancy(OTHER), Tenancy::Held);
    family.kill_parent();
    let latency = vacant_after(&leases, ROLE).unwrap();
    println!("from the end of the parent to vacant: {latency:?}");
    drop(leases.acquire(ROLE).unwrap());
    assert!(is_running(child));
    assert_eq!(leases.tenancy(OTHER), Tenancy::Held);
    kill(child);
    vacant_after(&leases, OTHER).unwrap();
}

#[test]
fn nothing_that_a_child_does_with_its_copies_harms_the_parents_lease() {
    if let Some((_, place)) = role() {
        let leases = open(place).leases().unwrap();
        let lease = leases.acquire(ROLE).unwrap();
        let (kept, dropped) = (&leases, &mut Some(lease));
        let child = fork(|| {
            // Reuses the number of the closed descriptor.
            let null = std::fs::File::open("/dev/null").map_err(|error| error.to_string())?;
            let own = kept.acquire(OTHER).map_err(|error| error.to_string())?;
            drop(dropped.take());
            ensure("another's descriptor stays open", null.metadata().is_ok())?;
            ensure("its own lease stays", kept.tenancy(OTHER) == Tenancy::Held)?;
            drop(own);
            ensure("its own lease goes", kept.tenancy(OTHER) == Tenancy::Vacant)
        });
        report(&format!("parent of {child:?}"));
        // By then the child has done it.
        let started = Instant::now();
        while leases.tenancy(RoleId::CREATOR) == Tenancy::Vacant {
            assert!(started.elapsed() < Duration::from_secs(20), "the test does not go on");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
        kill(child);
        waitpid(Some(child), WaitOptions::empty()).unwrap();
        assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
        report("still held");
        drop(dropped.take());
        report("dropped");
        wait_to_be_killed();
    }
    const TEST: &str = "nothing_that_a_child_does_with_its_copies_harms_the_parents_lease";
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut family = Family::start(TEST, place.path());
    let mut said = [family.next(), family.next()];
    said.sort();
    pid_in(&said[0]);
    assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
    let go_on = leases.acquire(RoleId::CREATOR).unwrap();
    assert_eq!(family.next(), "still held");
    assert_eq!(family.next(), "dropped");
    // Although a descriptor of the child's might still be open.
    assert_eq!(leases.tenancy(ROLE), Tenancy::Vacant);
    drop(go_on);
}

#[test]
fn every_generation_tells_itself_from_its_ancestors() {
    fn descend(depth: u64, ancestors: &[ForkMark], leases: &SegmentLeases) -> Result<(), String> {
        let mark = ForkMark::here().map_err(|error| error.to_string())?;
        ensure("the mark is this process's", !mark.is_forked_child())?;
        ensure("it counts the forks", mark.generation() == ancestors[0].generation() + depth)?;
        ensure("no ancestor's is", ancestors.iter().all(ForkMark::is_forked_child))?;
        if depth == 4 {
            return Ok(());
        }
        let lease = leases
            .acquire(RoleId::producer(depth.try_into().unwrap()).unwrap())
            .map_err(|e| e.to_string())?;
        let marks = [ancestors, &[mark]].concat();
        fork(|| {
            ensure("the lease stayed with its holder", lease.is_forked_child())?;
            descend(depth + 1, &marks, leases)
        });
        let _until_killed = Box::leak(Box::new(lease));
        Ok(())
    }
    if let Some((_, place)) = role() {
        let leases = open(place).leases().unwrap();
        let mark = ForkMark::here().unwrap();
        fork(|| descend(1, &[mark], &leases));
        assert!(!mark.is_forked_child(), "a parent is no child");
        wait_to_be_killed();
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut family = Family::start("every_generation_tells_itself_from_its_ancestors", place.path());
    let descendants: Vec<_> = (0..4).map(|_| pid_in(&family.next())).collect();
    family.kill_parent();
    // One after the other: each takes its own lease with it, and no other.
    let mut held: Vec<_> = (1..4).map(|depth| RoleId::producer(depth).unwrap()).collect();
    assert!(held.iter().all(|&role| leases.tenancy(role) == Tenancy::Held));
    for child in descendants {
        kill(child);
        thread::sleep(Duration::from_millis(50));
        let before = held.len();
        held.retain(|&role| leases.tenancy(role) == Tenancy::Held);
        assert!(before - held.len() <= 1, "more than its own");
    }
    assert!(held.is_empty(), "{held:?}");
}

#[test]
fn a_child_of_raw_clone_knows_itself_and_keeps_the_role_from_being_taken() {
    if let Some((_, place)) = role() {
        let leases = open(place).leases().unwrap();
        let mut lease = Some(leases.acquire(ROLE).unwrap());
        let handed_back = leases.acquire(OTHER).unwrap();
        raw_fork(|| {
            let lease = lease.take();
            let is_forked = lease.as_ref().is_some_and(SegmentLease::is_forked_child);
            ensure("it sees that the lease is not its own", is_forked)?;
            // Does nothing, neither to the parent's lease nor to what this process has open.
            drop(lease);
            let mark = ForkMark::here().map_err(|error| error.to_string())?;
            ensure("it has a mark of its own", !mark.is_forked_child())?;
            ensure("the role is refused to it", leases.acquire(ROLE).is_err())
        });
        drop(handed_back);
        report("handed back");
        wait_to_be_killed();
    }
    const TEST: &str = "a_child_of_raw_clone_knows_itself_and_keeps_the_role_from_being_taken";
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut family = Family::start(TEST, place.path());
    let mut said = [family.next(), family.next()];
    said.sort();
    let child = pid_in(&said[0]);
    assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
    // The child has the descriptor of this one too, but a holder that lives unlocks.
    assert_eq!(leases.tenancy(OTHER), Tenancy::Vacant);
    family.kill_parent();
    // What the handlers prevent: the same, without them, is seen by the same test.
    let kept = vacant_after(&leases, ROLE).unwrap_err();
    assert!(kept.contains("Held"), "{kept}");
    assert!(is_running(child));
    kill(child);
    vacant_after(&leases, ROLE).unwrap();
}

#[test]
fn programs_that_a_holder_started_keep_nothing_of_it() {
    if let Some((_, place)) = role() {
        let leases = open(place).leases().unwrap();
        let _lease = leases.acquire(ROLE).unwrap();
        for by_fork in [false, true] {
            let mut command = Command::new("sleep");
            command.arg("60").stdout(Stdio::null());
            if by_fork {
                // SAFETY: does nothing, but has the child made by `fork` instead of `posix_spawn`.
                unsafe { command.pre_exec(|| Ok(())) };
            }
            report(&format!("child {}", command.spawn().unwrap().id()));
        }
        wait_to_be_killed();
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut family = Family::start("programs_that_a_holder_started_keep_nothing_of_it", place.path());
    let programs = [family.next(), family.next()].map(|said| pid_in(&said));
    assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
    family.kill_parent();
    vacant_after(&leases, ROLE).unwrap();
    assert!(programs.into_iter().all(is_running));
}

#[test]
fn a_fork_at_any_moment_of_an_acquisition_keeps_nothing() {
    const TEST: &str = "a_fork_at_any_moment_of_an_acquisition_keeps_nothing";
    const ROUNDS: usize = 20;
    const FORKS: usize = 12;
    const LEASES: u32 = 800;
    if let Some((_, place)) = role() {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
        let leases = open(place).leases().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let forks = scope.spawn(|| {
                let more = || !done.load(Ordering::SeqCst);
                (0..FORKS)
                    .take_while(|_| more())
                    .inspect(|_| {
                        fork(|| Ok(()));
                        thread::sleep(Duration::from_micros(200));
                    })
                    .count()
            });
            // One after the other without a pause, so that most forks fall into the middle of one.
            let acquire = |index| leases.acquire(RoleId::producer(index).unwrap()).unwrap();
            let _kept: Vec<_> = (0..LEASES).map(acquire).collect();
            done.store(true, Ordering::SeqCst);
            report(&format!("ready {}", forks.join().unwrap()));
            wait_to_be_killed();
        });
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let roles = || (0..LEASES).map(|index| RoleId::producer(index).unwrap());
    let mut survivors = 0;
    for round in 0..ROUNDS {
        let mut family = Family::start(TEST, place.path());
        let mut children = Vec::new();
        let mut forks = None;
        while forks != Some(children.len()) {
            let said = family.next();
            match said.strip_prefix("ready ") {
                Some(count) => forks = Some(count.parse().unwrap()),
                None => children.push(pid_in(&said)),
            }
        }
        assert!(roles().all(|role| leases.tenancy(role) == Tenancy::Held));
        family.kill_parent();
        for role in roles() {
            vacant_after(&leases, role).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        assert!(children.iter().all(|&child| is_running(child)));
        survivors += children.len();
    }
    println!("{ROUNDS} processes with {LEASES} leases each, survived by {survivors} children");
    assert!(survivors >= 2 * ROUNDS, "{survivors} forks are too few");
}

/// A copy that a fork child drops says nothing of its parent, which is there and waits.
#[test]
fn a_fork_child_that_drops_its_copy_of_an_entry_leaves_the_parents_alone() {
    let segment = Segment::anonymous(roster_bytes(1)).unwrap();
    let roster = Roster::create(segment.region(), 1, BellMode::Fence).unwrap();
    let mut own = roster.attend(0, [0; 2], System, &SleepOptions::new()).unwrap();
    assert_eq!(own.arm(|| false), Armed::Armed);
    // SAFETY: the child only drops what is its own copy, and ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(own);
        // SAFETY: ends the process, and nothing else of it runs.
        unsafe { libc::_exit(0) };
    }
    let ended = waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
    assert!(ended.is_some_and(|(_, status)| status.exit_status() == Some(0)), "{ended:?}");
    let entry = roster.entry(0);
    assert_eq!((entry.present, entry.generation, roster.changes()), (true, 1, 1));
    assert!(roster.hands(&System).unwrap().any(), "the hand is down");
    drop(own);
    assert!(!roster.entry(0).present);
}
