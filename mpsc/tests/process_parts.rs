//! A queue of lanes in a segment of parts, between processes: what a role publishes lies in a memory that only it can
//! write.
#![cfg(all(feature = "std", not(loom), not(miri)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

#[path = "../../ring/tests/hostile_memory/mod.rs"]
mod hostile_memory;
mod lanes;
#[path = "../../ring/tests/parts_peer/mod.rs"]
mod parts_peer;

use lanes::{Empty, Kind, Records, Slots};
use parts_peer::{CONSUMER, CREATOR, Peer, attack, between, hear, offset_of, patient, role, tell};
use tidewire_mpsc::{AttachError, CreateError, LaneState, Options};
use tidewire_shm::sync::Ordering;
use tidewire_shm::{
    Field, Incompatible, Liveness, Part, PartedDraft, PartedSegment, Region, RegionError, RoleId, RoleStride,
    SegmentLeases, Tenancy, Unleased, Untrusted,
};

const PRODUCERS: [RoleId; 2] = [RoleId::producer(0).unwrap(), RoleId::producer(1).unwrap()];
const CAPACITY: usize = 4096;
const MESSAGES: u64 = 100_000;
/// The parts of a queue, by their numbers.
const HEADER: usize = 0;
const CONSUMERS: usize = 1;
const REGISTRY: usize = 2;

fn tail(lane: usize) -> usize {
    3 + 3 * lane
}

fn head(lane: usize) -> usize {
    4 + 3 * lane
}

fn data(lane: usize) -> usize {
    5 + 3 * lane
}

fn options() -> Options {
    Options::new().lanes(2).role_stride(RoleStride::Page)
}

/// What a kind says about its parts.
trait Parted: Kind {
    fn parts(capacity: usize, options: &Options) -> Result<Vec<Part>, CreateError>;
    fn try_create(region: Region<Untrusted>, capacity: usize, options: &Options) -> Result<(), CreateError>;
}

impl Parted for Slots {
    fn parts(capacity: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        Self::Queue::parts(capacity, options)
    }

    fn try_create(region: Region<Untrusted>, capacity: usize, options: &Options) -> Result<(), CreateError> {
        Self::Queue::create(region, capacity, options).map(drop)
    }
}

impl Parted for Records {
    fn parts(capacity: usize, options: &Options) -> Result<Vec<Part>, CreateError> {
        Self::Queue::parts(capacity, options)
    }

    fn try_create(region: Region<Untrusted>, capacity: usize, options: &Options) -> Result<(), CreateError> {
        Self::Queue::create(region, capacity, options).map(drop)
    }
}

fn not_writable<T>(answer: Result<T, AttachError>) {
    let expected = AttachError::Incompatible(Incompatible::new(Field::Access, 1, 0));
    assert_eq!(answer.map(|_| ()).unwrap_err(), expected);
}

/// Message `i` of a producer.
fn number(producer: u64, i: u64) -> u64 {
    producer << 32 | i
}

fn push_all<K: Kind>(producer: &mut K::Producer, who: u64) {
    for i in 0..MESSAGES {
        patient(|| K::push(producer, number(who, i)).then_some(()));
    }
}

/// All messages of all producers, in order for each.
fn pop_all<K: Kind>(consumer: &mut K::Consumer) {
    let mut next = [0; PRODUCERS.len()];
    while next != [MESSAGES; PRODUCERS.len()] {
        let popped = patient(|| K::pop(consumer).ok());
        let who = usize::try_from(popped >> 32).unwrap();
        assert_eq!(popped, number(who as u64, next[who]));
        next[who] += 1;
    }
    assert!(K::take_corrupt(consumer).is_none());
}

