//! Roles that are held: by a stopped process, by one of another pid namespace, and against one whose pid is used again.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidewire_shm::bell::{PeerState, Place as Word};
use tidewire_shm::sync::AtomicU32;
use tidewire_shm::{LeaseError, Liveness, RoleId, Segment, Tenancy, WaitedWith};

use crate::confinement::in_a_pid_namespace;
use crate::peers::{
    LONG, Peer, Place, admit, alone, announce, open, peer, role, say, vacant_after, wait_for_state,
    wait_to_be_killed,
};
use crate::queues::{CAPACITY, Kind, Lanes, Ordered, Pop, Ring, message, whole};
use crate::values;

const PRODUCER: u64 = 7;

fn writer() -> RoleId {
    RoleId::producer(0).unwrap()
}

/// Pushes and writes for ever.
fn work_for_ever(place: &Path) -> ! {
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let mut producers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.producer(segment).unwrap()).collect();
    let segment = open(place, values::NAME);
    let mut writer = values::open(&segment).writer(&segment.leases().unwrap()).unwrap();
    let mut next = [0_u64; 3];
    announce();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        for (producer, next) in producers.iter_mut().zip(&mut next) {
            *next += u64::from(producer.push(message(PRODUCER, *next)).is_ok());
        }
        writer.write(&values::value(writer.version() + 1));
    }
    panic!("nobody killed this process");
}

