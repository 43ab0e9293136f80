//! Leases of one of several structures in a segment.
#![cfg(all(feature = "std", not(loom)))]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use tidewire_shm::{KERNEL_LEASES, LeaseError, LeaseRange, Liveness, Region, RoleId, Segment, Tenancy};

fn roles() -> Vec<RoleId> {
    let producers = [0, 1, 15].map(|index| RoleId::producer(index).unwrap());
    [RoleId::CREATOR, RoleId::CONSUMER, RoleId::CLEANER].into_iter().chain(producers).collect()
}

#[test]
fn every_role_of_a_range_is_held_once() {
    let leases = Segment::anonymous(4096).unwrap().leases().unwrap();
    let range = leases.range(1000);
    let held: Vec<_> = roles().into_iter().map(|role| range.acquire(role).unwrap()).collect();
    for role in roles() {
        assert_eq!(range.acquire(role).unwrap_err(), LeaseError::Held { role });
        assert_eq!(leases.range(1000).tenancy(role), Tenancy::Held);
        // Under the numbers of the segment.
        let of_segment = RoleId::producer(1000 + role.number()).unwrap();
        assert_eq!(leases.tenancy(of_segment), Tenancy::Held);
    }
    drop(held);
    for role in roles() {
        assert_eq!(range.tenancy(role), Tenancy::Vacant);
        range.acquire(role).unwrap();
    }
}

#[test]
fn ranges_that_lie_apart_and_the_segment_know_nothing_of_each_other() {
    let leases = Segment::anonymous(4096).unwrap().leases().unwrap();
    let (first, second) = (leases.range(1000), leases.range(1032));
    let held: Vec<_> = roles().into_iter().map(|role| first.acquire(role).unwrap()).collect();
    for role in roles() {
        assert_eq!(second.tenancy(role), Tenancy::Vacant);
        assert_eq!(leases.tenancy(role), Tenancy::Vacant);
        let both = (second.acquire(role).unwrap(), leases.acquire(role).unwrap());
        assert_eq!((second.tenancy(role), leases.tenancy(role)), (Tenancy::Held, Tenancy::Held));
        drop(both);
    }
    drop(held);
}

#[test]
fn a_role_without_a_number_is_refused() {
    let leases = Segment::anonymous(4096).unwrap().leases().unwrap();
    let range = leases.range(u32::MAX - 16);
    let role = RoleId::CONSUMER;
    assert!(matches!(range.acquire(role), Err(LeaseError::System { role: RoleId::CONSUMER, .. })));
    assert_eq!(range.tenancy(role), Tenancy::Unknown);
}

#[test]
fn a_range_speaks_of_its_segment_only() {
    let (ours, theirs) = (Segment::anonymous(4096).unwrap(), Segment::anonymous(4096).unwrap());
    let leases = ours.leases().unwrap();
    let range = leases.range(7);
    assert!(range.covers(&ours.region()));
    assert!(!range.covers(&theirs.region()));
    assert!(!range.covers(&Region::heap(4096).unwrap()));
    // Structures tell the two kinds of leases apart.
    assert!(![0, KERNEL_LEASES].contains(&LeaseRange::KIND));
}