/// A producer that joins, sends all its messages, and tries to write what is not its own before and after.
fn joins<K: Parted>(who: usize, socket: &std::os::unix::net::UnixStream) {
    let parts = K::parts(CAPACITY, &options()).unwrap();
    let joined = PartedSegment::join(socket, &parts, &[PRODUCERS[who]]).unwrap();
    let queue = K::open(joined.region()).unwrap();
    not_writable(K::consumer(&queue, &Unleased));
    let mut producer = K::producer(&queue, &Unleased).unwrap();
    assert_eq!(K::lane(&producer) as usize, who);
    // The other one's messages are not even to be seen.
    let others = offset_of(&joined, data(1 - who));
    assert!(joined.part_fd(data(1 - who)).is_none() && !joined.region().is_writable_at(others, 8));
    assert!(joined.part_fd(data(who)).is_some());
    // There is no other lane for it, free or not.
    assert!(K::producer(&queue, &Unleased).is_err());
    let foreign = [HEADER, CONSUMERS, tail(1 - who), head(0), head(1)];
    for part in foreign {
        attack(&joined, part);
    }
    push_all::<K>(&mut producer, who as u64);
    for part in foreign {
        attack(&joined, part);
    }
    drop(producer);
    // It can have its lane again, and only it can.
    assert_eq!(K::lane(&K::producer(&queue, &Unleased).unwrap()) as usize, who);
    tell(socket);
}

/// The consumer creates; each producer joins in a process of its own.
fn consumer_creates<K: Parted>(test: &str) {
    if let Some((who, socket)) = role() {
        return joins::<K>(who.parse().unwrap(), &socket);
    }
    let peers = ["0", "1"].map(|who| Peer::start(test, who));
    let mut draft = PartedDraft::new(&K::parts(CAPACITY, &options()).unwrap(), &[CREATOR, CONSUMER]).unwrap();
    for (peer, role) in peers.iter().zip(PRODUCERS) {
        draft.gather(&peer.socket, &[role]).unwrap();
    }
    let created = draft.complete().unwrap();
    let queue = K::create(created.region(), CAPACITY, &options());
    not_writable(K::producer(&queue, &Unleased));
    let mut consumer = K::consumer(&queue, &Unleased).unwrap();
    for (peer, role) in peers.iter().zip(PRODUCERS) {
        created.send_to(&peer.socket, &[role]).unwrap();
    }
    attack(&created, tail(0));
    attack(&created, tail(1));
    pop_all::<K>(&mut consumer);
    attack(&created, tail(0));
    peers.iter().for_each(|peer| hear(&peer.socket));
    peers.into_iter().for_each(Peer::ends);
    assert_eq!(K::pop(&mut consumer), Err(Empty));
    let states: Vec<_> = K::stats(&queue).iter().map(|lane| (lane.state, lane.owners)).collect();
    assert_eq!(states, [(LaneState::Free, 2); 2]);
}

#[test]
fn slots_of_two_producers_cross_and_nobody_writes_anothers_words() {
    consumer_creates::<Slots>("slots_of_two_producers_cross_and_nobody_writes_anothers_words");
}

#[test]
fn records_of_two_producers_cross_and_nobody_writes_anothers_words() {
    consumer_creates::<Records>("records_of_two_producers_cross_and_nobody_writes_anothers_words");
}

/// The other way round: a producer creates, the consumer joins and is the one who tries.
fn producer_creates<K: Parted>(test: &str) {
    let parts = K::parts(CAPACITY, &options()).unwrap();
    if let Some((_, socket)) = role() {
        let joined = PartedSegment::join(&socket, &parts, &[CONSUMER]).unwrap();
        let queue = K::open(joined.region()).unwrap();
        not_writable(K::producer(&queue, &Unleased));
        let mut consumer = K::consumer(&queue, &Unleased).unwrap();
        for part in [HEADER, tail(0), tail(1)] {
            attack(&joined, part);
        }
        return pop_all::<K>(&mut consumer);
    }
    let peer = Peer::start(test, "consumer");
    let mut draft = PartedDraft::new(&parts, &[CREATOR, PRODUCERS[0], PRODUCERS[1]]).unwrap();
    draft.gather(&peer.socket, &[CONSUMER]).unwrap();
    let created = draft.complete().unwrap();
    let queue = K::create(created.region(), CAPACITY, &options());
    not_writable(K::consumer(&queue, &Unleased));
    let mut first = K::producer(&queue, &Unleased).unwrap();
    let mut second = K::producer(&queue, &Unleased).unwrap();
    created.send_to(&peer.socket, &[CONSUMER]).unwrap();
    for part in [CONSUMERS, head(0), head(1)] {
        attack(&created, part);
    }
    // As much of the second's as there is room for, in turn with the first's.
    for i in 0..MESSAGES {
        patient(|| K::push(&mut first, number(0, i)).then_some(()));
        patient(|| K::push(&mut second, number(1, i)).then_some(()));
    }
    peer.ends();
}

