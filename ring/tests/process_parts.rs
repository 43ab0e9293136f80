//! A ring in a segment of parts, between processes: each side's words lie in a memory that only it can write.
#![cfg(all(feature = "std", not(loom), not(miri)))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests: a wrong index or a missing value shall fail the test"
)]

mod parts_peer;

use parts_peer::{CONSUMER, CREATOR, Peer, attack, between, hear, patient, role, tell};
use tidewire_ring::{
    AttachError, CreateError, Options, PopError, PushError, RecordPopError, RecordPushError, bytes, fixed,
};
use tidewire_shm::{
    Field, Incompatible, Liveness, Part, PartedDraft, PartedSegment, Region, RegionError, RoleId, RoleStride,
    SegmentLeases, Tenancy, Trust, Untrusted,
};

const PRODUCER: RoleId = RoleId::producer(0).unwrap();
const CAPACITY: usize = 1024;
const MESSAGES: u64 = 100_000;
/// The parts of a ring, by their numbers.
const HEADER: usize = 0;
const PRODUCERS: usize = 1;
const CONSUMERS: usize = 2;
const DATA: usize = 3;

type Slots = fixed::Ring<[u64; 4], Untrusted>;
type Records = bytes::Ring<Untrusted>;

fn options() -> Options {
    Options::new().role_stride(RoleStride::Page)
}