#[test]
fn peer_stopped_is_never_declared_dead_and_resumes() {
    const TEST: &str = "stops::peer_stopped_is_never_declared_dead_and_resumes";
    if let Some((_, place)) = role() {
        work_for_ever(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let segments = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    let value = values::create(place.path());
    let mut consumers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.consumer(segment).unwrap()).collect();
    let mut reader = values::open(&value).reader();
    let mut worker = Peer::start(TEST, "worker", place.path());
    let watch = worker.watch();
    let mut next = [0_u64; 3];
    for _ in 0..3 {
        let (before, version) = (drain(&mut consumers, &mut next), reader.read().unwrap().1);
        let started = Instant::now();
        while has_not_moved(drain(&mut consumers, &mut next), before) || reader.version().unwrap() == version
        {
            assert!(started.elapsed() < LONG, "it does nothing");
        }
        worker.signal(Signal::STOP);
        wait_for_state(worker.pid(), 'T');
        let stopped = drain(&mut consumers, &mut next);
        let (kept, at) = reader.read().unwrap();
        values::whole(&kept, at);

        let quiet = AtomicU32::new(5);
        let waited = watch.wait_with(Word::Word(&quiet), 5, Duration::from_millis(150));
        assert_eq!((waited, watch.state()), (WaitedWith::TimedOut, PeerState::Alive));
        for (kind, segment) in Kind::ALL.into_iter().zip(&segments) {
            let leases = segment.leases().unwrap();
            assert_eq!(leases.tenancy(writer()), Tenancy::Held, "{kind:?}");
            assert!(kind.producer(segment).is_err(), "{kind:?}: its role was taken from a stopped process");
        }
        let leases = value.leases().unwrap();
        assert_eq!(leases.tenancy(writer()), Tenancy::Held);
        assert!(values::open(&value).writer(&leases).is_err());
        for (consumer, segment) in consumers.iter_mut().zip(&segments) {
            assert_ne!(consumer.reclaim(&segment.leases().unwrap()), Some(1), "a lane of a stopped process");
        }
        let now = drain(&mut consumers, &mut next);
        assert_eq!((now, reader.read().unwrap().1), (stopped, at), "a stopped process did something");

        worker.signal(Signal::CONT);
        let resumed = Instant::now();
        while has_not_moved(drain(&mut consumers, &mut next), stopped) || reader.version().unwrap() == at {
            assert!(resumed.elapsed() < LONG, "it does not go on");
        }
    }
    worker.kill();
    assert_eq!(watch.state(), PeerState::Dead);
    vacant_after(&segments[0].leases().unwrap(), writer());
}

/// Whether there is a queue in which nothing came since.
fn has_not_moved(now: [u64; 3], then: [u64; 3]) -> bool {
    now.iter().zip(then).any(|(now, then)| *now == then)
}

/// Pops all that there is; everything is whole and in order. Returns how many there were so far.
fn drain(consumers: &mut [Box<dyn Pop>], next: &mut [u64; 3]) -> [u64; 3] {
    for (consumer, next) in consumers.iter_mut().zip(next.iter_mut()) {
        while let Ok(found) = consumer.pop() {
            assert_eq!(whole(&found), (PRODUCER, *next));
            *next += 1;
        }
    }
    *next
}

/// Takes every role that there is, and waits.
fn hold(place: &Path) -> ! {
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let _held: Vec<_> = Kind::ALL
        .iter()
        .zip(&segments)
        .map(|(kind, segment)| (kind.producer(segment).unwrap(), kind.consumer(segment).unwrap()))
        .collect();
    let segment = open(place, values::NAME);
    let _writer = values::open(&segment).writer(&segment.leases().unwrap()).unwrap();
    say("held");
    wait_to_be_killed()
}

/// One of everything, with one lane.
fn create(place: &Place) -> [Segment; 4] {
    let [ring, lanes, ordered] = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    [ring, lanes, ordered, values::create(place.path())]
}

/// Every role is refused to a second one, and the refusal says by whom it is held.
fn refused([ring, lanes, ordered, value]: &[Segment; 4], holder: u32) {
    let taken = format!("found it taken by process {holder} ");
    let by_lease = |segment: &Segment| {
        let leases = segment.leases().unwrap();
        for role in [RoleId::CONSUMER, writer()] {
            assert_eq!(leases.acquire(role).unwrap_err(), LeaseError::Held { role });
        }
        leases
    };
    let leases = by_lease(ring);
    let opened = Ring::open(ring.region(), 0).unwrap();
    for error in [opened.consumer_with(&leases).unwrap_err(), opened.producer_with(&leases).unwrap_err()] {
        assert!(
            matches!(error, tidewire_ring::AttachError::RoleTaken(owner) if owner.id == holder),
            "{error}"
        );
        assert!(error.to_string().contains(&taken), "{error}");
    }
    let leases = by_lease(lanes);
    let opened = Lanes::open(lanes.region(), 0).unwrap();
    let (consumer, producer) = (opened.consumer(&leases).unwrap_err(), opened.producer(&leases).unwrap_err());
    assert!(
        matches!(consumer, tidewire_mpsc::AttachError::RoleTaken(owner) if owner.id == holder),
        "{consumer}"
    );
    assert!(consumer.to_string().contains(&taken), "{consumer}");
    assert_eq!(producer, tidewire_mpsc::AttachError::LanesExhausted { lanes: 1, corrupt: 0 });
    let leases = by_lease(ordered);
    let opened = Ordered::open(ordered.region(), 0).unwrap();
    let (consumer, producer) = (opened.consumer(&leases).unwrap_err(), opened.producer(&leases).unwrap_err());
    assert!(
        matches!(consumer, tidewire_mpsc::AttachError::RoleTaken(owner) if owner.id == holder),
        "{consumer}"
    );
    assert_eq!(producer, tidewire_mpsc::AttachError::LanesExhausted { lanes: 1, corrupt: 0 });
    let leases = value.leases().unwrap();
    let error = values::open(value).writer(&leases).unwrap_err();
    assert!(
        matches!(error, tidewire_seqlock::AttachError::RoleTaken(owner) if owner.id == holder),
        "{error}"
    );
}

/// Nobody holds anything: all can be taken and used.
fn free(segments: &[Segment; 4]) {
    for (kind, segment) in Kind::ALL.into_iter().zip(segments) {
        let leases = segment.leases().unwrap();
        vacant_after(&leases, writer());
        vacant_after(&leases, RoleId::CONSUMER);
        let mut consumer = kind.consumer(segment).unwrap();
        consumer.reclaim(&leases);
        let mut producer = kind.producer(segment).unwrap();
        for number in 0..CAPACITY as u64 {
            producer.push(message(PRODUCER, number)).unwrap();
        }
        for number in 0..CAPACITY as u64 {
            assert_eq!(whole(&consumer.pop().unwrap()), (PRODUCER, number));
        }
    }
    let leases = segments[3].leases().unwrap();
    vacant_after(&leases, writer());
    let mut writer = values::open(&segments[3]).writer(&leases).unwrap();
    writer.write(&values::value(writer.version() + 1));
}

#[test]
fn second_consumer_is_refused_and_told_who_holds_the_role() {
    const TEST: &str = "stops::second_consumer_is_refused_and_told_who_holds_the_role";
    if let Some((_, place)) = role() {
        hold(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let segments = create(&place);
    let mut holder = Peer::start(TEST, "holder", place.path());
    assert_eq!(holder.next(), "held");
    refused(&segments, holder.id());
    // Nor in the same process, by another handle.
    holder.kill();
    free(&segments);
    let [ring, ..] = &segments;
    let _first = Kind::Ring.consumer(ring).unwrap();
    let error = Ring::open(ring.region(), 0).unwrap().consumer_with(&ring.leases().unwrap()).unwrap_err();
    let me = std::process::id();
    assert!(matches!(error, tidewire_ring::AttachError::RoleTaken(owner) if owner.id == me), "{error}");
}

#[test]
fn pid_namespace_makes_no_difference() {
    const TEST: &str = "stops::pid_namespace_makes_no_difference";
    if let Some((role, place)) = role() {
        if role == "first" {
            assert_eq!(std::process::id(), 1, "the first of a pid namespace");
        }
        hold(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let segments = create(&place);
    let mut command = peer(TEST, "first", place.path());
    in_a_pid_namespace(&mut command);
    let mut holder = Peer::spawn(&mut command).unwrap_or_else(|error| {
        admit(format_args!(
            "no pid namespace could be made: {error}; the holder is an ordinary process instead"
        ));
        Peer::start(TEST, "ordinary", place.path())
    });
    assert_eq!(holder.next(), "held");
    for (kind, segment) in Kind::ALL.into_iter().zip(&segments) {
        let leases = segment.leases().unwrap();
        assert_eq!(leases.tenancy(RoleId::CONSUMER), Tenancy::Held, "{kind:?}");
        assert!(kind.consumer(segment).is_err() && kind.producer(segment).is_err(), "{kind:?}");
    }
    assert!(values::open(&segments[3]).writer(&segments[3].leases().unwrap()).is_err());
    holder.kill();
    free(&segments);
}

/// In a pid namespace of its own, so that nobody else takes numbers: a holder dies, and another process gets its number.
fn use_a_pid_again(test: &str, place: &Path) {
    let [ring, lanes, ordered] = Kind::ALL.map(|kind| open(place, kind.name()));
    let segments = [ring, lanes, ordered, open(place, values::NAME)];
    let mut holder = Peer::start(test, "holder", place);
    assert_eq!(holder.next(), "held");
    let number = holder.id();
    refused(&segments, number);
    holder.kill();
    if let Err(error) = fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()) {
        return say(format!("the number of the next process could not be chosen: {error}"));
    }
    let mut other = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(other.id(), number, "the number is used again");
    free(&segments);
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
    say("free");
}

#[test]
fn pid_used_again_makes_no_difference() {
    const TEST: &str = "stops::pid_used_again_makes_no_difference";
    if let Some((role, place)) = role() {
        match role.as_str() {
            "first" => return use_a_pid_again(TEST, Path::new(&place)),
            _ => hold(Path::new(&place)),
        }
    }
    let _alone = alone();
    let place = Place::new();
    let segments = create(&place);
    let mut command = peer(TEST, "first", place.path());
    in_a_pid_namespace(&mut command);
    let said = match Peer::spawn(&mut command) {
        Ok(mut first) => {
            let said = first.next();
            first.end();
            said
        }
        Err(error) => format!("no pid namespace could be made: {error}"),
    };
    if said != "free" {
        admit(format_args!("{said}; a zombie keeps the number instead"));
        free(&segments);
        let mut holder = Peer::start(TEST, "holder", place.path());
        assert_eq!(holder.next(), "held");
        holder.signal(Signal::KILL);
        wait_for_state(holder.pid(), 'Z');
        free(&segments);
        assert!(fs::exists(format!("/proc/{}", holder.id())).unwrap());
    }
    free(&segments);
}
