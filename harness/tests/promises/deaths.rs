//! Peers that are killed.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tidewire_shm::bell::{PeerState, Place as Word};
use tidewire_shm::sync::AtomicU32;
use tidewire_shm::{DeathWatch, Liveness, RoleId, Segment, Tenancy, WaitedWith};

use crate::peers::{
    LONG, Peer, Place, alone, announce, at, open, role, say, vacant_after, wait_for_state, wait_to_be_killed,
};
use crate::queues::{Book, CAPACITY, Kind, LANES, No, Pop, Push, message, whole};
use crate::values;

const KILLS: usize = 20;
/// Who pushes.
const BYSTANDER: u64 = 1;
const VICTIM: u64 = 2;

/// Pushes into every queue until it is killed, and notes each push that returned.
fn push_for_ever(place: &Path) -> ! {
    let book = Book::open(place);
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let mut producers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.producer(segment).unwrap()).collect();
    let mut next = [0, 1, 2].map(|index| book.read(index));
    announce();
    say("pushing");
    let started = Instant::now();
    while started.elapsed() < 4 * LONG {
        for (index, producer) in producers.iter_mut().enumerate() {
            match producer.push(message(VICTIM, next[index])) {
                Ok(()) => {
                    next[index] += 1;
                    book.note(index, next[index]);
                }
                Err(No::Yet) => {}
                Err(corrupt) => panic!("{corrupt:?}"),
            }
        }
    }
    panic!("nobody killed this process");
}

/// The consumer's side: what it expects of the victim and of the bystander in one queue.
struct Side {
    kind: Kind,
    segment: Segment,
    consumer: Box<dyn Pop>,
    bystander: Option<Box<dyn Push>>,
    pushed: u64,
    next_of_bystander: u64,
    next: u64,
}

impl Side {
    fn new(kind: Kind, place: &Path) -> Self {
        let segment = kind.create(place, LANES);
        let consumer = kind.consumer(&segment).unwrap();
        // Takes one of the two lanes.
        let bystander = (kind != Kind::Ring).then(|| kind.producer(&segment).unwrap());
        Self { kind, segment, consumer, bystander, pushed: 0, next_of_bystander: 0, next: 0 }
    }

    /// The role that the victim has.
    fn victim(&self) -> RoleId {
        RoleId::producer(u32::from(self.bystander.is_some())).unwrap()
    }

    /// Pops what there is, but not more than `most`; everything is whole and in order.
    fn drain(&mut self, most: u64) {
        if let Some(bystander) = &mut self.bystander {
            self.pushed += u64::from(bystander.push(message(BYSTANDER, self.pushed)).is_ok());
        }
        for _ in 0..most {
            let popped = match self.consumer.pop() {
                Ok(popped) => popped,
                Err(No::Yet) => return,
                Err(corrupt) => panic!("{:?}: {corrupt:?}", self.kind),
            };
            let (producer, number) = whole(&popped);
            let next = if producer == VICTIM { &mut self.next } else { &mut self.next_of_bystander };
            assert_eq!(number, *next, "{:?}, producer {producer}", self.kind);
            *next += 1;
        }
    }
}

/// Waits for a death, as somebody does who waits for a word at the same time; returns when it was heard of.
fn wait_for_death(watch: &DeathWatch) -> Instant {
    let quiet = AtomicU32::new(5);
    let waited = watch.wait_with(Word::Word(&quiet), 5, LONG);
    let now = Instant::now();
    assert_eq!(waited, WaitedWith::PeerGone(PeerState::Dead));
    now
}

/// How long a victim works at least: another moment of its work for each kill.
fn jitter(kill: usize) -> Duration {
    Duration::from_micros(1500 + 317 * kill as u64 % 2000)
}

