//! Leases within one process: one per role, whoever asks.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread;

use tempfile::TempDir;
use tidewire_shm::{
    ForkMark, LeaseError, Liveness, RoleId, Segment, SegmentLease, SegmentLeases, SegmentOptions, Tenancy,
};

const ROLE: RoleId = RoleId::CONSUMER;
const REFUSED: LeaseError = LeaseError::Held { role: ROLE };

fn place() -> (TempDir, SegmentOptions) {
    let private = Permissions::from_mode(0o700);
    let place = tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").unwrap();
    let options = SegmentOptions::new().directory(place.path());
    (place, options)
}

fn create(options: &SegmentOptions) -> Segment {
    Segment::create_with("leased", 4096, options, |_| Ok(())).unwrap()
}

/// A named and an anonymous segment, each with two sources of its leases.
fn each(check: impl Fn(&SegmentLeases, &SegmentLeases)) {
    let (_place, options) = place();
    let created = create(&options);
    let opened = Segment::open_with("leased", &options).unwrap();
    check(&created.leases().unwrap(), &opened.leases().unwrap());
    check(&created.leases().unwrap(), &created.leases().unwrap());
    let anonymous = Segment::anonymous(4096).unwrap();
    let again = Segment::from_fd(anonymous.try_clone_fd().unwrap()).unwrap();
    check(&anonymous.leases().unwrap(), &again.leases().unwrap());
}

#[test]
fn a_second_taker_is_refused_until_the_first_is_gone() {
    each(|here, there| {
        assert_eq!(there.tenancy(ROLE), Tenancy::Vacant);
        let lease = here.acquire(ROLE).unwrap();
        for leases in [here, there] {
            assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
            assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
        }
        drop(lease);
        for leases in [here, there] {
            assert_eq!(leases.tenancy(ROLE), Tenancy::Vacant);
            drop(leases.acquire(ROLE).unwrap());
        }
    });
}

#[test]
fn roles_are_independent_of_each_other() {
    let last = RoleId::producer(u32::MAX - 16).unwrap();
    assert_eq!(last.number(), u32::MAX);
    let producers = (0..40).map(|index| RoleId::producer(index).unwrap());
    let roles: Vec<_> =
        [RoleId::CREATOR, RoleId::CONSUMER, RoleId::CLEANER, last].into_iter().chain(producers).collect();
    each(|here, there| {
        let mut held = HashSet::new();
        let mut leases = Vec::new();
        for &role in &roles {
            leases.push(here.acquire(role).unwrap());
            held.insert(role);
            for &other in &roles {
                let expected = if held.contains(&other) { Tenancy::Held } else { Tenancy::Vacant };
                assert_eq!(there.tenancy(other), expected, "{other}");
            }
        }
        for lease in leases {
            let role = lease.role();
            drop(lease);
            held.remove(&role);
            assert_eq!(there.tenancy(role), Tenancy::Vacant);
            assert!(held.iter().all(|&other| there.tenancy(other) == Tenancy::Held));
        }
    });
}

#[test]
fn leases_of_two_segments_have_nothing_to_do_with_each_other() {
    let segments = [Segment::anonymous(4096).unwrap(), Segment::anonymous(4096).unwrap()];
    let [one, other] = segments.each_ref().map(|segment| segment.leases().unwrap());
    let _held = one.acquire(ROLE).unwrap();
    assert_eq!(other.tenancy(ROLE), Tenancy::Vacant);
    drop(other.acquire(ROLE).unwrap());
}

#[test]
fn a_lease_is_of_the_memory_and_not_of_its_name_or_a_value() {
    let (_place, options) = place();
    let first = create(&options);
    let leases = first.leases().unwrap();
    let lease = leases.acquire(ROLE).unwrap();
    first.withdraw().unwrap();
    assert_eq!(leases.acquire(ROLE).unwrap_err(), REFUSED);
    assert_eq!(first.leases().unwrap().tenancy(ROLE), Tenancy::Held);

    let second = create(&options);
    assert_eq!(second.leases().unwrap().tenancy(ROLE), Tenancy::Vacant);
    assert_eq!(leases.tenancy(ROLE), Tenancy::Held);

    // Nothing but the lease itself gives it up.
    let opened = Segment::anonymous(4096).unwrap();
    let watch = opened.leases().unwrap();
    let kept = opened.leases().unwrap().acquire(ROLE).unwrap();
    drop(opened);
    drop((first, leases));
    assert_eq!(watch.tenancy(ROLE), Tenancy::Held);
    drop((kept, lease));
    assert_eq!(watch.tenancy(ROLE), Tenancy::Vacant);
}

#[test]
fn of_racing_threads_one_gets_the_role() {
    const ROUNDS: usize = 300;
    const THREADS: usize = 4;
    let segment = Segment::anonymous(4096).unwrap();
    let barrier = Barrier::new(THREADS);
    let race = || {
        let leases = segment.leases().unwrap();
        let mut won = 0;
        for _ in 0..ROUNDS {
            barrier.wait();
            let taken = leases.acquire(ROLE);
            won += usize::from(taken.is_ok());
            assert!(taken.is_ok() || taken.as_ref().unwrap_err() == &REFUSED, "{taken:?}");
            // Nobody hands back before all have tried.
            barrier.wait();
        }
        won
    };
    let won: usize = thread::scope(|scope| {
        let racers: Vec<_> = (0..THREADS).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, ROUNDS);
}

#[test]
fn a_lease_moves_between_threads_and_ends_where_it_is_dropped() {
    fn moves<T: Send + Sync + 'static>() {}
    moves::<SegmentLease>();
    moves::<SegmentLeases>();
    let leases = Segment::anonymous(4096).unwrap().leases().unwrap();
    let lease = leases.acquire(ROLE).unwrap();
    let lease = thread::spawn(move || lease).join().unwrap();
    assert_eq!(leases.tenancy(ROLE), Tenancy::Held);
    thread::spawn(move || drop(lease)).join().unwrap();
    assert_eq!(leases.tenancy(ROLE), Tenancy::Vacant);
}

#[test]
fn what_is_said_of_a_lease_names_its_role() {
    let leases = Segment::anonymous(4096).unwrap().leases().unwrap();
    let lease = leases.acquire(ROLE).unwrap();
    assert_eq!(format!("{lease:?}"), "SegmentLease { role: RoleId(1), is_forked_child: false, .. }");
    assert!(format!("{leases:?}").contains("SegmentLeases"));
    const { assert!(SegmentLeases::PROVES) };
    assert_eq!(SegmentLeases::KIND, 1);
    let refused = leases.acquire(ROLE).unwrap_err();
    assert_eq!(refused.to_string(), "expected the lease of the consumer to be free, found it held");
}

#[test]
fn a_process_is_not_its_own_fork_child() {
    let mark = ForkMark::here().unwrap();
    let elsewhere = thread::spawn(|| ForkMark::here().unwrap()).join().unwrap();
    for mark in [mark, elsewhere] {
        assert!(!mark.is_forked_child());
        assert_eq!(mark.generation(), 1);
    }
    assert_eq!(format!("{mark:?}"), "ForkMark { generation: 1, is_forked_child: false }");
}
