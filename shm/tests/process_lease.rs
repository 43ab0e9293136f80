//! Leases between processes: held as long as the holder can go on, and not longer.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod process_lease_rules;
mod process_segment_peer;

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::chroot;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process_lease_rules::{
    Kind, NAME, ROLE, Victim, create, open, private_place, states, vacant_after, wait_for_main_thread,
    wait_for_state, wait_to_be_killed,
};
use process_segment_peer::{peer, report, reports, role, wait_for};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getegid, geteuid, getrlimit, kill_process,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tidewire_shm::{LeaseError, Liveness, RoleId, Segment, SegmentError, SegmentOptions, Tenancy};

const HANDED: &str = "TIDEWIRE_TEST_SEGMENT";
const REFUSED: LeaseError = LeaseError::Held { role: ROLE };

/// Takes the role and waits to be killed.
fn hold(segment: &Segment) -> ! {
    let _lease = segment.leases().unwrap().acquire(ROLE).unwrap();
    report("held");
    wait_to_be_killed();
}

/// A process that has the role of the segment in `place`.
fn holder(test: &str, place: &Path) -> Victim {
    started(&mut peer(test, "holder", place))
}

fn started(command: &mut Command) -> Victim {
    let mut holder = Victim(command.spawn().unwrap());
    wait_for(&mut holder.0, "held");
    holder
}