/// From a kill to the return of a waiter that sleeps, in the middle; over a series of kills.
fn kill_producers(
    test: &str,
    place: &Place,
    sides: &mut [Side],
    book: &Book,
    in_flight: &mut u64,
) -> Duration {
    let mut latencies = Vec::new();
    for kill in 0..KILLS {
        let mut victim = Peer::start(test, "producer", place.path());
        let watch = victim.watch();
        assert_eq!(victim.next(), "pushing");
        let waiting = thread::spawn(move || wait_for_death(&watch));
        // There is room until the last moment, so that the victim is in the middle of something.
        let before: Vec<_> = sides.iter().map(|side| side.next).collect();
        let works = |sides: &[Side]| sides.iter().zip(&before).all(|(side, before)| side.next > *before);
        let started = Instant::now();
        while started.elapsed() < jitter(kill) || !works(sides) {
            assert!(started.elapsed() < LONG, "the victim pushes nothing");
            // Not one until it is empty, or the others would be full meanwhile.
            sides.iter_mut().for_each(|side| side.drain(16));
        }
        assert!(!waiting.is_finished(), "it sleeps until the victim is dead");
        let killed = Instant::now();
        victim.signal(rustix::process::Signal::KILL);
        latencies.push(waiting.join().unwrap().saturating_duration_since(killed));

        for (index, side) in sides.iter_mut().enumerate() {
            let leases = side.segment.leases().unwrap();
            vacant_after(&leases, side.victim());
            side.drain(u64::MAX);
            let returned = book.read(index);
            let kept = side.next;
            assert!((returned..=returned + 1).contains(&kept), "{:?}: {kept} of {returned}", side.kind);
            // What arrived, but was not noted: the next victim goes on behind it.
            *in_flight += kept - returned;
            book.note(index, kept);
            // An ordered queue's lanes are made free by its consumer; all else is taken from the dead by the next.
            if side.kind == Kind::Ordered {
                assert_eq!(side.consumer.reclaim(&leases), Some(1));
            }
        }
    }
    latencies.sort_unstable();
    println!(
        "from kill to waiter: {:?}, {:?}, {:?}",
        latencies[0],
        latencies[KILLS / 2],
        latencies[KILLS - 1]
    );
    latencies[KILLS / 2]
}

