//! Processes that are killed at random moments of everything that they do with a segment leave no file behind.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tidewire_shm::{CleanMode, Liveness as _, RoleId, Segment, Tenancy, Verdict};

use crate::peers::{LONG, Peer, Place, alone, at, open, role, say};
use crate::queues::{Kind, LANES, message, whole};

const KILLS: u64 = 1_000;
/// A kill comes within so many microseconds: several rounds of a victim.
const SPREAD: u64 = 2_000;
/// Messages of a round.
const SENT: u64 = 8;

/// Creates, attaches, sends, receives, detaches and withdraws until it is killed.
fn come_and_go(place: &Path) -> ! {
    say("begun");
    let started = Instant::now();
    while started.elapsed() < 4 * LONG {
        for kind in Kind::ALL {
            let init = |region| Ok(kind.lay_out(region, LANES)?);
            let made =
                Segment::open_or_create_with(kind.name(), kind.bytes(LANES), &at(place), init).unwrap();
            let other = open(place, kind.name());
            let mut producer = kind.producer(&made).unwrap();
            let mut consumer = kind.consumer(&other).unwrap();
            for number in 0..SENT {
                producer.push(message(0, number)).unwrap();
            }
            for number in 0..SENT {
                assert_eq!(whole(&consumer.pop().unwrap()), (0, number));
            }
            drop((producer, consumer, other));
            made.withdraw().unwrap();
        }
    }
    panic!("nobody killed this process");
}

#[test]
fn a_thousand_kills_at_random_moments_leave_no_file() {
    const TEST: &str = "leftovers::a_thousand_kills_at_random_moments_leave_no_file";
    if let Some((_, place)) = role() {
        come_and_go(Path::new(&place));
    }
    let _alone = alone();
    let place = Place::new();
    let names = Kind::ALL.map(Kind::name);
    let (mut met, mut begun_anew) = (0, 0);
    for kill in 0..KILLS {
        let mut victim = Peer::start(TEST, "victim", place.path());
        assert_eq!(victim.next(), "begun");
        thread::sleep(Duration::from_micros(kill * 7919 % SPREAD));
        victim.kill();
        // Nothing but a segment that stood at that moment, whole, with roles that nobody holds.
        let entries = place.entries();
        assert!(
            entries.len() <= 1 && entries.iter().all(|name| names.contains(&name.as_str())),
            "{entries:?}"
        );
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| entries.iter().any(|name| name == kind.name()))
        {
            met += 1;
            let segment = open(place.path(), kind.name());
            let leases = segment.leases().unwrap();
            for role in [RoleId::CONSUMER, RoleId::producer(0).unwrap(), RoleId::producer(1).unwrap()] {
                assert_eq!(leases.tenancy(role), Tenancy::Vacant, "kill {kill}, {kind:?}: {role}");
            }
            // Its roles can be taken over, and what is in it goes on.
            let mut consumer = kind.consumer(&segment).unwrap();
            while let Ok(found) = consumer.pop() {
                assert!(whole(&found).1 < SENT);
            }
            consumer.reclaim(&leases);
            let mut producer = kind.producer(&segment).unwrap();
            producer.push(message(1, kill)).unwrap();
            assert_eq!(whole(&consumer.pop().unwrap()), (1, kill));
        }
        for found in Segment::clean_with(CleanMode::Remove, &at(place.path())).unwrap() {
            assert!(matches!(found.verdict, Verdict::Removed), "kill {kill}: {found:?}");
            begun_anew += 1;
        }
        assert!(place.entries().is_empty(), "kill {kill}: {:?}", place.entries());
    }
    println!("{KILLS} kills: {met} met a segment, {begun_anew} were cleaned away");
    // Else most kills hit nothing, and little was shown.
    assert!(met > KILLS / 10 && met < KILLS, "{met} of {KILLS} kills met a segment");
    assert_eq!(met, begun_anew);
}