#[test]
fn slots_for_a_consumer_that_joins_cross_and_it_writes_no_producers_words() {
    producer_creates::<Slots>("slots_for_a_consumer_that_joins_cross_and_it_writes_no_producers_words");
}

#[test]
fn records_for_a_consumer_that_joins_cross_and_it_writes_no_producers_words() {
    producer_creates::<Records>("records_for_a_consumer_that_joins_cross_and_it_writes_no_producers_words");
}

/// What a dead producer published is delivered; its lane, freed, is nobody's who cannot write its part.
#[test]
fn the_lane_of_a_dead_producer_is_drained_and_stays_unused() {
    let options = options().liveness::<SegmentLeases>();
    let parts = Slots::parts(CAPACITY, &options).unwrap();
    if let Some((_, socket)) = role() {
        let joined = PartedSegment::join(&socket, &parts, &PRODUCERS[1..]).unwrap();
        let leases = joined.leases().unwrap();
        let mut producer = Slots::producer(&Slots::open(joined.region()).unwrap(), &leases).unwrap();
        assert!(Slots::push(&mut producer, 7));
        tell(&socket);
        return hear(&socket);
    }
    let peer = Peer::start("the_lane_of_a_dead_producer_is_drained_and_stays_unused", "producer");
    let mut draft = PartedDraft::new(&parts, &[CREATOR, CONSUMER, PRODUCERS[0]]).unwrap();
    draft.gather(&peer.socket, &PRODUCERS[1..]).unwrap();
    let created = draft.complete().unwrap();
    let queue = Slots::create(created.region(), CAPACITY, &options);
    let leases = created.leases().unwrap();
    created.send_to(&peer.socket, &PRODUCERS[1..]).unwrap();
    hear(&peer.socket);
    assert_eq!(leases.tenancy(PRODUCERS[1]), Tenancy::Held);
    let mut own = Slots::producer(&queue, &leases).unwrap();
    peer.kill();
    assert_eq!(leases.tenancy(PRODUCERS[1]), Tenancy::Vacant);
    assert_eq!(Slots::reclaim(&queue, &leases).unwrap(), 1);
    let exhausted = AttachError::LanesExhausted { lanes: 2, corrupt: 0 };
    assert_eq!(Slots::producer(&queue, &leases).map(|_| ()).unwrap_err(), exhausted);
    assert!(Slots::push(&mut own, 8));
    let mut consumer = Slots::consumer(&queue, &leases).unwrap();
    let mut popped: Vec<u64> = std::iter::from_fn(|| Slots::pop(&mut consumer).ok()).collect();
    popped.sort_unstable();
    assert_eq!(popped, [7, 8]);
    // A consumer that went on is followed by its own process, and so is a producer.
    drop((consumer, own));
    assert_eq!(Slots::lane(&Slots::producer(&queue, &leases).unwrap()), 0);
    Slots::consumer(&queue, &leases).unwrap();
}

fn store(region: &Region<Untrusted>, offset: usize, value: u64) {
    // SAFETY: a control word, in a part of this process's; the region outlives it.
    unsafe { region.atomic_u64(offset) }.store(value, Ordering::Relaxed);
}

