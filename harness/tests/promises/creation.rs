//! Creators that are killed, and creators that race.

use std::path::Path;
use std::thread;
use std::time::Instant;

use tidewire_shm::{Segment, SegmentError};

use crate::peers::{LONG, Peer, Place, alone, at, role, say, wait_to_be_killed};
use crate::queues::{Book, CAPACITY, Kind, LANES, message, whole};

const RACERS: u64 = 4;
const ROUNDS: u64 = 60;
/// Lanes, so that nobody who looks for one while others come and go misses all that are free.
const ENOUGH: u32 = 8;

/// Begins a creation, and never ends it.
fn create_half(place: &Path, named_temporary: bool) -> ! {
    let options = at(place).named_temporary(named_temporary);
    let init = |region| {
        // Half of what is to be done: a queue, which nobody has seen yet.
        Kind::Lanes.lay_out(region, LANES)?;
        say("initialising");
        wait_to_be_killed()
    };
    let created = Segment::create_with(Kind::Lanes.name(), Kind::Lanes.bytes(LANES), &options, init);
    panic!("the initialiser returned: {created:?}");
}

#[test]
fn creator_killed_while_it_initialises_leaves_no_segment() {
    const TEST: &str = "creation::creator_killed_while_it_initialises_leaves_no_segment";
    if let Some((role, place)) = role() {
        create_half(Path::new(&place), role == "named");
    }
    let _alone = alone();
    for (role, may_leave) in [("unnamed", 0), ("named", 1)] {
        let place = Place::new();
        let kind = Kind::Lanes;
        for _ in 0..3 {
            let mut creator = Peer::start(TEST, role, place.path());
            assert_eq!(creator.next(), "initialising");
            let absent = || Segment::open_with(kind.name(), &at(place.path())).unwrap_err();
            assert!(matches!(absent(), SegmentError::NotFound { .. }));
            creator.kill();
            assert!(matches!(absent(), SegmentError::NotFound { .. }));
            assert!(Segment::list_with(&at(place.path())).unwrap().is_empty());
            assert!(place.entries().len() <= may_leave, "{role}: {:?}", place.entries());
            // The next one makes it, and removes what is left.
            let init = |region| Ok(kind.lay_out(region, LANES)?);
            let options = at(place.path()).named_temporary(role == "named");
            let segment = Segment::create_with(kind.name(), kind.bytes(LANES), &options, init).unwrap();
            assert_eq!(place.entries(), [kind.name()]);
            let (mut producer, mut consumer) =
                (kind.producer(&segment).unwrap(), kind.consumer(&segment).unwrap());
            producer.push(message(0, 1)).unwrap();
            assert_eq!(whole(&consumer.pop().unwrap()), (0, 1));
            segment.withdraw().unwrap();
        }
    }
}

/// Meets the others in each round, and creates what they create; or opens it.
fn race(place: &Path) {
    let book = Book::open(place);
    let mut won = 0;
    let started = Instant::now();
    for round in 0..ROUNDS {
        book.add(0);
        while book.read(0) < (round + 1) * RACERS {
            assert!(started.elapsed() < LONG, "another racer is gone");
            thread::yield_now();
        }
        let kind = Kind::ALL[usize::try_from(round % 3).unwrap()];
        let name = format!("round-{round}");
        let init = |region| Ok(kind.lay_out(region, ENOUGH)?);
        // Every other round the loser wants to know that it has lost.
        let segment = if round % 2 == 0 {
            Segment::open_or_create_with(&name, kind.bytes(ENOUGH), &at(place), init).unwrap()
        } else {
            match Segment::create_with(&name, kind.bytes(ENOUGH), &at(place), init) {
                Err(SegmentError::AlreadyExists { .. }) => Segment::open_with(&name, &at(place)).unwrap(),
                created => created.unwrap(),
            }
        };
        won += u64::from(segment.is_created());
        // Whole, whoever made it: a role can be taken, or somebody has it. In a queue of lanes there is one for each.
        match kind.producer(&segment) {
            Ok(mut producer) => {
                let number = book.add(1 + usize::try_from(round).unwrap());
                producer.push(message(number, round)).unwrap();
            }
            Err(refused) => {
                let taken = refused.contains("held") || refused.contains("taken");
                assert!(kind == Kind::Ring && taken, "{kind:?}: {refused}");
            }
        }
    }
    say(won.to_string());
}

#[test]
fn creators_race_and_exactly_one_creates() {
    const TEST: &str = "creation::creators_race_and_exactly_one_creates";
    if let Some((_, place)) = role() {
        return race(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let book = Book::create(place.path());
    let mut racers: Vec<_> = (0..RACERS).map(|_| Peer::start(TEST, "racer", place.path())).collect();
    let won: Vec<u64> = racers.iter_mut().map(|racer| racer.next().parse().unwrap()).collect();
    racers.iter_mut().for_each(Peer::end);
    assert_eq!(won.iter().sum::<u64>(), ROUNDS, "not one creator in each round: {won:?}");
    println!("rounds won: {won:?}");
    // The segments and nothing else; in each lies what was pushed, by all who could.
    assert_eq!(place.entries().len() as u64, ROUNDS + 1);
    for round in 0..ROUNDS {
        let index = usize::try_from(round).unwrap();
        let kind = Kind::ALL[index % 3];
        let segment = Segment::open_with(&format!("round-{round}"), &at(place.path())).unwrap();
        let mut consumer = kind.consumer(&segment).unwrap();
        let mut found = vec![];
        while let Ok(popped) = consumer.pop() {
            assert_eq!(whole(&popped).1, round);
            found.push(whole(&popped).0);
        }
        found.sort_unstable();
        assert_eq!(found, (0..book.read(1 + index)).collect::<Vec<_>>(), "{kind:?}");
        assert!(kind == Kind::Ring || found.len() as u64 == RACERS, "{kind:?}: {found:?}");
        assert!((1..=CAPACITY).contains(&found.len()));
    }
}
