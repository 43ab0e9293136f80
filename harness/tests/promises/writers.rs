//! The other forms of a latest value: writers that are killed with the lock, and in the middle of the one slot.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tidewire_seqlock::{WriteError, classic, shared};
use tidewire_shm::{Segment, Untrusted};

use crate::peers::{LONG, Peer, Place, alone, at, open, role, say};
use crate::queues::text;
use crate::values::{self, Value, options};

type Shared = shared::Cell<Value, Untrusted>;
type Classic = classic::Cell<Value, Untrusted>;

const KILLS: u64 = 12;
const SHARED: &str = "shared";
const CLASSIC: &str = "classic";

/// The value of the next version.
fn count_up(value: &mut Value) {
    let next = value[0] + 1;
    value.fill(next);
}

fn update_for_ever(place: &Path) -> ! {
    let segment = open(place, SHARED);
    let leases = segment.leases().unwrap();
    let mut writer = Shared::open(segment.region(), 0).unwrap().writer(&leases).unwrap();
    let started = Instant::now();
    writer.update(&leases, count_up).unwrap();
    say("writing");
    while started.elapsed() < 4 * LONG {
        match writer.update(&leases, count_up) {
            Ok(_) | Err(WriteError::Busy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nobody killed this process");
}

#[test]
fn writer_killed_among_many_loses_its_lock_and_the_others_go_on() {
    const TEST: &str = "writers::writer_killed_among_many_loses_its_lock_and_the_others_go_on";
    if let Some((_, place)) = role() {
        update_for_ever(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let options = options().writers(2);
    let init = |region| Ok(Shared::create(region, &values::value(0), &options).map(drop).map_err(text)?);
    let bytes = Shared::bytes(&options).unwrap();
    let segment = Segment::create_with(SHARED, bytes, &at(place.path()), init).unwrap();
    let leases = segment.leases().unwrap();
    let cell = Shared::open(segment.region(), 0).unwrap();
    let (mut writer, mut reader) = (cell.writer(&leases).unwrap(), cell.reader());
    let mut with_the_lock = 0;
    for kill in 0..KILLS {
        let mut victim = Peer::start(TEST, "writer", place.path());
        assert_eq!(victim.next(), "writing");
        thread::sleep(Duration::from_micros(1500 + 137 * kill));
        victim.kill();
        let (value, before) = reader.read().unwrap();
        values::whole(&value, before);
        with_the_lock += u64::from(cell.lock_holder().is_some_and(|holder| holder != writer.index()));
        let version = writer.update(&leases, count_up).unwrap();
        assert_eq!(version, before + 1, "nothing but the unfinished value is lost");
        values::whole(&reader.read().unwrap().0, version);
    }
    println!("killed with the lock: {with_the_lock} of {KILLS}");
    assert!(with_the_lock > 0, "no writer was killed with the lock");
}

fn write_for_ever(place: &Path) -> ! {
    let segment = open(place, CLASSIC);
    let leases = segment.leases().unwrap();
    let mut writer = Classic::open(segment.region(), 0).unwrap().writer(&leases).unwrap();
    let started = Instant::now();
    writer.write(&values::value(writer.version() + 1));
    say("writing");
    while started.elapsed() < 4 * LONG {
        writer.write(&values::value(writer.version() + 1));
    }
    panic!("nobody killed this process");
}

#[test]
fn writer_killed_in_the_classic_form_is_said_and_the_next_one_mends_it() {
    const TEST: &str = "writers::writer_killed_in_the_classic_form_is_said_and_the_next_one_mends_it";
    if let Some((_, place)) = role() {
        write_for_ever(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let init = |region| Ok(Classic::create(region, &values::value(0), &options()).map(drop).map_err(text)?);
    let bytes = Classic::bytes(&options()).unwrap();
    let segment = Segment::create_with(CLASSIC, bytes, &at(place.path()), init).unwrap();
    let leases = segment.leases().unwrap();
    let cell = Classic::open(segment.region(), 0).unwrap();
    let mut reader = cell.reader();
    let mut died = 0;
    for kill in 0..KILLS {
        let mut victim = Peer::start(TEST, "writer", place.path());
        assert_eq!(victim.next(), "writing");
        thread::sleep(Duration::from_micros(1500 + 137 * kill));
        victim.kill();
        match reader.read(&leases) {
            Ok((value, _)) => assert!(values::number(&value) > 0),
            Err(classic::ReadError::WriterDied) => died += 1,
            Err(error) => panic!("{error}"),
        }
        let mut next = cell.writer(&leases).unwrap();
        let version = next.write(&values::value(1000 + kill));
        let (value, found) = reader.read(&leases).unwrap();
        assert_eq!((values::number(&value), found), (1000 + kill, version));
    }
    println!("killed in the middle of the slot: {died} of {KILLS}");
    assert!(died > 0, "no writer was killed in the middle");
}