#[test]
fn peer_killed_every_push_that_returned_arrives_and_a_waiter_is_told() {
    const TEST: &str = "deaths::peer_killed_every_push_that_returned_arrives_and_a_waiter_is_told";
    if let Some((_, place)) = role() {
        push_for_ever(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let book = Book::create(place.path());
    let mut sides = Kind::ALL.map(|kind| Side::new(kind, place.path()));
    let mut in_flight = 0;
    // A busy machine can make one series late. A waiter that nobody tells is late in each of them.
    let best = (0..5)
        .map(|_| kill_producers(TEST, &place, &mut sides, &book, &mut in_flight))
        .find(|&median| median < Duration::from_millis(1));
    assert!(best.is_some(), "not told within a millisecond, in any of five series");
    for side in &sides {
        println!("{:?}: {} messages, {} of the bystander", side.kind, side.next, side.next_of_bystander);
        assert!(side.next > KILLS as u64, "{:?}: {} messages", side.kind, side.next);
        assert!(side.bystander.is_none() || side.next_of_bystander > 0);
        // The others go on: all that the bystander pushed has arrived.
        assert_eq!(side.pushed, side.next_of_bystander);
    }
    println!("killed behind a publication and before the note of it: {in_flight}");
}

/// Writes values until it is killed, and notes each write that returned.
fn write_for_ever(place: &Path) -> ! {
    let book = Book::open(place);
    let segment = open(place, values::NAME);
    let mut writer = values::open(&segment).writer(&segment.leases().unwrap()).unwrap();
    let first = writer.version() + 1;
    let started = Instant::now();
    while started.elapsed() < 4 * LONG {
        let next = writer.version() + 1;
        assert_eq!(writer.write(&values::value(next)), next);
        book.note(0, next);
        if next == first {
            say("writing");
        }
    }
    panic!("nobody killed this process");
}

#[test]
fn writer_killed_mid_write_leaves_the_last_complete_value() {
    const TEST: &str = "deaths::writer_killed_mid_write_leaves_the_last_complete_value";
    if let Some((_, place)) = role() {
        write_for_ever(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let book = Book::create(place.path());
    let segment = values::create(place.path());
    let leases = segment.leases().unwrap();
    let writer = RoleId::producer(0).unwrap();
    let mut reader = values::open(&segment).reader();
    let mut in_the_middle = 0;
    for kill in 0..KILLS {
        let before = reader.read().unwrap().1;
        let mut victim = Peer::start(TEST, "writer", place.path());
        assert_eq!(victim.next(), "writing");
        thread::sleep(jitter(kill));
        assert_eq!(leases.tenancy(writer), Tenancy::Held);
        victim.kill();
        // At once: there is nothing to repair.
        let (value, version) = reader.read().unwrap();
        values::whole(&value, version);
        let returned = book.read(0);
        assert!((returned..=returned + 1).contains(&version), "version {version} after {returned}");
        assert!(version > before);
        assert_eq!(leases.tenancy(writer), Tenancy::Vacant, "its lease says that it is dead");
        // What it was about to write: if some of its words lie there, and not all, it was killed in the middle.
        let memory = fs::read(place.path().join(values::NAME)).unwrap();
        let unfinished = values::word(version + 1).to_ne_bytes();
        let words = memory.chunks_exact(8).filter(|word| *word == unfinished).count();
        in_the_middle += usize::from((1..values::WORDS).contains(&words));
    }
    println!("killed in the middle of a value: {in_the_middle} of {KILLS}");
    assert!(in_the_middle > 0, "no writer was killed in the middle");
    // The next one goes on.
    let mut writer = values::open(&segment).writer(&leases).unwrap();
    let next = writer.version() + 1;
    assert_eq!(writer.write(&values::value(next)), next);
    values::whole(&reader.read().unwrap().0, next);
}

/// Pops from every queue until it is killed, and notes what it had.
fn pop_for_ever(place: &Path) -> ! {
    let book = Book::open(place);
    let segments = Kind::ALL.map(|kind| open(place, kind.name()));
    let mut consumers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.consumer(segment).unwrap()).collect();
    say("popping");
    let started = Instant::now();
    while started.elapsed() < 4 * LONG {
        for (index, consumer) in consumers.iter_mut().enumerate() {
            match consumer.pop() {
                Ok(popped) => book.note(Kind::ALL.len() + index, whole(&popped).1 + 1),
                Err(No::Yet) => {}
                Err(corrupt) => panic!("{corrupt:?}"),
            }
        }
    }
    panic!("nobody killed this process");
}

#[test]
fn all_peers_dead_then_restart_goes_on_or_begins_anew() {
    const TEST: &str = "deaths::all_peers_dead_then_restart_goes_on_or_begins_anew";
    if let Some((role, place)) = role() {
        match role.as_str() {
            "producer" => push_for_ever(Path::new(&place)),
            "consumer" => pop_for_ever(Path::new(&place)),
            _ => create_and_wait(Path::new(&place)),
        }
    }
    let _alone = alone();
    let place = Place::new();
    // Their creator is dead, too.
    let mut creator = Peer::start(TEST, "creator", place.path());
    assert_eq!(creator.next(), "created");
    creator.kill();
    let book = Book::open(place.path());
    let mut producer = Peer::start(TEST, "producer", place.path());
    let mut consumer = Peer::start(TEST, "consumer", place.path());
    let kinds = Kind::ALL.len();
    wait_until("more is popped than a queue holds", || {
        (kinds..2 * kinds).all(|index| book.read(index) > CAPACITY as u64)
    });
    consumer.kill();
    wait_until("there is something left", || {
        (0..kinds).all(|index| book.read(index) > book.read(kinds + index) + 1)
    });
    producer.kill();
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        let segment = open(place.path(), kind.name());
        let leases = segment.leases().unwrap();
        for role in [RoleId::CONSUMER, RoleId::producer(0).unwrap()] {
            assert_eq!(leases.tenancy(role), Tenancy::Vacant, "{kind:?}: nobody holds the {role}");
        }
        // To go on: everything is there that no call had taken.
        let (pushed, popped) = (book.read(index), book.read(Kind::ALL.len() + index));
        let mut consumer = kind.consumer(&segment).unwrap();
        let mut next = whole(&consumer.pop().unwrap()).1;
        assert!(next <= popped + 1, "{kind:?}: {popped} were popped, {next} is the next");
        let seen_again = popped.saturating_sub(next);
        while let Ok(found) = consumer.pop() {
            next += 1;
            assert_eq!(whole(&found), (VICTIM, next), "{kind:?}");
        }
        assert!((pushed..=pushed + 1).contains(&(next + 1)), "{kind:?}: {pushed} pushed, {next} the last");
        println!("{kind:?}: {pushed} pushed, {popped} popped, {seen_again} seen again");
        consumer.reclaim(&leases);
        let mut producer = kind.producer(&segment).unwrap();
        producer.push(message(BYSTANDER, 0)).unwrap();
        assert_eq!(whole(&consumer.pop().unwrap()), (BYSTANDER, 0));
        drop((producer, consumer, segment));
        // To begin anew.
        Segment::unlink_with(kind.name(), &at(place.path())).unwrap();
        let segment = kind.create(place.path(), 1);
        let mut consumer = kind.consumer(&segment).unwrap();
        assert_eq!(consumer.pop().unwrap_err(), No::Yet);
        kind.producer(&segment).unwrap().push(message(VICTIM, 0)).unwrap();
        assert_eq!(whole(&consumer.pop().unwrap()), (VICTIM, 0));
    }
}

/// Waits for what others do.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LONG, "in vain: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

fn create_and_wait(place: &Path) -> ! {
    Book::create(place);
    let _segments = Kind::ALL.map(|kind| kind.create(place, 1));
    say("created");
    wait_to_be_killed()
}

#[test]
fn consumer_killed_what_no_call_had_taken_is_kept() {
    const TEST: &str = "deaths::consumer_killed_what_no_call_had_taken_is_kept";
    if let Some((_, place)) = role() {
        pop_for_ever(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let book = Book::create(place.path());
    let segments = Kind::ALL.map(|kind| kind.create(place.path(), 1));
    let mut producers: Vec<_> =
        Kind::ALL.iter().zip(&segments).map(|(kind, segment)| kind.producer(segment).unwrap()).collect();
    let mut pushed = [0_u64; 3];
    for kill in 0..5 {
        let mut victim = Peer::start(TEST, "consumer", place.path());
        assert_eq!(victim.next(), "popping");
        let noted = || [3, 4, 5].map(|index| book.read(index));
        let (before, started) = (noted(), Instant::now());
        while started.elapsed() < jitter(kill) || noted().iter().zip(before).any(|(now, then)| *now == then) {
            assert!(started.elapsed() < LONG, "the victim pops nothing");
            for (producer, pushed) in producers.iter_mut().zip(&mut pushed) {
                *pushed += u64::from(producer.push(message(VICTIM, *pushed)).is_ok());
            }
        }
        victim.signal(rustix::process::Signal::KILL);
        wait_for_state(victim.pid(), 'Z');
        // The producers go on until there is no room.
        for (producer, pushed) in producers.iter_mut().zip(&mut pushed) {
            while producer.push(message(VICTIM, *pushed)).is_ok() {
                *pushed += 1;
            }
        }
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            let popped = book.read(Kind::ALL.len() + index);
            let mut successor = kind.consumer(&segments[index]).unwrap();
            let mut next = whole(&successor.pop().unwrap()).1;
            // A pop that did not return may have taken one.
            assert!(next <= popped + 1, "{kind:?}: {popped} were popped, {next} is the next");
            while let Ok(found) = successor.pop() {
                next += 1;
                assert_eq!(whole(&found).1, next, "{kind:?}");
            }
            assert_eq!(next + 1, pushed[index], "{kind:?}");
            book.note(Kind::ALL.len() + index, next + 1);
        }
    }
}