fn word(position: u64, number: u64) -> u64 {
    (position + number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The two kinds of ring behind one face.
trait Kind: Sized {
    fn parts(options: &Options) -> Vec<Part>;
    fn create(region: Region<Untrusted>, options: &Options) -> Result<Self, CreateError>;
    fn open(region: Region<Untrusted>) -> Result<Self, AttachError>;
    /// Pushes all messages in order.
    fn push_all(&self);
    /// Pops them and compares.
    fn pop_all(&self);
    /// What the roles answer to whoever asks for them.
    fn refusals(&self) -> [Option<AttachError>; 2];
}

impl Kind for Slots {
    fn parts(options: &Options) -> Vec<Part> {
        Self::parts(CAPACITY, options).unwrap()
    }

    fn create(region: Region<Untrusted>, options: &Options) -> Result<Self, CreateError> {
        Self::create(region, CAPACITY, options)
    }

    fn open(region: Region<Untrusted>) -> Result<Self, AttachError> {
        Self::open(region, 0)
    }

    fn push_all(&self) {
        let mut producer = self.producer().unwrap();
        for position in 0..MESSAGES {
            let message = [0, 1, 2, 3].map(|number| word(position, number));
            patient(|| match producer.push(message) {
                Ok(()) => Some(()),
                Err(PushError::Full) => None,
                Err(error) => panic!("{error}"),
            });
        }
    }

    fn pop_all(&self) {
        let mut consumer = self.consumer().unwrap();
        for position in 0..MESSAGES {
            let popped = patient(|| match consumer.pop() {
                Ok(popped) => Some(popped),
                Err(PopError::Empty) => None,
                Err(error) => panic!("{error}"),
            });
            assert_eq!(popped, [0, 1, 2, 3].map(|number| word(position, number)));
        }
    }

    fn refusals(&self) -> [Option<AttachError>; 2] {
        [self.producer().err(), self.consumer().err()]
    }
}

/// A record of 0 to 64 bytes.
fn record(position: u64) -> Vec<u8> {
    (0..position % 9).flat_map(|number| word(position, number).to_le_bytes()).collect()
}

impl Kind for Records {
    fn parts(options: &Options) -> Vec<Part> {
        Self::parts(64 * CAPACITY, options).unwrap()
    }

    fn create(region: Region<Untrusted>, options: &Options) -> Result<Self, CreateError> {
        Self::create(region, 64 * CAPACITY, options)
    }

    fn open(region: Region<Untrusted>) -> Result<Self, AttachError> {
        Self::open(region, 0)
    }

    fn push_all(&self) {
        let mut producer = self.producer().unwrap();
        for position in 0..MESSAGES {
            let record = record(position);
            patient(|| match producer.push(&record) {
                Ok(()) => Some(()),
                Err(RecordPushError::Full) => None,
                Err(error) => panic!("{error}"),
            });
        }
    }

    fn pop_all(&self) {
        let mut consumer = self.consumer().unwrap();
        let mut buffer = [0; 64];
        for position in 0..MESSAGES {
            let len = patient(|| match consumer.pop_into(&mut buffer) {
                Ok(len) => Some(len),
                Err(RecordPopError::Empty) => None,
                Err(error) => panic!("{error}"),
            });
            assert_eq!(&buffer[..len], record(position));
        }
    }

    fn refusals(&self) -> [Option<AttachError>; 2] {
        [self.producer().err(), self.consumer().err()]
    }
}

fn not_writable() -> AttachError {
    AttachError::Incompatible(Incompatible::new(Field::Access, 1, 0))
}

/// The producer creates; the consumer joins, and tries to write what is the producer's.
fn producer_creates<K: Kind>(test: &str) {
    if let Some((_, socket)) = role() {
        let joined = PartedSegment::join(&socket, &K::parts(&options()), &[CONSUMER]).unwrap();
        let ring = K::open(joined.region()).unwrap();
        assert_eq!(ring.refusals(), [Some(not_writable()), None]);
        attack(&joined, HEADER);
        attack(&joined, PRODUCERS);
        ring.pop_all();
        attack(&joined, PRODUCERS);
        return;
    }
    let peer = Peer::start(test, "consumer");
    let mut draft = PartedDraft::new(&K::parts(&options()), &[CREATOR, PRODUCER]).unwrap();
    draft.gather(&peer.socket, &[CONSUMER]).unwrap();
    let created = draft.complete().unwrap();
    let ring = K::create(created.region(), &options()).unwrap();
    assert_eq!(ring.refusals(), [None, Some(not_writable())]);
    created.send_to(&peer.socket, &[CONSUMER]).unwrap();
    attack(&created, CONSUMERS);
    ring.push_all();
    attack(&created, CONSUMERS);
    peer.ends();
}

/// The consumer creates; the producer joins, and tries to write what is the consumer's.
fn consumer_creates<K: Kind>(test: &str) {
    if let Some((_, socket)) = role() {
        let joined = PartedSegment::join(&socket, &K::parts(&options()), &[PRODUCER]).unwrap();
        let ring = K::open(joined.region()).unwrap();
        assert_eq!(ring.refusals(), [None, Some(not_writable())]);
        attack(&joined, HEADER);
        attack(&joined, CONSUMERS);
        return ring.push_all();
    }
    let peer = Peer::start(test, "producer");
    let mut draft = PartedDraft::new(&K::parts(&options()), &[CREATOR, CONSUMER]).unwrap();
    draft.gather(&peer.socket, &[PRODUCER]).unwrap();
    let created = draft.complete().unwrap();
    let ring = K::create(created.region(), &options()).unwrap();
    assert_eq!(ring.refusals(), [Some(not_writable()), None]);
    created.send_to(&peer.socket, &[PRODUCER]).unwrap();
    attack(&created, PRODUCERS);
    ring.pop_all();
    peer.ends();
}

#[test]
fn slots_of_a_producer_that_creates_cross_and_nobody_else_writes_its_words() {
    producer_creates::<Slots>("slots_of_a_producer_that_creates_cross_and_nobody_else_writes_its_words");
}

#[test]
fn slots_for_a_consumer_that_creates_cross_and_nobody_else_writes_its_words() {
    consumer_creates::<Slots>("slots_for_a_consumer_that_creates_cross_and_nobody_else_writes_its_words");
}

#[test]
fn records_of_a_producer_that_creates_cross_and_nobody_else_writes_its_words() {
    producer_creates::<Records>("records_of_a_producer_that_creates_cross_and_nobody_else_writes_its_words");
}

#[test]
fn records_for_a_consumer_that_creates_cross_and_nobody_else_writes_its_words() {
    consumer_creates::<Records>("records_for_a_consumer_that_creates_cross_and_nobody_else_writes_its_words");
}

/// The owner words lie with the role: with its lease a role is the holder's until it dies. Its part died with it.
#[test]
fn the_role_of_a_dead_holder_goes_to_nobody_who_cannot_write_its_part() {
    let options = options().liveness::<SegmentLeases>();
    let parts = <Slots as Kind>::parts(&options);
    if let Some((_, socket)) = role() {
        let joined = PartedSegment::join(&socket, &parts, &[CONSUMER]).unwrap();
        let ring = <Slots as Kind>::open(joined.region()).unwrap();
        let mut consumer = ring.consumer_with(&joined.leases().unwrap()).unwrap();
        assert_eq!(patient(|| consumer.pop().ok()), [1; 4]);
        tell(&socket);
        return hear(&socket);
    }
    let peer = Peer::start("the_role_of_a_dead_holder_goes_to_nobody_who_cannot_write_its_part", "consumer");
    let mut draft = PartedDraft::new(&parts, &[CREATOR, PRODUCER]).unwrap();
    draft.gather(&peer.socket, &[CONSUMER]).unwrap();
    let created = draft.complete().unwrap();
    let ring = <Slots as Kind>::create(created.region(), &options).unwrap();
    assert!(matches!(ring.producer(), Err(AttachError::LeaseRequired { .. })));
    let leases = created.leases().unwrap();
    let mut producer = ring.producer_with(&leases).unwrap();
    producer.push([1; 4]).unwrap();
    created.send_to(&peer.socket, &[CONSUMER]).unwrap();
    hear(&peer.socket);
    assert_eq!((leases.tenancy(CONSUMER), leases.tenancy(PRODUCER)), (Tenancy::Held, Tenancy::Held));
    assert!(ring.consumer_owner().is_some());
    peer.kill();
    assert_eq!(leases.tenancy(CONSUMER), Tenancy::Vacant);
    assert_eq!(ring.consumer_with(&leases).unwrap_err(), not_writable());
    // What is the survivor's goes on, and to its next handle.
    producer.push([2; 4]).unwrap();
    drop(producer);
    assert_eq!(ring.producer_owner(), None);
    ring.producer_with(&leases).unwrap().push([3; 4]).unwrap();
}

fn store<L: Trust>(region: &Region<L>, offset: usize, value: u64) {
    // SAFETY: a control word, in a part of this process's; the region outlives it.
    unsafe { region.atomic_u64(offset) }.store(value, tidewire_shm::sync::Ordering::Relaxed);
}

/// Whoever creates cannot clear a peer's words: they must be as new.
#[test]
fn words_of_a_peer_that_are_not_as_new_are_no_new_ring() {
    let parts = <Slots as Kind>::parts(&options());
    let (created, joined) = between(&parts, &[CREATOR, PRODUCER], &[CONSUMER], |created| {
        <Slots as Kind>::create(created.region(), &options()).unwrap();
    });
    // Nothing happened: once more.
    let ring = <Slots as Kind>::create(created.region(), &options()).unwrap();
    for (offset, value) in [(8448, 64), (8576, 1 << 32), (8584, 1), (8592, 1)] {
        store(&joined.region(), offset, value);
        let refused = <Slots as Kind>::create(created.region(), &options()).unwrap_err();
        assert_eq!(refused, CreateError::Region(RegionError::ReadOnlyPart { offset, bytes: 8 }));
        store(&joined.region(), offset, 0);
    }
    // The old ring is still there after each refusal.
    ring.producer().unwrap().push([7; 4]).unwrap();
    assert_eq!(<Slots as Kind>::open(joined.region()).unwrap().consumer().unwrap().pop(), Ok([7; 4]));
    // A peer that lies later is found out as ever.
    store(&joined.region(), 8448, 64);
    let stats = ring.stats();
    assert_eq!((stats.sent, stats.received, stats.depth), (1, 64, 0));
    assert!(matches!(ring.producer(), Err(AttachError::Corrupt(_))));
}

#[test]
fn whoever_cannot_write_its_side_gets_no_role() {
    let page = RoleStride::Page.bytes();
    let parts = <Slots as Kind>::parts(&options());
    let whole = PartedSegment::create(&parts, &[CREATOR, PRODUCER, CONSUMER]).unwrap();
    <Slots as Kind>::create(whole.region(), &options()).unwrap().producer().unwrap().push([5; 4]).unwrap();
    let refused = [Some(not_writable()), Some(not_writable())];
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    whole.send(&here).unwrap();
    let guest = PartedSegment::join(&there, &parts, &[]).unwrap();
    assert_eq!(<Slots as Kind>::open(guest.region()).unwrap().refusals(), refused);
    let part = whole.region().read_only_but(Some(page..2 * page));
    for (region, expected) in
        [(guest.region(), RegionError::ReadOnly), (part, RegionError::ReadOnlyPart { offset: 0, bytes: 128 })]
    {
        let error = <Slots as Kind>::create(region, &options()).unwrap_err();
        assert_eq!(error, CreateError::Region(expected));
    }
    // An observer sees what there is.
    whole.send(&here).unwrap();
    let observer = PartedSegment::observe(&there, &parts).unwrap();
    let seen = <Slots as Kind>::open(observer.region()).unwrap();
    let stats = seen.stats();
    assert_eq!((stats.sent, stats.received, stats.depth), (1, 0, 1));
    // What is in it nobody gets but the two.
    assert!(observer.part_fd(CONSUMERS).is_some() && observer.part_fd(DATA).is_none());
    assert_eq!((seen.refusals(), seen.capacity(), seen.producer_owner()), (refused, CAPACITY, None));
    let error = <Slots as Kind>::create(observer.region(), &options()).unwrap_err();
    assert_eq!(error, CreateError::Region(RegionError::ReadOnly));
    // The data is a part of what a role writes.
    let end = whole.region().len();
    let runs = [
        (0..end, 0..0, true),
        (page..end, 0..0, true),
        (0..3 * page, 0..0, false),
        (0..page + 128, page + 256..end, false),
        (0..page, page + 128..end, false),
    ];
    for (first, second, may) in runs {
        let region = whole.region().read_only_but([first.clone(), second]);
        let [producer, _] = <Slots as Kind>::open(region).unwrap().refusals();
        assert_eq!(producer.is_none(), may, "{first:?}");
    }
}

#[test]
fn with_line_stride_there_is_one_part() {
    let options = Options::new();
    let parts = <Records as Kind>::parts(&options);
    assert_eq!(parts.len(), 1);
    let (created, joined) = between(&parts, &[CREATOR], &[CONSUMER], |created| {
        <Records as Kind>::create(created.region(), &options).unwrap();
    });
    let (mut producer, _consumer) = <Records as Kind>::open(created.region()).unwrap().split().unwrap();
    producer.push(b"one").unwrap();
    assert!(matches!(
        <Records as Kind>::open(joined.region()).unwrap().consumer(),
        Err(AttachError::RoleTaken(_))
    ));
    // With line stride in parts for page stride, all words lie in the first part: only the creator has roles.
    let parts = <Slots as Kind>::parts(&self::options());
    let (created, joined) = between(&parts, &[CREATOR, PRODUCER], &[CONSUMER], |created| {
        <Slots as Kind>::create(created.region(), &options).unwrap();
    });
    assert_eq!(
        <Slots as Kind>::open(joined.region()).unwrap().refusals(),
        [Some(not_writable()), Some(not_writable())]
    );
    drop(created);
}