fn signal(victim: &Victim, signal: Signal) {
    kill_process(Pid::from_raw(victim.0.id().try_into().unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn segment_leases_obey_every_rule() {
    match role() {
        Some((role, argument)) => Kind::act(&role, &argument),
        None => assert_eq!(Kind::Segment.broken("segment_leases_obey_every_rule"), [""; 0]),
    }
}

#[test]
fn leases_by_record_locks_are_caught() {
    match role() {
        Some((role, argument)) => Kind::act(&role, &argument),
        None => assert_eq!(
            Kind::Record.broken("leases_by_record_locks_are_caught"),
            [
                "another taker in this process is refused",
                "closing another descriptor of the file loses nothing"
            ]
        ),
    }
}

#[test]
fn a_killed_holder_leaves_its_role_vacant_within_a_second() {
    if let Some((_, place)) = role() {
        hold(&open(place));
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut latencies: Vec<_> = (0..25)
        .map(|_| {
            let mut holder = holder("a_killed_holder_leaves_its_role_vacant_within_a_second", place.path());
            assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
            holder.0.kill().unwrap();
            let latency = vacant_after(&leases, ROLE).unwrap();
            leases.acquire(ROLE).unwrap();
            latency
        })
        .collect();
    latencies.sort_unstable();
    println!("from kill to vacant: median {:?}, longest {:?}", latencies[12], latencies[24]);
}

#[test]
fn a_stopped_holder_keeps_its_role() {
    if let Some((_, place)) = role() {
        hold(&open(place));
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let holder = holder("a_stopped_holder_keeps_its_role", place.path());
    let held_for = |time: Duration| {
        let started = Instant::now();
        while started.elapsed() < time {
            assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
            assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
            thread::sleep(Duration::from_millis(5));
        }
    };
    signal(&holder, Signal::STOP);
    wait_for_state(holder.0.id(), 'T');
    held_for(Duration::from_secs(1));
    signal(&holder, Signal::CONT);
    wait_for_state(holder.0.id(), 'S');
    held_for(Duration::from_millis(50));
    // A stopped process can be killed.
    signal(&holder, Signal::STOP);
    wait_for_state(holder.0.id(), 'T');
    signal(&holder, Signal::KILL);
    vacant_after(&leases, ROLE).unwrap();
}

#[test]
fn a_dead_holder_that_nobody_reaped_has_no_role() {
    if let Some((_, place)) = role() {
        hold(&open(place));
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut holder = holder("a_dead_holder_that_nobody_reaped_has_no_role", place.path());
    holder.0.kill().unwrap();
    wait_for_state(holder.0.id(), 'Z');
    assert_eq!(leases.tenancy(ROLE), Tenancy::Vacant);
    drop(leases.acquire(ROLE).unwrap());
    assert!(states(holder.0.id()).iter().all(|state| *state == 'Z'), "nobody reaped it");
}

#[test]
fn a_holder_that_starts_another_program_has_no_role() {
    const TEST: &str = "a_holder_that_starts_another_program_has_no_role";
    if let Some((_, place)) = role() {
        let _lease = open(place).leases().unwrap().acquire(ROLE).unwrap();
        report("held");
        io::stdin().lock().lines().next();
        panic!("{}", Command::new("sleep").arg("60").exec());
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut holder = started(peer(TEST, "holder", place.path()).stdin(Stdio::piped()));
    assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
    writeln!(holder.0.stdin.as_mut().unwrap(), "go").unwrap();
    vacant_after(&leases, ROLE).unwrap();
    // The same process goes on.
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", holder.0.id())).unwrap(), "sleep\n");
    assert!(holder.0.try_wait().unwrap().is_none());
}

#[test]
fn a_process_whose_main_thread_ended_takes_and_keeps_a_role() {
    const TEST: &str = "a_process_whose_main_thread_ended_takes_and_keeps_a_role";
    if role().is_some() {
        go_on_alone();
        let segment = Segment::inherited(HANDED).unwrap();
        thread::spawn(move || {
            // Of this thread: the main thread's own does not outlive it.
            set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
            wait_for_main_thread('Z');
            hold(&segment);
        });
        // SAFETY: ends this thread only; its stack and what it owns stay as they are.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!("the thread has ended");
    }
    // Without a name, by which the memory could be found too.
    let segment = Segment::anonymous(4096).unwrap();
    let leases = segment.leases().unwrap();
    let mut command = peer(TEST, "holder", "");
    segment.inherit(&mut command, HANDED).unwrap();
    let mut holder = started(&mut command);
    assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
    holder.0.kill().unwrap();
    vacant_after(&leases, ROLE).unwrap();
}

/// Goes on in a fork child, whose only thread is its main thread. It dies with this process, which waits for it.
fn go_on_alone() {
    // SAFETY: the other thread of this process, the test harness', is waiting and holds no lock.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", io::Error::last_os_error()),
        0 => set_parent_process_death_signal(Some(Signal::KILL)).unwrap(),
        _ => {
            // SAFETY: waits for a child whose status nobody wants.
            unsafe { libc::wait(std::ptr::null_mut()) };
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
    }
}

fn text(path: &'static str, text: &[u8]) -> Result<(), Errno> {
    let fd = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, text).map(|_| ())
}

/// Gives this process, which has one thread, a namespace of its own; by way of a user namespace if it must.
fn unshare(flags: UnshareFlags, maps: [&str; 2]) -> io::Result<()> {
    // SAFETY: no file descriptors are unshared.
    let own = unsafe { unshare_unsafe(flags) };
    if own != Err(Errno::PERM) {
        return Ok(own?);
    }
    // SAFETY: as above.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | flags)? };
    text("/proc/self/setgroups", b"deny")?;
    text("/proc/self/uid_map", maps[0].as_bytes())?;
    text("/proc/self/gid_map", maps[1].as_bytes())?;
    Ok(())
}

fn maps() -> [String; 2] {
    [geteuid().as_raw(), getegid().as_raw()].map(|id| format!("{id} {id} 1"))
}

/// Makes the program that `command` starts the first process of a pid namespace. It dies with the process that the
/// command seems to have started, which only waits.
fn in_a_pid_namespace(command: &mut Command) {
    let maps = maps();
    let split = move || -> io::Result<()> {
        unshare(UnshareFlags::NEWPID, [&maps[0], &maps[1]])?;
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(set_parent_process_death_signal(Some(Signal::KILL))?),
            _ => {
                // SAFETY: nothing here uses them any more. The starter waits for some of them to be closed.
                unsafe { libc::close_range(0, u32::MAX, 0) };
                // SAFETY: waits for a child whose status nobody wants.
                unsafe { libc::wait(std::ptr::null_mut()) };
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) }
            }
        }
    };
    // SAFETY: the closure makes system calls on data made before the fork, and neither allocates nor locks; the one
    // allocation, of an error's, does not happen where the test passes.
    unsafe { command.pre_exec(split) };
}

#[test]
fn pid_namespaces_make_no_difference() {
    const TEST: &str = "pid_namespaces_make_no_difference";
    if let Some((_, place)) = role() {
        assert_eq!(std::process::id(), 1, "in a pid namespace of its own");
        let segment = open(place);
        let leases = segment.leases().unwrap();
        // The role of a process that has no pid here.
        let role = RoleId::CLEANER;
        assert_eq!(leases.tenancy(role), Tenancy::Held);
        assert_eq!(leases.acquire(role).unwrap_err(), LeaseError::Held { role });
        hold(&segment);
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let cleaner = leases.acquire(RoleId::CLEANER).unwrap();
    let mut command = peer(TEST, "holder", place.path());
    in_a_pid_namespace(&mut command);
    let mut holder = started(&mut command);
    assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
    holder.0.kill().unwrap();
    vacant_after(&leases, ROLE).unwrap();
    drop(cleaner);
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_killed_holders_leave_nothing() {
    const TEST: &str = "a_thousand_killed_holders_leave_nothing";
    const KILLS: usize = 1000;
    match role() {
        Some((role, place)) if role == "holder" => hold(&open(place)),
        // Alone in its process, so that the descriptors are its own.
        Some((_, place)) => {
            let leases = open(&place).leases().unwrap();
            let before = descriptors();
            for _ in 0..KILLS {
                drop(holder(TEST, Path::new(&place)));
                drop(leases.acquire(ROLE).unwrap());
            }
            assert_eq!(descriptors(), before);
            return report("nothing");
        }
        None => {}
    }
    let place = private_place();
    let segment = create(place.path());
    assert_eq!(reports(&peer(TEST, "killer", place.path()).output().unwrap()), ["nothing"]);
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [NAME]);
    assert_eq!(segment.leases().unwrap().tenancy(ROLE), Tenancy::Vacant);
}

#[test]
fn sealed_memory_that_was_inherited_or_received_has_leases() {
    const TEST: &str = "sealed_memory_that_was_inherited_or_received_has_leases";
    match role() {
        Some((role, _)) if role == "heir" => hold(&Segment::inherited(HANDED).unwrap()),
        Some((_, socket)) => hold(&Segment::receive(&UnixStream::connect(socket).unwrap()).unwrap()),
        None => {}
    }
    let segment = Segment::anonymous(4096).unwrap();
    let leases = segment.leases().unwrap();
    let check = |mut holder: Victim| {
        assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
        holder.0.kill().unwrap();
        vacant_after(&leases, ROLE).unwrap();
        drop(leases.acquire(ROLE).unwrap());
    };
    let mut heir = peer(TEST, "heir", "");
    segment.inherit(&mut heir, HANDED).unwrap();
    check(started(&mut heir));

    let place = private_place();
    let socket = place.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut receiver = Victim(peer(TEST, "receiver", &socket).spawn().unwrap());
    segment.send(&listener.accept().unwrap().0).unwrap();
    wait_for(&mut receiver.0, "held");
    check(receiver);
}

#[test]
fn a_segment_opened_for_reading_has_the_same_leases() {
    const TEST: &str = "a_segment_opened_for_reading_has_the_same_leases";
    if let Some((_, place)) = role() {
        let options = SegmentOptions::new().directory(place);
        hold(&Segment::open_read_only_with(NAME, &options).unwrap());
    }
    let place = private_place();
    let leases = create(place.path()).leases().unwrap();
    let mut holder = holder(TEST, place.path());
    assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
    holder.0.kill().unwrap();
    vacant_after(&leases, ROLE).unwrap();
}

#[test]
fn without_proc_a_named_segment_is_found_by_its_name() {
    const TEST: &str = "without_proc_a_named_segment_is_found_by_its_name";
    if let Some((_, place)) = role() {
        let (named, anonymous) = (open(&place), Segment::anonymous(4096).unwrap());
        let early = anonymous.leases().unwrap();
        let maps = maps();
        go_on_alone();
        // With a mount namespace comes the right to change the root.
        unshare(UnshareFlags::NEWNS, [&maps[0], &maps[1]]).unwrap();
        chroot(&place).unwrap();
        assert!(!Path::new("/proc").exists());

        let refused = anonymous.leases().unwrap_err();
        assert!(refused.to_string().contains("/proc/thread-self/fd"), "{refused}");
        assert!(matches!(refused, SegmentError::Io { .. }), "{refused:?}");
        // What was opened while there was a /proc can be asked, but not acquired.
        assert_eq!(early.tenancy(ROLE), Tenancy::Vacant);
        let refused = early.acquire(ROLE).unwrap_err();
        assert_eq!(refused, LeaseError::System { role: ROLE, errno: Errno::NOENT.raw_os_error() });
        hold(&named);
    }
    let place = private_place();
    let segment = create(place.path());
    let leases = segment.leases().unwrap();
    let mut holder = holder(TEST, place.path());
    assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
    holder.0.kill().unwrap();
    vacant_after(&leases, ROLE).unwrap();
}

#[test]
fn a_process_without_descriptors_is_told_so_and_recovers() {
    const TEST: &str = "a_process_without_descriptors_is_told_so_and_recovers";
    const MOST: u32 = 4096;
    if let Some((_, place)) = role() {
        let leases = open(place).leases().unwrap();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        for limit in [Some(64), maximum.or(current)] {
            setrlimit(Resource::Nofile, Rlimit { current: limit, maximum }).unwrap();
            // Again, since what failed must leave nothing behind.
            for _ in 0..2 {
                let mut held = Vec::new();
                let refused = (0..=MOST).find_map(|index| {
                    leases.acquire(RoleId::producer(index).unwrap()).map(|lease| held.push(lease)).err()
                });
                let Some(LeaseError::System { errno, .. }) = refused else { panic!("{refused:?}") };
                assert_eq!(errno, Errno::MFILE.raw_os_error());
                assert!(held.len() > 32, "{}", held.len());
                assert!(limit != Some(64) || held.len() < 64, "{}", held.len());
            }
        }
        return report("refused");
    }
    let place = private_place();
    let _segment = create(place.path());
    assert_eq!(reports(&peer(TEST, "taker", place.path()).output().unwrap()), ["refused"]);
}
