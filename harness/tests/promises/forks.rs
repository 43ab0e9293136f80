//! Processes that fork, and processes that become another program.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tidewire_shm::bell::PeerState;
use tidewire_shm::{DeathNotice, ForkMark, Liveness, RoleId, Tenancy};

use crate::peers::{
    LONG, Peer, Place, alone, announce, hear, open, peer, role, say, states, vacant_after, wait_to_be_killed,
};
use crate::queues::{Kind, message, whole};

const PRODUCER: u64 = 3;
const HEIR: u64 = 4;

fn pushing() -> RoleId {
    RoleId::producer(0).unwrap()
}

/// Forks with roles in its hands, and goes on in them; the child does nothing with its copies.
fn fork_and_go_on(place: &Path) {
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let mut producers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.producer(segment).unwrap()).collect();
    let leases = segments[0].leases().unwrap();
    let lease = leases.acquire(RoleId::CLEANER).unwrap();
    let notice = DeathNotice::own().unwrap().address().unwrap();
    // SAFETY: the child is this thread's copy alone; what it uses holds no lock that another thread could have.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: should the test forget this process, it ends by itself.
            unsafe { libc::alarm(60) };
            let own = ForkMark::here().is_ok_and(|mark| !mark.is_forked_child());
            let knows_itself = lease.is_forked_child() && lease.fork_mark().is_forked_child() && own;
            let held = [RoleId::CLEANER, pushing()].map(|role| leases.tenancy(role)) == [Tenancy::Held; 2];
            let refused = [RoleId::CLEANER, pushing()].map(|role| leases.acquire(role).is_err()) == [true; 2];
            let own_notice = DeathNotice::own().and_then(DeathNotice::address).is_ok_and(|own| own != notice);
            if !(knows_itself && held && refused && own_notice) {
                say(format!("child failed: {knows_itself} {held} {refused} {own_notice}"));
            }
            say(format!("child {}", std::process::id()));
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        _ => {}
    }
    hear();
    assert!(!lease.is_forked_child(), "a parent is no child");
    for number in 0..100 {
        for producer in &mut producers {
            producer.push(message(PRODUCER, number)).unwrap();
        }
    }
    announce();
    wait_to_be_killed()
}

/// Kills what is left of a family.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _nobody_left = kill_process_group(self.0, Signal::KILL);
    }
}

#[test]
fn fork_without_exec_leaves_the_roles_with_the_parent_and_nothing_with_the_child() {
    const TEST: &str = "forks::fork_without_exec_leaves_the_roles_with_the_parent_and_nothing_with_the_child";
    if let Some((_, place)) = role() {
        return fork_and_go_on(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let segments = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    let mut consumers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.consumer(segment).unwrap()).collect();
    let mut parent = Peer::spawn(peer(TEST, "parent", place.path()).process_group(0)).unwrap();
    let _all = Group(parent.pid());
    let said = parent.next();
    let child = said.strip_prefix("child ").and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    let child = child.unwrap_or_else(|| panic!("{said}"));
    parent.tell();
    let watch = parent.watch();
    for consumer in &mut consumers {
        for number in 0..100 {
            assert_eq!(whole(&consumer.pop().unwrap()), (PRODUCER, number));
        }
    }
    assert_eq!(watch.state(), PeerState::Alive);
    parent.kill();
    // The child lives, and keeps nothing of its parent's alive.
    assert_eq!(watch.state(), PeerState::Dead);
    for ((kind, segment), consumer) in Kind::ALL.into_iter().zip(&segments).zip(&mut consumers) {
        let leases = segment.leases().unwrap();
        vacant_after(&leases, pushing());
        consumer.reclaim(&leases);
        kind.producer(segment).unwrap().push(message(HEIR, 0)).unwrap();
        assert_eq!(whole(&consumer.pop().unwrap()), (HEIR, 0));
    }
    vacant_after(&segments[0].leases().unwrap(), RoleId::CLEANER);
    let alive = states(child);
    assert!(!alive.is_empty() && !alive.contains(&'Z'), "the child is gone: {alive:?}");
    kill_process(child, Signal::KILL).unwrap();
}

#[test]
fn exec_releases_leases_and_is_a_death() {
    const TEST: &str = "forks::exec_releases_leases_and_is_a_death";
    if let Some((_, place)) = role() {
        let segments = Kind::ALL.map(|kind| open(Path::new(&place), kind.name()));
        let mut held: Vec<_> =
            Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.producer(segment).unwrap()).collect();
        held.iter_mut().for_each(|producer| producer.push(message(PRODUCER, 0)).unwrap());
        announce();
        hear();
        let limit = LONG.as_secs().to_string();
        panic!("{}", Command::new("sleep").arg(limit).stdout(Stdio::null()).exec());
    }
    let _alone = alone();
    let place = Place::new();
    let segments = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    let mut holder = Peer::start(TEST, "holder", place.path());
    let watch = holder.watch();
    for (kind, segment) in Kind::ALL.into_iter().zip(&segments) {
        assert_eq!(segment.leases().unwrap().tenancy(pushing()), Tenancy::Held);
        assert!(kind.producer(segment).is_err());
    }
    assert_eq!(watch.state(), PeerState::Alive);
    holder.tell();
    for (kind, segment) in Kind::ALL.into_iter().zip(&segments) {
        let leases = segment.leases().unwrap();
        vacant_after(&leases, pushing());
        let mut consumer = kind.consumer(segment).unwrap();
        assert_eq!(whole(&consumer.pop().unwrap()), (PRODUCER, 0), "what it had pushed arrives");
        consumer.reclaim(&leases);
        kind.producer(segment).unwrap().push(message(HEIR, 0)).unwrap();
        assert_eq!(whole(&consumer.pop().unwrap()), (HEIR, 0));
    }
    assert_eq!(watch.state(), PeerState::Dead);
    // The process lives, as another program.
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", holder.id())).unwrap(), "sleep\n");
    assert!(holder.try_wait().unwrap().is_none());
}