/// Whoever creates cannot clear a peer's words: they must be as new.
#[test]
fn words_of_a_peer_that_are_not_as_new_are_no_new_queue() {
    let parts = Slots::parts(CAPACITY, &options()).unwrap();
    let create = |segment: &PartedSegment| Slots::try_create(segment.region(), CAPACITY, &options());
    let (created, joined) = between(&parts, &[CREATOR, CONSUMER, PRODUCERS[0]], &PRODUCERS[1..], |created| {
        create(created).unwrap();
    });
    // The words that this process can write are cleared: of the last queue too.
    let queue = Slots::open(created.region()).unwrap();
    assert!(Slots::push(&mut Slots::producer(&queue, &Unleased).unwrap(), 1));
    let mut consumer = Slots::consumer(&queue, &Unleased).unwrap();
    assert_eq!((Slots::pop(&mut consumer), Slots::pop(&mut consumer)), (Ok(1), Err(Empty)));
    drop(consumer);
    create(&created).unwrap();
    let queue = Slots::open(created.region()).unwrap();
    assert_eq!(Slots::position(&Slots::producer(&queue, &Unleased).unwrap()), 0);
    // The tail of lane 1 is the peer's.
    let offset = offset_of(&created, tail(1)) + 256;
    store(&joined.region(), offset, 3);
    let refused = create(&created).unwrap_err();
    let error = RegionError::ReadOnlyPart { offset, bytes: 8 };
    assert_eq!(refused, CreateError::Ring(tidewire_ring::CreateError::Region(error)));
    // What a process cannot write of header and registry, it does not create.
    let guest = Slots::try_create(joined.region(), CAPACITY, &options()).unwrap_err();
    let error = RegionError::ReadOnlyPart { offset: 0, bytes: 256 };
    assert_eq!(guest, CreateError::Ring(tidewire_ring::CreateError::Region(error)));
    store(&joined.region(), offset, 0);
    create(&created).unwrap();
}

#[test]
fn an_observer_sees_the_lanes_and_has_no_role() {
    let parts = Slots::parts(CAPACITY, &options()).unwrap();
    let created = PartedSegment::create(&parts, &[CREATOR, CONSUMER, PRODUCERS[0], PRODUCERS[1]]).unwrap();
    let queue = Slots::create(created.region(), CAPACITY, &options());
    let mut producer = Slots::producer(&queue, &Unleased).unwrap();
    for i in 0..5 {
        assert!(Slots::push(&mut producer, i));
    }
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    created.send(&here).unwrap();
    let observed = PartedSegment::observe(&there, &parts).unwrap();
    let seen = Slots::open(observed.region()).unwrap();
    let depths: Vec<_> = Slots::stats(&seen).iter().map(|lane| (lane.state, lane.depth)).collect();
    assert_eq!(depths, [(LaneState::Owned, 5), (LaneState::Free, 0)]);
    for region in [observed.region(), created.region().read_only()] {
        let seen = Slots::open(region).unwrap();
        not_writable(Slots::producer(&seen, &Unleased));
        not_writable(Slots::consumer(&seen, &Unleased));
        not_writable(Slots::reclaim(&seen, &Unleased));
    }
    for part in [HEADER, CONSUMERS, REGISTRY, tail(0), head(1)] {
        let offset = offset_of(&observed, part);
        let refused = observed.region().require_writable_at(offset, 8);
        assert_eq!(refused, Err(RegionError::ReadOnly));
    }
}

#[test]
fn as_many_lanes_as_there_are_parts() {
    let options = |lanes| Options::new().lanes(lanes).role_stride(RoleStride::Page);
    let parts = Slots::parts(512, &options(20)).unwrap();
    assert_eq!(parts.len(), 63);
    let bytes: usize = parts.iter().map(Part::bytes).sum();
    assert_eq!(bytes, Slots::bytes(512, &options(20)).unwrap());
    let roles: Vec<RoleId> = (0..20).filter_map(RoleId::producer).chain([CREATOR, CONSUMER]).collect();
    let segment = PartedSegment::create(&parts, &roles).unwrap();
    Slots::create(segment.region(), 512, &options(20));
    let too_many = Slots::parts(512, &options(21)).unwrap();
    assert!(PartedSegment::create(&too_many, &roles).is_err());
    // With line stride there is nothing to be kept apart.
    assert_eq!(
        Records::parts(512, &Options::new()).unwrap(),
        [Part::shared(Records::bytes(512, &Options::new()).unwrap().next_multiple_of(4096))]
    );
}
