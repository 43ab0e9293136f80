//! Memory that is full, and memory that goes away.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use rustix::fs::ftruncate;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidewire_shm::{Segment, SegmentError};

use crate::confinement::with_little_room;
use crate::peers::{Peer, Place, admit, alone, at, hear, open, peer, role, say};
use crate::queues::{CAPACITY, Kind, LANES, message, whole};
use crate::values;

const ROOM: usize = 1 << 20;
const HANDED: &str = "TIDEWIRE_PROMISE_SEGMENT";

/// Uses every byte of a queue, more than once.
fn use_all_of(kind: Kind, segment: &Segment) {
    let (mut producer, mut consumer) = (kind.producer(segment).unwrap(), kind.consumer(segment).unwrap());
    for lap in 0..3 {
        for number in 0..CAPACITY as u64 {
            producer.push(message(lap, number)).unwrap();
        }
        assert!(producer.push(message(lap, 0)).is_err(), "it is full");
        for number in 0..CAPACITY as u64 {
            assert_eq!(whole(&consumer.pop().unwrap()), (lap, number));
        }
        // What was read is released.
        assert!(consumer.pop().is_err());
    }
}

fn use_all_of_value(segment: &Segment) {
    let cell = values::open(segment);
    let mut writer = cell.writer(&segment.leases().unwrap()).unwrap();
    for _ in 0..3 * u64::from(cell.slots()) {
        let version = writer.write(&values::value(writer.version() + 1));
        let (found, at) = cell.reader().read().unwrap();
        values::whole(&found, version);
        assert_eq!(at, version);
    }
}

/// In a file system that has little room: creates what fits, lets somebody take the rest, and uses what there is.
fn fill(place: &Path) {
    let segments = Kind::ALL.map(|kind| kind.create(place, LANES));
    let value = values::create(place);
    let too_much = Segment::create_with("large", ROOM, &at(place), |_| panic!("must not run")).unwrap_err();
    assert!(
        matches!(too_much, SegmentError::NoSpace { needed_bytes, .. } if needed_bytes == ROOM as u64),
        "{too_much:?}"
    );
    let mut rest = File::create(place.join("rest")).unwrap();
    while rest.write(&[1; 4096]).is_ok() {}
    let none = Segment::create_with("none", 4096, &at(place), |_| panic!("must not run")).unwrap_err();
    assert!(matches!(none, SegmentError::NoSpace { .. }), "{none:?}");
    let neither = Segment::open_or_create_with("none", 4096, &at(place), |_| panic!("must not run"));
    assert!(matches!(neither, Err(SegmentError::NoSpace { .. })), "{neither:?}");
    // Nothing is left of what was refused.
    assert_eq!(fs::read_dir(place).unwrap().count(), 5);
    Kind::ALL.into_iter().zip(&segments).for_each(|(kind, segment)| use_all_of(kind, segment));
    use_all_of_value(&value);
    say("full, and used");
}

/// Where no file system can be mounted: what is larger than all memory.
fn ask_for_too_much(place: &Path) {
    let segments = Kind::ALL.map(|kind| kind.create(place, LANES));
    let error = Segment::create_with("large", 1 << 46, &at(place), |_| panic!("must not run")).unwrap_err();
    assert!(
        matches!(error, SegmentError::NoSpace { needed_bytes, .. } if needed_bytes == 1 << 46),
        "{error:?}"
    );
    assert_eq!(fs::read_dir(place).unwrap().count(), 3);
    Kind::ALL.into_iter().zip(&segments).for_each(|(kind, segment)| use_all_of(kind, segment));
    say("full, and used");
}

/// Under a limit on files that is reached: creation says so; without the look at the limit it would end in a signal.
fn create_beyond_a_limit(place: &Path) {
    let segments = Kind::ALL.map(|kind| kind.create(place, LANES));
    let limit = Rlimit { current: Some(4096), maximum: getrlimit(Resource::Fsize).maximum };
    setrlimit(Resource::Fsize, limit).unwrap();
    let error = Segment::create_with("large", 8192, &at(place), |_| panic!("must not run")).unwrap_err();
    let SegmentError::Limit { limit: "RLIMIT_FSIZE", needed_bytes: 8192, found_bytes: 4096 } = error else {
        panic!("{error:?}");
    };
    Kind::ALL.into_iter().zip(&segments).for_each(|(kind, segment)| use_all_of(kind, segment));
    say("limited, and used");
}

#[test]
fn memory_full_is_said_at_creation_and_never_later() {
    const TEST: &str = "room::memory_full_is_said_at_creation_and_never_later";
    if let Some((role, place)) = role() {
        let place = Path::new(&place);
        return match role.as_str() {
            "full" => fill(place),
            "limited" => create_beyond_a_limit(place),
            _ => ask_for_too_much(place),
        };
    }
    let _alone = alone();
    let place = Place::new();
    let mut command = peer(TEST, "full", place.path());
    with_little_room(&mut command, place.path(), ROOM);
    let mut child = Peer::spawn(&mut command).unwrap_or_else(|error| {
        admit(format_args!(
            "no small file system could be mounted: {error}; more than there is is asked for instead"
        ));
        Peer::start(TEST, "too much", place.path())
    });
    assert_eq!(child.next(), "full, and used");
    child.end();
    let place = Place::new();
    let mut limited = Peer::start(TEST, "limited", place.path());
    assert_eq!(limited.next(), "limited, and used");
    limited.end();
    assert_eq!(place.entries(), ["lanes", "ordered", "ring"]);
}

#[test]
fn file_truncated_is_a_bus_error_and_sealed_memory_cannot_be() {
    const TEST: &str = "room::file_truncated_is_a_bus_error_and_sealed_memory_cannot_be";
    if let Some((role, place)) = role() {
        if role == "heir" {
            // The nearest that a peer can come to it.
            let memory = Segment::inherited(HANDED).unwrap();
            assert_eq!(ftruncate(&memory, 0), Err(Errno::PERM));
            let again = File::options().write(true).open(format!("/proc/self/fd/{}", {
                use std::os::fd::{AsFd, AsRawFd};
                memory.as_fd().as_raw_fd()
            }));
            assert_eq!(again.unwrap().set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
            return say("refused");
        }
        let segment = open(Path::new(&place), Kind::Ring.name());
        let mut producer = Kind::Ring.producer(&segment).unwrap();
        producer.push(message(0, 0)).unwrap();
        say("pushed");
        hear();
        // The page of this slot is there no longer.
        let pushed = producer.push(message(0, 1));
        panic!("memory that there is not was written: {pushed:?}");
    }
    let _alone = alone();
    let place = Place::new();
    let _segment = Kind::Ring.create(place.path(), 1);
    let mut victim = Peer::start(TEST, "victim", place.path());
    assert_eq!(victim.next(), "pushed");
    File::options().write(true).open(place.path().join(Kind::Ring.name())).unwrap().set_len(0).unwrap();
    victim.tell();
    // As documented: named segments trust the processes of their user this far.
    assert_eq!(victim.wait().unwrap().signal(), Some(libc::SIGBUS));

    let memory = Segment::anonymous(Kind::Ring.bytes(1)).unwrap();
    Kind::Ring.lay_out(memory.region(), 1).unwrap();
    let mut command = peer(TEST, "heir", place.path());
    memory.inherit(&mut command, HANDED).unwrap();
    let mut heir = Peer::spawn(&mut command).unwrap();
    assert_eq!(heir.next(), "refused");
    heir.end();
    use_all_of(Kind::Ring, &memory);
}
